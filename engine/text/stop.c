#include <assert.h>
#include <errno.h>
#include <string.h>

#include <tsr/text/stop.h>

static_assert(TSR_STOP_BYTES_MAX - 1 <= UINT8_MAX, "the length of a proper prefix fits a byte");

int tsr_stop_init(struct tsr_stop *stop, const char *const *strings, const size_t *len, size_t n,
                  struct tsr_err *err)
{
    stop->n_strings = 0;
    stop->hit = -1;
    stop->n_held = 0;
    if (n > TSR_STOP_STRINGS_MAX)
        return tsr_err_set(err, -EINVAL, "%zu stop strings: at most %d are allowed", n,
                           TSR_STOP_STRINGS_MAX);
    for (size_t i = 0; i < n; i++) {
        if (len[i] == 0)
            return tsr_err_set(err, -EINVAL, "stop string %zu is empty", i + 1);
        if (len[i] > TSR_STOP_BYTES_MAX)
            return tsr_err_set(err, -EINVAL,
                               "stop string %zu has %zu bytes: at most %d are allowed", i + 1,
                               len[i], TSR_STOP_BYTES_MAX);
    }
    for (size_t i = 0; i < n; i++) {
        const char *s = strings[i];
        uint8_t *border = stop->border[i];
        memcpy(stop->string[i], s, len[i]);
        stop->len[i] = (uint16_t)len[i];
        stop->matched[i] = 0;
        border[0] = 0;
        for (size_t at = 1; at < len[i]; at++) {
            uint8_t k = border[at - 1];
            while (k && s[k] != s[at])
                k = border[k - 1];
            border[at] = (uint8_t)(k + (s[k] == s[at]));
        }
    }
    stop->n_strings = (uint32_t)n;
    return 0;
}

/* Advances every string by one byte. The longest string that is now complete, or -1. */
static int32_t advance(struct tsr_stop *stop, char byte)
{
    int32_t hit = -1;
    stop->n_held = 0;
    for (uint32_t i = 0; i < stop->n_strings; i++) {
        const char *s = stop->string[i];
        uint32_t k = stop->matched[i];
        while (k && s[k] != byte)
            k = stop->border[i][k - 1];
        k += s[k] == byte;
        if (k == stop->len[i]) {
            if (hit < 0 || stop->len[i] > stop->len[hit])
                hit = (int32_t)i;
            k = stop->border[i][k - 1];
        }
        stop->matched[i] = (uint8_t)k;
        if (k > stop->n_held)
            stop->n_held = k;
    }
    return hit;
}

bool tsr_stop_push(struct tsr_stop *stop, const char *bytes, size_t n, char *out, size_t *out_len)
{
    *out_len = 0;
    if (stop->hit >= 0)
        return true;
    if (stop->n_strings == 0) {
        memcpy(out, bytes, n);
        *out_len = n;
        return false;
    }
    size_t len = stop->n_held; /* everything not yet let through, at the beginning of out */
    memcpy(out, stop->held, len);
    for (size_t i = 0; i < n; i++) {
        out[len++] = bytes[i];
        int32_t hit = advance(stop, bytes[i]);
        if (hit >= 0) {
            stop->hit = hit;
            stop->n_held = 0;
            *out_len = len - stop->len[hit];
            return true;
        }
    }
    memcpy(stop->held, out + len - stop->n_held, stop->n_held);
    *out_len = len - stop->n_held;
    return false;
}

size_t tsr_stop_flush(struct tsr_stop *stop, char *out)
{
    size_t n = stop->n_held;
    memcpy(out, stop->held, n);
    stop->n_held = 0;
    memset(stop->matched, 0, sizeof(stop->matched));
    return n;
}
