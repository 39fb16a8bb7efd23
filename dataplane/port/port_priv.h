/* What all kinds of port share. */
#ifndef TSR_PORT_PORT_PRIV_H
#define TSR_PORT_PORT_PRIV_H

#include <stdatomic.h>

#include <tsr/port/port.h>

enum { TSR_PORT_DROPPED_SLOTS = TSR_PORT_DROPPED_KEPT + 1 }; /* one is being written */

/* One kind. Each function is as in port.h, or datagram.h. */
struct tsr_port_kind_table {
    void (*destroy)(struct tsr_port **ports, uint32_t queues);
    uint32_t (*poll)(struct tsr_port *port, tsr_port_take_fn *take, void *ctx);
    uint8_t *(*room)(struct tsr_port *port, const struct tsr_path *path, size_t *capacity);
    void (*send)(struct tsr_port *port, const struct tsr_path *path, size_t size, uint8_t ecn);
    void (*flush)(struct tsr_port *port);
    int (*check)(struct tsr_port *port, struct tsr_err *err); /* NULL: always there */
    uint64_t (*missed)(struct tsr_port *port);
    int (*adopt)(struct tsr_port *port, struct tsr_err *err);                 /* or NULL */
    void (*hear)(struct tsr_port *port, const struct tsr_datagram *datagram); /* or NULL */
    bool (*arm)(struct tsr_port *port); /* or NULL, as disarm: nothing to do */
    void (*disarm)(struct tsr_port *port);
};

struct tsr_port_dropped {
    uint64_t at_ns; /* of the realtime clock */
    uint32_t size, kept;
    uint8_t bytes[TSR_PORT_DROPPED_BYTES];
};

/* The first member of each kind's own struct. */
struct tsr_port {
    const struct tsr_port_kind_table *kind;
    struct tsr_port_counts counts;
    uint64_t now_ns;
    int64_t realtime_ns; /* to be added to now_ns */
    int fd;
    uint32_t n_listen;
    struct tsr_address listen[TSR_PORT_LISTEN_MAX];
    _Atomic uint64_t n_dropped; /* counted by the port's thread, read by any */
    struct tsr_port_dropped dropped[TSR_PORT_DROPPED_SLOTS]; /* [n % SLOTS] */
};

int tsr_port_socket_create(struct tsr_port **ports, const struct tsr_port_options *options,
                           struct tsr_err *err);
int tsr_port_dpdk_create(struct tsr_port **ports, const struct tsr_port_options *options,
                         struct tsr_err *err);

/* Of a device's text, "DRIVERn,key=value,...": whether it begins with a driver's name; the value of
 * a key, "" where it is not there. */
bool tsr_port_is(const char *device, const char *driver);
void tsr_port_argument(const char *device, const char *key, char *value, size_t size);

/* Counts a drop, and keeps the frame. bytes NULL: there is none, or it is ours. */
void tsr_port_drop(struct tsr_port *port, enum tsr_port_drop drop, const uint8_t *bytes,
                   uint32_t size);

#endif
