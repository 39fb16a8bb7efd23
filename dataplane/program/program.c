#include <tsr/program/program.h>

#include <libgen.h>
#include <stdio.h>
#include <unistd.h>

#include <tsr/daemon/start.h>
#include <tsr/shm/log.h>

enum { NOTES_BYTES = 256 };

static int noted(int rc, const char *notes)
{
    if (rc == 0 && notes[0]) {
        tsr_log(TSR_LOG_WARN, "%s", notes);
    }
    return rc;
}

static int give_up_files(const struct tsr_program_options *o, const char *socket,
                         struct tsr_err *err)
{
    char copy[512], notes[NOTES_BYTES] = "";
    struct tsr_harden_files files = {
        .read = {"/proc/self", "/sys/devices/system"},
        .replaced = {o->certificate, o->key, o->client_ca, o->api.keys_path},
    };
    if (socket) {
        snprintf(copy, sizeof copy, "%s", socket);
        files.socket_dir = dirname(copy);
    }
    return noted(tsr_harden_files(&files, notes, sizeof notes, err), notes);
}

int tsr_program_give_up_rights(const struct tsr_program *p, const char *socket, struct tsr_err *err)
{
    if (geteuid() == 0 && p->user.uid == 0) {
        tsr_log(TSR_LOG_WARN, "the door stays root, as --user says");
    }
    int rc = tsr_harden_identity(&p->user, err);
    return rc || p->options->no_sandbox ? rc : give_up_files(p->options, socket, err);
}

int tsr_program_give_up_calls(const struct tsr_program *p, const char *const *calls,
                              struct tsr_err *err)
{
    char notes[NOTES_BYTES] = "";
    return p->options->no_sandbox ? 0
                                  : noted(tsr_harden_calls(calls, notes, sizeof notes, err), notes);
}

int tsr_program_open(struct tsr_program *p, int another, struct tsr_err *err)
{
    int rc = tsr_harden_find_user(&p->user, p->options->user, err);
    if (rc < 0 || p->options->action == TSR_PROGRAM_CHECK) {
        return rc;
    }
    p->signals = tsr_start_signals(another, err);
    return p->signals < 0 ? p->signals : tsr_notify_open(&p->notify, err);
}

void tsr_program_describe(const struct tsr_program *p, const char *memory)
{
    const struct tsr_api_options *api = &p->options->api;
    if (p->options->quiet) {
        return;
    }
    fprintf(stderr, "engines   ");
    for (uint32_t i = 0; i < api->n_engines; i++) {
        fprintf(stderr, "%s%s", i ? ", " : "", api->engines[i]);
    }
    fprintf(stderr, "\nkeys      %s\nmemory    %s\n",
            api->keys_path ? api->keys_path : "none: for clients of this machine only", memory);
}

void tsr_program_ready(const struct tsr_program *p, const char *what, const char *address)
{
    printf("ready\n");
    if (fflush(stdout) != 0) {
        tsr_log(TSR_LOG_WARN, "nobody reads stdout");
    }
    tsr_notify_say(&p->notify, "READY=1\nSTATUS=serving %sat %s", what, address);
}

static int fail(const struct tsr_program *p, int status, const struct tsr_err *err)
{
    fprintf(stderr, "%s: %s\n", p->name, err->text);
    return status;
}

int tsr_program_main(struct tsr_program *p, int argc, char **argv)
{
    struct tsr_err err = {0};
    p->notify.fd = -1;
    tsr_start_standard();
    if (p->parse(p, argc, argv, &err) < 0) {
        return fail(p, 2, &err);
    }
    if (p->options->action == TSR_PROGRAM_HELP) {
        tsr_daemon_config_help(&p->options->config, stdout);
        return 0;
    }
    if (p->options->action == TSR_PROGRAM_VERSION) {
        printf("%s " TSR_VERSION "\n", p->name);
        return 0;
    }
    int rc = p->run(p, &err);
    p->end(p);
    tsr_notify_close(&p->notify);
    tsr_daemon_config_free(&p->options->config);
    return rc < 0 ? fail(p, 1, &err) : 0;
}
