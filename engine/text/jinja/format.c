/* "..." % args and str.format(). */
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "run_priv.h"

enum { WIDTH_MAX = 1000 };

/* What stands between the percent sign (or the colon) and the type. */
struct spec {
    char align; /* '<', '>', '^', '=', or 0 */
    char sign;  /* '+', ' ', or 0 */
    const struct tsr_jstr *fill;
    bool alternate, zero, comma;
    int width, precision; /* -1: none */
};

static int read_width(struct tsr_jrun *r, const struct tsr_jstr *s, size_t *at, size_t end)
{
    int value = -1;
    while (*at < end && s->text[*at] >= '0' && s->text[*at] <= '9') {
        value = (value < 0 ? 0 : value * 10) + (s->text[*at] - '0');
        if (value > WIDTH_MAX)
            tsr_j_fail(r, -ENOTSUP, "a format's width or precision above %d is not supported",
                       WIDTH_MAX);
        ++*at;
    }
    return value;
}

/* Puts text, filled up to the width. A number's zeros go behind its sign. */
static void put_filled(struct tsr_jrun *r, struct tsr_jbuild *b, const struct spec *spec,
                       const struct tsr_jstr *text, bool number)
{
    static const struct tsr_jstr space = {.text = " ", .len = 1, .trusted = true};
    static const struct tsr_jstr zero = {.text = "0", .len = 1, .trusted = true};
    const struct tsr_jstr *fill = spec->fill ? spec->fill : spec->zero ? &zero : &space;
    char align = spec->align ? spec->align : spec->zero && number ? '=' : number ? '>' : '<';
    int n = (int)tsr_text_count(text->text, text->len);
    int more = spec->width > n ? spec->width - n : 0;
    int before = align == '<' ? 0 : align == '^' ? more / 2 : more;
    size_t sign = 0;
    if (align == '=' && text->len && strchr("+- ", text->text[0]) && text->text[0])
        sign = 1;
    tsr_jb_sub(r, b, text, 0, sign);
    for (int i = 0; i < before; i++)
        tsr_jb_str(r, b, fill);
    tsr_jb_sub(r, b, text, sign, text->len);
    for (int i = before; i < more; i++)
        tsr_jb_str(r, b, fill);
}

/* The first `precision` characters of a text. */
static const struct tsr_jstr *clipped(struct tsr_jrun *r, const struct tsr_jstr *s, int precision)
{
    if (precision < 0 || (size_t)precision >= tsr_text_count(s->text, s->len))
        return s;
    return tsr_j_sub(r, s, 0, tsr_j_str_offset(s, (size_t)precision)).str;
}

static void group_digits(char *text, size_t max)
{
    size_t first = strspn(text, "+- "), n = strspn(text + first, "0123456789");
    for (size_t i = n > 3 ? n - 3 : 0; i > 0 && i<n; i = i> 3 ? i - 3 : 0) {
        size_t len = strlen(text);
        if (len + 2 > max)
            return;
        memmove(text + first + i + 1, text + first + i, len - first - i + 1);
        text[first + i] = ',';
    }
}

static const struct tsr_jstr *integer_text(struct tsr_jrun *r, const struct spec *spec,
                                           int64_t value, char type)
{
    char digits[80], text[120];
    uint64_t size = value < 0 ? 0 - (uint64_t)value : (uint64_t)value;
    const char *prefix = "";
    if (type == 'b') {
        int n = 0;
        for (int bit = 63; bit >= 0; bit--)
            if (n || bit == 0 || (size >> bit & 1))
                digits[n++] = (char)('0' + (size >> bit & 1));
        digits[n] = '\0';
        prefix = "0b";
    } else {
        snprintf(digits, sizeof(digits),
                 type == 'x'   ? "%" PRIx64
                 : type == 'X' ? "%" PRIX64
                 : type == 'o' ? "%" PRIo64
                               : "%" PRIu64,
                 size);
        prefix = type == 'x' ? "0x" : type == 'X' ? "0X" : type == 'o' ? "0o" : "";
    }
    char zeros[64] = "";
    int missing = spec->precision - (int)strlen(digits);
    for (int i = 0; i < missing && i < 60; i++)
        strcat(zeros, "0");
    char sign[2] = {value < 0 ? '-' : spec->sign, '\0'};
    snprintf(text, sizeof(text), "%s%s%s%s", sign, spec->alternate ? prefix : "", zeros, digits);
    if (spec->comma)
        group_digits(text, sizeof(text));
    struct tsr_jbuild b;
    tsr_jb_begin(r, &b);
    tsr_jb_text(r, &b, text);
    return tsr_jb_end(r, &b).str;
}

static const struct tsr_jstr *real_text(struct tsr_jrun *r, const struct spec *spec, double value,
                                        char type)
{
    char format[16], text[2 * WIDTH_MAX + 400];
    bool percent = type == '%';
    size_t n = 0;
    format[n++] = '%';
    if (spec->alternate)
        format[n++] = '#';
    if (spec->sign)
        format[n++] = spec->sign;
    memcpy(format + n, ".*", 2);
    format[n + 2] = percent ? 'f' : type;
    format[n + 3] = '\0';
    snprintf(text, sizeof(text) - 2, format, spec->precision < 0 ? 6 : spec->precision,
             percent ? value * 100.0 : value);
    if (percent)
        strcat(text, "%");
    if (spec->comma)
        group_digits(text, sizeof(text));
    struct tsr_jbuild b;
    tsr_jb_begin(r, &b);
    tsr_jb_text(r, &b, text);
    return tsr_jb_end(r, &b).str;
}

static double to_real(struct tsr_jrun *r, struct tsr_jvalue v, char type)
{
    if (v.kind == TSR_JV_FLOAT)
        return v.real;
    if (v.kind == TSR_JV_INT || v.kind == TSR_JV_BOOL)
        return (double)tsr_j_as_int(r, v, "");
    if (v.kind == TSR_JV_UNDEFINED)
        tsr_j_fail_undefined(r, v);
    tsr_j_fail(r, -EINVAL, "%%%c format: a real number is required, not %s", type, tsr_j_type(v));
}

static int64_t to_integer(struct tsr_jrun *r, struct tsr_jvalue v, char type)
{
    if (v.kind == TSR_JV_INT || v.kind == TSR_JV_BOOL)
        return tsr_j_as_int(r, v, "");
    double real = to_real(r, v, type);
    if (type != 'd')
        tsr_j_fail(r, -EINVAL, "%%%c format: an integer is required, not float", type);
    if (!(fabs(real) < 0x1p63))
        tsr_j_fail(r, -ENOTSUP, "integers beyond 64 bits are not supported");
    return (int64_t)real;
}

static void put_percent(struct tsr_jrun *r, struct tsr_jbuild *b, const struct spec *spec,
                        char type, struct tsr_jvalue v)
{
    struct tsr_jbuild repr;
    switch (type) {
    case 's':
        put_filled(r, b, spec, clipped(r, tsr_j_text(r, v), spec->precision), false);
        return;
    case 'r':
    case 'a':
        tsr_jb_begin(r, &repr);
        tsr_j_repr_to(r, &repr, v);
        put_filled(r, b, spec, clipped(r, tsr_jb_end(r, &repr).str, spec->precision), false);
        return;
    case 'd':
    case 'i':
    case 'u':
        put_filled(r, b, spec, integer_text(r, spec, to_integer(r, v, 'd'), 'd'), true);
        return;
    case 'x':
    case 'X':
    case 'o':
        put_filled(r, b, spec, integer_text(r, spec, to_integer(r, v, type), type), true);
        return;
    case 'e':
    case 'E':
    case 'f':
    case 'F':
    case 'g':
    case 'G':
        put_filled(r, b, spec, real_text(r, spec, to_real(r, v, type), type), true);
        return;
    case 'c':
        if (v.kind == TSR_JV_STRING && tsr_text_count(v.str->text, v.str->len) == 1) {
            put_filled(r, b, spec, v.str, false);
            return;
        }
        tsr_j_fail(r, -ENOTSUP, "%%c with anything but a string of one character");
    default:
        tsr_j_fail(r, -EINVAL, "unsupported format character '%c'",
                   type >= 32 && type < 127 ? type : '?');
    }
}

/* The arguments of a '%' format, taken one by one or by name. */
struct percent_args {
    struct tsr_jvalue all;
    uint32_t next;
    bool tuple;
};

static struct tsr_jvalue next_arg(struct tsr_jrun *r, struct percent_args *args)
{
    uint32_t n = args->tuple ? args->all.seq->n : 1;
    if (args->next >= n)
        tsr_j_fail(r, -EINVAL, "not enough arguments for format string");
    uint32_t i = args->next++;
    return args->tuple ? args->all.seq->items[i] : args->all;
}

struct tsr_jvalue tsr_j_percent(struct tsr_jrun *r, const struct tsr_jstr *format,
                                struct tsr_jvalue value)
{
    struct percent_args args = {.all = value, .tuple = tsr_j_is_seq(value, TSR_JS_TUPLE)};
    bool named = false;
    struct tsr_jbuild b;
    size_t at = 0;
    tsr_jb_begin(r, &b);
    while (at < format->len) {
        const char *percent = memchr(format->text + at, '%', format->len - at);
        size_t stop = percent ? (size_t)(percent - format->text) : format->len;
        tsr_jb_sub(r, &b, format, at, stop);
        at = stop + 1;
        if (!percent)
            break;
        struct spec spec = {.width = -1, .precision = -1, .align = '>'};
        struct tsr_jvalue v = {.kind = TSR_JV_ABSENT};
        if (at < format->len && format->text[at] == '(') {
            const char *close = memchr(format->text + at, ')', format->len - at);
            if (!close || value.kind != TSR_JV_DICT)
                tsr_j_fail(r, -EINVAL, "format requires a mapping");
            size_t end = (size_t)(close - format->text);
            const struct tsr_jvalue *found =
                tsr_j_dict_get(r, value.dict, format->text + at + 1, end - at - 1);
            if (!found)
                tsr_j_fail(r, -EINVAL, "KeyError: '%.*s'",
                           (int)(end - at - 1 < 60 ? end - at - 1 : 60), format->text + at + 1);
            v = *found;
            named = true;
            at = end + 1;
        }
        for (; at < format->len && strchr("-+ #0", format->text[at]) && format->text[at]; at++) {
            char flag = format->text[at];
            spec.align = flag == '-' ? '<' : spec.align;
            spec.sign = flag == '+' || (flag == ' ' && !spec.sign) ? flag : spec.sign;
            spec.alternate = spec.alternate || flag == '#';
            spec.zero = spec.zero || flag == '0';
        }
        if (at < format->len && format->text[at] == '*') {
            spec.width = (int)(tsr_j_as_int(r, next_arg(r, &args), "a width") & 0x3FF);
            at++;
        } else {
            spec.width = read_width(r, format, &at, format->len);
        }
        if (at < format->len && format->text[at] == '.') {
            at++;
            spec.precision = read_width(r, format, &at, format->len);
            spec.precision = spec.precision < 0 ? 0 : spec.precision;
        }
        while (at < format->len && strchr("hlL", format->text[at]) && format->text[at])
            at++;
        if (at >= format->len)
            tsr_j_fail(r, -EINVAL, "incomplete format");
        char type = format->text[at++];
        if (type == '%') {
            tsr_jb_text(r, &b, "%");
            continue;
        }
        if (v.kind == TSR_JV_ABSENT)
            v = next_arg(r, &args);
        bool number = type != 's' && type != 'r' && type != 'a' && type != 'c';
        if (spec.zero && number && spec.align == '>')
            spec.align = '=';
        if (!number || spec.align == '<')
            spec.zero = false;
        put_percent(r, &b, &spec, type, v);
    }
    uint32_t n = args.tuple ? value.seq->n : 1;
    if (args.next < n && !named && value.kind != TSR_JV_DICT)
        tsr_j_fail(r, -EINVAL, "not all arguments converted during string formatting");
    return tsr_jb_end(r, &b);
}

/* The specification behind the colon of a replacement field. */
static void put_spec(struct tsr_jrun *r, struct tsr_jbuild *b, const struct tsr_jstr *s, size_t at,
                     size_t end, struct tsr_jvalue v)
{
    struct spec spec = {.width = -1, .precision = -1};
    unsigned width = 0;
    if (at < end)
        tsr_text_char(s->text + at, end - at, &width);
    if (at + width < end && strchr("<>^=", s->text[at + width])) {
        spec.fill = tsr_j_sub(r, s, at, at + width).str;
        spec.align = s->text[at + width];
        at += width + 1;
    } else if (at < end && strchr("<>^=", s->text[at])) {
        spec.align = s->text[at++];
    }
    if (at < end && strchr("+- ", s->text[at])) {
        spec.sign = s->text[at] == '-' ? '\0' : s->text[at];
        at++;
    }
    if (at < end && s->text[at] == '#') {
        spec.alternate = true;
        at++;
    }
    if (at < end && s->text[at] == '0') {
        spec.zero = true;
        at++;
    }
    spec.width = read_width(r, s, &at, end);
    if (at < end && s->text[at] == ',') {
        spec.comma = true;
        at++;
    }
    if (at < end && s->text[at] == '.') {
        at++;
        spec.precision = read_width(r, s, &at, end);
    }
    char type = at < end ? s->text[at++] : '\0';
    if (at != end)
        tsr_j_fail(r, -EINVAL, "invalid format specification '%.*s'",
                   (int)(s->len < 60 ? s->len : 60), s->text);
    bool real = type && strchr("eEfFgG%", type), integer = type && strchr("dxXob", type);
    if (real) {
        put_filled(r, b, &spec, real_text(r, &spec, to_real(r, v, type), type), true);
    } else if (integer || (!type && v.kind == TSR_JV_INT)) {
        if (v.kind != TSR_JV_INT && v.kind != TSR_JV_BOOL)
            tsr_j_fail(r, -EINVAL, "unknown format code '%c' for object of type '%s'", type,
                       tsr_j_type(v));
        put_filled(r, b, &spec, integer_text(r, &spec, tsr_j_as_int(r, v, ""), type ? type : 'd'),
                   true);
    } else if (!type && v.kind == TSR_JV_FLOAT) {
        const struct tsr_jstr *text =
            spec.precision < 0 ? tsr_j_text(r, v) : real_text(r, &spec, v.real, 'g');
        put_filled(r, b, &spec, text, true);
    } else if ((type == 's' || !type) && (v.kind == TSR_JV_STRING || v.kind == TSR_JV_UNDEFINED)) {
        put_filled(r, b, &spec, clipped(r, tsr_j_text(r, v), spec.precision), false);
    } else {
        tsr_j_fail(r, -EINVAL, "unsupported format string passed to %s.__format__", tsr_j_type(v));
    }
}

/* name, name.attribute, name[item] ... of a replacement field. */
static struct tsr_jvalue field_value(struct tsr_jrun *r, const struct tsr_jstr *s, size_t at,
                                     size_t end, const struct tsr_jcall *call, int64_t *next)
{
    size_t stop = at;
    while (stop < end && s->text[stop] != '.' && s->text[stop] != '[')
        stop++;
    struct tsr_jvalue v = {.kind = TSR_JV_ABSENT};
    size_t digits = at;
    int64_t index = read_width(r, s, &digits, stop);
    if (stop == at || digits == stop) {
        bool automatic = stop == at;
        if (automatic ? *next < 0 : *next > 0)
            tsr_j_fail(r, -EINVAL,
                       "cannot switch between manual field specification and automatic "
                       "field numbering");
        if (automatic)
            index = (*next)++;
        else
            *next = -1;
        if (index >= call->n_pos)
            tsr_j_fail(r, -EINVAL, "Replacement index %lld out of range for positional args tuple",
                       (long long)index);
        v = call->pos[index];
    }
    for (uint32_t k = 0; v.kind == TSR_JV_ABSENT && k < call->n_kw; k++)
        if (call->kw_name[k].len == stop - at &&
            memcmp(call->kw_name[k].text, s->text + at, stop - at) == 0)
            v = call->kw[k];
    if (v.kind == TSR_JV_ABSENT)
        tsr_j_fail(r, -EINVAL, "KeyError: '%.*s'", (int)(stop - at < 60 ? stop - at : 60),
                   s->text + at);
    while (stop < end) {
        bool item = s->text[stop] == '[';
        size_t from = stop + 1;
        stop = from;
        while (stop < end &&
               (item ? s->text[stop] != ']' : s->text[stop] != '.' && s->text[stop] != '['))
            stop++;
        struct tsr_jtext name = {s->text + from, (uint32_t)(stop - from)};
        size_t after = from;
        int64_t number = read_width(r, s, &after, stop);
        if (item)
            v = tsr_j_item(r, v,
                           after == stop && number >= 0
                               ? tsr_j_int(number)
                               : tsr_j_string(r, name.text, name.len, true));
        else
            v = tsr_j_attr(r, v, name);
        if (v.kind == TSR_JV_UNDEFINED)
            tsr_j_fail_undefined(r, v);
        stop += item && stop < end;
    }
    return v;
}

struct tsr_jvalue tsr_j_str_format(struct tsr_jrun *r, struct tsr_jvalue self,
                                   const struct tsr_jcall *call)
{
    const struct tsr_jstr *s = self.str;
    int64_t next = 0; /* -1: the fields have numbers */
    struct tsr_jbuild b;
    tsr_jb_begin(r, &b);
    for (size_t at = 0; at < s->len;) {
        char c = s->text[at];
        if (c != '{' && c != '}') {
            tsr_jb_sub(r, &b, s, at, at + 1);
            at++;
            continue;
        }
        if (at + 1 < s->len && s->text[at + 1] == c) {
            tsr_jb_sub(r, &b, s, at, at + 1);
            at += 2;
            continue;
        }
        if (c == '}')
            tsr_j_fail(r, -EINVAL, "Single '}' encountered in format string");
        size_t end = ++at, colon, bang;
        while (end < s->len && s->text[end] != '}') {
            if (s->text[end] == '{')
                tsr_j_fail(r, -ENOTSUP,
                           "a replacement field within a replacement field is not "
                           "supported");
            end++;
        }
        if (end == s->len)
            tsr_j_fail(r, -EINVAL, "expected '}' before end of string");
        for (colon = at; colon < end && s->text[colon] != ':'; colon++)
            ;
        for (bang = at; bang < colon && s->text[bang] != '!'; bang++)
            ;
        struct tsr_jvalue v = field_value(r, s, at, bang, call, &next);
        if (bang < colon) {
            struct tsr_jbuild repr;
            tsr_jb_begin(r, &repr);
            if (bang + 2 != colon || !strchr("rsa", s->text[bang + 1]))
                tsr_j_fail(r, -EINVAL, "unknown conversion in a format string");
            if (s->text[bang + 1] == 's')
                tsr_j_str_to(r, &repr, v);
            else
                tsr_j_repr_to(r, &repr, v);
            v = tsr_jb_end(r, &repr);
        }
        if (colon + 1 < end)
            put_spec(r, &b, s, colon + 1, end, v);
        else
            tsr_j_str_to(r, &b, v);
        at = end + 1;
    }
    return tsr_jb_end(r, &b);
}
