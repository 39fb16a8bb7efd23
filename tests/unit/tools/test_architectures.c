/* Every architecture and kind of rotary scaling against logits and greedy text of transformers and
 * of published code (tests/vectors/architectures/README.md), by every way in. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "held.h"

int main(void)
{
    static struct held cases[HELD_MAX];
    const char *source = getenv("TESSERA_SOURCE");
    char folder[HELD_PATH_MAX];
    snprintf(folder, sizeof folder, "%s/tests/vectors/architectures", source ? source : ".");
    return held_run("architectures", cases, held_find(cases, folder, NULL));
}
