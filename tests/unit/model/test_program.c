#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <math.h>
#include <string.h>

#include <tsr/model/program.h>

/* A program with one small matrix of each use and no operations:
 * buffers 0 x [8], 1 normed [8], 2 qkv [16], 3 attn [8], 4 logits [10], 5 last [8]. */
static const float ones[8] = {1, 1, 1, 1, 1, 1, 1, 1};
static float data[10 * 8];
static const struct tsr_tensor embedding = {"embedding", TSR_DTYPE_F32, 2, {10, 8}, data,
                                            320,         NULL,          0, 0};
static const struct tsr_tensor square = {"square", TSR_DTYPE_F32, 2, {8, 8}, data, 256, NULL, 0, 0};

enum { W_EMBED, W_SQUARE };

static void init(struct tsr_program *p)
{
    static const uint32_t widths[] = {8, 8, 16, 8, 10, 8};
    memset(p, 0, sizeof *p);
    p->vocab = 10;
    p->layers = 1;
    p->kv_heads = 1;
    p->head_dim = 4;
    p->logits = 4;
    for (size_t i = 0; i < sizeof widths / sizeof *widths; i++) {
        assert_int_equal(tsr_program_buffer(p, widths[i], NULL), i);
    }
    const struct tsr_weight embed = {.tensor = &embedding, .rows = 10, .cols = 8};
    const struct tsr_weight matrix = {.tensor = &square, .rows = 8, .cols = 8};
    assert_int_equal(tsr_program_weight(p, &embed, NULL), W_EMBED);
    assert_int_equal(tsr_program_weight(p, &matrix, NULL), W_SQUARE);
    const struct tsr_rope rope = {.dims = 4, .scale = 1.0f, .inv_freq = ones};
    assert_int_equal(tsr_program_rope(p, &rope, NULL), 0);
}

static const struct tsr_op embed_op = {
    .kind = TSR_OP_EMBED, .in = 0, .out = 0, .scale = 1.0f, .embed.weight = W_EMBED};
static const struct tsr_op norm_op = {.kind = TSR_OP_NORM,
                                      .in = 0,
                                      .out = 1,
                                      .scale = 1.0f,
                                      .norm = {ones, 1e-5f, .group = 8, .groups = 1}};
static const struct tsr_op matmul_op = {
    .kind = TSR_OP_MATMUL,
    .in = 1,
    .out = 2,
    .scale = 1.0f,
    .matmul = {.n_parts = 2, .parts = {{W_SQUARE, 0, NULL}, {W_SQUARE, 8, NULL}}}};
static const struct tsr_op glu_op = {
    .kind = TSR_OP_GLU,
    .in = 1,
    .out = 2,
    .scale = 1.0f,
    .matmul = {.n_parts = 2, .parts = {{W_SQUARE, 0, NULL}, {W_SQUARE, 0, NULL}}}};
static const struct tsr_op rope_op = {
    .kind = TSR_OP_ROPE, .in = 2, .out = 2, .scale = 1.0f, .rope = {.heads = 2, .head_dim = 4}};
static const struct tsr_op attend_op = {
    .kind = TSR_OP_ATTEND,
    .in = 2,
    .out = 3,
    .scale = 0.5f,
    .attend = {.heads = 2, .kv_heads = 1, .head_dim = 4, .q_col = 0, .k_col = 8, .v_col = 12}};
static const struct tsr_op select_op = {.kind = TSR_OP_SELECT, .in = 0, .out = 5, .scale = 1.0f};
static const struct tsr_op head_op = {.kind = TSR_OP_MATMUL,
                                      .in = 5,
                                      .out = 4,
                                      .scale = 1.0f,
                                      .matmul = {.n_parts = 1, .parts = {{W_EMBED, 0, NULL}}}};

static void refuse(struct tsr_op op, const char *words)
{
    struct tsr_program p;
    struct tsr_err err = {0};
    init(&p);
    assert_int_equal(tsr_program_op(&p, &op, &err), -EINVAL);
    if (!strstr(err.text, words)) {
        fail_msg("'%s' lacks '%s'", err.text, words);
    }
    assert_int_equal(p.n_ops, 0);
    tsr_program_fini(&p);
}

/* One statement that changes one member of a sound operation, and the words of its refusal. */
#define REFUSE(sound, change, words)                                                               \
    do {                                                                                           \
        struct tsr_op op = (sound);                                                                \
        change;                                                                                    \
        refuse(op, words);                                                                         \
    } while (0)

static void test_program_refuses_operations_of_any_kind(void **state)
{
    (void)state;
    REFUSE(norm_op, op.in = 6, "no such buffer");
    REFUSE(norm_op, op.out = UINT16_MAX, "no such buffer");
    REFUSE(norm_op, op.kind = (enum tsr_op_kind)99, "no such kind");
    REFUSE(norm_op, op.scale = NAN, "not a finite number");
}

static void test_program_refuses_embeddings_and_norms(void **state)
{
    (void)state;
    REFUSE(embed_op, op.embed.weight = 2, "no such weight");
    REFUSE(embed_op, op.embed.weight = W_SQUARE, "fewer rows than the vocabulary");
    REFUSE(embed_op, op.out = 2, "the widths differ");
    REFUSE(norm_op, op.norm.vector = NULL, "no vector");
    REFUSE(norm_op, op.norm.eps = 0.0f, "eps");
    REFUSE(norm_op, op.norm.eps = NAN, "eps");
    REFUSE(norm_op, op.norm.group = 0, "outside the buffer");
    REFUSE(norm_op, op.norm.groups = 2, "outside the buffer");
    REFUSE(norm_op, op.norm.col = 1, "outside the buffer");
    REFUSE(norm_op, (op.norm.group = UINT32_MAX, op.norm.groups = UINT32_MAX),
           "outside the buffer");
}

static void test_program_refuses_matmuls(void **state)
{
    (void)state;
    REFUSE(matmul_op, op.matmul.n_parts = 0, "no parts");
    REFUSE(matmul_op, op.matmul.n_parts = 4, "too many");
    REFUSE(matmul_op, op.matmul.parts[1].weight = 2, "no such weight");
    REFUSE(matmul_op, op.in = 2, "overwrite its input");
    REFUSE(matmul_op, op.in = 4, "columns are not the input's");
    REFUSE(matmul_op, op.matmul.parts[1].out_col = 9, "outside the output");
    REFUSE(matmul_op, op.matmul.parts[1].out_col = UINT32_MAX, "outside the output");
    REFUSE(matmul_op, op.matmul.parts[1].out_col = 7, "the same columns");
    REFUSE(glu_op, op.matmul.n_parts = 1, "gate and up");
    REFUSE(glu_op, op.matmul.parts[1].out_col = 8, "gate and up");
    REFUSE(glu_op, (op.out = 2, op.matmul.parts[1].weight = W_EMBED), "gate and up");
    REFUSE(glu_op, op.matmul.act = (enum tsr_act)9, "activation");
    REFUSE(glu_op, op.matmul.softcap = 30.0f, "neither scaled by row, capped nor added");
    REFUSE(glu_op, op.matmul.accumulate = true, "neither scaled by row, capped nor added");
    REFUSE(matmul_op, op.matmul.softcap = -30.0f, "its cap");
    REFUSE(matmul_op, op.matmul.softcap = NAN, "its cap");
    REFUSE(matmul_op, (op.matmul.softcap = 30.0f, op.matmul.accumulate = true), "its cap");
}

static void test_program_refuses_attention(void **state)
{
    (void)state;
    REFUSE(rope_op, op.rope.rope = 1, "no such rotary embedding");
    REFUSE(rope_op, op.out = 1, "in place");
    REFUSE(rope_op, op.rope.head_dim = 2, "more dimensions than a head");
    REFUSE(rope_op, op.rope.heads = 0, "outside the buffer");
    REFUSE(rope_op, op.rope.in_col = 9, "outside the buffer");
    REFUSE(attend_op, op.attend.layer = 1, "no such KV layer");
    REFUSE(attend_op, op.attend.kv_heads = 2, "not the KV cache's");
    REFUSE(attend_op, op.attend.head_dim = 8, "not the KV cache's");
    REFUSE(attend_op, op.attend.heads = 0, "multiple of its KV heads");
    REFUSE(attend_op, op.attend.heads = 3, "outside the buffers");
    REFUSE(attend_op, op.attend.k_col = 13, "outside the buffers");
    REFUSE(attend_op, op.attend.v_col = 10, "overlap");
    REFUSE(attend_op, op.out = 2, "overwrite its input");
    REFUSE(attend_op, op.scale = 0.0f, "scale");
    REFUSE(attend_op, op.attend.softcap = -1.0f, "scale or cap");
    static const float slopes[2] = {0.5f, INFINITY};
    REFUSE(attend_op, op.attend.slopes = slopes, "slope");
    REFUSE(select_op, op.out = 2, "of one width");
    REFUSE(select_op, op.out = 0, "different ones");
}

static void test_program_refuses_weights(void **state)
{
    (void)state;
    static const struct tsr_tensor vector = {"vector", TSR_DTYPE_F32, 1, {8}, data, 32, NULL, 0, 0};
    static const struct tsr_tensor unknown = {
        "unknown", TSR_DTYPE_COUNT, 2, {8, 8}, data, 256, NULL, 0, 0};
    static const struct tsr_tensor part = {"part", TSR_DTYPE_Q4_0, 2, {8, 48}, data,
                                           216,    NULL,           0, 0};
    static const struct tsr_tensor odd = {"odd", TSR_DTYPE_F32, 2, {8, 8}, data, 255, NULL, 0, 0};
    static const struct tsr_weight cases[] = {
        {.tensor = &vector, .rows = 8, .cols = 1},
        {.tensor = &unknown, .rows = 8, .cols = 8},
        {.tensor = &part, .rows = 8, .cols = 48},
        {.tensor = &odd, .rows = 8, .cols = 8},
        {.tensor = &square, .rows = 0, .cols = 8},
        {.tensor = &square, .rows = 9, .cols = 8},
        {.tensor = &square, .rows = 8, .cols = 7},
        {.tensor = &square, .row_first = 1, .rows = 8, .cols = 8},
        {.tensor = &square, .row_first = UINT64_MAX, .rows = 8, .cols = 8},
        {.tensor = &square, .rows = UINT64_MAX, .cols = 8},
        {.tensor = &square, .rows = 8, .cols = 8, .order = TSR_ROW_ORDER_ROPE_PAIRS},
        {.tensor = &square, .rows = 8, .cols = 8, .order = TSR_ROW_ORDER_ROPE_PAIRS, .head_dim = 3},
        {.tensor = &square,
         .rows = 8,
         .cols = 8,
         .order = TSR_ROW_ORDER_ROPE_PAIRS,
         .head_dim = 16},
        {.tensor = &square, .rows = 4, .cols = 8, .run = 3, .stride = 4},
        {.tensor = &square, .rows = 4, .cols = 8, .run = 2, .stride = 1},
        {.tensor = &square, .rows = 4, .cols = 8, .run = 2, .stride = 7},
        {.tensor = &square, .row_first = 1, .rows = 4, .cols = 8, .run = 2, .stride = 6},
        {.tensor = &square, .rows = 0, .cols = 8, .run = 1, .stride = 1},
        {.tensor = &square, .rows = UINT64_MAX, .cols = 8, .run = 1, .stride = UINT32_MAX},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct tsr_program p;
        struct tsr_err err = {0};
        init(&p);
        assert_true(tsr_program_weight(&p, &cases[i], &err) < 0);
        assert_non_null(strstr(err.text, cases[i].tensor->name));
        tsr_program_fini(&p);
    }
}

static void test_program_refuses_buffers_and_ropes(void **state)
{
    (void)state;
    struct tsr_program p;
    init(&p);
    assert_int_equal(tsr_program_buffer(&p, 0, NULL), -EINVAL);
    while (p.n_buffers < TSR_PROGRAM_BUFFERS_MAX) {
        assert_true(tsr_program_buffer(&p, 1, NULL) > 0);
    }
    assert_int_equal(tsr_program_buffer(&p, 1, NULL), -E2BIG);
    static const float infinite[2] = {1.0f, INFINITY};
    static const struct tsr_rope ropes[] = {
        {.dims = 0, .scale = 1.0f, .inv_freq = ones},
        {.dims = 3, .scale = 1.0f, .inv_freq = ones},
        {.dims = 4, .scale = 1.0f, .inv_freq = NULL},
        {.dims = 4, .scale = NAN, .inv_freq = ones},
        {.dims = 4, .scale = 1.0f, .inv_freq = infinite},
        {.dims = 4, .scale = 1.0f, .inv_freq = ones, .length = 9, .inv_freq_long = infinite},
        {.dims = 2, .scale = 1.0f, .inv_freq = ones, .length = 9, .base = 10.0f, .factor = 2.0f},
        {.dims = 4, .scale = 1.0f, .inv_freq = ones, .length = 9, .base = 10.0f, .factor = 0.5f},
        {.dims = 4, .scale = 1.0f, .inv_freq = ones, .length = 9, .base = 0.0f, .factor = 2.0f},
    };
    for (size_t i = 0; i < sizeof ropes / sizeof *ropes; i++) {
        assert_int_equal(tsr_program_rope(&p, &ropes[i], NULL), -EINVAL);
    }
    assert_null(tsr_program_alloc(&p, SIZE_MAX));
    tsr_program_fini(&p);
}

static void test_program_chooses_frequencies_by_length(void **state)
{
    (void)state;
    struct tsr_program p = {0};
    static const float near[2] = {1.0f, 0.5f}, far[2] = {0.25f, 0.125f};
    const struct tsr_rope plain = {.dims = 4, .scale = 1.0f, .inv_freq = near};
    struct tsr_rope longrope = plain, dynamic = plain;
    longrope.length = 9;
    longrope.inv_freq_long = far;
    dynamic.length = 100;
    dynamic.base = 10000.0f;
    dynamic.factor = 2.0f;
    float scratch[2];
    assert_ptr_equal(tsr_rope_frequencies(&plain, 1000, scratch), near);
    assert_ptr_equal(tsr_rope_frequencies(&longrope, 9, scratch), near);
    assert_ptr_equal(tsr_rope_frequencies(&longrope, 10, scratch), far);
    assert_ptr_equal(tsr_rope_frequencies(&dynamic, 100, scratch), near);
    /* 150 positions: base' = 10000 * (2 * 1.5 - 1) ^ (4 / 2) = 40000, frequencies 1 and 1 / 200 */
    assert_ptr_equal(tsr_rope_frequencies(&dynamic, 150, scratch), scratch);
    assert_true(scratch[0] == 1.0f && fabsf(scratch[1] - 0.005f) < 1e-8f);

    assert_true(tsr_program_rope(&p, &plain, NULL) >= 0);
    assert_true(tsr_program_turns_alike(&p, 1, 1000));
    assert_true(tsr_program_rope(&p, &longrope, NULL) >= 0);
    assert_true(tsr_program_turns_alike(&p, 1, 9) && tsr_program_turns_alike(&p, 10, 1000));
    assert_false(tsr_program_turns_alike(&p, 9, 10));
    assert_true(tsr_program_rope(&p, &dynamic, NULL) >= 0);
    assert_true(tsr_program_turns_alike(&p, 10, 100) && tsr_program_turns_alike(&p, 150, 150));
    assert_false(tsr_program_turns_alike(&p, 150, 151));
}

static void append(struct tsr_program *p, const struct tsr_op *const *ops, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        struct tsr_err err = {0};
        if (tsr_program_op(p, ops[i], &err) < 0) {
            fail_msg("%s", err.text);
        }
    }
}

static void test_program_checks_the_whole(void **state)
{
    (void)state;
    static const struct {
        const struct tsr_op *ops[8];
        size_t n;
        int result;
    } cases[] = {
        {{&embed_op, &norm_op, &matmul_op, &rope_op, &attend_op, &select_op, &head_op}, 7, 0},
        {{&embed_op, &norm_op, &matmul_op, &attend_op, &head_op}, 5, -EINVAL},   /* no select */
        {{&embed_op, &norm_op, &matmul_op, &attend_op, &select_op}, 5, -EINVAL}, /* no logits */
        {{&embed_op, &select_op, &head_op}, 3, -EINVAL},              /* a layer not attended */
        {{&attend_op, &attend_op, &select_op, &head_op}, 4, -EINVAL}, /* attended twice */
        {{&embed_op, &select_op, &attend_op, &head_op}, 4, -EINVAL},  /* after the select */
        {{&norm_op, &attend_op, &select_op, &head_op}, 4, -EINVAL},   /* no embedding first */
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct tsr_program p;
        struct tsr_err err = {0};
        init(&p);
        append(&p, cases[i].ops, cases[i].n);
        assert_int_equal(tsr_program_check(&p, &err), cases[i].result);
        p.logits = 2;
        assert_int_equal(tsr_program_check(&p, &err), -EINVAL);
        tsr_program_fini(&p);
    }
    struct tsr_program p;
    init(&p);
    assert_int_equal(tsr_program_op(&p, &select_op, NULL), 0);
    assert_int_equal(tsr_program_op(&p, &select_op, NULL), -EINVAL); /* one only */
    tsr_program_fini(&p);
}

static void test_program_grows_and_keeps_allocations(void **state)
{
    (void)state;
    struct tsr_program p;
    init(&p);
    for (uint32_t i = 0; i < 1000; i++) {
        assert_int_equal(tsr_program_op(&p, &norm_op, NULL), 0);
        const struct tsr_weight matrix = {.tensor = &square, .rows = 8, .cols = 8};
        assert_int_equal(tsr_program_weight(&p, &matrix, NULL), 2 + i);
        float *vector = tsr_program_alloc(&p, i * sizeof *vector);
        assert_int_equal((uintptr_t)vector % 64, 0);
        memset(vector, 0xff, i * sizeof *vector);
    }
    assert_int_equal(p.n_ops, 1000);
    assert_int_equal(p.ops[999].kind, TSR_OP_NORM);
    tsr_program_fini(&p);
    assert_int_equal(p.n_ops, 0);
    tsr_program_fini(&p); /* again: nothing */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_program_refuses_operations_of_any_kind),
        cmocka_unit_test(test_program_refuses_embeddings_and_norms),
        cmocka_unit_test(test_program_refuses_matmuls),
        cmocka_unit_test(test_program_refuses_attention),
        cmocka_unit_test(test_program_refuses_weights),
        cmocka_unit_test(test_program_refuses_buffers_and_ropes),
        cmocka_unit_test(test_program_chooses_frequencies_by_length),
        cmocka_unit_test(test_program_checks_the_whole),
        cmocka_unit_test(test_program_grows_and_keeps_allocations),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
