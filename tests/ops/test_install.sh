#!/usr/bin/env bash
# Shows that `make install` puts everything where PREFIX and DESTDIR say and
# nothing elsewhere, that the installed unit and snippet name the installed
# files, and that the installed programs and module work.
set -u
build=${AXION_BUILD:-build}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
fails=0

check()
{
    if [ "$2" = "$3" ]; then
        echo "ok: $1"
    else
        echo "FAILED: $1: got \"$2\", wanted \"$3\""
        fails=$((fails + 1))
    fi
}

listed()
{
    (cd "$1" && find . -type f -printf '%m %P\n' | sort -k 2)
}

wanted()
{
    {
        printf '755 %s\n' bin/axiond bin/axion
        printf '644 %s\n' lib/nginx/modules/ngx_http_axion_module.so \
            share/nginx/modules-available/mod-http-axion.conf \
            lib/systemd/system/axiond@.service \
            lib/systemd/system/axiond@.socket \
            lib/sysusers.d/axion.conf lib/tmpfiles.d/axion.conf \
            share/man/man8/axiond.8 share/man/man1/axion.1 \
            share/man/man7/axion_ring.7
        for file in README.md LICENSE CHANGES docs/*.md conf-examples/*.* \
                conf-examples/systemd/*.conf; do
            printf '644 share/doc/axion/%s\n' "$file"
        done
    } | sort -k 2
}

# Through make, which must not need to build anything for it.
make --no-print-directory -s BUILD="$build" DESTDIR="$work/root" \
    PREFIX=/opt/x -o all install || exit 1
check "only PREFIX is written to" "$(cd "$work/root" && find . -mindepth 1 \
    -maxdepth 2 -printf '%P ')" "opt opt/x "
prefix=$work/root/opt/x
check "all files, with their modes" "$(listed "$prefix")" "$(wanted)"
check "the unit runs the installed program" \
    "$(grep -c '^ExecStart=/opt/x/bin/axiond ' \
        "$prefix/lib/systemd/system/axiond@.service")" 1
check "the snippet loads the installed module" \
    "$(cat "$prefix/share/nginx/modules-available/mod-http-axion.conf")" \
    "load_module /opt/x/lib/nginx/modules/ngx_http_axion_module.so;"
check "axiond runs" "$("$prefix/bin/axiond" --version | cut -d' ' -f1)" axiond
check "axion runs" "$("$prefix/bin/axion" --version | cut -d' ' -f1)" axion

BUILD=$build NGINX_MODULES=$work/modules tools/install.sh "" "$work/plain" \
    >/dev/null
check "NGINX_MODULES moves the module" "$(ls "$work/modules")" \
    ngx_http_axion_module.so
cat >"$work/nginx.conf" <<END
include $work/plain/share/nginx/modules-available/mod-http-axion.conf;
pid $work/pid;
error_log $work/error.log;
events {}
http {
    access_log off;
    client_body_temp_path $work/body;
    proxy_temp_path $work/proxy;
    fastcgi_temp_path $work/fastcgi;
    uwsgi_temp_path $work/uwsgi;
    scgi_temp_path $work/scgi;
    axion_upstream llm { engine unix:/run/axion/x.sock; }
    server { listen unix:$work/sock; location /v1/ { axion_pass llm; } }
}
END
nginx=$(command -v nginx || echo /usr/sbin/nginx)
"$nginx" -t -q -e "$work/error.log" -p "$work" -c "$work/nginx.conf"
check "nginx accepts it through the snippet" $? 0

[ $fails -eq 0 ]
