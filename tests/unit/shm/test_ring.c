#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <tsr/shm/ring.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { BYTES = TSR_RING_BYTES_MIN, RECORD_MAX = BYTES / 4 };

static _Alignas(64) uint8_t data[BYTES];
static _Alignas(64) uint8_t copy[BYTES];
static _Atomic uint64_t head;
static struct tsr_ring_producer out;
static struct tsr_ring_consumer in;
static const uint64_t key = UINT64_C(0x8000000012345600);

static int setup(void **state)
{
    (void)state;
    memset(data, 0, sizeof data);
    atomic_store(&head, 0);
    tsr_ring_producer_init(&out, data, BYTES, &head, key);
    tsr_ring_consumer_init(&in, data, BYTES, &head, key);
    return 0;
}

static void push(uint32_t bytes, uint8_t fill)
{
    uint8_t *record;
    assert_int_equal(tsr_ring_reserve(&out, bytes, 0, (void **)&record), 1);
    memset(record + 16, fill, bytes - 16);
    tsr_ring_commit(&out, 5, 7, bytes);
}

/* What a hostile producer could leave at an offset: any header. */
static void forge(uint64_t offset, uint64_t seq, uint64_t bytes, uint64_t type)
{
    struct tsr_record *record = (void *)(data + offset);
    atomic_store(&record->shape, bytes | type << 32);
    atomic_store(&record->seq, seq);
}

/* ---- Refusals ---- */

static void test_ring_refuses_sizes_that_never_fit(void **state)
{
    (void)state;
    void *record;
    assert_int_equal(tsr_ring_reserve(&out, 0, 0, &record), -EMSGSIZE);
    assert_int_equal(tsr_ring_reserve(&out, 15, 0, &record), -EMSGSIZE);
    assert_int_equal(tsr_ring_reserve(&out, RECORD_MAX + 1, 0, &record), -EMSGSIZE);
    assert_int_equal(tsr_ring_reserve(&out, UINT32_MAX, 0, &record), -EMSGSIZE);
    assert_int_equal(tsr_ring_reserve(&out, RECORD_MAX, 0, &record), 1);
}

static void test_ring_consumer_refuses_forged_headers(void **state)
{
    const struct {
        uint64_t bytes, type;
    } cases[] = {
        {0, 1},
        {15, 1},
        {RECORD_MAX + 1, 1},
        {BYTES, 1},
        {UINT32_MAX, 1},
        {UINT32_MAX - 62, 1}, /* its stride would wrap in 32 bits */
        {64, TSR_RECORD_PAD}, /* padding that does not reach the end */
        {BYTES, TSR_RECORD_PAD},
        {RECORD_MAX, TSR_RECORD_PAD},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        setup(state);
        forge(0, key, cases[i].bytes, cases[i].type);
        const void *record;
        struct tsr_record_info info;
        assert_int_equal(tsr_ring_peek(&in, &record, &info), -EPROTO);
        forge(0, key, 64, 1); /* an honest header comes too late */
        assert_int_equal(tsr_ring_peek(&in, &record, &info), -EPROTO);
        assert_int_equal(tsr_ring_read(&in, copy, sizeof copy, &info), -EPROTO);
    }
}

static void test_ring_consumer_refuses_a_record_over_the_end(void **state)
{
    (void)state;
    uint64_t position = BYTES - 128;
    in.head = in.head_shown = position;
    forge(position, key + position, 129, 1);
    const void *record;
    struct tsr_record_info info;
    assert_int_equal(tsr_ring_peek(&in, &record, &info), -EPROTO);
}

static void test_ring_consumer_ignores_what_is_not_there(void **state)
{
    (void)state;
    const uint64_t seqs[] = {0,           1,           key - 1,    key + 1, key + 64,
                             key + BYTES, key - BYTES, UINT64_MAX, ~key};
    const void *record;
    struct tsr_record_info info;
    for (size_t i = 0; i < sizeof seqs / sizeof seqs[0]; i++) {
        forge(0, seqs[i], UINT32_MAX, 1);
        assert_int_equal(tsr_ring_peek(&in, &record, &info), 0);
        assert_false(tsr_ring_has_record(&in));
    }
    assert_false(in.lied);
}

static void test_ring_producer_refuses_an_impossible_head(void **state)
{
    const uint64_t lies[] = {1, 63, 64, 65, BYTES, UINT64_MAX, UINT64_MAX - 63, UINT64_C(1) << 63};
    for (size_t i = 0; i < sizeof lies / sizeof lies[0]; i++) {
        setup(state);
        atomic_store(&head, lies[i]); /* nothing was published: only 0 is true */
        assert_int_equal(tsr_ring_room(&out), -EPROTO);
        atomic_store(&head, 0);
        void *record;
        assert_int_equal(tsr_ring_reserve(&out, 64, 0, &record), -EPROTO);
        assert_int_equal(tsr_ring_room(&out), -EPROTO);
    }
    /* Backwards, and past what is published though written. */
    setup(state);
    push(640, 1);
    tsr_ring_publish(&out);
    atomic_store(&head, 640);
    assert_int_equal(tsr_ring_room(&out), BYTES);
    atomic_store(&head, 576);
    assert_int_equal(tsr_ring_room(&out), -EPROTO);
    setup(state);
    push(64, 1);
    atomic_store(&head, 64);
    assert_int_equal(tsr_ring_room(&out), -EPROTO);
}

static void test_ring_read_refuses_what_is_larger_than_the_buffer(void **state)
{
    (void)state;
    push(500, 3);
    tsr_ring_publish(&out);
    struct tsr_record_info info;
    assert_int_equal(tsr_ring_read(&in, copy, 499, &info), -EMSGSIZE);
    assert_int_equal(info.bytes, 500);
    assert_int_equal(tsr_ring_read(&in, copy, 500, &info), 1);
    assert_int_equal(tsr_ring_read(&in, copy, 500, &info), 0);
}

/* ---- Records ---- */

static void test_ring_shows_a_batch_all_at_once(void **state)
{
    (void)state;
    const void *record;
    struct tsr_record_info info;
    assert_false(tsr_ring_publish(&out));
    push(64, 1);
    push(100, 2);
    push(16, 3);
    assert_int_equal(tsr_ring_peek(&in, &record, &info), 0);
    assert_false(tsr_ring_has_record(&in));
    assert_true(tsr_ring_publish(&out));
    assert_true(tsr_ring_has_record(&in));
    const uint32_t sizes[] = {64, 100, 16};
    for (int i = 0; i < 3; i++) {
        assert_int_equal(tsr_ring_peek(&in, &record, &info), 1);
        assert_int_equal(tsr_ring_peek(&in, &record, &info), 1); /* the same */
        assert_int_equal(info.bytes, sizes[i]);
        assert_int_equal(info.type, 5);
        assert_int_equal(info.flags, 7);
        assert_int_equal((uintptr_t)record % 64, 0);
        for (uint32_t k = 16; k < sizes[i]; k++) {
            assert_int_equal(((const uint8_t *)record)[k], i + 1);
        }
        tsr_ring_advance(&in);
    }
    assert_int_equal(tsr_ring_peek(&in, &record, &info), 0);
    assert_int_equal(atomic_load(&head), 256);
}

static void test_ring_keeps_a_commit_shorter_than_its_reserve(void **state)
{
    (void)state;
    void *record;
    assert_int_equal(tsr_ring_reserve(&out, 1000, 0, &record), 1);
    tsr_ring_commit(&out, 1, 0, 20);
    push(64, 9);
    tsr_ring_publish(&out);
    struct tsr_record_info info;
    assert_int_equal(tsr_ring_read(&in, copy, sizeof copy, &info), 1);
    assert_int_equal(info.bytes, 20);
    assert_int_equal(tsr_ring_read(&in, copy, sizeof copy, &info), 1);
    assert_int_equal(info.bytes, 64);
    assert_int_equal(copy[16], 9);
    assert_int_equal(copy[0], 0); /* the header is not copied */
}

static void test_ring_fills_and_keeps_what_it_is_told(void **state)
{
    (void)state;
    void *record;
    uint32_t count = 0;
    while (tsr_ring_reserve(&out, 64, 256, &record) == 1) {
        tsr_ring_commit(&out, 1, 0, 64);
        count++;
    }
    assert_int_equal(count, (BYTES - 256) / 64);
    while (tsr_ring_reserve(&out, 64, 0, &record) == 1) {
        tsr_ring_commit(&out, 1, 0, 64);
        count++;
    }
    assert_int_equal(count, BYTES / 64);
    tsr_ring_publish(&out);
    assert_int_equal(tsr_ring_room(&out), 0);
    struct tsr_record_info info;
    for (uint32_t i = 0; i < count; i++) {
        assert_int_equal(tsr_ring_read(&in, copy, sizeof copy, &info), 1);
    }
    assert_int_equal(tsr_ring_read(&in, copy, sizeof copy, &info), 0);
    assert_int_equal(tsr_ring_room(&out), BYTES);
}

/* Every size at every position against a plain copy. */
static void test_ring_carries_records_over_its_end(void **state)
{
    (void)state;
    uint32_t random = 1;
    uint64_t sent = 0, got = 0;
    uint32_t sizes[256];
    while (got < 20000) {
        random = random * 1664525u + 1013904223u;
        uint32_t bytes = 16 + (random >> 12) % (RECORD_MAX - 15);
        uint64_t cost = tsr_ring_cost(&out, bytes);
        int64_t room = tsr_ring_room(&out);
        uint8_t *record;
        int reserved = tsr_ring_reserve(&out, bytes, 0, (void **)&record);
        assert_int_equal(reserved, (uint64_t)room >= cost);
        if (reserved) {
            for (uint32_t i = 16; i < bytes; i++) {
                record[i] = (uint8_t)(sent + i);
            }
            sizes[sent % 256] = bytes;
            sent++;
            tsr_ring_commit(&out, (uint16_t)(sent % 1000), 0, bytes);
            if (random & 64) {
                tsr_ring_publish(&out);
            }
        }
        assert_true(tsr_ring_producer_is_valid(&out));
        if (!reserved || random & 32) {
            tsr_ring_publish(&out);
            struct tsr_record_info info;
            while (tsr_ring_read(&in, copy, sizeof copy, &info) == 1) {
                assert_int_equal(info.bytes, sizes[got % 256]);
                for (uint32_t i = 16; i < info.bytes; i++) {
                    assert_int_equal(copy[i], (uint8_t)(got + i));
                }
                got++;
                assert_int_equal(info.type, got % 1000);
                if (random & 128) {
                    break;
                }
            }
            assert_true(tsr_ring_consumer_is_valid(&in));
        }
    }
}

/* Payload that looks like the headers to come is not taken for them: they lack the key. And with
 * the key, as the producer itself could write it, only the producer's own records are at stake. */
static void test_ring_is_not_fooled_by_leftovers(void **state)
{
    (void)state;
    struct tsr_record_info info;
    for (int lap = 0; lap < 50; lap++) {
        uint64_t *record;
        uint32_t bytes = 64 * (1 + (uint32_t)lap % 16);
        while (tsr_ring_reserve(&out, bytes, 0, (void **)&record) == 1) {
            for (uint32_t i = 2; i < bytes / 8; i++) {
                record[i] = out.written + BYTES + i * 8; /* positions of the next lap */
            }
            tsr_ring_commit(&out, 1, 0, bytes);
        }
        uint64_t written = out.written;
        tsr_ring_publish(&out);
        while (tsr_ring_read(&in, copy, sizeof copy, &info) == 1) {
            assert_int_equal(info.bytes, bytes);
        }
        assert_int_equal(in.head, written);
    }
}

static void test_ring_keys_differ_and_keep_their_top_bit(void **state)
{
    (void)state;
    uint64_t a = tsr_ring_key(), b = tsr_ring_key();
    assert_int_not_equal(a, b);
    assert_true(a >> 63 && b >> 63);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup(name, setup)
    const struct CMUnitTest tests[] = {
        T(test_ring_refuses_sizes_that_never_fit),
        T(test_ring_consumer_refuses_forged_headers),
        T(test_ring_consumer_refuses_a_record_over_the_end),
        T(test_ring_consumer_ignores_what_is_not_there),
        T(test_ring_producer_refuses_an_impossible_head),
        T(test_ring_read_refuses_what_is_larger_than_the_buffer),
        T(test_ring_shows_a_batch_all_at_once),
        T(test_ring_keeps_a_commit_shorter_than_its_reserve),
        T(test_ring_fills_and_keeps_what_it_is_told),
        T(test_ring_carries_records_over_its_end),
        T(test_ring_is_not_fooled_by_leftovers),
        T(test_ring_keys_differ_and_keep_their_top_bit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
