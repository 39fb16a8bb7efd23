#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <tsr/api/out.h>
#include <tsr/api/split.h>

/* What came, pieces of one kind joined: R(reasoning) C(content) F0(name)A(arguments)E. */
struct record {
    struct tsr_out out;
    char kind; /* of the text that is open, 0: none */
    uint32_t n_calls;
    bool in_call;
};

static void *room;

static int set_up(void **state)
{
    (void)state;
    room = aligned_alloc(16, (tsr_split_bytes() + 15) / 16 * 16);
    return room ? 0 : -1;
}

static int tear_down(void **state)
{
    (void)state;
    free(room);
    return 0;
}

static void change(struct record *record, char kind)
{
    if (record->kind && record->kind != kind) {
        tsr_out_text(&record->out, ")");
        record->kind = 0;
    }
}

static void add(struct record *record, char kind, const char *text, size_t size)
{
    assert_true(size > 0);
    change(record, kind);
    if (record->kind != kind) {
        tsr_out_bytes(&record->out, &kind, 1);
        tsr_out_text(&record->out, "(");
    }
    record->kind = kind;
    tsr_out_bytes(&record->out, text, size);
}

static void on_reasoning(void *ctx, const char *text, size_t size)
{
    assert_false(((struct record *)ctx)->in_call);
    add(ctx, 'R', text, size);
}

static void on_content(void *ctx, const char *text, size_t size)
{
    assert_false(((struct record *)ctx)->in_call);
    add(ctx, 'C', text, size);
}

static void on_call(void *ctx, uint32_t index, const char *name, size_t size)
{
    struct record *record = ctx;
    assert_false(record->in_call);
    assert_int_equal(index, record->n_calls++);
    record->in_call = true;
    change(record, 0);
    tsr_out_format(&record->out, "F%u(%.*s)", index, (int)size, name);
}

static void on_arguments(void *ctx, uint32_t index, const char *json, size_t size)
{
    struct record *record = ctx;
    assert_true(record->in_call && index + 1 == record->n_calls);
    add(ctx, 'A', json, size);
}

static void on_call_end(void *ctx, uint32_t index)
{
    struct record *record = ctx;
    assert_true(record->in_call && index + 1 == record->n_calls);
    record->in_call = false;
    change(record, 0);
    tsr_out_text(&record->out, "E");
}

static const struct tsr_split_sink sink = {on_reasoning, on_content, on_call, on_arguments,
                                           on_call_end};

enum mode { PLAIN, REASONS, THINKING };

static struct tsr_split *begin(enum tsr_split_calls calls, enum mode mode)
{
    return tsr_split_init(room, calls, mode != PLAIN, mode == THINKING);
}

/* The text in two pieces, the first of `cut` bytes; or, where cut is SIZE_MAX, in single bytes. */
static char *record_split(enum tsr_split_calls calls, enum mode mode, const char *text, size_t cut)
{
    struct record record = {0};
    struct tsr_split *split = begin(calls, mode);
    size_t size = strlen(text);
    tsr_out_init_growing(&record.out, 1 << 20);
    if (cut == SIZE_MAX) {
        for (size_t i = 0; i < size; i++) {
            tsr_split_feed(split, text + i, 1, &sink, &record);
        }
    } else {
        tsr_split_feed(split, text, cut, &sink, &record);
        tsr_split_feed(split, text + cut, size - cut, &sink, &record);
    }
    tsr_split_end(split, &sink, &record);
    change(&record, 0);
    assert_false(record.in_call);
    assert_int_equal(record.n_calls, tsr_split_call_count(split));
    tsr_out_bytes(&record.out, "", 1);
    assert_false(record.out.full);
    return record.out.bytes;
}

static void expect_cut(enum tsr_split_calls calls, enum mode mode, const char *text, size_t cut,
                       const char *expected)
{
    char *got = record_split(calls, mode, text, cut);
    if (strcmp(got, expected) != 0) {
        fail_msg("%s (cut %zd)\n  gave %s\n  want %s", text, (ssize_t)cut, got, expected);
    }
    free(got);
}

static void expect(enum tsr_split_calls calls, enum mode mode, const char *text,
                   const char *expected)
{
    for (size_t cut = 0; cut <= strlen(text); cut++) {
        expect_cut(calls, mode, text, cut, expected);
    }
    expect_cut(calls, mode, text, SIZE_MAX, expected);
}

struct row {
    const char *text, *expected;
};

static void expect_rows(enum tsr_split_calls calls, const struct row *rows, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        expect(calls, PLAIN, rows[i].text, rows[i].expected);
    }
}

#define N_OF(rows) (sizeof(rows) / sizeof *(rows))

static void test_split_text_without_calls_is_content(void **state)
{
    (void)state;
    static const char *const texts[] = {
        "Hello.",
        " \n hello \n",
        "<",
        "<tool_call>{\"name\":\"f\",\"arguments\":{}}</tool_call>",
        "<think>x</think>y",
        "{\"name\":\"f\",\"parameters\":{}}",
        "[TOOL_CALLS]f{}",
        "h\xc3\xa9\n",
    };
    for (size_t i = 0; i < N_OF(texts); i++) {
        char expected[128];
        snprintf(expected, sizeof expected, "C(%s)", texts[i]);
        expect(TSR_SPLIT_NO_CALLS, PLAIN, texts[i], expected);
    }
    expect(TSR_SPLIT_NO_CALLS, PLAIN, "", "");
}

static void test_split_reasoning(void **state)
{
    (void)state;
    static const struct {
        enum mode mode;
        const char *text, *expected;
    } rows[] = {
        {REASONS, "<think>I see.</think>Yes.", "R(I see.)C(Yes.)"},
        {REASONS, "<think>\nI see.\n\nSo.\n</think>\n\nYes.\n", "R(I see.\n\nSo.)C(Yes.\n)"},
        {REASONS, " \n<think>\r\na</think>b", "R(a)C(b)"},
        {REASONS, "<think>\n\n</think>\n\nYes.", "C(Yes.)"},
        {REASONS, "<think></think>", ""},
        {REASONS, "Yes. <think>a</think>", "C(Yes. <think>a</think>)"},
        {REASONS, " Yes.", "C( Yes.)"},
        {REASONS, "\n", "C(\n)"},
        {REASONS, "<thin", "C(<thin)"},
        {REASONS, "<thin</think>", "C(<thin</think>)"},
        {REASONS, "<t<think>a</think>b", "C(<t<think>a</think>b)"},
        {REASONS, "<think>a</think>\n\n<think>b</think>c", "R(a)C(<think>b</think>c)"},
        {REASONS, "<think>a </ b </thin</think>c", "R(a </ b </thin)C(c)"},
        {REASONS, "<think>a <think> b</think>c", "R(a <think> b)C(c)"},
        {REASONS, "<think>a\n<b\n\n</think>c", "R(a\n<b)C(c)"},
        {REASONS, "<think>never ended\n", "R(never ended\n)"},
        {REASONS, "<think>a\n</th", "R(a\n</th)"},
        {REASONS, "<think>a</think> b", "R(a)C( b)"},
        {THINKING, "I see.\n</think>\n\nYes.", "R(I see.)C(Yes.)"},
        {THINKING, "\nI see.</think>Yes.", "R(I see.)C(Yes.)"},
        {THINKING, "<think>\nI see.</think>Yes.", "R(I see.)C(Yes.)"},
        {THINKING, "</think>Yes.", "C(Yes.)"},
        {THINKING, "never ended", "R(never ended)"},
        {THINKING, "a</think><think>b", "R(a)C(<think>b)"},
        {PLAIN, "<think>a</think>b", "C(<think>a</think>b)"},
    };
    for (size_t i = 0; i < N_OF(rows); i++) {
        expect(TSR_SPLIT_NO_CALLS, rows[i].mode, rows[i].text, rows[i].expected);
    }
    expect(
        TSR_SPLIT_HERMES, REASONS,
        "<think>\nUse <tool_call> now\n</think>\n\n<tool_call>\n{\"name\": \"f\", \"arguments\": "
        "{}}\n</tool_call>",
        "R(Use <tool_call> now)F0(f)A({})E");
    expect(TSR_SPLIT_LLAMA3, REASONS, "<think>a</think>\n\n{\"name\":\"f\",\"parameters\":{}}",
           "R(a)F0(f)A({})E");
    expect(TSR_SPLIT_MISTRAL, THINKING, "a</think>[TOOL_CALLS]f{}", "R(a)F0(f)A({})E");
}

static void test_split_hermes(void **state)
{
    (void)state;
    static const struct row rows[] = {
        {"<tool_call>\n{\"name\": \"get_weather\", \"arguments\": {\"city\": "
         "\"Paris\"}}\n</tool_call>",
         "F0(get_weather)A({\"city\": \"Paris\"})E"},
        {"<tool_call>{\"name\":\"f\",\"arguments\":{}}</tool_call>", "F0(f)A({})E"},
        {"  \n<tool_call>\n\n {\n  \"name\" : \"f\" ,\n  \"arguments\" : {\n  \"a\" : 1\n }\n}\n\n"
         "</tool_call>\n",
         "F0(f)A({\n  \"a\" : 1\n })E"},
        {"<tool_call>\n{\"name\": \"a\", \"arguments\": {}}\n</tool_call>\n<tool_call>\n{\"name\": "
         "\"b\", \"arguments\": {\"x\": [1, {\"y\": null}]}}\n</tool_call>",
         "F0(a)A({})EF1(b)A({\"x\": [1, {\"y\": null}]})E"},
        {"Let me look.\n<tool_call>\n{\"name\": \"f\", \"arguments\": {}}\n</tool_call>",
         "C(Let me look.\n)F0(f)A({})E"},
        {"<tool_call>{\"name\":\"f\",\"arguments\":{}}</tool_call>\n\nDone.",
         "F0(f)A({})EC(\n\nDone.)"},
        {"<tool_call>{\"name\":\"a\",\"arguments\":{}}</tool_call> and "
         "<tool_call>{\"name\":\"b\",\"arguments\":{}}</tool_call>",
         "F0(a)A({})EC( and )F1(b)A({})E"},
        /* braces, quotes, marks and line breaks within strings */
        {"<tool_call>\n{\"name\": \"run\", \"arguments\": {\"code\": \"if (a) { b(\\\"}\\\\\\\"); "
         "}\", "
         "\"s\": \"</tool_call> ] }\\u007d\"}}\n</tool_call>",
         "F0(run)A({\"code\": \"if (a) { b(\\\"}\\\\\\\"); }\", \"s\": \"</tool_call> ] "
         "}\\u007d\"})E"},
        {"<tool_call>{\"name\":\"f\",\"arguments\":{\"a\":\"1\n2\"}}</tool_call>",
         "F0(f)A({\"a\":\"1\n2\"})E"},
        {"<tool_call>{\"name\":\"f\",\"arguments\":{\"n\":\"h\xc3\xa9\xf0\x9f\x98\x80\"}}</"
         "tool_call>",
         "F0(f)A({\"n\":\"h\xc3\xa9\xf0\x9f\x98\x80\"})E"},
        /* the other order, other keys, keys twice, other kinds of arguments */
        {"<tool_call>{\"arguments\": {\"name\": \"John\"}, \"name\": \"age\"}</tool_call>",
         "F0(age)A({\"name\": \"John\"})E"},
        {"<tool_call>{\"id\": 1, \"type\": \"function\", \"why\": {\"name\": \"x\"}, \"name\": "
         "\"f\", "
         "\"more\": [\"}\"], \"arguments\": {\"a\": 1}, \"end\": true}</tool_call>",
         "F0(f)A({\"a\": 1})E"},
        {"<tool_call>{\"name\":\"f\",\"name\":\"g\",\"arguments\":{\"a\":1},\"arguments\":{}}"
         "</tool_call>",
         "F0(f)A({\"a\":1})E"},
        {"<tool_call>{\"name\":\"f\",\"parameters\":{\"a\":1}}</tool_call>", "F0(f)A({\"a\":1})E"},
        {"<tool_call>{\"name\":\"f\",\"arguments\":-1.5e3}</tool_call>", "F0(f)A(-1.5e3)E"},
        {"<tool_call>{\"name\":\"f\",\"arguments\":12 , \"x\":1}</tool_call>", "F0(f)A(12)E"},
        {"<tool_call>{\"arguments\":12,\"name\":\"f\"}</tool_call>", "F0(f)A(12)E"},
        {"<tool_call>{\"name\":\"f\",\"arguments\":\"{\\\"a\\\":1}\"}</tool_call>",
         "F0(f)A(\"{\\\"a\\\":1}\")E"},
        {"<tool_call>{\"arguments\":null,\"name\":\"f\"}</tool_call>", "F0(f)A(null)E"},
        {"<tool_call>{\"name\":\"f\"}</tool_call>", "F0(f)A({})E"},
        /* the mark of the end is missing, or cut */
        {"<tool_call>{\"name\":\"f\",\"arguments\":{}}", "F0(f)A({})E"},
        {"<tool_call>{\"name\":\"f\",\"arguments\":{}}\n</tool_c", "F0(f)A({})E"},
        {"<tool_call>{\"name\":\"a\",\"arguments\":{}}\n<tool_call>{\"name\":\"b\",\"arguments\":{}"
         "}",
         "F0(a)A({})EF1(b)A({})E"},
        {"<tool_call>{\"name\":\"a\",\"arguments\":{}}</tool_call>\n<tool_c",
         "F0(a)A({})EC(\n<tool_c)"},
        {"<tool_call>{\"name\":\"a\",\"arguments\":{}}</tool_call></tool_call>",
         "F0(a)A({})EC(</tool_call>)"},
        /* cut within */
        {"<tool_call>\n{\"name\": \"f\", \"arguments\": {\"a\": \"b", "F0(f)A({\"a\": \"b)E"},
        {"<tool_call>\n{\"name\": \"f\", \"argu", "F0(f)E"},
        {"<tool_call>\n{\"name\": \"f", "C(<tool_call>\n{\"name\": \"f)"},
        {"<tool_call>", "C(<tool_call>)"},
        {"Hello <tool", "C(Hello <tool)"},
        /* no calls */
        {"Use <tool_call> tags.", "C(Use <tool_call> tags.)"},
        {"<tool_call>\nget_weather(Paris)\n</tool_call>",
         "C(<tool_call>\nget_weather(Paris)\n</tool_call>)"},
        {"<tool_call>[1]</tool_call>", "C(<tool_call>[1]</tool_call>)"},
        {"<tool_call>{}</tool_call>", "C(<tool_call>{}</tool_call>)"},
        {"<tool_call>{\"arguments\": {}}</tool_call>",
         "C(<tool_call>{\"arguments\": {}}</tool_call>)"},
        {"<tool_call>{\"name\": 1, \"arguments\": {}}</tool_call>",
         "C(<tool_call>{\"name\": 1, \"arguments\": {}}</tool_call>)"},
        {"<tool_call>{\"name\": \"\"}</tool_call>", "C(<tool_call>{\"name\": \"\"}</tool_call>)"},
        {"<tool_call>{\"name\": \"a\\nb\"}</tool_call>",
         "C(<tool_call>{\"name\": \"a\\nb\"}</tool_call>)"},
        {"<tool_call>{'name': 'f'}</tool_call>", "C(<tool_call>{'name': 'f'}</tool_call>)"},
        {"<tool_call>{{\"name\": \"f\"}}</tool_call>",
         "C(<tool_call>{{\"name\": \"f\"}}</tool_call>)"},
        {"<tool_call>{\"x\": [01], \"name\": \"f\"}</tool_call>",
         "C(<tool_call>{\"x\": [01], \"name\": \"f\"}</tool_call>)"},
        {"<tool_call><tool_call>{\"name\":\"f\"}</tool_call>", "C(<tool_call>)F0(f)A({})E"},
        {"<tool_<tool_call>{\"name\":\"f\"}</tool_call>", "C(<tool_)F0(f)A({})E"},
        /* broken after the name */
        {"<tool_call>{\"name\":\"f\",\"arguments\":{bad}}</tool_call>x",
         "F0(f)A({)EC(bad}}</tool_call>x)"},
        {"<tool_call>{\"name\":\"f\",\"arguments\":{\"a\":1]<tool_call>{\"name\":\"g\"}</"
         "tool_call>",
         "F0(f)A({\"a\":1)EC(])F1(g)A({})E"},
        {"<tool_call>{\"name\":\"f\" \"arguments\":{}}", "F0(f)EC(\"arguments\":{}})"},
    };
    expect_rows(TSR_SPLIT_HERMES, rows, N_OF(rows));
}

static void test_split_llama3(void **state)
{
    (void)state;
    static const struct row rows[] = {
        {"{\"name\": \"f\", \"parameters\": {\"a\": \"b\"}}", "F0(f)A({\"a\": \"b\"})E"},
        {"\n {\"name\":\"f\",\"parameters\":{}}\n", "F0(f)A({})E"},
        {"<|python_tag|>{\"name\": \"f\", \"parameters\": {}}", "F0(f)A({})E"},
        {"{\"type\": \"function\", \"name\": \"f\", \"parameters\": {\"k\": {\"n\": 1}}}",
         "F0(f)A({\"k\": {\"n\": 1}})E"},
        {"{\"name\": \"f\", \"arguments\": {\"a\": 1}}", "F0(f)A({\"a\": 1})E"},
        {"{\"parameters\": {\"name\": \"x\"}, \"name\": \"f\"}", "F0(f)A({\"name\": \"x\"})E"},
        {"{\"name\": \"f\", \"parameters\": {\"a\": 1}, \"more\": 2}", "F0(f)A({\"a\": 1})E"},
        {"{\"name\":\"a\",\"parameters\":{\"q\":\";\"}}; {\"name\":\"b\",\"parameters\":{}};",
         "F0(a)A({\"q\":\";\"})EF1(b)A({})E"},
        {"{\"name\":\"a\",\"parameters\":{}}\n{\"name\":\"b\",\"parameters\":{}}",
         "F0(a)A({})EF1(b)A({})E"},
        {"<|python_tag|>{\"name\":\"a\",\"parameters\":{}} ; <|python_tag|>{\"name\":\"b\","
         "\"parameters\":{}}",
         "F0(a)A({})EF1(b)A({})E"},
        {"I will look.<|python_tag|>{\"name\":\"a\",\"parameters\":{}}",
         "C(I will look.)F0(a)A({})E"},
        {"{\"name\":\"a\",\"parameters\":{}} I used {a}.", "F0(a)A({})EC( I used {a}.)"},
        {"{\"name\":\"a\",\"parameters\":{}}; {\"q\": 1}", "F0(a)A({})EC(; {\"q\": 1})"},
        /* ordinary answers */
        {"Hello.", "C(Hello.)"},
        {"{\"city\": \"Paris\"}", "C({\"city\": \"Paris\"})"},
        {"{\"name\": \"Bob\", \"age\": 3}", "C({\"name\": \"Bob\", \"age\": 3})"},
        {"{\"name\": \"Bob\"}", "C({\"name\": \"Bob\"})"},
        {"{\"parameters\": {}}", "C({\"parameters\": {}})"},
        {"{\"name\": \"f\", \"parameters\": 5}", "C({\"name\": \"f\", \"parameters\": 5})"},
        {"{\"name\": [\"f\"], \"parameters\": {}}", "C({\"name\": [\"f\"], \"parameters\": {}})"},
        {"{}", "C({})"},
        {"[{\"name\": \"f\", \"parameters\": {}}]", "C([{\"name\": \"f\", \"parameters\": {}}])"},
        {"So: {\"name\": \"f\", \"parameters\": {}}",
         "C(So: {\"name\": \"f\", \"parameters\": {}})"},
        {"{not json", "C({not json)"},
        {"{\"name\": \"f\", \"para", "C({\"name\": \"f\", \"para)"},
        {"<|python_tag|>import math", "C(<|python_tag|>import math)"},
        {"<|python_tag|>brave.call(query=\"x\")", "C(<|python_tag|>brave.call(query=\"x\"))"},
        /* cut, broken */
        {"{\"name\": \"f\", \"parameters\": {\"a\": [1, 2", "F0(f)A({\"a\": [1, 2)E"},
        {"{\"name\": \"f\", \"parameters\": {invalid json}", "F0(f)A({)EC(invalid json})"},
    };
    expect_rows(TSR_SPLIT_LLAMA3, rows, N_OF(rows));
}

static void test_split_mistral(void **state)
{
    (void)state;
    static const struct row rows[] = {
        {"[TOOL_CALLS][{\"name\": \"add\", \"arguments\":{\"a\": 3.5, \"b\": 4}}]",
         "F0(add)A({\"a\": 3.5, \"b\": 4})E"},
        {"[TOOL_CALLS]  [ {\"name\":\"add\" , \"arguments\" : {\"a\": 3} } ]",
         "F0(add)A({\"a\": 3})E"},
        {" [TOOL_CALLS] [{\"arguments\":{\"name\": \"J\"}, \"name\": \"age\"}]\n",
         "F0(age)A({\"name\": \"J\"})E"},
        {"[TOOL_CALLS] [{\"name\": \"a\", \"arguments\": {}, \"id\": \"x1\"}, {\"name\": \"b\", "
         "\"arguments\":{\"c\": \"]\"}}]",
         "F0(a)A({})EF1(b)A({\"c\": \"]\"})E"},
        {"Hello[TOOL_CALLS] [{\"name\": \"a\", \"arguments\":{}}]", "C(Hello)F0(a)A({})E"},
        {"[TOOL_CALLS] [{\"name\": \"a\", \"arguments\":{}}]\nmore", "F0(a)A({})EC(\nmore)"},
        {"[TOOL_CALLS] {\"name\": \"a\", \"arguments\":{}}", "F0(a)A({})E"},
        {"[TOOL_CALLS]add_this{\"a\": 3.5}", "F0(add_this)A({\"a\": 3.5})E"},
        {"[TOOL_CALLS]add[ARGS]{\"a\": \"}\"}", "F0(add)A({\"a\": \"}\"})E"},
        {"[TOOL_CALLS] add [ARGS] {}", "C([TOOL_CALLS] add [ARGS] {})"},
        {"[TOOL_CALLS]add[CALL_ID]aB3_x9-Z1[ARGS]{}", "F0(add)A({})E"},
        {"[TOOL_CALLS]add[CALL_ID]a1{}", "F0(add)A({})E"},
        {"[TOOL_CALLS]a[ARGS]{}[TOOL_CALLS]b[ARGS]{\"x\": {}}", "F0(a)A({})EF1(b)A({\"x\": {}})E"},
        {"hi{hi[TOOL_CALLS]a{} \n[TOOL_CALLS]b{}", "C(hi{hi)F0(a)A({})EF1(b)A({})E"},
        {"[TOOL_CALLS]bash{\"c\": \"re.compile(r'{}')", "F0(bash)A({\"c\": \"re.compile(r'{}'))E"},
        /* no calls, cut, broken */
        {"[TOOL_CALLS] not json at all", "C([TOOL_CALLS] not json at all)"},
        {"[TOOL_CALLS]name", "C([TOOL_CALLS]name)"},
        {"[TOOL_CALLS]na[me]{}", "C([TOOL_CALLS]na[me]{})"},
        {"[TOOL_CALLS]f[ARGS][1]", "C([TOOL_CALLS]f[ARGS][1])"},
        {"[TOOL_CALLS][]", "C([TOOL_CALLS][])"},
        {"[TOOL_CALLS][{\"x\": 1}]", "C([TOOL_CALLS][{\"x\": 1}])"},
        {"[TOOL_CALLS", "C([TOOL_CALLS)"},
        {"[1, 2, [TOOL]]", "C([1, 2, [TOOL]])"},
        {"[TOOL_CALLS][{\"name\":\"a\",\"arguments\":{}},", "F0(a)A({})EC(,)"},
        {"[TOOL_CALLS][{\"name\":\"a\",\"arguments\":{}} ", "F0(a)A({})E"},
        {"[TOOL_CALLS][{\"name\":\"a\",\"arguments\":{}}, 5]", "F0(a)A({})EC(, 5])"},
        {"[TOOL_CALLS]a{\"x\": nope}", "F0(a)A({\"x\": n)EC(ope})"},
    };
    expect_rows(TSR_SPLIT_MISTRAL, rows, N_OF(rows));
}

/* Names and arguments come as soon as they can. */
static void test_split_streams_calls(void **state)
{
    (void)state;
    static const struct {
        enum tsr_split_calls calls;
        const char *piece, *so_far;
    } rows[] = {
        {TSR_SPLIT_HERMES, "Hi<tool_call>{\"name\":\"f", "C(Hi"},
        {TSR_SPLIT_HERMES, "Hi<tool_call>{\"name\":\"f\"", "C(Hi)F0(f)"},
        {TSR_SPLIT_HERMES, "<tool_call>{\"name\":\"f\",\"arguments\":{\"a", "F0(f)A({\"a"},
        {TSR_SPLIT_LLAMA3, "{\"name\":\"f\",\"parameters\":", ""},
        {TSR_SPLIT_LLAMA3, "{\"name\":\"f\",\"parameters\":{", "F0(f)A({"},
        {TSR_SPLIT_LLAMA3, "{\"city\"", "C({\"city\""},
        {TSR_SPLIT_MISTRAL, "[TOOL_CALLS]f", ""},
        {TSR_SPLIT_MISTRAL, "[TOOL_CALLS]f{\"a", "F0(f)A({\"a"},
        {TSR_SPLIT_NO_CALLS, "ab<", "C(ab<"},
        {TSR_SPLIT_HERMES, "ab <b", "C(ab <b"},
    };
    for (size_t i = 0; i < N_OF(rows); i++) {
        struct record record = {0};
        tsr_out_init_growing(&record.out, 1 << 10);
        struct tsr_split *split = begin(rows[i].calls, PLAIN);
        tsr_split_feed(split, rows[i].piece, strlen(rows[i].piece), &sink, &record);
        tsr_out_bytes(&record.out, "", 1);
        assert_string_equal(record.out.bytes, rows[i].so_far);
        tsr_out_fini(&record.out);
    }
}

/* A text of `unit` repeated between two ends, and what is expected of it in the same way. */
static void expect_long(enum tsr_split_calls calls, const char *first, const char *unit,
                        const char *last, size_t n, const char *before, const char *after)
{
    struct tsr_out text, expected;
    tsr_out_init_growing(&text, 1 << 20);
    tsr_out_init_growing(&expected, 1 << 20);
    tsr_out_text(&text, first);
    tsr_out_text(&expected, before);
    for (size_t i = 0; i < n; i++) {
        tsr_out_text(&text, unit);
        tsr_out_text(&expected, unit);
    }
    tsr_out_text(&text, last);
    tsr_out_text(&expected, after);
    tsr_out_bytes(&text, "", 1);
    tsr_out_bytes(&expected, "", 1);
    expect_cut(calls, PLAIN, text.bytes, text.size / 2, expected.bytes);
    expect_cut(calls, PLAIN, text.bytes, SIZE_MAX, expected.bytes);
    tsr_out_fini(&text);
    tsr_out_fini(&expected);
}

static void test_split_what_is_held_is_bounded(void **state)
{
    (void)state;
    static const char first[] = "<tool_call>{\"arguments\": {\"a\": \"";
    static const char last[] = "\"}, \"name\": \"f\"}</tool_call>";
    expect_long(TSR_SPLIT_HERMES, first, "h\xc3\xa9", last, 2000, "F0(f)A({\"a\": \"", "\"})E");
    expect_long(TSR_SPLIT_HERMES, first, "h\xc3\xa9", last, 5000,
                "C(<tool_call>{\"arguments\": {\"a\": \"", "\"}, \"name\": \"f\"}</tool_call>)");
    expect_long(TSR_SPLIT_HERMES, "<tool_call>{\"name\": \"f\", \"arguments\": {\"a\": \"", "xyz",
                "\"}}", 50000, "F0(f)A({\"a\": \"", "\"})E");
    expect_long(TSR_SPLIT_HERMES, "", "\n", "x", 20000, "C(", "x)");
    expect_long(TSR_SPLIT_MISTRAL, "[TOOL_CALLS]", "f", "{}", 300, "C([TOOL_CALLS]", "{})");
    expect_long(TSR_SPLIT_HERMES, "<tool_call>{\"name\":\"", "f", "\"}", 300,
                "C(<tool_call>{\"name\":\"", "\"})");
}

/* Pieces that hold whole characters give pieces that do. */
static void check_whole(void *ctx, const char *text, size_t size)
{
    (void)ctx;
    assert_int_not_equal((uint8_t)text[0] & 0xc0, 0x80);
    assert_true((uint8_t)text[size - 1] < 0x80 || ((uint8_t)text[size - 1] & 0xc0) == 0x80);
}

static void test_split_gives_whole_characters(void **state)
{
    (void)state;
    static const struct tsr_split_sink whole = {check_whole, check_whole, on_call, on_arguments,
                                                on_call_end};
    for (size_t shift = 0; shift < 4; shift++) {
        struct tsr_split *split = begin(TSR_SPLIT_HERMES, PLAIN);
        tsr_split_feed(split, "<tool_call>{\"arguments\":\"xxx", 25 + shift, &whole, NULL);
        for (int i = 0; i < 4000; i++) {
            tsr_split_feed(split, "\xf0\x9f\x98\x80", 4, &whole, NULL);
        }
        tsr_split_end(split, &whole, NULL);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_split_text_without_calls_is_content),
        cmocka_unit_test(test_split_reasoning),
        cmocka_unit_test(test_split_hermes),
        cmocka_unit_test(test_split_llama3),
        cmocka_unit_test(test_split_mistral),
        cmocka_unit_test(test_split_streams_calls),
        cmocka_unit_test(test_split_what_is_held_is_bounded),
        cmocka_unit_test(test_split_gives_whole_characters),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
