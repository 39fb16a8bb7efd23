/* Filters over sequences and mappings (jinja2/filters.py of 3.1). */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "run_priv.h"

#define FILTER(name)                                                                               \
    static struct tsr_jvalue filter_##name(struct tsr_jrun *r, struct tsr_jvalue self,             \
                                           const struct tsr_jcall *call)

static const struct tsr_jvalue ABSENT = {.kind = TSR_JV_ABSENT};

static bool given(struct tsr_jvalue v)
{
    return v.kind != TSR_JV_ABSENT && v.kind != TSR_JV_NONE;
}

/* "a.b.0": one attribute after the other, numbers as indices; an integer is an index. otherwise
 * (unless absent) stands for what is undefined. */
static struct tsr_jvalue by_attribute(struct tsr_jrun *r, struct tsr_jvalue v,
                                      struct tsr_jvalue attribute, struct tsr_jvalue otherwise)
{
    if (attribute.kind == TSR_JV_INT)
        return tsr_j_item(r, v, attribute);
    const struct tsr_jstr *path = tsr_j_as_str(r, attribute, "an attribute");
    for (size_t at = 0; at <= path->len;) {
        const char *dot = at < path->len ? memchr(path->text + at, '.', path->len - at) : NULL;
        size_t end = dot ? (size_t)(dot - path->text) : path->len;
        int64_t index = 0;
        bool number = end > at && end - at < 10;
        for (size_t i = at; i < end; i++) {
            number = number && path->text[i] >= '0' && path->text[i] <= '9';
            index = number ? index * 10 + (path->text[i] - '0') : 0;
        }
        v = tsr_j_item(r, v, number ? tsr_j_int(index) : tsr_j_sub(r, path, at, end));
        if (v.kind == TSR_JV_UNDEFINED && otherwise.kind != TSR_JV_ABSENT)
            v = otherwise;
        at = end + 1;
    }
    return v;
}

/* What values are compared by: strings in lower case unless case_sensitive. */
static struct tsr_jvalue sort_key(struct tsr_jrun *r, struct tsr_jvalue v,
                                  struct tsr_jvalue attribute, bool case_sensitive)
{
    if (given(attribute))
        v = by_attribute(r, v, attribute, ABSENT);
    if (v.kind == TSR_JV_STRING && !case_sensitive)
        v = tsr_j_change_case(r, v.str, TSR_JC_LOWER);
    return v;
}

struct keyed {
    struct tsr_jvalue *key; /* [n_keys] */
    struct tsr_jvalue value;
};

static int order_keys(struct tsr_jrun *r, const struct keyed *a, const struct keyed *b,
                      uint32_t n_keys)
{
    for (uint32_t i = 0; i < n_keys; i++) {
        int order = tsr_j_order(r, a->key[i], b->key[i], "<");
        if (order)
            return order;
    }
    return 0;
}

/* Stable, by merging. */
static void sort_keyed(struct tsr_jrun *r, struct keyed *list, uint32_t n, uint32_t n_keys,
                       bool reverse)
{
    struct keyed *spare = tsr_j_alloc(r, ((size_t)n + 1) * sizeof(*spare));
    for (uint32_t width = 1; width < n; width *= 2) {
        for (uint32_t at = 0; at < n; at += 2 * width) {
            uint32_t mid = at + width < n ? at + width : n;
            uint32_t end = mid + width < n ? mid + width : n, a = at, b = mid;
            for (uint32_t k = at; k < end; k++) {
                bool left = b >= end;
                if (!left && a < mid) {
                    int order = order_keys(r, &list[a], &list[b], n_keys);
                    left = reverse ? order >= 0 : order <= 0;
                }
                spare[k] = left ? list[a++] : list[b++];
            }
        }
        memcpy(list, spare, n * sizeof(*list));
    }
}

/* attribute may be "a,b": sorted by a, then b. */
static struct tsr_jvalue sorted(struct tsr_jrun *r, const struct tsr_jseq *items,
                                struct tsr_jvalue attribute, bool case_sensitive, bool reverse)
{
    struct tsr_jvalue parts = tsr_j_seq(r, TSR_JS_LIST, 0);
    if (attribute.kind == TSR_JV_STRING) {
        size_t from = 0;
        for (size_t at = 0; at <= attribute.str->len; at++) {
            if (at < attribute.str->len && attribute.str->text[at] != ',')
                continue;
            tsr_j_append(r, parts.seq, tsr_j_sub(r, attribute.str, from, at));
            from = at + 1;
        }
    } else {
        tsr_j_append(r, parts.seq, attribute);
    }
    struct keyed *list = tsr_j_alloc(r, ((size_t)items->n + 1) * sizeof(*list));
    uint32_t n_keys = parts.seq->n;
    for (uint32_t i = 0; i < items->n; i++) {
        list[i].value = items->items[i];
        list[i].key = tsr_j_alloc(r, n_keys * sizeof(*list[i].key));
        for (uint32_t k = 0; k < n_keys; k++)
            list[i].key[k] = sort_key(r, items->items[i], parts.seq->items[k], case_sensitive);
    }
    sort_keyed(r, list, items->n, n_keys, reverse);
    struct tsr_jvalue out = tsr_j_seq(r, TSR_JS_LIST, items->n);
    for (uint32_t i = 0; i < items->n; i++)
        tsr_j_append(r, out.seq, list[i].value);
    return out;
}

FILTER(sort)
{
    static const char *const names[] = {"reverse", "case_sensitive", "attribute"};
    struct tsr_jvalue a[3];
    tsr_j_bind(r, call, "filter 'sort'", names, 3, a);
    return sorted(r, tsr_j_iterate(r, self), a[2], tsr_j_truth(a[1]), tsr_j_truth(a[0]));
}

static struct tsr_jvalue pair(struct tsr_jrun *r, struct tsr_jvalue a, struct tsr_jvalue b)
{
    struct tsr_jvalue tuple = tsr_j_seq(r, TSR_JS_TUPLE, 2);
    tsr_j_append(r, tuple.seq, a);
    tsr_j_append(r, tuple.seq, b);
    return tuple;
}

static struct tsr_jvalue entries(struct tsr_jrun *r, const struct tsr_jdict *dict,
                                 enum tsr_jseq_kind kind)
{
    struct tsr_jvalue out = tsr_j_seq(r, kind, dict->n);
    for (uint32_t i = 0; i < dict->n; i++)
        tsr_j_append(r, out.seq, pair(r, dict->entries[i].key, dict->entries[i].value));
    return out;
}

FILTER(dictsort)
{
    static const char *const names[] = {"case_sensitive", "by", "reverse"};
    struct tsr_jvalue a[3];
    tsr_j_bind(r, call, "filter 'dictsort'", names, 3, a);
    if (self.kind == TSR_JV_UNDEFINED)
        tsr_j_fail_undefined(r, self);
    if (self.kind != TSR_JV_DICT)
        tsr_j_fail(r, -EINVAL, "filter 'dictsort': '%s' is no mapping", tsr_j_type(self));
    bool by_value = false;
    if (a[1].kind != TSR_JV_ABSENT) {
        const struct tsr_jstr *by = tsr_j_as_str(r, a[1], "filter 'dictsort': by");
        by_value = tsr_j_str_is(by, "value");
        if (!by_value && !tsr_j_str_is(by, "key"))
            tsr_j_fail(r, -EINVAL,
                       "filter 'dictsort': you can only sort by either \"key\" or "
                       "\"value\"");
    }
    return sorted(r, entries(r, self.dict, TSR_JS_LIST).seq, tsr_j_int(by_value), tsr_j_truth(a[0]),
                  tsr_j_truth(a[2]));
}

FILTER(items)
{
    tsr_j_bind(r, call, "filter 'items'", NULL, 0, NULL);
    if (self.kind == TSR_JV_UNDEFINED)
        return tsr_j_seq(r, TSR_JS_GENERATOR, 0);
    if (self.kind != TSR_JV_DICT)
        tsr_j_fail(r, -EINVAL, "filter 'items': can only get item pairs from a mapping.");
    return entries(r, self.dict, TSR_JS_GENERATOR);
}

FILTER(list)
{
    tsr_j_bind(r, call, "filter 'list'", NULL, 0, NULL);
    const struct tsr_jseq *items = tsr_j_iterate(r, self);
    struct tsr_jvalue out = tsr_j_seq(r, TSR_JS_LIST, items->n);
    for (uint32_t i = 0; i < items->n; i++)
        tsr_j_append(r, out.seq, items->items[i]);
    return out;
}

FILTER(join)
{
    static const char *const names[] = {"d", "attribute"};
    struct tsr_jvalue a[2];
    tsr_j_bind(r, call, "filter 'join'", names, 2, a);
    const struct tsr_jstr *divider = a[0].kind == TSR_JV_ABSENT ? NULL : tsr_j_text(r, a[0]);
    const struct tsr_jseq *items = tsr_j_iterate(r, self);
    struct tsr_jbuild b;
    tsr_jb_begin(r, &b);
    for (uint32_t i = 0; i < items->n; i++) {
        if (i && divider)
            tsr_jb_str(r, &b, divider);
        struct tsr_jvalue v = items->items[i];
        tsr_j_str_to(r, &b, given(a[1]) ? by_attribute(r, v, a[1], ABSENT) : v);
    }
    return tsr_jb_end(r, &b);
}

static struct tsr_jvalue end_of(struct tsr_jrun *r, struct tsr_jvalue self, bool last)
{
    if (last && tsr_j_is_seq(self, TSR_JS_GENERATOR))
        tsr_j_fail(r, -EINVAL, "'generator' object is not reversible");
    const struct tsr_jseq *items = tsr_j_iterate(r, self);
    if (items->n)
        return items->items[last ? items->n - 1 : 0];
    static const char text[] = "there is no first or last item: the sequence is empty";
    return tsr_j_undefined(r, TSR_JU_TEXT, NULL, (struct tsr_jtext){text, sizeof(text) - 1}, 0);
}

FILTER(first)
{
    tsr_j_bind(r, call, "filter 'first'", NULL, 0, NULL);
    return end_of(r, self, false);
}

FILTER(last)
{
    tsr_j_bind(r, call, "filter 'last'", NULL, 0, NULL);
    return end_of(r, self, true);
}

FILTER(reverse)
{
    tsr_j_bind(r, call, "filter 'reverse'", NULL, 0, NULL);
    if (self.kind == TSR_JV_STRING)
        return tsr_j_slice(r, self, ABSENT, ABSENT, tsr_j_int(-1));
    const struct tsr_jseq *items = tsr_j_iterate(r, self);
    struct tsr_jvalue out = tsr_j_seq(
        r, tsr_j_is_seq(self, TSR_JS_GENERATOR) ? TSR_JS_LIST : TSR_JS_GENERATOR, items->n);
    for (uint32_t i = items->n; i-- > 0;)
        tsr_j_append(r, out.seq, items->items[i]);
    return out;
}

static struct tsr_jvalue extreme(struct tsr_jrun *r, struct tsr_jvalue self,
                                 const struct tsr_jcall *call, bool max)
{
    static const char *const names[] = {"case_sensitive", "attribute"};
    struct tsr_jvalue a[2];
    tsr_j_bind(r, call, max ? "filter 'max'" : "filter 'min'", names, 2, a);
    const struct tsr_jseq *items = tsr_j_iterate(r, self);
    bool sensitive = tsr_j_truth(a[0]);
    if (items->n == 0) {
        static const char text[] = "No aggregated item, sequence was empty.";
        return tsr_j_undefined(r, TSR_JU_TEXT, NULL, (struct tsr_jtext){text, sizeof(text) - 1}, 0);
    }
    struct tsr_jvalue best = items->items[0], best_key = sort_key(r, best, a[1], sensitive);
    for (uint32_t i = 1; i < items->n; i++) {
        struct tsr_jvalue key = sort_key(r, items->items[i], a[1], sensitive);
        int order = tsr_j_order(r, key, best_key, max ? ">" : "<");
        if (max ? order == 1 : order == -1) {
            best = items->items[i];
            best_key = key;
        }
    }
    return best;
}

FILTER(max)
{
    return extreme(r, self, call, true);
}

FILTER(min)
{
    return extreme(r, self, call, false);
}

FILTER(sum)
{
    static const char *const names[] = {"attribute", "start"};
    struct tsr_jvalue a[2];
    tsr_j_bind(r, call, "filter 'sum'", names, 2, a);
    struct tsr_jvalue total = a[1].kind == TSR_JV_ABSENT ? tsr_j_int(0) : a[1];
    const struct tsr_jseq *items = tsr_j_iterate(r, self);
    for (uint32_t i = 0; i < items->n; i++) {
        struct tsr_jvalue v = items->items[i];
        total =
            tsr_j_binary(r, TSR_JO_ADD, total, given(a[0]) ? by_attribute(r, v, a[0], ABSENT) : v);
    }
    return total;
}

FILTER(unique)
{
    static const char *const names[] = {"case_sensitive", "attribute"};
    struct tsr_jvalue a[2];
    tsr_j_bind(r, call, "filter 'unique'", names, 2, a);
    const struct tsr_jseq *items = tsr_j_iterate(r, self);
    struct tsr_jvalue out = tsr_j_seq(r, TSR_JS_GENERATOR, 0), seen = tsr_j_dict(r);
    for (uint32_t i = 0; i < items->n; i++) {
        struct tsr_jvalue key = sort_key(r, items->items[i], a[1], tsr_j_truth(a[0]));
        if (tsr_j_dict_find(r, seen.dict, key))
            continue;
        tsr_j_dict_set(r, seen.dict, key, tsr_j_none());
        tsr_j_append(r, out.seq, items->items[i]);
    }
    return out;
}

/* What map, select and their kin look at: nothing where the value is false, be it a sequence or
 * not. */
static const struct tsr_jseq *items_or_nothing(struct tsr_jrun *r, struct tsr_jvalue v)
{
    static const struct tsr_jseq nothing = {.kind = TSR_JS_LIST};
    return tsr_j_truth(v) ? tsr_j_iterate(r, v) : &nothing;
}

/* map('filter', arguments ...), map(attribute=..., default=...) */
FILTER(map)
{
    const struct tsr_jseq *items = items_or_nothing(r, self);
    struct tsr_jvalue out = tsr_j_seq(r, TSR_JS_GENERATOR, items->n);
    if (call->n_pos == 0) {
        static const char *const names[] = {"attribute", "default"};
        struct tsr_jvalue a[2];
        tsr_j_bind(r, call, "filter 'map'", names, 2, a);
        if (a[0].kind == TSR_JV_ABSENT)
            tsr_j_fail(r, -EINVAL, "filter 'map' needs a filter's name or attribute=");
        for (uint32_t i = 0; i < items->n; i++)
            tsr_j_append(r, out.seq, by_attribute(r, items->items[i], a[0], a[1]));
        return out;
    }
    const struct tsr_jstr *name = tsr_j_as_str(r, call->pos[0], "filter 'map': the filter");
    struct tsr_jcall rest = *call;
    rest.pos++;
    rest.n_pos--;
    tsr_j_enter(r);
    for (uint32_t i = 0; i < items->n; i++)
        tsr_j_append(
            r, out.seq,
            tsr_j_filter(r, (struct tsr_jtext){name->text, name->len}, items->items[i], &rest));
    tsr_j_leave(r);
    return out;
}

/* select('test', ...), selectattr('attribute', 'test', ...) and their opposites */
static struct tsr_jvalue select_items(struct tsr_jrun *r, struct tsr_jvalue self,
                                      const struct tsr_jcall *call, bool by_attr, bool wanted)
{
    const struct tsr_jseq *items = items_or_nothing(r, self);
    struct tsr_jvalue out = tsr_j_seq(r, TSR_JS_GENERATOR, 0);
    struct tsr_jcall rest = *call;
    if (by_attr) {
        if (rest.n_pos == 0)
            tsr_j_fail(r, -EINVAL, "filter '%sattr' needs the name of an attribute",
                       wanted ? "select" : "reject");
        rest.pos++;
        rest.n_pos--;
    }
    const struct tsr_jstr *test =
        rest.n_pos ? tsr_j_as_str(r, rest.pos[0], "the name of a test") : NULL;
    if (test) {
        rest.pos++;
        rest.n_pos--;
    }
    tsr_j_enter(r);
    for (uint32_t i = 0; i < items->n; i++) {
        struct tsr_jvalue v = items->items[i];
        if (by_attr)
            v = by_attribute(r, v, call->pos[0], ABSENT);
        bool truth = test ? tsr_j_test(r, (struct tsr_jtext){test->text, test->len}, v, &rest)
                          : tsr_j_truth(v);
        if (truth == wanted)
            tsr_j_append(r, out.seq, items->items[i]);
    }
    tsr_j_leave(r);
    return out;
}

FILTER(select)
{
    return select_items(r, self, call, false, true);
}

FILTER(reject)
{
    return select_items(r, self, call, false, false);
}

FILTER(selectattr)
{
    return select_items(r, self, call, true, true);
}

FILTER(rejectattr)
{
    return select_items(r, self, call, true, false);
}

FILTER(attr)
{
    static const char *const names[] = {"name"};
    struct tsr_jvalue a[1];
    tsr_j_bind(r, call, "filter 'attr'", names, 1, a);
    const struct tsr_jstr *name = tsr_j_as_str(r, a[0], "filter 'attr': name");
    struct tsr_jtext text = {name->text, name->len};
    if (self.kind == TSR_JV_DICT) { /* never an item */
        bool unsafe;
        if (!tsr_j_find_method(self, text, &unsafe))
            return tsr_j_undefined(r, TSR_JU_ATTR, tsr_j_type(self), text, 0);
    }
    return tsr_j_attr(r, self, text);
}

FILTER(batch)
{
    static const char *const names[] = {"linecount", "fill_with"};
    struct tsr_jvalue a[2], line = ABSENT;
    tsr_j_bind(r, call, "filter 'batch'", names, 2, a);
    int64_t count = tsr_j_as_int(r, a[0], "filter 'batch': linecount");
    const struct tsr_jseq *items = tsr_j_iterate(r, self);
    struct tsr_jvalue out = tsr_j_seq(r, TSR_JS_GENERATOR, 0);
    for (uint32_t i = 0; i < items->n; i++) {
        if (line.kind == TSR_JV_ABSENT || line.seq->n == (uint64_t)count) {
            line = tsr_j_seq(r, TSR_JS_LIST, 0);
            tsr_j_append(r, out.seq, line);
        }
        tsr_j_append(r, line.seq, items->items[i]);
    }
    while (line.kind != TSR_JV_ABSENT && given(a[1]) && (int64_t)line.seq->n < count)
        tsr_j_append(r, line.seq, a[1]);
    return out;
}

FILTER(slice)
{
    static const char *const names[] = {"slices", "fill_with"};
    struct tsr_jvalue a[2];
    tsr_j_bind(r, call, "filter 'slice'", names, 2, a);
    int64_t count = tsr_j_as_int(r, a[0], "filter 'slice': slices");
    const struct tsr_jseq *items = tsr_j_iterate(r, self);
    if (count <= 0)
        tsr_j_fail(r, -EINVAL, "filter 'slice': integer division or modulo by zero");
    struct tsr_jvalue out = tsr_j_seq(r, TSR_JS_GENERATOR, 0);
    int64_t each = items->n / count, longer = items->n % count, at = 0;
    for (int64_t i = 0; i < count; i++) {
        int64_t n = each + (i < longer);
        struct tsr_jvalue part = tsr_j_seq(r, TSR_JS_LIST, 0);
        for (int64_t k = 0; k < n; k++)
            tsr_j_append(r, part.seq, items->items[at++]);
        if (given(a[1]) && i >= longer)
            tsr_j_append(r, part.seq, a[1]);
        tsr_j_append(r, out.seq, part);
    }
    return out;
}

FILTER(groupby)
{
    static const char *const names[] = {"attribute", "default", "case_sensitive"};
    struct tsr_jvalue a[3], group = ABSENT, last = ABSENT;
    tsr_j_bind(r, call, "filter 'groupby'", names, 3, a);
    bool sensitive = tsr_j_truth(a[2]);
    if (a[1].kind != TSR_JV_ABSENT)
        tsr_j_fail(r, -ENOTSUP, "filter 'groupby': default= is not supported");
    const struct tsr_jseq *items = sorted(r, tsr_j_iterate(r, self), a[0], sensitive, false).seq;
    struct tsr_jvalue out = tsr_j_seq(r, TSR_JS_LIST, 0);
    for (uint32_t i = 0; i < items->n; i++) {
        struct tsr_jvalue key = sort_key(r, items->items[i], a[0], sensitive);
        if (last.kind == TSR_JV_ABSENT || !tsr_j_equal(r, key, last)) {
            group = tsr_j_seq(r, TSR_JS_LIST, 0);
            struct tsr_jvalue tuple =
                pair(r, by_attribute(r, items->items[i], a[0], ABSENT), group);
            tuple.seq->view = "group"; /* has the attributes grouper and list */
            tsr_j_append(r, out.seq, tuple);
            last = key;
        }
        tsr_j_append(r, group.seq, items->items[i]);
    }
    return out;
}

static const struct tsr_jbuiltin FILTERS[] = {
    {"sort", filter_sort},
    {"dictsort", filter_dictsort},
    {"items", filter_items},
    {"list", filter_list},
    {"join", filter_join},
    {"first", filter_first},
    {"last", filter_last},
    {"reverse", filter_reverse},
    {"max", filter_max},
    {"min", filter_min},
    {"sum", filter_sum},
    {"unique", filter_unique},
    {"map", filter_map},
    {"select", filter_select},
    {"reject", filter_reject},
    {"selectattr", filter_selectattr},
    {"rejectattr", filter_rejectattr},
    {"attr", filter_attr},
    {"batch", filter_batch},
    {"slice", filter_slice},
    {"groupby", filter_groupby},
};

const struct tsr_jbuiltin *tsr_j_find_in(const struct tsr_jbuiltin *table, size_t n,
                                         struct tsr_jtext name)
{
    for (size_t i = 0; i < n; i++)
        if (strlen(table[i].name) == name.len && memcmp(table[i].name, name.text, name.len) == 0)
            return &table[i];
    return NULL;
}

const struct tsr_jbuiltin *tsr_j_find_filter(struct tsr_jtext name)
{
    const struct tsr_jbuiltin *found =
        tsr_j_find_in(tsr_j_text_filters, tsr_j_n_text_filters, name);
    return found ? found : tsr_j_find_in(FILTERS, sizeof(FILTERS) / sizeof(FILTERS[0]), name);
}
