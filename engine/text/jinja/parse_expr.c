/* Jinja2's expressions (jinja2/parser.py of 3.1): the same precedences, also where they differ from
 * Python's. */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ast_priv.h"

void tsr_jinja_refuse(struct tsr_jparse *p, uint32_t line, int rc, const char *format, ...)
{
    char text[TSR_ERR_TEXT_MAX];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    p->rc = tsr_err_set(p->err, rc, "template, line %u: %s", line, text);
    longjmp(p->leave, 1);
}

void *tsr_jinja_alloc(struct tsr_jparse *p, size_t bytes)
{
    struct tsr_jchunk *chunk = p->tree->chunks;
    bytes = (bytes + 15) & ~(size_t)15;
    if (!chunk || chunk->cap - chunk->n < bytes) {
        size_t cap = bytes > (16 << 10) ? bytes : 16 << 10;
        chunk = malloc(sizeof(*chunk) + cap);
        if (!chunk)
            tsr_jinja_refuse(p, 0, -ENOMEM, "no memory to parse it");
        chunk->next = p->tree->chunks;
        chunk->n = 0;
        chunk->cap = cap;
        p->tree->chunks = chunk;
    }
    void *out = chunk->bytes + chunk->n;
    chunk->n += bytes;
    memset(out, 0, bytes);
    return out;
}

struct tsr_jnode *tsr_jinja_node(struct tsr_jparse *p, enum tsr_jnode_kind kind, uint32_t line,
                                 uint32_t n_children)
{
    struct tsr_jnode *node = tsr_jinja_alloc(p, sizeof(*node));
    node->kind = (uint8_t)kind;
    node->line = line;
    node->n = n_children;
    if (n_children)
        node->child = tsr_jinja_alloc(p, n_children * sizeof(*node->child));
    return node;
}

void tsr_jinja_push_op(struct tsr_jparse *p, struct tsr_jnodes *list, enum tsr_jop op,
                       struct tsr_jnode *node)
{
    if (list->n == list->cap) {
        uint32_t cap = list->cap * 2 + 4;
        struct tsr_jnode **nodes = tsr_jinja_alloc(p, cap * sizeof(struct tsr_jnode *));
        uint8_t *ops = tsr_jinja_alloc(p, cap);
        if (list->n) {
            memcpy(nodes, list->node, list->n * sizeof(struct tsr_jnode *));
            memcpy(ops, list->op, list->n);
        }
        list->node = nodes;
        list->op = ops;
        list->cap = cap;
    }
    list->op[list->n] = (uint8_t)op;
    list->node[list->n++] = node;
}

void tsr_jinja_push(struct tsr_jparse *p, struct tsr_jnodes *list, struct tsr_jnode *node)
{
    tsr_jinja_push_op(p, list, TSR_JO_ADD, node);
}

static struct tsr_jnode *list_node(struct tsr_jparse *p, enum tsr_jnode_kind kind, uint32_t line,
                                   const struct tsr_jnodes *list)
{
    struct tsr_jnode *node = tsr_jinja_node(p, kind, line, 0);
    node->n = list->n;
    node->child = list->node;
    return node;
}

static uint32_t hash_text(struct tsr_jtext text)
{
    uint32_t h = 2166136261u;
    for (uint32_t i = 0; i < text.len; i++)
        h = (h ^ (uint8_t)text.text[i]) * 16777619u;
    return h;
}

uint32_t tsr_jinja_symbol(struct tsr_jparse *p, struct tsr_jtext name)
{
    struct tsr_jtree *tree = p->tree;
    for (uint32_t i = hash_text(name);; i++) {
        uint32_t *slot = &p->symbol_slots[i & p->symbol_mask];
        if (*slot) {
            const struct tsr_jtext *known = &tree->symbols[*slot - 1];
            if (known->len == name.len && memcmp(known->text, name.text, name.len) == 0)
                return *slot - 1;
            continue;
        }
        tree->symbols[tree->n_symbols] = name; /* room for as many as there are tokens */
        *slot = ++tree->n_symbols;
        return tree->n_symbols - 1;
    }
}

const struct tsr_jtoken *tsr_jinja_peek(const struct tsr_jparse *p)
{
    return &p->tokens[p->at];
}

const struct tsr_jtoken *tsr_jinja_next(struct tsr_jparse *p)
{
    const struct tsr_jtoken *token = &p->tokens[p->at];
    if (token->kind != TSR_JT_END)
        p->at++;
    return token;
}

bool tsr_jinja_is_name(const struct tsr_jtoken *token, const char *name)
{
    return token->kind == TSR_JT_NAME && token->text.len == strlen(name) &&
           memcmp(token->text.text, name, token->text.len) == 0;
}

bool tsr_jinja_is_op(const struct tsr_jtoken *token, const char *op)
{
    return token->kind == TSR_JT_OPERATOR && token->text.len == strlen(op) &&
           memcmp(token->text.text, op, token->text.len) == 0;
}

bool tsr_jinja_skip_name(struct tsr_jparse *p, const char *name)
{
    bool is = tsr_jinja_is_name(tsr_jinja_peek(p), name);
    p->at += is;
    return is;
}

bool tsr_jinja_skip_op(struct tsr_jparse *p, const char *op)
{
    bool is = tsr_jinja_is_op(tsr_jinja_peek(p), op);
    p->at += is;
    return is;
}

static _Noreturn void unexpected(struct tsr_jparse *p, const char *wanted)
{
    const struct tsr_jtoken *token = tsr_jinja_peek(p);
    static const char *const kinds[] = {"text", "'{{'", "the end of the tag", "'{%'",
                                        "the end of the tag"};
    if (token->kind == TSR_JT_END)
        tsr_jinja_refuse(p, token->line, -EINVAL, "the template ends where %s should stand",
                         wanted);
    if (token->kind <= TSR_JT_BLOCK_END)
        tsr_jinja_refuse(p, token->line, -EINVAL, "%s where %s should stand", kinds[token->kind],
                         wanted);
    tsr_jinja_refuse(p, token->line, -EINVAL, "'%.*s' where %s should stand",
                     (int)(token->text.len < 60 ? token->text.len : 60), token->text.text, wanted);
}

void tsr_jinja_expect_op(struct tsr_jparse *p, const char *op)
{
    if (!tsr_jinja_skip_op(p, op)) {
        char quoted[8];
        snprintf(quoted, sizeof(quoted), "'%s'", op);
        unexpected(p, quoted);
    }
}

struct tsr_jtext tsr_jinja_expect_name(struct tsr_jparse *p, const char *what)
{
    const struct tsr_jtoken *token = tsr_jinja_peek(p);
    if (token->kind != TSR_JT_NAME)
        unexpected(p, what);
    return tsr_jinja_next(p)->text;
}

void tsr_jinja_enter(struct tsr_jparse *p)
{
    if (++p->depth > TSR_JINJA_NESTING_MAX)
        tsr_jinja_refuse(p, tsr_jinja_peek(p)->line, -ENOTSUP, "nested deeper than %d",
                         TSR_JINJA_NESTING_MAX);
}

void tsr_jinja_leave(struct tsr_jparse *p)
{
    p->depth--;
}

static struct tsr_jnode *constant(struct tsr_jparse *p, uint32_t line, enum tsr_jconst kind)
{
    struct tsr_jnode *node = tsr_jinja_node(p, TSR_JN_CONST, line, 0);
    node->op = (uint8_t)kind;
    return node;
}

static struct tsr_jnode *parse_name(struct tsr_jparse *p)
{
    static const struct {
        const char *name;
        enum tsr_jconst value;
    } constants[] = {{"true", TSR_JC_TRUE},   {"True", TSR_JC_TRUE}, {"false", TSR_JC_FALSE},
                     {"False", TSR_JC_FALSE}, {"none", TSR_JC_NONE}, {"None", TSR_JC_NONE}};
    static const struct {
        const char *name;
        enum tsr_jmacro_use use;
    } special[] = {
        {"varargs", TSR_JM_VARARGS}, {"kwargs", TSR_JM_KWARGS}, {"caller", TSR_JM_CALLER}};
    const struct tsr_jtoken *token = tsr_jinja_next(p);
    for (size_t i = 0; i < sizeof(constants) / sizeof(constants[0]); i++)
        if (tsr_jinja_is_name(token, constants[i].name))
            return constant(p, token->line, constants[i].value);
    for (size_t i = 0; p->uses && i < sizeof(special) / sizeof(special[0]); i++)
        if (tsr_jinja_is_name(token, special[i].name))
            *p->uses |= (uint8_t)special[i].use;
    struct tsr_jnode *node = tsr_jinja_node(p, TSR_JN_NAME, token->line, 0);
    node->symbol = tsr_jinja_symbol(p, token->text);
    node->text = token->text;
    return node;
}

/* Strings that stand side by side are one. */
static struct tsr_jnode *parse_string(struct tsr_jparse *p)
{
    uint32_t first = p->at;
    size_t len = 0;
    while (tsr_jinja_peek(p)->kind == TSR_JT_STRING)
        len += tsr_jinja_next(p)->text.len;
    struct tsr_jnode *node = constant(p, p->tokens[first].line, TSR_JC_STRING);
    if (p->at == first + 1) {
        node->text = p->tokens[first].text;
        return node;
    }
    char *text = tsr_jinja_alloc(p, len + 1);
    node->text = (struct tsr_jtext){.text = text, .len = (uint32_t)len};
    for (uint32_t i = first; i < p->at; i++) {
        memcpy(text, p->tokens[i].text.text, p->tokens[i].text.len);
        text += p->tokens[i].text.len;
    }
    return node;
}

static struct tsr_jnode *parse_list(struct tsr_jparse *p)
{
    uint32_t line = tsr_jinja_next(p)->line;
    struct tsr_jnodes items = {0};
    while (!tsr_jinja_skip_op(p, "]")) {
        if (items.n) {
            tsr_jinja_expect_op(p, ",");
            if (tsr_jinja_skip_op(p, "]"))
                break;
        }
        tsr_jinja_push(p, &items, tsr_jinja_expression(p, true));
    }
    return list_node(p, TSR_JN_LIST, line, &items);
}

static struct tsr_jnode *parse_dict(struct tsr_jparse *p)
{
    uint32_t line = tsr_jinja_next(p)->line;
    struct tsr_jnodes items = {0};
    while (!tsr_jinja_skip_op(p, "}")) {
        if (items.n) {
            tsr_jinja_expect_op(p, ",");
            if (tsr_jinja_skip_op(p, "}"))
                break;
        }
        tsr_jinja_push(p, &items, tsr_jinja_expression(p, true));
        tsr_jinja_expect_op(p, ":");
        tsr_jinja_push(p, &items, tsr_jinja_expression(p, true));
    }
    return list_node(p, TSR_JN_DICT, line, &items);
}

static struct tsr_jnode *parse_paren(struct tsr_jparse *p)
{
    uint32_t line = tsr_jinja_next(p)->line;
    if (tsr_jinja_skip_op(p, ")"))
        return tsr_jinja_node(p, TSR_JN_TUPLE, line, 0);
    struct tsr_jnode *node = tsr_jinja_tuple(p, true);
    tsr_jinja_expect_op(p, ")");
    return node;
}

static struct tsr_jnode *parse_primary(struct tsr_jparse *p)
{
    const struct tsr_jtoken *token = tsr_jinja_peek(p);
    struct tsr_jnode *node;
    switch (token->kind) {
    case TSR_JT_NAME:
        return parse_name(p);
    case TSR_JT_STRING:
        return parse_string(p);
    case TSR_JT_INT:
        node = constant(p, token->line, TSR_JC_INT);
        node->integer = tsr_jinja_next(p)->integer;
        return node;
    case TSR_JT_FLOAT:
        node = constant(p, token->line, TSR_JC_FLOAT);
        node->real = tsr_jinja_next(p)->real;
        return node;
    default:
        break;
    }
    if (tsr_jinja_is_op(token, "("))
        return parse_paren(p);
    if (tsr_jinja_is_op(token, "["))
        return parse_list(p);
    if (tsr_jinja_is_op(token, "{"))
        return parse_dict(p);
    unexpected(p, "an expression");
}

/* What stands in x[...]: an expression or a slice. */
static struct tsr_jnode *parse_index(struct tsr_jparse *p, struct tsr_jnode *of)
{
    uint32_t line = tsr_jinja_peek(p)->line;
    struct tsr_jnode *part[3] = {NULL};
    unsigned n = 0;
    bool slice = false;
    for (;;) {
        if (tsr_jinja_skip_op(p, ":")) {
            slice = true;
            if (++n == 3)
                unexpected(p, "']'");
        } else if (tsr_jinja_is_op(tsr_jinja_peek(p), "]")) {
            break;
        } else if (part[n]) {
            if (tsr_jinja_is_op(tsr_jinja_peek(p), ","))
                tsr_jinja_refuse(p, line, -ENOTSUP, "several indices in one [] are not supported");
            unexpected(p, "']'");
        } else {
            part[n] = tsr_jinja_expression(p, true);
        }
    }
    if (!slice && !part[0])
        unexpected(p, "an index");
    struct tsr_jnode *node = tsr_jinja_node(p, slice ? TSR_JN_SLICE : TSR_JN_ITEM, line, 0);
    node->n = slice ? 4 : 2;
    node->child = tsr_jinja_alloc(p, 4 * sizeof(struct tsr_jnode *));
    node->child[0] = of;
    for (unsigned i = 0; i < (slice ? 3u : 1u); i++)
        node->child[i + 1] = part[i];
    return node;
}

static struct tsr_jnode *parse_subscript(struct tsr_jparse *p, struct tsr_jnode *of)
{
    const struct tsr_jtoken *token = tsr_jinja_next(p);
    if (token->text.text[0] == '[') {
        struct tsr_jnode *node = parse_index(p, of);
        tsr_jinja_expect_op(p, "]");
        return node;
    }
    const struct tsr_jtoken *name = tsr_jinja_peek(p);
    if (name->kind == TSR_JT_INT) {
        struct tsr_jnode *node = tsr_jinja_node(p, TSR_JN_ITEM, name->line, 2);
        node->child[0] = of;
        node->child[1] = constant(p, name->line, TSR_JC_INT);
        node->child[1]->integer = tsr_jinja_next(p)->integer;
        return node;
    }
    struct tsr_jnode *node = tsr_jinja_node(p, TSR_JN_ATTR, token->line, 1);
    node->child[0] = of;
    node->text = tsr_jinja_expect_name(p, "a name");
    return node;
}

static struct tsr_jargs *parse_args(struct tsr_jparse *p)
{
    struct tsr_jargs *args = tsr_jinja_alloc(p, sizeof(*args));
    struct tsr_jnodes pos = {0}, kw = {0}, names = {0};
    uint32_t line = tsr_jinja_peek(p)->line;
    tsr_jinja_expect_op(p, "(");
    for (bool first = true; !tsr_jinja_skip_op(p, ")"); first = false) {
        if (!first) {
            tsr_jinja_expect_op(p, ",");
            if (tsr_jinja_skip_op(p, ")"))
                break;
        }
        const struct tsr_jtoken *token = tsr_jinja_peek(p);
        if (tsr_jinja_skip_op(p, "*")) {
            if (args->star || args->star2)
                tsr_jinja_refuse(p, line, -EINVAL, "misplaced '*' in a call");
            args->star = tsr_jinja_expression(p, true);
        } else if (tsr_jinja_skip_op(p, "**")) {
            if (args->star2)
                tsr_jinja_refuse(p, line, -EINVAL, "misplaced '**' in a call");
            args->star2 = tsr_jinja_expression(p, true);
        } else if (token->kind == TSR_JT_NAME && tsr_jinja_is_op(token + 1, "=")) {
            struct tsr_jnode *name = tsr_jinja_node(p, TSR_JN_NAME, token->line, 0);
            name->text = token->text;
            p->at += 2;
            tsr_jinja_push(p, &names, name);
            tsr_jinja_push(p, &kw, tsr_jinja_expression(p, true));
        } else {
            if (kw.n || args->star || args->star2)
                tsr_jinja_refuse(p, token->line, -EINVAL,
                                 "an argument by position behind arguments by name");
            tsr_jinja_push(p, &pos, tsr_jinja_expression(p, true));
        }
    }
    args->n_pos = pos.n;
    args->pos = pos.node;
    args->n_kw = kw.n;
    args->kw = kw.node;
    args->kw_name = tsr_jinja_alloc(p, (kw.n + 1) * sizeof(*args->kw_name));
    for (uint32_t i = 0; i < kw.n; i++)
        args->kw_name[i] = names.node[i]->text;
    return args;
}

struct tsr_jnode *tsr_jinja_call_args(struct tsr_jparse *p, struct tsr_jnode *callee)
{
    struct tsr_jnode *node = tsr_jinja_node(p, TSR_JN_CALL, tsr_jinja_peek(p)->line, 1);
    node->child[0] = callee;
    node->args = parse_args(p);
    return node;
}

static struct tsr_jnode *parse_postfix(struct tsr_jparse *p, struct tsr_jnode *node)
{
    for (;;) {
        const struct tsr_jtoken *token = tsr_jinja_peek(p);
        if (tsr_jinja_is_op(token, ".") || tsr_jinja_is_op(token, "["))
            node = parse_subscript(p, node);
        else if (tsr_jinja_is_op(token, "("))
            node = tsr_jinja_call_args(p, node);
        else
            return node;
    }
}

/* a.b.c as one name: extensions name their filters so. */
static struct tsr_jtext dotted_name(struct tsr_jparse *p, const char *what)
{
    struct tsr_jtext name = tsr_jinja_expect_name(p, what);
    while (tsr_jinja_is_op(tsr_jinja_peek(p), ".")) {
        p->at++;
        struct tsr_jtext more = tsr_jinja_expect_name(p, what);
        name.len = (uint32_t)(more.text + more.len - name.text);
    }
    return name;
}

static struct tsr_jnode *parse_filter(struct tsr_jparse *p, struct tsr_jnode *inner)
{
    struct tsr_jnode *node = tsr_jinja_node(p, TSR_JN_FILTER, tsr_jinja_peek(p)->line, 1);
    node->child[0] = inner;
    node->text = dotted_name(p, "the name of a filter");
    if (tsr_jinja_is_op(tsr_jinja_peek(p), "("))
        node->args = parse_args(p);
    return node;
}

struct tsr_jnode *tsr_jinja_filters(struct tsr_jparse *p, struct tsr_jnode *inner)
{
    do
        inner = parse_filter(p, inner);
    while (tsr_jinja_skip_op(p, "|"));
    return inner;
}

static bool begins_argument(const struct tsr_jtoken *token)
{
    if (token->kind == TSR_JT_NAME)
        return !tsr_jinja_is_name(token, "else") && !tsr_jinja_is_name(token, "or") &&
               !tsr_jinja_is_name(token, "and");
    return token->kind == TSR_JT_STRING || token->kind == TSR_JT_INT ||
           token->kind == TSR_JT_FLOAT || tsr_jinja_is_op(token, "(") ||
           tsr_jinja_is_op(token, "[") || tsr_jinja_is_op(token, "{");
}

static struct tsr_jnode *parse_test(struct tsr_jparse *p, struct tsr_jnode *of)
{
    bool negated = tsr_jinja_skip_name(p, "not");
    struct tsr_jnode *node = tsr_jinja_node(p, TSR_JN_TEST, tsr_jinja_peek(p)->line, 1);
    node->child[0] = of;
    node->text = dotted_name(p, "the name of a test");
    const struct tsr_jtoken *token = tsr_jinja_peek(p);
    if (tsr_jinja_is_op(token, "(")) {
        node->args = parse_args(p);
    } else if (begins_argument(token)) {
        if (tsr_jinja_is_name(token, "is"))
            tsr_jinja_refuse(p, token->line, -EINVAL, "two tests in a row ('is ... is ...')");
        node->args = tsr_jinja_alloc(p, sizeof(*node->args));
        node->args->pos = tsr_jinja_alloc(p, sizeof(struct tsr_jnode *));
        node->args->n_pos = 1;
        node->args->pos[0] = parse_postfix(p, parse_primary(p));
    }
    if (!negated)
        return node;
    struct tsr_jnode *not = tsr_jinja_node(p, TSR_JN_NOT, node->line, 1);
    not ->child[0] = node;
    return not ;
}

static struct tsr_jnode *parse_filters_and_tests(struct tsr_jparse *p, struct tsr_jnode *node)
{
    for (;;) {
        if (tsr_jinja_skip_op(p, "|"))
            node = parse_filter(p, node);
        else if (tsr_jinja_skip_name(p, "is"))
            node = parse_test(p, node);
        else if (tsr_jinja_is_op(tsr_jinja_peek(p), "("))
            node = tsr_jinja_call_args(p, node);
        else
            return node;
    }
}

static struct tsr_jnode *parse_unary(struct tsr_jparse *p, bool with_filters)
{
    const struct tsr_jtoken *token = tsr_jinja_peek(p);
    struct tsr_jnode *node;
    tsr_jinja_enter(p);
    if (tsr_jinja_is_op(token, "-") || tsr_jinja_is_op(token, "+")) {
        p->at++;
        node =
            tsr_jinja_node(p, token->text.text[0] == '-' ? TSR_JN_NEG : TSR_JN_POS, token->line, 1);
        node->child[0] = parse_unary(p, false);
    } else {
        node = parse_primary(p);
    }
    node = parse_postfix(p, node);
    if (with_filters)
        node = parse_filters_and_tests(p, node);
    tsr_jinja_leave(p);
    return node;
}

/* first op a op b ...: one node, so that evaluation is as deep as the source is nested, not as it
 * is long. */
static struct tsr_jnode *chain(struct tsr_jparse *p, enum tsr_jnode_kind kind, uint32_t line,
                               const struct tsr_jnodes *list)
{
    if (list->n == 1)
        return list->node[0];
    struct tsr_jnode *node = list_node(p, kind, line, list);
    node->ops = list->op + 1;
    return node;
}

static struct tsr_jnode *parse_pow(struct tsr_jparse *p)
{
    uint32_t line = tsr_jinja_peek(p)->line;
    struct tsr_jnodes list = {0};
    do
        tsr_jinja_push_op(p, &list, TSR_JO_POW, parse_unary(p, true));
    while (tsr_jinja_skip_op(p, "**"));
    return chain(p, TSR_JN_BINARY, line, &list);
}

static struct tsr_jnode *parse_product(struct tsr_jparse *p)
{
    static const struct {
        const char *text;
        enum tsr_jop op;
    } ops[] = {{"*", TSR_JO_MUL}, {"/", TSR_JO_DIV}, {"//", TSR_JO_FLOORDIV}, {"%", TSR_JO_MOD}};
    uint32_t line = tsr_jinja_peek(p)->line;
    struct tsr_jnodes list = {0};
    tsr_jinja_push(p, &list, parse_pow(p));
    for (size_t i = 0; i < 4;) {
        if (!tsr_jinja_skip_op(p, ops[i].text)) {
            i++;
            continue;
        }
        tsr_jinja_push_op(p, &list, ops[i].op, parse_pow(p));
        i = 0;
    }
    return chain(p, TSR_JN_BINARY, line, &list);
}

static struct tsr_jnode *parse_concat(struct tsr_jparse *p)
{
    uint32_t line = tsr_jinja_peek(p)->line;
    struct tsr_jnodes list = {0};
    do
        tsr_jinja_push(p, &list, parse_product(p));
    while (tsr_jinja_skip_op(p, "~"));
    return chain(p, TSR_JN_CONCAT, line, &list);
}

static struct tsr_jnode *parse_sum(struct tsr_jparse *p)
{
    uint32_t line = tsr_jinja_peek(p)->line;
    struct tsr_jnodes list = {0};
    tsr_jinja_push(p, &list, parse_concat(p));
    for (;;) {
        if (tsr_jinja_skip_op(p, "+"))
            tsr_jinja_push_op(p, &list, TSR_JO_ADD, parse_concat(p));
        else if (tsr_jinja_skip_op(p, "-"))
            tsr_jinja_push_op(p, &list, TSR_JO_SUB, parse_concat(p));
        else
            return chain(p, TSR_JN_BINARY, line, &list);
    }
}

/* The comparison that stands here, or -1; moves behind it. */
static int comparison(struct tsr_jparse *p)
{
    static const char *const texts[] = {"==", "!=", "<", "<=", ">", ">="};
    for (int i = 0; i < 6; i++)
        if (tsr_jinja_skip_op(p, texts[i]))
            return TSR_JO_EQ + i;
    if (tsr_jinja_skip_name(p, "in"))
        return TSR_JO_IN;
    const struct tsr_jtoken *token = tsr_jinja_peek(p);
    if (tsr_jinja_is_name(token, "not") && tsr_jinja_is_name(token + 1, "in")) {
        p->at += 2;
        return TSR_JO_NOT_IN;
    }
    return -1;
}

static struct tsr_jnode *parse_compare(struct tsr_jparse *p)
{
    uint32_t line = tsr_jinja_peek(p)->line;
    struct tsr_jnodes list = {0};
    tsr_jinja_push(p, &list, parse_sum(p));
    for (int op; (op = comparison(p)) >= 0;)
        tsr_jinja_push_op(p, &list, (enum tsr_jop)op, parse_sum(p));
    return chain(p, TSR_JN_COMPARE, line, &list);
}

static struct tsr_jnode *parse_not(struct tsr_jparse *p)
{
    const struct tsr_jtoken *token = tsr_jinja_peek(p);
    if (!tsr_jinja_skip_name(p, "not"))
        return parse_compare(p);
    tsr_jinja_enter(p);
    struct tsr_jnode *node = tsr_jinja_node(p, TSR_JN_NOT, token->line, 1);
    node->child[0] = parse_not(p);
    tsr_jinja_leave(p);
    return node;
}

static struct tsr_jnode *parse_and(struct tsr_jparse *p)
{
    uint32_t line = tsr_jinja_peek(p)->line;
    struct tsr_jnodes list = {0};
    do
        tsr_jinja_push(p, &list, parse_not(p));
    while (tsr_jinja_skip_name(p, "and"));
    return chain(p, TSR_JN_AND, line, &list);
}

static struct tsr_jnode *parse_or(struct tsr_jparse *p)
{
    uint32_t line = tsr_jinja_peek(p)->line;
    struct tsr_jnodes list = {0};
    do
        tsr_jinja_push(p, &list, parse_and(p));
    while (tsr_jinja_skip_name(p, "or"));
    return chain(p, TSR_JN_OR, line, &list);
}

struct tsr_jnode *tsr_jinja_expression(struct tsr_jparse *p, bool with_condition)
{
    tsr_jinja_enter(p);
    struct tsr_jnode *value = parse_or(p);
    for (uint32_t n = 0; with_condition && tsr_jinja_is_name(tsr_jinja_peek(p), "if"); n++) {
        uint32_t line = tsr_jinja_next(p)->line;
        if (n == TSR_JINJA_NESTING_MAX)
            tsr_jinja_refuse(p, line, -ENOTSUP, "more than %u 'if' in a row", n);
        struct tsr_jnode *node = tsr_jinja_node(p, TSR_JN_TERNARY, line, 3);
        node->child[0] = value;
        node->child[1] = parse_or(p);
        if (tsr_jinja_skip_name(p, "else"))
            node->child[2] = tsr_jinja_expression(p, true);
        value = node;
    }
    tsr_jinja_leave(p);
    return value;
}

static bool ends_tuple(const struct tsr_jtoken *token)
{
    return token->kind == TSR_JT_VARIABLE_END || token->kind == TSR_JT_BLOCK_END ||
           tsr_jinja_is_op(token, ")");
}

struct tsr_jnode *tsr_jinja_tuple(struct tsr_jparse *p, bool with_condition)
{
    uint32_t line = tsr_jinja_peek(p)->line;
    struct tsr_jnodes items = {0};
    bool comma = false;
    for (;;) {
        if (ends_tuple(tsr_jinja_peek(p)))
            break;
        tsr_jinja_push(p, &items, tsr_jinja_expression(p, with_condition));
        if (!tsr_jinja_skip_op(p, ","))
            break;
        comma = true;
    }
    if (!comma && items.n == 1)
        return items.node[0];
    if (items.n == 0)
        unexpected(p, "an expression");
    return list_node(p, TSR_JN_TUPLE, line, &items);
}
