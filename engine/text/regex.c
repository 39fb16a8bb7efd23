#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include "regex_priv.h"

enum {
    PATTERN_MAX = 1 << 16,
    JIT_STACK_START = 32 << 10,
    JIT_STACK_MAX = 1 << 20,
    HEAP_KIB_MAX = 16 << 10,
    /* Above what any sane expression needs on 16 MiB of text (some alternatives look at a run of
     * spaces from end to start, once per run), far below what a catastrophic one would take. */
    MATCH_LIMIT = 100 << 20,
};

struct translation {
    char *out;
    size_t n, cap;
};

static void emit(struct translation *t, const char *text, size_t len)
{
    if (t->n + len > t->cap) /* cannot happen: cap is the largest growth of any construct */
        abort();
    memcpy(t->out + t->n, text, len);
    t->n += len;
}

/* What Oniguruma's \s, \w, \b and \h are: the White_Space property (PCRE2's \s has U+180E as well),
 * letters with marks and digits (PCRE2's \w has no marks), hexadecimal digits. */
static const char SPACE_SET[] =
    "\\t-\\r "
    "\\x{85}\\x{A0}\\x{1680}\\x{2000}-\\x{200A}\\x{2028}\\x{2029}\\x{202F}\\x{205F}\\x{3000}";
static const char NO_SPACE_SET[] =
    "\\x{0}-\\x{8}\\x{E}-\\x{1F}!-\\x{84}\\x{86}-\\x{9F}\\x{A1}-\\x{167F}\\x{1681}-\\x{1FFF}"
    "\\x{200B}-\\x{2027}\\x{202A}-\\x{202E}\\x{2030}-\\x{205E}\\x{2060}-\\x{2FFF}\\x{3001}-\\x{"
    "10FFFF}";
static const char WORD_SET[] = "\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}";
/* Outside a class \w has the superscripts and fractions of Latin-1 as well. */
#define WORD "\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}\\x{B2}\\x{B3}\\x{B9}\\x{BC}-\\x{BE}"
static const char BARE_WORD_SET[] = WORD;
#define AT_WORD_END   "(?<=[" WORD "])(?![" WORD "])"
#define AT_WORD_BEGIN "(?<![" WORD "])(?=[" WORD "])"
static const char WORD_BORDER[] = "(?:" AT_WORD_END "|" AT_WORD_BEGIN ")";
static const char NO_WORD_BORDER[] = "(?!" AT_WORD_END "|" AT_WORD_BEGIN ")";
static const char HEX_SET[] = "0-9a-fA-F";

/* Scripts: PCRE2 takes a bare name for the script extensions, Oniguruma for the script. */
static const char *const SCRIPTS[] = {"Han",   "Hangul",   "Hiragana", "Katakana", "Latin",
                                      "Greek", "Cyrillic", "Arabic",   "Hebrew",   "Thai",
                                      "Lao",   "Khmer",    "Myanmar",  "Bopomofo", "Devanagari"};

static void emit_set(struct translation *t, const char *set, bool in_class, bool negated)
{
    if (!in_class)
        emit(t, negated ? "[^" : "[", negated ? 2 : 1);
    emit(t, set, strlen(set));
    if (!in_class)
        emit(t, "]", 1);
}

/* The escape at p[0] = '\\'; the number of pattern bytes taken, or 0: not supported here. */
static size_t translate_escape(struct translation *t, const char *p, size_t left, bool in_class)
{
    char c = left > 1 ? p[1] : '\0';
    bool negated = c == 'S' || c == 'W' || c == 'H';
    if (negated || c == 's' || c == 'w' || c == 'h') {
        const char *word = in_class ? WORD_SET : BARE_WORD_SET;
        const char *set = c == 's' || c == 'S' ? SPACE_SET : c == 'w' || c == 'W' ? word : HEX_SET;
        if (negated && in_class && c != 'S')
            return 0;
        if (negated && in_class)
            emit(t, NO_SPACE_SET, strlen(NO_SPACE_SET));
        else
            emit_set(t, set, in_class, negated);
        return 2;
    }
    if (!in_class && (c == 'b' || c == 'B')) { /* by that \w */
        const char *border = c == 'b' ? WORD_BORDER : NO_WORD_BORDER;
        emit(t, border, strlen(border));
        return 2;
    }
    if ((c == 'p' || c == 'P') && left > 3 && p[2] == '{') {
        for (size_t i = 0; i < sizeof(SCRIPTS) / sizeof(SCRIPTS[0]); i++) {
            size_t n = strlen(SCRIPTS[i]);
            if (left > n + 3 && memcmp(p + 3, SCRIPTS[i], n) == 0 && p[n + 3] == '}') {
                emit(t, p, 3);
                emit(t, "sc:", 3);
                emit(t, p + 3, n + 1);
                return n + 4;
            }
        }
    }
    if (c == 'u' && left >= 6 && strspn(p + 2, "0123456789abcdefABCDEF") >= 4) {
        emit(t, "\\x{", 3);
        emit(t, p + 2, 4);
        emit(t, "}", 1);
        return 6;
    }
    size_t n = left > 1 ? 2 : 1;
    if ((c == 'p' || c == 'P' || c == 'x') && left > 2 && p[2] == '{')
        while (n < left && p[n - 1] != '}')
            n++;
    emit(t, p, n);
    return n;
}

/* "[:name:]" within a class, by Unicode's properties; the number of pattern bytes taken, or 0. */
static size_t translate_posix(struct translation *t, const char *p, size_t left)
{
    static const struct {
        const char *name, *set;
    } classes[] = {{"[:alpha:]", "\\p{Alphabetic}"},
                   {"[:digit:]", "\\p{Nd}"},
                   {"[:alnum:]", "\\p{Alphabetic}\\p{Nd}"},
                   {"[:upper:]", "\\p{Uppercase}"},
                   {"[:lower:]", "\\p{Lowercase}"},
                   {"[:space:]", SPACE_SET},
                   {"[:word:]", WORD_SET},
                   {"[:xdigit:]", HEX_SET}};
    for (size_t i = 0; i < sizeof(classes) / sizeof(classes[0]); i++) {
        size_t n = strlen(classes[i].name);
        if (left < n || memcmp(p, classes[i].name, n) != 0)
            continue;
        emit(t, classes[i].set, strlen(classes[i].set));
        return n;
    }
    return 0;
}

static int translate(struct translation *t, const char *pattern, size_t len, struct tsr_err *err)
{
    bool in_class = false;
    size_t class_at = 0;
    for (size_t i = 0; i < len;) {
        char c = pattern[i];
        if (c == '\\') {
            size_t taken = translate_escape(t, pattern + i, len - i, in_class);
            if (taken == 0)
                return tsr_err_set(err, -ENOTSUP,
                                   "regular expression, byte %zu: \\%c within a character class is "
                                   "not supported",
                                   i, pattern[i + 1]);
            i += taken;
            continue;
        }
        if (in_class && c == '&' && i + 1 < len && pattern[i + 1] == '&')
            return tsr_err_set(err, -ENOTSUP,
                               "regular expression, byte %zu: intersection (&&) of character "
                               "classes is not supported",
                               i);
        if (in_class && c == '[') {
            if (i + 1 >= len || pattern[i + 1] != ':')
                return tsr_err_set(err, -ENOTSUP,
                                   "regular expression, byte %zu: a character class within a "
                                   "character class is not supported",
                                   i);
            size_t taken = translate_posix(t, pattern + i, len - i);
            if (taken == 0)
                return tsr_err_set(
                    err, -ENOTSUP,
                    "regular expression, byte %zu: this POSIX class is not supported", i);
            i += taken;
            continue;
        }
        if (!in_class && c == '}' && i + 1 < len && pattern[i + 1] == '+')
            return tsr_err_set(err, -ENOTSUP,
                               "regular expression, byte %zu: a repetition {n,m} that is itself "
                               "repeated (+) is not supported",
                               i);
        if (!in_class && c == '[') {
            in_class = true;
            class_at = i + 1;
            if (class_at < len && pattern[class_at] == '^')
                class_at++;
        } else if (in_class && c == ']' && i > class_at) {
            in_class = false;
        }
        if (i == class_at && c == '^' && in_class)
            class_at++;
        emit(t, pattern + i++, 1);
    }
    return 0;
}

int tsr_regex_compile(struct tsr_regex *regex, const char *pattern, size_t len, bool literal,
                      struct tsr_err *err)
{
    *regex = (struct tsr_regex){0};
    if (len > PATTERN_MAX)
        return tsr_err_set(err, -EINVAL, "regular expression of %zu bytes: at most %d are allowed",
                           len, PATTERN_MAX);
    struct translation t = {.cap = len * (sizeof(NO_SPACE_SET) + 3) + 1};
    t.out = malloc(t.cap);
    if (!t.out)
        return tsr_err_set(err, -ENOMEM, "no memory for a regular expression of %zu bytes", len);
    int rc = 0;
    if (literal)
        emit(&t, pattern, len);
    else
        rc = translate(&t, pattern, len, err);
    if (rc < 0) {
        free(t.out);
        return rc;
    }
    /* ^ and $ are at lines in Oniguruma's Ruby syntax. */
    uint32_t options = literal ? PCRE2_LITERAL | PCRE2_UTF
                               : PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE | PCRE2_NEVER_BACKSLASH_C;
    int code;
    PCRE2_SIZE at;
    pcre2_compile_context *context = pcre2_compile_context_create(NULL);
    if (!context) {
        free(t.out);
        return tsr_err_set(err, -ENOMEM, "no memory for a regular expression of %zu bytes", len);
    }
    pcre2_set_newline(context, PCRE2_NEWLINE_LF);
    pcre2_code *compiled = pcre2_compile((PCRE2_SPTR)t.out, t.n, options, &code, &at, context);
    pcre2_compile_context_free(context);
    free(t.out);
    if (!compiled) {
        char text[160] = "";
        pcre2_get_error_message(code, (PCRE2_UCHAR *)text, sizeof(text));
        return tsr_err_set(err, -EINVAL, "regular expression '%.*s%s': %s",
                           (int)(len < 120 ? len : 120), pattern, len < 120 ? "" : "...", text);
    }
    regex->code = compiled;
    regex->jit = pcre2_jit_compile(compiled, PCRE2_JIT_COMPLETE) == 0;
    regex->jit_failed = !regex->jit;
    return 0;
}

void tsr_regex_fini(struct tsr_regex *regex)
{
    pcre2_code_free(regex->code);
    *regex = (struct tsr_regex){0};
}

int tsr_regex_scratch_init(struct tsr_regex_scratch *scratch)
{
    *scratch = (struct tsr_regex_scratch){
        .match_data = pcre2_match_data_create(1, NULL),
        .context = pcre2_match_context_create(NULL),
        .jit_stack = pcre2_jit_stack_create(JIT_STACK_START, JIT_STACK_MAX, NULL),
    };
    if (!scratch->match_data || !scratch->context) {
        tsr_regex_scratch_fini(scratch);
        return -ENOMEM;
    }
    pcre2_set_match_limit(scratch->context, MATCH_LIMIT);
    pcre2_set_heap_limit(scratch->context, HEAP_KIB_MAX);
    if (scratch->jit_stack) /* NULL where PCRE2 has no JIT */
        pcre2_jit_stack_assign(scratch->context, NULL, scratch->jit_stack);
    return 0;
}

void tsr_regex_scratch_fini(struct tsr_regex_scratch *scratch)
{
    pcre2_match_data_free(scratch->match_data);
    pcre2_match_context_free(scratch->context);
    if (scratch->jit_stack)
        pcre2_jit_stack_free(scratch->jit_stack);
    *scratch = (struct tsr_regex_scratch){0};
}

int tsr_regex_find(const struct tsr_regex *regex, struct tsr_regex_scratch *scratch,
                   const char *text, size_t len, size_t from, size_t *begin, size_t *end)
{
    int rc;
    if (regex->jit)
        rc = pcre2_jit_match(regex->code, (PCRE2_SPTR)text, len, from, PCRE2_NO_UTF_CHECK,
                             scratch->match_data, scratch->context);
    else
        rc = pcre2_match(regex->code, (PCRE2_SPTR)text, len, from, PCRE2_NO_UTF_CHECK,
                         scratch->match_data, scratch->context);
    if (rc == PCRE2_ERROR_NOMATCH)
        return 0;
    if (rc == PCRE2_ERROR_NOMEMORY)
        return -ENOMEM;
    if (rc < 0)
        return -ENOTSUP;
    const PCRE2_SIZE *where = pcre2_get_ovector_pointer(scratch->match_data);
    *begin = where[0];
    *end = where[1];
    return 1;
}
