/* Sends one small UDP frame to an interface's peer, again and again, as fast as the kernel
 * redirects frames of XDP: no buffers of its network stack on this side, so that the receiver is
 * what is measured.
 *
 *     flood_xdp INTERFACE MAC SOURCE_IP IP PORT SECONDS
 *
 * The peer (of veth) must have an XDP program of its own. The payload looks like a QUIC packet of a
 * connection that is not there. Prints "sent=N per_s=N". */
#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <errno.h>
#include <linux/bpf.h>
#include <net/if.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { FRAME = 64, IP_AT = 14, UDP_AT = 34, PAYLOAD_AT = 42, ONCE = 1 << 14, BATCH = 64 };

static double now_s(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

__attribute__((noreturn)) static void fail(const char *what, int code)
{
    fprintf(stderr, "flood_xdp: %s: %s\n", what, strerror(code));
    exit(1);
}

/* A program of XDP that says: out of this interface. */
static int load(int interface)
{
    const struct bpf_insn program[] = {
        {.code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = BPF_REG_1, .imm = interface},
        {.code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = BPF_REG_2, .imm = 0},
        {.code = BPF_JMP | BPF_CALL, .imm = BPF_FUNC_redirect},
        {.code = BPF_JMP | BPF_EXIT},
    };
    int fd = bpf_prog_load(BPF_PROG_TYPE_XDP, "flood", "GPL", program,
                           sizeof program / sizeof *program, NULL);
    if (fd < 0) {
        fail("the program is not loaded", -fd);
    }
    return fd;
}

static void put16(uint8_t *at, unsigned value)
{
    at[0] = (uint8_t)(value >> 8);
    at[1] = (uint8_t)value;
}

static void write_frame(uint8_t *frame, char **argv)
{
    unsigned mac[6], sum = 0;
    if (sscanf(argv[2], "%x:%x:%x:%x:%x:%x", mac, mac + 1, mac + 2, mac + 3, mac + 4, mac + 5) !=
            6 ||
        inet_pton(AF_INET, argv[3], frame + IP_AT + 12) != 1 ||
        inet_pton(AF_INET, argv[4], frame + IP_AT + 16) != 1) {
        fail("an address", EINVAL);
    }
    for (int i = 0; i < 6; i++) {
        frame[i] = (uint8_t)mac[i];
    }
    frame[6] = 2; /* from a made-up Ethernet address */
    put16(frame + 12, 0x0800);
    frame[IP_AT] = 0x45;
    put16(frame + IP_AT + 2, FRAME - IP_AT);
    frame[IP_AT + 8] = 64;
    frame[IP_AT + 9] = IPPROTO_UDP;
    for (int i = IP_AT; i < UDP_AT; i += 2) {
        sum += (unsigned)frame[i] << 8 | frame[i + 1];
    }
    put16(frame + IP_AT + 10, ~((sum & 0xffff) + (sum >> 16)));
    put16(frame + UDP_AT, 40000);
    put16(frame + UDP_AT + 2, (unsigned)atoi(argv[5]));
    put16(frame + UDP_AT + 4, FRAME - UDP_AT); /* no checksum: as IPv4 allows */
    memset(frame + PAYLOAD_AT, 0x40, FRAME - PAYLOAD_AT);
}

int main(int argc, char **argv)
{
    uint8_t frame[FRAME] = {0};
    if (argc != 7) {
        fail("INTERFACE MAC SOURCE_IP IP PORT SECONDS are wanted", EINVAL);
    }
    int interface = (int)if_nametoindex(argv[1]), program = load(interface);
    write_frame(frame, argv);
    struct xdp_md at = {.data_end = FRAME, .ingress_ifindex = (uint32_t)interface};
    struct bpf_test_run_opts options = {
        .sz = sizeof options,
        .data_in = frame,
        .data_size_in = FRAME,
        .ctx_in = &at,
        .ctx_size_in = sizeof at,
        .repeat = ONCE,
        .flags = BPF_F_TEST_XDP_LIVE_FRAMES,
        .batch_size = BATCH,
    };
    uint64_t sent = 0;
    double begun_s = now_s(), end_s = begun_s + atof(argv[6]);
    for (; now_s() < end_s; sent += ONCE) {
        int rc = bpf_prog_test_run_opts(program, &options);
        if (rc < 0) {
            fail("frames are not sent", -rc);
        }
    }
    printf("sent=%ju per_s=%.0f\n", (uintmax_t)sent, (double)sent / (now_s() - begun_s));
    return 0;
}
