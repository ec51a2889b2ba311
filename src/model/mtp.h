/* mtp.h: the head that guesses one token further: from the vector h behind the model at position p
 * (after its final norm) and the token x behind p,
 *
 *     y = layer( W [ norm_e(embed(x)) ; norm_h(h) ] ),  normed;  head(y): what comes behind x
 *
 * with an attention of its own, at position p, over the p + 1 rows so far. y stands in for the next
 * h when several tokens are guessed. Embedding and head are the model's. */
#ifndef MODEL_MTP_H
#define MODEL_MTP_H

#include "model/layer.h"

struct mtp {
    struct weights own; /* one layer and its list, to be placed; the files are the model's */
    struct linear join; /* W [D, 2D] */
    struct norm_weight embed, hidden, norm;
    struct tensor *shift; /* [D, 2] taps that move rows one on */
};

/* The head of weights that are open, and stay so. GDN_ERR_INPUT where there is none, or not all of
 * it. */
enum gdn_status mtp_open(struct mtp *mtp, const struct config *config,
                         const struct weights *weights, const char *path, struct gdn_error *err);
void mtp_close(struct mtp *mtp);

/* What the head remembers: keys and values one row behind the sequence, and the last vectors. */
struct layer_shape mtp_shape(const struct config *config);

/* Behind a pass: its vectors [T, D], each moved to the next row of its sequence; the first of each
 * is the one the state has kept. They are kept in turn. pass->rows: those of the pass. */
struct tensor *mtp_shift(struct pass *pass, const struct mtp *mtp, struct tensor *hidden,
                         struct layer_state *state);

/* Tokens behind vectors [T, D]; pass->rows: at the vectors' positions. */
struct mtp_in {
    struct tensor *embed, *hidden;
    const int32_t *ids;
};

/* Takes keys and values of all rows into the state, and makes y [count, D] of rows `wanted`. What
 * follows the attention is done for those alone. */
void mtp_keep(struct pass *pass, const struct mtp *mtp, const struct mtp_in *in,
              struct layer_state *state);
struct tensor *mtp_run(struct pass *pass, const struct mtp *mtp, const struct mtp_in *in,
                       struct layer_state *state, const int32_t *wanted, int32_t count);

#endif
