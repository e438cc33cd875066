//! Metric names, event names, drop reasons, log setup
#![forbid(unsafe_code)]
