/* Choosing a token: microseconds a token for the ways that requests ask for, beside one pass over
 * the row.
 *
 *   bench_sampler [VOCAB] [--quick]
 *
 * Random logits, normally distributed with a standard deviation of 3 (a flat model: many
 * candidates) over 128,256 tokens by default. One thread, its CPU time, median of 5 batches. "read"
 * is what adding up the row takes: the least that any way can. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <tsr/text/sampler.h>

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

static uint32_t vocab = 128256;
static float *logits;
static uint32_t sink;

static double read_row(void)
{
    double begin = now();
    float lane[16] = {0};
    for (uint32_t i = 0; i + 16 <= vocab; i += 16)
        for (int k = 0; k < 16; k++)
            lane[k] += logits[i + (uint32_t)k];
    sink += lane[0] > lane[7];
    return now() - begin;
}

static void run(const char *what, const struct tsr_sampling *sampling, int tokens, double read)
{
    struct tsr_sampler *sampler;
    struct tsr_sampler_seq *seq;
    struct tsr_sampled out;
    double batch[5];
    if (tsr_sampler_create(&sampler, vocab, NULL) < 0 ||
        tsr_sampler_seq_create(&seq, vocab, 4096, NULL) < 0)
        exit(1);
    for (int b = 0; b < 5; b++) {
        if (tsr_sampler_seq_begin(seq, sampling, NULL) < 0)
            exit(1);
        double begin = now();
        for (int i = 0; i < tokens; i++) {
            tsr_sampler_choose(sampler, seq, logits, (uint32_t)i, &out);
            tsr_sampler_seq_accept(seq, out.id);
            sink += out.id;
        }
        batch[b] = (now() - begin) / tokens;
    }
    qsort(batch, 5, sizeof(*batch), by_value);
    printf("%-36s %8.1f us  %6.1f x read\n", what, batch[2] * 1e6, batch[2] / read);
    tsr_sampler_seq_destroy(seq);
    tsr_sampler_destroy(sampler);
}

int main(int argc, char **argv)
{
    int tokens = 200;
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--quick") == 0)
            tokens = 2;
        else
            vocab = (uint32_t)strtoul(argv[i], NULL, 10);
    }
    logits = malloc((size_t)(vocab + 16) * sizeof(*logits));
    if (!logits || vocab < 64)
        return 1;
    for (uint32_t i = 0; i < vocab; i++) {
        double u = tsr_sampler_uniform(1, 2 * i), v = tsr_sampler_uniform(1, 2 * i + 1);
        logits[i] = (float)(3.0 * sqrt(-2.0 * log(1.0 - u)) * cos(6.283185307179586 * v));
    }
    double read[5];
    for (int i = 0; i < 5; i++)
        read[i] = read_row();
    qsort(read, 5, sizeof(*read), by_value);
    printf("vocabulary %u, read %.1f us\n", vocab, read[2] * 1e6);
    struct tsr_sampling s;
    tsr_sampling_init(&s);
    s.temperature = 0.0f;
    run("greedy", &s, tokens, read[2]);
    s.logprobs = true;
    run("greedy, log-probability", &s, tokens, read[2]);
    s.top_logprobs = 20;
    run("greedy, 20 log-probabilities", &s, tokens, read[2]);
    tsr_sampling_init(&s);
    run("temperature 1", &s, tokens, read[2]);
    s.top_k = 40;
    run("temperature 1, top-k 40", &s, tokens, read[2]);
    s.top_p = 0.95f;
    run("temperature 1, top-k 40, top-p 0.95", &s, tokens, read[2]);
    s.top_k = 0;
    run("temperature 1, top-p 0.95", &s, tokens, read[2]);
    s.temperature = 0.6f;
    s.top_p = 0.9f;
    run("temperature 0.6, top-p 0.9", &s, tokens, read[2]);
    s.top_p = 1.0f;
    s.min_p = 0.05f;
    run("temperature 0.6, min-p 0.05", &s, tokens, read[2]);
    s.min_p = 0.0f;
    s.top_k = 40;
    s.repetition_penalty = 1.1f;
    run("top-k 40, repetition penalty", &s, tokens, read[2]);
    free(logits);
    return sink == 0xFFFFFFFF;
}
