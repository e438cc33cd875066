//! `[[serial]]` of the configuration.

use std::path::PathBuf;
use std::sync::Arc;

use iotedge_model::{QoS, Topic};
use serde::Deserialize;
use thiserror::Error;

use crate::decoder::{Decoder, Format};
use crate::framer::Framer;

/// Longest line that can be allowed, in bytes: it must fit the read buffer with its delimiter.
pub const MAX_LINE: usize = 4000;

/// Parity bit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Parity {
    /// None.
    #[default]
    None,
    /// Odd.
    Odd,
    /// Even.
    Even,
}

/// Who says when to send.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FlowControl {
    /// Nobody.
    #[default]
    None,
    /// XON/XOFF.
    Software,
    /// RTS/CTS.
    Hardware,
}

/// How the stream is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Framing {
    /// At a delimiter.
    #[default]
    Line,
}

/// One `[[serial]]` as written.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SerialConfig {
    /// Its name in status, logs and `${name}`: 1 to 64 of `a-z A-Z 0-9 _ -`.
    pub name: String,
    /// The device file; a link under `/dev/serial/by-id` stays the same when plugged elsewhere.
    pub path: PathBuf,
    /// Bits per second.
    #[serde(default = "default_baud")]
    pub baud: u32,
    /// 5 to 8.
    #[serde(default = "default_data_bits")]
    pub data_bits: u8,
    /// `none`, `odd` or `even`.
    #[serde(default)]
    pub parity: Parity,
    /// 1 or 2.
    #[serde(default = "default_stop_bits")]
    pub stop_bits: u8,
    /// `none`, `software` or `hardware`.
    #[serde(default)]
    pub flow_control: FlowControl,
    /// `line`.
    #[serde(default)]
    pub framing: Framing,
    /// What ends a line; with `"\n"` a `\r` before it is taken off too.
    #[serde(default = "default_line_delimiter")]
    pub line_delimiter: String,
    /// Longer lines are dropped and counted; at most [`MAX_LINE`].
    #[serde(default = "default_max_line_bytes")]
    pub max_line_bytes: usize,
    /// `text`, `json` or `csv`.
    #[serde(default)]
    pub format: Format,
    /// For `csv`: the names of the columns in order.
    #[serde(default)]
    pub columns: Vec<String>,
    /// For `csv`: what stands between columns, one character; `,` if absent.
    #[serde(default)]
    pub csv_delimiter: Option<String>,
    /// For `csv`: skip lines that repeat the names of the columns.
    #[serde(default)]
    pub csv_header: bool,
    /// The topic; `${name}` stands for the device's name, `$$` for `$`.
    pub topic: String,
    /// 0 or 1. With 1 a line counts as accepted when it is committed.
    #[serde(default = "default_qos")]
    pub qos: u8,
    /// Keep the last line as the topic's retained message.
    #[serde(default)]
    pub retain: bool,
}

fn default_baud() -> u32 {
    9600
}
fn default_data_bits() -> u8 {
    8
}
fn default_stop_bits() -> u8 {
    1
}
fn default_line_delimiter() -> String {
    "\n".into()
}
fn default_max_line_bytes() -> usize {
    1024
}
fn default_qos() -> u8 {
    1
}

/// What is wrong with a `[[serial]]`.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{key}: {reason}")]
pub struct ConfigProblem {
    /// The key.
    pub key: &'static str,
    /// Why, as a sentence.
    pub reason: String,
}

/// A checked `[[serial]]`, ready to open.
#[derive(Debug, Clone)]
pub struct SerialDevice {
    pub(crate) name: Arc<str>,
    pub(crate) path: String,
    pub(crate) baud: u32,
    pub(crate) data_bits: tokio_serial::DataBits,
    pub(crate) parity: tokio_serial::Parity,
    pub(crate) stop_bits: tokio_serial::StopBits,
    pub(crate) flow_control: tokio_serial::FlowControl,
    pub(crate) framer: Framer,
    pub(crate) decoder: Decoder,
    pub(crate) topic: Topic,
    pub(crate) qos: QoS,
    pub(crate) retain: bool,
}

impl SerialDevice {
    /// Its name.
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// The topic it publishes on.
    pub fn topic(&self) -> &Topic {
        &self.topic
    }
}

/// Gathers problems, so that all are reported at once.
#[derive(Default)]
struct Checks(Vec<ConfigProblem>);

impl Checks {
    fn require(&mut self, holds: bool, key: &'static str, reason: &str) {
        if !holds {
            self.0.push(ConfigProblem {
                key,
                reason: reason.to_owned(),
            });
        }
    }

    fn fail<T>(&mut self, key: &'static str, reason: impl Into<String>) -> Option<T> {
        self.0.push(ConfigProblem {
            key,
            reason: reason.into(),
        });
        None
    }
}

impl SerialConfig {
    /// Checks everything; each problem names its key.
    pub fn check(&self) -> Result<SerialDevice, Vec<ConfigProblem>> {
        let mut checks = Checks::default();
        let c = &mut checks;
        let character = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'-';
        c.require(
            (1..=64).contains(&self.name.len()) && self.name.bytes().all(character),
            "name",
            "must be 1 to 64 of a-z, A-Z, 0-9, '_' and '-'",
        );
        c.require(self.baud > 0, "baud", "must be more than 0");
        let path = match self.path.to_str() {
            Some(path) if self.path.is_absolute() => Some(path.to_owned()),
            Some(_) => c.fail("path", "must be absolute, such as \"/dev/ttyUSB0\""),
            None => c.fail("path", "must be UTF-8"),
        };
        let data_bits = match self.data_bits {
            5 => Some(tokio_serial::DataBits::Five),
            6 => Some(tokio_serial::DataBits::Six),
            7 => Some(tokio_serial::DataBits::Seven),
            8 => Some(tokio_serial::DataBits::Eight),
            _ => c.fail("data_bits", "must be 5, 6, 7 or 8"),
        };
        let stop_bits = match self.stop_bits {
            1 => Some(tokio_serial::StopBits::One),
            2 => Some(tokio_serial::StopBits::Two),
            _ => c.fail("stop_bits", "must be 1 or 2"),
        };
        let qos = match self.qos {
            0 => Some(QoS::AtMostOnce),
            1 => Some(QoS::AtLeastOnce),
            _ => c.fail("qos", "must be 0 or 1"),
        };
        c.require(
            (1..=8).contains(&self.line_delimiter.len()),
            "line_delimiter",
            "must have 1 to 8 bytes",
        );
        c.require(
            (1..=MAX_LINE).contains(&self.max_line_bytes),
            "max_line_bytes",
            "must be 1 to 4000",
        );
        let decoder = self.decoder(c);
        let topic = self.topic(c);
        let (Some(path), Some(data_bits), Some(stop_bits), Some(qos), Some(decoder), Some(topic)) =
            (path, data_bits, stop_bits, qos, decoder, topic)
        else {
            return Err(checks.0);
        };
        if !checks.0.is_empty() {
            return Err(checks.0);
        }
        Ok(SerialDevice {
            name: Arc::from(self.name.as_str()),
            path,
            baud: self.baud,
            data_bits,
            parity: match self.parity {
                Parity::None => tokio_serial::Parity::None,
                Parity::Odd => tokio_serial::Parity::Odd,
                Parity::Even => tokio_serial::Parity::Even,
            },
            stop_bits,
            flow_control: match self.flow_control {
                FlowControl::None => tokio_serial::FlowControl::None,
                FlowControl::Software => tokio_serial::FlowControl::Software,
                FlowControl::Hardware => tokio_serial::FlowControl::Hardware,
            },
            framer: match self.framing {
                Framing::Line => Framer::new(self.line_delimiter.as_bytes(), self.max_line_bytes),
            },
            decoder,
            topic,
            qos,
            retain: self.retain,
        })
    }

    fn decoder(&self, c: &mut Checks) -> Option<Decoder> {
        let csv = self.format == Format::Csv;
        let only = "is only for format = \"csv\"";
        c.require(csv || self.columns.is_empty(), "columns", only);
        c.require(csv || !self.csv_header, "csv_header", only);
        c.require(csv || self.csv_delimiter.is_none(), "csv_delimiter", only);
        c.require(
            !csv || !self.columns.is_empty(),
            "columns",
            "must name the columns for format = \"csv\"",
        );
        let mut names = self.columns.clone();
        names.sort();
        names.dedup();
        c.require(
            names.len() == self.columns.len() && !self.columns.iter().any(String::is_empty),
            "columns",
            "must not be empty or stand twice",
        );
        let mut separator = self.csv_delimiter.as_deref().unwrap_or(",").chars();
        let (Some(separator), None) = (separator.next(), separator.next()) else {
            return c.fail("csv_delimiter", "must be one character");
        };
        if separator == '"' {
            return c.fail("csv_delimiter", "must not be the quote");
        }
        Some(Decoder {
            format: self.format,
            columns: self.columns.clone(),
            separator,
            header: self.csv_header,
        })
    }

    fn topic(&self, c: &mut Checks) -> Option<Topic> {
        let mut text = String::new();
        let mut rest = self.topic.as_str();
        while let Some((before, after)) = rest.split_once('$') {
            text.push_str(before);
            rest = if let Some(after) = after.strip_prefix("{name}") {
                text.push_str(&self.name);
                after
            } else if let Some(after) = after.strip_prefix('$') {
                text.push('$');
                after
            } else {
                return c.fail("topic", "knows the placeholder ${name} and $$ for '$'");
            };
        }
        text.push_str(rest);
        if text.starts_with('$') && !iotedge_model::reserved::client_may_publish(&text) {
            return c.fail("topic", "is a reserved topic that takes no publication");
        }
        Topic::new(&text)
            .map_err(|e| c.fail::<()>("topic", e.to_string()))
            .ok()
    }
}
