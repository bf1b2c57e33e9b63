#!/usr/bin/env bash
# Installs a package where nothing else is, starts it there as an administrator does,
# and takes it away again:
#
#   packaging/debian/try.sh target/debian/lwc-orchestrator_….deb
#
# As root, on Debian. A system is made by debootstrap in target/debian/system and booted
# in namespaces of its own: processes, mounts, network, control groups. 77: cannot be
# done here.
set -euo pipefail
cd "$(dirname "$0")/../.."
deb=$1
system=$PWD/target/debian/system
# shellcheck source=/dev/null
. /etc/os-release

cannot() {
    echo "not tried: $*"
    exit 77
}
[ "$(id -u)" = 0 ] || cannot "this is not root"
[ "${ID:-}" = debian ] || cannot "this is not Debian"
command -v debootstrap >/dev/null || cannot "debootstrap is missing"
unshare --pid --mount --cgroup --net --ipc --uts --fork true || cannot "no namespaces"

if [ ! -e "$system/made" ]; then
    rm -rf "$system"
    # shellcheck disable=SC2016 # they are apt-get's
    site=$(apt-get indextargets --format '$(SITE) $(RELEASE)' | awk -v r="$VERSION_CODENAME" '$2 == r { print $1; exit }')
    debootstrap --variant=minbase --include=systemd,curl \
        "$VERSION_CODENAME" "$system" "$site" >target/debian/debootstrap.log 2>&1 ||
        cannot "debootstrap failed: $(tail -1 target/debian/debootstrap.log)"
    touch "$system/made"
fi

cp "$deb" "$system/var/tmp/package.deb"
# A bundle: there is no compiler.
work=$(mktemp -d -p "$PWD/target/debian")
init=
end() {
    [ -z "$init" ] || kill -9 "$init" 2>/dev/null || :
    rm -rf "$work"
}
trap end EXIT
program=$PWD/target/debian/lwc-orchestrator/usr/bin/lwc-orchestrator
mkdir "$work/shop"
cat >"$work/shop/shop.c" <<'END'
#include "lwc_function.h"

#include <stdio.h>
#include <stdlib.h>

/* All that a function may be granted: a secret, a variable, files of its own; a file, if
 * it is asked for. */
LWC_HANDLER(shop)
{
	char line[64] = "no rates\n";
	size_t len;
	FILE *f;

	if (lwc_secret(inv, "KEY", &len) == NULL || getenv("PLACE") == NULL)
		return (lwc_fail(inv, 500, "no secret, or no variable"));
	if (inv->input_len == 5 && (f = fopen("rates.txt", "r")) != NULL) {
		if (fgets(line, sizeof(line), f) == NULL)
			return (lwc_fail(inv, 500, "no line"));
		fclose(f);
	}
	f = fopen("/tmp/x", "w+");
	if (f == NULL || fputs(line, f) < 0 || fclose(f) != 0)
		return (lwc_fail(inv, 500, "no file of its own"));
	inv->output_len = (size_t)snprintf((char *)inv->output, inv->output_capacity,
	    "%.*s %zu %s %s", (int)inv->input_len, (const char *)inv->input, len,
	    getenv("PLACE"), line);
	return (0);
}
END
cat >"$work/shop/chain.toml" <<'END'
[functions.shop]
source  = "shop.c"
secrets = { KEY = { file = "signing.key" } }
env     = { PLACE = { from = "SHOP_PLACE" } }
scratch = "1MiB"
# files = ["rates.txt"]
[workflows.main]
entry = "shop"
END
printf 12345678 >"$work/shop/signing.key"
chmod 600 "$work/shop/signing.key"
echo 'rates of today' >"$work/shop/rates.txt"
rm -rf "$system"/srv/{shop,rates} "$system/var/log/journal"
bundle() {
    LWC_CACHE=$work/cache "$program" build "$work/shop/chain.toml" --out "$system/srv/$1" >/dev/null
    cp "$work/shop/rates.txt" "$system/srv/$1/"
    ln -s "/run/credentials/lwc-orchestrator@$1.service/signing.key" "$system/srv/$1/signing.key"
    chmod -R a+rX "$system/srv/$1"
}
bundle shop
sed -i 's/^# files/files/' "$work/shop/chain.toml"
bundle rates

cat >"$work/boot" <<'END'
set -eu
system=$1
mount --make-rprivate /
mount --bind "$system" "$system"
cd "$system"
mount -t proc proc proc
mount -t sysfs -o ro sysfs sys
mount -t cgroup2 cgroup2 sys/fs/cgroup
mount -t tmpfs -o mode=755 run run
mount -t tmpfs -o mode=755 dev dev
while read -r node number; do
    # shellcheck disable=SC2086 # two numbers
    mknod -m 666 dev/$node c $number
done <<NODES
null 1 3
zero 1 5
full 1 7
random 1 8
urandom 1 9
tty 5 0
NODES
mkdir dev/pts dev/shm dev/mqueue dev/hugepages
mount -t devpts -o newinstance,ptmxmode=666 devpts dev/pts
ln -s pts/ptmx dev/ptmx
mount -t tmpfs tmpfs dev/shm
touch dev/console
mount --bind "$2" dev/console
mkdir -p old
pivot_root . old
umount -l old
# As a container manager leaves it: what systemd mounts for a service is to be seen there.
mount --make-rshared /
exec env -i container=lwc PATH=/usr/sbin:/usr/bin:/sbin:/bin \
    /lib/systemd/systemd --log-target=console --log-level=info --show-status=no
END
: >"$work/console"
# shellcheck disable=SC2094 # written by both, read by neither
unshare --pid --mount --cgroup --net --ipc --uts --fork bash "$work/boot" "$system" "$work/console" </dev/null >"$work/console" 2>&1 &
unshare=$!
for _ in $(seq 50); do
    init=$(tr -d " " <"/proc/$unshare/task/$unshare/children") 2>/dev/null || :
    [ -z "$init" ] || break
    sleep 0.1
done
in_it() {
    nsenter --target "$init" --pid --mount --cgroup --net --ipc --uts --root --wd \
        env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin "$@"
}
state=
for _ in $(seq 300); do
    state=$(in_it systemctl is-system-running 2>/dev/null) || :
    case $state in running | degraded) break ;; esac
    sleep 0.1
done
case $state in
running | degraded) ;;
*)
    tail -20 "$work/console"
    cannot "systemd did not start in namespaces"
    ;;
esac

failed() {
    echo "failed: $*"
    in_it systemctl --no-pager status 'lwc-orchestrator@*' || :
    in_it journalctl --no-pager -n 40 -u 'lwc-orchestrator@*' || :
    tail -20 "$work/console"
    exit 1
}
ask() { in_it curl -sS --max-time 10 "$@"; }
# Once it is ready: curl knows that it was refused, and tries again.
first() { ask --retry 10 --retry-delay 1 --retry-connrefused "$@" 2>>"$work/console"; }
# NAME OPTIONS [SETTING...]
configure() {
    local unit=lwc-orchestrator@$1.service
    printf 'FILE=/srv/%s\nOPTIONS=%s\nSHOP_PLACE=Basel\n' "$1" "$2" >"$system/etc/lwc/$1.env"
    mkdir -p "$system/etc/systemd/system/$unit.d"
    printf '[Service]\nLoadCredential=signing.key:/etc/lwc/signing.key\n' >"$system/etc/systemd/system/$unit.d/own.conf"
    shift 2
    [ $# = 0 ] || printf '%s\n' "$@" >>"$system/etc/systemd/system/$unit.d/own.conf"
    in_it systemctl daemon-reload
}
unit=lwc-orchestrator@shop.service
shop=http://127.0.0.1:8080

echo "== installed"
in_it dpkg -i /var/tmp/package.deb | tail -1 || failed "dpkg -i"
install -m 600 "$work/shop/signing.key" "$system/etc/lwc/signing.key"
configure shop '--workers 2'

echo "== started"
in_it systemctl start "$unit" || failed "start"
answer=$(first --data-binary world $shop/chains/main) || failed "no answer"
[ "$answer" = "world 8 Basel no rates" ] || failed "it answered $answer"
# The restrictions take nothing that it needs: rolled back by the best means that the
# same kernel has without them.
best=$(SHOP_PLACE=Basel LWC_CACHE=$work/cache "$program" run "$work/shop/chain.toml" --input "$work/shop/rates.txt" --timings 2>&1 | sed -n 's/^rollback by \([a-z-]*\).*/\1/p')
metrics=$(ask $shop/metrics)
grep -q "lwc_rollback_info{mechanism=\"$best\"} 1" <<<"$metrics" ||
    failed "not by $best: $(grep lwc_rollback_info <<<"$metrics")"
# What it may see of /proc is enough for all that programs tell of themselves.
for name in cpu_seconds_total resident_memory_bytes virtual_memory_bytes open_fds max_fds start_time_seconds; do
    grep -q "^process_$name [0-9]" <<<"$metrics" || failed "no process_$name"
done
pid=$(in_it systemctl show -P MainPID "$unit")
echo "answered; rolled back by $best; as user $(in_it stat -c %u "/proc/$pid")"

echo "== reloaded"
in_it systemctl reload "$unit" || failed "reload"
for _ in $(seq 100); do
    reloads=$(ask $shop/metrics | grep '^lwc_reloads_total{result="ok"}')
    [ "${reloads##* }" = 0 ] || break
    sleep 0.1
done
[ "${reloads##* }" = 1 ] || failed "not reloaded: $reloads"

echo "== started anew after it has been killed"
in_it systemctl kill --kill-whom=main -s KILL "$unit"
answer=$(first --data-binary again $shop/chains/main) || failed "not there again"
[ "$answer" = "again 8 Basel no rates" ] || failed "it answered $answer"

echo "== stopped"
in_it systemctl stop "$unit" || failed "stop"
[ "$(in_it systemctl show -P Result "$unit")" = success ] || failed "it did not end well"

echo "== by a socket that was there before"
in_it systemd-analyze verify --man=no lwc-orchestrator@shop.socket
in_it systemctl start lwc-orchestrator@shop.socket
by_socket() { ask --unix-socket /run/lwc-orchestrator/shop.sock "$@"; }
answer=$(by_socket --data-binary early http://shop/chains/main) || failed "no answer"
[ "$answer" = "early 8 Basel no rates" ] || failed "it answered $answer"
[ "$(in_it systemctl show -P ActiveState "$unit")" = active ] || failed "somebody else answered"
ask $shop/healthz 2>>"$work/console" && failed "it listens on a port, too"
# Whoever asks meanwhile is answered by the next one.
in_it systemctl kill --kill-whom=main -s KILL "$unit"
answer=$(by_socket --data-binary between http://shop/chains/main) || failed "no answer"
[ "$answer" = "between 8 Basel no rates" ] || failed "it answered $answer"
in_it systemctl stop lwc-orchestrator@shop.socket "$unit"
in_it test ! -e /run/lwc-orchestrator/shop.sock || failed "the socket is left behind"

echo "== another, with a user of its own, and a file that its function may read"
in_it useradd --system --no-create-home rates 2>/dev/null || :
configure rates '--workers 2 --listen 127.0.0.1:8081' DynamicUser=no User=rates RestrictSUIDSGID=no
in_it systemctl start lwc-orchestrator@rates.service
answer=$(first --data-binary rates http://127.0.0.1:8081/chains/main) || failed "no answer"
[ "$answer" = "rates 8 Basel rates of today" ] || failed "it answered $answer"
in_it systemctl stop lwc-orchestrator@rates.service

echo "== what systemd says of it"
in_it systemd-analyze verify --man=no "$unit"
in_it systemd-analyze security --no-pager "$unit" | tee "$work/security" | tail -1

echo "== purged"
in_it systemctl start "$unit"
rm -rf "$system"/etc/systemd/system/lwc-orchestrator@*.d "$system"/etc/lwc/{*.env,signing.key}
in_it dpkg --purge lwc-orchestrator | tail -1
[ "$(in_it systemctl show -P ActiveState "$unit")" = inactive ] || failed "it goes on"
left=$(cd "$system" && find usr etc var/cache -path '*lwc*' 2>/dev/null) || :
[ -z "$left" ] || failed "left behind: $left"
echo "== all good"
