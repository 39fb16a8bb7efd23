#include <tsr/serve/options.h>

#include <assert.h>
#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <stdlib.h>
#include <string.h>

#include <tsr/daemon/value.h>
#include <tsr/sched/sched.h>

/* clang-format off */
enum {
    OPT_MODEL = 256, OPT_NAME, OPT_TEMPLATE, OPT_SOCKET, OPT_THREADS, OPT_CPUS, OPT_NO_PIN, OPT_CONTEXT, OPT_KV_BYTES, OPT_WEIGHTS, OPT_ISA,
    OPT_ROWS, OPT_CHUNK, OPT_SEQUENCES, OPT_QUEUE, OPT_PARK, OPT_SPIN, OPT_SPIN_US, OPT_TOKENS, OPT_SECONDS,
    OPT_PAYLOAD, OPT_PROMPTS, OPT_GROUP, OPT_ALLOW, OPT_USER, OPT_NO_SANDBOX, OPT_QUIET, OPT_EXPLAIN, OPT_CHECK,
    OPT_HELP, OPT_VERSION,
};

static const struct tsr_daemon_option names[] = {
    {"model", TSR_DAEMON_VALUE, .id = OPT_MODEL}, {"name", TSR_DAEMON_VALUE, .id = OPT_NAME},
    {"chat-template", TSR_DAEMON_VALUE, .id = OPT_TEMPLATE},
    {"socket", TSR_DAEMON_VALUE, .id = OPT_SOCKET},
    {"threads", TSR_DAEMON_VALUE, .id = OPT_THREADS}, {"cpus", TSR_DAEMON_VALUE, .id = OPT_CPUS},
    {"no-pin", TSR_DAEMON_FLAG, .id = OPT_NO_PIN}, {"context", TSR_DAEMON_VALUE, .id = OPT_CONTEXT},
    {"kv-bytes", TSR_DAEMON_VALUE, .id = OPT_KV_BYTES}, {"weights", TSR_DAEMON_VALUE, .id = OPT_WEIGHTS},
    {"isa", TSR_DAEMON_VALUE, .id = OPT_ISA}, {"rows", TSR_DAEMON_VALUE, .id = OPT_ROWS},
    {"chunk", TSR_DAEMON_VALUE, .id = OPT_CHUNK}, {"sequences", TSR_DAEMON_VALUE, .id = OPT_SEQUENCES},
    {"queue", TSR_DAEMON_VALUE, .id = OPT_QUEUE}, {"park-seconds", TSR_DAEMON_VALUE, .id = OPT_PARK},
    {"spin", TSR_DAEMON_FLAG, .id = OPT_SPIN}, {"spin-us", TSR_DAEMON_VALUE, .id = OPT_SPIN_US},
    {"max-tokens-default", TSR_DAEMON_VALUE, .id = OPT_TOKENS}, {"seconds-max", TSR_DAEMON_VALUE, .id = OPT_SECONDS},
    {"payload-max", TSR_DAEMON_VALUE, .id = OPT_PAYLOAD}, {"prompt-bytes", TSR_DAEMON_VALUE, .id = OPT_PROMPTS},
    {"group", TSR_DAEMON_LIST, .id = OPT_GROUP}, {"allow", TSR_DAEMON_LIST, .id = OPT_ALLOW},
    {"user", TSR_DAEMON_VALUE, .id = OPT_USER}, {"no-sandbox", TSR_DAEMON_FLAG, .id = OPT_NO_SANDBOX},
    {"quiet", TSR_DAEMON_FLAG, .id = OPT_QUIET}, {"explain", TSR_DAEMON_ACTION, .id = OPT_EXPLAIN},
    {"check", TSR_DAEMON_ACTION, .id = OPT_CHECK}, {"help", TSR_DAEMON_LEAVE, .id = OPT_HELP},
    {"version", TSR_DAEMON_LEAVE, .id = OPT_VERSION}, {0},
};
/* clang-format on */

void tsr_serve_options_help(FILE *out)
{
    fprintf(
        out,
        "tessera-engine --model PATH [options]: holds a model and answers through shared memory.\n"
        "PATH is a .gguf file or a Hugging Face directory. Prints \"ready\" on stdout when it is.\n"
        "\n"
        "  --socket PATH           the engine's door [" TSR_SERVE_SOCKET "]\n"
        "  --name NAME             what clients call the model [as its files do]\n"
        "  --chat-template FILE    this Jinja template instead of the model's own\n"
        "  --weights FORMAT        file, ref, bf16, f16, int8 [file: as the file has them]\n"
        "  --isa NAME              best, ref, avx2, avx512 [best]\n"
        "  --context N             positions of a sequence [the model's]\n"
        "  --kv-bytes SIZE         KV cache [a quarter of free memory, at most 16 x context]\n"
        "\n"
        "CPUs\n"
        "  --threads N             workers [one per CPU that the control group pays for]\n"
        "  --cpus LIST             their CPUs, e.g. 0-3,8 [of the affinity mask]\n"
        "  --no-pin                let the system move workers\n"
        "  --spin                  appliance: these CPUs are the engine's own, never sleep\n"
        "  --spin-us N             otherwise: look that long before sleeping [%d]\n"
        "\n"
        "Requests\n"
        "  --sequences N           running together [%d]\n"
        "  --queue N               waiting [%d]\n"
        "  --rows N                rows a step [%d]\n"
        "  --chunk N               of these for prompts while others decode [%d]\n"
        "  --max-tokens-default N  answer length where a request names none [%d]\n"
        "  --seconds-max N         longest that a request may take [no limit]\n"
        "  --park-seconds N        a request without credit is ended after [%d]\n"
        "  --payload-max SIZE      largest prompt [1M]\n"
        "  --prompt-bytes SIZE     memory for prompts in flight [by payload and context]\n"
        "\n"
        "Who may connect: root, who started the engine, group tessera, and\n"
        "  --group NAME            members of this group\n"
        "  --allow WHO[,KEY=N..]   uid:NAME or gid:NAME, with requests= (live per channel),\n"
        "                          channels=, grants= (a minute), bytes=, priority= (at most),\n"
        "                          request-ring=, event-ring=, and tenants (speaks for others)\n"
        "  --user NAME             become this user when started as root [tessera, else nobody]\n"
        "  --no-sandbox            without Landlock and seccomp: for debuggers only\n"
        "\n"
        "  --config FILE           options as name = value lines, e.g. spin = yes; those of the\n"
        "                          command line replace them [" TSR_SERVE_CONFIG
        ", if it is there]\n"
        "  --check                 say what would be loaded and whether it fits, and leave\n"
        "  --explain               load, say which kernels were chosen, and leave\n"
        "  --quiet                 no progress on stderr\n"
        "  --help  --version\n"
        "\n"
        "SIZE takes K, M, G. Ends at SIGTERM or SIGINT; running requests get an error.\n",
        TSR_SERVE_SPIN_US_DEFAULT, TSR_SERVE_SEQUENCES_DEFAULT, TSR_SERVE_QUEUE_DEFAULT,
        TSR_SCHED_ROWS_DEFAULT, TSR_SCHED_CHUNK_DEFAULT, TSR_SCHED_TOKENS_DEFAULT,
        TSR_SCHED_PARK_SECONDS);
}

static int choose(const char *name, const char *text, const char *const *words, size_t n,
                  struct tsr_err *err)
{
    char all[128] = "";
    for (size_t i = 0; i < n; i++) {
        if (strcmp(text, words[i]) == 0) {
            return (int)i;
        }
        strncat(all, i ? ", " : "", sizeof all - strlen(all) - 1);
        strncat(all, words[i], sizeof all - strlen(all) - 1);
    }
    return tsr_err_set(err, -EINVAL, "%s %s: one of %s is wanted", name, text, all);
}

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

static int set(void *ctx, int option, const char *text, struct tsr_err *err)
{
    struct tsr_serve_options *o = ctx;
    static const char *const weights[] = {"file", "ref", "bf16", "f16", "int8"};
    static const char *const isas[] = {"best", "ref", "avx2", "avx512"};
    static_assert(TSR_WEIGHTS_INT8 == 4 && TSR_ISA_AVX512 == 3, "names stand in order");
    int rc;

    switch (option) {
    case OPT_MODEL:
        o->model = text;
        return 0;
    case OPT_NAME:
        o->name = text;
        return is_name(text)
                   ? 0
                   : tsr_err_set(err, -EINVAL,
                                 "--name '%.40s': 1 to %d printable characters are wanted", text,
                                 TSR_SERVE_NAME_MAX);
    case OPT_TEMPLATE:
        o->chat_template = text;
        return 0;
    case OPT_SOCKET:
        o->socket = text;
        return 0;
    case OPT_USER:
        o->user = text;
        return 0;
    case OPT_THREADS:
        return tsr_value_number("--threads", text, 1, TSR_EXEC_WORKERS_MAX, &o->exec.workers, err);
    case OPT_CPUS:
        o->exec.cpus = o->cpus;
        return tsr_value_cpus("--cpus", text, TSR_EXEC_WORKERS_MAX, o->cpus, &o->n_cpus, err);
    case OPT_NO_PIN:
        o->exec.pin = false;
        return 0;
    case OPT_SPIN:
        o->exec.spin = true;
        return 0;
    case OPT_SPIN_US:
        return tsr_value_number("--spin-us", text, 0, 1000000, &o->spin_us, err);
    case OPT_CONTEXT:
        return tsr_value_number("--context", text, 2, 1 << 24, &o->exec.context, err);
    case OPT_KV_BYTES:
        return tsr_value_size("--kv-bytes", text, 1, 1ull << 46, &o->exec.kv_bytes, err);
    case OPT_WEIGHTS:
        rc = choose("--weights", text, weights, 5, err);
        o->exec.weights = rc < 0 ? TSR_WEIGHTS_FILE : (enum tsr_weights)rc;
        return rc < 0 ? rc : 0;
    case OPT_ISA:
        rc = choose("--isa", text, isas, 4, err);
        o->exec.isa = rc < 0 ? TSR_ISA_BEST : (enum tsr_isa)rc;
        return rc < 0 ? rc : 0;
    case OPT_ROWS:
        return tsr_value_number("--rows", text, 2, 1 << 16, &o->exec.rows_max, err);
    case OPT_CHUNK:
        return tsr_value_number("--chunk", text, 1, 1 << 16, &o->chunk_rows, err);
    case OPT_SEQUENCES:
        return tsr_value_number("--sequences", text, 1, 4096, &o->sequences_max, err);
    case OPT_QUEUE:
        return tsr_value_number("--queue", text, 1, 1 << 16, &o->queue_max, err);
    case OPT_PARK:
        return tsr_value_number("--park-seconds", text, 1, 86400, &o->park_seconds, err);
    case OPT_TOKENS:
        return tsr_value_number("--max-tokens-default", text, 1, 1 << 24, &o->tokens_default, err);
    case OPT_SECONDS:
        return tsr_value_number("--seconds-max", text, 0, 86400, &o->seconds_max, err);
    case OPT_PAYLOAD:
        return tsr_value_size("--payload-max", text, 4096, 64 << 20, &o->payload_bytes_max, err);
    case OPT_PROMPTS:
        return tsr_value_size("--prompt-bytes", text, 1 << 20, 1ull << 40, &o->prompt_bytes, err);
    case OPT_GROUP:
        return allow(&o->policy, text, true, err);
    case OPT_ALLOW:
        return allow(&o->policy, text, false, err);
    case OPT_NO_SANDBOX:
        o->sandbox = false;
        return 0;
    case OPT_QUIET:
        o->quiet = true;
        return 0;
    case OPT_EXPLAIN:
        o->action = TSR_SERVE_EXPLAIN;
        return 0;
    case OPT_CHECK:
        o->action = TSR_SERVE_CHECK;
        return 0;
    case OPT_HELP:
        o->action = TSR_SERVE_HELP;
        return 0;
    case OPT_VERSION:
        o->action = TSR_SERVE_VERSION;
        return 0;
    default:
        return tsr_err_set(err, -EINVAL, "an option without a meaning");
    }
}

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
        .sandbox = true,
    };
    tsr_door_policy_init(&o->policy);

    o->config = (struct tsr_daemon_config){
        .options = names, .file = TSR_SERVE_CONFIG, .set = set, .ctx = o};
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
