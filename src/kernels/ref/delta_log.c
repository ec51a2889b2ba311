/* delta on slots: an anchor and a log (state.md).
 *
 * Entry i of a slot's log stands for position base + i and holds k [Hk][Dk], u [Hv][Dv] and
 * G [Hv] or [Hv][Dk]. A block is 16 entries; A is the anchor at its first edge, G the log-decay
 * summed from that edge up to and including the entry, one rounded addition after another. One
 * token at entry m of a block, all channels d alike when there is one gate a head:
 *
 *     G   = G_{m-1} + g
 *     S'  = A e^G + sum_{i<m} u_i (k_i e^(G-G_i))^T      i ascending, pairwise exponents
 *     u   = beta (v - S' k);   S = S' + u k^T;   o = S q
 *     append (k, u, G): each is rounded to its stored type before anything reads it
 *     fold, after 16 entries: A = S of the last one, rounded to the anchor's type
 *
 * S' is made anew from anchor and log for every token, so a row's bits are a function of the tokens
 * before it: not of the cuts.
 *
 *     entry   0 ............ 15 16 ............ 31
 *     plain   [ block of base  ]                      full: fold, base += 16, back to entry 0
 *     draft   [ block of base  ][ the next block ]    its A exists only here; G starts again at 16
 *
 * A draft folds nothing of its own. Entries from 16 on are written against the anchor as it will
 * be after the fold and with G summed from base + 16, so moving them down by 16 is all that the
 * later fold has to do. Live entries at the start are m = pos - base. When m > 16 (a verify was
 * committed) the pass, plain or draft, first folds the 16 oldest and moves the rest down: all of
 * them are committed. So for a pass with n > 0 rows: base += 16 once if m > 16; then, if plain, as
 * often as pos + n - base > 16. base is written last. */
#include "base/check.h"
#include "kernels/ref/ref.h"

/* One slot, and the block its next token belongs to: entries [first, first + 16) of the log. */
struct block {
    const struct delta_slots *s;
    int32_t slot, first;
    double *A;           /* [Hv][Dv][Dk] */
    double *S, *G, *row; /* [Dv][Dk], [Dk], [Dk] */
};

static int64_t entry(const struct block *b, int32_t i)
{
    return (int64_t)b->slot * b->s->entries + i;
}

static int64_t k_at(const struct block *b, int32_t i, int32_t kh)
{
    return (entry(b, i) * b->s->Hk + kh) * b->s->Dk;
}

static int64_t u_at(const struct block *b, int32_t i, int32_t h)
{
    return (entry(b, i) * b->s->Hv + h) * b->s->Dv;
}

static int64_t G_at(const struct block *b, int32_t i, int32_t h, int32_t d)
{
    const int64_t head = entry(b, i) * b->s->Hv + h;
    return b->s->channel_gate ? head * b->s->Dk + d : head;
}

static double log_k(const struct block *b, int64_t at)
{
    return ref_load(b->s->k_type, b->s->k, at);
}

static double log_u(const struct block *b, int64_t at)
{
    return ref_load(b->s->wide_type, b->s->u, at);
}

static double log_G(const struct block *b, int64_t at)
{
    return ref_load(b->s->wide_type, b->s->G, at);
}

/* S = A e^G + sum of the entries first..end-1, decayed to where G (b->G) stands. */
static void state_at(const struct block *b, int32_t h, int32_t end)
{
    const int64_t Dk = b->s->Dk, Dv = b->s->Dv;
    const double *A = b->A + h * Dv * Dk;
    for (int64_t d = 0; d < Dk; d++) b->row[d] = exp(b->G[d]);
    for (int64_t i = 0; i < Dv * Dk; i++) b->S[i] = A[i] * b->row[i % Dk];
    for (int32_t i = b->first; i < end; i++) {
        const int64_t k = k_at(b, i, h / (b->s->Hv / b->s->Hk)), u = u_at(b, i, h);
        for (int32_t d = 0; d < Dk; d++)
            b->row[d] = log_k(b, k + d) * exp(b->G[d] - log_G(b, G_at(b, i, h, d)));
        for (int64_t j = 0; j < Dv; j++)
            for (int64_t d = 0; d < Dk; d++) b->S[j * Dk + d] += log_u(b, u + j) * b->row[d];
    }
}

/* A of the next block from the 16 entries of this one. */
static void fold(const struct block *b)
{
    const int64_t state = (int64_t)b->s->Dv * b->s->Dk;
    const int32_t end = b->first + BLOCK;
    for (int32_t h = 0; h < b->s->Hv; h++) {
        for (int32_t d = 0; d < b->s->Dk; d++) b->G[d] = log_G(b, G_at(b, end - 1, h, d));
        state_at(b, h, end);
        for (int64_t i = 0; i < state; i++)
            b->A[h * state + i] = ref_round(b->s->anchor_type, b->S[i]);
    }
}

/* Entries 16..m-1 become 0..m-17. */
static void shift(const struct block *b, int32_t m)
{
    const struct delta_slots *s = b->s;
    const size_t gates = (size_t)s->Hv * (size_t)(s->channel_gate ? s->Dk : 1);
    const size_t bytes[3] = {(size_t)s->Hk * (size_t)s->Dk * dtype_size(s->k_type),
                             (size_t)s->Hv * (size_t)s->Dv * dtype_size(s->wide_type),
                             gates * dtype_size(s->wide_type)};
    void *const log[3] = {s->k, s->u, s->G};
    for (int i = 0; i < 3; i++) {
        char *at = (char *)log[i] + (size_t)entry(b, 0) * bytes[i];
        memmove(at, at + BLOCK * bytes[i], (size_t)(m - BLOCK) * bytes[i]);
    }
}

/* Value head h of row t, which becomes entry m; its k is there already. */
static void head_forward(const struct delta_args *a, const struct block *b, int64_t t, int32_t h,
                         int32_t m)
{
    const struct delta_slots *s = b->s;
    const int32_t Dk = s->Dk, kh = h / (s->Hv / s->Hk);
    const int64_t k = k_at(b, m, kh), u = u_at(b, m, h);
    const double beta = ref_get(a->beta, ref_at(a->beta, t, h, 0));
    for (int32_t d = 0; d < (s->channel_gate ? Dk : 1); d++) {
        double before = m > b->first ? log_G(b, G_at(b, m - 1, h, d)) : 0.0;
        double g = ref_get(a->g, ref_at(a->g, t, h, d));
        if (g < -1000.0) g = -1000.0; /* e^g is 0, and no infinity may enter the sum */
        ref_store(s->wide_type, s->G, G_at(b, m, h, d), before + g);
    }
    for (int32_t d = 0; d < Dk; d++) b->G[d] = log_G(b, G_at(b, m, h, d));
    state_at(b, h, m);
    for (int32_t j = 0; j < s->Dv; j++) {
        double *S = b->S + (int64_t)j * Dk, r = 0.0, o = 0.0;
        for (int32_t d = 0; d < Dk; d++) r += S[d] * log_k(b, k + d);
        ref_store(s->wide_type, s->u, u + j, beta * (ref_get(a->v, ref_at(a->v, t, h, j)) - r));
        for (int32_t d = 0; d < Dk; d++) S[d] += log_u(b, u + j) * log_k(b, k + d);
        for (int32_t d = 0; d < Dk; d++) o += S[d] * ref_get(a->q, ref_at(a->q, t, kh, d));
        ref_put(a->o, ref_at(a->o, t, h, j), o);
    }
}

static void token_forward(const struct delta_args *a, const struct block *b, int64_t t, int32_t m)
{
    const struct delta_slots *s = b->s;
    for (int32_t kh = 0; kh < s->Hk; kh++)
        for (int32_t d = 0; d < s->Dk; d++)
            ref_store(s->k_type, s->k, k_at(b, m, kh) + d, ref_get(a->k, ref_at(a->k, t, kh, d)));
    for (int32_t h = 0; h < s->Hv; h++) head_forward(a, b, t, h, m);
}

/* The n rows from t on, of one sequence at `pos`; with none, only an overdue fold happens. */
static void sequence_forward(const struct delta_args *a, struct block *b, int64_t t, int32_t n,
                             int32_t pos)
{
    const struct delta_slots *s = b->s;
    const bool draft = a->rows->draft;
    int32_t base = s->base[b->slot], m = pos - base;
    GDN_CHECK(m >= 0 && m <= s->entries, "delta: position %d, anchor at %d", pos, base);
    b->first = 0;
    ref_anchor_unpack(s, b->slot, b->A);
    if (m > BLOCK) {
        fold(b);
        ref_anchor_pack(s, b->slot, b->A);
        shift(b, m);
        base += BLOCK;
        m -= BLOCK;
    }
    GDN_CHECK(!draft || m + n <= s->entries, "delta: %d drafts after %d entries", n, m);
    for (int32_t i = 0; i < n; i++, m++) {
        if (m == b->first + BLOCK) {
            fold(b);
            if (draft) {
                b->first = BLOCK;
            } else {
                ref_anchor_pack(s, b->slot, b->A);
                base += BLOCK;
                m = 0;
            }
        }
        token_forward(a, b, t + i, m);
    }
    s->base[b->slot] = base;
}

void delta_log_forward_ref(struct arena *scratch, const struct delta_args *a)
{
    const struct delta_slots *s = a->slots;
    GDN_CHECK(a->rows->slot && !a->S0 && !a->S1, "delta: slots stand for the dense states");
    GDN_CHECK(s->Hk == a->k->dim[1] && s->Hv == a->v->dim[1] && s->Dk == a->k->dim[2] &&
                  s->Dv == a->v->dim[2] && s->channel_gate == (a->g->rank == 3),
              "delta: slots of another shape");
    const int64_t state = (int64_t)s->Dv * s->Dk;
    struct block b = {.s = s, .A = ref_take(scratch, s->Hv * state), .S = ref_take(scratch, state),
                      .G = ref_take(scratch, s->Dk), .row = ref_take(scratch, s->Dk)};
    if (!b.A || !b.S || !b.G || !b.row) return;
    for (int32_t i = 0; i < a->rows->B; i++) {
        if (ref_absent(a->rows, i)) continue;
        b.slot = a->rows->slot[i];
        sequence_forward(a, &b, a->rows->start[i], ref_length(a->rows, i), a->rows->pos[i]);
    }
}
