/* Hugging Face folders advise in generation_config.json, GGUFs by general.sampling.* (names:
 * llama.cpp's gguf-py, constants.py). */
#include "sampling_priv.h"

#include <math.h>

#include <tsr/model/config.h>
#include <tsr/shm/log.h>

/* Where the key is there and holds a number in the range; both ends are part of it. */
static bool advises(const struct tsr_config *config, const char *key, double min, double max,
                    double *value)
{
    struct tsr_err err;
    if (!tsr_config_has(config, key) || tsr_config_is_null(config, key)) {
        return false;
    }
    if (tsr_config_float(config, key, nextafter(min, -INFINITY), nextafter(max, INFINITY), NULL,
                         value, &err) == 0) {
        return true;
    }
    tsr_log(TSR_LOG_WARN, "advice on sampling is left out: %s", err.text);
    return false;
}

void tsr_sampling_read(struct tsr_model *model, const struct tsr_source *source)
{
    const struct tsr_config *config = source->gguf ? source->config : source->generation;
    double top_k = 0;
    model->sampling =
        (struct tsr_model_sampling){.temperature = 1, .top_p = 1, .repetition_penalty = 1};
    struct tsr_model_sampling *s = &model->sampling;
    const struct {
        const char *key;
        double min, max;
        double *value;
    } advice[] = {
        {"temperature", 0, 100, &s->temperature},
        {"top_p", 1e-9, 1, &s->top_p},
        {"min_p", 0, 1, &s->min_p},
        {"repetition_penalty", 1e-3, 10, &s->repetition_penalty},
        {"top_k", 0, INT32_MAX, &top_k},
    };
    for (size_t i = 0; config && i < sizeof advice / sizeof *advice; i++) {
        if (advises(config, advice[i].key, advice[i].min, advice[i].max, advice[i].value)) {
            s->stated = true;
        }
    }
    s->top_k = (uint32_t)top_k;
}
