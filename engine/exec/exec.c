#include "exec_priv.h"

#include <assert.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

/* Copies the vectors, biases and operations that the compiled program points at, so that the model
 * can be closed. */
static int adopt(struct tsr_exec *exec, const struct tsr_program *from, struct tsr_err *err)
{
    struct tsr_program *p = &exec->program;
    p->owned = NULL;
    p->weights = NULL;
    p->ops = NULL;
    struct tsr_op *ops = tsr_program_alloc(p, from->n_ops * sizeof *ops);
    if (!ops) {
        return tsr_err_set(err, -ENOMEM, "no memory for the program");
    }
    p->ops = ops;
    memcpy(ops, from->ops, from->n_ops * sizeof *ops);
    for (uint32_t i = 0; i < from->n_ops; i++) {
        struct tsr_op *op = &ops[i];
        if (op->kind == TSR_OP_NORM) {
            float *vector = tsr_program_alloc(p, op->norm.group * sizeof *vector);
            if (!vector) {
                return tsr_err_set(err, -ENOMEM, "no memory for the program");
            }
            op->norm.vector = memcpy(vector, op->norm.vector, op->norm.group * sizeof *vector);
        } else if (op->kind == TSR_OP_ATTEND && op->attend.slopes) {
            size_t bytes = op->attend.heads * sizeof *op->attend.slopes;
            float *slopes = tsr_program_alloc(p, bytes);
            if (!slopes) {
                return tsr_err_set(err, -ENOMEM, "no memory for the program");
            }
            op->attend.slopes = memcpy(slopes, op->attend.slopes, bytes);
        } else if (op->kind == TSR_OP_MATMUL || op->kind == TSR_OP_GLU) {
            for (uint32_t j = 0; j < op->matmul.n_parts; j++) {
                struct tsr_part *part = &op->matmul.parts[j];
                uint32_t rows = exec->matrices[part->weight].rows;
                float *bias = part->bias ? tsr_program_alloc(p, rows * sizeof *bias) : NULL;
                if (part->bias && !bias) {
                    return tsr_err_set(err, -ENOMEM, "no memory for the program");
                }
                part->bias = bias ? memcpy(bias, part->bias, rows * sizeof *bias) : NULL;
            }
        }
    }
    for (uint32_t i = 0; i < p->n_ropes; i++) {
        struct tsr_rope *rope = &p->ropes[i];
        size_t bytes = rope->dims / 2 * sizeof(float);
        float *inv_freq = tsr_program_alloc(p, 2 * bytes);
        if (!inv_freq) {
            return tsr_err_set(err, -ENOMEM, "no memory for the program");
        }
        rope->inv_freq = memcpy(inv_freq, rope->inv_freq, bytes);
        if (rope->inv_freq_long) {
            rope->inv_freq_long = memcpy(inv_freq + rope->dims / 2, rope->inv_freq_long, bytes);
        }
    }
    for (uint32_t i = 0; i < exec->n_ops; i++) {
        struct exec_op *x = &exec->ops[i];
        x->op = ops + (x->op - from->ops);
        x->norm = x->norm ? ops + (x->norm - from->ops) : NULL;
    }
    return 0;
}

static int allocate(struct tsr_exec *exec, struct tsr_err *err)
{
    struct tsr_arena *a = &exec->buffers;
    const struct tsr_program *p = &exec->program;
    const struct tsr_exec_options *o = &exec->options;
    uint32_t cols = tsr_exec_cols_max(exec);
    int rc = tsr_arena_create(&exec->weights, exec->plan.weights_bytes, -1, TSR_PAGES_1G, err);
    rc = rc < 0 ? rc : tsr_arena_create(a, exec->plan.buffer_bytes, -1, TSR_PAGES_2M, err);
    if (rc < 0) {
        return rc;
    }
    for (uint32_t i = 0; i < p->n_buffers; i++) {
        exec->buffer[i] = tsr_arena_alloc(
            a, (size_t)tsr_exec_buffer_rows(exec, i) * exec->stride[i] * sizeof(float), 64);
    }
    tsr_acts_init(&exec->acts, tsr_arena_alloc(a, tsr_acts_bytes(o->rows_max, cols), 64),
                  o->rows_max, cols);
    exec->workers = calloc(exec->plan.workers, sizeof *exec->workers);
    exec->tokens = calloc(o->rows_max, sizeof *exec->tokens);
    exec->positions = calloc(o->rows_max, sizeof *exec->positions);
    exec->row_span = calloc(o->rows_max, sizeof *exec->row_span);
    exec->wanted = calloc(o->logit_rows_max, sizeof *exec->wanted);
    exec->tiles = calloc(o->rows_max, sizeof *exec->tiles);
    if (!exec->workers || !exec->tokens || !exec->positions || !exec->row_span || !exec->wanted ||
        !exec->tiles) {
        return tsr_err_set(err, -ENOMEM, "no memory for a step of %u rows", o->rows_max);
    }
    for (uint32_t i = 0; i < exec->n_ops; i++) {
        if (exec->ops[i].kind == EXEC_ATTEND) {
            exec->ops[i].next = aligned_alloc(64, 64);
            if (!exec->ops[i].next) {
                return tsr_err_set(err, -ENOMEM, "no memory for the program");
            }
        }
    }
    for (uint32_t i = 0; i < exec->plan.workers; i++) {
        struct exec_worker *w = &exec->workers[i];
        tsr_acts_init(&w->acts, tsr_arena_alloc(a, tsr_acts_bytes(EXEC_PRIVATE_ROWS, cols), 64),
                      EXEC_PRIVATE_ROWS, cols);
        w->out = tsr_arena_alloc(a, tsr_exec_out_bytes(exec), 64);
        w->scratch = tsr_arena_alloc(a, tsr_exec_scratch_bytes(), 64);
    }
    for (uint32_t i = 0; i < p->n_ropes; i++) {
        uint32_t half = p->ropes[i].dims / 2;
        size_t bytes = (size_t)o->rows_max * half * sizeof(float);
        exec->cos[i] = tsr_arena_alloc(a, bytes, 64);
        exec->sin[i] = tsr_arena_alloc(a, bytes, 64);
    }
    struct tsr_kv_shape shape = {p->layers, p->kv_heads, p->head_dim, exec->kernels->kv_bytes};
    return tsr_kv_create(&exec->kv, &shape, exec->plan.kv_bytes, -1, err);
}

int tsr_exec_create(struct tsr_exec **out, const struct tsr_model *model,
                    const struct tsr_exec_options *options,
                    void (*progress)(void *ctx, double done), void *ctx, struct tsr_err *err)
{
    struct tsr_exec *exec = calloc(1, sizeof *exec);
    if (!exec) {
        return tsr_err_set(err, -ENOMEM, "no memory for the executor");
    }
    exec->progress = progress;
    exec->progress_ctx = ctx;
    int rc = tsr_exec_make_plan(exec, model, options, err);
    if (rc == 0) {
        rc = adopt(exec, &model->program, err);
        exec->owned = exec->program.owned;
    }
    rc = rc < 0 ? rc : allocate(exec, err);
    if (rc == 0) {
        bool pinned = options->pin || options->cpus;
        rc = tsr_team_create(&exec->team, exec->plan.workers, pinned ? exec->cpus : NULL,
                             options->spin, err);
    }
    if (rc < 0) {
        tsr_exec_destroy(exec);
        return rc;
    }
    tsr_exec_pack(exec, &model->program);
    *out = exec;
    return 0;
}

void tsr_exec_destroy(struct tsr_exec *exec)
{
    if (!exec) {
        return;
    }
    tsr_team_destroy(exec->team);
    tsr_kv_destroy(exec->kv);
    tsr_arena_destroy(&exec->weights);
    tsr_arena_destroy(&exec->buffers);
    tsr_exec_release(exec);
    struct tsr_program owner = {.owned = exec->owned};
    tsr_program_fini(&owner);
    free(exec->workers);
    free(exec->tokens);
    free(exec->positions);
    free(exec->row_span);
    free(exec->wanted);
    free(exec->tiles);
    free(exec);
}

void tsr_exec_step(struct tsr_exec *exec, const struct tsr_span *spans, uint32_t n_spans)
{
    uint32_t rows = 0, wanted = 0;
    exec->spans = spans;
    exec->n_tiles = 0;
    exec->pools = false;
    for (uint32_t s = 0; s < n_spans; s++) {
        const struct tsr_span *span = &spans[s];
        assert(span->rows > 0 && span->logit_rows <= span->rows);
        assert(rows + span->rows <= exec->options.rows_max);
        assert(wanted + span->logit_rows <= exec->options.logit_rows_max);
        assert((uint64_t)span->position + span->rows <= exec->plan.context);
        assert((uint64_t)span->kv->n_pages * TSR_KV_PAGE_POSITIONS >=
               (uint64_t)span->position + span->rows);
        assert(span->pool_rows == 0 || exec->plan.embedding_width > 0);
        assert((uint64_t)span->pool_first + span->pool_rows <= span->rows);
        exec->pools |= span->pool_rows > 0;
        exec->tiles[exec->n_tiles++] = (struct exec_tile){s, rows, span->rows, span->position};
        for (uint32_t i = 0; i < span->rows; i++, rows++) {
            assert(span->tokens[i] < exec->program.vocab);
            exec->tokens[rows] = span->tokens[i];
            exec->positions[rows] = span->position + i;
            exec->row_span[rows] = s;
            if (i >= span->rows - span->logit_rows) {
                exec->wanted[wanted++] = rows;
            }
        }
    }
    exec->rows = rows;
    exec->logit_rows = wanted;
    for (uint32_t i = 0; i < exec->n_ops; i++) {
        if (exec->ops[i].next) {
            atomic_store_explicit(exec->ops[i].next, 0, memory_order_relaxed);
        }
    }
    if (rows) {
        tsr_team_run(exec->team, tsr_exec_run, exec);
    }
}

const float *tsr_exec_logits(const struct tsr_exec *exec, uint32_t i)
{
    assert(i < exec->logit_rows);
    uint16_t buffer = exec->program.logits;
    return exec->buffer[buffer] + (size_t)i * exec->stride[buffer];
}

void tsr_exec_idle(struct tsr_exec *exec)
{
    tsr_team_rest(exec->team);
}

struct tsr_kv_pool *tsr_exec_kv(struct tsr_exec *exec)
{
    return exec->kv;
}

const struct tsr_exec_plan *tsr_exec_planned(const struct tsr_exec *exec)
{
    return &exec->plan;
}

int tsr_exec_cpu(const struct tsr_exec *exec, uint32_t worker)
{
    bool pinned = exec->options.pin || exec->options.cpus;
    return pinned && worker < exec->plan.workers ? (int)exec->cpus[worker] : -1;
}

enum tsr_pages tsr_exec_pages(const struct tsr_exec *exec)
{
    return exec->weights.pages;
}

void tsr_exec_placement(const struct tsr_exec *exec, struct tsr_placement *placement)
{
    *placement = (struct tsr_placement){0};
    tsr_placement_add(placement, &exec->weights);
    tsr_placement_add(placement, &exec->buffers);
    tsr_placement_add(placement, tsr_kv_arena(exec->kv));
}

enum tsr_isa tsr_exec_isa_best(void)
{
    struct tsr_cpu cpu = tsr_cpu_detect();
    return cpu.avx512 ? TSR_ISA_AVX512 : cpu.avx2 ? TSR_ISA_AVX2 : TSR_ISA_REF;
}

const char *tsr_isa_name(enum tsr_isa isa)
{
    static const char *const names[] = {"best", "ref", "avx2", "avx512"};
    return names[isa];
}

/* Appends a line to out [size], n bytes of which are used; the new n. */
__attribute__((format(printf, 4, 5))) static int append(char *out, size_t size, int n,
                                                        const char *format, ...)
{
    va_list args;
    if (n < 0 || (size_t)n >= size) {
        return n;
    }
    va_start(args, format);
    int more = vsnprintf(out + n, size - (size_t)n, format, args);
    va_end(args);
    return more < 0 ? more : n + more;
}

/* Says of each type of the file what it is held as, where that is another. */
static void explain_types(const struct tsr_exec *exec, char *out, size_t size, int n)
{
    for (enum tsr_dtype t = 0; t < TSR_DTYPE_COUNT; t++) {
        const struct tsr_dtype_info *type = tsr_dtype_info(t);
        uint32_t count[TSR_FORMAT_COUNT] = {0};
        for (uint32_t i = 0; i < exec->program.n_weights; i++) {
            count[exec->matrices[i].format] += exec->matrices[i].dtype == t;
        }
        for (enum tsr_format f = 0; f < TSR_FORMAT_COUNT; f++) {
            const struct tsr_format_info *info = tsr_format_info(f);
            if (count[f] && strcasecmp(type->name, info->name) != 0) {
                n = append(out, size, n,
                           "%u matrices of type %s are held as %s, %s: %.2f bits a weight, where "
                           "the file has %.2f\n",
                           count[f], type->name, info->name,
                           tsr_format_exact(t) == f || f == TSR_FORMAT_F32 ? "exactly" : "rounded",
                           info->block_bytes * 8.0 / (info->block * TSR_PANEL_ROWS),
                           type->block_bytes * 8.0 / type->block);
            }
        }
    }
}

void tsr_exec_explain(const struct tsr_exec *exec, char *out, size_t size)
{
    uint64_t bytes[TSR_FORMAT_COUNT] = {0};
    uint32_t count[TSR_FORMAT_COUNT] = {0};
    for (uint32_t i = 0; i < exec->program.n_weights; i++) {
        const struct exec_matrix *m = &exec->matrices[i];
        bytes[m->format] += (uint64_t)m->panels * m->panel_bytes;
        count[m->format]++;
    }
    struct tsr_cpu cpu = tsr_cpu_detect();
    int n = snprintf(
        out, size,
        "instruction set: %s (CPU: avx2 %s, avx512 with vnni and bf16 %s)\nworkers: %u, %s\n"
        "weights on %s pages\n",
        exec->kernels->name, cpu.avx2 ? "yes" : "no", cpu.avx512 ? "yes" : "no", exec->plan.workers,
        exec->options.spin ? "spinning" : "spinning briefly, then asleep",
        tsr_pages_name(exec->weights.pages));
    for (uint32_t f = 0; f < TSR_FORMAT_COUNT; f++) {
        if (count[f]) {
            bool ints = tsr_format_info(f)->scale_inputs && exec->kernels->quantizes;
            bool halves = f == TSR_FORMAT_BF16 && exec->kernels->to_bf16;
            n = append(out, size, n, "%s: %u matrices, %.1f MB, %s activations\n",
                       tsr_format_info(f)->name, count[f], (double)bytes[f] / 1e6,
                       ints     ? "16-bit"
                       : halves ? "bf16"
                                : "f32");
        }
    }
    explain_types(exec, out, size, n);
}
