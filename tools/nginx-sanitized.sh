#!/usr/bin/env bash
# nginx for a module that is built with SAN=address,undefined: nginx itself is
# not instrumented, so the sanitizer's library has to be loaded before it.
# tools/targets.mk hands it to the tests as TEST_NGINX_BINARY; a finding ends
# the process by a signal, which fails the test.  What nginx still holds when
# it exits is no leak.
set -eu

nginx=$(PATH=$PATH:/usr/sbin:/usr/local/sbin command -v nginx)
library=$("${CC:-gcc}" -print-file-name=libasan.so)
export ASAN_OPTIONS=detect_leaks=0:abort_on_error=1
export UBSAN_OPTIONS=print_stacktrace=1
LD_PRELOAD=$library exec "$nginx" "$@"
