#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
#
# Copyright (c) 2026 The lwc authors
#
# All of freebsd-kmod that can be checked without FreeBSD, on Linux:
#
#	check.sh [--update] [directory]
#
# The directory (default: target/freebsd-kmod of the repository) keeps the
# compiler, which comes from PyPI, and what is built.  --update writes
# symbols.txt anew instead of comparing with it.
#
# The lwc.ko that this makes shows that the module compiles and links, and
# against which symbols.  It is not for loading: its headers are FreeBSD 15.0's
# with the few additions of 15.1 that the module uses.  Build the one to load
# with make, on FreeBSD.
set -eu

update=false
cache=
for arg; do
	case $arg in
	--update) update=true ;;
	-*) echo "usage: $0 [--update] [directory]" >&2; exit 2 ;;
	*) cache=$arg ;;
	esac
done
# A relative directory is the caller's, not ours.
if [ -n "$cache" ]; then
	mkdir -p "$cache"
	cache=$(cd "$cache" && pwd)
fi
cd "$(dirname "$0")"
if [ -z "$cache" ]; then
	mkdir -p ../target/freebsd-kmod
	cache=$(cd ../target/freebsd-kmod && pwd)
fi

step() { printf -- '-- %s\n' "$*"; }
die() { printf '%s: %s\n' "$0" "$*" >&2; exit 1; }

# A command works, or becomes so by the Debian packages that bring it.
need() {
	try=$1
	shift
	sh -c "$try" >/dev/null 2>&1 && return
	if command -v apt-get >/dev/null && [ "$(id -u)" = 0 ]; then
		apt-get update -qq && apt-get install -y -qq "$@" >/dev/null
		sh -c "$try" >/dev/null 2>&1 && return
	fi
	die "'$try' fails; install $*"
}

step 'tools'
need 'gcc --version' gcc
need 'g++ --version' g++
need 'nm --version' binutils
need 'command -v mandoc' mandoc
need 'python3 -m venv -h && python3 -m ensurepip --version' python3-venv
zig=$(./zig.sh "$cache")
lib=$(dirname "$zig")/lib
ZIG_GLOBAL_CACHE_DIR=$cache/zig
ZIG_LOCAL_CACHE_DIR=$cache/zig
export ZIG_GLOBAL_CACHE_DIR ZIG_LOCAL_CACHE_DIR

target=x86_64-freebsd.15.0
machine=$lib/libc/include/x86_64-freebsd-none
generic=$lib/libc/include/generic-freebsd
out=$cache/obj
headers=$cache/headers
rm -rf "$out" "$headers"
mkdir -p "$out" "$headers/sys" "$headers/vm"

step 'headers'
# What config(8) and the build of a kernel generate.  Empty will do, but for
# the options: see below.
for name in vnode_if vnode_if_newproto vnode_if_typedef device_if bus_if; do
	: >"$headers/$name.h"
done
grep -rhoE '#[[:space:]]*include[[:space:]]*"opt_[a-z0-9_]+\.h"' \
    "$generic" "$machine" ./*.c ./*.h amd64 | grep -oE 'opt_[a-z0-9_]+\.h' |
    sort -u | while read -r name; do
	: >"$headers/$name"
done
printf '#define %s 1\n' CAPABILITIES CAPABILITY_MODE >"$headers/opt_capsicum.h"
echo '#define KTRACE 1' >"$headers/opt_ktrace.h"
# The operations of a vnode that the module uses, by the symbols that the
# generated functions call.
for name in SET_TEXT UNSET_TEXT UNLOCK; do
	cat <<-END
	struct vop_vector;
	int VOP_${name}_APV(const struct vop_vector *, void *);
	#define VOP_$name(vp) VOP_${name}_APV((vp)->v_op, NULL)
	END
done >"$headers/vnode_if.h"
# The options of three kernels: GENERIC of a release; the same for debugging;
# and one with nothing but what bsd.kmod.mk takes for granted.
mkdir -p "$headers/release" "$headers/debug" "$headers/plain"
printf '#define %s 1\n' SMP MAC VIMAGE >"$headers/plain/opt_global.h"
{
	cat "$headers/plain/opt_global.h"
	printf '#define %s 1\n' NUMA AUDIT RACCT HWPMC_HOOKS KDTRACE_FRAME \
	    KDTRACE_HOOKS
} >"$headers/release/opt_global.h"
{
	cat "$headers/release/opt_global.h"
	printf '#define %s 1\n' INVARIANTS INVARIANT_SUPPORT WITNESS
} >"$headers/debug/opt_global.h"
# What 15.1 added to 15.0, in copies: fo_fork and fo_fdclose, the second argument of fdcopy(),
# execve_block(9), a function and a call.
if ! grep -q fo_fork_t "$generic/sys/file.h"; then
	sed -e '/^typedef.*fo_flags_t;/i\
typedef int fo_fork_t(struct filedesc *fdp, struct file *fp,\
    struct file **fp1, struct proc *p1, struct thread *td);\
typedef void fo_fdclose_t(struct file *fp, int fd, struct thread *td);' \
	    -e 's/^\([[:space:]]*\)fo_spare_t[[:space:]]*\*fo_spares\[8\];.*/\1fo_fork_t *fo_fork; fo_fdclose_t *fo_fdclose; fo_spare_t *fo_spares[6];/' \
	    -e '/define[[:space:]]*DFLAG_SEEKABLE/a\
#define DFLAG_FORK 0x04' \
	    "$generic/sys/file.h" >"$headers/sys/file.h"
	sed 's/\*fdcopy(struct filedesc \*fdp)/*fdcopy(struct filedesc *fdp, struct proc *p1)/' \
	    "$generic/sys/filedesc.h" >"$headers/sys/filedesc.h"
	sed '/define[[:space:]]*SYS_MAXSYSCALL/i\
#define SYS_pdrfork 600' "$generic/sys/syscall.h" >"$headers/sys/syscall.h"
	sed '/^bool swap_reserve_by_cred(/a\
void swap_reserve_force_by_cred(vm_ooffset_t incr, struct ucred *cred);' \
	    "$generic/vm/vm.h" >"$headers/vm/vm.h"
	sed -e '/^[[:space:]]*LIST_ENTRY(proc) p_jaillist;/a\
	u_int p_execblock;' \
	    -e '/define[[:space:]]*P_INEXEC[[:space:]]/a\
#define P_INEXEC_WAIT 0x40000000' "$generic/sys/proc.h" >"$headers/sys/proc.h"
	sed '/^void[[:space:]]*exec_cleanup(/i\
void execve_block_pass(struct thread *td);' \
	    "$generic/sys/imgact.h" >"$headers/sys/imgact.h"
	[ "$(cat "$headers"/sys/*.h "$headers/vm/vm.h" | grep -cE \
	    'fo_fork_t\(|\*fo_fork;|DFLAG_FORK|fdcopy.*p1|SYS_pdrfork|force_by_cred|u_int p_execblock|execve_block_pass|P_INEXEC_WAIT')" = 9 ] ||
	    die 'the headers of 15.0 are not as expected'
fi

# The kernel's own way of compiling, and warnings.
#  -Wno-unused-parameter: handlers get arguments that they have no use for.
#  -Wno-missing-field-initializers: the kernel's SYSCALL_MODULE, SYSINIT and
#   the like expand to such initialisers.
#  -Wno-sign-compare: the kernel's own types are mixed (rlim_t is signed,
#   vm_size_t is not); the module's Makefile says the same.
kernel="-std=gnu17 -O2 -D_KERNEL -DKLD_MODULE -DHAVE_KERNEL_OPTION_HEADERS
    -ffreestanding -fno-common -mcmodel=kernel -mno-red-zone -mno-mmx -mno-sse
    -msoft-float -fno-stack-protector -fwrapv -fno-strict-aliasing
    -fno-omit-frame-pointer -fno-asynchronous-unwind-tables -I$headers -I.
    -include opt_global.h -U__FreeBSD_version -D__FreeBSD_version=1501000"
warnings='-Wall -Wextra -Werror -Wstrict-prototypes -Wmissing-prototypes
    -Wno-unused-parameter -Wno-missing-field-initializers -Wno-sign-compare'

# $kernel and $warnings are lists of words from here on.
# shellcheck disable=SC2086
{
	object() { printf '%s/%s.o' "$out" "$(basename "$1" .c)"; }
	zcc() { "$zig" cc -target "$target" -fno-sanitize=all "$@"; }

	set -- ./*.c amd64/*.c
	for source; do
		grep -qw "$(basename "$source")" Makefile ||
		    die "$source is not in the Makefile"
	done
	step "compile: $# files, kernel options of a release"
	for source; do
		zcc $kernel $warnings "-I$headers/release" -c "$source" \
		    -o "$(object "$source")"
	done

	zcc $kernel $warnings "-I$headers/release" -c fuzz/kernel/lwc_ran.c \
	    -o "$out/ran.o"

	step 'compile: kernel options for debugging'
	for source; do
		zcc $kernel $warnings "-I$headers/debug" -c "$source" \
		    -o "$out/debug.o"
	done

	step 'compile: kernel options of a small kernel'
	# Without KDTRACE_HOOKS a probe does not use its arguments.
	for source; do
		zcc $kernel $warnings -Wno-unused-but-set-variable \
		    "-I$headers/plain" -c "$source" -o "$out/plain.o"
	done

	step 'link lwc.ko'
	objects=
	for source; do
		objects="$objects $(object "$source")"
	done
	"$zig" ld.lld -m elf_x86_64_fbsd -r -o "$out/lwc.ko" $objects

	step 'probes'
	for probe in create switch destroy overlay restrict trap; do
		nm "$out/lwc.ko" | grep -q "sdt_lwc___$probe\$" ||
		    die "lwc.ko has no SDT probe lwc:::$probe"
	done

	step 'symbols taken from the kernel'
	# The ends of linker sets are whoever loads it's to define.
	nm -u "$out/lwc.ko" | awk '{ print $NF }' |
	    grep -vE '^__(start|stop)_set_' | LC_ALL=C sort -u \
	    >"$out/symbols.txt"
	if $update; then
		cp "$out/symbols.txt" symbols.txt
	elif ! diff -u symbols.txt "$out/symbols.txt"; then
		die 'other symbols than in symbols.txt; if a release kernel has them, run with --update'
	fi

	step 'static analysis'
	# By clang itself, which zig brings: "zig cc" does not pass it on.
	# Accepted, since the analyser cannot see it: with LWC_SELF as source
	# every specifier has LWC_UNMAP, which credentials cannot have.
	accepted="lwc_overlay.c:.*Access to field 'lc_cred' results in a dereference of a null pointer"
	found=false
	for source; do
		"$zig" clang --analyze \
		    --target=x86_64-unknown-freebsd15.1 -nostdlibinc \
		    -isystem "$lib/include" \
		    -isystem "$machine" -isystem "$generic" \
		    -D__FreeBSD_version=1501000 $kernel -Wno-everything \
		    "-I$headers/debug" "$source" -o /dev/null \
		    >"$out/analysis" 2>&1 || found=true
		if grep -E '(warning|error): ' "$out/analysis" |
		    grep -v "$accepted" >&2; then
			found=true
		fi
	done
	if $found; then
		die 'the analyser found something'
	fi

	step 'a kernel before 15.1 is refused'
	for source; do
		if zcc $kernel $warnings "-I$headers/release" \
		    -U__FreeBSD_version -D__FreeBSD_version=1500068 \
		    -c "$source" -o "$out/old.o" 2>"$out/refused"; then
			grep -q lwc_var.h "$source" &&
			    die "$source compiles for FreeBSD 15.0"
			continue
		fi
		grep -q 'error: "lwc needs FreeBSD 15' "$out/refused" ||
		    { cat "$out/refused" >&2; die 'no clear message'; }
	done

	step 'the interface'
	for header in sys/lwc.h sys/lwc_osdi16.h; do
		[ -f "$header" ] || continue
		for language in '-xc -std=c11' '-xc++ -std=c++17'; do
			echo "#include \"$header\"" | gcc $language -I. -Isys \
			    -Wall -Wextra -Werror -pedantic -fsyntax-only -
			echo "#include \"$header\"" | zcc $language -I. -Isys \
			    -Wall -Wextra -Werror -pedantic -c - -o "$out/interface.o"
		done
	done
	echo '#include "sys/lwc.h"' >"$out/interface.c"
	for language in c11 gnu17; do
		zcc $kernel $warnings "-I$headers/release" -std=$language \
		    -c "$out/interface.c" -o "$out/interface.o"
	done

	step 'user side: FreeBSD programs'
	# A file with main() is a program; the others in tests are lwc_test's.
	zuser() {
		zcc -std=gnu17 -O2 -I. -Isys -Ilib -Wall -Wextra -Werror "$@"
	}
	mkdir -p "$out/bin"
	stubs=
	for source in lib/*.c; do
		zuser -c "$source" -o "$(object "$source")"
		stubs="$stubs $(object "$source")"
	done
	cases=
	for source in tests/*.c; do
		grep -q '^main(' "$source" && continue
		zuser -c "$source" -o "$(object "$source")"
		cases="$cases $(object "$source")"
	done
	for source in tests/*.c bench/*.c; do
		grep -q '^main(' "$source" || continue
		program=$(basename "$source" .c)
		more=
		[ "$program" = lwc_test ] && more=$cases
		zuser "$source" $more $stubs -o "$out/bin/$program"
	done
	zuser fuzz/*.c "$out/lwc.o" -o "$out/bin/lwc_fuzz"

	step 'options of the running kernel'
	# kernel-options.sh, with a kernel and a config(8) that are not there.
	mkdir -p "$out/fake" "$out/sys/sys" "$out/sys/amd64/conf"
	printf '#define __FreeBSD_version 1501000\n' >"$out/sys/sys/param.h"
	cat >"$out/fake/sysctl" <<-'END'
	#!/bin/sh
	case $2 in
	kern.osreldate) echo "$FAKE_VERSION" ;;
	kern.conftxt) printf 'machine\tamd64\noptions\t%s\n' $FAKE_OPTIONS ;;
	esac
	END
	cat >"$out/fake/config" <<-'END'
	#!/bin/sh
	[ "$1" = -d ] && sed -n 's/^options./#define /p' "$3" >"$2/opt_global.h"
	END
	chmod +x "$out/fake/sysctl" "$out/fake/config"
	options() {
		FAKE_VERSION=$1 FAKE_OPTIONS=$2 PATH="$out/fake:$PATH" \
		    ./kernel-options.sh "$out/sys" "$out/kernel" \
		    >"$out/options" 2>&1
	}
	{ options 1501000 RACCT &&
	    grep -q RACCT "$out/kernel/opt_global.h"; } ||
	    die "kernel-options.sh: $(cat "$out/options")"
	touch "$out/kernel/kept"
	{ options 1501000 RACCT && [ -f "$out/kernel/kept" ]; } ||
	    die 'kernel-options.sh makes the same again'
	{ options 1501000 WITNESS &&
	    grep -q WITNESS "$out/kernel/opt_global.h"; } ||
	    die 'kernel-options.sh does not follow the kernel'
	options 1501500 WITNESS && die 'kernel-options.sh takes other sources'
	grep -q 'version 1501500 is running' "$out/options"
	sed -i 's/^kern.conftxt.*/kern.conftxt) ;;/' "$out/fake/sysctl"
	options 1501000 '' && die 'kernel-options.sh invents a configuration'
	grep -q INCLUDE_CONFIG_FILE "$out/options"

	step 'manual pages'
	for page in man/*.[0-9]; do
		mandoc -Tlint -Wwarning "$page"
	done
	# Their examples compile.
	for page in man/*.[0-9]; do
		name=$out/$(basename "$page")
		awk '/^\.Sh/ { examples = /EXAMPLES/ }
		    /^\.Bd .*-literal/ { on = examples; next }
		    /^\.Ed/ { on = 0 }
		    on { gsub(/\\e/, "\\"); gsub(/\\&/, ""); print }' "$page" \
		    >"$name.c"
		[ -s "$name.c" ] || continue
		zcc -std=gnu17 -I. -Wall -Wextra -Werror -c "$name.c" \
		    -o "$name.o"
	done
}
step 'all good'
