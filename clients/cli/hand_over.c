#include <errno.h>
#include <libgen.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli_priv.h"

static const char program[] = "tessera-model";

/* The folder of this program's file, without a slash at its end; false where it is unknown. */
static bool own_folder(char folder[static PATH_MAX])
{
    char file[PATH_MAX];
    ssize_t n = readlink("/proc/self/exe", file, sizeof file - 1);
    if (n <= 0) {
        return false;
    }
    file[n] = '\0';
    strcpy(folder, dirname(file));
    return true;
}

static void try(const char *folder, const char *below, char **argv)
{
    char path[2 * PATH_MAX];
    snprintf(path, sizeof path, "%s/%s%s", folder, below, program);
    execv(path, argv);
}

int cli_hand_over(int argc, char **argv)
{
    static const char in_tree[] = "/clients/cli";
    char folder[PATH_MAX] = "";
    char **args = calloc((size_t)argc + 2, sizeof *args);
    if (!args || !own_folder(folder)) {
        fprintf(stderr, "tessera: cannot find its own folder (is /proc mounted?)\n");
        free(args);
        return CLI_FAILED;
    }
    args[0] = (char *)program;
    memcpy(args + 1, argv, (size_t)argc * sizeof *argv);
    try(folder, "", args);
    try(folder, TESSERA_LIBEXEC "/", args);
    size_t length = strlen(folder), tail = sizeof in_tree - 1;
    if (length > tail && strcmp(folder + length - tail, in_tree) == 0) {
        try(folder, "../../engine/tools/", args);
    }
    fprintf(stderr,
            "tessera: %s needs the program %s, which cannot be run from %s or %s/%s (%s); it "
            "belongs to the engine's package\n",
            argv[0], program, folder, folder, TESSERA_LIBEXEC, strerror(errno));
    free(args);
    return CLI_FAILED;
}

int cli_tokenize_or_hand_over(int argc, char **argv)
{
    for (int i = 1; i < argc && strcmp(argv[i], "--") != 0; i++) {
        if (!strncmp(argv[i], "--socket", 8) || !strncmp(argv[i], "-s", 2)) {
            return cli_tokenize(argc, argv);
        }
    }
    return cli_hand_over(argc, argv);
}
