#include "engine_priv.h"
#include "route_priv.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/random.h>
#include <unistd.h>

#include <tsr/shm/log.h>

enum { BEHIND_MS = 1, BUFFER_ALIGN = 64 };

/* ---- Making ---- */

void tsr_api_options_init(struct tsr_api_options *options)
{
    *options = (struct tsr_api_options){
        .exchanges_max = 4096,
        .body_bytes_max = 8 << 20,
        .bodies_bytes_max = 256 << 20,
        .credit_tokens = 64,
    };
}

static int check_options(const struct tsr_api_options *o, struct tsr_err *err)
{
    if (o->n_engines == 0 || o->n_engines > TSR_API_ENGINES_MAX) {
        return tsr_err_set(err, -EINVAL, "1 to %d engines can stand behind a door, not %u",
                           TSR_API_ENGINES_MAX, o->n_engines);
    }
    if (o->exchanges_max == 0 || o->exchanges_max > 1 << 20) {
        return tsr_err_set(err, -EINVAL, "1 to %d requests at once, not %u", 1 << 20,
                           o->exchanges_max);
    }
    if (o->body_bytes_max == 0 || o->body_bytes_max > 1 << 30 ||
        o->bodies_bytes_max < o->body_bytes_max) {
        return tsr_err_set(err, -EINVAL,
                           "a body of at most %llu bytes and %llu for all: one to 2^30, and not "
                           "less for all than for one",
                           (unsigned long long)o->body_bytes_max,
                           (unsigned long long)o->bodies_bytes_max);
    }
    if (o->credit_tokens == 0 || o->credit_tokens > 1 << 20) {
        return tsr_err_set(err, -EINVAL, "credit ahead of the reader is 1 to %d tokens, not %u",
                           1 << 20, o->credit_tokens);
    }
    return 0;
}

static int make_lists(struct tsr_api *api)
{
    uint32_t n = api->options.exchanges_max, n_asks = n + API_SPARE_ASKS;
    size_t room = (tsr_split_bytes() + BUFFER_ALIGN - 1) / BUFFER_ALIGN * BUFFER_ALIGN;
    api->exchanges = calloc(n, sizeof *api->exchanges);
    api->asks = calloc(n_asks, sizeof *api->asks);
    api->splits = aligned_alloc(BUFFER_ALIGN, room * n_asks);
    char *scratch = malloc(API_SCRATCH_BYTES);
    tsr_out_init(&api->scratch, scratch, API_SCRATCH_BYTES);
    tsr_out_init_growing(&api->whole, API_ANSWER_BYTES_MAX);
    if (!api->exchanges || !api->asks || !api->splits || !scratch) {
        return -ENOMEM;
    }
    for (uint32_t i = n; i > 0; i--) {
        api->exchanges[i - 1].next = api->free_exchanges;
        api->free_exchanges = &api->exchanges[i - 1];
    }
    api->asks_each = n_asks / 2 / api->options.n_engines;
    api->asks_common = n_asks - api->asks_each * api->options.n_engines;
    for (uint32_t i = n_asks; i > 0; i--) {
        struct api_ask *ask = &api->asks[i - 1];
        ask->room = (char *)api->splits + (i - 1) * room;
        for (int k = 0; k < API_OUTS; k++) {
            tsr_out_init_growing(&ask->outs[k], API_ANSWER_BYTES_MAX);
        }
        ask->next = api->free_asks;
        api->free_asks = ask;
    }
    return 0;
}

/* A reader for a request's body; those at rest are kept in n_readers. */
static struct tsr_json *make_reader(struct tsr_api *api, struct tsr_err *err)
{
    const struct tsr_json_limits limits = {
        .depth_max = 64,
        .values_max = 1 << 18,
        .bytes_max = api->options.body_bytes_max,
    };
    struct tsr_json *json = NULL;
    return tsr_json_create(&json, &limits, err) == 0 ? json : NULL;
}

/* The options' own strings and lists may go away: they are copied. */
static int copy_options(struct tsr_api *api)
{
    struct tsr_api_options *o = &api->options;
    const char **hosts = calloc(o->n_hosts + o->n_origins + 1, sizeof *hosts);
    bool ok = hosts != NULL;
    for (uint32_t i = 0; ok && i < o->n_hosts; i++) {
        ok = (hosts[i] = strdup(o->hosts[i])) != NULL;
    }
    for (uint32_t i = 0; ok && i < o->n_origins; i++) {
        ok = (hosts[o->n_hosts + i] = strdup(o->origins[i])) != NULL;
    }
    for (uint32_t i = 0; i < o->n_engines; i++) {
        o->engines[i] = strdup(o->engines[i]);
        ok &= o->engines[i] != NULL;
    }
    o->keys_path = o->keys_path ? strdup(o->keys_path) : NULL;
    o->page_policy = o->page_policy ? strdup(o->page_policy) : NULL;
    api->names = hosts;
    o->hosts = hosts;
    o->origins = hosts ? hosts + o->n_hosts : NULL;
    return ok ? 0 : -ENOMEM;
}

static void free_options(struct tsr_api *api)
{
    struct tsr_api_options *o = &api->options;
    for (uint32_t i = 0; api->names && i < o->n_hosts + o->n_origins; i++) {
        free((char *)api->names[i]);
    }
    free(api->names);
    for (uint32_t i = 0; i < o->n_engines; i++) {
        free((char *)o->engines[i]);
    }
    free((char *)o->keys_path);
    free((char *)o->page_policy);
}

static int make_engines(struct tsr_api *api, struct tsr_err *err)
{
    api->engines = calloc(api->options.n_engines, sizeof *api->engines);
    if (!api->engines) {
        return tsr_err_set(err, -ENOMEM, "no memory for %u engines", api->options.n_engines);
    }
    for (uint32_t i = 0; i < api->options.n_engines; i++) {
        api_engine_init(&api->engines[i], api, i, api->options.engines[i]);
    }
    api->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (api->wake_fd < 0) {
        return tsr_err_set(err, -errno, "cannot create an eventfd: %s", strerror(errno));
    }
    return api_connector_create(&api->connector, api, err);
}

int tsr_api_create(struct tsr_api **out, const struct tsr_api_options *options, struct tsr_err *err)
{
    int rc = check_options(options, err);
    if (rc < 0) {
        return rc;
    }
    struct tsr_api *api = calloc(1, sizeof *api);
    if (!api) {
        return tsr_err_set(err, -ENOMEM, "no memory for the API");
    }
    api->options = *options;
    api->wake_fd = -1;
    api->due_ns = UINT64_MAX;
    rc = copy_options(api);
    if (rc == 0) {
        rc = make_lists(api);
    }
    if (rc < 0) {
        tsr_err_set(err, rc, "no memory for %u requests at once", options->exchanges_max);
    }
    if (rc == 0) {
        api->inner = make_reader(api, err);
        rc = api->inner ? 0 : -ENOMEM;
    }
    if (rc == 0 && api->options.keys_path) {
        rc = tsr_keys_open(&api->keys, api->options.keys_path,
                           options->first ? options->first->keys : NULL, err);
    }
    if (rc == 0 && getrandom(api->random, sizeof api->random, 0) != sizeof api->random) {
        api->random[0] = (uint64_t)getpid();
    }
    api->random[1] |= 1;
    if (rc == 0) {
        rc = make_engines(api, err);
    }
    if (rc < 0) {
        tsr_api_destroy(api);
        return rc;
    }
    api->first = options->first ? options->first : api;
    api->next_thread = api->first->threads;
    api->first->threads = api;
    *out = api;
    return 0;
}

void tsr_api_destroy(struct tsr_api *api)
{
    if (!api) {
        return;
    }
    api_connector_destroy(api->connector);
    for (uint32_t i = 0; api->engines && i < api->options.n_engines; i++) {
        api_engine_fini(&api->engines[i]);
    }
    for (uint32_t i = 0; api->asks && i < api->options.exchanges_max + API_SPARE_ASKS; i++) {
        for (int k = 0; k < API_OUTS; k++) {
            tsr_out_fini(&api->asks[i].outs[k]);
        }
    }
    for (uint32_t i = 0; i < api->n_readers; i++) {
        tsr_json_destroy(api->readers[i]);
    }
    if (api->inner) {
        tsr_json_destroy(api->inner);
    }
    tsr_keys_close(api->keys);
    if (api->wake_fd >= 0) {
        close(api->wake_fd);
    }
    free(api->scratch.bytes);
    tsr_out_fini(&api->whole);
    free(api->engines);
    free(api->exchanges);
    free(api->asks);
    free(api->splits);
    free_options(api);
    free(api);
}

int tsr_api_reload(struct tsr_api *api, struct tsr_err *err)
{
    return api->keys ? tsr_keys_reload(api->keys, err) : 0;
}

/* The file may change while it runs. */
static void poll_keys(struct tsr_api *api)
{
    struct tsr_err err = {0};
    int rc = api->keys ? tsr_keys_poll(api->keys, api->now_ns, &err) : 0;
    if (rc < 0) {
        tsr_log(TSR_LOG_ERROR, "%s: the keys read before stay", err.text);
    } else if (rc > 0) {
        tsr_log(TSR_LOG_INFO, "%s: read again", api->options.keys_path);
    }
}

void tsr_api_drain(struct tsr_api *api)
{
    api->draining = true;
}

uint32_t tsr_api_open(const struct tsr_api *api)
{
    return api->open;
}

bool api_engines_connected(const struct tsr_api *api)
{
    for (uint32_t i = 0; i < api->options.n_engines; i++) {
        if (api->engines[i].connected) {
            return true;
        }
    }
    return false;
}

/* ---- Requests ---- */

/* What needs no exchange: answered as fast as can be, and also when the house is full. */
static bool answer_at_once(const struct tsr_api_door *door, void *stream,
                           const struct tsr_api_request *request)
{
    static const struct tsr_api_answer healthy = {
        .status = 200, .content_type = "text/plain; charset=utf-8", .body_bytes = 3};
    if (request->path.size != 7 || memcmp(request->path.bytes, "/health", 7) != 0 ||
        api_method_of(&request->method) != API_GET) {
        return false;
    }
    door->head(stream, &healthy);
    door->body(stream, "ok\n", 3, 0);
    door->end(stream);
    return true;
}

static void refuse_without_exchange(const struct tsr_api_door *door, void *stream)
{
    static const char text[] =
        "{\"error\":{\"message\":\"there are too many requests at once: try again\",\"type\":"
        "\"server_error\",\"param\":null,\"code\":\"overloaded\"}}";
    static const struct tsr_api_header retry = {{"retry-after", 11}, {"1", 1}};
    const struct tsr_api_answer answer = {.status = 503,
                                          .content_type = "application/json",
                                          .body_bytes = sizeof text - 1,
                                          .headers = &retry,
                                          .n_headers = 1};
    door->head(stream, &answer);
    door->body(stream, text, sizeof text - 1, 0);
    door->end(stream);
}

static void check_route(const struct tsr_api_exchange *x, const struct tsr_api_request *request,
                        enum api_method method, struct api_problem *problem)
{
    const struct api_route *route = x->route;
    if (!route) {
        api_problem_set(problem, 404, "invalid_request_error", "not_found", NULL,
                        "there is no '%.*s' here; the API is under /v1",
                        request->path.size < 100 ? (int)request->path.size : 100,
                        request->path.bytes);
    } else if ((method == API_GET && !route->get) || (method == API_POST && !route->post) ||
               method == API_OTHER) {
        api_problem_set(problem, 405, "invalid_request_error", "method_not_allowed", NULL,
                        "'%s' is asked by %s, not by %.*s", route->path, route->allow,
                        request->method.size < 20 ? (int)request->method.size : 20,
                        request->method.bytes);
        problem->allow = route->allow;
    } else if (method == API_POST && x->api->draining) {
        api_problem_set(problem, 503, "server_error", "shutting_down", NULL,
                        "this server is shutting down");
        problem->retry_s = 2;
    }
}

static struct tsr_json *take_reader(struct tsr_api *api, struct api_problem *problem)
{
    struct tsr_err err;
    struct tsr_json *json =
        api->n_readers ? api->readers[--api->n_readers] : make_reader(api, &err);
    if (!json) {
        api_problem_set(problem, 503, "server_error", "overloaded", NULL,
                        "there is no memory to read the request: try again");
        problem->retry_s = 1;
    }
    return json;
}

struct tsr_api_exchange *tsr_api_begin(struct tsr_api *api, const struct tsr_api_door *door,
                                       void *stream, const struct tsr_api_request *request,
                                       uint64_t now_ns)
{
    api->now_ns = now_ns;
    poll_keys(api);
    if (answer_at_once(door, stream, request)) {
        ++*api_route_counter(api, api_route_health(), 200);
        return NULL;
    }
    struct tsr_api_exchange *x = api_exchange_take(api, door, stream, now_ns);
    if (!x) {
        refuse_without_exchange(door, stream);
        return NULL;
    }
    struct api_problem problem = {0};
    struct tsr_api_text rest;
    enum api_method method = api_method_of(&request->method);
    x->route = api_route_find(&request->path, &rest);
    if (method == API_OPTIONS) {
        if (api_guard(x, request, method, &problem)) {
            api_guard_options(x, request);
        } else {
            api_refuse(x, &problem);
        }
        return NULL;
    }
    if (api_guard(x, request, method, &problem)) {
        check_route(x, request, method, &problem);
    }
    if (!problem.status && method == API_POST) {
        x->json = take_reader(api, &problem);
    }
    if (problem.status) {
        api_refuse(x, &problem);
        return NULL;
    }
    if (method == API_POST) {
        api_exchange_due(x);
        return x;
    }
    uint64_t serial = x->serial;
    x->route->get(x, rest.bytes, rest.size);
    return x->in_use && x->serial == serial ? x : NULL;
}

static void bad_json(int rc, const struct tsr_err *err, struct api_problem *problem)
{
    if (rc == -ENOMEM) {
        api_problem_set(problem, 503, "server_error", "overloaded", NULL,
                        "there is no memory to read the request: try again");
        problem->retry_s = 1;
    } else {
        api_problem_set(problem, 400, "invalid_request_error", "invalid_json", NULL,
                        "the body is not JSON as it must be: %s", err->text);
    }
}

bool tsr_api_body(struct tsr_api_exchange *x, const void *bytes, size_t size, uint64_t now_ns)
{
    struct api_problem problem = {0};
    struct tsr_err err = {0};
    x->api->now_ns = now_ns;
    if (!x->json) {
        return true; /* its answer is under way, or waits for figures */
    }
    x->json_got += size;
    if (x->json_got > x->api->options.body_bytes_max) {
        api_problem_set(&problem, 413, "invalid_request_error", "request_too_large", NULL,
                        "the body has more than %llu bytes",
                        (unsigned long long)x->api->options.body_bytes_max);
    } else {
        int rc = tsr_json_feed(x->json, bytes, size, &err);
        if (rc < 0) {
            bad_json(rc, &err, &problem);
        } else {
            api_account(x, &problem);
        }
    }
    if (problem.status) {
        api_refuse(x, &problem);
        return false;
    }
    return true;
}

bool tsr_api_body_end(struct tsr_api_exchange *x, uint64_t now_ns)
{
    struct api_problem problem = {0};
    struct tsr_err err = {0};
    x->api->now_ns = now_ns;
    if (!x->json) {
        return true;
    }
    int rc = tsr_json_end(x->json, &err);
    if (rc < 0) {
        bad_json(rc, &err, &problem);
        api_refuse(x, &problem);
        return false;
    }
    uint64_t serial = x->serial;
    x->route->post(x);
    if (!x->in_use || x->serial != serial) {
        return false;
    }
    api_read_end(x);
    if (!api_account(x, &problem)) {
        api_refuse(x, &problem);
        return false;
    }
    return true;
}

void tsr_api_sent(struct tsr_api_exchange *x, uint64_t held_bytes, uint64_t now_ns)
{
    x->api->now_ns = now_ns;
    x->held_bytes = held_bytes;
    if (held_bytes <= API_HELD_BYTES) {
        api_ask_grant(x);
    }
}

void tsr_api_cancel(struct tsr_api_exchange *x)
{
    api_forget(x);
}

/* ---- The loop ---- */

/* Engines end what is late, too; but they count from when they pick a request up, and one that has
 * stopped ends nothing. */
static void end_late(struct tsr_api *api)
{
    struct tsr_api_exchange *next;
    if (api->now_ns < api->due_ns) {
        return;
    }
    api->due_ns = UINT64_MAX;
    for (struct tsr_api_exchange *x = api->due; x; x = next) {
        struct api_problem problem = {0};
        next = x->due_next;
        if (x->due_ns <= api->now_ns) {
            api_problem_late(&problem);
            api_fail(x, &problem);
        } else if (x->due_ns < api->due_ns) {
            api->due_ns = x->due_ns;
        }
    }
}

uint32_t tsr_api_step(struct tsr_api *api, uint64_t now_ns)
{
    uint32_t n = 0;
    eventfd_t count;
    api->now_ns = now_ns;
    /* A0: a link is ready; pairs with R0 in the connector. */
    if (atomic_load_explicit(&api->links_ready, memory_order_acquire)) {
        atomic_store_explicit(&api->links_ready, false, memory_order_relaxed);
        (void)eventfd_read(api->wake_fd, &count);
        api_connector_take(api->connector);
    }
    for (uint32_t i = 0; i < api->options.n_engines; i++) {
        n += api_engine_take(&api->engines[i], now_ns);
    }
    if (api->waiting) {
        api_metrics_step(api);
    }
    end_late(api);
    poll_keys(api);
    return n;
}

uint32_t tsr_api_flush(struct tsr_api *api)
{
    uint32_t calls = 0;
    for (uint32_t i = 0; i < api->options.n_engines; i++) {
        calls += api_engine_pump(&api->engines[i]);
    }
    return calls;
}

uint32_t tsr_api_fds(const struct tsr_api *api, int fds[TSR_API_FDS_MAX])
{
    uint32_t n = 0;
    for (; n < api->options.n_engines; n++) {
        fds[n] = api->engines[n].connected ? api->engines[n].link.fd : -1;
    }
    fds[n] = api->wake_fd;
    return n + 1;
}

uint64_t tsr_api_wake_ns(const struct tsr_api *api)
{
    uint64_t wake_ns = UINT64_MAX;
    for (uint32_t i = 0; i < api->options.n_engines; i++) {
        if (api_engine_is_behind(&api->engines[i])) {
            wake_ns = api->now_ns + BEHIND_MS * UINT64_C(1000000);
        }
    }
    wake_ns = api->due_ns < wake_ns ? api->due_ns : wake_ns;
    uint64_t metrics_ns = api_metrics_wake_ns(api);
    return metrics_ns < wake_ns ? metrics_ns : wake_ns;
}

bool tsr_api_arm(struct tsr_api *api)
{
    bool may = !atomic_load_explicit(&api->links_ready, memory_order_acquire);
    for (uint32_t i = 0; i < api->options.n_engines; i++) {
        if (api->engines[i].connected) {
            may &= tsr_link_arm(&api->engines[i].link) && !api->engines[i].link.lost.code;
        }
    }
    return may;
}

void tsr_api_disarm(struct tsr_api *api)
{
    for (uint32_t i = 0; i < api->options.n_engines; i++) {
        if (api->engines[i].connected) {
            (void)tsr_link_disarm(&api->engines[i].link); /* a loss shows in the next step */
        }
    }
}

bool tsr_api_may_poll(const struct tsr_api *api)
{
    for (uint32_t i = 0; i < api->options.n_engines; i++) {
        if (api->engines[i].connected && !tsr_link_may_poll(&api->engines[i].link)) {
            return false;
        }
    }
    return true;
}
