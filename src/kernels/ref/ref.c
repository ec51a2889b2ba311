/* ref.c: the table of the reference, its numbers, and its anchors. */
#include "kernels/ref/ref.h"

#include "base/check.h"
#include "tensor/quant.h"

void ref_fill(struct device *device)
{
#define REF_FILL(NAME, name)                            \
    device->forward[OP_##NAME] = name##_forward_ref;    \
    device->backward[OP_##NAME] = name##_backward_ref
    REF_FILL(EMBED, embed);
    REF_FILL(ADD_NORM, add_norm);
    REF_FILL(LINEAR, linear);
    device->forward[OP_TOP] = top_forward_ref;
    REF_FILL(LINEAR_CE, linear_ce);
    REF_FILL(CONV, conv);
    REF_FILL(GATE, gate);
    REF_FILL(L2NORM, l2norm);
    REF_FILL(DELTA, delta);
    REF_FILL(NORM, norm);
    REF_FILL(GATED_NORM, gated_norm);
    REF_FILL(ROPE, rope);
    REF_FILL(ATTN, attn);
    REF_FILL(GLU, glu);
    REF_FILL(ROUTE, route);
    REF_FILL(EXPERTS, experts);
    REF_FILL(HEAD_LINEAR, head_linear);
    REF_FILL(JOIN, join);
#undef REF_FILL
}

/* Elements are copied as bytes: nothing promises that a window is aligned. */
double ref_load(enum dtype type, const void *data, int64_t i)
{
    const char *at = (const char *)data + i * (int64_t)dtype_size(type);
    double d = 0.0;
    float f = 0.0f;
    uint16_t h = 0;
    switch (type) {
    case DTYPE_F64: memcpy(&d, at, sizeof d); return d;
    case DTYPE_F32: memcpy(&f, at, sizeof f); return (double)f;
    case DTYPE_BF16: memcpy(&h, at, sizeof h); return (double)bf16_to_f32(h);
    case DTYPE_F16: memcpy(&h, at, sizeof h); return (double)f16_to_f32(h);
    case DTYPE_I32:
    case DTYPE_Q8:
    case DTYPE_Q4:
    case DTYPE_COUNT: GDN_CHECK(false, "the reference has no numbers of type %d", (int)type);
    }
    return d;
}

/* Rounded to odd: a second rounding, to a narrower type, then gives what one rounding would. */
static float to_odd(double v)
{
    float f = (float)v;
    if (isnan(v) || (double)f == v) return f;
    uint32_t u = f32_bits(f);
    if (fabs((double)f) > fabs(v)) u--;
    return f32_of_bits(u | 1u);
}

void ref_store(enum dtype type, void *data, int64_t i, double v)
{
    char *at = (char *)data + i * (int64_t)dtype_size(type);
    float f = (float)v;
    uint16_t h = 0;
    switch (type) {
    case DTYPE_F64: memcpy(at, &v, sizeof v); return;
    case DTYPE_F32: memcpy(at, &f, sizeof f); return;
    case DTYPE_BF16: h = f32_to_bf16(to_odd(v)); break;
    case DTYPE_F16: h = f32_to_f16(to_odd(v)); break;
    case DTYPE_I32:
    case DTYPE_Q8:
    case DTYPE_Q4:
    case DTYPE_COUNT: GDN_CHECK(false, "the reference has no numbers of type %d", (int)type);
    }
    memcpy(at, &h, sizeof h);
}

double ref_round(enum dtype type, double v)
{
    double room = 0.0;
    ref_store(type, &room, 0, v);
    return ref_load(type, &room, 0);
}

double *ref_take(struct arena *scratch, int64_t n)
{
    return arena_take_zeroed(scratch, (size_t)n * sizeof(double));
}

int64_t ref_rows(const struct tensor *t)
{
    int64_t n = 1;
    for (int i = 0; i + 1 < t->rank; i++) n *= t->dim[i];
    return n;
}

int64_t ref_row(const struct tensor *t, int64_t row)
{
    if (!t) return 0;
    int64_t offset = 0;
    for (int i = t->rank - 2; i >= 0; i--) {
        offset += row % t->dim[i] * t->stride[i];
        row /= t->dim[i];
    }
    return offset;
}

double ref_weight(const struct tensor *w, int64_t row, int64_t k)
{
    const int64_t at = ref_row(w, row);
    if (!dtype_quantised(w->dtype)) return ref_get(w, at + k);
    return (double)quant_value(tensor_at(w, at), w->dtype, tensor_width(w), k);
}

void ref_clear(const struct tensor *t, int64_t begin, int64_t end)
{
    int64_t inner = 1;
    for (int i = 1; i + 1 < t->rank; i++) inner *= t->dim[i];
    for (int64_t row = begin * inner; row < end * inner; row++)
        for (int64_t i = 0; i < tensor_width(t); i++) ref_put(t, ref_row(t, row) + i, 0.0);
}

int32_t ref_longest(const struct rows *rows)
{
    int32_t longest = 0;
    for (int32_t b = 0; b < rows->B; b++)
        if (ref_length(rows, b) > longest) longest = ref_length(rows, b);
    return longest;
}

int64_t ref_anchor_elements(int32_t Hv, int32_t Dv, int32_t Dk)
{
    return (int64_t)Hv * Dv * Dk;
}

void ref_anchor_pack(const struct delta_slots *slots, int32_t slot, const double *dense)
{
    const int64_t n = ref_anchor_elements(slots->Hv, slots->Dv, slots->Dk);
    void *anchor = delta_anchor(slots, slot);
    for (int64_t i = 0; i < n; i++) ref_store(slots->anchor_type, anchor, i, dense[i]);
}

void ref_anchor_unpack(const struct delta_slots *slots, int32_t slot, double *dense)
{
    const int64_t n = ref_anchor_elements(slots->Hv, slots->Dv, slots->Dk);
    const void *anchor = delta_anchor(slots, slot);
    for (int64_t i = 0; i < n; i++) dense[i] = ref_load(slots->anchor_type, anchor, i);
}
