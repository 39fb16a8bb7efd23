#!/usr/bin/env bash
# Runs every test that this machine can run, and says what it could not and why.
#
#     tests/run.sh                  all stages, about 20 minutes on two cores
#     tests/run.sh release          only these stages, of: style release clang asan tsan
#     TSR_JOBS=8 tests/run.sh       at most so many compilers and independent tests at a time
#
#   style    clang-format agrees with every source file
#   release  built by gcc, warnings are errors; all tests: unit, thread, conformance, integration, door and bypass
#            (with clients that are fetched), fuzz, bench (as a smoke test: its figures mean nothing here)
#   clang    built by clang (14 where it is to be had), warnings are errors; unit tests
#   asan     AddressSanitizer and UndefinedBehaviorSanitizer: unit, thread, integration, fuzz
#   tsan     ThreadSanitizer: thread
#
# Root is not needed; tests that need it (huge pages, cgroups, dropping privileges) skip themselves and say so. With it,
# packages that are missing are installed first.
# Builds lie in build/STAGE. The last line is "N passed, N failed, N skipped". Exit: 0 nothing failed, 1 something did.
set -uo pipefail
cd "$(dirname "$0")/.." || exit 1
top=$PWD
jobs=${TSR_JOBS:-$(nproc)}
[ $# -gt 0 ] || set -- style release clang asan tsan

results=$(mktemp) # lines: passed|failed|skipped, stage, name, reason
trap 'rm -f "$results"' EXIT
note() { printf '%s\t%s\t%s\t%s\n' "$1" "$2" "$3" "${4:-}" >>"$results"; }

give_back() { # what root built in a person's clone stays that person's
    if [ "$(id -u)" = 0 ] && [ -n "${SUDO_UID:-}" ]; then
        chown -R "$SUDO_UID:${SUDO_GID:-$SUDO_UID}" build 2>/dev/null
    fi
}

# read_ctest STAGE LOG SCREEN: a line of results for each test. What became of it stands only on CTest's screen, what it
# printed only in its log: the last line is the reason of a skip, the first that looks like an error a hint of a failure.
read_ctest() {
    awk -v OFS='\t' -v stage="$1" '
        FNR == NR && /^[0-9]+\/[0-9]+ Test: / { name = $3; inside = 0 }
        FNR == NR && /^Output:$/ { inside = 1; next }
        FNR == NR && /^<end of output>$/ { inside = 0 }
        FNR == NR && inside && NF && !/^-+$/ { last[name] = $0 }
        FNR == NR && inside && /ERROR|error:|^failed:/ && !(name in first) { first[name] = $0 }
        FNR == NR && inside && /^\[  SKIPPED \] test_/ && !seen[name, $4]++ { print "case", stage, name, $4 }
        FNR == NR { next }
        / Test +#[0-9]+: / {
            sub(/^.* Test +#[0-9]+: /, "")
            reason = last[$1]
            if (/\*\*\*Skipped/) { sub(/^.*skipped: */, "", reason); print "skipped", stage, $1, reason }
            else if (/ Passed /) print "passed", stage, $1, ""
            else print "failed", stage, $1, $1 in first ? first[$1] : reason
        }
    ' "$2" "$3"
}

# run_ctest STAGE JOBS ctest-arguments...
run_ctest() {
    local stage=$1 at_once=$2 screen=build/$1/ctest.log log=build/$1/Testing/Temporary/LastTest.log
    shift 2
    rm -f "$log"
    ctest --test-dir "build/$stage" -j "$at_once" --output-on-failure --no-tests=ignore "$@" 2>&1 | tee "$screen" |
        grep -vE '^(Internal ctest|Test project|Label Time|Total Test time|$)|sec\*proc|tests passed|^ +Start |did not run:|\(Skipped\)'
    [ ! -f "$log" ] || read_ctest "$stage" "$log" "$screen" >>"$results"
}

# build STAGE LABEL cmake-arguments...: everything, or with a LABEL only its tests. 0 where it built.
build() {
    local stage=$1 label=$2 began=$SECONDS log=build/$1/build.log targets=(all)
    shift 2
    mkdir -p "build/$stage"
    if cmake --preset "$stage" -DTSR_TESTS=ON "$@" >"$log" 2>&1; then
        if [ -n "$label" ]; then
            mapfile -t targets < <(ctest --test-dir "build/$stage" -N -L "^$label\$" | sed -n 's/^ *Test *#[0-9]*: //p')
        fi
        if cmake --build "build/$stage" -j "$jobs" --target "${targets[@]}" -- -k 0 >>"$log" 2>&1; then
            note passed "$stage" build
            echo "built in $((SECONDS - began)) s"
            return 0
        fi
    fi
    grep -E 'error|FAILED|CMake Error' -A 5 "$log" | head -n 60
    note failed "$stage" build "the whole output is in $log"
    return 1
}

stage_style() {
    if ! command -v clang-format-14 >/dev/null; then
        note skipped style clang-format "clang-format-14 is not installed, and other versions decide differently"
        return
    fi
    local files
    files=$(git ls-files '*.c' '*.h' 2>/dev/null || find clients daemon engine shm tests -name '*.[ch]')
    local wrong
    wrong=$(echo "$files" | xargs -r -n 50 -P "$jobs" clang-format-14 --dry-run 2>&1 |
        grep -oE '^[^ :]+:[0-9]+' | cut -d: -f1 | sort | uniq -c)
    if [ -n "$wrong" ]; then
        echo "$wrong"
        note failed style clang-format "run clang-format-14 -i on $(echo "$wrong" | awk '{ printf "%s ", $2 }')"
    else
        note passed style clang-format
    fi
}

# Long, on one CPU or asleep, and measuring nothing: several at a time. All others of their labels have the machine alone.
side_by_side='^test_(kernels_avx512_emulated|channel_kill|python|rust|web|web_box)$'

stage_release() {
    build release '' -DCMAKE_COMPILE_WARNING_AS_ERROR=ON || return
    run_ctest release "$jobs" -L '^(unit|fuzz)$'
    tests/door/setup.sh build/clients || echo "The clients could not be fetched; what needs them is skipped."
    run_ctest release "$jobs" -R "$side_by_side"
    run_ctest release "$jobs" -L '^bypass$'
    run_ctest release 1 -L '^(thread|conformance|integration|door|bench|hw)$' -E "$side_by_side"
}

stage_clang() {
    local clang
    clang=$(command -v clang-14 || command -v clang) || {
        note skipped clang build "clang is not installed"
        return
    }
    build clang '' -DCMAKE_C_COMPILER="$clang" -DCMAKE_COMPILE_WARNING_AS_ERROR=ON || return
    run_ctest clang "$jobs" -L '^unit$'
}

stage_asan() {
    build asan '' || return
    run_ctest asan "$jobs" -L '^(unit|fuzz)$'
    run_ctest asan "$jobs" -L '^integration$' -R "$side_by_side"
    run_ctest asan 1 -L '^(thread|integration)$' -E "$side_by_side"
}

stage_tsan() {
    build tsan thread || return
    run_ctest tsan 1 -L '^thread$'
}

for stage in "$@"; do
    case $stage in
    style | release | clang | asan | tsan) ;;
    *)
        echo "tests/run.sh: no stage is called '$stage' (they are: style release clang asan tsan)" >&2
        exit 1
        ;;
    esac
done
# have GROUPS...: of packages; what cannot be had of them is said
have() {
    local missing
    ! missing=$(deploy/packages.sh --missing "$@") || return
    [ "$(id -u)" = 0 ] && deploy/packages.sh "$@" || echo "Not installed (sudo deploy/packages.sh $* installs them): $missing"
}
if command -v dpkg-query >/dev/null; then
    have build test
    have bypass bypass-test
fi
if [ "$(uname -m)" != x86_64 ]; then
    echo "Note: this machine is not x86-64; only the portable kernels are built"
fi

export ASAN_OPTIONS=${ASAN_OPTIONS:-detect_leaks=1:abort_on_error=1}
export UBSAN_OPTIONS=${UBSAN_OPTIONS:-print_stacktrace=1}
export TSAN_OPTIONS=${TSAN_OPTIONS:-halt_on_error=1:second_deadlock_stack=1}
for stage in "$@"; do
    printf '\n== %s\n' "$stage"
    began=$SECONDS
    "stage_$stage"
    echo "-- $stage took $((SECONDS - began)) s"
done
give_back

echo
echo "Summary ($(nproc) CPUs, $(grep -m1 'model name' /proc/cpuinfo | sed 's/.*: //'), $(id -un), in $((SECONDS / 60)) min $((SECONDS % 60)) s)"
awk -F '\t' -v top="$top" '
    { n[$1]++; stages[$2] = 1; by[$2, $1]++ }
    $1 == "failed" { failed = failed sprintf("  %s: %s%s\n", $2, $3, $4 == "" ? "" : ": " $4) }
    $1 == "skipped" { at = $3 ": " ($4 == "" ? "it did not say why" : $4)
                      skipped[at] = skipped[at] (skipped[at] == "" ? "" : ", ") $2 }
    $1 == "case" { cases = cases sprintf("  %s: %s in %s\n", $2, $4, $3) }
    END {
        for (s in stages)
            printf "  %-8s %d passed, %d failed, %d skipped\n", s, by[s, "passed"], by[s, "failed"], by[s, "skipped"] | "sort"
        fflush(); close("sort")
        if (n["skipped"]) {
            print "Skipped, and why:"
            fflush()
            for (s in skipped) printf "  %s (%s)\n", s, skipped[s] | "sort"
            close("sort")
        }
        if (cases != "") printf "Single cases skipped inside programs that passed:\n%s", cases
        if (failed != "") printf "Failed (build/STAGE/Testing/Temporary/LastTest.log has the rest):\n%s", failed
        printf "%d passed, %d failed, %d skipped\n", n["passed"], n["failed"], n["skipped"]
    }' "$results"
! grep -q '^failed' "$results"
