/* GGUFs in several files: opened by any of their parts, refused with the part that is wrong. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <unistd.h>

#include <tsr/model/source.h>

#include "craft.h"

enum { PARTS = 3 };

static char folder[] = "test_split_XXXXXX";

static const char *part_path(const char *pattern, int part)
{
    static char path[8][256];
    static unsigned turn;
    char *out = path[turn++ % 8], name[128];
    snprintf(name, sizeof name, pattern, part);
    snprintf(out, sizeof path[0], "%s/%s", folder, name);
    return out;
}

#define NAME "m-%05d-of-00003.gguf"

/* What a part says; -1: nothing. */
struct part {
    int count, number, tensors;
    const char *tensor; /* its one tensor, 8 numbers of the part's number */
};

static void write_part(const char *path, const struct part *part, int value)
{
    struct craft c = {0};
    uint32_t keys =
        1 + (uint32_t)(part->count >= 0) + (uint32_t)(part->number >= 0) + (part->tensors >= 0);
    craft_header(&c, 3, 1, keys);
    craft_key_string(&c, "general.architecture", "llama");
    if (part->count >= 0) {
        craft_key(&c, "split.count", 2), craft_bytes(&c, &part->count, 2);
    }
    if (part->number >= 0) {
        craft_key(&c, "split.no", 2), craft_bytes(&c, &part->number, 2);
    }
    if (part->tensors >= 0) {
        craft_key(&c, "split.tensors.count", 5), craft_bytes(&c, &part->tensors, 4);
    }
    craft_matrix(&c, part->tensor, 8, 1, 0, 0);
    craft_align(&c, 32);
    for (int i = 0; i < 8; i++) {
        craft_f32(&c, (float)value);
    }
    craft_write(path, c.data, c.size);
    craft_free(&c);
}

static void write_sound(void)
{
    static const char *const names[PARTS] = {"c", "a", "b"};
    for (int i = 0; i < PARTS; i++) {
        struct part part = {PARTS, i, i == 0 ? PARTS : -1, names[i]};
        write_part(part_path(NAME, i + 1), &part, i);
    }
}

static void refuse(const char *path, int code, const char *words)
{
    struct tsr_source source;
    struct tsr_err err = {0};
    int rc = tsr_source_open(&source, path, &err);
    if (rc != code || !strstr(err.text, words)) {
        fail_msg("%d '%s' where %d '%s' was meant", rc, err.text, code, words);
    }
    assert_memory_equal(err.text, folder, strlen(folder)); /* the sentence begins with a file */
}

static void test_split_opens_by_any_part(void **state)
{
    (void)state;
    write_sound();
    for (int by = 1; by <= PARTS; by++) {
        struct tsr_source source;
        struct tsr_err err = {0};
        if (tsr_source_open(&source, part_path(NAME, by), &err) < 0) {
            fail_msg("%s", err.text);
        }
        assert_int_equal(source.n_parts, PARTS);
        assert_int_equal(source.tensors->n, PARTS);
        assert_true(source.file_bytes > 3 * 32);
        assert_true(tsr_gguf_has(source.gguf, "split.tensors.count")); /* the first part */
        for (int turn = 0; turn < 2; turn++) {
            const struct tsr_tensor_entry *b = tsr_tensors_find(source.tensors, "b");
            assert_non_null(b);
            assert_true(((const float *)b->tensor.data)[7] == 2);
            tsr_source_drop(&source);
        }
        tsr_source_close(&source);
    }
}

static void test_split_refuses(void **state)
{
    (void)state;
    static const struct {
        struct part second;
        int code;
        const char *words;
    } cases[] = {
        {{PARTS, 2, -1, "a"}, -EINVAL, "00002-of-00003.gguf: says that it is part 3 of 3"},
        {{2, 1, -1, "a"}, -EINVAL, "says that it is part 2 of 2"},
        {{-1, -1, -1, "a"}, -EINVAL, "says that it is part 1 of 1"},
        {{PARTS, -1, -1, "a"}, -EINVAL, "split.no is not 0 to 2"},
        {{PARTS, 3, -1, "a"}, -EINVAL, "split.no is not 0 to 2"},
        {{PARTS, 1, -1, "b"}, -EINVAL, "there are two tensors named 'b'"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        write_sound();
        write_part(part_path(NAME, 2), &cases[i].second, 1);
        refuse(part_path(NAME, 1), cases[i].code, cases[i].words);
        refuse(part_path(NAME, 3), cases[i].code, cases[i].words);
    }
    struct part first = {PARTS, 0, PARTS + 1, "c"};
    write_sound();
    write_part(part_path(NAME, 1), &first, 0);
    refuse(part_path(NAME, 2), -EINVAL, "hold 3 tensors, where split.tensors.count is 4");
}

static void test_split_refuses_names_and_counts(void **state)
{
    (void)state;
    struct part part = {UINT16_MAX, 0, -1, "c"};
    write_part(part_path("m-%05d-of-65535.gguf", 1), &part, 0);
    refuse(part_path("m-%05d-of-65535.gguf", 1), -E2BIG, "one of 65535 parts");
    remove(part_path("m-%05d-of-65535.gguf", 1));
    part.count = PARTS;
    write_part(part_path("renamed%d.gguf", 1), &part, 0);
    refuse(part_path("renamed%d.gguf", 1), -EINVAL, "does not end in -00001-of-00003.gguf");
    write_part(part_path("%d", 1), &part, 0);
    refuse(part_path("%d", 1), -EINVAL, "does not end in -00001-of-00003.gguf");
    remove(part_path("renamed%d.gguf", 1));
    remove(part_path("%d", 1));
    write_sound();
    remove(part_path(NAME, 2));
    refuse(part_path(NAME, 1), -ENOENT, "m-00002-of-00003.gguf: part 2 of 3 is missing");
    refuse(part_path(NAME, 3), -ENOENT, "m-00002-of-00003.gguf: part 2 of 3 is missing");
    craft_write(part_path(NAME, 2), "GGUF", 4);
    refuse(part_path(NAME, 1), -EINVAL, "m-00002-of-00003.gguf: ");
}

static int clean(void **state)
{
    (void)state;
    for (int i = 1; i <= PARTS; i++) {
        remove(part_path(NAME, i));
    }
    return rmdir(folder);
}

int main(void)
{
    if (!mkdtemp(folder)) {
        perror(folder);
        return 1;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_split_opens_by_any_part),
        cmocka_unit_test(test_split_refuses),
        cmocka_unit_test(test_split_refuses_names_and_counts),
    };
    return cmocka_run_group_tests(tests, NULL, clean);
}
