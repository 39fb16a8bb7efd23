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

static void test_chat_choices(void **state)
{
    (void)state;
    house_post(&house, &told, "/v1/chat/completions", "{" HI ",\"n\":2,\"stream\":true}");
    assert_int_equal(house.engines[0].n_asked, 2);
    say_accepted(&house, 1, 0);
    say_accepted(&house, 0, 0);
    say_token(&house, 1, "b", 0);
    assert_says(&told, "\"choices\":[{\"index\":1,\"delta\":{\"content\":\"b\"}");
    say_token(&house, 0, "a", 0);
    say_done(&house, 1, TSR_REASON_END);
    assert_false(told.ended);
    say_done(&house, 0, TSR_REASON_END);
    assert_true(told.ended);
    assert_null(strstr(told.body, "usage"));
}

static void test_chat_logprobs(void **state)
{
    (void)state;
    static const char entry[] =
        "{\"token\":\"h\",\"logprob\":-0.5,\"bytes\":[104],\"top_logprobs\":[{\"token\":\"h\","
        "\"logprob\":-0.5,\"bytes\":[104]},{\"token\":\"z\",\"logprob\":-1.25,\"bytes\":[122]}]}";
    house_post(&house, &told, "/v1/chat/completions",
               "{" HI ",\"logprobs\":true,\"top_logprobs\":5}");
    assert_int_equal(house_asked(&house, 0)->submit.top_logprobs, 5);
    say_text(&house, 0, "h", TSR_REASON_END);
    char text[512];
    snprintf(text, sizeof text, "\"logprobs\":{\"content\":[%s],\"refusal\":null}", entry);
    assert_says(&told, text);
    house_post(&house, &told, "/v1/chat/completions",
               "{" HI ",\"logprobs\":true,\"top_logprobs\":2,\"stream\":true}");
    say_accepted(&house, 1, 0);
    say_token(&house, 1, "h", 0);
    snprintf(text, sizeof text, "\"delta\":{\"content\":\"h\"},\"logprobs\":{\"content\":[%s],",
             entry);
    assert_says(&told, text);
    say_done(&house, 1, TSR_REASON_END);
}

static void test_chat_history(void **state)
{
    (void)state;
    house_post(&house, &told, "/v1/chat/completions",
               "{\"messages\":[{\"role\":\"developer\",\"content\":\"d\"},{\"role\":\"user\","
               "\"content\":[{\"type\":\"text\",\"text\":\"a\"},{\"type\":\"text\",\"text\":\"b\"}]"
               "},{\"role\":\"assistant\",\"content\":null,\"reasoning_content\":\"r\","
               "\"tool_calls\":[{\"id\":\"c1\",\"type\":\"function\",\"function\":{\"name\":\"f\","
               "\"arguments\":\"{\\\"x\\\": [1, 2]}\"}}]},{\"role\":\"tool\",\"tool_call_id\":"
               "\"c1\",\"content\":\"3\"}],\"chat_template_kwargs\":{\"enable_thinking\":false}}");
    assert_string_equal(
        house_asked(&house, 0)->payload + 8,
        "{\"messages\":[{\"role\":\"system\",\"content\":\"d\"},{\"role\":\"user\",\"content\":"
        "\"a\\nb\"},{\"role\":\"assistant\",\"content\":\"\",\"reasoning_content\":\"r\","
        "\"tool_calls\":[{\"id\":\"c1\",\"type\":\"function\",\"function\":{\"name\":\"f\","
        "\"arguments\":{\"x\":[1,2]}}}]},{\"role\":\"tool\",\"content\":\"3\",\"tool_call_id\":"
        "\"c1\"}],\"enable_thinking\":false}");
    say_text(&house, 0, "x", TSR_REASON_END);
}

static void test_chat_reasoning(void **state)
{
    (void)state;
    struct tsr_wire_hello hello;
    house_close(&house);
    house_hello(&hello);
    hello.flags |= TSR_HELLO_REASONING;
    house_open(&house, &hello, 1, NULL);
    house_post(&house, &told, "/v1/chat/completions", "{" HI "}");
    say_text(&house, 0, "<think>\nwhy\n</think>\n\nso", TSR_REASON_END);
    assert_says(&told, "\"content\":\"so\",\"refusal\":null,\"reasoning_content\":\"why\","
                       "\"reasoning\":\"why\"}");
    house_post(&house, &told, "/v1/chat/completions", "{" HI ",\"stream\":true}");
    say_accepted(&house, 1, TSR_ACCEPTED_REASONING);
    say_token(&house, 1, "why", 0);
    assert_says(&told, "\"delta\":{\"reasoning_content\":\"why\",\"reasoning\":\"why\"}");
    say_token(&house, 1, "</think>", 0);
    say_token(&house, 1, "so", 0);
    assert_says(&told, "\"delta\":{\"content\":\"so\"}");
    say_done(&house, 1, TSR_REASON_END);
}

/* ---- Ends ---- */

static void test_chat_errors(void **state)
{
    (void)state;
    static const struct {
        enum tsr_code code;
        unsigned status;
        const char *says;
    } errors[] = {
        {TSR_CODE_INVALID, 400, "invalid_request_error"},
        {TSR_CODE_TOO_LARGE, 400, "context_length_exceeded"},
        {TSR_CODE_BUSY, 429, "engine_busy"},
        {TSR_CODE_UNSUPPORTED, 400, "unsupported"},
        {TSR_CODE_FORBIDDEN, 403, "forbidden"},
        {TSR_CODE_INTERNAL, 500, "server_error"},
        {TSR_CODE_SHUTDOWN, 503, "engine_unavailable"},
        {TSR_CODE_LIMIT, 429, "engine_limit"},
    };
    for (uint32_t i = 0; i < sizeof errors / sizeof errors[0]; i++) {
        house_post(&house, &told, "/v1/chat/completions",
                   i % 2 ? "{" HI "}" : "{" HI ",\"stream\":true}");
        say_error(&house, i, errors[i].code, "for a reason");
        assert_refused(&told, errors[i].status, NULL, errors[i].says);
        assert_says(&told, "for a reason");
        bool retry = errors[i].status == 429 || errors[i].status == 503;
        assert_int_equal(strstr(told.headers, "retry-after: 2\n") != NULL, retry);
    }
}

static void test_chat_breaks_in_a_stream(void **state)
{
    (void)state;
    house_post(&house, &told, "/v1/chat/completions",
               "{" HI ",\"stream\":true,\"stream_options\":{\"include_usage\":true}}");
    say_accepted(&house, 0, 0);
    say_token(&house, 0, "a", 0);
    say_done(&house, 0, TSR_REASON_ERROR);
    assert_true(told.ended);
    assert_int_equal(told.status, 200);
    assert_says(&told, "\n\ndata: {\"error\":{\"message\":\"it broke\",\"type\":\"server_error\"");
    assert_null(strstr(told.body, "[DONE]"));
    assert_null(strstr(told.body, "\"prompt_tokens\""));
}

static void test_chat_one_of_two_fails(void **state)
{
    (void)state;
    house_post(&house, &told, "/v1/chat/completions", "{" HI ",\"n\":2}");
    say_accepted(&house, 0, 0);
    say_error(&house, 1, TSR_CODE_BUSY, "full");
    assert_refused(&told, 429, NULL, "full");
    house_turn(&house);
    assert_true(house_asked(&house, 0)->cancelled);
}

static void test_chat_cancel(void **state)
{
    (void)state;
    house_post(&house, &told, "/v1/chat/completions", "{" HI ",\"stream\":true,\"n\":2}");
    say_accepted(&house, 0, 0);
    say_token(&house, 0, "a", 0);
    tsr_api_cancel(told.exchange);
    assert_int_equal(tsr_api_open(house.api), 0);
    tsr_api_flush(house.api); /* the same turn */
    house_engine_step(&house.engines[0]);
    assert_true(house_asked(&house, 0)->cancelled && house_asked(&house, 1)->cancelled);
    size_t size = told.size;
    house_turn(&house);
    assert_int_equal(told.size, size);
}

static void test_chat_cancel_before_it_is_sent(void **state)
{
    (void)state;
    struct tsr_api_request request = {.method = text_of("POST"),
                                      .path = text_of("/v1/chat/completions"),
                                      .host = text_of("localhost"),
                                      .body_bytes = TSR_API_UNKNOWN};
    static const char body[] = "{" HI "}";
    struct tsr_api_exchange *x = tsr_api_begin(house.api, &house_door, &told, &request, 1);
    assert_non_null(x);
    assert_true(tsr_api_body(x, body, 10, 1));
    tsr_api_cancel(x); /* in the middle of its body */
    x = tsr_api_begin(house.api, &house_door, &told, &request, 1);
    assert_true(tsr_api_body(x, body, sizeof body - 1, 1) && tsr_api_body_end(x, 1));
    tsr_api_cancel(x); /* before the turn's flush */
    house_turn(&house);
    assert_int_equal(house.engines[0].n_asked, 0);
}

static void test_chat_slow_reader(void **state)
{
    (void)state;
    house_post(&house, &told, "/v1/chat/completions", "{" HI ",\"stream\":true}");
    say_accepted(&house, 0, 0);
    uint32_t said = 0;
    while (say_token(&house, 0, "abcdefgh", 0)) { /* the door sends nothing */
        said++;
        assert_true(said < 2000);
    }
    assert_true(told.size >= 64 << 10 && told.size < (64 << 10) + 128 * 400);
    tsr_api_sent(told.exchange, told.size - 100, house.now_ns);
    house_turn(&house);
    assert_false(say_token(&house, 0, "x", 0)); /* still too much */
    tsr_api_sent(told.exchange, 1000, house.now_ns);
    house_turn(&house);
    assert_true(say_token(&house, 0, "x", 0));
    say_done(&house, 0, TSR_REASON_PARKED);
    assert_true(told.ended);
    assert_says(&told, "reader_too_slow");
}

static void test_chat_reader_that_keeps_up(void **state)
{
    (void)state;
    house_post(&house, &told, "/v1/chat/completions", "{" HI ",\"stream\":true}");
    say_accepted(&house, 0, 0);
    for (int i = 0; i < 1000; i++) {
        assert_true(say_token(&house, 0, "a", 0));
        tsr_api_sent(told.exchange, 0, house.now_ns);
    }
    say_done(&house, 0, TSR_REASON_LENGTH);
    assert_true(told.ended);
}

static void test_chat_whole_needs_no_reader(void **state)
{
    (void)state;
    house_post(&house, &told, "/v1/chat/completions", "{" HI "}");
    say_accepted(&house, 0, 0);
    for (int i = 0; i < 1000; i++) {
        assert_true(say_token(&house, 0, "a", 0));
    }
    say_done(&house, 0, TSR_REASON_LENGTH);
    assert_says(&told, "\"completion_tokens\":1000");
}

static void test_chat_long_prompt(void **state)
{
    (void)state;
    enum { CHARS = 300000 };
    char *body = malloc(CHARS + 200);
    int n = sprintf(body, "{\"messages\":[{\"role\":\"user\",\"content\":\"");
    memset(body + n, 'x', CHARS);
    strcpy(body + n + CHARS, "\"}]}");
    house_post(&house, &told, "/v1/chat/completions", body);
    const struct asked *asked = house_asked(&house, 0);
    for (int i = 0; i < 100 && asked->got < asked->submit.payload_bytes; i++) {
        assert_true(tsr_api_wake_ns(house.api) <= house.now_ns + 1000000);
        house_turn(&house); /* the ring has 64 KiB */
    }
    assert_int_equal(asked->got, asked->submit.payload_bytes);
    assert_int_equal(strlen(asked->payload + 8), asked->submit.payload_bytes - 8);
    assert_true(tsr_api_wake_ns(house.api) == UINT64_MAX);
    say_text(&house, 0, "x", TSR_REASON_END);
    assert_int_equal(told.status, 200);
    free(body);
}

/* ---- Engines ---- */

static void test_engine_gone(void **state)
{
    (void)state;
    struct tsr_wire_hello hello;
    static struct told whole;
    house_post(&house, &told, "/v1/chat/completions", "{" HI ",\"stream\":true}");
    house_post(&house, &whole, "/v1/chat/completions", "{" HI "}");
    say_accepted(&house, 0, 0);
    say_token(&house, 0, "a", 0);
    house_engine_close(&house.engines[0]);
    for (int i = 0; i < HOUSE_TURNS && !(told.ended && whole.ended); i++) {
        house_turn(&house);
        usleep(500);
    }
    assert_true(told.ended);
    assert_says(&told, "data: {\"error\":{\"message\":\"the engine went away");
    assert_refused(&whole, 503, NULL, "engine_unavailable");
    assert_non_null(strstr(whole.headers, "retry-after: 2\n"));
    house_get(&house, &told, "/ready");
    assert_refused(&told, 503, NULL, "not_ready");
    house_post(&house, &told, "/v1/chat/completions", "{" HI "}");
    assert_refused(&told, 503, NULL, "engine_unavailable");
    house_get(&house, &told, "/v1/models");
    assert_says(&told, "\"connected\":false");

    house_hello(&hello);
    house_engine_open(&house.engines[0], &hello, 0);
    house_await(&house);
    house_post(&house, &told, "/v1/chat/completions", "{\"model\":\"echo\"," HI "}");
    say_text(&house, 0, "x", TSR_REASON_END);
    assert_int_equal(told.status, 200);
}

/* An engine that has stopped gathers requests at the door, but not all that the door can have. */
static void test_an_engine_leaves_room_for_another(void **state)
{
    (void)state;
    enum { MANY = 60 };
    static const char hog[] = "{\"model\":\"other\",\"prompt\":\"a\",\"n\":8}";
    static const char one[] = "{\"model\":\"echo\",\"prompt\":\"a\"}";
    struct tsr_api_exchange *waiting[MANY];
    struct tsr_wire_hello hellos[2];
    uint32_t n = 0;
    tear_down(NULL);
    house_hello(&hellos[0]);
    hellos[1] = hellos[0];
    strcpy(hellos[1].model, "other");
    house_open(&house, hellos, 2, NULL);
    for (; n < MANY; n++) {
        house_post(&house, &told, "/v1/completions", hog);
        if (told.status) {
            break;
        }
        waiting[n] = told.exchange;
    }
    assert_refused(&told, 503, NULL, "overloaded");
    assert_in_range(n, 25, 35); /* three quarters of all */
    house_post(&house, &told, "/v1/completions", one);
    say_text(&house, 0, "x", TSR_REASON_END);
    assert_int_equal(told.status, 200);

    while (n) { /* what it had can be had again */
        tsr_api_cancel(waiting[--n]);
    }
    for (; n < MANY / 2; n++) {
        house_post(&house, &told, "/v1/completions", one);
        assert_int_equal(told.status, 0);
        waiting[n] = told.exchange;
    }
    while (n) {
        tsr_api_cancel(waiting[--n]);
    }
}

static void test_two_engines(void **state)
{
    (void)state;
    struct tsr_wire_hello hellos[2];
    house_close(&house);
    house_hello(&hellos[0]);
    house_hello(&hellos[1]);
    house_open(&house, hellos, 2, NULL);
    house_get(&house, &told, "/v1/models");
    assert_says(&told, "{\"id\":\"echo\",");
    assert_says(&told, "{\"id\":\"echo-2\",");
    house_post(&house, &told, "/v1/chat/completions", "{" HI "}");
    assert_refused(&told, 400, "model", "'echo'");
    /* Which of them is the second depends on who was connected first. */
    house_post(&house, &told, "/v1/chat/completions", "{\"model\":\"echo-2\"," HI "}");
    assert_int_equal(house.engines[0].n_asked + house.engines[1].n_asked, 1);
    tsr_api_cancel(told.exchange);
    house_post(&house, &told, "/v1/chat/completions", "{\"model\":\"echo\"," HI "}");
    assert_true(house.engines[0].n_asked == 1 && house.engines[1].n_asked == 1);
    tsr_api_cancel(told.exchange);
    house_turn(&house);
}

static void test_more_than_the_channel_takes(void **state)
{
    (void)state;
    static struct told many[70];
    struct tsr_api_options options;
    struct tsr_wire_hello hello;
    house_close(&house);
    house_hello(&hello);
    tsr_api_options_init(&options);
    options.exchanges_max = 66;
    house_open(&house, &hello, 1, &options);
    for (int i = 0; i < 66; i++) {
        house_post(&house, &many[i], "/v1/completions", "{\"prompt\":\"a\",\"max_tokens\":1}");
        assert_int_equal(many[i].status, 0);
    }
    assert_int_equal(house.engines[0].n_asked, 64); /* two wait at the door */
    assert_true(tsr_api_wake_ns(house.api) == UINT64_MAX);
    house_post(&house, &told, "/v1/completions", "{\"prompt\":\"a\"}");
    assert_refused(&told, 503, NULL, "overloaded");
    say_text(&house, 0, "x", TSR_REASON_END);
    assert_int_equal(many[0].status, 200);
    assert_int_equal(house.engines[0].n_asked, 65);
    for (int i = 1; i < 66; i++) {
        tsr_api_cancel(many[i].exchange);
    }
    house_turn(&house);
    assert_int_equal(house.engines[0].n_asked, 65); /* the one that still waited was never sent */
}

static void test_engine_that_makes_no_sense(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < 4; i++) {
        house_post(&house, &told, "/v1/chat/completions",
                   i % 2 ? "{" HI ",\"stream\":true}" : "{" HI "}");
        if (i < 2) {
            say_token(&house, i, "a", 0);
        } else {
            say_done(&house, i, TSR_REASON_END); /* before it was accepted */
        }
        assert_refused(&told, 502, NULL, "makes no sense");
    }
    house_post(&house, &told, "/v1/chat/completions", "{" HI ",\"stream\":true}");
    say_accepted(&house, 4, 0);
    say_accepted(&house, 4, 0);
    assert_true(told.ended);
    assert_says(&told, "makes no sense");
    house_turn(&house);
}

static void test_drain(void **state)
{
    (void)state;
    house_post(&house, &told, "/v1/chat/completions", "{" HI "}");
    tsr_api_drain(house.api);
    static struct told other;
    house_post(&house, &other, "/v1/chat/completions", "{" HI "}");
    assert_refused(&other, 503, NULL, "shutting_down");
    house_get(&house, &other, "/ready");
    assert_refused(&other, 503, NULL, "shutting down");
    say_text(&house, 0, "x", TSR_REASON_END);
    assert_int_equal(told.status, 200);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_chat_whole, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_chat_stream, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_chat_choices, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_chat_logprobs, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_chat_history, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_chat_reasoning, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_chat_errors, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_chat_breaks_in_a_stream, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_chat_one_of_two_fails, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_chat_cancel, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_chat_cancel_before_it_is_sent, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_chat_slow_reader, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_chat_reader_that_keeps_up, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_chat_whole_needs_no_reader, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_chat_long_prompt, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_engine_gone, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_two_engines, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_an_engine_leaves_room_for_another, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_more_than_the_channel_takes, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_engine_that_makes_no_sense, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_drain, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
