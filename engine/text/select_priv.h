/* Finding the few highest of many logits without sorting them all. */
#ifndef TSR_TEXT_SELECT_PRIV_H
#define TSR_TEXT_SELECT_PRIV_H

#include <math.h>
#include <stdint.h>
#include <string.h>

enum {
    TSR_SELECT_BLOCK = 64, /* logits that share one maximum */
    TSR_SELECT_LANES = 16, /* partial sums and maxima, so that the compiler may use vectors */
};

/* Candidates are ordered by logit, descending; equal ones by id, ascending. */
struct tsr_candidate {
    float logit;
    float weight;
    uint32_t id;
};

/* e^x for x <= 0, within 2 units in the last place; 0 below -87 and for NaN. Plain arithmetic, so
 * that loops over it become vector code, with the same result for each element. */
static inline float tsr_exp_negative(float x)
{
    /* n = round(x / ln 2) in the low bits of shifted; r = x - n ln 2 in two parts (Cody and Waite).
     * For an x far below this is nonsense, which the mask at the end removes. */
    float shifted = x * 1.44269504f + 12582912.0f;
    float n = shifted - 12582912.0f;
    float r = x - n * 0.693359375f;
    r = r + n * 2.12194440e-4f;
    float p = 1.9875691500e-4f; /* Cephes expf */
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * r * r + r + 1.0f;
    uint32_t power, bits;
    memcpy(&power, &shifted, sizeof(power));
    memcpy(&bits, &p, sizeof(bits));
    bits = (bits + (power << 23)) & (0u - (uint32_t)(x > -87.0f)); /* no branch: vectors */
    memcpy(&p, &bits, sizeof(p));
    return p;
}

/* maxima[i] = the highest of block i of x[n] (the last may be short); NaN is never higher. The
 * highest of all, -INFINITY where there is no number. */
float tsr_select_maxima(const float *x, uint32_t n, float *maxima);

/* sums[i] = sum over block i of e^((x - max) * scale); their sum. */
double tsr_select_sums(const float *x, uint32_t n, float max, float scale, double *sums);

/* The lowest index of value, which must occur. */
uint32_t tsr_select_first(const float *x, uint32_t n, const float *maxima, float value);

/* The candidates at or above bound, by ascending id; weights are not set. out: [n]. */
uint32_t tsr_select_gather(const float *x, uint32_t n, const float *maxima, float bound,
                           struct tsr_candidate *out);

/* A bound that at least k of x reach and that few others do. scratch: [blocks]. */
float tsr_select_bound(const float *maxima, uint32_t n_blocks, uint32_t k, float *scratch);

/* Brings the smallest beginning of the order whose weights sum to mass or more to the front of
 * c[n], in any order; its length (n where the sum is never reached). */
uint32_t tsr_select_mass(struct tsr_candidate *c, uint32_t n, double mass);

/* Brings the first k of the order to the front of c[n], in any order; the smaller of k and n.
 * Weights are not used. */
uint32_t tsr_select_count(struct tsr_candidate *c, uint32_t n, uint32_t k);

/* Sorts c[n], n small. */
void tsr_select_sort(struct tsr_candidate *c, uint32_t n);

static inline uint32_t tsr_select_blocks(uint32_t n)
{
    return (n + TSR_SELECT_BLOCK - 1) / TSR_SELECT_BLOCK;
}

#endif
