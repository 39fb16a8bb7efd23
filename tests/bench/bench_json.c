/* Requests' JSON: microseconds a document, beside jansson over the same bytes; and text written as
 * JSON strings beside memcpy.
 *
 *   bench_json [--quick]
 *
 * One thread, its CPU time, median of 5 batches. */
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <jansson.h>

#include <tsr/api/json.h>
#include <tsr/api/out.h>

enum { BATCHES = 5 };

static struct tsr_json *json;
static size_t batch_bytes = 8 << 20;
static size_t sink;

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

static void read_ours(const struct tsr_out *text)
{
    tsr_json_reset(json);
    if (tsr_json_feed(json, text->bytes, text->size, NULL) < 0 || tsr_json_end(json, NULL) < 0) {
        abort();
    }
    sink += tsr_json_count(tsr_json_root(json));
}

static void read_jansson(const struct tsr_out *text)
{
    json_t *root = json_loadb(text->bytes, text->size, JSON_REJECT_DUPLICATES, NULL);
    if (!root) {
        abort();
    }
    sink += json_object_size(root);
    json_decref(root);
}

static char room[8 << 20];

static void write_string(const struct tsr_out *text)
{
    struct tsr_out out;
    tsr_out_init(&out, room, sizeof room);
    tsr_out_string(&out, text->bytes, text->size);
    sink += out.size;
}

static void copy(const struct tsr_out *text)
{
    memcpy(room, text->bytes, text->size);
    sink += (size_t)room[text->size / 2];
}

/* Seconds a call. */
static double measure(void (*call)(const struct tsr_out *), const struct tsr_out *text)
{
    double batch[BATCHES];
    size_t calls = batch_bytes / (text->size + 256) + 1;
    for (int b = 0; b < BATCHES; b++) {
        double begin = now();
        for (size_t i = 0; i < calls; i++) {
            call(text);
        }
        batch[b] = (now() - begin) / (double)calls;
    }
    qsort(batch, BATCHES, sizeof *batch, by_value);
    return batch[BATCHES / 2];
}

static void report(const char *what, const struct tsr_out *text, double ours, double peer,
                   const char *peer_name)
{
    printf("%-28s %8zu bytes  %9.2f us  %7.0f MB/s  %5.2f x %s\n", what, text->size, ours * 1e6,
           (double)text->size / ours * 1e-6, peer / ours, peer_name);
}

static void run(const char *what, const struct tsr_out *text)
{
    report(what, text, measure(read_ours, text), measure(read_jansson, text), "jansson");
}

/* A request that holds `n` times `unit` between two ends. */
static void fill(struct tsr_out *text, const char *first, const char *unit, size_t n,
                 const char *last)
{
    tsr_out_clear(text);
    tsr_out_text(text, first);
    for (size_t i = 0; i < n; i++) {
        tsr_out_text(text, unit);
    }
    tsr_out_text(text, last);
    if (text->full) {
        abort();
    }
}

int main(int argc, char **argv)
{
    static const char message[] =
        "{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":\"";
    struct tsr_json_limits limits = {.bytes_max = 8 << 20};
    struct tsr_out text;
    if (argc > 1 && strcmp(argv[1], "--quick") == 0) {
        batch_bytes = 1;
    }
    if (tsr_json_create(&json, &limits, NULL) < 0) {
        return 1;
    }
    tsr_out_init_growing(&text, 8 << 20);
    fill(&text, message, "Why is the sky blue?", 1,
         "\"}],\"stream\":true,\"temperature\":0.7,\"max_completion_tokens\":64}");
    run("a short question", &text);
    fill(&text, message, "It was the best of times, it was the worst of times.\\n", 2000, "\"}]}");
    run("a long text", &text);
    fill(&text, message, "\xd0\x92\xd1\x81\xd0\xb5 \xd1\x81\xd1\x87\xd0\xb0\xd1\x81\xd1\x82 ", 6000,
         "\"}]}");
    run("a long text, not ASCII", &text);
    fill(&text, "{\"model\":\"m\",\"prompt\":[12", ",48211", 20000, "]}");
    run("ids of tokens", &text);
    fill(&text, "{\"model\":\"m\",\"tools\":[1",
         ",{\"type\":\"function\",\"function\":{\"name\":\"f\",\"parameters\":{\"type\":\"object\","
         "\"properties\":{\"a\":{\"type\":\"string\"}},\"required\":[\"a\"]}}}",
         200, "]}");
    run("tools", &text);
    fill(&text, "", "It was the best of times, it was the worst of times.\n", 2000, "");
    report("written: a long text", &text, measure(write_string, &text), measure(copy, &text),
           "memcpy");
    tsr_out_fini(&text);
    tsr_json_destroy(json);
    return sink == SIZE_MAX;
}
