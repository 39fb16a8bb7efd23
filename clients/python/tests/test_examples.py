"""What the README and examples/ show runs as it stands."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent.parent
SHOWN = re.findall(
    r"^```python\n(.*?)^```", (FOLDER / "README.md").read_text(), re.DOTALL | re.MULTILINE
)


def run(daemon, *command):
    environment = {**os.environ, "TESSERA_SOCKET": str(daemon.socket)}
    done = subprocess.run(
        [sys.executable, *command], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()


@pytest.mark.parametrize("path", sorted(FOLDER.glob("examples/*.py")), ids=lambda path: path.name)
def test_example(daemon, path):
    run(daemon, path)


@pytest.mark.parametrize("code", SHOWN, ids=range(len(SHOWN)))
def test_readme(daemon, code):
    run(daemon, "-c", code)


def test_readme_has_examples():
    assert len(SHOWN) >= 2
