#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "bpe_priv.h"
#include "utf8_priv.h"

#define NO_RANK UINT32_MAX
#define NOWHERE UINT32_MAX
#define SPACE   "\xE2\x96\x81" /* U+2581, SentencePiece's space */

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

static int allocate(struct tsr_bpe *bpe, uint32_t n_merges, struct tsr_err *err)
{
    uint32_t slots = 16;
    while (slots / 2 < n_merges)
        slots *= 2;
    bpe->merges = malloc(sizeof(*bpe->merges) * slots);
    if (!bpe->merges)
        return tsr_err_set(err, -ENOMEM, "no memory for %u merges", n_merges);
    memset(bpe->merges, 0xFF, sizeof(*bpe->merges) * slots);
    bpe->mask = slots - 1;
    return 0;
}

int tsr_bpe_init(struct tsr_bpe *bpe, const struct tsr_vocab *vocab,
                 const struct tsr_vocab_hash *hash, uint32_t n_merges, struct tsr_err *err)
{
    *bpe = (struct tsr_bpe){.vocab = vocab, .hash = hash, .unk = TSR_TOKEN_NONE};
    uint32_t known = 0;
    for (unsigned b = 0; b < 256; b++) {
        char text = (char)b;
        bpe->byte_id[b] = tsr_vocab_lookup(hash, &text, 1);
        known += bpe->byte_id[b] != TSR_TOKEN_NONE;
    }
    if (known < 128)
        return tsr_err_set(err, -EINVAL,
                           "only %u of the 256 bytes are tokens: this is no byte-level vocabulary",
                           known);
    return allocate(bpe, n_merges, err);
}

int tsr_bpe_init_by_char(struct tsr_bpe *bpe, const struct tsr_vocab *vocab,
                         const struct tsr_vocab_hash *hash, uint32_t n_merges, struct tsr_err *err)
{
    *bpe = (struct tsr_bpe){.vocab = vocab, .hash = hash, .by_char = true, .unk = TSR_TOKEN_NONE};
    for (unsigned b = 0; b < 256; b++) {
        char text = (char)b;
        bpe->byte_id[b] = b < 0x80 ? tsr_vocab_lookup(hash, &text, 1) : TSR_TOKEN_NONE;
        bpe->fallback_id[b] = TSR_TOKEN_NONE;
    }
    for (uint32_t id = 0; id < hash->n_tokens; id++) {
        size_t len;
        const char *text = tsr_vocab_key(hash, id, &len);
        for (size_t i = 1; i + 3 <= len; i++)
            if (memcmp(text + i, SPACE, 3) == 0 && (i < 3 || memcmp(text + i - 3, SPACE, 3) != 0))
                bpe->before_space[(uint8_t)text[i - 1]] = true;
        bpe->resegment |= (vocab->flags[id] & TSR_TOKEN_UNUSED) && len > 0;
    }
    return allocate(bpe, n_merges, err);
}

static void insert(struct tsr_bpe *bpe, struct tsr_bpe_merge merge)
{
    uint32_t i = pair_mix(merge.left, merge.right);
    while (bpe->merges[i & bpe->mask].left != TSR_TOKEN_NONE)
        i++;
    bpe->merges[i & bpe->mask] = merge;
}

/* Counts a merge, and makes room where the table is half full. */
static int count_merge(struct tsr_bpe *bpe, struct tsr_err *err)
{
    if (++bpe->n_merges <= bpe->mask / 2)
        return 0;
    struct tsr_bpe_merge *old = bpe->merges;
    uint32_t n = bpe->mask + 1;
    int rc = allocate(bpe, n, err);
    if (rc < 0) {
        bpe->merges = old;
        return rc;
    }
    for (uint32_t i = 0; i < n; i++)
        if (old[i].left != TSR_TOKEN_NONE)
            insert(bpe, old[i]);
    free(old);
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
    uint32_t l = tsr_vocab_lookup(bpe->hash, left, left_len);
    uint32_t r = tsr_vocab_lookup(bpe->hash, right, right_len);
    uint32_t id = tsr_vocab_lookup(bpe->hash, both, left_len + right_len);
    if (l == TSR_TOKEN_NONE || r == TSR_TOKEN_NONE || id == TSR_TOKEN_NONE) {
        bool result = l != TSR_TOKEN_NONE && r != TSR_TOKEN_NONE;
        const char *missing = result ? both : l == TSR_TOKEN_NONE ? left : right;
        size_t len = result ? left_len + right_len : l == TSR_TOKEN_NONE ? left_len : right_len;
        return tsr_err_set(err, -EINVAL, "merge %u: '%.*s' is not a token", bpe->n_merges, (int)len,
                           missing);
    }
    uint32_t rank = bpe->n_merges;
    int rc = count_merge(bpe, err);
    if (rc == 0 && !find_merge(bpe, l, r))
        insert(bpe, (struct tsr_bpe_merge){.left = l, .right = r, .rank = rank, .id = id});
    return rc;
}

struct scored {
    float score;
    uint32_t id;
};

static int by_score(const void *a, const void *b)
{
    const struct scored *x = a, *y = b;
    return (x->score < y->score) - (x->score > y->score);
}

/* All ways to cut a token into two tokens. */
static int add_cuts(struct tsr_bpe *bpe, uint32_t id, uint32_t rank, struct tsr_err *err)
{
    size_t len;
    const char *text = tsr_vocab_key(bpe->hash, id, &len);
    if (len > TSR_BPE_MERGE_MAX || tsr_vocab_lookup(bpe->hash, text, len) != id)
        return 0;
    for (size_t i = 1; i < len; i++) {
        if (((uint8_t)text[i] & 0xC0) == 0x80)
            continue;
        uint32_t left = tsr_vocab_lookup(bpe->hash, text, i);
        uint32_t right = left == TSR_TOKEN_NONE ? TSR_TOKEN_NONE
                                                : tsr_vocab_lookup(bpe->hash, text + i, len - i);
        if (right == TSR_TOKEN_NONE)
            continue;
        int rc = count_merge(bpe, err);
        if (rc < 0)
            return rc;
        insert(bpe, (struct tsr_bpe_merge){.left = left, .right = right, .rank = rank, .id = id});
    }
    return 0;
}

int tsr_bpe_add_scores(struct tsr_bpe *bpe, const float *scores, uint32_t n, struct tsr_err *err)
{
    uint32_t rank = 0;
    struct scored *order = malloc(sizeof(*order) * n);
    if (!order)
        return tsr_err_set(err, -ENOMEM, "no memory for %u scores", n);
    int rc = 0;
    for (uint32_t id = 0; id < n; id++) {
        order[id] = (struct scored){scores[id], id};
        if (!isfinite(scores[id]) && rc == 0)
            rc = tsr_err_set(err, -EINVAL, "the score of token %u is no finite number", id);
    }
    if (rc == 0)
        qsort(order, n, sizeof(*order), by_score);
    for (uint32_t i = 0; rc == 0 && i < n; i++) {
        rank += i > 0 && order[i].score < order[i - 1].score;
        rc = add_cuts(bpe, order[i].id, rank, err);
    }
    free(order);
    return rc;
}

int tsr_bpe_add_written(struct tsr_bpe *bpe, const char *left, size_t left_len, const char *right,
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
    if (bpe->by_char)
        return tsr_bpe_add(bpe, left, left_len, right, right_len, err);
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
    free(bpe->made_of);
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

/* The symbol of a character; TSR_TOKEN_NONE where it is none. */
static uint32_t char_symbol(const struct tsr_bpe *bpe, const char *text, size_t width)
{
    uint32_t id =
        width == 1 ? bpe->byte_id[(uint8_t)text[0]] : tsr_vocab_lookup(bpe->hash, text, width);
    bool guarded = id != TSR_TOKEN_NONE && (bpe->vocab->flags[id] & TSR_TOKEN_GUARDED);
    return guarded ? TSR_TOKEN_NONE : id;
}

/* What stands for a character that is no symbol; the number of ids. */
static size_t fall_back(const struct tsr_bpe *bpe, const char *text, size_t width, uint32_t *ids)
{
    for (size_t i = 0; i < width; i++) {
        ids[i] = bpe->fallback_id[(uint8_t)text[i]];
        if (ids[i] != TSR_TOKEN_NONE)
            continue;
        ids[0] = bpe->unk;
        return bpe->unk != TSR_TOKEN_NONE;
    }
    return width;
}

static size_t first_chars(const struct tsr_bpe *bpe, const char *text, size_t len, uint32_t *ids)
{
    size_t n = 0;
    bool unknown = false;
    for (size_t i = 0; i < len;) {
        int step = tsr_utf8_step((const uint8_t *)text + i, len - i);
        size_t width = step > 0 ? (size_t)step : 1;
        uint32_t id = step > 0 ? char_symbol(bpe, text + i, width) : TSR_TOKEN_NONE;
        if (id != TSR_TOKEN_NONE) {
            ids[n++] = id;
            unknown = false;
        } else {
            size_t more = fall_back(bpe, text + i, width, ids + n);
            bool unk = more == 1 && ids[n] == bpe->unk;
            n += bpe->fuse_unk && unknown && unk ? 0 : more;
            unknown = unk;
        }
        i += width;
    }
    return n;
}

/* The bytes as symbols; bytes that the vocabulary lacks become unk or vanish. */
static size_t first_symbols(const struct tsr_bpe *bpe, const char *text, size_t len, uint32_t *ids)
{
    if (bpe->by_char)
        return first_chars(bpe, text, len, ids);
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

/* Merges down to n_min symbols at the least. */
static size_t merge_short(const struct tsr_bpe *bpe, const char *text, size_t len, size_t n_min,
                          uint32_t *ids)
{
    uint32_t rank[TSR_BPE_SHORT];
    size_t n = first_symbols(bpe, text, len, ids);
    for (size_t i = 0; i + 1 < n; i++)
        rank[i] = pair_rank(bpe, ids[i], ids[i + 1]);
    while (n > n_min) {
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
                         size_t len, size_t n_min, uint32_t *ids)
{
    size_t n = first_symbols(bpe, text, len, s->id), heap_n = 0, left = n;
    for (size_t i = 0; i < n; i++) {
        s->prev[i] = i ? (uint32_t)(i - 1) : NOWHERE;
        s->next[i] = i + 1 < n ? (uint32_t)(i + 1) : NOWHERE;
        uint32_t rank = i + 1 < n ? pair_rank(bpe, s->id[i], s->id[i + 1]) : NO_RANK;
        if (rank != NO_RANK)
            s->heap[heap_n++] = (uint64_t)rank << 32 | i;
    }
    for (size_t i = heap_n / 2; i-- > 0;)
        sift_down(s->heap, heap_n, i);
    while (heap_n && left > n_min) {
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
        left--;
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

static ptrdiff_t merge(const struct tsr_bpe *bpe, struct tsr_bpe_scratch *scratch, const char *text,
                       size_t len, size_t n_min, uint32_t *ids)
{
    if (len <= TSR_BPE_SHORT)
        return (ptrdiff_t)merge_short(bpe, text, len, n_min, ids);
    if (reserve(scratch, len) < 0)
        return -ENOMEM;
    return (ptrdiff_t)merge_long(bpe, scratch, text, len, n_min, ids);
}

/* The last two symbols that each unused token is merged from. SentencePiece splits it into the last
 * pair whose text it was; by itself its text is merged by the same steps as within a text. */
static int note_unused(struct tsr_bpe *bpe)
{
    uint32_t parts[TSR_BPE_MERGE_MAX];
    struct tsr_bpe_scratch scratch = {0};
    bpe->made_of = malloc(sizeof(*bpe->made_of) * bpe->hash->n_tokens);
    ptrdiff_t n = bpe->made_of ? 0 : -ENOMEM;
    for (uint32_t id = 0; n >= 0 && id < bpe->hash->n_tokens; id++) {
        size_t len;
        const char *text = tsr_vocab_key(bpe->hash, id, &len);
        bpe->made_of[id][0] = TSR_TOKEN_NONE;
        if (!(bpe->vocab->flags[id] & TSR_TOKEN_UNUSED) || len == 0 || len > TSR_BPE_MERGE_MAX)
            continue;
        n = merge(bpe, &scratch, text, len, 2, parts);
        if (n == 2)
            memcpy(bpe->made_of[id], parts, sizeof(bpe->made_of[id]));
    }
    tsr_bpe_scratch_trim(&scratch);
    return n < 0 ? (int)n : 0;
}

int tsr_bpe_finish(struct tsr_bpe *bpe)
{
    for (uint32_t i = 0; i <= bpe->mask; i++) {
        struct tsr_bpe_merge *slot = &bpe->merges[i];
        if (slot->left != TSR_TOKEN_NONE && (bpe->vocab->flags[slot->id] & TSR_TOKEN_GUARDED))
            slot->rank = NO_RANK;
    }
    return bpe->resegment ? note_unused(bpe) : 0;
}

/* Writes an unused token's parts before ids + end; where they begin. A part has fewer bytes than
 * the whole, so this ends. */
static size_t put_parts(const struct tsr_bpe *bpe, uint32_t id, uint32_t *ids, size_t end)
{
    const uint32_t *parts = bpe->made_of[id];
    if (!(bpe->vocab->flags[id] & TSR_TOKEN_UNUSED)) {
        ids[--end] = id;
        return end;
    }
    if (parts[0] == TSR_TOKEN_NONE) { /* a character of its own: not to be used either */
        uint32_t bytes[4];
        size_t len, n;
        const char *text = tsr_vocab_key(bpe->hash, id, &len);
        n = fall_back(bpe, text, len < 4 ? len : 4, bytes);
        memcpy(ids + end - n, bytes, n * sizeof(*ids));
        return end - n;
    }
    end = put_parts(bpe, parts[1], ids, end);
    return put_parts(bpe, parts[0], ids, end);
}

/* Takes unused tokens apart, in place, from the end: ids [len] has room for an id a byte. */
static size_t resegment(const struct tsr_bpe *bpe, size_t len, uint32_t *ids, size_t n)
{
    size_t out = len;
    for (size_t i = n; i-- > 0;)
        out = put_parts(bpe, ids[i], ids, out);
    memmove(ids, ids + out, (len - out) * sizeof(*ids));
    return len - out;
}

static ptrdiff_t encode_part(const struct tsr_bpe *bpe, struct tsr_bpe_scratch *scratch,
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
    ptrdiff_t n;
    uint32_t whole = TSR_TOKEN_NONE;
    if (bpe->whole_first && len <= bpe->hash->key_bytes_max)
        whole = tsr_vocab_lookup(bpe->hash, text, len);
    if (whole != TSR_TOKEN_NONE && !(bpe->vocab->flags[whole] & TSR_TOKEN_ADDED)) {
        ids[0] = whole;
        n = 1;
    } else {
        n = merge(bpe, scratch, text, len, 1, ids);
        if (n > 0 && bpe->resegment)
            n = (ptrdiff_t)resegment(bpe, len, ids, (size_t)n);
    }
    if (cached && n >= 0 && n <= TSR_BPE_CACHE_IDS) {
        cached->len = (uint8_t)len;
        cached->n = (uint8_t)n;
        memcpy(cached->text, text, len);
        memcpy(cached->ids, ids, (size_t)n * sizeof(*ids));
    }
    return n;
}

/* The end of the part that begins text[len]: a place that no merge goes over. */
static size_t part_end(const struct tsr_bpe *bpe, const char *text, size_t len)
{
    for (size_t i = 1; i + 3 <= len; i++) {
        const char *next = memchr(text + i, SPACE[0], len - 2 - i);
        if (!next)
            return len;
        i = (size_t)(next - text);
        if (memcmp(next, SPACE, 3) == 0 && !bpe->before_space[(uint8_t)next[-1]] &&
            (i < 3 || memcmp(next - 3, SPACE, 3) != 0))
            return i;
    }
    return len;
}

ptrdiff_t tsr_bpe_encode(const struct tsr_bpe *bpe, struct tsr_bpe_scratch *scratch,
                         const char *text, size_t len, uint32_t *ids)
{
    if (!bpe->by_char || bpe->whole_first)
        return encode_part(bpe, scratch, text, len, ids);
    size_t n = 0;
    for (size_t at = 0; at < len;) {
        size_t end = at + part_end(bpe, text + at, len - at);
        ptrdiff_t more = encode_part(bpe, scratch, text + at, end - at, ids + n);
        if (more < 0)
            return more;
        bool fuse =
            bpe->fuse_unk && n > 0 && more > 0 && ids[n - 1] == bpe->unk && ids[n] == bpe->unk;
        if (fuse)
            memmove(ids + n, ids + n + 1, (size_t)(more - 1) * sizeof(*ids));
        n += (size_t)more - fuse;
        at = end;
    }
    return (ptrdiff_t)n;
}
