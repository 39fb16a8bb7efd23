#include "listener_priv.h"

#include "policy_priv.h"

#include <tsr/shm/log.h>

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

enum { BACKLOG = 128 };

/* Whoever may write to the folder may put a socket of his own in the place of ours. */
static void look_at_directory(const char *directory)
{
    struct stat status;
    if (stat(directory, &status) != 0) {
        return;
    }
    bool others_write = status.st_mode & (S_IWGRP | S_IWOTH) && !(status.st_mode & S_ISVTX);
    if (others_write || (status.st_uid != 0 && status.st_uid != geteuid())) {
        tsr_log(TSR_LOG_WARN,
                "%s belongs to uid %u with mode %03o: who can write there can take the engine's "
                "place and read prompts",
                directory, (unsigned)status.st_uid, (unsigned)status.st_mode & 0777);
    }
}

static int make_directory(const char *path, bool others, struct tsr_err *err)
{
    char directory[sizeof((struct sockaddr_un *)0)->sun_path];
    snprintf(directory, sizeof directory, "%s", path);
    char *slash = strrchr(directory, '/');
    if (!slash || slash == directory) {
        return 0;
    }
    *slash = '\0';
    const mode_t mode = others ? 0755 : 0750;
    if (mkdir(directory, mode) != 0) {
        if (errno == EEXIST) {
            look_at_directory(directory);
            return 0;
        }
        return tsr_err_set(err, -errno,
                           "cannot create %s: %s; create it, or choose another socket path",
                           directory, strerror(errno));
    }
    (void)chmod(directory, mode); /* whatever the umask */
    gid_t group;
    if (policy_group_id("tessera", &group) && chown(directory, (uid_t)-1, group) != 0) {
        tsr_log(TSR_LOG_WARN, "%s: cannot give it to group tessera: %s", directory,
                strerror(errno));
    }
    return 0;
}

/* Removes what a dead engine left at the path. */
static int clear_path(const struct sockaddr_un *address, struct tsr_err *err)
{
    struct stat status;
    if (lstat(address->sun_path, &status) != 0) {
        return 0;
    }
    if (!S_ISSOCK(status.st_mode)) {
        return tsr_err_set(err, -EEXIST,
                           "%s is there and is no socket: remove it, or choose another path",
                           address->sun_path);
    }
    int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) {
        return tsr_err_set(err, -errno, "cannot create a socket: %s", strerror(errno));
    }
    int result = connect(fd, (const struct sockaddr *)address, sizeof *address);
    bool dead = result != 0 && errno == ECONNREFUSED;
    close(fd);
    if (!dead) {
        return tsr_err_set(err, -EADDRINUSE, "%s: another engine listens there", address->sun_path);
    }
    if (unlink(address->sun_path) != 0) {
        return tsr_err_set(err, -errno, "%s: cannot remove what a dead engine left: %s",
                           address->sun_path, strerror(errno));
    }
    return 0;
}

int listener_open(struct listener *listener, const char *path, bool others, struct tsr_err *err)
{
    *listener = (struct listener){.fd = -1};
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (!path || !*path || strlen(path) >= sizeof address.sun_path) {
        return tsr_err_set(err, -EINVAL, "the socket path must have 1 to %zu bytes",
                           sizeof address.sun_path - 1);
    }
    memcpy(address.sun_path, path, strlen(path) + 1);
    int result = make_directory(path, others, err);
    if (!result) {
        result = clear_path(&address, err);
    }
    if (result) {
        return result;
    }
    listener->fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (listener->fd < 0) {
        return tsr_err_set(err, -errno, "cannot create a socket: %s", strerror(errno));
    }
    struct stat status;
    if (bind(listener->fd, (const struct sockaddr *)&address, sizeof address) != 0 ||
        lstat(path, &status) != 0) {
        result = tsr_err_set(err, -errno, "cannot bind %s: %s", path, strerror(errno));
        listener_close(listener);
        return result;
    }
    memcpy(listener->path, path, strlen(path) + 1);
    listener->device = status.st_dev;
    listener->inode = status.st_ino;
    if (chmod(path, 0666) != 0 || listen(listener->fd, BACKLOG) != 0) {
        result = tsr_err_set(err, -errno, "cannot listen at %s: %s", path, strerror(errno));
        listener_close(listener);
    }
    return result;
}

void listener_close(struct listener *listener)
{
    struct stat status;
    if (listener->path[0] && lstat(listener->path, &status) == 0 &&
        status.st_dev == listener->device && status.st_ino == listener->inode) {
        unlink(listener->path);
    }
    if (listener->fd >= 0) {
        close(listener->fd);
    }
    *listener = (struct listener){.fd = -1};
}
