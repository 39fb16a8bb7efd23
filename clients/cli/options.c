#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli_priv.h"

const char cli_place_help[] =
    "Engine:\n"
    "  -s, --socket PATH          the engine's door [$TESSERA_SOCKET, else " TESSERA_SOCKET "]\n"
    "      --wait SECONDS         wait so long for an engine that is not there yet [0]; one that\n"
    "                             loads its model is waited for in any case\n";

const char cli_sampling_help[] =
    "Choosing tokens:\n"
    "      --tokens N             at most so many [the engine's default]\n"
    "      --temperature X        0 takes the likeliest token always\n"
    "      --top-p X              only the likeliest tokens that sum up to X [1]\n"
    "      --top-k N              only the N likeliest tokens [0: all]\n"
    "      --min-p X              only tokens of at least X times the likeliest one's probability "
    "[0]\n"
    "      --repetition-penalty X --presence-penalty X --frequency-penalty X   [1, 0, 0]\n"
    "      --seed N               same seed, same answer\n"
    "      --stop TEXT            end where TEXT appears; may be given up to 16 times\n"
    "      --bias TOKEN=X         add X to a token's logit; may be given often\n"
    "      --priority N           0 .. 255 [128], within what the engine allows\n"
    "      --deadline SECONDS     give up after so long\n";

int cli_usage(const char *command, const char *format, ...)
{
    va_list args;
    fprintf(stderr, "tessera %s: ", command);
    va_start(args, format);
    vfprintf(stderr, format, args);
    va_end(args);
    fprintf(stderr, "; tessera %s --help says how\n", command);
    return CLI_USAGE;
}

bool cli_parse_u64(const char *option, const char *text, uint64_t min, uint64_t max, uint64_t *out)
{
    char *end;
    errno = 0;
    unsigned long long value = strtoull(text, &end, 10);
    if (errno || end == text || *end || !isdigit((unsigned char)*text) || value < min ||
        value > max) {
        fprintf(stderr, "tessera: %s wants a whole number from %llu to %llu, not '%s'\n", option,
                (unsigned long long)min, (unsigned long long)max, text);
        return false;
    }
    *out = value;
    return true;
}

bool cli_parse_double(const char *option, const char *text, double min, double max, double *out)
{
    char *end;
    double value = strtod(text, &end); /* "." whatever LC_NUMERIC says: only LC_CTYPE is set */
    if (end == text || *end || !isfinite(value) || value < min || value > max) {
        fprintf(stderr, "tessera: %s wants a number from %g to %g, not '%s'\n", option, min, max,
                text);
        return false;
    }
    *out = value;
    return true;
}

void cli_sampling_init(struct cli_sampling *sampling)
{
    memset(sampling, 0, sizeof *sampling);
    tessera_options_init(&sampling->options);
    sampling->options.biases = sampling->biases;
    sampling->options.stops = sampling->stops;
}

int cli_place_option(struct cli_place *place, int option, const char *value)
{
    switch (option) {
    case CLI_OPT_SOCKET:
        place->socket = value;
        return 1;
    case CLI_OPT_WAIT:
        return cli_parse_double("--wait", value, 0, 1e6, &place->wait_seconds) ? 1 : -1;
    default:
        return 0;
    }
}

static bool add_bias(struct cli_sampling *s, const char *value)
{
    char token[32];
    const char *equals = strchr(value, '=');
    uint64_t id;
    double bias;
    if (!equals || (size_t)(equals - value) >= sizeof token) {
        fprintf(stderr, "tessera: --bias wants TOKEN=X, not '%s'\n", value);
        return false;
    }
    memcpy(token, value, (size_t)(equals - value));
    token[equals - value] = '\0';
    if (s->options.bias_count == TESSERA_BIASES_MAX) {
        fprintf(stderr, "tessera: --bias may be given %d times\n", TESSERA_BIASES_MAX);
        return false;
    }
    if (!cli_parse_u64("the token of --bias", token, 0, UINT32_MAX, &id) ||
        !cli_parse_double("--bias", equals + 1, -100, 100, &bias)) {
        return false;
    }
    s->biases[s->options.bias_count++] =
        (struct tessera_bias){.token = (uint32_t)id, .bias = (float)bias};
    return true;
}

static bool add_stop(struct cli_sampling *s, const char *value)
{
    size_t bytes = strlen(value);
    if (!bytes || bytes > TESSERA_STOP_BYTES || s->options.stop_count == TESSERA_STOPS_MAX) {
        fprintf(stderr, "tessera: --stop wants 1 to %d bytes, and may be given %d times\n",
                TESSERA_STOP_BYTES, TESSERA_STOPS_MAX);
        return false;
    }
    s->stops[s->options.stop_count++] = value;
    return true;
}

int cli_sampling_option(struct cli_sampling *s, int option, const char *value)
{
    static const struct {
        int option;
        const char *name;
        double min, max;
        size_t offset; /* of a float in tessera_options */
    } floats[] = {
        {CLI_OPT_TEMPERATURE, "--temperature", 0, 100,
         offsetof(struct tessera_options, temperature)},
        {CLI_OPT_TOP_P, "--top-p", 1e-6, 1, offsetof(struct tessera_options, top_p)},
        {CLI_OPT_MIN_P, "--min-p", 0, 1, offsetof(struct tessera_options, min_p)},
        {CLI_OPT_REPETITION, "--repetition-penalty", 0.01, 10,
         offsetof(struct tessera_options, repetition_penalty)},
        {CLI_OPT_PRESENCE, "--presence-penalty", -10, 10,
         offsetof(struct tessera_options, presence_penalty)},
        {CLI_OPT_FREQUENCY, "--frequency-penalty", -10, 10,
         offsetof(struct tessera_options, frequency_penalty)},
    };
    double number;
    uint64_t whole;
    for (size_t i = 0; i < sizeof floats / sizeof *floats; i++) {
        if (option == floats[i].option) {
            if (!cli_parse_double(floats[i].name, value, floats[i].min, floats[i].max, &number)) {
                return -1;
            }
            float narrow = (float)number;
            memcpy((char *)&s->options + floats[i].offset, &narrow, sizeof narrow);
            return 1;
        }
    }
    switch (option) {
    case CLI_OPT_TOKENS:
        if (!cli_parse_u64("--tokens", value, 1, UINT32_MAX, &whole)) {
            return -1;
        }
        s->options.tokens_max = (uint32_t)whole;
        return 1;
    case CLI_OPT_TOP_K:
        if (!cli_parse_u64("--top-k", value, 0, UINT32_MAX, &whole)) {
            return -1;
        }
        s->options.top_k = (uint32_t)whole;
        return 1;
    case CLI_OPT_SEED:
        s->options.has_seed = 1;
        return cli_parse_u64("--seed", value, 0, UINT64_MAX, &s->options.seed) ? 1 : -1;
    case CLI_OPT_STOP:
        return add_stop(s, value) ? 1 : -1;
    case CLI_OPT_BIAS:
        return add_bias(s, value) ? 1 : -1;
    case CLI_OPT_PRIORITY:
        if (!cli_parse_u64("--priority", value, 0, 255, &whole)) {
            return -1;
        }
        s->options.priority = (uint8_t)whole;
        return 1;
    case CLI_OPT_DEADLINE:
        if (!cli_parse_double("--deadline", value, 0.001, 4e6, &number)) {
            return -1;
        }
        s->options.deadline_ms = (uint32_t)(number * 1000);
        return 1;
    default:
        return 0;
    }
}

static bool read_all(FILE *in, char **text, size_t *bytes)
{
    char *buffer = NULL;
    size_t used = 0, capacity = 0;
    for (;;) {
        if (capacity - used < 4096) {
            capacity = capacity ? 2 * capacity : 65536;
            char *larger = realloc(buffer, capacity);
            if (!larger) {
                break;
            }
            buffer = larger;
        }
        size_t n = fread(buffer + used, 1, capacity - used - 1, in);
        used += n;
        if (n == 0) {
            if (ferror(in)) {
                break;
            }
            buffer[used] = '\0';
            *text = buffer;
            *bytes = used;
            return true;
        }
    }
    free(buffer);
    fprintf(stderr, "tessera: standard input cannot be read: %s\n", strerror(errno));
    return false;
}

bool cli_read_text(int argc, char **argv, char **text, size_t *bytes)
{
    if (argc == 0 || (argc == 1 && !strcmp(argv[0], "-"))) {
        if (isatty(STDIN_FILENO)) {
            fprintf(stderr, "Type the text; Ctrl-D at the beginning of a line ends it.\n");
        }
        return read_all(stdin, text, bytes);
    }
    size_t size = 0;
    for (int i = 0; i < argc; i++) {
        size += strlen(argv[i]) + 1;
    }
    char *joined = malloc(size);
    if (!joined) {
        fprintf(stderr, "tessera: out of memory\n");
        return false;
    }
    char *at = joined;
    for (int i = 0; i < argc; i++) {
        at = stpcpy(at, argv[i]);
        *at++ = i + 1 < argc ? ' ' : '\0';
    }
    *text = joined;
    *bytes = size - 1;
    return true;
}
