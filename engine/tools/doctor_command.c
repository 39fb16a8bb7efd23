#include "command_priv.h"

#include <getopt.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include <tsr/exec/exec.h>
#include <tsr/model/model.h>
#include <tsr/tools/doctor.h>

#define SOCKET "/run/tessera/engine.sock"

static const char help[] =
    "tessera doctor [MODEL] [OPTIONS]: what of this machine holds the engine back, and the "
    "command\n"
    "that mends it\n"
    "\n"
    "With MODEL, a .gguf file or a Hugging Face directory, it counts the huge pages that the "
    "model\n"
    "needs and says which speed its memory allows.\n"
    "\n"
    "      --json         one JSON object\n"
    "      --no-measure   do not measure how fast memory is read (a third of a second, all CPUs)\n"
    "  -s, --socket PATH  the engine's door [$TESSERA_SOCKET, else " SOCKET "]\n"
    "\n"
    "Exits 0 where all is fine, 1 where something is to be mended. Changes nothing.\n";

static int plan(struct tsr_doctor_live *live, const char *path, struct tsr_err *err)
{
    struct tsr_model model;
    struct tsr_exec_plan plan;
    const struct tsr_exec_options options = {.rows_max = 512, .logit_rows_max = 64};
    int rc = tsr_model_open(&model, path, err);
    if (rc < 0) {
        return rc;
    }
    rc = tsr_exec_plan(&plan, &model, &options, err);
    tsr_model_close(&model);
    live->need_bytes = plan.need_bytes;
    live->weights_bytes = plan.weights_bytes;
    return rc;
}

static const char *const levels[] = {"fine", "note", "mend"};

static void write_json(const struct tsr_doctor *d)
{
    json_t *checks = json_array();
    for (uint32_t i = 0; i < d->n; i++) {
        const struct tsr_finding *f = &d->findings[i];
        json_t *check = json_pack("{s:s, s:s, s:s}", "name", f->name, "level", levels[f->level],
                                  "text", f->text);
        if (f->command[0]) {
            json_object_set_new(check, "command", json_string(f->command));
        }
        json_array_append_new(checks, check);
    }
    json_t *all = json_pack("{s:i, s:o}", "findings", (int)d->n_mend, "checks", checks);
    json_dumpf(all, stdout, JSON_INDENT(2));
    putchar('\n');
    json_decref(all);
}

static void write_text(const struct tsr_doctor *d)
{
    for (uint32_t i = 0; i < d->n; i++) {
        const struct tsr_finding *f = &d->findings[i];
        printf("%-5s %-22s ", f->level == TSR_FINDING_MEND ? "MEND" : levels[f->level], f->name);
        command_write_text(stdout, f->text, strlen(f->text));
        putchar('\n');
        if (f->command[0]) {
            printf("%28s %s\n", "", f->command);
        }
    }
    if (d->n_mend == 0) {
        puts("\nNothing is to be mended.");
    } else {
        printf("\n%u to be mended; the command stands below each.\n", d->n_mend);
    }
}

int command_doctor(int argc, char **argv)
{
    static const struct option options[] = {{"json", 0, NULL, 'j'},
                                            {"no-measure", 0, NULL, 'n'},
                                            {"socket", 1, NULL, 's'},
                                            {"help", 0, NULL, 'h'},
                                            {0}};
    static struct tsr_doctor doctor = {.root = ""};
    const char *socket = getenv("TESSERA_SOCKET");
    struct tsr_err err = {0};
    bool as_json = false, measures = true;
    doctor.live.socket = socket && socket[0] ? socket : SOCKET;
    for (int option; (option = getopt_long(argc, argv, "hs:", options, NULL)) != -1;) {
        switch (option) {
        case 'j':
            as_json = true;
            break;
        case 'n':
            measures = false;
            break;
        case 's':
            doctor.live.socket = optarg;
            break;
        case 'h':
            fputs(help, stdout);
            return COMMAND_DONE;
        default:
            return command_usage("doctor", "the command line was not understood");
        }
    }
    const char *model =
        argc > optind ? command_model("doctor", argc - optind, argv + optind) : NULL;
    if (argc > optind && !model) {
        return COMMAND_USAGE;
    }
    if (model && plan(&doctor.live, model, &err) < 0) {
        return command_fail(&err);
    }
    tsr_topology_read_at(doctor.root, &doctor.topology);
    tsr_doctor_live(&doctor.live, &doctor.topology, measures);
    tsr_doctor_look(&doctor);
    if (as_json) {
        write_json(&doctor);
    } else {
        write_text(&doctor);
    }
    return doctor.n_mend ? COMMAND_FAILED : COMMAND_DONE;
}
