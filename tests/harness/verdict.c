#include "harness/verdict.h"

#include <float.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>

void verdict_fail(struct verdict *v, const char *format, ...)
{
    char shape[256], text[640];
    shape_text(&v->shape, shape, sizeof shape);
    va_list list;
    va_start(list, format);
    int used = snprintf(text, sizeof text, "%s, %s: ", v->subject, shape);
    if (used > 0 && (size_t)used < sizeof text)
        vsnprintf(text + used, sizeof text - (size_t)used, format, list);
    va_end(list);
    if (v->failures++ == 0) snprintf(v->first, sizeof v->first, "%s", text);
    if (v->loud) fprintf(stderr, "%s\n", text);
}

struct limit limit_of(enum dtype stored, double l2, int roundings)
{
    const double ulp = stored == DTYPE_BF16 ? 0x1p-8 : stored == DTYPE_F16 ? 0x1p-11 : 0;
    return (struct limit){.l2 = l2 + roundings * ulp, .element = 8 * l2,
                          .rounding = roundings * ulp};
}

void coordinate_text(const struct tensor *t, int64_t element, char *out, size_t room)
{
    int64_t at[TENSOR_RANK];
    for (int i = t->rank - 1; i >= 0; i--) {
        at[i] = element % t->dim[i];
        element /= t->dim[i];
    }
    size_t used = 0;
    for (int i = 0; i < t->rank && used < room; i++)
        used += (size_t)snprintf(out + used, room - used, "%s%lld", i ? ", " : "(",
                                 (long long)at[i]);
    if (used < room) snprintf(out + used, room - used, ")");
}

/* The largest number of a type, and what the smallest ones may be off by: floats below the smallest
 * normal one may be flushed to 0; f16 keeps them, in steps of 2^-24. */
static double most_of(enum dtype dtype) { return dtype == DTYPE_F16 ? 65504 : (double)FLT_MAX; }
static double least_of(enum dtype dtype) { return dtype == DTYPE_F16 ? 0x1p-25 : (double)FLT_MIN; }

/* The largest magnitude that the type can hold. */
static double largest(const double *x, int64_t n, double most)
{
    double top = 0;
    for (int64_t i = 0; i < n; i++)
        if (fabs(x[i]) > top && fabs(x[i]) <= most) top = fabs(x[i]);
    return top;
}

/* NaN meets NaN; what the type cannot hold meets an infinity or its largest numbers. */
static bool agrees_beyond_numbers(double got, double want, double most)
{
    if (isnan(want)) return isnan(got);
    return (want > 0) == (got > 0) && fabs(got) > 0.99 * most;
}

void verdict_compare(struct verdict *v, const char *name, const struct tensor *t,
                     const double *got, const double *want, struct limit limit)
{
    const int64_t n = tensor_elements(t);
    const double most = most_of(t->dtype), least = least_of(t->dtype);
    const double top = largest(want, n, most);
    double square = 0, error = 0, worst = 0;
    int64_t where = -1;
    for (int64_t i = 0; i < n; i++) {
        if (!(fabs(want[i]) <= most)) {
            if (agrees_beyond_numbers(got[i], want[i], most)) continue;
            worst = INFINITY, where = i;
            break;
        }
        double e = fabs(got[i] - want[i]) - least;
        if (e < 0) e = 0;
        const double room = limit.element * top + limit.rounding * fabs(want[i]);
        const double share = isnan(e) ? INFINITY : e > 0 ? (room > 0 ? e / room : INFINITY) : 0;
        if (share > worst) worst = share, where = i;
        square += want[i] * want[i];
        error += e * e;
    }
    const double l2 = square > 0 ? sqrt(error / square) : error > 0 ? INFINITY : 0;
    char at[96] = "nowhere";
    if (where >= 0) coordinate_text(t, where, at, sizeof at);
    const double share = limit.l2 > 0 ? l2 / limit.l2 : l2 > 0 ? INFINITY : 0;
    if (limit.rounding == 0) v->worst = fmax(v->worst, fmax(worst, share));
    if (EXPECT(v, worst <= 1, "%s at %s is %.9g, expected %.9g (%.3g of its limit)", name, at,
               got[where < 0 ? 0 : where], want[where < 0 ? 0 : where], worst))
        EXPECT(v, share <= 1, "%s is off by %.3g in relative L2, allowed %.3g (worst at %s)", name,
               l2, limit.l2, at);
}
