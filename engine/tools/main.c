/* tessera-model: what can be said of a model's files, and of the machine, without an engine.
 * `tessera` hands its subcommands over to it. */
#include "command_priv.h"

#include <errno.h>
#include <locale.h>
#include <string.h>

static const char help[] =
    "tessera-model: a model's files looked at and tried out, without an engine\n"
    "\n"
    "    tessera inspect MODEL      what a model is, what it needs, what is unsupported\n"
    "    tessera tokenize MODEL     standard input as token ids, and back\n"
    "    tessera template MODEL     a chat as the prompt that the model's template makes of it\n"
    "    tessera verify MODEL       runs a model against expected results, or against itself\n"
    "    tessera doctor [MODEL]     what of this machine holds the engine back\n"
    "\n"
    "MODEL is a .gguf file or a Hugging Face directory. tessera COMMAND --help says more.\n"
    "\n"
    "Exit codes: 0 done, 1 it could not be done or did not hold, 2 wrong command line.\n";

int main(int argc, char **argv)
{
    static const struct {
        const char *name;
        int (*run)(int argc, char **argv);
    } commands[] = {
        {"inspect", command_inspect},   {"tokenize", command_tokenize},
        {"template", command_template}, {"verify", command_verify},
        {"doctor", command_doctor},
    };
    setlocale(LC_CTYPE, "");
    if (argc < 2) {
        fputs(help, stderr);
        return COMMAND_USAGE;
    }
    if (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h")) {
        fputs(help, stdout);
        return COMMAND_DONE;
    }
    if (!strcmp(argv[1], "--version")) {
        puts("tessera-model " TSR_VERSION);
        return COMMAND_DONE;
    }
    for (size_t i = 0; i < sizeof commands / sizeof *commands; i++) {
        if (strcmp(argv[1], commands[i].name) != 0) {
            continue;
        }
        int code = commands[i].run(argc - 1, argv + 1);
        if (fflush(stdout) != 0 || ferror(stdout)) {
            fprintf(stderr, "tessera: the output cannot be written: %s\n", strerror(errno));
            code = code ? code : COMMAND_FAILED;
        }
        return code;
    }
    fprintf(stderr, "tessera-model: there is no command '%s'; --help lists them\n", argv[1]);
    return COMMAND_USAGE;
}
