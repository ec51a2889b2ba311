/* small.h: the smallest config there is, with one key or another replaced. */
#ifndef TESTS_MODEL_SMALL_H
#define TESTS_MODEL_SMALL_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "model/config.h"

/* A key and its value as JSON; NULL leaves the key out. */
struct key {
    const char *name, *value;
};

enum { SMALL_TEXT = 8192 };

#define SMALL_TYPES "[\"linear_attention\",\"full_attention\"]"

static const struct key small_keys[] = {
    {"model_type", "\"qwen3_5_text\""}, {"vocab_size", "100"},
    {"hidden_size", "24"},              {"intermediate_size", "40"},
    {"num_hidden_layers", "2"},         {"layer_types", SMALL_TYPES},
    {"num_attention_heads", "4"},       {"num_key_value_heads", "2"},
    {"head_dim", "16"},                 {"linear_num_key_heads", "2"},
    {"linear_num_value_heads", "4"},    {"linear_key_head_dim", "8"},
    {"linear_value_head_dim", "12"},    {"linear_conv_kernel_dim", "4"},
    {"rms_norm_eps", "1e-6"},           {"max_position_embeddings", "512"},
    {"eos_token_id", "7"},              {"tie_word_embeddings", "false"},
    {"rope_parameters", "{\"rope_theta\":1e7,\"partial_rotary_factor\":0.25}"},
};

static inline void small_put(char *out, const char *name, const char *value)
{
    const size_t n = strlen(out);
    if (!value) return;
    const int m = snprintf(out + n, SMALL_TEXT - n, "%s\"%s\":%s", n > 1 ? "," : "", name, value);
    assert_true(m > 0 && (size_t)m < SMALL_TEXT - n - 1);
}

/* The keys above, replaced by and followed by `keys`, which end with a NULL name. */
static inline const char *small_text(const struct key *keys)
{
    static char text[SMALL_TEXT];
    strcpy(text, "{");
    for (size_t i = 0; i < sizeof small_keys / sizeof *small_keys; i++) {
        const struct key *k = keys;
        while (k->name && strcmp(k->name, small_keys[i].name) != 0) k++;
        small_put(text, small_keys[i].name, k->name ? k->value : small_keys[i].value);
    }
    for (const struct key *k = keys; k->name; k++) {
        bool known = false;
        for (size_t i = 0; i < sizeof small_keys / sizeof *small_keys; i++)
            known = known || strcmp(k->name, small_keys[i].name) == 0;
        if (!known) small_put(text, k->name, k->value);
    }
    return strcat(text, "}");
}

#define SMALL(...) small_text((const struct key[]){__VA_ARGS__, {NULL, NULL}})

static inline void accept_text(struct config *c, const char *json)
{
    struct gdn_error err = {0};
    if (config_parse(c, json, strlen(json), "small.json", &err) != GDN_OK)
        fail_msg("%s\n%s", err.text, json);
    assert_int_equal(err.status, GDN_OK);
}

/* What every refusal of a config or of a generation config keeps: a status, a sentence that begins
 * with the file and names the field and what was found and needed, in plain text. */
static inline void refused_as(const struct gdn_error *err, enum gdn_status got,
                              enum gdn_status want, const char *field, const char *found,
                              const char *need)
{
    if (got != want || err->status != want)
        fail_msg("%s %s: found status %d (%s), need %d", field, found, (int)got, err->text,
                 (int)want);
    const char *at = strstr(err->text, field);
    if (strncmp(err->text, "small.json: ", 12) != 0 || !at || !strstr(at, found) ||
        !strstr(at, need))
        fail_msg("found \"%s\", need small.json: ... %s ... %s ... %s", err->text, field, found,
                 need);
    for (const char *c = err->text; *c; c++) assert_in_range(*c, ' ', '~');
}

static inline void refuse_text(const char *json, enum gdn_status want, const char *field,
                               const char *found, const char *need)
{
    struct config c;
    struct gdn_error err = {0};
    const enum gdn_status got = config_parse(&c, json, strlen(json), "small.json", &err);
    refused_as(&err, got, want, field, found, need);
}

/* The usual case: bad input, in one key. */
static inline void refuse_key(const char *name, const char *value, const char *found,
                              const char *need)
{
    refuse_text(SMALL({name, value}), GDN_ERR_INPUT, name, found, need);
}

#endif
