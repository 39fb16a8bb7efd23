#include "channel_priv.h"
#include "grants_priv.h"
#include "listener_priv.h"
#include "policy_priv.h"

#include <tsr/shm/bell.h>
#include <tsr/shm/guard.h>
#include <tsr/shm/log.h>

#include <errno.h>
#include <inttypes.h>
#include <linux/sock_diag.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
    ACCEPTS_A_STEP = 16,
    BELLS_A_STEP = 16,
    READY_A_STEP = 32,
    LOADING_RETRY_MS = 250,
    NO_DESCRIPTOR_PAUSE_MS = 100,
};

struct tsr_door {
    int epoll;
    struct listener listener;
    struct tsr_door_policy policy;
    struct tsr_wire_hello hello;
    bool has_hello;
    uint32_t permille;
    char loading[128];
    bool refusing;
    char refusal[128];
    bool listening; /* the listener is in the epoll set */
    uint64_t listen_again_ns;
    uint32_t pending; /* connections in their handshake */
    uint32_t open;    /* handed out and not yet closed */
    uint32_t left;    /* closed, their descriptors still on the way */
    uint64_t next_id;
    uint64_t log_again_ns;        /* when a refusal is told at INFO again */
    uint64_t audit_ns;            /* when the next audit starts */
    struct tsr_channel *audit_at; /* where the running one goes on */
    struct tsr_channel *first;
    struct grants grants;
    struct tsr_door_stats totals; /* opened, refused, dropped */
};

static uint64_t ms_ns(uint64_t ms)
{
    return ms * 1000000u;
}

/* ---- Opening and closing the door ---- */

static int watch(struct tsr_door *door, int operation, int fd, uint32_t what, void *tag)
{
    struct epoll_event event = {.events = what, .data.ptr = tag};
    return epoll_ctl(door->epoll, operation, fd, &event) == 0 ? 0 : -errno;
}

int tsr_door_open(struct tsr_door **out, const char *path, const struct tsr_door_policy *policy,
                  struct tsr_err *err)
{
    struct tsr_door *door = calloc(1, sizeof *door);
    if (!door) {
        return tsr_err_set(err, -ENOMEM, "no memory for the door");
    }
    door->epoll = door->listener.fd = -1;
    tsr_door_set_loading(door, 0, "the model is loading");
    if (policy) {
        door->policy = *policy;
    } else {
        tsr_door_policy_init(&door->policy);
    }
    int result = policy_check(&door->policy, err);
    if (!result) {
        result = tsr_guard_install(err);
    }
    if (!result) {
        result = listener_open(&door->listener, path, policy_names_others(&door->policy), err);
    }
    if (result) {
        goto fail;
    }
    door->epoll = epoll_create1(EPOLL_CLOEXEC);
    if (door->epoll < 0 || watch(door, EPOLL_CTL_ADD, door->listener.fd, EPOLLIN, NULL) != 0) {
        result = tsr_err_set(err, -errno, "cannot watch %s: %s", path, strerror(errno));
        goto fail;
    }
    door->listening = true;
    *out = door;
    return 0;
fail:
    listener_close(&door->listener);
    if (door->epoll >= 0) {
        close(door->epoll);
    }
    free(door);
    return result;
}

static void forget(struct tsr_door *door, struct tsr_channel *channel);
static void end_handshake(struct tsr_door *door, struct tsr_channel *channel,
                          enum tsr_greet_type type, enum tsr_code code, uint32_t retry_ms,
                          const char *text);

void tsr_door_destroy(struct tsr_door *door, const char *why)
{
    if (!door) {
        return;
    }
    while (door->first) {
        struct tsr_channel *channel = door->first;
        if (channel->state == CHANNEL_LEFT) {
            forget(door, channel);
            continue;
        }
        assert(channel->state < CHANNEL_OPEN);
        end_handshake(door, channel, TSR_REFUSE, TSR_CODE_SHUTDOWN, 0,
                      why ? why : "the engine shuts down");
    }
    listener_close(&door->listener);
    close(door->epoll);
    free(door);
}

/* ---- What the engine tells the door ---- */

void tsr_door_set_loading(struct tsr_door *door, uint32_t permille, const char *text)
{
    door->permille = permille;
    snprintf(door->loading, sizeof door->loading, "%s", text);
}

void tsr_door_set_hello(struct tsr_door *door, const struct tsr_wire_hello *hello)
{
    size_t from = sizeof(struct tsr_record);
    memcpy((uint8_t *)&door->hello + from, (const uint8_t *)hello + from, sizeof *hello - from);
    door->has_hello = true;
}

void tsr_door_set_refusing(struct tsr_door *door, const char *why)
{
    door->refusing = why != NULL;
    snprintf(door->refusal, sizeof door->refusal, "%s", why ? why : "");
}

int tsr_door_fd(const struct tsr_door *door)
{
    return door->epoll;
}

void tsr_door_stats(const struct tsr_door *door, struct tsr_door_stats *stats)
{
    *stats = door->totals;
    stats->channels = door->open;
    stats->pending = door->pending;
    stats->bytes = door->grants.bytes;
}

/* ---- Connections ---- */

static void link_in(struct tsr_door *door, struct tsr_channel *channel)
{
    channel->next = door->first;
    if (door->first) {
        door->first->previous = channel;
    }
    door->first = channel;
}

static void link_out(struct tsr_door *door, struct tsr_channel *channel)
{
    if (door->audit_at == channel) {
        door->audit_at = channel->next;
    }
    if (channel->previous) {
        channel->previous->next = channel->next;
    } else {
        door->first = channel->next;
    }
    if (channel->next) {
        channel->next->previous = channel->previous;
    }
}

static bool tell(int fd, enum tsr_greet_type type, enum tsr_code code, uint32_t retry_ms,
                 uint32_t permille, const char *text)
{
    struct tsr_greet greet = {
        .type = type,
        .version = TSR_WIRE_VERSION,
        .code = code,
        .permille = permille,
        .retry_ms = retry_ms,
    };
    size_t bytes = strnlen(text, sizeof greet.text - 1);
    memcpy(greet.text, text, bytes);
    return send(fd, &greet, sizeof greet, MSG_DONTWAIT | MSG_NOSIGNAL) == (ssize_t)sizeof greet;
}

static void pause_listening(struct tsr_door *door, uint64_t until_ns)
{
    if (door->listening && watch(door, EPOLL_CTL_MOD, door->listener.fd, 0, NULL) == 0) {
        door->listening = false;
    }
    door->listen_again_ns = until_ns;
}

static void resume_listening(struct tsr_door *door, uint64_t now_ns)
{
    if (!door->listening && now_ns >= door->listen_again_ns &&
        door->pending < TSR_DOOR_PENDING_MAX &&
        watch(door, EPOLL_CTL_MOD, door->listener.fd, EPOLLIN, NULL) == 0) {
        door->listening = true;
    }
}

/* Whether the peer has yet to take something that was sent to it. */
static bool is_on_the_way(int fd)
{
    uint32_t memory[SK_MEMINFO_VARS] = {0};
    socklen_t bytes = sizeof memory;
    return getsockopt(fd, SOL_SOCKET, SO_MEMINFO, memory, &bytes) == 0 &&
           memory[SK_MEMINFO_WMEM_ALLOC] > 0;
}

/* Frees what is left of a dropped channel; the uid's account is settled. */
static void forget(struct tsr_door *door, struct tsr_channel *channel)
{
    link_out(door, channel);
    door->left -= channel->state == CHANNEL_LEFT;
    if (channel->granted_bytes) {
        grants_give(&door->grants, channel->peer.uid, channel->granted_bytes);
    }
    close(channel->fd); /* leaves the epoll set, as no other descriptor is of this socket */
    free(channel);
}

/* Ends the channel in whatever state. Descriptors that its client has not taken (`untaken`) count
 * against the engine's user, for all clients together: so long it counts as a channel of its uid.
 */
static void drop(struct tsr_door *door, struct tsr_channel *channel, bool untaken)
{
    if (channel->state < CHANNEL_OPEN) {
        door->pending--;
        grants_knock_end(&door->grants, channel->peer.uid);
    } else {
        door->open--;
    }
    tsr_region_release(&channel->requests);
    tsr_region_close(&channel->requests);
    tsr_region_close(&channel->events);
    if (untaken) {
        (void)watch(door, EPOLL_CTL_DEL, channel->fd, 0, NULL);
        (void)shutdown(channel->fd, SHUT_RDWR);
        channel->state = CHANNEL_LEFT;
        door->left++;
        return;
    }
    forget(door, channel);
}

static void end_handshake(struct tsr_door *door, struct tsr_channel *channel,
                          enum tsr_greet_type type, enum tsr_code code, uint32_t retry_ms,
                          const char *text)
{
    bool untaken = channel->state == CHANNEL_GRANTED && is_on_the_way(channel->fd);
    (void)tell(channel->fd, type, code, retry_ms, door->permille, text);
    if (type == TSR_REFUSE) {
        door->totals.refused++;
        /* Who knocks without end must not fill the log. */
        uint64_t now_ns = tsr_clock_ns();
        bool often = now_ns < door->log_again_ns;
        door->log_again_ns = often ? door->log_again_ns : now_ns + ms_ns(1000);
        tsr_log(often ? TSR_LOG_DEBUG : TSR_LOG_INFO, "refused %s (pid %d, uid %u): %s",
                channel->peer.name[0] ? channel->peer.name : "a client", (int)channel->peer.pid,
                (unsigned)channel->peer.uid, text);
    }
    drop(door, channel, untaken);
}

static void admit(struct tsr_door *door, int fd, uint64_t now_ns)
{
    struct ucred peer;
    socklen_t bytes = sizeof peer;
    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &bytes) != 0) {
        close(fd);
        return;
    }
    const struct tsr_door_class *class = policy_class_of(&door->policy, fd, &peer);
    struct tsr_err err;
    if (!class) {
        char text[128];
        snprintf(text, sizeof text,
                 "uid %u may not use this engine: join group tessera, or ask its operator",
                 (unsigned)peer.uid);
        (void)tell(fd, TSR_REFUSE, TSR_CODE_FORBIDDEN, 0, 0, text);
        close(fd);
        door->totals.refused++;
        return;
    }
    if (grants_knock(&door->grants, peer.uid, now_ns, &err) != 0) {
        (void)tell(fd, TSR_REFUSE, TSR_CODE_LIMIT, TSR_DOOR_HANDSHAKE_MS, 0, err.text);
        close(fd);
        door->totals.refused++;
        return;
    }
    struct tsr_channel *channel = calloc(1, sizeof *channel);
    if (!channel || watch(door, EPOLL_CTL_ADD, fd, EPOLLIN | EPOLLRDHUP, channel) != 0) {
        grants_knock_end(&door->grants, peer.uid);
        free(channel);
        close(fd);
        return;
    }
    channel->fd = fd;
    channel->class = class;
    channel->requests.fd = channel->events.fd = -1;
    channel->requests.guard = channel->events.guard = -1;
    channel->deadline_ns = now_ns + ms_ns(TSR_DOOR_HANDSHAKE_MS);
    channel->peer = (struct tsr_channel_peer){
        .pid = peer.pid,
        .uid = peer.uid,
        .gid = peer.gid,
        .tenants = class->tenants,
        .priority_max = class->priority_max,
        .requests_max = class->requests_max,
        .id = ++door->next_id,
    };
    link_in(door, channel);
    door->pending++;
}

static void accept_some(struct tsr_door *door, uint64_t now_ns)
{
    for (int i = 0; i < ACCEPTS_A_STEP; i++) {
        if (door->pending >= TSR_DOOR_PENDING_MAX) {
            pause_listening(door, 0);
            return;
        }
        int fd = accept4(door->listener.fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
        if (fd >= 0) {
            admit(door, fd, now_ns);
        } else if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
            tsr_log(TSR_LOG_WARN, "cannot accept a client: %s", strerror(errno));
            pause_listening(door, now_ns + ms_ns(NO_DESCRIPTOR_PAUSE_MS));
            return;
        } else if (errno != ECONNABORTED && errno != EINTR) {
            return;
        }
    }
}

/* ---- Handshake ---- */

static int send_grant(const struct tsr_channel *channel)
{
    struct tsr_greet greet = {
        .type = TSR_GRANT,
        .version = TSR_WIRE_VERSION,
        .request_bytes = (uint32_t)channel->requests.bytes,
        .event_bytes = (uint32_t)channel->events.bytes,
    };
    int fds[2] = {channel->requests.fd, channel->events.fd};
    union {
        char bytes[CMSG_SPACE(sizeof fds)];
        struct cmsghdr align;
    } control = {0};
    struct iovec part = {.iov_base = &greet, .iov_len = sizeof greet};
    struct msghdr message = {
        .msg_iov = &part,
        .msg_iovlen = 1,
        .msg_control = control.bytes,
        .msg_controllen = sizeof control.bytes,
    };
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof fds);
    memcpy(CMSG_DATA(header), fds, sizeof fds);
    return sendmsg(channel->fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL) < 0 ? -errno : 0;
}

static void take_name(struct tsr_channel *channel, const char *text, size_t bytes)
{
    size_t most = sizeof channel->peer.name - 1;
    for (size_t i = 0; i < bytes && i < most && text[i]; i++) {
        channel->peer.name[i] = text[i] >= ' ' && text[i] <= '~' ? text[i] : '?';
    }
}

static void grant(struct tsr_door *door, struct tsr_channel *channel, const struct tsr_greet *greet,
                  uint64_t now_ns)
{
    take_name(channel, greet->text, sizeof greet->text);
    if (greet->version != TSR_WIRE_VERSION) {
        char text[128];
        snprintf(text, sizeof text,
                 "the client speaks version %" PRIu32 " of the channel, this engine version %d",
                 greet->version, TSR_WIRE_VERSION);
        end_handshake(door, channel, TSR_REFUSE, TSR_CODE_VERSION, 0, text);
        return;
    }
    if (door->refusing) {
        end_handshake(door, channel, TSR_REFUSE, TSR_CODE_SHUTDOWN, 0, door->refusal);
        return;
    }
    if (!door->has_hello) {
        end_handshake(door, channel, TSR_LOADING, TSR_CODE_BUSY, LOADING_RETRY_MS, door->loading);
        return;
    }
    const struct tsr_door_class *class = channel->class;
    size_t request_bytes = TSR_CTL_BYTES + class->request_ring_bytes;
    size_t event_bytes = TSR_CTL_BYTES + class->event_ring_bytes;
    struct tsr_err err;
    uint32_t retry_ms;
    if (grants_take(&door->grants, channel->peer.uid, class, door->policy.channels_max,
                    request_bytes + event_bytes, now_ns, &retry_ms, &err) != 0) {
        end_handshake(door, channel, TSR_REFUSE, TSR_CODE_LIMIT, retry_ms, err.text);
        return;
    }
    channel->granted_bytes = request_bytes + event_bytes;
    int result = tsr_region_create(&channel->requests, TSR_REGION_REQUEST, request_bytes, &err);
    if (!result) {
        result = tsr_region_create(&channel->events, TSR_REGION_EVENT, event_bytes, &err);
    }
    if (!result) {
        result = send_grant(channel);
        if (result) {
            tsr_err_set(&err, result, "cannot send the channel's descriptors: %s",
                        strerror(-result));
        }
    }
    if (result) {
        end_handshake(door, channel, TSR_REFUSE, TSR_CODE_INTERNAL, 1000, err.text);
        return;
    }
    channel->state = CHANNEL_GRANTED;
}

static void say_hello(struct tsr_door *door, struct tsr_channel *channel)
{
    struct tsr_wire_hello *hello = tsr_channel_reserve(channel, sizeof *hello);
    assert(hello); /* the ring is empty */
    size_t from = sizeof(struct tsr_record);
    memcpy((uint8_t *)hello + from, (const uint8_t *)&door->hello + from, sizeof *hello - from);
    hello->version = TSR_WIRE_VERSION;
    hello->requests_max = channel->peer.requests_max;
    hello->record_bytes_max = TSR_WIRE_RECORD_BYTES_MAX;
    hello->request_ring_bytes = channel->class->request_ring_bytes;
    hello->event_ring_bytes = channel->class->event_ring_bytes;
    hello->flags = (hello->flags & ~(uint32_t)TSR_HELLO_TENANTS) |
                   (channel->peer.tenants ? (uint32_t)TSR_HELLO_TENANTS : 0u);
    tsr_channel_commit(channel, TSR_EV_HELLO, sizeof *hello);
    tsr_channel_flush(channel);
}

/* Whether the channel could be opened; otherwise it is gone. */
static bool open_channel(struct tsr_door *door, struct tsr_channel *channel)
{
    if (is_on_the_way(channel->fd)) { /* MSG_PEEK gives descriptors and leaves them there */
        end_handshake(door, channel, TSR_REFUSE, TSR_CODE_LIED, 0,
                      "the client said ready before it had received the channel");
        return false;
    }
    /* Who touches a page first pays for it: the engine has not, so where no hole is, the client
     * has. */
    if (tsr_region_has_holes(&channel->requests) || tsr_region_has_holes(&channel->events)) {
        end_handshake(door, channel, TSR_REFUSE, TSR_CODE_LIED, 0,
                      "the client said ready before it had touched every page of the channel");
        return false;
    }
    tsr_region_prefault(&channel->requests);
    tsr_region_prefault(&channel->events);
    const struct tsr_request_ctl *ctl = (const void *)channel->requests.base;
    if (atomic_load_explicit(&ctl->magic, memory_order_acquire) != TSR_REQUEST_MAGIC) {
        end_handshake(door, channel, TSR_REFUSE, TSR_CODE_LIED, 0,
                      "the client has not formatted its region of the channel");
        return false;
    }
    /* Sealed against holes for good, and mapped: its descriptor is not needed any more. */
    close(channel->events.fd);
    channel->events.fd = -1;
    channel_format(channel);
    say_hello(door, channel);
    if (!tell(channel->fd, TSR_OPENED, TSR_CODE_OK, 0, 0, "")) {
        drop(door, channel, false);
        return false;
    }
    channel->state = CHANNEL_OPEN;
    grants_knock_end(&door->grants, channel->peer.uid);
    door->pending--;
    door->open++;
    door->totals.opened++;
    return true;
}

/* Returns whether the channel was opened. */
static bool shake_hands(struct tsr_door *door, struct tsr_channel *channel, uint64_t now_ns)
{
    /* recv() takes no control messages: descriptors that come along are dropped by the kernel. */
    struct tsr_greet greet;
    ssize_t bytes = recv(channel->fd, &greet, sizeof greet, MSG_DONTWAIT | MSG_TRUNC);
    if (bytes < 0 && (errno == EAGAIN || errno == EINTR)) {
        return false;
    }
    if (bytes <= 0) {
        drop(door, channel, channel->state == CHANNEL_GRANTED && is_on_the_way(channel->fd));
        return false;
    }
    if (bytes == (ssize_t)sizeof greet) {
        if (channel->state == CHANNEL_GREETING && greet.type == TSR_GREET) {
            grant(door, channel, &greet, now_ns);
            return false;
        }
        if (channel->state == CHANNEL_GRANTED && greet.type == TSR_READY) {
            return open_channel(door, channel);
        }
    }
    end_handshake(door, channel, TSR_REFUSE, TSR_CODE_LIED, 0,
                  "the client's handshake makes no sense");
    return false;
}

/* ---- Open channels ---- */

static void report(struct tsr_door_event *event, enum tsr_door_event_kind kind,
                   struct tsr_channel *channel, const char *why)
{
    event->kind = kind;
    event->channel = channel;
    snprintf(event->why, sizeof event->why, "%s", why);
}

/* `offence`: the client is to be told why. */
static void gone(struct tsr_door *door, struct tsr_channel *channel, struct tsr_door_event *event,
                 bool offence, const char *why)
{
    if (offence) {
        snprintf(channel->offence, sizeof channel->offence, "%s", why);
    }
    (void)watch(door, EPOLL_CTL_DEL, channel->fd, 0, NULL);
    channel->state = CHANNEL_GONE;
    report(event, TSR_DOOR_GONE, channel, why);
}

static bool rings_too_often(struct tsr_channel *channel, uint64_t now_ns)
{
    if (now_ns - channel->bells_since_ns >= ms_ns(1000)) {
        channel->bells_since_ns = now_ns;
        channel->bells = 0;
    }
    return ++channel->bells > TSR_DOOR_BELLS_PER_SECOND;
}

/* Returns the number of events written: 0 or 1. */
static int hear(struct tsr_door *door, struct tsr_channel *channel, uint32_t ready, uint64_t now_ns,
                struct tsr_door_event *event)
{
    bool rang = false;
    for (int i = 0; i < BELLS_A_STEP; i++) {
        char byte;
        ssize_t bytes = recv(channel->fd, &byte, sizeof byte, MSG_DONTWAIT | MSG_TRUNC);
        if (bytes < 0 && (errno == EAGAIN || errno == EINTR)) {
            break;
        }
        if (bytes <= 0) {
            gone(door, channel, event, false, "the client hung up");
            return 1;
        }
        if (rings_too_often(channel, now_ns)) {
            gone(door, channel, event, true, "the client floods the door with bells");
            return 1;
        }
        rang = true;
    }
    if (ready & (EPOLLHUP | EPOLLRDHUP | EPOLLERR)) {
        gone(door, channel, event, false, "the client hung up");
        return 1;
    }
    if (rang) {
        report(event, TSR_DOOR_BELL, channel, "");
    }
    return rang;
}

static int audit(struct tsr_door *door, uint64_t now_ns, struct tsr_door_event *events, int max)
{
    int count = 0;
    if (!door->audit_at) {
        if (now_ns < door->audit_ns) {
            return 0;
        }
        door->audit_ns = now_ns + ms_ns(TSR_DOOR_AUDIT_MS);
        door->audit_at = door->first;
    }
    while (door->audit_at && count < max) {
        struct tsr_channel *channel = door->audit_at;
        door->audit_at = channel->next;
        if (channel->state != CHANNEL_OPEN) {
            continue;
        }
        const char *why = NULL;
        if (tsr_guard_failed(channel->requests.guard) || tsr_guard_failed(channel->events.guard)) {
            why = "a page of the channel's shared memory failed (SIGBUS)";
        } else if (tsr_region_has_holes(&channel->requests) == 1) {
            why = "the client gave back pages of its region of the channel";
        }
        if (why) {
            gone(door, channel, &events[count++], true, why);
        }
    }
    return count;
}

/* In every step: a client that dies looks for a moment as if it had left its grant there. */
static void forget_taken(struct tsr_door *door)
{
    struct tsr_channel *next;
    for (struct tsr_channel *channel = door->left ? door->first : NULL; channel; channel = next) {
        next = channel->next;
        if (channel->state == CHANNEL_LEFT && !is_on_the_way(channel->fd)) {
            forget(door, channel);
        }
    }
}

static void expire_handshakes(struct tsr_door *door, uint64_t now_ns)
{
    if (door->pending == 0) {
        return;
    }
    struct tsr_channel *next;
    for (struct tsr_channel *channel = door->first; channel; channel = next) {
        next = channel->next;
        if (channel->state < CHANNEL_OPEN && now_ns >= channel->deadline_ns) {
            end_handshake(door, channel, TSR_REFUSE, TSR_CODE_LIMIT, 0,
                          "the client took too long to shake hands");
        }
    }
}

int tsr_door_timeout_ms(const struct tsr_door *door)
{
    uint64_t at_ns = UINT64_MAX;
    if (door->open || door->left) {
        at_ns = door->audit_ns;
    }
    if (!door->listening && door->listen_again_ns && door->listen_again_ns < at_ns) {
        at_ns = door->listen_again_ns;
    }
    for (const struct tsr_channel *channel = door->pending ? door->first : NULL; channel;
         channel = channel->next) {
        if (channel->state < CHANNEL_OPEN && channel->deadline_ns < at_ns) {
            at_ns = channel->deadline_ns;
        }
    }
    if (at_ns == UINT64_MAX) {
        return -1;
    }
    uint64_t now_ns = tsr_clock_ns();
    return at_ns <= now_ns ? 0 : (int)((at_ns - now_ns) / 1000000) + 1;
}

int tsr_door_step(struct tsr_door *door, struct tsr_door_event *events, int max)
{
    assert(max > 0);
    uint64_t now_ns = tsr_clock_ns();
    int count = 0;
    bool opened = false;
    struct epoll_event ready[READY_A_STEP];
    int most = max < READY_A_STEP ? max : READY_A_STEP;
    forget_taken(door);
    int found = epoll_wait(door->epoll, ready, most, 0);
    for (int i = 0; i < found; i++) {
        struct tsr_channel *channel = ready[i].data.ptr;
        if (!channel) {
            accept_some(door, now_ns);
        } else if (channel->state == CHANNEL_OPEN) {
            count += hear(door, channel, ready[i].events, now_ns, &events[count]);
        } else if (shake_hands(door, channel, now_ns)) {
            report(&events[count++], TSR_DOOR_OPENED, channel, "");
            opened = true;
        }
    }
    expire_handshakes(door, now_ns);
    /* An owner may close a channel that was opened at once: no GONE of it may follow. */
    if (count < max && !opened) {
        count += audit(door, now_ns, events + count, max - count);
    }
    resume_listening(door, now_ns);
    return count;
}

void tsr_door_close(struct tsr_door *door, struct tsr_channel *channel, const char *why)
{
    assert(channel->state >= CHANNEL_OPEN);
    bool broken = channel->broken || channel->offence[0];
    const char *text = why ? why : channel->broken ? channel->why : channel->offence;
    if (broken) {
        door->totals.dropped++;
    }
    tsr_log(broken ? TSR_LOG_WARN : TSR_LOG_DEBUG,
            "closed channel %" PRIu64 " of %s (pid %d, uid %u): %s", channel->peer.id,
            channel->peer.name[0] ? channel->peer.name : "a client", (int)channel->peer.pid,
            (unsigned)channel->peer.uid, *text ? text : "done with");
    if (*text) {
        (void)tell(channel->fd, TSR_DROPPED, broken ? TSR_CODE_LIED : TSR_CODE_OK, 0, 0, text);
    }
    drop(door, channel, false);
}
