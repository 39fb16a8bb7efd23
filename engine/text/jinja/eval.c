/* Expressions. */
#include <errno.h>
#include <string.h>

#include "run_priv.h"

void tsr_j_bind(struct tsr_jrun *r, const struct tsr_jcall *call, const char *function,
                const char *const *names, uint32_t n, struct tsr_jvalue *out)
{
    for (uint32_t i = 0; i < n; i++)
        out[i] = (struct tsr_jvalue){.kind = TSR_JV_ABSENT};
    if (call->n_pos > n)
        tsr_j_fail(r, -EINVAL, "%s takes at most %u arguments (%u given)", function, n,
                   call->n_pos);
    for (uint32_t i = 0; i < call->n_pos; i++)
        out[i] = call->pos[i];
    for (uint32_t k = 0; k < call->n_kw; k++) {
        const struct tsr_jtext *name = &call->kw_name[k];
        uint32_t i = 0;
        while (i < n &&
               (strlen(names[i]) != name->len || memcmp(names[i], name->text, name->len) != 0))
            i++;
        if (i == n)
            tsr_j_fail(r, -EINVAL, "%s got an unexpected keyword argument '%.*s'", function,
                       (int)(name->len < 60 ? name->len : 60), name->text);
        if (out[i].kind != TSR_JV_ABSENT)
            tsr_j_fail(r, -EINVAL, "%s got multiple values for argument '%s'", function, names[i]);
        out[i] = call->kw[k];
    }
}

void tsr_j_args(struct tsr_jrun *r, const struct tsr_jargs *args, struct tsr_jcall *out)
{
    *out = (struct tsr_jcall){0};
    if (!args)
        return;
    const struct tsr_jseq *star = NULL;
    const struct tsr_jdict *star2 = NULL;
    struct tsr_jvalue *pos = tsr_j_alloc(r, (args->n_pos + 1) * sizeof(*pos));
    for (uint32_t i = 0; i < args->n_pos; i++)
        pos[i] = tsr_j_eval(r, args->pos[i]);
    struct tsr_jvalue *kw = tsr_j_alloc(r, (args->n_kw + 1) * sizeof(*kw));
    for (uint32_t i = 0; i < args->n_kw; i++)
        kw[i] = tsr_j_eval(r, args->kw[i]);
    if (args->star)
        star = tsr_j_iterate(r, tsr_j_eval(r, args->star));
    if (args->star2) {
        struct tsr_jvalue more = tsr_j_eval(r, args->star2);
        if (more.kind != TSR_JV_DICT)
            tsr_j_fail(r, -EINVAL, "argument after ** must be a mapping, not %s", tsr_j_type(more));
        star2 = more.dict;
    }
    out->n_pos = args->n_pos;
    out->pos = pos;
    out->n_kw = args->n_kw;
    out->kw = kw;
    out->kw_name = args->kw_name;
    if (star && star->n) {
        out->pos = tsr_j_alloc(r, ((size_t)args->n_pos + star->n) * sizeof(*pos));
        memcpy(out->pos, pos, args->n_pos * sizeof(*pos));
        memcpy(out->pos + args->n_pos, star->items, star->n * sizeof(*pos));
        out->n_pos += star->n;
    }
    if (star2 && star2->n) {
        size_t n = (size_t)args->n_kw + star2->n;
        out->kw = tsr_j_alloc(r, n * sizeof(*kw));
        out->kw_name = tsr_j_alloc(r, n * sizeof(*out->kw_name));
        memcpy(out->kw, kw, args->n_kw * sizeof(*kw));
        memcpy(out->kw_name, args->kw_name, args->n_kw * sizeof(*out->kw_name));
        for (uint32_t i = 0; i < star2->n; i++) {
            const struct tsr_jstr *key =
                tsr_j_as_str(r, star2->entries[i].key, "a keyword of '**'");
            out->kw_name[out->n_kw] = (struct tsr_jtext){key->text, key->len};
            out->kw[out->n_kw++] = star2->entries[i].value;
        }
    }
}

struct tsr_jvalue tsr_j_call(struct tsr_jrun *r, struct tsr_jvalue callee,
                             const struct tsr_jcall *call)
{
    static const struct tsr_jvalue nothing = {.kind = TSR_JV_ABSENT};
    struct tsr_jvalue v;
    tsr_j_charge(r, 1);
    tsr_j_enter(r);
    switch (callee.kind) {
    case TSR_JV_MACRO:
        v = tsr_j_call_macro(r, callee.macro, call);
        break;
    case TSR_JV_BUILTIN:
        v = callee.builtin->fn(r, nothing, call);
        break;
    case TSR_JV_METHOD:
        v = callee.method->builtin->fn(r, callee.method->self, call);
        break;
    case TSR_JV_LOOP:
        if (!callee.loop->recursive || call->n_pos != 1 || call->n_kw)
            tsr_j_fail(r, -EINVAL,
                       "The loop must have the 'recursive' marker to be called "
                       "recursively, with one argument.");
        v = tsr_j_call_loop(r, callee.loop, call->pos[0]);
        break;
    case TSR_JV_JOINER:
        if (call->n_pos || call->n_kw)
            tsr_j_fail(r, -EINVAL, "a joiner takes no arguments");
        v = callee.cycler->at ? callee.cycler->items->items[0] : tsr_j_cstring(r, "");
        callee.cycler->at = 1;
        break;
    case TSR_JV_UNDEFINED:
        tsr_j_fail_undefined(r, callee);
    default:
        tsr_j_fail(r, -EINVAL, "'%s' object is not callable", tsr_j_type(callee));
    }
    tsr_j_leave(r);
    return v;
}

struct tsr_jvalue tsr_j_filter(struct tsr_jrun *r, struct tsr_jtext name, struct tsr_jvalue self,
                               const struct tsr_jcall *call)
{
    const struct tsr_jbuiltin *filter = tsr_j_find_filter(name);
    if (!filter)
        tsr_j_fail(r, -ENOTSUP, "the filter '%.*s' is unknown or not supported",
                   (int)(name.len < 60 ? name.len : 60), name.text);
    tsr_j_charge(r, 1);
    return filter->fn(r, self, call);
}

bool tsr_j_test(struct tsr_jrun *r, struct tsr_jtext name, struct tsr_jvalue self,
                const struct tsr_jcall *call)
{
    const struct tsr_jbuiltin *test = tsr_j_find_test(name);
    if (!test)
        tsr_j_fail(r, -ENOTSUP, "the test '%.*s' is unknown or not supported",
                   (int)(name.len < 60 ? name.len : 60), name.text);
    tsr_j_charge(r, 1);
    return tsr_j_truth(test->fn(r, self, call));
}

struct tsr_jvalue tsr_j_filter_node(struct tsr_jrun *r, const struct tsr_jnode *node,
                                    struct tsr_jvalue inner)
{
    struct tsr_jvalue self = inner;
    if (node->child[0] && node->child[0]->kind == TSR_JN_FILTER) {
        tsr_j_enter(r);
        self = tsr_j_filter_node(r, node->child[0], inner);
        tsr_j_leave(r);
    } else if (node->child[0]) {
        self = tsr_j_eval(r, node->child[0]);
    }
    struct tsr_jcall call;
    tsr_j_args(r, node->args, &call);
    r->line = node->line;
    return tsr_j_filter(r, node->text, self, &call);
}

static struct tsr_jvalue eval_name(struct tsr_jrun *r, const struct tsr_jnode *node)
{
    for (const struct tsr_jscope *scope = r->scope; scope; scope = scope->parent)
        for (uint32_t i = 0; i < scope->n; i++)
            if (scope->vars[i].symbol == node->symbol)
                return scope->vars[i].value;
    const struct tsr_jvalue *found = tsr_j_dict_get(r, r->context, node->text.text, node->text.len);
    if (found)
        return *found;
    const struct tsr_jbuiltin *builtin = tsr_j_find_global(node->text);
    if (builtin)
        return (struct tsr_jvalue){.kind = TSR_JV_BUILTIN, .builtin = builtin};
    return tsr_j_undefined(r, TSR_JU_NAME, NULL, node->text, 0);
}

static struct tsr_jvalue eval_const(struct tsr_jrun *r, const struct tsr_jnode *node)
{
    switch ((enum tsr_jconst)node->op) {
    case TSR_JC_STRING:
        return tsr_j_string(r, node->text.text, node->text.len, true);
    case TSR_JC_INT:
        return tsr_j_int(node->integer);
    case TSR_JC_FLOAT:
        return tsr_j_float(node->real);
    case TSR_JC_NONE:
        return tsr_j_none();
    default:
        return tsr_j_bool(node->op == TSR_JC_TRUE);
    }
}

static struct tsr_jvalue eval_items(struct tsr_jrun *r, const struct tsr_jnode *node)
{
    struct tsr_jvalue v =
        tsr_j_seq(r, node->kind == TSR_JN_LIST ? TSR_JS_LIST : TSR_JS_TUPLE, node->n);
    for (uint32_t i = 0; i < node->n; i++)
        tsr_j_append(r, v.seq, tsr_j_eval(r, node->child[i]));
    return v;
}

static struct tsr_jvalue eval_dict(struct tsr_jrun *r, const struct tsr_jnode *node)
{
    struct tsr_jvalue v = tsr_j_dict(r);
    for (uint32_t i = 0; i + 1 < node->n; i += 2) {
        struct tsr_jvalue key = tsr_j_eval(r, node->child[i]);
        tsr_j_dict_set(r, v.dict, key, tsr_j_eval(r, node->child[i + 1]));
    }
    return v;
}

static struct tsr_jvalue eval_slice(struct tsr_jrun *r, const struct tsr_jnode *node)
{
    struct tsr_jvalue part[4];
    for (int i = 0; i < 4; i++)
        part[i] = node->child[i] ? tsr_j_eval(r, node->child[i])
                                 : (struct tsr_jvalue){.kind = TSR_JV_ABSENT};
    r->line = node->line;
    return tsr_j_slice(r, part[0], part[1], part[2], part[3]);
}

static struct tsr_jvalue eval_call(struct tsr_jrun *r, const struct tsr_jnode *node)
{
    struct tsr_jvalue callee = tsr_j_eval(r, node->child[0]);
    struct tsr_jcall call;
    tsr_j_args(r, node->args, &call);
    r->line = node->line;
    return tsr_j_call(r, callee, &call);
}

static struct tsr_jvalue eval_test(struct tsr_jrun *r, const struct tsr_jnode *node)
{
    struct tsr_jvalue self = tsr_j_eval(r, node->child[0]);
    struct tsr_jcall call;
    tsr_j_args(r, node->args, &call);
    r->line = node->line;
    return tsr_j_bool(tsr_j_test(r, node->text, self, &call));
}

static struct tsr_jvalue eval_logic(struct tsr_jrun *r, const struct tsr_jnode *node)
{
    struct tsr_jvalue v = tsr_j_eval(r, node->child[0]);
    for (uint32_t i = 1; i < node->n && tsr_j_truth(v) == (node->kind == TSR_JN_AND); i++)
        v = tsr_j_eval(r, node->child[i]);
    return v;
}

static struct tsr_jvalue eval_binary(struct tsr_jrun *r, const struct tsr_jnode *node)
{
    struct tsr_jvalue v = tsr_j_eval(r, node->child[0]);
    for (uint32_t i = 1; i < node->n; i++) {
        struct tsr_jvalue right = tsr_j_eval(r, node->child[i]);
        r->line = node->line;
        v = tsr_j_binary(r, (enum tsr_jop)node->ops[i - 1], v, right);
    }
    return v;
}

static struct tsr_jvalue eval_compare(struct tsr_jrun *r, const struct tsr_jnode *node)
{
    struct tsr_jvalue left = tsr_j_eval(r, node->child[0]);
    for (uint32_t i = 1; i < node->n; i++) {
        struct tsr_jvalue right = tsr_j_eval(r, node->child[i]);
        r->line = node->line;
        if (!tsr_j_compare(r, (enum tsr_jop)node->ops[i - 1], left, right))
            return tsr_j_bool(false);
        left = right;
    }
    return tsr_j_bool(true);
}

static struct tsr_jvalue eval_concat(struct tsr_jrun *r, const struct tsr_jnode *node)
{
    const struct tsr_jstr *text = NULL;
    for (uint32_t i = 0; i < node->n; i++) {
        const struct tsr_jstr *more = tsr_j_text(r, tsr_j_eval(r, node->child[i]));
        text = text ? tsr_j_join(r, text, more).str : more;
    }
    return tsr_j_sub(r, text, 0, text->len);
}

struct tsr_jvalue tsr_j_eval(struct tsr_jrun *r, const struct tsr_jnode *node)
{
    struct tsr_jvalue v;
    tsr_j_charge(r, 1);
    tsr_j_enter(r);
    r->line = node->line;
    switch ((enum tsr_jnode_kind)node->kind) {
    case TSR_JN_CONST:
        v = eval_const(r, node);
        break;
    case TSR_JN_NAME:
        v = eval_name(r, node);
        break;
    case TSR_JN_LIST:
    case TSR_JN_TUPLE:
        v = eval_items(r, node);
        break;
    case TSR_JN_DICT:
        v = eval_dict(r, node);
        break;
    case TSR_JN_ATTR:
        v = tsr_j_eval(r, node->child[0]);
        r->line = node->line;
        v = tsr_j_attr(r, v, node->text);
        break;
    case TSR_JN_ITEM:
        v = tsr_j_eval(r, node->child[0]);
        v = tsr_j_item(r, v, tsr_j_eval(r, node->child[1]));
        break;
    case TSR_JN_SLICE:
        v = eval_slice(r, node);
        break;
    case TSR_JN_CALL:
        v = eval_call(r, node);
        break;
    case TSR_JN_FILTER:
        v = tsr_j_filter_node(r, node, (struct tsr_jvalue){.kind = TSR_JV_ABSENT});
        break;
    case TSR_JN_TEST:
        v = eval_test(r, node);
        break;
    case TSR_JN_NOT:
        v = tsr_j_bool(!tsr_j_truth(tsr_j_eval(r, node->child[0])));
        break;
    case TSR_JN_NEG:
    case TSR_JN_POS:
        v = tsr_j_negate(r, tsr_j_eval(r, node->child[0]), node->kind == TSR_JN_NEG);
        break;
    case TSR_JN_AND:
    case TSR_JN_OR:
        v = eval_logic(r, node);
        break;
    case TSR_JN_BINARY:
        v = eval_binary(r, node);
        break;
    case TSR_JN_CONCAT:
        v = eval_concat(r, node);
        break;
    case TSR_JN_COMPARE:
        v = eval_compare(r, node);
        break;
    case TSR_JN_TERNARY:
        if (tsr_j_truth(tsr_j_eval(r, node->child[1])))
            v = tsr_j_eval(r, node->child[0]);
        else if (node->child[2])
            v = tsr_j_eval(r, node->child[2]);
        else
            v = tsr_j_undefined(
                r, TSR_JU_TEXT, NULL,
                (struct tsr_jtext){"the inline if-expression evaluated to false and no else "
                                   "section was defined",
                                   75},
                0);
        break;
    default: /* statements are not evaluated */
        v = tsr_j_none();
        break;
    }
    tsr_j_leave(r);
    return v;
}
