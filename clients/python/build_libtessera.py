"""libtessera as an extension module: its header becomes the declarations, its sources are compiled in."""

import re
from glob import glob

import cffi


def declarations(header: str) -> str:
    """What cffi understands of tessera.h: no comments, no preprocessor but numbers."""
    text = re.sub(r"/\*.*?\*/", "", header, flags=re.DOTALL)
    text = text[text.index("#define TESSERA_TOP_MAX") : text.rindex("#ifdef __cplusplus")]
    return text.replace("TESSERA_API ", "")


ffi = cffi.FFI()
with open("c/include/tessera.h", encoding="utf-8") as file:
    ffi.cdef(declarations(file.read()))

# All of shm/, as libtessera.so has it; the linker drops what no client calls. -Bsymbolic: never another libtessera's
# functions, should one be in the process.
ffi.set_source(
    "tessera._libtessera",
    "#include <tessera.h>",
    sources=sorted(glob("c/*.c") + glob("shm/*.c")),
    depends=sorted(glob("c/**/*.h", recursive=True) + glob("shm/**/*.h", recursive=True)),
    include_dirs=["c", "c/include", "shm", "shm/include"],
    define_macros=[("_GNU_SOURCE", None)],
    extra_compile_args=[
        "-std=gnu17",
        "-O2",
        "-fvisibility=hidden",
        "-fno-strict-aliasing",
        "-ffunction-sections",
        "-pthread",
    ],
    extra_link_args=["-pthread", "-Wl,--gc-sections", "-Wl,-Bsymbolic"],
)
