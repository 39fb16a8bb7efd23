/* Embeddings, rendered chats and the text of tokens through the channel of a real engine. */
#include "engine_process.h"

#include <math.h>

enum { WIDTH_MAX = 1024, TOKENS_MAX = 300, PROMPTS = 6 };

static struct engine engine;
static uint32_t prompts[PROMPTS][TOKENS_MAX], lengths[PROMPTS] = {1, 5, 40, 100, 200, 300};
static float alone[PROMPTS][WIDTH_MAX];
static uint32_t width;

/* Takes events until request `id` has ended; its embedding is in `values` then. */
static struct tessera_event embedding_wait(struct tessera *t, uint64_t id, float *values)
{
    struct tessera_event event;
    struct tessera_error err;
    uint32_t seen = 0;
    for (;;) {
        assert_int_equal(tessera_wait(t, &event, patience_ms(), &err), 1);
        if (event.id != id) {
            continue;
        }
        if (event.kind == TESSERA_EMBEDDING) {
            assert_int_equal(event.value_first, seen);
            assert_int_equal(event.value_total, width);
            memcpy(values + seen, event.values, event.value_count * sizeof *values);
            seen += event.value_count;
        } else if (event.kind == TESSERA_DONE || event.kind == TESSERA_FAILED) {
            assert_true(event.kind == TESSERA_FAILED || event.reason != TESSERA_EMBEDDED ||
                        seen == width);
            return event;
        }
    }
}

static void embed(struct tessera *t, const uint32_t *tokens, uint32_t n, float *values)
{
    struct tessera_error err;
    uint64_t id = tessera_submit_embed_tokens(t, tokens, n, NULL, &err);
    assert_true(id != 0);
    struct tessera_event end = embedding_wait(t, id, values);
    assert_int_equal(end.kind, TESSERA_DONE);
    assert_int_equal(end.reason, TESSERA_EMBEDDED);
    assert_int_equal(end.prompt_tokens, n);
    double squares = 0;
    for (uint32_t i = 0; i < width; i++) {
        squares += (double)values[i] * (double)values[i];
    }
    assert_true(fabs(squares - 1) < 1e-6);
}

static int set_up(void **state)
{
    (void)state;
    uint32_t x = 5;
    for (uint32_t p = 0; p < PROMPTS; p++) {
        for (uint32_t i = 0; i < lengths[p]; i++) {
            x = x * 1664525u + 1013904223u;
            prompts[p][i] = 3 + (x >> 8) % 4000;
        }
    }
    engine_start(&engine, (const char *const[]){"--chunk", "16", NULL});
    struct tessera *t = engine_connect(&engine, TESSERA_WAIT_SLEEP, 256);
    struct tessera_info info;
    tessera_info(t, &info);
    width = info.embedding_width;
    assert_in_range(width, 1, WIDTH_MAX);
    assert_int_equal(info.pooling, TESSERA_POOLING_LAST);
    for (uint32_t p = 0; p < PROMPTS; p++) {
        embed(t, prompts[p], lengths[p], alone[p]);
    }
    tessera_close(t);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    engine_stop(&engine);
    return 0;
}

static void test_embed_refuses_what_is_too_long(void **state)
{
    (void)state;
    struct tessera *t = engine_connect(&engine, TESSERA_WAIT_SLEEP, 256);
    struct tessera_error err;
    static uint32_t many[2049];
    float values[WIDTH_MAX];
    uint64_t id = tessera_submit_embed_tokens(t, many, 2049, NULL, &err);
    struct tessera_event end = embedding_wait(t, id, values);
    assert_int_equal(end.kind, TESSERA_FAILED);
    assert_int_equal(end.code, TESSERA_CODE_TOO_LARGE);
    many[0] = 4096;
    id = tessera_submit_embed_tokens(t, many, 3, NULL, &err);
    assert_int_equal(embedding_wait(t, id, values).code, TESSERA_CODE_INVALID);
    tessera_close(t);
}

/* Other embeddings, and answers that are being generated, change no byte of it. */
static void test_embed_does_not_depend_on_others(void **state)
{
    (void)state;
    struct tessera *t = engine_connect(&engine, TESSERA_WAIT_SLEEP, 256);
    struct tessera *other = engine_connect(&engine, TESSERA_WAIT_SLEEP, 4096);
    struct tessera_options options = greedy_options();
    struct tessera_error err;
    options.ignore_end = 1;
    options.tokens_max = 400;
    for (uint32_t i = 0; i < 5; i++) {
        assert_true(tessera_submit_tokens(other, prompts[i], lengths[i], &options, &err) != 0);
    }
    uint64_t ids[PROMPTS];
    float values[PROMPTS][WIDTH_MAX];
    for (uint32_t round = 0; round < 3; round++) {
        uint32_t seen[PROMPTS] = {0}, left = PROMPTS;
        for (uint32_t p = 0; p < PROMPTS; p++) {
            ids[p] = tessera_submit_embed_tokens(t, prompts[p], lengths[p], NULL, &err);
            assert_true(ids[p] != 0);
        }
        while (left > 0) {
            struct tessera_event event;
            assert_int_equal(tessera_wait(t, &event, patience_ms(), &err), 1);
            for (uint32_t p = 0; p < PROMPTS; p++) {
                if (event.id == ids[p] && event.kind == TESSERA_EMBEDDING) {
                    memcpy(values[p] + seen[p], event.values, event.value_count * sizeof(float));
                    seen[p] += event.value_count;
                }
                left -= event.id == ids[p] && event.kind == TESSERA_DONE;
            }
        }
        for (uint32_t p = 0; p < PROMPTS; p++) {
            assert_memory_equal(values[p], alone[p], width * sizeof(float));
        }
    }
    tessera_close(t);
    tessera_close(other);
}

static void test_embed_is_alike_in_every_shape(void **state)
{
    (void)state;
    static const char *const shapes[][9] = {
        {"--threads", "1", "--rows", "512", NULL},
        {"--threads", "3", "--no-pin", "--rows", "24", "--chunk", "7", NULL},
    };
    float values[WIDTH_MAX];
    for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++) {
        struct engine shaped;
        engine_start(&shaped, shapes[s]);
        struct tessera *t = engine_connect(&shaped, TESSERA_WAIT_SLEEP, 256);
        for (uint32_t p = 0; p < PROMPTS; p++) {
            embed(t, prompts[p], lengths[p], values);
            assert_memory_equal(values, alone[p], width * sizeof(float));
        }
        tessera_close(t);
        engine_stop(&shaped);
    }
}

/* A copy of the model that states how it pools. */
static void make_model(char *dir, const char *config)
{
    static const char *const files[] = {"config.json", "generation_config.json",
                                        "model.safetensors", "tokenizer.json",
                                        "tokenizer_config.json"};
    char from[512], to[512];
    assert_non_null(mkdtemp(dir));
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        snprintf(from, sizeof from, "%s/tests/vectors/shell-5m/%s", environment("TESSERA_SOURCE"),
                 files[i]);
        snprintf(to, sizeof to, "%s/%s", dir, files[i]);
        assert_int_equal(symlink(from, to), 0);
    }
    snprintf(to, sizeof to, "%s/1_Pooling", dir);
    assert_int_equal(mkdir(to, 0755), 0);
    snprintf(to, sizeof to, "%s/1_Pooling/config.json", dir);
    FILE *file = fopen(to, "w");
    assert_non_null(file);
    fputs(config, file);
    fclose(file);
}

static void remove_model(const char *dir)
{
    char command[600];
    snprintf(command, sizeof command, "rm -r '%s'", dir);
    assert_int_equal(system(command), 0);
}

/* Of one token all poolings are the same; CLS is always the first token's alone, which sees no
 * other; the mean is not the last, and two alike are their own mean. */
static void test_embed_pools_as_the_model_says(void **state)
{
    (void)state;
    static const struct {
        const char *config;
        enum tessera_pooling pooling;
    } ways[] = {
        {"{\"pooling_mode_mean_tokens\": true}", TESSERA_POOLING_MEAN},
        {"{\"pooling_mode_cls_token\": true}", TESSERA_POOLING_CLS},
        {"{\"pooling_mode_lasttoken\": true}", TESSERA_POOLING_LAST},
        {"{\"pooling_mode_max_tokens\": true}", TESSERA_POOLING_NONE},
    };
    for (size_t w = 0; w < sizeof ways / sizeof *ways; w++) {
        struct engine pooled;
        struct tessera_info info;
        struct tessera_error err;
        float one[WIDTH_MAX], many[WIDTH_MAX];
        char dir[] = "/tmp/tessera-test-XXXXXX";
        make_model(dir, ways[w].config);
        engine_start(&pooled, (const char *const[]){"--model", dir, "--threads", "1", NULL});
        struct tessera *t = engine_connect(&pooled, TESSERA_WAIT_SLEEP, 256);
        tessera_info(t, &info);
        assert_int_equal(info.pooling, ways[w].pooling);
        if (ways[w].pooling == TESSERA_POOLING_NONE) {
            assert_int_equal(info.embedding_width, 0);
            uint64_t id = tessera_submit_embed(t, "x", 1, NULL, &err);
            struct tessera_event end = embedding_wait(t, id, one);
            assert_int_equal(end.kind, TESSERA_FAILED);
            assert_int_equal(end.code, TESSERA_CODE_UNSUPPORTED);
            char text[200] = "";
            memcpy(text, end.text, end.text_bytes);
            assert_non_null(strstr(text, "pooling_mode_max_tokens"));
        } else {
            embed(t, prompts[3], 1, one);
            embed(t, prompts[3], lengths[3], many);
            bool is_first = memcmp(one, many, width * sizeof(float)) == 0;
            bool is_last = memcmp(many, alone[3], width * sizeof(float)) == 0;
            assert_int_equal(is_first, ways[w].pooling == TESSERA_POOLING_CLS);
            assert_int_equal(is_last, ways[w].pooling == TESSERA_POOLING_LAST);
        }
        tessera_close(t);
        engine_stop(&pooled);
        remove_model(dir);
    }
}

/* Text of a request that ends with TESSERA_WRITTEN. */
static void text_wait(struct tessera *t, uint64_t id, char *text, size_t size)
{
    struct tessera_event event;
    struct tessera_error err;
    uint32_t bytes = 0;
    assert_true(id != 0);
    do {
        assert_int_equal(tessera_wait(t, &event, patience_ms(), &err), 1);
        if (event.kind == TESSERA_TEXT) {
            assert_int_equal(event.text_offset, bytes);
            assert_true(event.text_total < size);
            memcpy(text + bytes, event.text, event.text_bytes);
            bytes += event.text_bytes;
        }
    } while (event.kind != TESSERA_DONE && event.kind != TESSERA_FAILED);
    text[bytes] = '\0';
    assert_int_equal(event.kind, TESSERA_DONE);
    assert_int_equal(event.reason, TESSERA_WRITTEN);
}

/* A chat, what it renders to, and its tokens are the same prompt. */
static void test_embed_takes_text_chat_and_tokens(void **state)
{
    (void)state;
    struct tessera *t = engine_connect(&engine, TESSERA_WAIT_SLEEP, 256);
    struct tessera_options options;
    struct tessera_error err;
    struct tessera_event event;
    const struct tessera_message say = {"user", "List all files"};
    static const char rendered[] =
        "<|im_start|>user\nList all files<|im_end|>\n<|im_start|>assistant\n";
    char text[400];
    float by_chat[WIDTH_MAX], by_text[WIDTH_MAX], by_tokens[WIDTH_MAX];
    tessera_options_init(&options);
    text_wait(t, tessera_submit_render(t, &say, 1, &options, &err), text, sizeof text);
    assert_string_equal(text, rendered);
    uint64_t id = tessera_submit_embed_chat(t, &say, 1, &options, &err);
    assert_int_equal(embedding_wait(t, id, by_chat).reason, TESSERA_EMBEDDED);
    options.special = 1;
    id = tessera_submit_embed(t, rendered, strlen(rendered), &options, &err);
    assert_int_equal(embedding_wait(t, id, by_text).reason, TESSERA_EMBEDDED);
    assert_memory_equal(by_text, by_chat, width * sizeof(float));

    uint32_t tokens[100], n = 0;
    id = tessera_submit_tokenize_chat(t, &say, 1, &options, &err);
    do {
        assert_int_equal(tessera_wait(t, &event, patience_ms(), &err), 1);
        for (uint32_t i = 0; event.kind == TESSERA_TOKENS && i < event.piece_count; i++) {
            tokens[n++] = event.pieces[i].token;
        }
    } while (event.kind != TESSERA_DONE);
    embed(t, tokens, n, by_tokens);
    assert_memory_equal(by_tokens, by_chat, width * sizeof(float));
    text_wait(t, tessera_submit_detokenize(t, tokens, n, NULL, &err), text, sizeof text);
    assert_string_equal(text, "user\nList all files\nassistant\n");
    options.show_special = 1;
    text_wait(t, tessera_submit_detokenize(t, tokens, n, &options, &err), text, sizeof text);
    assert_string_equal(text, rendered);
    tessera_close(t);
}

/* An answer that goes on from a given beginning is the rest of one that begins so by itself. */
static void test_embed_continues_a_chat(void **state)
{
    (void)state;
    struct tessera *t = engine_connect(&engine, TESSERA_WAIT_SLEEP, 256);
    struct tessera_options options = greedy_options();
    struct tessera_error err;
    static struct answer whole, rest;
    const struct tessera_message say = {"user", "List all files"};
    assert_true(tessera_submit_chat(t, &say, 1, &options, &err) != 0);
    answer_wait(t, &whole);
    assert_true(whole.text_bytes > 1);
    char json[100];
    snprintf(json, sizeof json, "{\"continue_with\": \"%.*s\"}", 2, whole.text);
    options.template_json = json;
    assert_true(tessera_submit_chat(t, &say, 1, &options, &err) != 0);
    answer_wait(t, &rest);
    assert_int_equal(rest.kind, TESSERA_DONE);
    assert_true(rest.prompt_tokens > whole.prompt_tokens);
    assert_int_equal(rest.text_bytes + 2, whole.text_bytes);
    assert_memory_equal(rest.text, whole.text + 2, rest.text_bytes);
    tessera_close(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_embed_refuses_what_is_too_long),
        cmocka_unit_test(test_embed_does_not_depend_on_others),
        cmocka_unit_test(test_embed_is_alike_in_every_shape),
        cmocka_unit_test(test_embed_pools_as_the_model_says),
        cmocka_unit_test(test_embed_takes_text_chat_and_tokens),
        cmocka_unit_test(test_embed_continues_a_chat),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
