#include "run/head.h"

#include "base/check.h"
#include "base/memory.h"

/* Below this a head costs little whatever it reads. */
enum { HALVED = 2048 };

void head_guesses(struct engine *e, int32_t first)
{
    const struct config *c = e->config;
    const struct linear_part *all = e->weights->head.part;
    struct guessable *g = &e->guessable;
    int32_t last = e->vocab;
    for (int32_t i = 0; i < c->eos_count; i++)
        if (c->eos[i] >= first && c->eos[i] < last) last = c->eos[i];
    GDN_CHECK(e->weights->head.parts == 1, "a head in parts");
    g->part[0] = (struct linear_part){.w = all->w, .from = all->from, .rows = first};
    g->part[1] = (struct linear_part){.w = all->w, .from = all->from + last,
                                      .rows = e->vocab - last, .row = first};
    g->jump = last - first;
    g->head = (struct linear){.N = first + e->vocab - last, .K = e->weights->head.K,
                              .parts = last < e->vocab ? 2 : 1, .part = g->part};
}

void head_open(struct engine *e)
{
    head_guesses(e, e->vocab >= HALVED ? e->vocab / 512 * 256 : e->vocab);
}

static struct layer_state *layer_of(const struct engine *e)
{
    return &e->state.layer[e->config->layers];
}

/* Where the ring has the vector of a position, and the slot its token. */
static int32_t place_of(const struct engine *e, int32_t position)
{
    return position % layer_of(e)->conv.ring;
}

int32_t head_due(const struct engine *e, int32_t slot)
{
    return e->state.slot[slot].position - state_first(&e->state, slot);
}

void head_put(struct engine *e, int32_t b, int32_t t, int32_t slot, int32_t first, int32_t n)
{
    start_of(e, e->stage)[b] = t;
    start_of(e, e->stage)[b + 1] = t + n;
    pos_of(e, e->stage)[b] = first;
    slot_of(e, e->stage)[b] = slot;
    for (int32_t i = 0; i < n; i++) {
        ids_of(e->stage)[t + i] = e->state.slot[slot].recent[place_of(e, first + i + 1)];
        targets_of(e, e->stage)[t + i] = slot * layer_of(e)->conv.ring + place_of(e, first + i);
    }
}

void head_asked(struct engine *e, int32_t slot, int32_t id)
{
    struct slot *s = &e->state.slot[slot];
    s->head = s->position;
    s->recent[place_of(e, s->position)] = id;
}

struct mtp_in head_in(struct engine *e, struct pass *pass, void *vectors, int32_t n)
{
    struct tensor all = tensor_over(vectors, e->compute, 2, (int64_t[]){n, e->config->D});
    return (struct mtp_in){e->weights->embed,
                           op_embed(pass, &all, targets_of(e, e->on_device), pass->rows->T),
                           ids_of(e->on_device)};
}

/* ---- catching up ----------------------------------------------------------------------------- */

/* Rows that are due whatever comes next: as many as a pass has room for. */
static int32_t put_late(struct engine *e, const int32_t *slots, int count, int32_t *T)
{
    int32_t B = 0;
    *T = 0;
    for (int i = 0; i < count && *T < e->max_rows; i++) {
        const int32_t late = head_due(e, slots[i]) - 1, room = e->max_rows - *T;
        const int32_t n = late < room ? late : room;
        if (n <= 0) continue;
        head_put(e, B++, *T, slots[i], state_first(&e->state, slots[i]), n);
        *T += n;
    }
    return B;
}

static enum gdn_status run_late(struct engine *e, int32_t B, int32_t T)
{
    const struct rows rows = {.B = B, .T = T, .start = start_of(e, e->on_device),
                              .pos = pos_of(e, e->on_device), .slot = slot_of(e, e->on_device)};
    struct pass pass = {.device = e->device, .data = &e->data, .meta = &e->meta, .rows = &rows,
                        .compute = e->compute};
    arena_reset(&e->data);
    arena_reset(&e->meta);
    upload(e, e->stage, stage_ints(e));
    const struct mtp_in in = head_in(e, &pass, layer_of(e)->conv.x,
                                     e->state.slots * layer_of(e)->conv.ring);
    mtp_keep(&pass, e->mtp, &in, layer_of(e));
    e->device->finish(e->device); /* staging is filled again behind this */
    return pass_status(&pass);
}

enum gdn_status head_catch_up(struct engine *e, const int32_t *slots, int count,
                              struct gdn_error *err)
{
    int32_t T;
    for (int i = 0; i < count; i++)
        if (head_due(e, slots[i]) > 1) TRY(state_reserve(&e->state, slots[i], 0, err));
    for (int32_t B; (B = put_late(e, slots, count, &T)) > 0;) {
        mem_guard_raise();
        const enum gdn_status status = run_late(e, B, T);
        mem_guard_lower();
        if (status != GDN_OK)
            return error_set(err, status, "the draft head's pass of %d rows failed: %s", T,
                             pass_failed(status));
        for (int32_t b = 0; b < B; b++) {
            const int32_t *start = start_of(e, e->stage) + b;
            e->state.slot[slot_of(e, e->stage)[b]].head += start[1] - start[0];
        }
    }
    return GDN_OK;
}

enum gdn_status engine_settle(struct engine *e, int32_t slot, struct gdn_error *err)
{
    return e->mtp ? head_catch_up(e, &slot, 1, err) : GDN_OK;
}

/* ---- beside a pass --------------------------------------------------------------------------- */

/* Shorter stretches, and so all drafts, leave the head behind. */
static bool goes_along(const struct stretch *t) { return t->n > BLOCK; }

enum gdn_status head_make_room(struct engine *e, const struct piece *pieces, int32_t B,
                               struct gdn_error *err)
{
    int count = 0;
    for (int32_t b = 0; b < B; b++) {
        const struct stretch *t = &e->stretch[b];
        const int32_t slot = pieces[t->piece].slot, due = head_due(e, slot);
        if (goes_along(t) || due + t->n > layer_of(e)->conv.ring) e->late[count++] = slot;
    }
    return head_catch_up(e, e->late, count, err);
}

/* The last row that ran was made with the token that was asked behind: another one may come. */
static void note_tokens(struct engine *e, int32_t slot, const int32_t *ids, int32_t n)
{
    struct slot *s = &e->state.slot[slot];
    if (s->head == s->position && s->recent[place_of(e, s->position)] != ids[0])
        s->head = head_settled(s->position);
    for (int32_t i = n > HEAD_ROWS ? n - HEAD_ROWS : 0; i < n; i++)
        s->recent[place_of(e, s->position + i)] = ids[i];
}

/* Those that go along run one position back. The first of a sequence has no row before it. */
void head_stage(struct engine *e, const struct piece *pieces, int32_t B, int32_t T,
                struct rows *rows)
{
    int32_t *start = head_start_of(e, e->stage), *pos = head_pos_of(e, e->stage);
    int32_t *slot = head_slot_of(e, e->stage), n = 0;
    bool any = false;
    for (int32_t b = 0; b < B; b++) {
        const struct stretch *t = &e->stretch[b];
        const int32_t of = pieces[t->piece].slot, from = e->state.slot[of].position;
        const bool along = goes_along(t);
        note_tokens(e, of, pieces[t->piece].ids + t->from, t->n);
        any = any || along;
        start[n] = t->start;
        pos[n] = from > 0 ? from - 1 : 0;
        slot[n++] = from > 0 && along ? of : -1;
        if (from > 0) continue;
        start[n] = t->start + 1;
        pos[n] = 0;
        slot[n++] = along ? of : -1;
    }
    start[n] = T;
    *rows = (struct rows){.B = any ? n : 0, .T = T, .start = head_start_of(e, e->on_device),
                          .pos = head_pos_of(e, e->on_device),
                          .slot = head_slot_of(e, e->on_device)};
}

void head_run(struct engine *e, struct pass *pass, struct tensor *hidden, const struct rows *rows)
{
    const struct pass_mark mark = pass_mark(pass);
    const struct rows *of_pass = pass->rows;
    const struct mtp_in in = {e->weights->embed, mtp_shift(pass, e->mtp, hidden, layer_of(e)),
                              ids_of(e->on_device)};
    pass->rows = rows;
    if (rows->B > 0) mtp_keep(pass, e->mtp, &in, layer_of(e));
    pass->rows = of_pass;
    pass_forget(pass, mark);
}

void head_advance(struct engine *e, int32_t slot, int32_t n)
{
    if (e->mtp && n > BLOCK)
        e->state.slot[slot].head = head_settled(e->state.slot[slot].position);
}
