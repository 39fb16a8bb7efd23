/* A file of API keys, and again in place of another: what is read obeys its ranges. */
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <tsr/api/keys.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int fd = -1;
static char path[32];

static void create(void)
{
    fd = memfd_create("keys", MFD_CLOEXEC);
    if (fd < 0 || fchmod(fd, 0600) < 0) {
        abort();
    }
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
}

static void fill(const uint8_t *data, size_t size)
{
    if (ftruncate(fd, 0) < 0 || pwrite(fd, data, size, 0) != (ssize_t)size) {
        abort();
    }
}

static void use(struct tsr_keys *keys)
{
    struct tsr_key *key = tsr_keys_find(keys, "abc", 3); /* its hash is in the corpus */
    uint32_t retry_after_s = 0;
    if (!key) {
        return;
    }
    const struct tsr_key_rules *rules = tsr_key_rules(key);
    if (!rules->name[0] || strlen(rules->name) > TSR_KEYS_NAME_MAX) {
        abort();
    }
    for (uint64_t now_ns = 0; now_ns < 3; now_ns++) {
        if (tsr_keys_admit(key, now_ns, &retry_after_s, NULL) == 0) {
            tsr_keys_charge(key, rules->tenant, now_ns);
            tsr_keys_release(key);
        } else if (retry_after_s == 0 || retry_after_s > 24 * 3600) {
            abort();
        }
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct tsr_keys *keys;
    struct tsr_err err = {0};
    if (fd < 0) {
        create();
    }
    fill(data, size);
    int rc = tsr_keys_open(&keys, path, NULL, &err);
    if (rc < 0) {
        if (err.code != rc || !strstr(err.text, path)) {
            abort();
        }
        return 0;
    }
    use(keys);
    fill(data + size / 2, size - size / 2);
    tsr_keys_reload(keys, &err);
    use(keys);
    tsr_keys_close(keys);
    return 0;
}
