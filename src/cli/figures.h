/* figures.h: what an answer took, as the one closing line. */
#ifndef CLI_FIGURES_H
#define CLI_FIGURES_H

#include "base/bytes.h"
#include "gdn/gdn.h"

struct figures {
    int64_t read, reused, said; /* tokens: computed before the answer; not computed; of it */
    double reading, first, saying; /* seconds: for `read`; to the first token; for the others */
    struct gdn_draft_stats drafts; /* of this answer; turns 0: nothing was guessed */
    bool drawn; /* with `seed` */
    uint64_t seed;
};

/* The drafts of a session since `before`. */
struct gdn_draft_stats figures_drafts(const gdn_session *session,
                                      const struct gdn_draft_stats *before);
/* "[prompt 12 tokens, 900 tok/s; .. ]", with a line end. */
void figures_print(const struct figures *figures, struct bytes *out);

#endif
