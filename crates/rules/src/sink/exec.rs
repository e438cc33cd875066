//! Programs: an argument list, the payload on standard input, no shell.

use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use bytes::Bytes;
use iotedge_ports::BoxFuture;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::Command;

use super::{Item, Progress, Sink, SinkError};
use crate::work::{ExecTask, Task};

/// What of a program's standard error is told.
const TOLD: usize = 1_000;
/// How long standard error may stay open when the program has ended.
const LAST_WORDS: Duration = Duration::from_millis(200);
/// `EX_TEMPFAIL` of sysexits.h: try again later.
const TEMPORARY: i32 = 75;

/// Runs programs that the configuration allows.
pub struct ExecSink {
    allow: Vec<PathBuf>,
}

impl ExecSink {
    /// `allow`: the programs, by their absolute paths.
    pub fn new(allow: Vec<PathBuf>) -> Self {
        Self { allow }
    }

    async fn one(&self, item: &Item) -> Result<(), SinkError> {
        let Task::Exec(task) = &item.task else {
            return Err(SinkError::Refused("this is no exec action".into()));
        };
        // The rule was checked when it was loaded; the configuration may have changed since then.
        if !self.allow.contains(&task.program) {
            let program = task.program.display();
            return Err(SinkError::Refused(format!(
                "{program} is not in rules.exec_allow"
            )));
        }
        let mut child = command(task, item)
            .spawn()
            .map_err(|e| SinkError::Unavailable(format!("cannot be started: {e}")))?;
        let input = child.stdin.take();
        let errors = child.stderr.take();
        let timeout = Duration::from_millis(task.timeout_ms);
        let body = item.body.clone();
        let feeding = tokio::spawn(feed(input, body));
        let listening = tokio::spawn(listen(errors));
        let Ok(status) = tokio::time::timeout(timeout, child.wait()).await else {
            // Dropping the child kills it, and tokio reaps it.
            return Err(SinkError::Failed(format!(
                "killed: it took longer than {} ms",
                task.timeout_ms
            )));
        };
        feeding.abort();
        // What it has started itself may hold standard error open for longer than it lives.
        let told = tokio::time::timeout(LAST_WORDS, listening).await;
        let told = told.ok().and_then(Result::ok).unwrap_or_default();
        let status = status.map_err(|e| SinkError::Unavailable(e.to_string()))?;
        judge(status, told.trim())
    }
}

fn command(task: &ExecTask, item: &Item) -> Command {
    let mut command = Command::new(&task.program);
    command
        .args(&task.arguments)
        // Nothing of the daemon's surroundings but what finds programs.
        .env_clear()
        .env("PATH", "/usr/local/bin:/usr/bin:/bin")
        .env("IOTEDGE_RULE", &*item.rule)
        .env("IOTEDGE_TOPIC", &*item.topic)
        .env("IOTEDGE_TRACE_ID", item.trace.to_string())
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    command
}

/// A program need not read its input.
async fn feed(input: Option<tokio::process::ChildStdin>, body: Bytes) {
    if let Some(mut input) = input {
        if let Err(error) = input.write_all(&body).await {
            tracing::debug!(%error, "a program did not read all of its input");
        }
    }
}

/// The beginning of its standard error. All of it is read, so that the program never waits.
async fn listen(errors: Option<tokio::process::ChildStderr>) -> String {
    let Some(mut errors) = errors else {
        return String::new();
    };
    let mut told = Vec::new();
    let mut chunk = [0; 1_024];
    while let Ok(n @ 1..) = errors.read(&mut chunk).await {
        let room = TOLD.saturating_sub(told.len());
        told.extend(chunk.iter().take(n.min(room)));
    }
    String::from_utf8_lossy(&told).into_owned()
}

fn judge(status: ExitStatus, told: &str) -> Result<(), SinkError> {
    let said = if told.is_empty() {
        String::new()
    } else {
        format!(": {told}")
    };
    match status.code() {
        Some(0) => Ok(()),
        Some(TEMPORARY) => Err(SinkError::Unavailable(format!(
            "it asks to be tried again later (exit code {TEMPORARY}){said}"
        ))),
        Some(code) => Err(SinkError::Failed(format!("exit code {code}{said}"))),
        None => Err(SinkError::Failed(format!("{status}{said}"))),
    }
}

impl Sink for ExecSink {
    fn run<'a>(&'a self, _outbox: &'a str, items: &'a [Item]) -> BoxFuture<'a, Progress> {
        Box::pin(async move {
            // One at a time: how far a batch came is known to the item.
            match items.first() {
                None => Progress::all(items),
                Some(item) => match self.one(item).await {
                    Ok(()) => Progress {
                        done: 1,
                        error: None,
                    },
                    Err(error) => Progress::until(0, error),
                },
            }
        })
    }
}
