/* A golden file: what another implementation says of a model. golden.json holds prompts, the greedy
 * ids after them and tokenized texts; golden.safetensors beside it the logits. Two forms are read
 * (../shared/conformance/README.md): `prompts` with `greedy`, made in float64, and `cases` of a
 * real model, made in f32. Neither file is trusted. */
#ifndef TSR_TOOLS_GOLDEN_H
#define TSR_TOOLS_GOLDEN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <tsr/shm/err.h>

enum { TSR_GOLDEN_BYTES_MAX = 16 << 20 }; /* of golden.json */

struct tsr_golden_ids {
    uint32_t n;
    uint32_t *ids; /* [n]; NULL where the file does not say */
};

struct tsr_golden_prompt {
    uint32_t n, more;      /* ids of the prompt, >= 1; greedy ids after it */
    uint32_t *ids;         /* [n + more] */
    double *margin;        /* [more]: (best - second) / standard deviation of the row's logits */
    uint32_t logit_rows;   /* logits of the prompt's last so many positions are known, 1 .. n */
    const uint8_t *logits; /* [logit_rows, vocab] f32 as the file has them, unaligned */
    uint32_t n_top;        /* the highest logits after the prompt; 0: not stated */
    uint32_t *top;         /* [n_top] ids */
    double *top_logits;    /* [n_top] */
};

struct tsr_golden_text {
    char
        *messages; /* a chat (JSON array) that the template renders to `text`; NULL: a plain text */
    char *text;    /* [len], any bytes */
    size_t len;
    struct tsr_golden_ids ids; /* special tokens recognised; of a plain text with BOS and EOS where
                                  the tokenizer adds them */
    struct tsr_golden_ids plain; /* the same without BOS and EOS */
    char *decoded; /* [decoded_len]: text of ids without special tokens; NULL: not stated */
    size_t decoded_len;
};

/* Where the logits come from, which says how far they can be trusted. */
enum tsr_golden_kind {
    TSR_GOLDEN_EXACT, /* another implementation in float64: `prompts` */
    TSR_GOLDEN_FLOAT, /* another implementation in f32: `cases` */
    TSR_GOLDEN_SELF,  /* our own reference path: tsr_verify_reference() */
};

struct tsr_golden {
    enum tsr_golden_kind kind;
    uint32_t vocab;
    uint32_t n_prompts;
    struct tsr_golden_prompt *prompts;
    uint32_t n_texts;
    struct tsr_golden_text *texts;
    double bf16, int8; /* yardsticks: nmse of the other implementation; 0: not stated */
    void *priv;
};

/* Reads path and the safetensors file of the same name. Every id is below the logits' vocabulary.
 * -ENOENT, -EINVAL, -E2BIG, -ENOMEM; a sentence with file and place. */
int tsr_golden_open(struct tsr_golden *golden, const char *path, struct tsr_err *err);
void tsr_golden_close(struct tsr_golden *golden);

/* Expected logits after position `position` of prompt p: out [vocab]; false where not known. */
bool tsr_golden_logits(const struct tsr_golden *golden, const struct tsr_golden_prompt *p,
                       uint32_t position, float *out);

#endif
