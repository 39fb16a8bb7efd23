#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "fake_engine.h"

#include <tessera.h>

#include <math.h>
#include <sched.h>

static struct fake_engine engine;
static struct tessera_error err;

static int start(void **state)
{
    (void)state;
    return fake_prepare(&engine, NULL) || fake_start_thread(&engine);
}

static int stop(void **state)
{
    (void)state;
    fake_stop_thread(&engine);
    return 0;
}

static struct tessera *connect_with(uint32_t credit)
{
    struct tessera_connect_options options;
    tessera_connect_options_init(&options);
    options.credit = credit;
    struct tessera *t = NULL;
    if (tessera_connect(&t, engine.path, &options, &err) != 0) {
        fail_msg("%s", err.text);
    }
    return t;
}

/* Takes events of one request to its end; the text in `out` (NUL-terminated). */
static struct tessera_event finish(struct tessera *t, uint64_t id, char *out, size_t room)
{
    struct tessera_event event;
    size_t used = 0;
    for (;;) {
        int got = tessera_wait(t, &event, 20000, &err);
        if (got != 1) {
            fail_msg("wait: %d %s", got, got < 0 ? err.text : "");
        }
        assert_int_equal(event.id, id);
        if (event.kind == TESSERA_TOKEN && out) {
            assert_true(used + event.text_bytes < room);
            memcpy(out + used, event.text, event.text_bytes);
            used += event.text_bytes;
        }
        if (event.kind == TESSERA_DONE || event.kind == TESSERA_FAILED) {
            if (out) {
                out[used] = '\0';
            }
            return event;
        }
    }
}

/* ---- Refusals ---- */

static void test_client_names_a_missing_engine(void **state)
{
    (void)state;
    struct tessera *t = (void *)1;
    assert_int_equal(tessera_connect(&t, "/nonexistent/engine.sock", NULL, &err), -ENOENT);
    assert_null(t);
    assert_non_null(strstr(err.text, "/nonexistent/engine.sock"));
    assert_int_equal(tessera_connect(&t, "/nonexistent/engine.sock", NULL, NULL), -ENOENT);
    struct tessera_connect_options options = {0};
    assert_int_equal(tessera_connect(&t, engine.path, &options, &err), -EINVAL);
    char longer[200];
    memset(longer, 'x', sizeof longer - 1);
    longer[sizeof longer - 1] = '\0';
    assert_int_equal(tessera_connect(&t, longer, NULL, &err), -EINVAL);
    assert_int_equal(tessera_connect(&t, "/dev/null", NULL, &err), -ECONNREFUSED);
    tessera_close(NULL);
}

static void test_client_refuses_bad_requests(void **state)
{
    (void)state;
    struct tessera *t = connect_with(256);
    struct tessera_options o;
    tessera_options_init(&o);
    assert_int_equal(tessera_submit_text(t, "", 0, NULL, &err), 0);
    assert_int_equal(err.code, -EINVAL);
    char *large = calloc(1, FAKE_PAYLOAD_MAX + 1);
    assert_int_equal(tessera_submit_text(t, large, FAKE_PAYLOAD_MAX + 1, NULL, &err), 0);
    assert_int_equal(err.code, -E2BIG);
    free(large);
    struct {
        float *field;
        float value;
        const char *name;
    } const cases[] = {
        {&o.temperature, -1, "temperature"},
        {&o.temperature, NAN, "temperature"},
        {&o.top_p, 0, "top_p"},
        {&o.top_p, 1.5f, "top_p"},
        {&o.min_p, -0.1f, "min_p"},
        {&o.repetition_penalty, 0, "repetition_penalty"},
        {&o.presence_penalty, 11, "presence_penalty"},
        {&o.frequency_penalty, -INFINITY, "frequency_penalty"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        tessera_options_init(&o);
        *cases[i].field = cases[i].value;
        assert_int_equal(tessera_submit_text(t, "a", 1, &o, &err), 0);
        assert_int_equal(err.code, -EINVAL);
        assert_non_null(strstr(err.text, cases[i].name));
    }
    tessera_options_init(&o);
    const char *const stops[] = {"fine", ""};
    o.stops = stops;
    o.stop_count = 2;
    assert_int_equal(tessera_submit_text(t, "a", 1, &o, &err), 0);
    assert_non_null(strstr(err.text, "stop string 2"));
    tessera_options_init(&o);
    o.top_logprobs = 21;
    assert_int_equal(tessera_submit_text(t, "a", 1, &o, &err), 0);
    memset(&o, 0, sizeof o);
    assert_int_equal(tessera_submit_text(t, "a", 1, &o, &err), 0);
    const struct tessera_message nobody = {"", "text"};
    assert_int_equal(tessera_submit_chat(t, &nobody, 1, NULL, &err), 0);
    assert_int_equal(err.code, -EINVAL);
    assert_int_equal(tessera_submit_chat(t, NULL, 0, NULL, &err), 0);
    assert_int_equal(tessera_live(t), 0);
    struct tessera_event event;
    assert_int_equal(tessera_wait(t, &event, -1, &err), 0); /* nothing can come */
    assert_int_equal(tessera_cancel(t, 12345, &err), 0);
    tessera_close(t);
}

static void test_client_limits_live_requests(void **state)
{
    (void)state;
    struct tessera *t = connect_with(256);
    struct tessera_info info;
    tessera_info(t, &info);
    for (uint32_t i = 0; i < info.requests_max; i++) {
        assert_int_not_equal(tessera_submit_text(t, "hello", 5, NULL, &err), 0);
    }
    assert_int_equal(tessera_submit_text(t, "hello", 5, NULL, &err), 0);
    assert_int_equal(err.code, -EAGAIN);
    struct tessera_status status;
    assert_int_equal(tessera_status(t, &status, 1000, &err), -EAGAIN);
    struct tessera_event event;
    uint32_t done = 0;
    while (tessera_wait(t, &event, 10000, &err) == 1) {
        done += event.kind == TESSERA_DONE;
    }
    assert_int_equal(done, info.requests_max);
    assert_int_not_equal(tessera_submit_text(t, "hello", 5, NULL, &err), 0);
    tessera_close(t);
}

static void test_client_hears_that_the_model_loads(void **state)
{
    (void)state;
    struct fake_engine other;
    assert_int_equal(fake_prepare(&other, NULL), 0);
    other.loads = true;
    assert_int_equal(fake_open(&other), 0);
    tsr_door_set_loading(other.door, 437, "reading model.gguf");
    assert_int_equal(pthread_create(&other.thread, NULL, fake_run, &other), 0);
    struct tessera *t;
    assert_int_equal(tessera_connect(&t, other.path, NULL, &err), -EAGAIN);
    assert_int_equal(err.permille, 437);
    assert_true(err.retry_ms > 0);
    assert_string_equal(err.text, "reading model.gguf (43.7 %)");
    fake_stop_thread(&other);
}

/* ---- Answers ---- */

static void test_client_gets_its_text_back(void **state)
{
    (void)state;
    struct tessera *t = connect_with(256);
    char out[8192], in[5001];
    for (int i = 0; i < 5000; i++) {
        in[i] = (char)('a' + i % 26);
    }
    in[5000] = '\0';
    uint64_t id = tessera_submit_text(t, in, 5000, NULL, &err);
    assert_int_not_equal(id, 0);
    assert_int_equal(tessera_live(t), 1);
    struct tessera_event end = finish(t, id, out, sizeof out);
    assert_string_equal(out, in);
    assert_int_equal(end.kind, TESSERA_DONE);
    assert_int_equal(end.reason, TESSERA_END);
    assert_int_equal(end.prompt_tokens, 5000);
    assert_int_equal(end.completion_tokens, 5000);
    assert_int_equal(tessera_live(t), 0);
    assert_string_equal(tessera_reason_name(end.reason), "end");
    tessera_close(t);
}

/* Options that are those of the last submit are not built again: no trace of others may stay. */
static void test_client_asks_again_with_other_options(void **state)
{
    (void)state;
    struct tessera *t = connect_with(256);
    struct tessera_options three, five, bad, stopped;
    const char *stops[] = {"d"};
    tessera_options_init(&three);
    three.tokens_max = 3;
    five = bad = stopped = three;
    five.tokens_max = 5;
    bad.temperature = -1;
    stopped.stops = stops;
    stopped.stop_count = 1;
    const struct {
        const struct tessera_options *options;
        const char *text;
        uint32_t tokens; /* 0: refused */
    } asked[] = {{&three, "abcdefgh", 3}, {&three, "xy", 2},       {&five, "abcdefgh", 5},
                 {&bad, "abcdefgh", 0},   {&five, "abcdefgh", 5},  {&stopped, "abcdefgh", 3},
                 {&stopped, "abcd", 3},   {&three, "abcdefgh", 3}, {NULL, "abcdefgh", 8}};
    for (size_t i = 0; i < sizeof asked / sizeof *asked; i++) {
        char out[16];
        uint64_t id =
            tessera_submit_text(t, asked[i].text, strlen(asked[i].text), asked[i].options, &err);
        assert_int_equal(id != 0, asked[i].tokens > 0);
        if (id) {
            assert_int_equal(finish(t, id, out, sizeof out).completion_tokens, asked[i].tokens);
            assert_memory_equal(out, asked[i].text, asked[i].tokens);
        }
    }
    tessera_close(t);
}

static void test_client_sends_prompts_longer_than_the_ring(void **state)
{
    (void)state;
    struct tessera *t = connect_with(256);
    size_t bytes = 1 << 20;
    uint32_t *tokens = malloc(bytes);
    for (size_t i = 0; i < bytes / 4; i++) {
        tokens[i] = (uint32_t)(i * 2654435761u);
    }
    struct tessera_options o;
    tessera_options_init(&o);
    o.tokens_max = 1000;
    /* Three at once, and small ones behind them. */
    uint64_t ids[6];
    for (int i = 0; i < 3; i++) {
        ids[i] = tessera_submit_tokens(t, tokens, bytes / 4, &o, &err);
        assert_int_not_equal(ids[i], 0);
    }
    for (int i = 3; i < 6; i++) {
        ids[i] = tessera_submit_text(t, "short", 5, &o, &err);
        assert_int_not_equal(ids[i], 0);
    }
    assert_int_equal(tessera_timeout_ms(t), 1);
    assert_int_equal(tessera_cancel(t, ids[2], &err), 0);
    uint32_t got[6] = {0}, ends = 0;
    struct tessera_event event;
    while (tessera_wait(t, &event, 20000, &err) == 1) {
        int which = 0;
        while (ids[which] != event.id) {
            which++;
        }
        if (event.kind == TESSERA_TOKEN) {
            if (which < 3) {
                assert_int_equal(event.token, ((uint8_t *)tokens)[event.index]);
            }
            assert_int_equal(event.index, got[which]);
            got[which]++;
        } else if (event.kind == TESSERA_DONE) {
            ends++;
            assert_int_equal(event.reason, which == 2 ? TESSERA_CANCELLED : TESSERA_END);
        }
    }
    assert_int_equal(ends, 6);
    assert_int_equal(got[0], 1000);
    assert_int_equal(got[1], 1000);
    assert_int_equal(got[4], 5);
    assert_int_equal(tessera_timeout_ms(t), -1);
    free(tokens);
    tessera_close(t);
}

/* As many long answers at once as may be: the event ring is full most of the time, and the request
 * ring carries credits against it. */
static void test_client_takes_many_long_answers(void **state)
{
    (void)state;
    enum { LENGTH = 3000 };
    struct tessera *t = connect_with(64);
    static char text[LENGTH];
    memset(text, 'm', sizeof text);
    struct tessera_info info;
    tessera_info(t, &info);
    for (uint32_t i = 0; i < info.requests_max; i++) {
        assert_int_not_equal(tessera_submit_text(t, text, sizeof text, NULL, &err), 0);
    }
    usleep(20000); /* lets the engine run into the wall */
    uint64_t tokens = 0;
    uint32_t done = 0;
    struct tessera_event event;
    while (tessera_wait(t, &event, 20000, &err) == 1) {
        tokens += event.kind == TESSERA_TOKEN;
        done += event.kind == TESSERA_DONE;
    }
    assert_int_equal(done, info.requests_max);
    assert_int_equal(tokens, (uint64_t)info.requests_max * LENGTH);
    tessera_close(t);
}

static void test_client_sends_chats(void **state)
{
    (void)state;
    struct tessera *t = connect_with(256);
    const struct tessera_message chat[] = {{"system", "Be brief."}, {"user", "Hi \xc3\xa9"}};
    struct tessera_options o;
    tessera_options_init(&o);
    o.template_json = "{\"today\":1}";
    uint64_t id = tessera_submit_chat(t, chat, 2, &o, &err);
    assert_int_not_equal(id, 0);
    char out[512];
    struct tessera_event end = finish(t, id, NULL, 0);
    assert_int_equal(end.kind, TESSERA_DONE);
    /* The payload came back as it is on the wire: it opens as a chat. */
    id = tessera_submit_chat(t, chat, 2, &o, &err);
    uint8_t payload[512];
    size_t used = 0;
    struct tessera_event event;
    while (tessera_wait(t, &event, 10000, &err) == 1) {
        if (event.kind == TESSERA_TOKEN) {
            payload[used++] = (uint8_t)event.token;
        }
    }
    struct tsr_wire_chat opened;
    struct tsr_err why;
    assert_int_equal(tsr_wire_chat_open(&opened, payload, (uint32_t)used, &why), 0);
    struct tsr_wire_message message;
    assert_int_equal(tsr_wire_chat_next(&opened, &message), 1);
    assert_int_equal(message.role_bytes, 6);
    assert_int_equal(tsr_wire_chat_next(&opened, &message), 1);
    assert_memory_equal(message.content, "Hi \xc3\xa9", 5);
    assert_int_equal(tsr_wire_chat_next(&opened, &message), 0);
    const char *json;
    uint32_t bytes;
    tsr_wire_chat_extra(&opened, &json, &bytes);
    assert_int_equal(bytes, 11);
    assert_memory_equal(json, o.template_json, 11);
    (void)out;
    tessera_close(t);
}

static void test_client_gets_alternatives(void **state)
{
    (void)state;
    struct tessera *t = connect_with(256);
    struct tessera_options o;
    tessera_options_init(&o);
    o.top_logprobs = 5;
    const struct tessera_bias biases[] = {{1, 2.5f}, {2, -100}};
    const char *const stops[] = {"one", "three"};
    o.biases = biases;
    o.bias_count = 2;
    o.stops = stops;
    o.stop_count = 2;
    uint64_t id = tessera_submit_text(t, "x", 1, &o, &err);
    assert_int_not_equal(id, 0);
    struct tessera_event event;
    assert_int_equal(tessera_wait(t, &event, 10000, &err), 1);
    assert_int_equal(event.kind, TESSERA_ACCEPTED);
    assert_int_equal(event.seed, 42);
    assert_int_equal(event.prompt_tokens, 1);
    assert_int_equal(tessera_wait(t, &event, 10000, &err), 1);
    assert_int_equal(event.kind, TESSERA_TOKEN);
    assert_true(event.has_logprob && event.has_token);
    assert_float_equal(event.logprob, -0.5, 0);
    assert_int_equal(event.top_count, 5);
    for (uint32_t i = 0; i < 5; i++) {
        assert_int_equal(event.top[i].token, i);
        assert_int_equal(event.top[i].text_bytes, 2);
        assert_memory_equal(event.top[i].text, "ab", 2);
    }
    assert_int_equal(tessera_wait(t, &event, 10000, &err), 1);
    assert_int_equal(event.kind, TESSERA_DONE);
    tessera_close(t);
}

static void test_client_tokenizes(void **state)
{
    (void)state;
    struct tessera *t = connect_with(256);
    char in[1234];
    memset(in, 'k', sizeof in);
    uint64_t id = tessera_submit_tokenize(t, in, sizeof in, NULL, &err);
    assert_int_not_equal(id, 0);
    uint32_t seen = 0;
    struct tessera_event event;
    while (tessera_wait(t, &event, 10000, &err) == 1) {
        if (event.kind == TESSERA_TOKENS) {
            assert_int_equal(event.piece_first, seen);
            assert_int_equal(event.piece_total, sizeof in);
            for (uint32_t i = 0; i < event.piece_count; i++) {
                assert_int_equal(event.pieces[i].token, 'k');
                assert_int_equal(event.pieces[i].text_bytes, 1);
                assert_int_equal(event.pieces[i].text[0], 'k');
            }
            seen += event.piece_count;
        } else if (event.kind == TESSERA_DONE) {
            assert_int_equal(event.reason, TESSERA_TOKENIZED);
        }
    }
    assert_int_equal(seen, sizeof in);
    tessera_close(t);
}

static void test_client_takes_embeddings_and_texts(void **state)
{
    (void)state;
    struct tessera *t = connect_with(256);
    struct tessera_info info;
    tessera_info(t, &info);
    assert_int_equal(info.embedding_width, 1234);
    assert_int_equal(info.pooling, TESSERA_POOLING_LAST);
    assert_int_equal(info.tools, TESSERA_TOOLS_HERMES);
    char in[1234];
    memset(in, 'k', sizeof in);
    uint32_t ids[4] = {0x6b6b6b6b, 0x6b6b6b6b, 0x6b6b6b6b, 0x6b6b6b6b};
    struct tessera_message say = {"user", "kkk"};
    uint64_t embed = tessera_submit_embed(t, in, sizeof in, NULL, &err);
    uint64_t text = tessera_submit_detokenize(t, ids, 4, NULL, &err);
    uint64_t render = tessera_submit_render(t, &say, 1, NULL, &err);
    assert_true(embed && text && render);
    uint32_t values = 0, bytes = 0, ended = 0;
    struct tessera_event event;
    while (tessera_wait(t, &event, 10000, &err) == 1) {
        if (event.kind == TESSERA_EMBEDDING) {
            assert_true(event.id == embed && event.value_first == values);
            assert_int_equal(event.value_total, sizeof in);
            for (uint32_t i = 0; i < event.value_count; i++) {
                assert_true(event.values[i] == 'k');
            }
            values += event.value_count;
        } else if (event.kind == TESSERA_TEXT && event.id == text) {
            assert_int_equal(event.text_offset, bytes);
            assert_int_equal(event.text_total, sizeof ids);
            assert_memory_equal(event.text, in, event.text_bytes);
            bytes += event.text_bytes;
        } else if (event.kind == TESSERA_DONE) {
            assert_int_equal(event.reason, event.id == embed ? TESSERA_EMBEDDED : TESSERA_WRITTEN);
            ended++;
        }
    }
    assert_int_equal(values, sizeof in);
    assert_int_equal(bytes, sizeof ids);
    assert_int_equal(ended, 3);
    tessera_close(t);
}

static void test_client_grants_credit_by_hand(void **state)
{
    (void)state;
    struct tessera *t = connect_with(0);
    struct tessera_options o;
    tessera_options_init(&o);
    o.credit = 3;
    uint64_t id = tessera_submit_text(t, "abcdefgh", 8, &o, &err);
    struct tessera_event event;
    assert_int_equal(tessera_wait(t, &event, 10000, &err), 1);
    assert_int_equal(event.kind, TESSERA_ACCEPTED);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(tessera_wait(t, &event, 10000, &err), 1);
        assert_int_equal(event.kind, TESSERA_TOKEN);
    }
    assert_int_equal(tessera_wait(t, &event, 30, &err), 0);
    assert_int_equal(tessera_credit(t, id, 100, &err), 0);
    assert_int_equal(finish(t, id, NULL, 0).completion_tokens, 8);
    tessera_close(t);
}

static void test_client_cancels(void **state)
{
    (void)state;
    struct tessera *t = connect_with(0);
    struct tessera_options o;
    tessera_options_init(&o);
    o.credit = 2;
    uint64_t id = tessera_submit_text(t, "abcdefgh", 8, &o, &err);
    assert_int_equal(tessera_cancel(t, id, &err), 0);
    struct tessera_event end = finish(t, id, NULL, 0);
    assert_int_equal(end.reason, TESSERA_CANCELLED);
    assert_int_equal(tessera_cancel(t, id, &err), 0); /* not live any more */
    tessera_close(t);
}

static void test_client_asks_status_among_events(void **state)
{
    (void)state;
    struct tessera *t = connect_with(256);
    char in[3000], out[4000];
    memset(in, 'q', sizeof in);
    uint64_t id = tessera_submit_text(t, in, sizeof in, NULL, &err);
    struct tessera_status status;
    for (int i = 0; i < 20; i++) {
        assert_int_equal(tessera_status(t, &status, 10000, &err), 0);
        assert_string_equal(status.model, "echo");
        assert_int_equal(status.node_count, 1);
        assert_int_equal(status.nodes[0].bytes_2m, 4096);
        assert_int_equal(status.thread_count, 2);
        assert_string_equal(status.threads[0].name, "worker 0");
        assert_int_equal(status.threads[1].cpu, -1);
        assert_int_equal(status.requests_ended[TESSERA_STOP], 7);
        assert_int_equal(status.decode_ns, 9);
    }
    struct tessera_event end = finish(t, id, out, sizeof out);
    assert_int_equal(strlen(out), sizeof in);
    assert_int_equal(end.completion_tokens, sizeof in);
    tessera_close(t);
}

static void test_client_serves_an_event_loop(void **state)
{
    (void)state;
    struct tessera *t = connect_with(16);
    char in[2000];
    memset(in, 'z', sizeof in);
    assert_int_not_equal(tessera_submit_text(t, in, sizeof in, NULL, &err), 0);
    uint32_t tokens = 0;
    bool done = false;
    while (!done) {
        struct tessera_event event;
        int got;
        while ((got = tessera_poll(t, &event, &err)) > 0) {
            tokens += event.kind == TESSERA_TOKEN;
            done |= event.kind == TESSERA_DONE;
        }
        assert_int_equal(got, 0);
        if (!done && tessera_arm(t, &err) == 1) {
            struct pollfd wait = {.fd = tessera_fd(t), .events = POLLIN};
            assert_int_equal(poll(&wait, 1, 10000), 1);
        }
    }
    assert_int_equal(tokens, sizeof in);
    tessera_close(t);
}

static void test_client_polls_only_where_it_may(void **state)
{
    (void)state;
    struct fake_engine other;
    assert_int_equal(fake_prepare(&other, NULL), 0);
    other.hello.engine_cpus[0] = 2; /* CPU 1 */
    assert_int_equal(fake_start_thread(&other), 0);
    cpu_set_t before, one;
    assert_int_equal(sched_getaffinity(0, sizeof before, &before), 0);
    struct tessera *t;
    assert_int_equal(tessera_connect(&t, other.path, NULL, &err), 0);
    struct tessera_info info;
    if (CPU_ISSET(0, &before) && CPU_ISSET(1, &before)) {
        tessera_info(t, &info);
        assert_false(info.may_poll);
        CPU_ZERO(&one);
        CPU_SET(0, &one);
        assert_int_equal(sched_setaffinity(0, sizeof one, &one), 0);
        tessera_info(t, &info);
        assert_true(info.may_poll);
        uint64_t id = tessera_submit_text(t, "poll", 4, NULL, &err);
        assert_int_equal(finish(t, id, NULL, 0).reason, TESSERA_END);
        assert_int_equal(sched_setaffinity(0, sizeof before, &before), 0);
    }
    tessera_close(t);
    /* An engine that does not say is not polled at. */
    assert_int_equal(tessera_connect(&t, engine.path, NULL, &err), 0);
    tessera_info(t, &info);
    assert_false(info.may_poll);
    tessera_close(t);
    fake_stop_thread(&other);
}

/* ---- An engine that ends ---- */

static void test_client_hears_why_the_engine_stopped(void **state)
{
    (void)state;
    struct fake_engine other;
    assert_int_equal(fake_prepare(&other, NULL), 0);
    other.silent = true;
    assert_int_equal(fake_start_thread(&other), 0);
    struct tessera *t;
    assert_int_equal(tessera_connect(&t, other.path, NULL, &err), 0);
    assert_int_not_equal(tessera_submit_text(t, "a", 1, NULL, &err), 0);
    fake_stop_thread(&other);
    struct tessera_event event;
    assert_int_equal(tessera_wait(t, &event, 10000, &err), -EPIPE);
    assert_non_null(strstr(err.text, "the engine was stopped"));
    assert_int_equal(tessera_poll(t, &event, &err), -EPIPE);
    assert_int_equal(tessera_submit_text(t, "a", 1, NULL, &err), 0);
    assert_int_equal(err.code, -EPIPE);
    assert_int_equal(tessera_arm(t, &err), -EPIPE);
    tessera_close(t);
}

static void killed_while(enum tessera_wait_mode mode)
{
    struct fake_engine other;
    assert_int_equal(fake_prepare(&other, NULL), 0);
    other.silent = true;
    assert_int_equal(fake_start_process(&other), 0);
    struct tessera_connect_options options;
    tessera_connect_options_init(&options);
    options.wait_mode = mode;
    struct tessera *t;
    assert_int_equal(tessera_connect(&t, other.path, &options, &err), 0);
    assert_int_not_equal(tessera_submit_text(t, "a", 1, NULL, &err), 0);
    struct tessera_event event;
    assert_int_equal(tessera_wait(t, &event, 20, &err), 0);
    fake_kill_process(&other);
    assert_int_equal(tessera_wait(t, &event, 60000, &err), -EPIPE);
    assert_non_null(strstr(err.text, "the engine is gone"));
    tessera_close(t);
    fake_remove(&other);
}

static void test_client_sees_a_killed_engine(void **state)
{
    (void)state;
    killed_while(TESSERA_WAIT_SLEEP);
    killed_while(TESSERA_WAIT_POLL);
    killed_while(TESSERA_WAIT_AUTO);
}

static void test_client_sees_a_killed_engine_while_polling(void **state)
{
    (void)state;
    struct fake_engine other;
    assert_int_equal(fake_prepare(&other, NULL), 0);
    other.silent = true;
    assert_int_equal(fake_start_process(&other), 0);
    struct tessera *t;
    assert_int_equal(tessera_connect(&t, other.path, NULL, &err), 0);
    assert_int_not_equal(tessera_submit_text(t, "a", 1, NULL, &err), 0);
    fake_kill_process(&other);
    struct tessera_event event;
    int got;
    while ((got = tessera_poll(t, &event, &err)) == 0) {
        usleep(1000);
    }
    assert_int_equal(got, -EPIPE);
    tessera_close(t);
    assert_int_equal(tessera_connect(&t, other.path, NULL, &err), -ECONNREFUSED);
    assert_non_null(strstr(err.text, "start tessera-engine"));
    fake_remove(&other);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_client_names_a_missing_engine),
        cmocka_unit_test(test_client_refuses_bad_requests),
        cmocka_unit_test(test_client_limits_live_requests),
        cmocka_unit_test(test_client_hears_that_the_model_loads),
        cmocka_unit_test(test_client_gets_its_text_back),
        cmocka_unit_test(test_client_asks_again_with_other_options),
        cmocka_unit_test(test_client_sends_prompts_longer_than_the_ring),
        cmocka_unit_test(test_client_takes_many_long_answers),
        cmocka_unit_test(test_client_sends_chats),
        cmocka_unit_test(test_client_gets_alternatives),
        cmocka_unit_test(test_client_tokenizes),
        cmocka_unit_test(test_client_takes_embeddings_and_texts),
        cmocka_unit_test(test_client_grants_credit_by_hand),
        cmocka_unit_test(test_client_cancels),
        cmocka_unit_test(test_client_asks_status_among_events),
        cmocka_unit_test(test_client_serves_an_event_loop),
        cmocka_unit_test(test_client_polls_only_where_it_may),
        cmocka_unit_test(test_client_hears_why_the_engine_stopped),
        cmocka_unit_test(test_client_sees_a_killed_engine),
        cmocka_unit_test(test_client_sees_a_killed_engine_while_polling),
    };
    return cmocka_run_group_tests(tests, start, stop);
}
