/* convert.c: `gdn convert`: a model folder with quantised weights. */
#include "cli/command.h"
#include "gdn/gdn.h"

static enum gdn_status run(int argc, char **argv, struct gdn_error *err)
{
    struct options o = {0};
    int quant = -1;
    int64_t threads = 0;
    bool done;
    options_group(&o, "Weights");
    options_choice(&o, "--quant", &quant, "q8|q4", NULL, "8 or 4 bits for each large weight");
    options_group(&o, "Engine");
    options_integer(&o, "--threads", &threads, 0, 1024, "0, all cores", "threads to use");
    TRY(command_line(&command_convert, &o, argc, argv, &done, err));
    if (done) return GDN_OK;
    if (quant < 0) return error_set(err, GDN_ERR_USAGE, "--quant: found nothing, need q8 or q4");
    return gdn_model_convert(o.words[0], o.words[1], quant == 0 ? GDN_QUANT_Q8 : GDN_QUANT_Q4,
                             (int)threads, err);
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
