/* Rendering: values, the memory they live in, and what the parts of the interpreter share.
 *
 * All values lie in the scratch's arenas and are gone with the next rendering. Whatever fails
 * leaves by longjmp through run->leave: there is never anything to unwind. Strings lie in an arena
 * of their own with a mark for every byte in a parallel one: 1 where it came from the template, 0
 * where it came from the request. */
#ifndef TSR_JINJA_RUN_PRIV_H
#define TSR_JINJA_RUN_PRIV_H

#include <setjmp.h>

#include <tsr/text/template.h>

#include "ast_priv.h"
#include "text_priv.h"

enum tsr_jkind {
    TSR_JV_ABSENT, /* no value at all: an argument that was not given */
    TSR_JV_UNDEFINED,
    TSR_JV_NONE,
    TSR_JV_BOOL,
    TSR_JV_INT,
    TSR_JV_FLOAT,
    TSR_JV_STRING,
    TSR_JV_SEQ,
    TSR_JV_DICT,
    TSR_JV_NAMESPACE, /* dict */
    TSR_JV_MACRO,
    TSR_JV_BUILTIN, /* a global function */
    TSR_JV_METHOD,  /* bound to a value */
    TSR_JV_LOOP,
    TSR_JV_CYCLER,
    TSR_JV_JOINER,
};

/* Where a string's marks are not in the arena, all its bytes have one. markup: as `safe` leaves it,
 * '+' escapes what it is joined to. */
struct tsr_jstr {
    const char *text;
    const uint8_t *marks; /* [len], or NULL */
    uint32_t len;
    bool trusted; /* where marks is NULL */
    bool markup;
};

/* Sequences that differ in what may be done with them. */
enum tsr_jseq_kind {
    TSR_JS_LIST,
    TSR_JS_TUPLE,
    TSR_JS_RANGE,
    TSR_JS_VIEW,      /* of a mapping: keys(), values(), items() */
    TSR_JS_GENERATOR, /* what map, select ... make: always true, without a length, used up by the
                         first loop */
};

struct tsr_jvalue;

struct tsr_jseq {
    enum tsr_jseq_kind kind;
    bool used_up;
    const char *view; /* "dict_items" ... of a view */
    uint32_t n, cap;
    struct tsr_jvalue *items;
};

/* What an undefined value stood for. */
enum tsr_jundef_kind { TSR_JU_NAME, TSR_JU_ATTR, TSR_JU_ITEM, TSR_JU_UNSAFE, TSR_JU_TEXT };

struct tsr_jundef {
    enum tsr_jundef_kind kind;
    const char *of; /* the type of the value that lacks it */
    struct tsr_jtext name;
    int64_t index;
};

struct tsr_jvalue {
    enum tsr_jkind kind;
    union {
        bool truth;
        int64_t integer;
        double real;
        const struct tsr_jstr *str;
        struct tsr_jseq *seq;
        struct tsr_jdict *dict;
        const struct tsr_jundef *undef;
        const struct tsr_jmacro *macro;
        const struct tsr_jbuiltin *builtin;
        const struct tsr_jmethod *method;
        struct tsr_jloop *loop;
        struct tsr_jcycler *cycler;
    };
};

struct tsr_jentry {
    struct tsr_jvalue key, value;
};

/* In the order of insertion. Invariant: more than TSR_JD_LINEAR entries have slots, of which at
 * least half are empty. */
enum { TSR_JD_LINEAR = 8 };
struct tsr_jdict {
    uint32_t n, cap;
    struct tsr_jentry *entries;
    uint32_t *slots; /* index + 1 */
    uint32_t mask;
};

struct tsr_jscope_var {
    uint32_t symbol;
    struct tsr_jvalue value;
};

struct tsr_jscope {
    struct tsr_jscope *parent;
    bool captured; /* a macro keeps it: it cannot be used again */
    uint32_t n, cap;
    struct tsr_jscope_var *vars;
};

struct tsr_jmacro {
    const struct tsr_jnode *node;
    struct tsr_jscope *scope; /* in which it was defined */
    const char *name;
    uint32_t name_len;
};

struct tsr_jloop {
    const struct tsr_jseq *seq;
    uint32_t index, depth;
    const struct tsr_jnode *recursive; /* the loop, where it is called like a function */
    struct tsr_jscope *scope;          /* around the loop */
    struct tsr_jvalue changed;         /* the last arguments of changed(), absent before */
};

struct tsr_jcycler {
    const struct tsr_jseq *items;
    uint32_t at;
};

/* Arguments of a call. */
struct tsr_jcall {
    uint32_t n_pos, n_kw;
    struct tsr_jvalue *pos;
    struct tsr_jtext *kw_name;
    struct tsr_jvalue *kw;
};

struct tsr_jrun {
    const struct tsr_jtree *tree;
    struct tsr_template_limits limits;
    char *memory; /* [memory_cap] values */
    size_t memory_n, memory_cap;
    char *text; /* [text_cap] strings; text_marks of the same length */
    uint8_t *text_marks;
    size_t text_n, text_cap;
    char *out; /* [out_cap] what was written so far; out_marks of the same length */
    uint8_t *out_marks;
    size_t out_n, out_cap;
    uint64_t steps; /* left */
    uint32_t depth; /* left */
    uint32_t line;  /* of the template, for errors */
    struct tsr_jdict *context;
    struct tsr_jscope *scope;
    int64_t now_s;
    int32_t utc_offset_s;
    int rc;
    struct tsr_err *err;
    jmp_buf leave;
};

typedef struct tsr_jvalue tsr_jfilter_fn(struct tsr_jrun *r, struct tsr_jvalue self,
                                         const struct tsr_jcall *call);

struct tsr_jbuiltin {
    const char *name;
    tsr_jfilter_fn *fn; /* self is absent for functions, the value for filters, tests and methods */
};

struct tsr_jmethod {
    struct tsr_jvalue self;
    const struct tsr_jbuiltin *builtin;
};

/* ---- memory.c: errors, budgets, arenas ---- */

_Noreturn __attribute__((format(printf, 3, 4))) void tsr_j_fail(struct tsr_jrun *r, int rc,
                                                                const char *format, ...);
/* Takes n steps from the budget. */
void tsr_j_charge(struct tsr_jrun *r, uint64_t n);
void tsr_j_enter(struct tsr_jrun *r);
static inline void tsr_j_leave(struct tsr_jrun *r)
{
    r->depth++;
}
/* Zeroed, aligned to 16. */
void *tsr_j_alloc(struct tsr_jrun *r, size_t bytes);
/* Appends to what is written. */
void tsr_j_write(struct tsr_jrun *r, const char *text, const uint8_t *marks, bool trusted,
                 size_t len);
/* Everything written since `from` as a string, taken away from what is written. */
struct tsr_jvalue tsr_j_capture(struct tsr_jrun *r, size_t from);

/* ---- string.c ---- */

/* A string under construction, at the end of the text arena where nothing else was put there
 * meanwhile. */
struct tsr_jbuild {
    size_t off, len;
};
void tsr_jb_begin(struct tsr_jrun *r, struct tsr_jbuild *b);
void tsr_jb_put(struct tsr_jrun *r, struct tsr_jbuild *b, const char *text, const uint8_t *marks,
                bool trusted, size_t len);
void tsr_jb_str(struct tsr_jrun *r, struct tsr_jbuild *b, const struct tsr_jstr *s);
void tsr_jb_sub(struct tsr_jrun *r, struct tsr_jbuild *b, const struct tsr_jstr *s, size_t from,
                size_t to);
void tsr_jb_text(struct tsr_jrun *r, struct tsr_jbuild *b, const char *text); /* trusted */
void tsr_jb_char(struct tsr_jrun *r, struct tsr_jbuild *b, uint32_t c, bool trusted);
struct tsr_jvalue tsr_jb_end(struct tsr_jrun *r, const struct tsr_jbuild *b);

/* text stays where it is. */
struct tsr_jvalue tsr_j_string(struct tsr_jrun *r, const char *text, size_t len, bool trusted);
struct tsr_jvalue tsr_j_cstring(struct tsr_jrun *r, const char *text); /* trusted, a literal */
struct tsr_jvalue tsr_j_sub(struct tsr_jrun *r, const struct tsr_jstr *s, size_t from, size_t to);
struct tsr_jvalue tsr_j_join(struct tsr_jrun *r, const struct tsr_jstr *a,
                             const struct tsr_jstr *b);
bool tsr_j_str_trusted(const struct tsr_jstr *s, size_t at);
bool tsr_j_str_is(const struct tsr_jstr *s, const char *text);
bool tsr_j_str_equal(const struct tsr_jstr *a, const struct tsr_jstr *b);
/* First place of b in a at or after from; SIZE_MAX: none. Linear. */
size_t tsr_j_str_find(struct tsr_jrun *r, const struct tsr_jstr *a, const struct tsr_jstr *b,
                      size_t from);
/* Byte offset of character number i (which is at most the count). */
size_t tsr_j_str_offset(const struct tsr_jstr *s, size_t i);
struct tsr_jvalue tsr_j_escape(struct tsr_jrun *r, const struct tsr_jstr *s);

/* ---- value.c ---- */

static inline struct tsr_jvalue tsr_j_none(void)
{
    return (struct tsr_jvalue){.kind = TSR_JV_NONE};
}
static inline struct tsr_jvalue tsr_j_bool(bool truth)
{
    return (struct tsr_jvalue){.kind = TSR_JV_BOOL, .truth = truth};
}
static inline struct tsr_jvalue tsr_j_int(int64_t integer)
{
    return (struct tsr_jvalue){.kind = TSR_JV_INT, .integer = integer};
}
static inline struct tsr_jvalue tsr_j_float(double real)
{
    return (struct tsr_jvalue){.kind = TSR_JV_FLOAT, .real = real};
}
static inline bool tsr_j_is_seq(struct tsr_jvalue v, enum tsr_jseq_kind kind)
{
    return v.kind == TSR_JV_SEQ && v.seq->kind == kind;
}

struct tsr_jvalue tsr_j_undefined(struct tsr_jrun *r, enum tsr_jundef_kind kind, const char *of,
                                  struct tsr_jtext name, int64_t index);
/* The sentence that an undefined value raises. */
_Noreturn void tsr_j_fail_undefined(struct tsr_jrun *r, struct tsr_jvalue v);
/* Python's name of the type. */
const char *tsr_j_type(struct tsr_jvalue v);
bool tsr_j_truth(struct tsr_jvalue v);
bool tsr_j_equal(struct tsr_jrun *r, struct tsr_jvalue a, struct tsr_jvalue b);
/* -1, 0, 1; fails where the types have no order. op names the operator in the error. */
int tsr_j_order(struct tsr_jrun *r, struct tsr_jvalue a, struct tsr_jvalue b, const char *op);
bool tsr_j_contains(struct tsr_jrun *r, struct tsr_jvalue item, struct tsr_jvalue in);
/* The integer that v is (bools are); fails otherwise, what names it. */
int64_t tsr_j_as_int(struct tsr_jrun *r, struct tsr_jvalue v, const char *what);
const struct tsr_jstr *tsr_j_as_str(struct tsr_jrun *r, struct tsr_jvalue v, const char *what);

struct tsr_jvalue tsr_j_seq(struct tsr_jrun *r, enum tsr_jseq_kind kind, uint32_t cap);
void tsr_j_append(struct tsr_jrun *r, struct tsr_jseq *seq, struct tsr_jvalue item);
/* The items of anything that can be iterated (characters of a string, keys of a mapping). Uses up a
 * generator. */
const struct tsr_jseq *tsr_j_iterate(struct tsr_jrun *r, struct tsr_jvalue v);
bool tsr_j_is_iterable(struct tsr_jvalue v);
/* len(); fails as Python does. */
int64_t tsr_j_length(struct tsr_jrun *r, struct tsr_jvalue v);

struct tsr_jvalue tsr_j_dict(struct tsr_jrun *r);
struct tsr_jvalue *tsr_j_dict_find(struct tsr_jrun *r, const struct tsr_jdict *dict,
                                   struct tsr_jvalue key);
struct tsr_jvalue *tsr_j_dict_get(struct tsr_jrun *r, const struct tsr_jdict *dict, const char *key,
                                  size_t len);
void tsr_j_dict_set(struct tsr_jrun *r, struct tsr_jdict *dict, struct tsr_jvalue key,
                    struct tsr_jvalue value);

/* ---- show.c ---- */

/* str(v), repr(v), json.dumps(v) appended. */
void tsr_j_str_to(struct tsr_jrun *r, struct tsr_jbuild *b, struct tsr_jvalue v);
void tsr_j_repr_to(struct tsr_jrun *r, struct tsr_jbuild *b, struct tsr_jvalue v);
/* str(v); v itself where it is a string. */
const struct tsr_jstr *tsr_j_text(struct tsr_jrun *r, struct tsr_jvalue v);
/* repr() of a float into out [32]. */
void tsr_j_float_text(double real, char *out);
tsr_jfilter_fn tsr_j_tojson;

/* ---- json.c ---- */

/* Parses json[len] into an untrusted value; fails with line and column of the JSON. */
struct tsr_jvalue tsr_j_json(struct tsr_jrun *r, const char *json, size_t len);

/* ---- ops.c ---- */

struct tsr_jvalue tsr_j_binary(struct tsr_jrun *r, enum tsr_jop op, struct tsr_jvalue a,
                               struct tsr_jvalue b);
bool tsr_j_compare(struct tsr_jrun *r, enum tsr_jop op, struct tsr_jvalue a, struct tsr_jvalue b);
struct tsr_jvalue tsr_j_negate(struct tsr_jrun *r, struct tsr_jvalue v, bool minus);
struct tsr_jvalue tsr_j_attr(struct tsr_jrun *r, struct tsr_jvalue of, struct tsr_jtext name);
struct tsr_jvalue tsr_j_item(struct tsr_jrun *r, struct tsr_jvalue of, struct tsr_jvalue index);
struct tsr_jvalue tsr_j_slice(struct tsr_jrun *r, struct tsr_jvalue of, struct tsr_jvalue from,
                              struct tsr_jvalue to, struct tsr_jvalue step);

/* ---- format.c: "..." % args, str.format() ---- */

struct tsr_jvalue tsr_j_percent(struct tsr_jrun *r, const struct tsr_jstr *format,
                                struct tsr_jvalue args);
tsr_jfilter_fn tsr_j_str_format;

/* ---- tables ---- */

const struct tsr_jbuiltin *tsr_j_find_filter(struct tsr_jtext name);
const struct tsr_jbuiltin *tsr_j_find_test(struct tsr_jtext name);
const struct tsr_jbuiltin *tsr_j_find_global(struct tsr_jtext name);
/* A method of v's type; NULL: none. *unsafe: it exists, but the sandbox forbids it. */
const struct tsr_jbuiltin *tsr_j_find_method(struct tsr_jvalue v, struct tsr_jtext name,
                                             bool *unsafe);
const struct tsr_jbuiltin *tsr_j_find_in(const struct tsr_jbuiltin *table, size_t n,
                                         struct tsr_jtext name);
extern const struct tsr_jbuiltin tsr_j_text_filters[]; /* of filter_text.c */
extern const size_t tsr_j_n_text_filters;

/* ---- case.c, strip.c: what methods and filters of strings share ---- */

enum tsr_jcase { TSR_JC_UPPER, TSR_JC_LOWER, TSR_JC_CAPITALIZE, TSR_JC_SWAP, TSR_JC_TITLE };
struct tsr_jvalue tsr_j_change_case(struct tsr_jrun *r, const struct tsr_jstr *s,
                                    enum tsr_jcase how);
/* chars NULL: white space. */
struct tsr_jvalue tsr_j_strip(struct tsr_jrun *r, const struct tsr_jstr *s,
                              const struct tsr_jstr *chars, bool left, bool right);
struct tsr_jvalue tsr_j_replace(struct tsr_jrun *r, const struct tsr_jstr *s,
                                const struct tsr_jstr *from, const struct tsr_jstr *to,
                                int64_t count);
/* str.splitlines() */
struct tsr_jvalue tsr_j_split_lines(struct tsr_jrun *r, const struct tsr_jstr *s, bool keep);
/* Fills up to width characters on both sides. */
struct tsr_jvalue tsr_j_pad(struct tsr_jrun *r, const struct tsr_jstr *s, int64_t width,
                            const struct tsr_jstr *fill, bool left, bool right);

/* Sorts a call's arguments into out[n] by names (absent where not given); fails on unknown, double
 * or too many ones. */
void tsr_j_bind(struct tsr_jrun *r, const struct tsr_jcall *call, const char *function,
                const char *const *names, uint32_t n, struct tsr_jvalue *out);

/* ---- eval.c, exec.c ---- */

struct tsr_jvalue tsr_j_eval(struct tsr_jrun *r, const struct tsr_jnode *node);
struct tsr_jvalue tsr_j_call(struct tsr_jrun *r, struct tsr_jvalue callee,
                             const struct tsr_jcall *call);
/* Evaluates the arguments of a call, a filter or a test. */
void tsr_j_args(struct tsr_jrun *r, const struct tsr_jargs *args, struct tsr_jcall *out);
struct tsr_jvalue tsr_j_filter(struct tsr_jrun *r, struct tsr_jtext name, struct tsr_jvalue self,
                               const struct tsr_jcall *call);
bool tsr_j_test(struct tsr_jrun *r, struct tsr_jtext name, struct tsr_jvalue self,
                const struct tsr_jcall *call);
struct tsr_jvalue tsr_j_filter_node(struct tsr_jrun *r, const struct tsr_jnode *node,
                                    struct tsr_jvalue inner);

void tsr_j_exec(struct tsr_jrun *r, const struct tsr_jnode *body);
struct tsr_jvalue tsr_j_call_macro(struct tsr_jrun *r, const struct tsr_jmacro *macro,
                                   const struct tsr_jcall *call);
/* loop(children) of a recursive loop. */
struct tsr_jvalue tsr_j_call_loop(struct tsr_jrun *r, const struct tsr_jloop *loop,
                                  struct tsr_jvalue items);
struct tsr_jscope *tsr_j_scope(struct tsr_jrun *r, struct tsr_jscope *parent);
void tsr_j_assign(struct tsr_jrun *r, uint32_t symbol, struct tsr_jvalue value);

#endif
