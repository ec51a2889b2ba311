#include "text/marks.h"

#include <string.h>

static int32_t find(const struct tokenizer *tok, const char *text)
{
    return tok ? tokenizer_find_added(tok, text, strlen(text)) : -1;
}

void marks_open(struct marks *m, const struct tokenizer *tok)
{
    static const char *const begins[] = {"<|im_start|>",     "<|im_user|>", "<|im_system|>",
                                         "<|im_assistant|>", "<|user|>",    "<|system|>",
                                         "<|assistant|>",    "<|tool|>"};
    _Static_assert(sizeof begins / sizeof *begins == sizeof m->message / sizeof *m->message,
                   "a place for each");
    *m = (struct marks){.opens = find(tok, "<think>"), .closes = find(tok, "</think>")};
    for (size_t i = 0; i < sizeof begins / sizeof *begins; i++) {
        m->message[i] = find(tok, begins[i]);
        m->any = m->any || m->message[i] >= 0;
    }
    m->any = m->any || m->opens >= 0 || m->closes >= 0;
}

enum mark marks_at(const struct marks *m, const int32_t *ids, size_t position)
{
    const int32_t next = ids[position], last = ids[position - 1];
    if (!m->any) return MARK_NONE;
    for (size_t i = 0; i < sizeof m->message / sizeof *m->message; i++)
        if (next == m->message[i] && next >= 0) return MARK_MESSAGE;
    if ((next == m->opens && next >= 0) || (last == m->closes && last >= 0)) return MARK_THINKING;
    return MARK_NONE;
}
