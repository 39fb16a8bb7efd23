/* Tokenizers of every kind, as tests/vectors/tokenizers has them: what they make of texts, that
 * decoding does not depend on how a text is cut, that no text becomes a mark, and time. */
#include <dirent.h>
#include <time.h>

#include "tokenize.h"

enum { LONG = 1 << 20 };

typedef void subject_fn(struct subject *s, const char *path);

/* Calls fn for each folder of vectors. */
static void for_each(subject_fn *fn)
{
    char root[4096], path[5000];
    const char *source = getenv("TESSERA_SOURCE");
    snprintf(root, sizeof(root), "%s/tests/vectors/tokenizers", source ? source : ".");
    DIR *dir = opendir(root);
    unsigned n = 0;
    if (!dir)
        fail_msg("%s does not exist", root);
    for (struct dirent *entry; (entry = readdir(dir));) {
        struct stat st;
        snprintf(path, sizeof(path), "%s/%s", root, entry->d_name);
        if (entry->d_name[0] == '.' || stat(path, &st) != 0 || !S_ISDIR(st.st_mode))
            continue;
        struct subject s;
        open_subject(&s, entry->d_name, path);
        fn(&s, path);
        close_subject(&s);
        n++;
    }
    closedir(dir);
    assert_true(n > 10);
}

static uint64_t random_state = 7;

static uint32_t random_below(uint32_t n)
{
    random_state = random_state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)((random_state >> 33) % n);
}

static void check_rows(struct subject *s, const char *path)
{
    char golden[5100];
    snprintf(golden, sizeof(golden), "%s/golden.json", path);
    check_golden(s, golden);
}

static void test_kinds_encode_as_the_packages(void **state)
{
    (void)state;
    for_each(check_rows);
}

/* The bytes of tokens without what the beginning of a text loses, by the words of vocab.h. */
static size_t join(const struct tsr_vocab *vocab, const uint32_t *list, size_t n, char *out)
{
    size_t at = 0;
    for (size_t i = 0; i < n; i++) {
        size_t len, skip = 0;
        const char *text = tsr_vocab_text(vocab, list[i], &len);
        if (vocab->start == TSR_START_TRIM && at == 0 && len > 0 && text[0] == ' ')
            skip = 1;
        for (size_t k = skip; k < len; k++)
            if (vocab->start != TSR_START_FIRST || i > 0 || text[k] != ' ' ||
                (vocab->flags[list[i]] & TSR_TOKEN_ADDED))
                out[at++] = text[k];
    }
    size_t lost = 0;
    while (vocab->start == TSR_START_STRIP && lost < vocab->start_count && lost < at &&
           out[lost] == ' ')
        lost++;
    memmove(out, out + lost, at - lost);
    return at - lost;
}

/* A text that is a single token comes out at once: what a stream of tokens must come to. */
static void check_stream(struct subject *s, const char *path)
{
    (void)path;
    static char joined[1 << 16], whole[1 << 18], stream[1 << 18];
    const struct tsr_vocab *vocab = tsr_tokenizer_vocab(s->tokenizer);
    for (unsigned round = 0; round < 300; round++) {
        uint32_t list[32], n = 1 + random_below(32);
        for (uint32_t i = 0; i < n; i++)
            list[i] = random_below(vocab->n_tokens);
        size_t len = join(vocab, list, n, joined), at = 0, total = 0;
        const uint32_t offset[2] = {0, (uint32_t)len};
        const uint8_t flags[1] = {0};
        const struct tsr_vocab one = {.n_tokens = 1,
                                      .token_bytes_max = (uint32_t)len,
                                      .offset = offset,
                                      .bytes = joined,
                                      .flags = flags};
        struct tsr_detok detok;
        tsr_detok_init(&detok, &one, true);
        total = tsr_detok_push(&detok, 0, whole);
        total += tsr_detok_flush(&detok, whole + total);
        tsr_detok_init(&detok, vocab, true);
        for (uint32_t i = 0; i < n; i++) {
            size_t got = tsr_detok_push(&detok, list[i], stream + at);
            assert_true(got <= tsr_detok_out_max(vocab));
            at += got;
        }
        at += tsr_detok_flush(&detok, stream + at);
        s->rows++;
        if (at != total || memcmp(stream, whole, at) != 0)
            fail_msg("%s: '%.*s', want '%.*s'", s->name, (int)at, stream, (int)total, whole);
    }
}

static void test_kinds_stream_as_the_whole(void **state)
{
    (void)state;
    for_each(check_stream);
}

static bool becomes(struct subject *s, const char *text, size_t len, bool trusted, uint32_t id)
{
    const struct tsr_text_span spans[] = {
        {"Hello ", 6, true}, {text, len, trusted}, {" there", 6, true}};
    struct tsr_err err;
    size_t n;
    if (tsr_tokenizer_encode(s->tokenizer, s->scratch, spans, 3, 0, ids, IDS_MAX, &n, &err) < 0)
        fail_msg("%s", err.text);
    for (size_t i = 0; i < n; i++)
        if (ids[i] == id)
            return true;
    return false;
}

/* A mark is found in the template's text, and never in a request's, cut in two or whole. */
static void check_marks(struct subject *s, const char *path)
{
    (void)path;
    const struct tsr_vocab *vocab = tsr_tokenizer_vocab(s->tokenizer);
    for (uint32_t id = 0; id < vocab->n_tokens; id++) {
        size_t len;
        const char *text = tsr_vocab_text(vocab, id, &len);
        if (!(vocab->flags[id] & TSR_TOKEN_GUARDED) || id == vocab->unk)
            continue;
        s->rows++;
        if (!becomes(s, text, len, true, id))
            fail_msg("%s: '%.*s' is not found where it is trusted", s->name, (int)len, text);
        if (becomes(s, text, len, false, id))
            fail_msg("%s: '%.*s' is found where it is not trusted", s->name, (int)len, text);
    }
    s->rows++;
}

static void test_kinds_make_no_mark_of_a_request(void **state)
{
    (void)state;
    for_each(check_marks);
}

/* Where there is a token for each byte, no byte is lost; a SentencePiece text begins with a space
 * that it did not have, which decoding takes away. */
static void check_bytes(struct subject *s, const char *path)
{
    static char text[300], out[4096];
    const char *name = strrchr(path, '/') + 1;
    s->rows++;
    if (strcmp(name, "spm-bpe-fallback") != 0 && strcmp(name, "json-phi3") != 0)
        return;
    const struct tsr_vocab *vocab = tsr_tokenizer_vocab(s->tokenizer);
    for (unsigned round = 0; round < 300; round++) {
        size_t len = 1 + random_below(sizeof(text) - 1), n, at = 0;
        for (size_t i = 0; i < len; i++)
            text[i] = round & 1 ? (char)random_below(256) : " ab\xE2\x96\xC3\xA9\xFF"[i % 8];
        struct tsr_text_span span = {.text = text, .len = len};
        struct tsr_err err;
        if (tsr_tokenizer_encode(s->tokenizer, s->scratch, &span, 1, 0, ids, IDS_MAX, &n, &err) < 0)
            fail_msg("%s", err.text);
        for (size_t i = 0; i < n; i++) {
            size_t part;
            const char *bytes = tsr_vocab_text(vocab, ids[i], &part);
            memcpy(out + at, bytes, part);
            at += part;
        }
        s->rows++;
        if (at != len + 1 || out[0] != ' ' || memcmp(out + 1, text, len) != 0)
            fail_msg("%s: %zu bytes came back as %zu", s->name, len, at);
    }
}

static void test_kinds_with_byte_fallback_keep_any_bytes(void **state)
{
    (void)state;
    for_each(check_bytes);
}

static double cpu_seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static double time_of(struct subject *s, const char *text, size_t len)
{
    static uint32_t many[2 * LONG];
    double best = 1e9;
    for (unsigned run = 0; run < 3; run++) {
        struct tsr_text_span span = {.text = text, .len = len};
        struct tsr_err err;
        size_t n;
        double begin = cpu_seconds();
        if (tsr_tokenizer_encode(s->tokenizer, s->scratch, &span, 1, 0, many, 2 * LONG, &n, &err) <
            0)
            fail_msg("%s", err.text);
        double took = cpu_seconds() - begin;
        best = took < best ? took : best;
    }
    return best;
}

/* Four times the bytes take about four times as long; quadratic time would be sixteen times. */
static void check_time(struct subject *s, const char *path)
{
    static char text[LONG];
    static const char *const patterns[] = {" ", "a", "\xE2\x96\x81", "ab "};
    const char *name = strrchr(path, '/') + 1;
    s->rows++;
    if (strcmp(name, "spm-bpe-fallback") != 0 && strcmp(name, "spm-unigram") != 0 &&
        strcmp(name, "json-phi3") != 0 && strcmp(name, "json-t5") != 0)
        return;
    for (unsigned kind = 0; kind < 5; kind++) {
        for (size_t i = 0; i < LONG; i++)
            text[i] =
                kind == 4 ? (char)random_below(256) : patterns[kind][i % strlen(patterns[kind])];
        double quarter = time_of(s, text, LONG / 4), all = time_of(s, text, LONG);
        s->rows++;
        if (all > 10 * quarter + 0.05)
            fail_msg("%s, text %u: %.3f s for %d bytes, %.3f s for four times as many", s->name,
                     kind, quarter, LONG / 4, all);
    }
}

static void test_kinds_take_no_quadratic_time(void **state)
{
    (void)state;
    for_each(check_time);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_kinds_encode_as_the_packages),
        cmocka_unit_test(test_kinds_stream_as_the_whole),
        cmocka_unit_test(test_kinds_make_no_mark_of_a_request),
        cmocka_unit_test(test_kinds_with_byte_fallback_keep_any_bytes),
        cmocka_unit_test(test_kinds_take_no_quadratic_time),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
