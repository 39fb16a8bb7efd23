/* The executor: a model's weights packed into arenas, a team of pinned workers, and the step that
 * they run.
 *
 * The thread that calls tsr_exec_step() is worker 0 for the time of the call. After
 * tsr_exec_create() nothing is allocated and no page is touched for the first time; with all
 * workers spinning, a step makes no system call. */
#ifndef TSR_EXEC_EXEC_H
#define TSR_EXEC_EXEC_H

#include <stdbool.h>
#include <stdint.h>

#include <tsr/kernels/kernels.h>
#include <tsr/kv/kv.h>
#include <tsr/memory/arena.h>
#include <tsr/memory/placement.h>
#include <tsr/model/model.h>
#include <tsr/shm/err.h>

enum { TSR_EXEC_WORKERS_MAX = 256 };

/* Which precision weights are packed in. */
enum tsr_weights {
    TSR_WEIGHTS_FILE, /* as in the file, f32 as bf16 */
    TSR_WEIGHTS_REF,  /* f32, with the `ref` kernels */
    TSR_WEIGHTS_BF16,
    TSR_WEIGHTS_F16,
    TSR_WEIGHTS_INT8, /* absmax scale per 32 inputs */
};

struct tsr_exec_options {
    uint32_t workers; /* 0: one per CPU in `cpus`, or in the affinity mask; of the latter no more
                         than the control group gives time for */
    const uint32_t *cpus; /* [workers] CPU of each worker, or NULL: the affinity mask's, in order */
    bool pin;             /* pin workers (and the calling thread, as worker 0) */
    bool spin;         /* appliance mode: never sleep; else spin for a bounded time, then futex */
    uint32_t rows_max; /* rows a step, default 512 */
    uint32_t logit_rows_max; /* rows with logits a step, default 64 */
    uint32_t context;        /* positions a sequence may have, default the model's */
    bool beyond;             /* context may be more than the model was made for (for vectors) */
    uint64_t kv_bytes;       /* 0: default of the rule, see tsr_exec_plan() */
    enum tsr_weights weights;
    enum tsr_isa isa;
};

/* What a model needs on this machine; every figure in bytes. */
struct tsr_exec_plan {
    uint64_t weights_bytes, kv_bytes, buffer_bytes;
    uint64_t need_bytes;      /* the sum */
    uint64_t available_bytes; /* for these arenas at that moment: tsr_memory_available_for() */
    uint32_t kv_positions;    /* positions that the pool holds */
    uint32_t workers;
    uint32_t context;
    uint32_t embedding_width; /* of a row's hidden state; 0: the program does not name one */
};

/* Consecutive rows of one sequence in a step. */
struct tsr_span {
    struct tsr_kv_seq *kv;  /* must hold `position + rows` positions */
    const uint32_t *tokens; /* [rows] ids < vocab */
    uint32_t rows;          /* >= 1; the sum over a step's spans <= rows_max */
    uint32_t position;      /* of the first row; rows before it are in the cache */
    uint32_t logit_rows;    /* logits are wanted for the last logit_rows rows (0 .. rows) */
    /* Hidden states (behind the last norm) of rows [pool_first, pool_first + pool_rows) are added
     * to pooled [embedding_width], one row after the other: the sum's bytes do not depend on how a
     * sequence is cut into spans. */
    uint32_t pool_first, pool_rows; /* 0: none */
    double *pooled;
};

struct tsr_exec;

/* Fills plan from model and options, allocating nothing. -ENOMEM with need and supply where it
 * cannot fit; -EINVAL. */
int tsr_exec_plan(struct tsr_exec_plan *plan, const struct tsr_model *model,
                  const struct tsr_exec_options *options, struct tsr_err *err);

/* Packs the weights, allocates everything, starts the workers. progress (may be NULL) is called
 * with 0..1 while packing. The model may be closed, or its tensors dropped, afterwards. */
int tsr_exec_create(struct tsr_exec **exec, const struct tsr_model *model,
                    const struct tsr_exec_options *options,
                    void (*progress)(void *ctx, double done), void *ctx, struct tsr_err *err);
void tsr_exec_destroy(struct tsr_exec *exec);

/* Runs one step. Logits of the wanted rows lie, in span order, in tsr_exec_logits(exec, 0 .. n-1)
 * until the next step. The bytes of a row's logits do not depend on what else is in the step or on
 * the number of workers. */
void tsr_exec_step(struct tsr_exec *exec, const struct tsr_span *spans, uint32_t n_spans);
const float *tsr_exec_logits(const struct tsr_exec *exec, uint32_t i); /* [vocab] */

/* Lets the workers sleep at once (they would after their spin); the next step wakes them. */
void tsr_exec_idle(struct tsr_exec *exec);

struct tsr_kv_pool *tsr_exec_kv(struct tsr_exec *exec);
const struct tsr_exec_plan *tsr_exec_planned(const struct tsr_exec *exec);
/* CPU of worker i, or -1 where it is not pinned. */
int tsr_exec_cpu(const struct tsr_exec *exec, uint32_t worker);
enum tsr_pages tsr_exec_pages(const struct tsr_exec *exec);
/* Where the kernel has put weights, buffers and KV cache. Reads /proc: for start-up, not for the
 * token path. */
void tsr_exec_placement(const struct tsr_exec *exec, struct tsr_placement *placement);

/* The best instruction set of this CPU, its name, and a text of several lines that says which
 * kernels were chosen and why. */
enum tsr_isa tsr_exec_isa_best(void);
const char *tsr_isa_name(enum tsr_isa isa);
void tsr_exec_explain(const struct tsr_exec *exec, char *out, size_t size);

#endif
