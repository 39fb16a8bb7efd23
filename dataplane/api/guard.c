#include "route_priv.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

struct tsr_api_text api_header(const struct tsr_api_request *request, const char *name)
{
    size_t size = strlen(name);
    for (uint32_t i = 0; i < request->n_headers; i++) {
        const struct tsr_api_header *h = &request->headers[i];
        if (h->name.size == size && memcmp(h->name.bytes, name, size) == 0) {
            return h->value;
        }
    }
    return (struct tsr_api_text){"", 0};
}

static bool same(struct tsr_api_text a, const char *b, size_t size)
{
    return a.size == size && strncasecmp(a.bytes, b, size) == 0;
}

/* ---- Host: a page that got itself a name for this box must not read its answers ---- */

/* Without its port; brackets of IPv6 stay. */
static struct tsr_api_text host_name(struct tsr_api_text host)
{
    if (!host.size) {
        return host; /* HTTP/1.0 needs none */
    }
    const char *end = host.bytes[0] == '[' ? memchr(host.bytes, ']', host.size) : NULL;
    if (end) {
        host.size = (size_t)(end - host.bytes) + 1;
        return host;
    }
    const char *colon = memchr(host.bytes, ':', host.size);
    if (colon) {
        host.size = (size_t)(colon - host.bytes);
    }
    return host;
}

static bool is_ipv4_loopback(struct tsr_api_text name)
{
    unsigned parts = 1, digits = 0;
    for (size_t i = 0; i < name.size; i++) {
        char c = name.bytes[i];
        if (c == '.' && digits) {
            parts++;
            digits = 0;
        } else if (c >= '0' && c <= '9' && digits < 3) {
            digits++;
        } else {
            return false;
        }
    }
    return parts == 4 && digits && name.size > 4 && memcmp(name.bytes, "127.", 4) == 0;
}

static bool is_own_host(const struct tsr_api *api, struct tsr_api_text host)
{
    struct tsr_api_text name = host_name(host);
    if (same(name, "localhost", 9) || same(name, "[::1]", 5) || is_ipv4_loopback(name)) {
        return true;
    }
    for (uint32_t i = 0; i < api->options.n_hosts; i++) {
        const char *own = api->options.hosts[i];
        if (same(name, own, strlen(own)) || same(host, own, strlen(own))) {
            return true;
        }
    }
    return false;
}

/* ---- Origin ---- */

static const char *named_origin(const struct tsr_api *api, struct tsr_api_text origin)
{
    for (uint32_t i = 0; i < api->options.n_origins; i++) {
        const char *own = api->options.origins[i];
        if (same(origin, own, strlen(own))) {
            return own;
        }
        if (strcmp(own, "*") == 0) {
            return "*";
        }
    }
    return NULL;
}

/* "http://box:8000" and Host "box:8000" */
static bool is_same_origin(struct tsr_api_text origin, struct tsr_api_text host)
{
    static const char *const schemes[] = {"http://", "https://"};
    for (int i = 0; i < 2; i++) {
        size_t size = strlen(schemes[i]);
        if (origin.size > size && strncasecmp(origin.bytes, schemes[i], size) == 0) {
            return same(host, origin.bytes + size, origin.size - size);
        }
    }
    return false;
}

/* ---- What else a head says ---- */

static bool is_json(struct tsr_api_text type)
{
    const char *end = memchr(type.bytes, ';', type.size);
    size_t size = end ? (size_t)(end - type.bytes) : type.size;
    while (size && (type.bytes[size - 1] == ' ' || type.bytes[size - 1] == '\t')) {
        size--;
    }
    type.size = size;
    return same(type, "application/json", 16) ||
           (size > 5 && strncasecmp(type.bytes + size - 5, "+json", 5) == 0);
}

static void read_uint(const struct tsr_api_request *request, const char *name, uint64_t max,
                      uint64_t *out, struct api_problem *problem)
{
    struct tsr_api_text text = api_header(request, name);
    uint64_t value = 0;
    if (!text.size) {
        return;
    }
    for (size_t i = 0; i < text.size; i++) {
        if (text.bytes[i] < '0' || text.bytes[i] > '9' || value > max) {
            value = max + 1;
            break;
        }
        value = value * 10 + (uint64_t)(text.bytes[i] - '0');
    }
    if (value > max) {
        api_problem_invalid(problem, name, "header '%s' must be a whole number from 0 to %llu",
                            name, (unsigned long long)max);
        return;
    }
    *out = value;
}

/* ---- Keys ---- */

static struct tsr_api_text secret_of(const struct tsr_api_request *request)
{
    static const char scheme[] = "Bearer ";
    struct tsr_api_text text = api_header(request, "authorization");
    if (text.size >= sizeof scheme - 1 && strncasecmp(text.bytes, scheme, sizeof scheme - 1) == 0) {
        text.bytes += sizeof scheme - 1;
        text.size -= sizeof scheme - 1;
        return text;
    }
    text = api_header(request, "api-key");
    return text.size ? text : api_header(request, "x-api-key");
}

static void check_key(struct tsr_api_exchange *x, const struct tsr_api_request *request,
                      enum api_method method, struct api_problem *problem)
{
    struct tsr_api *api = x->api;
    struct tsr_api_text secret = secret_of(request);
    if (!api->keys || method == API_OPTIONS || (x->route && x->route->is_free) || problem->status) {
        return;
    }
    struct tsr_key *key = tsr_keys_find(api->keys, secret.bytes, secret.size);
    if (!key) {
        api_problem_set(problem, 401, "authentication_error",
                        secret.size ? "invalid_api_key" : "missing_api_key", NULL, "%s",
                        secret.size ? "this API key is not known here"
                                    : "an API key is wanted: 'Authorization: Bearer KEY'");
        return;
    }
    const struct tsr_key_rules *rules = tsr_key_rules(key);
    x->tenant = rules->tenant;
    x->priority = x->priority_max = rules->priority;
    struct tsr_err err;
    uint32_t retry_s = 0;
    if (method != API_POST) {
        return;
    }
    if (tsr_keys_admit(key, api->now_ns, &retry_s, &err) < 0) {
        api_problem_set(problem, 429, "rate_limit_error", "rate_limit_exceeded", NULL, "%s",
                        err.text);
        problem->retry_s = retry_s ? retry_s : 1;
        return;
    }
    x->key = key;
}

static void check_body(const struct tsr_api *api, const struct tsr_api_request *request,
                       struct api_problem *problem)
{
    struct tsr_api_text type = api_header(request, "content-type");
    if (type.size && !is_json(type)) {
        api_problem_set(problem, 415, "invalid_request_error", "unsupported_media_type", NULL,
                        "the body must be application/json, not '%.*s'",
                        type.size < 80 ? (int)type.size : 80, type.bytes);
    }
    struct tsr_api_text coding = api_header(request, "content-encoding");
    if (coding.size && !same(coding, "identity", 8)) {
        api_problem_set(problem, 415, "invalid_request_error", "unsupported_media_type", NULL,
                        "the body must not be encoded ('%.*s'): send it as it is",
                        coding.size < 40 ? (int)coding.size : 40, coding.bytes);
    }
    if (request->body_bytes != TSR_API_UNKNOWN &&
        request->body_bytes > api->options.body_bytes_max) {
        api_problem_set(problem, 413, "invalid_request_error", "request_too_large", NULL,
                        "the body has %llu bytes; %llu is all that one may have",
                        (unsigned long long)request->body_bytes,
                        (unsigned long long)api->options.body_bytes_max);
    }
}

static void check_names(struct tsr_api_exchange *x, const struct tsr_api_request *request,
                        struct api_problem *problem)
{
    const struct tsr_api *api = x->api;
    struct tsr_api_text origin = api_header(request, "origin");
    if (!api->keys && !is_own_host(api, request->host)) {
        api_problem_set(problem, 403, "permission_error", "host_not_allowed", NULL,
                        "this server has no API keys, so it may be asked as localhost only, not as "
                        "'%.*s': name that host in its configuration, or give it keys",
                        request->host.size < 80 ? (int)request->host.size : 80,
                        request->host.bytes);
        return;
    }
    if (!origin.size) {
        return;
    }
    x->origin = named_origin(api, origin);
    if (!api->keys && !x->origin && !is_same_origin(origin, request->host)) {
        api_problem_set(problem, 403, "permission_error", "origin_not_allowed", NULL,
                        "pages of '%.*s' may not ask this server: name that origin in its "
                        "configuration",
                        origin.size < 80 ? (int)origin.size : 80, origin.bytes);
    }
}

bool api_guard(struct tsr_api_exchange *x, const struct tsr_api_request *request,
               enum api_method method, struct api_problem *problem)
{
    check_names(x, request, problem);
    check_key(x, request, method, problem);
    uint64_t priority = x->priority, deadline_ms = 0;
    if (method == API_POST) {
        check_body(x->api, request, problem);
    }
    read_uint(request, "x-tessera-priority", 255, &priority, problem);
    read_uint(request, "x-tessera-deadline-ms", UINT32_MAX, &deadline_ms, problem);
    x->priority = (uint8_t)(priority < x->priority_max ? priority : x->priority_max);
    x->deadline_ms = (uint32_t)deadline_ms;
    return problem->status == 0;
}

void api_guard_options(struct tsr_api_exchange *x, const struct tsr_api_request *request)
{
    struct tsr_api_text origin = api_header(request, "origin");
    const char *allow = x->route ? x->route->allow : "GET, HEAD, POST, OPTIONS";
    struct tsr_api_header headers[4] = {{{"allow", 5}, {allow, strlen(allow)}}};
    uint32_t n = 1;
    if (origin.size && api_header(request, "access-control-request-method").size) {
        if (!x->origin) {
            struct api_problem problem = {0};
            api_problem_set(&problem, 403, "permission_error", "origin_not_allowed", NULL,
                            "pages of '%.*s' may not ask this server",
                            origin.size < 80 ? (int)origin.size : 80, origin.bytes);
            api_refuse(x, &problem);
            return;
        }
        static const char asked[] = "access-control-request-headers";
        struct tsr_api_text names = api_header(request, asked);
        headers[n++] =
            (struct tsr_api_header){{"access-control-allow-methods", 28}, {allow, strlen(allow)}};
        headers[n++] = (struct tsr_api_header){{"access-control-max-age", 22}, {"600", 3}};
        if (names.size) {
            headers[n++] = (struct tsr_api_header){{"access-control-allow-headers", 28}, names};
        }
    }
    api_head(x, 204, NULL, 0, headers, n);
    api_end(x);
}
