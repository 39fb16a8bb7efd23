#include <tsr/bypass/queues.h>

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>

struct queue {
    struct tsr_bypass_queues *all;
    uint32_t index;
    struct tsr_api *api;
    struct tsr_http3 *http3;
    struct tsr_bypass_loop *loop;
    pthread_t thread;
    int rc; /* of adopting its port, then of its loop */
    struct tsr_err err;
};

struct tsr_bypass_queues {
    const struct tsr_bypass_options *options;
    struct tsr_port *const *ports;
    struct tsr_bypass_shared shared;
    uint32_t n_threads; /* that have been made, the first queue's aside */
    pthread_mutex_t lock;
    pthread_cond_t changed;
    uint32_t n_ready; /* under the lock, as is go */
    bool go;
    struct queue queues[TSR_PORT_QUEUES_MAX];
};

/* ---- What each has ---- */

static uint32_t part(const struct tsr_bypass_queues *all, uint64_t whole)
{
    return (uint32_t)((whole + all->shared.queues - 1) / all->shared.queues);
}

static struct tsr_api_options api_options(const struct tsr_bypass_queues *all)
{
    struct tsr_api_options o = all->options->program.api;
    o.exchanges_max = part(all, o.exchanges_max);
    o.bodies_bytes_max = (o.bodies_bytes_max + all->shared.queues - 1) / all->shared.queues;
    o.first = all->queues[0].api;
    return o;
}

static struct tsr_http3_options http3_options(const struct tsr_bypass_queues *all, uint32_t queue)
{
    struct tsr_http3_options o = all->options->http3;
    o.way = tsr_port_way;
    o.port = all->ports[queue];
    o.dropped = tsr_port_keep;
    o.queue = (uint8_t)queue;
    o.conns_max = part(all, o.conns_max);
    o.handshakes_max = part(all, o.handshakes_max);
    o.retry_from = part(all, o.retry_from);
    o.stateless_max = part(all, o.stateless_max);
    o.bytes_max /= all->shared.queues;
    o.address.conns = part(all, o.address.conns);
    o.address.handshakes = part(all, o.address.handshakes);
    o.address.requests = part(all, o.address.requests);
    o.address.datagrams = part(all, o.address.datagrams);
    o.address.bytes /= all->shared.queues;
    return o;
}

static int make_queue(struct tsr_bypass_queues *all, uint32_t index,
                      const struct tsr_bypass_loop_options *loop, struct tsr_err *err)
{
    struct queue *q = &all->queues[index];
    struct tsr_api_options api = api_options(all);
    struct tsr_http3_options http3 = http3_options(all, index);
    *q = (struct queue){.all = all, .index = index};
    int rc = tsr_api_create(&q->api, &api, err);
    rc = rc ? rc : tsr_http3_create(&q->http3, q->api, &http3, err);
    struct tsr_bypass_loop_options o = *loop;
    o.queue = index;
    o.shared = &all->shared;
    o.api = q->api;
    o.http3 = q->http3;
    o.port = all->ports[index];
    o.drain_s = all->options->program.drain_s;
    o.idle = all->options->idle;
    return rc ? rc : tsr_bypass_loop_create(&q->loop, &o, err);
}

int tsr_bypass_queues_create(struct tsr_bypass_queues **out,
                             const struct tsr_bypass_options *options,
                             struct tsr_port *const *ports,
                             const struct tsr_bypass_loop_options *loop, struct tsr_err *err)
{
    struct tsr_bypass_queues *all = calloc(1, sizeof *all);
    *out = all;
    if (!all) {
        return tsr_err_set(err, -ENOMEM, "no memory for the queues");
    }
    all->options = options;
    all->ports = ports;
    all->shared.queues = options->port.queues;
    all->shared.ports = ports;
    pthread_mutex_init(&all->lock, NULL);
    pthread_cond_init(&all->changed, NULL);
    int rc = tsr_hand_create(&all->shared.hand, all->shared.queues, err);
    for (uint32_t i = 0; rc == 0 && i < all->shared.queues; i++) {
        rc = make_queue(all, i, loop, err);
    }
    return rc;
}

void tsr_bypass_queues_describe(const struct tsr_bypass_queues *all, char *text, size_t size)
{
    int n = snprintf(text, size, "%u queue%s, each: ", all->shared.queues,
                     all->shared.queues > 1 ? "s" : "");
    tsr_http3_describe(all->queues[0].http3, text + n, size - (size_t)n);
}

/* ---- Threads ---- */

/* Naps are for tens of microseconds: the kernel's slack of 50 would double them. */
static void adopt(struct queue *q)
{
    const struct tsr_bypass_options *o = q->all->options;
    prctl(PR_SET_TIMERSLACK, 1000, 0, 0, 0);
    q->rc =
        tsr_port_adopt(q->all->ports[q->index], o->n_cpus ? (int)o->cpus[q->index] : -1, &q->err);
}

static void *serve(void *ctx)
{
    struct queue *q = ctx;
    struct tsr_bypass_queues *all = q->all;
    char name[16];
    snprintf(name, sizeof name, "queue%u", q->index);
    prctl(PR_SET_NAME, name, 0, 0, 0);
    adopt(q);
    pthread_mutex_lock(&all->lock);
    all->n_ready++;
    pthread_cond_broadcast(&all->changed);
    while (!all->go) {
        pthread_cond_wait(&all->changed, &all->lock);
    }
    pthread_mutex_unlock(&all->lock);
    q->rc = q->rc ? q->rc : tsr_bypass_loop_run(q->loop, &q->err);
    return NULL;
}

static void go(struct tsr_bypass_queues *all)
{
    pthread_mutex_lock(&all->lock);
    all->go = true;
    pthread_cond_broadcast(&all->changed);
    pthread_mutex_unlock(&all->lock);
}

static void join(struct tsr_bypass_queues *all)
{
    for (; all->n_threads; all->n_threads--) {
        pthread_join(all->queues[all->n_threads].thread, NULL);
    }
}

static int make_threads(struct tsr_bypass_queues *all, struct tsr_err *err)
{
    while (all->n_threads + 1 < all->shared.queues) {
        struct queue *q = &all->queues[all->n_threads + 1];
        int rc = pthread_create(&q->thread, NULL, serve, q);
        if (rc != 0) {
            return tsr_err_set(err, -rc, "no thread for queue %u: %s", q->index, strerror(rc));
        }
        all->n_threads++;
    }
    return 0;
}

static int first_error(const struct tsr_bypass_queues *all, struct tsr_err *err)
{
    for (uint32_t i = 0; i < all->shared.queues; i++) {
        if (all->queues[i].rc < 0) {
            *err = all->queues[i].err;
            return all->queues[i].rc;
        }
    }
    return 0;
}

int tsr_bypass_queues_start(struct tsr_bypass_queues *all, struct tsr_err *err)
{
    int rc = make_threads(all, err);
    if (rc < 0) {
        return rc;
    }
    adopt(&all->queues[0]);
    pthread_mutex_lock(&all->lock);
    while (all->n_ready < all->n_threads) {
        pthread_cond_wait(&all->changed, &all->lock);
    }
    pthread_mutex_unlock(&all->lock);
    return first_error(all, err);
}

int tsr_bypass_queues_run(struct tsr_bypass_queues *all, struct tsr_err *err)
{
    go(all);
    all->queues[0].rc = tsr_bypass_loop_run(all->queues[0].loop, &all->queues[0].err);
    join(all);
    return first_error(all, err);
}

void tsr_bypass_queues_destroy(struct tsr_bypass_queues *all)
{
    if (!all) {
        return;
    }
    atomic_store(&all->shared.failed, true);
    go(all);
    join(all);
    for (uint32_t i = all->shared.queues; i-- > 0;) {
        struct queue *q = &all->queues[i];
        tsr_http3_destroy(q->http3);
        tsr_bypass_loop_destroy(q->loop);
        tsr_api_destroy(q->api);
    }
    tsr_hand_destroy(all->shared.hand);
    pthread_cond_destroy(&all->changed);
    pthread_mutex_destroy(&all->lock);
    free(all);
}
