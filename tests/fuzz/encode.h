/* What every target of tokenizers does with one that was loaded. */
#ifndef TSR_FUZZ_ENCODE_H
#define TSR_FUZZ_ENCODE_H

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <tsr/text/detok.h>
#include <tsr/text/tokenizer.h>

enum { IDS_MAX = 1 << 16 };

static uint32_t ids[IDS_MAX];

static inline void detokenize(const struct tsr_vocab *vocab, size_t n)
{
    char *out = malloc(tsr_detok_out_max(vocab) + 3);
    struct tsr_detok detok;
    if (!out)
        return;
    tsr_detok_init(&detok, vocab, true);
    for (size_t i = 0; i < n; i++) {
        if (ids[i] >= vocab->n_tokens ||
            tsr_detok_push(&detok, ids[i], out) > tsr_detok_out_max(vocab))
            abort();
    }
    tsr_detok_flush(&detok, out);
    free(out);
}

/* A text, a third of it not trusted, with and without what the files add to it; and back. */
static inline void encode(const struct tsr_tokenizer *tokenizer, const char *text, size_t len)
{
    struct tsr_tokenizer_scratch *scratch;
    struct tsr_err err;
    size_t n, third = len / 3;
    const struct tsr_text_span spans[] = {{text, third, true},
                                          {text + third, third, false},
                                          {text + 2 * third, len - 2 * third, true}};
    if (tsr_tokenizer_scratch_create(&scratch, tokenizer, 64, &err) < 0)
        return;
    for (unsigned flags = 0; flags < 2; flags++) {
        int rc = tsr_tokenizer_encode(tokenizer, scratch, spans, 3, flags, ids, IDS_MAX, &n, &err);
        if (n > IDS_MAX || (rc == 0 && n > 64 * len + 64))
            abort();
        detokenize(tsr_tokenizer_vocab(tokenizer), n);
    }
    tsr_tokenizer_scratch_destroy(scratch);
}

#endif
