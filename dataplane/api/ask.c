#include "engine_priv.h"

#include <stdlib.h>
#include <string.h>

enum { KEPT_BYTES = 2 << 10 }; /* of a buffer, for the next ask: there are thousands */

/* ---- Making and freeing ---- */

/* An engine that has stopped, or that many ask at once, must leave asks to the others. False: it
 * has all that it may. */
static bool take_share(struct api_engine *engine)
{
    struct tsr_api *api = engine->api;
    bool common = engine->n_asks >= api->asks_each;
    if (common && !api->asks_common) {
        return false;
    }
    api->asks_common -= common;
    engine->n_asks++;
    return true;
}

static void leave_share(struct api_engine *engine)
{
    engine->n_asks--;
    engine->api->asks_common += engine->n_asks >= engine->api->asks_each;
}

struct api_ask *api_ask_add(struct tsr_api_exchange *x, const struct api_input *input,
                            struct api_problem *problem)
{
    struct tsr_api *api = x->api;
    struct api_ask *ask = api->free_asks;
    if (!take_share(x->engine)) {
        api_problem_set(problem, 503, "server_error", "overloaded", NULL,
                        "there are too many requests at once: try again");
        problem->retry_s = 1;
        return NULL;
    }
    api->free_asks = ask->next;
    struct api_ask kept = *ask;
    *ask = (struct api_ask){
        .exchange = x,
        .payload_off = input->off,
        .payload_bytes = input->bytes,
        .room = kept.room,
    };
    memcpy(ask->outs, kept.outs, sizeof ask->outs);
    *x->asks_end = ask;
    x->asks_end = &ask->next;
    x->asks_live++;
    return ask;
}

static void keep_small(struct tsr_out *out)
{
    if (out->capacity > KEPT_BYTES) {
        size_t most = out->grows_to;
        tsr_out_fini(out);
        tsr_out_init_growing(out, most);
    } else {
        tsr_out_clear(out);
    }
}

static void set_free(struct tsr_api *api, struct api_ask *ask)
{
    for (int i = 0; i < API_OUTS; i++) {
        keep_small(&ask->outs[i]);
    }
    ask->exchange = NULL;
    ask->next = api->free_asks;
    api->free_asks = ask;
}

/* What the engine did for it counts against the key's rate; choices of one prompt have it in
 * common. */
static void charge(const struct api_ask *ask)
{
    const struct tsr_api_exchange *x = ask->exchange;
    if (x->key && ask->accepted) {
        bool first = ask->index % x->wants.choices == 0;
        tsr_keys_charge(
            x->key, (uint64_t)ask->usage.completion_tokens + (first ? ask->usage.prompt_tokens : 0),
            x->api->now_ns);
    }
}

void api_ask_release(struct api_ask *ask)
{
    if (!ask->ended) {
        charge(ask);
    }
    struct tsr_api *api = ask->exchange->api;
    if (ask->sending || ask->id) {
        api_engine_leave(ask->exchange->engine, ask);
    }
    leave_share(ask->exchange->engine);
    set_free(api, ask);
}

static void submit(struct api_ask *ask)
{
    ask->exchange->asks_unsent++;
    api_engine_submit(ask->exchange->engine, ask);
}

void api_ask_all(struct tsr_api_exchange *x)
{
    for (struct api_ask *ask = x->asks; ask; ask = ask->next) {
        submit(ask);
    }
}

void api_ask_sent(struct api_ask *ask)
{
    struct tsr_api_exchange *x = ask->exchange;
    struct api_problem problem = {0};
    if (--x->asks_unsent == 0 && x->next_input == x->n_inputs && !x->wants.echo) {
        tsr_out_fini(&x->payload);
        tsr_out_init_growing(&x->payload, API_ANSWER_BYTES_MAX);
        (void)api_account(x, &problem); /* less than before */
    }
}

void api_ask_again(struct api_ask *ask, uint32_t index, size_t off, uint32_t bytes)
{
    ask->ended = ask->accepted = false;
    ask->usage = (struct api_usage){0};
    ask->index = index;
    ask->payload_off = off;
    ask->payload_bytes = bytes;
    ask->payload_sent = 0;
    ask->exchange->asks_live++;
    submit(ask);
}

/* ---- Credit ---- */

/* Grants again what was used, once that is half of what is granted ahead. */
static void grant(struct api_ask *ask)
{
    struct tsr_api_exchange *x = ask->exchange;
    uint32_t ahead = x->api->options.credit_tokens;
    if (ask->id && ask->unpaid > ahead / 2 && x->held_bytes <= API_HELD_BYTES) {
        api_engine_grant(x->engine, ask, ask->unpaid);
        ask->unpaid = 0;
    }
}

void api_ask_grant(struct tsr_api_exchange *x)
{
    for (struct api_ask *ask = x->asks; ask; ask = ask->next) {
        grant(ask);
    }
}

/* ---- Ends ---- */

static void add_usage(struct tsr_api_exchange *x, const struct api_ask *ask)
{
    /* Choices of one prompt have it in common. */
    if (ask->index % x->wants.choices == 0) {
        x->usage.prompt_tokens += ask->usage.prompt_tokens;
        x->usage.cached_tokens += ask->usage.cached_tokens;
    }
    x->usage.completion_tokens += ask->usage.completion_tokens;
    x->usage.reasoning_tokens += ask->usage.reasoning_tokens;
}

static void observe(const struct api_ask *ask)
{
    const struct tsr_api_exchange *x = ask->exchange;
    struct api_observed *seen = &x->engine->observed;
    if (!x->style->text) {
        return; /* no generation */
    }
    tsr_histogram_observe(&seen->latency, (double)(x->api->now_ns - x->begun_ns) * 1e-9);
    tsr_histogram_observe(&seen->queue, (double)ask->queue_ns * 1e-9);
    tsr_histogram_observe(&seen->prefill, (double)ask->prefill_ns * 1e-9);
    tsr_histogram_observe(&seen->decode, (double)ask->decode_ns * 1e-9);
    tsr_histogram_observe(&seen->prompt_tokens, ask->usage.prompt_tokens);
    tsr_histogram_observe(&seen->generation_tokens, ask->usage.completion_tokens);
}

/* A piece of the stream found no memory: it cannot go on without it. */
static bool break_torn(struct tsr_api_exchange *x)
{
    struct api_problem problem = {0};
    if (x->torn) {
        api_problem_set(&problem, 503, "server_error", "overloaded", NULL,
                        "there was no memory for a part of the answer");
        api_fail(x, &problem);
        return true;
    }
    return false;
}

static void end_well(struct api_ask *ask)
{
    struct tsr_api_exchange *x = ask->exchange;
    ask->ended = true;
    observe(ask);
    charge(ask);
    add_usage(x, ask);
    x->asks_live--;
    if (x->style->ask_end) {
        x->style->ask_end(ask);
    }
    if (x->asks_live == 0 && !break_torn(x)) {
        x->style->end(x);
    }
}

static void end_badly(struct api_ask *ask, const struct api_problem *problem)
{
    ask->ended = true;
    charge(ask);
    api_fail(ask->exchange, problem);
}

void api_ask_lost(struct api_ask *ask)
{
    struct api_problem problem = {0};
    api_problem_set(&problem, 503, "server_error", "engine_unavailable", NULL,
                    "the engine went away before the answer was complete: try again");
    problem.retry_s = 2;
    end_badly(ask, &problem);
}

void api_ask_finish(struct api_ask *ask)
{
    if (ask->sending || ask->id) {
        api_engine_leave(ask->exchange->engine, ask);
    }
    end_well(ask);
}

/* ---- Events ---- */

bool api_token_top(const struct api_token *token, uint32_t *at, struct tsr_wire_top *top,
                   const char **text)
{
    if (*at + sizeof *top > token->tops_bytes) {
        return false;
    }
    memcpy(top, token->tops + *at, sizeof *top);
    uint32_t left = token->tops_bytes - *at - (uint32_t)sizeof *top;
    if (top->text_bytes > left) {
        return false;
    }
    *text = (const char *)token->tops + *at + sizeof *top;
    uint32_t step = (top->text_bytes + 3u) & ~3u;
    *at += (uint32_t)sizeof *top + (step < left ? step : left);
    return true;
}

/* What the engine says is checked before it is used: its counts are read once. */
static bool read_token(const void *record, uint32_t bytes, struct api_token *token)
{
    struct tsr_wire_token fixed;
    if (bytes < sizeof fixed) {
        return false;
    }
    memcpy(&fixed, record, sizeof fixed);
    uint32_t left = bytes - (uint32_t)sizeof fixed;
    uint32_t tops = (fixed.text_bytes + 3u) & ~3u;
    if (fixed.text_bytes > left) {
        return false;
    }
    *token = (struct api_token){
        .time_ns = fixed.time_ns,
        .token = fixed.token,
        .index = fixed.index,
        .logprob = fixed.logprob,
        .flags = fixed.flags,
        .text = (const char *)record + sizeof fixed,
        .text_bytes = fixed.text_bytes,
        .tops = (const uint8_t *)record + sizeof fixed + tops,
        .tops_bytes = fixed.top_count && tops < left ? left - tops : 0,
        .top_count = fixed.top_count,
    };
    return true;
}

/* Special tokens whose text is part of what the splitter reads. All others are not for people. */
static bool is_marker(const char *text, size_t size)
{
    static const char *const markers[] = {"[TOOL_CALLS]",   "[ARGS]",      "[CALL_ID]",
                                          "<|python_tag|>", "<tool_call>", "</tool_call>",
                                          "<think>",        "</think>"};
    for (size_t i = 0; i < sizeof markers / sizeof markers[0]; i++) {
        if (strlen(markers[i]) == size && memcmp(text, markers[i], size) == 0) {
            return true;
        }
    }
    return false;
}

static void time_token(struct api_ask *ask, const struct api_token *token)
{
    struct tsr_api_exchange *x = ask->exchange;
    struct api_observed *seen = &x->engine->observed;
    if (!ask->first_ns) {
        ask->first_ns = token->time_ns;
        tsr_histogram_observe(
            &seen->first_token,
            token->time_ns > x->begun_ns ? (double)(token->time_ns - x->begun_ns) * 1e-9 : 0);
    } else if (token->time_ns >= ask->last_ns) {
        tsr_histogram_observe(&seen->inter_token, (double)(token->time_ns - ask->last_ns) * 1e-9);
    }
    ask->last_ns = token->time_ns;
    ask->usage.completion_tokens++;
}

static void take_token(struct api_ask *ask, const struct api_token *token)
{
    struct tsr_api_exchange *x = ask->exchange;
    const struct api_style *style = x->style;
    ask->unpaid++;
    if (!(token->flags & TSR_WIRE_TOKEN_TEXT_ONLY)) {
        time_token(ask, token);
    }
    size_t size = token->text_bytes;
    if (x->wants.reads_special && (token->flags & TSR_WIRE_TOKEN_SPECIAL) &&
        !is_marker(token->text, size)) {
        size = 0;
    }
    if (x->wants.logprobs && (token->flags & TSR_WIRE_TOKEN_LOGPROB)) {
        style->logprob(ask, token);
    }
    style->text(ask, token, token->text, size);
    if (ask->thinking && !(token->flags & TSR_WIRE_TOKEN_TEXT_ONLY)) {
        ask->usage.reasoning_tokens++;
    }
    struct api_problem problem = {0};
    if (break_torn(x)) {
        return;
    }
    if (ask->over) {
        api_ask_finish(ask);
    } else if ((!x->wants.stream || style->gathers) && !api_account(x, &problem)) {
        end_badly(ask, &problem);
    } else {
        grant(ask);
    }
}

static void take_accepted(struct api_ask *ask, const struct tsr_wire_accepted *accepted)
{
    struct tsr_api_exchange *x = ask->exchange;
    ask->accepted = true;
    ask->usage.prompt_tokens = accepted->prompt_tokens;
    ask->usage.cached_tokens = accepted->cached_tokens;
    ask->thinking = (accepted->flags & TSR_ACCEPTED_REASONING) != 0;
    if (x->style->accepted) {
        x->style->accepted(ask);
    }
}

static void done_problem(const struct tsr_wire_done *done, struct api_problem *problem)
{
    size_t size = done->text_bytes < sizeof done->text ? done->text_bytes : sizeof done->text;
    switch (done->reason) {
    case TSR_REASON_DEADLINE:
        api_problem_late(problem);
        break;
    case TSR_REASON_PARKED:
        api_problem_set(problem, 408, "timeout_error", "reader_too_slow", NULL,
                        "the answer was not read for too long, and was ended");
        break;
    case TSR_REASON_SHUTDOWN:
        api_problem_of_code(problem, TSR_CODE_SHUTDOWN, 1000, "the engine is shutting down", 27);
        break;
    default:
        api_problem_of_code(problem, done->code, 1000, done->text, size);
        break;
    }
}

static void take_done(struct api_ask *ask, const struct tsr_wire_done *done)
{
    ask->queue_ns = done->queue_ns;
    ask->prefill_ns = done->prefill_ns;
    ask->decode_ns = done->decode_ns;
    ask->usage.prompt_tokens = done->prompt_tokens;
    ask->usage.cached_tokens = done->cached_tokens;
    ask->usage.completion_tokens = done->completion_tokens;
    struct api_problem problem = {0};
    switch (done->reason) {
    case TSR_REASON_END:
    case TSR_REASON_STOP:
        ask->finish = API_FINISH_STOP;
        break;
    case TSR_REASON_LENGTH:
        ask->finish = API_FINISH_LENGTH;
        break;
    case TSR_REASON_TOKENIZED:
    case TSR_REASON_EMBEDDED:
    case TSR_REASON_WRITTEN:
        break;
    default:
        done_problem(done, &problem);
        end_badly(ask, &problem);
        return;
    }
    end_well(ask);
}

static void take_error(struct api_ask *ask, const struct tsr_wire_error *error)
{
    size_t size = error->text_bytes < sizeof error->text ? error->text_bytes : sizeof error->text;
    struct api_problem problem = {0};
    api_problem_of_code(&problem, error->code, error->retry_ms, error->text, size);
    end_badly(ask, &problem);
}

static void make_no_sense(struct api_ask *ask)
{
    struct api_problem problem = {0};
    api_problem_set(&problem, 502, "server_error", "engine_error", NULL,
                    "the engine's answer makes no sense to this version");
    end_badly(ask, &problem);
}

void api_ask_event(struct api_ask *ask, const void *record, const struct tsr_record_info *info)
{
    const struct api_style *style = ask->exchange->style;
    struct api_token token;
    union {
        struct tsr_wire_accepted accepted;
        struct tsr_wire_done done;
        struct tsr_wire_error error;
    } copy;
    memcpy(&copy, record, info->bytes < sizeof copy ? info->bytes : sizeof copy);
    /* What generates is accepted once, before anything else is said; but it may be refused. Event
     * types that this version does not know are ignored. */
    bool sense = true, begun = ask->accepted || !style->text;
    switch (info->type) {
    case TSR_EV_TOKEN:
        sense = style->text && begun && read_token(record, info->bytes, &token);
        if (sense) {
            take_token(ask, &token);
        }
        break;
    case TSR_EV_ACCEPTED:
        sense = info->bytes >= sizeof copy.accepted && !ask->accepted;
        if (sense) {
            take_accepted(ask, &copy.accepted);
        }
        break;
    case TSR_EV_DONE:
        sense = info->bytes >= sizeof copy.done && begun;
        if (sense) {
            take_done(ask, &copy.done);
        }
        break;
    case TSR_EV_ERROR:
        sense = info->bytes >= sizeof copy.error;
        if (sense) {
            take_error(ask, &copy.error);
        }
        break;
    case TSR_EV_TOKENS:
    case TSR_EV_EMBEDDING:
    case TSR_EV_TEXT:
        sense = style->event && style->event(ask, record, info);
        break;
    default:
        break;
    }
    if (!sense) {
        make_no_sense(ask);
    }
}
