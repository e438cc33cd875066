SUMMARY = "AWS IoT at the edge in one daemon"
SUMMARY:libiotedge = "AWS IoT at the edge: MQTT client library"
DESCRIPTION = "Device gateway, MQTT broker, policies, device shadows, topic rules and a bridge \
that carries what matters to an MQTT broker upstream. libiotedge is its C client library."
HOMEPAGE = "https://github.com/iotedge/iotedge"
BUGTRACKER = "https://github.com/iotedge/iotedge/issues"
SECTION = "net"
LICENSE = "Apache-2.0"
LIC_FILES_CHKSUM = "file://LICENSE;md5=3b83ef96387f14655fc854ddc3c6bd57"

SRC_URI = "git://github.com/iotedge/iotedge.git;protocol=https;branch=main;destsuffix=${BP}"
SRCREV = "99c0bb615a59d030ee37620dad0e4bcaeefa0b83"

# Written by yocto/update-crates.sh
require ${BPN}-crates.inc

inherit cargo pkgconfig systemd useradd

# As .cargo/config.toml has it, which is found only where cargo runs in the source tree.
export LIBSQLITE3_FLAGS = "-DSQLITE_DEFAULT_MEMSTATUS=0"
RUSTFLAGS:append = " -Csymbol-mangling-version=v0"

CARGO_BUILD_FLAGS += "--package iotedge --package iotedge-ffi"

SYSTEMD_SERVICE:${PN} = "iotedged.service"

USERADD_PACKAGES = "${PN}"
GROUPADD_PARAM:${PN} = "--system gpio"
USERADD_PARAM:${PN} = "--system --user-group --groups dialout,gpio --no-create-home \
    --home-dir ${localstatedir}/lib/iotedge --shell ${base_sbindir}/nologin iotedge"

IOTEDGE_BUILT = "${B}/target/${CARGO_TARGET_SUBDIR}"

do_install() {
    install -D -m 0755 ${IOTEDGE_BUILT}/iotedged ${D}${bindir}/iotedged
    ln -s iotedged ${D}${bindir}/iotedgectl

    install -D -m 0755 ${IOTEDGE_BUILT}/libiotedge.so ${D}${libdir}/libiotedge.so.1
    ln -s libiotedge.so.1 ${D}${libdir}/libiotedge.so
    install -D -m 0644 ${IOTEDGE_BUILT}/libiotedge.a ${D}${libdir}/libiotedge.a
    install -d ${D}${includedir}/iotedge ${D}${libdir}/pkgconfig
    cp -R --no-dereference --preserve=mode,links ${S}/include/. ${D}${includedir}/iotedge/
    sed -e 's,@VERSION@,${PV},' -e 's,^libdir=.*,libdir=${libdir},' \
        -e 's,^includedir=.*,includedir=${includedir}/iotedge,' \
        ${S}/packaging/iotedge.pc.in > ${D}${libdir}/pkgconfig/iotedge.pc

    install -d -m 0750 -o root -g iotedge ${D}${sysconfdir}/iotedge
    install -d ${D}${sysconfdir}/iotedge/conf.d ${D}${sysconfdir}/iotedge/rules.d \
        ${D}${sysconfdir}/iotedge/policies.d
    install -m 0644 ${S}/packaging/etc/iotedge.toml ${D}${sysconfdir}/iotedge/iotedge.toml

    install -D -m 0644 ${S}/systemd/iotedged.service \
        ${D}${systemd_system_unitdir}/iotedged.service
    install -D -m 0644 ${S}/systemd/iotedge.tmpfiles ${D}${nonarch_libdir}/tmpfiles.d/iotedge.conf
    install -D -m 0644 ${S}/packaging/60-iotedge.rules \
        ${D}${nonarch_base_libdir}/udev/rules.d/60-iotedge.rules
}

PACKAGES =+ "libiotedge libiotedge-dev libiotedge-staticdev"

FILES:libiotedge = "${libdir}/libiotedge.so.1"
FILES:libiotedge-dev = "${includedir}/iotedge ${libdir}/libiotedge.so ${libdir}/pkgconfig"
FILES:libiotedge-staticdev = "${libdir}/libiotedge.a"
FILES:${PN} += "${systemd_system_unitdir} ${nonarch_libdir}/tmpfiles.d \
    ${nonarch_base_libdir}/udev/rules.d"
RDEPENDS:libiotedge-dev = "libiotedge (= ${EXTENDPKGV})"
CONFFILES:${PN} = "${sysconfdir}/iotedge/iotedge.toml"
