#include <tsr/serve/options.h>

#include <assert.h>
#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <stdlib.h>
#include <string.h>

#include <tsr/daemon/value.h>
#include <tsr/sched/sched.h>

static int allow_key(struct tsr_door_class *class, const char *key, const char *value,
                     struct tsr_err *err)
{
    uint32_t priority = 0;
    int rc;
    if (strcmp(key, "tenants") == 0 && !value) {
        class->tenants = true;
        return 0;
    }
    if (!value) {
        return tsr_err_set(err, -EINVAL, "--allow: '%s' wants a value, %s=N", key, key);
    }
    if (strcmp(key, "requests") == 0) {
        return tsr_value_number("--allow requests", value, 1, UINT16_MAX, &class->requests_max,
                                err);
    }
    if (strcmp(key, "channels") == 0) {
        return tsr_value_number("--allow channels", value, 1, 1 << 16, &class->channels_max, err);
    }
    if (strcmp(key, "grants") == 0) {
        return tsr_value_number("--allow grants", value, 1, 1 << 20, &class->grants_per_minute,
                                err);
    }
    if (strcmp(key, "bytes") == 0) {
        return tsr_value_size("--allow bytes", value, 1 << 16, 1ull << 40, &class->bytes_max, err);
    }
    if (strcmp(key, "request-ring") == 0) {
        return tsr_value_number("--allow request-ring", value, 1 << 16, 1 << 24,
                                &class->request_ring_bytes, err);
    }
    if (strcmp(key, "event-ring") == 0) {
        return tsr_value_number("--allow event-ring", value, 1 << 16, 1 << 26,
                                &class->event_ring_bytes, err);
    }
    if (strcmp(key, "priority") == 0) {
        rc = tsr_value_number("--allow priority", value, 0, 255, &priority, err);
        class->priority_max = (uint8_t)priority;
        return rc;
    }
    return tsr_err_set(err, -EINVAL, "--allow: there is no '%s'; see --help", key);
}

/* "gid:NAME,key=value,..." or, of --group, "NAME" */
static int allow(struct tsr_door_policy *policy, const char *text, bool group, struct tsr_err *err)
{
    char copy[256];
    if (snprintf(copy, sizeof copy, "%s%s", group ? "gid:" : "", text) >= (int)sizeof copy) {
        return tsr_err_set(err, -EINVAL, "--allow: longer than %zu characters", sizeof copy - 1);
    }
    char *save = NULL;
    char *who = strtok_r(copy, ",", &save);
    if (!who || (strncmp(who, "uid:", 4) != 0 && strncmp(who, "gid:", 4) != 0)) {
        return tsr_err_set(err, -EINVAL, "--allow %s: starts with uid:NAME or gid:NAME", text);
    }
    enum tsr_door_match match = who[0] == 'u' ? TSR_DOOR_UID : TSR_DOOR_GID;
    const char *name = who + 4;
    uint32_t id = 0;
    struct passwd *pw = match == TSR_DOOR_UID ? getpwnam(name) : NULL;
    struct group *gr = match == TSR_DOOR_GID ? getgrnam(name) : NULL;
    if (pw) {
        id = pw->pw_uid;
    } else if (gr) {
        id = gr->gr_gid;
    } else if (tsr_value_number("--allow", name, 0, UINT32_MAX - 1, &id, NULL) < 0) {
        return tsr_err_set(err, -EINVAL, "there is no %s '%s' on this system",
                           match == TSR_DOOR_UID ? "user" : "group", name);
    }
    struct tsr_door_class class;
    tsr_door_class_init(&class);
    for (char *key; (key = strtok_r(NULL, ",", &save)) != NULL;) {
        char *value = strchr(key, '=');
        if (value) {
            *value++ = '\0';
        }
        int rc = allow_key(&class, key, value, err);
        if (rc < 0) {
            return rc;
        }
    }
    if (tsr_door_policy_add(policy, match, id, &class) < 0) {
        return tsr_err_set(err, -EINVAL, "--allow: at most %d rules", TSR_DOOR_RULES_MAX);
    }
    return 0;
}

static int add_group(void *policy, const char *text, struct tsr_err *err)
{
    return allow(policy, text, true, err);
}

static int add_allowed(void *policy, const char *text, struct tsr_err *err)
{
    return allow(policy, text, false, err);
}

static bool is_name(const char *text)
{
    size_t len = strlen(text);
    for (size_t i = 0; i < len; i++) {
        if ((unsigned char)text[i] < 0x20 || text[i] == 0x7f) {
            return false;
        }
    }
    return len > 0 && len <= TSR_SERVE_NAME_MAX;
}

static int set_name(void *name, const char *text, struct tsr_err *err)
{
    *(const char **)name = text;
    return is_name(text) ? 0
                         : tsr_err_set(err, -EINVAL,
                                       "--name '%.40s': 1 to %d printable characters are wanted",
                                       text, TSR_SERVE_NAME_MAX);
}

/* *out becomes the place of the word. */
static int choose(const char *name, const char *text, const char *const *words, size_t n,
                  unsigned *out, struct tsr_err *err)
{
    char all[128] = "";
    for (size_t i = 0; i < n; i++) {
        if (strcmp(text, words[i]) == 0) {
            *out = (unsigned)i;
            return 0;
        }
        strncat(all, i ? ", " : "", sizeof all - strlen(all) - 1);
        strncat(all, words[i], sizeof all - strlen(all) - 1);
    }
    return tsr_err_set(err, -EINVAL, "%s %s: one of %s is wanted", name, text, all);
}

static int set_weights(void *weights, const char *text, struct tsr_err *err)
{
    static const char *const words[] = {"file", "ref", "bf16", "f16", "int8"};
    static_assert(TSR_WEIGHTS_INT8 == 4, "words stand in order");
    return choose("--weights", text, words, 5, weights, err);
}

static int set_isa(void *isa, const char *text, struct tsr_err *err)
{
    static const char *const words[] = {"best", "ref", "avx2", "avx512"};
    static_assert(TSR_ISA_AVX512 == 3, "words stand in order");
    return choose("--isa", text, words, 4, isa, err);
}

static int set_cpus(void *options, const char *text, struct tsr_err *err)
{
    struct tsr_serve_options *o = options;
    o->exec.cpus = o->cpus;
    return tsr_value_cpus("--cpus", text, TSR_EXEC_WORKERS_MAX, o->cpus, &o->n_cpus, err);
}

static int set_no_pin(void *pin, const char *text, struct tsr_err *err)
{
    (void)text;
    (void)err;
    *(bool *)pin = false;
    return 0;
}

#define AT(field) .at = offsetof(struct tsr_serve_options, field)

/* clang-format off */
static const struct tsr_daemon_option rows[] = {
    {"model", TSR_DAEMON_TEXT, AT(model), "PATH", "a .gguf file or a Hugging Face directory", .above = ""},
    {"socket", TSR_DAEMON_TEXT, AT(socket), "PATH", "the engine's door [#]"},
    {"name", TSR_DAEMON_VALUE, AT(name), "NAME", "what clients call the model [as its files do]", .set = set_name},
    {"chat-template", TSR_DAEMON_TEXT, AT(chat_template), "FILE", "this Jinja template instead of the model's own"},
    {"weights", TSR_DAEMON_VALUE, AT(exec.weights), "FORMAT", "file, ref, bf16, f16, int8 [file: as the file has them]",
     .set = set_weights},
    {"isa", TSR_DAEMON_VALUE, AT(exec.isa), "NAME", "best, ref, avx2, avx512 [best]", .set = set_isa},
    {"context", TSR_DAEMON_NUMBER, AT(exec.context), "N", "positions of a sequence [the model's]", .low = 2, .high = 1 << 24},
    {"kv-bytes", TSR_DAEMON_SIZE, AT(exec.kv_bytes), "SIZE", "KV cache [a quarter of free memory, at most 16 x context]",
     .low = 1, .high = 1ull << 46},

    {"threads", TSR_DAEMON_NUMBER, AT(exec.workers), "N", "workers [one per CPU that the control group pays for]", "CPUs",
     1, TSR_EXEC_WORKERS_MAX},
    {"cpus", TSR_DAEMON_VALUE, .set = set_cpus, .value = "LIST", .help = "their CPUs, e.g. 0-3,8 [of the affinity mask]"},
    {"no-pin", TSR_DAEMON_FLAG, AT(exec.pin), .help = "let the system move workers", .set = set_no_pin},
    {"spin", TSR_DAEMON_FLAG, AT(exec.spin), .help = "appliance: these CPUs are the engine's own, never sleep"},
    {"spin-us", TSR_DAEMON_NUMBER, AT(spin_us), "N", "otherwise: look that long before sleeping [#]", .high = 1000000},

    {"sequences", TSR_DAEMON_NUMBER, AT(sequences_max), "N", "running together [#]", "Requests", 1, 4096},
    {"queue", TSR_DAEMON_NUMBER, AT(queue_max), "N", "waiting [#]", .low = 1, .high = 1 << 16},
    {"rows", TSR_DAEMON_NUMBER, AT(exec.rows_max), "N", "rows a step [#]", .low = 2, .high = 1 << 16},
    {"chunk", TSR_DAEMON_NUMBER, AT(chunk_rows), "N", "of these for prompts while others decode [#]", .low = 1, .high = 1 << 16},
    {"max-tokens-default", TSR_DAEMON_NUMBER, AT(tokens_default), "N", "answer length where a request names none [#]",
     .low = 1, .high = 1 << 24},
    {"seconds-max", TSR_DAEMON_NUMBER, AT(seconds_max), "N", "longest that a request may take [no limit]", .high = 86400},
    {"park-seconds", TSR_DAEMON_NUMBER, AT(park_seconds), "N", "a request without credit is ended after [#]", .low = 1, .high = 86400},
    {"payload-max", TSR_DAEMON_SIZE, AT(payload_bytes_max), "SIZE", "largest prompt [#]", .low = 4096, .high = 64 << 20},
    {"prompt-bytes", TSR_DAEMON_SIZE, AT(prompt_bytes), "SIZE", "memory for prompts in flight [by payload and context]",
     .low = 1 << 20, .high = 1ull << 40},

    {"group", TSR_DAEMON_LIST, AT(policy), "NAME", "members of this group",
     .above = "Who may connect: root, who started the engine, group tessera, and", .set = add_group},
    {"allow", TSR_DAEMON_LIST, AT(policy), "WHO[,KEY=N..]",
     "uid:NAME or gid:NAME, with requests= (live per channel),\n"
     "channels=, grants= (a minute), bytes=, priority= (at most),\n"
     "request-ring=, event-ring=, and tenants (speaks for others)", .set = add_allowed},
    {"user", TSR_DAEMON_TEXT, AT(user), "NAME", "become this user when started as root [tessera, else nobody]"},
    {"no-sandbox", TSR_DAEMON_FLAG, AT(no_sandbox), .help = "without Landlock and seccomp: for debuggers only"},

    {"check", TSR_DAEMON_ACTION, AT(action), .help = "say what would be loaded and whether it fits, and leave", .above = "",
     .low = TSR_SERVE_CHECK},
    {"explain", TSR_DAEMON_ACTION, AT(action), .help = "load, say which kernels were chosen, and leave", .low = TSR_SERVE_EXPLAIN},
    {"quiet", TSR_DAEMON_FLAG, AT(quiet), .help = "no progress on stderr"},
    {"help", TSR_DAEMON_LEAVE, AT(action), .low = TSR_SERVE_HELP},
    {"version", TSR_DAEMON_LEAVE, AT(action), .low = TSR_SERVE_VERSION}, {0},
};
/* clang-format on */

int tsr_serve_options_parse(struct tsr_serve_options *o, int argc, char **argv, struct tsr_err *err)
{
    *o = (struct tsr_serve_options){
        .action = TSR_SERVE_RUN,
        .socket = TSR_SERVE_SOCKET,
        .exec = {.pin = true, .rows_max = TSR_SCHED_ROWS_DEFAULT},
        .chunk_rows = TSR_SCHED_CHUNK_DEFAULT,
        .sequences_max = TSR_SERVE_SEQUENCES_DEFAULT,
        .queue_max = TSR_SERVE_QUEUE_DEFAULT,
        .park_seconds = TSR_SCHED_PARK_SECONDS,
        .tokens_default = TSR_SCHED_TOKENS_DEFAULT,
        .spin_us = TSR_SERVE_SPIN_US_DEFAULT,
        .payload_bytes_max = TSR_SERVE_PAYLOAD_BYTES_DEFAULT,
        .config = {.options = rows, .file = TSR_SERVE_CONFIG, .ctx = o},
    };
    o->config.head =
        "tessera-engine --model PATH [options]: holds a model and answers through shared memory.\n"
        "Prints \"ready\" on stdout when it is.\n";
    o->config.tail =
        "SIZE takes K, M, G. Ends at SIGTERM or SIGINT; running requests get an error.\n";
    tsr_door_policy_init(&o->policy);
    int rc = tsr_daemon_config_read(&o->config, argc, argv, err);
    if (rc < 0) {
        return rc;
    }
    if (o->action == TSR_SERVE_HELP || o->action == TSR_SERVE_VERSION) {
        return 0;
    }
    if (!o->model) {
        return tsr_err_set(err, -EINVAL,
                           "--model PATH is wanted: a .gguf file or a Hugging Face directory");
    }
    if (o->exec.cpus && o->exec.workers && o->exec.workers != o->n_cpus) {
        return tsr_err_set(err, -EINVAL, "--cpus names %u CPUs, --threads %u workers", o->n_cpus,
                           o->exec.workers);
    }
    if (o->exec.cpus) {
        o->exec.workers = o->n_cpus;
    }
    if (o->chunk_rows >= o->exec.rows_max) {
        return tsr_err_set(err, -EINVAL,
                           "--chunk %u: fewer than the %u --rows of a step are wanted",
                           o->chunk_rows, o->exec.rows_max);
    }
    o->exec.logit_rows_max = o->sequences_max < 2 ? 2 : o->sequences_max;
    if (o->exec.logit_rows_max > 64) {
        o->exec.logit_rows_max = 64;
    }
    return 0;
}
