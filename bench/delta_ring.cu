/* gdn-bench-delta_ring: times the study of delta_ring.cuh as a CUDA graph, sequences at all places of
 * their blocks of 16 and inputs in turn from more memory than the L2 holds, after it has agreed with
 * sums in double.
 *
 *     gdn-bench-delta_ring */
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <vector>

#include "delta_ring.cuh"

enum { ROUNDS = 21, MULTIPROCESSORS = 132 };

static void must(cudaError_t error, const char *what)
{
    if (error == cudaSuccess) return;
    fprintf(stderr, "gdn-bench-delta_ring: %s: %s\n", what, cudaGetErrorString(error));
    exit(1);
}

template <int STRIPS> static void launch(const call &c, cudaStream_t stream)
{
    enum { STAGES = 3, LOGS = STRIPS == 4 ? 2 : 3 };
    const size_t room = sizeof(hall<STRIPS, STAGES, LOGS>);
    void (*kernel)(const call) = ring<STRIPS, STAGES, LOGS>;
    must(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, (int)room), "room");
    const int blocks = MULTIPROCESSORS * (STRIPS == 4 ? 1 : 2), items = c.B * HV * (4 / STRIPS);
    cudaLaunchAttribute early = {};
    early.id = cudaLaunchAttributeProgrammaticStreamSerialization;
    early.val.programmaticStreamSerializationAllowed = 1;
    cudaLaunchConfig_t config = {};
    config.gridDim = dim3((unsigned)std::min(blocks, items)), config.blockDim = dim3(THREADS);
    config.dynamicSmemBytes = room, config.stream = stream;
    config.attrs = &early, config.numAttrs = 1;
    must(cudaLaunchKernelEx(&config, kernel, c), "launch");
}

/* Few sequences have too few heads for all multiprocessors. */
static void launch(const call &c, cudaStream_t stream)
{
    if (c.B * HV > MULTIPROCESSORS / 2)
        launch<4>(c, stream);
    else
        launch<1>(c, stream);
}

/* ---- inputs ---------------------------------------------------------------------------------- */

struct inputs {
    int B;
    std::vector<float> A, U, G, g, beta;
    std::vector<__nv_bfloat16> K, q, k, v;
    std::vector<int> slot, base, pos;
};

static float random_number(float size)
{
    static uint64_t state = 1;
    state = state * 6364136223846793005u + 1442695040888963407u;
    return size * ((float)(state >> 40) / (1 << 23) - 1.0f);
}
static void fill(std::vector<float> &x, size_t n, float size)
{
    x.resize(n);
    for (float &e : x) e = random_number(size);
}
static void fill(std::vector<__nv_bfloat16> &x, size_t n, float size)
{
    x.resize(n);
    for (__nv_bfloat16 &e : x) e = __float2bfloat16(random_number(size));
}

static inputs make(int B, bool anchors)
{
    inputs in;
    const size_t b = (size_t)B;
    in.B = B, in.base.assign(b, 0);
    for (int i = 0; i < B; i++) in.slot.push_back(i), in.pos.push_back(1 + (7 * i + 3) % BLOCK);
    fill(in.A, anchors ? b * HV * D * D : 0, 0.3f), fill(in.U, b * BLOCK * HV * D, 1);
    fill(in.K, b * BLOCK * HK * D, 0.1f), fill(in.q, b * HK * D, 0.1f), fill(in.k, b * HK * D, 0.1f);
    fill(in.v, b * HV * D, 1), fill(in.g, b * HV, 0.1f), fill(in.beta, b * HV, 0.5f);
    fill(in.G, b * BLOCK * HV, 0.1f);
    for (float &x : in.g) x = -fabsf(x);
    for (size_t i = 0; i < in.G.size(); i++)
        in.G[i] = -fabsf(in.G[i]) + (i / HV % BLOCK ? in.G[i - HV] : 0.0f);
    return in;
}

template <typename T> static T *there(const std::vector<T> &x, size_t n)
{
    T *to = NULL;
    must(cudaMalloc(&to, n * sizeof(T)), "memory");
    must(cudaMemset(to, 0, n * sizeof(T)), "clear");
    must(cudaMemcpy(to, x.data(), x.size() * sizeof(T), cudaMemcpyHostToDevice), "copy");
    return to;
}
template <typename T> static std::vector<T> here(const T *from, size_t n)
{
    std::vector<T> x(n);
    must(cudaMemcpy(x.data(), from, n * sizeof(T), cudaMemcpyDeviceToHost), "copy");
    return x;
}

static call place(const inputs &in)
{
    const size_t b = (size_t)in.B;
    call c = {};
    c.B = in.B;
    c.anchor = there(in.A, b * HV * D * D), c.u_log = there(in.U, in.U.size());
    c.G_log = there(in.G, in.G.size()), c.k_log = there(in.K, in.K.size());
    c.q = there(in.q, in.q.size()), c.k = there(in.k, in.k.size()), c.v = there(in.v, in.v.size());
    c.g = there(in.g, in.g.size()), c.beta = there(in.beta, in.beta.size());
    c.slot = there(in.slot, b), c.pos = there(in.pos, b), c.base = there(in.base, b);
    c.o = there(std::vector<__nv_bfloat16>(), b * HV * D);
    c.arrivals = there(std::vector<unsigned>(), b);
    return c;
}

/* ---- check ----------------------------------------------------------------------------------- */

static double value(__nv_bfloat16 x) { return (double)__bfloat162float(x); }

/* u of head h of sequence b at column c, and o without its rounding; the anchor's column in S. */
static void reference(const inputs &in, int b, int h, int c, double *u, double *o, double S[D])
{
    const size_t entry = (size_t)b * BLOCK;
    auto key = [&](int i, int d) { return value(in.K[((entry + i) * HK + h / 2) * D + d]); };
    auto U = [&](int i) { return (double)in.U[((entry + i) * HV + h) * D + c]; };
    auto G = [&](int i) { return (double)in.G[(entry + i) * HV + h]; };
    int m = in.pos[b];
    for (int d = 0; d < D; d++) {
        S[d] = in.A[(((size_t)b * HV + h) * 4 + c / STRIP) * D * STRIP + d * STRIP + c % STRIP];
        if (m < BLOCK) continue;
        S[d] *= exp(G(BLOCK - 1));
        for (int i = 0; i < BLOCK; i++) S[d] += exp(G(BLOCK - 1) - G(i)) * key(i, d) * U(i);
    }
    if (m == BLOCK) m = 0;
    const size_t row = ((size_t)b * HK + h / 2) * D, head = (size_t)b * HV + h;
    const double now = (m ? G(m - 1) : 0) + in.g[head];
    double Sk = 0, Sq = 0, kq = 0;
    for (int d = 0; d < D; d++) {
        Sk += S[d] * value(in.k[row + d]) * exp(now), Sq += S[d] * value(in.q[row + d]) * exp(now);
        kq += value(in.k[row + d]) * value(in.q[row + d]);
    }
    for (int i = 0; i < m; i++) {
        double kk = 0, ki = 0;
        for (int d = 0; d < D; d++)
            kk += key(i, d) * value(in.k[row + d]), ki += key(i, d) * value(in.q[row + d]);
        Sk += exp(now - G(i)) * kk * U(i), Sq += exp(now - G(i)) * ki * U(i);
    }
    *u = in.beta[head] * (value(in.v[head * D + c]) - Sk);
    *o = Sq + kq * *u;
}

static void check(int B)
{
    const inputs in = make(B, true);
    call c = place(in);
    c.step = BLOCK;
    launch(c, 0);
    must(cudaDeviceSynchronize(), "run");
    const std::vector<float> A = here(c.anchor, in.A.size()), U = here(c.u_log, in.U.size());
    const std::vector<__nv_bfloat16> O = here(c.o, (size_t)B * HV * D);
    const std::vector<int> base = here(c.base, (size_t)B);
    double off_u = 0, all_u = 0, off_o = 0, all_o = 0, off_A = 0, S[D], u, o;
    int bases = 0;
    for (int b = 0; b < B; b++) {
        const bool folds = in.pos[b] == BLOCK;
        bases += base[b] == (folds ? BLOCK : 0);
        for (int h = b % 3; h < HV; h += 3)
            for (int col = 0; col < D; col++) {
                reference(in, b, h, col, &u, &o, S);
                const size_t m = folds ? 0 : in.pos[b];
                const double got = U[(((size_t)b * BLOCK + m) * HV + h) * D + col];
                off_u += (u - got) * (u - got), all_u += u * u;
                const double out = value(O[((size_t)b * HV + h) * D + col]);
                off_o += (o - out) * (o - out), all_o += o * o;
                const float *strip = &A[(((size_t)b * HV + h) * 4 + col / STRIP) * D * STRIP];
                for (int d = 0; d < D; d++)
                    off_A = std::max(off_A, fabs(S[d] - strip[d * STRIP + col % STRIP]));
            }
    }
    printf("B = %d: u off by %.1e, o (bf16) by %.1e, anchors by at most %.1e; %d of %d bases right\n",
           B, sqrt(off_u / all_u), sqrt(off_o / all_o), off_A, bases, B);
}

/* ---- time ------------------------------------------------------------------------------------ */

static void time_calls(int B)
{
    const inputs in = make(B, false);
    const int sets = 1 + (int)(4.5e8 / (B * 2.2e6)), calls = std::max(sets, 8);
    std::vector<call> set;
    for (int i = 0; i < sets; i++) set.push_back(place(in));
    cudaStream_t stream;
    cudaGraph_t graph;
    cudaGraphExec_t ready;
    cudaEvent_t begin, end;
    must(cudaStreamCreate(&stream), "stream");
    must(cudaEventCreate(&begin), "event"), must(cudaEventCreate(&end), "event");
    must(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal), "record");
    for (int i = 0; i < calls; i++) launch(set[i % sets], stream);
    must(cudaStreamEndCapture(stream, &graph), "record");
    must(cudaGraphInstantiate(&ready, graph, 0), "record");
    std::vector<float> us;
    for (int r = 0; r <= ROUNDS; r++) {
        float ms;
        cudaEventRecord(begin, stream);
        must(cudaGraphLaunch(ready, stream), "play");
        cudaEventRecord(end, stream);
        must(cudaStreamSynchronize(stream), "play");
        cudaEventElapsedTime(&ms, begin, end);
        if (r > 0) us.push_back(1000 * ms / (float)calls);
    }
    std::sort(us.begin(), us.end());
    printf("B = %3d: %7.2f us (least %.2f, most %.2f)\n", B, us[ROUNDS / 2], us[0], us[ROUNDS - 1]);
    for (call &c : set)
        for (const void *x : {(const void *)c.anchor, (const void *)c.u_log, (const void *)c.G_log,
                              (const void *)c.k_log, (const void *)c.o, (const void *)c.q,
                              (const void *)c.k, (const void *)c.v, (const void *)c.g,
                              (const void *)c.beta, (const void *)c.slot, (const void *)c.pos,
                              (const void *)c.base, (const void *)c.arrivals})
            must(cudaFree((void *)x), "give back");
}

int main(void)
{
    int gpus = 0;
    if (cudaGetDeviceCount(&gpus) != cudaSuccess || gpus == 0) {
        printf("gdn-bench-delta_ring: no GPU here\n");
        return 0;
    }
    for (int B : {2, 40}) check(B);
    for (int B : {256, 128, 32, 8, 1}) time_calls(B);
    return 0;
}
