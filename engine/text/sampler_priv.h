/* What choosing a token needs to know of a request. */
#ifndef TSR_TEXT_SAMPLER_PRIV_H
#define TSR_TEXT_SAMPLER_PRIV_H

#include <tsr/text/sampler.h>

/* A token that occurred, or was in the prompt. */
struct tsr_sampler_count {
    uint32_t token;
    uint32_t answer; /* occurrences in the answer */
};

struct tsr_sampler_slot {
    uint32_t epoch; /* of the request that filled it; any other: empty */
    uint32_t index; /* into counts */
};

/* Invariant: n_counts <= cap, and at least half of the slots are empty. */
struct tsr_sampler_seq {
    uint32_t vocab;
    struct tsr_sampling sampling; /* bias points to the array below */
    struct tsr_logit_bias bias[TSR_SAMPLING_BIAS_MAX];
    bool penalties;
    uint32_t epoch, mask, n_counts, cap;
    struct tsr_sampler_count *counts; /* [cap] */
    struct tsr_sampler_slot *slots;   /* [mask + 1] */
};

#endif
