#!/usr/bin/env bash
# make install: tools/install.sh DESTDIR PREFIX.
#
#   PREFIX/bin                      axiond, axion
#   PREFIX/lib/nginx/modules        the module; with PREFIX=/usr that is where
#                                   Debian's nginx has its own
#   PREFIX/share/nginx/modules-available
#                                   the line that loads it
#   PREFIX/lib/systemd/system       axiond@.service, axiond@.socket
#   PREFIX/lib/{sysusers,tmpfiles}.d   user and folder of the engines
#   PREFIX/share/man, share/doc/axion  manual, examples
#
# Units and folders are only put there: docs/operations.md says what to start.
# NGINX_MODULES names another folder for the module.
set -eu
cd "$(dirname "$0")/.."

build=${BUILD:-build}
prefix=$2
root=$1$prefix
modules=${NGINX_MODULES:-$prefix/lib/nginx/modules}
module=ngx_http_axion_module.so
units=conf-examples/systemd

# data FOLDER FILE...: files under PREFIX
data()
{
    local folder=$root/$1
    shift
    install -d "$folder"
    install -m 644 "$@" "$folder/"
}

install -d "$root/bin" "$1$modules"
install -m 755 "$build/axiond" "$build/axion" "$root/bin/"
install -m 644 "$build/$module" "$1$modules/"

install -d "$root/share/nginx/modules-available"
echo "load_module $modules/$module;" \
    >"$root/share/nginx/modules-available/mod-http-axion.conf"
chmod 644 "$root/share/nginx/modules-available/mod-http-axion.conf"

data lib/systemd/system "$units/axiond@.service" "$units/axiond@.socket"
sed -i "s,^ExecStart=/usr/bin/,ExecStart=$prefix/bin/," \
    "$root/lib/systemd/system/axiond@.service"
install -d "$root/lib/sysusers.d" "$root/lib/tmpfiles.d"
install -m 644 "$units/sysusers.conf" "$root/lib/sysusers.d/axion.conf"
install -m 644 "$units/tmpfiles.conf" "$root/lib/tmpfiles.d/axion.conf"

for page in docs/man/*.[1-8]; do
    data "share/man/man${page##*.}" "$page"
done

# As in the source tree, so that links lead somewhere.
doc=share/doc/axion
data "$doc" README.md LICENSE CHANGES
data "$doc/docs" docs/*.md
data "$doc/conf-examples" conf-examples/*.md conf-examples/*.conf
data "$doc/conf-examples/systemd" "$units"/*.conf

echo "installed under $root; nginx loads it with" \
     "load_module $modules/$module;"
