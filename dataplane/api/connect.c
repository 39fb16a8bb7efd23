/* The connector: one thread that opens links, for that takes time. It owns an engine's link from
 * `want` until `take`; the mutex guards the states and what is handed over. */
#include "engine_priv.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <tsr/shm/log.h>

enum { OPEN_MS = 2000, PAUSE_MS_MIN = 50, PAUSE_MS_MAX = 1000 };

enum state { AT_REST, WANTED, READY };

struct target {
    const char *path;
    enum state state;
    uint64_t next_ns; /* when to try (again) */
    uint32_t pause_ms;
    int last_code; /* that was logged; so that each reason is said once */
    struct tsr_link link;
    struct api_slot *slots;
    uint32_t n_slots;
};

struct api_connector {
    struct tsr_api *api;
    pthread_t thread;
    pthread_mutex_t mutex;
    pthread_cond_t cond;
    bool stop;
    uint32_t n_targets;
    struct target targets[TSR_API_ENGINES_MAX];
};

static void try_later(struct target *target, int code, const struct tsr_link_refusal *refusal,
                      const struct tsr_err *err)
{
    if (code != target->last_code) {
        target->last_code = code;
        tsr_log(TSR_LOG_WARN, "%s: not connected: %s", target->path, err->text);
    }
    target->pause_ms = target->pause_ms ? target->pause_ms * 2 : PAUSE_MS_MIN;
    if (refusal->retry_ms > target->pause_ms) {
        target->pause_ms = refusal->retry_ms;
    }
    if (target->pause_ms > PAUSE_MS_MAX) {
        target->pause_ms = PAUSE_MS_MAX;
    }
    target->next_ns = tsr_clock_ns() + target->pause_ms * UINT64_C(1000000);
}

/* Without the mutex: the target is WANTED, so nobody else touches its link. */
static int open_link(struct target *target, struct tsr_link_refusal *refusal, struct tsr_err *err)
{
    int rc = tsr_link_open(&target->link, target->path, NULL, OPEN_MS, refusal, err);
    if (rc < 0) {
        return rc;
    }
    uint32_t most = target->link.hello.requests_max;
    target->n_slots = most < API_SLOTS_MAX ? most : API_SLOTS_MAX;
    target->slots = calloc(target->n_slots, sizeof *target->slots);
    if (!target->slots) {
        tsr_link_close(&target->link);
        return tsr_err_set(err, -ENOMEM, "no memory for %u requests", target->n_slots);
    }
    return 0;
}

static void attempt(struct api_connector *c, struct target *target)
{
    struct tsr_link_refusal refusal = {0};
    struct tsr_err err = {0};
    pthread_mutex_unlock(&c->mutex);
    int rc = open_link(target, &refusal, &err);
    pthread_mutex_lock(&c->mutex);
    if (rc < 0) {
        try_later(target, rc, &refusal, &err);
        return;
    }
    target->state = READY;
    target->pause_ms = 0;
    target->last_code = 0;
    (void)eventfd_write(c->api->wake_fd, 1); /* first: who sees the flag empties it */
    /* R0: the link is ready; pairs with A0 in tsr_api_step(), which then takes the mutex. */
    atomic_store_explicit(&c->api->links_ready, true, memory_order_release);
}

static void wait_until(struct api_connector *c, uint64_t until_ns)
{
    if (until_ns == UINT64_MAX) {
        pthread_cond_wait(&c->cond, &c->mutex);
        return;
    }
    const struct timespec until = {.tv_sec = (time_t)(until_ns / 1000000000),
                                   .tv_nsec = (long)(until_ns % 1000000000)};
    (void)pthread_cond_timedwait(&c->cond, &c->mutex, &until);
}

static void *run(void *arg)
{
    struct api_connector *c = arg;
    pthread_setname_np(pthread_self(), "connector");
    pthread_mutex_lock(&c->mutex);
    while (!c->stop) {
        uint64_t next_ns = UINT64_MAX;
        for (uint32_t i = 0; i < c->n_targets && !c->stop; i++) {
            struct target *target = &c->targets[i];
            if (target->state == WANTED && target->next_ns <= tsr_clock_ns()) {
                attempt(c, target);
            }
            if (target->state == WANTED && target->next_ns < next_ns) {
                next_ns = target->next_ns;
            }
        }
        if (!c->stop && next_ns > tsr_clock_ns()) {
            wait_until(c, next_ns);
        }
    }
    pthread_mutex_unlock(&c->mutex);
    return NULL;
}

int api_connector_create(struct api_connector **out, struct tsr_api *api, struct tsr_err *err)
{
    struct api_connector *c = calloc(1, sizeof *c);
    if (!c) {
        return tsr_err_set(err, -ENOMEM, "no memory for the connector");
    }
    c->api = api;
    c->n_targets = api->options.n_engines;
    for (uint32_t i = 0; i < c->n_targets; i++) {
        c->targets[i] = (struct target){.path = api->engines[i].path, .state = WANTED};
    }
    pthread_condattr_t clock;
    pthread_condattr_init(&clock);
    pthread_condattr_setclock(&clock, CLOCK_MONOTONIC);
    pthread_cond_init(&c->cond, &clock);
    pthread_condattr_destroy(&clock);
    pthread_mutex_init(&c->mutex, NULL);
    int rc = pthread_create(&c->thread, NULL, run, c);
    if (rc != 0) {
        free(c);
        return tsr_err_set(err, -rc, "cannot start the connector: %s", strerror(rc));
    }
    *out = c;
    return 0;
}

void api_connector_destroy(struct api_connector *c)
{
    if (!c) {
        return;
    }
    pthread_mutex_lock(&c->mutex);
    c->stop = true;
    pthread_cond_signal(&c->cond);
    pthread_mutex_unlock(&c->mutex);
    pthread_join(c->thread, NULL);
    for (uint32_t i = 0; i < c->n_targets; i++) {
        if (c->targets[i].state == READY) {
            tsr_link_close(&c->targets[i].link);
            free(c->targets[i].slots);
        }
    }
    pthread_cond_destroy(&c->cond);
    pthread_mutex_destroy(&c->mutex);
    free(c);
}

void api_connector_want(struct api_connector *c, uint32_t index)
{
    pthread_mutex_lock(&c->mutex);
    c->targets[index].state = WANTED;
    c->targets[index].next_ns = 0;
    pthread_cond_signal(&c->cond);
    pthread_mutex_unlock(&c->mutex);
}

void api_connector_take(struct api_connector *c)
{
    pthread_mutex_lock(&c->mutex);
    for (uint32_t i = 0; i < c->n_targets; i++) {
        struct target *target = &c->targets[i];
        if (target->state == READY) {
            target->state = AT_REST;
            api_engine_connected(&c->api->engines[i], &target->link, target->slots,
                                 target->n_slots);
            tsr_log(TSR_LOG_INFO, "%s: connected: model '%s'", target->path,
                    c->api->engines[i].name);
        }
    }
    pthread_mutex_unlock(&c->mutex);
}
