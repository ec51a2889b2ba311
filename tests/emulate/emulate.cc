/* emulate.cc: blocks, fibers, barriers, captures. See cuda_runtime.h. x86-64 only. */
#include "cuda_runtime.h"

#include <cstdio>
#include <cstdlib>
#include <iterator>
#include <map>
#include <vector>

#include "tensor/dtype.h"

/* ---- fibers --------------------------------------------------------------------------------------- */

static const size_t EMULATED_MEMORY = (size_t)2 << 30; /* of the whole GPU */
enum { MOST = 1024, LANES = 32, STACK = 128 << 10, SHARED = 256 << 10 };
enum state { RUNS, AT_WARP, AT_BLOCK, AT_GATE, GONE };

/* A copy to shared memory that has not arrived; NULL: zeros. */
struct copy {
    char *to;
    const void *from;
    size_t bytes;
    unsigned group;
};

struct fiber {
    struct emulated_thread at;
    std::vector<copy> copies;
    unsigned groups; /* of copies, ended */
    void *stack_pointer;
    enum state state;
    char *stack;
};

static fiber fibers[MOST];
static void *scheduler;
static fiber *current;
static const std::function<void()> *body;
static uint64_t slots[MOST / LANES][LANES * 8];
alignas(16) static char shared_memory[SHARED];

/* Of the block that runs: phases that are over, bytes that are expected in this one. */
struct gate {
    bool arrived;
    int phases, expected, asked;
    std::vector<std::function<void()>> copies;
};
static std::map<char *, gate> gates;

struct emulated_thread *emulated;
dim3 emulated_threads, emulated_grid;

extern "C" void emulated_switch(void **save, void *to);
__asm__(".text\n.globl emulated_switch\nemulated_switch:\n"
        "push %rbp\npush %rbx\npush %r12\npush %r13\npush %r14\npush %r15\n"
        "mov %rsp,(%rdi)\nmov %rsi,%rsp\n"
        "pop %r15\npop %r14\npop %r13\npop %r12\npop %rbx\npop %rbp\nret\n");

static void leave(enum state state)
{
    fiber *f = current;
    f->state = state;
    emulated_switch(&f->stack_pointer, scheduler);
}

static void begin()
{
    (*body)();
    leave(GONE);
}

static void prepare(fiber *f)
{
    if (!f->stack) f->stack = (char *)aligned_alloc(64, STACK);
    void **top = (void **)(f->stack + STACK) - 2;
    *top-- = (void *)begin; /* where `ret` goes; the stack is then as after a call */
    for (int i = 0; i < 6; i++) *top-- = nullptr;
    f->stack_pointer = top + 1;
    f->copies.clear();
    f->groups = 0;
    f->state = RUNS;
}

static void resume(fiber *f)
{
    current = f;
    emulated = &f->at;
    emulated_switch(&scheduler, f->stack_pointer);
}

void emulated_wait(bool warp) { leave(warp ? AT_WARP : AT_BLOCK); }

/* Of all threads of the block. */
int __syncthreads_count(int mine)
{
    static int count;
    count += mine != 0;
    emulated_wait(false);
    const int all = count;
    emulated_wait(false);
    count = 0; /* everyone has it, nobody has added to the next */
    emulated_wait(false);
    return all;
}

void *emulated_shared(void) { return shared_memory; }
uint64_t *emulated_slots(void) { return slots[emulated->thread.x / LANES]; }

/* ---- a block ----------------------------------------------------------------------------------------- */

static int count(unsigned first, unsigned n, enum state state)
{
    int sum = 0;
    for (unsigned i = 0; i < n; i++) sum += fibers[first + i].state == state;
    return sum;
}

/* Until all lanes are gone, or stand at the block's barrier, or wait for others at a gate. */
static void run_warp(unsigned first, unsigned n, bool falling)
{
    for (;;) {
        for (unsigned i = 0; i < n; i++) {
            fiber *f = &fibers[first + (falling ? n - 1 - i : i)];
            if (f->state == RUNS) resume(f);
        }
        const int waits = count(first, n, AT_WARP);
        if (waits == 0 || count(first, n, AT_GATE) > 0) return;
        if (count(first, n, AT_BLOCK) > 0 || (waits < (int)n && count(first, n, GONE) == 0)) {
            fprintf(stderr, "emulate: a warp stands at two barriers\n");
            abort();
        }
        for (unsigned i = 0; i < n; i++)
            if (fibers[first + i].state == AT_WARP) fibers[first + i].state = RUNS;
    }
}

static void run_block(uint3 block, unsigned threads, size_t shared, bool falling)
{
    const unsigned warps = (threads + LANES - 1) / LANES;
    unsigned tries = 0;
    memset(shared_memory, 0xff, shared);
    gates.clear();
    for (unsigned i = 0; i < threads; i++) {
        fibers[i].at = {{i, 0, 0}, block, i % LANES};
        prepare(&fibers[i]);
    }
    while (count(0, threads, GONE) < (int)threads) {
        for (unsigned w = 0; w < warps; w++) {
            const unsigned first = LANES * (falling ? warps - 1 - w : w);
            run_warp(first, threads - first < LANES ? threads - first : LANES, falling);
        }
        const bool closed = count(0, threads, AT_GATE) > 0; /* a gate: the barrier waits, too */
        const enum state free = closed ? AT_GATE : AT_BLOCK;
        for (unsigned i = 0; i < threads; i++)
            if (fibers[i].state == free) fibers[i].state = RUNS;
        if (closed && ++tries > threads) {
            fprintf(stderr, "emulate: a gate that does not open\n");
            abort();
        }
        if (!closed) tries = 0;
    }
}

void emulated_launch(dim3 grid, dim3 threads, size_t shared, const std::function<void()> &kernel)
{
    static bool falling;
    if (shared > SHARED || threads.x > MOST) abort();
    falling = !falling;
    body = &kernel;
    emulated_threads = threads;
    emulated_grid = grid;
    const uint64_t all = (uint64_t)grid.x * grid.y * grid.z;
    for (uint64_t n = 0; n < all; n++) {
        const uint64_t i = falling ? all - 1 - n : n;
        run_block(uint3{(unsigned)(i % grid.x), (unsigned)(i / grid.x % grid.y),
                        (unsigned)(i / grid.x / grid.y)}, threads.x, shared, falling);
    }
}

/* One chain of exact products for each element: k ascending. */
void emulated_mma(float d[4], uint32_t a0, uint32_t a1, uint32_t a2, uint32_t a3, uint32_t b0,
                  uint32_t b1)
{
    uint64_t *slot = emulated_slots();
    const unsigned lane = emulated->lane;
    const uint32_t mine[6] = {a0, a1, a2, a3, b0, b1};
    for (int i = 0; i < 6; i++) slot[8 * lane + (unsigned)i] = mine[i];
    emulated_wait(true);
    for (unsigned e = 0; e < 4; e++) {
        const unsigned row = lane / 4 + 8 * (e / 2), column = 2 * (lane % 4) + e % 2;
        float sum = d[e];
        for (unsigned k = 0; k < 16; k++) {
            const unsigned q = k % 8 / 2, high = k / 8;
            const uint64_t a = slot[8 * (4 * (row % 8) + q) + row / 8 + 2 * high];
            const uint64_t b = slot[8 * (4 * column + q) + 4 + high];
            sum = fmaf(bf16_to_f32((uint16_t)(a >> 16 * (k % 2))),
                       bf16_to_f32((uint16_t)(b >> 16 * (k % 2))), sum);
        }
        d[e] = sum;
    }
    emulated_wait(true);
}

/* ---- matrices and copies (kernels/cuda/tiles.cuh) ------------------------------------------------------ */

void emulated_matrices(uint32_t (&r)[4], const char *row, bool turned)
{
    uint64_t *slot = emulated_slots();
    const unsigned lane = emulated->lane, g = lane / 4, q = lane % 4;
    slot[8 * lane] = (uint64_t)row;
    emulated_wait(true);
    for (unsigned i = 0; i < 4; i++) {
        const uint16_t *low = (const uint16_t *)slot[8 * (8 * i + (turned ? 2 * q : g))];
        const uint16_t *high = (const uint16_t *)slot[8 * (8 * i + (turned ? 2 * q + 1 : g))];
        r[i] = turned ? low[g] | (uint32_t)high[g] << 16
                      : low[2 * q] | (uint32_t)low[2 * q + 1] << 16;
    }
    emulated_wait(true);
}

void copy_later(shared_at to, const void *from, bool there)
{
    if (((uintptr_t)to | (there ? (uintptr_t)from : 0)) % 16 != 0) {
        fprintf(stderr, "emulate: a copy that is not aligned\n");
        abort();
    }
    current->copies.push_back({to, there ? from : nullptr, 16, current->groups});
}

void copy_four(shared_at to, const void *from)
{
    if (((uintptr_t)to | (uintptr_t)from) % 4 != 0) {
        fprintf(stderr, "emulate: a copy of four that is not aligned\n");
        abort();
    }
    current->copies.push_back({to, from, 4, current->groups});
}

void copies_end(void) { current->groups++; }

void emulated_arrive(unsigned groups)
{
    std::vector<copy> &all = current->copies;
    size_t n = 0;
    for (; n < all.size() && all[n].group + groups < current->groups; n++) {
        if (all[n].from)
            memcpy(all[n].to, all[n].from, all[n].bytes);
        else
            memset(all[n].to, 0, all[n].bytes);
    }
    all.erase(all.begin(), all.begin() + (std::ptrdiff_t)n);
}

/* Of gates that one thread arrives at: no kernel here has others. */
void gate_make(shared_at at, int arrivals)
{
    if (arrivals != 1) abort();
    gates[at] = {};
}

void gate_expect(shared_at at, int bytes)
{
    gate &g = gates.at(at);
    if (g.arrived) abort();
    g.arrived = true;
    g.expected = bytes;
}

void copy_long(shared_at to, const void *from, int bytes, shared_at at)
{
    if (((uintptr_t)to | (uintptr_t)from | (uintptr_t)bytes) % 16 != 0) abort();
    gate &g = gates.at(at);
    g.asked += bytes;
    g.copies.push_back([=] { memcpy(to, from, (size_t)bytes); });
}

void gate_wait(shared_at at, int phase)
{
    gate &g = gates.at(at);
    while (g.phases % 2 == phase) {
        if (!g.arrived || g.asked != g.expected) {
            leave(AT_GATE);
            continue;
        }
        for (const auto &copy : g.copies) copy();
        g = gate{false, g.phases + 1, 0, 0, {}};
    }
}

uint32_t bf16_pair(float x, float y)
{
    return f32_to_bf16(x) | (uint32_t)f32_to_bf16(y) << 16;
}

/* ---- the runtime -------------------------------------------------------------------------------------- */

struct emulated_graph {
    std::vector<std::function<void()>> work;
};
static emulated_graph *capture;
static std::vector<std::function<void()>> asked; /* of the stream, and not done yet */

void emulated_do(const std::function<void()> &work)
{
    (capture ? capture->work : asked).push_back(work);
}

cudaError_t cudaDeviceSynchronize(void)
{
    for (const auto &work : asked) work();
    asked.clear();
    return cudaSuccess;
}

cudaError_t cudaStreamSynchronize(cudaStream_t) { return cudaDeviceSynchronize(); }

/* A block begins behind its size, which stands 256 bytes before it. */
static size_t taken;

cudaError_t cudaMalloc(void **block, size_t bytes)
{
    *block = nullptr;
    if (bytes > EMULATED_MEMORY - taken) return cudaErrorMemoryAllocation;
    char *all = (char *)aligned_alloc(256, 256 + (bytes + 255) / 256 * 256);
    if (!all) return cudaErrorMemoryAllocation;
    taken += bytes;
    memcpy(all, &bytes, sizeof bytes);
    *block = all + 256;
    if (bytes < (64u << 20)) memset(*block, 0xff, bytes);
    return cudaSuccess;
}

cudaError_t cudaFree(void *block)
{
    cudaDeviceSynchronize();
    if (!block) return cudaSuccess;
    size_t bytes;
    memcpy(&bytes, (char *)block - 256, sizeof bytes);
    taken -= bytes;
    free((char *)block - 256);
    return cudaSuccess;
}

cudaError_t cudaMemGetInfo(size_t *free, size_t *all)
{
    *free = EMULATED_MEMORY - taken;
    *all = EMULATED_MEMORY;
    return cudaSuccess;
}

/* Memory of the host that the GPU itself reads and writes: where blocks begin, how long they are. */
static std::map<const char *, size_t> pinned;

cudaError_t cudaHostAlloc(void **block, size_t bytes, unsigned)
{
    const cudaError_t error = cudaMalloc(block, bytes);
    if (error == cudaSuccess) pinned[(const char *)*block] = bytes;
    return error;
}

cudaError_t cudaFreeHost(void *block)
{
    pinned.erase((const char *)block);
    return cudaFree(block);
}

static bool is_pinned(const void *at)
{
    const auto next = pinned.upper_bound((const char *)at);
    if (next == pinned.begin()) return false;
    const auto block = std::prev(next);
    return (const char *)at < block->first + block->second;
}

/* Other memory of the host has been read when the call returns, or has been written. */
cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t n, cudaMemcpyKind kind, cudaStream_t)
{
    if (kind == cudaMemcpyHostToDevice && !is_pinned(from)) {
        const std::vector<char> now((const char *)from, (const char *)from + n);
        emulated_do([=] { memcpy(to, now.data(), n); });
        return cudaSuccess;
    }
    emulated_do([=] { memcpy(to, from, n); });
    return kind == cudaMemcpyDeviceToHost && !is_pinned(to) ? cudaDeviceSynchronize() : cudaSuccess;
}

cudaError_t cudaMemsetAsync(void *to, int value, size_t n, cudaStream_t)
{
    emulated_do([=] { memset(to, value, n); });
    return cudaSuccess;
}

cudaError_t cudaStreamBeginCapture(cudaStream_t, int)
{
    capture = new emulated_graph;
    return cudaSuccess;
}

cudaError_t cudaStreamEndCapture(cudaStream_t, cudaGraph_t *graph)
{
    *graph = capture;
    capture = nullptr;
    return cudaSuccess;
}

cudaError_t cudaGraphInstantiate(cudaGraphExec_t *ready, cudaGraph_t graph, unsigned long long)
{
    *ready = new emulated_graph(*graph);
    return cudaSuccess;
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t graph, cudaStream_t)
{
    asked.insert(asked.end(), graph->work.begin(), graph->work.end());
    return cudaSuccess;
}

cudaError_t cudaGraphDestroy(cudaGraph_t graph)
{
    delete graph;
    return cudaSuccess;
}

cudaError_t cudaGraphExecDestroy(cudaGraphExec_t graph)
{
    delete graph;
    return cudaSuccess;
}
