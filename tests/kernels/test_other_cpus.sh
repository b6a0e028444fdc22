#!/usr/bin/env bash
# Shows that other x86-64 CPUs than this one serve the same bytes: under
# qemu-user, whose CPU models raise SIGILL for what they lack,
#
#   Nehalem   SSE4.2, no AVX: the scalar kernels are chosen
#   Haswell   AVX2, FMA, F16C, no AVX-512: the avx2 kernels are chosen; they
#             equal the scalar reference there (checkkernels)
#
# On both, axiond serves over the ring (without io_uring, which qemu has not)
# what it serves here, and a cap above what the CPU has is not followed.
set -u
build=${AXION_BUILD:-build}
fails=0

command -v qemu-x86_64 >/dev/null || {
    echo "skipped: qemu-x86_64 is not installed (Debian's qemu-user)"
    exit 77
}
[ "$(uname -m)" = x86_64 ] || {
    echo "skipped: the CPU models are of x86-64"
    exit 77
}

work=$(mktemp -d)
engine=
# shellcheck disable=SC2064
trap '[ -n "$engine" ] && kill "$engine" && wait "$engine"; rm -rf "$work"' EXIT

check()
{
    if [ "$2" = "$3" ]; then
        echo "ok: $1"
    else
        echo "FAILED: $1: got \"$2\", wanted \"$3\""
        fails=$((fails + 1))
    fi
}

# Answers of axiond, started with the words before "--" on model $1.
answers()
{
    local line model=$1 awaited=2
    shift
    mkfifo "$work/log"
    "$@" "$build/axiond" --model "$model" --threads 2 --kv-memory 8m \
        --listen "unix:$work/sock" 2>"$work/log" &
    engine=$!
    while [ $awaited -gt 0 ] && read -r line; do
        echo "$line" >>"$work/lines"
        case $line in *"ready on"* | *" threads, "*) ((awaited--)) ;; esac
    done <"$work/log"
    for temp in 0 0.9; do
        "$build/axion" chat --connect "unix:$work/sock" --temp $temp \
            --seed 7 -n 16 --prompt 'The quick brown fox' 2>/dev/null
    done
    kill "$engine"
    wait "$engine"
    engine=
    rm "$work/log"
}

for format in q4_k q8_0; do
    model=$work/$format.gguf
    "$build/tests/tiny/tiny-model" --variant $format "$model" || exit 1
    answers "$model" env >"$work/here"
    check "$format: it answers here" \
        "$([ "$(wc -c <"$work/here")" -gt 20 ] && echo yes)" yes
    for cpu in Nehalem:scalar Haswell:avx2; do
        : >"$work/lines"
        answers "$model" qemu-x86_64 -cpu ${cpu%:*} >"$work/there"
        check "$format: ${cpu%:*} runs ${cpu#*:}" \
            "$(sed -n 's/.* threads, \([a-z0-9]*\);.*/\1/p' "$work/lines")" \
            "${cpu#*:}"
        check "$format: ${cpu%:*} serves the same bytes" \
            "$(cmp "$work/here" "$work/there" && echo same)" same
    done
done

check "a cap above the CPU is not followed" \
    "$(qemu-x86_64 -cpu Nehalem "$build/axion" bench -m "$work/q8_0.gguf" \
        --isa avx2 -p 4 -n 0 -r 1 -t 1 2>/dev/null | grep -c '| scalar ')" 1

AXION_TINY_ONLY=1 qemu-x86_64 -cpu Haswell \
    "$build/tests/kernels/checkkernels" >"$work/kernels" 2>&1
check "checkkernels on Haswell" $? 0
[ $fails -eq 0 ] || tail -n 20 "$work/kernels"
[ $fails -eq 0 ]
