#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "pair.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>

static struct tsr_err err;

/* A connection by hand, for clients that do not keep the rules. */
static int knock_raw(const struct pair *pair)
{
    int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    strcpy(address.sun_path, pair->path);
    assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof address), 0);
    return fd;
}

static void step(struct pair *pair)
{
    struct tsr_door_event event;
    for (int i = 0; i < 20; i++) {
        tsr_door_step(pair->door, &event, 1);
    }
}

static void send_greet(int fd, uint32_t type, uint32_t version)
{
    struct tsr_greet greet = {.type = type, .version = version};
    assert_int_equal(send(fd, &greet, sizeof greet, MSG_NOSIGNAL), sizeof greet);
}

/* The engine's answer; a reset is told once before the last message. */
static struct tsr_greet answer(struct pair *pair, int fd)
{
    struct tsr_greet greet = {0};
    step(pair);
    ssize_t got = recv(fd, &greet, sizeof greet, MSG_DONTWAIT);
    if (got < 0 && errno == ECONNRESET) {
        got = recv(fd, &greet, sizeof greet, MSG_DONTWAIT);
    }
    assert_int_equal(got, sizeof greet);
    return greet;
}

static void assert_hung_up(int fd)
{
    char byte;
    ssize_t got = recv(fd, &byte, 1, MSG_DONTWAIT);
    if (got < 0 && errno == ECONNRESET) {
        got = recv(fd, &byte, 1, MSG_DONTWAIT);
    }
    assert_int_equal(got, 0);
    close(fd);
}

/* ---- Refusals ---- */

static void test_door_refuses_bad_paths_and_policies(void **state)
{
    (void)state;
    struct tsr_door *door;
    char longer[200];
    memset(longer, 'x', sizeof longer);
    longer[sizeof longer - 1] = '\0';
    assert_int_equal(tsr_door_open(&door, "", NULL, &err), -EINVAL);
    assert_int_equal(tsr_door_open(&door, longer, NULL, &err), -EINVAL);
    assert_int_equal(tsr_door_open(&door, "/proc/none/engine.sock", NULL, &err), -ENOENT);
    assert_non_null(strstr(err.text, "/proc/none"));
    assert_int_equal(tsr_door_open(&door, "/etc/passwd", NULL, &err), -EEXIST);
    struct tsr_door_class class;
    const struct {
        uint32_t request, event, requests;
    } cases[] = {
        {32 << 10, 64 << 10, 4},  {64 << 10, 100000, 4},   {32 << 20, 64 << 10, 4},
        {64 << 10, 128 << 20, 4}, {64 << 10, 64 << 10, 0}, {64 << 10, 64 << 10, 128},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        tsr_door_class_init(&class);
        class.request_ring_bytes = cases[i].request;
        class.event_ring_bytes = cases[i].event;
        class.requests_max = cases[i].requests;
        struct tsr_door_policy policy = {.channels_max = 1};
        tsr_door_policy_add(&policy, TSR_DOOR_UID, 0, &class);
        assert_int_equal(tsr_door_open(&door, "/tmp/tessera-never.sock", &policy, &err), -EINVAL);
    }
    tsr_door_class_init(&class);
    class.event_ring_bytes = 64 << 20; /* beside it, bytes_max has no room for the rest */
    struct tsr_door_policy narrow = {.channels_max = 1};
    tsr_door_policy_add(&narrow, TSR_DOOR_UID, 0, &class);
    assert_int_equal(tsr_door_open(&door, "/tmp/tessera-never.sock", &narrow, &err), -EINVAL);
    assert_non_null(strstr(err.text, "smaller rings"));
    struct tsr_door_policy policy = {0};
    for (int i = 0; i < TSR_DOOR_RULES_MAX; i++) {
        assert_int_equal(tsr_door_policy_add(&policy, TSR_DOOR_UID, 0, &class), 0);
    }
    assert_int_equal(tsr_door_policy_add(&policy, TSR_DOOR_UID, 0, &class), -ENOSPC);
}

static void test_door_does_not_take_a_live_path(void **state)
{
    (void)state;
    struct pair pair;
    assert_int_equal(pair_open_door(&pair, NULL), 0);
    struct tsr_door *other;
    assert_int_equal(tsr_door_open(&other, pair.path, NULL, &err), -EADDRINUSE);
    struct stat status;
    assert_int_equal(lstat(pair.path, &status), 0);
    assert_int_equal(status.st_mode & 0777, 0666);
    pair_close(&pair);
}

static void test_door_replaces_what_a_dead_engine_left(void **state)
{
    (void)state;
    char directory[] = "/tmp/tessera-test-XXXXXX", inner[64], path[96];
    assert_non_null(mkdtemp(directory));
    snprintf(inner, sizeof inner, "%s/run", directory);
    snprintf(path, sizeof path, "%s/engine.sock", inner);
    struct tsr_door *door;
    mode_t mask = umask(0);
    assert_int_equal(tsr_door_open(&door, path, NULL, &err), 0);
    umask(mask);
    struct stat status;
    assert_int_equal(stat(inner, &status), 0);
    assert_int_equal(status.st_mode & 0777, 0750);
    tsr_door_destroy(door, NULL);
    assert_int_equal(access(path, F_OK), -1);
    /* A socket that nobody listens at. */
    int fd = socket(AF_UNIX, SOCK_SEQPACKET, 0);
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    strcpy(address.sun_path, path);
    assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof address), 0);
    close(fd);
    assert_int_equal(tsr_door_open(&door, path, NULL, &err), 0);
    tsr_door_destroy(door, NULL);
    rmdir(inner);
    rmdir(directory);
}

static void test_door_refuses_strangers(void **state)
{
    (void)state;
    struct pair pair;
    assert_int_equal(pair_open_door(&pair, NULL), 0);
    tsr_door_destroy(pair.door, NULL);
    struct tsr_door_class class;
    tsr_door_class_init(&class);
    struct tsr_door_policy policy = {.channels_max = 1};
    tsr_door_policy_add(&policy, TSR_DOOR_UID, geteuid() + 1, &class);
    tsr_door_policy_add(&policy, TSR_DOOR_GID, 0x7ffffff0, &class);
    assert_int_equal(tsr_door_open(&pair.door, pair.path, &policy, &err), 0);
    struct tsr_link_refusal refusal;
    assert_int_equal(pair_knock(&pair, &pair.link, &pair.channel, &refusal), -EPERM);
    assert_int_equal(refusal.code, TSR_CODE_FORBIDDEN);
    assert_int_equal(refusal.retry_ms, 0);
    assert_non_null(strstr(pair.err.text, "group tessera"));
    struct tsr_door_stats stats;
    tsr_door_stats(pair.door, &stats);
    assert_int_equal(stats.refused, 1);
    assert_int_equal(stats.pending, 0);
    pair_close(&pair);
}

static void test_door_refuses_what_makes_no_sense(void **state)
{
    (void)state;
    struct pair pair;
    assert_int_equal(pair_open_door(&pair, NULL), 0);
    /* Another version. */
    int fd = knock_raw(&pair);
    send_greet(fd, TSR_GREET, TSR_WIRE_VERSION + 1);
    struct tsr_greet greet = answer(&pair, fd);
    assert_int_equal(greet.type, TSR_REFUSE);
    assert_int_equal(greet.code, TSR_CODE_VERSION);
    assert_hung_up(fd);
    /* Ready without a grant; a short message; a long one; nothing at all. */
    fd = knock_raw(&pair);
    send_greet(fd, TSR_READY, TSR_WIRE_VERSION);
    assert_int_equal(answer(&pair, fd).code, TSR_CODE_LIED);
    assert_hung_up(fd);
    const size_t sizes[] = {1, 255, 257, 4096};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        char bytes[4096] = {0};
        uint32_t type = TSR_GREET;
        memcpy(bytes, &type, sizes[i] < 4 ? sizes[i] : 4);
        fd = knock_raw(&pair);
        assert_int_equal(send(fd, bytes, sizes[i], 0), sizes[i]);
        assert_int_equal(answer(&pair, fd).code, TSR_CODE_LIED);
        assert_hung_up(fd);
    }
    fd = knock_raw(&pair);
    assert_int_equal(send(fd, "", 0, 0), 0);
    step(&pair);
    assert_hung_up(fd);
    /* Ready without having touched the regions: they are not looked at by the engine. */
    fd = knock_raw(&pair);
    send_greet(fd, TSR_GREET, TSR_WIRE_VERSION);
    assert_int_equal(answer(&pair, fd).type, TSR_GRANT);
    struct tsr_door_stats stats;
    tsr_door_stats(pair.door, &stats);
    assert_int_equal(stats.bytes, 2 * TSR_CTL_BYTES + (64 << 10) + (128 << 10));
    send_greet(fd, TSR_READY, TSR_WIRE_VERSION);
    greet = answer(&pair, fd);
    assert_int_equal(greet.code, TSR_CODE_LIED);
    assert_non_null(strstr(greet.text, "touched"));
    assert_hung_up(fd);
    tsr_door_stats(pair.door, &stats);
    assert_int_equal(stats.bytes, 0);
    assert_int_equal(stats.pending, 0);
    assert_int_equal(stats.channels, 0);
    pair_close(&pair);
}

static void test_door_drops_descriptors_that_are_sent_to_it(void **state)
{
    (void)state;
    struct pair pair;
    assert_int_equal(pair_open_door(&pair, NULL), 0);
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    struct tsr_greet greet = {.type = TSR_GREET, .version = TSR_WIRE_VERSION};
    struct iovec part = {.iov_base = &greet, .iov_len = sizeof greet};
    union {
        char bytes[CMSG_SPACE(sizeof(int))];
        struct cmsghdr align;
    } control = {0};
    struct msghdr message = {.msg_iov = &part,
                             .msg_iovlen = 1,
                             .msg_control = control.bytes,
                             .msg_controllen = sizeof control.bytes};
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof(int));
    memcpy(CMSG_DATA(header), &ends[1], sizeof(int));
    int fd = knock_raw(&pair);
    assert_int_equal(sendmsg(fd, &message, 0), sizeof greet);
    close(ends[1]);
    assert_int_equal(answer(&pair, fd).type, TSR_GRANT);
    /* The last writer is gone, so the engine holds no copy. */
    char byte;
    assert_int_equal(read(ends[0], &byte, 1), 0);
    close(ends[0]);
    close(fd);
    step(&pair);
    pair_close(&pair);
}

static void test_door_limits_what_a_user_takes(void **state)
{
    (void)state;
    struct tsr_door_class class;
    tsr_door_class_init(&class);
    class.channels_max = 2;
    struct pair pair;
    assert_int_equal(pair_open(&pair, &class), 0);
    struct tsr_link second, third;
    struct tsr_channel *channels[2];
    struct tsr_link_refusal refusal;
    assert_int_equal(pair_knock(&pair, &second, &channels[0], NULL), 0);
    assert_int_equal(pair_knock(&pair, &third, &channels[1], &refusal), -EAGAIN);
    assert_int_equal(refusal.code, TSR_CODE_LIMIT);
    assert_true(refusal.retry_ms > 0);
    assert_non_null(strstr(pair.err.text, "2 channels"));
    tsr_door_close(pair.door, channels[0], NULL);
    tsr_link_close(&second);
    assert_int_equal(pair_knock(&pair, &second, &channels[0], NULL), 0);
    tsr_door_close(pair.door, channels[0], NULL);
    tsr_link_close(&second);
    pair_close(&pair);

    tsr_door_class_init(&class);
    class.bytes_max = 300 << 10; /* one channel is 200 KiB */
    assert_int_equal(pair_open(&pair, &class), 0);
    assert_int_equal(pair_knock(&pair, &second, &channels[0], &refusal), -EAGAIN);
    assert_non_null(strstr(pair.err.text, "bytes"));
    pair_close(&pair);

    tsr_door_class_init(&class);
    class.grants_per_minute = 5;
    assert_int_equal(pair_open_door(&pair, &class), 0);
    int opened = 0;
    while (pair_knock(&pair, &second, &channels[0], &refusal) == 0) {
        tsr_door_close(pair.door, channels[0], NULL);
        tsr_link_close(&second);
        opened++;
    }
    assert_int_equal(opened, 5);
    assert_in_range(refusal.retry_ms, 1, 12001);
    assert_non_null(strstr(pair.err.text, "minute"));
    pair_close(&pair);
}

/* The grant's descriptors count against the engine until they are received. */
static void test_door_counts_grants_that_nobody_takes(void **state)
{
    (void)state;
    struct tsr_door_class class;
    tsr_door_class_init(&class);
    class.channels_max = 3;
    struct pair pair;
    assert_int_equal(pair_open_door(&pair, &class), 0);
    int fds[3];
    struct tsr_door_stats stats;
    for (int i = 0; i < 3; i++) {
        fds[i] = knock_raw(&pair);
        send_greet(fds[i], TSR_GREET, TSR_WIRE_VERSION);
        step(&pair);
        if (i == 2) { /* looks at it, but leaves it there */
            char byte;
            assert_int_equal(recv(fds[i], &byte, 1, MSG_PEEK), 1);
            send_greet(fds[i], TSR_READY, TSR_WIRE_VERSION);
        } else {
            shutdown(fds[i], i ? SHUT_RDWR : SHUT_WR);
        }
        step(&pair);
    }
    tsr_door_stats(pair.door, &stats);
    assert_int_equal(stats.pending, 0);
    assert_int_equal(stats.channels, 0);
    assert_int_not_equal(tsr_door_timeout_ms(pair.door), -1);
    struct tsr_link_refusal refusal;
    assert_int_equal(pair_knock(&pair, &pair.link, &pair.channel, &refusal), -EAGAIN);
    assert_non_null(strstr(pair.err.text, "3 channels"));

    /* Received, closed: both free the account at once. */
    struct tsr_greet greet;
    assert_int_equal(recv(fds[0], &greet, sizeof greet, 0), sizeof greet);
    assert_int_equal(greet.type, TSR_GRANT);
    assert_hung_up(fds[0]);
    close(fds[1]);
    step(&pair);
    tsr_door_stats(pair.door, &stats);
    assert_int_equal(stats.bytes, 2 * TSR_CTL_BYTES + (64 << 10) + (128 << 10));
    assert_int_equal(pair_knock(&pair, &pair.link, &pair.channel, NULL), 0);
    pair_close(&pair);
    close(fds[2]);
}

static void test_door_limits_handshakes(void **state)
{
    (void)state;
    struct pair pair;
    assert_int_equal(pair_open_door(&pair, NULL), 0);
    int fds[20];
    for (int i = 0; i < 20; i++) {
        fds[i] = knock_raw(&pair);
    }
    step(&pair);
    struct tsr_door_stats stats;
    tsr_door_stats(pair.door, &stats);
    assert_int_equal(stats.pending, 8);
    assert_int_equal(stats.refused, 12);
    assert_in_range(tsr_door_timeout_ms(pair.door), 1, TSR_DOOR_HANDSHAKE_MS + 1);
    for (int i = 0; i < 20; i++) {
        close(fds[i]);
    }
    step(&pair);
    tsr_door_stats(pair.door, &stats);
    assert_int_equal(stats.pending, 0);
    assert_int_equal(tsr_door_timeout_ms(pair.door), -1);
    assert_int_equal(pair_knock(&pair, &pair.link, &pair.channel, NULL), 0);
    pair_close(&pair);
}

static void test_door_refuses_while_told_to(void **state)
{
    (void)state;
    struct pair pair;
    assert_int_equal(pair_open_door(&pair, NULL), 0);
    struct tsr_link_refusal refusal;
    tsr_door_set_refusing(pair.door, "draining");
    assert_int_equal(pair_knock(&pair, &pair.link, &pair.channel, &refusal), -EPERM);
    assert_int_equal(refusal.code, TSR_CODE_SHUTDOWN);
    assert_non_null(strstr(pair.err.text, "draining"));
    tsr_door_set_refusing(pair.door, NULL);
    assert_int_equal(pair_knock(&pair, &pair.link, &pair.channel, &refusal), 0);
    pair_close(&pair);
}

/* A member of a group may come in by its first group or any other; only root can try. */
static int knock_as(const struct pair *pair, gid_t primary, gid_t other)
{
    pid_t pid = fork();
    if (pid == 0) {
        struct tsr_link link;
        bool ready = setgroups(1, &other) == 0 && setgid(primary) == 0 && setuid(54321) == 0;
        int result = ready ? tsr_link_open(&link, pair->path, "member", 5000, NULL, NULL) : -1;
        _exit(result == 0 ? 0 : result == -EPERM ? 1 : 2);
    }
    int status = 0;
    struct tsr_door_event event;
    while (waitpid(pid, &status, WNOHANG) == 0) {
        struct pollfd wait = {.fd = tsr_door_fd(pair->door), .events = POLLIN};
        poll(&wait, 1, 1);
        while (tsr_door_step(pair->door, &event, 1) == 1) {
            if (event.kind == TSR_DOOR_GONE) {
                tsr_door_close(pair->door, event.channel, NULL);
            }
        }
    }
    while (tsr_door_step(pair->door, &event, 1) == 1) {
        if (event.kind == TSR_DOOR_GONE) {
            tsr_door_close(pair->door, event.channel, NULL);
        }
    }
    return WEXITSTATUS(status);
}

static void test_door_lets_members_of_a_group_in(void **state)
{
    (void)state;
    if (geteuid() != 0) {
        print_message("skipped: only root can become others\n");
        skip();
    }
    struct pair pair;
    assert_int_equal(pair_open_door(&pair, NULL), 0);
    tsr_door_destroy(pair.door, NULL);
    struct tsr_door_class class;
    tsr_door_class_init(&class);
    struct tsr_door_policy policy = {.channels_max = 8};
    tsr_door_policy_add(&policy, TSR_DOOR_GID, 4242, &class);
    assert_int_equal(tsr_door_open(&pair.door, pair.path, &policy, &err), 0);
    struct tsr_wire_hello hello = {.vocabulary = 1};
    tsr_door_set_hello(pair.door, &hello);
    assert_int_equal(chmod(pair.directory, 0755), 0);
    assert_int_equal(knock_as(&pair, 4242, 1), 0);
    assert_int_equal(knock_as(&pair, 1, 4242), 0);
    assert_int_equal(knock_as(&pair, 1, 4243), 1);
    pair_close(&pair);
}

/* ---- Open channels ---- */

static void test_door_sees_a_client_die(void **state)
{
    (void)state;
    struct pair pair;
    assert_int_equal(pair_open(&pair, NULL), 0);
    tsr_link_close(&pair.link);
    struct tsr_door_event event;
    assert_int_equal(pair_wait(&pair, TSR_DOOR_GONE, &event), 1);
    assert_ptr_equal(event.channel, pair.channel);
    assert_non_null(strstr(event.why, "hung up"));
    step(&pair); /* reported once */
    assert_int_equal(tsr_door_step(pair.door, &event, 1), 0);
    pair_close(&pair);
}

static void test_door_drops_a_client_that_floods_it(void **state)
{
    (void)state;
    struct pair pair;
    assert_int_equal(pair_open(&pair, NULL), 0);
    struct tsr_door_event event = {.kind = TSR_DOOR_BELL};
    for (int i = 0; i < 3 * TSR_DOOR_BELLS_PER_SECOND && event.kind != TSR_DOOR_GONE; i++) {
        send(pair.link.fd, "bells of any length", (size_t)(i % 19) + 1,
             MSG_DONTWAIT | MSG_NOSIGNAL);
        if (tsr_door_step(pair.door, &event, 1) == 0) {
            event.kind = TSR_DOOR_BELL;
        }
    }
    /* A slow machine may not manage so many a second; then the client did no harm either. */
    if (event.kind == TSR_DOOR_GONE) {
        assert_non_null(strstr(event.why, "floods"));
    }
    pair_close(&pair);
}

static void test_door_finds_holes(void **state)
{
    (void)state;
    struct pair pair;
    assert_int_equal(pair_open(&pair, NULL), 0);
    /* Through the mapping: the link closed its descriptors. */
    assert_int_equal(madvise(pair.link.requests.base + 4096, 8192, MADV_REMOVE), 0);
    struct tsr_door_event event;
    assert_int_equal(pair_wait(&pair, TSR_DOOR_GONE, &event), 1);
    assert_non_null(strstr(event.why, "gave back pages"));
    pair_close(&pair);
}

/* Whoever hears OPENED may close the channel before it looks at the next event. */
static void test_door_does_not_audit_what_it_opens(void **state)
{
    (void)state;
    struct pair pair;
    assert_int_equal(pair_open(&pair, NULL), 0);
    struct tsr_link second;
    struct pair_knock knock = {.link = &second, .path = pair.path};
    pthread_t thread;
    struct tsr_door_stats stats;
    struct tsr_door_event events[8];
    tsr_door_stats(pair.door, &stats);
    uint64_t bytes = stats.bytes;
    assert_int_equal(pthread_create(&thread, NULL, pair_knock_thread, &knock), 0);
    do {
        assert_int_equal(tsr_door_step(pair.door, events, 8), 0);
        tsr_door_stats(pair.door, &stats);
    } while (stats.bytes == bytes);
    usleep(1000 * (TSR_DOOR_AUDIT_MS + 100)); /* it says ready, and the audit is due */
    assert_int_equal(madvise(pair.link.requests.base + 4096, 8192, MADV_REMOVE), 0);
    assert_int_equal(tsr_door_step(pair.door, events, 8), 1);
    assert_int_equal(events[0].kind, TSR_DOOR_OPENED);
    struct tsr_channel *opened = events[0].channel;
    assert_int_equal(tsr_door_step(pair.door, events, 8), 1);
    assert_int_equal(events[0].kind, TSR_DOOR_GONE);
    assert_ptr_equal(events[0].channel, pair.channel);
    pthread_join(thread, NULL);
    tsr_door_close(pair.door, opened, NULL);
    tsr_link_close(&second);
    pair_close(&pair);
}

static void test_door_destroy_answers_who_knocks(void **state)
{
    (void)state;
    struct pair pair;
    assert_int_equal(pair_open_door(&pair, NULL), 0);
    int fd = knock_raw(&pair);
    step(&pair);
    tsr_door_destroy(pair.door, "closing time");
    struct tsr_greet greet;
    assert_int_equal(recv(fd, &greet, sizeof greet, MSG_DONTWAIT), sizeof greet);
    assert_string_equal(greet.text, "closing time");
    close(fd);
    rmdir(pair.directory);
}

static int open_descriptors(void)
{
    int count = 0;
    for (int fd = 0; fd < 1024; fd++) {
        count += fcntl(fd, F_GETFD) >= 0;
    }
    return count;
}

static void test_door_leaks_nothing(void **state)
{
    (void)state;
    int before = open_descriptors();
    struct pair pair;
    assert_int_equal(pair_open_door(&pair, NULL), 0);
    for (int i = 0; i < 200; i++) {
        struct tsr_link link;
        struct tsr_channel *channel;
        assert_int_equal(pair_knock(&pair, &link, &channel, NULL), 0);
        if (i % 2) {
            tsr_link_close(&link);
            tsr_door_close(pair.door, channel, "bye");
        } else {
            tsr_door_close(pair.door, channel, "bye");
            tsr_link_close(&link);
        }
    }
    struct tsr_door_stats stats;
    tsr_door_stats(pair.door, &stats);
    assert_int_equal(stats.opened, 200);
    assert_int_equal(stats.channels, 0);
    assert_int_equal(stats.bytes, 0);
    pair_close(&pair);
    assert_int_equal(open_descriptors(), before);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_door_refuses_bad_paths_and_policies),
        cmocka_unit_test(test_door_does_not_take_a_live_path),
        cmocka_unit_test(test_door_replaces_what_a_dead_engine_left),
        cmocka_unit_test(test_door_refuses_strangers),
        cmocka_unit_test(test_door_refuses_what_makes_no_sense),
        cmocka_unit_test(test_door_drops_descriptors_that_are_sent_to_it),
        cmocka_unit_test(test_door_limits_what_a_user_takes),
        cmocka_unit_test(test_door_counts_grants_that_nobody_takes),
        cmocka_unit_test(test_door_limits_handshakes),
        cmocka_unit_test(test_door_refuses_while_told_to),
        cmocka_unit_test(test_door_lets_members_of_a_group_in),
        cmocka_unit_test(test_door_sees_a_client_die),
        cmocka_unit_test(test_door_drops_a_client_that_floods_it),
        cmocka_unit_test(test_door_finds_holes),
        cmocka_unit_test(test_door_does_not_audit_what_it_opens),
        cmocka_unit_test(test_door_destroy_answers_who_knocks),
        cmocka_unit_test(test_door_leaks_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
