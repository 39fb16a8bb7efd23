#include "loop_priv.h"

#include <errno.h>
#include <immintrin.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <time.h>
#include <unistd.h>

#include <tsr/daemon/watch.h>
#include <tsr/shm/bell.h>
#include <tsr/shm/log.h>

enum {
    ACCEPT_PAUSE_MS = 100,
    LOG_EVERY_S = 10,
    REAP = 16, /* completions, between looks at the clock */
    REAP_NS = 200000,
};

static const uint64_t second_ns = 1000000000u;

/* ---- Accepting ---- */

static bool is_anybody_waiting(const struct tsr_loop *loop)
{
    return loop->waiting_first != loop->waiting_end;
}

/* For who waits, the connection that is idle for the longest time makes room. */
static void make_room(struct tsr_loop *loop)
{
    struct tsr_http1_conn *idlest = tsr_http1_idlest(loop->o.http1);
    if (idlest && is_anybody_waiting(loop) && tsr_conns_full(loop->conns)) {
        loop->figures.idle_closed++;
        tsr_http1_fail(idlest);
    }
}

static void add(struct tsr_loop *loop, int fd, uint32_t i)
{
    tsr_conns_add(loop->conns, fd, loop->o.sockets->at[i].tls ? loop->o.tls : NULL);
}

static void let_in(struct tsr_loop *loop)
{
    while (is_anybody_waiting(loop) && !tsr_conns_full(loop->conns)) {
        struct tsr_loop_waiting next = loop->waiting[loop->waiting_first++ % TSR_LOOP_WAITING_MAX];
        add(loop, next.fd, next.socket);
    }
}

static void let_wait(struct tsr_loop *loop, int fd, uint32_t i)
{
    if (loop->waiting_end - loop->waiting_first == TSR_LOOP_WAITING_MAX) {
        loop->figures.refused++;
        close(fd);
        return;
    }
    loop->waiting[loop->waiting_end++ % TSR_LOOP_WAITING_MAX] = (struct tsr_loop_waiting){fd, i};
}

static void send_away(struct tsr_loop *loop)
{
    while (is_anybody_waiting(loop)) {
        close(loop->waiting[loop->waiting_first++ % TSR_LOOP_WAITING_MAX].fd);
    }
}

/* Accepts where it may: as long as nobody waits for a slot. Who comes then waits in the backlog. */
static void sync_accepting(struct tsr_loop *loop)
{
    let_in(loop);
    bool may = loop->phase == TSR_LOOP_SERVING && !is_anybody_waiting(loop) &&
               loop->now_ns >= loop->accept_again_ns;
    for (uint32_t i = 0; i < loop->o.sockets->n; i++) {
        if (may && !loop->accepting[i]) {
            io_uring_prep_multishot_accept(tsr_uring_next(loop->o.uring, TSR_URING_ACCEPT, i),
                                           loop->o.sockets->at[i].fd, NULL, NULL,
                                           SOCK_CLOEXEC | SOCK_NONBLOCK);
            loop->accepting[i] = true;
        } else if (!may && loop->accepting[i] && !loop->stopping[i]) {
            io_uring_prep_cancel64(tsr_uring_next(loop->o.uring, TSR_URING_NONE, 0),
                                   tsr_uring_tag(TSR_URING_ACCEPT, i), 0);
            loop->stopping[i] = true;
        }
    }
}

static void pause_accepting(struct tsr_loop *loop, int rc)
{
    loop->accept_again_ns = loop->now_ns + ACCEPT_PAUSE_MS * (second_ns / 1000);
    loop->figures.accept_pauses++;
    if (loop->said_ns && loop->now_ns - loop->said_ns < LOG_EVERY_S * second_ns) {
        return;
    }
    loop->said_ns = loop->now_ns;
    const bool files = rc == -EMFILE || rc == -ENFILE;
    tsr_log(TSR_LOG_WARN, "connections wait, because they cannot be accepted: %s%s", strerror(-rc),
            files ? "; raise the limit (LimitNOFILE=, fs.file-max), or lower --connections" : "");
}

static void on_accepted(struct tsr_loop *loop, uint32_t i, int result, uint32_t cqe_flags)
{
    if (!(cqe_flags & IORING_CQE_F_MORE)) {
        loop->accepting[i] = loop->stopping[i] = false;
    }
    if (result >= 0 && loop->phase == TSR_LOOP_SERVING) {
        if (tsr_conns_full(loop->conns)) {
            let_wait(loop, result, i);
        } else {
            add(loop, result, i);
        }
    } else if (result >= 0) {
        close(result);
    } else if (result != -ECANCELED && result != -ECONNABORTED) {
        pause_accepting(loop, result);
    }
}

/* ---- Engines ---- */

static uint32_t tag_of(const struct tsr_loop *loop, uint32_t i)
{
    return loop->engines[i].generation * TSR_API_FDS_MAX + i;
}

/* One spinning stranger on a worker's CPU doubles every step. */
static void choose_to_poll(struct tsr_loop *loop)
{
    bool may = tsr_api_may_poll(loop->o.api);
    if (loop->spins && !may) {
        tsr_log(TSR_LOG_WARN,
                "--spin: an engine's CPUs are not known, or the door may run on them "
                "too, so it sleeps instead; give each its own (taskset, CPUAffinity=)");
    }
    loop->spins = may;
}

/* Polls for the descriptors that the API has now. A poll holds its socket open: that of a
 * descriptor which is gone is cancelled at once. */
static void sync_engines(struct tsr_loop *loop)
{
    int fds[TSR_API_FDS_MAX];
    bool others = false;
    uint32_t n = tsr_api_fds(loop->o.api, fds);
    for (uint32_t i = 0; i < TSR_API_FDS_MAX; i++) {
        struct tsr_loop_engine *engine = &loop->engines[i];
        int fd = i < n ? fds[i] : -1;
        if (fd != engine->fd) {
            if (engine->polling) {
                io_uring_prep_cancel64(tsr_uring_next(loop->o.uring, TSR_URING_NONE, 0),
                                       tsr_uring_tag(TSR_URING_ENGINE, tag_of(loop, i)), 0);
            }
            *engine = (struct tsr_loop_engine){.fd = fd, .generation = engine->generation + 1};
            others = true;
        }
        if (fd >= 0 && !engine->polling) {
            io_uring_prep_poll_multishot(
                tsr_uring_next(loop->o.uring, TSR_URING_ENGINE, tag_of(loop, i)), fd, POLLIN);
            engine->polling = true;
        }
    }
    if (others && loop->o.spin) {
        choose_to_poll(loop);
    }
}

static void on_engine(struct tsr_loop *loop, uint32_t tag, uint32_t cqe_flags)
{
    uint32_t i = tag % TSR_API_FDS_MAX;
    if (tag == tag_of(loop, i)) {
        loop->engines[i].polling = cqe_flags & IORING_CQE_F_MORE;
        loop->called = true;
    }
}

/* ---- Signals and time ---- */

static void reload(struct tsr_loop *loop)
{
    struct tsr_err err;
    bool good = true;
    if (tsr_api_reload(loop->o.api, &err) < 0) {
        tsr_log(TSR_LOG_ERROR, "the keys stay as they were: %s", err.text);
        good = false;
    }
    if (loop->o.tls && tsr_tls_reload(loop->o.tls, &err) < 0) {
        tsr_log(TSR_LOG_ERROR, "the certificate stays as it was: %s", err.text);
        good = false;
    }
    if (good) {
        tsr_log(TSR_LOG_INFO, "keys and certificates have been read again");
    }
}

static void begin_end(struct tsr_loop *loop)
{
    if (loop->phase == TSR_LOOP_SERVING) {
        loop->phase = TSR_LOOP_DRAINING;
        loop->drain_until_ns = loop->now_ns + loop->o.drain_s * second_ns;
        tsr_notify_say(loop->o.notify, "STOPPING=1\nSTATUS=finishing %u answers",
                       tsr_api_open(loop->o.api));
        tsr_sockets_close(loop->o.sockets); /* who comes now is refused, and goes elsewhere */
        send_away(loop);
        tsr_api_drain(loop->o.api);
        tsr_http1_drain(loop->o.http1);
    } else {
        loop->drain_until_ns = loop->now_ns; /* asked twice: now */
    }
}

static void on_signal(struct tsr_loop *loop, uint32_t cqe_flags)
{
    struct signalfd_siginfo info;
    loop->signalled = cqe_flags & IORING_CQE_F_MORE;
    while (read(loop->o.signals, &info, sizeof info) == sizeof info) {
        if (info.ssi_signo == SIGHUP) {
            reload(loop);
        } else {
            begin_end(loop);
        }
    }
}

static void sync_signals(struct tsr_loop *loop)
{
    if (!loop->signalled) {
        io_uring_prep_poll_multishot(tsr_uring_next(loop->o.uring, TSR_URING_SIGNAL, 0),
                                     loop->o.signals, POLLIN);
        loop->signalled = true;
    }
}

static void look_at_files(struct tsr_loop *loop)
{
    struct tsr_err err;
    if (!tsr_tls_changed(loop->o.tls)) {
        return;
    }
    if (tsr_tls_reload(loop->o.tls, &err) < 0) {
        tsr_log(TSR_LOG_ERROR, "the certificate stays as it was: %s", err.text);
    } else {
        tsr_log(TSR_LOG_INFO, "the certificate has changed and was read again");
    }
}

static void keep_time(struct tsr_loop *loop)
{
    if (loop->now_ns >= loop->watchdog_ns) {
        tsr_notify_say(loop->o.notify, "WATCHDOG=1");
        loop->watchdog_ns = loop->now_ns + loop->o.notify->watchdog_ns / 2;
    }
    if (loop->now_ns >= loop->files_ns) {
        look_at_files(loop);
        loop->files_ns = loop->now_ns + TSR_WATCH_EVERY_S * second_ns;
    }
    if (loop->phase == TSR_LOOP_DRAINING && loop->now_ns >= loop->drain_until_ns) {
        if (loop->conns->figures.open) {
            tsr_log(TSR_LOG_WARN, "%u answers are cut off: --drain-seconds %u are over",
                    tsr_api_open(loop->o.api), loop->o.drain_s);
        }
        loop->phase = TSR_LOOP_ENDING;
        tsr_conns_fail(loop->conns);
    }
}

static bool is_over(const struct tsr_loop *loop)
{
    return loop->phase != TSR_LOOP_SERVING && loop->conns->figures.open == 0;
}

/* ---- A turn ---- */

static void complete(struct tsr_loop *loop, const struct io_uring_cqe *cqe)
{
    enum tsr_uring_kind kind = tsr_uring_kind_of(cqe->user_data);
    uint32_t owner = tsr_uring_owner_of(cqe->user_data);
    switch (kind) {
    case TSR_URING_NONE:
        break;
    case TSR_URING_ACCEPT:
        on_accepted(loop, owner, cqe->res, cqe->flags);
        break;
    case TSR_URING_ENGINE:
        on_engine(loop, owner, cqe->flags);
        break;
    case TSR_URING_SIGNAL:
        on_signal(loop, cqe->flags);
        break;
    default:
        tsr_conns_complete(loop->conns, kind, owner, cqe->res, cqe->flags);
        break;
    }
}

/* How many completions were taken. Those that come meanwhile, and those for which there is no time
 * (many handshakes at once), are of the next turn: tokens do not wait for them. */
static uint32_t reap(struct tsr_loop *loop)
{
    struct io_uring *ring = &loop->o.uring->ring;
    struct io_uring_cqe *cqes[REAP];
    uint32_t left = io_uring_cq_ready(ring);
    uint32_t done = 0;
    while (left && (done == 0 || tsr_clock_ns() - loop->now_ns < REAP_NS)) {
        uint32_t n = io_uring_peek_batch_cqe(ring, cqes, left < REAP ? left : REAP);
        for (uint32_t i = 0; i < n; i++) {
            complete(loop, cqes[i]);
        }
        io_uring_cq_advance(ring, n);
        left = n ? left - n : 0;
        done += n;
    }
    return done;
}

static uint64_t earlier(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

static uint64_t sleep_ns(const struct tsr_loop *loop)
{
    uint64_t at = earlier(tsr_api_wake_ns(loop->o.api), tsr_http1_wake_ns(loop->o.http1));
    at = earlier(at, tsr_conns_wake_ns(loop->conns));
    at = earlier(at, earlier(loop->watchdog_ns, loop->files_ns));
    at = loop->phase == TSR_LOOP_DRAINING ? earlier(at, loop->drain_until_ns) : at;
    at = loop->accept_again_ns > loop->now_ns ? earlier(at, loop->accept_again_ns) : at;
    uint64_t now_ns = tsr_clock_ns();
    return at > now_ns ? earlier(at - now_ns, 3600 * second_ns) : 1;
}

/* The end of a turn: submits; sleeps where nothing has happened and nothing is there. */
static int enter(struct tsr_loop *loop, bool idle)
{
    loop->slept = false;
    if (idle && loop->spins) {
        _mm_pause();
    } else if (idle) {
        loop->slept = tsr_api_arm(loop->o.api);
        int rc = tsr_uring_enter(loop->o.uring, loop->slept ? sleep_ns(loop) : 0);
        tsr_api_disarm(loop->o.api);
        return rc;
    }
    return tsr_uring_enter(loop->o.uring, 0);
}

/* The newest tokens: their bytes are about to be handed to the kernel, or have been. */
static void note_tokens(struct tsr_loop *loop, struct tsr_histogram *histogram)
{
    struct tsr_conns *conns = loop->conns;
    uint64_t now_ns = conns->n_stamps ? tsr_clock_ns() : 0;
    for (uint32_t i = 0; i < conns->n_stamps; i++) {
        uint64_t token_ns = conns->stamps[i] < now_ns ? conns->stamps[i] : now_ns;
        tsr_histogram_observe(histogram, (double)(now_ns - token_ns) * 1e-9);
    }
}

/* The figures of HTTP/1.1; and how long it took from the last bytes of requests to their records,
 * which are there for the engine now: tsr_api_flush() shows them before it rings. */
static void note_requests(struct tsr_loop *loop)
{
    struct tsr_http1_counts counts;
    tsr_http1_counts(loop->o.http1, &counts);
    for (uint64_t now_ns = 0; loop->whole < counts.whole; loop->whole++) {
        now_ns = now_ns ? now_ns : tsr_clock_ns();
        tsr_histogram_observe(&loop->figures.request, (double)(now_ns - loop->now_ns) * 1e-9);
    }
    loop->figures.malformed = counts.refused;
    loop->figures.heads_bytes = counts.heads_bytes;
    loop->figures.answers_bytes = counts.answers_bytes;
    loop->figures.enters = loop->o.uring->enters;
}

/* Shows the engines what was asked of them. The bell of one that sleeps is a wake-up, and is timed
 * apart. */
static void flush(struct tsr_loop *loop)
{
    note_requests(loop);
    uint64_t began_ns = tsr_clock_ns();
    if (tsr_api_flush(loop->o.api)) {
        tsr_histogram_observe(&loop->figures.bell, (double)(tsr_clock_ns() - began_ns) * 1e-9);
    }
}

static int turn(struct tsr_loop *loop)
{
    const bool slept = loop->slept;
    struct timespec wall;
    clock_gettime(CLOCK_REALTIME_COARSE, &wall);
    loop->now_ns = tsr_clock_ns();
    tsr_http1_step(loop->o.http1, loop->now_ns, (uint64_t)wall.tv_sec);
    tsr_conns_step(loop->conns, loop->now_ns);
    keep_time(loop);
    uint32_t done = reap(loop);
    if (loop->called) { /* a bell, or an engine's end */
        loop->called = false;
        tsr_api_disarm(loop->o.api);
    }
    done += tsr_api_step(loop->o.api, loop->now_ns);
    flush(loop);
    make_room(loop);
    while (tsr_conns_serve(loop->conns)) { /* bytes that were held were requests */
        flush(loop);
    }
    sync_signals(loop);
    sync_accepting(loop);
    sync_engines(loop);
    note_tokens(loop, &loop->figures.token_work[slept]);
    int rc = enter(loop, done == 0);
    note_tokens(loop, &loop->figures.token[slept]);
    loop->conns->n_stamps = 0;
    return rc;
}

int tsr_loop_run(struct tsr_loop *loop, struct tsr_err *err)
{
    int rc = 0;
    while (rc == 0 && !is_over(loop)) {
        rc = turn(loop);
    }
    return rc < 0 ? tsr_err_set(err, rc, "io_uring_enter: %s", strerror(-rc)) : 0;
}

int tsr_loop_create(struct tsr_loop **out, const struct tsr_loop_options *options,
                    struct tsr_err *err)
{
    struct tsr_loop *loop = calloc(1, sizeof *loop);
    if (!loop) {
        return tsr_err_set(err, -ENOMEM, "no memory");
    }
    loop->o = *options;
    loop->spins = options->spin;
    loop->watchdog_ns = options->notify->watchdog_ns ? 0 : UINT64_MAX;
    loop->files_ns = options->tls ? 0 : UINT64_MAX;
    for (uint32_t i = 0; i < TSR_API_FDS_MAX; i++) {
        loop->engines[i].fd = -1;
    }
    int rc = tsr_conns_create(&loop->conns, options->uring, options->http1, options->peers,
                              options->conns_max, options->handshake_s, err);
    rc = rc ? rc : tsr_loop_show_figures(loop, err);
    if (rc < 0) {
        tsr_loop_destroy(loop);
        return rc;
    }
    *out = loop;
    return 0;
}

void tsr_loop_destroy(struct tsr_loop *loop)
{
    if (loop) {
        tsr_conns_destroy(loop->conns);
        free(loop);
    }
}
