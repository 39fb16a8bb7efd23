#include <tsr/serve/request.h>

#include <assert.h>
#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <tsr/serve/session.h>

int tsr_requests_create(struct tsr_requests *requests, uint32_t n, uint32_t text_max,
                        struct tsr_err *err)
{
    uint32_t buckets = 64;
    while (buckets < n) {
        buckets *= 2;
    }
    *requests = (struct tsr_requests){.n = n, .bucket_mask = buckets - 1, .text_max = text_max};
    requests->slots = calloc(n, sizeof *requests->slots);
    requests->buckets = calloc(buckets, sizeof(struct tsr_request *));
    requests->texts = calloc(n, text_max);
    if (!requests->slots || !requests->buckets || !requests->texts) {
        tsr_requests_destroy(requests);
        return tsr_err_set(err, -ENOMEM, "no memory for %u requests", n);
    }
    for (uint32_t i = n; i-- > 0;) {
        struct tsr_request *request = &requests->slots[i];
        request->index = i;
        request->text = requests->texts + (size_t)i * text_max;
        request->hash_next = requests->free;
        requests->free = request;
    }
    requests->n_free = n;
    return 0;
}

void tsr_requests_destroy(struct tsr_requests *requests)
{
    free(requests->texts);
    free(requests->buckets);
    free(requests->slots);
    *requests = (struct tsr_requests){0};
}

static struct tsr_request **bucket(const struct tsr_requests *requests,
                                   const struct tsr_session *session, uint64_t id)
{
    /* Fibonacci hashing; clients choose ids, but a chain is at most what they may have live. */
    uint64_t h = (id + session->index * 0x9e3779b97f4a7c15u) * 0x9e3779b97f4a7c15u;
    return &requests->buckets[(h >> 32) & requests->bucket_mask];
}

struct tsr_request *tsr_requests_take(struct tsr_requests *requests, struct tsr_session *session,
                                      uint64_t id)
{
    struct tsr_request *request = requests->free;
    if (!request) {
        return NULL;
    }
    requests->free = request->hash_next;
    requests->n_free--;
    uint32_t index = request->index;
    char *text = request->text;
    memset(request, 0, offsetof(struct tsr_request, stop));
    request->stop.hit = -1;
    request->stage = TSR_STAGE_ARRIVES;
    request->index = index;
    request->text = text;
    request->id = id;
    request->seq = TSR_SCHED_NONE;
    request->session = session;

    struct tsr_request **head = bucket(requests, session, id);
    request->hash_next = *head;
    *head = request;
    request->next = session->requests;
    if (request->next) {
        request->next->prev = request;
    }
    session->requests = request;
    session->n_requests++;
    return request;
}

struct tsr_request *tsr_requests_find(const struct tsr_requests *requests,
                                      const struct tsr_session *session, uint64_t id)
{
    struct tsr_request *request = *bucket(requests, session, id);
    while (request && (request->session != session || request->id != id)) {
        request = request->hash_next;
    }
    return request;
}

void tsr_requests_forget(struct tsr_requests *requests, struct tsr_request *request)
{
    struct tsr_session *session = request->session;
    struct tsr_request **at = bucket(requests, session, request->id);
    while (*at != request) {
        at = &(*at)->hash_next;
    }
    *at = request->hash_next;
    if (request->prev) {
        request->prev->next = request->next;
    } else {
        session->requests = request->next;
    }
    if (request->next) {
        request->next->prev = request->prev;
    }
    if (session->arriving == request) {
        session->arriving = NULL;
    }
    session->n_requests--;
    request->session = NULL;
    request->next = request->prev = request->hash_next = NULL;
}

void tsr_requests_give(struct tsr_requests *requests, struct tsr_request *request)
{
    assert(!request->session && request->run.n == 0 && !request->sampler && !request->owes);
    request->stage = TSR_STAGE_FREE;
    request->hash_next = requests->free;
    requests->free = request;
    requests->n_free++;
}
