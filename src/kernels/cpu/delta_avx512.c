/* delta_avx512.c: the gated delta rule with AVX-512. */
#include "kernels/cpu/vec_avx512.h"

#include "kernels/cpu/delta_tmpl.h"
#include "kernels/cpu/delta_block_tmpl.h"
#include "kernels/cpu/delta_strips_tmpl.h"
#include "kernels/cpu/delta_walk_tmpl.h"

void delta_run_avx512(struct delta_head *head) { run_heads(head); }
