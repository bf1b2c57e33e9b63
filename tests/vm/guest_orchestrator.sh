#!/bin/sh
# What orchestrator.sh has made, on a FreeBSD kernel, as an ordinary user:
#
#	tests/vm/run.py ... folder tests/vm/guest_orchestrator.sh lwc.ko -- \
#	    sh guest_orchestrator.sh folder [test[:filter] ...]
#
# It fails unless all pass, no process is left and the module can be unloaded.
set -u

folder=$(pwd)/$1
shift
if [ $# = 0 ]; then
	for test in "$folder"/tests/*; do set -- "$@" "${test##*/}"; done
fi
user=1001
failed=0
bad() { echo "BAD: $*"; failed=1; }
program=$(cat "$folder/program")
repository=$(cat "$folder/repository")
temporary=$(cat "$folder/temporary")
chmod 1777 /tmp
mkdir -p "${program%/*}" "${repository%/*}" "$temporary" /tmp/bin /tmp/home
cp "$folder/lwc-orchestrator" "$program"
cp "$folder/cc" /tmp/bin/cc
cp "$folder/cc" /tmp/bin/c++
cp "$folder/cc" /tmp/bin/cargo
mkdir -p "$repository"
cp -R "$folder"/sources/* "$repository/"
chown $user:$user /tmp/home
chown -R $user:$user "$temporary"
PREBUILT=$folder/functions
PATH=/tmp/bin:$PATH
export PREBUILT PATH
# Single-user mode leaves the loopback without an address, which `serve` listens at.
ifconfig lo0 inet 127.0.0.1/8 up 2>/dev/null || :
kldload ./lwc.ko || exit 1
for test; do
	filter=${test#*:}
	[ "$filter" != "$test" ] || filter=
	cd "$repository/orchestrator" || exit 1
	# One counts all contexts that there are.
	case $test in
	hostile*) RUST_TEST_THREADS=1 ;;
	*) RUST_TEST_THREADS=4 ;;
	esac
	export RUST_TEST_THREADS
	# shellcheck disable=SC2086
	"$folder/as_user" $user /tmp/home "$folder/tests/${test%%:*}" $filter ||
	    bad "$test"
	cd - >/dev/null || exit 1
done
# Workers whose gateway was killed end by themselves, soon.
for _ in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
	left=$(ps -axo uid,pid,command | awk -v user=$user '$1 == user')
	[ -n "$left" ] || break
	sleep 1
done
[ -z "$left" ] || bad "left behind: $left"
for count in contexts descriptors; do
	now=$(sysctl -n kern.lwc.$count)
	[ "$now" = 0 ] || bad "kern.lwc.$count is $now"
done
kldunload lwc || bad 'the module cannot be unloaded'
[ $failed = 0 ] && echo "the orchestrator's tests: good"
exit $failed
