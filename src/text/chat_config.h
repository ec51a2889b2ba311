/* chat_config.h: what the files of a model say about its chats. */
#ifndef TEXT_CHAT_CONFIG_H
#define TEXT_CHAT_CONFIG_H

#include "base/bytes.h"
#include "base/status.h"

/* The caller frees source and tokens, also after a failure. */
struct chat_config {
    const char *name;    /* of where the template stands, for messages */
    struct bytes source; /* of the template; at == NULL: there is none */
    struct bytes tokens; /* a JSON object: the special tokens by name; at == NULL: no config */
};
enum gdn_status chat_config_read(struct chat_config *config, const char *folder,
                                 struct gdn_error *err);

#endif
