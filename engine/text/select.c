#include <stdbool.h>

#include "select_priv.h"

enum { SORT_BELOW = 24 };

/* The two passes over whole rows also exist with wider vectors, chosen at load time: the lanes are
 * fixed and AVX2 without FMA rounds as SSE2 does, so the results are the same. (Not under
 * sanitizers, which instrument the choosing function too early, nor with clang 14, which does not
 * link it.) */
#if defined(__x86_64__) && !defined(__clang__) && !defined(__SANITIZE_ADDRESS__) &&                \
    !defined(__SANITIZE_THREAD__)
#define WIDE __attribute__((target_clones("avx2", "default")))
#else
#define WIDE
#endif

WIDE float tsr_select_maxima(const float *x, uint32_t n, float *maxima)
{
    float best = -INFINITY;
    for (uint32_t at = 0, block = 0; at < n; at += TSR_SELECT_BLOCK, block++) {
        float lane[TSR_SELECT_LANES], high = -INFINITY;
        uint32_t left = n - at;
        for (int i = 0; i < TSR_SELECT_LANES; i++)
            lane[i] = -INFINITY;
        if (left >= TSR_SELECT_BLOCK) {
            for (int j = 0; j < TSR_SELECT_BLOCK; j += TSR_SELECT_LANES)
                for (int i = 0; i < TSR_SELECT_LANES; i++)
                    lane[i] =
                        x[at + (uint32_t)(j + i)] > lane[i] ? x[at + (uint32_t)(j + i)] : lane[i];
        } else {
            for (uint32_t i = 0; i < left; i++)
                high = x[at + i] > high ? x[at + i] : high;
        }
        for (int i = 0; i < TSR_SELECT_LANES; i++)
            high = lane[i] > high ? lane[i] : high;
        maxima[block] = high;
        best = high > best ? high : best;
    }
    return best;
}

WIDE double tsr_select_sums(const float *x, uint32_t n, float max, float scale, double *sums)
{
    double total = 0.0;
    for (uint32_t at = 0, block = 0; at < n; at += TSR_SELECT_BLOCK, block++) {
        float lane[TSR_SELECT_LANES] = {0}, sum = 0.0f;
        uint32_t left = n - at;
        if (left >= TSR_SELECT_BLOCK) {
            for (int j = 0; j < TSR_SELECT_BLOCK; j += TSR_SELECT_LANES)
                for (int i = 0; i < TSR_SELECT_LANES; i++)
                    lane[i] += tsr_exp_negative((x[at + (uint32_t)(j + i)] - max) * scale);
        } else {
            for (uint32_t i = 0; i < left; i++)
                sum += tsr_exp_negative((x[at + i] - max) * scale);
        }
        for (int i = 0; i < TSR_SELECT_LANES; i++)
            sum += lane[i];
        sums[block] = (double)sum;
        total += (double)sum;
    }
    return total;
}

uint32_t tsr_select_first(const float *x, uint32_t n, const float *maxima, float value)
{
    uint32_t block = 0;
    while (maxima[block] != value)
        block++;
    uint32_t i = block * TSR_SELECT_BLOCK;
    while (i + 1 < n && x[i] != value)
        i++;
    return i;
}

uint32_t tsr_select_gather(const float *x, uint32_t n, const float *maxima, float bound,
                           struct tsr_candidate *out)
{
    uint32_t count = 0;
    for (uint32_t at = 0, block = 0; at < n; at += TSR_SELECT_BLOCK, block++) {
        if (!(maxima[block] >= bound))
            continue;
        uint32_t end = n - at < TSR_SELECT_BLOCK ? n : at + TSR_SELECT_BLOCK;
        for (uint32_t i = at; i < end; i++)
            if (x[i] >= bound)
                out[count++] = (struct tsr_candidate){.logit = x[i], .id = i};
    }
    return count;
}

float tsr_select_bound(const float *maxima, uint32_t n_blocks, uint32_t k, float *scratch)
{
    if (k >= n_blocks)
        return -INFINITY;
    /* The k-th highest of the blocks' maxima: each of those k blocks has a logit that reaches it.
     */
    memcpy(scratch, maxima, n_blocks * sizeof(*scratch));
    uint32_t low = 0, high = n_blocks; /* the k-th lies in [low, high) */
    while (high - low > 1) {
        float a = scratch[low], b = scratch[low + (high - low) / 2], c = scratch[high - 1];
        float pivot = a > b ? (b > c ? b : (a > c ? c : a)) : (a > c ? a : (b > c ? c : b));
        uint32_t above = low, i = low, equal_end = high; /* above | equal | below, from both ends */
        while (i < equal_end) {
            float v = scratch[i];
            if (v > pivot) {
                scratch[i++] = scratch[above];
                scratch[above++] = v;
            } else if (v < pivot) {
                scratch[i] = scratch[--equal_end];
                scratch[equal_end] = v;
            } else {
                i++;
            }
        }
        if (k <= above)
            high = above;
        else if (k <= equal_end)
            return pivot;
        else
            low = equal_end;
    }
    return scratch[low];
}

static inline bool before(const struct tsr_candidate *a, const struct tsr_candidate *b)
{
    return a->logit > b->logit || (a->logit == b->logit && a->id < b->id);
}

void tsr_select_sort(struct tsr_candidate *c, uint32_t n)
{
    for (uint32_t i = 1; i < n; i++) {
        struct tsr_candidate v = c[i];
        uint32_t k = i;
        for (; k > 0 && before(&v, &c[k - 1]); k--)
            c[k] = c[k - 1];
        c[k] = v;
    }
}

static struct tsr_candidate middle(const struct tsr_candidate *a, const struct tsr_candidate *b,
                                   const struct tsr_candidate *c)
{
    if (before(a, b))
        return before(b, c) ? *b : before(a, c) ? *c : *a;
    return before(a, c) ? *a : before(b, c) ? *c : *b;
}

/* Quickselect by the sum of what stands before; each candidate counts 1 or its weight. Linear on
 * average; the pivot is the median of three medians, at places that do not depend on anything but
 * n. */
static uint32_t select_front(struct tsr_candidate *c, uint32_t n, double need, bool unit)
{
    uint32_t low = 0, high = n;
    while (high - low > SORT_BELOW) {
        uint32_t step = (high - low) / 9;
        struct tsr_candidate m[3];
        for (uint32_t i = 0; i < 3; i++)
            m[i] = middle(&c[low + step * (3 * i)], &c[low + step * (3 * i + 1)],
                          &c[low + step * (3 * i + 2)]);
        struct tsr_candidate pivot = middle(&m[0], &m[1], &m[2]);
        double mass = 0.0;
        uint32_t cut = low; /* [low, cut) are not behind the pivot */
        for (uint32_t i = low; i < high; i++) {
            if (before(&pivot, &c[i]))
                continue;
            struct tsr_candidate v = c[i];
            c[i] = c[cut];
            c[cut++] = v;
            mass += unit ? 1.0 : (double)v.weight;
        }
        if (cut == high) { /* the pivot is the last of them: put it there, and go on without it */
            uint32_t last = low;
            while (c[last].id != pivot.id)
                last++;
            c[last] = c[high - 1];
            c[high - 1] = pivot;
            double own = unit ? 1.0 : (double)pivot.weight;
            if (mass - own < need)
                return high;
            high--;
        } else if (mass >= need) {
            high = cut;
        } else {
            need -= mass;
            low = cut;
        }
    }
    tsr_select_sort(c + low, high - low);
    while (low < high && need > 0.0) {
        need -= unit ? 1.0 : (double)c[low].weight;
        low++;
    }
    return low;
}

uint32_t tsr_select_mass(struct tsr_candidate *c, uint32_t n, double mass)
{
    return select_front(c, n, mass, false);
}

uint32_t tsr_select_count(struct tsr_candidate *c, uint32_t n, uint32_t k)
{
    return k >= n ? n : select_front(c, n, (double)k, true);
}
