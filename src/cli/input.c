#include "cli/input.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/file.h"
#include "base/memory.h"
#include "base/numbers.h"

static enum gdn_status read_stdin(size_t limit, char **text, size_t *len, struct gdn_error *err)
{
    struct bytes all = {0};
    char piece[65536];
    ssize_t n = 0;
    while (all.len <= limit && !all.failed) {
        n = read(STDIN_FILENO, piece, sizeof piece);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) break;
        bytes_add(&all, piece, (size_t)n);
    }
    bytes_add(&all, "", 0);
    enum gdn_status status = GDN_OK;
    if (n < 0)
        status = error_set(err, GDN_ERR_IO, "standard input: read failed: %s", strerror(errno));
    else if (all.failed)
        status = error_set(err, GDN_ERR_MEMORY, "no memory for standard input");
    else if (all.len > limit)
        status = error_set(err, GDN_ERR_INPUT, "standard input: found more than %zu bytes, need at "
                           "most that", limit);
    if (status != GDN_OK) {
        bytes_free(&all);
        return status;
    }
    *text = all.at;
    *len = all.len;
    return GDN_OK;
}

enum gdn_status input_read(const char *path, size_t limit, char **text, size_t *len,
                           struct gdn_error *err)
{
    *text = NULL;
    *len = 0;
    if (strcmp(path, "-") == 0) return read_stdin(limit, text, len, err);
    return file_read(path, limit, text, len, err);
}

/* ---- ids ------------------------------------------------------------------------------------- */

enum { ID_FILE_BYTES = 1 << 28 };

static const char *shown(const char *path)
{
    return strcmp(path, "-") == 0 ? "standard input" : path;
}

/* The vocabulary is known only once the model is open: here every id that could be one passes. */
enum gdn_status id_file_open(struct id_file *file, const char *path, struct gdn_error *err)
{
    *file = (struct id_file){.path = path};
    TRY(input_read(path, ID_FILE_BYTES, &file->text, &file->len, err));
    enum gdn_status status = numbers_parse(file->text, file->len, 0, INT32_MAX, "id", &file->ids,
                                           &file->count, err);
    if (status != GDN_OK)
        error_prefix(err, "%s", shown(path));
    else if (file->count == 0)
        status = error_set(err, GDN_ERR_INPUT, "%s: found no ids, need at least one",
                           shown(path));
    if (status != GDN_OK) id_file_close(file);
    return status;
}

enum gdn_status id_file_check(const struct id_file *file, int32_t vocab, struct gdn_error *err)
{
    size_t i = 0, n;
    while (i < file->count && file->ids[i] < vocab) i++;
    if (i == file->count) return GDN_OK;
    int32_t *again;
    enum gdn_status status = numbers_parse(file->text, file->len, 0, vocab - 1, "id", &again, &n,
                                           err);
    mem_give(again);
    error_prefix(err, "%s", shown(file->path));
    return status;
}

void id_file_close(struct id_file *file)
{
    mem_give(file->text);
    mem_give(file->ids);
    *file = (struct id_file){0};
}

/* ---- prompts --------------------------------------------------------------------------------- */

static enum gdn_status tokens(const gdn_model *model, const struct prompt *p, int32_t *ids,
                              size_t *count, struct gdn_error *err)
{
    if (!p->chat)
        return gdn_tokenize(model, p->text, p->len, p->control ? GDN_CONTROL : 0, ids, count, err);
    const struct gdn_message messages[] = {{"system", p->system}, {"user", p->text}};
    const size_t skip = p->system ? 0 : 1;
    const struct gdn_chat_options options = {.answer = true, .think = p->think,
                                             .behind = p->behind};
    return gdn_chat(model, messages + skip, 2 - skip, &options, ids, count, err);
}

enum gdn_status prompt_tokens(const gdn_model *model, const struct prompt *p, int32_t **ids,
                              size_t *count, struct gdn_error *err)
{
    *ids = NULL;
    *count = 0;
    if (p->chat && strlen(p->text) != p->len)
        return error_set(err, GDN_ERR_INPUT, "the prompt: found a zero byte at %zu, need text",
                         strlen(p->text));
    /* Mostly a token is several bytes: the second round is for what normalisation made longer. */
    for (size_t room = p->len + 256;; room = *count) {
        int32_t *list = mem_take_array(room, sizeof *list);
        if (!list) return error_set(err, GDN_ERR_MEMORY, "no memory for %zu tokens", room);
        *count = room;
        const enum gdn_status status = tokens(model, p, list, count, err);
        if (status == GDN_OK && *count <= room) {
            *ids = list;
            return GDN_OK;
        }
        mem_give(list);
        TRY(status);
    }
}
