/* /v1/completions: prompts as they are, without a template. */
#include <string.h>

#include "engine_priv.h"
#include "parts_priv.h"
#include "prompts_priv.h"
#include "route_priv.h"

enum { ASKS_MAX = 128, TOKENS_DEFAULT = 16 };

/* What is gathered of log-probabilities: four lists. */
enum { TEXT = API_OUT_TEXT, TOKENS = 1, VALUES, TOPS, OFFSETS };
static_assert((int)OFFSETS < (int)API_OUTS, "each list has its room");

/* The keys of an object so far: where they lie in its text. */
struct keys {
    uint32_t n;
    struct {
        size_t off, size;
    } at[TSR_WIRE_TOP_LOGPROBS_MAX + 1];
};

/* Other tokens may have the same text, above all those that are no whole character: an object has a
 * key once, so the likelier one stays. */
static void write_top(struct keys *keys, const char *text, size_t size, float logprob,
                      struct tsr_out *out)
{
    size_t begin = out->size;
    tsr_out_text(out, keys->n ? "," : "");
    size_t off = out->size;
    tsr_out_string(out, text, size);
    for (uint32_t i = 0; i < keys->n; i++) {
        if (keys->at[i].size == out->size - off &&
            memcmp(out->bytes + keys->at[i].off, out->bytes + off, out->size - off) == 0) {
            out->size = begin;
            return;
        }
    }
    keys->at[keys->n].off = off;
    keys->at[keys->n++].size = out->size - off;
    tsr_out_text(out, ":");
    tsr_out_double(out, api_logprob(logprob));
}

/* The alternatives, and the token itself where it is none of them. */
static void write_tops(struct api_ask *ask, const struct api_token *token, const char *text,
                       size_t size, struct tsr_out *out)
{
    struct tsr_wire_top top;
    struct keys keys = {0};
    const char *other;
    uint32_t at = 0, wanted = ask->exchange->wants.top_logprobs;
    tsr_out_text(out, "{");
    for (uint32_t i = 0; i < wanted && i < token->top_count; i++) {
        if (!api_token_top(token, &at, &top, &other)) {
            break;
        }
        write_top(&keys, other, top.text_bytes, top.logprob, out);
    }
    write_top(&keys, text, size, token->logprob, out);
    tsr_out_text(out, "}");
}

static void gather_logprob(struct api_ask *ask, const struct api_token *token)
{
    size_t size;
    const char *text = api_token_text(token, &size);
    for (int i = TOKENS; i <= OFFSETS; i++) {
        tsr_out_text(&ask->outs[i], ask->outs[i].size ? "," : "");
    }
    tsr_out_string(&ask->outs[TOKENS], text, size);
    tsr_out_double(&ask->outs[VALUES], api_logprob(token->logprob));
    write_tops(ask, token, text, size, &ask->outs[TOPS]);
    tsr_out_uint(&ask->outs[OFFSETS], ask->text_chars);
}

static void write_logprobs(struct api_ask *ask, struct tsr_out *out)
{
    static const char *const names[] = {[TOKENS] = "{\"tokens\":[",
                                        [VALUES] = "],\"token_logprobs\":[",
                                        [TOPS] = "],\"top_logprobs\":[",
                                        [OFFSETS] = "],\"text_offset\":["};
    if (!ask->exchange->wants.logprobs) {
        tsr_out_text(out, "null");
        return;
    }
    for (int i = TOKENS; i <= OFFSETS; i++) {
        tsr_out_text(out, names[i]);
        api_append(&ask->outs[i], out);
        tsr_out_clear(&ask->outs[i]);
    }
    tsr_out_text(out, "]}");
}

static void count_chars(struct api_ask *ask, const char *text, size_t size)
{
    for (size_t i = 0; i < size; i++) {
        ask->text_chars += (text[i] & 0xc0) != 0x80;
    }
}

/* The prompt's text, where it is wanted: its payload, which is kept then. */
static const char *echo_of(const struct api_ask *ask, size_t *size)
{
    bool echo = ask->exchange->wants.echo;
    *size = echo ? ask->payload_bytes : 0;
    return echo ? ask->exchange->payload.bytes + ask->payload_off : "";
}

/* ---- A stream ---- */

static void send_chunk(struct api_ask *ask, const char *text, size_t size, const char *finish)
{
    struct tsr_api_exchange *x = ask->exchange;
    struct tsr_out *out = api_event_begin(x, "text_completion");
    tsr_out_text(out, "\"choices\":[{\"index\":");
    tsr_out_uint(out, ask->index);
    tsr_out_text(out, ",\"text\":");
    tsr_out_string(out, text, size);
    tsr_out_text(out, ",\"logprobs\":");
    if (ask->outs[TOKENS].size) {
        write_logprobs(ask, out);
    } else {
        tsr_out_text(out, "null");
    }
    tsr_out_text(out, ",\"finish_reason\":");
    tsr_out_text(out, finish ? "\"" : "null");
    tsr_out_text(out, finish ? finish : "");
    tsr_out_text(out, finish ? "\"}]" : "}]");
    tsr_out_text(out, x->wants.include_usage ? ",\"usage\":null}\n\n" : "}\n\n");
    api_event_send(x, out);
}

static void stream_accepted(struct api_ask *ask)
{
    size_t size;
    const char *text = echo_of(ask, &size);
    if (!ask->exchange->said_head) {
        api_stream_head(ask->exchange);
    }
    while (size) {
        size_t piece = api_text_piece(text, size);
        send_chunk(ask, text, piece, NULL);
        count_chars(ask, text, piece);
        text += piece;
        size -= piece;
    }
}

static void stream_text(struct api_ask *ask, const struct api_token *token, const char *text,
                        size_t size)
{
    ask->exchange->token_ns = token->time_ns;
    if (size) {
        send_chunk(ask, text, size, NULL);
        count_chars(ask, text, size);
    }
}

static void stream_ask_end(struct api_ask *ask)
{
    ask->exchange->token_ns = 0;
    send_chunk(ask, "", 0, api_finish_name(ask->finish));
}

static void stream_end(struct tsr_api_exchange *x)
{
    api_stream_end(x, "text_completion", false);
}

static const struct api_style completion_stream = {
    .accepted = stream_accepted,
    .text = stream_text,
    .logprob = gather_logprob,
    .ask_end = stream_ask_end,
    .end = stream_end,
};

/* ---- A whole answer ---- */

static void whole_text(struct api_ask *ask, const struct api_token *token, const char *text,
                       size_t size)
{
    (void)token;
    tsr_out_escaped(&ask->outs[TEXT], text, size);
    count_chars(ask, text, size);
}

static void whole_accepted(struct api_ask *ask)
{
    size_t size;
    const char *text = echo_of(ask, &size);
    if (size) {
        whole_text(ask, NULL, text, size);
    }
}

static void whole_end(struct tsr_api_exchange *x)
{
    struct tsr_out *out = api_object_begin(x, "text_completion");
    tsr_out_text(out, "\"choices\":[");
    for (struct api_ask *ask = x->asks; ask; ask = ask->next) {
        tsr_out_format(out, "{\"index\":%u,\"text\":", ask->index);
        api_piece_write(&ask->outs[TEXT], out);
        tsr_out_text(out, ",\"logprobs\":");
        write_logprobs(ask, out);
        tsr_out_format(out, ",\"finish_reason\":\"%s\"}%s", api_finish_name(ask->finish),
                       ask->next ? "," : "]");
    }
    tsr_out_text(out, ",\"usage\":");
    api_usage_write(&x->usage, false, out);
    tsr_out_text(out, "}");
    api_answer_json(x, out);
}

static const struct api_style completion_whole = {
    .accepted = whole_accepted,
    .text = whole_text,
    .logprob = gather_logprob,
    .end = whole_end,
};

/* ---- The request ---- */

static void read_logprobs(struct tsr_api_exchange *x, const struct api_fields *fields)
{
    const struct tsr_json_value *value = api_field(fields, "logprobs");
    if (!value) {
        return;
    }
    api_field_uint32(fields, "logprobs", 0, TSR_WIRE_TOP_LOGPROBS_MAX, &x->wants.top_logprobs);
    x->wants.logprobs = true;
    api_submit_of(x)->flags |= TSR_SUBMIT_LOGPROBS;
    api_submit_of(x)->top_logprobs = (uint8_t)x->wants.top_logprobs;
    if (x->wants.echo) {
        api_problem_unsupported(fields->problem, "logprobs",
                                "'logprobs' with 'echo' is not supported: there are none of the "
                                "prompt");
    }
}

static void read_best_of(struct tsr_api_exchange *x, const struct api_fields *fields)
{
    uint32_t best_of = x->wants.choices;
    api_field_uint32(fields, "best_of", 1, API_CHOICES_MAX, &best_of);
    if (best_of != x->wants.choices) {
        api_problem_unsupported(fields->problem, "best_of",
                                "'best_of' other than 'n' (%u) is not supported", x->wants.choices);
    }
}

static void read_own(struct tsr_api_exchange *x, const struct api_fields *fields)
{
    bool bos = true;
    struct tsr_wire_submit *submit = api_submit_of(x);
    submit->tokens_max = TOKENS_DEFAULT;
    api_field_uint32(fields, "max_tokens", 1, INT32_MAX, &submit->tokens_max);
    api_field_bool(fields, "echo", &x->wants.echo);
    api_field_bool(fields, "add_special_tokens", &bos);
    if (!bos) {
        submit->flags |= TSR_SUBMIT_NO_BOS;
    }
    api_field_unsupported(fields, "suffix");
    api_format_read(fields, "response_format");
    read_logprobs(x, fields);
}

static void read_prompts(struct tsr_api_exchange *x, const struct api_fields *fields)
{
    api_prompts_read(x, fields, "prompt", API_PROMPTS_MAX);
    if (x->wants.echo && api_submit_of(x)->kind != TSR_PAYLOAD_TEXT) {
        api_problem_unsupported(fields->problem, "echo",
                                "'echo' of a prompt of token ids is not supported");
    }
    if (x->n_inputs * x->wants.choices > ASKS_MAX) {
        api_problem_invalid(fields->problem, "n",
                            "%u prompts and 'n' of %u: %d answers are all that there may be",
                            x->n_inputs, x->wants.choices, ASKS_MAX);
    }
}

void api_completions(struct tsr_api_exchange *x)
{
    struct api_problem problem = {0};
    struct api_fields fields;
    api_fields_root(&fields, x->json, &problem);
    if (api_model_read(x, &fields)) {
        /* Who writes the prompt itself may write its special tokens. */
        api_submit_begin(x, TSR_PAYLOAD_TEXT, TSR_SUBMIT_SPECIAL, &problem);
    }
    if (!problem.status) {
        read_own(x, &fields);
        api_sampling_read(x, &fields);
    }
    if (!problem.status) {
        read_best_of(x, &fields);
        read_prompts(x, &fields);
    }
    if (!problem.status && api_submit_of(x)->kind != TSR_PAYLOAD_TEXT) {
        api_submit_of(x)->flags &= (uint16_t) ~(TSR_SUBMIT_SPECIAL | TSR_SUBMIT_NO_BOS);
    }
    for (uint32_t i = 0; i < x->n_inputs && !problem.status; i++) {
        api_choices_add(x, api_input_at(x, i), &problem);
    }
    if (problem.status) {
        api_refuse(x, &problem);
        return;
    }
    x->next_input = x->n_inputs;
    api_make_id(x->api, "cmpl-", x->id);
    x->style = x->wants.stream ? &completion_stream : &completion_whole;
    api_ask_all(x);
}
