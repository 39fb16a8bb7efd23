#include "house.h"

static struct house house;
static struct told told;

static void open_named(const char *name, bool vllm)
{
    struct tsr_wire_hello hello;
    struct tsr_api_options options;
    house_hello(&hello);
    strcpy(hello.model, name);
    tsr_api_options_init(&options);
    options.exchanges_max = 8;
    options.vllm_names = vllm;
    house_open(&house, &hello, 1, &options);
}

static int tear_down(void **state)
{
    (void)state;
    house_close(&house);
    return 0;
}

static const double bounds[] = {0.5, 1};
static struct tsr_histogram histogram;
static uint64_t number = 7;

static void add_figures(struct tsr_api *api)
{
    static const struct tsr_figure figures[] = {
        {"tessera:door_things", "Things.", TSR_FIGURE_GAUGE, "kind=\"a\"", &number},
        {"tessera:door_things", "Things.", TSR_FIGURE_GAUGE, "kind=\"b\"", &number},
        {"tessera:door_seconds", "Seconds.", TSR_FIGURE_HISTOGRAM, NULL, &histogram},
    };
    histogram = (struct tsr_histogram){.bounds = bounds, .n_bounds = 2};
    tsr_histogram_observe(&histogram, 0.5);
    tsr_histogram_observe(&histogram, 0.75);
    tsr_histogram_observe(&histogram, 3);
    for (int i = 0; i < 3; i++) {
        struct tsr_err err;
        assert_int_equal(tsr_api_add_figure(api, &figures[i], &err), 0);
    }
}

/* Every line a comment or `name{labels} number`; HELP and TYPE before the samples of a name, once.
 */
static void assert_well_formed(void)
{
    char text[HOUSE_TOLD_BYTES + 1], types[128][64];
    int n_types = 0;
    strcpy(text, told.body);
    assert_int_equal(text[strlen(text) - 1], '\n');
    for (char *line = strtok(text, "\n"); line; line = strtok(NULL, "\n")) {
        if (line[0] == '#') {
            if (strncmp(line, "# TYPE ", 7) == 0) {
                int n = (int)strcspn(line + 7, " ");
                for (int i = 0; i < n_types; i++) {
                    assert_true(strlen(types[i]) != (size_t)n ||
                                strncmp(types[i], line + 7, (size_t)n));
                }
                snprintf(types[n_types++], 64, "%.*s", n, line + 7);
            }
            continue;
        }
        size_t n = strcspn(line, "{ ");
        assert_true(n > 0 && n_types > 0);
        assert_int_equal(strncmp(line, types[n_types - 1], strlen(types[n_types - 1])), 0);
        char *end = strrchr(line, ' ');
        char *rest;
        strtod(end + 1, &rest);
        if (*rest || rest == end + 1) {
            fail_msg("no number: %s", line);
        }
    }
}

static void test_metrics(void **state)
{
    (void)state;
    open_named("echo", false);
    add_figures(house.api);
    house_post(&house, &told, "/v1/completions", "{\"prompt\":\"a\"}");
    say_text(&house, 0, "abc", TSR_REASON_END);
    house_get(&house, &told, "/metrics");
    assert_int_equal(told.status, 200);
    assert_string_equal(told.type, "text/plain; version=0.0.4; charset=utf-8");
    assert_well_formed();
    static const char *const lines[] = {
        "tessera:prompt_tokens_total{model_name=\"echo\"} 11\n",
        "tessera:generation_tokens_total{model_name=\"echo\"} 22\n",
        "tessera:request_success_total{model_name=\"echo\",finished_reason=\"stop\"} 5\n",
        "tessera:num_requests_running{model_name=\"echo\"} 1\n",
        "tessera:num_requests_waiting{model_name=\"echo\"} 0\n",
        "tessera:kv_cache_usage_perc{model_name=\"echo\"} 0.25\n",
        "# TYPE tessera:time_to_first_token_seconds histogram\n",
        "tessera:time_to_first_token_seconds_bucket{model_name=\"echo\",le=\"+Inf\"} 1\n",
        "tessera:inter_token_latency_seconds_count{model_name=\"echo\"} 2\n",
        "tessera:request_generation_tokens_bucket{model_name=\"echo\",le=\"2\"} 0\n",
        "tessera:request_generation_tokens_bucket{model_name=\"echo\",le=\"5\"} 1\n",
        "tessera:request_generation_tokens_sum{model_name=\"echo\"} 3\n",
        "tessera:memory_bytes{model_name=\"echo\",node=\"0\",page=\"2M\"} 4096\n",
        "tessera:memory_misplaced_bytes{model_name=\"echo\",node=\"0\"} 0\n",
        "tessera:engine_up{model_name=\"echo\"} 1\n",
        "tessera:door_requests_total{code=\"200\",path=\"/v1/completions\"} 1\n",
        "tessera:door_things{kind=\"a\"} 7\ntessera:door_things{kind=\"b\"} 7\n",
        "tessera:door_seconds_bucket{le=\"0.5\"} 1\ntessera:door_seconds_bucket{le=\"1\"} 2\n"
        "tessera:door_seconds_bucket{le=\"+Inf\"} 3\ntessera:door_seconds_sum 4.25\n"
        "tessera:door_seconds_count 3\n",
    };
    for (size_t i = 0; i < sizeof lines / sizeof lines[0]; i++) {
        assert_says(&told, lines[i]);
    }
    assert_null(strstr(told.body, "vllm:"));
}

static void test_metrics_of_several_threads(void **state)
{
    (void)state;
    struct tsr_api *other;
    struct tsr_err err;
    open_named("echo", false);
    add_figures(house.api);
    house.options.first = house.api;
    assert_int_equal(tsr_api_create(&other, &house.options, &err), 0);
    add_figures(other);
    house_get(&house, &told, "/health");
    house_get(&house, &told, "/metrics");
    assert_well_formed();
    static const char *const lines[] = {
        "tessera:engine_up{model_name=\"echo\"} 1\n",
        "tessera:door_requests_total{code=\"200\",path=\"/health\"} 1\n",
        "tessera:door_things{kind=\"a\"} 14\ntessera:door_things{kind=\"b\"} 14\n",
        "tessera:door_seconds_bucket{le=\"0.5\"} 2\ntessera:door_seconds_bucket{le=\"1\"} 4\n"
        "tessera:door_seconds_bucket{le=\"+Inf\"} 6\ntessera:door_seconds_sum 8.5\n"
        "tessera:door_seconds_count 6\n",
    };
    for (size_t i = 0; i < sizeof lines / sizeof lines[0]; i++) {
        assert_says(&told, lines[i]);
    }
    tsr_api_destroy(other);
}

static void test_metrics_under_vllm_names(void **state)
{
    (void)state;
    open_named("a\"b\\c", true);
    house_get(&house, &told, "/metrics");
    assert_well_formed();
    assert_says(&told, "vllm:kv_cache_usage_perc{model_name=\"a\\\"b\\\\c\"} 0.25\n");
    assert_says(&told, "vllm:gpu_cache_usage_perc{model_name=");
    assert_says(&told, "vllm:time_to_first_token_seconds_bucket{model_name=");
    assert_null(strstr(told.body, "vllm:memory_bytes"));
}

static void test_metrics_ask_seldom_and_wait_briefly(void **state)
{
    (void)state;
    open_named("echo", false);
    house_get(&house, &told, "/metrics");
    house_get(&house, &told, "/metrics");
    assert_true(told.ended);
    assert_int_equal(house.engines[0].statuses, 1);
}

static void test_metrics_of_a_mute_engine(void **state)
{
    (void)state;
    open_named("echo", false);
    house.engines[0].mute = true;
    house_get(&house, &told, "/metrics");
    assert_int_equal(told.status, 0);
    uint64_t wake_ns = tsr_api_wake_ns(house.api);
    assert_true(wake_ns <= house.now_ns + UINT64_C(1000000000));
    tsr_api_step(house.api, wake_ns);
    assert_true(told.ended);
    assert_says(&told, "tessera:engine_up{model_name=\"echo\"} 1\n");
    house_get(&house, &told, "/metrics");
    tsr_api_cancel(told.exchange); /* who waits may go */
    assert_true(tsr_api_wake_ns(house.api) == UINT64_MAX);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(test_metrics, tear_down),
        cmocka_unit_test_teardown(test_metrics_of_several_threads, tear_down),
        cmocka_unit_test_teardown(test_metrics_under_vllm_names, tear_down),
        cmocka_unit_test_teardown(test_metrics_ask_seldom_and_wait_briefly, tear_down),
        cmocka_unit_test_teardown(test_metrics_of_a_mute_engine, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
