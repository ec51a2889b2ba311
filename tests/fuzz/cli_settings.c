/* cli_settings.c: config files. What is taken is within its bounds; printed as a config file and
 * read again it is the same; what is refused has a sentence. */
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "base/check.h"
#include "cli/settings.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct values {
    bool on, off;
    int64_t count;
    double share;
    const char *text;
    int choice;
    struct option_list list;
};

static void describe(struct options *o, struct values *v)
{
    *o = (struct options){0};
    *v = (struct values){.count = -1, .share = -1};
    options_group(o, "All kinds");
    options_flag(o, "--on", &v->on, "");
    options_flag(o, "--off", &v->off, "");
    options_pair(o, "--on", "--off");
    options_integer(o, "-n", &v->count, 1, 1000, NULL, "");
    options_real(o, "--share", &v->share, 0, 1, NULL, "");
    options_text(o, "--text", &v->text, "TEXT", "");
    options_choice(o, "--choice", &v->choice, "one|two|three", NULL, "");
    options_list(o, "--item", &v->list, "TEXT", "");
    options_line_only(o);
    options_text(o, "--config", &v->text, "FILE", "");
}

static bool read_file(struct options *o, struct values *v, char *text, struct gdn_error *err)
{
    static const struct settings_names names = {
        .command = {"run", "chat"},
        .option = {"on", "off", "n", "share", "text", "choice", "item", "other"},
        .commands = 2, .options = 8};
    describe(o, v);
    return settings_parse(o, "run", &names, "config", text, err) == GDN_OK;
}

static bool same_text(const char *a, const char *b) { return a == b || (a && b && !strcmp(a, b)); }

static bool same_list(const struct option_list *a, const struct option_list *b)
{
    bool same = a->count == b->count;
    for (int i = 0; same && i < a->count; i++) same = same_text(a->item[i], b->item[i]);
    return same;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static char text[4096];
    struct options o;
    struct values v, again;
    struct gdn_error err = {0};
    if (size >= sizeof text) return 0;
    memcpy(text, data, size);
    text[size] = 0;
    if (!read_file(&o, &v, text, &err)) {
        GDN_CHECK(err.status == GDN_ERR_INPUT && strncmp(err.text, "config, line ", 13) == 0,
                  "a refusal without its place: %s", err.text);
        return 0;
    }
    GDN_CHECK(v.count == -1 || (v.count >= 1 && v.count <= 1000), "n out of bounds");
    GDN_CHECK(v.share == -1 || (v.share >= 0 && v.share <= 1), "share out of bounds");
    GDN_CHECK(v.choice >= 0 && v.choice <= 2, "choice out of bounds");
    GDN_CHECK(v.list.count >= 0 && v.list.count <= OPTION_ITEMS, "list out of bounds");
    struct bytes printed = {0};
    settings_print(&o, "run", &printed);
    GDN_CHECK(!printed.failed, "no memory to print");
    GDN_CHECK(read_file(&o, &again, printed.at, &err), "%s", err.text);
    GDN_CHECK(v.on == again.on && v.off == again.off && v.count == again.count &&
                  v.share == again.share && v.choice == again.choice &&
                  same_text(v.text, again.text) && same_list(&v.list, &again.list),
              "read again it is another");
    bytes_free(&printed);
    return 0;
}
