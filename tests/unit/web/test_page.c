/* The page that was joined: whole, without outside assets, and with a policy that fits a header.
 * That the hashes are right is seen by a browser: tests/integration/test_web.sh. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include <tsr/web/page.h>

static size_t count(const char *text, size_t size, const char *word)
{
    size_t found = 0;
    const char *at = text;
    while ((at = memmem(at, size - (size_t)(at - text), word, strlen(word)))) {
        found++;
        at += strlen(word);
    }
    return found;
}

static size_t in_page(const char *word)
{
    return count((const char *)tsr_web_page, tsr_web_page_bytes, word);
}

static size_t in_policy(const char *word)
{
    return count(tsr_web_policy, strlen(tsr_web_policy), word);
}

static void test_page_is_whole(void **state)
{
    (void)state;
    static const char begin[] = "<!doctype html>", end[] = "</html>\n";
    assert_true(tsr_web_page_bytes > 10000);
    assert_memory_equal(tsr_web_page, begin, strlen(begin));
    assert_memory_equal(tsr_web_page + tsr_web_page_bytes - strlen(end), end, strlen(end));
    assert_null(memchr(tsr_web_page, 0, tsr_web_page_bytes));
}

static void test_page_has_no_outside_asset(void **state)
{
    (void)state;
    assert_int_equal(in_page(" src=\""), 0);
    assert_int_equal(in_page("rel=\"stylesheet\""), 0);
    assert_int_equal(in_page("url("), 0);
    assert_int_equal(in_page("@import"), 0);
    assert_int_equal(in_page("innerHTML"), 0);
    assert_int_equal(in_page(" style=\""), 0);
    assert_int_equal(in_page(" onclick="), 0);
}

static void test_policy_names_every_part(void **state)
{
    (void)state;
    assert_true(in_page("<script>") > 0 && in_page("<style>") > 0);
    assert_int_equal(in_policy("'sha256-"), in_page("<script>") + in_page("<style>"));
    assert_int_equal(in_policy("default-src 'none'"), 1);
    assert_int_equal(in_policy("connect-src 'self'"), 1);
    assert_int_equal(in_policy("unsafe"), 0);
    assert_int_equal(in_policy("*"), 0);
    assert_true(strlen(tsr_web_policy) < 1024);
    for (const char *at = tsr_web_policy; *at; at++) {
        assert_in_range((unsigned char)*at, 0x20, 0x7e);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_page_is_whole),
        cmocka_unit_test(test_page_has_no_outside_asset),
        cmocka_unit_test(test_policy_names_every_part),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
