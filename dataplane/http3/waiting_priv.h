/* Datagrams that wait for their turn, first come, first served. */
#ifndef TSR_HTTP3_WAITING_PRIV_H
#define TSR_HTTP3_WAITING_PRIV_H

#include <stdbool.h>
#include <stdint.h>

#include <tsr/port/datagram.h>

enum { TSR_HTTP3_WAITING_MAX = 256 };

struct tsr_http3_waiting_slot;

struct tsr_http3_waiting {
    struct tsr_http3_waiting_slot *slots; /* [WAITING_MAX], touched as they are needed */
    uint32_t first, n;
};

bool tsr_http3_waiting_init(struct tsr_http3_waiting *waiting);
void tsr_http3_waiting_fini(struct tsr_http3_waiting *waiting);

/* A copy; false: there is no room for it. */
bool tsr_http3_waiting_put(struct tsr_http3_waiting *waiting, const struct tsr_datagram *datagram);

/* The first one, until the next call of put. false: there is none. */
bool tsr_http3_waiting_take(struct tsr_http3_waiting *waiting, struct tsr_datagram *datagram);

#endif
