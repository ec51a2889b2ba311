/* delta.cu: the gated delta rule on an anchor and a log, or dense. Truth: kernels/ref/delta_log.c.
 *
 * A block takes a strip of 32 value columns of one head of one sequence. Its part of the anchor
 * A [Dk][32] is read once, into registers: a thread of group g holds rows d = g, g + 16, .. of four
 * columns. The log of the current block of 16 tokens is in shared memory, and so are a few rows at a
 * time. For the rows t of such a stretch inside a block, all at once:
 *
 *     a_t = e^G_t (A k_t),  b_t = e^G_t (A q_t)             d = g, g + 16, ..; then a tree over g
 *     K_ti = e^(G_t - G_i) k_i.k_t,  Q_ti likewise           lane tree over d, i <= t
 *
 * then row after row, a thread a column:
 *
 *     u_t = beta_t (v_t - a_t - sum_i K_ti u_i);   o_t = b_t + sum_i Q_ti u_i + (k_t.q_t) u_t
 *
 * A full block is folded when the next row comes: A = e^G_15 A + sum_i e^(G_15 - G_i) k_i u_i. With
 * a gate a channel the exponentials stand inside the products. Every sum has the same order however
 * many rows come at once, so cuts and drafts change no bits. */
#include "kernels/cuda/delta_block.cuh"
#include "kernels/cuda/delta_prompt.cuh"

/* An absent sequence: its rows are 0. */
static __device__ void clear_rows(const struct delta_call &a, const struct place &p)
{
    for (int32_t t = a.rows.start[p.b]; t < a.rows.start[p.b + 1]; t++)
        if ((int32_t)threadIdx.x < p.width)
            put(a.o, view_at(a.o, t, p.h, p.column + threadIdx.x), 0.0f);
}

/* The oldest 16 entries of a log that is overdue, and the rest moves down (u; k and G move later). */
template <int EACH, bool CHANNEL>
static __device__ void fold_overdue(const struct delta_call &a, const struct delta_run &run,
                                    const struct place &p, const struct hall &s, float4 (&A)[EACH])
{
    load_log<EACH, CHANNEL>(a, run.slot, p, s, 0, BLOCK);
    fold<EACH, CHANNEL>(a, s, BLOCK, A);
    store_anchor(a, run.slot, p, A);
    load_log<EACH, CHANNEL>(a, run.slot, p, s, BLOCK, run.m);
    for (int32_t e = 0; e < run.m; e++) store_u(a, run.slot, p, s, 0, e);
}

/* Takes the sequence's rows; returns how many blocks were folded, and m entries that were not. */
template <int EACH, bool CHANNEL>
static __device__ int32_t take_rows(const struct delta_call &a, const struct delta_run &run,
                                    const struct place &p, const struct hall &s, float4 (&A)[EACH],
                                    int32_t *entries)
{
    const bool kept = a.slots.anchor != NULL;
    int32_t m = run.m, first = 0, folds = 0;
    for (int32_t done = 0; done < run.n;) {
        if (m == BLOCK) {
            fold<EACH, CHANNEL>(a, s, BLOCK, A);
            m = 0, folds++;
            if (a.rows.draft) first = BLOCK;
        }
        int32_t n = run.n - done < BLOCK - m ? run.n - done : BLOCK - m;
        if (n > a.stretch) n = a.stretch;
        load_rows<EACH, CHANNEL>(a, p, s, run.first + done, m, n);
        make_pairs<EACH, CHANNEL>(s, m, n);
        meet_anchor(s, CHANNEL ? s.KE : s.K + m * EACH * GROUPS, a.stretch, n, A);
        if (threadIdx.x < STRIP) {
            solve<CHANNEL>(a, p, s, run.first + done, m, n);
            for (int32_t e = m; kept && e < m + n; e++) store_u(a, run.slot, p, s, first, e);
        }
        __syncthreads();
        m += n, done += n;
    }
    *entries = m;
    return folds;
}

template <int EACH, bool CHANNEL>
static __global__ void __launch_bounds__(THREADS) delta(struct delta_call a)
{
    DYNAMIC_SHARED(room);
    struct hall s;
    struct place p;
    float4 A[EACH];
    hall_over(&s, room, EACH * GROUPS, CHANNEL, a.stretch);
    p.b = (int32_t)blockIdx.z;
    p.h = blockIdx.y, p.kh = p.h / (a.Hv / a.Hk);
    p.strip = blockIdx.x, p.column = (int32_t)blockIdx.x * STRIP;
    p.width = a.Dv - p.column < STRIP ? a.Dv - p.column : STRIP;
    if (a.beside && is_prompt(a.rows, p.b)) return;
    const bool none = absent(a.rows, p.b), kept = a.slots.anchor != NULL;
    if (none) clear_rows(a, p);
    if (none && kept) return;
    struct delta_run run = none ? delta_run{} : delta_run_of(a, p.b);
    if (kept && run.n == 0) return;
    load_anchor(a, run.slot, p, A);
    if (run.overdue)
        fold_overdue<EACH, CHANNEL>(a, run, p, s, A);
    else if (run.m > 0)
        load_log<EACH, CHANNEL>(a, run.slot, p, s, 0, run.m);
    int32_t m;
    const int32_t folds = take_rows<EACH, CHANNEL>(a, run, p, s, A, &m);
    if (kept && folds > 0 && !a.rows.draft) store_anchor(a, run.slot, p, A);
    if (kept || !a.S1.data) return;
    if (m > 0) fold<EACH, CHANNEL>(a, s, m, A);
    store_dense(a, p, A);
}

/* ---- the call -------------------------------------------------------------------------------- */

template <int EACH, bool CHANNEL>
static void run_of(struct device *device, const struct delta_call &call)
{
    struct hall count;
    const int32_t floats = hall_over(&count, NULL, EACH * GROUPS, CHANNEL, call.stretch);
    const dim3 grid(blocks_for(call.Dv, STRIP), (unsigned)call.Hv, (unsigned)call.rows.B);
    launch(device, delta<EACH, CHANNEL>, grid, THREADS, sizeof(float) * (size_t)floats, call);
}

template <bool CHANNEL> static void run(struct device *device, const struct delta_call &call)
{
    if (call.Dk <= 64)
        run_of<4, CHANNEL>(device, call);
    else if (call.Dk <= 96)
        run_of<6, CHANNEL>(device, call);
    else if (call.Dk <= 128)
        run_of<8, CHANNEL>(device, call);
    else if (call.Dk <= 192)
        run_of<12, CHANNEL>(device, call);
    else
        run_of<16, CHANNEL>(device, call);
}

/* Rows that are loaded at once: as many as sequences are likely to have. */
static int32_t stretch_of(const struct rows *rows)
{
    int32_t n = 1;
    while (n < BLOCK && n * rows->B < rows->T) n *= 2;
    return n;
}

void cuda_delta(struct device *device, struct arena *scratch, const void *args)
{
    const struct delta_args *a = (const struct delta_args *)args;
    struct delta_call call = {};
    call.q = view_of(a->q), call.k = view_of(a->k), call.v = view_of(a->v);
    call.g = view_of(a->g), call.beta = view_of(a->beta), call.o = view_of(a->o);
    call.S0 = view_of(a->S0), call.S1 = view_of(a->S1);
    call.rows = *a->rows;
    call.Hk = (int32_t)a->k->dim[1], call.Hv = (int32_t)a->v->dim[1];
    call.Dk = (int32_t)a->k->dim[2], call.Dv = (int32_t)a->v->dim[2];
    call.gates = a->g->rank == 3 ? call.Dk : 1;
    GDN_CHECK(call.Hk > 0 && call.Hv % call.Hk == 0, "delta: heads");
    GDN_CHECK(call.Dk <= 256, "delta: keys of %d", call.Dk);
    if (a->slots) {
        call.slots = *a->slots;
        GDN_CHECK(a->rows->slot && !a->S0 && !a->S1, "delta: slots stand for the dense states");
        GDN_CHECK(call.slots.Hk == call.Hk && call.slots.Hv == call.Hv && call.slots.Dk == call.Dk &&
                      call.slots.Dv == call.Dv && call.slots.channel_gate == (a->g->rank == 3),
                  "delta: slots of another shape");
    }
    call.stretch = stretch_of(a->rows);
    if (delta_prompt_fits(call)) {
        call.beside = true;
        if (!delta_prompt(device, scratch, call) || must_be_prompts(a->rows)) return;
    }
    (a->g->rank == 3 ? run<true> : run<false>)(device, call);
    if (a->slots) delta_append(device, call);
}
