/* Filters whose result is a text or a number (jinja2/filters.py of 3.1). */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "run_priv.h"

#define FILTER(name)                                                                               \
    static struct tsr_jvalue filter_##name(struct tsr_jrun *r, struct tsr_jvalue self,             \
                                           const struct tsr_jcall *call)

static void no_arguments(struct tsr_jrun *r, const struct tsr_jcall *call, const char *name)
{
    tsr_j_bind(r, call, name, NULL, 0, NULL);
}

static bool given(struct tsr_jvalue v)
{
    return v.kind != TSR_JV_ABSENT && v.kind != TSR_JV_NONE;
}

FILTER(trim)
{
    static const char *const names[] = {"chars"};
    struct tsr_jvalue a[1];
    tsr_j_bind(r, call, "filter 'trim'", names, 1, a);
    return tsr_j_strip(r, tsr_j_text(r, self),
                       given(a[0]) ? tsr_j_as_str(r, a[0], "filter 'trim': chars") : NULL, true,
                       true);
}

FILTER(upper)
{
    no_arguments(r, call, "filter 'upper'");
    return tsr_j_change_case(r, tsr_j_text(r, self), TSR_JC_UPPER);
}

FILTER(lower)
{
    no_arguments(r, call, "filter 'lower'");
    return tsr_j_change_case(r, tsr_j_text(r, self), TSR_JC_LOWER);
}

FILTER(capitalize)
{
    no_arguments(r, call, "filter 'capitalize'");
    return tsr_j_change_case(r, tsr_j_text(r, self), TSR_JC_CAPITALIZE);
}

/* Words begin behind white space and any of -({[< */
FILTER(title)
{
    no_arguments(r, call, "filter 'title'");
    const struct tsr_jstr *s = tsr_j_text(r, self);
    struct tsr_jbuild b;
    bool start = true;
    tsr_jb_begin(r, &b);
    for (size_t at = 0; at < s->len;) {
        unsigned width;
        uint32_t c = tsr_text_char(s->text + at, s->len - at, &width), out[3];
        bool divides = tsr_text_is_space(c) || (c < 0x80 && c && strchr("-({[<", (int)c));
        unsigned n = start && !divides ? tsr_text_upper(c, out) : tsr_text_lower(c, out);
        for (unsigned i = 0; i < n; i++)
            tsr_jb_char(r, &b, out[i], tsr_j_str_trusted(s, at));
        start = divides;
        at += width;
    }
    return tsr_jb_end(r, &b);
}

FILTER(replace)
{
    static const char *const names[] = {"old", "new", "count"};
    struct tsr_jvalue a[3];
    tsr_j_bind(r, call, "filter 'replace'", names, 3, a);
    int64_t count = given(a[2]) ? tsr_j_as_int(r, a[2], "filter 'replace': count") : -1;
    if (a[0].kind == TSR_JV_ABSENT || a[1].kind == TSR_JV_ABSENT)
        tsr_j_fail(r, -EINVAL, "filter 'replace' needs two arguments");
    return tsr_j_replace(r, tsr_j_text(r, self), tsr_j_text(r, a[0]), tsr_j_text(r, a[1]), count);
}

FILTER(string)
{
    no_arguments(r, call, "filter 'string'");
    const struct tsr_jstr *s = tsr_j_text(r, self);
    return (struct tsr_jvalue){.kind = TSR_JV_STRING, .str = s};
}

FILTER(safe)
{
    no_arguments(r, call, "filter 'safe'");
    const struct tsr_jstr *s = tsr_j_text(r, self);
    struct tsr_jvalue v = tsr_j_sub(r, s, 0, s->len);
    ((struct tsr_jstr *)(uintptr_t)v.str)->markup = true;
    return v;
}

FILTER(escape)
{
    no_arguments(r, call, "filter 'escape'");
    const struct tsr_jstr *s = tsr_j_text(r, self);
    return s->markup ? self : tsr_j_escape(r, s);
}

FILTER(forceescape)
{
    no_arguments(r, call, "filter 'forceescape'");
    return tsr_j_escape(r, tsr_j_text(r, self));
}

FILTER(indent)
{
    static const char *const names[] = {"width", "first", "blank"};
    struct tsr_jvalue a[3];
    tsr_j_bind(r, call, "filter 'indent'", names, 3, a);
    const struct tsr_jstr *s = tsr_j_as_str(r, self, "filter 'indent': the value");
    const struct tsr_jstr *by;
    bool first = tsr_j_truth(a[1]), blank = tsr_j_truth(a[2]);
    if (a[0].kind == TSR_JV_STRING) {
        by = a[0].str;
    } else {
        int64_t width =
            a[0].kind == TSR_JV_ABSENT ? 4 : tsr_j_as_int(r, a[0], "filter 'indent': width");
        const struct tsr_jstr space = {.text = " ", .len = 1, .trusted = true};
        const struct tsr_jstr none = {.text = "", .trusted = true};
        by = tsr_j_pad(r, &none, width, &space, true, false).str;
    }
    const struct tsr_jstr newline = {.text = "\n", .len = 1, .trusted = true};
    const struct tsr_jseq *lines = tsr_j_split_lines(r, tsr_j_join(r, s, &newline).str, false).seq;
    struct tsr_jbuild b;
    tsr_jb_begin(r, &b);
    for (uint32_t i = 0; i < lines->n; i++) {
        const struct tsr_jstr *line = lines->items[i].str;
        if (i)
            tsr_jb_str(r, &b, &newline);
        if (i == 0 ? first : (blank || line->len))
            tsr_jb_str(r, &b, by);
        tsr_jb_str(r, &b, line);
    }
    return tsr_jb_end(r, &b);
}

FILTER(truncate)
{
    static const char *const names[] = {"length", "killwords", "end", "leeway"};
    struct tsr_jvalue a[4];
    tsr_j_bind(r, call, "filter 'truncate'", names, 4, a);
    tsr_j_length(r, self); /* fails for what has none */
    const struct tsr_jstr *s = tsr_j_text(r, self);
    const struct tsr_jstr *end =
        given(a[2]) ? tsr_j_as_str(r, a[2], "filter 'truncate': end") : tsr_j_cstring(r, "...").str;
    int64_t length = given(a[0]) ? tsr_j_as_int(r, a[0], "filter 'truncate': length") : 255;
    int64_t leeway = given(a[3]) ? tsr_j_as_int(r, a[3], "filter 'truncate': leeway") : 5;
    int64_t end_n = (int64_t)tsr_text_count(end->text, end->len);
    if (length < end_n || leeway < 0)
        tsr_j_fail(r, -EINVAL, "filter 'truncate': expected length >= %lld, got %lld",
                   (long long)end_n, (long long)length);
    tsr_j_charge(r, s->len / 16);
    if ((int64_t)tsr_text_count(s->text, s->len) <= length + leeway)
        return (struct tsr_jvalue){.kind = TSR_JV_STRING, .str = s};
    size_t cut = tsr_j_str_offset(s, (size_t)(length - end_n));
    if (!tsr_j_truth(a[1])) /* not within a word: back to the last space */
        for (size_t at = cut; at > 0; at--)
            if (s->text[at - 1] == ' ') {
                cut = at - 1;
                break;
            }
    struct tsr_jbuild b;
    tsr_jb_begin(r, &b);
    tsr_jb_sub(r, &b, s, 0, cut);
    tsr_jb_str(r, &b, end);
    return tsr_jb_end(r, &b);
}

FILTER(wordcount)
{
    no_arguments(r, call, "filter 'wordcount'");
    const struct tsr_jstr *s = tsr_j_text(r, self);
    int64_t n = 0;
    bool inside = false;
    tsr_j_charge(r, s->len / 16);
    for (size_t at = 0; at < s->len;) {
        unsigned width;
        bool word = tsr_text_is_word(tsr_text_char(s->text + at, s->len - at, &width));
        n += word && !inside;
        inside = word;
        at += width;
    }
    return tsr_j_int(n);
}

FILTER(center)
{
    static const char *const names[] = {"width"};
    static const struct tsr_jstr space = {.text = " ", .len = 1, .trusted = true};
    struct tsr_jvalue a[1];
    tsr_j_bind(r, call, "filter 'center'", names, 1, a);
    int64_t width = given(a[0]) ? tsr_j_as_int(r, a[0], "filter 'center': width") : 80;
    return tsr_j_pad(r, tsr_j_text(r, self), width, &space, true, true);
}

FILTER(urlencode)
{
    no_arguments(r, call, "filter 'urlencode'");
    if (self.kind == TSR_JV_DICT || self.kind == TSR_JV_SEQ)
        tsr_j_fail(r, -ENOTSUP, "filter 'urlencode' of a %s is not supported", tsr_j_type(self));
    const struct tsr_jstr *s = tsr_j_text(r, self);
    struct tsr_jbuild b;
    char hex[8];
    tsr_jb_begin(r, &b);
    for (size_t at = 0; at < s->len; at++) {
        uint8_t c = (uint8_t)s->text[at];
        bool plain = (c | 32) >= 'a' && (c | 32) <= 'z';
        plain = plain || (c >= '0' && c <= '9') || (c && strchr("_.-~/", c));
        snprintf(hex, sizeof(hex), plain ? "%c" : "%%%02X", c);
        tsr_jb_put(r, &b, hex, NULL, tsr_j_str_trusted(s, at), strlen(hex));
    }
    return tsr_jb_end(r, &b);
}

/* A text that int() or float() reads: digits with single underscores between them, spaces around.
 */
static bool number_text(struct tsr_jrun *r, const struct tsr_jstr *s, char *out, size_t max)
{
    s = tsr_j_strip(r, s, NULL, true, true).str;
    size_t n = 0;
    for (uint32_t i = 0; i < s->len; i++) {
        if (s->text[i] == '_') {
            if (i == 0 || i + 1 == s->len || s->text[i - 1] == '_')
                return false;
            continue;
        }
        if (n + 1 == max)
            return false;
        out[n++] = s->text[i];
    }
    out[n] = '\0';
    return n > 0;
}

static bool parse_real(const char *text, double *real)
{
    char *end;
    for (const char *p = text; *p; p++)
        if ((*p | 32) == 'x' || (*p | 32) == 'p' || *p == '(') /* C reads these, Python does not */
            return false;
    *real = strtod(text, &end);
    return end != text && *end == '\0';
}

FILTER(int)
{
    static const char *const names[] = {"default", "base"};
    struct tsr_jvalue a[2];
    tsr_j_bind(r, call, "filter 'int'", names, 2, a);
    struct tsr_jvalue otherwise = a[0].kind == TSR_JV_ABSENT ? tsr_j_int(0) : a[0];
    int64_t base = given(a[1]) ? tsr_j_as_int(r, a[1], "filter 'int': base") : 10;
    double real;
    switch (self.kind) {
    case TSR_JV_UNDEFINED:
        tsr_j_fail_undefined(r, self);
    case TSR_JV_BOOL:
        return tsr_j_int(self.truth);
    case TSR_JV_INT:
        return self;
    case TSR_JV_FLOAT:
        real = self.real;
        break;
    case TSR_JV_STRING: {
        char text[512], *end;
        if (base < 0 || base == 1 || base > 36 || !number_text(r, self.str, text, sizeof(text)))
            return otherwise;
        errno = 0;
        long long integer = strtoll(text, &end, (int)base);
        if (end != text && *end == '\0') {
            if (errno == ERANGE)
                tsr_j_fail(r, -ENOTSUP, "integers beyond 64 bits are not supported");
            return tsr_j_int(integer);
        }
        if (!parse_real(text, &real))
            return otherwise;
        break;
    }
    default:
        return otherwise;
    }
    if (!isfinite(real))
        return otherwise;
    if (fabs(real) >= 0x1p63)
        tsr_j_fail(r, -ENOTSUP, "integers beyond 64 bits are not supported");
    return tsr_j_int((int64_t)real);
}

FILTER(float)
{
    static const char *const names[] = {"default"};
    struct tsr_jvalue a[1];
    tsr_j_bind(r, call, "filter 'float'", names, 1, a);
    struct tsr_jvalue otherwise = a[0].kind == TSR_JV_ABSENT ? tsr_j_float(0.0) : a[0];
    char text[512];
    double real;
    switch (self.kind) {
    case TSR_JV_UNDEFINED:
        tsr_j_fail_undefined(r, self);
    case TSR_JV_BOOL:
        return tsr_j_float(self.truth);
    case TSR_JV_INT:
        return tsr_j_float((double)self.integer);
    case TSR_JV_FLOAT:
        return self;
    case TSR_JV_STRING:
        if (number_text(r, self.str, text, sizeof(text)) && parse_real(text, &real))
            return tsr_j_float(real);
        return otherwise;
    default:
        return otherwise;
    }
}

static double to_real(struct tsr_jrun *r, struct tsr_jvalue v, const char *what)
{
    return v.kind == TSR_JV_FLOAT ? v.real : (double)tsr_j_as_int(r, v, what);
}

FILTER(abs)
{
    no_arguments(r, call, "filter 'abs'");
    if (self.kind == TSR_JV_FLOAT)
        return tsr_j_float(fabs(self.real));
    int64_t integer = tsr_j_as_int(r, self, "filter 'abs': the value");
    return tsr_j_negate(r, tsr_j_int(integer), integer < 0);
}

FILTER(round)
{
    static const char *const names[] = {"precision", "method"};
    struct tsr_jvalue a[2];
    tsr_j_bind(r, call, "filter 'round'", names, 2, a);
    int64_t precision = given(a[0]) ? tsr_j_as_int(r, a[0], "filter 'round': precision") : 0;
    double real = to_real(r, self, "filter 'round': the value");
    const struct tsr_jstr *method =
        a[1].kind == TSR_JV_ABSENT ? NULL : tsr_j_as_str(r, a[1], "filter 'round': method");
    if (precision < -300 || precision > 300)
        tsr_j_fail(r, -ENOTSUP, "filter 'round': a precision of %lld", (long long)precision);
    if (!method || tsr_j_str_is(method, "common")) {
        if (self.kind != TSR_JV_FLOAT && precision >= 0)
            return tsr_j_int(tsr_j_as_int(r, self, "filter 'round': the value"));
        char text[700]; /* decimal digits round half to even on the exact value, as Python does */
        if (precision >= 0) {
            snprintf(text, sizeof(text), "%.*f", (int)precision, real);
            return tsr_j_float(strtod(text, NULL));
        }
        double unit = pow(10.0, (double)-precision);
        real = rint(real / unit) * unit;
        return self.kind == TSR_JV_FLOAT ? tsr_j_float(real) : tsr_j_int((int64_t)real);
    }
    double unit = pow(10.0, (double)precision);
    if (tsr_j_str_is(method, "ceil"))
        return tsr_j_float(ceil(real * unit) / unit);
    if (tsr_j_str_is(method, "floor"))
        return tsr_j_float(floor(real * unit) / unit);
    tsr_j_fail(r, -EINVAL, "filter 'round': method must be common, ceil or floor");
}

/* "..." | format(a, b): like "..." % (a, b). */
FILTER(format)
{
    if (call->n_pos && call->n_kw)
        tsr_j_fail(r, -EINVAL,
                   "filter 'format': can't handle positional and keyword arguments at "
                   "the same time");
    struct tsr_jvalue args;
    if (call->n_kw) {
        args = tsr_j_dict(r);
        for (uint32_t i = 0; i < call->n_kw; i++)
            tsr_j_dict_set(r, args.dict,
                           tsr_j_string(r, call->kw_name[i].text, call->kw_name[i].len, true),
                           call->kw[i]);
    } else {
        args = tsr_j_seq(r, TSR_JS_TUPLE, call->n_pos);
        for (uint32_t i = 0; i < call->n_pos; i++)
            tsr_j_append(r, args.seq, call->pos[i]);
    }
    return tsr_j_percent(r, tsr_j_text(r, self), args);
}

FILTER(default)
{
    static const char *const names[] = {"default_value", "boolean"};
    struct tsr_jvalue a[2];
    tsr_j_bind(r, call, "filter 'default'", names, 2, a);
    if (self.kind == TSR_JV_UNDEFINED || (tsr_j_truth(a[1]) && !tsr_j_truth(self)))
        return a[0].kind == TSR_JV_ABSENT ? tsr_j_cstring(r, "") : a[0];
    return self;
}

FILTER(length)
{
    no_arguments(r, call, "filter 'length'");
    return tsr_j_int(tsr_j_length(r, self));
}

const struct tsr_jbuiltin tsr_j_text_filters[] = {
    {"trim", filter_trim},
    {"upper", filter_upper},
    {"lower", filter_lower},
    {"capitalize", filter_capitalize},
    {"title", filter_title},
    {"replace", filter_replace},
    {"string", filter_string},
    {"safe", filter_safe},
    {"e", filter_escape},
    {"escape", filter_escape},
    {"forceescape", filter_forceescape},
    {"indent", filter_indent},
    {"truncate", filter_truncate},
    {"wordcount", filter_wordcount},
    {"center", filter_center},
    {"urlencode", filter_urlencode},
    {"int", filter_int},
    {"float", filter_float},
    {"abs", filter_abs},
    {"round", filter_round},
    {"format", filter_format},
    {"default", filter_default},
    {"d", filter_default},
    {"length", filter_length},
    {"count", filter_length},
    {"tojson", tsr_j_tojson},
};
const size_t tsr_j_n_text_filters = sizeof(tsr_j_text_filters) / sizeof(tsr_j_text_filters[0]);
