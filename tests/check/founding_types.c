/* founding_types.c: founding behaviours of the state's storage type (S1). */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/memory.h"
#include "flow.h"
#include "founding.h"

static bool types_are(const struct state *st, enum dtype anchor)
{
    for (int32_t i = 0; i < st->layers; i++)
        if (st->layer[i].delta.anchor_type != anchor) return false;
    return st->anchor_type == anchor;
}

/* What options say while the variable has this value (NULL: it is not set). It is put back. */
static enum gdn_type with_variable(const char *value)
{
    static const char name[] = "GDN_STATE_BF16";
    const char *was = getenv(name);
    char *kept = was ? mem_text(was) : NULL;
    struct gdn_options o = gdn_options_default();
    if (value)
        setenv(name, value, 1);
    else
        unsetenv(name);
    gdn_options_from_env(&o);
    if (kept)
        setenv(name, kept, 1);
    else
        unsetenv(name);
    mem_give(kept);
    return o.state;
}

bool only_one_switches(void)
{
    static const char *const off[] = {NULL, "", "0", "true", "2", "11", " 1", "1 ", "yes", "on"};
    for (size_t i = 0; i < sizeof off / sizeof *off; i++)
        if (with_variable(off[i]) != GDN_F32) return false;
    return with_variable("1") == GDN_BF16;
}

bool environment_is_put_back(void)
{
    setenv("GDN_STATE_BF16", "mine", 1);
    const bool ran = only_one_switches();
    const char *now = getenv("GDN_STATE_BF16");
    const bool same = now && strcmp(now, "mine") == 0;
    unsetenv("GDN_STATE_BF16");
    return ran && same && only_one_switches() && !getenv("GDN_STATE_BF16");
}

/* Rows and states with the switch unset are those of a state that was asked for f32. */
bool unset_changes_nothing(void)
{
    static struct flow a, b;
    bool same = flow_open(&a, GDN_BF16, with_variable(NULL), false) &&
                flow_open(&b, GDN_BF16, GDN_F32, false) &&
                memcmp(a.want, b.want, sizeof a.want) == 0;
    same = same && flow_state(&a, flow_slot(&a, 41)) == flow_state(&b, flow_slot(&b, 41));
    flow_close(&a);
    flow_close(&b);
    return same;
}

static bool fresh_is(enum gdn_type asked, enum dtype anchor)
{
    static struct flow f;
    bool good = flow_open(&f, GDN_BF16, asked, true) && types_are(f.inner, anchor);
    /* However a slot comes to be: new, forked, restored. */
    int32_t slot = good ? flow_slot(&f, 20) : -1;
    gdn_state_copy *copy = NULL;
    good = good && gdn_state_fork(f.state, slot) >= 0 &&
           gdn_state_snapshot(f.state, slot, &copy, &f.err) == GDN_OK &&
           gdn_state_restore(f.state, &slot, copy, 20, &f.err) == GDN_OK &&
           types_are(f.inner, anchor);
    gdn_state_copy_free(copy);
    flow_close(&f);
    return good;
}

bool fresh_is_f32(void)
{
    const enum gdn_type type = gdn_options_default().state;
    return type == GDN_F32 && fresh_is(type, DTYPE_F32);
}

bool fresh_is_bf16(void) { return fresh_is(with_variable("1"), DTYPE_BF16); }

bool every_place_follows(void) { return fresh_is_f32() && fresh_is_bf16(); }

/* ---- from one type to the other -------------------------------------------------------------- */

/* A slot of `from` at row 37 as a file, loaded into `to`; -1: it went wrong. */
static int32_t carry(struct flow *from, struct flow *to, int32_t *source, bool *converted)
{
    char path[] = "/tmp/gdn-check-XXXXXX";
    const int fd = mkstemp(path);
    int32_t slot = -1;
    if (fd < 0) return -1;
    close(fd);
    *source = flow_slot(from, 37);
    if (gdn_state_save(from->state, *source, NULL, path, &from->err) == GDN_OK)
        gdn_state_load(to->state, path, NULL, &slot, converted, &to->err);
    unlink(path);
    return slot;
}

static double farthest(const struct flow *f, const flow_rows *out, int from, int n)
{
    double most = 0;
    for (int t = 0; t < n; t++)
        for (int l = 0; l < FLOW_LAYERS; l++)
            for (int i = 0; i < FLOW_WIDE; i++)
                most = fmax(most, fabs((double)(out[t][l][i] - f->want[from + t][l][i])));
    return most;
}

/* From the first type to the second: what is there is converted and said to be, the position and
 * the inputs of the convolution stay, and what follows is near what would have followed. */
static bool moves(enum gdn_type first, enum gdn_type second, bool exact)
{
    static struct flow a, b;
    static flow_rows out[FLOW_ROWS];
    bool converted = false, good = flow_open(&a, GDN_F32, first, false) &&
                                   flow_open(&b, GDN_F32, second, false);
    int32_t from = -1;
    const int32_t to = good ? carry(&a, &b, &from, &converted) : -1;
    good = good && to >= 0 && converted && gdn_state_position(b.state, to) == 37;
    for (int32_t l = 0; l < FLOW_LAYERS && good; l++) {
        const struct conv_slots *ca = &a.inner->layer[l].conv, *cb = &b.inner->layer[l].conv;
        const int32_t taps = a.inner->layer[l].shape.taps;
        for (int32_t p = 37 - (taps - 1); p < 37 && good; p++)
            for (int32_t c = 0; c < ca->C && good; c++)
                good = ((float *)ca->x)[(from * ca->ring + p % ca->ring) * ca->C + c] ==
                       ((float *)cb->x)[(to * cb->ring + p % cb->ring) * cb->C + c];
        double x[2 * 32 * 16] = {0}, y[2 * 32 * 16] = {0};
        gdn_state_export(a.state, from, l, x, &a.err);
        gdn_state_export(b.state, to, l, y, &b.err);
        if (exact) good = good && memcmp(x, y, sizeof x) == 0;
    }
    memset(out, 0, sizeof out);
    good = good && flow_pass(&b, &(struct flow_part){to, 0, 37, FLOW_ROWS - 37}, 1, false, out);
    good = good && farthest(&a, (const flow_rows *)out, 37, FLOW_ROWS - 37) < 0.02;
    flow_close(&a);
    flow_close(&b);
    return good;
}

bool f32_becomes_bf16(void) { return moves(GDN_F32, GDN_BF16, false); }
bool bf16_is_widened(void) { return moves(GDN_BF16, GDN_F32, true); }
bool storage_is_run_time(void) { return f32_becomes_bf16() && bf16_is_widened(); }

/* ---- bytes, keys ----------------------------------------------------------------------------- */

/* Qwen3-Next-80B: 30 layers, Hv 32, D 128: 2 MiB become 1 MiB for each layer and slot. */
bool bytes_halve(void)
{
    struct lab *lab = founding_lab("cpu");
    struct layer_shape shape[30];
    for (int i = 0; i < 30; i++)
        shape[i] = (struct layer_shape){.kind = LAYER_DELTA, .Hk = 16, .Hv = 32, .Dk = 128,
                                        .Dv = 128, .taps = 4};
    struct state_options o = {.slots = 3, .entries = 16, .context = 64, .compute = DTYPE_BF16};
    if (!lab) return false;
    const struct device *device = lab->under[0].device;
    const int64_t f32 = state_bytes(device, shape, 30, &o);
    o.anchor = DTYPE_BF16;
    const int64_t bf16 = state_bytes(device, shape, 30, &o);
    return f32 - bf16 == (int64_t)3 * 30 << 20 &&
           device->anchor_elements(32, 128, 128) * 4 == 2 << 20;
}

static bool refuses_old_types(struct flow *f)
{
    int32_t slot = flow_slot(f, 30);
    gdn_state_copy *copy;
    struct state_change change;
    const enum dtype other = f->inner->anchor_type == DTYPE_F32 ? DTYPE_BF16 : DTYPE_F32;
    bool good = gdn_state_snapshot(f->state, slot, &copy, &f->err) == GDN_OK &&
                state_ensure(f->inner, DTYPE_F32, other, &change, &f->err) == GDN_OK &&
                change.anchor && !change.conv;
    const uint64_t now = flow_state(f, slot);
    good = good && gdn_state_restore(f->state, &slot, copy, 30, &f->err) == GDN_ERR_USAGE &&
           flow_state(f, slot) == now;
    gdn_state_copy_free(copy);
    return good;
}

bool types_never_mix(void) { return flow_law(refuses_old_types) && storage_is_run_time(); }
