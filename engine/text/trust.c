#include <errno.h>
#include <stdlib.h>

#include "trust_priv.h"

void tsr_trust_reset(struct tsr_trust *trust)
{
    trust->n = 0;
    trust->at = 0;
    trust->base = 0;
}

int tsr_trust_append(struct tsr_trust *trust, size_t end, bool trusted)
{
    size_t last = trust->n ? trust->ranges[trust->n - 1].end : 0;
    if (end == last)
        return 0;
    if (trust->n && trust->ranges[trust->n - 1].trusted == trusted) {
        trust->ranges[trust->n - 1].end = end;
        return 0;
    }
    if (trust->n == trust->cap) {
        size_t cap = trust->cap * 2 + 16;
        struct tsr_trust_range *grown = realloc(trust->ranges, cap * sizeof(*grown));
        if (!grown)
            return -ENOMEM;
        trust->ranges = grown;
        trust->cap = cap;
    }
    trust->ranges[trust->n++] = (struct tsr_trust_range){.end = end, .trusted = trusted};
    return 0;
}

bool tsr_trust_over(struct tsr_trust *trust, size_t begin, size_t end)
{
    size_t i = trust->at;
    begin += trust->base;
    end += trust->base;
    while (i > 0 && trust->ranges[i - 1].end > begin)
        i--;
    while (i < trust->n && trust->ranges[i].end <= begin)
        i++;
    trust->at = i;
    if (begin >= end)
        return true;
    return i < trust->n && trust->ranges[i].trusted && trust->ranges[i].end >= end;
}

void tsr_trust_cut(struct tsr_trust *trust, size_t end)
{
    while (trust->n > 1 && trust->ranges[trust->n - 2].end >= end)
        trust->n--;
    if (trust->n && trust->ranges[trust->n - 1].end > end)
        trust->ranges[trust->n - 1].end = end;
    if (end == 0)
        trust->n = 0;
    trust->at = 0;
}

void tsr_trust_fini(struct tsr_trust *trust)
{
    free(trust->ranges);
    *trust = (struct tsr_trust){0};
}
