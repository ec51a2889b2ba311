/* convert.c: `gdn convert`: a model folder with quantised weights. */
#include "cli/command.h"
#include "cli/progress.h"
#include "cli/resolve.h"
#include "gdn/gdn.h"

static void tell(void *context, int64_t done, int64_t all)
{
    enum { MB = 1000000 };
    progress_tell(context, "converting", done / MB, all / MB, "MB");
}

static enum gdn_status run(int argc, char **argv, struct gdn_error *err)
{
    struct options o = {0};
    int quant = -1;
    int64_t threads = 0;
    const char *models = NULL;
    char folder[RESOLVE_BYTES];
    bool done;
    options_group(&o, "Weights");
    options_choice(&o, "--quant", &quant, "q8|q4", NULL, "8 or 4 bits for each large weight");
    options_group(&o, "Engine");
    options_integer(&o, "--threads", &threads, 0, 1024, "0, all cores", "threads to use");
    options_text(&o, "--models", &models, "DIR", "where MODEL is looked up, if it is a name");
    TRY(command_line(&command_convert, &o, argc, argv, &done, err));
    if (done) return GDN_OK;
    if (quant < 0) return error_set(err, GDN_ERR_USAGE, "--quant: found nothing, need q8 or q4");
    TRY(resolve_model(o.words[0], models, folder, err));
    struct progress progress = progress_begin();
    struct gdn_options options = gdn_options_default();
    options.quant = quant == 0 ? GDN_QUANT_Q8 : GDN_QUANT_Q4;
    options.threads = (int)threads;
    options.progress = tell;
    options.progress_context = &progress;
    const enum gdn_status status = gdn_model_convert(folder, o.words[1], &options, err);
    progress_end(&progress);
    return status;
}

const struct command command_convert = {
    .name = "convert", .words = "MODEL OUT", .least = 2, .most = 2, .run = run,
    .summary = "Write a model with 8 or 4 bit weights",
    .examples = "convert models/demo demo-q8 --quant q8\nconvert models/demo demo-q4 --quant q4",
    .notes = "OUT is a new folder and appears when it is complete. It opens like any other model,\n"
             "and answers to the last bit as MODEL does with the same --quant. Projections,\n"
             "experts, embedding and head become smaller (the last two are 8 bits either way);\n"
             "norms, gates, routers and convolutions stay as they are, as does every other file.",
};
