#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "utf8_priv.h"
#include "vocab_priv.h"

const char *tsr_vocab_text(const struct tsr_vocab *vocab, uint32_t id, size_t *len)
{
    if (id >= vocab->n_tokens) {
        *len = 0;
        return NULL;
    }
    *len = vocab->offset[id + 1] - vocab->offset[id];
    return vocab->bytes + vocab->offset[id];
}

char *tsr_vocab_text_copy(const struct tsr_vocab *vocab, uint32_t id)
{
    size_t len;
    const char *text = tsr_vocab_text(vocab, id, &len);
    return text ? strndup(text, len) : NULL;
}

bool tsr_vocab_is_end(const struct tsr_vocab *vocab, uint32_t id)
{
    for (uint32_t i = 0; i < vocab->n_ends; i++)
        if (vocab->ends[i] == id)
            return true;
    return false;
}

void tsr_vocab_add_end(struct tsr_vocab *vocab, uint32_t id)
{
    if (id >= vocab->n_tokens || vocab->n_ends == TSR_VOCAB_ENDS_MAX || tsr_vocab_is_end(vocab, id))
        return;
    uint32_t i = vocab->n_ends++;
    for (; i > 0 && vocab->ends[i - 1] > id; i--)
        vocab->ends[i] = vocab->ends[i - 1];
    vocab->ends[i] = id;
}

bool tsr_vocab_looks_like_mark(const char *text, size_t len)
{
    static const char bar[] = "\xEF\xBD\x9C"; /* U+FF5C, DeepSeek's */
    if (len > 4 && memcmp(text, "<|", 2) == 0 && memcmp(text + len - 2, "|>", 2) == 0)
        return true;
    return len > 8 && text[0] == '<' && memcmp(text + 1, bar, 3) == 0 && text[len - 1] == '>' &&
           memcmp(text + len - 4, bar, 3) == 0;
}

/* GPT-2 writes a byte as the character of the same number where that is printable (33-126, 161-172,
 * 174-255), else as the next of U+0100, U+0101 ... in ascending order of the bytes. */
int tsr_vocab_byte_of(uint32_t c)
{
    if ((c >= 33 && c <= 126) || (c >= 161 && c <= 172) || (c >= 174 && c <= 255))
        return (int)c;
    if (c < 0x100 || c >= 0x100 + 68)
        return -1;
    c -= 0x100;
    if (c <= 32)
        return (int)c;
    c += 127 - 33; /* 127 .. 160 are characters 33 .. 66 */
    return c <= 160 ? (int)c : 173;
}

ptrdiff_t tsr_vocab_unmap(const char *text, size_t len, char *out)
{
    const uint8_t *p = (const uint8_t *)text;
    size_t n = 0;
    for (size_t i = 0; i < len;) {
        if (tsr_utf8_step(p + i, len - i) <= 0)
            return -1;
        unsigned width;
        int byte = tsr_vocab_byte_of(tsr_utf8_get(p + i, &width));
        if (byte < 0)
            return -1;
        out[n++] = (char)byte;
        i += width;
    }
    return (ptrdiff_t)n;
}

static int hex_digit(char c)
{
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
                                  : -1;
}

int tsr_vocab_fallback_byte(const char *text, size_t len)
{
    if (len != 6 || memcmp(text, "<0x", 3) != 0 || text[5] != '>')
        return -1;
    int high = hex_digit(text[3]), low = hex_digit(text[4]);
    return high < 0 || low < 0 ? -1 : 16 * high + low;
}

void tsr_vocab_flag(struct tsr_vocab *vocab, uint32_t id, unsigned flags)
{
    ((uint8_t *)(uintptr_t)vocab->flags)[id] |= (uint8_t)flags;
}

int tsr_vocab_build_init(struct tsr_vocab_build *build, uint32_t ids_max, struct tsr_err *err)
{
    *build = (struct tsr_vocab_build){0};
    if (ids_max == 0 || ids_max > TSR_VOCAB_TOKENS_MAX)
        return tsr_err_set(err, -EINVAL, "the vocabulary has %u tokens, not 1 to %d", ids_max,
                           TSR_VOCAB_TOKENS_MAX);
    build->entries = calloc(ids_max, sizeof(*build->entries));
    if (!build->entries)
        return tsr_err_set(err, -ENOMEM, "no memory for a vocabulary of %u tokens", ids_max);
    build->cap = ids_max;
    return 0;
}

void tsr_vocab_build_fini(struct tsr_vocab_build *build)
{
    free(build->entries);
    free(build->pool);
    *build = (struct tsr_vocab_build){0};
}

int tsr_vocab_build_set(struct tsr_vocab_build *build, uint32_t id, const char *text, size_t len,
                        unsigned flags, enum tsr_vocab_kind kind, struct tsr_err *err)
{
    if (id >= build->cap)
        return tsr_err_set(
            err, -EINVAL, "token id %u leaves a hole: the file has far fewer tokens than that", id);
    if (len > UINT32_MAX / 2 || build->pool_n + len > UINT32_MAX)
        return tsr_err_set(err, -EINVAL, "token %u: the texts of all tokens exceed 4 GiB", id);
    if (build->pool_n + len >= build->pool_cap) {
        size_t cap = (build->pool_n + len) * 2 + 4096;
        char *pool = realloc(build->pool, cap);
        if (!pool)
            return tsr_err_set(err, -ENOMEM, "no memory for the texts of %u tokens", build->cap);
        build->pool = pool;
        build->pool_cap = cap;
    }
    struct tsr_vocab_entry *entry = &build->entries[id];
    char *out = build->pool + build->pool_n;
    ptrdiff_t n = kind == TSR_VOCAB_MAPPED ? tsr_vocab_unmap(text, len, out) : -1;
    if (n < 0) {
        if (len)
            memcpy(out, text, len);
        n = (ptrdiff_t)len;
    }
    /* A token of the model's vocabulary that is also an added one keeps its place in the lookup as
     * long as its text stays the same. */
    bool same = entry->set && entry->len == (uint32_t)n &&
                memcmp(build->pool + entry->off, out, entry->len) == 0;
    entry->lookup = kind != TSR_VOCAB_ADDED || (entry->lookup && same);
    entry->off = build->pool_n;
    entry->len = (uint32_t)n;
    entry->flags |= (uint8_t)flags;
    entry->set = true;
    build->pool_n += (size_t)n;
    if (id >= build->n)
        build->n = id + 1;
    return 0;
}

uint64_t tsr_vocab_mix(const char *text, size_t len)
{
    uint64_t h = 0x9E3779B97F4A7C15u ^ len;
    while (len >= 8) {
        uint64_t word;
        memcpy(&word, text, 8);
        h = (h ^ word) * 0xD6E8FEB86659FD93u;
        h ^= h >> 32;
        text += 8;
        len -= 8;
    }
    uint64_t word = 0;
    for (size_t i = 0; i < len; i++)
        word |= (uint64_t)(uint8_t)text[i] << (8 * i);
    h = (h ^ word) * 0xD6E8FEB86659FD93u;
    h ^= h >> 29;
    h *= 0xBF58476D1CE4E5B9u;
    return h ^ h >> 32;
}

uint32_t tsr_vocab_lookup(const struct tsr_vocab_hash *hash, const char *text, size_t len)
{
    for (uint32_t i = (uint32_t)tsr_vocab_mix(text, len);; i++) {
        uint32_t slot = hash->slots[i & hash->mask];
        if (slot == 0)
            return TSR_TOKEN_NONE;
        size_t n;
        const char *token = tsr_vocab_key(hash, slot - 1, &n);
        if (n == len && memcmp(token, text, len) == 0)
            return slot - 1;
    }
}

int tsr_vocab_build_finish(struct tsr_vocab_build *build, struct tsr_vocab *vocab,
                           struct tsr_vocab_hash *hash, struct tsr_err *err)
{
    uint32_t n = build->n;
    if (n == 0)
        return tsr_err_set(err, -EINVAL, "the vocabulary is empty");
    uint32_t slots = 16;
    while (slots < 2 * n)
        slots *= 2;
    uint32_t *offset = malloc(sizeof(*offset) * ((size_t)n + 1));
    char *bytes = malloc(build->pool_n + 1);
    uint8_t *flags = malloc((size_t)n + 1);
    hash->slots = calloc(slots, sizeof(*hash->slots));
    hash->mask = slots - 1;
    if (!offset || !bytes || !flags || !hash->slots) {
        free(offset);
        free(bytes);
        free(flags);
        free(hash->slots);
        hash->slots = NULL;
        return tsr_err_set(err, -ENOMEM, "no memory for a vocabulary of %u tokens", n);
    }
    hash->n_tokens = n;
    hash->offset = offset;
    hash->bytes = bytes;
    size_t at = 0;
    vocab->token_bytes_max = 0;
    for (uint32_t id = 0; id < n; id++) {
        const struct tsr_vocab_entry *entry = &build->entries[id];
        offset[id] = (uint32_t)at;
        flags[id] = entry->set ? entry->flags : TSR_TOKEN_UNUSED;
        if (entry->len)
            memcpy(bytes + at, build->pool + entry->off, entry->len);
        at += entry->len;
        if (entry->len > vocab->token_bytes_max)
            vocab->token_bytes_max = entry->len;
    }
    offset[n] = (uint32_t)at;
    hash->key_bytes_max = vocab->token_bytes_max;
    vocab->n_tokens = n;
    vocab->offset = offset;
    vocab->bytes = bytes;
    vocab->flags = flags;
    for (uint32_t id = 0; id < n; id++) {
        const struct tsr_vocab_entry *entry = &build->entries[id];
        if (!entry->set || !entry->lookup || entry->len == 0)
            continue;
        const char *text = bytes + offset[id];
        if (tsr_vocab_lookup(hash, text, entry->len) != TSR_TOKEN_NONE)
            continue; /* the same text twice: the lower id is meant */
        uint32_t i = (uint32_t)tsr_vocab_mix(text, entry->len);
        while (hash->slots[i & hash->mask])
            i++;
        hash->slots[i & hash->mask] = id + 1;
    }
    tsr_vocab_build_fini(build);
    return 0;
}

void tsr_vocab_fini(struct tsr_vocab *vocab, struct tsr_vocab_hash *hash)
{
    if (vocab->offset != hash->offset)
        free((void *)(uintptr_t)vocab->offset);
    if (vocab->bytes != hash->bytes)
        free((void *)(uintptr_t)vocab->bytes);
    free((void *)(uintptr_t)vocab->flags);
    free(hash->offset);
    free(hash->bytes);
    free(hash->slots);
    *vocab = (struct tsr_vocab){0};
    *hash = (struct tsr_vocab_hash){0};
}
