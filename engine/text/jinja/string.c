#include <errno.h>
#include <string.h>

#include "run_priv.h"

void tsr_jb_begin(struct tsr_jrun *r, struct tsr_jbuild *b)
{
    *b = (struct tsr_jbuild){.off = r->text_n};
}

/* Makes room for len bytes behind what b holds, moving it where something else was put behind it.
 */
static void make_room(struct tsr_jrun *r, struct tsr_jbuild *b, size_t len)
{
    bool move = b->off + b->len != r->text_n;
    size_t need = len + (move ? b->len : 0);
    tsr_j_charge(r, need / 16 + 1);
    if (need > r->text_cap - r->text_n)
        tsr_j_fail(r, -E2BIG, "rendering takes more than %zu bytes of memory",
                   r->limits.memory_bytes);
    if (move) {
        memcpy(r->text + r->text_n, r->text + b->off, b->len);
        memcpy(r->text_marks + r->text_n, r->text_marks + b->off, b->len);
        b->off = r->text_n;
    }
    r->text_n += need;
}

void tsr_jb_put(struct tsr_jrun *r, struct tsr_jbuild *b, const char *text, const uint8_t *marks,
                bool trusted, size_t len)
{
    if (len == 0)
        return;
    make_room(r, b, len);
    memcpy(r->text + b->off + b->len, text, len);
    if (marks)
        memcpy(r->text_marks + b->off + b->len, marks, len);
    else
        memset(r->text_marks + b->off + b->len, trusted, len);
    b->len += len;
}

void tsr_jb_str(struct tsr_jrun *r, struct tsr_jbuild *b, const struct tsr_jstr *s)
{
    tsr_jb_put(r, b, s->text, s->marks, s->trusted, s->len);
}

void tsr_jb_sub(struct tsr_jrun *r, struct tsr_jbuild *b, const struct tsr_jstr *s, size_t from,
                size_t to)
{
    tsr_jb_put(r, b, s->text + from, s->marks ? s->marks + from : NULL, s->trusted, to - from);
}

void tsr_jb_text(struct tsr_jrun *r, struct tsr_jbuild *b, const char *text)
{
    tsr_jb_put(r, b, text, NULL, true, strlen(text));
}

void tsr_jb_char(struct tsr_jrun *r, struct tsr_jbuild *b, uint32_t c, bool trusted)
{
    char bytes[4];
    tsr_jb_put(r, b, bytes, NULL, trusted, tsr_text_put(c, bytes));
}

static struct tsr_jvalue make(struct tsr_jrun *r, const char *text, const uint8_t *marks,
                              bool trusted, size_t len)
{
    struct tsr_jstr *s = tsr_j_alloc(r, sizeof(*s));
    *s = (struct tsr_jstr){.text = text, .marks = marks, .len = (uint32_t)len, .trusted = trusted};
    return (struct tsr_jvalue){.kind = TSR_JV_STRING, .str = s};
}

struct tsr_jvalue tsr_jb_end(struct tsr_jrun *r, const struct tsr_jbuild *b)
{
    return make(r, r->text + b->off, r->text_marks + b->off, false, b->len);
}

struct tsr_jvalue tsr_j_string(struct tsr_jrun *r, const char *text, size_t len, bool trusted)
{
    return make(r, text, NULL, trusted, len);
}

struct tsr_jvalue tsr_j_cstring(struct tsr_jrun *r, const char *text)
{
    return make(r, text, NULL, true, strlen(text));
}

struct tsr_jvalue tsr_j_sub(struct tsr_jrun *r, const struct tsr_jstr *s, size_t from, size_t to)
{
    return make(r, s->text + from, s->marks ? s->marks + from : NULL, s->trusted, to - from);
}

struct tsr_jvalue tsr_j_join(struct tsr_jrun *r, const struct tsr_jstr *a, const struct tsr_jstr *b)
{
    if (b->len == 0 || a->len == 0) {
        const struct tsr_jstr *s = b->len == 0 ? a : b;
        return make(r, s->text, s->marks, s->trusted, s->len);
    }
    /* Where a ends at the arena's end, b is put behind it: a text that a loop builds piece by piece
     * takes linear time. */
    struct tsr_jbuild build;
    if (a->marks && a->text + a->len == r->text + r->text_n) {
        build = (struct tsr_jbuild){.off = (size_t)(a->text - r->text), .len = a->len};
    } else {
        tsr_jb_begin(r, &build);
        tsr_jb_str(r, &build, a);
    }
    tsr_jb_str(r, &build, b);
    return tsr_jb_end(r, &build);
}

bool tsr_j_str_trusted(const struct tsr_jstr *s, size_t at)
{
    return s->marks ? s->marks[at] != 0 : s->trusted;
}

bool tsr_j_str_is(const struct tsr_jstr *s, const char *text)
{
    return s->len == strlen(text) && memcmp(s->text, text, s->len) == 0;
}

bool tsr_j_str_equal(const struct tsr_jstr *a, const struct tsr_jstr *b)
{
    return a->len == b->len && (a->len == 0 || memcmp(a->text, b->text, a->len) == 0);
}

size_t tsr_j_str_find(struct tsr_jrun *r, const struct tsr_jstr *a, const struct tsr_jstr *b,
                      size_t from)
{
    if (from > a->len || b->len > a->len - from)
        return SIZE_MAX;
    if (b->len == 0)
        return from;
    tsr_j_charge(r, (a->len - from) / 64 + 1);
    const char *p = memmem(a->text + from, a->len - from, b->text, b->len);
    return p ? (size_t)(p - a->text) : SIZE_MAX;
}

size_t tsr_j_str_offset(const struct tsr_jstr *s, size_t i)
{
    size_t at = 0;
    while (i-- > 0 && at < s->len) {
        unsigned width;
        tsr_text_char(s->text + at, s->len - at, &width);
        at += width;
    }
    return at;
}

struct tsr_jvalue tsr_j_escape(struct tsr_jrun *r, const struct tsr_jstr *s)
{
    static const struct {
        char c;
        const char *text;
    } table[] = {{'&', "&amp;"}, {'<', "&lt;"}, {'>', "&gt;"}, {'\'', "&#39;"}, {'"', "&#34;"}};
    struct tsr_jbuild b;
    size_t from = 0;
    tsr_jb_begin(r, &b);
    for (size_t i = 0; i < s->len; i++) {
        for (size_t k = 0; k < sizeof(table) / sizeof(table[0]); k++) {
            if (s->text[i] != table[k].c)
                continue;
            tsr_jb_sub(r, &b, s, from, i);
            tsr_jb_put(r, &b, table[k].text, NULL, tsr_j_str_trusted(s, i), strlen(table[k].text));
            from = i + 1;
        }
    }
    tsr_jb_sub(r, &b, s, from, s->len);
    struct tsr_jvalue v = tsr_jb_end(r, &b);
    ((struct tsr_jstr *)(uintptr_t)v.str)->markup = true;
    return v;
}
