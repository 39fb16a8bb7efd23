/* Clients of HTTP/3 on one port: many connections from one address and UDP port, told apart by
 * their ids. One thread. */
#ifndef TSR_TEST_QUIC_CROWD_H
#define TSR_TEST_QUIC_CROWD_H

#include "client.h"

#include <tsr/port/port.h>

struct crowd;

struct crowd_options {
    const struct tsr_port_options
        *port; /* one queue; its first listening address is the clients' */
    struct tsr_address server;
    uint32_t clients_max;
    bool spin; /* never sleeps */
    /* NULL, or: it is established, and later: it is gone. Once for each. */
    void (*changed)(struct client *client);
};

/* 0 or a negative errno with a sentence. Beside the kernel (net_af_xdp) a port learns the way to a
 * server only from what comes: so the kernel is made to send the server a packet of an unknown
 * version of QUIC, until the answer has come. The kernel must have the address for that. */
int crowd_create(struct crowd **crowd, const struct crowd_options *options, struct tsr_err *err);
void crowd_destroy(struct crowd *crowd);

/* A new connection; it is the crowd's. */
struct client *crowd_connect(struct crowd *crowd, const struct client_options *options);

/* A connection that is not needed any more: closes it, and frees its memory. Not from changed(). */
void crowd_leave(struct crowd *crowd, struct client *client);

/* Something was asked of it, and is to be sent. */
void crowd_wake(struct crowd *crowd, struct client *client);

/* A turn has two halves: what has come is taken and what is due is done, then all that there is to
 * be sent is sent. What is asked between them leaves in the same turn. Returns how many packets
 * came.
 */
uint32_t crowd_take(struct crowd *crowd);
void crowd_send(struct crowd *crowd);

/* After a turn: sleeps until something comes, something is due, or until_ns; not where it spins. */
void crowd_wait(struct crowd *crowd, uint64_t until_ns);

/* CLOCK_MONOTONIC, now; and at the beginning of the turn, which is what the connections know. */
uint64_t crowd_clock_ns(void);
uint64_t crowd_now_ns(const struct crowd *crowd);

struct tsr_port *crowd_port(struct crowd *crowd);

#endif
