#!/bin/sh
# Makes the three packages out of built binaries: packaging/build-deb.sh BINARIES OUT
# BINARIES is cargo's directory with iotedged, libiotedge.so and libiotedge.a (target/release).
# ARCH=arm64 packages what was built for another architecture.
#
# dpkg-deb and nothing above it: the packages are a list of files, and this is the list.
set -eu
[ $# = 2 ] || { echo "usage: $0 BINARIES OUT" >&2; exit 2; }
top=$(cd "$(dirname "$0")/.." && pwd)
bin=$(cd "$1" && pwd)
mkdir -p "$2"
out=$(cd "$2" && pwd)
cd "$top/packaging"

arch=${ARCH:-$(dpkg --print-architecture)}
triplet=$(dpkg-architecture -a "$arch" -q DEB_HOST_MULTIARCH 2>/dev/null)
strip="strip"
! command -v "$triplet-strip" >/dev/null || strip=$triplet-strip
version=$(sed -n '/^\[workspace.package\]/,/^\[/s/^version = "\(.*\)"/\1/p' ../Cargo.toml)
packaged=$(dpkg-parsechangelog -l deb/changelog -S Version)
[ "$version" = "$packaged" ] || {
    echo "Cargo.toml says $version, packaging/deb/changelog says $packaged" >&2
    exit 1
}
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(dpkg-parsechangelog -l deb/changelog -S Timestamp)}
export SOURCE_DATE_EPOCH
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
umask 022

# put MODE SOURCE PATH: one file into the package at hand ($root).
put() {
    install -D -m "$1" "$2" "$root$3"
}

# compressed SOURCE PATH.gz
compressed() {
    mkdir -p "$root$(dirname "$2")"
    gzip -9nc "$1" >"$root$2"
}

fill() {
    sed -e "s/@VERSION@/$version/g" -e "s/@ARCH@/$arch/g" -e "s/@TRIPLET@/$triplet/g" \
        -e "s/@SIZE@/${size:-0}/g" -e "s/@LIBC@/${libc:-2.34}/g" "$1"
}

begin() {
    package=$1
    root=$work/$package
    mkdir -p "$root/DEBIAN"
    compressed deb/changelog "/usr/share/doc/$package/changelog.gz"
    put 644 deb/copyright "/usr/share/doc/$package/copyright"
}

finish() {
    size=$(du -k -s --apparent-size --exclude=DEBIAN "$root" | cut -f1)
    for file in deb/"$package"/*; do
        case $file in
        */control) fill "$file" >"$root/DEBIAN/control" ;;
        */postinst | */prerm | */postrm) put 755 "$file" "/DEBIAN/${file##*/}" ;;
        *) put 644 "$file" "/DEBIAN/${file##*/}" ;;
        esac
    done
    (cd "$root" && find . -path ./DEBIAN -prune -o -type f -print | LC_ALL=C sort \
        | sed 's,^\./,,' | xargs -d '\n' md5sum >DEBIAN/md5sums)
    dpkg-deb --root-owner-group -Zxz --build "$root" "$out/${package}_${version}_$arch.deb"
}

begin iotedge
put 755 "$bin/iotedged" /usr/bin/iotedged
$strip --remove-section=.comment "$root/usr/bin/iotedged"
ln -s iotedged "$root/usr/bin/iotedgectl"
# Where the linker could pack the relocations, only a C library that knows them starts it.
libc=2.34
! objdump -p "$root/usr/bin/iotedged" | grep -q GLIBC_ABI_DT_RELR || libc=2.36
put 644 etc/iotedge.toml /etc/iotedge/iotedge.toml
for dir in conf.d rules.d policies.d; do
    mkdir -p "$root/etc/iotedge/$dir"
done
put 644 ../systemd/iotedged.service /lib/systemd/system/iotedged.service
put 644 ../systemd/iotedge.sysusers /usr/lib/sysusers.d/iotedge.conf
put 644 ../systemd/iotedge.tmpfiles /usr/lib/tmpfiles.d/iotedge.conf
put 644 60-iotedge.rules /lib/udev/rules.d/60-iotedge.rules
compressed man/iotedged.8 /usr/share/man/man8/iotedged.8.gz
compressed man/iotedgectl.1 /usr/share/man/man1/iotedgectl.1.gz
put 644 ../README.md /usr/share/doc/iotedge/README.md
for page in ../docs/*.md; do
    put 644 "$page" "/usr/share/doc/iotedge/handbook/${page##*/}"
done
finish

begin libiotedge1
put 644 "$bin/libiotedge.so" "/usr/lib/$triplet/libiotedge.so.1"
$strip --strip-unneeded --remove-section=.comment "$root/usr/lib/$triplet/libiotedge.so.1"
soname=$(objdump -p "$root/usr/lib/$triplet/libiotedge.so.1" | awk '$1 == "SONAME" { print $2 }')
[ "$soname" = libiotedge.so.1 ] || {
    echo "libiotedge.so has the SONAME '$soname', libiotedge1 needs libiotedge.so.1" >&2
    exit 1
}
finish

begin libiotedge-dev
put 644 "$bin/libiotedge.a" "/usr/lib/$triplet/libiotedge.a"
$strip --strip-debug --enable-deterministic-archives "$root/usr/lib/$triplet/libiotedge.a"
ln -s libiotedge.so.1 "$root/usr/lib/$triplet/libiotedge.so"
(cd ../include && find . -type f -name '*.h') | sed 's,^\./,,' | while read -r header; do
    put 644 "../include/$header" "/usr/include/iotedge/$header"
done
mkdir -p "$root/usr/lib/$triplet/pkgconfig"
fill iotedge.pc.in >"$root/usr/lib/$triplet/pkgconfig/iotedge.pc"
finish
ls -l "$out"/*_"${version}_$arch.deb"
