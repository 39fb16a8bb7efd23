#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <tsr/kernels/format.h>

#include "blocks.h"
#include "layout_priv.h"

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

enum { COLS = 768 };

/* 16 rows of random blocks but for one that is missing. */
static void random_rows(enum tsr_dtype dtype, const void *at[16])
{
    static uint8_t rows[16][COLS * 8];
    for (int r = 0; r < 16; r++) {
        blocks_random_row(dtype, rows[r], COLS, 0.01f);
        at[r] = r == 13 ? NULL : rows[r];
    }
}

/* Reads a panel back in both ways; the worst error of a row against its largest value. */
static double worst_error(enum tsr_format format, enum tsr_dtype dtype, const void *const at[16],
                          const uint8_t *panel)
{
    static float want[COLS], panel_f32[COLS][16], row_f32[COLS];
    double worst = 0;
    tsr_panel_to_f32(format, panel, 0, COLS, &panel_f32[0][0]);
    for (uint32_t r = 0; r < 16; r++) {
        double most = 1e-30, error = 0;
        memset(want, 0, sizeof want);
        if (at[r]) {
            tsr_dtype_to_f32(dtype, at[r], want, COLS);
        }
        tsr_panel_row(format, panel, r, COLS, row_f32);
        for (int k = 0; k < COLS; k++) {
            assert_true(row_f32[k] == panel_f32[k][r]);
            error = fmax(error, fabs((double)row_f32[k] - (double)want[k]));
            most = fmax(most, fabs((double)want[k]));
        }
        worst = fmax(worst, error / most);
    }
    return worst;
}

/* Packing and reading back gives the file's values, for every type, a panel with a missing row, odd
 * block counts; where a type's own format is not exact the error is that of rounding to f16 or
 * bf16. */
static void test_format_holds_every_type(void **unused)
{
    (void)unused;
    static float scratch[COLS];
    static uint8_t panel[COLS * 64];
    for (enum tsr_dtype t = 0; t < TSR_DTYPE_COUNT; t++) {
        if (t >= TSR_DTYPE_F64 && t <= TSR_DTYPE_I64) {
            continue; /* random bytes are not numbers of a weight's size */
        }
        const void *at[16];
        random_rows(t, at);
        enum tsr_format format = tsr_format_of(t), exact = tsr_format_exact(t);
        assert_true(tsr_panel_pack(format, t, at, COLS, panel, scratch));
        double error = worst_error(format, t, at, panel);
        printf("%-8s as %-6s error %.2g\n", tsr_dtype_info(t)->name, tsr_format_info(format)->name,
               error);
        assert_true(error <= (format == exact ? 0 : 0x1p-8));
        assert_true(tsr_panel_pack(exact, t, at, COLS, panel, scratch));
        assert_true(worst_error(exact, t, at, panel) == 0);
        assert_true(tsr_panel_pack(TSR_FORMAT_Q8_0, t, at, COLS, panel, scratch));
        assert_true(worst_error(TSR_FORMAT_Q8_0, t, at, panel) <= 0.51 / 127);
    }
}

static void test_format_figures_agree(void **unused)
{
    (void)unused;
    for (enum tsr_format f = 0; f < TSR_FORMAT_COUNT; f++) {
        const struct tsr_format_info *info = tsr_format_info(f);
        const struct tsr_layout *l = &tsr_layouts[f];
        assert_int_equal(info->scale_inputs, l->sub);
        if (l->sub) {
            assert_int_equal(info->block, 32 * tsr_layout_steps(l));
            assert_int_equal(info->block_bytes, tsr_layout_block_bytes(l));
        }
    }
}

static void test_format_int8_is_within_half_a_step(void **unused)
{
    (void)unused;
    enum { N = 80 }; /* not a multiple of the block */
    float x[16][N], out[N], scratch[256];
    uint8_t panel[544 * 3];
    const void *at[16];
    for (int r = 0; r < 16; r++) {
        for (int k = 0; k < N; k++) {
            x[r][k] = (float)(int)(blocks_next() % 2001) - 1000;
        }
        at[r] = x[r];
    }
    assert_true(tsr_panel_pack(TSR_FORMAT_Q8_0, TSR_DTYPE_F32, at, N, panel, scratch));
    for (uint32_t r = 0; r < 16; r++) {
        tsr_panel_row(TSR_FORMAT_Q8_0, panel, r, N, out);
        for (int k = 0; k < N; k++) {
            assert_true(fabsf(out[k] - x[r][k]) <= 1000.0f / 127 * 0.51f);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_format_pack_refuses_other_blocks),
        cmocka_unit_test(test_format_f16_rounds_and_returns),
        cmocka_unit_test(test_format_holds_every_type),
        cmocka_unit_test(test_format_figures_agree),
        cmocka_unit_test(test_format_int8_is_within_half_a_step),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
