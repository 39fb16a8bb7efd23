/* The files of a Hugging Face directory that say something about text. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <tsr/text/template.h>

#include "tokenizer_json_priv.h"

enum { FILE_BYTES_MAX = 512 << 20 };

/* The whole file, NUL-terminated, to be freed. -ENOENT without a sentence where it does not exist.
 */
static int read_path(const char *full, char **out, size_t *len, struct tsr_err *err)
{
    *out = NULL;
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

/* The same for a file of a folder. */
static int read_file(const char *path, const char *name, char **out, size_t *len,
                     struct tsr_err *err)
{
    char full[4096];
    *out = NULL;
    if ((size_t)snprintf(full, sizeof(full), "%s/%s", path, name) >= sizeof(full))
        return tsr_err_set(err, -EINVAL, "the path is longer than %zu bytes", sizeof(full));
    return read_path(full, out, len, err);
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
 * only where rewrites: for the classes that make the template from these flags; the others ignore
 * them. */
static void apply_flag(const json_t *config, const char *key, bool rewrites, uint32_t token,
                       uint32_t *ids, uint32_t *n, bool front)
{
    const json_t *flag = json_object_get(config, key);
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

static int copy_template(struct tsr_tokenizer *tokenizer, const char *path, const json_t *text,
                         struct tsr_err *err)
{
    if (!json_is_string(text))
        return 0;
    tokenizer->chat_template = strndup(json_string_value(text), json_string_length(text));
    if (!tokenizer->chat_template)
        return tsr_err_set(err, -ENOMEM, "%s: no memory for a chat template of %zu bytes", path,
                           json_string_length(text));
    return 0;
}

/* chat_template.jinja, chat_template.json (as processors write it), or part of the config. */
static int read_template(struct tsr_tokenizer *tokenizer, const char *path, const json_t *config,
                         struct tsr_err *err)
{
    size_t len;
    json_t *own;
    int rc = read_file(path, "chat_template.jinja", &tokenizer->chat_template, &len, err);
    if (rc != -ENOENT)
        return rc;
    rc = read_json(path, "chat_template.json", &own, err);
    if (rc == 0)
        rc = copy_template(tokenizer, path, template_of(own ? own : config), err);
    json_decref(own);
    return rc;
}

int tsr_tokenizer_read_chat_template(struct tsr_tokenizer *tokenizer, const char *path,
                                     struct tsr_err *err)
{
    char *text;
    size_t len;
    int rc = read_path(path, &text, &len, err);
    if (rc == -ENOENT)
        return tsr_err_set(err, rc, "there is no chat template %s", path);
    if (rc == 0) {
        free(tokenizer->chat_template);
        tokenizer->chat_template = text;
    }
    return rc;
}

/* The JSON files, each NULL where it does not exist. */
struct files {
    json_t *config, *special, *added, *generation, *model;
};

static void apply_names(struct tsr_tokenizer *tokenizer, const struct files *files)
{
    struct tsr_vocab *vocab = &tokenizer->vocab;
    const struct {
        const char *key;
        uint32_t *id;
    } names[] = {{"bos_token", &vocab->bos},
                 {"eos_token", &vocab->eos},
                 {"pad_token", &vocab->pad},
                 {"unk_token", &vocab->unk}};
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        uint32_t id = named_token(tokenizer, files->config, names[i].key);
        if (id == TSR_TOKEN_NONE)
            id = named_token(tokenizer, files->special, names[i].key);
        if (id != TSR_TOKEN_NONE)
            *names[i].id = id;
    }
}

static void apply_configs(struct tsr_tokenizer *tokenizer, const struct files *files, bool rewrites)
{
    struct tsr_vocab *vocab = &tokenizer->vocab;
    const char *class = json_string_value(json_object_get(files->config, "tokenizer_class"));
    rewrites |= class && (strstr(class, "Llama") || strstr(class, "Gemma"));
    apply_names(tokenizer, files);
    apply_flag(files->config, "add_bos_token", rewrites, vocab->bos, tokenizer->prefix,
               &tokenizer->n_prefix, true);
    apply_flag(files->config, "add_eos_token", rewrites, vocab->eos, tokenizer->suffix,
               &tokenizer->n_suffix, false);
    tsr_vocab_add_end(vocab, vocab->eos);
    const json_t *of_generation = json_object_get(files->generation, "eos_token_id");
    const json_t *of_model = json_object_get(files->model, "eos_token_id");
    add_ends(vocab, of_generation, false);
    add_ends(vocab, of_model, false);
    if (vocab->n_ends == 0)
        add_ends(vocab, of_generation, true);
    if (vocab->n_ends == 0)
        add_ends(vocab, of_model, true);
}

/* Whether special_tokens_map.json or tokenizer_config.json names a text as a special token. */
static bool is_special(const struct files *files, const char *text)
{
    const json_t *const maps[] = {files->special, files->config};
    static const char *const lists[] = {"additional_special_tokens", "extra_special_tokens"};
    static const char *const names[] = {"bos_token", "eos_token", "unk_token",  "pad_token",
                                        "sep_token", "cls_token", "mask_token", "image_token"};
    for (size_t m = 0; m < 2; m++) {
        for (size_t k = 0; k < sizeof(names) / sizeof(names[0]) + 2; k++) {
            const json_t *value = json_object_get(maps[m], k < 2 ? lists[k] : names[k - 2]);
            size_t n = json_is_array(value) ? json_array_size(value) : 1;
            for (size_t i = 0; i < n; i++) {
                const json_t *token = json_is_array(value) ? json_array_get(value, i) : value;
                if (json_is_object(token))
                    token = json_object_get(token, "content");
                if (json_is_string(token) && strcmp(json_string_value(token), text) == 0)
                    return true;
            }
        }
    }
    return false;
}

/* Appends a token to added, or gives one of the same text its flags: later words count. */
static int merge_token(json_t *added, json_t *by_text, const json_t *flags, const char *text,
                       json_int_t id, bool special)
{
    json_t *token = json_object_get(by_text, text);
    if (token)
        return json_object_update(token, (json_t *)(uintptr_t)flags);
    token = json_copy((json_t *)(uintptr_t)flags);
    if (!token || json_object_set_new(token, "id", json_integer(id)) < 0 ||
        json_object_set_new(token, "content", json_string(text)) < 0 ||
        (special && json_object_set_new(token, "special", json_true()) < 0) ||
        json_object_set(by_text, text, token) < 0) {
        json_decref(token);
        return -1;
    }
    return json_array_append_new(added, token);
}

/* Adds the tokens of tokenizer_config.json ("added_tokens_decoder": id to flags) and of
 * added_tokens.json (text to id) to a list as tokenizer.json has it. */
static int merge_added(json_t *added, const struct files *files, struct tsr_err *err)
{
    json_t *by_text = json_object(), *none = json_object();
    const char *key;
    json_t *value;
    size_t i;
    int rc = by_text && none ? 0 : -1;
    json_array_foreach(added, i, value)
    {
        const char *text = json_string_value(json_object_get(value, "content"));
        if (rc == 0 && text)
            rc = json_object_set(by_text, text, value);
    }
    json_object_foreach(json_object_get(files->config, "added_tokens_decoder"), key, value)
    {
        const char *text = json_string_value(json_object_get(value, "content"));
        if (rc == 0 && text)
            rc = merge_token(added, by_text, value, text, strtoll(key, NULL, 10), false);
    }
    json_object_foreach(files->added, key, value)
    {
        if (rc == 0 && json_is_integer(value))
            rc = merge_token(added, by_text, none, key, json_integer_value(value),
                             is_special(files, key));
    }
    json_decref(by_text);
    json_decref(none);
    return rc < 0 ? tsr_err_set(err, -ENOMEM, "no memory for added tokens") : 0;
}

static int read_tokenizer_json(struct tsr_tokenizer *tokenizer, json_t *root,
                               const struct files *files, struct tsr_err *err)
{
    json_t *added = json_object_get(root, "added_tokens");
    if (json_is_object(root) && !json_is_array(added)) {
        added = json_array();
        if (json_object_set_new(root, "added_tokens", added) < 0)
            return tsr_err_set(err, -ENOMEM, "no memory for added tokens");
    }
    int rc = json_is_array(added) ? merge_added(added, files, err) : 0;
    return rc < 0 ? rc : tsr_json_read_root(tokenizer, root, err);
}

/* "legacy": whether the dummy prefix goes before each stretch between special tokens; absent and
 * null mean true. */
static int read_model(struct tsr_tokenizer *tokenizer, const char *data, size_t len,
                      const struct files *files, struct tsr_err *err)
{
    bool legacy = !json_is_false(json_object_get(files->config, "legacy"));
    bool prefix = !json_is_false(json_object_get(files->config, "add_prefix_space"));
    json_t *added = json_array();
    int rc = added ? merge_added(added, files, err)
                   : tsr_err_set(err, -ENOMEM, "no memory for added tokens");
    if (rc == 0)
        rc = tsr_tokenizer_read_model(tokenizer, data, len,
                                      !prefix  ? TSR_PREFIX_NEVER
                                      : legacy ? TSR_PREFIX_ALWAYS
                                               : TSR_PREFIX_FIRST,
                                      added, err);
    json_decref(added);
    return rc;
}

/* tokenizer.json, and only where there is none a SentencePiece model. */
static int read_tokenizer(struct tsr_tokenizer *tokenizer, const char *path,
                          const struct files *files, bool *is_model, struct tsr_err *err)
{
    static const char *const names[] = {"tokenizer.model", "spiece.model",
                                        "sentencepiece.bpe.model"};
    json_t *root;
    int rc = read_json(path, "tokenizer.json", &root, err);
    if (rc == 0 && root) {
        rc = read_tokenizer_json(tokenizer, root, files, err);
        json_decref(root);
        if (rc < 0)
            tsr_err_prefix(err, "%s/tokenizer.json", path);
        return rc;
    }
    for (size_t i = 0; rc == 0 && i < sizeof(names) / sizeof(names[0]); i++) {
        char *data;
        size_t len;
        rc = read_file(path, names[i], &data, &len, err);
        if (rc == -ENOENT) {
            rc = 0;
            continue;
        }
        if (rc < 0)
            return rc;
        *is_model = true;
        rc = read_model(tokenizer, data, len, files, err);
        free(data);
        if (rc < 0)
            tsr_err_prefix(err, "%s/%s", path, names[i]);
        return rc;
    }
    return rc < 0 ? rc
                  : tsr_err_set(err, -ENOENT,
                                "%s/tokenizer.json does not exist, nor does tokenizer.model", path);
}

int tsr_tokenizer_read_dir(struct tsr_tokenizer *tokenizer, const char *path, struct tsr_err *err)
{
    struct files files = {0};
    bool is_model = false;
    int rc = read_json(path, "tokenizer_config.json", &files.config, err);
    if (rc == 0)
        rc = read_json(path, "special_tokens_map.json", &files.special, err);
    if (rc == 0)
        rc = read_json(path, "added_tokens.json", &files.added, err);
    if (rc == 0)
        rc = read_json(path, "generation_config.json", &files.generation, err);
    if (rc == 0)
        rc = read_json(path, "config.json", &files.model, err);
    if (rc == 0)
        rc = read_tokenizer(tokenizer, path, &files, &is_model, err);
    if (rc == 0)
        rc = read_template(tokenizer, path, files.config, err);
    if (rc == 0) {
        apply_configs(tokenizer, &files, is_model);
        rc = tsr_tokenizer_finish(tokenizer, err);
    }
    json_decref(files.config);
    json_decref(files.special);
    json_decref(files.added);
    json_decref(files.generation);
    json_decref(files.model);
    return rc;
}
