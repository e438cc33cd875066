//! The C programs of `tests/c` compile and run; the library exports what is promised and no more.
#![allow(clippy::unwrap_used, clippy::expect_used)] // a test fails as its helpers do

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

#[path = "support/server.rs"]
mod server;

use server::Server;

/// Where cargo has put the shared library of this build: beside the tests.
fn library_dir() -> PathBuf {
    std::env::current_exe()
        .unwrap()
        .parent()
        .unwrap()
        .to_owned()
}

fn here() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn run(command: &mut Command) -> Output {
    let output = command.output().expect("the program runs");
    assert!(
        output.status.success(),
        "{command:?}: {}\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    output
}

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
fn the_library_exports_what_is_promised_and_no_more() {
    let library = library_dir().join("libiotedge.so");
    let symbols = run(Command::new("nm")
        .args(["-D", "--defined-only"])
        .arg(&library));
    let mut names: Vec<String> = String::from_utf8(symbols.stdout)
        .unwrap()
        .lines()
        .filter_map(|line| line.split_whitespace().nth(2).map(str::to_owned))
        .collect();
    names.sort();
    let promised = std::fs::read_to_string(here().join("exports.txt")).expect("exports.txt");
    let promised: Vec<&str> = promised.lines().collect();
    assert_eq!(names, promised, "ffi/exports.txt");
    let header = run(Command::new("objdump").arg("-p").arg(&library));
    let header = String::from_utf8(header.stdout).unwrap();
    assert!(header.contains("SONAME               libiotedge.so.1"));
}
