#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "sampler_priv.h"

void tsr_sampling_init(struct tsr_sampling *sampling)
{
    *sampling =
        (struct tsr_sampling){.temperature = 1.0f, .top_p = 1.0f, .repetition_penalty = 1.0f};
}

int tsr_sampling_check(const struct tsr_sampling *sampling, uint32_t vocab, struct tsr_err *err)
{
    const struct {
        const char *name;
        float value, low, high;
    } ranges[] = {
        {"temperature", sampling->temperature, 0.0f, 100.0f},
        {"min_p", sampling->min_p, 0.0f, 1.0f},
        {"presence_penalty", sampling->presence_penalty, -10.0f, 10.0f},
        {"frequency_penalty", sampling->frequency_penalty, -10.0f, 10.0f},
    };
    for (size_t i = 0; i < sizeof(ranges) / sizeof(ranges[0]); i++)
        if (!(ranges[i].value >= ranges[i].low && ranges[i].value <= ranges[i].high))
            return tsr_err_set(err, -EINVAL, "%s is %g, not within %g to %g", ranges[i].name,
                               (double)ranges[i].value, (double)ranges[i].low,
                               (double)ranges[i].high);
    if (!(sampling->top_p > 0.0f && sampling->top_p <= 1.0f))
        return tsr_err_set(err, -EINVAL, "top_p is %g, not above 0 and at most 1",
                           (double)sampling->top_p);
    if (!(sampling->repetition_penalty > 0.0f && sampling->repetition_penalty <= 10.0f))
        return tsr_err_set(err, -EINVAL, "repetition_penalty is %g, not above 0 and at most 10",
                           (double)sampling->repetition_penalty);
    if (sampling->top_logprobs > TSR_SAMPLING_TOP_MAX)
        return tsr_err_set(err, -EINVAL, "top_logprobs is %u, at most %d are reported",
                           sampling->top_logprobs, TSR_SAMPLING_TOP_MAX);
    if (sampling->top_logprobs > 0 && !sampling->logprobs)
        return tsr_err_set(err, -EINVAL, "top_logprobs is %u, but logprobs are not asked for",
                           sampling->top_logprobs);
    if (sampling->n_bias > TSR_SAMPLING_BIAS_MAX)
        return tsr_err_set(err, -EINVAL, "logit_bias has %u entries, at most %d are allowed",
                           sampling->n_bias, TSR_SAMPLING_BIAS_MAX);
    for (uint32_t i = 0; i < sampling->n_bias; i++) {
        const struct tsr_logit_bias *bias = &sampling->bias[i];
        if (bias->token >= vocab)
            return tsr_err_set(err, -EINVAL, "logit_bias names token %u, but there are %u",
                               bias->token, vocab);
        if (!(bias->bias >= -100.0f && bias->bias <= 100.0f))
            return tsr_err_set(err, -EINVAL, "logit_bias of token %u is %g, not within -100 to 100",
                               bias->token, (double)bias->bias);
    }
    return 0;
}

/* Slots of the table that counts up to cap different tokens. */
static uint32_t slots_for(uint32_t cap)
{
    uint32_t slots = 16;
    while (slots / 2 < cap)
        slots *= 2;
    return slots;
}

size_t tsr_sampler_seq_bytes(uint32_t vocab, uint32_t tokens_max)
{
    const struct tsr_sampler_seq *seq = NULL;
    uint32_t cap = tokens_max < vocab ? tokens_max : vocab;
    return sizeof(*seq) + cap * sizeof(*seq->counts) + slots_for(cap) * sizeof(*seq->slots);
}

int tsr_sampler_seq_create(struct tsr_sampler_seq **out, uint32_t vocab, uint32_t tokens_max,
                           struct tsr_err *err)
{
    *out = NULL;
    if (vocab == 0 || tokens_max == 0 || vocab > 1u << 30)
        return tsr_err_set(err, -EINVAL, "a sampler for %u tokens of a vocabulary of %u",
                           tokens_max, vocab);
    struct tsr_sampler_seq *seq = calloc(1, sizeof(*seq));
    if (seq) {
        seq->vocab = vocab;
        seq->cap = tokens_max < vocab ? tokens_max : vocab;
        uint32_t slots = slots_for(seq->cap);
        seq->mask = slots - 1;
        seq->epoch = 1;
        seq->counts = malloc(seq->cap * sizeof(*seq->counts));
        seq->slots = calloc(slots, sizeof(*seq->slots));
        tsr_sampling_init(&seq->sampling);
    }
    if (!seq || !seq->counts || !seq->slots) {
        tsr_sampler_seq_destroy(seq);
        return tsr_err_set(err, -ENOMEM, "no memory to count %u tokens", tokens_max);
    }
    *out = seq;
    return 0;
}

void tsr_sampler_seq_destroy(struct tsr_sampler_seq *seq)
{
    if (!seq)
        return;
    free(seq->counts);
    free(seq->slots);
    free(seq);
}

int tsr_sampler_seq_begin(struct tsr_sampler_seq *seq, const struct tsr_sampling *sampling,
                          struct tsr_err *err)
{
    int rc = tsr_sampling_check(sampling, seq->vocab, err);
    if (rc < 0)
        return rc;
    seq->sampling = *sampling;
    seq->sampling.bias = seq->bias;
    if (sampling->n_bias)
        memcpy(seq->bias, sampling->bias, sampling->n_bias * sizeof(*seq->bias));
    seq->penalties = sampling->repetition_penalty != 1.0f || sampling->presence_penalty != 0.0f ||
                     sampling->frequency_penalty != 0.0f;
    seq->n_counts = 0;
    if (++seq->epoch == 0) { /* after 2^32 requests the old marks would be valid again */
        memset(seq->slots, 0, ((size_t)seq->mask + 1) * sizeof(*seq->slots));
        seq->epoch = 1;
    }
    return 0;
}

/* The token's entry, made where there was none; NULL where more tokens come than were announced. */
static struct tsr_sampler_count *entry(struct tsr_sampler_seq *seq, uint32_t token)
{
    for (uint32_t i = token * 0x9E3779B1u >> 7;; i++) {
        struct tsr_sampler_slot *slot = &seq->slots[i & seq->mask];
        if (slot->epoch == seq->epoch) {
            if (seq->counts[slot->index].token == token)
                return &seq->counts[slot->index];
            continue;
        }
        if (seq->n_counts == seq->cap)
            return NULL;
        *slot = (struct tsr_sampler_slot){.epoch = seq->epoch, .index = seq->n_counts};
        seq->counts[seq->n_counts] = (struct tsr_sampler_count){.token = token};
        return &seq->counts[seq->n_counts++];
    }
}

void tsr_sampler_seq_prompt(struct tsr_sampler_seq *seq, const uint32_t *ids, uint32_t n)
{
    if (seq->sampling.repetition_penalty == 1.0f)
        return;
    for (uint32_t i = 0; i < n; i++)
        if (ids[i] < seq->vocab)
            entry(seq, ids[i]);
}

void tsr_sampler_seq_accept(struct tsr_sampler_seq *seq, uint32_t id)
{
    if (!seq->penalties || id >= seq->vocab)
        return;
    struct tsr_sampler_count *count = entry(seq, id);
    if (count)
        count->answer++;
}
