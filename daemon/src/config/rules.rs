//! `[rules]`: what the actions of rules may do here.

use std::path::{Path, PathBuf};
use std::time::Duration;

use iotedge_ports::OnFull;

use super::section::Section;

/// `[rules]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RulesConfig {
    /// How long an action is tried whose sink is not there, from its message's acceptance on.
    pub retry_for: Duration,
    /// How often a message is tried that a sink fails with.
    pub max_attempts: u32,
    /// Bytes of one action's outbox.
    pub max_outbox_bytes: u64,
    /// Messages of one action's outbox.
    pub max_outbox_messages: u64,
    /// What happens at either limit.
    pub on_full: OnFull,
    /// Where `sqlite` keeps its files.
    pub sqlite_dir: PathBuf,
    /// The root of what `file` writes.
    pub file_dir: PathBuf,
    /// Programs that `exec` may run.
    pub exec_allow: Vec<PathBuf>,
}

impl RulesConfig {
    /// The defaults for a data directory.
    pub fn new(data_dir: &Path) -> Self {
        Self {
            retry_for: Duration::from_secs(24 * 3600),
            max_attempts: 5,
            max_outbox_bytes: 64 << 20,
            max_outbox_messages: 100_000,
            on_full: OnFull::DropOldest,
            sqlite_dir: data_dir.join("rules/sqlite"),
            file_dir: data_dir.join("rules/files"),
            exec_allow: Vec::new(),
        }
    }
}

/// The longest `retry_for`: ten years.
const LONGEST: Duration = Duration::from_secs(10 * 366 * 24 * 3600);

pub(super) fn read(section: &Section<'_>, data_dir: Option<&Path>) -> RulesConfig {
    // Without a data directory there is no configuration in the end.
    let mut rules = RulesConfig::new(data_dir.unwrap_or(Path::new("")));
    if let Some(time) = section.duration("retry_for", Duration::from_secs(1)..=LONGEST) {
        rules.retry_for = time;
    }
    if let Some(n) = section.number("max_attempts", 1..=1_000) {
        rules.max_attempts = u32::try_from(n).unwrap_or(u32::MAX);
    }
    if let Some(bytes) = section.size("max_outbox_bytes", 1 << 10..=1 << 50) {
        rules.max_outbox_bytes = bytes;
    }
    if let Some(n) = section.number("max_outbox_messages", 1..=1 << 40) {
        rules.max_outbox_messages = n;
    }
    let choices = [
        ("reject", OnFull::Reject),
        ("drop-oldest", OnFull::DropOldest),
        ("drop-new", OnFull::DropNew),
    ];
    if let Some(on_full) = section.choice("on_full", &choices) {
        rules.on_full = on_full;
    }
    if let Some(path) = section.path("sqlite_dir") {
        rules.sqlite_dir = path;
    }
    if let Some(path) = section.path("file_dir") {
        rules.file_dir = path;
    }
    for program in section.texts("exec_allow").unwrap_or_default() {
        let path = PathBuf::from(program);
        if !path.is_absolute() {
            section.wrong("exec_allow", format!("{program:?} is not an absolute path"));
        }
        rules.exec_allow.push(path);
    }
    rules
}
