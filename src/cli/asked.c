#include "cli/asked.h"

struct asked asked_defaults(void)
{
    struct asked a = {.choice = choice_defaults(), .setup = setup_defaults()};
    a.setup.fit = true;
    return a;
}

void asked_question_options(struct options *o, struct asked *a)
{
    options_text(o, "--system", &a->system, "TEXT", "system message before all questions");
    options_flag(o, "--think", &a->think, "let the model think aloud first");
    options_flag(o, "--no-think", &a->no_think, "or let it not (default: its template decides)");
    options_pair(o, "--think", "--no-think");
}

void asked_answer_options(struct options *o, struct asked *a, int64_t least, const char *most)
{
    options_integer(o, "-n", &a->most, least, INT32_MAX, most, "most tokens of the answer");
    choice_stop_options(o, &a->choice);
    options_flag(o, "--show-thinking", &a->show_thinking,
                 "thoughts before the answer, in <think>; otherwise they go to stderr");
}

void asked_engine_options(struct options *o, struct asked *a)
{
    choice_options(o, &a->choice);
    options_group(o, "Speed (the answer is the same, to the last bit)");
    setup_draft_options(o, &a->setup);
    setup_options(o, &a->setup);
    setup_context_option(o, &a->setup);
}

enum gdn_status asked_think(const struct asked *a, enum gdn_think *think, struct gdn_error *err)
{
    if (a->think && a->no_think)
        return error_set(err, GDN_ERR_USAGE, "--think and --no-think: found both, need one");
    *think = a->think ? GDN_THINK_ON : a->no_think ? GDN_THINK_OFF : GDN_THINK_DEFAULT;
    return GDN_OK;
}
