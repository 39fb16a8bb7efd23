/* Reader of GGUF files, versions 2 and 3, little endian.
 *
 * Format: github.com/ggml-org/ggml, docs/gguf.md. Nothing in the file is trusted: tsr_gguf_open()
 * walks the whole header once and checks every length, count, type, offset and name; afterwards no
 * accessor can fail or read outside the file. A file that is truncated by someone else while it is
 * mapped raises SIGBUS on access, as with any mapping: files are not to be changed in place while
 * an engine loads them.
 *
 * All functions that take a const struct tsr_gguf may be called from any thread. What they return
 * points into the mapping and is valid until tsr_gguf_close(). */
#ifndef TSR_MODEL_GGUF_H
#define TSR_MODEL_GGUF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <tsr/model/tensors.h>
#include <tsr/shm/err.h>

/* Types of metadata values, as the file numbers them. */
enum tsr_gguf_type {
    TSR_GGUF_U8 = 0,
    TSR_GGUF_I8 = 1,
    TSR_GGUF_U16 = 2,
    TSR_GGUF_I16 = 3,
    TSR_GGUF_U32 = 4,
    TSR_GGUF_I32 = 5,
    TSR_GGUF_F32 = 6,
    TSR_GGUF_BOOL = 7,
    TSR_GGUF_STRING = 8,
    TSR_GGUF_ARRAY = 9,
    TSR_GGUF_U64 = 10,
    TSR_GGUF_I64 = 11,
    TSR_GGUF_F64 = 12,
    TSR_GGUF_TYPE_COUNT
};

/* Bytes in the file: not NUL-terminated, any byte may occur in them. */
struct tsr_gguf_string {
    const char *data;
    size_t size;
};

struct tsr_gguf;
struct tsr_gguf_array;

/* Maps the file and checks all of it but the tensors' contents. -ENOENT and other errors of open();
 * -EINVAL (broken), -ENOTSUP (big endian, another version, a nested array), -ENOMEM. */
int tsr_gguf_open(struct tsr_gguf **gguf, const char *path, struct tsr_err *err);

/* The same for bytes in memory, which stay the caller's and must outlive the result. */
int tsr_gguf_parse(struct tsr_gguf **gguf, const void *data, size_t size, struct tsr_err *err);

void tsr_gguf_close(struct tsr_gguf *gguf); /* NULL is allowed */

uint32_t tsr_gguf_version(const struct tsr_gguf *gguf);
uint64_t tsr_gguf_bytes(const struct tsr_gguf *gguf); /* size of the file */

/* --- metadata: each lookup is false (NULL) where the key is absent or its value of another kind
 * ----------------- */

bool tsr_gguf_has(const struct tsr_gguf *gguf, const char *key); /* of any kind */
bool tsr_gguf_string(const struct tsr_gguf *gguf, const char *key, struct tsr_gguf_string *value);
/* Any integer type; false above INT64_MAX. */
bool tsr_gguf_int(const struct tsr_gguf *gguf, const char *key, int64_t *value);
/* F32, F64 or any integer type. */
bool tsr_gguf_float(const struct tsr_gguf *gguf, const char *key, double *value);
bool tsr_gguf_bool(const struct tsr_gguf *gguf, const char *key, bool *value);
const struct tsr_gguf_array *tsr_gguf_array(const struct tsr_gguf *gguf, const char *key);

uint64_t tsr_gguf_array_count(const struct tsr_gguf_array *array);
enum tsr_gguf_type tsr_gguf_array_type(const struct tsr_gguf_array *array); /* of its elements */

/* Element i in constant time. An index outside the array, or an element of another kind, gives an
 * empty string or zero: check count and type first. Integers of any type and bools are ints; they
 * and F32, F64 are floats. */
struct tsr_gguf_string tsr_gguf_array_string(const struct tsr_gguf_array *array, uint64_t i);
int64_t tsr_gguf_array_int(const struct tsr_gguf_array *array, uint64_t i);
double tsr_gguf_array_float(const struct tsr_gguf_array *array, uint64_t i);

/* Keys, for those who list them: i below the count, sorted by bytes. */
size_t tsr_gguf_keys(const struct tsr_gguf *gguf);
const char *tsr_gguf_key(const struct tsr_gguf *gguf, size_t i, enum tsr_gguf_type *type);

/* --- tensors
 * ------------------------------------------------------------------------------------------------------
 */

/* The file's tensors; dimensions outermost first (GGUF stores them innermost first). */
struct tsr_tensors *tsr_gguf_tensors(struct tsr_gguf *gguf);

/* Where the tensors' data begins: a multiple of general.alignment, at most the file's size. */
uint64_t tsr_gguf_data_off(const struct tsr_gguf *gguf);

/* Tells the system that the tensors' pages are not needed for now; they read back from the file
 * when touched. */
void tsr_gguf_drop_tensors(struct tsr_gguf *gguf);

#endif
