/* Whole models, made by the test: a one-layer Llama of 32 columns, 2 heads and 10 tokens, as a
 * directory and as a GGUF, each with one thing changed. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <tsr/model/model.h>
#include <tsr/model/source.h>

#include "craft.h"

enum { HIDDEN = 32, HEAD_DIM = 16, VOCAB = 10, ELEMENTS_MAX = HIDDEN * HIDDEN };

/* rows 0: a vector. */
static const struct tiny {
    const char *hf, *gguf;
    uint32_t rows, cols;
} tiny[] = {
    {"model.embed_tokens.weight", "token_embd.weight", VOCAB, HIDDEN},
    {"model.norm.weight", "output_norm.weight", 0, HIDDEN},
    {"lm_head.weight", "output.weight", VOCAB, HIDDEN},
    {"model.layers.0.input_layernorm.weight", "blk.0.attn_norm.weight", 0, HIDDEN},
    {"model.layers.0.self_attn.q_proj.weight", "blk.0.attn_q.weight", HIDDEN, HIDDEN},
    {"model.layers.0.self_attn.k_proj.weight", "blk.0.attn_k.weight", HEAD_DIM, HIDDEN},
    {"model.layers.0.self_attn.v_proj.weight", "blk.0.attn_v.weight", HEAD_DIM, HIDDEN},
    {"model.layers.0.self_attn.o_proj.weight", "blk.0.attn_output.weight", HIDDEN, HIDDEN},
    {"model.layers.0.post_attention_layernorm.weight", "blk.0.ffn_norm.weight", 0, HIDDEN},
    {"model.layers.0.mlp.gate_proj.weight", "blk.0.ffn_gate.weight", HIDDEN, HIDDEN},
    {"model.layers.0.mlp.up_proj.weight", "blk.0.ffn_up.weight", HIDDEN, HIDDEN},
    {"model.layers.0.mlp.down_proj.weight", "blk.0.ffn_down.weight", HIDDEN, HIDDEN},
};
enum { TINY = sizeof tiny / sizeof *tiny };
#define PARAMETERS (2 * VOCAB * HIDDEN + 3 * HIDDEN + 5 * HIDDEN * HIDDEN + 2 * HEAD_DIM * HIDDEN)

/* What is to be different. */
struct change {
    const char *members; /* of config.json; they replace the plain ones */
    const char *drop;    /* a tensor that is not written */
    const char *add;     /* a further tensor of that name: add_size numbers 0, 1, 2 ... */
    uint32_t add_size;
    const char *retype; /* this tensor is I64 (directory) or I32 (GGUF) */
    float norm;         /* value of the norms' elements; 0 stands for 1 */
    uint32_t keys;      /* metadata entries that `more` holds */
    struct craft more;
};

static char directory[64]; /* of this program's files */

static const char *path_of(const char *name)
{
    static char path[PATH_MAX];
    snprintf(path, sizeof path, "%s/%s", directory, name);
    return path;
}

static void remove_files(void)
{
    static const char *const names[] = {"config.json",
                                        "generation_config.json",
                                        "model.safetensors",
                                        "model.safetensors.index.json",
                                        "a.safetensors",
                                        "b.safetensors",
                                        "model.gguf",
                                        "modules.json",
                                        "1_Pooling/config.json",
                                        "1_Pooling"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        remove(path_of(names[i]));
    }
}

static void write_config(const char *members)
{
    static const struct {
        const char *key, *value;
    } plain[] = {
        {"model_type", "\"llama\""},  {"hidden_size", "32"},
        {"num_hidden_layers", "1"},   {"intermediate_size", "32"},
        {"vocab_size", "10"},         {"max_position_embeddings", "512"},
        {"num_attention_heads", "2"}, {"num_key_value_heads", "1"},
        {"rms_norm_eps", "1e-5"},     {"eos_token_id", "3"},
    };
    char text[2048], key[64];
    members = members ? members : "";
    size_t at = (size_t)snprintf(text, sizeof text, "{%s", members);
    const char *comma = members[0] ? "," : "";
    for (size_t i = 0; i < sizeof plain / sizeof *plain; i++) {
        snprintf(key, sizeof key, "\"%s\":", plain[i].key);
        if (!strstr(members, key)) {
            at +=
                (size_t)snprintf(text + at, sizeof text - at, "%s%s%s", comma, key, plain[i].value);
            comma = ",";
        }
    }
    at += (size_t)snprintf(text + at, sizeof text - at, "}");
    craft_write(path_of("config.json"), text, at);
}

static float element(const struct tiny *t, uint32_t i, const struct change *change)
{
    if (t->rows == 0) {
        return change->norm != 0.0f ? change->norm : 1.0f;
    }
    return (float)i;
}

/* Tensors [first, end) of the table and, with the last, the added one. */
static void write_safetensors(const char *name, const struct change *change, uint32_t first,
                              uint32_t end)
{
    char header[8192] = "{";
    size_t at = 1, off = 0;
    struct craft data = {0}, file = {0};
    for (uint32_t i = first; i < end; i++) {
        const struct tiny *t = &tiny[i];
        if (change->drop && strcmp(change->drop, t->hf) == 0) {
            continue;
        }
        bool wide = change->retype && strcmp(change->retype, t->hf) == 0;
        uint32_t n = (t->rows ? t->rows : 1) * t->cols;
        char shape[32];
        snprintf(shape, sizeof shape, t->rows ? "[%u,%u]" : "[%u]", t->rows ? t->rows : t->cols,
                 t->cols);
        for (uint32_t j = 0; j < n; j++) {
            craft_f32(&data, element(t, j, change));
            craft_zeros(&data, wide ? 4 : 0);
        }
        at +=
            (size_t)snprintf(header + at, sizeof header - at,
                             "%s\"%s\":{\"dtype\":\"%s\",\"shape\":%s,\"data_offsets\":[%zu,%zu]}",
                             at > 1 ? "," : "", t->hf, wide ? "I64" : "F32", shape, off, data.size);
        off = data.size;
    }
    if (change->add && end == TINY) {
        for (uint32_t j = 0; j < change->add_size; j++) {
            craft_f32(&data, (float)j);
        }
        at += (size_t)snprintf(header + at, sizeof header - at,
                               ",\"%s\":{\"dtype\":\"F32\",\"shape\":[%u],\"data_offsets\":[%zu,"
                               "%zu]}",
                               change->add, change->add_size, off, data.size);
    }
    snprintf(header + at, sizeof header - at, "}");
    craft_safetensors(&file, header, 0);
    craft_bytes(&file, data.data, data.size);
    craft_write(path_of(name), file.data, file.size);
    craft_free(&data);
    craft_free(&file);
}

static void write_directory(const struct change *change)
{
    remove_files();
    write_config(change->members);
    write_safetensors("model.safetensors", change, 0, TINY);
}

static void write_gguf(const struct change *change)
{
    struct craft c = {0}, data = {0};
    uint32_t dropped = change->drop ? 1 : 0;
    remove_files();
    craft_header(&c, 3, TINY - dropped + (change->add ? 1 : 0), 8 + change->keys);
    craft_key_string(&c, "general.architecture", "llama");
    craft_key_u32(&c, "llama.embedding_length", HIDDEN);
    craft_key_u32(&c, "llama.block_count", 1);
    craft_key_u32(&c, "llama.feed_forward_length", HIDDEN);
    craft_key_u32(&c, "llama.context_length", 512);
    craft_key_u32(&c, "llama.attention.head_count", 2);
    craft_key_u32(&c, "llama.attention.head_count_kv", 1);
    craft_key(&c, "llama.attention.layer_norm_rms_epsilon", 6), craft_f32(&c, 1e-5f);
    craft_bytes(&c, change->more.data, change->more.size);
    for (uint32_t i = 0; i < TINY; i++) {
        const struct tiny *t = &tiny[i];
        if (change->drop && strcmp(change->drop, t->gguf) == 0) {
            continue;
        }
        bool wide = change->retype && strcmp(change->retype, t->gguf) == 0;
        craft_string(&c, t->gguf);
        craft_u32(&c, t->rows ? 2 : 1);
        craft_u64(&c, t->cols);
        if (t->rows) {
            craft_u64(&c, t->rows);
        }
        craft_u32(&c, wide ? 26 : 0);
        craft_u64(&c, data.size);
        uint32_t n = (t->rows ? t->rows : 1) * t->cols;
        for (uint32_t j = 0; j < n; j++) {
            craft_f32(&data, element(t, j, change));
        }
        craft_align(&data, 32);
    }
    if (change->add) {
        craft_string(&c, change->add);
        craft_u32(&c, 1);
        craft_u64(&c, change->add_size);
        craft_u32(&c, 0);
        craft_u64(&c, data.size);
        for (uint32_t j = 0; j < change->add_size; j++) {
            craft_f32(&data, (float)j);
        }
    }
    craft_align(&c, 32);
    craft_bytes(&c, data.data, data.size);
    craft_write(path_of("model.gguf"), c.data, c.size);
    craft_free(&c);
    craft_free(&data);
}

static void refuse_path(const char *path, int code, const char *words)
{
    struct tsr_model model;
    struct tsr_err err = {0};
    int rc = tsr_model_open(&model, path, &err);
    if (rc != code || !strstr(err.text, words)) {
        fail_msg("%d '%s' where %d '%s' was meant", rc, err.text, code, words);
    }
    if (strncmp(err.text, path, strlen(path)) != 0) {
        fail_msg("'%s' does not begin with its path '%s'", err.text, path);
    }
}

static void open_path(struct tsr_model *model, const char *path)
{
    struct tsr_err err = {0};
    if (tsr_model_open(model, path, &err) < 0) {
        fail_msg("%s", err.text);
    }
}

static void test_model_refuses_paths(void **state)
{
    (void)state;
    remove_files();
    refuse_path("no/such/model", -ENOENT, "cannot be opened");
    refuse_path(directory, -ENOENT, "without config.json");
    write_config(NULL);
    refuse_path(directory, -ENOENT, "neither model.safetensors nor");
    craft_write(path_of("config.json"), "{", 1);
    refuse_path(directory, -EINVAL, "JSON, line 1");
    craft_write(path_of("model.gguf"), "not a model", 11);
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s", path_of("model.gguf"));
    refuse_path(path, -EINVAL, "is not a GGUF file");
    struct craft c = {0};
    craft_header(&c, 3, 0, 1);
    craft_key_string(&c, "general.architecture", "llama");
    craft_write(path, c.data, c.size);
    refuse_path(path, -EINVAL, "metadata only");
    craft_free(&c);
}

static void test_model_refuses_what_a_directory_lacks(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < TINY; i++) {
        char words[128];
        const struct change change = {.drop = tiny[i].hf};
        write_directory(&change);
        snprintf(words, sizeof words, "tensor '%s' is missing", tiny[i].hf);
        refuse_path(directory, -EINVAL, words);
    }
}

static void test_model_refuses_directories(void **state)
{
    (void)state;
    static const struct {
        struct change change;
        int code;
        const char *words;
    } cases[] = {
        {{.members = "\"model_type\":\"mamba\""},
         -ENOTSUP,
         "architecture 'mamba' is not supported"},
        {{.members = "\"num_hidden_layers\":2"},
         -EINVAL,
         "'model.layers.1.input_layernorm.weight'"},
        {{.members = "\"vocab_size\":11"},
         -EINVAL,
         "'model.embed_tokens.weight' is [10, 32], where the configuration means [11, 32]"},
        {{.members = "\"num_key_value_heads\":2"}, -EINVAL, "k_proj.weight' is [16, 32]"},
        {{.members = "\"intermediate_size\":31"}, -EINVAL, "gate_proj.weight' is [32, 32]"},
        {{.members = "\"hidden_act\":\"gelu\""}, -ENOTSUP, "hidden_act is 'gelu'"},
        {{.members = "\"num_local_experts\":8"}, -ENOTSUP, "num_local_experts is 8"},
        {{.members = "\"attention_bias\":true"}, -EINVAL, "q_proj.bias' is missing"},
        {{.members = "\"mlp_bias\":true"}, -EINVAL, "gate_proj.bias' is missing"},
        {{.members = "\"quantization_config\":{\"bits\":4}"}, -ENOTSUP, "quant_method is 'none'"},
        {{.members = "\"rope_theta\":0"}, -EINVAL, "rope_theta is 0"},
        {{.members = "\"partial_rotary_factor\":0.5"}, -ENOTSUP, "rotating 8 of the 16 dimensions"},
        {{.members = "\"rope_scaling\":{\"rope_type\":\"axial\"}"}, -ENOTSUP, "kind 'axial'"},
        {{.members = "\"rope_scaling\":{\"rope_type\":\"yarn\"}"},
         -EINVAL,
         "lacks rope_scaling.factor"},
        {{.members = "\"rope_theta\":1,\"rope_scaling\":{\"type\":\"yarn\",\"factor\":2}"},
         -ENOTSUP,
         "YaRN with a rope_theta of 1"},
        {{.members = "\"rope_scaling\":{\"rope_type\":\"dynamic\",\"factor\":0.5}"},
         -EINVAL,
         "factor 0.5 are not possible"},
        {{.members = "\"rope_scaling\":{\"type\":\"dynamic\",\"factor\":2,\"alpha\":9}"},
         -ENOTSUP,
         "rope_scaling.alpha"},
        {{.members = "\"rope_scaling\":{\"type\":\"longrope\",\"short_factor\":[1,1]}"},
         -EINVAL,
         "rope_scaling.short_factor is not a list of 8 numbers"},
        {{.members = "\"rope_parameters\":{\"mrope_section\":[2,3,3]}"},
         -ENOTSUP,
         "rope_parameters.mrope_section is stated, which is not understood for llama"},
        {{.members = "\"attn_logit_softcapping\":30"},
         -ENOTSUP,
         "attn_logit_softcapping is stated, which is not understood"},
        {{.members = "\"is_causal\":false"}, -ENOTSUP, "is_causal is false"},
        {{.members = "\"layer_types\":[\"sliding_attention\"]"},
         -ENOTSUP,
         "layer_types[0] is 'sliding_attention'"},
        {{.members = "\"layer_types\":[\"linear_attention\"]"}, -ENOTSUP, "layer_types[0] is not"},
        {{.members = "\"layer_types\":[]"}, -EINVAL, "an element for each of 1 layers"},
        {{.members = "\"rope_scaling\":{\"type\":\"linear\"}"}, -EINVAL, "rope_scaling.factor"},
        {{.members = "\"rope_scaling\":{\"type\":\"linear\",\"factor\":0}"}, -EINVAL, "is 0"},
        {{.members = "\"rope_scaling\":{\"rope_type\":\"llama3\",\"factor\":8}"},
         -EINVAL,
         "lacks rope_scaling.low_freq_factor"},
        {{.members =
              "\"rope_scaling\":{\"rope_type\":\"llama3\",\"factor\":8,\"low_freq_factor\":4,"
              "\"high_freq_factor\":4,\"original_max_position_embeddings\":64}"},
         -EINVAL,
         "is not below high_freq_factor"},
        {{.members = "\"eos_token_id\":10"}, -EINVAL, "eos_token_id is 10, beyond"},
        {{.members = "\"eos_token_id\":\"x\""}, -EINVAL, "eos_token_id is not a token"},
        {{.add = "model.layers.0.self_attn.q_norm.weight", .add_size = 4},
         -ENOTSUP,
         "'model.layers.0.self_attn.q_norm.weight' has no part in a llama model"},
        {{.add = "model.layers.0.self_attn.q_proj.bias", .add_size = 32}, -ENOTSUP, "has no part"},
        {{.retype = "model.layers.0.mlp.up_proj.weight"},
         -ENOTSUP,
         "up_proj.weight' is of type I64"},
        {{.norm = NAN}, -EINVAL, "input_layernorm.weight' holds nan at 0"},
        {{.norm = INFINITY}, -EINVAL, "holds inf at 0"},
        {{.members = "\"model_type\":\"qwen2\""}, -EINVAL, "q_proj.bias' is missing"},
        {{.members = "\"model_type\":\"mistral\",\"sliding_window\":\"x\""},
         -EINVAL,
         "sliding_window is not one whole number"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        write_directory(&cases[i].change);
        refuse_path(directory, cases[i].code, cases[i].words);
    }
}

static void test_model_refuses_a_tied_head_that_differs(void **state)
{
    (void)state;
    struct change change = {.members = "\"tie_word_embeddings\":true"};
    struct tsr_model model;
    write_directory(&change);
    open_path(&model, directory); /* the same numbers: tied, and each counted once */
    assert_int_equal(model.program.parameters, PARAMETERS - VOCAB * HIDDEN);
    assert_int_equal(model.program.ops[model.program.n_ops - 1].matmul.parts[0].weight,
                     model.program.ops[0].embed.weight);
    tsr_model_close(&model);
    change.retype = "lm_head.weight";
    write_directory(&change);
    refuse_path(directory, -EINVAL, "tie_word_embeddings is true, but tensor 'lm_head.weight'");
    change = (struct change){.members = change.members, .drop = "lm_head.weight"};
    write_directory(&change);
    open_path(&model, directory);
    tsr_model_close(&model);
}

static void test_model_refuses_indexes(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        int code;
        const char *words;
    } cases[] = {
        {"{}", -EINVAL, "has no weight_map"},
        {"{\"weight_map\":{}}", -EINVAL, "has no weight_map"},
        {"{\"weight_map\":[1]}", -EINVAL, "has no weight_map"},
        {"{\"weight_map\":{\"a\":1}}", -EINVAL, "not a plain name"},
        {"{\"weight_map\":{\"a\":\"\"}}", -EINVAL, "not a plain name"},
        {"{\"weight_map\":{\"a\":\"../a.safetensors\"}}", -EINVAL, "not a plain name"},
        {"{\"weight_map\":{\"a\":\"/etc/passwd\"}}", -EINVAL, "not a plain name"},
        {"{\"weight_map\":{\"a\":\"x\\u001b[2J\"}}", -EINVAL, "not a plain name"},
        {"{\"weight_map\":{\"a\":\"c.safetensors\"}}", -ENOENT, "c.safetensors: cannot be opened"},
        {"{\"weight_map\":{\"a\":\"a.safetensors\"}}", -EINVAL, "places a tensor in 'a.safe"},
        {"{\"weight_map\":{\"lm_head.weight\":\"b.safetensors\",\"model.embed_tokens.weight\":"
         "\"b.safetensors\",\"model.layers.0.mlp.up_proj.weight\":\"a.safetensors\"}}",
         -EINVAL, "places a tensor in 'b.safe"}, /* it is in the other */
        {"{\"weight_map\":{\"lm_head.weight\":\"a.safetensors\"}}", -EINVAL,
         "'model.layers.0.input_layernorm.weight' is missing"}, /* the second is not named */
    };
    const struct change none = {0};
    struct tsr_model model;
    write_directory(&none);
    remove(path_of("model.safetensors"));
    write_safetensors("a.safetensors", &none, 0, 3);
    write_safetensors("b.safetensors", &none, 3, TINY);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct tsr_err err = {0};
        craft_write(path_of("model.safetensors.index.json"), cases[i].text, strlen(cases[i].text));
        int rc = tsr_model_open(&model, directory, &err);
        if (rc != cases[i].code || !strstr(err.text, cases[i].words)) {
            fail_msg("%s: %d '%s'", cases[i].text, rc, err.text);
        }
    }
    static const char sound[] = "{\"weight_map\":{\"lm_head.weight\":\"a.safetensors\","
                                "\"model.layers.0.mlp.up_proj.weight\":\"b.safetensors\"}}";
    craft_write(path_of("model.safetensors.index.json"), sound, sizeof sound - 1);
    open_path(&model, directory);
    assert_int_equal(model.program.parameters, PARAMETERS);
    tsr_model_close(&model);
}

/* The kinds of operation of a Llama of one layer, in order. */
static const enum tsr_op_kind kinds[] = {
    TSR_OP_EMBED,  TSR_OP_NORM,   TSR_OP_MATMUL, TSR_OP_ROPE, TSR_OP_ROPE,
    TSR_OP_ATTEND, TSR_OP_MATMUL, TSR_OP_NORM,   TSR_OP_GLU,  TSR_OP_MATMUL,
    TSR_OP_SELECT, TSR_OP_NORM,   TSR_OP_MATMUL,
};

static void check_program(const struct tsr_program *p, bool is_gguf)
{
    assert_string_equal(p->architecture, "llama");
    assert_int_equal(p->n_ops, sizeof kinds / sizeof *kinds);
    for (uint32_t i = 0; i < p->n_ops; i++) {
        assert_int_equal(p->ops[i].kind, kinds[i]);
    }
    assert_int_equal(p->vocab, VOCAB);
    assert_int_equal(p->hidden, HIDDEN);
    assert_int_equal(p->layers, 1);
    assert_int_equal(p->kv_heads, 1);
    assert_int_equal(p->head_dim, HEAD_DIM);
    assert_int_equal(p->context, 512);
    assert_int_equal(p->parameters, PARAMETERS);
    assert_int_equal(p->buffer_width[p->logits], VOCAB);
    const struct tsr_op *qkv = &p->ops[2], *attend = &p->ops[5], *output = &p->ops[6];
    assert_int_equal(p->buffer_width[qkv->out], HIDDEN + 2 * HEAD_DIM);
    assert_int_equal(qkv->matmul.n_parts, 3);
    assert_int_equal(qkv->matmul.parts[1].out_col, HIDDEN);
    assert_int_equal(qkv->matmul.parts[2].out_col, HIDDEN + HEAD_DIM);
    assert_null(qkv->matmul.parts[0].bias);
    for (int i = 0; i < 3; i++) { /* of q and k, not of v */
        const struct tsr_weight *w = &p->weights[qkv->matmul.parts[i].weight];
        assert_int_equal(w->order,
                         is_gguf && i < 2 ? TSR_ROW_ORDER_ROPE_PAIRS : TSR_ROW_ORDER_PLAIN);
    }
    assert_int_equal(p->ops[3].rope.heads, 2);
    assert_int_equal(p->ops[4].rope.heads, 1);
    assert_int_equal(p->ops[4].rope.in_col, HIDDEN);
    assert_int_equal(attend->attend.k_col, HIDDEN);
    assert_int_equal(attend->attend.v_col, HIDDEN + HEAD_DIM);
    assert_true(attend->scale == 0.25f);
    assert_true(output->matmul.accumulate);
    assert_int_equal(output->out, p->ops[0].out); /* the residual stream */
    assert_int_equal(p->n_ropes, 1);
    assert_int_equal(p->ropes[0].dims, HEAD_DIM);
    assert_true(p->ropes[0].scale == 1.0f);
    for (uint32_t i = 0; i < HEAD_DIM / 2; i++) {
        assert_true(p->ropes[0].inv_freq[i] ==
                    1.0f / powf(10000.0f, (float)(2 * i) / (float)HEAD_DIM));
    }
}

static void test_model_builds_the_same_from_both_formats(void **state)
{
    (void)state;
    const struct change none = {0};
    struct tsr_model model;
    write_directory(&none);
    open_path(&model, directory);
    check_program(&model.program, false);
    assert_null(model.gguf);
    assert_int_equal(model.n_eos, 1);
    assert_int_equal(model.eos[0], 3);
    assert_int_equal(model.bos, TSR_MODEL_NO_TOKEN);
    assert_string_equal(model.name,
                        strrchr(directory, '/') ? strrchr(directory, '/') + 1 : directory);
    tsr_model_drop_tensors(&model);
    const struct tsr_weight *w = &model.program.weights[0];
    float value;
    memcpy(&value, (const uint8_t *)w->tensor->data + 4 * 33, sizeof value);
    assert_true(value == 33.0f); /* reads back from the file */
    tsr_model_close(&model);

    write_gguf(&none);
    open_path(&model, path_of("model.gguf"));
    check_program(&model.program, true);
    assert_non_null(model.gguf);
    assert_string_equal(model.name, "model.gguf");
    assert_int_equal(model.n_eos, 0);
    tsr_model_drop_tensors(&model);
    tsr_model_close(&model);
}

static void test_model_ignores_stored_rotary_frequencies(void **state)
{
    (void)state;
    const struct change change = {.add = "model.layers.0.self_attn.rotary_emb.inv_freq",
                                  .add_size = 8};
    struct tsr_model model;
    write_directory(&change);
    open_path(&model, directory);
    check_program(&model.program, false);
    tsr_model_close(&model);
}

static void test_model_scales_rope(void **state)
{
    (void)state;
    static const struct {
        const char *members;
        float first, last; /* factors on the frequencies */
    } cases[] = {
        {"\"rope_scaling\":{\"type\":\"linear\",\"factor\":4}", 0.25f, 0.25f},
        {"\"rope_parameters\":{\"rope_type\":\"linear\",\"factor\":4}", 0.25f, 0.25f},
        {"\"rope_scaling\":{\"rope_type\":\"default\"}", 1.0f, 1.0f},
        {"\"rope_scaling\":{\"rope_type\":\"llama3\",\"factor\":8,\"low_freq_factor\":1,"
         "\"high_freq_factor\":4,\"original_max_position_embeddings\":64}",
         1.0f, 0.125f},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const struct change change = {.members = cases[i].members};
        struct tsr_model model;
        write_directory(&change);
        open_path(&model, directory);
        const float *f = model.program.ropes[0].inv_freq;
        assert_true(f[0] == cases[i].first);
        assert_true(f[7] == 1.0f / powf(10000.0f, 14.0f / 16.0f) * cases[i].last);
        tsr_model_close(&model);
    }
}

static void test_model_reads_all_ends_of_text(void **state)
{
    (void)state;
    const struct change change = {.members = "\"eos_token_id\":[7,3],\"bos_token_id\":1"};
    static const char generation[] = "{\"eos_token_id\":[3,9]}";
    struct tsr_model model;
    write_directory(&change);
    craft_write(path_of("generation_config.json"), generation, sizeof generation - 1);
    open_path(&model, directory);
    assert_int_equal(model.n_eos, 3);
    assert_int_equal(model.eos[0], 3);
    assert_int_equal(model.eos[1], 7);
    assert_int_equal(model.eos[2], 9);
    assert_int_equal(model.bos, 1);
    tsr_model_close(&model);
}

static void test_model_reads_advice_on_sampling(void **state)
{
    (void)state;
    const struct change change = {0};
    static const char generation[] =
        "{\"temperature\":0.6,\"top_k\":20,\"top_p\":7,\"repetition_penalty\":null}";
    struct tsr_model model;
    write_directory(&change);
    open_path(&model, directory);
    assert_false(model.sampling.stated);
    tsr_model_close(&model);
    craft_write(path_of("generation_config.json"), generation, sizeof generation - 1);
    open_path(&model, directory);
    assert_true(model.sampling.stated);
    assert_true(model.sampling.temperature == 0.6);
    assert_int_equal(model.sampling.top_k, 20);
    assert_true(model.sampling.top_p == 1); /* 7 is none */
    assert_true(model.sampling.min_p == 0);
    assert_true(model.sampling.repetition_penalty == 1);
    tsr_model_close(&model);
}

static void test_model_refuses_ggufs(void **state)
{
    (void)state;
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s", path_of("model.gguf"));
    static const struct {
        const char *drop, *retype, *add;
        uint32_t add_size;
        int code;
        const char *words;
    } cases[] = {
        {.drop = "blk.0.ffn_up.weight", .code = -EINVAL, .words = "ffn_up.weight' is missing"},
        {.retype = "blk.0.ffn_up.weight", .code = -ENOTSUP, .words = "is of type I32"},
        {.add = "blk.0.attn_q_norm.weight", 16, -ENOTSUP, "has no part in a llama model"},
        {.add = "blk.0.attn_q.bias", 31, -EINVAL, "is [31], where the configuration means [32]"},
        {.add = "rope_freqs.weight", 7, -EINVAL, "is [7], where the configuration means [8]"},
        {.add = "rope_freqs.weight", 8, -EINVAL, "holds 0 at 0"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const struct change change = {.drop = cases[i].drop,
                                      .retype = cases[i].retype,
                                      .add = cases[i].add,
                                      .add_size = cases[i].add_size};
        write_gguf(&change);
        refuse_path(path, cases[i].code, cases[i].words);
    }
    static const struct {
        const char *key;
        uint32_t value;
        int code;
        const char *words;
    } keys[] = {
        {"llama.rope.dimension_count", 8, -ENOTSUP, "rotating 8 of the 16 dimensions"},
        {"llama.expert_count", 8, -ENOTSUP, "num_local_experts is 8"},
        {"llama.attention.clamp_kqv", 8, -ENOTSUP, "attention.clamp_kqv is stated, which is not"},
        {"llama.vocab_size", 11, -EINVAL, "'token_embd.weight' is [10, 32]"},
        {"llama.attention.value_length", 8, -ENOTSUP, "values of 8"},
        {"split.count", 2, -EINVAL, "split.no is not 0 to 1"},
        {"tokenizer.ggml.eos_token_id", 10, -EINVAL, "beyond the vocabulary of 10"},
        {"llama.rope.scaling.type", 1, -EINVAL, "llama.rope.scaling.type is not a string"},
    };
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        struct change change = {.keys = 1};
        craft_key_u32(&change.more, keys[i].key, keys[i].value);
        write_gguf(&change);
        refuse_path(path, keys[i].code, keys[i].words);
        craft_free(&change.more);
    }
    struct change change = {.keys = 1};
    craft_key(&change.more, "tokenizer.ggml.tokens", 9);
    craft_u32(&change.more, 8), craft_u64(&change.more, 11);
    for (int i = 0; i < 11; i++) {
        craft_string(&change.more, "t");
    }
    write_gguf(&change);
    refuse_path(path, -EINVAL, "lists 11 tokens, where the embedding has 10 rows");
    craft_free(&change.more);
}

static void test_model_orders_biases_of_a_gguf(void **state)
{
    (void)state;
    const struct change change = {.add = "blk.0.attn_q.bias", .add_size = HIDDEN};
    struct tsr_model model;
    write_gguf(&change);
    open_path(&model, path_of("model.gguf"));
    const float *bias = model.program.ops[2].matmul.parts[0].bias;
    for (uint32_t head = 0; head < 2; head++) {
        for (uint32_t i = 0; i < HEAD_DIM / 2; i++) {
            const float *b = bias + head * HEAD_DIM;
            assert_true(b[i] == (float)(head * HEAD_DIM + 2 * i));
            assert_true(b[i + HEAD_DIM / 2] == (float)(head * HEAD_DIM + 2 * i + 1));
        }
    }
    assert_null(model.program.ops[2].matmul.parts[1].bias);
    tsr_model_close(&model);
}

static void test_model_takes_biases_that_a_gguf_holds(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        uint32_t op, part;
    } cases[] = {
        {"blk.0.attn_v.bias", 2, 2},   {"blk.0.attn_output.bias", 6, 0},
        {"blk.0.ffn_gate.bias", 8, 0}, {"blk.0.ffn_up.bias", 8, 1},
        {"blk.0.ffn_down.bias", 9, 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const struct change change = {.add = cases[i].name,
                                      .add_size = cases[i].part == 2 ? HEAD_DIM : HIDDEN};
        struct tsr_model model;
        write_gguf(&change);
        open_path(&model, path_of("model.gguf"));
        for (uint32_t op = 2; op < model.program.n_ops; op++) {
            const struct tsr_op *o = &model.program.ops[op];
            bool has_parts = o->kind == TSR_OP_MATMUL || o->kind == TSR_OP_GLU;
            for (uint32_t part = 0; has_parts && part < o->matmul.n_parts; part++) {
                bool meant = op == cases[i].op && part == cases[i].part;
                assert_int_equal(o->matmul.parts[part].bias != NULL, meant);
                assert_true(!meant || o->matmul.parts[part].bias[5] == 5.0f);
            }
        }
        tsr_model_close(&model);
    }
}

static void test_model_reads_metadata_of_a_gguf(void **state)
{
    (void)state;
    static const char *const tokens[] = {"a", "<|im_end|>", "<|endoftext|>", "<|im_end|>", "b"};
    static const uint32_t types[] = {1, 3, 3, 1, 1}; /* token 3 is plain text of that name */
    struct change change = {.drop = "output.weight", .keys = 6};
    craft_key(&change.more, "tokenizer.ggml.tokens", 9);
    craft_u32(&change.more, 8), craft_u64(&change.more, 5);
    for (int i = 0; i < 5; i++) {
        craft_string(&change.more, tokens[i]);
    }
    craft_key(&change.more, "tokenizer.ggml.token_type", 9);
    craft_u32(&change.more, 5), craft_u64(&change.more, 5);
    for (int i = 0; i < 5; i++) {
        craft_u32(&change.more, types[i]);
    }
    craft_key_u32(&change.more, "tokenizer.ggml.eos_token_id", 4);
    craft_key_u32(&change.more, "tokenizer.ggml.bos_token_id", 0);
    craft_key_string(&change.more, "general.name", "Tiny");
    craft_key(&change.more, "llama.rope.scale_linear", 6), craft_f32(&change.more, 2.0f);
    struct tsr_model model;
    write_gguf(&change);
    open_path(&model, path_of("model.gguf"));
    assert_string_equal(model.name, "Tiny");
    assert_int_equal(model.n_eos, 3);
    assert_int_equal(model.eos[0], 1);
    assert_int_equal(model.eos[1], 2);
    assert_int_equal(model.eos[2], 4);
    assert_int_equal(model.bos, 0);
    assert_true(model.program.ropes[0].inv_freq[0] == 0.5f);
    assert_int_equal(model.program.parameters, PARAMETERS - VOCAB * HIDDEN); /* tied */
    tsr_model_close(&model);
    craft_free(&change.more);
}

static void test_model_reads_how_embeddings_are_pooled(void **state)
{
    (void)state;
    static const char plain[] = "[{\"type\": \"sentence_transformers.models.Transformer\", "
                                "\"path\": \"\"}, {\"type\": "
                                "\"sentence_transformers.models.Pooling\", \"path\": "
                                "\"1_Pooling\"}, {\"type\": "
                                "\"sentence_transformers.models.Normalize\", \"path\": "
                                "\"2_Normalize\"}]";
    static const struct {
        const char *modules, *config; /* NULL: the file is not there */
        int rc;
        enum tsr_pooling pooling;
        const char *says;
    } cases[] = {
        {NULL, NULL, 0, TSR_POOLING_LAST, ""},
        {NULL, "{\"pooling_mode_mean_tokens\": true, \"pooling_mode_cls_token\": false}", 0,
         TSR_POOLING_MEAN, ""},
        {plain, "{\"pooling_mode_cls_token\": true}", 0, TSR_POOLING_CLS, ""},
        {plain, "{\"pooling_mode_lasttoken\": true, \"include_prompt\": true}", 0, TSR_POOLING_LAST,
         ""},
        {plain, "{\"pooling_mode\": \"mean\"}", 0, TSR_POOLING_MEAN, ""},
        {plain, "{\"pooling_mode\": \"max\"}", 0, TSR_POOLING_NONE, "max"},
        {plain, "{\"pooling_mode_max_tokens\": true}", 0, TSR_POOLING_NONE,
         "pooling_mode_max_tokens"},
        {plain, "{\"pooling_mode_cls_token\": true, \"pooling_mode_mean_tokens\": true}", 0,
         TSR_POOLING_NONE, "2 ways"},
        {plain, "{}", 0, TSR_POOLING_NONE, "0 ways"},
        {plain, NULL, 0, TSR_POOLING_NONE, "missing"},
        {plain, "[]", -EINVAL, TSR_POOLING_NONE, "1_Pooling/config.json"},
        {"{}", NULL, -EINVAL, TSR_POOLING_NONE, "modules.json"},
        {"[{\"type\": \"sentence_transformers.models.Transformer\"}]", NULL, 0, TSR_POOLING_NONE,
         "no pooling"},
        {"[{\"type\": \"a.Pooling\", \"path\": \"1_Pooling\"}, {\"type\": \"a.Dense\", "
         "\"path\": \"2\\u00e9\"}]",
         "{\"pooling_mode\": \"mean\"}", 0, TSR_POOLING_NONE, "'Dense' at '2?"},
        {"[{\"type\": \"a.Pooling\", \"path\": \"../1_Pooling\"}]", NULL, 0, TSR_POOLING_NONE,
         "../1_Pooling"},
        {"[7]", NULL, 0, TSR_POOLING_NONE, "(none)"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct tsr_model model;
        struct tsr_err err = {0};
        write_directory(&(struct change){0});
        if (cases[i].modules) {
            craft_write(path_of("modules.json"), cases[i].modules, strlen(cases[i].modules));
        }
        if (cases[i].config) {
            assert_int_equal(mkdir(path_of("1_Pooling"), 0755), 0);
            craft_write(path_of("1_Pooling/config.json"), cases[i].config, strlen(cases[i].config));
        }
        int rc = tsr_model_open(&model, directory, &err);
        const char *said = rc < 0 ? err.text : model.pooling_refusal;
        if (rc != cases[i].rc || model.pooling != cases[i].pooling ||
            !strstr(said, cases[i].says) || (rc == 0 && !cases[i].says[0] && said[0])) {
            fail_msg("case %zu: %d, pooling %d, '%s'", i, rc, (int)model.pooling, said);
        }
        tsr_model_close(&model);
    }
}

static void test_model_reads_the_pooling_of_a_gguf(void **state)
{
    (void)state;
    for (uint32_t type = 0; type <= 5; type++) {
        struct change change = {.keys = type < 5};
        struct tsr_model model;
        if (type < 5) {
            craft_key_u32(&change.more, "llama.pooling_type", type);
        }
        write_gguf(&change);
        open_path(&model, path_of("model.gguf"));
        bool stated = type >= TSR_POOLING_MEAN && type <= TSR_POOLING_LAST;
        enum tsr_pooling want = stated      ? (enum tsr_pooling)type
                                : type == 5 ? TSR_POOLING_LAST
                                            : TSR_POOLING_NONE;
        assert_int_equal(model.pooling, want);
        assert_int_equal(model.pooling_refusal[0] != '\0', want == TSR_POOLING_NONE);
        tsr_model_close(&model);
        craft_free(&change.more);
    }
    struct change change = {.keys = 1};
    struct tsr_model model;
    struct tsr_err err = {0};
    craft_key_string(&change.more, "llama.pooling_type", "mean");
    write_gguf(&change);
    assert_int_equal(tsr_model_open(&model, path_of("model.gguf"), &err), -EINVAL);
    assert_non_null(strstr(err.text, "llama.pooling_type"));
    craft_free(&change.more);
}

static void test_source_opens_what_no_builder_knows(void **state)
{
    (void)state;
    const struct change change = {.members = "\"model_type\":\"mamba\""};
    struct tsr_source source;
    struct tsr_err err = {0};
    write_directory(&change);
    assert_int_equal(tsr_source_open(&source, directory, &err), 0);
    assert_string_equal(tsr_config_architecture(source.config), "mamba");
    assert_int_equal(source.tensors->n, TINY);
    assert_int_equal(source.n_files, 1);
    tsr_source_close(&source);
}

static int setup(void **state)
{
    (void)state;
    const char *build = getenv("TESSERA_BUILD");
    snprintf(directory, sizeof directory, "test_model_XXXXXX");
    return (build && chdir(build) < 0) || !mkdtemp(directory) ? -1 : 0;
}

static int teardown(void **state)
{
    (void)state;
    remove_files();
    return rmdir(directory);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_model_refuses_paths),
        cmocka_unit_test(test_model_refuses_what_a_directory_lacks),
        cmocka_unit_test(test_model_refuses_directories),
        cmocka_unit_test(test_model_refuses_a_tied_head_that_differs),
        cmocka_unit_test(test_model_refuses_indexes),
        cmocka_unit_test(test_model_refuses_ggufs),
        cmocka_unit_test(test_model_builds_the_same_from_both_formats),
        cmocka_unit_test(test_model_ignores_stored_rotary_frequencies),
        cmocka_unit_test(test_model_scales_rope),
        cmocka_unit_test(test_model_reads_all_ends_of_text),
        cmocka_unit_test(test_model_reads_advice_on_sampling),
        cmocka_unit_test(test_model_orders_biases_of_a_gguf),
        cmocka_unit_test(test_model_takes_biases_that_a_gguf_holds),
        cmocka_unit_test(test_model_reads_metadata_of_a_gguf),
        cmocka_unit_test(test_model_reads_how_embeddings_are_pooled),
        cmocka_unit_test(test_model_reads_the_pooling_of_a_gguf),
        cmocka_unit_test(test_source_opens_what_no_builder_knows),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
