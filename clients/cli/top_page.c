#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "cli_priv.h"

static double per(double amount, double of)
{
    return of > 0 ? amount / of : 0;
}

/* When it was submitted, by the engine's clock: what a request is known by, with its numbers, since
 * those of other users have no id. */
static uint64_t birth_ns(const struct tessera_status *s, const struct tessera_status_request *r)
{
    return s->uptime_ns - r->age_ns;
}

/* The request of `before` that number i of `now` is; NULL: it is new. Those that came in one turn
 * of the engine are told apart by their order. */
static const struct tessera_status_request *
find_before(const struct tessera_status *before, const struct tessera_status *now, uint32_t i)
{
    const struct tessera_status_request *r = &now->requests[i];
    uint32_t twins = 0;
    for (uint32_t j = 0; j < i; j++) {
        twins += birth_ns(now, &now->requests[j]) == birth_ns(now, r);
    }
    for (uint32_t j = 0; j < before->request_count; j++) {
        if (birth_ns(before, &before->requests[j]) == birth_ns(now, r) && twins-- == 0) {
            return &before->requests[j];
        }
    }
    return NULL;
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Of each request that answered all the time: the mean time between its tokens. */
static void rate_requests(struct cli_rates *rates, const struct tessera_status *before,
                          const struct tessera_status *now)
{
    double between_ms[sizeof now->requests / sizeof *now->requests];
    uint32_t n = 0;
    for (uint32_t i = 0; i < now->request_count; i++) {
        const struct tessera_status_request *r = &now->requests[i],
                                            *b = find_before(before, now, i);
        if (b && b->completion_tokens > 0 && r->completion_tokens > b->completion_tokens) {
            between_ms[n++] = (double)(now->uptime_ns - before->uptime_ns) / 1e6 /
                              (r->completion_tokens - b->completion_tokens);
        }
    }
    if (n > 0) {
        qsort(between_ms, n, sizeof *between_ms, by_value);
        rates->between_ms = between_ms[n / 2];
        rates->between_max_ms = between_ms[n - 1];
    }
}

void cli_rates(struct cli_rates *rates, const struct tessera_status *before,
               const struct tessera_status *now)
{
    double seconds = (double)(now->uptime_ns - before->uptime_ns) / 1e9;
    double tokens = (double)(now->completion_tokens - before->completion_tokens);
    double prompt_tokens = (double)(now->prompt_tokens - before->prompt_tokens);
    double steps = (double)(now->steps - before->steps);
    double done = (double)(now->requests_done - before->requests_done);
    double wait_ns =
        (double)(now->queue_ns - before->queue_ns) + (double)(now->prefill_ns - before->prefill_ns);
    *rates = (struct cli_rates){
        .tokens = per(tokens, seconds),
        .prompt_tokens = per(prompt_tokens, seconds),
        .steps = per(steps, seconds),
        .rows = per(tokens + prompt_tokens, steps),
        .requests = per(done, seconds),
        .first_ms = per(wait_ns / 1e6, done),
    };
    rate_requests(rates, before, now);
}

/* 0: not known. */
static void show_ms(FILE *out, const char *what, double ms)
{
    fprintf(out, ms > 0 ? "%s%s%.1f ms" : "%s%s-", what, *what ? " " : "", ms);
}

static void show_bar(FILE *out, double full)
{
    enum { CELLS = 20 };
    putc('[', out);
    for (int i = 0; i < CELLS; i++) {
        putc(i < (int)(full * CELLS + 0.5) ? '#' : '.', out);
    }
    fprintf(out, "] %3.0f %%", 100 * full);
}

static void show_threads(FILE *out, const struct tessera_status *s)
{
    static const char *const names[] = {"asleep", "spinning", "working"};
    fprintf(out, "Threads   ");
    for (uint32_t state = TESSERA_WORKS + 1; state-- > TESSERA_SLEEPS;) {
        uint32_t n = 0;
        for (uint32_t i = 0; i < s->thread_count; i++) {
            n += s->threads[i].state == state;
        }
        fprintf(out, " %u %s ", n, names[state]);
    }
    fprintf(out, "   CPUs of workers:");
    for (uint32_t i = 0; i < s->thread_count; i++) {
        if (s->threads[i].cpu >= 0) {
            fprintf(out, " %d", s->threads[i].cpu);
        }
    }
    putc('\n', out);
}

static void show_requests(FILE *out, const struct tessera_status *s)
{
    char age[32];
    if (s->request_count) {
        fprintf(out, "\n%10s  %-18s %8s %8s %8s %10s  %s\n", "USER", "STATE", "PROMPT", "TOKENS",
                "OF", "TOKENS/S", "FOR");
    }
    for (uint32_t i = 0; i < s->request_count; i++) {
        const struct tessera_status_request *r = &s->requests[i];
        fprintf(out, "%10" PRIu64 "  %-18s %8u %8u %8u %10.1f  %s\n", r->tenant,
                cli_request_state(r->state), r->prompt_tokens, r->completion_tokens, r->tokens_max,
                per((double)r->completion_tokens, (double)r->age_ns / 1e9),
                cli_text_duration(r->age_ns, age));
    }
}

void cli_top_page(FILE *out, const struct tessera_status *s, const struct cli_rates *rates)
{
    char up[32];
    fprintf(out, "%s (%s, weights %s), engine %s, kernels %s, up for %s\n\n", s->model,
            s->architecture, s->weights, s->engine, s->kernels,
            cli_text_duration(s->uptime_ns, up));
    fprintf(out, "Tokens     %.1f/s answered   %.1f/s of prompts   %.1f steps/s of %.1f rows\n",
            rates->tokens, rates->prompt_tokens, rates->steps, rates->rows);
    fprintf(out, "Requests   %u running   %u waiting   %u parked   %.1f/s done   %u clients\n",
            s->requests_running, s->requests_waiting, s->requests_parked, rates->requests,
            s->channels);
    fprintf(out, "Times      ");
    show_ms(out, "first token after", rates->first_ms);
    fprintf(out, " (mean of those done)   ");
    show_ms(out, "between tokens", rates->between_ms);
    fprintf(out, " (median request), ");
    show_ms(out, "", rates->between_max_ms);
    fprintf(out, " (slowest)\nKV cache   ");
    show_bar(out, per((double)s->kv_used_bytes, (double)s->kv_bytes));
    putc('\n', out);
    show_threads(out, s);
    cli_show_memory(out, s);
    show_requests(out, s);
}

void cli_top_line(FILE *out, const struct tessera_status *s, const struct cli_rates *rates)
{
    fprintf(out,
            "%.1f tokens/s, %.1f prompt tokens/s, %u running, %u waiting, %u parked, %.1f "
            "done/s, KV %.0f %%\n",
            rates->tokens, rates->prompt_tokens, s->requests_running, s->requests_waiting,
            s->requests_parked, rates->requests,
            100 * per((double)s->kv_used_bytes, (double)s->kv_bytes));
}

void cli_top_draw(FILE *out, const char *page, unsigned rows, unsigned columns)
{
    for (unsigned row = 0; row < rows && *page; row++) {
        size_t bytes = strcspn(page, "\n"), shown = 0;
        for (unsigned column = 0; column < columns && shown < bytes; column++) {
            size_t length = cli_utf8_length(page + shown, bytes - shown);
            shown += length ? length : 1;
        }
        char line[1024], tame[3 * sizeof line];
        shown = shown < sizeof line ? shown : sizeof line;
        memcpy(line, page, shown);
        fwrite(tame, 1, cli_tame_text(line, shown, tame), out);
        fputs(row + 1 < rows && page[bytes] ? "\033[K\n" : "\033[K", out);
        page += bytes + (page[bytes] == '\n');
    }
    fputs("\033[J", out);
}
