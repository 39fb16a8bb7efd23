#include <tsr/bypass/loop.h>

#include <errno.h>
#include <immintrin.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/signalfd.h>
#include <time.h>
#include <unistd.h>

#include <tsr/api/api.h>
#include <tsr/api/figures.h>
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
    uint64_t nap_ns;
    bool spins;
};

/* ---- Figures ---- */

static int show_figures(const struct loop *loop, struct tsr_err *err)
{
    const struct tsr_http3_counts *counts = tsr_http3_counts(loop->o.http3);
    const char *closed = "Connections closed for an error";
    const char *handshakes = "QUIC handshakes";
    const char *stateless = "Answers to what belongs to no connection";
    /* clang-format off */
    const struct tsr_figure figures[] = {
        {"tessera:door_connections", "Open connections", TSR_FIGURE_GAUGE, NULL, &counts->conns},
        {"tessera:door_connections_total", "Connections accepted", TSR_FIGURE_COUNTER, NULL, &counts->accepted},
        {"tessera:door_handshakes_open", "Handshakes under way", TSR_FIGURE_GAUGE, NULL, &counts->handshakes},
        {"tessera:door_handshakes_total", handshakes, TSR_FIGURE_COUNTER, "result=\"done\"", &counts->established},
        {"tessera:door_closed_total", closed, TSR_FIGURE_COUNTER, "of=\"quic\"", &counts->closed_transport},
        {"tessera:door_closed_total", closed, TSR_FIGURE_COUNTER, "of=\"http\"", &counts->closed_http},
        {"tessera:door_excessive_total", "Connections closed for excessive load", TSR_FIGURE_COUNTER, NULL, &counts->excessive},
        {"tessera:door_timeouts_total", "Connections idle and handshakes late", TSR_FIGURE_COUNTER, NULL, &counts->timeouts},
        {"tessera:door_stateless_total", stateless, TSR_FIGURE_COUNTER, "kind=\"refused\"", &counts->refused},
        {"tessera:door_stateless_total", stateless, TSR_FIGURE_COUNTER, "kind=\"retry\"", &counts->retries},
        {"tessera:door_stateless_total", stateless, TSR_FIGURE_COUNTER, "kind=\"version\"", &counts->negotiations},
        {"tessera:door_stateless_total", stateless, TSR_FIGURE_COUNTER, "kind=\"reset\"", &counts->stateless_resets},
        {"tessera:door_bad_requests_total", "HTTP requests that were malformed, too large or too late", TSR_FIGURE_COUNTER, NULL, &counts->bad_requests},
        {"tessera:door_datagrams_received_total", "Datagrams from clients", TSR_FIGURE_COUNTER, NULL, &counts->datagrams_in},
        {"tessera:door_datagrams_sent_total", "Datagrams to clients", TSR_FIGURE_COUNTER, NULL, &counts->datagrams_out},
        {"tessera:door_bytes_received_total", "Bytes from clients", TSR_FIGURE_COUNTER, NULL, &counts->bytes_in},
        {"tessera:door_bytes_sent_total", "Bytes to clients", TSR_FIGURE_COUNTER, NULL, &counts->bytes_out},
        {"tessera:door_no_room_total", "Times that the port could take no more", TSR_FIGURE_COUNTER, NULL, &counts->no_room},
        {"tessera:door_memory_bytes", "Memory of QUIC, HTTP/3 and answers", TSR_FIGURE_GAUGE, NULL, &counts->bytes},
    };
    /* clang-format on */
    static char labels[TSR_HTTP3_DROPS][32];
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < sizeof figures / sizeof *figures; i++) {
        rc = tsr_api_add_figure(loop->o.api, &figures[i], err);
    }
    for (unsigned i = 0; rc == 0 && i < TSR_HTTP3_DROPS; i++) {
        snprintf(labels[i], sizeof labels[i], "cause=\"%s\"", tsr_http3_drop_names[i]);
        const struct tsr_figure figure = {"tessera:door_datagrams_dropped_total",
                                          "Datagrams dropped", TSR_FIGURE_COUNTER, labels[i],
                                          &counts->drops[i]};
        rc = tsr_api_add_figure(loop->o.api, &figure, err);
    }
    return rc;
}

/* ---- Signals and time ---- */

static void reload(const struct loop *loop)
{
    struct tsr_err err;
    bool good = true;
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
        } else {
            begin_end(loop);
        }
    }
}

static void keep_time(struct loop *loop)
{
    if (loop->now_ns >= loop->watchdog_ns) {
        tsr_notify_say(loop->o.notify, "WATCHDOG=1");
        loop->watchdog_ns = loop->o.notify->watchdog_ns
                                ? loop->now_ns + loop->o.notify->watchdog_ns / 2
                                : UINT64_MAX;
    }
    if (loop->now_ns < loop->check_ns) {
        return;
    }
    loop->check_ns = loop->now_ns + CHECK_EVERY_MS * ms_ns;
    take_signals(loop);
    bool may = loop->o.spin && tsr_api_may_poll(loop->o.api);
    if (loop->spins && !may) {
        tsr_log(TSR_LOG_WARN, "--spin: the door sleeps, since it shares its CPUs with an engine");
    }
    loop->spins = may;
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
    uint64_t at = earlier(tsr_api_wake_ns(loop->o.api), tsr_http3_wake_ns(loop->o.http3));
    at = earlier(at, loop->watchdog_ns);
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
    const struct timespec timeout = {(time_t)(ns / second_ns), (long)(ns % second_ns)};
    int rc = ppoll(fds, n, &timeout, NULL);
    tsr_api_disarm(loop->o.api);
    loop->check_ns = fds[0].revents ? 0 : loop->check_ns;
    return rc < 0 && errno != EINTR ? tsr_err_set(err, -errno, "ppoll: %s", strerror(errno)) : 0;
}

static int turn(struct loop *loop, struct tsr_err *err)
{
    struct timespec wall;
    clock_gettime(CLOCK_REALTIME_COARSE, &wall);
    loop->now_ns = tsr_clock_ns();
    keep_time(loop);
    uint32_t done = tsr_port_poll(loop->o.port, take_datagram, loop, loop->now_ns);
    done += tsr_api_step(loop->o.api, loop->now_ns);
    tsr_api_flush(loop->o.api);
    done += tsr_http3_step(loop->o.http3, loop->now_ns, (uint64_t)wall.tv_sec);
    tsr_port_flush(loop->o.port);
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
    int rc = show_figures(&loop, err);
    while (rc == 0 && !is_over(&loop)) {
        rc = turn(&loop, err);
    }
    return rc;
}
