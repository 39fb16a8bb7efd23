#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <utf8proc.h>

#include "normalize_priv.h"
#include "utf8_priv.h"

/* Below these, characters are what the form makes of them (UAX #15, quick check), unless a mark
 * follows. */
static uint32_t stable_below(enum tsr_normal_form form)
{
    switch (form) {
    case TSR_NORMAL_NFC:
        return 0x300;
    case TSR_NORMAL_NFD:
        return 0xC0;
    default:
        return 0xA0;
    }
}

static int reserve_text(struct tsr_normalize_scratch *s, size_t more)
{
    if (s->len + more <= s->cap)
        return 0;
    if (s->len + more > TSR_NORMALIZED_BYTES_MAX)
        return -E2BIG;
    size_t cap = (s->len + more) * 2 + 256;
    char *grown = realloc(s->text, cap);
    if (!grown)
        return -ENOMEM;
    s->text = grown;
    s->cap = cap;
    return 0;
}

void tsr_normalize_reset(struct tsr_normalize_scratch *s)
{
    s->len = 0;
    tsr_trust_reset(&s->trust);
}

int tsr_normalize_put(struct tsr_normalize_scratch *s, const char *bytes, size_t len, bool trusted)
{
    if (len == 0)
        return 0;
    int rc = reserve_text(s, len);
    if (rc < 0)
        return rc;
    memcpy(s->text + s->len, bytes, len);
    s->len += len;
    return tsr_trust_append(&s->trust, s->len, trusted);
}

int tsr_normalize_copy(struct tsr_normalize_scratch *s, const char *text, size_t at, size_t end,
                       struct tsr_trust *trust)
{
    if (at == end)
        return 0;
    int rc = reserve_text(s, end - at);
    if (rc < 0)
        return rc;
    memcpy(s->text + s->len, text + at, end - at);
    while (at < end) {
        tsr_trust_over(trust, at, at); /* moves trust->at */
        const struct tsr_trust_range *range = &trust->ranges[trust->at];
        size_t stop = range->end < end ? range->end : end;
        s->len += stop - at;
        if (tsr_trust_append(&s->trust, s->len, range->trusted) < 0)
            return -ENOMEM;
        at = stop;
    }
    return 0;
}

/* The canonical ordering algorithm (Unicode 15, section 3.11, D108 and D109): marks between
 * starters in a stable order by class. Counting, since a run may be as long as the text. */
static int order_marks(struct tsr_normalize_scratch *s)
{
    for (size_t i = 0; i < s->code_n;) {
        if (utf8proc_get_property(s->code[i])->combining_class == 0) {
            i++;
            continue;
        }
        size_t first = i, place[256] = {0};
        bool ordered = true;
        int last = 0;
        for (; i < s->code_n; i++) {
            int class = utf8proc_get_property(s->code[i])->combining_class;
            if (class == 0)
                break;
            place[class & 0xFF]++;
            ordered = ordered && class >= last;
            last = class;
        }
        if (ordered)
            continue;
        size_t n = i - first, sum = 0;
        if (s->sorted_cap < n) {
            int32_t *grown = realloc(s->sorted, 2 * n * sizeof(*grown));
            if (!grown)
                return -ENOMEM;
            s->sorted = grown;
            s->sorted_cap = 2 * n;
        }
        for (unsigned class = 0; class < 256; class ++) {
            size_t count = place[class];
            place[class] = sum;
            sum += count;
        }
        for (size_t k = first; k < i; k++)
            s->sorted[place[utf8proc_get_property(s->code[k])->combining_class & 0xFF]++] =
                s->code[k];
        memcpy(s->code + first, s->sorted, n * sizeof(*s->sorted));
    }
    return 0;
}

/* Appends the normal form of valid UTF-8. */
static int convert(struct tsr_normalize_scratch *s, enum tsr_normal_form form, const char *text,
                   size_t at, size_t end, struct tsr_trust *trust)
{
    bool compose = form == TSR_NORMAL_NFC || form == TSR_NORMAL_NFKC;
    bool compat = form == TSR_NORMAL_NFKC || form == TSR_NORMAL_NFKD;
    int options = UTF8PROC_STABLE | UTF8PROC_DECOMPOSE | (compat ? UTF8PROC_COMPAT : 0);
    bool trusted = tsr_trust_over(trust, at, end);
    s->code_n = 0;
    while (at < end) {
        if (s->code_n + 32 > s->code_cap) { /* no character becomes more than 18 */
            size_t cap = s->code_cap * 2 + 256;
            int32_t *grown = realloc(s->code, cap * sizeof(*grown));
            if (!grown)
                return -ENOMEM;
            s->code = grown;
            s->code_cap = cap;
        }
        unsigned width;
        int32_t c = (int32_t)tsr_utf8_get((const uint8_t *)text + at, &width);
        int boundclass = 0;
        ptrdiff_t n = utf8proc_decompose_char(c, s->code + s->code_n,
                                              (utf8proc_ssize_t)(s->code_cap - s->code_n),
                                              (utf8proc_option_t)options, &boundclass);
        if (n < 0 || (size_t)n > s->code_cap - s->code_n)
            s->code[s->code_n++] = c;
        else
            s->code_n += (size_t)n;
        at += width;
    }
    if (order_marks(s) < 0)
        return -ENOMEM;
    if (compose) {
        ptrdiff_t n =
            utf8proc_normalize_utf32(s->code, (utf8proc_ssize_t)s->code_n,
                                     (utf8proc_option_t)(UTF8PROC_STABLE | UTF8PROC_COMPOSE));
        if (n >= 0)
            s->code_n = (size_t)n;
    }
    int rc = reserve_text(s, s->code_n * 4);
    if (rc < 0)
        return rc;
    for (size_t i = 0; i < s->code_n; i++)
        s->len += tsr_utf8_put((uint32_t)s->code[i], s->text + s->len);
    return tsr_trust_append(&s->trust, s->len, trusted);
}

/* A stretch of at most one ASCII character and the others behind it: no ASCII character combines
 * with what is before it, so such stretches are normalized each by itself. */
static int stretch(struct tsr_normalize_scratch *s, enum tsr_normal_form form, const char *text,
                   size_t begin, size_t end, struct tsr_trust *trust)
{
    const uint8_t *p = (const uint8_t *)text;
    uint32_t below = stable_below(form);
    while (begin < end) {
        size_t valid = begin;
        bool stable = true;
        while (valid < end && tsr_utf8_step(p + valid, end - valid) > 0) {
            unsigned width;
            stable = tsr_utf8_get(p + valid, &width) < below && stable;
            valid += width;
        }
        int rc = 0;
        if (valid > begin)
            rc = stable ? tsr_normalize_copy(s, text, begin, valid, trust)
                        : convert(s, form, text, begin, valid, trust);
        size_t bad = valid;
        while (bad < end && tsr_utf8_step(p + bad, end - bad) <= 0)
            bad++;
        if (rc == 0 && bad > valid)
            rc = tsr_normalize_copy(s, text, valid, bad, trust);
        if (rc < 0)
            return rc;
        begin = bad;
    }
    return 0;
}

int tsr_normalize(struct tsr_normalize_scratch *scratch, enum tsr_normal_form form,
                  const char *text, size_t begin, size_t end, struct tsr_trust *trust)
{
    tsr_normalize_reset(scratch);
    const uint8_t *p = (const uint8_t *)text;
    while (begin < end) {
        size_t ascii = begin;
        while (ascii < end && p[ascii] < 0x80)
            ascii++;
        size_t stop = ascii;
        while (stop < end && p[stop] >= 0x80)
            stop++;
        if (stop > ascii && ascii > begin)
            ascii--; /* the marks that follow may combine with it */
        int rc = tsr_normalize_copy(scratch, text, begin, ascii, trust);
        if (rc == 0)
            rc = stretch(scratch, form, text, ascii, stop, trust);
        if (rc < 0)
            return rc;
        begin = stop;
    }
    return 0;
}

void tsr_normalize_scratch_fini(struct tsr_normalize_scratch *scratch)
{
    free(scratch->text);
    free(scratch->code);
    free(scratch->sorted);
    tsr_trust_fini(&scratch->trust);
    *scratch = (struct tsr_normalize_scratch){0};
}
