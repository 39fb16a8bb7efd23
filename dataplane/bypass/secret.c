#include <tsr/bypass/secret.h>

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

static int draw(uint8_t secret[TSR_HTTP3_SECRET_BYTES], struct tsr_err *err)
{
    return getrandom(secret, TSR_HTTP3_SECRET_BYTES, 0) == TSR_HTTP3_SECRET_BYTES
               ? 0
               : tsr_err_set(err, -EIO, "the kernel gives no random bytes: %s", strerror(errno));
}

static int cannot(const char *path, struct tsr_err *err)
{
    return tsr_err_set(err, -errno, "--secret %s: %s", path, strerror(errno));
}

static int make(const char *path, uint8_t secret[TSR_HTTP3_SECRET_BYTES], struct tsr_err *err)
{
    int rc = draw(secret, err);
    if (rc < 0) {
        return rc;
    }
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0) {
        return cannot(path, err);
    }
    errno = EIO;
    if (write(fd, secret, TSR_HTTP3_SECRET_BYTES) != TSR_HTTP3_SECRET_BYTES || fsync(fd) < 0) {
        rc = cannot(path, err);
        unlink(path);
    }
    close(fd);
    return rc;
}

static int take(int fd, const char *path, uint8_t secret[TSR_HTTP3_SECRET_BYTES],
                struct tsr_err *err)
{
    struct stat file;
    uint8_t more;
    if (fstat(fd, &file) < 0) {
        return cannot(path, err);
    }
    if (S_ISREG(file.st_mode) && (file.st_mode & (S_IRWXO | S_IWGRP))) {
        return tsr_err_set(err, -EPERM,
                           "--secret %s: others may read or write it (mode %03o); chmod 600, or "
                           "remove it and a new one is made",
                           path, file.st_mode & 0777);
    }
    if (!S_ISREG(file.st_mode) ||
        read(fd, secret, TSR_HTTP3_SECRET_BYTES) != TSR_HTTP3_SECRET_BYTES ||
        read(fd, &more, 1) != 0) {
        return tsr_err_set(err, -EINVAL,
                           "--secret %s: not a file of %d bytes; remove it, and one is made", path,
                           TSR_HTTP3_SECRET_BYTES);
    }
    return 0;
}

int tsr_bypass_secret_get(const char *path, uint8_t secret[TSR_HTTP3_SECRET_BYTES],
                          struct tsr_err *err)
{
    if (!path) {
        return draw(secret, err);
    }
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) {
        return errno == ENOENT ? make(path, secret, err) : cannot(path, err);
    }
    int rc = take(fd, path, secret, err);
    close(fd);
    return rc;
}
