#include <locale.h>
#include <string.h>

#include "cli_priv.h"

static const char help[] =
    "tessera: talk to a Tessera engine on this machine\n"
    "\n"
    "    tessera generate [OPTIONS] [PROMPT]   one answer, as it comes\n"
    "    tessera chat [OPTIONS]                a conversation\n"
    "    tessera tokenize [OPTIONS] [TEXT]     the tokens of a text\n"
    "    tessera status [OPTIONS]              model, memory, threads, requests\n"
    "    tessera bench [OPTIONS]               latency and throughput through the channel\n"
    "\n"
    "tessera COMMAND --help says more. tessera --version prints the version.\n"
    "\n"
    "Exit codes: 0 done, 1 the engine refused or failed the request, 2 wrong command line,\n"
    "3 no engine to talk to, 4 the engine went away meanwhile, 130 interrupted.\n";

int main(int argc, char **argv)
{
    static const struct {
        const char *name;
        int (*run)(int argc, char **argv);
    } commands[] = {
        {"generate", cli_generate}, {"chat", cli_chat},   {"tokenize", cli_tokenize},
        {"status", cli_status},     {"bench", cli_bench},
    };

    setlocale(LC_CTYPE, "");
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
