/* GGUF files: the reader, every accessor over all that it accepts, the configuration and the
 * builders. */
#include <stddef.h>
#include <stdint.h>

#include <tsr/model/source.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static volatile uint64_t sink;

/* Reads what a caller can reach: a bad length or offset becomes a read outside the input. */
static void walk(struct tsr_gguf *gguf)
{
    for (size_t i = 0; i < tsr_gguf_keys(gguf); i++) {
        enum tsr_gguf_type type;
        const char *key = tsr_gguf_key(gguf, i, &type);
        struct tsr_gguf_string s;
        double number;
        if (tsr_gguf_string(gguf, key, &s) && s.size > 0) {
            sink += (uint8_t)s.data[0] + (uint8_t)s.data[s.size - 1];
        }
        sink += tsr_gguf_float(gguf, key, &number) && number > 0.0;
        const struct tsr_gguf_array *array = tsr_gguf_array(gguf, key);
        for (uint64_t j = 0; array && j < tsr_gguf_array_count(array); j++) {
            s = tsr_gguf_array_string(array, j);
            sink += s.size > 0 ? (uint8_t)s.data[s.size - 1] : 0;
            sink += (uint64_t)tsr_gguf_array_int(array, j);
            sink += tsr_gguf_array_float(array, j) > 0.0;
        }
    }
    const struct tsr_tensors *tensors = tsr_gguf_tensors(gguf);
    for (size_t i = 0; i < tensors->n; i++) {
        const struct tsr_tensor *t = &tensors->entries[i].tensor;
        sink += ((const uint8_t *)t->data)[0] + ((const uint8_t *)t->data)[t->bytes - 1];
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct tsr_source source = {0};
    struct tsr_program program = {0};
    struct tsr_err err;
    if (tsr_gguf_parse(&source.gguf, data, size, &err) < 0) {
        return 0;
    }
    walk(source.gguf);
    source.tensors = tsr_gguf_tensors(source.gguf);
    if (tsr_config_from_gguf(&source.config, source.gguf, &err) == 0 &&
        tsr_source_build(&source, &program, &err) == 0) {
        sink += program.n_ops;
    }
    tsr_program_fini(&program);
    tsr_source_close(&source);
    return 0;
}
