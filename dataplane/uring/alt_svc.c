#include <tsr/uring/alt_svc.h>

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { DAY_S = 86400 };

/* Each skips what it is named after and returns what is behind it; NULL: it is not there. */

static const char *skip_space(const char *at)
{
    return at + strspn(at, " \t");
}

static const char *skip_token(const char *at)
{
    size_t n = strspn(at, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
                          "!#$%&'*+-.^_`|~");
    return n ? at + n : NULL;
}

static const char *skip_quoted(const char *at)
{
    if (*at++ != '"') {
        return NULL;
    }
    while (*at != '"') {
        at += *at == '\\';
        if (*at < ' ' || *at > '~') {
            return NULL;
        }
        at++;
    }
    return at + 1;
}

/* `[host]:port` in quotes. */
static const char *skip_authority(const char *at)
{
    const char *end = skip_quoted(at);
    const char *colon = end;
    while (colon && colon > at && *colon != ':') {
        colon--;
    }
    char *digits_end;
    if (!end || colon == at || colon[1] < '0' || colon[1] > '9') {
        return NULL;
    }
    unsigned long port = strtoul(colon + 1, &digits_end, 10);
    return port > 0 && port <= 65535 && digits_end + 1 == end ? end : NULL;
}

/* `h3=":443"`, and parameters. */
static const char *skip_alternative(const char *at)
{
    at = skip_token(at);
    at = at && *at == '=' ? skip_authority(at + 1) : NULL;
    while (at && *skip_space(at) == ';') {
        at = skip_token(skip_space(skip_space(at) + 1));
        if (!at || *at++ != '=') {
            return NULL;
        }
        at = *at == '"' ? skip_quoted(at) : skip_token(at);
    }
    return at;
}

static bool is_value(const char *at)
{
    if (strcmp(at, "clear") == 0) {
        return true;
    }
    at = skip_alternative(at);
    while (at && *skip_space(at) == ',') {
        at = skip_alternative(skip_space(skip_space(at) + 1));
    }
    return at && !*at;
}

int tsr_alt_svc_read(const char *text, char value[TSR_ALT_SVC_BYTES], struct tsr_err *err)
{
    bool is_port = text[0] && strspn(text, "0123456789") == strlen(text);
    int size = is_port ? snprintf(value, TSR_ALT_SVC_BYTES, "h3=\":%s\"; ma=%d", text, DAY_S)
                       : snprintf(value, TSR_ALT_SVC_BYTES, "%s", text);
    if (size >= TSR_ALT_SVC_BYTES || !is_value(value)) {
        return tsr_err_set(
            err, -EINVAL,
            "--alt-svc %.64s: give the UDP port of HTTP/3, 1 to 65535, or a value of "
            "the Alt-Svc header, as h3=\":443\"; ma=3600, of less than %d bytes",
            text, TSR_ALT_SVC_BYTES);
    }
    return 0;
}
