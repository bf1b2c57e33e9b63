#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
#
# Copyright (c) 2026 The lwc authors
#
# A C compiler for FreeBSD on Linux, with FreeBSD's headers and the means to
# link its programs: zig, from PyPI, in a virtual environment of Python's.
# Prints the path of the program:
#
#	zig.sh [directory]
#
# The directory (default: target/freebsd-kmod of the repository) keeps it.
set -eu

ZIG_VERSION=0.17.1

case $#${1-} in
0 | 1[!-]*) ;;
*) echo "usage: $0 [directory]" >&2; exit 2 ;;
esac
cache=${1:-$(dirname "$0")/../target/freebsd-kmod}
mkdir -p "$cache"
cache=$(cd "$cache" && pwd)

if ! "$cache/venv/bin/python3" -m ziglang version 2>/dev/null |
    grep -qx "$ZIG_VERSION"; then
	rm -rf "$cache/venv"
	python3 -m venv "$cache/venv" >&2
	"$cache/venv/bin/python3" -m pip install -q --disable-pip-version-check \
	    "ziglang==$ZIG_VERSION" >&2
fi
# The program itself: the Python in front of it costs more than it does.
"$cache/venv/bin/python3" -c \
    'import os, ziglang; print(os.path.join(os.path.dirname(ziglang.__file__), "zig"))'
