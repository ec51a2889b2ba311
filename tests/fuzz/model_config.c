/* config.json and, behind a zero byte, generation_config.json, from memory: refused with a sentence
 * that can be shown, or sizes that can be multiplied. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "model/config.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_error(enum gdn_status status, const struct gdn_error *err)
{
    if (status != err->status || (status == GDN_OK) != (err->text[0] == 0)) abort();
    if (status != GDN_OK && status != GDN_ERR_INPUT && status != GDN_ERR_UNSUPPORTED) abort();
    for (const char *c = err->text; *c; c++)
        if (*c < ' ' || *c > '~') abort();
}

/* What the rest of the model relies on. */
static void check_config(const struct config *c)
{
    enum { WIDTH = 1 << 24 };
    if (!c->family || c->layers < 1 || c->layers > CONFIG_LAYERS) abort();
    if (c->vocab < 1 || c->vocab > WIDTH || c->D < 1 || c->F < 1 || c->context < 1) abort();
    if (c->Hkv < 1 || c->Hq % c->Hkv != 0 || c->Hk < 1 || c->Hv % c->Hk != 0) abort();
    if (c->Hq < 1 || c->Hv < 1 || c->Dk < 1 || c->Dv < 1 || c->head_dim < 1) abort();
    if ((int64_t)c->Hq * c->head_dim > WIDTH || (int64_t)c->Hk * c->Dk > WIDTH ||
        (int64_t)c->Hv * c->Dv > WIDTH)
        abort();
    if (c->rot < 0 || c->rot % 2 != 0 || c->rot > c->head_dim) abort();
    if (c->taps < 2 || c->taps > 16 || c->mtp_layers < 0) abort();
    if (!(c->eps >= 0 && c->eps <= 1)) abort();
    if (c->theta == 0 ? c->rot != 0 : !(c->theta >= 1 && c->theta <= 1e15)) abort();
    if (c->eos_count < 0 || c->eos_count > CONFIG_EOS) abort();
    for (int32_t i = 0; i < c->eos_count; i++)
        if (c->eos[i] < 0 || c->eos[i] >= c->vocab) abort();
    for (int32_t i = 0; i < c->layers; i++)
        if (config_layer_shape(c, i).kind != c->kind[i]) abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct config c;
    struct gdn_error err = {0};
    const int64_t live = mem_counted().live_blocks;
    const char *text = (const char *)data, *zero = size ? memchr(data, 0, size) : NULL;
    const size_t len = zero ? (size_t)(zero - text) : size;
    enum gdn_status status = config_parse(&c, text, len, "config.json", &err);
    check_error(status, &err);
    if (status == GDN_OK) {
        check_config(&c);
        if (zero) {
            status = config_parse_generation(&c, zero + 1, size - len - 1, "generation_config.json",
                                             &err);
            check_error(status, &err);
            check_config(&c);
            if (status == GDN_OK && (!(c.temperature >= 0) || !(c.top_p >= 0 && c.top_p <= 1) ||
                                     c.top_k < 0))
                abort();
        }
    }
    if (mem_counted().live_blocks != live) abort();
    return 0;
}
