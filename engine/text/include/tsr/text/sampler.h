/* Choosing the next token from a row of logits.
 *
 * The order is that of Hugging Face transformers: logit bias, penalties, temperature, then top-k,
 * top-p (of what top-k left, renormalised), min-p. The random number of token i of a request is a
 * function of (seed, i) alone (Philox, see below), and every sum has a fixed order: the same logits
 * and seed give the same tokens whatever else runs. */
#ifndef TSR_TEXT_SAMPLER_H
#define TSR_TEXT_SAMPLER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <tsr/shm/err.h>

enum {
    TSR_SAMPLING_TOP_MAX = 20,    /* most alternatives reported per token */
    TSR_SAMPLING_BIAS_MAX = 1024, /* most logit biases per request */
};

struct tsr_logit_bias {
    uint32_t token;
    float bias; /* added to the logit, -100 .. 100; -100 or less forbids the token */
};

/* What a request asks for. */
struct tsr_sampling {
    float temperature; /* 0 .. 100; below 0.0001: the highest logit, ties by lowest id */
    uint32_t top_k;    /* 0: all */
    float top_p;       /* (0 .. 1]; 1: all */
    float min_p;       /* [0 .. 1]; 0: all. Tokens below min_p * highest probability are dropped */
    float repetition_penalty; /* (0 .. 10]; 1: none. Over prompt and answer (arXiv:1909.05858,
                                 section 4.1) */
    float presence_penalty;   /* -10 .. 10; 0: none. Subtracted once from tokens of the answer */
    float frequency_penalty;  /* -10 .. 10; 0: none. Subtracted per occurrence in the answer */
    uint64_t seed;
    bool logprobs; /* report the chosen token's log-probability (costs a pass over the row) */
    uint32_t top_logprobs; /* 0 .. TSR_SAMPLING_TOP_MAX alternatives beside it; needs logprobs */
    uint32_t n_bias;
    const struct tsr_logit_bias *bias; /* [n_bias], copied by tsr_sampler_seq_begin() */
};

/* temperature 1, all filters and penalties off, seed 0, no log-probabilities. */
void tsr_sampling_init(struct tsr_sampling *sampling);

/* 0, or -EINVAL with a sentence that names field, value and range (NaN is never in range). */
int tsr_sampling_check(const struct tsr_sampling *sampling, uint32_t vocab, struct tsr_err *err);

/* A request's side: its parameters and the counts of its tokens. */
struct tsr_sampler_seq;

/* Bytes of one that counts up to tokens_max tokens of a vocabulary. */
size_t tsr_sampler_seq_bytes(uint32_t vocab, uint32_t tokens_max);

/* Preallocates for requests of at most tokens_max tokens (prompt and answer together) over vocab
 * tokens. -ENOMEM. */
int tsr_sampler_seq_create(struct tsr_sampler_seq **out, uint32_t vocab, uint32_t tokens_max,
                           struct tsr_err *err);
void tsr_sampler_seq_destroy(struct tsr_sampler_seq *seq);

/* Starts a request: checks and copies its parameters, forgets the tokens of the last one; no
 * allocation, and constant time but for the biases. Errors: those of tsr_sampling_check(). */
int tsr_sampler_seq_begin(struct tsr_sampler_seq *seq, const struct tsr_sampling *sampling,
                          struct tsr_err *err);

/* Counts prompt tokens for repetition_penalty (does nothing where that is 1). May be called in
 * chunks. Ids must be below vocab. */
void tsr_sampler_seq_prompt(struct tsr_sampler_seq *seq, const uint32_t *ids, uint32_t n);

struct tsr_sampled {
    uint32_t id;   /* TSR_TOKEN_NONE: the row has no logit that is a number above -infinity */
    float logprob; /* ln softmax(raw logits)[id]: before bias, penalties, temperature; 0 without
                      logprobs */
    uint32_t n_top;
    uint32_t top_id[TSR_SAMPLING_TOP_MAX]; /* by raw logits, descending; ties by lowest id */
    float top_logprob[TSR_SAMPLING_TOP_MAX];
};

/* The frontend's side: scratch for one row at a time; one thread. */
struct tsr_sampler;

int tsr_sampler_create(struct tsr_sampler **out, uint32_t vocab, struct tsr_err *err);
void tsr_sampler_destroy(struct tsr_sampler *sampler);

/* Chooses the request's token number index (0 for the first of the answer) from logits [vocab],
 * which are only read. NaN counts as -infinity. Does not count the token: that is
 * tsr_sampler_seq_accept(). No allocation. seq and sampler must be of the same vocab. */
void tsr_sampler_choose(struct tsr_sampler *sampler, const struct tsr_sampler_seq *seq,
                        const float *logits, uint32_t index, struct tsr_sampled *out);

/* Counts a token of the answer for the penalties. */
void tsr_sampler_seq_accept(struct tsr_sampler_seq *seq, uint32_t id);

/* Philox4x32-10 (Salmon et al., "Parallel Random Numbers: As Easy as 1, 2, 3", SC 2011), key =
 * seed, counter = (index, 0, 0, 0). A uniform number in [0, 1) with 53 bits. */
double tsr_sampler_uniform(uint64_t seed, uint32_t index);

#endif
