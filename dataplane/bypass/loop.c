#include <tsr/bypass/loop.h>

#include "capture_priv.h"
#include "figures_priv.h"

#include <errno.h>
#include <immintrin.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <time.h>
#include <unistd.h>

#include <tsr/api/api.h>
#include <tsr/daemon/notify.h>
#include <tsr/http3/http3.h>
#include <tsr/port/port.h>
#include <tsr/shm/bell.h>
#include <tsr/shm/log.h>

enum {
    CHECK_EVERY_MS = 100, /* signals and who shares the CPU, while it polls */
    PAUSES_MAX = 256,     /* about 10 us, of 40 to 140 cycles each */
    READING_US = 200,     /* of a burst, after which tokens go out before the rest of it is read */
    REHEARSE_US = 5,      /* between rehearsals, while it polls and there is nothing to do */
};

static const uint64_t second_ns = 1000000000u, ms_ns = 1000000u;
static const uint64_t nap_ns_min = 50000u, nap_ns_max = 1000000u;

struct tsr_bypass_loop {
    struct tsr_bypass_loop_options o;
    uint64_t now_ns;
    uint64_t came_ns; /* when the requests came that no engine has been shown yet, at the latest */
    uint64_t unix_s;
    uint64_t beat_ns, check_ns; /* when next */
    uint64_t files_ns;          /* when certificates are looked at next */
    uint64_t nap_ns;            /* the next one */
    uint64_t rehearse_ns;       /* when next */
    uint32_t pauses;            /* in the next turn that has nothing to do */
    uint32_t reloads;           /* done */
    bool polls;                 /* does not sleep */
    bool drains;
    bool slept; /* before this turn */
    struct tsr_bypass_figures figures;
};

/* ---- Signals and time ---- */

static void reload(struct tsr_bypass_loop *loop)
{
    struct tsr_err err;
    bool good = true;
    tsr_watch_note(&loop->o.files);
    if (tsr_api_reload(loop->o.api, &err) < 0) {
        tsr_log(TSR_LOG_ERROR, "the keys stay as they were: %s", err.text);
        good = false;
    }
    if (tsr_http3_reload(loop->o.http3, &err) < 0) {
        tsr_log(TSR_LOG_ERROR, "the certificate stays as it was: %s", err.text);
        good = false;
    }
    if (good && loop->o.queue == 0) {
        tsr_log(TSR_LOG_INFO, "keys and certificates have been read again");
    }
}

static void look_at_files(struct tsr_bypass_loop *loop)
{
    struct tsr_err err;
    loop->files_ns = loop->now_ns + TSR_WATCH_EVERY_S * second_ns;
    if (!tsr_watch_changed(&loop->o.files)) {
        return;
    }
    tsr_watch_note(&loop->o.files);
    if (tsr_http3_reload(loop->o.http3, &err) < 0) {
        tsr_log(TSR_LOG_ERROR, "the certificate stays as it was: %s", err.text);
    } else if (loop->o.queue == 0) {
        tsr_log(TSR_LOG_INFO, "the certificate has changed and was read again");
    }
}

static void capture(struct tsr_bypass_loop *loop)
{
    struct tsr_err err;
    if (loop->o.capture < 0) {
        tsr_log(TSR_LOG_WARN, "SIGUSR1: there is no --capture FILE to write dropped packets to");
    } else if (tsr_bypass_capture_write(loop->o.capture, loop->o.shared->ports,
                                        loop->o.shared->queues, &err) < 0) {
        tsr_log(TSR_LOG_ERROR, "%s", err.text);
    } else {
        tsr_log(TSR_LOG_INFO, "the dropped packets that are kept have been written");
    }
}

/* The first time answers under way are waited for. */
static void begin_end(struct tsr_bypass_loop *loop)
{
    _Atomic uint64_t *until_ns = &loop->o.shared->drain_until_ns;
    bool is_first = atomic_load(until_ns) == 0;
    atomic_store(until_ns, loop->now_ns + (is_first ? loop->o.drain_s * second_ns : 0));
    tsr_notify_say(loop->o.notify, "STOPPING=1");
    tsr_hand_wake_all(loop->o.shared->hand);
}

static void take_signals(struct tsr_bypass_loop *loop)
{
    struct signalfd_siginfo info;
    while (read(loop->o.signals, &info, sizeof info) == sizeof info) {
        if (info.ssi_signo == SIGHUP) {
            atomic_fetch_add(&loop->o.shared->reloads, 1);
            tsr_hand_wake_all(loop->o.shared->hand);
        } else if (info.ssi_signo == SIGUSR1) {
            capture(loop);
        } else {
            begin_end(loop);
        }
    }
}

static uint64_t drain_until_ns(const struct tsr_bypass_loop *loop)
{
    return atomic_load(&loop->o.shared->drain_until_ns);
}

static bool has_orders(const struct tsr_bypass_loop *loop)
{
    uint32_t reloads = atomic_load(&loop->o.shared->reloads);
    return reloads != loop->reloads || (drain_until_ns(loop) && !loop->drains);
}

static void take_orders(struct tsr_bypass_loop *loop)
{
    uint32_t reloads = atomic_load(&loop->o.shared->reloads);
    if (reloads != loop->reloads) {
        loop->reloads = reloads;
        reload(loop);
    }
    if (drain_until_ns(loop) && !loop->drains) {
        loop->drains = true;
        tsr_api_drain(loop->o.api);
        tsr_http3_drain(loop->o.http3);
    }
}

/* Each thread shows that it lives; the first one says so of all. */
static void beat(struct tsr_bypass_loop *loop)
{
    struct tsr_bypass_shared *shared = loop->o.shared;
    const uint64_t every_ns = loop->o.notify->watchdog_ns / 4;
    bool all = true;
    loop->beat_ns = every_ns ? loop->now_ns + every_ns : UINT64_MAX;
    atomic_store(&shared->beats_ns[loop->o.queue], loop->now_ns);
    for (uint32_t i = 0; every_ns && loop->o.queue == 0 && i < shared->queues; i++) {
        all &= atomic_load(&shared->beats_ns[i]) + 2 * every_ns >= loop->now_ns;
    }
    if (all && loop->o.queue == 0) {
        tsr_notify_say(loop->o.notify, "WATCHDOG=1");
    }
}

static int check(struct tsr_bypass_loop *loop, struct tsr_err *err)
{
    loop->check_ns = loop->now_ns + CHECK_EVERY_MS * ms_ns;
    if (loop->o.queue == 0) {
        take_signals(loop);
    }
    tsr_port_count(loop->o.port, &loop->figures.port);
    if (loop->now_ns >= loop->files_ns) {
        look_at_files(loop);
    }
    bool may = loop->o.idle != TSR_BYPASS_SLEEP && tsr_api_may_poll(loop->o.api);
    if (loop->polls && !may) {
        tsr_log(TSR_LOG_WARN, "--idle: queue %u sleeps, since it shares its CPU with an engine",
                loop->o.queue);
    }
    loop->polls = may;
    return tsr_port_check(loop->o.port, err);
}

static int keep_time(struct tsr_bypass_loop *loop, struct tsr_err *err)
{
    int rc = loop->now_ns >= loop->check_ns ? check(loop, err) : 0;
    if (loop->now_ns >= loop->beat_ns) {
        beat(loop);
    }
    if (has_orders(loop)) {
        take_orders(loop);
    }
    return rc;
}

static bool is_over(const struct tsr_bypass_loop *loop)
{
    struct tsr_bypass_shared *shared = loop->o.shared;
    bool others = loop->o.queue == 0 && atomic_load(&shared->ended) + 1 < shared->queues;
    bool is_empty = tsr_http3_counts(loop->o.http3)->conns == 0 && !others;
    return atomic_load(&shared->failed) ||
           (loop->drains && (is_empty || loop->now_ns >= drain_until_ns(loop)));
}

/* ---- A turn ---- */

/* Shows the engines what was asked of them. The bell of one that sleeps is a wake-up, and is timed
 * apart. */
static void flush(struct tsr_bypass_loop *loop)
{
    tsr_bypass_figures_requests(&loop->figures, loop->came_ns);
    uint64_t began_ns = tsr_clock_ns();
    if (tsr_api_flush(loop->o.api)) {
        tsr_histogram_observe(&loop->figures.bell, (double)(tsr_clock_ns() - began_ns) * 1e-9);
    }
}

/* What the engines have answered goes out. */
static uint32_t answer(struct tsr_bypass_loop *loop, bool slept)
{
    uint32_t done = tsr_api_step(loop->o.api, loop->now_ns);
    flush(loop);
    done += tsr_http3_step(loop->o.http3, loop->now_ns, loop->unix_s);
    tsr_bypass_figures_tokens(loop->o.http3, &loop->figures.token_work[slept]);
    tsr_port_flush(loop->o.port);
    tsr_bypass_figures_tokens(loop->o.http3, &loop->figures.token[slept]);
    return done;
}

/* A datagram may hold many requests: a burst of those is no reason to keep a token. */
static void answer_meanwhile(struct tsr_bypass_loop *loop)
{
    uint64_t now_ns = tsr_clock_ns();
    if (now_ns >= loop->now_ns + 1000u * READING_US) {
        loop->now_ns = now_ns;
        answer(loop, false);
    }
}

static void take_datagram(void *ctx, const struct tsr_datagram *datagram)
{
    struct tsr_bypass_loop *loop = ctx;
    const uint32_t here = loop->o.queue, queues = loop->o.shared->queues;
    uint32_t queue = queues > 1 ? tsr_http3_queue_of(datagram, here) : here;
    if (queue == here || queue >= queues) {
        tsr_http3_datagram(loop->o.http3, datagram, loop->now_ns);
        answer_meanwhile(loop);
    } else if (!tsr_hand_put(loop->o.shared->hand, here, queue, datagram)) {
        loop->figures.not_handed_over++;
    }
}

static void take_over(void *ctx, const struct tsr_datagram *datagram)
{
    struct tsr_bypass_loop *loop = ctx;
    loop->figures.handed_over++;
    tsr_port_hear(loop->o.port, datagram);
    tsr_http3_datagram(loop->o.http3, datagram, loop->now_ns);
    answer_meanwhile(loop);
}

static uint64_t earlier(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

static uint64_t sleep_ns(const struct tsr_bypass_loop *loop)
{
    if (has_orders(loop) || is_over(loop)) { /* the last connection has just gone */
        return 0;
    }
    uint64_t at = earlier(tsr_api_wake_ns(loop->o.api), tsr_http3_wake_ns(loop->o.http3));
    at = earlier(at, earlier(loop->beat_ns, loop->files_ns));
    at = loop->drains ? earlier(at, drain_until_ns(loop)) : at;
    uint64_t now_ns = tsr_clock_ns();
    return at > now_ns ? earlier(at - now_ns, 3600 * second_ns) : 0;
}

/* What came as the port was being armed is taken here. */
static bool arm_port(struct tsr_bypass_loop *loop)
{
    return !tsr_port_arm(loop->o.port) ||
           tsr_port_poll(loop->o.port, take_datagram, loop, loop->now_ns) == 0;
}

/* A device that has no descriptor is looked at after naps, which grow while nothing comes. */
static uint64_t nap_ns(struct tsr_bypass_loop *loop, uint64_t ns)
{
    if (tsr_port_fd(loop->o.port) >= 0) {
        return ns;
    }
    uint64_t nap = loop->nap_ns;
    loop->nap_ns = earlier(2 * nap, nap_ns_max);
    return earlier(ns, nap);
}

static int wait_for_events(struct tsr_bypass_loop *loop, struct tsr_err *err)
{
    enum { OTHERS = 3 };
    struct pollfd fds[TSR_API_FDS_MAX + OTHERS];
    int engines[TSR_API_FDS_MAX];
    nfds_t n = 0;
    bool quiet = arm_port(loop);
    fds[n++] = (struct pollfd){.fd = loop->o.signals, .events = POLLIN};
    fds[n++] = (struct pollfd){.fd = tsr_port_fd(loop->o.port), .events = POLLIN};
    fds[n++] =
        (struct pollfd){.fd = tsr_hand_fd(loop->o.shared->hand, loop->o.queue), .events = POLLIN};
    uint32_t n_engines = tsr_api_fds(loop->o.api, engines);
    for (uint32_t i = 0; i < n_engines; i++) {
        fds[n++] = (struct pollfd){.fd = engines[i], .events = POLLIN};
    }
    quiet = tsr_hand_arm(loop->o.shared->hand, loop->o.queue) && quiet;
    quiet = tsr_api_arm(loop->o.api) && quiet;
    uint64_t ns = quiet ? nap_ns(loop, sleep_ns(loop)) : 0;
    loop->slept = ns > 0;
    const struct timespec timeout = {(time_t)(ns / second_ns), (long)(ns % second_ns)};
    int rc = ppoll(fds, n, &timeout, NULL) < 0 && errno != EINTR ? -errno : 0;
    tsr_api_disarm(loop->o.api);
    tsr_hand_disarm(loop->o.shared->hand, loop->o.queue);
    tsr_port_disarm(loop->o.port);
    loop->check_ns = fds[0].revents ? 0 : loop->check_ns;
    return rc < 0 ? tsr_err_set(err, rc, "ppoll: %s", strerror(-rc)) : 0;
}

static void poll_on(struct tsr_bypass_loop *loop)
{
    if (loop->now_ns >= loop->rehearse_ns) {
        loop->rehearse_ns = loop->now_ns + 1000u * REHEARSE_US;
        tsr_http3_rehearse(loop->o.http3);
    }
    for (uint32_t i = 0; i < loop->pauses; i++) {
        _mm_pause();
    }
    if (loop->o.idle == TSR_BYPASS_PAUSE && loop->pauses < PAUSES_MAX) {
        loop->pauses *= 2;
    }
}

static int turn(struct tsr_bypass_loop *loop, struct tsr_err *err)
{
    const bool slept = loop->slept;
    struct timespec wall;
    loop->slept = false;
    clock_gettime(CLOCK_REALTIME_COARSE, &wall);
    loop->unix_s = (uint64_t)wall.tv_sec;
    loop->now_ns = tsr_clock_ns();
    if (loop->figures.whole == loop->figures.http3->whole) {
        loop->came_ns = loop->now_ns;
    }
    int rc = keep_time(loop, err);
    if (rc < 0) {
        return rc;
    }
    uint32_t done = tsr_port_poll(loop->o.port, take_datagram, loop, loop->now_ns);
    done += tsr_hand_take(loop->o.shared->hand, loop->o.queue, take_over, loop);
    done += answer(loop, slept);
    done += tsr_http3_take_waiting(loop->o.http3, loop->now_ns);
    if (done) {
        loop->nap_ns = nap_ns_min;
        loop->pauses = 1;
        return 0;
    }
    if (loop->polls) {
        poll_on(loop);
        return 0;
    }
    return wait_for_events(loop, err);
}

/* ---- The loop ---- */

int tsr_bypass_loop_create(struct tsr_bypass_loop **out,
                           const struct tsr_bypass_loop_options *options, struct tsr_err *err)
{
    struct tsr_bypass_loop *loop = calloc(1, sizeof *loop);
    *out = loop;
    if (!loop) {
        return tsr_err_set(err, -ENOMEM, "no memory for a queue's loop");
    }
    loop->o = *options;
    loop->nap_ns = nap_ns_min;
    loop->pauses = 1;
    tsr_bypass_figures_init(&loop->figures, options->http3);
    return tsr_bypass_figures_show(&loop->figures, options->api, err);
}

void tsr_bypass_loop_destroy(struct tsr_bypass_loop *loop)
{
    free(loop);
}

int tsr_bypass_loop_run(struct tsr_bypass_loop *loop, struct tsr_err *err)
{
    struct tsr_bypass_shared *shared = loop->o.shared;
    int rc = 0;
    loop->now_ns = tsr_clock_ns();
    while (rc == 0 && !is_over(loop)) {
        rc = turn(loop, err);
    }
    if (rc < 0) {
        atomic_store(&shared->failed, true);
    }
    if (loop->o.queue != 0) {
        atomic_fetch_add(&shared->ended, 1);
    }
    tsr_hand_wake_all(shared->hand);
    return rc;
}
