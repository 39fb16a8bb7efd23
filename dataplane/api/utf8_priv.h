/* UTF-8 (Unicode 15, table 3-7) as the reader and the writers of this layer need it. */
#ifndef TSR_API_UTF8_PRIV_H
#define TSR_API_UTF8_PRIV_H

#include <stddef.h>
#include <stdint.h>

/* What may follow a leading byte: `more` bytes, the first of them within [low, high], the others
 * within [0x80, 0xbf]. */
struct tsr_utf8 {
    uint8_t more;
    uint8_t low, high;
};

/* more: 0 for ASCII, 1 .. 3; UINT8_MAX where no character begins with this byte. */
static inline struct tsr_utf8 tsr_utf8_lead(uint8_t byte)
{
    struct tsr_utf8 u = {UINT8_MAX, 0x80, 0xbf};
    if (byte < 0x80) {
        u.more = 0;
    } else if (byte >= 0xc2 && byte <= 0xdf) {
        u.more = 1;
    } else if (byte >= 0xe0 && byte <= 0xef) {
        u.more = 2;
        u.low = byte == 0xe0 ? 0xa0 : 0x80;  /* no overlong forms */
        u.high = byte == 0xed ? 0x9f : 0xbf; /* no surrogates */
    } else if (byte >= 0xf0 && byte <= 0xf4) {
        u.more = 3;
        u.low = byte == 0xf0 ? 0x90 : 0x80;
        u.high = byte == 0xf4 ? 0x8f : 0xbf; /* none above U+10FFFF */
    }
    return u;
}

/* Looks at the first character of text[size], size > 0. Positive: a character of that many bytes.
 * Negative: -k, the first k bytes are a maximal part of an ill-formed or cut one. */
static inline int tsr_utf8_step(const char *text, size_t size)
{
    struct tsr_utf8 u = tsr_utf8_lead((uint8_t)text[0]);
    if (u.more == UINT8_MAX) {
        return -1;
    }
    for (int i = 1; i <= u.more; i++) {
        if ((size_t)i == size || (uint8_t)text[i] < u.low || (uint8_t)text[i] > u.high) {
            return -i;
        }
        u.low = 0x80;
        u.high = 0xbf;
    }
    return u.more + 1;
}

/* Writes the scalar value c to out[4]; the number of bytes. */
static inline size_t tsr_utf8_put(uint32_t c, char *out)
{
    static const uint8_t lead[] = {0, 0, 0xc0, 0xe0, 0xf0};
    size_t n = c < 0x80 ? 1 : c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
    for (size_t i = n - 1; i > 0; i--) {
        out[i] = (char)(0x80 | (c & 0x3f));
        c >>= 6;
    }
    out[0] = (char)(lead[n] | c);
    return n;
}

#endif
