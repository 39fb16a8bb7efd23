/* What the way through the engine costs, apart from the model: placement *apart* of the project's
 * measures, with the engine on CPU 0 and the client polling on CPU 1.
 *
 * Two processes (the engine with the small committed model, this as its client): from submit to
 * pick-up, to the ACCEPTED event in the client's hands, and from a token's publication stamp to the
 * client's eyes. One process (the frontend with a step that costs nothing): what scheduling,
 * sampling, text and the ring take for a token, beside what sampling alone takes on the same row.
 * Everything beside L, one cache line back and forth in the same run. */
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <tessera.h>
#include <tsr/serve/frontend.h>
#include <tsr/shm/bell.h>
#include <tsr/shm/door.h>
#include <tsr/shm/link.h>
#include <tsr/text/tokenizer.h>

enum { SAMPLES_MAX = 200000, STREAMS_MAX = 8 };

static bool quick;
static char model[512], engine_path[512], dir[] = "/tmp/tessera-bench-XXXXXX", socket_path[96];

static void die(const char *what, const char *why)
{
    fprintf(stderr, "bench_channel: %s: %s\n", what, why);
    exit(1);
}

static void pin(int cpu)
{
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET((size_t)cpu, &set);
    if (sched_setaffinity(0, sizeof set, &set) < 0) {
        die("CPU", strerror(errno));
    }
}

static int by_value(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

struct samples {
    uint32_t n;
    uint64_t ns[SAMPLES_MAX];
};

static void add(struct samples *s, uint64_t ns)
{
    if (s->n < SAMPLES_MAX) {
        s->ns[s->n++] = ns;
    }
}

static void print(const char *name, struct samples *s, const char *limit)
{
    if (s->n == 0) {
        printf("%-44s nothing measured\n", name);
        return;
    }
    qsort(s->ns, s->n, sizeof s->ns[0], by_value);
    printf("%-44s n %6u  p50 %8.2f  p99 %8.2f  p99.9 %8.2f us%s%s\n", name, s->n,
           (double)s->ns[s->n / 2] / 1e3, (double)s->ns[(uint64_t)s->n * 99 / 100] / 1e3,
           (double)s->ns[(uint64_t)s->n * 999 / 1000] / 1e3, limit[0] ? "  to reach: " : "", limit);
    s->n = 0;
}

static double median_us(struct samples *s)
{
    qsort(s->ns, s->n, sizeof s->ns[0], by_value);
    double us = s->n ? (double)s->ns[s->n / 2] / 1e3 : 0;
    s->n = 0;
    return us;
}

/* ---- L: a cache line back and forth ---- */

static _Alignas(64) atomic_uint line;

static void *bounce_back(void *ctx)
{
    uint32_t rounds = *(uint32_t *)ctx;
    pin(1);
    for (uint32_t i = 0; i < rounds; i++) {
        while (atomic_load_explicit(&line, memory_order_acquire) != 2 * i + 1) {
        }
        atomic_store_explicit(&line, 2 * i + 2, memory_order_release);
    }
    return NULL;
}

static double bounce_ns(void)
{
    uint32_t rounds = quick ? 20000 : 1000000;
    pthread_t thread;
    atomic_store(&line, 0);
    pin(0);
    pthread_create(&thread, NULL, bounce_back, &rounds);
    uint64_t start = 0;
    for (uint32_t i = 0; i < rounds; i++) {
        atomic_store_explicit(&line, 2 * i + 1, memory_order_release);
        while (atomic_load_explicit(&line, memory_order_acquire) != 2 * i + 2) {
        }
        start = i == rounds / 10 ? tsr_clock_ns() : start;
    }
    uint64_t ns = tsr_clock_ns() - start;
    pthread_join(thread, NULL);
    return (double)ns / (rounds - rounds / 10.0);
}

/* ---- Two processes ---- */

static pid_t start_engine(void)
{
    int out[2];
    char line_read[6] = "";
    if (pipe(out) < 0) {
        die("pipe", strerror(errno));
    }
    pid_t pid = fork();
    if (pid == 0) {
        dup2(out[1], STDOUT_FILENO);
        execl(engine_path, engine_path, "--model", model, "--socket", socket_path, "--quiet",
              "--kv-bytes", "64M", "--spin", "--cpus", "0", (char *)NULL);
        _exit(126);
    }
    close(out[1]);
    if (read(out[0], line_read, sizeof line_read) != 6 || memcmp(line_read, "ready\n", 6) != 0) {
        die(engine_path, "did not get ready");
    }
    close(out[0]);
    return pid;
}

static void two_processes(void)
{
    static struct samples call, pick_up, admitted, accepted, seen, between;
    struct tessera *t = NULL;
    struct tessera_error err;
    struct tessera_event event;
    struct tessera_connect_options how;
    struct tessera_options options;
    uint32_t prompt[16];
    pid_t pid = start_engine();

    pin(1);
    tessera_connect_options_init(&how);
    how.wait_mode = TESSERA_WAIT_POLL;
    if (tessera_connect(&t, socket_path, &how, &err) < 0) {
        die("connect", err.text);
    }
    tessera_options_init(&options);
    options.tokens_max = 16;
    options.ignore_end = 1;
    for (uint32_t i = 0; i < 16; i++) {
        prompt[i] = 100 + 37 * i;
    }
    for (uint32_t round = 0; round < (quick ? 20u : 1500u); round++) {
        /* Between two requests the engine is idle, and polls. */
        for (uint64_t until = tsr_clock_ns() + 50000 + round % 7 * 3000; tsr_clock_ns() < until;) {
        }
        uint64_t before = tsr_clock_ns(), last = 0;
        if (!tessera_submit_tokens(t, prompt, 16, &options, &err)) {
            die("submit", err.text);
        }
        add(&call, tsr_clock_ns() - before);
        while (tessera_live(t) > 0) {
            if (tessera_poll(t, &event, &err) <= 0) {
                continue;
            }
            uint64_t now = tsr_clock_ns();
            if (event.kind == TESSERA_ACCEPTED) {
                add(&admitted, event.time_ns - before);
                add(&accepted, now - before);
            } else if (event.kind == TESSERA_TOKEN) {
                add(&seen, now - event.time_ns);
                if (last) {
                    add(&between, event.time_ns - last);
                }
                last = event.time_ns;
            } else if (event.kind == TESSERA_DONE) {
                uint64_t took = event.queue_ns + event.prefill_ns + event.decode_ns;
                add(&pick_up, event.time_ns - took - before);
            }
        }
    }
    tessera_close(t);
    kill(pid, SIGTERM);
    waitpid(pid, NULL, 0);
    print("the call of tessera_submit_tokens()", &call, "");
    print("submit to the engine's pick-up", &pick_up, "p50 5 us");
    print("submit to checked, admitted, ACCEPTED written", &admitted, "");
    print("submit to ACCEPTED in the client's hands", &accepted, "");
    print("token's publication to the client's eyes", &seen, "");
    print("between two tokens (5 M parameters, bf16)", &between, "");
}

/* ---- One process: a frontend whose step costs nothing ---- */

struct loop {
    struct tsr_frontend *f;
    struct tsr_door *door;
    struct tsr_channel *channel;
    float *logits;
    uint64_t rows;
};

static void no_step(void *ctx, const struct tsr_span *spans, uint32_t n)
{
    (void)spans;
    ((struct loop *)ctx)->rows += n;
}

static const float *same_logits(void *ctx, uint32_t i)
{
    (void)i;
    return ((struct loop *)ctx)->logits;
}

static void no_idle(void *ctx)
{
    (void)ctx;
}

static int any_reserve(void *ctx, struct tsr_kv_seq *seq, uint32_t positions)
{
    (void)ctx;
    seq->n_pages = positions / TSR_KV_PAGE_POSITIONS + 1;
    return 0;
}

static void any_release(void *ctx, struct tsr_kv_seq *seq)
{
    (void)ctx;
    seq->n_pages = 0;
}

struct reader {
    uint32_t streams, tokens_max;
    atomic_int done;
};

static void submit(struct tsr_link *link, uint64_t id, uint32_t tokens_max)
{
    void *out;
    const uint32_t bytes = (uint32_t)sizeof(struct tsr_wire_submit) + 4;
    if (tsr_link_reserve(link, bytes, &out) != 1) {
        die("submit", "no room");
    }
    struct tsr_wire_submit s = {
        .request = id,
        .payload_bytes = 4,
        .chunk_bytes = 4,
        .kind = TSR_PAYLOAD_TOKENS,
        .credit = UINT32_MAX,
        .tokens_max = tokens_max,
        .flags = TSR_SUBMIT_IGNORE_END,
        .top_p = 1,
        .repetition_penalty = 1,
    };
    const uint32_t token = 300;
    memcpy((uint8_t *)out + 16, (uint8_t *)&s + 16, sizeof s - 16);
    memcpy((uint8_t *)out + sizeof s, &token, 4);
    tsr_link_commit(link, TSR_REQ_SUBMIT, bytes);
    tsr_link_flush(link);
}

static void *read_all(void *ctx)
{
    struct reader *reader = ctx;
    struct tsr_link link;
    struct tsr_err err;
    pin(1);
    if (tsr_link_open(&link, socket_path, "bench", 5000, NULL, &err) < 0) {
        die("connect", err.text);
    }
    for (uint32_t i = 0; i < reader->streams; i++) {
        submit(&link, i + 1, reader->tokens_max);
    }
    for (uint32_t done = 0; done < reader->streams;) {
        const void *event;
        struct tsr_record_info info;
        if (tsr_link_peek(&link, &event, &info) == 1) {
            done += info.type == TSR_EV_DONE || info.type == TSR_EV_ERROR;
            tsr_link_next(&link);
        }
    }
    atomic_store(&reader->done, 1);
    tsr_link_close(&link);
    return NULL;
}

struct asker {
    struct samples pick_up;
    atomic_int done;
};

static void *ask_again(void *ctx)
{
    struct asker *asker = ctx;
    struct tsr_link link;
    struct tsr_err err;
    pin(1);
    if (tsr_link_open(&link, socket_path, "bench", 5000, NULL, &err) < 0) {
        die("connect", err.text);
    }
    for (uint32_t round = 1; round <= (quick ? 50u : 5000u); round++) {
        for (uint64_t until = tsr_clock_ns() + 20000 + round % 7 * 3000; tsr_clock_ns() < until;) {
        }
        uint64_t before = tsr_clock_ns();
        submit(&link, round, 1);
        for (bool done = false; !done;) {
            const void *event;
            struct tsr_record_info info;
            if (tsr_link_peek(&link, &event, &info) != 1) {
                continue;
            }
            if (info.type == TSR_EV_ACCEPTED) {
                add(&asker->pick_up, ((const struct tsr_wire_accepted *)event)->time_ns - before);
            }
            done = info.type == TSR_EV_DONE || info.type == TSR_EV_ERROR;
            tsr_link_next(&link);
        }
    }
    atomic_store(&asker->done, 1);
    tsr_link_close(&link);
    return NULL;
}

/* A frontend, a door, and one client's thread that has connected. */
static void loop_open(struct loop *loop, const struct tsr_tokenizer *tokenizer, uint32_t vocab,
                      uint32_t tokens_max, void *(*client)(void *), void *ctx, pthread_t *thread)
{
    struct tsr_err err = {0};
    *loop = (struct loop){.logits = calloc(vocab, sizeof(float))};
    for (uint32_t i = 0; i < vocab; i++) {
        loop->logits[i] = (float)((i * 2654435761u) >> 16) / 65536.0f;
    }
    loop->logits[301] = 10;
    const struct tsr_frontend_options options = {
        .sched = {.sequences_max = STREAMS_MAX,
                  .queue_max = STREAMS_MAX,
                  .rows_max = 64,
                  .chunk_rows = 16,
                  .logit_rows_max = STREAMS_MAX,
                  .context = tokens_max + 64,
                  .park_ns = 30000000000u,
                  .age_ns = 1000000},
        .positions_max = tokens_max + 64,
        .logits_vocab = vocab,
        .channels_max = 4,
        .tokens_default = 16,
        .payload_bytes_max = 1 << 16,
        .prompt_bytes = 1 << 20,
        .spin = true,
    };
    const struct tsr_frontend_exec exec = {loop, no_step, same_logits, no_idle};
    const struct tsr_sched_kv kv = {NULL, any_reserve, any_release, 1u << 20};
    if (tsr_frontend_create(&loop->f, &options, &exec, &kv, tsr_tokenizer_vocab(tokenizer), &err) <
            0 ||
        tsr_door_open(&loop->door, socket_path, NULL, &err) < 0) {
        die("frontend", err.text);
    }
    const struct tsr_wire_hello hello = {.version = TSR_WIRE_VERSION};
    tsr_door_set_hello(loop->door, &hello);
    pin(0);
    pthread_create(thread, NULL, client, ctx);
    while (!loop->channel) {
        struct tsr_door_event event;
        if (tsr_door_step(loop->door, &event, 1) == 1 && event.kind == TSR_DOOR_OPENED) {
            loop->channel = event.channel;
        }
    }
    tsr_lane_push(&loop->f->from_control,
                  (struct tsr_lane_item){TSR_ITEM_OPENED, 0, loop->channel});
}

static void loop_close(struct loop *loop, atomic_int *done, pthread_t thread)
{
    while (!atomic_load(done)) {
        tsr_frontend_turn(loop->f);
    }
    pthread_join(thread, NULL);
    tsr_lane_push(&loop->f->from_control, (struct tsr_lane_item){TSR_ITEM_GONE, 0, NULL});
    tsr_frontend_turn(loop->f);
    tsr_door_close(loop->door, loop->channel, NULL);
    tsr_door_destroy(loop->door, NULL);
    tsr_frontend_destroy(loop->f);
    free(loop->logits);
}

/* From submit to pick-up with everything in the caches: no weights stream through them. */
static void warm_pick_up(const struct tsr_tokenizer *tokenizer)
{
    static struct asker asker;
    struct loop loop;
    pthread_t thread;
    loop_open(&loop, tokenizer, 4096, 64, ask_again, &asker, &thread);
    loop_close(&loop, &asker.done, thread);
    print("submit to ACCEPTED written, without a model", &asker.pick_up, "");
}

static void one_process(const struct tsr_tokenizer *tokenizer, uint32_t vocab, uint32_t streams,
                        double l_ns)
{
    const uint32_t tokens_max = quick ? 500 : 100000;
    struct reader reader = {.streams = streams, .tokens_max = tokens_max};
    struct loop loop;
    pthread_t thread;
    loop_open(&loop, tokenizer, vocab, tokens_max, read_all, &reader, &thread);

    /* Medians: a machine that is not ours alone takes the CPU away now and then. */
    static struct samples turns, choices;
    while (loop.rows < tokens_max / 10) {
        tsr_frontend_turn(loop.f);
    }
    while (loop.rows < (uint64_t)streams * tokens_max - streams) {
        uint64_t before = loop.rows, start = tsr_clock_ns();
        tsr_frontend_turn(loop.f);
        if (loop.rows - before == streams) {
            add(&turns, tsr_clock_ns() - start);
        }
    }
    struct tsr_sampled sampled;
    struct tsr_sampling sampling;
    struct tsr_sampler_seq *seq = loop.f->samplers[STREAMS_MAX - 1];
    tsr_sampling_init(&sampling);
    sampling.temperature = 0;
    while (!atomic_load(&reader.done)) {
        tsr_frontend_turn(loop.f);
    }
    tsr_sampler_seq_begin(seq, &sampling, NULL);
    for (uint32_t i = 0; i < (quick ? 200u : 20000u); i++) {
        uint64_t start = tsr_clock_ns();
        tsr_sampler_choose(loop.f->sampler, seq, loop.logits, i, &sampled);
        add(&choices, tsr_clock_ns() - start);
    }
    double all_us = median_us(&turns) / streams, sample_us = median_us(&choices);
    printf("a token of %u streams, vocabulary %6u      all but the step p50 %6.2f us: sampling "
           "%6.2f, the rest %5.2f us  to reach: 2 us (L %.0f ns)\n",
           streams, vocab, all_us, sample_us, all_us - sample_us, l_ns);
    loop_close(&loop, &reader.done, thread);
}

int main(int argc, char **argv)
{
    const char *source = getenv("TESSERA_SOURCE"), *build = getenv("TESSERA_BUILD");
    struct tsr_tokenizer *tokenizer = NULL;
    struct tsr_err err = {0};
    cpu_set_t set;

    setvbuf(stdout, NULL, _IOLBF, 0);
    quick = argc > 1 && strcmp(argv[1], "--quick") == 0;
    sched_getaffinity(0, sizeof set, &set);
    if (!source || !build || !CPU_ISSET(0, &set) || !CPU_ISSET(1, &set)) {
        printf("skipped: TESSERA_SOURCE, TESSERA_BUILD and CPUs 0 and 1 are wanted\n");
        return 77;
    }
    snprintf(model, sizeof model, "%s/tests/vectors/shell-5m", source);
    snprintf(engine_path, sizeof engine_path, "%s/engine/serve/tessera-engine", build);
    if (access(engine_path, X_OK) < 0 || access(model, R_OK) < 0) {
        printf("skipped: there is no %s, or no %s\n", engine_path, model);
        return 77;
    }
    if (!mkdtemp(dir) || chmod(dir, 0755) < 0) {
        die(dir, strerror(errno));
    }
    snprintf(socket_path, sizeof socket_path, "%s/e.sock", dir);
    if (tsr_tokenizer_open(&tokenizer, model, NULL, &err) < 0) {
        die(model, err.text);
    }
    double l_ns = bounce_ns();
    printf("L, a cache line to the other CPU and back %28.0f ns\n", l_ns);
    two_processes();
    warm_pick_up(tokenizer);
    for (uint32_t streams = 1; streams <= STREAMS_MAX; streams *= 8) {
        one_process(tokenizer, 4096, streams, l_ns);
        one_process(tokenizer, 49152, streams, l_ns);
    }
    tsr_tokenizer_close(tokenizer);
    unlink(socket_path);
    rmdir(dir);
    return 0;
}
