/* Laws of a fused slot of op_delta_mix, where a device has one: it is its parts, and what holds of
 * state in slots holds of it. The parts are those of ops/mix.c; the reference has no fused slot, so
 * they judge. */
#include "ops/delta_form.h"
#include "ops/front.h"

/* The parts as a kernel, with all memory from scratch. */
static void parts(struct device *device, struct arena *scratch, const void *args)
{
    const struct delta_mix_args *a = args;
    op_kernel *const fused = device->forward[OP_DELTA_MIX];
    struct arena meta = {0};
    struct pass pass = {.device = device, .data = scratch, .meta = &meta, .rows = a->rows,
                        .compute = a->qkv->dtype};
    const struct delta_weight w = {
        .conv = a->conv, .A_log = a->A_log, .dt_bias = a->dt_bias, .norm = a->norm, .Hk = a->Hk,
        .Hv = a->Hv, .Dk = a->Dk, .Dv = a->Dv, .eps = a->eps, .beta_scale = a->beta_scale,
        .lower_bound = a->lower_bound, .act = a->act};
    /* They may write over what nobody reads any more; the caller's rows are not theirs. */
    struct tensor qkv = *a->qkv;
    const size_t bytes = (size_t)tensor_elements(&qkv) * dtype_size(qkv.dtype);
    qkv.data = arena_take(scratch, bytes);
    if (!qkv.data) return;
    device->copy(device, qkv.data, a->qkv->data, bytes);
    const struct delta_in in = {.qkv = &qkv, .z = a->z, .b = a->b, .a = a->a};
    if (!arena_open(&meta, 1 << 20)) return;
    device->forward[OP_DELTA_MIX] = NULL;
    const struct tensor *y = op_delta_mix(&pass, &w, &in, a->delta, a->tail);
    for (int64_t t = 0; t < y->dim[0]; t++) /* its rows may be columns of wider ones */
        device->copy(device, tensor_at(a->y, t * a->y->stride[0]), tensor_at(y, t * y->stride[0]),
                     (size_t)y->dim[1] * dtype_size(y->dtype));
    device->finish(device);
    device->forward[OP_DELTA_MIX] = fused;
    arena_close(&meta);
}

static int mix_fields(const struct shape *s, struct want *want)
{
    const enum dtype act = (enum dtype)s->act;
    const int64_t Hk = s->Hk, Hv = (int64_t)s->Hk * s->R, Dk = s->Dk, Dv = s->Dv;
    want[0] = (struct want){.name = "qkv", .dtype = act, DIM(0, 2 * Hk * Dk + Hv * Dv)};
    want[1] = (struct want){.name = "z", .dtype = act, DIM(0, Hv * Dv)};
    want[2] = (struct want){.name = "b", .dtype = act, DIM(0, Hv)};
    want[3] = (struct want){.name = "a", .dtype = act,
                            DIM(0, s->option & CHANNEL ? Hv * Dk : Hv)};
    want[4] = (struct want){.name = "y", .dtype = act, DIM(0, Hv * Dv), .roundings = 4};
    return 5;
}

/* A weight, behind the states. */
static struct tensor *weight(struct machine *m, int n, const char *name, int rank,
                             const int64_t *dim)
{
    const enum dtype type = m->wide ? DTYPE_F64 : DTYPE_F32;
    void *data = machine_state(m, name, type, rank == 2 ? dim[0] * dim[1] : dim[0], true);
    machine_fill(m, data, 3 + (uint64_t)n);
    m->held[n] = tensor_over(data, type, rank, dim);
    return &m->held[n];
}

static void lay_mix(struct machine *m)
{
    const struct shape *s = &m->shape;
    const int64_t Hv = (int64_t)s->Hk * s->R, C = 2ll * s->Hk * s->Dk + Hv * s->Dv;
    struct conv_slots *c = &m->conv;
    lay(m);
    *c = (struct conv_slots){.slots = FORM_SLOTS, .ring = s->W - 1 + s->slots, .C = (int32_t)C,
                             .dtype = m->wide ? DTYPE_F64 : (enum dtype)s->act};
    c->x = machine_state(m, "ring", c->dtype, (int64_t)FORM_SLOTS * c->ring * C, false);
    struct tensor *conv = weight(m, 0, "conv", 2, (int64_t[]){C, s->W});
    struct tensor *A_log = weight(m, 1, "A_log", 1, (int64_t[]){Hv});
    struct tensor *dt_bias =
        weight(m, 2, "dt_bias", s->option & CHANNEL ? 2 : 1, (int64_t[]){Hv, s->Dk});
    struct tensor *norm = weight(m, 3, "norm", 1, (int64_t[]){s->Dv});
    m->args.mix = (struct delta_mix_args){
        .qkv = &m->field[0].t, .z = &m->field[1].t, .b = &m->field[2].t, .a = &m->field[3].t,
        .conv = conv, .A_log = A_log, .dt_bias = dt_bias, .norm = norm, .y = &m->field[4].t,
        .rows = &m->rows, .delta = &m->delta, .tail = c, .Hk = s->Hk, .Hv = (int32_t)Hv,
        .Dk = s->Dk, .Dv = s->Dv, .eps = 1e-6, .beta_scale = 1.0, .act = ACT_SILU};
}

static const struct form mix_form = {
    .op = OP_DELTA_MIX, .fields = mix_fields, .lay = lay_mix, .canon = canon};

static bool fused(const struct device *device) { return device->forward[OP_DELTA_MIX] != NULL; }

/* With the parts standing in on the reference. */
static void beside_parts(struct lab *lab, struct verdict *v, const struct law *law)
{
    lab->ref.device->forward[OP_DELTA_MIX] = parts;
    law_reference(lab, v, law);
    lab->ref.device->forward[OP_DELTA_MIX] = NULL;
}

/* The same bits as the parts of the same device. */
static void equal_parts(struct machine *m, struct extent extent)
{
    enum { MOST = 64 };
    struct stream s;
    const size_t row = machine_row(m, m->fields - 1);
    unsigned char *got = mem_take_array(2 * MOST, row), *want = got ? got + MOST * row : NULL;
    struct bytes state[2] = {{0}, {0}};
    op_kernel *const slot = m->at->device->forward[OP_DELTA_MIX];
    if (stream_open(&s, m, extent.tokens, 5) && EXPECT(m->v, got, "no memory"))
        for (int way = 0; way < 2; way++) {
            m->at->device->forward[OP_DELTA_MIX] = way == 0 ? slot : parts;
            machine_reset(m);
            for (int at = 0, n = 1; at < extent.tokens; at += n, n = at % 7 + 1) {
                if (n > extent.tokens - at) n = extent.tokens - at;
                machine_feed_one(m, &s, way == 0 ? got : want, 1, at, n, false);
            }
            machine_download(m);
            canon(m, 1, extent.tokens, &state[way]);
        }
    m->at->device->forward[OP_DELTA_MIX] = slot;
    EXPECT(m->v, got && memcmp(got, want, (size_t)extent.tokens * row) == 0,
           "rows have other bits than those of the parts");
    EXPECT(m->v, state[0].len == state[1].len &&
                     memcmp(state[0].at, state[1].at, state[0].len) == 0,
           "the state has other bits than that of the parts");
    bytes_free(&state[0]), bytes_free(&state[1]);
    stream_close(&s);
    mem_give(got);
}

static const struct shape mixes[] = {
    BOTH_GATES(.Hk = 1, .R = 2, .Dk = 8, .Dv = 40, .W = 4, .slots = 32),
    BOTH_GATES(.Hk = 2, .R = 1, .Dk = 33, .Dv = 5, .W = 2, .slots = 16),
    BOTH_GATES(.Hk = 1, .R = 3, .Dk = 16, .Dv = 33, .W = 4, .slots = 32, .act = DTYPE_BF16),
    BOTH_GATES(.Hk = 1, .R = 2, .Dk = 32, .Dv = 32, .W = 3, .slots = 16, .weight = DTYPE_BF16),
};
static const struct shape wide[] = {
    BOTH_GATES(.Hk = 2, .R = 2, .Dk = 64, .Dv = 96, .W = 4, .slots = 16),
    BOTH_GATES(.Hk = 1, .R = 2, .Dk = 128, .Dv = 128, .W = 4, .slots = 32, .act = DTYPE_BF16),
};
static const struct shape speculating[] = {
    BOTH_GATES(.Hk = 1, .R = 2, .Dk = 8, .Dv = 7, .W = 4, .slots = 32),
};

/* Heads as models have them. Runs of fewer rows than make a prompt: the parts may have other sums for
 * those. */
static const struct shape models[] = {
    BOTH_GATES(.Hk = 1, .R = 2, .Dk = 128, .Dv = 128, .W = 4, .slots = 32, .act = DTYPE_BF16),
    BOTH_GATES(.Hk = 2, .R = 1, .Dk = 128, .Dv = 128, .W = 4, .slots = 32, .act = DTYPE_BF16,
               .weight = DTYPE_BF16),
};

/* In f32: between bf16 inputs and outputs the parts round at every seam. */
static const struct shape accurate[] = {
    BOTH_GATES(.Hk = 2, .R = 2, .Dk = 64, .Dv = 96, .W = 4, .slots = 16),
    BOTH_GATES(.Hk = 1, .R = 2, .Dk = 128, .Dv = 128, .W = 4, .slots = 32),
};

#define MIX_LAW(title, law, list, ...)                                                \
    {                                                                                 \
        .name = title, .run = law_under, .form = &mix_form, .holds = law,             \
        SHAPES(list), .extent = __VA_ARGS__, .applies = fused                         \
    }
static const struct law laws[] = {
    MIX_LAW("cuts", law_cuts, mixes, {.tokens = 40, .partitions = 10}),
    MIX_LAW("drafts", law_drafts, speculating, USUAL_EXTENT),
    MIX_LAW("rounds", law_rounds, speculating, {.rounds = 30}),
    MIX_LAW("together", law_together, mixes, USUAL_EXTENT),
    MIX_LAW("empty", law_empty, mixes, USUAL_EXTENT),
    MIX_LAW("parts", equal_parts, mixes, {.tokens = 50}),
    MIX_LAW("parts of wide heads", equal_parts, wide, {.tokens = 34}),
    MIX_LAW("cuts of models' heads", law_cuts, models, {.tokens = 31, .partitions = 6}),
    MIX_LAW("drafts of models' heads", law_short_drafts, models, {.tokens = 31}),
    MIX_LAW("rounds of models' heads", law_rounds, models, {.rounds = 6}),
    MIX_LAW("models' heads together", law_together, models, {.tokens = 31}),
    MIX_LAW("models' heads, nothing", law_empty, models, {.tokens = 31}),
    {"reference", beside_parts, &mix_form, NULL, SHAPES(accurate), {.tokens = 40}, fused},
};
SUITE(delta_mix, .form = &mix_form, LAWS(laws));
