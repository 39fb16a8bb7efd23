/* Byte pair encoding: bytes or characters to tokens by merging the pair of lowest rank, leftmost
 * first, until none is left. */
#ifndef TSR_TEXT_BPE_PRIV_H
#define TSR_TEXT_BPE_PRIV_H

#include <tsr/shm/err.h>

#include "vocab_priv.h"

struct tsr_bpe_merge {
    uint32_t left, right; /* tokens; left = TSR_TOKEN_NONE: an empty slot */
    uint32_t rank;        /* lower merges first */
    uint32_t id;          /* what they become */
};

/* Invariant: at least half of the slots are empty. */
struct tsr_bpe {
    bool by_char; /* begins with characters, as SentencePiece does, not with bytes */
    /* Of a byte; of the character of one byte where by_char. TSR_TOKEN_NONE: there is none. */
    uint32_t byte_id[256];
    /* What takes its place, where by_char: the tokens of a character's bytes where all are there
     * ("byte fallback"), else unk, or nothing where that is TSR_TOKEN_NONE. */
    uint32_t fallback_id[256];
    uint32_t unk;
    bool fuse_unk;    /* neighbours that are unk are one */
    bool whole_first; /* a piece that is a token is that token, whatever the merges say
                         ("ignore_merges") */
    bool resegment;   /* some tokens are TSR_TOKEN_UNUSED: merges go over them, results are taken
                         apart again */
    uint32_t (*made_of)[2]; /* where resegment, [number of tokens]: TSR_TOKEN_NONE or both parts */
    /* Whether a token has U+2581 behind this byte: if not, no merge goes over the place, and texts
     * are cut there. */
    bool before_space[256];
    struct tsr_bpe_merge *merges;
    uint32_t mask, n_merges;
    const struct tsr_vocab *vocab;
    const struct tsr_vocab_hash *hash;
};

enum {
    TSR_BPE_MERGE_MAX = 1024, /* longest result of a merge, in bytes */
    TSR_BPE_SHORT = 48,       /* pieces of up to so many bytes are merged by linear search */
    TSR_BPE_CACHE_SLOTS = 1 << 14,
    TSR_BPE_CACHE_TEXT = 28,
    TSR_BPE_CACHE_IDS = 8,
};

/* A short piece that was encoded before; one cache line. */
struct tsr_bpe_cached {
    uint8_t len, n; /* len = 0: empty */
    char text[TSR_BPE_CACHE_TEXT];
    uint32_t ids[TSR_BPE_CACHE_IDS];
};

/* Per thread. The arrays for long pieces grow with the longest piece. */
struct tsr_bpe_scratch {
    struct tsr_bpe_cached *cache; /* [TSR_BPE_CACHE_SLOTS] */
    size_t cap;                   /* symbols that the arrays hold */
    uint32_t *id, *prev, *next;   /* [cap] */
    uint64_t *heap;               /* [3 * cap] rank << 32 | position of the left symbol */
};

/* Finds the byte tokens; vocab and hash must stay where they are. n_merges: about how many
 * tsr_bpe_add() calls follow. */
int tsr_bpe_init(struct tsr_bpe *bpe, const struct tsr_vocab *vocab,
                 const struct tsr_vocab_hash *hash, uint32_t n_merges, struct tsr_err *err);

/* The same for a vocabulary of characters. */
int tsr_bpe_init_by_char(struct tsr_bpe *bpe, const struct tsr_vocab *vocab,
                         const struct tsr_vocab_hash *hash, uint32_t n_merges, struct tsr_err *err);

/* Adds all merges of a SentencePiece vocabulary: two tokens become the token of their joined text,
 * the one of highest score first. scores: [n], of the first n tokens. -EINVAL: a score is not
 * finite. */
int tsr_bpe_add_scores(struct tsr_bpe *bpe, const float *scores, uint32_t n, struct tsr_err *err);

/* Last: merges into a guarded token are taken out, so that no text becomes one. 0 or -ENOMEM. */
int tsr_bpe_finish(struct tsr_bpe *bpe);

/* Adds a merge by the raw bytes of both sides, lowest rank first; the first of equal pairs counts.
 * -EINVAL with a sentence where a side or the result is no token. */
int tsr_bpe_add(struct tsr_bpe *bpe, const char *left, size_t left_len, const char *right,
                size_t right_len, struct tsr_err *err);

/* The same with both sides as files write them, for a byte-level vocabulary in its characters;
 * right = NULL: left holds both, divided by a space. */
int tsr_bpe_add_written(struct tsr_bpe *bpe, const char *left, size_t left_len, const char *right,
                        size_t right_len, struct tsr_err *err);
void tsr_bpe_fini(struct tsr_bpe *bpe);

int tsr_bpe_scratch_init(struct tsr_bpe_scratch *scratch);
void tsr_bpe_scratch_fini(struct tsr_bpe_scratch *scratch);

/* Frees what long pieces made grow. */
void tsr_bpe_scratch_trim(struct tsr_bpe_scratch *scratch);

/* Encodes one piece, any bytes, len > 0. ids: [len] at least. The number of ids, or -ENOMEM. */
ptrdiff_t tsr_bpe_encode(const struct tsr_bpe *bpe, struct tsr_bpe_scratch *scratch,
                         const char *text, size_t len, uint32_t *ids);

#endif
