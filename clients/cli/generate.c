#include <stdlib.h>
#include <string.h>

#include "cli_priv.h"

static const char help[] =
    "tessera generate [OPTIONS] [PROMPT]: one answer, written as it comes\n"
    "\n"
    "PROMPT is all that remains of the command line; without it, or as \"-\", it is read from "
    "standard\n"
    "input. Where the model has a chat template, PROMPT is asked as a user's message.\n"
    "\n"
    "      --raw                  continue PROMPT as it is, without the template\n"
    "      --special              with --raw: special tokens spelled in PROMPT are recognised\n"
    "      --system TEXT          the system's message before the user's\n"
    "      --ignore-end           go on where the model would end (for measurements)\n"
    "      --json                 one JSON object with the answer and its figures, at the end\n"
    "      --figures              the figures on standard error, after the answer\n"
    "\n";

enum { OPT_RAW = CLI_OPT_OWN, OPT_SPECIAL, OPT_SYSTEM, OPT_IGNORE_END, OPT_JSON, OPT_FIGURES };

static void write_object(const struct cli_answer *a)
{
    printf("{\"text\":");
    cli_write_json(stdout, a->text ? a->text : "", a->text_bytes);
    printf(",\"reason\":\"%s\",\"prompt_tokens\":%u,\"tokens\":%u,\"seed\":%llu,"
           "\"first_token_seconds\":%.6f,\"seconds\":%.6f}\n",
           tessera_reason_name(a->reason), a->prompt_tokens, a->tokens, (unsigned long long)a->seed,
           (double)a->first_ns / 1e9, (double)a->total_ns / 1e9);
}

int cli_generate(int argc, char **argv)
{
    static const struct option options[] = {
        {"raw", no_argument, NULL, OPT_RAW},
        {"special", no_argument, NULL, OPT_SPECIAL},
        {"system", required_argument, NULL, OPT_SYSTEM},
        {"ignore-end", no_argument, NULL, OPT_IGNORE_END},
        {"json", no_argument, NULL, OPT_JSON},
        {"figures", no_argument, NULL, OPT_FIGURES},
        CLI_PLACE_OPTIONS,
        CLI_SAMPLING_OPTIONS,
        {0},
    };
    static struct cli_sampling sampling;
    struct cli_place place = {0};
    const char *system = NULL;
    bool raw = false, json = false, figures = false;
    cli_sampling_init(&sampling);

    int option;
    while ((option = getopt_long(argc, argv, "hs:", options, NULL)) != -1) {
        int taken = cli_place_option(&place, option, optarg);
        taken = taken ? taken : cli_sampling_option(&sampling, option, optarg);
        if (taken < 0) {
            return CLI_USAGE;
        } else if (taken > 0) {
            continue;
        }
        switch (option) {
        case OPT_RAW:
            raw = true;
            break;
        case OPT_SPECIAL:
            sampling.options.special = 1;
            break;
        case OPT_SYSTEM:
            system = optarg;
            break;
        case OPT_IGNORE_END:
            sampling.options.ignore_end = 1;
            break;
        case OPT_JSON:
            json = true;
            break;
        case OPT_FIGURES:
            figures = true;
            break;
        case CLI_OPT_HELP:
            printf("%s%s\n%s", help, cli_sampling_help, cli_place_help);
            return CLI_OK;
        default:
            return cli_usage("generate", "the command line was not understood");
        }
    }
    if (raw && system) {
        return cli_usage("generate", "--system needs the template that --raw leaves out");
    }
    char *prompt;
    size_t prompt_bytes;
    if (!cli_read_text(argc - optind, argv + optind, &prompt, &prompt_bytes)) {
        return CLI_FAILED;
    }

    cli_interrupts_catch();
    struct tessera *t;
    struct cli_answer answer = {0};
    int result = cli_connect(&t, &place, TESSERA_WAIT_AUTO);
    if (result != CLI_OK) {
        free(prompt);
        return result;
    }
    struct tessera_info info;
    tessera_info(t, &info);
    struct tessera_error err;
    struct tessera_message messages[2];
    size_t n = 0;
    if (system) {
        messages[n++] = (struct tessera_message){"system", system};
    }
    messages[n++] = (struct tessera_message){"user", prompt};

    uint64_t submit_ns = cli_now_ns();
    uint64_t id;
    if (raw || (!info.has_chat && !system)) {
        id = tessera_submit_text(t, prompt, prompt_bytes, &sampling.options, &err);
    } else if (strlen(prompt) != prompt_bytes) {
        fprintf(stderr, "tessera: the message holds a NUL byte; --raw passes it on\n");
        result = CLI_FAILED;
        goto done;
    } else {
        id = tessera_submit_chat(t, messages, n, &sampling.options, &err);
    }
    if (!id) {
        result = cli_fail(&err);
        goto done;
    }
    result = cli_answer_stream(t, id, submit_ns, json ? NULL : stdout, json, &answer);
    if (json && (result == CLI_OK || answer.text)) {
        write_object(&answer);
    } else if (!json && (result == CLI_OK || answer.first_ns)) {
        putchar('\n');
    }
    if (figures) {
        char text[160];
        cli_answer_figures(&answer, text, sizeof text);
        fflush(stdout);
        fprintf(stderr, "%s\n", text);
    }
done:
    free(answer.text);
    free(prompt);
    tessera_close(t);
    return result;
}
