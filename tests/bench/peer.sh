#!/usr/bin/env bash
# Tessera and llama.cpp side by side on the same model files, in one run: the two alternate (A B A B A B), and what is
# printed is the median of each, their ratio, and ours as a part of this machine's limit from the same minutes.
#
#     tests/bench/peer.sh PEER MODEL.gguf...
#
# PEER is the folder with llama.cpp's programs (llama-bench, llama-batched-bench). Environment:
#   THREADS  thread counts to measure ["2 1"]       ROUNDS  how often to alternate [3]
#   STREAMS  also so many sequences together [8; 0: not]   CASES  of: decode prefill streams [all]
#   BUILD    Tessera's build [build/release]
#
# decode: 128 tokens from an empty context, one sequence. prefill: a prompt of 512 tokens. streams: 64 tokens each after 32.
# Both programs have the machine to themselves in turn ("packed": as many workers as threads). Not part of CI.
set -euo pipefail
top=$(cd "$(dirname "$0")/../.." && pwd)
if [ $# -lt 2 ]; then
    sed -n '2,/^set -euo/{/^set/d;s/^# \{0,1\}//;p}' "$0" >&2
    exit 2
fi
peer=$1
shift
for program in llama-bench llama-batched-bench; do
    [ -x "$peer/$program" ] || {
        echo "peer.sh: $peer has no $program" >&2
        exit 2
    }
done
ours=${BUILD:-$top/build/release}/tests/bench/bench_exec
[ -x "$ours" ] || {
    echo "peer.sh: $ours is not built: cmake --preset release && cmake --build build/release --target bench_exec" >&2
    exit 2
}
threads_list=${THREADS:-2 1}
rounds=${ROUNDS:-3}
streams=${STREAMS:-8}
cases=${CASES:-decode prefill streams}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

median() { sort -g "$1" | awk '{ v[NR] = $1 } END { if (NR) print (NR % 2 ? v[(NR + 1) / 2] : (v[NR / 2] + v[NR / 2 + 1]) / 2); else print 0 }'; }

# peer_bench MODEL THREADS PROMPT TOKENS: tokens/s of llama-bench
peer_bench() {
    "$peer/llama-bench" -m "$1" -t "$2" -p "$3" -n "$4" -r 1 -o jsonl 2>/dev/null |
        sed -n 's/.*"avg_ts": *\([0-9.]*\).*/\1/p' | head -n 1
}
peer_streams() {
    "$peer/llama-batched-bench" -m "$1" -t "$2" -c $(((32 + 64) * streams + 64)) -npp 32 -ntg 64 -npl "$streams" \
        --output-format jsonl 2>/dev/null | sed -n 's/.*"speed_tg": *\([0-9.]*\).*/\1/p' | head -n 1
}
# our_bench WHAT MODEL THREADS options...: tokens/s; its part of the limit goes to $work/limit
our_bench() {
    local what=$1 model=$2 threads=$3
    shift 3
    "$ours" "$model" -t "$threads" -r 1 "$@" >"$work/said"
    sed -n 's/^limits of .*: //p' "$work/said" >"$work/limits"
    sed -n "s/^$what .*= *\([0-9].*\)/\1/p" "$work/said" | head -n 1 >"$work/part"
    sed -n "s/^$what .*: *\([0-9.]*\) tok\/s.*/\1/p" "$work/said" | head -n 1
}

# compare NAME MODEL THREADS
compare() {
    local name=$1 model=$2 threads=$3 round
    : >"$work/ours" && : >"$work/theirs"
    for ((round = 0; round < rounds; round++)); do
        case $name in
        decode)
            our_bench decode "$model" "$threads" -p 1 -n 128 >>"$work/ours"
            peer_bench "$model" "$threads" 0 128 >>"$work/theirs"
            ;;
        prefill)
            our_bench prefill "$model" "$threads" -p 512 -n 1 >>"$work/ours"
            peer_bench "$model" "$threads" 512 0 >>"$work/theirs"
            ;;
        streams)
            our_bench decode "$model" "$threads" -p 32 -n 64 -s "$streams" >>"$work/ours"
            peer_streams "$model" "$threads" >>"$work/theirs"
            ;;
        esac
    done
    local a b label=$name
    [ "$name" != streams ] || label="$streams streams"
    a=$(median "$work/ours") b=$(median "$work/theirs")
    printf '  %-10s %d threads   tessera %9.1f   llama.cpp %9.1f tok/s   %5.2f x   (%s; runs %s | %s)\n' "$label" "$threads" \
        "$a" "$b" "$(awk -v a="$a" -v b="$b" 'BEGIN { print (b > 0 ? a / b : 0) }')" "$(cat "$work/part")" \
        "$(tr '\n' ' ' <"$work/ours" | sed 's/ $//')" "$(tr '\n' ' ' <"$work/theirs" | sed 's/ $//')"
}

echo "$(sed -n 's/^model name.*: //p' /proc/cpuinfo | head -n 1), $(nproc) CPUs, $(grep -o -w -m 1 -E 'avx512_vnni|avx512f|avx2' /proc/cpuinfo | sort -u | tail -n 1), medians of $rounds alternating runs"
for model in "$@"; do
    echo "$(basename "$model") ($(($(stat -L -c %s "$model") / 1000000)) MB)"
    for threads in $threads_list; do
        for name in $cases; do
            if [ "$name" = streams ] && { [ "$streams" = 0 ] || [ "$threads" = 1 ]; }; then
                continue
            fi
            compare "$name" "$model" "$threads"
        done
        echo "  limits of $threads threads: $(cat "$work/limits")"
    done
done
