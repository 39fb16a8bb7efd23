/* The executor alone: decode and prefill of a model, beside the limits of the machine in the same
 * run.
 *
 *   bench_exec MODEL [-t threads] [-p prompt] [-n tokens] [-s streams] [-r repeats] [-w weights]
 * [-i isa] [--quick]
 *
 * Prints one line a case: tokens/s (median of the repeats), and its part of the limit. Decode:
 * bytes of the weights read a token against the read bandwidth of as many threads; prefill:
 * operations of the matrices against the multiply-add peak of the arithmetic in use. */
#include <immintrin.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <tsr/exec/exec.h>
#include <tsr/memory/arena.h>

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

static double median(double *v, int n)
{
    qsort(v, (size_t)n, sizeof *v, by_value);
    return v[n / 2];
}

/* Limits: what `threads` threads read from memory, and how many 16-bit and f32 operations they do
 * from registers. */
struct probe {
    const uint8_t *from;
    size_t bytes;
    int kind; /* 0: read, 1: vpmaddwd, 2: f32 FMA */
    double result;
    uint32_t cpu;
    pthread_barrier_t *start;
};

__attribute__((target("avx2,fma"))) static void *probe_main(void *arg)
{
    struct probe *p = arg;
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(p->cpu, &set);
    sched_setaffinity(0, sizeof set, &set);
    pthread_barrier_wait(p->start);
    double begin = now();
    if (p->kind == 0) {
        __m256i sum[4] = {0};
        for (size_t i = 0; i < p->bytes; i += 256) {
            _mm_prefetch((const char *)p->from + i + 2048, _MM_HINT_T0);
            _mm_prefetch((const char *)p->from + i + 2048 + 64, _MM_HINT_T0);
            _mm_prefetch((const char *)p->from + i + 2048 + 128, _MM_HINT_T0);
            _mm_prefetch((const char *)p->from + i + 2048 + 192, _MM_HINT_T0);
            for (int v = 0; v < 8; v++) {
                sum[v % 4] = _mm256_add_epi64(
                    sum[v % 4],
                    _mm256_loadu_si256((const __m256i *)(p->from + i + 32 * (size_t)v)));
            }
        }
        __asm__ volatile("" ::"x"(sum[0]), "x"(sum[1]), "x"(sum[2]), "x"(sum[3]));
        p->result = (double)p->bytes / (now() - begin);
    } else {
        enum { TURNS = 4000000, CHAINS = 10 };
        __m256 f[CHAINS] = {0};
        __m256i n[CHAINS] = {0};
        for (int i = 0; i < TURNS && p->kind == 2; i++) {
#pragma GCC unroll 10
            for (int c = 0; c < CHAINS; c++) {
                f[c] = _mm256_fmadd_ps(f[c], f[c], f[c]);
                __asm__ volatile("" : "+x"(f[c]));
            }
        }
        for (int i = 0; i < TURNS && p->kind == 1; i++) {
#pragma GCC unroll 10
            for (int c = 0; c < CHAINS; c++) {
                n[c] = _mm256_madd_epi16(n[c], n[c]);
                __asm__ volatile("" : "+x"(n[c]));
            }
        }
        p->result = (double)TURNS * CHAINS * (p->kind == 2 ? 16 : 32) / (now() - begin);
    }
    return NULL;
}

static double probe(int kind, uint32_t threads)
{
    enum { BYTES = 512 << 20 };
    struct tsr_arena arena = {0};
    if (kind == 0 && tsr_arena_create(&arena, BYTES, -1, TSR_PAGES_2M, NULL) < 0) {
        return 0;
    }
    pthread_barrier_t start;
    pthread_barrier_init(&start, NULL, threads);
    double best[5];
    for (int r = 0; r < 5; r++) {
        pthread_t thread[64];
        struct probe probes[64];
        best[r] = 0;
        for (uint32_t i = 0; i < threads; i++) {
            probes[i] = (struct probe){
                arena.base + BYTES / threads * i, BYTES / threads, kind, 0, i, &start};
            pthread_create(&thread[i], NULL, probe_main, &probes[i]);
        }
        for (uint32_t i = 0; i < threads; i++) {
            pthread_join(thread[i], NULL);
            best[r] += probes[i].result;
        }
    }
    tsr_arena_destroy(&arena);
    return median(best, 5);
}

int main(int argc, char **argv)
{
    uint32_t threads = 0, prompt = 512, tokens = 64, streams = 1;
    int repeats = 3, option;
    struct tsr_exec_options options = {.pin = true};
    static const char *const weights[] = {"file", "ref", "bf16", "f16", "int8"};
    static const char *const isas[] = {"best", "ref", "avx2", "avx512"};
    const char *path = argc > 1 ? argv[1] : NULL;
    while ((option = getopt(argc - 1, argv + 1, "t:p:n:s:r:w:i:k:-:")) != -1) {
        switch (option) {
        case 't':
            threads = (uint32_t)atoi(optarg);
            break;
        case 'p':
            prompt = (uint32_t)atoi(optarg);
            break;
        case 'n':
            tokens = (uint32_t)atoi(optarg);
            break;
        case 's':
            streams = (uint32_t)atoi(optarg);
            break;
        case 'r':
            repeats = atoi(optarg);
            break;
        case 'w':
            for (int i = 0; i < 5; i++) {
                options.weights =
                    strcmp(weights[i], optarg) == 0 ? (enum tsr_weights)i : options.weights;
            }
            break;
        case 'i':
            for (int i = 0; i < 4; i++) {
                options.isa = strcmp(isas[i], optarg) == 0 ? (enum tsr_isa)i : options.isa;
            }
            break;
        case '-':
            prompt = 32;
            tokens = 8;
            repeats = 1;
            break;
        default:
            return 2;
        }
    }
    if (!path || repeats < 1 || repeats > 100 || streams < 1 || streams > 64) {
        fprintf(
            stderr,
            "usage: bench_exec MODEL [-t threads] [-p prompt] [-n tokens] [-s streams] [-r repeats]"
            " [-w file|ref|bf16|f16|int8] [-i best|ref|avx2|avx512] [--quick]\n");
        return 2;
    }
    options.workers = threads;
    options.context = prompt + tokens + 64;
    options.rows_max = 512;
    struct tsr_err err;
    struct tsr_model model;
    struct tsr_exec *exec;
    if (tsr_model_open(&model, path, &err) < 0) {
        fprintf(stderr, "bench_exec: %s\n", err.text);
        return 1;
    }
    struct tsr_kv_shape shape = {model.program.layers, model.program.kv_heads,
                                 model.program.head_dim, 4};
    uint32_t pages = (options.context + 63) / 64;
    options.kv_bytes = (uint64_t)streams * pages * tsr_kv_page_bytes(&shape);
    double begin = now();
    if (tsr_exec_create(&exec, &model, &options, NULL, NULL, &err) < 0) {
        fprintf(stderr, "bench_exec: %s\n", err.text);
        return 1;
    }
    const struct tsr_exec_plan *plan = tsr_exec_planned(exec);
    char text[1024];
    tsr_exec_explain(exec, text, sizeof text);
    printf("%s%s: packed in %.2f s, weights %.1f MB\n", text, model.name, now() - begin,
           (double)plan->weights_bytes / 1e6);
    threads = plan->workers;
    double bandwidth = probe(0, threads), peak16 = probe(1, threads), peak32 = probe(2, threads);
    printf("limits of %u threads: read %.1f GB/s, 16-bit %.0f GOP/s, f32 %.0f GFLOP/s\n", threads,
           bandwidth / 1e9, peak16 / 1e9, peak32 / 1e9);

    struct tsr_kv_seq seq[64] = {0};
    struct tsr_span span[64];
    uint32_t last[64], *table = calloc((size_t)streams * pages, sizeof *table);
    uint32_t *ids = calloc(prompt + 1, sizeof *ids);
    double prefill[100], decode[100];
    for (uint32_t i = 0; i <= prompt; i++) {
        ids[i] = (i * 7919u + 13) % model.program.vocab;
    }
    for (int r = 0; r < repeats; r++) {
        for (uint32_t s = 0; s < streams; s++) {
            tsr_kv_seq_init(&seq[s], table + s * pages, pages);
            if (tsr_kv_reserve(tsr_exec_kv(exec), &seq[s], options.context) < 0) {
                return 1;
            }
        }
        begin = now();
        for (uint32_t s = 0; s < streams; s++) {
            for (uint32_t at = 0; at < prompt; at += 512) {
                uint32_t n = prompt - at < 512 ? prompt - at : 512;
                struct tsr_span one = {.kv = &seq[s],
                                       .tokens = ids + at,
                                       .rows = n,
                                       .position = at,
                                       .logit_rows = at + n == prompt};
                tsr_exec_step(exec, &one, 1);
            }
            last[s] = ids[s];
        }
        prefill[r] = (double)prompt * streams / (now() - begin);
        begin = now();
        for (uint32_t t = 0; t < tokens; t++) {
            for (uint32_t s = 0; s < streams; s++) {
                span[s] = (struct tsr_span){.kv = &seq[s],
                                            .tokens = &last[s],
                                            .rows = 1,
                                            .position = prompt + t,
                                            .logit_rows = 1};
            }
            tsr_exec_step(exec, span, streams);
            for (uint32_t s = 0; s < streams; s++) {
                last[s] = (last[s] * 31 + 7) % model.program.vocab;
            }
        }
        decode[r] = (double)tokens * streams / (now() - begin);
        for (uint32_t s = 0; s < streams; s++) {
            tsr_kv_release(tsr_exec_kv(exec), &seq[s]);
        }
    }
    double ops = 0, bytes = 0; /* of the matrices a row passes through */
    for (uint32_t i = 0; i < model.program.n_ops; i++) {
        const struct tsr_op *op = &model.program.ops[i];
        for (uint32_t j = 0;
             (op->kind == TSR_OP_MATMUL || op->kind == TSR_OP_GLU) && j < op->matmul.n_parts; j++) {
            const struct tsr_weight *w = &model.program.weights[op->matmul.parts[j].weight];
            ops += op->out == model.program.logits ? 0 : 2 * (double)w->rows * (double)w->cols;
            bytes += (double)w->rows * (double)w->cols;
        }
    }
    bytes *=
        (double)plan->weights_bytes / (double)model.program.parameters; /* mean bytes a weight */
    double d = median(decode, repeats), p = median(prefill, repeats);
    printf("decode  streams %2u threads %u: %8.1f tok/s  %6.2f ms/step  %5.1f GB/s = %3.0f %% of "
           "read bandwidth\n",
           streams, threads, d, 1e3 * streams / d, d / streams * bytes / 1e9,
           100 * d / streams * bytes / bandwidth);
    printf("prefill rows %4u threads %u: %8.1f tok/s  %6.1f GOP/s = %3.0f %% of 16-bit peak, %3.0f "
           "%% of f32 peak\n",
           prompt < 512 ? prompt : 512, threads, p, p * ops / 1e9, 100 * p * ops / peak16,
           100 * p * ops / peak32);
    tsr_exec_destroy(exec);
    tsr_model_close(&model);
    free(ids);
    free(table);
    return 0;
}
