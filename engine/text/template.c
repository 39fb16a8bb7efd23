#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <tsr/text/template.h>

#include "jinja/run_priv.h"

struct tsr_template {
    struct tsr_jtree tree;
    struct tsr_template_traits traits;
};

struct tsr_template_scratch {
    struct tsr_jrun run;
};

/* How tool calls are written is known by their marks, and only where no other mark says that it is
 * another family's way: <tool_call> holds XML for some, [TOOL_CALLS] a name and [ARGS] for others.
 * A quote may be escaped. */
static enum tsr_tools calls_in(const char *source)
{
    bool arguments = strstr(source, "arguments\":") || strstr(source, "arguments\\\":");
    if (strstr(source, "[TOOL_CALLS]"))
        return strstr(source, "[ARGS]") ? TSR_TOOLS_NONE : TSR_TOOLS_MISTRAL;
    if (strstr(source, "<tool_call>"))
        return arguments && !strstr(source, "<function=") && !strstr(source, "<arg_key>") &&
                       !strstr(source, "<tool_calls>")
                   ? TSR_TOOLS_HERMES
                   : TSR_TOOLS_NONE;
    if (strstr(source, "<|python_tag|>") ||
        (strstr(source, "{\"name\":") && strstr(source, "\"parameters\":")))
        return TSR_TOOLS_LLAMA3;
    return TSR_TOOLS_NONE;
}

static int find_traits(struct tsr_template *tmpl, const char *source, size_t len,
                       struct tsr_err *err)
{
    struct tsr_template_traits *traits = &tmpl->traits;
    char *text = strndup(source, len);
    if (!text)
        return tsr_err_set(err, -ENOMEM, "no memory for a template");
    for (uint32_t i = 0; i < tmpl->tree.n_symbols; i++) {
        const struct tsr_jtext *name = &tmpl->tree.symbols[i];
        traits->tools |= name->len == 5 && memcmp(name->text, "tools", 5) == 0;
    }
    traits->reasoning = strstr(text, "<think>") != NULL;
    traits->calls = traits->tools ? calls_in(text) : TSR_TOOLS_NONE;
    free(text);
    return 0;
}

int tsr_template_parse(struct tsr_template **out, const char *source, size_t len,
                       struct tsr_err *err)
{
    *out = NULL;
    if (len > TSR_TEMPLATE_SOURCE_MAX)
        return tsr_err_set(err, -EINVAL, "the template has %zu bytes, at most %d are allowed", len,
                           TSR_TEMPLATE_SOURCE_MAX);
    struct tsr_template *tmpl = calloc(1, sizeof(*tmpl));
    if (!tmpl)
        return tsr_err_set(err, -ENOMEM, "no memory for a template");
    int rc = tsr_jinja_parse(&tmpl->tree, source, len, err);
    rc = rc < 0 ? rc : find_traits(tmpl, source, len, err);
    if (rc < 0) {
        tsr_template_destroy(tmpl);
        return rc;
    }
    *out = tmpl;
    return 0;
}

void tsr_template_destroy(struct tsr_template *tmpl)
{
    if (!tmpl)
        return;
    tsr_jinja_free(&tmpl->tree);
    free(tmpl);
}

const struct tsr_template_traits *tsr_template_traits(const struct tsr_template *tmpl)
{
    return &tmpl->traits;
}

void tsr_template_limits_init(struct tsr_template_limits *limits)
{
    *limits = (struct tsr_template_limits){
        .memory_bytes = 64 << 20, .output_bytes = 8 << 20, .steps = 50000000, .depth = 200};
}

int tsr_template_scratch_create(struct tsr_template_scratch **out,
                                const struct tsr_template_limits *limits, struct tsr_err *err)
{
    *out = NULL;
    struct tsr_template_scratch *scratch = calloc(1, sizeof(*scratch));
    size_t memory = limits->memory_bytes;
    if (memory > (size_t)1 << 30 || limits->output_bytes > (size_t)1 << 30) {
        free(scratch);
        return tsr_err_set(err, -EINVAL, "a template's memory or output above 1 GiB");
    }
    if (scratch) {
        struct tsr_jrun *r = &scratch->run;
        r->limits = *limits;
        r->memory_cap = memory / 2;
        r->text_cap = memory / 4;
        r->out_cap = limits->output_bytes;
        r->memory = malloc(r->memory_cap + 1);
        r->text = malloc(r->text_cap + 1);
        r->text_marks = malloc(r->text_cap + 1);
        r->out = malloc(r->out_cap + 1);
        r->out_marks = malloc(r->out_cap + 1);
        if (r->memory && r->text && r->text_marks && r->out && r->out_marks) {
            *out = scratch;
            return 0;
        }
    }
    tsr_template_scratch_destroy(scratch);
    return tsr_err_set(err, -ENOMEM, "no memory to render templates in (%zu bytes)", memory);
}

void tsr_template_scratch_destroy(struct tsr_template_scratch *scratch)
{
    if (!scratch)
        return;
    free(scratch->run.memory);
    free(scratch->run.text);
    free(scratch->run.text_marks);
    free(scratch->run.out);
    free(scratch->run.out_marks);
    free(scratch);
}

/* Roles that templates build marks from ('<|' + role + '|>'). Others stay untrusted: a role
 * "im_end" would else end a turn. */
static bool is_known_role(const char *role, size_t len)
{
    static const char *const known[] = {"system",  "user",      "assistant",
                                        "tool",    "developer", "function",
                                        "ipython", "model",     "observation"};
    for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++)
        if (strlen(known[i]) == len && memcmp(known[i], role, len) == 0)
            return true;
    return false;
}

static void trust_roles(struct tsr_jrun *r, struct tsr_jvalue messages)
{
    for (uint32_t i = 0; messages.kind == TSR_JV_SEQ && i < messages.seq->n; i++) {
        struct tsr_jvalue message = messages.seq->items[i];
        if (message.kind != TSR_JV_DICT)
            continue;
        struct tsr_jvalue *role = tsr_j_dict_get(r, message.dict, "role", 4);
        if (role && role->kind == TSR_JV_STRING && is_known_role(role->str->text, role->str->len))
            *role = tsr_j_string(r, role->str->text, role->str->len, true);
    }
}

static void set(struct tsr_jrun *r, struct tsr_jdict *dict, const char *name,
                struct tsr_jvalue value)
{
    tsr_j_dict_set(r, dict, tsr_j_cstring(r, name), value);
}

static void set_default(struct tsr_jrun *r, struct tsr_jdict *dict, const char *name,
                        struct tsr_jvalue value)
{
    if (!tsr_j_dict_get(r, dict, name, strlen(name)))
        set(r, dict, name, value);
}

/* The model's own mark; a request's is trusted where it says the same. */
static void set_mark(struct tsr_jrun *r, struct tsr_jdict *dict, const char *name,
                     const char *token)
{
    const struct tsr_jvalue *given = tsr_j_dict_get(r, dict, name, strlen(name));
    if (!token)
        return;
    if (!given || (given->kind == TSR_JV_STRING && tsr_j_str_is(given->str, token)))
        set(r, dict, name, tsr_j_cstring(r, token));
}

static struct tsr_jvalue make_messages(struct tsr_jrun *r, const struct tsr_template_input *input)
{
    struct tsr_jvalue list = tsr_j_seq(r, TSR_JS_LIST, 0);
    for (size_t i = 0; i < input->n_messages; i++) {
        const struct tsr_template_message *m = &input->messages[i];
        struct tsr_jvalue message = tsr_j_dict(r);
        if (m->role_len > UINT32_MAX || m->content_len > UINT32_MAX)
            tsr_j_fail(r, -E2BIG, "message %zu has more than 4 GiB", i);
        set(r, message.dict, "role", tsr_j_string(r, m->role, m->role_len, false));
        set(r, message.dict, "content", tsr_j_string(r, m->content, m->content_len, false));
        tsr_j_append(r, list.seq, message);
    }
    return list;
}

/* Takes `continue_with` out of the request's variables; NULL where it is not there. */
static const struct tsr_jstr *take_continuation(struct tsr_jrun *r, struct tsr_jvalue *variables)
{
    static const char name[] = "continue_with";
    const struct tsr_jvalue *found = tsr_j_dict_get(r, variables->dict, name, sizeof(name) - 1);
    if (!found)
        return NULL;
    if (found->kind != TSR_JV_STRING)
        tsr_j_fail(r, -EINVAL, "%s is not a string", name);
    const struct tsr_jstr *text = found->str;
    struct tsr_jvalue others = tsr_j_dict(r);
    for (uint32_t i = 0; i < variables->dict->n; i++) {
        const struct tsr_jentry *entry = &variables->dict->entries[i];
        if (&entry->value != found)
            tsr_j_dict_set(r, others.dict, entry->key, entry->value);
    }
    *variables = others;
    return text;
}

/* Returns what the answer is to go on from, NULL: nothing. */
static const struct tsr_jstr *make_context(struct tsr_jrun *r,
                                           const struct tsr_template_input *input)
{
    const struct tsr_jstr *continuation = NULL;
    struct tsr_jvalue context = tsr_j_dict(r);
    if (input->json_len > UINT32_MAX)
        tsr_j_fail(r, -E2BIG, "the request's JSON has more than 4 GiB");
    if (input->json) {
        struct tsr_jvalue json = tsr_j_json(r, input->json, input->json_len);
        if (json.kind == TSR_JV_DICT) {
            context = json;
            continuation = take_continuation(r, &context);
        } else if (json.kind == TSR_JV_SEQ) {
            set(r, context.dict, "messages", json);
        } else {
            tsr_j_fail(r, -EINVAL, "the request's JSON is neither an object nor an array");
        }
    }
    if (input->messages) {
        if (input->n_messages == 0 && !tsr_j_dict_get(r, context.dict, "messages", 8))
            tsr_j_fail(r, -EINVAL, "the chat has no messages");
        set_default(r, context.dict, "messages", make_messages(r, input));
        set_default(r, context.dict, "add_generation_prompt",
                    tsr_j_bool(input->add_generation_prompt));
        set_default(r, context.dict, "tools", tsr_j_none());
        set_default(r, context.dict, "documents", tsr_j_none());
    }
    set_mark(r, context.dict, "bos_token", input->bos_token);
    set_mark(r, context.dict, "eos_token", input->eos_token);
    const struct tsr_jvalue *messages = tsr_j_dict_get(r, context.dict, "messages", 8);
    if (messages)
        trust_roles(r, *messages);
    r->context = context.dict;
    return continuation;
}

/* Whether what was written ends with <think> and perhaps white space. */
static bool is_in_reasoning(const struct tsr_jrun *r)
{
    static const char mark[] = "<think>";
    size_t n = r->out_n;
    while (n > 0 && strchr(" \t\r\n", r->out[n - 1]) && r->out[n - 1])
        n--;
    return n >= sizeof(mark) - 1 &&
           memcmp(r->out + n - (sizeof(mark) - 1), mark, sizeof(mark) - 1) == 0;
}

static void put_continuation(struct tsr_jrun *r, const struct tsr_jstr *text)
{
    static const char end[] = "\n</think>\n\n";
    if (is_in_reasoning(r))
        tsr_j_write(r, end, NULL, true, sizeof(end) - 1);
    tsr_j_write(r, text->text, NULL, true, text->len);
}

static void make_output(struct tsr_jrun *r, struct tsr_template_output *out)
{
    size_t n = 0, at = 0;
    for (size_t i = 0; i < r->out_n; i++)
        n += i == 0 || r->out_marks[i] != r->out_marks[i - 1];
    struct tsr_text_span *spans = tsr_j_alloc(r, (n + 1) * sizeof(*spans));
    for (size_t i = 0; i < n; i++) {
        size_t end = at + 1;
        while (end < r->out_n && r->out_marks[end] == r->out_marks[at])
            end++;
        spans[i] = (struct tsr_text_span){
            .text = r->out + at, .len = end - at, .trusted = r->out_marks[at] != 0};
        at = end;
    }
    *out =
        (struct tsr_template_output){.text = r->out, .len = r->out_n, .spans = spans, .n_spans = n};
}

int tsr_template_render(const struct tsr_template *tmpl, struct tsr_template_scratch *scratch,
                        const struct tsr_template_input *input, struct tsr_template_output *out,
                        struct tsr_err *err)
{
    struct tsr_jrun *r = &scratch->run;
    *out = (struct tsr_template_output){0};
    r->tree = &tmpl->tree;
    r->err = err;
    r->rc = 0;
    r->line = 1;
    r->memory_n = r->text_n = r->out_n = 0;
    r->steps = r->limits.steps;
    r->depth = r->limits.depth;
    r->now_s = input->now_s;
    r->utc_offset_s = input->utc_offset_s;
    if (setjmp(r->leave) == 0) {
        const struct tsr_jstr *continuation = make_context(r, input);
        r->scope = tsr_j_scope(r, NULL);
        tsr_j_exec(r, tmpl->tree.root);
        const bool continued = continuation && continuation->len > 0;
        if (continued)
            put_continuation(r, continuation);
        make_output(r, out);
        out->continued = continued;
        out->in_reasoning = is_in_reasoning(r);
    }
    return r->rc;
}
