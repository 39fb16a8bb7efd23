#include "waiting_priv.h"

#include <string.h>
#include <sys/mman.h>

struct tsr_http3_waiting_slot {
    struct tsr_datagram datagram;
    uint8_t bytes[16384 - sizeof(struct tsr_datagram)]; /* whole pages */
};

static const size_t slots_bytes = TSR_HTTP3_WAITING_MAX * sizeof(struct tsr_http3_waiting_slot);

bool tsr_http3_waiting_init(struct tsr_http3_waiting *waiting)
{
    void *slots = mmap(NULL, slots_bytes, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    *waiting = (struct tsr_http3_waiting){.slots = slots == MAP_FAILED ? NULL : slots};
    return waiting->slots;
}

void tsr_http3_waiting_fini(struct tsr_http3_waiting *waiting)
{
    if (waiting->slots) {
        munmap(waiting->slots, slots_bytes);
    }
}

bool tsr_http3_waiting_put(struct tsr_http3_waiting *waiting, const struct tsr_datagram *datagram)
{
    struct tsr_http3_waiting_slot *slot =
        &waiting->slots[(waiting->first + waiting->n) % TSR_HTTP3_WAITING_MAX];
    if (waiting->n == TSR_HTTP3_WAITING_MAX || datagram->size > sizeof slot->bytes) {
        return false;
    }
    slot->datagram = *datagram;
    slot->datagram.bytes = slot->bytes;
    memcpy(slot->bytes, datagram->bytes, datagram->size);
    waiting->n++;
    return true;
}

bool tsr_http3_waiting_take(struct tsr_http3_waiting *waiting, struct tsr_datagram *datagram)
{
    struct tsr_http3_waiting_slot *slot = &waiting->slots[waiting->first];
    if (!waiting->n) {
        return false;
    }
    *datagram = slot->datagram;
    waiting->first = (waiting->first + 1) % TSR_HTTP3_WAITING_MAX;
    waiting->n--;
    return true;
}
