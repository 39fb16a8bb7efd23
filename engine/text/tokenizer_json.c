/* tokenizer.json as the `tokenizers` library of Hugging Face writes it. Every part is either
 * understood or refused by name. */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tokenizer_json_priv.h"

static bool is_type(const json_t *node, const char *type)
{
    return strcmp(tsr_json_type(node), type) == 0;
}

static int check_bpe(const json_t *model, struct tsr_err *err)
{
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

/* Old files do not name the type: BPE has merges, Unigram a list for a vocabulary. */
static int check_model(struct tsr_tokenizer *tokenizer, const json_t *model, struct tsr_err *err)
{
    if (!json_is_object(model))
        return tsr_err_set(err, -EINVAL, "'model' is missing or no object");
    const char *type = tsr_json_type(model);
    if (strcmp(type, "BPE") == 0 || (*type == '\0' && json_object_get(model, "merges")))
        return check_bpe(model, err);
    if (strcmp(type, "Unigram") != 0 &&
        (*type != '\0' || !json_is_array(json_object_get(model, "vocab"))))
        return tsr_err_set(err, -ENOTSUP, "model type '%s' is not supported, only BPE and Unigram",
                           type);
    tokenizer->is_unigram = true;
    if (!json_is_array(json_object_get(model, "vocab")))
        return tsr_err_set(err, -EINVAL, "model.vocab is missing or no array");
    return 0;
}

/* Ids above this leave more holes than any published vocabulary has. */
static uint32_t ids_max(const json_t *vocab, const json_t *added)
{
    size_t n = json_object_size(vocab) + json_array_size(vocab) + json_array_size(added);
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

static int set_bpe_vocab(struct tsr_vocab_build *build, json_t *vocab, bool byte_level,
                         struct tsr_err *err)
{
    int rc = 0;
    uint32_t id = 0;
    for (void *it = json_object_iter(vocab); rc == 0 && it; it = json_object_iter_next(vocab, it)) {
        rc = id_of(json_object_iter_value(it), "model.vocab", &id, err);
        if (rc == 0)
            rc = tsr_vocab_build_set(build, id, json_object_iter_key(it),
                                     json_object_iter_key_len(it), 0,
                                     byte_level ? TSR_VOCAB_MAPPED : TSR_VOCAB_PLAIN, err);
    }
    return rc;
}

/* A list of pairs of text and score. */
static int set_unigram_vocab(struct tsr_vocab_build *build, const json_t *vocab,
                             struct tsr_err *err)
{
    for (size_t i = 0; i < json_array_size(vocab); i++) {
        const json_t *pair = json_array_get(vocab, i), *text = json_array_get(pair, 0);
        if (!json_is_string(text) || !json_is_number(json_array_get(pair, 1)))
            return tsr_err_set(err, -EINVAL, "model.vocab[%zu] is no pair of text and score", i);
        int rc = tsr_vocab_build_set(build, (uint32_t)i, json_string_value(text),
                                     json_string_length(text), 0, TSR_VOCAB_PLAIN, err);
        if (rc < 0)
            return rc;
    }
    return 0;
}

int tsr_json_set_added(struct tsr_vocab_build *build, const json_t *added, struct tsr_err *err)
{
    for (size_t i = 0; i < json_array_size(added); i++) {
        const json_t *token = json_array_get(added, i);
        const json_t *content = json_object_get(token, "content");
        uint32_t id = 0;
        if (!json_is_string(content))
            return tsr_err_set(err, -EINVAL, "added_tokens[%zu].content is no string", i);
        int rc = id_of(json_object_get(token, "id"), "added_tokens", &id, err);
        if (rc == 0)
            rc = tsr_vocab_build_set(build, id, json_string_value(content),
                                     json_string_length(content), 0, TSR_VOCAB_ADDED, err);
        if (rc < 0)
            return rc;
    }
    return 0;
}

static int read_vocab(struct tsr_tokenizer *tokenizer, const json_t *model, const json_t *added,
                      bool byte_level, struct tsr_err *err)
{
    json_t *vocab = json_object_get(model, "vocab");
    struct tsr_vocab_build build;
    int rc = tsr_vocab_build_init(&build, ids_max(vocab, added), err);
    if (rc == 0)
        rc = tokenizer->is_unigram ? set_unigram_vocab(&build, vocab, err)
                                   : set_bpe_vocab(&build, vocab, byte_level, err);
    if (rc == 0)
        rc = tsr_json_set_added(&build, added, err);
    if (rc == 0)
        rc = tsr_vocab_build_finish(&build, &tokenizer->vocab, &tokenizer->hash, err);
    tsr_vocab_build_fini(&build);
    return rc;
}

/* The tokens <0x00> to <0xFF>; how many there are. */
static unsigned find_bytes(const struct tsr_vocab_hash *hash, uint32_t *byte_id)
{
    unsigned found = 0;
    for (unsigned b = 0; b < 256; b++) {
        char name[8];
        int n = snprintf(name, sizeof(name), "<0x%02X>", b);
        byte_id[b] = tsr_vocab_lookup(hash, name, (size_t)n);
        found += byte_id[b] != TSR_TOKEN_NONE;
    }
    return found;
}

static int add_merges(struct tsr_bpe *bpe, const json_t *merges, struct tsr_err *err)
{
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < json_array_size(merges); i++) {
        const json_t *merge = json_array_get(merges, i);
        const json_t *left = json_is_array(merge) ? json_array_get(merge, 0) : merge;
        const json_t *right = json_is_array(merge) ? json_array_get(merge, 1) : NULL;
        if (!json_is_string(left) || (json_is_array(merge) && !json_is_string(right)))
            return tsr_err_set(err, -EINVAL,
                               "model.merges[%zu] is neither a string nor a pair of strings", i);
        rc = tsr_bpe_add_written(bpe, json_string_value(left), json_string_length(left),
                                 right ? json_string_value(right) : NULL, json_string_length(right),
                                 err);
    }
    return rc;
}

static int read_bpe(struct tsr_tokenizer *tokenizer, const json_t *model, bool byte_level,
                    struct tsr_err *err)
{
    const json_t *merges = json_object_get(model, "merges");
    size_t n = json_array_size(merges);
    if (n > TSR_VOCAB_TOKENS_MAX)
        return tsr_err_set(err, -EINVAL, "model.merges has %zu entries, at most %d are allowed", n,
                           TSR_VOCAB_TOKENS_MAX);
    struct tsr_bpe *bpe = &tokenizer->bpe;
    struct tsr_vocab_hash *hash = &tokenizer->hash;
    int rc = byte_level ? tsr_bpe_init(bpe, &tokenizer->vocab, hash, (uint32_t)n, err)
                        : tsr_bpe_init_by_char(bpe, &tokenizer->vocab, hash, (uint32_t)n, err);
    if (rc == 0)
        rc = add_merges(bpe, merges, err);
    if (rc < 0)
        return rc;
    bool fallback = json_is_true(json_object_get(model, "byte_fallback"));
    if (fallback && !byte_level)
        find_bytes(hash, bpe->fallback_id);
    for (unsigned b = 0; fallback && byte_level && b < 256; b++)
        if (bpe->byte_id[b] == TSR_TOKEN_NONE)
            return tsr_err_set(err, -ENOTSUP,
                               "model.byte_fallback with a ByteLevel vocabulary without byte %u",
                               b);
    bpe->whole_first = json_is_true(json_object_get(model, "ignore_merges"));
    bpe->fuse_unk = json_is_true(json_object_get(model, "fuse_unk"));
    const json_t *unk = json_object_get(model, "unk_token");
    if (json_is_string(unk))
        bpe->unk = tsr_vocab_lookup(hash, json_string_value(unk), json_string_length(unk));
    tokenizer->vocab.unk = bpe->unk;
    return 0;
}

static int read_unigram(struct tsr_tokenizer *tokenizer, const json_t *model, struct tsr_err *err)
{
    const json_t *vocab = json_object_get(model, "vocab"), *unk = json_object_get(model, "unk_id");
    struct tsr_unigram *unigram = &tokenizer->unigram;
    uint32_t n = (uint32_t)json_array_size(vocab);
    double *scores = malloc(sizeof(*scores) * (n ? n : 1)), lowest = INFINITY;
    if (!scores)
        return tsr_err_set(err, -ENOMEM, "no memory for %u scores", n);
    for (uint32_t i = 0; i < n; i++) {
        scores[i] = json_number_value(json_array_get(json_array_get(vocab, i), 1));
        lowest = scores[i] < lowest ? scores[i] : lowest;
    }
    int rc = tsr_unigram_init(unigram, scores, n, err);
    free(scores);
    if (rc == 0 && json_is_integer(unk))
        rc = id_of(unk, "model.unk_id", &unigram->unk, err);
    if (rc < 0)
        return rc;
    if (unigram->unk != TSR_TOKEN_NONE && unigram->unk >= n)
        return tsr_err_set(err, -EINVAL, "model.unk_id is %u, but there are %u tokens",
                           unigram->unk, n);
    unigram->unk_score = lowest - 10.0; /* the library's K_UNK_PENALTY */
    unigram->byte_fallback = json_is_true(json_object_get(model, "byte_fallback")) &&
                             find_bytes(&tokenizer->hash, unigram->byte_id) == 256;
    tokenizer->vocab.unk = unigram->unk;
    return 0;
}

int tsr_json_add_tokens(struct tsr_tokenizer *tokenizer, const json_t *added, bool in_text,
                        struct tsr_err *err)
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
        bool normalized = !in_text && json_is_true(json_object_get(node, "normalized"));
        int rc = tsr_tokenizer_add_token(tokenizer, token,
                                         normalized ? TSR_ADDED_IN_NORMALIZED : TSR_ADDED_IN_TEXT,
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

/* BertProcessing and RobertaProcessing: "cls" before the text, "sep" behind it, each a pair of text
 * and id. */
static int read_pair(struct tsr_tokenizer *tokenizer, const json_t *node, struct tsr_err *err)
{
    uint32_t cls = 0, sep = 0;
    int rc =
        id_of(json_array_get(json_object_get(node, "cls"), 1), "post_processor.cls", &cls, err);
    if (rc == 0)
        rc =
            id_of(json_array_get(json_object_get(node, "sep"), 1), "post_processor.sep", &sep, err);
    if (rc == 0 && (cls >= tokenizer->vocab.n_tokens || sep >= tokenizer->vocab.n_tokens ||
                    tokenizer->n_prefix == TSR_TOKENIZER_FRAME_MAX ||
                    tokenizer->n_suffix == TSR_TOKENIZER_FRAME_MAX))
        rc = tsr_err_set(err, -EINVAL, "post_processor: token %u or %u is unknown", cls, sep);
    if (rc < 0)
        return rc;
    tokenizer->prefix[tokenizer->n_prefix++] = cls;
    tokenizer->suffix[tokenizer->n_suffix++] = sep;
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
    if (is_type(node, "RobertaProcessing") || is_type(node, "BertProcessing"))
        return read_pair(tokenizer, node, err);
    return tsr_err_set(err, -ENOTSUP, "post_processor '%s' is not supported", tsr_json_type(node));
}

static void describe(struct tsr_tokenizer *tokenizer, bool byte_level, size_t n_added)
{
    char merges[32] = "";
    if (!tokenizer->is_unigram)
        snprintf(merges, sizeof(merges), ", %u merges", tokenizer->bpe.n_merges);
    snprintf(tokenizer->describe, sizeof(tokenizer->describe),
             "%s, %u tokens%s, %u pre-tokenizing stages, %zu added tokens",
             tokenizer->is_unigram ? "unigram"
             : byte_level          ? "byte-level BPE"
                                   : "BPE by characters",
             tokenizer->vocab.n_tokens, merges, tokenizer->pretok.n_stages, n_added);
}

int tsr_json_read_root(struct tsr_tokenizer *tokenizer, const json_t *root, struct tsr_err *err)
{
    if (!json_is_object(root))
        return tsr_err_set(err, -EINVAL, "no JSON object");
    const json_t *model = json_object_get(root, "model");
    const json_t *added = json_object_get(root, "added_tokens");
    struct tsr_vocab *vocab = &tokenizer->vocab;
    vocab->bos = vocab->eos = vocab->pad = vocab->unk = TSR_TOKEN_NONE;
    bool byte_level = false;
    int rc = check_model(tokenizer, model, err);
    if (rc == 0)
        rc = tsr_json_read_normalizer(&tokenizer->normalizer, json_object_get(root, "normalizer"),
                                      err);
    if (rc == 0)
        rc = tsr_json_read_pretok(&tokenizer->pretok, json_object_get(root, "pre_tokenizer"),
                                  &byte_level, err);
    if (rc == 0 && byte_level && tokenizer->is_unigram)
        rc = tsr_err_set(err, -ENOTSUP, "a Unigram model behind ByteLevel is not supported");
    if (rc == 0)
        rc = read_vocab(tokenizer, model, added, byte_level, err);
    if (rc == 0)
        rc = tokenizer->is_unigram ? read_unigram(tokenizer, model, err)
                                   : read_bpe(tokenizer, model, byte_level, err);
    if (rc == 0)
        rc = tsr_json_add_tokens(tokenizer, added, false, err);
    if (rc == 0)
        rc = read_post(tokenizer, json_object_get(root, "post_processor"), 0, err);
    if (rc == 0)
        rc = tsr_json_read_decoder(&tokenizer->decoder, vocab, json_object_get(root, "decoder"),
                                   byte_level, err);
    if (rc == 0)
        describe(tokenizer, byte_level, json_array_size(added));
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
    int rc = tsr_json_read_root(tokenizer, root, err);
    json_decref(root);
    return rc;
}
