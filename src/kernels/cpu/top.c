/* top.c: of each row of logits the `best` largest, largest first, ties by lower id, and the
 * logsumexp. A NaN is ordered and reported as -inf. Truth: kernels/ref/top.c.
 *
 * The chosen so far are a heap with the worst at its root. Ids ascend, so an element enters only
 * when it is larger than the worst: a tile whose largest is not is passed over at once. */
#include "kernels/cpu/cpu.h"

enum { MOST = 256 };

static float largest(const float *x, int64_t n)
{
    float lane[CPU_LANES], most = -INFINITY;
    int64_t k = 0;
    for (int l = 0; l < CPU_LANES; l++) lane[l] = -INFINITY;
    for (; k + CPU_LANES <= n; k += CPU_LANES)
        for (int l = 0; l < CPU_LANES; l++)
            lane[l] = cpu_select(x[k + l] > lane[l], x[k + l], lane[l]);
    for (; k < n; k++) most = x[k] > most ? x[k] : most;
    for (int l = 0; l < CPU_LANES; l++) most = lane[l] > most ? lane[l] : most;
    return most;
}

float cpu_lse_add(struct cpu_lse *lse, const float *x, int64_t n)
{
    float e[CPU_LSE_TILE], lane[CPU_LANES] = {0};
    int64_t whole = n - n % CPU_LANES;
    float most = largest(x, n), max = most > lse->max ? most : lse->max;
    float shift = isinf(max) ? 0.0f : max; /* inf - inf would be NaN */
    for (int64_t k = 0; k < n; k++) e[k] = cpu_expf(x[k] - shift);
    for (int64_t k = 0; k < whole; k += CPU_LANES)
        for (int l = 0; l < CPU_LANES; l++) lane[l] += e[k + l];
    for (int64_t k = whole; k < n; k++) lane[k - whole] += e[k];
    lse->sum = lse->sum * cpu_expf(lse->max - shift) + cpu_lanes_sum(lane);
    lse->max = max;
    return most;
}

struct heap {
    int32_t count, room;
    float value[MOST];
    int32_t id[MOST];
};

static bool worse(const struct heap *h, int32_t a, int32_t b)
{
    if (h->value[a] != h->value[b]) return h->value[a] < h->value[b];
    return h->id[a] > h->id[b];
}

static void swap(struct heap *h, int32_t a, int32_t b)
{
    float value = h->value[a];
    int32_t id = h->id[a];
    h->value[a] = h->value[b];
    h->id[a] = h->id[b];
    h->value[b] = value;
    h->id[b] = id;
}

static void sink(struct heap *h, int32_t at)
{
    for (;;) {
        int32_t least = at;
        for (int32_t child = 2 * at + 1; child <= 2 * at + 2 && child < h->count; child++)
            if (worse(h, child, least)) least = child;
        if (least == at) return;
        swap(h, at, least);
        at = least;
    }
}

static void offer(struct heap *h, float value, int32_t id)
{
    if (h->count < h->room) {
        int32_t at = h->count++;
        h->value[at] = value;
        h->id[at] = id;
        for (; at > 0 && worse(h, at, (at - 1) / 2); at = (at - 1) / 2) swap(h, at, (at - 1) / 2);
    } else if (value > h->value[0]) {
        h->value[0] = value;
        h->id[0] = id;
        sink(h, 0);
    }
}

static void top_row(const struct top_args *a, int64_t row, struct heap *heap)
{
    const char *logits = cpu_row(a->logits, row);
    enum dtype dtype = a->logits->dtype;
    struct cpu_lse lse = {-INFINITY, 0.0f};
    float tile[CPU_LSE_TILE];
    int64_t n;
    heap->count = 0;
    for (int64_t v = 0; v < a->vocab; v += n) {
        n = a->vocab - v < CPU_LSE_TILE ? a->vocab - v : CPU_LSE_TILE;
        cpu_load_row(tile, logits + v * (int64_t)dtype_size(dtype), dtype, n);
        float most = cpu_lse_add(&lse, tile, n);
        if (!heap->room || (heap->count == heap->room && !(most > heap->value[0]))) continue;
        for (int64_t i = 0; i < n; i++)
            offer(heap, isnan(tile[i]) ? -INFINITY : tile[i], (int32_t)(v + i));
    }
    a->lse[row] = (float)cpu_lse_value(&lse);
    while (heap->count > 0) {
        int64_t to = row * a->best + --heap->count;
        a->ids[to] = heap->id[0];
        a->values[to] = heap->value[0];
        swap(heap, 0, heap->count);
        sink(heap, 0);
    }
}

static void top_rows(void *context, int64_t begin, int64_t end, int thread)
{
    const struct top_args *a = context;
    struct heap heap = {.room = a->best};
    (void)thread;
    for (int64_t row = begin; row < end; row++) top_row(a, row, &heap);
}

void cpu_top_forward(struct device *device, struct arena *scratch, const void *args)
{
    struct top_args a = *(const struct top_args *)args;
    (void)scratch;
    GDN_CHECK(a.best >= 0 && a.best <= MOST, "the best %d", a.best);
    pool_run(device->pool, cpu_rows(a.logits), 1, top_rows, &a);
}
