/* far.c: rows so far apart that 32 bits hold neither the number of an element nor of a byte. */
#include "harness/prove.h"

static const int64_t STEP = (4ll << 30) + 4096, MARGIN = 64 << 20;
enum { ROWS = 3 };

bool far_room(struct device *device)
{
    return !device->host && (int64_t)device->room(device) > ROWS * STEP + MARGIN;
}

/* Where the rows of a piece lie meanwhile. */
struct far {
    struct tensor home; /* before it moved; data NULL: it stays */
    char *at;
};

/* Tensors of the call: what it gets as bare pointers knows no strides. */
static bool is_tensor(struct trial *t, const struct tensor *x)
{
    struct tensor **const all = call_tensors(&t->args);
    const struct op_info *op = &op_info[t->proof->op];
    for (int i = 0; i < op->in + op->out; i++)
        if (all[i] == x) return true;
    return false;
}

static bool moves(const struct piece *p, int64_t rows)
{
    const struct tensor *t = &p->box.t;
    return p->want.per == PER_ROW && !p->want.added && t->rank > 1 && t->dim[0] == rows &&
           !dtype_quantised(t->dtype);
}

static void copy_rows(struct device *d, const struct tensor *t, const struct far *far, bool back)
{
    const size_t size = dtype_size(t->dtype);
    int64_t width = 1; /* of a row, gaps between its heads included */
    for (int i = 1; i < t->rank; i++) width += (t->dim[i] - 1) * t->stride[i];
    for (int64_t row = 0; row < t->dim[0]; row++) {
        char *near = (char *)t->data + (size_t)(row * t->stride[0]) * size;
        char *there = far->at + row * STEP;
        d->copy(d, back ? near : there, back ? there : near, (size_t)width * size);
    }
}

/* Each tensor with rows goes its own way in the block, 1 MiB from the next. */
static void move_out(struct trial *t, char *block, struct far *far)
{
    struct device *d = t->at->device;
    for (int i = 0; i < t->pieces; i++) {
        struct tensor *x = &t->piece[i].box.t;
        far[i].home.data = NULL;
        if (!is_tensor(t, x) || !moves(&t->piece[i], t->shape->T)) continue;
        far[i] = (struct far){*x, block + ((int64_t)i << 20)};
        copy_rows(d, x, &far[i], false);
        x->data = far[i].at;
        x->stride[0] = STEP / (int64_t)dtype_size(x->dtype);
    }
}

static void move_home(struct trial *t, struct far *far)
{
    for (int i = 0; i < t->pieces; i++) {
        if (!far[i].home.data) continue;
        t->piece[i].box.t = far[i].home;
        copy_rows(t->at->device, &far[i].home, &far[i], true);
    }
}

static void run_far(struct trial *t, const struct trial *near, char *block)
{
    struct far far[TRIAL_BOXES];
    for (int i = 0; i < t->pieces; i++) box_upload(&t->piece[i].box);
    move_out(t, block, far);
    const bool ran = station_run(t->at, t->at->device->forward[t->proof->op], &t->args, t->v);
    move_home(t, far);
    for (int i = 0; i < t->pieces; i++) box_download(&t->piece[i].box);
    if (ran) expect_same_bits(near, t, "with rows 4 GiB apart");
}

void prove_far(struct lab *lab, const struct proof *proof, const struct shape *s, struct verdict *v)
{
    const struct manner plain = {0};
    struct trial near, far;
    struct shape three = *s;
    three.T = ROWS;
    v->shape = three;
    v->cases++;
    struct device *d = lab->under[0].device;
    char *block = d->take(d, (size_t)(ROWS * STEP + MARGIN));
    if (!EXPECT(v, block != NULL, "no memory")) return;
    if (trial_open(&near, proof, &three, &lab->under[0], &plain, v)) {
        if (trial_forward(&near) && trial_open(&far, proof, &three, &lab->under[0], &plain, v)) {
            if (!far.front.data) run_far(&far, &near, block);
            trial_close(&far);
        }
        trial_close(&near);
    }
    d->give(d, block);
}
