"""What pyproject.toml cannot say: the version is libtessera's, and libtessera is compiled along."""

import re
from pathlib import Path

from setuptools import setup

header = Path(__file__).with_name("c") / "include" / "tessera.h"
if not header.is_file():
    raise SystemExit(
        f"{header} is not there: install from a clone of the repository, or from an sdist"
    )

version = re.search(r'define TESSERA_VERSION "(.+)"', header.read_text())
assert version
setup(
    version=version[1],
    license="Apache-2.0",
    cffi_modules=["build_libtessera.py:ffi"],
    options={"bdist_wheel": {"py_limited_api": "cp311"}},
)
