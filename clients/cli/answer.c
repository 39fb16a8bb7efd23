#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "cli_priv.h"

enum { WAIT_MS = 100 }; /* how soon Ctrl-C is seen */

/* Appends to answer->text. */
static bool keep_text(struct cli_answer *answer, size_t *capacity, const char *text, size_t bytes)
{
    if (answer->text_bytes + bytes + 1 > *capacity) {
        size_t larger = 2 * (answer->text_bytes + bytes + 1);
        char *moved = realloc(answer->text, larger);
        if (!moved) {
            return false;
        }
        answer->text = moved;
        *capacity = larger;
    }
    memcpy(answer->text + answer->text_bytes, text, bytes);
    answer->text_bytes += bytes;
    answer->text[answer->text_bytes] = '\0';
    return true;
}

/* The exit code of a request's last event, and what is to be said about it. */
static int judge(const struct tessera_event *event, bool interrupted)
{
    int bytes = (int)event->text_bytes;
    if (event->kind == TESSERA_FAILED) {
        fprintf(stderr, "tessera: %.*s", bytes, bytes ? event->text : "");
        if (event->code == TESSERA_CODE_BUSY && event->retry_ms) {
            fprintf(stderr, " (try again in %.1f s)", event->retry_ms / 1000.0);
        }
        fputc('\n', stderr);
        return CLI_FAILED;
    }
    switch (event->reason) {
    case TESSERA_CANCELLED:
        return interrupted ? CLI_INTERRUPTED : CLI_FAILED;
    case TESSERA_DEADLINE:
    case TESSERA_PARKED:
    case TESSERA_ERROR:
    case TESSERA_SHUTDOWN:
        fprintf(stderr, "tessera: the answer ended early (%s)%s%.*s\n",
                tessera_reason_name(event->reason), bytes ? ": " : "", bytes,
                bytes ? event->text : "");
        return event->reason == TESSERA_SHUTDOWN ? CLI_ENGINE_GONE : CLI_FAILED;
    default:
        return CLI_OK;
    }
}

int cli_answer_stream(struct tessera *t, uint64_t id, uint64_t submit_ns, FILE *out, bool keep,
                      struct cli_answer *answer)
{
    *answer = (struct cli_answer){0};
    size_t capacity = 0;
    sig_atomic_t interrupts = cli_interrupts;
    for (;;) {
        struct tessera_event event;
        struct tessera_error err;
        int got = tessera_wait(t, &event, WAIT_MS, &err);
        if (cli_interrupts > interrupts) {
            if (cli_interrupts > interrupts + 1) {
                return CLI_INTERRUPTED; /* impatient: the engine sees the hang-up */
            }
            tessera_cancel(t, id, NULL);
        }
        if (got < 0) {
            return cli_fail(&err);
        }
        if (got == 0 || event.id != id) {
            continue;
        }
        switch (event.kind) {
        case TESSERA_ACCEPTED:
            answer->prompt_tokens = event.prompt_tokens;
            answer->seed = event.seed;
            break;
        case TESSERA_TOKEN:
            if (!answer->first_ns) {
                answer->first_ns = cli_now_ns() - submit_ns;
            }
            answer->tokens += event.has_token != 0;
            if (out) {
                cli_write_text(out, event.text, event.text_bytes);
            }
            if (out && fflush(out) != 0) {
                fprintf(stderr, "tessera: the answer cannot be written: %s\n", strerror(errno));
                return CLI_FAILED;
            }
            if (keep && !keep_text(answer, &capacity, event.text, event.text_bytes)) {
                fprintf(stderr, "tessera: out of memory\n");
                return CLI_FAILED;
            }
            break;
        case TESSERA_DONE:
        case TESSERA_FAILED:
            answer->total_ns = cli_now_ns() - submit_ns;
            answer->decode_ns = event.kind == TESSERA_DONE ? event.decode_ns : 0;
            answer->reason = event.reason;
            return judge(&event, cli_interrupts > interrupts);
        case TESSERA_TOKENS:
        case TESSERA_EMBEDDING:
        case TESSERA_TEXT:
            break;
        }
    }
}

void cli_answer_figures(const struct cli_answer *a, char *out, size_t size)
{
    int n = snprintf(out, size, "%u prompt tokens, %u tokens in %.2f s", a->prompt_tokens,
                     a->tokens, (double)a->total_ns / 1e9);
    if (a->tokens && n > 0 && (size_t)n < size) {
        n += snprintf(out + n, size - (size_t)n, ": first after %.3f s", (double)a->first_ns / 1e9);
    }
    if (a->tokens > 1 && a->decode_ns && n > 0 && (size_t)n < size) {
        snprintf(out + n, size - (size_t)n, ", then %.1f tokens/s",
                 (a->tokens - 1) / ((double)a->decode_ns / 1e9));
    }
}
