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
    TOKEN_MAX = 1 << 24,   /* exclusive */
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
    {"is_causal",                                     ".attention.causal"},
    {"sliding_window",                                ".attention.sliding_window"},
    {"sliding_window_pattern",                        ".attention.sliding_window_pattern"},
    {"attn_logit_softcapping",                        ".attn_logit_softcapping"},
    {"final_logit_softcapping",                       ".final_logit_softcapping"},
    {"attention_multiplier",                          ".attention.scale"},
    {"embedding_multiplier",                          ".embedding_scale"},
    {"residual_multiplier",                           ".residual_scale"},
    {"logits_scaling",                                ".logit_scale"},
    {"num_local_experts",                             ".expert_count"},
    {"rope_theta",                                    ".rope.freq_base"},
    {"rope_local_base_freq",                          ".rope.freq_base_swa"},
    {"rope_dims",                                     ".rope.dimension_count"},
    {"rope_scaling.rope_type",                        ".rope.scaling.type"},
    {"rope_scaling.factor",                           ".rope.scaling.factor"},
    {"rope_scaling.original_max_position_embeddings", ".rope.scaling.original_context_length"},
    {"rope_scaling.attention_factor",                 ".rope.scaling.yarn_attn_factor"},
    {"rope_scaling.beta_fast",                        ".rope.scaling.yarn_beta_fast"},
    {"rope_scaling.beta_slow",                        ".rope.scaling.yarn_beta_slow"},
    {"rope_scaling.extrapolation_factor",             ".rope.scaling.yarn_ext_factor"},
    {"rope_scaling.attn_factor",                      ".rope.scaling.attn_factor"},
    {"rope_scaling.finetuned",                        ".rope.scaling.finetuned"},
    {"rope_scaling.linear",                           ".rope.scale_linear"},
    {"bos_token_id",                                  "tokenizer.ggml.bos_token_id"},
    {"eos_token_id",                                  "tokenizer.ggml.eos_token_id"},
    {"eot_token_id",                                  "tokenizer.ggml.eot_token_id"},
    {"eom_token_id",                                  "tokenizer.ggml.eom_token_id"},
    {"pooling_type",                                  ".pooling_type"},
    {"name",                                          "general.name"},
    {"temperature",                                   "general.sampling.temp"},
    {"top_p",                                         "general.sampling.top_p"},
    {"top_k",                                         "general.sampling.top_k"},
    {"min_p",                                         "general.sampling.min_p"},
    {"repetition_penalty",                            "general.sampling.penalty_repeat"},
};
/* clang-format on */
enum { KEYS = sizeof keys / sizeof *keys };

struct tsr_config {
    char architecture[ARCHITECTURE_MAX + 1];
    json_t *json; /* exactly one of json and gguf */
    json_t *text; /* member of json: the text part of a model of several kinds of input, or NULL */
    json_t *read; /* the keys that have been looked up, as the file spells them */
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
    made->read = json_object();
    json_t *text_config = json_object_get(json, "text_config");
    made->text = is_model && json_is_object(text_config) ? text_config : NULL;
    json_t *type = json_object_get(json, "model_type");
    if (!made->read) {
        rc = tsr_err_set(err, -ENOMEM, "no memory for a configuration");
    } else if (!is_model) {
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
    made->read = json_object();
    int rc = made->read ? set_architecture(made, "general.architecture", name.data, name.size, err)
                        : tsr_err_set(err, -ENOMEM, "no memory for a configuration");
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
    json_decref(config->read);
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

/* The member of object at a dotted path, null or not; NULL where absent. */
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
            return object;
        }
        path += size + 1;
    }
    return NULL;
}

static bool is_set(json_t *value)
{
    return value && !json_is_null(value);
}

/* Rotary parameters have stood in rope_scaling (rope_theta beside it) and, since transformers 5, in
 * rope_parameters (rope_theta within, perhaps by type of layer); as there, rope_scaling goes before
 * rope_parameters where a file has both. */
static json_t *find_member(json_t *root, const char *key, char spelled[static KEY_MAX])
{
    static const char scaling[] = "rope_scaling.", kind[] = "rope_type";
    const char *rope = is_set(member(root, "rope_scaling")) ? "rope_scaling" : "rope_parameters";
    json_t *value;
    if (strncmp(key, scaling, sizeof scaling - 1) == 0) {
        snprintf(spelled, KEY_MAX, "%s.%s", rope, key + sizeof scaling - 1);
        value = member(root, spelled);
        size_t size = strlen(spelled), end = sizeof kind - 1;
        if (!is_set(value) && size > end && strcmp(spelled + size - end, kind) == 0) {
            char old[KEY_MAX];
            snprintf(old, sizeof old, "%.*stype", (int)(size - end), spelled);
            value = member(root, old);
        }
        return value;
    }
    if (strcmp(key, "rope_theta") == 0) {
        snprintf(spelled, KEY_MAX, "%s.rope_theta", rope);
        value = member(root, spelled);
        if (is_set(value)) {
            return value;
        }
    }
    snprintf(spelled, KEY_MAX, "%s", key);
    return member(root, key);
}

/* In the text part of the file, if it has one, or beside it; tokens the other way round, as a chat
 * model's ends of turns stand beside. */
static json_t *find_json(const struct tsr_config *config, const char *key,
                         char spelled[static KEY_MAX])
{
    const bool is_token = strstr(key, "_token_id") != NULL;
    json_t *first = is_token ? config->json : config->text;
    json_t *value = first ? find_member(first, key, spelled) : NULL;
    first = is_token ? config->text : config->json;
    return value || !first ? value : find_member(first, key, spelled);
}

static bool find(const struct tsr_config *config, const char *key, struct found *found)
{
    bool is_there = false;
    *found = (struct found){0};
    snprintf(found->key, sizeof found->key, "%s", key);
    if (config->json) {
        found->json = find_json(config, key, found->key);
        is_there = is_set(found->json);
        found->json = is_there ? found->json : NULL;
    }
    for (size_t row = 0; row < KEYS && config->gguf && !is_there; row++) {
        if (strcmp(keys[row].json, key) == 0) {
            found->row = row;
            spell(config, row, found->key);
            is_there = tsr_gguf_has(config->gguf, found->key);
            break;
        }
    }
    /* without memory for the note the key counts as not understood, and is refused */
    json_object_set_new(config->read, found->key, json_true());
    return is_there;
}

bool tsr_config_is_null(const struct tsr_config *config, const char *key)
{
    char spelled[KEY_MAX];
    return config->json && json_is_null(find_json(config, key, spelled));
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
        if (id < 0 || id >= TOKEN_MAX) {
            return tsr_err_set(err, -EINVAL, "%s is not a token, nor a list of tokens", found.key);
        }
        ids[i] = (uint32_t)id;
    }
    return (int)count;
}

int tsr_config_floats(const struct tsr_config *config, const char *key, double min, double max,
                      float *values, uint32_t n, struct tsr_err *err)
{
    struct found found;
    if (!find(config, key, &found)) {
        return missing(&found, err);
    }
    if (!json_is_array(found.json) || json_array_size(found.json) != n) {
        return tsr_err_set(err, -EINVAL, "%s is not a list of %u numbers", found.key, n);
    }
    for (uint32_t i = 0; i < n; i++) {
        double number = json_number_value(json_array_get(found.json, i));
        if (!(number > min && number < max)) {
            return tsr_err_set(err, -EINVAL, "%s[%u] is not a number between %g and %g", found.key,
                               i, min, max);
        }
        values[i] = (float)number;
    }
    return 0;
}

/* Element i of a list as the number of its name, or as itself; -1 where it is neither. */
static int64_t choice(const struct found *found, const struct tsr_gguf_array *array, uint32_t i,
                      const char *const *names, uint32_t n_names)
{
    json_t *one = json_array_get(found->json, i);
    if (json_is_string(one) && names) {
        for (uint32_t k = 0; k < n_names; k++) {
            if (strcmp(json_string_value(one), names[k]) == 0) {
                return k;
            }
        }
        return -1;
    }
    if (array && tsr_gguf_array_type(array) != TSR_GGUF_STRING) {
        return tsr_gguf_array_int(array, i);
    }
    return names ? -1 : json_is_integer(one) ? json_integer_value(one) : -1;
}

int tsr_config_choices(const struct tsr_config *config, const char *key, const char *const *names,
                       uint32_t n_names, uint8_t *values, uint32_t n, struct tsr_err *err)
{
    struct found found;
    if (!find(config, key, &found)) {
        return 0;
    }
    const struct tsr_gguf_array *array =
        config->gguf ? tsr_gguf_array(config->gguf, found.key) : NULL;
    uint64_t count = array ? tsr_gguf_array_count(array) : json_array_size(found.json);
    if (count < n || (names && count > n)) {
        return tsr_err_set(err, -EINVAL, "%s is not a list with an element for each of %u layers",
                           found.key, n);
    }
    for (uint32_t i = 0; i < n; i++) {
        int64_t value = choice(&found, array, i, names, n_names);
        if (value < 0 || value >= n_names) {
            return tsr_err_set(err, -ENOTSUP, "%s[%u] is not one of the values that are supported",
                               found.key, i);
        }
        values[i] = (uint8_t)value;
    }
    return 1;
}

/* What a GGUF's keys of the architecture say that changes no result here. */
static bool is_neutral(const char *name)
{
    static const char *const neutral[] = {
        ".tensor_data_layout",                   /* where rows are permuted, builders know it */
        ".attention.layer_norm_epsilon",         /* of norms that these architectures have not */
        ".rope.scaling.original_context_length", /* unread: there is no scaling that uses it */
        ".rope.scaling.factor",                  /* unread: the kind of scaling is "none" */
        ".rope.scaling.finetuned",
    };
    for (size_t i = 0; i < sizeof neutral / sizeof *neutral; i++) {
        if (strcmp(name, neutral[i]) == 0) {
            return true;
        }
    }
    return false;
}

/* Whether a value says no: 0, false, or nothing at all. */
static bool says_no(const struct tsr_gguf *gguf, const char *key)
{
    int64_t number;
    double real;
    bool flag;
    struct tsr_gguf_string string;
    const struct tsr_gguf_array *array = tsr_gguf_array(gguf, key);
    return (tsr_gguf_int(gguf, key, &number) && number == 0) ||
           (tsr_gguf_float(gguf, key, &real) && real == 0.0) ||
           (tsr_gguf_bool(gguf, key, &flag) && !flag) ||
           (tsr_gguf_string(gguf, key, &string) && string.size == 0) ||
           (array && tsr_gguf_array_count(array) == 0);
}

static int refuse_unread(const char *key, const struct tsr_config *config, struct tsr_err *err)
{
    return tsr_err_set(err, -ENOTSUP,
                       "%s is stated, which is not understood for %s: the results would not be "
                       "the model's",
                       key, config->architecture);
}

static int check_gguf(const struct tsr_config *config, struct tsr_err *err)
{
    size_t size = strlen(config->architecture);
    for (size_t i = 0; i < tsr_gguf_keys(config->gguf); i++) {
        enum tsr_gguf_type type;
        const char *key = tsr_gguf_key(config->gguf, i, &type);
        bool is_ours = strncmp(key, config->architecture, size) == 0 && key[size] == '.';
        if (is_ours && !json_object_get(config->read, key) && !is_neutral(key + size) &&
            !says_no(config->gguf, key)) {
            return refuse_unread(key, config, err);
        }
    }
    return 0;
}

/* Members of rotary parameters that transformers knows (RopeParameters in modeling_rope_utils.py)
 * or ignores; a kind of scaling leaves the others' unread. */
static int check_rope(const struct tsr_config *config, const char *path, json_t *rope,
                      struct tsr_err *err)
{
    static const char *const known[] = {
        "rope_type",
        "type",
        "rope_theta",
        "partial_rotary_factor",
        "factor",
        "beta_fast",
        "beta_slow",
        "original_max_position_embeddings",
        "attention_factor",
        "mscale",
        "truncate",
        "mscale_all_dim",
        "short_factor",
        "long_factor",
        "finetuned",
        "low_freq_factor",
        "high_freq_factor",
        "full_attention",
        "attn_factor",
        "sliding_attention",
        "extrapolation_factor",
    };
    const char *name;
    json_t *value;
    json_object_foreach(rope, name, value)
    {
        bool is_known = !is_set(value);
        for (size_t i = 0; i < sizeof known / sizeof *known && !is_known; i++) {
            is_known = strcmp(name, known[i]) == 0;
        }
        if (!is_known) {
            char key[KEY_MAX];
            snprintf(key, sizeof key, "%s.%s", path, name);
            return refuse_unread(is_plain(key, strlen(key)) ? key : path, config, err);
        }
        if (json_is_object(value)) {
            int rc = check_rope(config, path, value, err);
            if (rc < 0) {
                return rc;
            }
        }
    }
    return 0;
}

/* Keys of config.json that change what some architecture computes: none may stand there unread, but
 * with a value that says no. (transformers ignores other keys that its model does not name; so do
 * we.) */
static int check_json(const struct tsr_config *config, struct tsr_err *err)
{
    static const char *const matter[] = {
        "alibi",
        "attention_bias",
        "attention_chunk_size",
        "attention_multiplier",
        "attn_logit_softcapping",
        "bias",
        "clip_qkv",
        "embedding_multiplier",
        "final_logit_softcapping",
        "is_encoder_decoder",
        "kv_lora_rank",
        "layer_types",
        "logit_scale",
        "logits_scaling",
        "mlp_bias",
        "n_routed_experts",
        "no_bias",
        "no_rope_layers",
        "num_experts",
        "num_local_experts",
        "parallel_attn",
        "partial_rotary_factor",
        "position_embedding_type",
        "q_lora_rank",
        "qk_layernorm",
        "qkv_bias",
        "query_pre_attn_scalar",
        "residual_multiplier",
        "rope_local_base_freq",
        "use_bidirectional_attention",
        "use_parallel_residual",
        "use_qk_norm",
        "use_sliding_window",
    };
    for (size_t i = 0; i < sizeof matter / sizeof *matter; i++) {
        char spelled[KEY_MAX];
        json_t *value = find_json(config, matter[i], spelled);
        bool no = !is_set(value) || json_is_false(value) ||
                  (json_is_number(value) && json_number_value(value) == 0.0) ||
                  (json_is_array(value) && json_array_size(value) == 0);
        if (!no && !json_object_get(config->read, spelled)) {
            return refuse_unread(spelled, config, err);
        }
    }
    static const char *const ropes[] = {"rope_scaling", "rope_parameters"};
    for (size_t i = 0; i < sizeof ropes / sizeof *ropes; i++) {
        char spelled[KEY_MAX];
        int rc = check_rope(config, ropes[i], find_json(config, ropes[i], spelled), err);
        if (rc < 0) {
            return rc;
        }
    }
    return 0;
}

int tsr_config_check_read(const struct tsr_config *config, struct tsr_err *err)
{
    return config->gguf ? check_gguf(config, err) : check_json(config, err);
}
