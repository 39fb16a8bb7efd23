#include "command_priv.h"

#include <getopt.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include <tsr/exec/exec.h>
#include <tsr/model/model.h>
#include <tsr/tools/doctor.h>

#define SOCKET "/run/tessera/engine.sock"

enum { QUEUES_MAX = 16 };

static const char help[] =
    "tessera doctor [MODEL] [OPTIONS]: what of this machine holds the engine back, or a port of\n"
    "tessera-bypass, and the command that mends it\n"
    "\n"
    "With MODEL, a .gguf file or a Hugging Face directory, it counts the huge pages that the "
    "model\n"
    "needs and says which speed its memory allows.\n"
    "\n"
    "      --json            one JSON object\n"
    "      --no-measure      do not measure how fast memory is read (a third of a second, all "
    "CPUs)\n"
    "  -s, --socket PATH     the engine's door [$TESSERA_SOCKET, else " SOCKET "]\n"
    "\n"
    "Of a port alone; these are given as to tessera-bypass:\n"
    "      --device DEVICE   a PCI address, or a driver of DPDK with its arguments, as\n"
    "                        net_af_xdp0,iface=eth1\n"
    "      --listen ADDRESS  as 192.0.2.2/24:443 or [2001:db8::2/64]:443; may be repeated\n"
    "      --queues N        [1]\n"
    "      --no-huge         without huge pages\n"
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

struct asked {
    bool as_json, measures;
};

/* COMMAND_DONE, or how to leave with what was said. */
static int read_option(struct tsr_doctor *d, struct asked *asked, int option)
{
    struct tsr_doctor_port *port = &d->port;
    switch (option) {
    case 'j':
        asked->as_json = true;
        return COMMAND_DONE;
    case 'n':
        asked->measures = false;
        return COMMAND_DONE;
    case 's':
        d->live.socket = optarg;
        return COMMAND_DONE;
    case 'd':
        port->device = optarg;
        return COMMAND_DONE;
    case 'l':
        if (port->n_listen == TSR_DOCTOR_LISTEN_MAX) {
            return command_usage("doctor", "--listen: at most 8 are wanted");
        }
        port->listen[port->n_listen++] = optarg;
        return COMMAND_DONE;
    case 'q':
        port->queues = (uint32_t)strtoul(optarg, NULL, 10);
        return port->queues >= 1 && port->queues <= QUEUES_MAX
                   ? COMMAND_DONE
                   : command_usage("doctor", "--queues takes a number from 1 to 16");
    case 'o':
        port->no_huge = true;
        return COMMAND_DONE;
    default:
        return command_usage("doctor", "the command line was not understood");
    }
}

static int read_model(struct tsr_doctor *d, int argc, char **argv)
{
    struct tsr_err err = {0};
    const char *model = command_model("doctor", argc, argv);
    if (!model) {
        return COMMAND_USAGE;
    }
    return plan(&d->live, model, &err) < 0 ? command_fail(&err) : COMMAND_DONE;
}

static int check_port(const struct tsr_doctor_port *port, bool has_model)
{
    if (port->device && has_model) {
        return command_usage("doctor",
                             "a port is looked at alone: MODEL does not go with --device");
    }
    if (!port->device && (port->n_listen || port->queues || port->no_huge)) {
        return command_usage("doctor", "--listen, --queues and --no-huge go with --device");
    }
    return COMMAND_DONE;
}

int command_doctor(int argc, char **argv)
{
    static const struct option options[] = {
        {"json", 0, NULL, 'j'},    {"no-measure", 0, NULL, 'n'}, {"socket", 1, NULL, 's'},
        {"device", 1, NULL, 'd'},  {"listen", 1, NULL, 'l'},     {"queues", 1, NULL, 'q'},
        {"no-huge", 0, NULL, 'o'}, {"help", 0, NULL, 'h'},       {0}};
    static struct tsr_doctor doctor = {.root = ""};
    struct asked asked = {.measures = true};
    const char *socket = getenv("TESSERA_SOCKET");
    doctor.live.socket = socket && socket[0] ? socket : SOCKET;
    int rc = COMMAND_DONE;
    for (int option; (option = getopt_long(argc, argv, "hs:", options, NULL)) != -1;) {
        if (option == 'h') {
            fputs(help, stdout);
            return COMMAND_DONE;
        }
        rc = read_option(&doctor, &asked, option);
        if (rc != COMMAND_DONE) {
            return rc;
        }
    }
    rc = check_port(&doctor.port, argc > optind);
    if (rc == COMMAND_DONE && argc > optind) {
        rc = read_model(&doctor, argc - optind, argv + optind);
    }
    if (rc != COMMAND_DONE) {
        return rc;
    }
    tsr_topology_read_at(doctor.root, &doctor.topology);
    tsr_doctor_live(&doctor.live, &doctor.topology, asked.measures && !doctor.port.device);
    if (doctor.port.device) {
        doctor.port.queues = doctor.port.queues ? doctor.port.queues : 1;
        tsr_doctor_port_live(&doctor.port, doctor.root);
    }
    tsr_doctor_look(&doctor);
    if (asked.as_json) {
        write_json(&doctor);
    } else {
        write_text(&doctor);
    }
    return doctor.n_mend ? COMMAND_FAILED : COMMAND_DONE;
}
