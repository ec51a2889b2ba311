/* weights_quant.c: what is quantised and what is not, what a stored model must look like, and what is
 * refused: numbers that fit no block, damaged rows, what other programs have quantised. */
#include "forge.h"

#include "model/convert.h"
#include "tensor/quant.h"

#define K_PROJ "model.layers.3.self_attn.k_proj.weight"

static const char *const golden[] = {"q35-r1-tied", "q35-r2-untied", "next-grouped", "q35moe-stacked",
                                     "kimi-released", "kimi-mlx", "olmo-released"};

static bool ends_with(const char *name, const char *end)
{
    const size_t n = strlen(name), m = strlen(end);
    return n >= m && strcmp(name + n - m, end) == 0;
}

/* By what a tensor is, not by its name: the larger ones, but for gates and routers. */
static void check_types(const struct weights *w, enum dtype dtype)
{
    int made = 0;
    for (int32_t i = 0; i < w->count; i++) {
        const struct weight *weight = &w->list[i];
        const struct tensor *t = &weight->tensor;
        const bool ends = t == w->embed || t == w->head.part[0].w;
        made += dtype_quantised(t->dtype);
        if (ends) assert_int_equal(t->dtype, tensor_width(t) < 32 ? DTYPE_BF16 : DTYPE_Q8);
        if (t->rank < 2 || weight->small) assert_int_equal(t->dtype, DTYPE_F32);
        if (ends_with(weight->name, "mlp.gate.weight") || ends_with(weight->name, "conv1d.weight"))
            assert_false(dtype_quantised(t->dtype));
        if (dtype_quantised(t->dtype) && !ends) assert_int_equal(t->dtype, dtype);
        if (ends_with(weight->name, "down_proj.weight") && tensor_width(t) >= 32)
            assert_int_equal(t->dtype, dtype);
    }
    assert_true(made > 4);
    for (int32_t i = 0; i < w->layers; i++) {
        const struct layer *l = &w->layer[i];
        for (int p = 0; l->sparse && p < l->route.logits.parts; p++)
            assert_false(dtype_quantised(l->route.logits.part[p].w->dtype));
        for (int p = 0; p < l->decay.parts; p++)
            assert_false(dtype_quantised(l->decay.part[p].w->dtype));
    }
}

static const struct weights_watch nobody = {0};

static void types(void **state)
{
    (void)state;
    for (size_t m = 0; m < sizeof golden / sizeof *golden; m++)
        for (enum dtype dtype = DTYPE_Q8; dtype <= DTYPE_Q4; dtype++) {
            struct forge f;
            struct weights w;
            struct gdn_error err = {0};
            forge_open(&f, golden[m]);
            forge_accepted(&f, &w);
            assert_int_equal(weights_quant(&w), DTYPE_COUNT);
            const int64_t whole = w.file_bytes + w.copied_bytes;
            if (weights_quantise(&w, dtype, NULL, &nobody, &err) != GDN_OK)
                fail_msg("%s", err.text);
            check_types(&w, dtype);
            assert_int_equal(weights_quant(&w), dtype);
            assert_true(w.file_bytes + w.copied_bytes < whole);
            /* Once more changes nothing; as something else it is refused. */
            assert_int_equal(weights_quantise(&w, dtype, NULL, &nobody, &err), GDN_OK);
            assert_int_equal(weights_quantise(&w, dtype == DTYPE_Q8 ? DTYPE_Q4 : DTYPE_Q8, NULL,
                                              &nobody, &err), GDN_ERR_INPUT);
            assert_non_null(strstr(err.text, dtype == DTYPE_Q8 ? "found q8" : "found q4"));
            weights_close(&w);
            forge_close(&f);
        }
}

/* A number that no block holds, in a row of a projection, named. */
static void numbers_without_a_place(void **state)
{
    (void)state;
    static const uint16_t bad[] = {0x7f80, 0xff80, 0x7fc0, 0x7f00}; /* inf, -inf, NaN, 2^127 */
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        for (enum dtype dtype = DTYPE_Q8; dtype <= DTYPE_Q4; dtype++) {
            struct forge f;
            struct weights w;
            struct gdn_error err = {0};
            forge_open(&f, "q35-r1-tied");
            struct forged *t = forge_find(&f, K_PROJ);
            uint16_t *x = mem_take(t->bytes);
            assert_true(x && t->dtype == ST_BF16);
            memcpy(x, t->data, t->bytes);
            x[3 * t->shape[1] + 1] = bad[i];
            t->data = x;
            forge_accepted(&f, &w);
            assert_int_equal(weights_quantise(&w, dtype, NULL, &nobody, &err), GDN_ERR_INPUT);
            assert_non_null(strstr(err.text, K_PROJ ": row 3 holds a number that is not finite"));
            weights_close(&w);
            mem_give(x);
            forge_close(&f);
        }
}

/* The model converted, taken apart to be damaged. */
static void convert(struct forge *f, struct shards *made, char *folder)
{
    struct weights w;
    struct gdn_error err = {0};
    char path[128];
    forge_open(f, "q35-r1-tied");
    forge_accepted(f, &w);
    assert_non_null(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/model.safetensors", folder);
    if (weights_convert(&w, DTYPE_Q8, NULL, path, &(struct weights_watch){0}, &err) != GDN_OK)
        fail_msg("%s", err.text);
    weights_close(&w);
    if (shards_open(made, folder, &err) != GDN_OK) fail_msg("%s", err.text);
    f->count = 0;
    for (size_t i = 0; i < made->count; i++) {
        const struct st_entry *e = made->tensors[i].entry;
        struct forged *t = &f->list[f->count++];
        *t = (struct forged){.dtype = e->dtype, .rank = e->rank, .data = e->data, .bytes = e->bytes};
        strcpy(t->name, e->name);
        memcpy(t->shape, e->shape, sizeof t->shape);
    }
}

static void stored(void **state)
{
    (void)state;
    static unsigned char zeros[1 << 16];
    char folder[] = "/tmp/gdn-stored-XXXXXX", path[128];
    struct forge f;
    struct shards made;
    struct weights w;
    convert(&f, &made, folder);
    forge_accepted(&f, &w);
    assert_int_equal(weights_quant(&w), DTYPE_Q8);
    weights_close(&w);
    struct forged *t = forge_find(&f, K_PROJ ".q8");
    const struct forged whole = *t;
    assert_int_equal(t->shape[1], quant_row_bytes(DTYPE_Q8, 40));
    t->data = zeros;
    /* Rows of another length, another number of rows, another type, under the name of another. */
    t->shape[1]--;
    t->bytes = (size_t)(t->shape[0] * t->shape[1]);
    forge_refused(&f, GDN_ERR_INPUT, K_PROJ ".q8", "found [32, 67]", "need [32, 68]");
    *t = whole;
    t->shape[0]--;
    t->bytes = (size_t)(t->shape[0] * t->shape[1]);
    forge_refused(&f, GDN_ERR_INPUT, K_PROJ ".q8", "found [31, 68]", "need [32, 68]");
    *t = whole;
    t->dtype = ST_I8;
    forge_refused(&f, GDN_ERR_UNSUPPORTED, K_PROJ ".q8", "found I8", "need U8");
    *t = whole;
    strcpy(t->name, K_PROJ ".q4");
    forge_refused(&f, GDN_ERR_INPUT, K_PROJ ".q4", "found [32, 68]", "need [32, 40]");
    strcpy(t->name, K_PROJ ".q5");
    forge_refused(&f, GDN_ERR_INPUT, K_PROJ, "nothing", "need [32, 40]");
    *t = whole;
    /* Twice the same weight; a norm that is quantised. */
    struct forged *twice = forge_add(&f, K_PROJ, ST_BF16, 1);
    twice->rank = 2, twice->shape[0] = 32, twice->shape[1] = 40, twice->bytes = 32 * 40 * 2;
    forge_refused(&f, GDN_ERR_INPUT, "1 tensors have no place", K_PROJ ".q8", "");
    forge_drop(&f, K_PROJ);
    strcpy(forge_find(&f, "model.norm.weight")->name, "model.norm.weight.q8");
    forge_refused(&f, GDN_ERR_UNSUPPORTED, "model.norm.weight", "found", "need F32, BF16 or F16");
    shards_close(&made);
    snprintf(path, sizeof path, "%s/model.safetensors", folder);
    unlink(path);
    rmdir(folder);
    forge_close(&f);
}

static void other_programs(void **state)
{
    (void)state;
    static const struct {
        const char *name, *what;
    } others[] = {{"model.layers.3.self_attn.k_proj.qweight", "GPTQ or AWQ"},
                  {"model.layers.3.self_attn.k_proj.weight_packed", "compressed-tensors"},
                  {"model.layers.3.self_attn.k_proj.weight_scale_inv", "fp8"},
                  {"model.layers.3.self_attn.k_proj.scales", "MLX"},
                  {K_PROJ ".absmax", "bitsandbytes"}};
    for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
        struct forge f;
        forge_open(&f, "q35-r1-tied");
        forge_add(&f, others[i].name, ST_U32, 4);
        forge_refused(&f, GDN_ERR_UNSUPPORTED, others[i].name, others[i].what,
                      "need f32, bf16, f16, or what gdn convert makes");
        forge_close(&f);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(types), cmocka_unit_test(numbers_without_a_place), cmocka_unit_test(stored),
        cmocka_unit_test(other_programs)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
