/* delta_avx2.c: the gated delta rule with AVX2 and FMA. */
#include "kernels/cpu/vec_avx2.h"

#include "kernels/cpu/delta_tmpl.h"
#include "kernels/cpu/delta_block_tmpl.h"
#include "kernels/cpu/delta_strips_tmpl.h"
#include "kernels/cpu/delta_walk_tmpl.h"

void delta_run_avx2(struct delta_head *head) { run_heads(head); }
