/* Real chat templates, rendered as Jinja2 renders them under transformers. */
#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

#include <cmocka.h>

#include <tsr/model/gguf.h>
#include <tsr/text/template.h>

#include "outside.h"

static struct tsr_template_scratch *scratch;

static int64_t seconds(const char *iso)
{
    struct tm tm = {0};
    assert_non_null(iso);
    assert_non_null(strptime(iso, "%Y-%m-%dT%H:%M:%S", &tm));
    return (int64_t)timegm(&tm);
}

static void print_difference(const char *got, size_t got_len, const char *want, size_t want_len)
{
    size_t i = 0;
    while (i < got_len && i < want_len && got[i] == want[i])
        i++;
    size_t from = i > 60 ? i - 60 : 0;
    fprintf(stderr, "    differs at byte %zu\n    got:  ...%.*s\n    want: ...%.*s\n", i,
            (int)(got_len - from < 160 ? got_len - from : 160), got + from,
            (int)(want_len - from < 160 ? want_len - from : 160), want + from);
}

/* The rendered spans joined are the text, and neighbours differ in trust. */
static void check_spans(const struct tsr_template_output *out)
{
    const char *at = out->text;
    for (size_t i = 0; i < out->n_spans; i++) {
        assert_ptr_equal(out->spans[i].text, at);
        assert_true(out->spans[i].len > 0);
        assert_true(i == 0 || out->spans[i].trusted != out->spans[i - 1].trusted);
        at += out->spans[i].len;
    }
    assert_ptr_equal(at, out->text + out->len);
}

static bool check_case(const char *name, const struct tsr_template *tmpl, const json_t *row,
                       int64_t now)
{
    char *context = json_dumps(json_object_get(row, "context"), JSON_COMPACT);
    const json_t *expected = json_object_get(row, "expected");
    struct tsr_template_input input = {.json = context, .json_len = strlen(context), .now_s = now};
    struct tsr_template_output out;
    struct tsr_err err = {0};
    int rc = tsr_template_render(tmpl, scratch, &input, &out, &err);
    const char *label = json_string_value(json_object_get(row, "case"));
    bool same;
    if (json_is_string(expected)) {
        same = rc == 0 && out.len == json_string_length(expected) &&
               memcmp(out.text, json_string_value(expected), out.len) == 0;
        if (rc < 0)
            fprintf(stderr, "  %s, %s: %s\n", name, label, err.text);
        else if (!same)
            fprintf(stderr, "  %s, %s:\n", name, label);
        if (rc == 0 && !same)
            print_difference(out.text, out.len, json_string_value(expected),
                             json_string_length(expected));
        if (rc == 0)
            check_spans(&out);
    } else {
        const char *error = json_string_value(json_object_get(row, "error"));
        assert_non_null(error);
        same = rc < 0 && strncmp(err.text, "template, line ", 15) == 0;
        if (getenv("VERBOSE"))
            printf("  %s, %s: '%s' for '%s'\n", name, label, rc < 0 ? err.text : "rendered", error);
        if (!same)
            fprintf(stderr, "  %s, %s: rendered, but should fail: %s\n", name, label, error);
    }
    free(context);
    return same;
}

static void test_templates_render_as_jinja2(void **state)
{
    (void)state;
    const char *root = outside_path("templates");
    DIR *dir = opendir(root);
    assert_non_null(dir);
    unsigned templates = 0, rows = 0, wrong = 0;
    for (struct dirent *entry; (entry = readdir(dir));) {
        char path[5000];
        if (entry->d_name[0] == '.')
            continue;
        snprintf(path, sizeof(path), "%s/%s", root, entry->d_name);
        json_t *file = outside_json(path);
        assert_non_null(file);
        size_t len;
        const char *source = outside_string(file, "template", &len);
        int64_t now = seconds(json_string_value(json_object_get(file, "now")));
        const json_t *cases = json_object_get(file, "cases");
        struct tsr_template *tmpl;
        struct tsr_err err;
        templates++;
        if (tsr_template_parse(&tmpl, source, len, &err) < 0) {
            fprintf(stderr, "  %s: %s\n", entry->d_name, err.text);
            wrong += (unsigned)json_array_size(cases);
        } else {
            for (size_t i = 0; i < json_array_size(cases); i++, rows++)
                wrong += !check_case(entry->d_name, tmpl, json_array_get(cases, i), now);
            tsr_template_destroy(tmpl);
        }
        json_decref(file);
    }
    closedir(dir);
    printf("  %u templates, %u cases, %u wrong\n", templates, rows, wrong);
    assert_true(templates > 0);
    assert_int_equal(wrong, 0);
}

static void test_templates_say_how_they_write_tool_calls(void **state)
{
    (void)state;
    static const struct {
        const char *file;
        bool tools, reasoning;
        enum tsr_tools calls;
    } known[] = {
        {"Qwen-Qwen2.5-7B-Instruct", true, false, TSR_TOOLS_HERMES},
        {"Qwen-QwQ-32B", true, true, TSR_TOOLS_HERMES},
        {"NousResearch-Hermes-2-Pro-Llama-3-8B-tool_use", true, false, TSR_TOOLS_HERMES},
        {"ibm-granite-granite-4.0", true, false, TSR_TOOLS_HERMES},
        {"meta-llama-Llama-3.2-3B-Instruct", true, false, TSR_TOOLS_LLAMA3},
        {"meta-llama-Llama-3.3-70B-Instruct", true, false, TSR_TOOLS_LLAMA3},
        {"mistralai-Mistral-Nemo-Instruct-2407", true, false, TSR_TOOLS_MISTRAL},
        {"Mistral-Small-3.2-24B-Instruct-2506", true, false, TSR_TOOLS_NONE},
        {"Qwen3-Coder", true, false, TSR_TOOLS_NONE},
        {"GLM-4.6", true, true, TSR_TOOLS_NONE},
        {"openai-gpt-oss-120b", true, false, TSR_TOOLS_NONE},
        {"GigaChat3-10B-A1.8B", true, false, TSR_TOOLS_NONE},
        {"google-gemma-2-2b-it", false, false, TSR_TOOLS_NONE},
        {"microsoft-Phi-3.5-mini-instruct", false, false, TSR_TOOLS_NONE},
    };
    for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
        char path[5000];
        snprintf(path, sizeof(path), "%s/%s.json", outside_path("templates"), known[i].file);
        json_t *file = outside_json(path);
        size_t len;
        const char *source = outside_string(file, "template", &len);
        struct tsr_template *tmpl;
        struct tsr_err err;
        if (tsr_template_parse(&tmpl, source, len, &err) < 0)
            fail_msg("%s: %s", known[i].file, err.text);
        const struct tsr_template_traits *traits = tsr_template_traits(tmpl);
        if (traits->tools != known[i].tools || traits->reasoning != known[i].reasoning ||
            traits->calls != known[i].calls)
            fail_msg("%s: tools %d, reasoning %d, calls %d", known[i].file, traits->tools,
                     traits->reasoning, (int)traits->calls);
        tsr_template_destroy(tmpl);
        json_decref(file);
    }
}

static void test_smollm2_renders_its_prompts(void **state)
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
    struct tsr_err err;
    struct tsr_gguf *gguf;
    struct tsr_tokenizer *tokenizer;
    struct tsr_template *tmpl;
    if (tsr_gguf_open(&gguf, model, &err) < 0 ||
        tsr_tokenizer_open(&tokenizer, model, gguf, &err) < 0)
        fail_msg("%s", err.text);
    const char *chat = tsr_tokenizer_chat_template(tokenizer);
    assert_non_null(chat);
    if (tsr_template_parse(&tmpl, chat, strlen(chat), &err) < 0)
        fail_msg("%s", err.text);
    json_t *golden = outside_json(outside_path("smollm2/golden.json"));
    const json_t *cases = json_object_get(golden, "cases");
    unsigned rendered = 0;
    for (size_t i = 0; i < json_array_size(cases); i++) {
        const json_t *input = json_object_get(json_array_get(cases, i), "input");
        const json_t *expected = json_object_get(input, "rendered");
        if (!json_is_string(expected))
            continue;
        json_t *context = json_pack("{s:O,s:b}", "messages", json_object_get(input, "messages"),
                                    "add_generation_prompt", 1);
        json_t *row =
            json_pack("{s:s,s:o,s:O}", "case", "chat", "context", context, "expected", expected);
        assert_true(check_case("smollm2", tmpl, row, 0));
        json_decref(row);
        rendered++;
    }
    assert_true(rendered > 0);
    json_decref(golden);
    tsr_template_destroy(tmpl);
    tsr_tokenizer_close(tokenizer);
    tsr_gguf_close(gguf);
}

int main(void)
{
    struct tsr_template_limits limits;
    outside_path("");
    tsr_template_limits_init(&limits);
    if (tsr_template_scratch_create(&scratch, &limits, NULL) < 0)
        return 1;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_templates_render_as_jinja2),
        cmocka_unit_test(test_templates_say_how_they_write_tool_calls),
        cmocka_unit_test(test_smollm2_renders_its_prompts),
    };
    int rc = cmocka_run_group_tests(tests, NULL, NULL);
    tsr_template_scratch_destroy(scratch);
    return rc;
}
