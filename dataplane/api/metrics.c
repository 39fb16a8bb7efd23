/* /metrics: Prometheus' text format. What an engine says of itself (STATUS), what the API sees of
 * its requests, and the door's own figures. Names follow vLLM's where the meaning is the same. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "engine_priv.h"
#include "route_priv.h"

enum { WAIT_MS = 1000 };

int tsr_api_add_figure(struct tsr_api *api, const struct tsr_figure *figure, struct tsr_err *err)
{
    if (api->n_figures == TSR_API_FIGURES_MAX) {
        return tsr_err_set(err, -ENOSPC, "%s: %d figures are registered, which is all",
                           figure->name, TSR_API_FIGURES_MAX);
    }
    api->figures[api->n_figures++] = *figure;
    return 0;
}

void tsr_histogram_init(struct tsr_histogram *histogram)
{
    static const double bounds[] = {
        1e-6, 2e-6, 3e-6, 5e-6,   7e-6,   1e-5, 1.5e-5, 2e-5, 2.5e-5, 3e-5, 4e-5, 5e-5,
        6e-5, 8e-5, 1e-4, 1.2e-4, 1.5e-4, 2e-4, 3e-4,   5e-4, 1e-3,   2e-3, 1e-2, 1e-1,
    };
    *histogram = (struct tsr_histogram){
        .bounds = bounds,
        .n_bounds = sizeof bounds / sizeof *bounds,
    };
}

/* ---- Samples ---- */

static void write_head(struct tsr_out *out, const char *prefix, const char *name, const char *help,
                       const char *type)
{
    tsr_out_format(out, "# HELP %s%s %s\n# TYPE %s%s %s\n", prefix, name, help, prefix, name, type);
}

/* The name with its labels, and a space. */
static void write_name(struct tsr_out *out, const char *prefix, const char *name,
                       const char *suffix, const char *labels, const char *more)
{
    bool any = (labels && *labels) || *more;
    tsr_out_text(out, prefix);
    tsr_out_text(out, name);
    tsr_out_text(out, suffix);
    tsr_out_text(out, any ? "{" : "");
    tsr_out_text(out, labels ? labels : "");
    tsr_out_text(out, labels && *labels && *more ? "," : "");
    tsr_out_text(out, more);
    tsr_out_text(out, any ? "} " : " ");
}

static void write_uint(struct tsr_out *out, const char *prefix, const char *name,
                       const char *labels, const char *more, uint64_t value)
{
    write_name(out, prefix, name, "", labels, more);
    tsr_out_uint(out, value);
    tsr_out_text(out, "\n");
}

static void write_double(struct tsr_out *out, const char *prefix, const char *name,
                         const char *suffix, const char *labels, double value)
{
    write_name(out, prefix, name, suffix, labels, "");
    tsr_out_double(out, value);
    tsr_out_text(out, "\n");
}

static void write_histogram(struct tsr_out *out, const char *prefix, const char *name,
                            const char *labels, const struct tsr_histogram *histogram)
{
    uint64_t count = 0;
    char le[48];
    for (uint32_t i = 0; i <= histogram->n_bounds; i++) {
        count += histogram->counts[i];
        if (i < histogram->n_bounds) {
            (void)snprintf(le, sizeof le, "le=\"%.12g\"", histogram->bounds[i]);
        } else {
            (void)snprintf(le, sizeof le, "le=\"+Inf\"");
        }
        write_name(out, prefix, name, "_bucket", labels, le);
        tsr_out_uint(out, count);
        tsr_out_text(out, "\n");
    }
    write_double(out, prefix, name, "_sum", labels, histogram->sum);
    write_name(out, prefix, name, "_count", labels, "");
    tsr_out_uint(out, count);
    tsr_out_text(out, "\n");
}

/* ---- Of all threads ---- */

static void add_histogram(struct tsr_histogram *sum, const struct tsr_histogram *more)
{
    double seconds;
    __atomic_load(&more->sum, &seconds, __ATOMIC_RELAXED);
    sum->bounds = more->bounds;
    sum->n_bounds = more->n_bounds;
    sum->sum += seconds;
    for (uint32_t i = 0; i <= more->n_bounds; i++) {
        sum->counts[i] += api_load(&more->counts[i]);
    }
}

/* ---- What STATUS says ---- */

struct engine_figures {
    const struct tsr_api *api;
    const struct api_engine *engine; /* of the api */
    struct tsr_wire_status status;
    struct tsr_wire_status_counters counters;
    const struct tsr_wire_status_node *nodes; /* [status.node_count] */
};

/* A record that was checked for nothing but its size. */
static void read_status(const struct tsr_api *api, uint32_t index, struct engine_figures *figures)
{
    const struct api_engine *engine = &api->engines[index];
    const struct api_status *status = &engine->status;
    struct tsr_wire_status *s = &figures->status;
    *figures = (struct engine_figures){.api = api, .engine = engine};
    if (!status->bytes) {
        return;
    }
    memcpy(s, status->record, sizeof *s);
    size_t at = sizeof *s + s->node_count * sizeof *figures->nodes +
                (size_t)s->thread_count * sizeof(struct tsr_wire_status_thread) +
                (size_t)s->request_count * sizeof(struct tsr_wire_status_request);
    if (s->node_count > TSR_WIRE_STATUS_NODES_MAX || at > status->bytes) {
        s->node_count = 0;
        return;
    }
    figures->nodes = (const void *)(status->record + sizeof *s);
    size_t bytes = s->counters_bytes;
    bytes = bytes < status->bytes - at ? bytes : status->bytes - at;
    memcpy(&figures->counters, status->record + at,
           bytes < sizeof figures->counters ? bytes : sizeof figures->counters);
}

/* ---- Families: one name, a sample or more for each engine ---- */

struct family {
    const char *name;
    const char *help;
    const char *type;
    bool vllm; /* also under vLLM's name */
    void (*write)(const struct engine_figures *f, const char *prefix, const char *name,
                  struct tsr_out *out);
};

#define UINT_FAMILY(function, expression)                                                          \
    static void function(const struct engine_figures *f, const char *prefix, const char *name,     \
                         struct tsr_out *out)                                                      \
    {                                                                                              \
        write_uint(out, prefix, name, f->engine->label, "", (expression));                         \
    }

#define HISTOGRAM_FAMILY(function, member)                                                         \
    static void function(const struct engine_figures *f, const char *prefix, const char *name,     \
                         struct tsr_out *out)                                                      \
    {                                                                                              \
        struct tsr_histogram sum = {0};                                                            \
        for (const struct tsr_api *t = f->api->first->threads; t; t = t->next_thread) {            \
            add_histogram(&sum, &t->engines[f->engine->index].observed.member);                    \
        }                                                                                          \
        write_histogram(out, prefix, name, f->engine->label, &sum);                                \
    }

static uint64_t sending(const struct engine_figures *f)
{
    uint64_t sum = 0;
    for (const struct tsr_api *t = f->api->first->threads; t; t = t->next_thread) {
        sum += __atomic_load_n(&t->engines[f->engine->index].n_sending, __ATOMIC_RELAXED);
    }
    return sum;
}

UINT_FAMILY(put_prompt, f->status.prompt_tokens)
UINT_FAMILY(put_generation, f->status.completion_tokens)
UINT_FAMILY(put_cached, f->counters.cached_tokens)
UINT_FAMILY(put_running, f->status.requests_running)
UINT_FAMILY(put_waiting, f->status.requests_waiting + sending(f))
UINT_FAMILY(put_parked, f->status.requests_parked)
UINT_FAMILY(put_weights, f->engine->hello.weights_bytes)
UINT_FAMILY(put_kv, f->status.kv_bytes)
UINT_FAMILY(put_up, f->engine->connected)
HISTOGRAM_FAMILY(put_first_token, first_token)
HISTOGRAM_FAMILY(put_inter_token, inter_token)
HISTOGRAM_FAMILY(put_latency, latency)
HISTOGRAM_FAMILY(put_queue, queue)
HISTOGRAM_FAMILY(put_prefill, prefill)
HISTOGRAM_FAMILY(put_decode, decode)
HISTOGRAM_FAMILY(put_prompt_tokens, prompt_tokens)
HISTOGRAM_FAMILY(put_generation_tokens, generation_tokens)

static void put_kv_usage(const struct engine_figures *f, const char *prefix, const char *name,
                         struct tsr_out *out)
{
    double all = (double)f->status.kv_bytes;
    write_double(out, prefix, name, "", f->engine->label,
                 all > 0 ? (double)f->status.kv_used_bytes / all : 0);
}

static void put_success(const struct engine_figures *f, const char *prefix, const char *name,
                        struct tsr_out *out)
{
    const uint64_t *ended = f->counters.requests_ended;
    const struct {
        const char *label;
        uint64_t count;
    } reasons[] = {
        {"finished_reason=\"stop\"", ended[TSR_REASON_END] + ended[TSR_REASON_STOP]},
        {"finished_reason=\"length\"", ended[TSR_REASON_LENGTH]},
        {"finished_reason=\"abort\"",
         ended[TSR_REASON_CANCELLED] + ended[TSR_REASON_DEADLINE] + ended[TSR_REASON_PARKED]},
        {"finished_reason=\"error\"", ended[TSR_REASON_ERROR] + ended[TSR_REASON_SHUTDOWN]},
    };
    for (size_t i = 0; i < sizeof reasons / sizeof reasons[0]; i++) {
        write_uint(out, prefix, name, f->engine->label, reasons[i].label, reasons[i].count);
    }
}

static void put_memory(const struct engine_figures *f, const char *prefix, const char *name,
                       struct tsr_out *out)
{
    for (uint32_t i = 0; i < f->status.node_count; i++) {
        const struct tsr_wire_status_node *node = &f->nodes[i];
        const struct {
            const char *page;
            uint64_t bytes;
        } pages[] = {{"1G", node->bytes_1g},
                     {"2M", node->bytes_2m},
                     {"thp", node->bytes_thp},
                     {"4K", node->bytes_4k}};
        for (size_t k = 0; k < sizeof pages / sizeof pages[0]; k++) {
            char labels[48];
            (void)snprintf(labels, sizeof labels, "node=\"%u\",page=\"%s\"", node->node,
                           pages[k].page);
            write_uint(out, prefix, name, f->engine->label, labels, pages[k].bytes);
        }
    }
}

static void put_misplaced(const struct engine_figures *f, const char *prefix, const char *name,
                          struct tsr_out *out)
{
    for (uint32_t i = 0; i < f->status.node_count; i++) {
        char labels[32];
        (void)snprintf(labels, sizeof labels, "node=\"%u\"", f->nodes[i].node);
        write_uint(out, prefix, name, f->engine->label, labels, f->nodes[i].misplaced_bytes);
    }
}

static const struct family families[] = {
    {"prompt_tokens_total", "Prompt tokens the engine has taken.", "counter", true, put_prompt},
    {"generation_tokens_total", "Tokens the engine has made.", "counter", true, put_generation},
    {"prompt_tokens_cached_total", "Prompt tokens that were not computed anew.", "counter", true,
     put_cached},
    {"request_success_total", "Requests that ended, by reason.", "counter", true, put_success},
    {"num_requests_running", "Requests in the engine's steps.", "gauge", true, put_running},
    {"num_requests_waiting", "Requests that wait, at the door too.", "gauge", true, put_waiting},
    {"num_requests_parked", "Requests whose reader is behind.", "gauge", false, put_parked},
    {"kv_cache_usage_perc", "Part of the KV cache in use; 1 is all.", "gauge", true, put_kv_usage},
    {"time_to_first_token_seconds", "From the request's head to its first token.", "histogram",
     true, put_first_token},
    {"inter_token_latency_seconds", "From a token to the next.", "histogram", true,
     put_inter_token},
    {"e2e_request_latency_seconds", "From the request's head to its end.", "histogram", true,
     put_latency},
    {"request_queue_time_seconds", "From the engine's pick-up to the first step.", "histogram",
     true, put_queue},
    {"request_prefill_time_seconds", "From the first step to the first token.", "histogram", true,
     put_prefill},
    {"request_decode_time_seconds", "From the first token to the last.", "histogram", true,
     put_decode},
    {"request_prompt_tokens", "Prompt tokens of a request.", "histogram", true, put_prompt_tokens},
    {"request_generation_tokens", "Tokens made for a request.", "histogram", true,
     put_generation_tokens},
    {"memory_bytes", "The engine's memory by node and size of page.", "gauge", false, put_memory},
    {"memory_misplaced_bytes", "Of it, on another node than asked for.", "gauge", false,
     put_misplaced},
    {"weights_bytes", "The model's weights.", "gauge", false, put_weights},
    {"kv_bytes", "The KV cache.", "gauge", false, put_kv},
    {"engine_up", "1 while the door is connected to the engine.", "gauge", false, put_up},
};

static void write_families(const char *prefix, bool vllm, const struct engine_figures *figures,
                           uint32_t n, struct tsr_out *out)
{
    for (size_t i = 0; i < sizeof families / sizeof families[0]; i++) {
        const struct family *family = &families[i];
        if (vllm && !family->vllm) {
            continue;
        }
        write_head(out, prefix, family->name, family->help, family->type);
        for (uint32_t k = 0; k < n; k++) {
            family->write(&figures[k], prefix, family->name, out);
        }
    }
    if (vllm) {
        static const char old[] = "gpu_cache_usage_perc"; /* until vLLM 0.10 */
        write_head(out, prefix, old, "The same as kv_cache_usage_perc.", "gauge");
        for (uint32_t k = 0; k < n; k++) {
            put_kv_usage(&figures[k], prefix, old, out);
        }
    }
}

/* ---- The door's ---- */

static void write_requests(const struct tsr_api *api, struct tsr_out *out)
{
    static const char name[] = "door_requests_total";
    const char *path;
    unsigned status;
    uint64_t count;
    write_head(out, "tessera:", name, "Requests answered, by path and status.", "counter");
    for (uint32_t i = 0; api_route_counted(api, i, &path, &status, &count); i++) {
        if (count) {
            char labels[96];
            (void)snprintf(labels, sizeof labels, "code=\"%u\",path=\"%s\"", status, path);
            write_uint(out, "tessera:", name, "", labels, count);
        }
    }
}

/* Each thread has added the same figures. */
static void write_figure(const struct tsr_api *api, uint32_t i, struct tsr_out *out)
{
    const struct tsr_figure *f = &api->figures[i];
    struct tsr_histogram histogram = {0};
    uint64_t sum = 0;
    for (const struct tsr_api *t = api->first->threads; t; t = t->next_thread) {
        if (f->kind == TSR_FIGURE_HISTOGRAM) {
            add_histogram(&histogram, t->figures[i].value);
        } else {
            sum += api_load(t->figures[i].value);
        }
    }
    if (f->kind == TSR_FIGURE_HISTOGRAM) {
        write_histogram(out, "", f->name, f->labels, &histogram);
    } else {
        write_uint(out, "", f->name, f->labels, "", sum);
    }
}

static void write_door(const struct tsr_api *api, struct tsr_out *out)
{
    static const char *const types[] = {"counter", "gauge", "histogram"};
    for (uint32_t i = 0; i < api->n_figures; i++) {
        const struct tsr_figure *f = &api->figures[i];
        if (i == 0 || strcmp(f->name, api->figures[i - 1].name) != 0) {
            write_head(out, "", f->name, f->help, types[f->kind]);
        }
        write_figure(api, i, out);
    }
}

/* ---- The answer ---- */

static void answer(struct tsr_api_exchange *x)
{
    struct tsr_api *api = x->api;
    struct tsr_out *out = api_whole(api);
    struct engine_figures figures[TSR_API_ENGINES_MAX];
    uint32_t n = 0;
    for (uint32_t i = 0; i < api->options.n_engines; i++) {
        if (api->engines[i].known) {
            read_status(api, i, &figures[n++]);
        }
    }
    write_families("tessera:", false, figures, n, out);
    if (api->options.vllm_names) {
        write_families("vllm:", true, figures, n, out);
    }
    write_requests(api, out);
    write_door(api, out);
    api_answer(x, 200, "text/plain; version=0.0.4; charset=utf-8", out->bytes, out->size);
}

static bool any_waits(const struct tsr_api *api)
{
    for (uint32_t i = 0; i < api->options.n_engines; i++) {
        if (api->engines[i].status.waits) {
            return true;
        }
    }
    return false;
}

void api_metrics(struct tsr_api_exchange *x, const char *rest, size_t size)
{
    (void)rest;
    (void)size;
    struct tsr_api *api = x->api;
    for (uint32_t i = 0; i < api->options.n_engines; i++) {
        api_engine_ask_status(&api->engines[i], api->now_ns);
    }
    if (!any_waits(api)) {
        answer(x);
        return;
    }
    x->next = api->waiting;
    api->waiting = x;
}

static uint64_t until_ns(const struct tsr_api_exchange *x)
{
    return x->begun_ns + WAIT_MS * UINT64_C(1000000);
}

void api_metrics_step(struct tsr_api *api)
{
    bool waits = any_waits(api);
    struct tsr_api_exchange *next;
    for (struct tsr_api_exchange *x = api->waiting; x; x = next) {
        next = x->next;
        if (!waits || api->now_ns >= until_ns(x)) {
            answer(x);
        }
    }
}

uint64_t api_metrics_wake_ns(const struct tsr_api *api)
{
    uint64_t wake_ns = UINT64_MAX;
    for (const struct tsr_api_exchange *x = api->waiting; x; x = x->next) {
        wake_ns = until_ns(x) < wake_ns ? until_ns(x) : wake_ns;
    }
    return wake_ns;
}
