/* Weights in FP8 (E4M3) with a scale a block, as DeepSeek-V3 and Qwen3 are published. */
#ifndef TSR_MODEL_FP8_PRIV_H
#define TSR_MODEL_FP8_PRIV_H

#include <tsr/model/config.h>
#include <tsr/model/tensors.h>

/* Gives each F8_E4M3 tensor the scales of the tensor of its name + "_scale_inv", which counts as
 * used. -ENOTSUP where quantization_config names another method or none, -EINVAL where scales are
 * missing or not of the tensor's shape, -ENOMEM. */
int tsr_fp8_read(const struct tsr_config *config, struct tsr_tensors *tensors, struct tsr_err *err);

#endif
