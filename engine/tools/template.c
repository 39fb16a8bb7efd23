#include "command_priv.h"

#include <errno.h>
#include <getopt.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <tsr/tools/language.h>

static const char help[] =
    "tessera template MODEL [OPTIONS] < CONTEXT: a chat as the prompt that the model is given\n"
    "\n"
    "CONTEXT is JSON: an object whose members become the template's variables as they are\n"
    "(messages, tools, add_generation_prompt, ...), or an array, which stands for messages.\n"
    "bos_token and eos_token are the model's where CONTEXT has none. The prompt is written byte\n"
    "for byte, without a newline of its own.\n"
    "\n"
    "      --template FILE   this Jinja template instead of the model's own\n"
    "      --now TIME        what strftime_now() shows: ISO 8601, such as 2026-01-02T03:04:05,\n"
    "                        with Z or +02:00 if you like [now, UTC]\n"
    "      --ids             the prompt's token ids as a JSON array, special tokens recognised in\n"
    "                        what the template wrote and nowhere else\n";

/* [+-]HH[:]MM or Z; moves *text behind it. */
static bool parse_offset(const char **text, int32_t *seconds)
{
    const char *at = *text;
    int hours = 0, minutes = 0, length = 0;
    *seconds = 0;
    if (*at == '\0') {
        return true;
    }
    if (*at == 'Z' || *at == 'z') {
        *text += 1;
        return true;
    }
    if ((*at != '+' && *at != '-') || (sscanf(at + 1, "%2d:%2d%n", &hours, &minutes, &length) < 2 &&
                                       sscanf(at + 1, "%2d%2d%n", &hours, &minutes, &length) < 2)) {
        return false;
    }
    *seconds = (*at == '-' ? -60 : 60) * (60 * hours + minutes);
    *text = at + 1 + length;
    return hours >= 0 && hours < 24 && minutes >= 0 && minutes < 60;
}

/* ISO 8601: a date, or date and time with or without seconds, fraction and offset. */
static bool parse_now(const char *text, int64_t *now_s, int32_t *utc_offset_s)
{
    struct tm tm = {0};
    const char *at = strptime(text, "%Y-%m-%d", &tm);
    *utc_offset_s = 0;
    if (at && (*at == 'T' || *at == ' ')) {
        at = strptime(at + 1, "%H:%M", &tm);
        if (at && *at == ':') {
            at = strptime(at + 1, "%S", &tm);
        }
        if (at && (*at == '.' || *at == ',')) {
            size_t digits = strspn(at + 1, "0123456789");
            at = digits ? at + 1 + digits : NULL;
        }
        if (at && !parse_offset(&at, utc_offset_s)) {
            at = NULL;
        }
    }
    if (!at || *at) {
        return false;
    }
    struct tm same = tm;
    *now_s = (int64_t)timegm(&same) - *utc_offset_s;
    return same.tm_mday == tm.tm_mday && same.tm_mon == tm.tm_mon; /* no 31st of February */
}

static int read_template(const char *path, char **source, size_t *len, struct tsr_err *err)
{
    FILE *file = fopen(path, "rb");
    if (!file) {
        return tsr_err_set(err, -errno, "%s: cannot be opened: %s", path, strerror(errno));
    }
    int rc = command_read(file, path, TSR_TEMPLATE_SOURCE_MAX, source, len, err);
    fclose(file);
    return rc;
}

static int write_ids(const struct tsr_language *language, const struct tsr_prompt *prompt,
                     struct tsr_err *err)
{
    uint32_t *ids;
    size_t n;
    int rc = tsr_language_encode(language, prompt->output.spans, prompt->output.n_spans, 0, &ids,
                                 &n, err);
    if (rc == 0) {
        command_write_ids(ids, n);
        free(ids);
    }
    return rc;
}

struct task {
    const char *file; /* NULL: the model's own template */
    bool ids;
    int64_t now_s;
    int32_t utc_offset_s;
};

static int run(const struct task *task, const char *model, struct tsr_err *err)
{
    struct tsr_language language;
    struct tsr_prompt prompt = {0};
    char *source = NULL, *json = NULL;
    size_t source_len = 0, len = 0;
    int rc = tsr_language_open(&language, model, err);
    if (rc == 0 && task->file) {
        rc = read_template(task->file, &source, &source_len, err);
    }
    rc = rc ? rc : command_read(stdin, "standard input", COMMAND_INPUT_MAX, &json, &len, err);
    if (rc == 0) {
        rc = tsr_language_render(&language, source, source_len, json, len, task->now_s,
                                 task->utc_offset_s, &prompt, err);
    }
    if (rc == 0 && task->ids) {
        rc = write_ids(&language, &prompt, err);
    } else if (rc == 0) {
        fwrite(prompt.output.text, 1, prompt.output.len, stdout);
    }
    tsr_prompt_fini(&prompt);
    free(source);
    free(json);
    tsr_language_close(&language);
    return rc;
}

int command_template(int argc, char **argv)
{
    static const struct option options[] = {{"template", 1, NULL, 't'},
                                            {"now", 1, NULL, 'n'},
                                            {"ids", 0, NULL, 'i'},
                                            {"help", 0, NULL, 'h'},
                                            {0}};
    struct task task = {.now_s = (int64_t)time(NULL)};
    int option;
    while ((option = getopt_long(argc, argv, "h", options, NULL)) != -1) {
        switch (option) {
        case 't':
            task.file = optarg;
            break;
        case 'n':
            if (!parse_now(optarg, &task.now_s, &task.utc_offset_s)) {
                return command_usage(
                    "template", "--now wants a time like 2026-01-02T03:04:05, not '%s'", optarg);
            }
            break;
        case 'i':
            task.ids = true;
            break;
        case 'h':
            fputs(help, stdout);
            return COMMAND_DONE;
        default:
            return command_usage("template", "the command line was not understood");
        }
    }
    const char *model = command_model("template", argc - optind, argv + optind);
    struct tsr_err err = {0};
    if (!model) {
        return COMMAND_USAGE;
    }
    return run(&task, model, &err) < 0 ? command_fail(&err) : COMMAND_DONE;
}
