#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "decoder_priv.h"
#include "utf8_priv.h"

enum { GROWTH_MAX = 16, ROOM = 1 << 16 }; /* all texts together: times all keys, and some more */

struct tsr_decoder_step *tsr_decoder_add(struct tsr_decoder *decoder, enum tsr_decoder_kind kind,
                                         struct tsr_err *err)
{
    if (decoder->n_steps == TSR_DECODER_STEPS_MAX) {
        tsr_err_set(err, -ENOTSUP, "more than %d decoders in sequence", TSR_DECODER_STEPS_MAX);
        return NULL;
    }
    struct tsr_decoder_step *step = &decoder->steps[decoder->n_steps++];
    *step = (struct tsr_decoder_step){.kind = kind};
    return step;
}

int tsr_decoder_add_sentencepiece(struct tsr_decoder *decoder, struct tsr_err *err)
{
    struct tsr_decoder_step *spaces = tsr_decoder_add(decoder, TSR_DECODE_REPLACE, err);
    if (!spaces)
        return -ENOTSUP;
    memcpy(spaces->from, "\xE2\x96\x81", 3);
    spaces->from_len = 3;
    spaces->to[0] = ' ';
    spaces->to_len = 1;
    return tsr_decoder_add(decoder, TSR_DECODE_BYTE_FALLBACK, err) ? 0 : -ENOTSUP;
}

void tsr_decoder_fini(struct tsr_decoder *decoder)
{
    for (unsigned i = 0; i < decoder->n_steps; i++)
        tsr_regex_fini(&decoder->steps[i].regex);
    decoder->n_steps = 0;
}

/* A text that grows. */
struct buffer {
    char *text;
    size_t len, cap;
};

static int put(struct buffer *buffer, const char *text, size_t len)
{
    if (buffer->len + len > buffer->cap) {
        size_t cap = 2 * (buffer->len + len) + 64;
        char *grown = realloc(buffer->text, cap);
        if (!grown)
            return -ENOMEM;
        buffer->text = grown;
        buffer->cap = cap;
    }
    if (len)
        memcpy(buffer->text + buffer->len, text, len);
    buffer->len += len;
    return 0;
}

/* The next place of what a TSR_DECODE_REPLACE replaces, as tsr_regex_find() says it. */
static int find(const struct tsr_decoder_step *step, struct tsr_regex_scratch *regex,
                const char *text, size_t len, size_t from, size_t *begin, size_t *end)
{
    if (step->from_len == 0)
        return tsr_regex_find(&step->regex, regex, text, len, from, begin, end);
    const char *found = memmem(text + from, len - from, step->from, step->from_len);
    if (!found)
        return 0;
    *begin = (size_t)(found - text);
    *end = *begin + step->from_len;
    return 1;
}

static int replace(const struct tsr_decoder_step *step, struct tsr_regex_scratch *regex,
                   const struct buffer *in, struct buffer *out)
{
    size_t at = 0;
    bool valid = step->from_len || tsr_utf8_valid((const uint8_t *)in->text, in->len) == in->len;
    while (valid && at < in->len) {
        size_t begin, end;
        int rc = find(step, regex, in->text, in->len, at, &begin, &end);
        if (rc < 0)
            return rc;
        if (rc == 0 || begin == end)
            break;
        if (put(out, in->text + at, begin - at) < 0 || put(out, step->to, step->to_len) < 0)
            return -ENOMEM;
        at = end;
    }
    return put(out, in->text + at, in->len - at);
}

static int strip(const struct tsr_decoder_step *step, const struct buffer *in, struct buffer *out)
{
    size_t begin = 0, end = in->len, n = step->from_len;
    for (uint32_t i = 0; i < step->start && end - begin >= n; i++, begin += n)
        if (memcmp(in->text + begin, step->from, n) != 0)
            break;
    for (uint32_t i = 0; i < step->stop && end - begin >= n; i++, end -= n)
        if (memcmp(in->text + end - n, step->from, n) != 0)
            break;
    return put(out, in->text + begin, end - begin);
}

static int run_step(const struct tsr_decoder_step *step, struct tsr_regex_scratch *regex,
                    const struct buffer *in, struct buffer *out)
{
    out->len = 0;
    if (step->kind == TSR_DECODE_PREPEND) {
        int rc = put(out, step->to, step->to_len);
        return rc < 0 ? rc : put(out, in->text, in->len);
    }
    if (in->len == 0)
        return 0;
    if (step->kind == TSR_DECODE_REPLACE)
        return replace(step, regex, in, out);
    if (step->kind == TSR_DECODE_STRIP)
        return strip(step, in, out);
    int byte = tsr_vocab_fallback_byte(in->text, in->len);
    char text = (char)byte;
    return byte < 0 ? put(out, in->text, in->len) : put(out, &text, 1);
}

/* Appends the texts of all tokens to all, and their offsets. index: [number of tokens], 0 or one
 * more than the place in instead. */
static int decode_all(const struct tsr_decoder *decoder, struct tsr_regex_scratch *regex,
                      const struct tsr_vocab_hash *hash, const struct tsr_added *instead,
                      const uint32_t *index, struct buffer *work, uint32_t *offset,
                      struct buffer *all, struct tsr_err *err)
{
    size_t limit = (size_t)hash->offset[hash->n_tokens] * GROWTH_MAX + ROOM;
    int rc = 0;
    for (uint32_t id = 0; rc == 0 && id < hash->n_tokens; id++) {
        size_t len;
        const char *key = tsr_vocab_key(hash, id, &len);
        if (index[id]) {
            key = instead->tokens[index[id] - 1].text;
            len = instead->tokens[index[id] - 1].len;
        }
        offset[id] = (uint32_t)all->len;
        work[0].len = 0;
        rc = put(&work[0], key, len);
        for (unsigned i = 0; rc == 0 && i < decoder->n_steps; i++)
            rc = run_step(&decoder->steps[i], &regex[i], &work[i & 1], &work[~i & 1]);
        if (rc == 0)
            rc = put(all, work[decoder->n_steps & 1].text, work[decoder->n_steps & 1].len);
        if (rc < 0)
            return tsr_err_set(err, rc, "token %u: its decoder %s", id,
                               rc == -ENOMEM ? "has no memory" : "exceeds its limit");
        if (all->len > limit || all->len > UINT32_MAX)
            return tsr_err_set(err, -ENOTSUP, "token %u: the decoder makes texts %d times as long",
                               id, GROWTH_MAX);
    }
    offset[hash->n_tokens] = (uint32_t)all->len;
    return rc < 0 ? rc : put(all, "", 1);
}

int tsr_decoder_apply(const struct tsr_decoder *decoder, const struct tsr_vocab_hash *hash,
                      const struct tsr_added *instead, struct tsr_vocab *vocab, struct tsr_err *err)
{
    if (decoder->n_steps == 0)
        return 0;
    struct tsr_regex_scratch regex[TSR_DECODER_STEPS_MAX] = {0};
    struct buffer work[2] = {0}, all = {0};
    uint32_t *offset = malloc(sizeof(*offset) * ((size_t)hash->n_tokens + 1));
    uint32_t *index = calloc(hash->n_tokens, sizeof(*index));
    int rc =
        offset && index ? 0 : tsr_err_set(err, -ENOMEM, "no memory for %u tokens", hash->n_tokens);
    for (uint32_t i = 0; rc == 0 && i < instead->n; i++)
        index[instead->tokens[i].id] = i + 1;
    for (unsigned i = 0; rc == 0 && i < decoder->n_steps; i++)
        if (decoder->steps[i].regex.code && tsr_regex_scratch_init(&regex[i]) < 0)
            rc = tsr_err_set(err, -ENOMEM, "no memory for a decoder");
    if (rc == 0)
        rc = decode_all(decoder, regex, hash, instead, index, work, offset, &all, err);
    for (unsigned i = 0; i < decoder->n_steps; i++)
        tsr_regex_scratch_fini(&regex[i]);
    free(work[0].text);
    free(work[1].text);
    free(index);
    if (rc < 0) {
        free(offset);
        free(all.text);
        return rc;
    }
    vocab->offset = offset;
    vocab->bytes = all.text;
    vocab->token_bytes_max = 0;
    for (uint32_t id = 0; id < hash->n_tokens; id++)
        if (offset[id + 1] - offset[id] > vocab->token_bytes_max)
            vocab->token_bytes_max = offset[id + 1] - offset[id];
    return 0;
}
