#include <tsr/model/source.h>

#include "json_priv.h"
#include "pooling_priv.h"
#include "source_priv.h"
#include "split_priv.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    CONFIG_BYTES_MAX = 4 << 20, /* of config.json and generation_config.json */
    INDEX_BYTES_MAX = 64 << 20, /* of model.safetensors.index.json */
    INDEX_VALUES_MAX = 2 << 20,
    FILE_NAME_MAX = 200,
};

int tsr_source_join(char path[static PATH_MAX], const char *directory, const char *name,
                    struct tsr_err *err)
{
    int n = snprintf(path, PATH_MAX, "%s/%s", directory, name);
    if (n < 0 || n >= PATH_MAX) {
        return tsr_err_set(err, -ENAMETOOLONG, "%s: its path is longer than %d bytes", name,
                           PATH_MAX);
    }
    return 0;
}

int tsr_source_map(struct tsr_map *map, const char *path, size_t max, struct tsr_err *err)
{
    int rc = tsr_map_open(map, path, err);
    if (rc == 0 && map->size > max) {
        rc = tsr_err_set(err, -E2BIG, "%s: %zu bytes are more than the %zu allowed", path,
                         map->size, max);
        tsr_map_close(map);
    }
    return rc;
}

static int open_config(struct tsr_config **config, const char *path, bool is_model,
                       struct tsr_err *err)
{
    struct tsr_map map;
    int rc = tsr_source_map(&map, path, CONFIG_BYTES_MAX, err);
    if (rc < 0) {
        return rc;
    }
    rc = tsr_config_from_json(config, (const char *)map.data, map.size, is_model, err);
    tsr_map_close(&map);
    if (rc < 0) {
        tsr_err_prefix(err, "%s", path);
    }
    return rc;
}

/* A name in an index is a name in that directory and nothing else. */
static bool is_file_name(const char *name)
{
    size_t size = strlen(name);
    if (size == 0 || size > FILE_NAME_MAX || name[0] == '.') {
        return false;
    }
    for (size_t i = 0; i < size; i++) {
        if (name[i] < 0x21 || name[i] > 0x7e || name[i] == '/') {
            return false;
        }
    }
    return true;
}

static int open_file(struct tsr_source *source, const char *directory, const char *name,
                     struct tsr_err *err)
{
    char path[PATH_MAX];
    if (source->n_files >= TSR_SOURCE_FILES_MAX) {
        return tsr_err_set(err, -E2BIG, "%s: names more than %d files", directory,
                           TSR_SOURCE_FILES_MAX);
    }
    int rc = tsr_source_join(path, directory, name, err);
    if (rc < 0) {
        return rc;
    }
    struct tsr_safetensors **files = realloc(source->files, (source->n_files + 1) * sizeof *files);
    if (!files) {
        return tsr_err_set(err, -ENOMEM, "%s: no memory", path);
    }
    source->files = files;
    rc = tsr_safetensors_open(&source->files[source->n_files], path, &source->own, err);
    if (rc == 0) {
        source->file_bytes += tsr_safetensors_bytes(source->files[source->n_files++]);
    }
    return rc;
}

/* Opens every file that the index's weight_map names, in order of first mention; `opened` maps a
 * file's name to its place in source->files. */
static int open_mapped(struct tsr_source *source, const char *directory, json_t *weight_map,
                       json_t *opened, struct tsr_err *err)
{
    const char *tensor;
    json_t *value;
    json_object_foreach(weight_map, tensor, value)
    {
        const char *name = json_string_value(value);
        if (!name || !is_file_name(name)) {
            return tsr_err_set(err, -EINVAL,
                               "weight_map names a file that is not a plain name in the directory");
        }
        if (json_object_get(opened, name)) {
            continue;
        }
        if (json_object_set_new(opened, name, json_integer((json_int_t)source->n_files)) < 0) {
            return tsr_err_set(err, -ENOMEM, "no memory for the list of files");
        }
        int rc = open_file(source, directory, name, err);
        if (rc < 0) {
            return rc;
        }
    }
    return tsr_tensors_seal(&source->own, err);
}

static int check_mapped(const struct tsr_source *source, json_t *weight_map, json_t *opened,
                        struct tsr_err *err)
{
    const char *tensor;
    json_t *value;
    json_object_foreach(weight_map, tensor, value)
    {
        const char *name = json_string_value(value);
        json_int_t place = json_integer_value(json_object_get(opened, name));
        const struct tsr_tensor_entry *entry = tsr_tensors_find(&source->own, tensor);
        if (!entry || !tsr_safetensors_holds(source->files[place], &entry->tensor)) {
            return tsr_err_set(
                err, -EINVAL,
                "weight_map places a tensor in '%s' that the file does not hold: the "
                "files are not of one model",
                name);
        }
    }
    return 0;
}

static int open_index(struct tsr_source *source, const char *directory, const char *path,
                      struct tsr_err *err)
{
    struct tsr_map map;
    json_t *index = NULL, *opened = NULL;
    int rc = tsr_source_map(&map, path, INDEX_BYTES_MAX, err);
    if (rc < 0) {
        return rc;
    }
    rc = tsr_json_object(&index, (const char *)map.data, map.size, INDEX_VALUES_MAX, err);
    tsr_map_close(&map);
    if (rc < 0) {
        tsr_err_prefix(err, "%s", path);
        return rc;
    }
    json_t *weight_map = json_object_get(index, "weight_map");
    opened = json_object();
    if (!opened) {
        rc = tsr_err_set(err, -ENOMEM, "%s: no memory", path);
    } else if (!json_is_object(weight_map) || json_object_size(weight_map) == 0) {
        rc = tsr_err_set(err, -EINVAL, "%s: has no weight_map", path);
    } else {
        rc = open_mapped(source, directory, weight_map, opened, err);
        if (rc == 0) {
            rc = check_mapped(source, weight_map, opened, err);
        }
    }
    json_decref(opened);
    json_decref(index);
    return rc;
}

static int open_directory(struct tsr_source *source, const char *path, struct tsr_err *err)
{
    char config[PATH_MAX], generation[PATH_MAX], index[PATH_MAX], single[PATH_MAX];
    int rc = tsr_source_join(config, path, "config.json", err);
    if (rc == 0) {
        rc = tsr_source_join(generation, path, "generation_config.json", err);
    }
    if (rc == 0) {
        rc = tsr_source_join(index, path, "model.safetensors.index.json", err);
    }
    if (rc == 0) {
        rc = tsr_source_join(single, path, "model.safetensors", err);
    }
    if (rc < 0) {
        return rc;
    }
    if (access(config, F_OK) < 0) {
        return tsr_err_set(err, -ENOENT,
                           "%s: is a directory without config.json; give a Hugging Face model "
                           "directory or a .gguf file",
                           path);
    }
    rc = open_config(&source->config, config, true, err);
    if (rc == 0 && access(generation, F_OK) == 0) {
        rc = open_config(&source->generation, generation, false, err);
    }
    if (rc < 0) {
        return rc;
    }
    source->tensors = &source->own;
    if (access(single, F_OK) == 0) {
        rc = open_file(source, path, "model.safetensors", err);
        return rc < 0 ? rc : tsr_tensors_seal(&source->own, err);
    }
    if (access(index, F_OK) == 0) {
        return open_index(source, path, index, err);
    }
    return tsr_err_set(err, -ENOENT,
                       "%s: has neither model.safetensors nor model.safetensors.index.json; other "
                       "weight files are not read",
                       path);
}

static int open_gguf(struct tsr_source *source, const char *path, struct tsr_err *err)
{
    int rc = tsr_gguf_open(&source->gguf, path, err);
    if (rc < 0) {
        return rc;
    }
    source->tensors = tsr_gguf_tensors(source->gguf);
    source->file_bytes = tsr_gguf_bytes(source->gguf);
    rc = tsr_split_open(source, path, err);
    if (rc < 0) {
        return rc;
    }
    rc = tsr_config_from_gguf(&source->config, source->gguf, err);
    if (rc < 0) {
        tsr_err_prefix(err, "%s", path);
    }
    return rc;
}

int tsr_source_open(struct tsr_source *source, const char *path, struct tsr_err *err)
{
    struct stat st;
    *source = (struct tsr_source){0};
    if (stat(path, &st) < 0) {
        int code = -errno;
        return tsr_err_set(err, code, "%s: cannot be opened: %s", path, strerror(-code));
    }
    int rc = S_ISDIR(st.st_mode) ? open_directory(source, path, err) : open_gguf(source, path, err);
    rc = rc < 0 ? rc : tsr_pooling_read(source, path, err);
    if (rc < 0) {
        tsr_source_close(source);
    }
    return rc;
}

void tsr_source_drop(struct tsr_source *source)
{
    if (source->gguf && !source->n_parts) {
        tsr_gguf_drop_tensors(source->gguf);
    }
    for (size_t i = 0; i < source->n_parts; i++) {
        tsr_gguf_drop_tensors(source->parts[i]);
    }
    for (size_t i = 0; i < source->n_files; i++) {
        tsr_safetensors_drop(source->files[i]);
    }
}

void tsr_source_close(struct tsr_source *source)
{
    tsr_config_close(source->config);
    tsr_config_close(source->generation);
    if (!source->n_parts) {
        tsr_gguf_close(source->gguf);
    }
    for (size_t i = 0; i < source->n_parts; i++) {
        tsr_gguf_close(source->parts[i]);
    }
    free(source->parts);
    for (size_t i = 0; i < source->n_files; i++) {
        tsr_safetensors_close(source->files[i]);
    }
    free(source->files);
    tsr_tensors_fini(&source->own);
    *source = (struct tsr_source){0};
}
