"""Runs a command with TESSERA_URL set to a box of its own: with_box.py COMMAND..."""

import os
import subprocess
import sys

from box import Box

with Box() as started:
    code = subprocess.run(sys.argv[1:], env=os.environ | {"TESSERA_URL": started.url}).returncode
    started.idle()
    started.stop()
sys.exit(code)
