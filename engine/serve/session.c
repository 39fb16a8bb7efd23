#include <tsr/serve/session.h>

#include <assert.h>
#include <errno.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <tsr/serve/answer.h>
#include <tsr/serve/frontend.h>
#include <tsr/serve/status.h>
#include <tsr/shm/bell.h>

static const uint64_t ms = 1000000;

static_assert((int)TSR_STOP_STRINGS_MAX == TSR_WIRE_STOPS_MAX &&
                  (int)TSR_STOP_BYTES_MAX == TSR_WIRE_STOP_BYTES_MAX &&
                  (int)TSR_SAMPLING_BIAS_MAX == TSR_WIRE_BIAS_MAX &&
                  (int)TSR_SAMPLING_TOP_MAX == TSR_WIRE_TOP_LOGPROBS_MAX,
              "what the format lets through, the engine takes");

void tsr_session_clear(struct tsr_frontend *f, struct tsr_session *s, uint64_t now_ns)
{
    while (s->requests) {
        tsr_answer_drop(f, s->requests, now_ns);
    }
    s->skip_id = 0;
}

void tsr_session_break(struct tsr_frontend *f, struct tsr_session *s, uint64_t now_ns)
{
    tsr_session_clear(f, s, now_ns);
    if (!s->broken) {
        s->broken = true;
        tsr_frontend_tell_control(f, TSR_ITEM_DROP, s);
    }
}

/* ERROR for a request that has no slot; its further records are passed over. */
__attribute__((format(printf, 6, 7))) static void
refuse(struct tsr_frontend *f, struct tsr_session *s, const struct tsr_wire_submit *submit,
       enum tsr_code code, uint32_t retry_ms, const char *format, ...)
{
    struct tsr_err err;
    va_list args;
    va_start(args, format);
    vsnprintf(err.text, sizeof err.text, format, args);
    va_end(args);
    tsr_channel_error(s->channel, false, submit->request, code, retry_ms, "%s", err.text);
    tsr_frontend_touch(f, s);
    f->counts.requests_refused++;
    s->skip_id = submit->request;
}

/* How much of the memory for prompts and of the slots this user has, over all its channels; with
 * what it has cancelled and the text thread has yet to give back. */
static void usage(const struct tsr_frontend *f, uid_t uid, uint64_t *bytes, uint32_t *requests)
{
    *bytes = 0;
    *requests = 0;
    for (uint32_t i = 0; i < f->sessions_end; i++) {
        const struct tsr_session *s = &f->sessions[i];
        if (s->channel && s->n_requests && tsr_channel_peer(s->channel)->uid == uid) {
            *bytes += s->bytes;
            *requests += s->n_requests;
        }
    }
    for (uint32_t i = 0; i < f->requests.n && f->n_dead > 0; i++) {
        const struct tsr_request *r = &f->requests.slots[i];
        if (r->stage == TSR_STAGE_DEAD && r->uid == uid) {
            *bytes += (uint64_t)r->run.n * TSR_BLOCK_BYTES;
            *requests += 1;
        }
    }
}

/* Most tokens that the payload can become; what does not fit is refused when it is known. */
static uint32_t tokens_cap(const struct tsr_frontend *f, const struct tsr_wire_submit *submit)
{
    uint32_t context = f->options.sched.context;
    uint64_t most = submit->payload_bytes + 2ull; /* a byte each, BOS and EOS */
    if (submit->kind == TSR_PAYLOAD_TOKENS) {
        return submit->payload_bytes / (uint32_t)sizeof(uint32_t);
    }
    if (submit->flags & (TSR_SUBMIT_TOKENIZE | TSR_SUBMIT_RENDER)) {
        /* A template adds what it likes; normalizing can make text longer, but hardly does. */
        return (uint32_t)(submit->kind == TSR_PAYLOAD_CHAT ? most + 65536 : most + most / 8);
    }
    most *= 3; /* NFC at its worst */
    return submit->kind == TSR_PAYLOAD_CHAT || most > context ? context : (uint32_t)most;
}

/* How a request's memory is laid out: biases, hidden states, tokens, payload. */
struct layout {
    uint32_t tokens_cap;
    uint64_t pooled_off, tokens_off, payload_off, bytes;
};

static uint64_t aligned(uint64_t bytes)
{
    return (bytes + 63) & ~(uint64_t)63;
}

static struct layout layout_of(const struct tsr_frontend *f, const struct tsr_wire_submit *submit)
{
    struct layout l = {.tokens_cap = tokens_cap(f, submit)};
    l.pooled_off = aligned(submit->bias_count * sizeof(struct tsr_wire_bias));
    l.tokens_off = l.pooled_off;
    if (submit->flags & TSR_SUBMIT_EMBED) {
        l.tokens_off += aligned(f->options.embedding_width * sizeof(double));
    }
    l.payload_off = l.tokens_off;
    l.bytes = l.payload_off + submit->payload_bytes;
    if (submit->kind != TSR_PAYLOAD_TOKENS) {
        l.payload_off = l.tokens_off + aligned(l.tokens_cap * sizeof(uint32_t));
        l.bytes = l.payload_off + submit->payload_bytes;
    }
    return l;
}

/* splitmix64 over a counter: the seeds that clients leave to the engine. */
static uint64_t draw_seed(struct tsr_frontend *f)
{
    uint64_t z = f->options.seed + ++f->seeds * 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

static int stops_of(const struct tsr_wire_request *wire, struct tsr_stop *stop, struct tsr_err *err)
{
    const char *strings[TSR_WIRE_STOPS_MAX];
    size_t lens[TSR_WIRE_STOPS_MAX];
    size_t n = 0;
    uint32_t at = 0, len = 0;
    while (n < TSR_WIRE_STOPS_MAX && tsr_wire_stop_next(wire, &at, &strings[n], &len) == 1) {
        lens[n++] = len;
    }
    return tsr_stop_init(stop, strings, lens, n, err);
}

static void complete(struct tsr_frontend *f, struct tsr_request *r, uint64_t now_ns)
{
    struct tsr_session *s = r->session;
    if (s->arriving == r) {
        s->arriving = NULL;
        f->arriving--;
    }
    if (r->kind == TSR_PAYLOAD_TOKENS && !(r->flags & TSR_SUBMIT_DETOKENIZE)) {
        tsr_answer_begin(f, r, now_ns);
    } else {
        r->stage = TSR_STAGE_TEXT;
        tsr_frontend_tell_text(f, r);
    }
}

/* Copies a part of the payload; -EINVAL where it names a token that the model does not have. */
static int copy_in(struct tsr_frontend *f, struct tsr_request *r, const uint8_t *chunk,
                   uint32_t bytes, struct tsr_err *err)
{
    memcpy(r->payload + r->payload_have, chunk, bytes);
    r->payload_have += bytes;
    if (r->kind != TSR_PAYLOAD_TOKENS) {
        return 0;
    }
    for (; (r->n_tokens + 1) * sizeof(uint32_t) <= r->payload_have; r->n_tokens++) {
        if (r->tokens[r->n_tokens] >= f->options.logits_vocab) {
            return tsr_err_set(err, -EINVAL, "token %u of the prompt is %u; the vocabulary has %u",
                               r->n_tokens, r->tokens[r->n_tokens], f->options.logits_vocab);
        }
    }
    return 0;
}

/* What can be refused before the request gets a slot. */
static bool acceptable(struct tsr_frontend *f, struct tsr_session *s,
                       const struct tsr_wire_submit *submit, uint64_t run_bytes)
{
    const struct tsr_channel_peer *peer = tsr_channel_peer(s->channel);
    if (tsr_requests_find(&f->requests, s, submit->request)) {
        refuse(f, s, submit, TSR_CODE_DUPLICATE, 0, "request %llu is live already",
               (unsigned long long)submit->request);
        return false;
    }
    if (f->stopping) {
        refuse(f, s, submit, TSR_CODE_SHUTDOWN, 0, "the engine is shutting down");
        return false;
    }
    if (submit->payload_bytes > f->options.payload_bytes_max) {
        refuse(f, s, submit, TSR_CODE_TOO_LARGE, 0, "a prompt of %u bytes; at most %llu are taken",
               submit->payload_bytes, (unsigned long long)f->options.payload_bytes_max);
        return false;
    }
    if (submit->tenant != 0 && submit->tenant != peer->uid && !peer->tenants) {
        refuse(f, s, submit, TSR_CODE_FORBIDDEN, 0,
               "user %u may not speak for tenant %llu: that takes --allow ...,tenants", peer->uid,
               (unsigned long long)submit->tenant);
        return false;
    }
    if (submit->kind == TSR_PAYLOAD_CHAT && !f->options.chat) {
        refuse(f, s, submit, TSR_CODE_UNSUPPORTED, 0,
               "this model has no chat template; send the prompt as text");
        return false;
    }
    if ((submit->flags & TSR_SUBMIT_EMBED) && f->options.embedding_width == 0) {
        refuse(f, s, submit, TSR_CODE_UNSUPPORTED, 0, "%s", f->options.no_embeddings);
        return false;
    }
    if (submit->penalty_tokens != 0) {
        refuse(f, s, submit, TSR_CODE_UNSUPPORTED, 0,
               "penalties over the last %u tokens: this engine looks at all (0)",
               submit->penalty_tokens);
        return false;
    }
    uint64_t bytes, all = (uint64_t)f->blocks.total * TSR_BLOCK_BYTES;
    uint32_t requests, retry_ms = (uint32_t)(tsr_sched_retry_ns(f->sched) / ms);
    usage(f, peer->uid, &bytes, &requests);
    if (run_bytes > all) {
        refuse(f, s, submit, TSR_CODE_TOO_LARGE, 0,
               "a prompt that needs %llu bytes of memory; there are %llu (--prompt-bytes)",
               (unsigned long long)run_bytes, (unsigned long long)all);
        return false;
    }
    if (bytes > 0 && bytes + run_bytes > all / 2) {
        refuse(f, s, submit, TSR_CODE_BUSY, retry_ms,
               "user %u has prompts of %llu bytes in the engine, as many as one may", peer->uid,
               (unsigned long long)bytes);
        return false;
    }
    if (!peer->tenants && requests >= f->requests.n - f->requests.n / 4) {
        refuse(f, s, submit, TSR_CODE_BUSY, retry_ms,
               "user %u has %u requests in the engine, as many as one may", peer->uid, requests);
        return false;
    }
    return true;
}

/* Everything that the SUBMIT says goes into the request; -EINVAL with a sentence. */
static int fill(struct tsr_frontend *f, struct tsr_request *r, const struct tsr_wire_request *wire,
                const struct layout *layout, struct tsr_err *err)
{
    const struct tsr_wire_submit *submit = wire->submit.fixed;
    static_assert(sizeof(struct tsr_wire_bias) == sizeof(struct tsr_logit_bias) &&
                      offsetof(struct tsr_wire_bias, bias) == offsetof(struct tsr_logit_bias, bias),
                  "a bias is copied as it comes");
    memcpy(r->run.base, wire->submit.bias, submit->bias_count * sizeof *wire->submit.bias);
    r->tokens = (uint32_t *)(void *)(r->run.base + layout->tokens_off);
    r->tokens_cap = layout->tokens_cap;
    r->payload = r->run.base + layout->payload_off;
    r->payload_bytes = submit->payload_bytes;
    if (submit->flags & TSR_SUBMIT_EMBED) {
        r->pooled = (double *)(void *)(r->run.base + layout->pooled_off);
        memset(r->pooled, 0, f->options.embedding_width * sizeof *r->pooled);
    }

    tsr_sampling_init(&r->sampling);
    r->sampling.temperature = submit->temperature;
    r->sampling.top_k = submit->top_k;
    r->sampling.top_p = submit->top_p;
    r->sampling.min_p = submit->min_p;
    r->sampling.repetition_penalty = submit->repetition_penalty;
    r->sampling.presence_penalty = submit->presence_penalty;
    r->sampling.frequency_penalty = submit->frequency_penalty;
    r->sampling.seed = submit->flags & TSR_SUBMIT_SEEDED ? submit->seed : draw_seed(f);
    r->sampling.logprobs = submit->flags & TSR_SUBMIT_LOGPROBS;
    r->sampling.top_logprobs = submit->top_logprobs;
    r->sampling.n_bias = submit->bias_count;
    r->sampling.bias = (const struct tsr_logit_bias *)(const void *)r->run.base;
    int rc = tsr_sampling_check(&r->sampling, f->options.logits_vocab, err);
    rc = rc ? rc : stops_of(wire, &r->stop, err);
    tsr_detok_init(&r->detok, f->vocab, submit->flags & TSR_SUBMIT_SHOW_SPECIAL);
    /* The prompt began the text, unless the tokens are all of it. */
    r->detok.began |= submit->kind != TSR_PAYLOAD_CHAT && !(submit->flags & TSR_SUBMIT_DETOKENIZE);
    return rc ? rc : copy_in(f, r, wire->submit.chunk, submit->chunk_bytes, err);
}

/* now_ns: of the turn; picked_ns: when the record had been read. */
static void on_submit(struct tsr_frontend *f, struct tsr_session *s,
                      const struct tsr_wire_request *wire, uint64_t now_ns, uint64_t picked_ns)
{
    const struct tsr_wire_submit *submit = wire->submit.fixed;
    s->skip_id = 0;
    if (s->arriving) {
        tsr_channel_break(s->channel, "SUBMIT of request %llu amid the payload of another",
                          (unsigned long long)submit->request);
        tsr_session_break(f, s, now_ns);
        return;
    }
    const struct layout layout = layout_of(f, submit);
    if (!acceptable(f, s, submit, layout.bytes)) {
        return;
    }
    uint32_t retry_ms = (uint32_t)(tsr_sched_retry_ns(f->sched) / ms);
    int rc = tsr_channel_begin(s->channel);
    if (rc == -EPROTO) {
        tsr_session_break(f, s, now_ns);
        return;
    }
    if (rc < 0) {
        refuse(f, s, submit, TSR_CODE_BUSY, retry_ms,
               rc == -EBUSY ? "the channel has as many live requests as it may"
                            : "the channel has too many events unread");
        return;
    }
    struct tsr_request *r = tsr_requests_take(&f->requests, s, submit->request);
    if (!r) {
        tsr_channel_error(s->channel, true, submit->request, TSR_CODE_BUSY, retry_ms,
                          "the engine has as many requests as it can hold");
        goto passed_over;
    }
    const struct tsr_channel_peer *peer = tsr_channel_peer(s->channel);
    struct tsr_err err = {0};
    r->submitted_ns = picked_ns;
    r->waits_ns = now_ns;
    r->tenant = submit->tenant ? submit->tenant : peer->uid;
    r->uid = peer->uid;
    r->kind = submit->kind;
    r->priority = submit->priority < peer->priority_max ? submit->priority : peer->priority_max;
    r->flags = submit->flags;
    r->tokens_max = submit->tokens_max;
    r->credit = submit->credit;
    uint64_t limit_ms = f->options.seconds_max * 1000ull;
    if (submit->deadline_ms && (!limit_ms || submit->deadline_ms < limit_ms)) {
        limit_ms = submit->deadline_ms;
    }
    r->deadline_ns = limit_ms ? now_ns + limit_ms * ms : 0;
    if (!tsr_blocks_take(&f->blocks, layout.bytes, &r->run)) {
        tsr_answer_error(f, r, TSR_CODE_BUSY, retry_ms, now_ns,
                         "no room for a prompt of %u bytes: others are in flight",
                         submit->payload_bytes);
        goto passed_over;
    }
    s->bytes += (uint64_t)r->run.n * TSR_BLOCK_BYTES;
    if (fill(f, r, wire, &layout, &err) < 0) {
        tsr_answer_error(f, r, TSR_CODE_INVALID, 0, now_ns, "%s", err.text);
        goto passed_over;
    }
    if (r->payload_have == r->payload_bytes) {
        complete(f, r, now_ns);
    } else {
        s->arriving = r;
        f->arriving++;
    }
    return;

passed_over:
    tsr_frontend_touch(f, s);
    s->skip_id = submit->request;
}

static void on_continue(struct tsr_frontend *f, struct tsr_session *s,
                        const struct tsr_wire_request *wire, uint64_t now_ns)
{
    const struct tsr_wire_continue *cont = wire->cont.fixed;
    struct tsr_request *r = s->arriving;
    if (!r && cont->request == s->skip_id) {
        return; /* of a request that is over already */
    }
    if (!r || cont->request != r->id || cont->payload_off != r->payload_have ||
        cont->chunk_bytes > r->payload_bytes - r->payload_have) {
        tsr_channel_break(s->channel,
                          "CONTINUE of request %llu with bytes %u to %llu, which were not next",
                          (unsigned long long)cont->request, cont->payload_off,
                          (unsigned long long)cont->payload_off + cont->chunk_bytes);
        tsr_session_break(f, s, now_ns);
        return;
    }
    struct tsr_err err = {0};
    r->waits_ns = now_ns;
    if (copy_in(f, r, wire->cont.chunk, cont->chunk_bytes, &err) < 0) {
        s->skip_id = r->id;
        tsr_answer_error(f, r, TSR_CODE_INVALID, 0, now_ns, "%s", err.text);
        return;
    }
    if (r->payload_have == r->payload_bytes) {
        complete(f, r, now_ns);
    }
}

static void on_credit(struct tsr_frontend *f, struct tsr_session *s,
                      const struct tsr_wire_credit *credit, uint64_t now_ns)
{
    struct tsr_request *r = tsr_requests_find(&f->requests, s, credit->request);
    if (!r) {
        return;
    }
    if (r->seq != TSR_SCHED_NONE) {
        tsr_sched_credit(f->sched, r->seq, credit->credit, now_ns);
    } else {
        r->credit =
            credit->credit > UINT32_MAX - r->credit ? UINT32_MAX : r->credit + credit->credit;
    }
}

static void on_cancel(struct tsr_frontend *f, struct tsr_session *s, uint64_t id, uint64_t now_ns)
{
    struct tsr_request *r = tsr_requests_find(&f->requests, s, id);
    if (!r) {
        return;
    }
    if (r->stage == TSR_STAGE_ARRIVES) {
        s->skip_id = r->id; /* the rest of it may still come */
    }
    tsr_answer_done(f, r, TSR_REASON_CANCELLED, TSR_CODE_OK, NULL, now_ns);
}

/* A record that names a request but says something impossible. */
static void on_malformed(struct tsr_frontend *f, struct tsr_session *s,
                         const struct tsr_wire_request *wire, const char *why, uint64_t now_ns)
{
    struct tsr_request *r = tsr_requests_find(&f->requests, s, wire->request);
    bool is_new = wire->type == TSR_REQ_SUBMIT || wire->type == TSR_REQ_STATUS;
    f->counts.requests_refused += is_new;
    if (wire->type == TSR_REQ_SUBMIT || (r && r->stage == TSR_STAGE_ARRIVES)) {
        s->skip_id = wire->request;
    }
    if (is_new) {
        tsr_channel_error(s->channel, false, wire->request, TSR_CODE_INVALID, 0, "%s", why);
        tsr_frontend_touch(f, s);
    } else if (r && r->accepted_ns) {
        tsr_answer_done(f, r, TSR_REASON_ERROR, TSR_CODE_INVALID, why, now_ns);
    } else if (r) {
        tsr_answer_error(f, r, TSR_CODE_INVALID, 0, now_ns, "%s", why);
    }
}

uint32_t tsr_session_serve(struct tsr_frontend *f, struct tsr_session *s, uint32_t max,
                           uint64_t now_ns)
{
    struct tsr_wire_request wire;
    struct tsr_err err;
    uint32_t n = 0;

    for (; n < max && s->channel && !s->broken; n++) {
        int rc = tsr_channel_read(s->channel, f->record, &wire, &err);
        if (rc == 0) {
            break;
        }
        if (rc == -EPROTO) {
            tsr_session_break(f, s, now_ns);
            break;
        }
        if (rc < 0) {
            on_malformed(f, s, &wire, err.text, now_ns);
            continue;
        }
        switch (wire.type) {
        case TSR_REQ_SUBMIT:
            on_submit(f, s, &wire, now_ns, tsr_clock_ns());
            break;
        case TSR_REQ_CONTINUE:
            on_continue(f, s, &wire, now_ns);
            break;
        case TSR_REQ_CREDIT:
            on_credit(f, s, wire.credit, now_ns);
            break;
        case TSR_REQ_CANCEL:
            on_cancel(f, s, wire.request, now_ns);
            break;
        case TSR_REQ_STATUS:
            if (!tsr_status_say(f, s, wire.request, now_ns)) {
                tsr_channel_error(s->channel, false, wire.request, TSR_CODE_BUSY, 100,
                                  "the channel has too many events unread for a status");
            }
            tsr_frontend_touch(f, s);
            break;
        default:
            break;
        }
    }
    return n;
}
