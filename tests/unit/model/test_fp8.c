/* FP8 weights with a scale a block: values, and what is refused. */
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

#include <tsr/model/program.h>

#include "fp8_priv.h"

enum { ROWS = 5, COLS = 7 };

static const uint8_t weights[ROWS * COLS] = {[0] = 0x38, [4] = 0x38, [27] = 0xc0, [34] = 0x7e};

/* A directory of a weight and its scales, both of these types and shapes. */
struct files {
    enum tsr_dtype weight, scale;
    uint64_t scale_rows, scale_cols;
    const char *scale_name;
    const void *scales;
};

static struct tsr_tensors make(const struct files *f)
{
    struct tsr_tensors tensors = {0};
    struct tsr_tensor_entry w = {.tensor = {.dtype = f->weight,
                                            .n_dims = 2,
                                            .dims = {ROWS, COLS},
                                            .data = weights,
                                            .bytes = sizeof weights}};
    struct tsr_tensor_entry s = {.tensor = {.dtype = f->scale,
                                            .n_dims = 2,
                                            .dims = {f->scale_rows, f->scale_cols},
                                            .data = f->scales}};
    assert_int_equal(tsr_tensors_add(&tensors, &w, "w", 1, NULL), 0);
    assert_int_equal(tsr_tensors_add(&tensors, &s, f->scale_name, strlen(f->scale_name), NULL), 0);
    assert_int_equal(tsr_tensors_seal(&tensors, NULL), 0);
    return tensors;
}

static int read_with(const char *quantization, struct tsr_tensors *tensors, struct tsr_err *err)
{
    char text[256];
    struct tsr_config *config;
    snprintf(text, sizeof text, "{\"model_type\":\"qwen3\"%s}", quantization);
    assert_int_equal(tsr_config_from_json(&config, text, strlen(text), true, err), 0);
    int rc = tsr_fp8_read(config, tensors, err);
    tsr_config_close(config);
    return rc;
}

#define FP8(block) ",\"quantization_config\":{\"quant_method\":\"fp8\"" block "}"
#define BLOCK_3_4  FP8(",\"weight_block_size\":[3,4]")

static const float scales_f32[4] = {2, 3, 5, 0.1f};
static const uint16_t scales_bf16[4] = {0x4000, 0x4040, 0x40a0, 0x3dcd};
static const struct files sound = {TSR_DTYPE_F8_E4M3, TSR_DTYPE_F32, 2, 2,
                                   "w_scale_inv",     scales_f32};

static void test_fp8_values_are_scaled_by_block(void **state)
{
    (void)state;
    for (int bf16 = 0; bf16 < 2; bf16++) {
        struct files f = sound;
        struct tsr_err err = {0};
        float row[COLS];
        if (bf16) {
            f.scale = TSR_DTYPE_BF16;
            f.scales = scales_bf16;
        }
        struct tsr_tensors tensors = make(&f);
        if (read_with(BLOCK_3_4, &tensors, &err) < 0) {
            fail_msg("%s", err.text);
        }
        const struct tsr_tensor *w = &tsr_tensors_find(&tensors, "w")->tensor;
        assert_true(tsr_tensors_find(&tensors, "w_scale_inv")->used);
        tsr_tensor_row(w, 0, row);
        assert_true(row[0] == 2 && row[1] == 0 && row[4] == 3);
        tsr_tensor_row(w, 3, row);
        assert_true(row[6] == -2 * (bf16 ? 0.10009765625f : 0.1f));
        tsr_tensor_row(w, 4, row);
        assert_true(row[6] == 448 * (bf16 ? 0.10009765625f : 0.1f));
        tsr_tensors_fini(&tensors);
    }
}

static void test_fp8_leaves_other_models_alone(void **state)
{
    (void)state;
    struct files f = sound;
    struct tsr_err err = {0};
    f.weight = TSR_DTYPE_I8;
    struct tsr_tensors tensors = make(&f);
    assert_int_equal(read_with("", &tensors, &err), 0);
    assert_int_equal(read_with(BLOCK_3_4, &tensors, &err), 0);
    assert_null(tsr_tensors_find(&tensors, "w")->tensor.scales);
    assert_false(tsr_tensors_find(&tensors, "w_scale_inv")->used);
    tsr_tensors_fini(&tensors);
}

static void test_fp8_refuses(void **state)
{
    (void)state;
    static const float infinite[4] = {1, 1, INFINITY, 1};
    struct files rows = sound, cols = sound, name = sound, type = sound, value = sound;
    rows.scale_rows = 1;
    cols.scale_cols = 3;
    name.scale_name = "w_scale";
    type.scale = TSR_DTYPE_F64;
    value.scales = infinite;
    const struct {
        const char *quantization;
        const struct files *files;
        int code;
        const char *words;
    } cases[] = {
        {"", &sound, -EINVAL, "'w' is of type F8_E4M3, but quantization_config is missing"},
        {",\"quantization_config\":{\"quant_method\":\"gptq\"}", &sound, -ENOTSUP,
         "quant_method is 'gptq'"},
        {",\"quantization_config\":{}", &sound, -ENOTSUP, "quant_method is 'none'"},
        {FP8(""), &sound, -ENOTSUP, "no weight_block_size"},
        {FP8(",\"weight_block_size\":[128]"), &sound, -EINVAL, "is not two sizes"},
        {FP8(",\"weight_block_size\":[1,2,3]"), &sound, -EINVAL, "is not two sizes"},
        {FP8(",\"weight_block_size\":[0,4]"), &sound, -EINVAL, "is not two sizes"},
        {FP8(",\"weight_block_size\":\"x\""), &sound, -EINVAL, "is not two sizes"},
        {BLOCK_3_4, &rows, -EINVAL,
         "'w_scale_inv' does not have one scale for each block of 3 x 4"},
        {BLOCK_3_4, &cols, -EINVAL, "does not have one scale"},
        {BLOCK_3_4, &name, -EINVAL, "but w_scale_inv is missing"},
        {BLOCK_3_4, &type, -ENOTSUP, "'w_scale_inv' is not of type F32, F16 or BF16"},
        {BLOCK_3_4, &value, -EINVAL, "'w_scale_inv' holds inf at 2"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct tsr_err err = {0};
        struct tsr_tensors tensors = make(cases[i].files);
        int rc = read_with(cases[i].quantization, &tensors, &err);
        if (rc != cases[i].code || !strstr(err.text, cases[i].words)) {
            fail_msg("%d '%s' where %d '%s' was meant", rc, err.text, cases[i].code,
                     cases[i].words);
        }
        tsr_tensors_fini(&tensors);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_fp8_values_are_scaled_by_block),
        cmocka_unit_test(test_fp8_leaves_other_models_alone),
        cmocka_unit_test(test_fp8_refuses),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
