/* What a daemon gives up after start-up, in the order of the calls:
 *
 *     tsr_harden_identity()  as root only: groups, uid; then capabilities, core dumps, being
 *                            looked at, new privileges
 *     tsr_harden_files()     Landlock: reads what it names, removes its socket; nothing else
 *     tsr_harden_calls()     seccomp: a list of system calls, for all threads, for good; no
 *                            memory can be made executable, no process or thread made
 *
 * All hold for every thread of the process, those too that a library has started: SIGRTMIN is used
 * for that, and must not be blocked. The first two stand before the first byte from a client is
 * read. Each returns 0, or a negative errno with a sentence. Where a kernel lacks one of the last
 * two, or a build has sanitizers, `notes` says so, in words for the log.
 */
#ifndef TSR_DAEMON_HARDEN_H
#define TSR_DAEMON_HARDEN_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include <tsr/shm/err.h>

enum { TSR_HARDEN_PATHS_MAX = 16, TSR_HARDEN_REPLACED_MAX = 4 };

struct tsr_harden_user {
    uid_t uid;
    gid_t gid;
    char name[64];
};

/* The user to become: `name` (a name or a number), or NULL: `tessera`, else `nobody`. -ENOENT where
 * there is none. */
int tsr_harden_find_user(struct tsr_harden_user *user, const char *name, struct tsr_err *err);

/* Becomes `user` where the process is root (otherwise stays who it is), and makes sure that it
 * cannot go back. */
int tsr_harden_identity(const struct tsr_harden_user *user, struct tsr_err *err);

/* notes: [notes_size] what could not be done, "" where all was. */
struct tsr_harden_files {
    const char
        *read[TSR_HARDEN_PATHS_MAX]; /* files and folders that may be read; NULL ends the
                                        list; what is missing, or what this user may not read
                                        (a model in root's home, mapped already), is left out */
    const char *replaced[TSR_HARDEN_REPLACED_MAX]; /* files that may be replaced while it runs:
                                                      their folders may be read, and those of what
                                                      they are links to; NULL: none */
    const char *socket_dir;                        /* files in it may be removed; NULL: none */
};
int tsr_harden_files(const struct tsr_harden_files *files, char *notes, size_t notes_size,
                     struct tsr_err *err);

/* Leaves the calls that every daemon makes (waiting, time, descriptors that are open, memory, ends:
 * harden.c) and those of `calls`, a list of names that ends with NULL; names that this machine
 * does not know are left out. `socket` is left for this machine's sockets (AF_UNIX) alone: a daemon
 * that was taken over calls nobody up. Everything else fails with EPERM. */
int tsr_harden_calls(const char *const *calls, char *notes, size_t notes_size, struct tsr_err *err);

#endif
