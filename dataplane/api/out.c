#include <tsr/api/out.h>

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "utf8_priv.h"

enum { GROWN_BYTES_MIN = 256 };

void tsr_out_init(struct tsr_out *out, void *room, size_t capacity)
{
    *out = (struct tsr_out){.bytes = room, .capacity = capacity};
}

void tsr_out_init_growing(struct tsr_out *out, size_t grows_to)
{
    *out = (struct tsr_out){.grows_to = grows_to};
}

void tsr_out_fini(struct tsr_out *out)
{
    if (out->grows_to) {
        free(out->bytes);
    }
    *out = (struct tsr_out){0};
}

void tsr_out_clear(struct tsr_out *out)
{
    out->size = 0;
    out->full = false;
}

static bool grow(struct tsr_out *out, size_t wanted)
{
    size_t capacity = out->capacity ? out->capacity : GROWN_BYTES_MIN;
    while (capacity < wanted && capacity <= out->grows_to / 2) {
        capacity *= 2;
    }
    if (capacity < wanted || capacity > out->grows_to) {
        capacity = out->grows_to;
    }
    char *bytes = wanted <= capacity ? realloc(out->bytes, capacity) : NULL;
    if (!bytes) {
        return false;
    }
    out->bytes = bytes;
    out->capacity = capacity;
    return true;
}

/* Room for size bytes more, or marks it full; nothing is written after what did not fit. */
static bool reserve(struct tsr_out *out, size_t size)
{
    if (out->full) {
        return false;
    }
    if (size <= out->capacity - out->size) {
        return true;
    }
    out->full = size > SIZE_MAX - out->size || !grow(out, out->size + size);
    return !out->full;
}

void tsr_out_bytes(struct tsr_out *out, const void *bytes, size_t size)
{
    if (size && reserve(out, size)) {
        memcpy(out->bytes + out->size, bytes, size);
        out->size += size;
    }
}

void tsr_out_text(struct tsr_out *out, const char *text)
{
    tsr_out_bytes(out, text, strlen(text));
}

void tsr_out_uint(struct tsr_out *out, uint64_t value)
{
    char digits[20];
    size_t at = sizeof digits;
    do {
        digits[--at] = (char)('0' + value % 10);
        value /= 10;
    } while (value);
    tsr_out_bytes(out, digits + at, sizeof digits - at);
}

void tsr_out_int(struct tsr_out *out, int64_t value)
{
    if (value < 0) {
        tsr_out_bytes(out, "-", 1);
    }
    tsr_out_uint(out, value < 0 ? 0 - (uint64_t)value : (uint64_t)value);
}

void tsr_out_double(struct tsr_out *out, double value)
{
    if (!isfinite(value)) {
        tsr_out_text(out, "null");
        return;
    }
    if (value == trunc(value) && fabs(value) < 1e15) {
        tsr_out_int(out, (int64_t)value); /* not 1e+02 */
        return;
    }
    /* 17 digits always read back. */
    char text[32];
    int low = 1, high = 17;
    while (low < high) {
        int digits = (low + high) / 2;
        snprintf(text, sizeof text, "%.*g", digits, value);
        if (strtod(text, NULL) == value) {
            high = digits;
        } else {
            low = digits + 1;
        }
    }
    snprintf(text, sizeof text, "%.*g", high, value);
    tsr_out_text(out, text);
}

void tsr_out_format(struct tsr_out *out, const char *format, ...)
{
    va_list args, again;
    va_start(args, format);
    va_copy(again, args);
    int size = vsnprintf(NULL, 0, format, args);
    if (size < 0) {
        out->full = true;
    } else if (reserve(out, (size_t)size + 1)) {
        vsnprintf(out->bytes + out->size, (size_t)size + 1, format, again);
        out->size += (size_t)size;
    }
    va_end(again);
    va_end(args);
}

static bool is_plain(char c)
{
    return (uint8_t)c >= 0x20 && (uint8_t)c < 0x80 && c != '"' && c != '\\';
}

static void escape(struct tsr_out *out, char c)
{
    static const char hex[] = "0123456789abcdef";
    static const char named[] = "\"\\\b\f\n\r\t", letters[] = "\"\\bfnrt";
    const char *name = c ? strchr(named, c) : NULL;
    if (name) {
        tsr_out_bytes(out, (char[]){'\\', letters[name - named]}, 2);
    } else {
        tsr_out_bytes(out, (char[]){'\\', 'u', '0', '0', hex[c >> 4], hex[c & 15]}, 6);
    }
}

void tsr_out_escaped(struct tsr_out *out, const char *text, size_t size)
{
    static const char replacement[] = "\xef\xbf\xbd"; /* U+FFFD */
    size_t done = 0;
    for (size_t i = 0; i < size;) {
        if (is_plain(text[i])) {
            i++;
            continue;
        }
        int step = tsr_utf8_step(text + i, size - i);
        if (step > 1) {
            i += (size_t)step;
            continue;
        }
        tsr_out_bytes(out, text + done, i - done);
        if (step == 1) {
            escape(out, text[i]);
        } else {
            tsr_out_bytes(out, replacement, sizeof replacement - 1);
        }
        i += step == 1 ? 1 : (size_t)-step;
        done = i;
    }
    tsr_out_bytes(out, text + done, size - done);
}

void tsr_out_string(struct tsr_out *out, const char *text, size_t size)
{
    tsr_out_bytes(out, "\"", 1);
    tsr_out_escaped(out, text, size);
    tsr_out_bytes(out, "\"", 1);
}
