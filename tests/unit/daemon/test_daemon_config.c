#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include <tsr/daemon/config.h>

enum { MODEL = 1, THREADS, SPIN, QUIET, ALLOW, CHECK, HELP };

/* What was set, in order: "model=a spin ". */
static char said[1024];
static struct tsr_err err;

static int set(void *place, const char *text, struct tsr_err *e);

#define OPTION(name, kind, id)                                                                     \
    {                                                                                              \
        name, kind, .at = id, .set = set                                                           \
    }
static const struct tsr_daemon_option options[] = {
    OPTION("model", TSR_DAEMON_VALUE, MODEL), OPTION("threads", TSR_DAEMON_VALUE, THREADS),
    OPTION("spin", TSR_DAEMON_FLAG, SPIN),    OPTION("quiet", TSR_DAEMON_FLAG, QUIET),
    OPTION("allow", TSR_DAEMON_LIST, ALLOW),  OPTION("check", TSR_DAEMON_ACTION, CHECK),
    OPTION("help", TSR_DAEMON_LEAVE, HELP),   {0},
};

static int set(void *place, const char *text, struct tsr_err *e)
{
    ptrdiff_t id = (char *)place - said;
    assert_in_range(id, MODEL, HELP);
    if (id == THREADS && strcmp(text, "0") == 0) {
        return tsr_err_set(e, -EINVAL, "--threads 0: a number from 1 to 256 is wanted");
    }
    size_t at = strlen(said);
    snprintf(said + at, sizeof said - at, "%s%s%s ", options[id - 1].name, text ? "=" : "",
             text ? text : "");
    return 0;
}

static struct tsr_daemon_config config;

static void begin(const char *file)
{
    tsr_daemon_config_free(&config);
    config = (struct tsr_daemon_config){.options = options, .file = file, .ctx = said};
    said[0] = '\0';
    memset(&err, 0, sizeof err);
}

static int text(const char *lines)
{
    begin("/nowhere");
    return tsr_daemon_config_text(&config, "engine.conf", lines, strlen(lines), &err);
}

static char path[] = "/tmp/tessera-config-XXXXXX";

/* `lines` as the daemon's file, `line` as its command line, split at spaces. */
static int both(const char *lines, const char *line)
{
    static char copy[512];
    char *argv[32];
    int argc = 0;
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    assert_int_equal(fputs(lines, file) < 0, 0);
    assert_int_equal(fclose(file), 0);
    begin(path);
    snprintf(copy, sizeof copy, "program %s", line);
    for (char *word = strtok(copy, " "); word; word = strtok(NULL, " ")) {
        argv[argc++] = word;
    }
    argv[argc] = NULL;
    return tsr_daemon_config_read(&config, argc, argv, &err);
}

static void test_config_refuses_with_file_and_line(void **state)
{
    (void)state;
    static const struct {
        const char *lines, *says;
    } cases[] = {
        {"model = a\n\nthread = 4\n",
         "engine.conf:3: there is no option 'thread'; did you mean 'threads'?"},
        {"frobnicate = 4", "engine.conf:1: there is no option 'frobnicate'"},
        {"# first\nthreads = 0\n", "engine.conf:2: --threads 0: a number from 1 to 256"},
        {"model = a\nmodel = b\n", "engine.conf:2: 'model' stands in line 1 already"},
        {"spin = no\nspin = yes\n", "engine.conf:2: 'spin' stands in line 1 already"},
        {"spin = true\n", "engine.conf:1: spin = true: yes or no is wanted"},
        {"spin =\n", "engine.conf:1: spin = : yes or no is wanted"},
        {"model =\n", "engine.conf:1: 'model' wants a value"},
        {"model = ; nothing\n", "engine.conf:1: 'model' wants a value"},
        {"model = a\nspin\n", "engine.conf:2: name = value is wanted"},
        {"spin\nspan = 1\n", "engine.conf:1: name = value is wanted"},
        {"\n[engine]\nmodel = a\n", "engine.conf:2: there are no sections"},
        {"model = a\n  thread = 4\n", "engine.conf:2: there is no option 'thread'"},
        {"check = yes\n", "engine.conf:1: 'check' belongs on the command line"},
        {"help = yes\n", "engine.conf:1: 'help' belongs on the command line"},
        {"config = other.conf\n", "engine.conf:1: there is no option 'config'"},
        {"--model = a\n", "engine.conf:1: there is no option '--model'; did you mean 'model'?"},
        {"= a\n", "engine.conf:1: there is no option ''"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        int rc = text(cases[i].lines);
        if (rc != -EINVAL || !strstr(err.text, cases[i].says)) {
            fail_msg("'%s': %d '%s', not '%s'", cases[i].lines, rc, err.text, cases[i].says);
        }
    }
}

static void test_config_refuses_what_is_no_text(void **state)
{
    (void)state;
    static const char zero[] = "model = a\nthr\0eads = 1\n";
    begin("/nowhere");
    assert_int_equal(tsr_daemon_config_text(&config, "x", zero, sizeof zero - 1, &err), -EINVAL);
    assert_non_null(strstr(err.text, "x:2: there is a zero byte"));
    char line[1024] = "model = ";
    memset(line + 8, 'm', sizeof line - 9);
    assert_int_equal(text(line), -EINVAL);
    assert_non_null(strstr(err.text, "engine.conf:1: the line has 1023 bytes"));
    assert_string_equal(said, "");
}

static void test_config_takes_a_file(void **state)
{
    (void)state;
    assert_int_equal(text(""), 0);
    assert_string_equal(said, "");
    assert_int_equal(text("# comment\n; comment\nmodel = /a b/c ; so\r\n\tthreads=4\nspin = yes\n"
                          "quiet = no\nallow = uid:1,tenants\nallow = gid:2"),
                     0);
    assert_string_equal(said, "model=/a b/c threads=4 spin allow=uid:1,tenants allow=gid:2 ");
}

static void test_config_line_over_file(void **state)
{
    (void)state;
    static const struct {
        const char *lines, *line, *says;
    } cases[] = {
        {"", "--model a", "model=a "},
        {"model = a\nthreads = 2", "", "model=a threads=2 "},
        {"model = a\nthreads = 2", "--threads 3", "model=a threads=3 "},
        {"threads = 0", "--threads 3", "threads=3 "},
        {"allow = 1\nallow = 2", "--allow 3 --allow 4", "allow=3 allow=4 "},
        {"spin = yes\nquiet = yes", "--spin=no", "quiet "},
        {"spin = no", "--spin", "spin "},
        {"model = a", "--check --model=b", "check model=b "},
        {"nonsense", "--threads 3 --help", "help "},
        {"nonsense", "--config /dev/null --threads 3", "threads=3 "},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        int rc = both(cases[i].lines, cases[i].line);
        if (rc != 0 || strcmp(said, cases[i].says) != 0) {
            fail_msg("'%s' and '%s': %d %s, set '%s'", cases[i].lines, cases[i].line, rc, err.text,
                     said);
        }
    }
}

static void test_config_refuses_command_lines(void **state)
{
    (void)state;
    static const struct {
        const char *line, *says;
    } cases[] = {
        {"--thraeds 3", "--thraeds is not an option; did you mean --threads"},
        {"--thraeds=3", "--thraeds=3 is not an option; did you mean --threads"},
        {"--frobnicate", "--frobnicate is not an option; see --help"},
        {"-xh", "-x is not an option"},
        {"--model", "--model wants a value"},
        {"--config", "--config wants a value"},
        {"--check=yes", "--check=yes: this option has no value"},
        {"--spin=maybe", "--spin=maybe: yes or no is wanted"},
        {"--spin yes", "'yes' is one word too many"},
        {"--threads 0", "--threads 0: a number"},
        {"--config /no/such.conf", "/no/such.conf: cannot be read: No such file"},
        {"--config /", "/: cannot be read: Is a directory"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        int rc = both("", cases[i].line);
        if (rc >= 0 || !strstr(err.text, cases[i].says)) {
            fail_msg("'%s': %d '%s', not '%s'", cases[i].line, rc, err.text, cases[i].says);
        }
    }
}

static void test_config_own_file_may_be_missing(void **state)
{
    (void)state;
    char *argv[] = {(char *)(uintptr_t) "program", NULL};
    begin("/no/such.conf");
    assert_int_equal(tsr_daemon_config_read(&config, 1, argv, &err), 0);
    begin("/");
    assert_int_equal(tsr_daemon_config_read(&config, 1, argv, &err), -EIO);
}

static struct values {
    const char *user;
    uint32_t requests;
    uint64_t bytes;
    const char *hosts[2];
    uint32_t n_hosts;
    bool spin;
    enum { RUN, SHOW } action;
} values;

#define AT(field) .at = offsetof(struct values, field)
static const struct tsr_daemon_option typed[] = {
    {"user", TSR_DAEMON_TEXT, AT(user), "NAME", "who [#]", .above = ""},
    {"requests", TSR_DAEMON_NUMBER, AT(requests), "N", "at once;\nno more [#]", "Limits", 1, 9},
    {"bytes-of-all-together", TSR_DAEMON_SIZE, AT(bytes), "SIZE", "[#]", .low = 1, .high = 1 << 30},
    {"host", TSR_DAEMON_NAMES, AT(hosts), "NAME", "a name", .high = 2,
     .count_at = offsetof(struct values, n_hosts)},
    {"spin", TSR_DAEMON_FLAG, AT(spin), .help = "never sleep"},
    {"show", TSR_DAEMON_ACTION, AT(action), .help = "and leave", .low = SHOW},
    {"help", TSR_DAEMON_LEAVE, AT(action), .low = SHOW},
    {"version", TSR_DAEMON_LEAVE, AT(action), .low = SHOW},
    {0},
};

static int take(char **argv)
{
    int argc = 0;
    while (argv[argc]) {
        argc++;
    }
    tsr_daemon_config_free(&config);
    values = (struct values){.user = "tessera", .requests = 3, .bytes = 64 << 20};
    config = (struct tsr_daemon_config){
        .options = typed, .file = "/no/such.conf", .head = "Head.\n", .tail = "Tail.\n"};
    config.ctx = &values;
    return tsr_daemon_config_read(&config, argc, argv, &err);
}

static void test_config_sets_by_kind(void **state)
{
    (void)state;
    char *good[] = {"program", "--user", "me", "--requests", "9", "--bytes-of-all-together",
                    "2K",      "--host", "a",  "--host",     "b", "--spin",
                    "--show",  NULL};
    assert_int_equal(take(good), 0);
    assert_string_equal(values.user, "me");
    assert_int_equal(values.requests, 9);
    assert_int_equal(values.bytes, 2048);
    assert_int_equal(values.n_hosts, 2);
    assert_string_equal(values.hosts[1], "b");
    assert_true(values.spin);
    assert_int_equal(values.action, SHOW);
    char *large[] = {"program", "--requests", "10", NULL};
    assert_int_equal(take(large), -EINVAL);
    assert_string_equal(err.text, "--requests 10: a number from 1 to 9 is wanted");
    char *many[] = {"program", "--host", "a", "--host", "b", "--host", "c", NULL};
    assert_int_equal(take(many), -EINVAL);
    assert_string_equal(err.text, "--host: at most 2 are wanted");
    begin("/nowhere");
    config.options = typed;
    config.ctx = &values;
    values.n_hosts = 0;
    static const char hosts[] = "host = a\nhost = b\nuser = me\n";
    assert_int_equal(tsr_daemon_config_text(&config, "x", hosts, sizeof hosts - 1, &err), 0);
    assert_int_equal(values.n_hosts, 2);
}

static void test_config_prints_the_manual(void **state)
{
    (void)state;
    char *help[] = {"program", "--requests", "9", "--help", NULL};
    char *text = NULL;
    size_t size;
    assert_int_equal(take(help), 0);
    assert_int_equal(values.action, SHOW);
    FILE *out = open_memstream(&text, &size);
    assert_non_null(out);
    tsr_daemon_config_help(&config, out);
    assert_int_equal(fclose(out), 0);
    assert_string_equal(
        text, "Head.\n"
              "\n"
              "  --user NAME             who [tessera]\n"
              "\n"
              "Limits\n"
              "  --requests N            at once;\n"
              "                          no more [3]\n"
              "  --bytes-of-all-together SIZE  [64M]\n"
              "  --host NAME             a name\n"
              "  --spin                  never sleep\n"
              "  --show                  and leave\n"
              "  --config FILE           options as name = value lines; those of the command line\n"
              "                          replace them [/no/such.conf, if it is there]\n"
              "  --help  --version\n"
              "\n"
              "Tail.\n");
    free(text);
}

static int set_up(void **state)
{
    (void)state;
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    close(fd);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    tsr_daemon_config_free(&config);
    unlink(path);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_config_refuses_with_file_and_line),
        cmocka_unit_test(test_config_refuses_what_is_no_text),
        cmocka_unit_test(test_config_takes_a_file),
        cmocka_unit_test(test_config_line_over_file),
        cmocka_unit_test(test_config_refuses_command_lines),
        cmocka_unit_test(test_config_own_file_may_be_missing),
        cmocka_unit_test(test_config_sets_by_kind),
        cmocka_unit_test(test_config_prints_the_manual),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
