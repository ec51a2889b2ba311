/* delta_amx.h: the gated delta rule in chunks of 64 rows on AMX tiles: heads of one sequence that
 * take turns.
 *
 * Bf16 operands, f32 accumulators and state: the fast mode of delta, never the exact one. Algebra,
 * layouts and figures: docs/kernels/delta_amx.md. */
#ifndef KERNELS_CPU_DELTA_AMX_H
#define KERNELS_CPU_DELTA_AMX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "tensor/dtype.h"

enum { AMX_CHUNK = 64 };

/* Rows of one head inside a tensor: row r begins at data + r * stride elements. */
struct amx_rows {
    void *data;
    int64_t stride;
    enum dtype dtype; /* f32, bf16 or f16; of g and beta f32 */
};

/* `rows` tokens of one head. Dk and Dv: multiples of 32. */
struct amx_head {
    struct amx_rows q, k, v, g, beta, o;
    int64_t rows;
    int Dk, Dv;
    bool channel; /* g has Dk entries a row, and not one */
    void *S;      /* strips [Dv/32][Dk][32], in and out */
    enum dtype S_type; /* f32 or bf16 */
};

/* Of `count` heads that are alike in rows, widths, dtypes and gates. */
size_t amx_work_bytes(const struct amx_head *heads, int count);

/* o of the rows and S after them. `work`: amx_work_bytes(), aligned to 64. The thread's tiles and
 * floating-point modes are its own again afterwards. */
void delta_chunks_amx(const struct amx_head *heads, int count, void *work);

#endif
