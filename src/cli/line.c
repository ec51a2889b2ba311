#include "cli/line.h"

#include <dlfcn.h>
#include <errno.h>
#include <langinfo.h>
#include <locale.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/memory.h"

/* What is used of histedit.h: libedit.so.2 has had these values since it has that name. */
enum { EL_PROMPT = 0, EL_EDITOR = 2, EL_HIST = 10, H_SETSIZE = 1, H_ENTER = 10 };
struct history_event {
    int number;
    const char *text;
};

struct editor {
    void *library, *edit, *history;
    void *(*init)(const char *program, FILE *in, FILE *out, FILE *err);
    void (*end)(void *edit);
    int (*set)(void *edit, int what, ...);
    const char *(*gets)(void *edit, int *count);
    void *(*history_init)(void);
    void (*history_end)(void *history);
    int (*history_do)(void *history, struct history_event *event, int what, ...);
};

enum { BUFFER = 4096, HISTORY = 500 };

struct line {
    const char *prompt;
    bool terminal;
    struct editor editor; /* .edit is NULL: plain reading */
    char buffer[BUFFER];
    size_t at, len;
};

/* ---- libedit --------------------------------------------------------------------------------- */

static const char *shown_prompt;
static char *show_prompt(void *edit)
{
    (void)edit;
    return (char *)(size_t)shown_prompt; /* libedit only reads it */
}

static bool find_symbols(struct editor *e)
{
    const struct {
        const char *name;
        void *at;
    } symbols[] = {{"el_init", &e->init}, {"el_end", &e->end}, {"el_set", &e->set},
                   {"el_gets", &e->gets}, {"history_init", &e->history_init},
                   {"history_end", &e->history_end}, {"history", &e->history_do}};
    for (size_t i = 0; i < sizeof symbols / sizeof *symbols; i++) {
        void *found = dlsym(e->library, symbols[i].name);
        if (!found) return false;
        memcpy(symbols[i].at, &found, sizeof found);
    }
    return true;
}

static void editor_close(struct editor *e)
{
    if (e->edit) e->end(e->edit);
    if (e->history) e->history_end(e->history);
    if (e->library) dlclose(e->library);
    *e = (struct editor){0};
}

static void editor_open(struct editor *e, const char *prompt)
{
    struct history_event event;
    e->library = dlopen("libedit.so.2", RTLD_NOW | RTLD_LOCAL);
    if (!e->library || !find_symbols(e)) {
        editor_close(e);
        return;
    }
    /* It reads characters, not bytes: without a locale of UTF-8 it would refuse most of them. */
    setlocale(LC_CTYPE, "");
    if (strcmp(nl_langinfo(CODESET), "UTF-8") != 0) setlocale(LC_CTYPE, "C.UTF-8");
    shown_prompt = prompt;
    e->edit = e->init("gdn", stdin, stderr, stderr);
    e->history = e->history_init();
    if (!e->edit || !e->history) {
        editor_close(e);
        return;
    }
    e->history_do(e->history, &event, H_SETSIZE, HISTORY);
    e->set(e->edit, EL_PROMPT, show_prompt);
    e->set(e->edit, EL_EDITOR, "emacs");
    e->set(e->edit, EL_HIST, e->history_do, e->history);
}

static enum line_end edit(struct line *l, struct bytes *text)
{
    int count = 0;
    struct history_event event;
    errno = 0;
    const char *found = l->editor.gets(l->editor.edit, &count);
    if (!found) return errno == EINTR ? LINE_INTERRUPTED : count < 0 ? LINE_FAILED : LINE_CLOSED;
    if (count > 1) l->editor.history_do(l->editor.history, &event, H_ENTER, found);
    bytes_add(text, found, (size_t)count);
    return LINE_TEXT;
}

/* ---- without --------------------------------------------------------------------------------- */

static enum line_end fill(struct line *l)
{
    const ssize_t n = read(STDIN_FILENO, l->buffer, sizeof l->buffer);
    l->at = l->len = 0;
    if (n < 0) return errno == EINTR ? LINE_INTERRUPTED : LINE_FAILED;
    l->len = (size_t)n;
    return n > 0 ? LINE_TEXT : LINE_CLOSED;
}

/* Up to and with the line end; the last line of a file may have none. */
static enum line_end plain(struct line *l, struct bytes *text)
{
    const size_t before = text->len;
    if (l->terminal) fputs(l->prompt, stderr);
    for (;;) {
        if (l->at == l->len) {
            const enum line_end end = fill(l);
            if (end == LINE_CLOSED && text->len > before) return LINE_TEXT;
            if (end != LINE_TEXT) return end;
        }
        const char *from = l->buffer + l->at, *end = memchr(from, '\n', l->len - l->at);
        const size_t n = end ? (size_t)(end - from) + 1 : l->len - l->at;
        bytes_add(text, from, n);
        l->at += n;
        if (end || text->failed) return LINE_TEXT;
    }
}

/* ---- both ------------------------------------------------------------------------------------ */

struct line *line_open(const char *prompt)
{
    struct line *l = mem_take(sizeof *l);
    if (!l) return NULL;
    l->prompt = prompt;
    l->terminal = isatty(STDIN_FILENO) && isatty(STDERR_FILENO);
    if (l->terminal) editor_open(&l->editor, prompt);
    return l;
}

void line_close(struct line *l)
{
    if (!l) return;
    editor_close(&l->editor);
    mem_wipe(l);
}

static void cut_end(struct bytes *text)
{
    while (text->len > 0 && strchr("\r\n", text->at[text->len - 1])) text->len--;
    if (text->at) text->at[text->len] = 0;
}

enum line_end line_read(struct line *l, struct bytes *text)
{
    text->len = 0;
    bytes_add(text, "", 0);
    for (;;) {
        const enum line_end end = l->editor.edit ? edit(l, text) : plain(l, text);
        if (text->failed) return LINE_FAILED;
        if (end != LINE_TEXT) return end;
        cut_end(text);
        if (text->len == 0 || text->at[text->len - 1] != '\\') return LINE_TEXT;
        text->at[text->len - 1] = '\n';
    }
}
