/* Files that are replaced while a daemon runs, as certificates are. One thread. */
#ifndef TSR_DAEMON_WATCH_H
#define TSR_DAEMON_WATCH_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <time.h>

enum { TSR_WATCH_FILES_MAX = 4, TSR_WATCH_EVERY_S = 5 };

/* What tells one version of a file from another; zeros: it is not there. */
struct tsr_watch_version {
    dev_t device;
    ino_t inode;
    off_t bytes;
    struct timespec changed;
};

struct tsr_watch {
    uint32_t n;
    const char *paths[TSR_WATCH_FILES_MAX]; /* the caller's */
    struct tsr_watch_version known[TSR_WATCH_FILES_MAX];
};

/* path: NULL: none is added. */
void tsr_watch_add(struct tsr_watch *watch, const char *path);

/* The versions that are there now are known: to be called before they are read, so that a change
 * meanwhile is seen. */
void tsr_watch_note(struct tsr_watch *watch);

/* Whether one of them is another than is known: every TSR_WATCH_EVERY_S, say. */
bool tsr_watch_changed(const struct tsr_watch *watch);

#endif
