/* attn_backward_tmpl.h: gradients of dense causal attention in f32, in the words of a vector
 * vocabulary. Truth: kernels/ref/attn.c.
 *
 *     S = scale q.k    P = softmax(S)    dP = do.v    dS = scale P (dP - sum_j P_j dP_j)
 *
 *     sweep 1, 64 queries of a head in lanes:  S and dP [keys][64], their sums, dq = dS^T k
 *     sweep 2, 64 keys of a key head in lanes: S and dP again, 64 queries at a time, of the heads
 *              of the group in turn;  dv = P^T do,  dk = dS^T q
 *
 * What a gradient sums is one chain over d, over keys or over queries, ascending: bits do not depend
 * on the threads. A pair that does not see one another enters no product, so what is
 * no number stays where it would in the truth. */
#include "kernels/cpu/row_tmpl.h"
#include "kernels/cpu/vec_rows_tmpl.h"

enum {
    GRAD_LANES = 64,               /* tokens of a block */
    GRAD_TALL = VF_REGISTERS / 4,  /* rows of a tile .. */
    GRAD_WIDE = 2                  /* .. and its vectors */
};

struct grad_job {
    const struct attn_args *a;
    int64_t D, Dv, keys; /* widths in whole sums of 16; the longest sequence in whole blocks */
    int64_t heads;       /* whose blocks are shared out: of queries, then of keys */
    float *top, *sum, *mean; /* [T, Hq] of the softmax, sum P dP */
    struct cpu_work_rows work;
};

/* What a thread works in. x: what is in the lanes, y: what streams by; k, q and v, do in turn. */
struct grad_room {
    float *x_k, *x_v;   /* [D][64], [Dv][64] */
    float *y_k, *y_v;   /* [64][D], [64][Dv] */
    float *into_k, *into_v; /* gradients of the lanes' rows, [64][D], [64][Dv] */
    float *s, *dp;      /* [keys][64] */
};

/* A block of 64 tokens of one head. */
struct grad_block {
    int64_t h, row, length; /* of the sequence: its first row, its rows */
    int64_t first, tokens;  /* of the block, in the sequence */
};

static int64_t grad_room_floats(const struct grad_job *job)
{
    return GRAD_LANES * (3 * (job->D + job->Dv) + 2 * job->keys);
}

static struct grad_room grad_room(const struct grad_job *job, int thread)
{
    struct grad_room r = {.x_k = job->work.data + thread * job->work.stride};
    r.x_v = r.x_k + GRAD_LANES * job->D;
    r.y_k = r.x_v + GRAD_LANES * job->Dv;
    r.y_v = r.y_k + GRAD_LANES * job->D;
    r.into_k = r.y_v + GRAD_LANES * job->Dv;
    r.into_v = r.into_k + GRAD_LANES * job->D;
    r.s = r.into_v + GRAD_LANES * job->Dv;
    r.dp = r.s + GRAD_LANES * job->keys;
    return r;
}

/* Rows of a sequence that take part, in blocks. */
static int64_t grad_blocks(const struct rows *rows, int b)
{
    const bool absent = rows->slot && rows->slot[b] < 0;
    return absent ? 0 : (rows->start[b + 1] - rows->start[b] + GRAD_LANES - 1) / GRAD_LANES;
}

/* Block i of the call; a sequence's blocks from both ends in turn: equal shares are equal work. */
static struct grad_block grad_block(const struct grad_job *job, int64_t i)
{
    const struct rows *rows = job->a->rows;
    int b = 0;
    for (int64_t here; i >= (here = grad_blocks(rows, b) * job->heads); b++) i -= here;
    const int64_t blocks = grad_blocks(rows, b), n = i / job->heads;
    const int64_t turn = n % 2 ? blocks - 1 - n / 2 : n / 2;
    struct grad_block at = {.h = i % job->heads, .row = rows->start[b],
                            .length = rows->start[b + 1] - rows->start[b],
                            .first = turn * GRAD_LANES};
    at.tokens = at.length - at.first < GRAD_LANES ? at.length - at.first : GRAD_LANES;
    return at;
}

/* ---- products ----------------------------------------------------------------------------------- */

/* c[r][..] += sum over k < count of a[r a_row + k a_k] b[k][..], each row `width` wide. */
struct grad_product {
    const float *a, *b;
    float *c;
    int64_t a_row, a_k, width, count;
};

VF_INLINE void grad_tile(const struct grad_product *g, int64_t at, int64_t rows, int vectors)
{
    vf sum[GRAD_TALL][GRAD_WIDE];
    float *c = g->c + at;
    const float *a = g->a, *b = g->b + at;
    VF_UNROLL for (int r = 0; r < rows; r++)
        VF_UNROLL for (int v = 0; v < vectors; v++)
            sum[r][v] = vf_load(c + r * g->width + v * VL);
    for (int64_t k = 0; k < g->count; k++, a += g->a_k, b += g->width) {
        vf wide[GRAD_WIDE];
        VF_UNROLL for (int v = 0; v < vectors; v++) wide[v] = vf_load(b + v * VL);
        VF_UNROLL for (int r = 0; r < rows; r++) {
            const vf one = vf_set1(a[r * g->a_row]);
            VF_UNROLL for (int v = 0; v < vectors; v++)
                sum[r][v] = vf_fma(one, wide[v], sum[r][v]);
        }
    }
    VF_UNROLL for (int r = 0; r < rows; r++)
        VF_UNROLL for (int v = 0; v < vectors; v++)
            vf_store(c + r * g->width + v * VL, sum[r][v]);
}

/* A strip of columns stays in the nearest cache while all rows meet it. */
VF_INLINE void grad_strip(const struct grad_product *g, int64_t at, int64_t rows, int vectors)
{
    struct grad_product tile = *g;
    for (; rows >= GRAD_TALL; rows -= GRAD_TALL) {
        grad_tile(&tile, at, GRAD_TALL, vectors);
        tile.a += GRAD_TALL * g->a_row, tile.c += GRAD_TALL * g->width;
    }
    for (; rows > 0; rows--, tile.a += g->a_row, tile.c += g->width)
        grad_tile(&tile, at, 1, vectors);
}

static void grad_multiply(const struct grad_product *g, int64_t rows)
{
    int64_t at = 0;
    for (; at + GRAD_WIDE * VL <= g->width; at += GRAD_WIDE * VL)
        grad_strip(g, at, rows, GRAD_WIDE);
    for (; at < g->width; at += VL) grad_strip(g, at, rows, 1);
}

/* to [rows][64] = y x, for y [rows][width]. */
static void grad_scores(float *to, const float *y, const float *x, int64_t width, int64_t rows)
{
    memset(to, 0, (size_t)(rows * GRAD_LANES) * sizeof *to);
    grad_multiply(&(struct grad_product){.a = y, .b = x, .c = to, .a_row = width, .a_k = 1,
                                        .width = GRAD_LANES, .count = width}, rows);
}

/* into[lane] += sum over rows r of y of w[r][lane] y[r]. */
struct grad_sum {
    float *into;
    const float *w, *y; /* [rows][64], [rows][width] */
    int64_t width;
};

/* Rows from .. to - 1 for lanes l .. l + lanes - 1. */
static void grad_collect(const struct grad_sum *s, int64_t l, int64_t lanes, int64_t from,
                         int64_t to)
{
    if (from >= to) return;
    grad_multiply(&(struct grad_product){.a = s->w + from * GRAD_LANES + l,
                                        .b = s->y + from * s->width, .c = s->into + l * s->width,
                                        .a_row = 1, .a_k = GRAD_LANES, .width = s->width,
                                        .count = to - from}, lanes);
}

/* Where rows and lanes are the same tokens, and lane l meets rows up to l, or from l on: what all
 * lanes of a tile meet is one product. */
static void grad_up_to(const struct grad_sum *s, int64_t lanes)
{
    for (int64_t l = 0; l < lanes; l += GRAD_TALL) {
        const int64_t tall = lanes - l < GRAD_TALL ? lanes - l : GRAD_TALL;
        grad_collect(s, l, tall, 0, l + 1);
        for (int64_t i = 1; i < tall; i++) grad_collect(s, l + i, 1, l + 1, l + i + 1);
    }
}

static void grad_from(const struct grad_sum *s, int64_t lanes)
{
    for (int64_t l = 0; l < lanes; l += GRAD_TALL) {
        const int64_t tall = lanes - l < GRAD_TALL ? lanes - l : GRAD_TALL, last = l + tall - 1;
        for (int64_t i = 0; i + 1 < tall; i++) grad_collect(s, l + i, 1, l + i, last);
        grad_collect(s, l, tall, last, lanes);
    }
}

/* ---- rows --------------------------------------------------------------------------------------- */

/* `tokens` rows of a head from `row` on, as f32 [tokens][wide]. */
static void grad_rows(float *to, int64_t wide, const struct tensor *t, int64_t row, int64_t h,
                      int64_t tokens)
{
    for (int64_t i = 0; i < tokens; i++)
        row_load(to + i * wide, tensor_at(t, (row + i) * t->stride[0] + h * t->stride[1]), t->dtype,
                 (int)t->dim[2], 16);
}

/* The same into lanes [wide][64], by way of `room`; those that are not there are 0. */
static void grad_lanes(float *to, float *room, int64_t wide, const struct tensor *t, int64_t row,
                       int64_t h, int64_t tokens)
{
    grad_rows(room, wide, t, row, h, tokens);
    for (int64_t d = 0; d < wide; d++)
        for (int64_t i = 0; i < GRAD_LANES; i++)
            to[d * GRAD_LANES + i] = i < tokens ? room[i * wide + d] : 0.0f;
}

static void grad_leave(const struct tensor *grad, const float *from, int64_t wide, int64_t row,
                       int64_t h, int64_t tokens)
{
    for (int64_t r = 0; grad && r < tokens; r++) {
        float *to = tensor_at(grad, (row + r) * grad->stride[0] + h * grad->stride[1]);
        for (int64_t d = 0; d < grad->dim[2]; d += VL)
            row_add(to, d, grad->dim[2] - d < VL ? grad->dim[2] - d : VL,
                    vf_load(from + r * wide + d));
    }
}

/* ---- sweep 1: queries --------------------------------------------------------------------------- */

VF_INLINE vf grad_larger(vf a, vf b)
{
    const vf_word more = a > b;
    return (vf)((more & (vf_word)a) | (~more & (vf_word)b));
}

/* Scores and dP of VL queries over `keys` keys: scores become dS. out: top, sum, mean. */
VF_INLINE void grad_soften(float *s, const float *dp, float scale, int64_t keys, vf *out)
{
    vf top = vf_set1(-INFINITY), sum = vf_zero(), mean = vf_zero();
    for (int64_t j = 0; j < keys; j++)
        top = grad_larger(vf_mul(vf_load(s + j * GRAD_LANES), vf_set1(scale)), top);
    for (int64_t j = 0; j < keys; j++) {
        const vf x = vf_mul(vf_load(s + j * GRAD_LANES), vf_set1(scale));
        const vf e = vf_exp(vf_sub(x, top));
        sum = vf_add(sum, e);
        mean = vf_fma(e, vf_load(dp + j * GRAD_LANES), mean);
        vf_store(s + j * GRAD_LANES, e);
    }
    mean = vf_div(mean, sum);
    for (int64_t j = 0; j < keys; j++) {
        const vf p = vf_div(vf_load(s + j * GRAD_LANES), sum);
        const vf off = vf_sub(vf_load(dp + j * GRAD_LANES), mean);
        vf_store(s + j * GRAD_LANES, vf_mul(vf_set1(scale), vf_mul(p, off)));
    }
    out[0] = top, out[1] = sum, out[2] = mean;
}

static void grad_queries(const struct grad_job *job, const struct grad_block *at,
                         const struct grad_room *m)
{
    const struct attn_args *a = job->a;
    const int64_t from = at->h / (a->q->dim[1] / a->k->dim[1]), keys = at->first + at->tokens;
    float stat[3][GRAD_LANES];
    grad_lanes(m->x_k, m->y_k, job->D, a->q, at->row + at->first, at->h, at->tokens);
    grad_lanes(m->x_v, m->y_v, job->Dv, a->o->grad, at->row + at->first, at->h, at->tokens);
    for (int64_t j = 0; j < keys; j += GRAD_LANES) {
        const int64_t some = keys - j < GRAD_LANES ? keys - j : GRAD_LANES;
        grad_rows(m->y_k, job->D, a->k, at->row + j, from, some);
        grad_rows(m->y_v, job->Dv, a->v, at->row + j, from, some);
        grad_scores(m->s + j * GRAD_LANES, m->y_k, m->x_k, job->D, some);
        grad_scores(m->dp + j * GRAD_LANES, m->y_v, m->x_v, job->Dv, some);
    }
    for (int64_t j = 1; j < at->tokens; j++)
        for (int64_t l = 0; l < j; l++) {
            const int64_t unseen = (at->first + j) * GRAD_LANES + l;
            m->s[unseen] = a->scale > 0 ? -INFINITY : INFINITY, m->dp[unseen] = 0.0f;
        }
    for (int64_t l = 0; l < GRAD_LANES; l += VL) {
        vf out[3];
        grad_soften(m->s + l, m->dp + l, (float)a->scale, keys, out);
        for (int i = 0; i < 3; i++) vf_store(stat[i] + l, out[i]);
    }
    for (int64_t l = 0; l < at->tokens; l++) {
        const int64_t to = (at->row + at->first + l) * a->q->dim[1] + at->h;
        job->top[to] = stat[0][l], job->sum[to] = stat[1][l], job->mean[to] = stat[2][l];
    }
    memset(m->into_k, 0, (size_t)(GRAD_LANES * job->D) * sizeof(float));
    for (int64_t j = 0; j < keys; j += GRAD_LANES) {
        const int64_t some = keys - j < GRAD_LANES ? keys - j : GRAD_LANES;
        grad_rows(m->y_k, job->D, a->k, at->row + j, from, some);
        const struct grad_sum dq = {m->into_k, m->s + j * GRAD_LANES, m->y_k, job->D};
        if (j < at->first)
            grad_collect(&dq, 0, at->tokens, 0, some);
        else
            grad_up_to(&dq, at->tokens);
    }
    grad_leave(a->q->grad, m->into_k, job->D, at->row + at->first, at->h, at->tokens);
}

/* ---- sweep 2: keys ------------------------------------------------------------------------------ */

/* 64 scores of a query become P, and dP becomes dS. */
VF_INLINE void grad_weigh(const struct grad_job *job, int64_t stat, float *s, float *dp)
{
    const vf scale = vf_set1((float)job->a->scale), top = vf_set1(job->top[stat]);
    const vf sum = vf_set1(job->sum[stat]), mean = vf_set1(job->mean[stat]);
    for (int64_t l = 0; l < GRAD_LANES; l += VL) {
        const vf p = vf_div(vf_exp(vf_sub(vf_mul(vf_load(s + l), scale), top)), sum);
        vf_store(s + l, p);
        vf_store(dp + l, vf_mul(scale, vf_mul(p, vf_sub(vf_load(dp + l), mean))));
    }
}

static void grad_keys(const struct grad_job *job, const struct grad_block *at,
                      const struct grad_room *m)
{
    const struct attn_args *a = job->a;
    const int64_t group = a->q->dim[1] / a->k->dim[1];
    grad_lanes(m->x_k, m->y_k, job->D, a->k, at->row + at->first, at->h, at->tokens);
    grad_lanes(m->x_v, m->y_v, job->Dv, a->v, at->row + at->first, at->h, at->tokens);
    memset(m->into_k, 0, (size_t)(GRAD_LANES * job->D) * sizeof(float));
    memset(m->into_v, 0, (size_t)(GRAD_LANES * job->Dv) * sizeof(float));
    const struct grad_sum dk = {m->into_k, m->dp, m->y_k, job->D};
    const struct grad_sum dv = {m->into_v, m->s, m->y_v, job->Dv};
    for (int64_t h = at->h * group; h < (at->h + 1) * group; h++)
        for (int64_t i = at->first; i < at->length; i += GRAD_LANES) {
            const int64_t some = at->length - i < GRAD_LANES ? at->length - i : GRAD_LANES;
            grad_rows(m->y_k, job->D, a->q, at->row + i, h, some);
            grad_rows(m->y_v, job->Dv, a->o->grad, at->row + i, h, some);
            grad_scores(m->s, m->y_k, m->x_k, job->D, some);
            grad_scores(m->dp, m->y_v, m->x_v, job->Dv, some);
            for (int64_t r = 0; r < some; r++)
                grad_weigh(job, (at->row + i + r) * a->q->dim[1] + h, m->s + r * GRAD_LANES,
                           m->dp + r * GRAD_LANES);
            for (int n = 0; n < 2; n++) {
                const struct grad_sum sum = n ? dk : dv;
                if (i == at->first)
                    grad_from(&sum, at->tokens);
                else
                    grad_collect(&sum, 0, at->tokens, 0, some);
            }
        }
    grad_leave(a->k->grad, m->into_k, job->D, at->row + at->first, at->h, at->tokens);
    grad_leave(a->v->grad, m->into_v, job->Dv, at->row + at->first, at->h, at->tokens);
}

/* ---- a call ------------------------------------------------------------------------------------- */

static void grad_query_blocks(void *context, int64_t begin, int64_t end, int thread)
{
    const struct grad_job *job = context;
    const struct grad_room room = grad_room(job, thread);
    for (int64_t i = begin; i < end; i++) {
        const struct grad_block at = grad_block(job, i);
        grad_queries(job, &at, &room);
    }
}

static void grad_key_blocks(void *context, int64_t begin, int64_t end, int thread)
{
    const struct grad_job *job = context;
    const struct grad_room room = grad_room(job, thread);
    for (int64_t i = begin; i < end; i++) {
        const struct grad_block at = grad_block(job, i);
        grad_keys(job, &at, &room);
    }
}

void CPU_NAME(cpu_attn_backward)(struct device *device, struct arena *scratch, const void *args)
{
    const struct attn_args *a = args;
    const struct rows *rows = a->rows;
    GDN_CHECK(a->pages == NULL, "attn: gradients do not go through pages");
    if (!a->o->grad) return;
    struct grad_job job = {.a = a, .D = (a->q->dim[2] + 15) / 16 * 16,
                           .Dv = (a->v->dim[2] + 15) / 16 * 16};
    int64_t blocks = 0;
    for (int b = 0; b < rows->B; b++) {
        const int64_t here = grad_blocks(rows, b);
        blocks += here;
        if (here * GRAD_LANES > job.keys) job.keys = here * GRAD_LANES;
    }
    const size_t stats = (size_t)rows->T * (size_t)a->q->dim[1];
    job.top = arena_take(scratch, 3 * stats * sizeof *job.top);
    job.work = cpu_take_rows(device, scratch, grad_room_floats(&job));
    if (!job.top || !job.work.data) return;
    job.sum = job.top + stats, job.mean = job.sum + stats;
    job.heads = a->q->dim[1];
    pool_run(device->pool, blocks * job.heads, 1, grad_query_blocks, &job);
    job.heads = a->k->dim[1];
    pool_run(device->pool, blocks * job.heads, 1, grad_key_blocks, &job);
}
