/* attn_prompt.cu: attention of prompts in bf16, on tensor cores. Truth: kernels/ref/attn.c.
 *
 * A block takes 128 rows of one head, a warp 16 of them. Pages of 64 keys follow one another:
 *
 *     s = q k^T           a chain over d, ascending
 *     m' = max(m, s);  p = e^(scale (s - m'));  w = w e^(scale (m - m')) + sum p
 *     o = o e^(scale (m - m')) + p v          p rounded to bf16; a chain over the keys of the page
 *
 * Pages stand at absolute positions, so the bits of a row are a function of its position and of
 * what lies before it. Queries stay in shared memory; while a page's values are met, the keys of the
 * next are on their way, and the other way round. A value that is not finite reaches earlier rows of
 * its page: they weigh it by 0. */
#include "kernels/cuda/prompt.cuh"
#include "kernels/cuda/tiles.cuh"

enum { WARPS = 8, THREADS = WARPS * WARP, ROWS = 16 * WARPS };

struct prompt_call {
    struct view q, o;
    struct rows rows;
    struct kv_pages pages;
    int32_t group;     /* query heads of a key head */
    float scale; /* of scores, as an exponent of 2 */
};

/* Rows of D bf16 in shared memory: the 16 bytes of number c of a row stand at c ^ (row mod 8), so
 * that eight rows of a matrix lie in different banks. */
template <int D> static __device__ inline shared_at spot(shared_at at, int row, int c)
{
    return at + (row * D * 2 + ((c ^ (row & 7)) << 4));
}

/* Where a block works. */
struct place {
    int32_t b, first, n;       /* sequence; first row within it, how many there are from there */
    int32_t position, end;     /* of the first row; behind the sequence's last row */
    int64_t h, key_head;
};

template <int D>
static __device__ void load_queries(const struct prompt_call &a, const struct place &p, shared_at to)
{
    const int64_t t = a.rows.start[p.b] + p.first;
    const uint16_t *q = (const uint16_t *)a.q.data;
    for (int i = (int)threadIdx.x; i < ROWS * D / 8; i += THREADS) {
        const int row = i / (D / 8), c = i % (D / 8);
        const bool there = row < p.n;
        copy_later(spot<D>(to, row, c), q + view_at(a.q, there ? t + row : t, p.h, 8 * c), there);
    }
}

/* Page number j of keys, or values; zeros behind the sequence's end. */
template <int D>
static __device__ void load_page(const struct prompt_call &a, const struct place &p, int32_t j,
                                 const void *from, shared_at to)
{
    const struct kv_pages &k = a.pages;
    const int64_t page = k.table[(int64_t)a.rows.slot[p.b] * k.row_pages + j];
    const uint16_t *first = (const uint16_t *)from + (page * PAGE * k.Hkv + p.key_head) * D;
    for (int i = (int)threadIdx.x; i < PAGE * D / 8; i += THREADS) {
        const int row = i / (D / 8), c = i % (D / 8);
        copy_later(spot<D>(to, row, c), first + (int64_t)row * k.Hkv * D + 8 * c,
                   j * PAGE + row < p.end);
    }
}

/* s[n] = the warp's 16 rows by keys 8n..8n+7 of the page. */
template <int D>
static __device__ inline void meet_keys(shared_at queries, shared_at keys, float (&s)[PAGE / 8][4])
{
    const int lane = (int)threadIdx.x % WARP, warp = (int)threadIdx.x / WARP;
#pragma unroll
    for (int n = 0; n < PAGE / 8; n++)
#pragma unroll
        for (int e = 0; e < 4; e++) s[n][e] = 0.0f;
#pragma unroll
    for (int d = 0; d < D / 16; d++) {
        uint32_t q[4];
        tile_load(q, spot<D>(queries, 16 * warp + lane % 16, 2 * d + lane / 16));
#pragma unroll
        for (int n = 0; n < PAGE / 8; n += 2) {
            uint32_t k[4];
            tile_load(k, spot<D>(keys, 8 * n + lane % 8 + lane / 16 * 8, 2 * d + lane / 8 % 2));
            tile_multiply(s[n], q, k[0], k[1]);
            tile_multiply(s[n + 1], q, k[2], k[3]);
        }
    }
}

/* o += p v over the page. */
template <int D>
static __device__ inline void meet_values(const float (&s)[PAGE / 8][4], shared_at values,
                                          float (&o)[D / 8][4])
{
    const int lane = (int)threadIdx.x % WARP;
#pragma unroll
    for (int k = 0; k < PAGE / 16; k++) {
        const uint32_t p[4] = {bf16_pair(s[2 * k][0], s[2 * k][1]),
                               bf16_pair(s[2 * k][2], s[2 * k][3]),
                               bf16_pair(s[2 * k + 1][0], s[2 * k + 1][1]),
                               bf16_pair(s[2 * k + 1][2], s[2 * k + 1][3])};
#pragma unroll
        for (int n = 0; n < D / 8; n += 2) {
            uint32_t v[4];
            tile_load_turned(v, spot<D>(values, 16 * k + lane % 16, n + lane / 16));
            tile_multiply(o[n], p, v[0], v[1]);
            tile_multiply(o[n + 1], p, v[2], v[3]);
        }
    }
}

static __device__ inline float quad_sum(float x)
{
    x += __shfl_xor_sync(~0u, x, 1);
    return x + __shfl_xor_sync(~0u, x, 2);
}

static __device__ inline float quad_max(float x)
{
    x = fmaxf(x, __shfl_xor_sync(~0u, x, 1));
    return fmaxf(x, __shfl_xor_sync(~0u, x, 2));
}

/* What softmax has seen so far of a lane's two rows: its weight is the lane's share of the sum. */
struct running {
    int32_t position[2];
    float max[2], weight[2];
};

/* Scores become weights; returns in `shrink` what earlier sums are multiplied by. */
static __device__ inline void soften(float (&s)[PAGE / 8][4], int32_t first, float scale,
                                     struct running *r, float (&shrink)[2])
{
    const int q = (int)threadIdx.x % 4;
#pragma unroll
    for (int h = 0; h < 2; h++) {
        float max = r->max[h], sum = 0.0f;
#pragma unroll
        for (int n = 0; n < PAGE / 8; n++)
#pragma unroll
            for (int e = 2 * h; e < 2 * h + 2; e++) {
                if (first + 8 * n + 2 * q + e % 2 > r->position[h]) s[n][e] = -INFINITY;
                max = fmaxf(max, s[n][e]);
            }
        max = quad_max(max);
        shrink[h] = exp2f((r->max[h] - max) * scale);
#pragma unroll
        for (int n = 0; n < PAGE / 8; n++)
#pragma unroll
            for (int e = 2 * h; e < 2 * h + 2; e++) {
                s[n][e] = exp2f((s[n][e] - max) * scale);
                sum += s[n][e];
            }
        r->weight[h] = fmaf(r->weight[h], shrink[h], sum);
        r->max[h] = max;
    }
}

template <int D>
static __device__ void finish(const struct prompt_call &a, const struct place &p,
                              const struct running &r, const float (&o)[D / 8][4])
{
    const int lane = (int)threadIdx.x % WARP, row = (int)threadIdx.x / WARP * 16 + lane / 4;
    const int64_t t = a.rows.start[p.b] + p.first + row;
#pragma unroll
    for (int h = 0; h < 2; h++) {
        const float weight = quad_sum(r.weight[h]);
        uint16_t *to = (uint16_t *)a.o.data + view_at(a.o, t + 8 * h, p.h, 2 * (lane % 4));
#pragma unroll
        for (int n = 0; n < D / 8; n++)
            if (row + 8 * h < p.n)
                *(uint32_t *)(to + 8 * n) =
                    bf16_pair(o[n][2 * h] / weight, o[n][2 * h + 1] / weight);
    }
}

/* The pages up to a block's last row. */
template <int D>
static __device__ void walk_pages(const struct prompt_call &a, const struct place &p,
                                  shared_at queries, float (&o)[D / 8][4], struct running *r)
{
    const shared_at keys = queries + ROWS * D * 2, values = keys + PAGE * D * 2;
    const void *v = a.pages.v ? a.pages.v : a.pages.k;
    const int32_t rows = p.n < ROWS ? p.n : (int32_t)ROWS, last = (p.position + rows - 1) / PAGE;
    const int32_t warp_end = p.position + (int32_t)threadIdx.x / WARP * 16 + 16;
    load_queries<D>(a, p, queries);
    load_page<D>(a, p, 0, a.pages.k, keys);
    copies_end();
    load_page<D>(a, p, 0, v, values);
    copies_end();
    for (int32_t j = 0; j <= last; j++) {
        const bool seen = j * PAGE < warp_end; /* by some row of this warp */
        float s[PAGE / 8][4], shrink[2];
        copies_wait<1>();
        __syncthreads();
        if (seen) meet_keys<D>(queries, keys, s);
        __syncthreads();
        if (j < last) load_page<D>(a, p, j + 1, a.pages.k, keys);
        copies_end();
        if (seen) {
            soften(s, j * PAGE, a.scale, r, shrink);
#pragma unroll
            for (int n = 0; n < D / 8; n++)
#pragma unroll
                for (int e = 0; e < 4; e++) o[n][e] *= shrink[e / 2];
        }
        copies_wait<1>();
        __syncthreads();
        if (seen) meet_values<D>(s, values, o);
        __syncthreads();
        if (j < last) load_page<D>(a, p, j + 1, v, values);
        copies_end();
    }
}

template <int D> static __global__ void __launch_bounds__(THREADS) attend_prompt(struct prompt_call a)
{
    DYNAMIC_SHARED(room);
    const struct prompt_piece piece = prompt_piece_of(a.rows, (int32_t)blockIdx.y, ROWS);
    if (piece.b < 0) return;
    const int32_t n = a.rows.start[piece.b + 1] - a.rows.start[piece.b];
    const int32_t position = a.rows.pos[piece.b];
    const struct place p = {piece.b, piece.first, n - piece.first, position + piece.first,
                            position + n, blockIdx.x, blockIdx.x / a.group};
    const int row = (int)threadIdx.x / WARP * 16 + (int)threadIdx.x % WARP / 4;
    struct running r = {{p.position + row, p.position + row + 8}, {-INFINITY, -INFINITY}, {}};
    float o[D / 8][4] = {};
    if (!absent(a.rows, p.b)) {
        walk_pages<D>(a, p, shared_address(room), o, &r);
    } else {
        r.weight[0] = r.weight[1] = 1.0f;
    }
    finish<D>(a, p, r, o);
}

/* ---- the call -------------------------------------------------------------------------------- */

/* Whether rows of a tensor can be copied 16 bytes at a time. */
static bool in_sixteens(const struct tensor *t)
{
    return (size_t)t->data % 16 == 0 && t->stride[0] % 8 == 0 && t->stride[1] % 8 == 0;
}

bool attn_prompt_fits(const struct attn_args *a)
{
    const int64_t D = a->q->dim[2];
    return a->pages && may_be_prompts(a->rows) && a->q->dtype == DTYPE_BF16 &&
           a->o->dtype == DTYPE_BF16 && a->pages->dtype == DTYPE_BF16 && a->o->dim[2] == D &&
           a->pages->D == D && (!a->pages->v || a->pages->Dv == D) &&
           (D == 64 || D == 128 || D == 256) && in_sixteens(a->q) && in_sixteens(a->o) &&
           (size_t)a->pages->k % 16 == 0 && (size_t)a->pages->v % 16 == 0;
}

template <int D> static void run(struct device *device, const struct prompt_call &call)
{
    const dim3 grid((unsigned)call.q.dim[1], pieces_of_prompts(&call.rows, ROWS));
    launch(device, attend_prompt<D>, grid, THREADS, (ROWS + 2 * PAGE) * D * sizeof(uint16_t), call);
}

void attn_prompt(struct device *device, const struct attn_args *a)
{
    struct prompt_call call = {};
    call.q = view_of(a->q), call.o = view_of(a->o);
    call.rows = *a->rows;
    call.pages = *a->pages;
    call.group = (int32_t)(a->q->dim[1] / a->pages->Hkv);
    call.scale = (float)(a->scale * 1.4426950408889634);
    if (a->q->dim[2] == 64)
        run<64>(device, call);
    else if (a->q->dim[2] == 128)
        run<128>(device, call);
    else
        run<256>(device, call);
}
