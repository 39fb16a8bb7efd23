/* Values as text: Python's str() and repr(), and json.dumps(ensure_ascii=False) as transformers'
 * tojson calls it. */
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "run_priv.h"

void tsr_j_float_text(double real, char *out)
{
    if (isnan(real)) {
        strcpy(out, "nan");
        return;
    }
    if (isinf(real)) {
        strcpy(out, real > 0 ? "inf" : "-inf");
        return;
    }
    /* The fewest digits that read back as the same number: d.ddde[+-]xx */
    char e[40];
    for (int precision = 0; precision < 17; precision++) {
        snprintf(e, sizeof(e), "%.*e", precision, real);
        if (strtod(e, NULL) == real)
            break;
    }
    char digits[24] = {0};
    size_t n = 0;
    const char *p = e;
    char *at = out;
    if (*p == '-')
        *at++ = *p++;
    for (; *p && *p != 'e'; p++)
        if (*p != '.')
            digits[n++] = *p;
    int power = (int)strtol(p + 1, NULL, 10);
    if (power < -4 || power >= 16) {
        *at++ = digits[0];
        if (n > 1)
            *at++ = '.';
        memcpy(at, digits + 1, n - 1);
        at += n - 1;
        snprintf(at, 8, "e%c%02u", power < 0 ? '-' : '+', (unsigned)abs(power) % 1000);
        return;
    }
    if (power < 0) {
        *at++ = '0';
        *at++ = '.';
        for (int i = -1; i > power; i--)
            *at++ = '0';
        memcpy(at, digits, n);
        at += n;
    } else {
        for (int i = 0; i <= power; i++)
            *at++ = (size_t)i < n ? digits[i] : '0';
        *at++ = '.';
        if (n > (size_t)power + 1) {
            memcpy(at, digits + power + 1, n - (size_t)power - 1);
            at += n - (size_t)power - 1;
        } else {
            *at++ = '0';
        }
    }
    *at = '\0';
}

/* repr() of a string: single quotes, unless it holds some and no double ones. */
static void repr_string(struct tsr_jrun *r, struct tsr_jbuild *b, const struct tsr_jstr *s)
{
    bool single = s->len && memchr(s->text, '\'', s->len);
    bool both = single && memchr(s->text, '"', s->len);
    char quote = single && !both ? '"' : '\'';
    char escape[16];
    tsr_jb_char(r, b, (uint8_t)quote, true);
    for (size_t at = 0; at < s->len;) {
        unsigned width;
        uint32_t c = tsr_text_char(s->text + at, s->len - at, &width);
        bool trusted = tsr_j_str_trusted(s, at);
        escape[0] = '\0';
        if (c == (uint8_t)quote || c == '\\')
            snprintf(escape, sizeof(escape), "\\%c", (char)c);
        else if (c == '\n')
            strcpy(escape, "\\n");
        else if (c == '\r')
            strcpy(escape, "\\r");
        else if (c == '\t')
            strcpy(escape, "\\t");
        else if (!tsr_text_is_printable(c))
            snprintf(escape, sizeof(escape),
                     c < 0x100     ? "\\x%02x"
                     : c < 0x10000 ? "\\u%04x"
                                   : "\\U%08x",
                     c >= 0x110000 ? 0xDC00 + (c - 0x110000) : c);
        if (escape[0])
            tsr_jb_put(r, b, escape, NULL, trusted, strlen(escape));
        else
            tsr_jb_sub(r, b, s, at, at + width);
        at += width;
    }
    tsr_jb_char(r, b, (uint8_t)quote, true);
}

static void repr_seq(struct tsr_jrun *r, struct tsr_jbuild *b, const struct tsr_jseq *seq)
{
    static const char *const open[] = {"[", "(", "[", "(["}, *const close[] = {"]", ")", "]", "])"};
    if (seq->kind == TSR_JS_GENERATOR)
        tsr_j_fail(r, -ENOTSUP, "printing a generator (put '| list' behind it) is not supported");
    if (seq->kind == TSR_JS_RANGE)
        tsr_j_fail(r, -ENOTSUP, "printing a range (put '| list' behind it) is not supported");
    if (seq->kind == TSR_JS_VIEW)
        tsr_jb_text(r, b, seq->view);
    tsr_jb_text(r, b, open[seq->kind]);
    for (uint32_t i = 0; i < seq->n; i++) {
        if (i)
            tsr_jb_text(r, b, ", ");
        tsr_j_repr_to(r, b, seq->items[i]);
    }
    if (seq->kind == TSR_JS_TUPLE && seq->n == 1)
        tsr_jb_text(r, b, ",");
    tsr_jb_text(r, b, close[seq->kind]);
}

static void repr_dict(struct tsr_jrun *r, struct tsr_jbuild *b, const struct tsr_jdict *dict)
{
    tsr_jb_text(r, b, "{");
    for (uint32_t i = 0; i < dict->n; i++) {
        if (i)
            tsr_jb_text(r, b, ", ");
        tsr_j_repr_to(r, b, dict->entries[i].key);
        tsr_jb_text(r, b, ": ");
        tsr_j_repr_to(r, b, dict->entries[i].value);
    }
    tsr_jb_text(r, b, "}");
}

void tsr_j_repr_to(struct tsr_jrun *r, struct tsr_jbuild *b, struct tsr_jvalue v)
{
    char number[40];
    tsr_j_enter(r);
    switch (v.kind) {
    case TSR_JV_NONE:
        tsr_jb_text(r, b, "None");
        break;
    case TSR_JV_BOOL:
        tsr_jb_text(r, b, v.truth ? "True" : "False");
        break;
    case TSR_JV_INT:
        snprintf(number, sizeof(number), "%" PRId64, v.integer);
        tsr_jb_text(r, b, number);
        break;
    case TSR_JV_FLOAT:
        tsr_j_float_text(v.real, number);
        tsr_jb_text(r, b, number);
        break;
    case TSR_JV_STRING:
        if (v.str->markup)
            tsr_jb_text(r, b, "Markup(");
        repr_string(r, b, v.str);
        if (v.str->markup)
            tsr_jb_text(r, b, ")");
        break;
    case TSR_JV_SEQ:
        repr_seq(r, b, v.seq);
        break;
    case TSR_JV_DICT:
        repr_dict(r, b, v.dict);
        break;
    case TSR_JV_NAMESPACE:
        tsr_jb_text(r, b, "<Namespace ");
        repr_dict(r, b, v.dict);
        tsr_jb_text(r, b, ">");
        break;
    case TSR_JV_UNDEFINED:
        tsr_jb_text(r, b, "Undefined");
        break;
    default:
        tsr_j_fail(r, -ENOTSUP, "printing a %s is not supported", tsr_j_type(v));
    }
    tsr_j_leave(r);
}

void tsr_j_str_to(struct tsr_jrun *r, struct tsr_jbuild *b, struct tsr_jvalue v)
{
    if (v.kind == TSR_JV_STRING)
        tsr_jb_str(r, b, v.str);
    else if (v.kind != TSR_JV_UNDEFINED)
        tsr_j_repr_to(r, b, v);
}

const struct tsr_jstr *tsr_j_text(struct tsr_jrun *r, struct tsr_jvalue v)
{
    if (v.kind == TSR_JV_STRING)
        return v.str;
    struct tsr_jbuild b;
    tsr_jb_begin(r, &b);
    tsr_j_str_to(r, &b, v);
    return tsr_jb_end(r, &b).str;
}

struct dump {
    const struct tsr_jstr *indent; /* NULL: on one line */
    const struct tsr_jstr *item_separator, *key_separator;
    bool sort_keys, ascii;
};

static void dump_string(struct tsr_jrun *r, struct tsr_jbuild *b, const struct tsr_jstr *s,
                        bool ascii)
{
    static const char plain[] = "\"\\\n\r\t\b\f", names[] = "\"\\nrtbf";
    char escape[16];
    size_t from = 0;
    tsr_jb_text(r, b, "\"");
    for (size_t at = 0; at < s->len;) {
        unsigned width = 1;
        uint32_t c = (uint8_t)s->text[at];
        escape[0] = '\0';
        const char *known = c < 0x80 && c ? strchr(plain, (int)c) : NULL;
        if (known) {
            snprintf(escape, sizeof(escape), "\\%c", names[known - plain]);
        } else if (c < 0x20) {
            snprintf(escape, sizeof(escape), "\\u%04x", c);
        } else if (c >= 0x80 && ascii) {
            c = tsr_text_char(s->text + at, s->len - at, &width);
            if (c >= 0x110000)
                snprintf(escape, sizeof(escape), "\\u%04x", 0xDC00 + (c - 0x110000));
            else if (c >= 0x10000)
                snprintf(escape, sizeof(escape), "\\u%04x\\u%04x", 0xD800 + ((c - 0x10000) >> 10),
                         0xDC00 + ((c - 0x10000) & 0x3FF));
            else
                snprintf(escape, sizeof(escape), "\\u%04x", c);
        }
        if (escape[0]) {
            tsr_jb_sub(r, b, s, from, at);
            tsr_jb_put(r, b, escape, NULL, tsr_j_str_trusted(s, at), strlen(escape));
            from = at + width;
        }
        at += width;
    }
    tsr_jb_sub(r, b, s, from, s->len);
    tsr_jb_text(r, b, "\"");
}

static void dump_break(struct tsr_jrun *r, struct tsr_jbuild *b, const struct dump *d,
                       unsigned level)
{
    if (!d->indent)
        return;
    tsr_jb_text(r, b, "\n");
    for (unsigned i = 0; i < level; i++)
        tsr_jb_str(r, b, d->indent);
}

static void dump_value(struct tsr_jrun *r, struct tsr_jbuild *b, const struct dump *d,
                       struct tsr_jvalue v, unsigned level);

static void dump_key(struct tsr_jrun *r, struct tsr_jbuild *b, const struct dump *d,
                     struct tsr_jvalue key)
{
    if (key.kind == TSR_JV_STRING) {
        dump_string(r, b, key.str, d->ascii);
        return;
    }
    if (key.kind != TSR_JV_BOOL && key.kind != TSR_JV_INT && key.kind != TSR_JV_FLOAT &&
        key.kind != TSR_JV_NONE)
        tsr_j_fail(r, -EINVAL, "keys must be str, int, float, bool or None, not %s",
                   tsr_j_type(key));
    tsr_jb_text(r, b, "\"");
    dump_value(r, b, d, key, 0);
    tsr_jb_text(r, b, "\"");
}

/* The entries of a mapping by ascending keys; insertion keeps it simple, and is charged for. */
static const struct tsr_jentry *sorted(struct tsr_jrun *r, const struct tsr_jdict *dict)
{
    struct tsr_jentry *list = tsr_j_alloc(r, (dict->n + 1) * sizeof(*list));
    for (uint32_t i = 0; i < dict->n; i++) {
        uint32_t k = i;
        for (; k > 0 && tsr_j_order(r, dict->entries[i].key, list[k - 1].key, "<") < 0; k--)
            list[k] = list[k - 1];
        list[k] = dict->entries[i];
    }
    return list;
}

static void dump_dict(struct tsr_jrun *r, struct tsr_jbuild *b, const struct dump *d,
                      const struct tsr_jdict *dict, unsigned level)
{
    const struct tsr_jentry *entries = d->sort_keys ? sorted(r, dict) : dict->entries;
    tsr_jb_text(r, b, "{");
    for (uint32_t i = 0; i < dict->n; i++) {
        if (i)
            tsr_jb_str(r, b, d->item_separator);
        dump_break(r, b, d, level + 1);
        dump_key(r, b, d, entries[i].key);
        tsr_jb_str(r, b, d->key_separator);
        dump_value(r, b, d, entries[i].value, level + 1);
    }
    if (dict->n)
        dump_break(r, b, d, level);
    tsr_jb_text(r, b, "}");
}

static void dump_value(struct tsr_jrun *r, struct tsr_jbuild *b, const struct dump *d,
                       struct tsr_jvalue v, unsigned level)
{
    tsr_j_enter(r);
    switch (v.kind) {
    case TSR_JV_NONE:
        tsr_jb_text(r, b, "null");
        break;
    case TSR_JV_BOOL:
        tsr_jb_text(r, b, v.truth ? "true" : "false");
        break;
    case TSR_JV_INT:
        tsr_j_repr_to(r, b, v);
        break;
    case TSR_JV_FLOAT:
        if (isfinite(v.real))
            tsr_j_repr_to(r, b, v);
        else
            tsr_jb_text(r, b, isnan(v.real) ? "NaN" : v.real > 0 ? "Infinity" : "-Infinity");
        break;
    case TSR_JV_STRING:
        dump_string(r, b, v.str, d->ascii);
        break;
    case TSR_JV_DICT:
        dump_dict(r, b, d, v.dict, level);
        break;
    case TSR_JV_SEQ:
        if (v.seq->kind == TSR_JS_LIST || v.seq->kind == TSR_JS_TUPLE) {
            tsr_jb_text(r, b, "[");
            for (uint32_t i = 0; i < v.seq->n; i++) {
                if (i)
                    tsr_jb_str(r, b, d->item_separator);
                dump_break(r, b, d, level + 1);
                dump_value(r, b, d, v.seq->items[i], level + 1);
            }
            if (v.seq->n)
                dump_break(r, b, d, level);
            tsr_jb_text(r, b, "]");
            break;
        }
        /* fall through */
    default:
        tsr_j_fail(r, -EINVAL, "filter 'tojson': Object of type %s is not JSON serializable",
                   tsr_j_type(v));
    }
    tsr_j_leave(r);
}

struct tsr_jvalue tsr_j_tojson(struct tsr_jrun *r, struct tsr_jvalue self,
                               const struct tsr_jcall *call)
{
    static const char *const names[] = {"ensure_ascii", "indent", "separators", "sort_keys"};
    static const struct tsr_jstr comma = {.text = ",", .len = 1, .trusted = true};
    static const struct tsr_jstr comma_space = {.text = ", ", .len = 2, .trusted = true};
    static const struct tsr_jstr colon = {.text = ": ", .len = 2, .trusted = true};
    struct tsr_jvalue a[4];
    tsr_j_bind(r, call, "tojson", names, 4, a);
    struct dump d = {.item_separator = &comma_space, .key_separator = &colon};
    d.ascii = tsr_j_truth(a[0]);
    d.sort_keys = tsr_j_truth(a[3]);
    if (a[1].kind == TSR_JV_STRING) {
        d.indent = a[1].str;
    } else if (a[1].kind != TSR_JV_NONE && a[1].kind != TSR_JV_ABSENT) {
        int64_t width = tsr_j_as_int(r, a[1], "filter 'tojson': indent");
        struct tsr_jbuild spaces;
        tsr_jb_begin(r, &spaces);
        for (int64_t i = 0; i < width && i < 64; i++)
            tsr_jb_text(r, &spaces, " ");
        d.indent = tsr_jb_end(r, &spaces).str;
    }
    if (d.indent)
        d.item_separator = &comma;
    if (a[2].kind != TSR_JV_NONE && a[2].kind != TSR_JV_ABSENT) {
        const struct tsr_jseq *two = tsr_j_iterate(r, a[2]);
        if (two->n != 2)
            tsr_j_fail(r, -EINVAL, "filter 'tojson': separators must be two strings");
        d.item_separator = tsr_j_as_str(r, two->items[0], "filter 'tojson': a separator");
        d.key_separator = tsr_j_as_str(r, two->items[1], "filter 'tojson': a separator");
    }
    struct tsr_jbuild b;
    tsr_jb_begin(r, &b);
    dump_value(r, &b, &d, self, 0);
    return tsr_jb_end(r, &b);
}
