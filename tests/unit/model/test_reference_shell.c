/* The small model of tests/vectors, run by the slow reference, against likelihoods and greedy text
 * of transformers: what a lone clone can check of the builders. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <jansson.h>
#include <limits.h>
#include <stdio.h>

#include <tsr/model/model.h>

#include "reference.h"

enum { TOKENS_MAX = 256, CASES = 5 };

static struct tsr_model model;
static json_t *cases;

static uint32_t append(json_t *array, uint32_t *ids, uint32_t n)
{
    size_t i;
    json_t *id;
    json_array_foreach(array, i, id)
    {
        assert_true(n < TOKENS_MAX);
        ids[n++] = (uint32_t)json_integer_value(id);
    }
    return n;
}

static int setup(void **state)
{
    (void)state;
    const char *source = getenv("TESSERA_SOURCE");
    char path[PATH_MAX];
    struct tsr_err err = {0};
    json_error_t why;
    snprintf(path, sizeof path, "%s/tests/vectors/shell-5m", source ? source : ".");
    if (tsr_model_open(&model, path, &err) < 0) {
        print_error("%s\n", err.text);
        return -1;
    }
    snprintf(path, sizeof path, "%s/tests/vectors/shell-5m/reference.json", source ? source : ".");
    json_t *reference = json_load_file(path, 0, &why);
    cases = json_incref(json_object_get(reference, "cases"));
    json_decref(reference);
    return cases ? 0 : -1;
}

static int teardown(void **state)
{
    (void)state;
    json_decref(cases);
    tsr_model_close(&model);
    return 0;
}

static double negative_log_likelihood(const double *row, uint32_t n, uint32_t id)
{
    double best = row[0], total = 0.0;
    for (uint32_t i = 1; i < n; i++) {
        best = row[i] > best ? row[i] : best;
    }
    for (uint32_t i = 0; i < n; i++) {
        total += exp(row[i] - best);
    }
    return best + log(total) - row[id];
}

static void test_reference_gives_the_likelihoods_of_answers(void **state)
{
    (void)state;
    for (size_t c = 0; c < CASES; c++) {
        uint32_t ids[TOKENS_MAX];
        json_t *one = json_array_get(cases, c), *nll = json_object_get(one, "nll");
        uint32_t prompt = append(json_object_get(one, "prompt"), ids, 0);
        uint32_t n = append(json_object_get(one, "answer"), ids, prompt);
        double *logits = reference_logits(&model.program, ids, n - 1);
        for (uint32_t i = prompt; i < n; i++) {
            double got = negative_log_likelihood(logits + (i - 1) * (size_t)model.program.vocab,
                                                 model.program.vocab, ids[i]);
            double expected = json_number_value(json_array_get(nll, i - prompt));
            assert_true(fabs(got - expected) < 2e-5); /* stated to five places */
        }
        free(logits);
    }
}

static void test_reference_gives_the_greedy_text(void **state)
{
    (void)state;
    for (size_t c = 0; c < CASES; c++) {
        uint32_t ids[TOKENS_MAX], vocab = model.program.vocab;
        json_t *one = json_array_get(cases, c);
        uint32_t prompt = append(json_object_get(one, "prompt"), ids, 0);
        uint32_t n = append(json_object_get(one, "greedy"), ids, prompt);
        double *logits = reference_logits(&model.program, ids, n - 1);
        for (uint32_t i = prompt; i < n; i++) {
            const double *row = logits + (i - 1) * (size_t)vocab;
            for (uint32_t j = 0; j < vocab; j++) {
                assert_true(row[j] <= row[ids[i]]);
            }
        }
        free(logits);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_reference_gives_the_likelihoods_of_answers),
        cmocka_unit_test(test_reference_gives_the_greedy_text),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
