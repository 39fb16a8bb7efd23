#include "capture_priv.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include <tsr/bypass/loop.h>

int tsr_bypass_capture_open(const char *path, struct tsr_err *err)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0600);
    return fd >= 0 ? fd
                   : tsr_err_set(err, -errno, "--capture %s: %s; give a file that can be written",
                                 path, strerror(errno));
}

int tsr_bypass_capture_write(int fd, struct tsr_port *const *ports, uint32_t queues,
                             struct tsr_err *err)
{
    if (lseek(fd, 0, SEEK_SET) < 0 || ftruncate(fd, 0) < 0) {
        return tsr_err_set(err, -errno, "--capture: %s", strerror(errno));
    }
    return tsr_port_write_dropped(ports, queues, fd, err);
}
