#include <errno.h>
#include <fcntl.h>
#include <langinfo.h>
#include <locale.h>
#include <string.h>
#include <unistd.h>

#include "cli_priv.h"

static const char help[] =
    "tessera: talk to a Tessera engine on this machine, and look at models\n"
    "\n"
    "    tessera generate [OPTIONS] [PROMPT]   one answer, as it comes\n"
    "    tessera chat [OPTIONS]                a conversation\n"
    "    tessera embed [OPTIONS] [TEXT]        its embedding, as a JSON array\n"
    "    tessera status [OPTIONS]              model, memory, threads, requests\n"
    "    tessera top [OPTIONS]                 the same, live, with rates\n"
    "    tessera bench [OPTIONS]               latency and throughput through the channel\n"
    "\n"
    "Without an engine, on a model's files:\n"
    "\n"
    "    tessera inspect MODEL [OPTIONS]       what it is and needs, and what is unsupported\n"
    "    tessera tokenize MODEL [OPTIONS]      standard input as token ids, and back\n"
    "    tessera template MODEL [OPTIONS]      a chat as the prompt that the model is given\n"
    "    tessera verify MODEL [OPTIONS]        holds it against expected results, or itself\n"
    "    tessera doctor [MODEL] [OPTIONS]      what of this machine holds the engine back\n"
    "\n"
    "tessera COMMAND --help says more. tessera --version prints the version.\n"
    "\n"
    "Exit codes: 0 done, 1 refused, failed or did not hold, 2 wrong command line,\n"
    "3 no engine to talk to, 4 the engine went away meanwhile, 130 interrupted.\n";

/* So that no file or socket takes the place of a standard stream that is closed; using the stream
 * still fails. */
static void open_standard(void)
{
    for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++) {
        if (fcntl(fd, F_GETFD) < 0) {
            open("/dev/null", fd == STDIN_FILENO ? O_WRONLY : O_RDONLY);
        }
    }
}

/* Text is UTF-8; libedit drops what the locale's character set has not. */
static void set_locale(void)
{
    setlocale(LC_CTYPE, "");
    if (strcmp(nl_langinfo(CODESET), "UTF-8") != 0) {
        setlocale(LC_CTYPE, "C.UTF-8");
    }
}

static int run(int argc, char **argv)
{
    static const struct {
        const char *name;
        int (*run)(int argc, char **argv);
    } commands[] = {
        {"generate", cli_generate},
        {"chat", cli_chat},
        {"tokenize", cli_tokenize_or_hand_over},
        {"embed", cli_embed},
        {"status", cli_status},
        {"top", cli_top},
        {"bench", cli_bench},
        {"inspect", cli_hand_over},
        {"template", cli_hand_over},
        {"verify", cli_hand_over},
        {"doctor", cli_hand_over},
    };

    if (argc < 2) {
        fputs(help, stderr);
        return CLI_USAGE;
    }
    if (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h") || !strcmp(argv[1], "help")) {
        fputs(help, stdout);
        return CLI_OK;
    }
    if (!strcmp(argv[1], "--version")) {
        puts("tessera " TESSERA_VERSION);
        return CLI_OK;
    }
    for (size_t i = 0; i < sizeof commands / sizeof *commands; i++) {
        if (!strcmp(argv[1], commands[i].name)) {
            return commands[i].run(argc - 1, argv + 1);
        }
    }
    fprintf(stderr, "tessera: there is no command '%s'; tessera --help lists them\n", argv[1]);
    return CLI_USAGE;
}

int main(int argc, char **argv)
{
    open_standard();
    set_locale();
    int code = run(argc, argv);
    if ((fflush(stdout) != 0 || ferror(stdout)) && code == CLI_OK) {
        fprintf(stderr, "tessera: the output cannot be written: %s\n", strerror(errno));
        code = CLI_FAILED;
    }
    return code;
}
