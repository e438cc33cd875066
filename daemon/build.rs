//! Lays the functions that every gateway runs side by side in the executable.
//!
//! The kernel maps 64 KB around each page of code that is run. Where a linker leaves them, the
//! functions that an idle gateway needs are scattered over the whole of the code, and more than three
//! times as much as they are is resident. `link-order.txt` names them; here it becomes a
//! linker script. Without it the same executable comes out in another order: a linker that does not
//! know such scripts gets none. `IOTEDGE_LINK_ORDER=off` leaves the functions where they are. See
//! `docs/decisions/0004-order-of-functions.md`.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::Command;
use std::{env, fs, io};

const LIST: &str = "link-order.txt";
/// The version that a program with packed relative relocations must ask its C library for.
const RELR: &[u8] = b"GLIBC_ABI_DT_RELR";

fn main() -> io::Result<()> {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed={LIST}");
    // What decides which linker there is; `mold -run` is one of LD_PRELOAD.
    for name in ["RUSTFLAGS", "LD_PRELOAD", "IOTEDGE_LINK_ORDER"] {
        println!("cargo:rerun-if-env-changed={name}");
    }
    let optimised = !matches!(var("OPT_LEVEL").as_str(), "0" | "1");
    if !optimised || var("CARGO_CFG_TARGET_OS") != "linux" {
        return Ok(());
    }
    let linker = Linker {
        out: var("OUT_DIR").into(),
    };
    if var("IOTEDGE_LINK_ORDER") != "off" {
        let script = linker.out.join("order.ld");
        fs::write(&script, order()?)?;
        let arguments = ["-Xlinker", "-T", "-Xlinker", &script.display().to_string()];
        linker.ask(&arguments, &[], "order of functions", "3 MB");
    }
    // Half a megabyte of addresses, in a form that takes a hundredth. A C library that does not know
    // it would not start the daemon.
    if libc_knows_relr() {
        let arguments = ["-Xlinker", "-z", "-Xlinker", "pack-relative-relocs"];
        linker.ask(&arguments, RELR, "packed relocations", "0.4 MB");
    }
    Ok(())
}

/// Set by cargo.
fn var(name: &str) -> String {
    env::var(name).unwrap_or_default()
}

/// The linker script. A section is put where the first pattern is that it matches.
fn order() -> io::Result<String> {
    let mut script = String::from("SECTIONS\n{\n  .text.used :\n  {\n");
    let list = fs::read_to_string(LIST)?;
    for name in list.lines().filter(|line| !line.starts_with('#')) {
        // A cold function has a section of the second kind.
        let _ = writeln!(script, "    *(.text.{name} .text.unlikely.{name})");
    }
    script.push_str("  }\n}\nINSERT BEFORE .text;\n");
    Ok(script)
}

/// Whether the C library that is linked with loads packed relative relocations: glibc from 2.36 on
/// has this version among its own.
fn libc_knows_relr() -> bool {
    let linker = match var("RUSTC_LINKER") {
        none if none.is_empty() => "cc".to_owned(),
        linker => linker,
    };
    let asked = Command::new(linker)
        .arg("-print-file-name=libc.so.6")
        .output();
    let Ok(asked) = asked else { return false };
    let path = String::from_utf8_lossy(&asked.stdout);
    let libc = fs::read(path.trim()).unwrap_or_default();
    holds(&libc, RELR)
}

fn holds(file: &[u8], text: &[u8]) -> bool {
    text.is_empty() || file.windows(text.len()).any(|bytes| bytes == text)
}

struct Linker {
    /// Where things may be put.
    out: PathBuf,
}

impl Linker {
    /// Has the daemon linked with `arguments`, if the linker takes them and does what they say: what
    /// it makes must hold `mark`. (mold 1.10 leaves that of packed relocations out, and nothing that
    /// it links with them starts.)
    fn ask(&self, arguments: &[&str], mark: &[u8], what: &str, costs: &str) {
        match self.probe(arguments, mark) {
            Ok(()) => {
                for argument in arguments {
                    println!("cargo:rustc-link-arg-bin=iotedged={argument}");
                }
            }
            Err(why) => println!(
                "cargo:warning=the linker takes no {what}; iotedged needs {costs} more memory: {why}"
            ),
        }
    }

    /// Links a program of one line as the daemon will be linked.
    fn probe(&self, arguments: &[&str], mark: &[u8]) -> Result<(), String> {
        let source = self.out.join("probe.rs");
        fs::write(&source, "fn main() {}\n").map_err(|error| error.to_string())?;
        let mut rustc = Command::new(var("RUSTC"));
        rustc.args(["--crate-type=bin", "--edition=2024", "--target"]);
        rustc.arg(var("TARGET"));
        let linker = var("RUSTC_LINKER");
        if !linker.is_empty() {
            rustc.arg(format!("-Clinker={linker}"));
        }
        let flags = var("CARGO_ENCODED_RUSTFLAGS");
        rustc.args(flags.split('\x1f').filter(|flag| !flag.is_empty()));
        for argument in arguments {
            rustc.arg(format!("-Clink-arg={argument}"));
        }
        let probe = self.out.join("probe");
        rustc.arg("-o").arg(&probe).arg(&source);
        let done = rustc.output().map_err(|error| error.to_string())?;
        if done.status.success() {
            let made = fs::read(&probe).map_err(|error| error.to_string())?;
            let whole = holds(&made, mark);
            return whole
                .then_some(())
                .ok_or_else(|| "what it makes would not start".into());
        }
        let said = String::from_utf8_lossy(&done.stderr).into_owned();
        let line = said.lines().find(|line| line.contains("error:"));
        Err(line.unwrap_or("it fails").trim().to_owned())
    }
}
