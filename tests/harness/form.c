#include "harness/form.h"

#include <string.h>

#include "base/check.h"
#include "base/memory.h"

static enum dtype type_of(const struct machine *m, const struct want *want)
{
    return m->wide && !want->exact ? DTYPE_F64 : want->dtype;
}

/* A GPU's fast forms want rows at their natural places, its others must not. */
static bool natural(const struct machine *m)
{
    return !m->at->device->host && (m->shape.D + m->shape.Dk) % 16 == 0;
}

static bool open_field(struct machine *m, int i)
{
    struct want *w = &m->want[i];
    struct tensor t;
    w->dim[0] = FORM_ROOM;
    if (w->scale == 0) w->scale = 1;
    tensor_lay(&t, type_of(m, w), w->rank, w->dim, false);
    return box_open(&m->field[i], m->at->device, w->name,
                    i == m->fields - 1 ? ROLE_OUT : ROLE_IN, &t, natural(m) ? 0 : 2 * (i % 4) + 1);
}

static bool open_integers(struct box *box, struct machine *m, const char *name)
{
    struct tensor t;
    tensor_lay(&t, DTYPE_I32, 1, (int64_t[]){FORM_LEGS + 1}, false);
    return box_open(box, m->at->device, name, ROLE_IN, &t, 1);
}

bool machine_open(struct machine *m, const struct form *form, const struct shape *shape,
                  struct station *at, bool wide, struct verdict *v)
{
    *m = (struct machine){.form = form, .shape = *shape, .at = at, .wide = wide, .v = v};
    v->shape = *shape;
    m->fields = form->fields(&m->shape, m->want);
    bool open = open_integers(&m->start, m, "start") && open_integers(&m->pos, m, "pos") &&
                open_integers(&m->slot, m, "slot");
    for (int i = 0; i < m->fields; i++) open = open && open_field(m, i);
    m->rows = (struct rows){.start = m->start.t.data, .pos = m->pos.t.data,
                            .slot = m->slot.t.data};
    if (open) form->lay(m);
    for (int i = 0; i < m->states; i++) open = open && m->state[i].block;
    if (EXPECT(v, open, "no memory for a machine")) return true;
    machine_close(m);
    return false;
}

void machine_close(struct machine *m)
{
    for (int i = 0; i < m->fields; i++) box_close(&m->field[i]);
    for (int i = 0; i < m->states; i++) box_close(&m->state[i]);
    box_close(&m->start);
    box_close(&m->pos);
    box_close(&m->slot);
    m->fields = m->states = 0;
}

void *machine_state(struct machine *m, const char *name, enum dtype dtype, int64_t elements,
                    bool zero)
{
    GDN_CHECK(m->states < FORM_STATES, "more than %d state arrays", FORM_STATES);
    struct box *box = &m->state[m->states++];
    struct tensor t;
    tensor_lay(&t, dtype, 1, (int64_t[]){elements}, false);
    if (!box_open(box, m->at->device, name, ROLE_ADDED, &t, natural(m) ? 0 : 1)) return NULL;
    for (int64_t i = 0; zero && i < elements; i++) box_poke(box, i, 0);
    box_upload(box);
    return box->t.data;
}

void machine_fill(struct machine *m, void *state, uint64_t seed)
{
    for (int i = 0; i < m->states; i++) {
        struct box *box = &m->state[i];
        if (box->t.data != state) continue;
        const struct filling f = {.fill = FILL_STEADY, .scale = 1, .seed = seed,
                                  .dtype = DTYPE_BF16};
        const int64_t n = tensor_elements(&box->t);
        double *x = mem_take_array((size_t)n, sizeof *x);
        if (!x) return;
        fill_values(&f, x, n, n);
        box_set(box, x);
        box_upload(box);
        mem_give(x);
    }
}

void machine_reset(struct machine *m)
{
    for (int i = 0; i < m->states; i++) box_upload(&m->state[i]);
}

size_t machine_row(const struct machine *m, int field)
{
    const struct want *w = &m->want[field];
    size_t n = dtype_size(type_of(m, w));
    for (int i = 1; i < w->rank; i++) n *= (size_t)w->dim[i];
    return n;
}

static unsigned char *row_in(const struct machine *m, unsigned char *image, int field, int row)
{
    return image + m->field[field].lead + (size_t)row * machine_row(m, field);
}

/* Rows of the legs into the call's tensors; returns how many rows. */
static int gather(struct machine *m, const struct leg *leg, int legs)
{
    int rows = 0;
    box_poke(&m->start, 0, 0);
    for (int b = 0; b < legs; b++) {
        for (int i = 0; i < m->fields - 1; i++) {
            const size_t bytes = machine_row(m, i);
            memcpy(row_in(m, m->field[i].before, i, rows),
                   leg[b].stream->row[i] + (size_t)leg[b].from * bytes,
                   (size_t)leg[b].count * bytes);
        }
        rows += leg[b].count;
        box_poke(&m->start, b + 1, rows);
        box_poke(&m->pos, b, leg[b].from);
        box_poke(&m->slot, b, leg[b].slot);
    }
    GDN_CHECK(rows <= FORM_ROOM && legs <= FORM_LEGS, "%d rows in %d legs", rows, legs);
    return rows;
}

bool machine_feed(struct machine *m, const struct leg *leg, int legs, bool draft)
{
    const int rows = gather(m, leg, legs), out = m->fields - 1;
    m->rows.B = legs;
    m->rows.T = rows;
    m->rows.draft = draft;
    for (int i = 0; i < m->fields; i++) {
        box_rows(&m->field[i], rows);
        box_upload(&m->field[i]);
        box_fence(&m->field[i], true);
    }
    box_upload(&m->start);
    box_upload(&m->pos);
    box_upload(&m->slot);
    const bool ran =
        station_run(m->at, m->at->device->forward[m->form->op], &m->args, m->v);
    for (int i = 0; i < m->fields; i++) {
        box_fence(&m->field[i], false);
        box_download(&m->field[i]);
        if (ran) box_inspect(&m->field[i], m->v);
    }
    const size_t bytes = machine_row(m, out);
    for (int b = 0, row = 0; b < legs; row += leg[b++].count)
        memcpy(leg[b].out + (size_t)leg[b].from * bytes, row_in(m, m->field[out].after, out, row),
               (size_t)leg[b].count * bytes);
    return ran;
}

bool machine_feed_one(struct machine *m, const struct stream *s, unsigned char *out, int slot,
                      int from, int count, bool draft)
{
    return machine_feed(m, &(struct leg){s, out, slot, from, count}, 1, draft);
}

void machine_download(struct machine *m)
{
    for (int i = 0; i < m->states; i++) {
        box_download(&m->state[i]);
        box_inspect(&m->state[i], m->v);
    }
}

bool machine_save(struct machine *m, struct bytes *out)
{
    machine_download(m);
    out->len = 0;
    for (int i = 0; i < m->states; i++)
        bytes_add(out, m->state[i].after, m->state[i].bytes);
    return EXPECT(m->v, !out->failed, "no memory to save a state");
}

void machine_load(struct machine *m, const struct bytes *saved)
{
    size_t at = 0;
    for (int i = 0; i < m->states; at += m->state[i++].bytes)
        m->at->device->upload(m->at->device, m->state[i].block, saved->at + at,
                              m->state[i].bytes);
}

bool stream_open(struct stream *s, const struct machine *m, int tokens, uint64_t seed)
{
    *s = (struct stream){.tokens = tokens};
    for (int i = 0; i < m->fields - 1; i++) {
        const struct want *w = &m->want[i];
        const struct filling f = {.fill = w->fill, .scale = w->scale, .dtype = w->dtype,
                                  .regime = (enum regime)m->shape.regime,
                                  .decay = (enum decay)m->shape.decay,
                                  .seed = seed * 16 + (uint64_t)i};
        const enum dtype dtype = type_of(m, w);
        const size_t size = dtype_size(dtype), n = machine_row(m, i) / size * (size_t)tokens;
        double *x = mem_take_array(n + 1, sizeof *x);
        s->row[i] = mem_take_array(n + 1, size);
        if (x && s->row[i]) {
            fill_values(&f, x, (int64_t)n, w->dim[w->rank - 1]);
            for (size_t e = 0; e < n; e++) number_write(s->row[i] + e * size, dtype, x[e]);
        }
        mem_give(x);
        if (!EXPECT(m->v, x && s->row[i], "no memory for a stream")) return false;
    }
    return true;
}

void stream_close(struct stream *s)
{
    for (int i = 0; i < FORM_FIELDS; i++) mem_give(s->row[i]);
    *s = (struct stream){0};
}
