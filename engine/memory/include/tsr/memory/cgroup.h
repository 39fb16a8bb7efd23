/* The control groups that this process is in. */
#ifndef TSR_MEMORY_CGROUP_H
#define TSR_MEMORY_CGROUP_H

#include <stdbool.h>
#include <stdint.h>

/* Calls level() for this process's group and each above it, in the v1 hierarchy of `controller`
 * ("memory", "cpu") and in the v2 hierarchy, where they are mounted. folder: a path without root,
 * which stands before every path (sysfs.h). */
void tsr_cgroup_each(const char *root, const char *controller,
                     void (*level)(void *ctx, const char *folder, bool v2), void *ctx);

/* CPUs' time that this one group gives (cpu.max, or the v1 hierarchy's quota), 1.5 for instance;
 * INFINITY: as much as there is. */
double tsr_cgroup_cpus_at(const char *root, const char *folder, bool v2);

/* The least that any of this process's groups gives. */
double tsr_cgroup_cpus(const char *root);

#endif
