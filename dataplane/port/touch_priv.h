/* Memory that a peer on this machine brings is mapped here page by page as it is first used: a
 * fault costs more than the packet that takes it. So the pages are mapped when the peer comes. */
#ifndef TSR_PORT_TOUCH_PRIV_H
#define TSR_PORT_TOUCH_PRIV_H

#include <stdint.h>
#include <stdio.h>

/* The list of this process's mappings, open: a sandbox may keep it from being opened later. NULL:
 * it cannot be read, and faults stay. fclose() ends it. */
FILE *tsr_touch_open(void);

/* Maps all pages of every shared mapping whose memory file's name begins with `name`, as long as
 * they are `bytes_max` together: the pages count as this process's, whoever made the file. A peer
 * that goes meanwhile does no harm. Returns the mappings done. */
uint32_t tsr_touch(FILE *maps, const char *name, uint64_t bytes_max);

#endif
