#include "command_priv.h"

#include <errno.h>
#include <getopt.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include <tsr/tools/language.h>

static const char help[] =
    "tessera tokenize MODEL [OPTIONS] < TEXT: the token ids of standard input\n"
    "tessera tokenize MODEL --decode [OPTIONS] < IDS: the text of ids\n"
    "\n"
    "MODEL is a .gguf file (metadata is enough) or a directory with tokenizer files. The text is\n"
    "taken byte for byte: a newline at its end is a newline. By default a token a line: its id,\n"
    "and its text in quotes; BOS and EOS where the tokenizer adds them, and special tokens "
    "spelled\n"
    "in the text recognised.\n"
    "\n"
    "      --plain    no BOS or EOS, and special tokens spelled in the text are text\n"
    "      --json     the ids as one JSON array\n"
    "      --decode   reads ids, as a JSON array or with blanks between them, and writes the "
    "bytes\n"
    "                 of their text, special tokens left out, without a newline of its own\n"
    "\n"
    "tessera tokenize --socket PATH [TEXT] asks a running engine instead; with --socket, --help\n"
    "tells of that.\n";

static int parse_json(const char *text, size_t len, uint32_t *ids, size_t max, size_t *n,
                      struct tsr_err *err)
{
    json_error_t where;
    json_t *list = json_loadb(text, len, 0, &where);
    int rc = 0;
    if (!list) {
        return tsr_err_set(err, -EINVAL, "the ids are no JSON: line %d, column %d: %s", where.line,
                           where.column, where.text);
    }
    *n = json_array_size(list); /* at most one for two bytes */
    for (size_t i = 0; i < *n && rc == 0 && i < max; i++) {
        const json_t *id = json_array_get(list, i);
        json_int_t value = json_integer_value(id);
        if (!json_is_integer(id) || value < 0 || value > UINT32_MAX) {
            rc = tsr_err_set(err, -EINVAL, "element %zu of the array is not a token id", i);
        } else {
            ids[i] = (uint32_t)value;
        }
    }
    json_decref(list);
    return rc;
}

static int parse_words(const char *text, uint32_t *ids, size_t *n, struct tsr_err *err)
{
    static const char blanks[] = " \t\r\n";
    for (text += strspn(text, blanks); *text; text += strspn(text, blanks)) {
        size_t digits = strspn(text, "0123456789"), word = strcspn(text, blanks);
        unsigned long long value = strtoull(text, NULL, 10);
        if (digits == 0 || digits != word || digits > 10 || value > UINT32_MAX) {
            return tsr_err_set(err, -EINVAL, "'%.*s' is not a token id",
                               (int)(word < 40 ? word : 40), text);
        }
        ids[(*n)++] = (uint32_t)value;
        text += word;
    }
    return 0;
}

static int parse_ids(const char *text, size_t len, uint32_t **ids, size_t *n, struct tsr_err *err)
{
    size_t max = len / 2 + 1; /* a digit and a blank or comma each */
    *n = 0;
    *ids = malloc(max * sizeof **ids);
    if (!*ids) {
        return tsr_err_set(err, -ENOMEM, "no memory for %zu ids", max);
    }
    if (memchr(text, '\0', len)) {
        return tsr_err_set(err, -EINVAL, "the ids hold a NUL byte");
    }
    if (text[strspn(text, " \t\r\n")] == '[') {
        return parse_json(text, len, *ids, max, n, err);
    }
    return parse_words(text, *ids, n, err);
}

static int decode(const struct tsr_language *language, const char *input, size_t len,
                  struct tsr_err *err)
{
    uint32_t *ids = NULL;
    size_t n = 0, bytes = 0;
    char *text = NULL;
    int rc = parse_ids(input, len, &ids, &n, err);
    rc = rc ? rc : tsr_language_decode(language, ids, n, true, &text, &bytes, err);
    if (rc == 0) {
        fwrite(text, 1, bytes, stdout);
    }
    free(text);
    free(ids);
    return rc;
}

static int encode(const struct tsr_language *language, const char *input, size_t len, bool plain,
                  bool json, struct tsr_err *err)
{
    const struct tsr_text_span span = {.text = input, .len = len, .trusted = !plain};
    const struct tsr_vocab *vocab = tsr_tokenizer_vocab(language->tokenizer);
    uint32_t *ids;
    size_t n;
    int rc = tsr_language_encode(language, &span, 1, plain ? 0 : TSR_ENCODE_ENDS, &ids, &n, err);
    if (rc < 0) {
        return rc;
    }
    if (json) {
        command_write_ids(ids, n);
    }
    for (size_t i = 0; i < n && !json; i++) {
        size_t bytes = 0;
        const char *text = tsr_vocab_text(vocab, ids[i], &bytes);
        printf("%8u  \"", ids[i]);
        command_write_text(stdout, text, bytes);
        puts("\"");
    }
    free(ids);
    return 0;
}

int command_tokenize(int argc, char **argv)
{
    static const struct option options[] = {{"plain", 0, NULL, 'p'},
                                            {"json", 0, NULL, 'j'},
                                            {"decode", 0, NULL, 'd'},
                                            {"help", 0, NULL, 'h'},
                                            {0}};
    bool plain = false, json = false, back = false;
    int option;
    while ((option = getopt_long(argc, argv, "h", options, NULL)) != -1) {
        switch (option) {
        case 'p':
            plain = true;
            break;
        case 'j':
            json = true;
            break;
        case 'd':
            back = true;
            break;
        case 'h':
            fputs(help, stdout);
            return COMMAND_DONE;
        default:
            return command_usage("tokenize", "the command line was not understood");
        }
    }
    const char *model = command_model("tokenize", argc - optind, argv + optind);
    if (!model) {
        return COMMAND_USAGE;
    }
    struct tsr_language language;
    struct tsr_err err = {0};
    char *input = NULL;
    size_t len = 0;
    int rc = tsr_language_open(&language, model, &err);
    rc = rc ? rc : command_read(stdin, "standard input", COMMAND_INPUT_MAX, &input, &len, &err);
    if (rc == 0) {
        rc = back ? decode(&language, input, len, &err)
                  : encode(&language, input, len, plain, json, &err);
    }
    free(input);
    tsr_language_close(&language);
    return rc < 0 ? command_fail(&err) : COMMAND_DONE;
}
