/* delta_backward_rows_tmpl.h: how the backward of delta reads tensors and adds to them. Body of a
 * template, after a vec_*.h. Rows come as f32, with zeros up to whole vectors and whole blocks. */

/* ---- what will be needed a block later --------------------------------------------------------- */

/* Rows lie too far apart for the machine to guess, and a state is too large. Lines are asked for between
 * products, a few at a time: all at once they would take every buffer that the products read through. */
enum { WISHES = 8 };
struct wishes {
    struct wish {
        const char *at;
        int64_t step; /* bytes from row to row */
        int64_t rows, lines, line;
    } of[WISHES];
    int count, first;
    int64_t share; /* lines at a time */
};

static void wish_clear(struct wishes *w) { w->count = w->first = 0, w->share = 0; }

static void wish_bytes(struct wishes *w, const void *at, int64_t step, int64_t rows, int64_t bytes)
{
    if (rows <= 0 || bytes <= 0) return;
    const int64_t lines = (bytes + 63) / 64;
    w->of[w->count++] = (struct wish){.at = at, .step = step, .rows = rows, .lines = lines};
    w->share += rows * lines;
}

static void wish_rows(struct wishes *w, const struct tensor *t, int64_t row, int64_t n, int64_t head)
{
    if (!t) return;
    const int64_t size = (int64_t)dtype_size(t->dtype);
    wish_bytes(w, tensor_at(t, row * t->stride[0] + head * t->stride[1]), t->stride[0] * size, n,
               t->dim[t->rank - 1] * size);
}

static void wish_floats(struct wishes *w, const float *at, int64_t n)
{
    wish_bytes(w, at, 0, 1, n * (int64_t)sizeof *at);
}

/* From now on they are granted, in so many turns. */
static void wish_turns(struct wishes *w, int turns) { w->share = (w->share + turns - 1) / turns; }

static void wish_grant(struct wishes *w)
{
    for (int64_t n = 0; n < w->share && w->first < w->count; n++) {
        struct wish *wish = &w->of[w->first];
        __builtin_prefetch(wish->at + 64 * wish->line, 0, 2);
        if (++wish->line < wish->lines) continue;
        wish->line = 0;
        wish->at += wish->step;
        if (--wish->rows == 0) w->first++;
    }
}

/* ---- rows in and out ---------------------------------------------------------------------------- */

/* n elements and zeros up to `width`. */
static void load_row(float *to, const void *from, enum dtype dtype, int64_t n, int width)
{
    const uint16_t *half = from;
    int64_t c = 0;
    if (dtype == DTYPE_F32)
        for (; c + VL <= n; c += VL) vf_store(to + c, vf_load((const float *)from + c));
    else if (dtype == DTYPE_BF16)
        for (; c + VL <= n; c += VL) vf_store(to + c, vf_load_bf16(half + c));
    else if (dtype == DTYPE_F16)
        for (; c + VL <= n; c += VL) vf_store(to + c, vf_load_f16(half + c));
    const char *rest = (const char *)from + c * (int64_t)dtype_size(dtype);
    if (c < n) cpu_load_row(to + c, rest, dtype, n - c);
    for (c = n; c < width; c++) to[c] = 0.0f;
}

/* n tokens from `row` on of one head, as [16][width] with zeros around; NULL reads as zeros. */
static void load_rows(float *to, int width, const struct tensor *t, int64_t row, int n,
                      int64_t head)
{
    if (!t) n = 0;
    for (int i = 0; i < n; i++)
        load_row(to + i * width, tensor_at(t, (row + i) * t->stride[0] + head * t->stride[1]),
                 t->dtype, t->dim[t->rank - 1], width);
    memset(to + n * width, 0, sizeof(float) * (size_t)(16 - n) * (size_t)width);
}

static void add_row(float *to, const float *from, int64_t n)
{
    int64_t c = 0;
    for (; c + VL <= n; c += VL) vf_store(to + c, vf_add(vf_load(to + c), vf_load(from + c)));
    for (; c < n; c++) to[c] += from[c];
}

static void add_rows(const struct tensor *t, int64_t row, int n, int64_t head, const float *from,
                     int width)
{
    for (int i = 0; t && i < n; i++)
        add_row(tensor_at(t, (row + i) * t->stride[0] + head * t->stride[1]), from + i * width,
                t->dim[t->rank - 1]);
}

/* One number a token: g without channels, beta. */
static void load_each(float *to, const struct tensor *t, int64_t row, int n, int64_t head)
{
    memset(to, 0, 16 * sizeof(float));
    for (int i = 0; i < n; i++) {
        const void *from = tensor_at(t, (row + i) * t->stride[0] + head * t->stride[1]);
        if (t->dtype == DTYPE_F32)
            to[i] = *(const float *)from;
        else
            cpu_load_row(to + i, from, t->dtype, 1);
    }
}

static void add_each(const struct tensor *t, int64_t row, int n, int64_t head, const float *from)
{
    for (int i = 0; t && i < n; i++)
        *(float *)tensor_at(t, (row + i) * t->stride[0] + head * t->stride[1]) += from[i];
}

/* A state: [B, Hv, Dv, Dk] to [V][K] with zeros around; NULL reads as zeros. */
static void load_state(float *to, int K, int V, const struct tensor *t, int64_t b, int64_t h)
{
    memset(to, 0, sizeof(float) * (size_t)K * (size_t)V);
    for (int64_t c = 0; t && c < t->dim[2]; c++)
        load_row(to + c * K,
                 tensor_at(t, b * t->stride[0] + h * t->stride[1] + c * t->stride[2]), t->dtype,
                 t->dim[3], K);
}

static void add_state(const struct tensor *t, int64_t b, int64_t h, const float *from, int K)
{
    for (int64_t c = 0; t && c < t->dim[2]; c++)
        add_row(tensor_at(t, b * t->stride[0] + h * t->stride[1] + c * t->stride[2]), from + c * K,
                t->dim[3]);
}
