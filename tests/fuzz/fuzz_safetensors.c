/* Safetensors files: the reader, the Llama builder on what it accepts, and the values of FP8. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <tsr/model/source.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static volatile uint64_t sink;

/* The configuration of corpus/safetensors/llama*.safetensors. */
static const char config[] =
    "{\"model_type\":\"llama\",\"hidden_size\":4,\"num_hidden_layers\":1,\"intermediate_size\":4,"
    "\"vocab_size\":3,\"max_position_embeddings\":8,\"num_attention_heads\":2,"
    "\"num_key_value_heads\":1,\"rms_norm_eps\":1e-5,"
    "\"quantization_config\":{\"quant_method\":\"fp8\",\"weight_block_size\":[2,3]}}";

static void read_rows(const struct tsr_program *program)
{
    for (uint32_t i = 0; i < program->n_weights; i++) {
        const struct tsr_tensor *t = program->weights[i].tensor;
        float row[64];
        if (t->dims[1] <= 64) {
            tsr_tensor_row(t, 0, row);
            tsr_tensor_row(t, t->dims[0] - 1, row);
            sink += row[0] > 0;
        }
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct tsr_source source = {.tensors = &source.own};
    struct tsr_program program = {0};
    struct tsr_safetensors *file = NULL;
    struct tsr_err err;
    if (tsr_safetensors_parse(&file, data, size, &source.own, &err) == 0 &&
        tsr_tensors_seal(&source.own, &err) == 0) {
        for (size_t i = 0; i < source.own.n; i++) {
            const struct tsr_tensor *t = &source.own.entries[i].tensor;
            if (t->bytes > 0) {
                sink += ((const uint8_t *)t->data)[0] + ((const uint8_t *)t->data)[t->bytes - 1];
            }
        }
        if (tsr_config_from_json(&source.config, config, sizeof config - 1, true, &err) < 0) {
            abort();
        }
        if (source.own.n > 0 && tsr_source_build(&source, &program, &err) == 0) {
            read_rows(&program);
        }
    }
    tsr_program_fini(&program);
    tsr_safetensors_close(file);
    tsr_source_close(&source);
    return 0;
}
