#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include <tsr/model/config.h>

#include "craft.h"

/* A configuration of plain figures; the members given come first and go before its own. */
static void text_with(char text[static 1024], const char *members)
{
    static const struct {
        const char *key, *value;
    } plain[] = {
        {"model_type", "\"llama\""},  {"hidden_size", "64"},
        {"num_hidden_layers", "2"},   {"intermediate_size", "96"},
        {"vocab_size", "100"},        {"max_position_embeddings", "512"},
        {"num_attention_heads", "4"}, {"num_key_value_heads", "2"},
        {"rms_norm_eps", "1e-5"},
    };
    size_t at = (size_t)snprintf(text, 1024, "{%s", members);
    const char *comma = members[0] ? "," : "";
    for (size_t i = 0; i < sizeof plain / sizeof *plain; i++) {
        char key[64];
        snprintf(key, sizeof key, "\"%s\":", plain[i].key);
        if (!strstr(members, key)) {
            at += (size_t)snprintf(text + at, 1024 - at, "%s%s%s", comma, key, plain[i].value);
            comma = ",";
        }
    }
    snprintf(text + at, 1024 - at, "}");
}

static struct tsr_config *open_with(const char *members)
{
    char text[1024];
    struct tsr_config *config;
    struct tsr_err err = {0};
    text_with(text, members);
    if (tsr_config_from_json(&config, text, strlen(text), true, &err) < 0) {
        fail_msg("%s: %s", text, err.text);
    }
    return config;
}

static void test_config_refuses_texts(void **state)
{
    (void)state;
    static const struct {
        const char *text, *words;
    } cases[] = {
        {"", "JSON, line 1"},
        {"nonsense", "JSON, line 1"},
        {"[1]", "not an object"},
        {"{}", "no model_type"},
        {"{\"model_type\":7}", "no model_type"},
        {"{\"model_type\":\"\"}", "not a name"},
        {"{\"model_type\":\"\\u001b[2J\"}", "not a name"},
        {"{\"model_type\":\"a-name-that-is-far-too-long-to-be-the-name-of-one\"}", "not a name"},
        {"{\"model_type\":\"a\",\"model_type\":\"b\"}", "JSON, line 1"},
        {"{\"a\":[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[1]]]]", "nested more than 32"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct tsr_config *config = NULL;
        struct tsr_err err = {0};
        size_t size = strlen(cases[i].text);
        assert_true(tsr_config_from_json(&config, cases[i].text, size, true, &err) < 0);
        assert_null(config);
        if (!strstr(err.text, cases[i].words)) {
            fail_msg("%s: '%s'", cases[i].text, err.text);
        }
        for (const char *c = err.text; *c; c++) {
            assert_true(*c >= 0x20); /* nothing that moves a terminal's cursor */
        }
    }
}

static void test_config_refuses_figures_without_sense(void **state)
{
    (void)state;
    static const struct {
        const char *members, *words;
    } cases[] = {
        {"\"hidden_size\":null", "lacks hidden_size"},
        {"\"hidden_size\":0", "hidden_size is 0, where 1 to"},
        {"\"hidden_size\":-64", "hidden_size is -64"},
        {"\"hidden_size\":64.5", "hidden_size is not one whole number"},
        {"\"hidden_size\":\"64\"", "hidden_size is not one whole number"},
        {"\"hidden_size\":[64]", "hidden_size is not one whole number"},
        {"\"hidden_size\":9223372036854775807", "hidden_size is 9223372036854775807"},
        {"\"hidden_size\":66", "66 is not a multiple of 4 attention heads"},
        {"\"num_hidden_layers\":0", "num_hidden_layers is 0"},
        {"\"num_hidden_layers\":4097", "num_hidden_layers is 4097"},
        {"\"intermediate_size\":0", "intermediate_size is 0"},
        {"\"vocab_size\":0", "vocab_size is 0"},
        {"\"vocab_size\":null", "lacks vocab_size"},
        {"\"max_position_embeddings\":0", "max_position_embeddings is 0"},
        {"\"num_attention_heads\":0", "num_attention_heads is 0"},
        {"\"num_key_value_heads\":0", "num_key_value_heads is 0"},
        {"\"num_key_value_heads\":3", "4 attention heads are not a multiple of 3 KV heads"},
        {"\"head_dim\":17", "17 dimensions are odd"},
        {"\"head_dim\":0", "head_dim is 0"},
        {"\"head_dim\":524288", "4 heads of 524288 dimensions are more than"},
        {"\"v_head_dim\":8", "keys of 16 and values of 8"},
        {"\"rms_norm_eps\":null", "lacks rms_norm_eps"},
        {"\"rms_norm_eps\":0", "rms_norm_eps is 0"},
        {"\"rms_norm_eps\":-1e-6", "rms_norm_eps is -1e-06"},
        {"\"rms_norm_eps\":1", "rms_norm_eps is 1"},
        {"\"rms_norm_eps\":1e-60", "is 0 in 32 bits"},
        {"\"rms_norm_eps\":\"1e-6\"", "rms_norm_eps is not one number"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct tsr_config *config = open_with(cases[i].members);
        struct tsr_hparams h = {0};
        struct tsr_err err = {0};
        assert_true(tsr_config_hparams(config, &h, &err) < 0);
        if (!strstr(err.text, cases[i].words)) {
            fail_msg("%s: '%s'", cases[i].members, err.text);
        }
        tsr_config_close(config);
    }
}

static void test_config_reads_hyperparameters(void **state)
{
    (void)state;
    struct tsr_config *config = open_with("");
    struct tsr_hparams h = {0};
    struct tsr_err err = {0};
    assert_int_equal(tsr_config_hparams(config, &h, &err), 0);
    assert_int_equal(h.hidden, 64);
    assert_int_equal(h.layers, 2);
    assert_int_equal(h.ffn, 96);
    assert_int_equal(h.vocab, 100);
    assert_int_equal(h.context, 512);
    assert_int_equal(h.heads, 4);
    assert_int_equal(h.kv_heads, 2);
    assert_int_equal(h.head_dim, 16);
    assert_true(h.eps == 1e-5f);
    assert_string_equal(tsr_config_architecture(config), "llama");
    assert_false(tsr_config_is_gguf(config));
    tsr_config_close(config);

    config = open_with("\"num_key_value_heads\":null,\"head_dim\":20");
    h = (struct tsr_hparams){0};
    assert_int_equal(tsr_config_hparams(config, &h, &err), 0);
    assert_int_equal(h.kv_heads, 4); /* one for each, where none are stated */
    assert_int_equal(h.head_dim, 20);
    tsr_config_close(config);
    tsr_config_close(NULL);
}

static void test_config_reads_both_forms_of_rope(void **state)
{
    (void)state;
    static const struct {
        const char *members;
        double theta;
        const char *type;
        double factor;
    } cases[] = {
        {"\"rope_theta\":5e5", 5e5, "default", 1.0},
        {"\"rope_theta\":5e5,\"rope_scaling\":null", 5e5, "default", 1.0},
        {"\"rope_theta\":5e5,\"rope_scaling\":{\"type\":\"linear\",\"factor\":2}", 5e5, "linear",
         2.0},
        {"\"rope_theta\":5e5,\"rope_scaling\":{\"rope_type\":\"llama3\",\"factor\":8.0}", 5e5,
         "llama3", 8.0},
        {"\"rope_parameters\":{\"rope_type\":\"llama3\",\"rope_theta\":7,\"factor\":4}", 7.0,
         "llama3", 4.0},
        {"\"rope_theta\":9,\"rope_parameters\":{\"rope_type\":\"default\"}", 9.0, "default", 1.0},
        {"\"rope_scaling\":{\"type\":\"linear\",\"factor\":2},\"rope_parameters\":{\"factor\":3,"
         "\"rope_theta\":7}",
         1e4, "linear", 2.0}, /* one object is read, never a mixture */
        {"\"hidden_size\":64", 1e4, "default", 1.0},
    };
    static const double theta_fallback = 1e4, one = 1.0;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct tsr_config *config = open_with(cases[i].members);
        double theta, factor;
        const char *type;
        struct tsr_err err = {0};
        assert_int_equal(
            tsr_config_float(config, "rope_theta", 0.0, 1e9, &theta_fallback, &theta, &err), 0);
        assert_int_equal(
            tsr_config_string(config, "rope_scaling.rope_type", "default", &type, &err), 0);
        assert_int_equal(
            tsr_config_float(config, "rope_scaling.factor", 0.0, 1e9, &one, &factor, &err), 0);
        assert_true(theta == cases[i].theta);
        assert_string_equal(type, cases[i].type);
        assert_true(factor == cases[i].factor);
        tsr_config_close(config);
    }
}

static void test_config_names_keys_as_the_file_does(void **state)
{
    (void)state;
    struct tsr_err err = {0};
    double number;
    struct tsr_config *config = open_with("\"rope_parameters\":{\"factor\":\"two\"}");
    assert_int_equal(tsr_config_float(config, "rope_scaling.factor", 0.0, 9.0, NULL, &number, &err),
                     -EINVAL);
    assert_non_null(strstr(err.text, "rope_parameters.factor"));
    tsr_config_close(config);

    struct craft c = {0};
    struct tsr_gguf *gguf;
    craft_header(&c, 3, 0, 2);
    craft_key_string(&c, "general.architecture", "qwen2");
    craft_key_string(&c, "qwen2.embedding_length", "many");
    assert_int_equal(tsr_gguf_parse(&gguf, c.data, c.size, &err), 0);
    assert_int_equal(tsr_config_from_gguf(&config, gguf, &err), 0);
    uint32_t value;
    assert_int_equal(tsr_config_u32(config, "hidden_size", 1, 9, NULL, &value, &err), -EINVAL);
    assert_non_null(strstr(err.text, "qwen2.embedding_length is not one whole number"));
    assert_int_equal(tsr_config_u32(config, "num_hidden_layers", 1, 9, NULL, &value, &err),
                     -EINVAL);
    assert_non_null(strstr(err.text, "lacks qwen2.block_count"));
    tsr_config_close(config);
    tsr_gguf_close(gguf);
    craft_free(&c);
}

static void test_config_refuses_a_gguf_without_architecture(void **state)
{
    (void)state;
    static const char *const names[] = {NULL, "", "a\033b",
                                        "a-name-that-is-far-too-long-to-be-the-name-of-one"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        struct craft c = {0};
        struct tsr_gguf *gguf;
        struct tsr_config *config = NULL;
        struct tsr_err err = {0};
        craft_header(&c, 3, 0, names[i] ? 1 : 0);
        if (names[i]) {
            craft_key_string(&c, "general.architecture", names[i]);
        }
        assert_int_equal(tsr_gguf_parse(&gguf, c.data, c.size, &err), 0);
        assert_int_equal(tsr_config_from_gguf(&config, gguf, &err), -EINVAL);
        assert_non_null(strstr(err.text, "general.architecture"));
        tsr_gguf_close(gguf);
        craft_free(&c);
    }
}

static void test_config_reads_tokens(void **state)
{
    (void)state;
    static const struct {
        const char *members;
        int count;
    } cases[] = {
        {"\"eos_token_id\":null", 0},
        {"\"eos_token_id\":5", 1},
        {"\"eos_token_id\":[5,6,7]", 3},
        {"\"eos_token_id\":[]", 0},
        {"\"eos_token_id\":[5,6,7,8,9]", -EINVAL}, /* more than asked for */
        {"\"eos_token_id\":-1", -EINVAL},
        {"\"eos_token_id\":[5,\"6\"]", -EINVAL},
        {"\"eos_token_id\":5.0", -EINVAL},
        {"\"eos_token_id\":{}", -EINVAL},
        {"\"eos_token_id\":4294967301", -EINVAL},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct tsr_config *config = open_with(cases[i].members);
        uint32_t ids[4];
        struct tsr_err err = {0};
        int count = tsr_config_tokens(config, "eos_token_id", ids, 4, &err);
        assert_int_equal(count, cases[i].count);
        for (int j = 0; j < count; j++) {
            assert_int_equal(ids[j], 5 + j);
        }
        tsr_config_close(config);
    }
}

static void test_config_reads_booleans_and_strings(void **state)
{
    (void)state;
    struct tsr_config *config =
        open_with("\"yes\":true,\"no\":false,\"number\":1,\"empty\":\"\",\"bell\":\"\\u0007\"");
    static const bool fallback = true;
    struct tsr_err err = {0};
    bool flag = false;
    const char *string;
    assert_int_equal(tsr_config_bool(config, "yes", NULL, &flag, &err), 0);
    assert_true(flag);
    assert_int_equal(tsr_config_bool(config, "no", &fallback, &flag, &err), 0);
    assert_false(flag);
    assert_int_equal(tsr_config_bool(config, "absent", &fallback, &flag, &err), 0);
    assert_true(flag);
    assert_int_equal(tsr_config_bool(config, "absent", NULL, &flag, &err), -EINVAL);
    assert_int_equal(tsr_config_bool(config, "number", &fallback, &flag, &err), -EINVAL);
    assert_int_equal(tsr_config_string(config, "number", "x", &string, &err), -EINVAL);
    assert_int_equal(tsr_config_string(config, "empty", "x", &string, &err), -EINVAL);
    assert_int_equal(tsr_config_string(config, "bell", "x", &string, &err), -EINVAL);
    assert_int_equal(tsr_config_string(config, "absent", "x", &string, &err), 0);
    assert_string_equal(string, "x");
    assert_true(tsr_config_has(config, "number"));
    assert_false(tsr_config_has(config, "absent"));
    tsr_config_close(config);
}

static void test_config_reads_lists(void **state)
{
    (void)state;
    static const char *const names[] = {"full", "sliding"};
    struct tsr_config *config =
        open_with("\"types\":[\"sliding\",\"full\"],\"flags\":[1,0,1],\"odd\":[1,2],"
                  "\"other\":[\"full\",\"x\"],\"numbers\":[1,2.5],\"word\":[1,\"x\"],"
                  "\"none\":null,\"one\":7");
    uint8_t values[2];
    float numbers[2];
    struct tsr_err err;
    assert_int_equal(tsr_config_choices(config, "types", names, 2, values, 2, &err), 1);
    assert_true(values[0] == 1 && values[1] == 0);
    assert_int_equal(tsr_config_choices(config, "flags", NULL, 2, values, 2, &err), 1);
    assert_true(values[0] == 1 && values[1] == 0);
    assert_int_equal(tsr_config_choices(config, "absent", names, 2, values, 2, &err), 0);
    assert_int_equal(tsr_config_choices(config, "none", names, 2, values, 2, &err), 0);
    assert_int_equal(tsr_config_choices(config, "types", names, 2, values, 1, &err), -EINVAL);
    assert_int_equal(tsr_config_choices(config, "flags", NULL, 2, values, 4, &err), -EINVAL);
    assert_int_equal(tsr_config_choices(config, "flags", names, 2, values, 3, &err), -ENOTSUP);
    assert_int_equal(tsr_config_choices(config, "odd", NULL, 2, values, 2, &err), -ENOTSUP);
    assert_int_equal(tsr_config_choices(config, "other", names, 2, values, 2, &err), -ENOTSUP);
    assert_int_equal(tsr_config_choices(config, "one", names, 2, values, 1, &err), -EINVAL);
    assert_int_equal(tsr_config_floats(config, "numbers", 0, 9, numbers, 2, &err), 0);
    assert_true(numbers[0] == 1.0f && numbers[1] == 2.5f);
    assert_int_equal(tsr_config_floats(config, "numbers", 0, 2, numbers, 2, &err), -EINVAL);
    assert_int_equal(tsr_config_floats(config, "numbers", 0, 9, numbers, 1, &err), -EINVAL);
    assert_int_equal(tsr_config_floats(config, "word", 0, 9, numbers, 2, &err), -EINVAL);
    assert_int_equal(tsr_config_floats(config, "absent", 0, 9, numbers, 2, &err), -EINVAL);
    assert_true(tsr_config_is_null(config, "none"));
    assert_false(tsr_config_is_null(config, "one") || tsr_config_is_null(config, "absent"));
    tsr_config_close(config);
}

/* Rotary parameters by type of layer, and the text part of a model with images. */
static void test_config_reads_nested_parameters(void **state)
{
    (void)state;
    struct tsr_config *config = open_with(
        "\"text_config\":{\"hidden_size\":32,\"rope_parameters\":{\"full_attention\":{\"type\":"
        "\"linear\",\"factor\":8,\"rope_theta\":5}}},\"rope_theta\":7");
    const char *kind;
    uint32_t hidden;
    double factor;
    assert_int_equal(tsr_config_u32(config, "hidden_size", 1, 99, NULL, &hidden, NULL), 0);
    assert_int_equal(hidden, 32); /* of the part */
    assert_int_equal(tsr_config_u32(config, "vocab_size", 1, 999, NULL, &hidden, NULL), 0);
    assert_int_equal(hidden, 100); /* beside it */
    assert_true(tsr_config_has(config, "rope_scaling.full_attention"));
    assert_false(tsr_config_has(config, "rope_scaling.sliding_attention"));
    assert_int_equal(
        tsr_config_string(config, "rope_scaling.full_attention.rope_type", NULL, &kind, NULL), 0);
    assert_string_equal(kind, "linear");
    assert_int_equal(
        tsr_config_float(config, "rope_scaling.full_attention.factor", 0, 9, NULL, &factor, NULL),
        0);
    assert_true(factor == 8.0);
    tsr_config_close(config);
}

static void test_config_refuses_what_nobody_read(void **state)
{
    (void)state;
    static const struct {
        const char *members, *words;
    } cases[] = {
        {"\"clip_qkv\":8", "clip_qkv is stated, which is not understood for llama"},
        {"\"text_config\":{\"mlp_bias\":true}", "mlp_bias is stated"},
        {"\"rope_scaling\":{\"type\":\"linear\",\"beta\":1}", "rope_scaling.beta is stated"},
        {"\"rope_parameters\":{\"full_attention\":{\"gamma\":1}}", "rope_parameters.gamma"},
        {"\"rope_parameters\":{\"\\u0007\":1}", "rope_parameters is stated"},
    };
    static const char *const fine[] = {
        "\"clip_qkv\":null",
        "\"clip_qkv\":0",
        "\"mlp_bias\":false",
        "\"rope_scaling\":null",
        "\"layer_types\":[]",
        "\"_name_or_path\":\"x\"",
        "\"rope_scaling\":{\"x\":null}",
        "\"attention_dropout\":0.1",
    };
    struct tsr_err err;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct tsr_config *config = open_with(cases[i].members);
        assert_int_equal(tsr_config_check_read(config, &err), -ENOTSUP);
        if (!strstr(err.text, cases[i].words)) {
            fail_msg("%s: '%s'", cases[i].members, err.text);
        }
        tsr_config_close(config);
    }
    for (size_t i = 0; i < sizeof fine / sizeof *fine; i++) {
        struct tsr_config *config = open_with(fine[i]);
        assert_int_equal(tsr_config_check_read(config, &err), 0);
        tsr_config_close(config);
    }
    struct tsr_config *config = open_with(cases[0].members);
    assert_true(tsr_config_has(config, "clip_qkv"));
    assert_int_equal(tsr_config_check_read(config, &err), 0); /* somebody has asked */
    tsr_config_close(config);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_config_reads_lists),
        cmocka_unit_test(test_config_reads_nested_parameters),
        cmocka_unit_test(test_config_refuses_what_nobody_read),
        cmocka_unit_test(test_config_refuses_texts),
        cmocka_unit_test(test_config_refuses_figures_without_sense),
        cmocka_unit_test(test_config_refuses_a_gguf_without_architecture),
        cmocka_unit_test(test_config_names_keys_as_the_file_does),
        cmocka_unit_test(test_config_reads_hyperparameters),
        cmocka_unit_test(test_config_reads_both_forms_of_rope),
        cmocka_unit_test(test_config_reads_tokens),
        cmocka_unit_test(test_config_reads_booleans_and_strings),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
