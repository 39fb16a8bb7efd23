/* Ports: UDP datagrams from and to a network card without the kernel (DPDK), beside the kernel
 * (AF_XDP), or through it (a UDP socket). What is above a port is the same for all of them.
 *
 * One port is one receive queue and one send queue, and belongs to one thread. A device with
 * several queues gives several ports; all datagrams of one path come to the same of them. After
 * creation nothing is allocated and, but for the kinds that need it, no system call made. */
#ifndef TSR_PORT_PORT_H
#define TSR_PORT_PORT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <tsr/port/datagram.h>
#include <tsr/shm/err.h>

enum {
    TSR_PORT_LISTEN_MAX = 8,
    TSR_PORT_QUEUES_MAX = 16,
    TSR_PORT_EAL_MAX = 32,
    TSR_PORT_BURST = 32,     /* most packets that one poll takes */
    TSR_PORT_MTU_MIN = 1280, /* IPv6's; QUIC wants 1,200 bytes of payload */
    TSR_PORT_MTU_MAX = 9000,
    TSR_PORT_BUFFERS_DEFAULT = 8192, /* packet buffers a queue */
    TSR_PORT_BUFFERS_MIN = 2048,     /* what a queue's rings hold, and some */
    TSR_PORT_LINK_BYTES = 108,       /* of a socket's path, with its NUL */
    TSR_PORT_DROPPED_KEPT = 256,     /* of each port the last dropped packets ... */
    TSR_PORT_DROPPED_BYTES = 192,    /* ... with so much of each */
};

/* Why a packet went no further. */
enum tsr_port_drop {
    TSR_PORT_TAKEN,
    TSR_PORT_DROP_SHORT,    /* ends before its headers or its stated length do */
    TSR_PORT_DROP_MAC,      /* to another Ethernet address */
    TSR_PORT_DROP_VLAN,     /* of another VLAN */
    TSR_PORT_DROP_PROTOCOL, /* nothing that a port answers */
    TSR_PORT_DROP_HEADER,   /* a header that contradicts itself, or more extensions than are read */
    TSR_PORT_DROP_FRAGMENT, /* part of an IP packet: QUIC sends whole ones */
    TSR_PORT_DROP_CHECKSUM,
    TSR_PORT_DROP_SOURCE,    /* from an address that no host has, or from ours */
    TSR_PORT_DROP_ADDRESS,   /* to another IP address */
    TSR_PORT_DROP_UDP_PORT,  /* to another UDP port */
    TSR_PORT_DROP_ICMP,      /* a message that is not answered, or one too many in a second */
    TSR_PORT_DROP_BIG,       /* larger than a buffer */
    TSR_PORT_DROP_NEIGHBOUR, /* ours: the next hop's Ethernet address is not known */
    TSR_PORT_DROP_FULL,      /* ours: the device takes no more now */
    TSR_PORT_DROP_MEMORY,    /* ours: no free buffer */
    TSR_PORT_DROPS,
};

struct tsr_port_counts {
    uint64_t rx_packets; /* all that came, dropped ones too */
    uint64_t rx_bytes;
    uint64_t rx_datagrams; /* given to the caller */
    uint64_t rx_missed;    /* lost before the port saw them, as the device counts */
    uint64_t tx_packets;
    uint64_t tx_bytes;
    uint64_t tx_datagrams;
    uint64_t answered; /* ARP, neighbour discovery, echo: answered by the port itself */
    uint64_t dropped[TSR_PORT_DROPS];
};

enum tsr_port_kind { TSR_PORT_SOCKET, TSR_PORT_DPDK };

struct tsr_port_listen {
    struct tsr_address
        address;    /* a socket may have the unspecified address, and port 0; DPDK not */
    uint8_t prefix; /* bits of the network; 0: every peer is behind the gateway, or known by its
                       packets */
    bool has_gateway;
    uint8_t gateway[16]; /* of the address's family */
};

struct tsr_port_options {
    enum tsr_port_kind kind;
    struct tsr_port_listen listen[TSR_PORT_LISTEN_MAX];
    uint32_t n_listen;
    uint32_t queues; /* 1 .. TSR_PORT_QUEUES_MAX */
    uint16_t mtu;    /* 0: the device's */

    /* Of DPDK alone. The first port initialises EAL, once in a process, and pins the calling thread
     * to `cpu`. */
    const char *device; /* a PCI address, or as for --vdev: "net_af_packet0,iface=eth1" */
    uint16_t vlan;      /* 1 .. 4094: its tag on all frames; 0: frames without one */
    bool no_huge;       /* ordinary pages: for tests */
    int cpu;            /* < 0: the thread stays where it may run */
    uint32_t buffers;   /* packet buffers for all queues; 0: the default */
    const char *eal[TSR_PORT_EAL_MAX]; /* further arguments of EAL's, NULL after the last */
};

struct tsr_port;

/* Opens the device; ports[0 .. options->queues - 1] are its queues. What it took in memory and
 * which offloads the device has goes to the log. A net_af_xdp device without `xdp_prog=` gets our
 * steering program: what comes for the listening addresses' UDP ports comes here, everything else
 * stays the kernel's, which then also answers ARP and ping. Errors: -EINVAL options, -ENOTSUP built
 * without DPDK, or what the device said; err has the sentence. */
int tsr_port_create(struct tsr_port **ports, const struct tsr_port_options *options,
                    struct tsr_err *err);

/* All queues of a device together. */
void tsr_port_destroy(struct tsr_port **ports, uint32_t queues);

typedef void tsr_port_take_fn(void *ctx, const struct tsr_datagram *datagram);

/* Takes at most TSR_PORT_BURST packets and calls take() with each datagram among them; the port
 * answers what is not a datagram by itself. Never waits. Returns how many packets there were: 0,
 * nothing to be done. now_ns: monotonic. */
uint32_t tsr_port_poll(struct tsr_port *port, tsr_port_take_fn *take, void *ctx, uint64_t now_ns);

/* To be asked now and then: -ENODEV where the interface under the device is gone for good. One that
 * is down may come up again, and the port goes on then. */
int tsr_port_check(struct tsr_port *port, struct tsr_err *err);

/* The calling thread polls this port from now on: it runs on `cpu` alone (< 0: where it may), and
 * has packet buffers at hand. Before the first poll. */
int tsr_port_adopt(struct tsr_port *port, int cpu, struct tsr_err *err);

/* A datagram that another port of the device has taken is answered by this one: the way back is
 * learnt from it. */
void tsr_port_hear(struct tsr_port *port, const struct tsr_datagram *datagram);

/* How to send; its first argument is the port. room() flushes by itself where a burst is full. */
extern const struct tsr_datagram_way tsr_port_way;

/* Gives what was sent to the device. To be called before sleeping and after each turn. */
void tsr_port_flush(struct tsr_port *port);

/* Becomes readable when a packet comes (for epoll); -1 where the device cannot tell, or is not
 * armed, and is polled. */
int tsr_port_fd(const struct tsr_port *port);

/* Around a sleep on tsr_port_fd(), which some devices have between the two alone. arm() has the
 * device interrupt; true: a packet may have come before, so tsr_port_poll() is to be called once
 * more, and no sleep where it takes one. */
bool tsr_port_arm(struct tsr_port *port);
void tsr_port_disarm(struct tsr_port *port);

/* The addresses that the port listens on, with the UDP ports that the kernel chose. */
uint32_t tsr_port_listens(const struct tsr_port *port, struct tsr_address out[TSR_PORT_LISTEN_MAX]);

/* The socket file at which a device of that text waits for the process or the guest at its other
 * end (net_memif with socket-abstract=no, net_vhost, net_virtio_user); false: it makes none. The
 * driver refuses to begin where there is one already, and removes it at the end. */
bool tsr_port_link(const char *device, char path[TSR_PORT_LINK_BYTES]);

/* Asks the device for rx_missed, so not for each packet. */
void tsr_port_count(struct tsr_port *port, struct tsr_port_counts *counts);

/* A word for metrics: "checksum". */
const char *tsr_port_drop_name(enum tsr_port_drop drop);

/* Keeps a datagram that was dropped above the port, which is its first argument, under headers that
 * are made for it. It is not counted here. */
void tsr_port_keep(void *port, const struct tsr_datagram *datagram);

/* Writes what is kept of these ports as a pcap file with nanoseconds, each frame cut to
 * TSR_PORT_DROPPED_BYTES; for each port oldest first. From any thread. 0, or a negative errno of
 * write(). */
int tsr_port_write_dropped(struct tsr_port *const *ports, uint32_t queues, int fd,
                           struct tsr_err *err);

#endif
