#!/usr/bin/env bash
# The wake-up protocol's model (wakeup.pml) holds in every order of events,
# with and without tickets, and fails when either of the two fences is
# deleted or when tickets come again: so all are needed, and the model would
# notice.
set -eu

model=$(cd "$(dirname "$0")" && pwd)/wakeup.pml
for tool in spin gcc; do
    if ! command -v "$tool" >/dev/null; then
        echo "skipped: no $tool here"
        exit 77
    fi
done
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"

# Prints the number of errors that an exhaustive search finds.
errors_of()
{
    spin "$@" -a "$model" >spin.log
    gcc -w -O1 -DSAFETY -o pan pan.c
    ./pan -m1000000 >pan.log || true
    if grep -q "max search depth too small\|out of memory" pan.log; then
        echo "the search was not exhaustive" >&2
        exit 1
    fi
    sed -n 's/.*errors: \([0-9]*\).*/\1/p' pan.log
}

failed=0
expect()
{
    local wanted=$1 found
    shift
    found=$(errors_of "$@")
    states=$(sed -n 's/^ *\([0-9]*\) states, stored.*/\1/p' pan.log)
    if [ "$found" = "$wanted" ]; then
        echo "ok      $* ($states states, errors: $found)"
    else
        echo "FAILED  $*: errors: ${found:-none counted}, expected $wanted"
        failed=1
    fi
}

expect 0 -DN=1
expect 0 -DN=4
expect 0 -DN=4 -DRING_ALWAYS
for fence in -DNO_WAKER_FENCE -DNO_SLEEPER_FENCE; do
    expect 1 -DN=4 "$fence"
    expect 1 -DN=4 -DRING_ALWAYS "$fence"
done
expect 1 -DN=4 -DTICKETS=3
exit $failed
