#!/usr/bin/env bash
# Makes the Debian package of a program that has been built:
#
#   cargo build --release -p lwc-orchestrator
#   packaging/debian/build.sh [PROGRAM]     # target/debian/lwc-orchestrator_…deb
#
# Needs dpkg-dev, gzip and nothing else: no cargo-deb, which would have to be compiled
# first, and no debhelper. Whoever makes it, the same files make the same package.
set -euo pipefail
cd "$(dirname "$0")/../.."

program=${1:-target/release/lwc-orchestrator}
name=lwc-orchestrator
version=$("$program" --version)
version=${version#* }
# A commit may stand behind it.
version=${version%% *}
arch=$(dpkg --print-architecture)
out=target/debian
root=$out/$name
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(date -d "$(sed -n 's/^ -- .*>  //p' packaging/debian/changelog | head -1)" +%s)}
export SOURCE_DATE_EPOCH

if ! "$program" serve --help >/dev/null 2>&1; then
    echo "$program has no \`serve\`: build it with its default features" >&2
    exit 1
fi
if ! head -1 packaging/debian/changelog | grep -qF "($version)"; then
    echo "packaging/debian/changelog is not about $version, which $program is" >&2
    exit 1
fi

rm -rf "$root"
umask 022
put() { install -D -m "$1" "$2" "$root/$3"; }
packed() { mkdir -p "$root/${2%/*}" && gzip -9n <"$1" >"$root/$2"; }

put 755 "$program" usr/bin/$name
strip --strip-unneeded "$root/usr/bin/$name"
for page in packaging/man/*; do
    packed "$page" "usr/share/man/man${page##*.}/${page##*/}.gz"
done

complete() { mkdir -p "$root/${2%/*}" && "$program" completions "$1" >"$root/$2"; }
complete bash usr/share/bash-completion/completions/$name
complete zsh usr/share/zsh/vendor-completions/_$name
complete fish usr/share/fish/vendor_completions.d/$name.fish

"$program" schema >target/chain.schema.json
put 644 target/chain.schema.json usr/share/$name/chain.schema.json

# The program has its own copy for what it compiles; these are for editors and for unit
# tests of functions. (Those of Google's framework would be in that one's place.)
for header in lwc-function/include/lwc_*; do
    put 644 "$header" "usr/include/${header##*/}"
done

for unit in packaging/systemd/*; do
    put 644 "$unit" "lib/systemd/system/${unit##*/}"
done
mkdir -p "$root/etc/lwc"

doc=usr/share/doc/$name
packed packaging/debian/changelog $doc/changelog.gz
mkdir -p "$root/$doc"
awk 'NR == FNR { text = text ($0 == "" ? " ." : " " $0) "\n"; next }
    $0 == "@MIT@" { printf "%s", text; next } { print }' \
    <(tail -n +3 LICENSE-MIT) packaging/debian/copyright >"$root/$doc/copyright"
# Keys are demonstrations, whatever their names say.
git ls-files examples/upload examples/leak ':!*.gitignore' | while read -r file; do
    mode=644
    [ ! -x "$file" ] || mode=755
    put $mode "$file" "$doc/$file"
done

put 644 packaging/proxy/nginx.conf "$doc/examples/proxy/nginx.conf"
put 644 packaging/proxy/Caddyfile "$doc/examples/proxy/Caddyfile"

put 644 packaging/debian/lintian-overrides usr/share/lintian/overrides/$name

# What the program is linked with, by those who know which package that is.
mkdir -p "$out/debian"
cat >"$out/debian/control" <<END
Source: $name

Package: $name
Architecture: any
END
depends=$(cd $out && dpkg-shlibdeps -O --ignore-missing-info "$name/usr/bin/$name" 2>/dev/null)
depends=${depends#shlibs:Depends=}

mkdir -p "$root/DEBIAN"
for script in postinst prerm postrm; do
    install -m 755 packaging/debian/$script "$root/DEBIAN/$script"
done
cat >"$root/DEBIAN/control" <<END
Package: $name
Version: $version
Architecture: $arch
Maintainer: The lwc authors <lwc@localhost>
Installed-Size: $(du -ks --exclude=DEBIAN "$root" | cut -f1)
Depends: $depends
Recommends: gcc, g++
Suggests: cargo, pkg-config
Section: net
Priority: optional
Description: functions merged into one process, each in its own context
 Serves functions written in C, C++ and Rust that call each other. They are
 loaded into one worker process per processor, and each has a light-weight
 context: memory, descriptors and credentials of its own. A function's secrets
 are in no other context, and after each request a context is rolled back to
 what it was before.
 .
 A compiler is needed on machines that build functions, and on none that runs
 a bundle.
END
(cd "$root" && find . -path ./DEBIAN -prune -o -type f -print0 | sort -z |
    xargs -0 md5sum | sed 's|  \./|  |' >DEBIAN/md5sums)
find "$root" -newermt "@$SOURCE_DATE_EPOCH" -exec touch -hd "@$SOURCE_DATE_EPOCH" {} +
deb=$out/${name}_${version}_$arch.deb
dpkg-deb --root-owner-group --build "$root" "$deb" >/dev/null
echo "$deb"
