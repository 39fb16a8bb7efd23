/* Methods of Python's strings. */
#include <errno.h>
#include <string.h>

#include "methods_priv.h"

#define METHOD(name)                                                                               \
    static struct tsr_jvalue str_##name(struct tsr_jrun *r, struct tsr_jvalue self,                \
                                        const struct tsr_jcall *call)

static bool given(struct tsr_jvalue v)
{
    return v.kind != TSR_JV_ABSENT && v.kind != TSR_JV_NONE;
}

static struct tsr_jvalue strip(struct tsr_jrun *r, struct tsr_jvalue self,
                               const struct tsr_jcall *call, const char *name, bool left,
                               bool right)
{
    static const char *const names[] = {"chars"};
    struct tsr_jvalue a[1];
    tsr_j_bind(r, call, name, names, 1, a);
    return tsr_j_strip(r, self.str, given(a[0]) ? tsr_j_as_str(r, a[0], "chars") : NULL, left,
                       right);
}

METHOD(strip)
{
    return strip(r, self, call, "strip()", true, true);
}

METHOD(lstrip)
{
    return strip(r, self, call, "lstrip()", true, false);
}

METHOD(rstrip)
{
    return strip(r, self, call, "rstrip()", false, true);
}

/* Words between white space; from the right where back. */
static struct tsr_jvalue split_space(struct tsr_jrun *r, const struct tsr_jstr *s, int64_t max,
                                     bool back)
{
    struct tsr_jvalue list = tsr_j_seq(r, TSR_JS_LIST, 0);
    size_t from = 0, to = s->len;
    unsigned width;
    tsr_j_charge(r, s->len / 16);
    for (;;) {
        while (!back && from < to &&
               tsr_text_is_space(tsr_text_char(s->text + from, to - from, &width)))
            from += width;
        while (back && to > from &&
               tsr_text_is_space(tsr_text_char_before(s->text + from, to - from, &width)))
            to -= width;
        if (from == to)
            return list;
        if (max == 0) { /* the rest, with the spaces at its other end */
            tsr_j_append(r, list.seq, tsr_j_sub(r, s, from, to));
            return list;
        }
        size_t at = back ? to : from;
        if (back) {
            while (at > from &&
                   !tsr_text_is_space(tsr_text_char_before(s->text + from, at - from, &width)))
                at -= width;
            tsr_j_append(r, list.seq, tsr_j_sub(r, s, at, to));
            to = at;
        } else {
            while (at < to && !tsr_text_is_space(tsr_text_char(s->text + at, to - at, &width)))
                at += width;
            tsr_j_append(r, list.seq, tsr_j_sub(r, s, from, at));
            from = at;
        }
        max -= max > 0;
    }
}

/* Last place of b in a[0, end); SIZE_MAX: none. */
static size_t find_last(struct tsr_jrun *r, const struct tsr_jstr *a, const struct tsr_jstr *b,
                        size_t end)
{
    if (b->len > end)
        return SIZE_MAX;
    for (size_t at = end - b->len;; at--) {
        if ((at & 63) == 0)
            tsr_j_charge(r, 1);
        if (memcmp(a->text + at, b->text, b->len) == 0)
            return at;
        if (at == 0)
            return SIZE_MAX;
    }
}

static void reverse(struct tsr_jseq *list)
{
    for (uint32_t i = 0; i < list->n / 2; i++) {
        struct tsr_jvalue v = list->items[i];
        list->items[i] = list->items[list->n - 1 - i];
        list->items[list->n - 1 - i] = v;
    }
}

static struct tsr_jvalue split_by(struct tsr_jrun *r, const struct tsr_jstr *s,
                                  const struct tsr_jstr *by, int64_t max, bool back)
{
    struct tsr_jvalue list = tsr_j_seq(r, TSR_JS_LIST, 0);
    size_t from = 0, to = s->len;
    if (by->len == 0)
        tsr_j_fail(r, -EINVAL, "empty separator");
    while (max != 0) {
        size_t at = back ? find_last(r, s, by, to) : tsr_j_str_find(r, s, by, from);
        if (at == SIZE_MAX)
            break;
        if (back) {
            tsr_j_append(r, list.seq, tsr_j_sub(r, s, at + by->len, to));
            to = at;
        } else {
            tsr_j_append(r, list.seq, tsr_j_sub(r, s, from, at));
            from = at + by->len;
        }
        max -= max > 0;
    }
    tsr_j_append(r, list.seq, tsr_j_sub(r, s, from, to));
    return list;
}

static struct tsr_jvalue split(struct tsr_jrun *r, struct tsr_jvalue self,
                               const struct tsr_jcall *call, const char *name, bool back)
{
    static const char *const names[] = {"sep", "maxsplit"};
    struct tsr_jvalue a[2];
    tsr_j_bind(r, call, name, names, 2, a);
    int64_t max = given(a[1]) ? tsr_j_as_int(r, a[1], "maxsplit") : -1;
    struct tsr_jvalue list = given(a[0])
                                 ? split_by(r, self.str, tsr_j_as_str(r, a[0], "sep"), max, back)
                                 : split_space(r, self.str, max, back);
    if (back)
        reverse(list.seq);
    return list;
}

METHOD(split)
{
    return split(r, self, call, "split()", false);
}

METHOD(rsplit)
{
    return split(r, self, call, "rsplit()", true);
}

METHOD(splitlines)
{
    static const char *const names[] = {"keepends"};
    struct tsr_jvalue a[1];
    tsr_j_bind(r, call, "splitlines()", names, 1, a);
    return tsr_j_split_lines(r, self.str, tsr_j_truth(a[0]));
}

static struct tsr_jvalue partition(struct tsr_jrun *r, struct tsr_jvalue self,
                                   const struct tsr_jcall *call, bool back)
{
    static const char *const names[] = {"sep"};
    struct tsr_jvalue a[1], out = tsr_j_seq(r, TSR_JS_TUPLE, 3);
    tsr_j_bind(r, call, "partition()", names, 1, a);
    const struct tsr_jstr *s = self.str, *by = tsr_j_as_str(r, a[0], "sep");
    if (by->len == 0)
        tsr_j_fail(r, -EINVAL, "empty separator");
    size_t at = back ? find_last(r, s, by, s->len) : tsr_j_str_find(r, s, by, 0);
    bool found = at != SIZE_MAX;
    size_t end = found ? at + by->len : back ? 0 : s->len;
    at = found ? at : back ? 0 : s->len;
    tsr_j_append(r, out.seq, tsr_j_sub(r, s, 0, at));
    tsr_j_append(r, out.seq, tsr_j_sub(r, s, at, end));
    tsr_j_append(r, out.seq, tsr_j_sub(r, s, end, s->len));
    return out;
}

METHOD(partition)
{
    return partition(r, self, call, false);
}

METHOD(rpartition)
{
    return partition(r, self, call, true);
}

/* The part of s that (start, end) name, in bytes. */
static void clip(struct tsr_jrun *r, const struct tsr_jstr *s, struct tsr_jvalue start,
                 struct tsr_jvalue end, size_t *from, size_t *to)
{
    *from = 0;
    *to = s->len;
    if (!given(start) && !given(end))
        return;
    int64_t n = (int64_t)tsr_text_count(s->text, s->len);
    int64_t a = given(start) ? tsr_j_as_int(r, start, "start") : 0;
    int64_t b = given(end) ? tsr_j_as_int(r, end, "end") : n;
    a = a < 0 ? (a + n < 0 ? 0 : a + n) : a;
    b = b < 0 ? (b + n < 0 ? 0 : b + n) : b > n ? n : b;
    tsr_j_charge(r, s->len / 16);
    *from = a > n ? s->len + 1 : tsr_j_str_offset(s, (size_t)a);
    *to = tsr_j_str_offset(s, (size_t)b);
}

static struct tsr_jvalue starts_or_ends(struct tsr_jrun *r, struct tsr_jvalue self,
                                        const struct tsr_jcall *call, bool ends)
{
    static const char *const names[] = {"prefix", "start", "end"};
    struct tsr_jvalue a[3];
    tsr_j_bind(r, call, ends ? "endswith()" : "startswith()", names, 3, a);
    size_t from, to;
    clip(r, self.str, a[1], a[2], &from, &to);
    bool several = tsr_j_is_seq(a[0], TSR_JS_TUPLE);
    uint32_t n = several ? a[0].seq->n : 1;
    for (uint32_t i = 0; i < n; i++) {
        struct tsr_jvalue v = several ? a[0].seq->items[i] : a[0];
        const struct tsr_jstr *s = tsr_j_as_str(
            r, v, ends ? "the argument of endswith()" : "the argument of startswith()");
        if (from > to || s->len > to - from)
            continue;
        if (memcmp(self.str->text + (ends ? to - s->len : from), s->text, s->len) == 0)
            return tsr_j_bool(true);
    }
    return tsr_j_bool(false);
}

METHOD(startswith)
{
    return starts_or_ends(r, self, call, false);
}

METHOD(endswith)
{
    return starts_or_ends(r, self, call, true);
}

static struct tsr_jvalue find(struct tsr_jrun *r, struct tsr_jvalue self,
                              const struct tsr_jcall *call, const char *name, bool back, bool must)
{
    static const char *const names[] = {"sub", "start", "end"};
    struct tsr_jvalue a[3];
    tsr_j_bind(r, call, name, names, 3, a);
    const struct tsr_jstr *sub = tsr_j_as_str(r, a[0], "sub");
    size_t from, to, at = SIZE_MAX;
    clip(r, self.str, a[1], a[2], &from, &to);
    if (from <= to) {
        struct tsr_jstr part = *self.str;
        part.len = (uint32_t)to;
        at = back ? find_last(r, &part, sub, to) : tsr_j_str_find(r, &part, sub, from);
        if (at != SIZE_MAX && at < from)
            at = SIZE_MAX;
    }
    if (at == SIZE_MAX && must)
        tsr_j_fail(r, -EINVAL, "%s: substring not found", name);
    return tsr_j_int(at == SIZE_MAX ? -1 : (int64_t)tsr_text_count(self.str->text, at));
}

METHOD(find)
{
    return find(r, self, call, "find()", false, false);
}

METHOD(rfind)
{
    return find(r, self, call, "rfind()", true, false);
}

METHOD(index)
{
    return find(r, self, call, "index()", false, true);
}

METHOD(rindex)
{
    return find(r, self, call, "rindex()", true, true);
}

METHOD(count)
{
    static const char *const names[] = {"sub", "start", "end"};
    struct tsr_jvalue a[3];
    tsr_j_bind(r, call, "count()", names, 3, a);
    const struct tsr_jstr *sub = tsr_j_as_str(r, a[0], "sub");
    size_t from, to;
    clip(r, self.str, a[1], a[2], &from, &to);
    if (from > to)
        return tsr_j_int(0);
    if (sub->len == 0)
        return tsr_j_int((int64_t)tsr_text_count(self.str->text + from, to - from) + 1);
    int64_t n = 0;
    struct tsr_jstr part = *self.str;
    part.len = (uint32_t)to;
    for (size_t at; (at = tsr_j_str_find(r, &part, sub, from)) != SIZE_MAX; n++)
        from = at + sub->len;
    return tsr_j_int(n);
}

METHOD(replace)
{
    static const char *const names[] = {"old", "new", "count"};
    struct tsr_jvalue a[3];
    tsr_j_bind(r, call, "replace()", names, 3, a);
    return tsr_j_replace(r, self.str, tsr_j_as_str(r, a[0], "old"), tsr_j_as_str(r, a[1], "new"),
                         given(a[2]) ? tsr_j_as_int(r, a[2], "count") : -1);
}

METHOD(join)
{
    static const char *const names[] = {"iterable"};
    struct tsr_jvalue a[1];
    tsr_j_bind(r, call, "join()", names, 1, a);
    const struct tsr_jseq *items = tsr_j_iterate(r, a[0]);
    struct tsr_jbuild b;
    tsr_jb_begin(r, &b);
    for (uint32_t i = 0; i < items->n; i++) {
        if (items->items[i].kind != TSR_JV_STRING)
            tsr_j_fail(r, -EINVAL, "sequence item %u: expected str instance, %s found", i,
                       tsr_j_type(items->items[i]));
        if (i)
            tsr_jb_str(r, &b, self.str);
        tsr_jb_str(r, &b, items->items[i].str);
    }
    return tsr_jb_end(r, &b);
}

#define CASE_METHOD(name, how)                                                                     \
    METHOD(name)                                                                                   \
    {                                                                                              \
        tsr_j_bind(r, call, #name "()", NULL, 0, NULL);                                            \
        return tsr_j_change_case(r, self.str, how);                                                \
    }

CASE_METHOD(upper, TSR_JC_UPPER)
CASE_METHOD(lower, TSR_JC_LOWER)
CASE_METHOD(casefold, TSR_JC_LOWER)
CASE_METHOD(capitalize, TSR_JC_CAPITALIZE)
CASE_METHOD(title, TSR_JC_TITLE)
CASE_METHOD(swapcase, TSR_JC_SWAP)

/* True where the text is not empty and holds for every character. */
static struct tsr_jvalue all(struct tsr_jrun *r, struct tsr_jvalue self,
                             const struct tsr_jcall *call, bool (*is)(uint32_t c))
{
    tsr_j_bind(r, call, "a method of strings", NULL, 0, NULL);
    tsr_j_charge(r, self.str->len / 16);
    for (size_t at = 0; at < self.str->len;) {
        unsigned width;
        if (!is(tsr_text_char(self.str->text + at, self.str->len - at, &width)))
            return tsr_j_bool(false);
        at += width;
    }
    return tsr_j_bool(self.str->len > 0);
}

static bool is_alnum(uint32_t c)
{
    return tsr_text_is_alpha(c) || tsr_text_is_numeric(c);
}

static bool is_digit(uint32_t c)
{
    return tsr_text_is_decimal(c) || c == 0xB2 || c == 0xB3 || c == 0xB9 ||
           (c >= 0x2070 && c <= 0x2079 && c != 0x2071) || (c >= 0x2080 && c <= 0x2089);
}

static bool is_ascii(uint32_t c)
{
    return c < 0x80;
}

METHOD(isalpha)
{
    return all(r, self, call, tsr_text_is_alpha);
}

METHOD(isalnum)
{
    return all(r, self, call, is_alnum);
}

METHOD(isdigit)
{
    return all(r, self, call, is_digit);
}

METHOD(isdecimal)
{
    return all(r, self, call, tsr_text_is_decimal);
}

METHOD(isnumeric)
{
    return all(r, self, call, tsr_text_is_numeric);
}

METHOD(isspace)
{
    return all(r, self, call, tsr_text_is_space);
}

METHOD(isascii)
{
    struct tsr_jvalue v = all(r, self, call, is_ascii);
    return tsr_j_bool(v.truth || self.str->len == 0);
}

METHOD(isupper)
{
    tsr_j_bind(r, call, "isupper()", NULL, 0, NULL);
    return tsr_j_bool(tsr_j_test(r, (struct tsr_jtext){"upper", 5}, self, call));
}

METHOD(islower)
{
    tsr_j_bind(r, call, "islower()", NULL, 0, NULL);
    return tsr_j_bool(tsr_j_test(r, (struct tsr_jtext){"lower", 5}, self, call));
}

static struct tsr_jvalue pad(struct tsr_jrun *r, struct tsr_jvalue self,
                             const struct tsr_jcall *call, const char *name, bool left, bool right)
{
    static const char *const names[] = {"width", "fillchar"};
    static const struct tsr_jstr space = {.text = " ", .len = 1, .trusted = true};
    struct tsr_jvalue a[2];
    tsr_j_bind(r, call, name, names, 2, a);
    return tsr_j_pad(r, self.str, tsr_j_as_int(r, a[0], "width"),
                     given(a[1]) ? tsr_j_as_str(r, a[1], "fillchar") : &space, left, right);
}

METHOD(ljust)
{
    return pad(r, self, call, "ljust()", false, true);
}

METHOD(rjust)
{
    return pad(r, self, call, "rjust()", true, false);
}

METHOD(center)
{
    return pad(r, self, call, "center()", true, true);
}

METHOD(zfill)
{
    static const char *const names[] = {"width"};
    static const struct tsr_jstr zero = {.text = "0", .len = 1, .trusted = true};
    struct tsr_jvalue a[1];
    tsr_j_bind(r, call, "zfill()", names, 1, a);
    int64_t width = tsr_j_as_int(r, a[0], "width");
    const struct tsr_jstr *s = self.str;
    bool sign = s->len && (s->text[0] == '-' || s->text[0] == '+');
    struct tsr_jvalue digits =
        tsr_j_pad(r, tsr_j_sub(r, s, sign, s->len).str, width - sign, &zero, true, false);
    return sign ? tsr_j_join(r, tsr_j_sub(r, s, 0, 1).str, digits.str) : digits;
}

static struct tsr_jvalue remove_affix(struct tsr_jrun *r, struct tsr_jvalue self,
                                      const struct tsr_jcall *call, bool suffix)
{
    static const char *const names[] = {"affix"};
    struct tsr_jvalue a[1];
    tsr_j_bind(r, call, suffix ? "removesuffix()" : "removeprefix()", names, 1, a);
    const struct tsr_jstr *s = self.str, *affix = tsr_j_as_str(r, a[0], "the argument");
    size_t from = 0, to = s->len;
    if (affix->len && affix->len <= s->len &&
        memcmp(s->text + (suffix ? s->len - affix->len : 0), affix->text, affix->len) == 0) {
        from = suffix ? 0 : affix->len;
        to = suffix ? s->len - affix->len : s->len;
    }
    return tsr_j_sub(r, s, from, to);
}

METHOD(removeprefix)
{
    return remove_affix(r, self, call, false);
}

METHOD(removesuffix)
{
    return remove_affix(r, self, call, true);
}

const struct tsr_jbuiltin tsr_j_str_methods[] = {
    {"strip", str_strip},
    {"lstrip", str_lstrip},
    {"rstrip", str_rstrip},
    {"split", str_split},
    {"rsplit", str_rsplit},
    {"splitlines", str_splitlines},
    {"partition", str_partition},
    {"rpartition", str_rpartition},
    {"startswith", str_startswith},
    {"endswith", str_endswith},
    {"find", str_find},
    {"rfind", str_rfind},
    {"index", str_index},
    {"rindex", str_rindex},
    {"count", str_count},
    {"replace", str_replace},
    {"join", str_join},
    {"upper", str_upper},
    {"lower", str_lower},
    {"casefold", str_casefold},
    {"capitalize", str_capitalize},
    {"title", str_title},
    {"swapcase", str_swapcase},
    {"isalpha", str_isalpha},
    {"isalnum", str_isalnum},
    {"isdigit", str_isdigit},
    {"isdecimal", str_isdecimal},
    {"isnumeric", str_isnumeric},
    {"isspace", str_isspace},
    {"isascii", str_isascii},
    {"isupper", str_isupper},
    {"islower", str_islower},
    {"ljust", str_ljust},
    {"rjust", str_rjust},
    {"center", str_center},
    {"zfill", str_zfill},
    {"removeprefix", str_removeprefix},
    {"removesuffix", str_removesuffix},
    {"format", tsr_j_str_format},
};
const size_t tsr_j_n_str_methods = sizeof(tsr_j_str_methods) / sizeof(tsr_j_str_methods[0]);
