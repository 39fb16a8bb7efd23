#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include <tsr/sched/sched.h>
#include <tsr/serve/options.h>

static struct tsr_serve_options options;
static struct tsr_err err;

/* Splits at spaces. */
static int parse(const char *line)
{
    static char copy[512];
    static char *argv[64];
    int argc = 0;
    snprintf(copy, sizeof copy, "tessera-engine --config /dev/null %s", line);
    for (char *word = strtok(copy, " "); word; word = strtok(NULL, " ")) {
        argv[argc++] = word;
    }
    argv[argc] = NULL;
    memset(&err, 0, sizeof err);
    tsr_daemon_config_free(&options.config);
    return tsr_serve_options_parse(&options, argc, argv, &err);
}

static void test_options_refuse(void **state)
{
    (void)state;
    const struct {
        const char *line, *names;
    } cases[] = {
        {"", "--model"},
        {"--model", "--model"},
        {"--model m --frobnicate", "--frobnicate"},
        {"foo --frobnicate", "--frobnicate is not"},
        {"foo -xh", "-x is not"},
        {"foo --model", "--model wants"},
        {"--model m extra", "extra"},
        {"--model m --threads 0", "--threads"},
        {"--model m --threads 257", "--threads"},
        {"--model m --threads two", "two"},
        {"--model m --threads -1", "-1"},
        {"--model m --context 1", "--context"},
        {"--model m --context 99999999999999999999", "--context"},
        {"--model m --kv-bytes 12Q", "12Q"},
        {"--model m --kv-bytes 99999999999G", "--kv-bytes"},
        {"--model m --weights q4", "file, ref, bf16, f16, int8"},
        {"--model m --isa sse", "avx2"},
        {"--model m --cpus 1-", "0-3,8"},
        {"--model m --cpus 3-1", "0-3,8"},
        {"--model m --cpus 1,1", "twice"},
        {"--model m --cpus 0-1 --threads 3", "--threads"},
        {"--model m --threads 3 --cpus 0-1", "3 workers"},
        {"--model m --cpus 4000", "4000"},
        {"--model m --rows 64 --chunk 64", "--chunk"},
        {"--model m --name a\tb", "--name"},
        {"--model m --allow tessera", "uid:NAME"},
        {"--model m --allow gid:no-such-group-here", "no-such-group-here"},
        {"--model m --allow uid:0,frob=1", "frob"},
        {"--model m --allow uid:0,requests", "requests=N"},
        {"--model m --allow uid:0,requests=0", "requests"},
        {"--model m --allow uid:0,requests=65536", "65535"},
        {"--model m --allow uid:0,priority=256", "priority"},
        {"--model m --group no-such-group-here", "no-such-group-here"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        int rc = parse(cases[i].line);
        if (rc != -EINVAL || !strstr(err.text, cases[i].names)) {
            print_error("'%s': %d '%s', not '%s'\n", cases[i].line, rc, err.text, cases[i].names);
        }
        assert_int_equal(rc, -EINVAL);
        assert_non_null(strstr(err.text, cases[i].names));
    }
}

static void test_options_defaults(void **state)
{
    (void)state;
    assert_int_equal(parse("--model dir/m.gguf"), 0);
    assert_string_equal(options.model, "dir/m.gguf");
    assert_string_equal(options.socket, TSR_SERVE_SOCKET);
    assert_int_equal(options.action, TSR_SERVE_RUN);
    assert_int_equal(options.exec.workers, 0);
    assert_null(options.exec.cpus);
    assert_true(options.exec.pin);
    assert_false(options.exec.spin);
    assert_int_equal(options.exec.rows_max, TSR_SCHED_ROWS_DEFAULT);
    assert_int_equal(options.exec.logit_rows_max, 64);
    assert_int_equal(options.chunk_rows, TSR_SCHED_CHUNK_DEFAULT);
    assert_int_equal(options.park_seconds, 30);
    assert_false(options.no_sandbox);
    assert_true(options.policy.rule_count >= 1);
}

static void test_options_are_taken(void **state)
{
    (void)state;
    assert_int_equal(parse("--model m --socket s --cpus 2,5-7 --spin --weights int8 --isa avx2 "
                           "--kv-bytes 3G --payload-max 64K --sequences 1 --no-sandbox --check"),
                     0);
    assert_int_equal(options.exec.workers, 4);
    assert_int_equal(options.exec.cpus[0], 2);
    assert_int_equal(options.exec.cpus[3], 7);
    assert_true(options.exec.spin);
    assert_int_equal(options.exec.weights, TSR_WEIGHTS_INT8);
    assert_int_equal(options.exec.isa, TSR_ISA_AVX2);
    assert_true(options.exec.kv_bytes == 3ull << 30);
    assert_true(options.payload_bytes_max == 65536);
    assert_int_equal(options.exec.logit_rows_max, 2);
    assert_true(options.no_sandbox);
    assert_int_equal(options.action, TSR_SERVE_CHECK);
    assert_int_equal(parse("--help"), 0);
    assert_int_equal(options.action, TSR_SERVE_HELP);
    assert_int_equal(parse("--version"), 0);
    assert_int_equal(options.action, TSR_SERVE_VERSION);
}

static void test_options_allow_makes_rules(void **state)
{
    (void)state;
    assert_int_equal(parse("--model m"), 0);
    uint32_t rules = options.policy.rule_count;
    assert_int_equal(parse("--model m --allow uid:1234,requests=512,event-ring=4M,tenants,"
                           "priority=200,channels=3,grants=5,bytes=1G,request-ring=1M"),
                     0);
    assert_int_equal(options.policy.rule_count, rules + 1);
    const struct tsr_door_rule *rule = &options.policy.rules[0];
    assert_int_equal(rule->match, TSR_DOOR_UID);
    assert_int_equal(rule->id, 1234);
    assert_int_equal(rule->class.requests_max, 512);
    assert_int_equal(rule->class.event_ring_bytes, 4 << 20);
    assert_int_equal(rule->class.request_ring_bytes, 1 << 20);
    assert_int_equal(rule->class.priority_max, 200);
    assert_int_equal(rule->class.channels_max, 3);
    assert_int_equal(rule->class.grants_per_minute, 5);
    assert_true(rule->class.bytes_max == 1u << 30);
    assert_true(rule->class.tenants);
    assert_int_equal(parse("--model m --group 77"), 0);
    assert_int_equal(options.policy.rules[0].match, TSR_DOOR_GID);
    assert_int_equal(options.policy.rules[0].id, 77);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_options_refuse),
        cmocka_unit_test(test_options_defaults),
        cmocka_unit_test(test_options_are_taken),
        cmocka_unit_test(test_options_allow_makes_rules),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
