/* The door's policy: who may have what. */
#ifndef TSR_SHM_POLICY_PRIV_H
#define TSR_SHM_POLICY_PRIV_H

#include <tsr/shm/door.h>

#include <sys/socket.h>

/* Ring sizes and counts that go together. -EINVAL with a sentence. */
int policy_check(const struct tsr_door_policy *policy, struct tsr_err *err);

/* What the peer of this connected socket may have, NULL: nothing. */
const struct tsr_door_class *policy_class_of(const struct tsr_door_policy *policy, int fd,
                                             const struct ucred *peer);

/* Whether it lets anyone in but root, this user and group tessera. */
bool policy_names_others(const struct tsr_door_policy *policy);

/* The id of a group of the system. */
bool policy_group_id(const char *name, gid_t *gid);

#endif
