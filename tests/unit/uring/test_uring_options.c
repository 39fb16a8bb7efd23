#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include <tsr/uring/options.h>

static struct tsr_uring_options options;
static struct tsr_err err;

#define TLS "--tls-certificate c --tls-key k --listen-tls 127.0.0.1:1 "

/* As the program does where systemd passes no sockets. */
static int parse(const char *line)
{
    static char copy[4096];
    static char *argv[256];
    int argc = 0;
    snprintf(copy, sizeof copy, "tessera-dataplane --config /dev/null %s", line);
    for (char *word = strtok(copy, " "); word; word = strtok(NULL, " ")) {
        argv[argc++] = word;
    }
    argv[argc] = NULL;
    memset(&err, 0, sizeof err);
    tsr_daemon_config_free(&options.program.config);
    int rc = tsr_uring_options_parse(&options, argc, argv, &err);
    return rc ? rc : tsr_uring_options_check(&options, &err);
}

static void test_uring_options_refuse(void **state)
{
    (void)state;
    const struct {
        const char *line, *names;
    } cases[] = {
        {"--listen 192.0.2.2:8000", "--keys FILE, or listen at 127.0.0.1"},
        {"--listen nowhere", "nowhere"},
        {"--tls-certificate c", "go together"},
        {"--tls-client-ca a", "go together"},
        {"--tls-certificate c --tls-key k", "nothing listens for TLS"},
        {"--listen-tls 127.0.0.1:1", "TLS wants --tls-certificate"},
        {"--alt-svc 443", "--listen-tls ADDRESS"},
        {TLS "--alt-svc 0", "--alt-svc"},
        {"--connections 0", "--connections 0: a number from 1 to 1048576"},
        {"--connections-per-address 1048577", "from 0 to 1048576"},
        {"--requests 65537", "from 1 to 65536"},
        {"--body-max 1023", "from 1024 to 1073741824"},
        {"--bodies-max 1023K", "from 1048576 to 1099511627776"},
        {"--answers-max 1023K", "from 1048576 to 1099511627776"},
        {"--credit 0", "from 1 to 65536"},
        {"--handshake-seconds 0", "from 1 to 86400"},
        {"--head-seconds 0", "from 1 to 86400"},
        {"--idle-seconds 86401", "from 1 to 86400"},
        {"--stall-seconds x", "from 1 to 86400"},
        {"--drain-seconds 86401", "from 0 to 86400"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        int rc = parse(cases[i].line);
        if (rc == 0 || !strstr(err.text, cases[i].names)) {
            fail_msg("'%s' gives %d: %s", cases[i].line, rc, err.text);
        }
    }
}

static void test_uring_options_defaults(void **state)
{
    (void)state;
    const struct tsr_program_options *p = &options.program;
    assert_int_equal(parse(""), 0);
    assert_int_equal(p->action, TSR_PROGRAM_RUN);
    assert_int_equal(p->api.n_engines, 1);
    assert_string_equal(p->api.engines[0], TSR_PROGRAM_ENGINE);
    assert_int_equal(options.per_address, options.http1.conns_max / 2);
    assert_int_equal(options.handshake_s, 10);
    assert_int_equal(p->drain_s, 20);
    assert_int_equal(options.http1.stall_bytes, 4096); /* as --help says */
    assert_false(p->no_sandbox || p->quiet || options.spin);
    assert_null(options.http1.alt_svc);
}

static void test_uring_options_take(void **state)
{
    (void)state;
    const struct tsr_program_options *p = &options.program;
    assert_int_equal(parse(TLS "--listen unix:/a --keys f --engine a --engine b --host h "
                               "--origin o --vllm-names --connections 7 --requests 2 "
                               "--body-max 2K --bodies-max 3M --answers-max 4M --credit 5 "
                               "--drain-seconds 0 --spin --user u --no-sandbox --quiet --check "
                               "--alt-svc 443 --tls-client-ca a"),
                     0);
    assert_int_equal(options.sockets.n, 2);
    assert_true(options.sockets.at[0].tls && !options.sockets.at[1].tls);
    assert_string_equal(p->certificate, "c");
    assert_string_equal(p->key, "k");
    assert_string_equal(p->client_ca, "a");
    assert_string_equal(p->api.keys_path, "f");
    assert_int_equal(p->api.n_engines, 2);
    assert_string_equal(p->api.engines[1], "b");
    assert_string_equal(p->api.hosts[0], "h");
    assert_string_equal(p->api.origins[0], "o");
    assert_int_equal(p->api.n_hosts + p->api.n_origins, 2);
    assert_true(p->api.vllm_names && p->no_sandbox && p->quiet && options.spin);
    assert_int_equal(options.per_address, 4);
    assert_int_equal(p->api.exchanges_max, 2);
    assert_int_equal(p->api.body_bytes_max, 2048);
    assert_int_equal(p->api.bodies_bytes_max, 3 << 20);
    assert_int_equal(options.http1.answers_bytes_max, 4 << 20);
    assert_int_equal(p->api.credit_tokens, 5);
    assert_int_equal(p->drain_s, 0);
    assert_string_equal(p->user, "u");
    assert_int_equal(p->action, TSR_PROGRAM_CHECK);
    assert_non_null(strstr(options.http1.alt_svc, "443"));
    assert_int_equal(parse("--check --make-key name"), 0);
    assert_int_equal(p->action, TSR_PROGRAM_OWN);
    assert_string_equal(options.key_name, "name");
    assert_int_equal(parse("--help"), 0);
    assert_int_equal(p->action, TSR_PROGRAM_HELP);
    assert_int_equal(parse("--version"), 0);
    assert_int_equal(p->action, TSR_PROGRAM_VERSION);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_uring_options_refuse),
        cmocka_unit_test(test_uring_options_defaults),
        cmocka_unit_test(test_uring_options_take),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
