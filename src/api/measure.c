/* measure.c: what serves to measure: models of random weights, and times by op. */
#include <string.h>

#include "api/handles.h"
#include "base/file.h"
#include "base/memory.h"
#include "model/weights_random.h"

static enum gdn_status put_config(const char *text, size_t len, const char *folder,
                                  struct gdn_error *err)
{
    char path[4096];
    struct file_out out;
    if (!file_join(path, sizeof path, folder, "config.json"))
        return error_set(err, GDN_ERR_USAGE, "%s: the name is too long", folder);
    TRY(file_create(&out, path, err));
    file_write(&out, text, len);
    return file_commit(&out, err);
}

enum gdn_status gdn_random_model(const char *text, size_t len, const char *folder, uint64_t seed,
                                 struct gdn_error *err)
{
    struct gdn_error own = {0};
    if (!err) err = &own;
    if (!text || !folder || !file_is_folder(folder))
        return error_set(err, GDN_ERR_USAGE, "%s: found no such folder, need one for the model",
                         folder ? folder : "NULL");
    struct config *config = mem_take(sizeof *config);
    if (!config) return error_set(err, GDN_ERR_MEMORY, "no memory for a config");
    enum gdn_status status = config_parse(config, text, len, "config.json", err);
    if (status == GDN_OK) status = put_config(text, len, folder, err);
    if (status == GDN_OK) status = weights_random(config, folder, seed, err);
    mem_give(config);
    return status;
}

enum gdn_status gdn_model_open_random(const char *config, size_t len, uint64_t seed,
                                      const struct gdn_options *options, gdn_model **model,
                                      struct gdn_error *err)
{
    const struct shape_text shape = {config ? config : "", config ? len : 0, seed};
    return model_open(NULL, &shape, options, model, err);
}

int gdn_model_profile(gdn_model *m, struct gdn_op_time *times, int room)
{
    int count = 0;
    for (int op = 0; m->device->clock && op < OP_COUNT; op++) {
        if (m->clock.calls[op] == 0 || count == room) continue;
        times[count++] = (struct gdn_op_time){op_info[op].name, m->clock.seconds[op],
                                              m->clock.calls[op]};
    }
    m->clock = (struct op_clock){0};
    m->device->clock = &m->clock;
    return count;
}
