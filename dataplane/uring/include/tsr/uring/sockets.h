/* The sockets that listen: "127.0.0.1:8000", "[::1]:8000", "unix:/run/tessera/http.sock", and those
 * that the service manager passed. */
#ifndef TSR_URING_SOCKETS_H
#define TSR_URING_SOCKETS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <tsr/shm/err.h>

enum { TSR_SOCKETS_MAX = 16 };

struct tsr_socket {
    int fd; /* -1: not open */
    bool tls;
    bool passed;   /* by the service manager */
    bool loopback; /* nobody outside this machine reaches it */
    socklen_t bytes;
    struct sockaddr_storage address;
    char name[sizeof(((struct sockaddr_un *)0)->sun_path) + 8]; /* as one writes it */
};

struct tsr_sockets {
    uint32_t n;
    struct tsr_socket at[TSR_SOCKETS_MAX];
};

/* One more address to listen at. -EINVAL with a sentence. */
int tsr_sockets_add(struct tsr_sockets *sockets, const char *text, bool tls, struct tsr_err *err);

/* `n` sockets from TSR_LISTEN_FIRST on; names: $LISTEN_FDNAMES or NULL. One that is named "tls" is
 * for TLS. */
int tsr_sockets_adopt(struct tsr_sockets *sockets, uint32_t n, const char *names,
                      struct tsr_err *err);

/* Binds and listens; for port 0 address and name then say which it is. A Unix socket that nobody
 * listens at any more is replaced. */
int tsr_sockets_open(struct tsr_sockets *sockets, struct tsr_err *err);

/* Listens no more, and removes the Unix sockets that are ours. */
void tsr_sockets_close(struct tsr_sockets *sockets);

#endif
