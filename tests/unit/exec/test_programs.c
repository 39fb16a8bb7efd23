/* Programs that no committed model has (biases everywhere, odd sizes, windows, softcaps, norms on
 * heads, factors, layers without rotation) against the slow interpreter in double precision: every
 * operation in every form, on every table of kernels. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>

#include <tsr/exec/exec.h>

#include "reference.h"

enum { ROWS = 90, PAGES = 2 };

static uint32_t state = 99;
static float uniform(void)
{
    state = state * 1664525u + 1013904223u;
    return (float)(state >> 8) / 8388608.0f - 1;
}

static float *vector(struct tsr_program *p, uint32_t n, float middle)
{
    float *v = tsr_program_alloc(p, n * sizeof *v);
    for (uint32_t i = 0; i < n; i++) {
        v[i] = middle + 0.3f * uniform();
    }
    return v;
}

/* rows of `tensor_rows` random ones. */
static uint32_t weight(struct tsr_program *p, struct tsr_weight w, uint32_t tensor_rows)
{
    struct tsr_tensor *t = tsr_program_alloc(p, sizeof *t);
    size_t n = (size_t)tensor_rows * w.cols;
    float *data = tsr_program_alloc(p, n * sizeof *data);
    for (size_t i = 0; i < n; i++) {
        data[i] = uniform() / sqrtf((float)w.cols) * 1.7f;
    }
    *t = (struct tsr_tensor){.name = "random",
                             .dtype = TSR_DTYPE_F32,
                             .n_dims = 2,
                             .dims = {tensor_rows, w.cols},
                             .data = data,
                             .bytes = n * sizeof *data};
    w.tensor = t;
    p->parameters += n;
    int index = tsr_program_weight(p, &w, NULL);
    assert_true(index >= 0);
    return (uint32_t)index;
}

static uint32_t matrix(struct tsr_program *p, uint32_t rows, uint32_t cols)
{
    return weight(p, (struct tsr_weight){.rows = rows, .cols = cols}, rows);
}

static void append(struct tsr_program *p, struct tsr_op op)
{
    struct tsr_err err;
    if (tsr_program_op(p, &op, &err) < 0) {
        fail_msg("%s", err.text);
    }
}

struct shape {
    uint32_t hidden, ffn, vocab, heads, kv_heads, dim, rope_dims, rope_length, window;
    bool longrope, biases, head_norms, reuse_norm, post_norms, packed, slopes, unit_head;
    float softcap, scale, logit_cap;
    enum tsr_act act;
};

/* q, k or v (i 0, 1, 2): alone, or gathered from one matrix that has each KV head's queries, key
 * and value side by side. */
static uint32_t projection(struct tsr_program *p, const struct shape *s, int i, uint32_t rows)
{
    uint32_t group = s->heads / s->kv_heads, first[] = {0, group, group + 1};
    struct tsr_weight w = {.rows = rows, .cols = s->hidden};
    if (s->packed) {
        w.row_first = first[i] * s->dim;
        w.run = (i == 0 ? group : 1) * s->dim;
        w.stride = (group + 2) * s->dim;
        rows = s->kv_heads * w.stride;
    }
    return weight(p, w, rows);
}

/* x += in . W^T, or the norm of that. */
static void add_to_stream(struct tsr_program *p, const struct shape *s, uint16_t in, uint16_t h,
                          uint16_t x, float scale)
{
    uint32_t cols = p->buffer_width[in];
    const float *bias = s->biases ? vector(p, s->hidden, 0) : NULL;
    append(p, (struct tsr_op){.kind = TSR_OP_MATMUL,
                              .in = in,
                              .out = s->post_norms ? h : x,
                              .scale = scale,
                              .matmul = {.n_parts = 1,
                                         .accumulate = !s->post_norms,
                                         .parts = {{matrix(p, s->hidden, cols), 0, bias}}}});
    if (s->post_norms) {
        append(p, (struct tsr_op){.kind = TSR_OP_NORM,
                                  .in = h,
                                  .out = x,
                                  .norm = {.vector = vector(p, s->hidden, 1),
                                           .eps = 1e-5f,
                                           .group = s->hidden,
                                           .groups = 1,
                                           .accumulate = true}});
    }
}

static void build(struct tsr_model *model, const struct shape *s)
{
    struct tsr_program *p = &model->program;
    uint32_t q = s->heads * s->dim, kv = s->kv_heads * s->dim, layers = 2;
    p->vocab = s->vocab;
    p->context = ROWS;
    p->hidden = s->hidden;
    p->layers = layers;
    p->kv_heads = s->kv_heads;
    p->head_dim = s->dim;
    uint16_t x = (uint16_t)tsr_program_buffer(p, s->hidden, NULL);
    uint16_t h = (uint16_t)tsr_program_buffer(p, s->hidden, NULL);
    uint16_t qkv = (uint16_t)tsr_program_buffer(p, q + 2 * kv, NULL);
    uint16_t att = (uint16_t)tsr_program_buffer(p, q, NULL);
    uint16_t ffn = (uint16_t)tsr_program_buffer(p, s->ffn, NULL);
    uint16_t last = (uint16_t)tsr_program_buffer(p, s->hidden, NULL);
    p->logits = (uint16_t)tsr_program_buffer(p, s->vocab, NULL);
    uint32_t embedding = matrix(p, s->vocab, s->hidden);
    int rope = -1;
    if (s->rope_dims) {
        struct tsr_rope r = {.dims = s->rope_dims,
                             .scale = 1.1f,
                             .inv_freq = vector(p, s->rope_dims / 2, 0.4f),
                             .length = s->rope_length,
                             .base = 100,
                             .factor = 2};
        r.inv_freq_long = s->longrope ? vector(p, s->rope_dims / 2, 0.3f) : NULL;
        rope = tsr_program_rope(p, &r, NULL);
        assert_true(rope >= 0);
    }
    append(p, (struct tsr_op){.kind = TSR_OP_EMBED, .out = x, .scale = 1.5f, .embed = {embedding}});
    for (uint32_t layer = 0; layer < layers; layer++) {
        append(p,
               (struct tsr_op){.kind = TSR_OP_NORM,
                               .in = x,
                               .out = h,
                               .norm = {vector(p, s->hidden, 1), 1e-5f, 0, s->hidden, 1, false}});
        struct tsr_op op = {
            .kind = TSR_OP_MATMUL, .in = h, .out = qkv, .scale = 1, .matmul = {.n_parts = 3}};
        uint32_t rows[3] = {q, kv, kv}, col = 0;
        for (int i = 0; i < 3; i++) {
            op.matmul.parts[i] = (struct tsr_part){projection(p, s, i, rows[i]), col,
                                                   s->biases ? vector(p, rows[i], 0) : NULL};
            col += rows[i];
        }
        append(p, op);
        if (s->head_norms) {
            append(p, (struct tsr_op){
                          .kind = TSR_OP_NORM,
                          .in = qkv,
                          .out = qkv,
                          .norm = {vector(p, s->dim, 1), 1e-6f, 0, s->dim, s->heads, false}});
            append(p, (struct tsr_op){
                          .kind = TSR_OP_NORM,
                          .in = qkv,
                          .out = qkv,
                          .norm = {vector(p, s->dim, 1), 1e-6f, q, s->dim, s->kv_heads, false}});
        }
        if (rope >= 0 && layer == 0) { /* the second layer has none */
            append(p, (struct tsr_op){.kind = TSR_OP_ROPE,
                                      .in = qkv,
                                      .out = qkv,
                                      .rope = {(uint32_t)rope, 0, s->heads, s->dim}});
            append(p, (struct tsr_op){.kind = TSR_OP_ROPE,
                                      .in = qkv,
                                      .out = qkv,
                                      .rope = {(uint32_t)rope, q, s->kv_heads, s->dim}});
        }
        append(p, (struct tsr_op){.kind = TSR_OP_ATTEND,
                                  .in = qkv,
                                  .out = att,
                                  .scale = s->scale,
                                  .attend = {layer, s->heads, s->kv_heads, s->dim, 0, q, q + kv,
                                             layer ? s->window : 0, s->softcap,
                                             s->slopes ? vector(p, s->heads, 0.3f) : NULL}});
        add_to_stream(p, s, att, h, x, 0.7f);
        if (!s->reuse_norm) { /* else h, still this layer's first norm, feeds both (a parallel
                                 block) and must not melt away */
            append(p, (struct tsr_op){
                          .kind = TSR_OP_NORM,
                          .in = x,
                          .out = h,
                          .norm = {vector(p, s->hidden, 1), 1e-5f, 0, s->hidden, 1, false}});
        }
        append(p,
               (struct tsr_op){.kind = TSR_OP_GLU,
                               .in = h,
                               .out = ffn,
                               .scale = 1,
                               .matmul = {.n_parts = 2,
                                          .act = s->act,
                                          .parts = {{matrix(p, s->ffn, s->hidden), 0,
                                                     s->biases ? vector(p, s->ffn, 0) : NULL},
                                                    {matrix(p, s->ffn, s->hidden), 0,
                                                     s->biases ? vector(p, s->ffn, 0) : NULL}}}});
        add_to_stream(p, s, ffn, h, x, 1);
    }
    append(p, (struct tsr_op){.kind = TSR_OP_SELECT, .in = x, .out = last});
    append(p, (struct tsr_op){.kind = TSR_OP_NORM,
                              .in = last,
                              .out = last,
                              .norm = {vector(p, s->hidden, 1), 1e-5f, 0, s->hidden, 1, false}});
    uint32_t head = embedding;
    if (s->unit_head) {
        struct tsr_weight w = {.rows = s->vocab, .cols = s->hidden, .unit = true};
        head = weight(p, w, s->vocab);
    }
    append(p, (struct tsr_op){
                  .kind = TSR_OP_MATMUL,
                  .in = last,
                  .out = p->logits,
                  .scale = 0.5f,
                  .matmul = {.n_parts = 1, .parts = {{head, 0, NULL}}, .softcap = s->logit_cap}});
    struct tsr_err err;
    if (tsr_program_check(p, &err) < 0) {
        fail_msg("%s", err.text);
    }
}

static void check(const struct shape *s)
{
    struct tsr_model model = {0};
    build(&model, s);
    uint32_t ids[ROWS];
    for (uint32_t i = 0; i < ROWS; i++) {
        ids[i] = (i * 37 + 5) % s->vocab;
    }
    double *want = reference_logits(&model.program, ids, ROWS);
    static const struct {
        enum tsr_weights weights;
        double limit;
    } kinds[] = {{TSR_WEIGHTS_REF, 1e-9},
                 {TSR_WEIGHTS_F16, 1e-5},
                 {TSR_WEIGHTS_BF16, 1e-3},
                 {TSR_WEIGHTS_INT8, 4e-3}};
    for (size_t k = 0; k < sizeof kinds / sizeof *kinds; k++) {
        for (uint32_t chunk = 1; chunk <= ROWS; chunk = chunk * 3 + 10) {
            struct tsr_exec *exec;
            struct tsr_err err;
            struct tsr_kv_shape kv = {2, s->kv_heads, s->dim, 4};
            struct tsr_exec_options options = {.workers = 2,
                                               .weights = kinds[k].weights,
                                               .logit_rows_max = ROWS,
                                               .rows_max = ROWS,
                                               .kv_bytes = PAGES * tsr_kv_page_bytes(&kv)};
            if (tsr_exec_create(&exec, &model, &options, NULL, NULL, &err) < 0) {
                fail_msg("%s", err.text);
            }
            struct tsr_kv_seq seq;
            uint32_t pages[PAGES];
            double error = 0, size = 0;
            tsr_kv_seq_init(&seq, pages, PAGES);
            assert_int_equal(tsr_kv_reserve(tsr_exec_kv(exec), &seq, ROWS), 0);
            for (uint32_t at = 0; at < ROWS; at += chunk) {
                uint32_t n = ROWS - at < chunk ? ROWS - at : chunk;
                struct tsr_span span = {
                    .kv = &seq, .tokens = ids + at, .rows = n, .position = at, .logit_rows = n};
                tsr_exec_step(exec, &span, 1);
                for (uint32_t r = 0; r < n; r++) {
                    const float *row = tsr_exec_logits(exec, r);
                    for (uint32_t v = 0; v < s->vocab; v++) {
                        double w = want[(size_t)(at + r) * s->vocab + v], e = (double)row[v] - w;
                        error += e * e;
                        size += w * w;
                    }
                }
            }
            if (!(error / size <= kinds[k].limit)) {
                fail_msg("hidden %u, weights %d, chunk %u: nmse %g (limit %g)", s->hidden,
                         (int)kinds[k].weights, chunk, error / size, kinds[k].limit);
            }
            tsr_exec_destroy(exec);
        }
    }
    free(want);
    tsr_program_fini(&model.program);
}

static void test_programs_equal_the_slow_interpreter(void **unused)
{
    (void)unused;
    static const struct shape shapes[] = {
        {.hidden = 64,
         .ffn = 96,
         .vocab = 128,
         .heads = 4,
         .kv_heads = 2,
         .dim = 16,
         .rope_dims = 16,
         .scale = 0.25f},
        {.hidden = 60,
         .ffn = 271,
         .vocab = 1009,
         .heads = 3,
         .kv_heads = 3,
         .dim = 20,
         .rope_dims = 20,
         .rope_length = ROWS, /* just not above it */
         .scale = 0.2f,
         .biases = true,
         .window = 24},
        {.hidden = 96,
         .ffn = 130,
         .vocab = 77,
         .heads = 6,
         .kv_heads = 1,
         .dim = 32,
         .rope_dims = 16,
         .rope_length = 64,
         .scale = 0.3f,
         .head_norms = true,
         .softcap = 5,
         .window = 70,
         .act = TSR_ACT_GELU_TANH},
        {.hidden = 40,
         .ffn = 64,
         .vocab = 50,
         .heads = 17,
         .kv_heads = 1,
         .dim = 8,
         .scale = 0.35f,
         .biases = true,
         .reuse_norm = true},
        {.hidden = 40, /* more queries a KV head than two calls of a kernel take */
         .ffn = 64,
         .vocab = 50,
         .heads = 48,
         .kv_heads = 1,
         .dim = 8,
         .scale = 0.35f},
        {.hidden = 52,
         .ffn = 271,
         .vocab = 1009,
         .heads = 6,
         .kv_heads = 2,
         .dim = 20,
         .rope_dims = 20,
         .rope_length = 64,
         .longrope = true,
         .scale = 0.2f,
         .post_norms = true,
         .packed = true,
         .biases = true,
         .logit_cap = 1.5f},
        {.hidden = 75,
         .ffn = 33,
         .vocab = 131,
         .heads = 5,
         .kv_heads = 5,
         .dim = 80,
         .scale = 0.1f,
         .window = 40,
         .slopes = true,
         .unit_head = true},
    };
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        check(&shapes[i]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_programs_equal_the_slow_interpreter)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
