/* Every instruction set's table against the reference. TESSERA_ISA=avx2|avx512 names the one to
 * test (default: the best that this CPU has; absent: skip). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <tsr/kernels/kernels.h>

#include "blocks.h"

static const struct tsr_kernels *table;

static uint32_t state = 1;
static float uniform(void) /* -1 .. 1 */
{
    state = state * 1664525u + 1013904223u;
    return (float)(state >> 8) / 8388608.0f - 1;
}

/* A type that fits into a format as it is; f32 is converted. */
static enum tsr_dtype dtype_of(enum tsr_format format)
{
    for (enum tsr_dtype t = TSR_DTYPE_Q4_0; t < TSR_DTYPE_COUNT; t++) {
        if (tsr_format_info(format)->scale_inputs && tsr_format_exact(t) == format) {
            return t;
        }
    }
    return TSR_DTYPE_F32;
}

enum { ROWS_MAX = 33, PANELS = 7 };

struct matrix {
    uint32_t cols;
    uint8_t *panels;
    size_t panel_bytes;
};

static struct matrix random_matrix(enum tsr_format format, uint32_t cols)
{
    enum tsr_dtype dtype = dtype_of(format);
    const struct tsr_dtype_info *info = tsr_dtype_info(dtype);
    struct matrix m = {.cols = cols, .panel_bytes = tsr_panel_bytes(format, cols)};
    m.panels = aligned_alloc(64, (m.panel_bytes * PANELS + 4096 + 63) & ~(size_t)63);
    size_t row_bytes = (size_t)cols / info->block * info->block_bytes;
    uint8_t *rows = malloc(row_bytes * 16);
    float *scratch = malloc((cols + 256) * sizeof *scratch);
    for (int p = 0; p < PANELS; p++) {
        const void *at[16];
        for (int r = 0; r < 16; r++) {
            at[r] = rows + row_bytes * (size_t)r;
            blocks_random_row(dtype, rows + row_bytes * (size_t)r, cols,
                              dtype == TSR_DTYPE_F32 ? 0.1f : 0.01f);
        }
        assert_true(
            tsr_panel_pack(format, dtype, at, cols, m.panels + m.panel_bytes * (size_t)p, scratch));
    }
    free(rows);
    free(scratch);
    return m;
}

static struct tsr_acts random_acts(uint32_t cols, void **memory)
{
    struct tsr_acts acts;
    uint32_t padded = (cols + 255) / 256 * 256;
    *memory = aligned_alloc(64, tsr_acts_bytes(ROWS_MAX, padded));
    tsr_acts_init(&acts, *memory, ROWS_MAX, padded);
    memset(acts.f, 0, (size_t)ROWS_MAX * padded * 4);
    for (uint32_t r = 0; r < ROWS_MAX; r++) {
        float *x = acts.f + (size_t)r * padded;
        for (uint32_t k = 0; k < cols; k++) {
            x[k] = uniform() * (r % 3 == 0 ? 100.0f : 1.0f);
        }
        if (r == 5) {
            memset(x, 0, cols * 4); /* an all-zero row */
        }
        table->quantize(x, cols, &acts, r);
        if (table->to_bf16) {
            table->to_bf16(x, cols, &acts, r);
        }
    }
    return acts;
}

static const uint32_t columns[] = {1, 7, 20, 33, 271, 1009, 32, 64, 96, 576, 256, 512, 1280, 1536};

static void assert_close(const float *a, const float *b, uint32_t n, double tolerance)
{
    double error = 0, size = 1e-30;
    for (uint32_t i = 0; i < n; i++) {
        double e = (double)a[i] - (double)b[i];
        error += e * e;
        size += (double)b[i] * (double)b[i];
    }
    assert_true(sqrt(error / size) <= tolerance);
}

/* row1 against the references, then rows, for every width and from several first rows, against
 * row1. */
static void check_format(enum tsr_format format, uint32_t cols)
{
    struct matrix m = random_matrix(format, cols);
    void *memory;
    struct tsr_acts acts = random_acts(cols, &memory);
    bool block = tsr_format_info(format)->scale_inputs > 0;
    if (format == TSR_FORMAT_BF16 && table->to_bf16) { /* the reference gets what it rounds to */
        for (size_t i = 0; i < (size_t)ROWS_MAX * acts.cols; i++) {
            acts.f[i] = tsr_bf16_to_f32(acts.bf[i]);
        }
    }
    _Alignas(64) float one[ROWS_MAX][PANELS][16], few[PANELS * 16], many[ROWS_MAX * 16], want[16];
    for (uint32_t r = 0; r < ROWS_MAX; r++) {
        table->row1[format](m.panels, PANELS, cols, &acts, r, one[r][0]);
        for (uint32_t p = r % PANELS; p < PANELS; p += PANELS) { /* the references are slow */
            const uint8_t *panel = m.panels + m.panel_bytes * p;
            if (block) {
                tsr_ref_rows_q16(format, panel, cols, &acts, r, want);
                assert_memory_equal(want, one[r][p], 64);
            }
            tsr_kernels_ref.row1[format](panel, 1, cols, &acts, r, want);
            /* 16-bit activations cost 2^-16 of a block's largest */
            assert_close(one[r][p], want, 16, 2e-4);
        }
        for (uint32_t p = 1; p < PANELS; p++) { /* other numbers of panels side by side */
            table->row1[format](m.panels + m.panel_bytes * p, PANELS - p, cols, &acts, r, few);
            assert_memory_equal(few, one[r][p], (PANELS - p) * 64);
        }
    }
    for (uint32_t rows = 1; rows <= ROWS_MAX; rows++) {
        uint32_t first = rows % 3 < ROWS_MAX - rows ? rows % 3 : ROWS_MAX - rows;
        uint32_t p = rows % PANELS;
        table->rows[format](m.panels + m.panel_bytes * p, cols, &acts, first, rows, many);
        for (uint32_t r = 0; r < rows; r++) {
            assert_memory_equal(one[first + r][p], many + 16 * r, 64);
        }
    }
    free(m.panels);
    free(memory);
}

static void test_kernels_matmul_equals_reference(void **unused)
{
    (void)unused;
    for (enum tsr_format format = 0; format < TSR_FORMAT_COUNT; format++) {
        uint32_t block = tsr_dtype_info(dtype_of(format))->block;
        for (size_t i = 0; i < sizeof columns / sizeof *columns; i++) {
            if (columns[i] % block == 0) {
                check_format(format, columns[i]);
            }
        }
    }
}

static void test_kernels_quantize_equals_reference(void **unused)
{
    (void)unused;
    for (uint32_t cols = 1; cols < 300; cols += 13) {
        void *memory[2];
        struct tsr_acts acts = random_acts(cols, &memory[0]), ref = acts;
        memory[1] = aligned_alloc(64, tsr_acts_bytes(ROWS_MAX, acts.cols));
        tsr_acts_init(&ref, memory[1], ROWS_MAX, acts.cols);
        for (uint32_t r = 0; r < ROWS_MAX; r++) {
            tsr_kernels_ref.quantize(acts.f + (size_t)r * acts.cols, cols, &ref, r);
        }
        assert_memory_equal(acts.q, ref.q, (size_t)ROWS_MAX * acts.cols * 2);
        assert_memory_equal(acts.d, ref.d, (size_t)ROWS_MAX * acts.cols / 32 * 4);
        assert_memory_equal(acts.sum16, ref.sum16, (size_t)ROWS_MAX * acts.cols / 16 * 4);
        assert_memory_equal(acts.sum32, ref.sum32, (size_t)ROWS_MAX * acts.cols / 32 * 4);
        free(memory[0]);
        free(memory[1]);
    }
}

static void test_kernels_to_bf16_rounds_to_even(void **unused)
{
    (void)unused;
    if (!table->to_bf16) {
        return;
    }
    for (uint32_t cols = 1; cols < 300; cols += 13) {
        void *memory;
        struct tsr_acts acts = random_acts(cols, &memory);
        acts.f[0] = 1.00390625f; /* half an ulp */
        memset(acts.bf, 0xff, (size_t)ROWS_MAX * acts.cols * 2);
        for (uint32_t r = 0; r < ROWS_MAX; r++) {
            table->to_bf16(acts.f + (size_t)r * acts.cols, cols, &acts, r);
        }
        for (size_t i = 0; i < (size_t)ROWS_MAX * acts.cols; i++) {
            assert_int_equal(acts.bf[i], tsr_f32_to_bf16(acts.f[i]));
        }
        free(memory);
    }
}

static void near(const float *a, const float *b, uint32_t n, float tolerance)
{
    for (uint32_t i = 0; i < n; i++) {
        if (fabsf(a[i] - b[i]) > tolerance * fmaxf(1, fabsf(b[i]))) {
            fail_msg("%u of %u: %g, reference %g", i, n, (double)a[i], (double)b[i]);
        }
    }
}

static void test_kernels_row_operations(void **unused)
{
    (void)unused;
    float x[600], w[600], y[600], z[600];
    for (uint32_t n = 1; n <= 600; n += 37) {
        for (uint32_t i = 0; i < n; i++) {
            x[i] = uniform() * 20;
            w[i] = uniform();
        }
        table->norm(x, w, 1e-5f, n, y);
        tsr_kernels_ref.norm(x, w, 1e-5f, n, z);
        near(y, z, n, 2e-6f);
        memcpy(y, x, sizeof x);
        memcpy(z, x, sizeof x);
        table->silu_mul(y, w, n);
        tsr_kernels_ref.silu_mul(z, w, n);
        near(y, z, n, 2e-6f);
        memcpy(y, x, sizeof x);
        memcpy(z, x, sizeof x);
        table->gelu_mul(y, w, n);
        tsr_kernels_ref.gelu_mul(z, w, n);
        near(y, z, n, 2e-5f);
        memcpy(y, x, sizeof x);
        memcpy(z, x, sizeof x);
        table->rope(y, w, w + n / 2, n / 2 * 2);
        tsr_kernels_ref.rope(z, w, w + n / 2, n / 2 * 2);
        near(y, z, n, 2e-6f);
        uint16_t kv[1200] = {0};
        x[n / 2] = 1e9f;
        table->store_kv(x, n, kv, 2);
        for (uint32_t i = 0; i < n; i++) {
            assert_int_equal(kv[2 * i], tsr_f32_to_f16(fminf(x[i], 65504.0f)));
            assert_int_equal(kv[2 * i + 1], 0);
        }
    }
}

enum { PAGES = 4 };
struct pages {
    void *keys[PAGES], *values[PAGES];
};
static const void *page_keys(const void *ctx, uint32_t block)
{
    return ((const struct pages *)ctx)->keys[block];
}
static const void *page_values(const void *ctx, uint32_t block)
{
    return ((const struct pages *)ctx)->values[block];
}

/* Against the reference, and each query alone against all together, byte for byte; what lies beyond
 * the last position is NaN and must not be felt. */
static void check_attend(uint32_t dim, uint32_t n, uint32_t first, uint32_t step, uint32_t window,
                         float softcap, float slope)
{
    struct pages pages, exact; /* f16, and the same values in f32 for the reference */
    uint32_t last = first + (n - 1) / 2 * step;
    for (uint32_t b = 0; b < PAGES; b++) {
        uint16_t *keys = pages.keys[b] = malloc(64 * dim * 2);
        uint16_t *values = pages.values[b] = malloc(64 * dim * 2);
        float *keys_f32 = exact.keys[b] = malloc(64 * dim * 4);
        float *values_f32 = exact.values[b] = malloc(64 * dim * 4);
        for (uint32_t p = 0; p < 64; p++) {
            for (uint32_t d = 0; d < dim; d++) {
                bool beyond = b * 64 + p > last;
                keys[d * 64 + p] = beyond ? 0x7e00 : tsr_f32_to_f16(uniform() * 2);
                values[p * dim + d] = beyond ? 0x7e00 : tsr_f32_to_f16(uniform());
                keys_f32[d * 64 + p] = tsr_f16_to_f32(keys[d * 64 + p]);
                values_f32[p * dim + d] = tsr_f16_to_f32(values[p * dim + d]);
            }
        }
    }
    float q[16][256], out[3][16][256];
    _Alignas(64) float scratch[16 * (64 + 256)];
    struct tsr_attend a = {.n = n,
                           .head_dim = dim,
                           .window = window,
                           .scale = 0.3f,
                           .softcap = softcap,
                           .keys = page_keys,
                           .values = page_values,
                           .ctx = &pages,
                           .scratch = scratch};
    for (uint32_t i = 0; i < n; i++) {
        a.q[i] = q[i];
        a.position[i] = first + i / 2 * step;
        a.slope[i] = slope * (float)(i + 1);
        for (uint32_t d = 0; d < dim; d++) {
            q[i][d] = uniform() * 2;
        }
    }
    for (int pass = 0; pass < 2; pass++) {
        for (uint32_t i = 0; i < n; i++) {
            a.out[i] = out[pass][i];
        }
        a.ctx = pass ? &exact : &pages;
        (pass ? tsr_kernels_ref.attend : table->attend)(&a);
    }
    for (uint32_t i = 0; i < n; i++) {
        struct tsr_attend one = a;
        one.ctx = &pages;
        one.n = 1;
        one.q[0] = q[i];
        one.out[0] = out[2][i];
        one.position[0] = a.position[i];
        one.slope[0] = a.slope[i];
        table->attend(&one);
        assert_memory_equal(out[2][i], out[0][i], dim * 4);
        near(out[0][i], out[1][i], dim, 5e-6f);
    }
    for (uint32_t b = 0; b < PAGES; b++) {
        free(pages.keys[b]);
        free(pages.values[b]);
        free(exact.keys[b]);
        free(exact.values[b]);
    }
}

static void test_kernels_attention(void **unused)
{
    (void)unused;
    static const uint32_t dims[] = {16, 20, 32, 64, 80, 96, 128, 256};
    for (size_t i = 0; i < sizeof dims / sizeof *dims; i++) {
        check_attend(dims[i], 1, 0, 0, 0, 0, 0);
        check_attend(dims[i], 3, 130, 0, 0, 0, 0);
        check_attend(dims[i], 7, 63, 1, 0, 0, 0);
        check_attend(dims[i], 16, 60, 7, 0, 0, 0.03f);
        check_attend(dims[i], 16, 60, 20, 24, 0, 0);
        check_attend(dims[i], 5, 200, 3, 100, 30, 0);
        check_attend(dims[i], 5, 200, 3, 100, 30, 0.1f);
    }
}

int main(void)
{
    const char *name = getenv("TESSERA_ISA");
    enum tsr_isa isa = !name                     ? TSR_ISA_BEST
                       : !strcmp(name, "avx512") ? TSR_ISA_AVX512
                                                 : TSR_ISA_AVX2;
    table = tsr_kernels_select(isa);
    if (!table || table == &tsr_kernels_ref) {
        printf("skipped: this CPU lacks %s\n", name ? name : "AVX2");
        return 77;
    }
    printf("kernels: %s\n", table->name);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_kernels_quantize_equals_reference),
        cmocka_unit_test(test_kernels_to_bf16_rounds_to_even),
        cmocka_unit_test(test_kernels_matmul_equals_reference),
        cmocka_unit_test(test_kernels_row_operations),
        cmocka_unit_test(test_kernels_attention),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
