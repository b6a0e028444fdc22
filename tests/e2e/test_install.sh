#!/usr/bin/env bash
# make install leaves what README promises: programs that run, a module that
# nginx loads, the documents; all under DESTDIR and PREFIX and nowhere else.
set -eu
dest=$AXION_BUILD/install-test
rm -rf "$dest"
BUILD=$AXION_BUILD tools/install.sh "$dest" /opt/axion
root=$dest/opt/axion

"$root/bin/axiond" --version
"$root/bin/axion" --help >/dev/null
test -f "$root/share/doc/axion/LICENSE"
test -f "$root/share/doc/axion/docs/getting-started.md"
[ "$(find "$dest" -mindepth 1 -maxdepth 1)" = "$dest/opt" ]

mkdir "$dest/nginx"
cat >"$dest/nginx/nginx.conf" <<CONF
load_module $root/lib/nginx/modules/ngx_http_axion_module.so;
pid nginx.pid;
error_log stderr;
events {}
http {
    access_log off;
    client_body_temp_path body;
    proxy_temp_path proxy;
    fastcgi_temp_path fastcgi;
    uwsgi_temp_path uwsgi;
    scgi_temp_path scgi;
    axion_upstream llm { engine unix:/run/axion.sock; }
    server { listen 127.0.0.1:1; location /v1/ { axion_pass llm; } }
}
CONF
PATH=$PATH:/usr/sbin nginx -t -p "$dest/nginx/" -c nginx.conf -e stderr
rm -rf "$dest"
