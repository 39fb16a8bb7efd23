/* Tools: what the template is told, and calls parsed back in the three families. */
#include "house.h"

static struct house house;
static struct told told;

static void open_family(enum tsr_tools family)
{
    struct tsr_wire_hello hello;
    house_hello(&hello);
    hello.tools = (uint8_t)family;
    house_open(&house, &hello, 1, NULL);
}

static int tear_down(void **state)
{
    (void)state;
    house_close(&house);
    return 0;
}

#define HI    "\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}]"
#define TOOLS "\"tools\":[{\"type\":\"function\",\"function\":{\"name\":\"f\",\"parameters\":{}}}]"

static const struct {
    enum tsr_tools family;
    const char *two_calls;
    bool special; /* its marks are special tokens */
    const char *named, *required;
} families[] = {
    {TSR_TOOLS_HERMES,
     "<tool_call>\n{\"name\": \"f\", \"arguments\": {\"a\": 1}}\n</tool_call>\n<tool_call>\n"
     "{\"name\": \"f\", \"arguments\": {\"a\": 2}}\n</tool_call>",
     false, "<tool_call>\n{\"name\": \"f\", \"arguments\":", "<tool_call>\n{\"name\": \""},
    {TSR_TOOLS_LLAMA3,
     "{\"name\": \"f\", \"parameters\": {\"a\": 1}}; {\"name\": \"f\", \"parameters\": {\"a\": 2}}",
     true, "{\"name\": \"f\", \"parameters\":", "{\"name\": \""},
    {TSR_TOOLS_MISTRAL,
     "[TOOL_CALLS][{\"name\": \"f\", \"arguments\": {\"a\": 1}}, {\"name\": \"f\", \"arguments\": "
     "{\"a\": 2}}]",
     true, "[TOOL_CALLS][{\"name\": \"f\", \"arguments\":", "[TOOL_CALLS][{\"name\": \""},
};

enum { FAMILIES = sizeof families / sizeof families[0] };

static void test_calls_whole(void **state)
{
    (void)state;
    for (int i = 0; i < FAMILIES; i++) {
        open_family(families[i].family);
        house_post(&house, &told, "/v1/chat/completions", "{" HI "," TOOLS "}");
        assert_non_null(strstr(house_asked(&house, 0)->payload + 8, "}]," TOOLS "}"));
        assert_int_equal((house_asked(&house, 0)->submit.flags & TSR_SUBMIT_SHOW_SPECIAL) != 0,
                         families[i].special);
        say_text(&house, 0, families[i].two_calls, TSR_REASON_END);
        assert_int_equal(told.status, 200);
        assert_says(&told, "\"content\":null,\"refusal\":null,\"tool_calls\":[{\"id\":\"");
        assert_says(&told, "\"type\":\"function\",\"function\":{\"name\":\"f\",\"arguments\":\"{"
                           "\\\"a\\\": 1}\"}},{\"id\":\"");
        assert_says(&told, "\"function\":{\"name\":\"f\",\"arguments\":\"{\\\"a\\\": 2}\"}}]}");
        assert_says(&told, "\"finish_reason\":\"tool_calls\"");
        assert_int_equal(strstr(told.body, "\"id\":\"call_") != NULL,
                         families[i].family != TSR_TOOLS_MISTRAL); /* nine letters and digits */
        if (i + 1 < FAMILIES) {
            house_close(&house);
        }
    }
}

static void test_calls_streamed(void **state)
{
    (void)state;
    for (int i = 0; i < FAMILIES; i++) {
        open_family(families[i].family);
        house_post(&house, &told, "/v1/chat/completions", "{" HI "," TOOLS ",\"stream\":true}");
        say_text(&house, 0, families[i].two_calls, TSR_REASON_END);
        assert_says(&told, "\"delta\":{\"tool_calls\":[{\"index\":0,\"id\":\"");
        assert_says(&told, "\"function\":{\"name\":\"f\",\"arguments\":\"\"}}]}");
        assert_says(&told, "\"delta\":{\"tool_calls\":[{\"index\":1,\"function\":{\"arguments\":");
        assert_says(&told, "\"delta\":{},\"logprobs\":null,\"finish_reason\":\"tool_calls\"}]");
        assert_null(strstr(told.body, "TOOL_CALLS"));
        if (i + 1 < FAMILIES) {
            house_close(&house);
        }
    }
}

/* What models write that is no JSON object comes back from clients as it was: the conversation goes
 * on, with the tool's answer that says so. */
static void test_calls_that_were_made_badly(void **state)
{
    (void)state;
    static const char *const made[][2] = {{"{\\\"a\\\": 1}", "{\"a\":1}"},
                                          {"", "{}"},
                                          {"{\\\"a\\\": ", "\"{\\\"a\\\": \""},
                                          {"3", "\"3\""},
                                          {"[", "\"[\""}};
    char body[512], wanted[128];
    open_family(TSR_TOOLS_HERMES);
    for (uint32_t i = 0; i < sizeof made / sizeof made[0]; i++) {
        for (uint32_t k = 0; k < 2; k++) {
            snprintf(body, sizeof body,
                     k ? "{\"input\":[{\"type\":\"function_call\",\"call_id\":\"c\",\"name\":\"f\","
                         "\"arguments\":\"%s\"}]}"
                       : "{\"messages\":[{\"role\":\"assistant\",\"tool_calls\":[{\"id\":\"c\","
                         "\"function\":{\"name\":\"f\",\"arguments\":\"%s\"}}]}]}",
                     made[i][0]);
            snprintf(wanted, sizeof wanted, "\"arguments\":%s}", made[i][1]);
            house_post(&house, &told, k ? "/v1/responses" : "/v1/chat/completions", body);
            assert_non_null(strstr(house_asked(&house, 2 * i + k)->payload + 8, wanted));
            tsr_api_cancel(told.exchange);
        }
    }
    house_turn(&house);
}

static void test_forced_calls(void **state)
{
    (void)state;
    for (int i = 0; i < FAMILIES; i++) {
        char json[128], *at = json;
        open_family(families[i].family);
        house_post(&house, &told, "/v1/chat/completions",
                   "{" HI "," TOOLS
                   ",\"tool_choice\":{\"type\":\"function\",\"function\":{\"name\":"
                   "\"f\"}}}");
        for (const char *c = families[i].named; *c; c++) {
            *at++ = *c == '"' || *c == '\n' ? '\\' : *c;
            if (*c == '"' || *c == '\n') {
                *at++ = *c == '"' ? '"' : 'n';
            }
        }
        *at = '\0';
        char part[160];
        snprintf(part, sizeof part, "\"continue_with\":\"%s\"", json);
        assert_non_null(strstr(house_asked(&house, 0)->payload + 8, part));
        /* The engine goes on from there; behind the call nothing is wanted. */
        say_accepted(&house, 0, 0);
        for (const char *c = " {\"b\":true}}]\n</tool_call>"; *c && !told.ended; c++) {
            say_token(&house, 0, (char[]){*c, 0}, 0);
        }
        assert_true(told.ended);
        assert_says(&told, "\"function\":{\"name\":\"f\",\"arguments\":\"{\\\"b\\\":true}\"}}]");
        assert_says(&told, "\"finish_reason\":\"tool_calls\"");
        house_post(&house, &told, "/v1/chat/completions",
                   "{" HI "," TOOLS ",\"tool_choice\":\"required\"}");
        char rest[64];
        snprintf(rest, sizeof rest, "f\", \"%s\": {}}",
                 families[i].family == TSR_TOOLS_LLAMA3 ? "parameters" : "arguments");
        say_text(&house, 1, rest, TSR_REASON_END);
        assert_says(&told, "\"function\":{\"name\":\"f\",\"arguments\":\"{}\"}}]");
        if (i + 1 < FAMILIES) {
            house_close(&house);
        }
    }
}

static void test_one_call_only(void **state)
{
    (void)state;
    for (int stream = 0; stream < 2; stream++) {
        open_family(TSR_TOOLS_HERMES);
        house_post(&house, &told, "/v1/chat/completions",
                   stream ? "{" HI "," TOOLS ",\"parallel_tool_calls\":false,\"stream\":true}"
                          : "{" HI "," TOOLS ",\"parallel_tool_calls\":false}");
        say_accepted(&house, 0, 0);
        for (const char *c = families[0].two_calls; *c && !told.ended; c++) {
            say_token(&house, 0, (char[]){*c, 0}, 0);
        }
        assert_true(told.ended);
        assert_says(&told, "\"finish_reason\":\"tool_calls\"");
        assert_null(strstr(told.body, "\"index\":1"));
        assert_null(strstr(told.body, "\\\"a\\\": 2"));
        house_turn(&house);
        assert_true(house_asked(&house, 0)->cancelled);
        if (!stream) {
            house_close(&house);
        }
    }
}

static void test_a_call_that_was_cut(void **state)
{
    (void)state;
    open_family(TSR_TOOLS_HERMES);
    for (uint32_t i = 0; i < 2; i++) {
        house_post(&house, &told, "/v1/chat/completions",
                   i ? "{" HI "," TOOLS ",\"parallel_tool_calls\":false}" : "{" HI "," TOOLS "}");
        say_text(&house, i, "<tool_call>{\"name\": \"f\", \"arguments\": {\"a\"",
                 TSR_REASON_LENGTH);
        assert_says(&told, "\"name\":\"f\",\"arguments\":\"{\\\"a\\\"\"}}]");
        assert_says(&told, "\"finish_reason\":\"length\"");
    }
}

static void test_no_tools_when_none_may_be_called(void **state)
{
    (void)state;
    open_family(TSR_TOOLS_HERMES);
    house_post(&house, &told, "/v1/chat/completions",
               "{" HI "," TOOLS ",\"tool_choice\":\"none\"}");
    assert_null(strstr(house_asked(&house, 0)->payload + 8, "tools"));
    say_text(&house, 0, "<tool_call>", TSR_REASON_END);
    assert_says(&told, "\"content\":\"<tool_call>\"");
    assert_says(&told, "\"finish_reason\":\"stop\"");
}

static void test_special_tokens_are_not_content(void **state)
{
    (void)state;
    open_family(TSR_TOOLS_MISTRAL);
    house_post(&house, &told, "/v1/chat/completions", "{" HI "," TOOLS "}");
    say_accepted(&house, 0, 0);
    say_token(&house, 0, "a", 0);
    say_token(&house, 0, "<unk>", TSR_WIRE_TOKEN_SPECIAL);
    say_token(&house, 0, "[TOOL_CALLS]", TSR_WIRE_TOKEN_SPECIAL);
    say_token(&house, 0, "[{\"name\":\"f\",\"arguments\":{}}]", 0);
    say_done(&house, 0, TSR_REASON_END);
    assert_says(&told, "\"content\":\"a\"");
    assert_says(&told, "\"name\":\"f\",\"arguments\":\"{}\"");
}

static void test_models_without_tools(void **state)
{
    (void)state;
    struct tsr_wire_hello hello;
    house_hello(&hello);
    hello.tools = TSR_TOOLS_NONE;
    house_open(&house, &hello, 1, NULL);
    house_post(&house, &told, "/v1/chat/completions",
               "{" HI "," TOOLS ",\"tool_choice\":\"required\"}");
    assert_refused(&told, 400, "tool_choice", "cannot be forced");
    house_close(&house);
    hello.flags = TSR_HELLO_CHAT;
    house_open(&house, &hello, 1, NULL);
    house_post(&house, &told, "/v1/chat/completions", "{" HI "," TOOLS "}");
    assert_refused(&told, 400, "tools", "no use for tools");
    house_close(&house);
    hello.flags = 0;
    house_open(&house, &hello, 1, NULL);
    house_post(&house, &told, "/v1/chat/completions", "{" HI "}");
    assert_refused(&told, 400, "messages", "no usable chat template");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(test_calls_whole, tear_down),
        cmocka_unit_test_teardown(test_calls_streamed, tear_down),
        cmocka_unit_test_teardown(test_calls_that_were_made_badly, tear_down),
        cmocka_unit_test_teardown(test_forced_calls, tear_down),
        cmocka_unit_test_teardown(test_one_call_only, tear_down),
        cmocka_unit_test_teardown(test_a_call_that_was_cut, tear_down),
        cmocka_unit_test_teardown(test_no_tools_when_none_may_be_called, tear_down),
        cmocka_unit_test_teardown(test_special_tokens_are_not_content, tear_down),
        cmocka_unit_test_teardown(test_models_without_tools, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
