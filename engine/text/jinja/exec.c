/* Statements, scopes, loops and macros. */
#include <errno.h>
#include <string.h>

#include "run_priv.h"

enum flow { FLOW_NEXT, FLOW_BREAK, FLOW_CONTINUE };

static enum flow exec(struct tsr_jrun *r, const struct tsr_jnode *node);

struct tsr_jscope *tsr_j_scope(struct tsr_jrun *r, struct tsr_jscope *parent)
{
    struct tsr_jscope *scope = tsr_j_alloc(r, sizeof(*scope));
    scope->parent = parent;
    return scope;
}

static void assign_in(struct tsr_jrun *r, struct tsr_jscope *scope, uint32_t symbol,
                      struct tsr_jvalue value)
{
    for (uint32_t i = 0; i < scope->n; i++) {
        if (scope->vars[i].symbol == symbol) {
            scope->vars[i].value = value;
            return;
        }
    }
    if (scope->n == scope->cap) {
        uint32_t cap = scope->cap * 2 + 4;
        struct tsr_jscope_var *vars = tsr_j_alloc(r, cap * sizeof(*vars));
        if (scope->n)
            memcpy(vars, scope->vars, scope->n * sizeof(*vars));
        scope->vars = vars;
        scope->cap = cap;
    }
    scope->vars[scope->n++] = (struct tsr_jscope_var){.symbol = symbol, .value = value};
}

void tsr_j_assign(struct tsr_jrun *r, uint32_t symbol, struct tsr_jvalue value)
{
    assign_in(r, r->scope, symbol, value);
}

/* The value of a name; NULL where it is not set in any scope. */
static const struct tsr_jvalue *look_up(const struct tsr_jrun *r, uint32_t symbol)
{
    for (const struct tsr_jscope *scope = r->scope; scope; scope = scope->parent)
        for (uint32_t i = 0; i < scope->n; i++)
            if (scope->vars[i].symbol == symbol)
                return &scope->vars[i].value;
    return NULL;
}

static void assign_target(struct tsr_jrun *r, const struct tsr_jnode *target,
                          struct tsr_jvalue value)
{
    if (target->kind == TSR_JN_NAME) {
        tsr_j_assign(r, target->symbol, value);
        return;
    }
    if (target->kind == TSR_JN_TARGET_ATTR) {
        const struct tsr_jvalue *of = look_up(r, target->symbol);
        if (!of || of->kind != TSR_JV_NAMESPACE)
            tsr_j_fail(r, -EINVAL, "cannot assign attribute '%.*s' on non-namespace object",
                       (int)(target->text.len < 60 ? target->text.len : 60), target->text.text);
        tsr_j_dict_set(r, of->dict, tsr_j_string(r, target->text.text, target->text.len, true),
                       value);
        return;
    }
    if (value.kind == TSR_JV_UNDEFINED)
        tsr_j_fail_undefined(r, value);
    if (!tsr_j_is_iterable(value))
        tsr_j_fail(r, -EINVAL, "cannot unpack non-iterable %s object", tsr_j_type(value));
    const struct tsr_jseq *items = tsr_j_iterate(r, value);
    if (items->n != target->n)
        tsr_j_fail(r, -EINVAL, "%s values to unpack (expected %u, got %u)",
                   items->n < target->n ? "not enough" : "too many", target->n, items->n);
    for (uint32_t i = 0; i < target->n; i++)
        assign_target(r, target->child[i], items->items[i]);
}

static void write_value(struct tsr_jrun *r, struct tsr_jvalue v)
{
    const struct tsr_jstr *s = tsr_j_text(r, v);
    tsr_j_charge(r, s->len / 64 + 1);
    tsr_j_write(r, s->text, s->marks, s->trusted, s->len);
}

/* A body whose text becomes a value, in a scope of its own. */
static struct tsr_jvalue captured_body(struct tsr_jrun *r, const struct tsr_jnode *body)
{
    struct tsr_jscope *outer = r->scope;
    size_t from = r->out_n;
    r->scope = tsr_j_scope(r, outer);
    exec(r, body);
    r->scope = outer;
    return tsr_j_capture(r, from);
}

static void capture_scopes(struct tsr_jscope *scope)
{
    for (; scope && !scope->captured; scope = scope->parent)
        scope->captured = true;
}

static struct tsr_jvalue make_macro(struct tsr_jrun *r, const struct tsr_jnode *node)
{
    struct tsr_jmacro *macro = tsr_j_alloc(r, sizeof(*macro));
    macro->node = node;
    macro->scope = r->scope;
    macro->name = r->tree->symbols[node->symbol].text;
    macro->name_len = r->tree->symbols[node->symbol].len;
    capture_scopes(r->scope);
    return (struct tsr_jvalue){.kind = TSR_JV_MACRO, .macro = macro};
}

static uint32_t symbol_of(const struct tsr_jrun *r, const char *name)
{
    size_t len = strlen(name);
    for (uint32_t i = 0; i < r->tree->n_symbols; i++)
        if (r->tree->symbols[i].len == len && memcmp(r->tree->symbols[i].text, name, len) == 0)
            return i;
    return UINT32_MAX;
}

/* The arguments that are no parameters, or an error where the macro's body does not ask for them.
 */
static void bind_rest(struct tsr_jrun *r, const struct tsr_jmacro *macro,
                      const struct tsr_jcall *call, const bool *used)
{
    const struct tsr_jnode *node = macro->node;
    int name_len = (int)(macro->name_len < 60 ? macro->name_len : 60);
    uint32_t n = node->params.n;
    if (node->op & TSR_JM_VARARGS) {
        struct tsr_jvalue rest = tsr_j_seq(r, TSR_JS_TUPLE, 0);
        for (uint32_t i = n; i < call->n_pos; i++)
            tsr_j_append(r, rest.seq, call->pos[i]);
        tsr_j_assign(r, symbol_of(r, "varargs"), rest);
    } else if (call->n_pos > n) {
        tsr_j_fail(r, -EINVAL, "macro '%.*s' takes not more than %u argument(s)", name_len,
                   macro->name, n);
    }
    struct tsr_jvalue rest = {.kind = TSR_JV_ABSENT};
    struct tsr_jvalue caller =
        tsr_j_undefined(r, TSR_JU_TEXT, NULL, (struct tsr_jtext){"No caller defined", 17}, 0);
    if (node->op & TSR_JM_KWARGS)
        rest = tsr_j_dict(r);
    for (uint32_t k = 0; k < call->n_kw; k++) {
        const struct tsr_jtext *name = &call->kw_name[k];
        if (used[k])
            continue;
        if ((node->op & TSR_JM_CALLER) && name->len == 6 && memcmp(name->text, "caller", 6) == 0)
            caller = call->kw[k];
        else if (rest.kind == TSR_JV_DICT)
            tsr_j_dict_set(r, rest.dict, tsr_j_string(r, name->text, name->len, true), call->kw[k]);
        else
            tsr_j_fail(r, -EINVAL, "macro '%.*s' takes no keyword argument '%.*s'", name_len,
                       macro->name, (int)(name->len < 60 ? name->len : 60), name->text);
    }
    if (node->op & TSR_JM_CALLER)
        tsr_j_assign(r, symbol_of(r, "caller"), caller);
    if (rest.kind == TSR_JV_DICT)
        tsr_j_assign(r, symbol_of(r, "kwargs"), rest);
}

static void bind_params(struct tsr_jrun *r, const struct tsr_jmacro *macro,
                        const struct tsr_jcall *call)
{
    const struct tsr_jnode *node = macro->node;
    uint32_t n = node->params.n, n_defaults = node->n - 1;
    bool *used = tsr_j_alloc(r, call->n_kw + 1);
    struct tsr_jvalue *given = tsr_j_alloc(r, ((size_t)n + 1) * sizeof(*given));
    for (uint32_t i = 0; i < n; i++) {
        const struct tsr_jtext *name = &r->tree->symbols[node->params.symbols[i]];
        given[i] = (struct tsr_jvalue){.kind = TSR_JV_ABSENT};
        if (i < call->n_pos)
            given[i] = call->pos[i];
        for (uint32_t k = 0; k < call->n_kw; k++) {
            if (call->kw_name[k].len != name->len ||
                memcmp(call->kw_name[k].text, name->text, name->len) != 0)
                continue;
            if (given[i].kind != TSR_JV_ABSENT)
                tsr_j_fail(r, -EINVAL, "macro '%.*s' got multiple values for argument '%.*s'",
                           (int)(macro->name_len < 60 ? macro->name_len : 60), macro->name,
                           (int)(name->len < 60 ? name->len : 60), name->text);
            given[i] = call->kw[k];
            used[k] = true;
        }
    }
    bind_rest(r, macro, call, used);
    for (uint32_t i = 0; i < n; i++) {
        if (given[i].kind == TSR_JV_ABSENT) {
            uint32_t first = n - n_defaults;
            if (i >= first)
                given[i] = tsr_j_eval(r, node->child[1 + i - first]);
            else
                given[i] = tsr_j_undefined(r, TSR_JU_NAME, NULL,
                                           r->tree->symbols[node->params.symbols[i]], 0);
        }
        tsr_j_assign(r, node->params.symbols[i], given[i]);
    }
}

struct tsr_jvalue tsr_j_call_macro(struct tsr_jrun *r, const struct tsr_jmacro *macro,
                                   const struct tsr_jcall *call)
{
    struct tsr_jscope *outer = r->scope;
    uint32_t line = r->line;
    size_t from = r->out_n;
    r->scope = tsr_j_scope(r, macro->scope);
    bind_params(r, macro, call);
    exec(r, macro->node->child[0]);
    r->scope = outer;
    r->line = line;
    return tsr_j_capture(r, from);
}

/* The items for which the loop's condition holds. */
static const struct tsr_jseq *filtered(struct tsr_jrun *r, const struct tsr_jnode *node,
                                       const struct tsr_jseq *items)
{
    struct tsr_jscope *outer = r->scope;
    struct tsr_jvalue kept = tsr_j_seq(r, TSR_JS_LIST, 0);
    r->scope = tsr_j_scope(r, outer);
    for (uint32_t i = 0; i < items->n; i++) {
        assign_target(r, node->child[0], items->items[i]);
        if (tsr_j_truth(tsr_j_eval(r, node->child[2])))
            tsr_j_append(r, kept.seq, items->items[i]);
    }
    r->scope = outer;
    return kept.seq;
}

static void run_loop(struct tsr_jrun *r, const struct tsr_jnode *node, struct tsr_jvalue iterable,
                     uint32_t depth)
{
    const struct tsr_jseq *items = tsr_j_iterate(r, iterable);
    if (node->child[2])
        items = filtered(r, node, items);
    struct tsr_jscope *outer = r->scope, *scope = NULL;
    struct tsr_jloop *loop = tsr_j_alloc(r, sizeof(*loop));
    loop->seq = items;
    loop->depth = depth;
    loop->recursive = node->op ? node : NULL;
    loop->scope = outer;
    uint32_t symbol = symbol_of(r, "loop");
    /* The number of items is looked at each time: a body may not change it, but a list may be the
     * one being looped over. */
    for (uint32_t i = 0; i < items->n; i++) {
        tsr_j_charge(r, 1);
        loop->index = i;
        if (!scope || scope->captured)
            scope = tsr_j_scope(r, outer);
        scope->n = 0;
        r->scope = scope;
        if (symbol != UINT32_MAX)
            tsr_j_assign(r, symbol, (struct tsr_jvalue){.kind = TSR_JV_LOOP, .loop = loop});
        assign_target(r, node->child[0], items->items[i]);
        if (exec(r, node->child[3]) == FLOW_BREAK)
            break;
    }
    r->scope = outer;
    if (items->n == 0 && node->child[4]) {
        r->scope = tsr_j_scope(r, outer);
        exec(r, node->child[4]);
        r->scope = outer;
    }
}

struct tsr_jvalue tsr_j_call_loop(struct tsr_jrun *r, const struct tsr_jloop *loop,
                                  struct tsr_jvalue items)
{
    struct tsr_jscope *outer = r->scope;
    size_t from = r->out_n;
    r->scope = loop->scope;
    run_loop(r, loop->recursive, items, loop->depth + 1);
    r->scope = outer;
    return tsr_j_capture(r, from);
}

static void exec_call_block(struct tsr_jrun *r, const struct tsr_jnode *node)
{
    const struct tsr_jnode *call_node = node->child[0];
    struct tsr_jvalue callee = tsr_j_eval(r, call_node->child[0]);
    struct tsr_jcall call;
    tsr_j_args(r, call_node->args, &call);
    size_t n = (size_t)call.n_kw + 1;
    struct tsr_jvalue *kw = tsr_j_alloc(r, n * sizeof(*kw));
    struct tsr_jtext *names = tsr_j_alloc(r, n * sizeof(*names));
    if (call.n_kw) {
        memcpy(kw, call.kw, call.n_kw * sizeof(*kw));
        memcpy(names, call.kw_name, call.n_kw * sizeof(*names));
    }
    kw[call.n_kw] = make_macro(r, node->child[1]);
    names[call.n_kw++] = (struct tsr_jtext){"caller", 6};
    call.kw = kw;
    call.kw_name = names;
    r->line = node->line;
    write_value(r, tsr_j_call(r, callee, &call));
}

static void exec_with(struct tsr_jrun *r, const struct tsr_jnode *node)
{
    struct tsr_jscope *outer = r->scope, *inner = tsr_j_scope(r, outer);
    for (uint32_t i = 1; i + 1 < node->n; i += 2) { /* values see what is outside only */
        struct tsr_jvalue value = tsr_j_eval(r, node->child[i + 1]);
        r->scope = inner;
        assign_target(r, node->child[i], value);
        r->scope = outer;
    }
    r->scope = inner;
    exec(r, node->child[0]);
    r->scope = outer;
}

static enum flow exec_if(struct tsr_jrun *r, const struct tsr_jnode *node)
{
    while (node && node->kind == TSR_JN_IF) {
        if (tsr_j_truth(tsr_j_eval(r, node->child[0])))
            return exec(r, node->child[1]);
        node = node->child[2];
    }
    return node ? exec(r, node) : FLOW_NEXT;
}

static enum flow exec_body(struct tsr_jrun *r, const struct tsr_jnode *node)
{
    enum flow flow = FLOW_NEXT;
    tsr_j_enter(r);
    for (uint32_t i = 0; flow == FLOW_NEXT && i < node->n; i++)
        flow = exec(r, node->child[i]);
    tsr_j_leave(r);
    return flow;
}

static enum flow exec(struct tsr_jrun *r, const struct tsr_jnode *node)
{
    struct tsr_jvalue v;
    struct tsr_jscope *outer = r->scope;
    enum flow flow = FLOW_NEXT;
    tsr_j_charge(r, 1);
    r->line = node->line;
    switch ((enum tsr_jnode_kind)node->kind) {
    case TSR_JN_BODY:
        return exec_body(r, node);
    case TSR_JN_DATA:
        tsr_j_write(r, node->text.text, NULL, true, node->text.len);
        break;
    case TSR_JN_OUTPUT:
        write_value(r, tsr_j_eval(r, node->child[0]));
        break;
    case TSR_JN_IF:
        return exec_if(r, node);
    case TSR_JN_FOR:
        v = tsr_j_eval(r, node->child[1]);
        r->line = node->line;
        run_loop(r, node, v, 0);
        break;
    case TSR_JN_SET:
        v = tsr_j_eval(r, node->child[1]);
        r->line = node->line;
        assign_target(r, node->child[0], v);
        break;
    case TSR_JN_SET_BLOCK:
        v = captured_body(r, node->child[2]);
        if (node->child[1])
            v = tsr_j_filter_node(r, node->child[1], v);
        assign_target(r, node->child[0], v);
        break;
    case TSR_JN_MACRO:
        tsr_j_assign(r, node->symbol, make_macro(r, node));
        break;
    case TSR_JN_CALL_BLOCK:
        exec_call_block(r, node);
        break;
    case TSR_JN_FILTER_BLOCK:
        v = captured_body(r, node->child[1]);
        write_value(r, tsr_j_filter_node(r, node->child[0], v));
        break;
    case TSR_JN_WITH:
        exec_with(r, node);
        break;
    case TSR_JN_SCOPE:
        r->scope = tsr_j_scope(r, outer);
        flow = exec(r, node->child[0]);
        r->scope = outer;
        break;
    case TSR_JN_BREAK:
        return FLOW_BREAK;
    case TSR_JN_CONTINUE:
        return FLOW_CONTINUE;
    default: /* expressions are not executed */
        break;
    }
    return flow;
}

void tsr_j_exec(struct tsr_jrun *r, const struct tsr_jnode *body)
{
    exec(r, body);
}
