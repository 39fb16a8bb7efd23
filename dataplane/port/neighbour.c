#include "neighbour_priv.h"

#include <string.h>

__extension__ typedef unsigned __int128 u128;

static uint64_t mix(uint64_t a, uint64_t b)
{
    u128 product = (u128)a * b;
    return (uint64_t)product ^ (uint64_t)(product >> 64);
}

static struct tsr_neighbour *set_of(struct tsr_neighbours *neighbours, const uint8_t *ip)
{
    uint64_t halves[2];
    memcpy(halves, ip, sizeof halves);
    uint64_t hash = mix(halves[0] ^ neighbours->key[0], halves[1] ^ neighbours->key[1]);
    hash = mix(hash ^ neighbours->key[1], neighbours->key[0] | 1);
    return neighbours->entries[hash % TSR_NEIGHBOUR_SETS];
}

static void widen(uint8_t wide[16], uint8_t family, const uint8_t *ip)
{
    memset(wide, 0, 16);
    memcpy(wide, ip, tsr_ip_bytes(family));
}

static struct tsr_neighbour *find_in(struct tsr_neighbour *set, uint8_t family, const uint8_t *ip)
{
    for (int way = 0; way < TSR_NEIGHBOUR_WAYS; way++) {
        if (set[way].family == family && memcmp(set[way].ip, ip, 16) == 0) {
            return &set[way];
        }
    }
    return NULL;
}

struct tsr_neighbour *tsr_neighbour_find(struct tsr_neighbours *neighbours, uint8_t family,
                                         const uint8_t *ip)
{
    uint8_t wide[16];
    widen(wide, family, ip);
    return find_in(set_of(neighbours, wide), family, wide);
}

static struct tsr_neighbour *least_heard(struct tsr_neighbours *neighbours,
                                         struct tsr_neighbour *set)
{
    struct tsr_neighbour *least = &set[0];
    for (int way = 1; way < TSR_NEIGHBOUR_WAYS; way++) {
        if (set[way].heard < least->heard) {
            least = &set[way];
        }
    }
    struct tsr_neighbour *fading = &set[neighbours->turn++ % TSR_NEIGHBOUR_WAYS];
    fading->heard = (uint8_t)(fading->heard - (fading->heard > 1));
    return least;
}

void tsr_neighbour_hear(struct tsr_neighbours *neighbours, uint8_t family, const uint8_t *ip,
                        const uint8_t *mac)
{
    uint8_t wide[16];
    widen(wide, family, ip);
    struct tsr_neighbour *set = set_of(neighbours, wide);
    struct tsr_neighbour *neighbour = find_in(set, family, wide);
    if (!neighbour) {
        neighbour = least_heard(neighbours, set);
        *neighbour = (struct tsr_neighbour){.family = family};
        memcpy(neighbour->ip, wide, sizeof wide);
    }
    memcpy(neighbour->mac, mac, TSR_MAC_BYTES);
    neighbour->heard = (uint8_t)(neighbour->heard + (neighbour->heard < UINT8_MAX));
}
