/* Methods of lists, mappings, loops and cyclers. Those that change a list or a mapping exist, but
 * the sandbox forbids them (transformers renders in Jinja2's ImmutableSandboxedEnvironment). */
#include <errno.h>
#include <string.h>

#include "methods_priv.h"

#define METHOD(name)                                                                               \
    static struct tsr_jvalue method_##name(struct tsr_jrun *r, struct tsr_jvalue self,             \
                                           const struct tsr_jcall *call)

METHOD(list_index)
{
    static const char *const names[] = {"value"};
    struct tsr_jvalue a[1];
    tsr_j_bind(r, call, "index()", names, 1, a);
    for (uint32_t i = 0; i < self.seq->n; i++)
        if (tsr_j_equal(r, self.seq->items[i], a[0]))
            return tsr_j_int(i);
    tsr_j_fail(r, -EINVAL, "index(): the value is not in the %s", tsr_j_type(self));
}

METHOD(list_count)
{
    static const char *const names[] = {"value"};
    struct tsr_jvalue a[1];
    int64_t n = 0;
    tsr_j_bind(r, call, "count()", names, 1, a);
    for (uint32_t i = 0; i < self.seq->n; i++)
        n += tsr_j_equal(r, self.seq->items[i], a[0]);
    return tsr_j_int(n);
}

METHOD(list_copy)
{
    tsr_j_bind(r, call, "copy()", NULL, 0, NULL);
    struct tsr_jvalue out = tsr_j_seq(r, TSR_JS_LIST, self.seq->n);
    for (uint32_t i = 0; i < self.seq->n; i++)
        tsr_j_append(r, out.seq, self.seq->items[i]);
    return out;
}

METHOD(dict_get)
{
    static const char *const names[] = {"key", "default"};
    struct tsr_jvalue a[2];
    if (call->n_kw)
        tsr_j_fail(r, -EINVAL, "dict.get() takes no keyword arguments");
    tsr_j_bind(r, call, "get()", names, 2, a);
    const struct tsr_jvalue *found = tsr_j_dict_find(r, self.dict, a[0]);
    return found ? *found : a[1].kind == TSR_JV_ABSENT ? tsr_j_none() : a[1];
}

static struct tsr_jvalue view(struct tsr_jrun *r, struct tsr_jvalue self,
                              const struct tsr_jcall *call, const char *name, bool keys,
                              bool values)
{
    tsr_j_bind(r, call, name, NULL, 0, NULL);
    struct tsr_jvalue out = tsr_j_seq(r, TSR_JS_VIEW, self.dict->n);
    out.seq->view = name;
    for (uint32_t i = 0; i < self.dict->n; i++) {
        const struct tsr_jentry *entry = &self.dict->entries[i];
        struct tsr_jvalue item = keys ? entry->key : entry->value;
        if (keys && values) {
            item = tsr_j_seq(r, TSR_JS_TUPLE, 2);
            tsr_j_append(r, item.seq, entry->key);
            tsr_j_append(r, item.seq, entry->value);
        }
        tsr_j_append(r, out.seq, item);
    }
    return out;
}

METHOD(dict_items)
{
    return view(r, self, call, "dict_items", true, true);
}

METHOD(dict_keys)
{
    return view(r, self, call, "dict_keys", true, false);
}

METHOD(dict_values)
{
    return view(r, self, call, "dict_values", false, true);
}

METHOD(dict_copy)
{
    tsr_j_bind(r, call, "copy()", NULL, 0, NULL);
    struct tsr_jvalue out = tsr_j_dict(r);
    for (uint32_t i = 0; i < self.dict->n; i++)
        tsr_j_dict_set(r, out.dict, self.dict->entries[i].key, self.dict->entries[i].value);
    return out;
}

METHOD(loop_cycle)
{
    if (call->n_pos == 0 || call->n_kw)
        tsr_j_fail(r, -EINVAL, "no items for cycling given");
    return call->pos[self.loop->index % call->n_pos];
}

METHOD(loop_changed)
{
    struct tsr_jvalue now = tsr_j_seq(r, TSR_JS_TUPLE, call->n_pos);
    for (uint32_t i = 0; i < call->n_pos; i++)
        tsr_j_append(r, now.seq, call->pos[i]);
    bool changed =
        self.loop->changed.kind == TSR_JV_ABSENT || !tsr_j_equal(r, self.loop->changed, now);
    if (changed)
        self.loop->changed = now;
    return tsr_j_bool(changed);
}

METHOD(cycler_next)
{
    tsr_j_bind(r, call, "next()", NULL, 0, NULL);
    struct tsr_jvalue v = self.cycler->items->items[self.cycler->at];
    self.cycler->at = (self.cycler->at + 1) % self.cycler->items->n;
    return v;
}

METHOD(cycler_reset)
{
    tsr_j_bind(r, call, "reset()", NULL, 0, NULL);
    self.cycler->at = 0;
    return tsr_j_none();
}

METHOD(real_is_integer)
{
    tsr_j_bind(r, call, "is_integer()", NULL, 0, NULL);
    return tsr_j_bool(
        tsr_j_equal(r, tsr_j_binary(r, TSR_JO_MOD, self, tsr_j_int(1)), tsr_j_int(0)));
}

static const struct tsr_jbuiltin LIST[] = {
    {"index", method_list_index}, {"count", method_list_count}, {"copy", method_list_copy}};
static const struct tsr_jbuiltin DICT[] = {{"get", method_dict_get},
                                           {"items", method_dict_items},
                                           {"keys", method_dict_keys},
                                           {"values", method_dict_values},
                                           {"copy", method_dict_copy}};
static const struct tsr_jbuiltin LOOP[] = {{"cycle", method_loop_cycle},
                                           {"changed", method_loop_changed}};
static const struct tsr_jbuiltin CYCLER[] = {{"next", method_cycler_next},
                                             {"reset", method_cycler_reset}};
static const struct tsr_jbuiltin REAL[] = {{"is_integer", method_real_is_integer}};

#define FIND(table) tsr_j_find_in(table, sizeof(table) / sizeof((table)[0]), name)

static bool is_one_of(struct tsr_jtext name, const char *const *list)
{
    for (; *list; list++)
        if (strlen(*list) == name.len && memcmp(*list, name.text, name.len) == 0)
            return true;
    return false;
}

const struct tsr_jbuiltin *tsr_j_find_method(struct tsr_jvalue v, struct tsr_jtext name,
                                             bool *unsafe)
{
    static const char *const list_unsafe[] = {"append", "clear",  "pop",    "reverse", "insert",
                                              "sort",   "extend", "remove", NULL};
    static const char *const dict_unsafe[] = {"clear",      "pop",    "popitem",
                                              "setdefault", "update", NULL};
    *unsafe = false;
    switch (v.kind) {
    case TSR_JV_STRING:
        return tsr_j_find_in(tsr_j_str_methods, tsr_j_n_str_methods, name);
    case TSR_JV_DICT:
        *unsafe = is_one_of(name, dict_unsafe);
        return FIND(DICT);
    case TSR_JV_SEQ:
        if (v.seq->kind == TSR_JS_LIST) {
            *unsafe = is_one_of(name, list_unsafe);
            return FIND(LIST);
        }
        if (v.seq->kind == TSR_JS_TUPLE || v.seq->kind == TSR_JS_RANGE)
            return name.len == 4 ? NULL : FIND(LIST); /* no copy() */
        return NULL;
    case TSR_JV_LOOP:
        return FIND(LOOP);
    case TSR_JV_CYCLER:
        return FIND(CYCLER);
    case TSR_JV_FLOAT:
        return FIND(REAL);
    default:
        return NULL;
    }
}
