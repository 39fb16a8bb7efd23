/* A KV pool of counted pages and an executor that only looks, for the scheduler's tests. */
#ifndef FAKE_H
#define FAKE_H

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include <tsr/sched/sched.h>

struct fake_kv {
    uint32_t total, free;
};

static int fake_reserve(void *ctx, struct tsr_kv_seq *seq, uint32_t positions)
{
    struct fake_kv *kv = ctx;
    uint32_t need = (positions + TSR_KV_PAGE_POSITIONS - 1) / TSR_KV_PAGE_POSITIONS;
    if (need > seq->pages_max) {
        return -E2BIG;
    }
    if (need - seq->n_pages > kv->free) {
        return -ENOSPC;
    }
    kv->free -= need - seq->n_pages;
    seq->n_pages = need;
    return 0;
}

static void fake_release(void *ctx, struct tsr_kv_seq *seq)
{
    struct fake_kv *kv = ctx;
    kv->free += seq->n_pages;
    seq->n_pages = 0;
}

static inline struct tsr_sched_kv fake_table(struct fake_kv *kv)
{
    return (struct tsr_sched_kv){kv, fake_reserve, fake_release, kv->total};
}

/* What every step must be, whatever the mix. */
static inline void fake_exec_check(const struct tsr_sched_step *step,
                                   const struct tsr_sched_options *o)
{
    uint32_t rows = 0, logits = 0, decode = 0;
    for (uint32_t i = 0; i < step->n_spans; i++) {
        const struct tsr_span *span = &step->spans[i];
        assert_true(span->rows >= 1);
        assert_true(span->logit_rows <= 1);
        assert_true(span->position + span->rows <= span->kv->n_pages * TSR_KV_PAGE_POSITIONS);
        for (uint32_t j = 0; j < i; j++) {
            assert_ptr_not_equal(span->kv, step->spans[j].kv);
        }
        rows += span->rows;
        logits += span->logit_rows;
        if (i < step->decode_rows) {
            assert_int_equal(span->rows, 1);
            decode++;
        }
    }
    assert_int_equal(rows, step->rows);
    assert_int_equal(logits, step->n_logits);
    assert_int_equal(decode, step->decode_rows);
    assert_true(rows <= o->rows_max);
    assert_true(logits <= o->logit_rows_max);
    if (decode > 0) {
        assert_true(rows - decode <= o->chunk_rows);
    }
}

#endif
