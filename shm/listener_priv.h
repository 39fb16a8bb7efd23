/* The door's socket in the file system: its directory, its path, and what a dead engine left there.
 */
#ifndef TSR_SHM_LISTENER_PRIV_H
#define TSR_SHM_LISTENER_PRIV_H

#include <tsr/shm/err.h>

#include <stdbool.h>
#include <sys/types.h>
#include <sys/un.h>

struct listener {
    int fd;       /* -1: closed */
    dev_t device; /* of the path, so that only our own is unlinked */
    ino_t inode;
    char path[sizeof((struct sockaddr_un *)0)->sun_path];
};

/* Listens at path, as tsr_door_open() says; `others` may come who are neither root, nor this user,
 * nor in group tessera. On failure the listener is closed. */
int listener_open(struct listener *listener, const char *path, bool others, struct tsr_err *err);

/* Unlinks the path if it is still ours, closes. Safe on a closed one. */
void listener_close(struct listener *listener);

#endif
