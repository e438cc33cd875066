//! Prometheus text with any number of labels.

use std::fmt::Write as _;

/// The lines of one metric.
pub(super) struct Lines {
    pub(super) text: String,
}

impl Lines {
    pub(super) fn new(name: &str, kind: &str, help: &str) -> Self {
        Self {
            text: format!("# HELP iotedge_{name} {help}\n# TYPE iotedge_{name} {kind}\n"),
        }
    }

    /// A series; `name` is that of the metric, or with a suffix for a part of it.
    pub(super) fn line(
        &mut self,
        name: &str,
        labels: &[(&str, &str)],
        value: impl std::fmt::Display,
    ) {
        let labels: Vec<String> = labels
            .iter()
            .map(|(label, text)| {
                let text = text.replace('\\', "\\\\").replace('"', "\\\"");
                let text = text.replace('\n', "\\n");
                format!("{label}=\"{text}\"")
            })
            .collect();
        // Writing to a String cannot fail.
        let _ = writeln!(self.text, "iotedge_{name}{{{}}} {value}", labels.join(","));
    }
}
