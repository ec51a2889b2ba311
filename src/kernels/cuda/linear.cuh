/* linear.cuh: a packed projection as its kernels see it. */
#ifndef KERNELS_CUDA_LINEAR_CUH
#define KERNELS_CUDA_LINEAR_CUH

#include "kernels/cuda/launch.cuh"

/* Rows of one weight that make columns row, row + 1, ..; their first tile of columns. */
struct piece {
    const char *data;
    int64_t stride, row;
    int32_t rows, tile;
    enum dtype dtype;
};

enum { PIECES = 48 };

/* What travels with a launch; a projection of more parts takes several. */
struct pieces {
    int32_t count, tiles;
    int64_t K;
    bool made; /* by a kernel of this pass: not to be read before the wait */
    struct piece piece[PIECES];
};

static __device__ inline const struct piece &piece_of(const struct pieces &w, int32_t tile)
{
    int32_t i = w.count - 1;
#pragma unroll 1
    while (w.piece[i].tile > tile) i--;
    return w.piece[i];
}

/* ---- four neighbours of a row, of any type --------------------------------------------------- */

struct four {
    float at[4];
};

/* Elements i..i+3 of a row that ends at n; zeros beyond it. */
static __device__ inline struct four load_four(const void *row, enum dtype t, int64_t i, int64_t n)
{
    struct four f;
    if (t == DTYPE_F32 && (size_t)row % 16 == 0 && i + 4 <= n) {
        const float4 v = *(const float4 *)((const float *)row + i);
        f.at[0] = v.x, f.at[1] = v.y, f.at[2] = v.z, f.at[3] = v.w;
        return f;
    }
    if (t == DTYPE_BF16 && (size_t)row % 8 == 0 && i + 4 <= n) {
        const uint2 v = *(const uint2 *)((const uint16_t *)row + i);
        f.at[0] = __uint_as_float(v.x << 16), f.at[1] = __uint_as_float(v.x & 0xffff0000u);
        f.at[2] = __uint_as_float(v.y << 16), f.at[3] = __uint_as_float(v.y & 0xffff0000u);
        return f;
    }
#pragma unroll
    for (int e = 0; e < 4; e++) f.at[e] = i + e < n ? load(row, t, i + e) : 0.0f;
    return f;
}

static __device__ inline bool is_coded(enum dtype t) { return t == DTYPE_Q8 || t == DTYPE_Q4; }
static __device__ inline size_t bytes_of(enum dtype t) { return t == DTYPE_F32 ? 4 : 2; }

/* ---- the whole product ----------------------------------------------------------------------- */

/* y[t, n] = sum_k W[n, k] x[t, k] for n below `most`. Of scratch it takes the panel's bytes, for
 * quantised weights that many rows meet. fast: a row's bits may depend on how many rows there are, from
 * 256 on. */
void linear_run(struct device *device, struct arena *scratch, const struct tensor *x,
                const struct tensor *y, const struct linear *w, int64_t most, bool fast);

/* bf16 x and weights, on tensor cores: one arithmetic, however many rows there are.
 *
 *     y[t, n] = slice 0 + slice 1 + ..    f32, in this order; each is one chain of m16n8k16 over
 *                                         ascending k, 16 neighbours an instruction, from 0
 *
 * A slice is 128 long, or a multiple of 64 that makes 16 of them or fewer; the last may be shorter. */
enum { MOST_SLICES = 16 };
static __host__ __device__ inline int64_t linear_slice(int64_t K)
{
    return K <= 2048 ? 128 : (K + 64 * MOST_SLICES - 1) / (64 * MOST_SLICES) * 64;
}

static inline int linear_slices(int64_t K)
{
    return (int)((K + linear_slice(K) - 1) / linear_slice(K));
}

/* How few rows are multiplied: a block makes `columns` of up to `rows` of them. */
struct few_form {
    int columns, rows, depth; /* depth: stages of a warp, linear_rows.cu */
};
/* As many columns as leave work for 64 blocks; as many stages, of so many k, as a slice has and as there
 * is room for in shared memory, of which a block with weights of type d takes `bytes`. */
typedef size_t few_bytes(const struct few_form &form, enum dtype d, int64_t T, int64_t K);
struct few_form linear_form(struct device *device, few_bytes *bytes, enum dtype d, int chunk,
                            int64_t T, int64_t N, int64_t K);
struct few_form linear_few_form(struct device *device, int64_t T, int64_t N, int64_t K);

/* form.columns: of a tile of w. */
void linear_few(struct device *device, const struct view &x, const struct view &y,
                const struct pieces &w, struct few_form form);

/* The same of few rows and much W, or of 9 to 32; false: not a call, or a GPU, for it. */
bool linear_stream(struct device *device, const struct view &x, const struct view &y,
                   const struct pieces &w);
enum { LINEAR_STREAM_COLUMNS = 1 };

/* The same of many rows; linear_hopper: false when this GPU, build or call is not one for it. */
bool linear_prompt_fits(const struct tensor *x, const struct linear *w);
void linear_prompt(struct device *device, const struct view &x, const struct view &y,
                   const struct pieces &w);
bool linear_hopper(struct device *device, const struct view &x, const struct view &y,
                   const struct pieces &w);
/* The same with q8 or q4 weights, and bf16 pieces among them, cut by 8 columns: few rows; and part n of w, which becomes bf16 some rows at a time, for
 * linear_run. */
struct few_form linear_coded_form(struct device *device, enum dtype d, int64_t T, int64_t N,
                                  int64_t K);
void linear_coded(struct device *device, enum dtype type, const struct view &x,
                  const struct view &y, const struct pieces &w, struct few_form form);
void linear_panel(struct device *device, struct arena *scratch, const struct tensor *x,
                  const struct tensor *y, const struct linear *w, int n, int64_t most, bool fast);
size_t linear_panel_bytes(const struct linear *w);
/* Rows of a quantised table. */
void embed_coded(struct device *device, const struct embed_args *args);

enum { LINEAR_PROMPT_COLUMNS = 64, LINEAR_HOPPER_COLUMNS = 128 };

/* The same by a library, in its own order of sums: what it takes on leaves w. */
void linear_lt(struct device *device, const struct view &x, const struct view &y, struct pieces *w);

#endif
