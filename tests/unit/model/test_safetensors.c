#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>

#include <tsr/model/safetensors.h>

#include "craft.h"

static const char sound[] = "{\"__metadata__\":{\"format\":\"pt\"},"
                            "\"w\":{\"dtype\":\"BF16\",\"shape\":[2,3],\"data_offsets\":[0,12]},"
                            "\"v\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[12,16]},"
                            "\"none\":{\"dtype\":\"I64\",\"shape\":[0],\"data_offsets\":[4,4]}}";

#define TENSOR(members) "{\"w\":{" members "}}"

/* Headers before 16 bytes of data. */
static const struct refusal {
    const char *header;
    int code;
    const char *words;
} refusals[] = {
    {"", -EINVAL, "JSON, line 1"},
    {"[]", -EINVAL, "not an object"},
    {"{\"w\":", -EINVAL, "JSON, line 1"},
    {"{\"w\":3}", -EINVAL, "'w' has no dtype"},
    {"{\"w\":null}", -EINVAL, "'w' has no dtype"},
    {"{\"\":{}}", -EINVAL, "0 bytes"},
    {"{\"a b\":{}}", -EINVAL, "byte 0x20"},
    {"{\"\\u001b[2J\":{}}", -EINVAL, "byte 0x1b"},
    {TENSOR("\"dtype\":7"), -EINVAL, "has no dtype"},
    {TENSOR("\"dtype\":\"F33\""), -ENOTSUP, "a dtype that this reader does not know"},
    {TENSOR("\"dtype\":\"F32\""), -EINVAL, "has a shape"},
    {TENSOR("\"dtype\":\"F32\",\"shape\":4"), -EINVAL, "has a shape"},
    {TENSOR("\"dtype\":\"F32\",\"shape\":[1,1,1,1,1]"), -EINVAL, "has a shape"},
    {TENSOR("\"dtype\":\"F32\",\"shape\":[-1]"), -EINVAL, "has a shape"},
    {TENSOR("\"dtype\":\"F32\",\"shape\":[1.0]"), -EINVAL, "has a shape"},
    {TENSOR("\"dtype\":\"F32\",\"shape\":[4294967296,4294967296]"), -EINVAL, "too large"},
    {TENSOR("\"dtype\":\"F32\",\"shape\":[4611686018427387904]"), -EINVAL, "too large"},
    {TENSOR("\"dtype\":\"F32\",\"shape\":[9223372036854775808]"), -EINVAL, "JSON, line 1"},
    {TENSOR("\"dtype\":\"F32\",\"shape\":[4]"), -EINVAL, "data_offsets"},
    {TENSOR("\"dtype\":\"F32\",\"shape\":[4],\"data_offsets\":[0]"), -EINVAL, "data_offsets"},
    {TENSOR("\"dtype\":\"F32\",\"shape\":[4],\"data_offsets\":[16,0]"), -EINVAL, "data_offsets"},
    {TENSOR("\"dtype\":\"F32\",\"shape\":[4],\"data_offsets\":[0,12]"), -EINVAL,
     "'w' has 12 bytes by data_offsets, where 4 elements of F32 are 16"},
    {TENSOR("\"dtype\":\"F32\",\"shape\":[4],\"data_offsets\":[4,20]"), -EINVAL,
     "'w' ends at byte 83 of 79"},
    {TENSOR("\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[9223372036854775806,"
            "9223372036854775807]"),
     -EINVAL, "'w' ends at byte"},
    {"{\"w\":{\"dtype\":\"U8\",\"shape\":[8],\"data_offsets\":[0,8]},"
     "\"x\":{\"dtype\":\"U8\",\"shape\":[8],\"data_offsets\":[7,15]}}",
     -EINVAL, "'w' and 'x' overlap"},
    {"{\"w\":{\"dtype\":\"U8\",\"shape\":[8],\"data_offsets\":[0,8]},"
     "\"w\":{\"dtype\":\"U8\",\"shape\":[8],\"data_offsets\":[8,16]}}",
     -EINVAL, "JSON, line 1"},
};

static void test_safetensors_refuses_each_with_its_sentence(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof refusals / sizeof *refusals; i++) {
        struct craft c = {0};
        struct tsr_tensors tensors = {0};
        struct tsr_safetensors *file = NULL;
        struct tsr_err err = {0};
        craft_safetensors(&c, refusals[i].header, 16);
        int rc = tsr_safetensors_parse(&file, c.data, c.size, &tensors, &err);
        if (rc != refusals[i].code || !strstr(err.text, refusals[i].words)) {
            fail_msg("case %zu (%s): %d, '%s'", i, refusals[i].header, rc, err.text);
        }
        assert_null(file);
        tsr_tensors_fini(&tensors);
        craft_free(&c);
    }
}

static void refuse_bytes(const struct craft *c, const char *words)
{
    struct tsr_tensors tensors = {0};
    struct tsr_safetensors *file;
    struct tsr_err err = {0};
    assert_true(tsr_safetensors_parse(&file, c->data, c->size, &tensors, &err) < 0);
    if (!strstr(err.text, words)) {
        fail_msg("'%s' lacks '%s'", err.text, words);
    }
    tsr_tensors_fini(&tensors);
}

static void test_safetensors_refuses_headers_beyond_limits(void **state)
{
    (void)state;
    struct craft c = {0};
    craft_zeros(&c, 7);
    refuse_bytes(&c, "too few");
    craft_free(&c);
    craft_u64(&c, TSR_SAFETENSORS_HEADER_MAX + 1);
    refuse_bytes(&c, "a header of 100000001 bytes");
    craft_free(&c);
    craft_u64(&c, 100);
    refuse_bytes(&c, "the header ends at byte 108 of 8");
    craft_free(&c);
    char deep[200] = {0};
    memset(deep, '[', 100);
    craft_safetensors(&c, deep, 0);
    refuse_bytes(&c, "nested more than");
    craft_free(&c);
    /* 16 Mi commas would be 16 Mi values, of 16 bytes and more each. */
    size_t many = ((size_t)16 << 20) + 2;
    char *commas = malloc(many + 1);
    memset(commas, ',', many);
    commas[many] = '\0';
    craft_safetensors(&c, commas, 0);
    refuse_bytes(&c, "more than 16777216 values");
    free(commas);
    craft_free(&c);
}

static void test_safetensors_refuses_every_truncation(void **state)
{
    (void)state;
    struct craft c = {0};
    craft_safetensors(&c, sound, 16);
    for (size_t size = 0; size < c.size; size++) {
        uint8_t *copy = malloc(size ? size : 1);
        memcpy(copy, c.data, size);
        struct craft cut = {copy, size};
        refuse_bytes(&cut, " ");
        free(copy);
    }
    craft_free(&c);
}

static volatile uint64_t sink; /* keeps the reads that a sanitizer is to see */

static void test_safetensors_survives_every_bit_flip(void **state)
{
    (void)state;
    struct craft c = {0};
    craft_safetensors(&c, sound, 16);
    for (size_t bit = 0; bit < 8 * (c.size - 16); bit++) {
        struct tsr_tensors tensors = {0};
        struct tsr_safetensors *file = NULL;
        struct tsr_err err = {0};
        c.data[bit / 8] ^= (uint8_t)(1u << bit % 8);
        if (tsr_safetensors_parse(&file, c.data, c.size, &tensors, &err) == 0) {
            for (size_t i = 0; i < tensors.n; i++) {
                for (uint64_t j = 0; j < tensors.entries[i].tensor.bytes; j++) {
                    sink += ((const uint8_t *)tensors.entries[i].tensor.data)[j];
                }
            }
        } else {
            assert_true(strlen(err.text) > 10);
        }
        tsr_safetensors_close(file);
        tsr_tensors_fini(&tensors);
        c.data[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    craft_free(&c);
}

static void test_safetensors_reads_tensors(void **state)
{
    (void)state;
    struct craft c = {0};
    struct tsr_tensors tensors = {0};
    struct tsr_safetensors *file;
    struct tsr_err err = {0};
    craft_safetensors(&c, sound, 16);
    assert_int_equal(tsr_safetensors_parse(&file, c.data, c.size, &tensors, &err), 0);
    assert_null(tsr_tensors_find(&tensors, "w")); /* not before the seal */
    assert_int_equal(tsr_tensors_seal(&tensors, &err), 0);
    assert_int_equal(tensors.n, 3);
    const struct tsr_tensor_entry *w = tsr_tensors_find(&tensors, "w");
    assert_int_equal(w->tensor.dtype, TSR_DTYPE_BF16);
    assert_int_equal(w->tensor.n_dims, 2);
    assert_int_equal(w->tensor.dims[0], 2);
    assert_int_equal(w->tensor.dims[1], 3);
    assert_int_equal(w->tensor.bytes, 12);
    assert_ptr_equal(w->tensor.data, c.data + c.size - 16);
    assert_int_equal(w->file_off, c.size - 16);
    assert_true(tsr_safetensors_holds(file, &w->tensor));
    const struct tsr_tensor_entry *none = tsr_tensors_find(&tensors, "none");
    assert_int_equal(none->tensor.dtype, TSR_DTYPE_COUNT); /* listed, not computed with */
    assert_string_equal(none->type, "I64");
    assert_null(tsr_tensors_find(&tensors, "__metadata__"));
    tsr_safetensors_close(file);
    tsr_safetensors_close(NULL);
    tsr_tensors_fini(&tensors);
    craft_free(&c);
}

static void test_safetensors_of_two_files_share_no_name(void **state)
{
    (void)state;
    struct craft c = {0}, d = {0};
    struct tsr_tensors tensors = {0};
    struct tsr_safetensors *one, *two;
    struct tsr_err err = {0};
    craft_safetensors(&c, sound, 16);
    craft_safetensors(&d, sound, 16);
    assert_int_equal(tsr_safetensors_parse(&one, c.data, c.size, &tensors, &err), 0);
    assert_int_equal(tsr_safetensors_parse(&two, d.data, d.size, &tensors, &err), 0);
    assert_int_equal(tsr_tensors_seal(&tensors, &err), -EINVAL);
    assert_non_null(strstr(err.text, "two tensors named"));
    tsr_safetensors_close(one);
    tsr_safetensors_close(two);
    tsr_tensors_fini(&tensors);
    craft_free(&c);
    craft_free(&d);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_safetensors_refuses_each_with_its_sentence),
        cmocka_unit_test(test_safetensors_refuses_headers_beyond_limits),
        cmocka_unit_test(test_safetensors_refuses_every_truncation),
        cmocka_unit_test(test_safetensors_survives_every_bit_flip),
        cmocka_unit_test(test_safetensors_reads_tensors),
        cmocka_unit_test(test_safetensors_of_two_files_share_no_name),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
