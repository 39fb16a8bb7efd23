#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "run_priv.h"

struct tsr_jvalue tsr_j_undefined(struct tsr_jrun *r, enum tsr_jundef_kind kind, const char *of,
                                  struct tsr_jtext name, int64_t index)
{
    struct tsr_jundef *u = tsr_j_alloc(r, sizeof(*u));
    u->kind = kind;
    u->of = of;
    u->name = name;
    u->index = index;
    return (struct tsr_jvalue){.kind = TSR_JV_UNDEFINED, .undef = u};
}

void tsr_j_fail_undefined(struct tsr_jrun *r, struct tsr_jvalue v)
{
    const struct tsr_jundef *u = v.undef;
    int n = (int)(u->name.len < 200 ? u->name.len : 200);
    switch (u->kind) {
    case TSR_JU_NAME:
        tsr_j_fail(r, -EINVAL, "'%.*s' is undefined", n, u->name.text);
    case TSR_JU_ATTR:
        tsr_j_fail(r, -EINVAL, "'%s object' has no attribute '%.*s'", u->of, n, u->name.text);
    case TSR_JU_ITEM:
        tsr_j_fail(r, -EINVAL, "%s object has no element %lld", u->of, (long long)u->index);
    case TSR_JU_UNSAFE:
        tsr_j_fail(r, -EINVAL, "access to attribute '%.*s' of '%s' object is unsafe", n,
                   u->name.text, u->of);
    case TSR_JU_TEXT:
        break;
    }
    tsr_j_fail(r, -EINVAL, "%.*s", n, u->name.text);
}

const char *tsr_j_type(struct tsr_jvalue v)
{
    static const char *const seqs[] = {"list", "tuple", "range", "dict_items", "generator"};
    switch (v.kind) {
    case TSR_JV_NONE:
        return "NoneType";
    case TSR_JV_BOOL:
        return "bool";
    case TSR_JV_INT:
        return "int";
    case TSR_JV_FLOAT:
        return "float";
    case TSR_JV_STRING:
        return "str";
    case TSR_JV_SEQ:
        return v.seq->kind == TSR_JS_VIEW ? v.seq->view : seqs[v.seq->kind];
    case TSR_JV_DICT:
        return "dict";
    case TSR_JV_NAMESPACE:
        return "Namespace";
    case TSR_JV_MACRO:
        return "Macro";
    case TSR_JV_BUILTIN:
        return "function";
    case TSR_JV_METHOD:
        return "builtin_function_or_method";
    case TSR_JV_LOOP:
        return "LoopContext";
    case TSR_JV_CYCLER:
        return "Cycler";
    case TSR_JV_JOINER:
        return "Joiner";
    default:
        return "Undefined";
    }
}

bool tsr_j_truth(struct tsr_jvalue v)
{
    switch (v.kind) {
    case TSR_JV_ABSENT:
    case TSR_JV_NONE:
        return false;
    case TSR_JV_UNDEFINED:
        return false;
    case TSR_JV_BOOL:
        return v.truth;
    case TSR_JV_INT:
        return v.integer != 0;
    case TSR_JV_FLOAT:
        return v.real != 0.0;
    case TSR_JV_STRING:
        return v.str->len > 0;
    case TSR_JV_SEQ:
        return v.seq->kind == TSR_JS_GENERATOR || v.seq->n > 0;
    case TSR_JV_DICT:
        return v.dict->n > 0;
    default:
        return true;
    }
}

static bool is_number(struct tsr_jvalue v)
{
    return v.kind == TSR_JV_BOOL || v.kind == TSR_JV_INT || v.kind == TSR_JV_FLOAT;
}

static double as_double(struct tsr_jvalue v)
{
    return v.kind == TSR_JV_FLOAT  ? v.real
           : v.kind == TSR_JV_BOOL ? (double)v.truth
                                   : (double)v.integer;
}

/* -1, 0, 1, or 2 where a number is NaN. Exact also where an integer has no double. */
static int order_numbers(struct tsr_jvalue a, struct tsr_jvalue b)
{
    if (a.kind != TSR_JV_FLOAT && b.kind != TSR_JV_FLOAT) {
        int64_t x = a.kind == TSR_JV_BOOL ? a.truth : a.integer;
        int64_t y = b.kind == TSR_JV_BOOL ? b.truth : b.integer;
        return (x > y) - (x < y);
    }
    if ((a.kind == TSR_JV_FLOAT && isnan(a.real)) || (b.kind == TSR_JV_FLOAT && isnan(b.real)))
        return 2;
    if (a.kind == TSR_JV_INT || b.kind == TSR_JV_INT) {
        double real = a.kind == TSR_JV_INT ? b.real : a.real;
        int64_t integer = a.kind == TSR_JV_INT ? a.integer : b.integer;
        int order; /* of the integer against the real */
        if (real >= 0x1p63)
            order = -1;
        else if (real < -0x1p63)
            order = 1;
        else if ((int64_t)real != integer)
            order = integer > (int64_t)real ? 1 : -1;
        else
            order = (real < trunc(real)) - (real > trunc(real));
        return a.kind == TSR_JV_INT ? order : -order;
    }
    double x = as_double(a), y = as_double(b);
    return (x > y) - (x < y);
}

static bool equal_seq(struct tsr_jrun *r, const struct tsr_jseq *a, const struct tsr_jseq *b)
{
    if (a == b)
        return true;
    if (a->kind != b->kind || a->kind == TSR_JS_GENERATOR || a->n != b->n)
        return false;
    bool same = true;
    tsr_j_enter(r);
    for (uint32_t i = 0; same && i < a->n; i++)
        same = tsr_j_equal(r, a->items[i], b->items[i]);
    tsr_j_leave(r);
    return same;
}

static bool equal_dict(struct tsr_jrun *r, const struct tsr_jdict *a, const struct tsr_jdict *b)
{
    if (a == b)
        return true;
    if (a->n != b->n)
        return false;
    bool same = true;
    tsr_j_enter(r);
    for (uint32_t i = 0; same && i < a->n; i++) {
        const struct tsr_jvalue *other = tsr_j_dict_find(r, b, a->entries[i].key);
        same = other && tsr_j_equal(r, a->entries[i].value, *other);
    }
    tsr_j_leave(r);
    return same;
}

bool tsr_j_equal(struct tsr_jrun *r, struct tsr_jvalue a, struct tsr_jvalue b)
{
    tsr_j_charge(r, 1);
    if (is_number(a) && is_number(b))
        return order_numbers(a, b) == 0;
    if (a.kind != b.kind)
        return false;
    switch (a.kind) {
    case TSR_JV_STRING:
        tsr_j_charge(r, a.str->len / 64);
        return tsr_j_str_equal(a.str, b.str);
    case TSR_JV_SEQ:
        return equal_seq(r, a.seq, b.seq);
    case TSR_JV_DICT:
        return equal_dict(r, a.dict, b.dict);
    case TSR_JV_NONE:
    case TSR_JV_UNDEFINED:
    case TSR_JV_ABSENT:
        return true;
    default:
        return a.dict == b.dict; /* the same object */
    }
}

int tsr_j_order(struct tsr_jrun *r, struct tsr_jvalue a, struct tsr_jvalue b, const char *op)
{
    tsr_j_charge(r, 1);
    if (a.kind == TSR_JV_UNDEFINED)
        tsr_j_fail_undefined(r, a);
    if (b.kind == TSR_JV_UNDEFINED)
        tsr_j_fail_undefined(r, b);
    if (is_number(a) && is_number(b))
        return order_numbers(a, b);
    if (a.kind == TSR_JV_STRING && b.kind == TSR_JV_STRING) {
        uint32_t n = a.str->len < b.str->len ? a.str->len : b.str->len;
        tsr_j_charge(r, n / 64);
        int order = n ? memcmp(a.str->text, b.str->text, n) : 0; /* UTF-8 sorts as code points do */
        if (order == 0)
            order = (a.str->len > b.str->len) - (a.str->len < b.str->len);
        return order < 0 ? -1 : order > 0;
    }
    if (a.kind == TSR_JV_SEQ && b.kind == TSR_JV_SEQ && a.seq->kind == b.seq->kind &&
        (a.seq->kind == TSR_JS_LIST || a.seq->kind == TSR_JS_TUPLE)) {
        tsr_j_enter(r);
        uint32_t i = 0;
        while (i < a.seq->n && i < b.seq->n && tsr_j_equal(r, a.seq->items[i], b.seq->items[i]))
            i++;
        int order = (a.seq->n > b.seq->n) - (a.seq->n < b.seq->n);
        if (i < a.seq->n && i < b.seq->n)
            order = tsr_j_order(r, a.seq->items[i], b.seq->items[i], op);
        tsr_j_leave(r);
        return order;
    }
    tsr_j_fail(r, -EINVAL, "'%s' not supported between instances of '%s' and '%s'", op,
               tsr_j_type(a), tsr_j_type(b));
}

bool tsr_j_contains(struct tsr_jrun *r, struct tsr_jvalue item, struct tsr_jvalue in)
{
    if (in.kind == TSR_JV_STRING) {
        if (item.kind == TSR_JV_UNDEFINED)
            tsr_j_fail_undefined(r, item);
        if (item.kind != TSR_JV_STRING)
            tsr_j_fail(r, -EINVAL, "'in <string>' requires string as left operand, not %s",
                       tsr_j_type(item));
        return tsr_j_str_find(r, in.str, item.str, 0) != SIZE_MAX;
    }
    if (in.kind == TSR_JV_DICT)
        return tsr_j_dict_find(r, in.dict, item) != NULL;
    if (!tsr_j_is_iterable(in))
        tsr_j_fail(r, -EINVAL, "argument of type '%s' is not iterable", tsr_j_type(in));
    const struct tsr_jseq *seq = tsr_j_iterate(r, in);
    for (uint32_t i = 0; i < seq->n; i++)
        if (tsr_j_equal(r, seq->items[i], item))
            return true;
    return false;
}

int64_t tsr_j_as_int(struct tsr_jrun *r, struct tsr_jvalue v, const char *what)
{
    if (v.kind == TSR_JV_BOOL)
        return v.truth;
    if (v.kind == TSR_JV_UNDEFINED)
        tsr_j_fail_undefined(r, v);
    if (v.kind != TSR_JV_INT)
        tsr_j_fail(r, -EINVAL, "%s must be an integer, not %s", what, tsr_j_type(v));
    return v.integer;
}

const struct tsr_jstr *tsr_j_as_str(struct tsr_jrun *r, struct tsr_jvalue v, const char *what)
{
    if (v.kind == TSR_JV_UNDEFINED)
        tsr_j_fail_undefined(r, v);
    if (v.kind != TSR_JV_STRING)
        tsr_j_fail(r, -EINVAL, "%s must be a string, not %s", what, tsr_j_type(v));
    return v.str;
}

struct tsr_jvalue tsr_j_seq(struct tsr_jrun *r, enum tsr_jseq_kind kind, uint32_t cap)
{
    struct tsr_jseq *seq = tsr_j_alloc(r, sizeof(*seq));
    seq->kind = kind;
    if (cap)
        seq->items = tsr_j_alloc(r, (size_t)cap * sizeof(*seq->items));
    seq->cap = cap;
    return (struct tsr_jvalue){.kind = TSR_JV_SEQ, .seq = seq};
}

void tsr_j_append(struct tsr_jrun *r, struct tsr_jseq *seq, struct tsr_jvalue item)
{
    tsr_j_charge(r, 1);
    if (seq->n == seq->cap) {
        uint32_t cap = seq->cap * 2 + 4;
        struct tsr_jvalue *items = tsr_j_alloc(r, (size_t)cap * sizeof(*items));
        if (seq->n)
            memcpy(items, seq->items, seq->n * sizeof(*items));
        seq->items = items;
        seq->cap = cap;
    }
    seq->items[seq->n++] = item;
}

bool tsr_j_is_iterable(struct tsr_jvalue v)
{
    return v.kind == TSR_JV_SEQ || v.kind == TSR_JV_DICT || v.kind == TSR_JV_STRING ||
           v.kind == TSR_JV_UNDEFINED || v.kind == TSR_JV_LOOP;
}

const struct tsr_jseq *tsr_j_iterate(struct tsr_jrun *r, struct tsr_jvalue v)
{
    static const struct tsr_jseq nothing = {.kind = TSR_JS_LIST};
    struct tsr_jvalue list;
    switch (v.kind) {
    case TSR_JV_SEQ:
        if (v.seq->kind == TSR_JS_GENERATOR) {
            if (v.seq->used_up)
                return &nothing;
            v.seq->used_up = true;
        }
        return v.seq;
    case TSR_JV_DICT:
        list = tsr_j_seq(r, TSR_JS_LIST, v.dict->n);
        for (uint32_t i = 0; i < v.dict->n; i++)
            tsr_j_append(r, list.seq, v.dict->entries[i].key);
        return list.seq;
    case TSR_JV_STRING:
        list = tsr_j_seq(r, TSR_JS_LIST, 0);
        for (size_t at = 0; at < v.str->len;) {
            unsigned width;
            tsr_text_char(v.str->text + at, v.str->len - at, &width);
            tsr_j_append(r, list.seq, tsr_j_sub(r, v.str, at, at + width));
            at += width;
        }
        return list.seq;
    case TSR_JV_UNDEFINED:
        return &nothing;
    default:
        tsr_j_fail(r, -EINVAL, "'%s' object is not iterable", tsr_j_type(v));
    }
}

int64_t tsr_j_length(struct tsr_jrun *r, struct tsr_jvalue v)
{
    switch (v.kind) {
    case TSR_JV_STRING:
        tsr_j_charge(r, v.str->len / 64);
        return (int64_t)tsr_text_count(v.str->text, v.str->len);
    case TSR_JV_DICT:
        return v.dict->n;
    case TSR_JV_UNDEFINED:
        return 0;
    case TSR_JV_LOOP:
        return v.loop->seq->n;
    case TSR_JV_SEQ:
        if (v.seq->kind != TSR_JS_GENERATOR)
            return v.seq->n;
        break;
    default:
        break;
    }
    tsr_j_fail(r, -EINVAL, "object of type '%s' has no len()", tsr_j_type(v));
}

/* Equal values have equal hashes: 1, 1.0 and true are the same key. */
static uint32_t hash(struct tsr_jrun *r, struct tsr_jvalue v)
{
    uint64_t h = 0xCBF29CE484222325u;
    switch (v.kind) {
    case TSR_JV_STRING:
        tsr_j_charge(r, v.str->len / 32);
        for (uint32_t i = 0; i < v.str->len; i++)
            h = (h ^ (uint8_t)v.str->text[i]) * 0x100000001B3u;
        break;
    case TSR_JV_BOOL:
    case TSR_JV_INT:
    case TSR_JV_FLOAT: {
        double real = as_double(v) + 0.0;
        memcpy(&h, &real, sizeof(h));
        h *= 0x9E3779B97F4A7C15u;
        break;
    }
    case TSR_JV_NONE:
        break;
    case TSR_JV_SEQ:
        if (v.seq->kind == TSR_JS_TUPLE) {
            tsr_j_enter(r);
            for (uint32_t i = 0; i < v.seq->n; i++)
                h = (h ^ hash(r, v.seq->items[i])) * 0x100000001B3u;
            tsr_j_leave(r);
            break;
        }
        /* fall through */
    case TSR_JV_DICT:
        tsr_j_fail(r, -EINVAL, "unhashable type: '%s'", tsr_j_type(v));
    case TSR_JV_UNDEFINED: /* all undefined values are equal */
        break;
    default:
        break;
    }
    return (uint32_t)(h ^ h >> 32);
}

struct tsr_jvalue tsr_j_dict(struct tsr_jrun *r)
{
    struct tsr_jdict *dict = tsr_j_alloc(r, sizeof(*dict));
    return (struct tsr_jvalue){.kind = TSR_JV_DICT, .dict = dict};
}

struct tsr_jvalue *tsr_j_dict_find(struct tsr_jrun *r, const struct tsr_jdict *dict,
                                   struct tsr_jvalue key)
{
    uint32_t h = hash(r, key);
    if (!dict->slots) {
        for (uint32_t i = 0; i < dict->n; i++)
            if (tsr_j_equal(r, dict->entries[i].key, key))
                return &dict->entries[i].value;
        return NULL;
    }
    for (uint32_t i = h;; i++) {
        uint32_t slot = dict->slots[i & dict->mask];
        if (slot == 0)
            return NULL;
        if (tsr_j_equal(r, dict->entries[slot - 1].key, key))
            return &dict->entries[slot - 1].value;
    }
}

struct tsr_jvalue *tsr_j_dict_get(struct tsr_jrun *r, const struct tsr_jdict *dict, const char *key,
                                  size_t len)
{
    const struct tsr_jstr str = {.text = key, .len = (uint32_t)len};
    return tsr_j_dict_find(r, dict, (struct tsr_jvalue){.kind = TSR_JV_STRING, .str = &str});
}

static void grow_dict(struct tsr_jrun *r, struct tsr_jdict *dict)
{
    uint32_t cap = dict->cap ? dict->cap * 2 : 4;
    struct tsr_jentry *entries = tsr_j_alloc(r, (size_t)cap * sizeof(*entries));
    if (dict->n)
        memcpy(entries, dict->entries, dict->n * sizeof(*entries));
    dict->entries = entries;
    dict->cap = cap;
    if (cap <= TSR_JD_LINEAR)
        return;
    uint32_t slots = 2 * cap; /* a power of two, as cap is */
    dict->slots = tsr_j_alloc(r, (size_t)slots * sizeof(*dict->slots));
    dict->mask = slots - 1;
    for (uint32_t i = 0; i < dict->n; i++) {
        uint32_t at = hash(r, entries[i].key);
        while (dict->slots[at & dict->mask])
            at++;
        dict->slots[at & dict->mask] = i + 1;
    }
}

void tsr_j_dict_set(struct tsr_jrun *r, struct tsr_jdict *dict, struct tsr_jvalue key,
                    struct tsr_jvalue value)
{
    struct tsr_jvalue *known = tsr_j_dict_find(r, dict, key);
    if (known) {
        *known = value;
        return;
    }
    if (dict->n == dict->cap)
        grow_dict(r, dict);
    if (dict->slots) {
        uint32_t at = hash(r, key);
        while (dict->slots[at & dict->mask])
            at++;
        dict->slots[at & dict->mask] = dict->n + 1;
    }
    dict->entries[dict->n++] = (struct tsr_jentry){.key = key, .value = value};
}
