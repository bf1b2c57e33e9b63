#!/bin/sh
# A compiler that notes what it is asked for (see orchestrator.sh):
#
#	record_cc.sh cc|c++ [argument ...]
#	record_cc.sh build [argument ...]
#
# Passes everything on to the compiler named.  Of a source that it preprocesses it
# also makes a library for FreeBSD, by FREEBSD_CC or FREEBSD_CXX, and keeps it in
# RECORDED under the number that the program NUMBER (prebuilt_cc.c) has for the
# source's bytes.  Of one that does not compile there, there is none.  The second form
# is cargo's, which builds the crate in this folder: its number is src/lib.rs's.
set -u

case $1 in
# The orchestrator asks the program alone.
--version) exec cc --version ;;
build)
	library=$RECORDED/$("$NUMBER" number src/lib.rs).so
	if [ ! -e "$library" ]; then
		# One at a time: libraries of crates of one name have one place.
		exec 9>"$RECORDED/.lock"
		flock 9
		made=$("${0%/*}/cross.sh" build --release --lib \
		    --message-format=json --manifest-path "$PWD/Cargo.toml" \
		    2>/dev/null 9>&- |
		    sed -n 's/^{"reason":"compiler-artifact".*"filenames":\["\([^"]*\.so\)".*/\1/p' |
		    tail -n 1)
		[ -z "$made" ] || cp "$made" "$library"
		exec 9>&-
	fi
	exec cargo "$@"
	;;
esac
compiler=$1
shift
case " $* " in
*" -E "*)
	for source; do :; done
	library=$RECORDED/$("$NUMBER" number "$source").so
	if [ ! -e "$library" ]; then
		[ "$compiler" = cc ] && cross=$FREEBSD_CC || cross=$FREEBSD_CXX
		flags=
		for flag; do
			case $flag in
			-E | "$source" | -g) ;;
			*) flags="$flags $flag" ;;
			esac
		done
		# shellcheck disable=SC2086
		"$cross" $flags -shared -w -o "$library.$$" "$source" 2>/dev/null &&
		    mv "$library.$$" "$library"
	fi
	;;
esac
exec "$compiler" "$@"
