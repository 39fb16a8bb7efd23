#include "command_priv.h"

#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <utf8proc.h>

int command_usage(const char *command, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    fprintf(stderr, "tessera %s: ", command);
    vfprintf(stderr, format, args);
    fprintf(stderr, "; tessera %s --help says more\n", command);
    va_end(args);
    return COMMAND_USAGE;
}

int command_fail(const struct tsr_err *err)
{
    fprintf(stderr, "tessera: ");
    command_write_text(stderr, err->text, strlen(err->text));
    fputc('\n', stderr);
    return COMMAND_FAILED;
}

const char *command_model(const char *command, int argc, char **argv)
{
    if (argc == 1) {
        return argv[0];
    }
    if (argc == 0) {
        command_usage(command, "MODEL is missing: a GGUF file or a Hugging Face directory");
    } else {
        command_usage(command, "one MODEL is wanted; '%s' is one too many", argv[1]);
    }
    return NULL;
}

int command_read(FILE *in, const char *name, size_t max, char **text, size_t *len,
                 struct tsr_err *err)
{
    char *buffer = NULL;
    size_t used = 0, capacity = 0;
    if (isatty(fileno(in))) {
        fprintf(stderr, "Type the input; Ctrl-D at the beginning of a line ends it.\n");
    }
    do {
        if (capacity - used < 2) {
            capacity = capacity ? 2 * capacity : 65536;
            char *larger = realloc(buffer, capacity);
            if (!larger) {
                free(buffer);
                return tsr_err_set(err, -ENOMEM, "%s: no memory for %zu bytes", name, capacity);
            }
            buffer = larger;
        }
        used += fread(buffer + used, 1, capacity - used - 1, in);
    } while (!feof(in) && !ferror(in) && used <= max);
    int rc = 0;
    if (ferror(in)) {
        rc = tsr_err_set(err, -EIO, "%s cannot be read: %s", name, strerror(errno));
    } else if (used > max) {
        rc = tsr_err_set(err, -E2BIG, "%s has more than %zu bytes", name, max);
    }
    if (rc < 0) {
        free(buffer);
        return rc;
    }
    buffer[used] = '\0';
    *text = buffer;
    *len = used;
    return 0;
}

void command_write_ids(const uint32_t *ids, size_t n)
{
    putchar('[');
    for (size_t i = 0; i < n; i++) {
        printf("%s%u", i ? ", " : "", ids[i]);
    }
    puts("]");
}

void command_write_text(FILE *out, const char *text, size_t len)
{
    const utf8proc_uint8_t *at = (const utf8proc_uint8_t *)text, *end = at + len;
    while (at < end) {
        utf8proc_int32_t code;
        utf8proc_ssize_t n = utf8proc_iterate(at, end - at, &code);
        if (n <= 0 || code < 0x20 || (code >= 0x7f && code < 0xa0)) {
            fprintf(out, *at == '\n' ? "\\n" : *at == '\t' ? "\\t" : "\\x%02x", *at);
            at++;
            continue;
        }
        fwrite(at, 1, (size_t)n, out);
        at += n;
    }
}
