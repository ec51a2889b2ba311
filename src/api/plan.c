/* plan.c: what a model will need is said before it is taken: a system that has no memory left ends
 * programs without a word, and not always the one that asked. */
#include <stdio.h>

#include "api/handles.h"
#include "base/machine.h"
#include "base/numbers.h"
#include "run/replay.h"

/* What state_open would take for it. */
int64_t plan_session(const struct gdn_model *m, int32_t context)
{
    struct layer_shape shape[CONFIG_LAYERS + 1];
    const int32_t layers = m->config.layers + (m->engine_options.mtp != NULL);
    if (m->engine_options.mtp) shape[m->config.layers] = mtp_shape(&m->config);
    for (int32_t i = 0; i < m->config.layers; i++) shape[i] = config_layer_shape(&m->config, i);
    const struct state_options o = {.slots = 1, .entries = m->engine_options.entries,
                                    .context = context, .compute = m->engine_options.compute,
                                    .anchor = m->engine_options.anchor};
    return state_bytes(m->device, shape, layers, &o);
}

static int64_t placed_bytes(const struct gdn_model *m)
{
    return m->weights.placed_bytes + m->mtp.own.placed_bytes;
}

/* Where the plan has to fit: on a GPU the weights lie there already. */
static struct machine_memory memory_left(const struct gdn_model *m)
{
    if (m->device->host) return machine_memory();
    return (struct machine_memory){
        .left = (int64_t)m->device->room(m->device) + placed_bytes(m),
        .address = INT64_MAX,
        .by = "the GPU has"};
}

int64_t plan_left(const struct gdn_model *m) { return memory_left(m).left; }

/* A host touches the spare slot only when something is restored; a GPU gives all at once. */
static int32_t slots_held(const struct gdn_model *m)
{
    return m->device->host ? m->options.sessions : m->engine_options.slots;
}

struct plan plan_make(const struct gdn_model *m)
{
    const struct weights *w = &m->weights;
    struct plan p = {.weights = w->file_bytes - w->unused_bytes, .copied = w->copied_bytes,
                     .sessions = slots_held(m) * plan_session(m, m->engine_options.context),
                     .scratch = (int64_t)engine_scratch_bytes(&m->config, m->device,
                                                              &m->engine_options)};
    if (!m->device->host) {
        p.weights = placed_bytes(m); /* the small copies are among them */
        p.copied = 0;
        p.scratch += REPLAYS * (int64_t)m->device->recording_bytes;
    }
    p.all = p.weights + p.copied + p.sessions + p.scratch;
    return p;
}

/* The longest context with which `slots` sessions stay under `room` bytes; 0: none does. */
static int32_t context_for(const struct gdn_model *m, int32_t slots, int64_t room)
{
    const int64_t first = slots * plan_session(m, PAGE);
    const int64_t page = slots * plan_session(m, 2 * PAGE) - first;
    if (first > room || page <= 0) return 0;
    const int64_t pages = 1 + (room - first) / page;
    const int32_t whole = m->engine_options.context;
    return pages < whole / PAGE ? (int32_t)pages * PAGE : whole;
}

static enum gdn_status refuse(const struct gdn_model *m, int32_t slots, const struct plan *p,
                              int64_t left, const char *by, struct gdn_error *err)
{
    char all[SIZE_TEXT], weights[SIZE_TEXT], sessions[SIZE_TEXT], scratch[SIZE_TEXT];
    char has[SIZE_TEXT], advice[64] = "";
    const int32_t context = context_for(m, slots, left - (p->all - p->sessions));
    if (context > 0 && context < m->engine_options.context)
        snprintf(advice, sizeof advice, "; a context of %d tokens fits", context);
    return error_set(err, GDN_ERR_MEMORY, "not enough memory: %d session%s of %d tokens may take "
                     "%s (weights %s, sessions %s, scratch %s), %s %s left%s",
                     m->options.sessions, m->options.sessions > 1 ? "s" : "",
                     m->engine_options.context, size_text(all, p->all),
                     size_text(weights, p->weights + p->copied), size_text(sessions, p->sessions),
                     size_text(scratch, p->scratch), by, size_text(has, left), advice);
}

enum gdn_status plan_check(const struct gdn_model *m, struct gdn_error *err)
{
    const struct machine_memory machine = memory_left(m);
    struct plan p = plan_make(m);
    if (p.all > machine.left)
        return refuse(m, m->options.sessions, &p, machine.left, machine.by, err);
    /* The weights have their addresses already; the spare slot has some too, and is not touched
     * unless something is restored. */
    p.weights = p.copied = 0;
    p.sessions = m->engine_options.slots * plan_session(m, m->engine_options.context);
    p.scratch += ENGINE_META;
    p.all = p.sessions + p.scratch;
    if (p.all > machine.address)
        return refuse(m, m->engine_options.slots, &p, machine.address,
                      "the limit of addresses has", err);
    return GDN_OK;
}

int32_t plan_context(const struct gdn_model *m)
{
    const struct machine_memory machine = memory_left(m);
    const struct plan p = plan_make(m);
    const int32_t whole = m->engine_options.context;
    if (machine.left == INT64_MAX && machine.address == INT64_MAX) return whole;
    /* An eighth stays free: what is left now is not what is left when the first session comes. */
    const int64_t left = machine.left / 8 * 7 - (p.all - p.sessions);
    /* And addresses for a template at work (text/jinja). */
    const int64_t beside = p.scratch + ENGINE_META + JINJA_INPUT_MAX;
    const int64_t address = machine.address / 8 * 7 - beside;
    const int32_t by_left = context_for(m, slots_held(m), left);
    const int32_t by_address = context_for(m, m->engine_options.slots, address);
    const int32_t most = by_left < by_address ? by_left : by_address;
    return most > 0 ? most : whole;
}

int64_t plan_prefixes(const struct gdn_model *m)
{
    const int64_t asked = m->options.prefix_bytes, left = plan_left(m);
    const int64_t spare = (left - plan_make(m).all) / 2;
    return left == INT64_MAX || asked < spare ? asked : spare > 0 ? spare : 0;
}
