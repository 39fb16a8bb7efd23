/* A template as a tree. Immutable after parsing; all of it lies in the template's own arena. */
#ifndef TSR_JINJA_AST_PRIV_H
#define TSR_JINJA_AST_PRIV_H

#include <setjmp.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <tsr/shm/err.h>

enum {
    TSR_JINJA_NESTING_MAX = 100, /* of blocks, brackets and operators in a template's source */
};

/* Text of the source or of a literal. */
struct tsr_jtext {
    const char *text;
    uint32_t len;
};

enum tsr_jnode_kind {
    /* expressions */
    TSR_JN_CONST,  /* text, integer, real or flag by op (enum tsr_jconst) */
    TSR_JN_NAME,   /* symbol */
    TSR_JN_LIST,   /* child: items */
    TSR_JN_TUPLE,  /* child: items */
    TSR_JN_DICT,   /* child: key, value, key, value ... */
    TSR_JN_ATTR,   /* child[0].text */
    TSR_JN_ITEM,   /* child[0][child[1]] */
    TSR_JN_SLICE,  /* child[0][child[1]:child[2]:child[3]], NULL where left out */
    TSR_JN_CALL,   /* child[0](args) */
    TSR_JN_FILTER, /* child[0] | text(args); child[0] NULL: the body of a block */
    TSR_JN_TEST,   /* child[0] is text(args) */
    TSR_JN_NOT,    /* child[0] */
    TSR_JN_NEG,
    TSR_JN_POS,
    TSR_JN_AND, /* child: all of a and b and c */
    TSR_JN_OR,
    TSR_JN_BINARY,  /* ((child[0] ops[0] child[1]) ops[1] child[2]) ... (enum tsr_jop) */
    TSR_JN_CONCAT,  /* child: all of a ~ b ~ c */
    TSR_JN_COMPARE, /* child[0] ops[0] child[1] and child[1] ops[1] child[2] ... */
    TSR_JN_TERNARY, /* child[0] if child[1] else child[2] (NULL: undefined) */
    /* statements */
    TSR_JN_BODY,   /* child: statements */
    TSR_JN_DATA,   /* text */
    TSR_JN_OUTPUT, /* child[0] */
    TSR_JN_IF,     /* child[0]: condition, child[1]: body, child[2]: else or NULL */
    TSR_JN_FOR, /* child: target, iterable, condition or NULL, body, else or NULL; op: recursive */
    TSR_JN_SET, /* child: target, value */
    TSR_JN_SET_BLOCK,    /* child: target, filters or NULL, body */
    TSR_JN_TARGET_ATTR,  /* symbol.text of a namespace */
    TSR_JN_MACRO,        /* symbol, params, child: body, defaults ...; op: enum tsr_jmacro_use */
    TSR_JN_CALL_BLOCK,   /* child[0]: call, child[1]: macro that is the caller */
    TSR_JN_FILTER_BLOCK, /* child[0]: filters, child[1]: body */
    TSR_JN_WITH,         /* child: body, target, value, target, value ... */
    TSR_JN_SCOPE,        /* child[0]: body with a scope of its own */
    TSR_JN_BREAK,
    TSR_JN_CONTINUE,
};

enum tsr_jconst { TSR_JC_STRING, TSR_JC_INT, TSR_JC_FLOAT, TSR_JC_TRUE, TSR_JC_FALSE, TSR_JC_NONE };

enum tsr_jop {
    TSR_JO_ADD,
    TSR_JO_SUB,
    TSR_JO_MUL,
    TSR_JO_DIV,
    TSR_JO_FLOORDIV,
    TSR_JO_MOD,
    TSR_JO_POW,
    TSR_JO_EQ,
    TSR_JO_NE,
    TSR_JO_LT,
    TSR_JO_LE,
    TSR_JO_GT,
    TSR_JO_GE,
    TSR_JO_IN,
    TSR_JO_NOT_IN,
};

/* Special names that a macro's body mentions. */
enum tsr_jmacro_use { TSR_JM_VARARGS = 1, TSR_JM_KWARGS = 2, TSR_JM_CALLER = 4 };

struct tsr_jnode;

struct tsr_jargs {
    uint32_t n_pos, n_kw;
    struct tsr_jnode **pos;
    struct tsr_jtext *kw_name;
    struct tsr_jnode **kw;
    struct tsr_jnode *star, *star2; /* *args and **kwargs, NULL where there are none */
};

struct tsr_jnode {
    uint8_t kind; /* enum tsr_jnode_kind */
    uint8_t op;
    uint32_t line;
    uint32_t symbol; /* name, as a number */
    uint32_t n;
    struct tsr_jnode **child; /* [n] */
    union {
        struct tsr_jtext text;
        int64_t integer;
        double real;
        struct {
            uint32_t *symbols; /* parameters of a macro; the last n - 1 of them have defaults */
            uint32_t n;
        } params;
    };
    struct tsr_jargs *args;
    uint8_t *ops; /* [n - 1] of TSR_JN_BINARY and TSR_JN_COMPARE */
};

/* Memory in chunks, given back as a whole. */
struct tsr_jchunk {
    struct tsr_jchunk *next;
    size_t n, cap;
    _Alignas(16) char bytes[];
};

struct tsr_jtree {
    struct tsr_jchunk *chunks;
    struct tsr_jtext *symbols; /* [n_symbols] names in the order of their first appearance */
    uint32_t n_symbols;
    struct tsr_jnode *root;
};

/* Parses source[len]. 0, or -EINVAL, -ENOTSUP, -ENOMEM with a sentence. The tree is to be freed in
 * any case. */
int tsr_jinja_parse(struct tsr_jtree *tree, const char *source, size_t len, struct tsr_err *err);
void tsr_jinja_free(struct tsr_jtree *tree);

/* ---- shared by the lexer and the parser ---- */

enum tsr_jtoken_kind {
    TSR_JT_DATA,
    TSR_JT_VARIABLE_BEGIN,
    TSR_JT_VARIABLE_END,
    TSR_JT_BLOCK_BEGIN,
    TSR_JT_BLOCK_END,
    TSR_JT_NAME,
    TSR_JT_STRING,
    TSR_JT_INT,
    TSR_JT_FLOAT,
    TSR_JT_OPERATOR,
    TSR_JT_END,
};

struct tsr_jtoken {
    uint8_t kind;
    uint32_t line;
    struct tsr_jtext text; /* as written, but of strings: what they mean */
    union {
        int64_t integer;
        double real;
    };
};

/* A parse in progress. Whatever fails leaves through `leave`: there is nothing to unwind but the
 * arena. */
struct tsr_jparse {
    struct tsr_jtree *tree;
    struct tsr_err *err;
    int rc;
    jmp_buf leave;
    char *source; /* newlines normalized */
    size_t source_n;
    struct tsr_jtoken *tokens; /* ends with TSR_JT_END */
    uint32_t n_tokens, cap_tokens;
    uint32_t at;
    uint32_t depth, loops;
    uint32_t *symbol_slots; /* hash of tree->symbols: index + 1 */
    uint32_t symbol_mask, symbol_cap;
    uint8_t *uses; /* of the macro being parsed: enum tsr_jmacro_use */
};

_Noreturn __attribute__((format(printf, 4, 5))) void
tsr_jinja_refuse(struct tsr_jparse *p, uint32_t line, int rc, const char *format, ...);
void *tsr_jinja_alloc(struct tsr_jparse *p, size_t bytes);
void tsr_jinja_lex(struct tsr_jparse *p);

/* Expressions (parse_expr.c); statements call them. */
struct tsr_jnode *tsr_jinja_node(struct tsr_jparse *p, enum tsr_jnode_kind kind, uint32_t line,
                                 uint32_t n_children);
uint32_t tsr_jinja_symbol(struct tsr_jparse *p, struct tsr_jtext name);
struct tsr_jnode *tsr_jinja_expression(struct tsr_jparse *p, bool with_condition);
/* a, b, c: a tuple where there is a comma. */
struct tsr_jnode *tsr_jinja_tuple(struct tsr_jparse *p, bool with_condition);
/* name | filter | filter(...): the filters alone, innermost child NULL. */
struct tsr_jnode *tsr_jinja_filters(struct tsr_jparse *p, struct tsr_jnode *inner);
struct tsr_jnode *tsr_jinja_call_args(struct tsr_jparse *p, struct tsr_jnode *callee);

const struct tsr_jtoken *tsr_jinja_peek(const struct tsr_jparse *p);
const struct tsr_jtoken *tsr_jinja_next(struct tsr_jparse *p);
bool tsr_jinja_is_name(const struct tsr_jtoken *token, const char *name);
bool tsr_jinja_is_op(const struct tsr_jtoken *token, const char *op);
bool tsr_jinja_skip_name(struct tsr_jparse *p, const char *name);
bool tsr_jinja_skip_op(struct tsr_jparse *p, const char *op);
void tsr_jinja_expect_op(struct tsr_jparse *p, const char *op);
struct tsr_jtext tsr_jinja_expect_name(struct tsr_jparse *p, const char *what);
void tsr_jinja_enter(struct tsr_jparse *p);
void tsr_jinja_leave(struct tsr_jparse *p);

/* A growing array of nodes, each with the operator that stands before it. */
struct tsr_jnodes {
    struct tsr_jnode **node;
    uint8_t *op;
    uint32_t n, cap;
};
void tsr_jinja_push(struct tsr_jparse *p, struct tsr_jnodes *list, struct tsr_jnode *node);
void tsr_jinja_push_op(struct tsr_jparse *p, struct tsr_jnodes *list, enum tsr_jop op,
                       struct tsr_jnode *node);

#endif
