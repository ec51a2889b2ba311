/* gdn-bench-text: times reading a tokenizer, encoding and decoding, on one thread.
 *
 *     gdn-bench-text [TOKENIZER TEXT...]      (default: the demo model and its validation text)
 *     gdn-bench-text --ids OUT TOKENIZER TEXT
 *
 * TOKENIZER is a file or folder as tokenizer_open takes it. Times are the least of several in the
 * thread's own clock. With --ids the ids of the text are written as int32 instead, for
 * tests/text/against_tokenizers.py. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/file.h"
#include "base/memory.h"
#include "text/decode.h"
#include "text/tokenizer.h"

enum { REPEATS = 7, TEXT_MAX = 256 << 20, DEFAULT_TEXT_MAX = 4 << 20 };

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void must(enum gdn_status status, const struct gdn_error *err)
{
    if (status == GDN_OK) return;
    fprintf(stderr, "gdn-bench-text: %s\n", err->text);
    exit(1);
}

static struct tokenizer *time_open(const char *path)
{
    struct tokenizer *tok = NULL;
    double least = 1e9;
    for (int i = 0; i < REPEATS; i++) {
        struct gdn_error err = {0};
        tokenizer_close(tok);
        const double begin = now();
        must(tokenizer_open(path, 0, &tok, &err), &err);
        const double took = now() - begin;
        if (took < least) least = took;
    }
    printf("%-40.40s %8d tokens, open %7.1f ms\n", path, tokenizer_count(tok), 1e3 * least);
    return tok;
}

static void encode(const struct tokenizer *tok, const char *text, size_t len, struct ids *ids)
{
    struct gdn_error err = {0};
    ids->len = 0;
    must(tokenizer_encode(tok, text, len, TOKENIZER_PLAIN, ids, &err), &err);
}

static void time_text(const struct tokenizer *tok, const char *name, const char *text, size_t len)
{
    struct ids ids = {0};
    struct bytes back = {0};
    double encoding = 1e9, decoding = 1e9;
    for (int i = 0; i < REPEATS; i++) {
        const double begin = now();
        encode(tok, text, len, &ids);
        const double middle = now();
        back.len = 0;
        decode_ids(tok, ids.at, ids.len, false, &back);
        const double end = now();
        if (middle - begin < encoding) encoding = middle - begin;
        if (end - middle < decoding) decoding = end - middle;
    }
    printf("%-40.40s %8.2f MB, %.2f bytes a token, encode %6.1f MB/s, decode %6.1f MB/s\n", name,
           1e-6 * (double)len, (double)len / (double)ids.len, 1e-6 * (double)len / encoding,
           1e-6 * (double)len / decoding);
    ids_free(&ids);
    bytes_free(&back);
}

static void time_file(const struct tokenizer *tok, const char *path)
{
    struct gdn_error err = {0};
    char *text;
    size_t len;
    must(file_read(path, TEXT_MAX, &text, &len, &err), &err);
    time_text(tok, path, text, len);
    mem_give(text);
}

static void write_ids(const char *out, const char *tokenizer, const char *path)
{
    struct gdn_error err = {0};
    struct tokenizer *tok;
    struct file_out file;
    struct ids ids = {0};
    char *text;
    size_t len;
    must(tokenizer_open(tokenizer, 0, &tok, &err), &err);
    must(file_read(path, TEXT_MAX, &text, &len, &err), &err);
    encode(tok, text, len, &ids);
    must(file_create(&file, out, &err), &err);
    file_write(&file, ids.at, ids.len * sizeof *ids.at);
    must(file_commit(&file, &err), &err);
    ids_free(&ids);
    mem_give(text);
    tokenizer_close(tok);
}

static void time_default(void)
{
    struct tokenizer *tok = time_open(GDN_SOURCE_DIR "/models/demo");
    char *text = mem_take(DEFAULT_TEXT_MAX);
    FILE *pipe = popen("xz -dc " GDN_SOURCE_DIR "/tests/data/valid.txt.xz", "r");
    const size_t len = text && pipe ? fread(text, 1, DEFAULT_TEXT_MAX, pipe) : 0;
    if (pipe) pclose(pipe);
    if (len > 0) time_text(tok, "valid.txt", text, len);
    mem_give(text);
    tokenizer_close(tok);
}

int main(int argc, char **argv)
{
    if (argc == 5 && strcmp(argv[1], "--ids") == 0) {
        write_ids(argv[2], argv[3], argv[4]);
    } else if (argc < 2) {
        time_default();
    } else {
        struct tokenizer *tok = time_open(argv[1]);
        for (int i = 2; i < argc; i++) time_file(tok, argv[i]);
        tokenizer_close(tok);
    }
    return 0;
}
