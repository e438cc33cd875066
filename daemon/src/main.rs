//! `iotedged`, and `iotedgectl`: the same executable by its name.
#![forbid(unsafe_code)]

mod admin;
mod authenticate;
mod authority;
mod clock;
mod config;
mod control;
mod ctl;
mod dev;
mod documents;
mod house;
mod options;
mod registration;
mod run;
mod sinks;

use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    let args: Vec<std::ffi::OsString> = std::env::args_os().collect();
    let name = args
        .first()
        .map(Path::new)
        .and_then(Path::file_stem)
        .unwrap_or_default();
    if name == "iotedgectl" {
        return ctl::main(args);
    }
    run::main(args)
}
