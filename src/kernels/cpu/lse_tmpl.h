/* lse_tmpl.h: walks over a tile of logits, in the words of a vector vocabulary: its logsumexp, and
 * the next element above a bound. Element k goes to lane k mod 64, the lanes meet in one tree: the bits
 * are those of any vector. */
#include "kernels/cpu/lse.h"
#include "kernels/cpu/row_tmpl.h"

VF_INLINE vf vf_larger(vf a, vf b)
{
    const vf_word more = a > b;
    return (vf)((more & (vf_word)a) | (~more & (vf_word)b));
}

/* 64 elements from `at` on; those that the tile has no more are -inf. */
VF_INLINE const float *lse_chunk(float *room, const float *x, int64_t at, int64_t n)
{
    if (at + ROW_LANES <= n) return x + at;
    for (int64_t l = 0; l < ROW_LANES; l++) room[l] = at + l < n ? x[at + l] : -INFINITY;
    return room;
}

/* A NaN is never the largest. */
VF_INLINE float lse_largest(const vf *part)
{
    float lane[VL];
    vf most = part[0];
    VF_UNROLL for (int v = 1; v < ROW_PARTS; v++) most = vf_larger(part[v], most);
    vf_store(lane, most);
    for (int l = 1; l < VL; l++) lane[0] = lane[l] > lane[0] ? lane[l] : lane[0];
    return lane[0];
}

_Static_assert((int)ROW_LANES == (int)LSE_CLASSES, "a lane is a class");

static struct cpu_lse lse_tile(const float *x, int64_t n, float *peak)
{
    float room[ROW_LANES];
    vf part[ROW_PARTS];
    struct cpu_lse tile;
    VF_UNROLL for (int v = 0; v < ROW_PARTS; v++) part[v] = vf_set1(-INFINITY);
    for (int64_t k = 0; k < n; k += ROW_LANES) {
        const float *chunk = lse_chunk(room, x, k, n);
        VF_UNROLL for (int v = 0; v < ROW_PARTS; v++)
            part[v] = vf_larger(vf_load(chunk + v * VL), part[v]);
    }
    tile.max = lse_largest(part);
    for (int v = 0; peak && v < ROW_PARTS; v++)
        vf_store(peak + v * VL, vf_larger(part[v], vf_load(peak + v * VL)));
    const vf shift = vf_set1(lse_shift(tile.max));
    VF_UNROLL for (int v = 0; v < ROW_PARTS; v++) part[v] = vf_zero();
    for (int64_t k = 0; k < n; k += ROW_LANES) {
        const float *chunk = lse_chunk(room, x, k, n);
        VF_UNROLL for (int v = 0; v < ROW_PARTS; v++)
            part[v] = vf_add(part[v], vf_exp(vf_sub(vf_load(chunk + v * VL), shift)));
    }
    tile.sum = row_sum_end(part);
    return tile;
}

static int64_t lse_above(const float *x, int64_t from, int64_t n, float bound)
{
    for (; from < n && from % ROW_LANES != 0; from++)
        if (x[from] > bound) return from;
    for (; from + ROW_LANES <= n; from += ROW_LANES) {
        vf part[ROW_PARTS];
        VF_UNROLL for (int v = 0; v < ROW_PARTS; v++)
            part[v] = vf_larger(vf_load(x + from + v * VL), vf_set1(bound));
        if (lse_largest(part) > bound) break;
    }
    while (from < n && !(x[from] > bound)) from++;
    return from;
}

const struct lse_walk CPU_NAME(lse_walk) = {lse_tile, lse_above};
