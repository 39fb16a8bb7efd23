#include <errno.h>
#include <string.h>
#include <time.h>

#include "cli_priv.h"

int cli_fail(const struct tessera_error *err)
{
    fprintf(stderr, "tessera: %s\n", err->text);
    return err->code == -EPIPE ? CLI_ENGINE_GONE : CLI_FAILED;
}

static void sleep_ms(int ms)
{
    struct timespec ts = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000L};
    nanosleep(&ts, NULL);
}

int cli_connect(struct tessera **t, const struct cli_place *place, enum tessera_wait_mode mode)
{
    struct tessera_connect_options options;
    tessera_connect_options_init(&options);
    options.name = "tessera";
    options.wait_mode = mode;

    uint64_t give_up_ns = cli_now_ns() + (uint64_t)(place->wait_seconds * 1e9);
    sig_atomic_t interrupts = cli_interrupts;
    for (;;) {
        struct tessera_error err = {.permille = -1};
        int result = tessera_connect(t, place->socket, &options, &err);
        if (result == 0) {
            cli_progress_end();
            return CLI_OK;
        }
        bool loads = result == -EAGAIN && err.permille >= 0;
        bool may_come = result == -EAGAIN || result == -ENOENT || result == -ECONNREFUSED ||
                        result == -ETIMEDOUT;
        if (loads) {
            cli_progress("The engine loads its model", err.permille / 1000.0);
        } else if (!may_come || cli_now_ns() >= give_up_ns) {
            cli_progress_end();
            fprintf(stderr, "tessera: %s\n", err.text);
            return CLI_NO_ENGINE;
        }
        if (cli_interrupts != interrupts) {
            cli_progress_end();
            return CLI_INTERRUPTED;
        }
        sleep_ms(err.retry_ms > 0 && err.retry_ms < 1000 ? err.retry_ms : 100);
    }
}
