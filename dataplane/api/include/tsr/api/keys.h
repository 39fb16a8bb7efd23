/* API keys: who may ask, how much, and on whose behalf.
 *
 * The file has one key a line, comments from '#' on, and no secrets but their hashes:
 *
 *     NAME sha256:HEX [requests=N/min] [tokens=N/min] [parallel=N] [tenant=N] [priority=N]
 *
 * NAME: 1 .. 64 of A-Z a-z 0-9 . _ -, once in the file, as is HEX, the SHA-256 of the key's
 * characters (of none: refused). What is left out is not limited. It must be a regular file that
 * others cannot write. Replace it by rename(), so that it is never read half written.
 *
 * A rate lets a minute's worth pass at once and then flows (a leaky bucket). Used by one thread;
 * but threads that each have opened the same file can count what keys use together (`first`). Times
 * are CLOCK_MONOTONIC. */
#ifndef TSR_API_KEYS_H
#define TSR_API_KEYS_H

#include <stddef.h>
#include <stdint.h>

#include <tsr/shm/err.h>

enum {
    TSR_KEYS_MAX = 4096,
    TSR_KEYS_NAME_MAX = 64,
    TSR_KEYS_SECRET_BYTES = 4 + 64 + 1, /* "tsr-", 32 random bytes in hexadecimal, NUL */
    TSR_KEYS_LINE_BYTES = 160,          /* of tsr_keys_make() */
};

struct tsr_keys;
struct tsr_key;

/* What the file says of a key. 0: not limited, for the first three. */
struct tsr_key_rules {
    char name[TSR_KEYS_NAME_MAX + 1];
    uint32_t requests_min; /* a minute, up to 10^9 */
    uint32_t tokens_min;   /* a minute, of prompt and answer, up to 10^9 */
    uint32_t parallel;     /* requests at once */
    uint64_t tenant;       /* for the engine's accounts; 0: none of its own */
    uint8_t priority;      /* of its requests, and the highest that they may ask for [128] */
};

/* Reads the file. first: the tsr_keys of another thread, of the same file: limits hold for both in
 * all, and for others that are opened with it; NULL: alone. Open all before threads start, and
 * close them when they have ended. -EINVAL with file and line; -EPERM: others may write it; -E2BIG;
 * -ENOMEM; what open() gave. */
int tsr_keys_open(struct tsr_keys **keys, const char *path, const struct tsr_keys *first,
                  struct tsr_err *err);

/* No request may be open. NULL is allowed. */
void tsr_keys_close(struct tsr_keys *keys);

/* Reads it again, whatever it looks like. A name that stays keeps what it has used, also with
 * another hash or other limits; the requests of one that goes end as they would have. On failure
 * everything stays as it was. Errors as of tsr_keys_open(). */
int tsr_keys_reload(struct tsr_keys *keys, struct tsr_err *err);

/* Looks once a second whether the file has changed, and then reads it again. 1: it was read; 0: no
 * change; negative: it has changed and cannot be read, said once for each change. */
int tsr_keys_poll(struct tsr_keys *keys, uint64_t now_ns, struct tsr_err *err);

/* Whose key it is, or NULL. What it takes says nothing about the keys that are there. Valid up to
 * the next reload or poll, or tsr_keys_release() of its last request. */
struct tsr_key *tsr_keys_find(struct tsr_keys *keys, const char *secret, size_t size);

const struct tsr_key_rules *tsr_key_rules(const struct tsr_key *key);

/* Lets a request of the key begin: it is open until tsr_keys_release(). -EAGAIN: a limit, with a
 * sentence for the client and the seconds after which it may try again. Tokens are charged as
 * they become known, so a key may go beyond its rate by what its open requests still use, and
 * then waits for longer. */
int tsr_keys_admit(struct tsr_key *key, uint64_t now_ns, uint32_t *retry_after_s,
                   struct tsr_err *err);
void tsr_keys_charge(struct tsr_key *key, uint64_t tokens, uint64_t now_ns);
void tsr_keys_release(struct tsr_key *key);

/* A new key: the secret, to be shown once, and its line for the file (without a newline). -EINVAL
 * the name; -EIO: no random bytes. */
int tsr_keys_make(const char *name, char secret[TSR_KEYS_SECRET_BYTES],
                  char line[TSR_KEYS_LINE_BYTES], struct tsr_err *err);

#endif
