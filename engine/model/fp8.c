#include "fp8_priv.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Sides of a block: quantization_config.weight_block_size, or 0 where there is no such key. */
static int read_block(const struct tsr_config *config, uint32_t block[2], struct tsr_err *err)
{
    static const char key[] = "quantization_config.weight_block_size";
    const char *method;
    block[0] = block[1] = 0;
    if (!tsr_config_has(config, "quantization_config")) {
        return 0;
    }
    int rc = tsr_config_string(config, "quantization_config.quant_method", "none", &method, err);
    if (rc < 0) {
        return rc;
    }
    if (strcmp(method, "fp8") != 0) {
        return tsr_err_set(err, -ENOTSUP,
                           "quantization_config.quant_method is '%s'; only 'fp8' with scales a "
                           "block is supported: give the original or a GGUF",
                           method);
    }
    if (!tsr_config_has(config, key)) {
        return tsr_err_set(err, -ENOTSUP,
                           "quantization_config has no weight_block_size; FP8 weights are "
                           "supported with scales a block only: give the original or a GGUF");
    }
    if (tsr_config_tokens(config, key, block, 2, err) != 2 || block[0] == 0 || block[1] == 0) {
        return tsr_err_set(err, -EINVAL, "%s is not two sizes", key);
    }
    return 0;
}

/* Sets scales from their tensor, once its shape is seen to be the blocks of t. */
static int take_scales(struct tsr_tensor *t, const struct tsr_tensor *scales,
                       const uint32_t block[2], struct tsr_err *err)
{
    if (t->n_dims != 2 || scales->n_dims != 2 ||
        scales->dims[0] != (t->dims[0] + block[0] - 1) / block[0] ||
        scales->dims[1] != (t->dims[1] + block[1] - 1) / block[1]) {
        return tsr_err_set(err, -EINVAL,
                           "tensor '%s' does not have one scale for each block of %u x %u of '%s'",
                           scales->name, block[0], block[1], t->name);
    }
    if (scales->dtype > TSR_DTYPE_BF16) {
        return tsr_err_set(err, -ENOTSUP, "tensor '%s' is not of type F32, F16 or BF16",
                           scales->name);
    }
    size_t n = (size_t)(scales->dims[0] * scales->dims[1]);
    float *values = malloc((n + 1) * sizeof *values);
    if (!values) {
        return tsr_err_set(err, -ENOMEM, "no memory for tensor '%s'", scales->name);
    }
    t->scales = values;
    t->scale_rows = block[0];
    t->scale_cols = block[1];
    tsr_dtype_to_f32(scales->dtype, scales->data, values, n);
    for (size_t i = 0; i < n; i++) {
        if (!isfinite(values[i])) {
            return tsr_err_set(err, -EINVAL, "tensor '%s' holds %g at %zu", scales->name,
                               (double)values[i], i);
        }
    }
    return 0;
}

int tsr_fp8_read(const struct tsr_config *config, struct tsr_tensors *tensors, struct tsr_err *err)
{
    uint32_t block[2];
    int rc = read_block(config, block, err);
    for (size_t i = 0; i < tensors->n && rc == 0; i++) {
        struct tsr_tensor *t = &tensors->entries[i].tensor;
        char name[TSR_TENSOR_NAME_MAX + 16];
        if (t->dtype != TSR_DTYPE_F8_E4M3 || t->scales) {
            continue;
        }
        snprintf(name, sizeof name, "%s_scale_inv", t->name);
        struct tsr_tensor_entry *scales = tsr_tensors_find(tensors, name);
        if (block[0] == 0 || !scales) {
            return tsr_err_set(err, -EINVAL,
                               "tensor '%s' is of type F8_E4M3, but %s is missing with its scales",
                               t->name, block[0] ? name : "quantization_config");
        }
        scales->used = true;
        rc = take_scales(t, &scales->tensor, block, err);
    }
    return rc;
}
