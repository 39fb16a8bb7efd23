/* What tokens stand for in a text: a tokenizer's decoder, applied once to every token's key. */
#ifndef TSR_TEXT_DECODER_PRIV_H
#define TSR_TEXT_DECODER_PRIV_H

#include "added_priv.h"
#include "regex_priv.h"
#include "vocab_priv.h"

enum { TSR_DECODER_STEPS_MAX = 16 };

enum tsr_decoder_kind {
    TSR_DECODE_REPLACE,       /* from or regex becomes to */
    TSR_DECODE_BYTE_FALLBACK, /* <0xHH> is a byte */
    TSR_DECODE_PREPEND,       /* to goes before it */
    TSR_DECODE_STRIP,         /* up to start and stop times the character `from` at both ends */
};

struct tsr_decoder_step {
    enum tsr_decoder_kind kind;
    char from[64], to[64];
    size_t from_len, to_len;
    struct tsr_regex regex; /* of TSR_DECODE_REPLACE where from_len is 0 */
    uint32_t start, stop;
};

struct tsr_decoder {
    unsigned n_steps;
    struct tsr_decoder_step steps[TSR_DECODER_STEPS_MAX];
};

/* Appends a step, zeroed; NULL with a sentence: there are too many. */
struct tsr_decoder_step *tsr_decoder_add(struct tsr_decoder *decoder, enum tsr_decoder_kind kind,
                                         struct tsr_err *err);

/* Appends the steps of a SentencePiece vocabulary: U+2581 is a space, <0xHH> a byte. */
int tsr_decoder_add_sentencepiece(struct tsr_decoder *decoder, struct tsr_err *err);

/* Sets vocab's texts to what the steps make of the keys, or of the texts in `instead`. -ENOMEM;
 * -ENOTSUP: a text became longer than all of them may be, or an expression exceeded its limit. */
int tsr_decoder_apply(const struct tsr_decoder *decoder, const struct tsr_vocab_hash *hash,
                      const struct tsr_added *instead, struct tsr_vocab *vocab,
                      struct tsr_err *err);
void tsr_decoder_fini(struct tsr_decoder *decoder);

#endif
