/* Sessions: the engine's side of a channel. Reads what the client writes, and turns it into
 * requests.
 *
 * Everything here is for the frontend's thread. */
#ifndef TSR_SERVE_SESSION_H
#define TSR_SERVE_SESSION_H

#include <stdbool.h>
#include <stdint.h>

#include <tsr/serve/request.h>
#include <tsr/shm/channel.h>

struct tsr_frontend;

struct tsr_session {
    struct tsr_channel *channel; /* NULL: the slot is free */
    uint32_t index;
    bool broken;  /* the control thread was asked to drop it; nothing is read any more */
    bool touched; /* events were written since the last flush */
    struct tsr_request *requests; /* live ones, newest first */
    uint32_t n_requests;
    struct tsr_request *arriving; /* the one whose payload is not complete */
    uint64_t bytes;               /* of prompts in flight */

    /* CONTINUE records of this request are passed over until the next SUBMIT: it is over already.
     * 0: none. */
    uint64_t skip_id;
};

/* Reads and handles up to `max` records; returns how many. A channel that broke the contract is
 * handed back. */
uint32_t tsr_session_serve(struct tsr_frontend *frontend, struct tsr_session *session, uint32_t max,
                           uint64_t now_ns);

/* The channel is to be dropped: ends its requests silently and tells the control thread, once. */
void tsr_session_break(struct tsr_frontend *frontend, struct tsr_session *session, uint64_t now_ns);

/* Ends all requests without a word: the client is gone. */
void tsr_session_clear(struct tsr_frontend *frontend, struct tsr_session *session, uint64_t now_ns);

#endif
