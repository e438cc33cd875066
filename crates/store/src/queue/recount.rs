//! Books that a card has changed: SQLite looks at the shape of its pages, not at the numbers in them.
//! A taker whose books can not be is not passed over, which would lose what comes for it: it is
//! counted anew from what waits.

use iotedge_model::DropReason;
use iotedge_telemetry::event;
use rusqlite::{Connection, OptionalExtension, params};

use super::mirror::Tally;

type Sql<T> = rusqlite::Result<T>;

/// No counter comes to this many, and the sum of a hundred of them is still a number of SQLite's.
pub(crate) const MOST: i64 = 1 << 56;
/// No message costs this many bytes.
pub(crate) const COST: i64 = 1 << 40;

/// What waits in the file for the taker `?1`: rows and bytes.
const WAITING: &str = "SELECT
    (SELECT count(*) FROM queue WHERE taker = ?1)
        + (SELECT ifnull(sum(min(max(live, 0), 64)), 0) FROM parcels WHERE taker = ?1),
    (SELECT ifnull(sum(min(max(bytes, 0), 1 << 40)), 0) FROM queue WHERE taker = ?1)
        + (SELECT ifnull(sum(min(max(bytes, 0), 1 << 40)), 0) FROM parcels WHERE taker = ?1)";

/// Takers with a counter that can not be, or whose counters do not fit each other.
const CROOKED: &str = "SELECT id FROM takers WHERE
    (typeof(accepted) = 'integer' AND typeof(delivered) = 'integer'
        AND typeof(rows) = 'integer' AND typeof(bytes) = 'integer'
        AND accepted BETWEEN 0 AND ?1 AND delivered BETWEEN 0 AND ?1
        AND rows BETWEEN 0 AND ?1 AND bytes BETWEEN 0 AND ?1
        AND (rows = 0) = (bytes = 0)
        AND NOT EXISTS (SELECT 1 FROM drops WHERE taker = takers.id
            AND count NOT BETWEEN 0 AND ?1)
        AND accepted - delivered - rows
            = (SELECT ifnull(sum(min(max(count, 0), ?1)), 0) FROM drops WHERE taker = takers.id)
    ) IS NOT 1";

/// Mends the books of every taker before they are read.
pub(crate) fn mend(connection: &Connection) -> Sql<()> {
    let crooked: Vec<i64> = connection
        .prepare(CROOKED)?
        .query_map([MOST], |row| row.get(0))?
        .collect::<Sql<_>>()?;
    if crooked.is_empty() {
        return Ok(());
    }
    let moment = connection.unchecked_transaction()?;
    for id in crooked {
        let (rows, bytes) = waiting(connection, id)?;
        connection
            .prepare_cached("UPDATE takers SET rows = ?2, bytes = ?3 WHERE id = ?1")?
            .execute([id, rows, bytes])?;
        make_possible(connection, id)?;
        connection
            .prepare_cached(&format!(
                "UPDATE takers SET accepted = delivered + rows + ({DROPS}) WHERE id = ?1"
            ))?
            .execute([id])?;
        tracing::error!(
            event = event::STORE,
            taker = id,
            rows,
            bytes,
            "the books of a queue were not as they were written and are counted anew"
        );
    }
    moment.commit()
}

/// What the taker `?1` has dropped.
const DROPS: &str = "SELECT ifnull(sum(count), 0) FROM drops WHERE taker = ?1";

/// Gives the counters of a taker, whose rows are counted, values that can be: those that are left say
/// what one must have been.
pub(crate) fn make_possible(connection: &Connection, id: i64) -> Sql<()> {
    connection
        .prepare_cached("DELETE FROM drops WHERE taker = ?1 AND count NOT BETWEEN 0 AND ?2")?
        .execute([id, MOST])?;
    let can_be =
        |column: &str| format!("(typeof({column}) = 'integer' AND {column} BETWEEN 0 AND {MOST})");
    let (accepted, delivered) = (can_be("accepted"), can_be("delivered"));
    connection
        .prepare_cached(&format!(
            "UPDATE takers SET delivered = CASE WHEN {accepted}
                 THEN max(0, accepted - rows - ({DROPS})) ELSE 0 END
             WHERE id = ?1 AND NOT {delivered}"
        ))?
        .execute([id])?;
    connection
        .prepare_cached(&format!(
            "UPDATE takers SET accepted = delivered + rows + ({DROPS})
             WHERE id = ?1 AND NOT {accepted}"
        ))?
        .execute([id])?;
    Ok(())
}

fn waiting(connection: &Connection, id: i64) -> Sql<(i64, i64)> {
    connection
        .prepare_cached(WAITING)?
        .query_row([id], |row| Ok((row.get(0)?, row.get(1)?)))
}

/// After a parcel that is not as it was written was mended or given up: rows that the books have and
/// the file has not are counted as damaged. What this changed.
pub(super) fn recount(connection: &Connection, id: i64) -> Sql<Tally> {
    let booked: Option<(i64, i64)> = connection
        .prepare_cached("SELECT rows, bytes FROM takers WHERE id = ?1")?
        .query_row([id], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    let mut tally = Tally::default();
    let Some((booked_rows, booked_bytes)) = booked else {
        return Ok(tally);
    };
    let (rows, bytes) = waiting(connection, id)?;
    tally.rows = rows.saturating_sub(booked_rows);
    tally.bytes = bytes.saturating_sub(booked_bytes);
    match tally.rows {
        more @ 1.. => tally.accepted = more,
        0 => {}
        fewer => tally.drop(DropReason::Damaged, fewer.saturating_neg()),
    }
    Ok(tally)
}

/// Counters of a salvaged file: none is so far off that a sum of them fails.
pub(crate) fn bound(fresh: &Connection) -> Sql<()> {
    for table in ["queue", "dead_letters"] {
        fresh.execute(
            &format!(
                "UPDATE {table} SET bytes = min(max(bytes, 0), ?1) WHERE bytes NOT BETWEEN 0 AND ?1"
            ),
            params![COST],
        )?;
    }
    Ok(())
}
