#include "port_priv.h"

#include <errno.h>
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

void tsr_port_drop(struct tsr_port *port, enum tsr_port_drop drop, const uint8_t *bytes,
                   uint32_t size)
{
    port->counts.dropped[drop]++;
    if (!bytes) {
        return;
    }
    struct tsr_port_dropped *dropped = &port->dropped[port->n_dropped++ % TSR_PORT_DROPPED_KEPT];
    dropped->at_ns = port->now_ns + (uint64_t)port->realtime_ns;
    dropped->size = size;
    dropped->cause = (uint16_t)drop;
    dropped->kept = (uint16_t)(size < TSR_PORT_DROPPED_BYTES ? size : TSR_PORT_DROPPED_BYTES);
    memcpy(dropped->bytes, bytes, dropped->kept);
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

static int write_one(const struct tsr_port_dropped *dropped, int fd)
{
    const uint32_t head[4] = {(uint32_t)(dropped->at_ns / 1000000000u),
                              (uint32_t)(dropped->at_ns % 1000000000u), dropped->kept,
                              dropped->size};
    int rc = write_all(fd, head, sizeof head);
    return rc < 0 ? rc : write_all(fd, dropped->bytes, dropped->kept);
}

/* The format: draft-ietf-opsawg-pcap. */
int tsr_port_write_dropped(const struct tsr_port *port, int fd, struct tsr_err *err)
{
    static const uint32_t head[6] = {0xa1b23c4d, 2 | 4 << 16, 0, 0, TSR_PORT_DROPPED_BYTES,
                                     1 /* Ethernet */};
    uint64_t n = port->n_dropped < TSR_PORT_DROPPED_KEPT ? port->n_dropped : TSR_PORT_DROPPED_KEPT;
    int rc = write_all(fd, head, sizeof head);
    for (uint64_t i = port->n_dropped - n; rc == 0 && i < port->n_dropped; i++) {
        rc = write_one(&port->dropped[i % TSR_PORT_DROPPED_KEPT], fd);
    }
    return rc < 0 ? tsr_err_set(err, rc, "Dropped packets cannot be written: %s.", strerror(-rc))
                  : 0;
}
