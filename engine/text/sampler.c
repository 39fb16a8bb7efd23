#include <errno.h>
#include <stdlib.h>

#include <tsr/text/vocab.h>

#include "sampler_priv.h"
#include "select_priv.h"

#define GREEDY_BELOW 1e-4f

/* For a vocabulary of V in B blocks. */
struct tsr_sampler {
    uint32_t vocab, n_blocks;
    float *row;                /* [V] the logits with bias and penalties */
    float *raw_max, *row_max;  /* [B] */
    float *spare;              /* [B] */
    double *sums;              /* [B] */
    struct tsr_candidate *top; /* [V] */
};

int tsr_sampler_create(struct tsr_sampler **out, uint32_t vocab, struct tsr_err *err)
{
    *out = NULL;
    if (vocab == 0 || vocab > 1u << 30)
        return tsr_err_set(err, -EINVAL, "a sampler for a vocabulary of %u", vocab);
    struct tsr_sampler *s = calloc(1, sizeof(*s));
    if (s) {
        uint32_t blocks = tsr_select_blocks(vocab);
        s->vocab = vocab;
        s->n_blocks = blocks;
        s->row = calloc(vocab, sizeof(*s->row));
        s->raw_max = calloc(blocks, sizeof(*s->raw_max));
        s->row_max = calloc(blocks, sizeof(*s->row_max));
        s->spare = calloc(blocks, sizeof(*s->spare));
        s->sums = calloc(blocks, sizeof(*s->sums));
        s->top = calloc(vocab, sizeof(*s->top));
    }
    if (!s || !s->row || !s->raw_max || !s->row_max || !s->spare || !s->sums || !s->top) {
        tsr_sampler_destroy(s);
        return tsr_err_set(err, -ENOMEM, "no memory to sample from %u tokens", vocab);
    }
    *out = s;
    return 0;
}

void tsr_sampler_destroy(struct tsr_sampler *sampler)
{
    if (!sampler)
        return;
    free(sampler->row);
    free(sampler->raw_max);
    free(sampler->row_max);
    free(sampler->spare);
    free(sampler->sums);
    free(sampler->top);
    free(sampler);
}

double tsr_sampler_uniform(uint64_t seed, uint32_t index)
{
    uint32_t c[4] = {index, 0, 0, 0};
    uint32_t key0 = (uint32_t)seed, key1 = (uint32_t)(seed >> 32);
    for (int round = 0; round < 10; round++) {
        uint64_t a = (uint64_t)c[0] * 0xD2511F53u, b = (uint64_t)c[2] * 0xCD9E8D57u;
        uint32_t n0 = (uint32_t)(b >> 32) ^ c[1] ^ key0, n2 = (uint32_t)(a >> 32) ^ c[3] ^ key1;
        c[0] = n0;
        c[1] = (uint32_t)b;
        c[2] = n2;
        c[3] = (uint32_t)a;
        key0 += 0x9E3779B9u;
        key1 += 0xBB67AE85u;
    }
    uint64_t bits = (uint64_t)c[0] << 32 | c[1];
    return (double)(bits >> 11) * 0x1p-53;
}

/* The row that is sampled from: logits themselves, or a copy with bias and penalties. */
static const float *adjust(struct tsr_sampler *s, const struct tsr_sampler_seq *seq,
                           const float *logits)
{
    const struct tsr_sampling *p = &seq->sampling;
    if (p->n_bias == 0 && seq->n_counts == 0)
        return logits;
    memcpy(s->row, logits, s->vocab * sizeof(*s->row));
    for (uint32_t i = 0; i < p->n_bias; i++) {
        float *x = &s->row[p->bias[i].token];
        *x = p->bias[i].bias <= -100.0f ? -INFINITY : *x + p->bias[i].bias;
    }
    for (uint32_t i = 0; i < seq->n_counts; i++) {
        const struct tsr_sampler_count *count = &seq->counts[i];
        float *x = &s->row[count->token];
        *x = *x > 0.0f ? *x / p->repetition_penalty : *x * p->repetition_penalty;
        if (count->answer)
            *x -= p->presence_penalty + p->frequency_penalty * (float)count->answer;
    }
    return s->row;
}

/* Draws from all of the row. */
static uint32_t draw_any(struct tsr_sampler *s, const float *row, float max, float scale, double u)
{
    double left = u * tsr_select_sums(row, s->vocab, max, scale, s->sums);
    uint32_t block = 0, last = TSR_TOKEN_NONE;
    while (block + 1 < s->n_blocks && left >= s->sums[block])
        left -= s->sums[block++];
    /* A block's sum was rounded otherwise than this one: what is left over falls to the last token
     * with any weight, in this block or, where it has none, before. */
    for (;; block--) {
        uint32_t at = block * TSR_SELECT_BLOCK;
        uint32_t end = s->vocab - at < TSR_SELECT_BLOCK ? s->vocab : at + TSR_SELECT_BLOCK;
        for (uint32_t i = at; i < end; i++) {
            float weight = tsr_exp_negative((row[i] - max) * scale);
            if (weight == 0.0f)
                continue;
            last = i;
            left -= (double)weight;
            if (left < 0.0)
                return i;
        }
        if (last != TSR_TOKEN_NONE || block == 0)
            return last;
    }
}

static double weigh(struct tsr_candidate *c, uint32_t n, float max, float scale)
{
    double sum = 0.0;
    for (uint32_t i = 0; i < n; i++) {
        c[i].weight = tsr_exp_negative((c[i].logit - max) * scale);
        sum += (double)c[i].weight;
    }
    return sum;
}

/* Candidates that hold at least `mass` of the row's weights: the bound is lowered until they do. */
static uint32_t gather_mass(struct tsr_sampler *s, const float *row, float max, float scale,
                            double mass)
{
    for (float nats = 6.0f; nats < 87.0f; nats *= 1.5f) {
        uint32_t n = tsr_select_gather(row, s->vocab, s->row_max, max - nats / scale, s->top);
        if (weigh(s->top, n, max, scale) >= mass)
            return n;
    }
    uint32_t n = tsr_select_gather(row, s->vocab, s->row_max, max - 87.0f / scale, s->top);
    weigh(s->top, n, max, scale);
    return n;
}

static uint32_t draw(struct tsr_sampler *s, const struct tsr_sampling *p, const float *row,
                     float max, double u)
{
    float scale = 1.0f / p->temperature;
    bool few = p->top_k > 0 && p->top_k < s->vocab;
    uint32_t n;
    if (!few && p->top_p >= 1.0f && p->min_p <= 0.0f)
        return draw_any(s, row, max, scale, u);
    if (few) {
        float bound = tsr_select_bound(s->row_max, s->n_blocks, p->top_k, s->spare);
        n = tsr_select_gather(row, s->vocab, s->row_max, bound, s->top);
        n = tsr_select_count(s->top, n, p->top_k);
        double sum = weigh(s->top, n, max, scale);
        if (p->top_p < 1.0f)
            n = tsr_select_mass(s->top, n, (double)p->top_p * sum);
    } else if (p->top_p < 1.0f) {
        double sum = tsr_select_sums(row, s->vocab, max, scale, s->sums);
        double mass = (double)p->top_p * sum;
        n = gather_mass(s, row, max, scale, mass);
        n = tsr_select_mass(s->top, n, mass);
    } else {
        float bound = max + logf(p->min_p) * p->temperature;
        n = tsr_select_gather(row, s->vocab, s->row_max, bound < max ? bound : max, s->top);
        weigh(s->top, n, max, scale);
    }
    double sum = 0.0;
    uint32_t kept = 0;
    for (uint32_t i = 0; i < n; i++) {
        if (s->top[i].weight < p->min_p)
            continue;
        s->top[kept] = s->top[i];
        sum += (double)s->top[kept++].weight;
    }
    double left = u * sum;
    uint32_t chosen = s->top[0].id;
    for (uint32_t i = 0; i < kept; i++) {
        if (s->top[i].weight == 0.0f)
            continue;
        chosen = s->top[i].id;
        left -= (double)s->top[i].weight;
        if (left < 0.0)
            break;
    }
    return chosen;
}

/* Log-probabilities by the raw logits, whose maxima are in raw_max. */
static void report(struct tsr_sampler *s, const float *logits, float max, uint32_t n_top,
                   struct tsr_sampled *out)
{
    double sum = tsr_select_sums(logits, s->vocab, max, 1.0f, s->sums);
    float log_sum = (float)log(sum);
    out->logprob = (logits[out->id] - max) - log_sum;
    if (n_top == 0)
        return;
    float bound = tsr_select_bound(s->raw_max, s->n_blocks, n_top, s->spare);
    uint32_t n = tsr_select_gather(logits, s->vocab, s->raw_max, bound, s->top);
    n = tsr_select_count(s->top, n, n_top);
    tsr_select_sort(s->top, n);
    out->n_top = n;
    for (uint32_t i = 0; i < n; i++) {
        out->top_id[i] = s->top[i].id;
        out->top_logprob[i] = (s->top[i].logit - max) - log_sum;
    }
}

void tsr_sampler_choose(struct tsr_sampler *sampler, const struct tsr_sampler_seq *seq,
                        const float *logits, uint32_t index, struct tsr_sampled *out)
{
    struct tsr_sampler *s = sampler;
    const struct tsr_sampling *p = &seq->sampling;
    out->id = TSR_TOKEN_NONE;
    out->logprob = 0.0f;
    out->n_top = 0;
    const float *row = adjust(s, seq, logits);
    float max = tsr_select_maxima(row, s->vocab, s->row_max);
    if (max == -INFINITY)
        return;
    if (p->temperature < GREEDY_BELOW || p->top_k == 1 || max == INFINITY)
        out->id = tsr_select_first(row, s->vocab, s->row_max, max);
    else
        out->id = draw(s, p, row, max, tsr_sampler_uniform(p->seed, index));
    if (!p->logprobs)
        return;
    max = tsr_select_maxima(logits, s->vocab, s->raw_max);
    if (max < INFINITY) /* an infinite logit leaves no probabilities to report */
        report(s, logits, max, p->top_logprobs, out);
}
