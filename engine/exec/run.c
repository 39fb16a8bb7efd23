/* One worker's part of a step. Rows are shared out for what happens to a row, panels for what a
 * matrix does, items for attention; every output is computed by one worker, in an order that does
 * not depend on which. */
#include "exec_priv.h"

#include <math.h>
#include <string.h>

struct range {
    uint32_t from, to;
};

static struct range share(uint32_t n, uint32_t worker, uint32_t workers)
{
    return (struct range){(uint32_t)((uint64_t)n * worker / workers),
                          (uint32_t)((uint64_t)n * (worker + 1) / workers)};
}

static float *row_of(const struct tsr_exec *exec, uint16_t buffer, uint32_t row)
{
    return exec->buffer[buffer] + (size_t)row * exec->stride[buffer];
}

/* The row's cosines and sines for every rotary embedding of the program. The angle is rounded to
 * f32 as the models were trained. */
static void angles(struct tsr_exec *exec, uint32_t row)
{
    float position = (float)exec->positions[row], scratch[EXEC_HEAD_DIM_MAX / 2];
    uint32_t length = exec->spans[exec->row_span[row]].kv->length;
    for (uint32_t r = 0; r < exec->program.n_ropes; r++) {
        const struct tsr_rope *rope = &exec->program.ropes[r];
        const float *inv_freq = tsr_rope_frequencies(rope, length, scratch);
        size_t at = (size_t)row * (rope->dims / 2);
        for (uint32_t i = 0; i < rope->dims / 2; i++) {
            double angle = (double)(position * inv_freq[i]);
            exec->cos[r][at + i] = (float)cos(angle) * rope->scale;
            exec->sin[r][at + i] = (float)sin(angle) * rope->scale;
        }
    }
}

static void embed(struct tsr_exec *exec, const struct exec_op *x, uint32_t worker)
{
    const struct exec_matrix *m = &exec->matrices[x->op->embed.weight];
    struct range r = share(exec->rows, worker, exec->plan.workers);
    for (uint32_t row = r.from; row < r.to; row++) {
        uint32_t token = exec->tokens[row];
        float *out = row_of(exec, x->op->out, row);
        angles(exec, row);
        tsr_panel_row(m->format, m->data + token / TSR_PANEL_ROWS * m->panel_bytes,
                      token % TSR_PANEL_ROWS, m->cols, out);
        if (x->op->scale != 1) {
            for (uint32_t i = 0; i < m->cols; i++) {
                out[i] *= x->op->scale;
            }
        }
    }
}

static void norm(struct tsr_exec *exec, const struct exec_op *x, uint32_t rows, uint32_t worker)
{
    const struct tsr_op *op = x->op;
    struct range r = share(rows * op->norm.groups, worker, exec->plan.workers);
    for (uint32_t i = r.from; i < r.to; i++) {
        uint32_t row = i / op->norm.groups;
        uint32_t col = op->norm.col + i % op->norm.groups * op->norm.group;
        float *out = row_of(exec, op->out, row) + col;
        float *to = op->norm.accumulate ? exec->workers[worker].acts.f : out;
        exec->kernels->norm(row_of(exec, op->in, row) + col, op->norm.vector, op->norm.eps,
                            op->norm.group, to);
        for (uint32_t j = 0; op->norm.accumulate && j < op->norm.group; j++) {
            out[j] += to[j];
        }
    }
}

/* Rows [from, to) of a matmul's input in the forms that its formats take. */
static void prepare(struct tsr_exec *exec, const struct exec_op *x, struct tsr_acts *acts,
                    uint32_t from, uint32_t to)
{
    uint32_t cols = exec->program.buffer_width[x->op->in];
    for (uint32_t row = from; row < to; row++) {
        const float *in = row_of(exec, x->in, row);
        float *f = acts->f + (size_t)row * acts->cols;
        if (x->norm) {
            exec->kernels->norm(in, x->norm->norm.vector, x->norm->norm.eps, cols, f);
        } else if (x->floats) {
            memcpy(f, in, cols * sizeof *f);
        }
        if (x->floats) {
            memset(f + cols, 0, (acts->cols - cols) * sizeof *f);
        }
        if (x->ints) {
            exec->kernels->quantize(x->norm ? f : in, cols, acts, row);
        }
        if (x->halves) {
            exec->kernels->to_bf16(x->norm ? f : in, cols, acts, row);
        }
    }
}

/* out [count] (or out += with accumulate) = (acc * factor + bias) * scale, capped */
static void finish(const struct tsr_op *op, const struct tsr_part *part, const float *factor,
                   uint32_t first, float *acc, uint32_t count, float *out)
{
    const float *bias = part->bias ? part->bias + first : NULL;
    float scale = op->scale, cap = op->matmul.softcap;
    for (uint32_t i = 0; factor && i < count; i++) {
        acc[i] *= factor[first + i];
    }
    if (op->matmul.accumulate && !bias) {
        for (uint32_t i = 0; i < count; i++) {
            out[i] += acc[i] * scale;
        }
    } else {
        for (uint32_t i = 0; i < count; i++) {
            float v = (acc[i] + (bias ? bias[i] : 0)) * scale;
            out[i] = op->matmul.accumulate ? out[i] + v : v;
        }
    }
    for (uint32_t i = 0; cap > 0 && i < count; i++) {
        out[i] = cap * tanhf(out[i] / cap);
    }
}

static uint32_t columns(const struct exec_matrix *m, uint32_t panel, uint32_t panels)
{
    uint32_t end = (panel + panels) * TSR_PANEL_ROWS;
    return (end < m->rows ? end : m->rows) - panel * TSR_PANEL_ROWS;
}

/* acc [rows][panels * 16] += bias of the `count` columns from panel `panel` on */
static void add_bias(const struct tsr_part *part, uint32_t panel, float *acc, uint32_t rows,
                     uint32_t panels, uint32_t count)
{
    for (uint32_t row = 0; part->bias && row < rows; row++) {
        for (uint32_t i = 0; i < count; i++) {
            acc[(size_t)row * panels * TSR_PANEL_ROWS + i] +=
                part->bias[panel * TSR_PANEL_ROWS + i];
        }
    }
}

static void activate(const struct tsr_exec *exec, const struct tsr_op *op, float *gate,
                     const float *up, uint32_t count)
{
    (op->matmul.act == TSR_ACT_SILU ? exec->kernels->silu_mul : exec->kernels->gelu_mul)(gate, up,
                                                                                         count);
}

static void multiply(struct tsr_exec *exec, const struct exec_op *x, uint32_t rows, uint32_t worker)
{
    const struct tsr_op *op = x->op;
    const struct tsr_kernels *kernels = exec->kernels;
    struct exec_worker *self = &exec->workers[worker];
    uint32_t cols = exec->program.buffer_width[op->in];
    bool own = rows <= EXEC_PRIVATE_ROWS || exec->plan.workers == 1;
    struct tsr_acts acts = rows <= EXEC_PRIVATE_ROWS ? self->acts : exec->acts;
    acts.cols = tsr_exec_act_cols(cols);
    if (own) {
        prepare(exec, x, &acts, 0, rows);
    } else {
        struct range r = share(rows, worker, exec->plan.workers);
        prepare(exec, x, &acts, r.from, r.to);
        tsr_team_barrier(exec->team);
    }
    bool glu = x->kind == EXEC_GLU;
    uint32_t batch = rows == 1 ? EXEC_BATCH_PANELS : 1;
    uint32_t parts = glu ? 1 : op->matmul.n_parts;
    float *acc = self->out, *up = self->out + (size_t)batch * rows * TSR_PANEL_ROWS;
    for (uint32_t i = 0; i < parts; i++) {
        const struct tsr_part *part = &op->matmul.parts[i];
        const struct exec_matrix *m = &exec->matrices[part->weight];
        const struct exec_matrix *m_up = glu ? &exec->matrices[op->matmul.parts[1].weight] : NULL;
        const uint32_t *split = x->split + (size_t)i * (exec->plan.workers + 1);
        for (uint32_t p = split[worker]; p < split[worker + 1]; p += batch) {
            uint32_t n = split[worker + 1] - p < batch ? split[worker + 1] - p : batch;
            uint32_t count = columns(m, p, n), col = part->out_col + p * TSR_PANEL_ROWS;
            const uint8_t *panel = m->data + p * m->panel_bytes;
            if (rows == 1) {
                kernels->row1[m->format](panel, n, m->cols, &acts, 0, acc);
                if (glu) {
                    kernels->row1[m_up->format](m_up->data + p * m_up->panel_bytes, n, m_up->cols,
                                                &acts, 0, up);
                }
            } else {
                kernels->rows[m->format](panel, m->cols, &acts, 0, rows, acc);
                if (glu) {
                    kernels->rows[m_up->format](m_up->data + p * m_up->panel_bytes, m_up->cols,
                                                &acts, 0, rows, up);
                }
            }
            if (glu) {
                add_bias(part, p, acc, rows, n, count);
                add_bias(&op->matmul.parts[1], p, up, rows, n, count);
                activate(exec, op, acc, up, rows * n * TSR_PANEL_ROWS);
            }
            for (uint32_t row = 0; row < rows; row++) {
                float *out = row_of(exec, op->out, row) + col;
                float *from = acc + (size_t)row * TSR_PANEL_ROWS;
                if (glu) {
                    memcpy(out, from, count * sizeof *out);
                } else {
                    finish(op, part, m->factor, p * TSR_PANEL_ROWS, from, count, out);
                }
            }
        }
    }
}

/* Turns the heads of row and KV head, then stores key and value. */
static void store(struct tsr_exec *exec, const struct exec_op *x, uint32_t row, uint32_t kv_head)
{
    const struct tsr_op *op = x->op;
    uint32_t dim = op->attend.head_dim, position = exec->positions[row];
    float *in = row_of(exec, op->in, row);
    for (uint32_t i = 0; i < x->turns_per_group; i++) {
        const struct exec_turn *turn = &x->turns[kv_head * x->turns_per_group + i];
        uint32_t dims = exec->program.ropes[turn->rope].dims;
        size_t at = (size_t)row * (dims / 2);
        exec->kernels->rope(in + turn->col, exec->cos[turn->rope] + at, exec->sin[turn->rope] + at,
                            dims);
    }
    const struct tsr_kv_seq *seq = exec->spans[exec->row_span[row]].kv;
    uint32_t page = seq->pages[position / TSR_KV_PAGE_POSITIONS];
    uint32_t slot = position % TSR_KV_PAGE_POSITIONS;
    uint32_t bytes = exec->kernels->kv_bytes;
    uint8_t *keys = tsr_kv_keys(exec->kv, page, op->attend.layer, kv_head);
    uint8_t *values = tsr_kv_values(exec->kv, page, op->attend.layer, kv_head);
    exec->kernels->store_kv(in + op->attend.k_col + kv_head * dim, dim, keys + slot * bytes,
                            TSR_KV_PAGE_POSITIONS);
    exec->kernels->store_kv(in + op->attend.v_col + kv_head * dim, dim,
                            values + (size_t)slot * dim * bytes, 1);
}

struct head {
    const struct tsr_exec *exec;
    const struct tsr_kv_seq *seq;
    uint32_t layer, kv_head;
};

static const void *head_keys(const void *ctx, uint32_t block)
{
    const struct head *h = ctx;
    return tsr_kv_keys(h->exec->kv, h->seq->pages[block], h->layer, h->kv_head);
}

static const void *head_values(const void *ctx, uint32_t block)
{
    const struct head *h = ctx;
    return tsr_kv_values(h->exec->kv, h->seq->pages[block], h->layer, h->kv_head);
}

/* Queries [first, first + n) of a tile's rows x query heads of one KV head, row by row. */
static void attend_some(struct tsr_exec *exec, const struct tsr_op *op,
                        const struct exec_tile *tile, uint32_t kv_head, uint32_t first, uint32_t n,
                        float *scratch)
{
    uint32_t dim = op->attend.head_dim, group = op->attend.heads / op->attend.kv_heads;
    struct head head = {exec, exec->spans[tile->span].kv, op->attend.layer, kv_head};
    struct tsr_attend a = {.n = n,
                           .head_dim = dim,
                           .window = op->attend.window,
                           .scale = op->scale,
                           .softcap = op->attend.softcap,
                           .keys = head_keys,
                           .values = head_values,
                           .ctx = &head,
                           .scratch = scratch};
    for (uint32_t i = 0; i < n; i++) {
        uint32_t row = (first + i) / group, head_index = kv_head * group + (first + i) % group;
        uint32_t col = head_index * dim;
        a.q[i] = row_of(exec, op->in, tile->row + row) + op->attend.q_col + col;
        a.out[i] = row_of(exec, op->out, tile->row + row) + col;
        a.position[i] = tile->position + row;
        a.slope[i] = op->attend.slopes ? op->attend.slopes[head_index] : 0;
    }
    exec->kernels->attend(&a);
}

/* Rows of a tile: as many as fill a kernel's queries. */
static uint32_t tile_rows(const struct tsr_op *op)
{
    uint32_t group = op->attend.heads / op->attend.kv_heads;
    return group >= TSR_ATTEND_QUERIES_MAX ? 1 : TSR_ATTEND_QUERIES_MAX / group;
}

/* Items are (tile of rows, KV head), latest tiles first because they see most; where there are
 * fewer of them than would keep the workers busy, a KV head's queries are cut apart. Whoever is
 * free takes the next. */
static void attend(struct tsr_exec *exec, const struct exec_op *x, uint32_t worker)
{
    const struct tsr_op *op = x->op;
    uint32_t group = op->attend.heads / op->attend.kv_heads, kv_heads = op->attend.kv_heads;
    uint32_t per_tile = tile_rows(op);
    uint32_t items = 0;
    for (uint32_t t = 0; t < exec->n_tiles; t++) {
        items += (exec->tiles[t].rows + per_tile - 1) / per_tile;
    }
    uint32_t most = group > TSR_ATTEND_QUERIES_MAX ? TSR_ATTEND_QUERIES_MAX : group * per_tile;
    if (exec->plan.workers > 1 && items * kv_heads < 4 * exec->plan.workers) {
        uint32_t half = (group + 1) / 2;
        most = half < most ? half : most;
    }
    uint32_t cuts = (group * per_tile + most - 1) / most;
    uint32_t total = items * kv_heads * cuts;
    for (;;) {
        uint32_t item = atomic_fetch_add_explicit(x->next, 1, memory_order_relaxed);
        if (item >= total) {
            return;
        }
        uint32_t cut = item % cuts, kv_head = item / cuts % kv_heads;
        uint32_t at = items - 1 - item / cuts / kv_heads, t = 0;
        for (;; t++) {
            uint32_t n = (exec->tiles[t].rows + per_tile - 1) / per_tile;
            if (at < n) {
                break;
            }
            at -= n;
        }
        struct exec_tile tile = exec->tiles[t];
        tile.row += at * per_tile;
        tile.position += at * per_tile;
        tile.rows = tile.rows - at * per_tile < per_tile ? tile.rows - at * per_tile : per_tile;
        uint32_t queries = tile.rows * group, first = cut * most;
        if (first < queries) {
            uint32_t n = queries - first < most ? queries - first : most;
            attend_some(exec, op, &tile, kv_head, first, n, exec->workers[worker].scratch);
        }
    }
}

static void select_rows(struct tsr_exec *exec, const struct exec_op *x, uint32_t worker)
{
    struct range r = share(exec->logit_rows, worker, exec->plan.workers);
    for (uint32_t i = r.from; i < r.to; i++) {
        memcpy(row_of(exec, x->op->out, i), row_of(exec, x->op->in, exec->wanted[i]),
               exec->program.buffer_width[x->op->in] * sizeof(float));
    }
}

/* Hidden states of rows that make embeddings: a span is one worker's, which adds row after row. */
static void pool_rows(struct tsr_exec *exec, const struct exec_op *x, uint32_t worker)
{
    const struct tsr_op *norm = x->norm;
    float *hidden = exec->workers[worker].acts.f;
    uint32_t n = 0;
    for (uint32_t t = 0; t < exec->n_tiles; t++) {
        const struct tsr_span *span = &exec->spans[exec->tiles[t].span];
        if (span->pool_rows == 0 || n++ % exec->plan.workers != worker) {
            continue;
        }
        uint32_t first = exec->tiles[t].row + span->pool_first;
        for (uint32_t row = first; row < first + span->pool_rows; row++) {
            exec->kernels->norm(row_of(exec, x->op->in, row), norm->norm.vector, norm->norm.eps,
                                norm->norm.group, hidden);
            for (uint32_t i = 0; i < norm->norm.group; i++) {
                span->pooled[i] += (double)hidden[i];
            }
        }
    }
}

void tsr_exec_run(void *arg, uint32_t worker)
{
    struct tsr_exec *exec = arg;
    uint32_t rows = exec->rows;
    for (uint32_t i = 0; i < exec->n_ops; i++) {
        const struct exec_op *x = &exec->ops[i];
        switch (x->kind) {
        case EXEC_EMBED:
            embed(exec, x, worker);
            break;
        case EXEC_NORM:
            norm(exec, x, rows, worker);
            break;
        case EXEC_MATMUL:
        case EXEC_GLU:
            multiply(exec, x, rows, worker);
            break;
        case EXEC_KV: {
            uint32_t kv_heads = x->op->attend.kv_heads;
            struct range r = share(rows * kv_heads, worker, exec->plan.workers);
            for (uint32_t u = r.from; u < r.to; u++) {
                store(exec, x, u / kv_heads, u % kv_heads);
            }
            break;
        }
        case EXEC_ATTEND:
            attend(exec, x, worker);
            break;
        case EXEC_SELECT:
            if (exec->pools) {
                pool_rows(exec, x, worker);
            }
            if (exec->logit_rows == 0) {
                return; /* nobody looks at the rest */
            }
            select_rows(exec, x, worker);
            rows = exec->logit_rows;
            break;
        }
        if (i + 1 < exec->n_ops) {
            tsr_team_barrier(exec->team);
        }
    }
}
