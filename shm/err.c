#include <tsr/shm/err.h>

#include <assert.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

int tsr_err_set(struct tsr_err *err, int code, const char *format, ...)
{
    assert(code < 0);
    if (err) {
        va_list args;
        va_start(args, format);
        vsnprintf(err->text, sizeof err->text, format, args);
        va_end(args);
        err->code = code;
    }
    return code;
}

int tsr_err_prefix(struct tsr_err *err, const char *format, ...)
{
    if (!err) {
        return -EIO;
    }
    char whole[2 * TSR_ERR_TEXT_MAX];
    va_list args;
    va_start(args, format);
    int n = vsnprintf(whole, sizeof err->text, format, args);
    va_end(args);
    size_t at = n < 0 ? 0 : (size_t)n;
    if (at >= sizeof err->text) {
        at = sizeof err->text - 1;
    }
    snprintf(whole + at, sizeof whole - at, ": %s", err->text);
    whole[sizeof err->text - 1] = '\0';
    memcpy(err->text, whole, sizeof err->text);
    return err->code;
}
