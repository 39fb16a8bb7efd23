/* A vocabulary: what each token id stands for, and which ids begin, end and pad a text.
 *
 * Part of a tokenizer, immutable after it was loaded; any thread may read it. */
#ifndef TSR_TEXT_VOCAB_H
#define TSR_TEXT_VOCAB_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    TSR_VOCAB_TOKENS_MAX = 1 << 22, /* largest vocabulary that is loaded */
    TSR_VOCAB_ENDS_MAX = 32,        /* most end-of-text ids */
};

#define TSR_TOKEN_NONE UINT32_MAX /* "this vocabulary has no such token" */

enum tsr_token_flag {
    TSR_TOKEN_SPECIAL =
        1, /* control mark: not shown in text unless asked for (Hugging Face: special) */
    TSR_TOKEN_ADDED = 2, /* found in text as a whole, before pre-tokenizing and merging */
    TSR_TOKEN_GUARDED =
        4, /* ADDED, but recognised only in trusted text: special ones, ends, and what is written
              like a mark (<|...|>), so that a request cannot forge a turn */
    TSR_TOKEN_UNUSED = 8, /* never made from text: a hole, which stands for no text, or a piece that
                             SentencePiece marks so */
};

/* What the beginning of a text loses when it is made of tokens: SentencePiece's dummy prefix. */
enum tsr_vocab_start {
    TSR_START_KEEP,  /* nothing */
    TSR_START_STRIP, /* up to start_count spaces */
    TSR_START_TRIM,  /* one space of each token, as long as nothing is shown */
    TSR_START_FIRST, /* all spaces of the first token */
};

/* Invariant: offset[0] = 0, offset[i] <= offset[i + 1], offset[n_tokens] = number of bytes. */
struct tsr_vocab {
    uint32_t n_tokens; /* ids are 0 .. n_tokens - 1; a model's logits may be more (padding), never
                          fewer */
    uint32_t token_bytes_max; /* longest token, in bytes of text */
    const uint32_t *offset;   /* [n_tokens + 1] into bytes */
    const char
        *bytes; /* the text of all tokens, raw bytes (a token may be half a UTF-8 character) */
    const uint8_t *flags;        /* [n_tokens] of enum tsr_token_flag */
    uint32_t bos, eos, pad, unk; /* TSR_TOKEN_NONE where there is none */
    enum tsr_vocab_start start;
    uint32_t start_count;
    bool add_bos, add_eos; /* whether the files say that a plain text is encoded with them */
    uint32_t n_ends;
    uint32_t ends[TSR_VOCAB_ENDS_MAX]; /* ids that end an answer, ascending, without doubles */
};

/* The text of a token; NULL (and *len 0) where id is not below n_tokens. Not NUL-terminated. */
const char *tsr_vocab_text(const struct tsr_vocab *vocab, uint32_t id, size_t *len);

/* A NUL-terminated copy of it, the caller's to free; NULL where there is no such token (also
 * TSR_TOKEN_NONE), or no memory. */
char *tsr_vocab_text_copy(const struct tsr_vocab *vocab, uint32_t id);

/* Whether id ends an answer: the end-of-text and end-of-turn ids of the model's files. */
bool tsr_vocab_is_end(const struct tsr_vocab *vocab, uint32_t id);

#endif
