#include <inttypes.h>

#include "cli_priv.h"

static const char help[] = "tessera status [OPTIONS]: the engine's model, memory by node and page "
                           "size, threads and requests\n"
                           "\n"
                           "      --json                 the same as one JSON object\n"
                           "\n";

enum { OPT_JSON = CLI_OPT_OWN };

const char *cli_request_state(enum tessera_request_state state)
{
    static const char *const names[] = {"waiting", "reading its prompt", "answering", "parked"};
    return (unsigned)state < sizeof names / sizeof *names ? names[state] : "unknown";
}

static const char *thread_state_name(enum tessera_thread_state state)
{
    static const char *const names[] = {"asleep", "spinning", "working"};
    return (unsigned)state < sizeof names / sizeof *names ? names[state] : "unknown";
}

const char *cli_text_duration(uint64_t ns, char text[32])
{
    uint64_t seconds = ns / 1000000000u;
    if (seconds >= 86400) {
        snprintf(text, 32, "%" PRIu64 " d %" PRIu64 " h", seconds / 86400, seconds % 86400 / 3600);
    } else if (seconds >= 3600) {
        snprintf(text, 32, "%" PRIu64 " h %" PRIu64 " min", seconds / 3600, seconds % 3600 / 60);
    } else if (seconds >= 60) {
        snprintf(text, 32, "%" PRIu64 " min %" PRIu64 " s", seconds / 60, seconds % 60);
    } else {
        snprintf(text, 32, "%.1f s", (double)ns / 1e9);
    }
    return text;
}

void cli_show_memory(FILE *out, const struct tessera_status *s)
{
    char a[32], b[32], c[32], d[32], e[32];
    fprintf(out, "Memory     weights %s, KV cache %s (%s in use)\n",
            cli_text_bytes(s->weights_bytes, a), cli_text_bytes(s->kv_bytes, b),
            cli_text_bytes(s->kv_used_bytes, c));
    fprintf(out, "           %-6s %12s %12s %12s %12s\n", "node", "1 GiB pages", "2 MiB pages",
            "transparent", "4 KiB pages");
    for (uint32_t i = 0; i < s->node_count; i++) {
        const struct tessera_status_node *n = &s->nodes[i];
        fprintf(out, "           %-6u %12s %12s %12s %12s", n->node, cli_text_bytes(n->bytes_1g, a),
                cli_text_bytes(n->bytes_2m, b), cli_text_bytes(n->bytes_thp, c),
                cli_text_bytes(n->bytes_4k, d));
        if (n->misplaced_bytes) {
            fprintf(out, "   %s are on another node than asked for",
                    cli_text_bytes(n->misplaced_bytes, e));
        }
        putc('\n', out);
    }
}

static void show(const struct tessera_status *s, const struct tessera_info *info)
{
    char a[32], b[32], c[32];
    printf("Model      %s (%s, weights %s, %s parameters)\n", s->model, s->architecture, s->weights,
           cli_text_count(info->parameters, a));
    printf("           context %s tokens, one request at most %s\n",
           cli_text_count(info->context_tokens, a), cli_text_count(info->request_tokens_max, b));
    cli_text_duration(s->uptime_ns, a);
    cli_text_duration(s->load_ns, b);
    printf("Engine     %s, kernels %s, up for %s, model loaded in %s\n", s->engine, s->kernels, a,
           b);
    putchar('\n');
    cli_show_memory(stdout, s);

    printf("\nThreads\n");
    for (uint32_t i = 0; i < s->thread_count; i++) {
        const struct tessera_status_thread *t = &s->threads[i];
        printf("           %-15.16s ", t->name);
        if (t->cpu >= 0) {
            printf("CPU %-4d node %-3d ", t->cpu, t->node);
        } else {
            printf("%-18s", "any CPU");
        }
        printf("%s\n", thread_state_name(t->state));
    }

    printf("\nRequests   %u running, %u waiting, %u parked; %u clients connected\n",
           s->requests_running, s->requests_waiting, s->requests_parked, s->channels);
    printf("           since the start: %s done, %s refused, %s prompt tokens",
           cli_text_count(s->requests_done, a), cli_text_count(s->requests_refused, b),
           cli_text_count(s->prompt_tokens, c));
    printf(", %s tokens in %s steps\n", cli_text_count(s->completion_tokens, a),
           cli_text_count(s->steps, b));
    for (uint32_t i = 0; i < s->request_count; i++) {
        const struct tessera_status_request *r = &s->requests[i];
        cli_text_duration(r->age_ns, a);
        printf("           user %" PRIu64 "  %-18s %u prompt tokens, %u of %u tokens, for %s\n",
               r->tenant, cli_request_state(r->state), r->prompt_tokens, r->completion_tokens,
               r->tokens_max, a);
    }
}

static void write_text(const char *key, const char *value, size_t size)
{
    size_t bytes = 0;
    while (bytes < size && value[bytes]) {
        bytes++;
    }
    printf("\"%s\":", key);
    cli_write_json(stdout, value, bytes);
}

static void write_object(const struct tessera_status *s, const struct tessera_info *info)
{
    putchar('{');
    write_text("model", s->model, sizeof s->model);
    putchar(',');
    write_text("architecture", s->architecture, sizeof s->architecture);
    putchar(',');
    write_text("weights", s->weights, sizeof s->weights);
    putchar(',');
    write_text("kernels", s->kernels, sizeof s->kernels);
    putchar(',');
    write_text("engine", s->engine, sizeof s->engine);
    printf(",\"parameters\":%" PRIu64 ",\"context_tokens\":%u,\"request_tokens_max\":%u,"
           "\"uptime_seconds\":%.3f,\"load_seconds\":%.3f,"
           "\"weights_bytes\":%" PRIu64 ",\"kv_bytes\":%" PRIu64 ",\"kv_used_bytes\":%" PRIu64
           ",\"steps\":%" PRIu64 ",\"prompt_tokens\":%" PRIu64 ",\"completion_tokens\":%" PRIu64
           ",\"requests_done\":%" PRIu64 ",\"requests_refused\":%" PRIu64
           ",\"requests_running\":%u,\"requests_waiting\":%u,\"requests_parked\":%u,"
           "\"channels\":%u,\"nodes\":[",
           info->parameters, info->context_tokens, info->request_tokens_max,
           (double)s->uptime_ns / 1e9, (double)s->load_ns / 1e9, s->weights_bytes, s->kv_bytes,
           s->kv_used_bytes, s->steps, s->prompt_tokens, s->completion_tokens, s->requests_done,
           s->requests_refused, s->requests_running, s->requests_waiting, s->requests_parked,
           s->channels);
    for (uint32_t i = 0; i < s->node_count; i++) {
        const struct tessera_status_node *n = &s->nodes[i];
        printf("%s{\"node\":%u,\"bytes_1g\":%" PRIu64 ",\"bytes_2m\":%" PRIu64
               ",\"bytes_thp\":%" PRIu64 ",\"bytes_4k\":%" PRIu64 ",\"misplaced_bytes\":%" PRIu64
               "}",
               i ? "," : "", n->node, n->bytes_1g, n->bytes_2m, n->bytes_thp, n->bytes_4k,
               n->misplaced_bytes);
    }
    printf("],\"threads\":[");
    for (uint32_t i = 0; i < s->thread_count; i++) {
        const struct tessera_status_thread *t = &s->threads[i];
        printf("%s{", i ? "," : "");
        write_text("name", t->name, sizeof t->name);
        printf(",\"cpu\":%d,\"node\":%d,\"state\":\"%s\"}", t->cpu, t->node,
               thread_state_name(t->state));
    }
    printf("],\"requests\":[");
    for (uint32_t i = 0; i < s->request_count; i++) {
        const struct tessera_status_request *r = &s->requests[i];
        printf("%s{\"id\":%" PRIu64 ",\"tenant\":%" PRIu64 ",\"age_seconds\":%.3f,\"state\":\"%s\","
               "\"prompt_tokens\":%u,\"completion_tokens\":%u,\"tokens_max\":%u}",
               i ? "," : "", r->id, r->tenant, (double)r->age_ns / 1e9, cli_request_state(r->state),
               r->prompt_tokens, r->completion_tokens, r->tokens_max);
    }
    printf("]}\n");
}

int cli_status(int argc, char **argv)
{
    static const struct option options[] = {
        {"json", no_argument, NULL, OPT_JSON},
        CLI_PLACE_OPTIONS,
        {0},
    };
    struct cli_place place = {0};
    bool json = false;
    int option;
    while ((option = getopt_long(argc, argv, "hs:", options, NULL)) != -1) {
        int taken = cli_place_option(&place, option, optarg);
        if (taken < 0) {
            return CLI_USAGE;
        } else if (taken > 0) {
            continue;
        }
        switch (option) {
        case OPT_JSON:
            json = true;
            break;
        case CLI_OPT_HELP:
            printf("%s%s", help, cli_place_help);
            return CLI_OK;
        default:
            return cli_usage("status", "the command line was not understood");
        }
    }
    if (optind < argc) {
        return cli_usage("status", "'%s' was not expected", argv[optind]);
    }
    struct tessera *t;
    int result = cli_connect(&t, &place, TESSERA_WAIT_AUTO);
    if (result != CLI_OK) {
        return result;
    }
    static struct tessera_status status;
    struct tessera_info info;
    struct tessera_error err;
    tessera_info(t, &info);
    if (tessera_status(t, &status, 5000, &err) < 0) {
        result = cli_fail(&err);
    } else if (json) {
        write_object(&status, &info);
    } else {
        show(&status, &info);
    }
    tessera_close(t);
    return result;
}
