#include "keys_priv.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

enum { WORD_SHOWN_MAX = 32, PRIORITY = 128, RATE_MAX = 1000000000 };

static const char spaces[] = " \t\r";

bool tsr_keys_name_is_valid(const char *name)
{
    size_t size = strspn(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-");
    return size > 0 && size <= TSR_KEYS_NAME_MAX && !name[size];
}

static int digit(char c)
{
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                  : -1;
}

static bool read_hash(uint8_t hash[TSR_KEYS_HASH_BYTES], const char *word)
{
    static const char prefix[] = "sha256:";
    if (!word || strncmp(word, prefix, sizeof prefix - 1) != 0) {
        return false;
    }
    word += sizeof prefix - 1;
    if (strlen(word) != 2 * TSR_KEYS_HASH_BYTES) {
        return false;
    }
    for (int i = 0; i < TSR_KEYS_HASH_BYTES; i++) {
        int high = digit(word[2 * i]), low = digit(word[2 * i + 1]);
        if (high < 0 || low < 0) {
            return false;
        }
        hash[i] = (uint8_t)(high << 4 | low);
    }
    return true;
}

/* SHA-256 of nothing: what `printf %s "$UNSET" | sha256sum` gives. */
static bool is_hash_of_nothing(const uint8_t hash[TSR_KEYS_HASH_BYTES])
{
    static const uint8_t nothing[TSR_KEYS_HASH_BYTES] = {
        0xe3, 0xb0, 0xc4, 0x42, 0x98, 0xfc, 0x1c, 0x14, 0x9a, 0xfb, 0xf4,
        0xc8, 0x99, 0x6f, 0xb9, 0x24, 0x27, 0xae, 0x41, 0xe4, 0x64, 0x9b,
        0x93, 0x4c, 0xa4, 0x95, 0x99, 0x1b, 0x78, 0x52, 0xb8, 0x55};
    return memcmp(hash, nothing, sizeof nothing) == 0;
}

enum option { REQUESTS, TOKENS, PARALLEL, TENANT, PRIORITY_OF, N_OPTIONS };

static const struct {
    const char *name, *unit;
    uint64_t min, max;
} options[N_OPTIONS] = {
    [REQUESTS] = {"requests", "/min", 1, RATE_MAX}, [TOKENS] = {"tokens", "/min", 1, RATE_MAX},
    [PARALLEL] = {"parallel", "", 1, RATE_MAX},     [TENANT] = {"tenant", "", 1, UINT64_MAX},
    [PRIORITY_OF] = {"priority", "", 0, 255},
};

static void set_option(struct tsr_key_rules *rules, enum option option, uint64_t value)
{
    switch (option) {
    case REQUESTS:
        rules->requests_min = (uint32_t)value;
        return;
    case TOKENS:
        rules->tokens_min = (uint32_t)value;
        return;
    case PARALLEL:
        rules->parallel = (uint32_t)value;
        return;
    case TENANT:
        rules->tenant = value;
        return;
    default:
        rules->priority = (uint8_t)value;
        return;
    }
}

static enum option find_option(const char *word, size_t size)
{
    unsigned i = 0;
    while (i < N_OPTIONS &&
           (strlen(options[i].name) != size || memcmp(options[i].name, word, size) != 0)) {
        i++;
    }
    return (enum option)i;
}

/* The value of `option`, up to its unit. */
static bool read_value(enum option option, const char *text, uint64_t *value)
{
    char *end;
    errno = 0;
    *value = strtoull(text, &end, 10);
    return text[0] >= '0' && text[0] <= '9' && errno == 0 &&
           strcmp(end, options[option].unit) == 0 && *value >= options[option].min &&
           *value <= options[option].max;
}

/* `word` is NAME=VALUE; `seen` has a bit for each option that stood before. Words that are none are
 * not shown: one may be a secret in a wrong place. */
static int read_option(struct tsr_key_rules *rules, char *word, unsigned *seen, struct tsr_err *err)
{
    size_t size = strcspn(word, "=");
    enum option option = word[size] ? find_option(word, size) : N_OPTIONS;
    uint64_t value;
    if (option == N_OPTIONS) {
        return tsr_err_set(err, -EINVAL,
                           "behind the hash of '%s' may stand requests=N/min, tokens=N/min, "
                           "parallel=N, tenant=N and priority=N, and nothing else",
                           rules->name);
    }
    if (*seen & 1u << option) {
        return tsr_err_set(err, -EINVAL, "%s stands twice", options[option].name);
    }
    *seen |= 1u << option;
    if (!read_value(option, word + size + 1, &value)) {
        return tsr_err_set(err, -EINVAL, "%s=%.*s: it must be %s=N%s with N from %llu to %llu",
                           options[option].name, WORD_SHOWN_MAX, word + size + 1,
                           options[option].name, options[option].unit,
                           (unsigned long long)options[option].min,
                           (unsigned long long)options[option].max);
    }
    set_option(rules, option, value);
    return 0;
}

/* 1: a key; 0: an empty line. */
static int read_line(struct tsr_key_line *line, char *text, struct tsr_err *err)
{
    char *rest, *name, *word;
    unsigned seen = 0;
    text[strcspn(text, "#")] = '\0';
    name = strtok_r(text, spaces, &rest);
    if (!name) {
        return 0;
    }
    if (!tsr_keys_name_is_valid(name)) {
        return tsr_err_set(err, -EINVAL,
                           "the line must begin with the key's name, 1 to %d of A-Z a-z 0-9 . _ -",
                           TSR_KEYS_NAME_MAX);
    }
    line->rules = (struct tsr_key_rules){.priority = PRIORITY};
    memcpy(line->rules.name, name, strlen(name) + 1);
    if (!read_hash(line->hash, strtok_r(NULL, spaces, &rest))) {
        return tsr_err_set(err, -EINVAL,
                           "behind the name '%s' must stand sha256: and 64 hexadecimal digits "
                           "(tessera-dataplane --make-key writes such a line)",
                           name);
    }
    if (is_hash_of_nothing(line->hash)) {
        return tsr_err_set(err, -EINVAL, "the hash of '%s' is that of an empty key", name);
    }
    while ((word = strtok_r(NULL, spaces, &rest))) {
        int rc = read_option(&line->rules, word, &seen, err);
        if (rc < 0) {
            return rc;
        }
    }
    return 1;
}

static int by_name(const void *a, const void *b)
{
    const struct tsr_key_line *x = a, *y = b;
    int order = strcmp(x->rules.name, y->rules.name);
    return order ? order : (int)x->line - (int)y->line;
}

static int by_hash(const void *a, const void *b)
{
    const struct tsr_key_line *x = a, *y = b;
    int order = memcmp(x->hash, y->hash, sizeof x->hash);
    return order ? order : (int)x->line - (int)y->line;
}

/* Sorts by hash, then by name, and looks at neighbours. */
static int check_once(struct tsr_key_line *lines, int n, const char *path, struct tsr_err *err)
{
    qsort(lines, (size_t)n, sizeof *lines, by_hash);
    for (int i = 1; i < n; i++) {
        if (memcmp(lines[i].hash, lines[i - 1].hash, sizeof lines->hash) == 0) {
            return tsr_err_set(err, -EINVAL, "%s:%u: the key of '%s' is that of '%s' on line %u",
                               path, lines[i].line, lines[i].rules.name, lines[i - 1].rules.name,
                               lines[i - 1].line);
        }
    }
    qsort(lines, (size_t)n, sizeof *lines, by_name);
    for (int i = 1; i < n; i++) {
        if (strcmp(lines[i].rules.name, lines[i - 1].rules.name) == 0) {
            return tsr_err_set(err, -EINVAL, "%s:%u: the name '%s' stands on line %u already", path,
                               lines[i].line, lines[i].rules.name, lines[i - 1].line);
        }
    }
    return 0;
}

int tsr_keys_parse(struct tsr_key_line *lines, const char *path, char *text, size_t size,
                   struct tsr_err *err)
{
    int n = 0;
    uint32_t number = 1;
    for (char *from = text, *end = text + size; from < end; number++) {
        struct tsr_key_line line = {.line = number};
        char *stop = memchr(from, '\n', (size_t)(end - from));
        stop = stop ? stop : end;
        if (memchr(from, '\0', (size_t)(stop - from))) {
            return tsr_err_set(err, -EINVAL, "%s:%u: a NUL byte: this is no text", path, number);
        }
        *stop = '\0';
        int rc = read_line(&line, from, err);
        if (rc < 0) {
            tsr_err_prefix(err, "%s:%u", path, number);
            return rc;
        }
        if (rc && n == TSR_KEYS_MAX) {
            return tsr_err_set(err, -E2BIG, "%s:%u: more than %d keys", path, number, TSR_KEYS_MAX);
        }
        if (rc) {
            lines[n++] = line;
        }
        from = stop + 1;
    }
    int rc = check_once(lines, n, path, err);
    return rc < 0 ? rc : n;
}
