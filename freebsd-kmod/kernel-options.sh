#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
#
# Copyright (c) 2026 The lwc authors
#
# Writes the options that the running kernel was built with, as the headers a
# module is compiled with (opt_global.h and the like), into a directory:
#
#	kernel-options.sh sysdir directory
#
# A release has no build directory of its kernel, but the kernel carries its
# own configuration (options INCLUDE_CONFIG_FILE, which GENERIC has), and
# config(8) makes the headers of it.  Options change what the kernel's
# structures look like and what a module has to do (INVARIANTS, RACCT,
# KDTRACE_HOOKS), so they are not guessed.  Does nothing when the headers are
# there already and of the same configuration.
set -eu

die() { printf '%s\n' "$*" >&2; exit 1; }

[ $# = 2 ] || die "usage: $0 sysdir directory"
sysdir=$1
directory=$2
elsewhere='to build for another kernel set KERNBUILDDIR to the directory it was built in'

running=$(sysctl -n kern.osreldate) || die 'sysctl tells no kern.osreldate'
sources=$(sed -n 's/^#define[[:space:]]*__FreeBSD_version[[:space:]]*\([0-9]*\).*/\1/p' \
    "$sysdir/sys/param.h")
[ -n "$sources" ] || die "no __FreeBSD_version in $sysdir/sys/param.h"
[ "$sources" = "$running" ] ||
    die "$sysdir has the sources of kernel version $sources, but version $running is running: install its sources ('pkg install FreeBSD-src-sys', or src.txz of the release) and boot what is installed, or set SYSDIR; $elsewhere"

configuration=$(sysctl -n kern.conftxt 2>/dev/null) || configuration=
[ -n "$configuration" ] ||
    die "the running kernel does not carry its configuration (options INCLUDE_CONFIG_FILE): set KERNBUILDDIR to the directory it was built in, which has opt_global.h"
command -v config >/dev/null ||
    die "config(8) is missing: 'pkg install FreeBSD-toolchain', or set KERNBUILDDIR to the directory the running kernel was built in"
machine=$(printf '%s\n' "$configuration" |
    awk '$1 == "machine" { print $2; exit }')
[ -d "$sysdir/${machine:-none}/conf" ] ||
    die "no $sysdir/${machine:-none}/conf for the configuration of the running kernel"

if [ -f "$directory/opt_global.h" ] &&
    printf '%s\n%s\n' "$sysdir $sources" "$configuration" |
    cmp -s - "$directory/CONFIGURATION"; then
	exit 0
fi
rm -rf "$directory"
mkdir -p "$directory"
directory=$(cd "$directory" && pwd)
printf '%s\n' "$configuration" >"$directory/RUNNING"
# config(8) finds its templates from the directory of the configurations.
(cd "$sysdir/$machine/conf" && config -d "$directory" "$directory/RUNNING") \
    >"$directory/log" 2>&1 ||
    { cat "$directory/log" >&2
    die 'config(8) refused the configuration of the running kernel'; }
[ -f "$directory/opt_global.h" ] || die 'config(8) wrote no opt_global.h'
# Last: a directory without it is made again.
printf '%s\n%s\n' "$sysdir $sources" "$configuration" >"$directory/CONFIGURATION"
