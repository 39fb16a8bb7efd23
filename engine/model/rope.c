#include "build_priv.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

/* Frequencies as transformers computes them (modeling_rope_utils.py, 5.23; the functions named
 * below), in 32 bits and in its order of operations, so that they are the same bits: an error of
 * one unit in the last place of a frequency grows with the position. */

/* What is being read: whose parameters, and what they have given so far. */
struct reader {
    struct tsr_builder *b;
    char prefix[64];        /* "rope_scaling." or "rope_scaling.full_attention." */
    double theta, original; /* tsr_build_rope's */
    uint32_t dims;
    float *inv_freq;
    struct tsr_rope rope;
};

static const char *key_of(const struct reader *r, const char *name, char key[static 128])
{
    snprintf(key, 128, "%s%s", r->prefix, name);
    return key;
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

/* A positive number among the scaling's parameters. */
static double parameter(struct reader *r, const char *name, double max, const double *fallback)
{
    char key[128];
    return number(r->b, key_of(r, name, key), 0.0, max, fallback);
}

static bool has(const struct reader *r, const char *name)
{
    char key[128];
    return tsr_config_has(r->b->config, key_of(r, name, key));
}

static void refuse(struct tsr_builder *b, const char *words)
{
    if (b->status == 0) {
        b->status = tsr_err_set(b->err, -ENOTSUP, "%s", words);
    }
}

/* The positions that the model was trained for before it was stretched: beside the scaling where
 * it stands there (Phi-3), else within it, else max_position_embeddings. */
static double original_length(struct reader *r)
{
    const double context = r->b->h.context;
    double within = parameter(r, "original_max_position_embeddings", 1e9, &context);
    within = r->original > 0.0 && !r->b->gguf ? r->original : within;
    return number(r->b, "original_max_position_embeddings", 0.0, 1e9, &within);
}

/* _compute_linear_scaling_rope_parameters() */
static void scale_linear(struct reader *r, double factor)
{
    for (uint32_t i = 0; i < r->dims / 2; i++) {
        r->inv_freq[i] /= (float)factor;
    }
}

/* _compute_llama3_parameters(): long wavelengths are stretched by factor, short ones kept, those
 * between blended. */
static void scale_llama3(struct reader *r)
{
    const float factor = (float)parameter(r, "factor", 1e6, NULL);
    const double low = parameter(r, "low_freq_factor", 1e6, NULL);
    const double high = parameter(r, "high_freq_factor", 1e6, NULL);
    const double original = original_length(r);
    if (r->b->status == 0 && !(low < high)) {
        r->b->status = tsr_err_set(
            r->b->err, -EINVAL, "rope_scaling.low_freq_factor %g is not below high_freq_factor %g",
            low, high);
    }
    for (uint32_t i = 0; i < r->dims / 2 && r->b->status == 0; i++) {
        float f = r->inv_freq[i], wavelength = (float)(2.0 * 3.14159265358979323846) / f;
        if (wavelength > (float)(original / low)) {
            r->inv_freq[i] = f / factor;
        } else if (!(wavelength < (float)(original / high))) {
            float smooth = ((float)original / wavelength - (float)low) / (float)(high - low);
            r->inv_freq[i] = (1.0f - smooth) * f / factor + smooth * f;
        }
    }
}

/* _compute_dynamic_ntk_parameters(): above max_position_embeddings the base grows with the length.
 * The factor says how far that is meant to go. */
static void scale_dynamic(struct reader *r)
{
    const double factor = parameter(r, "factor", 1e6, NULL);
    if (has(r, "alpha")) {
        refuse(r->b, "rope_scaling.alpha (dynamic scaling of another kind) is not supported");
    }
    r->rope.length = r->b->h.context;
    r->rope.base = (float)r->theta;
    r->rope.factor = (float)factor;
    tsr_build_context(r->b, r->b->h.context * factor);
}

static double yarn_mscale(double factor, double mscale)
{
    return factor <= 1.0 ? 1.0 : 0.1 * mscale * log(factor) + 1.0;
}

/* A number that counts as absent where it is 0. */
static double weight(struct reader *r, const char *name)
{
    static const double none = 0.0;
    char key[128];
    return number(r->b, key_of(r, name, key), -1e-9, 1e3, &none);
}

/* The dimension that turns `rotations` times within the original length. */
static double yarn_dim(const struct reader *r, double rotations, double original)
{
    return r->dims * log(original / (rotations * 2.0 * 3.14159265358979323846)) /
           (2.0 * log(r->theta));
}

/* What cosines and sines are multiplied by. */
static float yarn_attention_factor(struct reader *r, double factor)
{
    static const double none = 1.0;
    double scale = yarn_mscale(factor, 1.0);
    const double of_all = weight(r, "mscale_all_dim"), of_part = weight(r, "mscale");
    if (of_part > 0.0 && of_all > 0.0) {
        scale = yarn_mscale(factor, of_part) / yarn_mscale(factor, of_all);
    }
    scale = parameter(r, "attention_factor", 1e3, &scale);
    if (r->b->gguf) { /* llama.cpp has one more */
        scale *= parameter(r, "attn_factor", 1e3, &none);
    }
    return (float)scale;
}

/* _compute_yarn_parameters(); Peng et al., "YaRN" (arXiv:2309.00071). */
static void scale_yarn(struct reader *r)
{
    static const double fast_fallback = 32.0, slow_fallback = 1.0, whole = 1.0;
    char key[128];
    const double original = original_length(r), stretch = r->b->h.context / original;
    const bool follows = tsr_config_is_null(r->b->config, key_of(r, "factor", key));
    const double factor = parameter(r, "factor", 1e6, follows ? &stretch : NULL);
    double low = yarn_dim(r, parameter(r, "beta_fast", 1e6, &fast_fallback), original);
    double high = yarn_dim(r, parameter(r, "beta_slow", 1e6, &slow_fallback), original);
    r->rope.scale = yarn_attention_factor(r, factor);
    if (parameter(r, "extrapolation_factor", 1e3, &whole) != 1.0) {
        refuse(r->b, "a YaRN extrapolation_factor other than 1 is not supported");
    }
    if (!isfinite(low) || !isfinite(high)) {
        refuse(r->b, "YaRN with a rope_theta of 1 is not possible");
    }
    if (tsr_build_bool(r->b, key_of(r, "truncate", key), true)) {
        low = floor(low);
        high = ceil(high);
    }
    low = fmax(low, 0.0);
    high = fmin(high, r->dims - 1.0);
    high += low == high ? 0.001 : 0.0;
    for (uint32_t i = 0; i < r->dims / 2 && r->b->status == 0; i++) {
        float period = powf((float)r->theta, (float)(2 * i) / (float)r->dims);
        float ramp = ((float)i - (float)low) / (float)(high - low);
        float keep = 1.0f - fminf(fmaxf(ramp, 0.0f), 1.0f);
        r->inv_freq[i] = 1.0f / ((float)factor * period) * (1.0f - keep) + 1.0f / period * keep;
    }
    tsr_build_context(r->b, original * factor);
}

/* The dims / 2 divisors of a list in config.json, or of a GGUF's tensor; NULL after a failure. */
static const float *divisors(struct reader *r, const char *name, const char *tensor)
{
    char key[128];
    struct tsr_builder *b = r->b;
    if (b->gguf) {
        return tsr_build_divisors(b, tensor, r->dims / 2);
    }
    float *values =
        b->status < 0 ? NULL : tsr_program_alloc(b->program, r->dims / 2 * sizeof *values);
    if (!values) {
        b->status =
            b->status < 0 ? b->status : tsr_err_set(b->err, -ENOMEM, "no memory for %s", name);
        return NULL;
    }
    b->status =
        tsr_config_floats(b->config, key_of(r, name, key), 0.0, 1e9, values, r->dims / 2, b->err);
    return b->status < 0 ? NULL : values;
}

/* _compute_longrope_parameters(); Ding et al., "LongRoPE" (arXiv:2402.13753). */
static void scale_longrope(struct reader *r)
{
    struct tsr_builder *b = r->b;
    const float *near = divisors(r, "short_factor", "rope_factors_short.weight");
    const float *far = divisors(r, "long_factor", "rope_factors_long.weight");
    const double original = original_length(r);
    const double stretch = b->h.context / original;
    const double factor = parameter(r, "factor", 1e6, &stretch);
    const double scale = factor > 1.0 ? sqrt(1.0 + log(factor) / log(original)) : 1.0;
    r->rope.scale = (float)parameter(r, b->gguf ? "attn_factor" : "attention_factor", 1e3, &scale);
    if (b->status == 0 && (original < 2.0 || original != floor(original))) {
        refuse(b, "longrope's original_max_position_embeddings is not a number of positions");
    }
    float *inv_freq_long =
        b->status < 0 ? NULL : tsr_program_alloc(b->program, r->dims / 2 * sizeof(float));
    if (!inv_freq_long) {
        b->status = b->status < 0 ? b->status : tsr_err_set(b->err, -ENOMEM, "no memory");
        return;
    }
    for (uint32_t i = 0; i < r->dims / 2; i++) {
        float period = powf((float)r->theta, (float)(2 * i) / (float)r->dims);
        r->inv_freq[i] = 1.0f / (near[i] * period);
        inv_freq_long[i] = 1.0f / (far[i] * period);
    }
    r->rope.length = (uint32_t)original;
    r->rope.inv_freq_long = inv_freq_long;
}

/* How many dimensions of each head are turned: a GGUF states their number, config.json which part,
 * in either of two places. */
static uint32_t rotary_dims(struct reader *r, bool partial)
{
    static const double whole = 1.0;
    struct tsr_builder *b = r->b;
    uint32_t dims = b->h.head_dim;
    if (b->gguf && b->status == 0) {
        b->status = tsr_config_u32(b->config, "rope_dims", 1, UINT32_MAX, &dims, &dims, b->err);
    } else if (!b->gguf) {
        double part = number(b, "partial_rotary_factor", 0.0, 1e3, &whole);
        part = parameter(r, "partial_rotary_factor", 1e3, &part);
        dims = (uint32_t)(b->h.head_dim * part);
    }
    if (b->status == 0 && dims != b->h.head_dim &&
        (!partial || dims > b->h.head_dim || dims == 0 || dims % 2 != 0)) {
        b->status = tsr_err_set(b->err, -ENOTSUP,
                                "rotating %u of the %u dimensions of each head is not supported "
                                "for %s",
                                dims, b->h.head_dim, b->program->architecture);
    }
    return dims;
}

/* The kind of scaling that the configuration names, in transformers' words. */
static const char *kind_of(struct reader *r, const struct tsr_build_rope *how)
{
    char key[128];
    const char *kind = "default";
    struct tsr_builder *b = r->b;
    /* llama.cpp takes a factor without a kind for linear scaling, and tensors of factors for
     * longrope */
    const char *fallback = b->gguf ? "linear" : "default";
    if (b->gguf && !how->unscaled && tsr_tensors_find(b->tensors, "rope_factors_long.weight")) {
        fallback = "longrope";
    }
    if (b->status == 0) {
        b->status =
            tsr_config_string(b->config, key_of(r, "rope_type", key), fallback, &kind, b->err);
    }
    if (b->status < 0) {
        return "default";
    }
    bool is_old_longrope =
        strcmp(kind, "su") == 0 || (how->yarn_is_longrope && strcmp(kind, "yarn") == 0);
    return is_old_longrope ? "longrope" : kind;
}

static void scale(struct reader *r, const char *kind)
{
    static const double none = 1.0;
    struct tsr_builder *b = r->b;
    if (strcmp(kind, "default") == 0 || strcmp(kind, "none") == 0) {
        return;
    }
    if (strcmp(kind, "linear") == 0) {
        /* GGUF files of 2023 have the factor under another name */
        const double old = b->gguf ? parameter(r, "linear", 1e6, &none) : 1.0;
        scale_linear(r, parameter(r, "factor", 1e6, b->gguf ? &old : NULL));
    } else if (strcmp(kind, "llama3") == 0 && !b->gguf) {
        scale_llama3(r);
    } else if (strcmp(kind, "dynamic") == 0 && !b->gguf) {
        scale_dynamic(r);
    } else if (strcmp(kind, "yarn") == 0) {
        scale_yarn(r);
    } else if (strcmp(kind, "longrope") == 0) {
        scale_longrope(r);
    } else {
        b->status = tsr_err_set(b->err, -ENOTSUP,
                                "rotary scaling of kind '%s' is not supported; default, linear, "
                                "dynamic, llama3, yarn and longrope are",
                                kind);
    }
}

/* A GGUF's rope_freqs.weight holds a divisor per frequency, which its converter computed by
 * llama3's rule. */
static void divide_by_tensor(struct reader *r)
{
    if (r->b->status < 0 || !tsr_tensors_find(r->b->tensors, "rope_freqs.weight")) {
        return;
    }
    if (r->rope.inv_freq_long) {
        refuse(r->b, "tensor 'rope_freqs.weight' beside longrope's factors is not supported");
    }
    const float *divisor = tsr_build_divisors(r->b, "rope_freqs.weight", r->dims / 2);
    for (uint32_t i = 0; divisor && i < r->dims / 2; i++) {
        r->inv_freq[i] /= divisor[i];
    }
}

uint32_t tsr_build_rope(struct tsr_builder *b, const struct tsr_build_rope *how)
{
    struct reader r = {.b = b, .original = how->original, .rope.scale = 1.0f};
    /* no file has the second one */
    snprintf(r.prefix, sizeof r.prefix, how->unscaled ? "unscaled." : "rope_scaling.");
    if (how->layer_type && !b->gguf) {
        char nested[64];
        snprintf(nested, sizeof nested, "rope_scaling.%s", how->layer_type);
        if (tsr_config_has(b->config, nested)) {
            snprintf(r.prefix, sizeof r.prefix, "%s.", nested);
        }
    }
    char key[128];
    r.theta = number(b, how->theta_key ? how->theta_key : "rope_theta", 0.0, 1e12, &how->theta);
    r.theta = number(b, key_of(&r, "rope_theta", key), 0.0, 1e12, &r.theta);
    r.dims = rotary_dims(&r, how->partial);
    const char *kind = kind_of(&r, how);
    r.inv_freq = b->status < 0 ? NULL : tsr_program_alloc(b->program, r.dims / 2 * sizeof(float));
    if (!r.inv_freq) {
        b->status = b->status < 0 ? b->status
                                  : tsr_err_set(b->err, -ENOMEM,
                                                "no memory for %u rotary frequencies", r.dims / 2);
        return 0;
    }
    tsr_rope_default((float)r.theta, r.dims, r.inv_freq);
    scale(&r, kind);
    if (b->gguf && !how->unscaled) {
        divide_by_tensor(&r);
    }
    r.rope.dims = r.dims;
    r.rope.inv_freq = r.inv_freq;
    int index = b->status < 0 ? b->status : tsr_program_rope(b->program, &r.rope, b->err);
    b->status = index < 0 ? index : 0;
    return index < 0 ? 0 : (uint32_t)index;
}
