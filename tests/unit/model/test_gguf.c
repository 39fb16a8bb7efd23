#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>

#include <tsr/model/gguf.h>

#include "craft.h"

/* A sound file with a value of every type, arrays, and two tensors of 68 and 64 bytes, the last at
 * its end. */
enum { SOUND_DATA = 128 + 64 };

static void craft_sound(struct craft *c)
{
    craft_header(c, 3, 2, 17);
    craft_key_string(c, "general.architecture", "llama");
    craft_key_u32(c, "general.alignment", 64);
    craft_key(c, "u8", 0), craft_u8(c, 200);
    craft_key(c, "i8", 1), craft_u8(c, 0xfe);
    craft_key(c, "u16", 2), craft_bytes(c, "\xff\xff", 2);
    craft_key(c, "i16", 3), craft_bytes(c, "\xff\xff", 2);
    craft_key(c, "i32", 5), craft_u32(c, UINT32_MAX);
    craft_key(c, "f32", 6), craft_f32(c, 0.5f);
    craft_key(c, "bool", 7), craft_u8(c, 1);
    craft_key(c, "u64", 10), craft_u64(c, UINT64_MAX);
    craft_key(c, "i64", 11), craft_u64(c, UINT64_MAX);
    double half = 0.5;
    craft_key(c, "f64", 12), craft_bytes(c, &half, sizeof half);
    craft_key(c, "strings", 9), craft_u32(c, 8), craft_u64(c, 3);
    craft_string(c, "a"), craft_string(c, ""), craft_string(c, "ccc");
    craft_key(c, "ints", 9), craft_u32(c, 5), craft_u64(c, 2);
    craft_u32(c, 7), craft_u32(c, UINT32_MAX);
    craft_key(c, "floats", 9), craft_u32(c, 6), craft_u64(c, 1), craft_f32(c, -2.0f);
    craft_key(c, "bools", 9), craft_u32(c, 7), craft_u64(c, 2), craft_bytes(c, "\1\0", 2);
    craft_key(c, "empty", 9), craft_u32(c, 8), craft_u64(c, 0);
    craft_matrix(c, "b", 8, 2, 0, 128);
    craft_matrix(c, "a", 32, 2, 8, 0); /* Q8_0: 34 bytes a row */
    craft_align(c, 64);
    craft_zeros(c, SOUND_DATA);
    c->data[c->size - SOUND_DATA] = 0xab;
}

/* --- refusals: each writes a whole file with one thing wrong
 * ------------------------------------------------------ */

static void no_magic(struct craft *c)
{
    craft_sound(c);
    c->data[0] = 'g';
}

static void version_1(struct craft *c)
{
    craft_header(c, 1, 0, 0);
}

static void big_endian(struct craft *c)
{
    craft_header(c, 0x03000000, 0, 0);
}

static void too_many_keys(struct craft *c)
{
    craft_header(c, 3, 0, UINT64_MAX);
    craft_key_u32(c, "k", 1);
}

static void too_many_tensors(struct craft *c)
{
    craft_header(c, 3, 1ull << 60, 0);
    craft_matrix(c, "t", 1, 1, 0, 0);
}

static void no_room_for_key(struct craft *c)
{
    craft_header(c, 3, 0, 1);
    craft_u64(c, UINT64_MAX - 7);
    craft_zeros(c, 32);
}

static void empty_key(struct craft *c)
{
    craft_header(c, 3, 0, 1);
    craft_key_u32(c, "", 1);
}

static void long_key(struct craft *c)
{
    char key[257] = {0};
    memset(key, 'k', 256);
    craft_header(c, 3, 0, 1);
    craft_key_u32(c, key, 1);
}

static void key_with_escape(struct craft *c)
{
    craft_header(c, 3, 0, 1);
    craft_key_u32(c, "a\033[2J", 1);
}

static void key_twice(struct craft *c)
{
    craft_header(c, 3, 0, 2);
    craft_key_u32(c, "same", 1);
    craft_key_u32(c, "same", 1);
}

static void value_type_13(struct craft *c)
{
    craft_header(c, 3, 0, 1);
    craft_key(c, "odd", 13), craft_u64(c, 0);
}

static void string_too_long(struct craft *c)
{
    craft_header(c, 3, 0, 1);
    craft_key(c, "name", 8), craft_u64(c, 1ull << 63), craft_zeros(c, 16);
}

static void bool_2(struct craft *c)
{
    craft_header(c, 3, 0, 1);
    craft_key(c, "flag", 7), craft_u8(c, 2);
}

static void bool_2_in_array(struct craft *c)
{
    craft_header(c, 3, 0, 1);
    craft_key(c, "flags", 9), craft_u32(c, 7), craft_u64(c, 2), craft_bytes(c, "\1\2", 2);
}

static void array_of_arrays(struct craft *c)
{
    craft_header(c, 3, 0, 1);
    craft_key(c, "nest", 9), craft_u32(c, 9), craft_u64(c, 1), craft_zeros(c, 16);
}

static void array_of_type_99(struct craft *c)
{
    craft_header(c, 3, 0, 1);
    craft_key(c, "list", 9), craft_u32(c, 99), craft_u64(c, 1), craft_zeros(c, 16);
}

static void array_too_long(struct craft *c)
{
    craft_header(c, 3, 0, 1);
    craft_key(c, "list", 9), craft_u32(c, 10), craft_u64(c, 1ull << 61), craft_zeros(c, 16);
}

static void array_of_too_many_strings(struct craft *c)
{
    craft_header(c, 3, 0, 1);
    craft_key(c, "list", 9), craft_u32(c, 8), craft_u64(c, 3), craft_zeros(c, 16);
}

static void array_string_too_long(struct craft *c)
{
    craft_header(c, 3, 0, 1);
    craft_key(c, "list", 9), craft_u32(c, 8), craft_u64(c, 2);
    craft_u64(c, 100), craft_zeros(c, 16);
}

static void alignment_3(struct craft *c)
{
    craft_header(c, 3, 0, 1);
    craft_key_u32(c, "general.alignment", 3);
}

static void alignment_0(struct craft *c)
{
    craft_header(c, 3, 0, 1);
    craft_key_u32(c, "general.alignment", 0);
}

static void one_matrix(struct craft *c, uint64_t cols, uint64_t rows, uint32_t type,
                       uint64_t offset, size_t data)
{
    craft_header(c, 3, 1, 0);
    craft_matrix(c, "blk.0.x", cols, rows, type, offset);
    craft_align(c, 32);
    craft_zeros(c, data);
}

static void no_dimensions(struct craft *c)
{
    craft_header(c, 3, 1, 0);
    craft_string(c, "blk.0.x"), craft_u32(c, 0), craft_u32(c, 0), craft_u64(c, 0);
    craft_zeros(c, 64);
}

static void five_dimensions(struct craft *c)
{
    craft_header(c, 3, 1, 0);
    craft_string(c, "blk.0.x"), craft_u32(c, 5), craft_zeros(c, 128);
}

static void dimension_0(struct craft *c)
{
    one_matrix(c, 8, 0, 0, 0, 64);
}

static void dimensions_overflow(struct craft *c)
{
    one_matrix(c, 1ull << 40, 1ull << 40, 0, 0, 64);
}

static void bytes_overflow(struct craft *c)
{
    one_matrix(c, 1ull << 31, 1ull << 31, 0, 0, 64);
}

static void type_retired(struct craft *c)
{
    one_matrix(c, 32, 1, 4, 0, 64);
}

static void type_unknown(struct craft *c)
{
    one_matrix(c, 32, 1, UINT32_MAX, 0, 64);
}

static void part_of_a_block(struct craft *c)
{
    one_matrix(c, 48, 2, 2, 0, 64);
}

static void offset_askew(struct craft *c)
{
    one_matrix(c, 8, 1, 0, 8, 64);
}

static void offset_huge(struct craft *c)
{
    one_matrix(c, 8, 1, 0, UINT64_MAX - 31, 64);
}

static void truncated(struct craft *c)
{
    one_matrix(c, 8, 4, 0, 0, 127); /* of 128; the data begin at 96 */
}

static void name_twice(struct craft *c)
{
    craft_header(c, 3, 2, 0);
    craft_matrix(c, "same", 8, 1, 0, 0);
    craft_matrix(c, "same", 8, 1, 0, 32);
    craft_align(c, 32);
    craft_zeros(c, 64);
}

static void name_with_escape(struct craft *c)
{
    craft_header(c, 3, 1, 0);
    craft_matrix(c, "\033[2J", 8, 1, 0, 0);
    craft_align(c, 32);
    craft_zeros(c, 64);
}

static void overlap(struct craft *c)
{
    craft_header(c, 3, 2, 0);
    craft_matrix(c, "one", 8, 2, 0, 0);
    craft_matrix(c, "two", 8, 1, 0, 32);
    craft_align(c, 32);
    craft_zeros(c, 64);
}

static const struct refusal {
    void (*craft)(struct craft *c);
    int code;
    const char *words; /* that the sentence holds */
} refusals[] = {
    {no_magic, -EINVAL, "does not begin with 'GGUF'"},
    {version_1, -ENOTSUP, "version 1"},
    {big_endian, -ENOTSUP, "big-endian"},
    {too_many_keys, -EINVAL, "18446744073709551615 metadata keys"},
    {too_many_tensors, -EINVAL, "1152921504606846976 tensors"},
    {no_room_for_key, -EINVAL, "ends beyond the file's"},
    {empty_key, -EINVAL, "key 0 has 0 bytes"},
    {long_key, -EINVAL, "key 0 has 256 bytes"},
    {key_with_escape, -EINVAL, "byte 0x1b"},
    {key_twice, -EINVAL, "'same' occurs twice"},
    {value_type_13, -EINVAL, "'odd' has type 13"},
    {string_too_long, -EINVAL, "name at byte"},
    {bool_2, -EINVAL, "'flag' holds 2"},
    {bool_2_in_array, -EINVAL, "'flags' holds 2"},
    {array_of_arrays, -ENOTSUP, "'nest' is an array of arrays"},
    {array_of_type_99, -EINVAL, "'list' is an array of type 99"},
    {array_too_long, -EINVAL, "2305843009213693952 elements"},
    {array_of_too_many_strings, -EINVAL, "'list' is an array of 3 elements"},
    {array_string_too_long, -EINVAL, "list at byte"},
    {alignment_3, -EINVAL, "general.alignment is 3"},
    {alignment_0, -EINVAL, "general.alignment is 0"},
    {no_dimensions, -EINVAL, "'blk.0.x' has 0 dimensions"},
    {five_dimensions, -EINVAL, "'blk.0.x' has 5 dimensions"},
    {dimension_0, -EINVAL, "'blk.0.x' has dimensions whose product is 0"},
    {dimensions_overflow, -EINVAL, "too large"},
    {bytes_overflow, -EINVAL, "more bytes than can be counted"},
    {type_retired, -ENOTSUP, "'blk.0.x' has type 4"},
    {type_unknown, -ENOTSUP, "'blk.0.x' has type 4294967295"},
    {part_of_a_block, -EINVAL, "rows of 48, not a multiple of the 32 that a block of Q4_0"},
    {offset_askew, -EINVAL, "begins at offset 8, not a multiple of 32"},
    {offset_huge, -EINVAL, "beyond any file"},
    {truncated, -EINVAL, "'blk.0.x' ends at byte 224 of 223"},
    {name_twice, -EINVAL, "two tensors named 'same'"},
    {name_with_escape, -EINVAL, "byte 0x1b"},
    {overlap, -EINVAL, "'one' and 'two' overlap"},
};

static void test_gguf_refuses_each_with_its_sentence(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof refusals / sizeof *refusals; i++) {
        struct craft c = {0};
        struct tsr_gguf *gguf = NULL;
        struct tsr_err err = {0};
        refusals[i].craft(&c);
        int rc = tsr_gguf_parse(&gguf, c.data, c.size, &err);
        if (rc != refusals[i].code || !strstr(err.text, refusals[i].words)) {
            fail_msg("case %zu ('%s'): %d, '%s'", i, refusals[i].words, rc, err.text);
        }
        assert_int_equal(tsr_gguf_parse(&gguf, c.data, c.size, NULL), rc);
        assert_null(gguf);
        craft_free(&c);
    }
}

static volatile uint64_t sink; /* keeps the reads that a sanitizer is to see */

/* Touches all that a caller can reach. */
static uint64_t walk(struct tsr_gguf *gguf)
{
    uint64_t sum = tsr_gguf_data_off(gguf) + tsr_gguf_version(gguf);
    for (size_t i = 0; i < tsr_gguf_keys(gguf); i++) {
        enum tsr_gguf_type type;
        const char *key = tsr_gguf_key(gguf, i, &type);
        struct tsr_gguf_string s;
        int64_t number;
        double real;
        bool flag;
        if (tsr_gguf_string(gguf, key, &s)) {
            for (size_t j = 0; j < s.size; j++) {
                sum += (uint8_t)s.data[j];
            }
        }
        sum += tsr_gguf_int(gguf, key, &number) ? (uint64_t)number : 0;
        sum += tsr_gguf_float(gguf, key, &real) && real > 0.0;
        sum += tsr_gguf_bool(gguf, key, &flag) && flag;
        const struct tsr_gguf_array *array = tsr_gguf_array(gguf, key);
        for (uint64_t j = 0; array && j < tsr_gguf_array_count(array); j++) {
            s = tsr_gguf_array_string(array, j);
            for (size_t k = 0; k < s.size; k++) {
                sum += (uint8_t)s.data[k];
            }
            sum += (uint64_t)tsr_gguf_array_int(array, j) + (tsr_gguf_array_float(array, j) > 0.0);
        }
    }
    const struct tsr_tensors *tensors = tsr_gguf_tensors(gguf);
    for (size_t i = 0; i < tensors->n; i++) {
        const struct tsr_tensor *t = &tensors->entries[i].tensor;
        assert_ptr_equal(tsr_tensors_find(tensors, t->name), &tensors->entries[i]);
        for (uint64_t j = 0; j < t->bytes; j++) {
            sum += ((const uint8_t *)t->data)[j];
        }
    }
    return sum;
}

static void test_gguf_refuses_every_truncation(void **state)
{
    (void)state;
    struct craft c = {0};
    craft_sound(&c);
    for (size_t size = 0; size < c.size; size++) {
        struct tsr_gguf *gguf = NULL;
        struct tsr_err err = {0};
        uint8_t *copy = malloc(size + 1); /* its own block: a read beyond it is seen by ASan */
        memcpy(copy, c.data, size);
        copy = realloc(copy, size ? size : 1);
        int rc = tsr_gguf_parse(&gguf, copy, size, &err);
        assert_int_equal(rc, -EINVAL);
        assert_int_equal(err.code, -EINVAL);
        assert_true(strlen(err.text) > 10);
        free(copy);
    }
    craft_free(&c);
}

static void test_gguf_survives_every_bit_flip(void **state)
{
    (void)state;
    struct craft c = {0};
    craft_sound(&c);
    size_t accepted = 0;
    for (size_t bit = 0; bit < 8 * (c.size - SOUND_DATA); bit++) {
        struct tsr_gguf *gguf = NULL;
        struct tsr_err err = {0};
        c.data[bit / 8] ^= (uint8_t)(1u << bit % 8);
        if (tsr_gguf_parse(&gguf, c.data, c.size, &err) == 0) {
            sink += walk(gguf);
            tsr_gguf_close(gguf);
            accepted++;
        } else {
            assert_true(strlen(err.text) > 10);
        }
        c.data[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    assert_true(accepted > 0); /* values may change */
    craft_free(&c);
}

static void test_gguf_reads_every_type(void **state)
{
    (void)state;
    struct craft c = {0};
    struct tsr_gguf *gguf;
    struct tsr_err err = {0};
    craft_sound(&c);
    assert_int_equal(tsr_gguf_parse(&gguf, c.data, c.size, &err), 0);
    static const struct {
        const char *key;
        int64_t value;
    } ints[] = {{"u8", 200}, {"i8", -2}, {"u16", 65535}, {"i16", -1}, {"i32", -1}, {"i64", -1}};
    int64_t i;
    double d;
    bool flag;
    for (size_t n = 0; n < sizeof ints / sizeof *ints; n++) {
        assert_true(tsr_gguf_int(gguf, ints[n].key, &i));
        assert_int_equal(i, ints[n].value);
        assert_true(tsr_gguf_float(gguf, ints[n].key, &d));
        assert_true(d == (double)ints[n].value);
    }
    assert_false(tsr_gguf_int(gguf, "u64", &i)); /* above INT64_MAX */
    assert_false(tsr_gguf_int(gguf, "f32", &i));
    assert_false(tsr_gguf_int(gguf, "bool", &i));
    assert_false(tsr_gguf_int(gguf, "absent", &i));
    assert_true(tsr_gguf_float(gguf, "f32", &d) && d == 0.5);
    assert_true(tsr_gguf_float(gguf, "f64", &d) && d == 0.5);
    assert_true(tsr_gguf_bool(gguf, "bool", &flag) && flag);
    assert_false(tsr_gguf_bool(gguf, "u8", &flag));
    struct tsr_gguf_string s;
    assert_true(tsr_gguf_string(gguf, "general.architecture", &s));
    assert_int_equal(s.size, 5);
    assert_memory_equal(s.data, "llama", 5);
    assert_false(tsr_gguf_string(gguf, "u8", &s));
    assert_true(tsr_gguf_has(gguf, "strings"));
    assert_false(tsr_gguf_has(gguf, "absent"));
    tsr_gguf_close(gguf);
    craft_free(&c);
}

static void test_gguf_reads_arrays(void **state)
{
    (void)state;
    struct craft c = {0};
    struct tsr_gguf *gguf;
    struct tsr_err err = {0};
    craft_sound(&c);
    assert_int_equal(tsr_gguf_parse(&gguf, c.data, c.size, &err), 0);
    const struct tsr_gguf_array *a = tsr_gguf_array(gguf, "strings");
    assert_int_equal(tsr_gguf_array_count(a), 3);
    assert_int_equal(tsr_gguf_array_type(a), TSR_GGUF_STRING);
    assert_int_equal(tsr_gguf_array_string(a, 0).size, 1);
    assert_int_equal(tsr_gguf_array_string(a, 1).size, 0);
    assert_memory_equal(tsr_gguf_array_string(a, 2).data, "ccc", 3);
    assert_int_equal(tsr_gguf_array_string(a, 3).size, 0); /* beyond its end */
    assert_int_equal(tsr_gguf_array_int(a, 0), 0);         /* of another kind */
    a = tsr_gguf_array(gguf, "ints");
    assert_int_equal(tsr_gguf_array_int(a, 1), -1);
    assert_int_equal(tsr_gguf_array_int(a, 2), 0);
    assert_true(tsr_gguf_array_float(a, 0) == 7.0);
    assert_int_equal(tsr_gguf_array_string(a, 0).size, 0);
    a = tsr_gguf_array(gguf, "floats");
    assert_true(tsr_gguf_array_float(a, 0) == -2.0);
    a = tsr_gguf_array(gguf, "bools");
    assert_int_equal(tsr_gguf_array_int(a, 0), 1);
    assert_int_equal(tsr_gguf_array_count(tsr_gguf_array(gguf, "empty")), 0);
    assert_null(tsr_gguf_array(gguf, "u8"));
    tsr_gguf_close(gguf);
    craft_free(&c);
}

static void test_gguf_reads_tensors(void **state)
{
    (void)state;
    for (uint32_t version = 2; version <= 3; version++) {
        struct craft c = {0};
        struct tsr_gguf *gguf;
        struct tsr_err err = {0};
        craft_sound(&c);
        memcpy(c.data + 4, &version, sizeof version);
        assert_int_equal(tsr_gguf_parse(&gguf, c.data, c.size, &err), 0);
        assert_int_equal(tsr_gguf_version(gguf), version);
        assert_int_equal(tsr_gguf_data_off(gguf), c.size - SOUND_DATA);
        const struct tsr_tensors *tensors = tsr_gguf_tensors(gguf);
        assert_int_equal(tensors->n, 2);
        const struct tsr_tensor_entry *a = tsr_tensors_find(tensors, "a");
        const struct tsr_tensor_entry *b = tsr_tensors_find(tensors, "b");
        assert_int_equal(a->tensor.dtype, TSR_DTYPE_Q8_0);
        assert_string_equal(a->type, "Q8_0");
        assert_int_equal(a->tensor.bytes, 68);
        assert_int_equal(*(const uint8_t *)a->tensor.data, 0xab);
        assert_int_equal(b->tensor.n_dims, 2);
        assert_int_equal(b->tensor.dims[0], 2); /* outermost first */
        assert_int_equal(b->tensor.dims[1], 8);
        assert_int_equal(b->elements, 16);
        assert_null(tsr_tensors_find(tensors, "c"));
        tsr_gguf_close(gguf);
        craft_free(&c);
    }
}

static void test_gguf_reads_types_by_their_blocks(void **state)
{
    (void)state;
    struct craft c = {0};
    struct tsr_gguf *gguf;
    struct tsr_err err = {0};
    one_matrix(&c, 256, 1, 12, 0, 160);
    assert_int_equal(tsr_gguf_parse(&gguf, c.data, c.size, &err), 0);
    const struct tsr_tensor_entry *entry = tsr_tensors_find(tsr_gguf_tensors(gguf), "blk.0.x");
    assert_int_equal(entry->tensor.dtype, TSR_DTYPE_Q4_K);
    assert_string_equal(entry->type, "Q4_K");
    assert_int_equal(entry->tensor.bytes, 144);
    tsr_gguf_close(gguf);
    craft_free(&c);
}

static void test_gguf_opens_files(void **state)
{
    (void)state;
    char path[] = "test_gguf_XXXXXX";
    struct tsr_gguf *gguf;
    struct tsr_err err = {0};
    assert_int_equal(tsr_gguf_open(&gguf, "no/such/file.gguf", &err), -ENOENT);
    assert_non_null(strstr(err.text, "no/such/file.gguf"));
    assert_int_equal(tsr_gguf_open(&gguf, "/", &err), -EINVAL);
    assert_non_null(strstr(err.text, "not a regular file"));
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    assert_int_equal(tsr_gguf_open(&gguf, path, &err), -EINVAL);
    assert_non_null(strstr(err.text, "is empty"));
    craft_write(path, "GGUF", 4);
    assert_int_equal(tsr_gguf_open(&gguf, path, &err), -EINVAL);
    assert_memory_equal(err.text, path, strlen(path)); /* the sentence begins with the file */
    struct craft c = {0};
    craft_sound(&c);
    craft_write(path, c.data, c.size);
    assert_int_equal(tsr_gguf_open(&gguf, path, &err), 0);
    assert_int_equal(tsr_gguf_bytes(gguf), c.size);
    uint64_t before = walk(gguf);
    tsr_gguf_drop_tensors(gguf);
    assert_true(walk(gguf) == before);
    tsr_gguf_close(gguf);
    tsr_gguf_close(NULL);
    craft_free(&c);
    remove(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_gguf_refuses_each_with_its_sentence),
        cmocka_unit_test(test_gguf_refuses_every_truncation),
        cmocka_unit_test(test_gguf_survives_every_bit_flip),
        cmocka_unit_test(test_gguf_reads_every_type),
        cmocka_unit_test(test_gguf_reads_arrays),
        cmocka_unit_test(test_gguf_reads_tensors),
        cmocka_unit_test(test_gguf_reads_types_by_their_blocks),
        cmocka_unit_test(test_gguf_opens_files),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
