/* What the subcommands of `tessera` share. One file a subcommand; each has its own --help. */
#ifndef TSR_CLI_PRIV_H
#define TSR_CLI_PRIV_H

#include <getopt.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <tessera.h>

/* Exit codes; `tessera --help` documents them. */
enum {
    CLI_OK = 0,
    CLI_FAILED = 1,        /* the engine refused or failed the request */
    CLI_USAGE = 2,         /* the command line is wrong */
    CLI_NO_ENGINE = 3,     /* no engine to talk to */
    CLI_ENGINE_GONE = 4,   /* the engine went away meanwhile */
    CLI_INTERRUPTED = 130, /* Ctrl-C */
};

int cli_generate(int argc, char **argv);
int cli_chat(int argc, char **argv);
int cli_tokenize(int argc, char **argv);
int cli_embed(int argc, char **argv);
int cli_status(int argc, char **argv);
int cli_bench(int argc, char **argv);
int cli_top(int argc, char **argv);

/* Becomes tessera-model, which looks at a model's files without an engine, with this command line:
 * argv[0] is its subcommand. Returns only where the program cannot be run (said on stderr). */
int cli_hand_over(int argc, char **argv);

/* tokenize: by the engine where --socket names one, else by tessera-model. */
int cli_tokenize_or_hand_over(int argc, char **argv);

/* ---- Command lines (options.c) ---- */

/* Long options without a letter of their own start here. */
enum {
    CLI_OPT_SOCKET = 's',
    CLI_OPT_HELP = 'h',
    CLI_OPT_WAIT = 256,
    CLI_OPT_TOKENS,
    CLI_OPT_TEMPERATURE,
    CLI_OPT_TOP_P,
    CLI_OPT_TOP_K,
    CLI_OPT_MIN_P,
    CLI_OPT_REPETITION,
    CLI_OPT_PRESENCE,
    CLI_OPT_FREQUENCY,
    CLI_OPT_SEED,
    CLI_OPT_STOP,
    CLI_OPT_BIAS,
    CLI_OPT_PRIORITY,
    CLI_OPT_DEADLINE,
    CLI_OPT_OWN, /* a subcommand's own options start here */
};

/* Where the engine is and how long to wait until it answers. */
struct cli_place {
    const char *socket; /* NULL: libtessera's default */
    double
        wait_seconds; /* for an engine that is not there yet; one that loads is waited for anyway */
};

#define CLI_PLACE_OPTIONS                                                                          \
    {"socket", required_argument, NULL, CLI_OPT_SOCKET},                                           \
        {"wait", required_argument, NULL, CLI_OPT_WAIT},                                           \
    {                                                                                              \
        "help", no_argument, NULL, CLI_OPT_HELP                                                    \
    }

extern const char cli_place_help[];

/* How to choose tokens: options of tessera_options and the storage behind its pointers. */
struct cli_sampling {
    struct tessera_options options;
    struct tessera_bias biases[TESSERA_BIASES_MAX];
    const char *stops[TESSERA_STOPS_MAX];
};

#define CLI_SAMPLING_OPTIONS                                                                       \
    {"tokens", required_argument, NULL, CLI_OPT_TOKENS},                                           \
        {"temperature", required_argument, NULL, CLI_OPT_TEMPERATURE},                             \
        {"top-p", required_argument, NULL, CLI_OPT_TOP_P},                                         \
        {"top-k", required_argument, NULL, CLI_OPT_TOP_K},                                         \
        {"min-p", required_argument, NULL, CLI_OPT_MIN_P},                                         \
        {"repetition-penalty", required_argument, NULL, CLI_OPT_REPETITION},                       \
        {"presence-penalty", required_argument, NULL, CLI_OPT_PRESENCE},                           \
        {"frequency-penalty", required_argument, NULL, CLI_OPT_FREQUENCY},                         \
        {"seed", required_argument, NULL, CLI_OPT_SEED},                                           \
        {"stop", required_argument, NULL, CLI_OPT_STOP},                                           \
        {"bias", required_argument, NULL, CLI_OPT_BIAS},                                           \
        {"priority", required_argument, NULL, CLI_OPT_PRIORITY},                                   \
    {                                                                                              \
        "deadline", required_argument, NULL, CLI_OPT_DEADLINE                                      \
    }

extern const char cli_sampling_help[];

void cli_sampling_init(struct cli_sampling *sampling);

/* Each takes one option if it is its own: 1 taken, 0 not its own, -1 its value is wrong (said on
 * stderr). */
int cli_place_option(struct cli_place *place, int option, const char *value);
int cli_sampling_option(struct cli_sampling *sampling, int option, const char *value);

/* The whole of text as a number in [min, max]: false, and a sentence on stderr that names the
 * option. */
bool cli_parse_u64(const char *option, const char *text, uint64_t min, uint64_t max, uint64_t *out);
bool cli_parse_double(const char *option, const char *text, double min, double max, double *out);

/* "tessera COMMAND: ..." and where help is, on stderr; returns CLI_USAGE. */
__attribute__((format(printf, 2, 3))) int cli_usage(const char *command, const char *format, ...);

/* Everything that remains on the command line joined by blanks or, where that is nothing or "-",
 * all of standard input. The caller frees *text. false: it could not be read (said on stderr). */
bool cli_read_text(int argc, char **argv, char **text, size_t *bytes);

/* ---- The engine (connect.c, answer.c) ---- */

/* Connects, showing how far the model is loaded meanwhile. CLI_OK, or an exit code after a sentence
 * on stderr. */
int cli_connect(struct tessera **t, const struct cli_place *place, enum tessera_wait_mode mode);

/* What became of a request, as the client saw it. */
struct cli_answer {
    uint64_t first_ns;  /* from submit to the first token's arrival; 0: none came */
    uint64_t total_ns;  /* from submit to the last event */
    uint64_t decode_ns; /* from the first token to the last, as the engine timed them: a client that
                           sleeps may find several at once */
    uint32_t prompt_tokens, tokens;
    enum tessera_reason reason;
    uint64_t seed;
    char *text; /* all of it, when asked for; the caller frees it */
    size_t text_bytes;
};

/* Takes events of request id (submitted at submit_ns) until its last one, and writes its text to
 * out (NULL: nowhere) as it comes. With keep, answer->text is filled in. Ctrl-C cancels the
 * request. CLI_OK, CLI_INTERRUPTED (answer holds what came), or another exit code after a sentence
 * on stderr. */
int cli_answer_stream(struct tessera *t, uint64_t id, uint64_t submit_ns, FILE *out, bool keep,
                      struct cli_answer *answer);

/* "27 tokens in 0.61 s: first after 0.05 s, then 48.1 tokens/s" */
void cli_answer_figures(const struct cli_answer *answer, char *out, size_t size);

/* Says err on stderr and returns the exit code for it. */
int cli_fail(const struct tessera_error *err);

/* ---- The engine's state (status.c, top_page.c) ---- */

const char *cli_request_state(enum tessera_request_state state);
const char *cli_text_duration(uint64_t ns, char text[32]); /* "3 min 12 s"; returns text */
void cli_show_memory(FILE *out, const struct tessera_status *status);

/* What happened between two looks at one engine. */
struct cli_rates {
    double tokens, prompt_tokens, steps, requests; /* a second */
    double rows;                                   /* a step */
    double
        first_ms; /* to the first token, mean of the requests that ended meanwhile; 0: none did */
    double between_ms;     /* between tokens, of the median request that answers; 0: none does */
    double between_max_ms; /* of the slowest */
};
void cli_rates(struct cli_rates *rates, const struct tessera_status *before,
               const struct tessera_status *now);

/* The page of `tessera top`, and the same in one line. */
void cli_top_page(FILE *out, const struct tessera_status *status, const struct cli_rates *rates);
void cli_top_line(FILE *out, const struct tessera_status *status, const struct cli_rates *rates);

/* Writes the first `rows` lines of page, each cut to `columns` characters and cleared behind. */
void cli_top_draw(FILE *out, const char *page, unsigned rows, unsigned columns);

/* ---- The terminal (terminal.c) ---- */

uint64_t cli_now_ns(void); /* CLOCK_MONOTONIC, as the engine's times */

/* Counts Ctrl-C from here on instead of dying of it; and dies of it again. */
void cli_interrupts_catch(void);
void cli_interrupts_release(void);
extern volatile sig_atomic_t cli_interrupts;

/* Writes text; to a terminal without what would steer it (escape sequences and other control
 * characters, which a model may be talked into saying): they become U+FFFD. Newline and tab pass.
 */
void cli_write_text(FILE *out, const char *text, size_t bytes);

/* The filter of cli_write_text(): out has room for 3 * bytes; returns how many were written. */
size_t cli_tame_text(const char *text, size_t bytes, char *out);

/* An escape sequence for stream, or "" where it is no terminal, TERM is dumb, or NO_COLOR is set.
 */
const char *cli_style(FILE *stream, const char *sequence);
#define CLI_DIM   "\033[2m"
#define CLI_BOLD  "\033[1m"
#define CLI_PLAIN "\033[0m"

/* A bar on stderr, or a line now and then where that is no terminal. done: 0 .. 1. */
void cli_progress(const char *what, double done);
void cli_progress_end(void);

/* Bytes and counts for people: "1.25 GiB", "12,345". Return text. */
const char *cli_text_bytes(uint64_t bytes, char text[32]);
const char *cli_text_count(uint64_t count, char text[32]);

/* Bytes of the UTF-8 character that text (>= 1 byte) begins with, 0 where it begins with none (RFC
 * 3629). */
size_t cli_utf8_length(const char *text, size_t bytes);

/* JSON string literal of text on out, quotes included; bytes that are not UTF-8 become U+FFFD. */
void cli_write_json(FILE *out, const char *text, size_t bytes);

#endif
