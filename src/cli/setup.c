#include "cli/setup.h"

#include <stdio.h>

#include "base/numbers.h"
#include "cli/progress.h"
#include "cli/resolve.h"
#include "gdn/ops.h"

static const char *const devices[] = {"cpu", "ref", "cuda"};
enum { DEVICE_CPU, DEVICE_REF, DEVICE_CUDA, MB = 1000000 };

struct setup setup_defaults(void)
{
    return (struct setup){.device = DEVICE_CPU, .compute = GDN_F32, .state = -1};
}

static void add_models(struct options *o, struct setup *s)
{
    options_text(o, "--models", &s->models, "DIR", "where MODEL is looked up, if it is a name");
}

void setup_options(struct options *o, struct setup *s)
{
    options_group(o, "Engine");
    options_choice(o, "--device", &s->device, "cpu|ref|cuda", "cpu",
                   "where it runs; ref sums in double and is slow");
    options_integer(o, "--threads", &s->threads, 0, 1024, "0, all cores", "threads to use");
    options_choice(o, "--cpumask", &s->cpumask, "all|avx512|avx2|portable", "all",
                   "the most of a processor that is used");
    options_choice(o, "--compute", &s->compute, "f32|bf16|f64", "f32",
                   "type of activations; f64 on ref only");
    options_choice(o, "--state-dtype", &s->state, "f32|bf16", "f32, or bf16 if GDN_STATE_BF16=1",
                   "type of the recurrent state");
    options_choice(o, "--quant", &s->quant, "none|q8|q4", "none",
                   "make large weights 8 or 4 bits while they are read");
    options_flag(o, "--exact", &s->exact,
                 "a row depends on the tokens before it only, to the last bit (default)");
    options_flag(o, "--fast", &s->fast, "prefill may give that up for speed");
    options_pair(o, "--exact", "--fast");
    add_models(o, s);
}

void setup_models_option(struct options *o, struct setup *s)
{
    options_group(o, "Models");
    add_models(o, s);
}

void setup_context_option(struct options *o, struct setup *s)
{
    options_integer(o, "--ctx", &s->context, 1, INT32_MAX,
                    s->fit ? "the model's, or what fits" : "what the model was made for",
                    "most tokens of one sequence");
}

void setup_draft_options(struct options *o, struct setup *s)
{
    options_choice(o, "--draft", &s->draft, "off|lookup|mtp", "off",
                   "guess ahead: from the text so far, or by the MTP head");
    options_integer(o, "--draft-depth", &s->draft_depth, 0, GDN_TURN_TOKENS - 2,
                    "0, what suits the kind", "how many");
}

static void tell(void *context, int64_t done, int64_t all)
{
    progress_tell(context, "loading", done / MB, all / MB, "MB");
}

uint32_t setup_without(const struct setup *s)
{
    static const uint32_t kept[] = {
        GDN_ISA_ALL, GDN_ISA_AVX2 | GDN_ISA_AVX512 | GDN_ISA_AVX512_BF16 | GDN_ISA_AVX512_VNNI,
        GDN_ISA_AVX2, 0};
    return ~kept[s->cpumask];
}

static enum gdn_status check_setup(const struct setup *s, struct gdn_error *err)
{
    if (s->exact && s->fast)
        return error_set(err, GDN_ERR_USAGE, "--exact and --fast: found both, need one");
    if (s->compute == GDN_F64 && s->device != DEVICE_REF)
        return error_set(err, GDN_ERR_USAGE, "--compute f64: found --device %s, need --device ref",
                         devices[s->device]);
    return GDN_OK;
}

static struct gdn_options options_of(const struct setup *s, int sessions)
{
    struct gdn_options options = gdn_options_default();
    gdn_options_from_env(&options);
    options.device = devices[s->device];
    options.threads = (int)s->threads;
    options.without = setup_without(s);
    options.compute = (enum gdn_type)s->compute;
    if (s->state >= 0) options.state = (enum gdn_type)s->state;
    options.quant = (enum gdn_quant)s->quant;
    options.fast = s->fast;
    options.sessions = sessions;
    options.context = s->fit && !s->context ? GDN_CONTEXT_FIT : (int32_t)s->context;
    options.draft = (enum gdn_draft)s->draft;
    options.draft_depth = (int)s->draft_depth;
    return options;
}

enum gdn_status setup_open(const char *path, const struct setup *s, int sessions,
                           gdn_model **model, struct gdn_error *err)
{
    char folder[RESOLVE_BYTES];
    TRY(check_setup(s, err));
    TRY(resolve_model(path, s->models, folder, err));
    struct gdn_options options = options_of(s, sessions);
    struct progress progress = progress_begin();
    options.progress = tell;
    options.progress_context = &progress;
    const enum gdn_status status = gdn_model_open(folder, &options, model, err);
    progress_end(&progress);
    return status;
}

bool setup_on_host(const struct setup *s) { return s->device != DEVICE_CUDA; }

bool setup_draws(const struct setup *s) { return s->device == DEVICE_CUDA && !s->quant; }

enum gdn_status setup_open_random(const char *config, size_t len, const struct setup *s,
                                  int sessions, gdn_model **model, struct gdn_error *err)
{
    TRY(check_setup(s, err));
    const struct gdn_options options = options_of(s, sessions);
    return gdn_model_open_random(config, len, 1, &options, model, err);
}

/* More than is left is refused with the first session; close to it the machine may get slow. */
void setup_say_memory(const char *command, const struct setup *s,
                      const struct gdn_model_info *info)
{
    char need[SIZE_TEXT], left[SIZE_TEXT];
    if (s->fit && !s->context && info->context < info->trained_context)
        fprintf(stderr, "gdn %s: the context is %d tokens, as memory has room for; --ctx takes up "
                "to the model's %d\n", command, info->context, info->trained_context);
    else if (info->machine_bytes >= info->need_bytes &&
             info->need_bytes >= info->machine_bytes / 5 * 4)
        fprintf(stderr, "gdn %s: needs up to %s of the %s of memory that are left\n", command,
                size_text(need, info->need_bytes), size_text(left, info->machine_bytes));
}
