/* delta_block_tmpl.h: the gated delta rule, after delta_tmpl.h: the tokens of a block come in, from the log
 * and from the call, and its coefficients are made. */

/* One token reads k and G of the log where they lie, if nothing has to be folded, moved or padded. */
static bool past_stays(const struct delta_head *h, const struct delta_block *b)
{
    const struct delta_slots *d = h->a->slots;
    return d && b->rows == 1 && !b->fold && b->keep == b->from && h->Dk == h->row &&
           d->k_type != DTYPE_F16;
}

/* k and G of entries that stand in the log. Their q and beta are not needed again. */
static void load_entries(struct delta_head *h, const struct delta_block *b)
{
    const struct delta_slots *d = h->a->slots;
    const int64_t slot = d ? h->a->rows->slot[h->b] : 0, size = d ? (int64_t)dtype_size(d->k_type) : 0;
    const bool stays = past_stays(h, b);
    h->past = (struct delta_past){.count = 0};
    if (b->have == 0) return;
    const char *k = (char *)d->k + size * delta_log_at(d, slot, b->from, d->Hk, h->hk, h->Dk);
    const int width = h->channel ? h->Dk : 1;
    const float *G = d->G;
    G += delta_log_at(d, slot, b->from, d->Hv, h->hv, width);
    const int64_t k_step = (int64_t)d->Hk * h->Dk, G_step = (int64_t)d->Hv * width;
    if (stays) h->past = (struct delta_past){b->have, k, G, k_step, G_step};
    if (!stays)
        rows_load(h->raw, 2 * h->row, k, k_step * size, d->k_type, b->have, h->Dk, 16);
    if (!h->channel)
        for (int i = 0; i < b->have; i++) h->G[i] = G[i * G_step];
    else if (!stays)
        rows_load(h->G, h->row, G, G_step * (int64_t)sizeof *G, DTYPE_F32, b->have, h->Dk, 16);
}

/* New rows of a tensor [T][head][Dk], and where those of an entry go. */
static inline void load_new(const struct delta_head *h, const struct delta_block *b,
                            const struct tensor *t, int64_t head, float *to, int wide)
{
    rows_load(to, wide, tensor_at(t, b->row * t->stride[0] + head * t->stride[1]),
              t->stride[0] * (int64_t)dtype_size(t->dtype), t->dtype, b->rows, h->Dk, 16);
}

/* Element i of a tensor. */
static inline float element(const struct tensor *t, int64_t i)
{
    float x;
    if (t->dtype == DTYPE_F32) return *(const float *)tensor_at(t, i);
    cpu_load_row(&x, tensor_at(t, i), t->dtype, 1);
    return x;
}

static void load_tokens(struct delta_head *h, struct delta_coefs *c, const struct delta_block *b)
{
    const struct delta_args *a = h->a;
    const int gates = h->channel ? h->row : 1;
    float *raw = raw_of(h, b->have), *G = h->G + (int64_t)b->have * gates;
    load_new(h, b, a->k, h->hk, raw, 2 * h->row);
    load_new(h, b, a->q, h->hk, raw + h->row, 2 * h->row);
    if (h->channel) load_new(h, b, a->g, h->hv, G, h->row);
    for (int i = 0; i < b->rows; i++) {
        const int64_t row = b->row + i;
        c->beta[b->have + i] = element(a->beta, row * a->beta->stride[0] + h->hv);
        if (h->channel) continue;
        const float g = element(a->g, row * a->g->stride[0] + h->hv);
        const float decay = g < LEAST_DECAY ? LEAST_DECAY : g;
        G[i] = b->have + i > 0 ? G[i - 1] + decay : decay;
    }
}

/* G of the entries that stay; those that stay where they stood are there. */
static void keep_G(const struct delta_head *h, const struct delta_block *b)
{
    const struct delta_slots *d = h->a->slots;
    if (b->keep < 0) return;
    float *G = d->G;
    const int width = h->channel ? h->Dk : 1, gates = h->channel ? h->row : 1;
    for (int i = b->keep == b->from ? b->have : 0; i < b->have + b->rows; i++)
        memcpy(G + delta_log_at(d, h->a->rows->slot[h->b], b->keep + i, d->Hv, h->hv, width),
               h->G + (int64_t)i * gates, sizeof(float) * (size_t)width);
}

static void block_coefs(struct delta_head *h, int j)
{
    struct delta_coefs *c = &h->coefs[j];
    const struct delta_block *b = &h->block[j];
    if (!h->channel) h->raw = c->kq;
    load_entries(h, b);
    load_tokens(h, c, b);
    (h->channel ? channel_block : scalar_block)(h, c, b);
    keep_G(h, b);
}
