#!/bin/sh
# Rust programs for FreeBSD, built on Linux:
#
#	cross.sh setup                          the toolchain alone
#	cross.sh check|clippy|build [...]       as cargo's, for FreeBSD
#	cross.sh test|bench --no-run [...]
#	cross.sh env                            what it runs cargo with
#
# There is no prebuilt standard library for x86_64-unknown-freebsd outside of
# rustup's network, so it is built: from Debian's rust-src (of sid, which is
# the nearest to a nightly compiler), by the machine's nightly toolchain.
# zig's C compiler links.  All of that is kept in target/freebsd-cross; what is
# there already is not fetched again.  The programs are in
# target/x86_64-unknown-freebsd/ and need what a FreeBSD 15 installation has.
#
# Exit status: cargo's; 2 for a wrong command line; 77 when this machine cannot
# cross-build (no nightly toolchain, no network, a compiler and a library that
# do not fit), with the reason on stderr.
set -eu

TARGET=x86_64-unknown-freebsd
ZIG_TARGET=x86_64-freebsd.15.0
SKIP=77

say() { printf 'cross.sh: %s\n' "$*" >&2; }
usage() { say "$*"; sed -n 's/^#\t/    /p' "$0" >&2; exit 2; }
skip() { say "cannot cross-build here: $*"; exit $SKIP; }
step() { printf -- '-- %s\n' "$*" >&2; }

# The directory of this script, whatever the caller's is.
repository=$(cd "$(dirname "$0")/../.." && pwd)
target_dir=${CARGO_TARGET_DIR:-$repository/target}
mkdir -p "$target_dir"
target_dir=$(cd "$target_dir" && pwd)
cache=$target_dir/freebsd-cross
toolchain=$cache/toolchain

[ $# -ge 1 ] || usage 'which command?'
command=$1
shift
case $command in
setup | env)
	[ $# = 0 ] || usage "$command takes no arguments"
	;;
check | clippy | build) ;;
test | bench)
	runs=true
	for arg; do
		case $arg in
		--no-run) runs=false ;;
		--) break ;;
		esac
	done
	! $runs || usage "$command needs --no-run: FreeBSD's programs do not run here (run.py runs them)"
	;;
*) usage "no such command: $command" ;;
esac

# A copy of the nightly toolchain, so that a library can be put into it.  Hard
# links where the file system has them; rustc finds its library from where it
# lies itself, so symbolic links will not do.
copy_toolchain() {
	rustup which --toolchain nightly rustc >/dev/null 2>&1 ||
	    skip 'no nightly toolchain (rustup toolchain install nightly)'
	nightly=$(rustc +nightly --print sysroot)
	version=$(rustc +nightly -vV)
	[ -d "$nightly/lib/rustlib" ] || skip "no toolchain in $nightly"
	if [ -f "$toolchain/VERSION" ] &&
	    [ "$(cat "$toolchain/VERSION")" = "$version" ]; then
		return
	fi
	step "toolchain: $(rustc +nightly --version)"
	rm -rf "$toolchain" "$cache/works"
	mkdir -p "$toolchain"
	for part in bin lib libexec; do
		[ -d "$nightly/$part" ] || continue
		cp -al "$nightly/$part" "$toolchain/" 2>/dev/null ||
		    { rm -rf "${toolchain:?}/$part"
		    cp -a "$nightly/$part" "$toolchain/"; }
	done
	# Not the nightly's own sources, should it have them: these are links to
	# the user's files.
	rm -rf "$toolchain/lib/rustlib/src"
	printf '%s\n' "$version" >"$toolchain/VERSION"
}

# apt with lists of its own: nothing of the machine's is changed.
apt() {
	tool=$1
	shift
	"$tool" -qq -o Dir::Etc::sourcelist="$cache/apt/sources.list" \
	    -o Dir::Etc::sourceparts=/dev/null \
	    -o Dir::State::lists="$cache/apt/lists" \
	    -o Dir::Cache="$cache/apt/cache" \
	    -o Dir::State::status=/dev/null -o Debug::NoLocking=1 \
	    -o APT::Sandbox::User= -o Acquire::Languages=none "$@"
}

# The standard library's source, from the Debian mirror this machine uses.
fetch_library() {
	if [ -d "$cache/rust-src" ]; then
		return
	fi
	step 'the standard library, from Debian sid'
	for tool in apt-get apt-cache dpkg-deb; do
		command -v $tool >/dev/null ||
		    skip "no $tool: the library's source is a Debian package"
	done
	# shellcheck disable=SC2016
	# (the format is apt's)
	mirror=$(apt-get indextargets --format \
	    '$(REPO_URI) $(ORIGIN)/$(LABEL)/$(COMPONENT)' \
	    'Created-By: Packages' 2>/dev/null |
	    sed -n 's|^\([^ ]*\) Debian/Debian/main$|\1|p' | head -n 1)
	[ -n "$mirror" ] ||
	    skip 'the sources of apt name no Debian mirror (or apt-get update was never run)'
	keys=/usr/share/keyrings/debian-archive-keyring.gpg
	[ -f $keys ] || skip "no $keys to check Debian's signature with"
	rm -rf "$cache/apt" "$cache/rust-src.part"
	mkdir -p "$cache/apt/lists/partial" "$cache/apt/cache/archives/partial" \
	    "$cache/rust-src.part"
	echo "deb [signed-by=$keys] $mirror sid main" >"$cache/apt/sources.list"
	apt apt-get update >"$cache/apt/log" 2>&1 ||
	    { cat "$cache/apt/log" >&2; skip 'apt cannot read the list of sid'; }
	(cd "$cache/apt" && apt apt-get download rust-src) \
	    >"$cache/apt/log" 2>&1 ||
	    { cat "$cache/apt/log" >&2; skip 'apt cannot fetch rust-src'; }
	dpkg-deb -x "$cache"/apt/rust-src_*.deb "$cache/rust-src.part"
	mv "$cache/rust-src.part" "$cache/rust-src"
	rm -rf "$cache/apt" "$cache/works"
}

link_library() {
	library=$(find "$cache/rust-src/usr/src" -mindepth 2 -maxdepth 2 \
	    -name library | head -n 1)
	[ -f "$library/std/Cargo.toml" ] ||
	    skip "no standard library in Debian's rust-src ($cache/rust-src)"
	mkdir -p "$toolchain/lib/rustlib/src"
	ln -sfn "$(dirname "$library")" "$toolchain/lib/rustlib/src/rust"
}

# Linker and C compiler: zig's, without what it does not know or has no stubs
# of (libraries that nothing here needs), with its own name of the target.  Of a
# function with several versions its linker takes the oldest; POSIX semaphores
# are then those of a kernel module that few systems load (ENOSYS), so these are
# bound by their version.
write_wrappers() {
	python3 -m venv -h >/dev/null 2>&1 ||
	    skip 'no python3 with venv, which brings zig (apt install python3-venv)'
	zig=$("$repository/freebsd-kmod/zig.sh") ||
	    skip 'zig cannot be had from PyPI'
	mkdir -p "$cache/bin"
	for language in cc c++; do
		cat >"$cache/bin/freebsd-$language" <<-END
		#!/bin/bash
		export ZIG_GLOBAL_CACHE_DIR='$cache/zig' ZIG_LOCAL_CACHE_DIR='$cache/zig'
		args=()
		links=true
		for arg in "\$@"; do
			case \$arg in
			-c|-E|-S|-v|--version) links=false ;;
			esac
			case \$arg in
			-m64|--target=*|-lkvm|-lmemstat|-lprocstat|-ldevstat|-lutil) ;;
			*) args+=("\$arg") ;;
			esac
		done
		if \$links; then
			semaphores='$cache/semaphores.a'
			if [ ! -f "\$semaphores" ]; then
				part=\$semaphores.\$\$
				for f in init destroy post wait trywait timedwait getvalue open close unlink; do
					printf '.symver new_sem_%s, sem_%s@FBSD_1.2\n' \$f \$f
					printf '.globl sem_%s\n.hidden sem_%s\n' \$f \$f
					printf 'sem_%s: jmp *new_sem_%s@GOTPCREL(%%rip)\n' \$f \$f
				done >"\$part.s"
				'$zig' cc -target $ZIG_TARGET -c "\$part.s" -o "\$part.o" &&
				    '$zig' ar rc "\$part" "\$part.o" && mv "\$part" "\$semaphores"
				rm -f "\$part".?
			fi
			args=("\$semaphores" "\${args[@]}")
		fi
		exec '$zig' $language -target $ZIG_TARGET "\${args[@]}"
		END
	done
	cat >"$cache/bin/freebsd-ar" <<-END
	#!/bin/bash
	exec '$zig' ar "\$@"
	END
	chmod +x "$cache"/bin/freebsd-*
}

# Does this compiler build that library, and the linker link it?
probe() {
	if [ -f "$cache/works" ]; then
		return
	fi
	step "does it work? (a program of $(basename "$(dirname "$library")")'s library)"
	rm -rf "$cache/probe"
	mkdir -p "$cache/probe/src"
	cat >"$cache/probe/Cargo.toml" <<-END
	[package]
	name = "probe"
	version = "0.0.0"
	edition = "2021"
	[workspace]
	END
	echo 'fn main() { std::thread::spawn(|| println!("hello")).join().unwrap(); }' \
	    >"$cache/probe/src/main.rs"
	# The library as built here is the one that the workspace uses.
	if ! (cd "$cache/probe" && run_cargo build) >"$cache/probe/log" 2>&1; then
		tail -n 40 "$cache/probe/log" >&2
		skip "$("$toolchain/bin/rustc" --version) does not build or link the library of $(basename "$(dirname "$library")") (or the crates it needs cannot be had)"
	fi
	touch "$cache/works"
}

run_cargo() {
	subcommand=$1
	shift
	"$toolchain/bin/cargo" "$subcommand" -Zbuild-std=std,panic_abort \
	    --target "$TARGET" "$@"
}

mkdir -p "$cache"
copy_toolchain
fetch_library
link_library
write_wrappers

export PATH="$toolchain/bin:$PATH"
export RUSTC="$toolchain/bin/rustc"
export CARGO_TARGET_DIR="$target_dir"
export CARGO_TARGET_X86_64_UNKNOWN_FREEBSD_LINKER="$cache/bin/freebsd-cc"
export CC_x86_64_unknown_freebsd="$cache/bin/freebsd-cc"
export CXX_x86_64_unknown_freebsd="$cache/bin/freebsd-c++"
export AR_x86_64_unknown_freebsd="$cache/bin/freebsd-ar"
unset RUSTUP_TOOLCHAIN

case $command in
env)
	for name in PATH RUSTC CARGO_TARGET_DIR \
	    CARGO_TARGET_X86_64_UNKNOWN_FREEBSD_LINKER \
	    CC_x86_64_unknown_freebsd CXX_x86_64_unknown_freebsd \
	    AR_x86_64_unknown_freebsd; do
		eval "printf \"export %s='%s'\\n\" $name \"\$$name\""
	done
	;;
setup)
	probe
	;;
*)
	# A failure is the workspace's own, if anything at all can be built.
	status=0
	run_cargo "$command" "$@" || status=$?
	if [ $status = 0 ]; then
		touch "$cache/works"
	else
		probe
	fi
	exit $status
	;;
esac
