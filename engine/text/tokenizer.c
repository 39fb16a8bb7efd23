#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "tokenizer_priv.h"
#include "utf8_priv.h"

struct tsr_tokenizer_scratch {
    struct tsr_pretok_scratch pretok;
    struct tsr_bpe_scratch bpe;
    struct tsr_unigram_scratch unigram;
    struct tsr_normalizer_scratch normal;
    struct tsr_trust trust; /* of the joined spans */
    char *joined;
    size_t joined_cap;
    uint32_t *ids; /* of a piece that might not fit into what is left of the caller's array */
    size_t ids_cap;
    size_t text_bytes; /* what is kept between calls */
};

static int create(struct tsr_tokenizer **out, const char *name, struct tsr_err *err)
{
    *out = calloc(1, sizeof(**out));
    return *out ? 0 : tsr_err_set(err, -ENOMEM, "%s: no memory for a tokenizer", name);
}

/* Ends what began with create(): rc of reading, its sentence prefixed by name unless that is NULL.
 */
static int created(struct tsr_tokenizer **out, const char *name, int rc, struct tsr_err *err)
{
    if (rc == 0)
        return 0;
    if (name)
        tsr_err_prefix(err, "%s", name);
    tsr_tokenizer_close(*out);
    *out = NULL;
    return rc;
}

int tsr_tokenizer_open(struct tsr_tokenizer **out, const char *path, const struct tsr_gguf *gguf,
                       struct tsr_err *err)
{
    int rc = create(out, path, err);
    if (rc < 0)
        return rc;
    rc = gguf ? tsr_tokenizer_read_gguf(*out, gguf, err) : tsr_tokenizer_read_dir(*out, path, err);
    return created(out, gguf ? path : NULL, rc, err);
}

int tsr_tokenizer_parse(struct tsr_tokenizer **out, const char *name, const char *json, size_t len,
                        struct tsr_err *err)
{
    int rc = create(out, name, err);
    if (rc < 0)
        return rc;
    rc = tsr_tokenizer_read_json(*out, json, len, err);
    if (rc == 0)
        rc = tsr_tokenizer_finish(*out, err);
    return created(out, name, rc, err);
}

int tsr_tokenizer_parse_model(struct tsr_tokenizer **out, const char *name, const void *data,
                              size_t len, struct tsr_err *err)
{
    int rc = create(out, name, err);
    if (rc < 0)
        return rc;
    rc = tsr_tokenizer_read_model(*out, data, len, TSR_PREFIX_ALWAYS, NULL, err);
    if (rc == 0)
        rc = tsr_tokenizer_finish(*out, err);
    return created(out, name, rc, err);
}

void tsr_tokenizer_close(struct tsr_tokenizer *tokenizer)
{
    if (!tokenizer)
        return;
    tsr_bpe_fini(&tokenizer->bpe);
    tsr_unigram_fini(&tokenizer->unigram);
    tsr_normalizer_fini(&tokenizer->normalizer);
    tsr_decoder_fini(&tokenizer->decoder);
    tsr_pretok_fini(&tokenizer->pretok);
    tsr_added_fini(&tokenizer->added);
    tsr_added_fini(&tokenizer->added_normalized);
    tsr_added_fini(&tokenizer->renamed);
    tsr_vocab_fini(&tokenizer->vocab, &tokenizer->hash);
    free(tokenizer->chat_template);
    free(tokenizer);
}

const struct tsr_vocab *tsr_tokenizer_vocab(const struct tsr_tokenizer *tokenizer)
{
    return &tokenizer->vocab;
}

const char *tsr_tokenizer_chat_template(const struct tsr_tokenizer *tokenizer)
{
    return tokenizer->chat_template;
}

const char *tsr_tokenizer_describe(const struct tsr_tokenizer *tokenizer)
{
    return tokenizer->describe;
}

uint32_t tsr_tokenizer_find(const struct tsr_tokenizer *tokenizer, const char *text, size_t len)
{
    const struct tsr_vocab_hash *hash = &tokenizer->hash;
    for (uint32_t id = 0; len > 0 && id < hash->n_tokens; id++) {
        size_t n;
        const char *key = tsr_vocab_key(hash, id, &n);
        if (n == len && (tokenizer->vocab.flags[id] & TSR_TOKEN_ADDED) && memcmp(key, text, n) == 0)
            return id;
    }
    return tsr_vocab_lookup(hash, text, len);
}

/* What is looked for in normalized text must be normalized itself. */
static int add_normalized(struct tsr_tokenizer *tokenizer, struct tsr_added_token *token,
                          struct tsr_err *err)
{
    struct tsr_normalizer_scratch scratch;
    struct tsr_normalize_scratch *out;
    struct tsr_trust trust = {0};
    int rc = tsr_normalizer_scratch_init(&scratch, &tokenizer->normalizer);
    if (rc == 0)
        rc = tsr_trust_append(&trust, token->len, true);
    if (rc == 0)
        rc = tsr_normalizer_run(&tokenizer->normalizer, &scratch, token->text, 0, token->len,
                                &trust, &out);
    if (rc < 0) {
        rc = tsr_err_set(err, rc, "added token %u of %u bytes could not be normalized", token->id,
                         token->len);
    } else if (out->len > 0) {
        bool changed = out->len != token->len || memcmp(out->text, token->text, out->len) != 0;
        token->text = out->text;
        token->len = (uint32_t)out->len;
        rc = tsr_added_add(&tokenizer->added_normalized, token, err);
        if (rc == 0 && changed && !(tokenizer->vocab.flags[token->id] & TSR_TOKEN_SPECIAL))
            rc = tsr_added_add(&tokenizer->renamed, token, err);
    }
    tsr_normalizer_scratch_fini(&scratch);
    tsr_trust_fini(&trust);
    return rc;
}

int tsr_tokenizer_add_token(struct tsr_tokenizer *tokenizer, struct tsr_added_token token,
                            enum tsr_added_where where, unsigned flags, struct tsr_err *err)
{
    size_t len;
    const char *text = tsr_vocab_key(&tokenizer->hash, token.id, &len);
    token.text = (char *)(uintptr_t)text; /* copied by the set */
    token.len = (uint32_t)len;
    token.guarded = (flags & TSR_TOKEN_SPECIAL) || tsr_vocab_looks_like_mark(text, len);
    flags |= TSR_TOKEN_ADDED | (token.guarded ? TSR_TOKEN_GUARDED : 0u);
    tsr_vocab_flag(&tokenizer->vocab, token.id, flags);
    if (where == TSR_ADDED_IN_NORMALIZED && tokenizer->normalizer.n_steps > 0)
        return add_normalized(tokenizer, &token, err);
    return tsr_added_add(
        where == TSR_ADDED_IN_TEXT ? &tokenizer->added : &tokenizer->added_normalized, &token, err);
}

static void guard_ends(struct tsr_tokenizer *tokenizer, struct tsr_added *added)
{
    for (uint32_t i = 0; i < added->n; i++)
        if (tsr_vocab_is_end(&tokenizer->vocab, added->tokens[i].id))
            added->tokens[i].guarded = true;
}

/* An end that is an ordinary token in the file: still a mark, and nothing else. */
static int mark_end(struct tsr_tokenizer *tokenizer, uint32_t id, struct tsr_err *err)
{
    size_t len;
    tsr_vocab_key(&tokenizer->hash, id, &len);
    if ((tokenizer->vocab.flags[id] & TSR_TOKEN_ADDED) || len == 0 || len > TSR_ADDED_BYTES_MAX)
        return 0;
    struct tsr_added_token token = {.id = id};
    return tsr_tokenizer_add_token(tokenizer, token, TSR_ADDED_IN_TEXT, TSR_TOKEN_SPECIAL, err);
}

/* The tokens that pieces are cut into: all that text may become. */
static int finish_unigram(struct tsr_tokenizer *tokenizer, struct tsr_err *err)
{
    const uint8_t *flags = tokenizer->vocab.flags;
    int rc = 0;
    for (uint32_t id = 0; rc == 0 && id < tokenizer->unigram.n_tokens; id++) {
        size_t len;
        const char *text = tsr_vocab_key(&tokenizer->hash, id, &len);
        if (len > 0 && !(flags[id] & (TSR_TOKEN_GUARDED | TSR_TOKEN_UNUSED)) &&
            tsr_vocab_lookup(&tokenizer->hash, text, len) == id)
            rc = tsr_unigram_add(&tokenizer->unigram, text, len, id, err);
    }
    return rc;
}

int tsr_tokenizer_finish(struct tsr_tokenizer *tokenizer, struct tsr_err *err)
{
    struct tsr_vocab *vocab = &tokenizer->vocab;
    for (uint32_t i = 0; i < vocab->n_ends; i++) {
        int rc = mark_end(tokenizer, vocab->ends[i], err);
        if (rc < 0)
            return rc;
        tsr_vocab_flag(vocab, vocab->ends[i], TSR_TOKEN_SPECIAL | TSR_TOKEN_GUARDED);
    }
    guard_ends(tokenizer, &tokenizer->added);
    guard_ends(tokenizer, &tokenizer->added_normalized);
    tsr_added_sort(&tokenizer->added);
    tsr_added_sort(&tokenizer->added_normalized);
    vocab->add_bos = tokenizer->n_prefix > 0;
    vocab->add_eos = tokenizer->n_suffix > 0;
    int rc = 0;
    if (tokenizer->is_unigram)
        rc = finish_unigram(tokenizer, err);
    else if (tsr_bpe_finish(&tokenizer->bpe) < 0)
        rc = tsr_err_set(err, -ENOMEM, "no memory for a vocabulary of %u tokens", vocab->n_tokens);
    return rc < 0 ? rc
                  : tsr_decoder_apply(&tokenizer->decoder, &tokenizer->hash, &tokenizer->renamed,
                                      vocab, err);
}

int tsr_tokenizer_scratch_create(struct tsr_tokenizer_scratch **out,
                                 const struct tsr_tokenizer *tokenizer, size_t text_bytes,
                                 struct tsr_err *err)
{
    *out = NULL;
    struct tsr_tokenizer_scratch *scratch = calloc(1, sizeof(*scratch));
    if (!scratch)
        return tsr_err_set(err, -ENOMEM, "no memory for a tokenizer's scratch");
    scratch->text_bytes = text_bytes;
    scratch->joined_cap = text_bytes;
    scratch->joined = malloc(text_bytes ? text_bytes : 1);
    int rc = tsr_pretok_scratch_init(&scratch->pretok, &tokenizer->pretok);
    if (rc == 0)
        rc = tsr_bpe_scratch_init(&scratch->bpe);
    if (rc == 0)
        rc = tsr_normalizer_scratch_init(&scratch->normal, &tokenizer->normalizer);
    if (rc < 0 || !scratch->joined) {
        tsr_tokenizer_scratch_destroy(scratch);
        return tsr_err_set(err, -ENOMEM, "no memory for a tokenizer's scratch of %zu bytes",
                           text_bytes);
    }
    *out = scratch;
    return 0;
}

void tsr_tokenizer_scratch_destroy(struct tsr_tokenizer_scratch *scratch)
{
    if (!scratch)
        return;
    tsr_pretok_scratch_fini(&scratch->pretok);
    tsr_bpe_scratch_fini(&scratch->bpe);
    tsr_unigram_scratch_fini(&scratch->unigram);
    tsr_normalizer_scratch_fini(&scratch->normal);
    tsr_trust_fini(&scratch->trust);
    free(scratch->joined);
    free(scratch->ids);
    free(scratch);
}

/* Gives back what a text above text_bytes made grow. */
static void trim(struct tsr_tokenizer_scratch *scratch, size_t bytes)
{
    if (bytes <= scratch->text_bytes)
        return;
    tsr_bpe_scratch_trim(&scratch->bpe);
    tsr_unigram_scratch_fini(&scratch->unigram);
    tsr_normalizer_scratch_trim(&scratch->normal);
    free(scratch->ids);
    scratch->ids = NULL;
    scratch->ids_cap = 0;
    if (scratch->joined_cap > scratch->text_bytes) {
        free(scratch->joined);
        scratch->joined = NULL;
        scratch->joined_cap = 0;
    }
}

struct encoding {
    const struct tsr_tokenizer *tokenizer;
    struct tsr_tokenizer_scratch *scratch;
    uint32_t *ids;
    size_t n, max;
};

static int emit(struct encoding *e, uint32_t id)
{
    if (e->n == e->max)
        return -ENOBUFS;
    e->ids[e->n++] = id;
    return 0;
}

static ptrdiff_t encode_by_model(const struct encoding *e, const char *text, size_t len,
                                 uint32_t *ids)
{
    const struct tsr_tokenizer *tokenizer = e->tokenizer;
    return tokenizer->is_unigram
               ? tsr_unigram_encode(&tokenizer->unigram, &e->scratch->unigram, text, len, ids)
               : tsr_bpe_encode(&tokenizer->bpe, &e->scratch->bpe, text, len, ids);
}

static int encode_piece(void *ctx, const char *text, size_t len)
{
    struct encoding *e = ctx;
    struct tsr_tokenizer_scratch *scratch = e->scratch;
    if (len <= e->max - e->n) {
        ptrdiff_t n = encode_by_model(e, text, len, e->ids + e->n);
        if (n < 0)
            return (int)n;
        e->n += (size_t)n;
        return 0;
    }
    if (scratch->ids_cap < len) {
        uint32_t *grown = realloc(scratch->ids, 2 * len * sizeof(*grown));
        if (!grown)
            return -ENOMEM;
        scratch->ids = grown;
        scratch->ids_cap = 2 * len;
    }
    ptrdiff_t n = encode_by_model(e, text, len, scratch->ids);
    for (ptrdiff_t i = 0; i < n; i++)
        if (emit(e, scratch->ids[i]) < 0)
            return -ENOBUFS;
    return n < 0 ? (int)n : 0;
}

/* A stretch without added tokens; first: it begins the whole text. What is not UTF-8 makes pieces
 * of its own. */
static int encode_text(struct encoding *e, const char *text, size_t len, bool first)
{
    const uint8_t *p = (const uint8_t *)text;
    for (size_t at = 0; at < len;) {
        size_t valid = tsr_utf8_valid(p + at, len - at);
        int rc = tsr_pretok_run(&e->tokenizer->pretok, &e->scratch->pretok, text + at, valid,
                                first && at == 0, encode_piece, e);
        if (rc < 0)
            return rc;
        at += valid;
        size_t bad = at;
        while (bad < len && tsr_utf8_step(p + bad, len - bad) <= 0)
            bad++;
        if (bad > at && (rc = encode_piece(e, text + at, bad - at)) < 0)
            return rc;
        at = bad;
    }
    return 0;
}

/* A stretch between the tokens of the first set, normalized: tokens of the second set, and what is
 * between them. */
static int encode_normalized(struct encoding *e, const char *text, size_t len, bool first,
                             struct tsr_trust *trust)
{
    size_t at = 0;
    struct tsr_added_match match;
    int rc = 0;
    while (rc == 0 &&
           tsr_added_find(&e->tokenizer->added_normalized, text, len, at, trust, &match)) {
        rc = encode_text(e, text + at, match.begin - at, first && at == 0);
        if (rc == 0)
            rc = emit(e, match.token->id);
        at = match.end;
    }
    return rc < 0 ? rc : encode_text(e, text + at, len - at, first && at == 0);
}

static int encode_stretch(struct encoding *e, const char *text, size_t begin, size_t end,
                          struct tsr_trust *trust)
{
    const struct tsr_tokenizer *tokenizer = e->tokenizer;
    if (begin == end)
        return 0;
    if (tokenizer->normalizer.n_steps == 0) {
        trust->base = begin;
        int rc = encode_normalized(e, text + begin, end - begin, begin == 0, trust);
        trust->base = 0;
        return rc;
    }
    struct tsr_normalize_scratch *out;
    int rc = tsr_normalizer_run(&tokenizer->normalizer, &e->scratch->normal, text, begin, end,
                                trust, &out);
    return rc < 0 ? rc
                  : encode_normalized(e, out->text, out->len, begin == 0 && !e->scratch->normal.cut,
                                      &out->trust);
}

static int encode_all(struct encoding *e, const char *text, size_t len, struct tsr_trust *trust)
{
    size_t at = 0;
    struct tsr_added_match match;
    while (tsr_added_find(&e->tokenizer->added, text, len, at, trust, &match)) {
        int rc = encode_stretch(e, text, at, match.begin, trust);
        if (rc == 0)
            rc = emit(e, match.token->id);
        if (rc < 0)
            return rc;
        at = match.end;
    }
    return encode_stretch(e, text, at, len, trust);
}

static int encode_spans(struct encoding *e, const struct tsr_text_span *spans, size_t n_spans,
                        size_t total)
{
    struct tsr_tokenizer_scratch *scratch = e->scratch;
    tsr_trust_reset(&scratch->trust);
    const char *text = n_spans ? spans[0].text : NULL;
    if (n_spans > 1) {
        if (scratch->joined_cap < total) {
            free(scratch->joined);
            scratch->joined = malloc(total);
            scratch->joined_cap = scratch->joined ? total : 0;
            if (!scratch->joined)
                return -ENOMEM;
        }
        text = scratch->joined;
    }
    size_t at = 0;
    for (size_t i = 0; i < n_spans; i++) {
        if (n_spans > 1 && spans[i].len)
            memcpy(scratch->joined + at, spans[i].text, spans[i].len);
        at += spans[i].len;
        if (tsr_trust_append(&scratch->trust, at, spans[i].trusted) < 0)
            return -ENOMEM;
    }
    return encode_all(e, text, total, &scratch->trust);
}

int tsr_tokenizer_encode(const struct tsr_tokenizer *tokenizer,
                         struct tsr_tokenizer_scratch *scratch, const struct tsr_text_span *spans,
                         size_t n_spans, unsigned flags, uint32_t *ids, size_t ids_max,
                         size_t *n_ids, struct tsr_err *err)
{
    *n_ids = 0;
    size_t total = 0;
    for (size_t i = 0; i < n_spans; i++) {
        if (spans[i].len > TSR_ENCODE_BYTES_MAX - total)
            return tsr_err_set(err, -E2BIG,
                               "the text has more than %d bytes, the most that are "
                               "tokenized at once",
                               TSR_ENCODE_BYTES_MAX);
        total += spans[i].len;
    }
    struct encoding e = {.tokenizer = tokenizer, .scratch = scratch, .ids = ids, .max = ids_max};
    bool frame = (flags & TSR_ENCODE_ENDS) != 0;
    int rc = 0;
    for (uint32_t i = 0; frame && rc == 0 && i < tokenizer->n_prefix; i++)
        rc = emit(&e, tokenizer->prefix[i]);
    if (rc == 0)
        rc = encode_spans(&e, spans, n_spans, total);
    for (uint32_t i = 0; frame && rc == 0 && i < tokenizer->n_suffix; i++)
        rc = emit(&e, tokenizer->suffix[i]);
    trim(scratch, total);
    *n_ids = e.n;
    if (rc == -ENOBUFS)
        return tsr_err_set(err, rc, "the text has more than %zu tokens", ids_max);
    if (rc == -ENOTSUP)
        return tsr_err_set(err, rc,
                           "a regular expression of the model's tokenizer exceeds its limit on "
                           "this text");
    if (rc == -E2BIG)
        return tsr_err_set(err, rc, "the text of %zu bytes has more than %d when it is normalized",
                           total, TSR_NORMALIZED_BYTES_MAX);
    if (rc < 0)
        return tsr_err_set(err, rc, "no memory to tokenize %zu bytes", total);
    return 0;
}
