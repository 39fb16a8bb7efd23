/* Tokenizing and detokenizing as other implementations do: transformers for directories, llama.cpp
 * for GGUF files. */
#include <dirent.h>

#include "tokenize.h"

static void test_directories_encode_as_transformers(void **state)
{
    (void)state;
    const char *root = outside_path("models");
    DIR *dir = opendir(root);
    assert_non_null(dir);
    unsigned n = 0;
    for (struct dirent *entry; (entry = readdir(dir));) {
        char path[5000], json[5100];
        struct stat st;
        snprintf(path, sizeof(path), "%s/%s", root, entry->d_name);
        snprintf(json, sizeof(json), "%s/golden.json", path);
        if (entry->d_name[0] == '.' || stat(json, &st) != 0)
            continue;
        struct subject s;
        open_subject(&s, entry->d_name, path);
        check_golden(&s, json);
        close_subject(&s);
        n++;
    }
    closedir(dir);
    assert_true(n > 0);
}

/* A GGUF carries no normalizer, so rows whose text is not in its normal form cannot agree: those
 * are left out. */
static void test_gguf_models_encode_as_their_directories(void **state)
{
    (void)state;
    static const char *const names[] = {"llama2", "llama3"};
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        char path[4096], golden[4096];
        struct subject s;
        snprintf(path, sizeof(path), "gguf/%s.gguf", names[i]);
        open_subject(&s, path, outside_path(path));
        snprintf(golden, sizeof(golden), "models/%s/golden.json", names[i]);
        check_golden(&s, outside_path(golden));
        close_subject(&s);
    }
}

static void check_inp_out(struct subject *s, const char *gguf)
{
    static const char mark[] = "\n__ggml_vocab_test__\n";
    char path[5000];
    static char inp[1 << 20], out[1 << 20];
    snprintf(path, sizeof(path), "%s.inp", gguf);
    FILE *f = fopen(path, "rb");
    if (!f) /* there are only .json rows */
        return;
    inp[fread(inp, 1, sizeof(inp) - 1, f)] = '\0';
    fclose(f);
    snprintf(path, sizeof(path), "%s.out", gguf);
    f = fopen(path, "rb");
    assert_non_null(f);
    out[fread(out, 1, sizeof(out) - 1, f)] = '\0';
    fclose(f);
    char *text = inp, *line = out;
    while (text) {
        char *end = strstr(text, mark);
        char *eol = strchr(line, '\n');
        if (!end || !eol) /* the text behind the last mark is no case */
            break;
        *eol = '\0';
        json_t *expected = json_array();
        for (char *p = strtok(line, " "); p; p = strtok(NULL, " "))
            json_array_append_new(expected, json_integer(strtoll(p, NULL, 10)));
        check(s, text, (size_t)(end - text), false, 0, expected);
        json_decref(expected);
        text = end + strlen(mark);
        line = eol + 1;
    }
}

static void test_real_vocabularies_encode_as_llama_cpp(void **state)
{
    (void)state;
    static const char *const names[] = {"gpt-2",        "llama-bpe", "qwen2",     "starcoder",
                                        "deepseek-llm", "falcon",    "llama-spm", "baichuan"};
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        char name[128], path[4096];
        struct subject s;
        snprintf(name, sizeof(name), "tokenizers/ggml-vocab-%s.gguf", names[i]);
        snprintf(path, sizeof(path), "%s", outside_path(name));
        open_subject(&s, names[i], path);
        check_inp_out(&s, path);
        snprintf(name, sizeof(name), "tokenizers/%s.json", names[i]);
        json_t *rows = outside_json(outside_path(name));
        assert_non_null(rows);
        for (size_t k = 0; k < json_array_size(rows); k++) {
            size_t len;
            const char *text = outside_string(json_array_get(rows, k), "text", &len);
            check(&s, text, len, false, 0, json_object_get(json_array_get(rows, k), "ids"));
        }
        json_decref(rows);
        close_subject(&s);
    }
}

static void test_smollm2_encodes_its_prompts(void **state)
{
    (void)state;
    const char *model = getenv("TESSERA_MODEL"), *source = getenv("TESSERA_SOURCE");
    char path[4096];
    struct stat st;
    snprintf(path, sizeof(path), "%s/models/SmolLM2-135M-Instruct.Q4_1.gguf",
             source ? source : ".");
    bool given = model && *model;
    if (!given && stat(path, &st) == 0)
        model = path;
    else if (!given)
        model = NULL;
    if (!model) {
        printf("skipped: no %s (set TESSERA_MODEL to the file)\n", path);
        skip();
    }
    struct subject s;
    open_subject(&s, "smollm2", model);
    json_t *golden = outside_json(outside_path("smollm2/golden.json"));
    assert_non_null(golden);
    const json_t *cases = json_object_get(golden, "cases");
    for (size_t i = 0; i < json_array_size(cases); i++) {
        const json_t *row = json_array_get(cases, i);
        const json_t *input = json_object_get(row, "input");
        const json_t *text = json_is_string(input) ? input : json_object_get(input, "rendered");
        if (!text)
            text = json_object_get(input, "text");
        assert_true(json_is_string(text));
        check(&s, json_string_value(text), json_string_length(text), true, 0,
              json_object_get(row, "ids"));
    }
    json_decref(golden);
    close_subject(&s);
}

int main(void)
{
    outside_path("");
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_directories_encode_as_transformers),
        cmocka_unit_test(test_gguf_models_encode_as_their_directories),
        cmocka_unit_test(test_real_vocabularies_encode_as_llama_cpp),
        cmocka_unit_test(test_smollm2_encodes_its_prompts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
