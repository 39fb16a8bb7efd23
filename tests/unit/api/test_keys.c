#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include <tsr/api/keys.h>

#define SECOND UINT64_C(1000000000)

/* SHA-256 of "abc" (FIPS 180-2, appendix B.1), of "hello" and of "". */
#define ABC   "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
#define HELLO "sha256:2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"
#define EMPTY "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

static char folder[] = "/tmp/test_keys_XXXXXX";
static char path[64];
static struct tsr_keys *keys;
static struct tsr_err err;
static uint32_t retry_s;

static int make_folder(void **state)
{
    (void)state;
    if (!mkdtemp(folder)) {
        return -1;
    }
    snprintf(path, sizeof path, "%s/keys", folder);
    return 0;
}

static int remove_folder(void **state)
{
    (void)state;
    remove(path);
    return rmdir(folder);
}

static int close_keys(void **state)
{
    (void)state;
    tsr_keys_close(keys);
    keys = NULL;
    return 0;
}

/* In place of what stood there, as a person should do it. */
static void write_bytes(const char *text, size_t size)
{
    char beside[80];
    snprintf(beside, sizeof beside, "%s.new", path);
    FILE *file = fopen(beside, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(text, 1, size, file), size);
    assert_int_equal(fclose(file), 0);
    assert_int_equal(chmod(beside, 0640), 0);
    assert_int_equal(rename(beside, path), 0);
}

static void write_file(const char *text)
{
    write_bytes(text, strlen(text));
}

static void open_with(const char *text)
{
    write_file(text);
    if (tsr_keys_open(&keys, path, NULL, &err) < 0) {
        fail_msg("%s", err.text);
    }
}

static struct tsr_key *find(const char *secret)
{
    return tsr_keys_find(keys, secret, strlen(secret));
}

static int admit_at(struct tsr_key *key, uint64_t now_ns)
{
    return tsr_keys_admit(key, now_ns, &retry_s, &err);
}

static void test_keys_refuses_files_with_file_and_line(void **state)
{
    (void)state;
    static const struct {
        const char *text, *says;
    } rows[] = {
        {"a", ":1: behind the name 'a' must stand sha256:"},
        {"\n\n # x\na b\n", ":4: behind the name 'a' must stand sha256:"},
        {"a md5:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad", ":1: behind"},
        {"a sha256:ba78", ":1: behind the name 'a'"},
        {"a " ABC "0", ":1: behind the name 'a'"},
        {"a sha256:xa7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad", ":1: behind"},
        {"a! " ABC, ":1: the line must begin with the key's name"},
        {"h\xc3\xa9 " ABC, ":1: the line must begin with the key's name"},
        {ABC, ":1: the line must begin with the key's name"},
        {"12345678901234567890123456789012345678901234567890123456789012345 " ABC, ":1: the line"},
        {"a " ABC " secret", ":1: behind the hash of 'a' may stand requests=N/min"},
        {"a " ABC " secret=1", ":1: behind the hash of 'a' may stand"},
        {"a " ABC " request=1/min", ":1: behind the hash of 'a' may stand"},
        {"a " ABC " requests=60", ":1: requests=60: it must be requests=N/min with N from 1 to"},
        {"a " ABC " requests=0/min", "requests=0/min: it must be"},
        {"a " ABC " requests=-1/min", "it must be"},
        {"a " ABC " requests= 1/min", "requests=: it must be"},
        {"a " ABC " requests=1/hour", "it must be"},
        {"a " ABC " tokens=1000000001/min", "it must be"},
        {"a " ABC " tokens=99999999999999999999999/min", "it must be"},
        {"a " ABC " parallel=x", "it must be"},
        {"a " ABC " parallel=", "it must be"},
        {"a " ABC " parallel=0x10", "it must be"},
        {"a " ABC " tenant=0", "tenant=0: it must be tenant=N with N from 1 to"},
        {"a " ABC " priority=256", "priority=256: it must be priority=N with N from 0 to 255"},
        {"a " ABC " tenant=1 tenant=1", ":1: tenant stands twice"},
        {"a " ABC "\na " HELLO, ":2: the name 'a' stands on line 1 already"},
        {"a " EMPTY, ":1: the hash of 'a' is that of an empty key"},
        {"b " ABC "\na " ABC, ":2: the key of 'a' is that of 'b' on line 1"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        write_file(rows[i].text);
        assert_int_equal(tsr_keys_open(&keys, path, NULL, &err), -EINVAL);
        assert_null(keys);
        if (strncmp(err.text, path, strlen(path)) != 0 || !strstr(err.text, rows[i].says) ||
            strstr(err.text, "secret")) {
            fail_msg("%s\n  says %s", rows[i].text, err.text);
        }
    }
    write_bytes("a\0b " ABC, 5 + 71);
    assert_int_equal(tsr_keys_open(&keys, path, NULL, &err), -EINVAL);
    assert_non_null(strstr(err.text, ":1: a NUL byte"));
}

static void test_keys_refuses_what_others_can_write(void **state)
{
    (void)state;
    assert_int_equal(tsr_keys_open(&keys, "/nonexistent/keys", NULL, &err), -ENOENT);
    assert_int_equal(tsr_keys_open(&keys, folder, NULL, &err), -EINVAL);
    assert_non_null(strstr(err.text, "not a regular file"));
    write_file("a " ABC "\n");
    assert_int_equal(chmod(path, 0642), 0);
    assert_int_equal(tsr_keys_open(&keys, path, NULL, &err), -EPERM);
    assert_non_null(strstr(err.text, "mode 642"));
    assert_null(keys);
    tsr_keys_close(NULL);
}

static void test_keys_refuses_too_much(void **state)
{
    (void)state;
    enum { BYTES = (1 << 20) + 1 };
    char *text = malloc(BYTES);
    assert_non_null(text);
    memset(text, '\n', BYTES);
    write_bytes(text, BYTES);
    assert_int_equal(tsr_keys_open(&keys, path, NULL, &err), -E2BIG);
    size_t size = 0;
    for (int i = 0; i <= TSR_KEYS_MAX; i++) {
        size += (size_t)sprintf(text + size, "k%d sha256:%064x\n", i, i);
    }
    write_bytes(text, size);
    assert_int_equal(tsr_keys_open(&keys, path, NULL, &err), -E2BIG);
    assert_non_null(strstr(err.text, ":4097: more than 4096 keys"));
    free(text);
}

static void test_keys_are_found_by_their_secret(void **state)
{
    (void)state;
    open_with("# keys\n\n  alice\t" ABC " requests=60/min tokens=1000/min parallel=4 tenant=7 "
              "priority=200 # hers\r\nbob " HELLO "#x");
    const struct tsr_key_rules *rules = tsr_key_rules(find("abc"));
    assert_string_equal(rules->name, "alice");
    assert_int_equal(rules->requests_min, 60);
    assert_int_equal(rules->tokens_min, 1000);
    assert_int_equal(rules->parallel, 4);
    assert_int_equal(rules->tenant, 7);
    assert_int_equal(rules->priority, 200);
    rules = tsr_key_rules(find("hello"));
    assert_string_equal(rules->name, "bob");
    assert_true(!rules->requests_min && !rules->tokens_min && !rules->parallel && !rules->tenant);
    assert_int_equal(rules->priority, 128);
    assert_null(find("abd"));
    assert_null(find(""));
    assert_null(find("ABC"));
    assert_null(tsr_keys_find(keys, "abc", 4));
    assert_null(find("ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"));
}

static void test_keys_made_are_found(void **state)
{
    (void)state;
    enum { N = 100 };
    static char secrets[N][TSR_KEYS_SECRET_BYTES], text[N * TSR_KEYS_LINE_BYTES];
    size_t size = 0;
    for (int i = 0; i < N; i++) {
        char name[16], line[TSR_KEYS_LINE_BYTES];
        snprintf(name, sizeof name, "k%d", i);
        assert_int_equal(tsr_keys_make(name, secrets[i], line, &err), 0);
        assert_int_equal(strlen(secrets[i]), 68);
        assert_int_equal(strncmp(secrets[i], "tsr-", 4), 0);
        assert_null(strstr(line, secrets[i] + 4));
        size += (size_t)sprintf(text + size, "%s parallel=%d\n", line, i + 1);
    }
    open_with(text);
    for (int i = 0; i < N; i++) {
        assert_int_equal(tsr_key_rules(find(secrets[i]))->parallel, i + 1);
    }
    static const char *const names[] = {"", "a b", "a\n", "a#", "\xc3\xa9"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char line[TSR_KEYS_LINE_BYTES];
        assert_int_equal(tsr_keys_make(names[i], secrets[0], line, &err), -EINVAL);
    }
}

static void test_keys_limit_requests_a_minute(void **state)
{
    (void)state;
    uint64_t now = 1000 * SECOND;
    open_with("a " ABC " requests=3/min\n");
    struct tsr_key *key = find("abc");
    for (int i = 0; i < 3; i++) {
        assert_int_equal(admit_at(key, now), 0);
        tsr_keys_release(key);
    }
    assert_int_equal(admit_at(key, now), -EAGAIN);
    assert_int_equal(retry_s, 20);
    assert_string_equal(err.text, "the key 'a' may make 3 requests a minute: try again in 20 s");
    assert_int_equal(admit_at(key, now + 20 * SECOND - 1), -EAGAIN);
    assert_int_equal(retry_s, 1);
    assert_int_equal(admit_at(key, now + 20 * SECOND), 0);
    assert_int_equal(admit_at(key, now + 20 * SECOND), -EAGAIN);
    now += 1000 * SECOND; /* what was not used does not pile up */
    for (int i = 0; i < 3; i++) {
        assert_int_equal(admit_at(key, now), 0);
    }
    assert_int_equal(admit_at(key, now), -EAGAIN);
}

static void test_keys_limit_tokens_a_minute(void **state)
{
    (void)state;
    uint64_t now = 5 * SECOND;
    open_with("a " ABC " tokens=600/min\nb " HELLO "\n");
    struct tsr_key *key = find("abc");
    assert_int_equal(admit_at(key, now), 0);
    tsr_keys_charge(key, 599, now);
    assert_int_equal(admit_at(key, now), 0); /* one is left */
    tsr_keys_charge(key, 101, now);
    assert_int_equal(admit_at(key, now), -EAGAIN); /* 100 too many: 10 s, and then one more */
    assert_int_equal(retry_s, 11);
    assert_non_null(strstr(err.text, "may use 600 tokens a minute: try again in 11 s"));
    assert_int_equal(admit_at(key, now + 11 * SECOND), 0);
    tsr_keys_charge(key, UINT64_MAX, now + 11 * SECOND);
    tsr_keys_charge(key, UINT64_MAX / 60, now + 11 * SECOND);
    assert_int_equal(admit_at(key, now + 12 * SECOND), -EAGAIN);
    assert_true(retry_s < 24 * 3600);
    assert_int_equal(admit_at(key, now + (11 + 24 * 3600) * SECOND), 0);
    tsr_keys_charge(find("hello"), UINT64_MAX, now);
    assert_int_equal(admit_at(find("hello"), now), 0);
}

static void test_keys_limit_requests_at_once(void **state)
{
    (void)state;
    open_with("a " ABC " parallel=2 requests=3/min\n");
    struct tsr_key *key = find("abc");
    assert_int_equal(admit_at(key, 1), 0);
    assert_int_equal(admit_at(key, 1), 0);
    for (int i = 0; i < 5; i++) { /* a refusal takes nothing of the rate */
        assert_int_equal(admit_at(key, 1), -EAGAIN);
    }
    assert_int_equal(retry_s, 1);
    assert_non_null(strstr(err.text, "may have 2 requests open at once"));
    tsr_keys_release(key);
    assert_int_equal(admit_at(key, 1), 0);
    tsr_keys_release(key);
    assert_int_equal(admit_at(key, 1), -EAGAIN);
    assert_non_null(strstr(err.text, "3 requests a minute"));
}

static void test_keys_that_stay_keep_what_they_used(void **state)
{
    (void)state;
    open_with("a " ABC " requests=1/min parallel=1\nb " HELLO "\n");
    struct tsr_key *a = find("abc"), *b = find("hello");
    assert_int_equal(admit_at(a, 0), 0);
    assert_int_equal(admit_at(b, 0), 0);
    write_file("c " ABC "\na " HELLO " requests=1/min\n"); /* b has gone, a has another key */
    assert_int_equal(tsr_keys_reload(keys, &err), 0);
    assert_string_equal(tsr_key_rules(find("abc"))->name, "c");
    assert_ptr_equal(find("hello"), a);
    assert_int_equal(tsr_key_rules(a)->parallel, 0);
    assert_int_equal(admit_at(a, 0), -EAGAIN);
    assert_string_equal(tsr_key_rules(b)->name, "b"); /* its request goes on */
    tsr_keys_charge(b, 10, 0);
    tsr_keys_release(b);
    tsr_keys_release(a);
    write_file("");
    assert_int_equal(tsr_keys_reload(keys, &err), 0);
    assert_null(find("hello"));
}

static void test_keys_are_read_again_when_the_file_changes(void **state)
{
    (void)state;
    open_with("a " ABC "\n");
    assert_int_equal(tsr_keys_poll(keys, 1 * SECOND, &err), 0);
    write_file("b " ABC "\n");
    assert_int_equal(tsr_keys_poll(keys, 1 * SECOND + 1, &err), 0); /* too early to look */
    assert_int_equal(tsr_keys_poll(keys, 2 * SECOND, &err), 1);
    assert_string_equal(tsr_key_rules(find("abc"))->name, "b");
    write_file("wrong\n");
    assert_int_equal(tsr_keys_poll(keys, 3 * SECOND, &err), -EINVAL);
    assert_int_equal(tsr_keys_poll(keys, 4 * SECOND, &err), 0);
    assert_non_null(find("abc"));
    remove(path);
    assert_int_equal(tsr_keys_poll(keys, 5 * SECOND, &err), -ENOENT);
    assert_int_equal(tsr_keys_poll(keys, 6 * SECOND, &err), 0);
    assert_non_null(find("abc"));
    write_file("c " ABC "\n");
    assert_int_equal(tsr_keys_poll(keys, 7 * SECOND, &err), 1);
    assert_string_equal(tsr_key_rules(find("abc"))->name, "c");
}

enum { THREADS = 4, TRIES = 2000, RATE = 1000, PARALLEL = 3 };

struct thread {
    struct tsr_keys *keys;
    pthread_t thread;
    uint32_t admitted, most; /* requests; that were open at once, as this thread could see */
};

static atomic_uint open_at_once;

static void *asks_much(void *ctx)
{
    struct thread *t = ctx;
    struct tsr_key *rate = tsr_keys_find(t->keys, "abc", 3);
    struct tsr_key *parallel = tsr_keys_find(t->keys, "hello", 5);
    for (int i = 0; i < TRIES; i++) {
        uint32_t wait_s;
        struct tsr_err e;
        if (tsr_keys_admit(rate, SECOND, &wait_s, &e) == 0) {
            t->admitted++;
            tsr_keys_charge(rate, 1, SECOND);
            tsr_keys_release(rate);
        }
        if (tsr_keys_admit(parallel, SECOND, &wait_s, &e) == 0) {
            uint32_t n = atomic_fetch_add(&open_at_once, 1) + 1;
            t->most = n > t->most ? n : t->most;
            atomic_fetch_sub(&open_at_once, 1);
            tsr_keys_release(parallel);
        }
    }
    return NULL;
}

static void test_keys_limits_hold_for_threads_together(void **state)
{
    (void)state;
    struct thread threads[THREADS] = {0};
    uint32_t admitted = 0;
    open_with("a " ABC " requests=1000/min tokens=1000/min\nb " HELLO " parallel=3\n");
    for (int i = 0; i < THREADS; i++) {
        assert_int_equal(tsr_keys_open(&threads[i].keys, path, keys, &err), 0);
    }
    for (int i = 0; i < THREADS; i++) {
        assert_int_equal(pthread_create(&threads[i].thread, NULL, asks_much, &threads[i]), 0);
    }
    for (int i = 0; i < THREADS; i++) {
        pthread_join(threads[i].thread, NULL);
        admitted += threads[i].admitted;
        assert_true(threads[i].most <= PARALLEL);
    }
    assert_int_equal(admitted, RATE);
    assert_int_equal(admit_at(find("abc"), SECOND), -EAGAIN);
    assert_non_null(strstr(err.text, "1000 tokens"));
    write_file("a " ABC " requests=1000/min\n"); /* one has read it again, the others not yet */
    assert_int_equal(tsr_keys_reload(threads[0].keys, &err), 0);
    assert_int_equal(
        tsr_keys_admit(tsr_keys_find(threads[0].keys, "abc", 3), SECOND, &retry_s, &err), -EAGAIN);
    for (int i = 0; i < THREADS; i++) {
        tsr_keys_close(threads[i].keys);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_keys_refuses_files_with_file_and_line),
        cmocka_unit_test(test_keys_refuses_what_others_can_write),
        cmocka_unit_test(test_keys_refuses_too_much),
        cmocka_unit_test_teardown(test_keys_are_found_by_their_secret, close_keys),
        cmocka_unit_test_teardown(test_keys_made_are_found, close_keys),
        cmocka_unit_test_teardown(test_keys_limit_requests_a_minute, close_keys),
        cmocka_unit_test_teardown(test_keys_limit_tokens_a_minute, close_keys),
        cmocka_unit_test_teardown(test_keys_limit_requests_at_once, close_keys),
        cmocka_unit_test_teardown(test_keys_that_stay_keep_what_they_used, close_keys),
        cmocka_unit_test_teardown(test_keys_limits_hold_for_threads_together, close_keys),
        cmocka_unit_test_teardown(test_keys_are_read_again_when_the_file_changes, close_keys),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
