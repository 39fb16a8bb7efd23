#include <tsr/daemon/config.h>

#include <assert.h>
#include <errno.h>
#include <getopt.h>
#include <ini.h>
#include <limits.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <tsr/daemon/value.h>

enum { NAME_MAX_BYTES = 48, VALUE_OF_FIRST = 256 /* getopt's own are characters */ };

struct tsr_daemon_text {
    struct tsr_daemon_text *next;
    char text[];
};

static int option_count(const struct tsr_daemon_config *config)
{
    int n = 0;
    while (config->options[n].name) {
        n++;
    }
    assert(n < TSR_DAEMON_OPTIONS_MAX);
    return n;
}

/* ---- Setting one ---- */

static int add_name(const char *name, const char **list, uint32_t *n, uint64_t max,
                    const char *text, struct tsr_err *err)
{
    if (*n == max) {
        return tsr_err_set(err, -EINVAL, "%s: at most %u are wanted", name, (unsigned)max);
    }
    list[(*n)++] = text;
    return 0;
}

static int set_option(const struct tsr_daemon_config *config, const struct tsr_daemon_option *o,
                      const char *text, struct tsr_err *err)
{
    static_assert(sizeof(size_t) == sizeof(uint64_t), "sizes are either");
    char name[NAME_MAX_BYTES];
    char *ctx = config->ctx;
    void *at = ctx + o->at;
    snprintf(name, sizeof name, "--%s", o->name);
    if (o->set) {
        return o->set(at, text, err);
    }
    switch (o->kind) {
    case TSR_DAEMON_TEXT:
        *(const char **)at = text;
        return 0;
    case TSR_DAEMON_NUMBER:
        return tsr_value_number(name, text, (uint32_t)o->low, (uint32_t)o->high, at, err);
    case TSR_DAEMON_SIZE:
        return tsr_value_size(name, text, o->low, o->high, at, err);
    case TSR_DAEMON_NAMES:
        return add_name(name, at, (uint32_t *)(void *)(ctx + o->count_at), o->high, text, err);
    case TSR_DAEMON_FLAG:
        *(bool *)at = true;
        return 0;
    case TSR_DAEMON_ACTION:
    case TSR_DAEMON_LEAVE:
        *(unsigned *)at = (unsigned)o->low;
        return 0;
    default:
        return tsr_err_set(err, -EINVAL, "%s: an option without a meaning", name);
    }
}

/* ---- What was meant ---- */

static size_t least(size_t a, size_t b, size_t c)
{
    size_t ab = a < b ? a : b;
    return ab < c ? ab : c;
}

/* Insertions, deletions and replacements from a to b (Levenshtein); both below NAME_MAX_BYTES. */
static size_t distance(const char *a, const char *b)
{
    size_t row[NAME_MAX_BYTES + 1];
    size_t n = strlen(b);
    for (size_t j = 0; j <= n; j++) {
        row[j] = j;
    }
    for (size_t i = 1; a[i - 1]; i++) {
        size_t corner = row[0];
        row[0] = i;
        for (size_t j = 1; j <= n; j++) {
            size_t above = row[j];
            row[j] = least(above + 1, row[j - 1] + 1, corner + (a[i - 1] != b[j - 1]));
            corner = above;
        }
    }
    return row[n];
}

static const char *nearest(const struct tsr_daemon_config *config, const char *name)
{
    const char *found = NULL;
    size_t best = strlen(name) / 3 + 1;
    for (const struct tsr_daemon_option *o = config->options; o->name; o++) {
        if (strlen(name) < NAME_MAX_BYTES && distance(name, o->name) <= best) {
            best = distance(name, o->name);
            found = o->name;
        }
    }
    return found;
}

/* ---- The file ---- */

struct file {
    struct tsr_daemon_config *config;
    const char *name;
    const char *at, *end; /* what is not read yet */
    unsigned line;
    const bool *named; /* [options] on the command line */
    unsigned seen[TSR_DAEMON_OPTIONS_MAX];
    struct tsr_err err; /* the first */
    unsigned err_line;
};

__attribute__((format(printf, 2, 3))) static int refuse(struct file *file, const char *format, ...)
{
    if (file->err_line == 0) {
        va_list args;
        va_start(args, format);
        char text[TSR_ERR_TEXT_MAX];
        vsnprintf(text, sizeof text, format, args);
        va_end(args);
        file->err_line = file->line;
        tsr_err_set(&file->err, -EINVAL, "%s:%u: %s", file->name, file->line, text);
    }
    return 0;
}

static const char *keep(struct tsr_daemon_config *config, const char *text)
{
    size_t bytes = strlen(text) + 1;
    struct tsr_daemon_text *kept = malloc(sizeof *kept + bytes);
    if (!kept) {
        return NULL;
    }
    memcpy(kept->text, text, bytes);
    kept->next = config->texts;
    config->texts = kept;
    return kept->text;
}

static int set_value(struct file *file, const struct tsr_daemon_option *option, const char *value)
{
    struct tsr_err err = {0};
    const char *text = NULL;
    if (option->kind == TSR_DAEMON_FLAG) {
        bool yes = strcmp(value, "yes") == 0;
        if (!yes && strcmp(value, "no") != 0) {
            return refuse(file, "%s = %s: yes or no is wanted", option->name, value);
        }
        if (!yes) {
            return 1;
        }
    } else if (value[0] == '\0') {
        return refuse(file, "'%s' wants a value", option->name);
    } else if (!(text = keep(file->config, value))) {
        return refuse(file, "no memory");
    }
    if (set_option(file->config, option, text, &err) < 0) {
        return refuse(file, "%s", err.text);
    }
    return 1;
}

/* inih's: 1 where it went well, else 0. */
static int on_value(void *ctx, const char *section, const char *name, const char *value)
{
    struct file *file = ctx;
    const struct tsr_daemon_option *options = file->config->options;
    size_t i = 0;
    (void)section; /* next_line() lets none pass */
    while (options[i].name && strcmp(options[i].name, name) != 0) {
        i++;
    }
    if (!options[i].name) {
        const char *near = nearest(file->config, name);
        return refuse(file, "there is no option '%s'%s%s%s", name, near ? "; did you mean '" : "",
                      near ? near : "", near ? "'?" : "");
    }
    if (options[i].kind >= TSR_DAEMON_ACTION) {
        return refuse(file, "'%s' belongs on the command line, not in a file", name);
    }
    bool repeats = options[i].kind == TSR_DAEMON_LIST || options[i].kind == TSR_DAEMON_NAMES;
    if (file->seen[i] && !repeats) {
        return refuse(file, "'%s' stands in line %u already", name, file->seen[i]);
    }
    file->seen[i] = file->line;
    return file->named && file->named[i] ? 1 : set_value(file, &options[i], value);
}

/* inih's reader: the next line into to[size], without blanks before it (inih would take the line
 * for a part of the one above). It stops at the first thing that is wrong. */
static char *next_line(char *to, int size, void *ctx)
{
    struct file *file = ctx;
    if (file->err_line || file->at == file->end) {
        return NULL;
    }
    file->line++;
    const char *from = file->at;
    const char *newline = memchr(from, '\n', (size_t)(file->end - from));
    const char *stop = newline ? newline : file->end;
    file->at = newline ? newline + 1 : file->end;
    while (from < stop && (*from == ' ' || *from == '\t')) {
        from++;
    }
    size_t bytes = (size_t)(stop - from);
    if (memchr(from, '\0', bytes)) {
        refuse(file, "there is a zero byte in the line: this is no text");
    } else if (bytes > 0 && *from == '[') {
        refuse(file, "there are no sections; every line is name = value");
    } else if (bytes + 2 > (size_t)size) {
        refuse(file, "the line has %zu bytes, %d are the most", bytes, size - 2);
    } else {
        memcpy(to, from, bytes);
        memcpy(to + bytes, "\n", 2);
        return to;
    }
    return NULL;
}

static int read_text(struct tsr_daemon_config *config, const char *name, const char *text,
                     size_t bytes, const bool *named, struct tsr_err *err)
{
    struct file file = {
        .config = config, .name = name, .at = text, .end = text + bytes, .named = named};
    int line = ini_parse_stream(next_line, &file, on_value, &file);
    if (line > 0 && (file.err_line == 0 || (unsigned)line < file.err_line)) {
        return tsr_err_set(err, -EINVAL, "%s:%d: name = value is wanted", name, line);
    }
    return file.err_line ? tsr_err_set(err, -EINVAL, "%s", file.err.text) : 0;
}

int tsr_daemon_config_text(struct tsr_daemon_config *config, const char *name, const char *text,
                           size_t bytes, struct tsr_err *err)
{
    return read_text(config, name, text, bytes, NULL, err);
}

/* name: NULL, the daemon's own. */
static int read_file(struct tsr_daemon_config *config, const char *name, const bool *named,
                     struct tsr_err *err)
{
    const char *path = name ? name : config->file;
    FILE *file = fopen(path, "re");
    if (!file && !name && errno == ENOENT) {
        return 0;
    }
    if (!file) {
        int rc = -errno;
        return tsr_err_set(err, rc, "%s: cannot be read: %s%s", path, strerror(-rc),
                           name ? "" : "; --config FILE names another, --config /dev/null none");
    }
    char *text = malloc(TSR_DAEMON_CONFIG_BYTES_MAX + 1);
    size_t bytes = text ? fread(text, 1, TSR_DAEMON_CONFIG_BYTES_MAX + 1, file) : 0;
    int rc = 0;
    if (!text) {
        rc = tsr_err_set(err, -ENOMEM, "%s: no memory to read it", path);
    } else if (ferror(file)) {
        rc = tsr_err_set(err, -EIO, "%s: cannot be read: %s", path, strerror(errno));
    } else if (bytes > TSR_DAEMON_CONFIG_BYTES_MAX) {
        rc =
            tsr_err_set(err, -EFBIG, "%s: larger than %d bytes", path, TSR_DAEMON_CONFIG_BYTES_MAX);
    } else {
        rc = read_text(config, path, text, bytes, named, err);
    }
    free(text);
    fclose(file);
    return rc;
}

/* ---- The command line ---- */

static int unknown(const struct tsr_daemon_config *config, const char *word, struct tsr_err *err)
{
    char name[NAME_MAX_BYTES] = "";
    snprintf(name, sizeof name, "%.*s", (int)strcspn(word + 2, "="), word + 2);
    const char *near = nearest(config, name);
    return tsr_err_set(err, -EINVAL, "%s is not an option%s%s; see --help", word,
                       near ? "; did you mean --" : "", near ? near : "");
}

static int complaint(const struct tsr_daemon_config *config, int option, char **argv,
                     struct tsr_err *err)
{
    const char *word = argv[optind - 1];
    if (option == ':') {
        return tsr_err_set(err, -EINVAL, "%s wants a value; see --help", word);
    }
    if (optopt >= VALUE_OF_FIRST) {
        return tsr_err_set(err, -EINVAL, "%s: this option has no value; see --help", word);
    }
    if (optopt != 0 && optopt <= UCHAR_MAX) {
        return tsr_err_set(err, -EINVAL, "-%c is not an option; see --help", optopt);
    }
    return unknown(config, word, err);
}

/* A flag of the command line: 1 where it is to be set, 0 where it says no. */
static int flag(const char *name, const char *text, struct tsr_err *err)
{
    if (!text || strcmp(text, "yes") == 0) {
        return 1;
    }
    if (strcmp(text, "no") == 0) {
        return 0;
    }
    return tsr_err_set(err, -EINVAL, "--%s=%s: yes or no is wanted", name, text);
}

/* Goes over the command line. First (file is not NULL) it only looks which options are named, and
 * what --config says; then it sets them. 1: an option wants to leave, and has been set. */
static int walk(struct tsr_daemon_config *config, int argc, char **argv, bool *named,
                const char **file, struct tsr_err *err)
{
    struct option table[TSR_DAEMON_OPTIONS_MAX + 1] = {0};
    int n = option_count(config);
    for (int i = 0; i < n; i++) {
        enum tsr_daemon_option_kind kind = config->options[i].kind;
        int takes = kind == TSR_DAEMON_FLAG     ? optional_argument
                    : kind >= TSR_DAEMON_ACTION ? no_argument
                                                : required_argument;
        table[i] = (struct option){config->options[i].name, takes, NULL, VALUE_OF_FIRST + i};
    }
    table[n] = (struct option){"config", required_argument, NULL, VALUE_OF_FIRST + n};

    optind = 0; /* from the start again */
    opterr = 0;
    for (int option; (option = getopt_long(argc, argv, ":", table, NULL)) != -1;) {
        if (option < VALUE_OF_FIRST) {
            return complaint(config, option, argv, err);
        }
        int i = option - VALUE_OF_FIRST;
        const struct tsr_daemon_option *o = &config->options[i];
        bool leaves = i < n && o->kind == TSR_DAEMON_LEAVE;
        if (file && i == n) {
            *file = optarg;
        } else if (file && !leaves) {
            named[i] = true;
        } else if (i < n) {
            int rc = o->kind == TSR_DAEMON_FLAG ? flag(o->name, optarg, err) : 1;
            rc = rc == 1 ? set_option(config, o, optarg, err) : rc;
            if (rc < 0 || leaves) {
                return rc < 0 ? rc : 1;
            }
        }
    }
    if (optind < argc) {
        return tsr_err_set(err, -EINVAL, "'%s' is one word too many; see --help", argv[optind]);
    }
    return 0;
}

int tsr_daemon_config_read(struct tsr_daemon_config *config, int argc, char **argv,
                           struct tsr_err *err)
{
    bool named[TSR_DAEMON_OPTIONS_MAX] = {false};
    const char *file = NULL;
    int rc = walk(config, argc, argv, named, &file, err);
    if (rc != 0) {
        return rc < 0 ? rc : 0;
    }
    rc = read_file(config, file, named, err);
    return rc < 0 ? rc : walk(config, argc, argv, named, NULL, err);
}

/* ---- The manual ---- */

static void put_default(const struct tsr_daemon_option *o, const char *at, FILE *out)
{
    if (o->kind == TSR_DAEMON_NUMBER) {
        fprintf(out, "%u", *(const uint32_t *)(const void *)at);
    } else if (o->kind == TSR_DAEMON_SIZE) {
        fprintf(out, "%lluM", (unsigned long long)*(const uint64_t *)(const void *)at >> 20);
    } else {
        fputs(*(const char *const *)(const void *)at, out);
    }
}

/* Texts stand beside each other. */
static void put_option(const struct tsr_daemon_option *o, const char *ctx, FILE *out)
{
    enum { COLUMN = 26 };
    int n = fprintf(out, "  --%s%s%s", o->name, o->value ? " " : "", o->value ? o->value : "");
    fprintf(out, "%*s", n < COLUMN - 2 ? COLUMN - n : 2, "");
    for (const char *c = o->help; *c; c++) {
        if (*c == '#') {
            put_default(o, ctx + o->at, out);
        } else {
            fputc(*c, out);
            fprintf(out, "%*s", *c == '\n' ? COLUMN : 0, "");
        }
    }
    fputc('\n', out);
}

void tsr_daemon_config_help(const struct tsr_daemon_config *config, FILE *out)
{
    static const struct tsr_daemon_option own = {
        "config",
        .at = offsetof(struct tsr_daemon_config, file),
        .value = "FILE",
        .help = "options as name = value lines; those of the command line\n"
                "replace them [#, if it is there]",
    };
    const struct tsr_daemon_option *o = config->options;
    fputs(config->head, out);
    for (; o->name && o->kind != TSR_DAEMON_LEAVE; o++) {
        if (o->above) {
            fprintf(out, "\n%s%s", o->above, o->above[0] ? "\n" : "");
        }
        put_option(o, config->ctx, out);
    }
    put_option(&own, (const char *)config, out);
    for (; o->name; o++) {
        fprintf(out, "  --%s", o->name);
    }
    fprintf(out, "\n\n%s", config->tail);
}

void tsr_daemon_config_free(struct tsr_daemon_config *config)
{
    while (config->texts) {
        struct tsr_daemon_text *text = config->texts;
        config->texts = text->next;
        free(text);
    }
}
