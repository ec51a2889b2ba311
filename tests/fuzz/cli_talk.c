/* cli_talk.c: files of conversations. What is taken is printed as a list that reads back the same;
 * what is refused leaves nothing and has a sentence; taking turns back ends without questions. */
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "base/check.h"
#include "cli/talk.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void print(const struct talk *talk, struct bytes *out)
{
    talk_print(talk, out);
    GDN_CHECK(!out->failed, "no memory to print");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct talk talk = {0}, again = {0}, copy = {0};
    struct bytes one = {0}, two = {0};
    struct gdn_error err = {0};
    if (talk_parse(&talk, (const char *)data, size, "talk", &err) != GDN_OK) {
        GDN_CHECK(talk.count == 0 && !talk.message && strncmp(err.text, "talk: ", 6) == 0,
                  "a refusal: %s", err.text);
        return 0;
    }
    print(&talk, &one);
    GDN_CHECK(talk_parse(&again, one.at, one.len, "again", &err) == GDN_OK, "%s", err.text);
    GDN_CHECK(talk_set_system(&again, "first", &err) == GDN_OK || talk.count == TALK_MESSAGES,
              "%s", err.text);
    GDN_CHECK(talk_copy(&copy, &talk, &err) == GDN_OK, "%s", err.text);
    print(&copy, &two);
    GDN_CHECK(one.len == two.len && memcmp(one.at, two.at, one.len) == 0, "a copy is another");
    const int questions = talk_questions(&talk);
    GDN_CHECK(talk_questions(&again) == questions, "read again it has other questions");
    GDN_CHECK(talk_take_back(&copy, TALK_MESSAGES) == questions && talk_questions(&copy) == 0,
              "questions are left");
    bytes_free(&one);
    bytes_free(&two);
    talk_free(&talk);
    talk_free(&again);
    talk_free(&copy);
    return 0;
}
