/* A layer's worth of training through gdn/ops.h: conv, gate, delta and gated norm forward, their
 * gradients back to the inputs, and one weight's gradient checked against a finite difference. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include <gdn/ops.h>

enum { B = 2, T = 20, H = 2, D = 16, C = 3 * H * D, W = 4, N = B * T };
static float x[N * C], w[C * W], u[N * C];
static float a[N * H], b[N * H], A_log[H], dt[H], g[N * H], beta[N * H];
static float o[N * H * D], z[N * H * D], norm[D], y[N * H * D], target[N * H * D];
static float du[N * C], dw[C * W], dg[N * H], dbeta[N * H], dA[H], dout[N * H * D], dy[N * H * D];

static gdn_ops *ops;
static void *workspace;
static size_t room;

static void ensure(enum gdn_status status, const struct gdn_error *err)
{
    if (status != GDN_OK) puts(err->text), exit(1);
}

/* A larger workspace serves every smaller call. */
static void reserve(size_t bytes)
{
    if (bytes > room) workspace = realloc(workspace, room = bytes);
}

#define RUN(op, way, call, gradient, ...)                                                \
    do {                                                                                 \
        struct gdn_error err = {0};                                                      \
        size_t bytes;                                                                    \
        ensure(gdn_##op##_workspace(ops, call, gradient, &bytes, &err), &err);           \
        reserve(bytes);                                                                  \
        ensure(gdn_##op##_##way(ops, call, __VA_ARGS__ workspace, room, &err), &err);    \
    } while (0)

/* Heads of q, k and v are windows of the convolution's output, one after another in each row. */
static struct gdn_array heads(float *rows, int part)
{
    return (struct gdn_array){rows + part * H * D, GDN_F32, {(int64_t)T * C, C, D}};
}

static const struct gdn_conv conv = {
    .rows = {.B = B, .T = T}, .C = C, .W = W, .x.data = x, .w.data = w, .y.data = u};
static const struct gdn_gate gate = {
    .B = B, .T = T, .Hv = H, .a.data = a, .b.data = b, .A_log.data = A_log, .dt_bias.data = dt,
    .g.data = g, .beta.data = beta};
static const struct gdn_norm out = {
    .B = B, .T = T, .H = H, .D = D, .x.data = o, .z.data = z, .w.data = norm, .y.data = y,
    .gate = GDN_SILU};

static struct gdn_delta delta(void)
{
    return (struct gdn_delta){.rows = {.B = B, .T = T}, .Hk = H, .Hv = H, .Dk = D, .Dv = D,
                              .q = heads(u, 0), .k = heads(u, 1), .v = heads(u, 2), .g.data = g,
                              .beta.data = beta, .o.data = o, .l2norm = true};
}

static double forward(void)
{
    const struct gdn_delta rule = delta();
    double loss = 0;
    RUN(conv, forward, &conv, NULL, );
    RUN(gate, forward, &gate, NULL, );
    RUN(delta, forward, &rule, NULL, );
    RUN(norm, forward, &out, NULL, );
    for (int i = 0; i < N * H * D; i++) {
        dy[i] = y[i] - target[i];
        loss += 0.5 * (double)dy[i] * (double)dy[i];
    }
    return loss;
}

static void backward(void)
{
    const struct gdn_delta rule = delta();
    const struct gdn_norm_gradient through_norm = {.y.data = dy, .x.data = dout};
    const struct gdn_delta_gradient through_rule = {
        .o.data = dout, .q = heads(du, 0), .k = heads(du, 1), .v = heads(du, 2), .g.data = dg,
        .beta.data = dbeta};
    const struct gdn_gate_gradient through_gate = {
        .g.data = dg, .beta.data = dbeta, .A_log.data = dA};
    const struct gdn_conv_gradient through_conv = {.y.data = du, .w.data = dw};
    RUN(norm, backward, &out, &through_norm, &through_norm, );
    RUN(delta, backward, &rule, &through_rule, &through_rule, );
    RUN(gate, backward, &gate, &through_gate, &through_gate, );
    RUN(conv, backward, &conv, &through_conv, &through_conv, );
}

/* The slope of the loss in one weight, by moving it. */
static int check(const char *name, float *weight, float slope)
{
    const float was = *weight, step = 1e-2f;
    *weight = was + step;
    const double above = forward();
    *weight = was - step;
    const double found = (above - forward()) / (2 * (double)step);
    *weight = was;
    printf("%s: gradient %9.5f, difference %9.5f\n", name, (double)slope, found);
    return fabs(found - (double)slope) <= 2e-3 * (1 + fabs(found));
}

int main(void)
{
    struct gdn_error err = {0};
    ensure(gdn_ops_open("cpu", 0, GDN_ISA_ALL, &ops, &err), &err);
    for (int i = 0; i < N * C; i++) x[i] = sinf(1.3f * (float)i);
    for (int i = 0; i < C * W; i++) w[i] = 0.5f * cosf(2.1f * (float)i);
    for (int i = 0; i < N * H; i++) a[i] = cosf(0.7f * (float)i), b[i] = sinf(0.9f * (float)i);
    for (int i = 0; i < N * H * D; i++) z[i] = sinf(0.4f * (float)i), target[i] = cosf((float)i);
    for (int i = 0; i < D; i++) norm[i] = 1;

    const double before = forward();
    backward();
    const int last = C * W - 1;
    const int right = check("conv weight", &w[last], dw[last]) + check("A_log", &A_log[1], dA[1]);
    for (int i = 0; i < C * W; i++) w[i] -= 0.01f * dw[i];
    const double after = forward();
    printf("loss %.4f, after a step %.4f\n", before, after);
    free(workspace);
    gdn_ops_close(ops);
    return right == 2 && after < before ? 0 : 1;
}
