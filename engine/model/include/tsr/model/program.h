/* A model as data: the flat program that an architecture builder emits and the worker team runs.
 *
 * A step runs the program once over a matrix of rows; every buffer is [rows, width] f32, row-major.
 * Operations are named by what they compute, not by how: fusing, quantizing of activations,
 * splitting over workers and the choice of kernels are the executor's. Builders append operations
 * with the tsr_program_*() functions, which check shapes; nothing in a program depends on an
 * instruction set. */
#ifndef TSR_MODEL_PROGRAM_H
#define TSR_MODEL_PROGRAM_H

#include <stdbool.h>
#include <stdint.h>

#include <tsr/kernels/dtype.h>
#include <tsr/shm/err.h>

enum {
    TSR_PROGRAM_PARTS_MAX = 3, /* matrices that one matmul reads with the same input (q, k, v) */
    TSR_PROGRAM_BUFFERS_MAX = 32,
    TSR_PROGRAM_ROPES_MAX = 4,
};

/* A tensor in a source file. data points into the mapped file, unaligned; valid while the source is
 * open. */
struct tsr_tensor {
    const char *name;
    enum tsr_dtype dtype;
    uint32_t n_dims;
    uint64_t dims[4]; /* row-major, outermost first: a matrix is [rows (outputs), cols (inputs)] */
    const void *data;
    uint64_t bytes;
    /* Factors of blocks of [scale_rows, scale_cols] elements, row-major, the last ones cut off;
     * NULL: none. Live as long as the tensor. */
    const float *scales;
    uint32_t scale_rows, scale_cols;
};

/* The values of row `row` of a tensor of two dimensions, its scales applied: out [dims[1]]. */
void tsr_tensor_row(const struct tsr_tensor *tensor, uint64_t row, float *out);

/* The order of a matrix's rows in the file against the order that the program means. */
enum tsr_row_order {
    TSR_ROW_ORDER_PLAIN,
    TSR_ROW_ORDER_ROPE_PAIRS, /* llama.cpp's converter: within each head of head_dim rows, file row
                                 2i is row i and file row 2i+1 is row i + head_dim/2 of the
                                 rotate-half order used here */
};

/* A matrix: rows of a tensor, in sequence from row_first, or gathered in runs: row r is then the
 * tensor's row row_first + r / run * stride + r % run (InternLM2 packs q, k and v by KV head). */
struct tsr_weight {
    const struct tsr_tensor *tensor;
    uint64_t row_first;
    uint64_t rows;        /* outputs */
    uint64_t cols;        /* inputs */
    uint32_t run, stride; /* run divides rows, run <= stride; 0: in sequence */
    enum tsr_row_order order;
    uint32_t head_dim; /* for TSR_ROW_ORDER_ROPE_PAIRS */
    bool unit;         /* each row divided by its Euclidean length (Baichuan 2's head) */
};

/* The row of the tensor that row r of the matrix is. */
uint64_t tsr_weight_row(const struct tsr_weight *weight, uint64_t r);

/* Rotary embedding, rotate-half form over the first `dims` of each head:
 * (x[i], x[i + dims/2]) turned by position * frequency i, both results times `scale`.
 *
 * The frequencies may depend on a sequence's length, which is what it reserves in the KV cache: one
 * choice for all its positions, so that how it is cut into steps changes nothing. */
struct tsr_rope {
    uint32_t dims;
    float scale;                /* YaRN's and longrope's attention factor, 1 elsewhere */
    const float *inv_freq;      /* [dims / 2], owned by the program; for lengths up to `length` */
    uint32_t length;            /* 0: for all */
    const float *inv_freq_long; /* [dims / 2] above it (longrope), owned by the program; or NULL: */
    float base, factor;         /* base' = base * (factor * length' / length - (factor - 1)) ^
                                   (dims / (dims - 2)), dynamic NTK at length' */
};

enum tsr_op_kind {
    TSR_OP_EMBED,  /* out[r] = scale * weight[token of row r] */
    TSR_OP_NORM,   /* RMSNorm of each group of `group` columns: out (=, or += with accumulate) in /
                      sqrt(mean(in^2) + eps) * vector */
    TSR_OP_MATMUL, /* for each part: out[:, part.out_col ..] (=, or += with accumulate) scale * (in
                      . W^T + bias), softcapped where softcap > 0 */
    TSR_OP_GLU,    /* out = act(in . W0^T + b0) * (in . W1^T + b1), parts 0 gate and 1 up */
    TSR_OP_ROPE,   /* in place on `heads` heads of head_dim columns from column in_col */
    TSR_OP_ATTEND, /* stores this step's keys and values, then causal attention; see below */
    TSR_OP_SELECT, /* out = the rows of in whose logits are wanted; later operations run on those
                      rows only. What the NORM behind it would make of a row is the row's hidden
                      state, of which embeddings are made */
};

enum tsr_act { TSR_ACT_SILU, TSR_ACT_GELU_TANH };

struct tsr_part {
    uint32_t weight;   /* index into program->weights */
    uint32_t out_col;  /* first column in the output buffer */
    const float *bias; /* [rows of the weight] in the program's row order, owned by the program;
                          NULL: none */
};

struct tsr_op {
    enum tsr_op_kind kind;
    uint16_t in, out; /* buffers */
    float scale;      /* EMBED, MATMUL: factor; ATTEND: factor on q.k */
    union {
        struct {
            uint32_t weight;
        } embed;
        struct {
            const float *vector; /* [group], owned by the program */
            float eps;
            uint32_t col, group,
                groups;      /* columns [col, col + group * groups) of in to the same of out */
            bool accumulate; /* add to out */
        } norm;
        struct {
            uint32_t n_parts;
            struct tsr_part parts[TSR_PROGRAM_PARTS_MAX];
            bool accumulate;  /* MATMUL: add to out (the residual stream) */
            float softcap;    /* MATMUL: y becomes cap * tanh(y / cap); 0: none */
            enum tsr_act act; /* GLU */
        } matmul;
        struct {
            uint32_t rope, in_col, heads, head_dim;
        } rope;
        struct {
            uint32_t layer; /* index of the KV layer */
            uint32_t heads, kv_heads, head_dim;
            uint32_t q_col, k_col, v_col; /* in buffer `in`; out: [rows, heads * head_dim] */
            uint32_t window;     /* positions a row sees, itself included; 0: all before it */
            float softcap;       /* scores become cap * tanh(score / cap); 0: none */
            const float *slopes; /* [heads] ALiBi: slope * (position of the key - the row's) is
                                    added to the score; owned by the program; NULL: none */
        } attend;
    };
};

struct tsr_program {
    char architecture[32];
    uint32_t vocab;   /* columns of the logits */
    uint32_t context; /* positions that the model was made for */
    uint32_t hidden;
    uint32_t layers;             /* KV layers */
    uint32_t kv_heads, head_dim; /* of the KV cache, the same in every layer */
    uint64_t parameters;         /* number of weights, the embedding counted once */

    uint32_t n_buffers;
    uint32_t buffer_width[TSR_PROGRAM_BUFFERS_MAX]; /* columns */
    uint16_t logits;                                /* the buffer that holds the result */

    uint32_t n_weights;
    struct tsr_weight *weights;
    uint32_t n_ropes;
    struct tsr_rope ropes[TSR_PROGRAM_ROPES_MAX];
    uint32_t n_ops;
    struct tsr_op *ops;

    void *owned; /* the builder's allocations, freed by tsr_program_fini() */
};

/* Allocates memory that lives as long as the program (vectors, biases, inv_freq). NULL: out of
 * memory. */
void *tsr_program_alloc(struct tsr_program *program, size_t bytes);

/* The next buffer of `width` columns; its index, or a negative errno. */
int tsr_program_buffer(struct tsr_program *program, uint32_t width, struct tsr_err *err);

/* Adds a matrix; its index, or a negative errno where the tensor is not two-dimensional or too
 * small. */
int tsr_program_weight(struct tsr_program *program, const struct tsr_weight *weight,
                       struct tsr_err *err);

/* Appends an operation after checking every index, column range and shape in it against the buffers
 * and weights: 0, or -EINVAL with a sentence that names operation and numbers. */
int tsr_program_op(struct tsr_program *program, const struct tsr_op *op, struct tsr_err *err);

/* Adds a rope (dims even, 2 * n; inv_freq from tsr_program_alloc()); its index, or a negative
 * errno. */
int tsr_program_rope(struct tsr_program *program, const struct tsr_rope *rope, struct tsr_err *err);

/* 1 / base^(2i / dims), in 32 bits and transformers' order of operations. inv_freq: [dims / 2]. */
void tsr_rope_default(float base, uint32_t dims, float *inv_freq);

/* The frequencies of a sequence of so many positions: [dims / 2], the rope's own, or in `scratch`
 * ([dims / 2]). */
const float *tsr_rope_frequencies(const struct tsr_rope *rope, uint32_t length, float *scratch);

/* Whether sequences of a and of b positions are turned by the same frequencies. */
bool tsr_program_turns_alike(const struct tsr_program *program, uint32_t a, uint32_t b);

/* Checks the whole: it begins with an EMBED, the logits' buffer has `vocab` columns and is written
 * after the one SELECT, every KV layer is attended exactly once. 0 or -EINVAL. Called once, after
 * the last operation. */
int tsr_program_check(const struct tsr_program *program, struct tsr_err *err);

void tsr_program_fini(struct tsr_program *program);

#endif
