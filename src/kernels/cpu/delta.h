/* delta.h: the gated delta rule on the CPU: how a call is cut into blocks, and the workplace of a
 * head. The arithmetic is in delta_tmpl.h (coefficients) and delta_strips_tmpl.h (state), compiled
 * for each ISA; delta.c owns what is around it. docs/kernels/delta.md. */
#ifndef KERNELS_CPU_DELTA_H
#define KERNELS_CPU_DELTA_H

#include "kernels/cpu/cpu.h"

/* Coefficients of so many blocks are made at once: a strip then walks through all of them and stays
 * in the nearest cache. At T = 1 so many strips stand side by side. So many heads of a sequence take
 * turns: the rows of neighbours lie in the same pages. */
enum { DELTA_BLOCKS = 4, DELTA_SIDE = 4, DELTA_WIDE = DELTA_SIDE * STRIP, DELTA_HEADS = 4 };

/* Up to 16 tokens that meet the same anchor. */
struct delta_block {
    int have, from; /* entries that stand in the log already, and where */
    int rows;       /* new ones after them */
    int64_t row;    /* the first of these */
    bool fold;      /* at its end it goes into the anchor, */
    bool aside;     /* or into a copy: nothing of a draft is final */
    bool chunks;    /* the rows, any number of them, go to the chunk form: state to state */
    int keep;       /* its entries' place in the log after the call; -1: none */
};

/* A sequence's call, block by block. */
struct delta_plan {
    int have, from, beyond; /* beyond: log entries after the first 16, whose fold is overdue */
    int64_t row, end;
    bool slots, draft, fold_last, chunks, done;
    int drafted; /* blocks of the draft so far */
};

/* `chunks`: long runs of rows from the edge of a block on become one block of the chunk form. On
 * slots 1 to 16 rows stay behind it, for the log. */
struct delta_plan delta_plan_of(const struct delta_args *a, int b, bool chunks);
/* The next block; false when there is none. */
bool delta_plan_next(struct delta_plan *plan, struct delta_block *block);

/* What the strips need of a block. Rows are h->row floats long: Dk and zeros up to a multiple of
 * 16. With a gate per channel, k and q are decayed to the anchor. */
struct delta_coefs {
    float *kq;      /* [16][2][row] k and q of an entry */
    float *fold;    /* entry i at i * fold_stride: what w_i u_i is multiplied with in the fold */
    int64_t fold_stride;
    float *keep;    /* [row] what stays of the anchor's row d */
    float *ck, *cq; /* [16][16] coefficients of u_i in r and o */
    float *eG;      /* [16] factor of S k and S q */
    float *w;       /* [16] weight of u_i in the fold */
    float *beta;    /* [16] */
};

/* Where one token finds the entries before it: in the log itself. */
struct delta_past {
    int count;      /* 0: where those of a block are, copied */
    const void *k;  /* [count] Dk elements, k_step elements apart, */
    const float *G; /* and with a gate a channel their G */
    int64_t k_step, G_step;
};

/* One head of one sequence, in one thread's scratch, and its companions. */
struct delta_head {
    const struct delta_args *a;
    int b;
    int64_t first;  /* heads first..first + count - 1 take turns, */
    int count;
    int64_t hv, hk; /* and this one has it */
    struct {
        int64_t hv, hk, ahead;
    } next;         /* after it: the rows of this head, so much further down */
    int Dk, Dv, strips;
    int row;        /* Dk rounded up to 16 */
    bool channel;   /* a gate per key channel */
    bool round;     /* the anchor is rounded through bf16 at every edge */
    int64_t strip;  /* floats of a strip */
    char *anchor;   /* slots: the head's strips, of anchor_type */
    float *state;   /* dense: all strips */
    float *states;  /* of all that take turns */
    float *rows4;   /* dense: [4][row] */
    float *aside;   /* DELTA_SIDE strips: a copy in f32 */
    size_t chunk_bytes; /* 0: no chunk form in this call */
    void *chunk_work;
    struct delta_past past;
    float *raw;     /* [16][2][row] k and q; with one gate a head those of the coefficients */
    float *G;       /* [16][row], or [16] */
    float *step;    /* channel: [16][row] e^(G_i - G_{i-1}) */
    float *product; /* channel: [row] */
    float *u;       /* [16][DELTA_WIDE] */
    float *x;       /* [16][STRIP] weighted u */
    float *r;       /* [2 * 16][STRIP], or fewer rows of DELTA_WIDE */
    struct delta_coefs coefs[DELTA_BLOCKS];
    struct delta_block block[DELTA_BLOCKS];
};

/* Heads that take turns: their rows, logs and anchors. In delta.c, delta_avx2.c, delta_avx512.c. */
typedef void delta_run(struct delta_head *head);
delta_run delta_run_portable, delta_run_avx2, delta_run_avx512;

/* How many heads may take turns in a call. */
static inline int delta_turns(const struct delta_args *a)
{
    return a->v->dim[1] < DELTA_HEADS ? (int)a->v->dim[1] : DELTA_HEADS;
}

/* Head `n` of those has its turn. */
void delta_take_turn(struct delta_head *head, int n);

/* A call with that arithmetic; `chunks`: where the call is fast and the widths fit, long runs of rows
 * go to the chunk form. */
void delta_forward(struct device *device, struct arena *scratch, const struct delta_args *a,
                   delta_run *run, bool chunks);

/* The chunk form on those heads, in delta_chunks.c: scratch (0: not this call), and a block of rows. */
size_t delta_chunk_bytes(const struct delta_args *a);
void delta_run_chunks(struct delta_head *head, const struct delta_block *block);

/* Row `entry` of a log array [slots][entries][heads][width], in elements. */
static inline int64_t delta_log_at(const struct delta_slots *d, int64_t slot, int64_t entry,
                                   int64_t heads, int64_t head, int64_t width)
{
    return ((slot * d->entries + entry) * heads + head) * width;
}

/* Dense [Dv][Dk] of the head <-> strips in f32, in delta_dense.c. NULL: zero; nothing. */
void delta_dense_load(const struct delta_head *h, const struct tensor *S0);
void delta_dense_store(const struct delta_head *h, const struct tensor *S1);

#endif
