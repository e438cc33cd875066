//! Names the shared library as its users will look for it, and gives its symbols their versions.

use std::path::Path;
use std::process::Command;

fn main() {
    for file in ["build.rs", "libiotedge.map", "link-versioned"] {
        println!("cargo:rerun-if-changed={file}");
    }
    println!("cargo:rerun-if-env-changed=RUSTC_LINKER");
    println!("cargo:rustc-cdylib-link-arg=-Wl,-soname,libiotedge.so.1");
    let linker = std::env::var("RUSTC_LINKER").unwrap_or_else(|_| "cc".to_owned());
    if is_gcc(&linker) {
        let here = std::env::var("CARGO_MANIFEST_DIR").unwrap_or_default();
        let here = Path::new(&here);
        let (script, map) = (here.join("link-versioned"), here.join("libiotedge.map"));
        println!("cargo:rustc-cdylib-link-arg=-wrapper");
        println!(
            "cargo:rustc-cdylib-link-arg=sh,{},{}",
            script.display(),
            map.display()
        );
    } else {
        println!("cargo:warning={linker} is not gcc: libiotedge.so has symbols without versions");
    }
}

/// Only gcc can be told to run the linker through a script.
fn is_gcc(linker: &str) -> bool {
    Command::new(linker).arg("-v").output().is_ok_and(|output| {
        let text = String::from_utf8_lossy(&output.stderr);
        text.lines().any(|line| line.starts_with("gcc version"))
    })
}
