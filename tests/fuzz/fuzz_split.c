/* A GGUF in two files, which lie one after the other in the input: two bytes say where the first
 * ends, their lowest bit which of them is opened. The reader finds the other by its name. */
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <tsr/model/source.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static volatile uint64_t sink;
static char folder[] = "/tmp/fuzz_split_XXXXXX";
static char parts[2][64];

static void leave(void)
{
    remove(parts[0]);
    remove(parts[1]);
    rmdir(folder);
}

static void enter(void)
{
    if (!mkdtemp(folder)) {
        abort();
    }
    for (int i = 0; i < 2; i++) {
        snprintf(parts[i], sizeof parts[i], "%s/m-%05d-of-00002.gguf", folder, i + 1);
    }
    atexit(leave);
}

static void write_part(int part, const uint8_t *data, size_t size)
{
    FILE *file = fopen(parts[part], "wb");
    if (!file || fwrite(data, 1, size, file) != size || fclose(file) != 0) {
        abort();
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint16_t place;
    struct tsr_source source;
    struct tsr_err err;
    if (size < sizeof place) {
        return 0;
    }
    if (!parts[0][0]) {
        enter();
    }
    memcpy(&place, data, sizeof place);
    data += sizeof place;
    size -= sizeof place;
    size_t first = (size_t)(place >> 1) < size ? (size_t)(place >> 1) : size;
    write_part(0, data, first);
    write_part(1, data + first, size - first);
    if (tsr_source_open(&source, parts[place & 1], &err) < 0) {
        return 0;
    }
    for (size_t i = 0; i < source.tensors->n; i++) {
        const struct tsr_tensor *t = &source.tensors->entries[i].tensor;
        sink += ((const uint8_t *)t->data)[0] + ((const uint8_t *)t->data)[t->bytes - 1];
    }
    sink += tsr_gguf_keys(source.gguf);
    tsr_source_close(&source);
    return 0;
}
