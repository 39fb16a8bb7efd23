/* How many connections each address has open. IPv4 by address, IPv6 by its first 64 bits (what one
 * customer is given). Not thread-safe. */
#ifndef TSR_API_PEERS_H
#define TSR_API_PEERS_H

#include <stdint.h>
#include <sys/socket.h>

#include <tsr/shm/err.h>

struct tsr_peers;

#define TSR_PEERS_NONE UINT32_MAX

/* conns_max: of all; per_address: of one, 0: no limit. -ENOMEM. */
int tsr_peers_create(struct tsr_peers **peers, uint32_t conns_max, uint32_t per_address,
                     struct tsr_err *err);
void tsr_peers_destroy(struct tsr_peers *peers);

/* One more of that address: *peer is what tsr_peers_leave() takes. TSR_PEERS_NONE for what has no
 * address (a Unix socket). -EUSERS: it has as many as it may. */
int tsr_peers_enter(struct tsr_peers *peers, const struct sockaddr *address, uint32_t *peer);
void tsr_peers_leave(struct tsr_peers *peers, uint32_t peer);

#endif
