#include <tsr/memory/sysfs.h>

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PATH_BYTES = 1024 };

static bool read_line(const char *root, char *text, size_t size, const char *format, va_list args)
{
    char path[PATH_BYTES];
    int at = snprintf(path, sizeof path, "%s", root);
    if (at < 0 || (size_t)at >= sizeof path) {
        return false;
    }
    int n = vsnprintf(path + at, sizeof path - (size_t)at, format, args);
    if (n < 0 || (size_t)n >= sizeof path - (size_t)at) {
        return false;
    }
    FILE *file = fopen(path, "re");
    if (!file) {
        return false;
    }
    bool ok = fgets(text, (int)size, file) != NULL;
    fclose(file);
    if (ok) {
        text[strcspn(text, "\n")] = '\0';
    }
    return ok;
}

static bool parse_u64(const char *text, uint64_t *value)
{
    while (*text == ' ' || *text == '\t') {
        text++;
    }
    if (strncmp(text, "max", 3) == 0) {
        *value = UINT64_MAX;
        return true;
    }
    if (*text < '0' || *text > '9') {
        return false;
    }
    char *end;
    errno = 0;
    unsigned long long number = strtoull(text, &end, 10);
    if (errno) {
        return false;
    }
    *value = strncmp(end, " kB", 3) == 0 ? number * 1024 : number;
    return true;
}

bool tsr_sysfs_line(const char *root, char *text, size_t size, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    bool ok = read_line(root, text, size, format, args);
    va_end(args);
    return ok;
}

bool tsr_sysfs_u64(const char *root, uint64_t *value, const char *format, ...)
{
    char text[64];
    va_list args;
    va_start(args, format);
    bool ok = read_line(root, text, sizeof text, format, args);
    va_end(args);
    return ok && parse_u64(text, value);
}

bool tsr_sysfs_keyed(const char *root, const char *path, const char *key, uint64_t *value)
{
    char whole[PATH_BYTES];
    int n = snprintf(whole, sizeof whole, "%s%s", root, path);
    FILE *file = n > 0 && (size_t)n < sizeof whole ? fopen(whole, "re") : NULL;
    if (!file) {
        return false;
    }
    char line[512];
    bool found = false;
    size_t length = strlen(key);
    while (!found && fgets(line, sizeof line, file)) {
        found = strncmp(line, key, length) == 0 && (line[length] == ' ' || line[length] == '\t') &&
                parse_u64(line + length, value);
    }
    fclose(file);
    return found;
}
