#!/usr/bin/env bash
# Builds the image and runs it, without a network: as packaging/container/Containerfile
# says, but for its two base images, which no registry is asked for. Both are the system
# that packaging/debian/try.sh has made; in the one for Rust, cargo copies the program that
# has been built here.
#
# As root, with podman. 77: cannot be done here.
set -euo pipefail
cd "$(dirname "$0")/../.."
system=target/debian/system
program=target/release/lwc-orchestrator

cannot() {
    echo "not tried: $*"
    exit 77
}
[ "$(id -u)" = 0 ] || cannot "this is not root"
command -v podman >/dev/null || cannot "podman is missing"
[ -e $system/made ] || cannot "there is no system in $system"

# crun knows either kind of control groups, and no mixture.
if [ "$(stat -f -c %T /sys/fs/cgroup)" != cgroup2fs ] && [ -z "${LWC_UNIFIED:-}" ]; then
    export LWC_UNIFIED=1
    # shellcheck disable=SC2016 # the inner shell's
    exec unshare --mount --cgroup bash -c '
        umount -R /sys/fs/cgroup && mount -t cgroup2 cgroup2 /sys/fs/cgroup && exec "$0" "$@"' \
        packaging/container/try.sh "$@"
fi

work=$(mktemp -d -p "$PWD/target")
podman() { command podman --root "$work/storage" --runroot "$work/run" --cgroup-manager=cgroupfs "$@"; }
end() {
    podman rm --all --force --time 0 >/dev/null 2>&1 || :
    podman system reset --force >/dev/null 2>&1 || :
    rm -rf "$work"
}
trap end EXIT

echo "== base images"
tar -C $system -c usr bin lib lib64 sbin etc tmp var/tmp |
    podman import - localhost/base >/dev/null 2>"$work/import" || cannot "podman import: $(tail -1 "$work/import")"
mkdir "$work/rust"
cp $program "$work/rust/prebuilt"
cat >"$work/rust/cargo" <<'END'
#!/bin/sh
set -eu
[ "$*" = "build --release --locked -p lwc-orchestrator" ] && [ -f Cargo.lock ]
mkdir -p target/release
cp /prebuilt target/release/lwc-orchestrator
END
chmod +x "$work/rust/cargo"
printf 'FROM localhost/base\nCOPY prebuilt /\nCOPY cargo /usr/bin/\n' |
    podman build --isolation chroot -q -t localhost/rust -f - "$work/rust" >/dev/null

echo "== the image"
LWC_CACHE=$work/cache $program new shop --lang c --workflow --dir "$work" >/dev/null
LWC_CACHE=$work/cache $program build "$work/shop/chain.toml" --out "$work/context/bundle" >/dev/null
git ls-files -z | tar --null -T - -c | tar -x -C "$work/context"
podman build --isolation chroot -q -f packaging/container/Containerfile \
    --build-arg RUST=localhost/rust --build-arg BASE=localhost/base \
    --build-arg BUNDLE=bundle -t localhost/shop "$work/context" >/dev/null
podman image inspect localhost/shop --format '{{.Config.User}} {{.Config.Entrypoint}} {{.Config.Cmd}}'

packaging/container/seccomp.py </usr/share/containers/seccomp.json >"$work/seccomp.json"

# NAME PROFILE MECHANISM: what it rolls back by under this profile. (Limits, and no control
# groups: a sandbox may forbid to raise the one and to make the others.)
run() {
    local id pid answer by
    id=$(podman run -d --read-only --cap-drop all --security-opt no-new-privileges \
        --security-opt seccomp="$2" --network none --cgroups disabled \
        --ulimit nofile=1024:1024 --ulimit nproc=4096:4096 localhost/shop 2>"$work/said") ||
        cannot "podman run: $(tail -1 "$work/said")"
    pid=$(podman inspect "$id" --format '{{.State.Pid}}')
    ask() { nsenter --target "$pid" --net curl -sS --max-time 10 --retry 10 --retry-delay 1 --retry-connrefused "$@" 2>>"$work/said"; }
    answer=$(ask --data-binary world http://127.0.0.1:8080/chains/main) || :
    by=$(ask http://127.0.0.1:8080/metrics | sed -n 's/^lwc_rollback_info{mechanism="\([a-z-]*\)"} 1/\1/p') || :
    echo "$1, as user $(stat -c %u "/proc/$pid"): $answer; rolled back by $by"
    # It is the first process, drains, and ends well.
    podman stop --time 15 "$id" >/dev/null
    if [ "$answer" != "Hello, WORLD!" ] || [ "$by" != "$3" ] ||
        [ "$(podman inspect "$id" --format '{{.State.ExitCode}}')" != 0 ]; then
        podman logs "$id"
        podman inspect "$id" --format '{{.State.ExitCode}}'
        echo "failed: expected an answer, and $3, and exit code 0"
        exit 1
    fi
}
best=$(LWC_CACHE=$work/cache $program run "$work/shop/chain.toml" --input "$work/shop/input.txt" --timings 2>&1 |
    sed -n 's/^rollback by \([a-z-]*\).*/\1/p')
echo "== run"
run "with the profile of seccomp.py" "$work/seccomp.json" "$best"
if [ "$best" = userfaultfd ]; then
    run "with the profile of the engine" /usr/share/containers/seccomp.json new-copy
fi
echo "== all good"
