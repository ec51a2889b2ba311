/* replay.c: runs a fuzz target over the files and folders it is given, once each. Stands where
 * libFuzzer would, so that a corpus is a plain test in every build. */
#include <dirent.h>
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int fail(const char *path, const char *what)
{
    fprintf(stderr, "corpus: %s: %s\n", path, what);
    return -1;
}

/* The bytes lie in a block of exactly their size: one read past the end is seen by a sanitizer. */
static int replay_file(const char *path, size_t size)
{
    FILE *file = fopen(path, "rb");
    if (!file) return fail(path, strerror(errno));
    uint8_t *data = malloc(size ? size : 1);
    size_t got = data ? fread(data, 1, size, file) : 0;
    fclose(file);
    if (got == size) LLVMFuzzerTestOneInput(data, size);
    free(data);
    return got == size ? 1 : fail(path, "cannot be read");
}

/* Returns how many inputs ran, or -1. */
static int replay(const char *path)
{
    struct stat status;
    if (stat(path, &status) != 0) return fail(path, strerror(errno));
    if (!S_ISDIR(status.st_mode)) return replay_file(path, (size_t)status.st_size);

    DIR *folder = opendir(path);
    if (!folder) return fail(path, strerror(errno));
    int total = 0;
    for (struct dirent *entry; total >= 0 && (entry = readdir(folder)) != NULL;) {
        if (entry->d_name[0] == '.') continue;
        char child[4096];
        int length = snprintf(child, sizeof child, "%s/%s", path, entry->d_name);
        int ran = (size_t)length < sizeof child ? replay(child) : fail(path, "name too long");
        total = ran < 0 ? -1 : total + ran;
    }
    closedir(folder);
    return total;
}

int main(int argc, char **argv)
{
    int total = 0;
    for (int i = 1; i < argc; i++) {
        int ran = replay(argv[i]);
        if (ran == 0) fail(argv[i], "no inputs in this corpus");
        if (ran <= 0) return 1;
        total += ran;
    }
    printf("%d inputs\n", total);
    return total > 0 ? 0 : 1;
}
