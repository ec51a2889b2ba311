/* linear_lt.cu: large bf16 products by cuBLASLt, in passes that may give up exactness.
 *
 * The library is looked for by name when it is first asked for, and may be missing: then all products
 * are gdn's own. How it adds up depends on how many rows share the call, in classes of powers of two,
 * for which it is asked once each: equal calls have equal bits, equal rows need not. */
#include "kernels/cuda/linear.cuh"

enum { LEAST_ROWS = 256, LEAST_COLUMNS = 256 };

#if !defined EMULATED && __has_include(<cublasLt.h>)
#include <cublasLt.h>
#include <dlfcn.h>

extern "C" {
#include "base/memory.h"
}

enum { PLANS = 64, WIDEST = 256 }; /* addresses are told apart up to this alignment */

/* What the library has to be asked again for. */
struct product {
    int64_t N, K, T; /* T: the largest of its class */
    int64_t w_stride, x_stride, y_stride;
    uint32_t w_align, x_align, y_align;
    enum dtype y_type;
};

struct plan {
    struct product of;
    cublasLtMatmulDesc_t work;
    cublasLtMatrixLayout_t w, x, y;
    cublasLtMatmulAlgo_t algo;
    bool usable;
};

struct lt {
    void *library;
    cublasLtHandle_t handle;
    int plans;
    struct plan plan[PLANS];
    decltype(&cublasLtDestroy) destroy;
    decltype(&cublasLtMatmulDescCreate) work_create;
    decltype(&cublasLtMatmulDescSetAttribute) work_set;
    decltype(&cublasLtMatmulDescDestroy) work_destroy;
    decltype(&cublasLtMatrixLayoutCreate) layout_create;
    decltype(&cublasLtMatrixLayoutSetAttribute) layout_set;
    decltype(&cublasLtMatrixLayoutDestroy) layout_destroy;
    decltype(&cublasLtMatmulPreferenceCreate) wish_create;
    decltype(&cublasLtMatmulPreferenceSetAttribute) wish_set;
    decltype(&cublasLtMatmulPreferenceDestroy) wish_destroy;
    decltype(&cublasLtMatmulAlgoGetHeuristic) ask;
    decltype(&cublasLtMatmul) multiply;
};

/* ---- open and close -------------------------------------------------------------------------- */

template <typename F> static bool find(struct lt *lt, const char *name, F *function)
{
    *function = (F)dlsym(lt->library, name);
    return *function != NULL;
}

static bool find_all(struct lt *lt)
{
    return find(lt, "cublasLtDestroy", &lt->destroy) &&
           find(lt, "cublasLtMatmulDescCreate", &lt->work_create) &&
           find(lt, "cublasLtMatmulDescSetAttribute", &lt->work_set) &&
           find(lt, "cublasLtMatmulDescDestroy", &lt->work_destroy) &&
           find(lt, "cublasLtMatrixLayoutCreate", &lt->layout_create) &&
           find(lt, "cublasLtMatrixLayoutSetAttribute", &lt->layout_set) &&
           find(lt, "cublasLtMatrixLayoutDestroy", &lt->layout_destroy) &&
           find(lt, "cublasLtMatmulPreferenceCreate", &lt->wish_create) &&
           find(lt, "cublasLtMatmulPreferenceSetAttribute", &lt->wish_set) &&
           find(lt, "cublasLtMatmulPreferenceDestroy", &lt->wish_destroy) &&
           find(lt, "cublasLtMatmulAlgoGetHeuristic", &lt->ask) &&
           find(lt, "cublasLtMatmul", &lt->multiply);
}

struct lt *lt_open(void)
{
    static const char *const names[] = {"libcublasLt.so.13", "libcublasLt.so.12"};
    decltype(&cublasLtCreate) create;
    struct lt *lt = (struct lt *)mem_take(sizeof *lt);
    for (size_t i = 0; lt && !lt->library && i < sizeof names / sizeof *names; i++)
        lt->library = dlopen(names[i], RTLD_NOW | RTLD_LOCAL);
    if (lt && lt->library && find_all(lt) && find(lt, "cublasLtCreate", &create) &&
        create(&lt->handle) == CUBLAS_STATUS_SUCCESS)
        return lt;
    if (lt && lt->library) dlclose(lt->library);
    mem_give(lt);
    return NULL;
}

static void forget(struct lt *lt, struct plan *p)
{
    if (p->work) lt->work_destroy(p->work);
    if (p->w) lt->layout_destroy(p->w);
    if (p->x) lt->layout_destroy(p->x);
    if (p->y) lt->layout_destroy(p->y);
    *p = {};
}

void lt_close(struct lt *lt)
{
    if (!lt) return;
    for (int i = 0; i < PLANS; i++) forget(lt, &lt->plan[i]);
    lt->destroy(lt->handle);
    dlclose(lt->library);
    mem_give(lt);
}

/* ---- plans ----------------------------------------------------------------------------------- */

static bool good(cublasStatus_t status) { return status == CUBLAS_STATUS_SUCCESS; }

/* The library's matrices lie by columns: W is [K, N] to it, x [K, T], and y [N, T] = W^T x. */
static bool describe(struct lt *lt, struct plan *p)
{
    const cublasOperation_t turn = CUBLAS_OP_T;
    const struct product *of = &p->of;
    const cudaDataType_t y = of->y_type == DTYPE_F32 ? CUDA_R_32F : CUDA_R_16BF;
    return good(lt->work_create(&p->work, CUBLAS_COMPUTE_32F, CUDA_R_32F)) &&
           good(lt->work_set(p->work, CUBLASLT_MATMUL_DESC_TRANSA, &turn, sizeof turn)) &&
           good(lt->layout_create(&p->w, CUDA_R_16BF, of->K, of->N, of->w_stride)) &&
           good(lt->layout_create(&p->x, CUDA_R_16BF, of->K, of->T, of->x_stride)) &&
           good(lt->layout_create(&p->y, y, of->N, of->T, of->y_stride));
}

static bool choose(struct lt *lt, struct plan *p)
{
    const struct product *of = &p->of;
    cublasLtMatmulPreference_t wish = NULL;
    cublasLtMatmulHeuristicResult_t found = {};
    int count = 0;
    const bool ok =
        good(lt->wish_create(&wish)) &&
        good(lt->wish_set(wish, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, &of->w_align, 4)) &&
        good(lt->wish_set(wish, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, &of->x_align, 4)) &&
        good(lt->wish_set(wish, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, &of->y_align, 4)) &&
        good(lt->wish_set(wish, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, &of->y_align, 4)) &&
        good(lt->ask(lt->handle, p->work, p->w, p->x, p->y, p->y, wish, 1, &found, &count)) &&
        count > 0 && good(found.state);
    if (wish) lt->wish_destroy(wish);
    p->algo = found.algo;
    return ok;
}

static struct plan *plan_of(struct lt *lt, const struct product &of)
{
    for (int i = 0; i < PLANS; i++)
        if (lt->plan[i].work && memcmp(&lt->plan[i].of, &of, sizeof of) == 0) return &lt->plan[i];
    struct plan *p = &lt->plan[lt->plans++ % PLANS];
    forget(lt, p);
    p->of = of;
    p->usable = describe(lt, p) && choose(lt, p);
    return p;
}

/* ---- products -------------------------------------------------------------------------------- */

static uint32_t align_of(const void *at)
{
    const size_t bits = (size_t)at | WIDEST;
    return (uint32_t)(bits & (~bits + 1));
}

static bool run_piece(struct device *device, struct lt *lt, const struct view &x,
                      const struct view &y, const struct piece &w, int64_t K)
{
    const uint64_t T = (uint64_t)x.dim[0];
    const float one = 1.0f, zero = 0.0f;
    char *to = (char *)y.data + w.row * (int64_t)dtype_size(y.dtype);
    struct product of;
    memset(&of, 0, sizeof of); /* gaps as well: it is compared whole */
    of.N = w.rows, of.K = K, of.y_type = y.dtype;
    for (of.T = LEAST_ROWS; of.T < x.dim[0]; of.T *= 2) {}
    of.w_stride = w.stride, of.x_stride = x.stride[0], of.y_stride = y.stride[0];
    of.w_align = align_of(w.data), of.x_align = align_of(x.data), of.y_align = align_of(to);
    struct plan *p = plan_of(lt, of);
    return p->usable &&
           good(lt->layout_set(p->x, CUBLASLT_MATRIX_LAYOUT_COLS, &T, sizeof T)) &&
           good(lt->layout_set(p->y, CUBLASLT_MATRIX_LAYOUT_COLS, &T, sizeof T)) &&
           good(lt->multiply(lt->handle, p->work, &one, w.data, p->w, x.data, p->x, &zero, to, p->y,
                             to, p->y, &p->algo, NULL, 0, cuda_stream(device)));
}

#else

struct lt *lt_open(void) { return NULL; }
void lt_close(struct lt *lt) { (void)lt; }
static bool run_piece(struct device *, struct lt *, const struct view &, const struct view &,
                      const struct piece &, int64_t)
{
    return false;
}

#endif

void linear_lt(struct device *device, const struct view &x, const struct view &y, struct pieces *w)
{
    struct lt *lt = cuda_lt(device);
    if (!lt || x.dim[0] < LEAST_ROWS || device->status != GDN_OK) return;
    int32_t left = 0;
    for (int32_t i = 0; i < w->count; i++)
        if (w->piece[i].rows < LEAST_COLUMNS || !run_piece(device, lt, x, y, w->piece[i], w->K))
            w->piece[left++] = w->piece[i];
    w->count = left;
}
