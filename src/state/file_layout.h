/* file_layout.h: the bytes of a state file; shared by save.c and load.c. All numbers are
 * little-endian. */
#ifndef STATE_FILE_LAYOUT_H
#define STATE_FILE_LAYOUT_H

#include <stdint.h>

/* Byte 0. `hash` covers the 56 bytes before it. */
struct file_prologue {
    char magic[8]; /* "gdnstate" */
    uint32_t version, block;
    uint64_t payload; /* bytes from 64 on, a multiple of 16 */
    uint64_t blocks;  /* hashes in the table behind the payload */
    uint64_t total;   /* of the file */
    uint64_t unused[2];
    uint64_t hash;
};

/* Before each section's data, which is padded with zeros to a multiple of 16. */
struct file_section {
    char tag[8];
    uint64_t bytes; /* of data, without padding */
};

/* Section "identity". */
struct file_identity {
    unsigned char model[32];
    uint32_t compute, anchor, wide, layers;
    uint32_t position, length, entries, best;
    float best_lse;
    uint32_t unused[3];
};

/* Section "shapes": one for each layer. */
struct file_shape {
    uint32_t kind, channel_gate, Hk, Hv, Dk, Dv, taps, Hkv, D, latent, width, unused[1];
};

/* Then "tokens" (i32 [position]), "ids" and "values" (i32, f32 [best]), and for each layer in turn
 * "anchor" [Hv,Dv,Dk], "log k", "log u", "log G", "ring" (oldest first), or
 * "keys" [position][Hkv][D] and "valuesof" [position][Hkv][Dv] (empty where values are the front of
 * the keys). A draft head (width > 0) has "ring" before its keys, and p - 1 rows of both. Behind
 * the payload: hash64 of every block of it, then of that table. */

#endif
