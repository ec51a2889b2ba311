#include "cli/figures.h"

#include "base/machine.h"
#include "base/numbers.h"

enum { DEPTHS = GDN_TURN_TOKENS - 1 };

struct gdn_draft_stats figures_drafts(const gdn_session *session,
                                      const struct gdn_draft_stats *before)
{
    struct gdn_draft_stats d;
    gdn_session_drafts(session, &d);
    d.turns -= before->turns;
    d.chosen -= before->chosen;
    for (int i = 0; i < DEPTHS; i++) {
        d.drafted[i] -= before->drafted[i];
        d.accepted[i] -= before->accepted[i];
    }
    return d;
}

static double rate(double count, double seconds) { return seconds > 0 ? count / seconds : 0; }

/* How many were right at each depth, of those that were looked at. */
static void print_drafts(const struct gdn_draft_stats *d, struct bytes *out)
{
    bytes_addf(out, "; %.2f tokens a step, drafts right", (double)d->chosen / (double)d->turns);
    for (int i = 0; i < DEPTHS && d->drafted[i] > 0; i++)
        bytes_addf(out, " %.0f%%", 100.0 * (double)d->accepted[i] / (double)d->drafted[i]);
}

void figures_print(const struct figures *f, struct bytes *out)
{
    char peak[SIZE_TEXT];
    bytes_addf(out, "[prompt %lld tokens, %.0f tok/s; reused %lld tokens; ", (long long)f->read,
               rate((double)f->read, f->reading), (long long)f->reused);
    if (f->said == 0)
        bytes_add_text(out, "no answer");
    else
        bytes_addf(out, "answer %lld tokens, %.0f tok/s; first token %.0f ms", (long long)f->said,
                   rate((double)(f->said - 1), f->saying), 1e3 * f->first);
    if (f->drafts.turns > 0) print_drafts(&f->drafts, out);
    bytes_addf(out, "; peak memory %s", size_text(peak, machine_peak_bytes()));
    if (f->drawn && f->said > 0) bytes_addf(out, "; seed %llu", (unsigned long long)f->seed);
    bytes_add_text(out, "]\n");
}
