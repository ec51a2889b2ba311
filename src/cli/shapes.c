#include "cli/shapes.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/memory.h"
#include "cli/options.h"
#include "gdn/gdn.h"

/* What the configs published with these models say about sizes. */
#define QWEN(type, D, layers, Hq, Hkv, Hv, tied, ffn)                                             \
    "{\"model_type\":\"" type "\",\"hidden_size\":" #D ",\"num_hidden_layers\":" #layers           \
    ",\"num_attention_heads\":" #Hq ",\"num_key_value_heads\":" #Hkv ",\"head_dim\":256,"          \
    "\"linear_num_key_heads\":16,\"linear_num_value_heads\":" #Hv ",\"linear_key_head_dim\":128,"  \
    "\"linear_value_head_dim\":128,\"linear_conv_kernel_dim\":4,\"full_attention_interval\":4,"    \
    "\"hidden_act\":\"silu\",\"rms_norm_eps\":1e-6,\"partial_rotary_factor\":0.25,"                \
    "\"rope_theta\":10000000,\"max_position_embeddings\":262144,\"tie_word_embeddings\":" #tied    \
    "," ffn "}"
#define DENSE(F) "\"vocab_size\":248320,\"intermediate_size\":" #F
#define EXPERTS(vocab, count, used)                                                     \
    "\"vocab_size\":" #vocab ",\"num_experts\":" #count ",\"num_experts_per_tok\":" #used \
    ",\"moe_intermediate_size\":512,\"shared_expert_intermediate_size\":512"

static const struct {
    const char *name, *config;
} shapes[] = {
    {"qwen3.5-0.8b", QWEN("qwen3_5_text", 1024, 24, 8, 2, 16, true, DENSE(3584))},
    {"qwen3.5-2b", QWEN("qwen3_5_text", 2048, 24, 8, 2, 16, true, DENSE(6144))},
    {"qwen3.5-4b", QWEN("qwen3_5_text", 2560, 32, 16, 4, 32, true, DENSE(9216))},
    {"qwen3.5-9b", QWEN("qwen3_5_text", 4096, 32, 16, 4, 32, false, DENSE(12288))},
    {"qwen3.6-27b", QWEN("qwen3_5_text", 5120, 64, 24, 4, 48, false, DENSE(17408))},
    {"qwen3.5-35b-a3b",
     QWEN("qwen3_5_moe_text", 2048, 40, 16, 2, 32, false, EXPERTS(248320, 256, 8))},
    {"qwen3-next-80b-a3b",
     QWEN("qwen3_next", 2048, 48, 16, 2, 32, false,
          EXPERTS(151936, 512, 10) ",\"intermediate_size\":5120,\"norm_topk_prob\":true,"
                                   "\"decoder_sparse_step\":1,\"mlp_only_layers\":[]")},
    {"kimi-linear-48b-a3b",
     "{\"model_type\":\"kimi_linear\",\"hidden_size\":2304,\"num_hidden_layers\":27,"
     "\"intermediate_size\":9216,\"first_k_dense_replace\":1,\"hidden_act\":\"silu\","
     "\"kv_lora_rank\":512,\"q_lora_rank\":null,\"qk_nope_head_dim\":128,\"qk_rope_head_dim\":64,"
     "\"v_head_dim\":128,\"head_dim\":72,\"mla_use_nope\":true,\"num_attention_heads\":32,"
     "\"num_key_value_heads\":32,\"linear_attn_config\":{\"full_attn_layers\":[4,8,12,16,20,24,27],"
     "\"kda_layers\":[1,2,3,5,6,7,9,10,11,13,14,15,17,18,19,21,22,23,25,26],\"head_dim\":128,"
     "\"num_heads\":32,\"short_conv_kernel_size\":4},\"moe_intermediate_size\":1024,"
     "\"moe_layer_freq\":1,\"moe_renormalize\":true,\"moe_router_activation_func\":\"sigmoid\","
     "\"num_expert_group\":1,\"topk_group\":1,\"use_grouped_topk\":true,\"num_experts\":256,"
     "\"num_experts_per_token\":8,\"num_shared_experts\":1,\"routed_scaling_factor\":2.446,"
     "\"rms_norm_eps\":1e-5,\"rope_scaling\":null,\"rope_theta\":10000.0,"
     "\"tie_word_embeddings\":false,\"model_max_length\":1048576,\"vocab_size\":163840}"},
    {"olmo-hybrid-7b",
     "{\"model_type\":\"olmo_hybrid\",\"hidden_size\":3840,\"num_hidden_layers\":32,"
     "\"intermediate_size\":11008,\"num_attention_heads\":30,\"num_key_value_heads\":30,"
     "\"linear_num_key_heads\":30,\"linear_num_value_heads\":30,\"linear_key_head_dim\":96,"
     "\"linear_value_head_dim\":192,\"linear_conv_kernel_dim\":4,\"linear_allow_neg_eigval\":true,"
     "\"attention_bias\":false,\"hidden_act\":\"silu\",\"rms_norm_eps\":1e-6,"
     "\"rope_parameters\":{\"rope_theta\":null},\"tie_word_embeddings\":false,"
     "\"max_position_embeddings\":65536,\"vocab_size\":100352}"},
};
enum { SHAPES = sizeof shapes / sizeof *shapes, CONFIG_BYTES = 1 << 20 };

const char *shape_names(void)
{
    static char names[320];
    for (size_t i = 0, n = 0; i < SHAPES && n < sizeof names; i++)
        n += (size_t)snprintf(names + n, sizeof names - n, "%s%s", i ? ", " : "", shapes[i].name);
    return names;
}

enum gdn_status shape_config(const char *shape, char **text, size_t *len, struct gdn_error *err)
{
    const char *names[SHAPES];
    for (size_t i = 0; i < SHAPES; i++) {
        names[i] = shapes[i].name;
        if (strcmp(shape, shapes[i].name) != 0) continue;
        *text = mem_text(shapes[i].config);
        *len = strlen(shapes[i].config);
        return *text ? GDN_OK : error_set(err, GDN_ERR_MEMORY, "no memory for a config");
    }
    if (file_exists(shape)) return file_read(shape, CONFIG_BYTES, text, len, err);
    const char *near = nearest_name(shape, names, SHAPES);
    return error_set(err, GDN_ERR_USAGE, "--shape: found \"%.80s\", need %s, or a "
                     "config.json%s%s%s", shape, shape_names(), near ? "; did you mean " : "",
                     near ? near : "", near ? "?" : "");
}

enum gdn_status shape_make(const char *shape, char folder[SHAPE_FOLDER], struct gdn_error *err)
{
    const char *where = "/tmp";
    char *text;
    size_t len;
    TRY(shape_config(shape, &text, &len, err));
    snprintf(folder, SHAPE_FOLDER, "%s/gdn-shape-XXXXXX", where);
    enum gdn_status status = GDN_OK;
    if (!mkdtemp(folder)) {
        folder[0] = 0;
        status = error_set(err, GDN_ERR_IO, "%s: a folder cannot be made there", where);
    }
    if (status == GDN_OK) status = gdn_random_model(text, len, folder, 1, err);
    mem_give(text);
    if (status != GDN_OK) shape_drop(folder);
    return status;
}

void shape_drop(const char *folder)
{
    static const char *const files[] = {"config.json", "model.safetensors"};
    char path[SHAPE_FOLDER + 32];
    if (!folder[0]) return;
    for (size_t i = 0; i < sizeof files / sizeof *files; i++)
        if (file_join(path, sizeof path, folder, files[i])) unlink(path);
    rmdir(folder);
}
