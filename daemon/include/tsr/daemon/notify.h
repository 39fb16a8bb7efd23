/* What a daemon tells the service manager: sd_notify(3)'s protocol, datagrams of `NAME=value` lines
 * to the socket that $NOTIFY_SOCKET names. Without that variable nothing is said.
 *
 * The socket is opened and connected at start; afterwards there is only sendto(), so it works
 * after all rights are given up. Any thread may speak. */
#ifndef TSR_DAEMON_NOTIFY_H
#define TSR_DAEMON_NOTIFY_H

#include <stdint.h>

#include <tsr/shm/err.h>

enum { TSR_NOTIFY_BYTES_MAX = 512 };

struct tsr_notify {
    int fd;               /* -1: nobody listens */
    uint64_t watchdog_ns; /* WATCHDOG=1 is wanted within each such time; 0: never */
};

/* Looks at NOTIFY_SOCKET, WATCHDOG_USEC and WATCHDOG_PID, and takes them from the environment. A
 * socket that is named and cannot be reached is an error: the manager would wait for us in vain.
 * Call it before threads start. */
int tsr_notify_open(struct tsr_notify *notify, struct tsr_err *err);
void tsr_notify_close(struct tsr_notify *notify);

/* "READY=1", "STATUS=loading, %d%%", "STOPPING=1", "WATCHDOG=1", lines joined by \n. Never waits:
 * where the manager is behind, the message is lost. What does not fit is cut. */
__attribute__((format(printf, 2, 3))) void tsr_notify_say(const struct tsr_notify *notify,
                                                          const char *format, ...);

#endif
