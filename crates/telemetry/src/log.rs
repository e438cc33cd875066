//! Log records to stderr, as text or JSON.

use std::fmt;

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

/// Sends records of `level` and above (a level or a filter such as `info,iotedge_bridge=debug`) to
/// stderr. The environment's `IOTEDGE_LOG` goes before `level`.
pub fn init(format: LogFormat, level: &str) -> Result<(), LogError> {
    let text = std::env::var("IOTEDGE_LOG").unwrap_or_else(|_| level.to_owned());
    let filter =
        EnvFilter::try_new(&text).map_err(|e| LogError::Filter(format!("{text:?}: {e}")))?;
    let registry = tracing_subscriber::registry().with(filter);
    let outcome = match format {
        LogFormat::Text => registry
            .with(
                tracing_subscriber::fmt::layer()
                    .with_writer(std::io::stderr)
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
