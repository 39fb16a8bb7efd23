#include "tessera_priv.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum {
    SPINS_A_LOOK = 1024,        /* polls between looks at the clock */
    POLL_MS_MAX = 1000,         /* an AUTO wait that found nothing for so long goes to sleep */
    AFFINITY_LOOK_WAITS = 4096, /* waits between looks at the thread's affinity */
    SENDING_WAIT_MS = 1,        /* while something waits to be sent, wait in such steps */
};

static const uint64_t check_ns = (uint64_t)TSR_LINK_HANGUP_MS * 1000000u;

/* ---- Records into events ---- */

static uint32_t no_more_than(uint32_t claimed, uint32_t fits)
{
    return claimed < fits ? claimed : fits;
}

static void decode_tops(struct tessera *t, const uint8_t *at, const uint8_t *end, uint32_t count,
                        struct tessera_event *event)
{
    for (uint32_t i = 0; i < count && i < TESSERA_TOP_MAX; i++) {
        struct tsr_wire_top top;
        if ((size_t)(end - at) < sizeof top) {
            return;
        }
        memcpy(&top, at, sizeof top);
        at += sizeof top;
        if ((size_t)(end - at) < top.text_bytes) {
            return;
        }
        t->tops[event->top_count++] = (struct tessera_top){.token = top.token,
                                                           .logprob = top.logprob,
                                                           .text = (const char *)at,
                                                           .text_bytes = top.text_bytes};
        size_t step = (top.text_bytes + 3u) & ~3u;
        at += step < (size_t)(end - at) ? step : (size_t)(end - at);
    }
}

static bool decode_token(struct tessera *t, struct live *live, const struct tsr_wire_token *token,
                         uint32_t bytes, struct tessera_event *event)
{
    if (bytes < sizeof *token) {
        return false;
    }
    event->kind = TESSERA_TOKEN;
    event->text = (const char *)token->text;
    event->text_bytes = no_more_than(token->text_bytes, bytes - (uint32_t)sizeof *token);
    event->has_token = !(token->flags & TSR_WIRE_TOKEN_TEXT_ONLY);
    event->token = token->token;
    event->index = token->index;
    event->is_special = (token->flags & TSR_WIRE_TOKEN_SPECIAL) != 0;
    event->time_ns = token->time_ns;
    if (token->flags & TSR_WIRE_TOKEN_LOGPROB) {
        event->has_logprob = 1;
        event->logprob = token->logprob;
        event->top = t->tops;
        size_t off = (sizeof *token + event->text_bytes + 3u) & ~(size_t)3;
        if (off <= bytes) {
            const uint8_t *base = (const uint8_t *)token;
            decode_tops(t, base + off, base + bytes, token->top_count, event);
        }
    }
    /* Credit goes back in halves of what was granted first. */
    if (live->automatic && ++live->read >= (live->first_credit + 1) / 2) {
        live->granting += live->read;
        live->read = 0;
        tessera_queue(t, live);
    }
    return true;
}

static bool decode_tokens(struct tessera *t, const struct tsr_wire_tokens *tokens, uint32_t bytes,
                          struct tessera_event *event)
{
    if (bytes < sizeof *tokens || !t->pieces) {
        return false;
    }
    uint32_t most = (bytes - (uint32_t)sizeof *tokens) / (uint32_t)sizeof(struct tsr_wire_piece);
    uint32_t count = no_more_than(tokens->count, most);
    const struct tsr_wire_piece *pieces = (const void *)(tokens + 1);
    const char *text = (const char *)(pieces + count);
    const char *end = (const char *)tokens + bytes;
    for (uint32_t i = 0; i < count; i++) {
        uint32_t length = no_more_than(pieces[i].text_bytes, (uint32_t)(end - text));
        t->pieces[i] =
            (struct tessera_piece){.token = pieces[i].token, .text_bytes = length, .text = text};
        text += length;
    }
    event->kind = TESSERA_TOKENS;
    event->piece_first = tokens->first;
    event->piece_count = count;
    event->piece_total = tokens->total;
    event->pieces = t->pieces;
    return true;
}

static bool decode_embedding(const struct tsr_wire_embedding *embedding, uint32_t bytes,
                             struct tessera_event *event)
{
    if (bytes < sizeof *embedding) {
        return false;
    }
    event->kind = TESSERA_EMBEDDING;
    event->value_first = embedding->first;
    event->value_count = no_more_than(embedding->count, (bytes - (uint32_t)sizeof *embedding) /
                                                            (uint32_t)sizeof(float));
    event->value_total = embedding->total;
    event->values = embedding->values;
    return true;
}

static bool decode_text(const struct tsr_wire_text *text, uint32_t bytes,
                        struct tessera_event *event)
{
    if (bytes < sizeof *text) {
        return false;
    }
    event->kind = TESSERA_TEXT;
    event->text = (const char *)text->text;
    event->text_bytes = no_more_than(text->text_bytes, bytes - (uint32_t)sizeof *text);
    event->text_offset = text->offset;
    event->text_total = text->total;
    return true;
}

static bool decode_accepted(const struct tsr_wire_accepted *accepted, uint32_t bytes,
                            struct tessera_event *event)
{
    if (bytes < sizeof *accepted) {
        return false;
    }
    event->kind = TESSERA_ACCEPTED;
    event->prompt_tokens = accepted->prompt_tokens;
    event->cached_tokens = accepted->cached_tokens;
    event->tokens_max = accepted->tokens_max;
    event->queue_position = accepted->queue_position;
    event->seed = accepted->seed;
    event->in_reasoning = (accepted->flags & TSR_ACCEPTED_REASONING) != 0;
    event->time_ns = accepted->time_ns;
    return true;
}

static bool decode_done(const struct tsr_wire_done *done, uint32_t bytes,
                        struct tessera_event *event)
{
    if (bytes < sizeof *done) {
        return false;
    }
    event->kind = TESSERA_DONE;
    event->reason = (enum tessera_reason)done->reason;
    event->stop_index = done->stop_index;
    event->code = (enum tessera_code)done->code;
    event->prompt_tokens = done->prompt_tokens;
    event->cached_tokens = done->cached_tokens;
    event->completion_tokens = done->completion_tokens;
    event->queue_ns = done->queue_ns;
    event->prefill_ns = done->prefill_ns;
    event->decode_ns = done->decode_ns;
    event->time_ns = done->time_ns;
    event->text = done->text;
    event->text_bytes = no_more_than(done->text_bytes, sizeof done->text);
    return true;
}

static bool decode_error(const struct tsr_wire_error *error, uint32_t bytes,
                         struct tessera_event *event)
{
    if (bytes < sizeof *error) {
        return false;
    }
    event->kind = TESSERA_FAILED;
    event->code = (enum tessera_code)error->code;
    event->retry_ms = error->retry_ms;
    event->text = error->text;
    event->text_bytes = no_more_than(error->text_bytes, sizeof error->text);
    return true;
}

bool tessera_decode(struct tessera *t, const void *record, const struct tsr_record_info *info,
                    struct tessera_event *event)
{
    if (info->bytes < sizeof(struct tsr_wire_plain) - sizeof(uint64_t)) {
        return false;
    }
    /* The id is at the same place in every event but HELLO. */
    uint64_t id = ((const struct tsr_wire_plain *)record)->request;
    struct live *live = tessera_live_find(t, id);
    if (!live ||
        info->type == TSR_EV_HELLO) { /* ended, or none of ours; a channel's error has id 0 */
        return false;
    }
    memset(event, 0, sizeof *event);
    event->id = id;
    bool last = false, known = false;
    switch (info->type) {
    case TSR_EV_ACCEPTED:
        known = decode_accepted(record, info->bytes, event);
        break;
    case TSR_EV_TOKEN:
        known = decode_token(t, live, record, info->bytes, event);
        break;
    case TSR_EV_TOKENS:
        known = decode_tokens(t, record, info->bytes, event);
        break;
    case TSR_EV_EMBEDDING:
        known = decode_embedding(record, info->bytes, event);
        break;
    case TSR_EV_TEXT:
        known = decode_text(record, info->bytes, event);
        break;
    case TSR_EV_DONE:
        last = known = decode_done(record, info->bytes, event);
        break;
    case TSR_EV_ERROR:
        last = known = decode_error(record, info->bytes, event);
        break;
    default:
        break;
    }
    if (last) {
        tessera_live_end(t, live);
    }
    return known;
}

/* ---- Polling ---- */

void tessera_let_go(struct tessera *t)
{
    if (t->peeked) {
        t->peeked = false;
        tsr_link_next(&t->link);
    }
    if (t->shown) {
        free(t->shown);
        t->shown = NULL;
    }
}

/* The next event that is the caller's; 0 where none is there. */
static int take(struct tessera *t, struct tessera_event *event)
{
    tessera_let_go(t);
    while (t->kept) {
        t->shown = t->kept;
        t->kept = t->shown->next;
        if (!t->kept) {
            t->kept_end = &t->kept;
        }
        if (tessera_decode(t, t->shown->bytes, &t->shown->info, event)) {
            return 1;
        }
        free(t->shown);
        t->shown = NULL;
    }
    const void *record;
    struct tsr_record_info info;
    while (tsr_link_peek(&t->link, &record, &info) == 1) {
        t->heard = true;
        if (tessera_decode(t, record, &info, event)) {
            t->peeked = true;
            return 1;
        }
        tsr_link_next(&t->link);
    }
    return 0;
}

/* Is the engine still there? Asked after so long a silence: no system call while events come. */
static void check_seldom(struct tessera *t)
{
    uint64_t now = tsr_clock_ns();
    if (t->heard) {
        t->heard = false;
        t->quiet_ns = now;
    } else if (now - t->quiet_ns >= check_ns) {
        t->quiet_ns = now;
        tsr_link_check(&t->link);
    }
}

int tessera_poll(struct tessera *t, struct tessera_event *event, struct tessera_error *err)
{
    if (t->armed) {
        t->armed = false;
        tsr_link_disarm(&t->link);
    }
    int got = take(t, event);
    tessera_pump(t);
    if (got) {
        return 1;
    }
    if (!t->link.lost.code) {
        check_seldom(t);
        if (!t->link.lost.code) {
            return 0;
        }
        /* What the engine wrote before it died was shown before it hung up. */
        if (take(t, event)) {
            return 1;
        }
    }
    return tessera_lost(t, err);
}

/* ---- Waiting ---- */

static bool may_poll(struct tessera *t)
{
    if (t->wait_mode != TESSERA_WAIT_AUTO) {
        return t->wait_mode == TESSERA_WAIT_POLL;
    }
    if (t->ask_again == 0 || !pthread_equal(t->asked, pthread_self())) {
        t->may_poll = tsr_link_may_poll(&t->link);
        t->asked = pthread_self();
        t->ask_again = AFFINITY_LOOK_WAITS;
    }
    t->ask_again--;
    return t->may_poll;
}

static void relax(void)
{
#if defined(__x86_64__)
    __builtin_ia32_pause();
#endif
}

/* Something waits for room in the request ring, of which the engine does not tell: look again soon.
 */
static bool sending(const struct tessera *t)
{
    return t->outbox || t->queued;
}

static int rest_polling(struct tessera *t, uint64_t deadline_ns, uint64_t until_ns)
{
    for (;;) {
        for (int i = 0; i < SPINS_A_LOOK; i++) {
            if (tsr_ring_has_record(&t->link.in)) {
                return 1;
            }
            relax();
        }
        check_seldom(t);
        uint64_t now = tsr_clock_ns();
        if (t->link.lost.code || now >= deadline_ns || now >= until_ns) {
            return t->link.lost.code ? t->link.lost.code : now >= until_ns;
        }
    }
}

int tessera_rest(struct tessera *t, uint64_t deadline_ns)
{
    uint64_t now = tsr_clock_ns();
    if (now >= deadline_ns) {
        return 0;
    }
    uint64_t step_ns = sending(t) ? SENDING_WAIT_MS * UINT64_C(1000000) : UINT64_MAX;
    if (may_poll(t)) {
        uint64_t most_ns =
            t->wait_mode == TESSERA_WAIT_AUTO ? POLL_MS_MAX * UINT64_C(1000000) : UINT64_MAX;
        most_ns = step_ns < most_ns ? step_ns : most_ns;
        int got =
            rest_polling(t, deadline_ns, most_ns < UINT64_MAX - now ? now + most_ns : UINT64_MAX);
        if (got <= 0 || sending(t) || tsr_ring_has_record(&t->link.in)) {
            return got;
        }
    }
    int timeout_ms = -1;
    if (sending(t)) {
        timeout_ms = SENDING_WAIT_MS;
    } else if (deadline_ns != UINT64_MAX) {
        now = tsr_clock_ns();
        uint64_t left_ms = now < deadline_ns ? (deadline_ns - now) / 1000000 + 1 : 0;
        timeout_ms = left_ms < INT32_MAX ? (int)left_ms : INT32_MAX;
    }
    int got = tsr_link_sleep(&t->link, timeout_ms);
    return got == 0 ? tsr_clock_ns() < deadline_ns : got;
}

int tessera_wait(struct tessera *t, struct tessera_event *event, int timeout_ms,
                 struct tessera_error *err)
{
    int got = tessera_poll(t, event, err);
    if (got || timeout_ms == 0) {
        return got;
    }
    uint64_t deadline_ns =
        timeout_ms < 0 ? UINT64_MAX : tsr_clock_ns() + (uint64_t)timeout_ms * 1000000u;
    while (t->live_count) {
        int more = tessera_rest(t, deadline_ns);
        got = tessera_poll(t, event, err);
        if (got || more == 0) {
            return got;
        }
    }
    return 0;
}

int tessera_fd(const struct tessera *t)
{
    return t->link.fd;
}

int tessera_arm(struct tessera *t, struct tessera_error *err)
{
    if (t->link.lost.code) {
        return tessera_lost(t, err);
    }
    tessera_let_go(t);
    tessera_pump(t);
    if (t->kept || !tsr_link_arm(&t->link)) {
        return 0;
    }
    t->armed = true;
    return 1;
}

int tessera_timeout_ms(const struct tessera *t)
{
    return sending(t) ? SENDING_WAIT_MS : -1;
}
