#include "build_priv.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

void tsr_build_op(struct tsr_builder *b, const struct tsr_op *op)
{
    if (b->status == 0) {
        b->status = tsr_program_op(b->program, op, b->err);
    }
}

uint16_t tsr_build_buffer(struct tsr_builder *b, uint32_t width)
{
    if (b->status < 0) {
        return 0;
    }
    int index = tsr_program_buffer(b->program, width, b->err);
    b->status = index < 0 ? index : 0;
    return index < 0 ? 0 : (uint16_t)index;
}

void tsr_build_begin(struct tsr_builder *b)
{
    struct tsr_program *program = b->program;
    const struct tsr_hparams *h = &b->h;
    b->gguf = tsr_config_is_gguf(b->config);
    snprintf(program->architecture, sizeof program->architecture, "%s",
             tsr_config_architecture(b->config));
    b->status = tsr_config_hparams(b->config, &b->h, b->err);
    if (b->status == 0 && tsr_config_has(b->config, "quantization_config")) {
        b->status = tsr_err_set(b->err, -ENOTSUP,
                                "quantization_config: a directory of weights that another tool "
                                "has quantized is not supported; give the original or a GGUF");
    }
    if (b->status < 0) {
        return;
    }
    program->vocab = h->vocab;
    program->context = h->context;
    program->hidden = h->hidden;
    program->layers = h->layers;
    program->kv_heads = h->kv_heads;
    program->head_dim = h->head_dim;
    b->x = tsr_build_buffer(b, h->hidden);
    b->normed = tsr_build_buffer(b, h->hidden);
    b->qkv = tsr_build_buffer(b, (h->heads + 2 * h->kv_heads) * h->head_dim);
    b->attn = tsr_build_buffer(b, h->heads * h->head_dim);
    b->ffn = tsr_build_buffer(b, h->ffn);
}

void tsr_build_expect_string(struct tsr_builder *b, const char *key, const char *value)
{
    const char *stated;
    if (b->status == 0) {
        b->status = tsr_config_string(b->config, key, value, &stated, b->err);
    }
    if (b->status == 0 && strcmp(stated, value) != 0) {
        b->status = tsr_err_set(b->err, -ENOTSUP, "%s is '%s'; only '%s' is supported for %s", key,
                                stated, value, b->program->architecture);
    }
}

bool tsr_build_bool(struct tsr_builder *b, const char *key, bool fallback)
{
    bool value = fallback;
    if (b->status == 0) {
        b->status = tsr_config_bool(b->config, key, &fallback, &value, b->err);
    }
    return value;
}

void tsr_build_expect_bool(struct tsr_builder *b, const char *key, bool value)
{
    bool stated = tsr_build_bool(b, key, value);
    if (b->status == 0 && stated != value) {
        b->status = tsr_err_set(b->err, -ENOTSUP, "%s is %s; only %s is supported for %s", key,
                                stated ? "true" : "false", value ? "true" : "false",
                                b->program->architecture);
    }
}

void tsr_build_expect_absent(struct tsr_builder *b, const char *key)
{
    static const uint32_t none = 0;
    uint32_t stated = 0;
    if (b->status == 0) {
        b->status = tsr_config_u32(b->config, key, 0, UINT32_MAX, &none, &stated, b->err);
    }
    if (b->status == 0 && stated != 0) {
        b->status = tsr_err_set(b->err, -ENOTSUP, "%s is %u, which is not supported for %s", key,
                                stated, b->program->architecture);
    }
}

/* The tensor of a role, taken: counted once among the parameters. NULL, and no failure, where it is
 * absent. */
static struct tsr_tensor_entry *take(struct tsr_builder *b, const char *name)
{
    struct tsr_tensor_entry *entry = tsr_tensors_find(b->tensors, name);
    if (!entry) {
        return NULL;
    }
    enum tsr_dtype dtype = entry->tensor.dtype;
    if (dtype == TSR_DTYPE_COUNT || (dtype >= TSR_DTYPE_I8 && dtype <= TSR_DTYPE_I64)) {
        b->status =
            tsr_err_set(b->err, -ENOTSUP, "tensor '%s' is of type %s, which is not supported", name,
                        entry->type);
        return NULL;
    }
    if (!entry->used) {
        entry->used = true;
        b->program->parameters += entry->elements;
    }
    return entry;
}

static void refuse_missing(struct tsr_builder *b, const char *name)
{
    if (b->status == 0) {
        b->status = tsr_err_set(b->err, -EINVAL,
                                "tensor '%s' is missing (the configuration says %u layers)", name,
                                b->h.layers);
    }
}

/* Writes "[600, 128]". */
static void shape_text(const struct tsr_tensor *t, char text[static 96])
{
    int at = snprintf(text, 96, "[");
    for (uint32_t i = 0; i < t->n_dims && at < 90; i++) {
        at += snprintf(text + at, 96 - (size_t)at, "%s%llu", i ? ", " : "",
                       (unsigned long long)t->dims[i]);
    }
    snprintf(text + at, 96 - (size_t)at, "]");
}

uint32_t tsr_build_matrix(struct tsr_builder *b, enum tsr_role role, uint32_t layer, uint32_t rows,
                          uint32_t cols, uint32_t head_dim)
{
    char name[TSR_TENSOR_NAME_SIZE], shape[96];
    if (b->status < 0) {
        return 0;
    }
    tsr_role_name(role, b->gguf, layer, ".weight", name);
    const struct tsr_tensor_entry *entry = take(b, name);
    if (!entry) {
        refuse_missing(b, name);
        return 0;
    }
    const struct tsr_tensor *t = &entry->tensor;
    if (t->n_dims != 2 || t->dims[0] != rows || t->dims[1] != cols) {
        shape_text(t, shape);
        b->status = tsr_err_set(b->err, -EINVAL,
                                "tensor '%s' is %s, where the configuration means [%u, %u]", name,
                                shape, rows, cols);
        return 0;
    }
    const struct tsr_weight weight = {
        .tensor = t,
        .rows = rows,
        .cols = cols,
        .order = head_dim ? TSR_ROW_ORDER_ROPE_PAIRS : TSR_ROW_ORDER_PLAIN,
        .head_dim = head_dim,
    };
    int index = tsr_program_weight(b->program, &weight, b->err);
    b->status = index < 0 ? index : 0;
    return index < 0 ? 0 : (uint32_t)index;
}

/* Rotary pairs of each head to halves: see TSR_ROW_ORDER_ROPE_PAIRS. */
static int unpair(struct tsr_builder *b, float *vector, uint32_t n, uint32_t head_dim)
{
    float *copy = tsr_program_alloc(b->program, n * sizeof *copy);
    if (!copy) {
        return -ENOMEM;
    }
    memcpy(copy, vector, n * sizeof *copy);
    for (uint32_t at = 0; at < n; at += head_dim) {
        for (uint32_t i = 0; i < head_dim / 2; i++) {
            vector[at + i] = copy[at + 2 * i];
            vector[at + i + head_dim / 2] = copy[at + 2 * i + 1];
        }
    }
    return 0;
}

const float *tsr_build_vector(struct tsr_builder *b, enum tsr_role role, const char *suffix,
                              uint32_t layer, uint32_t n, uint32_t head_dim, enum tsr_bias bias)
{
    char name[TSR_TENSOR_NAME_SIZE], shape[96];
    if (b->status < 0 || bias == TSR_BIAS_NONE) {
        return NULL;
    }
    tsr_role_name(role, b->gguf, layer, suffix, name);
    const struct tsr_tensor_entry *entry = take(b, name);
    if (!entry) {
        if (bias == TSR_BIAS_REQUIRED) {
            refuse_missing(b, name);
        }
        return NULL;
    }
    const struct tsr_tensor *t = &entry->tensor;
    if (t->n_dims != 1 || t->dims[0] != n || n % tsr_dtype_info(t->dtype)->block != 0) {
        shape_text(t, shape);
        b->status =
            tsr_err_set(b->err, -EINVAL, "tensor '%s' is %s, where the configuration means [%u]",
                        name, shape, n);
        return NULL;
    }
    float *vector = tsr_program_alloc(b->program, n * sizeof *vector);
    if (!vector) {
        b->status = tsr_err_set(b->err, -ENOMEM, "no memory for tensor '%s'", name);
        return NULL;
    }
    tsr_dtype_to_f32(t->dtype, t->data, vector, n);
    for (uint32_t i = 0; i < n; i++) {
        if (!isfinite(vector[i])) {
            b->status = tsr_err_set(b->err, -EINVAL, "tensor '%s' holds %g at %u", name,
                                    (double)vector[i], i);
            return NULL;
        }
    }
    if (head_dim && unpair(b, vector, n, head_dim) < 0) {
        b->status = tsr_err_set(b->err, -ENOMEM, "no memory for tensor '%s'", name);
        return NULL;
    }
    return vector;
}

void tsr_build_embed(struct tsr_builder *b, float scale)
{
    char name[TSR_TENSOR_NAME_SIZE];
    tsr_role_name(TSR_ROLE_EMBED, b->gguf, 0, ".weight", name);
    const struct tsr_tensor_entry *entry = tsr_tensors_find(b->tensors, name);
    if (b->status == 0 && b->h.vocab == 0 && entry) {
        /* A GGUF need not state the vocabulary: it is the embedding's. */
        uint64_t rows = entry->tensor.dims[0];
        b->h.vocab = rows <= INT32_MAX ? (uint32_t)rows : 0;
        b->program->vocab = b->h.vocab;
    }
    const struct tsr_op op = {
        .kind = TSR_OP_EMBED,
        .in = b->x,
        .out = b->x,
        .scale = scale,
        .embed.weight = tsr_build_matrix(b, TSR_ROLE_EMBED, 0, b->h.vocab, b->h.hidden, 0),
    };
    tsr_build_op(b, &op);
}

void tsr_build_norm(struct tsr_builder *b, enum tsr_role role, uint32_t layer, uint16_t in,
                    uint16_t out)
{
    const struct tsr_op op = {
        .kind = TSR_OP_NORM,
        .in = in,
        .out = out,
        .scale = 1.0f,
        .norm = {.vector =
                     tsr_build_vector(b, role, ".weight", layer, b->h.hidden, 0, TSR_BIAS_REQUIRED),
                 .eps = b->h.eps,
                 .group = b->h.hidden,
                 .groups = 1},
    };
    tsr_build_op(b, &op);
}

/* One matrix of a matmul with its bias. */
static struct tsr_part part(struct tsr_builder *b, enum tsr_role role, uint32_t layer,
                            uint32_t rows, uint32_t cols, uint32_t out_col, uint32_t head_dim,
                            enum tsr_bias bias)
{
    return (struct tsr_part){
        .weight = tsr_build_matrix(b, role, layer, rows, cols, head_dim),
        .out_col = out_col,
        .bias = tsr_build_vector(b, role, ".bias", layer, rows, head_dim, bias),
    };
}

static void rotate(struct tsr_builder *b, uint32_t rope, uint32_t col, uint32_t heads)
{
    const struct tsr_op op = {
        .kind = TSR_OP_ROPE,
        .in = b->qkv,
        .out = b->qkv,
        .scale = 1.0f,
        .rope = {.rope = rope, .in_col = col, .heads = heads, .head_dim = b->h.head_dim},
    };
    tsr_build_op(b, &op);
}

void tsr_build_attention(struct tsr_builder *b, uint32_t layer,
                         const struct tsr_build_attention *how)
{
    const struct tsr_hparams *h = &b->h;
    const uint32_t q = h->heads * h->head_dim, kv = h->kv_heads * h->head_dim;
    tsr_build_norm(b, TSR_ROLE_ATTN_NORM, layer, b->x, b->normed);
    const struct tsr_op project = {
        .kind = TSR_OP_MATMUL,
        .in = b->normed,
        .out = b->qkv,
        .scale = 1.0f,
        .matmul =
            {.n_parts = 3,
             .parts = {part(b, TSR_ROLE_Q, layer, q, h->hidden, 0, how->head_order, how->qkv_bias),
                       part(b, TSR_ROLE_K, layer, kv, h->hidden, q, how->head_order, how->qkv_bias),
                       part(b, TSR_ROLE_V, layer, kv, h->hidden, q + kv, 0, how->qkv_bias)}},
    };
    tsr_build_op(b, &project);
    rotate(b, how->rope, 0, h->heads);
    rotate(b, how->rope, q, h->kv_heads);
    const struct tsr_op attend = {
        .kind = TSR_OP_ATTEND,
        .in = b->qkv,
        .out = b->attn,
        .scale = 1.0f / sqrtf((float)h->head_dim),
        .attend = {.layer = layer,
                   .heads = h->heads,
                   .kv_heads = h->kv_heads,
                   .head_dim = h->head_dim,
                   .q_col = 0,
                   .k_col = q,
                   .v_col = q + kv,
                   .window = how->window},
    };
    tsr_build_op(b, &attend);
    const struct tsr_op output = {
        .kind = TSR_OP_MATMUL,
        .in = b->attn,
        .out = b->x,
        .scale = 1.0f,
        .matmul = {.n_parts = 1,
                   .parts = {part(b, TSR_ROLE_O, layer, h->hidden, q, 0, 0, how->o_bias)},
                   .accumulate = true},
    };
    tsr_build_op(b, &output);
}

void tsr_build_ffn(struct tsr_builder *b, uint32_t layer, enum tsr_bias bias)
{
    const struct tsr_hparams *h = &b->h;
    tsr_build_norm(b, TSR_ROLE_FFN_NORM, layer, b->x, b->normed);
    const struct tsr_op gated = {
        .kind = TSR_OP_GLU,
        .in = b->normed,
        .out = b->ffn,
        .scale = 1.0f,
        .matmul = {.n_parts = 2,
                   .parts = {part(b, TSR_ROLE_GATE, layer, h->ffn, h->hidden, 0, 0, bias),
                             part(b, TSR_ROLE_UP, layer, h->ffn, h->hidden, 0, 0, bias)},
                   .act = TSR_ACT_SILU},
    };
    tsr_build_op(b, &gated);
    const struct tsr_op down = {
        .kind = TSR_OP_MATMUL,
        .in = b->ffn,
        .out = b->x,
        .scale = 1.0f,
        .matmul = {.n_parts = 1,
                   .parts = {part(b, TSR_ROLE_DOWN, layer, h->hidden, h->ffn, 0, 0, bias)},
                   .accumulate = true},
    };
    tsr_build_op(b, &down);
}

/* The head's weight: its own matrix, or the embedding's. A GGUF ties by leaving the head out;
 * config.json says so, and a file that says so and yet holds another head is read differently by
 * different versions of transformers. */
static uint32_t head_weight(struct tsr_builder *b)
{
    char head_name[TSR_TENSOR_NAME_SIZE], embed_name[TSR_TENSOR_NAME_SIZE];
    tsr_role_name(TSR_ROLE_HEAD, b->gguf, 0, ".weight", head_name);
    tsr_role_name(TSR_ROLE_EMBED, b->gguf, 0, ".weight", embed_name);
    struct tsr_tensor_entry *head = tsr_tensors_find(b->tensors, head_name);
    bool tied = b->gguf ? !head : tsr_build_bool(b, "tie_word_embeddings", false);
    if (!tied) {
        return tsr_build_matrix(b, TSR_ROLE_HEAD, 0, b->h.vocab, b->h.hidden, 0);
    }
    if (head && b->status == 0) {
        const struct tsr_tensor *x = &head->tensor;
        const struct tsr_tensor *y = &tsr_tensors_find(b->tensors, embed_name)->tensor;
        if (x->dtype != y->dtype || x->bytes != y->bytes ||
            memcmp(x->data, y->data, x->bytes) != 0) {
            b->status = tsr_err_set(b->err, -EINVAL,
                                    "tie_word_embeddings is true, but tensor '%s' is there and "
                                    "differs from '%s': set it to false if the head is meant",
                                    head_name, embed_name);
        }
        head->used = true;
    }
    for (uint32_t i = 0; i < b->program->n_ops; i++) {
        if (b->program->ops[i].kind == TSR_OP_EMBED) {
            return b->program->ops[i].embed.weight;
        }
    }
    return 0;
}

int tsr_build_end(struct tsr_builder *b)
{
    uint16_t last = tsr_build_buffer(b, b->h.hidden);
    uint16_t last_normed = tsr_build_buffer(b, b->h.hidden);
    uint16_t logits = tsr_build_buffer(b, b->h.vocab);
    const struct tsr_op select = {.kind = TSR_OP_SELECT, .in = b->x, .out = last, .scale = 1.0f};
    tsr_build_op(b, &select);
    tsr_build_norm(b, TSR_ROLE_FINAL_NORM, 0, last, last_normed);
    const struct tsr_op head = {
        .kind = TSR_OP_MATMUL,
        .in = last_normed,
        .out = logits,
        .scale = 1.0f,
        .matmul = {.n_parts = 1, .parts = {{.weight = head_weight(b)}}},
    };
    tsr_build_op(b, &head);
    b->program->logits = logits;
    for (size_t i = 0; i < b->tensors->n && b->status == 0; i++) {
        const struct tsr_tensor_entry *entry = &b->tensors->entries[i];
        if (!entry->used && !tsr_name_is_derived(entry->tensor.name)) {
            b->status = tsr_err_set(b->err, -ENOTSUP,
                                    "tensor '%s' has no part in a %s model of %u layers: the file "
                                    "is not the model that its configuration says",
                                    entry->tensor.name, b->program->architecture, b->h.layers);
        }
    }
    return b->status < 0 ? b->status : tsr_program_check(b->program, b->err);
}
