/* SentencePiece's models: tokenizer.model is a ModelProto of sentencepiece_model.proto
 * (github.com/google/sentencepiece, src). The rules of encoding follow that library (its
 * bpe_model.cc, unigram_model.cc, normalizer.cc). */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "protobuf_priv.h"
#include "tokenizer_json_priv.h"

enum { ADDED_HOLES_MAX = 1024 }; /* ids without a token behind the model's own */

enum model_type { MODEL_UNIGRAM = 1, MODEL_BPE, MODEL_WORD, MODEL_CHAR };

/* What a ModelProto says, with its defaults. */
struct model {
    enum model_type type;
    bool byte_fallback, suffix, dummy_prefix, remove_extra, escape;
    int64_t bos, eos, pad;
    const uint8_t *charsmap;
    size_t charsmap_len;
    bool denormalizes;
    uint32_t n_pieces, cap;
    const char **text; /* in the file */
    uint32_t *len;
    float *score;
    uint8_t *piece_type;
};

static int grow_pieces(struct model *model, struct tsr_err *err)
{
    if (model->n_pieces < model->cap)
        return 0;
    if (model->n_pieces == TSR_VOCAB_TOKENS_MAX)
        return tsr_err_set(err, -EINVAL, "there are more than %d pieces", TSR_VOCAB_TOKENS_MAX);
    uint32_t cap = 2 * model->cap + 1024;
    const char **text = realloc(model->text, cap * sizeof(*text));
    if (text)
        model->text = text;
    uint32_t *len = realloc(model->len, cap * sizeof(*len));
    if (len)
        model->len = len;
    float *score = realloc(model->score, cap * sizeof(*score));
    if (score)
        model->score = score;
    uint8_t *type = realloc(model->piece_type, cap);
    if (type)
        model->piece_type = type;
    if (!text || !len || !score || !type)
        return tsr_err_set(err, -ENOMEM, "no memory for %u pieces", cap);
    model->cap = cap;
    return 0;
}

static int broken(const char *what, struct tsr_err *err)
{
    return tsr_err_set(err, -EINVAL,
                       "%s is no valid protobuf message: this is no SentencePiece "
                       "model, or it is cut off",
                       what);
}

static int read_piece(struct model *model, const struct tsr_protobuf_field *message,
                      struct tsr_err *err)
{
    struct tsr_protobuf in = tsr_protobuf_message(message->data, message->len);
    struct tsr_protobuf_field field;
    uint32_t id = model->n_pieces;
    int rc = grow_pieces(model, err), more;
    if (rc < 0)
        return rc;
    model->text[id] = "";
    model->len[id] = 0;
    model->score[id] = 0;
    model->piece_type[id] = TSR_PIECE_NORMAL;
    while ((more = tsr_protobuf_next(&in, &field)) > 0) {
        if (field.number == 1 && field.wire == TSR_PROTOBUF_BYTES && field.len <= UINT32_MAX) {
            model->text[id] = (const char *)field.data;
            model->len[id] = (uint32_t)field.len;
        } else if (field.number == 2 && field.wire == TSR_PROTOBUF_FIXED32) {
            model->score[id] = tsr_protobuf_float(&field);
        } else if (field.number == 3 && field.wire == TSR_PROTOBUF_VARINT) {
            model->piece_type[id] = field.value > TSR_PIECE_BYTE ? 0 : (uint8_t)field.value;
        }
    }
    if (more < 0)
        return broken("a piece", err);
    if (model->len[id] == 0 || model->piece_type[id] == 0)
        return tsr_err_set(err, -EINVAL, "piece %u has no text or no known type", id);
    model->n_pieces++;
    return 0;
}

static int read_trainer(struct model *model, const struct tsr_protobuf_field *message,
                        struct tsr_err *err)
{
    struct tsr_protobuf in = tsr_protobuf_message(message->data, message->len);
    struct tsr_protobuf_field field;
    int more;
    while ((more = tsr_protobuf_next(&in, &field)) > 0) {
        if (field.wire != TSR_PROTOBUF_VARINT)
            continue;
        int32_t id = (int32_t)field.value; /* a negative one is written as 64 bits */
        if (field.number == 3)
            model->type = field.value > MODEL_CHAR ? 0 : (enum model_type)field.value;
        else if (field.number == 24)
            model->suffix = field.value != 0;
        else if (field.number == 35)
            model->byte_fallback = field.value != 0;
        else if (field.number == 41)
            model->bos = id;
        else if (field.number == 42)
            model->eos = id;
        else if (field.number == 43)
            model->pad = id;
    }
    return more < 0 ? broken("trainer_spec", err) : 0;
}

static int read_normalizer(struct model *model, const struct tsr_protobuf_field *message,
                           bool denormalizer, struct tsr_err *err)
{
    struct tsr_protobuf in = tsr_protobuf_message(message->data, message->len);
    struct tsr_protobuf_field field;
    int more;
    while ((more = tsr_protobuf_next(&in, &field)) > 0) {
        bool flag = field.wire == TSR_PROTOBUF_VARINT && field.value != 0;
        if (field.number == 2 && field.wire == TSR_PROTOBUF_BYTES && denormalizer) {
            model->denormalizes |= field.len > 0;
        } else if (denormalizer) {
            continue;
        } else if (field.number == 2 && field.wire == TSR_PROTOBUF_BYTES) {
            model->charsmap = field.data;
            model->charsmap_len = field.len;
        } else if (field.number == 3) {
            model->dummy_prefix = flag;
        } else if (field.number == 4) {
            model->remove_extra = flag;
        } else if (field.number == 5) {
            model->escape = flag;
        }
    }
    return more < 0 ? broken("normalizer_spec", err) : 0;
}

static int read_proto(struct model *model, const void *data, size_t len, struct tsr_err *err)
{
    struct tsr_protobuf in = tsr_protobuf_message(data, len);
    struct tsr_protobuf_field field;
    int more, rc = 0;
    while (rc == 0 && (more = tsr_protobuf_next(&in, &field)) > 0) {
        if (field.wire != TSR_PROTOBUF_BYTES)
            continue;
        if (field.number == 1)
            rc = read_piece(model, &field, err);
        else if (field.number == 2)
            rc = read_trainer(model, &field, err);
        else if (field.number == 3 || field.number == 5)
            rc = read_normalizer(model, &field, field.number == 5, err);
    }
    if (rc < 0)
        return rc;
    if (more < 0 || model->n_pieces == 0)
        return broken("the file", err);
    if (model->type != MODEL_UNIGRAM && model->type != MODEL_BPE && model->type != MODEL_CHAR)
        return tsr_err_set(
            err, -ENOTSUP,
            "trainer_spec.model_type is %d: only UNIGRAM, BPE and CHAR are supported",
            (int)model->type);
    if (model->denormalizes)
        return tsr_err_set(err, -ENOTSUP, "a denormalizer_spec with a charsmap is not supported");
    return 0;
}

/* An ordinary token has the flags of its type; where it is looked for depends on the format. */
static int set_vocab(struct tsr_tokenizer *tokenizer, const struct tsr_pieces *pieces,
                     struct tsr_err *err)
{
    struct tsr_vocab_build build;
    size_t max = pieces->n + 2 * json_array_size(pieces->added);
    max += pieces->added ? ADDED_HOLES_MAX : 0;
    int rc = tsr_vocab_build_init(
        &build, max > TSR_VOCAB_TOKENS_MAX ? TSR_VOCAB_TOKENS_MAX + 1u : (uint32_t)max, err);
    for (uint32_t id = 0; rc == 0 && id < pieces->n; id++) {
        uint8_t type = pieces->type[id];
        bool found = type == TSR_PIECE_NORMAL || type == TSR_PIECE_UNUSED ||
                     (type == TSR_PIECE_USER_DEFINED && (pieces->unigram || pieces->user_in_text));
        rc = tsr_vocab_build_set(&build, id, pieces->text[id], pieces->len[id],
                                 type == TSR_PIECE_UNUSED ? TSR_TOKEN_UNUSED : 0u,
                                 found ? TSR_VOCAB_PLAIN : TSR_VOCAB_ADDED, err);
    }
    if (rc == 0)
        rc = tsr_json_set_added(&build, pieces->added, err);
    if (rc == 0)
        rc = tsr_vocab_build_finish(&build, &tokenizer->vocab, &tokenizer->hash, err);
    tsr_vocab_build_fini(&build);
    return rc;
}

/* The marks of Phi-3's tokenizer.json that do not take the white space behind them. */
static bool keeps_space(const char *text, size_t len)
{
    static const char *const names[] = {"<unk>", "<s>", "<|endoftext|>"};
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        if (strlen(names[i]) == len && memcmp(names[i], text, len) == 0)
            return true;
    return false;
}

/* Control tokens are found where the text is trusted; user-defined ones anywhere. */
static int add_marks(struct tsr_tokenizer *tokenizer, const struct tsr_pieces *pieces,
                     struct tsr_err *err)
{
    int rc = 0;
    for (uint32_t id = 0; rc == 0 && id < pieces->n; id++) {
        uint8_t type = pieces->type[id];
        bool user = type == TSR_PIECE_USER_DEFINED;
        if ((!user && type != TSR_PIECE_CONTROL && type != TSR_PIECE_UNKNOWN) ||
            pieces->len[id] == 0 || pieces->len[id] > TSR_ADDED_BYTES_MAX)
            continue;
        /* Symbols of a unigram model are part of its lattice, unless they look like marks. */
        if (user && pieces->unigram && !pieces->user_in_text &&
            !tsr_vocab_looks_like_mark(pieces->text[id], pieces->len[id]))
            continue;
        struct tsr_added_token token = {.id = id};
        token.rstrip = pieces->rstrip && !keeps_space(pieces->text[id], pieces->len[id]);
        rc = tsr_tokenizer_add_token(tokenizer, token,
                                     user && !pieces->user_in_text ? TSR_ADDED_IN_MODEL_TEXT
                                                                   : TSR_ADDED_IN_TEXT,
                                     user ? 0u : TSR_TOKEN_SPECIAL, err);
    }
    return rc;
}

/* Finds the tokens <0x00> to <0xFF>; how many there are. */
static unsigned find_bytes(const struct tsr_pieces *pieces, uint32_t *byte_id)
{
    unsigned found = 0;
    for (unsigned b = 0; b < 256; b++)
        byte_id[b] = TSR_TOKEN_NONE;
    for (uint32_t id = 0; id < pieces->n; id++) {
        int byte = pieces->type[id] == TSR_PIECE_BYTE
                       ? tsr_vocab_fallback_byte(pieces->text[id], pieces->len[id])
                       : -1;
        if (byte < 0 || byte_id[byte] != TSR_TOKEN_NONE)
            continue;
        byte_id[byte] = id;
        found++;
    }
    return found;
}

static int set_bpe(struct tsr_tokenizer *tokenizer, const struct tsr_pieces *pieces,
                   struct tsr_err *err)
{
    struct tsr_bpe *bpe = &tokenizer->bpe;
    int rc = tsr_bpe_init_by_char(bpe, &tokenizer->vocab, &tokenizer->hash, 2 * pieces->n, err);
    if (rc < 0)
        return rc;
    find_bytes(pieces, bpe->fallback_id);
    bpe->unk = pieces->unk;
    bpe->fuse_unk = true;
    return pieces->score ? tsr_bpe_add_scores(bpe, pieces->score, pieces->n, err) : 0;
}

/* User-defined symbols score so much that they are always taken; in SentencePiece more the longer
 * they are. */
static int set_unigram(struct tsr_tokenizer *tokenizer, const struct tsr_pieces *pieces,
                       struct tsr_err *err)
{
    float lowest = INFINITY;
    for (uint32_t id = 0; id < pieces->n; id++)
        if (pieces->type[id] == TSR_PIECE_NORMAL && pieces->score[id] < lowest)
            lowest = pieces->score[id];
    double *scores = malloc(sizeof(*scores) * pieces->n);
    if (!scores)
        return tsr_err_set(err, -ENOMEM, "no memory for %u scores", pieces->n);
    for (uint32_t id = 0; id < pieces->n; id++) {
        scores[id] = pieces->score[id];
        if (pieces->type[id] == TSR_PIECE_USER_DEFINED)
            scores[id] = pieces->exact ? (double)(float)(0.1 * (pieces->len[id] - 1.0)) : 0.0;
    }
    struct tsr_unigram *unigram = &tokenizer->unigram;
    int rc = tsr_unigram_init(unigram, scores, pieces->n, err);
    free(scores);
    tokenizer->is_unigram = true;
    if (rc == 0 && lowest == INFINITY)
        rc = tsr_err_set(err, -EINVAL, "the vocabulary has no ordinary token");
    unigram->single = pieces->exact;
    unigram->unk = pieces->unk;
    unigram->unk_score = lowest - 10.0f;
    unigram->byte_fallback = find_bytes(pieces, unigram->byte_id) == 256;
    return rc;
}

int tsr_tokenizer_set_pieces(struct tsr_tokenizer *tokenizer, const struct tsr_pieces *pieces,
                             struct tsr_err *err)
{
    struct tsr_vocab *vocab = &tokenizer->vocab;
    vocab->bos = vocab->eos = vocab->pad = TSR_TOKEN_NONE;
    int rc = set_vocab(tokenizer, pieces, err);
    if (rc == 0)
        rc =
            pieces->unigram ? set_unigram(tokenizer, pieces, err) : set_bpe(tokenizer, pieces, err);
    if (rc == 0)
        rc = add_marks(tokenizer, pieces, err);
    if (rc == 0)
        rc = tsr_json_add_tokens(tokenizer, pieces->added, true, err);
    if (rc == 0)
        rc = tsr_decoder_add_sentencepiece(&tokenizer->decoder, err);
    vocab->unk = pieces->unk;
    return rc;
}

/* The normalizer, and what it takes for decoding to be its inverse. */
static int set_normalizer(struct tsr_tokenizer *tokenizer, const struct model *model,
                          enum tsr_prefix_scheme prefix, struct tsr_err *err)
{
    struct tsr_normalizer_step *step =
        tsr_normalizer_add(&tokenizer->normalizer, TSR_STEP_SENTENCEPIECE, err);
    int rc = step ? 0 : -ENOTSUP;
    if (rc == 0 && model->charsmap_len)
        rc = tsr_charsmap_init(&step->map, model->charsmap, model->charsmap_len, err);
    if (rc < 0)
        return rc;
    step->prefix = model->dummy_prefix ? prefix : TSR_PREFIX_NEVER;
    step->remove_extra = model->remove_extra;
    step->escape = model->escape;
    step->suffix = model->suffix;
    for (uint32_t id = 0; rc == 0 && id < model->n_pieces; id++) {
        struct tsr_added_token token = {
            .text = (char *)(uintptr_t)model->text[id], .len = model->len[id], .id = id};
        if (model->piece_type[id] == TSR_PIECE_USER_DEFINED && token.len <= TSR_ADDED_BYTES_MAX)
            rc = tsr_added_add(&step->user, &token, err);
    }
    tsr_added_sort(&step->user);
    struct tsr_vocab *vocab = &tokenizer->vocab;
    if (model->remove_extra)
        vocab->start = TSR_START_TRIM;
    else if (model->dummy_prefix)
        vocab->start = TSR_START_STRIP;
    vocab->start_count = 1;
    return rc;
}

static int set_model(struct tsr_tokenizer *tokenizer, const struct model *model,
                     enum tsr_prefix_scheme prefix, const json_t *added, struct tsr_err *err)
{
    static const char *const kinds[] = {"", "unigram", "BPE", "", "characters"};
    struct tsr_pieces pieces = {.n = model->n_pieces,
                                .text = model->text,
                                .len = model->len,
                                .score = model->type == MODEL_CHAR ? NULL : model->score,
                                .type = model->piece_type,
                                .unigram = model->type == MODEL_UNIGRAM,
                                .exact = true,
                                .unk = TSR_TOKEN_NONE,
                                .added = added};
    for (uint32_t id = 0; id < model->n_pieces; id++)
        if (model->piece_type[id] == TSR_PIECE_UNKNOWN)
            pieces.unk = id;
    uint32_t byte_id[256];
    unsigned bytes = find_bytes(&pieces, byte_id);
    if (bytes != (model->byte_fallback ? 256u : 0u))
        return tsr_err_set(err, -EINVAL, "there are %u byte pieces, but byte_fallback is %s", bytes,
                           model->byte_fallback ? "true, so there must be 256" : "false");
    int rc = tsr_tokenizer_set_pieces(tokenizer, &pieces, err);
    if (rc == 0)
        rc = set_normalizer(tokenizer, model, prefix, err);
    if (rc < 0)
        return rc;
    struct tsr_vocab *vocab = &tokenizer->vocab;
    const struct {
        int64_t from;
        uint32_t *to;
    } marks[] = {{model->bos, &vocab->bos}, {model->eos, &vocab->eos}, {model->pad, &vocab->pad}};
    for (size_t i = 0; i < sizeof(marks) / sizeof(marks[0]); i++)
        if (marks[i].from >= 0 && marks[i].from < model->n_pieces &&
            model->piece_type[marks[i].from] == TSR_PIECE_CONTROL)
            *marks[i].to = (uint32_t)marks[i].from;
    if (vocab->bos != TSR_TOKEN_NONE)
        tokenizer->prefix[tokenizer->n_prefix++] = vocab->bos;
    else if (vocab->eos != TSR_TOKEN_NONE)
        tokenizer->suffix[tokenizer->n_suffix++] = vocab->eos;
    tsr_vocab_add_end(vocab, vocab->eos);
    snprintf(tokenizer->describe, sizeof(tokenizer->describe), "SentencePiece %s%s, %u tokens",
             kinds[model->type], model->byte_fallback ? " with byte fallback" : "",
             vocab->n_tokens);
    return 0;
}

int tsr_tokenizer_read_model(struct tsr_tokenizer *tokenizer, const void *data, size_t len,
                             enum tsr_prefix_scheme prefix, const struct json_t *added,
                             struct tsr_err *err)
{
    struct model model = {.type = MODEL_UNIGRAM,
                          .dummy_prefix = true,
                          .remove_extra = true,
                          .escape = true,
                          .bos = 1,
                          .eos = 2,
                          .pad = -1};
    int rc = read_proto(&model, data, len, err);
    if (rc == 0)
        rc = set_model(tokenizer, &model, prefix, added, err);
    free(model.text);
    free(model.len);
    free(model.score);
    free(model.piece_type);
    return rc;
}
