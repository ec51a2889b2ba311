/* ways.h: the device under test once for each instruction set that it has bodies for. What a proof
 * finds with the strongest one says nothing about the others. */
#ifndef HARNESS_WAYS_H
#define HARNESS_WAYS_H

#include "harness/laws.h"

struct way {
    char name[16];
    struct station one, three; /* threads */
};

enum { WAYS = 3 };
struct ways {
    struct way of[WAYS];
    int count;
    struct station *ref;
};
typedef void ways_law(struct ways *w, struct verdict *v);

/* Portable, AVX2 and everything, as far as this machine has them; another device than "cpu" has one
 * way. */
void on_every_isa(struct lab *lab, struct verdict *v, ways_law *holds);

/* A law that is a function of the ways: name_holds() becomes name(). */
#define EVERY_ISA(name)                                                               \
    static void name(struct lab *lab, struct verdict *v, const struct law *law)       \
    {                                                                                 \
        (void)law;                                                                    \
        on_every_isa(lab, v, name##_holds);                                           \
    }

/* A law of a form, like law_each, with each instruction set in turn. */
void law_every_isa(struct lab *lab, struct verdict *v, const struct law *law);
#define FORM_LAW_EVERY_ISA(title, law, list, ...)                                     \
    {                                                                                 \
        .name = title, .run = law_every_isa, .form = &form, .holds = law_##law,       \
        SHAPES(list), .extent = __VA_ARGS__                                           \
    }

/* All cuts in two of 200 tokens, and 2,000 partitions. */
#define FULL_EXTENT                                                                   \
    {                                                                                 \
        .tokens = HARNESS_SANITIZED ? 70 : 200,                                       \
        .partitions = HARNESS_SANITIZED ? 20 : 2000                                   \
    }

#endif
