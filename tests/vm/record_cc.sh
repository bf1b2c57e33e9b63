#!/bin/sh
# A compiler that notes what it is asked for (see orchestrator.sh):
#
#	record_cc.sh cc|c++ [argument ...]
#
# Passes everything on to the compiler named.  Of a source that it preprocesses it
# also makes a library for FreeBSD, by FREEBSD_CC or FREEBSD_CXX, and keeps it in
# RECORDED under the number that the program NUMBER (prebuilt_cc.c) has for the
# source's bytes.  Of one that does not compile there, there is none.
set -u

case $1 in
# The orchestrator asks the program alone.
--version) exec cc --version ;;
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
		"$cross" $flags -w -o "$library.$$" "$source" 2>/dev/null &&
		    mv "$library.$$" "$library"
	fi
	;;
esac
exec "$compiler" "$@"
