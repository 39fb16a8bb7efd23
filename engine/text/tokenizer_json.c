/* tokenizer.json as the `tokenizers` library of Hugging Face writes it. Every part is either
 * understood or refused by name. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include <jansson.h>

#include "tokenizer_priv.h"

static const char *type_of(const json_t *node)
{
    const char *type = json_string_value(json_object_get(node, "type"));
    return type ? type : "";
}

static bool is_type(const json_t *node, const char *type)
{
    return strcmp(type_of(node), type) == 0;
}

static int check_model(const json_t *model, struct tsr_err *err)
{
    if (!json_is_object(model))
        return tsr_err_set(err, -EINVAL, "'model' is missing or no object");
    const char *type = type_of(model);
    if (strcmp(type, "BPE") != 0 && !(*type == '\0' && json_object_get(model, "merges")))
        return tsr_err_set(err, -ENOTSUP, "model type '%s' is not supported, only byte-level BPE",
                           type);
    if (json_is_true(json_object_get(model, "byte_fallback")))
        return tsr_err_set(err, -ENOTSUP,
                           "BPE with byte_fallback (converted from SentencePiece) is not supported "
                           "yet, only byte-level BPE");
    const char *const affixes[] = {"continuing_subword_prefix", "end_of_word_suffix"};
    for (unsigned i = 0; i < 2; i++)
        if (json_string_length(json_object_get(model, affixes[i])) > 0)
            return tsr_err_set(err, -ENOTSUP, "model.%s is not supported", affixes[i]);
    if (json_number_value(json_object_get(model, "dropout")) > 0.0)
        return tsr_err_set(err, -ENOTSUP, "model.dropout is not supported");
    if (!json_is_object(json_object_get(model, "vocab")))
        return tsr_err_set(err, -EINVAL, "model.vocab is missing or no object");
    if (!json_is_array(json_object_get(model, "merges")))
        return tsr_err_set(err, -EINVAL, "model.merges is missing or no array");
    return 0;
}

/* Ids above this leave more holes than any published vocabulary has. */
static uint32_t ids_max(const json_t *vocab, const json_t *added)
{
    size_t n = json_object_size(vocab) + json_array_size(added);
    n = 2 * n + 1024;
    return n > TSR_VOCAB_TOKENS_MAX ? TSR_VOCAB_TOKENS_MAX : (uint32_t)n;
}

static int id_of(const json_t *value, const char *what, uint32_t *id, struct tsr_err *err)
{
    json_int_t number = json_integer_value(value);
    if (!json_is_integer(value) || number < 0 || number >= TSR_VOCAB_TOKENS_MAX)
        return tsr_err_set(err, -EINVAL, "%s: the id is no integer from 0 to %d", what,
                           TSR_VOCAB_TOKENS_MAX - 1);
    *id = (uint32_t)number;
    return 0;
}

static int read_vocab(struct tsr_tokenizer *tokenizer, const json_t *model, const json_t *added,
                      struct tsr_err *err)
{
    json_t *vocab = json_object_get(model, "vocab");
    struct tsr_vocab_build build;
    int rc = tsr_vocab_build_init(&build, ids_max(vocab, added), err);
    uint32_t id = 0;
    for (void *it = json_object_iter(vocab); rc == 0 && it; it = json_object_iter_next(vocab, it)) {
        const char *text = json_object_iter_key(it);
        rc = id_of(json_object_iter_value(it), "model.vocab", &id, err);
        if (rc == 0)
            rc = tsr_vocab_build_set(&build, id, text, json_object_iter_key_len(it), 0, true, err);
    }
    for (size_t i = 0; rc == 0 && i < json_array_size(added); i++) {
        const json_t *token = json_array_get(added, i);
        const json_t *content = json_object_get(token, "content");
        if (!json_is_string(content))
            rc = tsr_err_set(err, -EINVAL, "added_tokens[%zu].content is no string", i);
        else
            rc = id_of(json_object_get(token, "id"), "added_tokens", &id, err);
        if (rc == 0)
            rc = tsr_vocab_build_set(&build, id, json_string_value(content),
                                     json_string_length(content), 0, false, err);
    }
    if (rc == 0)
        rc = tsr_vocab_build_finish(&build, &tokenizer->vocab, &tokenizer->hash, err);
    tsr_vocab_build_fini(&build);
    return rc;
}

static int read_merges(struct tsr_tokenizer *tokenizer, const json_t *model, struct tsr_err *err)
{
    const json_t *merges = json_object_get(model, "merges");
    size_t n = json_array_size(merges);
    if (n > TSR_VOCAB_TOKENS_MAX)
        return tsr_err_set(err, -EINVAL, "model.merges has %zu entries, at most %d are allowed", n,
                           TSR_VOCAB_TOKENS_MAX);
    struct tsr_bpe *bpe = &tokenizer->bpe;
    int rc = tsr_bpe_init(bpe, &tokenizer->vocab, &tokenizer->hash, (uint32_t)n, err);
    for (size_t i = 0; rc == 0 && i < n; i++) {
        const json_t *merge = json_array_get(merges, i);
        const json_t *left = json_is_array(merge) ? json_array_get(merge, 0) : merge;
        const json_t *right = json_is_array(merge) ? json_array_get(merge, 1) : NULL;
        if (!json_is_string(left) || (json_is_array(merge) && !json_is_string(right)))
            return tsr_err_set(err, -EINVAL,
                               "model.merges[%zu] is neither a string nor a pair of strings", i);
        rc = tsr_bpe_add_mapped(bpe, json_string_value(left), json_string_length(left),
                                right ? json_string_value(right) : NULL, json_string_length(right),
                                err);
    }
    if (rc < 0)
        return rc;
    bpe->whole_first = json_is_true(json_object_get(model, "ignore_merges"));
    const json_t *unk = json_object_get(model, "unk_token");
    if (json_is_string(unk))
        bpe->unk = tsr_vocab_lookup(&tokenizer->vocab, &tokenizer->hash, json_string_value(unk),
                                    json_string_length(unk));
    tokenizer->vocab.unk = bpe->unk;
    return 0;
}

static int read_normalizer(struct tsr_tokenizer *tokenizer, const json_t *node, struct tsr_err *err)
{
    static const struct {
        const char *name;
        enum tsr_normal_form form;
    } forms[] = {{"NFC", TSR_NORMAL_NFC},
                 {"NFD", TSR_NORMAL_NFD},
                 {"NFKC", TSR_NORMAL_NFKC},
                 {"NFKD", TSR_NORMAL_NFKD}};
    if (!node || json_is_null(node))
        return 0;
    if (is_type(node, "Sequence")) {
        const json_t *parts = json_object_get(node, "normalizers");
        for (size_t i = 0; i < json_array_size(parts); i++) {
            const json_t *part = json_array_get(parts, i);
            if (is_type(part, "Sequence"))
                return tsr_err_set(err, -ENOTSUP, "a normalizer Sequence within a Sequence");
            int rc = read_normalizer(tokenizer, part, err);
            if (rc < 0)
                return rc;
        }
        return 0;
    }
    for (size_t i = 0; i < sizeof(forms) / sizeof(forms[0]); i++) {
        if (!is_type(node, forms[i].name))
            continue;
        if (tokenizer->form != TSR_NORMAL_NONE && tokenizer->form != forms[i].form)
            return tsr_err_set(err, -ENOTSUP,
                               "two different Unicode normalizers are not supported");
        tokenizer->form = forms[i].form;
        return 0;
    }
    return tsr_err_set(err, -ENOTSUP, "normalizer '%s' is not supported", type_of(node));
}

static int read_behavior(const json_t *node, enum tsr_pretok_behavior *behavior,
                         struct tsr_err *err)
{
    static const char *const names[] = {"Isolated", "Removed", "MergedWithPrevious",
                                        "MergedWithNext", "Contiguous"};
    const char *name = json_string_value(json_object_get(node, "behavior"));
    for (unsigned i = 0; name && i < sizeof(names) / sizeof(names[0]); i++) {
        if (strcmp(name, names[i]) == 0) {
            *behavior = (enum tsr_pretok_behavior)i;
            return 0;
        }
    }
    return tsr_err_set(err, -EINVAL, "pre_tokenizer %s: behavior '%s' is unknown", type_of(node),
                       name ? name : "");
}

static int read_split(struct tsr_pretok *pretok, const json_t *node, struct tsr_err *err)
{
    const json_t *pattern = json_object_get(node, "pattern");
    const json_t *regex = json_object_get(pattern, "Regex");
    const json_t *literal = json_object_get(pattern, "String");
    const json_t *text = json_is_string(regex) ? regex : literal;
    if (!json_is_string(text))
        return tsr_err_set(err, -EINVAL, "pre_tokenizer Split has neither Regex nor String");
    enum tsr_pretok_behavior behavior;
    int rc = read_behavior(node, &behavior, err);
    if (rc < 0)
        return rc;
    return tsr_pretok_add_split(pretok, json_string_value(text), json_string_length(text),
                                text == literal, behavior,
                                json_is_true(json_object_get(node, "invert")), err);
}

/* depth: Sequences within Sequences. byte_level: set where a ByteLevel was seen. */
static int read_pretok(struct tsr_pretok *pretok, const json_t *node, unsigned depth,
                       bool *byte_level, struct tsr_err *err)
{
    int rc = 0;
    if (!node || json_is_null(node))
        return 0;
    if (is_type(node, "Sequence")) {
        const json_t *parts = json_object_get(node, "pretokenizers");
        if (depth == 4)
            return tsr_err_set(err, -ENOTSUP, "pre_tokenizer Sequences are nested too deep");
        for (size_t i = 0; rc == 0 && i < json_array_size(parts); i++)
            rc = read_pretok(pretok, json_array_get(parts, i), depth + 1, byte_level, err);
        return rc;
    }
    if (*byte_level)
        return tsr_err_set(err, -ENOTSUP, "pre_tokenizer '%s' behind ByteLevel is not supported",
                           type_of(node));
    if (is_type(node, "Split"))
        return read_split(pretok, node, err);
    if (is_type(node, "Digits")) {
        bool each = json_is_true(json_object_get(node, "individual_digits"));
        const char *pattern = each ? "\\p{N}" : "\\p{N}+";
        return tsr_pretok_add_split(pretok, pattern, strlen(pattern), false, TSR_PRETOK_ISOLATED,
                                    false, err);
    }
    if (is_type(node, "Punctuation")) {
        static const char pattern[] = "[\\p{P}$+<=>^`|~]";
        enum tsr_pretok_behavior behavior = TSR_PRETOK_ISOLATED;
        if (json_object_get(node, "behavior"))
            rc = read_behavior(node, &behavior, err);
        return rc < 0 ? rc
                      : tsr_pretok_add_split(pretok, pattern, strlen(pattern), false, behavior,
                                             false, err);
    }
    if (is_type(node, "ByteLevel")) {
        *byte_level = true;
        if (!json_is_false(json_object_get(node, "add_prefix_space")))
            rc = tsr_pretok_add_prefix_space(pretok, err);
        if (rc == 0 && !json_is_false(json_object_get(node, "use_regex")))
            rc = tsr_pretok_add_split(pretok, tsr_pretok_gpt2, strlen(tsr_pretok_gpt2), false,
                                      TSR_PRETOK_ISOLATED, false, err);
        return rc;
    }
    return tsr_err_set(err, -ENOTSUP, "pre_tokenizer '%s' is not supported", type_of(node));
}

static int read_added(struct tsr_tokenizer *tokenizer, const json_t *added, struct tsr_err *err)
{
    for (size_t i = 0; i < json_array_size(added); i++) {
        const json_t *node = json_array_get(added, i);
        struct tsr_added_token token = {
            .id = (uint32_t)json_integer_value(json_object_get(node, "id")),
            .lstrip = json_is_true(json_object_get(node, "lstrip")),
            .rstrip = json_is_true(json_object_get(node, "rstrip")),
            .single_word = json_is_true(json_object_get(node, "single_word")),
        };
        if (json_string_length(json_object_get(node, "content")) == 0)
            continue;
        bool special = json_is_true(json_object_get(node, "special"));
        int rc = tsr_tokenizer_add_token(tokenizer, token,
                                         json_is_true(json_object_get(node, "normalized")),
                                         special ? TSR_TOKEN_SPECIAL : 0u, err);
        if (rc < 0)
            return rc;
    }
    return 0;
}

/* TemplateProcessing's "single": special tokens around the sequence A. */
static int read_frame(struct tsr_tokenizer *tokenizer, const json_t *node, struct tsr_err *err)
{
    const json_t *single = json_object_get(node, "single");
    bool behind = false;
    for (size_t i = 0; i < json_array_size(single); i++) {
        const json_t *part = json_array_get(single, i);
        if (json_object_get(part, "Sequence")) {
            behind = true;
            continue;
        }
        const char *name =
            json_string_value(json_object_get(json_object_get(part, "SpecialToken"), "id"));
        const json_t *token = json_object_get(json_object_get(node, "special_tokens"), name);
        const json_t *ids = json_object_get(token, "ids");
        if (!name || !json_is_array(ids))
            return tsr_err_set(err, -EINVAL,
                               "post_processor.single[%zu] is no Sequence and no known "
                               "SpecialToken",
                               i);
        for (size_t k = 0; k < json_array_size(ids); k++) {
            uint32_t id = 0;
            int rc = id_of(json_array_get(ids, k), "post_processor.special_tokens", &id, err);
            if (rc < 0)
                return rc;
            uint32_t *n = behind ? &tokenizer->n_suffix : &tokenizer->n_prefix;
            if (id >= tokenizer->vocab.n_tokens || *n == TSR_TOKENIZER_FRAME_MAX)
                return tsr_err_set(err, -EINVAL,
                                   "post_processor: token %u is unknown, or more than %d tokens "
                                   "are added to a text",
                                   id, TSR_TOKENIZER_FRAME_MAX);
            (behind ? tokenizer->suffix : tokenizer->prefix)[(*n)++] = id;
        }
    }
    return 0;
}

static int read_post(struct tsr_tokenizer *tokenizer, const json_t *node, unsigned depth,
                     struct tsr_err *err)
{
    if (!node || json_is_null(node) || is_type(node, "ByteLevel")) /* that one only moves offsets */
        return 0;
    if (is_type(node, "Sequence") && depth < 4) {
        const json_t *parts = json_object_get(node, "processors");
        for (size_t i = 0; i < json_array_size(parts); i++) {
            int rc = read_post(tokenizer, json_array_get(parts, i), depth + 1, err);
            if (rc < 0)
                return rc;
        }
        return 0;
    }
    if (is_type(node, "TemplateProcessing"))
        return read_frame(tokenizer, node, err);
    return tsr_err_set(err, -ENOTSUP, "post_processor '%s' is not supported", type_of(node));
}

static int read_root(struct tsr_tokenizer *tokenizer, const json_t *root, struct tsr_err *err)
{
    const json_t *model = json_object_get(root, "model");
    const json_t *added = json_object_get(root, "added_tokens");
    struct tsr_vocab *vocab = &tokenizer->vocab;
    vocab->bos = vocab->eos = vocab->pad = vocab->unk = TSR_TOKEN_NONE;
    bool byte_level = false;
    int rc = check_model(model, err);
    if (rc == 0)
        rc = read_normalizer(tokenizer, json_object_get(root, "normalizer"), err);
    if (rc == 0)
        rc = read_pretok(&tokenizer->pretok, json_object_get(root, "pre_tokenizer"), 0, &byte_level,
                         err);
    if (rc == 0 && !byte_level)
        rc = tsr_err_set(err, -ENOTSUP,
                         "pre_tokenizer has no ByteLevel: only byte-level BPE is supported yet");
    if (rc == 0)
        rc = read_vocab(tokenizer, model, added, err);
    if (rc == 0)
        rc = read_merges(tokenizer, model, err);
    if (rc == 0)
        rc = read_added(tokenizer, added, err);
    if (rc == 0)
        rc = read_post(tokenizer, json_object_get(root, "post_processor"), 0, err);
    if (rc == 0)
        snprintf(tokenizer->describe, sizeof(tokenizer->describe),
                 "byte-level BPE, %u tokens, %u merges, %u pre-tokenizing stages, %zu added tokens",
                 vocab->n_tokens, tokenizer->bpe.n_merges, tokenizer->pretok.n_stages,
                 json_array_size(added));
    return rc;
}

int tsr_tokenizer_read_json(struct tsr_tokenizer *tokenizer, const char *json, size_t len,
                            struct tsr_err *err)
{
    json_error_t where;
    json_t *root = json_loadb(json, len, JSON_ALLOW_NUL, &where);
    if (!root)
        return tsr_err_set(err, -EINVAL, "line %d, column %d: %s", where.line, where.column,
                           where.text);
    int rc = json_is_object(root) ? read_root(tokenizer, root, err)
                                  : tsr_err_set(err, -EINVAL, "no JSON object");
    json_decref(root);
    return rc;
}
