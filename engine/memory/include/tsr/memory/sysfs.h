/* Small reads under /proc and /sys. */
#ifndef TSR_MEMORY_SYSFS_H
#define TSR_MEMORY_SYSFS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* `root` is put before every path: "" for the machine's own /proc and /sys, a folder in tests. */

/* First line of the file, without its newline, into text. false where it cannot be read. */
__attribute__((format(printf, 4, 5))) bool tsr_sysfs_line(const char *root, char *text, size_t size,
                                                          const char *format, ...);

/* The number that the file starts with; false where it is not one ("max" is UINT64_MAX). */
__attribute__((format(printf, 3, 4))) bool tsr_sysfs_u64(const char *root, uint64_t *value,
                                                         const char *format, ...);

/* The number after `key` at the start of a line of the file at path ("MemAvailable:",
 * "inactive_file"); false where there is none. A following "kB" is multiplied out. */
bool tsr_sysfs_keyed(const char *root, const char *path, const char *key, uint64_t *value);

#endif
