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
/* founding_gradient.c */
bool state_gradient_accepted(void), groups_are_summed(void), uneven_chunks(void), short_rows(void);
bool both_gates_one_kernel(void), masked_is_absent(void), segments_chain(void);

#endif
