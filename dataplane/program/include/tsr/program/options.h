/* What both doors' programs can be told: options of the command line and of the configuration
 * file. A door's own struct begins with tsr_program_options, and its table has these rows among its
 * own. */
#ifndef TSR_PROGRAM_OPTIONS_H
#define TSR_PROGRAM_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <tsr/api/api.h>
#include <tsr/daemon/config.h>
#include <tsr/shm/err.h>

#define TSR_PROGRAM_ENGINE "/run/tessera/engine.sock"

enum { TSR_PROGRAM_NAMES_MAX = 64, TSR_PROGRAM_SECONDS_MAX = 86400 };

enum tsr_program_action {
    TSR_PROGRAM_RUN,
    TSR_PROGRAM_CHECK, /* say what would be done, and leave */
    TSR_PROGRAM_HELP,
    TSR_PROGRAM_VERSION,
    TSR_PROGRAM_OWN, /* what one door alone does */
};

struct tsr_program_options {
    enum tsr_program_action action;
    const char *user; /* to become when started as root, NULL: the default */
    const char *certificate, *key, *client_ca; /* files; NULL: none */
    struct tsr_api_options api;
    const char *hosts[TSR_PROGRAM_NAMES_MAX];
    const char *origins[TSR_PROGRAM_NAMES_MAX];
    uint32_t drain_s;
    bool no_sandbox;
    bool quiet;

    struct tsr_daemon_config config;
};

/* The defaults. rows: the door's table; head: of --help. The struct must not move afterwards. */
void tsr_program_options_init(struct tsr_program_options *options,
                              const struct tsr_daemon_option *rows, const char *file,
                              const char *head);

/* argv must stay. What tsr_daemon_config_read() says. */
int tsr_program_options_read(struct tsr_program_options *options, int argc, char **argv,
                             struct tsr_err *err);

/* Whether one may listen at an address. otherwise: what else can be done, for the sentence.
 * -EINVAL. */
int tsr_program_options_check(const struct tsr_program_options *options, const char *address,
                              bool is_loopback, const char *otherwise, struct tsr_err *err);

/* ---- Rows ---- */

/* clang-format off */
#define TSR_PROGRAM_AT(field) .at = offsetof(struct tsr_program_options, field)
#define TSR_PROGRAM_SECONDS .low = 1, .high = TSR_PROGRAM_SECONDS_MAX

#define TSR_PROGRAM_ENGINES \
    {"engine", TSR_DAEMON_NAMES, TSR_PROGRAM_AT(api.engines), "PATH", "an engine's socket; repeat it for several [" TSR_PROGRAM_ENGINE "]", \
     .above = "", .high = TSR_API_ENGINES_MAX, .count_at = offsetof(struct tsr_program_options, api.n_engines)}

#define TSR_PROGRAM_PAGES \
    {"host", TSR_DAEMON_NAMES, TSR_PROGRAM_AT(hosts), "NAME", \
     "without keys: a name, besides localhost, that clients call\nthis box; others are refused (DNS rebinding)", \
     .high = TSR_PROGRAM_NAMES_MAX, .count_at = offsetof(struct tsr_program_options, api.n_hosts)}, \
    {"origin", TSR_DAEMON_NAMES, TSR_PROGRAM_AT(origins), "URL", "a page elsewhere that may ask (CORS)", \
     .high = TSR_PROGRAM_NAMES_MAX, .count_at = offsetof(struct tsr_program_options, api.n_origins)}

#define TSR_PROGRAM_TLS \
    {"tls-certificate", TSR_DAEMON_TEXT, TSR_PROGRAM_AT(certificate), "FILE", "PEM, with the chain; read again when it changes, and at SIGHUP"}, \
    {"tls-key", TSR_DAEMON_TEXT, TSR_PROGRAM_AT(key), "FILE", "PEM, without a pass phrase"}, \
    {"tls-client-ca", TSR_DAEMON_TEXT, TSR_PROGRAM_AT(client_ca), "FILE", "PEM: clients must show a certificate of these"}

#define TSR_PROGRAM_REQUESTS \
    {"requests", TSR_DAEMON_NUMBER, TSR_PROGRAM_AT(api.exchanges_max), "N", "at once; more are answered 503 [#]", .low = 1, .high = 1 << 16}, \
    {"body-max", TSR_DAEMON_SIZE, TSR_PROGRAM_AT(api.body_bytes_max), "SIZE", "of a request [#]", .low = 1024, .high = 1 << 30}, \
    {"bodies-max", TSR_DAEMON_SIZE, TSR_PROGRAM_AT(api.bodies_bytes_max), "SIZE", "of all requests together [#]", \
     .low = 1 << 20, .high = 1ull << 40}, \
    {"credit", TSR_DAEMON_NUMBER, TSR_PROGRAM_AT(api.credit_tokens), "N", "tokens ahead of a slow reader [#]", .low = 1, .high = 1 << 16}, \
    {"drain-seconds", TSR_DAEMON_NUMBER, TSR_PROGRAM_AT(drain_s), "N", "for answers under way at SIGTERM [#]", .high = TSR_PROGRAM_SECONDS_MAX}

#define TSR_PROGRAM_REST \
    {"vllm-names", TSR_DAEMON_FLAG, TSR_PROGRAM_AT(api.vllm_names), .help = "/metrics under vLLM's names too"}, \
    {"user", TSR_DAEMON_TEXT, TSR_PROGRAM_AT(user), "NAME", \
     "become this user when started as root [tessera, else nobody];\nit must be able to read keys and certificates"}, \
    {"no-sandbox", TSR_DAEMON_FLAG, TSR_PROGRAM_AT(no_sandbox), .help = "without Landlock and seccomp: for debuggers only"}, \
    {"check", TSR_DAEMON_ACTION, TSR_PROGRAM_AT(action), .help = "say what is wrong, or what would be served, and leave", .low = TSR_PROGRAM_CHECK}, \
    {"quiet", TSR_DAEMON_FLAG, TSR_PROGRAM_AT(quiet), .help = "no description on stderr"}, \
    {"help", TSR_DAEMON_LEAVE, TSR_PROGRAM_AT(action), .low = TSR_PROGRAM_HELP}, \
    {"version", TSR_DAEMON_LEAVE, TSR_PROGRAM_AT(action), .low = TSR_PROGRAM_VERSION}, \
    {0}
/* clang-format on */

#endif
