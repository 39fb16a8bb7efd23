/* Hidden states out of the executor: against the slow interpreter in double precision, and the same
 * bytes however a sequence is cut and whatever else is in the step. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>

#include <tsr/exec/exec.h>
#include <tsr/model/model.h>

#include "reference.h"

enum { SEQUENCES = 5, LENGTH_MAX = 90, PAGES = (LENGTH_MAX + 63) / 64, WIDTH_MAX = 1024 };

static struct tsr_model model;
static uint32_t ids[SEQUENCES][LENGTH_MAX], length[SEQUENCES];

static uint32_t state = 3;
static uint32_t below(uint32_t n)
{
    state = state * 1664525u + 1013904223u;
    return (uint32_t)((uint64_t)(state >> 4) * n >> 28);
}

static struct tsr_exec *start(struct tsr_exec_options options)
{
    struct tsr_exec *exec;
    struct tsr_err err = {0};
    const struct tsr_kv_shape shape = {model.program.layers, model.program.kv_heads,
                                       model.program.head_dim, 4};
    options.kv_bytes = SEQUENCES * PAGES * tsr_kv_page_bytes(&shape);
    if (tsr_exec_create(&exec, &model, &options, NULL, NULL, &err) < 0) {
        fail_msg("%s", err.text);
    }
    assert_int_equal(tsr_exec_planned(exec)->embedding_width, model.program.hidden);
    return exec;
}

/* Adds up the hidden states of the rows of [first, first + rows) that the span has. */
static void want_pooled(struct tsr_span *span, uint32_t first, uint32_t rows, double *pooled)
{
    uint32_t from = first > span->position ? first - span->position : 0;
    uint32_t to = first + rows > span->position ? first + rows - span->position : 0;
    to = to < span->rows ? to : span->rows;
    span->pooled = pooled;
    span->pool_first = from < to ? from : 0;
    span->pool_rows = from < to ? to - from : 0;
}

/* Runs all sequences, each with its own range of rows to pool (the last one generates instead):
 * alone and whole, or mixed in random steps. */
static void run(struct tsr_exec *exec, const uint32_t *first, const uint32_t *rows, bool mixed,
                double pooled[SEQUENCES][WIDTH_MAX])
{
    uint32_t pages[SEQUENCES][PAGES], at[SEQUENCES] = {0}, left = 1;
    struct tsr_kv_seq seq[SEQUENCES];
    memset(pooled, 0, SEQUENCES * sizeof *pooled);
    for (uint32_t i = 0; i < SEQUENCES; i++) {
        tsr_kv_seq_init(&seq[i], pages[i], PAGES);
        assert_int_equal(tsr_kv_reserve(tsr_exec_kv(exec), &seq[i], length[i]), 0);
    }
    while (left > 0) {
        struct tsr_span spans[SEQUENCES];
        uint32_t n = 0;
        left = 0;
        for (uint32_t i = 0; i < SEQUENCES; i++) {
            uint32_t rest = length[i] - at[i];
            left += rest;
            if (rest == 0 || (mixed ? below(3) == 0 : n == 1)) {
                continue;
            }
            uint32_t some = mixed ? 1 + below(below(2) ? 3 : 50) : rest;
            spans[n] = (struct tsr_span){.kv = &seq[i],
                                         .tokens = ids[i] + at[i],
                                         .rows = some < rest ? some : rest,
                                         .position = at[i],
                                         .logit_rows = i == SEQUENCES - 1};
            if (i < SEQUENCES - 1) {
                want_pooled(&spans[n], first[i], rows[i], pooled[i]);
            }
            at[i] += spans[n++].rows;
        }
        tsr_exec_step(exec, spans, n);
    }
    for (uint32_t i = 0; i < SEQUENCES; i++) {
        tsr_kv_release(tsr_exec_kv(exec), &seq[i]);
    }
}

static double pooled[SEQUENCES][WIDTH_MAX], again[SEQUENCES][WIDTH_MAX];

static void test_pooling_is_that_of_the_reference(void **unused)
{
    (void)unused;
    const uint32_t width = model.program.hidden;
    const uint32_t first[SEQUENCES] = {0, 0, length[2] - 1, 3};
    const uint32_t rows[SEQUENCES] = {length[0], 1, 1, 2}; /* mean, cls, last, two of them */
    struct tsr_exec *exec =
        start((struct tsr_exec_options){.workers = 2, .weights = TSR_WEIGHTS_REF});
    run(exec, first, rows, true, pooled);
    for (uint32_t i = 0; i < SEQUENCES - 1; i++) {
        double *hidden = reference_hidden(&model.program, ids[i], length[i]);
        double error = 0, squares = 0;
        for (uint32_t c = 0; c < width; c++) {
            double want = 0;
            for (uint32_t r = first[i]; r < first[i] + rows[i]; r++) {
                want += hidden[(size_t)r * width + c];
            }
            error += (want - pooled[i][c]) * (want - pooled[i][c]);
            squares += want * want;
        }
        printf("rows %u to %u of %u: nmse %.1e\n", first[i], first[i] + rows[i], length[i],
               error / squares);
        assert_true(error / squares < 1e-10); /* f32 sums against f64 */
        free(hidden);
    }
    tsr_exec_destroy(exec);
}

static void test_pooling_never_feels_neighbours_or_cuts(void **unused)
{
    (void)unused;
    static const enum tsr_weights weights[] = {TSR_WEIGHTS_FILE, TSR_WEIGHTS_INT8};
    const uint32_t first[SEQUENCES] = {0, 0, length[2] - 1, 3};
    const uint32_t rows[SEQUENCES] = {length[0], length[1], 1, length[3] - 3};
    for (size_t w = 0; w < sizeof weights / sizeof *weights; w++) {
        for (uint32_t workers = 1; workers <= 3; workers += 2) {
            struct tsr_exec *exec =
                start((struct tsr_exec_options){.workers = workers, .weights = weights[w]});
            if (workers == 1) {
                run(exec, first, rows, false, pooled);
            }
            for (int mix = 0; mix < 2; mix++) {
                run(exec, first, rows, true, again);
                assert_memory_equal(again, pooled, sizeof pooled);
            }
            tsr_exec_destroy(exec);
        }
    }
}

int main(void)
{
    char path[4096];
    const char *source = getenv("TESSERA_SOURCE");
    struct tsr_err err;
    snprintf(path, sizeof path, "%s/tests/vectors/shell-5m", source ? source : ".");
    if (tsr_model_open(&model, path, &err) < 0 || model.program.hidden > WIDTH_MAX) {
        fprintf(stderr, "%s\n", err.text);
        return 1;
    }
    for (uint32_t i = 0; i < SEQUENCES; i++) {
        length[i] = i == 0 ? LENGTH_MAX : 5 + below(40);
        for (uint32_t t = 0; t < length[i]; t++) {
            ids[i][t] = below(model.program.vocab);
        }
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_pooling_is_that_of_the_reference),
        cmocka_unit_test(test_pooling_never_feels_neighbours_or_cuts),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    tsr_model_close(&model);
    return failed;
}
