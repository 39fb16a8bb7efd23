/* Every route's happy path but chat's and responses', and the refusals of all. */
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

/* ---- Refusals ---- */

#define HI  "\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}]"
#define F   "{\"type\":\"function\",\"function\":{\"name\":\"f\"}}"
#define MSG "{\"messages\":[{\"role\":"

static const struct refused {
    const char *path, *body;
    unsigned status;
    const char *param, *says;
} refused[] = {
    /* the body */
    {"/v1/chat/completions", "", 400, NULL, "not JSON"},
    {"/v1/chat/completions", "[]", 400, NULL, "must be a JSON object, not an array"},
    {"/v1/chat/completions", "{\"model\":\"echo\",}", 400, NULL, "not JSON"},
    {"/v1/chat/completions", "{" HI "," HI "}", 400, NULL, "not JSON"},
    {"/v1/chat/completions", "{\"model\":7}", 400, "model", "must be a string, not a number"},
    {"/v1/chat/completions", "{\"model\":\"gpt\"," HI "}", 404, "model", "there is 'echo'"},
    {"/v1/embeddings", "{\"model\":\"gpt\",\"input\":\"x\"}", 404, "model", "model_not_found"},
    /* messages */
    {"/v1/chat/completions", "{}", 400, "messages", "at least one"},
    {"/v1/chat/completions", "{\"messages\":[]}", 400, "messages", "at least one"},
    {"/v1/chat/completions", "{\"messages\":{}}", 400, "messages", "must be an array"},
    {"/v1/chat/completions", "{\"messages\":[1]}", 400, "messages[0]", "must be an object"},
    {"/v1/chat/completions", MSG "\"x\",\"content\":\"\"}]}", 400, "messages[0].role", "'x'"},
    {"/v1/chat/completions", "{\"messages\":[{\"content\":\"\"}]}", 400, "messages[0].role",
     "missing"},
    {"/v1/chat/completions", MSG "\"user\"}]}", 400, "messages[0].content", "missing"},
    {"/v1/chat/completions", MSG "\"user\",\"content\":7}]}", 400, "messages[0].content",
     "a string or an array of parts, not a number"},
    {"/v1/chat/completions",
     MSG "\"user\",\"content\":[{\"type\":\"image_url\",\"image_url\":{\"url\":\"\"}}]}]}", 400,
     "messages[0].content[0].type", "image_url"},
    {"/v1/chat/completions", MSG "\"user\",\"content\":[{\"type\":\"text\"}]}]}", 400,
     "messages[0].content[0].text", "no 'text'"},
    {"/v1/chat/completions",
     MSG "\"assistant\",\"tool_calls\":[{\"function\":{\"name\":\"f\",\"arguments\":7}}]}]}", 400,
     "messages[0].tool_calls[0].function.arguments", "must be a string"},
    /* types and ranges */
    {"/v1/chat/completions", "{" HI ",\"temperature\":\"1\"}", 400, "temperature",
     "must be a number, not a string"},
    {"/v1/chat/completions", "{" HI ",\"temperature\":2.5}", 400, "temperature", "from 0 to 2"},
    {"/v1/chat/completions", "{" HI ",\"temperature\":-1}", 400, "temperature", "from 0 to 2"},
    {"/v1/chat/completions", "{" HI ",\"top_p\":1.1}", 400, "top_p",
     "is 1.1; it must be from 0 to 1"},
    {"/v1/chat/completions", "{" HI ",\"verbosity\":\"high\"}", 400, "verbosity", "medium only"},
    {"/v1/chat/completions", "{" HI ",\"mirostat\":2}", 400, "mirostat", "not supported"},
    {"/v1/chat/completions", "{" HI ",\"n\":0}", 400, "n", "from 1 to 8"},
    {"/v1/chat/completions", "{" HI ",\"n\":9}", 400, "n", "from 1 to 8"},
    {"/v1/chat/completions", "{" HI ",\"n\":1.5}", 400, "n", "an integer, not 1.5"},
    {"/v1/chat/completions", "{" HI ",\"stream\":1}", 400, "stream", "a boolean"},
    {"/v1/chat/completions", "{" HI ",\"max_tokens\":0}", 400, "max_tokens", "from 1"},
    {"/v1/chat/completions", "{" HI ",\"max_completion_tokens\":\"9\"}", 400,
     "max_completion_tokens", "an integer, not a string"},
    {"/v1/chat/completions", "{" HI ",\"seed\":0.5}", 400, "seed", "an integer"},
    {"/v1/chat/completions", "{" HI ",\"stop\":7}", 400, "stop", "a string or an array"},
    {"/v1/chat/completions", "{" HI ",\"stop\":\"\"}", 400, "stop", "0 bytes"},
    {"/v1/chat/completions", "{" HI ",\"stop\":[\"a\",1]}", 400, "stop", "not a number"},
    {"/v1/chat/completions", "{" HI ",\"logit_bias\":{\"x\":1}}", 400, "logit_bias", "'x'"},
    {"/v1/chat/completions", "{" HI ",\"logit_bias\":{\"1000\":1}}", 400, "logit_bias", "1000"},
    {"/v1/chat/completions", "{" HI ",\"logit_bias\":{\"1\":101}}", 400, "logit_bias", "100"},
    {"/v1/chat/completions", "{" HI ",\"top_logprobs\":2}", 400, "top_logprobs", "logprobs"},
    {"/v1/chat/completions", "{" HI ",\"logprobs\":true,\"top_logprobs\":21}", 400, "top_logprobs",
     "to 20"},
    {"/v1/chat/completions", "{" HI ",\"stream_options\":{}}", 400, "stream_options", "stream"},
    {"/v1/chat/completions", "{" HI ",\"stream\":true,\"stream_options\":1}", 400, "stream_options",
     "an object"},
    /* what there is not */
    {"/v1/chat/completions", "{" HI ",\"response_format\":{\"type\":\"json_schema\"}}", 400,
     "response_format", "json_schema"},
    {"/v1/chat/completions", "{" HI ",\"response_format\":{\"type\":\"json_object\"}}", 400,
     "response_format", "not supported"},
    {"/v1/chat/completions", "{" HI ",\"modalities\":[\"text\",\"audio\"]}", 400, "modalities",
     "only"},
    {"/v1/chat/completions", "{" HI ",\"audio\":{\"voice\":\"x\"}}", 400, "audio", "supported"},
    {"/v1/chat/completions", "{" HI ",\"guided_json\":{\"a\":1}}", 400, "guided_json", "supported"},
    {"/v1/completions", "{\"prompt\":\"a\",\"min_tokens\":3}", 400, "min_tokens", "supported"},
    {"/v1/chat/completions", "{" HI ",\"chat_template\":\"x\"}", 400, "chat_template", "supported"},
    {"/v1/chat/completions", "{" HI ",\"chat_template_kwargs\":{\"messages\":1}}", 400,
     "chat_template_kwargs", "'messages'"},
    /* tools */
    {"/v1/chat/completions", "{" HI ",\"tools\":[{\"type\":\"web\"}]}", 400, "tools", "'web'"},
    {"/v1/chat/completions", "{" HI ",\"tools\":[{\"type\":\"function\"}]}", 400, "tools",
     "function' is missing"},
    {"/v1/chat/completions", "{" HI ",\"tools\":[" F "],\"tool_choice\":\"some\"}", 400,
     "tool_choice", "'some'"},
    {"/v1/chat/completions", "{" HI ",\"tool_choice\":\"required\"}", 400, "tool_choice",
     "no 'tools'"},
    {"/v1/chat/completions",
     "{" HI ",\"tools\":[" F "],\"tool_choice\":{\"type\":\"function\",\"function\":{\"name\":"
     "\"g\"}}}",
     400, "tool_choice", "'g'"},
    /* completions */
    {"/v1/completions", "{}", 400, "prompt", "missing"},
    {"/v1/completions", "{\"prompt\":\"\"}", 400, "prompt", "empty"},
    {"/v1/completions", "{\"prompt\":[]}", 400, "prompt", "empty"},
    {"/v1/completions", "{\"prompt\":[1,\"a\"]}", 400, "prompt", "entry 1"},
    {"/v1/completions", "{\"prompt\":[[1],\"a\"]}", 400, "prompt", "must be"},
    {"/v1/completions", "{\"prompt\":[1000]}", 400, "prompt", "0 to 999"},
    {"/v1/completions", "{\"prompt\":[[]]}", 400, "prompt", "without any token"},
    {"/v1/completions", "{\"prompt\":\"a\",\"suffix\":\"b\"}", 400, "suffix", "supported"},
    {"/v1/completions", "{\"prompt\":\"a\",\"best_of\":3}", 400, "best_of", "'n' (1)"},
    {"/v1/completions", "{\"prompt\":[1],\"echo\":true}", 400, "echo", "ids"},
    {"/v1/completions", "{\"prompt\":\"a\",\"echo\":true,\"logprobs\":1}", 400, "logprobs", "echo"},
    /* embeddings */
    {"/v1/embeddings", "{}", 400, "input", "missing"},
    {"/v1/embeddings", "{\"input\":{}}", 400, "input", "must be"},
    {"/v1/embeddings", "{\"input\":\"a\",\"dimensions\":2}", 400, "dimensions", "have 3"},
    {"/v1/embeddings", "{\"input\":\"a\",\"encoding_format\":\"hex\"}", 400, "encoding_format",
     "'hex'"},
    /* text */
    {"/tokenize", "{}", 400, "prompt", "some text"},
    {"/tokenize", "{\"prompt\":[1]}", 400, "prompt", "a string"},
    {"/detokenize", "{}", 400, "tokens", "missing"},
    {"/detokenize", "{\"tokens\":[-1]}", 400, "tokens", "entry 0"},
    {"/apply-template", "{}", 400, "messages", "at least one"},
};

static void test_refusals(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof refused / sizeof refused[0]; i++) {
        const struct refused *r = &refused[i];
        house_post(&house, &told, r->path, r->body);
        if (told.status != r->status) {
            print_error("%s %s\n", r->path, r->body);
        }
        assert_refused(&told, r->status, r->param, r->says);
        assert_null(told.exchange);
    }
    assert_int_equal(house.engines[0].n_asked, 0);
}

static void test_unknown_fields_and_nulls_are_ignored(void **state)
{
    (void)state;
    house_post(
        &house, &told, "/v1/chat/completions",
        "{" HI ",\"stop\":null,\"n\":null,\"temperature\":null,\"tools\":null,"
        "\"response_format\":{\"type\":\"text\"},\"modalities\":[\"text\"],\"audio\":null,"
        "\"store\":true,\"metadata\":{\"a\":\"b\"},\"service_tier\":\"auto\",\"user\":\"me\","
        "\"whatever\":[1,2,{}]}");
    say_text(&house, 0, "x", TSR_REASON_END);
    assert_int_equal(told.status, 200);
}

/* ---- Paths and methods ---- */

static void test_paths_and_methods(void **state)
{
    (void)state;
    house_get(&house, &told, "/v1/nothing");
    assert_refused(&told, 404, NULL, "there is no '/v1/nothing'");
    house_get(&house, &told, "/v1/chat/completions");
    assert_refused(&told, 405, NULL, "POST, OPTIONS");
    assert_non_null(strstr(told.headers, "allow: POST, OPTIONS\n"));
    house_post(&house, &told, "/health", "{}");
    assert_refused(&told, 405, NULL, "GET");
    house_ask(&house, &told, "DELETE", "/v1/models/echo", NULL, NULL);
    assert_refused(&told, 405, NULL, "DELETE");
    house_ask(&house, &told, "OPTIONS", "/v1/models", NULL, NULL);
    assert_int_equal(told.status, 204);
    assert_non_null(strstr(told.headers, "allow: GET, HEAD, OPTIONS\n"));
    house_get(&house, &told, "/health");
    assert_int_equal(told.status, 200);
    assert_string_equal(told.body, "ok\n");
    house_ask(&house, &told, "HEAD", "/health", NULL, NULL);
    assert_int_equal(told.status, 200);
    house_get(&house, &told, "/ready");
    assert_int_equal(told.status, 200);
    house_get(&house, &told, "/");
    assert_refused(&told, 404, NULL, "no page");
}

/* ---- Happy paths ---- */

static void test_models(void **state)
{
    (void)state;
    house_get(&house, &told, "/v1/models");
    assert_int_equal(told.status, 200);
    assert_says(&told, "{\"object\":\"list\",\"data\":[{\"id\":\"echo\",\"object\":\"model\",");
    assert_says(&told, "\"owned_by\":\"tessera\",\"max_model_len\":4096,\"meta\":{");
    assert_says(&told, "\"embedding\":{\"width\":3,\"pooling\":\"mean\"},\"chat\":true,\"tools\":"
                       "\"hermes\",\"reasoning\":false}");
    house_get(&house, &told, "/v1/models/echo");
    assert_int_equal(told.status, 200);
    assert_says(&told, "{\"id\":\"echo\",");
    assert_says(&told, "\"kernels\":\"ref\""); /* STATUS came meanwhile */
    house_get(&house, &told, "/v1/models/%65ch%6F");
    assert_int_equal(told.status, 200);
    house_get(&house, &told, "/v1/models/other");
    assert_refused(&told, 404, "model", "model_not_found");
}

static void test_models_of_odd_names(void **state)
{
    (void)state;
    struct tsr_wire_hello hello;
    tear_down(NULL);
    house_hello(&hello);
    strcpy(hello.model, "\xc3\xa9 \xff\n\"\xe2\x82"); /* a letter, no letter, cut in a letter */
    house_open(&house, &hello, 1, NULL);
    house_get(&house, &told, "/v1/models");
    assert_says(&told, "[{\"id\":\"\xc3\xa9 ??\\\"??\",");
    house_get(&house, &told, "/metrics");
    assert_says(&told, "engine_up{model_name=\"\xc3\xa9 ??\\\"??\"} 1\n");
    house_post(&house, &told, "/v1/completions",
               "{\"model\":\"\xc3\xa9 ??\\\"??\",\"prompt\":\"a\",\"top_p\":0}");
    assert_true(house_asked(&house, 0)->submit.top_p > 0);
    say_text(&house, 0, "x", TSR_REASON_END);
    assert_int_equal(told.status, 200);
}

static void test_completion_options(void **state)
{
    (void)state;
    house_post(&house, &told, "/v1/completions",
               "{\"model\":\"\",\"prompt\":\"abc\",\"max_tokens\":9,\"temperature\":0.5,\"top_p\":"
               "0.25,\"top_k\":-1,\"min_p\":0.125,\"seed\":-3,\"presence_penalty\":1,"
               "\"frequency_penalty\":-1,\"repetition_penalty\":1.5,\"stop\":[\"x\",\"yz\"],"
               "\"logit_bias\":{\"7\":-100,\"8\":2.5},\"ignore_eos\":true,\"priority\":-2}");
    const struct asked *asked = house_asked(&house, 0);
    assert_int_equal(asked->submit.kind, TSR_PAYLOAD_TEXT);
    assert_string_equal(asked->payload, "abc");
    assert_int_equal(asked->submit.tokens_max, 9);
    assert_true(asked->submit.temperature == 0.5f && asked->submit.top_p == 0.25f);
    assert_true(asked->submit.min_p == 0.125f && asked->submit.top_k == 0);
    assert_int_equal(asked->submit.seed, (uint64_t)-3);
    assert_true(asked->submit.presence_penalty == 1 && asked->submit.frequency_penalty == -1);
    assert_true(asked->submit.repetition_penalty == 1.5f);
    assert_int_equal(asked->submit.flags,
                     TSR_SUBMIT_SEEDED | TSR_SUBMIT_SPECIAL | TSR_SUBMIT_IGNORE_END);
    assert_int_equal(asked->submit.priority, 130);
    assert_string_equal(asked->stops, "x|yz|");
    assert_int_equal(asked->submit.bias_count, 2);
    assert_int_equal(asked->biases[0].token, 7);
    assert_true(asked->biases[0].bias == -100 && asked->biases[1].bias == 2.5f);
    say_text(&house, 0, "no", TSR_REASON_STOP);
    assert_says(&told, "\"object\":\"text_completion\"");
    assert_says(&told, "\"choices\":[{\"index\":0,\"text\":\"no\",\"logprobs\":null,"
                       "\"finish_reason\":\"stop\"}]");
    assert_says(&told, "\"usage\":{\"prompt_tokens\":7,\"completion_tokens\":2,");
}

static void test_completion_defaults(void **state)
{
    (void)state;
    house_post(&house, &told, "/v1/completions", "{\"prompt\":[3,4]}");
    const struct asked *asked = house_asked(&house, 0);
    const uint32_t ids[] = {3, 4};
    assert_int_equal(asked->submit.kind, TSR_PAYLOAD_TOKENS);
    assert_int_equal(asked->submit.payload_bytes, sizeof ids);
    assert_memory_equal(asked->payload, ids, sizeof ids);
    assert_int_equal(asked->submit.tokens_max, 16);
    assert_true(asked->submit.temperature == 0.8f && asked->submit.top_p == 0.95f);
    assert_true(asked->submit.min_p == 0.05f && asked->submit.repetition_penalty == 1);
    assert_int_equal(asked->submit.top_k, 40);
    assert_int_equal(asked->submit.flags, 0);
    assert_int_equal(asked->submit.priority, 128);
    assert_int_equal(asked->submit.credit, 64);
    say_text(&house, 0, "x", TSR_REASON_END);
    assert_int_equal(told.status, 200);
}

static void test_who_says_something_gets_the_rest_as_it_is(void **state)
{
    (void)state;
    house_post(&house, &told, "/v1/completions", "{\"prompt\":[3,4],\"temperature\":0.7}");
    const struct asked *asked = house_asked(&house, 0);
    assert_true(asked->submit.temperature == 0.7f && asked->submit.top_p == 1);
    assert_true(asked->submit.min_p == 0 && asked->submit.repetition_penalty == 1);
    assert_int_equal(asked->submit.top_k, 0);
    say_text(&house, 0, "x", TSR_REASON_END);
}

static void test_defaults_that_the_model_advises(void **state)
{
    (void)state;
    struct tsr_wire_hello hello;
    tear_down(NULL);
    house_hello(&hello);
    hello.flags |= TSR_HELLO_SAMPLING;
    hello.temperature = 0.6f;
    hello.top_p = hello.repetition_penalty = 1;
    hello.top_k = 20;
    house_open(&house, &hello, 1, NULL);
    house_post(&house, &told, "/v1/completions", "{\"prompt\":[3,4]}");
    const struct asked *asked = house_asked(&house, 0);
    assert_true(asked->submit.temperature == 0.6f && asked->submit.top_p == 1);
    assert_true(asked->submit.min_p == 0 && asked->submit.repetition_penalty == 1);
    assert_int_equal(asked->submit.top_k, 20);
    say_text(&house, 0, "x", TSR_REASON_END);
    house_post(&house, &told, "/v1/completions",
               "{\"prompt\":[3,4],\"temperature\":1,\"top_k\":-1}");
    asked = house_asked(&house, 1);
    assert_true(asked->submit.temperature == 1 && asked->submit.top_k == 0);
    say_text(&house, 1, "x", TSR_REASON_END);
}

static void test_completion_prompts_and_choices(void **state)
{
    (void)state;
    house_post(&house, &told, "/v1/completions",
               "{\"prompt\":[\"ab\",\"cd\"],\"n\":2,\"echo\":true,\"seed\":5}");
    assert_int_equal(house.engines[0].n_asked, 4);
    static const char *const prompts[] = {"ab", "ab", "cd", "cd"};
    for (uint32_t i = 0; i < 4; i++) {
        assert_string_equal(house_asked(&house, i)->payload, prompts[i]);
        assert_int_equal(house_asked(&house, i)->submit.seed, 5 + i);
    }
    for (uint32_t i = 4; i-- > 0;) { /* answers come as they come */
        char text[2] = {(char)('w' + (char)i), 0};
        say_text(&house, i, text, TSR_REASON_LENGTH);
    }
    assert_says(&told, "{\"index\":0,\"text\":\"abw\"");
    assert_says(&told, "{\"index\":3,\"text\":\"cdz\"");
    assert_says(&told, "\"prompt_tokens\":14,\"completion_tokens\":4,\"total_tokens\":18");
}

static void test_completion_logprobs(void **state)
{
    (void)state;
    house_post(&house, &told, "/v1/completions", "{\"prompt\":\"a\",\"logprobs\":2}");
    say_text(&house, 0, "hi", TSR_REASON_END);
    assert_says(&told, "\"logprobs\":{\"tokens\":[\"h\",\"i\"],\"token_logprobs\":[-0.5,-0.5],"
                       "\"top_logprobs\":[{\"h\":-0.5,\"z\":-1.25},{\"i\":-0.5,\"z\":-1.25}],"
                       "\"text_offset\":[0,1]}");
    house_post(&house, &told, "/v1/completions", "{\"prompt\":\"a\",\"logprobs\":0}");
    say_text(&house, 1, "h", TSR_REASON_END);
    assert_says(&told, "\"top_logprobs\":[{\"h\":-0.5}]");
    house_post(&house, &told, "/v1/completions", "{\"prompt\":\"a\",\"logprobs\":2}");
    say_text(&house, 2, "z", TSR_REASON_END); /* also the text of the other alternative */
    assert_says(&told, "\"top_logprobs\":[{\"z\":-0.5}]");
}

static void test_completion_stream(void **state)
{
    (void)state;
    house_post(&house, &told, "/v1/completions",
               "{\"prompt\":\"a\",\"stream\":true,\"echo\":true,\"stream_options\":"
               "{\"include_usage\":true}}");
    say_accepted(&house, 0, 0);
    assert_says(&told, "\"choices\":[{\"index\":0,\"text\":\"a\",\"logprobs\":null,"
                       "\"finish_reason\":null}],\"usage\":null}\n\n");
    say_token(&house, 0, "b", 0);
    assert_int_equal(told.pieces, 2);
    say_done(&house, 0, TSR_REASON_END);
    assert_true(told.ended);
    assert_says(&told, "\"text\":\"\",\"logprobs\":null,\"finish_reason\":\"stop\"}]");
    assert_says(&told, "\"choices\":[],\"usage\":{\"prompt_tokens\":7,\"completion_tokens\":1,");
}

static void say_embedding(uint32_t i, float first)
{
    struct tsr_channel *channel = house.engines[0].channel;
    uint32_t bytes = (uint32_t)sizeof(struct tsr_wire_embedding) + 12;
    say_accepted(&house, i, 0);
    struct tsr_wire_embedding *event = tsr_channel_reserve(channel, bytes);
    const float values[] = {first, 0.5f, -1};
    event->request = house_asked(&house, i)->id;
    event->first = event->reserved = 0;
    event->count = event->total = 3;
    memcpy(event->values, values, sizeof values);
    tsr_channel_commit(channel, TSR_EV_EMBEDDING, bytes);
    say_done(&house, i, TSR_REASON_EMBEDDED);
}

static void test_embeddings(void **state)
{
    (void)state;
    house_post(&house, &told, "/v1/embeddings",
               "{\"model\":\"echo\",\"input\":[\"a\",\"b\"],\"dimensions\":3}");
    assert_int_equal(house.engines[0].n_asked, 2);
    assert_int_equal(house_asked(&house, 0)->submit.flags, TSR_SUBMIT_EMBED);
    say_embedding(1, 2);
    say_embedding(0, 1);
    assert_string_equal(
        told.body, "{\"object\":\"list\",\"data\":[{\"object\":\"embedding\",\"index\":0,"
                   "\"embedding\":[1,0.5,-1]},{\"object\":\"embedding\",\"index\":1,\"embedding\":"
                   "[2,0.5,-1]}],\"model\":\"echo\",\"usage\":{\"prompt_tokens\":14,"
                   "\"total_tokens\":14}}");
    house_forget(&house);
    house_post(&house, &told, "/v1/embeddings", "{\"input\":[5,6],\"encoding_format\":\"base64\"}");
    say_embedding(0, 1);
    assert_says(&told, "\"embedding\":\"AACAPwAAAD8AAIC/\"");
}

static void test_embeddings_more_than_at_once(void **state)
{
    (void)state;
    char body[512] = "{\"input\":[";
    for (int i = 0; i < 40; i++) {
        sprintf(body + strlen(body), "%s\"%d\"", i ? "," : "", i);
    }
    strcat(body, "]}");
    house_post(&house, &told, "/v1/embeddings", body);
    assert_int_equal(house.engines[0].n_asked, 16);
    for (uint32_t i = 0; i < 40; i++) {
        char text[8];
        sprintf(text, "%u", i);
        assert_string_equal(house_asked(&house, i)->payload, text);
        say_embedding(i, (float)i);
    }
    assert_true(told.ended);
    assert_says(&told, "\"index\":39,\"embedding\":[39,0.5,-1]}]");
    assert_says(&told, "\"prompt_tokens\":280,");
}

static void say_tokens(uint32_t i, uint32_t first, const char *text)
{
    struct tsr_channel *channel = house.engines[0].channel;
    uint32_t n = (uint32_t)strlen(text);
    uint32_t bytes = (uint32_t)(sizeof(struct tsr_wire_tokens) + n * 9);
    struct tsr_wire_tokens *event = tsr_channel_reserve(channel, bytes);
    struct tsr_wire_piece *pieces = (void *)(event + 1);
    event->request = house_asked(&house, i)->id;
    event->first = first;
    event->count = event->text_bytes = n;
    event->total = 4;
    for (uint32_t k = 0; k < n; k++) {
        pieces[k] = (struct tsr_wire_piece){100 + first + k, 1};
    }
    memcpy(pieces + n, text, n);
    tsr_channel_commit(channel, TSR_EV_TOKENS, bytes);
    house_turn(&house);
}

static void test_tokenize(void **state)
{
    (void)state;
    house_post(&house, &told, "/tokenize", "{\"prompt\":\"abcd\",\"return_token_strs\":true}");
    assert_int_equal(house_asked(&house, 0)->submit.flags,
                     TSR_SUBMIT_TOKENIZE | TSR_SUBMIT_PIECES | TSR_SUBMIT_SPECIAL);
    say_tokens(0, 0, "ab");
    say_tokens(0, 2, "cd");
    say_done(&house, 0, TSR_REASON_TOKENIZED);
    assert_string_equal(told.body, "{\"count\":4,\"max_model_len\":4096,\"tokens\":[100,101,102,"
                                   "103],\"token_strs\":[\"a\",\"b\",\"c\",\"d\"]}");
    house_post(&house, &told, "/tokenize", "{\"content\":\"ab\"}");
    assert_int_equal(house_asked(&house, 1)->submit.flags,
                     TSR_SUBMIT_TOKENIZE | TSR_SUBMIT_SPECIAL | TSR_SUBMIT_NO_BOS);
    say_tokens(1, 0, "ab");
    say_done(&house, 1, TSR_REASON_TOKENIZED);
    assert_says(&told, "\"tokens\":[100,101],\"token_strs\":null}");
    house_post(&house, &told, "/tokenize", "{" HI ",\"add_generation_prompt\":false}");
    assert_int_equal(house_asked(&house, 2)->submit.kind, TSR_PAYLOAD_CHAT);
    assert_int_equal(house_asked(&house, 2)->submit.flags,
                     TSR_SUBMIT_TOKENIZE | TSR_SUBMIT_NO_TURN);
    say_tokens(2, 0, "a");
    say_done(&house, 2, TSR_REASON_TOKENIZED);
    assert_says(&told, "\"count\":1,");
}

static void say_written(uint32_t i, const char *text)
{
    struct tsr_channel *channel = house.engines[0].channel;
    uint32_t n = (uint32_t)strlen(text);
    uint32_t bytes = (uint32_t)sizeof(struct tsr_wire_text) + n;
    struct tsr_wire_text *event = tsr_channel_reserve(channel, bytes);
    event->request = house_asked(&house, i)->id;
    event->offset = event->reserved = 0;
    event->text_bytes = event->total = n;
    memcpy(event->text, text, n);
    tsr_channel_commit(channel, TSR_EV_TEXT, bytes);
    say_done(&house, i, TSR_REASON_WRITTEN);
}

static void test_detokenize_and_template(void **state)
{
    (void)state;
    house_post(&house, &told, "/detokenize", "{\"tokens\":[1,2]}");
    assert_int_equal(house_asked(&house, 0)->submit.flags,
                     TSR_SUBMIT_DETOKENIZE | TSR_SUBMIT_SHOW_SPECIAL);
    say_written(0, "a\nb");
    assert_string_equal(told.body, "{\"prompt\":\"a\\nb\",\"content\":\"a\\nb\"}");
    house_post(&house, &told, "/detokenize", "{\"tokens\":[]}");
    assert_string_equal(told.body, "{\"prompt\":\"\",\"content\":\"\"}");
    house_post(&house, &told, "/apply-template", "{" HI "}");
    assert_int_equal(house_asked(&house, 1)->submit.flags, TSR_SUBMIT_RENDER);
    say_written(1, "<s>hi");
    assert_string_equal(told.body, "{\"prompt\":\"<s>hi\"}");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_refusals, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_unknown_fields_and_nulls_are_ignored, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_paths_and_methods, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_models, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_models_of_odd_names, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_completion_options, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_completion_defaults, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_defaults_that_the_model_advises, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_who_says_something_gets_the_rest_as_it_is, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_completion_prompts_and_choices, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_completion_logprobs, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_completion_stream, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_embeddings, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_embeddings_more_than_at_once, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_tokenize, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_detokenize_and_template, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
