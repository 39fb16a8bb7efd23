#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include <tsr/uring/alt_svc.h>

static void test_alt_svc_refuses_what_is_no_value(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "",
        "0",
        "65536",
        "99999999999999999999",
        " 443",
        "443 ",
        "-1",
        ":443",
        "h3",
        "h3=443",
        "h3=\"443\"",
        "h3=\":\"",
        "h3=\":443",
        "h3=\":0\"",
        "h3=\":443\";",
        "h3=\":443\"; ma",
        "h3=\":443\"; ma=",
        "h3=\":443\",",
        "h3=\":443\" h2=\":443\"",
        "h3=\":443\"\r\nSet-Cookie: a=b",
        "h3=\":443\"; persist=\"\n\"",
        "h3=\":443\"; persist=\"\\",
        "=\":443\"",
        "clear, h3=\":443\"",
        "Clear",
    };
    char value[TSR_ALT_SVC_BYTES];
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct tsr_err err = {0};
        if (tsr_alt_svc_read(bad[i], value, &err) != -EINVAL) {
            fail_msg("taken: %s", bad[i]);
        }
        assert_non_null(strstr(err.text, "--alt-svc"));
    }
    char large[TSR_ALT_SVC_BYTES + 1];
    memset(large, 'a', sizeof large);
    memcpy(large + sizeof large - 8, "=\":443\"", 8);
    assert_int_equal(tsr_alt_svc_read(large, value, NULL), -EINVAL);
    assert_int_equal(tsr_alt_svc_read(large + 1, value, NULL), 0);
}

static void test_alt_svc_takes_ports_and_values(void **state)
{
    (void)state;
    static const char *const good[][2] = {
        {"443", "h3=\":443\"; ma=86400"},
        {"65535", "h3=\":65535\"; ma=86400"},
        {"clear", "clear"},
        {"h3=\":1\"", "h3=\":1\""},
        {"h3=\"other.example:443\";ma=60 ; persist=1",
         "h3=\"other.example:443\";ma=60 ; persist=1"},
        {"h3=\"[::1]:443\" , w%3Dx=\":8\"; a=\"b\\\"c\"",
         "h3=\"[::1]:443\" , w%3Dx=\":8\"; a=\"b\\\"c\""},
    };
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        char value[TSR_ALT_SVC_BYTES];
        struct tsr_err err = {0};
        tsr_alt_svc_read(good[i][0], value, &err);
        assert_string_equal(err.text, "");
        assert_string_equal(value, good[i][1]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_alt_svc_refuses_what_is_no_value),
        cmocka_unit_test(test_alt_svc_takes_ports_and_values),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
