/* Random clients against the frontend: whatever they do, each request gets exactly one final event,
 * tokens come in order and never beyond the credit, and everything is given back. */
#include "bench_of_one.h"

enum { LINKS = 4, LIVE_MAX = 12, ROUNDS = 6000 };

struct asked {
    uint64_t id;     /* 0: none */
    bool tokens;     /* a prompt of ids: the answer is known */
    unsigned answer; /* TSR_SUBMIT_ANSWERS; 0: a generation */
    uint32_t last, position;
    uint64_t credit;
    uint32_t index; /* of the next token */
    uint32_t tokens_max;
    bool accepted;
};

struct client {
    struct tsr_link link;
    struct asked asked[LIVE_MAX];
    uint64_t next_id;
    uint32_t deaf; /* rounds in which it does not read */
    uint64_t arriving;
    uint32_t arrived, arrives;
};

static uint64_t rng;
static uint64_t finals; /* over all runs */
static uint32_t prompt[CONTEXT];
static char text[2000];

static uint32_t draw(uint32_t n)
{
    rng = rng * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)((rng >> 33) % n);
}

static struct asked *find(struct client *c, uint64_t id)
{
    for (uint32_t i = 0; i < LIVE_MAX; i++) {
        if (c->asked[i].id == id) {
            return &c->asked[i];
        }
    }
    return NULL;
}

static void submit(struct client *c)
{
    struct asked *a = find(c, 0);
    if (!a || c->arriving) {
        return;
    }
    struct tsr_wire_submit s = plain_submit(++c->next_id);
    bool tokens = draw(3) > 0;
    uint32_t n = 1 + draw(draw(5) ? 40 : 300);
    uint32_t bytes = tokens ? n * 4 : 1 + draw(sizeof text - 1);
    uint32_t chunk = draw(3) && bytes > 8 ? 1 + draw(bytes - 1) : bytes;
    s.kind = tokens ? TSR_PAYLOAD_TOKENS : TSR_PAYLOAD_TEXT;
    s.credit = draw(4) ? 100 : draw(4);
    s.tokens_max = draw(8) ? 1 + draw(60) : 0;
    s.deadline_ms = draw(12) ? 0 : 1 + draw(3);
    s.priority = (uint8_t)draw(256);
    if (draw(4) == 0) {
        s.flags = TSR_SUBMIT_LOGPROBS;
        s.top_logprobs = (uint8_t)draw(21);
    }
    if (draw(3) == 0) {
        s.flags |= draw(2)  ? TSR_SUBMIT_EMBED
                   : tokens ? TSR_SUBMIT_DETOKENIZE
                            : TSR_SUBMIT_TOKENIZE | TSR_SUBMIT_PIECES;
    }
    if (!send_submit(&c->link, s, tokens ? (const void *)prompt : text, bytes, chunk)) {
        return;
    }
    *a = (struct asked){.id = s.request,
                        .tokens = tokens,
                        .last = prompt[n - 1],
                        .position = n - 1,
                        .answer = s.flags & TSR_SUBMIT_ANSWERS,
                        .credit = s.credit};
    if (chunk < bytes) {
        c->arriving = s.request;
        c->arrived = chunk;
        c->arrives = bytes;
    }
}

static void send_more(struct client *c)
{
    struct asked *a = find(c, c->arriving);
    uint32_t n = 1 + draw(c->arrives - c->arrived);
    const void *from = a && !a->tokens ? (const void *)text : (const void *)prompt;
    if (send_continue(&c->link, c->arriving, from, c->arrived, n)) {
        c->arrived += n;
        if (c->arrived == c->arrives) {
            c->arriving = 0;
        }
    }
}

static void read_events(struct client *c, uint32_t max)
{
    static union {
        uint8_t bytes[TSR_WIRE_RECORD_BYTES_MAX];
        struct tsr_wire_accepted accepted;
        struct tsr_wire_token token;
        struct tsr_wire_done done;
        struct tsr_wire_error error;
        struct tsr_wire_embedding embedding;
        struct tsr_wire_text text;
        struct tsr_wire_tokens tokens;
        struct tsr_wire_plain plain;
    } ev;
    while (max-- > 0) {
        uint16_t type = take_event(&c->link, ev.bytes);
        if (type == 0) {
            return;
        }
        if (type == TSR_EV_HELLO) {
            continue;
        }
        struct asked *a = find(c, ev.plain.request);
        assert_non_null(a); /* nothing follows a final event */
        assert_true(a->id != 0);
        switch (type) {
        case TSR_EV_ACCEPTED:
            assert_false(a->accepted);
            a->accepted = true;
            a->tokens_max = ev.accepted.tokens_max;
            break;
        case TSR_EV_TOKEN:
            assert_true(a->accepted);
            assert_int_equal(a->answer, 0);
            assert_true(a->credit > 0);
            a->credit--;
            if (ev.token.flags & TSR_WIRE_TOKEN_TEXT_ONLY) {
                break;
            }
            assert_int_equal(ev.token.index, a->index++);
            assert_true(a->index <= a->tokens_max);
            if (a->tokens) {
                a->last = fake_next(a->last, a->position++);
                assert_int_equal(ev.token.token, a->last);
            }
            break;
        case TSR_EV_EMBEDDING:
            assert_true(a->accepted && a->answer == TSR_SUBMIT_EMBED);
            assert_int_equal(ev.embedding.first, a->index);
            a->index += ev.embedding.count;
            assert_true(a->index <= WIDTH && ev.embedding.total == WIDTH);
            break;
        case TSR_EV_TEXT:
            assert_int_equal(a->answer, TSR_SUBMIT_DETOKENIZE);
            assert_int_equal(ev.text.offset, a->index);
            a->index += ev.text.text_bytes;
            assert_true(a->index <= ev.text.total);
            break;
        case TSR_EV_TOKENS:
            assert_int_equal(a->answer, TSR_SUBMIT_TOKENIZE);
            assert_int_equal(ev.tokens.first, a->index);
            a->index += ev.tokens.count;
            break;
        case TSR_EV_DONE:
        case TSR_EV_ERROR:
            if (type == TSR_EV_DONE && ev.done.reason == TSR_REASON_EMBEDDED) {
                assert_int_equal(a->index, WIDTH);
            }
            if (type == TSR_EV_DONE && ev.done.reason == TSR_REASON_LENGTH) {
                assert_int_equal(a->index, a->tokens_max);
            }
            a->id = 0;
            finals++;
            break;
        default:
            fail_msg("event %u", type);
        }
    }
}

static void act(struct bench *b, struct client *c)
{
    switch (draw(10)) {
    case 0:
    case 1:
    case 2:
        submit(c);
        break;
    case 3:
        if (draw(6) == 0) {
            struct asked *a = &c->asked[draw(LIVE_MAX)];
            if (a->id) {
                send_plain(&c->link, TSR_REQ_CANCEL, a->id, 0);
            }
        }
        break;
    case 4: {
        struct asked *a = &c->asked[draw(LIVE_MAX)];
        uint32_t more = draw(20);
        if (a->id && send_plain(&c->link, TSR_REQ_CREDIT, a->id, more)) {
            a->credit += more;
        }
        break;
    }
    case 5:
        c->deaf = draw(30) ? c->deaf : 20 + draw(200);
        break;
    case 6:
        if (draw(300) == 0) { /* gone, amid whatever it was doing, and back */
            uint64_t next_id = c->next_id;
            tsr_link_close(&c->link);
            memset(c, 0, sizeof *c);
            c->next_id = next_id;
            bench_turns(b, 2);
            bench_connect(b, &c->link);
        }
        break;
    default:
        if (c->arriving) {
            send_more(c);
        }
        break;
    }
    if (c->deaf > 0) {
        c->deaf--;
    } else {
        read_events(c, 1 + draw(30));
    }
}

static void run(uint64_t seed)
{
    static struct client clients[LINKS];
    struct bench b;
    rng = seed;
    memset(clients, 0, sizeof clients);
    struct tsr_door_policy policy;
    tsr_door_policy_init(&policy);
    for (uint32_t i = 0; i < policy.rule_count; i++) {
        policy.rules[i].class.request_ring_bytes = 65536;
        policy.rules[i].class.event_ring_bytes = 65536;
        policy.rules[i].class.requests_max = LIVE_MAX;
        policy.rules[i].class.grants_per_minute = 10000;
    }
    for (uint32_t i = 0; i < CONTEXT; i++) {
        prompt[i] = 3 + draw(VOCAB - 3);
    }
    for (uint32_t i = 0; i < sizeof text; i++) {
        text[i] = (char)(32 + draw(90));
    }
    bench_open(&b, &policy, 20, 96 << 10);
    for (uint32_t i = 0; i < LINKS; i++) {
        clients[i].next_id = 1000 * i;
        bench_connect(&b, &clients[i].link);
    }
    for (uint32_t round = 0; round < ROUNDS; round++) {
        b.text_stops = draw(4) == 0;
        act(&b, &clients[draw(LINKS)]);
        if (draw(3)) {
            bench_turn(&b);
        }
    }
    /* Everybody behaves until all is said. */
    b.text_stops = false;
    for (uint32_t round = 0; round < 4000; round++) {
        uint32_t live = 0;
        for (uint32_t i = 0; i < LINKS; i++) {
            struct client *c = &clients[i];
            if (c->arriving) {
                send_more(c);
            }
            read_events(c, 1000);
            for (uint32_t j = 0; j < LIVE_MAX; j++) {
                struct asked *a = &c->asked[j];
                live += a->id != 0;
                if (a->id && a->credit == 0 && send_plain(&c->link, TSR_REQ_CREDIT, a->id, 10)) {
                    a->credit += 10;
                }
            }
        }
        bench_turn(&b);
        if (live == 0) {
            break;
        }
    }
    for (uint32_t i = 0; i < LINKS; i++) {
        for (uint32_t j = 0; j < LIVE_MAX; j++) {
            assert_true(clients[i].asked[j].id == 0);
        }
    }
    bench_turns(&b, 100); /* the text worker has some of the dead still */
    bench_is_empty(&b);
    assert_int_equal(b.f->sessions_open, LINKS); /* nobody was dropped */
    for (uint32_t i = 0; i < LINKS; i++) {
        tsr_link_close(&clients[i].link);
    }
    bench_close(&b);
}

static void test_frontend_random_clients(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 10; seed++) {
        run(seed);
    }
    print_message("%llu requests ended\n", (unsigned long long)finals);
    assert_true(finals > 500);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_frontend_random_clients),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
