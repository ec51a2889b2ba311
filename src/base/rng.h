/* rng.h: a counter-based random stream: the n-th number of a seed is a function of (seed, n), so a
 * stream can be stored, rewound and replayed as two integers. */
#ifndef BASE_RNG_H
#define BASE_RNG_H

#include <math.h>
#include <stdint.h>

struct rng {
    uint64_t seed, counter;
};

static inline uint64_t rng_mix(uint64_t z)
{
    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return z ^ z >> 31;
}

static inline uint64_t rng_u64(struct rng *r)
{
    uint64_t n = ++r->counter;
    const uint64_t step = UINT64_C(0x9e3779b97f4a7c15);
    return rng_mix(rng_mix(r->seed + step) + n * step);
}

/* [0, 1) with 53 bits. */
static inline double rng_unit(struct rng *r) { return (double)(rng_u64(r) >> 11) * 0x1p-53; }

static inline double rng_between(struct rng *r, double low, double high)
{
    return low + (high - low) * rng_unit(r);
}

/* Standard normal (Box-Muller, one of the pair). */
static inline double rng_normal(struct rng *r)
{
    double u = 1.0 - rng_unit(r), v = rng_unit(r);
    return sqrt(-2.0 * log(u)) * cos(6.283185307179586 * v);
}

/* 0 .. n-1; the bias is below 2^-40 for the n used here. */
static inline uint64_t rng_below(struct rng *r, uint64_t n)
{
    return (uint64_t)(((unsigned __int128)rng_u64(r) * n) >> 64);
}

#endif
