#include <tsr/model/program.h>

#include <assert.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* One allocation of a program: the bytes begin 64 bytes in, so that vectors lie on cache lines. */
struct block {
    struct block *next;
};
enum { BLOCK_HEADER = 64 };

static const char *const op_names[] = {
    [TSR_OP_EMBED] = "embed",   [TSR_OP_NORM] = "norm", [TSR_OP_MATMUL] = "matmul",
    [TSR_OP_GLU] = "glu",       [TSR_OP_ROPE] = "rope", [TSR_OP_ATTEND] = "attend",
    [TSR_OP_SELECT] = "select",
};

void *tsr_program_alloc(struct tsr_program *program, size_t bytes)
{
    if (bytes > SIZE_MAX - BLOCK_HEADER - BLOCK_HEADER) {
        return NULL;
    }
    size_t whole = BLOCK_HEADER + (bytes + BLOCK_HEADER - 1) / BLOCK_HEADER * BLOCK_HEADER;
    struct block *block = aligned_alloc(BLOCK_HEADER, whole);
    if (!block) {
        return NULL;
    }
    block->next = program->owned;
    program->owned = block;
    return (char *)block + BLOCK_HEADER;
}

void tsr_program_fini(struct tsr_program *program)
{
    struct block *block = program->owned;
    while (block) {
        struct block *next = block->next;
        free(block);
        block = next;
    }
    free(program->weights);
    free(program->ops);
    memset(program, 0, sizeof *program);
}

/* Makes room for element n of an array that doubles at powers of two, from 16. */
static int grow(void **array, uint32_t n, size_t size, struct tsr_err *err)
{
    if (n != 0 && (n < 16 || (n & (n - 1)) != 0)) {
        return 0;
    }
    if (n > INT32_MAX / 2) {
        return tsr_err_set(err, -E2BIG, "the program has more than %u entries of one kind", n);
    }
    size_t room = n < 16 ? 16 : (size_t)n * 2;
    void *grown = realloc(*array, room * size);
    if (!grown) {
        return tsr_err_set(err, -ENOMEM, "no memory for a program of %zu entries", room);
    }
    *array = grown;
    return 0;
}

int tsr_program_buffer(struct tsr_program *program, uint32_t width, struct tsr_err *err)
{
    if (program->n_buffers >= TSR_PROGRAM_BUFFERS_MAX) {
        return tsr_err_set(err, -E2BIG, "the program has more than %d buffers",
                           TSR_PROGRAM_BUFFERS_MAX);
    }
    if (width == 0) {
        return tsr_err_set(err, -EINVAL, "buffer %u of the program has no columns",
                           program->n_buffers);
    }
    program->buffer_width[program->n_buffers] = width;
    return (int)program->n_buffers++;
}

int tsr_program_rope(struct tsr_program *program, const struct tsr_rope *rope, struct tsr_err *err)
{
    if (program->n_ropes >= TSR_PROGRAM_ROPES_MAX) {
        return tsr_err_set(err, -E2BIG, "the program has more than %d rotary embeddings",
                           TSR_PROGRAM_ROPES_MAX);
    }
    if (rope->dims == 0 || rope->dims % 2 != 0 || !rope->inv_freq || !isfinite(rope->scale)) {
        return tsr_err_set(err, -EINVAL,
                           "a rotary embedding over %u dimensions (scale %g) is not possible",
                           rope->dims, (double)rope->scale);
    }
    bool is_dynamic = rope->length > 0 && !rope->inv_freq_long;
    if (is_dynamic && (rope->dims == 2 || !(rope->base > 0.0f) || !(rope->factor >= 1.0f) ||
                       !isfinite(rope->base) || !isfinite(rope->factor))) {
        return tsr_err_set(err, -EINVAL,
                           "dynamic frequencies over %u dimensions with base %g and factor %g are "
                           "not possible",
                           rope->dims, (double)rope->base, (double)rope->factor);
    }
    for (uint32_t i = 0; i < rope->dims / 2; i++) {
        if (!isfinite(rope->inv_freq[i]) ||
            (rope->inv_freq_long && !isfinite(rope->inv_freq_long[i]))) {
            return tsr_err_set(err, -EINVAL, "rotary frequency %u is not a finite number", i);
        }
    }
    program->ropes[program->n_ropes] = *rope;
    return (int)program->n_ropes++;
}

uint64_t tsr_weight_row(const struct tsr_weight *w, uint64_t r)
{
    if (w->order == TSR_ROW_ORDER_ROPE_PAIRS) {
        uint64_t head = r / w->head_dim, i = r % w->head_dim, half = w->head_dim / 2;
        r = head * w->head_dim + (i < half ? 2 * i : 2 * (i - half) + 1);
    }
    return w->row_first + (w->run ? r / w->run * w->stride + r % w->run : r);
}

void tsr_rope_default(float base, uint32_t dims, float *inv_freq)
{
    for (uint32_t i = 0; i < dims / 2; i++) {
        inv_freq[i] = 1.0f / powf(base, (float)(2 * i) / (float)dims);
    }
}

/* Dynamic NTK: transformers, modeling_rope_utils.py, _compute_dynamic_ntk_parameters(). */
const float *tsr_rope_frequencies(const struct tsr_rope *rope, uint32_t length, float *scratch)
{
    if (rope->length == 0 || length <= rope->length) {
        return rope->inv_freq;
    }
    if (rope->inv_freq_long) {
        return rope->inv_freq_long;
    }
    float stretch = rope->factor * (float)length / (float)rope->length - (rope->factor - 1.0f);
    float power = (float)((double)rope->dims / (rope->dims - 2));
    tsr_rope_default(rope->base * powf(stretch, power), rope->dims, scratch);
    return scratch;
}

bool tsr_program_turns_alike(const struct tsr_program *program, uint32_t a, uint32_t b)
{
    for (uint32_t i = 0; i < program->n_ropes; i++) {
        const struct tsr_rope *rope = &program->ropes[i];
        bool is_long = a > rope->length;
        if (rope->length > 0 &&
            (is_long != (b > rope->length) || (is_long && !rope->inv_freq_long))) {
            return a == b;
        }
    }
    return true;
}

void tsr_tensor_row(const struct tsr_tensor *t, uint64_t row, float *out)
{
    uint64_t cols = t->dims[1];
    const uint8_t *data = (const uint8_t *)t->data + row * (t->bytes / t->dims[0]);
    tsr_dtype_to_f32(t->dtype, data, out, cols);
    if (t->scales) {
        uint64_t blocks = (cols + t->scale_cols - 1) / t->scale_cols;
        const float *scales = t->scales + row / t->scale_rows * blocks;
        for (uint64_t i = 0; i < cols; i++) {
            out[i] *= scales[i / t->scale_cols];
        }
    }
}

/* How many of the tensor's rows lie between a matrix's first and last, both included; UINT64_MAX
 * where its runs are not whole or overlap. */
static uint64_t row_extent(const struct tsr_weight *w)
{
    if (w->run == 0) {
        return w->rows;
    }
    if (w->rows == 0 || w->rows > UINT32_MAX || w->rows % w->run != 0 || w->stride < w->run) {
        return UINT64_MAX;
    }
    return (w->rows / w->run - 1) * w->stride +
           w->run; /* below 2^64: both factors are below 2^32 */
}

int tsr_program_weight(struct tsr_program *program, const struct tsr_weight *weight,
                       struct tsr_err *err)
{
    const struct tsr_tensor *t = weight->tensor;
    if (t->dtype >= TSR_DTYPE_COUNT) {
        return tsr_err_set(err, -ENOTSUP, "tensor '%s' has a type that cannot be computed with",
                           t->name);
    }
    if (t->n_dims != 2) {
        return tsr_err_set(err, -EINVAL, "tensor '%s' has %u dimensions where a matrix is needed",
                           t->name, t->n_dims);
    }
    uint64_t extent = row_extent(weight);
    if (weight->rows == 0 || weight->cols == 0 || weight->cols != t->dims[1] ||
        weight->row_first > t->dims[0] || extent > t->dims[0] - weight->row_first ||
        t->dims[0] > UINT32_MAX || t->dims[1] > UINT32_MAX) {
        return tsr_err_set(
            err, -EINVAL, "tensor '%s' is [%llu, %llu] where rows %llu to %llu of %llu are needed",
            t->name, (unsigned long long)t->dims[0], (unsigned long long)t->dims[1],
            (unsigned long long)weight->row_first, (unsigned long long)(weight->row_first + extent),
            (unsigned long long)weight->cols);
    }
    const struct tsr_dtype_info *info = tsr_dtype_info(t->dtype);
    if (t->dims[1] % info->block != 0) {
        return tsr_err_set(err, -EINVAL,
                           "tensor '%s' has rows of %llu, not a multiple of the %u that a block of "
                           "%s holds",
                           t->name, (unsigned long long)t->dims[1], info->block, info->name);
    }
    /* Both factors are below 2^32 (a block has fewer bytes than 8 times its elements). */
    uint64_t bytes = t->dims[0] * (t->dims[1] / info->block);
    if (bytes > UINT64_MAX / info->block_bytes || t->bytes != bytes * info->block_bytes) {
        return tsr_err_set(err, -EINVAL, "tensor '%s' is %llu bytes, which is not its shape",
                           t->name, (unsigned long long)t->bytes);
    }
    if (weight->order == TSR_ROW_ORDER_ROPE_PAIRS &&
        (weight->head_dim == 0 || weight->head_dim % 2 != 0 ||
         weight->rows % weight->head_dim != 0 || weight->row_first % weight->head_dim != 0)) {
        return tsr_err_set(err, -EINVAL, "tensor '%s': %llu rows are not whole heads of %u",
                           t->name, (unsigned long long)weight->rows, weight->head_dim);
    }
    int rc = grow((void **)&program->weights, program->n_weights, sizeof *weight, err);
    if (rc < 0) {
        return rc;
    }
    program->weights[program->n_weights] = *weight;
    return (int)program->n_weights++;
}

static bool is_within(uint64_t col, uint64_t columns, uint32_t width)
{
    return columns > 0 && col + columns <= width;
}

static bool overlap(uint64_t a, uint64_t a_size, uint64_t b, uint64_t b_size)
{
    return a < b + b_size && b < a + a_size;
}

/* The checks of one kind each: NULL where op is sound, else what is wrong with it. */

static const char *check_embed(const struct tsr_program *p, const struct tsr_op *op)
{
    if (op->embed.weight >= p->n_weights) {
        return "there is no such weight";
    }
    const struct tsr_weight *w = &p->weights[op->embed.weight];
    if (w->rows < p->vocab) {
        return "the embedding has fewer rows than the vocabulary";
    }
    if (w->order != TSR_ROW_ORDER_PLAIN || w->run != 0 || w->unit) {
        return "an embedding's rows cannot be permuted, gathered or scaled";
    }
    return w->cols == p->buffer_width[op->out] ? NULL : "the widths differ";
}

static const char *check_norm(const struct tsr_program *p, const struct tsr_op *op)
{
    uint64_t columns = (uint64_t)op->norm.group * op->norm.groups;
    if (!op->norm.vector) {
        return "it has no vector";
    }
    if (!(op->norm.eps > 0.0f) || !isfinite(op->norm.eps)) {
        return "eps is not a positive number";
    }
    return is_within(op->norm.col, columns, p->buffer_width[op->in]) &&
                   is_within(op->norm.col, columns, p->buffer_width[op->out])
               ? NULL
               : "its columns lie outside the buffer";
}

static const char *check_matmul(const struct tsr_program *p, const struct tsr_op *op)
{
    if (op->matmul.n_parts == 0 || op->matmul.n_parts > TSR_PROGRAM_PARTS_MAX) {
        return "it has no parts, or too many";
    }
    if (op->in == op->out) {
        return "it would overwrite its input";
    }
    for (uint32_t i = 0; i < op->matmul.n_parts; i++) {
        const struct tsr_part *part = &op->matmul.parts[i];
        if (part->weight >= p->n_weights) {
            return "there is no such weight";
        }
        const struct tsr_weight *w = &p->weights[part->weight];
        if (w->cols != p->buffer_width[op->in]) {
            return "the weight's columns are not the input's";
        }
        if (!is_within(part->out_col, w->rows, p->buffer_width[op->out])) {
            return "the weight's rows lie outside the output";
        }
        for (uint32_t j = 0; j < i && op->kind == TSR_OP_MATMUL; j++) {
            const struct tsr_part *other = &op->matmul.parts[j];
            if (overlap(part->out_col, w->rows, other->out_col, p->weights[other->weight].rows)) {
                return "two parts write the same columns";
            }
        }
    }
    if (!(op->matmul.softcap >= 0.0f) || !isfinite(op->matmul.softcap) ||
        (op->matmul.softcap > 0.0f && op->matmul.accumulate)) {
        return "its cap is not a positive number, or what it caps is added";
    }
    return NULL;
}

static const char *check_glu(const struct tsr_program *p, const struct tsr_op *op)
{
    const char *wrong = check_matmul(p, op);
    if (wrong) {
        return wrong;
    }
    const struct tsr_part *parts = op->matmul.parts;
    if (op->matmul.n_parts != 2 || parts[0].out_col != parts[1].out_col ||
        p->weights[parts[0].weight].rows != p->weights[parts[1].weight].rows) {
        return "gate and up are not two parts of the same shape";
    }
    if (p->weights[parts[0].weight].unit || p->weights[parts[1].weight].unit ||
        op->matmul.softcap > 0.0f || op->matmul.accumulate) {
        return "gate and up are neither scaled by row, capped nor added";
    }
    return op->matmul.act == TSR_ACT_SILU || op->matmul.act == TSR_ACT_GELU_TANH
               ? NULL
               : "there is no such activation";
}

static const char *check_rope(const struct tsr_program *p, const struct tsr_op *op)
{
    if (op->rope.rope >= p->n_ropes) {
        return "there is no such rotary embedding";
    }
    if (op->in != op->out) {
        return "it works in place";
    }
    if (p->ropes[op->rope.rope].dims > op->rope.head_dim) {
        return "it turns more dimensions than a head has";
    }
    return is_within(op->rope.in_col, (uint64_t)op->rope.heads * op->rope.head_dim,
                     p->buffer_width[op->in])
               ? NULL
               : "its heads lie outside the buffer";
}

static const char *check_attend(const struct tsr_program *p, const struct tsr_op *op)
{
    if (op->attend.layer >= p->layers) {
        return "there is no such KV layer";
    }
    if (op->attend.kv_heads != p->kv_heads || op->attend.head_dim != p->head_dim) {
        return "its heads are not the KV cache's";
    }
    if (op->attend.heads == 0 || op->attend.kv_heads == 0 || op->attend.head_dim == 0 ||
        op->attend.heads % op->attend.kv_heads != 0) {
        return "its heads are not a multiple of its KV heads";
    }
    if (op->in == op->out) {
        return "it would overwrite its input";
    }
    uint64_t q = (uint64_t)op->attend.heads * op->attend.head_dim;
    uint64_t kv = (uint64_t)op->attend.kv_heads * op->attend.head_dim;
    uint32_t width = p->buffer_width[op->in];
    if (!is_within(op->attend.q_col, q, width) || !is_within(op->attend.k_col, kv, width) ||
        !is_within(op->attend.v_col, kv, width) || q != p->buffer_width[op->out]) {
        return "its heads lie outside the buffers";
    }
    if (overlap(op->attend.q_col, q, op->attend.k_col, kv) ||
        overlap(op->attend.q_col, q, op->attend.v_col, kv) ||
        overlap(op->attend.k_col, kv, op->attend.v_col, kv)) {
        return "queries, keys and values overlap";
    }
    if (!(op->attend.softcap >= 0.0f) || !isfinite(op->attend.softcap) || !(op->scale > 0.0f)) {
        return "its scale or cap is not a positive number";
    }
    for (uint32_t h = 0; op->attend.slopes && h < op->attend.heads; h++) {
        if (!isfinite(op->attend.slopes[h])) {
            return "a slope is not a finite number";
        }
    }
    return NULL;
}

static const char *check_select(const struct tsr_program *p, const struct tsr_op *op)
{
    for (uint32_t i = 0; i < p->n_ops; i++) {
        if (p->ops[i].kind == TSR_OP_SELECT) {
            return "the program has one already";
        }
    }
    return op->in != op->out && p->buffer_width[op->in] == p->buffer_width[op->out]
               ? NULL
               : "the two buffers must be different ones of one width";
}

static const char *check_op(const struct tsr_program *p, const struct tsr_op *op)
{
    if (op->in >= p->n_buffers || op->out >= p->n_buffers) {
        return "there is no such buffer";
    }
    if (!isfinite(op->scale)) {
        return "its scale is not a finite number";
    }
    switch (op->kind) {
    case TSR_OP_EMBED:
        return check_embed(p, op);
    case TSR_OP_NORM:
        return check_norm(p, op);
    case TSR_OP_MATMUL:
        return check_matmul(p, op);
    case TSR_OP_GLU:
        return check_glu(p, op);
    case TSR_OP_ROPE:
        return check_rope(p, op);
    case TSR_OP_ATTEND:
        return check_attend(p, op);
    case TSR_OP_SELECT:
        return check_select(p, op);
    }
    return "there is no such kind";
}

int tsr_program_op(struct tsr_program *program, const struct tsr_op *op, struct tsr_err *err)
{
    const char *wrong = check_op(program, op);
    if (wrong) {
        bool known = (size_t)op->kind < sizeof op_names / sizeof *op_names;
        return tsr_err_set(
            err, -EINVAL, "operation %u (%s, buffer %u of %u columns to %u of %u): %s",
            program->n_ops, known ? op_names[op->kind] : "unknown", op->in,
            op->in < program->n_buffers ? program->buffer_width[op->in] : 0, op->out,
            op->out < program->n_buffers ? program->buffer_width[op->out] : 0, wrong);
    }
    int rc = grow((void **)&program->ops, program->n_ops, sizeof *op, err);
    if (rc < 0) {
        return rc;
    }
    program->ops[program->n_ops++] = *op;
    return 0;
}

int tsr_program_check(const struct tsr_program *program, struct tsr_err *err)
{
    if (program->logits >= program->n_buffers ||
        program->buffer_width[program->logits] != program->vocab) {
        return tsr_err_set(err, -EINVAL, "the program's logits are not a row of %u columns",
                           program->vocab);
    }
    if (program->n_ops == 0 || program->ops[0].kind != TSR_OP_EMBED) {
        return tsr_err_set(err, -EINVAL, "the program does not begin with an embedding");
    }
    uint32_t selected = 0, written = 0, layer = 0;
    for (uint32_t i = 0; i < program->n_ops; i++) {
        const struct tsr_op *op = &program->ops[i];
        if (op->kind == TSR_OP_SELECT) {
            selected = i + 1;
        } else if (op->kind == TSR_OP_ATTEND) {
            if (op->attend.layer != layer || selected) {
                return tsr_err_set(err, -EINVAL,
                                   "operation %u attends layer %u where layer %u is next", i,
                                   op->attend.layer, layer);
            }
            layer++;
        } else if (op->out == program->logits) {
            written = i + 1;
        }
    }
    if (!selected || written <= selected || layer != program->layers) {
        return tsr_err_set(err, -EINVAL,
                           "the program attends %u of %u layers, or computes no logits after "
                           "selecting rows",
                           layer, program->layers);
    }
    return 0;
}
