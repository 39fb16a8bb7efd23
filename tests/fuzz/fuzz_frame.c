/* Frames as a card gives them. The first two bytes say what sort of host it is; then frames, each
 * behind two bytes of its length. What is answered fits and goes to who asked; a datagram lies in
 * its frame, and can be sent back. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "host_priv.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct tsr_host host;

static void start(const uint8_t *choice)
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
    host.is_alone = choice[0] & 1;
    host.device_sums = choice[0] & 2;
    host.vlan = choice[0] & 4 ? 7 : 0;
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

static void take(const uint8_t *bytes, uint32_t size, uint32_t spare, unsigned good)
{
    struct tsr_host_result result;
    uint8_t *frame = malloc(size + spare + 1);
    if (!frame) {
        abort();
    }
    memcpy(frame, bytes, size);
    tsr_host_take(&host, &result, frame, size, size + spare, good);
    if (result.answer_bytes > size + spare || (result.answer_bytes && !host.is_alone) ||
        (result.answer_bytes && memcmp(frame + TSR_MAC_BYTES, host.mac, TSR_MAC_BYTES) != 0) ||
        (result.drop != TSR_PORT_TAKEN && (result.answer_bytes || result.is_datagram))) {
        abort();
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
    start(choice);
    data += 2;
    size -= 2;
    while (size >= 2) {
        uint32_t length = (uint32_t)(data[0] | (data[1] & 0x3f) << 8);
        length = length < size - 2 ? length : (uint32_t)size - 2;
        take(data + 2, length, choice[1] & 15, choice[0] >> 4 & 3);
        host.now_ns += 1000000;
        data += 2 + length;
        size -= 2 + length;
    }
    return 0;
}
