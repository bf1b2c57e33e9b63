#!/bin/sh
# run.sh [--quick] [--clients N,...] [--bytes N,...] [--json FILE] [FOLDER]:
# lwc beside its peers, in one run.
# What is installed for them goes into FOLDER, or into one that is removed.
set -eu

here=$(realpath "$(dirname "$0")")
quick='' clients='' bytes='' json='' folder=''
while [ $# -gt 0 ]; do
	case $1 in
	--quick) quick=--quick ;;
	--clients) clients=${2:?--clients: how many?}; shift ;;
	--bytes) bytes=${2:?--bytes: how many?}; shift ;;
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
# The library that lwc compiles for itself, for the bare servers.
"${CC:-cc}" -O2 -fPIC -shared -I "$here/../../lwc-function/include" \
    "$here/functions.c" -o "$folder/functions.so"
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

wrk=wrk
if ! command -v wrk >/dev/null; then
	echo "SKIPPED: load from wrk: no wrk here (Debian: wrk)" >&2
	wrk=-
fi

"$folder/target/release/peers" ${quick:+"$quick"} ${clients:+--clients "$clients"} \
    ${bytes:+--bytes "$bytes"} ${json:+--json "$json"} \
    "$orchestrator" "$folder/target/release/bare" "$folder/functions.so" \
    "$wasm" "$node" "$python" "$wrk"
