#include <tsr/kernels/kernels.h>

#include <cpuid.h>
#include <stddef.h>

static size_t up64(size_t bytes)
{
    return (bytes + 63) & ~(size_t)63;
}

size_t tsr_acts_bytes(uint32_t rows, uint32_t cols)
{
    size_t n = (size_t)rows * cols;
    return up64(n * 4) + 2 * up64(n * 2) + 2 * up64(n / 32 * 4) + up64(n / 16 * 4);
}

void tsr_acts_init(struct tsr_acts *acts, void *memory, uint32_t rows, uint32_t cols)
{
    size_t n = (size_t)rows * cols;
    uint8_t *p = memory;
    acts->cols = cols;
    acts->f = (float *)p;
    p += up64(n * 4);
    acts->bf = (uint16_t *)p;
    p += up64(n * 2);
    acts->q = (int16_t *)p;
    p += up64(n * 2);
    acts->d = (float *)p;
    p += up64(n / 32 * 4);
    acts->sum32 = (int32_t *)p;
    p += up64(n / 32 * 4);
    acts->sum16 = (int32_t *)p;
}

struct tsr_cpu tsr_cpu_detect(void)
{
    struct tsr_cpu cpu = {0};
    unsigned int a, b, c = 0, d; /* clang 14's builtin knows no F16C */
    __builtin_cpu_init();
    cpu.avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
               __get_cpuid(1, &a, &b, &c, &d) && (c & bit_F16C);
    cpu.avx512 = cpu.avx2 && __builtin_cpu_supports("avx512f") &&
                 __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
                 __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vnni") &&
                 __builtin_cpu_supports("avx512bf16");
    return cpu;
}

const struct tsr_kernels *tsr_kernels_select(enum tsr_isa isa)
{
    struct tsr_cpu cpu = tsr_cpu_detect();
    switch (isa) {
    case TSR_ISA_BEST:
        return cpu.avx512 ? &tsr_kernels_avx512 : cpu.avx2 ? &tsr_kernels_avx2 : &tsr_kernels_ref;
    case TSR_ISA_AVX512:
        return cpu.avx512 ? &tsr_kernels_avx512 : NULL;
    case TSR_ISA_AVX2:
        return cpu.avx2 ? &tsr_kernels_avx2 : NULL;
    default:
        return &tsr_kernels_ref;
    }
}
