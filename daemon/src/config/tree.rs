//! TOML files as trees that know where each value stands, and several of them as one.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::problem::{Place, Problem};

/// A value and its place.
#[derive(Debug, Clone)]
pub(super) struct Node {
    pub(super) place: Place,
    pub(super) value: Value,
}

/// What TOML can say.
#[derive(Debug, Clone)]
pub(super) enum Value {
    Text(String),
    /// `None`: beyond 64 bits.
    Integer(Option<i64>),
    Float,
    Flag(bool),
    Time,
    List(Vec<Node>),
    Table(Table),
}

impl Value {
    /// For "... is a string, not ...".
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Text(_) => "a string",
            Self::Integer(_) => "an integer",
            Self::Float => "a fraction",
            Self::Flag(_) => "true or false",
            Self::Time => "a date or time",
            Self::List(_) => "a list",
            Self::Table(_) => "a table",
        }
    }
}

/// Keys with the places of the keys themselves.
pub(super) type Table = BTreeMap<String, (Place, Node)>;

/// Reads one file's text; all syntax errors at once.
pub(super) fn parse(file: &Path, text: &str) -> Result<Table, Vec<Problem>> {
    let lines = Lines::new(file, text);
    let (root, errors) = DeTable::parse_recoverable(text);
    if errors.is_empty() {
        return Ok(lines.table(root.get_ref()));
    }
    Err(errors
        .iter()
        .map(|error| Problem {
            place: lines.place(error.span().map_or(0, |span| span.start)),
            key: String::new(),
            reason: error.message().to_owned(),
        })
        .collect())
}

/// Lays `over` on top of `base`: tables are joined, `[[tables]]` are added to those that are there,
/// anything else is replaced.
pub(super) fn merge(base: &mut Table, over: Table) {
    for (key, (place, node)) in over {
        match (
            base.get_mut(&key).map(|(_, old)| &mut old.value),
            node.value,
        ) {
            (Some(Value::Table(old)), Value::Table(new)) => merge(old, new),
            (Some(Value::List(old)), Value::List(new)) if tables(old) && tables(&new) => {
                old.extend(new);
            }
            (_, value) => {
                let node = Node {
                    place: node.place,
                    value,
                };
                base.insert(key, (place, node));
            }
        }
    }
}

fn tables(list: &[Node]) -> bool {
    !list.is_empty() && list.iter().all(|n| matches!(n.value, Value::Table(_)))
}

/// Turns offsets into lines.
struct Lines {
    file: Arc<Path>,
    /// Where each line begins.
    starts: Vec<usize>,
}

impl Lines {
    fn new(file: &Path, text: &str) -> Self {
        let breaks = text.bytes().enumerate().filter(|(_, b)| *b == b'\n');
        Self {
            file: Arc::from(file),
            starts: std::iter::once(0)
                .chain(breaks.map(|(at, _)| at + 1))
                .collect(),
        }
    }

    fn place(&self, offset: usize) -> Place {
        Place {
            file: self.file.clone(),
            line: self.starts.partition_point(|start| *start <= offset).max(1),
        }
    }

    fn table(&self, table: &DeTable<'_>) -> Table {
        table
            .iter()
            .map(|(key, value)| {
                let place = self.place(key.span().start);
                (key.get_ref().to_string(), (place, self.node(value)))
            })
            .collect()
    }

    fn node(&self, value: &Spanned<DeValue<'_>>) -> Node {
        let place = self.place(value.span().start);
        let value = match value.get_ref() {
            DeValue::String(text) => Value::Text(text.to_string()),
            DeValue::Integer(number) => {
                Value::Integer(i64::from_str_radix(number.as_str(), number.radix()).ok())
            }
            DeValue::Float(_) => Value::Float,
            DeValue::Boolean(flag) => Value::Flag(*flag),
            DeValue::Datetime(_) => Value::Time,
            DeValue::Array(items) => Value::List(items.iter().map(|n| self.node(n)).collect()),
            DeValue::Table(table) => Value::Table(self.table(table)),
        };
        Node { place, value }
    }
}
