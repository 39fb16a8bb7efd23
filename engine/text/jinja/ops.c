/* Operators, attributes, items and slices as Python and Jinja2's sandbox have them. */
#include <errno.h>
#include <math.h>
#include <string.h>

#include "run_priv.h"

static const char *op_text(enum tsr_jop op)
{
    static const char *const texts[] = {"+",  "-", "*",  "/", "//", "%",  "** or pow()", "==",
                                        "!=", "<", "<=", ">", ">=", "in", "not in"};
    return texts[op];
}

static _Noreturn void unsupported(struct tsr_jrun *r, enum tsr_jop op, struct tsr_jvalue a,
                                  struct tsr_jvalue b)
{
    if (a.kind == TSR_JV_UNDEFINED)
        tsr_j_fail_undefined(r, a);
    if (b.kind == TSR_JV_UNDEFINED)
        tsr_j_fail_undefined(r, b);
    if (op == TSR_JO_ADD && (a.kind == TSR_JV_STRING || a.kind == TSR_JV_SEQ))
        tsr_j_fail(r, -EINVAL, "can only concatenate %s (not \"%s\") to %s", tsr_j_type(a),
                   tsr_j_type(b), tsr_j_type(a));
    tsr_j_fail(r, -EINVAL, "unsupported operand type(s) for %s: '%s' and '%s'", op_text(op),
               tsr_j_type(a), tsr_j_type(b));
}

static bool is_number(struct tsr_jvalue v)
{
    return v.kind == TSR_JV_BOOL || v.kind == TSR_JV_INT || v.kind == TSR_JV_FLOAT;
}

static _Noreturn void too_large(struct tsr_jrun *r)
{
    tsr_j_fail(r, -ENOTSUP, "integers beyond 64 bits are not supported");
}

static struct tsr_jvalue floor_divide(struct tsr_jrun *r, int64_t x, int64_t y, bool modulo)
{
    if (y == 0)
        tsr_j_fail(r, -EINVAL, "integer division or modulo by zero");
    if (y == -1) {
        if (x == INT64_MIN && !modulo)
            too_large(r);
        return tsr_j_int(modulo ? 0 : -x);
    }
    int64_t quotient = x / y, rest = x % y;
    if (rest != 0 && (rest < 0) != (y < 0)) {
        quotient--;
        rest += y;
    }
    return tsr_j_int(modulo ? rest : quotient);
}

static struct tsr_jvalue power(struct tsr_jrun *r, int64_t base, int64_t exponent)
{
    if (exponent < 0) {
        if (base == 0)
            tsr_j_fail(r, -EINVAL, "0.0 cannot be raised to a negative power");
        return tsr_j_float(pow((double)base, (double)exponent));
    }
    int64_t result = 1;
    if (base == 0 || base == 1 || base == -1) {
        result = base == -1 && exponent % 2 == 0 ? 1 : exponent == 0 ? 1 : base;
        return tsr_j_int(result);
    }
    for (int64_t i = 0; i < exponent; i++)
        if (__builtin_mul_overflow(result, base, &result))
            too_large(r);
    return tsr_j_int(result);
}

static struct tsr_jvalue integers(struct tsr_jrun *r, enum tsr_jop op, int64_t x, int64_t y)
{
    int64_t result = 0;
    bool overflow = false;
    switch (op) {
    case TSR_JO_ADD:
        overflow = __builtin_add_overflow(x, y, &result);
        break;
    case TSR_JO_SUB:
        overflow = __builtin_sub_overflow(x, y, &result);
        break;
    case TSR_JO_MUL:
        overflow = __builtin_mul_overflow(x, y, &result);
        break;
    case TSR_JO_DIV:
        if (y == 0)
            tsr_j_fail(r, -EINVAL, "division by zero");
        return tsr_j_float((double)x / (double)y);
    case TSR_JO_FLOORDIV:
        return floor_divide(r, x, y, false);
    case TSR_JO_MOD:
        return floor_divide(r, x, y, true);
    default:
        return power(r, x, y);
    }
    if (overflow)
        too_large(r);
    return tsr_j_int(result);
}

static struct tsr_jvalue reals(struct tsr_jrun *r, enum tsr_jop op, double x, double y)
{
    if (y == 0.0 && (op == TSR_JO_DIV || op == TSR_JO_FLOORDIV || op == TSR_JO_MOD))
        tsr_j_fail(r, -EINVAL, "float division by zero");
    double rest;
    switch (op) {
    case TSR_JO_ADD:
        return tsr_j_float(x + y);
    case TSR_JO_SUB:
        return tsr_j_float(x - y);
    case TSR_JO_MUL:
        return tsr_j_float(x * y);
    case TSR_JO_DIV:
        return tsr_j_float(x / y);
    case TSR_JO_FLOORDIV:
        rest = fmod(x, y);
        x = (x - rest) / y;
        return tsr_j_float(rest != 0.0 && (y < 0) != (rest < 0) ? floor(x - 0.5) : round(x));
    case TSR_JO_MOD:
        rest = fmod(x, y);
        return tsr_j_float(rest != 0.0 && (y < 0) != (rest < 0) ? rest + y
                           : rest != 0.0                        ? rest
                                                                : copysign(0.0, y));
    default:
        if (x == 0.0 && y < 0.0)
            tsr_j_fail(r, -EINVAL, "0.0 cannot be raised to a negative power");
        if (x < 0.0 && y != floor(y))
            tsr_j_fail(r, -ENOTSUP, "complex numbers are not supported");
        return tsr_j_float(pow(x, y));
    }
}

static double real_of(struct tsr_jvalue v)
{
    return v.kind == TSR_JV_FLOAT  ? v.real
           : v.kind == TSR_JV_BOOL ? (double)v.truth
                                   : (double)v.integer;
}

static int64_t integer_of(struct tsr_jvalue v)
{
    return v.kind == TSR_JV_BOOL ? v.truth : v.integer;
}

static struct tsr_jvalue add_strings(struct tsr_jrun *r, const struct tsr_jstr *a,
                                     const struct tsr_jstr *b)
{
    bool markup = a->markup || b->markup;
    if (markup && !a->markup)
        a = tsr_j_escape(r, a).str;
    if (markup && !b->markup)
        b = tsr_j_escape(r, b).str;
    struct tsr_jvalue v = tsr_j_join(r, a, b);
    ((struct tsr_jstr *)(uintptr_t)v.str)->markup = markup;
    return v;
}

static struct tsr_jvalue add_seqs(struct tsr_jrun *r, const struct tsr_jseq *a,
                                  const struct tsr_jseq *b)
{
    struct tsr_jvalue v = tsr_j_seq(r, a->kind, a->n + b->n);
    for (uint32_t i = 0; i < a->n; i++)
        tsr_j_append(r, v.seq, a->items[i]);
    for (uint32_t i = 0; i < b->n; i++)
        tsr_j_append(r, v.seq, b->items[i]);
    return v;
}

static struct tsr_jvalue repeat(struct tsr_jrun *r, struct tsr_jvalue v, int64_t times)
{
    if (v.kind == TSR_JV_STRING) {
        struct tsr_jbuild b;
        tsr_jb_begin(r, &b);
        for (int64_t i = 0; i < times && v.str->len; i++)
            tsr_jb_str(r, &b, v.str);
        return tsr_jb_end(r, &b);
    }
    struct tsr_jvalue out = tsr_j_seq(r, v.seq->kind, 0);
    for (int64_t i = 0; i < times && v.seq->n; i++)
        for (uint32_t k = 0; k < v.seq->n; k++)
            tsr_j_append(r, out.seq, v.seq->items[k]);
    return out;
}

static bool is_list_or_tuple(struct tsr_jvalue v)
{
    return tsr_j_is_seq(v, TSR_JS_LIST) || tsr_j_is_seq(v, TSR_JS_TUPLE);
}

static bool is_integer(struct tsr_jvalue v)
{
    return v.kind == TSR_JV_INT || v.kind == TSR_JV_BOOL;
}

struct tsr_jvalue tsr_j_binary(struct tsr_jrun *r, enum tsr_jop op, struct tsr_jvalue a,
                               struct tsr_jvalue b)
{
    tsr_j_charge(r, 1);
    if (is_number(a) && is_number(b)) {
        if (a.kind == TSR_JV_FLOAT || b.kind == TSR_JV_FLOAT)
            return reals(r, op, real_of(a), real_of(b));
        return integers(r, op, integer_of(a), integer_of(b));
    }
    if (op == TSR_JO_ADD && a.kind == TSR_JV_STRING && b.kind == TSR_JV_STRING)
        return add_strings(r, a.str, b.str);
    if (op == TSR_JO_ADD && is_list_or_tuple(a) && is_list_or_tuple(b) &&
        a.seq->kind == b.seq->kind)
        return add_seqs(r, a.seq, b.seq);
    if (op == TSR_JO_MUL && (a.kind == TSR_JV_STRING || is_list_or_tuple(a)) && is_integer(b))
        return repeat(r, a, integer_of(b));
    if (op == TSR_JO_MUL && (b.kind == TSR_JV_STRING || is_list_or_tuple(b)) && is_integer(a))
        return repeat(r, b, integer_of(a));
    if (op == TSR_JO_MOD && a.kind == TSR_JV_STRING)
        return tsr_j_percent(r, a.str, b);
    unsupported(r, op, a, b);
}

bool tsr_j_compare(struct tsr_jrun *r, enum tsr_jop op, struct tsr_jvalue a, struct tsr_jvalue b)
{
    int order;
    switch (op) {
    case TSR_JO_EQ:
        return tsr_j_equal(r, a, b);
    case TSR_JO_NE:
        return !tsr_j_equal(r, a, b);
    case TSR_JO_IN:
        return tsr_j_contains(r, a, b);
    case TSR_JO_NOT_IN:
        return !tsr_j_contains(r, a, b);
    default:
        break;
    }
    order = tsr_j_order(r, a, b, op_text(op));
    if (order == 2) /* NaN */
        return false;
    return op == TSR_JO_LT   ? order < 0
           : op == TSR_JO_LE ? order <= 0
           : op == TSR_JO_GT ? order > 0
                             : order >= 0;
}

struct tsr_jvalue tsr_j_negate(struct tsr_jrun *r, struct tsr_jvalue v, bool minus)
{
    if (v.kind == TSR_JV_FLOAT)
        return tsr_j_float(minus ? -v.real : v.real);
    if (!is_integer(v)) {
        if (v.kind == TSR_JV_UNDEFINED)
            tsr_j_fail_undefined(r, v);
        tsr_j_fail(r, -EINVAL, "bad operand type for unary %c: '%s'", minus ? '-' : '+',
                   tsr_j_type(v));
    }
    int64_t x = integer_of(v);
    if (minus && x == INT64_MIN)
        too_large(r);
    return tsr_j_int(minus ? -x : x);
}

static bool name_is(struct tsr_jtext name, const char *text)
{
    return name.len == strlen(text) && memcmp(name.text, text, name.len) == 0;
}

static struct tsr_jvalue method_of(struct tsr_jrun *r, struct tsr_jvalue of, struct tsr_jtext name)
{
    bool unsafe = false;
    const struct tsr_jbuiltin *builtin = tsr_j_find_method(of, name, &unsafe);
    if (unsafe)
        return tsr_j_undefined(r, TSR_JU_UNSAFE, tsr_j_type(of), name, 0);
    if (!builtin)
        return (struct tsr_jvalue){.kind = TSR_JV_ABSENT};
    struct tsr_jmethod *method = tsr_j_alloc(r, sizeof(*method));
    method->self = of;
    method->builtin = builtin;
    return (struct tsr_jvalue){.kind = TSR_JV_METHOD, .method = method};
}

static struct tsr_jvalue loop_attr(struct tsr_jrun *r, const struct tsr_jloop *loop,
                                   struct tsr_jtext name)
{
    uint32_t n = loop->seq->n, i = loop->index;
    if (name_is(name, "index"))
        return tsr_j_int((int64_t)i + 1);
    if (name_is(name, "index0"))
        return tsr_j_int(i);
    if (name_is(name, "revindex"))
        return tsr_j_int((int64_t)n - i);
    if (name_is(name, "revindex0"))
        return tsr_j_int((int64_t)n - i - 1);
    if (name_is(name, "first"))
        return tsr_j_bool(i == 0);
    if (name_is(name, "last"))
        return tsr_j_bool(i + 1 == n);
    if (name_is(name, "length"))
        return tsr_j_int(n);
    if (name_is(name, "depth"))
        return tsr_j_int((int64_t)loop->depth + 1);
    if (name_is(name, "depth0"))
        return tsr_j_int(loop->depth);
    if (name_is(name, "previtem"))
        return i > 0 ? loop->seq->items[i - 1]
                     : tsr_j_undefined(r, TSR_JU_TEXT, NULL,
                                       (struct tsr_jtext){"there is no previous item", 25}, 0);
    if (name_is(name, "nextitem"))
        return i + 1 < n ? loop->seq->items[i + 1]
                         : tsr_j_undefined(r, TSR_JU_TEXT, NULL,
                                           (struct tsr_jtext){"there is no next item", 21}, 0);
    return (struct tsr_jvalue){.kind = TSR_JV_ABSENT};
}

/* What getattr() finds, or absent. */
static struct tsr_jvalue own_attr(struct tsr_jrun *r, struct tsr_jvalue of, struct tsr_jtext name)
{
    struct tsr_jvalue v = {.kind = TSR_JV_ABSENT};
    if (of.kind == TSR_JV_NAMESPACE) {
        const struct tsr_jvalue *found = tsr_j_dict_get(r, of.dict, name.text, name.len);
        return found ? *found : v;
    }
    if (of.kind == TSR_JV_LOOP)
        v = loop_attr(r, of.loop, name);
    else if (of.kind == TSR_JV_CYCLER && name_is(name, "current"))
        return of.cycler->items->items[of.cycler->at];
    else if (of.kind == TSR_JV_MACRO && name_is(name, "name"))
        return tsr_j_string(r, of.macro->name, of.macro->name_len, true);
    else if (tsr_j_is_seq(of, TSR_JS_TUPLE) && of.seq->view) /* what groupby makes */
        v = name_is(name, "grouper") ? of.seq->items[0]
            : name_is(name, "list")  ? of.seq->items[1]
                                     : v;
    return v.kind == TSR_JV_ABSENT ? method_of(r, of, name) : v;
}

struct tsr_jvalue tsr_j_attr(struct tsr_jrun *r, struct tsr_jvalue of, struct tsr_jtext name)
{
    if (of.kind == TSR_JV_UNDEFINED)
        tsr_j_fail_undefined(r, of);
    struct tsr_jvalue v = own_attr(r, of, name);
    if (v.kind == TSR_JV_ABSENT && of.kind == TSR_JV_DICT) {
        const struct tsr_jvalue *found = tsr_j_dict_get(r, of.dict, name.text, name.len);
        if (found)
            return *found;
    }
    return v.kind == TSR_JV_ABSENT ? tsr_j_undefined(r, TSR_JU_ATTR, tsr_j_type(of), name, 0) : v;
}

static struct tsr_jvalue missing(struct tsr_jrun *r, struct tsr_jvalue of, struct tsr_jvalue index)
{
    if (index.kind == TSR_JV_STRING) {
        struct tsr_jtext name = {index.str->text, index.str->len};
        struct tsr_jvalue v = own_attr(r, of, name);
        return v.kind == TSR_JV_ABSENT ? tsr_j_undefined(r, TSR_JU_ATTR, tsr_j_type(of), name, 0)
                                       : v;
    }
    if (is_integer(index))
        return tsr_j_undefined(r, TSR_JU_ITEM, tsr_j_type(of), (struct tsr_jtext){0},
                               integer_of(index));
    static const char text[] = "an item that does not exist is used";
    return tsr_j_undefined(r, TSR_JU_TEXT, NULL, (struct tsr_jtext){text, sizeof(text) - 1}, 0);
}

struct tsr_jvalue tsr_j_item(struct tsr_jrun *r, struct tsr_jvalue of, struct tsr_jvalue index)
{
    if (of.kind == TSR_JV_UNDEFINED)
        tsr_j_fail_undefined(r, of);
    if (of.kind == TSR_JV_DICT) {
        bool hashable = index.kind != TSR_JV_DICT && !tsr_j_is_seq(index, TSR_JS_LIST);
        const struct tsr_jvalue *found = hashable ? tsr_j_dict_find(r, of.dict, index) : NULL;
        return found ? *found : missing(r, of, index);
    }
    bool indexable =
        of.kind == TSR_JV_STRING || is_list_or_tuple(of) || tsr_j_is_seq(of, TSR_JS_RANGE);
    if (!indexable || !is_integer(index))
        return missing(r, of, index);
    int64_t n = tsr_j_length(r, of), i = integer_of(index);
    i = i < 0 ? i + n : i;
    if (i < 0 || i >= n)
        return missing(r, of, index);
    if (of.kind != TSR_JV_STRING)
        return of.seq->items[i];
    size_t at = tsr_j_str_offset(of.str, (size_t)i);
    unsigned width;
    tsr_text_char(of.str->text + at, of.str->len - at, &width);
    return tsr_j_sub(r, of.str, at, at + width);
}

/* A bound of a slice, as slice.indices() clips it. */
static int64_t bound(struct tsr_jrun *r, struct tsr_jvalue v, int64_t n, bool back,
                     int64_t otherwise)
{
    if (v.kind == TSR_JV_ABSENT || v.kind == TSR_JV_NONE)
        return otherwise;
    int64_t i = tsr_j_as_int(r, v, "a slice's index");
    int64_t low = back ? -1 : 0, high = back ? n - 1 : n;
    if (i < 0)
        i = i < -n ? low : i + n;
    return i < low ? low : i > high ? high : i;
}

struct tsr_jvalue tsr_j_slice(struct tsr_jrun *r, struct tsr_jvalue of, struct tsr_jvalue from,
                              struct tsr_jvalue to, struct tsr_jvalue step)
{
    if (of.kind == TSR_JV_UNDEFINED)
        tsr_j_fail_undefined(r, of);
    bool string = of.kind == TSR_JV_STRING;
    if (!string && !is_list_or_tuple(of) && !tsr_j_is_seq(of, TSR_JS_RANGE))
        return missing(r, of, (struct tsr_jvalue){.kind = TSR_JV_NONE});
    int64_t by = 1, n = tsr_j_length(r, of);
    if (step.kind != TSR_JV_ABSENT && step.kind != TSR_JV_NONE)
        by = tsr_j_as_int(r, step, "a slice's step");
    if (by == 0)
        tsr_j_fail(r, -EINVAL, "slice step cannot be zero");
    bool back = by < 0;
    int64_t begin = bound(r, from, n, back, back ? n - 1 : 0);
    int64_t end = bound(r, to, n, back, back ? -1 : n);
    if (string && by == 1) {
        size_t a = tsr_j_str_offset(of.str, (size_t)begin);
        size_t b = begin < end ? tsr_j_str_offset(of.str, (size_t)end) : a;
        return tsr_j_sub(r, of.str, a, b);
    }
    const struct tsr_jseq *items = string ? tsr_j_iterate(r, of) : of.seq;
    struct tsr_jvalue out = tsr_j_seq(r, items->kind, 0);
    if (!string && by == 1) { /* sequences do not change: a part of one shares its items */
        out.seq->n = out.seq->cap = begin < end ? (uint32_t)(end - begin) : 0;
        out.seq->items = out.seq->n ? items->items + begin : NULL;
        return out;
    }
    if (by > n)
        by = n + 1;
    if (by < -n)
        by = -n - 1;
    for (int64_t i = begin; back ? i > end : i < end; i += by)
        tsr_j_append(r, out.seq, items->items[i]);
    if (!string)
        return out;
    struct tsr_jbuild b;
    tsr_jb_begin(r, &b);
    for (uint32_t i = 0; i < out.seq->n; i++)
        tsr_jb_str(r, &b, out.seq->items[i].str);
    return tsr_jb_end(r, &b);
}
