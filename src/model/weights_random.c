#include "model/weights_random.h"

#include <math.h>
#include <string.h>

#include "formats/safetensors_write.h"
#include "model/weights_load.h"

enum { PIECE = 1 << 16 };

struct writing {
    const struct config *config;
    struct st_writer out;
    uint64_t seed, before; /* of struct draw */
    size_t next;
    uint16_t piece[PIECE];
};

static void declare(void *context, const char *name, int rank, const int64_t *dim)
{
    struct writing *w = context;
    st_write_declare(&w->out, name, ST_BF16, rank, dim);
}

static bool ends(const char *name, const char *with)
{
    const size_t n = strlen(name), m = strlen(with);
    return n >= m && strcmp(name + n - m, with) == 0;
}

/* What keeps a model of any depth finite: norms that scale by 1, decays of a trained model's size,
 * projections that keep a row's length about as it is. */
static void range_of(const struct config *c, const char *name, int rank, const int64_t *dim,
                     float *low, float *high)
{
    if (rank > 1 && !ends(name, "A_log")) {
        *high = sqrtf(1.0f / (float)dim[rank - 1]);
        *low = -*high;
    } else if (ends(name, "A_log")) {
        *low = 0, *high = 2.77f; /* log 1 .. log 16 */
    } else if (ends(name, "dt_bias")) {
        *low = -7, *high = -2; /* softplus of it: 0.001 .. 0.13 */
    } else {
        const bool centred = c->family->centred && !ends(name, "linear_attn.norm.weight");
        *low = *high = ends(name, "norm.weight") && !centred ? 1.0f : 0.0f;
    }
}

struct draw weights_draw_of(const struct config *c, const char *name, int rank, const int64_t *dim,
                            uint64_t seed, uint64_t before)
{
    struct draw d = {.seed = seed, .before = before};
    range_of(c, name, rank, dim, &d.low, &d.high);
    return d;
}

static int64_t values_of(int rank, const int64_t *dim)
{
    int64_t n = 1;
    for (int i = 0; i < rank; i++) n *= dim[i];
    return n;
}

static void write(void *context, const char *name, int rank, const int64_t *dim)
{
    struct writing *w = context;
    const int64_t n = values_of(rank, dim);
    const struct draw d = weights_draw_of(w->config, name, rank, dim, w->seed, w->before);
    for (int64_t at = 0; at < n; at += PIECE) {
        const int64_t some = n - at < PIECE ? n - at : PIECE;
        draw_values(w->piece, &d, at, some);
        st_write_data(&w->out, w->next, w->piece, (size_t)some * sizeof *w->piece);
    }
    w->before += draw_numbers(n);
    w->next++;
}

enum gdn_status weights_random(const struct config *c, const char *folder, uint64_t seed,
                               struct gdn_error *err)
{
    char path[4096];
    struct writing w = {.config = c, .seed = seed};
    if (!file_join(path, sizeof path, folder, "model.safetensors"))
        return error_set(err, GDN_ERR_USAGE, "%s: the name is too long", folder);
    TRY(st_write_create(&w.out, path, err));
    enum gdn_status status = weights_list(c, declare, &w, err);
    if (status == GDN_OK) status = st_write_header(&w.out, err);
    if (status == GDN_OK) status = weights_list(c, write, &w, err);
    if (status == GDN_OK) return st_write_commit(&w.out, err);
    st_write_abandon(&w.out);
    return status;
}
