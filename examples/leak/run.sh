#!/bin/sh
# SPDX-License-Identifier: MIT OR Apache-2.0
#
# Runs the same two functions merged without contexts and through lwc, with an
# ordinary input and with the attack, and says what is seen. Needs cc and
# cargo. LWC_ORCHESTRATOR names a built binary to use instead of cargo.
#
# Exit status: 0 if the merged process leaks the key and lwc does not, 1 if it
# is otherwise, 2 if something could not be built or run.

set -u
here=$(cd "$(dirname "$0")" && pwd) || exit 2
root=$(cd "$here/../.." && pwd) || exit 2
tmp=$(mktemp -d "${TMPDIR:-/tmp}/lwc-leak.XXXXXX") || exit 2
trap 'rm -rf "$tmp"' EXIT
trap 'exit 2' HUP INT TERM

die() {
	echo "run.sh: $*" >&2
	exit 2
}

lwc() {
	if [ -n "${LWC_ORCHESTRATOR:-}" ]; then
		"$LWC_ORCHESTRATOR" run "$here/chain.toml" --input "$1"
	else
		(cd "$root" && cargo run --quiet --release -p lwc-orchestrator -- \
			run "$here/chain.toml" --input "$1")
	fi
}

# Text in a file of any bytes; every other byte becomes a dot.
text() {
	LC_ALL=C tr -c '[:print:]\n' '.' <"$1"
}

# Whether a file holds the key, or the half of it that is no common text.
leaks() {
	text "$1" | grep -F -q -e "$key" -e "$half"
}

key=$(cat "$here/seal.key") || exit 2
half=${key#DEMO-KEY-NOT-A-SECRET-}

"${CC:-cc}" -std=c11 -O2 -Wall -Wextra -I "$root/lwc-function/include" \
	"$here/merged.c" "$here/decode.c" "$here/seal.c" -o "$tmp/merged" ||
	die "the merged program does not compile"

echo "== ordinary input: two records, each as long as it says"
"$tmp/merged" "$here/seal.key" <"$here/ordinary.bin" >"$tmp/merged.ordinary" ||
	die "the merged program fails"
lwc "$here/ordinary.bin" >"$tmp/lwc.ordinary" ||
	die "the orchestrator fails with an ordinary input"
cmp "$tmp/merged.ordinary" "$tmp/lwc.ordinary" ||
	die "the answers differ with an ordinary input"
echo "both answer:"
text "$tmp/lwc.ordinary" | sed 's/^/    /'

echo "== attack: one record of 5 bytes that says it has 1024"
"$tmp/merged" "$here/seal.key" <"$here/attack.bin" >"$tmp/merged.attack"
merged=$?
echo "merged, no contexts (exit status $merged):"
text "$tmp/merged.attack" | tr -s '.' | fold -w 70 | sed 's/^/    /'
lwc "$here/attack.bin" >"$tmp/lwc.attack" 2>"$tmp/lwc.error"
lwc=$?
echo "lwc, a context each (exit status $lwc):"
cat "$tmp/lwc.attack" "$tmp/lwc.error" >"$tmp/lwc.all"
text "$tmp/lwc.all" | tr -s '.' | fold -w 70 | sed 's/^/    /'

echo "== the key is \"$key\""
status=0
if leaks "$tmp/merged.attack"; then
	echo "merged: LEAKED to whoever sent the attack"
else
	echo "merged: not leaked; this system's malloc puts the two elsewhere"
	status=1
fi
if leaks "$tmp/lwc.all"; then
	echo "lwc:    LEAKED"
	status=1
else
	echo "lwc:    not leaked; the key is not in the decoder's memory"
fi
exit $status
