/* The answer of /v1/responses: items (reasoning, a message, function calls) one after the other,
 * and, in a stream, the events that tell how they come to be. */
#include <string.h>

#include "answer_priv.h"
#include "engine_priv.h"
#include "parts_priv.h"
#include "responses_priv.h"

/* What is gathered: of the item that is open, and the items that are complete. */
enum { TEXT = API_OUT_TEXT, NAME = API_OUT_REASONING, ITEMS = API_OUT_MORE };

/* ---- Events ---- */

static struct tsr_out *event_begin(struct tsr_api_exchange *x, const char *type)
{
    struct tsr_out *out = api_whole(x->api);
    tsr_out_text(out, "event: ");
    tsr_out_text(out, type);
    tsr_out_text(out, "\ndata: {\"type\":\"");
    tsr_out_text(out, type);
    tsr_out_text(out, "\",\"sequence_number\":");
    tsr_out_uint(out, x->sequence++);
    return out;
}

static void event_send(struct tsr_api_exchange *x, struct tsr_out *out)
{
    tsr_out_text(out, "}\n\n");
    api_event_send(x, out);
}

static struct tsr_out *item_event_begin(struct tsr_api_exchange *x, const char *type)
{
    struct tsr_out *out = event_begin(x, type);
    tsr_out_text(out, ",\"item_id\":\"");
    tsr_out_text(out, x->item.id);
    tsr_out_text(out, "\",\"output_index\":");
    tsr_out_uint(out, x->item.index);
    return out;
}

/* ---- The response object ---- */

static void write_usage(const struct api_usage *usage, struct tsr_out *out)
{
    tsr_out_format(out,
                   "{\"input_tokens\":%u,\"input_tokens_details\":{\"cached_tokens\":%u,"
                   "\"cache_write_tokens\":0},\"output_tokens\":%u,\"output_tokens_details\":{"
                   "\"reasoning_tokens\":%u},"
                   "\"total_tokens\":%llu}",
                   usage->prompt_tokens, usage->cached_tokens, usage->completion_tokens,
                   usage->reasoning_tokens,
                   (unsigned long long)usage->prompt_tokens + usage->completion_tokens);
}

static void write_response(struct tsr_api_exchange *x, const char *status,
                           const struct api_problem *problem, struct tsr_out *out)
{
    const struct tsr_out *items = &x->asks->outs[ITEMS];
    bool ended = strcmp(status, "in_progress") != 0;
    tsr_out_format(out,
                   "{\"id\":\"%s\",\"object\":\"response\",\"created_at\":%lld,\"status\":"
                   "\"%s\",\"model\":",
                   x->id, (long long)x->created_s, status);
    tsr_out_bytes(out, x->engine->name_json.bytes, x->engine->name_json.size);
    tsr_out_text(out, ",\"output\":[");
    api_append(items, out);
    tsr_out_text(out, "],\"error\":");
    if (problem) {
        tsr_out_text(out, "{\"code\":\"server_error\",\"message\":");
        tsr_out_string(out, problem->text, strlen(problem->text));
        tsr_out_text(out, "}");
    } else {
        tsr_out_text(out, "null");
    }
    tsr_out_text(out, ",\"incomplete_details\":");
    tsr_out_text(out,
                 strcmp(status, "incomplete") == 0 ? "{\"reason\":\"max_output_tokens\"}" : "null");
    tsr_out_text(out, ",\"usage\":");
    if (ended && !problem) {
        write_usage(&x->usage, out);
    } else {
        tsr_out_text(out, "null");
    }
    tsr_out_text(out, ",");
    api_append(&x->echo, out);
    tsr_out_text(out, "}");
}

static void send_response(struct tsr_api_exchange *x, const char *type, const char *status,
                          const struct api_problem *problem)
{
    struct tsr_out *out = event_begin(x, type);
    tsr_out_text(out, ",\"response\":");
    write_response(x, status, problem, out);
    event_send(x, out);
}

/* ---- Items ---- */

static void write_part(const struct api_ask *ask, bool with_text, struct tsr_out *out)
{
    static const struct tsr_out nothing;
    bool message = ask->exchange->item.kind == API_ITEM_MESSAGE;
    tsr_out_text(out, message ? "{\"type\":\"output_text\",\"annotations\":[],\"logprobs\":[],"
                                "\"text\":"
                              : "{\"type\":\"reasoning_text\",\"text\":");
    api_piece_write(with_text ? &ask->outs[TEXT] : &nothing, out);
    tsr_out_text(out, "}");
}

static void write_item(const struct api_ask *ask, bool whole, const char *status,
                       struct tsr_out *out)
{
    const struct api_item *item = &ask->exchange->item;
    static const struct tsr_out nothing;
    tsr_out_format(out, "{\"id\":\"%s\",\"status\":\"%s\",", item->id, status);
    switch (item->kind) {
    case API_ITEM_CALL:
        tsr_out_format(out,
                       "\"type\":\"function_call\",\"call_id\":\"%s\",\"name\":", item->call_id);
        api_piece_write(&ask->outs[NAME], out);
        tsr_out_text(out, ",\"arguments\":");
        api_piece_write(whole ? &ask->outs[TEXT] : &nothing, out);
        break;
    case API_ITEM_MESSAGE:
        tsr_out_text(out, "\"type\":\"message\",\"role\":\"assistant\",\"content\":[");
        break;
    default:
        tsr_out_text(out, "\"type\":\"reasoning\",\"summary\":[],\"content\":[");
        break;
    }
    if (item->kind != API_ITEM_CALL) {
        if (whole) {
            write_part(ask, true, out);
        }
        tsr_out_text(out, "]");
    }
    tsr_out_text(out, "}");
}

static void send_item(const struct api_ask *ask, const char *type, bool whole, const char *status)
{
    struct tsr_api_exchange *x = ask->exchange;
    struct tsr_out *out = event_begin(x, type);
    tsr_out_format(out, ",\"output_index\":%u,\"item\":", x->item.index);
    write_item(ask, whole, status, out);
    event_send(x, out);
}

static void send_part(const struct api_ask *ask, const char *type, bool with_text)
{
    struct tsr_out *out = item_event_begin(ask->exchange, type);
    tsr_out_text(out, ",\"content_index\":0,\"part\":");
    write_part(ask, with_text, out);
    event_send(ask->exchange, out);
}

/* What the events of an item's kind are called, and how they say it. */
static const struct kind {
    const char *prefix, *delta, *done;
    const char *content; /* where in the item; arguments have no place */
    const char *text;    /* the member of `done` */
    const char *more;
} kinds[] = {
    [API_ITEM_REASONING] = {"rs_", "response.reasoning_text.delta", "response.reasoning_text.done",
                            ",\"content_index\":0", ",\"text\":", ""},
    [API_ITEM_MESSAGE] = {"msg_", "response.output_text.delta", "response.output_text.done",
                          ",\"content_index\":0", ",\"text\":", ",\"logprobs\":[]"},
    [API_ITEM_CALL] = {"fc_", "response.function_call_arguments.delta",
                       "response.function_call_arguments.done", "", ",\"arguments\":", ""},
};

static void send_done(const struct api_ask *ask)
{
    struct tsr_api_exchange *x = ask->exchange;
    const struct kind *kind = &kinds[x->item.kind];
    struct tsr_out *out = item_event_begin(x, kind->done);
    tsr_out_text(out, kind->content);
    if (x->item.kind == API_ITEM_CALL) {
        tsr_out_text(out, ",\"name\":");
        api_piece_write(&ask->outs[NAME], out);
    }
    tsr_out_text(out, kind->text);
    api_piece_write(&ask->outs[TEXT], out);
    tsr_out_text(out, kind->more);
    event_send(x, out);
}

static void close_item(struct api_ask *ask, const char *status)
{
    struct tsr_api_exchange *x = ask->exchange;
    struct tsr_out *items = &ask->outs[ITEMS];
    if (x->item.kind == API_ITEM_NONE) {
        return;
    }
    if (x->wants.stream) {
        send_done(ask);
        if (x->item.kind != API_ITEM_CALL) {
            send_part(ask, "response.content_part.done", true);
        }
        send_item(ask, "response.output_item.done", true, status);
    }
    tsr_out_text(items, items->size ? "," : "");
    write_item(ask, true, status, items);
    x->item.kind = API_ITEM_NONE;
    x->item.index++;
}

static void open_item(struct api_ask *ask, enum api_item_kind kind)
{
    struct tsr_api_exchange *x = ask->exchange;
    if (x->item.kind == kind && kind != API_ITEM_CALL) {
        return;
    }
    close_item(ask, "completed");
    x->item.kind = kind;
    api_make_id(x->api, kinds[kind].prefix, x->item.id);
    tsr_out_clear(&ask->outs[TEXT]);
}

static void tell_item(const struct api_ask *ask)
{
    send_item(ask, "response.output_item.added", false, "in_progress");
    if (ask->exchange->item.kind != API_ITEM_CALL) {
        send_part(ask, "response.content_part.added", false);
    }
}

static void add_text(struct api_ask *ask, const char *text, size_t size)
{
    struct tsr_api_exchange *x = ask->exchange;
    const struct kind *kind = &kinds[x->item.kind];
    tsr_out_escaped(&ask->outs[TEXT], text, size);
    if (x->wants.stream) {
        struct tsr_out *out = item_event_begin(x, kind->delta);
        tsr_out_text(out, kind->content);
        tsr_out_text(out, ",\"delta\":");
        tsr_out_string(out, text, size);
        tsr_out_text(out, kind->more);
        event_send(x, out);
    }
}

/* ---- The splitter's sink ---- */

static void add_to(struct api_ask *ask, enum api_item_kind kind, const char *text, size_t size)
{
    bool is_new = ask->exchange->item.kind != kind;
    open_item(ask, kind);
    if (is_new && ask->exchange->wants.stream) {
        tell_item(ask);
    }
    add_text(ask, text, size);
}

static void sink_reasoning(void *ctx, const char *text, size_t size)
{
    if (api_split_is_reasoning(ctx)) {
        add_to(ctx, API_ITEM_REASONING, text, size);
    }
}

static void sink_content(void *ctx, const char *text, size_t size)
{
    if (api_split_is_content(ctx, text, size)) {
        add_to(ctx, API_ITEM_MESSAGE, text, size);
    }
}

static void sink_call(void *ctx, uint32_t index, const char *name, size_t size)
{
    struct api_ask *ask = ctx;
    struct tsr_api_exchange *x = ask->exchange;
    if (api_split_is_call(ask, index)) {
        open_item(ask, API_ITEM_CALL);
        api_call_id(x, x->item.call_id);
        tsr_out_clear(&ask->outs[NAME]);
        tsr_out_escaped(&ask->outs[NAME], name, size);
        if (x->wants.stream) {
            tell_item(ask);
        }
    }
}

static void sink_arguments(void *ctx, uint32_t index, const char *json, size_t size)
{
    if (api_split_is_call(ctx, index)) {
        add_text(ctx, json, size);
    }
}

static void sink_call_end(void *ctx, uint32_t index)
{
    if (api_split_is_call(ctx, index)) {
        close_item(ctx, "completed");
    }
    api_split_call_ended(ctx);
}

static const struct tsr_split_sink sink = {sink_reasoning, sink_content, sink_call, sink_arguments,
                                           sink_call_end};

/* ---- The style ---- */

static void accepted(struct api_ask *ask)
{
    struct tsr_api_exchange *x = ask->exchange;
    if (x->wants.stream) {
        api_stream_head(x);
        send_response(x, "response.created", "in_progress", NULL);
        send_response(x, "response.in_progress", "in_progress", NULL);
    }
    api_split_begin(ask, &sink);
}

static void text(struct api_ask *ask, const struct api_token *token, const char *bytes, size_t size)
{
    ask->exchange->token_ns = token->time_ns;
    api_split_text(ask, bytes, size, &sink);
}

static void ask_end(struct api_ask *ask)
{
    ask->exchange->token_ns = 0;
    api_split_end(ask, &sink);
    close_item(ask, ask->finish == API_FINISH_LENGTH ? "incomplete" : "completed");
}

static void end(struct tsr_api_exchange *x)
{
    bool cut = x->asks->finish == API_FINISH_LENGTH;
    const char *status = cut ? "incomplete" : "completed";
    if (x->wants.stream) {
        send_response(x, cut ? "response.incomplete" : "response.completed", status, NULL);
        api_end(x);
        return;
    }
    struct tsr_out *out = api_whole(x->api);
    write_response(x, status, NULL, out);
    api_answer_json(x, out);
}

static void fail(struct tsr_api_exchange *x, const struct api_problem *problem)
{
    x->token_ns = 0;
    send_response(x, "response.failed", "failed", problem);
    api_end(x);
}

const struct api_style api_response_style = {
    .accepted = accepted,
    .text = text,
    .ask_end = ask_end,
    .end = end,
    .fail = fail,
    .gathers = true,
};
