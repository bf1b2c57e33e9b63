#!/bin/sh
# Makes lwc run on this FreeBSD 15.1 machine, virtual or not:
#
#	provision.sh [step ...]
#
#	deps	packages, and the sources of the running kernel
#	module	build lwc.ko for the running kernel
#	load	load it, in place of one that is loaded
#	build	build the C suite and the workspace
#	test	run the C suite, the conformance suite and the example
#	bench	measure what a context costs
#	audit	show what can reach what in the example
#	boot	install lwc.ko and its manual pages, load it at every boot
#	remove	undo boot and load
#
# Without a step: deps module load build test bench audit.  Each step can be
# run again at any time.  Run it as an ordinary user who may use sudo or doas:
# what needs root asks for it, the rest is not done as root.
#
# LWC_DISTSITE is where src.txz of the running release is had from where the
# base system is not made of packages (default: the project's own site).
set -eu

OLDEST=1501000	# __FreeBSD_version of 15.1
NEXT=1600000

# Not by dirname(1), so that a rescue system will do.
case $0 in
*/*) here=${0%/*} ;;
*) here=. ;;
esac
root=$(cd "$here/.." && pwd)
kmod=$root/freebsd-kmod

say() { printf '== %s\n' "$*"; }
die() { printf 'provision.sh: %s\n' "$*" >&2; exit 1; }
usage() {
	[ $# = 0 ] || printf 'provision.sh: %s\n' "$*" >&2
	sed -n '/^#	/s/^#	//p' "$0" >&2
	exit 2
}

kernel() { sysctl -n "$1" 2>/dev/null || :; }

check() {
	system=$(kernel kern.ostype)
	[ "$system" = FreeBSD ] ||
	    die "this is for FreeBSD; here runs ${system:-something else}. On another system: 'vagrant up' in $root/vagrant makes a FreeBSD machine; on Linux lwc also runs without one"
	machine=$(kernel hw.machine_arch)
	[ "$machine" = amd64 ] ||
	    die "lwc.ko is for amd64; this machine is ${machine:-unknown}"
	version=$(kernel kern.osreldate)
	release=$(kernel kern.osrelease)
	case $version in
	'' | *[!0-9]*) die "the kernel tells no version (kern.osreldate is '$version')" ;;
	esac
	[ "$version" -ge $OLDEST ] ||
	    die "lwc needs FreeBSD 15.1 ($OLDEST); this is $release ($version). Upgrade it (freebsd-update(8), or pkg(8) for a packaged base) and reboot"
	[ "$version" -lt $NEXT ] ||
	    die "lwc is for FreeBSD 15, from 15.1 on; this is $release ($version), whose kernel it does not know"
	[ "$(kernel security.jail.jailed)" != 1 ] ||
	    die 'this is a jail, which cannot load a kernel module: run it on the host'
}

# A command as root.
as_root() {
	if [ "$(id -u)" = 0 ]; then
		"$@"
	elif command -v sudo >/dev/null; then
		sudo "$@"
	elif command -v doas >/dev/null; then
		doas "$@"
	else
		die "'$*' needs root: run this step as root, or install sudo or doas"
	fi
}

# -N: without an offer to install pkg itself.
packaged_base() { pkg -N >/dev/null 2>&1 && pkg info -q -e FreeBSD-runtime; }

# The sources' own version, or nothing.
source_version() {
	[ -f "$1/conf/kmod.mk" ] || return 0
	sed -n 's/^#define[[:space:]]*__FreeBSD_version[[:space:]]*\([0-9]*\).*/\1/p' \
	    "$1/sys/param.h"
}

sources() {
	sys=${SYSDIR:-/usr/src/sys}
	have=$(source_version "$sys")
	if [ -z "$have" ] && [ "$sys" != /usr/src/sys ]; then
		die "SYSDIR is $sys, where no kernel sources are"
	fi
	if [ -z "$have" ]; then
		say "sources of the running kernel ($release)"
		if packaged_base; then
			as_root pkg install -y -r FreeBSD-base FreeBSD-src-sys
		else
			fetch_sources
		fi
		have=$(source_version "$sys")
	fi
	[ "$have" = "$version" ] ||
	    die "$sys is of kernel version ${have:-unknown}, but $version ($release) is running. Make them agree: update both (pkg upgrade -r FreeBSD-base, or freebsd-update fetch install) and reboot, or move $sys away and run this again"
}

# src.txz of the release, checked against the release's own list.
fetch_sources() {
	name=${release%-p[0-9]*}
	case $name in
	*-RELEASE) ;;
	*) die "$name is no release, so there is no src.txz of it: put the sources it was built from into /usr/src" ;;
	esac
	site=${LWC_DISTSITE:-https://download.freebsd.org/releases/amd64/$name}
	work=$(mktemp -d "${TMPDIR:-/tmp}/lwc-src.XXXXXX")
	fetch -q -o "$work/MANIFEST" "$site/MANIFEST" ||
	    die "cannot fetch $site/MANIFEST"
	wanted=$(awk '$1 == "src.txz" { print $2 }' "$work/MANIFEST")
	[ -n "$wanted" ] || die "$site/MANIFEST does not list src.txz"
	fetch -o "$work/src.txz" "$site/src.txz" ||
	    die "cannot fetch $site/src.txz"
	[ "$(sha256 -q "$work/src.txz")" = "$wanted" ] ||
	    die "$site/src.txz is not what its MANIFEST says"
	as_root tar -xf "$work/src.txz" -C / usr/src/sys
}

step_deps() {
	missing=
	command -v cargo >/dev/null || missing="$missing rust"
	# libclang, with which the test of the bindings reads the header.
	[ -n "$(find /usr/local/llvm*/lib -name 'libclang.so*' 2>/dev/null)" ] ||
	    missing="$missing llvm"
	if [ -n "$missing" ]; then
		say "packages:$missing"
		# shellcheck disable=SC2086
		as_root env ASSUME_ALWAYS_YES=yes pkg install -y $missing
	fi
	for tool in cc c++ make config; do
		command -v $tool >/dev/null && continue
		packaged_base ||
		    die "$tool is missing from the base system: install base.txz of $release in full"
		say 'packages: FreeBSD-set-devel'
		as_root pkg install -y -r FreeBSD-base FreeBSD-set-devel
		break
	done
	sources
}

step_module() {
	sources
	make -C "$kmod" SYSDIR="$sys" all
}

# Where make left a file: beside the sources, or under MAKEOBJDIRPREFIX.
built() { printf '%s/%s' "$(make -C "$1" -V .OBJDIR SYSDIR="${SYSDIR:-/usr/src/sys}")" "$2"; }

unload() {
	kldstat -q -n lwc.ko || return 0
	as_root kldunload lwc ||
	    die "lwc.ko is in use: end the programs that have contexts or had some (sysctl kern.lwc.processes kern.lwc.contexts kern.lwc.descriptors tells how many there are), then run this again"
}

step_load() {
	level=$(kernel kern.securelevel)
	[ "${level:-0}" -le 0 ] ||
	    die "kern.securelevel is $level: no module can be loaded. Load it at boot instead ('provision.sh boot', reboot)"
	ko=$kmod/lwc.ko
	[ -f "$ko" ] || ko=$(built "$kmod" lwc.ko)
	[ -f "$ko" ] || die "no lwc.ko yet: 'provision.sh module' builds it"
	unload
	as_root kldload "$ko" ||
	    die "$ko cannot be loaded (dmesg(8) tells why); it must be built for the running kernel: 'provision.sh module load'"
	say "lwc.ko is loaded"
}

loaded() {
	kldstat -q -n lwc.ko ||
	    die "lwc.ko is not loaded: 'provision.sh load' does it"
}

# cargo, on the kernel backend or not at all.
on_kernel() { (cd "$root" && env LWC_BACKEND=kernel cargo "$@"); }

orchestrator() {
	on_kernel run --release --locked --quiet -p lwc-orchestrator -- "$@"
}

step_build() {
	make -C "$kmod/tests" all
	make -C "$kmod/bench" all
	on_kernel build --release --locked --workspace
}

step_test() {
	loaded
	say 'the C suite'
	"$(built "$kmod/tests" lwc_test)"
	say 'the conformance suite'
	on_kernel test --release --locked -p lwc-tests
	say 'the examples of the library'
	for example in rollback sessions signer monitor; do
		on_kernel run --release --locked --quiet -p lwc \
		    --example "$example"
	done
	say 'the example: three functions sign a thumbnail'
	mkdir -p "$root/target"
	orchestrator run examples/upload/chain.toml \
	    --input examples/upload/picture.png.signed --timings \
	    >"$root/target/thumbnail.png"
	ls -l "$root/target/thumbnail.png"
}

step_bench() {
	loaded
	say 'what a context costs, in nanoseconds'
	"$(built "$kmod/bench" lwc_bench)"
	on_kernel bench --locked -p lwc-benches
}

step_audit() {
	loaded
	say 'what can reach what'
	orchestrator audit examples/upload/chain.toml
}

step_boot() {
	sources
	make -C "$kmod" SYSDIR="$sys" all
	as_root make -C "$kmod" SYSDIR="$sys" install
	# Not loader.conf: rc(8) goes on when a module does not fit a new kernel.
	as_root sysrc kld_list+=lwc
	say "lwc.ko will be loaded at boot; after an update of the kernel: 'provision.sh boot' again"
}

step_remove() {
	as_root sysrc kld_list-=lwc
	unload
	pages=/usr/local/share/man
	as_root rm -f /boot/modules/lwc.ko "$pages/man2/lwGetlwc.2.gz" \
	    "$pages/man2/lwDiscardSwitch.2.gz"
	for page in "$kmod"/man/*.[0-9]; do
		as_root rm -f "$pages/man${page##*.}/${page##*/}.gz"
	done
	as_root kldxref /boot/modules
	say 'removed; packages and /usr/src are left as they are'
}

for step; do
	case $step in
	deps | module | load | build | test | bench | audit | boot | remove) ;;
	-h | --help) usage ;;
	*) usage "no such step: $step" ;;
	esac
done
[ $# -gt 0 ] || set -- deps module load build test bench audit

work=
step=check
ended() {
	status=$?
	[ -z "$work" ] || rm -rf "$work"
	[ $status = 0 ] || printf 'provision.sh: step %s failed\n' "$step" >&2
}
trap ended EXIT

check
for step; do
	say "step $step"
	"step_$step"
done
