#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "charsmap_priv.h"

int tsr_charsmap_init(struct tsr_charsmap *map, const void *blob, size_t len, struct tsr_err *err)
{
    const uint8_t *p = blob;
    *map = (struct tsr_charsmap){0};
    size_t trie =
        len < 4 ? 0 : (size_t)p[0] | (size_t)p[1] << 8 | (size_t)p[2] << 16 | (size_t)p[3] << 24;
    if (len < 4 || trie >= len - 4 || trie < 4 || trie % 4 != 0)
        return tsr_err_set(err, -EINVAL,
                           "precompiled_charsmap of %zu bytes holds no trie of %zu bytes and "
                           "replacements",
                           len, trie);
    if (p[len - 1] != '\0')
        return tsr_err_set(err, -EINVAL, "precompiled_charsmap: the last replacement has no end");
    map->n_units = (uint32_t)(trie / 4);
    map->texts_len = len - 4 - trie;
    map->units = malloc(trie);
    map->texts = malloc(map->texts_len);
    if (!map->units || !map->texts) {
        tsr_charsmap_fini(map);
        return tsr_err_set(err, -ENOMEM, "no memory for a precompiled_charsmap of %zu bytes", len);
    }
    for (uint32_t i = 0; i < map->n_units; i++)
        map->units[i] = (uint32_t)p[4 + 4 * i] | (uint32_t)p[5 + 4 * i] << 8 |
                        (uint32_t)p[6 + 4 * i] << 16 | (uint32_t)p[7 + 4 * i] << 24;
    memcpy(map->texts, p + 4 + trie, map->texts_len);
    return 0;
}

void tsr_charsmap_fini(struct tsr_charsmap *map)
{
    free(map->units);
    free(map->texts);
    *map = (struct tsr_charsmap){0};
}

/* Where a unit's children begin, relative to it (darts-clone's layout: bit 9 widens bits 10-30). */
static uint32_t offset_of(uint32_t unit)
{
    return (unit >> 10) << ((unit & (1u << 9)) >> 6);
}

size_t tsr_charsmap_find(const struct tsr_charsmap *map, const char *text, size_t len, int shortest,
                         const char **out)
{
    size_t found = 0;
    if (map->n_units == 0)
        return 0;
    uint32_t at = offset_of(map->units[0]);
    for (size_t i = 0; i < len; i++) {
        uint8_t byte = (uint8_t)text[i];
        at ^= byte;
        if (at >= map->n_units || (map->units[at] & (1u << 31 | 0xFF)) != byte)
            break;
        uint32_t unit = map->units[at];
        at ^= offset_of(unit);
        if (!(unit & 1u << 8)) /* no sequence ends here */
            continue;
        uint32_t value = at < map->n_units ? map->units[at] & ~(1u << 31) : UINT32_MAX;
        if (value >= map->texts_len)
            break;
        *out = map->texts + value;
        found = i + 1;
        if (shortest)
            break;
    }
    return found;
}
