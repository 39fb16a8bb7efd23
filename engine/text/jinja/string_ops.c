/* What methods and filters of strings have in common. Marks go with the characters; what a
 * character becomes has its mark. */
#include <errno.h>
#include <string.h>

#include "run_priv.h"

static bool is_cased(uint32_t c)
{
    return tsr_text_is_upper(c) || tsr_text_is_lower(c);
}

/* Greek sigma is written otherwise at the end of a word (Unicode 15, table 3-17, Final_Sigma). */
static bool is_final_sigma(const struct tsr_jstr *s, size_t at)
{
    unsigned width;
    bool before = at > 0 && is_cased(tsr_text_char_before(s->text, at, &width));
    size_t next = at + 2;
    bool after = next < s->len && is_cased(tsr_text_char(s->text + next, s->len - next, &width));
    return before && !after;
}

struct tsr_jvalue tsr_j_change_case(struct tsr_jrun *r, const struct tsr_jstr *s,
                                    enum tsr_jcase how)
{
    struct tsr_jbuild b;
    bool start = true; /* of the text, or of a word for title() */
    tsr_jb_begin(r, &b);
    for (size_t at = 0; at < s->len;) {
        unsigned width;
        uint32_t c = tsr_text_char(s->text + at, s->len - at, &width), out[3];
        enum tsr_jcase now = how;
        if (how == TSR_JC_TITLE || how == TSR_JC_CAPITALIZE)
            now = start ? TSR_JC_TITLE : TSR_JC_LOWER;
        else if (how == TSR_JC_SWAP)
            now = tsr_text_is_upper(c) ? TSR_JC_LOWER : TSR_JC_UPPER;
        unsigned n = now == TSR_JC_UPPER   ? tsr_text_upper(c, out)
                     : now == TSR_JC_TITLE ? tsr_text_title(c, out)
                                           : tsr_text_lower(c, out);
        if (now == TSR_JC_LOWER && c == 0x3A3 && is_final_sigma(s, at))
            out[0] = 0x3C2;
        for (unsigned i = 0; i < n; i++)
            tsr_jb_char(r, &b, out[i], tsr_j_str_trusted(s, at));
        start = how == TSR_JC_TITLE ? !is_cased(c) : false;
        at += width;
    }
    return tsr_jb_end(r, &b);
}

static bool in_set(uint32_t c, const struct tsr_jstr *chars)
{
    if (!chars)
        return tsr_text_is_space(c);
    for (size_t at = 0; at < chars->len;) {
        unsigned width;
        if (tsr_text_char(chars->text + at, chars->len - at, &width) == c)
            return true;
        at += width;
    }
    return false;
}

struct tsr_jvalue tsr_j_strip(struct tsr_jrun *r, const struct tsr_jstr *s,
                              const struct tsr_jstr *chars, bool left, bool right)
{
    size_t from = 0, to = s->len;
    unsigned width;
    uint64_t cost = chars ? chars->len / 8 + 1 : 1;
    while (left && from < to && in_set(tsr_text_char(s->text + from, to - from, &width), chars)) {
        tsr_j_charge(r, cost);
        from += width;
    }
    while (right && to > from &&
           in_set(tsr_text_char_before(s->text + from, to - from, &width), chars)) {
        tsr_j_charge(r, cost);
        to -= width;
    }
    return tsr_j_sub(r, s, from, to);
}

struct tsr_jvalue tsr_j_replace(struct tsr_jrun *r, const struct tsr_jstr *s,
                                const struct tsr_jstr *from, const struct tsr_jstr *to,
                                int64_t count)
{
    struct tsr_jbuild b;
    size_t at = 0;
    tsr_jb_begin(r, &b);
    while (count != 0 && at <= s->len) {
        size_t found = tsr_j_str_find(r, s, from, at);
        if (found == SIZE_MAX)
            break;
        tsr_jb_sub(r, &b, s, at, found);
        tsr_jb_str(r, &b, to);
        at = found + from->len;
        count -= count > 0;
        if (from->len == 0) { /* before every character, and at the end */
            if (at == s->len) {
                return tsr_jb_end(r, &b);
            }
            unsigned width;
            tsr_text_char(s->text + at, s->len - at, &width);
            tsr_jb_sub(r, &b, s, at, at + width);
            at += width;
        }
    }
    if (at < s->len)
        tsr_jb_sub(r, &b, s, at, s->len);
    return tsr_jb_end(r, &b);
}

static bool is_line_break(uint32_t c)
{
    return (c >= 0x0A && c <= 0x0D) || (c >= 0x1C && c <= 0x1E) || c == 0x85 || c == 0x2028 ||
           c == 0x2029;
}

struct tsr_jvalue tsr_j_split_lines(struct tsr_jrun *r, const struct tsr_jstr *s, bool keep)
{
    struct tsr_jvalue list = tsr_j_seq(r, TSR_JS_LIST, 0);
    size_t from = 0;
    for (size_t at = 0; at < s->len;) {
        unsigned width;
        uint32_t c = tsr_text_char(s->text + at, s->len - at, &width);
        if (!is_line_break(c)) {
            at += width;
            continue;
        }
        size_t end = at + width;
        if (c == '\r' && end < s->len && s->text[end] == '\n')
            end++;
        tsr_j_append(r, list.seq, tsr_j_sub(r, s, from, keep ? end : at));
        from = at = end;
    }
    if (from < s->len)
        tsr_j_append(r, list.seq, tsr_j_sub(r, s, from, s->len));
    tsr_j_charge(r, s->len / 16);
    return list;
}

struct tsr_jvalue tsr_j_pad(struct tsr_jrun *r, const struct tsr_jstr *s, int64_t width,
                            const struct tsr_jstr *fill, bool left, bool right)
{
    int64_t n = (int64_t)tsr_text_count(s->text, s->len), more = width > n ? width - n : 0;
    int64_t before = left && right ? more / 2 + (more & width & 1) : left ? more : 0;
    struct tsr_jbuild b;
    if (tsr_text_count(fill->text, fill->len) != 1)
        tsr_j_fail(r, -EINVAL, "The fill character must be exactly one character long");
    tsr_jb_begin(r, &b);
    for (int64_t i = 0; i < before; i++)
        tsr_jb_str(r, &b, fill);
    tsr_jb_str(r, &b, s);
    for (int64_t i = before; i < more; i++)
        tsr_jb_str(r, &b, fill);
    return tsr_jb_end(r, &b);
}
