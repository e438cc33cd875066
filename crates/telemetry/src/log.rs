//! Log records to stderr, as text or JSON.

use std::fmt;
use std::io::Write;

use serde::Deserialize;
use tracing_subscriber::filter::EnvFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

/// How records look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For eyes.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// Why the log could not be set up.
#[derive(Debug)]
pub enum LogError {
    /// `IOTEDGE_LOG` or the configured level is no filter.
    Filter(String),
    /// It was set up before.
    AlreadySet,
}

impl fmt::Display for LogError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Filter(reason) => write!(f, "not a log level or filter: {reason}"),
            Self::AlreadySet => f.write_str("the log is already set up"),
        }
    }
}

impl std::error::Error for LogError {}

/// Whether `text` is a level or filter that [`init`] takes.
///
/// # Errors
/// [`LogError::Filter`] with the reason.
pub fn check(text: &str) -> Result<(), LogError> {
    filter(text).map(|_| ())
}

fn filter(text: &str) -> Result<EnvFilter, LogError> {
    EnvFilter::try_new(text).map_err(|e| LogError::Filter(format!("{text:?}: {e}")))
}

/// Stderr, a record a line: what a client puts into its names must not look like a record of ours.
struct OneLine;

impl Write for OneLine {
    fn write(&mut self, record: &[u8]) -> std::io::Result<usize> {
        let body = record.strip_suffix(b"\n").unwrap_or(record);
        if !body.iter().any(u8::is_ascii_control) {
            return std::io::stderr().write_all(record).map(|()| record.len());
        }
        let mut escaped = Vec::with_capacity(record.len() + 16);
        for byte in body {
            if byte.is_ascii_control() {
                escaped.extend(byte.escape_ascii());
            } else {
                escaped.push(*byte);
            }
        }
        escaped.extend(record.get(body.len()..).unwrap_or_default());
        std::io::stderr().write_all(&escaped).map(|()| record.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        std::io::stderr().flush()
    }
}

/// Sends records of `level` and above (a level or a filter such as `info,iotedge_bridge=debug`) to
/// stderr. The environment's `IOTEDGE_LOG` goes before `level`.
pub fn init(format: LogFormat, level: &str) -> Result<(), LogError> {
    let text = std::env::var("IOTEDGE_LOG").unwrap_or_else(|_| level.to_owned());
    let filter = filter(&text)?;
    let registry = tracing_subscriber::registry().with(filter);
    let outcome = match format {
        LogFormat::Text => registry
            .with(
                tracing_subscriber::fmt::layer()
                    .with_writer(|| OneLine)
                    .with_ansi(false),
            )
            .try_init(),
        LogFormat::Json => registry
            .with(
                tracing_subscriber::fmt::layer()
                    .json()
                    .flatten_event(true)
                    .with_current_span(false)
                    .with_span_list(false)
                    .with_writer(std::io::stderr),
            )
            .try_init(),
    };
    outcome.map_err(|_| LogError::AlreadySet)
}
