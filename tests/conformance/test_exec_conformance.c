/* The executor against logits and greedy text of transformers (../shared/conformance/README.md has
 * the tolerances), by every way in: as `tessera verify` does it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "held.h"
#include "outside.h"

int main(void)
{
    static struct held cases[HELD_MAX];
    size_t n = held_find(cases, outside_path("models"), outside_path("gguf"));
    return held_run("exec_conformance", cases, n);
}
