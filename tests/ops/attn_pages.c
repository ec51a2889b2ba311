/* Laws of op_attn on pages of 64 positions, scattered over the pool; values of their own width, or
 * the front of the keys. */
#include <math.h>

#include "harness/laws.h"
#include "harness/suite.h"

enum { ROW_PAGES = FORM_ROOM / PAGE, PAGES = FORM_SLOTS * ROW_PAGES };

enum { LATENT = 1 };

static int fields(const struct shape *s, struct want *want)
{
    const enum dtype act = (enum dtype)s->act;
    const int64_t Hkv = s->Hk, Hq = (int64_t)s->Hk * s->R;
    want[0] = (struct want){.name = "q", .dtype = act, DIM(0, Hq, s->D), .fill = FILL_STEADY};
    want[1] = (struct want){.name = "k", .dtype = act, DIM(0, Hkv, s->D), .fill = FILL_STEADY};
    /* Latent values are a window of k, which no field can be: what is given here is not read. */
    want[2] = (struct want){.name = "v", .dtype = act, DIM(0, Hkv, s->Dv)};
    want[3] = (struct want){.name = "o", .dtype = act, DIM(0, Hq, s->Dv),
                            .made = MADE_BF16};
    return 4;
}

/* Pages of a slot lie neither together nor in order. */
static int page_of(int slot, int number) { return (slot * ROW_PAGES + number) * 13 % PAGES; }

static void lay(struct machine *m)
{
    const struct shape *s = &m->shape;
    struct kv_pages *p = &m->pages;
    *p = (struct kv_pages){.pages = PAGES, .Hkv = s->Hk, .D = s->D, .Dv = s->Dv,
                           .row_pages = ROW_PAGES, .dtype = m->wide ? DTYPE_F64 : (enum dtype)s->act};
    const int64_t rows = (int64_t)PAGES * PAGE * s->Hk;
    p->k = machine_state(m, "keys", p->dtype, rows * s->D, false);
    void *values = machine_state(m, "values", p->dtype, rows * s->Dv, false);
    if (s->option != LATENT) p->v = values;
    p->table = machine_state(m, "table", DTYPE_I32, PAGES, true);
    struct box *table = &m->state[2];
    for (int i = 0; i < PAGES && table->block; i++)
        box_poke(table, i, page_of(i / ROW_PAGES, i % ROW_PAGES));
    if (table->block) box_upload(table);
    m->args.attn = (struct attn_args){
        .q = &m->field[0].t, .k = &m->field[1].t, .v = &m->field[2].t, .o = &m->field[3].t,
        .rows = &m->rows, .pages = p, .scale = 1 / sqrt((double)s->D)};
}

static void canon(const struct machine *m, int slot, int pos, struct bytes *out)
{
    const struct kv_pages *p = &m->pages;
    for (int at = 0; at < pos; at++)
        for (int i = 0; i < (p->v ? 2 : 1); i++) {
            const size_t row = (size_t)p->Hkv * (size_t)(i ? p->Dv : p->D) * dtype_size(p->dtype);
            const size_t place = (size_t)page_of(slot, at / PAGE) * PAGE + (size_t)(at % PAGE);
            bytes_add(out, m->state[i].after + m->state[i].lead + place * row, row);
        }
}

static const struct form form = {.op = OP_ATTN, .fields = fields, .lay = lay, .canon = canon};

static const struct shape shapes[] = {
    {.Hk = 1, .R = 2, .D = 8, .Dv = 8, .slots = 16},
    {.Hk = 2, .R = 1, .D = 5, .Dv = 7, .slots = 16, .act = DTYPE_BF16},
    {.Hk = 1, .R = 3, .D = 33, .Dv = 20, .slots = 16, .option = LATENT},
};
static const struct shape speculating[] = {
    {.Hk = 1, .R = 2, .D = 4, .Dv = 4, .slots = 32},
    {.Hk = 1, .R = 3, .D = 32, .Dv = 32, .slots = 32, .act = DTYPE_BF16}};

/* Heads as models have them, whose prompts some devices take by other kernels. */
static const struct shape prompts[] = {
    {.Hk = 1, .R = 3, .D = 64, .Dv = 64, .slots = 32, .act = DTYPE_BF16},
    {.Hk = 2, .R = 1, .D = 256, .Dv = 256, .slots = 16, .act = DTYPE_BF16}};

#define OVER_PAGES {.tokens = 150, .partitions = HARNESS_SANITIZED ? 10 : 40}
static const struct law laws[] = {
    FORM_LAW(cuts, shapes, OVER_PAGES),
    FORM_LAW(sizes, speculating, {.tokens = 1100}),
    FORM_LAW(drafts, speculating, USUAL_EXTENT),
    FORM_LAW(rounds, speculating, USUAL_EXTENT),
    FORM_LAW(together, shapes, USUAL_EXTENT),
    FORM_LAW(empty, shapes, USUAL_EXTENT),
    {"reference", law_reference, &form, NULL, SHAPES(shapes), OVER_PAGES},
    {"prompts", law_prompts, &form, NULL, SHAPES(prompts), OVER_PAGES},
};
SUITE(attn_pages, .form = &form, LAWS(laws));
