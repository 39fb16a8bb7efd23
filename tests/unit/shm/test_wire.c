#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <tsr/shm/wire.h>

#include <errno.h>
#include <math.h>
#include <string.h>

static struct tsr_err err;
static struct tsr_wire_request request;

/* A good submit with 2 biases, 2 stop strings and 5 of 9 bytes of text; tests spoil it. */
static struct {
    _Alignas(64) uint8_t bytes[TSR_WIRE_RECORD_BYTES_MAX];
    struct tsr_record_info info;
} record;

static struct tsr_wire_submit *submit(void)
{
    return (void *)record.bytes;
}

static struct tsr_wire_bias *biases(void)
{
    return (void *)(record.bytes + sizeof(struct tsr_wire_submit));
}

static uint8_t *stops(void)
{
    return record.bytes + sizeof(struct tsr_wire_submit) + 2 * sizeof(struct tsr_wire_bias);
}

static int setup(void **state)
{
    (void)state;
    memset(&record, 0, sizeof record);
    *submit() = (struct tsr_wire_submit){
        .request = 77,
        .payload_bytes = 9,
        .chunk_bytes = 5,
        .kind = TSR_PAYLOAD_TEXT,
        .credit = 10,
        .temperature = 1,
        .top_p = 1,
        .repetition_penalty = 1,
        .bias_count = 2,
        .stop_count = 2,
        .stop_bytes = 2 + 3 + 2 + 1,
    };
    biases()[0] = (struct tsr_wire_bias){5, 1.5f};
    biases()[1] = (struct tsr_wire_bias){6, -100};
    const uint8_t list[] = {3, 0, 'a', 'b', 'c', 1, 0, 'x'};
    memcpy(stops(), list, sizeof list);
    uint32_t off = tsr_wire_submit_chunk_off(2, sizeof list);
    memcpy(record.bytes + off, "hello", 5);
    record.info = (struct tsr_record_info){.bytes = off + 5, .type = TSR_REQ_SUBMIT};
    return 0;
}

static int check(void)
{
    return tsr_wire_check(record.bytes, &record.info, &request, &err);
}

/* ---- Refusals ---- */

static void test_wire_drops_what_cannot_be_meant(void **state)
{
    const uint16_t types[] = {0, 6, TSR_EV_HELLO, TSR_EV_TOKEN, TSR_EV_STATUS, 255, TSR_RECORD_PAD};
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++) {
        record.info.type = types[i];
        assert_int_equal(check(), -EPROTO);
        assert_int_equal(request.request, 0);
    }
    for (uint16_t type = TSR_REQ_SUBMIT; type <= TSR_REQ_STATUS; type++) {
        setup(state);
        record.info.type = type;
        for (uint32_t bytes = 0; bytes < 32; bytes++) {
            record.info.bytes = bytes;
            assert_int_equal(check(), -EPROTO);
        }
        record.info.bytes = TSR_WIRE_RECORD_BYTES_MAX + 1;
        assert_int_equal(check(), -EPROTO);
    }
    setup(state);
    record.info.bytes = sizeof(struct tsr_wire_submit) - 1;
    assert_int_equal(check(), -EPROTO);
    setup(state);
    submit()->request = 0;
    assert_int_equal(check(), -EPROTO);
}

static void test_wire_refuses_numbers_out_of_range(void **state)
{
    const struct {
        size_t off;
        float value;
        const char *name;
    } cases[] = {
#define CASE(field, value) {offsetof(struct tsr_wire_submit, field), value, #field}
        CASE(temperature, -0.001f),
        CASE(temperature, 101),
        CASE(temperature, NAN),
        CASE(top_p, 0),
        CASE(top_p, 1.001f),
        CASE(top_p, NAN),
        CASE(min_p, -1),
        CASE(min_p, 2),
        CASE(repetition_penalty, 0),
        CASE(repetition_penalty, INFINITY),
        CASE(presence_penalty, -11),
        CASE(presence_penalty, NAN),
        CASE(frequency_penalty, 10.5f),
        CASE(frequency_penalty, -INFINITY),
#undef CASE
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        setup(state);
        memcpy(record.bytes + cases[i].off, &cases[i].value, sizeof(float));
        assert_int_equal(check(), -EINVAL);
        assert_int_equal(request.request, 77); /* so that the ERROR can name it */
        assert_non_null(strstr(err.text, cases[i].name));
    }
    setup(state);
    biases()[1].bias = 100.5f;
    assert_int_equal(check(), -EINVAL);
    assert_non_null(strstr(err.text, "token 6"));
    setup(state);
    biases()[0].bias = NAN;
    assert_int_equal(check(), -EINVAL);
    setup(state);
    submit()->top_logprobs = TSR_WIRE_TOP_LOGPROBS_MAX + 1;
    assert_int_equal(check(), -EINVAL);
}

static void test_wire_refuses_lengths_that_disagree(void **state)
{
#define REFUSED(statement)                                                                         \
    do {                                                                                           \
        setup(state);                                                                              \
        statement;                                                                                 \
        assert_int_equal(check(), -EINVAL);                                                        \
        assert_int_equal(request.request, 77);                                                     \
    } while (0)
    REFUSED(record.info.bytes++);
    REFUSED(record.info.bytes--);
    REFUSED(record.info.flags = 1);
    REFUSED(submit()->chunk_bytes++);
    REFUSED(submit()->chunk_bytes = 0);
    REFUSED(submit()->chunk_bytes = UINT32_MAX);
    REFUSED(submit()->chunk_bytes = UINT32_MAX - 150);
    REFUSED(submit()->payload_bytes = 0);
    REFUSED(submit()->payload_bytes = 4);
    REFUSED(submit()->bias_count = TSR_WIRE_BIAS_MAX + 1);
    REFUSED(submit()->bias_count = UINT16_MAX);
    REFUSED(submit()->bias_count = 3);
    REFUSED(submit()->stop_count = TSR_WIRE_STOPS_MAX + 1);
    REFUSED(submit()->stop_count = 1);
    REFUSED(submit()->stop_count = 3);
    REFUSED(submit()->stop_bytes = UINT32_MAX);
    REFUSED(submit()->stop_bytes = UINT32_MAX - 200);
    REFUSED(submit()->stop_bytes = 0);
    REFUSED(submit()->stop_bytes = 7);
    REFUSED(stops()[0] = 0);
    REFUSED(stops()[0] = 4);
    REFUSED(stops()[1] = 1);
    REFUSED(stops()[5] = 2);
    REFUSED(submit()->kind = 0);
    REFUSED(submit()->kind = 4);
    REFUSED(submit()->kind = TSR_PAYLOAD_TOKENS); /* 9 bytes are no ids */
    REFUSED(submit()->flags = TSR_SUBMIT_FLAGS_ALL + 1);
    REFUSED(submit()->flags = TSR_SUBMIT_EMBED | TSR_SUBMIT_TOKENIZE);
    REFUSED(submit()->flags = TSR_SUBMIT_DETOKENIZE | TSR_SUBMIT_RENDER);
    REFUSED(submit()->flags = TSR_SUBMIT_DETOKENIZE); /* of a text */
    REFUSED(submit()->flags = TSR_SUBMIT_RENDER);
    REFUSED(submit()->reserved[0] = 1);
    REFUSED(submit()->reserved[5] = 1);
#undef REFUSED
}

static void test_wire_refuses_bad_small_records(void **state)
{
    (void)state;
    struct tsr_wire_continue *c = (void *)record.bytes;
    *c = (struct tsr_wire_continue){.request = 1, .chunk_bytes = 10};
    record.info = (struct tsr_record_info){.bytes = sizeof *c + 10, .type = TSR_REQ_CONTINUE};
    assert_int_equal(check(), 0);
    c->chunk_bytes = 11;
    assert_int_equal(check(), -EINVAL);
    c->chunk_bytes = 0;
    record.info.bytes = sizeof *c;
    assert_int_equal(check(), -EINVAL);
    struct tsr_wire_credit *credit = (void *)record.bytes;
    *credit = (struct tsr_wire_credit){.request = 1, .credit = 5};
    record.info.type = TSR_REQ_CREDIT;
    assert_int_equal(check(), 0);
    assert_int_equal(request.credit->credit, 5);
    credit->reserved = 1;
    assert_int_equal(check(), -EINVAL);
    credit->reserved = 0;
    record.info.bytes++;
    assert_int_equal(check(), -EINVAL);
    struct tsr_wire_plain *plain = (void *)record.bytes;
    *plain = (struct tsr_wire_plain){.request = 1};
    record.info = (struct tsr_record_info){.bytes = sizeof *plain, .type = TSR_REQ_STATUS};
    assert_int_equal(check(), 0);
    plain->reserved = UINT64_MAX;
    assert_int_equal(check(), -EINVAL);
}

static void test_wire_refuses_bad_chats(void **state)
{
    (void)state;
    const struct tsr_wire_message messages[] = {{"user", "Hello", 4, 5}, {"assistant", "", 9, 0}};
    uint8_t good[256], bad[256];
    uint32_t bytes = tsr_wire_chat_bytes(messages, 2, 2);
    assert_int_equal(bytes, 4 + 8 + 9 + 8 + 9 + 4 + 2);
    tsr_wire_chat_build(good, messages, 2, "{}", 2);
    struct tsr_wire_chat chat;
    assert_int_equal(tsr_wire_chat_open(&chat, good, bytes, &err), 0);
    for (uint32_t cut = 0; cut < bytes; cut++) {
        assert_int_equal(tsr_wire_chat_open(&chat, good, cut, &err), -EINVAL);
    }
    good[bytes] = 0;
    assert_int_equal(tsr_wire_chat_open(&chat, good, bytes + 1, &err), -EINVAL);
    const struct {
        uint32_t off, value;
    } cases[] = {
        {0, 0},
        {0, 1},
        {0, 3},
        {0, UINT32_MAX}, /* messages */
        {4, 0},
        {4, 65},
        {4, UINT32_MAX}, /* role */
        {8, 6},
        {8, 4},
        {8, UINT32_MAX},
        {8, UINT32_MAX - 3}, /* content */
        {bytes - 6, 1},
        {bytes - 6, 3},
        {bytes - 6, UINT32_MAX}, /* extra */
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        memcpy(bad, good, bytes);
        memcpy(bad + cases[i].off, &cases[i].value, 4);
        assert_int_equal(tsr_wire_chat_open(&chat, bad, bytes, &err), -EINVAL);
    }
    const struct tsr_wire_message nobody = {"", "x", 0, 1};
    assert_int_equal(tsr_wire_chat_bytes(&nobody, 1, 0), 0);
    assert_int_equal(tsr_wire_chat_bytes(messages, 0, 0), 0);
    const uint8_t nothing[8] = {0};
    assert_int_equal(tsr_wire_chat_open(&chat, nothing, sizeof nothing, &err), -EINVAL);
    assert_int_equal(tsr_wire_chat_bytes(messages, TSR_WIRE_MESSAGES_MAX + 1, 0), 0);
    assert_int_equal(tsr_wire_chat_bytes(messages, 2, UINT32_MAX), 0);
}

/* ---- What is good ---- */

static void test_wire_takes_a_submit_apart(void **state)
{
    (void)state;
    assert_int_equal(check(), 0);
    assert_int_equal(request.type, TSR_REQ_SUBMIT);
    assert_int_equal(request.request, 77);
    assert_int_equal(request.submit.bias[1].token, 6);
    assert_memory_equal(request.submit.chunk, "hello", 5);
    uint32_t at = 0, bytes;
    const char *text;
    assert_int_equal(tsr_wire_stop_next(&request, &at, &text, &bytes), 1);
    assert_int_equal(bytes, 3);
    assert_memory_equal(text, "abc", 3);
    assert_int_equal(tsr_wire_stop_next(&request, &at, &text, &bytes), 1);
    assert_int_equal(bytes, 1);
    assert_int_equal(text[0], 'x');
    assert_int_equal(tsr_wire_stop_next(&request, &at, &text, &bytes), 0);
}

static void test_wire_walks_a_chat(void **state)
{
    (void)state;
    const struct tsr_wire_message messages[] = {{"system", NULL, 6, 0}, {"user", "Hello", 4, 5}};
    uint8_t bytes[256];
    tsr_wire_chat_build(bytes, messages, 2, NULL, 0);
    struct tsr_wire_chat chat;
    assert_int_equal(tsr_wire_chat_open(&chat, bytes, tsr_wire_chat_bytes(messages, 2, 0), &err),
                     0);
    assert_int_equal(chat.count, 2);
    struct tsr_wire_message m;
    assert_int_equal(tsr_wire_chat_next(&chat, &m), 1);
    assert_int_equal(m.content_bytes, 0);
    assert_int_equal(tsr_wire_chat_next(&chat, &m), 1);
    assert_memory_equal(m.role, "user", 4);
    assert_memory_equal(m.content, "Hello", 5);
    assert_int_equal(tsr_wire_chat_next(&chat, &m), 0);
    const char *json;
    uint32_t extra;
    tsr_wire_chat_extra(&chat, &json, &extra);
    assert_int_equal(extra, 0);
    assert_null(json);

    static const char only[] = "{\"messages\":[]}";
    const uint32_t only_bytes = sizeof only - 1;
    tsr_wire_chat_build(bytes, NULL, 0, only, only_bytes);
    assert_int_equal(
        tsr_wire_chat_open(&chat, bytes, tsr_wire_chat_bytes(NULL, 0, only_bytes), &err), 0);
    assert_int_equal(tsr_wire_chat_next(&chat, &m), 0);
    tsr_wire_chat_extra(&chat, &json, &extra);
    assert_int_equal(extra, only_bytes);
    assert_memory_equal(json, only, only_bytes);
}

static void test_wire_names_codes_and_reasons(void **state)
{
    (void)state;
    assert_string_equal(tsr_code_name(TSR_CODE_BUSY), "busy");
    assert_string_equal(tsr_reason_name(TSR_REASON_TOKENIZED), "tokenized");
    assert_string_equal(tsr_reason_name(TSR_REASON_WRITTEN), "written");
    for (uint32_t i = 0; i < 20; i++) {
        assert_non_null(tsr_code_name(i));
        assert_non_null(tsr_reason_name(i));
    }
    assert_string_equal(tsr_code_name(UINT32_MAX), "unknown");
    assert_string_equal(tsr_reason_name(UINT32_MAX), "unknown");
}

int main(void)
{
#define T(name) cmocka_unit_test_setup(name, setup)
    const struct CMUnitTest tests[] = {
        T(test_wire_drops_what_cannot_be_meant),
        T(test_wire_refuses_numbers_out_of_range),
        T(test_wire_refuses_lengths_that_disagree),
        T(test_wire_refuses_bad_small_records),
        T(test_wire_refuses_bad_chats),
        T(test_wire_takes_a_submit_apart),
        T(test_wire_walks_a_chat),
        T(test_wire_names_codes_and_reasons),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
