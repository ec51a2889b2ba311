/* attn.h: what the driver of attention (attn.c) and its forms share: a block of queries, the page
 * it meets, the sums it keeps.
 *
 * The queries of one key head at one token are its group; column c of a block is query
 * (first + c) % group of token (first + c) / group, counted from `row`. All tokens of a block stand
 * in one page of 64 positions: every earlier page is seen whole by all of them, and only this last
 * one is cut off where a token's past ends. So blocks never mask anything but their last page.
 *
 * A column's sums over the pages of a span (ATTN_SPAN positions, at absolute places) are
 *
 *     top = max of its scores    weight = sum e^(score - top)    acc = sum e^(score - top) v
 *
 * page after page; spans meet in order. Nothing of it depends on the other columns. */
#ifndef KERNELS_CPU_ATTN_H
#define KERNELS_CPU_ATTN_H

#include "kernels/cpu/cpu.h"

enum { ATTN_SPAN_PAGES = 8, ATTN_SPAN = ATTN_SPAN_PAGES * PAGE };

/* Memory to come, called line by line while other is at work: pieces of `run` lines, `jump` bytes from
 * the end of one to the next. */
struct attn_errand {
    const char *at;
    int64_t lines; /* that are left; 0: none */
    int64_t run, left;
    int64_t jump;
};

struct attn_page {
    const char *k, *v;       /* of the page's first position */
    int64_t k_step, v_step;  /* bytes from one position to the next */
    struct attn_errand next_k, next_v; /* to rows of a page to come */
    int64_t number;          /* of the sequence's pages */
    bool ends;               /* no page of its span follows for this block */
    int keys;                /* positions to read: 64, or what the block's last token sees */
    bool last;               /* of the block's: its tokens see as many keys as attn_seen says */
};

/* Calls so many lines into L2. Inlined, since gcc 12 drops calls of what only prefetches. */
static inline __attribute__((always_inline)) void attn_call(struct attn_errand *e, int64_t lines)
{
    for (; lines > 0 && e->lines > 0; lines--, e->lines--) {
        __builtin_prefetch(e->at, 0, 2);
        e->at += 64;
        if (--e->left == 0) e->at += e->jump, e->left = e->run;
    }
}

struct attn_sums {
    float *top, *weight; /* [columns] */
    float *acc;          /* [columns][acc_step] */
};

struct attn_block {
    const struct attn_args *args;
    int64_t row;   /* the first of the sequence's tokens in the page */
    int64_t h;     /* key head */
    int64_t first; /* column 0 */
    int columns, group;
    int place;     /* of that token in its page */
    int64_t acc_step;
    char *work;    /* form->bytes, and the block's alone */
};

/* How many keys of the last page column c sees. */
static inline int attn_seen(const struct attn_block *b, int c)
{
    return b->place + (int)((b->first + c) / b->group) + 1;
}

/* Query or output of column c. */
static inline void *attn_column(const struct attn_block *b, const struct tensor *t, int c)
{
    const int64_t at = b->first + c;
    return tensor_at(t, (b->row + at / b->group) * t->stride[0] +
                            (b->h * b->group + at % b->group) * t->stride[1]);
}

/* Widths and columns as forms pad them. */
static inline int64_t attn_wide(int64_t n) { return (n + 31) / 32 * 32; }
static inline int attn_columns(int n) { return (n + 15) / 16 * 16; }

/* One way to do the work of a thread. */
struct attn_form {
    int columns; /* of a block at most */
    int ahead;   /* how many pages on is the one that a block of up to 16 columns calls */
    bool beside; /* such blocks of all key heads walk side by side */
    size_t (*bytes)(const struct attn_args *a, int columns);
    void (*enter)(const struct attn_block *b); /* brings the queries to b->work */
    void (*fold)(const struct attn_block *b, const struct attn_sums *sums,
                 const struct attn_page *page);
    /* into := into and, behind it, from */
    void (*merge)(const struct attn_block *b, const struct attn_sums *into,
                  const struct attn_sums *from);
    void (*leave)(const struct attn_block *b, const struct attn_sums *sums); /* o = acc / weight */
};
extern const struct attn_form attn_form_portable, attn_form_avx2, attn_form_avx512;
extern const struct attn_form attn_form_amx; /* q, k and v in bf16 */

#endif
