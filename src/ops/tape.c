#include "ops/tape.h"

#include <string.h>

#include "base/check.h"
#include "ops/front.h"

void tape_append(struct tape *tape, struct arena *meta, enum op op, const void *args)
{
    const struct op_info *info = &op_info[op];
    struct tape_entry *e = arena_take_zeroed(meta, sizeof *e);
    void *copy = arena_take(meta, info->bytes);
    uint32_t *version = arena_take(meta, sizeof *version * (size_t)info->in);
    if (!e || !copy || !version) return;
    memcpy(copy, args, info->bytes);
    for (int i = 0; i < info->in; i++) {
        struct tensor *t = call_tensors(copy)[i];
        version[i] = t ? tensor_root(t)->version : 0;
    }
    *e = (struct tape_entry){.before = tape->last, .op = op, .args = copy, .version = version};
    tape->last = e;
    tape->entries++;
}

/* Makes the gradients that the kernel will add to. Weights of a linear bring their own. */
static void prepare_inputs(struct pass *pass, struct tensor **t, int in)
{
    for (int i = 0; i < in; i++)
        if (t[i] && t[i]->requires_grad) tensor_grad(pass->meta, pass->data, t[i]);
}

static bool gradient_arrives(struct pass *pass, struct tensor *const *out, int n)
{
    bool any = false;
    for (int i = 0; i < n; i++) {
        if (!out[i]) continue;
        /* A view's gradient appears once its root has one. */
        if (!out[i]->grad && out[i]->root && tensor_root(out[i])->grad)
            tensor_grad(pass->meta, pass->data, out[i]);
        any = any || out[i]->grad;
    }
    return any;
}

static void run_backward(struct pass *pass, struct tape_entry *e)
{
    const struct op_info *info = &op_info[e->op];
    struct tensor **t = call_tensors(e->args);
    if (!gradient_arrives(pass, t + info->in, info->out)) return;
    for (int i = 0; i < info->in; i++)
        GDN_CHECK(!t[i] || tensor_root(t[i])->version == e->version[i],
                  "an input of op_%s was written after it was read", info->name);
    GDN_CHECK(pass->device->backward[e->op], "op_%s has no gradient", info->name);
    prepare_inputs(pass, t, info->in);
    if (pass_status(pass) != GDN_OK) return;
    size_t mark = arena_mark(pass->data);
    pass->device->backward[e->op](pass->device, pass->data, e->args);
    arena_release(pass->data, mark);
}

/* Runs the segment again from its inputs, hands it the gradients that arrived, and takes it
 * backwards at once: the memory of one segment is alive at a time. */
static void run_segment_backward(struct pass *pass, struct tape_entry *e)
{
    if (!gradient_arrives(pass, e->out, 2)) return;
    prepare_inputs(pass, e->in, 2);
    for (int i = 0; i < 2; i++)
        if (e->out[i]) tensor_grad(pass->meta, pass->data, e->out[i]);
    size_t data = arena_mark(pass->data), meta = arena_mark(pass->meta);
    struct tape inner = {0}, *outer = pass->tape;
    pass->tape = &inner;
    struct tensor *out[2] = {NULL, NULL};
    e->segment(pass, e->context, e->in, out);
    for (int i = 0; i < 2; i++)
        if (out[i] && e->out[i]) out[i]->grad = e->out[i]->grad;
    tape_backward(pass);
    pass->tape = outer;
    arena_release(pass->data, data);
    arena_release(pass->meta, meta);
}

void tape_backward(struct pass *pass)
{
    for (struct tape_entry *e = pass->tape->last; e; e = e->before) {
        if (pass_status(pass) != GDN_OK) return;
        if (e->segment)
            run_segment_backward(pass, e);
        else
            run_backward(pass, e);
    }
}
