/* A real model, SmolLM2-135M-Instruct as Q4_1, against transformers in f32 from the same weights:
 * the reference path within 2e-3 on the best logits, the default path by its Kullback-Leibler
 * divergence (limit 0.0005; llama.cpp on this file: 0.0040), greedy ids of both where the margin
 * allows. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>

#include <tsr/exec/exec.h>
#include <tsr/model/safetensors.h>

#include "outside.h"

enum { TOKENS_MAX = 512, PAGES = TOKENS_MAX / 64, TOP = 32 };

static const char *model_path(void)
{
    static char path[4096];
    const char *stated = getenv("TESSERA_MODEL"), *source = getenv("TESSERA_SOURCE");
    if (stated) {
        return stated;
    }
    snprintf(path, sizeof path, "%s/models/SmolLM2-135M-Instruct.Q4_1.gguf", source ? source : ".");
    return path;
}

/* Divergence of softmax(x) from softmax(ref), in nats. */
static double divergence(const float *ref, const float *x, uint32_t n)
{
    double most_ref = (double)ref[0], most_x = (double)x[0], sum_ref = 0, sum_x = 0, kl = 0;
    for (uint32_t i = 1; i < n; i++) {
        most_ref = fmax(most_ref, (double)ref[i]);
        most_x = fmax(most_x, (double)x[i]);
    }
    for (uint32_t i = 0; i < n; i++) {
        sum_ref += exp((double)ref[i] - most_ref);
        sum_x += exp((double)x[i] - most_x);
    }
    for (uint32_t i = 0; i < n; i++) {
        double p = (double)ref[i] - most_ref - log(sum_ref), q = (double)x[i] - most_x - log(sum_x);
        kl += exp(p) * (p - q);
    }
    return kl;
}

static void check(enum tsr_weights weights, double top_limit, double kl_limit, double margin)
{
    struct tsr_err err = {0};
    struct tsr_model model;
    struct tsr_exec *exec;
    if (tsr_model_open(&model, model_path(), &err) < 0) {
        fail_msg("%s", err.text);
    }
    struct tsr_kv_shape shape = {model.program.layers, model.program.kv_heads,
                                 model.program.head_dim, 4};
    struct tsr_exec_options options = {.weights = weights,
                                       .context = TOKENS_MAX,
                                       .logit_rows_max = 128,
                                       .kv_bytes = PAGES * tsr_kv_page_bytes(&shape)};
    if (tsr_exec_create(&exec, &model, &options, NULL, NULL, &err) < 0) {
        fail_msg("%s", err.text);
    }
    json_t *root = outside_json(outside_path("smollm2/golden.json"));
    json_t *cases = json_object_get(root, "cases"), *one;
    struct tsr_tensors tensors = {0};
    struct tsr_safetensors *file;
    assert_int_equal(
        tsr_safetensors_open(&file, outside_path("smollm2/golden.safetensors"), &tensors, NULL), 0);
    assert_int_equal(tsr_tensors_seal(&tensors, NULL), 0);
    uint32_t vocab = model.program.vocab, greedy_seen = 0, greedy_same = 0;
    double kl = 0, worst = 0;
    size_t i;
    json_array_foreach(cases, i, one)
    {
        uint32_t ids[TOKENS_MAX], pages[PAGES];
        json_t *prompt = json_object_get(one, "ids"), *greedy = json_object_get(one, "greedy");
        json_t *more = json_object_get(greedy, "ids"), *margins = json_object_get(greedy, "margin");
        uint32_t n = (uint32_t)json_array_size(prompt), after = (uint32_t)json_array_size(more);
        assert_true(n + after <= TOKENS_MAX && after <= 126);
        for (uint32_t t = 0; t < n + after; t++) {
            ids[t] = (uint32_t)json_integer_value(t < n ? json_array_get(prompt, t)
                                                        : json_array_get(more, t - n));
        }
        struct tsr_kv_seq seq;
        tsr_kv_seq_init(&seq, pages, PAGES);
        assert_int_equal(tsr_kv_reserve(tsr_exec_kv(exec), &seq, n + after), 0);
        /* the last two positions of the prompt and all greedy ones */
        struct tsr_span span = {.kv = &seq,
                                .tokens = ids,
                                .rows = n + after - 1,
                                .position = 0,
                                .logit_rows = after + 1};
        tsr_exec_step(exec, &span, 1);
        char key[32];
        snprintf(key, sizeof key, "logits.%zu", i);
        struct tsr_tensor_entry *expected = tsr_tensors_find(&tensors, key);
        assert_non_null(expected);
        assert_int_equal(expected->tensor.dims[1], vocab);
        float *ref = malloc(2 * vocab * sizeof *ref);
        memcpy(ref, expected->tensor.data, 2 * vocab * sizeof *ref);
        for (uint32_t r = 0; r < 2; r++) {
            kl += divergence(ref + r * vocab, tsr_exec_logits(exec, r), vocab);
        }
        free(ref);
        json_t *top = json_object_get(one, "top");
        for (uint32_t t = 0; t < TOP; t++) {
            uint32_t id =
                (uint32_t)json_integer_value(json_array_get(json_object_get(top, "ids"), t));
            double want = json_number_value(json_array_get(json_object_get(top, "logits"), t));
            worst = fmax(worst, fabs((double)tsr_exec_logits(exec, 1)[id] - want));
        }
        for (uint32_t t = 0; t < after; t++) {
            const float *row = tsr_exec_logits(exec, 1 + t);
            uint32_t best = 0;
            for (uint32_t v = 1; v < vocab; v++) {
                best = row[v] > row[best] ? v : best;
            }
            greedy_seen++;
            greedy_same += best == ids[n + t];
            if (json_number_value(json_array_get(margins, t)) > margin) {
                assert_int_equal(best, ids[n + t]);
            }
        }
        tsr_kv_release(tsr_exec_kv(exec), &seq);
    }
    kl /= 2 * (double)json_array_size(cases);
    printf("%s: mean KL %.7f (limit %g), best logits within %.2g (limit %g), %u of %u greedy ids\n",
           weights == TSR_WEIGHTS_REF ? "ref" : "default", kl, kl_limit, worst, top_limit,
           greedy_same, greedy_seen);
    assert_true(kl <= kl_limit);
    assert_true(worst <= top_limit);
    json_decref(root);
    tsr_safetensors_close(file);
    tsr_tensors_fini(&tensors);
    tsr_exec_destroy(exec);
    tsr_model_close(&model);
}

static void test_smollm2_reference(void **unused)
{
    (void)unused;
    check(TSR_WEIGHTS_REF, 2e-3, 1e-6, 0.01);
}

static void test_smollm2_default(void **unused)
{
    (void)unused;
    check(TSR_WEIGHTS_FILE, 0.1, 0.0005, 0.02);
}

int main(void)
{
    outside_path("smollm2");
    FILE *model = fopen(model_path(), "rb");
    if (!model) {
        printf("skipped: no %s (deploy/fetch-model.sh brings it, TESSERA_MODEL names another)\n",
               model_path());
        return 77;
    }
    fclose(model);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_smollm2_default),
        cmocka_unit_test(test_smollm2_reference),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
