#include "grants_priv.h"

#include <errno.h>
#include <inttypes.h>

static const uint64_t minute_ns = UINT64_C(60000000000);

static struct grants_user *find(struct grants *grants, uint32_t uid)
{
    for (uint32_t i = 0; i < GRANTS_USERS_MAX; i++) {
        if (grants->users[i].used && grants->users[i].uid == uid) {
            return &grants->users[i];
        }
    }
    return NULL;
}

/* Users who hold nothing and whose bucket has drained need not be remembered. */
static struct grants_user *find_or_add(struct grants *grants, uint32_t uid, uint64_t now_ns)
{
    struct grants_user *user = find(grants, uid);
    for (uint32_t i = 0; i < GRANTS_USERS_MAX && !user; i++) {
        struct grants_user *u = &grants->users[i];
        if (!u->used || (!u->channels && !u->handshakes && u->drained_ns <= now_ns)) {
            *u = (struct grants_user){.uid = uid, .used = true};
            user = u;
        }
    }
    return user;
}

int grants_knock(struct grants *grants, uint32_t uid, uint64_t now_ns, struct tsr_err *err)
{
    struct grants_user *user = find_or_add(grants, uid, now_ns);
    if (!user) {
        return tsr_err_set(err, -EAGAIN, "%d users hold channels: no other can be remembered",
                           GRANTS_USERS_MAX);
    }
    if (user->handshakes >= GRANTS_HANDSHAKES_MAX) {
        return tsr_err_set(err, -EAGAIN,
                           "uid %" PRIu32 " has %" PRIu32 " connections that have not shaken hands",
                           uid, user->handshakes);
    }
    user->handshakes++;
    return 0;
}

void grants_knock_end(struct grants *grants, uint32_t uid)
{
    find(grants, uid)->handshakes--;
}

int grants_take(struct grants *grants, uint32_t uid, const struct tsr_door_class *class,
                uint32_t channels_max, uint64_t bytes, uint64_t now_ns, uint32_t *retry_ms,
                struct tsr_err *err)
{
    struct grants_user *user = find(grants, uid);
    *retry_ms = 1000;
    if (grants->channels >= channels_max) {
        return tsr_err_set(err, -EAGAIN, "all %" PRIu32 " channels of the engine are taken",
                           channels_max);
    }
    if (user->channels >= class->channels_max) {
        return tsr_err_set(err, -EAGAIN,
                           "uid %" PRIu32 " has %" PRIu32 " channels: close one first", uid,
                           user->channels);
    }
    if (user->bytes + bytes > class->bytes_max) {
        return tsr_err_set(err, -EAGAIN,
                           "uid %" PRIu32 " has %" PRIu64
                           " bytes of channels, and may have %" PRIu64,
                           uid, user->bytes, class->bytes_max);
    }
    /* Each grant fills the bucket by a minute's share; it drains with time and holds one minute. */
    uint64_t share_ns = minute_ns / (class->grants_per_minute ? class->grants_per_minute : 1);
    uint64_t full_ns = user->drained_ns > now_ns ? user->drained_ns - now_ns : 0;
    if (full_ns + share_ns > minute_ns) {
        *retry_ms = (uint32_t)((full_ns + share_ns - minute_ns) / 1000000) + 1;
        return tsr_err_set(err, -EAGAIN, "uid %" PRIu32 " had %" PRIu32 " channels within a minute",
                           uid, class->grants_per_minute);
    }
    user->drained_ns = now_ns + full_ns + share_ns;
    user->channels++;
    user->bytes += bytes;
    grants->channels++;
    grants->bytes += bytes;
    return 0;
}

void grants_give(struct grants *grants, uint32_t uid, uint64_t bytes)
{
    struct grants_user *user = find(grants, uid);
    user->channels--;
    user->bytes -= bytes;
    grants->channels--;
    grants->bytes -= bytes;
}
