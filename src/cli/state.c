/* state.c: `gdn state`: what a saved state holds, and whether it is whole. */
#include <string.h>

#include "base/bytes.h"
#include "cli/command.h"
#include "cli/output.h"
#include "gdn/gdn.h"

static const char *type_name(enum gdn_type type)
{
    return type == GDN_BF16 ? "bf16" : type == GDN_F64 ? "f64" : "f32";
}

static void print_file(struct bytes *out, const struct gdn_state_file *f)
{
    bytes_addf(out, "gdn state, version %d, %.1f kB, whole\n", f->version, (double)f->bytes / 1e3);
    bytes_addf(out, "  tokens             %d\n  next token         %s\n", f->position,
               f->has_distribution ? "can be chosen at once" : "needs a token to be fed first");
    bytes_addf(out, "  layers             %d, logs of %d entries\n", f->layers, f->log_length);
    bytes_addf(out, "  types              activations %s, recurrent state %s\n",
               type_name(f->compute), type_name(f->state));
    bytes_add_text(out, "  model              ");
    for (size_t i = 0; i < sizeof f->model; i++) bytes_addf(out, "%02x", f->model[i]);
    bytes_add_text(out, "\n");
}

static enum gdn_status run(int argc, char **argv, struct gdn_error *err)
{
    struct options o = {0};
    bool done;
    TRY(command_line(&command_state, &o, argc, argv, &done, err));
    if (done) return GDN_OK;
    const bool show = strcmp(o.words[0], "show") == 0;
    if (!show && strcmp(o.words[0], "verify") != 0)
        return error_set(err, GDN_ERR_USAGE, "found \"%.80s\", need show or verify", o.words[0]);
    struct gdn_state_file file;
    TRY(gdn_state_file_verify(o.words[1], &file, err));
    struct bytes out = {0};
    if (show)
        print_file(&out, &file);
    else
        bytes_addf(&out, "%s: whole\n", o.words[1]);
    return output_bytes(&out, err);
}

const struct command command_state = {
    .name = "state", .words = "show|verify FILE", .least = 2, .most = 2, .run = run,
    .summary = "Tell what a saved state holds, or only that it is whole",
    .examples = "state show chat.gdnstate\nstate verify chat.gdnstate",
    .notes = "Both check every byte of the file; neither needs its model. gdn run --save writes\n"
             "such files and gdn run --resume goes on from them.",
};
