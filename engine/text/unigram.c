#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "unigram_priv.h"
#include "utf8_priv.h"

#define NOTHING UINT32_MAX

/* SentencePiece lets no sum grow beyond this, where float loses the fractions. */
#define SUM_MAX 100000.0

static uint32_t edge_mix(uint32_t node, uint8_t byte)
{
    uint64_t h = ((uint64_t)node << 8 | byte) * 0x9E3779B97F4A7C15u;
    return (uint32_t)(h >> 32);
}

/* The edge, or the empty slot where it belongs. */
static struct tsr_unigram_edge *find_edge(const struct tsr_unigram *unigram, uint32_t node,
                                          uint8_t byte)
{
    for (uint32_t i = edge_mix(node, byte);; i++) {
        struct tsr_unigram_edge *edge = &unigram->edges[i & unigram->mask];
        if ((edge->node == node && edge->byte == byte) || edge->node == TSR_TOKEN_NONE)
            return edge;
    }
}

static int allocate(struct tsr_unigram *unigram, uint32_t slots, struct tsr_err *err)
{
    struct tsr_unigram_edge *edges = malloc(sizeof(*edges) * slots);
    if (!edges)
        return tsr_err_set(err, -ENOMEM, "no memory for a trie of %u edges", slots);
    memset(edges, 0xFF, sizeof(*edges) * slots);
    unigram->edges = edges;
    unigram->mask = slots - 1;
    return 0;
}

int tsr_unigram_init(struct tsr_unigram *unigram, const double *scores, uint32_t n_tokens,
                     struct tsr_err *err)
{
    *unigram = (struct tsr_unigram){.n_tokens = n_tokens, .unk = TSR_TOKEN_NONE};
    for (unsigned b = 0; b < 256; b++)
        unigram->byte_id[b] = TSR_TOKEN_NONE;
    for (uint32_t i = 0; i < n_tokens; i++)
        if (!isfinite(scores[i]))
            return tsr_err_set(err, -EINVAL, "the score of token %u is no finite number", i);
    unigram->scores = malloc(sizeof(*scores) * (n_tokens ? n_tokens : 1));
    if (!unigram->scores)
        return tsr_err_set(err, -ENOMEM, "no memory for %u scores", n_tokens);
    memcpy(unigram->scores, scores, sizeof(*scores) * n_tokens);
    return allocate(unigram, 1 << 10, err);
}

void tsr_unigram_fini(struct tsr_unigram *unigram)
{
    free(unigram->edges);
    free(unigram->scores);
    *unigram = (struct tsr_unigram){0};
}

static int grow(struct tsr_unigram *unigram, struct tsr_err *err)
{
    struct tsr_unigram_edge *old = unigram->edges;
    uint32_t n = unigram->mask + 1;
    if (n > UINT32_MAX / 4)
        return tsr_err_set(err, -ENOMEM, "no memory for a trie of %u edges", n);
    int rc = allocate(unigram, 2 * n, err);
    if (rc < 0)
        return rc;
    for (uint32_t i = 0; i < n; i++)
        if (old[i].node != TSR_TOKEN_NONE)
            *find_edge(unigram, old[i].node, old[i].byte) = old[i];
    free(old);
    return 0;
}

int tsr_unigram_add(struct tsr_unigram *unigram, const char *text, size_t len, uint32_t id,
                    struct tsr_err *err)
{
    uint32_t node = 0;
    for (size_t i = 0; i < len; i++) {
        uint8_t byte = (uint8_t)text[i];
        struct tsr_unigram_edge *edge = find_edge(unigram, node, byte);
        if (edge->node == TSR_TOKEN_NONE) {
            if (unigram->n_edges >= unigram->mask / 2) {
                int rc = grow(unigram, err);
                if (rc < 0)
                    return rc;
                edge = find_edge(unigram, node, byte);
            }
            *edge = (struct tsr_unigram_edge){
                .node = node, .next = ++unigram->n_edges, .id = TSR_TOKEN_NONE, .byte = byte};
        }
        if (i + 1 == len)
            edge->id = id;
        node = edge->next;
    }
    return 0;
}

void tsr_unigram_scratch_fini(struct tsr_unigram_scratch *scratch)
{
    free(scratch->best);
    *scratch = (struct tsr_unigram_scratch){0};
}

/* A token from begin on, after a path of score `before`. SentencePiece compares before it rounds.
 */
static void offer(const struct tsr_unigram *unigram, struct tsr_unigram_best *best, double before,
                  double score, uint32_t begin, uint32_t id)
{
    double sum = before + score;
    if (unigram->single)
        sum = (double)(float)sum;
    if (best->begin != NOTHING && !(sum > best->score))
        return;
    *best = (struct tsr_unigram_best){.score = sum, .begin = begin, .id = id};
}

static size_t char_width(const char *text, size_t len)
{
    int step = tsr_utf8_step((const uint8_t *)text, len);
    return step > 0 ? (size_t)step : 1;
}

/* Makes the score at best[at] zero; the others up to best[end] keep their distance to it. */
static void rebase(struct tsr_unigram_best *best, size_t at, size_t end)
{
    double offset = best[at].score;
    for (size_t i = at; i <= end; i++)
        if (best[i].begin != NOTHING)
            best[i].score = (double)(float)(best[i].score - offset);
}

static void find_best(const struct tsr_unigram *unigram, struct tsr_unigram_best *best,
                      const char *text, size_t len)
{
    for (size_t i = 1; i <= len; i++)
        best[i].begin = NOTHING;
    best[0] = (struct tsr_unigram_best){.begin = 0};
    size_t frontier = 0; /* the last place that a token ends at so far */
    for (size_t at = 0; at < len;) {
        if (unigram->single && fabs(best[at].score) > SUM_MAX)
            rebase(best, at, frontier);
        double before = best[at].score;
        size_t width = char_width(text + at, len - at);
        bool known = false;
        uint32_t node = 0;
        for (size_t end = at; end < len;) {
            const struct tsr_unigram_edge *edge = find_edge(unigram, node, (uint8_t)text[end]);
            if (edge->node == TSR_TOKEN_NONE)
                break;
            node = edge->next;
            end++;
            if (edge->id == TSR_TOKEN_NONE)
                continue;
            frontier = end > frontier ? end : frontier;
            offer(unigram, &best[end], before, unigram->scores[edge->id], (uint32_t)at, edge->id);
            known |= end - at == width;
        }
        if (!known) {
            frontier = at + width > frontier ? at + width : frontier;
            offer(unigram, &best[at + width], before, unigram->unk_score, (uint32_t)at,
                  unigram->unk);
        }
        at += width;
    }
}

/* The ids of the best path, written from the end of ids [len] on; where they begin. */
static size_t put_path(const struct tsr_unigram *unigram, const struct tsr_unigram_best *best,
                       const char *text, size_t len, uint32_t *ids)
{
    size_t out = len;
    bool unknown = false;
    for (size_t end = len; end > 0; end = best[end].begin) {
        bool unk = best[end].id == unigram->unk;
        if (unk && unigram->byte_fallback) {
            for (size_t i = end; i > best[end].begin; i--)
                ids[--out] = unigram->byte_id[(uint8_t)text[i - 1]];
        } else if (best[end].id != TSR_TOKEN_NONE && !(unk && unknown)) {
            ids[--out] = best[end].id;
        }
        unknown = unk;
    }
    return out;
}

ptrdiff_t tsr_unigram_encode(const struct tsr_unigram *unigram, struct tsr_unigram_scratch *scratch,
                             const char *text, size_t len, uint32_t *ids)
{
    if (scratch->cap < len + 1) {
        size_t cap = len + len / 4 + 1024;
        tsr_unigram_scratch_fini(scratch);
        scratch->best = malloc(cap * sizeof(*scratch->best));
        if (!scratch->best)
            return -ENOMEM;
        scratch->cap = cap;
    }
    find_best(unigram, scratch->best, text, len);
    size_t begin = put_path(unigram, scratch->best, text, len, ids);
    memmove(ids, ids + begin, (len - begin) * sizeof(*ids));
    return (ptrdiff_t)(len - begin);
}
