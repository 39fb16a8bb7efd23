#!/usr/bin/env bash
# The box's page in a real Chromium, served by the real dataplane before a real engine: see web/check_box.py.
set -uo pipefail
. "$TESSERA_SOURCE/tests/integration/web/chromium.sh"
exec "$python" "$web/check_box.py" "$pictures" "$@"
