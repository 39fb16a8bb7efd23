#include <tsr/daemon/value.h>

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>

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
