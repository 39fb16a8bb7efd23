/* The files of a Hugging Face directory that say something about text. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <jansson.h>

#include <tsr/text/template.h>

#include "tokenizer_priv.h"

enum { FILE_BYTES_MAX = 512 << 20 };

/* The whole file, NUL-terminated, to be freed. -ENOENT without a sentence where it does not exist.
 */
static int read_file(const char *path, const char *name, char **out, size_t *len,
                     struct tsr_err *err)
{
    char full[4096];
    *out = NULL;
    if ((size_t)snprintf(full, sizeof(full), "%s/%s", path, name) >= sizeof(full))
        return tsr_err_set(err, -EINVAL, "the path is longer than %zu bytes", sizeof(full));
    int fd = open(full, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return errno == ENOENT || errno == ENOTDIR
                   ? -ENOENT
                   : tsr_err_set(err, -errno, "%s: %s", full, strerror(errno));
    struct stat st;
    int rc = 0;
    if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) || st.st_size > FILE_BYTES_MAX)
        rc = tsr_err_set(err, -EINVAL, "%s is no regular file of at most %d MiB", full,
                         FILE_BYTES_MAX >> 20);
    char *text = rc == 0 ? malloc((size_t)st.st_size + 1) : NULL;
    if (rc == 0 && !text)
        rc = tsr_err_set(err, -ENOMEM, "%s: no memory for %lld bytes", full, (long long)st.st_size);
    size_t n = 0;
    while (rc == 0 && n < (size_t)st.st_size) {
        ssize_t got = read(fd, text + n, (size_t)st.st_size - n);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            rc = tsr_err_set(err, -errno, "%s: %s", full, strerror(errno));
        if (got <= 0)
            break;
        n += (size_t)got;
    }
    close(fd);
    if (rc < 0) {
        free(text);
        return rc;
    }
    text[n] = '\0';
    *out = text;
    *len = n;
    return 0;
}

/* A JSON file, or NULL in *out where it does not exist. */
static int read_json(const char *path, const char *name, json_t **out, struct tsr_err *err)
{
    char *text;
    size_t len;
    *out = NULL;
    int rc = read_file(path, name, &text, &len, err);
    if (rc < 0)
        return rc == -ENOENT ? 0 : rc;
    json_error_t where;
    *out = json_loadb(text, len, JSON_ALLOW_NUL, &where);
    free(text);
    if (!*out)
        return tsr_err_set(err, -EINVAL, "%s/%s: line %d, column %d: %s", path, name, where.line,
                           where.column, where.text);
    return 0;
}

/* A token's text: a string, or an object with "content". */
static uint32_t named_token(const struct tsr_tokenizer *tokenizer, const json_t *config,
                            const char *key)
{
    const json_t *value = json_object_get(config, key);
    if (json_is_object(value))
        value = json_object_get(value, "content");
    return json_is_string(value)
               ? tsr_tokenizer_find(tokenizer, json_string_value(value), json_string_length(value))
               : TSR_TOKEN_NONE;
}

/* config.json often keeps a default (2) that means another token here: an id that is no added token
 * counts only where nothing else ends a text. */
static void add_ends(struct tsr_vocab *vocab, const json_t *ids, bool any)
{
    size_t n = json_is_array(ids) ? json_array_size(ids) : 1;
    for (size_t i = 0; i < n; i++) {
        const json_t *id = json_is_array(ids) ? json_array_get(ids, i) : ids;
        json_int_t value = json_integer_value(id);
        if (json_is_integer(id) && value >= 0 && value < vocab->n_tokens &&
            (any || (vocab->flags[value] & TSR_TOKEN_ADDED)))
            tsr_vocab_add_end(vocab, (uint32_t)value);
    }
}

static bool has(const uint32_t *ids, uint32_t n, uint32_t id)
{
    for (uint32_t i = 0; i < n; i++)
        if (ids[i] == id)
            return true;
    return false;
}

/* add_bos_token and add_eos_token: true adds what tokenizer.json's template lacks. false takes away
 * only for the classes that rewrite the template from these flags; the others ignore them. */
static void apply_flag(const json_t *config, const char *key, uint32_t token, uint32_t *ids,
                       uint32_t *n, bool front)
{
    const json_t *flag = json_object_get(config, key);
    const char *class = json_string_value(json_object_get(config, "tokenizer_class"));
    bool rewrites = class && (strstr(class, "Llama") || strstr(class, "Gemma"));
    if (token == TSR_TOKEN_NONE || !json_is_boolean(flag))
        return;
    if (json_is_true(flag) && !has(ids, *n, token) && *n < TSR_TOKENIZER_FRAME_MAX) {
        if (front)
            memmove(ids + 1, ids, *n * sizeof(*ids));
        ids[front ? 0 : *n] = token;
        ++*n;
    }
    if (json_is_false(flag) && rewrites) {
        uint32_t kept = 0;
        for (uint32_t i = 0; i < *n; i++)
            if (ids[i] != token)
                ids[kept++] = ids[i];
        *n = kept;
    }
}

/* "chat_template" is a string, or named ones of which "default" is for chats. */
static const json_t *template_of(const json_t *config)
{
    const json_t *value = json_object_get(config, "chat_template");
    for (size_t i = 0; i < json_array_size(value); i++) {
        const json_t *entry = json_array_get(value, i);
        const char *name = json_string_value(json_object_get(entry, "name"));
        if (name && strcmp(name, "default") == 0)
            return json_object_get(entry, "template");
    }
    return value;
}

static int read_template(struct tsr_tokenizer *tokenizer, const char *path, const json_t *config,
                         struct tsr_err *err)
{
    size_t len;
    int rc = read_file(path, "chat_template.jinja", &tokenizer->chat_template, &len, err);
    if (rc != -ENOENT)
        return rc;
    const json_t *text = template_of(config);
    if (!json_is_string(text))
        return 0;
    tokenizer->chat_template = strndup(json_string_value(text), json_string_length(text));
    if (!tokenizer->chat_template)
        return tsr_err_set(err, -ENOMEM, "%s: no memory for a chat template of %zu bytes", path,
                           json_string_length(text));
    return 0;
}

static int read_configs(struct tsr_tokenizer *tokenizer, const char *path, struct tsr_err *err)
{
    json_t *config = NULL, *special = NULL, *generation = NULL, *model = NULL;
    struct tsr_vocab *vocab = &tokenizer->vocab;
    int rc = read_json(path, "tokenizer_config.json", &config, err);
    if (rc == 0)
        rc = read_json(path, "special_tokens_map.json", &special, err);
    if (rc == 0)
        rc = read_json(path, "generation_config.json", &generation, err);
    if (rc == 0)
        rc = read_json(path, "config.json", &model, err);
    if (rc == 0)
        rc = read_template(tokenizer, path, config, err);
    if (rc == 0) {
        const struct {
            const char *key;
            uint32_t *id;
        } names[] = {{"bos_token", &vocab->bos},
                     {"eos_token", &vocab->eos},
                     {"pad_token", &vocab->pad},
                     {"unk_token", &vocab->unk}};
        for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
            uint32_t id = named_token(tokenizer, config, names[i].key);
            if (id == TSR_TOKEN_NONE)
                id = named_token(tokenizer, special, names[i].key);
            if (id != TSR_TOKEN_NONE)
                *names[i].id = id;
        }
        apply_flag(config, "add_bos_token", vocab->bos, tokenizer->prefix, &tokenizer->n_prefix,
                   true);
        apply_flag(config, "add_eos_token", vocab->eos, tokenizer->suffix, &tokenizer->n_suffix,
                   false);
        tsr_vocab_add_end(vocab, vocab->eos);
        const json_t *of_generation = json_object_get(generation, "eos_token_id");
        const json_t *of_model = json_object_get(model, "eos_token_id");
        add_ends(vocab, of_generation, false);
        add_ends(vocab, of_model, false);
        if (vocab->n_ends == 0)
            add_ends(vocab, of_generation, true);
        if (vocab->n_ends == 0)
            add_ends(vocab, of_model, true);
    }
    json_decref(config);
    json_decref(special);
    json_decref(generation);
    json_decref(model);
    return rc;
}

int tsr_tokenizer_read_dir(struct tsr_tokenizer *tokenizer, const char *path, struct tsr_err *err)
{
    char *json;
    size_t len;
    int rc = read_file(path, "tokenizer.json", &json, &len, err);
    if (rc == -ENOENT) {
        struct stat st;
        char full[4096];
        snprintf(full, sizeof(full), "%s/tokenizer.model", path);
        if (stat(full, &st) == 0)
            return tsr_err_set(err, -ENOTSUP,
                               "%s: only tokenizer.model is there: SentencePiece is not supported "
                               "yet, a tokenizer.json with byte-level BPE is",
                               path);
        return tsr_err_set(err, -ENOENT, "%s/tokenizer.json does not exist", path);
    }
    if (rc < 0)
        return rc;
    rc = tsr_tokenizer_read_json(tokenizer, json, len, err);
    free(json);
    if (rc < 0) {
        tsr_err_prefix(err, "%s/tokenizer.json", path);
        return rc;
    }
    /* Names are looked up while the added tokens are not yet sorted by the last step. */
    tsr_added_sort(&tokenizer->added);
    tsr_added_sort(&tokenizer->added_normalized);
    rc = read_configs(tokenizer, path, err);
    return rc < 0 ? rc : tsr_tokenizer_finish(tokenizer, err);
}
