//! `iotedgectl password`: the hash of a password for `[[user]]`.

use std::io::{BufRead as _, Write};

use iotedge_identity::PasswordHash;
use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};
use serde_json::json;

use super::CtlError;

/// Longest password, in bytes: what CONNECT can carry.
const MAX_PASSWORD: usize = 65_535;

/// Reads one line, without showing it on a terminal, and prints its hash.
pub(super) fn run(as_json: bool, out: &mut dyn Write) -> Result<(), CtlError> {
    let password = read()?;
    let hash = PasswordHash::of(&password).map_err(|e| CtlError::Failed(e.to_string()))?;
    match as_json {
        true => writeln!(out, "{}", json!({ "password": hash.as_str() }))?,
        false => writeln!(out, "{}", hash.as_str())?,
    }
    Ok(())
}

fn read() -> Result<Vec<u8>, CtlError> {
    let failed = |e: &dyn std::fmt::Display| CtlError::Failed(format!("standard input: {e}"));
    let stdin = std::io::stdin();
    let terminal = tcgetattr(&stdin).ok();
    if let Some(shown) = &terminal {
        eprint!("Password: ");
        let mut hidden = shown.clone();
        hidden.local_modes.remove(LocalModes::ECHO);
        tcsetattr(&stdin, OptionalActions::Flush, &hidden).map_err(|e| failed(&e))?;
    }
    let mut line = Vec::new();
    let outcome = stdin.lock().read_until(b'\n', &mut line);
    if let Some(shown) = &terminal {
        eprintln!();
        tcsetattr(&stdin, OptionalActions::Flush, shown).map_err(|e| failed(&e))?;
    }
    outcome.map_err(|e| failed(&e))?;
    if line.last() == Some(&b'\n') {
        line.pop();
    }
    if line.last() == Some(&b'\r') {
        line.pop();
    }
    match line.len() {
        0 => Err(CtlError::Failed(
            "there is no password on standard input".into(),
        )),
        n if n > MAX_PASSWORD => Err(failed(&format!("more than {MAX_PASSWORD} bytes"))),
        _ => Ok(line),
    }
}
