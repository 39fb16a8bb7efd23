#include <string.h>

#include <utf8proc.h>

#include "text_priv.h"

size_t tsr_text_count(const char *s, size_t n)
{
    size_t count = 0;
    for (size_t at = 0; at < n; count++) {
        unsigned width;
        tsr_text_char(s + at, n - at, &width);
        at += width;
    }
    return count;
}

static utf8proc_category_t category(uint32_t c)
{
    return c >= 0x110000u ? UTF8PROC_CATEGORY_CN : utf8proc_category((int32_t)c);
}

bool tsr_text_is_space(uint32_t c)
{
    if (c < 0x80)
        return (c >= 9 && c <= 13) || (c >= 0x1C && c <= 0x20);
    if (c == 0x85)
        return true;
    utf8proc_category_t kind = category(c);
    return kind == UTF8PROC_CATEGORY_ZS || kind == UTF8PROC_CATEGORY_ZL ||
           kind == UTF8PROC_CATEGORY_ZP;
}

bool tsr_text_is_white_space(uint32_t c)
{
    return tsr_text_is_space(c) && !(c >= 0x1C && c <= 0x1F);
}

bool tsr_text_is_mark(uint32_t c)
{
    utf8proc_category_t kind = category(c);
    return kind == UTF8PROC_CATEGORY_MN || kind == UTF8PROC_CATEGORY_MC ||
           kind == UTF8PROC_CATEGORY_ME;
}

bool tsr_text_is_alpha(uint32_t c)
{
    if (c < 0x80)
        return (c | 32) >= 'a' && (c | 32) <= 'z';
    utf8proc_category_t kind = category(c);
    return kind == UTF8PROC_CATEGORY_LU || kind == UTF8PROC_CATEGORY_LL ||
           kind == UTF8PROC_CATEGORY_LT || kind == UTF8PROC_CATEGORY_LM ||
           kind == UTF8PROC_CATEGORY_LO;
}

bool tsr_text_is_decimal(uint32_t c)
{
    return c < 0x80 ? c >= '0' && c <= '9' : category(c) == UTF8PROC_CATEGORY_ND;
}

bool tsr_text_is_numeric(uint32_t c)
{
    utf8proc_category_t kind = category(c);
    return kind == UTF8PROC_CATEGORY_ND || kind == UTF8PROC_CATEGORY_NL ||
           kind == UTF8PROC_CATEGORY_NO;
}

bool tsr_text_is_word(uint32_t c)
{
    return c == '_' || tsr_text_is_alpha(c) || tsr_text_is_numeric(c);
}

bool tsr_text_is_upper(uint32_t c)
{
    return c < 0x80 ? c >= 'A' && c <= 'Z' : category(c) == UTF8PROC_CATEGORY_LU;
}

bool tsr_text_is_lower(uint32_t c)
{
    return c < 0x80 ? c >= 'a' && c <= 'z' : category(c) == UTF8PROC_CATEGORY_LL;
}

bool tsr_text_is_printable(uint32_t c)
{
    if (c < 0x80)
        return c >= 0x20 && c < 0x7F;
    switch (category(c)) {
    case UTF8PROC_CATEGORY_CN:
    case UTF8PROC_CATEGORY_CC:
    case UTF8PROC_CATEGORY_CF:
    case UTF8PROC_CATEGORY_CS:
    case UTF8PROC_CATEGORY_CO:
    case UTF8PROC_CATEGORY_ZS:
    case UTF8PROC_CATEGORY_ZL:
    case UTF8PROC_CATEGORY_ZP:
        return false;
    default:
        return true;
    }
}

/* The unconditional upper-case mappings of Unicode's SpecialCasing.txt to several characters that
 * occur in living orthographies; title case differs in the letters behind the first. */
static const uint32_t SEVERAL[][4] = {
    {0xDF, 'S', 'S', 0},      {0x149, 0x2BC, 'N', 0},  {0x1F0, 'J', 0x30C, 0},
    {0x587, 0x535, 0x552, 0}, {0xFB00, 'F', 'F', 0},   {0xFB01, 'F', 'I', 0},
    {0xFB02, 'F', 'L', 0},    {0xFB03, 'F', 'F', 'I'}, {0xFB04, 'F', 'F', 'L'},
    {0xFB05, 'S', 'T', 0},    {0xFB06, 'S', 'T', 0},
};

unsigned tsr_text_upper(uint32_t c, uint32_t *out)
{
    for (size_t i = 0; c >= 0x80 && i < sizeof(SEVERAL) / sizeof(SEVERAL[0]); i++) {
        if (SEVERAL[i][0] != c)
            continue;
        memcpy(out, &SEVERAL[i][1], 3 * sizeof(*out));
        return out[2] ? 3 : 2;
    }
    out[0] = c >= 0x110000u ? c : (uint32_t)utf8proc_toupper((int32_t)c);
    return 1;
}

unsigned tsr_text_lower(uint32_t c, uint32_t *out)
{
    if (c == 0x130) {
        out[0] = 'i';
        out[1] = 0x307;
        return 2;
    }
    out[0] = c >= 0x110000u ? c : (uint32_t)utf8proc_tolower((int32_t)c);
    return 1;
}

unsigned tsr_text_title(uint32_t c, uint32_t *out)
{
    unsigned n = tsr_text_upper(c, out);
    if (n == 1) {
        out[0] = c >= 0x110000u ? c : (uint32_t)utf8proc_totitle((int32_t)c);
        return 1;
    }
    for (unsigned i = 1; i < n; i++)
        out[i] = (uint32_t)utf8proc_tolower((int32_t)out[i]);
    return n;
}
