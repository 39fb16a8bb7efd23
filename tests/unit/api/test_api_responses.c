#include "house.h"

static struct house house;
static struct told told;

static int set_up(void **state)
{
    (void)state;
    struct tsr_wire_hello hello;
    house_hello(&hello);
    hello.flags |= TSR_HELLO_REASONING;
    house_open(&house, &hello, 1, NULL);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    house_close(&house);
    return 0;
}

/* The events' names, in order. */
static void assert_events(const char *const *names)
{
    const char *at = told.body;
    char data[128];
    unsigned number = 0;
    for (; *names; names++, number++) {
        char line[128];
        snprintf(line, sizeof line, "event: %s\n", *names);
        if (strncmp(at, line, strlen(line)) != 0) {
            fail_msg("wanted %s at: %.300s", *names, at);
        }
        at += strlen(line);
        snprintf(data, sizeof data, "data: {\"type\":\"%s\",\"sequence_number\":%u,", *names,
                 number);
        if (strncmp(at, data, strlen(data)) != 0) {
            fail_msg("wanted %s at: %.300s", data, at);
        }
        at = strstr(at, "\n\n");
        assert_non_null(at);
        at += 2;
    }
    assert_string_equal(at, "");
}

static void test_response_whole(void **state)
{
    (void)state;
    house_post(&house, &told, "/v1/responses",
               "{\"model\":\"echo\",\"input\":\"hi\",\"instructions\":\"be brief\",\"store\":true,"
               "\"max_output_tokens\":20}");
    assert_string_equal(house_asked(&house, 0)->payload + 8,
                        "{\"messages\":[{\"role\":\"system\",\"content\":\"be brief\"},{\"role\":"
                        "\"user\",\"content\":\"hi\"}]}");
    assert_int_equal(house_asked(&house, 0)->submit.tokens_max, 20);
    say_text(&house, 0, "ok", TSR_REASON_END);
    assert_int_equal(told.status, 200);
    assert_says(&told, "\"object\":\"response\",\"created_at\":");
    assert_says(&told, "\"status\":\"completed\",\"model\":\"echo\",\"output\":[{\"id\":\"msg_");
    assert_says(&told, "\"type\":\"message\",\"role\":\"assistant\",\"content\":[{\"type\":"
                       "\"output_text\",\"annotations\":[],\"logprobs\":[],\"text\":\"ok\"}]}],"
                       "\"error\":null,\"incomplete_details\":null,\"usage\":{\"input_tokens\":7,"
                       "\"input_tokens_details\":{\"cached_tokens\":2,\"cache_write_tokens\":0},"
                       "\"output_tokens\":2,"
                       "\"output_tokens_details\":{\"reasoning_tokens\":0},\"total_tokens\":9},");
    assert_says(&told, "\"instructions\":\"be brief\",\"max_output_tokens\":20,");
    assert_says(&told, "\"temperature\":0.8,\"top_p\":0.95,"); /* as it was sampled */
    assert_says(&told, "\"store\":false");
}

static void test_response_items(void **state)
{
    (void)state;
    house_post(
        &house, &told, "/v1/responses",
        "{\"input\":[{\"role\":\"user\",\"content\":[{\"type\":\"input_text\",\"text\":\"a\"},"
        "{\"type\":\"input_text\",\"text\":\"b\"}]},{\"type\":\"reasoning\",\"id\":\"rs_1\","
        "\"summary\":[]},{\"type\":\"message\",\"role\":\"assistant\",\"content\":[{\"type\":"
        "\"output_text\",\"text\":\"c\"}]},{\"type\":\"function_call\",\"call_id\":\"1\",\"name\":"
        "\"f\",\"arguments\":\"{\\\"x\\\":1}\"},{\"type\":\"function_call\",\"call_id\":\"2\","
        "\"name\":\"g\",\"arguments\":\"\"},{\"type\":\"function_call_output\",\"call_id\":\"1\","
        "\"output\":\"one\"}]}");
    assert_string_equal(
        house_asked(&house, 0)->payload + 8,
        "{\"messages\":[{\"role\":\"user\",\"content\":\"a\\nb\"},{\"role\":\"assistant\","
        "\"content\":\"c\",\"tool_calls\":[{\"id\":\"1\",\"type\":\"function\",\"function\":{"
        "\"name\":\"f\",\"arguments\":{\"x\":1}}},{\"id\":\"2\",\"type\":\"function\",\"function\":"
        "{\"name\":\"g\",\"arguments\":{}}}]},{\"role\":\"tool\",\"content\":\"one\","
        "\"tool_call_id\":\"1\"}]}");
    say_text(&house, 0, "x", TSR_REASON_LENGTH);
    assert_says(&told, "\"status\":\"incomplete\"");
    assert_says(&told, "\"incomplete_details\":{\"reason\":\"max_output_tokens\"}");
}

static void test_response_stream(void **state)
{
    (void)state;
    static const char *const names[] = {
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
        "response.output_text.delta",
        "response.output_text.delta",
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.completed",
        NULL,
    };
    house_post(&house, &told, "/v1/responses", "{\"input\":\"hi\",\"stream\":true}");
    say_accepted(&house, 0, 0);
    say_token(&house, 0, "He", 0);
    say_token(&house, 0, "y", 0);
    say_done(&house, 0, TSR_REASON_END);
    assert_true(told.ended);
    assert_events(names);
    assert_says(&told, "\"output_index\":0,\"content_index\":0,\"delta\":\"y\",\"logprobs\":[]}");
    assert_says(&told, "\"output_index\":0,\"content_index\":0,\"text\":\"Hey\",\"logprobs\":[]}");
    assert_says(&told, "\"annotations\":[],\"logprobs\":[],\"text\":\"Hey\"}");
}

static void test_response_stream_of_reasoning_and_calls(void **state)
{
    (void)state;
    static const char *const names[] = {
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
        "response.reasoning_text.delta",
        "response.reasoning_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.output_item.added",
        "response.function_call_arguments.delta",
        "response.function_call_arguments.done",
        "response.output_item.done",
        "response.completed",
        NULL,
    };
    house_post(&house, &told, "/v1/responses",
               "{\"input\":\"hi\",\"stream\":true,\"tools\":[{\"type\":\"function\",\"name\":\"f\","
               "\"parameters\":{},\"strict\":true}]}");
    assert_non_null(strstr(house_asked(&house, 0)->payload + 8,
                           "\"tools\":[{\"type\":\"function\",\"function\":{\"name\":\"f\","
                           "\"parameters\":{}}}]"));
    say_accepted(&house, 0, TSR_ACCEPTED_REASONING);
    say_token(&house, 0, "hm", 0);
    say_token(&house, 0, "</think>", 0);
    say_token(&house, 0, "<tool_call>{\"name\": \"f\", \"arguments\": {\"a\":1}}</tool_call>", 0);
    say_done(&house, 0, TSR_REASON_END);
    assert_true(told.ended);
    assert_events(names);
    assert_says(&told, "\"type\":\"function_call\",\"call_id\":\"call_");
    assert_says(&told, "\"name\":\"f\",\"arguments\":\"{\\\"a\\\":1}\"");
    assert_says(&told, "\"strict\":false");
    assert_says(&told, "\"reasoning_tokens\":2}"); /* with the mark at its end */
}

static void test_response_failed(void **state)
{
    (void)state;
    house_post(&house, &told, "/v1/responses", "{\"input\":\"hi\",\"stream\":true}");
    say_accepted(&house, 0, 0);
    say_token(&house, 0, "a", 0);
    say_done(&house, 0, TSR_REASON_ERROR);
    assert_true(told.ended);
    assert_says(&told, "event: response.failed\n");
    assert_says(&told, "\"status\":\"failed\"");
    assert_says(&told, "\"error\":{\"code\":\"server_error\",\"message\":\"it broke\"}");
}

/* What the answer says of the request is what was done. */
static void test_response_says_what_was_asked(void **state)
{
    (void)state;
    house_post(&house, &told, "/v1/responses", "{\"input\":\"a\",\"max_output_tokens\":9}");
    const struct tsr_wire_submit *submit = &house_asked(&house, 0)->submit;
    char says[96];
    snprintf(says, sizeof says, "\"temperature\":%.7g,\"top_p\":%.7g,", (double)submit->temperature,
             (double)submit->top_p);
    say_text(&house, 0, "ok", TSR_REASON_END);
    assert_says(&told, says);
    assert_says(&told, "\"max_output_tokens\":9,");
    assert_says(&told, "\"reasoning\":{\"effort\":null,\"summary\":null}");
    house_post(&house, &told, "/v1/responses",
               "{\"input\":\"a\",\"temperature\":0.25,\"reasoning\":{\"effort\":\"low\"}}");
    assert_non_null(strstr(house_asked(&house, 1)->payload + 8, ",\"reasoning_effort\":\"low\"}"));
    say_text(&house, 1, "ok", TSR_REASON_END);
    assert_says(&told, "\"temperature\":0.25,");
    assert_says(&told, "\"reasoning\":{\"effort\":\"low\",\"summary\":null}");
}

/* A stream says it three times: one that is not read must not fill the door. */
static void test_response_says_no_more_again_than_it_may(void **state)
{
    (void)state;
    static char body[2 << 20];
    int size = snprintf(body, sizeof body, "{\"input\":\"a\",\"stream\":true,\"user\":\"");
    memset(body + size, 'u', 1 << 20);
    strcpy(body + size + (1 << 20), "\"}");
    house_post(&house, &told, "/v1/responses", body);
    assert_refused(&told, 400, NULL, "shorten 'instructions'");
    assert_int_equal(house.engines[0].n_asked, 0);
}

static void test_response_refusals(void **state)
{
    (void)state;
    static const struct {
        const char *body, *param, *says;
    } refused[] = {
        {"{}", "input", "must have something"},
        {"{\"input\":[]}", "input", "must have something"},
        {"{\"input\":7}", "input", "a string or an array of items, not a number"},
        {"{\"input\":\"a\",\"previous_response_id\":\"resp_1\"}", "previous_response_id",
         "supported"},
        {"{\"input\":\"a\",\"background\":true}", "background", "supported"},
        {"{\"input\":\"a\",\"conversation\":\"c\"}", "conversation", "supported"},
        {"{\"input\":\"a\",\"truncation\":\"auto\"}", "truncation", "disabled"},
        {"{\"input\":\"a\",\"text\":{\"format\":{\"type\":\"json_schema\"}}}", "text.format",
         "json_schema"},
        {"{\"input\":\"a\",\"metadata\":{\"k\":1}}", "metadata", "an object of strings"},
        {"{\"input\":\"a\",\"user\":{}}", "user", "a string"},
        {"{\"input\":\"a\",\"reasoning\":5}", "reasoning", "an object"},
        {"{\"input\":\"a\",\"reasoning\":{\"effort\":1}}", "reasoning.effort", "a string"},
        {"{\"input\":\"a\",\"text\":{\"verbosity\":\"low\"}}", "text.verbosity", "medium only"},
        {"{\"input\":\"a\",\"max_output_tokens\":0}", "max_output_tokens", "from 1"},
        {"{\"input\":\"a\",\"tools\":[{\"type\":\"web_search\"}]}", "tools", "web_search"},
        {"{\"input\":[{\"type\":\"item_reference\",\"id\":\"x\"}]}", "input[0].type",
         "item_reference"},
        {"{\"input\":[{\"type\":\"function_call\",\"call_id\":\"1\",\"name\":\"f\",\"arguments\":"
         "7}]}",
         "input[0].arguments", "a string"},
        {"{\"input\":[{\"role\":\"user\",\"content\":[{\"type\":\"input_image\"}]}]}",
         "input[0].content[0].type", "input_image"},
    };
    for (size_t i = 0; i < sizeof refused / sizeof refused[0]; i++) {
        house_post(&house, &told, "/v1/responses", refused[i].body);
        assert_refused(&told, 400, refused[i].param, refused[i].says);
    }
    assert_int_equal(house.engines[0].n_asked, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_response_whole, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_response_items, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_response_stream, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_response_stream_of_reasoning_and_calls, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_response_failed, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_response_says_what_was_asked, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_response_says_no_more_again_than_it_may, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_response_refusals, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
