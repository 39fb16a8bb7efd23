/* Tokenizing: MB/s of English, cold and warm, and the texts that make bad tokenizers quadratic.
 *
 *   bench_tokenizer [MODEL [TEXT]] [--quick]
 *
 * MODEL: a GGUF file or a directory with a tokenizer; by default the 128k vocabulary llama-bpe
 * among the outside vectors (TESSERA_CONFORMANCE or ../shared/conformance). TEXT: a file; by
 * default the licences that every Debian has (English, about 350 KiB). One thread, its CPU time.
 * Beside it, unless --quick, the same text by the Python package `tokenizers`, where TESSERA_PYTHON
 * or python3 can import it (peer_tokenizer.py). The limit for English: 10 MB/s at least.
 * Cold: a scratch that has seen no text, each word pays for its first time; warm: the second pass
 * over the same text. */
#include <dirent.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <tsr/model/gguf.h>
#include <tsr/text/tokenizer.h>

enum { TEXT_MAX = 8 << 20, LONG = 1 << 20 };

static char text[TEXT_MAX];
static uint32_t ids[TEXT_MAX];

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static size_t read_into(const char *path, size_t at)
{
    FILE *f = fopen(path, "rb");
    if (!f)
        return at;
    at += fread(text + at, 1, TEXT_MAX - at, f);
    fclose(f);
    return at;
}

static size_t read_licences(void)
{
    static const char root[] = "/usr/share/common-licenses";
    size_t n = 0;
    DIR *dir = opendir(root);
    for (struct dirent *entry; dir && (entry = readdir(dir));) {
        char path[512];
        struct stat st;
        snprintf(path, sizeof(path), "%s/%s", root, entry->d_name);
        if (lstat(path, &st) == 0 && S_ISREG(st.st_mode))
            n = read_into(path, n);
    }
    if (dir)
        closedir(dir);
    return n;
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

static struct tsr_tokenizer *tokenizer;

static double encode(struct tsr_tokenizer_scratch *scratch, size_t len, size_t *n)
{
    struct tsr_text_span span = {.text = text, .len = len};
    struct tsr_err err;
    double begin = now();
    if (tsr_tokenizer_encode(tokenizer, scratch, &span, 1, 0, ids, TEXT_MAX, n, &err) < 0) {
        fprintf(stderr, "%s\n", err.text);
        exit(1);
    }
    return now() - begin;
}

static void run(const char *what, size_t len, int repeats)
{
    double cold[32], warm[32];
    size_t n = 0;
    for (int i = 0; i < repeats; i++) {
        struct tsr_tokenizer_scratch *scratch;
        if (tsr_tokenizer_scratch_create(&scratch, tokenizer, TEXT_MAX, NULL) < 0)
            exit(1);
        cold[i] = encode(scratch, len, &n);
        warm[i] = encode(scratch, len, &n);
        tsr_tokenizer_scratch_destroy(scratch);
    }
    qsort(cold, (size_t)repeats, sizeof(*cold), by_value);
    qsort(warm, (size_t)repeats, sizeof(*warm), by_value);
    double mb = (double)len / 1e6;
    printf("%-24s %8.2f MB  %8zu tokens  cold %7.1f MB/s  warm %7.1f MB/s  %8.2f ms\n", what, mb, n,
           mb / cold[repeats / 2], mb / warm[repeats / 2], warm[repeats / 2] * 1e3);
}

/* The package's line for the first len bytes of text. */
static void run_peer(const char *model, size_t len)
{
    const char *python = getenv("TESSERA_PYTHON"), *source = getenv("TESSERA_SOURCE");
    char path[] = "/tmp/bench_tokenizer_XXXXXX", command[9000];
    int fd = mkstemp(path);
    if (fd < 0)
        return;
    bool written = write(fd, text, len) == (ssize_t)len;
    close(fd);
    snprintf(command, sizeof(command), "'%s' '%s/tests/bench/peer_tokenizer.py' '%s' '%s'",
             python ? python : "python3", source ? source : ".", model, path);
    fflush(stdout);
    int status = written ? system(command) : -1;
    if (status != 0)
        printf("%-24s %s\n", "English, tokenizers",
               WIFEXITED(status) && WEXITSTATUS(status) == 77
                   ? "skipped: the package is missing, or this model is not for it"
                   : "failed");
    unlink(path);
}

static void open_model(const char *model)
{
    struct tsr_err err;
    struct tsr_gguf *gguf = NULL;
    size_t len = strlen(model);
    double begin = now();
    if (len > 5 && strcmp(model + len - 5, ".gguf") == 0 && tsr_gguf_open(&gguf, model, &err) < 0) {
        fprintf(stderr, "%s\n", err.text);
        exit(1);
    }
    if (tsr_tokenizer_open(&tokenizer, model, gguf, &err) < 0) {
        fprintf(stderr, "%s\n", err.text);
        exit(1);
    }
    printf("%s: %s, loaded in %.0f ms\n", model, tsr_tokenizer_describe(tokenizer),
           (now() - begin) * 1e3);
    tsr_gguf_close(gguf);
}

int main(int argc, char **argv)
{
    const char *model = NULL, *file = NULL;
    bool quick = false;
    char path[4096];
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--quick") == 0)
            quick = true;
        else if (!model)
            model = argv[i];
        else
            file = argv[i];
    }
    if (!model) {
        const char *root = getenv("TESSERA_CONFORMANCE"), *source = getenv("TESSERA_SOURCE");
        struct stat st;
        if (root)
            snprintf(path, sizeof(path), "%s/tokenizers/ggml-vocab-llama-bpe.gguf", root);
        else
            snprintf(path, sizeof(path), "%s/../shared/conformance/tokenizers/%s",
                     source ? source : ".", "ggml-vocab-llama-bpe.gguf");
        if (stat(path, &st) != 0) {
            printf("skipped: no vocabulary at %s (give a model)\n", path);
            return 77;
        }
        model = path;
    }
    open_model(model);
    size_t n = file ? read_into(file, 0) : read_licences();
    size_t length = quick ? LONG / 16 : LONG;
    if (n)
        run("English", n, quick ? 1 : 9);
    if (n && !quick)
        run_peer(model, n);
    if (n == 0)
        printf("no text: give a file as second argument\n");
    memset(text, ' ', length);
    run("spaces", length, quick ? 1 : 3);
    memset(text, 'a', length);
    run("a", length, quick ? 1 : 3);
    for (size_t i = 0, state = 1; i < length; i++) {
        state = state * 6364136223846793005u + 1442695040888963407u;
        text[i] = (char)(state >> 56);
    }
    run("random bytes", length, quick ? 1 : 3);
    for (size_t i = 0; i < length; i++)
        text[i] = "\xE6\xBC\xA2\xE5\xAD\x97"[i % 6];
    run("two characters", length - length % 6, quick ? 1 : 3);
    tsr_tokenizer_close(tokenizer);
    return 0;
}
