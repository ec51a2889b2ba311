/* A short sequence through the gated delta rule, in one call and row by row. The states agree. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include <gdn/ops.h>

enum { T = 40, HK = 2, HV = 4, DK = 64, DV = 64 };
static float q[T * HK * DK], k[T * HK * DK], v[T * HV * DV], o[T * HV * DV];
static float g[T * HV], beta[T * HV]; /* g is the natural logarithm of the decay */
static float whole[HV * DV * DK], steps[HV * DV * DK];

int main(void)
{
    struct gdn_error err = {0};
    gdn_ops *ops;
    if (gdn_ops_open("cpu", 0, GDN_ISA_ALL, &ops, &err) != GDN_OK) return puts(err.text), 1;

    for (int i = 0; i < T * HK * DK; i++) q[i] = sinf((float)i), k[i] = cosf(1.7f * (float)i);
    for (int i = 0; i < T * HV * DV; i++) v[i] = sinf(0.3f * (float)i);
    for (int i = 0; i < T * HV; i++) g[i] = -0.1f, beta[i] = 0.5f;

    /* Ask for the workspace, make the call. */
    struct gdn_delta call = {.rows = {.B = 1, .T = T}, .Hk = HK, .Hv = HV, .Dk = DK, .Dv = DV,
                             .q.data = q, .k.data = k, .v.data = v, .g.data = g, .beta.data = beta,
                             .o.data = o, .S1.data = whole, .l2norm = true};
    size_t bytes;
    if (gdn_delta_workspace(ops, &call, NULL, &bytes, &err) != GDN_OK) return puts(err.text), 1;
    void *workspace = malloc(bytes);
    if (gdn_delta_forward(ops, &call, workspace, bytes, &err) != GDN_OK) return puts(err.text), 1;

    /* Decoding: one row a call, the state updated in place. A call of one row needs no more. */
    call.rows.T = 1;
    call.S1.data = steps;
    for (int t = 0; t < T; t++) {
        call.q.data = q + t * HK * DK, call.k.data = k + t * HK * DK;
        call.v.data = v + t * HV * DV, call.o.data = o + t * HV * DV;
        call.g.data = g + t * HV, call.beta.data = beta + t * HV;
        if (gdn_delta_forward(ops, &call, workspace, bytes, &err) != GDN_OK) break;
        call.S0.data = steps; /* from the second row on */
    }
    double most = err.text[0] ? INFINITY : 0;
    for (int i = 0; i < HV * DV * DK; i++) most = fmax(most, fabs((double)(whole[i] - steps[i])));
    printf("%d rows: the states of one call and of %d differ by at most %.1e\n", T, T, most);
    free(workspace);
    gdn_ops_close(ops);
    return most < 1e-5 ? 0 : 1;
}
