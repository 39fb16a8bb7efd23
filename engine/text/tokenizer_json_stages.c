/* Normalizers, pre-tokenizers and decoders of tokenizer.json, as the `tokenizers` library of
 * Hugging Face runs them. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tokenizer_json_priv.h"
#include "utf8_priv.h"

enum { DEPTH_MAX = 4, FIXED_LENGTH_MAX = 1000 };

static bool is_type(const json_t *node, const char *type)
{
    return strcmp(tsr_json_type(node), type) == 0;
}

/* "pattern" of Replace and Split: {"String": text} or {"Regex": text}. */
static int read_pattern(const json_t *node, const json_t **text, bool *literal, struct tsr_err *err)
{
    const json_t *pattern = json_object_get(node, "pattern");
    const json_t *regex = json_object_get(pattern, "Regex");
    *literal = !json_is_string(regex);
    *text = *literal ? json_object_get(pattern, "String") : regex;
    if (!json_is_string(*text))
        return tsr_err_set(err, -EINVAL, "%s has neither Regex nor String", tsr_json_type(node));
    return 0;
}

static int read_replace(struct tsr_normalizer *normalizer, const json_t *node, struct tsr_err *err)
{
    struct tsr_normalizer_step *step = tsr_normalizer_add(normalizer, TSR_STEP_REPLACE, err);
    const json_t *content = json_object_get(node, "content"), *text;
    bool literal;
    if (!step)
        return -ENOTSUP;
    int rc = read_pattern(node, &text, &literal, err);
    if (rc < 0)
        return rc;
    if (!json_is_string(content))
        return tsr_err_set(err, -EINVAL, "normalizer Replace has no content");
    rc =
        tsr_normalizer_set_text(step, json_string_value(content), json_string_length(content), err);
    if (rc < 0)
        return rc;
    return tsr_normalizer_set_pattern(step, json_string_value(text), json_string_length(text),
                                      literal, err);
}

static int base64_digit(char c)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const char *found = c ? strchr(digits, c) : NULL;
    return found ? (int)(found - digits) : -1;
}

/* Decodes text[len] (RFC 4648, section 4) into out [3 * len / 4]; the number of bytes, or -1. */
static ptrdiff_t base64_decode(const char *text, size_t len, uint8_t *out)
{
    ptrdiff_t n = 0;
    uint32_t bits = 0;
    unsigned held = 0;
    while (len > 0 && text[len - 1] == '=')
        len--;
    for (size_t i = 0; i < len; i++) {
        int digit = base64_digit(text[i]);
        if (digit < 0)
            return -1;
        bits = bits << 6 | (uint32_t)digit;
        held += 6;
        if (held >= 8) {
            held -= 8;
            out[n++] = (uint8_t)(bits >> held);
        }
    }
    return n;
}

static int read_charsmap(struct tsr_normalizer *normalizer, const json_t *node, struct tsr_err *err)
{
    const json_t *text = json_object_get(node, "precompiled_charsmap");
    size_t len = json_string_length(text);
    if (len == 0)
        return 0;
    struct tsr_normalizer_step *step = tsr_normalizer_add(normalizer, TSR_STEP_CHARSMAP, err);
    if (!step)
        return -ENOTSUP;
    uint8_t *blob = malloc(len);
    if (!blob)
        return tsr_err_set(err, -ENOMEM, "no memory for a charsmap of %zu bytes", len);
    ptrdiff_t n = base64_decode(json_string_value(text), len, blob);
    int rc = n < 0 ? tsr_err_set(err, -EINVAL, "precompiled_charsmap is not in Base64")
                   : tsr_charsmap_init(&step->map, blob, (size_t)n, err);
    free(blob);
    return rc;
}

static int read_form(struct tsr_normalizer *normalizer, const json_t *node, struct tsr_err *err)
{
    static const struct {
        const char *name;
        enum tsr_normalizer_kind kind;
        enum tsr_normal_form form;
    } forms[] = {{"NFC", TSR_STEP_FORM, TSR_NORMAL_NFC},
                 {"NFD", TSR_STEP_FORM, TSR_NORMAL_NFD},
                 {"NFKC", TSR_STEP_FORM, TSR_NORMAL_NFKC},
                 {"NFKD", TSR_STEP_FORM, TSR_NORMAL_NFKD},
                 {"StripAccents", TSR_STEP_STRIP_ACCENTS, TSR_NORMAL_NONE},
                 {"Lowercase", TSR_STEP_LOWERCASE, TSR_NORMAL_NONE}};
    for (size_t i = 0; i < sizeof(forms) / sizeof(forms[0]); i++) {
        if (!is_type(node, forms[i].name))
            continue;
        struct tsr_normalizer_step *step = tsr_normalizer_add(normalizer, forms[i].kind, err);
        if (!step)
            return -ENOTSUP;
        step->form = forms[i].form;
        return 0;
    }
    return tsr_err_set(err, -ENOTSUP, "normalizer '%s' is not supported", tsr_json_type(node));
}

static int read_normalizer(struct tsr_normalizer *normalizer, const json_t *node, unsigned depth,
                           struct tsr_err *err)
{
    if (!node || json_is_null(node))
        return 0;
    if (is_type(node, "Sequence")) {
        const json_t *parts = json_object_get(node, "normalizers");
        int rc = depth < DEPTH_MAX
                     ? 0
                     : tsr_err_set(err, -ENOTSUP, "normalizer Sequences are nested too deep");
        for (size_t i = 0; rc == 0 && i < json_array_size(parts); i++)
            rc = read_normalizer(normalizer, json_array_get(parts, i), depth + 1, err);
        return rc;
    }
    if (is_type(node, "Replace"))
        return read_replace(normalizer, node, err);
    if (is_type(node, "Precompiled"))
        return read_charsmap(normalizer, node, err);
    if (is_type(node, "Prepend")) {
        const json_t *text = json_object_get(node, "prepend");
        struct tsr_normalizer_step *step = tsr_normalizer_add(normalizer, TSR_STEP_PREPEND, err);
        if (!step)
            return -ENOTSUP;
        if (!json_is_string(text))
            return tsr_err_set(err, -EINVAL, "normalizer Prepend has no text");
        return tsr_normalizer_set_text(step, json_string_value(text), json_string_length(text),
                                       err);
    }
    if (is_type(node, "Strip")) {
        struct tsr_normalizer_step *step = tsr_normalizer_add(normalizer, TSR_STEP_STRIP, err);
        if (!step)
            return -ENOTSUP;
        step->left = json_is_true(json_object_get(node, "strip_left"));
        step->right = json_is_true(json_object_get(node, "strip_right"));
        return 0;
    }
    return read_form(normalizer, node, err);
}

int tsr_json_read_normalizer(struct tsr_normalizer *normalizer, const json_t *node,
                             struct tsr_err *err)
{
    return read_normalizer(normalizer, node, 0, err);
}

static int read_behavior(const json_t *node, enum tsr_pretok_behavior *behavior,
                         struct tsr_err *err)
{
    static const char *const names[] = {"Isolated", "Removed", "MergedWithPrevious",
                                        "MergedWithNext", "Contiguous"};
    const char *name = json_string_value(json_object_get(node, "behavior"));
    for (unsigned i = 0; name && i < sizeof(names) / sizeof(names[0]); i++) {
        if (strcmp(name, names[i]) == 0) {
            *behavior = (enum tsr_pretok_behavior)i;
            return 0;
        }
    }
    return tsr_err_set(err, -EINVAL, "pre_tokenizer %s: behavior '%s' is unknown",
                       tsr_json_type(node), name ? name : "");
}

static int read_split(struct tsr_pretok *pretok, const json_t *node, struct tsr_err *err)
{
    const json_t *text;
    bool literal;
    enum tsr_pretok_behavior behavior;
    int rc = read_pattern(node, &text, &literal, err);
    if (rc == 0)
        rc = read_behavior(node, &behavior, err);
    if (rc < 0)
        return rc;
    return tsr_pretok_add_split(pretok, json_string_value(text), json_string_length(text), literal,
                                behavior, json_is_true(json_object_get(node, "invert")), err);
}

/* "prepend_scheme", in older files "add_prefix_space". */
static int read_scheme(const json_t *node, enum tsr_prefix_scheme *scheme, struct tsr_err *err)
{
    static const char *const names[] = {"never", "first", "always"};
    const json_t *old = json_object_get(node, "add_prefix_space");
    const char *name = json_string_value(json_object_get(node, "prepend_scheme"));
    *scheme = json_is_false(old) ? TSR_PREFIX_NEVER : TSR_PREFIX_ALWAYS;
    for (unsigned i = 0; name && i < sizeof(names) / sizeof(names[0]); i++) {
        if (strcmp(name, names[i]) == 0) {
            *scheme = (enum tsr_prefix_scheme)i;
            return 0;
        }
    }
    return name ? tsr_err_set(err, -EINVAL, "Metaspace: prepend_scheme '%s' is unknown", name) : 0;
}

static int read_metaspace(struct tsr_pretok *pretok, const json_t *node, struct tsr_err *err)
{
    const json_t *space = json_object_get(node, "replacement");
    enum tsr_prefix_scheme scheme;
    int rc = read_scheme(node, &scheme, err);
    if (rc < 0)
        return rc;
    return tsr_pretok_add_metaspace(pretok, json_string_value(space), json_string_length(space),
                                    !json_is_false(json_object_get(node, "split")), scheme, err);
}

static int read_byte_level(struct tsr_pretok *pretok, const json_t *node, struct tsr_err *err)
{
    int rc = 0;
    if (!json_is_false(json_object_get(node, "add_prefix_space")))
        rc = tsr_pretok_add_prefix_space(pretok, err);
    if (rc == 0 && !json_is_false(json_object_get(node, "use_regex")))
        rc = tsr_pretok_add_split(pretok, tsr_pretok_gpt2, strlen(tsr_pretok_gpt2), false,
                                  TSR_PRETOK_ISOLATED, false, err);
    return rc;
}

static int read_fixed_length(struct tsr_pretok *pretok, const json_t *node, struct tsr_err *err)
{
    char pattern[64];
    json_int_t length = json_integer_value(json_object_get(node, "length"));
    if (length < 1 || length > FIXED_LENGTH_MAX)
        return tsr_err_set(err, -ENOTSUP, "pre_tokenizer FixedLength: the length is not 1 to %d",
                           FIXED_LENGTH_MAX);
    int n = snprintf(pattern, sizeof(pattern), "[\\x{0}-\\x{10FFFF}]{1,%d}", (int)length);
    return tsr_pretok_add_split(pretok, pattern, (size_t)n, false, TSR_PRETOK_ISOLATED, false, err);
}

/* Those that are one regular expression, or two. */
static int read_known(struct tsr_pretok *pretok, const json_t *node, struct tsr_err *err)
{
    static const char punctuation[] = "[\\p{P}$+<=>^`|~]";
    /* Rust's \\w has the two joiners as well. */
    static const char words[] = "[\\w\\x{200C}\\x{200D}]+|[^\\w\\s\\x{200C}\\x{200D}]+";
    enum tsr_pretok_behavior behavior = TSR_PRETOK_ISOLATED;
    int rc = 0;
    if (is_type(node, "Digits")) {
        bool each = json_is_true(json_object_get(node, "individual_digits"));
        const char *pattern = each ? "\\p{N}" : "\\p{N}+";
        return tsr_pretok_add_split(pretok, pattern, strlen(pattern), false, behavior, false, err);
    }
    if (is_type(node, "Punctuation") || is_type(node, "BertPreTokenizer")) {
        if (json_object_get(node, "behavior"))
            rc = read_behavior(node, &behavior, err);
        if (rc == 0 && is_type(node, "BertPreTokenizer"))
            rc = tsr_pretok_add_split(pretok, "\\s", 2, false, TSR_PRETOK_REMOVED, false, err);
        return rc < 0 ? rc
                      : tsr_pretok_add_split(pretok, punctuation, strlen(punctuation), false,
                                             behavior, false, err);
    }
    if (is_type(node, "Whitespace"))
        return tsr_pretok_add_split(pretok, words, strlen(words), false, TSR_PRETOK_REMOVED, true,
                                    err);
    if (is_type(node, "WhitespaceSplit"))
        return tsr_pretok_add_split(pretok, "\\s", 2, false, TSR_PRETOK_REMOVED, false, err);
    if (is_type(node, "CharDelimiterSplit")) {
        const json_t *delimiter = json_object_get(node, "delimiter");
        if (json_string_length(delimiter) == 0)
            return tsr_err_set(err, -EINVAL, "pre_tokenizer CharDelimiterSplit: no delimiter");
        return tsr_pretok_add_split(pretok, json_string_value(delimiter),
                                    json_string_length(delimiter), true, TSR_PRETOK_REMOVED, false,
                                    err);
    }
    return tsr_err_set(err, -ENOTSUP, "pre_tokenizer '%s' is not supported", tsr_json_type(node));
}

static int read_pretok(struct tsr_pretok *pretok, const json_t *node, unsigned depth,
                       bool *byte_level, struct tsr_err *err)
{
    int rc = 0;
    if (!node || json_is_null(node))
        return 0;
    if (is_type(node, "Sequence")) {
        const json_t *parts = json_object_get(node, "pretokenizers");
        if (depth == DEPTH_MAX)
            return tsr_err_set(err, -ENOTSUP, "pre_tokenizer Sequences are nested too deep");
        for (size_t i = 0; rc == 0 && i < json_array_size(parts); i++)
            rc = read_pretok(pretok, json_array_get(parts, i), depth + 1, byte_level, err);
        return rc;
    }
    if (*byte_level)
        return tsr_err_set(err, -ENOTSUP, "pre_tokenizer '%s' behind ByteLevel is not supported",
                           tsr_json_type(node));
    if (is_type(node, "Split"))
        return read_split(pretok, node, err);
    if (is_type(node, "Metaspace"))
        return read_metaspace(pretok, node, err);
    if (is_type(node, "FixedLength"))
        return read_fixed_length(pretok, node, err);
    *byte_level = is_type(node, "ByteLevel");
    return *byte_level ? read_byte_level(pretok, node, err) : read_known(pretok, node, err);
}

int tsr_json_read_pretok(struct tsr_pretok *pretok, const json_t *node, bool *byte_level,
                         struct tsr_err *err)
{
    *byte_level = false;
    return read_pretok(pretok, node, 0, byte_level, err);
}

/* What is read of a decoder. */
struct decoding {
    struct tsr_decoder *decoder;
    struct tsr_vocab *vocab;
    bool byte_level;
    bool fused; /* behind a Fuse all tokens are one text */
};

/* Copies a short text into a step. */
static int set_short(char *out, size_t *out_len, size_t max, const json_t *text, const char *what,
                     struct tsr_err *err)
{
    size_t len = json_string_length(text);
    if (!json_is_string(text) || len > max)
        return tsr_err_set(err, -ENOTSUP, "decoder %s: its text is none of at most %zu bytes", what,
                           max);
    memcpy(out, json_string_value(text), len);
    *out_len = len;
    return 0;
}

static bool is_single(const json_t *text)
{
    size_t len = json_string_length(text);
    return len > 0 && tsr_utf8_step((const uint8_t *)json_string_value(text), len) == (int)len;
}

static int decode_replace(struct decoding *d, const json_t *node, struct tsr_err *err)
{
    struct tsr_decoder_step *step = tsr_decoder_add(d->decoder, TSR_DECODE_REPLACE, err);
    const json_t *text;
    bool literal;
    if (!step)
        return -ENOTSUP;
    int rc = read_pattern(node, &text, &literal, err);
    if (rc < 0)
        return rc;
    if (json_string_length(text) == 0 || (d->fused && (!literal || !is_single(text))))
        return tsr_err_set(err, -ENOTSUP,
                           "decoder Replace of the empty text, or behind Fuse of more than one "
                           "character, is not supported");
    rc = set_short(step->to, &step->to_len, sizeof(step->to), json_object_get(node, "content"),
                   "Replace", err);
    if (rc < 0)
        return rc;
    return literal
               ? set_short(step->from, &step->from_len, sizeof(step->from), text, "Replace", err)
               : tsr_regex_compile(&step->regex, json_string_value(text), json_string_length(text),
                                   false, err);
}

static int decode_metaspace(struct decoding *d, const json_t *node, struct tsr_err *err)
{
    struct tsr_decoder_step *step = tsr_decoder_add(d->decoder, TSR_DECODE_REPLACE, err);
    const json_t *space = json_object_get(node, "replacement");
    enum tsr_prefix_scheme scheme;
    if (!step)
        return -ENOTSUP;
    if (d->fused || !is_single(space))
        return tsr_err_set(err, -ENOTSUP, "decoder Metaspace %s is not supported",
                           d->fused ? "behind Fuse" : "without a replacement");
    int rc = read_scheme(node, &scheme, err);
    if (rc < 0)
        return rc;
    if (scheme != TSR_PREFIX_NEVER)
        d->vocab->start = TSR_START_FIRST;
    step->to[0] = ' ';
    step->to_len = 1;
    return set_short(step->from, &step->from_len, sizeof(step->from), space, "Metaspace", err);
}

static int decode_strip(struct decoding *d, const json_t *node, struct tsr_err *err)
{
    json_int_t start = json_integer_value(json_object_get(node, "start"));
    json_int_t stop = json_integer_value(json_object_get(node, "stop"));
    const json_t *content = json_object_get(node, "content");
    const char *text = json_string_value(content);
    if (start < 0 || stop < 0 || start > UINT32_MAX || stop > UINT32_MAX || !is_single(content))
        return tsr_err_set(err, -EINVAL, "decoder Strip: start, stop or content is no valid value");
    if (d->fused) {
        if (stop > 0 || (start > 0 && strcmp(text, " ") != 0))
            return tsr_err_set(err, -ENOTSUP,
                               "decoder Strip behind Fuse: only spaces at the beginning are "
                               "supported");
        if (start > 0)
            d->vocab->start = TSR_START_STRIP;
        d->vocab->start_count = (uint32_t)start;
        return 0;
    }
    struct tsr_decoder_step *step = tsr_decoder_add(d->decoder, TSR_DECODE_STRIP, err);
    if (!step)
        return -ENOTSUP;
    step->start = (uint32_t)start;
    step->stop = (uint32_t)stop;
    return set_short(step->from, &step->from_len, sizeof(step->from), content, "Strip", err);
}

static int read_decoder(struct decoding *d, const json_t *node, unsigned depth, struct tsr_err *err)
{
    if (is_type(node, "Sequence") && depth < DEPTH_MAX) {
        const json_t *parts = json_object_get(node, "decoders");
        int rc = 0;
        for (size_t i = 0; rc == 0 && i < json_array_size(parts); i++)
            rc = read_decoder(d, json_array_get(parts, i), depth + 1, err);
        return rc;
    }
    if (is_type(node, "ByteLevel") && d->byte_level)
        return 0;
    if (is_type(node, "Fuse")) {
        d->fused = true;
        return 0;
    }
    if (is_type(node, "Strip"))
        return decode_strip(d, node, err);
    if (is_type(node, "Replace"))
        return decode_replace(d, node, err);
    if (is_type(node, "Metaspace"))
        return decode_metaspace(d, node, err);
    if (is_type(node, "ByteFallback") && !d->fused)
        return tsr_decoder_add(d->decoder, TSR_DECODE_BYTE_FALLBACK, err) ? 0 : -ENOTSUP;
    return tsr_err_set(err, -ENOTSUP, "decoder '%s' is not supported%s", tsr_json_type(node),
                       d->fused ? " behind Fuse" : "");
}

int tsr_json_read_decoder(struct tsr_decoder *decoder, struct tsr_vocab *vocab, const json_t *node,
                          bool byte_level, struct tsr_err *err)
{
    struct decoding d = {.decoder = decoder, .vocab = vocab, .byte_level = byte_level};
    if (node && !json_is_null(node))
        return read_decoder(&d, node, 0, err);
    /* Without a decoder the library puts a space between tokens. */
    if (byte_level)
        return 0;
    struct tsr_decoder_step *step = tsr_decoder_add(decoder, TSR_DECODE_PREPEND, err);
    if (!step)
        return -ENOTSUP;
    step->to[0] = ' ';
    step->to_len = 1;
    vocab->start = TSR_START_STRIP;
    vocab->start_count = 1;
    return 0;
}
