#!/usr/bin/env bash
# The box's page in a real Chromium, before a stand-in that answers as badly as a box could: see web/check_page.py.
# Screenshots are kept in build/.../tests/integration/web.
set -uo pipefail
. "$TESSERA_SOURCE/tests/integration/web/chromium.sh"
exec "$python" "$web/check_page.py" "$TESSERA_BUILD/clients/web" "$pictures" "$@"
