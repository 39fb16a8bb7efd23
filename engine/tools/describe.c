#include "describe_priv.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <tsr/exec/exec.h>
#include <tsr/model/source.h>
#include <tsr/tools/language.h>
#include <tsr/tools/verify.h>

#include "command_priv.h"

/* A file's text, which may be no UTF-8: then its ASCII with "?" for the rest. */
static json_t *text(const char *from, size_t len)
{
    json_t *string = json_stringn(from, len);
    if (!string) {
        char *plain = malloc(len + 1);
        for (size_t i = 0; plain && i < len; i++) {
            plain[i] = from[i] & '\x80' ? '?' : from[i];
        }
        string = plain ? json_stringn(plain, len) : NULL;
        free(plain);
    }
    return string;
}

static void set(json_t *object, const char *key, json_t *value)
{
    json_object_set_new(object, key, value);
}

static void set_count(json_t *object, const char *key, uint64_t value)
{
    set(object, key, json_integer((json_int_t)value));
}

static void unsupported(json_t *facts, const char *sentence)
{
    json_array_append_new(json_object_get(facts, "unsupported"), text(sentence, strlen(sentence)));
}

/* What the configuration states of the shape, whatever the architecture. */
static void describe_shape(json_t *facts, const struct tsr_config *config)
{
    static const char *const counts[] = {
        "hidden_size",    "num_hidden_layers", "num_attention_heads", "num_key_value_heads",
        "head_dim",       "intermediate_size", "vocab_size",          "max_position_embeddings",
        "sliding_window", "num_local_experts"};
    static const char *const reals[] = {"rms_norm_eps", "rope_theta", "rope_scaling.factor"};
    json_t *shape = json_object();
    uint32_t count;
    double real;
    const char *kind;
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++) {
        if (tsr_config_has(config, counts[i]) &&
            tsr_config_u32(config, counts[i], 0, UINT32_MAX, NULL, &count, NULL) == 0) {
            set_count(shape, counts[i], count);
        }
    }
    for (size_t i = 0; i < sizeof reals / sizeof *reals; i++) {
        if (tsr_config_has(config, reals[i]) &&
            tsr_config_float(config, reals[i], -1e30, 1e30, NULL, &real, NULL) == 0) {
            set(shape, reals[i], json_real(real));
        }
    }
    if (tsr_config_has(config, "rope_scaling.rope_type") &&
        tsr_config_string(config, "rope_scaling.rope_type", NULL, &kind, NULL) == 0) {
        set(shape, "rope_scaling.rope_type", text(kind, strlen(kind)));
    }
    const char *architecture = tsr_config_architecture(config);
    set(facts, "architecture", text(architecture, strlen(architecture)));
    set(facts, "shape", shape);
    const json_t *context = json_object_get(shape, "max_position_embeddings");
    if (context) {
        set(facts, "context", json_integer(json_integer_value(context)));
    }
}

static void add_type(json_t *types, const struct tsr_tensor_entry *entry)
{
    json_t *row = NULL;
    size_t i;
    json_array_foreach(types, i, row)
    {
        if (strcmp(json_string_value(json_object_get(row, "type")), entry->type) == 0) {
            break;
        }
        row = NULL;
    }
    if (!row) {
        row = json_pack("{s:s,s:i,s:i,s:i}", "type", entry->type, "tensors", 0, "elements", 0,
                        "bytes", 0);
        json_array_append_new(types, row);
    }
    const struct {
        const char *key;
        uint64_t more;
    } sums[] = {{"tensors", 1}, {"elements", entry->elements}, {"bytes", entry->tensor.bytes}};
    for (size_t k = 0; k < sizeof sums / sizeof *sums; k++) {
        json_t *sum = json_object_get(row, sums[k].key);
        json_integer_set(sum, json_integer_value(sum) + (json_int_t)sums[k].more);
    }
}

static json_t *tensor(const struct tsr_tensor_entry *entry)
{
    json_t *row = json_object(), *dims = json_array();
    for (uint32_t i = 0; i < entry->tensor.n_dims; i++) {
        json_array_append_new(dims, json_integer((json_int_t)entry->tensor.dims[i]));
    }
    set(row, "name", text(entry->tensor.name, strlen(entry->tensor.name)));
    set(row, "type", json_string(entry->type));
    set(row, "dims", dims);
    set_count(row, "bytes", entry->tensor.bytes);
    return row;
}

/* A sentence where tensors of this row's type cannot be computed with. */
static void check_type(json_t *facts, const json_t *row, const struct tsr_tensors *tensors)
{
    const char *type = json_string_value(json_object_get(row, "type"));
    long long count = json_integer_value(json_object_get(row, "tensors"));
    const struct tsr_tensor_entry *first = tensors->entries;
    while (strcmp(first->type, type) != 0) {
        first++;
    }
    if (first->tensor.dtype == TSR_DTYPE_COUNT) {
        char sentence[TSR_TENSOR_NAME_MAX + 128];
        snprintf(sentence, sizeof sentence,
                 "%lld tensor%s of type %s, which cannot be computed with: '%s'%s", count,
                 count == 1 ? " is" : "s are", type, first->tensor.name,
                 count == 1 ? "" : " and others");
        unsupported(facts, sentence);
    }
}

static void describe_tensors(json_t *facts, const struct tsr_tensors *tensors, bool with_tensors)
{
    json_t *types = json_array(), *list = json_array(), *row;
    uint64_t elements = 0;
    size_t i;
    for (i = 0; i < tensors->n; i++) {
        elements += tensors->entries[i].elements;
        add_type(types, &tensors->entries[i]);
        if (with_tensors) {
            json_array_append_new(list, tensor(&tensors->entries[i]));
        }
    }
    json_array_foreach(types, i, row)
    {
        check_type(facts, row, tensors);
    }
    if (tensors->n > 0) {
        set_count(facts, "parameters", elements);
    }
    set(facts, "types", types);
    if (with_tensors) {
        json_object_set(facts, "tensors", list);
    }
    json_decref(list);
}

static json_t *token(const struct tsr_vocab *vocab, uint32_t id)
{
    size_t len = 0;
    const char *bytes = id == TSR_TOKEN_NONE ? NULL : tsr_vocab_text(vocab, id, &len);
    if (!bytes) {
        return json_null();
    }
    json_t *row = json_object();
    set_count(row, "id", id);
    set(row, "text", text(bytes, len));
    return row;
}

static void describe_template(json_t *facts, const struct tsr_tokenizer *tokenizer)
{
    const char *source = tsr_tokenizer_chat_template(tokenizer);
    struct tsr_template *tmpl;
    struct tsr_err err;
    if (!source) {
        return;
    }
    set(facts, "template", json_pack("{s:I}", "bytes", (json_int_t)strlen(source)));
    if (tsr_template_parse(&tmpl, source, strlen(source), &err) < 0) {
        unsupported(facts, err.text);
        return;
    }
    tsr_template_destroy(tmpl);
}

/* Tokenizer and template; files without them are no error. */
static int describe_language(json_t *facts, const char *path, struct tsr_err *err)
{
    struct tsr_language language;
    set(facts, "tokenizer", json_null());
    set(facts, "template", json_null());
    int rc = tsr_language_open(&language, path, err);
    if (rc == -ENOENT || rc == -ENOTSUP) {
        unsupported(facts, err->text);
        return 0;
    }
    if (rc < 0) {
        return rc;
    }
    const struct tsr_vocab *vocab = tsr_tokenizer_vocab(language.tokenizer);
    const char *description = tsr_tokenizer_describe(language.tokenizer);
    json_t *row = json_object(), *ends = json_array();
    for (uint32_t i = 0; i < vocab->n_ends; i++) {
        json_array_append_new(ends, token(vocab, vocab->ends[i]));
    }
    set(row, "description", text(description, strlen(description)));
    set_count(row, "tokens", vocab->n_tokens);
    set(row, "bos", token(vocab, vocab->bos));
    set(row, "eos", token(vocab, vocab->eos));
    set(row, "ends", ends);
    set(row, "adds_bos", json_boolean(vocab->add_bos));
    set(row, "adds_eos", json_boolean(vocab->add_eos));
    set(facts, "tokenizer", row);
    describe_template(facts, language.tokenizer);
    tsr_language_close(&language);
    return 0;
}

/* What the executor plans, for each precision that weights can be packed in. */
static void describe_memory(json_t *facts, const struct tsr_model *model)
{
    const enum tsr_weights kinds[] = {TSR_WEIGHTS_FILE, TSR_WEIGHTS_REF, TSR_WEIGHTS_BF16,
                                      TSR_WEIGHTS_F16, TSR_WEIGHTS_INT8};
    json_t *memory = json_array();
    struct tsr_err err;
    struct tsr_exec_plan plan;
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        const struct tsr_exec_options options = {.weights = kinds[i]};
        int rc = tsr_exec_plan(&plan, model, &options, &err);
        if (rc < 0 && rc != -ENOMEM) {
            unsupported(facts, err.text);
            break;
        }
        json_t *row = json_object();
        set(row, "weights", json_string(tsr_verify_name(kinds[i])));
        set_count(row, "weights_bytes", plan.weights_bytes);
        set_count(row, "kv_bytes_per_position",
                  plan.kv_positions ? plan.kv_bytes / plan.kv_positions : 0);
        set_count(row, "kv_positions", plan.kv_positions);
        set_count(row, "kv_bytes", plan.kv_bytes);
        set_count(row, "buffer_bytes", plan.buffer_bytes);
        set_count(row, "need_bytes", plan.need_bytes);
        set(row, "fits", json_boolean(rc == 0));
        set_count(facts, "memory_available", plan.available_bytes);
        json_array_append_new(memory, row);
    }
    set(facts, "memory", memory);
}

/* Whether a program can be built, and what it then needs. */
static int describe_program(json_t *facts, const char *path, struct tsr_err *err)
{
    struct tsr_model model;
    int rc = tsr_model_open(&model, path, err);
    if (rc < 0) {
        return rc;
    }
    set(facts, "name", text(model.name, strlen(model.name)));
    set_count(facts, "parameters", model.program.parameters);
    set_count(facts, "context", model.program.context);
    describe_memory(facts, &model);
    tsr_model_close(&model);
    return 0;
}

/* A directory without weights, or with nothing but tokenizer files. */
static int describe_rest(json_t *facts, const char *path, const struct tsr_err *missing,
                         struct tsr_err *err)
{
    char name[PATH_MAX], *json = NULL;
    size_t len = 0;
    struct tsr_config *config = NULL;
    snprintf(name, sizeof name, "%s/config.json", path);
    FILE *file = fopen(name, "rb");
    int rc = file ? command_read(file, name, COMMAND_INPUT_MAX, &json, &len, err) : 0;
    if (file) {
        fclose(file);
    }
    if (rc == 0 && json) {
        rc = tsr_config_from_json(&config, json, len, true, err);
        rc = rc < 0 ? tsr_err_prefix(err, "%s", name) : 0;
    }
    if (rc == 0 && config) {
        describe_shape(facts, config);
    }
    if (rc == 0) {
        unsupported(facts, missing->text);
    }
    tsr_config_close(config);
    free(json);
    return rc;
}

static void describe_source(json_t *facts, const struct tsr_source *source, bool with_tensors)
{
    char format[32] = "safetensors";
    if (source->gguf) {
        snprintf(format, sizeof format, "GGUF version %u", tsr_gguf_version(source->gguf));
    }
    set(facts, "format", json_string(format));
    set_count(facts, "file_bytes", source->file_bytes);
    describe_shape(facts, source->config);
    describe_tensors(facts, source->tensors, with_tensors);
}

int tsr_describe(json_t *facts, const char *path, bool with_tensors, struct tsr_err *err)
{
    struct tsr_source source;
    struct tsr_err missing = {0};
    struct stat st;
    set(facts, "path", text(path, strlen(path)));
    set(facts, "unsupported", json_array());
    int rc = tsr_source_open(&source, path, err);
    if (rc == 0) {
        describe_source(facts, &source, with_tensors);
        tsr_source_close(&source);
        rc = describe_language(facts, path, err);
    } else if (rc == -ENOENT && stat(path, &st) == 0 && S_ISDIR(st.st_mode)) {
        missing = *err;
        rc = describe_language(facts, path, err);
        rc = rc ? rc : describe_rest(facts, path, &missing, err);
        if (rc == 0 && json_is_null(json_object_get(facts, "tokenizer")) &&
            !json_object_get(facts, "shape")) {
            *err = missing;
            rc = missing.code; /* neither of the two is there */
        }
    }
    if (rc < 0 && !json_object_get(facts, "architecture")) {
        json_object_clear(facts);
        return rc;
    }
    if (rc == 0 && missing.code == 0) {
        rc = describe_program(facts, path, err);
        if (rc < 0 && rc != -ENOMEM) {
            unsupported(facts, err->text);
            rc = 0;
        }
    }
    set(facts, "runs", json_boolean(json_array_size(json_object_get(facts, "memory")) > 0));
    return rc;
}
