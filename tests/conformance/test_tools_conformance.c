/* `tessera template`, `tokenize` and `verify` as programs on the outside vectors: exit codes and
 * output byte for byte. What they compute is held against all vectors in the other tests of this
 * folder; here of the tokenizers' texts every eighth is taken, since each starts a process. */
#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "outside.h"

enum { STRIDE = 8, ARGS_MAX = 12 };

static char folder[] = "/tmp/tessera-tools-XXXXXX";

/* What a command wrote, NUL-terminated; freed by the next run. */
static char *out, *err;
static size_t out_len;

static char *read_back(FILE *file, size_t *len)
{
    *len = (size_t)ftell(file);
    char *text = malloc(*len + 1);
    assert_non_null(text);
    rewind(file);
    assert_int_equal(fread(text, 1, *len, file), *len);
    text[*len] = '\0';
    fclose(file);
    return text;
}

/* tessera words..., up to NULL, with `in` as standard input; its exit code. */
static int run(const char *in, size_t in_len, const char *const words[])
{
    char program[4096];
    const char *build = getenv("TESSERA_BUILD");
    char *args[ARGS_MAX] = {program};
    size_t err_len;
    snprintf(program, sizeof(program), "%s/clients/cli/tessera", build ? build : ".");
    for (size_t i = 0; words[i]; i++) {
        assert_true(i + 2 < ARGS_MAX);
        args[i + 1] = (char *)words[i];
    }
    FILE *files[3] = {tmpfile(), tmpfile(), tmpfile()};
    assert_true(files[0] && files[1] && files[2]);
    fwrite(in, 1, in_len, files[0]);
    rewind(files[0]);
    pid_t pid = fork();
    if (pid == 0) {
        for (int fd = 0; fd < 3; fd++)
            dup2(fileno(files[fd]), fd);
        execv(program, args);
        _exit(127);
    }
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    fclose(files[0]);
    for (int fd = 1; fd < 3; fd++)
        fseek(files[fd], 0, SEEK_END);
    free(out);
    free(err);
    out = read_back(files[1], &out_len);
    err = read_back(files[2], &err_len);
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

static const char *write_file(const char *name, const char *text, size_t len)
{
    static char path[4096];
    snprintf(path, sizeof(path), "%s/%s", folder, name);
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(text, 1, len, file), len);
    fclose(file);
    return path;
}

static bool render(const char *model, const char *file, const char *now, const json_t *row)
{
    char *context = json_dumps(json_object_get(row, "context"), JSON_COMPACT);
    const json_t *expected = json_object_get(row, "expected");
    int code = run(context, strlen(context),
                   (const char *[]){"template", model, "--template", file, "--now", now, NULL});
    free(context);
    if (json_is_string(expected))
        return code == 0 && out_len == json_string_length(expected) &&
               memcmp(out, json_string_value(expected), out_len) == 0;
    return code == 1 && out_len == 0 && strstr(err, "line ");
}

static void test_template_renders_all(void **state)
{
    (void)state;
    char model[4096];
    snprintf(model, sizeof(model), "%s", outside_path("models/qwen3"));
    DIR *dir = opendir(outside_path("templates"));
    assert_non_null(dir);
    unsigned rows = 0, wrong = 0;
    for (struct dirent *entry; (entry = readdir(dir));) {
        char name[512];
        if (entry->d_name[0] == '.')
            continue;
        snprintf(name, sizeof(name), "templates/%s", entry->d_name);
        json_t *root = outside_json(outside_path(name));
        assert_non_null(root);
        size_t len, i;
        const json_t *row;
        const char *source = outside_string(root, "template", &len);
        const char *file = write_file("template.jinja", source, len);
        json_array_foreach(json_object_get(root, "cases"), i, row)
        {
            rows++;
            if (!render(model, file, json_string_value(json_object_get(root, "now")), row)) {
                wrong++;
                fprintf(stderr, "  %s, case %zu: %s\n", name, i, err);
            }
        }
        json_decref(root);
    }
    closedir(dir);
    printf("  %u cases, %u wrong\n", rows, wrong);
    assert_true(rows > 0);
    assert_int_equal(wrong, 0);
}

static bool same_ids(const json_t *expected)
{
    json_t *got = json_loads(out, 0, NULL);
    bool same = got && json_equal(got, expected);
    json_decref(got);
    return same;
}

/* Text to ids, and the ids back to `back` (NULL: not looked at). */
static unsigned check_text(const char *model, const json_t *text, bool plain, const json_t *ids,
                           const json_t *back)
{
    const char *const words[] = {"tokenize", model, "--json", plain ? "--plain" : NULL, NULL};
    if (run(json_string_value(text), json_string_length(text), words) != 0 || !same_ids(ids)) {
        fprintf(stderr, "  %s: '%s' is %s%s", model, json_string_value(text), out, err);
        return 1;
    }
    if (!back)
        return 0;
    char *list = strdup(out);
    int code = run(list, strlen(list), (const char *[]){"tokenize", model, "--decode", NULL});
    free(list);
    if (code != 0 || out_len != json_string_length(back) ||
        memcmp(out, json_string_value(back), out_len) != 0) {
        fprintf(stderr, "  %s: '%s' comes back as '%s'%s\n", model, json_string_value(text), out,
                err);
        return 1;
    }
    return 0;
}

static void test_tokenize_gives_the_ids_and_the_text_back(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        bool all_bytes; /* a vocabulary that lacks bytes loses them */
    } vocabs[] = {{"gpt-2", true},      {"llama-bpe", true},     {"qwen2", true},
                  {"starcoder", false}, {"deepseek-llm", false}, {"falcon", false},
                  {"llama-spm", true},  {"baichuan", true}};
    unsigned wrong = 0;
    for (size_t k = 0; k < sizeof(vocabs) / sizeof(vocabs[0]); k++) {
        char model[4096], name[128];
        snprintf(name, sizeof(name), "tokenizers/ggml-vocab-%s.gguf", vocabs[k].name);
        snprintf(model, sizeof(model), "%s", outside_path(name));
        snprintf(name, sizeof(name), "tokenizers/%s.json", vocabs[k].name);
        json_t *rows = outside_json(outside_path(name));
        assert_true(json_array_size(rows) > 0);
        for (size_t i = k; i < json_array_size(rows); i += STRIDE) {
            const json_t *row = json_array_get(rows, i), *text = json_object_get(row, "text");
            wrong += check_text(model, text, true, json_object_get(row, "ids"),
                                vocabs[k].all_bytes ? text : NULL);
        }
        json_decref(rows);
    }
    json_t *golden = outside_json(outside_path("models/llama3/golden.json"));
    size_t i;
    const json_t *row;
    json_array_foreach(json_object_get(golden, "tokenize"), i, row)
    {
        wrong += check_text(outside_path("models/llama3"), json_object_get(row, "text"), false,
                            json_object_get(row, "ids"), json_object_get(row, "decoded"));
    }
    json_decref(golden);
    assert_int_equal(wrong, 0);
}

/* Every model whose architecture is there; that they all are is others' to test. */
static void test_verify_holds(void **state)
{
    (void)state;
    DIR *dir = opendir(outside_path("models"));
    unsigned held = 0;
    assert_non_null(dir);
    for (struct dirent *entry; (entry = readdir(dir));) {
        char name[512];
        if (entry->d_name[0] == '.')
            continue;
        snprintf(name, sizeof(name), "models/%s", entry->d_name);
        int code =
            run("", 0, (const char *[]){"verify", outside_path(name), "--weights", "ref", NULL});
        if (code == 1 && strstr(err, "is not supported")) {
            printf("  %s", err);
            continue;
        }
        if (code != 0)
            fail_msg("%s: %s%s", name, out, err);
        assert_null(strstr(out, "FAILS"));
        held++;
    }
    closedir(dir);
    assert_true(held > 0);
}

static void test_verify_runs_what_has_a_tolerance(void **state)
{
    (void)state;
    assert_int_equal(run("", 0, (const char *[]){"verify", outside_path("models/llama3"), NULL}),
                     0);
    for (const char *const *what = (const char *[]){"tokenizer", "decoder", "ref logits",
                                                    "bf16 greedy", "int8 ways in", NULL};
         *what; what++) {
        assert_non_null(strstr(out, *what));
    }
    assert_int_equal(
        run("", 0,
            (const char *[]){"verify", outside_path("gguf/llama3.gguf"), "--against",
                             outside_path("models/llama3/golden.json"), "--weights", "int8", NULL}),
        0);
    assert_non_null(strstr(out, "int8 logits"));
    assert_null(strstr(out, "ref"));
}

/* A golden file with one thing changed: the check of that thing fails and no other. */
static void check_changed(json_t *golden, const char *what)
{
    char path[4096];
    char *text = json_dumps(golden, JSON_COMPACT);
    snprintf(path, sizeof(path), "%s", write_file("golden.json", text, strlen(text)));
    free(text);
    assert_int_equal(run("", 0,
                         (const char *[]){"verify", outside_path("models/llama3"), "--against",
                                          path, "--weights", "ref", NULL}),
                     1);
    const char *fails = strstr(out, "FAILS");
    assert_non_null(fails);
    assert_null(strstr(fails + 1, "FAILS"));
    while (fails > out && fails[-1] != '\n')
        fails--;
    assert_int_equal(strncmp(fails, what, strlen(what)), 0);
    assert_non_null(strstr(err, "1 check does not hold"));
}

static void test_verify_sees_what_differs(void **state)
{
    (void)state;
    json_t *golden = outside_json(outside_path("models/llama3/golden.json"));
    char path[4096];
    snprintf(path, sizeof(path), "%s/golden.safetensors", folder);
    assert_int_equal(symlink(outside_path("models/llama3/golden.safetensors"), path), 0);

    json_t *after = json_object_get(json_array_get(json_object_get(golden, "greedy"), 1), "ids");
    size_t last = json_array_size(after) - 1;
    json_int_t right = json_integer_value(json_array_get(after, last));
    json_array_set_new(after, last, json_integer(right ^ 1));
    check_changed(golden, "ref greedy");
    json_array_set_new(after, last, json_integer(right));

    json_t *row = json_array_get(json_object_get(golden, "tokenize"), 2);
    json_object_set_new(row, "decoded", json_string("another text"));
    check_changed(golden, "decoder");
    json_object_del(row, "decoded");
    json_array_append_new(json_object_get(row, "ids"), json_integer(5));
    check_changed(golden, "tokenizer");
    json_object_del(row, "ids");

    json_t *prompt = json_array_get(json_object_get(golden, "prompts"), 2);
    json_array_set_new(prompt, 0, json_integer(7));
    json_object_del(golden, "greedy");
    check_changed(golden, "ref logits");
    json_decref(golden);
}

int main(void)
{
    outside_path("");
    if (!mkdtemp(folder))
        return 1;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_template_renders_all),
        cmocka_unit_test(test_tokenize_gives_the_ids_and_the_text_back),
        cmocka_unit_test(test_verify_holds),
        cmocka_unit_test(test_verify_runs_what_has_a_tolerance),
        cmocka_unit_test(test_verify_sees_what_differs),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    static const char *const names[] = {"template.jinja", "golden.json", "golden.safetensors"};
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        char path[4096];
        snprintf(path, sizeof(path), "%s/%s", folder, names[i]);
        unlink(path);
    }
    rmdir(folder);
    return failed;
}
