#include <tsr/daemon/value.h>

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>

#include <tsr/shm/wire.h>

int tsr_value_size(const char *option, const char *text, uint64_t low, uint64_t high, uint64_t *out,
                   struct tsr_err *err)
{
    char *end = NULL;
    errno = 0;
    unsigned long long value = strtoull(text, &end, 10);
    bool good = errno == 0 && text[0] >= '0' && text[0] <= '9';
    unsigned shift = *end == 'K' ? 10 : *end == 'M' ? 20 : *end == 'G' ? 30 : 0;
    end += shift > 0;
    if (!good || *end != '\0' || value > UINT64_MAX >> shift || value << shift < low ||
        value << shift > high) {
        return tsr_err_set(err, -EINVAL, "%s %s: a number from %llu to %llu is wanted", option,
                           text, (unsigned long long)low, (unsigned long long)high);
    }
    *out = value << shift;
    return 0;
}

int tsr_value_number(const char *option, const char *text, uint32_t low, uint32_t high,
                     uint32_t *out, struct tsr_err *err)
{
    uint64_t value = 0;
    int rc = tsr_value_size(option, text, low, high, &value, err);
    if (rc == 0) {
        *out = (uint32_t)value;
    }
    return rc;
}

/* "N" or "N-M" at *at, which moves behind it. */
static bool take_range(const char **at, unsigned long *first, unsigned long *last)
{
    char *end = NULL;
    *first = *last = strtoul(*at, &end, 10);
    bool good = **at >= '0' && **at <= '9';
    if (good && *end == '-') {
        *at = end + 1;
        *last = strtoul(*at, &end, 10);
        good = **at >= '0' && **at <= '9' && *last >= *first;
    }
    *at = end;
    return good && *last < TSR_WIRE_CPUS_MAX && (*end == ',' || *end == '\0');
}

int tsr_value_cpus(const char *option, const char *text, uint32_t max, uint32_t *cpus, uint32_t *n,
                   struct tsr_err *err)
{
    unsigned long first, last;
    const char *at = text;
    *n = 0;
    for (bool more = true; more; at++) {
        if (!take_range(&at, &first, &last)) {
            return tsr_err_set(err, -EINVAL, "%s %s: a list like 0-3,8 is wanted", option, text);
        }
        for (; first <= last; first++) {
            for (uint32_t i = 0; i < *n; i++) {
                if (cpus[i] == first) {
                    return tsr_err_set(err, -EINVAL, "%s %s: CPU %lu is there twice", option, text,
                                       first);
                }
            }
            if (*n == max) {
                return tsr_err_set(err, -EINVAL, "%s %s: at most %u CPUs", option, text, max);
            }
            cpus[(*n)++] = (uint32_t)first;
        }
        more = *at == ',';
    }
    return 0;
}
