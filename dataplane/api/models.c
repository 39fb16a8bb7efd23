#include "engine_priv.h"
#include "route_priv.h"
#include "utf8_priv.h"

#include <stdio.h>
#include <string.h>

enum { RETRY_S = 2 };

static bool is_taken(const struct api_engine *engine, const char *name)
{
    for (uint32_t i = 0; i < engine->api->options.n_engines; i++) {
        const struct api_engine *other = &engine->api->engines[i];
        if (other != engine && other->known && strcmp(other->name, name) == 0) {
            return true;
        }
    }
    return false;
}

/* As a label's value wants it: quotes, backslashes and ends of lines escaped. */
static void make_label(struct api_engine *engine)
{
    struct tsr_out out;
    tsr_out_init(&out, engine->label, sizeof engine->label - 2);
    tsr_out_text(&out, "model_name=\"");
    for (const char *c = engine->name; *c; c++) {
        if (*c == '\\' || *c == '"' || *c == '\n') {
            tsr_out_text(&out, "\\");
        }
        tsr_out_bytes(&out, *c == '\n' ? "n" : c, 1);
    }
    memcpy(engine->label + out.size, "\"", 2);
}

/* Names come from files and folders: what is no character, or a control, becomes '?', so that who
 * reads the name can ask for it. */
static void clean_name(const char *from, char to[sizeof((struct tsr_wire_hello){0}.model)])
{
    size_t left = strlen(from);
    while (left) {
        int step = tsr_utf8_step(from, left);
        size_t size = step > 0 ? (size_t)step : 1;
        bool good = step > 0 && (uint8_t)*from >= 0x20 && *from != 0x7f;
        memcpy(to, good ? from : "?", size);
        to += size;
        from += size;
        left -= size;
    }
    *to = '\0';
}

void api_model_name(struct api_engine *engine)
{
    char name[API_NAME_MAX], model[sizeof engine->hello.model];
    clean_name(engine->hello.model[0] ? engine->hello.model : "default", model);
    (void)snprintf(name, sizeof name, "%s", model);
    /* An engine that comes back keeps its name, and so does a second of the same model. */
    for (uint32_t number = 2; is_taken(engine, name); number++) {
        (void)snprintf(name, sizeof name, "%s-%u", model, number);
    }
    memcpy(engine->name, name, sizeof name);
    tsr_out_clear(&engine->name_json);
    tsr_out_string(&engine->name_json, name, strlen(name));
    make_label(engine);
    engine->known = true;
}

static void list_names(const struct tsr_api *api, char *text, size_t size)
{
    size_t used = 0;
    text[0] = '\0';
    for (uint32_t i = 0; i < api->options.n_engines && used < size; i++) {
        if (api->engines[i].known) {
            int n = snprintf(text + used, size - used, "%s'%s'", used ? ", " : "",
                             api->engines[i].name);
            used += n > 0 ? (size_t)n : 0;
        }
    }
}

static void away(struct api_problem *problem, const char *name)
{
    api_problem_set(problem, 503, "server_error", "engine_unavailable", NULL,
                    "the engine%s%s%s is not there now: try again in a moment",
                    *name ? " of '" : "", name, *name ? "'" : "");
    problem->retry_s = RETRY_S;
}

struct api_engine *api_model_find(struct tsr_api *api, const char *name, size_t size,
                                  struct api_problem *problem)
{
    struct api_engine *only = NULL, *found = NULL;
    uint32_t known = 0;
    for (uint32_t i = 0; i < api->options.n_engines; i++) {
        struct api_engine *engine = &api->engines[i];
        if (engine->known) {
            known++;
            only = engine;
            if (strlen(engine->name) == size && memcmp(engine->name, name, size) == 0) {
                found = engine;
            }
        }
    }
    if (!size && api->options.n_engines == 1) {
        found = only;
    }
    if (found) {
        if (!found->connected) {
            away(problem, found->name);
        }
        return found->connected ? found : NULL;
    }
    if (known < api->options.n_engines) {
        away(problem, ""); /* it may be one that has not said its name yet */
        return NULL;
    }
    char names[384];
    list_names(api, names, sizeof names);
    if (!size) {
        api_problem_set(problem, 400, "invalid_request_error", "missing_required_parameter",
                        "model", "'model' must name one of %s", names);
    } else {
        api_problem_set(problem, 404, "invalid_request_error", "model_not_found", "model",
                        "the model '%.*s' does not exist here; there is %s",
                        size < 100 ? (int)size : 100, name, names);
    }
    return NULL;
}

static void text_member(struct tsr_out *out, const char *name, const char *text)
{
    tsr_out_format(out, ",\"%s\":", name);
    tsr_out_string(out, text, strlen(text));
}

static void write_model(const struct api_engine *engine, struct tsr_out *out)
{
    static const char *const poolings[] = {"none", "mean", "cls", "last"};
    static const char *const tools[] = {"none", "hermes", "llama3", "mistral"};
    const struct tsr_wire_hello *hello = &engine->hello;
    const struct tsr_wire_status *status = (const void *)engine->status.record;
    char kernels[sizeof status->kernels + 1] = "";
    if (engine->status.bytes) {
        memcpy(kernels, status->kernels, sizeof status->kernels);
    }
    tsr_out_text(out, "{\"id\":");
    tsr_out_bytes(out, engine->name_json.bytes, engine->name_json.size);
    tsr_out_format(out,
                   ",\"object\":\"model\",\"created\":%lld,\"owned_by\":\"tessera\","
                   "\"max_model_len\":%u,\"meta\":{\"connected\":%s",
                   (long long)engine->since_s, hello->context_tokens,
                   engine->connected ? "true" : "false");
    text_member(out, "architecture", hello->architecture);
    text_member(out, "weights", hello->weights);
    tsr_out_format(out,
                   ",\"parameters\":%llu,\"weights_bytes\":%llu,\"vocabulary\":%u,"
                   "\"context_tokens\":%u",
                   (unsigned long long)hello->parameters, (unsigned long long)hello->weights_bytes,
                   hello->vocabulary, hello->context_tokens);
    text_member(out, "engine", hello->engine);
    text_member(out, "kernels", kernels);
    tsr_out_format(out, ",\"embedding\":{\"width\":%u", hello->embedding_width);
    text_member(out, "pooling", poolings[hello->pooling < 4 ? hello->pooling : 0]);
    tsr_out_format(out, "},\"chat\":%s", hello->flags & TSR_HELLO_CHAT ? "true" : "false");
    text_member(out, "tools", tools[hello->tools < 4 ? hello->tools : 0]);
    tsr_out_format(out, ",\"reasoning\":%s}}",
                   hello->flags & TSR_HELLO_REASONING ? "true" : "false");
}

void api_models_list(struct tsr_api_exchange *x, const char *rest, size_t size)
{
    (void)rest;
    (void)size;
    struct tsr_api *api = x->api;
    struct tsr_out *out = api_whole(api);
    tsr_out_text(out, "{\"object\":\"list\",\"data\":[");
    bool first = true;
    for (uint32_t i = 0; i < api->options.n_engines; i++) {
        struct api_engine *engine = &api->engines[i];
        if (engine->known) {
            api_engine_ask_status(engine, api->now_ns); /* its kernels, for the next time */
            tsr_out_text(out, first ? "" : ",");
            write_model(engine, out);
            first = false;
        }
    }
    tsr_out_text(out, "]}");
    api_answer_json(x, out);
}

static int hex(char c)
{
    return c >= '0' && c <= '9'                 ? c - '0'
           : (c | 32) >= 'a' && (c | 32) <= 'f' ? (c | 32) - 'a' + 10
                                                : -1;
}

/* A name as a path has it: percent-encoded. Returns its size; longer ones are cut, and are
 * nobody's. */
static size_t decode_name(const char *path, size_t size, char name[API_NAME_MAX])
{
    size_t n = 0;
    for (size_t i = 0; i < size && n < API_NAME_MAX; i++) {
        int high = size - i > 2 && path[i] == '%' ? hex(path[i + 1]) : -1;
        int low = high >= 0 ? hex(path[i + 2]) : -1;
        const uint8_t byte = (uint8_t)(high * 16 + low);
        name[n++] = low >= 0 ? (char)byte : path[i];
        i += low >= 0 ? 2 : 0;
    }
    return n;
}

void api_models_one(struct tsr_api_exchange *x, const char *rest, size_t rest_size)
{
    struct tsr_api *api = x->api;
    char name[API_NAME_MAX], names[384];
    size_t size = decode_name(rest, rest_size, name);
    for (uint32_t i = 0; i < api->options.n_engines; i++) {
        const struct api_engine *engine = &api->engines[i];
        if (engine->known && strlen(engine->name) == size &&
            memcmp(engine->name, name, size) == 0) {
            struct tsr_out *out = api_whole(api);
            write_model(engine, out);
            api_answer_json(x, out);
            return;
        }
    }
    struct api_problem problem = {0};
    list_names(api, names, sizeof names);
    api_problem_set(&problem, 404, "invalid_request_error", "model_not_found", "model",
                    "the model '%.*s' does not exist here; there is %s",
                    size < 100 ? (int)size : 100, name, *names ? names : "none yet");
    api_refuse(x, &problem);
}
