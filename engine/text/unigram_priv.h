/* Unigram language models: the cut of a piece into tokens whose scores sum up to the most
 * (Kudo 2018, arXiv:1804.10959; the tokens' log-probabilities, found by Viterbi's algorithm). */
#ifndef TSR_TEXT_UNIGRAM_PRIV_H
#define TSR_TEXT_UNIGRAM_PRIV_H

#include <tsr/shm/err.h>

#include "vocab_priv.h"

/* An edge of the trie: from a node over a byte to another. node = TSR_TOKEN_NONE: an empty slot. */
struct tsr_unigram_edge {
    uint32_t node, next;
    uint32_t id; /* the token that ends here, or TSR_TOKEN_NONE */
    uint8_t byte;
};

/* Invariant: at least half of the slots are empty. */
struct tsr_unigram {
    struct tsr_unigram_edge *edges;
    uint32_t mask, n_edges;
    double *scores; /* [n_tokens] */
    uint32_t n_tokens;
    bool single;           /* sums are rounded to float, as SentencePiece's are */
    double unk_score;      /* of a character that is no token */
    uint32_t unk;          /* TSR_TOKEN_NONE: such characters vanish */
    uint32_t byte_id[256]; /* tokens that stand for a byte, or TSR_TOKEN_NONE */
    bool byte_fallback;    /* all 256 are there, and take the place of unk */
};

/* Per thread; grows with the longest piece. */
struct tsr_unigram_best {
    double score;
    uint32_t begin, id; /* of the last token; begin = UINT32_MAX: nothing ends here */
};

struct tsr_unigram_scratch {
    struct tsr_unigram_best *best;
    size_t cap;
};

/* Copies scores [n_tokens]. -EINVAL: one is not finite; -ENOMEM. */
int tsr_unigram_init(struct tsr_unigram *unigram, const double *scores, uint32_t n_tokens,
                     struct tsr_err *err);

/* A token that pieces are cut into. len > 0; the last of equal texts counts. */
int tsr_unigram_add(struct tsr_unigram *unigram, const char *text, size_t len, uint32_t id,
                    struct tsr_err *err);
void tsr_unigram_fini(struct tsr_unigram *unigram);

void tsr_unigram_scratch_fini(struct tsr_unigram_scratch *scratch);

/* Encodes one piece, any bytes, len > 0. ids: [len] at least. The number of ids, or -ENOMEM. Time
 * is the length times the longest token's. */
ptrdiff_t tsr_unigram_encode(const struct tsr_unigram *unigram, struct tsr_unigram_scratch *scratch,
                             const char *text, size_t len, uint32_t *ids);

#endif
