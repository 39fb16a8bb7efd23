/* UTF-8 as this layer needs it: one decoder whose idea of "invalid" is shared by all. */
#ifndef TSR_TEXT_UTF8_PRIV_H
#define TSR_TEXT_UTF8_PRIV_H

#include <stddef.h>
#include <stdint.h>

enum { TSR_UTF8_UNFINISHED = 0 };

/* Looks at the first character of p[n], n > 0. Positive: a valid character of that many bytes.
 * Negative: -k, where the first k bytes are a maximal invalid part (Unicode 15, section 3.9, table
 * 3-8). TSR_UTF8_UNFINISHED: all n bytes are the beginning of a character. */
int tsr_utf8_step(const uint8_t *p, size_t n);

/* Number of leading bytes of p[n] that are valid UTF-8. */
size_t tsr_utf8_valid(const uint8_t *p, size_t n);

/* Decodes one character of valid UTF-8 at p; *len is its length. */
static inline uint32_t tsr_utf8_get(const uint8_t *p, unsigned *len)
{
    if (p[0] < 0x80) {
        *len = 1;
        return p[0];
    }
    if (p[0] < 0xE0) {
        *len = 2;
        return (uint32_t)(p[0] & 0x1F) << 6 | (p[1] & 0x3F);
    }
    if (p[0] < 0xF0) {
        *len = 3;
        return (uint32_t)(p[0] & 0x0F) << 12 | (uint32_t)(p[1] & 0x3F) << 6 | (p[2] & 0x3F);
    }
    *len = 4;
    return (uint32_t)(p[0] & 0x07) << 18 | (uint32_t)(p[1] & 0x3F) << 12 |
           (uint32_t)(p[2] & 0x3F) << 6 | (p[3] & 0x3F);
}

/* Writes code point c (a scalar value) to out [4]; the number of bytes. */
unsigned tsr_utf8_put(uint32_t c, char *out);

#endif
