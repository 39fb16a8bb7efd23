/* A GGUF's tokenizer (docs/gguf.md of ggml, keys tokenizer.ggml.*). */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include <tsr/model/gguf.h>
#include <tsr/shm/log.h>

#include "tokenizer_priv.h"

/* Ids that end an answer have keys only since 2024, and only one each; most files name eos alone.
 * These texts mean an end in every published model that has them as a control token. */
static const char *const END_TEXTS[] = {"<|eot_id|>",          "<|im_end|>",    "<|end|>",
                                        "<end_of_turn>",       "<|endoftext|>", "<|end_of_text|>",
                                        "<|eom_id|>",          "<|endofturn|>", "<EOT>",
                                        "<|return|>",          "<|call|>",      "<turn|>",
                                        "<|end_of_role_turn|>"};

static bool is_text(struct tsr_gguf_string string, const char *text)
{
    return string.size == strlen(text) && memcmp(string.data, text, string.size) == 0;
}

static bool is_pad(const char *text, size_t len, uint32_t id)
{
    char name[32];
    int n = snprintf(name, sizeof(name), "[PAD%u]", id);
    return (size_t)n == len && memcmp(text, name, len) == 0;
}

/* The tokens, of which there is one at least and a type for each where types is not NULL. */
static int find_tokens(const struct tsr_gguf *gguf, const struct tsr_gguf_array *types,
                       const struct tsr_gguf_array **found, struct tsr_err *err)
{
    const struct tsr_gguf_array *tokens = tsr_gguf_array(gguf, "tokenizer.ggml.tokens");
    if (!tokens || tsr_gguf_array_type(tokens) != TSR_GGUF_STRING)
        return tsr_err_set(err, -EINVAL,
                           "tokenizer.ggml.tokens is missing or no array of strings: this GGUF "
                           "carries no vocabulary");
    uint64_t n = tsr_gguf_array_count(tokens);
    if (types &&
        (tsr_gguf_array_count(types) != n || tsr_gguf_array_type(types) == TSR_GGUF_STRING))
        return tsr_err_set(err, -EINVAL,
                           "tokenizer.ggml.token_type has %llu entries for %llu tokens",
                           (unsigned long long)tsr_gguf_array_count(types), (unsigned long long)n);
    if (n == 0 || n > TSR_VOCAB_TOKENS_MAX)
        return tsr_err_set(err, -EINVAL, "tokenizer.ggml.tokens has %llu entries, not 1 to %d",
                           (unsigned long long)n, TSR_VOCAB_TOKENS_MAX);
    *found = tokens;
    return 0;
}

static int read_tokens(struct tsr_tokenizer *tokenizer, const struct tsr_gguf *gguf,
                       const struct tsr_gguf_array *types, struct tsr_err *err)
{
    const struct tsr_gguf_array *tokens;
    struct tsr_vocab_build build;
    int rc = find_tokens(gguf, types, &tokens, err);
    if (rc < 0)
        return rc;
    uint32_t n = (uint32_t)tsr_gguf_array_count(tokens);
    rc = tsr_vocab_build_init(&build, n, err);
    for (uint32_t id = 0; rc == 0 && id < n; id++) {
        struct tsr_gguf_string text = tsr_gguf_array_string(tokens, id);
        int64_t type = types ? tsr_gguf_array_int(types, id) : TSR_PIECE_NORMAL;
        bool raw = type == TSR_PIECE_CONTROL || type == TSR_PIECE_USER_DEFINED;
        unsigned flags = 0;
        if (type == TSR_PIECE_UNUSED || is_pad(text.data, text.size, id)) {
            flags = TSR_TOKEN_UNUSED;
            text.size = 0;
        }
        /* In the lookup (mapped) a token that merges make stays findable by its bytes; a raw one
         * replaces it under the same id where its text reads differently. */
        rc = tsr_vocab_build_set(&build, id, text.data, text.size, flags, TSR_VOCAB_MAPPED, err);
        if (rc == 0 && raw)
            rc = tsr_vocab_build_set(&build, id, text.data, text.size, flags, TSR_VOCAB_ADDED, err);
    }
    if (rc == 0)
        rc = tsr_vocab_build_finish(&build, &tokenizer->vocab, &tokenizer->hash, err);
    tsr_vocab_build_fini(&build);
    return rc;
}

static int read_merges(struct tsr_tokenizer *tokenizer, const struct tsr_gguf *gguf,
                       struct tsr_err *err)
{
    const struct tsr_gguf_array *merges = tsr_gguf_array(gguf, "tokenizer.ggml.merges");
    if (!merges || tsr_gguf_array_type(merges) != TSR_GGUF_STRING)
        return tsr_err_set(err, -EINVAL, "tokenizer.ggml.merges is missing or no array of strings");
    uint64_t n = tsr_gguf_array_count(merges);
    if (n > TSR_VOCAB_TOKENS_MAX)
        return tsr_err_set(err, -EINVAL, "tokenizer.ggml.merges has %llu entries, at most %d",
                           (unsigned long long)n, TSR_VOCAB_TOKENS_MAX);
    int rc = tsr_bpe_init(&tokenizer->bpe, &tokenizer->vocab, &tokenizer->hash, (uint32_t)n, err);
    for (uint64_t i = 0; rc == 0 && i < n; i++) {
        struct tsr_gguf_string merge = tsr_gguf_array_string(merges, i);
        rc = tsr_bpe_add_written(&tokenizer->bpe, merge.data, merge.size, NULL, 0, err);
    }
    if (rc < 0)
        tsr_err_prefix(err, "tokenizer.ggml.merges");
    return rc;
}

static int read_pre(struct tsr_tokenizer *tokenizer, const struct tsr_gguf *gguf, bool *add_bos,
                    const char **name, struct tsr_err *err)
{
    struct tsr_gguf_string pre;
    if (!tsr_gguf_string(gguf, "tokenizer.ggml.pre", &pre)) {
        pre = (struct tsr_gguf_string){"default", 7};
        tsr_log(TSR_LOG_WARN, "the GGUF names no pre-tokenizer (it was converted before May 2024): "
                              "'default' is used, which may cut words differently than the model "
                              "was trained; convert it anew if answers are poor");
    }
    const struct tsr_pretok_ggml *ggml = tsr_pretok_ggml_find(pre.data, pre.size);
    if (!ggml)
        return tsr_err_set(err, -ENOTSUP,
                           "tokenizer.ggml.pre: pre-tokenizer '%.*s' is not "
                           "supported",
                           (int)(pre.size < 64 ? pre.size : 64), pre.data);
    *name = ggml->name;
    *add_bos = ggml->add_bos;
    tokenizer->bpe.whole_first = ggml->whole_first;
    for (const char *const *pattern = ggml->patterns; *pattern; pattern++) {
        int rc = tsr_pretok_add_split(&tokenizer->pretok, *pattern, strlen(*pattern), false,
                                      TSR_PRETOK_ISOLATED, false, err);
        if (rc < 0)
            return rc;
    }
    return 0;
}

static int read_id(const struct tsr_gguf *gguf, const char *key, uint32_t n_tokens, uint32_t *id,
                   struct tsr_err *err)
{
    int64_t value;
    *id = TSR_TOKEN_NONE;
    if (!tsr_gguf_int(gguf, key, &value) || value == -1 || value == UINT32_MAX)
        return 0;
    if (value < 0 || value >= n_tokens)
        return tsr_err_set(err, -EINVAL, "%s is %lld, but there are %u tokens", key,
                           (long long)value, n_tokens);
    *id = (uint32_t)value;
    return 0;
}

/* add_bos, add_eos: what holds where the file does not say. */
static int read_marks(struct tsr_tokenizer *tokenizer, const struct tsr_gguf *gguf, bool add_bos,
                      bool add_eos, struct tsr_err *err)
{
    struct tsr_vocab *vocab = &tokenizer->vocab;
    uint32_t eot, eom;
    int rc = read_id(gguf, "tokenizer.ggml.bos_token_id", vocab->n_tokens, &vocab->bos, err);
    if (rc == 0)
        rc = read_id(gguf, "tokenizer.ggml.eos_token_id", vocab->n_tokens, &vocab->eos, err);
    if (rc == 0)
        rc = read_id(gguf, "tokenizer.ggml.padding_token_id", vocab->n_tokens, &vocab->pad, err);
    if (rc == 0)
        rc = read_id(gguf, "tokenizer.ggml.unknown_token_id", vocab->n_tokens, &vocab->unk, err);
    if (rc == 0)
        rc = read_id(gguf, "tokenizer.ggml.eot_token_id", vocab->n_tokens, &eot, err);
    if (rc == 0)
        rc = read_id(gguf, "tokenizer.ggml.eom_token_id", vocab->n_tokens, &eom, err);
    if (rc < 0)
        return rc;
    tsr_vocab_add_end(vocab, vocab->eos);
    tsr_vocab_add_end(vocab, eot);
    tsr_vocab_add_end(vocab, eom);
    const struct tsr_gguf_array *eog = tsr_gguf_array(gguf, "tokenizer.ggml.eog_token_ids");
    for (uint64_t i = 0; eog && i < tsr_gguf_array_count(eog) && i < TSR_VOCAB_ENDS_MAX; i++) {
        int64_t id = tsr_gguf_array_int(eog, i);
        if (id >= 0 && id < vocab->n_tokens)
            tsr_vocab_add_end(vocab, (uint32_t)id);
    }
    tsr_gguf_bool(gguf, "tokenizer.ggml.add_bos_token", &add_bos);
    tsr_gguf_bool(gguf, "tokenizer.ggml.add_eos_token", &add_eos);
    if (add_bos && vocab->bos != TSR_TOKEN_NONE)
        tokenizer->prefix[tokenizer->n_prefix++] = vocab->bos;
    if (add_eos && vocab->eos != TSR_TOKEN_NONE)
        tokenizer->suffix[tokenizer->n_suffix++] = vocab->eos;
    return 0;
}

/* Added tokens whose text means an end. */
static void find_ends(struct tsr_tokenizer *tokenizer)
{
    struct tsr_vocab *vocab = &tokenizer->vocab;
    for (uint32_t id = 0; id < vocab->n_tokens; id++) {
        size_t len;
        const char *text = tsr_vocab_text(vocab, id, &len);
        if (!(vocab->flags[id] & TSR_TOKEN_ADDED))
            continue;
        for (size_t i = 0; i < sizeof(END_TEXTS) / sizeof(END_TEXTS[0]); i++)
            if (strlen(END_TEXTS[i]) == len && memcmp(END_TEXTS[i], text, len) == 0)
                tsr_vocab_add_end(vocab, id);
    }
}

static int read_added(struct tsr_tokenizer *tokenizer, const struct tsr_gguf_array *types,
                      uint32_t *n_added, struct tsr_err *err)
{
    struct tsr_vocab *vocab = &tokenizer->vocab;
    *n_added = 0;
    for (uint32_t id = 0; types && id < vocab->n_tokens; id++) {
        int64_t type = tsr_gguf_array_int(types, id);
        size_t len;
        tsr_vocab_text(vocab, id, &len);
        if ((type != TSR_PIECE_CONTROL && type != TSR_PIECE_USER_DEFINED) || len == 0 ||
            (vocab->flags[id] & TSR_TOKEN_UNUSED))
            continue;
        struct tsr_added_token token = {.id = id};
        int rc = tsr_tokenizer_add_token(tokenizer, token, TSR_ADDED_IN_TEXT,
                                         type == TSR_PIECE_CONTROL ? TSR_TOKEN_SPECIAL : 0u, err);
        if (rc < 0)
            return rc;
        ++*n_added;
    }
    find_ends(tokenizer);
    return 0;
}

static int read_template(struct tsr_tokenizer *tokenizer, const struct tsr_gguf *gguf,
                         struct tsr_err *err)
{
    struct tsr_gguf_string text;
    if (!tsr_gguf_string(gguf, "tokenizer.chat_template", &text) || text.size == 0)
        return 0;
    tokenizer->chat_template = strndup(text.data, text.size);
    if (!tokenizer->chat_template)
        return tsr_err_set(err, -ENOMEM, "no memory for a chat template of %zu bytes", text.size);
    return 0;
}

static int read_bpe(struct tsr_tokenizer *tokenizer, const struct tsr_gguf *gguf,
                    struct tsr_err *err)
{
    const struct tsr_gguf_array *types = tsr_gguf_array(gguf, "tokenizer.ggml.token_type");
    const char *pre = "";
    bool add_bos = false;
    uint32_t n_added = 0;
    int rc = read_tokens(tokenizer, gguf, types, err);
    if (rc == 0)
        rc = read_merges(tokenizer, gguf, err);
    if (rc == 0)
        rc = read_pre(tokenizer, gguf, &add_bos, &pre, err);
    if (rc == 0)
        rc = read_marks(tokenizer, gguf, add_bos, false, err);
    if (rc == 0)
        rc = read_added(tokenizer, types, &n_added, err);
    if (rc == 0)
        snprintf(tokenizer->describe, sizeof(tokenizer->describe),
                 "byte-level BPE, %u tokens, %u merges, pre-tokenizer %s, %u added tokens",
                 tokenizer->vocab.n_tokens, tokenizer->bpe.n_merges, pre, n_added);
    return rc;
}

/* Fills the arrays of pieces, which have room for all tokens. */
static int fill_pieces(const struct tsr_gguf_array *tokens, const struct tsr_gguf_array *types,
                       const struct tsr_gguf_array *scores, const char **text, uint32_t *len,
                       float *score, uint8_t *type, struct tsr_err *err)
{
    for (uint32_t id = 0; id < tsr_gguf_array_count(tokens); id++) {
        struct tsr_gguf_string token = tsr_gguf_array_string(tokens, id);
        int64_t kind = types ? tsr_gguf_array_int(types, id) : TSR_PIECE_NORMAL;
        if (token.size > UINT32_MAX)
            return tsr_err_set(err, -EINVAL, "token %u has %zu bytes", id, (size_t)token.size);
        bool hole = token.size == 0 || is_pad(token.data, token.size, id);
        text[id] = hole ? "" : token.data;
        len[id] = hole ? 0 : (uint32_t)token.size;
        score[id] = scores ? (float)tsr_gguf_array_float(scores, id) : 0;
        type[id] = hole || kind < TSR_PIECE_NORMAL || kind > TSR_PIECE_BYTE ? TSR_PIECE_UNUSED
                                                                            : (uint8_t)kind;
    }
    return 0;
}

/* A GGUF does not say which marks take the white space behind them. Phi-3's do; as llama.cpp does,
 * the model is known by its name. */
static bool is_phi3(const struct tsr_gguf *gguf)
{
    struct tsr_gguf_string name;
    if (!tsr_gguf_string(gguf, "general.name", &name))
        return false;
    for (size_t i = 0; i + 4 <= name.size; i++)
        if (strncasecmp(name.data + i, "phi3", 4) == 0 ||
            (i + 5 <= name.size && strncasecmp(name.data + i, "phi-3", 5) == 0))
            return true;
    return false;
}

static int read_pieces(struct tsr_tokenizer *tokenizer, const struct tsr_gguf *gguf, bool unigram,
                       struct tsr_err *err)
{
    const struct tsr_gguf_array *types = tsr_gguf_array(gguf, "tokenizer.ggml.token_type");
    const struct tsr_gguf_array *scores = tsr_gguf_array(gguf, "tokenizer.ggml.scores"), *tokens;
    int rc = find_tokens(gguf, types, &tokens, err);
    if (rc < 0)
        return rc;
    uint32_t n = (uint32_t)tsr_gguf_array_count(tokens), unk;
    if (!scores || tsr_gguf_array_count(scores) != n ||
        tsr_gguf_array_type(scores) == TSR_GGUF_STRING)
        return tsr_err_set(err, -EINVAL,
                           "tokenizer.ggml.scores is missing or has not one number for each of "
                           "%u tokens",
                           n);
    rc = read_id(gguf, "tokenizer.ggml.unknown_token_id", n, &unk, err);
    if (rc < 0)
        return rc;
    const char **text = malloc(n * sizeof(*text));
    uint32_t *len = malloc(n * sizeof(*len));
    float *score = malloc(n * sizeof(*score));
    uint8_t *type = malloc(n);
    if (text && len && score && type)
        rc = fill_pieces(tokens, types, scores, text, len, score, type, err);
    else
        rc = tsr_err_set(err, -ENOMEM, "no memory for %u tokens", n);
    struct tsr_pieces pieces = {.n = n,
                                .text = text,
                                .len = len,
                                .score = score,
                                .type = type,
                                .unigram = unigram,
                                .rstrip = is_phi3(gguf),
                                .user_in_text = true,
                                .unk = unk};
    for (uint32_t id = 0; rc == 0 && pieces.unk == TSR_TOKEN_NONE && id < n; id++)
        if (type[id] == TSR_PIECE_UNKNOWN)
            pieces.unk = id;
    if (rc == 0)
        rc = tsr_tokenizer_set_pieces(tokenizer, &pieces, err);
    free(text);
    free(len);
    free(score);
    free(type);
    return rc;
}

static int read_charsmap(struct tsr_normalizer_step *step, const struct tsr_gguf *gguf,
                         struct tsr_err *err)
{
    const struct tsr_gguf_array *map = tsr_gguf_array(gguf, "tokenizer.ggml.precompiled_charsmap");
    uint64_t n = map ? tsr_gguf_array_count(map) : 0;
    if (n == 0)
        return 0;
    uint8_t *blob = malloc(n);
    if (!blob)
        return tsr_err_set(err, -ENOMEM, "no memory for a charsmap of %llu bytes",
                           (unsigned long long)n);
    for (uint64_t i = 0; i < n; i++)
        blob[i] = (uint8_t)tsr_gguf_array_int(map, i);
    int rc = tsr_charsmap_init(&step->map, blob, n, err);
    free(blob);
    return rc;
}

/* llama.cpp normalizes only for unigram models; of a BPE model it takes the dummy prefix alone. */
static int read_sentencepiece(struct tsr_tokenizer *tokenizer, const struct tsr_gguf *gguf,
                              bool unigram, struct tsr_err *err)
{
    struct tsr_vocab *vocab = &tokenizer->vocab;
    struct tsr_normalizer_step *step =
        tsr_normalizer_add(&tokenizer->normalizer, TSR_STEP_SENTENCEPIECE, err);
    bool prefix = true;
    if (!step)
        return -ENOTSUP;
    tsr_gguf_bool(gguf, "tokenizer.ggml.add_space_prefix", &prefix);
    step->prefix = prefix ? TSR_PREFIX_ALWAYS : TSR_PREFIX_NEVER;
    step->escape = true;
    int rc = read_pieces(tokenizer, gguf, unigram, err);
    if (rc == 0 && unigram) {
        tsr_gguf_bool(gguf, "tokenizer.ggml.remove_extra_whitespaces", &step->remove_extra);
        rc = read_charsmap(step, gguf, err);
    }
    if (rc < 0)
        return rc;
    vocab->start = step->remove_extra ? TSR_START_TRIM : prefix ? TSR_START_STRIP : TSR_START_KEEP;
    vocab->start_count = 1;
    snprintf(tokenizer->describe, sizeof(tokenizer->describe), "SentencePiece %s, %u tokens",
             unigram ? "unigram" : "BPE", vocab->n_tokens);
    rc = read_marks(tokenizer, gguf, !unigram, unigram, err);
    if (rc == 0)
        find_ends(tokenizer);
    return rc;
}

int tsr_tokenizer_read_gguf(struct tsr_tokenizer *tokenizer, const struct tsr_gguf *gguf,
                            struct tsr_err *err)
{
    struct tsr_gguf_string model;
    if (!tsr_gguf_string(gguf, "tokenizer.ggml.model", &model))
        return tsr_err_set(err, -EINVAL,
                           "tokenizer.ggml.model is missing: this GGUF carries no tokenizer");
    int rc;
    if (is_text(model, "gpt2"))
        rc = read_bpe(tokenizer, gguf, err);
    else if (is_text(model, "llama") || is_text(model, "t5"))
        rc = read_sentencepiece(tokenizer, gguf, is_text(model, "t5"), err);
    else
        return tsr_err_set(err, -ENOTSUP,
                           "tokenizer.ggml.model is '%.*s': only 'gpt2' (byte-level BPE), 'llama' "
                           "(SentencePiece BPE) and 't5' (unigram) are supported",
                           (int)(model.size < 64 ? model.size : 64), model.data);
    if (rc == 0)
        rc = tsr_tokenizer_finish(tokenizer, err);
    return rc < 0 ? rc : read_template(tokenizer, gguf, err);
}
