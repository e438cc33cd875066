//! `[[serial]]`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use iotedge_model::{QoS, Topic};

use super::Place;
use super::section::Section;
use super::upstream::plain_name;

/// `[[serial]]`: a port whose lines become messages.
#[derive(Debug, Clone, PartialEq)]
pub struct SerialConfig {
    /// Its name, in the log and as the source of its messages.
    pub name: String,
    /// The device; need not be there yet.
    pub path: PathBuf,
    /// Bits per second.
    pub baud: u32,
    /// What a line becomes.
    pub format: SerialFormat,
    /// Where its messages go; `${name}` stands for the port's name.
    pub topic: String,
    /// QoS of the messages.
    pub qos: QoS,
    /// Bytes of a line; a longer one is dropped and counted.
    pub max_line_bytes: usize,
}

/// What becomes of a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SerialFormat {
    /// The payload is the line.
    Text,
    /// The line must be JSON, and is the payload.
    Json,
    /// The line's fields become an object with these names.
    Csv {
        /// Names, in order.
        columns: Vec<String>,
    },
}

#[derive(Clone, Copy, PartialEq)]
enum Word {
    Text,
    Json,
    Csv,
}

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

fn serial(section: &Section<'_>) -> Option<SerialConfig> {
    for key in ["name", "path", "topic"] {
        section.need(key);
    }
    let name = section.parsed("name", plain_name);
    let path = section.path("path");
    let baud = match section.has("baud") {
        true => section
            .number("baud", 50..=4_000_000)
            .and_then(|n| u32::try_from(n).ok()),
        false => Some(115_200),
    };
    let format = format(section);
    let topic = section.parsed("topic", |text| {
        let example = text.replace("${name}", "x");
        if example.contains("${") {
            return Err("only ${name} can stand in it".to_owned());
        }
        Topic::check(&example)
            .map(|()| text.to_owned())
            .map_err(|e| e.to_string())
    });
    let qos = match section.number("qos", 0..=1) {
        Some(0) => QoS::AtMostOnce,
        _ => QoS::AtLeastOnce,
    };
    let max_line = section.size("max_line_bytes", 1..=1 << 20);
    Some(SerialConfig {
        name: name?,
        path: path?,
        baud: baud?,
        format: format?,
        topic: topic?,
        qos,
        max_line_bytes: max_line
            .and_then(|n| usize::try_from(n).ok())
            .unwrap_or(64 << 10),
    })
}

fn format(section: &Section<'_>) -> Option<SerialFormat> {
    let words = [
        ("text", Word::Text),
        ("json", Word::Json),
        ("csv", Word::Csv),
    ];
    let word = match section.has("format") {
        true => section.choice("format", &words)?,
        false => Word::Text,
    };
    let columns = section.texts("columns");
    if word != Word::Csv {
        if section.has("columns") {
            section.wrong("columns", "is only for format = \"csv\"");
        }
        return Some(match word {
            Word::Json => SerialFormat::Json,
            _ => SerialFormat::Text,
        });
    }
    section.need("columns");
    let columns = columns?;
    let mut seen = BTreeSet::new();
    if columns.is_empty() || columns.iter().any(|c| c.is_empty() || !seen.insert(*c)) {
        section.wrong("columns", "must be one or more names, each of its own");
        return None;
    }
    Some(SerialFormat::Csv {
        columns: columns.into_iter().map(str::to_owned).collect(),
    })
}
