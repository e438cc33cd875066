//! Many rows in one statement, for the common commit: messages with one taker each. What a statement
//! costs beside its rows (its start, its end, the look-up in the cache) is paid once for all.

use std::num::NonZeroU16;
use std::sync::OnceLock;

use rusqlite::{Connection, ErrorCode, params};

use super::batch::{Staged, cost};
use super::mirror::signed;
use super::rows::{COLUMNS, ENVELOPE, Encoder, identifiers_column, sum};
use crate::types::id_column;

/// Messages of one statement.
pub(super) const ROWS: usize = 16;
/// Columns of a queue row that are written.
const ROW: usize = 9;

fn values(columns: usize) -> String {
    let row = format!("({})", vec!["?"; columns].join(", "));
    vec![row; ROWS].join(", ")
}

/// Writes [`ROWS`] messages that have one row each; `false`, and nothing is written, when these are
/// not, or when one of them is in the file already.
pub(super) fn write(
    connection: &Connection,
    encoder: &mut Encoder,
    staged: &[Staged],
) -> rusqlite::Result<bool> {
    if staged.len() != ROWS || staged.iter().any(|s| s.rows.len() != 1) {
        return Ok(false);
    }
    if !is_new(write_rows(connection, staged))? {
        return Ok(false);
    }
    if is_new(write_messages(connection, encoder, staged))? {
        return Ok(true);
    }
    // The rows are new and a message is not: it had another taker before.
    for staged in staged {
        for row in &staged.rows {
            connection
                .prepare_cached("DELETE FROM queue WHERE taker = ?1 AND message = ?2")?
                .execute(params![
                    signed(row.row.taker.0),
                    id_column(staged.message.id)
                ])?;
        }
    }
    Ok(false)
}

/// A statement that meets a row that is there leaves nothing behind.
fn is_new(outcome: rusqlite::Result<()>) -> rusqlite::Result<bool> {
    match outcome {
        Ok(()) => Ok(true),
        Err(error) if error.sqlite_error_code() == Some(ErrorCode::ConstraintViolation) => {
            Ok(false)
        }
        Err(error) => Err(error),
    }
}

fn write_rows(connection: &Connection, staged: &[Staged]) -> rusqlite::Result<()> {
    static SQL: OnceLock<String> = OnceLock::new();
    let sql = SQL.get_or_init(|| {
        format!(
            "INSERT INTO queue(taker, message, qos, retain, bytes, identifiers, state, packet_id,
             claimed_by) VALUES {}",
            values(ROW)
        )
    });
    let mut statement = connection.prepare_cached(sql)?;
    let mut at = 1;
    for staged in staged {
        for staged_row in &staged.rows {
            let row = &staged_row.row;
            let columns: [&dyn rusqlite::ToSql; ROW] = [
                &signed(row.taker.0),
                &id_column(staged.message.id),
                &u8::from(row.qos),
                &row.retain,
                &cost(&staged.message),
                &identifiers_column(&row.identifiers),
                &staged_row.state.to_column(),
                &staged_row.packet_id.map(NonZeroU16::get),
                &staged_row.claimant.map(|c| signed(c.0)),
            ];
            for column in columns {
                statement.raw_bind_parameter(at, column)?;
                at += 1;
            }
        }
    }
    statement.raw_execute().map(drop)
}

fn write_messages(
    connection: &Connection,
    encoder: &mut Encoder,
    staged: &[Staged],
) -> rusqlite::Result<()> {
    static SQL: OnceLock<String> = OnceLock::new();
    let sql = SQL.get_or_init(|| {
        let columns = ENVELOPE + 3;
        format!(
            "INSERT INTO messages(id, {COLUMNS}, refs, sum) VALUES {}",
            values(columns)
        )
    });
    let mut statement = connection.prepare_cached(sql)?;
    let mut at = 1;
    for staged in staged {
        encoder.bind(&mut statement, at, &staged.message)?;
        at += ENVELOPE + 1;
        statement.raw_bind_parameter(at, 1i64)?;
        statement.raw_bind_parameter(at + 1, sum(&staged.message))?;
        at += 2;
    }
    statement.raw_execute().map(drop)
}
