/* Values of ggml's types: tests/vectors/types, which llama.cpp's Python package made, and by hand
 * what it does not compute. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>

#include "types.h"

static void test_types_equal_the_vectors(void **state)
{
    (void)state;
    char folder[PATH_MAX];
    const char *source = getenv("TESSERA_SOURCE");
    snprintf(folder, sizeof folder, "%s/tests/vectors/types", source ? source : ".");
    check_types(folder);
}

static void test_types_plain_values(void **state)
{
    (void)state;
    float out[4];
    const double f64[2] = {1.0 + 0x1p-24, -0x1p-149};
    tsr_dtype_to_f32(TSR_DTYPE_F64, f64, out, 2);
    assert_true(out[0] == 1.0f && out[1] == -0x1p-149f);
    const int8_t i8[2] = {-128, 127};
    tsr_dtype_to_f32(TSR_DTYPE_I8, i8, out, 2);
    assert_true(out[0] == -128 && out[1] == 127);
    const int16_t i16[1] = {-32768};
    tsr_dtype_to_f32(TSR_DTYPE_I16, i16, out, 1);
    assert_true(out[0] == -32768);
    const int32_t i32[2] = {16777217, INT32_MIN};
    tsr_dtype_to_f32(TSR_DTYPE_I32, i32, out, 2);
    assert_true(out[0] == 16777216 && out[1] == -0x1p31f);
    const int64_t i64[1] = {INT64_MIN};
    tsr_dtype_to_f32(TSR_DTYPE_I64, i64, out, 1);
    assert_true(out[0] == -0x1p63f);
}

static void test_types_fp8_values(void **state)
{
    (void)state;
    static const struct {
        uint8_t bits;
        float value;
    } cases[] = {{0x00, 0},      {0x01, 0x1p-9f}, {0x07, 7 * 0x1p-9f}, {0x08, 0x1p-6f}, {0x38, 1},
                 {0x3f, 1.875f}, {0x7e, 448},     {0xfe, -448},        {0x81, -0x1p-9f}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        assert_true(tsr_f8_e4m3_to_f32(cases[i].bits) == cases[i].value);
    }
    assert_true(isnan(tsr_f8_e4m3_to_f32(0x7f)) && isnan(tsr_f8_e4m3_to_f32(0xff)));
}

/* f16 0x3800 is 0.5. */
static void test_types_that_the_vectors_lack(void **state)
{
    (void)state;
    float out[256];
    uint8_t q8_1[36] = {0x00, 0x38, 0xff, 0xff, 0x80, 0x7f};
    tsr_dtype_to_f32(TSR_DTYPE_Q8_1, q8_1, out, 32);
    assert_true(out[0] == -64 && out[1] == 63.5f && out[2] == 0);
    uint8_t q8_k[292] = {0x00, 0x00, 0x80, 0x3e, 0x04};
    q8_k[259] = 0xff;
    tsr_dtype_to_f32(TSR_DTYPE_Q8_K, q8_k, out, 256);
    assert_true(out[0] == 1 && out[255] == -0.25f);
    uint8_t q1_0[18] = {0x00, 0x38, 0x01};
    q1_0[17] = 0x80;
    tsr_dtype_to_f32(TSR_DTYPE_Q1_0, q1_0, out, 128);
    assert_true(out[0] == 0.5f && out[1] == -0.5f && out[126] == -0.5f && out[127] == 0.5f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_types_equal_the_vectors),
        cmocka_unit_test(test_types_plain_values),
        cmocka_unit_test(test_types_fp8_values),
        cmocka_unit_test(test_types_that_the_vectors_lack),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
