/* json_number.c: the numbers of json.h, the same in every locale.
 *
 * Ordinary numbers (15 digits, a small exponent) are one exact floating-point operation; the rest
 * is brought into a bounded form first and then goes through the C library in the C locale. */
#include <limits.h>
#include <locale.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/json.h"

bool json_int(const struct json_token *token, int64_t min, int64_t max, int64_t *out)
{
    if (token->kind != JSON_NUMBER) return false;
    const char *p = token->text, *end = p + token->len;
    bool negative = *p == '-';
    int64_t v = 0;
    /* Built on the negative side, which reaches one further. */
    for (p += negative; p < end; p++) {
        if (*p < '0' || *p > '9') return false;
        if (__builtin_mul_overflow(v, 10, &v) || __builtin_sub_overflow(v, *p - '0', &v))
            return false;
    }
    if (!negative && __builtin_sub_overflow(0, v, &v)) return false;
    if (v < min || v > max) return false;
    *out = v;
    return true;
}

/* A decimal number: digits * 10^exponent. No double needs more than 768 digits to be rounded
 * right; what lies beyond only has to be known as zero or not. */
enum { DECIMAL_DIGITS = 800 };
struct decimal {
    char digits[DECIMAL_DIGITS + 1];
    int count;
    int64_t exponent;
    bool negative;
};

static void decimal_read(struct decimal *d, const char *p, const char *end)
{
    bool point = false, rest = false;
    d->count = 0;
    d->exponent = 0;
    d->negative = *p == '-';
    for (p += d->negative; p < end && *p != 'e' && *p != 'E'; p++) {
        if (*p == '.') {
            point = true;
            continue;
        }
        if (d->count == 0 && *p == '0') {
            d->exponent -= point;
        } else if (d->count < DECIMAL_DIGITS) {
            d->digits[d->count++] = *p;
            d->exponent -= point;
        } else {
            rest = rest || *p != '0';
            d->exponent += !point;
        }
    }
    if (rest) d->digits[DECIMAL_DIGITS - 1] = '1';
    if (p == end) return;
    p++;
    bool down = *p == '-';
    if (*p == '-' || *p == '+') p++;
    int64_t exponent = 0;
    /* Held far outside every double, yet small enough to be added to any span length. */
    for (; p < end; p++)
        if (exponent < INT64_MAX / 100) exponent = exponent * 10 + (*p - '0');
    d->exponent += down ? -exponent : exponent;
}

static bool decimal_slow(struct decimal *d, double *out)
{
    locale_t plain = newlocale(LC_ALL_MASK, "C", (locale_t)0);
    if (!plain) return false;
    int64_t exponent = d->exponent;
    if (exponent < -100000) exponent = -100000;
    if (exponent > 100000) exponent = 100000;
    char text[DECIMAL_DIGITS + 32];
    snprintf(text, sizeof text, "%.*se%d", d->count, d->digits, (int)exponent);
    double v = strtod_l(text, NULL, plain);
    freelocale(plain);
    if (isinf(v)) return false;
    *out = d->negative ? -v : v;
    return true;
}

bool json_double(const struct json_token *token, double *out)
{
    static const double tens[] = {1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,
                                  1e8,  1e9,  1e10, 1e11, 1e12, 1e13, 1e14, 1e15,
                                  1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22};
    if (token->kind != JSON_NUMBER) return false;
    struct decimal d;
    decimal_read(&d, token->text, token->text + token->len);
    if (d.count == 0) {
        *out = d.negative ? -0.0 : 0.0;
        return true;
    }
    /* Fifteen digits and the powers above are exact doubles: one operation, rounded once. */
    if (d.count > 15 || d.exponent < -22 || d.exponent > 22) return decimal_slow(&d, out);
    int64_t mantissa = 0;
    for (int i = 0; i < d.count; i++) mantissa = mantissa * 10 + (d.digits[i] - '0');
    double v = (double)(d.negative ? -mantissa : mantissa);
    *out = d.exponent < 0 ? v / tens[-d.exponent] : v * tens[d.exponent];
    return true;
}

void json_put_double(struct bytes *out, double value)
{
    locale_t plain = isfinite(value) ? newlocale(LC_ALL_MASK, "C", (locale_t)0) : (locale_t)0;
    if (!plain) {
        bytes_add_text(out, "null");
        return;
    }
    char text[40];
    locale_t before = uselocale(plain);
    for (int digits = 15; digits <= 17; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, value);
        if (strtod(text, NULL) == value) break;
    }
    uselocale(before);
    freelocale(plain);
    bytes_add_text(out, text);
}
