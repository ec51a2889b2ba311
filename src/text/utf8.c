#include "text/utf8.h"

enum utf8_kind utf8_head(const unsigned char *at, size_t len, size_t *n)
{
    unsigned char head = at[0], low = 0x80, high = 0xBF;
    size_t want;
    *n = 1;
    if (head < 0x80) return UTF8_GOOD;
    if (head < 0xC2 || head > 0xF4) return UTF8_BAD;
    want = head < 0xE0 ? 2 : head < 0xF0 ? 3 : 4;
    /* Overlong forms, surrogates and what lies beyond U+10FFFF show in the second byte. */
    if (head == 0xE0) low = 0xA0;
    if (head == 0xED) high = 0x9F;
    if (head == 0xF0) low = 0x90;
    if (head == 0xF4) high = 0x8F;
    for (size_t i = 1; i < want; i++) {
        *n = i;
        if (i == len) return UTF8_CUT;
        if (at[i] < low || at[i] > high) return UTF8_BAD;
        low = 0x80;
        high = 0xBF;
    }
    *n = want;
    return UTF8_GOOD;
}

size_t utf8_good_len(const char *text, size_t len)
{
    const unsigned char *at = (const unsigned char *)text;
    size_t i = 0, n;
    while (i < len) {
        if (len - i >= 8 && !(bytes_u64(at + i) & UINT64_C(0x8080808080808080))) {
            i += 8;
            continue;
        }
        if (utf8_head(at + i, len - i, &n) != UTF8_GOOD) break;
        i += n;
    }
    return i;
}

uint32_t utf8_read(const unsigned char *at, size_t *n)
{
    uint32_t c = at[0];
    if (c < 0x80) {
        *n = 1;
        return c;
    }
    *n = c < 0xE0 ? 2 : c < 0xF0 ? 3 : 4;
    c &= 0xFFu >> (*n + 1);
    for (size_t i = 1; i < *n; i++) c = c << 6 | (at[i] & 0x3Fu);
    return c;
}

void utf8_add_repaired(struct bytes *out, const char *text, size_t len)
{
    while (len > 0) {
        size_t n = utf8_good_len(text, len);
        bytes_add(out, text, n);
        text += n;
        len -= n;
        if (len == 0) return;
        utf8_head((const unsigned char *)text, len, &n);
        bytes_add_text(out, UTF8_REPLACEMENT);
        text += n;
        len -= n;
    }
}

size_t utf8_put(char out[4], uint32_t c)
{
    if (c < 0x80) {
        out[0] = (char)c;
        return 1;
    }
    const size_t n = c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
    for (size_t i = n - 1; i > 0; i--, c >>= 6) out[i] = (char)(0x80 | (c & 0x3F));
    out[0] = (char)(0xFFu << (8 - n) | c);
    return n;
}

bool utf8_is_space(uint32_t c)
{
    return (c >= 0x09 && c <= 0x0D) || (c >= 0x1C && c <= 0x20) || c == 0x85 || c == 0xA0 ||
           c == 0x1680 || (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 ||
           c == 0x202F || c == 0x205F || c == 0x3000;
}

size_t utf8_space_head(const char *text, size_t len)
{
    size_t at = 0, n;
    while (at < len && utf8_is_space(utf8_read((const unsigned char *)text + at, &n))) at += n;
    return at;
}

size_t utf8_trim_end(const char *text, size_t len)
{
    while (len > 0) {
        size_t head = len - 1, n;
        while (head > 0 && ((unsigned char)text[head] & 0xC0) == 0x80) head--;
        if (!utf8_is_space(utf8_read((const unsigned char *)text + head, &n))) break;
        len = head;
    }
    return len;
}
