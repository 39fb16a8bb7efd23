/* The matrix kernels of one instruction set: one row against weights that stream from memory (its
 * limit: the read bandwidth of this core, measured by the same loop of plain loads), and many rows
 * against one panel (its limit: the multiply-add peak of the arithmetic).
 *
 *   bench_kernels [avx2|avx512|ref] [--quick] */
#include <immintrin.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <tsr/kernels/kernels.h>
#include <tsr/memory/arena.h>

enum { COLS = 2048, MAX_ROWS = 512 };

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

__attribute__((target("avx2"))) static double read_bandwidth(const uint8_t *from, size_t bytes)
{
    __m256i sum[4] = {0};
    double begin = now();
    for (size_t i = 0; i < bytes; i += 256) {
        _mm_prefetch((const char *)from + i + 2048, _MM_HINT_T0);
        _mm_prefetch((const char *)from + i + 2112, _MM_HINT_T0);
        _mm_prefetch((const char *)from + i + 2176, _MM_HINT_T0);
        _mm_prefetch((const char *)from + i + 2240, _MM_HINT_T0);
        for (int v = 0; v < 8; v++) {
            sum[v % 4] = _mm256_add_epi64(
                sum[v % 4], _mm256_loadu_si256((const __m256i *)(from + i + 32 * (size_t)v)));
        }
    }
    __asm__ volatile("" ::"x"(sum[0]), "x"(sum[1]), "x"(sum[2]), "x"(sum[3]));
    return (double)bytes / (now() - begin);
}

__attribute__((target("avx2,fma"))) static double peak(int floats)
{
    enum { TURNS = 5000000, CHAINS = 10 };
    __m256 f[CHAINS] = {0};
    __m256i n[CHAINS] = {0};
    double begin = now();
    for (int i = 0; i < TURNS && floats; i++) {
#pragma GCC unroll 10
        for (int c = 0; c < CHAINS; c++) {
            f[c] = _mm256_fmadd_ps(f[c], f[c], f[c]);
            __asm__ volatile("" : "+x"(f[c]));
        }
    }
    for (int i = 0; i < TURNS && !floats; i++) {
#pragma GCC unroll 10
        for (int c = 0; c < CHAINS; c++) {
            n[c] = _mm256_madd_epi16(n[c], n[c]);
            __asm__ volatile("" : "+x"(n[c]));
        }
    }
    return (double)TURNS * CHAINS * (floats ? 16 : 32) / (now() - begin);
}

static double best(double a, double b)
{
    return a > b ? a : b;
}

int main(int argc, char **argv)
{
    enum tsr_isa isa = TSR_ISA_BEST;
    size_t bytes = 256u << 20;
    int repeats = 5;
    for (int i = 1; i < argc; i++) {
        if (!strcmp(argv[i], "--quick")) {
            bytes = 8u << 20;
            repeats = 1;
        } else {
            isa = !strcmp(argv[i], "avx2")  ? TSR_ISA_AVX2
                  : !strcmp(argv[i], "ref") ? TSR_ISA_REF
                                            : TSR_ISA_AVX512;
        }
    }
    const struct tsr_kernels *k = tsr_kernels_select(isa);
    struct tsr_arena arena;
    if (!k) {
        printf("skipped: this CPU lacks %s\n", argv[1]);
        return 77;
    }
    struct tsr_err err;
    if (tsr_arena_create(&arena, bytes, -1, TSR_PAGES_2M, &err) < 0) {
        fprintf(stderr, "bench_kernels: %s\n", err.text);
        return 1;
    }
    memset(arena.base, 0x11, bytes); /* small scales, no NaN */
    uint32_t stride = COLS + TSR_ACT_COLS_ALIGN;
    void *memory = aligned_alloc(64, tsr_acts_bytes(MAX_ROWS, stride));
    float *out = aligned_alloc(64, sizeof(float) * 16 * 16384 * 4);
    struct tsr_acts acts;
    tsr_acts_init(&acts, memory, MAX_ROWS, stride);
    for (uint32_t r = 0; r < MAX_ROWS; r++) {
        for (uint32_t i = 0; i < stride; i++) {
            acts.f[r * stride + i] = i < COLS ? (float)(int)(r * 31 + i * 7) * 1e-3f : 0;
        }
        k->quantize(acts.f + (size_t)r * stride, COLS, &acts, r);
        if (k->to_bf16) {
            k->to_bf16(acts.f + (size_t)r * stride, COLS, &acts, r);
        }
    }
    printf("kernels: %s, %d inputs\n", k->name, COLS);
    for (enum tsr_format f = 0; f < TSR_FORMAT_COUNT; f++) {
        size_t panel = tsr_panel_bytes(f, COLS);
        uint32_t panels = (uint32_t)(bytes / panel), batch = 64;
        double gbs = 0, limit = 0, cached = 0, rate[4] = {0}, top = 0;
        static const uint32_t rows[4] = {2, 8, 64, 512};
        for (int r = 0; r < repeats; r++) {
            limit = best(limit, read_bandwidth(arena.base, bytes));
            double begin = now();
            for (uint32_t p = 0; p + batch <= panels; p += batch) {
                k->row1[f](arena.base + p * panel, batch, COLS, &acts, 0, out);
            }
            gbs = best(gbs, (double)(panels / batch * batch * panel) / (now() - begin));
            begin = now();
            for (int i = 0; i < 200; i++) {
                k->row1[f](arena.base, 4, COLS, &acts, 0, out);
            }
            cached = best(cached, 200.0 * 4 * (double)panel / (now() - begin));
            top = best(top, peak(!tsr_format_info(f)->scale_inputs));
            for (int i = 0; i < 4; i++) {
                uint32_t turns = 8 + 1024 / rows[i];
                begin = now();
                for (uint32_t t = 0; t < turns; t++) {
                    k->rows[f](arena.base + t % panels * panel, COLS, &acts, 0, rows[i], out);
                }
                rate[i] = best(rate[i], 2.0 * 16 * COLS * rows[i] * turns / (now() - begin));
            }
        }
        printf("%-6s row1 %5.1f GB/s = %3.0f %% of %4.1f read, %5.1f from cache; rows 2: %5.1f 8: "
               "%5.1f 64: %5.1f 512: "
               "%5.1f GOP/s = %3.0f %% of %5.1f\n",
               tsr_format_info(f)->name, gbs / 1e9, 100 * gbs / limit, limit / 1e9, cached / 1e9,
               rate[0] / 1e9, rate[1] / 1e9, rate[2] / 1e9, rate[3] / 1e9, 100 * rate[3] / top,
               top / 1e9);
    }
    tsr_arena_destroy(&arena);
    free(memory);
    free(out);
    return 0;
}
