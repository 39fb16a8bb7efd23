/* Every tensor of a folder's types.gguf against the tensor of the same name in its
 * expected.safetensors: the same f32, bit for bit (0 and -0 apart). */
#ifndef TSR_TESTS_TYPES_H
#define TSR_TESTS_TYPES_H

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <tsr/model/gguf.h>
#include <tsr/model/safetensors.h>

static inline void check_types(const char *folder)
{
    char path[PATH_MAX];
    struct tsr_err err = {0};
    struct tsr_gguf *gguf;
    struct tsr_safetensors *file;
    struct tsr_tensors expected = {0};
    snprintf(path, sizeof path, "%s/types.gguf", folder);
    if (tsr_gguf_open(&gguf, path, &err) < 0) {
        fail_msg("%s", err.text);
    }
    snprintf(path, sizeof path, "%s/expected.safetensors", folder);
    if (tsr_safetensors_open(&file, path, &expected, &err) < 0 ||
        tsr_tensors_seal(&expected, &err) < 0) {
        fail_msg("%s", err.text);
    }
    const struct tsr_tensors *tensors = tsr_gguf_tensors(gguf);
    assert_true(tensors->n > 0);
    assert_int_equal(tensors->n, expected.n);
    for (size_t i = 0; i < tensors->n; i++) {
        const struct tsr_tensor_entry *entry = &tensors->entries[i];
        const struct tsr_tensor_entry *want = tsr_tensors_find(&expected, entry->tensor.name);
        assert_non_null(want);
        assert_int_equal(want->elements, entry->elements);
        float *values = malloc(entry->elements * sizeof *values);
        tsr_dtype_to_f32(entry->tensor.dtype, entry->tensor.data, values, entry->elements);
        for (size_t k = 0; k < entry->elements; k++) {
            float ours = values[k], theirs;
            memcpy(&theirs, (const float *)want->tensor.data + k, sizeof theirs);
            if (memcmp(&ours, &theirs, sizeof ours) != 0 && (ours != 0 || theirs != 0)) {
                fail_msg("%s: value %zu is %.9g, expected %.9g", entry->tensor.name, k,
                         (double)ours, (double)theirs);
            }
        }
        printf("%-8s %zu values equal\n", entry->type, (size_t)entry->elements);
        free(values);
    }
    tsr_gguf_close(gguf);
    tsr_safetensors_close(file);
    tsr_tensors_fini(&expected);
}

#endif
