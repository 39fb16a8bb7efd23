#include <tsr/serve/parts.h>

#include <assert.h>
#include <string.h>

#include <tsr/serve/frontend.h>

enum {
    IDS_MAX = 512, /* of a TOKENS event */
    FLOATS_MAX = (TSR_WIRE_RECORD_BYTES_MAX - (int)sizeof(struct tsr_wire_embedding)) /
                 (int)sizeof(float), /* of an EMBEDDING event */
    TEXT_MAX = TSR_WIRE_RECORD_BYTES_MAX - (int)sizeof(struct tsr_wire_text), /* of a TEXT event */
};

static bool say_ids(struct tsr_frontend *f, struct tsr_request *r)
{
    bool pieces = r->flags & TSR_SUBMIT_PIECES;
    uint32_t count = 0, text_bytes = 0;
    size_t len = 0;
    uint32_t bytes = sizeof(struct tsr_wire_tokens);
    for (uint32_t i = r->sent; i < r->n_tokens && count < IDS_MAX; i++, count++) {
        if (pieces) {
            tsr_vocab_text(f->vocab, r->tokens[i], &len);
        }
        uint64_t more = bytes + sizeof(struct tsr_wire_piece) + (uint64_t)len;
        if (more > TSR_WIRE_RECORD_BYTES_MAX) {
            break;
        }
        bytes = (uint32_t)more;
        text_bytes += (uint32_t)len;
    }
    struct tsr_wire_tokens *event = tsr_channel_reserve(r->session->channel, bytes);
    if (!event) {
        return false;
    }
    event->request = r->id;
    event->first = r->sent;
    event->count = count;
    event->total = r->n_tokens;
    event->text_bytes = text_bytes;
    struct tsr_wire_piece *piece = (struct tsr_wire_piece *)(void *)(event + 1);
    uint8_t *text = (uint8_t *)(piece + count);
    for (uint32_t i = 0; i < count; i++, piece++) {
        const char *from = NULL;
        piece->token = r->tokens[r->sent + i];
        if (pieces) {
            from = tsr_vocab_text(f->vocab, piece->token, &len);
        }
        piece->text_bytes = (uint32_t)len;
        if (len) {
            memcpy(text, from, len);
            text += len;
        }
    }
    tsr_channel_commit(r->session->channel, TSR_EV_TOKENS, bytes);
    r->sent += count;
    return true;
}

/* The text of the next ids: of as many as surely fit. */
static uint32_t detokenize(struct tsr_frontend *f, struct tsr_request *r, uint8_t *out,
                           uint32_t room)
{
    const bool is_rest = room == r->text_total - r->sent;
    const uint32_t enough = (uint32_t)tsr_detok_out_max(f->vocab);
    uint32_t n = 0;
    while (r->shown < r->n_tokens && (is_rest || room - n >= enough)) {
        size_t len = tsr_detok_push(&r->detok, r->tokens[r->shown++], f->piece);
        memcpy(out + n, f->piece, len);
        n += (uint32_t)len;
    }
    if (is_rest) {
        size_t len = tsr_detok_flush(&r->detok, f->piece);
        memcpy(out + n, f->piece, len);
        n += (uint32_t)len;
    }
    return n;
}

/* The next bytes of the rendered text, whole characters. */
static uint32_t copy_text(const struct tsr_request *r, uint8_t *out, uint32_t room)
{
    const uint8_t *text = (const uint8_t *)r->tokens + r->sent;
    const uint32_t left = r->text_total - r->sent;
    uint32_t n = room;
    while (n < left && n > room - 3 && (text[n] & 0xc0) == 0x80) {
        n--;
    }
    memcpy(out, text, n);
    return n;
}

static bool say_text(struct tsr_frontend *f, struct tsr_request *r)
{
    uint32_t left = r->text_total - r->sent, room = left < TEXT_MAX ? left : TEXT_MAX;
    struct tsr_wire_text *event =
        tsr_channel_reserve(r->session->channel, (uint32_t)sizeof *event + room);
    if (!event) {
        return false;
    }
    event->request = r->id;
    event->offset = r->sent;
    event->total = r->text_total;
    event->reserved = 0;
    uint32_t bytes = r->flags & TSR_SUBMIT_RENDER ? copy_text(r, event->text, room)
                                                  : detokenize(f, r, event->text, room);
    assert(bytes > 0 && bytes <= room);
    event->text_bytes = bytes;
    tsr_channel_commit(r->session->channel, TSR_EV_TEXT, (uint32_t)sizeof *event + bytes);
    r->sent += bytes;
    return true;
}

/* A mean need not be divided by the number of rows: it is divided by its length. */
static bool say_embedding(struct tsr_frontend *f, struct tsr_request *r)
{
    uint32_t total = f->options.embedding_width, left = total - r->sent;
    uint32_t count = left < FLOATS_MAX ? left : FLOATS_MAX;
    uint32_t bytes = (uint32_t)(sizeof(struct tsr_wire_embedding) + count * sizeof(float));
    struct tsr_wire_embedding *event = tsr_channel_reserve(r->session->channel, bytes);
    if (!event) {
        return false;
    }
    event->request = r->id;
    event->first = r->sent;
    event->count = count;
    event->total = total;
    event->reserved = 0;
    for (uint32_t i = 0; i < count; i++) {
        event->values[i] = (float)(r->pooled[r->sent + i] * r->pool_unit);
    }
    tsr_channel_commit(r->session->channel, TSR_EV_EMBEDDING, bytes);
    r->sent += count;
    return true;
}

uint32_t tsr_parts_total(const struct tsr_frontend *f, const struct tsr_request *r)
{
    return r->flags & TSR_SUBMIT_TOKENIZE ? r->n_tokens
           : r->flags & TSR_SUBMIT_EMBED  ? f->options.embedding_width
                                          : r->text_total;
}

bool tsr_parts_say(struct tsr_frontend *f, struct tsr_request *r)
{
    return r->flags & TSR_SUBMIT_TOKENIZE ? say_ids(f, r)
           : r->flags & TSR_SUBMIT_EMBED  ? say_embedding(f, r)
                                          : say_text(f, r);
}

enum tsr_reason tsr_parts_reason(const struct tsr_request *r)
{
    return r->flags & TSR_SUBMIT_TOKENIZE ? TSR_REASON_TOKENIZED
           : r->flags & TSR_SUBMIT_EMBED  ? TSR_REASON_EMBEDDED
                                          : TSR_REASON_WRITTEN;
}
