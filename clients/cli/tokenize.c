#include <stdlib.h>

#include "cli_priv.h"

static const char help[] =
    "tessera tokenize --socket PATH [OPTIONS] [TEXT]: the tokens of a text as the engine there "
    "cuts\n"
    "it, one a line: its id, and its text. tessera tokenize MODEL needs no engine, see\n"
    "tessera tokenize --help.\n"
    "\n"
    "TEXT is all that remains of the command line; without it, or as \"-\", it is read from "
    "standard input.\n"
    "\n"
    "      --chat                 TEXT as a user's message, with all that the template adds\n"
    "      --no-bos               without the model's begin-of-text token\n"
    "      --special              special tokens spelled in TEXT are recognised\n"
    "      --ids                  only the ids, on one line\n"
    "      --count                only how many there are\n"
    "\n";

enum { OPT_CHAT = CLI_OPT_OWN, OPT_NO_BOS, OPT_SPECIAL, OPT_IDS, OPT_COUNT };

enum form { FORM_LINES, FORM_IDS, FORM_COUNT };

/* A piece in double quotes, as C would spell it: a token may hold half a character, or steer a
 * terminal. */
static void write_piece(const struct tessera_piece *piece)
{
    printf("%8u  \"", piece->token);
    for (uint32_t i = 0; i < piece->text_bytes;) {
        const char *at = piece->text + i;
        unsigned char c = (unsigned char)*at;
        size_t length = cli_utf8_length(at, piece->text_bytes - i);
        bool is_control =
            c < 0x20 || c == 0x7f || (c == 0xc2 && length == 2 && (at[1] & 0xe0) == 0x80);
        if (c == '"' || c == '\\') {
            printf("\\%c", c);
        } else if (c == '\n' || c == '\t') {
            printf("\\%c", c == '\n' ? 'n' : 't');
        } else if (!length || is_control) {
            length = 1;
            printf("\\x%02x", c);
        } else {
            fwrite(at, 1, length, stdout);
        }
        i += (uint32_t)length;
    }
    printf("\"\n");
}

static int take_pieces(struct tessera *t, uint64_t id, enum form form)
{
    uint32_t total = 0;
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
        if (event.kind == TESSERA_TOKENS) {
            total = event.piece_total;
            for (uint32_t i = 0; i < event.piece_count; i++) {
                if (form == FORM_LINES) {
                    write_piece(&event.pieces[i]);
                } else if (form == FORM_IDS) {
                    printf("%s%u", event.piece_first + i ? " " : "", event.pieces[i].token);
                }
            }
        } else if (event.kind == TESSERA_FAILED ||
                   (event.kind == TESSERA_DONE && event.reason != TESSERA_TOKENIZED)) {
            fprintf(stderr, "tessera: %.*s\n", (int)event.text_bytes,
                    event.text_bytes ? event.text : "");
            return CLI_FAILED;
        } else if (event.kind == TESSERA_DONE) {
            break;
        }
    }
    if (form == FORM_IDS) {
        putchar('\n');
    } else if (form == FORM_COUNT) {
        printf("%u\n", total);
    }
    return CLI_OK;
}

int cli_tokenize(int argc, char **argv)
{
    static const struct option options[] = {
        {"chat", no_argument, NULL, OPT_CHAT},
        {"no-bos", no_argument, NULL, OPT_NO_BOS},
        {"special", no_argument, NULL, OPT_SPECIAL},
        {"ids", no_argument, NULL, OPT_IDS},
        {"count", no_argument, NULL, OPT_COUNT},
        CLI_PLACE_OPTIONS,
        {0},
    };
    struct cli_place place = {0};
    struct tessera_options how;
    tessera_options_init(&how);
    bool chat = false;
    enum form form = FORM_LINES;

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
        case OPT_IDS:
            form = FORM_IDS;
            break;
        case OPT_COUNT:
            form = FORM_COUNT;
            break;
        case CLI_OPT_HELP:
            printf("%s%s", help, cli_place_help);
            return CLI_OK;
        default:
            return cli_usage("tokenize", "the command line was not understood");
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
        uint64_t id = chat ? tessera_submit_tokenize_chat(t, &message, 1, &how, &err)
                           : tessera_submit_tokenize(t, text, bytes, &how, &err);
        result = id ? take_pieces(t, id, form) : cli_fail(&err);
        tessera_close(t);
    }
    free(text);
    return result;
}
