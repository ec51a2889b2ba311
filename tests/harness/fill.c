#include "harness/fill.h"

#include <math.h>

#include "base/check.h"
#include "base/memory.h"
#include "base/rng.h"
#include "tensor/quant.h"

double number_read(const void *at, enum dtype dtype)
{
    union {
        float f;
        double d;
        uint16_t h;
        int32_t i;
    } n;
    memcpy(&n, at, dtype_size(dtype));
    switch (dtype) {
    case DTYPE_F32: return (double)n.f;
    case DTYPE_BF16: return (double)bf16_to_f32(n.h);
    case DTYPE_F16: return (double)f16_to_f32(n.h);
    case DTYPE_I32: return n.i;
    default: return n.d;
    }
}

void number_write(void *at, enum dtype dtype, double value)
{
    union {
        float f;
        double d;
        uint16_t h;
        int32_t i;
    } n = {.d = value};
    switch (dtype) {
    case DTYPE_F32: n.f = (float)value; break;
    case DTYPE_BF16: n.h = f32_to_bf16((float)value); break;
    case DTYPE_F16: n.h = f32_to_f16((float)value); break;
    case DTYPE_I32: n.i = (int32_t)value; break;
    default: break;
    }
    memcpy(at, &n, dtype_size(dtype));
}

double number_rounded(enum dtype dtype, double value)
{
    double stored = 0;
    number_write(&stored, dtype, value);
    return number_read(&stored, dtype);
}

void quantised_write(void *at, enum dtype dtype, const double *row, int64_t width)
{
    float *x = mem_take_array((size_t)width + 1, sizeof *x);
    GDN_CHECK(x, "no memory for a row");
    for (int64_t i = 0; i < width; i++) x[i] = (float)row[i];
    GDN_CHECK(quant_store(at, dtype, x, width), "a row that does not fit %s", dtype_name(dtype));
    mem_give(x);
}

void quantised_settle(double *row, enum dtype dtype, int64_t width)
{
    void *at = mem_take((size_t)quant_row_bytes(dtype, width) + 1);
    GDN_CHECK(at, "no memory for a row");
    quantised_write(at, dtype, row, width);
    for (int64_t i = 0; i < width; i++) row[i] = (double)quant_value(at, dtype, width, i);
    mem_give(at);
}

static double draw(const struct filling *f, struct rng *rng)
{
    static const double scale[REGIME_COUNT] = {1, 1e-20, 1e4, 0, 1e-40};
    switch (f->fill) {
    case FILL_NORMAL: return f->scale * scale[f->regime] * rng_normal(rng);
    case FILL_STEADY: return f->scale * rng_normal(rng);
    case FILL_UNIT: return f->regime == REGIME_ZERO ? 0 : rng_normal(rng);
    case FILL_SHARE: return f->scale * rng_unit(rng);
    case FILL_DECAY:
        if (f->decay == DECAY_NONE) return 0;
        return f->decay == DECAY_MILD ? -rng_unit(rng) : -rng_between(rng, 60, 200);
    default: return 0;
    }
}

static void make_unit(double *row, int64_t width, double length)
{
    double sum = 0;
    for (int64_t i = 0; i < width; i++) sum += row[i] * row[i];
    for (int64_t i = 0; i < width && sum > 0; i++) row[i] *= length / sqrt(sum);
}

void fill_values(const struct filling *f, double *out, int64_t count, int64_t width)
{
    struct rng rng = {f->seed, 0};
    for (int64_t i = 0; i < count; i++) out[i] = draw(f, &rng);
    if (f->fill == FILL_UNIT)
        for (int64_t i = 0; i < count; i += width) make_unit(out + i, width, f->scale);
    if (f->dtype == DTYPE_F16) /* which holds nothing beyond */
        for (int64_t i = 0; i < count; i++) out[i] = fmax(-65504, fmin(65504, out[i]));
    const enum dtype round = dtype_quantised(f->dtype) ? DTYPE_F32 : f->dtype; /* row by row later */
    for (int64_t i = 0; i < count; i++) out[i] = number_rounded(round, out[i]);
}
