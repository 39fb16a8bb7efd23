/* config.json and generation_config.json: the limits before the parser, and every kind of lookup.
 */
#include <stddef.h>
#include <stdint.h>

#include <tsr/model/config.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static volatile uint64_t sink;

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const keys[] = {"rope_theta", "rope_scaling.rope_type",
                                       "rope_scaling.factor", "hidden_act", "attention_bias"};
    struct tsr_config *config;
    struct tsr_hparams h = {0};
    struct tsr_err err;
    if (tsr_config_from_json(&config, (const char *)data, size, size % 2 == 0, &err) < 0) {
        return 0;
    }
    sink += tsr_config_hparams(config, &h, &err) == 0;
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        double number;
        bool flag;
        const char *string;
        sink += tsr_config_float(config, keys[i], 0.0, 1e9, NULL, &number, &err) == 0;
        sink += tsr_config_bool(config, keys[i], NULL, &flag, &err) == 0 && flag;
        sink += tsr_config_string(config, keys[i], NULL, &string, &err) == 0 && string[0] == 'l';
    }
    uint32_t ids[4];
    int count = tsr_config_tokens(config, "eos_token_id", ids, 4, &err);
    for (int i = 0; i < count; i++) {
        sink += ids[i];
    }
    static const char *const names[] = {"full_attention", "sliding_attention"};
    uint8_t values[3] = {0};
    float numbers[2] = {0};
    sink += tsr_config_choices(config, "layer_types", names, 2, values, 3, &err) == 1;
    sink += tsr_config_choices(config, "no_rope_layers", NULL, 2, values, 3, &err) == 1;
    sink += tsr_config_floats(config, "rope_scaling.short_factor", 0.0, 9.0, numbers, 2, &err) == 0;
    sink += values[0] + (uint64_t)numbers[1];
    sink += tsr_config_is_null(config, "rope_scaling.full_attention.factor");
    sink += tsr_config_check_read(config, &err) == 0;
    tsr_config_close(config);
    return 0;
}
