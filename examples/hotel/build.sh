#!/bin/sh
# SPDX-License-Identifier: MIT OR Apache-2.0
#
# Builds the functions for programs without contexts: NAME.so of each in a folder,
# as `lwc-orchestrator` builds them for itself. Needs cc, c++ and cargo.

set -eu
if [ $# -ne 1 ]; then
	echo 'usage: build.sh FOLDER' >&2
	exit 2
fi
here=$(cd "$(dirname "$0")" && pwd)
include=$here/../../lwc-function/include
mkdir -p "$1"
out=$(cd "$1" && pwd)

for name in availability geo login; do
	"${CC:-cc}" -std=gnu17 -O2 -g -fPIC -shared -Wall -Wextra -I "$include" \
		"$here/$name.c" -o "$out/$name.so"
done
for name in nearby rates reserve; do
	"${CXX:-c++}" -std=gnu++20 -O2 -g -fPIC -shared -Wall -Wextra \
		-I "$include" "$here/$name.cpp" -o "$out/$name.so"
done
(cd "$here/functions" &&
	"${CARGO:-cargo}" build --quiet --release --lib --target-dir "$out/target")
for name in frontend profiles recommend review search; do
	ln -sf target/release/libhotel_functions.so "$out/$name.so"
done
