#include "run/engine.h"

#include <math.h>
#include <string.h>

#include "base/check.h"
#include "base/memory.h"
#include "run/head.h"

enum { MAX_ROWS = 512, HEAD_BYTES = 32 << 20 };

/* ---- open and close -------------------------------------------------------------------------- */

static int32_t rows_of_head(const struct config *c, const struct device *device, int32_t max_rows)
{
    const int64_t n = HEAD_BYTES / ((int64_t)c->vocab * (int64_t)dtype_size(device->wide));
    return n < 1 ? 1 : n > max_rows ? max_rows : (int32_t)n;
}

static int32_t rows_of_pass(const struct device *device, const struct engine_options *o)
{
    if (o->max_rows == 0 && device->pass_rows > 0) return device->pass_rows;
    return o->max_rows > 0 ? o->max_rows : MAX_ROWS;
}

size_t engine_scratch_bytes(const struct config *c, const struct device *device,
                            const struct engine_options *o)
{
    enum { SYSTEM_PAGE = 4096 }; /* memory is reserved in these */
    const int32_t rows = rows_of_pass(device, o);
    const size_t bytes = forward_bytes(c, device, o->compute, rows, rows_of_head(c, device, rows));
    return (bytes + SYSTEM_PAGE - 1) / SYSTEM_PAGE * SYSTEM_PAGE;
}

/* 32-bit words of the best of n rows: ids, logits and logsumexp of each. */
static size_t best_words(size_t n) { return n * (2 * ENGINE_BEST + 1); }

static bool take_buffers(struct engine *e)
{
    struct device *dev = e->device;
    const struct config *c = e->config;
    const size_t width = (size_t)(c->vocab > c->D ? c->vocab : c->D);
    const size_t best = best_words((size_t)e->head_rows);
    e->calls = mem_take_array((size_t)c->layers, sizeof *e->calls);
    e->stage = dev->stage(dev, stage_ints(e) * sizeof *e->stage);
    e->on_device = dev->take(dev, stage_ints(e) * sizeof *e->stage);
    e->row = mem_take_array(width, sizeof(double));
    e->row_f32 = mem_take_array(width, sizeof(float));
    e->best = dev->take(dev, best * sizeof *e->best);
    e->best_stage = dev->stage(dev, best * sizeof *e->best_stage);
    e->choice = dev->take(dev, best_words(1) * sizeof *e->choice);
    e->choice_stage = dev->stage(dev, best_words(1) * sizeof *e->choice_stage);
    e->adjusted = dev->take(dev, (size_t)c->vocab * sizeof *e->adjusted);
    e->chain = dev->take(dev, (size_t)e->state.slots * (size_t)c->D * dtype_size(e->compute));
    e->stretch = mem_take_array((size_t)e->state.slots, sizeof *e->stretch);
    e->done = mem_take_array((size_t)e->state.slots, sizeof *e->done);
    e->late = mem_take_array((size_t)e->state.slots, sizeof *e->late);
    return e->calls && e->stage && e->stretch && e->done && e->late && e->on_device && e->row &&
           e->row_f32 && e->best && e->best_stage && e->choice && e->choice_stage && e->adjusted &&
           e->chain;
}

enum gdn_status engine_open(struct engine *e, const struct config *c, const struct weights *w,
                            int32_t vocab, struct device *device, const struct engine_options *o,
                            struct gdn_error *err)
{
    *e = (struct engine){.config = c, .weights = w, .device = device,
                         .mtp = o->mtp, .compute = o->compute, .fast = o->fast,
                         .max_rows = rows_of_pass(device, o), .context = o->context,
                         .vocab = vocab};
    e->head_rows = rows_of_head(c, device, e->max_rows);
    if (o->mtp) head_open(e);
    const int32_t layers = c->layers + (o->mtp != NULL);
    struct layer_shape *shape = mem_take_array((size_t)layers, sizeof *shape);
    if (!shape) return error_set(err, GDN_ERR_MEMORY, "no memory for %d layers", layers);
    for (int32_t i = 0; i < c->layers; i++) shape[i] = config_layer_shape(c, i);
    if (o->mtp) shape[c->layers] = mtp_shape(c);
    const struct state_options so = {.slots = o->slots, .entries = o->entries,
                                     .context = o->context, .compute = o->compute,
                                     .anchor = o->anchor};
    enum gdn_status status = state_open(&e->state, device, shape, layers, &so, err);
    mem_give(shape);
    if (status != GDN_OK) return status;
    const size_t scratch = engine_scratch_bytes(c, device, o);
    if (device->arena_open(device, &e->data, scratch) && arena_open(&e->meta, ENGINE_META) &&
        take_buffers(e))
        return GDN_OK;
    engine_close(e);
    return error_set(err, GDN_ERR_MEMORY, "no memory for an engine: %.1f MB of scratch for %d rows",
                     (double)scratch / 1e6, rows_of_pass(device, o));
}

void engine_close(struct engine *e)
{
    struct device *dev = e->device;
    if (!dev) return;
    replay_close(&e->replay, dev);
    dev->give(dev, e->on_device);
    dev->give(dev, e->best);
    dev->give(dev, e->choice);
    dev->unstage(dev, e->best_stage);
    dev->unstage(dev, e->choice_stage);
    dev->unstage(dev, e->stage);
    dev->give(dev, e->adjusted);
    dev->give(dev, e->chain);
    dev->arena_close(dev, &e->data);
    arena_close(&e->meta);
    state_close(&e->state);
    mem_give(e->calls);
    mem_give(e->stretch);
    mem_give(e->done);
    mem_give(e->late);
    mem_give(e->row);
    mem_give(e->row_f32);
    *e = (struct engine){0};
}

/* ---- one pass -------------------------------------------------------------------------------- */

struct step {
    struct engine *e;
    const struct piece *pieces;
    const struct sink *sink;
    bool draft;
    struct stretch *stretch; /* [B] */
    int32_t B, T, asked;    /* sequences, rows, rows whose best are wanted */
    struct rows rows, head; /* head: of the draft head */
    struct pass pass;
};

/* The rows whose best are wanted, into the list of wanted rows. */
static void list_best(struct step *s)
{
    int32_t *wanted = wanted_of(s->e, s->e->stage);
    s->asked = 0;
    for (int32_t i = 0; s->sink->best && i < s->B; i++) {
        const struct stretch *t = &s->stretch[i];
        const struct piece *p = &s->pieces[t->piece];
        for (int32_t r = 0; r < t->n; r++)
            if (p->best == BEST_EVERY || (p->best == BEST_LAST && t->from + r + 1 == p->n))
                wanted[s->asked++] = t->start + r;
    }
}

/* Fills staging from the stretches and sends it over in one copy. */
static void stage_rows(struct step *s)
{
    struct engine *e = s->e;
    int32_t *ids = ids_of(e->stage), *targets = targets_of(e, e->stage);
    int32_t *start = start_of(e, e->stage), *pos = pos_of(e, e->stage);
    int32_t *slot = slot_of(e, e->stage), end = 0;
    for (int32_t b = 0; b < s->B; b++) {
        const struct stretch *t = &s->stretch[b];
        const struct piece *p = &s->pieces[t->piece];
        start[b] = t->start;
        pos[b] = e->state.slot[p->slot].position;
        slot[b] = p->slot;
        if (pos[b] + t->n > end) end = pos[b] + t->n;
        for (int32_t i = 0; i < t->n; i++) {
            ids[t->start + i] = p->ids[t->from + i];
            targets[t->start + i] = t->from + i + 1 < p->n ? p->ids[t->from + i + 1] : -1;
        }
    }
    start[s->B] = s->T;
    list_best(s);
    if (e->mtp) head_stage(e, s->pieces, s->B, s->T, &s->head);
    upload(e, e->stage, stage_ints(e));
    s->rows = (struct rows){.B = s->B, .T = s->T, .start = start_of(e, e->on_device),
                            .pos = pos_of(e, e->on_device), .slot = slot_of(e, e->on_device),
                            .draft = s->draft, .reach = reach_of(end)};
    s->head.reach = s->rows.reach;
}

/* Row `row` of a dense tensor [n, width] as f32 on the host. */
static const float *fetch_row(struct engine *e, const struct tensor *t, int64_t row)
{
    const int64_t width = t->dim[1];
    e->device->download(e->device, e->row, tensor_at(t, row * t->stride[0]),
                        (size_t)width * dtype_size(t->dtype));
    for (int64_t i = 0; i < width; i++) {
        switch (t->dtype) {
        case DTYPE_F32: e->row_f32[i] = ((const float *)e->row)[i]; break;
        case DTYPE_BF16: e->row_f32[i] = bf16_to_f32(((const uint16_t *)e->row)[i]); break;
        default: e->row_f32[i] = (float)((const double *)e->row)[i]; break;
        }
    }
    return e->row_f32;
}

static void give_hidden(void *context, int32_t index, const struct tensor *x)
{
    struct step *s = context;
    for (int32_t b = 0; b < s->B; b++) {
        const struct stretch *t = &s->stretch[b];
        for (int32_t i = 0; i < t->n; i++)
            s->sink->hidden(s->sink->context, t->piece, t->from + i, index,
                            fetch_row(s->e, x, t->start + i), (int32_t)x->dim[1]);
    }
}

/* Logits of wanted rows first..first+n-1 of the pass's list, which stands in device memory. */
static struct tensor *head(struct step *s, struct tensor *hidden, int32_t first, int32_t n)
{
    return forward_logits(&s->pass, s->e->weights, hidden,
                          wanted_of(s->e, s->e->on_device) + first, n);
}

/* The stretch that a row of the pass is of; rows are asked for in their order. */
static struct stretch *stretch_of(const struct step *s, int32_t row, int32_t *b)
{
    while (row >= s->stretch[*b].start + s->stretch[*b].n) ++*b;
    return &s->stretch[*b];
}

static void give_logits(struct step *s, struct tensor *hidden)
{
    struct engine *e = s->e;
    int32_t *wanted = wanted_of(e, e->stage), n = 0, b = 0;
    for (int32_t i = 0; i < s->B; i++) {
        const struct stretch *t = &s->stretch[i];
        for (int32_t r = 0; r < t->n; r++)
            if (t->from + r >= s->pieces[t->piece].first_logits) wanted[n++] = t->start + r;
    }
    upload(e, wanted, (size_t)n);
    for (int32_t first = 0; first < n; first += e->head_rows) {
        const int32_t some = n - first < e->head_rows ? n - first : e->head_rows;
        const size_t data = arena_mark(&e->data), meta = arena_mark(&e->meta);
        struct tensor *logits = head(s, hidden, first, some);
        for (int32_t i = 0; pass_status(&s->pass) == GDN_OK && i < some; i++) {
            const struct stretch *t = stretch_of(s, wanted[first + i], &b);
            s->sink->logits(s->sink->context, t->piece, t->from + wanted[first + i] - t->start,
                            fetch_row(e, logits, i), e->config->vocab);
        }
        arena_release(&e->data, data);
        arena_release(&e->meta, meta);
    }
}

static void give_loss(struct step *s, struct tensor *hidden)
{
    struct engine *e = s->e;
    struct tensor *loss = op_linear_ce(&s->pass, &e->weights->head, hidden,
                                       targets_of(e, e->on_device), e->config->vocab);
    if (pass_status(&s->pass) != GDN_OK) return;
    for (int32_t b = 0; b < s->B; b++) {
        const struct stretch *t = &s->stretch[b];
        for (int32_t i = 0; i < t->n && t->from + i + 1 < s->pieces[t->piece].n; i++) {
            double wide;
            float narrow;
            if (loss->dtype == DTYPE_F64) {
                e->device->download(e->device, &wide, tensor_at(loss, t->start + i), sizeof wide);
            } else {
                e->device->download(e->device, &narrow, tensor_at(loss, t->start + i),
                                    sizeof narrow);
                wide = (double)narrow;
            }
            s->sink->loss(s->sink->context, t->piece, t->from + i, wide);
        }
    }
}

static int32_t best_of_row(const struct engine *e)
{
    return e->vocab < ENGINE_BEST ? e->vocab : ENGINE_BEST;
}

/* All that are kept of one row. */
static struct best best_of_one(struct step *s, struct tensor *row)
{
    struct engine *e = s->e;
    const int32_t k = best_of_row(e);
    find_best(&s->pass, row, e->vocab, k, e->choice);
    fetch_best(e, e->choice_stage, e->choice, 1, k);
    return best_of(e->choice_stage, 1, k, 0);
}

/* The best of the row as the sink would have it. */
static struct ranking adjust_best(struct step *s, const struct stretch *t, int32_t row)
{
    struct engine *e = s->e;
    float *changed = e->row;
    const size_t bytes = sizeof *changed * (size_t)e->vocab;
    memcpy(changed, e->row_f32, bytes);
    s->sink->adjust(s->sink->context, t->piece, row, changed, e->vocab);
    e->device->upload(e->device, e->adjusted, changed, bytes);
    struct tensor over = tensor_over(e->adjusted, DTYPE_F32, 2, (int64_t[]){1, e->vocab});
    return best_of_one(s, &over).model;
}

/* Row `row` of the pass and its best; its logits are row i of some, unless they are gone. */
static void give_row(struct step *s, struct stretch *t, struct tensor *logits, int32_t i,
                     int32_t row, struct best best)
{
    struct engine *e = s->e;
    const struct piece *p = &s->pieces[t->piece];
    const int32_t at = t->from + row - t->start;
    if (!s->draft) {
        t->judged = true;
        t->finite = isfinite(best.lse);
        if (!t->finite) return;
    }
    if (p->adjust) {
        best.row = fetch_row(e, logits, i);
        best.choice = adjust_best(s, t, at);
        if (pass_status(&s->pass) != GDN_OK) return;
    }
    const bool few = best.model.n < best_of_row(e);
    if (!s->sink->best(s->sink->context, t->piece, at, &best) || !few) return;
    struct tensor one = tensor_over(tensor_at(logits, i * logits->stride[0]), logits->dtype, 2,
                                    (int64_t[]){1, logits->dim[1]});
    best.model = best_of_one(s, &one).model;
    if (pass_status(&s->pass) == GDN_OK) s->sink->best(s->sink->context, t->piece, at, &best);
}

/* How many best are enough at first for all pieces. */
static int32_t few_of_row(const struct step *s)
{
    const int32_t all = best_of_row(s->e);
    int32_t most = 1;
    for (int32_t b = 0; b < s->B; b++) {
        const int32_t few = s->pieces[s->stretch[b].piece].few;
        if (few == 0 || few > most) most = few ? few : all;
    }
    return most < all ? most : all;
}

/* Hands out the best, of which k are found, of wanted rows first..first+n-1; logits NULL: k are
 * all, and nobody adjusts them. */
static void give_found(struct step *s, struct tensor *logits, int32_t first, int32_t n, int32_t k)
{
    struct engine *e = s->e;
    const int32_t *wanted = wanted_of(e, e->stage) + first;
    fetch_best(e, e->best_stage, e->best, n, k);
    for (int32_t i = 0, b = 0; pass_status(&s->pass) == GDN_OK && i < n; i++)
        give_row(s, stretch_of(s, wanted[i], &b), logits, i, wanted[i],
                 best_of(e->best_stage, n, k, i));
}

static void give_best(struct step *s, struct tensor *hidden)
{
    struct engine *e = s->e;
    list_best(s);
    if (s->asked == 0) return;
    upload(e, wanted_of(e, e->stage), (size_t)s->asked);
    for (int32_t first = 0; first < s->asked; first += e->head_rows) {
        const int32_t some = s->asked - first < e->head_rows ? s->asked - first : e->head_rows;
        const size_t data = arena_mark(&e->data), meta = arena_mark(&e->meta);
        struct tensor *logits = head(s, hidden, first, some);
        const int32_t k = few_of_row(s);
        find_best(&s->pass, logits, e->vocab, k, e->best);
        give_found(s, logits, first, some, k);
        arena_release(&e->data, data);
        arena_release(&e->meta, meta);
    }
}

/* Up to the vectors of all rows, after the last norm; NULL when something failed. */
static struct tensor *run_layers(struct step *s)
{
    struct engine *e = s->e;
    arena_reset(&e->data);
    arena_reset(&e->meta);
    struct forward f = {.weights = e->weights, .state = &e->state, .ids = ids_of(e->on_device),
                        .calls = e->calls, .context = s};
    if (s->sink->hidden) f.hidden = give_hidden;
    struct tensor *hidden = forward_run(&s->pass, &f);
    if (pass_status(&s->pass) == GDN_OK && e->mtp) head_run(e, &s->pass, hidden, &s->head);
    return pass_status(&s->pass) == GDN_OK ? hidden : NULL;
}

static void run_once(struct step *s)
{
    struct tensor *hidden = run_layers(s);
    if (!hidden) return;
    if (s->sink->hidden) give_hidden(s, s->e->config->layers, hidden);
    if (s->sink->loss) give_loss(s, hidden);
    if (s->sink->logits) give_logits(s, hidden);
    if (s->sink->best) give_best(s, hidden);
}

/* All that a pass does on the device when nothing of it is shown but its best. */
static bool run_alike(void *context)
{
    struct step *s = context;
    struct engine *e = s->e;
    struct tensor *hidden = run_layers(s);
    if (hidden && s->asked > 0)
        find_best(&s->pass, head(s, hidden, 0, s->asked), e->vocab, best_of_row(e), e->best);
    return pass_status(&s->pass) == GDN_OK;
}

/* Nobody looks inside the pass, nor at the time of its ops: it is the same calls every time. */
static bool repeats(const struct step *s)
{
    const struct sink *k = s->sink;
    bool shown = k->hidden || k->loss || k->logits || s->asked > s->e->head_rows;
    for (int32_t b = 0; b < s->B; b++)
        shown = shown || (k->best && s->pieces[s->stretch[b].piece].adjust);
    return s->e->device->record && !s->e->device->clock && !shown;
}

static void repeat(struct step *s)
{
    struct engine *e = s->e;
    const struct replay_key key = {.B = s->B, .T = s->T, .asked = s->asked, .head = s->head.B,
                                   .reach = s->rows.reach, .types = e->state.types,
                                   .draft = s->draft};
    if (replay_run(&e->replay, e->device, key, run_alike, s) && s->asked > 0 &&
        pass_status(&s->pass) == GDN_OK)
        give_found(s, NULL, 0, s->asked, best_of_row(e));
}

static void run_pass(struct step *s)
{
    struct engine *e = s->e;
    arena_reset(&e->data);
    arena_reset(&e->meta);
    stage_rows(s);
    s->pass = (struct pass){.device = e->device, .data = &e->data, .meta = &e->meta,
                            .rows = &s->rows, .compute = e->compute, .fast = e->fast && !s->draft};
    (repeats(s) ? repeat : run_once)(s);
    e->device->finish(e->device);
}

/* ---- a step: as many passes as its rows need ------------------------------------------------- */

static enum gdn_status check_pieces(const struct engine *e, const struct piece *pieces, int count,
                                    bool draft, struct gdn_error *err)
{
    if (count > e->state.slots)
        return error_set(err, GDN_ERR_USAGE, "a batch of %d sequences, there are %d slots", count,
                         e->state.slots);
    for (int i = 0; i < count; i++) {
        const struct piece *p = &pieces[i];
        if (e->state.slot[p->slot].status != SLOT_LIVE)
            return error_set(err, GDN_ERR_USAGE, "the sequence is not usable: an earlier step of "
                             "it failed half-way or gave no finite numbers");
        for (int j = 0; j < i; j++)
            if (pieces[j].slot == p->slot)
                return error_set(err, GDN_ERR_USAGE, "a sequence stands twice in one batch");
        const int32_t most = BLOCK < e->max_rows ? BLOCK : e->max_rows;
        if (draft && (p->n > most || e->state.entries < 2 * BLOCK))
            return error_set(err, GDN_ERR_USAGE, "a draft of %d tokens: need at most %d, in a "
                             "session opened to speculate", p->n, most);
        for (int32_t r = 0; r < p->n; r++)
            if (p->ids[r] < 0 || p->ids[r] >= e->config->vocab)
                return error_set(err, GDN_ERR_USAGE, "token %d: found id %d, need 0 to %d", r,
                                 p->ids[r], e->config->vocab - 1);
    }
    return GDN_OK;
}

/* The next stretches, piece after piece, until the pass is full; done[] counts rows behind us. A
 * draft is never cut: its position does not move, so the rest would begin where it began. */
static void cut_pass(struct step *s, int count, const int32_t *done)
{
    s->B = s->T = 0;
    for (int i = 0; i < count && s->T < s->e->max_rows; i++) {
        int32_t left = s->pieces[i].n - done[i], room = s->e->max_rows - s->T;
        if (left == 0) continue;
        if (left > room && s->draft) return;
        if (left > room) left = room;
        s->stretch[s->B++] = (struct stretch){.piece = i, .from = done[i], .n = left,
                                              .start = s->T};
        s->T += left;
    }
}

/* A pass failed. Drafts are undecided no more, for their rows may have been written over, and what
 * an earlier pass appended to a piece of one row is taken back. */
static void undo(struct step *s, int count, const int32_t *done)
{
    struct state *st = &s->e->state;
    for (int i = 0; i < count; i++) {
        const struct piece *p = &s->pieces[i];
        state_drafted(st, p->slot, 0);
        if (!s->draft && p->n == 1 && done[i] == 1) state_rewind(st, p->slot, 1, NULL);
    }
}

static void finish_pass(struct step *s, int32_t *done, enum gdn_status status)
{
    for (int32_t b = 0; b < s->B; b++) {
        const struct stretch *t = &s->stretch[b];
        const struct piece *p = &s->pieces[t->piece];
        done[t->piece] += t->n;
        if (status == GDN_OK && s->draft) {
            state_drafted(&s->e->state, p->slot, t->n);
        } else if (status == GDN_OK) {
            state_advance(&s->e->state, p->slot, t->n);
            head_advance(s->e, p->slot, t->n);
        } else if (!s->draft && p->n > 1) {
            state_invalidate(&s->e->state, p->slot);
        }
        if (status == GDN_OK && t->judged) state_judge(&s->e->state, p->slot, t->finite);
    }
}

static enum gdn_status run_passes(struct step *s, int count, int32_t *done, struct gdn_error *err)
{
    for (;;) {
        cut_pass(s, count, done);
        if (s->B == 0) return GDN_OK;
        for (int32_t b = 0; b < s->B; b++)
            TRY(state_reserve(&s->e->state, s->pieces[s->stretch[b].piece].slot, s->stretch[b].n,
                              err));
        if (s->e->mtp) TRY(head_make_room(s->e, s->pieces, s->B, err));
        mem_guard_raise();
        run_pass(s);
        mem_guard_lower();
        const enum gdn_status status = pass_status(&s->pass);
        if (status != GDN_OK) undo(s, count, done);
        finish_pass(s, done, status);
        if (status != GDN_OK)
            return error_set(err, status, "a pass of %d rows failed: %s", s->T,
                             pass_failed(status));
    }
}

enum gdn_status engine_step(struct engine *e, const struct piece *pieces, int count, bool draft,
                            const struct sink *sink, struct gdn_error *err)
{
    static const struct sink none = {0};
    TRY(check_pieces(e, pieces, count, draft, err));
    for (int i = 0; i < count; i++)
        if ((int64_t)e->state.slot[pieces[i].slot].position + pieces[i].n > e->context)
            return error_set(err, GDN_ERR_USAGE,
                             "the sequence would have %lld tokens, its context holds %d",
                             (long long)e->state.slot[pieces[i].slot].position + pieces[i].n,
                             e->context);
    struct step s = {.e = e, .pieces = pieces, .sink = sink ? sink : &none, .draft = draft,
                     .stretch = e->stretch};
    memset(e->done, 0, sizeof *e->done * (size_t)count);
    return run_passes(&s, count, e->done, err);
}
