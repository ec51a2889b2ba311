/* delta_chunks.c: where the gated delta rule meets its chunk form: which calls may take it, and a
 * head's rows and state as that form sees them. */
#include "kernels/cpu/delta.h"
#include "kernels/cpu/delta_amx.h"

static bool takes(const struct tensor *t)
{
    const bool dense = t->stride[t->rank - 1] == 1 || t->dim[t->rank - 1] == 1;
    return dense && (t->dtype == DTYPE_F32 || t->dtype == DTYPE_BF16 || t->dtype == DTYPE_F16);
}

static struct amx_rows rows_of(const struct tensor *t, int64_t row, int64_t head)
{
    return (struct amx_rows){.data = tensor_at(t, row * t->stride[0] + head * t->stride[1]),
                             .stride = t->stride[0], .dtype = t->dtype};
}

size_t delta_chunk_bytes(const struct delta_args *a)
{
    const int Dk = (int)a->k->dim[2], Dv = (int)a->v->dim[2];
    const bool wide = a->g->dtype == DTYPE_F32 && a->beta->dtype == DTYPE_F32;
    if (!a->fast || Dk % 32 || Dv % 32 || Dk == 0 || Dv == 0 || a->rows->draft || !wide ||
        !takes(a->q) || !takes(a->k) || !takes(a->v) || !takes(a->o) || !takes(a->g))
        return 0;
    const struct amx_head like = {.v.dtype = a->v->dtype, .o.dtype = a->o->dtype, .Dk = Dk, .Dv = Dv,
                                  .channel = a->g->rank == 3};
    return amx_work_bytes(&like, delta_turns(a));
}

void delta_run_chunks(struct delta_head *h, const struct delta_block *block)
{
    const struct delta_args *a = h->a;
    const int64_t row = block->row;
    struct amx_head heads[DELTA_HEADS];
    for (int n = 0; n < h->count; n++) {
        delta_take_turn(h, n);
        heads[n] = (struct amx_head){
            .q = rows_of(a->q, row, h->hk), .k = rows_of(a->k, row, h->hk),
            .v = rows_of(a->v, row, h->hv), .o = rows_of(a->o, row, h->hv),
            .g = rows_of(a->g, row, h->hv), .beta = rows_of(a->beta, row, h->hv),
            .rows = block->rows, .Dk = h->Dk, .Dv = h->Dv, .channel = h->channel,
            .S = h->state, .S_type = DTYPE_F32};
        if (a->slots) heads[n].S = h->anchor, heads[n].S_type = a->slots->anchor_type;
    }
    delta_chunks_amx(heads, h->count, h->chunk_work);
}
