#!/usr/bin/env bash
# Has nginx and Caddy read the samples beside this file, and asks functions through each of
# them. What is changed for that are ports, paths and the certificate.
#
#   try.sh [PROGRAM]        # default: target/release/lwc-orchestrator
#
# With nginx, caddy, curl and openssl; as any user.
set -euo pipefail
program=$(realpath "${1:-target/release/lwc-orchestrator}")
cd "$(dirname "$0")/../.."
samples=packaging/proxy
work=$(mktemp -d)
running=()
end() {
    [ ${#running[@]} = 0 ] || kill "${running[@]}" 2>/dev/null || :
    wait
    rm -rf "$work"
}
trap end EXIT
fail() {
    echo "$*" >&2
    tail -n 20 "$work"/*.log >&2 || :
    exit 1
}
# Waits until a command says what it should.
until_it() {
    local tries=0
    until "$@"; do
        [ $((tries += 1)) -lt 300 ] || fail "never: $*"
        sleep 0.1
    done
}

# Ports that nobody has now.
mapfile -t free < <(python3 - <<'END'
import socket
held = [socket.create_server(("127.0.0.1", 0)) for _ in range(5)]
print(*(s.getsockname()[1] for s in held), sep="\n")
END
)
gateway=${free[0]}

mkdir "$work/functions" "$work/nginx" "$work/caddy"
cat >"$work/functions/all.c" <<'END'
#include <stdio.h>
#include <string.h>
#include "lwc_function.h"

/* Says where the request came from, and how much it brought. */
LWC_HANDLER(tell)
{
	const char *names[] = { "x-forwarded-for", "x-forwarded-proto",
	    "x-forwarded-host", "forwarded" };
	char line[512];

	for (size_t i = 0; i < 4; i++) {
		const char *text = lwc_attribute(inv, names[i]);
		int n = snprintf(line, sizeof(line), "%s: %s\n", names[i],
		    text == NULL ? "-" : text);

		if (lwc_append(inv, line, (size_t)n) != 0)
			return (inv->status);
	}
	int n = snprintf(line, sizeof(line), "%zu bytes\n", inv->input_len);
	return (lwc_append(inv, line, (size_t)n));
}

/* Would have a proxy send a file of its choice. */
LWC_HANDLER(send)
{
	if (lwc_reply_attribute(inv, "x-accel-redirect", "/readyz") != 0)
		return (inv->status);
	return (lwc_append(inv, "mine", 4));
}
END
cat >"$work/functions/chain.toml" <<'END'
[functions.tell]
source = "all.c"
[functions.send]
source = "all.c"
[chains.told]
steps = ["tell"]
headers = ["x-forwarded-for", "x-forwarded-proto", "x-forwarded-host", "forwarded"]
[chains.sly]
steps = ["send"]
END
# It may be root who tries.
LWC_ALLOW_ROOT=1 LWC_CACHE=$work/cache "$program" serve "$work/functions/chain.toml" --workers 1 \
    --listen "127.0.0.1:$gateway" --admin "127.0.0.1:${free[1]}" >"$work/out" 2>"$work/serve.log" &
running+=($!)
serve=$!
until_it grep -q 'for operators' "$work/out"

name=functions.example.com
# ask PORT PATH [OPTIONS...]: as a caller, by the name that is in the samples.
ask() {
    local port=$1 path=$2
    shift 2
    curl -sS --max-time 60 --insecure --resolve "$name:$port:127.0.0.1" \
        "$@" "https://$name:$port$path"
}
status() { ask "$@" -o /dev/null -w '%{http_code}'; }
is() { [ "$(status "$1" "$2" 2>"$work/curl")" = "$3" ]; }

# tried NAME PORT
tried() {
    local said what=$1 port=$2
    until_it is "$port" /readyz 200
    for version in --http1.1 --http2; do
        said=$(ask "$port" /chains/told "$version" --data-binary hello -H 'Traceparent: none' \
            -H 'X-Forwarded-For: 192.0.2.1' -H 'X-Forwarded-Proto: gopher' -H 'Forwarded: for=192.0.2.1')
        printf 'x-forwarded-for: 127.0.0.1\nx-forwarded-proto: https\nx-forwarded-host: %s\nforwarded: -\n5 bytes\n' \
            "$name" >"$work/expected"
        # Caddy says the port as well, where it is not the usual one.
        said=${said//$name:$port/$name}
        diff "$work/expected" <(echo "$said") || fail "$what, $version: not what a function should see"
        [ "$(ask "$port" /chains/sly "$version" -d x)" = mine ] || fail "$what: it did what a function's header said"
    done
    head -c 1000000 /dev/zero >"$work/large"
    ask "$port" /chains/told --data-binary @"$work/large" | grep -qx '1000000 bytes' || fail "$what: a large body"
    head -c 2000000 /dev/zero >"$work/large"
    refused=$(status "$port" /chains/told -H 'Expect:' --data-binary @"$work/large" 2>"$work/curl") || :
    case $what,$refused in
    # Caddy counts while it passes a body on, so that either of the two is first; it may also
    # give its caller's stream up.
    *,413 | Caddy,000 | Caddy,502) ;;
    *) fail "$what: $refused for a body that is too large" ;;
    esac
    for path in / /metrics /status.json /functions/tell; do
        is "$port" "$path" 404 || fail "$what: $path is open"
    done
    # More requests than the gateway keeps connections open for, in a row and at once.
    seq 200 | xargs -P 8 -I@ curl -sS --max-time 60 --insecure --resolve "$name:$port:127.0.0.1" \
        -d @ -o /dev/null -w '%{http_code}\n' "https://$name:$port/chains/told" >"$work/codes"
    [ "$(sort "$work/codes" | uniq -c | tr -s ' ')" = ' 200 200' ] || fail "$what: $(sort "$work/codes" | uniq -c)"
    echo "$what: functions are asked through it, and nothing else is"
}

echo '== nginx'
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj "/CN=$name" \
    -keyout "$work/nginx/privkey.pem" -out "$work/nginx/fullchain.pem" 2>/dev/null
sed -e "s|/etc/letsencrypt/live/$name|$work/nginx|" \
    -e "s|listen 80;|listen 127.0.0.1:${free[2]};|" -e "s|listen 443 ssl|listen 127.0.0.1:${free[3]} ssl|" \
    -e '/listen \[::\]/d' -e "s|127.0.0.1:8080|127.0.0.1:$gateway|" \
    $samples/nginx.conf >"$work/nginx/functions.conf"
cat >"$work/nginx/nginx.conf" <<END
daemon off;
user $(id -un) $(id -gn);
pid $work/nginx/pid;
error_log $work/nginx.log warn;
events { }
http {
    access_log off;
    client_body_temp_path $work/nginx/body;
    proxy_temp_path $work/nginx/proxy;
    fastcgi_temp_path $work/nginx/fastcgi;
    uwsgi_temp_path $work/nginx/uwsgi;
    scgi_temp_path $work/nginx/scgi;
    include $work/nginx/functions.conf;
}
END
nginx=(nginx -p "$work/nginx" -c "$work/nginx/nginx.conf" -e "$work/nginx.log")
"${nginx[@]}" -t 2>"$work/said" || fail "$(cat "$work/said")"
"${nginx[@]}" &
running+=($!)
tried nginx "${free[3]}"
moved=$(curl -sS -o /dev/null -w '%{http_code} %{redirect_url}' -H "Host: $name" "http://127.0.0.1:${free[2]}/chains/told")
[ "$moved" = "301 https://$name/chains/told" ] || fail "nginx: $moved"

echo '== Caddy'
{
    sed '/^{/q' $samples/Caddyfile
    printf '\tadmin off\n\tauto_https disable_redirects\n\tlocal_certs\n\tskip_install_trust\n\tstorage file_system %s\n' "$work/caddy"
    sed '1,/^{/d' $samples/Caddyfile
} | sed -e "s|^$name {|$name:${free[4]} {|" -e "s|127.0.0.1:8080|127.0.0.1:$gateway|" >"$work/caddy/Caddyfile"
caddy=(env HOME="$work/caddy" XDG_CONFIG_HOME="$work/caddy" XDG_DATA_HOME="$work/caddy" caddy)
for file in $samples/Caddyfile "$work/caddy/Caddyfile"; do
    "${caddy[@]}" validate --adapter caddyfile --config "$file" >"$work/said" 2>&1 || fail "$(cat "$work/said")"
done
"${caddy[@]}" fmt $samples/Caddyfile | diff $samples/Caddyfile - || fail 'caddy fmt writes the sample otherwise'
"${caddy[@]}" run --adapter caddyfile --config "$work/caddy/Caddyfile" 2>"$work/caddy.log" &
running+=($!)
tried Caddy "${free[4]}"

# Both have seen it go.
kill "$serve"
until_it is "${free[4]}" /chains/told 503
is "${free[3]}" /chains/told 502 || fail 'nginx, without a server'
