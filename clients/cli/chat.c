#include <errno.h>
#include <histedit.h>
#include <locale.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli_priv.h"

static const char help[] =
    "tessera chat [OPTIONS]: a conversation in the terminal\n"
    "\n"
    "Ctrl-C stops an answer, Ctrl-D leaves. A line that ends in \\ goes on with the next. Lines "
    "are kept in\n"
    "$XDG_STATE_HOME/tessera/history [~/.local/state/tessera/history]. /help lists the commands.\n"
    "Tokens are drawn with --temperature 0.7 --top-p 0.95 unless you say otherwise.\n"
    "\n"
    "      --system TEXT          the system's message at the beginning\n"
    "      --figures              tokens and times after each answer\n"
    "      --no-history           keep no lines\n"
    "\n";

static const char commands[] =
    "/new            forget the conversation and begin anew\n"
    "/retry          answer my last message again\n"
    "/system TEXT    begin anew with this system's message; without TEXT: none\n"
    "/figures        show tokens and times after each answer, or stop it\n"
    "/exit           leave (or Ctrl-D)\n"
    "Ctrl-C stops an answer. A line that ends in \\ goes on with the next.\n";

enum { OPT_SYSTEM = CLI_OPT_OWN, OPT_FIGURES, OPT_NO_HISTORY };

struct chat {
    struct tessera *t;
    struct cli_sampling sampling;
    struct tessera_message *messages; /* contents are ours; roles are constants */
    size_t count, capacity;
    bool figures;

    /* Line editing; el is NULL where standard input is no terminal. */
    EditLine *el;
    History *history;
    bool history_off;
    char history_path[1024]; /* "" where there is none */
    bool continues;          /* the next line belongs to the same message */
};

/* ---- The conversation ---- */

static bool say(struct chat *c, const char *role, const char *content)
{
    if (c->count == c->capacity) {
        size_t larger = c->capacity ? 2 * c->capacity : 16;
        struct tessera_message *moved = realloc(c->messages, larger * sizeof *moved);
        if (!moved) {
            return false;
        }
        c->messages = moved;
        c->capacity = larger;
    }
    char *copy = strdup(content);
    if (!copy) {
        return false;
    }
    c->messages[c->count++] = (struct tessera_message){.role = role, .content = copy};
    return true;
}

/* Forgets all messages from number `from` on. */
static void forget(struct chat *c, size_t from)
{
    while (c->count > from) {
        free((char *)(uintptr_t)c->messages[--c->count].content);
    }
}

static bool has_system(const struct chat *c)
{
    return c->count && !strcmp(c->messages[0].role, "system");
}

/* Asks for the next message of the assistant. */
static int answer(struct chat *c)
{
    struct tessera_error err;
    struct cli_answer a = {0};
    uint64_t submit_ns = cli_now_ns();
    uint64_t id = tessera_submit_chat(c->t, c->messages, c->count, &c->sampling.options, &err);
    if (!id) {
        forget(c, c->count - 1);
        return cli_fail(&err);
    }
    int result = cli_answer_stream(c->t, id, submit_ns, stdout, true, &a);
    if (result == CLI_INTERRUPTED) {
        printf("%s (stopped)%s", cli_style(stdout, CLI_DIM), cli_style(stdout, CLI_PLAIN));
    }
    bool has_answer = result == CLI_OK || (result == CLI_INTERRUPTED && a.text);
    if (has_answer) {
        printf("\n");
        say(c, "assistant", a.text ? a.text : "");
    } else {
        forget(c, c->count - 1); /* so that the conversation stays one that the template takes */
    }
    if (has_answer && c->figures) {
        char text[160];
        cli_answer_figures(&a, text, sizeof text);
        printf("%s%s%s\n", cli_style(stdout, CLI_DIM), text, cli_style(stdout, CLI_PLAIN));
    }
    printf("\n");
    free(a.text);
    return result;
}

/* ---- Line editing ---- */

static char *prompt(EditLine *el)
{
    struct chat *c;
    static char text[64];
    el_get(el, EL_CLIENTDATA, &c);
    /* libedit shows an escape sequence (between the \1s) with the character that follows it. */
    snprintf(text, sizeof text, "\1%s\1%s\1%s\1 ", cli_style(stdout, CLI_BOLD),
             c->continues ? "." : ">", cli_style(stdout, CLI_PLAIN));
    return text;
}

/* Ctrl-C in the line: throw it away. */
static unsigned char abandon_line(EditLine *el, int key)
{
    struct chat *c;
    (void)key;
    el_get(el, EL_CLIENTDATA, &c);
    const LineInfo *line = el_line(el);
    bool is_empty = line->lastchar == line->buffer && !c->continues;
    fputs(is_empty ? "^C (Ctrl-D leaves)\n" : "^C\n", stdout);
    el_cursor(el, (int)(line->lastchar - line->cursor));
    el_deletestr(el, (int)(line->lastchar - line->buffer));
    c->continues = false;
    return CC_REDISPLAY;
}

/* Makes the folders of path, as `mkdir -p` does. */
static bool make_folders(char *path)
{
    for (char *slash = path + 1; (slash = strchr(slash, '/')); slash++) {
        *slash = '\0';
        bool ok = mkdir(path, 0700) == 0 || errno == EEXIST;
        *slash = '/';
        if (!ok) {
            return false;
        }
    }
    return true;
}

static void find_history(struct chat *c)
{
    const char *state = getenv("XDG_STATE_HOME"), *home = getenv("HOME");
    int n = 0;
    if (state && *state == '/') {
        n = snprintf(c->history_path, sizeof c->history_path, "%s/tessera/history", state);
    } else if (home && *home == '/') {
        n = snprintf(c->history_path, sizeof c->history_path, "%s/.local/state/tessera/history",
                     home);
    }
    if (n <= 0 || (size_t)n >= sizeof c->history_path || !make_folders(c->history_path)) {
        c->history_path[0] = '\0';
    }
}

static void open_editor(struct chat *c)
{
    enum { HISTORY_LINES = 1000 };
    if (!isatty(STDIN_FILENO) || !isatty(STDOUT_FILENO)) {
        return;
    }
    c->el = el_init("tessera", stdin, stdout, stderr);
    if (!c->el) {
        return;
    }
    el_set(c->el, EL_CLIENTDATA, c);
    el_set(c->el, EL_EDITOR, "emacs");
    el_set(c->el, EL_PROMPT_ESC, prompt, '\1');
    el_set(c->el, EL_SETTY, "-d", "-isig", NULL); /* Ctrl-C is a key while a line is edited */
    el_set(c->el, EL_ADDFN, "abandon-line", "throw the line away", abandon_line);
    el_set(c->el, EL_BIND, "^C", "abandon-line", NULL);
    el_set(c->el, EL_BIND, "^R", "em-inc-search-prev", NULL);
    c->history = history_init();
    HistEvent event;
    if (c->history) {
        history(c->history, &event, H_SETSIZE, HISTORY_LINES);
        history(c->history, &event, H_SETUNIQUE, 1);
        el_set(c->el, EL_HIST, history, c->history);
        if (!c->history_off) {
            find_history(c);
        }
        if (c->history_path[0]) {
            history(c->history, &event, H_LOAD, c->history_path);
        }
    }
    el_source(c->el, NULL); /* the user's ~/.editrc */
}

static void close_editor(struct chat *c)
{
    HistEvent event;
    if (c->history && c->history_path[0]) {
        mode_t before = umask(077); /* what people ask is theirs */
        history(c->history, &event, H_SAVE, c->history_path);
        umask(before);
    }
    if (c->history) {
        history_end(c->history);
    }
    if (c->el) {
        el_end(c->el);
    }
}

/* One line without its newline, in memory that is the caller's to free; NULL at the end of input.
 */
static char *read_line(struct chat *c)
{
    if (!c->el) {
        char *line = NULL;
        size_t capacity = 0;
        cli_interrupts_release();
        ssize_t n = getline(&line, &capacity, stdin);
        cli_interrupts_catch();
        if (n < 0) {
            free(line);
            return NULL;
        }
        line[strcspn(line, "\n")] = '\0';
        return line;
    }
    int count;
    const char *line = el_gets(c->el, &count);
    if (!line || count <= 0) {
        return NULL;
    }
    HistEvent event;
    if (c->history && line[0] != '\n') {
        history(c->history, &event, H_ENTER, line);
    }
    return strndup(line, strcspn(line, "\n"));
}

/* A message: lines joined while they end in a backslash. */
static char *read_message(struct chat *c)
{
    char *message = NULL;
    size_t bytes = 0;
    c->continues = false;
    for (;;) {
        char *line = read_line(c);
        if (!line) {
            free(message);
            return NULL;
        }
        if (!c->continues) {
            bytes = 0; /* the first, or what came before was abandoned */
        }
        size_t n = strlen(line);
        bool more = n && line[n - 1] == '\\';
        char *joined = realloc(message, bytes + n + 2);
        if (!joined) {
            free(line);
            free(message);
            return NULL;
        }
        message = joined;
        memcpy(message + bytes, line, n + 1);
        free(line);
        if (!more) {
            return message;
        }
        bytes += n;
        message[bytes - 1] = '\n';
        c->continues = true;
    }
}

/* ---- Commands ---- */

enum turn { TURN_ASK, TURN_NONE, TURN_LEAVE };

static bool is_word(const char *text, size_t length, const char *word)
{
    return length == strlen(word) && !memcmp(text, word, length);
}

/* What to do with a message of the user: a command is done here. */
static enum turn take_message(struct chat *c, const char *message)
{
    if (!message[strspn(message, " \t\n")]) {
        return TURN_NONE;
    }
    if (*message != '/') {
        return say(c, "user", message) ? TURN_ASK : TURN_NONE;
    }
    size_t length = strcspn(message, " \t\n");
    const char *rest = message + length + strspn(message + length, " \t\n");
    if (is_word(message, length, "/exit") || is_word(message, length, "/quit")) {
        return TURN_LEAVE;
    } else if (is_word(message, length, "/new")) {
        forget(c, has_system(c));
        printf("A new conversation.\n\n");
    } else if (is_word(message, length, "/system")) {
        forget(c, 0);
        if (*rest) {
            say(c, "system", rest);
        }
        printf("A new conversation%s.\n\n", *rest ? ", with that system's message" : "");
    } else if (is_word(message, length, "/retry")) {
        if (c->count && !strcmp(c->messages[c->count - 1].role, "assistant")) {
            forget(c, c->count - 1);
            return TURN_ASK;
        }
        printf("There is no answer yet.\n\n");
    } else if (is_word(message, length, "/figures")) {
        c->figures = !c->figures;
        printf("Figures are %s.\n\n", c->figures ? "on" : "off");
    } else if (is_word(message, length, "/help")) {
        printf("%s\n", commands);
    } else {
        printf("There is no command %.*s; /help lists them. (A message that begins with / wants a "
               "blank "
               "before it.)\n\n",
               (int)length, message);
    }
    return TURN_NONE;
}

static int converse(struct chat *c)
{
    for (;;) {
        fflush(stdout);
        char *message = read_message(c);
        if (!message) {
            if (c->el) {
                printf("\n");
            }
            return CLI_OK;
        }
        enum turn turn = take_message(c, message);
        free(message);
        if (turn == TURN_LEAVE) {
            return CLI_OK;
        }
        int result = turn == TURN_ASK ? answer(c) : CLI_OK;
        /* A refusal ends no conversation, but a script should hear of it. */
        if (result == CLI_ENGINE_GONE || (result != CLI_OK && !c->el)) {
            return result;
        }
    }
}

int cli_chat(int argc, char **argv)
{
    static const struct option options[] = {
        {"system", required_argument, NULL, OPT_SYSTEM},
        {"figures", no_argument, NULL, OPT_FIGURES},
        {"no-history", no_argument, NULL, OPT_NO_HISTORY},
        CLI_PLACE_OPTIONS,
        CLI_SAMPLING_OPTIONS,
        {0},
    };
    static struct chat c;
    struct cli_place place = {0};
    const char *system = NULL;
    cli_sampling_init(&c.sampling);
    c.sampling.options.temperature = 0.7f;
    c.sampling.options.top_p = 0.95f;

    int option;
    while ((option = getopt_long(argc, argv, "hs:", options, NULL)) != -1) {
        int taken = cli_place_option(&place, option, optarg);
        taken = taken ? taken : cli_sampling_option(&c.sampling, option, optarg);
        if (taken < 0) {
            return CLI_USAGE;
        } else if (taken > 0) {
            continue;
        }
        switch (option) {
        case OPT_SYSTEM:
            system = optarg;
            break;
        case OPT_FIGURES:
            c.figures = true;
            break;
        case OPT_NO_HISTORY:
            c.history_off = true;
            break;
        case CLI_OPT_HELP:
            printf("%s%s\n%s", help, cli_sampling_help, cli_place_help);
            return CLI_OK;
        default:
            return cli_usage("chat", "the command line was not understood");
        }
    }
    if (optind < argc) {
        return cli_usage("chat", "'%s' was not expected (to ask one thing: tessera generate)",
                         argv[optind]);
    }

    cli_interrupts_catch();
    int result = cli_connect(&c.t, &place, TESSERA_WAIT_AUTO);
    if (result != CLI_OK) {
        return result;
    }
    struct tessera_info info;
    tessera_info(c.t, &info);
    if (!info.has_chat) {
        fprintf(stderr,
                "tessera: the model %s has no chat template; tessera generate --raw continues a "
                "text with it\n",
                info.model);
        tessera_close(c.t);
        return CLI_FAILED;
    }
    open_editor(&c);
    if (c.el) {
        printf("%s (%s). Ctrl-C stops an answer, Ctrl-D leaves, /help says more.\n\n", info.model,
               info.weights);
    }
    if (system) {
        say(&c, "system", system);
    }
    result = converse(&c);
    close_editor(&c);
    forget(&c, 0);
    free(c.messages);
    tessera_close(c.t);
    return result;
}
