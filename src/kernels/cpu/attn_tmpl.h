/* attn_tmpl.h: attention in f32, in the words of a vector vocabulary.
 *
 *     score[c][j] = scale q_c.k_j      16 lanes over the width and one tree (vec_*.h)
 *     acc[c] = acc[c] shrink + sum_j e^(score - top) v_j      one chain over j for each entry
 *
 * Keys and values of other types than f32 are widened once a page for all columns. 16 keys stay in
 * the nearest cache while all queries meet them, and so does a strip of the values. */
#include "kernels/cpu/attn_sums_tmpl.h"
#include "kernels/cpu/row_tmpl.h"

enum {
    ATTN_KEYS = VF_REGISTERS / 2 / VF16,  /* products of one query that are under way */
    ATTN_ROWS = 4,                        /* columns whose sums share a load of a value .. */
    ATTN_VECTORS = VF_REGISTERS / 8       /* .. of so many vectors */
};

/* What enter and fold keep between them, in the block's memory. */
struct attn_room {
    float *q;      /* [columns][round16(D)] */
    float *k, *v;  /* [64][round16(D)], [64][wide(Dv)] */
    float *score;  /* [columns][64]: scores, then their exponentials */
};

static inline int64_t round16(int64_t n) { return (n + 15) / 16 * 16; }

static size_t attn_bytes(const struct attn_args *a, int columns)
{
    const int64_t D = round16(a->q->dim[2]), Dv = attn_wide(a->v->dim[2]);
    return sizeof(float) * (size_t)(columns * (D + PAGE) + PAGE * (D + Dv));
}

static struct attn_room attn_room(const struct attn_block *b)
{
    const int64_t D = round16(b->args->q->dim[2]), Dv = attn_wide(b->args->v->dim[2]);
    struct attn_room r = {.k = (float *)b->work};
    r.v = r.k + PAGE * D;
    r.q = r.v + PAGE * Dv;
    r.score = r.q + attn_columns(b->columns) * D;
    return r;
}

static void attn_enter(const struct attn_block *b)
{
    const struct tensor *q = b->args->q;
    const struct attn_room room = attn_room(b);
    const int64_t D = q->dim[2];
    for (int c = 0; c < b->columns; c++)
        row_load(room.q + c * round16(D), attn_column(b, q, c), q->dtype, (int)D, 16);
}

/* Rows in f32, *step floats apart: where they lie, or brought to `to`. */
static const float *attn_widen(float *to, int64_t *step, const char *from, int64_t from_step,
                               enum dtype dtype, int64_t width, int pad, int keys)
{
    if (dtype == DTYPE_F32 && width % pad == 0) {
        *step = from_step / (int64_t)sizeof(float);
        return (const float *)from;
    }
    *step = (width + pad - 1) / pad * pad;
    for (int j = 0; j < keys; j++)
        row_load(to + j * *step, from + j * from_step, dtype, (int)width, pad);
    return to;
}

/* ---- scores ------------------------------------------------------------------------------------- */

/* sum[n] = lanes of q.k[n]. */
VF_INLINE void attn_dots(struct vf16 *sum, const float *q, const float *const *k, int64_t D)
{
    vf lane[ATTN_KEYS][VF16];
    VF_UNROLL for (int n = 0; n < ATTN_KEYS; n++)
        VF_UNROLL for (int v = 0; v < VF16; v++) lane[n][v] = vf_zero();
    for (int64_t d = 0; d < D; d += 16)
        VF_UNROLL for (int v = 0; v < VF16; v++) {
            const vf x = vf_load(q + d + v * VL);
            VF_UNROLL for (int n = 0; n < ATTN_KEYS; n++)
                lane[n][v] = vf_fma(x, vf_load(k[n] + d + v * VL), lane[n][v]);
        }
    VF_UNROLL for (int n = 0; n < ATTN_KEYS; n++)
        VF_UNROLL for (int v = 0; v < VF16; v++) sum[n].part[v] = lane[n][v];
}

/* Where fewer than 16 keys are left the last one is taken again: nobody sees those scores. */
static void attn_scores(const struct attn_block *b, const struct attn_page *page,
                        const struct attn_room *room, const float *k, int64_t step)
{
    struct attn_errand next = page->next_k;
    const int64_t lines = next.lines / 4;
    const int64_t D = round16(b->args->q->dim[2]);
    const int keys = page->keys;
    const float *row[16];
    struct vf16 sum[16];
    for (int j = 0; j < keys; j += 16) {
        attn_call(&next, j + 16 < keys ? lines : next.lines);
        for (int n = 0; n < 16; n++) row[n] = k + (j + n < keys ? j + n : keys - 1) * step;
        for (int c = 0; c < b->columns; c++) {
            for (int n = 0; n < 16; n += ATTN_KEYS)
                attn_dots(sum + n, room->q + c * D, row + n, D);
            sums16(room->score + c * PAGE + j, sum);
        }
    }
}

/* ---- weights ------------------------------------------------------------------------------------ */

VF_INLINE vf vf_larger(vf a, vf b)
{
    const vf_word more = a > b;
    return (vf)((more & (vf_word)a) | (~more & (vf_word)b));
}

/* Scores of column c become e^(score - top); returns what the sums so far shrink by. A NaN is no
 * largest score, but its exponential is one. */
static float attn_weigh(const struct attn_block *b, const struct attn_sums *sums, float *score,
                        int c, int seen)
{
    float lane[VL], top = sums->top[c];
    vf part[ROW_PARTS], most = vf_set1(-INFINITY);
    for (int j = seen; j < PAGE; j++) score[j] = -INFINITY;
    VF_UNROLL for (int n = 0; n < ROW_PARTS; n++) {
        part[n] = vf_mul(vf_load(score + n * VL), vf_set1((float)b->args->scale));
        most = vf_larger(part[n], most);
    }
    vf_store(lane, most);
    for (int l = 0; l < VL; l++) top = lane[l] > top ? lane[l] : top;
    VF_UNROLL for (int n = 0; n < ROW_PARTS; n++) {
        part[n] = vf_exp(vf_sub(part[n], vf_set1(top)));
        vf_store(score + n * VL, part[n]);
    }
    const float shrink = attn_exp(sums->top[c] - top);
    sums->weight[c] = sums->weight[c] * shrink + row_sum_end(part);
    sums->top[c] = top;
    return shrink;
}

/* ---- values ------------------------------------------------------------------------------------- */

/* acc += sum over j < seen of weight[j] v[j], of `rows` columns and `vectors` vectors. */
VF_INLINE void attn_mix(float *acc, int64_t acc_step, const float *weight, const float *v,
                        int64_t step, int seen, int rows, int vectors)
{
    vf sum[ATTN_ROWS][ATTN_VECTORS];
    VF_UNROLL for (int r = 0; r < rows; r++)
        VF_UNROLL for (int n = 0; n < vectors; n++)
            sum[r][n] = vf_load(acc + r * acc_step + n * VL);
    for (int j = 0; j < seen; j++, v += step)
        VF_UNROLL for (int r = 0; r < rows; r++) {
            const vf e = vf_set1(weight[r * PAGE + j]);
            VF_UNROLL for (int n = 0; n < vectors; n++)
                sum[r][n] = vf_fma(e, vf_load(v + n * VL), sum[r][n]);
        }
    VF_UNROLL for (int r = 0; r < rows; r++)
        VF_UNROLL for (int n = 0; n < vectors; n++)
            vf_store(acc + r * acc_step + n * VL, sum[r][n]);
}

/* Entries d.. of all columns: four that see as much together, what is left one by one. */
VF_INLINE void attn_strip(const struct attn_block *b, const struct attn_sums *sums,
                          const float *weight, const float *v, int64_t step, bool last, int64_t d,
                          int vectors)
{
    for (int c = 0; c < b->columns;) {
        const int seen = last ? attn_seen(b, c) : PAGE;
        float *acc = sums->acc + c * b->acc_step + d;
        if (c + ATTN_ROWS <= b->columns && (!last || attn_seen(b, c + ATTN_ROWS - 1) == seen)) {
            attn_mix(acc, b->acc_step, weight + c * PAGE, v + d, step, seen, ATTN_ROWS, vectors);
            c += ATTN_ROWS;
        } else {
            attn_mix(acc, b->acc_step, weight + c * PAGE, v + d, step, seen, 1, vectors);
            c++;
        }
    }
}

static void attn_fold(const struct attn_block *b, const struct attn_sums *sums,
                      const struct attn_page *page)
{
    const struct attn_args *a = b->args;
    const struct attn_room room = attn_room(b);
    const int64_t D = a->q->dim[2], Dv = a->v->dim[2], wide = attn_wide(Dv);
    struct attn_errand next = page->next_v;
    const int64_t lines = next.lines * ATTN_VECTORS * VL / wide + 1;
    int64_t k_step, v_step, d = 0;
    const float *k = attn_widen(room.k, &k_step, page->k, page->k_step, a->k->dtype, D, 16,
                                page->keys);
    const float *v = attn_widen(room.v, &v_step, page->v, page->v_step, a->v->dtype, Dv, 32,
                                page->keys);
    attn_scores(b, page, &room, k, k_step);
    for (int c = 0; c < b->columns; c++) {
        const int seen = page->last ? attn_seen(b, c) : PAGE;
        const float shrink = attn_weigh(b, sums, room.score + c * PAGE, c, seen);
        if (shrink != 1.0f) attn_scale(sums->acc + c * b->acc_step, shrink, wide);
    }
    for (; d + ATTN_VECTORS * VL <= wide; d += ATTN_VECTORS * VL) {
        attn_call(&next, lines);
        attn_strip(b, sums, room.score, v, v_step, page->last, d, ATTN_VECTORS);
    }
    for (; d < wide; d += VL) attn_strip(b, sums, room.score, v, v_step, page->last, d, 1);
}

const struct attn_form CPU_NAME(attn_form) = {128, 1, false, attn_bytes, attn_enter, attn_fold,
                                              attn_merge, attn_leave};
