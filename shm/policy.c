#include "policy_priv.h"

#include "channel_priv.h"

#include <errno.h>
#include <grp.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

void tsr_door_class_init(struct tsr_door_class *class)
{
    *class = (struct tsr_door_class){
        .request_ring_bytes = 64 << 10,
        .event_ring_bytes = 128 << 10,
        .requests_max = 64,
        .channels_max = 32,
        .grants_per_minute = 600,
        .bytes_max = 64 << 20,
        .priority_max = 255,
    };
}

bool policy_group_id(const char *name, gid_t *gid)
{
    struct group entry, *found = NULL;
    char text[4096];
    if (getgrnam_r(name, &entry, text, sizeof text, &found) != 0 || !found) {
        return false;
    }
    *gid = found->gr_gid;
    return true;
}

bool policy_names_others(const struct tsr_door_policy *policy)
{
    gid_t tessera = 0;
    bool has_tessera = policy_group_id("tessera", &tessera);
    for (uint32_t i = 0; i < policy->rule_count; i++) {
        const struct tsr_door_rule *rule = &policy->rules[i];
        bool usual = rule->match == TSR_DOOR_UID ? rule->id == 0 || rule->id == geteuid()
                                                 : has_tessera && rule->id == tessera;
        if (!usual) {
            return true;
        }
    }
    return false;
}

void tsr_door_policy_init(struct tsr_door_policy *policy)
{
    *policy = (struct tsr_door_policy){.channels_max = 1024};
    struct tsr_door_class class;
    tsr_door_class_init(&class);
    gid_t group;
    if (policy_group_id("tessera", &group)) {
        tsr_door_policy_add(policy, TSR_DOOR_GID, group, &class);
    }
    tsr_door_policy_add(policy, TSR_DOOR_UID, geteuid(), &class);
    if (geteuid() != 0) {
        tsr_door_policy_add(policy, TSR_DOOR_UID, 0, &class);
    }
}

int tsr_door_policy_add(struct tsr_door_policy *policy, enum tsr_door_match match, uint32_t id,
                        const struct tsr_door_class *class)
{
    if (policy->rule_count >= TSR_DOOR_RULES_MAX) {
        return -ENOSPC;
    }
    memmove(&policy->rules[1], &policy->rules[0], policy->rule_count * sizeof policy->rules[0]);
    policy->rules[0] = (struct tsr_door_rule){.match = match, .id = id, .class = *class};
    policy->rule_count++;
    return 0;
}

static bool ring_size_ok(uint32_t bytes, uint32_t most)
{
    return bytes >= 4 * TSR_WIRE_RECORD_BYTES_MAX && bytes <= most && !(bytes & (bytes - 1));
}

int policy_check(const struct tsr_door_policy *policy, struct tsr_err *err)
{
    if (policy->rule_count > TSR_DOOR_RULES_MAX || policy->channels_max == 0) {
        return tsr_err_set(err, -EINVAL,
                           "a door policy of %" PRIu32 " rules and %" PRIu32 " channels",
                           policy->rule_count, policy->channels_max);
    }
    for (uint32_t i = 0; i < policy->rule_count; i++) {
        const struct tsr_door_class *c = &policy->rules[i].class;
        if (!ring_size_ok(c->request_ring_bytes, 16 << 20) ||
            !ring_size_ok(c->event_ring_bytes, 64 << 20)) {
            return tsr_err_set(err, -EINVAL,
                               "rings of %" PRIu32 " and %" PRIu32
                               " bytes: they must be powers of two, from %d to 16 MiB and 64 MiB",
                               c->request_ring_bytes, c->event_ring_bytes,
                               4 * TSR_WIRE_RECORD_BYTES_MAX);
        }
        uint64_t channel_bytes =
            2 * TSR_CTL_BYTES + (uint64_t)c->request_ring_bytes + c->event_ring_bytes;
        if (c->bytes_max < channel_bytes) {
            return tsr_err_set(err, -EINVAL,
                               "a user may have %" PRIu64 " bytes of channels, and one has %" PRIu64
                               ": allow more, or smaller rings",
                               c->bytes_max, channel_bytes);
        }
        if (c->requests_max == 0 || channel_reserve_bytes(c->requests_max) +
                                            (uint64_t)TSR_CHANNEL_SPARE * TSR_WIRE_FINAL_BYTES_MAX >
                                        c->event_ring_bytes / 2) {
            return tsr_err_set(err, -EINVAL,
                               "%" PRIu32 " requests on an event ring of %" PRIu32
                               " bytes: their last events must fit its half, at %d bytes each",
                               c->requests_max, c->event_ring_bytes, TSR_WIRE_FINAL_BYTES_MAX);
        }
    }
    return 0;
}

static bool in_group(int fd, gid_t primary, gid_t wanted)
{
    if (primary == wanted) {
        return true;
    }
    gid_t few[64];
    gid_t *groups = few;
    socklen_t bytes = sizeof few;
    int result = getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, groups, &bytes);
    if (result != 0 && errno == ERANGE) {
        groups = malloc(bytes);
        result = groups ? getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, groups, &bytes) : -1;
    }
    bool member = false;
    for (socklen_t i = 0; result == 0 && i < bytes / sizeof *groups && !member; i++) {
        member = groups[i] == wanted;
    }
    if (groups != few) {
        free(groups);
    }
    return member;
}

const struct tsr_door_class *policy_class_of(const struct tsr_door_policy *policy, int fd,
                                             const struct ucred *peer)
{
    for (uint32_t i = 0; i < policy->rule_count; i++) {
        const struct tsr_door_rule *rule = &policy->rules[i];
        if (rule->match == TSR_DOOR_UID ? peer->uid == rule->id
                                        : in_group(fd, peer->gid, rule->id)) {
            return &rule->class;
        }
    }
    return NULL;
}
