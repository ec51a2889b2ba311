/* options.c: defaults, and the only functions that read the environment. */
#include <stdlib.h>
#include <string.h>

#include "gdn/gdn.h"

const char *gdn_version(void) { return "0.1.0"; }

struct gdn_options gdn_options_default(void)
{
    return (struct gdn_options){.size = sizeof(struct gdn_options), .device = "cpu",
                                .compute = GDN_F32, .state = GDN_F32, .sessions = 1,
                                .prefix_bytes = (int64_t)1 << 30};
}

const char *gdn_env(const char *name)
{
    const char *value = getenv(name);
    return value && *value ? value : NULL;
}

struct gdn_sampling gdn_sampling_default(void)
{
    return (struct gdn_sampling){.size = sizeof(struct gdn_sampling)};
}

void gdn_options_from_env(struct gdn_options *options)
{
    const char *bf16 = getenv("GDN_STATE_BF16");
    if (bf16 && strcmp(bf16, "1") == 0) options->state = GDN_BF16;
}
