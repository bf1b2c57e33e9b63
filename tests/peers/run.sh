#!/bin/sh
# run.sh [--quick] [--json FILE] [FOLDER]: lwc beside its peers, in one run.
# What is installed for them goes into FOLDER, or into one that is removed.
set -eu

here=$(realpath "$(dirname "$0")")
quick='' json='' folder=''
while [ $# -gt 0 ]; do
	case $1 in
	--quick) quick=--quick ;;
	--json) json=$(realpath "${2:?--json: which file?}"); shift ;;
	-*) echo "run.sh: what is $1?" >&2; exit 2 ;;
	*) folder=$1 ;;
	esac
	shift
done
if [ -z "$folder" ]; then
	folder=$(mktemp -d)
	trap 'rm -rf "$folder"' EXIT
	# So that it is run then, too.
	trap 'exit 1' HUP INT TERM
fi
mkdir -p "$folder"
folder=$(realpath "$folder")

# The repository's own program; the peers' build apart from it.
(cd "$here/../.." && cargo build --release -q -p lwc-orchestrator)
# It may be root who runs this.
export LWC_ALLOW_ROOT=1
orchestrator=$(cd "$here/../.." && realpath "${CARGO_TARGET_DIR:-target}/release/lwc-orchestrator")
build() {
	(cd "$here" && CARGO_TARGET_DIR=$folder/target cargo build --release --locked -q "$@")
}
wasm=$folder/target/release/wasm
if ! build; then
	echo "SKIPPED: wasmtime: it could not be built; see above" >&2
	wasm=-
	build --no-default-features
fi

node=-
if ! command -v node >/dev/null || ! command -v npm >/dev/null; then
	echo "SKIPPED: Node.js: no node and npm here (Debian: nodejs, npm)" >&2
elif [ -d "$folder/node_modules/@google-cloud/functions-framework" ] ||
    npm install --silent --no-audit --no-fund --prefix "$folder" \
    '@google-cloud/functions-framework@^4' >&2; then
	node=$folder/node_modules
else
	echo "SKIPPED: Node.js: npm could not install the functions framework" >&2
fi

python=-
if ! command -v python3 >/dev/null; then
	echo "SKIPPED: CPython: no python3 here" >&2
elif [ -x "$folder/venv/bin/gunicorn" ] ||
    { python3 -m venv "$folder/venv" &&
    "$folder/venv/bin/pip" install -q 'gunicorn>=23,<26' >&2; }; then
	python=$folder/venv/bin/gunicorn
else
	echo "SKIPPED: CPython: no venv, or pip could not install gunicorn (Debian: python3-venv)" >&2
fi

# shellcheck disable=SC2086 # words, or none
"$folder/target/release/peers" $quick ${json:+--json "$json"} \
    "$orchestrator" "$wasm" "$node" "$python"
