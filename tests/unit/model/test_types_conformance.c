/* Every block type of the outside vectors: ../shared/conformance/gguf or that of
 * TESSERA_CONFORMANCE. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <unistd.h>

#include "types.h"

static char folder[PATH_MAX];

static void test_types_equal_the_outside_vectors(void **state)
{
    (void)state;
    check_types(folder);
}

int main(void)
{
    const char *outside = getenv("TESSERA_CONFORMANCE"), *source = getenv("TESSERA_SOURCE");
    if (outside) {
        snprintf(folder, sizeof folder, "%s/gguf", outside);
    } else {
        snprintf(folder, sizeof folder, "%s/../shared/conformance/gguf", source ? source : ".");
    }
    if (access(folder, F_OK) < 0) {
        printf("skipped: no vectors at %s (set TESSERA_CONFORMANCE to their folder)\n", folder);
        return 77;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_types_equal_the_outside_vectors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
