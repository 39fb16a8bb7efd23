#include <tsr/uring/sockets.h>

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <tsr/daemon/listen.h>

enum { UNSENT_BYTES_MAX = 128 << 10, UNACKNOWLEDGED_MS_MAX = 60000 };

/* ---- Addresses ---- */

/* Fills in what follows from the address. */
static void describe(struct tsr_socket *socket)
{
    char host[INET6_ADDRSTRLEN] = "";
    if (socket->address.ss_family == AF_INET) {
        const struct sockaddr_in *in = (const struct sockaddr_in *)&socket->address;
        inet_ntop(AF_INET, &in->sin_addr, host, sizeof host);
        socket->loopback = ntohl(in->sin_addr.s_addr) >> 24 == 127;
        snprintf(socket->name, sizeof socket->name, "%s:%u", host, ntohs(in->sin_port));
    } else if (socket->address.ss_family == AF_INET6) {
        const struct sockaddr_in6 *in = (const struct sockaddr_in6 *)&socket->address;
        inet_ntop(AF_INET6, &in->sin6_addr, host, sizeof host);
        socket->loopback = IN6_IS_ADDR_LOOPBACK(&in->sin6_addr);
        snprintf(socket->name, sizeof socket->name, "[%s]:%u", host, ntohs(in->sin6_port));
    } else {
        const struct sockaddr_un *un = (const struct sockaddr_un *)&socket->address;
        socket->loopback = true;
        snprintf(socket->name, sizeof socket->name, "unix:%s", un->sun_path);
    }
}

static int parse_unix(struct tsr_socket *socket, const char *path, struct tsr_err *err)
{
    struct sockaddr_un *un = (struct sockaddr_un *)&socket->address;
    size_t bytes = strlen(path);
    if (path[0] != '/' || bytes >= sizeof un->sun_path) {
        return tsr_err_set(err, -EINVAL,
                           "--listen unix:%s: an absolute path of at most %zu bytes "
                           "is wanted",
                           path, sizeof un->sun_path - 1);
    }
    un->sun_family = AF_UNIX;
    memcpy(un->sun_path, path, bytes + 1);
    socket->bytes = sizeof *un;
    return 0;
}

static int parse_port(const char *text, in_port_t *port)
{
    char *end = NULL;
    unsigned long value = strtoul(text, &end, 10);
    if (text[0] < '0' || text[0] > '9' || *end != '\0' || value > UINT16_MAX) {
        return -EINVAL;
    }
    *port = htons((uint16_t)value);
    return 0;
}

static int parse_internet(struct tsr_socket *socket, const char *text)
{
    struct sockaddr_in *in = (struct sockaddr_in *)&socket->address;
    struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)&socket->address;
    char host[INET6_ADDRSTRLEN];
    const char *colon = strrchr(text, ':');
    bool brackets = text[0] == '[';
    const char *end = colon && brackets && colon > text ? colon - 1 : colon;
    const char *start = text + brackets;
    if (!colon || end < start || (brackets && *end != ']') || end - start >= (int)sizeof host) {
        return -EINVAL;
    }
    memcpy(host, start, (size_t)(end - start));
    host[end - start] = '\0';
    if (brackets) {
        in6->sin6_family = AF_INET6;
        socket->bytes = sizeof *in6;
        return inet_pton(AF_INET6, host, &in6->sin6_addr) == 1
                   ? parse_port(colon + 1, &in6->sin6_port)
                   : -EINVAL;
    }
    in->sin_family = AF_INET;
    socket->bytes = sizeof *in;
    return inet_pton(AF_INET, host, &in->sin_addr) == 1 ? parse_port(colon + 1, &in->sin_port)
                                                        : -EINVAL;
}

static int room_for_one(const struct tsr_sockets *sockets, struct tsr_err *err)
{
    return sockets->n < TSR_SOCKETS_MAX
               ? 0
               : tsr_err_set(err, -EINVAL, "at most %d listening sockets", TSR_SOCKETS_MAX);
}

int tsr_sockets_add(struct tsr_sockets *sockets, const char *text, bool tls, struct tsr_err *err)
{
    int rc = room_for_one(sockets, err);
    if (rc < 0) {
        return rc;
    }
    struct tsr_socket *socket = &sockets->at[sockets->n];
    *socket = (struct tsr_socket){.fd = -1, .tls = tls};
    if (strncmp(text, "unix:", 5) == 0) {
        rc = parse_unix(socket, text + 5, err);
    } else if (parse_internet(socket, text) < 0) {
        rc = tsr_err_set(err, -EINVAL,
                         "--listen%s %s: an address and a port are wanted, like 127.0.0.1:8000 or "
                         "[::1]:8000 (names are not looked up), or unix:PATH",
                         tls ? "-tls" : "", text);
    }
    if (rc == 0) {
        describe(socket);
        sockets->n++;
    }
    return rc;
}

/* Whether the i-th of "a:tls:b" is "tls". */
static bool named_tls(const char *names, uint32_t i)
{
    for (; names && i; i--) {
        names = strchr(names, ':');
        names = names ? names + 1 : NULL;
    }
    return names && strncmp(names, "tls", 3) == 0 && (names[3] == ':' || names[3] == '\0');
}

int tsr_sockets_adopt(struct tsr_sockets *sockets, uint32_t n, const char *names,
                      struct tsr_err *err)
{
    for (uint32_t i = 0; i < n; i++) {
        int rc = room_for_one(sockets, err);
        if (rc < 0) {
            return rc;
        }
        struct tsr_socket *socket = &sockets->at[sockets->n++];
        *socket = (struct tsr_socket){
            .fd = TSR_LISTEN_FIRST + (int)i,
            .tls = named_tls(names, i),
            .passed = true,
            .bytes = sizeof socket->address,
        };
        if (getsockname(socket->fd, (struct sockaddr *)&socket->address, &socket->bytes) < 0) {
            return tsr_err_set(err, -errno, "LISTEN_FDS: descriptor %d has no address: %s",
                               socket->fd, strerror(errno));
        }
        describe(socket);
    }
    return 0;
}

/* ---- Sockets ---- */

static int bind_and_listen(struct tsr_socket *at)
{
    const int family = at->address.ss_family;
    const int on = 1;
    at->fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (at->fd < 0) {
        return -errno;
    }
    if (family == AF_UNIX) {
        tsr_listen_clear(((const struct sockaddr_un *)&at->address)->sun_path);
    } else {
        setsockopt(at->fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    }
    if (family == AF_INET6) { /* so that 0.0.0.0 and [::] may stand beside each other */
        setsockopt(at->fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof on);
    }
    mode_t mask = umask(0117); /* a Unix socket: user and group */
    int rc = bind(at->fd, (const struct sockaddr *)&at->address, at->bytes) < 0 ? -errno : 0;
    umask(mask);
    rc = rc == 0 && listen(at->fd, SOMAXCONN) < 0 ? -errno : rc;
    if (rc == 0 && family != AF_UNIX) {
        getsockname(at->fd, (struct sockaddr *)&at->address, &at->bytes);
        describe(at);
    }
    return rc;
}

/* Its connections inherit these. Tokens leave at once. What a slow reader has not been sent yet
 * waits here, where its request is charged for it, not in megabytes of the kernel's; and what it
 * has not acknowledged outlives the connection by a minute at most. */
static void set_tcp(int fd)
{
    const int on = 1, unsent_bytes = UNSENT_BYTES_MAX, timeout_ms = UNACKNOWLEDGED_MS_MAX;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    setsockopt(fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, &unsent_bytes, sizeof unsent_bytes);
    setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &timeout_ms, sizeof timeout_ms);
}

int tsr_sockets_open(struct tsr_sockets *sockets, struct tsr_err *err)
{
    for (uint32_t i = 0; i < sockets->n; i++) {
        struct tsr_socket *at = &sockets->at[i];
        int rc = at->passed ? 0 : bind_and_listen(at);
        if (rc < 0) {
            if (at->fd >= 0) {
                close(at->fd);
                at->fd = -1;
            }
            return tsr_err_set(err, rc, "cannot listen at %s: %s%s", at->name, strerror(-rc),
                               rc == -EADDRINUSE ? "; end what listens there, or choose another "
                                                   "port with --listen"
                               : rc == -EACCES   ? "; ports below 1024 are root's, or systemd's"
                                                 : "");
        }
        if (at->address.ss_family != AF_UNIX) {
            set_tcp(at->fd);
        }
    }
    return 0;
}

void tsr_sockets_close(struct tsr_sockets *sockets)
{
    for (uint32_t i = 0; i < sockets->n; i++) {
        struct tsr_socket *at = &sockets->at[i];
        if (at->fd >= 0 && !at->passed && at->address.ss_family == AF_UNIX) {
            unlink(((const struct sockaddr_un *)&at->address)->sun_path);
        }
        if (at->fd >= 0) {
            close(at->fd);
            at->fd = -1;
        }
    }
}
