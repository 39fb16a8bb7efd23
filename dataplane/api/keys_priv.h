/* The text of the file of keys. */
#ifndef TSR_API_KEYS_PRIV_H
#define TSR_API_KEYS_PRIV_H

#include <assert.h>
#include <stdbool.h>

#include <tsr/api/keys.h>

enum { TSR_KEYS_HASH_BYTES = 32 };

struct tsr_key_line {
    struct tsr_key_rules rules;
    uint8_t hash[TSR_KEYS_HASH_BYTES];
    uint32_t line;
};

/* Reads text[size], which the file `path` holds, into lines[TSR_KEYS_MAX], in the order of their
 * names; the number of lines, or -EINVAL or -E2BIG with file and line. Writes NULs into the text,
 * the last one behind it. */
int tsr_keys_parse(struct tsr_key_line *lines, const char *path, char *text, size_t size,
                   struct tsr_err *err);

bool tsr_keys_name_is_valid(const char *name);

#endif
