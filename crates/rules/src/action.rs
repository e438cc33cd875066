//! A rule's actions as their documents have them, and what one message makes of each.

mod render;

use std::path::PathBuf;
use std::time::Duration;

use iotedge_model::QoS;
use iotedge_sql::Template;

pub(crate) use render::{Invalid, Rendered, payload_format};

/// What a rule does with its output.
#[derive(Debug, Clone)]
pub(crate) enum Action {
    /// Publishes it on another topic.
    Republish(Box<Republish>),
    /// Hands it to a route of a bridge.
    Upstream(Upstream),
    /// Writes a row.
    Sqlite(Box<Sqlite>),
    /// Writes to a file.
    File(Box<File>),
    /// Sends a request.
    Http(Box<Http>),
    /// Runs a program.
    Exec(Exec),
    /// Invokes a function.
    Lambda(Lambda),
}

impl Action {
    /// Its name in a rule's document.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Republish(_) => "republish",
            Self::Upstream(_) => "upstream",
            Self::Sqlite(_) => "sqlite",
            Self::File(_) => "file",
            Self::Http(_) => "http",
            Self::Exec(_) => "exec",
            Self::Lambda(_) => "lambda",
        }
    }

    /// Whether it is carried out from an outbox. The others are part of the message's own
    /// acceptance.
    pub(crate) fn has_outbox(&self) -> bool {
        !matches!(self, Self::Republish(_) | Self::Upstream(_))
    }
}

/// The `republish` action.
#[derive(Debug, Clone)]
pub(crate) struct Republish {
    pub(crate) topic: Template,
    pub(crate) qos: QoS,
    pub(crate) retain: bool,
    pub(crate) headers: Headers,
}

/// MQTT 5 properties of a republished message (today's guide, "Republish", `headers`).
#[derive(Debug, Clone, Default)]
pub(crate) struct Headers {
    pub(crate) payload_format: Option<Template>,
    pub(crate) content_type: Option<Template>,
    pub(crate) response_topic: Option<Template>,
    /// Base64.
    pub(crate) correlation_data: Option<Template>,
    /// Seconds.
    pub(crate) expiry: Option<Template>,
    pub(crate) user: Vec<(Template, Template)>,
}

/// The `upstream` action.
#[derive(Debug, Clone)]
pub(crate) struct Upstream {
    /// `upstream/route`.
    pub(crate) route: String,
    /// The topic here, before the route maps it; that of the message where there is none.
    pub(crate) topic: Option<Template>,
    pub(crate) qos: Option<QoS>,
}

/// The `sqlite` action.
#[derive(Debug, Clone)]
pub(crate) struct Sqlite {
    pub(crate) file: Template,
    pub(crate) table: Template,
    /// Name, declared type and value; `None`: the members of the output.
    pub(crate) columns: Option<Vec<(Template, ColumnType, Template)>>,
    pub(crate) max_age: Option<Duration>,
    pub(crate) max_bytes: Option<u64>,
}

/// The declared type of a column, SQLite's affinity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub(crate) enum ColumnType {
    Text,
    Integer,
    Real,
    Numeric,
}

impl ColumnType {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Text => "TEXT",
            Self::Integer => "INTEGER",
            Self::Real => "REAL",
            Self::Numeric => "NUMERIC",
        }
    }
}

/// The `file` action.
#[derive(Debug, Clone)]
pub(crate) struct File {
    pub(crate) path: Template,
    /// One file for each message, and not all behind each other in one.
    pub(crate) replace: bool,
    pub(crate) separator: String,
    pub(crate) max_bytes: Option<u64>,
    pub(crate) max_age: Option<Duration>,
    pub(crate) keep: u32,
    pub(crate) gzip: bool,
}

/// The `http` action.
#[derive(Debug, Clone)]
pub(crate) struct Http {
    pub(crate) url: Template,
    pub(crate) method: String,
    pub(crate) headers: Vec<(Template, Template)>,
    pub(crate) body: Option<Template>,
    pub(crate) timeout: Duration,
    pub(crate) certificate: Option<PathBuf>,
    pub(crate) key: Option<PathBuf>,
    pub(crate) ca: Option<PathBuf>,
}

/// The `exec` action.
#[derive(Debug, Clone)]
pub(crate) struct Exec {
    pub(crate) program: PathBuf,
    pub(crate) arguments: Vec<Template>,
    pub(crate) timeout: Duration,
}

/// The `lambda` action.
#[derive(Debug, Clone)]
pub(crate) struct Lambda {
    pub(crate) function: Template,
}
