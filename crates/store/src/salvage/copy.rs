//! Reads around the damage: forwards to it, backwards from the end to it, and between the two in
//! growing steps over integer keys.

use rusqlite::types::Value;
use rusqlite::{Connection, params_from_iter};

/// A table and the columns that order it. Columns and tables that an older file has not are left
/// out: what a later migration adds has a default.
pub(crate) struct Table {
    pub(crate) name: &'static str,
    keys: &'static [&'static str],
    /// Whether the last key column is an integer that can be stepped over.
    steps: bool,
}

const fn table(name: &'static str, keys: &'static [&'static str], steps: bool) -> Table {
    Table { name, keys, steps }
}

pub(crate) const QUEUE: &[Table] = &[
    table("meta", &["name"], false),
    table("takers", &["id"], true),
    table("drops", &["taker", "reason"], false),
    table("sessions", &["client_id"], false),
    table("unreleased", &["client_id", "packet_id"], true),
    table("subscriptions", &["client_id", "text"], false),
    table("retained", &["rowid"], true),
    table("wills", &["id"], true),
    table("messages", &["id"], true),
    table("queue", &["taker", "message"], true),
    table("bodies", &["id"], true),
    table("parcels", &["taker", "first"], true),
    table("dead_letters", &["id"], true),
];

pub(crate) const STATE: &[Table] = &[table("documents", &["id"], true)];

/// Steps tried over one damaged place: the last is 2^40 wide.
const STEPS: u32 = 40;
/// Damaged places after which the rest of a table is given up.
const PLACES: u32 = 10_000;

/// What came of one table.
#[derive(Debug, Default)]
pub(crate) struct Copied {
    pub(crate) rows: u64,
    pub(crate) complete: bool,
}

struct Copier<'a> {
    old: &'a Connection,
    fresh: &'a Connection,
    table: &'a Table,
    columns: String,
    insert: String,
    rows: u64,
}

/// How far a pass came.
enum Pass {
    /// To its end.
    Whole,
    /// To the damage; the last key read before it, if any was.
    Damaged(Option<Vec<Value>>),
}

/// Brings over what can be read. Errors are those of the fresh file.
pub(crate) fn copy(
    old: &Connection,
    fresh: &Connection,
    table: &Table,
) -> rusqlite::Result<Copied> {
    let mut names = columns(fresh, table)?;
    // Whether its schema can be read or not: nothing is given up for it.
    if let Ok(there) = columns(old, table) {
        if there.is_empty() && is_readable(old) {
            return Ok(Copied {
                rows: 0,
                complete: true,
            });
        }
        if !there.is_empty() {
            names.retain(|name| there.contains(name));
        }
    }
    let marks = vec!["?"; names.len()].join(", ");
    let columns = names.join(", ");
    let mut copier = Copier {
        insert: format!(
            "INSERT OR REPLACE INTO {}({columns}) VALUES ({marks})",
            table.name
        ),
        columns,
        old,
        fresh,
        table,
        rows: 0,
    };
    let complete = copier.run()?;
    Ok(Copied {
        rows: copier.rows,
        complete,
    })
}

fn columns(connection: &Connection, table: &Table) -> rusqlite::Result<Vec<String>> {
    let sql = format!("SELECT name FROM pragma_table_info('{}')", table.name);
    connection
        .prepare(&sql)?
        .query_map([], |row| row.get(0))?
        .collect()
}

/// Whether the file knows its tables at all.
fn is_readable(connection: &Connection) -> bool {
    let count = connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0));
    count.is_ok_and(|tables: i64| tables > 0)
}

impl Copier<'_> {
    fn run(&mut self) -> rusqlite::Result<bool> {
        let mut after = match self.pass(None, None, "ASC")? {
            Pass::Whole => return Ok(true),
            Pass::Damaged(after) => after,
        };
        // From the end back to the damage: keys there are not touched again below.
        let until = match self.pass(after.as_deref(), None, "DESC")? {
            Pass::Whole => return Ok(false),
            Pass::Damaged(until) => until,
        };
        if !self.table.steps {
            return Ok(false);
        }
        for _ in 0..PLACES {
            match self.step_over(after.as_deref(), until.as_deref())? {
                Some(reached) => after = Some(reached),
                None => break,
            }
        }
        Ok(false)
    }

    /// Tries behind `after` in growing steps; gives the last key read before the next damage.
    fn step_over(
        &mut self,
        after: Option<&[Value]>,
        until: Option<&[Value]>,
    ) -> rusqlite::Result<Option<Vec<Value>>> {
        let Some(Value::Integer(last)) = after.and_then(|key| key.last()) else {
            return Ok(None);
        };
        for step in 0..STEPS {
            let mut from = after.unwrap_or_default().to_vec();
            if let Some(end) = from.last_mut() {
                *end = Value::Integer(last.saturating_add(1 << step));
            }
            match self.pass(Some(&from), until, "ASC")? {
                Pass::Whole => return Ok(None),
                Pass::Damaged(Some(reached)) => return Ok(Some(reached)),
                Pass::Damaged(None) => {}
            }
        }
        Ok(None)
    }

    fn pass(
        &mut self,
        after: Option<&[Value]>,
        until: Option<&[Value]>,
        direction: &str,
    ) -> rusqlite::Result<Pass> {
        let keys = self.table.keys.join(", ");
        let order: Vec<String> = self
            .table
            .keys
            .iter()
            .map(|k| format!("{k} {direction}"))
            .collect();
        let marks = vec!["?"; self.table.keys.len()].join(", ");
        let mut bounds = vec!["1".to_owned()];
        bounds.extend(after.map(|_| format!("({keys}) > ({marks})")));
        bounds.extend(until.map(|_| format!("({keys}) < ({marks})")));
        let sql = format!(
            "SELECT {keys}, {} FROM {} WHERE {} ORDER BY {}",
            self.columns,
            self.table.name,
            bounds.join(" AND "),
            order.join(", ")
        );
        let bound: Vec<&Value> = after.into_iter().chain(until).flatten().collect();
        let mut last = None;
        // Every error of the old file ends the pass; it is why we are here.
        let Ok(mut statement) = self.old.prepare(&sql) else {
            return Ok(Pass::Damaged(None));
        };
        let width = statement.column_count();
        let Ok(mut rows) = statement.query(params_from_iter(bound)) else {
            return Ok(Pass::Damaged(None));
        };
        let mut write = self.fresh.prepare_cached(&self.insert)?;
        loop {
            let row = match rows.next() {
                Ok(Some(row)) => row,
                Ok(None) => return Ok(Pass::Whole),
                Err(_) => return Ok(Pass::Damaged(last)),
            };
            let values: rusqlite::Result<Vec<Value>> = (0..width).map(|at| row.get(at)).collect();
            let Ok(mut values) = values else {
                return Ok(Pass::Damaged(last));
            };
            let columns = values.split_off(self.table.keys.len());
            match write.execute(params_from_iter(columns)) {
                Ok(_) => self.rows += 1,
                // A value that the table does not take was not written by us.
                Err(error)
                    if error.sqlite_error_code()
                        == Some(rusqlite::ErrorCode::ConstraintViolation) => {}
                Err(error) => return Err(error),
            }
            last = Some(values);
        }
    }
}
