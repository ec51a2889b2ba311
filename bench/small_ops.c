/* gdn-bench-small_ops: times the ops between the matrix products (conv, gate, norms, glu, rope,
 * embed), whole calls, forward and backward, for every instruction set and one and two threads.
 *
 * Beside each time stand the bytes that must move at least and their share of what a plain copy of
 * as many bytes reaches with as many threads, measured in turn with it.
 *
 *     gdn-bench-small_ops [part of an op's name] */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cpu.h"
#include "base/memory.h"
#include "base/rng.h"
#include "bench.h"
#include "tensor/device.h"

enum { SEQUENCES = 8 };
static const double LIMIT = 0.12; /* seconds a row may take */

struct bench {
    struct device *device;
    struct arena data, scratch;
    op_kernel *kernel;
    char *to; /* the copy that it is held against */
    const char *from;
    bool backward;
    double bytes; /* of one call */
    struct tensor tensor[16];
    int tensors;
    int32_t start[SEQUENCES + 1], pos[SEQUENCES], slot[SEQUENCES];
    struct rows rows;
    struct conv_slots slots;
    int32_t *ids;
    union {
#define BENCH_ARGS(NAME, name, in, out) struct name##_args name;
        GDN_OPS(BENCH_ARGS)
#undef BENCH_ARGS
    } args;
};

struct row {
    const char *name;
    enum op op;
    void (*build)(struct bench *b, const struct row *row);
    int T, H, D;
    enum dtype dtype;
    bool plain;             /* conv: without SiLU */
    struct bench_want want; /* us, forward, one thread, AVX-512 */
};

/* ---- tensors -------------------------------------------------------------------------------- */

static void fill(const struct tensor *t, double scale)
{
    struct rng rng = {(uint64_t)t->dim[0], 0};
    double pool[1024];
    for (int i = 0; i < 1024; i++) pool[i] = scale * rng_normal(&rng);
    for (int64_t i = 0; i < tensor_elements(t); i++) {
        const float x = (float)pool[(i * 7 + i / 1024) % 1024];
        if (t->dtype == DTYPE_F32)
            ((float *)t->data)[i] = x;
        else
            ((uint16_t *)t->data)[i] = f32_to_bf16(x);
    }
}

/* A tensor, with its gradient in the way of a backward row, that counts as read or written. */
static struct tensor *make(struct bench *b, enum dtype dtype, int rank, const int64_t *dim)
{
    struct tensor *t = &b->tensor[b->tensors++];
    *t = tensor_over(NULL, dtype, rank, dim);
    const size_t count = (size_t)tensor_elements(t);
    t->data = bench_must(arena_take(&b->data, count * dtype_size(dtype)));
    fill(t, 1.0);
    b->bytes += (double)(count * dtype_size(dtype));
    if (!b->backward) return t;
    struct tensor *grad = &b->tensor[b->tensors++];
    *grad = tensor_over(NULL, DTYPE_F32, rank, dim);
    grad->data = bench_must(arena_take(&b->data, count * sizeof(float)));
    fill(grad, 1e-3);
    t->grad = grad;
    return t;
}
#define MATRIX(b, dtype, ...) make(b, dtype, 2, (int64_t[]){__VA_ARGS__})
#define HEADS(b, dtype, ...) make(b, dtype, 3, (int64_t[]){__VA_ARGS__})
#define VECTOR(b, n) make(b, DTYPE_F32, 1, (int64_t[]){n})

static const struct rows *one_sequence(struct bench *b, int T)
{
    b->start[1] = T;
    b->pos[0] = 100;
    b->rows = (struct rows){.B = 1, .T = T, .start = b->start, .pos = b->pos};
    return &b->rows;
}

/* ---- the ops -------------------------------------------------------------------------------- */

static void build_conv(struct bench *b, const struct row *r)
{
    struct conv_args *a = &b->args.conv;
    *a = (struct conv_args){.x = MATRIX(b, r->dtype, r->T, r->D),
                            .w = MATRIX(b, DTYPE_F32, r->D, 4),
                            .y = MATRIX(b, r->dtype, r->T, r->D), .rows = one_sequence(b, r->T),
                            .plain = r->plain};
    if (b->backward || r->T > 16) return;
    b->slots = (struct conv_slots){.slots = 1, .ring = 35, .C = r->D, .dtype = r->dtype};
    b->slots.x = MATRIX(b, r->dtype, 35, r->D)->data;
    b->bytes -= 28.0 * r->D * (double)dtype_size(r->dtype);
    b->rows.slot = b->slot;
    a->slots = &b->slots;
}

static void build_gate(struct bench *b, const struct row *r)
{
    struct gate_args *a = &b->args.gate;
    const int rank = r->D > 1 ? 3 : 2;
    const int64_t dim[] = {r->T, r->H, r->D};
    *a = (struct gate_args){.a = make(b, r->dtype, rank, dim), .b = MATRIX(b, r->dtype, r->T, r->H),
                            .A_log = VECTOR(b, r->H), .beta_scale = 1};
    a->dt_bias = make(b, DTYPE_F32, rank - 1, dim + 1);
    a->g = make(b, DTYPE_F32, rank, dim);
    a->beta = MATRIX(b, DTYPE_F32, r->T, r->H);
}

static void build_l2norm(struct bench *b, const struct row *r)
{
    b->args.l2norm = (struct l2norm_args){.x = HEADS(b, r->dtype, r->T, r->H, r->D),
                                          .y = HEADS(b, r->dtype, r->T, r->H, r->D),
                                          .eps = 1e-6, .scale = 1};
}

static void build_norm(struct bench *b, const struct row *r)
{
    b->args.norm = (struct norm_args){.x = HEADS(b, r->dtype, r->T, r->H, r->D),
                                      .w = VECTOR(b, r->D),
                                      .y = HEADS(b, r->dtype, r->T, r->H, r->D), .eps = 1e-6};
}

static void build_add_norm(struct bench *b, const struct row *r)
{
    b->args.add_norm = (struct add_norm_args){
        .x = MATRIX(b, r->dtype, r->T, r->D), .d = MATRIX(b, r->dtype, r->T, r->D),
        .w = VECTOR(b, r->D), .x1 = MATRIX(b, r->dtype, r->T, r->D),
        .y = MATRIX(b, r->dtype, r->T, r->D), .eps = 1e-6, .centred = true};
}

static void build_gated_norm(struct bench *b, const struct row *r)
{
    b->args.gated_norm = (struct gated_norm_args){
        .x = HEADS(b, r->dtype, r->T, r->H, r->D), .z = HEADS(b, r->dtype, r->T, r->H, r->D),
        .w = VECTOR(b, r->D), .y = HEADS(b, r->dtype, r->T, r->H, r->D), .eps = 1e-6};
}

static void build_rope(struct bench *b, const struct row *r)
{
    b->args.rope = (struct rope_args){.x = HEADS(b, r->dtype, r->T, r->H, r->D),
                                      .y = HEADS(b, r->dtype, r->T, r->H, r->D),
                                      .rows = one_sequence(b, r->T), .rot = r->D / 4, .theta = 1e7};
}

static void build_glu(struct bench *b, const struct row *r)
{
    b->args.glu = (struct glu_args){.a = MATRIX(b, r->dtype, r->T, r->D),
                                    .b = MATRIX(b, r->dtype, r->T, r->D),
                                    .y = MATRIX(b, r->dtype, r->T, r->D)};
}

static void build_embed(struct bench *b, const struct row *r)
{
    b->args.embed = (struct embed_args){.table = MATRIX(b, r->dtype, r->H, r->D),
                                        .y = MATRIX(b, r->dtype, r->T, r->D), .ids = b->ids};
    b->ids = bench_must(arena_take(&b->data, (size_t)r->T * sizeof *b->ids));
    for (int t = 0; t < r->T; t++) b->ids[t] = t * 37 % r->H;
    b->args.embed.ids = b->ids;
    b->bytes = 2.0 * r->T * r->D * (double)dtype_size(b->backward ? DTYPE_F32 : r->dtype);
}

static const struct row table[] = {
    {"conv", OP_CONV, build_conv, 1, 1, 6144, .dtype = DTYPE_F32},
    {"conv", OP_CONV, build_conv, 16, 1, 6144, .dtype = DTYPE_F32},
    {"conv", OP_CONV, build_conv, 512, 1, 6144, DTYPE_F32, .want = {13700, 3200, 1400, 1000}},
    {"conv plain", OP_CONV, build_conv, 512, 1, 6144, DTYPE_F32, .plain = true},
    {"conv", OP_CONV, build_conv, 512, 1, 6144, .dtype = DTYPE_BF16},
    {"gate", OP_GATE, build_gate, 1, 32, 1, .dtype = DTYPE_F32},
    {"gate", OP_GATE, build_gate, 512, 32, 1, .dtype = DTYPE_F32},
    {"gate (channels)", OP_GATE, build_gate, 512, 16, 128, .dtype = DTYPE_F32},
    {"l2norm", OP_L2NORM, build_l2norm, 1, 16, 128, .dtype = DTYPE_F32},
    {"l2norm", OP_L2NORM, build_l2norm, 512, 16, 128, .dtype = DTYPE_F32},
    {"norm", OP_NORM, build_norm, 1, 1, 1024, .dtype = DTYPE_F32},
    {"norm", OP_NORM, build_norm, 512, 8, 256, .dtype = DTYPE_F32},
    {"add_norm", OP_ADD_NORM, build_add_norm, 1, 1, 1024, .dtype = DTYPE_F32},
    {"add_norm", OP_ADD_NORM, build_add_norm, 512, 1, 1024, .dtype = DTYPE_F32},
    {"add_norm", OP_ADD_NORM, build_add_norm, 512, 1, 1024, .dtype = DTYPE_BF16},
    {"gated_norm", OP_GATED_NORM, build_gated_norm, 1, 16, 128, .dtype = DTYPE_F32},
    {"gated_norm", OP_GATED_NORM, build_gated_norm, 512, 16, 128, .dtype = DTYPE_F32},
    {"rope", OP_ROPE, build_rope, 1, 8, 256, .dtype = DTYPE_F32},
    {"rope", OP_ROPE, build_rope, 512, 8, 256, .dtype = DTYPE_F32},
    {"glu", OP_GLU, build_glu, 1, 1, 3584, .dtype = DTYPE_F32},
    {"glu", OP_GLU, build_glu, 512, 1, 3584, .dtype = DTYPE_F32},
    {"embed", OP_EMBED, build_embed, 512, 1024, 1024, .dtype = DTYPE_F32},
};

/* ---- timing --------------------------------------------------------------------------------- */

static void copy_share(void *context, int64_t begin, int64_t end, int thread)
{
    const struct bench *b = context;
    (void)thread;
    memcpy(b->to + begin, b->from + begin, (size_t)(end - begin));
}

static void copy(void *context)
{
    const struct bench *b = context;
    pool_run(b->device->pool, (int64_t)(b->bytes / 2), 4096, copy_share, context);
}

static void call(void *context)
{
    struct bench *b = context;
    b->kernel(b->device, &b->scratch, &b->args);
    arena_reset(&b->scratch);
}

static void time_isa(struct bench *b, const struct row *r, bool backward, int threads,
                     const struct bench_isa *isa)
{
    *b = (struct bench){.data = b->data, .scratch = b->scratch, .backward = backward};
    arena_reset(&b->data);
    b->device = bench_must(device_open("cpu", threads, isa->mask, NULL));
    r->build(b, r);
    b->kernel = (backward ? b->device->backward : b->device->forward)[r->op];
    const size_t half = (size_t)(b->bytes / 2) + 1;
    b->to = bench_must(arena_take(&b->data, half));
    b->from = memset(bench_must(arena_take(&b->data, half)), 1, half);
    const struct bench_roof roof = {.work = copy, .amount = b->bytes};
    const struct bench_time t = bench_run(call, b, threads, roof, LIMIT);
    printf("%-16s %-8s %-4s %5d %4d %5d %7d  %-8s %10.2f %8.2f %7.1f %6.0f", r->name,
           backward ? "backward" : "forward", dtype_name(r->dtype), r->T, r->H, r->D, threads,
           isa->roof->name, 1e6 * t.median, 1e-6 * b->bytes, 1e-9 * b->bytes / t.median,
           100 * b->bytes / t.median / t.roof);
    const bool asked = !backward && threads == 1 && isa == &bench_isas[BENCH_ISAS - 1];
    if (asked && r->want.must > 0)
        bench_print_want(&r->want, 1e6 * t.median);
    else
        printf("\n");
    fflush(stdout);
    device_close(b->device);
}

int main(int argc, char **argv)
{
    static struct bench b;
    if (argc > 2 || (argc == 2 && argv[1][0] == '-')) {
        fputs("gdn-bench-small_ops [part of an op's name]\n", stderr);
        return 2;
    }
    if (!arena_open(&b.data, (size_t)1 << 30) || !arena_open(&b.scratch, (size_t)1 << 28)) return 1;
    printf("%-16s %-8s %-4s %5s %4s %5s %7s  %-8s %10s %8s %7s %6s" BENCH_WANT "\n", "op", "way",
           "type", "T", "H", "D", "threads", "isa", "us", "MB", "GB/s", "% copy");
    for (size_t i = 0; i < sizeof table / sizeof *table; i++)
        for (int backward = 0; backward < 2; backward++)
            for (int threads = 1; threads <= 2 && threads <= cpu_count(); threads++)
                for (int isa = 0; isa < BENCH_ISAS && bench_has(&bench_isas[isa]); isa++)
                    if (argc == 1 || strstr(table[i].name, argv[1]))
                        time_isa(&b, &table[i], backward, threads, &bench_isas[isa]);
    arena_close(&b.data);
    arena_close(&b.scratch);
    return 0;
}
