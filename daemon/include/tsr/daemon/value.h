/* Values of options. Each function returns 0, or -EINVAL with a sentence that names the option. */
#ifndef TSR_DAEMON_VALUE_H
#define TSR_DAEMON_VALUE_H

#include <stdint.h>

#include <tsr/shm/err.h>

/* A number from low to high, all of the text; with K, M or G behind it times 2^10, 2^20, 2^30. */
int tsr_value_size(const char *option, const char *text, uint64_t low, uint64_t high, uint64_t *out,
                   struct tsr_err *err);
int tsr_value_number(const char *option, const char *text, uint32_t low, uint32_t high,
                     uint32_t *out, struct tsr_err *err);

/* CPUs as "0-3,8", in the order of the text, none twice, at most max. */
int tsr_value_cpus(const char *option, const char *text, uint32_t max, uint32_t *cpus, uint32_t *n,
                   struct tsr_err *err);

#endif
