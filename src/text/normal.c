#include "text/normal.h"

#include <utf8proc.h>

#include "base/checked.h"
#include "base/memory.h"
#include "text/utf8.h"

enum { DECOMPOSED_MAX = 8, SHORT_RUN = 16 };

/* Wide: all marks and all jamo that join leftward are left out, wanted or not, and so is all that
 * has a canonical decomposition but for a few blocks, common in text, whose letters are whole.
 * tests/text/normal.c holds each code point against utf8proc. */
bool normal_is_plain(uint32_t c)
{
    if (c < 0x300) return true;
    if (c >= 0x400 && c < 0x530) return c < 0x482 || c >= 0x48A;
    if (c >= 0x3041 && c < 0xA000) return c != 0x3099 && c != 0x309A;
    if (c >= 0xAC00 && c < 0xD7A4) return true;
    if (c >= 0x1EA0 && c < 0x1EFA) return true;
    if (c >= 0x1160 && c < 0x1200) return false;
    const utf8proc_property_t *is = utf8proc_get_property((utf8proc_int32_t)c);
    return is->category != UTF8PROC_CATEGORY_MN && is->category != UTF8PROC_CATEGORY_MC &&
           is->category != UTF8PROC_CATEGORY_ME &&
           (is->decomp_seqindex == UINT16_MAX || is->decomp_type != 0);
}

bool normal_is_printable(uint32_t c)
{
    if (c < 0x7F) return c >= 0x20;
    switch (utf8proc_category((utf8proc_int32_t)c)) {
    case UTF8PROC_CATEGORY_CN:
    case UTF8PROC_CATEGORY_CC:
    case UTF8PROC_CATEGORY_CF:
    case UTF8PROC_CATEGORY_CS:
    case UTF8PROC_CATEGORY_CO:
    case UTF8PROC_CATEGORY_ZS:
    case UTF8PROC_CATEGORY_ZL:
    case UTF8PROC_CATEGORY_ZP: return false;
    default: return true;
    }
}

/* From `at`, the first code point that is not plain, or len; *last gets where the plain one before
 * it begins (untouched when there is none). */
static size_t plain_end(const char *text, size_t len, size_t at, size_t *last)
{
    const unsigned char *p = (const unsigned char *)text;
    size_t n;
    while (at < len) {
        if (len - at >= 8 && !(bytes_u64(p + at) & UINT64_C(0x8080808080808080))) {
            at += 8;
            *last = at - 1;
            continue;
        }
        if (!normal_is_plain(utf8_read(p + at, &n))) return at;
        *last = at;
        at += n;
    }
    return len;
}

static unsigned class_of(utf8proc_int32_t c)
{
    return (unsigned)utf8proc_get_property(c)->combining_class;
}

/* Stable by combining class. Not utf8proc's own ordering, which is quadratic in a run of marks. */
static bool order_run(utf8proc_int32_t *run, size_t count)
{
    if (count <= SHORT_RUN) {
        for (size_t i = 1; i < count; i++) {
            utf8proc_int32_t c = run[i];
            size_t j = i;
            for (; j > 0 && class_of(run[j - 1]) > class_of(c); j--) run[j] = run[j - 1];
            run[j] = c;
        }
        return true;
    }
    size_t begin[257] = {0};
    utf8proc_int32_t *copy = mem_take_array(count, sizeof *copy);
    if (!copy) return false;
    memcpy(copy, run, count * sizeof *run);
    for (size_t i = 0; i < count; i++) begin[(class_of(copy[i]) & 255) + 1]++;
    for (size_t i = 0; i < 256; i++) begin[i + 1] += begin[i];
    for (size_t i = 0; i < count; i++) run[begin[class_of(copy[i]) & 255]++] = copy[i];
    mem_give(copy);
    return true;
}

static bool order_marks(utf8proc_int32_t *at, size_t count)
{
    for (size_t i = 0; i < count;) {
        size_t end = i;
        while (end < count && class_of(at[end]) != 0) end++;
        if (end > i + 1 && !order_run(at + i, end - i)) return false;
        i = end > i ? end : i + 1;
    }
    return true;
}

/* Appends NFC of a stretch that begins and ends where text may be cut. */
static bool compose(const char *text, size_t len, struct bytes *out)
{
    const int options = UTF8PROC_STABLE | UTF8PROC_COMPOSE;
    utf8proc_int32_t small[256], *points = small;
    size_t room, count = 0, n;
    /* A code point of two bytes decomposes into at most three, one of three or four into four. */
    if (!checked_mul(len, 2, &room)) return false;
    room += DECOMPOSED_MAX;
    if (room > sizeof small / sizeof *small && !(points = mem_take_array(room, sizeof *points)))
        return false;
    bool good = true;
    for (size_t i = 0; i < len && good; i += n) {
        utf8proc_int32_t c = (utf8proc_int32_t)utf8_read((const unsigned char *)text + i, &n);
        utf8proc_ssize_t made = utf8proc_decompose_char(
            c, points + count, (utf8proc_ssize_t)(room - count), options, NULL);
        good = made > 0 && (size_t)made <= room - count;
        if (good) count += (size_t)made;
    }
    good = good && order_marks(points, count);
    if (good) {
        utf8proc_ssize_t left =
            utf8proc_normalize_utf32(points, (utf8proc_ssize_t)count, options);
        for (utf8proc_ssize_t i = 0; i < left; i++) {
            utf8proc_uint8_t bytes[4];
            bytes_add(out, bytes, (size_t)utf8proc_encode_char(points[i], bytes));
        }
    }
    if (points != small) mem_give(points);
    return good && !out->failed;
}

bool normal_nfc(const char **text, size_t *len, struct bytes *room)
{
    const char *from = *text;
    size_t done = 0, last = 0, at = plain_end(from, *len, 0, &last), n;
    if (at == *len) return true;
    room->len = 0;
    while (at < *len) {
        /* A stretch: from the last plain code point, which a mark may join, to the next one. */
        bytes_add(room, from + done, last - done);
        done = last;
        while (at < *len) {
            if (normal_is_plain(utf8_read((const unsigned char *)from + at, &n))) break;
            at += n;
        }
        if (!compose(from + done, at - done, room)) return false;
        done = last = at;
        at = plain_end(from, *len, at, &last);
    }
    bytes_add(room, from + done, *len - done);
    if (room->failed) return false;
    *text = room->at;
    *len = room->len;
    return true;
}
