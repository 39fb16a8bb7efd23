/* Jinja2's lexer (jinja2/lexer.py of 3.1) with trim_blocks and lstrip_blocks: what is text, and the
 * tokens of tags. */
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "ast_priv.h"
#include "text_priv.h"

struct lexer {
    struct tsr_jparse *p;
    const char *s;
    size_t n, at;
    uint32_t line;
    bool line_starting; /* the last match ended with a newline */
};

static struct tsr_jtoken *push(struct lexer *x, enum tsr_jtoken_kind kind, const char *text,
                               size_t len)
{
    struct tsr_jparse *p = x->p;
    if (p->n_tokens == p->cap_tokens) {
        uint32_t cap = p->cap_tokens * 2 + 64;
        struct tsr_jtoken *grown = realloc(p->tokens, cap * sizeof(*grown));
        if (!grown)
            tsr_jinja_refuse(p, x->line, -ENOMEM, "no memory for %u tokens", cap);
        p->tokens = grown;
        p->cap_tokens = cap;
    }
    struct tsr_jtoken *token = &p->tokens[p->n_tokens++];
    *token = (struct tsr_jtoken){
        .kind = (uint8_t)kind, .line = x->line, .text = {.text = text, .len = (uint32_t)len}};
    return token;
}

/* Moves to `to`, counting lines. */
static void advance(struct lexer *x, size_t to)
{
    for (; x->at < to; x->at++)
        x->line += x->s[x->at] == '\n';
}

static size_t skip_space(const struct lexer *x, size_t at)
{
    unsigned width;
    while (at < x->n && tsr_text_is_space(tsr_text_char(x->s + at, x->n - at, &width)))
        at += width;
    return at;
}

static size_t strip_right(const char *s, size_t begin, size_t end)
{
    while (end > begin) {
        unsigned width;
        uint32_t c = tsr_text_char_before(s + begin, end - begin, &width);
        if (!tsr_text_is_space(c))
            break;
        end -= width;
    }
    return end;
}

static bool all_space(const struct lexer *x, size_t begin, size_t end)
{
    return begin < end && strip_right(x->s, begin, end) == begin;
}

static bool starts(const struct lexer *x, size_t at, const char *text)
{
    size_t len = strlen(text);
    return x->n - at >= len && memcmp(x->s + at, text, len) == 0;
}

/* The text [x->at, end) before a tag that begins there with the sign behind its brackets. */
static void lex_data(struct lexer *x, size_t end, char sign, bool variable)
{
    size_t begin = x->at, stop = end;
    if (sign == '-') {
        stop = strip_right(x->s, begin, end);
    } else if (sign != '+' && !variable) {
        size_t line = end;
        while (line > begin && x->s[line - 1] != '\n')
            line--;
        if ((line > begin || x->line_starting) && all_space(x, line, end))
            stop = line;
    }
    if (stop > begin)
        push(x, TSR_JT_DATA, x->s + begin, stop - begin);
    advance(x, end);
}

/* Where the tag's end that begins at `at` ("%}", "-%}", ...) is over; 0: no end begins there. trim:
 * a newline behind the plain form belongs to it. */
static size_t end_of(const struct lexer *x, size_t at, const char *close, bool trim)
{
    if (starts(x, at, close)) {
        at += 2;
        return trim && at < x->n && x->s[at] == '\n' ? at + 1 : at;
    }
    if (at < x->n && x->s[at] == '-' && starts(x, at + 1, close))
        return skip_space(x, at + 3);
    if (trim && at < x->n && x->s[at] == '+' && starts(x, at + 1, close))
        return at + 3;
    return 0;
}

static void finish_tag(struct lexer *x, size_t to)
{
    x->line_starting = to > x->at && x->s[to - 1] == '\n';
    advance(x, to);
}

static void lex_comment(struct lexer *x)
{
    uint32_t line = x->line;
    for (size_t at = x->at; at < x->n; at++) {
        size_t to = end_of(x, at, "#}", true);
        if (to) {
            finish_tag(x, to);
            return;
        }
    }
    tsr_jinja_refuse(x->p, line, -EINVAL, "the comment '{#' is not closed");
}

/* {% raw %}: its end if one begins at x->at (behind "{%" and the sign), else 0. */
static size_t raw_begin(const struct lexer *x)
{
    size_t at = skip_space(x, x->at);
    if (!starts(x, at, "raw"))
        return 0;
    at = skip_space(x, at + 3);
    if (starts(x, at, "%}"))
        return at + 2;
    return starts(x, at, "-%}") ? skip_space(x, at + 3) : 0;
}

static void lex_raw(struct lexer *x, size_t begin)
{
    uint32_t line = x->line;
    finish_tag(x, begin);
    for (size_t at = begin; at + 2 <= x->n; at++) {
        if (!starts(x, at, "{%"))
            continue;
        size_t k = at + 2;
        char sign = k < x->n ? x->s[k] : '\0';
        if (sign == '-' || sign == '+')
            k++;
        else
            sign = '\0';
        k = skip_space(x, k);
        if (!starts(x, k, "endraw"))
            continue;
        size_t to = end_of(x, skip_space(x, k + 6), "%}", true);
        if (!to)
            continue;
        lex_data(x, at, sign, false);
        finish_tag(x, to);
        return;
    }
    tsr_jinja_refuse(x->p, line, -EINVAL, "'{%% raw %%}' is not closed");
}

static bool is_digit(char c, int base)
{
    if (base == 16)
        return (c >= '0' && c <= '9') || ((c | 32) >= 'a' && (c | 32) <= 'f');
    return c >= '0' && c < '0' + base;
}

/* Digits with single underscores between them; the end. */
static size_t digits(const struct lexer *x, size_t at, int base)
{
    while (at < x->n && (is_digit(x->s[at], base) ||
                         (x->s[at] == '_' && at + 1 < x->n && is_digit(x->s[at + 1], base))))
        at++;
    return at;
}

static void lex_number(struct lexer *x)
{
    size_t begin = x->at, at = begin;
    int base = 10;
    bool real = false;
    if (x->s[at] == '0' && at + 2 < x->n) {
        char c = (char)(x->s[at + 1] | 32);
        base = c == 'x' ? 16 : c == 'o' ? 8 : c == 'b' ? 2 : 10;
        if (base != 10)
            at += 2;
    }
    at = digits(x, at, base);
    if (base == 10 && at + 1 < x->n && x->s[at] == '.' && is_digit(x->s[at + 1], 10)) {
        real = true;
        at = digits(x, at + 1, 10);
    }
    if (base == 10 && at + 1 < x->n && (x->s[at] | 32) == 'e') {
        size_t k = at + 1;
        if (x->s[k] == '+' || x->s[k] == '-')
            k++;
        if (k < x->n && is_digit(x->s[k], 10)) {
            real = true;
            at = digits(x, k, 10);
        }
    }
    char number[128];
    size_t n = 0;
    for (size_t i = begin + (base == 10 ? 0 : 2); i < at; i++)
        if (x->s[i] != '_' && n + 1 < sizeof(number))
            number[n++] = x->s[i];
    number[n] = '\0';
    struct tsr_jtoken *token = push(x, real ? TSR_JT_FLOAT : TSR_JT_INT, x->s + begin, at - begin);
    errno = 0;
    if (real)
        token->real = strtod(number, NULL);
    else
        token->integer = strtoll(number, NULL, base);
    if (n + 1 >= sizeof(number) || (!real && errno == ERANGE))
        tsr_jinja_refuse(x->p, x->line, -ENOTSUP, "the number %.*s... does not fit into 64 bits",
                         20, x->s + begin);
    advance(x, at);
}

static int hex_value(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c = (char)(c | 32);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Python's escape behind the backslash at s[0]; bytes read, and what it means in out. */
static size_t unescape(struct lexer *x, const char *s, size_t left, char *out, size_t *out_n)
{
    static const char plain[] = "\\'\"abfnrtv", means[] = "\\'\"\a\b\f\n\r\t\v";
    char c = s[0];
    const char *known = c ? strchr(plain, c) : NULL;
    *out_n = 0;
    if (known) {
        out[(*out_n)++] = means[known - plain];
        return 1;
    }
    if (c == '\n')
        return 1;
    if (c >= '0' && c <= '7') {
        uint32_t value = 0;
        size_t i = 0;
        for (; i < 3 && i < left && s[i] >= '0' && s[i] <= '7'; i++)
            value = value * 8 + (uint32_t)(s[i] - '0');
        *out_n = tsr_text_put(value, out);
        return i;
    }
    size_t want = c == 'x' ? 2 : c == 'u' ? 4 : c == 'U' ? 8 : 0;
    if (want) {
        uint32_t value = 0;
        for (size_t i = 1; i <= want; i++) {
            int digit = i < left ? hex_value(s[i]) : -1;
            if (digit < 0)
                tsr_jinja_refuse(x->p, x->line, -EINVAL, "a string has a broken \\%c escape", c);
            value = value * 16 + (uint32_t)digit;
        }
        if (value > 0x10FFFF || (value >= 0xD800 && value < 0xE000))
            tsr_jinja_refuse(x->p, x->line, -EINVAL, "\\%c%x is no character", c, value);
        *out_n = tsr_text_put(value, out);
        return want + 1;
    }
    if (c == 'N')
        tsr_jinja_refuse(x->p, x->line, -ENOTSUP, "\\N escapes are not supported");
    out[(*out_n)++] = '\\'; /* unknown: both characters stay */
    return 0;
}

static void lex_string(struct lexer *x)
{
    char quote = x->s[x->at];
    size_t end = x->at + 1;
    while (end < x->n && x->s[end] != quote)
        end += x->s[end] == '\\' ? 2 : 1;
    if (end >= x->n)
        tsr_jinja_refuse(x->p, x->line, -EINVAL, "a string is not closed");
    const char *s = x->s + x->at + 1;
    size_t len = end - x->at - 1, n = 0;
    char *out = tsr_jinja_alloc(x->p, len + 4);
    for (size_t i = 0; i < len;) {
        if (s[i] != '\\') {
            out[n++] = s[i++];
            continue;
        }
        size_t written;
        i += 1 + unescape(x, s + i + 1, len - i - 1, out + n, &written);
        n += written;
    }
    push(x, TSR_JT_STRING, out, n);
    advance(x, end + 1);
}

static size_t name_length(const struct lexer *x)
{
    size_t at = x->at;
    unsigned width;
    while (at < x->n) {
        uint32_t c = tsr_text_char(x->s + at, x->n - at, &width);
        if (!(tsr_text_is_word(c) && (at > x->at || c > '9' || c < '0')))
            break;
        at += width;
    }
    return at - x->at;
}

static size_t operator_length(const struct lexer *x)
{
    static const char *const doubles[] = {"//", "**", "==", "!=", ">=", "<="};
    for (size_t i = 0; i < sizeof(doubles) / sizeof(doubles[0]); i++)
        if (starts(x, x->at, doubles[i]))
            return 2;
    return strchr("+-/*%~[](){}><=.:|,;", x->s[x->at]) ? 1 : 0;
}

/* The inside of {{ }} or {% %}, up to and with its end. */
static void lex_tag(struct lexer *x, bool variable)
{
    char open[TSR_JINJA_NESTING_MAX];
    uint32_t n_open = 0, line = x->line;
    while (x->at < x->n) {
        size_t end = n_open ? 0 : end_of(x, x->at, variable ? "}}" : "%}", !variable);
        if (end) {
            push(x, variable ? TSR_JT_VARIABLE_END : TSR_JT_BLOCK_END, x->s + x->at, 2);
            finish_tag(x, end);
            return;
        }
        char c = x->s[x->at];
        size_t space = skip_space(x, x->at), len;
        if (space > x->at) {
            advance(x, space);
        } else if (c >= '0' && c <= '9') {
            lex_number(x);
        } else if ((len = name_length(x)) > 0) {
            push(x, TSR_JT_NAME, x->s + x->at, len);
            advance(x, x->at + len);
        } else if (c == '"' || c == '\'') {
            lex_string(x);
        } else if (c != '\0' && (len = operator_length(x)) > 0) {
            push(x, TSR_JT_OPERATOR, x->s + x->at, len);
            if (strchr("([{", c)) {
                if (n_open == TSR_JINJA_NESTING_MAX)
                    tsr_jinja_refuse(x->p, x->line, -ENOTSUP, "brackets are nested deeper than %d",
                                     TSR_JINJA_NESTING_MAX);
                open[n_open++] = c == '(' ? ')' : c == '[' ? ']' : '}';
            } else if (strchr(")]}", c)) {
                if (n_open == 0 || open[n_open - 1] != c)
                    tsr_jinja_refuse(x->p, x->line, -EINVAL, "unexpected '%c'", c);
                n_open--;
            }
            advance(x, x->at + len);
        } else {
            tsr_jinja_refuse(x->p, x->line, -EINVAL, "unexpected character '%c' in a tag",
                             c >= 32 && c < 127 ? c : '?');
        }
    }
    tsr_jinja_refuse(x->p, line, -EINVAL, "the tag '%s' is not closed", variable ? "{{" : "{%");
}

void tsr_jinja_lex(struct tsr_jparse *p)
{
    struct lexer x = {.p = p, .s = p->source, .n = p->source_n, .line = 1, .line_starting = true};
    while (x.at < x.n) {
        size_t tag = x.at;
        while (tag + 1 < x.n && !(x.s[tag] == '{' && (x.s[tag + 1] == '%' || x.s[tag + 1] == '{' ||
                                                      x.s[tag + 1] == '#')))
            tag++;
        if (tag + 1 >= x.n) {
            push(&x, TSR_JT_DATA, x.s + x.at, x.n - x.at);
            break;
        }
        char kind = x.s[tag + 1], sign = tag + 2 < x.n ? x.s[tag + 2] : '\0';
        size_t inside = tag + 2;
        if (sign == '-' || sign == '+')
            inside++;
        else
            sign = '\0';
        lex_data(&x, tag, sign, kind == '{');
        advance(&x, inside);
        if (kind == '#') {
            lex_comment(&x);
            continue;
        }
        size_t raw = kind == '%' ? raw_begin(&x) : 0;
        if (raw) {
            lex_raw(&x, raw);
            continue;
        }
        push(&x, kind == '{' ? TSR_JT_VARIABLE_BEGIN : TSR_JT_BLOCK_BEGIN, x.s + tag, 2);
        lex_tag(&x, kind == '{');
    }
    push(&x, TSR_JT_END, x.s + x.n, 0);
}
