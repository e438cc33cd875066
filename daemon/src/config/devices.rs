//! `[[serial]]`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use iotedge_devices::{FlowControl, Format, Framing, MAX_LINE, Parity, SerialConfig};

use super::Place;
use super::section::Section;

pub(super) fn read(root: &Section<'_>) -> Vec<SerialConfig> {
    let mut names: BTreeMap<String, Place> = BTreeMap::new();
    let mut paths: BTreeMap<PathBuf, Place> = BTreeMap::new();
    let mut ports = Vec::new();
    for section in root.tables("serial") {
        if let Some(port) = serial(&section) {
            let place = section.place().clone();
            if let Some(first) = names.insert(port.name.clone(), place.clone()) {
                let reason = format!(
                    "two ports are called {:?}; the first is at {first}",
                    port.name
                );
                section.wrong("name", reason);
            }
            if let Some(first) = paths.insert(port.path.clone(), place) {
                section.wrong("path", format!("is already read by the port at {first}"));
            }
            ports.push(port);
        }
        section.finish();
    }
    ports
}

/// What [`SerialConfig::check`] finds is said at its key.
fn serial(section: &Section<'_>) -> Option<SerialConfig> {
    for key in ["name", "path", "topic"] {
        section.need(key);
    }
    let byte = |key: &'static str, range: std::ops::RangeInclusive<u64>, default: u8| {
        let given = section.number(key, range);
        given.and_then(|n| u8::try_from(n).ok()).unwrap_or(default)
    };
    let parities = [
        ("none", Parity::None),
        ("odd", Parity::Odd),
        ("even", Parity::Even),
    ];
    let flows = [
        ("none", FlowControl::None),
        ("software", FlowControl::Software),
        ("hardware", FlowControl::Hardware),
    ];
    let formats = [
        ("text", Format::Text),
        ("json", Format::Json),
        ("csv", Format::Csv),
    ];
    // All keys are read before the first missing one ends it: one that nobody asked for would be
    // called unknown.
    let (name, path) = (section.text("name"), section.path("path"));
    let topic = section.text("topic");
    let config = SerialConfig {
        name: name.unwrap_or_default().to_owned(),
        path: path.clone().unwrap_or_default(),
        baud: section
            .number("baud", 50..=4_000_000)
            .and_then(|n| u32::try_from(n).ok())
            .unwrap_or(115_200),
        data_bits: byte("data_bits", 5..=8, 8),
        parity: section.choice("parity", &parities).unwrap_or_default(),
        stop_bits: byte("stop_bits", 1..=2, 1),
        flow_control: section.choice("flow_control", &flows).unwrap_or_default(),
        framing: section
            .choice("framing", &[("line", Framing::Line)])
            .unwrap_or_default(),
        line_delimiter: section.text("line_delimiter").unwrap_or("\n").to_owned(),
        max_line_bytes: section
            .size("max_line_bytes", 1..=MAX_LINE as u64)
            .and_then(|n| usize::try_from(n).ok())
            .unwrap_or(MAX_LINE),
        format: section.choice("format", &formats).unwrap_or_default(),
        columns: section
            .texts("columns")
            .unwrap_or_default()
            .into_iter()
            .map(str::to_owned)
            .collect(),
        csv_delimiter: section.text("csv_delimiter").map(str::to_owned),
        csv_header: section.flag("csv_header").unwrap_or(false),
        topic: topic.unwrap_or_default().to_owned(),
        qos: byte("qos", 0..=1, 1),
        retain: section.flag("retain").unwrap_or(false),
    };
    if name.is_none() || path.is_none() || topic.is_none() {
        return None;
    }
    match config.check() {
        Ok(_) => Some(config),
        Err(problems) => {
            for problem in problems {
                section.wrong(problem.key, problem.reason);
            }
            None
        }
    }
}
