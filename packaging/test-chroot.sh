#!/bin/sh
# Installs the three packages in a fresh Debian root and looks whether every file is where it is
# promised, the shipped configuration passes its own check, a C program compiles against
# libiotedge-dev, and purge takes everything away: packaging/test-chroot.sh [BINARIES]
#
# Needs root (chroot). The fresh root is kept as a tarball under target/ for the next time.
# shellcheck disable=SC2016 # expanded inside the chroot
set -eu
cd "$(dirname "$0")/.."
bin=${1:-target/release}
release=$(sed -n 's/^VERSION_CODENAME=//p' /etc/os-release)

skip() {
    echo "packages: SKIPPED, $1"
    exit 0
}
. packaging/apt.sh
command -v apt-get >/dev/null || skip "this is no Debian"
[ "$(id -u)" = 0 ] || skip "a chroot needs root"
apt_install dpkg-dev binutils mmdebstrap

cache=target/chroot-$release-$(dpkg --print-architecture).tar
if [ ! -s "$cache" ]; then
    echo "making a fresh root of $release"
    made=$cache.part
    for attempt in first second; do
        ! mmdebstrap --quiet --format=tar --variant=minbase --aptopt='Acquire::Retries "3"' \
            --include=systemd-standalone-sysusers,systemd-standalone-tmpfiles,gcc,libc6-dev,pkg-config \
            "$release" "$made" || { mv "$made" "$cache"; break; }
        echo "the $attempt try to make a root failed" >&2
    done
    [ -s "$cache" ] || { echo "packages: no fresh root could be made" >&2; exit 1; }
fi

work=$(mktemp -d)
root=$work/root
trap 'rm -rf "$work"' EXIT
mkdir "$root" "$work/debs"
packaging/build-deb.sh "$bin" "$work/debs" >/dev/null
tar -xf "$cache" -C "$root" --exclude='./dev/*'
mkdir -p "$root/dev"
# Regular files stand in for devices, so that the test works where no device can be made.
: >"$root/dev/null"
cp "$work"/debs/*.deb "$root/tmp/"
inside() { env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin DEBIAN_FRONTEND=noninteractive chroot "$root" "$@"; }

failed=0
wrong() {
    echo "packages: $1" >&2
    failed=1
}

inside sh -c 'dpkg -i /tmp/*.deb' >"$work/install.log" 2>&1 || {
    cat "$work/install.log" >&2
    exit 1
}

# What is promised, with mode, owner and group where they matter.
triplet=$(dpkg-architecture -q DEB_HOST_MULTIARCH)
while read -r path mode owner; do
    found=$(inside stat -c '%a %U:%G' "$path" 2>/dev/null) || { wrong "$path is missing"; continue; }
    [ "$mode" = - ] || [ "$found" = "$mode $owner" ] || wrong "$path is $found, not $mode $owner"
done <<PATHS
/usr/bin/iotedged 755 root:root
/usr/bin/iotedgectl -
/usr/lib/$triplet/libiotedge.so.1 644 root:root
/usr/lib/$triplet/libiotedge.so -
/usr/lib/$triplet/libiotedge.a 644 root:root
/usr/lib/$triplet/pkgconfig/iotedge.pc 644 root:root
/usr/include/iotedge/iotedge.h 644 root:root
/usr/include/iotedge/aws_iot_mqtt_client_interface.h 644 root:root
/etc/iotedge 750 root:iotedge
/etc/iotedge/iotedge.toml 644 root:root
/etc/iotedge/conf.d 755 root:root
/etc/iotedge/rules.d 755 root:root
/etc/iotedge/policies.d 755 root:root
/var/lib/iotedge 700 iotedge:iotedge
/run/iotedge 750 iotedge:iotedge
/lib/systemd/system/iotedged.service 644 root:root
/usr/lib/sysusers.d/iotedge.conf 644 root:root
/usr/lib/tmpfiles.d/iotedge.conf 644 root:root
/lib/udev/rules.d/60-iotedge.rules 644 root:root
/usr/share/doc/iotedge/copyright 644 root:root
/usr/share/doc/iotedge/changelog.gz 644 root:root
PATHS

groups=$(inside id -nG iotedge)
for group in iotedge dialout gpio; do
    case " $groups " in *" $group "*) ;; *) wrong "the user iotedge is not in $group" ;; esac
done
conffile=$(inside dpkg-query -W -f '${Conffiles}' iotedge)
case $conffile in *" /etc/iotedge/iotedge.toml "*) ;; *) wrong "iotedge.toml is no conffile" ;; esac
inside iotedged check --config /etc/iotedge/iotedge.toml \
    || wrong "the shipped configuration does not pass iotedged check"
inside ldconfig -p | grep -q 'libiotedge\.so\.1 ' || wrong "ldconfig does not know libiotedge.so.1"

cat >"$root/tmp/program.c" <<'C'
#include <stdio.h>
#include <iotedge.h>
#include <aws_iot_mqtt_client_interface.h>
int main(void) { AWS_IoT_Client client; printf("%d\n", (int)aws_iot_mqtt_get_client_state(&client) >= 0); return 0; }
C
inside sh -c 'cd /tmp && gcc -Wall -Werror program.c $(pkg-config --cflags --libs iotedge) -o shared && ./shared' >/dev/null \
    || wrong "a C program does not compile and run against libiotedge-dev"
inside sh -c 'cd /tmp && gcc program.c $(pkg-config --cflags iotedge) -Wl,-Bstatic -liotedge -Wl,-Bdynamic -lpthread -ldl -lm -o static && ./static' >/dev/null \
    || wrong "a C program does not link with the static library"

# An administrator's change outlives remove, and nothing outlives purge.
echo '# changed' >>"$root/etc/iotedge/iotedge.toml"
: >"$root/var/lib/iotedge/queue.db"
inside dpkg --remove iotedge libiotedge-dev libiotedge1 >"$work/remove.log" 2>&1 || {
    cat "$work/remove.log" >&2
    wrong "remove failed"
}
[ -e "$root/etc/iotedge/iotedge.toml" ] || wrong "remove took the configuration away"
[ -e "$root/var/lib/iotedge/queue.db" ] || wrong "remove took the state away"
[ ! -e "$root/usr/bin/iotedged" ] || wrong "remove left /usr/bin/iotedged"
inside dpkg --purge iotedge libiotedge-dev libiotedge1 >"$work/purge.log" 2>&1 || {
    cat "$work/purge.log" >&2
    wrong "purge failed"
}
for path in /var/lib/iotedge /etc/iotedge /run/iotedge /usr/include/iotedge /usr/share/doc/iotedge; do
    [ ! -e "$root$path" ] || wrong "purge left $path"
done

if command -v lintian >/dev/null; then
    lintian --fail-on error,warning --profile debian "$work"/debs/*.deb || wrong "lintian found something"
fi
[ "$failed" = 0 ] || exit 1
echo "packages: installed, checked and purged in a fresh $release"
