/* A daemon's configuration file: any bytes give options within their limits or a
 * sentence, and no value is empty. */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <tsr/daemon/config.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct values {
    const char *user;
    const char *hosts[2];
    uint32_t n_hosts;
    uint32_t requests;
    uint64_t bytes;
    bool spin;
} values;

static int set_text(void *at, const char *text, struct tsr_err *err)
{
    if (at != &values || !text || text[0] == '\0') {
        abort();
    }
    return strlen(text) > 9 ? tsr_err_set(err, -1, "%s: too long", text) : 0;
}

static int set_flag(void *at, const char *text, struct tsr_err *err)
{
    (void)err;
    if (at != &values || text) {
        abort();
    }
    return 0;
}

#define AT(field) .at = offsetof(struct values, field)
static const struct tsr_daemon_option options[] = {
    {"model", TSR_DAEMON_VALUE, .set = set_text},
    {"allow", TSR_DAEMON_LIST, .set = set_text},
    {"spin-us", TSR_DAEMON_VALUE, .set = set_text},
    {"no-pin", TSR_DAEMON_FLAG, .set = set_flag},
    {"user", TSR_DAEMON_TEXT, AT(user)},
    {"host", TSR_DAEMON_NAMES, AT(hosts), .high = 2, .count_at = offsetof(struct values, n_hosts)},
    {"requests", TSR_DAEMON_NUMBER, AT(requests), .low = 1, .high = 9},
    {"bytes", TSR_DAEMON_SIZE, AT(bytes), .low = 1024, .high = 1 << 30},
    {"spin", TSR_DAEMON_FLAG, AT(spin)},
    {"check", TSR_DAEMON_ACTION, .set = set_flag},
    {0},
};

static bool is_sound(void)
{
    for (uint32_t i = 0; i < values.n_hosts; i++) {
        if (values.n_hosts > 2 || values.hosts[i][0] == '\0') {
            return false;
        }
    }
    return values.user[0] != '\0' && values.requests >= 1 && values.requests <= 9 &&
           values.bytes >= 1024 && values.bytes <= 1 << 30;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    values = (struct values){.user = "tessera", .requests = 3, .bytes = 4096};
    struct tsr_daemon_config config = {.options = options, .file = "/nowhere", .ctx = &values};
    struct tsr_err err = {0};
    int rc = tsr_daemon_config_text(&config, "file", (const char *)data, size, &err);
    if ((rc < 0) != (strncmp(err.text, "file:", 5) == 0) || !is_sound()) {
        abort();
    }
    tsr_daemon_config_free(&config);
    return 0;
}
