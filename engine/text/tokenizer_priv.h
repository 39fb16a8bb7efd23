/* What a tokenizer is made of, for the two readers that fill it. */
#ifndef TSR_TEXT_TOKENIZER_PRIV_H
#define TSR_TEXT_TOKENIZER_PRIV_H

#include <tsr/text/tokenizer.h>

#include "added_priv.h"
#include "bpe_priv.h"
#include "normalize_priv.h"
#include "pretok_priv.h"
#include "vocab_priv.h"

enum { TSR_TOKENIZER_FRAME_MAX = 8 };

struct tsr_tokenizer {
    struct tsr_vocab vocab;
    struct tsr_vocab_hash hash;
    struct tsr_bpe bpe;
    struct tsr_pretok pretok;
    enum tsr_normal_form form;
    struct tsr_added added;            /* looked for in the text as it came */
    struct tsr_added added_normalized; /* looked for in the normalized text */
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

/* Adds a token to vocab's flags and to the set that looks for it. flags: TSR_TOKEN_SPECIAL or 0.
 * token's text, len and guarded are filled in here. */
int tsr_tokenizer_add_token(struct tsr_tokenizer *tokenizer, struct tsr_added_token token,
                            bool normalized, unsigned flags, struct tsr_err *err);

/* The last step of both readers: guards ends, sorts added tokens, sets add_bos and add_eos from the
 * frame. */
int tsr_tokenizer_finish(struct tsr_tokenizer *tokenizer, struct tsr_err *err);

#endif
