/* Holding a tokenizer to rows of others' results; for tests only. */
#ifndef TSR_TESTS_TOKENIZE_H
#define TSR_TESTS_TOKENIZE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <tsr/model/gguf.h>
#include <tsr/text/detok.h>
#include <tsr/text/tokenizer.h>

#include "outside.h"

enum { IDS_MAX = 1 << 16 };

static uint32_t ids[IDS_MAX]; /* of the last row */

struct subject {
    const char *name;
    struct tsr_tokenizer *tokenizer;
    struct tsr_tokenizer_scratch *scratch;
    unsigned rows, wrong;
};

static inline void open_subject(struct subject *s, const char *name, const char *path)
{
    struct tsr_err err;
    struct tsr_gguf *gguf = NULL;
    size_t len = strlen(path);
    *s = (struct subject){.name = name};
    if (len > 5 && strcmp(path + len - 5, ".gguf") == 0 && tsr_gguf_open(&gguf, path, &err) < 0)
        fail_msg("%s", err.text);
    if (tsr_tokenizer_open(&s->tokenizer, path, gguf, &err) < 0)
        fail_msg("%s", err.text);
    tsr_gguf_close(gguf);
    assert_int_equal(tsr_tokenizer_scratch_create(&s->scratch, s->tokenizer, 1 << 16, &err), 0);
}

static inline void close_subject(struct subject *s)
{
    printf("  %s: %u rows, %u wrong (%s)\n", s->name, s->rows, s->wrong,
           tsr_tokenizer_describe(s->tokenizer));
    tsr_tokenizer_scratch_destroy(s->scratch);
    tsr_tokenizer_close(s->tokenizer);
    assert_true(s->rows > 0);
    assert_int_equal(s->wrong, 0);
}

static inline void print_ids(const char *what, const uint32_t *list, size_t n)
{
    fprintf(stderr, "    %s:", what);
    for (size_t i = 0; i < n; i++)
        fprintf(stderr, " %u", list[i]);
    fprintf(stderr, "\n");
}

static inline size_t check(struct subject *s, const char *text, size_t len, bool trusted,
                           unsigned flags, const json_t *expected)
{
    struct tsr_text_span span = {.text = text, .len = len, .trusted = trusted};
    struct tsr_err err;
    size_t n;
    if (tsr_tokenizer_encode(s->tokenizer, s->scratch, &span, 1, flags, ids, IDS_MAX, &n, &err) < 0)
        fail_msg("%s: %s", s->name, err.text);
    bool same = n == json_array_size(expected);
    for (size_t i = 0; same && i < n; i++)
        same = ids[i] == (uint32_t)json_integer_value(json_array_get(expected, i));
    s->rows++;
    if (!same && s->wrong++ < 5) {
        uint32_t want[64];
        size_t m = json_array_size(expected) < 64 ? json_array_size(expected) : 64;
        for (size_t i = 0; i < m; i++)
            want[i] = (uint32_t)json_integer_value(json_array_get(expected, i));
        fprintf(stderr, "  %s: '%.*s'\n", s->name, (int)len, text);
        print_ids("got ", ids, n < 64 ? n : 64);
        print_ids("want", want, m);
    }
    return n;
}

static inline void check_decoded(struct subject *s, const uint32_t *list, size_t n,
                                 const char *text, size_t len)
{
    static char out[1 << 20];
    struct tsr_detok detok;
    size_t at = 0;
    tsr_detok_init(&detok, tsr_tokenizer_vocab(s->tokenizer), false);
    for (size_t i = 0; i < n; i++)
        at += tsr_detok_push(&detok, list[i], out + at);
    at += tsr_detok_flush(&detok, out + at);
    if (at != len || memcmp(out, text, len) != 0) {
        s->wrong++;
        fprintf(stderr, "  %s: decoded '%.*s', want '%.*s'\n", s->name, (int)at, out, (int)len,
                text);
    }
}

/* The rows "tokenize" of a golden.json. */
static inline void check_golden(struct subject *s, const char *path)
{
    json_t *golden = outside_json(path);
    assert_non_null(golden);
    const json_t *rows = json_object_get(golden, "tokenize");
    for (size_t i = 0; i < json_array_size(rows); i++) {
        const json_t *row = json_array_get(rows, i);
        size_t len, decoded_len;
        const char *text = outside_string(row, "text", &len);
        const char *decoded = outside_string(row, "decoded", &decoded_len);
        check(s, text, len, true, 0, json_object_get(row, "ids_plain"));
        size_t n = check(s, text, len, true, TSR_ENCODE_ENDS, json_object_get(row, "ids"));
        check_decoded(s, ids, n, decoded, decoded_len);
    }
    json_decref(golden);
}

#endif
