#include "http1_priv.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { LINGER_S = 5, NS_PER_S = 1000000000 };

void tsr_http1_options_init(struct tsr_http1_options *options)
{
    *options = (struct tsr_http1_options){
        .conns_max = 16384,
        .head_s = 10,
        .idle_s = 75,
        .stall_s = 30,
        .stall_bytes = 4096,
        .heads_bytes_max = (size_t)64 << 20,
        .answer_bytes_max = (size_t)16 << 20,
        .answers_bytes_max = (size_t)256 << 20,
    };
}

static int check(const struct tsr_http1_options *options, struct tsr_err *err)
{
    if (!options->conns_max || !options->head_s || !options->idle_s || !options->stall_s) {
        return tsr_err_set(err, -EINVAL,
                           "http1: conns_max, head_s, idle_s and stall_s must be at least 1.");
    }
    if (options->answers_bytes_max < TSR_HTTP1_BLOCK_BYTES) {
        return tsr_err_set(err, -EINVAL, "http1: answers_bytes_max is %zu, below one block of %d.",
                           options->answers_bytes_max, TSR_HTTP1_BLOCK_BYTES);
    }
    return 0;
}

int tsr_http1_create(struct tsr_http1 **http1, struct tsr_api *api,
                     const struct tsr_http1_options *options, struct tsr_err *err)
{
    *http1 = NULL;
    int rc = check(options, err);
    if (rc) {
        return rc;
    }
    struct tsr_http1 *h = calloc(1, sizeof *h);
    struct tsr_http1_conn *conns = calloc(options->conns_max, sizeof *conns);
    if (!h || !conns || !tsr_http1_blocks_init(&h->blocks, options->answers_bytes_max)) {
        free(h);
        free(conns);
        return tsr_err_set(err, -ENOMEM,
                           "http1: no memory for %u connections and %zu bytes of answers.",
                           options->conns_max, options->answers_bytes_max);
    }
    h->api = api;
    h->options = *options;
    h->conns = conns;
    TAILQ_INIT(&h->closed);
    TAILQ_INIT(&h->ready);
    const uint32_t seconds[TSR_HTTP1_TIMERS] = {
        [TSR_HTTP1_IDLE] = options->idle_s,  [TSR_HTTP1_HEAD] = options->head_s,
        [TSR_HTTP1_BODY] = options->stall_s, [TSR_HTTP1_SEND] = options->stall_s,
        [TSR_HTTP1_LINGER] = LINGER_S,
    };
    for (unsigned i = 0; i < TSR_HTTP1_TIMERS; i++) {
        TAILQ_INIT(&h->timed[i]);
        h->timeout_ns[i] = (uint64_t)seconds[i] * NS_PER_S;
    }
    tsr_http1_write_preamble(h);
    *http1 = h;
    return 0;
}

void tsr_http1_destroy(struct tsr_http1 *http1)
{
    tsr_http1_blocks_fini(&http1->blocks);
    free(http1->conns);
    free(http1);
}

/* ---- Time ---- */

static void set_timer(struct tsr_http1_conn *conn, enum tsr_http1_timer timer)
{
    struct tsr_http1 *http1 = conn->http1;
    if (conn->timer != TSR_HTTP1_UNTIMED) {
        TAILQ_REMOVE(&http1->timed[conn->timer], conn, timer_at);
    }
    conn->timer = timer;
    conn->since_ns = http1->now_ns;
    conn->moved = 0;
    if (timer != TSR_HTTP1_UNTIMED) {
        TAILQ_INSERT_TAIL(&http1->timed[timer], conn, timer_at);
    }
}

static enum tsr_http1_timer timer_of(const struct tsr_http1_conn *conn)
{
    if (conn->broken) {
        return TSR_HTTP1_UNTIMED;
    }
    if (conn->out.held) {
        return TSR_HTTP1_SEND;
    }
    switch (conn->in) {
    case TSR_HTTP1_IN_HEAD:
        return conn->pieces ? TSR_HTTP1_HEAD : TSR_HTTP1_IDLE;
    case TSR_HTTP1_IN_SIZED:
    case TSR_HTTP1_IN_CHUNKED:
        return TSR_HTTP1_BODY;
    case TSR_HTTP1_IN_WHOLE:
        return TSR_HTTP1_UNTIMED;
    default:
        return TSR_HTTP1_LINGER;
    }
}

void tsr_http1_settle(struct tsr_http1_conn *conn)
{
    enum tsr_http1_timer timer = timer_of(conn);
    if (timer != conn->timer) {
        set_timer(conn, timer);
    }
    unsigned wants = tsr_http1_wants(conn);
    if ((wants != conn->wanted || (wants & TSR_HTTP1_WRITE)) && !conn->is_ready) {
        TAILQ_INSERT_TAIL(&conn->http1->ready, conn, ready_at);
        conn->is_ready = true;
    }
    conn->wanted = wants;
}

static bool is_due(const struct tsr_http1 *http1, const struct tsr_http1_conn *conn)
{
    return conn && conn->since_ns + http1->timeout_ns[conn->timer] <= http1->now_ns;
}

void tsr_http1_step(struct tsr_http1 *http1, uint64_t now_ns, uint64_t unix_s)
{
    http1->now_ns = now_ns;
    if (unix_s != http1->unix_s) {
        http1->unix_s = unix_s;
        tsr_http1_write_preamble(http1);
    }
    for (unsigned i = 0; i < TSR_HTTP1_TIMERS; i++) {
        struct tsr_http1_conn *conn;
        while (conn = TAILQ_FIRST(&http1->timed[i]), is_due(http1, conn)) {
            if (tsr_http1_expire(conn)) {
                tsr_http1_settle(conn);
            } else {
                set_timer(conn, conn->timer);
            }
        }
    }
}

uint64_t tsr_http1_wake_ns(const struct tsr_http1 *http1)
{
    uint64_t wake_ns = UINT64_MAX;
    for (unsigned i = 0; i < TSR_HTTP1_TIMERS; i++) {
        const struct tsr_http1_conn *conn = TAILQ_FIRST(&http1->timed[i]);
        if (conn && conn->since_ns + http1->timeout_ns[i] < wake_ns) {
            wake_ns = conn->since_ns + http1->timeout_ns[i];
        }
    }
    return wake_ns;
}

/* ---- Connections ---- */

struct tsr_http1_conn *tsr_http1_open(struct tsr_http1 *http1, void *owner)
{
    struct tsr_http1_conn *conn = TAILQ_FIRST(&http1->closed);
    if (conn) {
        TAILQ_REMOVE(&http1->closed, conn, ready_at);
    } else if (http1->n_used < http1->options.conns_max) {
        conn = &http1->conns[http1->n_used++];
    } else {
        return NULL;
    }
    *conn = (struct tsr_http1_conn){
        .http1 = http1,
        .owner = owner,
        .timer = TSR_HTTP1_UNTIMED,
    };
    http1->counts.conns++;
    tsr_http1_settle(conn);
    return conn;
}

void tsr_http1_forget(struct tsr_http1_conn *conn)
{
    struct tsr_http1 *http1 = conn->http1;
    if (conn->is_ready) {
        TAILQ_REMOVE(&http1->ready, conn, ready_at);
    }
    http1->counts.conns--;
    TAILQ_INSERT_HEAD(&http1->closed, conn, ready_at);
}

void tsr_http1_secured(struct tsr_http1_conn *conn)
{
    conn->secure = true;
}

void *tsr_http1_owner(const struct tsr_http1_conn *conn)
{
    return conn->owner;
}

struct tsr_http1_conn *tsr_http1_ready(struct tsr_http1 *http1)
{
    struct tsr_http1_conn *conn = TAILQ_FIRST(&http1->ready);
    if (conn) {
        TAILQ_REMOVE(&http1->ready, conn, ready_at);
        conn->is_ready = false;
    }
    return conn;
}

struct tsr_http1_conn *tsr_http1_idlest(const struct tsr_http1 *http1)
{
    return TAILQ_FIRST(&http1->timed[TSR_HTTP1_IDLE]);
}

static void fail_all(struct tsr_http1 *http1, enum tsr_http1_timer timer)
{
    struct tsr_http1_conn *conn;
    while ((conn = TAILQ_FIRST(&http1->timed[timer]))) {
        tsr_http1_fail(conn);
    }
}

void tsr_http1_drain(struct tsr_http1 *http1)
{
    http1->draining = true;
    fail_all(http1, TSR_HTTP1_IDLE);
    fail_all(http1, TSR_HTTP1_HEAD);
}

void tsr_http1_counts(const struct tsr_http1 *http1, struct tsr_http1_counts *counts)
{
    *counts = http1->counts;
    counts->answers_bytes = http1->blocks.used * TSR_HTTP1_BLOCK_BYTES;
}
