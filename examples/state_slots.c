/* Sequences of a gated-delta layer through gdn/state.h: fed, drafted, taken back, forked, put aside
 * in memory and in a file. Whatever the way, the next rows have the same bits. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <gdn/state.h>

enum { HK = 2, HV = 4, DK = 32, DV = 32, TAPS = 4, T = 60, OUT = HV * DV };
enum { C = 2 * HK * DK + HV * DV }; /* channels of the convolution: q, k and v of a row */

static struct gdn_error err;
static gdn_state *state;
static float want[T][OUT]; /* the outputs of the sequence, row by row */

static void need(bool good, const char *what)
{
    if (good) return;
    printf("%s: %s\n", what, err.text);
    exit(1);
}
#define CALL(call) need((call) == GDN_OK, #call)

/* Rows from..from+n-1 into a slot; what a model's projections would give is made up here. `text`:
 * another text has other rows. */
static void feed(int32_t slot, int text, int from, int n, bool draft, float (*out)[OUT])
{
    static float x[T * C], y[T * C], w[C * TAPS], q[T * HK * DK], k[T * HK * DK], v[T * OUT];
    static float g[T * HV], beta[T * HV];
    for (int i = 0; i < C * TAPS; i++) w[i] = 0.5f * cosf((float)i);
    for (int r = 0; r < n; r++) {
        const float t = (float)(from + r) + 0.1f * (float)text;
        for (int i = 0; i < C; i++) x[r * C + i] = sinf(0.7f * t + (float)i);
        for (int i = 0; i < HV; i++) g[r * HV + i] = -0.05f, beta[r * HV + i] = 0.5f;
    }
    const struct gdn_state_piece piece = {.slot = slot, .rows = n};
    CALL(gdn_state_begin(state, &piece, 1, draft, &err));
    CALL(gdn_state_conv(state, 0, x, w, y, &err));
    for (int r = 0; r < n; r++) { /* unit keys, scaled queries */
        const float *row = y + r * C;
        for (int i = 0; i < HK * DK; i++) {
            float sum = 0;
            for (int j = 0; j < DK; j++) sum += powf(row[HK * DK + i / DK * DK + j], 2);
            q[r * HK * DK + i] = row[i] / sqrtf(DK);
            k[r * HK * DK + i] = row[HK * DK + i] / sqrtf(sum + 1e-6f);
        }
        memcpy(v + r * OUT, row + 2 * HK * DK, sizeof *v * OUT);
    }
    CALL(gdn_state_delta(state, 0, q, k, v, g, beta, out, &err));
    CALL(gdn_state_end(state, &err));
}

/* The slot goes on as the sequence did, in bits. */
static void same_from_here(int32_t slot, const char *what)
{
    static float out[T][OUT];
    const int32_t at = gdn_state_position(state, slot);
    feed(slot, 0, at, T - at, false, out);
    need(memcmp(out, want[at], sizeof *out * (size_t)(T - at)) == 0, what);
    printf("%-34s from row %2d on: the same bits\n", what, at);
}

/* One slot, however it came about, each time. */
static void take_and_give(int32_t slot, const char *what)
{
    same_from_here(slot, what);
    gdn_state_slot_give(state, slot);
}

/* S goes out, and into an empty slot that begins there: near, for its blocks begin elsewhere. */
static double dense(int32_t slot, int32_t other)
{
    static double S[HV * DV * DK], again[HV * DV * DK];
    double most = 0;
    CALL(gdn_state_export(state, slot, 0, S, &err));
    CALL(gdn_state_place(state, other, gdn_state_position(state, slot), &err));
    CALL(gdn_state_import(state, other, 0, S, NULL, &err));
    CALL(gdn_state_export(state, other, 0, again, &err));
    for (int i = 0; i < HV * DV * DK; i++) most = fmax(most, fabs(S[i] - again[i]));
    return most;
}

int main(void)
{
    const struct gdn_state_layer layer = {.Hk = HK, .Hv = HV, .Dk = DK, .Dv = DV, .taps = TAPS};
    const struct gdn_state_options options = {.layers = &layer, .count = 1, .slots = 3,
                                              .context = 1000, .speculate = true};
    static const char path[] = "example.gdnstate"; /* in the folder where this is run */
    CALL(gdn_state_open(&options, &state, &err));
    printf("%lld bytes for %d slots\n", (long long)gdn_state_bytes(state), options.slots);

    int32_t slot = gdn_state_slot_take(state);
    for (int t = 0; t < T; t++) feed(slot, 0, t, 1, false, want + t);
    gdn_state_slot_give(state, slot);

    slot = gdn_state_slot_take(state);
    float first[20][OUT];
    feed(slot, 0, 0, 20, false, first); /* in one piece */
    need(memcmp(first, want, sizeof first) == 0, "in one piece");
    gdn_state_copy *copy;
    CALL(gdn_state_snapshot(state, slot, &copy, &err));
    CALL(gdn_state_save(state, slot, NULL, path, &err));
    take_and_give(gdn_state_fork(state, slot), "a fork");

    float out[16][OUT];
    feed(slot, 0, 20, 9, true, out); /* nine drafts, the last four of them rejected */
    need(gdn_state_commit(state, slot, 5) == 5, "commit");
    take_and_give(gdn_state_fork(state, slot), "five of nine drafts");

    feed(slot, 1, 25, 3, false, out); /* three rows of another text, taken back */
    CALL(gdn_state_rewind(state, slot, 3, &err));
    same_from_here(slot, "three rows taken back");

    CALL(gdn_state_restore(state, &slot, copy, 20, &err)); /* as often as you like */
    same_from_here(slot, "restored from a snapshot");
    printf("the snapshot holds %lld bytes\n", (long long)gdn_state_copy_bytes(copy));
    gdn_state_copy_free(copy);

    int32_t loaded, other = gdn_state_slot_take(state);
    const double most = dense(slot, other);
    printf("a dense state differs by at most %.1e where it was put\n", most);
    gdn_state_slot_give(state, other);
    CALL(gdn_state_load(state, path, NULL, &loaded, NULL, &err));
    take_and_give(loaded, "loaded from a file");
    gdn_state_close(state);
    remove(path);
    return most < 1e-6 ? 0 : 1;
}
