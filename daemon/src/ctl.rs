//! `iotedgectl`: the command line of a running daemon, and a few commands that need none.
//!
//! The same executable as the daemon, by its name. It talks to the daemon over the control socket
//! ([`protocol`]); exit codes: 0 done, 1 refused or failed, 2 wrong usage.

use std::ffi::OsString;
use std::io::{self, Write as _};
use std::process::ExitCode;

use clap::Parser as _;

mod args;
mod authorities;
mod certificates;
mod client;
mod offline;
mod password;
pub mod protocol;
mod run;
mod show;
#[cfg(test)]
mod tests;
mod text;

use args::Arguments;

/// Why a command was not done; printed, exit 1.
#[derive(Debug, thiserror::Error)]
enum CtlError {
    /// No daemon answers.
    #[error("{0}")]
    NoDaemon(String),
    /// The daemon said no.
    #[error("{message} ({reason})")]
    Refused {
        /// One word.
        reason: String,
        /// For people.
        message: String,
    },
    /// What the daemon said makes no sense.
    #[error("the daemon's answer cannot be read: {0}")]
    Answer(String),
    /// A file of the caller's.
    #[error("{path}: {reason}")]
    File {
        /// Which.
        path: String,
        /// Why not.
        reason: String,
    },
    /// The command itself came to "no", which is already printed.
    #[error("")]
    No,
    /// Anything else.
    #[error("{0}")]
    Failed(String),
    /// Standard output.
    #[error("standard output: {0}")]
    Output(#[from] io::Error),
}

impl CtlError {
    fn file(path: &std::path::Path, reason: impl std::fmt::Display) -> Self {
        Self::File {
            path: path.display().to_string(),
            reason: reason.to_string(),
        }
    }
}

/// Runs `iotedgectl` with these arguments, the program's name first.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let arguments = match Arguments::try_parse_from(arguments) {
        Ok(arguments) => arguments,
        Err(error) => {
            // Help and version go to stdout with 0, wrong usage to stderr with 2.
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    let mut out = io::stdout().lock();
    let outcome = run::run(&arguments, &mut out).and_then(|()| Ok(out.flush()?));
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        // `iotedgectl subscribe ... | head -1`: whoever reads has what they wanted.
        Err(CtlError::Output(e)) if e.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(CtlError::No) => {
            let _ = out.flush();
            ExitCode::FAILURE
        }
        Err(error) => {
            let _ = out.flush();
            eprintln!("iotedgectl: {error}");
            ExitCode::FAILURE
        }
    }
}
