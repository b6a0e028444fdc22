#!/usr/bin/env bash
# Runs libFuzzer programs for FUZZ_SECONDS each.  A fuzzer's seeds are in
# tests/fuzz/corpus/NAME where it has any; what it finds besides is kept under
# the build folder, and a crash keeps its input in $BUILD/logs/fuzz.  FUZZ_SEED
# repeats a run on the same corpus; 0, the default, is another one each time.
set -u
cd "$(dirname "$0")/.."

build=${BUILD:-build-fuzz}
logs=$build/logs/fuzz
mkdir -p "$logs"
passed=0 failed=0
for program in "$@"; do
    name=$(basename "$program")
    corpus=$build/corpus/$name
    mkdir -p "$corpus"
    seeds=tests/fuzz/corpus/$name
    [ -d "$seeds" ] || seeds=
    # shellcheck disable=SC2086
    if "$program" -max_total_time="${FUZZ_SECONDS:-60}" -timeout=25 \
           -seed="${FUZZ_SEED:-0}" -rss_limit_mb=4096 -print_final_stats=1 \
           -artifact_prefix="$logs/$name-" "$corpus" $seeds \
           >"$logs/$name.log" 2>&1; then
        passed=$((passed + 1))
        runs=$(sed -n 's/^stat::number_of_executed_units: *//p' \
                   "$logs/$name.log")
        echo "ok      fuzz/$name (${runs:-?} inputs)"
    else
        failed=$((failed + 1))
        echo "FAILED  fuzz/$name, end of $logs/$name.log:"
        tail -n 40 "$logs/$name.log" | sed 's/^/    /'
    fi
done
echo "fuzz: $passed passed, $failed failed, 0 skipped"
if [ -n "${AXION_TALLY:-}" ]; then
    echo "fuzz $passed $failed 0" >>"$AXION_TALLY"
fi
[ $failed -eq 0 ]
