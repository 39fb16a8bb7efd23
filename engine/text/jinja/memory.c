#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "run_priv.h"

void tsr_j_fail(struct tsr_jrun *r, int rc, const char *format, ...)
{
    char text[TSR_ERR_TEXT_MAX];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    r->rc = tsr_err_set(r->err, rc, "template, line %u: %s", r->line, text);
    longjmp(r->leave, 1);
}

void tsr_j_charge(struct tsr_jrun *r, uint64_t n)
{
    if (r->steps < n)
        tsr_j_fail(r, -E2BIG, "rendering takes more than %llu steps",
                   (unsigned long long)r->limits.steps);
    r->steps -= n;
}

void tsr_j_enter(struct tsr_jrun *r)
{
    if (r->depth == 0)
        tsr_j_fail(r, -E2BIG, "values, calls or expressions are nested deeper than %u",
                   r->limits.depth);
    r->depth--;
}

void *tsr_j_alloc(struct tsr_jrun *r, size_t bytes)
{
    bytes = (bytes + 15) & ~(size_t)15;
    if (bytes > r->memory_cap - r->memory_n)
        tsr_j_fail(r, -E2BIG, "rendering takes more than %zu bytes of memory",
                   r->limits.memory_bytes);
    void *out = r->memory + r->memory_n;
    r->memory_n += bytes;
    memset(out, 0, bytes);
    return out;
}

void tsr_j_write(struct tsr_jrun *r, const char *text, const uint8_t *marks, bool trusted,
                 size_t len)
{
    if (len > r->out_cap - r->out_n)
        tsr_j_fail(r, -E2BIG, "the result has more than %zu bytes", r->limits.output_bytes);
    if (len == 0)
        return;
    memcpy(r->out + r->out_n, text, len);
    if (marks)
        memcpy(r->out_marks + r->out_n, marks, len);
    else
        memset(r->out_marks + r->out_n, trusted, len);
    r->out_n += len;
}

struct tsr_jvalue tsr_j_capture(struct tsr_jrun *r, size_t from)
{
    struct tsr_jbuild b;
    tsr_jb_begin(r, &b);
    tsr_jb_put(r, &b, r->out + from, r->out_marks + from, false, r->out_n - from);
    r->out_n = from;
    return tsr_jb_end(r, &b);
}
