#include <tsr/program/options.h>

#include <errno.h>

#include <tsr/web/page.h>

void tsr_program_options_init(struct tsr_program_options *o, const struct tsr_daemon_option *rows,
                              const char *file, const char *head)
{
    *o = (struct tsr_program_options){
        .drain_s = 20,
        .config = {.options = rows, .file = file, .head = head, .ctx = o},
    };
    o->config.tail = "SIZE takes K, M, G. SIGTERM ends it when answers under way are whole, SIGHUP "
                     "reads keys\nand certificates again.\n";
    tsr_api_options_init(&o->api);
    o->api.page = (struct tsr_api_text){(const char *)tsr_web_page, tsr_web_page_bytes};
    o->api.page_policy = tsr_web_policy;
    o->api.hosts = o->hosts;
    o->api.origins = o->origins;
}

int tsr_program_options_read(struct tsr_program_options *o, int argc, char **argv,
                             struct tsr_err *err)
{
    int rc = tsr_daemon_config_read(&o->config, argc, argv, err);
    if (rc == 0 && o->api.n_engines == 0) {
        o->api.engines[o->api.n_engines++] = TSR_PROGRAM_ENGINE;
    }
    return rc;
}

int tsr_program_options_check(const struct tsr_program_options *o, const char *address,
                              bool is_loopback, const char *otherwise, struct tsr_err *err)
{
    if (o->api.keys_path || is_loopback) {
        return 0;
    }
    return tsr_err_set(err, -EINVAL,
                       "%s is open to other machines, and without keys anyone there may ask: give "
                       "--keys FILE%s",
                       address, otherwise);
}
