/* A document is two arrays that grow: nodes in the order of the text, and the bytes of its strings
 * and numbers, decoded, each with a NUL. A value within an object follows the node of its key. A
 * node is 16 bytes and takes at least two bytes of text ("1,"), the bytes take no more than the
 * text and one, and arrays grow by doubling. So memory is at most 18 times the text and some KiB;
 * keys take more text than the table that finds them makes up for.
 *
 * Keys are found, and met again, by a hash over object and key that is seeded for each reader, so
 * that keys which collide cannot be prepared. */
#ifndef TSR_API_JSON_PRIV_H
#define TSR_API_JSON_PRIV_H

#include <assert.h>

#include <tsr/api/json.h>

#include "utf8_priv.h"

enum { TSR_JSON_KEY = TSR_JSON_OBJECT + 1 }; /* the type of a key's node */

struct tsr_json_value {
    uint32_t type : 4;
    uint32_t parent : 28; /* of a key: its object */
    uint32_t off;         /* of a string, number, key: in bytes[] */
    uint32_t size;        /* of the same: without its NUL; of an array or object: its elements */
    uint32_t next;        /* the next value in the same parent, 0: none; of a key: its hash */
};
static_assert(sizeof(struct tsr_json_value) == 16, "the bound above");

enum tsr_json_state {
    WANT_VALUE,
    WANT_ELEMENT_OR_END,
    WANT_KEY_OR_END,
    WANT_KEY,
    WANT_COLON,
    WANT_COMMA_OR_END,
    WANT_NOTHING,
    IN_LITERAL,
    IN_STRING,
    IN_CHARACTER, /* the bytes after its first */
    IN_ESCAPE,
    IN_HEX,
    WANT_LOW_BACKSLASH, /* of a pair of surrogates */
    WANT_LOW_U,
    IN_MINUS,
    IN_ZERO,
    IN_INTEGER,
    IN_POINT,
    IN_FRACTION,
    IN_E,
    IN_SIGN,
    IN_EXPONENT,
};

struct tsr_json_level {
    uint32_t container;
    uint32_t last; /* its newest value, 0: none */
};

struct tsr_json {
    struct tsr_json_limits limits;
    uint64_t seed[2];

    struct tsr_json_value *values;
    uint32_t n_values, values_capacity;
    char *bytes;
    uint32_t n_bytes, bytes_capacity;

    /* Open addressing, linear, at most half full: nodes of keys, 0 where empty (node 0 is the root
     * and no key). Its size follows the document's keys, not what is allocated. */
    uint32_t *slots;
    uint32_t n_keys, n_slots, slots_capacity;

    size_t at; /* bytes taken */
    enum tsr_json_state state;
    const char *literal;     /* what is still to come of it */
    struct tsr_utf8 follows; /* of the character begun */
    uint32_t unit;           /* of \u, the digits so far */
    uint32_t unit_digits;
    uint32_t high;             /* half of a pair, 0: none */
    struct tsr_json_level top; /* the innermost container */
    uint32_t depth;
    bool is_key;        /* the string being read is one */
    struct tsr_err err; /* code 0: none */
    struct tsr_json_level outer[];
};

/* The array with room for `wanted` elements of that width, or NULL with the old one unchanged. */
void *tsr_json_grown(void *array, uint32_t *capacity, size_t width, size_t wanted);

/* The state of a number after one more character; IN_MINUS: c is not of the number. Whether the
 * number could end here. */
enum tsr_json_state tsr_json_number_state(enum tsr_json_state state, char c);
bool tsr_json_number_is_whole(enum tsr_json_state state);

/* Enters the newest node, a key that is whole, into the table. -EEXIST: its object has it already;
 * -ENOMEM. No sentence. */
int tsr_json_add_key(struct tsr_json *json);

/* The node of an object's key, 0: none. */
uint32_t tsr_json_find_key(const struct tsr_json *json, uint32_t object, const char *key,
                           size_t size);

#endif
