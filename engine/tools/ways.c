#include "ways_priv.h"

#include <errno.h>
#include <math.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* `chunk` rows of a sequence a step; `together`: the next chunks, of changing size, of up to
 * WAYS_LIVE_MAX sequences. */
static const struct way {
    const char *name;
    uint32_t chunk;
    bool together;
} ways_in[] = {
    {"at once", UINT32_MAX, false}, {"in chunks of 1", 1, false},   {"in chunks of 7", 7, false},
    {"in chunks of 32", 32, false}, {"several in a step", 7, true},
};
enum { WAYS_IN = sizeof ways_in / sizeof *ways_in };
/* After the first, which has a worker a CPU. */
static const uint32_t worker_counts[] = {1, 2, 4};
enum { WORKER_COUNTS = sizeof worker_counts / sizeof *worker_counts, WORKERS_MAX = 4 };

/* Where the prompts are more work than this, in weights times rows, the ways other than the first
 * run only the shortest that make it up, two at least, and each on one number of workers. */
static const double other_work = 1e10;

/* A sequence under way. */
struct live {
    uint32_t sequence, at; /* rows done */
    struct tsr_kv_seq kv;
    uint32_t *pages;
};

struct run {
    struct tsr_ways *ways;
    struct tsr_exec *exec;
    const struct way *way;
    uint32_t workers;
    bool is_first;
    const uint32_t *order; /* [n] sequences, shortest first */
    uint32_t n;            /* of these, how many are run */
    uint64_t *marks;       /* of the first way's rows */
    const size_t *marks0;  /* [n] where a sequence's begin */
    struct live live[WAYS_LIVE_MAX];
    uint32_t n_live, next, turn;
    uint32_t runs_done, runs; /* for progress */
};

static uint32_t longest(const struct tsr_ways *w)
{
    uint32_t most = 1;
    for (uint32_t i = 0; i < w->n; i++) {
        most = w->sequences[i].rows > most ? w->sequences[i].rows : most;
    }
    return most;
}

static uint32_t pages_of(uint32_t rows)
{
    return (rows + TSR_KV_PAGE_POSITIONS - 1) / TSR_KV_PAGE_POSITIONS;
}

static uint32_t cpus(void)
{
    cpu_set_t set;
    int n = sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : 1;
    return n < TSR_EXEC_WORKERS_MAX ? (uint32_t)n : TSR_EXEC_WORKERS_MAX;
}

void tsr_ways_options(const struct tsr_ways *w, struct tsr_exec_options *options)
{
    uint32_t most = longest(w), looked = 1;
    uint32_t live = w->n < WAYS_LIVE_MAX ? w->n : WAYS_LIVE_MAX;
    uint32_t mixed = live * 14; /* 1 + (7 + turn + i) % 14 rows each */
    for (uint32_t i = 0; i < w->n; i++) {
        uint32_t rows = w->sequences[i].rows - w->sequences[i].first;
        looked = rows > looked ? rows : looked;
    }
    const struct tsr_program *p = &w->model->program;
    struct tsr_kv_shape shape = {p->layers, p->kv_heads, p->head_dim, 4};
    *options = (struct tsr_exec_options){
        .workers = cpus() > WORKERS_MAX ? cpus() : WORKERS_MAX,
        .weights = w->weights,
        .rows_max = most > mixed ? most : mixed,
        .logit_rows_max = looked > mixed ? looked : mixed,
        .context = most,
        .beyond = true,
        .kv_bytes = (uint64_t)live * pages_of(most) * tsr_kv_page_bytes(&shape),
    };
}

/* A row's bytes in 64 bits (FNV-1a by words): rows are compared without being kept. */
static uint64_t mark_of(const float *logits, uint32_t n)
{
    uint64_t mark = 0xcbf29ce484222325;
    for (uint32_t i = 0; i < n; i++) {
        uint32_t word;
        memcpy(&word, &logits[i], sizeof word);
        mark = (mark ^ word) * 0x100000001b3;
    }
    return mark;
}

static bool is_finite(const float *logits, uint32_t n)
{
    bool all = true;
    for (uint32_t i = 0; i < n; i++) {
        all &= isfinite(logits[i]) != 0;
    }
    return all;
}

static void take_row(struct run *r, uint32_t sequence, uint32_t position, const float *logits)
{
    struct tsr_ways *w = r->ways;
    uint32_t vocab = w->model->program.vocab;
    uint64_t *kept = &r->marks[r->marks0[sequence] + position - w->sequences[sequence].first];
    uint64_t mark = mark_of(logits, vocab);
    if (r->is_first) {
        *kept = mark;
        w->broken += !is_finite(logits, vocab);
        w->row(w->row_ctx, w->sequences[sequence].prompt, position, logits);
        return;
    }
    w->compared++;
    if (mark != *kept && w->different++ == 0) {
        snprintf(w->where, sizeof w->where, "prompt %u, position %u, %s, %u threads",
                 w->sequences[sequence].prompt, position, r->way->name, r->workers);
    }
}

static void admit(struct run *r)
{
    uint32_t most = r->way->together ? WAYS_LIVE_MAX : 1;
    while (r->n_live < most && r->next < r->n) {
        struct live *l = &r->live[r->n_live++];
        l->sequence = r->order[r->next++];
        l->at = 0;
        uint32_t rows = r->ways->sequences[l->sequence].rows;
        tsr_kv_seq_init(&l->kv, l->pages, pages_of(rows));
        tsr_kv_reserve(tsr_exec_kv(r->exec), &l->kv, rows); /* planned: cannot fail */
    }
}

static void retire(struct run *r)
{
    for (uint32_t i = 0; i < r->n_live;) {
        struct live *l = &r->live[i];
        if (l->at < r->ways->sequences[l->sequence].rows) {
            i++;
            continue;
        }
        tsr_kv_release(tsr_exec_kv(r->exec), &l->kv);
        struct live done = *l;
        *l = r->live[--r->n_live];
        r->live[r->n_live] = done; /* keeps its table of pages */
    }
}

static void step(struct run *r)
{
    struct tsr_span spans[WAYS_LIVE_MAX];
    for (uint32_t i = 0; i < r->n_live; i++) {
        struct live *l = &r->live[i];
        const struct tsr_way_sequence *s = &r->ways->sequences[l->sequence];
        uint32_t chunk = r->way->chunk, rows = s->rows - l->at;
        uint32_t size = r->way->together ? 1 + (chunk + r->turn + i) % (2 * chunk) : chunk;
        rows = rows < size ? rows : size;
        uint32_t end = l->at + rows, looked = end > s->first ? end - s->first : 0;
        spans[i] = (struct tsr_span){.kv = &l->kv,
                                     .tokens = s->ids + l->at,
                                     .rows = rows,
                                     .position = l->at,
                                     .logit_rows = looked < rows ? looked : rows};
    }
    tsr_exec_step(r->exec, spans, r->n_live);
    uint32_t logit = 0;
    for (uint32_t i = 0; i < r->n_live; i++) {
        struct live *l = &r->live[i];
        l->at += spans[i].rows;
        for (uint32_t k = spans[i].logit_rows; k > 0; k--) {
            take_row(r, l->sequence, l->at - k, tsr_exec_logits(r->exec, logit++));
        }
    }
    r->turn++;
}

static void progress(const struct run *r, double part)
{
    const struct tsr_verify *v = r->ways->verify;
    if (v->progress) {
        char what[80];
        snprintf(what, sizeof what, "%s on %u thread%s, %s", tsr_verify_name(r->ways->weights),
                 r->workers, r->workers > 1 ? "s" : "", r->way ? r->way->name : "packing");
        v->progress(v->ctx, what, (r->runs_done + part) / r->runs);
    }
}

static void on_packed(void *ctx, double done)
{
    progress(ctx, done);
}

static void run_way(struct run *r)
{
    r->next = r->turn = 0;
    for (admit(r); r->n_live > 0; admit(r)) {
        progress(r, (double)(r->next - r->n_live) / r->n);
        step(r);
        retire(r);
    }
    r->runs_done++;
}

/* Every `stride`th way from `from` on. */
static int run_workers(struct run *r, uint32_t from, uint32_t stride, struct tsr_err *err)
{
    struct tsr_exec_options options;
    tsr_ways_options(r->ways, &options);
    options.workers = r->workers;
    r->way = NULL;
    int rc = tsr_exec_create(&r->exec, r->ways->model, &options, on_packed, r, err);
    if (rc < 0) {
        return rc;
    }
    r->runs_done++;
    for (uint32_t i = from; i < WAYS_IN; i += stride) {
        r->way = &ways_in[i];
        run_way(r);
    }
    tsr_exec_destroy(r->exec);
    return 0;
}

static int by_rows(const void *a, const void *b, void *sequences)
{
    const struct tsr_way_sequence *s = sequences;
    uint32_t i = *(const uint32_t *)a, k = *(const uint32_t *)b;
    return s[i].rows != s[k].rows ? (s[i].rows > s[k].rows ? 1 : -1) : (i > k) - (i < k);
}

/* How many of the shortest sequences the other ways run. */
static uint32_t affordable(const struct run *r)
{
    double work = 0;
    uint32_t n = 0;
    for (; n < r->ways->n; n++) {
        work += (double)r->ways->sequences[r->order[n]].rows *
                (double)r->ways->model->program.parameters;
        if (n >= 2 && work > other_work) {
            break;
        }
    }
    return n;
}

static int run_all(struct run *r, bool all, struct tsr_err *err)
{
    uint32_t n = affordable(r);
    bool thin = n < r->ways->n;
    r->runs = 2 + (all ? WORKER_COUNTS + (thin ? 1 : WORKER_COUNTS) * WAYS_IN : 0);
    r->is_first = true;
    r->n = r->ways->n;
    r->workers = cpus();
    int rc = run_workers(r, 0, WAYS_IN, err);
    r->is_first = false;
    r->n = n;
    for (uint32_t i = 0; rc == 0 && i < WORKER_COUNTS && all; i++) {
        r->workers = worker_counts[i];
        rc = thin ? run_workers(r, i, WORKER_COUNTS, err) : run_workers(r, 0, 1, err);
    }
    return rc;
}

int tsr_ways_run(struct tsr_ways *ways, bool all, struct tsr_err *err)
{
    uint32_t pages = pages_of(longest(ways));
    size_t rows = 0, *marks0 = calloc(ways->n, sizeof *marks0);
    uint32_t *tables = calloc((size_t)WAYS_LIVE_MAX * pages, sizeof *tables);
    uint32_t *order = calloc(ways->n, sizeof *order);
    for (uint32_t i = 0; marks0 && order && i < ways->n; i++) {
        order[i] = i;
        marks0[i] = rows;
        rows += ways->sequences[i].rows - ways->sequences[i].first;
    }
    uint64_t *marks = calloc(rows + 1, sizeof *marks);
    int rc = 0;
    if (marks0 && tables && order && marks) {
        struct run r = {.ways = ways, .marks = marks, .marks0 = marks0, .order = order};
        qsort_r(order, ways->n, sizeof *order, by_rows, (void *)ways->sequences);
        for (uint32_t i = 0; i < WAYS_LIVE_MAX; i++) {
            r.live[i].pages = tables + (size_t)i * pages;
        }
        rc = run_all(&r, all, err);
    } else {
        rc = tsr_err_set(err, -ENOMEM, "no memory to keep track of %zu rows", rows);
    }
    free(marks0);
    free(tables);
    free(order);
    free(marks);
    return rc;
}
