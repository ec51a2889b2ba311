#include "train/gradient.h"

#include <string.h>

#include "base/check.h"

/* Mean of the losses that count, summed in order; seeds the gradient of each with 1/n. */
static double mean_loss(struct pass *pass, struct tensor *loss, const int32_t *targets)
{
    struct tensor *seed = pass->tape ? tensor_grad(pass->meta, pass->data, loss) : NULL;
    int64_t n = 0;
    double sum = 0;
    for (int64_t i = 0; i < loss->dim[0]; i++) {
        if (targets[i] < 0) continue;
        n++;
        sum += loss->dtype == DTYPE_F64 ? ((const double *)loss->data)[i]
                                        : (double)((const float *)loss->data)[i];
    }
    for (int64_t i = 0; seed && n > 0 && i < loss->dim[0]; i++) {
        const double one = targets[i] < 0 ? 0.0 : 1.0 / (double)n;
        if (seed->dtype == DTYPE_F64)
            ((double *)seed->data)[i] = one;
        else
            ((float *)seed->data)[i] = (float)one;
    }
    return n > 0 ? sum / (double)n : 0.0;
}

enum gdn_status gradient_run(const struct gradient *g, int32_t B, const int32_t *start,
                             const int32_t *ids, const int32_t *targets, double *loss,
                             struct gdn_error *err)
{
    arena_reset(g->data);
    arena_reset(g->meta);
    int32_t *pos = arena_take_zeroed(g->meta, sizeof *pos * (size_t)(B > 0 ? B : 1));
    struct layer_call *calls = arena_take(g->meta, sizeof *calls * (size_t)g->weights->layers);
    if (!pos || !calls) return error_set(err, GDN_ERR_MEMORY, "no memory for a training pass");
    const struct rows rows = {.B = B, .T = start[B], .start = start, .pos = pos};
    struct tape tape = {0};
    struct pass pass = {.device = g->device, .data = g->data, .meta = g->meta, .rows = &rows,
                        .compute = g->compute, .tape = g->forward_only ? NULL : &tape};
    struct forward f = {.weights = g->weights, .ids = ids, .recompute = g->recompute,
                        .calls = calls};
    struct tensor *hidden = forward_run(&pass, &f);
    struct tensor *each = op_linear_ce(&pass, &g->weights->head, hidden, targets,
                                       g->weights->head.N);
    if (pass_status(&pass) == GDN_OK) {
        *loss = mean_loss(&pass, each, targets);
        if (pass.tape) tape_backward(&pass);
    }
    const enum gdn_status status = pass_status(&pass);
    if (status == GDN_OK) return GDN_OK;
    return error_set(err, status, "a training pass of %d rows needs more than %.1f MB of scratch",
                     start[B], (double)g->data->size / 1e6);
}
