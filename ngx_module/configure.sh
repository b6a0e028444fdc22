#!/usr/bin/env bash
# Runs nginx's configure for the module:
#
#   configure.sh NGINX_SRC BUILD [CC_OPT [LD_OPT]]
#
# With Debian's options (conf_flags), so that structures are those of the
# installed nginx; the signature that nginx compares at load sees to that too.
# CC_OPT and LD_OPT are the builder's flags, behind what every module needs.
set -eu

nginx_src=$1
build=$2
cc_opt=${3:-}
ld_opt=${4:-}
addon=$(cd "$(dirname "$0")/.." && pwd)

if [ ! -x "$nginx_src/configure" ]; then
    echo "configure.sh: no nginx build tree in $nginx_src (run: make deps)" >&2
    exit 1
fi

cd "$nginx_src"
NGX_CONF_FLAGS=(--with-compat --with-threads)
if [ -f conf_flags ]; then
    . ./conf_flags
fi

mkdir -p "$build"
log=$build/configure.log
if ! ./configure --builddir="$build" "${NGX_CONF_FLAGS[@]}" \
        --with-cc-opt="-g -O2 -fPIC -fstack-protector-strong $cc_opt" \
        --with-ld-opt="-Wl,-z,relro -Wl,-z,now -fPIC $ld_opt" \
        --add-dynamic-module="$addon" > "$log" 2>&1; then
    tail -n 20 "$log" >&2
    exit 1
fi
