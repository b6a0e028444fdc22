# Sourced by the tests of `make test-package`: the clean root that
# debian_package.sh makes, and that debian_units.sh and debian_purge.sh go on
# with.  It lies in the build folder from the first to the last of them; /proc
# is mounted in it only while one of them runs.

cd "$(dirname "$0")/../.." || exit 1
build=${AXION_BUILD:-build}
build=$(cd "$build" && pwd)
work=$build/package
root=$work/root
log=$work/log
start=$(date +%s)

skip()
{
    echo "skipped: $1"
    exit 77
}

fail()
{
    echo "FAILED: $1"
    [ -s "$log" ] && tail -n 40 "$log"
    exit 1
}

ok()
{
    echo "ok ($(($(date +%s) - start)) s): $1"
}

inside()
{
    DEBIAN_FRONTEND=noninteractive chroot "$root" "$@"
}

# What depends on packages that are not there is a failure, a mirror that does
# not answer is none.
install_inside()
{
    local get="apt-get -y -q --no-install-recommends install"
    inside sh -c "$get --simulate $*" >"$log" 2>&1 || fail "apt-get install $*"
    inside sh -c "$get --download-only $*" >"$log" 2>&1 ||
        skip "the mirror: $(tail -n 1 "$log")"
    inside sh -c "$get $*" >"$log" 2>&1 ||
        fail "apt-get install $*"
}

mount_proc()
{
    mount -t proc proc "$root/proc"
}

umount_proc()
{
    if mountpoint -q "$root/proc"; then
        umount "$root/proc"
    fi
}

remove_root()
{
    umount_proc
    rm -rf --one-file-system "$work"
}

# For the tests behind the first one.
need_root()
{
    [ "$(id -u)" -eq 0 ] || skip "it needs root"
    [ -e "$work/installed" ] ||
        skip "no root with the packages (debian_package.sh makes it)"
    mount_proc
    trap umount_proc EXIT
}
