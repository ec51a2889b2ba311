/* Laws of a fused slot of op_attn_mix, where a device has one: it is as close to the truth as its
 * parts, and what holds of keys and values in pages holds of it. The reference has no fused slot:
 * the parts of ops/mix.c stand in there, and judge. */
#include "harness/laws.h"
#include "harness/suite.h"
#include "ops/front.h"

enum { ROW_PAGES = FORM_ROOM / PAGE, PAGES = FORM_SLOTS * ROW_PAGES };
enum { GATED = 1, CENTRED = 2 };

/* The parts as a kernel, with all memory from scratch. */
static void parts(struct device *device, struct arena *scratch, const void *args)
{
    const struct attn_mix_args *a = args;
    op_kernel *const fused = device->forward[OP_ATTN_MIX];
    struct arena meta = {0};
    struct pass pass = {.device = device, .data = scratch, .meta = &meta, .rows = a->rows,
                        .compute = a->x->dtype};
    const struct attn_weight w = {.q_norm = a->q_norm, .k_norm = a->k_norm, .Hq = a->Hq,
                                  .Hkv = a->Hkv, .D = a->D, .rot = a->rot, .eps = a->eps,
                                  .theta = a->theta, .gated = a->gated, .centred = a->centred};
    if (!arena_open(&meta, 1 << 20)) return;
    device->forward[OP_ATTN_MIX] = NULL;
    const struct tensor *y = op_attn_mix(&pass, &w, a->x, a->pages);
    device->copy(device, a->y->data, y->data, (size_t)tensor_elements(y) * dtype_size(y->dtype));
    device->finish(device);
    device->forward[OP_ATTN_MIX] = fused;
    arena_close(&meta);
}

static int fields(const struct shape *s, struct want *want)
{
    const enum dtype act = (enum dtype)s->act;
    const int64_t Hq = (int64_t)s->Hk * s->R, q = s->option & GATED ? 2 : 1;
    want[0] = (struct want){.name = "x", .dtype = act, DIM(0, (q * Hq + 2 * s->Hk) * s->D)};
    want[1] = (struct want){.name = "y", .dtype = act, DIM(0, Hq * s->D), .made = MADE_BF16};
    return 2;
}

/* Pages of a slot lie neither together nor in order. */
static int page_of(int slot, int number) { return (slot * ROW_PAGES + number) * 13 % PAGES; }

static struct tensor *weight(struct machine *m, int n, const char *name)
{
    const enum dtype type = m->wide ? DTYPE_F64 : DTYPE_F32;
    void *data = machine_state(m, name, type, m->shape.D, true);
    machine_fill(m, data, 3 + (uint64_t)n);
    m->held[n] = tensor_over(data, type, 1, (int64_t[]){m->shape.D});
    return &m->held[n];
}

static void lay(struct machine *m)
{
    const struct shape *s = &m->shape;
    struct kv_pages *p = &m->pages;
    *p = (struct kv_pages){.pages = PAGES, .Hkv = s->Hk, .D = s->D, .Dv = s->D,
                           .row_pages = ROW_PAGES,
                           .dtype = m->wide ? DTYPE_F64 : (enum dtype)s->act};
    const int64_t rows = (int64_t)PAGES * PAGE * s->Hk;
    p->k = machine_state(m, "keys", p->dtype, rows * s->D, false);
    p->v = machine_state(m, "values", p->dtype, rows * s->D, false);
    p->table = machine_state(m, "table", DTYPE_I32, PAGES, true);
    struct box *table = &m->state[2];
    for (int i = 0; i < PAGES && table->block; i++)
        box_poke(table, i, page_of(i / ROW_PAGES, i % ROW_PAGES));
    if (table->block) box_upload(table);
    struct tensor *q_norm = weight(m, 0, "q_norm"), *k_norm = weight(m, 1, "k_norm");
    m->args.attn_mix = (struct attn_mix_args){
        .x = &m->field[0].t, .q_norm = q_norm, .k_norm = k_norm, .y = &m->field[1].t,
        .rows = &m->rows, .pages = p, .Hq = s->Hk * s->R, .Hkv = s->Hk, .D = s->D,
        .rot = s->D / 4 * 2, .eps = 1e-6, .theta = 10000, .gated = (s->option & GATED) != 0,
        .centred = (s->option & CENTRED) != 0};
}

static void canon(const struct machine *m, int slot, int pos, struct bytes *out)
{
    const struct kv_pages *p = &m->pages;
    const size_t row = (size_t)p->Hkv * (size_t)p->D * dtype_size(p->dtype);
    for (int at = 0; at < pos; at++)
        for (int i = 0; i < 2; i++) {
            const size_t place = (size_t)page_of(slot, at / PAGE) * PAGE + (size_t)(at % PAGE);
            bytes_add(out, m->state[i].after + m->state[i].lead + place * row, row);
        }
}

static const struct form form = {
    .op = OP_ATTN_MIX, .fields = fields, .lay = lay, .canon = canon};

static bool fused(const struct device *device) { return device->forward[OP_ATTN_MIX] != NULL; }

static void beside_parts(struct lab *lab, struct verdict *v, const struct law *law)
{
    lab->ref.device->forward[OP_ATTN_MIX] = parts;
    law_reference(lab, v, law);
    lab->ref.device->forward[OP_ATTN_MIX] = NULL;
}

static void prompts_beside_parts(struct lab *lab, struct verdict *v, const struct law *law)
{
    lab->ref.device->forward[OP_ATTN_MIX] = parts;
    law_prompts(lab, v, law);
    lab->ref.device->forward[OP_ATTN_MIX] = NULL;
}

static const struct shape shapes[] = {
    {.Hk = 1, .R = 2, .D = 8, .slots = 16, .option = GATED | CENTRED},
    {.Hk = 2, .R = 1, .D = 20, .slots = 32, .act = DTYPE_BF16},
};
/* Heads that a device may take on tensor cores: few rows one way, prompts another. */
static const struct shape heads[] = {
    {.Hk = 1, .R = 3, .D = 64, .slots = 32, .act = DTYPE_BF16, .option = GATED},
    {.Hk = 2, .R = 4, .D = 256, .slots = 32, .act = DTYPE_BF16, .option = GATED | CENTRED},
    {.Hk = 1, .R = 16, .D = 48, .slots = 32, .act = DTYPE_BF16},
};

#define LAW(title, law, list, ...)                                                \
    {                                                                             \
        .name = title, .run = law_under, .form = &form, .holds = law,             \
        SHAPES(list), .extent = __VA_ARGS__, .applies = fused                     \
    }
static const struct law laws[] = {
    LAW("cuts", law_cuts, shapes, {.tokens = 70, .partitions = 10}),
    LAW("drafts", law_drafts, shapes, USUAL_EXTENT),
    LAW("together", law_together, shapes, USUAL_EXTENT),
    LAW("empty", law_empty, shapes, USUAL_EXTENT),
    LAW("cuts of few", law_cuts, heads, {.tokens = 31, .partitions = 10}),
    LAW("rounds of few", law_rounds, heads, {.rounds = 6}),
    LAW("few together", law_together, heads, {.tokens = 30}),
    {"reference", beside_parts, &form, NULL, SHAPES(shapes), {.tokens = 150}, fused},
    {"prompts", prompts_beside_parts, &form, NULL, SHAPES(heads), {.tokens = 300}, fused},
};
SUITE(attn_mix, .form = &form, LAWS(laws));
