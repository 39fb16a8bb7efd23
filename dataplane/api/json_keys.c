#include "json_priv.h"

#include <errno.h>
#include <string.h>

enum { SLOTS_MIN = 64 };

static uint64_t rotate(uint64_t x, int bits)
{
    return x << bits | x >> (64 - bits);
}

static void sip_rounds(uint64_t v[4], int n)
{
    for (int i = 0; i < n; i++) {
        v[0] += v[1];
        v[2] += v[3];
        v[1] = rotate(v[1], 13) ^ v[0];
        v[3] = rotate(v[3], 16) ^ v[2];
        v[0] = rotate(v[0], 32);
        v[2] += v[1];
        v[0] += v[3];
        v[1] = rotate(v[1], 17) ^ v[2];
        v[3] = rotate(v[3], 21) ^ v[0];
        v[2] = rotate(v[2], 32);
    }
}

static void sip_word(uint64_t v[4], uint64_t word)
{
    v[3] ^= word;
    sip_rounds(v, 2);
    v[0] ^= word;
}

/* SipHash-2-4 (Aumasson and Bernstein 2012) of the object's node and the key. */
static uint32_t hash_key(const struct tsr_json *json, uint32_t object, const char *key, size_t size)
{
    uint64_t v[4] = {json->seed[0] ^ 0x736f6d6570736575u, json->seed[1] ^ 0x646f72616e646f6du,
                     json->seed[0] ^ 0x6c7967656e657261u, json->seed[1] ^ 0x7465646279746573u};
    uint64_t word;
    size_t left = size;
    sip_word(v, object);
    for (; left >= sizeof word; left -= sizeof word, key += sizeof word) {
        memcpy(&word, key, sizeof word);
        sip_word(v, word);
    }
    word = 0;
    memcpy(&word, key, left);
    sip_word(v, word | (uint64_t)(size + sizeof word) << 56);
    v[2] ^= 0xff;
    sip_rounds(v, 4);
    return (uint32_t)(v[0] ^ v[1] ^ v[2] ^ v[3]);
}

/* Where the key's node stands, or the empty slot where it would. */
static uint32_t *find_slot(const struct tsr_json *json, uint32_t object, const char *key,
                           size_t size, uint32_t hash)
{
    for (uint32_t i = hash;; i++) {
        uint32_t *slot = &json->slots[i & (json->n_slots - 1)];
        const struct tsr_json_value *node = &json->values[*slot];
        if (!*slot || (node->next == hash && node->parent == object && node->size == size &&
                       memcmp(json->bytes + node->off, key, size) == 0)) {
            return slot;
        }
    }
}

/* Twice as many slots, for all keys but the newest node. */
static int grow_slots(struct tsr_json *json)
{
    uint32_t n = json->n_slots ? 2 * json->n_slots : SLOTS_MIN;
    uint32_t *room = tsr_json_grown(json->slots, &json->slots_capacity, sizeof *json->slots, n);
    if (!room) {
        return -ENOMEM;
    }
    json->slots = room;
    json->n_slots = n;
    memset(room, 0, n * sizeof *room);
    for (uint32_t i = 0; i + 1 < json->n_values; i++) {
        const struct tsr_json_value *node = &json->values[i];
        if (node->type == TSR_JSON_KEY) {
            *find_slot(json, node->parent, json->bytes + node->off, node->size, node->next) = i;
        }
    }
    return 0;
}

int tsr_json_add_key(struct tsr_json *json)
{
    if (2 * (json->n_keys + 1) > json->n_slots) {
        int rc = grow_slots(json);
        if (rc < 0) {
            return rc;
        }
    }
    uint32_t index = json->n_values - 1;
    struct tsr_json_value *node = &json->values[index];
    const char *key = json->bytes + node->off;
    node->next = hash_key(json, node->parent, key, node->size);
    uint32_t *slot = find_slot(json, node->parent, key, node->size, node->next);
    if (*slot) {
        return -EEXIST;
    }
    *slot = index;
    json->n_keys++;
    return 0;
}

uint32_t tsr_json_find_key(const struct tsr_json *json, uint32_t object, const char *key,
                           size_t size)
{
    return json->n_slots ? *find_slot(json, object, key, size, hash_key(json, object, key, size))
                         : 0;
}
