#include <string.h>

#include <tsr/text/detok.h>

#include "utf8_priv.h"

static const char REPLACEMENT[3] = {'\xEF', '\xBF', '\xBD'};

void tsr_detok_init(struct tsr_detok *detok, const struct tsr_vocab *vocab, bool show_special)
{
    *detok = (struct tsr_detok){
        .vocab = vocab, .show_special = show_special, .began = vocab->start == TSR_START_KEEP};
}

size_t tsr_detok_out_max(const struct tsr_vocab *vocab)
{
    return 3 * ((size_t)vocab->token_bytes_max + 3);
}

/* Appends one byte to the unfinished character; writes what that decides. At most three bytes come
 * out for each byte that goes in, plus three for the one held before. */
static size_t push_byte(struct tsr_detok *detok, uint8_t byte, char *out)
{
    uint8_t seq[4];
    if (detok->exact) {
        *out = (char)byte;
        return 1;
    }
    memcpy(seq, detok->held, sizeof(detok->held));
    seq[detok->n_held] = byte;
    size_t n = detok->n_held + 1u, at = 0, written = 0;
    while (at < n) {
        int step = tsr_utf8_step(seq + at, n - at);
        if (step == TSR_UTF8_UNFINISHED)
            break;
        if (step > 0) {
            memcpy(out + written, seq + at, (size_t)step);
            written += (size_t)step;
            at += (size_t)step;
        } else {
            memcpy(out + written, REPLACEMENT, sizeof(REPLACEMENT));
            written += sizeof(REPLACEMENT);
            at += (size_t)-step;
        }
    }
    detok->n_held = (uint8_t)(n - at);
    memcpy(detok->held, seq + at, n - at);
    return written;
}

/* Takes away what the beginning of a text loses; how many bytes of text[len] that is. */
static size_t lose_start(struct tsr_detok *detok, const char *text, size_t len)
{
    const struct tsr_vocab *vocab = detok->vocab;
    size_t at = 0, max = vocab->start == TSR_START_TRIM ? 1 : vocab->start_count - detok->n_lost;
    while (at < len && at < max && text[at] == ' ')
        at++;
    if (vocab->start == TSR_START_STRIP)
        detok->n_lost += (uint32_t)at;
    detok->began = at < len || (vocab->start == TSR_START_STRIP && at == max);
    return at;
}

/* The first token of a text without its spaces, where vocab->start says so; an added token is as it
 * is. */
static bool is_bare(struct tsr_detok *detok, uint32_t id)
{
    bool bare = !detok->began && detok->vocab->start == TSR_START_FIRST;
    detok->began |= bare;
    return bare && !(detok->vocab->flags[id] & TSR_TOKEN_ADDED);
}

size_t tsr_detok_push(struct tsr_detok *detok, uint32_t id, char *out)
{
    size_t len;
    const char *text = tsr_vocab_text(detok->vocab, id, &len);
    if (!text || (!detok->show_special && (detok->vocab->flags[id] & TSR_TOKEN_SPECIAL)))
        return 0;
    const uint8_t *p = (const uint8_t *)text;
    size_t at = 0, written = 0;
    bool bare = is_bare(detok, id);
    if (!detok->began)
        at = lose_start(detok, text, len);
    while (at < len) {
        if (bare && p[at] == ' ') {
            at++;
            continue;
        }
        if (detok->n_held == 0 && !bare) {
            size_t valid = tsr_utf8_valid(p + at, len - at);
            memcpy(out + written, text + at, valid);
            written += valid;
            at += valid;
            if (at == len)
                break;
        }
        written += push_byte(detok, p[at++], out + written);
    }
    return written;
}

size_t tsr_detok_flush(struct tsr_detok *detok, char *out)
{
    size_t n = detok->n_held ? sizeof(REPLACEMENT) : 0;
    memcpy(out, REPLACEMENT, n);
    tsr_detok_init(detok, detok->vocab, detok->show_special);
    return n;
}
