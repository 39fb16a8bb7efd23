#include <stdio.h>
#include <string.h>

#include "engine_priv.h"
#include "parts_priv.h"
#include "responses_priv.h"
#include "route_priv.h"

/* ---- Items: a call belongs to the assistant's message before it ---- */

enum open { NOTHING, MESSAGE, CALLS };

struct walk {
    struct tsr_api_exchange *x;
    struct tsr_out *out;
    enum open open; /* the assistant's message that is not closed yet */
    bool any;
};

static void close_message(struct walk *walk)
{
    if (walk->open != NOTHING) {
        tsr_out_text(walk->out, walk->open == CALLS ? "]}" : "}");
        walk->open = NOTHING;
    }
}

static void begin_message(struct walk *walk, const char *role)
{
    close_message(walk);
    tsr_out_format(walk->out, "%s{\"role\":\"%s\",\"content\":", walk->any ? "," : "", role);
    walk->any = true;
}

static void put_message(struct walk *walk, const struct api_fields *item)
{
    const char *role = api_role_read(item);
    if (!role) {
        return;
    }
    begin_message(walk, role);
    api_content_write(item, "content", false, walk->out);
    if (strcmp(role, "assistant") == 0) {
        walk->open = MESSAGE;
    } else {
        tsr_out_text(walk->out, "}");
    }
}

static void put_call(struct walk *walk, const struct api_fields *item)
{
    size_t name_size, id_size, size;
    const char *name = api_field_string(item, "name", &name_size);
    const char *id = api_field_string(item, "call_id", &id_size);
    const char *arguments = api_field_string(item, "arguments", &size);
    if (!item->problem->status && (!name || !id)) {
        api_problem_invalid(item->problem, "input", "'%sname' and '%scall_id' must be there",
                            item->path, item->path);
    }
    if (item->problem->status) {
        return;
    }
    if (walk->open == NOTHING) {
        begin_message(walk, "assistant");
        tsr_out_text(walk->out, "\"\"");
        walk->open = MESSAGE;
    }
    tsr_out_text(walk->out, walk->open == CALLS ? "," : ",\"tool_calls\":[");
    walk->open = CALLS;
    tsr_out_text(walk->out, "{\"id\":");
    tsr_out_string(walk->out, id, id_size);
    tsr_out_text(walk->out, ",\"type\":\"function\",\"function\":{\"name\":");
    tsr_out_string(walk->out, name, name_size);
    tsr_out_text(walk->out, ",\"arguments\":");
    api_arguments_write(walk->x, arguments ? arguments : "", size, walk->out);
    tsr_out_text(walk->out, "}}");
}

static void put_output(struct walk *walk, const struct api_fields *item)
{
    size_t size;
    const char *id = api_field_string(item, "call_id", &size);
    if (item->problem->status) {
        return;
    }
    begin_message(walk, "tool");
    api_content_write(item, "output", false, walk->out);
    tsr_out_text(walk->out, ",\"tool_call_id\":");
    tsr_out_string(walk->out, id ? id : "", size);
    tsr_out_text(walk->out, "}");
}

static void put_item(struct walk *walk, const struct api_fields *item)
{
    size_t size;
    char param[sizeof item->problem->param];
    const char *type = api_field_string(item, "type", &size);
    if (item->problem->status) {
        return;
    }
    if (!type || api_text_is(type, size, "message")) {
        put_message(walk, item);
    } else if (api_text_is(type, size, "function_call")) {
        put_call(walk, item);
    } else if (api_text_is(type, size, "function_call_output")) {
        put_output(walk, item);
    } else if (!api_text_is(type, size, "reasoning")) { /* templates leave out earlier reasoning */
        (void)snprintf(param, sizeof param, "%stype", item->path);
        api_problem_unsupported(item->problem, param,
                                "'%.*s' in 'input' is not supported: there can be messages, "
                                "function_call, function_call_output and reasoning",
                                size < 40 ? (int)size : 40, type);
    }
}

static void put_input(struct walk *walk, const struct api_fields *fields)
{
    const struct tsr_json_value *input = api_field(fields, "input");
    size_t size;
    if (fields->problem->status) {
        return;
    }
    if (!input || (tsr_json_type_of(input) == TSR_JSON_ARRAY && tsr_json_count(input) == 0)) {
        api_problem_set(fields->problem, 400, "invalid_request_error", "missing_required_parameter",
                        "input", "'input' must have something");
    } else if (tsr_json_type_of(input) == TSR_JSON_STRING) {
        begin_message(walk, "user");
        const char *text = tsr_json_text(fields->json, input, &size);
        tsr_out_string(walk->out, text, size);
        tsr_out_text(walk->out, "}");
    } else if (tsr_json_type_of(input) != TSR_JSON_ARRAY) {
        api_field_wrong(fields, "input", "a string or an array of items", input);
    } else {
        const struct tsr_json_value *value = tsr_json_first(fields->json, input);
        for (uint32_t i = 0; value && !fields->problem->status; i++) {
            struct api_fields item;
            api_fields_inner(&item, fields, value, "input[%u].", i);
            put_item(walk, &item);
            value = tsr_json_next(fields->json, value);
        }
    }
}

void api_items_write(struct tsr_api_exchange *x, const struct api_fields *fields,
                     struct tsr_out *out)
{
    struct walk walk = {.x = x, .out = out};
    size_t size;
    const char *instructions = api_field_string(fields, "instructions", &size);
    tsr_out_text(out, "[");
    if (instructions) {
        begin_message(&walk, "system");
        tsr_out_string(out, instructions, size);
        tsr_out_text(out, "}");
    }
    put_input(&walk, fields);
    close_message(&walk);
    tsr_out_text(out, "]");
}

/* ---- What is said again in the answer ---- */

enum { ECHO_BYTES_MAX = 1 << 20 }; /* a stream's first two events and its last have it */

static void echo_value(const struct api_fields *fields, const char *name, const char *absent,
                       struct tsr_out *out)
{
    const struct tsr_json_value *value = api_field(fields, name);
    tsr_out_format(out, "\"%s\":", name);
    if (value) {
        tsr_json_write(fields->json, value, out);
    } else {
        tsr_out_text(out, absent);
    }
    tsr_out_text(out, ",");
}

/* As they came, but that nothing is held to a schema here: strict is false. */
static void echo_tools(const struct api_fields *fields, struct tsr_out *out)
{
    const struct tsr_json_value *tools = api_field_array(fields, "tools");
    const struct tsr_json_value *tool = tools ? tsr_json_first(fields->json, tools) : NULL;
    tsr_out_text(out, "\"tools\":[");
    for (uint32_t i = 0; tool; tool = tsr_json_next(fields->json, tool), i++) {
        const struct api_fields inner = {fields->json, tool, fields->problem, ""};
        tsr_out_text(out, i ? ",{\"type\":\"function\"," : "{\"type\":\"function\",");
        echo_value(&inner, "name", "\"\"", out);
        echo_value(&inner, "description", "null", out);
        echo_value(&inner, "parameters", "null", out);
        tsr_out_text(out, "\"strict\":false}");
    }
    tsr_out_text(out, "],");
}

static void echo_reasoning(const struct api_fields *fields, struct tsr_out *out)
{
    const struct tsr_json_value *reasoning = api_field_object(fields, "reasoning");
    const struct api_fields inner = {fields->json, reasoning, fields->problem, ""};
    tsr_out_text(out, "\"reasoning\":{");
    if (reasoning) {
        echo_value(&inner, "effort", "null", out);
    } else {
        tsr_out_text(out, "\"effort\":null,");
    }
    tsr_out_text(out, "\"summary\":null}");
}

void api_response_echo(struct tsr_api_exchange *x, const struct api_fields *fields)
{
    struct tsr_out *out = &x->echo;
    const struct tsr_wire_submit *submit = api_submit_of(x);
    echo_value(fields, "instructions", "null", out);
    echo_value(fields, "max_output_tokens", "null", out);
    echo_value(fields, "metadata", "{}", out);
    echo_value(fields, "parallel_tool_calls", "true", out);
    tsr_out_format(out, "\"temperature\":%.7g,\"top_p\":%.7g,", (double)submit->temperature,
                   (double)submit->top_p);
    echo_value(fields, "user", "null", out);
    echo_value(fields, "tool_choice", "\"auto\"", out);
    echo_tools(fields, out);
    tsr_out_text(out, "\"background\":false,\"previous_response_id\":null,\"store\":false,"
                      "\"truncation\":\"disabled\",\"text\":{\"format\":{\"type\":\"text\"}},");
    echo_reasoning(fields, out);
    if (out->size > ECHO_BYTES_MAX) {
        api_problem_invalid(fields->problem, NULL,
                            "the answer would say %zu bytes of the request again, and %d is all: "
                            "shorten 'instructions', 'metadata', 'tools' or 'user'",
                            out->size, ECHO_BYTES_MAX);
    }
}

/* ---- The request ---- */

static void refuse_others(const struct api_fields *fields)
{
    static const char *const names[] = {
        "previous_response_id", "conversation", "background",   "prompt",
        "max_tool_calls",       "include",      "top_logprobs", "context_management"};
    size_t size;
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        api_field_unsupported(fields, names[i]);
    }
    const char *truncation = api_field_string(fields, "truncation", &size);
    if (truncation && !api_text_is(truncation, size, "disabled")) {
        api_problem_unsupported(fields->problem, "truncation",
                                "'truncation' can be disabled only: nothing is left out here");
    }
    const struct tsr_json_value *text = api_field_object(fields, "text");
    if (text) {
        struct api_fields inner;
        api_fields_inner(&inner, fields, text, "text.");
        api_format_read(&inner, "format");
        api_verbosity_read(&inner);
    }
}

/* Chats have `reasoning_effort`. */
static void write_effort(const struct api_fields *fields, struct tsr_out *out)
{
    const struct tsr_json_value *reasoning = api_field_object(fields, "reasoning");
    struct api_fields inner;
    size_t size;
    if (!reasoning) {
        return;
    }
    api_fields_inner(&inner, fields, reasoning, "reasoning.");
    const char *effort = api_field_string(&inner, "effort", &size);
    (void)api_field_string(&inner, "summary", &(size_t){0}); /* all is shown as it is */
    if (effort && !api_field(fields, "reasoning_effort")) {
        tsr_out_text(out, ",\"reasoning_effort\":");
        tsr_out_string(out, effort, size);
    }
}

static void read_options(struct tsr_api_exchange *x, const struct api_fields *fields)
{
    struct tsr_wire_submit *submit = api_submit_of(x);
    api_field_uint32(fields, "max_output_tokens", 1, INT32_MAX, &submit->tokens_max);
    refuse_others(fields);
    api_sampling_read(x, fields);
    if (x->wants.choices != 1) {
        api_problem_unsupported(fields->problem, "n", "'n' is not supported: a response is one");
    }
}

void api_responses(struct tsr_api_exchange *x)
{
    struct api_problem problem = {0};
    struct api_fields fields;
    struct api_input input;
    api_fields_root(&fields, x->json, &problem);
    if (api_model_read(x, &fields) && api_chat_possible(x, &problem)) {
        api_submit_begin(x, TSR_PAYLOAD_CHAT, 0, &problem);
    }
    if (!problem.status) {
        read_options(x, &fields);
    }
    if (!problem.status) {
        size_t off = api_chat_payload_begin(x);
        api_items_write(x, &fields, &x->payload);
        api_tools_read(x, &fields, true, &x->payload);
        api_template_write(&fields, &x->payload);
        write_effort(&fields, &x->payload);
        api_chat_payload_end(x, off);
        api_response_echo(x, &fields);
        if (api_payload_end(x, off, &input, &problem)) {
            api_choices_add(x, &input, &problem);
        }
    }
    if (problem.status) {
        api_refuse(x, &problem);
        return;
    }
    api_make_id(x->api, "resp_", x->id);
    x->style = &api_response_style;
    api_ask_all(x);
}
