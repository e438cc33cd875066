#!/bin/sh
# Writes what the Yocto recipe takes from this tree: the crates of Cargo.lock, with their
# checksums, and the commit that is built.
#   yocto/update-crates.sh            crates
#   yocto/update-crates.sh COMMIT     crates, and SRCREV
#   yocto/update-crates.sh --check    says whether the list is that of Cargo.lock
set -eu
cd "$(dirname "$0")/.."
recipes=yocto/meta-iotedge/recipes-iotedge/iotedge
list=$recipes/iotedge-crates.inc

crates() {
    echo '# Written by yocto/update-crates.sh from Cargo.lock.'
    echo
    printf 'SRC_URI += "%s\n' '\'
    awk -F '"' '/^name = /{ n = $2 } /^version = /{ v = $2 }
        /^checksum = /{ printf "    crate://crates.io/%s/%s \\\n", n, v }' Cargo.lock
    echo '"'
    echo
    awk -F '"' '/^name = /{ n = $2 } /^version = /{ v = $2 }
        /^checksum = /{ printf "SRC_URI[%s-%s.sha256sum] = \"%s\"\n", n, v, $2 }' Cargo.lock
}

case ${1:-} in
--check)
    crates | cmp -s - "$list" || {
        echo "$list is not that of Cargo.lock: run yocto/update-crates.sh" >&2
        exit 1
    }
    ;;
*)
    crates >"$list"
    if [ -n "${1:-}" ]; then
        commit=$(git rev-parse --verify "$1^{commit}")
        sed -i "s/^SRCREV = .*/SRCREV = \"$commit\"/" "$recipes"/iotedge_*.bb
    fi
    ;;
esac
