//! Where the actions of rules end.

mod http;

use std::path::Path;
use std::sync::Arc;

use iotedge_ports::Clock;
use iotedge_rules::sink::{ExecSink, FileSink, NoFunctions, Sinks, SqliteSink};

use crate::config::RulesConfig;
use http::HttpSink;

/// The sinks of one configuration.
pub fn of(rules: &RulesConfig, data_dir: &Path, clock: &Arc<dyn Clock>) -> Sinks {
    let state = data_dir.join("rules/state");
    Sinks {
        sqlite: Arc::new(SqliteSink::new(rules.sqlite_dir.clone(), clock.clone())),
        file: Arc::new(FileSink::new(rules.file_dir.clone(), state)),
        http: Arc::new(HttpSink::default()),
        exec: Arc::new(ExecSink::new(rules.exec_allow.clone())),
        lambda: Arc::new(NoFunctions),
    }
}
