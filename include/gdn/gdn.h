/* gdn.h: gated-delta language models: open one, feed it tokens, read what it thinks comes next.
 *
 *     struct gdn_error err = {0};
 *     gdn_model *model;
 *     gdn_session *session;
 *     if (gdn_model_open("models/demo", NULL, &model, &err) != GDN_OK) return puts(err.text), 1;
 *     if (gdn_session_new(model, &session, &err) != GDN_OK) return puts(err.text), 1;
 *     int32_t ids[64];
 *     char text[1024];
 *     size_t n = 64;
 *     gdn_tokenize(model, "Once upon a time", 16, 0, ids, &n, &err);
 *     for (int i = 0; i < 20 && gdn_session_feed(session, ids, n, &err) == GDN_OK; i++, n = 1) {
 *         gdn_session_sample(session, NULL, ids, &err);
 *         size_t len = sizeof text;
 *         gdn_detokenize(model, ids, 1, false, text, &len, &err);
 *         fwrite(text, 1, len, stdout);
 *     }
 *     gdn_model_close(model);
 *
 * Calls return a status and write one sentence into the caller's struct gdn_error (which must start
 * zeroed, and may be NULL). A model and all its sessions are used by one thread at a time. Memory
 * is taken when a model is opened and when its first session is made, never by a step. */
#ifndef GDN_GDN_H
#define GDN_GDN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "gdn/error.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct gdn_model gdn_model;
typedef struct gdn_session gdn_session;

GDN_API const char *gdn_version(void);

/* ---- models ---------------------------------------------------------------------------------- */

enum gdn_type { GDN_F32, GDN_BF16, GDN_F64 };
/* Large weights in blocks of 32: 8 bits and a scale, or 4 bits, a scale and a minimum; the
 * embedding and the head are 8 bits either way. */
enum gdn_quant { GDN_QUANT_NONE, GDN_QUANT_Q8, GDN_QUANT_Q4 };

enum gdn_draft {
    GDN_DRAFT_OFF,
    GDN_DRAFT_LOOKUP, /* what followed the last tokens where they stood in the session before */
    GDN_DRAFT_MTP     /* what the model's own draft head says */
};

enum { GDN_CONTEXT_FIT = -1 };

struct gdn_options {
    size_t size;         /* sizeof(struct gdn_options): set by gdn_options_default */
    const char *device;  /* "cpu"; "ref": every sum in double, slow; "cuda" */
    int threads;         /* 0: all cores this process may use */
    uint32_t without;    /* instruction sets that are left alone, bits of enum gdn_isa (ops.h) */
    enum gdn_type compute; /* of activations: GDN_F32 or GDN_BF16; GDN_F64 on "ref" only */
    enum gdn_type state; /* of the recurrent state: GDN_F32 or GDN_BF16 */
    bool fast;           /* false: exact, a row's bits depend on the tokens before it only. true:
                            prompts may give that up for speed (delta on AMX tiles), and so may
                            single tokens with quantised weights (int8 products) */
    int sessions;        /* how many can live at once; 1 by default */
    int32_t context;     /* most tokens of one session; 0: what the model was made for;
                            GDN_CONTEXT_FIT: of that as much as the machine has memory for now */
    bool speculate;      /* keep room for drafts (gdn_session_draft) */
    int64_t prefix_bytes; /* most memory for states that gdn_session_sync keeps for later, taken as
                             they come and never more than half of what the machine has left
                             beside the sessions; 1 GiB by default, 0: none are kept */
    enum gdn_draft draft; /* what gdn_next guesses ahead with; implies speculate */
    int draft_depth;      /* tokens ahead, 1 to 15; 0: as many as are good for the kind */
    enum gdn_quant quant; /* make this of f32, bf16 or f16 files while they are opened; a model that
                             is stored quantised (gdn_model_convert) needs no word */
    /* NULL, or called while a model is opened that has to be made smaller (quant) or copied to a
     * device: bytes of the file that are done, of all. */
    void (*progress)(void *context, int64_t done, int64_t all);
    void *progress_context;
};

GDN_API struct gdn_options gdn_options_default(void);
/* Reads GDN_STATE_BF16 (exactly "1": state = GDN_BF16) into *options. Nothing but this and the next
 * function ever looks at the environment. */
GDN_API void gdn_options_from_env(struct gdn_options *options);
/* For programs: a variable of the environment; NULL when it is not set, or empty. */
GDN_API const char *gdn_env(const char *name);

/* `path` is a folder with config.json, safetensors and tokenizer.json (the last may be missing:
 * then only ids can be used). The files are mapped and must stay unchanged. *model is NULL after a
 * failure. */
GDN_API enum gdn_status gdn_model_open(const char *path, const struct gdn_options *options,
                                       gdn_model **model, struct gdn_error *err);
/* Also frees its sessions. NULL is fine. */
GDN_API void gdn_model_close(gdn_model *model);

struct gdn_model_info {
    const char *family; /* lives as long as the model */
    int32_t vocab, width, ffn, layers, delta_layers, attention_layers;
    int32_t heads, kv_heads, head_width, rotary;
    int32_t latent;         /* entries that attention keeps of a token instead of heads; 0: none */
    int32_t key_heads, value_heads, key_width, value_width, taps;
    int32_t sparse_layers, experts, experts_used, expert_width, shared_width; /* 0: no experts */
    int32_t trained_context; /* of the config */
    int32_t context;         /* of one session, by options.context */
    bool tied;
    int32_t mtp_layers, mtp_tensors; /* of the draft head */
    int32_t vision_tensors;          /* recognised, not used */
    int64_t parameters, weight_bytes, copied_bytes;
    enum gdn_quant quant;   /* of its weights, stored or made */
    int64_t state_bytes;    /* of one session: anchors, logs, rings */
    int64_t kv_token_bytes; /* of one token in one session */
    int64_t session_bytes;  /* of one session at options.context */
    int64_t scratch_bytes;  /* address space reserved for a pass */
    double token_bytes;     /* of the weights that one token reads */
    double token_products;  /* multiply-adds of one token with them */
    int64_t need_bytes;     /* all of it, with options.sessions full of tokens */
    int64_t machine_bytes;  /* that the machine has left for it now; -1: unknown */
    int32_t tokens;         /* in the tokenizer; 0 without one */
    int32_t eos[16], eos_count;
    bool recommends;        /* generation_config.json recommends what follows */
    double temperature, top_p;
    int32_t top_k;
};
GDN_API void gdn_model_describe(const gdn_model *model, struct gdn_model_info *info);

/* Writes a model folder whose large weights are quantised: `out` must not exist, and appears whole
 * or not at all. Tensors that are not quantised, configuration, tokenizer and templates come over
 * byte for byte. Every call opens the result as any other model, mapped. Of the options it heeds
 * quant, threads and progress. */
GDN_API enum gdn_status gdn_model_convert(const char *path, const char *out,
                                          const struct gdn_options *options, struct gdn_error *err);

/* ---- measuring ------------------------------------------------------------------------------- */

/* Writes a model with random weights (bf16, the same for the same seed) into an existing folder.
 * Its shape is that of `config`, the text of a config.json. */
GDN_API enum gdn_status gdn_random_model(const char *config, size_t len, const char *folder,
                                         uint64_t seed, struct gdn_error *err);

/* The same model without a folder: what is large is made in the memory of options.device, which has
 * to have some of its own ("cuda"), and never on the host. It has no tokenizer, and neither quant
 * nor the draft head. */
GDN_API enum gdn_status gdn_model_open_random(const char *config, size_t len, uint64_t seed,
                                              const struct gdn_options *options,
                                              gdn_model **model, struct gdn_error *err);

/* Begins to count how long each kind of op takes, anew with every call; before, writes at most
 * `room` counts of the time since the last call. Returns how many. */
struct gdn_op_time {
    const char *op;
    double seconds;
    int64_t calls;
};
GDN_API int gdn_model_profile(gdn_model *model, struct gdn_op_time *times, int room);

/* ---- text ------------------------------------------------------------------------------------ */

enum {
    GDN_CONTROL = 1 /* control tokens such as <|im_start|> may be spelled in the text */
};

/* Writes at most *n ids and sets *n to how many there are (call again with more room when that is
 * larger). Adds nothing of its own. */
GDN_API enum gdn_status gdn_tokenize(const gdn_model *model, const char *text, size_t len,
                                     unsigned flags, int32_t *ids, size_t *n,
                                     struct gdn_error *err);

/* The text of ids: whole code points, as gdn_decoder makes them one by one. At most *n bytes, as
 * gdn_tokenize, and no zero behind them. skip_special: without tokens such as <|im_end|>. Ids that
 * are no token give nothing. */
GDN_API enum gdn_status gdn_detokenize(const gdn_model *model, const int32_t *ids, size_t count,
                                       bool skip_special, char *text, size_t *n,
                                       struct gdn_error *err);

/* The tokens of a chat, by the chat template of the model (chat_template.jinja or
 * tokenizer_config.json; a model without one: ChatML). Text of messages and tools never becomes a
 * control token, whatever it spells. */
enum gdn_think {
    GDN_THINK_DEFAULT, /* what the template does unasked */
    GDN_THINK_ON,
    GDN_THINK_OFF
};
struct gdn_chat_options {
    bool answer;            /* the head of the assistant's turn follows, for the model to go on */
    bool keep_thinking;     /* thoughts before the last question stay (preserve_thinking) */
    bool control;           /* text of messages may spell control tokens after all */
    enum gdn_think think;
    const char *tools;      /* a JSON list, or NULL */
    const char *variables;  /* a JSON object: further variables of the template, or NULL */
    bool behind;            /* the messages go on behind an answer that the session was fed: what
                               ends it comes first, by the template (ids only) */
};
struct gdn_message {
    const char *role, *content;
};
/* `options` may be NULL (all 0). ids, n: as gdn_tokenize. */
GDN_API enum gdn_status gdn_chat(const gdn_model *model, const struct gdn_message *messages,
                                 size_t count, const struct gdn_chat_options *options,
                                 int32_t *ids, size_t *n, struct gdn_error *err);
/* The same for messages as JSON: a list of objects with all that templates know (content in parts,
 * reasoning_content, tool_calls, tool_call_id ...). */
GDN_API enum gdn_status gdn_chat_json(const gdn_model *model, const char *messages, size_t len,
                                      const struct gdn_chat_options *options, int32_t *ids,
                                      size_t *n, struct gdn_error *err);
/* The text the template makes of it; at most *n bytes, as gdn_tokenize, and no zero behind them. */
GDN_API enum gdn_status gdn_chat_text(const gdn_model *model, const char *messages, size_t len,
                                      const struct gdn_chat_options *options, char *text,
                                      size_t *n, struct gdn_error *err);

/* Streaming text of ids: never half a code point. */
typedef struct gdn_decoder gdn_decoder;
GDN_API enum gdn_status gdn_decoder_new(const gdn_model *model, bool skip_special,
                                        gdn_decoder **decoder, struct gdn_error *err);
GDN_API void gdn_decoder_free(gdn_decoder *decoder);
/* The text that became certain with this id (id < 0: with the end of the text). It is zero-ended
 * and lives until the next call. */
GDN_API const char *gdn_decoder_push(gdn_decoder *decoder, int32_t id);
/* From now on the text ends before the first of these strings (zero-ended UTF-8, none empty): what
 * may still become one is held back, and once one has come up there is no more text. */
GDN_API enum gdn_status gdn_decoder_stop(gdn_decoder *decoder, const char *const *strings,
                                         size_t count, struct gdn_error *err);
GDN_API bool gdn_decoder_stopped(const gdn_decoder *decoder);

/* An answer as it comes, its thoughts apart: <think> and </think> as tokens where the model has
 * them, as text where only its template does. Neither the marks nor the white space around them are
 * in either part; a model without thoughts has all in `answer`. `before`: the ids in front of the
 * answer, as they were fed; a template may have opened the thoughts in them. n may be 0 where the
 * text before it is not to decide (plain text to go on with). */
typedef struct gdn_reply gdn_reply;
struct gdn_reply_text {
    const char *thoughts, *answer; /* zero-ended, whole code points; until the next push */
};
GDN_API enum gdn_status gdn_reply_new(const gdn_model *model, const int32_t *before, size_t n,
                                      gdn_reply **reply, struct gdn_error *err);
GDN_API void gdn_reply_free(gdn_reply *reply);
/* What became certain with this id; id < 0: the end. */
GDN_API struct gdn_reply_text gdn_reply_push(gdn_reply *reply, int32_t id);
/* As gdn_decoder_stop, of the answer; thoughts may have such strings in them. */
GDN_API enum gdn_status gdn_reply_stop(gdn_reply *reply, const char *const *strings, size_t count,
                                       struct gdn_error *err);
GDN_API bool gdn_reply_stopped(const gdn_reply *reply);

/* ---- sessions -------------------------------------------------------------------------------- */

/* An empty sequence. GDN_ERR_MEMORY when options.sessions are alive; and at the first one, before
 * anything is taken, when the model with all its sessions needs more memory than there is. */
GDN_API enum gdn_status gdn_session_new(gdn_model *model, gdn_session **session,
                                        struct gdn_error *err);
GDN_API void gdn_session_free(gdn_session *session);
/* Tokens so far. */
GDN_API int32_t gdn_session_position(const gdn_session *session);

/* Appends tokens and keeps the distribution after the last one. */
GDN_API enum gdn_status gdn_session_feed(gdn_session *session, const int32_t *ids, size_t n,
                                         struct gdn_error *err);
/* The logits behind the last token, one for each of gdn_model_info.vocab rows: that token is taken
 * back and runs again, to the same bits. If that fails, it is missing. */
GDN_API enum gdn_status gdn_session_logits(gdn_session *session, float *logits,
                                           struct gdn_error *err);
/* How many tokens gdn_session_rewind can take back now (0..31). */
GDN_API int32_t gdn_session_rewindable(const gdn_session *session);
/* As if the last n tokens had never come. The kept distribution goes with them: feed first. */
GDN_API enum gdn_status gdn_session_rewind(gdn_session *session, int32_t n, struct gdn_error *err);
/* A second session with the same past. */
GDN_API enum gdn_status gdn_session_fork(const gdn_session *session, gdn_session **fork,
                                         struct gdn_error *err);

/* What the session was fed: gdn_session_position ids, valid until the next call. */
GDN_API const int32_t *gdn_session_tokens(const gdn_session *session);

/* ---- whole lists of tokens ------------------------------------------------------------------- */

enum gdn_reuse {
    GDN_REUSE_NOTHING,
    GDN_REUSE_SESSION, /* what the session held, tokens behind it taken back */
    GDN_REUSE_KEPT     /* a state kept by this or another session of the model */
};
enum gdn_reuse_limit {
    GDN_LIMIT_NONE,    /* all was there, the distribution too */
    GDN_LIMIT_LAST,    /* all was there, but the last token ran again for its distribution */
    GDN_LIMIT_DIFFERS, /* nothing that is known goes on as the list does */
    GDN_LIMIT_NOT_KEPT /* tokens up to `agreed` are known, but no state was kept so far on */
};
struct gdn_synced {
    int32_t reused, computed; /* tokens of the list; together all of them, unless stopped */
    int32_t agreed;           /* tokens that agree with something known; at least `reused` */
    enum gdn_reuse from;
    enum gdn_reuse_limit limit;
    bool stopped; /* by go_on: the session stands behind reused + computed tokens */
};
struct gdn_sync_options {
    /* Where the list may be taken up again later: numbers of tokens, in any order. Begins of
     * messages and thoughts are found without, by the tokens of the chat template. */
    const int32_t *marks;
    size_t mark_count;
    /* Called before each piece of at most 512 tokens: false stops there. `done` of `all` tokens are
     * part of the session. False at once: only what is there is reused. */
    bool (*go_on)(void *context, int32_t done, int32_t all);
    void *context;
};
/* The session becomes that of these n tokens, with the distribution behind the last one, as if they
 * had been fed to an empty one: the same bits when exact. What can be reused is not computed: of
 * the session itself up to 16 tokens back, and of states that were kept at begins of messages and
 * thoughts, at marks, at the end of each list, and every 256 tokens (1k, 4k further back), as many
 * as options.prefix_bytes holds. A stopped or failed sync keeps what it has computed. A session
 * that an earlier step made unusable is usable again. `options` and `done` may be NULL. */
GDN_API enum gdn_status gdn_session_sync(gdn_session *session, const int32_t *ids, size_t n,
                                         const struct gdn_sync_options *options,
                                         struct gdn_synced *done, struct gdn_error *err);
/* Keeps the state of now for later lists: it may be lost again when the budget is needed. */
GDN_API enum gdn_status gdn_session_keep(gdn_session *session, struct gdn_error *err);

struct gdn_prefix_info {
    int32_t states;        /* kept now */
    int64_t bytes, budget; /* pages of keys and values that several hold count once */
};
GDN_API void gdn_model_prefixes(const gdn_model *model, struct gdn_prefix_info *info);

/* ---- put aside and taken up again ------------------------------------------------------------ */

/* A session at one position, complete: it may be restored any number of times, into any session of
 * the model, whatever became of the one it was taken from. */
typedef struct gdn_snapshot gdn_snapshot;
GDN_API enum gdn_status gdn_session_snapshot(gdn_session *session, gdn_snapshot **snapshot,
                                             struct gdn_error *err);
GDN_API enum gdn_status gdn_session_restore(gdn_session *session, const gdn_snapshot *snapshot,
                                            struct gdn_error *err);
/* Bytes it keeps alive; pages shared with others count in part. */
GDN_API int64_t gdn_snapshot_bytes(const gdn_snapshot *snapshot);
GDN_API int32_t gdn_snapshot_position(const gdn_snapshot *snapshot);
/* Before its model is closed. NULL is fine. */
GDN_API void gdn_snapshot_free(gdn_snapshot *snapshot);

/* The same as a file (docs/state.md): written whole or not at all, checked to the last byte when
 * read. Loading costs no prefill and goes on bit-equal; a file of another model is refused.
 * *converted (may be NULL): the recurrent state was stored in another type than options.state. */
GDN_API enum gdn_status gdn_session_save(gdn_session *session, const char *path,
                                         struct gdn_error *err);
GDN_API enum gdn_status gdn_session_load(gdn_model *model, const char *path,
                                         gdn_session **session, bool *converted,
                                         struct gdn_error *err);

struct gdn_state_file {
    int version;
    int64_t bytes;
    int32_t position, layers, log_length;
    enum gdn_type compute, state;
    bool has_distribution; /* the next token can be sampled at once */
    unsigned char model[32];
};
/* Checks every byte of a state file and says what is in it; needs no model. */
GDN_API enum gdn_status gdn_state_file_verify(const char *path, struct gdn_state_file *info,
                                              struct gdn_error *err);

/* ---- drafts ---------------------------------------------------------------------------------- */

/* Runs 1..16 tokens without making them part of the sequence; needs options.speculate. Then
 * commit(n) makes the first n of them part of it: more is clamped, 0 or less changes nothing. */
struct gdn_sink;
GDN_API enum gdn_status gdn_session_draft(gdn_session *session, const int32_t *ids, size_t n,
                                          const struct gdn_sink *sink, struct gdn_error *err);
GDN_API int32_t gdn_session_commit(gdn_session *session, int32_t n);

/* ---- many sessions at once, and everything they compute -------------------------------------- */

/* A piece of one session: the sessions of one call are all different and of one model. */
struct gdn_feed {
    gdn_session *session;
    const int32_t *ids;
    size_t n;
    bool last_only; /* logits of the last row only; otherwise of every row from `first` on */
    size_t first;
};

/* Called in order of rows within a feed. Any may be NULL: what is not asked for is not computed.
 * Rows count from the begin of the feed. What is pointed to lives during the call. */
struct gdn_sink {
    void *context;
    void (*logits)(void *context, int feed, size_t row, const float *logits, int32_t vocab);
    /* index 0: embedding; 1..layers-1: output of that many layers; layers: after the final norm */
    void (*hidden)(void *context, int feed, size_t row, int32_t index, const float *x,
                   int32_t width);
    /* nats of token row + 1 of the feed given all before it; not called for the last row */
    void (*loss)(void *context, int feed, size_t row, double nats);
};

/* Appends all pieces as one ragged batch. On failure sessions whose piece had one token are as
 * before; others may have become unusable, and say so. */
GDN_API enum gdn_status gdn_step(const struct gdn_feed *feeds, int count,
                                 const struct gdn_sink *sink, struct gdn_error *err);

/* ---- choosing tokens ------------------------------------------------------------------------- */

struct gdn_bias {
    int32_t id;
    float add; /* to its logit; -INFINITY: never */
};

/* Zeros are off: with nothing but `size` set, or NULL instead, the most likely token is chosen. In
 * this order: repetition, presence and frequency, bias and bans, over the logits of all tokens;
 * then among the 256 best top_k, temperature, top_p, min_p, and the draw. */
struct gdn_sampling {
    size_t size;        /* sizeof(struct gdn_sampling) */
    double temperature; /* 0: the most likely token */
    int32_t top_k;      /* 0: up to 256 */
    double top_p;       /* 0 or 1: off */
    double min_p;       /* 0: off */
    uint64_t seed;      /* same seed, same position, same distribution: same token */
    /* Of the tokens that stand among the last `window` of the session (0: in all of it), c times:
     * logits above 0 are divided by `repetition`, others multiplied (0 or 1: off); then
     * `presence` + `frequency` * c is taken off. */
    double repetition, presence, frequency;
    int32_t window;
    const struct gdn_bias *bias;
    size_t bias_count;
    const int32_t *banned; /* never chosen */
    size_t banned_count;
};
GDN_API struct gdn_sampling gdn_sampling_default(void); /* greedy */

/* Chooses from the distribution after the last token fed. Padding rows are never chosen. Where
 * settings change logits so that a token beyond the 256 best could matter, the last one fed is
 * computed once more (gdn_next has that for nothing). */
GDN_API enum gdn_status gdn_session_sample(gdn_session *session,
                                           const struct gdn_sampling *sampling, int32_t *id,
                                           struct gdn_error *err);

/* The n most likely tokens after the last one fed, most likely first, at most 256; returns how
 * many. Natural logarithms of what the model says, whatever the sampling. */
struct gdn_logprob {
    int32_t id;
    double logprob;
};
GDN_API int gdn_session_logprobs(const gdn_session *session, struct gdn_logprob *out, int n);

/* One turn of a session: tokens are fed, then one or more are chosen. All but the last of the
 * chosen are part of the session already: they had been drafted (options.draft), and what is chosen
 * is the same, in bits, with drafts and without. The last one is for the next turn to feed. */
enum { GDN_TURN_TOKENS = 17 };
struct gdn_turn {
    gdn_session *session;
    const int32_t *ids; /* [n], n >= 1: a prompt, or the last token that was chosen */
    size_t n;
    const struct gdn_sampling *sampling;
    const int32_t *stop; /* the turn ends with one of these, which is not fed */
    size_t stop_count;
    int32_t most;                /* tokens to choose at most; 0: GDN_TURN_TOKENS */
    /* NULL, or [GDN_TURN_TOKENS][1 + top]: of each token its own, then those of the `top` (0 to
     * 256) most likely ones, as gdn_session_logprobs has them. */
    struct gdn_logprob *logprobs;
    int32_t top;
    /* Written: */
    int32_t count, id[GDN_TURN_TOKENS];
    bool stopped; /* the last of them is one of `stop` */
};
/* The turns are of different sessions of one model and go together, as in gdn_step, whose failures
 * these are. A session whose distribution is not finite chooses nothing (count 0) and is not
 * usable any more. */
GDN_API enum gdn_status gdn_next(struct gdn_turn *turns, int count, struct gdn_error *err);

/* Of the drafts of a session: how many were looked at, and how many were right, by how many tokens
 * ahead they stood. */
struct gdn_draft_stats {
    int64_t turns, chosen; /* of gdn_next with one token fed */
    int64_t drafted[GDN_TURN_TOKENS - 1], accepted[GDN_TURN_TOKENS - 1];
};
GDN_API void gdn_session_drafts(const gdn_session *session, struct gdn_draft_stats *stats);

#ifdef __cplusplus
}
#endif
#endif
