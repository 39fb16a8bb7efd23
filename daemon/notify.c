#include <tsr/daemon/notify.h>

#include <errno.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

static int connect_to(const char *path, struct tsr_err *err)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    size_t bytes = strlen(path);
    if ((path[0] != '/' && path[0] != '@') || bytes < 2 || bytes >= sizeof address.sun_path) {
        return tsr_err_set(err, -EINVAL,
                           "NOTIFY_SOCKET=%s: a path of at most %zu bytes, or @ and a name, "
                           "is wanted",
                           path, sizeof address.sun_path - 1);
    }
    memcpy(address.sun_path, path, bytes);
    if (path[0] == '@') { /* abstract: no file; the name is all bytes that the length counts */
        address.sun_path[0] = '\0';
    }
    socklen_t size = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + bytes);
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || connect(fd, (struct sockaddr *)&address, size) < 0) {
        int rc = -errno;
        if (fd >= 0) {
            close(fd);
        }
        return tsr_err_set(err, rc, "NOTIFY_SOCKET=%s: %s", path, strerror(-rc));
    }
    return fd;
}

/* All of the text, in decimal; 0 where it is missing or no number. */
static uint64_t number(const char *text)
{
    char *end = NULL;
    unsigned long long value =
        text && text[0] >= '0' && text[0] <= '9' ? strtoull(text, &end, 10) : 0;
    return end && *end == '\0' && value <= UINT64_MAX / 1000 ? value : 0;
}

int tsr_notify_open(struct tsr_notify *notify, struct tsr_err *err)
{
    const char *path = getenv("NOTIFY_SOCKET");
    const char *pid = getenv("WATCHDOG_PID");
    *notify = (struct tsr_notify){.fd = -1};
    if (path && path[0]) {
        int fd = connect_to(path, err);
        if (fd < 0) {
            return fd;
        }
        notify->fd = fd;
        if (!pid || number(pid) == (uint64_t)getpid()) {
            notify->watchdog_ns = 1000 * number(getenv("WATCHDOG_USEC"));
        }
    }
    unsetenv("NOTIFY_SOCKET");
    unsetenv("WATCHDOG_USEC");
    unsetenv("WATCHDOG_PID");
    return 0;
}

void tsr_notify_close(struct tsr_notify *notify)
{
    if (notify->fd >= 0) {
        close(notify->fd);
        notify->fd = -1;
    }
}

void tsr_notify_say(const struct tsr_notify *notify, const char *format, ...)
{
    char text[TSR_NOTIFY_BYTES_MAX];
    if (notify->fd < 0) {
        return;
    }
    va_list args;
    va_start(args, format);
    int n = vsnprintf(text, sizeof text, format, args);
    va_end(args);
    size_t bytes = n < 0 ? 0 : (size_t)n < sizeof text ? (size_t)n : sizeof text - 1;
    (void)!send(notify->fd, text, bytes, MSG_DONTWAIT | MSG_NOSIGNAL);
}
