#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <tsr/text/sampler.h>
#include <tsr/text/vocab.h>

enum { VOCAB = 1000, TOKENS = 256 };

static struct tsr_sampler *sampler;
static struct tsr_sampler_seq *seq;
static float logits[VOCAB];
static uint64_t random_state;

static uint32_t random_u32(void)
{
    random_state = random_state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(random_state >> 33);
}

static int set_up(void **state)
{
    (void)state;
    random_state = 7;
    for (int i = 0; i < VOCAB; i++)
        logits[i] = (float)(random_u32() % 100000) / 5000.0f - 10.0f;
    if (tsr_sampler_create(&sampler, VOCAB, NULL) < 0)
        return -1;
    return tsr_sampler_seq_create(&seq, VOCAB, TOKENS, NULL);
}

static int tear_down(void **state)
{
    (void)state;
    tsr_sampler_destroy(sampler);
    tsr_sampler_seq_destroy(seq);
    return 0;
}

static uint32_t choose(uint32_t index)
{
    struct tsr_sampled out;
    tsr_sampler_choose(sampler, seq, logits, index, &out);
    return out.id;
}

static void begin(const struct tsr_sampling *sampling)
{
    struct tsr_err err;
    if (tsr_sampler_seq_begin(seq, sampling, &err) < 0)
        fail_msg("%s", err.text);
}

static void test_sampler_refuses_what_is_out_of_range(void **state)
{
    (void)state;
    static const struct tsr_logit_bias outside = {.token = VOCAB, .bias = 1.0f};
    static const struct tsr_logit_bias high = {.token = 1, .bias = 101.0f};
    const struct {
        struct tsr_sampling sampling;
        const char *names;
    } cases[] = {
        {{.temperature = -1.0f, .top_p = 1.0f, .repetition_penalty = 1.0f}, "temperature"},
        {{.temperature = NAN, .top_p = 1.0f, .repetition_penalty = 1.0f}, "temperature"},
        {{.temperature = 101.0f, .top_p = 1.0f, .repetition_penalty = 1.0f}, "temperature"},
        {{.top_p = 0.0f, .repetition_penalty = 1.0f}, "top_p"},
        {{.top_p = 1.1f, .repetition_penalty = 1.0f}, "top_p"},
        {{.top_p = NAN, .repetition_penalty = 1.0f}, "top_p"},
        {{.top_p = 1.0f, .min_p = 1.5f, .repetition_penalty = 1.0f}, "min_p"},
        {{.top_p = 1.0f}, "repetition_penalty"},
        {{.top_p = 1.0f, .repetition_penalty = 10.5f}, "repetition_penalty"},
        {{.top_p = 1.0f, .repetition_penalty = NAN}, "repetition_penalty"},
        {{.top_p = 1.0f, .repetition_penalty = 1.0f, .presence_penalty = -10.5f},
         "presence_penalty"},
        {{.top_p = 1.0f, .repetition_penalty = 1.0f, .frequency_penalty = NAN},
         "frequency_penalty"},
        {{.top_p = 1.0f, .repetition_penalty = 1.0f, .logprobs = true, .top_logprobs = 21},
         "top_logprobs"},
        {{.top_p = 1.0f, .repetition_penalty = 1.0f, .top_logprobs = 1}, "top_logprobs"},
        {{.top_p = 1.0f, .repetition_penalty = 1.0f, .n_bias = 1025}, "logit_bias"},
        {{.top_p = 1.0f, .repetition_penalty = 1.0f, .n_bias = 1, .bias = &outside}, "logit_bias"},
        {{.top_p = 1.0f, .repetition_penalty = 1.0f, .n_bias = 1, .bias = &high}, "logit_bias"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct tsr_err err;
        assert_int_equal(tsr_sampler_seq_begin(seq, &cases[i].sampling, &err), -22);
        assert_non_null(strstr(err.text, cases[i].names));
    }
}

static void test_sampler_refuses_a_row_without_numbers(void **state)
{
    (void)state;
    struct tsr_sampling sampling;
    tsr_sampling_init(&sampling);
    begin(&sampling);
    for (int i = 0; i < VOCAB; i++)
        logits[i] = i % 2 ? NAN : -INFINITY;
    assert_int_equal(choose(0), TSR_TOKEN_NONE);
    logits[3] = -1e30f;
    assert_int_equal(choose(0), 3);
}

/* Random123's known answer for philox4x32-10 with counter 0 and key 0 begins 6627e8d5 e169c58d; the
 * rest of the test says that numbers spread evenly and that seeds differ. */
static void test_sampler_uniform_is_philox(void **state)
{
    (void)state;
    uint64_t bits = (uint64_t)0x6627e8d5u << 32 | 0xe169c58du;
    assert_true(tsr_sampler_uniform(0, 0) == (double)(bits >> 11) * 0x1p-53);
    double sum = 0.0;
    unsigned bins[16] = {0};
    for (uint32_t i = 0; i < 16000; i++) {
        double u = tsr_sampler_uniform(12345678901234567u, i);
        assert_true(u >= 0.0 && u < 1.0);
        sum += u;
        bins[(unsigned)(u * 16.0)]++;
    }
    assert_true(fabs(sum / 16000.0 - 0.5) < 0.01);
    for (int i = 0; i < 16; i++)
        assert_in_range(bins[i], 850, 1150);
    assert_true(tsr_sampler_uniform(1, 5) != tsr_sampler_uniform(2, 5));
}

static void test_sampler_takes_the_highest_and_lowest_id_when_greedy(void **state)
{
    (void)state;
    struct tsr_sampling sampling;
    tsr_sampling_init(&sampling);
    sampling.temperature = 0.0f;
    begin(&sampling);
    logits[700] = logits[333] = logits[999] = 50.0f;
    assert_int_equal(choose(0), 333);
    logits[999] = 51.0f; /* in the last, short block */
    assert_int_equal(choose(0), 999);
    logits[5] = INFINITY;
    assert_int_equal(choose(0), 5);
}

/* The set that a filter leaves, by sorting. */
static int by_logit(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    if (logits[x] != logits[y])
        return logits[x] < logits[y] ? 1 : -1;
    return x < y ? -1 : 1;
}

static uint32_t expected_set(const struct tsr_sampling *p, uint32_t *set, double *probability)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < VOCAB; i++)
        set[n++] = i;
    qsort(set, n, sizeof(*set), by_logit);
    if (p->top_k && p->top_k < n)
        n = p->top_k;
    double sum = 0.0, max = (double)logits[set[0]];
    for (uint32_t i = 0; i < n; i++)
        sum += exp(((double)logits[set[i]] - max) / (double)p->temperature);
    double mass = 0.0;
    uint32_t kept = 0;
    while (kept < n && mass < (double)p->top_p * sum)
        mass += exp(((double)logits[set[kept++]] - max) / (double)p->temperature);
    n = kept;
    while (n > 1 &&
           exp(((double)logits[set[n - 1]] - max) / (double)p->temperature) < (double)p->min_p)
        n--;
    sum = 0.0;
    for (uint32_t i = 0; i < n; i++)
        sum += probability[i] = exp(((double)logits[set[i]] - max) / (double)p->temperature);
    for (uint32_t i = 0; i < n; i++)
        probability[i] /= sum;
    return n;
}

/* Every draw lies in the expected set, and frequencies are those of the distribution (chi-squared
 * over the likelier tokens). */
static void check_distribution(const struct tsr_sampling *p)
{
    static uint32_t set[VOCAB], seen[VOCAB];
    static double probability[VOCAB];
    enum { DRAWS = 20000 };
    uint32_t n = expected_set(p, set, probability);
    memset(seen, 0, sizeof(seen));
    begin(p);
    for (uint32_t i = 0; i < DRAWS; i++)
        seen[choose(i)]++;
    double chi = 0.0;
    uint32_t bins = 0, inside = 0;
    for (uint32_t i = 0; i < n; i++) {
        double expect = probability[i] * DRAWS;
        inside += seen[set[i]];
        if (expect < 5.0)
            continue;
        chi += ((double)seen[set[i]] - expect) * ((double)seen[set[i]] - expect) / expect;
        bins++;
    }
    assert_int_equal(inside, DRAWS);
    assert_true(chi < (double)bins + 5.0 * sqrt(2.0 * (double)bins) + 5.0);
}

static void test_sampler_draws_from_the_filtered_distribution(void **state)
{
    (void)state;
    static const struct {
        float temperature, top_p, min_p;
        uint32_t top_k;
    } cases[] = {
        {1.0f, 1.0f, 0.0f, 0},    {2.0f, 1.0f, 0.0f, 0},   {0.5f, 1.0f, 0.0f, 0},
        {1.0f, 1.0f, 0.0f, 40},   {1.0f, 0.9f, 0.0f, 0},   {1.5f, 0.95f, 0.0f, 50},
        {1.0f, 1.0f, 0.05f, 0},   {3.0f, 0.8f, 0.02f, 20}, {10.0f, 0.999f, 0.0f, 0},
        {1.0f, 1e-6f, 0.0f, 0},   {1.0f, 1.0f, 1.0f, 0},   {100.0f, 0.5f, 0.0f, 999},
        {1.0f, 0.7f, 0.0f, 5000},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct tsr_sampling p;
        tsr_sampling_init(&p);
        p.temperature = cases[i].temperature;
        p.top_p = cases[i].top_p;
        p.min_p = cases[i].min_p;
        p.top_k = cases[i].top_k;
        p.seed = 99 + i;
        check_distribution(&p);
    }
}

static void test_sampler_draws_among_equal_logits(void **state)
{
    (void)state;
    struct tsr_sampling p;
    tsr_sampling_init(&p);
    for (int i = 0; i < VOCAB; i++)
        logits[i] = 1.5f;
    check_distribution(&p);
    p.top_k = 17; /* the lowest ids of the equal ones */
    check_distribution(&p);
    p.top_k = 0;
    p.top_p = 0.25f;
    begin(&p);
    for (uint32_t i = 0; i < 2000; i++)
        assert_in_range(choose(i), 0, 250);
}

static void test_sampler_repeats_itself_for_a_seed(void **state)
{
    (void)state;
    uint32_t first[100];
    struct tsr_sampling p;
    tsr_sampling_init(&p);
    p.seed = 42;
    p.top_p = 0.95f;
    p.temperature = 3.0f;
    begin(&p);
    for (uint32_t i = 0; i < 100; i++)
        first[i] = choose(i);
    /* Another request in between, and another order of the indices. */
    p.seed = 43;
    begin(&p);
    unsigned same = 0;
    for (uint32_t i = 0; i < 100; i++)
        same += choose(i) == first[i];
    assert_true(same < 50);
    p.seed = 42;
    begin(&p);
    for (uint32_t i = 100; i-- > 0;)
        assert_int_equal(choose(i), first[i]);
}

static void test_sampler_reports_log_probabilities_of_the_raw_logits(void **state)
{
    (void)state;
    static const struct tsr_logit_bias bias = {.token = 77, .bias = 100.0f};
    struct tsr_sampling p;
    struct tsr_sampled out;
    tsr_sampling_init(&p);
    p.temperature = 0.0f;
    p.logprobs = true;
    p.top_logprobs = 20;
    p.n_bias = 1;
    p.bias = &bias;
    begin(&p);
    logits[10] = logits[20] = 9.875f;
    tsr_sampler_choose(sampler, seq, logits, 0, &out);
    assert_int_equal(out.id, 77); /* by the bias */
    double sum = 0.0;
    for (int i = 0; i < VOCAB; i++)
        sum += exp((double)logits[i]);
    assert_true(fabs((double)out.logprob - ((double)logits[77] - log(sum))) < 1e-5);
    uint32_t set[VOCAB];
    for (uint32_t i = 0; i < VOCAB; i++)
        set[i] = i;
    qsort(set, VOCAB, sizeof(*set), by_logit);
    assert_int_equal(out.n_top, 20);
    for (int i = 0; i < 20; i++) {
        assert_int_equal(out.top_id[i], set[i]);
        assert_true(fabs((double)out.top_logprob[i] - ((double)logits[set[i]] - log(sum))) < 1e-5);
    }
}

static void test_sampler_bias_forbids_and_penalties_push_down(void **state)
{
    (void)state;
    struct tsr_logit_bias bias[2] = {{.token = 3, .bias = -100.0f}, {.token = 4, .bias = -2.0f}};
    struct tsr_sampling p;
    tsr_sampling_init(&p);
    p.temperature = 0.0f;
    p.n_bias = 2;
    p.bias = bias;
    begin(&p);
    memset(bias, 0, sizeof(bias)); /* it was copied */
    logits[3] = 1e9f;
    logits[4] = 20.0f;
    logits[5] = 18.5f;
    assert_int_equal(choose(0), 5);

    tsr_sampling_init(&p);
    p.temperature = 0.0f;
    p.frequency_penalty = 1.0f;
    begin(&p);
    logits[3] = 0.0f;
    static const uint32_t prompt[] = {4, 4, 4};
    tsr_sampler_seq_prompt(seq, prompt, 3); /* counts only for repetition_penalty */
    assert_int_equal(choose(0), 4);
    tsr_sampler_seq_accept(seq, 4);
    assert_int_equal(choose(1), 4);
    tsr_sampler_seq_accept(seq, 4);
    assert_int_equal(choose(2), 5); /* 20 - 2 < 18.5 */

    tsr_sampling_init(&p);
    p.temperature = 0.0f;
    p.presence_penalty = 1.0f;
    begin(&p); /* forgets what was counted before */
    assert_int_equal(choose(0), 4);
    tsr_sampler_seq_accept(seq, 4);
    tsr_sampler_seq_accept(seq, 4);
    assert_int_equal(choose(1), 4); /* once: 20 - 1 > 18.5 */

    tsr_sampling_init(&p);
    p.temperature = 0.0f;
    p.repetition_penalty = 2.0f;
    begin(&p);
    tsr_sampler_seq_prompt(seq, prompt, 3);
    assert_int_equal(choose(0), 5);
    for (int i = 0; i < VOCAB; i++)
        logits[i] -= 100.0f; /* now all are negative, and the penalty multiplies */
    assert_int_equal(choose(0), 5);
}

static void test_sampler_counts_more_tokens_than_announced_without_harm(void **state)
{
    (void)state;
    struct tsr_sampling p;
    tsr_sampling_init(&p);
    p.repetition_penalty = 1.3f;
    begin(&p);
    for (uint32_t i = 0; i < VOCAB; i++)
        tsr_sampler_seq_prompt(seq, &i, 1);
    for (uint32_t i = 0; i < VOCAB; i++)
        tsr_sampler_seq_accept(seq, i);
    assert_in_range(choose(0), 0, VOCAB - 1);
    const uint32_t outside = VOCAB;
    tsr_sampler_seq_prompt(seq, &outside, 1);
    tsr_sampler_seq_accept(seq, TSR_TOKEN_NONE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_sampler_refuses_what_is_out_of_range, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_sampler_refuses_a_row_without_numbers, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_sampler_uniform_is_philox, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_sampler_takes_the_highest_and_lowest_id_when_greedy,
                                        set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_sampler_draws_from_the_filtered_distribution, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_sampler_draws_among_equal_logits, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_sampler_repeats_itself_for_a_seed, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_sampler_reports_log_probabilities_of_the_raw_logits,
                                        set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_sampler_bias_forbids_and_penalties_push_down, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_sampler_counts_more_tokens_than_announced_without_harm,
                                        set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
