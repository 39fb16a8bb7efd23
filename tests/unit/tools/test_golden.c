/* Golden files: what is refused, with which words; what is read. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <tsr/tools/golden.h>

static char folder[] = "/tmp/tessera-golden-XXXXXX";

static const char *path_of(const char *name)
{
    static char path[4][128];
    static unsigned turn;
    char *out = path[turn++ % 4];
    snprintf(out, sizeof(path[0]), "%s/%s", folder, name);
    return out;
}

static void write_json(const char *text)
{
    FILE *file = fopen(path_of("golden.json"), "wb");
    assert_non_null(file);
    fputs(text, file);
    fclose(file);
}

/* golden.safetensors with logits.0 of [rows, columns], element i being i; type as its header says.
 */
static void write_logits(const char *type, unsigned rows, unsigned columns)
{
    char header[256];
    unsigned bytes = rows * columns * 4;
    int n = snprintf(header, sizeof(header),
                     "{\"logits.0\":{\"dtype\":\"%s\",\"shape\":[%u,%u],\"data_offsets\":[0,%u]}}",
                     type, rows, columns, bytes);
    FILE *file = fopen(path_of("golden.safetensors"), "wb");
    assert_non_null(file);
    uint64_t length = (uint64_t)n;
    fwrite(&length, sizeof(length), 1, file);
    fwrite(header, 1, (size_t)n, file);
    for (unsigned i = 0; i < rows * columns; i++) {
        float value = (float)i;
        fwrite(&value, sizeof(value), 1, file);
    }
    fclose(file);
}

static void refuses(const char *json, const char *words)
{
    struct tsr_golden golden;
    struct tsr_err err = {0};
    write_json(json);
    int rc = tsr_golden_open(&golden, path_of("golden.json"), &err);
    if (rc >= 0 || !strstr(err.text, words)) {
        fail_msg("of %s was said '%s', not '%s'", json, rc < 0 ? err.text : "nothing", words);
    }
    assert_int_equal(err.code, rc);
    assert_null(golden.prompts);
}

static void test_golden_refuses_json(void **unused)
{
    (void)unused;
    write_logits("F32", 3, 8);
    refuses("", "line 1");
    refuses("[1, 2", "golden.json: line 1");
    refuses("[]", "no golden file");
    refuses("{\"prompts\": []}", "no golden file");
    refuses("{\"prompts\": 7}", "no golden file");
    refuses("{\"prompts\": [7]}", "prompt 0 is not a list");
    refuses("{\"prompts\": [[]]}", "prompt 0 has no ids");
    refuses("{\"prompts\": [[1, \"2\"]]}", "prompt 0: element 1");
    refuses("{\"prompts\": [[4294967295]]}", "prompt 0: element 0");
    refuses("{\"prompts\": [[1.5]]}", "prompt 0: element 0");
    refuses("{\"prompts\": [[1, 2, 8]]}", "id 8");
    refuses("{\"prompts\": [[1, 2, 3]], \"greedy\": [{\"ids\": [1, 2], \"margin\": [0.1]}]}",
            "greedy 0: 1 numbers where there are 2 ids");
    refuses("{\"prompts\": [[1, 2, 3]], \"greedy\": [{\"ids\": [1], \"margin\": [\"x\"]}]}",
            "greedy 0: element 0");
    refuses("{\"prompts\": [[1, 2, 3]], \"greedy\": [{\"ids\": [9], \"margin\": [1]}]}", "id 9");
    refuses("{\"prompts\": [[1, 2, 3]], \"yardstick_nmse\": {\"bf16\": -1}}",
            "yardstick_nmse.bf16");
    refuses("{\"prompts\": [[1, 2, 3]], \"yardstick_nmse\": {\"int8\": \"x\"}}",
            "yardstick_nmse.int8");
    refuses("{\"prompts\": [[1, 2, 3]], \"tokenize\": [{}]}", "tokenize 0 has no text");
    refuses("{\"prompts\": [[1, 2, 3]], \"tokenize\": [{\"text\": \"a\", \"ids\": 3}]}",
            "tokenize 0 is not a list");
    refuses("{\"prompts\": [[1]], \"prompts\": [[1]]}", "line 1");
    refuses("{\"prompts\": [[1, 2, 3], [1]]}", "no tensor 'logits.1'");
    refuses("{\"cases\": [{}]}", "prompt 0 has no ids");
    refuses("{\"cases\": [{\"ids\": [1]}]}", "case 0: its input");
    refuses("{\"cases\": [{\"ids\": [1, 2, 3], \"input\": \"abc\", \"top\": {\"ids\": [8], "
            "\"logits\": [1]}}]}",
            "top id 8");
}

static void test_golden_refuses_logits(void **unused)
{
    (void)unused;
    static const char json[] = "{\"prompts\": [[1, 2, 3]]}";
    write_logits("I32", 3, 8);
    refuses(json, "'logits.0' is not F32");
    write_logits("F32", 4, 8);
    refuses(json, "1 to 3 positions");
    unlink(path_of("golden.safetensors"));
    refuses(json, "golden.safetensors");
    struct tsr_golden golden;
    struct tsr_err err;
    assert_int_equal(tsr_golden_open(&golden, path_of("none.json"), &err), -ENOENT);
    assert_int_equal(tsr_golden_open(&golden, folder, &err), -E2BIG);
}

static void test_golden_reads_prompts(void **unused)
{
    (void)unused;
    struct tsr_golden golden;
    struct tsr_err err;
    float row[8];
    write_logits("F32", 2, 8);
    write_json("{\"prompts\": [[1, 2, 3]], \"greedy\": [{\"ids\": [4, 5], \"margin\": [0.5, 2]}],"
               " \"yardstick_nmse\": {\"bf16\": 0.25},"
               " \"tokenize\": [{\"text\": \"a\\u0000b\", \"ids\": [0, 1], \"ids_plain\": [],"
               " \"decoded\": \"\"}]}");
    assert_int_equal(tsr_golden_open(&golden, path_of("golden.json"), &err), 0);
    assert_int_equal(golden.kind, TSR_GOLDEN_EXACT);
    assert_int_equal(golden.vocab, 8);
    const struct tsr_golden_prompt *p = &golden.prompts[0];
    assert_int_equal(p->n, 3);
    assert_int_equal(p->more, 2);
    assert_int_equal(p->ids[4], 5);
    assert_true(p->margin[1] == 2);
    assert_true(golden.bf16 == 0.25 && golden.int8 == 0);
    assert_false(tsr_golden_logits(&golden, p, 0, row)); /* of the last two positions */
    assert_true(tsr_golden_logits(&golden, p, 1, row));
    assert_true(row[7] == 7);
    assert_true(tsr_golden_logits(&golden, p, 2, row));
    assert_true(row[0] == 8);
    assert_false(tsr_golden_logits(&golden, p, 3, row));
    assert_int_equal(golden.texts[0].len, 3);
    assert_non_null(golden.texts[0].plain.ids);
    assert_int_equal(golden.texts[0].plain.n, 0);
    assert_non_null(golden.texts[0].decoded);
    tsr_golden_close(&golden);
}

static void test_golden_reads_cases(void **unused)
{
    (void)unused;
    struct tsr_golden golden;
    struct tsr_err err;
    write_logits("F32", 1, 8);
    write_json("{\"cases\": [{\"ids\": [1, 2], \"input\": {\"messages\": [{\"role\": \"user\"}],"
               " \"rendered\": \"ab\"}, \"top\": {\"ids\": [7, 3], \"logits\": [2.5, 1]},"
               " \"greedy\": {\"ids\": [7], \"margin\": [0.5]}}]}");
    assert_int_equal(tsr_golden_open(&golden, path_of("golden.json"), &err), 0);
    assert_int_equal(golden.kind, TSR_GOLDEN_FLOAT);
    assert_int_equal(golden.prompts[0].n_top, 2);
    assert_true(golden.prompts[0].top_logits[0] == 2.5);
    assert_string_equal(golden.texts[0].messages, "[{\"role\":\"user\"}]");
    assert_string_equal(golden.texts[0].text, "ab");
    assert_int_equal(golden.texts[0].ids.n, 2);
    tsr_golden_close(&golden);
}

int main(void)
{
    if (!mkdtemp(folder))
        return 1;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_golden_refuses_json),
        cmocka_unit_test(test_golden_refuses_logits),
        cmocka_unit_test(test_golden_reads_prompts),
        cmocka_unit_test(test_golden_reads_cases),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    unlink(path_of("golden.json"));
    unlink(path_of("golden.safetensors"));
    rmdir(folder);
    return failed;
}
