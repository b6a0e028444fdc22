#!/usr/bin/env bash
# make install: tools/install.sh DESTDIR PREFIX.  Programs to PREFIX/bin, the
# nginx module where nginx looks for modules under the same prefix, example
# configurations and documents to PREFIX/share.
set -eu
cd "$(dirname "$0")/.."

build=${BUILD:-build}
root=$1$2
install -d "$root/bin" "$root/lib/nginx/modules" \
    "$root/share/doc/axion/docs" \
    "$root/share/axion/conf-examples"
for program in axiond axion; do
    install -m 755 "$build/$program" "$root/bin/"
done
install -m 644 "$build/ngx_http_axion_module.so" "$root/lib/nginx/modules/"
install -m 644 README.md LICENSE CHANGES "$root/share/doc/axion/"
install -m 644 docs/*.md "$root/share/doc/axion/docs/"
for example in conf-examples/*; do
    if [ -f "$example" ]; then
        install -m 644 "$example" "$root/share/axion/conf-examples/"
    fi
done
echo "installed under $root; in nginx.conf:" \
     "load_module $2/lib/nginx/modules/ngx_http_axion_module.so;"
