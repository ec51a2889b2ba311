#define PCRE2_CODE_UNIT_WIDTH 8
#include "text/split.h"

#include <pcre2.h>
#include <string.h>

#include "base/memory.h"
#include "text/show.h"

enum {
    PATTERN_MAX = 16 << 10,
    NEST_MAX = 64,
    STEPS = 100000,
    STEPS_A_BYTE = 50,
    HEAP_KIB = 32 << 10
};

/* White_Space for use inside a class, what is made of it, and letters that are not Han. */
#define WS                                                                     \
    "\\t-\\r \\x{85}\\x{A0}\\x{1680}\\x{2000}-\\x{200A}\\x{2028}\\x{2029}\\x{202F}" \
    "\\x{205F}\\x{3000}"
#define SUFFIX "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
#define UPPER "(?:(?!\\p{sc:Han})[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}])"
#define LOWER "(?:(?!\\p{sc:Han})[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}])"
#define BLANKS "[" WS "]*[\\r\\n]+|[" WS "]+(?![^" WS "])|[" WS "]+"

static const struct known {
    const char *name, *source, *meaning;
} known_patterns[] = {
    {"qwen3.5",
     "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?[\\p{L}\\p{M}]+|\\p{N}"
     "| ?[^\\s\\p{L}\\p{M}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+",
     SUFFIX "|[^\\r\\n\\p{L}\\p{N}]?[\\p{L}\\p{M}]+|\\p{N}"
     "| ?[^" WS "\\p{L}\\p{M}\\p{N}]+[\\r\\n]*|" BLANKS},
    {"qwen2",
     "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}"
     "| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+",
     SUFFIX "|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}"
     "| ?[^" WS "\\p{L}\\p{N}]+[\\r\\n]*|" BLANKS},
    {"cl100k",
     "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}"
     "| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+",
     SUFFIX "|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}"
     "| ?[^" WS "\\p{L}\\p{N}]+[\\r\\n]*|" BLANKS},
    {"kimi",
     "[\\p{Han}]+"
     "|[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}&&[^\\p{Han}]]*"
     "[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}&&[^\\p{Han}]]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
     "|[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}&&[^\\p{Han}]]+"
     "[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}&&[^\\p{Han}]]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
     "|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+",
     "\\p{sc:Han}+"
     "|[^\\r\\n\\p{L}\\p{N}]?" UPPER "*" LOWER "+" SUFFIX "?"
     "|[^\\r\\n\\p{L}\\p{N}]?" UPPER "+" LOWER "*" SUFFIX "?"
     "|\\p{N}{1,3}| ?[^" WS "\\p{L}\\p{N}]+[\\r\\n]*|" BLANKS},
    {"gpt-2", SPLIT_GPT2,
     "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^" WS "\\p{L}\\p{N}]+"
     "|[" WS "]+(?![^" WS "])|[" WS "]+"},
};

struct split {
    const struct known *known; /* NULL: some other pattern */
    pcre2_general_context *memory;
    pcre2_code *code;
};

struct split_run {
    const struct split *split;
    pcre2_match_data *found;
    pcre2_match_context *limits;
    size_t limit_for; /* the text length that `limits` was set for */
};

static void *take(size_t bytes, void *nothing)
{
    (void)nothing;
    return mem_take(bytes);
}

static void give(void *block, void *nothing)
{
    (void)nothing;
    mem_give(block);
}

static const struct known *find_known(const char *pattern, size_t len)
{
    for (size_t i = 0; i < sizeof known_patterns / sizeof *known_patterns; i++) {
        const struct known *known = &known_patterns[i];
        if (strlen(known->source) == len && memcmp(known->source, pattern, len) == 0) return known;
    }
    return NULL;
}

static enum gdn_status compile(struct split *split, const char *pattern, size_t len,
                               struct gdn_error *err)
{
    int code;
    PCRE2_SIZE offset;
    pcre2_compile_context *limits = pcre2_compile_context_create(split->memory);
    if (!limits) return error_set(err, GDN_ERR_MEMORY, "no memory for the pre-tokenizer pattern");
    pcre2_set_parens_nest_limit(limits, NEST_MAX);
    pcre2_set_max_pattern_length(limits, PATTERN_MAX);
    split->code = pcre2_compile((PCRE2_SPTR)pattern, len,
                                PCRE2_UTF | PCRE2_UCP | PCRE2_NEVER_BACKSLASH_C, &code, &offset,
                                limits);
    pcre2_compile_context_free(limits);
    if (split->code) return GDN_OK;
    if (code == PCRE2_ERROR_HEAP_FAILED)
        return error_set(err, GDN_ERR_MEMORY, "no memory for the pre-tokenizer pattern");
    PCRE2_UCHAR why[120];
    pcre2_get_error_message(code, why, sizeof why);
    return error_set(err, GDN_ERR_INPUT, "pre-tokenizer pattern, character %zu: %s", offset,
                     (const char *)why);
}

/* `pattern` counts only when none is known. */
static enum gdn_status open_pattern(const struct known *known, const char *pattern, size_t len,
                                    struct split **out, struct gdn_error *err)
{
    *out = NULL;
    struct split *split = mem_take(sizeof *split);
    if (!split) return error_set(err, GDN_ERR_MEMORY, "no memory for the pre-tokenizer");
    split->known = known;
    split->memory = pcre2_general_context_create(take, give, NULL);
    enum gdn_status status = GDN_OK;
    if (!split->memory)
        status = error_set(err, GDN_ERR_MEMORY, "no memory for the pre-tokenizer");
    else if (known)
        status = compile(split, known->meaning, strlen(known->meaning), err);
    else
        status = compile(split, pattern, len, err);
    if (status != GDN_OK) {
        split_close(split);
        return status;
    }
    /* Machine code where the system lets us. It does not honour the heap limit, so a pattern from
     * outside goes without. */
    if (known) pcre2_jit_compile(split->code, PCRE2_JIT_COMPLETE);
    *out = split;
    return GDN_OK;
}

enum gdn_status split_open(const char *pattern, size_t len, bool allow_any, struct split **out,
                           struct gdn_error *err)
{
    const struct known *known = find_known(pattern, len);
    char shown[300];
    *out = NULL;
    if (!known && !allow_any)
        return error_set(err, GDN_ERR_UNSUPPORTED,
                         "pre-tokenizer pattern \"%s\" is not a known one; --allow-any-pattern "
                         "runs it all the same, with limits",
                         show_bytes(shown, sizeof shown, pattern, len));
    return open_pattern(known, pattern, len, out, err);
}

enum gdn_status split_open_known(const char *name, struct split **out, struct gdn_error *err)
{
    for (size_t i = 0; i < sizeof known_patterns / sizeof *known_patterns; i++) {
        const struct known *known = &known_patterns[i];
        if (strcmp(known->name, name) == 0) return open_pattern(known, NULL, 0, out, err);
    }
    *out = NULL;
    return error_set(err, GDN_ERR_UNSUPPORTED, "no pre-tokenizer pattern is called %s", name);
}

void split_close(struct split *split)
{
    if (!split) return;
    pcre2_code_free(split->code);
    pcre2_general_context_free(split->memory);
    mem_give(split);
}

const char *split_name(const struct split *split)
{
    return split->known ? split->known->name : "other";
}

bool split_covers(const struct split *split) { return split->known != NULL; }

struct split_run *split_run_open(const struct split *split)
{
    struct split_run *run = mem_take(sizeof *run);
    if (!run) return NULL;
    run->split = split;
    run->found = pcre2_match_data_create(1, split->memory);
    run->limits = pcre2_match_context_create(split->memory);
    if (!run->found || !run->limits) {
        split_run_close(run);
        return NULL;
    }
    pcre2_set_heap_limit(run->limits, HEAP_KIB);
    pcre2_set_match_limit(run->limits, STEPS);
    return run;
}

void split_run_close(struct split_run *run)
{
    if (!run) return;
    pcre2_match_data_free(run->found);
    pcre2_match_context_free(run->limits);
    mem_give(run);
}

static void set_limit(struct split_run *run, size_t len)
{
    if (len == run->limit_for) return;
    run->limit_for = len;
    size_t steps = len < (UINT32_MAX - STEPS) / STEPS_A_BYTE ? STEPS + STEPS_A_BYTE * len
                                                             : UINT32_MAX;
    pcre2_set_match_limit(run->limits, (uint32_t)steps);
}

enum gdn_status split_next(struct split_run *run, const char *text, size_t len, size_t at,
                           size_t *end, struct gdn_error *err)
{
    /* The text is known to be UTF-8: PCRE2 would look at all of it again for each piece. */
    uint32_t options = PCRE2_NO_UTF_CHECK | PCRE2_NOTEMPTY;
    set_limit(run, len);
    int rc = pcre2_match(run->split->code, (PCRE2_SPTR)text, len, at, options, run->found,
                         run->limits);
    if (rc == PCRE2_ERROR_NOMATCH) {
        *end = len;
        return GDN_OK;
    }
    if (rc == PCRE2_ERROR_NOMEMORY)
        return error_set(err, GDN_ERR_MEMORY, "no memory to split the text");
    if (rc < 0) {
        PCRE2_UCHAR why[120];
        pcre2_get_error_message(rc, why, sizeof why);
        return error_set(err, GDN_ERR_INPUT, "the pre-tokenizer pattern gave up at byte %zu: %s",
                         at, (const char *)why);
    }
    const PCRE2_SIZE *found = pcre2_get_ovector_pointer(run->found);
    *end = found[0] > at ? found[0] : found[1];
    /* Older versions let \K stand in a look-around, and then a match may end before it begins. */
    if (*end <= at) *end = len;
    return GDN_OK;
}
