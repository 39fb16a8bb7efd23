/* A GGUF states how embeddings are pooled as {arch}.pooling_type (llama.cpp's gguf-py,
 * constants.py, PoolingType); a directory does as sentence-transformers' models do: modules.json
 * lists what is done with a text, 1_Pooling/config.json has a bool for each way
 * (sentence_transformers/models). */
#include "pooling_priv.h"

#include "json_priv.h"
#include "source_priv.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { FILE_BYTES_MAX = 1 << 20, VALUES_MAX = 1000 };

#define POOLING_DIR "1_Pooling"

__attribute__((format(printf, 2, 3))) static int refuse(struct tsr_source *source,
                                                        const char *format, ...)
{
    va_list args;
    source->pooling = TSR_POOLING_NONE;
    va_start(args, format);
    vsnprintf(source->pooling_refusal, sizeof source->pooling_refusal, format, args);
    va_end(args);
    for (char *c = source->pooling_refusal; *c; c++) { /* it may quote a file */
        *c = *c < 0x20 || *c > 0x7e ? '?' : *c;
    }
    return 0;
}

static int read_gguf(struct tsr_source *source, struct tsr_err *err)
{
    const uint32_t last = TSR_POOLING_LAST;
    uint32_t type;
    int rc = tsr_config_u32(source->config, "pooling_type", 0, INT32_MAX, &last, &type, err);
    if (rc < 0) {
        return rc;
    }
    if (type < TSR_POOLING_MEAN || type > TSR_POOLING_LAST) {
        return refuse(source,
                      "no embeddings of this model: its pooling_type is %u, and only 1 (mean), 2 "
                      "(cls) and 3 (last) are supported",
                      type);
    }
    source->pooling = (enum tsr_pooling)type;
    return 0;
}

/* A JSON file of the directory; *json NULL where there is none. */
static int open_json(json_t **json, const char *directory, const char *name, bool is_array,
                     struct tsr_err *err)
{
    char path[PATH_MAX];
    struct tsr_map map;
    *json = NULL;
    int rc = tsr_source_join(path, directory, name, err);
    if (rc < 0 || access(path, F_OK) < 0) {
        return rc;
    }
    rc = tsr_source_map(&map, path, FILE_BYTES_MAX, err);
    if (rc < 0) {
        return rc;
    }
    rc = (is_array ? tsr_json_array : tsr_json_object)(json, (const char *)map.data, map.size,
                                                       VALUES_MAX, err);
    tsr_map_close(&map);
    if (rc < 0) {
        tsr_err_prefix(err, "%s", path);
    }
    return rc;
}

/* Whether the list is a model, its pooling and perhaps its normalizing; else it says why not. */
static bool are_modules_known(struct tsr_source *source, const json_t *modules)
{
    bool pools = false;
    size_t i;
    json_t *module;
    json_array_foreach(modules, i, module)
    {
        const char *type = json_string_value(json_object_get(module, "type"));
        const char *path = json_string_value(json_object_get(module, "path"));
        const char *dot = type ? strrchr(type, '.') : NULL;
        const char *name = dot ? dot + 1 : type ? type : "(none)";
        if (strcmp(name, "Pooling") == 0 && path && strcmp(path, POOLING_DIR) == 0) {
            pools = true;
        } else if (strcmp(name, "Transformer") != 0 && strcmp(name, "Normalize") != 0) {
            refuse(source,
                   "no embeddings of this model: modules.json has a module '%.40s' at '%.40s', "
                   "which is not supported",
                   name, path ? path : "");
            return false;
        }
    }
    if (!pools) {
        refuse(source, "no embeddings of this model: modules.json names no pooling");
    }
    return pools;
}

static int read_ways(struct tsr_source *source, json_t *config)
{
    static const struct {
        const char *flag, *name;
        enum tsr_pooling pooling;
    } ways[] = {
        {"pooling_mode_mean_tokens", "mean", TSR_POOLING_MEAN},
        {"pooling_mode_cls_token", "cls", TSR_POOLING_CLS},
        {"pooling_mode_lasttoken", "lasttoken", TSR_POOLING_LAST},
    };
    static const char prefix[] = "pooling_mode_";
    const char *mode = json_string_value(json_object_get(config, "pooling_mode"));
    const char *flag, *stated = mode;
    unsigned n = mode != NULL;
    json_t *value;
    json_object_foreach(config, flag, value)
    {
        if (!mode && strncmp(flag, prefix, sizeof prefix - 1) == 0 && json_is_true(value)) {
            stated = flag;
            n++;
        }
    }
    for (size_t i = 0; i < sizeof ways / sizeof *ways && n == 1; i++) {
        if (strcmp(stated, mode ? ways[i].name : ways[i].flag) == 0) {
            source->pooling = ways[i].pooling;
            return 0;
        }
    }
    return refuse(source,
                  "no embeddings of this model: " POOLING_DIR "/config.json states %u ways of "
                  "pooling (%.40s), and one of mean, cls and last token is supported",
                  n, stated ? stated : "none");
}

static int read_directory(struct tsr_source *source, const char *path, struct tsr_err *err)
{
    json_t *modules, *config = NULL;
    source->pooling = TSR_POOLING_LAST;
    int rc = open_json(&modules, path, "modules.json", true, err);
    rc = rc < 0 ? rc : open_json(&config, path, POOLING_DIR "/config.json", false, err);
    if (rc == 0 && (!modules || are_modules_known(source, modules))) {
        if (config) {
            rc = read_ways(source, config);
        } else if (modules) {
            rc = refuse(source, "no embeddings of this model: " POOLING_DIR
                                "/config.json, which modules.json means, is missing");
        }
    }
    json_decref(config);
    json_decref(modules);
    return rc;
}

int tsr_pooling_read(struct tsr_source *source, const char *path, struct tsr_err *err)
{
    if (!source->gguf) {
        return read_directory(source, path, err);
    }
    int rc = read_gguf(source, err);
    if (rc < 0) {
        tsr_err_prefix(err, "%s", path);
    }
    return rc;
}
