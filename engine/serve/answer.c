#include <tsr/serve/answer.h>

#include <assert.h>
#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <tsr/serve/frontend.h>
#include <tsr/serve/parts.h>
#include <tsr/shm/bell.h>

static const uint64_t ms = 1000000;

static_assert((int)TSR_REASON_WRITTEN < TSR_WIRE_STATUS_REASONS, "every reason has its counter");

/* ---- Owing: events that wait for room ---- */

static void owe(struct tsr_frontend *f, struct tsr_request *r, enum tsr_owes what, uint64_t now_ns)
{
    if (!r->owes) {
        r->waits_ns = now_ns;
        r->owing_prev = NULL;
        r->owing_next = f->owing;
        if (f->owing) {
            f->owing->owing_prev = r;
        }
        f->owing = r;
    }
    r->owes |= what;
    if (r->seq != TSR_SCHED_NONE) {
        tsr_sched_hold(f->sched, r->seq, true, now_ns);
    }
}

/* It owes that no longer. */
static void settle(struct tsr_frontend *f, struct tsr_request *r, unsigned what)
{
    if (!r->owes) {
        return;
    }
    r->owes &= ~what;
    if (r->owes) {
        return;
    }
    if (r->owing_prev) {
        r->owing_prev->owing_next = r->owing_next;
    } else {
        f->owing = r->owing_next;
    }
    if (r->owing_next) {
        r->owing_next->owing_prev = r->owing_prev;
    }
}

/* ---- Ends ---- */

static void leave_scheduler(struct tsr_frontend *f, struct tsr_request *r, uint64_t now_ns)
{
    if (r->seq != TSR_SCHED_NONE) {
        tsr_sched_end(f->sched, r->seq, now_ns);
        r->seq = TSR_SCHED_NONE;
    }
    if (r->sampler) {
        f->samplers_free[f->n_samplers_free++] = r->sampler;
        r->sampler = NULL;
    }
}

static void give_run(struct tsr_frontend *f, struct tsr_request *r)
{
    if (r->session) {
        r->session->bytes -= (uint64_t)r->run.n * TSR_BLOCK_BYTES;
    }
    tsr_blocks_give(&f->blocks, &r->run);
}

void tsr_answer_drop(struct tsr_frontend *f, struct tsr_request *r, uint64_t now_ns)
{
    f->arriving -= r->session && r->session->arriving == r;
    settle(f, r, r->owes);
    leave_scheduler(f, r, now_ns);
    if (r->stage == TSR_STAGE_TEXT) {
        /* The text thread reads and writes its run; what comes back is given back then. */
        r->session->bytes -= (uint64_t)r->run.n * TSR_BLOCK_BYTES;
        r->stage = TSR_STAGE_DEAD;
        atomic_store_explicit(&r->dead, true, memory_order_relaxed);
        f->n_dead++;
        tsr_requests_forget(&f->requests, r);
        return;
    }
    give_run(f, r);
    if (r->session) {
        tsr_requests_forget(&f->requests, r);
    }
    tsr_requests_give(&f->requests, r);
}

/* 0 where `to` is a turn's time and `from` was taken within the turn. */
static uint64_t between(uint64_t from, uint64_t to)
{
    return to > from ? to - from : 0;
}

void tsr_answer_done(struct tsr_frontend *f, struct tsr_request *r, enum tsr_reason reason,
                     enum tsr_code code, const char *sentence, uint64_t now_ns)
{
    bool started = r->started_ns != 0, spoke = r->first_ns != 0;
    struct tsr_wire_done done = {
        .request = r->id,
        .reason = (uint8_t)reason,
        .stop_index = r->stop.hit > 0 ? (uint8_t)r->stop.hit : 0,
        .code = code,
        .prompt_tokens = r->accepted_ns || r->stage == TSR_STAGE_SENDS ? r->n_tokens : 0,
        .completion_tokens = r->produced,
        .queue_ns = between(r->submitted_ns, started ? r->started_ns : now_ns),
        .prefill_ns = started ? between(r->started_ns, spoke ? r->first_ns : now_ns) : 0,
        .decode_ns = spoke ? r->last_ns - r->first_ns : 0,
        .time_ns = now_ns,
    };
    tsr_channel_done(r->session->channel, &done, sentence);
    tsr_frontend_touch(f, r->session);
    f->counts.requests_done++;
    f->counts.sums.requests_ended[reason]++;
    f->counts.sums.queue_ns += done.queue_ns;
    f->counts.sums.prefill_ns += done.prefill_ns;
    f->counts.sums.decode_ns += done.decode_ns;
    tsr_answer_drop(f, r, now_ns);
}

void tsr_answer_error(struct tsr_frontend *f, struct tsr_request *r, enum tsr_code code,
                      uint32_t retry_ms, uint64_t now_ns, const char *format, ...)
{
    char text[TSR_ERR_TEXT_MAX];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    tsr_channel_error(r->session->channel, true, r->id, code, retry_ms, "%s", text);
    tsr_frontend_touch(f, r->session);
    f->counts.requests_refused++;
    tsr_answer_drop(f, r, now_ns);
}

/* The answer is complete: ends the request when the last event has gone out. */
static void finish(struct tsr_frontend *f, struct tsr_request *r, enum tsr_reason reason,
                   uint64_t now_ns)
{
    if (!r->owes) {
        tsr_answer_done(f, r, reason, TSR_CODE_OK, NULL, now_ns);
        return;
    }
    leave_scheduler(f, r, now_ns);
    r->stage = TSR_STAGE_ENDS;
    r->reason = (uint8_t)reason;
}

/* ---- Events ---- */

static bool say_accepted(struct tsr_frontend *f, struct tsr_request *r)
{
    struct tsr_wire_accepted *event =
        tsr_channel_reserve(r->session->channel, sizeof(struct tsr_wire_accepted));
    if (!event) {
        return false;
    }
    event->request = r->id;
    event->prompt_tokens = r->n_tokens;
    event->cached_tokens = 0;
    event->tokens_max = r->tokens_max;
    event->queue_position =
        r->seq == TSR_SCHED_NONE ? 0 : tsr_sched_queue_position(f->sched, r->seq);
    event->seed = r->sampling.seed;
    event->time_ns = tsr_clock_ns();
    event->flags = r->in_reasoning ? TSR_ACCEPTED_REASONING : 0;
    event->reserved = 0;
    tsr_channel_commit(r->session->channel, TSR_EV_ACCEPTED, sizeof *event);
    tsr_frontend_touch(f, r->session);
    return true;
}

static uint32_t aligned4(uint32_t bytes)
{
    return (bytes + 3u) & ~3u;
}

static bool say_token(struct tsr_frontend *f, struct tsr_request *r)
{
    const struct tsr_sampled *sampled = &r->sampled;
    uint32_t bytes = (uint32_t)sizeof(struct tsr_wire_token) + r->text_bytes;
    uint32_t n_top = 0;
    size_t len;
    for (; n_top < sampled->n_top; n_top++) {
        tsr_vocab_text(f->vocab, sampled->top_id[n_top], &len);
        uint64_t more = aligned4(bytes) + sizeof(struct tsr_wire_top) + (uint64_t)len;
        if (more > TSR_WIRE_RECORD_BYTES_MAX) {
            break; /* the likeliest that fit */
        }
        bytes = (uint32_t)more;
    }
    struct tsr_wire_token *event = tsr_channel_reserve(r->session->channel, bytes);
    if (!event) {
        return false;
    }
    bool special = !r->token_only_text && sampled->id < f->vocab->n_tokens &&
                   (f->vocab->flags[sampled->id] & TSR_TOKEN_SPECIAL);
    event->request = r->id;
    event->time_ns = tsr_clock_ns();
    event->token = r->token_only_text ? 0 : sampled->id;
    event->logprob = sampled->logprob;
    event->index = r->token_only_text ? r->produced : r->produced - 1;
    event->text_bytes = (uint16_t)r->text_bytes;
    event->top_count = (uint8_t)n_top;
    event->flags =
        (uint8_t)((r->sampling.logprobs && !r->token_only_text ? TSR_WIRE_TOKEN_LOGPROB : 0) |
                  (r->token_only_text ? TSR_WIRE_TOKEN_TEXT_ONLY : 0) |
                  (special ? TSR_WIRE_TOKEN_SPECIAL : 0));
    memcpy(event->text, r->text, r->text_bytes);

    uint8_t *base = (uint8_t *)event;
    uint32_t at = (uint32_t)sizeof *event + r->text_bytes;
    for (uint32_t i = 0; i < n_top; i++) {
        memset(base + at, 0, aligned4(at) - at);
        at = aligned4(at);
        const char *text = tsr_vocab_text(f->vocab, sampled->top_id[i], &len);
        struct tsr_wire_top *top = (struct tsr_wire_top *)(void *)(base + at);
        top->token = sampled->top_id[i];
        top->logprob = sampled->top_logprob[i];
        top->text_bytes = (uint32_t)len;
        if (len) {
            memcpy(top->text, text, len);
        }
        at += (uint32_t)(sizeof *top + len);
    }
    tsr_channel_commit(r->session->channel, TSR_EV_TOKEN, bytes);
    tsr_frontend_touch(f, r->session);
    return true;
}

/* What a client asked for instead of a generation, as far as there is room; ends the request with
 * the last part. */
static void send_parts(struct tsr_frontend *f, struct tsr_request *r, uint64_t now_ns)
{
    while (r->sent < tsr_parts_total(f, r)) {
        if (!tsr_parts_say(f, r)) {
            owe(f, r, TSR_OWES_TOKEN, now_ns);
            return;
        }
        tsr_frontend_touch(f, r->session);
        r->waits_ns = now_ns;
    }
    tsr_answer_done(f, r, tsr_parts_reason(r), TSR_CODE_OK, NULL, now_ns);
}

/* One more try for a request that owes. */
static void retry(struct tsr_frontend *f, struct tsr_request *r, uint64_t now_ns)
{
    if (r->stage == TSR_STAGE_SENDS) {
        send_parts(f, r, now_ns);
        return;
    }
    if ((r->owes & TSR_OWES_ACCEPTED) && say_accepted(f, r)) {
        settle(f, r, TSR_OWES_ACCEPTED);
    }
    if (r->owes == TSR_OWES_TOKEN && say_token(f, r)) {
        settle(f, r, TSR_OWES_TOKEN);
    }
    if (r->owes) {
        return;
    }
    if (r->stage == TSR_STAGE_ENDS) {
        tsr_answer_done(f, r, (enum tsr_reason)r->reason, TSR_CODE_OK, NULL, now_ns);
    } else {
        tsr_sched_hold(f->sched, r->seq, false, now_ns);
    }
}

void tsr_answer_retry(struct tsr_frontend *f, uint64_t now_ns)
{
    for (struct tsr_request *r = f->owing, *next; r; r = next) {
        next = r->owing_next;
        /* Those in the scheduler are ended by it; the others wait here as long. */
        if (r->seq == TSR_SCHED_NONE && now_ns - r->waits_ns >= f->options.sched.park_ns) {
            tsr_answer_done(f, r, TSR_REASON_PARKED, TSR_CODE_OK, NULL, now_ns);
        } else {
            retry(f, r, now_ns);
        }
    }
}

/* ---- The life of an answer ---- */

/* A prompt that the text thread could not make tokens of. */
static void begin_failed(struct tsr_frontend *f, struct tsr_request *r, uint64_t now_ns)
{
    char sentence[sizeof r->sentence];
    memcpy(sentence, r->sentence, sizeof sentence);
    sentence[sizeof sentence - 1] = '\0';
    tsr_answer_error(f, r, (enum tsr_code)r->code, 0, now_ns, "%s", sentence);
}

void tsr_answer_begin(struct tsr_frontend *f, struct tsr_request *r, uint64_t now_ns)
{
    const struct tsr_frontend_options *o = &f->options;
    r->stage = TSR_STAGE_RUNS; /* its memory is ours again */
    if (r->code != TSR_CODE_OK) {
        begin_failed(f, r, now_ns);
        return;
    }
    r->detok.began |= r->continued; /* the answer's first space is no beginning's */
    /* The payload behind the tokens or the text, if any, is not needed any more. */
    uint64_t used =
        (uint64_t)((uint8_t *)r->tokens - r->run.base) +
        (r->flags & TSR_SUBMIT_RENDER ? r->text_total : r->n_tokens * sizeof *r->tokens);
    uint32_t before = r->run.n;
    tsr_blocks_cut(&f->blocks, &r->run, used ? used : 1);
    r->session->bytes -= (uint64_t)(before - r->run.n) * TSR_BLOCK_BYTES;

    if (r->flags & (TSR_SUBMIT_TOKENIZE | TSR_SUBMIT_DETOKENIZE | TSR_SUBMIT_RENDER)) {
        r->stage = TSR_STAGE_SENDS;
        r->waits_ns = now_ns;
        send_parts(f, r, now_ns);
        return;
    }
    if (r->deadline_ns && now_ns >= r->deadline_ns) {
        tsr_answer_done(f, r, TSR_REASON_DEADLINE, TSR_CODE_OK, NULL, now_ns);
        return;
    }
    if (r->n_tokens == 0) {
        tsr_answer_error(f, r, TSR_CODE_INVALID, 0, now_ns, "the prompt is empty: it has no token");
        return;
    }
    const bool embeds = r->flags & TSR_SUBMIT_EMBED;
    if (r->n_tokens > o->positions_max || (r->n_tokens == o->positions_max && !embeds)) {
        tsr_answer_error(f, r, TSR_CODE_TOO_LARGE, 0, now_ns,
                         "a prompt of %u tokens: prompt and answer together can have %u",
                         r->n_tokens, o->positions_max);
        return;
    }
    uint32_t room = o->positions_max - r->n_tokens;
    uint32_t wanted = r->tokens_max ? r->tokens_max : o->tokens_default;
    r->tokens_max = embeds ? 0 : wanted < room ? wanted : room;

    const struct tsr_sched_submit submit = {
        .prompt = r->tokens,
        .prompt_tokens = r->n_tokens,
        .max_tokens = r->tokens_max,
        .pooled = r->pooled,
        .pooling = o->pooling,
        .credit = embeds ? 1 : r->credit,
        .priority = r->priority,
        .deadline_ns = r->deadline_ns,
        .user = r->tenant,
        .cookie = r->index,
    };
    int rc = tsr_sched_submit(f->sched, &submit, now_ns, &r->seq);
    if (rc == -EAGAIN) {
        tsr_answer_error(f, r, TSR_CODE_BUSY, (uint32_t)(tsr_sched_retry_ns(f->sched) / ms), now_ns,
                         "the queue is full: %u requests wait", o->sched.queue_max);
        return;
    }
    if (rc == -EBUSY) {
        tsr_answer_error(f, r, TSR_CODE_BUSY, (uint32_t)(tsr_sched_retry_ns(f->sched) / ms), now_ns,
                         "%u requests of user %llu wait, as many as one may",
                         tsr_sched_user_max(f->sched), (unsigned long long)r->tenant);
        return;
    }
    if (rc < 0) {
        tsr_answer_error(f, r, TSR_CODE_TOO_LARGE, 0, now_ns,
                         "%u tokens of prompt and %u of answer are more than the KV cache can hold",
                         r->n_tokens, r->tokens_max);
        return;
    }
    r->accepted_ns = now_ns;
    f->counts.prompt_tokens += r->n_tokens;
    if (!say_accepted(f, r)) {
        owe(f, r, TSR_OWES_ACCEPTED, now_ns);
    }
}

void tsr_answer_pooled(struct tsr_frontend *f, struct tsr_request *r, uint64_t now_ns)
{
    double squares = 0;
    for (uint32_t i = 0; i < f->options.embedding_width; i++) {
        squares += r->pooled[i] * r->pooled[i];
    }
    r->first_ns = r->last_ns = now_ns;
    if (!isnormal(squares)) {
        tsr_answer_done(f, r, TSR_REASON_ERROR, TSR_CODE_INTERNAL,
                        "the prompt's hidden states are zero, or no numbers", now_ns);
        return;
    }
    r->pool_unit = 1 / sqrt(squares);
    leave_scheduler(f, r, now_ns);
    r->stage = TSR_STAGE_SENDS;
    r->waits_ns = now_ns;
    send_parts(f, r, now_ns);
}

/* Text that is certain now joins the event's. True: a stop string is complete. */
static bool let_through(struct tsr_request *r, const char *bytes, size_t n)
{
    size_t len = 0;
    bool hit = tsr_stop_push(&r->stop, bytes, n, r->text + r->text_bytes, &len);
    r->text_bytes += (uint32_t)len;
    return hit;
}

/* The answer ends here by itself: what was held back comes out. True: a stop string is complete. */
static bool let_go(struct tsr_request *r)
{
    char half[3];
    size_t n = tsr_detok_flush(&r->detok, half);
    if (let_through(r, half, n)) {
        return true;
    }
    r->text_bytes += (uint32_t)tsr_stop_flush(&r->stop, r->text + r->text_bytes);
    return false;
}

static void speak(struct tsr_frontend *f, struct tsr_request *r, uint64_t now_ns)
{
    if (r->owes || !say_token(f, r)) {
        owe(f, r, TSR_OWES_TOKEN, now_ns);
    }
}

void tsr_answer_row(struct tsr_frontend *f, struct tsr_request *r, const float *logits,
                    uint64_t now_ns)
{
    if (!r->sampler) {
        r->sampler = f->samplers_free[--f->n_samplers_free];
        if (tsr_sampler_seq_begin(r->sampler, &r->sampling, NULL) < 0) {
            tsr_answer_done(f, r, TSR_REASON_ERROR, TSR_CODE_INTERNAL, "sampling did not begin",
                            now_ns);
            return;
        }
        tsr_sampler_seq_prompt(r->sampler, r->tokens, r->n_tokens);
        r->first_ns = now_ns;
    }
    tsr_sampler_choose(f->sampler, r->sampler, logits, r->produced, &r->sampled);
    uint32_t id = r->sampled.id;
    r->last_ns = now_ns;
    r->text_bytes = 0;
    r->token_only_text = false;
    if (id == TSR_TOKEN_NONE) {
        tsr_answer_done(f, r, TSR_REASON_ERROR, TSR_CODE_INTERNAL,
                        "no token can follow: the model or the biases forbid all of them", now_ns);
        return;
    }

    bool end = tsr_vocab_is_end(f->vocab, id) && !(r->flags & TSR_SUBMIT_IGNORE_END);
    bool silent = end && !(r->flags & TSR_SUBMIT_SHOW_SPECIAL);
    bool hit = false;
    if (!silent) {
        char *piece = f->piece;
        size_t n = tsr_detok_push(&r->detok, id, piece);
        r->produced++;
        f->counts.completion_tokens++;
        tsr_sampler_seq_accept(r->sampler, id);
        hit = let_through(r, piece, n);
    }
    bool full = r->produced >= r->tokens_max;
    if (!hit && (end || full)) {
        hit = let_go(r);
    }
    if (silent) {
        r->token_only_text = true;
        r->sampled.n_top = 0;
        r->sampled.logprob = 0;
    }
    if (!silent || r->text_bytes > 0) {
        speak(f, r, now_ns);
    }
    if (hit) {
        finish(f, r, TSR_REASON_STOP, now_ns);
    } else if (end) {
        finish(f, r, TSR_REASON_END, now_ns);
    } else if (full) {
        finish(f, r, TSR_REASON_LENGTH, now_ns);
    } else {
        tsr_sched_token(f->sched, r->seq, id, now_ns);
    }
}
