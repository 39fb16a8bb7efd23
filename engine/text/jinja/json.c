/* JSON of a request into values: all its strings are untrusted. Bounded by the arenas and by depth.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "run_priv.h"

struct reader {
    struct tsr_jrun *r;
    const char *s;
    size_t n, at;
};

static _Noreturn void broken(const struct reader *x, const char *what)
{
    unsigned line = 1, column = 1;
    for (size_t i = 0; i < x->at && i < x->n; i++) {
        column = x->s[i] == '\n' ? 1 : column + 1;
        line += x->s[i] == '\n';
    }
    x->r->rc = tsr_err_set(x->r->err, -EINVAL, "the request's JSON, line %u, column %u: %s", line,
                           column, what);
    longjmp(x->r->leave, 1);
}

static void skip_space(struct reader *x)
{
    while (x->at < x->n && (x->s[x->at] == ' ' || x->s[x->at] == '\n' || x->s[x->at] == '\r' ||
                            x->s[x->at] == '\t'))
        x->at++;
}

static bool skip(struct reader *x, const char *text)
{
    size_t len = strlen(text);
    if (x->n - x->at < len || memcmp(x->s + x->at, text, len) != 0)
        return false;
    x->at += len;
    return true;
}

static uint32_t hex4(struct reader *x)
{
    uint32_t value = 0;
    for (int i = 0; i < 4; i++) {
        char c = x->at < x->n ? x->s[x->at] : '\0';
        int digit = c >= '0' && c <= '9'                 ? c - '0'
                    : (c | 32) >= 'a' && (c | 32) <= 'f' ? (c | 32) - 'a' + 10
                                                         : -1;
        if (digit < 0)
            broken(x, "a \\u escape needs four hexadecimal digits");
        value = value * 16 + (uint32_t)digit;
        x->at++;
    }
    return value;
}

/* Behind the backslash. A surrogate without its partner becomes U+FFFD. */
static uint32_t read_escape(struct reader *x)
{
    static const char plain[] = "\"\\/bfnrt", means[] = "\"\\/\b\f\n\r\t";
    char c = x->at < x->n ? x->s[x->at] : '\0';
    const char *known = c ? strchr(plain, c) : NULL;
    if (known) {
        x->at++;
        return (uint8_t)means[known - plain];
    }
    if (c != 'u')
        broken(x, "an unknown escape in a string");
    x->at++;
    uint32_t value = hex4(x);
    if (value >= 0xD800 && value < 0xDC00 && x->n - x->at >= 6 && x->s[x->at] == '\\' &&
        x->s[x->at + 1] == 'u') {
        size_t back = x->at;
        x->at += 2;
        uint32_t low = hex4(x);
        if (low >= 0xDC00 && low < 0xE000)
            return 0x10000 + ((value - 0xD800) << 10) + (low - 0xDC00);
        x->at = back;
    }
    return value >= 0xD800 && value < 0xE000 ? 0xFFFD : value;
}

static struct tsr_jvalue read_string(struct reader *x)
{
    size_t from = ++x->at;
    struct tsr_jbuild b;
    bool copied = false;
    for (;;) {
        if (x->at >= x->n)
            broken(x, "a string is not closed");
        uint8_t c = (uint8_t)x->s[x->at];
        if (c < 0x20)
            broken(x, "a control character in a string");
        if (c == '"')
            break;
        if (c != '\\') {
            x->at++;
            continue;
        }
        if (!copied)
            tsr_jb_begin(x->r, &b);
        copied = true;
        tsr_jb_put(x->r, &b, x->s + from, NULL, false, x->at - from);
        x->at++;
        tsr_jb_char(x->r, &b, read_escape(x), false);
        from = x->at;
    }
    size_t end = x->at++;
    tsr_j_charge(x->r, (end - from) / 64);
    if (!copied) /* the caller's text stays while it is rendered */
        return tsr_j_string(x->r, x->s + from, end - from, false);
    tsr_jb_put(x->r, &b, x->s + from, NULL, false, end - from);
    return tsr_jb_end(x->r, &b);
}

static size_t skip_digits(struct reader *x)
{
    size_t from = x->at;
    while (x->at < x->n && x->s[x->at] >= '0' && x->s[x->at] <= '9')
        x->at++;
    return x->at - from;
}

static struct tsr_jvalue read_number(struct reader *x)
{
    size_t from = x->at;
    bool real = false;
    if (x->s[x->at] == '-')
        x->at++;
    size_t first = x->at, n = skip_digits(x);
    if (n == 0 || (n > 1 && x->s[first] == '0'))
        broken(x, "a broken number");
    if (x->at < x->n && x->s[x->at] == '.') {
        real = true;
        x->at++;
        if (skip_digits(x) == 0)
            broken(x, "a broken number");
    }
    if (x->at < x->n && (x->s[x->at] | 32) == 'e') {
        real = true;
        x->at++;
        if (x->at < x->n && (x->s[x->at] == '+' || x->s[x->at] == '-'))
            x->at++;
        if (skip_digits(x) == 0)
            broken(x, "a broken number");
    }
    char text[400];
    size_t len = x->at - from;
    if (len >= sizeof(text))
        broken(x, "a number of more than 399 characters is not supported");
    memcpy(text, x->s + from, len);
    text[len] = '\0';
    if (real)
        return tsr_j_float(strtod(text, NULL));
    errno = 0;
    long long integer = strtoll(text, NULL, 10);
    if (errno == ERANGE)
        broken(x, "an integer beyond 64 bits is not supported");
    return tsr_j_int(integer);
}

static struct tsr_jvalue read_value(struct reader *x);

static struct tsr_jvalue read_array(struct reader *x)
{
    struct tsr_jvalue list = tsr_j_seq(x->r, TSR_JS_LIST, 0);
    x->at++;
    skip_space(x);
    if (skip(x, "]"))
        return list;
    for (;;) {
        tsr_j_append(x->r, list.seq, read_value(x));
        skip_space(x);
        if (skip(x, "]"))
            return list;
        if (!skip(x, ","))
            broken(x, "',' or ']' is missing in an array");
    }
}

static struct tsr_jvalue read_object(struct reader *x)
{
    struct tsr_jvalue dict = tsr_j_dict(x->r);
    x->at++;
    skip_space(x);
    if (skip(x, "}"))
        return dict;
    for (;;) {
        skip_space(x);
        if (x->at >= x->n || x->s[x->at] != '"')
            broken(x, "a key in an object must be a string");
        struct tsr_jvalue key = read_string(x);
        skip_space(x);
        if (!skip(x, ":"))
            broken(x, "':' is missing behind a key");
        tsr_j_dict_set(x->r, dict.dict, key, read_value(x));
        skip_space(x);
        if (skip(x, "}"))
            return dict;
        if (!skip(x, ","))
            broken(x, "',' or '}' is missing in an object");
    }
}

static struct tsr_jvalue read_value(struct reader *x)
{
    struct tsr_jvalue v;
    skip_space(x);
    tsr_j_charge(x->r, 1);
    if (x->at >= x->n)
        broken(x, "it ends too early");
    char c = x->s[x->at];
    if (c == '"')
        return read_string(x);
    if (c == '-' || (c >= '0' && c <= '9'))
        return read_number(x);
    if (c == '{' || c == '[') {
        tsr_j_enter(x->r);
        v = c == '{' ? read_object(x) : read_array(x);
        tsr_j_leave(x->r);
        return v;
    }
    if (skip(x, "true"))
        return tsr_j_bool(true);
    if (skip(x, "false"))
        return tsr_j_bool(false);
    if (skip(x, "null"))
        return tsr_j_none();
    broken(x, "a value should stand here");
}

struct tsr_jvalue tsr_j_json(struct tsr_jrun *r, const char *json, size_t len)
{
    struct reader x = {.r = r, .s = json, .n = len};
    struct tsr_jvalue v = read_value(&x);
    skip_space(&x);
    if (x.at != len)
        broken(&x, "something stands behind its end");
    return v;
}
