#!/bin/sh
# run.sh CLIENT: the Functions Framework's public conformance client against
# `serve`. CLIENT is its binary, built from functions-framework-conformance/client.
# Needs python3, and port 8080 to be free.
set -eu

client=$(realpath "${1:?give the path of the conformance client}")
here=$(realpath "$(dirname "$0")")
cd "$here/../.."
cargo build --release -q -p lwc-orchestrator
# It may be root who runs this.
export LWC_ALLOW_ROOT=1
orchestrator=$(realpath "${CARGO_TARGET_DIR:-target}/release/lwc-orchestrator")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"

serve="$orchestrator serve $here/chain.toml --workers 10"

# validate COMMAND TARGET TYPE/DECLARED FLAGS
validate() {
	command=$1 target=$2 type=$3
	shift 3
	echo "== $type by the function $target $*"
	FUNCTION_TARGET=$target "$client" -buildpacks=false -start-delay=12 \
	    -type="${type%%/*}" -declarative-type="${type##*/}" -cmd="$command" \
	    -validate-mapping=false "$@"
}

# Where the client reads the function's file, with the adapter; else without.
validate "python3 $here/adapter.py $serve" http http/http
validate "python3 $here/adapter.py $serve" cloudevent cloudevent/cloudevent
export PORT=8080
validate "$serve" typed http/typed
validate "$serve" slow http/http -validate-concurrency=true
validate "$serve" slow-event cloudevent/cloudevent -validate-concurrency=true
echo "all passed"
