#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include <tsr/text/detok.h>
#include <tsr/text/tokenizer.h>

#include "small.h"

#define MARKS                                                                                      \
    "{\"id\":266,\"content\":\"<|im_end|>\",\"special\":true},"                                    \
    "{\"id\":267,\"content\":\"<think>\",\"special\":false},"                                      \
    "{\"id\":268,\"content\":\"<|bos|>\",\"special\":true}"

enum { IDS_MAX = 1 << 21 };

static uint32_t ids[IDS_MAX];
static struct tsr_tokenizer *tokenizer;
static struct tsr_tokenizer_scratch *scratch;

static void open_json(const char *json)
{
    struct tsr_err err;
    if (tsr_tokenizer_parse(&tokenizer, "test", json, strlen(json), &err) < 0)
        fail_msg("%s", err.text);
    assert_int_equal(tsr_tokenizer_scratch_create(&scratch, tokenizer, 256, &err), 0);
}

static void close_all(void)
{
    tsr_tokenizer_scratch_destroy(scratch);
    tsr_tokenizer_close(tokenizer);
}

static size_t encode(const char *text, size_t len, bool trusted, unsigned flags)
{
    struct tsr_text_span span = {.text = text, .len = len, .trusted = trusted};
    struct tsr_err err;
    size_t n;
    if (tsr_tokenizer_encode(tokenizer, scratch, &span, 1, flags, ids, IDS_MAX, &n, &err) < 0)
        fail_msg("%s", err.text);
    return n;
}

/* expected ends with -1 */
static void expect(const char *text, bool trusted, const int *expected)
{
    size_t n = encode(text, strlen(text), trusted, 0), i = 0;
    for (; expected[i] >= 0; i++) {
        assert_true(i < n);
        assert_int_equal(ids[i], expected[i]);
    }
    assert_int_equal(n, i);
}

#define EXPECT(text, trusted, ...) expect(text, trusted, (const int[]){__VA_ARGS__, -1})

static void test_tokenizer_refuses_what_it_cannot_read(void **state)
{
    (void)state;
    static const struct {
        const char *json;
        int rc;
        const char *says;
    } cases[] = {
        {"", -EINVAL, "line 1"},
        {"[]", -EINVAL, "no JSON object"},
        {"{\"model\":{\"type\":\"WordPiece\"}}", -ENOTSUP, "WordPiece"},
        {"{\"model\":{\"type\":\"WordLevel\"}}", -ENOTSUP, "WordLevel"},
        {"{\"model\":{\"type\":\"Unigram\"}}", -EINVAL, "vocab"},
        {"{\"model\":{\"type\":\"Unigram\",\"vocab\":[[\"a\"]]}}", -EINVAL, "vocab[0]"},
        {"{\"model\":{\"type\":\"Unigram\",\"vocab\":[[\"a\",0]],\"unk_id\":1}}", -EINVAL,
         "unk_id"},
        {"{\"model\":{\"type\":\"Unigram\",\"vocab\":[[\"a\",0]]},"
         "\"pre_tokenizer\":{\"type\":\"ByteLevel\"}}",
         -ENOTSUP, "ByteLevel"},
        {"{\"model\":{\"type\":\"BPE\",\"dropout\":0.1}}", -ENOTSUP, "dropout"},
        {"{\"model\":{\"type\":\"BPE\"}}", -EINVAL, "vocab"},
        {"{\"model\":{\"type\":\"BPE\",\"vocab\":{}}}", -EINVAL, "merges"},
        {"{\"model\":{\"type\":\"BPE\",\"vocab\":{},\"merges\":[]}}", -EINVAL, "empty"},
        {"{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":[]},"
         "\"pre_tokenizer\":{\"type\":\"ByteLevel\"}}",
         -EINVAL, "256 bytes"},
        {"{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":-1},\"merges\":[]},"
         "\"pre_tokenizer\":{\"type\":\"ByteLevel\"}}",
         -EINVAL, "id"},
        {"{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":4000000},\"merges\":[]},"
         "\"pre_tokenizer\":{\"type\":\"ByteLevel\"}}",
         -EINVAL, "hole"},
        {"{\"normalizer\":{\"type\":\"BertNormalizer\"},"
         "\"model\":{\"type\":\"BPE\",\"vocab\":{},\"merges\":[]}}",
         -ENOTSUP, "BertNormalizer"},
        {"{\"normalizer\":{\"type\":\"Replace\",\"pattern\":{\"String\":\"\"},\"content\":\"x\"},"
         "\"model\":{\"type\":\"BPE\",\"vocab\":{},\"merges\":[]}}",
         -ENOTSUP, "empty text"},
        {"{\"normalizer\":{\"type\":\"Precompiled\",\"precompiled_charsmap\":\"AAAA*\"},"
         "\"model\":{\"type\":\"BPE\",\"vocab\":{},\"merges\":[]}}",
         -EINVAL, "Base64"},
        {"{\"normalizer\":{\"type\":\"Precompiled\",\"precompiled_charsmap\":\"AAAA\"},"
         "\"model\":{\"type\":\"BPE\",\"vocab\":{},\"merges\":[]}}",
         -EINVAL, "precompiled_charsmap"},
        {"{\"decoder\":{\"type\":\"CTC\"},"
         "\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":[]}}",
         -ENOTSUP, "CTC"},
        {"{\"decoder\":{\"type\":\"Sequence\",\"decoders\":[{\"type\":\"Fuse\"},"
         "{\"type\":\"Strip\",\"content\":\" \",\"start\":0,\"stop\":1}]},"
         "\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":[]}}",
         -ENOTSUP, "behind Fuse"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct tsr_err err;
        struct tsr_tokenizer *none = (struct tsr_tokenizer *)&err;
        assert_int_equal(
            tsr_tokenizer_parse(&none, "file", cases[i].json, strlen(cases[i].json), &err),
            cases[i].rc);
        assert_null(none);
        assert_non_null(strstr(err.text, cases[i].says));
        assert_int_equal(strncmp(err.text, "file: ", 6), 0);
    }
}

static void test_tokenizer_refuses_broken_parts(void **state)
{
    (void)state;
    static const struct {
        const char *pre, *added, *more;
        int rc;
        const char *says;
    } cases[] = {
        {"{\"type\":\"Metaspace\"}", NULL, NULL, -EINVAL, "Metaspace"},
        {"{\"type\":\"UnicodeScripts\"}", NULL, NULL, -ENOTSUP, "UnicodeScripts"},
        {"{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"Split\"}]}", NULL, NULL, -EINVAL,
         "Split"},
        {"{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"Split\",\"pattern\":{\"Regex\":"
         "\"(\"},\"behavior\":\"Isolated\"},{\"type\":\"ByteLevel\"}]}",
         NULL, NULL, -EINVAL, "regular expression"},
        {"{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"Split\",\"pattern\":{\"Regex\":"
         "\"[a&&b]\"},\"behavior\":\"Isolated\"},{\"type\":\"ByteLevel\"}]}",
         NULL, NULL, -ENOTSUP, "&&"},
        {"{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"Split\",\"pattern\":{\"Regex\":"
         "\"a\"},\"behavior\":\"Sideways\"},{\"type\":\"ByteLevel\"}]}",
         NULL, NULL, -EINVAL, "Sideways"},
        {NULL, "{\"id\":266}", NULL, -EINVAL, "content"},
        {NULL, "{\"id\":\"x\",\"content\":\"y\"}", NULL, -EINVAL, "id"},
        {NULL, NULL, ",\"post_processor\":{\"type\":\"BertProcessing\"}", -EINVAL, "cls"},
        {NULL, NULL, ",\"post_processor\":{\"type\":\"Other\"}", -ENOTSUP, "Other"},
        {NULL, NULL,
         ",\"post_processor\":{\"type\":\"TemplateProcessing\",\"single\":[{\"SpecialToken\":{"
         "\"id\":\"zz\"}}],\"special_tokens\":{}}",
         -EINVAL, "SpecialToken"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct tsr_err err;
        struct tsr_tokenizer *none;
        const char *json = small_json(cases[i].pre, cases[i].added, cases[i].more);
        assert_int_equal(tsr_tokenizer_parse(&none, "file", json, strlen(json), &err), cases[i].rc);
        assert_non_null(strstr(err.text, cases[i].says));
    }
}

static void test_tokenizer_open_names_the_missing_file(void **state)
{
    (void)state;
    struct tsr_err err;
    struct tsr_tokenizer *none;
    assert_int_equal(tsr_tokenizer_open(&none, "/nonexistent", NULL, &err), -ENOENT);
    assert_non_null(strstr(err.text, "/nonexistent/tokenizer.json"));
}

static void test_tokenizer_refuses_too_few_ids_and_too_much_text(void **state)
{
    (void)state;
    struct tsr_err err;
    size_t n;
    open_json(small_json(NULL, NULL, NULL));
    struct tsr_text_span span = {.text = "abcdef", .len = 6};
    assert_int_equal(tsr_tokenizer_encode(tokenizer, scratch, &span, 1, 0, ids, 3, &n, &err),
                     -ENOBUFS);
    assert_int_equal(n, 3);
    span.len = (size_t)TSR_ENCODE_BYTES_MAX + 1;
    assert_int_equal(tsr_tokenizer_encode(tokenizer, scratch, &span, 1, 0, ids, 3, &n, &err),
                     -E2BIG);
    assert_int_equal(tsr_tokenizer_encode(tokenizer, scratch, NULL, 0, 0, ids, 0, &n, &err), 0);
    assert_int_equal(n, 0);
    close_all();
}

static void test_tokenizer_merges_by_rank(void **state)
{
    (void)state;
    open_json(small_json(NULL, NULL, NULL));
    EXPECT("the", false, 258);
    EXPECT(" the", false, 259);
    EXPECT("ing", false, 261);
    EXPECT("hell", false, 265);
    EXPECT("the theing", false, 258, 259, 261);
    EXPECT("     x", false, 263, ' ', 'x'); /* four of five spaces, the fifth goes with x */
    close_all();
}

static void test_tokenizer_prefers_whole_pieces_where_told(void **state)
{
    (void)state;
    char json[SMALL_JSON_MAX];
    /* A token that no merge makes. */
    snprintf(json, sizeof(json), "%s", small_json(NULL, NULL, NULL));
    char *at = strstr(json, "\"hell\":265");
    assert_non_null(at);
    memcpy(at, "\"xell\":265", 10);
    char *merge = strstr(json, ",\"he ll\"");
    memset(merge, ' ', 8);
    open_json(json);
    EXPECT("xell", false, 'x', 'e', 264);
    close_all();
    char with[SMALL_JSON_MAX + 64];
    snprintf(with, sizeof(with), "{\"model\":{\"ignore_merges\":true,%s",
             json + strlen("{\"model\":{"));
    open_json(with);
    EXPECT("xell", false, 265);
    close_all();
}

static void test_tokenizer_recognises_special_tokens_only_where_trusted(void **state)
{
    (void)state;
    open_json(small_json(NULL, MARKS, NULL));
    EXPECT("a<|im_end|>b", true, 'a', 266, 'b');
    EXPECT("a<|im_end|>b", false, 'a', '<', '|', 'i', 'm', '_', 'e', 'n', 'd', '|', '>', 'b');
    /* Not special, and not written like a mark: text of the model's own language. */
    EXPECT("<think>", false, 267);

    static const struct {
        struct tsr_text_span spans[3];
        bool recognised;
    } cases[] = {
        {{{"<|im_", 5, true}, {"end|>", 5, true}, {"", 0, false}}, true},
        {{{"<|im_", 5, true}, {"", 0, false}, {"end|>", 5, true}}, true},
        {{{"<|im_", 5, true}, {"end|", 4, false}, {">", 1, true}}, false},
        {{{"<", 1, false}, {"|im_end|>", 9, true}, {"", 0, true}}, false},
        {{{"<|im_end|", 9, true}, {">", 1, false}, {"", 0, true}}, false},
        {{{"x", 1, false}, {"<|im_end|>", 10, true}, {"y", 1, false}}, true},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        size_t n;
        bool found = false;
        assert_int_equal(
            tsr_tokenizer_encode(tokenizer, scratch, cases[i].spans, 3, 0, ids, IDS_MAX, &n, NULL),
            0);
        for (size_t k = 0; k < n; k++)
            found = found || ids[k] == 266;
        assert_int_equal(found, cases[i].recognised);
    }
    close_all();
}

static void test_tokenizer_joins_spans_into_one_text(void **state)
{
    (void)state;
    open_json(small_json(NULL, MARKS, NULL));
    static const struct tsr_text_span spans[] = {
        {"<|im_end|> t", 12, true}, {"h", 1, false}, {"e", 1, true}};
    size_t n;
    assert_int_equal(tsr_tokenizer_encode(tokenizer, scratch, spans, 3, 0, ids, IDS_MAX, &n, NULL),
                     0);
    assert_int_equal(n, 2);
    assert_int_equal(ids[0], 266);
    assert_int_equal(ids[1], 259);
    close_all();
}

static void test_tokenizer_adds_what_the_post_processor_says(void **state)
{
    (void)state;
    open_json(small_json(
        NULL, MARKS,
        ",\"post_processor\":{\"type\":\"TemplateProcessing\",\"single\":[{\"SpecialToken\":{"
        "\"id\":\"<|bos|>\"}},{\"Sequence\":{\"id\":\"A\"}},{\"SpecialToken\":{\"id\":\"<|im_end|>"
        "\"}}],\"special_tokens\":{\"<|bos|>\":{\"ids\":[268]},\"<|im_end|>\":{\"ids\":[266]}}}"));
    assert_true(tsr_tokenizer_vocab(tokenizer)->add_bos);
    assert_int_equal(encode("x", 1, false, TSR_ENCODE_ENDS), 3);
    assert_int_equal(ids[0], 268);
    assert_int_equal(ids[1], 'x');
    assert_int_equal(ids[2], 266);
    assert_int_equal(encode("x", 1, false, 0), 1);
    close_all();
}

static void test_tokenizer_added_tokens_take_spaces_and_whole_words(void **state)
{
    (void)state;
    open_json(small_json(NULL,
                         "{\"id\":266,\"content\":\"[L]\",\"lstrip\":true},"
                         "{\"id\":267,\"content\":\"[R]\",\"rstrip\":true},"
                         "{\"id\":268,\"content\":\"cat\",\"single_word\":true},"
                         "{\"id\":269,\"content\":\"[LL]\"},{\"id\":270,\"content\":\"[L\"}",
                         NULL));
    EXPECT("a \t[L] b", false, 'a', 266, ' ', 'b');
    EXPECT("a [R] \n b", false, 'a', ' ', 267, 'b');
    EXPECT("cat", false, 268);
    EXPECT("a-cat.", false, 'a', '-', 268, '.');
    EXPECT("cats", false, 'c', 'a', 't', 's');
    EXPECT("_cat", false, '_', 'c', 'a', 't');
    EXPECT("[LL]", false, 269); /* the longest */
    EXPECT("[Lx", false, 270, 'x');
    close_all();
}

#define SPLIT(regex, behavior, invert)                                                             \
    "{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"Split\",\"pattern\":{\"Regex\":"        \
    "\"" regex "\"},\"behavior\":\"" behavior "\",\"invert\":" invert                              \
    "},{\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"use_regex\":false}]}"

/* Borders between pieces show where merges cannot reach across them. */
static void test_tokenizer_splits_as_told(void **state)
{
    (void)state;
    static const struct {
        const char *pre;
        int expected[8]; /* of "thexthe" */
    } cases[] = {
        {SPLIT("x", "Isolated", "false"), {258, 'x', 258, -1}},
        {SPLIT("x", "Removed", "false"), {258, 258, -1}},
        {SPLIT("x", "Removed", "true"), {'x', -1}},
        {SPLIT("h", "Isolated", "false"), {'t', 'h', 'e', 'x', 't', 'h', 'e', -1}},
        {SPLIT("h", "MergedWithPrevious", "false"), {256, 'e', 'x', 256, 'e', -1}},
        {SPLIT("h", "MergedWithNext", "false"), {'t', 257, 'x', 't', 257, -1}},
        {SPLIT("[th]", "Isolated", "false"), {'t', 'h', 'e', 'x', 't', 'h', 'e', -1}},
        {SPLIT("[th]", "Contiguous", "false"), {256, 'e', 'x', 256, 'e', -1}},
        {SPLIT("(?=h)", "Isolated", "false"), {'t', 257, 'x', 't', 257, -1}},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        open_json(small_json(cases[i].pre, NULL, NULL));
        expect("thexthe", false, cases[i].expected);
        close_all();
    }
}

static void test_tokenizer_normalizes_also_badly_ordered_marks(void **state)
{
    (void)state;
    open_json(small_json(NULL, NULL, ",\"normalizer\":{\"type\":\"NFC\"}"));
    EXPECT("e\u0301", false, 0xC3, 0xA9);
    EXPECT("\u212B", false, 0xC3, 0x85);
    EXPECT("a\u0315\u0300", false, 0xC3, 0xA0, 0xCC, 0x95); /* the accent goes to its letter */
    EXPECT("\u1100\u1161\u11A8", false, 0xEA, 0xB0, 0x81);
    EXPECT("e\xCC", false, 'e', 0xCC); /* half a mark */
    close_all();
}

static void test_tokenizer_keeps_any_bytes(void **state)
{
    (void)state;
    open_json(small_json(NULL, MARKS, NULL));
    const struct tsr_vocab *vocab = tsr_tokenizer_vocab(tokenizer);
    static char text[4096], back[4096];
    uint64_t random = 99;
    for (unsigned round = 0; round < 2000; round++) {
        size_t len = 0, n = round % 200 + 1;
        while (len < n) {
            random = random * 6364136223846793005u + 1442695040888963407u;
            static const char *const parts[] = {"the",    "<|im_end|>", " ",        "\xC3",
                                                "\u00E9", "hell",       "\xF0\x9F", "\U0001F600",
                                                "\n",     "'s"};
            const char *part = parts[random >> 40 & 7];
            if (random >> 60 < 5) {
                text[len++] = (char)(random >> 50);
                continue;
            }
            memcpy(text + len, part, strlen(part));
            len += strlen(part);
        }
        size_t n_ids = encode(text, len, round & 1, 0), at = 0;
        for (size_t i = 0; i < n_ids; i++) {
            size_t part;
            const char *bytes = tsr_vocab_text(vocab, ids[i], &part);
            assert_true(at + part <= sizeof(back));
            memcpy(back + at, bytes, part);
            at += part;
        }
        assert_int_equal(at, len);
        assert_memory_equal(back, text, len);
    }
    close_all();
}

static double cpu_seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

/* Twice the text may take at most 3.5 times the time (n log n takes 2.1); the best of three runs
 * each. */
static void test_tokenizer_takes_no_quadratic_time(void **state)
{
    (void)state;
    enum { LEN = 1 << 19 };
    static char text[2 * LEN];
    open_json(small_json(NULL, MARKS, NULL));
    for (int kind = 0; kind < 6; kind++) {
        uint64_t random = 5;
        static const char *const patterns[] = {" ", "a", "hell", "<|im_end|", "\xCC\x80\xCC\x95"};
        for (size_t i = 0; i < sizeof(text); i++) {
            random = random * 6364136223846793005u + 1442695040888963407u;
            text[i] = kind == 5 ? (char)(random >> 56) : patterns[kind][i % strlen(patterns[kind])];
        }
        double best[2] = {1e9, 1e9};
        for (int run = 0; run < 6; run++) {
            double begin = cpu_seconds();
            encode(text, run & 1 ? 2 * LEN : LEN, true, 0);
            double took = cpu_seconds() - begin;
            best[run & 1] = took < best[run & 1] ? took : best[run & 1];
        }
        if (best[1] > 3.5 * best[0] + 0.01)
            fail_msg("text %d: %.3f s for %d bytes, %.3f s for twice as many", kind, best[0], LEN,
                     best[1]);
    }
    close_all();
}

static void test_tokenizer_normalizing_takes_no_quadratic_time(void **state)
{
    (void)state;
    enum { LEN = 1 << 18 };
    static char text[2 * LEN];
    open_json(small_json(NULL, NULL, ",\"normalizer\":{\"type\":\"NFC\"}"));
    for (size_t i = 0; i + 4 <= sizeof(text); i += 4)
        memcpy(text + i, "\u0315\u0300", 4); /* every pair is in the wrong order */
    double best[2] = {1e9, 1e9};
    for (int run = 0; run < 6; run++) {
        double begin = cpu_seconds();
        encode(text, run & 1 ? 2 * LEN : LEN, false, 0);
        double took = cpu_seconds() - begin;
        best[run & 1] = took < best[run & 1] ? took : best[run & 1];
    }
    assert_true(best[1] < 3.5 * best[0] + 0.01);
    close_all();
}

static void test_tokenizer_stops_at_a_runaway_expression(void **state)
{
    (void)state;
    open_json(small_json(SPLIT("(a+)+$", "Isolated", "false"), NULL, NULL));
    char text[64];
    struct tsr_err err;
    size_t n;
    memset(text, 'a', sizeof(text));
    text[63] = 'b';
    struct tsr_text_span span = {.text = text, .len = sizeof(text)};
    assert_int_equal(tsr_tokenizer_encode(tokenizer, scratch, &span, 1, 0, ids, IDS_MAX, &n, &err),
                     -ENOTSUP);
    assert_non_null(strstr(err.text, "limit"));
    close_all();
}

static void test_tokenizer_finds_tokens_by_text(void **state)
{
    (void)state;
    open_json(small_json(NULL, MARKS, NULL));
    assert_int_equal(tsr_tokenizer_find(tokenizer, "<|im_end|>", 10), 266);
    assert_int_equal(tsr_tokenizer_find(tokenizer, " the", 4), 259);
    assert_int_equal(tsr_tokenizer_find(tokenizer, "zzz", 3), TSR_TOKEN_NONE);
    assert_int_equal(tsr_tokenizer_find(tokenizer, "", 0), TSR_TOKEN_NONE);
    assert_non_null(strstr(tsr_tokenizer_describe(tokenizer), "269 tokens"));
    close_all();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_tokenizer_refuses_what_it_cannot_read),
        cmocka_unit_test(test_tokenizer_refuses_broken_parts),
        cmocka_unit_test(test_tokenizer_open_names_the_missing_file),
        cmocka_unit_test(test_tokenizer_refuses_too_few_ids_and_too_much_text),
        cmocka_unit_test(test_tokenizer_merges_by_rank),
        cmocka_unit_test(test_tokenizer_prefers_whole_pieces_where_told),
        cmocka_unit_test(test_tokenizer_recognises_special_tokens_only_where_trusted),
        cmocka_unit_test(test_tokenizer_joins_spans_into_one_text),
        cmocka_unit_test(test_tokenizer_adds_what_the_post_processor_says),
        cmocka_unit_test(test_tokenizer_added_tokens_take_spaces_and_whole_words),
        cmocka_unit_test(test_tokenizer_splits_as_told),
        cmocka_unit_test(test_tokenizer_normalizes_also_badly_ordered_marks),
        cmocka_unit_test(test_tokenizer_keeps_any_bytes),
        cmocka_unit_test(test_tokenizer_takes_no_quadratic_time),
        cmocka_unit_test(test_tokenizer_normalizing_takes_no_quadratic_time),
        cmocka_unit_test(test_tokenizer_stops_at_a_runaway_expression),
        cmocka_unit_test(test_tokenizer_finds_tokens_by_text),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
