/* Routes: which path and method is whose; and who may ask at all. */
#ifndef TSR_API_ROUTE_PRIV_H
#define TSR_API_ROUTE_PRIV_H

#include "api_priv.h"

enum api_method { API_GET = 1, API_POST = 2, API_OPTIONS = 4, API_OTHER = 8 };

struct api_route {
    const char *path;
    bool is_prefix; /* what is behind it is given to `get` */
    bool is_free;   /* asked without a key */
    /* GET and HEAD: answers, or keeps the exchange. rest: behind the prefix. */
    void (*get)(struct tsr_api_exchange *x, const char *rest, size_t size);
    /* POST, with the body in x->json: asks an engine, or answers. */
    void (*post)(struct tsr_api_exchange *x);
    const char *allow;
};

/* The method's bit. HEAD is GET here: the door leaves the body out. */
enum api_method api_method_of(const struct tsr_api_text *method);

/* NULL: there is no such path. *rest: what is behind a prefix. */
const struct api_route *api_route_find(const struct tsr_api_text *path, struct tsr_api_text *rest);

const struct api_route *api_route_health(void);

/* Where answers of a route (NULL: of none) with that status are counted; NULL: not. */
uint64_t *api_route_counter(struct tsr_api *api, const struct api_route *route, unsigned status);

/* The n-th pair of route and status that was counted, for /metrics: false at the end. */
bool api_route_counted(const struct tsr_api *api, uint32_t n, const char **path, unsigned *status,
                       uint64_t *count);

/* ---- guard.c ---- */

/* Whether the request may be served: Host, Origin, key, what its body is said to be. Notes its
 * origin, priority, deadline and tenant in x. */
bool api_guard(struct tsr_api_exchange *x, const struct tsr_api_request *request,
               enum api_method method, struct api_problem *problem);

/* Answers OPTIONS. */
void api_guard_options(struct tsr_api_exchange *x, const struct tsr_api_request *request);

/* The value of a header; size 0 where there is none. */
struct tsr_api_text api_header(const struct tsr_api_request *request, const char *name);

/* ---- what routes are for ---- */

void api_chat(struct tsr_api_exchange *x);
void api_completions(struct tsr_api_exchange *x);
void api_embeddings(struct tsr_api_exchange *x);
void api_responses(struct tsr_api_exchange *x);
void api_tokenize(struct tsr_api_exchange *x);
void api_detokenize(struct tsr_api_exchange *x);
void api_apply_template(struct tsr_api_exchange *x);
void api_models_list(struct tsr_api_exchange *x, const char *rest, size_t size);
void api_models_one(struct tsr_api_exchange *x, const char *rest, size_t size);
void api_metrics(struct tsr_api_exchange *x, const char *rest, size_t size);

/* The engines' figures may have come: those that wait for them are answered, at the latest after a
 * second. When to look again. */
void api_metrics_step(struct tsr_api *api);
uint64_t api_metrics_wake_ns(const struct tsr_api *api);

#endif
