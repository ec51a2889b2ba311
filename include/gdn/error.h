/* error.h: what went wrong, in a code and a sentence. Shared by every public header. */
#ifndef GDN_ERROR_H
#define GDN_ERROR_H

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define GDN_API __attribute__((visibility("default")))
#else
#define GDN_API
#endif

/* Stable values; the command line exits with them. */
enum gdn_status {
    GDN_OK = 0,
    GDN_ERR_INTERNAL = 1,    /* a bug in gdn: please report */
    GDN_ERR_USAGE = 2,       /* an argument that cannot be meant */
    GDN_ERR_INPUT = 3,       /* a file or text that is damaged or inconsistent */
    GDN_ERR_UNSUPPORTED = 4, /* valid, but not something this build does */
    GDN_ERR_MEMORY = 5,      /* host or device memory does not suffice */
    GDN_ERR_IO = 6,          /* reading or writing failed */
    GDN_ERR_DEVICE = 7,      /* the accelerator failed */
    GDN_ERR_REFUSED = 8,     /* refused for safety: permission, lock, address */
    GDN_ERR_DIVERGED = 9     /* training left the finite numbers */
};

/* Filled by the first failing call; the text says what is wrong, where, and what was expected. */
struct gdn_error {
    enum gdn_status status;
    char text[500];
};

#ifdef __cplusplus
}
#endif
#endif
