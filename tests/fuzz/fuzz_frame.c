/* Frames as a card gives them. The first two bytes say what sort of host it is and how fast its
 * time goes; then frames, each behind two bytes of its length. What is answered fits, is whole and
 * goes to who asked; a datagram lies in its frame, and can be sent back; who is not known is asked
 * for. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "host_priv.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct tsr_host host;

/* Bits of the first byte. */
enum {
    ALONE = 1,
    DEVICE_SUMS = 2,
    VLAN = 4,
    SUMMED = 8,
    GOOD_SHIFT = 4,
    GATEWAY = 64,
    SPENT = 128
};

static void start(uint8_t choice)
{
    static const struct tsr_port_listen listen[2] = {
        {.address = {.ip = {10, 0, 0, 1}, .port = 443, .family = 4}, .prefix = 24},
        {.address = {.ip = {0xfd, [15] = 1}, .port = 443, .family = 6}, .prefix = 64}};
    static const uint8_t mac[TSR_MAC_BYTES] = {2, 0, 0, 0, 0, 1};
    memset(&host, 0, offsetof(struct tsr_host, neighbours));
    memset(host.neighbours.entries[0], 0, sizeof host.neighbours.entries); /* the same each time */
    host.neighbours.key[0] = host.neighbours.key[1] = 1;
    host.neighbours.turn = 0;
    memcpy(host.listen, listen, sizeof listen);
    memcpy(host.mac, mac, sizeof mac);
    host.n_listen = 2;
    host.mtu = 1500;
    host.is_alone = choice & ALONE;
    host.device_sums = choice & DEVICE_SUMS;
    host.vlan = choice & VLAN ? 7 : 0;
    host.answers = choice & SPENT ? TSR_HOST_ANSWERS_PER_SECOND - 2 : 0;
    host.asks = choice & SPENT ? TSR_HOST_ASKS_PER_SECOND - 2 : 0;
    for (uint32_t i = 0; i < 2 && choice & GATEWAY; i++) {
        host.listen[i].has_gateway = true;
        host.listen[i].prefix = i ? 61 : 0;
        memcpy(host.listen[i].gateway, listen[i].address.ip, sizeof host.listen[i].gateway);
        host.listen[i].gateway[i ? 15 : 3] = 9;
    }
}

/* ICMP's checksum and that of IPv4 are made right, which chance would not do. */
static void sum(uint8_t *bytes, uint32_t size)
{
    struct tsr_frame frame;
    if (tsr_frame_read(&frame, bytes, size, TSR_FRAME_IP_GOOD | TSR_FRAME_UDP_GOOD) !=
            TSR_PORT_TAKEN ||
        !frame.family) {
        return;
    }
    uint8_t *ip = bytes + frame.ip, *body = bytes + frame.body;
    uint32_t body_bytes = frame.end - frame.body;
    uint8_t icmp = frame.family == 4 ? TSR_PROTOCOL_ICMP : TSR_PROTOCOL_ICMPV6;
    if (frame.family == 4) {
        tsr_put16(ip + 10, 0);
        uint16_t right = tsr_sum(ip, frame.body - frame.ip);
        memcpy(ip + 10, &right, sizeof right);
    }
    if (frame.protocol == icmp && body_bytes >= 4) {
        tsr_put16(body + 2, 0);
        uint16_t right = frame.family == 4 ? tsr_sum(body, body_bytes)
                                           : tsr_sum_ipv6(ip, icmp, body, body_bytes);
        memcpy(body + 2, &right, sizeof right);
    }
}

static void send_back(const struct tsr_datagram *datagram)
{
    uint8_t frame[2048], *first;
    uint32_t reach = tsr_host_reach(&host, &datagram->path);
    uint32_t head = tsr_frame_head_bytes(datagram->path.remote.family, host.vlan);
    if (reach < 1200 || reach > 1472) {
        abort(); /* it has just been heard of */
    }
    uint32_t n = datagram->size < reach ? datagram->size : reach;
    memcpy(frame + head, datagram->bytes, n);
    first = tsr_host_write(&host, &datagram->path, frame + head, n, datagram->ecn);
    struct tsr_frame read;
    struct tsr_datagram back;
    unsigned good = host.device_sums ? TSR_FRAME_IP_GOOD | TSR_FRAME_UDP_GOOD : 0;
    if (first != frame || tsr_frame_read(&read, frame, head + n, good) != TSR_PORT_TAKEN ||
        tsr_frame_read_udp(&read, &back) != TSR_PORT_TAKEN || back.size != n ||
        memcmp(&back.path.remote, &datagram->path.local, sizeof back.path.remote) != 0) {
        abort();
    }
}

/* What this side sends is whole, whatever it was made of. */
static void check_own(uint8_t *frame, uint32_t size, unsigned good)
{
    struct tsr_frame read;
    if (memcmp(frame + TSR_MAC_BYTES, host.mac, TSR_MAC_BYTES) != 0 ||
        tsr_frame_read(&read, frame, size, good) != TSR_PORT_TAKEN || read.vlan != host.vlan) {
        abort();
    }
    const uint8_t *body = frame + read.body;
    uint32_t bytes = read.end - read.body;
    if ((read.family == 4 && tsr_sum(body, bytes) != 0) ||
        (read.family == 6 &&
         tsr_sum_ipv6(frame + read.ip, TSR_PROTOCOL_ICMPV6, body, bytes) != 0)) {
        abort();
    }
}

static void ask(uint8_t family)
{
    struct tsr_path path = {.local = host.listen[family == 6].address};
    path.remote = path.local;
    path.remote.ip[family == 4 ? 3 : 15] = 77;
    uint8_t *frame = malloc(TSR_HOST_ASK_BYTES);
    if (!frame) {
        abort();
    }
    if (tsr_host_reach(&host, &path) == 0) {
        uint32_t size = tsr_host_ask(&host, &path, frame);
        if (size > TSR_HOST_ASK_BYTES || (size && !host.is_alone)) {
            abort();
        }
        if (size) {
            check_own(frame, size, 0);
        }
    }
    free(frame);
}

static void take(const uint8_t *bytes, uint32_t size, uint32_t spare, uint8_t choice)
{
    struct tsr_host_result result;
    unsigned good = choice >> GOOD_SHIFT & 3;
    uint8_t *frame = malloc(size + spare + 1);
    if (!frame) {
        abort();
    }
    memcpy(frame, bytes, size);
    if (choice & SUMMED) {
        sum(frame, size);
    }
    tsr_host_take(&host, &result, frame, size, size + spare, good);
    if (result.answer_bytes > size + spare || (result.answer_bytes && !host.is_alone) ||
        (result.drop != TSR_PORT_TAKEN && (result.answer_bytes || result.is_datagram))) {
        abort();
    }
    if (result.answer_bytes) {
        check_own(frame, result.answer_bytes, good);
    }
    if (result.is_datagram) {
        if (result.datagram.bytes < frame ||
            result.datagram.bytes + result.datagram.size > frame + size) {
            abort();
        }
        send_back(&result.datagram);
    }
    free(frame);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2) {
        return 0;
    }
    const uint8_t *choice = data;
    start(choice[0]);
    data += 2;
    size -= 2;
    while (size >= 2) {
        uint32_t length = (uint32_t)(data[0] | (data[1] & 0x3f) << 8);
        length = length < size - 2 ? length : (uint32_t)size - 2;
        take(data + 2, length, choice[1] & 15, choice[0]);
        ask(4);
        ask(6);
        host.now_ns += UINT64_C(1000000) << 2 * (choice[1] >> 4); /* up to twelve days */
        data += 2 + length;
        size -= 2 + length;
    }
    return 0;
}
