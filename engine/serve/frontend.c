#include <tsr/serve/frontend.h>

#include <errno.h>
#include <malloc.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <tsr/serve/answer.h>
#include <tsr/shm/bell.h>

enum {
    RECORDS_EACH = 8,  /* read from one channel in a turn */
    RECORDS_TURN = 64, /* read from all channels in a turn that also runs a step */
    ENDED_EACH = 64,   /* expired requests in one call */
    TEXT_STAGE_MAX =
        64 /* slots beyond those of the scheduler: payloads arriving, or being tokenized */
};

static const uint64_t second = 1000000000;
static const uint64_t starved_look = 20000000; /* ns between two looks at a ring without room */

static int samplers_create(struct tsr_frontend *f, struct tsr_err *err)
{
    uint32_t n = f->options.sched.sequences_max;
    f->samplers = calloc(n, sizeof(struct tsr_sampler_seq *));
    f->samplers_free = calloc(n, sizeof(struct tsr_sampler_seq *));
    if (!f->samplers || !f->samplers_free) {
        return tsr_err_set(err, -ENOMEM, "no memory for %u samplers", n);
    }
    int rc = tsr_sampler_create(&f->sampler, f->options.logits_vocab, err);
    for (uint32_t i = 0; rc == 0 && i < n; i++) {
        rc = tsr_sampler_seq_create(&f->samplers[i], f->options.logits_vocab,
                                    f->options.sched.context, err);
        if (rc == 0) {
            f->n_samplers++;
            f->samplers_free[f->n_samplers_free++] = f->samplers[i];
        }
    }
    return rc;
}

static int create(struct tsr_frontend **out, const struct tsr_frontend_options *options,
                  const struct tsr_frontend_exec *exec, const struct tsr_sched_kv *kv,
                  const struct tsr_vocab *vocab, struct tsr_err *err)
{
    *out = NULL;
    size_t piece_max = tsr_detok_out_max(vocab);
    size_t text_max = piece_max + 3 * ((size_t)TSR_STOP_BYTES_MAX + 3);
    if (sizeof(struct tsr_wire_token) + text_max > TSR_WIRE_RECORD_BYTES_MAX) {
        return tsr_err_set(err, -ENOTSUP,
                           "the vocabulary has a token of %u bytes, too long for an event's record",
                           vocab->token_bytes_max);
    }
    struct tsr_frontend *f = aligned_alloc(64, (sizeof *f + 63) & ~(size_t)63);
    if (!f) {
        return tsr_err_set(err, -ENOMEM, "no memory for the frontend");
    }
    memset(f, 0, sizeof *f);
    f->options = *options;
    f->exec = *exec;
    f->vocab = vocab;
    f->control_bell = -1;
    f->pages_total = kv->pages_total;
    f->plate.started_ns = tsr_clock_ns();

    uint64_t prompt_bytes = options->prompt_bytes;
    if (prompt_bytes == 0) {
        prompt_bytes = 16 * (options->payload_bytes_max + 4ull * options->sched.context);
        prompt_bytes = prompt_bytes < 8u << 20 ? 8u << 20 : prompt_bytes;
    }
    uint32_t n_requests = options->sched.sequences_max + options->sched.queue_max + TEXT_STAGE_MAX;
    int rc = tsr_sched_create(&f->sched, &options->sched, kv, err);
    rc = rc ? rc : tsr_requests_create(&f->requests, n_requests, (uint32_t)text_max, err);
    rc = rc ? rc : tsr_blocks_create(&f->blocks, prompt_bytes, err);
    rc = rc ? rc : samplers_create(f, err);
    /* Per slot at most two items are on their way in each direction; and one to stop. */
    rc = rc ? rc : tsr_lane_create(&f->from_control, 2 * options->channels_max + 1, err);
    rc = rc ? rc : tsr_lane_create(&f->to_control, 2 * options->channels_max, err);
    rc = rc ? rc : tsr_lane_create(&f->to_text, n_requests, err);
    rc = rc ? rc : tsr_lane_create(&f->from_text, n_requests, err);
    if (rc < 0) {
        goto fail;
    }
    f->sessions = calloc(options->channels_max, sizeof *f->sessions);
    f->touched = calloc(options->channels_max, sizeof(struct tsr_session *));
    f->record = aligned_alloc(64, TSR_WIRE_RECORD_BYTES_MAX);
    f->piece = malloc(piece_max);
    if (!f->sessions || !f->touched || !f->record || !f->piece) {
        rc = tsr_err_set(err, -ENOMEM, "no memory for %u channels", options->channels_max);
        goto fail;
    }
    for (uint32_t i = 0; i < options->channels_max; i++) {
        f->sessions[i].index = i;
    }
    memset(f->record, 0, TSR_WIRE_RECORD_BYTES_MAX);
    memset(f->piece, 0, piece_max);
    *out = f;
    return 0;

fail:
    tsr_frontend_destroy(f);
    return rc;
}

int tsr_frontend_create(struct tsr_frontend **out, const struct tsr_frontend_options *options,
                        const struct tsr_frontend_exec *exec, const struct tsr_sched_kv *kv,
                        const struct tsr_vocab *vocab, struct tsr_err *err)
{
    /* glibc writes to every byte that it hands out while this is set, calloc's included: so no page
     * of the frontend's memory, the samplers' too, is touched for the first time while requests
     * flow. */
    mallopt(M_PERTURB, 1);
    int rc = create(out, options, exec, kv, vocab, err);
    mallopt(M_PERTURB, 0);
    return rc;
}

void tsr_frontend_destroy(struct tsr_frontend *f)
{
    if (!f) {
        return;
    }
    for (uint32_t i = 0; i < f->n_samplers; i++) {
        tsr_sampler_seq_destroy(f->samplers[i]);
    }
    if (f->sampler) {
        tsr_sampler_destroy(f->sampler);
    }
    free(f->samplers);
    free(f->samplers_free);
    free(f->piece);
    free(f->record);
    free(f->touched);
    free(f->sessions);
    tsr_lane_destroy(&f->from_text);
    tsr_lane_destroy(&f->to_text);
    tsr_lane_destroy(&f->to_control);
    tsr_lane_destroy(&f->from_control);
    tsr_blocks_destroy(&f->blocks);
    tsr_requests_destroy(&f->requests);
    tsr_sched_destroy(f->sched);
    free(f);
}

void tsr_frontend_touch(struct tsr_frontend *f, struct tsr_session *session)
{
    if (!session->touched) {
        session->touched = true;
        f->touched[f->n_touched++] = session;
    }
}

static void flush(struct tsr_frontend *f)
{
    for (uint32_t i = 0; i < f->n_touched; i++) {
        struct tsr_session *session = f->touched[i];
        session->touched = false;
        if (session->channel) {
            tsr_channel_flush(session->channel);
        }
    }
    f->n_touched = 0;
}

void tsr_frontend_tell_control(struct tsr_frontend *f, enum tsr_frontend_item kind,
                               struct tsr_session *session)
{
    const struct tsr_lane_item item = {.kind = kind, .index = session->index};
    tsr_lane_push(&f->to_control, item);
    if (f->control_bell >= 0) {
        const uint64_t one = 1;
        ssize_t n = write(f->control_bell, &one, sizeof one);
        (void)n; /* cannot fail: the counter does not come near its limit */
    }
}

void tsr_frontend_tell_text(struct tsr_frontend *f, struct tsr_request *request)
{
    const struct tsr_lane_item item = {.kind = TSR_ITEM_PROMPT, .pointer = request};
    tsr_lane_push(&f->to_text, item);
    if (f->text_sleeper && !f->options.spin) {
        tsr_sleeper_wake(f->text_sleeper);
    }
}

/* ---- What comes from the other threads ---- */

static void on_opened(struct tsr_frontend *f, const struct tsr_lane_item *item)
{
    struct tsr_session *session = &f->sessions[item->index];
    *session = (struct tsr_session){.index = item->index, .channel = item->pointer};
    f->sessions_open++;
    if (f->sessions_end <= item->index) {
        f->sessions_end = item->index + 1;
    }
}

static void on_gone(struct tsr_frontend *f, const struct tsr_lane_item *item, uint64_t now_ns)
{
    struct tsr_session *session = &f->sessions[item->index];
    tsr_session_clear(f, session, now_ns);
    flush(f); /* nothing points at the channel any more */
    session->channel = NULL;
    f->sessions_open--;
    while (f->sessions_end > 0 && !f->sessions[f->sessions_end - 1].channel) {
        f->sessions_end--;
    }
    tsr_frontend_tell_control(f, TSR_ITEM_RELEASED, session);
}

static void on_stop(struct tsr_frontend *f, uint64_t now_ns)
{
    f->stopping = true;
    for (uint32_t i = 0; i < f->sessions_end; i++) {
        struct tsr_session *session = &f->sessions[i];
        while (session->channel && session->requests) {
            tsr_answer_done(f, session->requests, TSR_REASON_SHUTDOWN, TSR_CODE_SHUTDOWN,
                            "the engine is shutting down", now_ns);
        }
    }
    flush(f);
}

static void on_prompt(struct tsr_frontend *f, struct tsr_request *request, uint64_t now_ns)
{
    if (request->stage == TSR_STAGE_DEAD) {
        f->n_dead--;
        tsr_blocks_give(&f->blocks, &request->run);
        tsr_requests_give(&f->requests, request);
        return;
    }
    tsr_answer_begin(f, request, now_ns);
}

static bool drain_lanes(struct tsr_frontend *f, uint64_t now_ns)
{
    struct tsr_lane_item item;
    bool any = false;
    while (tsr_lane_pop(&f->from_control, &item)) {
        any = true;
        if (item.kind == TSR_ITEM_OPENED) {
            on_opened(f, &item);
        } else if (item.kind == TSR_ITEM_GONE) {
            on_gone(f, &item, now_ns);
        } else if (item.kind == TSR_ITEM_STOP) {
            on_stop(f, now_ns);
        }
    }
    while (tsr_lane_pop(&f->from_text, &item)) {
        any = true;
        on_prompt(f, item.pointer, now_ns);
    }
    return any;
}

/* ---- A turn ---- */

static bool read_channels(struct tsr_frontend *f, uint64_t now_ns)
{
    struct tsr_sched_counts counts = tsr_sched_counts(f->sched);
    bool busy = counts.prefill + counts.decode > 0;
    uint32_t records = 0;
    for (uint32_t n = 0; n < f->sessions_end; n++) {
        if (f->next_session >= f->sessions_end) {
            f->next_session = 0;
        }
        struct tsr_session *session = &f->sessions[f->next_session];
        if (busy && records >= RECORDS_TURN) {
            break; /* this one is first in the next turn */
        }
        f->next_session++;
        if (session->channel) {
            records += tsr_session_serve(f, session, RECORDS_EACH, now_ns);
        }
    }
    return records > 0;
}

static void expire(struct tsr_frontend *f, uint64_t now_ns)
{
    struct tsr_sched_ended ended[ENDED_EACH];
    uint32_t n = tsr_sched_expire(f->sched, now_ns, ended, ENDED_EACH);
    for (uint32_t i = 0; i < n; i++) {
        struct tsr_request *request = &f->requests.slots[ended[i].cookie];
        request->seq = TSR_SCHED_NONE;
        tsr_answer_done(f, request,
                        ended[i].reason == TSR_SCHED_DEADLINE ? TSR_REASON_DEADLINE
                                                              : TSR_REASON_PARKED,
                        TSR_CODE_OK, NULL, now_ns);
    }
}

/* Payloads whose next part does not come. */
static void tick(struct tsr_frontend *f, uint64_t now_ns)
{
    if (now_ns < f->tick_ns || f->arriving == 0) {
        return;
    }
    f->tick_ns = now_ns + second;
    for (uint32_t i = 0; i < f->sessions_end; i++) {
        struct tsr_session *session = &f->sessions[i];
        struct tsr_request *request = session->channel ? session->arriving : NULL;
        if (request && now_ns - request->waits_ns >= f->options.sched.park_ns) {
            session->skip_id = request->id;
            tsr_answer_error(f, request, TSR_CODE_INVALID, 0, now_ns,
                             "the prompt stopped at byte %u of %u", request->payload_have,
                             request->payload_bytes);
        }
    }
}

static bool run_step(struct tsr_frontend *f, uint64_t now_ns)
{
    const struct tsr_sched_step *step = tsr_sched_compose(f->sched, now_ns);
    if (step->n_spans == 0) {
        return false;
    }
    now_ns = tsr_clock_ns();
    for (uint32_t i = 0; i < step->n_spans; i++) {
        struct tsr_request *request =
            &f->requests.slots[tsr_sched_cookie(f->sched, step->span_ids[i])];
        if (!request->started_ns) {
            request->started_ns = now_ns;
        }
    }
    flush(f); /* what was said so far does not wait for the step */
    f->exec.step(f->exec.ctx, step->spans, step->n_spans);
    tsr_sched_commit(f->sched);
    f->counts.steps++;
    for (uint32_t i = 0; i < step->n_logits; i++) {
        struct tsr_request *request =
            &f->requests.slots[tsr_sched_cookie(f->sched, step->logit_ids[i])];
        struct tsr_session *session = request->session;
        tsr_answer_row(f, request, f->exec.logits(f->exec.ctx, i), tsr_clock_ns());
        if (session->channel) { /* a token does not wait for the other rows' */
            tsr_channel_show(session->channel);
        }
    }
    for (uint32_t i = 0; i < step->n_pooled; i++) {
        uint64_t slot = tsr_sched_cookie(f->sched, step->pooled_ids[i]);
        tsr_answer_pooled(f, &f->requests.slots[slot], tsr_clock_ns());
    }
    return true;
}

bool tsr_frontend_turn(struct tsr_frontend *f)
{
    uint64_t now_ns = tsr_clock_ns();
    bool did = drain_lanes(f, now_ns);
    did |= read_channels(f, now_ns);
    if (f->owing) {
        tsr_answer_retry(f, now_ns);
    }
    expire(f, now_ns);
    tick(f, now_ns);
    did |= run_step(f, now_ns);
    flush(f);
    return did;
}

/* ---- Sleeping ---- */

/* starved: a channel had no room, and nothing makes its client ring when there is some again. */
static uint64_t timeout_ns(const struct tsr_frontend *f, bool starved, uint64_t now_ns)
{
    uint64_t at = tsr_sched_next_expiry(f->sched);
    if (f->arriving > 0 && f->tick_ns < at) {
        at = f->tick_ns;
    }
    if (f->owing && now_ns + second < at) {
        at = now_ns + second;
    }
    if (starved && now_ns + starved_look < at) {
        at = now_ns + starved_look;
    }
    return at == UINT64_MAX ? at : at > now_ns ? at - now_ns : 0;
}

static void sleep_until_woken(struct tsr_frontend *f)
{
    f->exec.idle(f->exec.ctx);
    uint32_t armed = tsr_sleeper_arm(&f->sleeper);
    bool quiet = !tsr_lane_has_item(&f->from_control) && !tsr_lane_has_item(&f->from_text);
    bool starved = false;
    for (uint32_t i = 0; i < f->sessions_end && quiet; i++) {
        struct tsr_session *session = &f->sessions[i];
        if (session->channel && !session->broken) {
            quiet = tsr_channel_arm(session->channel);
            starved |= tsr_channel_is_starved(session->channel);
        }
    }
    if (quiet) {
        tsr_sleeper_wait(&f->sleeper, armed, timeout_ns(f, starved, tsr_clock_ns()));
    }
    tsr_sleeper_awake(&f->sleeper);
    for (uint32_t i = 0; i < f->sessions_end; i++) {
        if (f->sessions[i].channel) {
            tsr_channel_disarm(f->sessions[i].channel);
        }
    }
}

static void pause_cpu(void)
{
#if defined(__x86_64__)
    __builtin_ia32_pause();
#endif
}

void tsr_frontend_run(struct tsr_frontend *f)
{
    for (uint32_t turns = 1; !f->stopping || f->sessions_open > 0; turns++) {
        atomic_store_explicit(&f->turns, turns, memory_order_relaxed);
        if (tsr_frontend_turn(f)) {
            f->quiet_ns = 0;
            continue;
        }
        if (!f->options.spin) {
            uint64_t now_ns = tsr_clock_ns();
            f->quiet_ns = f->quiet_ns ? f->quiet_ns : now_ns;
            if (now_ns - f->quiet_ns >= f->options.spin_us * 1000ull) {
                sleep_until_woken(f);
                f->quiet_ns = 0;
            }
        }
        pause_cpu();
    }
}
