/* tessera-engine: holds a model and answers through shared memory. Here stands the order of start
 * and end; what is done stands in the files that are called. */
#include <errno.h>
#include <libgen.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <tsr/daemon/harden.h>
#include <tsr/daemon/notify.h>
#include <tsr/daemon/start.h>
#include <tsr/exec/exec.h>
#include <tsr/model/model.h>
#include <tsr/serve/control.h>
#include <tsr/serve/describe.h>
#include <tsr/serve/frontend.h>
#include <tsr/serve/options.h>
#include <tsr/serve/textwork.h>
#include <tsr/shm/bell.h>
#include <tsr/shm/log.h>
#include <tsr/text/sampler.h>
#include <tsr/text/tokenizer.h>

struct engine {
    struct tsr_serve_options options;
    struct tsr_model model;
    bool model_open;
    struct tsr_exec_plan plan;
    struct tsr_tokenizer *tokenizer;
    struct tsr_textwork *text;
    struct tsr_door *door;
    struct tsr_control *control;
    struct tsr_exec *exec;
    struct tsr_frontend *frontend;
    struct tsr_harden_user user;
    struct tsr_notify notify;
    cpu_set_t cpus; /* at start, before any pinning */
    uint64_t start_ns;
    int percent_shown;
};

static void on_progress(void *ctx, double done)
{
    struct engine *engine = ctx;
    if (engine->control) {
        tsr_control_loading(engine->control, done);
    }
    if (!engine->options.quiet) {
        tsr_describe_progress(stderr, done, engine->plan.weights_bytes, &engine->percent_shown);
    }
}

static void exec_step(void *ctx, const struct tsr_span *spans, uint32_t n_spans)
{
    tsr_exec_step(ctx, spans, n_spans);
}

static const float *exec_logits(void *ctx, uint32_t i)
{
    return tsr_exec_logits(ctx, i);
}

static void exec_idle(void *ctx)
{
    tsr_exec_idle(ctx);
}

/* What requests need beside the model: a sampler each, and their prompts. */
static int plan_requests(struct engine *e, struct tsr_err *err)
{
    const struct tsr_serve_options *o = &e->options;
    uint64_t bytes =
        o->prompt_bytes +
        o->sequences_max * (uint64_t)tsr_sampler_seq_bytes(e->model.program.vocab, e->plan.context);
    e->plan.need_bytes += bytes;
    e->plan.buffer_bytes += bytes;
    if (e->plan.need_bytes <= e->plan.available_bytes) {
        return 0;
    }
    return tsr_err_set(
        err, -ENOMEM,
        "%.2f GB are needed, %.2f of them for up to %u requests at once, and %.2f GB "
        "are available; free memory, or lower --sequences, --prompt-bytes or "
        "--kv-bytes",
        (double)e->plan.need_bytes / 1e9, (double)bytes / 1e9, o->sequences_max,
        (double)e->plan.available_bytes / 1e9);
}

static int open_model(struct engine *e, struct tsr_err *err)
{
    int rc = tsr_model_open(&e->model, e->options.model, err);
    if (rc < 0) {
        return rc;
    }
    e->model_open = true;
    if (e->options.name) {
        static_assert(sizeof e->model.name > TSR_SERVE_NAME_MAX, "names fit");
        strcpy(e->model.name, e->options.name);
    }
    rc = tsr_exec_plan(&e->plan, &e->model, &e->options.exec, err);
    rc = rc ? rc : plan_requests(e, err);
    if (rc < 0) {
        return rc;
    }
    if (!e->options.quiet) {
        tsr_describe_plan(stderr, &e->model, &e->options, &e->plan);
    }
    rc = tsr_tokenizer_open(&e->tokenizer, e->options.model, e->model.gguf, err);
    if (rc < 0) {
        return rc;
    }
    const char *own = e->options.chat_template;
    rc = own ? tsr_tokenizer_read_chat_template(e->tokenizer, own, err) : 0;
    rc = rc ? rc
            : tsr_textwork_create(&e->text, e->tokenizer, e->model.program.vocab,
                                  (size_t)e->options.payload_bytes_max, err);
    if (rc == 0 && own && !e->text->tmpl) {
        rc = tsr_err_set(err, -EINVAL, "--chat-template %s cannot be used; see above", own);
    }
    return rc;
}

/* Opens the door while there is still the right to, and makes sure that its folder can be tidied
 * later. */
static int open_door(struct engine *e, struct tsr_err *err)
{
    char copy[512];
    snprintf(copy, sizeof copy, "%s", e->options.socket);
    const char *dir = dirname(copy);
    bool ours = access(dir, F_OK) < 0;
    int rc = tsr_door_open(&e->door, e->options.socket, &e->options.policy, err);
    if (rc == 0 && ours && geteuid() == 0 && chown(dir, e->user.uid, (gid_t)-1) < 0) {
        tsr_log(TSR_LOG_WARN, "%s: cannot be given to user %s: %s", dir, e->user.name,
                strerror(errno));
    }
    return rc;
}

/* Descriptors for every channel (a socket and two regions), and locked memory where there is a
 * right to it. */
static void raise_limits(const struct engine *e)
{
    struct rlimit files;
    rlim_t want = 3ull * e->options.policy.channels_max + 256;
    if (getrlimit(RLIMIT_NOFILE, &files) == 0 && files.rlim_cur < want) {
        files.rlim_cur = files.rlim_max < want && geteuid() != 0 ? files.rlim_max : want;
        files.rlim_max = files.rlim_max < files.rlim_cur ? files.rlim_cur : files.rlim_max;
        setrlimit(RLIMIT_NOFILE, &files);
    }
    const struct rlimit unlimited = {RLIM_INFINITY, RLIM_INFINITY};
    setrlimit(RLIMIT_MEMLOCK, &unlimited);
}

static int give_up_rights(struct engine *e, struct tsr_err *err)
{
    char notes[256] = "";
    char dir[512];
    raise_limits(e);
    if (geteuid() == 0 && e->user.uid == 0) {
        tsr_log(TSR_LOG_WARN, "the engine stays root, as --user says");
    }
    int rc = tsr_harden_identity(&e->user, err);
    if (rc < 0 || e->options.no_sandbox) {
        return rc;
    }
    snprintf(dir, sizeof dir, "%s", e->options.socket);
    const struct tsr_harden_files files = {
        .read = {e->options.model, "/proc", "/sys"},
        .socket_dir = dirname(dir),
    };
    rc = tsr_harden_files(&files, notes, sizeof notes, err);
    if (rc == 0 && notes[0]) {
        tsr_log(TSR_LOG_WARN, "%s", notes);
    }
    return rc;
}

static int make_frontend(struct engine *e, struct tsr_err *err)
{
    const struct tsr_serve_options *o = &e->options;
    const struct tsr_exec_plan *plan = tsr_exec_planned(e->exec);
    struct tsr_sched_kv kv = tsr_sched_kv_pool(tsr_exec_kv(e->exec));
    uint32_t positions = kv.pages_total * TSR_KV_PAGE_POSITIONS;
    struct tsr_frontend_options options = {
        .sched = {.sequences_max = o->sequences_max,
                  .queue_max = o->queue_max,
                  .rows_max = o->exec.rows_max,
                  .chunk_rows = o->chunk_rows,
                  .logit_rows_max = o->exec.logit_rows_max,
                  .context = plan->context,
                  .park_ns = o->park_seconds * 1000000000ull,
                  .age_ns = TSR_SCHED_AGE_MS * 1000000ull},
        .positions_max = positions < plan->context ? positions : plan->context,
        .logits_vocab = e->model.program.vocab,
        .channels_max = o->policy.channels_max,
        .tokens_default = o->tokens_default,
        .seconds_max = o->seconds_max,
        .payload_bytes_max = o->payload_bytes_max,
        .prompt_bytes = o->prompt_bytes,
        .embedding_width = e->model.pooling == TSR_POOLING_NONE ? 0 : plan->embedding_width,
        .no_embeddings = e->model.pooling_refusal,
        .pooling = e->model.pooling,
        .chat = e->text->tmpl != NULL,
        .spin = o->exec.spin,
        .spin_us = o->spin_us,
    };
    if (getrandom(&options.seed, sizeof options.seed, 0) != sizeof options.seed) {
        return tsr_err_set(err, -errno, "no random numbers from the system");
    }
    const struct tsr_frontend_exec exec = {e->exec, exec_step, exec_logits, exec_idle};
    int rc = tsr_frontend_create(&e->frontend, &options, &exec, &kv,
                                 tsr_tokenizer_vocab(e->tokenizer), err);
    if (rc == 0) {
        tsr_describe_plate(&e->frontend->plate, &e->model, o, e->exec,
                           tsr_clock_ns() - e->start_ns);
    }
    return rc;
}

/* Where there are other CPUs, the workers' have no place for the engine's other threads: every
 * barrier would wait for them. (A thread is born with the affinity of the one that makes it, and
 * main is worker 0.) */
static void keep_off(const struct engine *e, pthread_t thread)
{
    cpu_set_t left = e->cpus;
    for (uint32_t i = 0; i < tsr_exec_planned(e->exec)->workers; i++) {
        int cpu = tsr_exec_cpu(e->exec, i);
        if (cpu >= 0) {
            CPU_CLR((size_t)cpu, &left);
        }
    }
    pthread_setaffinity_np(thread, sizeof left, CPU_COUNT(&left) > 0 ? &left : &e->cpus);
}

/* The door accepts, makes regions, and at the end removes its socket where that is still ours. */
static const char *const engine_calls[] = {
    "accept4", "memfd_create", "ftruncate", "fallocate", "unlink", "newfstatat", NULL,
};

static int serve(struct engine *e, struct tsr_err *err)
{
    char notes[256] = "";
    struct tsr_wire_hello hello;
    int rc = make_frontend(e, err);
    rc = rc ? rc : tsr_textwork_start(e->text, e->frontend, err);
    if (rc < 0) {
        return rc;
    }
    keep_off(e, e->text->thread);
    keep_off(e, e->control->thread);
    if (!e->options.no_sandbox) {
        rc = tsr_harden_calls(engine_calls, notes, sizeof notes, err);
        if (rc < 0) {
            return rc;
        }
        if (notes[0]) {
            tsr_log(TSR_LOG_WARN, "%s", notes);
        }
    }
    tsr_describe_hello(&hello, &e->model, &e->options, e->exec, &e->frontend->options,
                       e->text->tmpl);
    tsr_control_ready(e->control, e->frontend, &hello);
    tsr_notify_say(&e->notify, "READY=1\nSTATUS=%.64s at %s", hello.model, e->options.socket);
    if (write(STDOUT_FILENO, "ready\n", 6) != 6) {
        tsr_log(TSR_LOG_WARN, "nobody reads stdout");
    }
    tsr_frontend_run(e->frontend);
    return 0;
}

static int run(struct engine *e, struct tsr_err *err)
{
    const bool serves = e->options.action == TSR_SERVE_RUN;
    int signals = serves ? tsr_start_signals(0, err) : 0;
    int rc = signals < 0 ? signals : 0;
    rc = rc || !serves ? rc : tsr_notify_open(&e->notify, err);
    rc = rc ? rc : tsr_harden_find_user(&e->user, e->options.user, err);
    rc = rc ? rc : open_model(e, err);
    if (rc < 0 || e->options.action == TSR_SERVE_CHECK) {
        return rc;
    }
    if (serves) {
        tsr_notify_say(&e->notify, "STATUS=loading the model");
        rc = open_door(e, err);
        rc = rc ? rc : give_up_rights(e, err);
        rc = rc ? rc
                : tsr_control_create(&e->control, e->door, e->options.policy.channels_max, signals,
                                     &e->notify, err);
        rc = rc ? rc : tsr_control_start(e->control, err);
    }
    rc = rc ? rc : tsr_exec_create(&e->exec, &e->model, &e->options.exec, on_progress, e, err);
    if (rc < 0) {
        return rc;
    }
    tsr_model_drop_tensors(&e->model);
    if (e->options.action == TSR_SERVE_EXPLAIN) {
        static char text[8192];
        tsr_exec_explain(e->exec, text, sizeof text);
        printf("%s%s\n", text, tsr_tokenizer_describe(e->tokenizer));
        return 0;
    }
    return serve(e, err);
}

static void end(struct engine *e)
{
    if (e->control) {
        tsr_control_ask_stop(e->control);
        tsr_control_join(e->control);
    }
    tsr_textwork_destroy(e->text);
    tsr_frontend_destroy(e->frontend);
    tsr_control_destroy(e->control);
    tsr_door_destroy(e->door, "the engine is shutting down");
    tsr_notify_close(&e->notify);
    if (e->exec) {
        tsr_exec_destroy(e->exec);
    }
    if (e->tokenizer) {
        tsr_tokenizer_close(e->tokenizer);
    }
    if (e->model_open) {
        tsr_model_close(&e->model);
    }
}

int main(int argc, char **argv)
{
    static struct engine engine = {.notify.fd = -1};
    struct tsr_err err = {0};
    tsr_start_standard();
    engine.start_ns = tsr_clock_ns();
    sched_getaffinity(0, sizeof engine.cpus, &engine.cpus);
    int rc = tsr_serve_options_parse(&engine.options, argc, argv, &err);
    if (rc < 0) {
        fprintf(stderr, "tessera-engine: %s\n", err.text);
        return 2;
    }
    if (engine.options.action == TSR_SERVE_HELP) {
        tsr_daemon_config_help(&engine.options.config, stdout);
        return 0;
    }
    if (engine.options.action == TSR_SERVE_VERSION) {
        printf("tessera-engine " TSR_VERSION "\n");
        return 0;
    }
    rc = run(&engine, &err);
    end(&engine);
    if (rc < 0) {
        fprintf(stderr, "tessera-engine: %s\n", err.text);
        return 1;
    }
    return 0;
}
