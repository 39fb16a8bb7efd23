#include <tsr/bypass/loop.h>

#include "capture_priv.h"
#include "figures_priv.h"

#include <errno.h>
#include <immintrin.h>
#include <poll.h>
#include <signal.h>
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

enum { CHECK_EVERY_MS = 100 }; /* signals and who shares the CPU, while it spins */

static const uint64_t second_ns = 1000000000u, ms_ns = 1000000u;
static const uint64_t nap_ns_min = 50000u, nap_ns_max = 1000000u;

struct loop {
    struct tsr_bypass_loop_options o;
    uint64_t now_ns;
    uint64_t drain_until_ns;        /* 0: serving */
    uint64_t watchdog_ns, check_ns; /* when next */
    uint64_t files_ns;              /* when certificates are looked at next */
    uint64_t nap_ns;
    bool spins;
    bool slept; /* before this turn */
    struct tsr_bypass_figures figures;
};

/* ---- Signals and time ---- */

static void reload(struct loop *loop)
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
    if (good) {
        tsr_log(TSR_LOG_INFO, "keys and certificates have been read again");
    }
}

static void look_at_files(struct loop *loop)
{
    struct tsr_err err;
    loop->files_ns = loop->now_ns + TSR_WATCH_EVERY_S * second_ns;
    if (!tsr_watch_changed(&loop->o.files)) {
        return;
    }
    tsr_watch_note(&loop->o.files);
    if (tsr_http3_reload(loop->o.http3, &err) < 0) {
        tsr_log(TSR_LOG_ERROR, "the certificate stays as it was: %s", err.text);
    } else {
        tsr_log(TSR_LOG_INFO, "the certificate has changed and was read again");
    }
}

static void capture(struct loop *loop)
{
    struct tsr_err err;
    if (loop->o.capture < 0) {
        tsr_log(TSR_LOG_WARN, "SIGUSR1: there is no --capture FILE to write dropped packets to");
    } else if (tsr_bypass_capture_write(loop->o.capture, &loop->o.port, 1, &err) < 0) {
        tsr_log(TSR_LOG_ERROR, "%s", err.text);
    } else {
        tsr_log(TSR_LOG_INFO, "the dropped packets that are kept have been written");
    }
}

static void begin_end(struct loop *loop)
{
    if (loop->drain_until_ns) { /* asked for twice: at once */
        loop->drain_until_ns = loop->now_ns;
        return;
    }
    loop->drain_until_ns = loop->now_ns + loop->o.drain_s * second_ns;
    tsr_notify_say(loop->o.notify, "STOPPING=1");
    tsr_api_drain(loop->o.api);
    tsr_http3_drain(loop->o.http3);
}

static void take_signals(struct loop *loop)
{
    struct signalfd_siginfo info;
    while (read(loop->o.signals, &info, sizeof info) == sizeof info) {
        if (info.ssi_signo == SIGHUP) {
            reload(loop);
        } else if (info.ssi_signo == SIGUSR1) {
            capture(loop);
        } else {
            begin_end(loop);
        }
    }
}

static int keep_time(struct loop *loop, struct tsr_err *err)
{
    if (loop->now_ns >= loop->watchdog_ns) {
        tsr_notify_say(loop->o.notify, "WATCHDOG=1");
        loop->watchdog_ns = loop->o.notify->watchdog_ns
                                ? loop->now_ns + loop->o.notify->watchdog_ns / 2
                                : UINT64_MAX;
    }
    if (loop->now_ns < loop->check_ns) {
        return 0;
    }
    loop->check_ns = loop->now_ns + CHECK_EVERY_MS * ms_ns;
    take_signals(loop);
    tsr_port_count(loop->o.port, &loop->figures.port);
    if (loop->now_ns >= loop->files_ns) {
        look_at_files(loop);
    }
    bool may = loop->o.spin && tsr_api_may_poll(loop->o.api);
    if (loop->spins && !may) {
        tsr_log(TSR_LOG_WARN, "--spin: the door sleeps, since it shares its CPUs with an engine");
    }
    loop->spins = may;
    return tsr_port_check(loop->o.port, err);
}

static bool is_over(const struct loop *loop)
{
    return loop->drain_until_ns &&
           (tsr_http3_counts(loop->o.http3)->conns == 0 || loop->now_ns >= loop->drain_until_ns);
}

/* ---- A turn ---- */

static void take_datagram(void *ctx, const struct tsr_datagram *datagram)
{
    const struct loop *loop = ctx;
    tsr_http3_datagram(loop->o.http3, datagram, loop->now_ns);
}

static uint64_t earlier(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

static uint64_t sleep_ns(const struct loop *loop)
{
    if (is_over(loop)) { /* the last connection has just gone */
        return 0;
    }
    uint64_t at = earlier(tsr_api_wake_ns(loop->o.api), tsr_http3_wake_ns(loop->o.http3));
    at = earlier(at, earlier(loop->watchdog_ns, loop->files_ns));
    at = loop->drain_until_ns ? earlier(at, loop->drain_until_ns) : at;
    uint64_t now_ns = tsr_clock_ns();
    return at > now_ns ? earlier(at - now_ns, 3600 * second_ns) : 0;
}

/* A device that has no descriptor is looked at after naps, which grow while nothing comes. */
static uint64_t nap_ns(struct loop *loop, uint64_t ns)
{
    if (tsr_port_fd(loop->o.port) >= 0) {
        return ns;
    }
    uint64_t nap = loop->nap_ns;
    loop->nap_ns = earlier(2 * nap, nap_ns_max);
    return earlier(ns, nap);
}

static int wait_for_events(struct loop *loop, struct tsr_err *err)
{
    enum { OTHERS = 2 };
    struct pollfd fds[TSR_API_FDS_MAX + OTHERS];
    int engines[TSR_API_FDS_MAX];
    nfds_t n = 0;
    fds[n++] = (struct pollfd){.fd = loop->o.signals, .events = POLLIN};
    fds[n++] = (struct pollfd){.fd = tsr_port_fd(loop->o.port), .events = POLLIN};
    uint32_t n_engines = tsr_api_fds(loop->o.api, engines);
    for (uint32_t i = 0; i < n_engines; i++) {
        fds[n++] = (struct pollfd){.fd = engines[i], .events = POLLIN};
    }
    uint64_t ns = tsr_api_arm(loop->o.api) ? nap_ns(loop, sleep_ns(loop)) : 0;
    loop->slept = ns > 0;
    const struct timespec timeout = {(time_t)(ns / second_ns), (long)(ns % second_ns)};
    int rc = ppoll(fds, n, &timeout, NULL) < 0 && errno != EINTR ? -errno : 0;
    tsr_api_disarm(loop->o.api);
    loop->check_ns = fds[0].revents ? 0 : loop->check_ns;
    return rc < 0 ? tsr_err_set(err, rc, "ppoll: %s", strerror(-rc)) : 0;
}

/* Shows the engines what was asked of them. The bell of one that sleeps is a wake-up, and is timed
 * apart. */
static void flush(struct loop *loop)
{
    tsr_bypass_figures_requests(&loop->figures, loop->now_ns);
    uint64_t began_ns = tsr_clock_ns();
    if (tsr_api_flush(loop->o.api)) {
        tsr_histogram_observe(&loop->figures.bell, (double)(tsr_clock_ns() - began_ns) * 1e-9);
    }
}

static int turn(struct loop *loop, struct tsr_err *err)
{
    const bool slept = loop->slept;
    struct timespec wall;
    loop->slept = false;
    clock_gettime(CLOCK_REALTIME_COARSE, &wall);
    loop->now_ns = tsr_clock_ns();
    int rc = keep_time(loop, err);
    if (rc < 0) {
        return rc;
    }
    uint32_t done = tsr_port_poll(loop->o.port, take_datagram, loop, loop->now_ns);
    done += tsr_api_step(loop->o.api, loop->now_ns);
    flush(loop);
    done += tsr_http3_step(loop->o.http3, loop->now_ns, (uint64_t)wall.tv_sec);
    tsr_bypass_figures_tokens(loop->o.http3, &loop->figures.token_work[slept]);
    tsr_port_flush(loop->o.port);
    tsr_bypass_figures_tokens(loop->o.http3, &loop->figures.token[slept]);
    done += tsr_http3_shake_hands(loop->o.http3, loop->now_ns);
    if (done) {
        loop->nap_ns = nap_ns_min;
        return 0;
    }
    if (loop->spins) {
        _mm_pause();
        return 0;
    }
    return wait_for_events(loop, err);
}

int tsr_bypass_loop_run(const struct tsr_bypass_loop_options *options, struct tsr_err *err)
{
    struct loop loop = {.o = *options, .now_ns = tsr_clock_ns(), .nap_ns = nap_ns_min};
    tsr_bypass_figures_init(&loop.figures, options->http3);
    int rc = tsr_bypass_figures_show(&loop.figures, options->api, err);
    while (rc == 0 && !is_over(&loop)) {
        rc = turn(&loop, err);
    }
    return rc;
}
