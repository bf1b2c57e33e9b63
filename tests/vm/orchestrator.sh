#!/bin/sh
# The orchestrator's own tests, for a FreeBSD machine that has no compiler:
#
#	orchestrator.sh folder test [test ...]
#
# The tests are those of orchestrator/tests (calls, relay, ends ...).  They
# compile functions as they run; so they are run here first, with a compiler that
# makes a FreeBSD library of each source as well (record_cc.sh).  What fails here
# is not the matter then, and is said.  The folder becomes
#
#	tests/			the test programs, for FreeBSD
#	functions/		the libraries, by the number of their source
#	cc			hands them out (prebuilt_cc.c)
#	repository		where programs look for the repository and
#	program			where for the orchestrator
#	sources.tar		of the repository, what they read
#
# guest_orchestrator.sh runs them there.  Exit status: 77 when this machine
# cannot cross-build (cross.sh says why).
set -eu

[ $# -ge 2 ] || { sed -n '/^#	/s/^#	//p' "$0" >&2; exit 2; }
root=$(cd "$(dirname "$0")/../.." && pwd)
mkdir -p "$1"
out=$(cd "$1" && pwd)
shift
environment=$("$root/tests/vm/cross.sh" env)
of() { printf '%s\n' "$environment" | sed -n "s/^export $1='\(.*\)'\$/\1/p"; }
target=$(of CARGO_TARGET_DIR)/x86_64-unknown-freebsd
FREEBSD_CC=$(of CC_x86_64_unknown_freebsd)
FREEBSD_CXX=$(of CXX_x86_64_unknown_freebsd)
RECORDED=$out/functions
NUMBER=$out/number
export FREEBSD_CC FREEBSD_CXX RECORDED NUMBER
mkdir -p "$out/functions" "$out/tests"

${CC:-cc} -O2 -Wall -Wextra -Werror -o "$NUMBER" "$root/tests/vm/prebuilt_cc.c"

all=
for test; do all="$all --test $test"; done
cd "$root"
# cargo sets CARGO for the tests that it runs: the last word is what runs them.
host=$(rustc -vV | sed -n 's/^host: //p' | tr a-z- A-Z_)
export "CARGO_TARGET_${host}_RUNNER=env CARGO=$root/tests/vm/record_cc.sh"
# shellcheck disable=SC2086
CC="$root/tests/vm/record_cc.sh cc" CXX="$root/tests/vm/record_cc.sh c++" \
    cargo test -p lwc-orchestrator --no-fail-fast $all >&2 ||
    echo 'orchestrator.sh: some fail here' >&2
unset "CARGO_TARGET_${host}_RUNNER"
# shellcheck disable=SC2086
"$root/tests/vm/cross.sh" test --no-run --release --locked \
    -p lwc-orchestrator $all 2>&1 | tee /dev/stderr |
    sed -n 's/^ *Executable .*(\(.*\))$/\1/p' >"$out/programs"
while read -r program; do
	name=${program##*/}
	cp "$program" "$out/tests/${name%-*}"
	strip "$out/tests/${name%-*}" 2>/dev/null || true
done <"$out/programs"
rm "$out/programs"
cp "$target/release/lwc-orchestrator" "$out/"
strip "$out/lwc-orchestrator" 2>/dev/null || true
"$FREEBSD_CC" -O2 -Wall -Wextra -Werror -o "$out/cc" tests/vm/prebuilt_cc.c
"$FREEBSD_CC" -O2 -Wall -Wextra -Werror -o "$out/as_user" tests/vm/as_user.c
printf '%s\n' "$root" >"$out/repository"
printf '%s\n' "$target/release/lwc-orchestrator" >"$out/program"
printf "%s\n" "$target/tmp" >"$out/temporary"
rm -rf "$out/sources"
mkdir -p "$out/sources/tests"
cp -R tests/hostile "$out/sources/tests/"
cp -R examples lwc-function orchestrator "$out/sources/"
find "$out/sources" -name target -type d -prune -exec rm -rf {} +
