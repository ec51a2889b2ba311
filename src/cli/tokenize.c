/* tokenize.c: `gdn tokenize`: texts into token ids, and ids into texts. */
#include <string.h>

#include "base/json.h"
#include "base/memory.h"
#include "cli/command.h"
#include "cli/input.h"
#include "cli/output.h"
#include "cli/setup.h"

enum { TEXT_BYTES = 64 << 20 };

struct tokenize_settings {
    bool control, chat, decode, show, count;
    const char *system;
    struct setup setup;
};

struct list {
    int32_t *ids;
    size_t count;
};

/* What a token says, as JSON writes it: white space and quotes are seen. */
static enum gdn_status show(const gdn_model *model, const struct list *list, struct bytes *out,
                            struct gdn_error *err)
{
    for (size_t i = 0; i < list->count; i++) {
        char text[4096];
        size_t n = sizeof text;
        TRY(gdn_detokenize(model, list->ids + i, 1, false, text, &n, err));
        bytes_addf(out, "%d\t", list->ids[i]);
        json_put_string(out, text, n < sizeof text ? n : sizeof text);
        bytes_add_text(out, "\n");
    }
    return GDN_OK;
}

static enum gdn_status print_list(const gdn_model *model, const struct list *list,
                                  const struct tokenize_settings *s, struct gdn_error *err)
{
    struct bytes out = {0};
    if (s->show) {
        const enum gdn_status status = show(model, list, &out, err);
        if (status != GDN_OK) bytes_free(&out);
        TRY(status);
    } else if (!s->count) {
        for (size_t i = 0; i < list->count; i++)
            bytes_addf(&out, "%s%d", i ? " " : "", list->ids[i]);
        bytes_add_text(&out, "\n");
    }
    if (s->count) bytes_addf(&out, "%zu\n", list->count);
    return output_bytes(&out, err);
}

/* The text of ids, to the byte: no new line of its own. */
static enum gdn_status print_text(const gdn_model *model, const struct list *list,
                                  struct gdn_error *err)
{
    struct bytes out = {0};
    size_t n = 0;
    TRY(gdn_detokenize(model, list->ids, list->count, false, NULL, &n, err));
    char *text = mem_take(n + 1);
    if (!text) return error_set(err, GDN_ERR_MEMORY, "no memory for a text of %zu bytes", n);
    enum gdn_status status = gdn_detokenize(model, list->ids, list->count, false, text, &n, err);
    if (status == GDN_OK) {
        bytes_add(&out, text, n);
        status = output_bytes(&out, err);
    }
    mem_give(text);
    return status;
}

static enum gdn_status check(const struct tokenize_settings *s, struct gdn_error *err)
{
    if (s->decode && (s->chat || s->control || s->show || s->count || s->system))
        return error_set(err, GDN_ERR_USAGE, "--decode: found with an option for texts");
    if (s->system && !s->chat)
        return error_set(err, GDN_ERR_USAGE, "--system: found without --chat");
    return GDN_OK;
}

static enum gdn_status decode(gdn_model *model, const char *text, struct gdn_error *err)
{
    struct gdn_model_info info;
    struct id_file file;
    gdn_model_describe(model, &info);
    TRY(id_file_open(&file, text, err));
    enum gdn_status status = id_file_check(&file, info.vocab, err);
    if (status == GDN_OK) {
        const struct list list = {file.ids, file.count};
        status = print_text(model, &list, err);
    }
    id_file_close(&file);
    return status;
}

static enum gdn_status encode(gdn_model *model, const char *text, size_t len,
                              const struct tokenize_settings *s, struct gdn_error *err)
{
    struct list list;
    const struct prompt prompt = {.text = text, .len = len, .chat = s->chat,
                                  .control = s->control, .system = s->system};
    TRY(prompt_tokens(model, &prompt, &list.ids, &list.count, err));
    const enum gdn_status status = print_list(model, &list, s, err);
    mem_give(list.ids);
    return status;
}

static enum gdn_status run(int argc, char **argv, struct gdn_error *err)
{
    struct tokenize_settings s = {.setup = setup_defaults()};
    struct options o = {0};
    bool done;
    options_group(&o, "Text");
    options_flag(&o, "--control", &s.control, "control tokens such as <|im_start|> may be spelled");
    options_flag(&o, "--chat", &s.chat, "as the question of a chat, with the head of the answer");
    options_text(&o, "--system", &s.system, "TEXT", "system message before the question");
    options_flag(&o, "--decode", &s.decode, "the other way: a file of ids (- is stdin) into text");
    options_group(&o, "Output (without these: the ids, in one line)");
    options_flag(&o, "--show", &s.show, "a line for each token: its id and its text");
    options_flag(&o, "--count", &s.count, "how many there are");
    setup_models_option(&o, &s.setup);
    TRY(command_line(&command_tokenize, &o, argc, argv, &done, err));
    if (done) return GDN_OK;
    TRY(check(&s, err));
    const char *text = o.word_count > 1 ? o.words[1] : "-";
    char *read = NULL;
    size_t len = strlen(text);
    if (!s.decode && strcmp(text, "-") == 0) {
        TRY(input_read("-", TEXT_BYTES, &read, &len, err));
        text = read;
    }
    gdn_model *model = NULL;
    enum gdn_status status = setup_open(o.words[0], &s.setup, 1, &model, err);
    if (status == GDN_OK)
        status = s.decode ? decode(model, text, err) : encode(model, text, len, &s, err);
    gdn_model_close(model);
    mem_give(read);
    return status;
}

const struct command command_tokenize = {
    .name = "tokenize", .words = "MODEL [TEXT]", .least = 1, .most = 2, .run = run,
    .summary = "Turn a text into token ids, or ids into a text",
    .examples = "tokenize demo \"What is 7 + 5?\"\n"
                "tokenize demo --chat --show \"What is 7 + 5?\"\n"
                "tokenize demo --count < book.txt\n"
                "tokenize demo --decode ids.txt",
    .notes = "Without TEXT, or with -, it is read from standard input.",
};
