#include <tsr/serve/describe.h>

#include <string.h>
#include <unistd.h>

#include <tsr/kernels/dtype.h>

void tsr_describe_bytes(char *out, size_t size, uint64_t bytes)
{
    const char *const units[] = {"B", "kB", "MB", "GB", "TB", "PB"};
    double value = (double)bytes;
    size_t unit = 0;
    while (value >= 1000 && unit + 1 < sizeof units / sizeof *units) {
        value /= 1000;
        unit++;
    }
    snprintf(out, size, unit && value < 100 ? "%.1f %s" : "%.0f %s", value, units[unit]);
}

const char *tsr_describe_weights(const struct tsr_model *model, enum tsr_weights weights)
{
    const char *const chosen[] = {NULL, "f32", "bf16", "f16", "int8"};
    uint64_t elements[TSR_DTYPE_COUNT] = {0};
    int most = TSR_DTYPE_F32;
    if (chosen[weights]) {
        return chosen[weights];
    }
    for (uint32_t i = 0; i < model->program.n_weights; i++) {
        const struct tsr_weight *weight = &model->program.weights[i];
        elements[weight->tensor->dtype] += weight->rows * weight->cols;
    }
    for (int i = 0; i < TSR_DTYPE_COUNT; i++) {
        most = elements[i] > elements[most] ? i : most;
    }
    return most == TSR_DTYPE_F32 ? "bf16" : tsr_dtype_info((enum tsr_dtype)most)->name;
}

void tsr_describe_plan(FILE *out, const struct tsr_model *model,
                       const struct tsr_serve_options *options, const struct tsr_exec_plan *plan)
{
    char file[24], weights[24], kv[24], buffers[24], need[24], have[24];
    tsr_describe_bytes(file, sizeof file, model->file_bytes);
    tsr_describe_bytes(weights, sizeof weights, plan->weights_bytes);
    tsr_describe_bytes(kv, sizeof kv, plan->kv_bytes);
    tsr_describe_bytes(buffers, sizeof buffers, plan->buffer_bytes);
    tsr_describe_bytes(need, sizeof need, plan->need_bytes);
    tsr_describe_bytes(have, sizeof have, plan->available_bytes);
    fprintf(out, "model    %s: %s, %.0f M parameters, %s\n", model->name,
            model->program.architecture, (double)model->program.parameters / 1e6, file);
    fprintf(out, "weights  %s as %s\n", weights,
            tsr_describe_weights(model, options->exec.weights));
    fprintf(out, "KV       %s for %u positions; a sequence has up to %u\n", kv, plan->kv_positions,
            plan->context);
    fprintf(out, "memory   %s needed (%s of it buffers), %s available\n", need, buffers, have);
    fprintf(out, "workers  %u, %s\n", plan->workers,
            options->exec.spin ? "spinning: the CPUs are the engine's own"
                               : "shared: they sleep when there is nothing to do");
}

void tsr_describe_progress(FILE *out, double done, uint64_t bytes, int *shown)
{
    int percent = (int)(done * 100);
    bool terminal = isatty(fileno(out));
    if (percent < *shown + (terminal ? 1 : 10) && percent < 100) {
        return;
    }
    if (*shown >= 100) {
        return;
    }
    *shown = terminal ? percent : percent / 10 * 10;
    char packed[24], all[24];
    tsr_describe_bytes(packed, sizeof packed, (uint64_t)(done * (double)bytes));
    tsr_describe_bytes(all, sizeof all, bytes);
    if (!terminal) {
        fprintf(out, "loading  %d %% (%s of %s)\n", percent, packed, all);
        return;
    }
    char bar[41];
    memset(bar, ' ', sizeof bar - 1);
    memset(bar, '#', (size_t)(percent * 40 / 100));
    bar[sizeof bar - 1] = '\0';
    fprintf(out, "\rloading  [%s] %3d %% %s of %s ", bar, percent, packed, all);
    if (percent >= 100) {
        fputc('\n', out);
    }
    fflush(out);
}

static void copy(char *out, size_t size, const char *text)
{
    memset(out, 0, size);
    size_t len = strnlen(text, size - 1);
    memcpy(out, text, len);
}

void tsr_describe_hello(struct tsr_wire_hello *hello, const struct tsr_model *model,
                        const struct tsr_serve_options *options, const struct tsr_exec *exec,
                        const struct tsr_frontend_options *frontend,
                        const struct tsr_template *tmpl)
{
    const struct tsr_exec_plan *plan = tsr_exec_planned(exec);
    const struct tsr_template_traits none = {0};
    const struct tsr_template_traits *traits = tmpl ? tsr_template_traits(tmpl) : &none;
    *hello = (struct tsr_wire_hello){
        .version = TSR_WIRE_VERSION,
        .flags = (frontend->chat ? TSR_HELLO_CHAT : 0u) |
                 (options->exec.spin ? TSR_HELLO_DEDICATED : 0u) |
                 (traits->tools ? TSR_HELLO_TOOLS : 0u) |
                 (traits->reasoning ? TSR_HELLO_REASONING : 0u) |
                 (model->sampling.stated ? TSR_HELLO_SAMPLING : 0u),
        .context_tokens = plan->context,
        .request_tokens_max = frontend->positions_max,
        .sequences_max = frontend->sched.sequences_max,
        .queue_max = frontend->sched.queue_max,
        .payload_bytes_max = (uint32_t)frontend->payload_bytes_max,
        .record_bytes_max = TSR_WIRE_RECORD_BYTES_MAX,
        .vocabulary = model->program.vocab,
        .park_seconds = options->park_seconds,
        .tokens_max_default = options->tokens_default,
        .top_logprobs_max = TSR_SAMPLING_TOP_MAX,
        .weights_bytes = plan->weights_bytes,
        .parameters = model->program.parameters,
        .embedding_width = frontend->embedding_width,
        .pooling = frontend->embedding_width ? (uint8_t)frontend->pooling : TSR_POOLING_NONE,
        .tools = (uint8_t)traits->calls,
        .temperature = (float)model->sampling.temperature,
        .top_p = (float)model->sampling.top_p,
        .min_p = (float)model->sampling.min_p,
        .repetition_penalty = (float)model->sampling.repetition_penalty,
        .top_k = model->sampling.top_k,
    };
    bool pinned = false;
    for (uint32_t i = 0; i < plan->workers; i++) {
        int cpu = tsr_exec_cpu(exec, i);
        if (cpu >= 0 && cpu < TSR_WIRE_CPUS_MAX) {
            hello->engine_cpus[cpu / 64] |= 1ull << (cpu % 64);
            pinned = true;
        }
    }
    if (!pinned) { /* the workers may be anywhere: nobody should poll */
        memset(hello->engine_cpus, 0xff, sizeof hello->engine_cpus);
    }
    copy(hello->model, sizeof hello->model, model->name);
    copy(hello->architecture, sizeof hello->architecture, model->program.architecture);
    copy(hello->weights, sizeof hello->weights, tsr_describe_weights(model, options->exec.weights));
    copy(hello->engine, sizeof hello->engine, TSR_VERSION);
}

static void add_thread(struct tsr_status_plate *plate, const char *name, int cpu)
{
    if (plate->n_threads == TSR_WIRE_STATUS_THREADS_MAX) {
        return;
    }
    struct tsr_wire_status_thread *thread = &plate->threads[plate->n_threads++];
    *thread = (struct tsr_wire_status_thread){.cpu = cpu, .node = 0};
    copy(thread->name, sizeof thread->name, name);
}

void tsr_describe_plate(struct tsr_status_plate *plate, const struct tsr_model *model,
                        const struct tsr_serve_options *options, const struct tsr_exec *exec,
                        uint64_t load_ns)
{
    const struct tsr_exec_plan *plan = tsr_exec_planned(exec);
    enum tsr_isa isa = options->exec.isa == TSR_ISA_BEST ? tsr_exec_isa_best() : options->exec.isa;
    char name[32];

    plate->load_ns = load_ns;
    plate->weights_bytes = plan->weights_bytes;
    plate->kv_bytes = plan->kv_bytes;
    copy(plate->model, sizeof plate->model, model->name);
    copy(plate->architecture, sizeof plate->architecture, model->program.architecture);
    copy(plate->weights, sizeof plate->weights, tsr_describe_weights(model, options->exec.weights));
    copy(plate->kernels, sizeof plate->kernels,
         options->exec.weights == TSR_WEIGHTS_REF ? "ref" : tsr_isa_name(isa));

    static struct tsr_placement placement; /* what is really there, not what was asked for */
    tsr_exec_placement(exec, &placement);
    plate->n_nodes = 0;
    for (uint32_t n = 0; n < TSR_PLACEMENT_NODES_MAX && plate->n_nodes < TSR_WIRE_STATUS_NODES_MAX;
         n++) {
        const uint64_t *bytes = placement.bytes[n];
        if (placement.bytes_by_node[n]) {
            plate->nodes[plate->n_nodes++] = (struct tsr_wire_status_node){
                .node = n,
                .bytes_1g = bytes[TSR_PAGES_1G],
                .bytes_2m = bytes[TSR_PAGES_2M],
                .bytes_thp = bytes[TSR_PAGES_THP],
                .bytes_4k = bytes[TSR_PAGES_PLAIN],
            };
        }
    }
    if (plate->n_nodes == 0) { /* the kernel does not tell where: all of it, on what was obtained */
        uint64_t bytes[TSR_PAGES_COUNT] = {0};
        bytes[tsr_exec_pages(exec)] = plan->weights_bytes + plan->kv_bytes + plan->buffer_bytes;
        plate->n_nodes = 1;
        plate->nodes[0] = (struct tsr_wire_status_node){
            .bytes_1g = bytes[TSR_PAGES_1G],
            .bytes_2m = bytes[TSR_PAGES_2M],
            .bytes_thp = bytes[TSR_PAGES_THP],
            .bytes_4k = bytes[TSR_PAGES_PLAIN],
        };
    }
    plate->n_threads = 0;
    for (uint32_t i = 0; i < plan->workers; i++) {
        snprintf(name, sizeof name, "worker %u", i);
        add_thread(plate, name, tsr_exec_cpu(exec, i));
    }
    add_thread(plate, "control", -1);
    add_thread(plate, "text", -1);
}
