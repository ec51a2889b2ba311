/* founding.h: the 151 founding behaviours, and what proves each. */
#ifndef CHECK_FOUNDING_H
#define CHECK_FOUNDING_H

#include "harness/suite.h"

struct founding {
    const char *id, *what;
    const char *later;  /* the theme that will bring its test; NULL when there is one */
    bool (*test)(void); /* a test of its own */
    const char *by[4];  /* or tests of the suites, which must all pass */
};
extern const struct founding founding[];
extern const int foundings;

/* The devices that the tests share: "cpu" or "ref" under test, opened when first asked for. NULL
 * when they cannot be had. */
struct lab *founding_lab(const char *device);
void founding_close(void);

/* True when the proof holds for every shape on this device; `suite` names its op. */
typedef void prover(struct lab *lab, const struct proof *proof, const struct shape *s,
                    struct verdict *v);
bool founding_proves(const char *device, const char *suite, prover *prove,
                     const struct shape *shape, int shapes);
/* Prints the first failure. True when there was none. */
bool founding_verdict(const struct verdict *v);
/* A suite that is linked in; the list is wrong when it is not. */
const struct suite *founding_suite(const char *name);

/* founding_state.c */
bool two_dtypes_accepted(void), each_result_in_its_dtype(void), state_keeps_its_bits(void);
bool sums_are_wide(void), orientation_is_one(void), any_state_dtype_honoured(void);
bool rounds_once_a_launch(void), bf16_rollout_stays_near(void), empty_is_zero(void);
bool short_calls_keep_tails(void);
/* founding_delta.c */
bool mixed_activations_refused(void), generic_path_agrees(void), boundary_states_only(void);
bool scalar_form_keeps_its_bits(void), unsupported_falls_back(void), outside_is_refused(void);
bool nothing_outside_is_touched(void), every_kernel_has_a_derivative(void);
bool length_picks_only_speed(void);
/* founding_gradient.c */
bool state_gradient_accepted(void), groups_are_summed(void), uneven_chunks(void), short_rows(void);
bool both_gates_one_kernel(void), masked_is_absent(void), segments_chain(void);
/* founding_types.c */
bool only_one_switches(void), unset_changes_nothing(void), fresh_is_f32(void);
bool fresh_is_bf16(void), every_place_follows(void), f32_becomes_bf16(void);
bool bf16_is_widened(void), bytes_halve(void), environment_is_put_back(void);
bool storage_is_run_time(void), types_never_mix(void);
/* founding_cache.c */
bool shapes_are_right(void), delta_is_f32_conv_follows(void), first_read_is_zero(void);
bool second_read_is_the_same(void), mismatch_touches_its_part(void);
bool writes_advance_by_real_rows(void), writing_nothing_keeps(void), tail_is_owned(void);
bool nothing_aliases(void), listing_gives_both(void), free_is_free(void);
bool snapshots_are_whole(void), empty_snapshot_is_null(void), snapshots_outlive(void);
bool bytes_add_up(void), restore_without_snapshot(void), restore_is_exact(void);
bool many_restores(void), merge_keeps_the_child(void), split_keeps_the_right(void);
/* founding_live.c */
bool validated_apart(void), reads_alternate(void), other_state_stays(void), no_batch_is_one(void);
bool each_bug_is_seen(void), clearing_is_told(void), length_decides_nothing(void);
bool padding_is_nothing(void);
/* founding_draft.c */
bool both_types_everywhere(void), nothing_stays_alive(void), rows_have_their_own_offsets(void);
bool no_snapshot_of_a_draft(void), interior_states(void), drafts_touch_nothing(void);
bool reads_follow_the_draft(void), initial_is_caught_once(void), records_hold_a_replay(void);
bool commit_of_none(void), commit_of_all(void), commit_is_clamped(void);
bool records_are_cut_along_time(void), no_record_no_commit(void), offsets_agree(void);
bool batches_commit_apart(void), speculation_costs_entries(void);
/* founding_families.c */
bool every_family_follows(void), every_family_keeps_its_past(void), olmo_keeps_its_past(void);
/* founding_text.c */
bool ssm_is_not_taken(void), families_say_the_same(void), short_answers_stop(void);
/* founding_talk.c */
bool decay_is_wide(void), right_digit_first(void), no_collapse(void), own_text_is_likely(void);

#endif
