/* Jinja2's statements (jinja2/parser.py and ext.py of 3.1), with transformers' {% generation %}. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "ast_priv.h"

static struct tsr_jnode *parse_body(struct tsr_jparse *p, const char *const *ends);

static void expect_block_end(struct tsr_jparse *p)
{
    const struct tsr_jtoken *token = tsr_jinja_peek(p);
    if (token->kind != TSR_JT_BLOCK_END)
        tsr_jinja_refuse(p, token->line, -EINVAL, "'%.*s' where '%%}' should stand",
                         (int)(token->text.len < 60 ? token->text.len : 60), token->text.text);
    p->at++;
}

/* A body up to {% one of ends; p is then behind that name. */
static struct tsr_jnode *parse_until(struct tsr_jparse *p, const char *const *ends)
{
    expect_block_end(p);
    struct tsr_jnode *body = parse_body(p, ends);
    p->at++;
    return body;
}

static const struct tsr_jtoken *last(const struct tsr_jparse *p)
{
    return &p->tokens[p->at - 1];
}

static struct tsr_jnode *name_target(struct tsr_jparse *p, const char *what)
{
    const struct tsr_jtoken *token = tsr_jinja_peek(p);
    static const char *const reserved[] = {"true", "false", "none", "True", "False", "None"};
    struct tsr_jtext name = tsr_jinja_expect_name(p, what);
    for (size_t i = 0; i < sizeof(reserved) / sizeof(reserved[0]); i++)
        if (tsr_jinja_is_name(token, reserved[i]))
            tsr_jinja_refuse(p, token->line, -EINVAL, "cannot assign to '%s'", reserved[i]);
    struct tsr_jnode *node = tsr_jinja_node(p, TSR_JN_NAME, token->line, 0);
    node->symbol = tsr_jinja_symbol(p, name);
    node->text = name;
    return node;
}

/* name, name.attribute (with_attribute), (a, b), a, b */
static struct tsr_jnode *parse_target(struct tsr_jparse *p, bool with_attribute, bool tuples)
{
    struct tsr_jnodes items = {0};
    uint32_t line = tsr_jinja_peek(p)->line;
    bool comma = false;
    tsr_jinja_enter(p);
    for (;;) {
        struct tsr_jnode *item;
        if (tsr_jinja_skip_op(p, "(")) {
            item = parse_target(p, with_attribute, true);
            tsr_jinja_expect_op(p, ")");
        } else {
            item = name_target(p, "a name to assign to");
            if (with_attribute && tsr_jinja_skip_op(p, ".")) {
                item->kind = TSR_JN_TARGET_ATTR;
                item->text = tsr_jinja_expect_name(p, "an attribute");
            }
        }
        tsr_jinja_push(p, &items, item);
        if (!tuples || !tsr_jinja_skip_op(p, ","))
            break;
        comma = true;
        if (tsr_jinja_peek(p)->kind != TSR_JT_NAME || tsr_jinja_is_name(tsr_jinja_peek(p), "in"))
            break;
    }
    tsr_jinja_leave(p);
    if (!comma)
        return items.node[0];
    struct tsr_jnode *node = tsr_jinja_node(p, TSR_JN_TUPLE, line, 0);
    node->n = items.n;
    node->child = items.node;
    return node;
}

static struct tsr_jnode *parse_if(struct tsr_jparse *p, uint32_t line)
{
    static const char *const ends[] = {"elif", "else", "endif", NULL};
    static const char *const end[] = {"endif", NULL};
    struct tsr_jnode *first = NULL, *tail = NULL;
    for (;;) {
        struct tsr_jnode *node = tsr_jinja_node(p, TSR_JN_IF, line, 3);
        node->child[0] = tsr_jinja_tuple(p, false);
        node->child[1] = parse_until(p, ends);
        if (tail)
            tail->child[2] = node;
        else
            first = node;
        tail = node;
        line = last(p)->line;
        if (tsr_jinja_is_name(last(p), "elif"))
            continue;
        if (tsr_jinja_is_name(last(p), "else"))
            node->child[2] = parse_until(p, end);
        return first;
    }
}

static struct tsr_jnode *parse_for(struct tsr_jparse *p, uint32_t line)
{
    static const char *const ends[] = {"endfor", "else", NULL};
    static const char *const end[] = {"endfor", NULL};
    struct tsr_jnode *node = tsr_jinja_node(p, TSR_JN_FOR, line, 5);
    node->child[0] = parse_target(p, false, true);
    if (!tsr_jinja_skip_name(p, "in"))
        tsr_jinja_refuse(p, line, -EINVAL, "'{%% for %%}' without 'in'");
    node->child[1] = tsr_jinja_tuple(p, false);
    if (tsr_jinja_skip_name(p, "if"))
        node->child[2] = tsr_jinja_expression(p, true);
    node->op = tsr_jinja_skip_name(p, "recursive");
    p->loops++;
    node->child[3] = parse_until(p, ends);
    p->loops--;
    if (tsr_jinja_is_name(last(p), "else"))
        node->child[4] = parse_until(p, end);
    return node;
}

static struct tsr_jnode *parse_set(struct tsr_jparse *p, uint32_t line)
{
    static const char *const end[] = {"endset", NULL};
    struct tsr_jnode *target = parse_target(p, true, true);
    if (tsr_jinja_skip_op(p, "=")) {
        struct tsr_jnode *node = tsr_jinja_node(p, TSR_JN_SET, line, 2);
        node->child[0] = target;
        node->child[1] = tsr_jinja_tuple(p, true);
        return node;
    }
    struct tsr_jnode *node = tsr_jinja_node(p, TSR_JN_SET_BLOCK, line, 3);
    node->child[0] = target;
    if (tsr_jinja_skip_op(p, "|"))
        node->child[1] = tsr_jinja_filters(p, NULL);
    node->child[2] = parse_until(p, end);
    return node;
}

/* (a, b=1): parameters of a macro into node. */
static void parse_params(struct tsr_jparse *p, struct tsr_jnode *node, struct tsr_jnodes *children)
{
    struct tsr_jnodes names = {0};
    tsr_jinja_expect_op(p, "(");
    while (!tsr_jinja_skip_op(p, ")")) {
        if (names.n)
            tsr_jinja_expect_op(p, ",");
        tsr_jinja_push(p, &names, name_target(p, "a parameter"));
        if (tsr_jinja_skip_op(p, "="))
            tsr_jinja_push(p, children, tsr_jinja_expression(p, true));
        else if (children->n > 1)
            tsr_jinja_refuse(p, tsr_jinja_peek(p)->line, -EINVAL,
                             "a parameter without a default behind one with a default");
    }
    node->params.n = names.n;
    node->params.symbols = tsr_jinja_alloc(p, (names.n + 1) * sizeof(*node->params.symbols));
    for (uint32_t i = 0; i < names.n; i++)
        node->params.symbols[i] = names.node[i]->symbol;
}

static struct tsr_jnode *finish_macro(struct tsr_jparse *p, struct tsr_jnode *node,
                                      struct tsr_jnodes *children, const char *const *end)
{
    uint8_t uses = 0, *outer = p->uses;
    uint32_t loops = p->loops;
    p->uses = &uses;
    p->loops = 0;
    children->node[0] = parse_until(p, end);
    p->uses = outer;
    p->loops = loops;
    if (outer)
        *outer |= uses;
    node->op = uses;
    node->n = children->n;
    node->child = children->node;
    return node;
}

static struct tsr_jnode *parse_macro(struct tsr_jparse *p, uint32_t line)
{
    static const char *const end[] = {"endmacro", NULL};
    struct tsr_jnodes children = {0};
    struct tsr_jnode *node = tsr_jinja_node(p, TSR_JN_MACRO, line, 0);
    node->symbol = name_target(p, "the name of a macro")->symbol;
    tsr_jinja_push(p, &children, NULL);
    parse_params(p, node, &children);
    return finish_macro(p, node, &children, end);
}

static struct tsr_jnode *parse_call(struct tsr_jparse *p, uint32_t line)
{
    static const char *const end[] = {"endcall", NULL};
    struct tsr_jnodes children = {0};
    struct tsr_jnode *caller = tsr_jinja_node(p, TSR_JN_MACRO, line, 0);
    caller->symbol = tsr_jinja_symbol(p, (struct tsr_jtext){"caller", 6});
    tsr_jinja_push(p, &children, NULL);
    if (tsr_jinja_is_op(tsr_jinja_peek(p), "("))
        parse_params(p, caller, &children);
    struct tsr_jnode *node = tsr_jinja_node(p, TSR_JN_CALL_BLOCK, line, 2);
    node->child[0] = tsr_jinja_expression(p, true);
    if (node->child[0]->kind != TSR_JN_CALL)
        tsr_jinja_refuse(p, line, -EINVAL, "'{%% call %%}' without a call");
    node->child[1] = finish_macro(p, caller, &children, end);
    return node;
}

static struct tsr_jnode *parse_with(struct tsr_jparse *p, uint32_t line)
{
    static const char *const end[] = {"endwith", NULL};
    struct tsr_jnodes children = {0};
    tsr_jinja_push(p, &children, NULL);
    while (tsr_jinja_peek(p)->kind != TSR_JT_BLOCK_END) {
        if (children.n > 1)
            tsr_jinja_expect_op(p, ",");
        tsr_jinja_push(p, &children, parse_target(p, false, false));
        tsr_jinja_expect_op(p, "=");
        tsr_jinja_push(p, &children, tsr_jinja_expression(p, true));
    }
    children.node[0] = parse_until(p, end);
    struct tsr_jnode *node = tsr_jinja_node(p, TSR_JN_WITH, line, 0);
    node->n = children.n;
    node->child = children.node;
    return node;
}

static struct tsr_jnode *parse_filter_block(struct tsr_jparse *p, uint32_t line)
{
    static const char *const end[] = {"endfilter", NULL};
    struct tsr_jnode *node = tsr_jinja_node(p, TSR_JN_FILTER_BLOCK, line, 2);
    node->child[0] = tsr_jinja_filters(p, NULL);
    node->child[1] = parse_until(p, end);
    return node;
}

static struct tsr_jnode *parse_statement(struct tsr_jparse *p)
{
    static const char *const end_generation[] = {"endgeneration", NULL};
    const struct tsr_jtoken *tag = tsr_jinja_peek(p);
    tsr_jinja_expect_name(p, "the name of a tag");
    struct tsr_jnode *node;
    if (tsr_jinja_is_name(tag, "if")) {
        node = parse_if(p, tag->line);
    } else if (tsr_jinja_is_name(tag, "for")) {
        node = parse_for(p, tag->line);
    } else if (tsr_jinja_is_name(tag, "set")) {
        node = parse_set(p, tag->line);
    } else if (tsr_jinja_is_name(tag, "macro")) {
        node = parse_macro(p, tag->line);
    } else if (tsr_jinja_is_name(tag, "call")) {
        node = parse_call(p, tag->line);
    } else if (tsr_jinja_is_name(tag, "with")) {
        node = parse_with(p, tag->line);
    } else if (tsr_jinja_is_name(tag, "filter")) {
        node = parse_filter_block(p, tag->line);
    } else if (tsr_jinja_is_name(tag, "generation")) {
        node = tsr_jinja_node(p, TSR_JN_SCOPE, tag->line, 1);
        node->child[0] = parse_until(p, end_generation);
    } else if (tsr_jinja_is_name(tag, "break") || tsr_jinja_is_name(tag, "continue")) {
        if (p->loops == 0)
            tsr_jinja_refuse(p, tag->line, -EINVAL, "'{%% %.*s %%}' outside of a loop",
                             (int)tag->text.len, tag->text.text);
        node = tsr_jinja_node(p, tag->text.text[0] == 'b' ? TSR_JN_BREAK : TSR_JN_CONTINUE,
                              tag->line, 0);
    } else {
        static const char *const known[] = {"block", "extends",    "include", "import", "from",
                                            "do",    "autoescape", "trans",   "debug"};
        int rc = -EINVAL;
        for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++)
            rc = tsr_jinja_is_name(tag, known[i]) ? -ENOTSUP : rc;
        tsr_jinja_refuse(p, tag->line, rc, "the tag '{%% %.*s %%}' is %s",
                         (int)(tag->text.len < 60 ? tag->text.len : 60), tag->text.text,
                         rc == -EINVAL ? "unknown, or stands where it does not belong"
                                       : "not supported");
    }
    return node;
}

static bool is_end(const struct tsr_jparse *p, const char *const *ends)
{
    for (; *ends; ends++)
        if (tsr_jinja_is_name(tsr_jinja_peek(p), *ends))
            return true;
    return false;
}

/* Statements up to "{%" and one of ends (p is then at that name), or to the end of the template
 * (ends NULL). */
static struct tsr_jnode *parse_body(struct tsr_jparse *p, const char *const *ends)
{
    static const char *const none[] = {NULL};
    struct tsr_jnodes list = {0};
    uint32_t line = tsr_jinja_peek(p)->line;
    struct tsr_jnode *node;
    tsr_jinja_enter(p);
    for (;;) {
        const struct tsr_jtoken *token = tsr_jinja_next(p);
        if (token->kind == TSR_JT_END) {
            if (ends)
                tsr_jinja_refuse(p, token->line, -EINVAL,
                                 "the template ends without the '{%% %s %%}' of line %u",
                                 ends[0][0] == 'e' && ends[0][1] == 'l' ? "endif" : ends[0], line);
            break;
        } else if (token->kind == TSR_JT_DATA) {
            node = tsr_jinja_node(p, TSR_JN_DATA, token->line, 0);
            node->text = token->text;
        } else if (token->kind == TSR_JT_VARIABLE_BEGIN) {
            node = tsr_jinja_node(p, TSR_JN_OUTPUT, token->line, 1);
            node->child[0] = tsr_jinja_tuple(p, true);
            const struct tsr_jtoken *end = tsr_jinja_peek(p);
            if (end->kind != TSR_JT_VARIABLE_END)
                tsr_jinja_refuse(p, end->line, -EINVAL, "'%.*s' where '}}' should stand",
                                 (int)(end->text.len < 60 ? end->text.len : 60), end->text.text);
            p->at++;
        } else {
            if (is_end(p, ends ? ends : none))
                break;
            node = parse_statement(p);
            expect_block_end(p);
        }
        tsr_jinja_push(p, &list, node);
    }
    tsr_jinja_leave(p);
    node = tsr_jinja_node(p, TSR_JN_BODY, line, 0);
    node->n = list.n;
    node->child = list.node;
    return node;
}

/* The source with \r\n and \r as \n, and without one newline at its end. */
static void normalize(struct tsr_jparse *p, const char *source, size_t len)
{
    char *out = tsr_jinja_alloc(p, len + 1);
    size_t n = 0;
    for (size_t i = 0; i < len; i++) {
        if (source[i] == '\r') {
            out[n++] = '\n';
            if (i + 1 < len && source[i + 1] == '\n')
                i++;
        } else {
            out[n++] = source[i];
        }
    }
    if (n && out[n - 1] == '\n')
        n--;
    p->source = out;
    p->source_n = n;
}

static void parse_all(struct tsr_jparse *p, const char *source, size_t len)
{
    normalize(p, source, len);
    tsr_jinja_lex(p);
    uint32_t names = 1, slots = 16;
    for (uint32_t i = 0; i < p->n_tokens; i++)
        names += p->tokens[i].kind == TSR_JT_NAME;
    names++; /* "caller" */
    while (slots < 2 * names)
        slots *= 2;
    p->tree->symbols = tsr_jinja_alloc(p, names * sizeof(*p->tree->symbols));
    p->symbol_slots = calloc(slots, sizeof(*p->symbol_slots));
    p->symbol_mask = slots - 1;
    if (!p->symbol_slots)
        tsr_jinja_refuse(p, 0, -ENOMEM, "no memory to parse it");
    p->tree->root = parse_body(p, NULL);
}

int tsr_jinja_parse(struct tsr_jtree *tree, const char *source, size_t len, struct tsr_err *err)
{
    *tree = (struct tsr_jtree){0};
    struct tsr_jparse *p = calloc(1, sizeof(*p));
    if (!p)
        return tsr_err_set(err, -ENOMEM, "no memory to parse a template of %zu bytes", len);
    p->tree = tree;
    p->err = err;
    if (setjmp(p->leave) == 0)
        parse_all(p, source, len);
    int rc = p->rc;
    free(p->tokens);
    free(p->symbol_slots);
    free(p);
    return rc;
}

void tsr_jinja_free(struct tsr_jtree *tree)
{
    while (tree->chunks) {
        struct tsr_jchunk *next = tree->chunks->next;
        free(tree->chunks);
        tree->chunks = next;
    }
    *tree = (struct tsr_jtree){0};
}
