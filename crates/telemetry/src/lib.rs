//! What the daemon says of itself: metric names, event names, log setup.
#![forbid(unsafe_code)]

mod denial;
pub mod event;
mod log;
mod metrics;

pub use denial::log_http_denial;
pub use log::{LogError, LogFormat, check as check_log_level, init};
pub use metrics::{Gauge, METRICS, Metric, Metrics, Traffic};
