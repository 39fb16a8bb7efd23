/* Tokenizing and detokenizing as other implementations do: transformers for directories, llama.cpp
 * for GGUF files. */
#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <tsr/model/gguf.h>
#include <tsr/text/detok.h>
#include <tsr/text/tokenizer.h>

#include "outside.h"

enum { IDS_MAX = 1 << 16 };

static uint32_t ids[IDS_MAX];

struct subject {
    const char *name;
    struct tsr_tokenizer *tokenizer;
    struct tsr_tokenizer_scratch *scratch;
    unsigned rows, wrong;
};

static void open_subject(struct subject *s, const char *name, const char *path)
{
    struct tsr_err err;
    struct tsr_gguf *gguf = NULL;
    size_t len = strlen(path);
    *s = (struct subject){.name = name};
    if (len > 5 && strcmp(path + len - 5, ".gguf") == 0 && tsr_gguf_open(&gguf, path, &err) < 0)
        fail_msg("%s", err.text);
    if (tsr_tokenizer_open(&s->tokenizer, path, gguf, &err) < 0)
        fail_msg("%s", err.text);
    tsr_gguf_close(gguf);
    assert_int_equal(tsr_tokenizer_scratch_create(&s->scratch, s->tokenizer, 1 << 16, &err), 0);
}

static void close_subject(struct subject *s)
{
    printf("  %s: %u rows, %u wrong (%s)\n", s->name, s->rows, s->wrong,
           tsr_tokenizer_describe(s->tokenizer));
    tsr_tokenizer_scratch_destroy(s->scratch);
    tsr_tokenizer_close(s->tokenizer);
    assert_true(s->rows > 0);
    assert_int_equal(s->wrong, 0);
}

static void print_ids(const char *what, const uint32_t *list, size_t n)
{
    fprintf(stderr, "    %s:", what);
    for (size_t i = 0; i < n; i++)
        fprintf(stderr, " %u", list[i]);
    fprintf(stderr, "\n");
}

static size_t check(struct subject *s, const char *text, size_t len, bool trusted, unsigned flags,
                    const json_t *expected)
{
    struct tsr_text_span span = {.text = text, .len = len, .trusted = trusted};
    struct tsr_err err;
    size_t n;
    if (tsr_tokenizer_encode(s->tokenizer, s->scratch, &span, 1, flags, ids, IDS_MAX, &n, &err) < 0)
        fail_msg("%s: %s", s->name, err.text);
    bool same = n == json_array_size(expected);
    for (size_t i = 0; same && i < n; i++)
        same = ids[i] == (uint32_t)json_integer_value(json_array_get(expected, i));
    s->rows++;
    if (!same && s->wrong++ < 5) {
        uint32_t want[64];
        size_t m = json_array_size(expected) < 64 ? json_array_size(expected) : 64;
        for (size_t i = 0; i < m; i++)
            want[i] = (uint32_t)json_integer_value(json_array_get(expected, i));
        fprintf(stderr, "  %s: '%.*s'\n", s->name, (int)len, text);
        print_ids("got ", ids, n < 64 ? n : 64);
        print_ids("want", want, m);
    }
    return n;
}

static void check_decoded(struct subject *s, const uint32_t *list, size_t n, const char *text,
                          size_t len)
{
    static char out[1 << 20];
    struct tsr_detok detok;
    size_t at = 0;
    tsr_detok_init(&detok, tsr_tokenizer_vocab(s->tokenizer), false);
    for (size_t i = 0; i < n; i++)
        at += tsr_detok_push(&detok, list[i], out + at);
    at += tsr_detok_flush(&detok, out + at);
    if (at != len || memcmp(out, text, len) != 0) {
        s->wrong++;
        fprintf(stderr, "  %s: decoded '%.*s', want '%.*s'\n", s->name, (int)at, out, (int)len,
                text);
    }
}

static void check_golden(struct subject *s, const char *path)
{
    json_t *golden = outside_json(path);
    assert_non_null(golden);
    const json_t *rows = json_object_get(golden, "tokenize");
    for (size_t i = 0; i < json_array_size(rows); i++) {
        const json_t *row = json_array_get(rows, i);
        size_t len, decoded_len;
        const char *text = outside_string(row, "text", &len);
        const char *decoded = outside_string(row, "decoded", &decoded_len);
        check(s, text, len, true, 0, json_object_get(row, "ids_plain"));
        size_t n = check(s, text, len, true, TSR_ENCODE_ENDS, json_object_get(row, "ids"));
        check_decoded(s, ids, n, decoded, decoded_len);
    }
    json_decref(golden);
}

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
