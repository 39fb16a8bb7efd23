#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <utf8proc.h>

#include "added_priv.h"
#include "text_priv.h"

int tsr_added_add(struct tsr_added *added, const struct tsr_added_token *token, struct tsr_err *err)
{
    if (token->len == 0 || token->len > TSR_ADDED_BYTES_MAX)
        return tsr_err_set(err, -EINVAL, "added token %u has %u bytes, not 1 to %d", token->id,
                           token->len, TSR_ADDED_BYTES_MAX);
    if (added->n == added->cap) {
        uint32_t cap = added->cap * 2 + 64;
        struct tsr_added_token *grown = realloc(added->tokens, cap * sizeof(*grown));
        if (!grown)
            return tsr_err_set(err, -ENOMEM, "no memory for %u added tokens", cap);
        added->tokens = grown;
        added->cap = cap;
    }
    char *text = malloc(token->len);
    if (!text)
        return tsr_err_set(err, -ENOMEM, "no memory for an added token of %u bytes", token->len);
    memcpy(text, token->text, token->len);
    added->tokens[added->n] = *token;
    added->tokens[added->n].order = added->n;
    added->tokens[added->n++].text = text;
    return 0;
}

static int compare(const void *a, const void *b)
{
    const struct tsr_added_token *x = a, *y = b;
    int order = memcmp(x->text, y->text, x->len < y->len ? x->len : y->len);
    if (order == 0)
        order = (x->len > y->len) - (x->len < y->len);
    return order ? order : (x->order > y->order) - (x->order < y->order);
}

void tsr_added_sort(struct tsr_added *added)
{
    if (added->n)
        qsort(added->tokens, added->n, sizeof(*added->tokens), compare);
    uint32_t kept = 0;
    for (uint32_t i = 0; i < added->n; i++) {
        struct tsr_added_token *last = kept ? &added->tokens[kept - 1] : NULL;
        if (last && last->len == added->tokens[i].len &&
            memcmp(last->text, added->tokens[i].text, last->len) == 0) {
            free(last->text);
            kept--;
        }
        added->tokens[kept++] = added->tokens[i];
    }
    added->n = kept;
    for (uint32_t i = 0; i < kept; i++)
        added->tokens[i].order = i;
    uint32_t at = 0;
    for (unsigned b = 0; b <= 256; b++) {
        while (at < added->n && (uint8_t)added->tokens[at].text[0] < b)
            at++;
        added->first[b] = at;
    }
}

void tsr_added_fini(struct tsr_added *added)
{
    for (uint32_t i = 0; i < added->n; i++)
        free(added->tokens[i].text);
    free(added->tokens);
    *added = (struct tsr_added){0};
}

/* \w of Rust's regular expressions: Alphabetic, marks, digits, connectors, joiners. */
static bool is_word(int32_t c)
{
    bool circled = (c >= 0x24B6 && c <= 0x24E9) || (c >= 0x1F130 && c <= 0x1F149) ||
                   (c >= 0x1F150 && c <= 0x1F169) || (c >= 0x1F170 && c <= 0x1F189);
    if (c == 0x200C || c == 0x200D || circled)
        return true;
    switch (utf8proc_category(c)) {
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LL:
    case UTF8PROC_CATEGORY_LT:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_LO:
    case UTF8PROC_CATEGORY_MN:
    case UTF8PROC_CATEGORY_MC:
    case UTF8PROC_CATEGORY_ME:
    case UTF8PROC_CATEGORY_ND:
    case UTF8PROC_CATEGORY_NL:
    case UTF8PROC_CATEGORY_PC:
        return true;
    default:
        return false;
    }
}

/* The character that begins at `at`, or -1 at the end and where there is no UTF-8. */
static int32_t char_at(const char *text, size_t len, size_t at, unsigned *width)
{
    const uint8_t *p = (const uint8_t *)text + at;
    if (at >= len || tsr_utf8_step(p, len - at) <= 0)
        return -1;
    return (int32_t)tsr_utf8_get(p, width);
}

/* The character that ends at `at`. */
static int32_t char_before(const char *text, size_t at, unsigned *width)
{
    for (unsigned n = 1; n <= 4 && n <= at; n++) {
        if (((uint8_t)text[at - n] & 0xC0) == 0x80)
            continue;
        int32_t c = char_at(text, at, at - n, width);
        return c >= 0 && *width == n ? c : -1;
    }
    return -1;
}

/* The longest acceptable token that begins at `at`. */
static const struct tsr_added_token *longest_at(const struct tsr_added *added, const char *text,
                                                size_t len, size_t at, struct tsr_trust *trust)
{
    uint8_t byte = (uint8_t)text[at];
    uint32_t low = added->first[byte], high = added->first[byte + 1u];
    const struct tsr_added_token *best = NULL;
    for (uint32_t depth = 1; low < high; depth++) {
        /* All of [low, high) share text[at, at + depth); the shortest is the first. */
        const struct tsr_added_token *token = &added->tokens[low];
        if (token->len == depth) {
            if (!token->guarded || tsr_trust_over(trust, at, at + depth))
                best = token;
            low++;
        }
        if (at + depth >= len)
            break;
        byte = (uint8_t)text[at + depth];
        uint32_t a = low, b = high; /* first with a byte not below */
        while (a < b) {
            uint32_t mid = a + (b - a) / 2;
            if ((uint8_t)added->tokens[mid].text[depth] < byte)
                a = mid + 1;
            else
                b = mid;
        }
        low = a;
        b = high;
        while (a < b) {
            uint32_t mid = a + (b - a) / 2;
            if ((uint8_t)added->tokens[mid].text[depth] <= byte)
                a = mid + 1;
            else
                b = mid;
        }
        high = a;
    }
    return best;
}

size_t tsr_added_prefix(const struct tsr_added *added, const char *text, size_t len)
{
    struct tsr_trust all = {0};
    const struct tsr_added_token *token =
        added->n && len ? longest_at(added, text, len, 0, &all) : NULL;
    return token ? token->len : 0;
}

bool tsr_added_find(const struct tsr_added *added, const char *text, size_t len, size_t from,
                    struct tsr_trust *trust, struct tsr_added_match *match)
{
    if (added->n == 0)
        return false;
    for (size_t at = from; at < len; at++) {
        uint8_t byte = (uint8_t)text[at];
        if (added->first[byte] == added->first[byte + 1u])
            continue;
        const struct tsr_added_token *token = longest_at(added, text, len, at, trust);
        if (!token)
            continue;
        size_t begin = at, end = at + token->len;
        unsigned width;
        int32_t c;
        if (token->single_word) {
            int32_t before = char_before(text, begin, &width);
            int32_t after = char_at(text, len, end, &width);
            if ((before >= 0 && is_word(before)) || (after >= 0 && is_word(after))) {
                at = end - 1;
                continue;
            }
        }
        while (token->lstrip && begin > from && (c = char_before(text, begin, &width)) >= 0 &&
               tsr_text_is_white_space((uint32_t)c))
            begin -= width;
        while (token->rstrip && (c = char_at(text, len, end, &width)) >= 0 &&
               tsr_text_is_white_space((uint32_t)c))
            end += width;
        *match = (struct tsr_added_match){.token = token, .begin = begin, .end = end};
        return true;
    }
    return false;
}
