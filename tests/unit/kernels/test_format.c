#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include <tsr/kernels/format.h>

static uint32_t state = 12345;
static uint32_t next(void)
{
    state = state * 1664525u + 1013904223u;
    return state >> 8;
}

/* Random blocks whose f16 fields are finite. */
static void random_row(enum tsr_dtype dtype, uint8_t *row, uint32_t cols)
{
    const struct tsr_dtype_info *info = tsr_dtype_info(dtype);
    for (uint32_t b = 0; b < cols / info->block; b++) {
        uint8_t *p = row + (size_t)b * info->block_bytes;
        for (uint32_t i = 0; i < info->block_bytes; i++) {
            p[i] = (uint8_t)next();
        }
        uint32_t at[2] = {0, 0};
        if (dtype == TSR_DTYPE_F32) {
            float f = (float)(int)next() * 1e-7f;
            memcpy(p, &f, 4);
            continue;
        }
        if (dtype == TSR_DTYPE_Q6_K) {
            at[0] = at[1] = 208;
        } else if (dtype == TSR_DTYPE_Q4_1) {
            at[1] = 2;
        }
        for (int i = 0; i < 2; i++) {
            p[at[i] + 1] &= dtype == TSR_DTYPE_BF16
                                ? 0xbf
                                : 0xbf; /* the top exponent bit: no infinity, no NaN */
        }
    }
}

static void test_format_pack_refuses_other_blocks(void **unused)
{
    (void)unused;
    const void *rows[16] = {0};
    uint8_t panel[3360];
    float scratch[256];
    assert_false(tsr_panel_pack(TSR_FORMAT_Q4_0, TSR_DTYPE_Q4_1, rows, 32, panel, scratch));
    assert_false(tsr_panel_pack(TSR_FORMAT_Q6_K, TSR_DTYPE_F32, rows, 256, panel, scratch));
}

static void test_format_f16_rounds_and_returns(void **unused)
{
    (void)unused;
    for (uint32_t h = 0; h < 65536; h++) {
        float f = tsr_f16_to_f32((uint16_t)h);
        if (f == f) {
            assert_int_equal(tsr_f32_to_f16(f), h);
        }
    }
    assert_int_equal(tsr_f32_to_f16(65519.0f), 0x7bff);
    assert_int_equal(tsr_f32_to_f16(65520.0f), 0x7c00);
    assert_int_equal(tsr_f32_to_f16(0x1p-25f), 0); /* half of the least: to even */
    assert_int_equal(tsr_f32_to_f16(0x1.000002p-25f), 1);
    assert_int_equal(tsr_f32_to_f16(1.00048828125f), 0x3c00); /* half an ulp: to even */
    assert_int_equal(tsr_f32_to_bf16(1.00390625f), 0x3f80);
}

/* Packing and reading back gives the file's values, for every type, a panel with missing rows, odd
 * block counts. */
static void test_format_repack_is_exact(void **unused)
{
    (void)unused;
    static const enum tsr_dtype own[] = {TSR_DTYPE_F16,  TSR_DTYPE_BF16, TSR_DTYPE_Q8_0,
                                         TSR_DTYPE_Q4_0, TSR_DTYPE_Q4_1, TSR_DTYPE_Q6_K};
    enum { COLS = 768 };
    static uint8_t rows[16][COLS * 4];
    static float want[COLS], panel_f32[COLS][16], row_f32[COLS], scratch[COLS];
    static uint8_t panel[COLS * 64];
    for (size_t t = 0; t < sizeof own / sizeof *own; t++) {
        enum tsr_format format = tsr_format_of(own[t]);
        const void *at[16];
        for (int r = 0; r < 16; r++) {
            random_row(own[t], rows[r], COLS);
            at[r] = r == 13 ? NULL : rows[r];
        }
        assert_true(tsr_panel_pack(format, own[t], at, COLS, panel, scratch));
        tsr_panel_to_f32(format, panel, 0, COLS, &panel_f32[0][0]);
        for (uint32_t r = 0; r < 16; r++) {
            memset(want, 0, sizeof want);
            if (at[r]) {
                tsr_dtype_to_f32(own[t], rows[r], want, COLS);
            }
            tsr_panel_row(format, panel, r, COLS, row_f32);
            for (int k = 0; k < COLS; k++) {
                assert_true(panel_f32[k][r] == want[k] || (want[k] != want[k]));
                assert_true(row_f32[k] == want[k] || (want[k] != want[k]));
            }
        }
    }
}

static void test_format_int8_is_within_half_a_step(void **unused)
{
    (void)unused;
    enum { COLS = 80 }; /* not a multiple of the block */
    float x[16][COLS], out[COLS], scratch[256];
    uint8_t panel[544 * 3];
    const void *at[16];
    for (int r = 0; r < 16; r++) {
        for (int k = 0; k < COLS; k++) {
            x[r][k] = (float)(int)(next() % 2001) - 1000;
        }
        at[r] = x[r];
    }
    assert_true(tsr_panel_pack(TSR_FORMAT_Q8_0, TSR_DTYPE_F32, at, COLS, panel, scratch));
    for (uint32_t r = 0; r < 16; r++) {
        tsr_panel_row(TSR_FORMAT_Q8_0, panel, r, COLS, out);
        for (int k = 0; k < COLS; k++) {
            assert_true(fabsf(out[k] - x[r][k]) <= 1000.0f / 127 * 0.51f);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_format_pack_refuses_other_blocks),
        cmocka_unit_test(test_format_f16_rounds_and_returns),
        cmocka_unit_test(test_format_repack_is_exact),
        cmocka_unit_test(test_format_int8_is_within_half_a_step),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
