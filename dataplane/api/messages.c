#include "messages_priv.h"

#include <stdio.h>
#include <string.h>

#include "engine_priv.h"

/* ---- Content ---- */

static bool is_text_part(const char *type, size_t size)
{
    static const char *const kinds[] = {"text", "input_text", "output_text"};
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
        if (api_text_is(type, size, kinds[i])) {
            return true;
        }
    }
    return false;
}

/* Texts of several parts are lines of one text, as vLLM joins them. */
static void write_parts(const struct api_fields *fields, const struct tsr_json_value *parts,
                        const char *name, struct tsr_out *out)
{
    const struct tsr_json_value *part = tsr_json_first(fields->json, parts);
    tsr_out_text(out, "\"");
    for (uint32_t i = 0; part; part = tsr_json_next(fields->json, part), i++) {
        struct api_fields inner;
        size_t size, text_size;
        api_fields_inner(&inner, fields, part, "%s%s[%u].", fields->path, name, i);
        const char *type = api_field_string(&inner, "type", &size);
        if (type && api_text_is(type, size, "refusal")) {
            const char *refusal = api_field_string(&inner, "refusal", &text_size);
            tsr_out_escaped(out, refusal ? refusal : "", text_size);
            continue;
        }
        char param[sizeof fields->problem->param];
        if (type && !is_text_part(type, size)) {
            (void)snprintf(param, sizeof param, "%stype", inner.path);
            api_problem_unsupported(fields->problem, param,
                                    "'%.*s' in '%s%s' is not supported: this server takes text",
                                    size < 40 ? (int)size : 40, type, fields->path, name);
        }
        const char *text = api_field_string(&inner, "text", &text_size);
        if (fields->problem->status) {
            return;
        }
        if (!text) {
            (void)snprintf(param, sizeof param, "%stext", inner.path);
            api_problem_invalid(fields->problem, param,
                                "part %u of '%s%s' has no 'text': {\"type\":\"text\",\"text\":...} "
                                "is wanted",
                                i, fields->path, name);
            return;
        }
        tsr_out_text(out, i ? "\\n" : "");
        tsr_out_escaped(out, text, text_size);
    }
    tsr_out_text(out, "\"");
}

void api_content_write(const struct api_fields *fields, const char *name, bool may_lack,
                       struct tsr_out *out)
{
    const struct tsr_json_value *value = api_field(fields, name);
    size_t size;
    if (fields->problem->status) {
        return;
    }
    if (!value) {
        if (!may_lack) {
            char param[sizeof fields->problem->param];
            (void)snprintf(param, sizeof param, "%s%s", fields->path, name);
            api_problem_set(fields->problem, 400, "invalid_request_error",
                            "missing_required_parameter", param, "'%s' is missing", param);
        }
        tsr_out_text(out, "\"\"");
    } else if (tsr_json_type_of(value) == TSR_JSON_STRING) {
        const char *text = tsr_json_text(fields->json, value, &size);
        tsr_out_string(out, text, size);
    } else if (tsr_json_type_of(value) == TSR_JSON_ARRAY) {
        write_parts(fields, value, name, out);
    } else {
        api_field_wrong(fields, name, "a string or an array of parts", value);
    }
}

/* ---- Tool calls that were made ---- */

void api_arguments_write(struct tsr_api_exchange *x, const char *text, size_t size,
                         struct tsr_out *out)
{
    struct tsr_json *json = x->api->inner;
    struct tsr_err err;
    tsr_json_reset(json);
    int rc = size ? tsr_json_feed(json, text, size, &err) : tsr_json_feed(json, "{}", 2, &err);
    if (rc == 0) {
        rc = tsr_json_end(json, &err);
    }
    if (rc == 0 && tsr_json_type_of(tsr_json_root(json)) == TSR_JSON_OBJECT) {
        tsr_json_write(json, tsr_json_root(json), out);
    } else {
        tsr_out_string(out, text, size);
    }
}

static void write_call(struct tsr_api_exchange *x, const struct api_fields *call,
                       struct tsr_out *out)
{
    const struct tsr_json_value *function = api_field(call, "function");
    size_t id_size, size;
    const char *id = api_field_string(call, "id", &id_size);
    if (call->problem->status) {
        return;
    }
    struct api_fields inner;
    char param[sizeof call->problem->param];
    if (!function) {
        (void)snprintf(param, sizeof param, "%sfunction", call->path);
        api_problem_invalid(call->problem, param, "'%s' is missing", param);
        return;
    }
    api_fields_inner(&inner, call, function, "%sfunction.", call->path);
    const char *name = api_field_string(&inner, "name", &size);
    if (!name && !call->problem->status) {
        (void)snprintf(param, sizeof param, "%sname", inner.path);
        api_problem_invalid(call->problem, param, "'%s' is missing", param);
    }
    if (call->problem->status) {
        return;
    }
    tsr_out_text(out, "{\"id\":");
    tsr_out_string(out, id ? id : "", id_size);
    tsr_out_text(out, ",\"type\":\"function\",\"function\":{\"name\":");
    tsr_out_string(out, name, size);
    tsr_out_text(out, ",\"arguments\":");
    const struct tsr_json_value *arguments = api_field(&inner, "arguments");
    if (arguments && tsr_json_type_of(arguments) == TSR_JSON_OBJECT) {
        tsr_json_write(call->json, arguments, out);
    } else {
        const char *text = api_field_string(&inner, "arguments", &size);
        if (!call->problem->status) {
            api_arguments_write(x, text ? text : "", size, out);
        }
    }
    tsr_out_text(out, "}}");
}

static void write_calls(struct tsr_api_exchange *x, const struct api_fields *message,
                        const struct tsr_json_value *calls, struct tsr_out *out)
{
    const struct tsr_json_value *call = tsr_json_first(message->json, calls);
    tsr_out_text(out, ",\"tool_calls\":[");
    for (uint32_t i = 0; call && !message->problem->status;
         call = tsr_json_next(message->json, call), i++) {
        struct api_fields inner;
        api_fields_inner(&inner, message, call, "%stool_calls[%u].", message->path, i);
        tsr_out_text(out, i ? "," : "");
        write_call(x, &inner, out);
    }
    tsr_out_text(out, "]");
}

/* ---- Messages ---- */

static void copy_string(const struct api_fields *message, const char *name, const char *as,
                        struct tsr_out *out)
{
    size_t size;
    const char *text = api_field_string(message, name, &size);
    if (text) {
        tsr_out_format(out, ",\"%s\":", as);
        tsr_out_string(out, text, size);
    }
}

const char *api_role_read(const struct api_fields *message)
{
    static const char *const roles[][2] = {{"system", "system"},
                                           {"developer", "system"},
                                           {"user", "user"},
                                           {"assistant", "assistant"},
                                           {"tool", "tool"}};
    size_t size;
    const char *role = api_field_string(message, "role", &size);
    if (message->problem->status) {
        return NULL;
    }
    for (size_t i = 0; role && i < sizeof roles / sizeof roles[0]; i++) {
        if (api_text_is(role, size, roles[i][0])) {
            return roles[i][1];
        }
    }
    char param[sizeof message->problem->param];
    (void)snprintf(param, sizeof param, "%srole", message->path);
    api_problem_invalid(message->problem, param,
                        "'%s' is %s%.*s%s; it must be system, developer, user, assistant or tool",
                        param, role ? "'" : "missing", size < 40 ? (int)size : 40, role ? role : "",
                        role ? "'" : "");
    return NULL;
}

static void write_message(struct tsr_api_exchange *x, const struct api_fields *message,
                          struct tsr_out *out)
{
    const char *role = api_role_read(message);
    bool assistant = role && strcmp(role, "assistant") == 0;
    const struct tsr_json_value *calls = assistant ? api_field_array(message, "tool_calls") : NULL;
    api_field_unsupported(message, "audio");
    api_field_unsupported(message, "function_call");
    if (message->problem->status) {
        return;
    }
    tsr_out_format(out, "{\"role\":\"%s\",\"content\":", role);
    api_content_write(message, "content", assistant, out);
    copy_string(message, "name", "name", out);
    copy_string(message, "tool_call_id", "tool_call_id", out);
    if (assistant) {
        bool named = api_field(message, "reasoning_content") != NULL;
        copy_string(message, named ? "reasoning_content" : "reasoning", "reasoning_content", out);
    }
    if (calls && tsr_json_count(calls)) {
        write_calls(x, message, calls, out);
    }
    tsr_out_text(out, "}");
}

void api_messages_write(struct tsr_api_exchange *x, const struct api_fields *fields,
                        struct tsr_out *out)
{
    const struct tsr_json_value *list = api_field_array(fields, "messages");
    if (fields->problem->status) {
        return;
    }
    if (!list || tsr_json_count(list) == 0) {
        api_problem_set(fields->problem, 400, "invalid_request_error", "missing_required_parameter",
                        "messages", "'messages' must have at least one message");
        return;
    }
    if (tsr_json_count(list) > TSR_WIRE_MESSAGES_MAX) {
        api_problem_invalid(fields->problem, "messages",
                            "%u messages; %d is all that a chat may "
                            "have",
                            tsr_json_count(list), TSR_WIRE_MESSAGES_MAX);
        return;
    }
    const struct tsr_json_value *value = tsr_json_first(fields->json, list);
    tsr_out_text(out, "[");
    for (uint32_t i = 0; value && !fields->problem->status;
         value = tsr_json_next(fields->json, value), i++) {
        struct api_fields message;
        api_fields_inner(&message, fields, value, "messages[%u].", i);
        tsr_out_text(out, i ? "," : "");
        write_message(x, &message, out);
    }
    tsr_out_text(out, "]");
}

/* ---- The template's further variables ---- */

static void write_kwargs(const struct api_fields *fields, struct tsr_out *out)
{
    static const char *const taken[] = {"messages",      "tools",
                                        "continue_with", "add_generation_prompt",
                                        "documents",     "reasoning_effort"};
    const struct tsr_json_value *object = api_field_object(fields, "chat_template_kwargs");
    const struct tsr_json_value *value = object ? tsr_json_first(fields->json, object) : NULL;
    for (; value; value = tsr_json_next(fields->json, value)) {
        size_t size;
        const char *key = tsr_json_key(fields->json, value, &size);
        for (size_t i = 0; i < sizeof taken / sizeof taken[0]; i++) {
            if (api_text_is(key, size, taken[i])) {
                api_problem_invalid(fields->problem, "chat_template_kwargs",
                                    "'chat_template_kwargs' may not have '%s': that is a field of "
                                    "the request",
                                    taken[i]);
                return;
            }
        }
        tsr_out_text(out, ",");
        tsr_out_string(out, key, size);
        tsr_out_text(out, ":");
        tsr_json_write(fields->json, value, out);
    }
}

void api_template_write(const struct api_fields *fields, struct tsr_out *out)
{
    size_t size;
    const struct tsr_json_value *documents = api_field_array(fields, "documents");
    const char *effort = api_field_string(fields, "reasoning_effort", &size);
    if (documents) {
        tsr_out_text(out, ",\"documents\":");
        tsr_json_write(fields->json, documents, out);
    }
    if (effort) {
        tsr_out_text(out, ",\"reasoning_effort\":");
        tsr_out_string(out, effort, size);
    }
    write_kwargs(fields, out);
    api_field_unsupported(fields, "chat_template");
    api_field_unsupported(fields, "continue_final_message");
}

uint16_t api_turn_flag(const struct api_fields *fields)
{
    bool turn = true;
    api_field_bool(fields, "add_generation_prompt", &turn);
    return turn ? 0 : TSR_SUBMIT_NO_TURN;
}

/* ---- The payload ---- */

size_t api_chat_payload_begin(struct tsr_api_exchange *x)
{
    const uint32_t counts[2] = {0, 0}; /* messages; bytes of JSON, set at the end */
    size_t off = api_payload_begin(x);
    tsr_out_bytes(&x->payload, counts, sizeof counts);
    tsr_out_text(&x->payload, "{\"messages\":");
    return off;
}

void api_chat_payload_end(struct tsr_api_exchange *x, size_t off)
{
    tsr_out_text(&x->payload, "}");
    if (!x->payload.full) {
        uint32_t bytes = (uint32_t)(x->payload.size - off - 2 * sizeof(uint32_t));
        memcpy(x->payload.bytes + off + sizeof bytes, &bytes, sizeof bytes);
    }
}

bool api_chat_possible(const struct tsr_api_exchange *x, struct api_problem *problem)
{
    if (!(x->engine->hello.flags & TSR_HELLO_CHAT)) {
        api_problem_unsupported(problem, "messages",
                                "the model '%s' has no usable chat template: use /v1/completions",
                                x->engine->name);
        return false;
    }
    return true;
}
