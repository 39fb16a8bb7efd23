/* What sentence-transformers' files say of embeddings: modules.json, a NUL byte, and
 * 1_Pooling/config.json; an empty one is not there. */
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "pooling_priv.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static char folder[] = "/tmp/fuzz_pooling_XXXXXX";
static char modules[64], pooling[64], config[80];

static void leave(void)
{
    remove(modules);
    remove(config);
    rmdir(pooling);
    rmdir(folder);
}

static void enter(void)
{
    if (!mkdtemp(folder)) {
        abort();
    }
    snprintf(modules, sizeof modules, "%s/modules.json", folder);
    snprintf(pooling, sizeof pooling, "%s/1_Pooling", folder);
    snprintf(config, sizeof config, "%s/config.json", pooling);
    if (mkdir(pooling, 0700) < 0) {
        abort();
    }
    atexit(leave);
}

static void write_file(const char *path, const uint8_t *data, size_t size)
{
    remove(path);
    FILE *file = size ? fopen(path, "wb") : NULL;
    if (size && (!file || fwrite(data, 1, size, file) != size || fclose(file) != 0)) {
        abort();
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct tsr_source source = {0};
    struct tsr_err err;
    if (!modules[0]) {
        enter();
    }
    const uint8_t *end = size ? memchr(data, '\0', size) : NULL;
    size_t first = end ? (size_t)(end - data) : size;
    write_file(modules, data, first);
    write_file(config, data + first + 1, end ? size - first - 1 : 0);
    if (tsr_pooling_read(&source, folder, &err) < 0) {
        return 0;
    }
    /* A way of pooling, or a sentence of plain characters that says why there is none. */
    size_t length = strnlen(source.pooling_refusal, sizeof source.pooling_refusal);
    if ((source.pooling == TSR_POOLING_NONE) != (length > 0) ||
        length == sizeof source.pooling_refusal) {
        abort();
    }
    for (size_t i = 0; i < length; i++) {
        if (source.pooling_refusal[i] < 0x20 || source.pooling_refusal[i] > 0x7e) {
            abort();
        }
    }
    return 0;
}
