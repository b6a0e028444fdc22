#!/usr/bin/env bash
# Shows that the Debian packages build and work: dpkg-buildpackage in a copy of
# the tree, then a clean root made by debootstrap, in which apt installs nginx
# and the packages, the programs are hardened, nginx -t accepts the module, and
# nginx answers from an axiond that runs as the user axion.
#
# It needs root and the network (the mirrors that this machine's apt has), and
# takes two or three minutes: `make test-package` and `make check` run it.  The
# root stays for debian_units.sh, which boots it, and debian_purge.sh.
set -u
# shellcheck source=tests/ops/debian_root.sh
. "$(dirname "$0")/debian_root.sh"
nginx_pid='' engine='' debootstrap=''

[ "$(id -u)" -eq 0 ] || skip "it needs root"
for tool in debootstrap dpkg-buildpackage dh chroot; do
    command -v $tool >/dev/null || skip "$tool is not installed"
done
dpkg-checkbuilddeps 2>&1 || skip "packages to build with are missing"

finish()
{
    [ -n "$nginx_pid" ] && kill "$nginx_pid" 2>/dev/null
    [ -n "$engine" ] && kill "$engine" 2>/dev/null
    [ -n "$debootstrap" ] && kill "$debootstrap" 2>/dev/null
    wait
    umount_proc
    [ -e "$work/installed" ] || remove_root
}
remove_root # what an interrupted run may have left
mkdir "$work"
trap finish EXIT

# URL SUITE COMPONENT of each Debian source that this machine installs from.
sources()
{
    # shellcheck disable=SC2016
    apt-get indextargets --format '$(REPO_URI) $(RELEASE) $(COMPONENT)' \
        'Created-By: Packages' 'Origin: Debian' | sort -u
}

# ---- a clean root, and the packages beside it ----

version=$(sed -n 's/^VERSION := //p' Makefile)
[ "$(dpkg-parsechangelog -S Version)" = "$version" ] ||
    fail "debian/changelog is not of version $version"
suite=$(sed -n 's/^VERSION_CODENAME=//p' /etc/os-release)
mirror=$(sources | awk -v s="$suite" '$2 == s && $3 == "main" { print $1
                                                                exit }')
[ -n "$mirror" ] || skip "apt has no source of Debian $suite"
proxy=$(apt-config shell proxy Acquire::http::Proxy)
eval "$proxy"
[ -n "${proxy:-}" ] && export http_proxy=$proxy
debootstrap --variant=minbase "$suite" "$root" "$mirror" \
    >"$work/debootstrap" 2>&1 </dev/null &
debootstrap=$!

mkdir -p "$work/axion"
git ls-files -z | xargs -0 cp --parents -t "$work/axion" 2>/dev/null
# Not with the settings of the make that runs this: it has another BUILD.
(cd "$work/axion" && env -u BUILD -u MAKEFLAGS -u MAKELEVEL \
    DEB_BUILD_OPTIONS=noautodbgsym \
    dpkg-buildpackage -us -uc -b "-j$(nproc)") >"$log" 2>&1 </dev/null ||
    fail "dpkg-buildpackage"
ok "dpkg-buildpackage"
wait "$debootstrap" ||
    skip "debootstrap failed: $(tail -n 1 "$work/debootstrap")"
debootstrap=''
ok "debootstrap"
sources | sed 's/^/deb /' >"$root/etc/apt/sources.list"
[ -n "${proxy:-}" ] && echo "Acquire::http::Proxy \"$proxy\";" \
    >"$root/etc/apt/apt.conf.d/proxy"
printf '#!/bin/sh\nexit 101\n' >"$root/usr/sbin/policy-rc.d"
chmod 755 "$root/usr/sbin/policy-rc.d"
mount_proc
cp /etc/resolv.conf "$root/etc/"
cp "$work"/*.deb "$root/"
echo 'Acquire::Retries "5";' >"$root/etc/apt/apt.conf.d/retries"
inside apt-get update -q -o APT::Update::Error-Mode=any >"$log" 2>&1 ||
    skip "apt-get update: $(tail -n 1 "$log")"
install_inside nginx "/*.deb"
ok "apt installs nginx and the packages"

# ---- what is inside ----

# Position independent, relocations read-only before main() (full RELRO),
# and calls of libc that know how large their target is (FORTIFY).
hardened()
{
    local file=$root$1 name=${1##*/}
    readelf -hW "$file" | grep -q 'Type: *DYN' || fail "$name is not PIE"
    readelf -lW "$file" | grep -q GNU_RELRO || fail "$name has no RELRO"
    readelf -dW "$file" | grep -qE '\(FLAGS_1\).*\<NOW\>' ||
        fail "$name binds late"
    readelf -lW "$file" | grep -q 'GNU_STACK.* RW ' ||
        fail "$name has an executable stack"
    for symbol in __stack_chk_fail __vsnprintf_chk; do
        readelf -W --dyn-syms "$file" | grep -q "UND $symbol\\>" ||
            fail "$name does not use $symbol"
    done
}

hardened /usr/bin/axiond
hardened /usr/bin/axion
hardened /usr/lib/nginx/modules/ngx_http_axion_module.so
ok "what is installed is hardened"

inside getent passwd axion >/dev/null || fail "there is no user axion"
inside nginx -t >"$log" 2>&1 || fail "nginx -t with the module enabled"
rm "$root/etc/nginx/sites-enabled/default" # its port 80 may be taken here
cat >"$root/etc/nginx/conf.d/axion.conf" <<'END'
axion_upstream llm { engine unix:/run/axion/tiny.sock; }
axion_tenant acme {
    key sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08;
}
server {
    listen unix:/run/http.sock;
    location /v1/ { axion_pass llm; }
}
END
inside nginx -t >"$log" 2>&1 || fail "nginx -t with axion_pass"
ok "nginx -t accepts the module"

# ---- it serves ----

"$build/tests/tiny/tiny-model" --variant q8_0 "$root/srv/tiny.gguf" ||
    fail "tiny-model"
inside install -d -o axion -g axion -m 0755 /run/axion
mkfifo "$work/engine.log"
chroot --userspec=axion:axion --groups=axion,www-data "$root" \
    axiond --model /srv/tiny.gguf --threads 1 \
    --listen unix:/run/axion/tiny.sock,mode=0660,group=www-data \
    2>"$work/engine.log" &
engine=$!
while read -r line; do
    case $line in *"ready on"*) break ;; esac
done <"$work/engine.log"
chroot "$root" nginx -g 'daemon off;' >"$log" 2>&1 & # its pid is nginx's
nginx_pid=$!
# Until nginx listens, curl tries again.
answer=$(curl -s --retry 50 --retry-all-errors --retry-delay 1 \
    --unix-socket "$root/run/http.sock" -H 'Authorization: Bearer test' \
    -H 'Content-Type: application/json' http://localhost/v1/completions \
    -d '{"model": "tiny", "prompt": "Hello", "max_tokens": 4}')
case $answer in
*'"completion_tokens":4'*) ;;
*) fail "no answer through nginx: $answer" ;;
esac
kill "$nginx_pid" "$engine"
wait "$nginx_pid" "$engine"
nginx_pid='' engine=''
! readlink /proc/[0-9]*/root | grep -q "^$root" ||
    fail "a process is left in the root"
ok "nginx answers from axiond"
: >"$work/installed"
