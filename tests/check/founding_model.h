/* founding_model.h: the tests of founding_model.c, which sees the engine and so not the harness. */
#ifndef CHECK_FOUNDING_MODEL_H
#define CHECK_FOUNDING_MODEL_H

#include <stdbool.h>

bool models_ask_for_f32(void), kv_stays(void), any_cut_of_a_prefill(void), short_gate_holds(void);
bool long_gate_holds(void), tail_type_is_a_setting(void), verify_chooses_the_same(void);

#endif
