/* The harness itself: a kernel that is wrong in one small way must be seen, whatever the way.
 * Kernels are wrapped in the table of the device under test and put back afterwards. */
#include <string.h>

#include "harness/suite.h"

/* How the wrapped kernel is wrong. */
enum fault {
    NONE,
    OFF,       /* one element by 1e-3 */
    UNWRITTEN, /* one element */
    BEHIND,    /* one byte after the last element */
    BEFORE,    /* one byte before the first */
    IN_A_GAP,  /* one byte between two rows of a windowed input */
    INPUT,     /* one element of an input is changed */
    SECOND,    /* the last bit of one element, in every second call */
    THREADS,   /* the last bit of one element, when there are 2 threads */
    OVERWRITE, /* a gradient is set and not added to */
    WEAK,      /* a gradient is 1e-4 too small */
    TOUCHING,  /* an output's gradient is changed when the input has none */
    SHIFTED    /* sequences 1 and 2 get each other's positions */
};

static struct {
    enum fault fault;
    op_kernel *kernel;
    int calls;
} wrapped;

/* Not instrumented: what it does to memory is for the harness to find, not for a sanitizer. */
__attribute__((no_sanitize("address"), noinline)) static void flip(void *at, ptrdiff_t byte)
{
    ((volatile unsigned char *)at)[byte] ^= 1;
}

static void wrong_forward(struct device *device, struct arena *scratch, const void *args)
{
    const struct glu_args *a = args;
    const struct tensor *y = a->y;
    const int64_t middle = tensor_elements(y) / 2, n = tensor_elements(y);
    float before;
    memcpy(&before, tensor_at(y, middle), sizeof before);
    wrapped.kernel(device, scratch, args);
    wrapped.calls++;
    float value;
    memcpy(&value, tensor_at(y, middle), sizeof value);
    value += 1e-3f;
    switch (wrapped.fault) {
    case OFF: memcpy(tensor_at(y, middle), &value, sizeof value); break;
    case UNWRITTEN: memcpy(tensor_at(y, middle), &before, sizeof before); break;
    case BEHIND: flip(tensor_at(y, n), 0); break;
    case BEFORE: flip(y->data, -1); break;
    case IN_A_GAP: flip(tensor_at(a->a, a->a->dim[2]), 2); break;
    case INPUT: flip(a->b->data, 0); break;
    case SECOND: flip(tensor_at(y, middle), wrapped.calls % 2 ? 0 : -4); break;
    case THREADS:
        if (pool_threads(device->pool) == 2) flip(tensor_at(y, middle), 0);
        break;
    default: break;
    }
}

static void scale_grad(const struct tensor *g, float by)
{
    for (int64_t i = 0; i < g->dim[0]; i++) {
        float x;
        memcpy(&x, tensor_at(g, i * g->stride[0]), sizeof x);
        x *= by;
        memcpy(tensor_at(g, i * g->stride[0]), &x, sizeof x);
    }
}

static void clear_grad(const struct tensor *g)
{
    for (int64_t i = 0; i < g->dim[0]; i++)
        for (int64_t h = 0; h < g->dim[1]; h++)
            memset(tensor_at(g, i * g->stride[0] + h * g->stride[1]), 0,
                   sizeof(float) * (size_t)g->dim[2]);
}

/* Around the backward of rope, which has one input, and sequences. */
static void wrong_backward(struct device *device, struct arena *scratch, const void *args)
{
    struct rope_args a = *(const struct rope_args *)args;
    const struct tensor *g = a.x->grad;
    if (!g && wrapped.fault == TOUCHING) flip(a.y->grad->data, 0);
    struct rows rows = *a.rows;
    const int32_t turned[] = {0, 2, 1};
    if (wrapped.fault == SHIFTED && rows.B == 3) {
        rows.pos = turned;
        a.rows = &rows;
    }
    if (g && wrapped.fault == OVERWRITE) clear_grad(g);
    wrapped.kernel(device, scratch, &a);
    if (g && wrapped.fault == WEAK) scale_grad(g, 1 - 1e-4f);
}

static void wrap(struct lab *lab, enum op op, bool backward, op_kernel *with)
{
    for (int i = 0; i < LAB_STATIONS; i++) {
        struct device *d = lab->under[i].device;
        op_kernel **at = backward ? &d->backward[op] : &d->forward[op];
        if (with) wrapped.kernel = *at;
        *at = with ? with : wrapped.kernel;
    }
}

/* Each fault in turn: no complaint without one, at least one with it. */
static void sees(struct lab *lab, struct verdict *v, const struct proof *proof, bool backward,
                 const struct shape *s, enum fault first, enum fault last)
{
    for (int fault = (int)first - 1; fault <= (int)last; fault++) {
        struct verdict inner = {.subject = "selftest"};
        wrapped.fault = fault < (int)first ? NONE : (enum fault)fault;
        wrap(lab, proof->op, backward, backward ? wrong_backward : wrong_forward);
        (backward ? prove_backward : prove_forward)(lab, proof, s, &inner);
        wrap(lab, proof->op, backward, NULL);
        v->cases++;
        if (wrapped.fault == NONE)
            EXPECT(v, inner.failures == 0, "a right kernel was called wrong: %s", inner.first);
        else
            EXPECT(v, inner.failures > 0, "fault %d was not seen", fault);
    }
}

static void build_glu(struct trial *t, const struct shape *s)
{
    struct glu_args *a = &t->args.glu;
    a->a = IN(t, .name = "a", .per = PER_ROW, DIM(s->T, 2, s->D), .window = true);
    a->b = IN(t, .name = "b", .per = PER_ROW, DIM(s->T, 2, s->D), .window = true);
    a->y = OUT(t, .name = "y", .per = PER_ROW, DIM(s->T, 2, s->D));
}

static void build_rope(struct trial *t, const struct shape *s)
{
    struct rope_args *a = &t->args.rope;
    a->rot = 4;
    a->theta = 100;
    a->x = IN(t, .name = "x", .per = PER_ROW, DIM(s->T, 2, s->D), .window = true);
    a->y = OUT(t, .name = "y", .per = PER_ROW, DIM(s->T, 2, s->D));
    a->rows = trial_rows(t, 1);
}

static void forward_faults(struct lab *lab, struct verdict *v, const struct law *law)
{
    static const struct proof glu = {.op = OP_GLU, .build = build_glu};
    /* Some devices have one thread however many are asked for. */
    const bool threads = pool_threads(lab->under[1].device->pool) == 2;
    const enum fault last = threads ? THREADS : SECOND;
    (void)law;
    sees(lab, v, &glu, false, &(struct shape){.B = 1, .T = 130, .D = 128, .window = 1}, OFF, last);
    sees(lab, v, &glu, false, &(struct shape){.B = 1, .T = 1, .D = 3, .window = 1}, OFF, last);
}

static void backward_faults(struct lab *lab, struct verdict *v, const struct law *law)
{
    static const struct proof rope = {.op = OP_ROPE, .build = build_rope};
    (void)law;
    sees(lab, v, &rope, true, &(struct shape){.B = 3, .T = 33, .D = 8, .window = 1}, OVERWRITE,
         SHIFTED);
}

static const struct law laws[] = {{.name = "forward faults", .run = forward_faults},
                                  {.name = "backward faults", .run = backward_faults}};
SUITE(selftest, LAWS(laws));
