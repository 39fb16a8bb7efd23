#include "map_priv.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

int tsr_map_open(struct tsr_map *map, const char *path, struct tsr_err *err)
{
    /* O_NONBLOCK: a FIFO in a model's place must not hold the engine up before fstat() sees it. */
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) {
        int code = -errno;
        return tsr_err_set(err, code, "%s: cannot be opened: %s", path, strerror(-code));
    }
    struct stat st;
    int code = 0;
    void *data = MAP_FAILED;
    if (fstat(fd, &st) < 0) {
        code = tsr_err_set(err, -errno, "%s: its size cannot be read: %s", path, strerror(errno));
    } else if (!S_ISREG(st.st_mode)) {
        code = tsr_err_set(err, -EINVAL, "%s: is not a regular file", path);
    } else if (st.st_size == 0) {
        code = tsr_err_set(err, -EINVAL, "%s: is empty", path);
    } else {
        data = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
        if (data == MAP_FAILED) {
            code = tsr_err_set(err, -errno, "%s: %lld bytes cannot be mapped: %s", path,
                               (long long)st.st_size, strerror(errno));
        }
    }
    close(fd);
    if (code == 0) {
        *map = (struct tsr_map){.data = data, .size = (size_t)st.st_size};
    }
    return code;
}

void tsr_map_drop(const struct tsr_map *map, uint64_t offset, uint64_t size)
{
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
    uintptr_t first = ((uintptr_t)map->data + offset + page - 1) / page * page;
    uintptr_t end = ((uintptr_t)map->data + offset + size) / page * page;
    if (map->data && first < end) {
        madvise((void *)first, end - first, MADV_DONTNEED);
    }
}

void tsr_map_close(struct tsr_map *map)
{
    if (map->data) {
        munmap((void *)map->data, map->size);
    }
    *map = (struct tsr_map){0};
}
