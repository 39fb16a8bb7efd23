/* The stages of a tokenizer.json, each into its part of the tokenizer. Every part is either
 * understood or refused by name: -EINVAL (broken), -ENOTSUP, -ENOMEM. */
#ifndef TSR_TEXT_TOKENIZER_JSON_PRIV_H
#define TSR_TEXT_TOKENIZER_JSON_PRIV_H

#include <jansson.h>

#include "tokenizer_priv.h"

static inline const char *tsr_json_type(const json_t *node)
{
    const char *type = json_string_value(json_object_get(node, "type"));
    return type ? type : "";
}

int tsr_json_read_normalizer(struct tsr_normalizer *normalizer, const json_t *node,
                             struct tsr_err *err);

/* *byte_level: whether there was a ByteLevel, so that the vocabulary is one of bytes. */
int tsr_json_read_pretok(struct tsr_pretok *pretok, const json_t *node, bool *byte_level,
                         struct tsr_err *err);

/* "added_tokens": a list of objects with id, content and flags, may be NULL. First their texts;
 * when the vocabulary is finished, what looks for them: in the text as it came where in_text, else
 * as "normalized" says. */
int tsr_json_set_added(struct tsr_vocab_build *build, const json_t *added, struct tsr_err *err);
int tsr_json_add_tokens(struct tsr_tokenizer *tokenizer, const json_t *added, bool in_text,
                        struct tsr_err *err);

/* Reads the root of a tokenizer.json. */
int tsr_json_read_root(struct tsr_tokenizer *tokenizer, const json_t *root, struct tsr_err *err);

/* Steps and vocab's start. */
int tsr_json_read_decoder(struct tsr_decoder *decoder, struct tsr_vocab *vocab, const json_t *node,
                          bool byte_level, struct tsr_err *err);

#endif
