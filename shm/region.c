#include <tsr/shm/region.h>

#include <tsr/shm/guard.h>

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

/* Newer than Debian 12's headers; the values are the kernel's ABI. */
#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 0x0008U
#endif
#ifndef F_SEAL_FUTURE_WRITE
#define F_SEAL_FUTURE_WRITE 0x0010
#endif
#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ  22
#define MADV_POPULATE_WRITE 23
#endif

static const char *kind_name(enum tsr_region_kind kind)
{
    return kind == TSR_REGION_REQUEST ? "request" : "event";
}

static bool size_ok(size_t bytes)
{
    return bytes && bytes <= TSR_REGION_BYTES_MAX && bytes % (size_t)sysconf(_SC_PAGESIZE) == 0;
}

static int make_memfd(const char *name)
{
    unsigned flags = MFD_CLOEXEC | MFD_ALLOW_SEALING;
    int fd = memfd_create(name, flags | MFD_NOEXEC_SEAL);
    if (fd < 0 && errno == EINVAL) { /* Linux before 6.3 */
        fd = memfd_create(name, flags);
    }
    return fd;
}

int tsr_region_create(struct tsr_region *region, enum tsr_region_kind kind, size_t bytes,
                      struct tsr_err *err)
{
    *region = (struct tsr_region){.fd = -1, .guard = -1, .kind = kind};
    if (!size_ok(bytes)) {
        return tsr_err_set(
            err, -EINVAL,
            "a region of %zu bytes: its size must be a multiple of the page size, at most %d",
            bytes, TSR_REGION_BYTES_MAX);
    }
    int result;
    region->fd = make_memfd(kind == TSR_REGION_REQUEST ? "tessera-request" : "tessera-event");
    if (region->fd < 0) {
        result = tsr_err_set(err, -errno, "cannot create a region of shared memory: %s",
                             strerror(errno));
        goto fail;
    }
    if (ftruncate(region->fd, (off_t)bytes) != 0) {
        result = tsr_err_set(err, -errno, "cannot size a region to %zu bytes: %s", bytes,
                             strerror(errno));
        goto fail;
    }
    /* The event region must be mapped writable before its seal forbids it. */
    int protection = kind == TSR_REGION_EVENT ? PROT_READ | PROT_WRITE : PROT_READ;
    void *base = mmap(NULL, bytes, protection, MAP_SHARED, region->fd, 0);
    if (base == MAP_FAILED) {
        result = tsr_err_set(err, -errno, "cannot map a region of %zu bytes: %s", bytes,
                             strerror(errno));
        goto fail;
    }
    region->base = base;
    region->bytes = bytes;
    int seals = F_SEAL_SHRINK | F_SEAL_GROW | (kind == TSR_REGION_EVENT ? F_SEAL_FUTURE_WRITE : 0);
    if (fcntl(region->fd, F_ADD_SEALS, seals) != 0 ||
        fcntl(region->fd, F_ADD_SEALS, F_SEAL_SEAL) != 0) {
        result = tsr_err_set(err, -errno, "cannot seal the %s region: %s", kind_name(kind),
                             strerror(errno));
        goto fail;
    }
    region->guard = tsr_guard_add(base, bytes);
    if (region->guard < 0) {
        result = tsr_err_set(err, region->guard,
                             "%d regions are mapped already: no channel can be added",
                             TSR_GUARD_REGIONS_MAX);
        goto fail;
    }
    return 0;
fail:
    tsr_region_close(region);
    return result;
}

/* Charges every page to this process, and maps it. Fails with an error where the system has no page
 * left, where a plain touch would raise SIGBUS. */
static int fill(const struct tsr_region *region, bool writable)
{
    if (madvise(region->base, region->bytes, writable ? MADV_POPULATE_WRITE : MADV_POPULATE_READ) ==
        0) {
        return 0;
    }
    return -errno;
}

int tsr_region_attach(struct tsr_region *region, enum tsr_region_kind kind, int fd, size_t bytes,
                      struct tsr_err *err)
{
    *region = (struct tsr_region){.fd = fd, .guard = -1, .kind = kind};
    int result;
    struct stat status;
    if (!size_ok(bytes) || fstat(fd, &status) != 0 || (uint64_t)status.st_size != bytes) {
        result = tsr_err_set(err, -EPROTO,
                             "the %s region is not of the %zu bytes that the engine promised",
                             kind_name(kind), bytes);
        goto fail;
    }
    int wanted = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL;
    int seals = fcntl(fd, F_GET_SEALS);
    if (seals < 0 || (seals & wanted) != wanted) {
        result = tsr_err_set(err, -EPROTO, "the %s region is not sealed against resizing",
                             kind_name(kind));
        goto fail;
    }
    bool writable = kind == TSR_REGION_REQUEST;
    void *base =
        mmap(NULL, bytes, writable ? PROT_READ | PROT_WRITE : PROT_READ, MAP_SHARED, fd, 0);
    if (base == MAP_FAILED) {
        result = tsr_err_set(err, -errno, "cannot map the %s region of %zu bytes: %s",
                             kind_name(kind), bytes, strerror(errno));
        goto fail;
    }
    region->base = base;
    region->bytes = bytes;
    result = fill(region, writable);
    if (result) {
        tsr_err_set(err, result, "no memory for the %s region of %zu bytes: %s", kind_name(kind),
                    bytes, strerror(-result));
        goto fail;
    }
    return 0;
fail:
    tsr_region_close(region);
    return result;
}

int tsr_region_has_holes(const struct tsr_region *region)
{
    /* tmpfs counts as data what is in memory or in swap, as a hole what was never touched or was
     * punched. */
    off_t hole = lseek(region->fd, 0, SEEK_HOLE);
    if (hole < 0) {
        return -errno;
    }
    return (uint64_t)hole != region->bytes;
}

void tsr_region_prefault(const struct tsr_region *region)
{
    (void)fill(region, region->kind == TSR_REGION_EVENT);
}

void tsr_region_release(const struct tsr_region *region)
{
    if (region->fd >= 0 && region->kind == TSR_REGION_REQUEST) {
        (void)fallocate(region->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0,
                        (off_t)region->bytes);
    }
}

void tsr_region_close(struct tsr_region *region)
{
    tsr_guard_remove(region->guard);
    if (region->base) {
        munmap(region->base, region->bytes);
    }
    if (region->fd >= 0) {
        close(region->fd);
    }
    *region = (struct tsr_region){.fd = -1, .guard = -1, .kind = region->kind};
}
