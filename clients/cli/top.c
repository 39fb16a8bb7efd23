#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

#include "cli_priv.h"

static const char help[] =
    "tessera top [OPTIONS]: what the engine does, again and again: tokens and requests a second, "
    "KV\n"
    "cache, threads, memory by node, requests. q ends it. Where standard output is no terminal: a\n"
    "line each time.\n"
    "\n"
    "      --interval SECONDS     between two looks [1]\n"
    "      --once                 one page as plain text, with the rates of one interval\n"
    "\n";

enum { OPT_INTERVAL = CLI_OPT_OWN, OPT_ONCE, WAIT_MS = 5000 };

/* ---- The screen: another one than the shell's, without a cursor, keys as they are pressed ---- */

static struct termios keys_before;
static bool keys_taken;
static volatile sig_atomic_t ended_by; /* a signal, 0: none */

static void on_end(int signal)
{
    ended_by = signal;
}

static void open_screen(void)
{
    const struct sigaction end = {.sa_handler = on_end};
    struct termios keys;
    sigaction(SIGTERM, &end, NULL);
    sigaction(SIGHUP, &end, NULL);
    cli_interrupts_catch();
    keys_taken = tcgetattr(STDIN_FILENO, &keys_before) == 0;
    if (keys_taken) {
        keys = keys_before;
        keys.c_lflag &= ~(tcflag_t)(ICANON | ECHO);
        tcsetattr(STDIN_FILENO, TCSANOW, &keys);
    }
    fputs("\033[?1049h\033[?25l", stdout);
}

static void close_screen(void)
{
    fputs("\033[?25h\033[?1049l", stdout);
    fflush(stdout);
    if (keys_taken) {
        tcsetattr(STDIN_FILENO, TCSANOW, &keys_before);
    }
    cli_interrupts_release();
}

static void draw(const struct tessera_status *status, const struct cli_rates *rates)
{
    struct winsize window = {0};
    char *page = NULL;
    size_t bytes;
    FILE *out = open_memstream(&page, &bytes);
    if (!out) {
        return;
    }
    cli_top_page(out, status, rates);
    fclose(out);
    ioctl(STDOUT_FILENO, TIOCGWINSZ, &window);
    fputs("\033[H", stdout);
    cli_top_draw(stdout, page, window.ws_row ? window.ws_row : 24,
                 window.ws_col ? window.ws_col : 80);
    fflush(stdout);
    free(page);
}

/* ---- Looking ---- */

enum mode { PAGES, LINES, ONCE };

/* Waits for the next look; true: the user, or a signal, wants the end. */
static bool rest(enum mode mode, double seconds)
{
    uint64_t until_ns = cli_now_ns() + (uint64_t)(seconds * 1e9);
    struct pollfd keys = {.fd = mode == PAGES && keys_taken ? STDIN_FILENO : -1, .events = POLLIN};
    while (!cli_interrupts && !ended_by) {
        uint64_t now_ns = cli_now_ns();
        if (now_ns >= until_ns) {
            return false;
        }
        char key;
        if (poll(&keys, 1, (int)((until_ns - now_ns) / 1000000) + 1) > 0 &&
            (read(STDIN_FILENO, &key, 1) != 1 || key == 'q' || key == 'Q')) {
            return true;
        }
    }
    return true;
}

/* Until the user wants the end: 0; or what tessera_status() says. */
static int watch(struct tessera *t, enum mode mode, double seconds, struct tessera_error *err)
{
    static struct tessera_status before, now;
    struct cli_rates rates = {0};
    for (bool first = true;; first = false) {
        int rc = tessera_status(t, &now, WAIT_MS, err);
        if (rc < 0) {
            return rc;
        }
        if (!first) {
            cli_rates(&rates, &before, &now);
        }
        if (mode == PAGES) {
            draw(&now, &rates);
        } else if (!first && mode == LINES) {
            cli_top_line(stdout, &now, &rates);
            fflush(stdout);
        } else if (!first) {
            cli_top_page(stdout, &now, &rates);
        }
        if ((mode == ONCE && !first) || ferror(stdout) || rest(mode, seconds)) {
            return 0;
        }
        before = now;
    }
}

int cli_top(int argc, char **argv)
{
    static const struct option options[] = {
        {"interval", required_argument, NULL, OPT_INTERVAL},
        {"once", no_argument, NULL, OPT_ONCE},
        CLI_PLACE_OPTIONS,
        {0},
    };
    struct cli_place place = {0};
    const char *term = getenv("TERM");
    bool steers = isatty(STDOUT_FILENO) && term && strcmp(term, "dumb") != 0;
    enum mode mode = steers ? PAGES : LINES;
    double seconds = 1;
    int option;
    while ((option = getopt_long(argc, argv, "hs:", options, NULL)) != -1) {
        int taken = cli_place_option(&place, option, optarg);
        if (taken < 0) {
            return CLI_USAGE;
        } else if (taken > 0) {
            continue;
        }
        switch (option) {
        case OPT_INTERVAL:
            if (!cli_parse_double("--interval", optarg, 0.05, 3600, &seconds)) {
                return CLI_USAGE;
            }
            break;
        case OPT_ONCE:
            mode = ONCE;
            break;
        case CLI_OPT_HELP:
            printf("%s%s", help, cli_place_help);
            return CLI_OK;
        default:
            return cli_usage("top", "the command line was not understood");
        }
    }
    if (optind < argc) {
        return cli_usage("top", "'%s' was not expected", argv[optind]);
    }
    struct tessera *t;
    int result = cli_connect(&t, &place, TESSERA_WAIT_AUTO);
    if (result != CLI_OK) {
        return result;
    }
    struct tessera_error err;
    if (mode == PAGES) {
        open_screen();
    }
    int rc = watch(t, mode, seconds, &err);
    if (mode == PAGES) {
        close_screen();
    }
    tessera_close(t);
    if (ended_by) {
        signal(ended_by, SIG_DFL);
        raise(ended_by);
    }
    return rc < 0 ? cli_fail(&err) : cli_interrupts ? CLI_INTERRUPTED : CLI_OK;
}
