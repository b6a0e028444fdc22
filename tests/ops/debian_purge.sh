#!/usr/bin/env bash
# Shows that a purge of the packages leaves nothing of theirs and an nginx that
# works, in the root of debian_package.sh, and that the manual's user and
# folder for engines without packages can be made there; the root is removed
# then.
set -u
# shellcheck source=tests/ops/debian_root.sh
. "$(dirname "$0")/debian_root.sh"

need_root
trap remove_root EXIT
rm -f "$root/etc/nginx/conf.d/axion.conf"
inside apt-get purge -y -q axiond libnginx-mod-http-axion >"$log" 2>&1 ||
    fail "apt-get purge"
inside nginx -t >"$log" 2>&1 || fail "nginx -t after the purge"
left=$(cd "$root" && find etc usr lib/systemd -name '*axion*' 2>/dev/null)
[ -z "$left" ] || fail "the purge left: $left"
ok "a purge leaves nothing"

# The purge leaves the user, whose files there may be.
inside userdel axion >"$log" 2>&1 || fail "userdel axion"
inside useradd --system --no-create-home axion || fail "useradd"
inside install -d -o axion -g www-data -m 0750 /run/axion || fail "install -d"
[ "$(inside stat -c '%U:%G %a' /run/axion)" = "axion:www-data 750" ] ||
    fail "the folder is of $(inside stat -c '%U:%G %a' /run/axion)"
ok "the manual's user and folder"
