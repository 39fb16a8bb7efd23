#include <tsr/daemon/listen.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

static int option_of(int fd, int name)
{
    int value = -1;
    socklen_t size = sizeof value;
    return getsockopt(fd, SOL_SOCKET, name, &value, &size) < 0 ? -1 : value;
}

static int take(int fd, struct tsr_err *err)
{
    if (option_of(fd, SO_TYPE) != SOCK_STREAM || option_of(fd, SO_ACCEPTCONN) != 1) {
        return tsr_err_set(err, -EINVAL,
                           "LISTEN_FDS: descriptor %d is no listening stream socket; the socket "
                           "unit wants ListenStream=",
                           fd);
    }
    int flags = fcntl(fd, F_GETFL);
    if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0 ||
        fcntl(fd, F_SETFD, FD_CLOEXEC) < 0) {
        return tsr_err_set(err, -errno, "LISTEN_FDS: descriptor %d: %s", fd, strerror(errno));
    }
    return 0;
}

static int count(const char *pid, const char *fds, struct tsr_err *err)
{
    char *end = NULL;
    if (!pid || !fds || strtol(pid, NULL, 10) != (long)getpid()) {
        return 0; /* meant for another process */
    }
    long n = strtol(fds, &end, 10);
    if (end == fds || *end != '\0' || n < 0 || n > TSR_LISTEN_MAX) {
        return tsr_err_set(err, -EINVAL, "LISTEN_FDS=%s: at most %d sockets are wanted", fds,
                           TSR_LISTEN_MAX);
    }
    for (int i = 0; i < n; i++) {
        int rc = take(TSR_LISTEN_FIRST + i, err);
        if (rc < 0) {
            return rc;
        }
    }
    return (int)n;
}

int tsr_listen_fds(struct tsr_err *err)
{
    int n = count(getenv("LISTEN_PID"), getenv("LISTEN_FDS"), err);
    unsetenv("LISTEN_PID");
    unsetenv("LISTEN_FDS");
    unsetenv("LISTEN_FDNAMES");
    return n;
}

void tsr_listen_clear(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    struct stat file;
    if (strlen(path) >= sizeof address.sun_path || lstat(path, &file) < 0 ||
        !S_ISSOCK(file.st_mode)) {
        return;
    }
    snprintf(address.sun_path, sizeof address.sun_path, "%s", path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd >= 0 && connect(fd, (struct sockaddr *)&address, sizeof address) < 0 &&
        errno == ECONNREFUSED) {
        unlink(path);
    }
    if (fd >= 0) {
        close(fd);
    }
}
