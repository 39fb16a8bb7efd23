/* Files made byte by byte: the tests' GGUF and safetensors writers, which write what they are told,
 * sound or not. */
#ifndef TSR_TESTS_CRAFT_H
#define TSR_TESTS_CRAFT_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct craft {
    uint8_t *data;
    size_t size;
};

static inline void craft_bytes(struct craft *c, const void *bytes, size_t size)
{
    uint8_t *grown = realloc(c->data, c->size + size + 1);
    if (!grown) {
        abort();
    }
    c->data = grown;
    if (size > 0) {
        memcpy(c->data + c->size, bytes, size);
    }
    c->size += size;
}

static inline void craft_u32(struct craft *c, uint32_t value)
{
    craft_bytes(c, &value, sizeof value);
}

static inline void craft_u64(struct craft *c, uint64_t value)
{
    craft_bytes(c, &value, sizeof value);
}

static inline void craft_f32(struct craft *c, float value)
{
    craft_bytes(c, &value, sizeof value);
}

static inline void craft_u8(struct craft *c, uint8_t value)
{
    craft_bytes(c, &value, sizeof value);
}

/* A GGUF string: its length, its bytes. */
static inline void craft_string(struct craft *c, const char *text)
{
    craft_u64(c, strlen(text));
    craft_bytes(c, text, strlen(text));
}

static inline void craft_header(struct craft *c, uint32_t version, uint64_t tensors, uint64_t keys)
{
    craft_bytes(c, "GGUF", 4);
    craft_u32(c, version);
    craft_u64(c, tensors);
    craft_u64(c, keys);
}

/* The beginning of a metadata entry; its value follows. */
static inline void craft_key(struct craft *c, const char *key, uint32_t type)
{
    craft_string(c, key);
    craft_u32(c, type);
}

static inline void craft_key_u32(struct craft *c, const char *key, uint32_t value)
{
    craft_key(c, key, 4);
    craft_u32(c, value);
}

static inline void craft_key_string(struct craft *c, const char *key, const char *value)
{
    craft_key(c, key, 8);
    craft_string(c, value);
}

/* A tensor's description: two dimensions, innermost first, as GGUF has them. */
static inline void craft_matrix(struct craft *c, const char *name, uint64_t cols, uint64_t rows,
                                uint32_t type, uint64_t offset)
{
    craft_string(c, name);
    craft_u32(c, 2);
    craft_u64(c, cols);
    craft_u64(c, rows);
    craft_u32(c, type);
    craft_u64(c, offset);
}

static inline void craft_zeros(struct craft *c, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        craft_u8(c, 0);
    }
}

static inline void craft_align(struct craft *c, size_t alignment)
{
    craft_zeros(c, (alignment - c->size % alignment) % alignment);
}

/* A safetensors file: the header's length, the header, `data` zero bytes. */
static inline void craft_safetensors(struct craft *c, const char *header, size_t data)
{
    craft_string(c, header);
    craft_zeros(c, data);
}

static inline void craft_free(struct craft *c)
{
    free(c->data);
    *c = (struct craft){0};
}

/* Writes a file; aborts where it cannot, as a test without its file means nothing. */
static inline void craft_write(const char *path, const void *data, size_t size)
{
    FILE *file = fopen(path, "wb");
    if (!file || fwrite(data, 1, size, file) != size || fclose(file) != 0) {
        perror(path);
        abort();
    }
}

#endif
