//! The committed `include/iotedge.h` is what cbindgen makes of the source.
#![allow(clippy::unwrap_used, clippy::expect_used)] // a test fails as its helpers do

use std::path::Path;

#[test]
fn the_committed_header_is_that_of_the_source() {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let config = cbindgen::Config::from_file(here.join("cbindgen.toml")).expect("cbindgen.toml");
    let mut made = Vec::new();
    cbindgen::Builder::new()
        .with_config(config)
        .with_src(here.join("src/native/options.rs"))
        .with_src(here.join("src/native.rs"))
        .with_src(here.join("src/native/publish.rs"))
        .with_src(here.join("src/native/shadow.rs"))
        .with_src(here.join("src/native/shadow/members.rs"))
        .with_src(here.join("src/native/log.rs"))
        .generate()
        .expect("cbindgen reads the source")
        .write(&mut made);
    let made = without_safety(&String::from_utf8(made).unwrap());
    let path = here.join("../include/iotedge.h");
    if std::env::var_os("IOTEDGE_WRITE_HEADER").is_some() {
        std::fs::write(&path, &made).expect("the header can be written");
    }
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        committed == made,
        "include/iotedge.h is old: IOTEDGE_WRITE_HEADER=1 cargo test -p iotedge-ffi --test header"
    );
}

/// Rust's sections on safety say what C programmers take for granted.
fn without_safety(header: &str) -> String {
    let mut out = String::new();
    let mut skipping = false;
    for line in header.lines() {
        if line == "// # Safety" {
            skipping = true;
            // The empty comment before it goes too.
            out.truncate(out.trim_end_matches("//\n").len());
        }
        skipping &= line.starts_with("//");
        if !skipping {
            out.push_str(line);
            out.push('\n');
        }
    }
    out
}
