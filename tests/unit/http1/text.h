/* Text that grows. */
#ifndef TSR_TEST_TEXT_H
#define TSR_TEST_TEXT_H

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct text {
    char *bytes;
    size_t size, capacity;
};

static inline void text_put(struct text *text, const void *bytes, size_t size)
{
    while (text->capacity - text->size < size + 1) {
        text->capacity = text->capacity ? 2 * text->capacity : 4096;
        text->bytes = realloc(text->bytes, text->capacity);
        if (!text->bytes) {
            abort();
        }
    }
    memcpy(text->bytes + text->size, bytes, size);
    text->size += size;
    text->bytes[text->size] = '\0';
}

__attribute__((format(printf, 2, 3))) static inline void text_format(struct text *text,
                                                                     const char *format, ...)
{
    va_list args;
    va_start(args, format);
    char *line;
    int n = vasprintf(&line, format, args);
    va_end(args);
    if (n < 0) {
        abort();
    }
    text_put(text, line, (size_t)n);
    free(line);
}

static inline void text_clear(struct text *text)
{
    text->size = 0;
    text_put(text, "", 0);
}

#endif
