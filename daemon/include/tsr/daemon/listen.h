/* Sockets that listen: those that the service manager opened for us (sd_listen_fds(3)'s protocol),
 * and what is left of others. */
#ifndef TSR_DAEMON_LISTEN_H
#define TSR_DAEMON_LISTEN_H

#include <stdint.h>

#include <tsr/shm/err.h>

/* Descriptors that are passed begin here. */
enum { TSR_LISTEN_FIRST = 3, TSR_LISTEN_MAX = 16 };

/* How many listening stream sockets were passed to this process: TSR_LISTEN_FIRST and those behind
 * it, now the caller's, closed on exec and not blocking. 0: none. Takes LISTEN_FDS, LISTEN_PID and
 * LISTEN_FDNAMES from the environment. -EINVAL where one of them is no listening stream socket or
 * they are more than TSR_LISTEN_MAX. Call it before threads start and before descriptors are
 * opened. */
int tsr_listen_fds(struct tsr_err *err);

/* Removes the socket file of a process that died: one that nobody listens at, of any
 * type. */
void tsr_listen_clear(const char *path);

#endif
