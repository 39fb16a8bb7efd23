#include "command_priv.h"

#include <getopt.h>
#include <string.h>

#include "describe_priv.h"

static const char help[] =
    "tessera inspect MODEL [OPTIONS]: what a model is, what it needs, and what is unsupported\n"
    "\n"
    "MODEL is a .gguf file (metadata is enough) or a Hugging Face directory. Memory is planned "
    "for\n"
    "this machine as the engine would: weights as they are packed, KV cache, buffers.\n"
    "\n"
    "      --json      one JSON object\n"
    "      --tensors   the tensors too\n"
    "\n"
    "Exits 0 where the files could be described, even if the model cannot be run; 1 where they "
    "are\n"
    "broken.\n";

int command_inspect(int argc, char **argv)
{
    static const struct option options[] = {
        {"json", 0, NULL, 'j'}, {"tensors", 0, NULL, 't'}, {"help", 0, NULL, 'h'}, {0}};
    bool as_json = false, tensors = false;
    int option;
    while ((option = getopt_long(argc, argv, "h", options, NULL)) != -1) {
        switch (option) {
        case 'j':
            as_json = true;
            break;
        case 't':
            tensors = true;
            break;
        case 'h':
            fputs(help, stdout);
            return COMMAND_DONE;
        default:
            return command_usage("inspect", "the command line was not understood");
        }
    }
    const char *model = command_model("inspect", argc - optind, argv + optind);
    if (!model) {
        return COMMAND_USAGE;
    }
    struct tsr_err err = {0};
    json_t *facts = json_object();
    int rc = tsr_describe(facts, model, tensors, &err);
    if (json_object_size(facts) > 0 && as_json) {
        json_dumpf(facts, stdout, JSON_INDENT(2) | JSON_REAL_PRECISION(9));
        putchar('\n');
    } else if (json_object_size(facts) > 0) {
        tsr_describe_print(stdout, facts);
    }
    json_decref(facts);
    return rc < 0 ? command_fail(&err) : COMMAND_DONE;
}
