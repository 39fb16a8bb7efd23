/* On the way of a token nothing is allocated: counted in the thread of the API. */
#include "house.h"

#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)

extern void *__libc_malloc(size_t size);
extern void *__libc_calloc(size_t n, size_t size);
extern void *__libc_realloc(void *at, size_t size);

static _Thread_local bool counting;
static unsigned allocations;

void *malloc(size_t size)
{
    allocations += counting;
    return __libc_malloc(size);
}

void *calloc(size_t n, size_t size)
{
    allocations += counting;
    return __libc_calloc(n, size);
}

void *realloc(void *at, size_t size)
{
    allocations += counting;
    return __libc_realloc(at, size);
}

#define HI    "\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}]"
#define TOOLS "\"tools\":[{\"type\":\"function\",\"function\":{\"name\":\"f\"}}]"

static void test_tokens_allocate_nothing(void **state)
{
    (void)state;
    static const struct {
        const char *path, *body;
    } asks[] = {
        {"/v1/chat/completions", "{" HI ",\"stream\":true}"},
        {"/v1/chat/completions", "{" HI ",\"stream\":true,\"logprobs\":true,\"top_logprobs\":2}"},
        {"/v1/chat/completions", "{" HI "," TOOLS ",\"stream\":true}"},
        {"/v1/completions", "{\"prompt\":\"a\",\"stream\":true,\"logprobs\":2}"},
    };
    static struct house house;
    static struct told told;
    struct tsr_wire_hello hello;
    house_hello(&hello);
    hello.flags |= TSR_HELLO_REASONING;
    house_open(&house, &hello, 1, NULL);
    for (uint32_t i = 0; i < sizeof asks / sizeof asks[0]; i++) {
        counting = true;
        house_post(&house, &told, asks[i].path, asks[i].body);
        counting = false;
        assert_true(allocations > 0); /* a request does, so counting works */
        allocations = 0;
        say_accepted(&house, i, 0);
        for (int k = 0; k < 500; k++) {
            counting = k >= 4; /* buffers have their size */
            assert_true(say_token(&house, i, "word ", 0));
            tsr_api_sent(told.exchange, 0, house.now_ns);
        }
        counting = false;
        say_done(&house, i, TSR_REASON_END);
        assert_true(told.ended);
        assert_int_equal(allocations, 0);
    }
    house_close(&house);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_tokens_allocate_nothing)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

#else

int main(void)
{
    printf("skipped: sanitizers have an allocator of their own\n");
    return 77;
}

#endif
