#include "exec_priv.h"

#include <math.h>
#include <string.h>

/* 1 / the Euclidean length of a row of weights; as torch's normalize(), no length counts as less
 * than 1e-12. */
static float unit_factor(const struct tsr_tensor *t, uint64_t row, float *scratch)
{
    double squares = 0;
    tsr_tensor_row(t, row, scratch);
    for (uint64_t i = 0; i < t->dims[1]; i++) {
        squares += (double)scratch[i] * (double)scratch[i];
    }
    return (float)(1.0 / fmax(sqrt(squares), 1e-12));
}

/* A panel of a tensor whose scales are apart, by its values. */
static void pack_scaled(const struct exec_matrix *m, const struct tsr_weight *w, uint64_t first,
                        uint8_t *panel, float *scratch)
{
    const uint32_t padded = (m->cols + 31) / 32 * 32;
    memset(panel, 0, m->panel_bytes);
    for (uint32_t i = 0; i < TSR_PANEL_ROWS && first + i < w->rows; i++) {
        tsr_tensor_row(w->tensor, tsr_weight_row(w, first + i), scratch);
        memset(scratch + m->cols, 0, (padded - m->cols) * sizeof *scratch);
        tsr_panel_put_row(m->format, scratch, m->cols, i, panel);
    }
}

static void pack_panel(const struct exec_matrix *m, const struct tsr_weight *w, uint32_t panel,
                       float *scratch)
{
    const struct tsr_tensor *t = w->tensor;
    const size_t row_bytes = (size_t)(t->bytes / t->dims[0]);
    const void *rows[TSR_PANEL_ROWS];
    uint8_t *out = m->data + panel * m->panel_bytes;
    for (uint32_t i = 0; i < TSR_PANEL_ROWS; i++) {
        uint64_t r = (uint64_t)panel * TSR_PANEL_ROWS + i;
        bool is_row = r < w->rows;
        rows[i] = is_row ? (const uint8_t *)t->data + tsr_weight_row(w, r) * row_bytes : NULL;
        if (m->unit) {
            m->factor[r] = is_row ? unit_factor(t, tsr_weight_row(w, r), scratch) : 0.0f;
        }
    }
    if (t->scales) {
        pack_scaled(m, w, (uint64_t)panel * TSR_PANEL_ROWS, out, scratch);
    } else {
        tsr_panel_pack(m->format, t->dtype, rows, m->cols, out, scratch);
    }
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
