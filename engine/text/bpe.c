#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "bpe_priv.h"

#define NO_RANK UINT32_MAX
#define NOWHERE UINT32_MAX

static uint32_t pair_mix(uint32_t left, uint32_t right)
{
    uint64_t h = ((uint64_t)left << 32 | right) * 0x9E3779B97F4A7C15u;
    h ^= h >> 32;
    h *= 0xD6E8FEB86659FD93u;
    return (uint32_t)(h >> 32);
}

static const struct tsr_bpe_merge *find_merge(const struct tsr_bpe *bpe, uint32_t left,
                                              uint32_t right)
{
    for (uint32_t i = pair_mix(left, right);; i++) {
        const struct tsr_bpe_merge *merge = &bpe->merges[i & bpe->mask];
        if (merge->left == left && merge->right == right)
            return merge;
        if (merge->left == TSR_TOKEN_NONE)
            return NULL;
    }
}

static uint32_t pair_rank(const struct tsr_bpe *bpe, uint32_t left, uint32_t right)
{
    const struct tsr_bpe_merge *merge = find_merge(bpe, left, right);
    return merge ? merge->rank : NO_RANK;
}

int tsr_bpe_init(struct tsr_bpe *bpe, const struct tsr_vocab *vocab,
                 const struct tsr_vocab_hash *hash, uint32_t n_merges, struct tsr_err *err)
{
    *bpe = (struct tsr_bpe){.vocab = vocab, .hash = hash, .unk = TSR_TOKEN_NONE};
    uint32_t slots = 16;
    while (slots / 2 < n_merges)
        slots *= 2;
    bpe->merges = malloc(sizeof(*bpe->merges) * slots);
    if (!bpe->merges)
        return tsr_err_set(err, -ENOMEM, "no memory for %u merges", n_merges);
    memset(bpe->merges, 0xFF, sizeof(*bpe->merges) * slots);
    bpe->mask = slots - 1;
    uint32_t known = 0;
    for (unsigned b = 0; b < 256; b++) {
        char text = (char)b;
        bpe->byte_id[b] = tsr_vocab_lookup(vocab, hash, &text, 1);
        known += bpe->byte_id[b] != TSR_TOKEN_NONE;
    }
    if (known < 128)
        return tsr_err_set(err, -EINVAL,
                           "only %u of the 256 bytes are tokens: this is no byte-level vocabulary",
                           known);
    return 0;
}

int tsr_bpe_add(struct tsr_bpe *bpe, const char *left, size_t left_len, const char *right,
                size_t right_len, struct tsr_err *err)
{
    char both[TSR_BPE_MERGE_MAX];
    if (left_len == 0 || right_len == 0 || left_len + right_len > sizeof(both))
        return tsr_err_set(err, -EINVAL,
                           "merge %u joins %zu and %zu bytes; sides are not empty and at most %zu "
                           "bytes together",
                           bpe->n_merges, left_len, right_len, sizeof(both));
    memcpy(both, left, left_len);
    memcpy(both + left_len, right, right_len);
    uint32_t l = tsr_vocab_lookup(bpe->vocab, bpe->hash, left, left_len);
    uint32_t r = tsr_vocab_lookup(bpe->vocab, bpe->hash, right, right_len);
    uint32_t id = tsr_vocab_lookup(bpe->vocab, bpe->hash, both, left_len + right_len);
    if (l == TSR_TOKEN_NONE || r == TSR_TOKEN_NONE || id == TSR_TOKEN_NONE) {
        bool result = l != TSR_TOKEN_NONE && r != TSR_TOKEN_NONE;
        const char *missing = result ? both : l == TSR_TOKEN_NONE ? left : right;
        size_t len = result ? left_len + right_len : l == TSR_TOKEN_NONE ? left_len : right_len;
        return tsr_err_set(err, -EINVAL, "merge %u: '%.*s' is not a token", bpe->n_merges, (int)len,
                           missing);
    }
    uint32_t rank = bpe->n_merges++;
    if (find_merge(bpe, l, r))
        return 0;
    uint32_t i = pair_mix(l, r);
    while (bpe->merges[i & bpe->mask].left != TSR_TOKEN_NONE)
        i++;
    bpe->merges[i & bpe->mask] =
        (struct tsr_bpe_merge){.left = l, .right = r, .rank = rank, .id = id};
    return 0;
}

int tsr_bpe_add_mapped(struct tsr_bpe *bpe, const char *left, size_t left_len, const char *right,
                       size_t right_len, struct tsr_err *err)
{
    if (!right) {
        const char *space = left_len > 2 ? memchr(left + 1, ' ', left_len - 2) : NULL;
        if (!space)
            return tsr_err_set(err, -EINVAL, "merge %u: '%.*s' is not two tokens and a space",
                               bpe->n_merges, (int)(left_len < 64 ? left_len : 64), left);
        right = space + 1;
        right_len = left_len - (size_t)(space - left) - 1;
        left_len = (size_t)(space - left);
    }
    char a[TSR_BPE_MERGE_MAX], b[TSR_BPE_MERGE_MAX];
    if (left_len > sizeof(a) || right_len > sizeof(b))
        return tsr_err_set(err, -EINVAL, "merge %u has a side of %zu bytes; at most %d are allowed",
                           bpe->n_merges, left_len > right_len ? left_len : right_len,
                           TSR_BPE_MERGE_MAX);
    ptrdiff_t n = tsr_vocab_unmap(left, left_len, a), m = tsr_vocab_unmap(right, right_len, b);
    return tsr_bpe_add(bpe, n < 0 ? left : a, n < 0 ? left_len : (size_t)n, m < 0 ? right : b,
                       m < 0 ? right_len : (size_t)m, err);
}

void tsr_bpe_fini(struct tsr_bpe *bpe)
{
    free(bpe->merges);
    *bpe = (struct tsr_bpe){0};
}

int tsr_bpe_scratch_init(struct tsr_bpe_scratch *scratch)
{
    *scratch = (struct tsr_bpe_scratch){0};
    scratch->cache = calloc(TSR_BPE_CACHE_SLOTS, sizeof(*scratch->cache));
    return scratch->cache ? 0 : -ENOMEM;
}

void tsr_bpe_scratch_trim(struct tsr_bpe_scratch *scratch)
{
    free(scratch->id);
    free(scratch->prev);
    free(scratch->next);
    free(scratch->heap);
    scratch->id = scratch->prev = scratch->next = NULL;
    scratch->heap = NULL;
    scratch->cap = 0;
}

void tsr_bpe_scratch_fini(struct tsr_bpe_scratch *scratch)
{
    tsr_bpe_scratch_trim(scratch);
    free(scratch->cache);
    *scratch = (struct tsr_bpe_scratch){0};
}

static int reserve(struct tsr_bpe_scratch *scratch, size_t n)
{
    if (n <= scratch->cap)
        return 0;
    size_t cap = n + n / 4 + 1024;
    tsr_bpe_scratch_trim(scratch);
    scratch->id = malloc(cap * sizeof(*scratch->id));
    scratch->prev = malloc(cap * sizeof(*scratch->prev));
    scratch->next = malloc(cap * sizeof(*scratch->next));
    scratch->heap = malloc(3 * cap * sizeof(*scratch->heap));
    if (!scratch->id || !scratch->prev || !scratch->next || !scratch->heap) {
        tsr_bpe_scratch_trim(scratch);
        return -ENOMEM;
    }
    scratch->cap = cap;
    return 0;
}

/* The bytes as symbols; bytes that the vocabulary lacks become unk or vanish. */
static size_t first_symbols(const struct tsr_bpe *bpe, const char *text, size_t len, uint32_t *ids)
{
    size_t n = 0;
    for (size_t i = 0; i < len; i++) {
        uint32_t id = bpe->byte_id[(uint8_t)text[i]];
        if (id == TSR_TOKEN_NONE)
            id = bpe->unk;
        if (id != TSR_TOKEN_NONE)
            ids[n++] = id;
    }
    return n;
}

static size_t merge_short(const struct tsr_bpe *bpe, const char *text, size_t len, uint32_t *ids)
{
    uint32_t rank[TSR_BPE_SHORT];
    size_t n = first_symbols(bpe, text, len, ids);
    for (size_t i = 0; i + 1 < n; i++)
        rank[i] = pair_rank(bpe, ids[i], ids[i + 1]);
    while (n > 1) {
        size_t best = 0;
        for (size_t i = 1; i + 1 < n; i++)
            if (rank[i] < rank[best])
                best = i;
        if (rank[best] == NO_RANK)
            break;
        ids[best] = find_merge(bpe, ids[best], ids[best + 1])->id;
        n--;
        for (size_t i = best + 1; i < n; i++) {
            ids[i] = ids[i + 1];
            rank[i - 1] = rank[i];
        }
        if (best > 0)
            rank[best - 1] = pair_rank(bpe, ids[best - 1], ids[best]);
        if (best + 1 < n)
            rank[best] = pair_rank(bpe, ids[best], ids[best + 1]);
    }
    return n;
}

static void sift_down(uint64_t *heap, size_t n, size_t i)
{
    uint64_t value = heap[i];
    for (;;) {
        size_t child = 2 * i + 1;
        if (child >= n)
            break;
        if (child + 1 < n && heap[child + 1] < heap[child])
            child++;
        if (heap[child] >= value)
            break;
        heap[i] = heap[child];
        i = child;
    }
    heap[i] = value;
}

static void sift_up(uint64_t *heap, size_t i)
{
    uint64_t value = heap[i];
    while (i > 0 && heap[(i - 1) / 2] > value) {
        heap[i] = heap[(i - 1) / 2];
        i = (i - 1) / 2;
    }
    heap[i] = value;
}

/* Symbols in a linked list, candidate pairs in a heap. An entry of the heap is stale where the pair
 * at its position has another rank now: a rank names its pair, so equal ranks mean the same pair.
 * Each merge adds at most two entries, hence 3 n in all and O(n log n). */
static size_t merge_long(const struct tsr_bpe *bpe, struct tsr_bpe_scratch *s, const char *text,
                         size_t len, uint32_t *ids)
{
    size_t n = first_symbols(bpe, text, len, s->id), heap_n = 0;
    for (size_t i = 0; i < n; i++) {
        s->prev[i] = i ? (uint32_t)(i - 1) : NOWHERE;
        s->next[i] = i + 1 < n ? (uint32_t)(i + 1) : NOWHERE;
        uint32_t rank = i + 1 < n ? pair_rank(bpe, s->id[i], s->id[i + 1]) : NO_RANK;
        if (rank != NO_RANK)
            s->heap[heap_n++] = (uint64_t)rank << 32 | i;
    }
    for (size_t i = heap_n / 2; i-- > 0;)
        sift_down(s->heap, heap_n, i);
    while (heap_n) {
        uint32_t rank = (uint32_t)(s->heap[0] >> 32), at = (uint32_t)s->heap[0];
        s->heap[0] = s->heap[--heap_n];
        if (heap_n)
            sift_down(s->heap, heap_n, 0);
        uint32_t right = s->id[at] == TSR_TOKEN_NONE ? NOWHERE : s->next[at];
        if (right == NOWHERE)
            continue;
        const struct tsr_bpe_merge *merge = find_merge(bpe, s->id[at], s->id[right]);
        if (!merge || merge->rank != rank)
            continue;
        s->id[at] = merge->id;
        s->id[right] = TSR_TOKEN_NONE;
        uint32_t after = s->next[right], before = s->prev[at];
        s->next[at] = after;
        if (after != NOWHERE) {
            s->prev[after] = at;
            uint32_t next_rank = pair_rank(bpe, s->id[at], s->id[after]);
            if (next_rank != NO_RANK) {
                s->heap[heap_n] = (uint64_t)next_rank << 32 | at;
                sift_up(s->heap, heap_n++);
            }
        }
        if (before != NOWHERE) {
            uint32_t next_rank = pair_rank(bpe, s->id[before], s->id[at]);
            if (next_rank != NO_RANK) {
                s->heap[heap_n] = (uint64_t)next_rank << 32 | before;
                sift_up(s->heap, heap_n++);
            }
        }
    }
    size_t out = 0;
    for (uint32_t i = n ? 0 : NOWHERE; i != NOWHERE; i = s->next[i])
        ids[out++] = s->id[i];
    return out;
}

ptrdiff_t tsr_bpe_encode(const struct tsr_bpe *bpe, struct tsr_bpe_scratch *scratch,
                         const char *text, size_t len, uint32_t *ids)
{
    struct tsr_bpe_cached *cached = NULL;
    if (len <= TSR_BPE_CACHE_TEXT) {
        cached = &scratch->cache[tsr_vocab_mix(text, len) & (TSR_BPE_CACHE_SLOTS - 1)];
        if (cached->len == len && memcmp(cached->text, text, len) == 0) {
            for (size_t i = 0; i < cached->n; i++)
                ids[i] = cached->ids[i];
            return cached->n;
        }
    }
    size_t n;
    uint32_t whole = TSR_TOKEN_NONE;
    if (bpe->whole_first && len <= bpe->vocab->token_bytes_max)
        whole = tsr_vocab_lookup(bpe->vocab, bpe->hash, text, len);
    if (whole != TSR_TOKEN_NONE && !(bpe->vocab->flags[whole] & TSR_TOKEN_ADDED)) {
        ids[0] = whole;
        n = 1;
    } else if (len <= TSR_BPE_SHORT) {
        n = merge_short(bpe, text, len, ids);
    } else {
        if (reserve(scratch, len) < 0)
            return -ENOMEM;
        n = merge_long(bpe, scratch, text, len, ids);
    }
    if (cached && n <= TSR_BPE_CACHE_IDS) {
        cached->len = (uint8_t)len;
        cached->n = (uint8_t)n;
        memcpy(cached->text, text, len);
        memcpy(cached->ids, ids, n * sizeof(*ids));
    }
    return (ptrdiff_t)n;
}
