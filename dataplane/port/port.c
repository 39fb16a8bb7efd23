#include "port_priv.h"

#include "frame_priv.h"

#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static const char *const drop_names[TSR_PORT_DROPS] = {
    [TSR_PORT_TAKEN] = "none",
    [TSR_PORT_DROP_SHORT] = "short",
    [TSR_PORT_DROP_MAC] = "mac",
    [TSR_PORT_DROP_VLAN] = "vlan",
    [TSR_PORT_DROP_PROTOCOL] = "protocol",
    [TSR_PORT_DROP_HEADER] = "header",
    [TSR_PORT_DROP_FRAGMENT] = "fragment",
    [TSR_PORT_DROP_CHECKSUM] = "checksum",
    [TSR_PORT_DROP_SOURCE] = "source",
    [TSR_PORT_DROP_ADDRESS] = "address",
    [TSR_PORT_DROP_UDP_PORT] = "udp_port",
    [TSR_PORT_DROP_ICMP] = "icmp",
    [TSR_PORT_DROP_BIG] = "big",
    [TSR_PORT_DROP_NEIGHBOUR] = "neighbour",
    [TSR_PORT_DROP_FULL] = "full",
    [TSR_PORT_DROP_MEMORY] = "memory",
};

/* --- options --- */

static int check_listen(const struct tsr_port_listen *listen, struct tsr_err *err)
{
    uint8_t family = listen->address.family;
    if (family != 4 && family != 6) {
        return tsr_err_set(err, -EINVAL, "A listening address is of family %u: 4 and 6 are known.",
                           family);
    }
    if (listen->prefix > (family == 4 ? 32 : 128)) {
        return tsr_err_set(err, -EINVAL, "The prefix of %u bits is longer than an IPv%u address.",
                           listen->prefix, family);
    }
    return 0;
}

static int check(const struct tsr_port_options *options, struct tsr_err *err)
{
    if (options->n_listen == 0 || options->n_listen > TSR_PORT_LISTEN_MAX) {
        return tsr_err_set(err, -EINVAL, "%u listening addresses are asked for: give 1 to %d.",
                           options->n_listen, TSR_PORT_LISTEN_MAX);
    }
    if (options->queues == 0 || options->queues > TSR_PORT_QUEUES_MAX) {
        return tsr_err_set(err, -EINVAL, "%u queues are asked for: give 1 to %d.", options->queues,
                           TSR_PORT_QUEUES_MAX);
    }
    if (options->mtu && (options->mtu < TSR_PORT_MTU_MIN || options->mtu > TSR_PORT_MTU_MAX)) {
        return tsr_err_set(err, -EINVAL, "The MTU %u is not between %d and %d.", options->mtu,
                           TSR_PORT_MTU_MIN, TSR_PORT_MTU_MAX);
    }
    if (options->vlan > 4094) {
        return tsr_err_set(err, -EINVAL, "The VLAN %u is not between 1 and 4094.", options->vlan);
    }
    for (uint32_t i = 0; i < options->n_listen; i++) {
        int rc = check_listen(&options->listen[i], err);
        if (rc < 0) {
            return rc;
        }
    }
    return 0;
}

static int64_t realtime_minus_monotonic(void)
{
    struct timespec real, mono;
    clock_gettime(CLOCK_REALTIME, &real);
    clock_gettime(CLOCK_MONOTONIC, &mono);
    return (real.tv_sec - mono.tv_sec) * 1000000000 + real.tv_nsec - mono.tv_nsec;
}

int tsr_port_create(struct tsr_port **ports, const struct tsr_port_options *options,
                    struct tsr_err *err)
{
    int rc = check(options, err);
    if (rc < 0) {
        return rc;
    }
    rc = options->kind == TSR_PORT_SOCKET ? tsr_port_socket_create(ports, options, err)
                                          : tsr_port_dpdk_create(ports, options, err);
    for (uint32_t i = 0; rc == 0 && i < options->queues; i++) {
        ports[i]->realtime_ns = realtime_minus_monotonic();
    }
    return rc;
}

#ifndef TSR_PORT_HAS_DPDK
int tsr_port_dpdk_create(struct tsr_port **ports, const struct tsr_port_options *options,
                         struct tsr_err *err)
{
    (void)ports;
    return tsr_err_set(err, -ENOTSUP,
                       "This program was built without DPDK, so it cannot use '%s': install "
                       "dpdk-dev and build it again, or use a socket.",
                       options->device ? options->device : "");
}
#endif

void tsr_port_destroy(struct tsr_port **ports, uint32_t queues)
{
    if (queues && ports[0]) {
        ports[0]->kind->destroy(ports, queues);
    }
}

/* --- devices' texts --- */

bool tsr_port_is(const char *device, const char *driver)
{
    return strncmp(device, driver, strlen(driver)) == 0;
}

void tsr_port_argument(const char *device, const char *key, char *value, size_t size)
{
    const char *at = strchr(device, ',');
    value[0] = 0;
    for (; at; at = strchr(at, ',')) {
        at++;
        if (tsr_port_is(at, key) && at[strlen(key)] == '=') {
            at += strlen(key) + 1;
            snprintf(value, size, "%.*s", (int)strcspn(at, ","), at);
        }
    }
}

bool tsr_port_link(const char *device, char path[TSR_PORT_LINK_BYTES])
{
    char role[16], abstract[8], client[8], server[8];
    tsr_port_argument(device, "role", role, sizeof role);
    tsr_port_argument(device, "socket-abstract", abstract, sizeof abstract);
    tsr_port_argument(device, "client", client, sizeof client);
    tsr_port_argument(device, "server", server, sizeof server);
    path[0] = 0;
    if (tsr_port_is(device, "net_memif") && strcmp(abstract, "no") == 0 &&
        strcmp(role, "client") != 0 && strcmp(role, "slave") != 0) {
        tsr_port_argument(device, "socket", path, TSR_PORT_LINK_BYTES);
    } else if (tsr_port_is(device, "net_vhost") && strcmp(client, "1") != 0) {
        tsr_port_argument(device, "iface", path, TSR_PORT_LINK_BYTES);
    } else if (tsr_port_is(device, "net_virtio_user") && strcmp(server, "1") == 0) {
        tsr_port_argument(device, "path", path, TSR_PORT_LINK_BYTES);
    }
    return path[0] != 0;
}

/* --- the kinds' functions --- */

uint32_t tsr_port_poll(struct tsr_port *port, tsr_port_take_fn *take, void *ctx, uint64_t now_ns)
{
    port->now_ns = now_ns;
    return port->kind->poll(port, take, ctx);
}

int tsr_port_check(struct tsr_port *port, struct tsr_err *err)
{
    return port->kind->check ? port->kind->check(port, err) : 0;
}

int tsr_port_adopt(struct tsr_port *port, int cpu, struct tsr_err *err)
{
    cpu_set_t cpus;
    CPU_ZERO(&cpus);
    if (cpu >= 0) {
        CPU_SET((size_t)cpu, &cpus);
        if (sched_setaffinity(0, sizeof cpus, &cpus) < 0) {
            return tsr_err_set(err, -errno, "CPU %d cannot be used by this process: %s.", cpu,
                               strerror(errno));
        }
    }
    return port->kind->adopt ? port->kind->adopt(port, err) : 0;
}

void tsr_port_hear(struct tsr_port *port, const struct tsr_datagram *datagram)
{
    if (port->kind->hear) {
        port->kind->hear(port, datagram);
    }
}

static uint8_t *room(void *port, const struct tsr_path *path, size_t *capacity)
{
    return ((struct tsr_port *)port)->kind->room(port, path, capacity);
}

static void give(void *port, const struct tsr_path *path, size_t size, uint8_t ecn)
{
    ((struct tsr_port *)port)->kind->send(port, path, size, ecn);
}

const struct tsr_datagram_way tsr_port_way = {room, give};

void tsr_port_flush(struct tsr_port *port)
{
    port->kind->flush(port);
}

int tsr_port_fd(const struct tsr_port *port)
{
    return port->fd;
}

bool tsr_port_arm(struct tsr_port *port)
{
    return port->kind->arm && port->kind->arm(port);
}

void tsr_port_disarm(struct tsr_port *port)
{
    if (port->kind->disarm) {
        port->kind->disarm(port);
    }
}

uint32_t tsr_port_listens(const struct tsr_port *port, struct tsr_address out[TSR_PORT_LISTEN_MAX])
{
    memcpy(out, port->listen, port->n_listen * sizeof *out);
    return port->n_listen;
}

void tsr_port_count(struct tsr_port *port, struct tsr_port_counts *counts)
{
    port->counts.rx_missed = port->kind->missed(port);
    *counts = port->counts;
}

const char *tsr_port_drop_name(enum tsr_port_drop drop)
{
    return drop_names[drop];
}

/* --- dropped packets --- */

static struct tsr_port_dropped *begin_keeping(struct tsr_port *port, uint32_t size)
{
    uint64_t n = atomic_load_explicit(&port->n_dropped, memory_order_relaxed);
    struct tsr_port_dropped *dropped = &port->dropped[n % TSR_PORT_DROPPED_SLOTS];
    dropped->at_ns = port->now_ns + (uint64_t)port->realtime_ns;
    dropped->size = size;
    dropped->kept = size < TSR_PORT_DROPPED_BYTES ? size : TSR_PORT_DROPPED_BYTES;
    return dropped;
}

static void end_keeping(struct tsr_port *port)
{
    /* R0: publishes dropped[n]; pairs with A0 and A1 in write_kept(). */
    atomic_fetch_add_explicit(&port->n_dropped, 1, memory_order_release);
}

void tsr_port_drop(struct tsr_port *port, enum tsr_port_drop drop, const uint8_t *bytes,
                   uint32_t size)
{
    port->counts.dropped[drop]++;
    if (bytes) {
        struct tsr_port_dropped *dropped = begin_keeping(port, size);
        memcpy(dropped->bytes, bytes, dropped->kept);
        end_keeping(port);
    }
}

void tsr_port_keep(void *ctx, const struct tsr_datagram *datagram)
{
    static const uint8_t nobody[6];
    struct tsr_port *port = ctx;
    const struct tsr_path path = {datagram->path.remote, datagram->path.local};
    const struct tsr_frame_head head = {
        .path = &path, .to = nobody, .from = nobody, .ecn = datagram->ecn, .device_sums = true};
    uint32_t head_bytes = tsr_frame_head_bytes(path.local.family, 0);
    struct tsr_port_dropped *dropped = begin_keeping(port, head_bytes + datagram->size);
    uint8_t *payload = dropped->bytes + head_bytes;
    memcpy(payload, datagram->bytes, dropped->kept - head_bytes);
    tsr_frame_write(payload, datagram->size, &head);
    end_keeping(port);
}

static int write_all(int fd, const void *bytes, size_t size)
{
    while (size) {
        ssize_t n = write(fd, bytes, size);
        if (n < 0 && errno != EINTR) {
            return -errno;
        }
        size -= n > 0 ? (size_t)n : 0;
        bytes = (const uint8_t *)bytes + (n > 0 ? n : 0);
    }
    return 0;
}

static size_t put_one(uint8_t *to, const struct tsr_port_dropped *dropped)
{
    const uint32_t head[4] = {(uint32_t)(dropped->at_ns / 1000000000u),
                              (uint32_t)(dropped->at_ns % 1000000000u), dropped->kept,
                              dropped->size};
    memcpy(to, head, sizeof head);
    memcpy(to + sizeof head, dropped->bytes, dropped->kept);
    return sizeof head + dropped->kept;
}

/* The port's thread goes on meanwhile: what it may have written over is left out. */
static int write_kept(struct tsr_port *port, int fd)
{
    enum { RECORD_BYTES = 16 + TSR_PORT_DROPPED_BYTES };
    uint8_t out[TSR_PORT_DROPPED_KEPT * RECORD_BYTES];
    size_t size = 0;
    uint64_t n = atomic_load_explicit(&port->n_dropped, memory_order_acquire); /* A0 */
    for (uint64_t i = n > TSR_PORT_DROPPED_KEPT ? n - TSR_PORT_DROPPED_KEPT : 0; i < n; i++) {
        struct tsr_port_dropped one = port->dropped[i % TSR_PORT_DROPPED_SLOTS];
        /* A1: adds nothing, and is not done before the copy is. */
        uint64_t now = atomic_fetch_add_explicit(&port->n_dropped, 0, memory_order_acq_rel);
        if (now - i < TSR_PORT_DROPPED_SLOTS) {
            size += put_one(out + size, &one);
        }
    }
    return write_all(fd, out, size);
}

/* The format: draft-ietf-opsawg-pcap. */
int tsr_port_write_dropped(struct tsr_port *const *ports, uint32_t queues, int fd,
                           struct tsr_err *err)
{
    static const uint32_t head[6] = {0xa1b23c4d, 2 | 4 << 16, 0, 0, TSR_PORT_DROPPED_BYTES,
                                     1 /* Ethernet */};
    int rc = write_all(fd, head, sizeof head);
    for (uint32_t i = 0; rc == 0 && i < queues; i++) {
        rc = write_kept(ports[i], fd);
    }
    return rc < 0 ? tsr_err_set(err, rc, "Dropped packets cannot be written: %s.", strerror(-rc))
                  : 0;
}
