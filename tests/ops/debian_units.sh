#!/usr/bin/env bash
# Shows that the packaged units work under a systemd that boots in the root of
# debian_package.sh (systemd-nspawn), with all that they forbid: what
# inside_systemd.sh says there.  Skipped where a systemd cannot be booted, as
# in most containers.
set -u
# shellcheck source=tests/ops/debian_root.sh
. "$(dirname "$0")/debian_root.sh"

command -v systemd-nspawn >/dev/null || skip "systemd-nspawn is not installed"
need_root

install_inside systemd systemd-sysv dbus curl
rm -f "$root/usr/sbin/policy-rc.d" "$root/etc/nginx/conf.d/axion.conf"
install -m 755 tests/ops/inside_systemd.sh "$root/root/"

# A container whose first process is systemd, with one unit of ours that runs
# inside_systemd.sh and ends it.
cat >"$root/etc/systemd/system/inside.service" <<'END'
[Service]
Type=oneshot
ExecStart=/root/inside_systemd.sh
ExecStopPost=/bin/systemctl poweroff --no-block
END
ln -s ../inside.service \
    "$root/etc/systemd/system/multi-user.target.wants/inside.service"
umount_proc
systemd-nspawn -q -D "$root" --boot --register=no --keep-unit \
    --private-network >"$log" 2>&1 </dev/null

[ -e "$root/root/result" ] ||
    skip "systemd does not boot here: $(tail -n 1 "$log")"
cat "$root/root/result"
[ "$(tail -n 1 "$root/root/result")" = end ] ||
    fail "inside_systemd.sh did not end"
! grep -q '^FAILED' "$root/root/result" || fail "under systemd"
ok "the units under systemd"
