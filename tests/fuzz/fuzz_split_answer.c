/* An answer of a model, split into reasoning, content and calls: the first byte says family and
 * beginning. The cuts make no difference, calls come one after the other, nothing is made up: no
 * byte comes out more often than it went in, and without a call and without reasoning what comes
 * out is the text. */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <tsr/api/out.h>
#include <tsr/api/split.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct record {
    struct tsr_out events; /* pieces of one kind joined, a letter before each kind */
    struct tsr_out text;   /* all that came out */
    char kind;
    uint32_t n_calls;
    bool in_call;
};

static void check(bool right)
{
    if (!right) {
        abort();
    }
}

static void change(struct record *record, char kind)
{
    if (record->kind != kind) {
        tsr_out_bytes(&record->events, &kind, 1);
        record->kind = kind;
    }
}

static void add(struct record *record, char kind, const char *text, size_t size)
{
    check(size > 0);
    change(record, kind);
    tsr_out_bytes(&record->events, text, size);
    tsr_out_bytes(&record->text, text, size);
}

static void on_reasoning(void *ctx, const char *text, size_t size)
{
    check(!((struct record *)ctx)->in_call);
    add(ctx, 'R', text, size);
}

static void on_content(void *ctx, const char *text, size_t size)
{
    check(!((struct record *)ctx)->in_call);
    add(ctx, 'C', text, size);
}

static void on_call(void *ctx, uint32_t index, const char *name, size_t size)
{
    struct record *record = ctx;
    check(!record->in_call && index == record->n_calls++);
    record->in_call = true;
    change(record, 0);
    add(record, 'F', name, size);
}

static void on_arguments(void *ctx, uint32_t index, const char *json, size_t size)
{
    struct record *record = ctx;
    check(record->in_call && index + 1 == record->n_calls);
    add(record, 'A', json, size);
}

static void on_call_end(void *ctx, uint32_t index)
{
    struct record *record = ctx;
    check(record->in_call && index + 1 == record->n_calls);
    record->in_call = false;
    change(record, 'E');
}

static void split_text(struct record *record, uint8_t how, const char *text, size_t size, bool cut)
{
    static const struct tsr_split_sink sink = {on_reasoning, on_content, on_call, on_arguments,
                                               on_call_end};
    void *room = malloc(tsr_split_bytes());
    check(room);
    *record = (struct record){0};
    tsr_out_init_growing(&record->events, 1 << 26);
    tsr_out_init_growing(&record->text, 1 << 26);
    struct tsr_split *split =
        tsr_split_init(room, (enum tsr_split_calls)(how & 3), how & 4, how & 8);
    for (size_t from = 0, i = 0; from < size; i++) {
        size_t n = cut ? ((uint8_t)text[from] + i) % 6 : size;
        n = n < size - from ? n : size - from;
        tsr_split_feed(split, text + from, n, &sink, record);
        from += n;
    }
    tsr_split_end(split, &sink, record);
    check(!record->in_call && record->n_calls == tsr_split_call_count(split));
    check(!record->events.full && !record->text.full);
    free(room);
}

static bool same(const struct tsr_out *out, const char *text, size_t size)
{
    return out->size == size && (size == 0 || memcmp(out->bytes, text, size) == 0);
}

/* How often each byte comes out: {} may be ours, in place of the braces of the call. */
static void check_bytes(const struct record *record, const char *text, size_t size)
{
    size_t in[256] = {0}, out[256] = {0};
    for (size_t i = 0; i < size; i++) {
        in[(uint8_t)text[i]]++;
    }
    for (size_t i = 0; i < record->text.size; i++) {
        out[(uint8_t)record->text.bytes[i]]++;
    }
    for (int c = 0; c < 256; c++) {
        check(out[c] <= in[c]);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct record whole, pieces;
    if (size == 0) {
        return 0;
    }
    uint8_t how = data[0];
    const char *text = (const char *)data + 1;
    split_text(&whole, how, text, size - 1, false);
    split_text(&pieces, how, text, size - 1, true);
    check(same(&whole.events, pieces.events.bytes, pieces.events.size));
    if (whole.n_calls == 0 && !(how & 12)) {
        check(same(&whole.text, text, size - 1));
    }
    check_bytes(&whole, text, size - 1);
    tsr_out_fini(&whole.events);
    tsr_out_fini(&whole.text);
    tsr_out_fini(&pieces.events);
    tsr_out_fini(&pieces.text);
    return 0;
}
