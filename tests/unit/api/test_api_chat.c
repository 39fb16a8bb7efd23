#include "house.h"

static struct house house;
static struct told told;

static int set_up(void **state)
{
    (void)state;
    struct tsr_wire_hello hello;
    house_hello(&hello);
    house_open(&house, &hello, 1, NULL);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    house_close(&house);
    return 0;
}

#define HI "\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}]"

static void test_chat_whole(void **state)
{
    (void)state;
    house_post(&house, &told, "/v1/chat/completions", "{\"model\":\"echo\"," HI "}");
    const struct asked *asked = house_asked(&house, 0);
    assert_int_equal(asked->submit.kind, TSR_PAYLOAD_CHAT);
    assert_string_equal(asked->payload + 8,
                        "{\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}]}");
    assert_int_equal(told.status, 0);
    say_text(&house, 0, "a \"b\"", TSR_REASON_END);
    assert_int_equal(told.status, 200);
    assert_true(told.ended);
    assert_says(&told, "{\"id\":\"chatcmpl-");
    assert_says(&told, "\"object\":\"chat.completion\",\"created\":");
    assert_says(&told, "\"model\":\"echo\",\"choices\":[{\"index\":0,\"message\":{\"role\":"
                       "\"assistant\",\"content\":\"a \\\"b\\\"\",\"refusal\":null},\"logprobs\":"
                       "null,\"finish_reason\":\"stop\"}],\"usage\":{\"prompt_tokens\":7,"
                       "\"completion_tokens\":5,\"total_tokens\":12,\"prompt_tokens_details\":{"
                       "\"cached_tokens\":2},\"completion_tokens_details\":{\"reasoning_tokens\":0"
                       "}}}");
}

static void test_chat_stream(void **state)
{
    (void)state;
    house_post(&house, &told, "/v1/chat/completions",
               "{" HI ",\"stream\":true,\"stream_options\":{\"include_usage\":true}}");
    assert_int_equal(told.status, 0);
    say_accepted(&house, 0, 0);
    assert_int_equal(told.status, 200);
    assert_string_equal(told.type, "text/event-stream; charset=utf-8");
    assert_int_equal(told.pieces, 1);
    assert_says(&told, "\"delta\":{\"role\":\"assistant\",\"content\":\"\"},\"logprobs\":null,"
                       "\"finish_reason\":null}],\"usage\":null}\n\n");
    say_token(&house, 0, "He", 0);
    assert_int_equal(told.pieces, 2);
    assert_says(&told, "\"delta\":{\"content\":\"He\"}");
    say_token(&house, 0, "y", 0);
    assert_int_equal(told.pieces, 3);
    say_done(&house, 0, TSR_REASON_LENGTH);
    assert_true(told.ended);
    assert_says(&told, "\"delta\":{},\"logprobs\":null,\"finish_reason\":\"length\"}]");
    assert_says(&told, "\"choices\":[],\"usage\":{\"prompt_tokens\":7,\"completion_tokens\":2,");
    assert_string_equal(told.body + told.size - 14, "data: [DONE]\n\n");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_chat_whole, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_chat_stream, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
