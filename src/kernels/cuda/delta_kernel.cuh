/* delta_kernel.cuh: the gated delta rule on an anchor and a log, or dense; delta.cu and delta_mix.cu
 * call it. Truth: kernels/ref/delta_log.c.
 *
 * A team of 4 warps takes a strip of 32 value columns of one head of one sequence; a block is one
 * team, or as many as the head has strips when there are many sequences. Its part of the anchor
 * A [Dk][32] begins to come into shared memory before anything else: lane c has column c, warp w the
 * quarter w of the channels. There are the log of the current block of 16 tokens, too, and a few rows
 * at a time. For the rows t of such a stretch inside a block, all at once:
 *
 *     a_t = e^G_t (A k_t),  b_t = e^G_t (A q_t)             each quarter d ascending, then 0, 1, 2, 3
 *     K_ti = e^(G_t - G_i) k_i.k_t,  Q_ti likewise           lane l: d = l, l + 32, ..; then a tree
 *
 * then row after row, a lane a column, the rest of the team already busy with the next rows:
 *
 *     u_t = beta_t (v_t - a_t - sum_i K_ti u_i);   o_t = b_t + sum_i Q_ti u_i + (k_t.q_t) u_t
 *
 * A full block is folded when the next row comes: A = e^G_15 A + sum_i e^(G_15 - G_i) k_i u_i. With
 * a gate a channel the exponentials stand inside the products. Every sum has the same order however
 * many rows or teams come at once, so cuts, drafts and company change no bits. */
#ifndef KERNELS_CUDA_DELTA_KERNEL_CUH
#define KERNELS_CUDA_DELTA_KERNEL_CUH

#include "kernels/cuda/delta_block.cuh"
#include "kernels/cuda/prompt.cuh"

/* An absent sequence: its rows are 0. */
template <bool MIX>
static __device__ void clear_rows(const struct delta_call &a, const struct place &p,
                                  const struct delta_run &run)
{
    for (int32_t t = run.first; t < run.first + run.n; t++) {
        if (p.warp > 0 || !real(p)) continue;
        if (MIX)
            put(a.mix.y, t * a.mix.y.stride[0] + p.h * a.Dv + p.column + own(p), 0.0f);
        else
            put(a.o, view_at(a.o, t, p.h, p.column + own(p)), 0.0f);
    }
}

/* The oldest 16 entries of a log that is overdue, and the rest moves down (u; k and G move later). */
template <bool HALF, bool CHANNEL>
static __device__ void fold_overdue(const struct delta_call &a, const struct delta_run &run,
                                    const struct place &p, const struct hall &s)
{
    begin_log<CHANNEL>(a, run.slot, p, s, 0, BLOCK);
    if (!CHANNEL && threadIdx.x < BLOCK) s.G[p.lane] = log_gate(a, run.slot, p, 0, BLOCK);
    bring_wait();
    end_log<CHANNEL>(a, p, s, BLOCK);
    __syncthreads();
    fold<HALF, CHANNEL>(p, s, BLOCK);
    store_anchor<HALF>(a, run.slot, p, s);
    begin_log<CHANNEL>(a, run.slot, p, s, BLOCK, run.m);
    bring_wait();
    end_log<CHANNEL>(a, p, s, run.m);
    __syncthreads();
    for (int32_t e = 0; p.warp == 0 && e < run.m; e++)
        store_u(a, run.slot, p, e, s.U[e * p.W + own(p)]);
}

/* Rows from row t0 of the call on, n of them, as entries m.. of the block in shared memory. */
template <bool HALF, bool CHANNEL, bool MIX, int ROWS>
static __device__ void take_stretch(const struct delta_call &a, const struct delta_run &run,
                                    const struct place &p, const struct hall &s, int64_t t0,
                                    int32_t m, int32_t n, int32_t to)
{
    __syncthreads();
    if (CHANNEL) {
        decay_rows(p, s, m, n);
        __syncthreads();
    }
    if (to >= 0 && appends_at_once(run)) append_now<CHANNEL>(a, run, p, s, m, n, to);
    make_pairs<CHANNEL>(p, s, m, n);
    for (int32_t t = 0, turn = 0; t < n; t += ROWS, turn++) {
        float *part = s.part + turn % 2 * (2 * QUARTERS * ROWS * p.W);
        meet_anchor<HALF, CHANNEL, ROWS>(p, s, m, t, part);
        __syncthreads();
        if (p.warp == turn % QUARTERS)
            solve<CHANNEL, MIX, ROWS>(a, run, p, s, t0, m, t, n - t < ROWS ? n - t : ROWS, to, part);
    }
    if (!MIX) return;
    __syncthreads();
    EACH_TURN(t, n) put_normed(a, t0 + t, p.h, s.V + t * p.W);
}

/* Takes the sequence's rows; returns how many blocks were folded, and m entries that were not. */
template <bool HALF, bool CHANNEL, bool MIX, int ROWS>
static __device__ int32_t take_rows(const struct delta_call &a, const struct delta_run &run,
                                    const struct place &p, const struct hall &s, int32_t *entries)
{
    const bool kept = a.slots.anchor != NULL;
    const bool gates = !CHANNEL && threadIdx.x / WARP == blockDim.x / WARP - 1; /* a warp's work */
    int32_t m = run.m, first = 0, folds = 0;
    float log = kept && gates ? log_gate(a, run.slot, p, run.overdue, m) : 0.0f;
    for (int32_t done = 0; done < run.n;) {
        if (done > 0) __syncthreads();
        if (done > 0 && gates && p.lane < m) log = s.G[p.lane];
        if (m == BLOCK) {
            if (done == 0) {
                if (gates && p.lane < m) s.G[p.lane] = log;
                bring_wait();
                if (!run.overdue) end_log<CHANNEL>(a, p, s, m);
                __syncthreads();
            }
            fold<HALF, CHANNEL>(p, s, BLOCK);
            m = 0, folds++;
            if (a.rows.draft) first = BLOCK;
        }
        int32_t n = run.n - done < BLOCK - m ? run.n - done : BLOCK - m;
        if (n > a.stretch) n = a.stretch;
        begin_rows<CHANNEL, MIX>(a, p, s, run.first + done, m, n);
        if (gates || (CHANNEL && threadIdx.x < WARP))
            load_gates<CHANNEL, MIX>(a, p, s, run.first + done, m, n, log);
        bring_wait();
        if (done == 0 && m > 0 && !run.overdue) end_log<CHANNEL>(a, p, s, m);
        end_rows<MIX>(a, p, s, run.first + done, m, n);
        take_stretch<HALF, CHANNEL, MIX, ROWS>(a, run, p, s, run.first + done, m, n,
                                               kept ? first + m : -1);
        m += n, done += n;
    }
    *entries = m;
    return folds;
}

/* The block's share of what enters the ring, when nobody reads its place: keys and queries by the
 * first head that they serve. */
static __device__ void keep_share(const struct delta_call &a, const struct delta_run &run,
                                  const struct place &p)
{
    const int64_t q = p.kh * a.Dk, k = (a.Hk + p.kh) * a.Dk;
    keep_inputs(a, run, p.b, 2 * a.Hk * a.Dk + p.h * a.Dv + p.column, p.width);
    if (p.h % (a.Hv / a.Hk) > 0 || p.column > 0) return;
    keep_inputs(a, run, p.b, q, a.Dk);
    keep_inputs(a, run, p.b, k, a.Dk);
}

static __device__ struct place place_of(const struct delta_call &a)
{
    struct place p;
    p.b = (int32_t)blockIdx.z;
    p.h = blockIdx.y, p.kh = (int32_t)blockIdx.y / (a.Hv / a.Hk);
    p.team = (int32_t)threadIdx.x / TEAM;
    p.warp = (int32_t)threadIdx.x % TEAM / WARP, p.lane = (int32_t)threadIdx.x % WARP;
    p.D = channels_of(a.Dk), p.W = (int32_t)blockDim.x / QUARTERS;
    p.column = (int32_t)blockIdx.x * p.W, p.strip = p.column / STRIP + p.team;
    p.width = a.Dv - p.column < p.W ? a.Dv - p.column : p.W;
    return p;
}

template <bool HALF, bool CHANNEL, bool MIX, int ROWS>
static __global__ void __launch_bounds__(MOST_TEAMS *TEAM, MIX || ROWS > 1 ? 1 : 2)
    delta(struct delta_call a)
{
    DYNAMIC_SHARED(room);
    struct hall s;
    const struct place p = place_of(a);
    hall_over(&s, room, p.D, p.W, HALF, CHANNEL, a.stretch, ROWS);
    const bool kept = a.slots.anchor != NULL;
    struct delta_run run = delta_run_of(a, p.b);
    if (a.beside && run.n >= PROMPT) return;
    if (run.absent) clear_rows<MIX>(a, p, run);
    if (kept && (run.absent || run.n == 0)) return;
    if (run.absent) run.n = 0;
    if (kept)
        begin_anchor<HALF>(a, run.slot, p, s);
    else
        load_dense(a, p, s);
    if (run.overdue)
        fold_overdue<HALF, CHANNEL>(a, run, p, s);
    else
        begin_log<CHANNEL>(a, run.slot, p, s, 0, run.m);
    int32_t m;
    const int32_t folds = take_rows<HALF, CHANNEL, MIX, ROWS>(a, run, p, s, &m);
    if (MIX && appends_at_once(run)) keep_share(a, run, p);
    if (kept && folds > 0 && !a.rows.draft) store_anchor<HALF>(a, run.slot, p, s);
    if (kept && !appends_at_once(run))
        append_last<MIX>(a, run, p.b, gridDim.x * gridDim.y, s.K);
    if (kept || !a.S1.data) return;
    __syncthreads();
    if (m > 0) fold<HALF, CHANNEL>(p, s, m);
    store_dense(a, p, s);
}

/* ---- the call -------------------------------------------------------------------------------- */

template <bool HALF, bool CHANNEL, bool MIX, int ROWS>
static void run_of(struct device *device, const struct delta_call &call, int32_t teams)
{
    struct hall count;
    const int32_t floats = hall_over(&count, NULL, channels_of(call.Dk), teams * STRIP, HALF,
                                     CHANNEL, call.stretch, ROWS);
    const dim3 grid(blocks_for(call.Dv, STRIP * teams), (unsigned)call.Hv, (unsigned)call.rows.B);
    launch(device, delta<HALF, CHANNEL, MIX, ROWS>, grid, (unsigned)(teams * TEAM),
           sizeof(float) * (size_t)floats, call);
}

template <bool CHANNEL, bool MIX>
static void run(struct device *device, const struct delta_call &call, int32_t teams)
{
    const bool half = call.slots.anchor && call.slots.anchor_type != DTYPE_F32;
    if (half)
        (call.stretch > 1 ? run_of<true, CHANNEL, MIX, 4> : run_of<true, CHANNEL, MIX, 1>)(
            device, call, teams);
    else
        (call.stretch > 1 ? run_of<false, CHANNEL, MIX, 4> : run_of<false, CHANNEL, MIX, 1>)(
            device, call, teams);
}

/* Rows that are loaded at once: as many as sequences are likely to have. */
static int32_t stretch_of(const struct rows *rows)
{
    int32_t n = 1;
    while (n < BLOCK && n * rows->B < rows->T) n *= 4;
    return n;
}

/* What both forms of a call say: widths, slots, stretches. */
static void finish_call(struct device *device, struct delta_call *call, const struct rows *rows,
                        const struct delta_slots *slots)
{
    call->rows = *rows;
    call->gates = call->channel ? call->Dk : 1;
    GDN_CHECK(call->Hk > 0 && call->Hv % call->Hk == 0, "delta: heads");
    GDN_CHECK(call->Dk <= 256, "delta: keys of %d", call->Dk);
    if (slots) {
        call->slots = *slots;
        GDN_CHECK(slots->Hk == call->Hk && slots->Hv == call->Hv && slots->Dk == call->Dk &&
                      slots->Dv == call->Dv && slots->channel_gate == call->channel,
                  "delta: slots of another shape");
    }
    call->stretch = stretch_of(rows);
    call->arrivals = cuda_arrivals(device, rows->B);
}

#endif
