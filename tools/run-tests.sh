#!/usr/bin/env bash
# Runs the test programs of one suite, one after the other, and counts them.
#
#   tools/run-tests.sh SUITE PROGRAM...
#
# A program is run by its name: .py with the virtual environment's Python,
# .t with perl (Test::Nginx, t/lib), .sh with bash, everything else as it is.
# Exit 0 is passed, 77 is skipped and said aloud, anything else is failed and
# shows the end of its log, and last what tools/failing-lines.awk finds
# decisive in it.  Logs are in $BUILD/logs/SUITE/.  The counts are appended to
# the file $AXION_TALLY where tools/check.sh wants them, what was decisive to
# $AXION_TALLY.failed.
#
# Programs find in their environment: AXION_BUILD (absolute), AXION_MODEL
# (the real model; unset where it is missing or AXION_TINY_ONLY=1 is set).
set -u
cd "$(dirname "$0")/.."

suite=$1
shift
build=${BUILD:-build}
mkdir -p "$build/logs/$suite"
AXION_BUILD=$(cd "$build" && pwd)
AXION_SOURCE=$(pwd)
export AXION_BUILD AXION_SOURCE
model=models/SmolLM2-135M-Instruct.Q4_1.gguf
if [ "${AXION_TINY_ONLY:-0}" = 1 ]; then
    unset AXION_MODEL
elif [ -z "${AXION_MODEL:-}" ] && [ -f "$model" ]; then
    export AXION_MODEL="$AXION_SOURCE/$model"
fi
python=${VENV:-.venv}/bin/python
[ -x "$python" ] || python=${PYTHON:-python3}

# Sanitizers of gcc 12 lose their shadow memory to a kernel that randomizes
# more address bits than they expect; without randomization they work.
wrap=
if [ "${AXION_SANITIZED:-0}" = 1 ] && setarch -R true 2>/dev/null; then
    wrap="setarch -R"
fi

# The last resort against a test that hangs: it is failed, never passed.  Ten
# times what the longest takes, and no more than a check of an hour can lose.
hang_s=${AXION_TEST_HANG_S:-900}

passed=0 failed=0 skipped=0
for program in "$@"; do
    name=$(basename "$program")
    log=$build/logs/$suite/$name.log
    case "$program" in
    *.py) command="$python $program" ;;
    *.t) command="perl -It/lib $program" ;;
    *.sh) command="bash $program" ;;
    *) command="$wrap $program" ;;
    esac
    start=$(date +%s%N)
    # shellcheck disable=SC2086
    timeout --kill-after=10 "$hang_s" $command >"$log" 2>&1 </dev/null
    code=$?
    ms=$((($(date +%s%N) - start) / 1000000))
    took=$((ms / 1000)).$(printf '%03d' $((ms % 1000)) | cut -c1-1)
    # A .t file says "nothing to run here" in TAP and exits 0.
    if [ $code -eq 0 ] && [ "${program%.t}" != "$program" ] &&
       grep -qiE '^1\.\.0 *# *skip' "$log"; then
        code=77
    fi
    case $code in
    0)
        passed=$((passed + 1))
        echo "ok      $suite/$name ($took s)"
        ;;
    77)
        skipped=$((skipped + 1))
        why=$(grep -iE 'skip' "$log" | head -n 1)
        echo "SKIPPED $suite/$name: ${why:-it gave no reason}"
        ;;
    *)
        failed=$((failed + 1))
        # 124, or 137 where the signal that asks it to end was not enough.
        if [ $((ms / 1000)) -ge "$hang_s" ]; then
            echo "$name hung for $hang_s s" >>"$log"
        fi
        echo "FAILED  $suite/$name (exit $code, $took s), end of $log:"
        tail -n "${AXION_LOG_LINES:-40}" "$log" | sed 's/^/    /'
        echo "why $suite/$name failed:"
        awk -f tools/failing-lines.awk "$log" | sed 's/^/    /' |
            tee "$build/logs/$suite/$name.why"
        if [ -n "${AXION_TALLY:-}" ]; then
            {
                echo "FAILED  $suite/$name (exit $code)"
                cat "$build/logs/$suite/$name.why"
            } >>"$AXION_TALLY.failed"
        fi
        ;;
    esac
done

echo "$suite: $passed passed, $failed failed, $skipped skipped"
if [ -n "${AXION_TALLY:-}" ]; then
    echo "$suite $passed $failed $skipped" >>"$AXION_TALLY"
fi
[ $failed -eq 0 ]
