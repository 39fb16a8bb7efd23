/* What a model needs on this machine, known before an arena is taken. */
#include "exec_priv.h"

#include <errno.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>

#include <tsr/memory/cgroup.h>

enum { ROWS_DEFAULT = 512, LOGIT_ROWS_DEFAULT = 64, KV_CONTEXTS = 16, KV_CONTEXT_MAX = 8192 };

static uint32_t allowed_cpus(uint32_t *cpus, uint32_t max)
{
    cpu_set_t set;
    uint32_t n = 0;
    if (sched_getaffinity(0, sizeof set, &set) == 0) {
        for (uint32_t i = 0; i < CPU_SETSIZE && n < max; i++) {
            if (CPU_ISSET(i, &set)) {
                cpus[n++] = i;
            }
        }
    }
    return n;
}

/* One a CPU, but no more than the control group gives time for: a worker more, and in every period
 * all would stand at a barrier until the next. */
static uint32_t default_workers(uint32_t allowed)
{
    double cpus = tsr_cgroup_cpus("");
    return cpus >= allowed ? allowed : cpus < 1 ? 1 : (uint32_t)cpus;
}

static int choose_workers(struct tsr_exec *exec, struct tsr_err *err)
{
    uint32_t allowed = allowed_cpus(exec->cpus, TSR_EXEC_WORKERS_MAX);
    uint32_t n = exec->options.workers ? exec->options.workers : default_workers(allowed);
    if (n == 0 || n > TSR_EXEC_WORKERS_MAX) {
        return tsr_err_set(err, -EINVAL, "%u worker threads; 1 to %d are possible", n,
                           TSR_EXEC_WORKERS_MAX);
    }
    for (uint32_t i = 0; exec->options.cpus && i < n; i++) {
        bool may = false;
        for (uint32_t j = 0; j < allowed; j++) {
            may |= exec->cpus[j] == exec->options.cpus[i];
        }
        if (!may) {
            return tsr_err_set(err, -EINVAL,
                               "CPU %u is not one that this process may use (taskset -p, the "
                               "cgroup's cpuset)",
                               exec->options.cpus[i]);
        }
    }
    if (exec->options.cpus) {
        memcpy(exec->cpus, exec->options.cpus, n * sizeof *exec->cpus);
    } else if (exec->options.pin && n > allowed) {
        return tsr_err_set(
            err, -EINVAL,
            "%u worker threads cannot be pinned to the %u CPUs that this process may use; "
            "use --threads %u",
            n, allowed, allowed);
    }
    exec->plan.workers = n;
    return 0;
}

static uint64_t up64(uint64_t bytes)
{
    return (bytes + 63) / 64 * 64;
}

uint64_t tsr_exec_scratch_bytes(void)
{
    return TSR_ATTEND_QUERIES_MAX * (64 + EXEC_HEAD_DIM_MAX) * sizeof(float);
}

uint64_t tsr_exec_out_bytes(const struct tsr_exec *exec)
{
    uint64_t rows =
        exec->options.rows_max > EXEC_BATCH_PANELS ? exec->options.rows_max : EXEC_BATCH_PANELS;
    return rows * 2 * TSR_PANEL_ROWS * sizeof(float);
}

uint32_t tsr_exec_buffer_rows(const struct tsr_exec *exec, uint32_t buffer)
{
    return tsr_exec_buffer_is_logits(&exec->program, buffer) ? exec->options.logit_rows_max
                                                             : exec->options.rows_max;
}

static uint64_t buffer_bytes(const struct tsr_exec *exec)
{
    uint32_t cols = tsr_exec_cols_max(exec);
    uint64_t bytes = tsr_acts_bytes(exec->options.rows_max, cols);
    for (uint32_t i = 0; i < exec->program.n_buffers; i++) {
        bytes += (uint64_t)tsr_exec_buffer_rows(exec, i) * exec->stride[i] * sizeof(float);
    }
    for (uint32_t i = 0; i < exec->program.n_ropes; i++) {
        bytes += 2 * up64((uint64_t)exec->options.rows_max * (exec->program.ropes[i].dims / 2) *
                          sizeof(float));
    }
    bytes += exec->plan.workers * (tsr_acts_bytes(EXEC_PRIVATE_ROWS, cols) +
                                   tsr_exec_out_bytes(exec) + tsr_exec_scratch_bytes());
    return bytes;
}

int tsr_exec_make_plan(struct tsr_exec *exec, const struct tsr_model *model,
                       const struct tsr_exec_options *options, struct tsr_err *err)
{
    const struct tsr_program *program = &model->program;
    exec->options = *options;
    if (!exec->options.rows_max) {
        exec->options.rows_max = ROWS_DEFAULT;
    }
    if (!exec->options.logit_rows_max) {
        exec->options.logit_rows_max = LOGIT_ROWS_DEFAULT;
    }
    if (exec->options.weights == TSR_WEIGHTS_REF) {
        exec->options.isa = TSR_ISA_REF;
    }
    exec->kernels = tsr_kernels_select(exec->options.isa);
    if (!exec->kernels) {
        return tsr_err_set(err, -ENOTSUP, "this CPU does not have %s; the best it has is %s",
                           tsr_isa_name(exec->options.isa), tsr_isa_name(tsr_exec_isa_best()));
    }
    int rc = choose_workers(exec, err);
    if (rc < 0) {
        return rc;
    }
    struct tsr_exec_plan *p = &exec->plan;
    p->context = program->context;
    if (exec->options.context && (exec->options.context < p->context || exec->options.beyond)) {
        p->context = exec->options.context;
    }
    rc = tsr_exec_compile(exec, program, err);
    if (rc < 0) {
        return rc;
    }
    for (uint32_t i = 0; i < program->n_buffers; i++) {
        exec->stride[i] = (program->buffer_width[i] + 15) / 16 * 16;
    }
    p->weights_bytes = tsr_exec_weight_bytes(exec);
    p->buffer_bytes = buffer_bytes(exec);
    p->available_bytes = tsr_memory_available();
    struct tsr_kv_shape shape = {program->layers, program->kv_heads, program->head_dim,
                                 exec->kernels->kv_bytes};
    uint64_t page = tsr_kv_page_bytes(&shape);
    p->kv_bytes = exec->options.kv_bytes;
    if (!p->kv_bytes) { /* the lesser of a quarter of what is free and 16 contexts */
        uint64_t context = p->context < KV_CONTEXT_MAX ? p->context : KV_CONTEXT_MAX;
        uint64_t pages = (context + TSR_KV_PAGE_POSITIONS - 1) / TSR_KV_PAGE_POSITIONS;
        p->kv_bytes = KV_CONTEXTS * pages * page;
        uint64_t rest =
            p->available_bytes > p->weights_bytes ? p->available_bytes - p->weights_bytes : 0;
        if (p->kv_bytes > rest / 4) {
            p->kv_bytes = rest / 4;
        }
    }
    p->kv_bytes = p->kv_bytes / page * page;
    const struct tsr_memory_need arenas[] = {{p->weights_bytes, TSR_PAGES_1G},
                                             {p->buffer_bytes, TSR_PAGES_2M},
                                             {p->kv_bytes, TSR_PAGES_1G}};
    p->available_bytes = tsr_memory_available_for(arenas, sizeof arenas / sizeof *arenas);
    p->kv_positions = (uint32_t)(p->kv_bytes / page * TSR_KV_PAGE_POSITIONS);
    p->need_bytes = p->weights_bytes + p->kv_bytes + p->buffer_bytes;
    if (p->need_bytes > p->available_bytes || p->kv_bytes == 0) {
        return tsr_err_set(err, -ENOMEM,
                           "the model needs %.2f GB (weights %.2f, KV cache %.2f, buffers %.2f), "
                           "%.2f GB are available; free "
                           "memory, or lower --kv-bytes, --context or --rows",
                           (double)p->need_bytes / 1e9, (double)p->weights_bytes / 1e9,
                           (double)p->kv_bytes / 1e9, (double)p->buffer_bytes / 1e9,
                           (double)p->available_bytes / 1e9);
    }
    return 0;
}

void tsr_exec_release(struct tsr_exec *exec)
{
    for (uint32_t i = 0; exec->ops && i < exec->n_ops; i++) {
        free(exec->ops[i].split);
        free(exec->ops[i].turns);
        free(exec->ops[i].next);
    }
    free(exec->ops);
    free(exec->matrices);
}

int tsr_exec_plan(struct tsr_exec_plan *out, const struct tsr_model *model,
                  const struct tsr_exec_options *options, struct tsr_err *err)
{
    struct tsr_exec *exec = calloc(1, sizeof *exec);
    if (!exec) {
        return tsr_err_set(err, -ENOMEM, "no memory to plan with");
    }
    int rc = tsr_exec_make_plan(exec, model, options, err);
    *out = exec->plan;
    tsr_exec_release(exec);
    free(exec);
    return rc;
}
