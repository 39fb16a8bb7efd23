/* Tests: "x is defined" and the like (jinja2/tests.py of 3.1). */
#include <errno.h>
#include <string.h>

#include "run_priv.h"

#define TEST(name)                                                                                 \
    static struct tsr_jvalue test_##name(struct tsr_jrun *r, struct tsr_jvalue self,               \
                                         const struct tsr_jcall *call)

/* Tests that look at the kind of a value alone. */
#define KIND_TEST(name, condition)                                                                 \
    TEST(name)                                                                                     \
    {                                                                                              \
        tsr_j_bind(r, call, "test '" #name "'", NULL, 0, NULL);                                    \
        return tsr_j_bool(condition);                                                              \
    }

/* Comparisons with one argument. */
#define COMPARE_TEST(name, op)                                                                     \
    TEST(name)                                                                                     \
    {                                                                                              \
        return tsr_j_bool(tsr_j_compare(r, op, self, argument(r, call, "test '" #name "'")));      \
    }

static struct tsr_jvalue argument(struct tsr_jrun *r, const struct tsr_jcall *call,
                                  const char *name)
{
    if (call->n_pos != 1 || call->n_kw)
        tsr_j_fail(r, -EINVAL, "%s takes one argument", name);
    return call->pos[0];
}

static bool is_sequence(struct tsr_jvalue v)
{
    if (v.kind == TSR_JV_SEQ)
        return v.seq->kind != TSR_JS_VIEW && v.seq->kind != TSR_JS_GENERATOR;
    return v.kind == TSR_JV_STRING || v.kind == TSR_JV_DICT || v.kind == TSR_JV_UNDEFINED;
}

static bool is_callable(struct tsr_jvalue v)
{
    return v.kind == TSR_JV_MACRO || v.kind == TSR_JV_BUILTIN || v.kind == TSR_JV_METHOD ||
           v.kind == TSR_JV_LOOP || v.kind == TSR_JV_JOINER || v.kind == TSR_JV_UNDEFINED;
}

/* Whether the text has cased characters, and all of them of that case. */
static bool all_case(const struct tsr_jstr *s, bool upper)
{
    bool any = false;
    for (size_t at = 0; at < s->len;) {
        unsigned width;
        uint32_t c = tsr_text_char(s->text + at, s->len - at, &width);
        if (upper ? tsr_text_is_lower(c) : tsr_text_is_upper(c))
            return false;
        any = any || (upper ? tsr_text_is_upper(c) : tsr_text_is_lower(c));
        at += width;
    }
    return any;
}

KIND_TEST(defined, self.kind != TSR_JV_UNDEFINED)
KIND_TEST(undefined, self.kind == TSR_JV_UNDEFINED)
KIND_TEST(none, self.kind == TSR_JV_NONE)
KIND_TEST(boolean, self.kind == TSR_JV_BOOL)
KIND_TEST(is_true, self.kind == TSR_JV_BOOL && self.truth)
KIND_TEST(is_false, self.kind == TSR_JV_BOOL && !self.truth)
KIND_TEST(integer, self.kind == TSR_JV_INT)
KIND_TEST(float, self.kind == TSR_JV_FLOAT)
KIND_TEST(number, self.kind == TSR_JV_INT || self.kind == TSR_JV_FLOAT || self.kind == TSR_JV_BOOL)
KIND_TEST(string, self.kind == TSR_JV_STRING)
KIND_TEST(mapping, self.kind == TSR_JV_DICT)
KIND_TEST(sequence, is_sequence(self))
KIND_TEST(iterable, tsr_j_is_iterable(self))
KIND_TEST(callable, is_callable(self))
KIND_TEST(escaped, self.kind == TSR_JV_STRING && self.str->markup)
KIND_TEST(lower, all_case(tsr_j_text(r, self), false))
KIND_TEST(upper, all_case(tsr_j_text(r, self), true))

COMPARE_TEST(eq, TSR_JO_EQ)
COMPARE_TEST(ne, TSR_JO_NE)
COMPARE_TEST(lt, TSR_JO_LT)
COMPARE_TEST(le, TSR_JO_LE)
COMPARE_TEST(gt, TSR_JO_GT)
COMPARE_TEST(ge, TSR_JO_GE)
COMPARE_TEST(in, TSR_JO_IN)

static bool divides(struct tsr_jrun *r, struct tsr_jvalue v, struct tsr_jvalue by, int64_t rest)
{
    return tsr_j_equal(r, tsr_j_binary(r, TSR_JO_MOD, v, by), tsr_j_int(rest));
}

KIND_TEST(even, divides(r, self, tsr_j_int(2), 0))
KIND_TEST(odd, divides(r, self, tsr_j_int(2), 1))

TEST(divisibleby)
{
    return tsr_j_bool(divides(r, self, argument(r, call, "test 'divisibleby'"), 0));
}

TEST(sameas)
{
    struct tsr_jvalue other = argument(r, call, "test 'sameas'");
    if (self.kind != other.kind)
        return tsr_j_bool(false);
    if (self.kind == TSR_JV_NONE)
        return tsr_j_bool(true);
    if (self.kind == TSR_JV_BOOL || self.kind == TSR_JV_INT)
        return tsr_j_bool(tsr_j_equal(r, self, other));
    return tsr_j_bool(self.dict == other.dict);
}

TEST(filter)
{
    tsr_j_bind(r, call, "test 'filter'", NULL, 0, NULL);
    return tsr_j_bool(self.kind == TSR_JV_STRING &&
                      tsr_j_find_filter((struct tsr_jtext){self.str->text, self.str->len}));
}

TEST(test)
{
    tsr_j_bind(r, call, "test 'test'", NULL, 0, NULL);
    return tsr_j_bool(self.kind == TSR_JV_STRING &&
                      tsr_j_find_test((struct tsr_jtext){self.str->text, self.str->len}));
}

static const struct tsr_jbuiltin TESTS[] = {
    {"defined", test_defined},
    {"undefined", test_undefined},
    {"none", test_none},
    {"boolean", test_boolean},
    {"true", test_is_true},
    {"false", test_is_false},
    {"integer", test_integer},
    {"float", test_float},
    {"number", test_number},
    {"string", test_string},
    {"mapping", test_mapping},
    {"sequence", test_sequence},
    {"iterable", test_iterable},
    {"callable", test_callable},
    {"escaped", test_escaped},
    {"lower", test_lower},
    {"upper", test_upper},
    {"even", test_even},
    {"odd", test_odd},
    {"divisibleby", test_divisibleby},
    {"sameas", test_sameas},
    {"filter", test_filter},
    {"test", test_test},
    {"in", test_in},
    {"eq", test_eq},
    {"==", test_eq},
    {"equalto", test_eq},
    {"ne", test_ne},
    {"!=", test_ne},
    {"lt", test_lt},
    {"<", test_lt},
    {"lessthan", test_lt},
    {"le", test_le},
    {"<=", test_le},
    {"gt", test_gt},
    {">", test_gt},
    {"greaterthan", test_gt},
    {"ge", test_ge},
    {">=", test_ge},
};

const struct tsr_jbuiltin *tsr_j_find_test(struct tsr_jtext name)
{
    return tsr_j_find_in(TESTS, sizeof(TESTS) / sizeof(TESTS[0]), name);
}
