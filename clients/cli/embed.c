#include <stdlib.h>

#include "cli_priv.h"

static const char help[] =
    "tessera embed [OPTIONS] [TEXT]: the embedding of a text as a JSON array of numbers, on one\n"
    "line. Its length is 1; how it is pooled is the model's.\n"
    "\n"
    "TEXT is all that remains of the command line; without it, or as \"-\", it is read from "
    "standard input.\n"
    "\n"
    "      --chat                 TEXT as a user's message, with all that the template adds\n"
    "      --no-bos               without the model's begin-of-text token\n"
    "      --special              special tokens spelled in TEXT are recognised\n"
    "\n";

enum { OPT_CHAT = CLI_OPT_OWN, OPT_NO_BOS, OPT_SPECIAL };

static int write_embedding(struct tessera *t, uint64_t id)
{
    struct tessera_event event;
    struct tessera_error err;
    for (;;) {
        int got = tessera_wait(t, &event, -1, &err);
        if (got < 0) {
            return cli_fail(&err);
        }
        if (got == 0 || event.id != id) {
            continue;
        }
        if (event.kind == TESSERA_EMBEDDING) {
            for (uint32_t i = 0; i < event.value_count; i++) {
                printf("%s%.9g", event.value_first + i ? ", " : "[", (double)event.values[i]);
            }
        } else if (event.kind == TESSERA_DONE && event.reason == TESSERA_EMBEDDED) {
            printf("]\n");
            return CLI_OK;
        } else if (event.kind == TESSERA_DONE || event.kind == TESSERA_FAILED) {
            fprintf(stderr, "tessera: %.*s\n", (int)event.text_bytes,
                    event.text_bytes ? event.text : "");
            return CLI_FAILED;
        }
    }
}

int cli_embed(int argc, char **argv)
{
    static const struct option options[] = {
        {"chat", no_argument, NULL, OPT_CHAT},
        {"no-bos", no_argument, NULL, OPT_NO_BOS},
        {"special", no_argument, NULL, OPT_SPECIAL},
        CLI_PLACE_OPTIONS,
        {0},
    };
    struct cli_place place = {0};
    struct tessera_options how;
    tessera_options_init(&how);
    bool chat = false;

    int option;
    while ((option = getopt_long(argc, argv, "hs:", options, NULL)) != -1) {
        int taken = cli_place_option(&place, option, optarg);
        if (taken < 0) {
            return CLI_USAGE;
        } else if (taken > 0) {
            continue;
        }
        switch (option) {
        case OPT_CHAT:
            chat = true;
            break;
        case OPT_NO_BOS:
            how.no_bos = 1;
            break;
        case OPT_SPECIAL:
            how.special = 1;
            break;
        case CLI_OPT_HELP:
            printf("%s%s", help, cli_place_help);
            return CLI_OK;
        default:
            return cli_usage("embed", "the command line was not understood");
        }
    }
    char *text;
    size_t bytes;
    if (!cli_read_text(argc - optind, argv + optind, &text, &bytes)) {
        return CLI_FAILED;
    }
    struct tessera *t;
    int result = cli_connect(&t, &place, TESSERA_WAIT_AUTO);
    if (result == CLI_OK) {
        struct tessera_error err;
        struct tessera_message message = {"user", text};
        uint64_t id = chat ? tessera_submit_embed_chat(t, &message, 1, &how, &err)
                           : tessera_submit_embed(t, text, bytes, &how, &err);
        result = id ? write_embedding(t, id) : cli_fail(&err);
        tessera_close(t);
    }
    free(text);
    return result;
}
