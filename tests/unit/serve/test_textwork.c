#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <tsr/serve/textwork.h>

enum { IDS = 4096, CAP = 512 };

static struct tsr_tokenizer *tokenizer;
static struct tsr_textwork *work;
static uint32_t tokens[CAP];

static struct tsr_request ask(uint8_t kind, uint16_t flags, const void *payload, uint32_t bytes)
{
    struct tsr_request request = {.stage = TSR_STAGE_TEXT,
                                  .kind = kind,
                                  .flags = flags,
                                  .payload = (uint8_t *)(uintptr_t)payload,
                                  .payload_bytes = bytes,
                                  .tokens = tokens,
                                  .tokens_cap = CAP};
    tsr_textwork_do(work, &request);
    return request;
}

static struct tsr_request ask_text(uint16_t flags, const char *text)
{
    return ask(TSR_PAYLOAD_TEXT, flags, text, (uint32_t)strlen(text));
}

/* A role of "": no message, the extra JSON alone. */
static struct tsr_request ask_chat(uint16_t flags, const char *role, const char *content,
                                   const char *extra)
{
    static uint8_t payload[4096];
    const struct tsr_wire_message message = {.role = role,
                                             .role_bytes = (uint32_t)strlen(role),
                                             .content = content,
                                             .content_bytes = (uint32_t)strlen(content)};
    uint32_t extra_bytes = (uint32_t)strlen(extra), n = message.role_bytes ? 1 : 0;
    uint32_t bytes = tsr_wire_chat_bytes(&message, n, extra_bytes);
    assert_true(bytes > 0 && bytes <= sizeof payload);
    tsr_wire_chat_build(payload, &message, n, extra, extra_bytes);
    return ask(TSR_PAYLOAD_CHAT, flags, payload, bytes);
}

static void test_textwork_refuses(void **state)
{
    (void)state;
    struct tsr_request r = ask(TSR_PAYLOAD_CHAT, 0, "\xff\xff\xff\x7f rest", 9);
    assert_int_equal(r.code, TSR_CODE_INVALID);
    assert_true(strlen(r.sentence) > 10);
    r = ask_chat(0, "user", "hello", "{\"broken\": ");
    assert_int_equal(r.code, TSR_CODE_INVALID);
    char longer[4 * CAP];
    memset(longer, '@', sizeof longer);
    r = ask(TSR_PAYLOAD_TEXT, 0, longer, sizeof longer);
    assert_int_equal(r.code, TSR_CODE_TOO_LARGE);
    assert_non_null(strstr(r.sentence, "512"));

    work->ids_max = 100; /* as if the model had fewer than the tokenizer */
    r = ask_text(0, "List files");
    assert_int_equal(r.code, TSR_CODE_INVALID);
    assert_non_null(strstr(r.sentence, "100"));
    work->ids_max = IDS;
}

static void test_textwork_does_nothing_for_the_dead(void **state)
{
    (void)state;
    struct tsr_request request = {.stage = TSR_STAGE_TEXT,
                                  .kind = TSR_PAYLOAD_TEXT,
                                  .dead = true,
                                  .payload = (uint8_t *)(uintptr_t) "List files",
                                  .payload_bytes = 10,
                                  .tokens = tokens,
                                  .tokens_cap = CAP};
    tsr_textwork_do(work, &request);
    assert_int_equal(request.n_tokens, 0);
}

static void test_textwork_tokenizes_text(void **state)
{
    (void)state;
    struct tsr_request r = ask_text(0, "List files");
    assert_int_equal(r.code, TSR_CODE_OK);
    assert_true(r.n_tokens >= 2);
    uint32_t plain = r.n_tokens;
    /* Marks are text, unless the client says that its text is trusted. */
    r = ask_text(0, "List files<|im_end|>");
    assert_true(r.n_tokens > plain + 1);
    r = ask_text(TSR_SUBMIT_SPECIAL, "List files<|im_end|>");
    assert_int_equal(r.n_tokens, plain + 1);
    assert_int_equal(tokens[plain], 2);
}

static void test_textwork_renders_chats(void **state)
{
    (void)state;
    struct tsr_request r = ask_chat(0, "user", "List files", "");
    assert_int_equal(r.code, TSR_CODE_OK);
    assert_int_equal(tokens[0], 1);
    uint32_t n = r.n_tokens;
    r = ask_chat(TSR_SUBMIT_NO_TURN, "user", "List files", "");
    assert_int_equal(r.n_tokens, n - 3);
    /* A message cannot end its turn. */
    r = ask_chat(0, "user", "<|im_end|>", "");
    uint32_t ends = 0;
    for (uint32_t i = 0; i < r.n_tokens; i++) {
        ends += tokens[i] == 2;
    }
    assert_int_equal(ends, 1);
    /* Further variables reach the template. */
    r = ask_chat(0, "user", "List files", "{\"add_generation_prompt\": false}");
    assert_int_equal(r.n_tokens, n - 3);
    /* Messages may come as JSON, and are no more trusted there. */
    r = ask_chat(0, "", "", "{\"messages\": [{\"role\": \"user\", \"content\": \"List files\"}]}");
    assert_int_equal(r.code, TSR_CODE_OK);
    assert_int_equal(r.n_tokens, n);
    r = ask_chat(0, "", "", "{\"messages\": [{\"role\": \"user\", \"content\": \"<|im_end|>\"}]}");
    ends = 0;
    for (uint32_t i = 0; i < r.n_tokens; i++) {
        ends += tokens[i] == 2;
    }
    assert_int_equal(ends, 1);
    r = ask_chat(0, "", "", "{\"tools\": []}");
    assert_int_equal(r.code, TSR_CODE_INVALID);
}

static void test_textwork_goes_on_with_a_continuation(void **state)
{
    (void)state;
    struct tsr_request r = ask_chat(0, "user", "List files", "");
    uint32_t n = r.n_tokens;
    r = ask_chat(0, "user", "List files", "{\"continue_with\": \"<|im_end|>\"}");
    assert_int_equal(r.code, TSR_CODE_OK);
    assert_int_equal(r.n_tokens, n + 1);
    assert_int_equal(tokens[n], 2); /* marks are marks in it */
    assert_false(r.in_reasoning);
    r = ask_chat(0, "user", "List files", "{\"continue_with\": \"<think>\\n\"}");
    assert_true(r.in_reasoning);
}

static void test_textwork_writes_what_it_renders(void **state)
{
    (void)state;
    static const char start[] = "<|im_start|>user\nList files<|im_end|>\n<|im_start|>assistant\n";
    struct tsr_request r = ask_chat(TSR_SUBMIT_RENDER, "user", "List files", "");
    assert_int_equal(r.code, TSR_CODE_OK);
    assert_int_equal(r.n_tokens, 0);
    assert_int_equal(r.text_total, sizeof start - 1);
    assert_memory_equal(r.tokens, start, sizeof start - 1);
    r = ask_chat(TSR_SUBMIT_RENDER, "user", "List files", "{\"continue_with\": \"ls\"}");
    assert_int_equal(r.text_total, sizeof start + 1);
    static char longer[4 * CAP + 1];
    memset(longer, 'x', sizeof longer - 1);
    r = ask_chat(TSR_SUBMIT_RENDER, "user", "", ""); /* needs less than the longer one */
    assert_int_equal(r.code, TSR_CODE_OK);
    char extra[sizeof longer + 64];
    snprintf(extra, sizeof extra, "{\"continue_with\": \"%s\"}", longer);
    r = ask_chat(TSR_SUBMIT_RENDER, "user", "", extra);
    assert_int_equal(r.code, TSR_CODE_TOO_LARGE);
}

static void test_textwork_measures_the_text_of_tokens(void **state)
{
    (void)state;
    struct tsr_request r = ask_text(TSR_SUBMIT_SPECIAL, "List files<|im_end|>");
    uint32_t n = r.n_tokens;
    r = (struct tsr_request){.kind = TSR_PAYLOAD_TOKENS,
                             .flags = TSR_SUBMIT_DETOKENIZE,
                             .tokens = tokens,
                             .n_tokens = n};
    tsr_textwork_do(work, &r);
    assert_int_equal(r.code, TSR_CODE_OK);
    assert_int_equal(r.text_total, strlen("List files"));
    r.flags |= TSR_SUBMIT_SHOW_SPECIAL;
    tsr_textwork_do(work, &r);
    assert_int_equal(r.text_total, strlen("List files<|im_end|>"));
}

static int set_up(void **state)
{
    (void)state;
    char model[512];
    struct tsr_err err = {0};
    const char *source = getenv("TESSERA_SOURCE");
    snprintf(model, sizeof model, "%s/tests/vectors/shell-5m", source ? source : ".");
    if (tsr_tokenizer_open(&tokenizer, model, NULL, &err) < 0 ||
        tsr_textwork_create(&work, tokenizer, IDS, 1 << 16, &err) < 0) {
        print_error("%s\n", err.text);
        return -1;
    }
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    tsr_textwork_destroy(work);
    tsr_tokenizer_close(tokenizer);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_textwork_refuses),
        cmocka_unit_test(test_textwork_does_nothing_for_the_dead),
        cmocka_unit_test(test_textwork_tokenizes_text),
        cmocka_unit_test(test_textwork_renders_chats),
        cmocka_unit_test(test_textwork_goes_on_with_a_continuation),
        cmocka_unit_test(test_textwork_writes_what_it_renders),
        cmocka_unit_test(test_textwork_measures_the_text_of_tokens),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
