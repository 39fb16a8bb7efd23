/* Global functions: Jinja2's, and those that transformers adds. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "run_priv.h"

#define GLOBAL(name)                                                                               \
    static struct tsr_jvalue global_##name(struct tsr_jrun *r, struct tsr_jvalue self,             \
                                           const struct tsr_jcall *call)

enum { RANGE_MAX = 100000 }; /* the sandbox's */

GLOBAL(raise_exception)
{
    static const char *const names[] = {"message"};
    struct tsr_jvalue a[1];
    (void)self;
    tsr_j_bind(r, call, "raise_exception()", names, 1, a);
    const struct tsr_jstr *s = tsr_j_text(r, a[0]);
    tsr_j_fail(r, -EINVAL, "%.*s", (int)(s->len < 400 ? s->len : 400), s->text);
}

/* One directive of strftime at p ('%'); bytes read. datetime.now() has no zone, and no microseconds
 * here. */
static size_t directive(struct tsr_jrun *r, struct tsr_jbuild *b, const struct tm *tm,
                        const char *p, size_t left)
{
    char format[16], out[128];
    size_t n = 1;
    while (n < left && n < 8 && strchr("-_0^#EO", p[n]) && p[n])
        n++;
    if (n >= left) {
        tsr_jb_put(r, b, p, NULL, true, left);
        return left;
    }
    n++;
    char kind = p[n - 1];
    if (kind == 'z' || kind == 'Z')
        return n;
    if (kind == 'f') {
        tsr_jb_text(r, b, "000000");
        return n;
    }
    memcpy(format, p, n);
    format[n] = '\0';
    size_t len = strftime(out, sizeof(out), format, tm);
    tsr_jb_put(r, b, out, NULL, true, len);
    return n;
}

GLOBAL(strftime_now)
{
    static const char *const names[] = {"format"};
    struct tsr_jvalue a[1];
    (void)self;
    tsr_j_bind(r, call, "strftime_now()", names, 1, a);
    const struct tsr_jstr *s = tsr_j_as_str(r, a[0], "strftime_now(): format");
    time_t now = (time_t)(r->now_s + r->utc_offset_s);
    struct tm tm;
    if (!gmtime_r(&now, &tm))
        tsr_j_fail(r, -EINVAL, "strftime_now(): the time is out of range");
    struct tsr_jbuild b;
    tsr_jb_begin(r, &b);
    for (size_t at = 0; at < s->len;) {
        if (s->text[at] == '%') {
            at += directive(r, &b, &tm, s->text + at, s->len - at);
            continue;
        }
        tsr_jb_sub(r, &b, s, at, at + 1);
        at++;
    }
    return tsr_jb_end(r, &b);
}

GLOBAL(range)
{
    static const char *const names[] = {"start", "stop", "step"};
    struct tsr_jvalue a[3];
    (void)self;
    tsr_j_bind(r, call, "range()", names, 3, a);
    if (call->n_pos == 0 || call->n_kw)
        tsr_j_fail(r, -EINVAL, "range() takes one to three integers");
    int64_t start = 0, stop = tsr_j_as_int(r, a[0], "range(): stop"), step = 1;
    if (call->n_pos > 1) {
        start = stop;
        stop = tsr_j_as_int(r, a[1], "range(): stop");
    }
    if (call->n_pos > 2)
        step = tsr_j_as_int(r, a[2], "range(): step");
    if (step == 0)
        tsr_j_fail(r, -EINVAL, "range() arg 3 must not be zero");
    bool any = step > 0 ? start < stop : start > stop;
    uint64_t distance =
        step > 0 ? (uint64_t)stop - (uint64_t)start : (uint64_t)start - (uint64_t)stop;
    uint64_t by = step > 0 ? (uint64_t)step : 0 - (uint64_t)step;
    uint64_t n = any ? (distance - 1) / by + 1 : 0;
    if (n > RANGE_MAX)
        tsr_j_fail(r, -EINVAL,
                   "Range too big. The sandbox blocks ranges larger than MAX_RANGE (%d).",
                   RANGE_MAX);
    struct tsr_jvalue out = tsr_j_seq(r, TSR_JS_RANGE, (uint32_t)n);
    for (uint64_t i = 0; i < n; i++)
        tsr_j_append(r, out.seq, tsr_j_int((int64_t)((uint64_t)start + i * (uint64_t)step)));
    return out;
}

/* dict(mapping or pairs, name=value ...) */
static struct tsr_jvalue make_dict(struct tsr_jrun *r, const struct tsr_jcall *call,
                                   const char *name)
{
    struct tsr_jvalue out = tsr_j_dict(r);
    if (call->n_pos > 1)
        tsr_j_fail(r, -EINVAL, "%s expected at most 1 argument, got %u", name, call->n_pos);
    if (call->n_pos && call->pos[0].kind == TSR_JV_DICT) {
        const struct tsr_jdict *from = call->pos[0].dict;
        for (uint32_t i = 0; i < from->n; i++)
            tsr_j_dict_set(r, out.dict, from->entries[i].key, from->entries[i].value);
    } else if (call->n_pos) {
        const struct tsr_jseq *pairs = tsr_j_iterate(r, call->pos[0]);
        for (uint32_t i = 0; i < pairs->n; i++) {
            const struct tsr_jseq *pair = tsr_j_iterate(r, pairs->items[i]);
            if (pair->n != 2)
                tsr_j_fail(r, -EINVAL, "%s: element %u has length %u; 2 is required", name, i,
                           pair->n);
            tsr_j_dict_set(r, out.dict, pair->items[0], pair->items[1]);
        }
    }
    for (uint32_t i = 0; i < call->n_kw; i++)
        tsr_j_dict_set(r, out.dict,
                       tsr_j_string(r, call->kw_name[i].text, call->kw_name[i].len, true),
                       call->kw[i]);
    return out;
}

GLOBAL(dict)
{
    (void)self;
    return make_dict(r, call, "dict()");
}

GLOBAL(namespace)
{
    (void)self;
    struct tsr_jvalue v = make_dict(r, call, "namespace()");
    v.kind = TSR_JV_NAMESPACE;
    return v;
}

GLOBAL(cycler)
{
    (void)self;
    if (call->n_pos == 0 || call->n_kw)
        tsr_j_fail(r, -EINVAL, "at least one item has to be provided");
    struct tsr_jcycler *cycler = tsr_j_alloc(r, sizeof(*cycler));
    struct tsr_jvalue items = tsr_j_seq(r, TSR_JS_TUPLE, call->n_pos);
    for (uint32_t i = 0; i < call->n_pos; i++)
        tsr_j_append(r, items.seq, call->pos[i]);
    cycler->items = items.seq;
    return (struct tsr_jvalue){.kind = TSR_JV_CYCLER, .cycler = cycler};
}

GLOBAL(joiner)
{
    static const char *const names[] = {"sep"};
    struct tsr_jvalue a[1], items = tsr_j_seq(r, TSR_JS_TUPLE, 1);
    (void)self;
    tsr_j_bind(r, call, "joiner()", names, 1, a);
    tsr_j_append(r, items.seq, a[0].kind == TSR_JV_ABSENT ? tsr_j_cstring(r, ", ") : a[0]);
    struct tsr_jcycler *joiner = tsr_j_alloc(r, sizeof(*joiner));
    joiner->items = items.seq;
    return (struct tsr_jvalue){.kind = TSR_JV_JOINER, .cycler = joiner};
}

static const struct tsr_jbuiltin GLOBALS[] = {
    {"raise_exception", global_raise_exception},
    {"strftime_now", global_strftime_now},
    {"range", global_range},
    {"dict", global_dict},
    {"namespace", global_namespace},
    {"cycler", global_cycler},
    {"joiner", global_joiner},
};

const struct tsr_jbuiltin *tsr_j_find_global(struct tsr_jtext name)
{
    return tsr_j_find_in(GLOBALS, sizeof(GLOBALS) / sizeof(GLOBALS[0]), name);
}
