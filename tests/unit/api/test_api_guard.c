/* Who may ask: hosts, origins, keys; what heads say; how much of an engine's a turn takes. */
#include "house.h"

static struct house house;
static struct told told;
static char keys_path[64];

#define HI "{\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}]}"

static void open_with(const struct tsr_api_options *options)
{
    struct tsr_wire_hello hello;
    house_hello(&hello);
    house_open(&house, &hello, 1, options);
}

static struct tsr_api_options some_options(void)
{
    static const char *const hosts[] = {"box", "lab:99"};
    static const char *const origins[] = {"https://page.example"};
    struct tsr_api_options options;
    tsr_api_options_init(&options);
    options.exchanges_max = 8;
    options.hosts = hosts;
    options.n_hosts = 2;
    options.origins = origins;
    options.n_origins = 1;
    return options;
}

static int set_up(void **state)
{
    (void)state;
    struct tsr_api_options options = some_options();
    open_with(&options);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    house_close(&house);
    if (keys_path[0]) {
        unlink(keys_path);
        keys_path[0] = '\0';
    }
    return 0;
}

static void test_hosts(void **state)
{
    (void)state;
    static const char *const good[] = {"localhost",    "LOCALHOST:1", "127.0.0.1",
                                       "127.9.8.7:80", "[::1]",       "[::1]:8000",
                                       "box",          "Box:1",       "lab:99"};
    static const char *const bad[] = {"",          "evil.example",    "127.0.0.1.evil.example",
                                      "128.0.0.1", "localhost.evil",  "[::2]",
                                      "lab:98",    "127.0.0.evil:80", "127.0.0.1234"};
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        house_ask(&house, &told, "GET", "/v1/models", (const char *[]){"host", good[i], NULL},
                  NULL);
        assert_int_equal(told.status, 200);
    }
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        house_ask(&house, &told, "GET", "/v1/models", (const char *[]){"host", bad[i], NULL}, NULL);
        assert_refused(&told, 403, NULL, "host_not_allowed");
    }
    house_ask(&house, &told, "GET", "/health", (const char *[]){"host", "evil.example", NULL},
              NULL);
    assert_int_equal(told.status, 200);
}

static void test_origins(void **state)
{
    (void)state;
    house_ask(&house, &told, "GET", "/v1/models",
              (const char *[]){"host", "localhost:8000", "origin", "http://localhost:8000", NULL},
              NULL);
    assert_int_equal(told.status, 200);
    assert_null(strstr(told.headers, "access-control"));
    house_ask(&house, &told, "GET", "/v1/models",
              (const char *[]){"origin", "https://page.example", NULL}, NULL);
    assert_int_equal(told.status, 200);
    assert_non_null(
        strstr(told.headers, "access-control-allow-origin: https://page.example\nvary: Origin\n"));
    static const char *const bad[] = {"https://evil.example", "null", "http://localhost:8001",
                                      "https://page.example.evil"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        house_ask(&house, &told, "POST", "/v1/chat/completions",
                  (const char *[]){"origin", bad[i], NULL}, HI);
        assert_refused(&told, 403, NULL, "origin_not_allowed");
    }
}

static void test_preflight(void **state)
{
    (void)state;
    const char *headers[] = {
        "origin", "https://page.example",           "access-control-request-method",
        "POST",   "access-control-request-headers", "authorization, content-type",
        NULL};
    house_ask(&house, &told, "OPTIONS", "/v1/chat/completions", headers, NULL);
    assert_int_equal(told.status, 204);
    assert_non_null(strstr(told.headers, "access-control-allow-origin: https://page.example\n"));
    assert_non_null(strstr(told.headers, "access-control-allow-methods: POST, OPTIONS\n"));
    assert_non_null(
        strstr(told.headers, "access-control-allow-headers: authorization, content-type\n"));
    headers[1] = "https://evil.example";
    house_ask(&house, &told, "OPTIONS", "/v1/chat/completions", headers, NULL);
    assert_refused(&told, 403, NULL, "origin_not_allowed");
}

static void test_heads(void **state)
{
    (void)state;
    static const struct {
        const char *name, *value;
        unsigned status;
        const char *param;
    } heads[] = {
        {"content-type", "text/plain", 415, NULL},
        {"content-type", "application/x-www-form-urlencoded", 415, NULL},
        {"content-type", "application/jsonp", 415, NULL},
        {"content-encoding", "gzip", 415, NULL},
        {"x-tessera-priority", "256", 400, "x-tessera-priority"},
        {"x-tessera-priority", "-1", 400, "x-tessera-priority"},
        {"x-tessera-deadline-ms", "soon", 400, "x-tessera-deadline-ms"},
        {"x-tessera-deadline-ms", "99999999999999999999999", 400, "x-tessera-deadline-ms"},
    };
    for (size_t i = 0; i < sizeof heads / sizeof heads[0]; i++) {
        house_ask(&house, &told, "POST", "/v1/chat/completions",
                  (const char *[]){heads[i].name, heads[i].value, NULL}, HI);
        assert_refused(&told, heads[i].status, heads[i].param, "");
    }
    house_ask(&house, &told, "POST", "/v1/chat/completions",
              (const char *[]){"content-type", "Application/JSON ; charset=utf-8",
                               "x-tessera-priority", "200", "x-tessera-deadline-ms", "1500", NULL},
              HI);
    assert_int_equal(house_asked(&house, 0)->submit.priority, 200);
    assert_int_equal(house_asked(&house, 0)->submit.deadline_ms, 1500);
    say_accepted(&house, 0, 0);
    say_done(&house, 0, TSR_REASON_DEADLINE);
    assert_refused(&told, 504, NULL, "deadline_exceeded");
}

/* ---- Deadlines ---- */

static void ask_until(const char *body, const char *ms)
{
    house_ask(&house, &told, "POST", "/v1/chat/completions",
              (const char *[]){"x-tessera-deadline-ms", ms, NULL}, body);
    assert_true(tsr_api_wake_ns(house.api) <= house.now_ns + strtoull(ms, NULL, 10) * 1000000);
}

static void await_end(void)
{
    for (int i = 0; i < HOUSE_TURNS && !told.ended; i++) {
        house_turn(&house);
        usleep(200);
    }
}

/* The engine has stopped: nobody waits longer than was asked for. */
static void test_deadlines_are_the_doors_too(void **state)
{
    (void)state;
    ask_until(HI, "30");
    assert_int_equal(told.status, 0);
    await_end();
    assert_refused(&told, 504, NULL, "deadline_exceeded");
    house_turn(&house);
    assert_true(house_asked(&house, 0)->cancelled);

    ask_until("{\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}],\"stream\":true}", "1000");
    say_accepted(&house, 1, 0);
    assert_true(say_token(&house, 1, "a", 0));
    await_end();
    assert_int_equal(told.status, 200);
    assert_says(&told, "data: {\"error\":{\"message\":\"the deadline passed");
    assert_null(strstr(told.body, "[DONE]"));

    ask_until(HI, "60000"); /* one that is in time, and one that goes */
    say_text(&house, 2, "ok", TSR_REASON_END);
    assert_int_equal(told.status, 200);
    ask_until(HI, "60000");
    tsr_api_cancel(told.exchange);
    house_turn(&house);
}

/* ---- Keys ---- */

static char secrets[3][TSR_KEYS_SECRET_BYTES];

static int set_up_keys(void **state)
{
    (void)state;
    static const char *const rules[] = {"", " parallel=1 priority=7 tenant=42", " requests=2/min"};
    struct tsr_api_options options = some_options();
    strcpy(keys_path, "/tmp/tessera-test-keys-XXXXXX");
    int fd = mkstemp(keys_path);
    assert_true(fd >= 0);
    for (int i = 0; i < 3; i++) {
        char name[16], line[TSR_KEYS_LINE_BYTES];
        struct tsr_err err;
        sprintf(name, "key%d", i);
        assert_int_equal(tsr_keys_make(name, secrets[i], line, &err), 0);
        dprintf(fd, "%s%s\n", line, rules[i]);
    }
    close(fd);
    options.keys_path = keys_path;
    open_with(&options);
    return 0;
}

static void ask_with(const char *method, const char *path, const char *name, const char *value,
                     const char *body)
{
    house_ask(&house, &told, method, path,
              (const char *[]){"host", "any.example", name, value, NULL}, body);
}

static void test_keys(void **state)
{
    (void)state;
    char bearer[128];
    snprintf(bearer, sizeof bearer, "bearer %s", secrets[0]);
    ask_with("GET", "/v1/models", "x-other", "1", NULL);
    assert_refused(&told, 401, NULL, "missing_api_key");
    assert_non_null(strstr(told.headers, "www-authenticate: Bearer\n"));
    ask_with("GET", "/v1/models", "authorization", "Bearer wrong", NULL);
    assert_refused(&told, 401, NULL, "invalid_api_key");
    ask_with("GET", "/nowhere", "x-other", "1", NULL);
    assert_refused(&told, 401, NULL, "missing_api_key");
    ask_with("GET", "/metrics", "x-other", "1", NULL);
    assert_refused(&told, 401, NULL, "missing_api_key");
    ask_with("GET", "/health", "x-other", "1", NULL);
    assert_int_equal(told.status, 200);
    ask_with("GET", "/ready", "x-other", "1", NULL);
    assert_int_equal(told.status, 200);
    ask_with("GET", "/v1/models", "authorization", bearer, NULL);
    assert_int_equal(told.status, 200);
    ask_with("GET", "/v1/models", "api-key", secrets[0], NULL);
    assert_int_equal(told.status, 200);
    ask_with("GET", "/v1/models", "x-api-key", secrets[2], NULL);
    assert_int_equal(told.status, 200);
}

static void test_key_rules(void **state)
{
    (void)state;
    static struct told second;
    ask_with("POST", "/v1/chat/completions", "api-key", secrets[1], HI);
    assert_int_equal(house_asked(&house, 0)->submit.priority, 7);
    second = told;
    second.exchange = NULL;
    struct told *first = &told;
    house_ask(&house, &second, "POST", "/v1/chat/completions",
              (const char *[]){"api-key", secrets[1], NULL}, HI);
    assert_refused(&second, 429, NULL, "rate_limit_exceeded");
    assert_non_null(strstr(second.headers, "retry-after: "));
    say_text(&house, 0, "x", TSR_REASON_END);
    assert_int_equal(first->status, 200);
    house_ask(&house, &second, "POST", "/v1/chat/completions",
              (const char *[]){"api-key", secrets[1], "x-tessera-priority", "99", NULL}, HI);
    assert_int_equal(house_asked(&house, 1)->submit.priority, 7);
    tsr_api_cancel(second.exchange);
    house_turn(&house);
    assert_true(house_asked(&house, 1)->cancelled);
    for (int i = 0; i < 3; i++) {
        ask_with("POST", "/v1/chat/completions", "api-key", secrets[2], "{}");
        assert_int_equal(told.status, i < 2 ? 400 : 429);
    }
}

/* An engine that is quicker than the door does not keep it from sending what it has taken. */
static void test_events_of_a_turn(void **state)
{
    (void)state;
    static const uint32_t taken[] = {1, 2, 4, 1, 0};
    for (int round = 0; round < 2; round++) {
        for (int i = 0; i < 8; i++) {
            struct tsr_wire_plain *nobodys =
                tsr_channel_reserve(house.engines[0].channel, sizeof *nobodys);
            assert_non_null(nobodys);
            memset((uint8_t *)nobodys + sizeof nobodys->record, 0,
                   sizeof *nobodys - sizeof nobodys->record);
            tsr_channel_commit(house.engines[0].channel, TSR_EV_TOKEN, sizeof *nobodys);
        }
        tsr_channel_flush(house.engines[0].channel);
        for (size_t i = 0; i < sizeof taken / sizeof *taken; i++) {
            assert_int_equal(tsr_api_step(house.api, house.now_ns), taken[i]);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_hosts, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_origins, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_preflight, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_heads, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_deadlines_are_the_doors_too, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_events_of_a_turn, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_keys, set_up_keys, tear_down),
        cmocka_unit_test_setup_teardown(test_key_rules, set_up_keys, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
