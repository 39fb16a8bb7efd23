/* Files of a model's directory. */
#ifndef TSR_MODEL_SOURCE_PRIV_H
#define TSR_MODEL_SOURCE_PRIV_H

#include <limits.h>

#include "map_priv.h"

/* directory/name. -ENAMETOOLONG. */
int tsr_source_join(char path[static PATH_MAX], const char *directory, const char *name,
                    struct tsr_err *err);

/* Maps a file of at most `max` bytes. -E2BIG, or what the kernel said. */
int tsr_source_map(struct tsr_map *map, const char *path, size_t max, struct tsr_err *err);

#endif
