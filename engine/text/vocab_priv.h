/* Building a vocabulary from tokens that come in any order of ids. */
#ifndef TSR_TEXT_VOCAB_PRIV_H
#define TSR_TEXT_VOCAB_PRIV_H

#include <tsr/shm/err.h>
#include <tsr/text/vocab.h>

struct tsr_vocab_entry {
    size_t off; /* into pool */
    uint32_t len;
    uint8_t flags;
    bool set;
    bool lookup; /* part of the model's own vocabulary: merges and whole pieces find it by its text
                  */
};

/* How the text of a token is meant. */
enum tsr_vocab_kind {
    TSR_VOCAB_ADDED,  /* as it is; not found by its text but where it is already */
    TSR_VOCAB_PLAIN,  /* as it is; found by its text */
    TSR_VOCAB_MAPPED, /* in byte-level characters; found by the bytes that they stand for */
};

struct tsr_vocab_build {
    struct tsr_vocab_entry *entries; /* [cap] by id */
    uint32_t n, cap;                 /* n: highest id + 1 */
    char *pool;
    size_t pool_n, pool_cap;
};

/* Texts to ids, open addressing. slots[i] is id + 1, 0 for an empty slot.
 *
 * The text by which the model knows a token is its key; what the token stands for in an answer
 * (tsr_vocab_text()) is the same bytes unless a decoder says otherwise. */
struct tsr_vocab_hash {
    uint32_t *slots;
    uint32_t mask;
    uint32_t n_tokens;
    uint32_t key_bytes_max;
    uint32_t *offset; /* [n_tokens + 1] into bytes */
    char *bytes;
};

/* The byte that a character of a byte-level vocabulary stands for (GPT-2's bytes_to_unicode()), -1
 * where it stands for none. */
int tsr_vocab_byte_of(uint32_t c);

/* Turns a token as byte-level vocabularies write it into raw bytes in out [len]; its length, or -1
 * where a character stands for no byte (the token is then meant as it is written). */
ptrdiff_t tsr_vocab_unmap(const char *text, size_t len, char *out);

/* ids_max: ids at or above it are refused (the caller knows how many tokens there are). */
int tsr_vocab_build_init(struct tsr_vocab_build *build, uint32_t ids_max, struct tsr_err *err);

/* Sets or replaces the text of id and adds flags. */
int tsr_vocab_build_set(struct tsr_vocab_build *build, uint32_t id, const char *text, size_t len,
                        unsigned flags, enum tsr_vocab_kind kind, struct tsr_err *err);

/* Fills vocab's arrays (offset, bytes, flags) and hash from what was set; holes become
 * TSR_TOKEN_UNUSED. build is left empty. vocab and hash are freed by tsr_vocab_fini(). */
int tsr_vocab_build_finish(struct tsr_vocab_build *build, struct tsr_vocab *vocab,
                           struct tsr_vocab_hash *hash, struct tsr_err *err);
void tsr_vocab_build_fini(struct tsr_vocab_build *build);
void tsr_vocab_fini(struct tsr_vocab *vocab, struct tsr_vocab_hash *hash);

/* The key of a token; id < hash->n_tokens. */
static inline const char *tsr_vocab_key(const struct tsr_vocab_hash *hash, uint32_t id, size_t *len)
{
    *len = hash->offset[id + 1] - hash->offset[id];
    return hash->bytes + hash->offset[id];
}

/* The id of a token of the model's own vocabulary by its key, or TSR_TOKEN_NONE. */
uint32_t tsr_vocab_lookup(const struct tsr_vocab_hash *hash, const char *text, size_t len);

/* The byte that a key of the form <0xHH> stands for, or -1. */
int tsr_vocab_fallback_byte(const char *text, size_t len);

/* Adds flags to a token. */
void tsr_vocab_flag(struct tsr_vocab *vocab, uint32_t id, unsigned flags);

/* Adds id to vocab->ends (ignored where it is TSR_TOKEN_NONE, outside, there already, or there is
 * no room). */
void tsr_vocab_add_end(struct tsr_vocab *vocab, uint32_t id);

/* Whether text is written like a mark of a chat template: <|...|>, also with the full-width bar. */
bool tsr_vocab_looks_like_mark(const char *text, size_t len);

/* Hash of a short text. */
uint64_t tsr_vocab_mix(const char *text, size_t len);

#endif
