/* A small byte-level tokenizer.json, made in memory: all 256 bytes, a few merges, and what a test
 * adds. */
#ifndef TSR_TESTS_SMALL_H
#define TSR_TESTS_SMALL_H

#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

enum { SMALL_JSON_MAX = 1 << 16, SMALL_FIRST_ADDED = 266 };

/* Appends to text; a test's own text always fits. */
__attribute__((format(printf, 2, 3))) static inline void small_add(char *text, const char *format,
                                                                   ...)
{
    size_t n = strlen(text);
    va_list args;
    va_start(args, format);
    vsnprintf(text + n, SMALL_JSON_MAX - n, format, args);
    va_end(args);
}

/* The character of byte b in byte-level vocabularies, as UTF-8 in JSON quotes. */
static inline void small_add_byte(char *text, unsigned b)
{
    unsigned c = b;
    if (!((b >= 33 && b <= 126) || (b >= 161 && b <= 172) || (b >= 174 && b <= 255))) {
        c = 0x100;
        for (unsigned k = 0; k < b; k++)
            c += !((k >= 33 && k <= 126) || (k >= 161 && k <= 172) || (k >= 174 && k <= 255));
    }
    if (c == '"' || c == '\\')
        small_add(text, "\\%c", c);
    else if (c < 0x80)
        small_add(text, "%c", c);
    else
        small_add(text, "%c%c", 0xC0 | c >> 6, 0x80 | (c & 0x3F));
}

/* Ids: byte b is b; 256 .. 265 are merges: th, he, the, Ġthe (" the"), in, ing, ĠĠ, ĠĠĠĠ, ll, hell.
 * pre: the pre_tokenizer's JSON or NULL for ByteLevel with its own expression; added: JSON of the
 * added tokens (ids from SMALL_FIRST_ADDED); more: further members, each with a comma before it. */
static inline const char *small_json(const char *pre, const char *added, const char *more)
{
    static char text[SMALL_JSON_MAX];
    static const char *const merged[] = {"th", "he",  "the",          "\u0120the",
                                         "in", "ing", "\u0120\u0120", "\u0120\u0120\u0120\u0120",
                                         "ll", "hell"};
    text[0] = '\0';
    small_add(text, "{\"model\":{\"type\":\"BPE\",\"vocab\":{");
    for (unsigned b = 0; b < 256; b++) {
        small_add(text, "%s\"", b ? "," : "");
        small_add_byte(text, b);
        small_add(text, "\":%u", b);
    }
    for (unsigned i = 0; i < 10; i++)
        small_add(text, ",\"%s\":%u", merged[i], 256 + i);
    small_add(text, "},\"merges\":[\"t h\",\"h e\",\"th e\",\"\u0120 the\",\"i n\",\"in g\","
                    "[\"\u0120\",\"\u0120\"],\"\u0120\u0120 \u0120\u0120\",\"l l\",\"he ll\"]}");
    small_add(text, ",\"pre_tokenizer\":%s",
              pre ? pre : "{\"type\":\"ByteLevel\",\"add_prefix_space\":false}");
    small_add(text, ",\"added_tokens\":[%s]%s}", added ? added : "", more ? more : "");
    return text;
}

#endif
