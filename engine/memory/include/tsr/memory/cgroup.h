/* The control groups that this process is in. */
#ifndef TSR_MEMORY_CGROUP_H
#define TSR_MEMORY_CGROUP_H

#include <stdbool.h>

/* Calls level() for this process's group and each above it, in the v1 hierarchy of `controller`
 * ("memory", "cpu") and in the v2 hierarchy, where they are mounted. folder: a path without root,
 * which stands before every path (sysfs.h). */
void tsr_cgroup_each(const char *root, const char *controller,
                     void (*level)(void *ctx, const char *folder, bool v2), void *ctx);

#endif
