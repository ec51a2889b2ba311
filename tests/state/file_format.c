/* file_format.c: version 1 is what docs/state.md says it is, any device reads what any device wrote,
 * and what is sealed is still not believed. */
#include "file_lab.h"

#define CORPUS GDN_SOURCE_DIR "/tests/fuzz/corpus/state_file"

static enum gdn_status load(struct file_lab *f, const void *data, size_t len, int32_t *slot,
                            bool *converted)
{
    struct state_record r;
    *slot = -1;
    error_clear(&f->err);
    const enum gdn_status status = state_load_memory("f", data, len, &f->state, f->record[0].model,
                                                     slot, &r, converted, &f->err);
    assert_int_equal(status, f->err.status);
    assert_int_equal(status == GDN_OK, *slot >= 0);
    state_record_free(&r);
    return status;
}

/* The seeds of the fuzz target are written from the page, by another program. */
static void the_page_is_true(void **state)
{
    (void)state;
    int good = 0, bad = 0;
    struct file_lab f;
    struct state_summary sum;
    file_lab_open(&f, file_small, FILE_SMALL);
    DIR *dir = opendir(CORPUS);
    assert_non_null(dir);
    for (struct dirent *e; (e = readdir(dir));) {
        char path[600];
        size_t len;
        int32_t slot;
        bool converted;
        if (e->d_name[0] == '.') continue;
        snprintf(path, sizeof path, "%s/%s", CORPUS, e->d_name);
        char *data = file_bytes(path, &len);
        assert_non_null(data);
        const uint64_t before = file_sum_all(&f);
        const enum gdn_status status = load(&f, data, len, &slot, &converted);
        if (strncmp(e->d_name, "good", 4) == 0) {
            if (status != GDN_OK) fail_msg("%s: %s", e->d_name, f.err.text);
            assert_int_equal(state_verify_memory("f", data, len, &sum, &f.err), GDN_OK);
            assert_int_equal(f.state.slot[slot].position, sum.record.position);
            state_slot_give(&f.state, slot);
            good++;
        } else if (status == GDN_OK) {
            fail_msg("%s was loaded", e->d_name);
        } else {
            assert_int_equal(file_sum_all(&f), before);
            for (const char *p = f.err.text; *p; p++) assert_in_range(*p, ' ', '~');
            bad++;
        }
        mem_give(data);
    }
    closedir(dir);
    assert_true(good >= 8 && bad >= 36);
    file_lab_close(&f);
}

/* ---- devices and types ------------------------------------------------------------------------------- */

/* The values of the sequences, as every device gives them out. */
static double *values(struct file_lab *f, int32_t slot, size_t *n)
{
    enum { MOST = 2 * 8 * 4 + 4 * 4 };
    double *all = mem_take_array(MOST, sizeof *all);
    assert_non_null(all);
    state_export(&f->state, slot, 0, all);
    state_export(&f->state, slot, 2, all + 2 * 8 * 4);
    *n = MOST;
    return all;
}

static void kind(struct state_options *o, const char **device, int i)
{
    *o = file_options;
    *device = i == 2 ? "ref" : "cpu";
    if (i == 1) o->anchor = DTYPE_BF16;
}

/* From f32, bf16 and the reference's f64 to each of them: the same numbers, rounded once at most, and
 * a change of type is reported. */
static void any_device_reads_any(void **state)
{
    (void)state;
    for (int from = 0; from < 3; from++)
        for (int to = 0; to < 3; to++) {
            struct file_lab a, b;
            struct state_options o;
            const char *device;
            size_t n;
            int32_t slot;
            bool converted;
            kind(&o, &device, from);
            file_lab_open_as(&a, file_small, FILE_SMALL, device, &o);
            kind(&o, &device, to);
            file_lab_open_as(&b, file_small, FILE_SMALL, device, &o);
            for (int which = 0; which < 2; which++) {
                assert_int_equal(load(&b, a.image[which], a.len[which], &slot, &converted), GDN_OK);
                assert_int_equal(converted, from != to);
                double *x = values(&a, which, &n), *y = values(&b, slot, &n);
                for (size_t i = 0; i < n; i++)
                    assert_true(fabs(x[i] - y[i]) <= (to == 1 ? 1e-2 : 1e-6) * (fabs(x[i]) + 1));
                if (from == to) assert_int_equal(file_sum(&b, slot), a.sum[which]);
                state_slot_give(&b.state, slot);
                mem_give(x);
                mem_give(y);
            }
            file_lab_close(&a);
            file_lab_close(&b);
        }
}

static void refuses(struct file_lab *f, const struct file_lab *writer, const char *part)
{
    int32_t slot;
    bool converted;
    const uint64_t before = file_sum_all(f);
    assert_int_equal(load(f, writer->image[NEW], writer->len[NEW], &slot, &converted),
                     GDN_ERR_INPUT);
    if (!strstr(f->err.text, part)) fail_msg("%s", f->err.text);
    assert_int_equal(file_sum_all(f), before);
}

static void what_does_not_fit(void **state)
{
    (void)state;
    struct layer_shape shape[FILE_SMALL + 1];
    struct file_lab f, g;
    struct state_options o = file_options;
    int32_t slot;
    bool converted;
    file_lab_open(&f, file_small, FILE_SMALL);
    o.compute = DTYPE_BF16;
    file_lab_open_as(&g, file_small, FILE_SMALL, "cpu", &o);
    refuses(&g, &f, "saved with compute f32, this session has bf16");
    refuses(&f, &g, "saved with compute bf16, this session has f32");
    file_lab_close(&g);
    memcpy(shape, file_small, sizeof file_small);
    shape[FILE_SMALL] = shape[1];
    file_lab_open(&g, shape, FILE_SMALL + 1);
    refuses(&g, &f, "found 3 layers, the model has 4");
    file_lab_close(&g);
    shape[2].channel_gate = false;
    file_lab_open(&g, shape, FILE_SMALL);
    refuses(&g, &f, "layer 2 has another shape");
    refuses(&f, &g, "layer 2 has another shape");
    file_lab_close(&g);
    f.record[0].model[31] ^= 1;
    refuses(&f, &f, "saved with another model");
    f.record[0].model[31] ^= 1;
    /* No slot, and no room for so many positions. */
    const int32_t last = state_slot_take(&f.state);
    assert_int_equal(load(&f, f.image[NEW], f.len[NEW], &slot, &converted), GDN_ERR_MEMORY);
    assert_non_null(strstr(f.err.text, "no free slot"));
    state_slot_give(&f.state, last);
    file_lab_close(&f);
}

static void a_context_too_small(void **state)
{
    (void)state;
    struct file_lab f;
    struct state_options o = file_options;
    o.context = 64;
    file_lab_open(&f, file_small, FILE_SMALL);
    struct state small;
    int32_t slot = -1;
    struct state_record r;
    bool converted;
    assert_int_equal(state_open(&small, f.device, file_small, FILE_SMALL, &o, &f.err), GDN_OK);
    assert_int_equal(state_load_memory("f", f.image[NEW], f.len[NEW], &small, f.record[0].model,
                                       &slot, &r, &converted, &f.err), GDN_ERR_USAGE);
    assert_non_null(strstr(f.err.text, "the context holds 64"));
    assert_true(slot == -1 && !r.tokens && small.free_pages == small.pages);
    state_close(&small);
    file_lab_close(&f);
}

/* ---- one form -------------------------------------------------------------------------------------------- */

/* What was loaded is saved as the same bytes. */
static void saved_again_is_the_same_file(void **state)
{
    (void)state;
    struct file_lab f;
    file_lab_open(&f, file_small, FILE_SMALL);
    for (int which = 0; which < 2; which++) {
        struct snapshot s;
        int32_t slot;
        bool converted;
        assert_int_equal(load(&f, f.image[which], f.len[which], &slot, &converted), GDN_OK);
        assert_int_equal(snapshot_take(&s, &f.state, slot, &f.scratch, NULL, &f.err), GDN_OK);
        assert_int_equal(state_save(f.path, &s, &f.record[which], &f.err), GDN_OK);
        assert_int_equal(file_found(&f), which);
        snapshot_release(&s, true);
        state_slot_give(&f.state, slot);
    }
    file_lab_close(&f);
}

/* Attention whose values are narrower than its keys, or their front: the copies hold what there is. */
static void narrow_and_latent_values(void **state)
{
    (void)state;
    static const struct layer_shape shape[] = {
        {.kind = LAYER_ATTN, .Hkv = 2, .D = 12, .Dv = 4},
        {.kind = LAYER_DELTA, .Hk = 1, .Hv = 2, .Dk = 4, .Dv = 8, .taps = 2},
        {.kind = LAYER_ATTN, .Hkv = 1, .D = 20, .Dv = 16, .latent = true},
    };
    struct file_lab f;
    file_lab_open(&f, shape, 3);
    for (int which = 0; which < 2; which++)
        assert_int_equal(file_load(&f, f.image[which], f.len[which]), which);
    struct state other;
    struct state_record r;
    struct layer_shape wide[3] = {shape[0], shape[1], shape[2]};
    int32_t slot = -1;
    bool converted;
    wide[2].latent = false; /* the same keys, with values of their own */
    assert_int_equal(state_open(&other, f.device, wide, 3, &file_options, &f.err), GDN_OK);
    assert_int_equal(state_load_memory("f", f.image[OLD], f.len[OLD], &other,
                                       f.record[OLD].model, &slot, &r, &converted, &f.err),
                     GDN_ERR_INPUT);
    assert_non_null(strstr(f.err.text, "layer 2 has another shape"));
    state_close(&other);
    file_lab_close(&f);
}

/* Every byte of the payload changed in every bit and sealed again: never more than a refusal, or
 * other numbers in the same places. */
static void sealed_is_not_believed(void **state)
{
    (void)state;
    struct file_lab f;
    int taken = 0, refused = 0;
    file_lab_open(&f, file_small, FILE_SMALL);
    const size_t payload = payload_of(f.len[OLD]);
    assert_int_equal(sealed_bytes(payload), f.len[OLD]);
    const struct mem_count before = mem_counted();
    for (size_t i = sizeof(struct file_prologue); i < sizeof(struct file_prologue) + payload; i++)
        for (int bit = 0; bit < 8; bit++) {
            int32_t slot;
            bool converted;
            f.image[OLD][i] = (char)(f.image[OLD][i] ^ 1 << bit);
            reseal(f.image[OLD], payload);
            if (load(&f, f.image[OLD], f.len[OLD], &slot, &converted) == GDN_OK) {
                state_slot_give(&f.state, slot);
                taken++;
            } else {
                refused++;
            }
            f.image[OLD][i] = (char)(f.image[OLD][i] ^ 1 << bit);
        }
    assert_true(taken > 0 && refused > 0);
    assert_int_equal(mem_counted().live_bytes, before.live_bytes);
    for (int i = 0; i < 2; i++) assert_int_equal(file_sum(&f, i), f.sum[i]);
    file_lab_close(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_page_is_true),
        cmocka_unit_test(any_device_reads_any),
        cmocka_unit_test(what_does_not_fit),
        cmocka_unit_test(a_context_too_small),
        cmocka_unit_test(saved_again_is_the_same_file),
        cmocka_unit_test(narrow_and_latent_values),
        cmocka_unit_test(sealed_is_not_believed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
