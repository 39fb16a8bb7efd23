/* A daemon's configuration file: any bytes give options or a sentence, and no value is empty. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <tsr/daemon/config.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int set(void *ctx, int id, const char *text, struct tsr_err *err)
{
    (void)ctx;
    if ((text != NULL) != (id <= 2) || (text && text[0] == '\0')) {
        abort();
    }
    return id == 1 && strlen(text) > 9 ? tsr_err_set(err, -1, "%s: too long", text) : 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const struct tsr_daemon_option options[] = {
        {"model", TSR_DAEMON_VALUE, 1},  {"allow", TSR_DAEMON_LIST, 2},
        {"spin", TSR_DAEMON_FLAG, 3},    {"spin-us", TSR_DAEMON_VALUE, 2},
        {"check", TSR_DAEMON_ACTION, 4}, {0},
    };
    struct tsr_daemon_config config = {.options = options, .file = "/nowhere", .set = set};
    struct tsr_err err = {0};
    int rc = tsr_daemon_config_text(&config, "file", (const char *)data, size, &err);
    if ((rc < 0) != (strncmp(err.text, "file:", 5) == 0)) {
        abort();
    }
    tsr_daemon_config_free(&config);
    return 0;
}
