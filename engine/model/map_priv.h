/* A file mapped read-only. */
#ifndef TSR_MODEL_MAP_PRIV_H
#define TSR_MODEL_MAP_PRIV_H

#include <stddef.h>
#include <stdint.h>

#include <tsr/shm/err.h>

struct tsr_map {
    const uint8_t *data;
    size_t size; /* by fstat, once: what changes afterwards is not seen */
};

/* Maps the whole of a regular file that is not empty. A negative errno of open(), fstat() or
 * mmap(), or -EINVAL; the sentence begins with the path. */
int tsr_map_open(struct tsr_map *map, const char *path, struct tsr_err *err);

/* Drops the process's pages of [offset, offset + size), rounded inwards; they are read again when
 * touched. */
void tsr_map_drop(const struct tsr_map *map, uint64_t offset, uint64_t size);

void tsr_map_close(struct tsr_map *map);

#endif
