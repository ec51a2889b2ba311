#include "cli/tensor_file.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/check.h"
#include "base/memory.h"
#include "cli/interrupt.h"

enum gdn_status tensor_file_create(struct tensor_file *f, const char *path, struct gdn_error *err)
{
    *f = (struct tensor_file){0};
    struct stat st;
    /* A folder would fail only after all the work; a device would be replaced by a file. */
    if (stat(path, &st) == 0 && !S_ISREG(st.st_mode))
        return error_set(err, GDN_ERR_IO, "%s: found %s, need the name of a file", path,
                         S_ISDIR(st.st_mode) ? "a folder" : "a special file");
    interrupt_hold(true);
    const enum gdn_status status = file_create(&f->out, path, err);
    if (status == GDN_OK) interrupt_remove(f->out.temp);
    interrupt_hold(false);
    return status;
}

enum gdn_status tensor_file_shape(struct tensor_file *f, const char *name, int64_t rows,
                                  int64_t width, struct gdn_error *err)
{
    if (f->count == f->room) {
        const int room = f->room ? 2 * f->room : 16;
        struct tensor_place *more = mem_resize(f->tensors, (size_t)room * sizeof *more);
        if (!more) return error_set(err, GDN_ERR_MEMORY, "no memory for %d tensors", room);
        f->tensors = more;
        f->room = room;
    }
    struct tensor_place *t = &f->tensors[f->count++];
    *t = (struct tensor_place){.rows = rows, .width = width, .begin = f->data};
    snprintf(t->name, sizeof t->name, "%s", name);
    int64_t bytes;
    if (__builtin_mul_overflow(rows, width * (int64_t)sizeof(float), &bytes) ||
        __builtin_add_overflow(f->data, bytes, &f->data))
        return error_set(err, GDN_ERR_USAGE, "%s: %lld rows of %lld numbers are too many", name,
                         (long long)rows, (long long)width);
    f->rows_left += rows;
    return GDN_OK;
}

enum gdn_status tensor_file_begin(struct tensor_file *f, struct gdn_error *err)
{
    struct bytes text = {0};
    bytes_add(&text, "\0\0\0\0\0\0\0\0{", 9);
    for (int i = 0; i < f->count; i++) {
        const struct tensor_place *t = &f->tensors[i];
        bytes_addf(&text, "%s\"%s\":{\"dtype\":\"F32\",\"shape\":[%lld,%lld],\"data_offsets\":"
                   "[%lld,%lld]}", i ? "," : "", t->name, (long long)t->rows, (long long)t->width,
                   (long long)t->begin,
                   (long long)(i + 1 < f->count ? f->tensors[i + 1].begin : f->data));
    }
    bytes_add_text(&text, "}");
    while (text.len % 8 && !text.failed) bytes_add_text(&text, " ");
    if (text.failed) {
        bytes_free(&text);
        return error_set(err, GDN_ERR_MEMORY, "no memory for the header of %s", f->out.path);
    }
    bytes_put_u64(text.at, text.len - 8);
    file_write(&f->out, text.at, text.len);
    f->header = (int64_t)text.len;
    bytes_free(&text);
    /* From here on rows pass the stream by. */
    if (fflush(f->out.stream) != 0) f->out.failed = true;
    if (!f->out.failed) return GDN_OK;
    return error_set(err, GDN_ERR_IO, "%s: writing failed: %s", f->out.path, strerror(errno));
}

static void write_at(struct tensor_file *f, const char *data, size_t len, int64_t at)
{
    while (len > 0) {
        const ssize_t n = pwrite(fileno(f->out.stream), data, len, (off_t)at);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) {
            error_set(&f->error, GDN_ERR_IO, "%s: writing failed at byte %lld of %lld: %s",
                      f->out.path, (long long)at, (long long)(f->header + f->data),
                      n < 0 ? strerror(errno) : "no room");
            return;
        }
        data += n;
        len -= (size_t)n;
        at += n;
    }
}

void tensor_file_row(struct tensor_file *f, int tensor, int64_t row, const float *x)
{
    const struct tensor_place *t = &f->tensors[tensor];
    GDN_CHECK(tensor < f->count && row >= 0 && row < t->rows, "row %lld of tensor %d",
              (long long)row, tensor);
    if (f->error.status != GDN_OK) return;
    const int64_t bytes = t->width * (int64_t)sizeof *x;
    write_at(f, (const char *)x, (size_t)bytes, f->header + t->begin + row * bytes);
    f->rows_left--;
}

enum gdn_status tensor_file_commit(struct tensor_file *f, struct gdn_error *err)
{
    enum gdn_status status = f->error.status;
    if (status != GDN_OK)
        error_set(err, status, "%s", f->error.text);
    else if (f->rows_left != 0)
        status = error_set(err, GDN_ERR_INTERNAL, "%s: %lld rows never came", f->out.path,
                           (long long)f->rows_left);
    else
        status = file_commit(&f->out, err);
    tensor_file_abandon(f);
    return status;
}

void tensor_file_abandon(struct tensor_file *f)
{
    interrupt_remove(NULL);
    file_abandon(&f->out);
    mem_give(f->tensors);
    *f = (struct tensor_file){0};
}
