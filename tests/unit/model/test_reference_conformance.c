/* The builders' programs, run by the slow reference, against logits and greedy text of
 * transformers. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <jansson.h>
#include <limits.h>
#include <stdio.h>
#include <unistd.h>

#include <tsr/model/model.h>
#include <tsr/model/safetensors.h>

#include "reference.h"

static char root[PATH_MAX]; /* the conformance folder */

static uint32_t read_ids(json_t *array, uint32_t *ids, uint32_t max)
{
    uint32_t n = (uint32_t)json_array_size(array);
    assert_true(n <= max);
    for (uint32_t i = 0; i < n; i++) {
        ids[i] = (uint32_t)json_integer_value(json_array_get(array, i));
    }
    return n;
}

/* sum((x - ref)^2) / sum((ref - mean of its row)^2) */
static double nmse(const double *x, const float *ref, size_t rows, size_t columns)
{
    double error = 0.0, spread = 0.0;
    for (size_t r = 0; r < rows; r++) {
        double mean = 0.0;
        for (size_t i = 0; i < columns; i++) {
            mean += (double)ref[r * columns + i] / (double)columns;
        }
        for (size_t i = 0; i < columns; i++) {
            double y = (double)ref[r * columns + i];
            error += (x[r * columns + i] - y) * (x[r * columns + i] - y);
            spread += (y - mean) * (y - mean);
        }
    }
    return error / spread;
}

static uint32_t best(const double *row, uint32_t n)
{
    uint32_t at = 0;
    for (uint32_t i = 1; i < n; i++) {
        at = row[i] > row[at] ? i : at;
    }
    return at;
}

enum { TOKENS_MAX = 256, GREEDY = 24 };

/* The model at `file`, held against the goldens of models/`name`. */
static void check(const char *file, const char *name)
{
    char path[PATH_MAX + 64];
    struct tsr_err err = {0};
    struct tsr_model model;
    snprintf(path, sizeof path, "%s/%s", root, file);
    if (tsr_model_open(&model, path, &err) < 0) {
        fail_msg("%s", err.text);
    }
    snprintf(path, sizeof path, "%s/models/%s/golden.json", root, name);
    json_error_t why;
    json_t *golden = json_load_file(path, JSON_ALLOW_NUL, &why);
    assert_non_null(golden);
    struct tsr_tensors tensors = {0};
    struct tsr_safetensors *logits_file;
    snprintf(path, sizeof path, "%s/models/%s/golden.safetensors", root, name);
    assert_int_equal(tsr_safetensors_open(&logits_file, path, &tensors, &err), 0);
    assert_int_equal(tsr_tensors_seal(&tensors, &err), 0);

    const uint32_t vocab = model.program.vocab;
    json_t *prompts = json_object_get(golden, "prompts"), *prompt;
    size_t i;
    double sum = 0.0;
    json_array_foreach(prompts, i, prompt)
    {
        uint32_t ids[TOKENS_MAX];
        uint32_t n = read_ids(prompt, ids, TOKENS_MAX - GREEDY);
        char key[32];
        snprintf(key, sizeof key, "logits.%zu", i);
        struct tsr_tensor_entry *expected = tsr_tensors_find(&tensors, key);
        assert_non_null(expected);
        assert_int_equal(expected->tensor.dims[0], n);
        assert_int_equal(expected->tensor.dims[1], vocab);
        double *logits = reference_logits(&model.program, ids, n);
        float *ref = malloc(n * (size_t)vocab * sizeof *ref);
        memcpy(ref, expected->tensor.data, n * (size_t)vocab * sizeof *ref);
        sum += nmse(logits, ref, n, vocab);
        free(ref);
        free(logits);

        /* All greedy ids in one pass over the prompt and them: each is the best after those before
         * it. */
        json_t *greedy =
            json_object_get(json_array_get(json_object_get(golden, "greedy"), i), "ids");
        uint32_t more = read_ids(greedy, ids + n, GREEDY);
        logits = reference_logits(&model.program, ids, n + more - 1);
        for (uint32_t t = 0; t < more; t++) {
            assert_int_equal(best(logits + (n - 1 + t) * (size_t)vocab, vocab), ids[n + t]);
        }
        free(logits);
    }
    double mean = sum / (double)json_array_size(prompts);
    printf("%-16s nmse %.3g (limit 1e-9)\n", file, mean);
    assert_true(mean <= 1e-9);
    json_decref(golden);
    tsr_safetensors_close(logits_file);
    tsr_tensors_fini(&tensors);
    tsr_model_close(&model);
}

static void test_reference_llama2(void **state)
{
    (void)state;
    check("models/llama2", "llama2");
}

static void test_reference_llama3(void **state)
{
    (void)state;
    check("models/llama3", "llama3");
}

static void test_reference_qwen2(void **state)
{
    (void)state;
    check("models/qwen2", "qwen2");
}

static void test_reference_llama2_gguf(void **state)
{
    (void)state;
    check("gguf/llama2.gguf", "llama2");
}

static void test_reference_llama3_gguf(void **state)
{
    (void)state;
    check("gguf/llama3.gguf", "llama3");
}

static void test_reference_qwen2_gguf(void **state)
{
    (void)state;
    check("gguf/qwen2.gguf", "qwen2");
}

int main(void)
{
    const char *stated = getenv("TESSERA_CONFORMANCE"), *source = getenv("TESSERA_SOURCE");
    if (stated) {
        snprintf(root, sizeof root, "%s", stated);
    } else {
        snprintf(root, sizeof root, "%s/../shared/conformance", source ? source : ".");
    }
    if (access(root, R_OK) < 0) {
        printf("skipped: no conformance vectors at %s (TESSERA_CONFORMANCE names them)\n", root);
        return 77;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_reference_llama2),      cmocka_unit_test(test_reference_llama3),
        cmocka_unit_test(test_reference_qwen2),       cmocka_unit_test(test_reference_llama2_gguf),
        cmocka_unit_test(test_reference_llama3_gguf), cmocka_unit_test(test_reference_qwen2_gguf),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
