/* convert.c: gdn_model_convert: the weights by the model layer, everything beside them as it is. */
#include <string.h>

#include "api/handles.h"
#include "base/cpu.h"
#include "base/file.h"
#include "base/folder.h"
#include "base/memory.h"
#include "model/convert.h"

enum { FILE_BYTES = 1 << 30 };

struct copying {
    const char *from, *to;
};

/* Weights in any form, which the new file replaces. */
static bool is_weights(const char *name)
{
    static const char *const ends[] = {".safetensors", ".safetensors.index.json", ".bin",
                                       ".bin.index.json", ".pt", ".pth", ".gguf"};
    const size_t n = strlen(name);
    for (size_t i = 0; i < sizeof ends / sizeof *ends; i++) {
        const size_t m = strlen(ends[i]);
        if (n >= m && strcmp(name + n - m, ends[i]) == 0) return true;
    }
    return false;
}

static enum gdn_status copy_file(void *context, const char *name, struct gdn_error *err)
{
    const struct copying *c = context;
    char from[4096 + 300], to[4096 + 300], *text;
    struct file_out out;
    size_t len;
    if (is_weights(name) || !file_join(from, sizeof from, c->from, name) ||
        !file_join(to, sizeof to, c->to, name))
        return GDN_OK;
    TRY(file_read(from, FILE_BYTES, &text, &len, err));
    enum gdn_status status = file_create(&out, to, err);
    if (status == GDN_OK) {
        file_write(&out, text, len);
        status = file_commit(&out, err);
    }
    mem_give(text);
    return status;
}

static enum gdn_status write_weights(const struct config *config, const char *path,
                                     const char *folder, const struct gdn_options *o,
                                     struct pool *pool, struct gdn_error *err)
{
    const enum dtype dtype = o->quant == GDN_QUANT_Q8 ? DTYPE_Q8 : DTYPE_Q4;
    const struct weights_watch watch = {o->progress, o->progress_context};
    char file[4096 + 300];
    struct weights w;
    if (!file_join(file, sizeof file, folder, "model.safetensors"))
        return error_set(err, GDN_ERR_USAGE, "%s: the name is too long", st_path_tail(folder));
    TRY(weights_open(&w, config, path, err));
    enum gdn_status status = weights_convert(&w, dtype, pool, file, &watch, err);
    weights_close(&w);
    /* What cannot be opened again is not given its name. */
    if (status == GDN_OK) status = weights_open(&w, config, folder, err);
    if (status == GDN_OK) weights_close(&w);
    return status;
}

static enum gdn_status check(const char *path, const char *out, const struct gdn_options *o,
                             struct gdn_error *err)
{
    if (!path || !out || !o)
        return error_set(err, GDN_ERR_USAGE, "found NULL, need a model folder, a new one and "
                         "options");
    if (o->size != sizeof *o)
        return error_set(err, GDN_ERR_USAGE, "options.size: found %zu, need %zu", o->size,
                         sizeof *o);
    if (o->quant != GDN_QUANT_Q8 && o->quant != GDN_QUANT_Q4)
        return error_set(err, GDN_ERR_USAGE, "options.quant: found %d, need GDN_QUANT_Q8 or "
                         "GDN_QUANT_Q4", (int)o->quant);
    if (o->threads < 0 || o->threads > 1024)
        return error_set(err, GDN_ERR_USAGE, "options.threads: found %d, need 0 to 1024",
                         o->threads);
    if (!file_is_folder(path))
        return error_set(err, GDN_ERR_INPUT, "%s: no such folder", st_path_tail(path));
    return GDN_OK;
}

enum gdn_status gdn_model_convert(const char *path, const char *out,
                                  const struct gdn_options *options, struct gdn_error *err)
{
    struct gdn_error own = {0};
    struct folder_out folder;
    if (!err) err = &own;
    TRY(check(path, out, options, err));
    struct config *config = mem_take(sizeof *config);
    struct pool *pool = pool_open(options->threads ? options->threads : cpu_count());
    enum gdn_status status = GDN_OK;
    if (!config || !pool) status = error_set(err, GDN_ERR_MEMORY, "no memory to convert with");
    if (status == GDN_OK) status = config_open(config, path, err);
    if (status == GDN_OK && (status = folder_create(&folder, out, err)) == GDN_OK) {
        status = folder_walk(path, copy_file, &(struct copying){path, folder.temp}, err);
        if (status == GDN_OK)
            status = write_weights(config, path, folder.temp, options, pool, err);
        if (status == GDN_OK) status = folder_commit(&folder, err);
        folder_abandon(&folder);
    }
    if (pool) pool_close(pool);
    mem_give(config);
    return status;
}
