/* fingerprint.h: which model this is: 32 bytes that differ when what decides an answer does. */
#ifndef MODEL_FINGERPRINT_H
#define MODEL_FINGERPRINT_H

#include "model/weights.h"

/* SHA-256 over the config's numbers, every tensor's name, type and shape, and 64 blocks of 4 KiB at
 * fixed fractions of each file: cheap for any size, and blind only to a change between them. */
void fingerprint_make(const struct config *config, const struct weights *weights,
                      unsigned char fingerprint[32]);

#endif
