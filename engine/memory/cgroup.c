#include <tsr/memory/cgroup.h>

#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <tsr/memory/sysfs.h>

/* Where a cgroup hierarchy is mounted and which part of it: fields 4 and 5 of a line of mountinfo.
 * controller: of v1; NULL: v2. */
struct cgroup_mount {
    char part[PATH_MAX];
    char point[PATH_MAX];
};

static bool find_mount(const char *root, const char *controller, struct cgroup_mount *mount)
{
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s/proc/self/mountinfo", root);
    FILE *file = fopen(path, "re");
    if (!file) {
        return false;
    }
    char *line = NULL;
    size_t capacity = 0;
    bool found = false;
    while (!found && getline(&line, &capacity, file) > 0) {
        const char *tail = strstr(line, " - ");
        if (!tail) {
            continue;
        }
        char kind[32] = "", options[512] = "";
        if (sscanf(tail, " - %31s %*s %511s", kind, options) < 2 ||
            sscanf(line, "%*s %*s %*s %4095s %4095s", mount->part, mount->point) != 2) {
            continue;
        }
        if (!controller) {
            found = strcmp(kind, "cgroup2") == 0;
        } else if (strcmp(kind, "cgroup") == 0) {
            char *state = NULL;
            for (char *o = strtok_r(options, ",", &state); o; o = strtok_r(NULL, ",", &state)) {
                found |= strcmp(o, controller) == 0;
            }
        }
    }
    free(line);
    fclose(file);
    return found;
}

/* This process's path in the hierarchy ("0::/a/b", "4:memory:/a/b"). */
static bool find_path(const char *root, const char *controller, char *out, size_t size)
{
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s/proc/self/cgroup", root);
    FILE *file = fopen(path, "re");
    if (!file) {
        return false;
    }
    char *line = NULL;
    size_t capacity = 0;
    bool found = false;
    while (!found && getline(&line, &capacity, file) > 0) {
        line[strcspn(line, "\n")] = '\0';
        char *controllers = strchr(line, ':');
        char *where = controllers ? strchr(controllers + 1, ':') : NULL;
        if (!where) {
            continue;
        }
        *controllers++ = '\0';
        *where++ = '\0';
        if (!controller) {
            found = strcmp(line, "0") == 0 && *controllers == '\0';
        } else {
            char *state = NULL;
            for (char *c = strtok_r(controllers, ",", &state); c; c = strtok_r(NULL, ",", &state)) {
                found |= strcmp(c, controller) == 0;
            }
        }
        if (found) {
            snprintf(out, size, "%s", where);
        }
    }
    free(line);
    fclose(file);
    return found;
}

static void walk(const char *root, const char *controller,
                 void (*level)(void *ctx, const char *folder, bool v2), void *ctx)
{
    struct cgroup_mount mount;
    char path[PATH_MAX], folder[2 * PATH_MAX];
    if (!find_mount(root, controller, &mount) || !find_path(root, controller, path, sizeof path)) {
        return;
    }
    /* In a container without a cgroup namespace the mount shows only the container's own part. */
    const char *below = path;
    size_t part = strlen(mount.part);
    if (strcmp(mount.part, "/") != 0 && strncmp(path, mount.part, part) == 0) {
        below = path + part;
    }
    snprintf(folder, sizeof folder, "%s%s", mount.point, below);
    size_t top = strlen(mount.point);
    for (;;) {
        size_t length = strlen(folder);
        while (length > top && folder[length - 1] == '/') {
            folder[--length] = '\0';
        }
        level(ctx, folder, !controller);
        char *slash = strrchr(folder, '/');
        if (length <= top || !slash) {
            return;
        }
        *slash = '\0';
    }
}

void tsr_cgroup_each(const char *root, const char *controller,
                     void (*level)(void *ctx, const char *folder, bool v2), void *ctx)
{
    walk(root, controller, level, ctx);
    walk(root, NULL, level, ctx);
}

double tsr_cgroup_cpus_at(const char *root, const char *folder, bool v2)
{
    char line[64] = "";
    long long quota = -1, period = 0;
    if (v2) {
        tsr_sysfs_line(root, line, sizeof line, "%s/cpu.max", folder);
        sscanf(line, "%lld %lld", &quota, &period); /* "max 100000": nothing is taken */
    } else if (tsr_sysfs_line(root, line, sizeof line, "%s/cpu.cfs_period_us", folder)) {
        sscanf(line, "%lld", &period);
        tsr_sysfs_line(root, line, sizeof line, "%s/cpu.cfs_quota_us", folder);
        sscanf(line, "%lld", &quota);
    }
    return quota > 0 && period > 0 ? (double)quota / (double)period : INFINITY;
}

struct least_cpus {
    const char *root;
    double cpus;
};

static void take_level(void *ctx, const char *folder, bool v2)
{
    struct least_cpus *least = ctx;
    double cpus = tsr_cgroup_cpus_at(least->root, folder, v2);
    least->cpus = cpus < least->cpus ? cpus : least->cpus;
}

double tsr_cgroup_cpus(const char *root)
{
    struct least_cpus least = {.root = root, .cpus = INFINITY};
    tsr_cgroup_each(root, "cpu", take_level, &least);
    return least.cpus;
}
