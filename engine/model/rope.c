#include "build_priv.h"

#include <errno.h>
#include <math.h>
#include <string.h>

/* Frequencies as transformers computes them (modeling_rope_utils.py), in 32 bits and in its order
 * of operations, so that they are the same bits: an error of one unit in the last place of a
 * frequency grows with the position. */

/* _compute_default_rope_parameters: 1 / base^(2i / dims) */
static void default_freq(float *inv_freq, uint32_t dims, float base)
{
    for (uint32_t i = 0; i < dims / 2; i++) {
        inv_freq[i] = 1.0f / powf(base, (float)(2 * i) / (float)dims);
    }
}

struct llama3 {
    double factor, low, high, original;
};

/* _compute_llama3_parameters: long wavelengths are stretched by factor, short ones kept, those
 * between blended. */
static void llama3_freq(float *inv_freq, uint32_t dims, const struct llama3 *p)
{
    float factor = (float)p->factor, low = (float)p->low, original = (float)p->original;
    float wavelength_low = (float)(p->original / p->low);
    float wavelength_high = (float)(p->original / p->high);
    for (uint32_t i = 0; i < dims / 2; i++) {
        float f = inv_freq[i];
        float wavelength = (float)(2.0 * 3.14159265358979323846) / f;
        if (wavelength > wavelength_low) {
            inv_freq[i] = f / factor;
        } else if (!(wavelength < wavelength_high)) {
            float smooth = (original / wavelength - low) / (float)(p->high - p->low);
            inv_freq[i] = (1.0f - smooth) * f / factor + smooth * f;
        }
    }
}

/* A GGUF's rope_freqs.weight holds a divisor per frequency, which its converter computed by the
 * rule above. */
static void divide_by_tensor(struct tsr_builder *b, float *inv_freq, uint32_t dims)
{
    struct tsr_tensor_entry *entry = tsr_tensors_find(b->tensors, "rope_freqs.weight");
    if (b->status < 0 || !entry) {
        return;
    }
    entry->used = true;
    const struct tsr_tensor *t = &entry->tensor;
    if (t->dtype != TSR_DTYPE_F32 || t->n_dims != 1 || t->dims[0] != dims / 2) {
        b->status =
            tsr_err_set(b->err, -EINVAL,
                        "tensor '%s' is %llu numbers of type %s, where %u of type F32 are "
                        "needed",
                        t->name, (unsigned long long)entry->elements, entry->type, dims / 2);
        return;
    }
    for (uint32_t i = 0; i < dims / 2; i++) {
        float divisor;
        memcpy(&divisor, (const uint8_t *)t->data + i * sizeof divisor, sizeof divisor);
        if (!isfinite(divisor) || divisor <= 0.0f) {
            b->status = tsr_err_set(b->err, -EINVAL,
                                    "tensor '%s' holds %g at %u, where a positive number is needed",
                                    t->name, (double)divisor, i);
            return;
        }
        inv_freq[i] /= divisor;
    }
}

static double number(struct tsr_builder *b, const char *key, double min, double max,
                     const double *fallback)
{
    double value = 1.0;
    if (b->status == 0) {
        b->status = tsr_config_float(b->config, key, min, max, fallback, &value, b->err);
    }
    return value;
}

static void scale_llama3(struct tsr_builder *b, float *inv_freq, uint32_t dims)
{
    struct llama3 p = {
        .factor = number(b, "rope_scaling.factor", 0.0, 1e6, NULL),
        .low = number(b, "rope_scaling.low_freq_factor", 0.0, 1e6, NULL),
        .high = number(b, "rope_scaling.high_freq_factor", 0.0, 1e6, NULL),
        .original = number(b, "rope_scaling.original_max_position_embeddings", 0.0, 1e9, NULL),
    };
    if (b->status == 0 && !(p.low < p.high)) {
        b->status = tsr_err_set(b->err, -EINVAL,
                                "rope_scaling.low_freq_factor %g is not below high_freq_factor %g",
                                p.low, p.high);
    }
    if (b->status == 0) {
        llama3_freq(inv_freq, dims, &p);
    }
}

static void scale_linear(struct tsr_builder *b, float *inv_freq, uint32_t dims, const char *key)
{
    float factor = (float)number(b, key, 0.0, 1e6, NULL);
    for (uint32_t i = 0; i < dims / 2; i++) {
        inv_freq[i] /= factor;
    }
}

/* Heads are rotated whole. A GGUF states how many dimensions, config.json which part, in either of
 * two places. */
static void expect_whole_heads(struct tsr_builder *b)
{
    static const double whole = 1.0;
    uint32_t dims = b->h.head_dim, stated = dims;
    bool is_whole = true;
    if (b->gguf && b->status == 0) {
        b->status = tsr_config_u32(b->config, "rope_dims", 1, UINT32_MAX, &dims, &stated, b->err);
        is_whole = stated == dims;
    } else if (!b->gguf) {
        is_whole = number(b, "partial_rotary_factor", 0.0, 1e3, &whole) == 1.0 &&
                   number(b, "rope_scaling.partial_rotary_factor", 0.0, 1e3, &whole) == 1.0;
    }
    if (b->status == 0 && !is_whole) {
        b->status = tsr_err_set(b->err, -ENOTSUP,
                                "rotating only a part of each head of %u dimensions is not "
                                "supported for %s",
                                dims, b->program->architecture);
    }
}

uint32_t tsr_build_rope(struct tsr_builder *b)
{
    static const double theta_fallback = 10000.0; /* LlamaConfig, Qwen2Config; llama.cpp */
    const uint32_t dims = b->h.head_dim;
    const char *kind = "default";
    double base = number(b, "rope_theta", 0.0, 1e12, &theta_fallback);
    expect_whole_heads(b);
    if (b->status == 0) {
        b->status =
            tsr_config_string(b->config, "rope_scaling.rope_type", "default", &kind, b->err);
    }
    if (b->status < 0) {
        return 0;
    }
    float *inv_freq = tsr_program_alloc(b->program, dims / 2 * sizeof *inv_freq);
    if (!inv_freq) {
        b->status = tsr_err_set(b->err, -ENOMEM, "no memory for %u rotary frequencies", dims / 2);
        return 0;
    }
    default_freq(inv_freq, dims, (float)base);
    if (strcmp(kind, "llama3") == 0 && !b->gguf) {
        scale_llama3(b, inv_freq, dims);
    } else if (strcmp(kind, "linear") == 0) {
        scale_linear(b, inv_freq, dims, "rope_scaling.factor");
    } else if (strcmp(kind, "default") != 0 && strcmp(kind, "none") != 0) {
        b->status = tsr_err_set(b->err, -ENOTSUP,
                                "rotary scaling of kind '%s' is not supported; default, linear "
                                "and llama3 are",
                                kind);
    } else if (b->gguf && tsr_config_has(b->config, "rope_scaling.linear")) {
        scale_linear(b, inv_freq, dims, "rope_scaling.linear"); /* GGUF files of 2023 */
    }
    if (b->gguf) {
        divide_by_tensor(b, inv_freq, dims);
    }
    if (b->status < 0) {
        return 0;
    }
    const struct tsr_rope rope = {.dims = dims, .scale = 1.0f, .inv_freq = inv_freq};
    int index = tsr_program_rope(b->program, &rope, b->err);
    b->status = index < 0 ? index : 0;
    return index < 0 ? 0 : (uint32_t)index;
}
