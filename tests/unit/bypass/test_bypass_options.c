#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include <tsr/bypass/options.h>

static struct tsr_bypass_options options;
static struct tsr_err err;

#define TLS     "--tls-certificate c --tls-key k "
#define PACKET  TLS "--keys f --device net_af_packet0,iface=v0 "
#define LISTENS PACKET "--listen 192.0.2.2/24:443 --listen [2001:db8::2/64]:443 "

static int parse(const char *line)
{
    static char copy[1024];
    static char *argv[64];
    int argc = 0;
    snprintf(copy, sizeof copy, "tessera-bypass --config /dev/null %s", line);
    for (char *word = strtok(copy, " "); word; word = strtok(NULL, " ")) {
        argv[argc++] = word;
    }
    argv[argc] = NULL;
    memset(&err, 0, sizeof err);
    tsr_daemon_config_free(&options.program.config);
    return tsr_bypass_options_parse(&options, argc, argv, &err);
}

static void test_bypass_options_refuse(void **state)
{
    (void)state;
    const struct {
        const char *line, *names;
    } cases[] = {
        {"", "--tls-certificate"},
        {TLS "--listen 127.0.0.1", "--listen 127.0.0.1"},
        {TLS "--listen 127.0.0.1:", "127.0.0.1:"},
        {TLS "--listen 127.0.0.1:65536", "65536"},
        {TLS "--listen 127.0.0.1:8443x", "8443x"},
        {TLS "--listen ::1:8443", "::1:8443"},
        {TLS "--listen [::1]8443", "[::1]8443"},
        {TLS "--listen [127.0.0.1]:8443", "[127.0.0.1]:8443"},
        {TLS "--listen 192.0.2.2:443", "--keys"},
        {TLS "--listen 127.0.0.1/8:443", "network"},
        {TLS "--gateway 127.0.0.2", "--gateway"},
        {TLS "--vlan 2", "--vlan"},
        {TLS "--mtu 1500", "--mtu"},
        {TLS "--congestion reno", "cubic or bbr"},
        {TLS "--buffers 9000", "--buffers"},
        {TLS "--no-huge", "--no-huge"},
        {TLS "--eal=--no-pci", "--eal"},
        {PACKET, "--listen"},
        {PACKET "--listen 127.0.0.1:443", "127.0.0.1:443"},
        {PACKET "--listen 192.0.2.2/33:443", "/33"},
        {PACKET "--listen 192.0.2.2/:443", "/:443"},
        {PACKET "--listen [2001:db8::2/129]:443", "/129"},
        {PACKET "--listen [2001:db8::2]/64:443", "]/64"},
        {TLS "--device d --listen 192.0.2.2:443", "--keys"},
        {LISTENS "--gateway 192.0.2", "192.0.2"},
        {LISTENS "--gateway 192.0.2.1 --gateway 192.0.2.9", "IPv4 already"},
        {LISTENS "--gateway fe80::1 --gateway fe80::2", "IPv6 already"},
        {LISTENS "--vlan 0", "--vlan"},
        {LISTENS "--vlan 4095", "--vlan"},
        {LISTENS "--mtu 1279", "--mtu"},
        {LISTENS "--mtu 9001", "--mtu"},
        {LISTENS "--buffers 12", "--buffers"},
        {LISTENS "--cpus 1-", "0-3,8"},
        {LISTENS "--cpus 1-3 --queues 2", "3 CPUs for 2 queues"},
        {TLS "--queues 0", "--queues"},
        {TLS "--queues 17", "--queues"},
        {TLS "--queues 8 --body-max 64M", "--bodies-max 536870912"},
        {TLS "--queues 8 --memory-max 64M", "--memory-max 128M"},
        {TLS "--idle never", "sleep, pause, spin"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        int rc = parse(cases[i].line);
        if (rc == 0 || !strstr(err.text, cases[i].names)) {
            fail_msg("'%s' gives %d: %s", cases[i].line, rc, err.text);
        }
    }
}

static void test_bypass_options_of_a_socket(void **state)
{
    (void)state;
    assert_int_equal(parse(TLS), 0);
    assert_int_equal(options.port.kind, TSR_PORT_SOCKET);
    assert_int_equal(options.port.n_listen, 1);
    assert_int_equal(options.port.listen[0].address.port, 8443);
    assert_int_equal(options.port.queues, 1);
    assert_int_equal(options.http3.stall_bytes, 4096); /* as --help says */
    assert_int_equal(options.idle, TSR_BYPASS_SLEEP);
    assert_int_equal(parse(TLS "--cpus 0-1 --idle pause"), 0);
    assert_int_equal(options.port.queues, 2);
    assert_int_equal(options.n_cpus, 2);
    assert_int_equal(options.idle, TSR_BYPASS_PAUSE);
}

static void test_bypass_options_of_a_device(void **state)
{
    (void)state;
    assert_int_equal(parse(LISTENS
                           "--gateway fe80::1 --gateway 192.0.2.1 --vlan 4094 --mtu 9000 "
                           "--buffers 4096 --cpus 3 --no-huge --eal=--iova-mode=va --eal x"),
                     0);
    const struct tsr_port_options *port = &options.port;
    assert_int_equal(port->kind, TSR_PORT_DPDK);
    assert_string_equal(port->device, "net_af_packet0,iface=v0");
    assert_int_equal(port->n_listen, 2);
    assert_int_equal(port->listen[0].prefix, 24);
    assert_int_equal(port->listen[1].prefix, 64);
    assert_int_equal(port->listen[1].address.family, 6);
    assert_memory_equal(port->listen[0].gateway, ((uint8_t[]){192, 0, 2, 1}), 4);
    assert_memory_equal(port->listen[1].gateway, ((uint8_t[16]){0xfe, 0x80, [15] = 1}), 16);
    assert_true(port->listen[0].has_gateway && port->listen[1].has_gateway);
    assert_int_equal(port->vlan, 4094);
    assert_int_equal(port->mtu, 9000);
    assert_int_equal(port->buffers, 4096);
    assert_int_equal(port->cpu, 3);
    assert_true(port->no_huge);
    assert_string_equal(port->eal[0], "--iova-mode=va");
    assert_string_equal(port->eal[1], "x");
    assert_null(port->eal[2]);
}

static void test_bypass_options_share(void **state)
{
    (void)state;
    const struct tsr_http3_share *a = &options.http3.address;
    assert_int_equal(parse(TLS "--connections 11 --handshakes 6 --requests 1 --memory-max 64M"), 0);
    assert_int_equal(a->conns, 6);
    assert_int_equal(a->handshakes, 3);
    assert_int_equal(a->requests, 1);
    assert_int_equal(a->bytes, 32 << 20);
    assert_int_equal(parse(TLS "--connections-per-address 0 --handshakes-per-address 1 "
                               "--requests-per-address 2 --memory-per-address 3M"),
                     0);
    assert_int_equal(a->conns, 0);
    assert_int_equal(a->handshakes, 1);
    assert_int_equal(a->requests, 2);
    assert_int_equal(a->bytes, 3 << 20);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bypass_options_refuse),
        cmocka_unit_test(test_bypass_options_of_a_socket),
        cmocka_unit_test(test_bypass_options_of_a_device),
        cmocka_unit_test(test_bypass_options_share),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
