/* info.c: `gdn info`: what a model is and what it needs. */
#include "base/json.h"
#include "base/numbers.h"
#include "cli/command.h"
#include "cli/setup.h"
#include "cli/output.h"

struct info_settings {
    bool json;
    struct setup setup;
};

/* "1.5 GB (1,500,000,000 bytes)" would be two numbers: one with its unit is enough here, --json has
 * the exact ones. */
static void add_size(struct bytes *out, const char *name, int64_t bytes, const char *note)
{
    char size[SIZE_TEXT];
    bytes_addf(out, "  %-18s %s%s%s\n", name, size_text(size, bytes), *note ? ", " : "", note);
}

static const char *const quants[] = {"no", "8 bits (q8)", "4 bits (q4), embedding and head 8 (q8)"};

static void print_experts(struct bytes *out, const struct gdn_model_info *i)
{
    if (i->experts == 0) return;
    bytes_addf(out, "  experts            %d of %d in %d layers, %d at a time", i->experts,
               i->expert_width, i->sparse_layers, i->experts_used);
    bytes_addf(out, i->shared_width ? ", and a shared one of %d\n" : "\n", i->shared_width);
}

static void print_text(struct bytes *out, const struct gdn_model_info *i)
{
    bytes_addf(out, "%s, %.*f million parameters\n", i->family, i->parameters < 99500000 ? 1 : 0,
               (double)i->parameters / 1e6);
    bytes_addf(out, "\nShape\n  layers             %d: %d gated-delta, %d attention\n", i->layers,
               i->delta_layers, i->attention_layers);
    bytes_addf(out, "  width              %d", i->width);
    bytes_addf(out, i->ffn ? ", feed-forward %d\n" : "\n", i->ffn);
    print_experts(out, i);
    bytes_addf(out, "  delta heads        %d for keys of %d, %d for values of %d, "
               "convolution of %d\n", i->key_heads, i->key_width, i->value_heads, i->value_width,
               i->taps);
    bytes_addf(out, "  attention heads    %d of %d, ", i->heads, i->head_width);
    if (i->latent)
        bytes_addf(out, "over one latent row of %d, no positions\n", i->latent);
    else
        bytes_addf(out, "%d for keys and values, %d rotary\n", i->kv_heads, i->rotary);
    bytes_addf(out, "  vocabulary         %d rows, head %s\n", i->vocab,
               i->tied ? "tied to the embedding" : "of its own");
    bytes_addf(out, "  trained context    %d tokens\n", i->trained_context);
    if (i->mtp_tensors > 0)
        bytes_addf(out, "  draft head         %d tensors of %d MTP layer%s, for --draft mtp\n",
                   i->mtp_tensors, i->mtp_layers, i->mtp_layers == 1 ? "" : "s");
    if (i->vision_tensors > 0)
        bytes_addf(out, "  not used           %d vision tensors\n", i->vision_tensors);
    bytes_addf(out, "\nText\n  tokenizer          ");
    bytes_addf(out, i->tokens ? "%d tokens\n" : "none: only ids can be used\n", i->tokens);
    bytes_addf(out, "  end tokens        %s", i->eos_count ? "" : " none");
    for (int32_t e = 0; e < i->eos_count; e++) bytes_addf(out, " %d", i->eos[e]);
    if (i->recommends)
        bytes_addf(out, "\n  recommended        temperature %g, top-k %d, top-p %g", i->temperature,
                   i->top_k, i->top_p);
    bytes_addf(out, "\n\nMemory for one session of %d tokens\n", i->context);
    add_size(out, "weights", i->weight_bytes, "mapped from the files");
    if (i->copied_bytes > 0) add_size(out, "copied weights", i->copied_bytes, "");
    if (i->quant) bytes_addf(out, "  quantised          %s\n", quants[i->quant]);
    add_size(out, "state", i->state_bytes, "the same at any length");
    add_size(out, "keys and values", i->session_bytes - i->state_bytes, "");
    add_size(out, "of each token", i->kv_token_bytes, "");
    add_size(out, "scratch, at most", i->scratch_bytes, "shared by all sessions");
    add_size(out, "together, at most", i->need_bytes, "");
    if (i->machine_bytes >= 0)
        add_size(out, "left here", i->machine_bytes,
                 i->machine_bytes < i->need_bytes ? "too little" : "");
}

static void add_number(struct bytes *out, const char *key, int64_t value)
{
    bytes_addf(out, ",\"%s\":%lld", key, (long long)value);
}

static void print_shape(struct bytes *out, const struct gdn_model_info *i)
{
    bytes_add_text(out, "{\"family\":");
    json_put_string(out, i->family, strlen(i->family));
    add_number(out, "parameters", i->parameters);
    add_number(out, "layers", i->layers);
    add_number(out, "delta_layers", i->delta_layers);
    add_number(out, "attention_layers", i->attention_layers);
    add_number(out, "width", i->width);
    add_number(out, "ffn", i->ffn);
    add_number(out, "key_heads", i->key_heads);
    add_number(out, "key_width", i->key_width);
    add_number(out, "value_heads", i->value_heads);
    add_number(out, "value_width", i->value_width);
    add_number(out, "taps", i->taps);
    add_number(out, "heads", i->heads);
    add_number(out, "kv_heads", i->kv_heads);
    add_number(out, "head_width", i->head_width);
    add_number(out, "rotary", i->rotary);
    add_number(out, "latent", i->latent);
    add_number(out, "sparse_layers", i->sparse_layers);
    add_number(out, "experts", i->experts);
    add_number(out, "experts_used", i->experts_used);
    add_number(out, "expert_width", i->expert_width);
    add_number(out, "shared_width", i->shared_width);
    add_number(out, "vocab", i->vocab);
    bytes_addf(out, ",\"tied\":%s", i->tied ? "true" : "false");
    add_number(out, "trained_context", i->trained_context);
    add_number(out, "mtp_layers", i->mtp_layers);
    add_number(out, "mtp_tensors", i->mtp_tensors);
    add_number(out, "vision_tensors", i->vision_tensors);
}

static void print_json(struct bytes *out, const struct gdn_model_info *i)
{
    print_shape(out, i);
    add_number(out, "tokens", i->tokens);
    bytes_add_text(out, ",\"eos\":[");
    for (int32_t e = 0; e < i->eos_count; e++) bytes_addf(out, "%s%d", e ? "," : "", i->eos[e]);
    bytes_add_text(out, "]");
    if (i->recommends) {
        bytes_add_text(out, ",\"sampling\":{\"temperature\":");
        json_put_double(out, i->temperature);
        bytes_addf(out, ",\"top_k\":%d,\"top_p\":", i->top_k);
        json_put_double(out, i->top_p);
        bytes_add_text(out, "}");
    }
    bytes_addf(out, ",\"quant\":\"%s\"", i->quant == GDN_QUANT_Q8   ? "q8"
                                         : i->quant == GDN_QUANT_Q4 ? "q4"
                                                                    : "none");
    add_number(out, "weight_bytes", i->weight_bytes);
    add_number(out, "copied_bytes", i->copied_bytes);
    add_number(out, "context", i->context);
    add_number(out, "state_bytes", i->state_bytes);
    add_number(out, "kv_token_bytes", i->kv_token_bytes);
    add_number(out, "session_bytes", i->session_bytes);
    add_number(out, "scratch_bytes", i->scratch_bytes);
    add_number(out, "need_bytes", i->need_bytes);
    if (i->machine_bytes >= 0) add_number(out, "machine_bytes", i->machine_bytes);
    bytes_add_text(out, "}\n");
}

static enum gdn_status run(int argc, char **argv, struct gdn_error *err)
{
    struct info_settings s = {.setup = setup_defaults()};
    struct options o = {0};
    bool done;
    options_group(&o, "Output");
    options_flag(&o, "--json", &s.json, "one JSON object, sizes in bytes");
    setup_options(&o, &s.setup);
    setup_context_option(&o, &s.setup);
    TRY(command_line(&command_info, &o, argc, argv, &done, err));
    if (done) return GDN_OK;
    gdn_model *model;
    TRY(setup_open(o.words[0], &s.setup, 1, &model, err));
    struct gdn_model_info info;
    gdn_model_describe(model, &info);
    struct bytes out = {0};
    (s.json ? print_json : print_text)(&out, &info);
    const enum gdn_status status = output_bytes(&out, err);
    gdn_model_close(model);
    return status;
}

const struct command command_info = {
    .name = "info", .words = "MODEL", .least = 1, .most = 1, .run = run,
    .summary = "Tell what a model is and how much memory it needs",
    .examples = "info models/demo\ninfo models/demo --ctx 8192 --json",
};
