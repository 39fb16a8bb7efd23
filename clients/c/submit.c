#include "tessera_priv.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { OUTBOX_BYTES_MAX = 256 << 20 };

/* ---- Live requests ---- */

struct live *tessera_live_begin(struct tessera *t)
{
    if (!t->first_free) {
        return NULL;
    }
    uint32_t slot = t->first_free - 1;
    struct live *live = &t->lives[slot];
    t->first_free = live->next_free;
    *live = (struct live){.id = ++t->next_count << 16 | (slot + 1)};
    t->live_count++;
    return live;
}

struct live *tessera_live_find(struct tessera *t, uint64_t id)
{
    uint64_t slot = (id & 0xffff) - 1;
    return slot < t->link.hello.requests_max && id && t->lives[slot].id == id ? &t->lives[slot]
                                                                              : NULL;
}

static void unqueue(struct tessera *t, struct live *live)
{
    for (struct live **at = &t->queued; *at; at = &(*at)->next_queued) {
        if (*at == live) {
            *at = live->next_queued;
            live->queued = false;
            return;
        }
    }
}

void tessera_queue(struct tessera *t, struct live *live)
{
    if (!live->queued) {
        live->queued = true;
        live->next_queued = t->queued;
        t->queued = live;
    }
}

/* ---- Sending ---- */

/* Takes the item at *at out. */
static void outbox_remove(struct tessera *t, struct outgoing **at)
{
    struct outgoing *gone = *at;
    *at = gone->next;
    if (!gone->next) {
        t->outbox_end = at;
    }
    t->outbox_bytes -= gone->options_bytes + gone->payload_bytes;
    free(gone);
}

void tessera_outbox_clear(struct tessera *t)
{
    while (t->outbox) {
        outbox_remove(t, &t->outbox);
    }
}

void tessera_live_end(struct tessera *t, struct live *live)
{
    if (live->queued) {
        unqueue(t, live);
    }
    /* The engine has ended it: the rest of a long prompt need not be sent. */
    for (struct outgoing **at = &t->outbox; *at; at = &(*at)->next) {
        if ((*at)->id == live->id) {
            outbox_remove(t, at);
            break;
        }
    }
    live->id = 0;
    live->next_free = t->first_free;
    t->first_free = (uint32_t)(live - t->lives) + 1;
    t->live_count--;
}

/* How much of `left` bytes of payload a record takes behind `before` bytes of its own. */
static uint32_t chunk_of(uint32_t before, uint32_t left)
{
    uint32_t most = TSR_WIRE_RECORD_BYTES_MAX - before;
    return left < most ? left : most;
}

/* The SUBMIT with its first chunk: `options` is complete but for chunk_bytes. 1 sent, 0 no room,
 * negative. */
static int send_submit(struct tessera *t, const void *options, uint32_t options_bytes,
                       const void *payload, uint32_t payload_bytes)
{
    uint32_t chunk = chunk_of(options_bytes, payload_bytes);
    void *out;
    int got = tsr_link_reserve(&t->link, options_bytes + chunk, &out);
    if (got <= 0) {
        return got;
    }
    struct tsr_wire_submit *submit = out;
    size_t from = sizeof submit->record;
    memcpy((uint8_t *)out + from, (const uint8_t *)options + from, options_bytes - from);
    memcpy((uint8_t *)out + options_bytes, payload, chunk);
    submit->chunk_bytes = chunk;
    tsr_link_commit(&t->link, TSR_REQ_SUBMIT, options_bytes + chunk);
    return 1;
}

static int send_rest(struct tessera *t, struct outgoing *outgoing)
{
    const uint8_t *payload = outgoing->bytes + outgoing->options_bytes;
    while (outgoing->sent < outgoing->payload_bytes) {
        struct tsr_wire_continue *cont;
        uint32_t chunk = chunk_of(sizeof *cont, outgoing->payload_bytes - outgoing->sent);
        int got = tsr_link_reserve(&t->link, (uint32_t)sizeof *cont + chunk, (void **)&cont);
        if (got <= 0) {
            return got;
        }
        cont->request = outgoing->id;
        cont->payload_off = outgoing->sent;
        cont->chunk_bytes = chunk;
        memcpy(cont + 1, payload + outgoing->sent, chunk);
        tsr_link_commit(&t->link, TSR_REQ_CONTINUE, (uint32_t)sizeof *cont + chunk);
        outgoing->sent += chunk;
    }
    return 1;
}

/* Sends the outbox as far as there is room. */
static void send_outbox(struct tessera *t)
{
    while (t->outbox) {
        struct outgoing *first = t->outbox;
        if (!first->sent) {
            if (send_submit(t, first->bytes, first->options_bytes,
                            first->bytes + first->options_bytes, first->payload_bytes) != 1) {
                return;
            }
            first->sent = chunk_of(first->options_bytes, first->payload_bytes);
            tessera_live_find(t, first->id)->unsent = false;
        }
        if (send_rest(t, first) != 1) {
            return;
        }
        outbox_remove(t, &t->outbox);
    }
}

static bool send_plain(struct tessera *t, enum tsr_wire_type type, uint64_t id, uint32_t credit)
{
    void *out;
    if (tsr_link_reserve(&t->link, sizeof(struct tsr_wire_plain), &out) != 1) {
        return false;
    }
    if (type == TSR_REQ_CREDIT) {
        struct tsr_wire_credit *record = out;
        record->request = id;
        record->credit = credit;
        record->reserved = 0;
    } else {
        struct tsr_wire_plain *record = out;
        record->request = id;
        record->reserved = 0;
    }
    tsr_link_commit(&t->link, type, sizeof(struct tsr_wire_plain));
    return true;
}

static void send_queued(struct tessera *t)
{
    struct live **at = &t->queued;
    while (*at) {
        struct live *live = *at;
        if (live->unsent) { /* the engine would not know the request yet */
            at = &live->next_queued;
            continue;
        }
        if (live->granting) {
            if (!send_plain(t, TSR_REQ_CREDIT, live->id, live->granting)) {
                return;
            }
            live->granting = 0;
        }
        if (live->cancelling) {
            if (!send_plain(t, TSR_REQ_CANCEL, live->id, 0)) {
                return;
            }
            live->cancelling = false;
        }
        *at = live->next_queued;
        live->queued = false;
    }
}

void tessera_pump(struct tessera *t)
{
    if (t->queued || t->outbox) {
        send_queued(t);
        send_outbox(t);
        tsr_link_flush(&t->link);
    }
}

int tessera_cancel(struct tessera *t, uint64_t id, struct tessera_error *err)
{
    if (t->link.lost.code) {
        return tessera_lost(t, err);
    }
    struct live *live = tessera_live_find(t, id);
    if (live) {
        live->cancelling = true;
        tessera_queue(t, live);
        tessera_pump(t);
    }
    return 0;
}

int tessera_credit(struct tessera *t, uint64_t id, uint32_t credit, struct tessera_error *err)
{
    if (t->link.lost.code) {
        return tessera_lost(t, err);
    }
    struct live *live = tessera_live_find(t, id);
    if (live && !live->automatic) {
        live->granting =
            live->granting > UINT32_MAX - credit ? UINT32_MAX : live->granting + credit;
        tessera_queue(t, live);
        tessera_pump(t);
    }
    return 0;
}

/* ---- Building a submit ---- */

void tessera_options_init(struct tessera_options *options)
{
    *options = (struct tessera_options){
        .size = sizeof *options,
        .top_p = 1,
        .repetition_penalty = 1,
        .priority = TESSERA_PRIORITY_USUAL,
    };
}

static uint16_t flags_of(const struct tessera_options *o)
{
    unsigned flags = 0;
    flags |= o->logprobs || o->top_logprobs ? TSR_SUBMIT_LOGPROBS : 0u;
    flags |= o->ignore_end ? TSR_SUBMIT_IGNORE_END : 0u;
    flags |= o->special ? TSR_SUBMIT_SPECIAL : 0u;
    flags |= o->no_bos ? TSR_SUBMIT_NO_BOS : 0u;
    flags |= o->show_special ? TSR_SUBMIT_SHOW_SPECIAL : 0u;
    flags |= o->no_turn ? TSR_SUBMIT_NO_TURN : 0u;
    flags |= o->has_seed ? TSR_SUBMIT_SEEDED : 0u;
    return (uint16_t)flags;
}

/* Writes the options; the ranges are then checked by the same function that the engine uses. */
static int build_options(struct tessera_built *build, const struct tessera_options *o,
                         enum tsr_payload_kind kind, uint32_t payload_bytes, uint16_t flags,
                         struct tessera_error *err)
{
    if (o->size != sizeof *o) {
        return tessera_fail(err, -EINVAL, "the options were not made by tessera_options_init()");
    }
    if (o->bias_count > TSR_WIRE_BIAS_MAX || o->stop_count > TSR_WIRE_STOPS_MAX ||
        o->top_logprobs > TSR_WIRE_TOP_LOGPROBS_MAX) {
        return tessera_fail(
            err, -EINVAL,
            "%u biases, %u stop strings, %u alternatives: at most %d, %d, %d can be asked",
            (unsigned)o->bias_count, (unsigned)o->stop_count, (unsigned)o->top_logprobs,
            TSR_WIRE_BIAS_MAX, TSR_WIRE_STOPS_MAX, TSR_WIRE_TOP_LOGPROBS_MAX);
    }
    struct tsr_wire_submit *submit = (void *)build->bytes;
    *submit = (struct tsr_wire_submit){
        .request = 1,
        .tenant = o->tenant,
        .payload_bytes = payload_bytes,
        .kind = (uint8_t)kind,
        .priority = o->priority,
        .flags = flags,
        .tokens_max = o->tokens_max,
        .deadline_ms = o->deadline_ms,
        .seed = o->seed,
        .temperature = o->temperature,
        .top_p = o->top_p,
        .min_p = o->min_p,
        .repetition_penalty = o->repetition_penalty,
        .presence_penalty = o->presence_penalty,
        .frequency_penalty = o->frequency_penalty,
        .top_k = o->top_k,
        .bias_count = (uint16_t)o->bias_count,
        .stop_count = (uint8_t)o->stop_count,
        .top_logprobs = (uint8_t)o->top_logprobs,
        .penalty_tokens = o->penalty_tokens,
    };
    uint8_t *at = build->bytes + sizeof *submit;
    for (uint32_t i = 0; i < o->bias_count; i++) {
        const struct tsr_wire_bias bias = {o->biases[i].token, o->biases[i].bias};
        memcpy(at, &bias, sizeof bias);
        at += sizeof bias;
    }
    uint8_t *stops = at;
    for (uint32_t i = 0; i < o->stop_count; i++) {
        size_t length = strlen(o->stops[i]);
        if (length == 0 || length > TSR_WIRE_STOP_BYTES_MAX) {
            return tessera_fail(err, -EINVAL, "stop string %u has %zu bytes: 1 to %d can be",
                                (unsigned)i + 1, length, TSR_WIRE_STOP_BYTES_MAX);
        }
        uint16_t prefix = (uint16_t)length;
        memcpy(at, &prefix, sizeof prefix);
        memcpy(at + sizeof prefix, o->stops[i], length);
        at += sizeof prefix + length;
    }
    submit->stop_bytes = (uint32_t)(at - stops);
    while ((at - build->bytes) % 8) {
        *at++ = 0;
    }
    build->bytes_used = (uint32_t)(at - build->bytes);
    return 0;
}

static int check(struct tessera_built *build, uint32_t payload_bytes, struct tessera_error *err)
{
    struct tsr_wire_submit *submit = (void *)build->bytes;
    submit->chunk_bytes = chunk_of(build->bytes_used, payload_bytes);
    const struct tsr_record_info info = {.bytes = build->bytes_used + submit->chunk_bytes,
                                         .type = TSR_REQ_SUBMIT};
    struct tsr_wire_request request;
    struct tsr_err why;
    if (tsr_wire_check(build->bytes, &info, &request, &why) != 0) {
        return tessera_fail(err, -EINVAL, "%s", why.text);
    }
    return 0;
}

/* The options part of a SUBMIT, in t->built. Options that are those of the last submit, which
 * passed the checks, are not built again: most clients always ask with the same. */
static int build(struct tessera *t, const struct tessera_options *o, enum tsr_payload_kind kind,
                 uint32_t payload_bytes, uint16_t flags, struct tessera_error *err)
{
    struct tessera_built *built = &t->built;
    struct tsr_wire_submit *submit = (void *)built->bytes;
    if (built->reusable && o->size == sizeof *o && memcmp(o, &built->from, sizeof *o) == 0) {
        submit->kind = (uint8_t)kind;
        submit->flags = flags;
        submit->payload_bytes = payload_bytes;
        return 0;
    }
    built->reusable = false;
    int result = build_options(built, o, kind, payload_bytes, flags, err);
    result = result ? result : check(built, payload_bytes, err);
    if (!result && o->bias_count == 0 && o->stop_count == 0) { /* nothing behind pointers */
        built->from = *o;
        built->reusable = true;
    }
    return result;
}

/* Sends at once, or puts a copy into the outbox. */
static int send_or_keep(struct tessera *t, struct live *live, const struct tessera_built *build,
                        const void *payload, uint32_t payload_bytes, struct tessera_error *err)
{
    if (!t->outbox && build->bytes_used + payload_bytes <= TSR_WIRE_RECORD_BYTES_MAX) {
        int got = send_submit(t, build->bytes, build->bytes_used, payload, payload_bytes);
        if (got < 0) {
            return tessera_lost(t, err);
        }
        if (got) {
            tsr_link_flush(&t->link);
            return 0;
        }
    }
    uint64_t bytes = (uint64_t)build->bytes_used + payload_bytes;
    if (t->outbox && t->outbox_bytes + bytes > OUTBOX_BYTES_MAX) {
        return tessera_fail(err, -EAGAIN,
                            "%llu bytes of prompts wait to be sent: take events first",
                            (unsigned long long)t->outbox_bytes);
    }
    struct outgoing *outgoing = malloc(sizeof *outgoing + bytes);
    if (!outgoing) {
        return tessera_fail(err, -ENOMEM, "no memory for a prompt of %u bytes",
                            (unsigned)payload_bytes);
    }
    *outgoing = (struct outgoing){
        .id = live->id, .options_bytes = build->bytes_used, .payload_bytes = payload_bytes};
    memcpy(outgoing->bytes, build->bytes, build->bytes_used);
    memcpy(outgoing->bytes + build->bytes_used, payload, payload_bytes);
    *t->outbox_end = outgoing;
    t->outbox_end = &outgoing->next;
    t->outbox_bytes += bytes;
    live->unsent = true;
    tessera_pump(t);
    return 0;
}

static uint64_t submit(struct tessera *t, enum tsr_payload_kind kind, const void *payload,
                       uint64_t bytes, const struct tessera_options *options, unsigned extra_flags,
                       struct tessera_error *err)
{
    if (t->link.lost.code) {
        tessera_lost(t, err);
        return 0;
    }
    uint32_t most = t->link.hello.payload_bytes_max;
    if (bytes == 0) {
        tessera_fail(err, -EINVAL, "the prompt is empty");
        return 0;
    }
    if (bytes > most) {
        tessera_fail(err, -E2BIG, "the prompt has %llu bytes, and this engine takes %u",
                     (unsigned long long)bytes, (unsigned)most);
        return 0;
    }
    struct tessera_options usual;
    if (!options) {
        tessera_options_init(&usual);
        options = &usual;
    }
    uint16_t flags = (uint16_t)(flags_of(options) | extra_flags);
    if (build(t, options, kind, (uint32_t)bytes, flags, err) != 0) {
        return 0;
    }
    struct live *live = tessera_live_begin(t);
    if (!live) {
        tessera_fail(err, -EAGAIN, "%u requests are live: take events first",
                     (unsigned)t->live_count);
        return 0;
    }
    live->automatic = t->credit != 0;
    live->first_credit = t->credit ? t->credit : options->credit;
    struct tsr_wire_submit *fixed = (void *)t->built.bytes;
    fixed->request = live->id;
    fixed->credit = live->first_credit;
    if (send_or_keep(t, live, &t->built, payload, (uint32_t)bytes, err) != 0) {
        tessera_live_end(t, live);
        return 0;
    }
    return live->id;
}

uint64_t tessera_submit_text(struct tessera *t, const char *text, size_t text_bytes,
                             const struct tessera_options *options, struct tessera_error *err)
{
    return submit(t, TSR_PAYLOAD_TEXT, text, text_bytes, options, 0, err);
}

uint64_t tessera_submit_tokens(struct tessera *t, const uint32_t *tokens, size_t count,
                               const struct tessera_options *options, struct tessera_error *err)
{
    return submit(t, TSR_PAYLOAD_TOKENS, tokens, (uint64_t)count * sizeof *tokens, options, 0, err);
}

uint64_t tessera_submit_embed(struct tessera *t, const char *text, size_t text_bytes,
                              const struct tessera_options *options, struct tessera_error *err)
{
    return submit(t, TSR_PAYLOAD_TEXT, text, text_bytes, options, TSR_SUBMIT_EMBED, err);
}

uint64_t tessera_submit_embed_tokens(struct tessera *t, const uint32_t *tokens, size_t count,
                                     const struct tessera_options *options,
                                     struct tessera_error *err)
{
    return submit(t, TSR_PAYLOAD_TOKENS, tokens, (uint64_t)count * sizeof *tokens, options,
                  TSR_SUBMIT_EMBED, err);
}

uint64_t tessera_submit_detokenize(struct tessera *t, const uint32_t *tokens, size_t count,
                                   const struct tessera_options *options, struct tessera_error *err)
{
    return submit(t, TSR_PAYLOAD_TOKENS, tokens, (uint64_t)count * sizeof *tokens, options,
                  TSR_SUBMIT_DETOKENIZE, err);
}

static bool make_pieces(struct tessera *t, struct tessera_error *err)
{
    if (!t->pieces) {
        t->pieces =
            calloc(TSR_WIRE_RECORD_BYTES_MAX / sizeof(struct tsr_wire_piece), sizeof *t->pieces);
        if (!t->pieces) {
            tessera_fail(err, -ENOMEM, "no memory for tokens");
        }
    }
    return t->pieces != NULL;
}

uint64_t tessera_submit_tokenize(struct tessera *t, const char *text, size_t text_bytes,
                                 const struct tessera_options *options, struct tessera_error *err)
{
    if (!make_pieces(t, err)) {
        return 0;
    }
    return submit(t, TSR_PAYLOAD_TEXT, text, text_bytes, options,
                  TSR_SUBMIT_TOKENIZE | TSR_SUBMIT_PIECES, err);
}

static uint64_t submit_chat(struct tessera *t, const struct tessera_message *messages, size_t count,
                            const struct tessera_options *options, unsigned extra_flags,
                            struct tessera_error *err)
{
    const char *extra = options && options->size == sizeof *options ? options->template_json : NULL;
    size_t extra_bytes = extra ? strlen(extra) : 0;
    if ((count == 0 && extra_bytes == 0) || count > TSR_WIRE_MESSAGES_MAX) {
        tessera_fail(err, -EINVAL, "a chat of %zu messages: 1 to %d can be", count,
                     TSR_WIRE_MESSAGES_MAX);
        return 0;
    }
    struct tsr_wire_message *list = malloc((count + 1) * sizeof *list);
    void *payload = NULL;
    uint64_t id = 0;
    uint64_t total = extra_bytes;
    for (size_t i = 0; list && i < count; i++) {
        size_t role = strlen(messages[i].role), content = strlen(messages[i].content);
        total += role + content;
        list[i] = (struct tsr_wire_message){
            .role = messages[i].role,
            .content = messages[i].content,
            .role_bytes = (uint32_t)role,
            .content_bytes = (uint32_t)content,
        };
    }
    /* A total below the limit of 32 bits says that each part is. */
    uint32_t bytes = list && total < UINT32_MAX
                         ? tsr_wire_chat_bytes(list, (uint32_t)count, (uint32_t)extra_bytes)
                         : 0;
    if (list && !bytes) {
        tessera_fail(err, -EINVAL, "a role must have 1 to 64 bytes, a chat less than 4 GiB");
    } else if (bytes > t->link.hello.payload_bytes_max) {
        tessera_fail(err, -E2BIG, "the chat has %u bytes, and this engine takes %u",
                     (unsigned)bytes, (unsigned)t->link.hello.payload_bytes_max);
    } else if (!list || !(payload = malloc(bytes))) {
        tessera_fail(err, -ENOMEM, "no memory for a chat of %zu messages", count);
    } else {
        tsr_wire_chat_build(payload, list, (uint32_t)count, extra, (uint32_t)extra_bytes);
        id = submit(t, TSR_PAYLOAD_CHAT, payload, bytes, options, extra_flags, err);
    }
    free(payload);
    free(list);
    return id;
}

uint64_t tessera_submit_chat(struct tessera *t, const struct tessera_message *messages,
                             size_t count, const struct tessera_options *options,
                             struct tessera_error *err)
{
    return submit_chat(t, messages, count, options, 0, err);
}

uint64_t tessera_submit_tokenize_chat(struct tessera *t, const struct tessera_message *messages,
                                      size_t count, const struct tessera_options *options,
                                      struct tessera_error *err)
{
    if (!make_pieces(t, err)) {
        return 0;
    }
    return submit_chat(t, messages, count, options, TSR_SUBMIT_TOKENIZE | TSR_SUBMIT_PIECES, err);
}

uint64_t tessera_submit_embed_chat(struct tessera *t, const struct tessera_message *messages,
                                   size_t count, const struct tessera_options *options,
                                   struct tessera_error *err)
{
    return submit_chat(t, messages, count, options, TSR_SUBMIT_EMBED, err);
}

uint64_t tessera_submit_render(struct tessera *t, const struct tessera_message *messages,
                               size_t count, const struct tessera_options *options,
                               struct tessera_error *err)
{
    return submit_chat(t, messages, count, options, TSR_SUBMIT_RENDER, err);
}
