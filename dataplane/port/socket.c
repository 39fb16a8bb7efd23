/* A kernel's UDP socket as a port: for machines without DPDK, and to compare with. One socket a
 * listening address and queue; the kernel spreads paths over queues (SO_REUSEPORT). */
#include "port_priv.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
    RX_BYTES = TSR_PORT_MTU_MAX,
    CONTROL_BYTES = 128,
    BUFFER_BYTES = 4 << 20, /* of the kernel, if it allows: what comes while the thread is away */
    MTU_DEFAULT = 1500,
};

struct sock {
    int fd;
    struct tsr_address address;
};

union name {
    struct sockaddr any;
    struct sockaddr_in v4;
    struct sockaddr_in6 v6;
};

/* Packets on their way: one half of the port. */
struct burst {
    struct mmsghdr messages[TSR_PORT_BURST];
    struct iovec vectors[TSR_PORT_BURST];
    union name names[TSR_PORT_BURST];
    uint8_t control[TSR_PORT_BURST][CONTROL_BYTES] __attribute__((aligned(16)));
    uint8_t bytes[TSR_PORT_BURST][RX_BYTES];
};

struct socket_port {
    struct tsr_port port;
    struct sock socks[TSR_PORT_LISTEN_MAX];
    uint32_t n_socks;
    uint32_t turn; /* whose packets come first */
    uint16_t mtu;
    uint32_t n_sent;
    int sent_fd; /* all that is in `sent` goes to one socket */
    struct burst rx, sent;
};

/* --- addresses --- */

/* An address of link-local scope means nothing without its interface: here that stands, as KAME's
 * kernels had it, in the second pair of bytes, which such addresses have as zero (RFC 4291, 2.5.6).
 */
static bool is_link_local(const struct tsr_address *address)
{
    return address->family == 6 && address->ip[0] == 0xfe && (address->ip[1] & 0xc0) == 0x80;
}

static socklen_t to_name(union name *name, const struct tsr_address *address)
{
    memset(name, 0, sizeof *name);
    if (address->family == 4) {
        name->v4.sin_family = AF_INET;
        name->v4.sin_port = htons(address->port);
        memcpy(&name->v4.sin_addr, address->ip, 4);
        return sizeof name->v4;
    }
    name->v6.sin6_family = AF_INET6;
    name->v6.sin6_port = htons(address->port);
    memcpy(&name->v6.sin6_addr, address->ip, 16);
    if (is_link_local(address)) {
        name->v6.sin6_scope_id = (uint32_t)address->ip[2] << 8 | address->ip[3];
        memset(&name->v6.sin6_addr.s6_addr[2], 0, 2);
    }
    return sizeof name->v6;
}

static void from_name(struct tsr_address *address, const union name *name)
{
    *address = (struct tsr_address){.family = name->any.sa_family == AF_INET ? 4 : 6};
    if (address->family == 4) {
        address->port = ntohs(name->v4.sin_port);
        memcpy(address->ip, &name->v4.sin_addr, 4);
    } else {
        address->port = ntohs(name->v6.sin6_port);
        memcpy(address->ip, &name->v6.sin6_addr, 16);
        if (is_link_local(address)) {
            address->ip[2] = (uint8_t)(name->v6.sin6_scope_id >> 8);
            address->ip[3] = (uint8_t)name->v6.sin6_scope_id;
        }
    }
}

/* --- opening --- */

/* The kernel tells where a datagram came to and its ECN bits, and fragments nothing. */
static bool set_options(int fd, uint8_t family, bool shared)
{
    static const int one = 1, probe = IP_PMTUDISC_PROBE, probe6 = IPV6_PMTUDISC_PROBE,
                     bytes = BUFFER_BYTES;
    bool ok = true;
    setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &bytes, sizeof bytes);
    setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &bytes, sizeof bytes);
    if (shared) {
        ok = setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &one, sizeof one) == 0;
    }
    if (family == 4) {
        return ok && setsockopt(fd, IPPROTO_IP, IP_PKTINFO, &one, sizeof one) == 0 &&
               setsockopt(fd, IPPROTO_IP, IP_RECVTOS, &one, sizeof one) == 0 &&
               setsockopt(fd, IPPROTO_IP, IP_MTU_DISCOVER, &probe, sizeof probe) == 0;
    }
    return ok && setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &one, sizeof one) == 0 &&
           setsockopt(fd, IPPROTO_IPV6, IPV6_RECVPKTINFO, &one, sizeof one) == 0 &&
           setsockopt(fd, IPPROTO_IPV6, IPV6_RECVTCLASS, &one, sizeof one) == 0 &&
           setsockopt(fd, IPPROTO_IPV6, IPV6_MTU_DISCOVER, &probe6, sizeof probe6) == 0;
}

static int open_socket(struct sock *sock, const struct tsr_address *address, bool shared)
{
    union name name;
    socklen_t size = to_name(&name, address);
    sock->fd = socket(name.any.sa_family, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (sock->fd < 0) {
        return -errno;
    }
    if (!set_options(sock->fd, address->family, shared) || bind(sock->fd, &name.any, size) < 0 ||
        getsockname(sock->fd, &name.any, &size) < 0) {
        return -errno;
    }
    from_name(&sock->address, &name);
    return 0;
}

static void close_port(struct socket_port *p)
{
    if (!p) {
        return;
    }
    for (uint32_t i = 0; i < p->n_socks; i++) {
        if (p->socks[i].fd >= 0) {
            close(p->socks[i].fd);
        }
    }
    if (p->port.fd >= 0) {
        close(p->port.fd);
    }
    free(p);
}

static void socket_destroy(struct tsr_port **ports, uint32_t queues)
{
    for (uint32_t i = 0; i < queues; i++) {
        close_port((struct socket_port *)ports[i]);
        ports[i] = NULL;
    }
}

/* --- receiving --- */

static void ready_rx(struct burst *burst)
{
    for (int i = 0; i < TSR_PORT_BURST; i++) {
        burst->vectors[i] = (struct iovec){burst->bytes[i], RX_BYTES};
        burst->messages[i].msg_hdr = (struct msghdr){
            .msg_name = &burst->names[i],
            .msg_namelen = sizeof burst->names[i],
            .msg_iov = &burst->vectors[i],
            .msg_iovlen = 1,
            .msg_control = burst->control[i],
            .msg_controllen = CONTROL_BYTES,
        };
    }
}

static void read_control(struct msghdr *message, struct tsr_datagram *datagram)
{
    for (struct cmsghdr *c = CMSG_FIRSTHDR(message); c; c = CMSG_NXTHDR(message, c)) {
        const uint8_t *data = CMSG_DATA(c);
        if (c->cmsg_level == IPPROTO_IP && c->cmsg_type == IP_PKTINFO) {
            memcpy(datagram->path.local.ip, data + offsetof(struct in_pktinfo, ipi_addr), 4);
        } else if (c->cmsg_level == IPPROTO_IP && c->cmsg_type == IP_TOS) {
            datagram->ecn = data[0] & 3;
        } else if (c->cmsg_level == IPPROTO_IPV6 && c->cmsg_type == IPV6_PKTINFO) {
            memcpy(datagram->path.local.ip, data, 16);
        } else if (c->cmsg_level == IPPROTO_IPV6 && c->cmsg_type == IPV6_TCLASS) {
            int class;
            memcpy(&class, data, sizeof class);
            datagram->ecn = (uint8_t)(class & 3);
        }
    }
}

static void take_one(struct socket_port *p, const struct sock *sock, int i, tsr_port_take_fn *take,
                     void *ctx)
{
    struct mmsghdr *message = &p->rx.messages[i];
    struct tsr_datagram datagram = {
        .path.local = sock->address, .bytes = p->rx.bytes[i], .size = message->msg_len};
    p->port.counts.rx_packets++;
    p->port.counts.rx_bytes += message->msg_len;
    if (message->msg_hdr.msg_flags & MSG_TRUNC) {
        tsr_port_drop(&p->port, TSR_PORT_DROP_BIG, NULL, 0);
        return;
    }
    from_name(&datagram.path.remote, &p->rx.names[i]);
    read_control(&message->msg_hdr, &datagram);
    p->port.counts.rx_datagrams++;
    take(ctx, &datagram);
}

static uint32_t receive(struct socket_port *p, const struct sock *sock, uint32_t most,
                        tsr_port_take_fn *take, void *ctx)
{
    ready_rx(&p->rx);
    int n = recvmmsg(sock->fd, p->rx.messages, most, MSG_DONTWAIT, NULL);
    for (int i = 0; i < n; i++) {
        take_one(p, sock, i, take, ctx);
    }
    return n > 0 ? (uint32_t)n : 0;
}

static uint32_t socket_poll(struct tsr_port *port, tsr_port_take_fn *take, void *ctx)
{
    struct socket_port *p = (struct socket_port *)port;
    uint32_t n = 0;
    for (uint32_t i = 0; i < p->n_socks && n < TSR_PORT_BURST; i++) {
        n += receive(p, &p->socks[(p->turn + i) % p->n_socks], TSR_PORT_BURST - n, take, ctx);
    }
    p->turn++;
    return n;
}

/* --- sending --- */

static const struct sock *socket_for(const struct socket_port *p, const struct tsr_address *local)
{
    for (uint32_t i = 0; i < p->n_socks; i++) {
        static const uint8_t unspecified[16];
        const struct tsr_address *address = &p->socks[i].address;
        if (address->family == local->family && address->port == local->port &&
            (memcmp(address->ip, local->ip, 16) == 0 ||
             memcmp(address->ip, unspecified, 16) == 0)) {
            return &p->socks[i];
        }
    }
    return NULL;
}

/* What the kernel does not take now is lost; a datagram that it refuses costs only itself. */
static void socket_flush(struct tsr_port *port)
{
    struct socket_port *p = (struct socket_port *)port;
    uint32_t done = 0;
    while (done < p->n_sent) {
        int n = sendmmsg(p->sent_fd, p->sent.messages + done, p->n_sent - done, MSG_DONTWAIT);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        for (int i = 0; i < n; i++) {
            port->counts.tx_packets++;
            port->counts.tx_bytes += p->sent.messages[done + (uint32_t)i].msg_len;
        }
        port->counts.tx_datagrams += n > 0 ? (uint32_t)n : 0;
        done += n > 0 ? (uint32_t)n : 0;
        if (n < 0 && (errno == EAGAIN || errno == ENOBUFS)) {
            port->counts.dropped[TSR_PORT_DROP_FULL] += p->n_sent - done;
            break;
        }
        if (n < 0) {
            port->counts.dropped[errno == EMSGSIZE ? TSR_PORT_DROP_BIG : TSR_PORT_DROP_NEIGHBOUR]++;
            done++;
        }
    }
    p->n_sent = 0;
}

static uint8_t *socket_room(struct tsr_port *port, const struct tsr_path *path, size_t *capacity)
{
    struct socket_port *p = (struct socket_port *)port;
    const struct sock *sock = socket_for(p, &path->local);
    if (!sock) {
        tsr_port_drop(port, TSR_PORT_DROP_NEIGHBOUR, NULL, 0);
        return NULL;
    }
    if (p->n_sent == TSR_PORT_BURST || (p->n_sent && p->sent_fd != sock->fd)) {
        socket_flush(port);
    }
    p->sent_fd = sock->fd;
    *capacity = p->mtu - (path->remote.family == 4 ? 28u : 48u);
    return p->sent.bytes[p->n_sent];
}

static struct cmsghdr *put_control(struct cmsghdr *c, int level, int type, const void *data,
                                   size_t size)
{
    c->cmsg_level = level;
    c->cmsg_type = type;
    c->cmsg_len = CMSG_LEN(size);
    memcpy(CMSG_DATA(c), data, size);
    return (struct cmsghdr *)((uint8_t *)c + CMSG_SPACE(size));
}

/* Whence, and the ECN bits; returns the bytes of both. */
static size_t write_control(uint8_t *control, const struct tsr_address *local, int ecn)
{
    struct cmsghdr *c = (struct cmsghdr *)control;
    memset(control, 0, CONTROL_BYTES);
    if (local->family == 4) {
        struct in_pktinfo info = {0};
        memcpy(&info.ipi_spec_dst, local->ip, 4);
        c = put_control(c, IPPROTO_IP, IP_PKTINFO, &info, sizeof info);
        c = put_control(c, IPPROTO_IP, IP_TOS, &ecn, sizeof ecn);
    } else {
        struct in6_pktinfo info = {0};
        memcpy(&info.ipi6_addr, local->ip, 16);
        c = put_control(c, IPPROTO_IPV6, IPV6_PKTINFO, &info, sizeof info);
        c = put_control(c, IPPROTO_IPV6, IPV6_TCLASS, &ecn, sizeof ecn);
    }
    return (size_t)((uint8_t *)c - control);
}

static void socket_send(struct tsr_port *port, const struct tsr_path *path, size_t size,
                        uint8_t ecn)
{
    struct socket_port *p = (struct socket_port *)port;
    struct burst *sent = &p->sent;
    uint32_t i = p->n_sent++;
    sent->vectors[i] = (struct iovec){sent->bytes[i], size};
    sent->messages[i].msg_hdr = (struct msghdr){
        .msg_name = &sent->names[i],
        .msg_namelen = to_name(&sent->names[i], &path->remote),
        .msg_iov = &sent->vectors[i],
        .msg_iovlen = 1,
        .msg_control = sent->control[i],
        .msg_controllen = write_control(sent->control[i], &path->local, ecn & 3),
    };
}

static uint64_t socket_missed(struct tsr_port *port)
{
    return port->counts.rx_missed; /* the kernel counts for all sockets of a host together */
}

static const struct tsr_port_kind_table socket_kind = {
    .destroy = socket_destroy,
    .poll = socket_poll,
    .room = socket_room,
    .send = socket_send,
    .flush = socket_flush,
    .missed = socket_missed,
};

/* --- creating --- */

static int open_port(struct socket_port *p, const struct tsr_port_options *options)
{
    p->port.kind = &socket_kind;
    p->mtu = options->mtu ? options->mtu : MTU_DEFAULT;
    p->port.fd = epoll_create1(EPOLL_CLOEXEC);
    if (p->port.fd < 0) {
        return -errno;
    }
    for (uint32_t i = 0; i < options->n_listen; i++) {
        struct epoll_event event = {.events = EPOLLIN};
        struct sock *sock = &p->socks[p->n_socks++];
        int rc = open_socket(sock, &p->port.listen[i], options->queues > 1);
        if (rc < 0) {
            return rc;
        }
        if (epoll_ctl(p->port.fd, EPOLL_CTL_ADD, sock->fd, &event) < 0) {
            return -errno;
        }
        p->port.listen[i] = sock->address;
    }
    return 0;
}

int tsr_port_socket_create(struct tsr_port **ports, const struct tsr_port_options *options,
                           struct tsr_err *err)
{
    for (uint32_t q = 0; q < options->queues; q++) {
        struct socket_port *p = calloc(1, sizeof *p);
        ports[q] = &p->port;
        int rc = p ? 0 : -ENOMEM;
        for (uint32_t i = 0; p && i < options->n_listen; i++) {
            /* what the kernel chose for the first queue holds for all */
            p->port.listen[i] = q ? ports[0]->listen[i] : options->listen[i].address;
            p->port.n_listen = options->n_listen;
        }
        rc = rc < 0 ? rc : open_port(p, options);
        if (rc < 0) {
            socket_destroy(ports, q + 1);
            return tsr_err_set(err, rc,
                               "The UDP socket for port %u cannot be opened: %s. Is another "
                               "program on this port?",
                               options->listen[0].address.port, strerror(-rc));
        }
    }
    return 0;
}
