#include "keys_priv.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <search.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include <openssl/crypto.h>
#include <openssl/sha.h>

#define SECOND_NS   UINT64_C(1000000000)
#define MINUTE_NS   (60 * SECOND_NS)
#define DEBT_NS_MAX (24 * 60 * MINUTE_NS) /* tokens charged beyond are forgiven */

enum { FILE_BYTES_MAX = 1 << 20 };

struct tsr_key {
    struct tsr_key_rules rules;
    uint8_t hash[TSR_KEYS_HASH_BYTES];
    uint64_t tag; /* of the hash; see find() */

    struct account *account;
    struct ledger *ledger; /* its account's */
    uint32_t open;         /* requests that hold this key */
    bool kept;             /* during a reload: it stays */
    bool gone;             /* left the file; freed with its last request */
};

/* What the key of a name has used, by all who opened the file together; any of them may write. */
struct account {
    /* The buckets, as times: when all that was taken will have flowed back. What is taken of a
     * rate of N a minute adds minute / N, and a minute ahead nothing is left. */
    atomic_uint_least64_t requests_ns, tokens_ns;
    atomic_uint open; /* requests */
    uint32_t users;   /* keys; under the ledger's lock */
    char name[TSR_KEYS_NAME_MAX + 1];
};

struct ledger {
    pthread_mutex_t
        lock;       /* taken when a file is read and when keys end, never by a request's way */
    void *accounts; /* of tsearch() */
    uint32_t users; /* struct tsr_keys */
};

/* Tells one state of the file from another. */
struct stamp {
    uint64_t device, inode, bytes, changed_s, changed_ns;
};

struct tsr_keys {
    char *path;
    struct ledger *ledger;
    struct stamp stamp;
    uint64_t look_ns; /* next */
    uint8_t salt[TSR_KEYS_HASH_BYTES];
    struct tsr_key **by_name, **by_tag; /* [n], ascending */
    uint32_t n;
};

/* ---- The file ---- */

static struct stamp stamp_of(const struct stat *st)
{
    return (struct stamp){st->st_dev, st->st_ino, (uint64_t)st->st_size,
                          (uint64_t)st->st_ctim.tv_sec, (uint64_t)st->st_ctim.tv_nsec};
}

static int check_file(const char *path, const struct stat *st, struct tsr_err *err)
{
    if (!S_ISREG(st->st_mode)) {
        return tsr_err_set(err, -EINVAL, "%s: not a regular file", path);
    }
    if (st->st_mode & S_IWOTH) {
        return tsr_err_set(err, -EPERM,
                           "%s: everybody may write this file (mode %03o), and so give themselves "
                           "a key: chmod o-w",
                           path, st->st_mode & 0777);
    }
    return 0;
}

/* What fd holds, up to capacity; the number of bytes. */
static ssize_t read_whole(int fd, char *text, size_t capacity)
{
    size_t size = 0;
    ssize_t n = 0;
    while (size < capacity && (n = read(fd, text + size, capacity - size)) > 0) {
        size += (size_t)n;
    }
    return n < 0 ? n : (ssize_t)size;
}

static int read_fd(struct tsr_keys *keys, int fd, struct tsr_key_line *lines, struct stamp *stamp,
                   struct tsr_err *err)
{
    struct stat st;
    if (fstat(fd, &st) < 0) {
        return tsr_err_set(err, -errno, "%s: %s", keys->path, strerror(errno));
    }
    int rc = check_file(keys->path, &st, err);
    if (rc < 0) {
        return rc;
    }
    *stamp = stamp_of(&st);
    char *text = malloc(FILE_BYTES_MAX + 1);
    if (!text) {
        return tsr_err_set(err, -ENOMEM, "no memory to read %s", keys->path);
    }
    ssize_t size = read_whole(fd, text, FILE_BYTES_MAX + 1);
    if (size < 0) {
        rc = tsr_err_set(err, -errno, "%s: %s", keys->path, strerror(errno));
    } else if (size > FILE_BYTES_MAX) {
        rc = tsr_err_set(err, -E2BIG, "%s: more than %d bytes", keys->path, FILE_BYTES_MAX);
    } else {
        rc = tsr_keys_parse(lines, keys->path, text, (size_t)size, err);
    }
    free(text);
    return rc;
}

/* The number of lines, or a negative errno. */
static int read_file(struct tsr_keys *keys, struct tsr_key_line *lines, struct stamp *stamp,
                     struct tsr_err *err)
{
    int fd = open(keys->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (fd < 0) {
        return tsr_err_set(err, -errno, "%s: %s", keys->path, strerror(errno));
    }
    int rc = read_fd(keys, fd, lines, stamp, err);
    close(fd);
    return rc;
}

/* ---- Accounts ---- */

static int by_account(const void *a, const void *b)
{
    return strcmp(((const struct account *)a)->name, ((const struct account *)b)->name);
}

static struct account *make_account(struct ledger *ledger, const struct account *sought)
{
    struct account *account = malloc(sizeof *account);
    if (account) {
        *account = *sought;
    }
    if (account && !tsearch(account, &ledger->accounts, by_account)) {
        free(account);
        account = NULL;
    }
    return account;
}

/* NULL: no memory. */
static struct account *take_account(struct ledger *ledger, const char *name)
{
    struct account sought = {0};
    snprintf(sought.name, sizeof sought.name, "%s", name);
    pthread_mutex_lock(&ledger->lock);
    struct account **found = tfind(&sought, &ledger->accounts, by_account);
    struct account *account = found ? *found : make_account(ledger, &sought);
    if (account) {
        account->users++;
    }
    pthread_mutex_unlock(&ledger->lock);
    return account;
}

static void leave_account(struct ledger *ledger, struct account *account)
{
    pthread_mutex_lock(&ledger->lock);
    if (--account->users == 0) {
        tdelete(account, &ledger->accounts, by_account);
        free(account);
    }
    pthread_mutex_unlock(&ledger->lock);
}

static struct ledger *join_ledger(const struct tsr_keys *first)
{
    struct ledger *ledger = first ? first->ledger : calloc(1, sizeof *ledger);
    if (ledger && !first) {
        pthread_mutex_init(&ledger->lock, NULL);
    }
    if (ledger) {
        ledger->users++;
    }
    return ledger;
}

static void leave_ledger(struct ledger *ledger)
{
    if (ledger && --ledger->users == 0) {
        pthread_mutex_destroy(&ledger->lock);
        free(ledger);
    }
}

/* ---- Keys in memory ---- */

static void free_key(struct tsr_key *key)
{
    leave_account(key->ledger, key->account);
    free(key);
}

static struct tsr_key *make_key(struct ledger *ledger, const char *name)
{
    struct tsr_key *key = calloc(1, sizeof *key);
    if (key && !(key->account = take_account(ledger, name))) {
        free(key);
        return NULL;
    }
    if (key) {
        key->ledger = ledger;
    }
    return key;
}

/* Keys are sought by a hash under a salt that nobody knows, so that the time which a search takes
 * says nothing about their hashes. */
static bool tag_of(const struct tsr_keys *keys, const uint8_t *hash, uint64_t *tag)
{
    uint8_t salted[2 * TSR_KEYS_HASH_BYTES], digest[TSR_KEYS_HASH_BYTES];
    memcpy(salted, keys->salt, TSR_KEYS_HASH_BYTES);
    memcpy(salted + TSR_KEYS_HASH_BYTES, hash, TSR_KEYS_HASH_BYTES);
    if (!SHA256(salted, sizeof salted, digest)) {
        return false;
    }
    memcpy(tag, digest, sizeof *tag);
    return true;
}

static int by_tag(const void *a, const void *b)
{
    const struct tsr_key *x = *(struct tsr_key *const *)a, *y = *(struct tsr_key *const *)b;
    return (x->tag > y->tag) - (x->tag < y->tag);
}

static void retire(struct tsr_key *key)
{
    if (key->open) {
        key->gone = true;
    } else {
        free_key(key);
    }
}

/* For each line the key of its name, or a new one (whose own name is empty). */
static int match_lines(const struct tsr_keys *keys, const struct tsr_key_line *lines, uint32_t n,
                       struct tsr_key **out)
{
    uint32_t old = 0;
    for (uint32_t i = 0; i < n; i++) {
        int order = 1;
        while (old < keys->n &&
               (order = strcmp(keys->by_name[old]->rules.name, lines[i].rules.name)) < 0) {
            old++;
        }
        bool known = old < keys->n && order == 0;
        out[i] = known ? keys->by_name[old] : make_key(keys->ledger, lines[i].rules.name);
        if (!out[i]) {
            return -ENOMEM;
        }
    }
    return 0;
}

static void free_new(struct tsr_key **list, uint32_t n)
{
    for (uint32_t i = 0; i < n && list[i]; i++) {
        if (!list[i]->rules.name[0]) {
            free_key(list[i]);
        }
    }
}

/* Now nothing can fail any more. */
static void replace(struct tsr_keys *keys, const struct tsr_key_line *lines, const uint64_t *tags,
                    uint32_t n, struct tsr_key **by_name_new, struct tsr_key **by_tag_new)
{
    for (uint32_t i = 0; i < n; i++) {
        struct tsr_key *key = by_name_new[i];
        key->rules = lines[i].rules;
        memcpy(key->hash, lines[i].hash, sizeof key->hash);
        key->tag = tags[i];
        key->kept = true;
        by_tag_new[i] = key;
    }
    for (uint32_t i = 0; i < keys->n; i++) {
        if (!keys->by_name[i]->kept) {
            retire(keys->by_name[i]);
        }
    }
    for (uint32_t i = 0; i < n; i++) {
        by_name_new[i]->kept = false;
    }
    qsort(by_tag_new, n, sizeof *by_tag_new, by_tag);
    free(keys->by_name);
    free(keys->by_tag);
    keys->by_name = by_name_new;
    keys->by_tag = by_tag_new;
    keys->n = n;
}

static int take_lines(struct tsr_keys *keys, const struct tsr_key_line *lines, uint32_t n)
{
    struct tsr_key **by_name_new = calloc(n + 1, sizeof *by_name_new);
    struct tsr_key **by_tag_new = calloc(n + 1, sizeof *by_tag_new);
    uint64_t *tags = calloc(n + 1, sizeof *tags);
    bool ok = by_name_new && by_tag_new && tags;
    for (uint32_t i = 0; ok && i < n; i++) {
        ok = tag_of(keys, lines[i].hash, &tags[i]);
    }
    if (ok && match_lines(keys, lines, n, by_name_new) == 0) {
        replace(keys, lines, tags, n, by_name_new, by_tag_new);
        free(tags);
        return 0;
    }
    if (by_name_new) {
        free_new(by_name_new, n);
    }
    free(by_name_new);
    free(by_tag_new);
    free(tags);
    return -ENOMEM;
}

int tsr_keys_reload(struct tsr_keys *keys, struct tsr_err *err)
{
    struct stamp stamp;
    struct tsr_key_line *lines = malloc(TSR_KEYS_MAX * sizeof *lines);
    int rc = lines ? read_file(keys, lines, &stamp, err) : -ENOMEM;
    if (rc >= 0) {
        keys->stamp = stamp;
        rc = take_lines(keys, lines, (uint32_t)rc);
    }
    free(lines);
    return rc == -ENOMEM ? tsr_err_set(err, rc, "no memory for the keys of %s", keys->path) : rc;
}

int tsr_keys_poll(struct tsr_keys *keys, uint64_t now_ns, struct tsr_err *err)
{
    struct stat st;
    struct stamp stamp = {0};
    if (now_ns < keys->look_ns) {
        return 0;
    }
    keys->look_ns = now_ns + SECOND_NS;
    if (stat(keys->path, &st) == 0) {
        stamp = stamp_of(&st);
    }
    if (memcmp(&stamp, &keys->stamp, sizeof stamp) == 0) {
        return 0;
    }
    keys->stamp = stamp; /* so that what is wrong with it is said once */
    int rc = tsr_keys_reload(keys, err);
    return rc < 0 ? rc : 1;
}

int tsr_keys_open(struct tsr_keys **out, const char *path, const struct tsr_keys *first,
                  struct tsr_err *err)
{
    *out = NULL;
    struct tsr_keys *keys = calloc(1, sizeof *keys);
    if (!keys || !(keys->path = strdup(path)) || !(keys->ledger = join_ledger(first))) {
        tsr_keys_close(keys);
        return tsr_err_set(err, -ENOMEM, "no memory for the keys of %s", path);
    }
    int rc = getrandom(keys->salt, sizeof keys->salt, 0) == sizeof keys->salt
                 ? tsr_keys_reload(keys, err)
                 : tsr_err_set(err, -EIO, "the kernel gives no random bytes: %s", strerror(errno));
    if (rc < 0) {
        tsr_keys_close(keys);
        return rc;
    }
    *out = keys;
    return 0;
}

void tsr_keys_close(struct tsr_keys *keys)
{
    if (!keys) {
        return;
    }
    for (uint32_t i = 0; i < keys->n; i++) {
        free_key(keys->by_name[i]);
    }
    leave_ledger(keys->ledger);
    free(keys->by_name);
    free(keys->by_tag);
    free(keys->path);
    free(keys);
}

struct tsr_key *tsr_keys_find(struct tsr_keys *keys, const char *secret, size_t size)
{
    uint8_t hash[TSR_KEYS_HASH_BYTES];
    uint64_t tag;
    if (!SHA256((const uint8_t *)secret, size, hash) || !tag_of(keys, hash, &tag)) {
        return NULL;
    }
    uint32_t from = 0, to = keys->n;
    while (from < to) {
        uint32_t middle = from + (to - from) / 2;
        if (keys->by_tag[middle]->tag < tag) {
            from = middle + 1;
        } else {
            to = middle;
        }
    }
    for (; from < keys->n && keys->by_tag[from]->tag == tag; from++) {
        if (CRYPTO_memcmp(keys->by_tag[from]->hash, hash, sizeof hash) == 0) {
            return keys->by_tag[from];
        }
    }
    return NULL;
}

const struct tsr_key_rules *tsr_key_rules(const struct tsr_key *key)
{
    return &key->rules;
}

/* ---- Rates ---- */

/* How far ahead of now a bucket is. */
static uint64_t debt_ns(uint64_t bucket_ns, uint64_t now_ns)
{
    return bucket_ns > now_ns ? bucket_ns - now_ns : 0;
}

static uint32_t seconds_up(uint64_t ns)
{
    uint64_t s = (ns + SECOND_NS - 1) / SECOND_NS;
    return s ? (uint32_t)s : 1;
}

static int refuse_parallel(const struct tsr_key_rules *r, uint32_t *retry_after_s,
                           struct tsr_err *err)
{
    *retry_after_s = 1;
    return tsr_err_set(err, -EAGAIN,
                       "the key '%s' may have %u requests open at once: wait until one ends",
                       r->name, r->parallel);
}

/* One more request of the rate. */
static int take_request(struct tsr_key *key, uint64_t now_ns, uint32_t *retry_after_s,
                        struct tsr_err *err)
{
    const struct tsr_key_rules *r = &key->rules;
    atomic_uint_least64_t *bucket = &key->account->requests_ns;
    uint64_t until_ns = atomic_load_explicit(bucket, memory_order_relaxed), taken_ns;
    do {
        taken_ns = debt_ns(until_ns, now_ns) + (r->requests_min ? MINUTE_NS / r->requests_min : 0);
        if (r->requests_min && taken_ns > MINUTE_NS) {
            *retry_after_s = seconds_up(taken_ns - MINUTE_NS);
            return tsr_err_set(err, -EAGAIN,
                               "the key '%s' may make %u requests a minute: try again in %u s",
                               r->name, r->requests_min, *retry_after_s);
        }
    } while (!atomic_compare_exchange_weak_explicit(bucket, &until_ns, now_ns + taken_ns,
                                                    memory_order_relaxed, memory_order_relaxed));
    return 0;
}

static int check_tokens(const struct tsr_key *key, uint64_t now_ns, uint32_t *retry_after_s,
                        struct tsr_err *err)
{
    const struct tsr_key_rules *r = &key->rules;
    uint64_t tokens_ns =
        debt_ns(atomic_load_explicit(&key->account->tokens_ns, memory_order_relaxed), now_ns);
    if (!r->tokens_min || tokens_ns < MINUTE_NS) {
        return 0;
    }
    *retry_after_s = seconds_up(tokens_ns - MINUTE_NS + 1);
    return tsr_err_set(err, -EAGAIN, "the key '%s' may use %u tokens a minute: try again in %u s",
                       r->name, r->tokens_min, *retry_after_s);
}

int tsr_keys_admit(struct tsr_key *key, uint64_t now_ns, uint32_t *retry_after_s,
                   struct tsr_err *err)
{
    const struct tsr_key_rules *r = &key->rules;
    atomic_uint *open = &key->account->open;
    uint32_t others = atomic_fetch_add_explicit(open, 1, memory_order_relaxed);
    int rc = r->parallel && others >= r->parallel ? refuse_parallel(r, retry_after_s, err) : 0;
    rc = rc ? rc : check_tokens(key, now_ns, retry_after_s, err);
    rc = rc ? rc : take_request(key, now_ns, retry_after_s, err);
    if (rc < 0) {
        atomic_fetch_sub_explicit(open, 1, memory_order_relaxed);
        return rc;
    }
    key->open++;
    return 0;
}

void tsr_keys_charge(struct tsr_key *key, uint64_t tokens, uint64_t now_ns)
{
    uint32_t rate = key->rules.tokens_min;
    if (!rate) {
        return;
    }
    uint64_t cost_ns = tokens < UINT64_MAX / MINUTE_NS ? tokens * MINUTE_NS / rate : DEBT_NS_MAX;
    atomic_uint_least64_t *bucket = &key->account->tokens_ns;
    uint64_t until_ns = atomic_load_explicit(bucket, memory_order_relaxed), debt, more_ns;
    do {
        debt = debt_ns(until_ns, now_ns);
        more_ns = cost_ns < DEBT_NS_MAX - debt ? cost_ns : DEBT_NS_MAX - debt;
    } while (!atomic_compare_exchange_weak_explicit(bucket, &until_ns, now_ns + debt + more_ns,
                                                    memory_order_relaxed, memory_order_relaxed));
}

void tsr_keys_release(struct tsr_key *key)
{
    key->open--;
    atomic_fetch_sub_explicit(&key->account->open, 1, memory_order_relaxed);
    if (key->gone) {
        retire(key);
    }
}

/* ---- New keys ---- */

static void write_hex(char *out, const uint8_t *bytes, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        snprintf(out + 2 * i, 3, "%02x", bytes[i]);
    }
}

int tsr_keys_make(const char *name, char secret[TSR_KEYS_SECRET_BYTES],
                  char line[TSR_KEYS_LINE_BYTES], struct tsr_err *err)
{
    uint8_t bytes[TSR_KEYS_HASH_BYTES];
    char hex[2 * TSR_KEYS_HASH_BYTES + 1];
    if (!tsr_keys_name_is_valid(name)) {
        return tsr_err_set(err, -EINVAL, "the name of a key must be 1 to %d of A-Z a-z 0-9 . _ -",
                           TSR_KEYS_NAME_MAX);
    }
    if (getrandom(bytes, sizeof bytes, 0) != sizeof bytes) {
        return tsr_err_set(err, -EIO, "the kernel gives no random bytes: %s", strerror(errno));
    }
    write_hex(hex, bytes, sizeof bytes);
    snprintf(secret, TSR_KEYS_SECRET_BYTES, "tsr-%s", hex);
    if (!SHA256((const uint8_t *)secret, strlen(secret), bytes)) {
        return tsr_err_set(err, -EIO, "OpenSSL computes no SHA-256");
    }
    write_hex(hex, bytes, sizeof bytes);
    snprintf(line, TSR_KEYS_LINE_BYTES, "%s sha256:%s", name, hex);
    return 0;
}
