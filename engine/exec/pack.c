#include "exec_priv.h"

#include <math.h>
#include <string.h>

/* 1 / the Euclidean length of a row of `cols` weights; as torch's normalize(), no length counts as
 * less than 1e-12. */
static float unit_factor(enum tsr_dtype dtype, const void *row, uint32_t cols, float *scratch)
{
    double squares = 0;
    tsr_dtype_to_f32(dtype, row, scratch, cols);
    for (uint32_t i = 0; i < cols; i++) {
        squares += (double)scratch[i] * (double)scratch[i];
    }
    return (float)(1.0 / fmax(sqrt(squares), 1e-12));
}

static void pack_panel(const struct exec_matrix *m, const struct tsr_weight *w, uint32_t panel,
                       float *scratch)
{
    const struct tsr_dtype_info *info = tsr_dtype_info(w->tensor->dtype);
    size_t row_bytes = (size_t)(w->cols / info->block) * info->block_bytes;
    const void *rows[TSR_PANEL_ROWS];
    for (uint32_t i = 0; i < TSR_PANEL_ROWS; i++) {
        uint64_t r = (uint64_t)panel * TSR_PANEL_ROWS + i;
        rows[i] = r < w->rows ? (const uint8_t *)w->tensor->data + tsr_weight_row(w, r) * row_bytes
                              : NULL;
        if (m->unit) {
            m->factor[r] =
                rows[i] ? unit_factor(w->tensor->dtype, rows[i], m->cols, scratch) : 0.0f;
        }
    }
    tsr_panel_pack(m->format, w->tensor->dtype, rows, m->cols, m->data + panel * m->panel_bytes,
                   scratch);
}

struct job {
    struct tsr_exec *exec;
    const struct tsr_program *program;
    uint64_t total;
};

static void pack_some(void *arg, uint32_t worker)
{
    struct job *job = arg;
    struct tsr_exec *exec = job->exec;
    float *scratch = exec->workers[worker].acts.f; /* at least one row of the widest matrix */
    uint32_t matrix = 0;
    uint64_t before = 0; /* panels of the matrices before `matrix` */
    for (;;) {
        uint64_t at = atomic_fetch_add_explicit(&exec->packed, 8, memory_order_relaxed);
        if (at >= job->total) {
            return;
        }
        for (uint64_t i = at; i < at + 8 && i < job->total; i++) {
            while (i - before >= exec->matrices[matrix].panels) {
                before += exec->matrices[matrix++].panels;
            }
            pack_panel(&exec->matrices[matrix], &job->program->weights[matrix],
                       (uint32_t)(i - before), scratch);
        }
        if (worker == 0 && exec->progress) {
            exec->progress(exec->progress_ctx, (double)at / (double)job->total);
        }
    }
}

void tsr_exec_pack(struct tsr_exec *exec, const struct tsr_program *program)
{
    struct job job = {.exec = exec, .program = program};
    for (uint32_t i = 0; i < program->n_weights; i++) {
        struct exec_matrix *m = &exec->matrices[i];
        job.total += m->panels;
        m->data = tsr_arena_alloc(&exec->weights, m->panels * m->panel_bytes, 64);
        if (m->unit) {
            m->factor =
                tsr_arena_alloc(&exec->weights, m->panels * TSR_PANEL_ROWS * sizeof *m->factor, 64);
        }
    }
    atomic_store_explicit(&exec->packed, 0, memory_order_relaxed);
    tsr_team_run(exec->team, pack_some, &job);
    if (exec->progress) {
        exec->progress(exec->progress_ctx, 1.0);
    }
}
