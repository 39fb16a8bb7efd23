/* HTTP/3's requests and answers, asked by a client of the same libraries over a link that may be
 * bad. */
#define FAKE_LONG_BYTES 1000000
#include "world.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

static int setup(void **state)
{
    *state = world_make(NULL);
    fake_reset();
    return 0;
}

static int teardown(void **state)
{
    world_free(*state);
    fake_reset();
    return 0;
}

static void test_requests_get(void **state)
{
    struct world *w = *state;
    struct client *c = world_connect(w, NULL);
    assert_true(c->established);
    struct answer *a = client_ask(c, "GET", "/echo?x=1", NULL);
    assert_true(world_run(w, second, world_answered));
    assert_string_equal(a->head.bytes, ":status: 200\n"
                                       "server: tessera\n"
                                       "date: Sun, 06 Nov 1994 08:49:37 GMT\n"
                                       "content-type: text/plain\n"
                                       "content-length: 0\n");
    assert_string_equal(fake.said.bytes, "GET /echo ?x=1 @localhost 0\nwhole \n");
    assert_int_equal(world_counts(w)->requests, 1);
}

static void test_requests_post(void **state)
{
    struct world *w = *state;
    struct client *c = world_connect(w, NULL);
    struct answer *a = client_ask(c, "POST", "/echo", "hello");
    assert_true(world_run(w, second, world_answered));
    assert_string_equal(a->body.bytes, "hello");
    assert_non_null(strstr(fake.said.bytes, "POST /echo ? @localhost -1\nwhole hello\n"));
}

/* A prompt is read for longer than a silent connection lives. */
static void test_requests_wait_long(void **state)
{
    struct world *w = *state;
    struct client *c = world_connect(w, NULL);
    struct answer *a = client_ask(c, "GET", "/wait", NULL);
    assert_false(world_run(w, 200 * second, world_answered));
    assert_false(c->gone);
    struct tsr_api_exchange *e = fake.waits;
    fake_head(e, 200, TSR_API_UNKNOWN);
    fake_body(e, "late", 0);
    fake_end(e);
    assert_true(world_run(w, second, world_answered));
    assert_string_equal(a->body.bytes, "late");
    world_run(w, 100 * second, NULL); /* nothing is asked any more */
    assert_int_equal(world_counts(w)->conns, 0);
    assert_int_equal(world_counts(w)->timeouts, 1);
}

static void test_requests_stream(void **state)
{
    struct world *w = *state;
    struct client *c = world_connect(w, NULL);
    struct answer *a = client_ask(c, "GET", "/wait", NULL);
    assert_false(world_run(w, second, world_answered));
    struct tsr_api_exchange *e = fake.waits;
    assert_non_null(e);
    fake_head(e, 200, TSR_API_UNKNOWN);
    fake_body(e, "data: 1\n\n", 0);
    world_run(w, 100 * ms, NULL);
    assert_string_equal(a->body.bytes, "data: 1\n\n");
    assert_false(a->ended);
    assert_int_equal(fake.held, 0); /* acknowledged */
    fake_body(e, "data: 2\n\n", 0);
    fake_end(e);
    assert_true(world_run(w, second, world_answered));
    assert_string_equal(a->body.bytes, "data: 1\n\ndata: 2\n\n");
    assert_null(strstr(a->head.bytes, "content-length"));
}

static void test_requests_tokens_are_timed(void **state)
{
    struct world *w = *state;
    struct client *c = world_connect(w, NULL);
    struct answer *a = client_ask(c, "POST", "/wait", "body");
    const uint64_t *tokens_ns;
    world_run(w, second, NULL);
    assert_int_equal(world_counts(w)->whole, 1);
    struct tsr_api_exchange *e = fake.waits;
    fake_head(e, 200, TSR_API_UNKNOWN);
    fake_body(e, "data: 1\n\n", 77);
    fake_body(e, "data: 2\n\n", 88);
    fake_body(e, "\n", 0); /* no token */
    w->room = 0;
    tsr_http3_step(w->server, w->now_ns, UNIX_S);
    assert_int_equal(tsr_http3_tokens(w->server, &tokens_ns), 0); /* the port takes nothing */
    w->room = 100;
    tsr_http3_step(w->server, w->now_ns, UNIX_S);
    assert_int_equal(tsr_http3_tokens(w->server, &tokens_ns), 1);
    assert_int_equal(tokens_ns[0], 88); /* the newest */
    tsr_http3_step(w->server, w->now_ns, UNIX_S);
    assert_int_equal(tsr_http3_tokens(w->server, &tokens_ns), 0); /* once */
    fake_end(e);
    assert_true(world_run(w, second, world_answered));
    assert_string_equal(a->body.bytes, "data: 1\n\ndata: 2\n\n\n");
}

static void test_requests_head_none_refuse(void **state)
{
    struct world *w = *state;
    struct client *c = world_connect(w, NULL);
    struct answer *head = client_ask(c, "HEAD", "/long", NULL);
    struct answer *none = client_ask(c, "GET", "/none", NULL);
    struct answer *refuse = client_ask(c, "GET", "/refuse", NULL);
    assert_true(world_run(w, second, world_answered));
    assert_non_null(strstr(head->head.bytes, "content-length: 1000000\n"));
    assert_int_equal(head->body.size, 0);
    assert_non_null(strstr(none->head.bytes, ":status: 204\n"));
    assert_null(strstr(none->head.bytes, "content-length"));
    assert_non_null(strstr(refuse->head.bytes, ":status: 401\n"));
    assert_non_null(strstr(refuse->head.bytes, "x-extra: 1\n"));
    assert_string_equal(refuse->body.bytes, "no");
}

static void test_requests_many_streams(void **state)
{
    struct world *w = *state;
    struct client *c = world_connect(w, NULL);
    for (int i = 0; i < 100; i++) {
        client_ask(c, "POST", "/echo", "one of many");
    }
    assert_true(world_run(w, 10 * second, world_answered));
    for (int i = 0; i < 100; i++) {
        assert_string_equal(c->answers[i]->body.bytes, "one of many");
    }
    world_run(w, second, NULL); /* the streams are given back */
    for (int i = 0; i < 50; i++) {
        client_ask(c, "GET", "/echo", NULL);
    }
    assert_true(world_run(w, 10 * second, world_answered));
    assert_int_equal(world_counts(w)->requests, 150);
    assert_int_equal(fake.open, 0);
}

static char *large(size_t size)
{
    char *bytes = malloc(size);
    for (size_t i = 0; bytes && i < size; i++) {
        bytes[i] = (char)('a' + i % 23);
    }
    return bytes;
}

static void check_bad_link(struct world *w, uint64_t seed)
{
    const size_t size = 1 << 20;
    char *body = large(size);
    w->seed = seed;
    w->loss = w->repeat = w->reorder = 50;
    w->spoil = 20;
    struct client *c = world_connect(w, NULL);
    assert_true(c->established);
    const char *const fields[][2] = {
        {":method", "POST"}, {":scheme", "https"}, {":authority", "localhost"}, {":path", "/echo"}};
    struct answer *a = client_ask_with(c, fields, 4, body, size);
    struct answer *b = client_ask(c, "GET", "/long", NULL);
    assert_true(world_run(w, 600 * second, world_answered));
    assert_int_equal(a->body.size, size);
    assert_memory_equal(a->body.bytes, body, size);
    assert_int_equal(b->body.size, FAKE_LONG_BYTES);
    free(body);
}

static void test_requests_bad_link(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 3; seed++) {
        struct world *w = world_make(NULL);
        check_bad_link(w, seed);
        world_free(w);
    }
}

static void test_requests_early_answer(void **state)
{
    struct world *w = *state;
    struct client *c = world_connect(w, NULL);
    const size_t size = 4 << 20;
    char *body = large(size);
    const char *const fields[][2] = {
        {":method", "POST"}, {":scheme", "https"}, {":authority", "localhost"}, {":path", "/full"}};
    struct answer *a = client_ask_with(c, fields, 4, body, size);
    assert_true(world_run(w, 5 * second, world_answered));
    assert_non_null(strstr(a->head.bytes, ":status: 413\n"));
    assert_string_equal(a->body.bytes, "full");
    world_run(w, second, NULL);
    assert_true(a->closed);
    assert_true(a->request_read < size); /* STOP_SENDING has spared the rest */
    client_ask(c, "GET", "/echo", NULL);
    assert_true(world_run(w, second, world_answered));
    free(body);
}

static void test_requests_slow_reader(void **state)
{
    struct world *w = *state;
    struct client *c = world_connect(w, &(struct client_options){.stream_window = 1000});
    c->reads = false;
    struct answer *a = client_ask(c, "GET", "/wait", NULL);
    world_run(w, second, NULL);
    struct tsr_api_exchange *e = fake.waits;
    fake_head(e, 200, TSR_API_UNKNOWN);
    for (int i = 0; i < 300; i++) {
        fake_body(e, "0123456789", 0);
    }
    world_run(w, second, NULL);
    assert_in_range(a->body.size, 500, 1000);
    assert_int_equal(fake.held, 3000 - a->body.size);
    /* The others go on. */
    client_ask(c, "GET", "/echo", NULL);
    world_run(w, second, NULL);
    assert_true(c->answers[1]->ended);
    /* Who does not read for too long loses the answer. */
    world_run(w, 65 * second, NULL);
    assert_true(a->closed);
    assert_int_equal(a->code, NGHTTP3_H3_REQUEST_CANCELLED);
    assert_int_equal(fake.open, 0);
}

/* What stays is not copied, however many ask for it and do not read. */
static void test_requests_lent(void **state)
{
    enum { N = 90 };
    struct world *w = *state;
    struct client *c = world_connect(w, &(struct client_options){.stream_window = 1000});
    client_ask(c, "GET", "/echo", NULL);
    world_run(w, second, NULL);
    uint64_t before = world_counts(w)->bytes;
    c->reads = false;
    for (int i = 0; i < N; i++) {
        client_ask(c, "GET", "/lent", NULL);
    }
    world_run(w, second, NULL);
    assert_true(world_counts(w)->bytes - before < N * 8192);
    struct client *other = world_connect(w, NULL);
    w->loss = 50;
    struct answer *a = client_ask(other, "GET", "/lent", NULL);
    world_run(w, 10 * second, NULL);
    assert_true(a->ended);
    assert_int_equal(a->body.size, sizeof fake_lent);
    assert_memory_equal(a->body.bytes, fake_lent, sizeof fake_lent);
}

static void test_requests_slow_tokens(void **state)
{
    struct world *w = *state;
    struct client *c = world_connect(w, NULL);
    struct answer *a = client_ask(c, "GET", "/wait", NULL);
    world_run(w, second, NULL);
    struct tsr_api_exchange *e = fake.waits;
    fake_head(e, 200, TSR_API_UNKNOWN);
    for (int i = 0; i < 200; i++) {
        fake_body(e, "x", 0);
        world_run(w, second, NULL);
    }
    fake_end(e);
    assert_true(world_run(w, second, world_answered));
    assert_int_equal(a->body.size, 200);
}

static void test_requests_of_an_address(void **state)
{
    struct tsr_http3_options o;
    world_options(NULL, &o);
    o.address.requests = 2;
    struct world *w = *state = world_make(&o);
    fake_reset();
    struct client *c = world_connect(w, NULL), *d = world_connect(w, NULL);
    struct client *other = world_connect(w, &(struct client_options){.host = 9});
    struct answer *first = client_ask(c, "GET", "/wait", NULL);
    client_ask(d, "GET", "/wait", NULL);
    world_run(w, second, NULL);
    struct answer *third = client_ask(c, "GET", "/echo", NULL);
    struct answer *elsewhere = client_ask(other, "GET", "/echo", NULL);
    world_run(w, second, NULL);
    assert_non_null(strstr(third->head.bytes, ":status: 429\n"));
    assert_non_null(strstr(third->body.bytes, "of this address"));
    assert_non_null(strstr(elsewhere->head.bytes, ":status: 200\n"));
    assert_int_equal(fake.open, 2);
    ngtcp2_conn_shutdown_stream(c->quic, 0, first->id, NGHTTP3_H3_REQUEST_CANCELLED);
    world_run(w, second, NULL);
    assert_int_equal(fake.open, 1);
    struct answer *fourth = client_ask(d, "GET", "/echo", NULL);
    world_run(w, second, NULL);
    assert_non_null(strstr(fourth->head.bytes, ":status: 200\n"));
    fake_answer(fake.waits, 200, "late");
    world_run(w, second, NULL);
}

static void test_requests_cancel(void **state)
{
    struct world *w = *state;
    struct client *c = world_connect(w, NULL);
    struct answer *a = client_ask(c, "GET", "/wait", NULL);
    struct answer *half = client_ask(c, "POST", "/echo", "will not be whole");
    world_run(w, 100 * ms, NULL);
    ngtcp2_conn_shutdown_stream(c->quic, 0, a->id, NGHTTP3_H3_REQUEST_CANCELLED);
    (void)half;
    world_run(w, second, NULL);
    assert_int_equal(fake.open, 0);
    assert_non_null(strstr(fake.said.bytes, "cancel\n"));
    assert_int_equal(world_counts(w)->cancelled, 1);
    /* A client that goes takes all its requests with it. */
    client_ask(c, "GET", "/wait", NULL);
    client_ask(c, "GET", "/wait", NULL);
    world_run(w, 100 * ms, NULL);
    assert_int_equal(fake.open, 2);
    c->silent = true;
    world_run(w, 100 * second, NULL);
    assert_int_equal(fake.open, 0);
    assert_int_equal(world_counts(w)->conns, 0);
    assert_int_equal(world_counts(w)->bytes, 0);
}

static void test_requests_abort(void **state)
{
    struct world *w = *state;
    struct client *c = world_connect(w, NULL);
    struct answer *a = client_ask(c, "GET", "/abort", NULL);
    world_run(w, second, NULL);
    assert_true(a->closed);
    assert_false(a->ended);
    assert_int_equal(a->code, NGHTTP3_H3_INTERNAL_ERROR);
}

#define PSEUDO(method, scheme, authority, path)                                                    \
    {":method", method}, {":scheme", scheme}, {":authority", authority},                           \
    {                                                                                              \
        ":path", path                                                                              \
    }

struct bad {
    const char *name;
    const char *fields[8][2];
    const char *status; /* NULL: the stream is reset */
};

static const struct bad bads[] = {
    {"no path", {{":method", "GET"}, {":scheme", "https"}, {":authority", "a"}}, NULL},
    {"no method", {{":scheme", "https"}, {":authority", "a"}, {":path", "/"}}, NULL},
    {"no scheme", {{":method", "GET"}, {":authority", "a"}, {":path", "/"}}, NULL},
    {"no authority", {{":method", "GET"}, {":scheme", "https"}, {":path", "/"}}, NULL},
    {"empty authority", {PSEUDO("GET", "https", "", "/")}, NULL},
    {"user information", {PSEUDO("GET", "https", "me@a", "/")}, NULL},
    {"another host", {PSEUDO("GET", "https", "a", "/"), {"host", "b"}}, NULL},
    {"two methods", {PSEUDO("GET", "https", "a", "/"), {":method", "GET"}}, NULL},
    {"late pseudo",
     {{":method", "GET"}, {":scheme", "https"}, {":authority", "a"}, {"x", "y"}, {":path", "/"}},
     NULL},
    {"unknown pseudo", {PSEUDO("GET", "https", "a", "/"), {":x", "y"}}, NULL},
    {":status", {PSEUDO("GET", "https", "a", "/"), {":status", "200"}}, NULL},
    {"empty path", {PSEUDO("GET", "https", "a", "")}, NULL},
    {"no slash", {PSEUDO("GET", "https", "a", "x")}, NULL},
    {"fragment", {PSEUDO("GET", "https", "a", "/#x")}, NULL},
    {"star", {PSEUDO("GET", "https", "a", "*")}, NULL},
    {"connection", {PSEUDO("GET", "https", "a", "/"), {"connection", "close"}}, NULL},
    {"transfer-encoding",
     {PSEUDO("GET", "https", "a", "/"), {"transfer-encoding", "chunked"}},
     NULL},
    {"upgrade", {PSEUDO("GET", "https", "a", "/"), {"upgrade", "h2c"}}, NULL},
    {"te", {PSEUDO("GET", "https", "a", "/"), {"te", "gzip"}}, NULL},
    {"length", {PSEUDO("GET", "https", "a", "/"), {"content-length", "1x"}}, NULL},
    {"two lengths",
     {PSEUDO("GET", "https", "a", "/"), {"content-length", "0"}, {"content-length", "0"}},
     NULL},
    {"connect", {{":method", "CONNECT"}, {":authority", "a:1"}}, ":status: 501\n"},
    {"scheme", {PSEUDO("GET", "ftp", "a", "/")}, ":status: 400\n"},
    {"te trailers", {PSEUDO("GET", "https", "a", "/echo"), {"te", "trailers"}}, ":status: 200\n"},
    {"options", {PSEUDO("OPTIONS", "https", "a", "*")}, ":status: 200\n"},
    {"host",
     {{":method", "GET"}, {":scheme", "https"}, {":path", "/echo"}, {"host", "a"}},
     ":status: 200\n"},
    {"same host", {PSEUDO("GET", "https", "a:1", "/echo"), {"host", "a:1"}}, ":status: 200\n"},
};

static void test_requests_malformed(void **state)
{
    struct world *w = *state;
    struct client *c = world_connect(w, NULL);
    for (size_t i = 0; i < sizeof bads / sizeof *bads; i++) {
        size_t n = 0;
        while (n < 8 && bads[i].fields[n][0]) {
            n++;
        }
        struct answer *a = client_ask_with(c, (const char *const(*)[2])bads[i].fields, n, NULL, 0);
        world_run(w, second, NULL);
        if (bads[i].status ? !strstr(a->head.bytes, bads[i].status)
                           : !a->closed || a->code != NGHTTP3_H3_MESSAGE_ERROR) {
            fail_msg("%s: %s, code 0x%llx", bads[i].name, a->head.bytes,
                     (unsigned long long)a->code);
        }
    }
    assert_false(c->gone);
}

/* An answer to HEAD has no body, whatever is wrong (RFC 9110, 9.3.2). */
static void test_requests_head_refused(void **state)
{
    struct world *w = *state;
    struct client *c = world_connect(w, NULL);
    char large_value[20000];
    memset(large_value, 'x', sizeof large_value - 1);
    large_value[sizeof large_value - 1] = 0;
    const char *const scheme[][2] = {PSEUDO("HEAD", "ftp", "a", "/")};
    const char *const large_head[][2] = {
        PSEUDO("HEAD", "https", "a", "/"), {"x", large_value}, {"y", large_value}};
    struct answer *a = client_ask_with(c, scheme, 4, NULL, 0);
    struct answer *b = client_ask_with(c, large_head, 6, NULL, 0);
    world_run(w, second, NULL);
    assert_non_null(strstr(a->head.bytes, ":status: 400\n"));
    assert_non_null(strstr(b->head.bytes, ":status: 431\n"));
    assert_int_equal(a->body.size, 0);
    assert_int_equal(b->body.size, 0);
    assert_true(a->ended && b->ended && !c->gone);
}

/* nghttp3 makes an error of the connection of it, as RFC 9114 section 8 allows. */
static void test_requests_wrong_length(void **state)
{
    const char *const lengths[] = {"4", "6"};
    const char *fields[][2] = {PSEUDO("POST", "https", "a", "/echo"), {"content-length", NULL}};
    struct world *w = *state;
    for (int i = 0; i < 2; i++) {
        struct client *c = world_connect(w, NULL);
        fields[4][1] = lengths[i];
        client_ask_with(c, (const char *const(*)[2])fields, 5, "hello", 5);
        world_run(w, second, NULL);
        assert_true(c->gone);
        assert_int_equal(c->error.error_code, NGHTTP3_H3_MESSAGE_ERROR);
    }
    assert_int_equal(fake.open, 0);
}

/* nghttp3 leaves out fields with characters that none may have. */
static void test_requests_bad_value(void **state)
{
    struct world *w = *state;
    struct client *c = world_connect(w, NULL);
    const char *const fields[][2] = {PSEUDO("GET", "https", "a", "/echo"), {"x", "a\nb: c"}};
    client_ask_with(c, fields, 5, NULL, 0);
    assert_true(world_run(w, second, world_answered));
    assert_string_equal(fake.said.bytes, "GET /echo ? @a 0\nwhole \n");
}

static void test_requests_large_head(void **state)
{
    struct world *w = *state;
    struct client *c = world_connect(w, NULL);
    char value[3000];
    memset(value, 'v', sizeof value - 1);
    value[sizeof value - 1] = '\0';
    const char *fields[150][2] = {PSEUDO("GET", "https", "a", "/echo")};
    for (size_t i = 4; i < 150; i++) {
        fields[i][0] = "x";
        fields[i][1] = i < 15 ? value : "y";
    }
    struct answer *bytes = client_ask_with(c, (const char *const(*)[2])fields, 15, NULL, 0);
    for (size_t i = 4; i < 15; i++) {
        fields[i][1] = "y";
    }
    struct answer *count = client_ask_with(c, (const char *const(*)[2])fields, 101, NULL, 0);
    struct answer *fits = client_ask_with(c, (const char *const(*)[2])fields, 100, NULL, 0);
    assert_true(world_run(w, second, world_answered));
    assert_non_null(strstr(bytes->head.bytes, ":status: 431\n"));
    assert_non_null(strstr(count->head.bytes, ":status: 431\n"));
    assert_non_null(strstr(fits->head.bytes, ":status: 200\n"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_requests_get, setup, teardown),
        cmocka_unit_test_setup_teardown(test_requests_post, setup, teardown),
        cmocka_unit_test_setup_teardown(test_requests_wait_long, setup, teardown),
        cmocka_unit_test_setup_teardown(test_requests_wait_long, setup, teardown),
        cmocka_unit_test_setup_teardown(test_requests_stream, setup, teardown),
        cmocka_unit_test_setup_teardown(test_requests_tokens_are_timed, setup, teardown),
        cmocka_unit_test_setup_teardown(test_requests_head_none_refuse, setup, teardown),
        cmocka_unit_test_setup_teardown(test_requests_many_streams, setup, teardown),
        cmocka_unit_test(test_requests_bad_link),
        cmocka_unit_test_setup_teardown(test_requests_early_answer, setup, teardown),
        cmocka_unit_test_setup_teardown(test_requests_slow_reader, setup, teardown),
        cmocka_unit_test_setup_teardown(test_requests_lent, setup, teardown),
        cmocka_unit_test_setup_teardown(test_requests_slow_tokens, setup, teardown),
        cmocka_unit_test_teardown(test_requests_of_an_address, teardown),
        cmocka_unit_test_setup_teardown(test_requests_cancel, setup, teardown),
        cmocka_unit_test_setup_teardown(test_requests_abort, setup, teardown),
        cmocka_unit_test_setup_teardown(test_requests_malformed, setup, teardown),
        cmocka_unit_test_setup_teardown(test_requests_wrong_length, setup, teardown),
        cmocka_unit_test_setup_teardown(test_requests_bad_value, setup, teardown),
        cmocka_unit_test_setup_teardown(test_requests_large_head, setup, teardown),
        cmocka_unit_test_setup_teardown(test_requests_head_refused, setup, teardown),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    certificate_remove(&world_certificate);
    return failed;
}
