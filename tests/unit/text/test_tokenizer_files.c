/* What the files of a directory and a tokenizer.model say, and what is refused of them. */
#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "tokenize.h"

static char folder[4096];

static int set_up(void **state)
{
    (void)state;
    snprintf(folder, sizeof(folder), "/tmp/test_tokenizer_files_XXXXXX");
    return mkdtemp(folder) ? 0 : -1;
}

static int tear_down(void **state)
{
    (void)state;
    static const char *const names[] = {"tokenizer.json",          "tokenizer.model",
                                        "tokenizer_config.json",   "added_tokens.json",
                                        "special_tokens_map.json", "chat_template.json"};
    char path[5000];
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        snprintf(path, sizeof(path), "%s/%s", folder, names[i]);
        unlink(path);
    }
    return rmdir(folder);
}

static void write_file(const char *name, const void *data, size_t len)
{
    char path[5000];
    snprintf(path, sizeof(path), "%s/%s", folder, name);
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(data, 1, len, f), len);
    fclose(f);
}

static void write_text(const char *name, const char *text)
{
    write_file(name, text, strlen(text));
}

/* A message under construction: a ModelProto, or one of its parts. */
struct message {
    uint8_t data[1 << 14];
    size_t len;
};

static void put_varint(struct message *m, uint64_t value)
{
    for (; value >= 0x80; value >>= 7)
        m->data[m->len++] = (uint8_t)(value | 0x80);
    m->data[m->len++] = (uint8_t)value;
}

static void put_bytes(struct message *m, unsigned field, const void *data, size_t len)
{
    put_varint(m, field << 3 | 2);
    put_varint(m, len);
    memcpy(m->data + m->len, data, len);
    m->len += len;
}

static void put_number(struct message *m, unsigned field, uint64_t value)
{
    put_varint(m, field << 3);
    put_varint(m, value);
}

static void put_piece(struct message *m, const char *text, float score, unsigned type)
{
    struct message piece = {.len = 0};
    put_bytes(&piece, 1, text, strlen(text));
    put_varint(&piece, 2 << 3 | 5);
    memcpy(piece.data + piece.len, &score, 4);
    piece.len += 4;
    put_number(&piece, 3, type);
    put_bytes(m, 1, piece.data, piece.len);
}

#define SPACE "\xE2\x96\x81"

/* Ids: <unk> <s> </s> _ h i _h _hi hi x, a BPE model without byte fallback; of another type, or
 * with byte fallback, where the arguments say so. */
static void make_model(struct message *m, unsigned type, bool byte_fallback)
{
    struct message trainer = {.len = 0}, normalizer = {.len = 0};
    m->len = 0;
    put_piece(m, "<unk>", 0, 2);
    put_piece(m, "<s>", 0, 3);
    put_piece(m, "</s>", 0, 3);
    put_piece(m, SPACE, -1, 1);
    put_piece(m, "h", -2, 1);
    put_piece(m, "i", -3, 1);
    put_piece(m, SPACE "h", -4, 1);
    put_piece(m, SPACE "hi", -5, 1);
    put_piece(m, "hi", -6, 1);
    put_piece(m, "x", -7, 1);
    put_number(&trainer, 3, type);
    put_number(&trainer, 35, byte_fallback);
    put_bytes(m, 2, trainer.data, trainer.len);
    put_number(&normalizer, 4, 0); /* keeps white space */
    put_bytes(m, 3, normalizer.data, normalizer.len);
}

static void refuse(const struct message *m, int rc, const char *says)
{
    struct tsr_tokenizer *none;
    struct tsr_err err;
    assert_int_equal(tsr_tokenizer_parse_model(&none, "file", m->data, m->len, &err), rc);
    assert_null(none);
    if (!strstr(err.text, says))
        fail_msg("'%s' does not say '%s'", err.text, says);
}

static void test_files_model_is_refused(void **state)
{
    (void)state;
    struct message m = {.len = 0};
    refuse(&m, -EINVAL, "protobuf");
    make_model(&m, 2, false);
    for (size_t len = m.len; len-- > 0;) { /* cut off anywhere: never a crash, never a success by
                                              half a field */
        struct tsr_tokenizer *tokenizer;
        struct tsr_err err;
        struct message cut = m;
        cut.len = len;
        if (tsr_tokenizer_parse_model(&tokenizer, "file", cut.data, cut.len, &err) == 0)
            tsr_tokenizer_close(tokenizer);
    }
    make_model(&m, 3, false);
    refuse(&m, -ENOTSUP, "model_type is 3");
    make_model(&m, 9, false);
    refuse(&m, -ENOTSUP, "model_type");
    make_model(&m, 2, true);
    refuse(&m, -EINVAL, "there must be 256");
    make_model(&m, 2, false);
    put_piece(&m, "<0x41>", 0, 6);
    refuse(&m, -EINVAL, "1 byte pieces");
    make_model(&m, 2, false);
    put_piece(&m, "nan", 0.0f / 0.0f, 1);
    refuse(&m, -EINVAL, "score of token 10");
    make_model(&m, 1, false);
    put_piece(&m, "inf", 1.0f / 0.0f, 1);
    refuse(&m, -EINVAL, "score of token 10");
    make_model(&m, 2, false);
    put_piece(&m, "", 0, 1);
    refuse(&m, -EINVAL, "piece 10 has no text");
    make_model(&m, 2, false);
    put_piece(&m, "y", 0, 7);
    refuse(&m, -EINVAL, "piece 10");
    make_model(&m, 2, false);
    struct message normalizer = {.len = 0};
    put_bytes(&normalizer, 2, "\xFF\xFF\xFF\xFFxxxx", 8);
    put_bytes(&m, 3, normalizer.data, normalizer.len);
    refuse(&m, -EINVAL, "precompiled_charsmap");
}

static void expect(const char *text, unsigned flags, const int *expected)
{
    struct subject s;
    struct tsr_text_span span = {.text = text, .len = strlen(text), .trusted = true};
    struct tsr_err err;
    size_t n;
    open_subject(&s, "folder", folder);
    assert_int_equal(
        tsr_tokenizer_encode(s.tokenizer, s.scratch, &span, 1, flags, ids, IDS_MAX, &n, &err), 0);
    for (size_t i = 0; expected[i] >= 0 || i < n; i++) {
        if (i >= n || expected[i] < 0 || ids[i] != (uint32_t)expected[i])
            fail_msg("'%s': id %zu of %zu is %u, want %d", text, i, n, i < n ? ids[i] : 0,
                     expected[i]);
    }
    s.rows++;
    close_subject(&s);
}

#define EXPECT(text, flags, ...) expect(text, flags, (const int[]){__VA_ARGS__, -1})

static void test_files_config_says_prefix_and_ends(void **state)
{
    (void)state;
    struct message m;
    make_model(&m, 2, false);
    write_file("tokenizer.model", m.data, m.len);
    EXPECT("hi", TSR_ENCODE_ENDS, 1, 7);
    EXPECT("hi</s>hi", 0, 7, 2, 7);
    EXPECT("<s>hi y\xC3\xA9", 0, 1, 7, 3, 0);
    write_text("tokenizer_config.json", "{\"legacy\":false,\"add_bos_token\":false,"
                                        "\"add_eos_token\":true}");
    EXPECT("hi", TSR_ENCODE_ENDS, 7, 2);
    EXPECT("hi</s>hi", 0, 7, 2, 8);
    EXPECT("<s>hi", 0, 1, 8);
    write_text("tokenizer_config.json", "{\"add_prefix_space\":false,\"bos_token\":\"</s>\"}");
    EXPECT("hi", 0, 8);
}

static void test_files_add_tokens(void **state)
{
    (void)state;
    struct message m;
    make_model(&m, 2, false);
    write_file("tokenizer.model", m.data, m.len);
    write_text("added_tokens.json", "{\"<|im_end|>\":10,\"hix\":11}");
    write_text("tokenizer_config.json",
               "{\"added_tokens_decoder\":{\"12\":{\"content\":\"[A]\",\"rstrip\":true,"
               "\"special\":true},\"2\":{\"content\":\"</s>\",\"lstrip\":true}}}");
    write_text("special_tokens_map.json", "{\"eos_token\":{\"content\":\"<|im_end|>\"},"
                                          "\"additional_special_tokens\":[\"<|im_end|>\"]}");
    EXPECT("hi<|im_end|>hix", 0, 7, 10, 11);
    EXPECT("hi [A]  hi </s>", 0, 7, 3, 12, 7, 2);
    struct subject s;
    open_subject(&s, "folder", folder);
    const struct tsr_vocab *vocab = tsr_tokenizer_vocab(s.tokenizer);
    assert_int_equal(vocab->n_tokens, 13);
    assert_int_equal(vocab->eos, 10);
    assert_true(vocab->flags[10] & TSR_TOKEN_SPECIAL);
    assert_false(vocab->flags[11] & TSR_TOKEN_SPECIAL);
    assert_true(tsr_vocab_is_end(vocab, 10));
    s.rows++;
    close_subject(&s);
    write_text("added_tokens.json", "{\"far\":4000000}");
    struct tsr_tokenizer *none;
    struct tsr_err err;
    assert_int_equal(tsr_tokenizer_open(&none, folder, NULL, &err), -EINVAL);
    assert_non_null(strstr(err.text, "4000000"));
}

static void test_files_tokenizer_json_comes_first(void **state)
{
    (void)state;
    write_text("tokenizer.model", "not looked at");
    write_text("tokenizer.json",
               "{\"added_tokens\":[{\"id\":2,\"content\":\"[A]\"}],\"model\":{\"type\":\"Unigram\","
               "\"unk_id\":0,\"vocab\":[[\"<unk>\",0],[\"a\",-1]]}}");
    EXPECT("a[A] a", 0, 1, 2, 0, 1);
    write_text("tokenizer_config.json", "{\"added_tokens_decoder\":{\"2\":{\"content\":\"[A]\","
                                        "\"rstrip\":true,\"special\":true}}}");
    EXPECT("a[A] a", 0, 1, 2, 1);
    write_text("chat_template.json", "{\"chat_template\":\"{{ x }}\"}");
    struct subject s;
    open_subject(&s, "folder", folder);
    assert_string_equal(tsr_tokenizer_chat_template(s.tokenizer), "{{ x }}");
    s.rows++;
    close_subject(&s);
}

/* A file may say that a letter becomes a book; a text of them is refused, not made. */
static void test_files_normalizer_cannot_fill_memory(void **state)
{
    (void)state;
    enum { BOOK = 1 << 16, LETTERS = 1 << 13 };
    static char json[2 * BOOK], letters[LETTERS];
    int n = snprintf(
        json, sizeof(json),
        "{\"normalizer\":{\"type\":\"Replace\",\"pattern\":{\"String\":\"a\"},\"content\":\"");
    memset(json + n, 'b', BOOK);
    strcpy(json + n + BOOK, "\"},\"model\":{\"type\":\"BPE\",\"vocab\":{\"b\":0},\"merges\":[]}}");
    memset(letters, 'a', sizeof(letters));
    struct tsr_tokenizer *tokenizer;
    struct tsr_tokenizer_scratch *scratch;
    struct tsr_err err;
    if (tsr_tokenizer_parse(&tokenizer, "file", json, strlen(json), &err) < 0)
        fail_msg("%s", err.text);
    assert_int_equal(tsr_tokenizer_scratch_create(&scratch, tokenizer, 64, &err), 0);
    struct tsr_text_span span = {.text = letters, .len = LETTERS};
    size_t count;
    assert_int_equal(
        tsr_tokenizer_encode(tokenizer, scratch, &span, 1, 0, ids, IDS_MAX, &count, &err), -E2BIG);
    assert_non_null(strstr(err.text, "normalized"));
    tsr_tokenizer_scratch_destroy(scratch);
    tsr_tokenizer_close(tokenizer);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_files_model_is_refused),
        cmocka_unit_test_setup_teardown(test_files_config_says_prefix_and_ends, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_files_add_tokens, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_files_tokenizer_json_comes_first, set_up, tear_down),
        cmocka_unit_test(test_files_normalizer_cannot_fill_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
