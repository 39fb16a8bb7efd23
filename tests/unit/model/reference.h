/* A program run slowly: in double precision, by naive loops, over one sequence from position 0. It
 * knows nothing of the executor or its kernels, so it proves what the builders emit against outside
 * vectors. */
#ifndef TSR_TESTS_REFERENCE_H
#define TSR_TESTS_REFERENCE_H

#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <tsr/model/program.h>

struct reference {
    const struct tsr_program *program;
    uint32_t rows;                            /* positions of the sequence */
    double *buffers[TSR_PROGRAM_BUFFERS_MAX]; /* [rows, width] */
};

/* Row i of a matrix in the program's order, as exact f32. out: [cols]. */
static void reference_row(const struct tsr_weight *w, uint64_t i, float *out)
{
    if (w->order == TSR_ROW_ORDER_ROPE_PAIRS) {
        uint64_t head = i / w->head_dim, r = i % w->head_dim, half = w->head_dim / 2;
        i = head * w->head_dim + (r < half ? 2 * r : 2 * (r - half) + 1);
    }
    if (w->run) {
        i = i / w->run * w->stride + i % w->run;
    }
    tsr_tensor_row(w->tensor, w->row_first + i, out);
}

/* out[r * stride + i] = in[r] . W[i] + bias[i] */
static void reference_matrix(const struct reference *ref, const struct tsr_part *part, uint16_t in,
                             double *out, size_t stride)
{
    const struct tsr_weight *w = &ref->program->weights[part->weight];
    float *row = malloc(w->cols * sizeof *row);
    for (uint64_t i = 0; i < w->rows; i++) {
        reference_row(w, i, row);
        double squares = 0.0;
        for (uint64_t j = 0; j < w->cols; j++) {
            squares += (double)row[j] * (double)row[j];
        }
        double factor = w->unit ? 1.0 / fmax(sqrt(squares), 1e-12) : 1.0;
        for (uint32_t r = 0; r < ref->rows; r++) {
            const double *x = ref->buffers[in] + r * w->cols;
            double sum = 0.0;
            for (uint64_t j = 0; j < w->cols; j++) {
                sum += x[j] * (double)row[j];
            }
            out[r * stride + i] = sum * factor + (part->bias ? (double)part->bias[i] : 0.0);
        }
    }
    free(row);
}

static void reference_embed(const struct reference *ref, const struct tsr_op *op,
                            const uint32_t *tokens)
{
    const struct tsr_weight *w = &ref->program->weights[op->embed.weight];
    float *row = malloc(w->cols * sizeof *row);
    for (uint32_t r = 0; r < ref->rows; r++) {
        reference_row(w, tokens[r], row);
        for (uint64_t j = 0; j < w->cols; j++) {
            ref->buffers[op->out][r * w->cols + j] = (double)row[j] * (double)op->scale;
        }
    }
    free(row);
}

static void reference_norm(const struct reference *ref, const struct tsr_op *op)
{
    for (uint32_t r = 0; r < ref->rows; r++) {
        for (uint32_t g = 0; g < op->norm.groups; g++) {
            size_t col = op->norm.col + (size_t)g * op->norm.group;
            const double *in =
                ref->buffers[op->in] + r * (size_t)ref->program->buffer_width[op->in] + col;
            double *out =
                ref->buffers[op->out] + r * (size_t)ref->program->buffer_width[op->out] + col;
            double sum = 0.0;
            for (uint32_t j = 0; j < op->norm.group; j++) {
                sum += in[j] * in[j];
            }
            double factor = 1.0 / sqrt(sum / op->norm.group + (double)op->norm.eps);
            for (uint32_t j = 0; j < op->norm.group; j++) {
                double value = in[j] * factor * (double)op->norm.vector[j];
                out[j] = op->norm.accumulate ? out[j] + value : value;
            }
        }
    }
}

static void reference_matmul(const struct reference *ref, const struct tsr_op *op)
{
    size_t width = ref->program->buffer_width[op->out];
    for (uint32_t p = 0; p < op->matmul.n_parts; p++) {
        const struct tsr_part *part = &op->matmul.parts[p];
        uint64_t rows = ref->program->weights[part->weight].rows;
        double *result = malloc(ref->rows * rows * sizeof *result);
        reference_matrix(ref, part, op->in, result, rows);
        for (uint32_t r = 0; r < ref->rows; r++) {
            double *out = ref->buffers[op->out] + r * width + part->out_col;
            for (uint64_t i = 0; i < rows; i++) {
                double value = (double)op->scale * result[r * rows + i];
                double cap = (double)op->matmul.softcap;
                value = cap > 0.0 ? cap * tanh(value / cap) : value;
                out[i] = op->matmul.accumulate ? out[i] + value : value;
            }
        }
        free(result);
    }
}

static double reference_act(enum tsr_act act, double x)
{
    if (act == TSR_ACT_SILU) {
        return x / (1.0 + exp(-x));
    }
    return 0.5 * x * (1.0 + tanh(0.79788456080286535588 * (x + 0.044715 * x * x * x)));
}

static void reference_glu(const struct reference *ref, const struct tsr_op *op)
{
    uint64_t n = ref->program->weights[op->matmul.parts[0].weight].rows;
    double *gate = malloc(ref->rows * n * sizeof *gate), *up = malloc(ref->rows * n * sizeof *up);
    reference_matrix(ref, &op->matmul.parts[0], op->in, gate, n);
    reference_matrix(ref, &op->matmul.parts[1], op->in, up, n);
    for (uint32_t r = 0; r < ref->rows; r++) {
        double *out = ref->buffers[op->out] + r * (size_t)ref->program->buffer_width[op->out] +
                      op->matmul.parts[0].out_col;
        for (uint64_t i = 0; i < n; i++) {
            out[i] = reference_act(op->matmul.act, gate[r * n + i]) * up[r * n + i];
        }
    }
    free(gate);
    free(up);
}

static void reference_rope(const struct reference *ref, const struct tsr_op *op)
{
    const struct tsr_rope *rope = &ref->program->ropes[op->rope.rope];
    uint32_t half = rope->dims / 2;
    float *scratch = malloc(half * sizeof *scratch);
    const float *inv_freq = tsr_rope_frequencies(rope, ref->rows, scratch);
    for (uint32_t r = 0; r < ref->rows; r++) {
        for (uint32_t h = 0; h < op->rope.heads; h++) {
            double *x = ref->buffers[op->in] + r * (size_t)ref->program->buffer_width[op->in] +
                        op->rope.in_col + (size_t)h * op->rope.head_dim;
            for (uint32_t i = 0; i < half; i++) {
                /* transformers multiplies in 32 bits, whatever the model's precision */
                double angle = (double)((float)r * inv_freq[i]);
                double c = cos(angle) * (double)rope->scale, s = sin(angle) * (double)rope->scale;
                double a = x[i], b = x[i + half];
                x[i] = a * c - b * s;
                x[i + half] = b * c + a * s;
            }
        }
    }
    free(scratch);
}

static void reference_attend(const struct reference *ref, const struct tsr_op *op)
{
    size_t width = ref->program->buffer_width[op->in];
    uint32_t dim = op->attend.head_dim, share = op->attend.heads / op->attend.kv_heads;
    double *score = malloc(ref->rows * sizeof *score);
    for (uint32_t r = 0; r < ref->rows; r++) {
        for (uint32_t h = 0; h < op->attend.heads; h++) {
            const double *q = ref->buffers[op->in] + r * width + op->attend.q_col + (size_t)h * dim;
            const double *keys =
                ref->buffers[op->in] + op->attend.k_col + (size_t)(h / share) * dim;
            const double *values =
                ref->buffers[op->in] + op->attend.v_col + (size_t)(h / share) * dim;
            double *out = ref->buffers[op->out] + r * (size_t)ref->program->buffer_width[op->out] +
                          (size_t)h * dim;
            uint32_t window = op->attend.window;
            uint32_t first = window && r >= window ? r - window + 1 : 0;
            double best = -INFINITY, total = 0.0;
            for (uint32_t t = first; t <= r; t++) {
                double sum = 0.0, cap = (double)op->attend.softcap;
                for (uint32_t d = 0; d < dim; d++) {
                    sum += q[d] * keys[t * width + d];
                }
                sum *= (double)op->scale;
                score[t] = cap > 0.0 ? cap * tanh(sum / cap) : sum;
                if (op->attend.slopes) {
                    score[t] -= (double)op->attend.slopes[h] * (r - t);
                }
                best = score[t] > best ? score[t] : best;
            }
            memset(out, 0, dim * sizeof *out);
            for (uint32_t t = first; t <= r; t++) {
                double weight = exp(score[t] - best);
                total += weight;
                for (uint32_t d = 0; d < dim; d++) {
                    out[d] += weight * values[t * width + d];
                }
            }
            for (uint32_t d = 0; d < dim; d++) {
                out[d] /= total;
            }
        }
    }
    free(score);
}

/* What the program leaves in a buffer for every position, [n, width]; the caller frees it. */
static double *reference_buffer(const struct tsr_program *program, const uint32_t *tokens,
                                uint32_t n, uint32_t buffer)
{
    struct reference ref = {.program = program, .rows = n};
    for (uint32_t i = 0; i < program->n_buffers; i++) {
        ref.buffers[i] = calloc((size_t)n * program->buffer_width[i], sizeof(double));
    }
    for (uint32_t i = 0; i < program->n_ops; i++) {
        const struct tsr_op *op = &program->ops[i];
        switch (op->kind) {
        case TSR_OP_EMBED:
            reference_embed(&ref, op, tokens);
            break;
        case TSR_OP_NORM:
            reference_norm(&ref, op);
            break;
        case TSR_OP_MATMUL:
            reference_matmul(&ref, op);
            break;
        case TSR_OP_GLU:
            reference_glu(&ref, op);
            break;
        case TSR_OP_ROPE:
            reference_rope(&ref, op);
            break;
        case TSR_OP_ATTEND:
            reference_attend(&ref, op);
            break;
        case TSR_OP_SELECT: /* all rows */
            memcpy(ref.buffers[op->out], ref.buffers[op->in],
                   (size_t)n * program->buffer_width[op->in] * sizeof(double));
            break;
        }
    }
    double *result = ref.buffers[buffer];
    for (uint32_t i = 0; i < program->n_buffers; i++) {
        if (i != buffer) {
            free(ref.buffers[i]);
        }
    }
    return result;
}

/* The logits of every position, [n, vocab]; the caller frees them. */
static inline double *reference_logits(const struct tsr_program *program, const uint32_t *tokens,
                                       uint32_t n)
{
    return reference_buffer(program, tokens, n, program->logits);
}

/* The hidden states of every position, behind the last norm, [n, hidden]; the caller frees them. */
static inline double *reference_hidden(const struct tsr_program *program, const uint32_t *tokens,
                                       uint32_t n)
{
    const struct tsr_op *head = &program->ops[program->n_ops - 1];
    return reference_buffer(program, tokens, n, head->in);
}

#endif
