/* state.c: gdn/state.h: slots and passes. */
#include "api/state.h"

#include <math.h>
#include <string.h>

#include "base/memory.h"

enum { CONTEXT = 131072, ROWS = 512, SCRATCH = 1 << 30 };
enum { FED_CONV = 1, FED_DELTA = 2 };

/* ---- open and close -------------------------------------------------------------------------- */

static enum gdn_status check_layer(const struct gdn_state_layer *l, int32_t i,
                                   struct gdn_error *err)
{
    enum { MOST = 4096 };
    if (l->Hk < 1 || l->Hv < 1 || l->Hv % l->Hk || l->Dk < 1 || l->Dv < 1 || l->taps < 1 ||
        l->Hv > MOST || l->Dk > MOST || l->Dv > MOST || l->taps > MOST)
        return error_set(err, GDN_ERR_USAGE, "layer %d: found Hk %d, Hv %d, Dk %d, Dv %d, taps %d, "
                         "need 1 to %d, Hv a multiple of Hk", i, l->Hk, l->Hv, l->Dk, l->Dv,
                         l->taps, MOST);
    return GDN_OK;
}

static enum gdn_status check_options(const struct gdn_state_options *o, struct gdn_error *err)
{
    if (!o->layers || o->count < 1 || o->count > 65536 || o->slots > 65535)
        return error_set(err, GDN_ERR_USAGE, "found %d layers and %d slots, need 1 to 65,536 "
                         "layers and at most 65,535 slots", o->layers ? o->count : 0, o->slots);
    if (o->context < 0 || o->context > INT32_MAX - PAGE || o->rows < 0 || o->rows > 1 << 20)
        return error_set(err, GDN_ERR_USAGE, "found context %d and rows %d, need 0 or more",
                         o->context, o->rows);
    if ((o->compute != GDN_F32 && o->compute != GDN_BF16) ||
        (o->state != GDN_F32 && o->state != GDN_BF16))
        return error_set(err, GDN_ERR_USAGE, "compute and state: need GDN_F32 or GDN_BF16");
    for (int32_t i = 0; i < o->count; i++) TRY(check_layer(&o->layers[i], i, err));
    return GDN_OK;
}

/* In one pass: each slot, and padding before each. */
static int32_t most_pieces(const gdn_state *s) { return 2 * s->state.slots; }

/* What a pass needs beside the slots. */
static bool take_buffers(gdn_state *s)
{
    const size_t most = (size_t)most_pieces(s);
    size_t width = 0;
    for (int32_t i = 0; i < s->state.layers; i++) {
        const struct layer_shape *l = &s->state.layer[i].shape;
        const size_t w = (size_t)l->Hv * (size_t)l->Dv;
        if (w > width) width = w;
    }
    s->fed = mem_take_array((size_t)s->state.layers, sizeof *s->fed);
    s->piece = mem_take_array(most, sizeof *s->piece);
    s->lost = mem_take_array(most, sizeof *s->lost);
    s->row = mem_take_array(width, sizeof(double));
    s->on = s->device->take(s->device, (3 * most + 1) * sizeof *s->on);
    return s->fed && s->piece && s->lost && s->row && s->on &&
           s->device->arena_open(s->device, &s->scratch, SCRATCH);
}

static enum gdn_status open_state(gdn_state *s, const struct gdn_state_options *o,
                                  struct gdn_error *err)
{
    s->device = device_open(o->device ? o->device : "cpu", o->threads, ~0u, err);
    if (!s->device) return err->status;
    if (!s->device->host)
        return error_set(err, GDN_ERR_UNSUPPORTED, "state: found device '%s', need 'cpu' or 'ref': "
                         "the arrays are the host's", o->device);
    struct layer_shape *shape = mem_take_array((size_t)o->count, sizeof *shape);
    if (!shape) return error_set(err, GDN_ERR_MEMORY, "no memory for %d layers", o->count);
    for (int32_t i = 0; i < o->count; i++) {
        const struct gdn_state_layer *l = &o->layers[i];
        shape[i] = (struct layer_shape){.kind = LAYER_DELTA, .Hk = l->Hk, .Hv = l->Hv, .Dk = l->Dk,
                                        .Dv = l->Dv, .taps = l->taps,
                                        .channel_gate = l->channel_gate};
    }
    const struct state_options so = {
        .slots = (o->slots > 1 ? o->slots : 1) + 1, /* a spare one to restore into */
        .entries = o->speculate ? 2 * BLOCK : BLOCK, .context = o->context ? o->context : CONTEXT,
        .compute = o->compute == GDN_BF16 ? DTYPE_BF16 : DTYPE_F32,
        .anchor = o->state == GDN_BF16 ? DTYPE_BF16 : DTYPE_F32};
    const enum gdn_status status = state_open(&s->state, s->device, shape, o->count, &so, err);
    mem_give(shape);
    if (status != GDN_OK) return status;
    s->rows = o->rows ? o->rows : ROWS;
    if (take_buffers(s)) return GDN_OK;
    return error_set(err, GDN_ERR_MEMORY, "no memory for passes of %d rows", s->rows);
}

enum gdn_status gdn_state_open(const struct gdn_state_options *o, gdn_state **state,
                               struct gdn_error *err)
{
    struct gdn_error own = {0};
    if (!err) err = &own;
    *state = NULL;
    TRY(check_options(o, err));
    gdn_state *s = mem_take(sizeof *s);
    if (!s) return error_set(err, GDN_ERR_MEMORY, "no memory for a state");
    const enum gdn_status status = open_state(s, o, err);
    if (status == GDN_OK)
        *state = s;
    else
        gdn_state_close(s);
    return status;
}

void gdn_state_close(gdn_state *s)
{
    if (!s) return;
    if (s->device) {
        s->device->give(s->device, s->on);
        s->device->arena_close(s->device, &s->scratch);
        state_close(&s->state);
        device_close(s->device);
    }
    mem_give(s->fed);
    mem_give(s->piece);
    mem_give(s->lost);
    mem_give(s->row);
    mem_give(s);
}

int64_t gdn_state_bytes(const gdn_state *s) { return s->state.bytes; }

/* ---- slots ----------------------------------------------------------------------------------- */

static bool there(const gdn_state *s, int32_t slot)
{
    return slot >= 0 && slot < s->state.slots && s->state.slot[slot].status != SLOT_FREE;
}

enum gdn_status state_slot_check(const gdn_state *s, int32_t slot, struct gdn_error *err)
{
    if (!there(s, slot)) return error_set(err, GDN_ERR_USAGE, "slot %d: not one in use", slot);
    if (s->open) return error_set(err, GDN_ERR_USAGE, "a pass is open: gdn_state_end it first");
    if (s->state.slot[slot].status == SLOT_LIVE) return GDN_OK;
    return error_set(err, GDN_ERR_USAGE, "slot %d: not usable, a pass of it failed half-way or "
                     "gave no finite numbers", slot);
}

/* One slot is nobody's: what is restored is built there. */
static bool spare_left(const gdn_state *s)
{
    int32_t free = 0;
    for (int32_t i = 0; i < s->state.slots; i++) free += s->state.slot[i].status == SLOT_FREE;
    return free > 1;
}

int32_t gdn_state_slot_take(gdn_state *s)
{
    return !s->open && spare_left(s) ? state_slot_take(&s->state) : -1;
}

void gdn_state_slot_give(gdn_state *s, int32_t slot)
{
    if (there(s, slot) && !s->open) state_slot_give(&s->state, slot);
}

uint32_t gdn_state_generation(const gdn_state *s, int32_t slot)
{
    return slot >= 0 && slot < s->state.slots ? s->state.slot[slot].generation : 0;
}

int32_t gdn_state_position(const gdn_state *s, int32_t slot)
{
    return there(s, slot) ? s->state.slot[slot].position : 0;
}

int32_t gdn_state_commit(gdn_state *s, int32_t slot, int32_t n)
{
    return state_slot_check(s, slot, NULL) == GDN_OK ? state_commit(&s->state, slot, n) : 0;
}

int32_t gdn_state_rewindable(const gdn_state *s, int32_t slot)
{
    return state_slot_check(s, slot, NULL) == GDN_OK ? state_length(&s->state, slot) : 0;
}

enum gdn_status gdn_state_rewind(gdn_state *s, int32_t slot, int32_t n, struct gdn_error *err)
{
    TRY(state_slot_check(s, slot, err));
    return state_rewind(&s->state, slot, n, err);
}

int32_t gdn_state_fork(gdn_state *s, int32_t slot)
{
    if (state_slot_check(s, slot, NULL) != GDN_OK || !spare_left(s)) return -1;
    return state_fork(&s->state, slot);
}

/* ---- passes ---------------------------------------------------------------------------------- */

static enum gdn_status check_pieces(const gdn_state *s, const struct gdn_state_piece *piece,
                                    int32_t count, bool draft, int32_t *rows, struct gdn_error *err)
{
    int64_t sum = 0;
    if (count < 0 || count > most_pieces(s))
        return error_set(err, GDN_ERR_USAGE, "found %d pieces, need at most %d, two for each slot",
                         count, most_pieces(s));
    for (int32_t i = 0; i < count; i++) {
        const bool absent = piece[i].slot == -1;
        if (!absent) TRY(state_slot_check(s, piece[i].slot, err));
        for (int32_t j = 0; j < i && !absent; j++)
            if (piece[j].slot == piece[i].slot)
                return error_set(err, GDN_ERR_USAGE, "slot %d stands twice in one pass",
                                 piece[i].slot);
        if (piece[i].rows < 0 ||
            (draft && (piece[i].rows > BLOCK || s->state.entries == BLOCK)))
            return error_set(err, GDN_ERR_USAGE, "slot %d: found %d rows%s", piece[i].slot,
                             piece[i].rows, draft ? ", a draft has at most 16, in a state opened "
                                                    "to speculate" : ", need 0 or more");
        sum += piece[i].rows;
    }
    if (sum > s->rows)
        return error_set(err, GDN_ERR_USAGE, "found %lld rows, a pass has at most %d",
                         (long long)sum, s->rows);
    *rows = (int32_t)sum;
    return GDN_OK;
}

enum gdn_status gdn_state_begin(gdn_state *s, const struct gdn_state_piece *piece, int32_t count,
                                bool draft, struct gdn_error *err)
{
    int32_t rows = 0;
    if (s->open) return error_set(err, GDN_ERR_USAGE, "a pass is open: gdn_state_end it first");
    TRY(check_pieces(s, piece, count, draft, &rows, err));
    for (int32_t i = 0; i < count; i++)
        if (piece[i].slot >= 0)
            TRY(state_reserve(&s->state, piece[i].slot, piece[i].rows, err));
    const int32_t most = most_pieces(s);
    int32_t *start = s->on, *pos = start + most + 1, *slot = pos + most, row = 0;
    for (int32_t i = 0; i <= count; i++) {
        s->device->upload(s->device, start + i, &row, sizeof row);
        if (i == count) break;
        const int32_t at = piece[i].slot < 0 ? 0 : s->state.slot[piece[i].slot].position;
        row += piece[i].rows;
        s->device->upload(s->device, pos + i, &at, sizeof at);
        s->device->upload(s->device, slot + i, &piece[i].slot, sizeof *slot);
    }
    memcpy(s->piece, piece, sizeof *piece * (size_t)count);
    memset(s->lost, 0, sizeof *s->lost * (size_t)count);
    memset(s->fed, 0, sizeof *s->fed * (size_t)s->state.layers);
    s->now = (struct rows){.B = count, .T = rows, .start = start, .pos = pos, .slot = slot,
                           .draft = draft};
    s->pieces = count;
    s->draft = draft;
    s->open = true;
    return GDN_OK;
}

static enum gdn_status check_call(const gdn_state *s, int32_t layer, unsigned fed,
                                  struct gdn_error *err)
{
    if (!s->open) return error_set(err, GDN_ERR_USAGE, "no pass is open: gdn_state_begin one");
    if (layer < 0 || layer >= s->state.layers)
        return error_set(err, GDN_ERR_USAGE, "layer: found %d, need 0 to %d", layer,
                         s->state.layers - 1);
    if (s->fed[layer] & fed)
        return error_set(err, GDN_ERR_USAGE, "layer %d was fed in this pass already", layer);
    return GDN_OK;
}

static enum gdn_status run(gdn_state *s, enum op op, const void *args, struct gdn_error *err)
{
    arena_reset(&s->scratch);
    s->device->forward[op](s->device, &s->scratch, args);
    if (!s->scratch.failed && s->device->status == GDN_OK) return GDN_OK;
    return error_set(err, GDN_ERR_MEMORY, "no scratch memory for %d rows", s->now.T);
}

enum gdn_status gdn_state_conv(gdn_state *s, int32_t layer, const void *x, const float *w, void *y,
                               struct gdn_error *err)
{
    TRY(check_call(s, layer, FED_CONV, err));
    struct layer_state *l = &s->state.layer[layer];
    const int64_t rows[] = {s->now.T, l->conv.C}, taps[] = {l->conv.C, l->shape.taps};
    struct tensor tx = tensor_over((void *)(uintptr_t)x, l->conv.dtype, 2, rows);
    struct tensor tw = tensor_over((void *)(uintptr_t)w, DTYPE_F32, 2, taps);
    struct tensor ty = tensor_over(y, l->conv.dtype, 2, rows);
    const struct conv_args a = {.x = &tx, .w = &tw, .y = &ty, .rows = &s->now, .slots = &l->conv};
    TRY(run(s, OP_CONV, &a, err));
    s->fed[layer] |= FED_CONV;
    return GDN_OK;
}

static bool all_finite(const void *row, enum dtype dtype, int64_t n)
{
    bool good = true;
    if (dtype == DTYPE_BF16) /* the exponent alone, for every token pays for this */
        for (int64_t i = 0; i < n; i++) good &= (((const uint16_t *)row)[i] & 0x7f80) != 0x7f80;
    else
        for (int64_t i = 0; i < n; i++) good &= isfinite(dtype_load(row, dtype, i)) != 0;
    return good;
}

/* What is not finite in a sequence stays in its state: one look behind each piece will see it. */
static void judge_rows(gdn_state *s, const struct tensor *o)
{
    const int64_t n = o->dim[1] * o->dim[2];
    const size_t bytes = (size_t)n * dtype_size(o->dtype);
    int64_t end = 0;
    for (int32_t i = 0; i < s->pieces; i++) {
        end += s->piece[i].rows;
        if (s->piece[i].slot < 0 || s->piece[i].rows == 0) continue;
        s->device->download(s->device, s->row, tensor_at(o, (end - 1) * n), bytes);
        if (!all_finite(s->row, o->dtype, n)) s->lost[i] = true;
    }
}

enum gdn_status gdn_state_delta(gdn_state *s, int32_t layer, const void *q, const void *k,
                                const void *v, const float *g, const float *beta, void *o,
                                struct gdn_error *err)
{
    TRY(check_call(s, layer, FED_DELTA, err));
    struct layer_state *l = &s->state.layer[layer];
    const int64_t T = s->now.T, Hv = l->shape.Hv, Dk = l->shape.Dk;
    const int64_t key[] = {T, l->shape.Hk, Dk}, value[] = {T, Hv, l->shape.Dv};
    const int64_t gate[] = {T, Hv, Dk};
    const enum dtype type = l->delta.k_type;
    struct tensor tq = tensor_over((void *)(uintptr_t)q, type, 3, key);
    struct tensor tk = tensor_over((void *)(uintptr_t)k, type, 3, key);
    struct tensor tv = tensor_over((void *)(uintptr_t)v, type, 3, value);
    struct tensor tg = tensor_over((void *)(uintptr_t)g, DTYPE_F32, l->shape.channel_gate ? 3 : 2,
                                   gate);
    struct tensor tb = tensor_over((void *)(uintptr_t)beta, DTYPE_F32, 2, gate);
    struct tensor to = tensor_over(o, type, 3, value);
    const struct delta_args a = {.q = &tq, .k = &tk, .v = &tv, .g = &tg, .beta = &tb, .o = &to,
                                 .rows = &s->now, .slots = &l->delta};
    TRY(run(s, OP_DELTA, &a, err));
    s->fed[layer] |= FED_DELTA;
    if (!s->draft) judge_rows(s, &to);
    return GDN_OK;
}

static bool is_fed(const gdn_state *s, int32_t layer)
{
    const unsigned need = s->state.layer[layer].shape.taps > 1 ? FED_CONV | FED_DELTA : FED_DELTA;
    return (s->fed[layer] & need) == need;
}

static void end_piece(gdn_state *s, int32_t i, bool good)
{
    const struct gdn_state_piece *p = &s->piece[i];
    struct state *st = &s->state;
    if (p->slot < 0) return;
    if (s->draft)
        state_drafted(st, p->slot, good ? p->rows : 0);
    else if (good)
        state_advance(st, p->slot, p->rows);
    else if (p->rows > 1)
        state_invalidate(st, p->slot);
    if (good && !s->draft && p->rows > 0) state_judge(st, p->slot, !s->lost[i]);
}

enum gdn_status gdn_state_end(gdn_state *s, struct gdn_error *err)
{
    if (!s->open) return error_set(err, GDN_ERR_USAGE, "no pass is open: gdn_state_begin one");
    int32_t layer = 0;
    while (layer < s->state.layers && is_fed(s, layer)) layer++;
    const bool good = layer == s->state.layers;
    s->open = false;
    for (int32_t i = 0; i < s->pieces; i++) end_piece(s, i, good);
    if (good) return GDN_OK;
    return error_set(err, GDN_ERR_USAGE, "the pass has ended without layer %d", layer);
}
