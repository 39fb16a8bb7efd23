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

static uint16_t buffer(struct tsr_builder *b, uint32_t width)
{
    if (b->status < 0) {
        return 0;
    }
    int index = tsr_program_buffer(b->program, width, b->err);
    b->status = index < 0 ? index : 0;
    return index < 0 ? 0 : (uint16_t)index;
}

/* A directory's names begin with "model.", in a model with a part for images with one of two longer
 * prefixes (before and since transformers 4.52). */
static void find_prefix(struct tsr_builder *b)
{
    static const struct {
        const char *model, *head;
    } nested[] = {{"language_model.model.", "language_model."}, {"model.language_model.", ""}};
    b->model_prefix = "model.";
    b->head_prefix = "";
    for (size_t i = 0; i < sizeof nested / sizeof *nested && b->has_images; i++) {
        char name[TSR_TENSOR_NAME_SIZE];
        snprintf(name, sizeof name, "%sembed_tokens.weight", nested[i].model);
        if (tsr_tensors_find(b->tensors, name)) {
            b->model_prefix = nested[i].model;
            b->head_prefix = nested[i].head;
        }
    }
}

void tsr_build_begin(struct tsr_builder *b)
{
    struct tsr_program *program = b->program;
    const struct tsr_hparams *h = &b->h;
    snprintf(program->architecture, sizeof program->architecture, "%s",
             tsr_config_architecture(b->config));
    find_prefix(b);
    b->status = b->status < 0 ? b->status : tsr_config_hparams(b->config, &b->h, b->err);
    tsr_build_expect_bool(b, "is_causal", true);
    if (b->status < 0) {
        return;
    }
    program->vocab = h->vocab;
    program->context = h->context;
    program->hidden = h->hidden;
    program->layers = h->layers;
    program->kv_heads = h->kv_heads;
    program->head_dim = h->head_dim;
    b->x = buffer(b, h->hidden);
    b->normed = buffer(b, h->hidden);
    b->qkv = buffer(b, (h->heads + 2 * h->kv_heads) * h->head_dim);
    b->attn = buffer(b, h->heads * h->head_dim);
    b->ffn = buffer(b, h->ffn);
}

void tsr_build_context(struct tsr_builder *b, double positions)
{
    if (b->status == 0 && positions > b->program->context) {
        b->program->context = positions < INT32_MAX ? (uint32_t)positions : INT32_MAX;
    }
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

uint32_t tsr_build_u32(struct tsr_builder *b, const char *key, uint32_t fallback)
{
    uint32_t value = fallback;
    if (b->status == 0) {
        b->status = tsr_config_u32(b->config, key, 0, INT32_MAX, &fallback, &value, b->err);
    }
    return value;
}

float tsr_build_float(struct tsr_builder *b, const char *key, double fallback)
{
    double value = fallback;
    if (b->status == 0) {
        b->status = tsr_config_float(b->config, key, 0.0, 1e9, &fallback, &value, b->err);
    }
    return (float)value;
}

float tsr_build_cap(struct tsr_builder *b, const char *key, double fallback)
{
    return tsr_build_float(b, key, tsr_config_is_null(b->config, key) ? 0.0 : fallback);
}

enum tsr_bias tsr_build_bias(struct tsr_builder *b, const char *key)
{
    if (b->gguf) {
        return TSR_BIAS_OPTIONAL;
    }
    return tsr_build_bool(b, key, false) ? TSR_BIAS_REQUIRED : TSR_BIAS_NONE;
}

uint8_t *tsr_build_layer_types(struct tsr_builder *b, bool *stated)
{
    static const char *const names[] = {"full_attention", "sliding_attention"};
    b->has_layer_types = true;
    *stated = false;
    uint8_t *slides = b->status < 0 ? NULL : tsr_program_alloc(b->program, b->h.layers);
    if (!slides) {
        b->status = b->status < 0 ? b->status : tsr_err_set(b->err, -ENOMEM, "no memory");
        return NULL;
    }
    memset(slides, 0, b->h.layers);
    int rc = tsr_config_choices(b->config, "layer_types", names, 2, slides, b->h.layers, b->err);
    b->status = rc < 0 ? rc : 0;
    *stated = rc > 0;
    return slides;
}

uint32_t tsr_build_window(struct tsr_builder *b, bool slides, uint32_t window)
{
    if (b->status == 0 && slides && window == 0) {
        b->status = tsr_err_set(b->err, -EINVAL,
                                "layer_types has layers with sliding attention, but no "
                                "sliding_window is in use");
    }
    return slides ? window : 0;
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

/* A matrix of `w`'s rows of a tensor of exactly [whole, w->cols]. Its index in the program. */
static uint32_t matrix(struct tsr_builder *b, enum tsr_role role, uint32_t layer,
                       struct tsr_weight w, uint64_t whole)
{
    char name[TSR_TENSOR_NAME_SIZE], shape[96];
    if (b->status < 0) {
        return 0;
    }
    tsr_role_name(b, role, layer, ".weight", name);
    const struct tsr_tensor_entry *entry = take(b, name);
    if (!entry) {
        refuse_missing(b, name);
        return 0;
    }
    const struct tsr_tensor *t = &entry->tensor;
    if (t->n_dims != 2 || t->dims[0] != whole || t->dims[1] != w.cols) {
        shape_text(t, shape);
        b->status = tsr_err_set(b->err, -EINVAL,
                                "tensor '%s' is %s, where the configuration means [%llu, %llu]",
                                name, shape, (unsigned long long)whole, (unsigned long long)w.cols);
        return 0;
    }
    w.tensor = t;
    int index = tsr_program_weight(b->program, &w, b->err);
    b->status = index < 0 ? index : 0;
    return index < 0 ? 0 : (uint32_t)index;
}

/* The n numbers of a tensor as f32, which the program owns; NULL after a failure. */
static float *floats(struct tsr_builder *b, const struct tsr_tensor *t, uint32_t n)
{
    char shape[96];
    if (t->n_dims != 1 || t->dims[0] != n || n % tsr_dtype_info(t->dtype)->block != 0) {
        shape_text(t, shape);
        b->status =
            tsr_err_set(b->err, -EINVAL, "tensor '%s' is %s, where the configuration means [%u]",
                        t->name, shape, n);
        return NULL;
    }
    float *vector = tsr_program_alloc(b->program, n * sizeof *vector);
    if (!vector) {
        b->status = tsr_err_set(b->err, -ENOMEM, "no memory for tensor '%s'", t->name);
        return NULL;
    }
    tsr_dtype_to_f32(t->dtype, t->data, vector, n);
    for (uint32_t i = 0; i < n; i++) {
        if (!isfinite(vector[i])) {
            b->status = tsr_err_set(b->err, -EINVAL, "tensor '%s' holds %g at %u", t->name,
                                    (double)vector[i], i);
            return NULL;
        }
    }
    return vector;
}

/* The n finite numbers of a role; NULL where it may be absent and is, and after a failure. */
static float *vector(struct tsr_builder *b, enum tsr_role role, const char *suffix, uint32_t layer,
                     uint32_t n, enum tsr_bias bias)
{
    char name[TSR_TENSOR_NAME_SIZE];
    if (b->status < 0 || bias == TSR_BIAS_NONE) {
        return NULL;
    }
    tsr_role_name(b, role, layer, suffix, name);
    const struct tsr_tensor_entry *entry = take(b, name);
    if (!entry && bias == TSR_BIAS_REQUIRED) {
        refuse_missing(b, name);
    }
    return entry ? floats(b, &entry->tensor, n) : NULL;
}

const float *tsr_build_divisors(struct tsr_builder *b, const char *name, uint32_t n)
{
    struct tsr_tensor_entry *entry = b->status < 0 ? NULL : tsr_tensors_find(b->tensors, name);
    if (!entry) {
        refuse_missing(b, name);
        return NULL;
    }
    entry->used = true; /* but no parameter */
    const struct tsr_tensor *t = &entry->tensor;
    if (t->dtype != TSR_DTYPE_F32) {
        b->status = tsr_err_set(b->err, -EINVAL, "tensor '%s' is of type %s, where F32 is needed",
                                name, entry->type);
        return NULL;
    }
    const float *values = floats(b, t, n);
    for (uint32_t i = 0; values && i < n; i++) {
        if (!(values[i] > 0.0f)) {
            b->status = tsr_err_set(b->err, -EINVAL,
                                    "tensor '%s' holds %g at %u, where a positive number is needed",
                                    name, (double)values[i], i);
            return NULL;
        }
    }
    return values;
}

void tsr_build_embed(struct tsr_builder *b, float scale)
{
    char name[TSR_TENSOR_NAME_SIZE];
    tsr_role_name(b, TSR_ROLE_EMBED, 0, ".weight", name);
    const struct tsr_tensor_entry *entry = tsr_tensors_find(b->tensors, name);
    if (b->status == 0 && b->h.vocab == 0 && entry) {
        /* A GGUF need not state the vocabulary: it is the embedding's. */
        uint64_t rows = entry->tensor.dims[0];
        b->h.vocab = rows <= INT32_MAX ? (uint32_t)rows : 0;
        b->program->vocab = b->h.vocab;
    }
    const struct tsr_weight w = {.rows = b->h.vocab, .cols = b->h.hidden};
    const struct tsr_op op = {
        .kind = TSR_OP_EMBED,
        .in = b->x,
        .out = b->x,
        .scale = scale,
        .embed.weight = matrix(b, TSR_ROLE_EMBED, 0, w, w.rows),
    };
    tsr_build_op(b, &op);
}

/* The norm of `groups` groups of columns from `col` on. */
static void norm(struct tsr_builder *b, enum tsr_role role, uint32_t layer, struct tsr_op op,
                 uint32_t group)
{
    float *v = vector(b, role, ".weight", layer, group, TSR_BIAS_REQUIRED);
    for (uint32_t i = 0; v && i < group; i++) {
        v[i] += b->norm_offset;
    }
    op.kind = TSR_OP_NORM;
    op.scale = 1.0f;
    op.norm.vector = v;
    op.norm.eps = b->h.eps;
    op.norm.group = group;
    op.norm.groups = op.norm.groups ? op.norm.groups : 1;
    tsr_build_op(b, &op);
}

/* Which of a tensor's rows a matrix is. */
struct rows {
    uint32_t whole; /* rows of the tensor */
    uint32_t first, run, stride;
    bool pairs;
};

/* One matrix of a matmul with its bias. */
static struct tsr_part part(struct tsr_builder *b, enum tsr_role role, uint32_t layer,
                            uint32_t rows, uint32_t cols, const struct rows *of, enum tsr_bias bias)
{
    const struct tsr_weight w = {
        .row_first = of->first,
        .rows = rows,
        .cols = cols,
        .run = of->run,
        .stride = of->stride,
        .order = of->pairs ? TSR_ROW_ORDER_ROPE_PAIRS : TSR_ROW_ORDER_PLAIN,
        .head_dim = of->pairs ? b->h.head_dim : 0,
    };
    struct tsr_part part = {.weight = matrix(b, role, layer, w, of->whole)};
    const float *whole = vector(b, role, ".bias", layer, of->whole, bias);
    float *own = whole ? tsr_program_alloc(b->program, rows * sizeof *own) : NULL;
    if (whole && !own) {
        b->status = tsr_err_set(b->err, -ENOMEM, "no memory for a bias of %u numbers", rows);
    }
    for (uint32_t i = 0; own && b->status == 0 && i < rows; i++) {
        own[i] = whole[tsr_weight_row(&w, i)];
    }
    part.bias = own;
    return part;
}

/* x += W . in + bias, all times `residual`, or normed. */
static void add_to_stream(struct tsr_builder *b, enum tsr_role role, enum tsr_role post,
                          uint32_t layer, uint16_t in, uint32_t cols, enum tsr_bias bias,
                          float residual)
{
    const struct rows all = {.whole = b->h.hidden};
    const struct tsr_op op = {
        .kind = TSR_OP_MATMUL,
        .in = in,
        .out = b->post_norm ? b->normed : b->x,
        .scale = residual != 0.0f ? residual : 1.0f,
        .matmul = {.n_parts = 1,
                   .parts = {part(b, role, layer, b->h.hidden, cols, &all, bias)},
                   .accumulate = !b->post_norm},
    };
    tsr_build_op(b, &op);
    if (b->post_norm) {
        const struct tsr_op add = {.in = b->normed, .out = b->x, .norm = {.accumulate = true}};
        norm(b, post, layer, add, b->h.hidden);
    }
}

/* The buffer that a block's matrices read: the stream's norm, or the stream. */
static uint16_t block_input(struct tsr_builder *b, enum tsr_role role, uint32_t layer)
{
    if (b->no_pre_norm) {
        return b->x;
    }
    norm(b, role, layer, (struct tsr_op){.in = b->x, .out = b->normed}, b->h.hidden);
    return b->normed;
}

/* q, k and v into b->qkv, side by side. */
static void project(struct tsr_builder *b, uint32_t layer, const struct tsr_build_attention *how)
{
    static const enum tsr_role roles[] = {TSR_ROLE_Q, TSR_ROLE_K, TSR_ROLE_V};
    const struct tsr_hparams *h = &b->h;
    const uint32_t group = h->heads / h->kv_heads, dim = h->head_dim;
    const uint32_t n[] = {h->heads * dim, h->kv_heads * dim, h->kv_heads * dim};
    const uint32_t in_group[] = {0, group, group + 1}; /* where q, k, v begin, in heads */
    struct tsr_op op = {
        .kind = TSR_OP_MATMUL,
        .in = block_input(b, TSR_ROLE_ATTN_NORM, layer),
        .out = b->qkv,
        .scale = 1.0f,
        .matmul = {.n_parts = 3},
    };
    enum tsr_packing packing = how->packing;
    if (b->gguf &&
        b->status == 0) { /* llama.cpp's converter can leave any model's q, k, v in one */
        char name[TSR_TENSOR_NAME_SIZE];
        tsr_role_name(b, TSR_ROLE_QKV, layer, ".weight", name);
        packing = tsr_tensors_find(b->tensors, name) ? TSR_PACKING_PARTS : TSR_PACKING_NONE;
    }
    for (uint32_t i = 0, col = 0; i < 3; col += n[i++]) {
        struct rows of = {.whole = n[i], .pairs = how->pairs && i < 2};
        if (packing == TSR_PACKING_PARTS) {
            of.whole = n[0] + n[1] + n[2];
            of.first = col;
        } else if (packing == TSR_PACKING_GROUPS) {
            of.stride = (group + 2) * dim;
            of.whole = h->kv_heads * of.stride;
            of.first = in_group[i] * dim;
            of.run = (i == 0 ? group : 1) * dim;
        }
        op.matmul.parts[i] = part(b, packing == TSR_PACKING_NONE ? roles[i] : TSR_ROLE_QKV, layer,
                                  n[i], h->hidden, &of, how->qkv_bias);
        op.matmul.parts[i].out_col = col;
    }
    tsr_build_op(b, &op);
}

/* Norms the heads of q (from column 0) or k. */
static void norm_heads(struct tsr_builder *b, uint32_t layer, enum tsr_qk_norm how,
                       enum tsr_role role, uint32_t col, uint32_t heads)
{
    struct tsr_op op = {.in = b->qkv, .out = b->qkv, .norm.col = col};
    if (how == TSR_QK_NORM_HEAD) {
        op.norm.groups = heads;
        norm(b, role, layer, op, b->h.head_dim);
    } else if (how == TSR_QK_NORM_ALL) {
        norm(b, role, layer, op, heads * b->h.head_dim);
    }
}

static void turn_heads(struct tsr_builder *b, uint32_t rope, uint32_t col, uint32_t heads)
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
    if (b->status < 0) {
        return;
    }
    project(b, layer, how);
    norm_heads(b, layer, how->qk_norm, TSR_ROLE_Q_NORM, 0, h->heads);
    norm_heads(b, layer, how->qk_norm, TSR_ROLE_K_NORM, q, h->kv_heads);
    if (how->rotates) {
        turn_heads(b, how->rope, 0, h->heads);
        turn_heads(b, how->rope, q, h->kv_heads);
    }
    const struct tsr_op attend = {
        .kind = TSR_OP_ATTEND,
        .in = b->qkv,
        .out = b->attn,
        .scale = how->scale != 0.0f ? how->scale : 1.0f / sqrtf((float)h->head_dim),
        .attend = {.layer = layer,
                   .heads = h->heads,
                   .kv_heads = h->kv_heads,
                   .head_dim = h->head_dim,
                   .q_col = 0,
                   .k_col = q,
                   .v_col = q + kv,
                   .window = how->window,
                   .softcap = how->softcap,
                   .slopes = how->slopes},
    };
    tsr_build_op(b, &attend);
    add_to_stream(b, TSR_ROLE_O, TSR_ROLE_ATTN_POST, layer, b->attn, q, how->o_bias, how->residual);
}

void tsr_build_ffn(struct tsr_builder *b, uint32_t layer, const struct tsr_build_ffn *how)
{
    const struct tsr_hparams *h = &b->h;
    const uint32_t whole = how->packed ? 2 * h->ffn : h->ffn;
    const struct rows gate = {.whole = whole}, up = {.whole = whole, .first = whole - h->ffn};
    const enum tsr_role gate_role = how->packed ? TSR_ROLE_GATE_UP : TSR_ROLE_GATE;
    const enum tsr_role up_role = how->packed ? TSR_ROLE_GATE_UP : TSR_ROLE_UP;
    const struct tsr_op gated = {
        .kind = TSR_OP_GLU,
        .in = block_input(b, TSR_ROLE_FFN_NORM, layer),
        .out = b->ffn,
        .scale = 1.0f,
        .matmul = {.n_parts = 2,
                   .parts = {part(b, gate_role, layer, h->ffn, h->hidden, &gate, how->bias),
                             part(b, up_role, layer, h->ffn, h->hidden, &up, how->bias)},
                   .act = how->act},
    };
    tsr_build_op(b, &gated);
    add_to_stream(b, TSR_ROLE_DOWN, TSR_ROLE_FFN_POST, layer, b->ffn, h->ffn, how->bias,
                  how->residual);
}

/* Refuses a head that differs from the embedding to which it is tied: versions of transformers read
 * such a file differently. */
static void check_tied(struct tsr_builder *b, struct tsr_tensor_entry *head, const char *head_name)
{
    char embed_name[TSR_TENSOR_NAME_SIZE];
    tsr_role_name(b, TSR_ROLE_EMBED, 0, ".weight", embed_name);
    const struct tsr_tensor *x = &head->tensor;
    const struct tsr_tensor *y = &tsr_tensors_find(b->tensors, embed_name)->tensor;
    if (x->dtype != y->dtype || x->bytes != y->bytes || memcmp(x->data, y->data, x->bytes) != 0) {
        b->status = tsr_err_set(b->err, -EINVAL,
                                "tie_word_embeddings is true, but tensor '%s' is there and "
                                "differs from '%s': set it to false if the head is meant",
                                head_name, embed_name);
    }
    head->used = true;
}

/* The head's weight: its own matrix, or the embedding's. A GGUF ties by leaving the head out,
 * config.json says so. */
static uint32_t head_weight(struct tsr_builder *b, bool unit)
{
    char name[TSR_TENSOR_NAME_SIZE];
    tsr_role_name(b, TSR_ROLE_HEAD, 0, ".weight", name);
    struct tsr_tensor_entry *head = tsr_tensors_find(b->tensors, name);
    bool tied = b->gguf ? !head : tsr_build_bool(b, "tie_word_embeddings", b->tied);
    const struct tsr_weight w = {.rows = b->h.vocab, .cols = b->h.hidden, .unit = unit};
    if (!tied) {
        return matrix(b, TSR_ROLE_HEAD, 0, w, w.rows);
    }
    if (head && b->status == 0) {
        check_tied(b, head, name);
    }
    if (unit) {
        return matrix(b, TSR_ROLE_EMBED, 0, w, w.rows);
    }
    for (uint32_t i = 0; i < b->program->n_ops; i++) {
        if (b->program->ops[i].kind == TSR_OP_EMBED) {
            return b->program->ops[i].embed.weight;
        }
    }
    return 0;
}

static void check_taken(struct tsr_builder *b)
{
    for (size_t i = 0; i < b->tensors->n && b->status == 0; i++) {
        const struct tsr_tensor_entry *entry = &b->tensors->entries[i];
        if (!entry->used && !tsr_name_is_spare(b, entry->tensor.name)) {
            b->status = tsr_err_set(b->err, -ENOTSUP,
                                    "tensor '%s' has no part in a %s model of %u layers: the file "
                                    "is not the model that its configuration says",
                                    entry->tensor.name, b->program->architecture, b->h.layers);
        }
    }
}

/* Where no layer slides, a list of layer types may only say so. */
static void check_layer_types(struct tsr_builder *b)
{
    bool stated;
    const uint8_t *slides = b->has_layer_types ? NULL : tsr_build_layer_types(b, &stated);
    for (uint32_t i = 0; slides && i < b->h.layers && b->status == 0; i++) {
        if (slides[i]) {
            b->status = tsr_err_set(b->err, -ENOTSUP,
                                    "layer_types[%u] is 'sliding_attention'; only "
                                    "'full_attention' is supported for %s",
                                    i, b->program->architecture);
        }
    }
}

int tsr_build_end(struct tsr_builder *b, const struct tsr_build_head *how)
{
    uint16_t last = buffer(b, b->h.hidden);
    uint16_t last_normed = buffer(b, b->h.hidden);
    uint16_t logits = buffer(b, b->h.vocab);
    const struct tsr_op select = {.kind = TSR_OP_SELECT, .in = b->x, .out = last, .scale = 1.0f};
    tsr_build_op(b, &select);
    norm(b, TSR_ROLE_FINAL_NORM, 0, (struct tsr_op){.in = last, .out = last_normed}, b->h.hidden);
    const struct tsr_op head = {
        .kind = TSR_OP_MATMUL,
        .in = last_normed,
        .out = logits,
        .scale = how->scale != 0.0f ? how->scale : 1.0f,
        .matmul = {.n_parts = 1,
                   .parts = {{.weight = head_weight(b, how->unit)}},
                   .softcap = how->softcap},
    };
    tsr_build_op(b, &head);
    b->program->logits = logits;
    check_taken(b);
    check_layer_types(b);
    b->status = b->status < 0 ? b->status : tsr_config_check_read(b->config, b->err);
    return b->status < 0 ? b->status : tsr_program_check(b->program, b->err);
}
