#include <tsr/model/config.h>

#include "json_priv.h"

#include <assert.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    VALUES_MAX = 1 << 20,  /* JSON values of a config.json */
    ARCHITECTURE_MAX = 31, /* bytes of its name */
    KEY_MAX = 128,         /* bytes of a key as the file spells it */
    STRING_MAX = 127,      /* bytes of a string value */
    HIDDEN_MAX = 1 << 20,  /* columns of any buffer */
    LAYERS_MAX = 1 << 12,
    HEADS_MAX = 1 << 14,
    VOCAB_MAX = 1 << 24,
};

/* config.json's key against GGUF's; one that begins with a dot follows the architecture's name. A
 * key without a row does not exist in a GGUF. (github.com/ggml-org/ggml, docs/gguf.md, "LLM") */
/* clang-format off */
static const struct {
    const char *json, *gguf;
} keys[] = {
    {"hidden_size",                                   ".embedding_length"},
    {"num_hidden_layers",                             ".block_count"},
    {"intermediate_size",                             ".feed_forward_length"},
    {"num_attention_heads",                           ".attention.head_count"},
    {"num_key_value_heads",                           ".attention.head_count_kv"},
    {"head_dim",                                      ".attention.key_length"},
    {"v_head_dim",                                    ".attention.value_length"},
    {"vocab_size",                                    ".vocab_size"},
    {"max_position_embeddings",                       ".context_length"},
    {"rms_norm_eps",                                  ".attention.layer_norm_rms_epsilon"},
    {"sliding_window",                                ".attention.sliding_window"},
    {"num_local_experts",                             ".expert_count"},
    {"rope_theta",                                    ".rope.freq_base"},
    {"rope_dims",                                     ".rope.dimension_count"},
    {"rope_scaling.rope_type",                        ".rope.scaling.type"},
    {"rope_scaling.factor",                           ".rope.scaling.factor"},
    {"rope_scaling.original_max_position_embeddings", ".rope.scaling.original_context_length"},
    {"rope_scaling.linear",                           ".rope.scale_linear"},
    {"bos_token_id",                                  "tokenizer.ggml.bos_token_id"},
    {"eos_token_id",                                  "tokenizer.ggml.eos_token_id"},
    {"eot_token_id",                                  "tokenizer.ggml.eot_token_id"},
    {"eom_token_id",                                  "tokenizer.ggml.eom_token_id"},
    {"name",                                          "general.name"},
    {"split_count",                                   "split.count"},
};
/* clang-format on */
enum { KEYS = sizeof keys / sizeof *keys };

struct tsr_config {
    char architecture[ARCHITECTURE_MAX + 1];
    json_t *json; /* exactly one of json and gguf */
    const struct tsr_gguf *gguf;
    char *strings[KEYS]; /* NUL-terminated copies of a GGUF's string values */
};

/* Where a value is. */
struct found {
    char key[KEY_MAX]; /* as the file spells it */
    size_t row;        /* in `keys`, for a GGUF */
    json_t *json;      /* NULL for a GGUF */
};

static bool is_plain(const char *text, size_t size)
{
    for (size_t i = 0; i < size; i++) {
        if (text[i] < 0x20 || text[i] > 0x7e) {
            return false;
        }
    }
    return size > 0;
}

static int set_architecture(struct tsr_config *config, const char *key, const char *text,
                            size_t size, struct tsr_err *err)
{
    if (size > ARCHITECTURE_MAX || !is_plain(text, size)) {
        return tsr_err_set(err, -EINVAL, "%s is not a name of 1 to %d printable characters", key,
                           ARCHITECTURE_MAX);
    }
    memcpy(config->architecture, text, size);
    config->architecture[size] = '\0';
    return 0;
}

int tsr_config_from_json(struct tsr_config **config, const char *text, size_t size, bool is_model,
                         struct tsr_err *err)
{
    json_t *json;
    int rc = tsr_json_object(&json, text, size, VALUES_MAX, err);
    if (rc < 0) {
        return rc;
    }
    struct tsr_config *made = calloc(1, sizeof *made);
    if (!made) {
        json_decref(json);
        return tsr_err_set(err, -ENOMEM, "no memory for a configuration");
    }
    made->json = json;
    json_t *type = json_object_get(json, "model_type");
    if (!is_model) {
        rc = 0;
    } else if (!json_is_string(type)) {
        rc = tsr_err_set(err, -EINVAL, "states no model_type");
    } else {
        rc = set_architecture(made, "model_type", json_string_value(type), json_string_length(type),
                              err);
    }
    if (rc < 0) {
        tsr_config_close(made);
        return rc;
    }
    *config = made;
    return 0;
}

/* The key as a GGUF of this architecture spells it. */
static void spell(const struct tsr_config *config, size_t row, char key[static KEY_MAX])
{
    const char *gguf = keys[row].gguf;
    snprintf(key, KEY_MAX, "%s%s", gguf[0] == '.' ? config->architecture : "", gguf);
}

int tsr_config_from_gguf(struct tsr_config **config, const struct tsr_gguf *gguf,
                         struct tsr_err *err)
{
    struct tsr_gguf_string name;
    if (!tsr_gguf_string(gguf, "general.architecture", &name)) {
        return tsr_err_set(err, -EINVAL, "states no general.architecture");
    }
    struct tsr_config *made = calloc(1, sizeof *made);
    if (!made) {
        return tsr_err_set(err, -ENOMEM, "no memory for a configuration");
    }
    made->gguf = gguf;
    int rc = set_architecture(made, "general.architecture", name.data, name.size, err);
    for (size_t row = 0; row < KEYS && rc == 0; row++) {
        char key[KEY_MAX];
        struct tsr_gguf_string value;
        spell(made, row, key);
        if (!tsr_gguf_string(gguf, key, &value) || value.size > STRING_MAX ||
            !is_plain(value.data, value.size)) {
            continue; /* tsr_config_string() says so when it is asked for */
        }
        made->strings[row] = strndup(value.data, value.size);
        if (!made->strings[row]) {
            rc = tsr_err_set(err, -ENOMEM, "no memory for a configuration");
        }
    }
    if (rc < 0) {
        tsr_config_close(made);
        return rc;
    }
    *config = made;
    return 0;
}

void tsr_config_close(struct tsr_config *config)
{
    if (!config) {
        return;
    }
    json_decref(config->json);
    for (size_t row = 0; row < KEYS; row++) {
        free(config->strings[row]);
    }
    free(config);
}

bool tsr_config_is_gguf(const struct tsr_config *config)
{
    return config->gguf != NULL;
}

const char *tsr_config_architecture(const struct tsr_config *config)
{
    return config->architecture;
}

/* The member of object at a dotted path, or NULL where absent or null. */
static json_t *member(json_t *object, const char *path)
{
    char name[KEY_MAX];
    while (object) {
        size_t size = strcspn(path, ".");
        assert(size < sizeof name);
        memcpy(name, path, size);
        name[size] = '\0';
        object = json_object_get(object, name); /* NULL where object is none */
        if (path[size] == '\0') {
            return json_is_null(object) ? NULL : object;
        }
        path += size + 1;
    }
    return NULL;
}

/* Rotary parameters have stood in rope_scaling (rope_theta beside it) and, since transformers 5, in
 * rope_parameters (rope_theta within); as there, rope_scaling goes before rope_parameters where a
 * file has both. */
static json_t *find_json(json_t *root, const char *key, char *spelled)
{
    static const char scaling[] = "rope_scaling.";
    const char *rope = member(root, "rope_scaling") ? "rope_scaling" : "rope_parameters";
    json_t *value;
    if (strncmp(key, scaling, sizeof scaling - 1) == 0) {
        const char *name = key + sizeof scaling - 1;
        snprintf(spelled, KEY_MAX, "%s.%s", rope, name);
        value = member(root, spelled);
        if (!value && strcmp(name, "rope_type") == 0) {
            char old[KEY_MAX];
            snprintf(old, sizeof old, "%s.type", rope);
            value = member(root, old);
        }
        return value;
    }
    if (strcmp(key, "rope_theta") == 0) {
        snprintf(spelled, KEY_MAX, "%s.rope_theta", rope);
        value = member(root, spelled);
        if (value) {
            return value;
        }
    }
    snprintf(spelled, KEY_MAX, "%s", key);
    return member(root, key);
}

static bool find(const struct tsr_config *config, const char *key, struct found *found)
{
    *found = (struct found){0};
    snprintf(found->key, sizeof found->key, "%s", key);
    if (config->json) {
        found->json = find_json(config->json, key, found->key);
        return found->json != NULL;
    }
    for (size_t row = 0; row < KEYS; row++) {
        if (strcmp(keys[row].json, key) == 0) {
            found->row = row;
            spell(config, row, found->key);
            return tsr_gguf_has(config->gguf, found->key);
        }
    }
    return false;
}

bool tsr_config_has(const struct tsr_config *config, const char *key)
{
    struct found found;
    return find(config, key, &found);
}

static int missing(const struct found *found, struct tsr_err *err)
{
    return tsr_err_set(err, -EINVAL, "the configuration lacks %s", found->key);
}

int tsr_config_u32(const struct tsr_config *config, const char *key, uint32_t min, uint32_t max,
                   const uint32_t *fallback, uint32_t *value, struct tsr_err *err)
{
    struct found found;
    if (!find(config, key, &found)) {
        if (!fallback) {
            return missing(&found, err);
        }
        *value = *fallback;
        return 0;
    }
    int64_t number = 0;
    bool is_int =
        found.json ? json_is_integer(found.json) : tsr_gguf_int(config->gguf, found.key, &number);
    if (!is_int) {
        return tsr_err_set(err, -EINVAL, "%s is not one whole number", found.key);
    }
    if (found.json) {
        number = json_integer_value(found.json);
    }
    if (number < min || number > max) {
        return tsr_err_set(err, -EINVAL, "%s is %lld, where %u to %u are possible", found.key,
                           (long long)number, min, max);
    }
    *value = (uint32_t)number;
    return 0;
}

int tsr_config_float(const struct tsr_config *config, const char *key, double min, double max,
                     const double *fallback, double *value, struct tsr_err *err)
{
    struct found found;
    if (!find(config, key, &found)) {
        if (!fallback) {
            return missing(&found, err);
        }
        *value = *fallback;
        return 0;
    }
    double number = 0.0;
    bool is_number =
        found.json ? json_is_number(found.json) : tsr_gguf_float(config->gguf, found.key, &number);
    if (!is_number) {
        return tsr_err_set(err, -EINVAL, "%s is not one number", found.key);
    }
    if (found.json) {
        number = json_number_value(found.json);
    }
    if (!(number > min && number < max)) { /* and not NaN */
        return tsr_err_set(err, -EINVAL, "%s is %g, which is not between %g and %g", found.key,
                           number, min, max);
    }
    *value = number;
    return 0;
}

int tsr_config_bool(const struct tsr_config *config, const char *key, const bool *fallback,
                    bool *value, struct tsr_err *err)
{
    struct found found;
    if (!find(config, key, &found)) {
        if (!fallback) {
            return missing(&found, err);
        }
        *value = *fallback;
        return 0;
    }
    if (found.json ? !json_is_boolean(found.json)
                   : !tsr_gguf_bool(config->gguf, found.key, value)) {
        return tsr_err_set(err, -EINVAL, "%s is neither true nor false", found.key);
    }
    if (found.json) {
        *value = json_is_true(found.json);
    }
    return 0;
}

int tsr_config_string(const struct tsr_config *config, const char *key, const char *fallback,
                      const char **value, struct tsr_err *err)
{
    struct found found;
    if (!find(config, key, &found)) {
        if (!fallback) {
            return missing(&found, err);
        }
        *value = fallback;
        return 0;
    }
    *value = found.json ? json_string_value(found.json) : config->strings[found.row];
    if (!*value || strlen(*value) > STRING_MAX || !is_plain(*value, strlen(*value))) {
        return tsr_err_set(err, -EINVAL, "%s is not a string of 1 to %d printable characters",
                           found.key, STRING_MAX);
    }
    return 0;
}

int tsr_config_tokens(const struct tsr_config *config, const char *key, uint32_t *ids, int max,
                      struct tsr_err *err)
{
    struct found found;
    if (!find(config, key, &found)) {
        return 0;
    }
    size_t count = json_is_array(found.json) ? json_array_size(found.json) : 1;
    if (count > (size_t)max) {
        return tsr_err_set(err, -EINVAL, "%s lists %zu tokens, more than %d", found.key, count,
                           max);
    }
    for (size_t i = 0; i < count; i++) {
        int64_t id = -1;
        if (found.json) {
            json_t *one = json_is_array(found.json) ? json_array_get(found.json, i) : found.json;
            id = json_is_integer(one) ? json_integer_value(one) : -1;
        } else if (!tsr_gguf_int(config->gguf, found.key, &id)) {
            id = -1;
        }
        if (id < 0 || id >= VOCAB_MAX) {
            return tsr_err_set(err, -EINVAL, "%s is not a token, nor a list of tokens", found.key);
        }
        ids[i] = (uint32_t)id;
    }
    return (int)count;
}

int tsr_config_hparams(const struct tsr_config *config, struct tsr_hparams *h, struct tsr_err *err)
{
    static const uint32_t none = 0;
    double eps = 0.0;
    *h = (struct tsr_hparams){0};
    int rc = tsr_config_u32(config, "hidden_size", 1, HIDDEN_MAX, NULL, &h->hidden, err);
    if (rc == 0) {
        rc = tsr_config_u32(config, "num_hidden_layers", 1, LAYERS_MAX, NULL, &h->layers, err);
    }
    if (rc == 0) {
        rc = tsr_config_u32(config, "intermediate_size", 1, HIDDEN_MAX, NULL, &h->ffn, err);
    }
    if (rc == 0) {
        rc = tsr_config_u32(config, "vocab_size", 1, VOCAB_MAX, config->gguf ? &none : NULL,
                            &h->vocab, err);
    }
    if (rc == 0) {
        rc =
            tsr_config_u32(config, "max_position_embeddings", 1, INT32_MAX, NULL, &h->context, err);
    }
    if (rc == 0) {
        rc = tsr_config_u32(config, "num_attention_heads", 1, HEADS_MAX, NULL, &h->heads, err);
    }
    if (rc == 0) {
        rc = tsr_config_u32(config, "num_key_value_heads", 1, HEADS_MAX, &h->heads, &h->kv_heads,
                            err);
    }
    if (rc == 0) {
        rc = tsr_config_u32(config, "head_dim", 1, HIDDEN_MAX, &none, &h->head_dim, err);
    }
    if (rc == 0) {
        rc = tsr_config_float(config, "rms_norm_eps", 0.0, 1.0, NULL, &eps, err);
    }
    if (rc < 0) {
        return rc;
    }
    h->eps = (float)eps;
    if (!(h->eps > 0.0f)) {
        return tsr_err_set(err, -EINVAL, "rms_norm_eps is %g, which is 0 in 32 bits", eps);
    }
    if (h->head_dim == 0) {
        if (h->hidden % h->heads != 0) {
            return tsr_err_set(err, -EINVAL,
                               "the hidden size %u is not a multiple of %u attention heads, and no "
                               "head_dim is stated",
                               h->hidden, h->heads);
        }
        h->head_dim = h->hidden / h->heads;
    }
    uint32_t value_dim;
    rc = tsr_config_u32(config, "v_head_dim", 1, HIDDEN_MAX, &h->head_dim, &value_dim, err);
    if (rc < 0) {
        return rc;
    }
    if (value_dim != h->head_dim) {
        return tsr_err_set(err, -ENOTSUP,
                           "keys of %u and values of %u dimensions a head are not supported",
                           h->head_dim, value_dim);
    }
    if (h->head_dim % 2 != 0) {
        return tsr_err_set(err, -EINVAL, "heads of %u dimensions are odd: they cannot be rotated",
                           h->head_dim);
    }
    if (h->heads % h->kv_heads != 0) {
        return tsr_err_set(err, -EINVAL, "%u attention heads are not a multiple of %u KV heads",
                           h->heads, h->kv_heads);
    }
    if ((uint64_t)h->heads * h->head_dim > HIDDEN_MAX) {
        return tsr_err_set(err, -EINVAL, "%u heads of %u dimensions are more than %d columns",
                           h->heads, h->head_dim, HIDDEN_MAX);
    }
    return 0;
}
