/* What architecture builders share.
 *
 * A builder is a function that appends operations in the order in which the model computes. The
 * functions here look tensors up by role, check their shapes against the hyperparameters, and
 * append. The first that fails writes the sentence and sets `status`; all later ones do nothing and
 * return 0 or NULL, so that a builder reads as a list of operations. */
#ifndef TSR_MODEL_BUILD_PRIV_H
#define TSR_MODEL_BUILD_PRIV_H

#include <tsr/model/config.h>
#include <tsr/model/program.h>
#include <tsr/model/tensors.h>

/* What a tensor is for; names.c says how each format calls it. */
enum tsr_role {
    TSR_ROLE_EMBED,
    TSR_ROLE_FINAL_NORM,
    TSR_ROLE_HEAD,
    TSR_ROLE_ATTN_NORM,
    TSR_ROLE_Q,
    TSR_ROLE_K,
    TSR_ROLE_V,
    TSR_ROLE_O,
    TSR_ROLE_FFN_NORM,
    TSR_ROLE_GATE,
    TSR_ROLE_UP,
    TSR_ROLE_DOWN,
    TSR_ROLE_COUNT
};

enum { TSR_TENSOR_NAME_SIZE = 96 };

/* Writes "model.layers.3.self_attn.q_proj" + suffix (".weight", ".bias"), or "blk.3.attn_q" +
 * suffix. */
void tsr_role_name(enum tsr_role role, bool gguf, uint32_t layer, const char *suffix,
                   char name[static TSR_TENSOR_NAME_SIZE]);

/* Whether a tensor that no builder takes may stand in a file: derived data that is computed here.
 */
bool tsr_name_is_derived(const char *name);

enum tsr_bias {
    TSR_BIAS_NONE,     /* the architecture has none */
    TSR_BIAS_REQUIRED, /* the architecture, or its configuration, has one */
    TSR_BIAS_OPTIONAL, /* there is one if the file holds it (a GGUF's configuration does not say) */
};

struct tsr_builder {
    struct tsr_program *program;
    const struct tsr_config *config;
    const struct tsr_tensors *tensors;
    bool gguf;
    struct tsr_hparams h;
    uint16_t x;      /* the residual stream, h.hidden columns */
    uint16_t normed; /* what a block's matrices read, h.hidden columns */
    uint16_t qkv;    /* heads + 2 * kv_heads heads of head_dim columns */
    uint16_t attn;   /* attention's output, heads * head_dim columns */
    uint16_t ffn;    /* the feed-forward's hidden columns */
    int status;      /* 0, or the negative errno of the first failure */
    struct tsr_err *err;
};

/* Reads the hyperparameters, fills the program's figures and makes the buffers above. */
void tsr_build_begin(struct tsr_builder *b);

/* A configuration's value that this builder computes with one meaning only: -ENOTSUP where it is
 * another. */
void tsr_build_expect_string(struct tsr_builder *b, const char *key, const char *value);
void tsr_build_expect_bool(struct tsr_builder *b, const char *key, bool value);
void tsr_build_expect_absent(struct tsr_builder *b, const char *key); /* absent, null or 0 */
bool tsr_build_bool(struct tsr_builder *b, const char *key, bool fallback);

uint16_t tsr_build_buffer(struct tsr_builder *b, uint32_t width);

/* A matrix of exactly [rows, cols]; head_dim is 0 for rows in plain order. The index in the
 * program. */
uint32_t tsr_build_matrix(struct tsr_builder *b, enum tsr_role role, uint32_t layer, uint32_t rows,
                          uint32_t cols, uint32_t head_dim);

/* A vector of n finite numbers as f32, in the program's row order (head_dim as above); NULL where
 * it may be absent and is, and after a failure. */
const float *tsr_build_vector(struct tsr_builder *b, enum tsr_role role, const char *suffix,
                              uint32_t layer, uint32_t n, uint32_t head_dim, enum tsr_bias bias);

/* The rotary embedding that the configuration asks for: default, linear, llama3 (rope.c). Its
 * index. */
uint32_t tsr_build_rope(struct tsr_builder *b);

/* --- operations
 * -----------------------------------------------------------------------------------------------
 */

void tsr_build_op(struct tsr_builder *b, const struct tsr_op *op);

/* x = embedding of each row's token. Sets program->vocab. */
void tsr_build_embed(struct tsr_builder *b, float scale);

void tsr_build_norm(struct tsr_builder *b, enum tsr_role role, uint32_t layer, uint16_t in,
                    uint16_t out);

struct tsr_build_attention {
    uint32_t rope;
    enum tsr_bias qkv_bias, o_bias;
    uint32_t head_order; /* head_dim where the file's q and k rows are in rotary pairs, else 0 */
    uint32_t window;     /* 0: none */
};

/* x += o . attend(rope(qkv . norm(x))). */
void tsr_build_attention(struct tsr_builder *b, uint32_t layer,
                         const struct tsr_build_attention *how);

/* x += down . (silu(gate . norm(x)) * (up . norm(x))). */
void tsr_build_ffn(struct tsr_builder *b, uint32_t layer, enum tsr_bias bias);

/* Selects rows, norms, multiplies by the head (the embedding where tied), and checks that every
 * tensor of the files has been taken: one that has not been would be a model that computes
 * something else. Returns status. */
int tsr_build_end(struct tsr_builder *b);

/* The builders: program empty, config and tensors set. 0, -EINVAL, -ENOTSUP, -ENOMEM. */
int tsr_build_llama(struct tsr_builder *b);
int tsr_build_qwen2(struct tsr_builder *b);

#endif
