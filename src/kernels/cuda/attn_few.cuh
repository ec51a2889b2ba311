/* attn_few.cuh: some pages of a sequence met by the heads of a group, which share their keys: the 16 rows of
 * m16n8k16.
 *
 * s = q K^T, then, with the page's own maximum, p = e^(s - max) as two bf16 (16 bits of it) times V. Pages of
 * 64 are folded into the running maximum, weight and sum of their chunk of 256, and chunks, in order, into
 * those of the row. */
#ifndef KERNELS_CUDA_ATTN_FEW_CUH
#define KERNELS_CUDA_ATTN_FEW_CUH

#include "kernels/cuda/attn_mix.cuh"
#include "kernels/cuda/tiles.cuh"

enum { CHUNK = 4 * PAGE, ROWS = 16, PITCH_P = PAGE + 8 };
enum { TILES = MOST_WIDTH / 16 / WARPS }; /* of 16 columns, a warp's */

/* Shared memory of a block: q [16][D + 8], keys and values of a page [64][D + 8], scores [16][64],
 * weights as two bf16 [2][16][64 + 8], of each head the page's maximum and weight. */
struct desk {
    uint16_t *q, *k, *v, *p;
    float *s, *max, *weight;
};

static __host__ __device__ inline size_t desk_bytes(int32_t D)
{
    return sizeof(uint16_t) * ((size_t)(ROWS + 2 * PAGE) * (size_t)(D + 8) + 2 * ROWS * PITCH_P) +
           sizeof(float) * (ROWS * PAGE + 2 * ROWS);
}

static __device__ inline struct desk desk_at(float *room, int32_t D)
{
    struct desk d;
    d.q = (uint16_t *)room;
    d.k = d.q + ROWS * (D + 8);
    d.v = d.k + PAGE * (D + 8);
    d.p = d.v + PAGE * (D + 8);
    d.s = (float *)(d.p + 2 * ROWS * PITCH_P);
    d.max = d.s + ROWS * PAGE;
    d.weight = d.max + ROWS;
    return d;
}

/* `n` rows of D, `apart` elements from one to the next, into rows of D + 8; zeros up to `all`. */
static __device__ void fetch(uint16_t *to, const uint16_t *from, int64_t apart, int n, int all,
                             int32_t D)
{
    const int units = D / 8;
    for (int i = (int)threadIdx.x; i < all * units; i += THREADS) {
        const int row = i / units, unit = i % units;
        copy_later(shared_address(to + row * (D + 8) + 8 * unit),
                   from + (row < n ? row * apart : 0) + 8 * unit, row < n);
    }
}

static __device__ void fetch_page(const struct mix_call &a, const struct desk *s, int32_t slot,
                                  int64_t head, int64_t first, int n)
{
    const struct kv_pages &p = a.pages;
    const int64_t at = (page_row(p, slot, first) * p.Hkv + head) * a.D;
    fetch(s->k, (const uint16_t *)p.k + at, (int64_t)p.Hkv * a.D, n, PAGE, a.D);
    copies_end();
    fetch(s->v, (const uint16_t *)p.v + at, (int64_t)p.Hkv * a.D, n, PAGE, a.D);
    copies_end();
}

/* scores [16][64] = scale q k: a warp makes 16 positions. */
static __device__ void score(const struct mix_call &a, const struct desk *s, int n)
{
    const int lane = (int)threadIdx.x % WARP, warp = (int)threadIdx.x / WARP;
    const int pitch = a.D + 8, row = lane % 8, matrix = lane / 8;
    float d[2][4] = {};
    for (int k = 0; k < a.D; k += 16) {
        uint32_t q[4], key[4]; /* keys: 8 positions k, k + 8, and the next 8 positions */
        tile_load(q, shared_address(s->q + (row + 8 * (matrix % 2)) * pitch + k +
                                  8 * (matrix / 2)));
        tile_load(key, shared_address(s->k + (16 * warp + row + 8 * (matrix / 2)) * pitch + k +
                                      8 * (matrix % 2)));
        tile_multiply(d[0], q, key[0], key[1]);
        tile_multiply(d[1], q, key[2], key[3]);
    }
#pragma unroll
    for (int i = 0; i < 2; i++)
#pragma unroll
        for (int e = 0; e < 4; e++) {
            const int r = lane / 4 + 8 * (e / 2), j = 16 * warp + 8 * i + lane % 4 * 2 + e % 2;
            s->s[r * PAGE + j] = j < n ? d[i][e] * a.scale : -INFINITY;
        }
}

/* Of each row of scores: its maximum, e^(s - maximum) as two bf16, their sum. A warp has 4 rows. */
static __device__ void weigh(const struct desk *s)
{
    const int lane = (int)threadIdx.x % WARP, warp = (int)threadIdx.x / WARP;
    for (int r = warp; r < ROWS; r += WARPS) {
        const float low = s->s[r * PAGE + lane], high = s->s[r * PAGE + lane + WARP];
        const float max = warp_max(fmaxf(low, high));
        const float e[2] = {expf(low - max), expf(high - max)};
        const float sum = warp_sum(e[0] + e[1]);
        for (int i = 0; i < 2; i++) {
            const uint16_t head = bf16_of(e[i]);
            s->p[r * PITCH_P + lane + i * WARP] = head;
            s->p[(ROWS + r) * PITCH_P + lane + i * WARP] = bf16_of(e[i] - bf16_value(head));
        }
        if (lane == 0) s->max[r] = max, s->weight[r] = sum;
    }
}

/* d = weights times values: a warp makes every fourth pair of 8 columns. */
static __device__ void sum_values(const struct mix_call &a, const struct desk *s,
                                  float (*d)[2][4])
{
    const int lane = (int)threadIdx.x % WARP, warp = (int)threadIdx.x / WARP;
    const int pitch = a.D + 8, row = lane % 8, matrix = lane / 8;
#pragma unroll
    for (int part = 0; part < 2; part++)
        for (int j = 0; j < PAGE; j += 16) {
            uint32_t p[4];
            tile_load(p, shared_address(s->p + (part * ROWS + row + 8 * (matrix % 2)) * PITCH_P +
                                        j + 8 * (matrix / 2)));
#pragma unroll
            for (int i = 0; i < TILES; i++) {
                const int column = 16 * (warp + i * WARPS);
                if (column >= a.D) break;
                uint32_t v[4]; /* 16 positions of 8 columns, and of the next 8 */
                tile_load_turned(v, shared_address(s->v + (j + row + 8 * (matrix % 2)) * pitch +
                                                   column + 8 * (matrix / 2)));
                tile_multiply(d[i][0], p, v[0], v[1]);
                tile_multiply(d[i][1], p, v[2], v[3]);
            }
        }
}

/* What softmax has seen so far of two rows of a thread's: lane / 4 and 8 behind it. */
struct running {
    float max[2], weight[2], sum[TILES][2][4];
};

static __device__ inline float fold(float *max, float *weight, float more_max, float more_weight,
                                    float *now)
{
    const float both = fmaxf(*max, more_max), old = expf(*max - both);
    *now = expf(more_max - both);
    *weight = fmaf(*weight, old, more_weight * *now);
    *max = both;
    return old;
}

/* *r = *r and, behind it, what `more` has seen. */
static __device__ inline void fold_in(struct running *r, const struct running &more)
{
    float old[2], now[2];
    for (int i = 0; i < 2; i++)
        old[i] = fold(&r->max[i], &r->weight[i], more.max[i], more.weight[i], &now[i]);
#pragma unroll
    for (int i = 0; i < TILES; i++)
#pragma unroll
        for (int j = 0; j < 2; j++)
#pragma unroll
            for (int e = 0; e < 4; e++)
                r->sum[i][j][e] = fmaf(r->sum[i][j][e], old[e / 2], more.sum[i][j][e] * now[e / 2]);
}

static __device__ void fold_page(const struct mix_call &a, const struct desk *s, struct running *r)
{
    const int row = (int)threadIdx.x % WARP / 4;
    struct running page = {{s->max[row], s->max[row + 8]}, {s->weight[row], s->weight[row + 8]}, {}};
    sum_values(a, s, page.sum);
    fold_in(r, page);
}

/* Sums, weight and maximum of the group's heads into their places. */
static __device__ void hand_over(const struct mix_call &a, int32_t t, int32_t head, int32_t stretch,
                                 const struct running *r)
{
    const int lane = (int)threadIdx.x % WARP, warp = (int)threadIdx.x / WARP;
    const int32_t group = a.Hq / a.Hkv;
#pragma unroll
    for (int half = 0; half < 2; half++) {
        const int32_t g = lane / 4 + 8 * half;
        if (g >= group) continue;
        float *to = a.partial + (((int64_t)t * a.Hq + head * group + g) * a.stretches + stretch) *
                                    (a.D + 2);
#pragma unroll
        for (int i = 0; i < TILES; i++)
#pragma unroll
            for (int e = 0; e < 4; e++) {
                const int column = 16 * (warp + i * WARPS) + 8 * (e / 2) + lane % 4 * 2 + e % 2;
                if (column < a.D) to[column] = r->sum[i][e / 2][2 * half + e % 2];
            }
        if (warp == 0 && lane % 4 == 0) to[a.D] = r->weight[half], to[a.D + 1] = r->max[half];
    }
}

/* The pages of a chunk from `first` on, into a running sum of its own. */
static __device__ void attend_chunk(const struct mix_call &a, const struct desk *s, int32_t slot,
                                    int32_t head, int64_t first, int64_t end, struct running *r)
{
    *r = {{-INFINITY, -INFINITY}, {}, {}};
    for (int64_t at = first; at < first + CHUNK && at < end; at += PAGE) {
        const int n = end - at < PAGE ? (int)(end - at) : (int)PAGE;
        fetch_page(a, s, slot, head, at, n);
        copies_wait<1>();
        __syncthreads();
        score(a, s, n);
        __syncthreads();
        weigh(s);
        copies_wait<0>();
        __syncthreads();
        fold_page(a, s, r);
        __syncthreads();
    }
}

#endif
