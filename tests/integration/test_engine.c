/* The engine through its channel: answers, options, refusals. */
#include "engine_process.h"

#include <math.h>
#include <pthread.h>
#include <stdbool.h>

static struct engine engine;
static struct reference references[REFERENCE_MAX];
static uint32_t n_references;

static int set_up(void **state)
{
    (void)state;
    n_references = reference_read(references, REFERENCE_MAX);
#if defined(__SANITIZE_THREAD__)
    n_references =
        n_references < 12 ? n_references : 12; /* as many as one test wants; it is slow */
#endif
    engine_start(&engine, (const char *const[]){"--chunk", "16", NULL});
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    engine_stop(&engine);
    return 0;
}

static void expect_code(struct tessera *t, const uint32_t *tokens, size_t n,
                        const struct tessera_options *options, enum tessera_code code,
                        const char *names)
{
    static struct answer answer;
    ask_tokens(t, tokens, n, options, &answer);
    if (answer.kind != TESSERA_FAILED || answer.code != code || !strstr(answer.sentence, names)) {
        fail_msg("kind %d, code %d, '%s', not '%s'", answer.kind, answer.code, answer.sentence,
                 names);
    }
}

static void test_engine_refuses_what_it_cannot_do(void **state)
{
    (void)state;
    struct tessera *t = engine_connect(&engine, TESSERA_WAIT_SLEEP, 256);
    struct tessera_options options = greedy_options();
    uint32_t many[4096] = {0};
    uint32_t stranger[3] = {1, 4096, 2};
    expect_code(t, stranger, 3, &options, TESSERA_CODE_INVALID, "4096");
    expect_code(t, many, 2048, &options, TESSERA_CODE_TOO_LARGE, "2048");
    expect_code(t, many, 4096, &options, TESSERA_CODE_TOO_LARGE, "4096");
    options.tenant = 12345;
    if (getuid() == 12345) {
        options.tenant = 12346;
    }
    expect_code(t, many, 3, &options, TESSERA_CODE_FORBIDDEN, "tenant");
    options = greedy_options();
    options.penalty_tokens = 64;
    expect_code(t, many, 3, &options, TESSERA_CODE_UNSUPPORTED, "64");
    options = greedy_options();
    struct tessera_bias bias = {.token = 5000, .bias = 1};
    options.biases = &bias;
    options.bias_count = 1;
    expect_code(t, many, 3, &options, TESSERA_CODE_INVALID, "5000");

    /* The channel still works. */
    static struct answer answer;
    options = greedy_options();
    ask_tokens(t, references[0].prompt, references[0].n_prompt, &options, &answer);
    assert_true(answer_is(&answer, &references[0]));
    tessera_close(t);
}

/* All that tessera.h allows, at its limits. */
static void test_engine_takes_options_at_their_limits(void **state)
{
    (void)state;
    static struct answer answer;
    static char texts[TESSERA_STOPS_MAX][TESSERA_STOP_BYTES + 1];
    static struct tessera_bias biases[TESSERA_BIASES_MAX];
    static const float penalties[] = {-10, 10};
    const char *stops[TESSERA_STOPS_MAX];
    struct tessera *t = engine_connect(&engine, TESSERA_WAIT_SLEEP, 256);
    for (int i = 0; i < TESSERA_STOPS_MAX; i++) {
        stops[i] = memset(texts[i], 'a' + i, TESSERA_STOP_BYTES);
    }
    for (uint32_t i = 0; i < TESSERA_BIASES_MAX; i++) {
        biases[i] = (struct tessera_bias){.token = i, .bias = i % 2 ? 100 : -100};
    }
    for (int i = 0; i < 2; i++) {
        struct tessera_options options = greedy_options();
        options.stops = stops;
        options.stop_count = TESSERA_STOPS_MAX;
        options.biases = biases;
        options.bias_count = TESSERA_BIASES_MAX;
        options.temperature = 100;
        options.min_p = 1;
        options.top_k = UINT32_MAX;
        options.repetition_penalty = i ? 10 : 1e-30f;
        options.presence_penalty = options.frequency_penalty = penalties[i];
        options.ignore_end = 1;
        options.top_logprobs = TESSERA_TOP_MAX;
        options.tokens_max = 4;
        ask_tokens(t, references[0].prompt, references[0].n_prompt, &options, &answer);
        if (answer.kind != TESSERA_DONE || answer.reason != TESSERA_LENGTH) {
            fail_msg("kind %d, reason %d, '%s'", answer.kind, answer.reason, answer.sentence);
        }
    }
    tessera_close(t);
}

static void test_engine_answers_as_the_reference(void **state)
{
    (void)state;
    static struct answer answer;
    struct tessera *t = engine_connect(&engine, TESSERA_WAIT_SLEEP, 256);
    struct tessera_options options = greedy_options();
    for (uint32_t i = 0; i < n_references; i++) {
        ask_tokens(t, references[i].prompt, references[i].n_prompt, &options, &answer);
        if (!answer_is(&answer, &references[i])) {
            fail_msg("case %u: kind %d reason %d, %u tokens of %u: '%s'", i, answer.kind,
                     answer.reason, answer.n, references[i].n_greedy, answer.sentence);
        }
        assert_int_equal(answer.prompt_tokens, references[i].n_prompt);
    }
    tessera_close(t);
}

struct client {
    pthread_t thread;
    uint32_t first;
    uint32_t right;
    struct answer answer;
};

static void *client(void *ctx)
{
    struct client *c = ctx;
    struct tessera_options options = greedy_options();
    struct tessera *t = engine_connect(&engine, TESSERA_WAIT_SLEEP, 256);
    for (uint32_t i = 0; i < n_references; i++) {
        const struct reference *r = &references[(c->first + i) % n_references];
        struct tessera_error err;
        if (!tessera_submit_tokens(t, r->prompt, r->n_prompt, &options, &err)) {
            break;
        }
        answer_wait(t, &c->answer);
        c->right += answer_is(&c->answer, r) ? 1u : 0u;
    }
    tessera_close(t);
    return NULL;
}

static void test_engine_serves_eight_clients_alike(void **state)
{
    (void)state;
    static struct client clients[8];
    for (uint32_t i = 0; i < 8; i++) {
        clients[i] = (struct client){.first = 3 * i};
        assert_int_equal(pthread_create(&clients[i].thread, NULL, client, &clients[i]), 0);
    }
    for (uint32_t i = 0; i < 8; i++) {
        pthread_join(clients[i].thread, NULL);
    }
    for (uint32_t i = 0; i < 8; i++) {
        assert_int_equal(clients[i].right, n_references);
    }
}

/* All cases at once on one channel, with sampling: the same bytes as one after the other. */
static void test_engine_answers_do_not_depend_on_others(void **state)
{
    (void)state;
    enum { N = 12 };
    static struct answer alone[N], together[N];
    uint64_t ids[N];
    struct tessera_event event;
    struct tessera_error err;
    struct tessera *t = engine_connect(&engine, TESSERA_WAIT_SLEEP, 256);
    struct tessera_options options = greedy_options();
    options.temperature = 1.2f;
    options.top_p = 0.95f;
    options.repetition_penalty = 1.1f;
    options.has_seed = 1;
    options.ignore_end = 1;
    options.logprobs = 1;
    for (uint32_t i = 0; i < N; i++) {
        options.seed = i;
        ask_tokens(t, references[i].prompt, references[i].n_prompt, &options, &alone[i]);
        assert_int_equal(alone[i].n, REFERENCE_GREEDY_MAX);
        assert_int_equal(alone[i].seed, i);
    }
    memset(together, 0, sizeof together);
    for (uint32_t i = 0; i < N; i++) {
        options.seed = i;
        ids[i] =
            tessera_submit_tokens(t, references[i].prompt, references[i].n_prompt, &options, &err);
        assert_true(ids[i] != 0);
    }
    for (uint32_t left = N; left > 0;) {
        assert_int_equal(tessera_wait(t, &event, patience_ms(), &err), 1);
        for (uint32_t i = 0; i < N; i++) {
            if (ids[i] == event.id) {
                left -= answer_take(&together[i], &event) ? 1u : 0u;
            }
        }
    }
    for (uint32_t i = 0; i < N; i++) {
        assert_int_equal(together[i].n, alone[i].n);
        assert_memory_equal(together[i].tokens, alone[i].tokens, alone[i].n * sizeof(uint32_t));
        assert_memory_equal(together[i].logprobs, alone[i].logprobs, alone[i].n * sizeof(float));
        assert_int_equal(together[i].text_bytes, alone[i].text_bytes);
        assert_memory_equal(together[i].text, alone[i].text, alone[i].text_bytes);
    }
    assert_true(memcmp(alone[0].tokens, alone[1].tokens, 4 * sizeof(uint32_t)) != 0);
    tessera_close(t);
}

/* Processor time of all threads so far, in ticks of 10 ms. */
static unsigned long processor_ticks(void)
{
    char path[64], line[1024];
    unsigned long user = 0, system = 0;
    snprintf(path, sizeof path, "/proc/%d/stat", engine.pid);
    FILE *file = fopen(path, "r");
    assert_non_null(file);
    assert_non_null(fgets(line, sizeof line, file));
    fclose(file);
    const char *at = strrchr(line, ')');
    assert_int_equal(
        sscanf(at, ") %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu", &user, &system), 2);
    return user + system;
}

/* With a client connected, and a request parked, but nothing to compute. */
static void test_engine_uses_no_cpu_idle(void **state)
{
    (void)state;
    struct tessera *t = engine_connect(&engine, TESSERA_WAIT_SLEEP, 0);
    struct tessera_options options = greedy_options();
    struct tessera_error err;
    options.credit = 1;
    options.ignore_end = 1;
    assert_true(tessera_submit_tokens(t, references[0].prompt, references[0].n_prompt, &options,
                                      &err) != 0);
    nap_ms(300);
    unsigned long before = processor_ticks();
    nap_ms(2000);
    unsigned long ticks = processor_ticks() - before;
    print_message("two idle seconds cost %lu ticks of 10 ms\n", ticks);
    assert_true(ticks <= 4);
    tessera_close(t);
}

/* The same requests at other widths of step and numbers of threads: the same bytes,
 * log-probabilities included. */
static void test_engine_answers_alike_in_every_shape(void **state)
{
    (void)state;
    enum { N = 8, SHAPES = 4 };
    static const char *const shapes[SHAPES][9] = {
        {"--threads", "1", "--chunk", "64", NULL},
        {"--threads", "2", "--chunk", "7", NULL},
        {"--threads", "4", "--no-pin", "--chunk", "1", NULL},
        {"--threads", "1", "--rows", "24", "--chunk", "23", "--sequences", "3", NULL},
    };
    static struct answer answers[SHAPES][N];
    struct tessera_event event;
    struct tessera_error err;
    uint64_t ids[N];
    for (uint32_t shape = 0; shape < SHAPES; shape++) {
        struct engine other;
        engine_start(&other, shapes[shape]);
        struct tessera *t = engine_connect(&other, TESSERA_WAIT_SLEEP, 256);
        for (uint32_t i = 0; i < N; i++) {
            const struct reference *r = &references[(i + shape) % N];
            struct tessera_options options = greedy_options();
            options.logprobs = 1;
            options.temperature = (i + shape) % N % 2 ? 0.9f : 0;
            options.has_seed = 1;
            options.seed = (i + shape) % N;
            ids[(i + shape) % N] = tessera_submit_tokens(t, r->prompt, r->n_prompt, &options, &err);
        }
        for (uint32_t left = N; left > 0;) {
            assert_int_equal(tessera_wait(t, &event, patience_ms(), &err), 1);
            for (uint32_t i = 0; i < N; i++) {
                if (ids[i] == event.id && answer_take(&answers[shape][i], &event)) {
                    left--;
                }
            }
        }
        tessera_close(t);
        engine_stop(&other);
    }
    for (uint32_t shape = 1; shape < SHAPES; shape++) {
        for (uint32_t i = 0; i < N; i++) {
            const struct answer *a = &answers[0][i], *b = &answers[shape][i];
            assert_int_equal(a->kind, TESSERA_DONE);
            assert_int_equal(a->n, b->n);
            assert_memory_equal(a->tokens, b->tokens, a->n * sizeof a->tokens[0]);
            assert_memory_equal(a->logprobs, b->logprobs, a->n * sizeof a->logprobs[0]);
        }
    }
}

static void test_engine_reads_text_and_chats(void **state)
{
    (void)state;
    static struct answer answer;
    struct tessera *t = engine_connect(&engine, TESSERA_WAIT_SLEEP, 256);
    struct tessera_info info;
    struct tessera_error err;
    struct tessera_options options = greedy_options();
    tessera_info(t, &info);
    assert_int_equal(info.context_tokens, 2048);
    assert_int_equal(info.vocabulary, 4096);
    assert_true(info.has_chat);
    for (uint32_t i = 0; i < n_references; i++) {
        const struct tessera_message message = {"user", references[i].question};
        assert_true(tessera_submit_chat(t, &message, 1, &options, &err) != 0);
        answer_wait(t, &answer);
        assert_int_equal(answer.prompt_tokens, references[i].n_prompt);
        assert_true(answer_is(&answer, &references[i]));

        char text[400]; /* what the template makes of it */
        snprintf(text, sizeof text, "<|im_start|>user\n%s<|im_end|>\n<|im_start|>assistant\n",
                 references[i].question);
        options.special = 1;
        assert_true(tessera_submit_text(t, text, strlen(text), &options, &err) != 0);
        answer_wait(t, &answer);
        assert_true(answer_is(&answer, &references[i]));
        options.special = 0; /* now the marks are text like any other */
        assert_true(tessera_submit_text(t, text, strlen(text), &options, &err) != 0);
        answer_wait(t, &answer);
        assert_true(answer.prompt_tokens > references[i].n_prompt);
    }
    tessera_close(t);
}

/* A prompt that is longer than the ring comes in parts, with other requests beside it. */
static void test_engine_takes_long_prompts(void **state)
{
    (void)state;
    enum { LONG = 300000 };
    static struct answer answer;
    struct tessera *t = engine_connect(&engine, TESSERA_WAIT_SLEEP, 256);
    struct tessera_options options = greedy_options();
    struct tessera_error err;
    struct tessera_event event;
    char *text = malloc(LONG);
    for (uint32_t i = 0; i < LONG; i++) {
        text[i] = "list all files in the folder "[i % 29];
    }
    uint64_t id = tessera_submit_text(t, text, LONG, &options, &err);
    assert_true(id != 0);
    answer_wait(t, &answer);
    assert_int_equal(answer.kind, TESSERA_FAILED);
    assert_int_equal(answer.code, TESSERA_CODE_TOO_LARGE);

    /* Its ids can be had, though: as many as it has, in order. */
    id = tessera_submit_tokenize(t, text, LONG, &options, &err);
    assert_true(id != 0);
    uint32_t seen = 0, bytes = 0;
    for (;;) {
        assert_int_equal(tessera_wait(t, &event, patience_ms(), &err), 1);
        if (event.kind == TESSERA_DONE) {
            assert_int_equal(event.reason, TESSERA_TOKENIZED);
            break;
        }
        assert_int_equal(event.kind, TESSERA_TOKENS);
        assert_int_equal(event.piece_first, seen);
        for (uint32_t i = 0; i < event.piece_count; i++) {
            assert_memory_equal(event.pieces[i].text, text + bytes, event.pieces[i].text_bytes);
            bytes += event.pieces[i].text_bytes;
        }
        seen += event.piece_count;
    }
    assert_int_equal(bytes, LONG);
    assert_true(seen > LONG / 29);
    free(text);
    tessera_close(t);
}

static void test_engine_stops_at_strings(void **state)
{
    (void)state;
    static struct answer whole, cut;
    struct tessera *t = engine_connect(&engine, TESSERA_WAIT_SLEEP, 256);
    struct tessera_options options = greedy_options();
    /* Case 1: "acme.sh --domain example.com --port 8080 --port 8080 ..." */
    const struct reference *r = &references[1];
    ask_tokens(t, r->prompt, r->n_prompt, &options, &whole);
    whole.text[whole.text_bytes] = '\0';
    char *at = strstr(whole.text, "--port");
    assert_non_null(at);
    const char *stops[] = {"never said", "--port"};
    options.stops = stops;
    options.stop_count = 2;
    ask_tokens(t, r->prompt, r->n_prompt, &options, &cut);
    assert_int_equal(cut.reason, TESSERA_STOP);
    assert_int_equal(cut.stop_index, 1);
    assert_int_equal(cut.text_bytes, at - whole.text);
    assert_memory_equal(cut.text, whole.text, cut.text_bytes);

    /* What was held back comes out where the answer ends otherwise. */
    options.stops = (const char *[]){"8080 --port 8080 --port 8080 --port 8080 --port 8080 x"};
    options.stop_count = 1;
    ask_tokens(t, r->prompt, r->n_prompt, &options, &cut);
    assert_int_equal(cut.reason, TESSERA_LENGTH);
    assert_int_equal(cut.text_bytes, whole.text_bytes);
    assert_memory_equal(cut.text, whole.text, cut.text_bytes);
    tessera_close(t);
}

static void test_engine_gives_log_probabilities(void **state)
{
    (void)state;
    struct tessera *t = engine_connect(&engine, TESSERA_WAIT_SLEEP, 256);
    struct tessera_options options = greedy_options();
    struct tessera_event event;
    struct tessera_error err;
    options.logprobs = 1;
    options.top_logprobs = 20;
    const struct reference *r = &references[0];
    assert_true(tessera_submit_tokens(t, r->prompt, r->n_prompt, &options, &err) != 0);
    uint32_t n = 0;
    for (;;) {
        assert_int_equal(tessera_wait(t, &event, patience_ms(), &err), 1);
        if (event.kind == TESSERA_DONE) {
            break;
        }
        if (event.kind != TESSERA_TOKEN || !event.has_token) {
            continue;
        }
        n++;
        assert_true(event.has_logprob);
        assert_true(event.logprob <= 0 && isfinite(event.logprob));
        assert_int_equal(event.top_count, 20);
        assert_int_equal(event.top[0].token, event.token); /* greedy */
        double sum = 0;
        for (uint32_t i = 0; i < event.top_count; i++) {
            sum += exp((double)event.top[i].logprob);
            assert_true(i == 0 || event.top[i].logprob <= event.top[i - 1].logprob);
        }
        assert_true(sum <= 1.0001);
    }
    assert_int_equal(n, r->n_greedy);
    tessera_close(t);
}

static void test_engine_cancels(void **state)
{
    (void)state;
    struct tessera *t = engine_connect(&engine, TESSERA_WAIT_SLEEP, 256);
    struct tessera_options options = greedy_options();
    struct tessera_event event;
    struct tessera_error err;
    struct answer *answer = calloc(1, sizeof *answer);
    options.tokens_max = 1900;
    options.ignore_end = 1;
    uint64_t id =
        tessera_submit_tokens(t, references[0].prompt, references[0].n_prompt, &options, &err);
    uint32_t tokens = 0;
    while (tokens < 5) {
        assert_int_equal(tessera_wait(t, &event, patience_ms(), &err), 1);
        tokens += event.kind == TESSERA_TOKEN;
    }
    assert_int_equal(tessera_cancel(t, id, &err), 0);
    answer_wait(t, answer);
    assert_int_equal(answer->kind, TESSERA_DONE);
    assert_int_equal(answer->reason, TESSERA_CANCELLED);
    assert_true(answer->n + 5 < 1900);
    assert_int_equal(tessera_cancel(t, id, &err), 0); /* long gone: ignored */

    /* At once after the submit: the end comes all the same. */
    id = tessera_submit_tokens(t, references[0].prompt, references[0].n_prompt, &options, &err);
    assert_int_equal(tessera_cancel(t, id, &err), 0);
    answer_wait(t, answer);
    assert_int_equal(answer->reason, TESSERA_CANCELLED);
    free(answer);
    tessera_close(t);
}

static void test_engine_keeps_deadlines(void **state)
{
    (void)state;
    static struct answer answer;
    struct tessera *t = engine_connect(&engine, TESSERA_WAIT_SLEEP, 256);
    struct tessera_options options = greedy_options();
    options.tokens_max = 1900;
    options.ignore_end = 1;
    options.deadline_ms = 30;
    ask_tokens(t, references[0].prompt, references[0].n_prompt, &options, &answer);
    assert_int_equal(answer.kind, TESSERA_DONE);
    assert_int_equal(answer.reason, TESSERA_DEADLINE);
    tessera_close(t);
}

static void test_engine_parks_without_credit(void **state)
{
    (void)state;
    static struct answer poor, rich;
    struct tessera *t = engine_connect(&engine, TESSERA_WAIT_SLEEP, 0); /* we grant */
    struct tessera *other = engine_connect(&engine, TESSERA_WAIT_SLEEP, 256);
    struct tessera_options options = greedy_options();
    struct tessera_event event;
    struct tessera_error err;
    options.credit = 3;
    options.ignore_end = 1;
    const struct reference *r = &references[0];
    uint64_t id = tessera_submit_tokens(t, r->prompt, r->n_prompt, &options, &err);
    assert_true(id != 0);
    memset(&poor, 0, sizeof poor);
    while (tessera_wait(t, &event, 300, &err) == 1) {
        assert_false(answer_take(&poor, &event));
    }
    assert_int_equal(poor.n, 3);
    /* Others go on meanwhile. */
    struct tessera_options plain = greedy_options();
    ask_tokens(other, r->prompt, r->n_prompt, &plain, &rich);
    assert_true(answer_is(&rich, r));
    struct tessera_status status;
    assert_int_equal(tessera_status(other, &status, 5000, &err), 0);
    assert_int_equal(status.requests_parked, 1);

    assert_int_equal(tessera_credit(t, id, 1000, &err), 0);
    do {
        assert_int_equal(tessera_wait(t, &event, patience_ms(), &err), 1);
    } while (!answer_take(&poor, &event));
    assert_int_equal(poor.n, REFERENCE_GREEDY_MAX);
    assert_int_equal(poor.reason, TESSERA_LENGTH);
    tessera_close(t);
    tessera_close(other);
}

static void test_engine_tells_its_status(void **state)
{
    (void)state;
    struct tessera *t = engine_connect(&engine, TESSERA_WAIT_SLEEP, 256);
    struct tessera_status status;
    struct tessera_error err;
    assert_int_equal(tessera_status(t, &status, 5000, &err), 0);
    assert_string_equal(status.model, "shell-5m");
    assert_string_equal(status.architecture, "llama");
    assert_true(status.weights_bytes > 10000000);
    assert_true(status.kv_bytes > 0);
    assert_int_equal(status.kv_used_bytes, 0);
    assert_int_equal(status.requests_running + status.requests_waiting + status.requests_parked, 0);
    assert_int_equal(status.channels, 1);
    assert_true(status.requests_done > n_references);
    assert_true(status.requests_refused > 0);
    assert_true(status.completion_tokens > 100);
    uint64_t ended = 0;
    for (int i = 0; i < 16; i++) {
        ended += status.requests_ended[i];
    }
    assert_int_equal(ended, status.requests_done);
    assert_true(status.requests_ended[TESSERA_CANCELLED] >= 2);
    assert_true(status.requests_ended[TESSERA_TOKENIZED] >= 1);
    assert_true(status.prefill_ns > 0 && status.decode_ns > status.prefill_ns / 1000);
    assert_true(status.node_count >= 1);
    assert_true(status.thread_count >= 3);
    tessera_close(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_engine_refuses_what_it_cannot_do),
        cmocka_unit_test(test_engine_takes_options_at_their_limits),
        cmocka_unit_test(test_engine_answers_as_the_reference),
        cmocka_unit_test(test_engine_serves_eight_clients_alike),
        cmocka_unit_test(test_engine_answers_do_not_depend_on_others),
        cmocka_unit_test(test_engine_answers_alike_in_every_shape),
        cmocka_unit_test(test_engine_uses_no_cpu_idle),
        cmocka_unit_test(test_engine_reads_text_and_chats),
        cmocka_unit_test(test_engine_takes_long_prompts),
        cmocka_unit_test(test_engine_stops_at_strings),
        cmocka_unit_test(test_engine_gives_log_probabilities),
        cmocka_unit_test(test_engine_cancels),
        cmocka_unit_test(test_engine_keeps_deadlines),
        cmocka_unit_test(test_engine_parks_without_credit),
        cmocka_unit_test(test_engine_tells_its_status),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
