//! What an outbox holds: an action filled in, with all that it takes to carry it out later, and the
//! message that it came of, for the error action.
//!
//! The format on disk is the payload of the outbox's row: the length of a JSON header (four bytes,
//! big endian), the header, what goes to the sink, and the message's own payload where that is not
//! the same. A header of a later version is refused, not guessed at.

use std::path::PathBuf;

use bytes::{BufMut as _, Bytes, BytesMut};
use serde::{Deserialize, Serialize};

/// The version of the header.
const VERSION: u8 = 1;

/// An action, filled in for one message.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Task {
    /// A row in a table.
    Sqlite(SqliteTask),
    /// A file, or a part of one.
    File(FileTask),
    /// A request.
    Http(HttpTask),
    /// A program.
    Exec(ExecTask),
    /// A function, by its ARN or name.
    Lambda {
        /// As the action has it.
        function: String,
    },
}

impl Task {
    /// The action's name in a rule's document.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Sqlite(_) => "sqlite",
            Self::File(_) => "file",
            Self::Http(_) => "http",
            Self::Exec(_) => "exec",
            Self::Lambda { .. } => "lambda",
        }
    }

    /// `failedAction` in the error document, in the style of AWS's names.
    pub fn action_name(&self) -> &'static str {
        match self {
            Self::Sqlite(_) => "SqliteAction",
            Self::File(_) => "FileAction",
            Self::Http(_) => "HttpAction",
            Self::Exec(_) => "ExecAction",
            Self::Lambda { .. } => "LambdaAction",
        }
    }

    /// `failedResource` in the error document: what it writes to.
    pub fn resource(&self) -> String {
        match self {
            Self::Sqlite(task) => format!("{}/{}", task.file, task.table),
            Self::File(task) => task.path.clone(),
            Self::Http(task) => task.url.clone(),
            Self::Exec(task) => task.program.display().to_string(),
            Self::Lambda { function } => function.clone(),
        }
    }
}

/// A row.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SqliteTask {
    /// The file below the configured folder.
    pub file: String,
    /// The table.
    pub table: String,
    /// The row.
    pub columns: Vec<Column>,
    /// Rows that are older go.
    pub max_age_s: Option<u64>,
    /// Above so many bytes of the file the oldest rows go.
    pub max_bytes: Option<u64>,
}

/// A column of a row.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Column {
    /// Its name.
    pub name: String,
    /// Its declared type where it has to be made; may be empty.
    pub kind: String,
    /// The value.
    pub value: Cell,
}

/// A value.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Cell {
    /// NULL.
    #[serde(rename = "n")]
    Null,
    /// A whole number.
    #[serde(rename = "i")]
    Integer(i64),
    /// Any other number.
    #[serde(rename = "r")]
    Real(f64),
    /// Text.
    #[serde(rename = "t")]
    Text(String),
}

/// A file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileTask {
    /// The path below the configured root.
    pub path: String,
    /// The file is this message alone.
    pub replace: bool,
    /// What stands behind each message.
    pub separator: String,
    /// Rotated before it would be larger.
    pub max_bytes: Option<u64>,
    /// Rotated when it is older.
    pub max_age_s: Option<u64>,
    /// Rotated files that stay.
    pub keep: u32,
    /// Rotated files are compressed.
    pub gzip: bool,
}

/// A request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HttpTask {
    /// Where to.
    pub url: String,
    /// GET, POST, …
    pub method: String,
    /// Names and values.
    pub headers: Vec<(String, String)>,
    /// For the whole of it, in milliseconds.
    pub timeout_ms: u64,
    /// PEM file of our certificate.
    pub certificate: Option<PathBuf>,
    /// PEM file of its key.
    pub key: Option<PathBuf>,
    /// PEM file of the CAs that the server's certificate is checked with; `None`: the system's.
    pub ca: Option<PathBuf>,
}

/// A program.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecTask {
    /// Absolute.
    pub program: PathBuf,
    /// Its arguments.
    pub arguments: Vec<String>,
    /// It is killed after this, in milliseconds.
    pub timeout_ms: u64,
}

/// A row of an outbox.
#[derive(Debug, Clone, PartialEq)]
pub struct Work {
    /// What to do.
    pub task: Task,
    /// What goes to the sink.
    pub body: Bytes,
    /// The payload of the message that the rule was evaluated for.
    pub original: Bytes,
}

#[derive(Serialize)]
struct Header<'a> {
    v: u8,
    task: &'a Task,
    body: usize,
    same: bool,
}

#[derive(Deserialize)]
struct OwnedHeader {
    v: u8,
    task: Task,
    body: usize,
    same: bool,
}

impl Work {
    /// The payload of its row. `None` where JSON cannot say it (a number that is none).
    pub fn encode(&self) -> Option<Bytes> {
        let same = self.body == self.original;
        let header = Header {
            v: VERSION,
            task: &self.task,
            body: self.body.len(),
            same,
        };
        let header = serde_json::to_vec(&header).ok()?;
        let original = if same { 0 } else { self.original.len() };
        let mut out = BytesMut::with_capacity(4 + header.len() + self.body.len() + original);
        out.put_u32(u32::try_from(header.len()).ok()?);
        out.put_slice(&header);
        out.put_slice(&self.body);
        if !same {
            out.put_slice(&self.original);
        }
        Some(out.freeze())
    }

    /// Back from [`Work::encode`]; `None` for anything else.
    pub fn decode(bytes: &Bytes) -> Option<Self> {
        let length = bytes.get(..4)?.try_into().map(u32::from_be_bytes).ok()?;
        let end = usize::try_from(length).ok()?.checked_add(4)?;
        let header: OwnedHeader = serde_json::from_slice(bytes.get(4..end)?).ok()?;
        let middle = end.checked_add(header.body)?;
        if header.v != VERSION || middle > bytes.len() || (header.same && middle != bytes.len()) {
            return None;
        }
        let body = bytes.slice(end..middle);
        let original = if header.same {
            body.clone()
        } else {
            bytes.slice(middle..)
        };
        Some(Self {
            task: header.task,
            body,
            original,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn work(body: &'static str, original: &'static str) -> Work {
        Work {
            task: Task::Lambda {
                function: "f".into(),
            },
            body: Bytes::from_static(body.as_bytes()),
            original: Bytes::from_static(original.as_bytes()),
        }
    }

    #[test]
    fn work_comes_back_as_it_was() {
        for work in [
            work("a", "a"),
            work("", "a"),
            work("a", ""),
            work("a", "bc"),
        ] {
            let bytes = work.encode().expect("it can be written");
            assert_eq!(Work::decode(&bytes), Some(work));
        }
    }

    #[test]
    fn what_is_no_work_is_refused() {
        let good = work("abc", "de").encode().expect("it can be written");
        for cut in 0..good.len() - 2 {
            assert_eq!(Work::decode(&good.slice(..cut)), None, "{cut}");
        }
        let same = work("abc", "abc").encode().expect("it can be written");
        let mut longer = same.to_vec();
        longer.push(0);
        assert_eq!(Work::decode(&longer.into()), None);
        let later = String::from_utf8(same[4..].to_vec()).expect("text");
        let later = later.replace("\"v\":1", "\"v\":2");
        let mut bytes = same[..4].to_vec();
        bytes.extend(later.as_bytes());
        assert_eq!(Work::decode(&bytes.into()), None);
    }
}
