/* shape.h: one case of an op, and the sweeps that make many of them from a few lines. */
#ifndef HARNESS_SHAPE_H
#define HARNESS_SHAPE_H

#include <stddef.h>
#include <stdint.h>

/* Every number a case can have, by the names of call.h. 0 is the plain choice everywhere. */
#define SHAPE_FIELDS(X)                                                                        \
    X(B)       /* sequences; 0 means 1 */                                                      \
    X(T)       /* rows of all sequences together */                                            \
    X(Hk)      /* key heads (or the only kind of heads) */                                     \
    X(R)       /* value heads (query heads) for each of them */                                \
    X(Dk)                                                                                      \
    X(Dv)                                                                                      \
    X(D)                                                                                       \
    X(K)                                                                                       \
    X(N)                                                                                       \
    X(W)       /* taps of a convolution */                                                     \
    X(act)     /* enum dtype of activations */                                                 \
    X(weight)  /* enum dtype of weights */                                                     \
    X(regime)  /* enum regime */                                                               \
    X(decay)   /* enum decay */                                                                \
    X(window)  /* activations are windows of wider rows */                                     \
    X(absent)  /* every third sequence has slot -1 */                                          \
    X(start)   /* position of the first rows */                                                \
    X(slots)   /* the state goes through slots */                                              \
    X(option)  /* bits of the op's own */

struct shape {
#define SHAPE_MEMBER(name) int name;
    SHAPE_FIELDS(SHAPE_MEMBER)
#undef SHAPE_MEMBER
};

/* The values that a field takes in a sweep. */
struct axis {
    size_t field;
    int count;
    const int *value;
};
#define AXIS(name, ...)                                                             \
    {offsetof(struct shape, name), (int)(sizeof((int[]){__VA_ARGS__}) / sizeof(int)), \
     (const int[]){__VA_ARGS__}}

/* Around every edge of the blocks of 16, chunks of 64 and vectors of 4, 8, 16 and 32. */
#define EDGE_ROWS 1, 2, 3, 15, 16, 17, 31, 33, 63, 64, 65, 130, 0
#define EDGE_WIDTHS 1, 3, 7, 8, 31, 32, 33, 64, 96, 100, 128

/* Explicit lines first, then `cases` drawn ones: the first two axes are crossed, the others take
 * a value that is a fixed, scattered function of the case's number. */
struct sweep {
    const struct shape *line;
    int lines;
    const struct axis *axis;
    int axes, cases;
};
#define LINES(array) .line = (array), .lines = (int)(sizeof(array) / sizeof(*(array)))
#define AXES(array) .axis = (array), .axes = (int)(sizeof(array) / sizeof(*(array)))

/* How many cases a sweep has in this build: sanitized builds take every third drawn one. */
int sweep_count(const struct sweep *sweep);
struct shape sweep_shape(const struct sweep *sweep, int n);

/* "T=17 D=33 act=1": the fields that are not 0. */
void shape_text(const struct shape *shape, char *out, size_t room);

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define HARNESS_SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define HARNESS_SANITIZED 1
#endif
#endif
#ifndef HARNESS_SANITIZED
#define HARNESS_SANITIZED 0
#endif

#endif
