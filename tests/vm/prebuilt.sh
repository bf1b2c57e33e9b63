#!/bin/sh
# All that lwc is on FreeBSD, built on Linux, for a machine that has neither
# compiler nor packages nor network:
#
#	prebuilt.sh lwc.ko [folder]
#
# lwc.ko is one that was built for the kernel that will run (see README.md
# beside this).  The folder (default: target/freebsd-prebuilt of the repository)
# becomes a small repository:
#
#	vagrant/provision.sh	whose steps load, test, bench and audit run there
#	freebsd-kmod/		lwc.ko, the C suite and its benchmark
#	examples/upload/	with its three functions as libraries
#	bin/			the orchestrator, the tests, the benchmarks; make
#				and cargo, which run what was built here
#	as_user			a command as an ordinary user
#
# Exit status: 77 when this machine cannot cross-build (cross.sh says why).
set -eu

case ${1-} in
'' | -*) sed -n '/^#	/s/^#	//p' "$0" >&2; exit 2 ;;
esac
[ -f "$1" ] || { echo "prebuilt.sh: no such file: $1" >&2; exit 2; }

root=$(cd "$(dirname "$0")/../.." && pwd)
module=$1
out=${2:-$root/target/freebsd-prebuilt}
cross() { "$root/tests/vm/cross.sh" "$@"; }
step() { printf -- '-- %s\n' "$*" >&2; }

# Not its PATH: the compilers are called by their names.
environment=$(cross env)
of() { printf '%s\n' "$environment" | sed -n "s/^export $1='\(.*\)'\$/\1/p"; }
cc=$(of CC_x86_64_unknown_freebsd)
cxx=$(of CXX_x86_64_unknown_freebsd)
target=$(of CARGO_TARGET_DIR)/x86_64-unknown-freebsd

rm -rf "$out"
mkdir -p "$out/vagrant" "$out/bin/tests" "$out/bin/benches" \
    "$out/bin/examples" \
    "$out/freebsd-kmod/tests" "$out/freebsd-kmod/bench" "$out/examples/upload"
out=$(cd "$out" && pwd)

# What is in a program beside the program is ten times its size.
bring() {
	cp "$1" "$2"
	strip "$2" 2>/dev/null || step "not stripped: $2"
}

step 'the C suite'
kmod=$root/freebsd-kmod
cp "$module" "$out/freebsd-kmod/lwc.ko"
# That builds them, with what FreeBSD 15.1 has and the headers here have not.
"$kmod/check.sh" "$(dirname "$target")/freebsd-kmod" >&2
for program in tests/lwc_test bench/lwc_bench; do
	cp "$(dirname "$target")/freebsd-kmod/obj/bin/${program#*/}" \
	    "$out/freebsd-kmod/$program"
done

step 'the functions of the example'
upload=$root/examples/upload
cross build --release --manifest-path "$upload/thumbnail/Cargo.toml"
bring "$target/release/libthumbnail.so" "$out/examples/upload/thumbnail.so"
# The flags that the orchestrator compiles functions with.
"$cc" -std=gnu17 -O2 -fPIC -shared -I"$root/lwc-function/include" \
    -o "$out/examples/upload/verify.so" "$upload/verify.c"
# Nothing of the C++ library: the machine may have none, and sign needs none.
"$cxx" -std=gnu++20 -O2 -fPIC -shared -I"$root/lwc-function/include" \
    -o "$out/examples/upload/sign.so" "$upload/sign.cpp"
cp "$upload"/*.key "$upload"/picture.png.signed "$out/examples/upload/"
sed -e 's/^source *= "\(.*\)\.c\(pp\)\{0,1\}"/library = "\1.so"/' \
    -e 's/^crate *= "\(.*\)"/library = "\1.so"/' \
    "$upload/chain.toml" >"$out/examples/upload/chain.toml"

step 'the functions that call each other'
calls=$out/examples/calls
mkdir -p "$calls"
"$cc" -std=gnu17 -O2 -fPIC -shared -I"$root/lwc-function/include" \
    -o "$calls/script.so" "$root/tests/hostile/script.c"
cp "$root/tests/vm/calls.toml" "$calls/chain.toml"

step 'the orchestrator, the tests and the benchmarks'
cd "$root"
cross build --release --locked -p lwc-orchestrator
bring "$target/release/lwc-orchestrator" "$out/bin/lwc-orchestrator"

# The programs that a cargo command makes: number and name, in its order.
programs() {
	cross "$@" 2>&1 | tee /dev/stderr |
	    sed -n 's/^ *Executable .*(\(.*\))$/\1/p' >"$out/programs"
	[ -s "$out/programs" ] || { echo "prebuilt.sh: cargo $* made no program" >&2; exit 1; }
}
copy_programs() {
	number=10
	while read -r program; do
		case $program in
		/*) ;;
		*) program=$root/$program ;;
		esac
		name=${program##*/}
		name=${name%-*}
		number=$((number + 1))
		# They read the sources where they were built; no kernel is needed.
		case $name in clauses | links) continue ;; esac
		bring "$program" "$1/$number-$name"
	done <"$out/programs"
	rm "$out/programs"
}
programs test --no-run --release --locked -p lwc-tests
copy_programs "$out/bin/tests"
cross build --release --locked -p lwc --examples
for example in "$root"/lwc/examples/*.rs; do
	example=$(basename "$example" .rs)
	bring "$target/release/examples/$example" "$out/bin/examples/$example"
done
programs bench --no-run --locked -p lwc-benches
copy_programs "$out/bin/benches"

step 'what runs them'
"$cc" -O2 -Wall -Wextra -Werror -o "$out/as_user" "$root/tests/vm/as_user.c"
cp "$root/vagrant/provision.sh" "$out/vagrant/"
cat >"$out/bin/make" <<'END'
#!/bin/sh
# Nothing is to be made; things are beside their sources.
case "$*" in
*"-V .OBJDIR"*) echo "$2" ;;
esac
END
cat >"$out/bin/cargo" <<'END'
#!/bin/sh
# Runs what was built elsewhere, as cargo would.
bin=${0%/*}
case $1 in
build) exit 0 ;;
run)
	program=lwc-orchestrator
	while [ $# -gt 0 ] && [ "$1" != -- ]; do
		[ "$1" != --example ] || program=examples/$2
		shift
	done
	[ $# = 0 ] || shift
	exec "$bin/$program" "$@"
	;;
test)
	for program in "$bin"/tests/*; do
		echo "     Running ${program##*/}"
		"$program" || exit
	done
	;;
bench)
	for program in "$bin"/benches/*; do
		echo "     Running ${program##*/}"
		"$program" --bench || exit
	done
	;;
esac
END
chmod 755 "$out/bin/make" "$out/bin/cargo"
printf '%s\n' "$out"
