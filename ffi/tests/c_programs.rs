//! The C programs of `tests/c` compile and run, with the shared library and with the static one.
#![allow(clippy::unwrap_used, clippy::expect_used)] // a test fails as its helpers do

use std::process::Command;

#[path = "support/programs.rs"]
mod programs;
#[path = "support/server.rs"]
mod server;

use programs::{here, library_dir, run};
use server::Server;

#[test]
fn the_c_programs_compile_without_a_warning_and_run() {
    let out = tempfile::tempdir().unwrap();
    for optimise in ["-O2", "-O0"] {
        run(Command::new(here().join("../tests/c/build.sh"))
            .env("OPTIMISE", optimise)
            .arg(out.path())
            .arg(library_dir()));
        run(&mut Command::new(out.path().join("offline")));
    }

    let server = Server::start(4, |number, peer| {
        peer.accept();
        // The last one is left without a goodbye.
        if number < 3 {
            peer.echo();
        }
    });
    let port = server.port.to_string();
    let certificates = server.certificates.dir();
    let sample = run(Command::new(out.path().join("subscribe_publish"))
        .args(["-h", "localhost", "-p", &port, "-x", "3", "-c"])
        .arg(certificates));
    let text = String::from_utf8(sample.stdout).unwrap();
    for line in [
        "sdkTest/sub\thello from SDK QOS0 : 0 \n",
        "sdkTest/sub\thello from SDK QOS1 : 1 \n",
        "sdkTest/sub\thello from SDK QOS0 : 2 \n",
        "Publish done\n",
    ] {
        assert!(text.contains(line), "{line:?} in {text}");
    }
    let native = run(Command::new(out.path().join("native"))
        .args(["localhost", &port])
        .arg(certificates));
    let text = String::from_utf8(native.stdout).unwrap();
    assert!(text.contains("native/topic\tqos2\n"), "{text}");
    for program in ["network", "closed_socket"] {
        run(Command::new(out.path().join(program))
            .args(["localhost", &port])
            .arg(certificates));
    }
    server.finish();
}

#[test]
fn a_program_links_with_the_static_library_by_what_pkg_config_says() {
    let out = tempfile::tempdir().unwrap();
    // No shared library beside it: the linker would take that one.
    let place = out.path().join("lib");
    std::fs::create_dir(&place).unwrap();
    let archive = library_dir().join("libiotedge.a");
    std::os::unix::fs::symlink(archive, place.join("libiotedge.a")).unwrap();
    let template = here().join("../packaging/iotedge.pc.in");
    let file = std::fs::read_to_string(template)
        .unwrap()
        .replace("@VERSION@", env!("CARGO_PKG_VERSION"))
        .replace(
            "${prefix}/include/iotedge",
            here().join("../include").to_str().unwrap(),
        )
        .replace("${prefix}/lib/@TRIPLET@", place.to_str().unwrap());
    std::fs::write(out.path().join("iotedge.pc"), file).unwrap();
    let says = run(Command::new("pkg-config")
        .args(["--static", "--cflags", "--libs", "iotedge"])
        .env("PKG_CONFIG_PATH", out.path()));
    let says = String::from_utf8(says.stdout).unwrap();
    let program = out.path().join("offline");
    run(Command::new("gcc")
        .args(["-std=gnu99", "-I"])
        .arg(here().join("../tests/c"))
        .arg(here().join("../tests/c/offline.c"))
        .arg("-o")
        .arg(&program)
        .args(says.split_whitespace()));
    run(&mut Command::new(&program));
    let needs = run(Command::new("objdump").arg("-p").arg(&program));
    assert!(
        !String::from_utf8(needs.stdout)
            .unwrap()
            .contains("libiotedge")
    );
}
