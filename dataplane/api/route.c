#include "route_priv.h"

#include <string.h>

static void get_health(struct tsr_api_exchange *x, const char *rest, size_t size);
static void get_ready(struct tsr_api_exchange *x, const char *rest, size_t size);
static void get_page(struct tsr_api_exchange *x, const char *rest, size_t size);

#define GETS  "GET, HEAD, OPTIONS"
#define POSTS "POST, OPTIONS"

static const struct api_route routes[] = {
    {"/health", .is_free = true, .get = get_health, .allow = GETS},
    {"/ready", .is_free = true, .get = get_ready, .allow = GETS},
    {"/", .is_free = true, .get = get_page, .allow = GETS},
    {"/metrics", .get = api_metrics, .allow = GETS},
    {"/v1/models", .get = api_models_list, .allow = GETS},
    {"/v1/models/", .is_prefix = true, .get = api_models_one, .allow = GETS},
    {"/v1/chat/completions", .post = api_chat, .allow = POSTS},
    {"/v1/responses", .post = api_responses, .allow = POSTS},
    {"/v1/completions", .post = api_completions, .allow = POSTS},
    {"/v1/embeddings", .post = api_embeddings, .allow = POSTS},
    {"/tokenize", .post = api_tokenize, .allow = POSTS},
    {"/detokenize", .post = api_detokenize, .allow = POSTS},
    {"/apply-template", .post = api_apply_template, .allow = POSTS},
};

enum { N_ROUTES = sizeof routes / sizeof routes[0] };
static_assert((int)N_ROUTES < (int)API_ROUTES_MAX, "the last row counts paths that there are not");

static const unsigned statuses[] = {200, 204, 400, 401, 403, 404, 405, 408,
                                    413, 415, 429, 500, 501, 502, 503, 504};

enum { N_STATUSES = sizeof statuses / sizeof statuses[0] };
static_assert((int)N_STATUSES <= (int)API_STATUSES_MAX, "every status has its counter");

enum api_method api_method_of(const struct tsr_api_text *method)
{
    static const struct {
        const char *name;
        enum api_method method;
    } methods[] = {
        {"GET", API_GET}, {"HEAD", API_GET}, {"POST", API_POST}, {"OPTIONS", API_OPTIONS}};
    for (size_t i = 0; i < sizeof methods / sizeof methods[0]; i++) {
        if (strlen(methods[i].name) == method->size &&
            memcmp(methods[i].name, method->bytes, method->size) == 0) {
            return methods[i].method;
        }
    }
    return API_OTHER;
}

const struct api_route *api_route_find(const struct tsr_api_text *path, struct tsr_api_text *rest)
{
    *rest = (struct tsr_api_text){"", 0};
    for (size_t i = 0; i < N_ROUTES; i++) {
        size_t size = strlen(routes[i].path);
        if (path->size < size || memcmp(path->bytes, routes[i].path, size) != 0) {
            continue;
        }
        if (path->size == size && !routes[i].is_prefix) {
            return &routes[i];
        }
        if (path->size > size && routes[i].is_prefix) {
            *rest = (struct tsr_api_text){path->bytes + size, path->size - size};
            return &routes[i];
        }
    }
    return NULL;
}

const struct api_route *api_route_health(void)
{
    return &routes[0];
}

uint64_t *api_route_counter(struct tsr_api *api, const struct api_route *route, unsigned status)
{
    size_t row = route ? (size_t)(route - routes) : N_ROUTES;
    for (size_t i = 0; i < N_STATUSES; i++) {
        if (statuses[i] == status) {
            return &api->answered[row][i];
        }
    }
    return NULL;
}

bool api_route_counted(const struct tsr_api *api, uint32_t n, const char **path, unsigned *status,
                       uint64_t *count)
{
    size_t row = n / N_STATUSES;
    if (row > N_ROUTES) {
        return false;
    }
    *path = row < N_ROUTES ? routes[row].path : "other";
    *status = statuses[n % N_STATUSES];
    *count = 0;
    for (const struct tsr_api *t = api->first->threads; t; t = t->next_thread) {
        *count += api_load(&t->answered[row][n % N_STATUSES]);
    }
    return true;
}

/* ---- The small ones ---- */

static void get_health(struct tsr_api_exchange *x, const char *rest, size_t size)
{
    (void)rest;
    (void)size;
    api_answer(x, 200, "text/plain; charset=utf-8", "ok\n", 3);
}

static void get_ready(struct tsr_api_exchange *x, const char *rest, size_t size)
{
    (void)rest;
    (void)size;
    struct api_problem problem = {0};
    if (x->api->draining || !api_engines_connected(x->api)) {
        api_problem_set(&problem, 503, "server_error", "not_ready", NULL, "%s",
                        x->api->draining ? "this server is shutting down"
                                         : "no engine is connected yet");
        problem.retry_s = 2;
        api_refuse(x, &problem);
        return;
    }
    api_answer(x, 200, "text/plain; charset=utf-8", "ready\n", 6);
}

static void get_page(struct tsr_api_exchange *x, const char *rest, size_t size)
{
    (void)rest;
    (void)size;
    const struct tsr_api_options *options = &x->api->options;
    struct api_problem problem = {0};
    if (!options->page.size) {
        api_problem_set(&problem, 404, "invalid_request_error", "not_found", NULL,
                        "this server has no page; its API is under /v1");
        api_refuse(x, &problem);
        return;
    }
    struct tsr_api_header headers[4] = {
        {{"cache-control", 13}, {"no-cache", 8}},
        {{"x-content-type-options", 22}, {"nosniff", 7}},
        {{"referrer-policy", 15}, {"no-referrer", 11}},
    };
    uint32_t n = 3;
    if (options->page_policy) {
        headers[n++] = (struct tsr_api_header){
            {"content-security-policy", 23}, {options->page_policy, strlen(options->page_policy)}};
    }
    api_head(x, 200, "text/html; charset=utf-8", options->page.size, headers, n);
    api_lend(x, options->page.bytes, options->page.size);
    api_end(x);
}
