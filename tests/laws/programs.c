/* programs.c: random programs over sessions, 1,000 operations for each type (programs.h). */
#include "laws/programs.h"

#if defined(GDN_POISON) && GDN_POISON
enum { OPERATIONS = 100 };
#else
enum { OPERATIONS = 500 };
#endif

static void each_type(const char *device, int operations)
{
    for (int k = 0; k < 4; k++) {
        const struct play_options o = {.device = device, .compute = k & 1 ? GDN_BF16 : GDN_F32,
                                       .state = k & 2 ? GDN_BF16 : GDN_F32};
        program_run("q35-r2-untied", o, 1 + (uint64_t)k, operations, 12);
        program_run("q35-k2-f16", o, 11 + (uint64_t)k, operations, 12);
    }
}

static void cpu_is_its_oracle(void **state)
{
    (void)state;
    each_type("cpu", OPERATIONS);
}

static void reference_is_its_oracle(void **state)
{
    (void)state;
    program_run("q35-r2-untied", (struct play_options){.device = "ref"}, 3, OPERATIONS / 5, 12);
}

/* The same, where turns guess ahead: what was wrong leaves nothing behind. */
static void with_drafts(void **state)
{
    (void)state;
    static const struct {
        const char *model;
        enum gdn_draft draft;
    } all[] = {{"q35-r2-untied", GDN_DRAFT_LOOKUP}, {"kimi-released", GDN_DRAFT_LOOKUP},
               {"olmo-rope", GDN_DRAFT_LOOKUP},     {"q35-r4-odd", GDN_DRAFT_MTP},
               {"q35moe-stacked", GDN_DRAFT_MTP},   {"next-plain", GDN_DRAFT_MTP}};
    for (int k = 0; k < 6; k++) {
        const struct play_options o = {.compute = k & 1 ? GDN_BF16 : GDN_F32, .draft = all[k].draft,
                                       .depth = 5};
        program_run(all[k].model, o, 21 + (uint64_t)k, OPERATIONS, 12);
    }
}

/* A row that is not finite makes its session unusable, and no other one of its batch. */
static void not_finite_is_not_usable(void **state)
{
    (void)state;
    struct play play;
    struct gdn_error err = {0};
    struct record row, want;
    play_open(&play, "q35-r2-untied", &(struct play_options){.sessions = 3, .threads = 1});
    record_open(&row, &play, 1);
    record_open(&want, &play, 1);
    gdn_session *s[3];
    for (int i = 0; i < 3; i++) {
        s[i] = play_session(&play);
        play_feed(s[i], (int32_t[]){1, 2, 3}, 3, NULL, 0, NULL);
    }
    struct state *st = &play.model->engine.state;
    for (int32_t i = 0; i < st->layers; i++)
        if (st->layer[i].delta.u)
            *((float *)st->layer[i].delta.u +
              (size_t)s[0]->slot * (size_t)st->entries * (size_t)st->layer[i].delta.Hv *
                  (size_t)st->layer[i].delta.Dv) = NAN;
    const int32_t id = 4;
    const struct gdn_feed feeds[] = {{.session = s[0], .ids = &id, .n = 1},
                                     {.session = s[1], .ids = &id, .n = 1}};
    assert_int_equal(gdn_step(feeds, 2, NULL, &err), GDN_OK);
    assert_int_equal(gdn_session_feed(s[0], &id, 1, &err), GDN_ERR_USAGE);
    assert_non_null(strstr(err.text, "no finite numbers"));
    gdn_snapshot *snapshot;
    assert_int_equal(gdn_session_snapshot(s[0], &snapshot, &err), GDN_ERR_USAGE);
    assert_int_equal(st->slot[s[0]->slot].finite, 3);
    assert_int_equal(st->slot[s[1]->slot].finite, 4);
    play_feed(s[2], &id, 1, NULL, 0, NULL);
    play_feed(s[1], &id, 1, NULL, 0, &row);
    play_feed(s[2], &id, 1, NULL, 0, &want);
    same_rows(&want, 0, &row, 0, 1, "beside one that is not finite");
    record_close(&row);
    record_close(&want);
    play_close(&play);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(cpu_is_its_oracle),
        cmocka_unit_test(reference_is_its_oracle), cmocka_unit_test(with_drafts),
        cmocka_unit_test(not_finite_is_not_usable),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
