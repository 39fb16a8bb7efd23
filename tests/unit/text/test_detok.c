#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <tsr/text/detok.h>
#include <tsr/text/tokenizer.h>

#include "small.h"

static struct tsr_tokenizer *tokenizer;
static const struct tsr_vocab *vocab;

static int set_up(void **state)
{
    (void)state;
    const char *json =
        small_json(NULL, "{\"id\":266,\"content\":\"<|end|>\",\"special\":true}", NULL);
    if (tsr_tokenizer_parse(&tokenizer, "test", json, strlen(json), NULL) < 0)
        return -1;
    vocab = tsr_tokenizer_vocab(tokenizer);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    tsr_tokenizer_close(tokenizer);
    return 0;
}

/* Text of bytes as ids (byte b is token b), each piece checked to be whole characters. */
static size_t decode(const uint8_t *bytes, size_t n, char *out)
{
    struct tsr_detok detok;
    size_t at = 0;
    tsr_detok_init(&detok, vocab, false);
    for (size_t i = 0; i < n; i++) {
        size_t got = tsr_detok_push(&detok, bytes[i], out + at);
        assert_true(got <= tsr_detok_out_max(vocab));
        if (got) /* it never begins in the middle of a character */
            assert_true(((uint8_t)out[at] & 0xC0) != 0x80);
        at += got;
    }
    at += tsr_detok_flush(&detok, out + at);
    return at;
}

/* One replacement for each maximal invalid part: Unicode's own examples (15.0, tables 3-8 to 3-11),
 * then Hugging Face's. */
static void test_detok_replaces_what_is_not_utf8(void **state)
{
    (void)state;
#define R "\xEF\xBF\xBD"
    static const struct {
        const char *bytes, *text;
    } cases[] = {
        {"\xC0\xAF\xE0\x80\xBF\xF0\x81\x82\x41", R R R R R R R R "A"},
        {"\xED\xA0\x80\xED\xBF\xBF\xED\xAF\x41", R R R R R R R R "A"},
        {"\xF4\x91\x92\x93\xFF\x41\x80\xBF\x42", R R R R R "A" R R "B"},
        {"\xE1\x80\xE2\xF0\x91\x92\xF1\xBF\x41", R R R R "A"},
        {"\xC3", R},
        {"\xE2\x82", R},
        {"\xF0\x9F\x98", R},
        {"a\xC3(", "a" R "("},
        {"\xC3\xC3\xA9", R "\u00E9"},
        {"\xF0\x9F\x98\x80", "\U0001F600"},
        {"", ""},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char out[256];
        size_t n = decode((const uint8_t *)cases[i].bytes, strlen(cases[i].bytes), out);
        assert_int_equal(n, strlen(cases[i].text));
        assert_memory_equal(out, cases[i].text, n);
    }
}

static void test_detok_leaves_special_tokens_out_unless_asked(void **state)
{
    (void)state;
    struct tsr_detok detok;
    char out[256];
    tsr_detok_init(&detok, vocab, false);
    assert_int_equal(tsr_detok_push(&detok, 266, out), 0);
    assert_int_equal(tsr_detok_push(&detok, 0xC3, out), 0);
    assert_int_equal(tsr_detok_push(&detok, 266, out), 0); /* does not break the character */
    assert_int_equal(tsr_detok_push(&detok, 0xA9, out), 2);
    assert_int_equal(tsr_detok_push(&detok, TSR_TOKEN_NONE, out), 0);
    tsr_detok_init(&detok, vocab, true);
    assert_int_equal(tsr_detok_push(&detok, 266, out), 7);
    assert_memory_equal(out, "<|end|>", 7);
}

static void test_detok_flush_starts_anew(void **state)
{
    (void)state;
    struct tsr_detok detok;
    char out[256];
    tsr_detok_init(&detok, vocab, false);
    assert_int_equal(tsr_detok_push(&detok, 0xE2, out), 0);
    assert_int_equal(tsr_detok_flush(&detok, out), 3);
    assert_int_equal(tsr_detok_flush(&detok, out), 0);
    assert_int_equal(tsr_detok_push(&detok, 'x', out), 1);
}

/* The same bytes in tokens of any length give the same text. */
static void test_detok_is_the_same_for_any_split(void **state)
{
    (void)state;
    enum { BYTES = 300, ROUNDS = 400 };
    uint64_t random = 3;
    for (unsigned round = 0; round < ROUNDS; round++) {
        uint8_t bytes[BYTES];
        char whole[4 * BYTES], split[4 * BYTES];
        for (size_t i = 0; i < BYTES; i++) {
            static const uint8_t likely[] = {'a',  0xC3, 0xA9, 0xE2, 0x82,
                                             0xAC, 0xF0, 0x9F, 0x98, 0x80};
            random = random * 6364136223846793005u + 1442695040888963407u;
            bytes[i] = random >> 60 ? likely[(random >> 40) % 10] : (uint8_t)(random >> 50);
        }
        size_t n = decode(bytes, BYTES, whole);

        uint32_t offset[BYTES + 1], n_tokens = 0;
        uint8_t flags[BYTES] = {0};
        offset[0] = 0;
        while (offset[n_tokens] < BYTES) {
            random = random * 6364136223846793005u + 1442695040888963407u;
            uint32_t end = offset[n_tokens] + (uint32_t)(random >> 59); /* 0 .. 31 bytes */
            n_tokens++;
            offset[n_tokens] = end < BYTES ? end : BYTES;
            if (n_tokens == BYTES)
                offset[n_tokens] = BYTES;
        }
        struct tsr_vocab pieces = {.n_tokens = n_tokens,
                                   .token_bytes_max = 32,
                                   .offset = offset,
                                   .bytes = (const char *)bytes,
                                   .flags = flags};
        struct tsr_detok detok;
        size_t at = 0;
        tsr_detok_init(&detok, &pieces, false);
        for (uint32_t id = 0; id < n_tokens; id++)
            at += tsr_detok_push(&detok, id, split + at);
        at += tsr_detok_flush(&detok, split + at);
        assert_int_equal(at, n);
        assert_memory_equal(split, whole, n);
    }
}

static void test_detok_exact_gives_bytes_as_they_are(void **state)
{
    (void)state;
    static const uint8_t bytes[] = {'a', 0xE2, 0x82, 0xFF, 0xC3, 0xA9, 0x80, 0x00, 0xF0, 0x9F};
    char out[4096];
    struct tsr_detok detok;
    size_t at = 0;
    tsr_detok_init(&detok, vocab, false);
    detok.exact = true;
    for (size_t i = 0; i < sizeof(bytes); i++)
        at += tsr_detok_push(&detok, bytes[i], out + at);
    assert_int_equal(tsr_detok_flush(&detok, out + at), 0);
    assert_int_equal(at, sizeof(bytes));
    assert_memory_equal(out, bytes, sizeof(bytes));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_detok_replaces_what_is_not_utf8),
        cmocka_unit_test(test_detok_leaves_special_tokens_out_unless_asked),
        cmocka_unit_test(test_detok_flush_starts_anew),
        cmocka_unit_test(test_detok_is_the_same_for_any_split),
        cmocka_unit_test(test_detok_exact_gives_bytes_as_they_are),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
