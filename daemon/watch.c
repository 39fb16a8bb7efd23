#include <tsr/daemon/watch.h>

#include <assert.h>
#include <stddef.h>
#include <sys/stat.h>

void tsr_watch_add(struct tsr_watch *watch, const char *path)
{
    assert(watch->n < TSR_WATCH_FILES_MAX);
    if (path) {
        watch->paths[watch->n++] = path;
    }
}

static struct tsr_watch_version version_of(const char *path)
{
    struct stat file;
    if (stat(path, &file) < 0) {
        return (struct tsr_watch_version){0};
    }
    return (struct tsr_watch_version){file.st_dev, file.st_ino, file.st_size, file.st_ctim};
}

void tsr_watch_note(struct tsr_watch *watch)
{
    for (uint32_t i = 0; i < watch->n; i++) {
        watch->known[i] = version_of(watch->paths[i]);
    }
}

static bool same(const struct tsr_watch_version *a, const struct tsr_watch_version *b)
{
    return a->device == b->device && a->inode == b->inode && a->bytes == b->bytes &&
           a->changed.tv_sec == b->changed.tv_sec && a->changed.tv_nsec == b->changed.tv_nsec;
}

bool tsr_watch_changed(const struct tsr_watch *watch)
{
    for (uint32_t i = 0; i < watch->n; i++) {
        struct tsr_watch_version now = version_of(watch->paths[i]);
        if (!same(&now, &watch->known[i])) {
            return true;
        }
    }
    return false;
}
