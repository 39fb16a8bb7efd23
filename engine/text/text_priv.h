/* Characters of text that may not be UTF-8, as the template interpreter sees them: code points,
 * with an invalid byte b as the single code 0x110000 + b. */
#ifndef TSR_TEXT_TEXT_PRIV_H
#define TSR_TEXT_TEXT_PRIV_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "utf8_priv.h"

/* The character at s[0], n > 0, and its length in bytes. */
static inline uint32_t tsr_text_char(const char *s, size_t n, unsigned *width)
{
    const uint8_t *p = (const uint8_t *)s;
    if (p[0] < 0x80) {
        *width = 1;
        return p[0];
    }
    if (tsr_utf8_step(p, n) > 0)
        return tsr_utf8_get(p, width);
    *width = 1;
    return 0x110000u + p[0];
}

/* The character that ends at s[n], n > 0. */
static inline uint32_t tsr_text_char_before(const char *s, size_t n, unsigned *width)
{
    for (unsigned k = 1; k <= 4 && k <= n; k++) {
        uint8_t b = (uint8_t)s[n - k];
        if ((b & 0xC0) == 0x80)
            continue;
        uint32_t c = tsr_text_char(s + n - k, k, width);
        if (*width == k)
            return c;
        break;
    }
    *width = 1;
    return 0x110000u + (uint8_t)s[n - 1];
}

/* Writes c as it was read; the number of bytes. out: [4] */
static inline unsigned tsr_text_put(uint32_t c, char *out)
{
    if (c >= 0x110000u) {
        out[0] = (char)(c - 0x110000u);
        return 1;
    }
    return tsr_utf8_put(c, out);
}

/* The first place of the bytes c[n], n <= 4, in text[len], or NULL. */
static inline const char *tsr_text_find(const char *text, size_t len, const char *c, size_t n)
{
    const char *end = text + len, *at = text;
    while ((size_t)(end - at) >= n && (at = memchr(at, c[0], (size_t)(end - at) - n + 1))) {
        if (memcmp(at, c, n) == 0)
            return at;
        at++;
    }
    return NULL;
}

/* Number of characters. */
size_t tsr_text_count(const char *s, size_t n);

/* Python's str.isspace() of one character. */
bool tsr_text_is_space(uint32_t c);

/* The White_Space property, Rust's char::is_whitespace(). */
bool tsr_text_is_white_space(uint32_t c);

/* A combining mark: general category M. */
bool tsr_text_is_mark(uint32_t c);

/* \w of Python's regular expressions: letter, digit, number or underscore. */
bool tsr_text_is_word(uint32_t c);

bool tsr_text_is_alpha(uint32_t c);
bool tsr_text_is_decimal(uint32_t c);
bool tsr_text_is_numeric(uint32_t c);
bool tsr_text_is_upper(uint32_t c);
bool tsr_text_is_lower(uint32_t c);
bool tsr_text_is_printable(uint32_t c);

/* Full case mappings where there are several characters ("\u00DF" becomes "SS"): up to 3 into out,
 * their number. */
unsigned tsr_text_upper(uint32_t c, uint32_t *out);
unsigned tsr_text_lower(uint32_t c, uint32_t *out);
unsigned tsr_text_title(uint32_t c, uint32_t *out);

#endif
