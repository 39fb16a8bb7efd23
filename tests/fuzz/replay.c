/* Runs a fuzz target without libFuzzer: every file of a corpus, then deterministic mutations of
 * them.
 *
 *     replay_NAME CORPUS [-n MUTATIONS] [-s SEED]    all of it
 *     replay_NAME FILE                               one input, as it is
 *
 * The same corpus, count and seed give the same inputs everywhere. A crash prints which input it
 * was, and writes it to replay-crash.bin in the current folder, to be run again as FILE. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <tsr/shm/log.h>

enum {
    INPUTS_MAX = 4096,
    INPUT_BYTES_MAX = 16 << 20,
    MUTATED_BYTES_MAX = 1 << 20, /* larger files are run as they are, not mutated */
    MUTATIONS = 3000,
    SECONDS_MAX = 60, /* of mutations: a slow target on a slow machine stops there, and says so */
};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
__attribute__((weak)) int LLVMFuzzerInitialize(int *argc, char ***argv);
__attribute__((weak)) void __sanitizer_set_death_callback(void (*callback)(void));

struct input {
    char *name;
    uint8_t *data;
    size_t size;
};

static struct input inputs[INPUTS_MAX];
static size_t n_inputs;

/* What is being run, for whoever reports a crash. */
static const char *running_name;
static const uint8_t *running_data;
static size_t running_size;
static long running_mutation = -1;

static void report_crash(void)
{
    char text[512];
    int n = snprintf(text, sizeof text,
                     "\nreplay: died of %s, mutation %ld, %zu bytes: replay-crash.bin\n",
                     running_name, running_mutation, running_size);
    if (write(STDERR_FILENO, text, (size_t)n) < 0) {
        return;
    }
    int fd = open("replay-crash.bin", O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    if (fd >= 0) {
        ssize_t written = write(fd, running_data, running_size);
        (void)written;
        close(fd);
    }
}

static void on_signal(int signal)
{
    report_crash();
    raise(signal); /* SA_RESETHAND: now for real */
}

static void catch_crashes(void)
{
    static const int signals[] = {SIGABRT, SIGSEGV, SIGBUS, SIGFPE, SIGILL};
    size_t n = sizeof signals / sizeof *signals;
    if (__sanitizer_set_death_callback) {
        __sanitizer_set_death_callback(report_crash);
        n = 1; /* the others are the sanitizer's */
    }
    struct sigaction action = {.sa_handler = on_signal,
                               .sa_flags = (int)(SA_RESETHAND | SA_NODEFER)};
    for (size_t i = 0; i < n; i++) {
        sigaction(signals[i], &action, NULL);
    }
}

/* The target gets memory of exactly this size, so that a sanitizer sees the first byte read beyond
 * it. */
static void run(const char *name, long mutation, const uint8_t *data, size_t size)
{
    uint8_t *exact = malloc(size ? size : 1);
    if (!exact) {
        abort();
    }
    if (size) {
        memcpy(exact, data, size);
    }
    running_name = name;
    running_mutation = mutation;
    running_data = exact;
    running_size = size;
    LLVMFuzzerTestOneInput(exact, size);
    free(exact);
}

static bool load(const char *path)
{
    struct stat st;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) || st.st_size > INPUT_BYTES_MAX ||
        n_inputs == INPUTS_MAX) {
        fprintf(stderr, "replay: %s cannot be an input\n", path);
        if (fd >= 0) {
            close(fd);
        }
        return false;
    }
    struct input *in = &inputs[n_inputs];
    in->size = (size_t)st.st_size;
    in->data = malloc(in->size + 1);
    in->name = strdup(path);
    bool ok = in->data && in->name && read(fd, in->data, in->size) == (ssize_t)in->size;
    close(fd);
    n_inputs += ok;
    return ok;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const struct input *)a)->name, ((const struct input *)b)->name);
}

static bool load_folder(const char *folder)
{
    DIR *dir = opendir(folder);
    if (!dir) {
        fprintf(stderr, "replay: %s: %s; built-in inputs alone\n", folder, strerror(errno));
        return errno == ENOENT;
    }
    struct dirent *entry;
    bool ok = true;
    while (ok && (entry = readdir(dir))) {
        char path[4096];
        if (entry->d_name[0] == '.') {
            continue;
        }
        snprintf(path, sizeof path, "%s/%s", folder, entry->d_name);
        ok = load(path);
    }
    closedir(dir);
    qsort(inputs, n_inputs, sizeof *inputs, by_name);
    return ok;
}

/* splitmix64 (Steele, Lea, Flood 2014) */
static uint64_t draw(uint64_t *state)
{
    uint64_t z = *state += 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

static size_t below(uint64_t *state, size_t n)
{
    return n ? (size_t)(draw(state) % n) : 0;
}

/* Changes buffer in one of the ways in which files and messages go wrong; returns its new size. */
static size_t mutate_once(uint8_t *buffer, size_t size, size_t capacity, uint64_t *rng)
{
    static const uint64_t edges[] = {0,          1,         0x7f,     0x80,       0xff,
                                     0x7fff,     0x8000,    0xffff,   0x7fffffff, 0x80000000,
                                     0xffffffff, INT64_MAX, 1u << 31, UINT64_MAX, 0x100000000,
                                     63,         64,        65,       4095,       4096};
    size_t at = below(rng, size), width, from, length;
    switch (draw(rng) % 8) {
    case 0: /* a bit */
        if (size) {
            buffer[at] ^= (uint8_t)(1u << below(rng, 8));
        }
        return size;
    case 1: /* a byte */
        if (size) {
            buffer[at] = (uint8_t)draw(rng);
        }
        return size;
    case 2: /* a number at the edge of something, little-endian */
        width = (size_t)1 << below(rng, 4);
        if (size >= width) {
            uint64_t value = edges[below(rng, sizeof edges / sizeof *edges)];
            memcpy(buffer + below(rng, size - width + 1), &value, width);
        }
        return size;
    case 3: /* a number a little off */
        width = (size_t)1 << below(rng, 4);
        if (size >= width) {
            uint64_t value = 0;
            at = below(rng, size - width + 1);
            memcpy(&value, buffer + at, width);
            value += draw(rng) % 33 - 16;
            memcpy(buffer + at, &value, width);
        }
        return size;
    case 4: /* cut off */
        return at;
    case 5: /* a piece taken out */
        length = below(rng, size - at < 64 ? size - at : 64);
        memmove(buffer + at, buffer + at + length, size - at - length);
        return size - length;
    case 6: /* a piece twice */
        from = below(rng, size);
        length = below(rng, size - from < 256 ? size - from : 256);
        if (length > capacity - size) {
            return size;
        }
        memmove(buffer + at + length, buffer + at, size - at);
        memmove(buffer + at, buffer + (from < at ? from : from + length),
                length < size - from ? length : 0);
        return size + length;
    default: /* a character that grammars care about */
        if (size) {
            static const char marks[] = "{}[]()<>%#\"'\\|-:,.=+*~/\n \t\0";
            buffer[at] = (uint8_t)marks[below(rng, sizeof marks)];
        }
        return size;
    }
}

static long run_mutations(long mutations, uint64_t seed)
{
    uint8_t *buffer = malloc(MUTATED_BYTES_MAX);
    if (!buffer) {
        abort();
    }
    time_t end = time(NULL) + SECONDS_MAX;
    long done = 0;
    for (; done < mutations && time(NULL) < end; done++) {
        uint64_t rng = seed + (uint64_t)done * 0x2545f4914f6cdd1du;
        const struct input *in = &inputs[below(&rng, n_inputs)];
        if (in->size > MUTATED_BYTES_MAX) {
            continue;
        }
        if (in->size) {
            memcpy(buffer, in->data, in->size);
        }
        size_t size = in->size;
        for (size_t i = below(&rng, 8) + 1; i; i--) {
            size = mutate_once(buffer, size, MUTATED_BYTES_MAX, &rng);
        }
        run(in->name, done, buffer, size);
    }
    free(buffer);
    return done;
}

/* Inputs that need no corpus: nothing, one byte, zeros, noise. */
static void add_builtin(void)
{
    static const size_t sizes[] = {0, 1, 64, 4096};
    uint64_t rng = 1;
    for (size_t i = 0; i < 2 * sizeof sizes / sizeof *sizes; i++) {
        size_t size = sizes[i / 2];
        uint8_t *data = calloc(1, size + 1);
        char *name = NULL;
        if (!data || n_inputs == INPUTS_MAX || asprintf(&name, "built-in %zu", i) < 0) {
            abort();
        }
        for (size_t b = 0; i % 2 && b < size; b++) {
            data[b] = (uint8_t)draw(&rng);
        }
        inputs[n_inputs++] = (struct input){name, data, size};
    }
}

static void drop_log(void *ctx, enum tsr_log_level level, const char *text)
{
    (void)ctx;
    (void)level;
    (void)text;
}

int main(int argc, char **argv)
{
    long mutations = MUTATIONS;
    uint64_t seed = 1;
    int option;
    while ((option = getopt(argc, argv, "n:s:")) != -1) {
        if (option == 'n') {
            mutations = atol(optarg);
        } else if (option == 's') {
            seed = strtoull(optarg, NULL, 10);
        } else {
            return 2;
        }
    }
    if (optind + 1 != argc) {
        fprintf(stderr, "usage: %s [-n MUTATIONS] [-s SEED] CORPUS|FILE\n", argv[0]);
        return 2;
    }
    struct stat st;
    bool one = stat(argv[optind], &st) == 0 && S_ISREG(st.st_mode);
    if (!(one ? load(argv[optind]) : load_folder(argv[optind]))) {
        return 2;
    }
    size_t n_files = n_inputs;
    tsr_log_set(drop_log, NULL, TSR_LOG_ERROR);
    catch_crashes();
    if (LLVMFuzzerInitialize) {
        LLVMFuzzerInitialize(&argc, &argv);
    }
    if (!one) {
        add_builtin();
    }
    for (size_t i = 0; i < n_inputs; i++) {
        run(inputs[i].name, -1, inputs[i].data, inputs[i].size);
    }
    long done = one ? 0 : run_mutations(mutations, seed);
    printf("%zu files and %ld of %ld mutations survived\n", n_files, done, one ? 0 : mutations);
    for (size_t i = 0; i < n_inputs; i++) {
        free(inputs[i].name);
        free(inputs[i].data);
    }
    return 0;
}
