#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#include "cli_priv.h"

volatile sig_atomic_t cli_interrupts; /* written by the handler below, in the same thread */

uint64_t cli_now_ns(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

static void on_interrupt(int signal)
{
    (void)signal;
    cli_interrupts = cli_interrupts + 1;
}

/* Restarting, since stdio loses what an interrupted write had not yet written. */
static void handle_interrupt(void (*handler)(int))
{
    struct sigaction action = {.sa_handler = handler, .sa_flags = SA_RESTART}, before;
    /* Ignored: a script's background job, to be left running. */
    if (sigaction(SIGINT, NULL, &before) == 0 && before.sa_handler != SIG_IGN) {
        sigaction(SIGINT, &action, NULL);
    }
}

void cli_interrupts_catch(void)
{
    handle_interrupt(on_interrupt);
}

void cli_interrupts_release(void)
{
    handle_interrupt(SIG_DFL);
}

static const char REPLACEMENT[] = "\xef\xbf\xbd"; /* U+FFFD */

size_t cli_tame_text(const char *text, size_t bytes, char *out)
{
    const unsigned char *in = (const unsigned char *)text;
    size_t at = 0;
    for (size_t i = 0; i < bytes; i++) {
        bool c0 = (in[i] < 0x20 && in[i] != '\n' && in[i] != '\t') || in[i] == 0x7f;
        bool c1 = in[i] == 0xc2 && i + 1 < bytes && in[i + 1] >= 0x80 && in[i + 1] < 0xa0;
        if (c0 || c1) {
            memcpy(out + at, REPLACEMENT, 3);
            at += 3;
            i += c1;
        } else {
            out[at++] = text[i];
        }
    }
    return at;
}

void cli_write_text(FILE *out, const char *text, size_t bytes)
{
    if (!isatty(fileno(out))) {
        fwrite(text, 1, bytes, out);
        return;
    }
    char tame[3 * 256];
    while (bytes) {
        size_t piece = bytes < 256 ? bytes : 256;
        /* A two-byte control character is not to be cut in half. */
        if (piece < bytes && (unsigned char)text[piece - 1] == 0xc2) {
            piece--;
        }
        fwrite(tame, 1, cli_tame_text(text, piece, tame), out);
        text += piece;
        bytes -= piece;
    }
}

const char *cli_style(FILE *stream, const char *sequence)
{
    const char *term = getenv("TERM"), *no_color = getenv("NO_COLOR");
    bool plain =
        !isatty(fileno(stream)) || !term || !strcmp(term, "dumb") || (no_color && *no_color);
    return plain ? "" : sequence;
}

static struct {
    bool is_shown;
    uint64_t said_ns; /* when a line was last printed, where stderr is no terminal */
} progress;

void cli_progress(const char *what, double done)
{
    enum { CELLS_MAX = 40 };
    static const uint64_t SAY_EVERY_NS = 5000000000u;
    if (!isatty(STDERR_FILENO)) {
        uint64_t now = cli_now_ns();
        if (!progress.said_ns || now - progress.said_ns > SAY_EVERY_NS) {
            fprintf(stderr, "%s: %.0f %%\n", what, 100 * done);
            progress.said_ns = now;
        }
        return;
    }
    struct winsize window = {0};
    ioctl(STDERR_FILENO, TIOCGWINSZ, &window);
    int cells = (window.ws_col ? window.ws_col : 80) - (int)strlen(what) - 12;
    cells = cells > CELLS_MAX ? CELLS_MAX : cells;
    fprintf(stderr, "\r%s ", what);
    if (cells >= 8) {
        int full = (int)(done * cells + 0.5);
        fputc('[', stderr);
        for (int i = 0; i < cells; i++) {
            fputc(i < full ? '#' : '.', stderr);
        }
        fputs("] ", stderr);
    }
    fprintf(stderr, "%3.0f %%", 100 * done);
    fflush(stderr);
    progress.is_shown = true;
}

void cli_progress_end(void)
{
    if (progress.is_shown) {
        fputs("\r\033[K", stderr);
        fflush(stderr);
        progress.is_shown = false;
    }
}

const char *cli_text_bytes(uint64_t bytes, char text[32])
{
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB"};
    double value = (double)bytes;
    size_t unit = 0;
    while (value >= 1024 && unit + 1 < sizeof units / sizeof *units) {
        value /= 1024;
        unit++;
    }
    snprintf(text, 32, "%.*f %s",
             unit == 0     ? 0
             : value < 10  ? 2
             : value < 100 ? 1
                           : 0,
             value, units[unit]);
    return text;
}

const char *cli_text_count(uint64_t count, char text[32])
{
    char digits[32];
    int n = snprintf(digits, sizeof digits, "%llu", (unsigned long long)count), at = 0;
    for (int i = 0; i < n; i++) {
        if (i && (n - i) % 3 == 0) {
            text[at++] = ',';
        }
        text[at++] = digits[i];
    }
    text[at] = '\0';
    return text;
}

size_t cli_utf8_length(const char *at, size_t bytes)
{
    const unsigned char *text = (const unsigned char *)at;
    static const struct {
        unsigned char mask, lead, second_min, second_max;
        size_t length;
    } forms[] = {
        {0x80, 0x00, 0, 0, 1},       {0xe0, 0xc0, 0x80, 0xbf, 2}, {0xff, 0xe0, 0xa0, 0xbf, 3},
        {0xff, 0xed, 0x80, 0x9f, 3}, {0xf0, 0xe0, 0x80, 0xbf, 3}, {0xff, 0xf0, 0x90, 0xbf, 4},
        {0xff, 0xf4, 0x80, 0x8f, 4}, {0xf8, 0xf0, 0x80, 0xbf, 4},
    };
    for (size_t f = 0; f < sizeof forms / sizeof *forms; f++) {
        if ((text[0] & forms[f].mask) != forms[f].lead) {
            continue;
        }
        if (text[0] == 0xc0 || text[0] == 0xc1 || text[0] > 0xf4 || forms[f].length > bytes) {
            return 0;
        }
        for (size_t i = 1; i < forms[f].length; i++) {
            unsigned char min = i == 1 ? forms[f].second_min : 0x80;
            unsigned char max = i == 1 ? forms[f].second_max : 0xbf;
            if (text[i] < min || text[i] > max) {
                return 0;
            }
        }
        return forms[f].length;
    }
    return 0;
}

void cli_write_json(FILE *out, const char *text, size_t bytes)
{
    fputc('"', out);
    for (size_t i = 0; i < bytes;) {
        size_t length = cli_utf8_length(text + i, bytes - i);
        unsigned char c = (unsigned char)text[i];
        if (!length) {
            fputs("\\ufffd", out);
            i++;
            continue;
        }
        if (c == '"' || c == '\\') {
            fprintf(out, "\\%c", c);
        } else if (c < 0x20 || c == 0x7f) {
            fprintf(out, "\\u%04x", c);
        } else {
            fwrite(text + i, 1, length, out);
        }
        i += length;
    }
    fputc('"', out);
}
