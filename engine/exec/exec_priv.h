/* What the executor's files share: packed matrices, the compiled program, a step's rows. */
#ifndef TSR_EXEC_PRIV_H
#define TSR_EXEC_PRIV_H

#include <stdatomic.h>

#include <tsr/exec/exec.h>

#include "team.h"

enum {
    EXEC_PRIVATE_ROWS = 2,  /* up to so many rows, each worker prepares a matmul's input for itself:
                               cheaper than a  barrier */
    EXEC_BATCH_PANELS = 64, /* panels that the one-row kernels compute between two epilogues */
    EXEC_HEAD_DIM_MAX = 256,
};

/* A matrix in panels. */
struct exec_matrix {
    enum tsr_dtype dtype; /* in the file */
    enum tsr_format format;
    uint32_t rows, cols, panels;
    size_t panel_bytes;
    uint8_t *data; /* in the weights' arena */
    bool unit;     /* outputs are multiplied by `factor` */
    float *factor; /* [panels * 16] 1 / length of the row, in the weights' arena */
};

/* The compiled program: what workers run between two barriers. */
enum exec_kind { EXEC_EMBED, EXEC_NORM, EXEC_MATMUL, EXEC_GLU, EXEC_KV, EXEC_ATTEND, EXEC_SELECT };

/* A head that EXEC_KV turns: its first column and the rotary table. */
struct exec_turn {
    uint32_t col, rope;
};

struct exec_op {
    enum exec_kind kind;
    const struct tsr_op *op;   /* parameters */
    const struct tsr_op *norm; /* MATMUL, GLU: applied to the input on the way in; SELECT: makes
                                  hidden states; NULL: none */
    uint16_t in;               /* MATMUL, GLU: the buffer read (the norm's, if there is one) */
    bool floats, ints, halves; /* MATMUL, GLU: forms of activations that the parts' formats take */
    uint32_t *split;           /* MATMUL, GLU: [parts][workers + 1] first panel of each worker */
    struct exec_turn
        *turns; /* KV: [kv_heads][turns_per_group], the heads that belong to a KV head */
    uint32_t turns_per_group;
    _Atomic uint32_t *next; /* ATTEND: the next item to take; cleared between steps */
};

/* Rows of one span that attend together. */
struct exec_tile {
    uint32_t span, row, rows, position; /* first row in the step, number, position of the first */
};

struct exec_worker {
    struct tsr_acts acts; /* EXEC_PRIVATE_ROWS rows */
    float *out;           /* [max(EXEC_BATCH_PANELS, rows_max) * 2][16] */
    float *scratch;       /* attention's */
};

struct tsr_exec {
    struct tsr_program program; /* vectors and biases are the executor's copies */
    void *owned;                /* ... and this is where they are */
    const struct tsr_kernels *kernels;
    struct tsr_team *team;
    struct tsr_exec_plan plan;
    struct tsr_exec_options options;
    uint32_t cpus[TSR_EXEC_WORKERS_MAX];
    struct tsr_kv_pool *kv;
    struct tsr_arena weights, buffers;

    struct exec_matrix *matrices; /* [program.n_weights] */
    uint32_t n_ops;
    struct exec_op *ops;

    float *buffer[TSR_PROGRAM_BUFFERS_MAX]; /* [rows_max or logit_rows_max][stride] */
    uint32_t stride[TSR_PROGRAM_BUFFERS_MAX];
    float *cos[TSR_PROGRAM_ROPES_MAX], *sin[TSR_PROGRAM_ROPES_MAX]; /* [rows_max][dims / 2] */
    struct tsr_acts acts; /* shared by all, rows_max rows */
    struct exec_worker *workers;
    void (*progress)(void *ctx, double done);
    void *progress_ctx;
    _Atomic uint64_t packed; /* panels taken by packing workers */

    /* The step at hand, written by worker 0 before the team starts. */
    const struct tsr_span *spans;
    uint32_t rows, logit_rows;
    bool pools;                              /* some of its hidden states are wanted */
    uint32_t *tokens, *positions, *row_span; /* [rows_max] */
    uint32_t *wanted;                        /* [logit_rows_max] rows with logits */
    uint32_t n_tiles;
    struct exec_tile *tiles; /* [rows_max] */
};

/* plan.c: fills exec->plan, options' defaults and the compiled program; -ENOMEM where it cannot
 * fit. */
int tsr_exec_make_plan(struct tsr_exec *exec, const struct tsr_model *model,
                       const struct tsr_exec_options *options, struct tsr_err *err);
void tsr_exec_release(struct tsr_exec *exec); /* what compiling allocated */
uint64_t tsr_exec_scratch_bytes(void);        /* of one worker's attention */
uint64_t
tsr_exec_out_bytes(const struct tsr_exec *exec); /* of one worker's outputs before the epilogue */
uint32_t tsr_exec_buffer_rows(const struct tsr_exec *exec, uint32_t buffer);

/* compile.c: fuses the program's operations into exec->ops, chooses formats and sizes. Uses no
 * arena. */
int tsr_exec_compile(struct tsr_exec *exec, const struct tsr_program *program, struct tsr_err *err);
uint64_t tsr_exec_weight_bytes(const struct tsr_exec *exec);
/* Columns of an activation matrix: an odd multiple of 256, so that the same column of neighbouring
 * rows does not fall into the same cache set. */
uint32_t tsr_exec_act_cols(uint32_t cols);
uint32_t tsr_exec_cols_max(const struct tsr_exec *exec); /* the widest of all inputs */
bool tsr_exec_buffer_is_logits(const struct tsr_program *program, uint32_t buffer);

/* pack.c: fills the matrices from the program's tensors, on all workers. */
void tsr_exec_pack(struct tsr_exec *exec, const struct tsr_program *program);

/* run.c: one worker's part of a step. */
void tsr_exec_run(void *exec, uint32_t worker);

#endif
