/* The executor on the small committed model: refusals, what a plan says, and that a row never feels
 * its neighbours. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include <tsr/exec/exec.h>

enum { SEQUENCES = 6, LENGTH_MAX = 130, PAGES = (LENGTH_MAX + 63) / 64 };

static struct tsr_model model;

static char *vectors(const char *name)
{
    static char path[4096];
    const char *source = getenv("TESSERA_SOURCE");
    snprintf(path, sizeof path, "%s/tests/vectors/shell-5m%s%s", source ? source : ".",
             *name ? "/" : "", name);
    return path;
}

static uint64_t kv_bytes(uint32_t pages)
{
    struct tsr_kv_shape shape = {model.program.layers, model.program.kv_heads,
                                 model.program.head_dim, 4};
    return pages * tsr_kv_page_bytes(&shape);
}

static struct tsr_exec *start(struct tsr_exec_options options)
{
    struct tsr_exec *exec;
    struct tsr_err err = {0};
    options.kv_bytes = kv_bytes(SEQUENCES * PAGES);
    options.logit_rows_max = 512;
    if (tsr_exec_create(&exec, &model, &options, NULL, NULL, &err) < 0) {
        fail_msg("%s", err.text);
    }
    return exec;
}

static void test_exec_plan_refuses_more_than_there_is(void **unused)
{
    (void)unused;
    struct tsr_exec_plan plan;
    struct tsr_err err;
    struct tsr_exec_options options = {.kv_bytes = 1ull << 50};
    assert_int_equal(tsr_exec_plan(&plan, &model, &options, &err), -ENOMEM);
    assert_non_null(strstr(err.text, "KV cache 1125"));
    assert_non_null(strstr(err.text, "available"));
    assert_true(plan.need_bytes > plan.available_bytes);
}

static void test_exec_plan_refuses_worker_counts(void **unused)
{
    (void)unused;
    struct tsr_exec_plan plan;
    struct tsr_err err;
    struct tsr_exec_options options = {.workers = TSR_EXEC_WORKERS_MAX + 1};
    assert_int_equal(tsr_exec_plan(&plan, &model, &options, &err), -EINVAL);
    options = (struct tsr_exec_options){.workers = 200, .pin = true};
    assert_int_equal(tsr_exec_plan(&plan, &model, &options, &err), -EINVAL);
    assert_non_null(strstr(err.text, "--threads"));
}

static void test_exec_plan_refuses_a_missing_instruction_set(void **unused)
{
    (void)unused;
    struct tsr_exec_plan plan;
    struct tsr_err err;
    struct tsr_exec_options options = {.isa = TSR_ISA_AVX512};
    if (tsr_exec_isa_best() == TSR_ISA_AVX512) {
        skip();
    }
    assert_int_equal(tsr_exec_plan(&plan, &model, &options, &err), -ENOTSUP);
    assert_non_null(strstr(err.text, "avx512"));
}

static void test_exec_plan_states_need(void **unused)
{
    (void)unused;
    struct tsr_exec_plan plan;
    struct tsr_exec_options options = {.workers = 2, .context = 100};
    assert_int_equal(tsr_exec_plan(&plan, &model, &options, NULL), 0);
    assert_int_equal(plan.context, 100);
    assert_int_equal(plan.workers, 2);
    /* bf16: two bytes a weight, norms apart */
    assert_in_range(plan.weights_bytes, 2 * model.program.parameters * 99 / 100,
                    2 * model.program.parameters * 101 / 100);
    assert_int_equal(plan.kv_positions, 16 * 128); /* 16 contexts, in pages of 64 */
    assert_int_equal(plan.need_bytes, plan.weights_bytes + plan.kv_bytes + plan.buffer_bytes);
}

static uint32_t state = 7;
static uint32_t below(uint32_t n)
{
    state = state * 1664525u + 1013904223u;
    return (uint32_t)((uint64_t)(state >> 4) * n >> 28);
}

static uint32_t ids[SEQUENCES][LENGTH_MAX], length[SEQUENCES];
static float *expected[SEQUENCES]; /* [length, vocab] */

/* Runs all sequences: alone and whole, or mixed in random steps; keeps or compares every row's
 * logits. */
static void run(struct tsr_exec *exec, bool mixed)
{
    uint32_t pages[SEQUENCES][PAGES], at[SEQUENCES] = {0}, vocab = model.program.vocab;
    struct tsr_kv_seq seq[SEQUENCES];
    for (uint32_t i = 0; i < SEQUENCES; i++) {
        tsr_kv_seq_init(&seq[i], pages[i], PAGES);
    }
    for (;;) {
        struct tsr_span spans[SEQUENCES];
        uint32_t whose[SEQUENCES], n = 0, left = 0, logit = 0;
        for (uint32_t i = 0; i < SEQUENCES; i++) {
            uint32_t rest = length[i] - at[i];
            left += rest;
            if (rest == 0 || (mixed ? below(3) == 0 : n == 1)) {
                continue;
            }
            uint32_t rows = mixed ? 1 + below(below(2) ? 4 : 60) : rest;
            rows = rows < rest ? rows : rest;
            if (tsr_kv_reserve(tsr_exec_kv(exec), &seq[i], at[i] + rows) < 0) {
                fail();
            }
            spans[n] = (struct tsr_span){.kv = &seq[i],
                                         .tokens = ids[i] + at[i],
                                         .rows = rows,
                                         .position = at[i],
                                         .logit_rows = rows};
            whose[n++] = i;
        }
        if (left == 0) {
            break;
        }
        tsr_exec_step(exec, spans, n);
        for (uint32_t s = 0; s < n; s++) {
            uint32_t i = whose[s];
            for (uint32_t r = 0; r < spans[s].rows; r++, logit++) {
                float *row = expected[i] + (size_t)(at[i] + r) * vocab;
                if (mixed) {
                    assert_memory_equal(row, tsr_exec_logits(exec, logit), vocab * sizeof *row);
                } else {
                    memcpy(row, tsr_exec_logits(exec, logit), vocab * sizeof *row);
                }
            }
            at[i] += spans[s].rows;
        }
    }
    for (uint32_t i = 0; i < SEQUENCES; i++) {
        tsr_kv_release(tsr_exec_kv(exec), &seq[i]);
    }
    assert_int_equal(tsr_kv_pages_free(tsr_exec_kv(exec)), tsr_kv_pages_total(tsr_exec_kv(exec)));
}

static void test_exec_row_never_feels_its_neighbours(void **unused)
{
    (void)unused;
    static const enum tsr_weights weights[] = {TSR_WEIGHTS_FILE, TSR_WEIGHTS_INT8, TSR_WEIGHTS_F16};
    for (uint32_t i = 0; i < SEQUENCES; i++) {
        length[i] = i == 0 ? LENGTH_MAX : 1 + below(LENGTH_MAX);
        expected[i] = malloc((size_t)length[i] * model.program.vocab * sizeof(float));
        for (uint32_t t = 0; t < length[i]; t++) {
            ids[i][t] = below(model.program.vocab);
        }
    }
    for (size_t w = 0; w < sizeof weights / sizeof *weights; w++) {
        for (uint32_t workers = 1; workers <= 4; workers *= 2) {
            struct tsr_exec *exec =
                start((struct tsr_exec_options){.workers = workers, .weights = weights[w]});
            if (workers == 1) {
                run(exec, false);
            }
            for (int mix = 0; mix < 2; mix++) {
                run(exec, true);
            }
            tsr_exec_destroy(exec);
        }
    }
    for (uint32_t i = 0; i < SEQUENCES; i++) {
        free(expected[i]);
    }
}

/* Mean negative log-likelihood of every n-th of 200 answers, against the reference in float64
 * (tests/vectors/shell-5m/README.md). */
static double mean_nll(enum tsr_weights weights, uint32_t every, double *want)
{
    json_t *root = json_load_file(vectors("reference.json"), 0, NULL), *one;
    assert_non_null(root);
    struct tsr_exec *exec = start((struct tsr_exec_options){.workers = 2, .weights = weights});
    double sum = 0;
    uint32_t count = 0;
    size_t i;
    *want = 0;
    json_array_foreach(json_object_get(root, "cases"), i, one)
    {
        if (i % every) {
            continue;
        }
        json_t *prompt = json_object_get(one, "prompt"), *answer = json_object_get(one, "answer");
        uint32_t n = (uint32_t)json_array_size(prompt), more = (uint32_t)json_array_size(answer);
        uint32_t text[LENGTH_MAX], pages[PAGES];
        assert_true(n + more <= LENGTH_MAX);
        for (uint32_t t = 0; t < n + more; t++) {
            text[t] = (uint32_t)json_integer_value(t < n ? json_array_get(prompt, t)
                                                         : json_array_get(answer, t - n));
        }
        struct tsr_kv_seq seq;
        tsr_kv_seq_init(&seq, pages, PAGES);
        assert_int_equal(tsr_kv_reserve(tsr_exec_kv(exec), &seq, n + more), 0);
        struct tsr_span span = {
            .kv = &seq, .tokens = text, .rows = n + more - 1, .position = 0, .logit_rows = more};
        tsr_exec_step(exec, &span, 1);
        for (uint32_t t = 0; t < more; t++) {
            const float *row = tsr_exec_logits(exec, t);
            double total = 0;
            for (uint32_t v = 0; v < model.program.vocab; v++) {
                total += exp((double)row[v] - (double)row[text[n + t]]);
            }
            sum += log(total);
            *want += json_number_value(json_array_get(json_object_get(one, "nll"), t));
            count++;
        }
        tsr_kv_release(tsr_exec_kv(exec), &seq);
    }
    json_decref(root);
    tsr_exec_destroy(exec);
    *want /= count;
    return sum / count;
}

static void test_exec_keeps_quality(void **unused)
{
    (void)unused;
    static const struct {
        const char *name;
        enum tsr_weights weights;
        uint32_t every;
        double limit;
    } kinds[] = {{"ref", TSR_WEIGHTS_REF, 10, 1e-5},
                 {"bf16", TSR_WEIGHTS_FILE, 1, 1e-3},
                 {"int8", TSR_WEIGHTS_INT8, 1, 1e-2}};
    for (size_t k = 0; k < sizeof kinds / sizeof *kinds; k++) {
        double want, got = mean_nll(kinds[k].weights, kinds[k].every, &want);
        printf("%s: mean NLL %.6f, reference %.6f (limit %g)\n", kinds[k].name, got, want,
               kinds[k].limit);
        assert_true(fabs(got - want) <= kinds[k].limit);
    }
}

int main(void)
{
    struct tsr_err err;
    if (tsr_model_open(&model, vectors(""), &err) < 0) {
        fprintf(stderr, "%s\n", err.text);
        return 1;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_exec_plan_refuses_more_than_there_is),
        cmocka_unit_test(test_exec_plan_refuses_worker_counts),
        cmocka_unit_test(test_exec_plan_refuses_a_missing_instruction_set),
        cmocka_unit_test(test_exec_plan_states_need),
        cmocka_unit_test(test_exec_row_never_feels_its_neighbours),
        cmocka_unit_test(test_exec_keeps_quality),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    tsr_model_close(&model);
    return failed;
}
