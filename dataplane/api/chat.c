/* /v1/chat/completions: the request, and the answer as a whole or as a stream of chunks. */
#include <string.h>

#include "answer_priv.h"
#include "engine_priv.h"
#include "messages_priv.h"
#include "parts_priv.h"
#include "route_priv.h"

/* ---- Log-probabilities ---- */

static void write_entry(struct tsr_out *out, const char *text, size_t size, float logprob)
{
    tsr_out_text(out, "{\"token\":");
    tsr_out_string(out, text, size);
    tsr_out_text(out, ",\"logprob\":");
    tsr_out_double(out, api_logprob(logprob));
    tsr_out_text(out, ",\"bytes\":[");
    for (size_t i = 0; i < size; i++) {
        tsr_out_text(out, i ? "," : "");
        tsr_out_uint(out, (uint8_t)text[i]);
    }
    tsr_out_text(out, "]");
}

static void chat_logprob(struct api_ask *ask, const struct api_token *token)
{
    struct tsr_out *out = &ask->outs[API_OUT_LOGPROBS];
    struct tsr_wire_top top;
    const char *text;
    uint32_t at = 0, wanted = ask->exchange->wants.top_logprobs;
    size_t size;
    const char *own = api_token_text(token, &size);
    tsr_out_text(out, out->size ? "," : "");
    write_entry(out, own, size, token->logprob);
    tsr_out_text(out, ",\"top_logprobs\":[");
    for (uint32_t i = 0; i < wanted && i < token->top_count; i++) {
        if (!api_token_top(token, &at, &top, &text)) {
            break;
        }
        tsr_out_text(out, i ? "," : "");
        write_entry(out, text, top.text_bytes, top.logprob);
        tsr_out_text(out, "}");
    }
    tsr_out_text(out, "]}");
}

static void write_logprobs(struct api_ask *ask, struct tsr_out *out)
{
    if (!ask->exchange->wants.logprobs) {
        tsr_out_text(out, "null");
        return;
    }
    tsr_out_text(out, "{\"content\":[");
    api_append(&ask->outs[API_OUT_LOGPROBS], out);
    tsr_out_text(out, "],\"refusal\":null}");
    tsr_out_clear(&ask->outs[API_OUT_LOGPROBS]);
}

/* ---- A stream's chunks ---- */

static struct tsr_out *chunk_begin(struct api_ask *ask)
{
    struct tsr_out *out = api_event_begin(ask->exchange, "chat.completion.chunk");
    tsr_out_text(out, "\"choices\":[{\"index\":");
    tsr_out_uint(out, ask->index);
    tsr_out_text(out, ",\"delta\":{");
    return out;
}

static void chunk_end(struct api_ask *ask, struct tsr_out *out, const char *finish)
{
    tsr_out_text(out, "},\"logprobs\":");
    if (ask->outs[API_OUT_LOGPROBS].size || finish) {
        write_logprobs(ask, out);
    } else {
        tsr_out_text(out, "null");
    }
    tsr_out_text(out, ",\"finish_reason\":");
    tsr_out_text(out, finish ? "\"" : "null");
    tsr_out_text(out, finish ? finish : "");
    tsr_out_text(out, finish ? "\"}]" : "}]");
    tsr_out_text(out, ask->exchange->wants.include_usage ? ",\"usage\":null}\n\n" : "}\n\n");
    api_event_send(ask->exchange, out);
}

static void stream_reasoning(void *ctx, const char *text, size_t size)
{
    struct api_ask *ask = ctx;
    if (api_split_is_reasoning(ask)) {
        struct tsr_out *out = chunk_begin(ask);
        tsr_out_text(out, "\"reasoning_content\":");
        tsr_out_string(out, text, size);
        tsr_out_text(out, ",\"reasoning\":");
        tsr_out_string(out, text, size);
        chunk_end(ask, out, NULL);
    }
}

static void stream_content(void *ctx, const char *text, size_t size)
{
    struct api_ask *ask = ctx;
    if (api_split_is_content(ask, text, size)) {
        struct tsr_out *out = chunk_begin(ask);
        tsr_out_text(out, "\"content\":");
        tsr_out_string(out, text, size);
        chunk_end(ask, out, NULL);
    }
}

static void stream_call(void *ctx, uint32_t index, const char *name, size_t size)
{
    struct api_ask *ask = ctx;
    char id[API_ID_MAX];
    if (api_split_is_call(ask, index)) {
        struct tsr_out *out = chunk_begin(ask);
        api_call_id(ask->exchange, id);
        tsr_out_format(out,
                       "\"tool_calls\":[{\"index\":%u,\"id\":\"%s\",\"type\":\"function\","
                       "\"function\":{\"name\":",
                       index, id);
        tsr_out_string(out, name, size);
        tsr_out_text(out, ",\"arguments\":\"\"}}]");
        chunk_end(ask, out, NULL);
    }
}

static void stream_arguments(void *ctx, uint32_t index, const char *json, size_t size)
{
    struct api_ask *ask = ctx;
    if (api_split_is_call(ask, index)) {
        struct tsr_out *out = chunk_begin(ask);
        tsr_out_format(out, "\"tool_calls\":[{\"index\":%u,\"function\":{\"arguments\":", index);
        tsr_out_string(out, json, size);
        tsr_out_text(out, "}}]");
        chunk_end(ask, out, NULL);
    }
}

static void any_call_end(void *ctx, uint32_t index)
{
    (void)index;
    api_split_call_ended(ctx);
}

static const struct tsr_split_sink stream_sink = {stream_reasoning, stream_content, stream_call,
                                                  stream_arguments, any_call_end};

static void stream_accepted(struct api_ask *ask)
{
    struct tsr_api_exchange *x = ask->exchange;
    if (!x->said_head) {
        api_stream_head(x);
    }
    struct tsr_out *out = chunk_begin(ask);
    tsr_out_text(out, "\"role\":\"assistant\",\"content\":\"\"");
    chunk_end(ask, out, NULL);
    api_split_begin(ask, &stream_sink);
}

static void stream_text(struct api_ask *ask, const struct api_token *token, const char *text,
                        size_t size)
{
    ask->exchange->token_ns = token->time_ns;
    api_split_text(ask, text, size, &stream_sink);
}

static void stream_ask_end(struct api_ask *ask)
{
    ask->exchange->token_ns = 0;
    api_split_end(ask, &stream_sink);
    chunk_end(ask, chunk_begin(ask), api_finish_name(ask->finish));
}

static void stream_end(struct tsr_api_exchange *x)
{
    api_stream_end(x, "chat.completion.chunk", true);
}

static const struct api_style chat_stream = {
    .accepted = stream_accepted,
    .text = stream_text,
    .logprob = chat_logprob,
    .ask_end = stream_ask_end,
    .end = stream_end,
};

/* ---- A whole answer ---- */

static void whole_reasoning(void *ctx, const char *text, size_t size)
{
    struct api_ask *ask = ctx;
    if (api_split_is_reasoning(ask)) {
        tsr_out_escaped(&ask->outs[API_OUT_REASONING], text, size);
    }
}

static void whole_content(void *ctx, const char *text, size_t size)
{
    struct api_ask *ask = ctx;
    if (api_split_is_content(ask, text, size)) {
        tsr_out_escaped(&ask->outs[API_OUT_TEXT], text, size);
    }
}

static void whole_call(void *ctx, uint32_t index, const char *name, size_t size)
{
    struct api_ask *ask = ctx;
    struct tsr_out *out = &ask->outs[API_OUT_CALLS];
    char id[API_ID_MAX];
    if (api_split_is_call(ask, index)) {
        api_call_id(ask->exchange, id);
        tsr_out_format(out, "%s{\"id\":\"%s\",\"type\":\"function\",\"function\":{\"name\":",
                       index ? "\"}}," : "", id);
        tsr_out_string(out, name, size);
        tsr_out_text(out, ",\"arguments\":\"");
    }
}

static void whole_arguments(void *ctx, uint32_t index, const char *json, size_t size)
{
    struct api_ask *ask = ctx;
    if (api_split_is_call(ask, index)) {
        tsr_out_escaped(&ask->outs[API_OUT_CALLS], json, size);
    }
}

static const struct tsr_split_sink whole_sink = {whole_reasoning, whole_content, whole_call,
                                                 whole_arguments, any_call_end};

static void whole_accepted(struct api_ask *ask)
{
    api_split_begin(ask, &whole_sink);
}

static void whole_text(struct api_ask *ask, const struct api_token *token, const char *text,
                       size_t size)
{
    (void)token;
    api_split_text(ask, text, size, &whole_sink);
}

static void whole_ask_end(struct api_ask *ask)
{
    api_split_end(ask, &whole_sink);
}

static void write_choice(struct api_ask *ask, struct tsr_out *out)
{
    tsr_out_format(out,
                   "{\"index\":%u,\"message\":{\"role\":\"assistant\",\"content\":", ask->index);
    if (ask->outs[API_OUT_CALLS].size && !ask->visible) {
        tsr_out_text(out, "null");
    } else {
        api_piece_write(&ask->outs[API_OUT_TEXT], out);
    }
    tsr_out_text(out, ",\"refusal\":null");
    if (ask->outs[API_OUT_REASONING].size) {
        tsr_out_text(out, ",\"reasoning_content\":");
        api_piece_write(&ask->outs[API_OUT_REASONING], out);
        tsr_out_text(out, ",\"reasoning\":");
        api_piece_write(&ask->outs[API_OUT_REASONING], out);
    }
    if (ask->outs[API_OUT_CALLS].size) {
        tsr_out_text(out, ",\"tool_calls\":[");
        api_append(&ask->outs[API_OUT_CALLS], out);
        tsr_out_text(out, "\"}}]");
    }
    tsr_out_text(out, "},\"logprobs\":");
    write_logprobs(ask, out);
    tsr_out_format(out, ",\"finish_reason\":\"%s\"}", api_finish_name(ask->finish));
}

static void whole_end(struct tsr_api_exchange *x)
{
    struct tsr_out *out = api_object_begin(x, "chat.completion");
    tsr_out_text(out, "\"choices\":[");
    for (struct api_ask *ask = x->asks; ask; ask = ask->next) {
        write_choice(ask, out);
        tsr_out_text(out, ask->next ? "," : "]");
    }
    tsr_out_text(out, ",\"usage\":");
    api_usage_write(&x->usage, true, out);
    tsr_out_text(out, "}");
    api_answer_json(x, out);
}

static const struct api_style chat_whole = {
    .accepted = whole_accepted,
    .text = whole_text,
    .logprob = chat_logprob,
    .ask_end = whole_ask_end,
    .end = whole_end,
};

/* ---- The request ---- */

static void read_logprobs(struct tsr_api_exchange *x, const struct api_fields *fields)
{
    struct tsr_wire_submit *submit = api_submit_of(x);
    api_field_bool(fields, "logprobs", &x->wants.logprobs);
    api_field_uint32(fields, "top_logprobs", 0, TSR_WIRE_TOP_LOGPROBS_MAX, &x->wants.top_logprobs);
    if (x->wants.top_logprobs && !x->wants.logprobs) {
        api_problem_invalid(fields->problem, "top_logprobs",
                            "'top_logprobs' is for answers with 'logprobs': set that to true");
    }
    if (x->wants.logprobs && !fields->problem->status) {
        submit->flags |= TSR_SUBMIT_LOGPROBS;
        submit->top_logprobs = (uint8_t)x->wants.top_logprobs;
    }
}

static void read_length(struct tsr_api_exchange *x, const struct api_fields *fields)
{
    uint32_t tokens = 0;
    api_field_uint32(fields, "max_tokens", 1, INT32_MAX, &tokens);
    api_field_uint32(fields, "max_completion_tokens", 1, INT32_MAX, &tokens);
    api_submit_of(x)->tokens_max = tokens;
}

/* Answers in a schema, in sounds, with searches: what would change the answer is not ignored. */
static void refuse_others(const struct api_fields *fields)
{
    static const char *const names[] = {"audio", "prediction", "web_search_options"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        api_field_unsupported(fields, names[i]);
    }
    const struct tsr_json_value *modality = api_field_array(fields, "modalities");
    modality = modality ? tsr_json_first(fields->json, modality) : NULL;
    for (; modality; modality = tsr_json_next(fields->json, modality)) {
        size_t size = 0;
        const char *text = tsr_json_type_of(modality) == TSR_JSON_STRING
                               ? tsr_json_text(fields->json, modality, &size)
                               : "";
        if (!api_text_is(text, size, "text")) {
            api_problem_unsupported(fields->problem, "modalities",
                                    "'modalities' can be [\"text\"] only");
        }
    }
    api_format_read(fields, "response_format");
    api_verbosity_read(fields);
}

void api_chat(struct tsr_api_exchange *x)
{
    struct api_problem problem = {0};
    struct api_fields fields;
    api_fields_root(&fields, x->json, &problem);
    if (api_model_read(x, &fields) && api_chat_possible(x, &problem)) {
        api_submit_begin(x, TSR_PAYLOAD_CHAT, api_turn_flag(&fields), &problem);
    }
    if (!problem.status) {
        read_logprobs(x, &fields);
        read_length(x, &fields);
        refuse_others(&fields);
        api_sampling_read(x, &fields);
    }
    if (!problem.status) {
        size_t off = api_chat_payload_begin(x);
        api_messages_write(x, &fields, &x->payload);
        api_tools_read(x, &fields, false, &x->payload);
        api_template_write(&fields, &x->payload);
        api_chat_payload_end(x, off);
        struct api_input input;
        if (api_payload_end(x, off, &input, &problem)) {
            api_choices_add(x, &input, &problem);
        }
    }
    if (problem.status) {
        api_refuse(x, &problem);
        return;
    }
    api_make_id(x->api, "chatcmpl-", x->id);
    x->style = x->wants.stream ? &chat_stream : &chat_whole;
    api_ask_all(x);
}
