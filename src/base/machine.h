/* machine.h: what memory the system lends this process, by its own account (Linux: /proc, cgroups,
 * limits). */
#ifndef BASE_MACHINE_H
#define BASE_MACHINE_H

#include <stdint.h>

struct machine_memory {
    int64_t left;    /* bytes that can still be used without others being pushed out to disk;
                        files in its cache count as free. INT64_MAX: the system does not tell */
    int64_t address; /* bytes of address space that may still be taken; INT64_MAX: no limit */
    const char *by;  /* what sets `left`, for a sentence: "the machine has" */
};
struct machine_memory machine_memory(void);

/* The most bytes of memory this process has had at once, its mapped files included; 0: unknown. */
int64_t machine_peak_bytes(void);

/* Test hook: the folder in which proc/ and sys/ are looked for; NULL: "/". It must stay. */
void machine_set_root(const char *root);

#endif
