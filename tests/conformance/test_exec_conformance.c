/* The executor against logits and greedy text of transformers (../shared/conformance/README.md has
 * the tolerances), by every way in: as `tessera verify` does it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <tsr/tools/verify.h>

#include "outside.h"

static void report(void *file, const struct tsr_check *check)
{
    printf("%-20s %-12s %-40s %s%s\n", (const char *)file, check->what, check->measured,
           check->tolerance, check->verdict == TSR_VERDICT_FAILS ? "  FAILS" : "");
}

static void check(const char *file, const char *name)
{
    struct tsr_golden golden;
    struct tsr_model model;
    struct tsr_err err = {0};
    char path[256];
    snprintf(path, sizeof path, "models/%s/golden.json", name);
    if (tsr_golden_open(&golden, outside_path(path), &err) < 0 ||
        tsr_model_open(&model, outside_path(file), &err) < 0) {
        fail_msg("%s", err.text);
    }
    const enum tsr_weights kinds[] = {TSR_WEIGHTS_REF, TSR_WEIGHTS_BF16, TSR_WEIGHTS_INT8};
    struct tsr_verify verify = {.model = &model, .report = report, .ctx = (void *)file};
    for (size_t k = 0; k < sizeof kinds / sizeof *kinds; k++) {
        if (tsr_verify_logits(&verify, &golden, kinds[k], &err) < 0) {
            fail_msg("%s: %s", file, err.text);
        }
    }
    assert_int_equal(verify.failed, 0);
    tsr_model_close(&model);
    tsr_golden_close(&golden);
}

static void test_exec_conformance_llama2(void **unused)
{
    (void)unused;
    check("models/llama2", "llama2");
    check("gguf/llama2.gguf", "llama2");
}

static void test_exec_conformance_llama3(void **unused)
{
    (void)unused;
    check("models/llama3", "llama3");
    check("gguf/llama3.gguf", "llama3");
}

static void test_exec_conformance_qwen2(void **unused)
{
    (void)unused;
    check("models/qwen2", "qwen2");
    check("gguf/qwen2.gguf", "qwen2");
}

int main(void)
{
    outside_path("models");
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_exec_conformance_llama2),
        cmocka_unit_test(test_exec_conformance_llama3),
        cmocka_unit_test(test_exec_conformance_qwen2),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
