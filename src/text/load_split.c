/* load_split.c: the parts of a tokenizer.json that say how text is prepared and cut: normalizer and
 * pre_tokenizer. Both are read whole, in whatever order their keys stand, and then judged. */
#include <string.h>

#include "base/memory.h"
#include "text/load.h"
#include "text/tokenizer.h"

enum { STEPS_MAX = 4, WORD = 40 };

/* One pre-tokenizer. */
struct step {
    char type[WORD], behavior[WORD];
    char *pattern; /* NULL: none given */
    size_t pattern_len;
    bool invert, add_prefix_space, use_regex, sequence;
};

struct steps {
    struct step outer, inner[STEPS_MAX];
    size_t count;
};

enum gdn_status load_normalizer(struct loader *l)
{
    char type[WORD];
    TRY(load_type(l, "normalizer", type, sizeof type));
    l->tok->nfc = strcmp(type, "NFC") == 0;
    if (type[0] && !l->tok->nfc) return load_unsupported(l, "normalizer", type, "NFC or null");
    return GDN_OK;
}

/* {"Regex": "..."}; a {"String": "..."} is not. */
static enum gdn_status read_pattern(struct loader *l, struct step *step)
{
    struct json_token token;
    bool more;
    TRY(load_expect(l, JSON_OBJECT, "pre_tokenizer pattern", &token));
    TRY(load_key(l, &token, &more));
    if (!more || !json_is(&token, "Regex"))
        return load_unsupported(l, "pre_tokenizer pattern", "something else", "a Regex");
    TRY(load_expect(l, JSON_STRING, "pre_tokenizer pattern", &token));
    if (step->pattern) return load_bad(l, "pre_tokenizer: the pattern is there twice");
    step->pattern = mem_take(token.len + 1);
    if (!step->pattern || !json_text(&token, step->pattern, token.len + 1, &step->pattern_len))
        return load_no_memory(l);
    TRY(load_key(l, &token, &more));
    return more ? load_bad(l, "pre_tokenizer pattern: more than one key") : GDN_OK;
}

static enum gdn_status read_step_key(struct loader *l, const struct json_token *key,
                                     struct step *step)
{
    bool unused;
    if (json_is(key, "type"))
        return load_word(l, "pre_tokenizer type", step->type, sizeof step->type);
    if (json_is(key, "behavior"))
        return load_word(l, "pre_tokenizer behavior", step->behavior, sizeof step->behavior);
    if (json_is(key, "pattern")) return read_pattern(l, step);
    if (json_is(key, "invert")) return load_bool(l, "pre_tokenizer invert", &step->invert);
    if (json_is(key, "add_prefix_space"))
        return load_bool(l, "pre_tokenizer add_prefix_space", &step->add_prefix_space);
    if (json_is(key, "use_regex")) return load_bool(l, "pre_tokenizer use_regex", &step->use_regex);
    /* It moves offsets, never ids. */
    if (json_is(key, "trim_offsets")) return load_bool(l, "pre_tokenizer trim_offsets", &unused);
    return load_skip(l, key);
}

static enum gdn_status read_step(struct loader *l, struct step *step)
{
    struct json_token key;
    bool more;
    step->use_regex = true;
    for (;;) {
        TRY(load_key(l, &key, &more));
        if (!more) return GDN_OK;
        TRY(read_step_key(l, &key, step));
    }
}

static enum gdn_status read_inner(struct loader *l, struct steps *steps)
{
    struct json_token token;
    bool more;
    TRY(load_expect(l, JSON_ARRAY, "pretokenizers", &token));
    for (;;) {
        TRY(load_item(l, &token, &more));
        if (!more) return GDN_OK;
        if (token.kind != JSON_OBJECT) return load_bad(l, "pretokenizers: need objects");
        if (steps->count == STEPS_MAX)
            return load_unsupported(l, "pre_tokenizer", "a long Sequence", "Split, ByteLevel");
        TRY(read_step(l, &steps->inner[steps->count++]));
    }
}

static enum gdn_status read_steps(struct loader *l, struct steps *steps)
{
    struct json_token key;
    bool more;
    TRY(load_next(l, &key));
    if (key.kind == JSON_NULL)
        return load_unsupported(l, "pre_tokenizer", "null", "Sequence or ByteLevel");
    if (key.kind != JSON_OBJECT) return load_bad(l, "pre_tokenizer: need an object");
    steps->outer.use_regex = true;
    for (;;) {
        TRY(load_key(l, &key, &more));
        if (!more) return GDN_OK;
        if (json_is(&key, "pretokenizers")) {
            if (steps->outer.sequence) return load_bad(l, "pretokenizers: is there twice");
            steps->outer.sequence = true;
            TRY(read_inner(l, steps));
        } else {
            TRY(read_step_key(l, &key, &steps->outer));
        }
    }
}

/* ByteLevel must do no more than write bytes in its alphabet. */
static enum gdn_status judge_bytes(struct loader *l, const struct step *step)
{
    if (strcmp(step->type, "ByteLevel") != 0)
        return load_unsupported(l, "pre_tokenizer", step->type, "ByteLevel");
    if (step->add_prefix_space)
        return load_unsupported(l, "ByteLevel add_prefix_space", "true", "false");
    return GDN_OK;
}

static enum gdn_status judge_split(struct loader *l, const struct step *step)
{
    bool isolated = strcmp(step->behavior, "Isolated") == 0 && !step->invert;
    bool kept = strcmp(step->behavior, "Removed") == 0 && step->invert;
    if (strcmp(step->type, "Split") != 0)
        return load_unsupported(l, "pre_tokenizer Sequence", step->type, "Split, ByteLevel");
    if (!step->pattern) return load_bad(l, "pre_tokenizer Split: has no pattern");
    if (!isolated && !kept)
        return load_unsupported(l, "Split behavior", step->invert ? "inverted" : step->behavior,
                                "Isolated");
    TRY(split_open(step->pattern, step->pattern_len, l->flags & TOKENIZER_ANY_PATTERN,
                   &l->tok->split, l->err));
    /* Dropping what lies between the matches is the same where nothing does. */
    if (kept && !split_covers(l->tok->split))
        return load_unsupported(l, "Split behavior", "Removed with an unknown pattern", "Isolated");
    return GDN_OK;
}

static enum gdn_status judge(struct loader *l, const struct steps *steps)
{
    const struct step *outer = &steps->outer;
    if (strcmp(outer->type, "Sequence") != 0) {
        TRY(judge_bytes(l, outer));
        if (!outer->use_regex)
            return load_unsupported(l, "ByteLevel use_regex", "false and no Split", "true");
        return split_open(SPLIT_GPT2, strlen(SPLIT_GPT2), false, &l->tok->split, l->err);
    }
    if (steps->count != 2)
        return load_unsupported(l, "pre_tokenizer Sequence", "another number of steps",
                                "Split, ByteLevel");
    TRY(judge_bytes(l, &steps->inner[1]));
    if (steps->inner[1].use_regex)
        return load_unsupported(l, "ByteLevel use_regex after a Split", "true", "false");
    return judge_split(l, &steps->inner[0]);
}

enum gdn_status load_pre_tokenizer(struct loader *l)
{
    struct steps steps = {0};
    enum gdn_status status = read_steps(l, &steps);
    if (status == GDN_OK) status = judge(l, &steps);
    mem_give(steps.outer.pattern);
    for (size_t i = 0; i < STEPS_MAX; i++) mem_give(steps.inner[i].pattern);
    return status;
}
