#!/usr/bin/env bash
# Runs Test::Nginx files with the environment they need: the module just
# built, a free port of the loopback, a prefix under the build folder.
#
#   tools/run-nginx-tests.sh [FILE.t ...]      (all of t/ without arguments)
#
# BUILD names the build folder; TEST_NGINX_BINARY, TEST_NGINX_PORT and
# TEST_NGINX_LOAD_MODULES are kept when they are set, and AXION_SUITE is the
# name that the results go by.  The blocks of a file run in a shuffled order
# that TEST_NGINX_SEED (1) decides: the same one today and tomorrow.
set -u
cd "$(dirname "$0")/.."

build=${BUILD:-build}
mkdir -p "$build"
AXION_BUILD=$(cd "$build" && pwd)
export AXION_BUILD

[ $# -gt 0 ] || set -- t/*.t

if [ -z "${TEST_NGINX_BINARY:-}" ]; then
    TEST_NGINX_BINARY=$(command -v nginx || echo /usr/sbin/nginx)
fi
# An absolute path: nginx executes itself anew at a binary upgrade.
export TEST_NGINX_BINARY
: "${TEST_NGINX_LOAD_MODULES:=$AXION_BUILD/ngx_http_axion_module.so}"
export TEST_NGINX_LOAD_MODULES
: "${TEST_NGINX_SERVROOT:=$AXION_BUILD/servroot}"
export TEST_NGINX_SERVROOT
: "${TEST_NGINX_SEED:=1}"
export TEST_NGINX_SEED
# Below the ports that the kernel gives to clients: nginx comes and goes, and
# one of these could take it in between.
if [ -z "${TEST_NGINX_PORT:-}" ]; then
    TEST_NGINX_PORT=$(perl -MIO::Socket::INET -e '
        for (1 .. 1000) {
            my $port = 10000 + int rand 20000;
            IO::Socket::INET->new(LocalAddr => "127.0.0.1", Listen => 1,
                LocalPort => $port) and print($port), exit;
        }')
fi
export TEST_NGINX_PORT
export TEST_NGINX_SERVER_PORT=$TEST_NGINX_PORT

exec tools/run-tests.sh "${AXION_SUITE:-nginx}" "$@"
