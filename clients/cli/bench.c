#include <stdlib.h>
#include <string.h>

#include "cli_priv.h"

static const char help[] =
    "tessera bench [OPTIONS]: what a client sees of latency and throughput, through the channel\n"
    "\n"
    "N streams ask at once, each for so many tokens after a prompt of so many, again and again.\n"
    "\n"
    "      --streams N            requests at a time [1]\n"
    "      --requests N           in all [4 x streams]\n"
    "      --prompt N             tokens of each prompt [128]\n"
    "      --tokens N             tokens of each answer [128]\n"
    "      --poll                 always poll: takes a CPU from the engine where they share one\n"
    "      --sleep                never poll [poll only where the engine's CPUs are not ours]\n"
    "      --json                 one JSON object\n"
    "\n"
    "first token: from submit to its arrival. between tokens: from one arrival to the next of a "
    "stream.\n"
    "delivery: from the engine's time stamp on a token to its arrival here.\n"
    "\n";

enum { OPT_STREAMS = CLI_OPT_OWN, OPT_REQUESTS, OPT_PROMPT, OPT_POLL, OPT_SLEEP, OPT_JSON };

/* Figures in the order of arrival, sorted at the end. Sized for all before the first request. */
struct samples {
    uint64_t *ns;
    size_t count, capacity;
};

struct stream {
    uint64_t id; /* 0: none live */
    uint64_t submit_ns, last_ns;
};

enum { WORDS_MAX = 512 };

struct bench {
    struct tessera *t;
    uint64_t streams, requests, prompt, tokens;
    struct tessera_options options;
    uint32_t words[WORDS_MAX], n_words; /* the passage's tokens */
    uint32_t *ids;                      /* [prompt] */
    struct stream *stream;              /* [streams] */
    uint64_t prompts;                   /* made so far, the warm-up's included */
    uint64_t submitted, ended;          /* of this round */
    uint64_t arrived;                   /* tokens */
    struct samples first, between, delivery;
};

static void add(struct samples *s, uint64_t ns)
{
    if (s->count < s->capacity) {
        s->ns[s->count++] = ns;
    }
}

static int ascending(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

/* The smallest sample that at least permille/1000 of all do not exceed, in ms. */
static double percentile_ms(const struct samples *s, unsigned permille)
{
    if (!s->count) {
        return 0;
    }
    size_t rank = (s->count * permille + 999) / 1000;
    return (double)s->ns[rank ? rank - 1 : 0] / 1e6;
}

/* Real text, since random ids make no sense to the tokenizer's other half; repeated up to the
 * length wanted. */
static const char passage[] = "The harbour woke before the sun did. Ropes creaked, gulls argued "
                              "over the night's leftovers, and "
                              "somewhere behind the warehouses a kettle began to sing. By the time "
                              "the first boat came round the "
                              "breakwater, forty people stood on the quay, each of them certain "
                              "that the others had come only to "
                              "look. What the boat carried was neither fish nor mail: it carried "
                              "an answer to a letter that nobody "
                              "in the town remembered having written. ";

static int tokenize_passage(struct bench *b)
{
    struct tessera_event event;
    struct tessera_error err;
    struct tessera_options how;
    tessera_options_init(&how);
    uint64_t id = tessera_submit_tokenize(b->t, passage, sizeof passage - 1, &how, &err);
    if (!id) {
        return cli_fail(&err);
    }
    for (;;) {
        int got = tessera_wait(b->t, &event, -1, &err);
        if (got < 0) {
            return cli_fail(&err);
        }
        if (event.kind == TESSERA_TOKENS) {
            for (uint32_t i = 0; i < event.piece_count && b->n_words < WORDS_MAX; i++) {
                b->words[b->n_words++] = event.pieces[i].token;
            }
        } else if (event.kind == TESSERA_DONE && event.reason == TESSERA_TOKENIZED && b->n_words) {
            return CLI_OK;
        } else if (event.kind == TESSERA_DONE || event.kind == TESSERA_FAILED) {
            fprintf(stderr, "tessera: the prompt could not be made: %.*s\n", (int)event.text_bytes,
                    event.text_bytes ? event.text : "");
            return CLI_FAILED;
        }
    }
}

static int submit(struct bench *b, struct stream *s)
{
    struct tessera_error err;
    /* Every prompt begins differently, so that nothing of it can be known already. */
    uint64_t turn = b->prompts++;
    for (uint64_t i = 0; i < b->prompt; i++) {
        uint64_t word = i == 0 ? turn : i == 1 ? turn / b->n_words : i;
        b->ids[i] = b->words[word % b->n_words];
    }
    s->submit_ns = cli_now_ns();
    s->last_ns = 0;
    s->id = tessera_submit_tokens(b->t, b->ids, b->prompt, &b->options, &err);
    if (!s->id) {
        return cli_fail(&err);
    }
    b->submitted++;
    return CLI_OK;
}

static struct stream *find(struct bench *b, uint64_t id)
{
    for (uint64_t i = 0; i < b->streams; i++) {
        if (b->stream[i].id == id) {
            return &b->stream[i];
        }
    }
    return NULL;
}

static int run(struct bench *b)
{
    for (uint64_t i = 0; i < b->streams && b->submitted < b->requests; i++) {
        int result = submit(b, &b->stream[i]);
        if (result != CLI_OK) {
            return result;
        }
    }
    while (b->ended < b->requests) {
        struct tessera_event event;
        struct tessera_error err;
        int got = tessera_wait(b->t, &event, 200, &err);
        if (got < 0) {
            return cli_fail(&err);
        }
        if (cli_interrupts) {
            return CLI_INTERRUPTED;
        }
        struct stream *s = got ? find(b, event.id) : NULL;
        if (!s) {
            continue;
        }
        uint64_t now = cli_now_ns();
        if (event.kind == TESSERA_TOKEN && event.has_token) {
            if (s->last_ns) {
                add(&b->between, now - s->last_ns);
            } else {
                add(&b->first, now - s->submit_ns);
            }
            add(&b->delivery, now > event.time_ns ? now - event.time_ns : 0);
            s->last_ns = now;
            b->arrived++;
        } else if (event.kind == TESSERA_FAILED ||
                   (event.kind == TESSERA_DONE && event.reason != TESSERA_LENGTH)) {
            fprintf(stderr, "tessera: a request ended with '%s': %.*s\n",
                    event.kind == TESSERA_FAILED ? tessera_code_name(event.code)
                                                 : tessera_reason_name(event.reason),
                    (int)event.text_bytes, event.text_bytes ? event.text : "");
            return CLI_FAILED;
        } else if (event.kind == TESSERA_DONE) {
            s->id = 0;
            b->ended++;
            if (b->submitted < b->requests) {
                int result = submit(b, s);
                if (result != CLI_OK) {
                    return result;
                }
            }
        }
    }
    return CLI_OK;
}

static void report(struct bench *b, const struct tessera_info *info, double seconds, bool json)
{
    struct samples *all[] = {&b->first, &b->between, &b->delivery};
    static const char *const names[] = {"first token", "between tokens", "delivery"};
    static const char *const keys[] = {"first_token_ms", "between_tokens_ms", "delivery_ms"};
    for (int i = 0; i < 3; i++) {
        if (all[i]->count) {
            qsort(all[i]->ns, all[i]->count, sizeof *all[i]->ns, ascending);
        }
    }
    double rate = (double)b->arrived / seconds;
    if (json) {
        printf(
            "{\"streams\":%llu,\"requests\":%llu,\"prompt\":%llu,\"tokens\":%llu,\"seconds\":%.6f,"
            "\"tokens_per_second\":%.3f",
            (unsigned long long)b->streams, (unsigned long long)b->requests,
            (unsigned long long)b->prompt, (unsigned long long)b->tokens, seconds, rate);
        for (int i = 0; i < 3; i++) {
            printf(",\"%s\":{\"p50\":%.6f,\"p99\":%.6f,\"p99.9\":%.6f}", keys[i],
                   percentile_ms(all[i], 500), percentile_ms(all[i], 990),
                   percentile_ms(all[i], 999));
        }
        printf("}\n");
        return;
    }
    printf("%s (%s), %llu streams, %llu requests of %llu + %llu tokens, %s\n", info->model,
           info->weights, (unsigned long long)b->streams, (unsigned long long)b->requests,
           (unsigned long long)b->prompt, (unsigned long long)b->tokens,
           info->may_poll ? "client may poll" : "client sleeps");
    printf("  tokens/s        %10.1f in all  %10.1f a stream   (prompts included, %.2f s)\n", rate,
           rate / (double)b->streams, seconds);
    for (int i = 0; i < 3; i++) {
        printf("  %-14s  p50 %10.4f  p99 %10.4f  p99.9 %10.4f ms   (%zu samples)\n", names[i],
               percentile_ms(all[i], 500), percentile_ms(all[i], 990), percentile_ms(all[i], 999),
               all[i]->count);
    }
}

static bool allocate(struct bench *b)
{
    size_t tokens = b->requests * b->tokens;
    b->first.capacity = b->requests;
    b->between.capacity = b->delivery.capacity = tokens;
    b->ids = calloc(b->prompt, sizeof *b->ids);
    b->stream = calloc(b->streams, sizeof *b->stream);
    b->first.ns = calloc(b->first.capacity, sizeof(uint64_t));
    b->between.ns = calloc(tokens, sizeof(uint64_t));
    b->delivery.ns = calloc(tokens, sizeof(uint64_t));
    return b->ids && b->stream && b->first.ns && b->between.ns && b->delivery.ns;
}

static int measure(struct bench *b, const struct cli_place *place, enum tessera_wait_mode mode,
                   bool json)
{
    struct tessera_info info;
    int result = cli_connect(&b->t, place, mode);
    if (result != CLI_OK) {
        return result;
    }
    tessera_info(b->t, &info);
    if (b->streams > info.requests_max) {
        fprintf(stderr,
                "tessera: --streams: this engine allows %u requests at a time on a channel\n",
                info.requests_max);
        return CLI_FAILED;
    }
    if (!allocate(b)) {
        fprintf(stderr, "tessera: not enough memory for %llu samples\n",
                (unsigned long long)(b->requests * b->tokens));
        return CLI_FAILED;
    }
    result = tokenize_passage(b);
    if (result != CLI_OK) {
        return result;
    }

    /* One round that does not count: the first pass over weights and cache. */
    uint64_t requests = b->requests;
    b->requests = b->streams;
    result = run(b);
    b->requests = requests;
    b->submitted = b->ended = b->arrived = 0;
    b->first.count = b->between.count = b->delivery.count = 0;
    if (result != CLI_OK) {
        return result;
    }
    uint64_t began_ns = cli_now_ns();
    result = run(b);
    if (result == CLI_OK) {
        report(b, &info, (double)(cli_now_ns() - began_ns) / 1e9, json);
    }
    return result;
}

int cli_bench(int argc, char **argv)
{
    static const struct option options[] = {
        {"streams", required_argument, NULL, OPT_STREAMS},
        {"requests", required_argument, NULL, OPT_REQUESTS},
        {"prompt", required_argument, NULL, OPT_PROMPT},
        {"tokens", required_argument, NULL, CLI_OPT_TOKENS},
        {"poll", no_argument, NULL, OPT_POLL},
        {"sleep", no_argument, NULL, OPT_SLEEP},
        {"json", no_argument, NULL, OPT_JSON},
        CLI_PLACE_OPTIONS,
        {0},
    };
    struct cli_place place = {0};
    struct bench b = {.streams = 1, .prompt = 128, .tokens = 128};
    enum tessera_wait_mode mode = TESSERA_WAIT_AUTO;
    bool json = false;
    int option;
    while ((option = getopt_long(argc, argv, "hs:", options, NULL)) != -1) {
        int taken = cli_place_option(&place, option, optarg);
        bool ok = taken >= 0;
        switch (taken ? 0 : option) {
        case OPT_STREAMS:
            ok = cli_parse_u64("--streams", optarg, 1, 65536, &b.streams);
            break;
        case OPT_REQUESTS:
            ok = cli_parse_u64("--requests", optarg, 1, 10000000, &b.requests);
            break;
        case OPT_PROMPT:
            ok = cli_parse_u64("--prompt", optarg, 1, 10000000, &b.prompt);
            break;
        case CLI_OPT_TOKENS:
            ok = cli_parse_u64("--tokens", optarg, 1, 10000000, &b.tokens);
            break;
        case OPT_POLL:
            mode = TESSERA_WAIT_POLL;
            break;
        case OPT_SLEEP:
            mode = TESSERA_WAIT_SLEEP;
            break;
        case OPT_JSON:
            json = true;
            break;
        case CLI_OPT_HELP:
            printf("%s%s", help, cli_place_help);
            return CLI_OK;
        case '?':
            return cli_usage("bench", "the command line was not understood");
        default:
            break;
        }
        if (!ok) {
            return CLI_USAGE;
        }
    }
    if (optind < argc) {
        return cli_usage("bench", "'%s' was not expected", argv[optind]);
    }
    if (!b.requests) {
        b.requests = 4 * b.streams;
    }
    tessera_options_init(&b.options);
    b.options.tokens_max = (uint32_t)b.tokens;
    b.options.ignore_end = 1;

    cli_interrupts_catch();
    int result = measure(&b, &place, mode, json);
    tessera_close(b.t);
    free(b.ids);
    free(b.stream);
    free(b.first.ns);
    free(b.between.ns);
    free(b.delivery.ns);
    return result;
}
