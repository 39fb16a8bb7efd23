/* From the program that the builder wrote to what workers run: norms melt into the matmul that
 * reads them, rotary embeddings into the storing of keys, and every matrix gets its format and its
 * split over the workers. */
#include "exec_priv.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static enum tsr_format choose_format(enum tsr_weights weights, enum tsr_dtype dtype)
{
    switch (weights) {
    case TSR_WEIGHTS_REF:
        return tsr_format_exact(dtype);
    case TSR_WEIGHTS_BF16:
        return TSR_FORMAT_BF16;
    case TSR_WEIGHTS_F16:
        return TSR_FORMAT_F16;
    case TSR_WEIGHTS_INT8:
        return TSR_FORMAT_Q8_0;
    default:
        return tsr_format_of(dtype);
    }
}

static bool reads(const struct tsr_op *op, uint16_t buffer)
{
    bool accumulates = (op->kind == TSR_OP_MATMUL && op->matmul.accumulate) ||
                       (op->kind == TSR_OP_NORM && op->norm.accumulate);
    return (op->kind != TSR_OP_EMBED && op->in == buffer) || (accumulates && op->out == buffer);
}

/* Whether op, which does not read `buffer`, writes all its columns. */
static bool fills(const struct tsr_program *p, const struct tsr_op *op, uint16_t buffer)
{
    bool one = op->kind == TSR_OP_MATMUL && op->matmul.n_parts == 1 &&
               p->weights[op->matmul.parts[0].weight].rows == p->buffer_width[buffer];
    return op->out == buffer && (op->kind == TSR_OP_NORM || one);
}

/* Whether nothing reads `buffer` from operation `from` on before it is written again. */
static bool is_dead(const struct tsr_program *p, uint32_t from, uint16_t buffer)
{
    for (uint32_t i = from; i < p->n_ops; i++) {
        if (reads(&p->ops[i], buffer)) {
            return false;
        }
        if (fills(p, &p->ops[i], buffer)) {
            return true;
        }
    }
    return buffer != p->logits;
}

static bool is_whole_norm(const struct tsr_program *p, const struct tsr_op *op)
{
    return op->kind == TSR_OP_NORM && !op->norm.accumulate && op->norm.col == 0 &&
           op->norm.groups == 1 && op->norm.group == p->buffer_width[op->in];
}

static int compile_matmul(struct tsr_exec *exec, struct exec_op *x, struct tsr_err *err)
{
    uint32_t n = exec->plan.workers, parts = x->op->matmul.n_parts;
    x->split = calloc((size_t)parts * (n + 1), sizeof *x->split);
    if (!x->split) {
        return tsr_err_set(err, -ENOMEM, "no memory for the program");
    }
    uint64_t total = 0; /* bytes */
    for (uint32_t i = 0; i < parts; i++) {
        const struct exec_matrix *m = &exec->matrices[x->op->matmul.parts[i].weight];
        bool block = tsr_format_info(m->format)->scale_inputs > 0;
        bool halves = exec->kernels->to_bf16 && m->format == TSR_FORMAT_BF16;
        x->ints |= block && exec->kernels->quantizes;
        x->halves |= halves;
        x->floats |= !halves && !(block && exec->kernels->quantizes);
        total += m->panels * m->panel_bytes;
    }
    uint64_t before = 0;
    for (uint32_t i = 0; i < parts; i++) {
        const struct exec_matrix *m = &exec->matrices[x->op->matmul.parts[i].weight];
        uint32_t *split = x->split + (size_t)i * (n + 1);
        for (uint32_t w = 0; w <= n; w++) {
            if (x->kind == EXEC_GLU) { /* gate and up are cut at the same panels */
                split[w] = (uint32_t)((uint64_t)m->panels * w / n);
                continue;
            }
            /* worker w's share begins at byte total * w / n of all parts laid end to end */
            uint64_t at = total * w / n;
            uint64_t panel = at > before ? (at - before + m->panel_bytes / 2) / m->panel_bytes : 0;
            split[w] = w == n || panel > m->panels ? m->panels : (uint32_t)panel;
        }
        before += m->panels * m->panel_bytes;
    }
    return 0;
}

/* The rotary operations in [first, attend) sorted to the KV heads that they serve. */
static int compile_turns(struct exec_op *x, const struct tsr_op *first, struct tsr_err *err)
{
    const struct tsr_op *a = x->op;
    uint32_t dim = a->attend.head_dim, kv_heads = a->attend.kv_heads;
    uint32_t group = a->attend.heads / kv_heads;
    uint32_t most = (uint32_t)(a - first) * (group + 1);
    x->turns = calloc((size_t)kv_heads * (most + 1), sizeof *x->turns);
    uint32_t *count = calloc(kv_heads, sizeof *count);
    if (!x->turns || !count) {
        free(count);
        return tsr_err_set(err, -ENOMEM, "no memory for the program");
    }
    int rc = 0;
    for (const struct tsr_op *op = first; op < a && rc == 0; op++) {
        for (uint32_t h = 0; h < op->rope.heads; h++) {
            uint32_t col = op->rope.in_col + h * op->rope.head_dim, kv_head = kv_heads;
            if (col >= a->attend.q_col && col < a->attend.q_col + a->attend.heads * dim) {
                kv_head = (col - a->attend.q_col) / dim / group;
            } else if (col >= a->attend.k_col && col < a->attend.k_col + kv_heads * dim) {
                kv_head = (col - a->attend.k_col) / dim;
            }
            if (kv_head == kv_heads || op->in != a->in || op->rope.head_dim != dim ||
                count[kv_head] == most) {
                rc = tsr_err_set(err, -ENOTSUP,
                                 "layer %u turns columns that are neither its queries nor its keys",
                                 a->attend.layer);
                break;
            }
            x->turns[kv_head * most + count[kv_head]++] = (struct exec_turn){col, op->rope.rope};
        }
    }
    for (uint32_t g = 1; g < kv_heads && rc == 0; g++) {
        if (count[g] != count[0]) {
            rc = tsr_err_set(err, -ENOTSUP, "layer %u turns only some of its heads",
                             a->attend.layer);
        }
    }
    x->turns_per_group = count[0];
    for (uint32_t g = 1; g < kv_heads && rc == 0; g++) { /* close the gaps */
        memmove(x->turns + g * count[0], x->turns + g * most, count[0] * sizeof *x->turns);
    }
    free(count);
    return rc;
}

static int compile_op(struct tsr_exec *exec, uint32_t *at, struct tsr_err *err)
{
    const struct tsr_program *p = &exec->program;
    const struct tsr_op *op = &p->ops[*at];
    struct exec_op *x = &exec->ops[exec->n_ops++];
    *x = (struct exec_op){.op = op, .in = op->in};
    (*at)++;
    switch (op->kind) {
    case TSR_OP_EMBED:
        x->kind = EXEC_EMBED;
        return 0;
    case TSR_OP_SELECT: {
        const struct tsr_op *next = *at < p->n_ops ? &p->ops[*at] : NULL;
        x->kind = EXEC_SELECT;
        if (next && next->in == op->out && is_whole_norm(p, next)) {
            x->norm = next;
            exec->plan.embedding_width = next->norm.group;
        }
        return 0;
    }
    case TSR_OP_NORM: {
        const struct tsr_op *next = *at < p->n_ops ? &p->ops[*at] : NULL;
        bool melts = next && (next->kind == TSR_OP_MATMUL || next->kind == TSR_OP_GLU) &&
                     next->in == op->out && is_whole_norm(p, op) && is_dead(p, *at + 1, op->out);
        if (!melts) {
            x->kind = EXEC_NORM;
            return 0;
        }
        x->norm = op;
        x->op = next;
        (*at)++;
        x->kind = next->kind == TSR_OP_GLU ? EXEC_GLU : EXEC_MATMUL;
        return compile_matmul(exec, x, err);
    }
    case TSR_OP_MATMUL:
    case TSR_OP_GLU:
        x->kind = op->kind == TSR_OP_GLU ? EXEC_GLU : EXEC_MATMUL;
        return compile_matmul(exec, x, err);
    case TSR_OP_ROPE:
    case TSR_OP_ATTEND: {
        const struct tsr_op *first = op;
        while (op->kind == TSR_OP_ROPE && *at < p->n_ops) {
            op = &p->ops[(*at)++];
        }
        if (op->kind != TSR_OP_ATTEND) {
            return tsr_err_set(err, -ENOTSUP,
                               "a rotary embedding is not followed by its attention");
        }
        if (op->attend.head_dim > EXEC_HEAD_DIM_MAX) {
            return tsr_err_set(err, -ENOTSUP, "heads of %u dimensions; up to %d are supported",
                               op->attend.head_dim, EXEC_HEAD_DIM_MAX);
        }
        x->kind = EXEC_KV;
        x->op = op;
        struct exec_op *attend = &exec->ops[exec->n_ops++];
        *attend = (struct exec_op){.kind = EXEC_ATTEND, .op = op, .in = op->in};
        return compile_turns(x, first, err);
    }
    }
    return tsr_err_set(err, -ENOTSUP, "operation %d is unknown to the executor", (int)op->kind);
}

int tsr_exec_compile(struct tsr_exec *exec, const struct tsr_program *program, struct tsr_err *err)
{
    exec->program = *program;
    exec->matrices = calloc(program->n_weights, sizeof *exec->matrices);
    exec->ops = calloc((size_t)program->n_ops + 1, sizeof *exec->ops);
    if (!exec->matrices || !exec->ops) {
        return tsr_err_set(err, -ENOMEM, "no memory for the program");
    }
    for (uint32_t i = 0; i < program->n_weights; i++) {
        const struct tsr_weight *w = &program->weights[i];
        struct exec_matrix *m = &exec->matrices[i];
        m->dtype = w->tensor->dtype;
        m->format = choose_format(exec->options.weights, m->dtype);
        m->rows = (uint32_t)w->rows;
        m->cols = (uint32_t)w->cols;
        m->panels = (m->rows + TSR_PANEL_ROWS - 1) / TSR_PANEL_ROWS;
        m->panel_bytes = tsr_panel_bytes(m->format, m->cols);
        m->unit = w->unit;
    }
    for (uint32_t i = 0; i < program->n_ropes; i++) {
        if (program->ropes[i].dims > EXEC_HEAD_DIM_MAX) {
            return tsr_err_set(err, -ENOTSUP, "%u rotary dimensions; up to %d are supported",
                               program->ropes[i].dims, EXEC_HEAD_DIM_MAX);
        }
    }
    for (uint32_t i = 0; i < program->n_ops;) {
        int rc = compile_op(exec, &i, err);
        if (rc < 0) {
            return rc;
        }
    }
    return 0;
}

uint64_t tsr_exec_weight_bytes(const struct tsr_exec *exec)
{
    uint64_t bytes = 0;
    for (uint32_t i = 0; i < exec->program.n_weights; i++) {
        const struct exec_matrix *m = &exec->matrices[i];
        bytes += ((uint64_t)m->panels * m->panel_bytes + 63) / 64 * 64;
        bytes += m->unit ? (uint64_t)m->panels * TSR_PANEL_ROWS * sizeof *m->factor : 0;
    }
    return bytes;
}

uint32_t tsr_exec_act_cols(uint32_t cols)
{
    uint32_t units = (cols + TSR_ACT_COLS_ALIGN - 1) / TSR_ACT_COLS_ALIGN;
    return (units | 1) * TSR_ACT_COLS_ALIGN;
}

uint32_t tsr_exec_cols_max(const struct tsr_exec *exec)
{
    uint32_t most = 0;
    for (uint32_t i = 0; i < exec->program.n_weights; i++) {
        most = exec->matrices[i].cols > most ? exec->matrices[i].cols : most;
    }
    for (uint32_t i = 0; i < exec->program.n_ops; i++) { /* what a norm adds goes through acts.f */
        const struct tsr_op *op = &exec->program.ops[i];
        if (op->kind == TSR_OP_NORM && op->norm.accumulate) {
            most = op->norm.group > most ? op->norm.group : most;
        }
    }
    return tsr_exec_act_cols(most);
}

bool tsr_exec_buffer_is_logits(const struct tsr_program *program, uint32_t buffer)
{
    bool selected = false, used = false;
    for (uint32_t i = 0; i < program->n_ops; i++) {
        const struct tsr_op *op = &program->ops[i];
        if (!selected && (op->out == buffer || reads(op, (uint16_t)buffer)) &&
            !(op->kind == TSR_OP_SELECT && op->in != buffer)) {
            return false;
        }
        selected |= op->kind == TSR_OP_SELECT;
        used |= op->out == buffer;
    }
    return used;
}
