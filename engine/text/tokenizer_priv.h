/* What a tokenizer is made of, for the readers that fill it. */
#ifndef TSR_TEXT_TOKENIZER_PRIV_H
#define TSR_TEXT_TOKENIZER_PRIV_H

#include <tsr/text/tokenizer.h>

#include "added_priv.h"
#include "bpe_priv.h"
#include "decoder_priv.h"
#include "normalizer_priv.h"
#include "pretok_priv.h"
#include "unigram_priv.h"
#include "vocab_priv.h"

enum { TSR_TOKENIZER_FRAME_MAX = 8 };

struct tsr_tokenizer {
    struct tsr_vocab vocab;
    struct tsr_vocab_hash hash;
    bool is_unigram; /* else bpe */
    struct tsr_bpe bpe;
    struct tsr_unigram unigram;
    struct tsr_pretok pretok;
    struct tsr_normalizer normalizer;
    struct tsr_decoder decoder;
    struct tsr_added added;            /* looked for in the text as it came */
    struct tsr_added added_normalized; /* looked for in the normalized text */
    struct tsr_added renamed; /* tokens that a normalizer changed: what is decoded in their place */
    uint32_t prefix[TSR_TOKENIZER_FRAME_MAX], suffix[TSR_TOKENIZER_FRAME_MAX];
    uint32_t n_prefix, n_suffix; /* what TSR_ENCODE_ENDS adds */
    char *chat_template;         /* NULL: none */
    char describe[256];
};

/* Reads tokenizer.ggml.* of a GGUF. */
struct tsr_gguf;
int tsr_tokenizer_read_gguf(struct tsr_tokenizer *tokenizer, const struct tsr_gguf *gguf,
                            struct tsr_err *err);

/* Reads a tokenizer.json. */
int tsr_tokenizer_read_json(struct tsr_tokenizer *tokenizer, const char *json, size_t len,
                            struct tsr_err *err);

/* Reads the files of a Hugging Face directory. */
int tsr_tokenizer_read_dir(struct tsr_tokenizer *tokenizer, const char *path, struct tsr_err *err);

/* Reads a SentencePiece model. prefix: where its dummy prefix goes, if it has one; added: further
 * tokens as tokenizer.json lists them, or NULL. BOS is added where the model has one, else EOS. */
struct json_t;
int tsr_tokenizer_read_model(struct tsr_tokenizer *tokenizer, const void *data, size_t len,
                             enum tsr_prefix_scheme prefix, const struct json_t *added,
                             struct tsr_err *err);

/* Where an added token is looked for. */
enum tsr_added_where {
    TSR_ADDED_IN_TEXT,       /* in the text as it came */
    TSR_ADDED_IN_NORMALIZED, /* in the normalized text, its own text normalized too */
    TSR_ADDED_IN_MODEL_TEXT, /* in the normalized text, as the vocabulary writes it */
};

/* Adds a token to vocab's flags and to the set that looks for it. flags: TSR_TOKEN_SPECIAL or 0.
 * token's text, len and guarded are filled in here. */
int tsr_tokenizer_add_token(struct tsr_tokenizer *tokenizer, struct tsr_added_token token,
                            enum tsr_added_where where, unsigned flags, struct tsr_err *err);

/* What the types of tokens are called in SentencePiece's models and, by the same numbers, in
 * tokenizer.ggml.token_type. */
enum tsr_piece_type {
    TSR_PIECE_NORMAL = 1,
    TSR_PIECE_UNKNOWN,
    TSR_PIECE_CONTROL,
    TSR_PIECE_USER_DEFINED,
    TSR_PIECE_UNUSED,
    TSR_PIECE_BYTE,
};

/* A SentencePiece vocabulary, however it came. Arrays [n], the caller's. */
struct tsr_pieces {
    uint32_t n;
    const char **text; /* U+2581 for a space */
    const uint32_t *len;
    const float *score;
    const uint8_t *type; /* enum tsr_piece_type */
    bool unigram;        /* else BPE */
    bool exact;          /* sums as SentencePiece rounds them, not in double precision */
    bool rstrip;         /* marks take the white space behind them, as Phi-3's do */
    bool user_in_text;   /* user-defined pieces are added tokens, not symbols of the model */
    uint32_t unk;
    const struct json_t *added; /* further tokens, or NULL */
};

/* Fills vocab and model, not the normalizer. */
int tsr_tokenizer_set_pieces(struct tsr_tokenizer *tokenizer, const struct tsr_pieces *pieces,
                             struct tsr_err *err);

/* The last step of all readers: guards ends, sorts added tokens, sets add_bos and add_eos from the
 * frame, finishes the model, decodes the vocabulary. */
int tsr_tokenizer_finish(struct tsr_tokenizer *tokenizer, struct tsr_err *err);

#endif
