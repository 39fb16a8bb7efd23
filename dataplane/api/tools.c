#include <string.h>

#include "engine_priv.h"
#include "messages_priv.h"

enum { TOOLS_MAX = 128, TOOL_NAME_MAX = 128 };

/* ---- The list ---- */

/* Where a tool's name is: chats have it in `function`, responses in the tool itself. */
static const struct tsr_json_value *function_of(const struct tsr_json *json,
                                                const struct tsr_json_value *tool, bool flat)
{
    return flat ? tool : tsr_json_get(json, tool, "function");
}

static void check_function(const struct api_fields *function, bool flat)
{
    size_t size;
    bool strict = false;
    const char *name = api_field_string(function, "name", &size);
    (void)api_field_string(function, "description", &(size_t){0});
    (void)api_field_object(function, "parameters");
    api_field_bool(function, "strict", &strict);
    if (function->problem->status) {
        return;
    }
    if (!name || size == 0 || size > TOOL_NAME_MAX) {
        api_problem_invalid(function->problem, "tools", "'%sname' must have 1 to %d bytes",
                            function->path, TOOL_NAME_MAX);
    } else if (strict && !flat) { /* responses are strict unless told otherwise; the answer says */
        api_problem_unsupported(function->problem, "tools",
                                "'%sstrict' is not supported: answers are not held to a schema",
                                function->path);
    }
}

static void check_tool(const struct api_fields *fields, const struct tsr_json_value *value,
                       uint32_t i, bool flat)
{
    struct api_fields tool, function;
    size_t size;
    api_fields_inner(&tool, fields, value, "tools[%u].", i);
    const char *type = api_field_string(&tool, "type", &size);
    if (fields->problem->status) {
        return;
    }
    if (!type || !api_text_is(type, size, "function")) {
        api_problem_unsupported(fields->problem, "tools",
                                "'tools[%u].type' is '%.*s': only functions are supported", i,
                                size < 40 ? (int)size : 40, type ? type : "");
        return;
    }
    if (flat) {
        check_function(&tool, true);
        return;
    }
    const struct tsr_json_value *inner = api_field_object(&tool, "function");
    if (inner) {
        api_fields_inner(&function, fields, inner, "tools[%u].function.", i);
        check_function(&function, false);
    } else {
        api_problem_invalid(fields->problem, "tools", "'tools[%u].function' is missing", i);
    }
}

static bool is_tool(const struct api_fields *fields, const struct tsr_json_value *tools, bool flat,
                    const char *name, size_t size)
{
    const struct tsr_json_value *tool = tsr_json_first(fields->json, tools);
    for (; tool; tool = tsr_json_next(fields->json, tool)) {
        size_t own_size;
        const struct tsr_json_value *function = function_of(fields->json, tool, flat);
        const struct tsr_json_value *own = tsr_json_get(fields->json, function, "name");
        const char *text = tsr_json_text(fields->json, own, &own_size);
        if (own_size == size && memcmp(text, name, size) == 0) {
            return true;
        }
    }
    return false;
}

/* As chats have them, for templates know no other. */
static void write_tools(const struct api_fields *fields, const struct tsr_json_value *tools,
                        bool flat, struct tsr_out *out)
{
    if (!flat) {
        tsr_json_write(fields->json, tools, out);
        return;
    }
    static const char *const members[] = {"name", "description", "parameters"};
    const struct tsr_json_value *tool = tsr_json_first(fields->json, tools);
    tsr_out_text(out, "[");
    for (uint32_t i = 0; tool; tool = tsr_json_next(fields->json, tool), i++) {
        tsr_out_text(out, i ? "," : "");
        tsr_out_text(out, "{\"type\":\"function\",\"function\":{");
        for (size_t k = 0; k < sizeof members / sizeof members[0]; k++) {
            const struct tsr_json_value *value = tsr_json_get(fields->json, tool, members[k]);
            if (value) {
                tsr_out_format(out, "%s\"%s\":", k ? "," : "", members[k]);
                tsr_json_write(fields->json, value, out);
            }
        }
        tsr_out_text(out, "}}");
    }
    tsr_out_text(out, "]");
}

/* ---- The choice ---- */

enum choice { AUTO, NONE, REQUIRED, NAMED };

static enum choice read_named(const struct api_fields *fields, const struct tsr_json_value *tools,
                              bool flat, const struct tsr_json_value *value, const char **name,
                              size_t *size)
{
    struct api_fields choice, function;
    size_t type_size;
    api_fields_inner(&choice, fields, value, "tool_choice.");
    const char *type = api_field_string(&choice, "type", &type_size);
    const struct tsr_json_value *inner = flat ? value : api_field_object(&choice, "function");
    if (fields->problem->status) {
        return NONE;
    }
    if (!type || !api_text_is(type, type_size, "function") || !inner) {
        api_problem_unsupported(fields->problem, "tool_choice",
                                "'tool_choice' can be none, auto, required, or a function by its "
                                "name");
        return NONE;
    }
    api_fields_inner(&function, fields, inner, flat ? "tool_choice." : "tool_choice.function.");
    *name = api_field_string(&function, "name", size);
    if (!fields->problem->status &&
        (!*name || !tools || !is_tool(fields, tools, flat, *name, *size))) {
        api_problem_invalid(fields->problem, "tool_choice",
                            "'tool_choice' names '%.*s', which is not in 'tools'",
                            *size < 40 ? (int)*size : 40, *name ? *name : "");
    }
    return NAMED;
}

static enum choice read_choice(const struct api_fields *fields, const struct tsr_json_value *tools,
                               bool flat, const char **name, size_t *size)
{
    const struct tsr_json_value *value = api_field(fields, "tool_choice");
    size_t text_size;
    *name = NULL;
    *size = 0;
    if (!value) {
        return tools ? AUTO : NONE;
    }
    if (tsr_json_type_of(value) == TSR_JSON_OBJECT) {
        return read_named(fields, tools, flat, value, name, size);
    }
    if (tsr_json_type_of(value) != TSR_JSON_STRING) {
        api_field_wrong(fields, "tool_choice", "a string or an object", value);
        return NONE;
    }
    const char *text = tsr_json_text(fields->json, value, &text_size);
    if (api_text_is(text, text_size, "auto")) {
        return tools ? AUTO : NONE;
    }
    if (api_text_is(text, text_size, "required")) {
        if (!tools) {
            api_problem_invalid(fields->problem, "tool_choice",
                                "'tool_choice' requires a call, but there are no 'tools'");
        }
        return REQUIRED;
    }
    if (!api_text_is(text, text_size, "none")) {
        api_problem_invalid(fields->problem, "tool_choice",
                            "'tool_choice' is '%.*s'; it can be none, auto, required or a function",
                            text_size < 40 ? (int)text_size : 40, text);
    }
    return NONE;
}

/* How a call begins in the family's words, up to the name or to the arguments. No space at the end:
 * models write it in one token with what follows. */
static void write_begun(enum tsr_split_calls family, const char *name, size_t size,
                        struct tsr_out *out)
{
    static const struct {
        const char *before, *behind;
    } words[] = {
        [TSR_SPLIT_HERMES] = {"<tool_call>\n{\"name\": \"", ", \"arguments\":"},
        [TSR_SPLIT_LLAMA3] = {"{\"name\": \"", ", \"parameters\":"},
        [TSR_SPLIT_MISTRAL] = {"[TOOL_CALLS][{\"name\": \"", ", \"arguments\":"},
    };
    tsr_out_text(out, words[family].before);
    if (name) {
        tsr_out_escaped(out, name, size);
        tsr_out_text(out, "\"");
        tsr_out_text(out, words[family].behind);
    }
}

static void want_calls(struct tsr_api_exchange *x, bool forced, const char *name, size_t size,
                       struct tsr_out *out, struct api_problem *problem)
{
    static const enum tsr_split_calls families[] = {
        [TSR_TOOLS_NONE] = TSR_SPLIT_NO_CALLS,
        [TSR_TOOLS_HERMES] = TSR_SPLIT_HERMES,
        [TSR_TOOLS_LLAMA3] = TSR_SPLIT_LLAMA3,
        [TSR_TOOLS_MISTRAL] = TSR_SPLIT_MISTRAL,
    };
    const struct tsr_wire_hello *hello = &x->engine->hello;
    enum tsr_split_calls family =
        hello->tools <= TSR_TOOLS_MISTRAL ? families[hello->tools] : TSR_SPLIT_NO_CALLS;
    if (!(hello->flags & TSR_HELLO_TOOLS)) {
        api_problem_unsupported(problem, "tools",
                                "the model '%s' has no use for tools: its chat "
                                "template does not know them",
                                x->engine->name);
    } else if (forced && family == TSR_SPLIT_NO_CALLS) {
        api_problem_unsupported(problem, "tool_choice",
                                "calls of the model '%s' cannot be forced: this server does not "
                                "know how it writes them",
                                x->engine->name);
    }
    if (problem->status) {
        return;
    }
    x->wants.calls = family != TSR_SPLIT_NO_CALLS;
    x->wants.family = family;
    /* Their markers are special tokens. */
    x->wants.reads_special = family == TSR_SPLIT_LLAMA3 || family == TSR_SPLIT_MISTRAL;
    if (x->wants.reads_special) {
        api_submit_of(x)->flags |= TSR_SUBMIT_SHOW_SPECIAL;
    }
    if (forced) {
        x->wants.begun_off = x->extra.size;
        write_begun(family, name, size, &x->extra);
        x->wants.begun_bytes = x->extra.size - x->wants.begun_off;
        tsr_out_text(out, ",\"continue_with\":");
        tsr_out_string(out, x->extra.bytes + x->wants.begun_off, x->wants.begun_bytes);
    }
}

void api_tools_read(struct tsr_api_exchange *x, const struct api_fields *fields, bool flat,
                    struct tsr_out *out)
{
    const struct tsr_json_value *tools = api_field_array(fields, "tools");
    const char *name;
    size_t size;
    bool parallel = true;
    api_field_bool(fields, "parallel_tool_calls", &parallel);
    api_field_unsupported(fields, "functions");
    api_field_unsupported(fields, "function_call");
    if (tools && tsr_json_count(tools) > TOOLS_MAX) {
        api_problem_invalid(fields->problem, "tools", "%u tools; %d is all that there may be",
                            tsr_json_count(tools), TOOLS_MAX);
    }
    if (tools && tsr_json_count(tools) == 0) {
        tools = NULL;
    }
    const struct tsr_json_value *tool = tools ? tsr_json_first(fields->json, tools) : NULL;
    for (uint32_t i = 0; tool && !fields->problem->status; i++) {
        check_tool(fields, tool, i, flat);
        tool = tsr_json_next(fields->json, tool);
    }
    enum choice choice = read_choice(fields, tools, flat, &name, &size);
    if (fields->problem->status || choice == NONE) {
        return; /* the model is not told of tools that it may not call */
    }
    x->wants.one_call = !parallel || choice == NAMED; /* that call is all that is asked for */
    tsr_out_text(out, ",\"tools\":");
    write_tools(fields, tools, flat, out);
    want_calls(x, choice == REQUIRED || choice == NAMED, name, size, out, fields->problem);
}
