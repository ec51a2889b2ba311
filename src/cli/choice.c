#include "cli/choice.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

struct choice choice_defaults(void)
{
    return (struct choice){.top_k = -1, .seed = -1, .temperature = -1, .top_p = -1, .min_p = -1,
                           .repetition = 1};
}

void choice_options(struct options *o, struct choice *c)
{
    options_group(o, "Choosing a token (defaults: what the model's makers recommend)");
    options_real(o, "--temp", &c->temperature, 0, 100, "0 if none",
                 "temperature; 0: the most likely token");
    options_integer(o, "--top-k", &c->top_k, 0, 256, NULL, "of the N most likely; 0: of 256");
    options_real(o, "--top-p", &c->top_p, 0, 1, NULL, "of those that make up this share; 0: off");
    options_real(o, "--min-p", &c->min_p, 0, 1, "0, off",
                 "of those at least this likely, relative to the best");
    options_real(o, "--repetition", &c->repetition, 0.01, 100, "1, off",
                 "divides logits of tokens said before (below 0: times it)");
    options_real(o, "--presence", &c->presence, -100, 100, "0, off", "and takes this off, once");
    options_real(o, "--frequency", &c->frequency, -100, 100, "0, off", "and this for each time");
    options_integer(o, "--window", &c->window, 0, INT32_MAX, "0, all",
                    "how many tokens back they stand, prompt included");
    options_list(o, "--bias", &c->bias, "TOKEN=X",
                 "adds to the logit of a token, by id or text; -inf: never; repeatable");
    options_integer(o, "--seed", &c->seed, 0, INT64_MAX, "drawn", "same seed, same answer");
}

void choice_stop_options(struct options *o, struct choice *c)
{
    options_list(o, "--stop", &c->stop, "TEXT",
                 "the answer ends before this text (\\n: a line end); repeatable");
    options_list(o, "--stop-token", &c->stop_token, "TOKEN",
                 "the answer ends with this token, by id or text; repeatable");
}

/* ---- tokens ---------------------------------------------------------------------------------- */

static bool is_number(const char *text, size_t len)
{
    return len > 0 && len < 10 && strspn(text, "0123456789") >= len;
}

/* Digits are an id, anything else the text of one token. */
static enum gdn_status token_of(const char *name, const char *text, size_t len,
                                const gdn_model *model, const struct gdn_model_info *info,
                                int32_t *id, struct gdn_error *err)
{
    enum { FEW = 8 };
    int32_t ids[FEW];
    size_t n = FEW;
    if (is_number(text, len)) {
        *id = (int32_t)strtol(text, NULL, 10);
        if (*id < info->vocab) return GDN_OK;
        return error_set(err, GDN_ERR_USAGE, "%s: found id %d, need 0 to %d", name, *id,
                         info->vocab - 1);
    }
    if (info->tokens == 0)
        return error_set(err, GDN_ERR_USAGE, "%s: found \"%.*s\" and no tokenizer for it, need an "
                         "id", name, len < 80 ? (int)len : 80, text);
    TRY(gdn_tokenize(model, text, len, GDN_CONTROL, ids, &n, err));
    if (n != 1)
        return error_set(err, GDN_ERR_USAGE, "%s: found \"%.*s\", which is %zu tokens, need one",
                         name, len < 80 ? (int)len : 80, text, n);
    *id = ids[0];
    return GDN_OK;
}

/* "TOKEN=X"; a text may have an = in it. */
static enum gdn_status bias_of(const char *text, const gdn_model *model,
                               const struct gdn_model_info *info, struct gdn_bias *bias,
                               struct gdn_error *err)
{
    const char *value = strrchr(text, '=');
    char *end = NULL;
    const bool never = value && strcmp(value + 1, "-inf") == 0;
    const double add = value && !never && strspn(value + 1, "0123456789.eE+-") ==
                       strlen(value + 1) ? strtod(value + 1, &end) : NAN;
    if (!value || value == text || (!never && (!end || end == value + 1 || *end ||
                                               !(fabs(add) <= 1e6))))
        return error_set(err, GDN_ERR_USAGE, "--bias: found \"%.80s\", need TOKEN=X, X a number "
                         "from -1e6 to 1e6 or -inf", text);
    bias->add = never ? -INFINITY : (float)add;
    return token_of("--bias", text, (size_t)(value - text), model, info, &bias->id, err);
}

/* ---- stop strings ---------------------------------------------------------------------------- */

static enum gdn_status add_string(struct bytes *out, const char *text, struct gdn_error *err)
{
    for (const char *c = text; *c; c++) {
        char byte = *c;
        if (byte == '\\') {
            c++;
            byte = *c == 'n' ? '\n' : *c == 't' ? '\t' : *c == '\\' ? '\\' : 0;
            if (!byte)
                return error_set(err, GDN_ERR_USAGE, "--stop: found \"%.80s\", need \\n, \\t or "
                                 "\\\\ where there is a backslash", text);
        }
        bytes_add(out, &byte, 1);
    }
    bytes_add(out, "", 1);
    return GDN_OK;
}

static enum gdn_status make_strings(const struct choice *c, struct chosen *chosen,
                                    struct gdn_error *err)
{
    size_t begin[OPTION_ITEMS];
    for (int i = 0; i < c->stop.count; i++) {
        begin[i] = chosen->text.len;
        TRY(add_string(&chosen->text, c->stop.item[i], err));
    }
    if (chosen->text.failed) return error_set(err, GDN_ERR_MEMORY, "no memory for --stop");
    for (int i = 0; i < c->stop.count; i++) chosen->string[i] = chosen->text.at + begin[i];
    chosen->string_count = (size_t)c->stop.count;
    return GDN_OK;
}

/* ---- all of it ------------------------------------------------------------------------------- */

static struct gdn_sampling sampling_of(const struct choice *c, const struct gdn_model_info *info)
{
    struct gdn_sampling how = gdn_sampling_default();
    if (info->recommends) {
        how.temperature = info->temperature;
        how.top_k = info->top_k;
        how.top_p = info->top_p;
    }
    if (c->temperature >= 0) how.temperature = c->temperature;
    if (c->top_k >= 0) how.top_k = (int32_t)c->top_k;
    if (c->top_p >= 0) how.top_p = c->top_p;
    if (c->min_p >= 0) how.min_p = c->min_p;
    how.repetition = c->repetition;
    how.presence = c->presence;
    how.frequency = c->frequency;
    how.window = (int32_t)c->window;
    /* A small number can be typed again. */
    uint32_t drawn = 0;
    if (c->seed < 0 && getrandom(&drawn, sizeof drawn, GRND_NONBLOCK) < 0) drawn = 0;
    how.seed = c->seed < 0 ? drawn : (uint64_t)c->seed;
    return how;
}

enum gdn_status choice_make(const struct choice *c, const gdn_model *model,
                            const struct gdn_model_info *info, struct chosen *chosen,
                            struct gdn_error *err)
{
    *chosen = (struct chosen){.sampling = sampling_of(c, info)};
    for (int i = 0; i < c->bias.count; i++)
        TRY(bias_of(c->bias.item[i], model, info, &chosen->bias[i], err));
    chosen->sampling.bias = chosen->bias;
    chosen->sampling.bias_count = (size_t)c->bias.count;
    for (int32_t i = 0; i < info->eos_count; i++)
        chosen->stop[chosen->stop_count++] = info->eos[i];
    for (int i = 0; i < c->stop_token.count; i++) {
        const char *text = c->stop_token.item[i];
        TRY(token_of("--stop-token", text, strlen(text), model, info,
                     &chosen->stop[chosen->stop_count++], err));
    }
    if (c->stop.count > 0 && info->tokens == 0)
        return error_set(err, GDN_ERR_INPUT, "--stop: found no tokenizer to make the answer a "
                         "text, need --stop-token");
    return make_strings(c, chosen, err);
}

void chosen_free(struct chosen *chosen) { bytes_free(&chosen->text); }

bool chosen_ends(const struct chosen *chosen, int32_t id)
{
    for (size_t i = 0; i < chosen->stop_count; i++)
        if (chosen->stop[i] == id) return true;
    return false;
}
