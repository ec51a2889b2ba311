/* device.cu: one GPU as a device: its memory, its queue (one stream), recordings (CUDA graphs) and
 * the packing of anchors.
 *
 * The runtime is linked statically and finds the driver when it is first asked for something: a
 * program with these kernels starts on a machine without a GPU. The first failure is kept in
 * device->status, for an error of a kernel shows only at some later call. */
#include "kernels/cuda/launch.cuh"

extern "C" {
#include "base/log.h"
#include "base/memory.h"
}

enum { ARRIVALS = 1 << 16 }; /* more sequences than a launch can have */

struct own {
    cudaStream_t stream;
    unsigned *arrivals;
    bool overlaps, lt_asked;
    size_t shared;
    int32_t processors;
    struct lt *lt;
};

static struct own *own_of(struct device *device) { return (struct own *)device->own; }

cudaStream_t cuda_stream(struct device *device) { return own_of(device)->stream; }

unsigned *cuda_arrivals(struct device *device, int64_t n)
{
    GDN_CHECK(n <= ARRIVALS, "cuda: %lld counters", (long long)n);
    return own_of(device)->arrivals;
}
bool cuda_overlaps(struct device *device) { return own_of(device)->overlaps; }

int32_t cuda_processors(struct device *device) { return own_of(device)->processors; }

size_t cuda_shared(struct device *device) { return own_of(device)->shared; }

struct lt *cuda_lt(struct device *device)
{
    struct own *own = own_of(device);
    if (!own->lt_asked) own->lt = lt_open();
    own->lt_asked = true;
    return own->lt;
}

bool cuda_good(struct device *device, cudaError_t error, const char *what)
{
    if (error == cudaSuccess) return true;
    cudaGetLastError(); /* what can be cleared is: the status keeps it */
    if (device->status == GDN_OK) {
        log_line(LOG_ERROR, "cuda: %s: %s", what, cudaGetErrorString(error));
        device->status = GDN_ERR_DEVICE;
    }
    return false;
}

/* ---- memory ---------------------------------------------------------------------------------- */

static void *take_dirty(size_t bytes)
{
    void *block = NULL;
    if (cudaMalloc(&block, bytes > 0 ? bytes : 1) == cudaSuccess) return block;
    cudaGetLastError(); /* no memory: an answer, not a failure of the device */
    return NULL;
}

static void *cuda_take(struct device *device, size_t bytes)
{
    void *block = take_dirty(bytes);
    if (block) cuda_good(device, cudaMemsetAsync(block, 0, bytes, cuda_stream(device)), "clear");
    return block;
}

static void cuda_give(struct device *device, void *block)
{
    (void)device;
    if (block) cudaFree(block); /* waits for what still reads it */
}

static size_t cuda_room(struct device *device)
{
    size_t some = 0, all = 0;
    cuda_good(device, cudaMemGetInfo(&some, &all), "memory");
    return some;
}

static void *cuda_stage(struct device *device, size_t bytes)
{
    void *block = NULL;
    (void)device;
    if (cudaHostAlloc(&block, bytes > 0 ? bytes : 1, cudaHostAllocDefault) != cudaSuccess) {
        cudaGetLastError();
        return NULL;
    }
    memset(block, 0, bytes);
    return block;
}

static void cuda_unstage(struct device *device, void *block)
{
    (void)device;
    if (block) cudaFreeHost(block);
}

static void cuda_finish(struct device *device)
{
    cuda_good(device, cudaStreamSynchronize(cuda_stream(device)), "wait");
}

static void copy(struct device *device, void *to, const void *from, size_t bytes,
                 enum cudaMemcpyKind kind)
{
    if (bytes > 0)
        cuda_good(device, cudaMemcpyAsync(to, from, bytes, kind, cuda_stream(device)), "copy");
}

static void cuda_upload(struct device *device, void *to, const void *from, size_t bytes)
{
    copy(device, to, from, bytes, cudaMemcpyHostToDevice);
}

static void cuda_download(struct device *device, void *to, const void *from, size_t bytes)
{
    copy(device, to, from, bytes, cudaMemcpyDeviceToHost);
    cuda_finish(device);
}

static void cuda_copy(struct device *device, void *to, const void *from, size_t bytes)
{
    copy(device, to, from, bytes, cudaMemcpyDeviceToDevice);
}

static void cuda_clear(struct device *device, void *to, size_t bytes)
{
    if (bytes > 0) cuda_good(device, cudaMemsetAsync(to, 0, bytes, cuda_stream(device)), "clear");
}

static bool cuda_arena_open(struct device *device, struct arena *arena, size_t bytes)
{
    (void)device;
    arena_remote(arena, take_dirty(bytes), bytes);
    return arena->base != NULL;
}

static void cuda_arena_close(struct device *device, struct arena *arena)
{
    if (arena->base) cuda_give(device, arena->base);
    memset(arena, 0, sizeof *arena);
}

/* ---- recordings ------------------------------------------------------------------------------ */

/* A launch takes some 2 KB of the device for its arguments, and the runtime takes memory by 2 MB. */
enum { RECORDING = 2 << 20 };

static void cuda_record(struct device *device)
{
    cuda_good(device, cudaStreamBeginCapture(cuda_stream(device), cudaStreamCaptureModeThreadLocal),
              "record");
}

static void *cuda_record_end(struct device *device)
{
    cudaGraph_t graph = NULL;
    cudaGraphExec_t ready = NULL;
    if (cudaStreamEndCapture(cuda_stream(device), &graph) == cudaSuccess && graph &&
        cudaGraphInstantiate(&ready, graph, 0) != cudaSuccess)
        ready = NULL;
    if (graph) cudaGraphDestroy(graph);
    cudaGetLastError();
    return ready;
}

static void cuda_play(struct device *device, void *recording)
{
    cuda_good(device, cudaGraphLaunch((cudaGraphExec_t)recording, cuda_stream(device)), "play");
}

static void cuda_forget(struct device *device, void *recording)
{
    (void)device;
    if (recording) cudaGraphExecDestroy((cudaGraphExec_t)recording);
}

/* ---- anchors --------------------------------------------------------------------------------- */

/* Strips of 32 columns; the last one is filled up with zeros. */
static int64_t strips_of(int32_t Dv) { return (Dv + STRIP - 1) / STRIP; }

int64_t cuda_anchor_elements(int32_t Hv, int32_t Dv, int32_t Dk)
{
    return Hv * strips_of(Dv) * STRIP * Dk;
}

enum { PIECE = 16 << 10 };

/* Slots may lie in device memory, or in the host's (a file being made): the runtime knows which. */
static char *anchor_of(const struct delta_slots *slots, int32_t slot)
{
    int32_t row = slot;
    cudaDeviceSynchronize(); /* cudaMemcpy does not wait for our stream */
    if (slots->anchor_row)
        cudaMemcpy(&row, slots->anchor_row + slot, sizeof row, cudaMemcpyDefault);
    return (char *)slots->anchor + row * slots->anchor_elements *
                                       (int64_t)dtype_size(slots->anchor_type);
}

/* Where element i of the packed anchor [Hv][strips][Dk][STRIP] stands in the dense one [Hv][Dv][Dk];
 * -1: nowhere. */
static int64_t dense_at(const struct delta_slots *s, int64_t i)
{
    const int64_t strips = strips_of(s->Dv), d = i / STRIP % s->Dk, strip = i / STRIP / s->Dk;
    const int64_t h = strip / strips, column = strip % strips * STRIP + i % STRIP;
    return column < s->Dv ? (h * s->Dv + column) * s->Dk + d : -1;
}

void cuda_anchor_pack(const struct delta_slots *slots, int32_t slot, const double *dense)
{
    char piece[PIECE], *to = anchor_of(slots, slot);
    const int64_t size = (int64_t)dtype_size(slots->anchor_type), most = PIECE / size;
    for (int64_t at = 0; at < slots->anchor_elements; at += most) {
        const int64_t left = slots->anchor_elements - at, n = left < most ? left : most;
        for (int64_t i = 0; i < n; i++) {
            const int64_t from_dense = dense_at(slots, at + i);
            dtype_store(piece, slots->anchor_type, i, from_dense < 0 ? 0.0 : dense[from_dense]);
        }
        cudaMemcpy(to + at * size, piece, (size_t)(n * size), cudaMemcpyDefault);
    }
    cudaDeviceSynchronize();
}

void cuda_anchor_unpack(const struct delta_slots *slots, int32_t slot, double *dense)
{
    char piece[PIECE], *from = anchor_of(slots, slot);
    const int64_t size = (int64_t)dtype_size(slots->anchor_type), most = PIECE / size;
    for (int64_t at = 0; at < slots->anchor_elements; at += most) {
        const int64_t left = slots->anchor_elements - at, n = left < most ? left : most;
        cudaMemcpy(piece, from + at * size, (size_t)(n * size), cudaMemcpyDefault);
        for (int64_t i = 0; i < n; i++)
            if (dense_at(slots, at + i) >= 0)
                dense[dense_at(slots, at + i)] = dtype_load(piece, slots->anchor_type, i);
    }
}

/* ---- open ------------------------------------------------------------------------------------ */

static void fill_memory(struct device *device)
{
    device->name = "cuda";
    device->wide = DTYPE_F32;
    device->pass_rows = 2048;
    device->take = cuda_take;
    device->give = cuda_give;
    device->room = cuda_room;
    device->stage = cuda_stage;
    device->unstage = cuda_unstage;
    device->finish = cuda_finish;
    device->upload = cuda_upload;
    device->download = cuda_download;
    device->copy = cuda_copy;
    device->clear = cuda_clear;
    device->draw = cuda_draw;
    device->arena_open = cuda_arena_open;
    device->arena_close = cuda_arena_close;
    device->record = cuda_record;
    device->record_end = cuda_record_end;
    device->play = cuda_play;
    device->forget = cuda_forget;
    device->recording_bytes = RECORDING;
    device->experts_place = cuda_experts_place;
    device->anchor_elements = cuda_anchor_elements;
    device->anchor_pack = cuda_anchor_pack;
    device->anchor_unpack = cuda_anchor_unpack;
}

static void fill_kernels(struct device *device)
{
    device->forward[OP_EMBED] = cuda_embed;
    device->forward[OP_ADD_NORM] = cuda_add_norm;
    device->forward[OP_LINEAR] = cuda_linear;
    device->forward[OP_ATTN_MIX] = cuda_attn_mix;
    device->forward[OP_ROUTE] = cuda_route;
    device->forward[OP_EXPERTS] = cuda_experts;
    device->forward[OP_TOP] = cuda_top;
    device->forward[OP_LINEAR_CE] = cuda_linear_ce;
    device->forward[OP_CONV] = cuda_conv;
    device->forward[OP_GATE] = cuda_gate;
    device->forward[OP_L2NORM] = cuda_l2norm;
    device->forward[OP_DELTA] = cuda_delta;
    device->forward[OP_DELTA_MIX] = cuda_delta_mix;
    device->forward[OP_NORM] = cuda_norm;
    device->forward[OP_GATED_NORM] = cuda_gated_norm;
    device->forward[OP_ROPE] = cuda_rope;
    device->forward[OP_ATTN] = cuda_attn;
    device->forward[OP_GLU] = cuda_glu;
    device->forward[OP_HEAD_LINEAR] = cuda_head_linear;
    device->forward[OP_JOIN] = cuda_join;
}

static enum gdn_status find_gpu(struct own *own, struct gdn_error *err)
{
    int count = 0, major = 0, minor = 0, shared = 0, processors = 0;
    const cudaError_t error = cudaGetDeviceCount(&count);
    if (error == cudaErrorInsufficientDriver)
        return error_set(err, GDN_ERR_UNSUPPORTED, "device cuda: found no NVIDIA driver, or one "
                         "from before CUDA %d.%d", CUDART_VERSION / 1000, CUDART_VERSION % 1000 / 10);
    if (error != cudaSuccess || count == 0)
        return error_set(err, GDN_ERR_UNSUPPORTED, "device cuda: found no GPU (%s)",
                         cudaGetErrorString(error));
    cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, 0);
    cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, 0);
    if (major < 8)
        return error_set(err, GDN_ERR_UNSUPPORTED, "device cuda: found a GPU of compute "
                         "capability %d.%d, need 8.0 or later", major, minor);
    cudaDeviceGetAttribute(&shared, cudaDevAttrMaxSharedMemoryPerBlockOptin, 0);
    cudaDeviceGetAttribute(&processors, cudaDevAttrMultiProcessorCount, 0);
    own->processors = processors;
    own->overlaps = major >= 9;
    own->shared = (size_t)shared;
    return GDN_OK;
}

enum gdn_status cuda_open(struct device *device, struct gdn_error *err)
{
    struct own found = {};
    TRY(find_gpu(&found, err));
    struct own *own = (struct own *)mem_take(sizeof *own);
    if (!own) return error_set(err, GDN_ERR_MEMORY, "no memory for a device");
    *own = found;
    const cudaError_t error = cudaStreamCreateWithFlags(&own->stream, cudaStreamNonBlocking);
    if (error != cudaSuccess) {
        mem_give(own);
        return error_set(err, GDN_ERR_DEVICE, "device cuda: the GPU cannot be used: %s",
                         cudaGetErrorString(error));
    }
    device->own = own;
    fill_memory(device);
    fill_kernels(device);
    own->arrivals = (unsigned *)cuda_take(device, ARRIVALS * sizeof *own->arrivals);
    if (own->arrivals) return GDN_OK;
    const size_t room = cuda_room(device);
    cuda_close(device);
    return error_set(err, GDN_ERR_MEMORY, "device cuda: its counters need %zu bytes, the GPU has "
                     "%zu", ARRIVALS * sizeof *own->arrivals, room);
}

void cuda_close(struct device *device)
{
    lt_close(own_of(device)->lt);
    cuda_give(device, own_of(device)->arrivals);
    cudaStreamDestroy(own_of(device)->stream);
    mem_give(device->own);
}
