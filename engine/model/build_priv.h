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
    TSR_ROLE_QKV, /* q, k and v in one matrix */
    TSR_ROLE_Q_NORM,
    TSR_ROLE_K_NORM,
    TSR_ROLE_O,
    TSR_ROLE_ATTN_POST, /* norm of what attention adds */
    TSR_ROLE_FFN_NORM,
    TSR_ROLE_GATE,
    TSR_ROLE_UP,
    TSR_ROLE_GATE_UP, /* both, gate first */
    TSR_ROLE_DOWN,
    TSR_ROLE_FFN_POST, /* norm of what the feed-forward adds */
    TSR_ROLE_COUNT
};

/* How a directory names its tensors. */
enum tsr_names { TSR_NAMES_PLAIN, TSR_NAMES_INTERNLM2, TSR_NAMES_BAICHUAN };

enum { TSR_TENSOR_NAME_SIZE = 128 };

enum tsr_bias {
    TSR_BIAS_NONE,     /* the architecture has none */
    TSR_BIAS_REQUIRED, /* the architecture, or its configuration, has one */
    TSR_BIAS_OPTIONAL, /* there is one if the file holds it (a GGUF's configuration does not say) */
};

/* How q, k and v lie in the file. */
enum tsr_packing {
    TSR_PACKING_NONE,   /* three matrices */
    TSR_PACKING_PARTS,  /* one: all rows of q, then k, then v */
    TSR_PACKING_GROUPS, /* one: by KV head its query heads, its key head, its value head */
};

enum tsr_qk_norm {
    TSR_QK_NORM_NONE,
    TSR_QK_NORM_HEAD, /* of each head of q and k, one vector of head_dim for all */
    TSR_QK_NORM_ALL,  /* of all heads together */
};

struct tsr_builder {
    /* Set before the builder is called. */
    struct tsr_program *program;
    const struct tsr_config *config;
    const struct tsr_tensors *tensors;
    struct tsr_err *err;
    bool gguf;

    /* Set by the builder before tsr_build_begin(), where they are not 0. h: what stands for figures
     * that a config.json leaves out. */
    struct tsr_hparams h;
    enum tsr_names names;
    bool tied;         /* what config.json means where it does not say tie_word_embeddings */
    bool no_pre_norm;  /* a block reads the residual stream as it is */
    bool post_norm;    /* a block's output is normed before it is added */
    bool has_images;   /* the file may hold another part for images, which is left out */
    float norm_offset; /* added to every norm's vector */

    /* Filled by tsr_build_begin(). */
    const char *model_prefix, *head_prefix; /* of a directory's tensor names */
    uint16_t x;                             /* the residual stream, h.hidden columns */
    uint16_t normed;      /* what a block's matrices read, or have computed, h.hidden columns */
    uint16_t qkv;         /* heads + 2 * kv_heads heads of head_dim columns */
    uint16_t attn;        /* attention's output, heads * head_dim columns */
    uint16_t ffn;         /* the feed-forward's hidden columns */
    bool has_layer_types; /* somebody has read layer_types */
    int status;           /* 0, or the negative errno of the first failure */
};

/* Writes "model.layers.3.self_attn.q_proj" + suffix (".weight", ".bias"), or "blk.3.attn_q" +
 * suffix. */
void tsr_role_name(const struct tsr_builder *b, enum tsr_role role, uint32_t layer,
                   const char *suffix, char name[static TSR_TENSOR_NAME_SIZE]);

/* Whether a tensor that no builder takes may stand in a file: derived data that is computed here,
 * or the part for images. */
bool tsr_name_is_spare(const struct tsr_builder *b, const char *name);

/* Reads the hyperparameters, fills the program's figures and makes the buffers above. */
void tsr_build_begin(struct tsr_builder *b);

/* --- configuration
 * -----------------------------------------------------------------------------------------------
 */

/* A configuration's value that this builder computes with one meaning only: -ENOTSUP where it is
 * another. */
void tsr_build_expect_string(struct tsr_builder *b, const char *key, const char *value);
void tsr_build_expect_bool(struct tsr_builder *b, const char *key, bool value);
void tsr_build_expect_absent(struct tsr_builder *b, const char *key); /* absent, null or 0 */
bool tsr_build_bool(struct tsr_builder *b, const char *key, bool fallback);
uint32_t tsr_build_u32(struct tsr_builder *b, const char *key, uint32_t fallback);
float tsr_build_float(struct tsr_builder *b, const char *key, double fallback); /* positive */
/* The same; 0 (none) where the key is null. */
float tsr_build_cap(struct tsr_builder *b, const char *key, double fallback);
/* Of a bias that `key` of config.json asks for and a GGUF simply holds. */
enum tsr_bias tsr_build_bias(struct tsr_builder *b, const char *key);

/* An element for each layer, 1 where layer_types says "sliding_attention", 0 where it says
 * "full_attention"; all 0, and not *stated, where the configuration has no layer_types. Never NULL
 * while status is 0. */
uint8_t *tsr_build_layer_types(struct tsr_builder *b, bool *stated);

/* The window of a layer that slides or does not; -EINVAL where it slides and window is 0. */
uint32_t tsr_build_window(struct tsr_builder *b, bool slides, uint32_t window);

/* The model was made for that many positions, if that is more than it says. */
void tsr_build_context(struct tsr_builder *b, double positions);

/* Where rotary parameters stand. */
struct tsr_build_rope {
    double theta;           /* the base where the file does not say */
    const char *theta_key;  /* where it does beside rope_scaling; NULL: "rope_theta" */
    const char *layer_type; /* of layers that have their own parameters in a rope_parameters by type
                               of layer; NULL: all have the same */
    bool unscaled;          /* without such, these layers are not scaled */
    bool partial;           /* a part of each head may be turned */
    bool yarn_is_longrope;  /* as in early configurations of Phi-3 */
    double original;        /* original_max_position_embeddings where config.json has it not beside
                               rope_scaling; 0: what rope_scaling says */
};

/* The rotary embedding that the configuration asks for (rope.c). Its index. */
uint32_t tsr_build_rope(struct tsr_builder *b, const struct tsr_build_rope *how);

/* --- tensors
 * -----------------------------------------------------------------------------------------------
 */

/* n positive numbers, of type F32; NULL after a failure. */
const float *tsr_build_divisors(struct tsr_builder *b, const char *name, uint32_t n);

/* --- operations
 * -----------------------------------------------------------------------------------------------
 */

void tsr_build_op(struct tsr_builder *b, const struct tsr_op *op);

/* x = scale * embedding of each row's token. Sets program->vocab. */
void tsr_build_embed(struct tsr_builder *b, float scale);

struct tsr_build_attention {
    bool rotates;
    uint32_t rope;
    enum tsr_packing packing;
    bool pairs; /* q and k have their rows in rotary pairs */
    enum tsr_bias qkv_bias, o_bias;
    enum tsr_qk_norm qk_norm;
    uint32_t window;     /* 0: none */
    float scale;         /* on q.k; 0: 1 / sqrt(head_dim) */
    float softcap;       /* 0: none */
    const float *slopes; /* ALiBi's; NULL: none */
    float residual;      /* factor on what is added; 0: 1 */
};

/* x += o . attend(rope(qkv . norm(x))). */
void tsr_build_attention(struct tsr_builder *b, uint32_t layer,
                         const struct tsr_build_attention *how);

struct tsr_build_ffn {
    bool packed; /* gate and up are one matrix */
    enum tsr_bias bias;
    enum tsr_act act;
    float residual; /* factor on what is added; 0: 1 */
};

/* x += down . (act(gate . norm(x)) * (up . norm(x))). */
void tsr_build_ffn(struct tsr_builder *b, uint32_t layer, const struct tsr_build_ffn *how);

/* What follows the layers. */
struct tsr_build_head {
    float scale;   /* on the logits; 0: 1 */
    float softcap; /* 0: none */
    bool unit;     /* the head's rows have length 1 */
};

/* Selects rows, norms, multiplies by the head (the embedding where tied), and checks that every
 * tensor of the files has been taken and every key that matters has been read: else the model would
 * be one that computes something else. Returns status. */
int tsr_build_end(struct tsr_builder *b, const struct tsr_build_head *how);

/* Embedding, layers and head of Qwen 2 and 3 (qwen2.c): use_sliding_window puts a window on the
 * layers from max_window_layers on, unless layer_types says which. Returns status. */
int tsr_build_qwen_layers(struct tsr_builder *b, const struct tsr_build_attention *how);

/* The builders: program empty, config and tensors set. 0, -EINVAL, -ENOTSUP, -ENOMEM. */
int tsr_build_baichuan(struct tsr_builder *b);
int tsr_build_gemma(struct tsr_builder *b);
int tsr_build_gemma2(struct tsr_builder *b);
int tsr_build_gemma3(struct tsr_builder *b);
int tsr_build_granite(struct tsr_builder *b);
int tsr_build_internlm2(struct tsr_builder *b);
int tsr_build_llama(struct tsr_builder *b);
int tsr_build_mistral(struct tsr_builder *b);
int tsr_build_olmo2(struct tsr_builder *b);
int tsr_build_phi3(struct tsr_builder *b);
int tsr_build_qwen2(struct tsr_builder *b);
int tsr_build_qwen3(struct tsr_builder *b);
int tsr_build_smollm3(struct tsr_builder *b);

#endif
