//! What the shadow functions without a client ask for: one for the whole process, as in the SDK.

use std::sync::{Mutex, MutexGuard, PoisonError};

struct Process {
    client_id: String,
    /// The number of the next client token.
    next_token: u32,
    /// The highest version that was received.
    version: u32,
    /// Whether a delta that is not newer than the last one is told all the same.
    tells_old_deltas: bool,
}

static PROCESS: Mutex<Process> = Mutex::new(Process {
    client_id: String::new(),
    next_token: 0,
    version: 0,
    tells_old_deltas: false,
});

fn process() -> MutexGuard<'static, Process> {
    PROCESS.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(super) fn reset() {
    let mut process = process();
    process.next_token = 0;
    process.version = 0;
    process.tells_old_deltas = false;
}

pub(super) fn set_client_id(id: &str) {
    process().client_id = id.to_owned();
}

/// A client token that was not there before.
pub(in super::super) fn new_token() -> String {
    let mut process = process();
    let number = process.next_token;
    process.next_token = number.wrapping_add(1);
    format!("{}-{number}", process.client_id)
}

/// A version was received in answer to a get.
pub(super) fn received(version: u32) {
    let mut process = process();
    process.version = process.version.max(version);
}

/// A delta of this version was received; whether it is to be told.
pub(super) fn received_delta(version: u32) -> bool {
    let mut process = process();
    let tell = process.tells_old_deltas || version > process.version;
    process.version = process.version.max(version);
    tell
}

/// Takes the next delta whatever its version is.
#[unsafe(no_mangle)]
pub extern "C" fn aws_iot_shadow_reset_last_received_version() {
    boundary!((), process().version = 0);
}

/// The highest version of the own shadow that a delta or the answer to a get had.
#[unsafe(no_mangle)]
pub extern "C" fn aws_iot_shadow_get_last_received_version() -> u32 {
    boundary!(0, process().version)
}

/// Drops deltas that are not newer than the last one: so it is at first.
#[unsafe(no_mangle)]
pub extern "C" fn aws_iot_shadow_enable_discard_old_delta_msgs() {
    boundary!((), process().tells_old_deltas = false);
}

/// Tells all deltas, old ones too.
#[unsafe(no_mangle)]
pub extern "C" fn aws_iot_shadow_disable_discard_old_delta_msgs() {
    boundary!((), process().tells_old_deltas = true);
}
