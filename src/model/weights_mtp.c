/* weights_mtp.c: the tensors of the draft head. */
#include "base/check.h"
#include "base/memory.h"
#include "model/mtp.h"
#include "model/weights_load.h"

static const char *find_prefix(const struct loader *l)
{
    static const char *const known[] = {"mtp.", "model.mtp.", "language_model.mtp."};
    char name[ST_NAME_BYTES];
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (find_name(l, known[i], "fc.weight", name)) return known[i];
    return NULL;
}

/* y[t] = 1 x[t-1] + 0 x[t]. */
static enum gdn_status make_shift(struct mtp *m, int64_t D, struct gdn_error *err)
{
    float *taps = mem_take_array(2 * (size_t)D, sizeof *taps);
    if (!taps) return error_set(err, GDN_ERR_MEMORY, "no memory for a draft head");
    GDN_CHECK(m->own.count < m->own.room, "no place for one more tensor");
    struct weight *w = &m->own.list[m->own.count++]; /* goes where the others go */
    w->copy = taps;
    m->shift = &w->tensor;
    for (int64_t i = 0; i < D; i++) {
        taps[2 * i] = 1;
        taps[2 * i + 1] = 0;
    }
    *m->shift = tensor_over(taps, m->norm.w->dtype, 2, (int64_t[]){D, 2}); /* as all small ones */
    return GDN_OK;
}

static enum gdn_status take_head(struct loader *l, struct mtp *m)
{
    const struct config *c = l->c;
    const char *p = find_prefix(l);
    char layer[64];
    if (!p || c->family->dialect != DIALECT_QWEN)
        return error_set(l->err, GDN_ERR_INPUT, "%s: found no MTP head (mtp.fc.weight)",
                         st_path_tail(l->path));
    TRY(take_linear(l, p, 2 * (int64_t)c->D, 1, (struct part[]){{"fc.weight", c->D}}, &m->join));
    TRY(take_norm(l, p, "pre_fc_norm_embedding.weight", c->D, &m->embed));
    TRY(take_norm(l, p, "pre_fc_norm_hidden.weight", c->D, &m->hidden));
    TRY(take_norm(l, p, "norm.weight", c->D, &m->norm));
    snprintf(layer, sizeof layer, "%slayers.0.", p);
    TRY(take_layer(l, layer, LAYER_ATTN, c->experts > 0, m->own.layer));
    TRY(faults_found(l));
    return make_shift(m, c->D, l->err);
}

enum gdn_status mtp_open(struct mtp *m, const struct config *c, const struct weights *w,
                         const char *path, struct gdn_error *err)
{
    *m = (struct mtp){.own = {.shards = w->shards, .shifted = w->shifted, .layers = 1}};
    struct loader l = {.w = &m->own, .c = c, .path = path, .err = err,
                       .used = mem_take(w->shards.count)};
    enum gdn_status status = take_room(&m->own, c, 1, err);
    if (status == GDN_OK && !l.used)
        status = error_set(err, GDN_ERR_MEMORY, "no memory for %zu tensors", w->shards.count);
    if (status == GDN_OK) status = take_head(&l, m);
    mem_give(l.used);
    if (status != GDN_OK) mtp_close(m);
    return status;
}

void mtp_close(struct mtp *m)
{
    m->own.shards = (struct shards){0}; /* the model's */
    weights_close(&m->own);
    *m = (struct mtp){0};
}
