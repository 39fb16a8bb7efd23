# For the tests of the page: $python, which can drive Chromium, and the folders $web and $pictures. Not a test itself; it is sourced.
: "${TESSERA_SOURCE:?}" "${TESSERA_BUILD:?}"
skip() {
    echo "skipped: $*"
    exit 77
}
web=$TESSERA_SOURCE/tests/integration/web
pictures=$TESSERA_BUILD/tests/integration/web
python=/usr/bin/python3 # Debian's, which has Debian's selenium
[ -z "${TESSERA_SANITIZE:-}" ] || skip "the page is the same in every build"
[ -x /usr/bin/chromium ] && [ -x /usr/bin/chromedriver ] || skip "chromium and chromium-driver are not installed"
"$python" -c 'import selenium' 2>/dev/null || skip "python3-selenium is not installed"
export PYTHONDONTWRITEBYTECODE=1
