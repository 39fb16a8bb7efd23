#include <tsr/shm/link.h>

#include <errno.h>
#include <poll.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

enum { FDS = 2 };

static void reset(struct tsr_link *link)
{
    memset(link, 0, sizeof *link);
    link->fd = -1;
    link->requests.fd = link->events.fd = -1;
    link->requests.guard = link->events.guard = -1;
}

void tsr_link_close(struct tsr_link *link)
{
    if (link->fd >= 0) {
        close(link->fd);
    }
    tsr_region_close(&link->requests);
    tsr_region_close(&link->events);
    reset(link);
}

/* ---- Opening ---- */

static int remaining_ms(uint64_t deadline_ns)
{
    uint64_t now = tsr_clock_ns();
    return now >= deadline_ns ? 0 : (int)((deadline_ns - now) / 1000000) + 1;
}

static int connect_error(int code, const char *path, struct tsr_err *err)
{
    switch (code) {
    case ENOENT:
        return tsr_err_set(err, -code,
                           "%s is not there: start tessera-engine, or set TESSERA_SOCKET", path);
    case ECONNREFUSED:
        return tsr_err_set(err, -code, "%s: no engine listens there any more: start tessera-engine",
                           path);
    case EACCES:
        return tsr_err_set(err, -code,
                           "%s: permission denied: join group tessera, or ask its operator", path);
    case EPROTOTYPE:
        return tsr_err_set(err, -code, "%s is no engine's socket", path);
    default:
        return tsr_err_set(err, -code, "%s: cannot connect: %s", path, strerror(code));
    }
}

static int connect_to(struct tsr_link *link, const char *path, uint64_t deadline_ns,
                      struct tsr_err *err)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (!path || !*path || strlen(path) >= sizeof address.sun_path) {
        return tsr_err_set(err, -EINVAL, "the socket path must have 1 to %zu bytes",
                           sizeof address.sun_path - 1);
    }
    memcpy(address.sun_path, path, strlen(path) + 1);
    link->fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (link->fd < 0) {
        return tsr_err_set(err, -errno, "cannot create a socket: %s", strerror(errno));
    }
    while (connect(link->fd, (const struct sockaddr *)&address, sizeof address) != 0) {
        if (errno != EAGAIN && errno != EINTR) {
            return connect_error(errno, path, err);
        }
        /* The engine's backlog is full. */
        if (remaining_ms(deadline_ns) == 0) {
            return tsr_err_set(err, -ETIMEDOUT, "%s: the engine does not answer", path);
        }
        const struct timespec pause = {.tv_nsec = 5000000};
        nanosleep(&pause, NULL);
    }
    return 0;
}

/* Receives one socket message and up to FDS descriptors (-1 where none came). Returns 1; 0 where
 * nothing is there now; -EPIPE at the end; -EPROTO for what is no message. A bell returns 1 with
 * type 0. */
static int receive(int fd, struct tsr_greet *greet, int fds[FDS])
{
    union {
        char bytes[CMSG_SPACE(FDS * sizeof(int))];
        struct cmsghdr align;
    } control;
    struct iovec part = {.iov_base = greet, .iov_len = sizeof *greet};
    fds[0] = fds[1] = -1;
    struct msghdr message;
    ssize_t bytes;
    int tries = 2; /* a reset is reported once, before the last message that the engine sent */
    do {
        message = (struct msghdr){
            .msg_iov = &part,
            .msg_iovlen = 1,
            .msg_control = control.bytes,
            .msg_controllen = sizeof control.bytes,
        };
        bytes = recvmsg(fd, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    } while (bytes < 0 && (errno == EINTR || (errno == ECONNRESET && --tries)));
    if (bytes < 0) {
        return errno == EAGAIN ? 0 : -EPIPE;
    }
    if (bytes == 0) {
        return -EPIPE;
    }
    struct cmsghdr *header = message.msg_controllen ? CMSG_FIRSTHDR(&message) : NULL;
    if (header && header->cmsg_level == SOL_SOCKET && header->cmsg_type == SCM_RIGHTS) {
        size_t count = (header->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        memcpy(fds, CMSG_DATA(header), (count < FDS ? count : FDS) * sizeof(int));
    }
    if (bytes == 1) {
        greet->type = 0;
        return 1;
    }
    if (bytes != (ssize_t)sizeof *greet) {
        return -EPROTO;
    }
    greet->text[sizeof greet->text - 1] = '\0';
    return 1;
}

static int send_greet(struct tsr_link *link, enum tsr_greet_type type, const char *text)
{
    struct tsr_greet greet = {.type = type, .version = TSR_WIRE_VERSION};
    snprintf(greet.text, sizeof greet.text, "%s", text);
    /* Failure shows when the answer is waited for: an engine that refuses may have hung up already.
     */
    return send(link->fd, &greet, sizeof greet, MSG_DONTWAIT | MSG_NOSIGNAL) < 0 ? -errno : 0;
}

static int refused(const struct tsr_greet *greet, struct tsr_link_refusal *refusal,
                   struct tsr_err *err)
{
    *refusal = (struct tsr_link_refusal){
        .code = greet->code,
        .retry_ms = greet->retry_ms,
        .loading = greet->type == TSR_LOADING,
        .permille = greet->permille,
    };
    if (greet->type == TSR_LOADING) {
        return tsr_err_set(err, -EAGAIN, "%s (%u.%u %%)", greet->text, greet->permille / 10,
                           greet->permille % 10);
    }
    int code = -EPERM;
    if (greet->code == TSR_CODE_VERSION) {
        code = -EPROTO;
    } else if (greet->retry_ms) {
        code = -EAGAIN;
    }
    return tsr_err_set(err, code, "the engine refuses: %s", greet->text);
}

/* Waits for the message of that type, with its descriptors. */
static int await(struct tsr_link *link, enum tsr_greet_type type, uint64_t deadline_ns,
                 struct tsr_greet *greet, int fds[FDS], struct tsr_link_refusal *refusal,
                 struct tsr_err *err)
{
    for (;;) {
        int got = receive(link->fd, greet, fds);
        if (got == 1 && greet->type == type) {
            return 0;
        }
        for (int i = 0; i < FDS; i++) {
            if (fds[i] >= 0) {
                close(fds[i]);
            }
        }
        if (got == 1 && (greet->type == TSR_LOADING || greet->type == TSR_REFUSE)) {
            return refused(greet, refusal, err);
        }
        if (got == -EPIPE) {
            return tsr_err_set(err, -EPIPE, "the engine hung up during the handshake");
        }
        if (got) {
            return tsr_err_set(err, -EPROTO,
                               "what answers at the socket is no engine of this version");
        }
        int left = remaining_ms(deadline_ns);
        struct pollfd wait = {.fd = link->fd, .events = POLLIN};
        if (left == 0 || (poll(&wait, 1, left) == 0)) {
            return tsr_err_set(err, -ETIMEDOUT, "the engine does not answer");
        }
    }
}

static bool region_bytes_ok(uint32_t bytes)
{
    uint32_t ring = bytes - TSR_CTL_BYTES;
    return bytes > TSR_CTL_BYTES && ring >= TSR_RING_BYTES_MIN && ring <= TSR_RING_BYTES_MAX &&
           !(ring & (ring - 1));
}

static int take_regions(struct tsr_link *link, const struct tsr_greet *greet, const int fds[FDS],
                        struct tsr_err *err)
{
    if (fds[0] < 0 || fds[1] < 0 || !region_bytes_ok(greet->request_bytes) ||
        !region_bytes_ok(greet->event_bytes)) {
        for (int i = 0; i < FDS; i++) {
            if (fds[i] >= 0) {
                close(fds[i]);
            }
        }
        return tsr_err_set(err, -EPROTO, "the engine granted no usable channel");
    }
    int result =
        tsr_region_attach(&link->requests, TSR_REGION_REQUEST, fds[0], greet->request_bytes, err);
    if (result) {
        close(fds[1]);
        return result;
    }
    result = tsr_region_attach(&link->events, TSR_REGION_EVENT, fds[1], greet->event_bytes, err);
    if (result) {
        return result;
    }
    /* The descriptors have done their work. */
    close(link->requests.fd);
    close(link->events.fd);
    link->requests.fd = link->events.fd = -1;
    link->ctl = (void *)link->requests.base;
    link->engine = (const void *)link->events.base;
    link->ctl->version = TSR_WIRE_VERSION;
    atomic_store_explicit(&link->ctl->magic, TSR_REQUEST_MAGIC, memory_order_release);
    return 0;
}

static int take_hello(struct tsr_link *link, struct tsr_err *err)
{
    /* A3: takes the keys; pairs with R3 in channel_format(). */
    if (atomic_load_explicit(&link->engine->magic, memory_order_acquire) != TSR_EVENT_MAGIC ||
        link->engine->version != TSR_WIRE_VERSION) {
        return tsr_err_set(err, -EPROTO,
                           "the channel was not formatted by an engine of this version");
    }
    tsr_ring_producer_init(&link->out, link->requests.base + TSR_CTL_BYTES,
                           link->requests.bytes - TSR_CTL_BYTES, &link->engine->request_head,
                           link->engine->request_key);
    tsr_ring_consumer_init(&link->in, link->events.base + TSR_CTL_BYTES,
                           link->events.bytes - TSR_CTL_BYTES, &link->ctl->event_head,
                           link->engine->event_key);
    struct tsr_record_info info;
    if (tsr_ring_read(&link->in, &link->hello, sizeof link->hello, &info) != 1 ||
        info.type != TSR_EV_HELLO || info.bytes != sizeof link->hello) {
        return tsr_err_set(err, -EPROTO, "the engine did not say hello");
    }
    tsr_ring_show(&link->in);
    link->hello.model[sizeof link->hello.model - 1] = '\0';
    link->hello.architecture[sizeof link->hello.architecture - 1] = '\0';
    link->hello.weights[sizeof link->hello.weights - 1] = '\0';
    link->hello.engine[sizeof link->hello.engine - 1] = '\0';
    return 0;
}

int tsr_link_open(struct tsr_link *link, const char *path, const char *name, int timeout_ms,
                  struct tsr_link_refusal *refusal, struct tsr_err *err)
{
    struct tsr_link_refusal unused;
    if (!refusal) {
        refusal = &unused;
    }
    *refusal = (struct tsr_link_refusal){0};
    reset(link);
    uint64_t deadline_ns = tsr_clock_ns() + (uint64_t)(timeout_ms > 0 ? timeout_ms : 0) * 1000000u;
    struct tsr_greet greet;
    int fds[FDS];
    int result = connect_to(link, path, deadline_ns, err);
    if (!result) {
        (void)send_greet(link, TSR_GREET, name ? name : program_invocation_short_name);
        result = await(link, TSR_GRANT, deadline_ns, &greet, fds, refusal, err);
    }
    if (!result) {
        result = take_regions(link, &greet, fds, err);
    }
    if (!result) {
        (void)send_greet(link, TSR_READY, "");
        result = await(link, TSR_OPENED, deadline_ns, &greet, fds, refusal, err);
    }
    if (!result) {
        result = take_hello(link, err);
    }
    if (result) {
        tsr_link_close(link);
    }
    return result;
}

/* ---- Requests ---- */

static int lose(struct tsr_link *link, int code, const char *why)
{
    if (!link->lost.code) {
        tsr_err_set(&link->lost, code, "%s", why);
    }
    return link->lost.code;
}

static int lose_to_lie(struct tsr_link *link)
{
    return lose(link, -EPROTO,
                "the engine's side of the channel makes no sense: close and connect again");
}

int tsr_link_reserve(struct tsr_link *link, uint32_t bytes, void **out)
{
    if (link->lost.code) {
        return link->lost.code;
    }
    int got = tsr_ring_reserve(&link->out, bytes, 0, out);
    return got == -EPROTO ? lose_to_lie(link) : got;
}

int64_t tsr_link_room(struct tsr_link *link)
{
    if (link->lost.code) {
        return link->lost.code;
    }
    int64_t room = tsr_ring_room(&link->out);
    return room < 0 ? lose_to_lie(link) : room;
}

void tsr_link_commit(struct tsr_link *link, enum tsr_wire_type type, uint32_t bytes)
{
    tsr_ring_commit(&link->out, (uint16_t)type, 0, bytes);
}

/* One byte a sleep of the engine: `rung` remembers for which it was sent. */
static int ring_once(struct tsr_link *link, uint32_t state)
{
    if (state == link->rung) {
        return 0;
    }
    link->rung = state;
    (void)tsr_bell_ring(link->fd); /* tsr_link_check() sees a dead engine */
    return 1;
}

int tsr_link_flush(struct tsr_link *link)
{
    if (!tsr_ring_publish(&link->out)) {
        return 0;
    }
    /* Sequentially consistent, as the publishing store: either this load sees the engine's flag, or
     * the engine's last look sees the record (tsr_channel_arm). */
    uint32_t state = atomic_load_explicit(&link->engine->engine_sleep, memory_order_seq_cst);
    return state & TSR_ENGINE_ASLEEP ? ring_once(link, state) : 0;
}

/* ---- Events ---- */

int tsr_link_peek(struct tsr_link *link, const void **event, struct tsr_record_info *info)
{
    int got = tsr_ring_peek(&link->in, event, info);
    if (got > 0) {
        return got;
    }
    if (got < 0) {
        return lose_to_lie(link);
    }
    /* All that was read is shown: an engine that sleeps for want of room has some now. */
    uint32_t state = atomic_load_explicit(&link->engine->engine_sleep, memory_order_acquire);
    if ((state & TSR_ENGINE_STARVED) && !link->lost.code) {
        ring_once(link, state);
    }
    return 0;
}

void tsr_link_next(struct tsr_link *link)
{
    tsr_ring_advance(&link->in);
}

int tsr_link_check(struct tsr_link *link)
{
    while (!link->lost.code) {
        struct tsr_greet greet;
        int fds[FDS];
        int got = receive(link->fd, &greet, fds);
        for (int i = 0; i < FDS; i++) {
            if (fds[i] >= 0) {
                close(fds[i]);
            }
        }
        if (got == 0) {
            return 0;
        }
        if (got == 1 && greet.type == TSR_DROPPED) {
            char text[sizeof greet.text + 64];
            snprintf(text, sizeof text, "the engine closed the channel: %s", greet.text);
            lose(link, -EPIPE, text);
        } else if (got < 0) {
            lose(link, -EPIPE, "the engine is gone: connect again once it is back");
        }
    }
    return link->lost.code;
}

static void show_sleep(struct tsr_link *link, enum tsr_sleep sleep)
{
    if (link->asleep != sleep) {
        link->asleep = sleep;
        atomic_store_explicit(&link->ctl->client_sleep, sleep, memory_order_seq_cst);
    }
}

int tsr_link_sleep(struct tsr_link *link, int timeout_ms)
{
    uint64_t deadline_ns =
        timeout_ms < 0 ? UINT64_MAX : tsr_clock_ns() + (uint64_t)timeout_ms * 1000000u;
    const uint64_t bound_ns = (uint64_t)TSR_LINK_HANGUP_MS * 1000000u;
    uint64_t now_ns = tsr_clock_ns();
    uint64_t check_ns = now_ns + bound_ns;
    for (;;) {
        /* A2: the wake-ups so far; pairs with R2 in tsr_bell_wake(). */
        uint32_t wakes = atomic_load_explicit(&link->engine->client_futex, memory_order_acquire);
        show_sleep(link, TSR_SLEEP_FUTEX);
        if (!tsr_ring_has_record(&link->in)) {
            uint64_t until_ns = deadline_ns < check_ns ? deadline_ns : check_ns;
            (void)tsr_bell_wait(&link->engine->client_futex, wakes,
                                until_ns > now_ns ? until_ns - now_ns : 0);
        }
        show_sleep(link, TSR_SLEEP_AWAKE);
        if (tsr_ring_has_record(&link->in)) {
            return 1;
        }
        now_ns = tsr_clock_ns();
        if (now_ns >= check_ns) {
            check_ns = now_ns + bound_ns;
            int lost = tsr_link_check(link);
            if (lost) {
                /* What was written before the end counts. */
                return tsr_ring_has_record(&link->in) ? 1 : lost;
            }
        }
        if (now_ns >= deadline_ns) {
            return 0;
        }
    }
}

bool tsr_link_arm(struct tsr_link *link)
{
    show_sleep(link, TSR_SLEEP_SOCKET);
    if (tsr_ring_has_record(&link->in)) {
        show_sleep(link, TSR_SLEEP_AWAKE);
        return false;
    }
    return true;
}

int tsr_link_disarm(struct tsr_link *link)
{
    show_sleep(link, TSR_SLEEP_AWAKE);
    return tsr_link_check(link);
}

bool tsr_link_may_poll(const struct tsr_link *link)
{
    cpu_set_t mine;
    if (sched_getaffinity(0, sizeof mine, &mine) != 0) {
        return false;
    }
    bool known = false;
    for (size_t cpu = 0; cpu < TSR_WIRE_CPUS_MAX; cpu++) {
        if (link->hello.engine_cpus[cpu / 64] >> (cpu % 64) & 1) {
            known = true;
            if (CPU_ISSET(cpu, &mine)) {
                return false;
            }
        }
    }
    return known;
}
