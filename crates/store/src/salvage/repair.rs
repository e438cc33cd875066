//! Makes one whole of the rows that were brought over: what belongs together is there or goes, and
//! the books balance again.

use rusqlite::Connection;

use crate::queue::batch::ID_BLOCK;
use crate::queue::mirror::signed;
use crate::queue::parcel;

/// Repairs; gives the number of queue rows that are known to be lost.
pub(crate) fn repair(fresh: &Connection) -> rusqlite::Result<u64> {
    let number =
        |sql: &str| -> rusqlite::Result<i64> { fresh.query_row(sql, [], |row| row.get(0)) };
    // The queue of a session whose taker is lost has its name from the session.
    fresh.execute_batch(
        "INSERT OR IGNORE INTO takers(id, kind, name)
             SELECT taker, 'session', client_id FROM sessions
             WHERE taker NOT IN (SELECT id FROM takers);
         INSERT OR IGNORE INTO takers(id, kind, name) VALUES (0, 'removed', '');",
    )?;
    remove_unreadable(fresh)?;
    let orphans = number(
        "SELECT (SELECT count(*) FROM queue WHERE taker NOT IN (SELECT id FROM takers WHERE id > 0))
            + (SELECT ifnull(sum(live), 0) FROM parcels
               WHERE taker NOT IN (SELECT id FROM takers WHERE id > 0))",
    )?;
    fresh.execute_batch(
        "DELETE FROM queue WHERE taker NOT IN (SELECT id FROM takers WHERE id > 0);
         DELETE FROM queue WHERE message NOT IN (SELECT id FROM messages);
         CREATE TEMP TABLE held(message INTEGER PRIMARY KEY, refs INTEGER);
         INSERT INTO held SELECT message, count(*) FROM queue GROUP BY message;
         DELETE FROM messages WHERE id NOT IN (SELECT message FROM held);
         UPDATE messages SET refs = (SELECT refs FROM held WHERE message = id);
         DROP TABLE held;
         DELETE FROM parcels WHERE taker NOT IN (SELECT id FROM takers WHERE id > 0);
         DELETE FROM bodies WHERE id NOT IN (SELECT body FROM parcels);
         UPDATE takers SET
             rows = (SELECT count(*) FROM queue WHERE taker = takers.id)
                 + (SELECT ifnull(sum(live), 0) FROM parcels WHERE taker = takers.id),
             bytes = (SELECT ifnull(sum(bytes), 0) FROM queue WHERE taker = takers.id)
                 + (SELECT ifnull(sum(bytes), 0) FROM parcels WHERE taker = takers.id);
         INSERT OR REPLACE INTO meta(name, value)
             SELECT 'dead_bytes', ifnull(sum(bytes), 0) FROM dead_letters;
         DELETE FROM subscriptions WHERE client_id NOT IN (SELECT client_id FROM sessions);
         DELETE FROM unreleased WHERE client_id NOT IN (SELECT client_id FROM sessions);
         DELETE FROM drops WHERE taker NOT IN (SELECT id FROM takers);",
    )?;
    let lost = number(&format!("SELECT ifnull(sum(max(gap, 0)), 0) FROM ({GAPS})"))?;
    fresh.execute_batch(&format!(
        "CREATE TEMP TABLE gaps AS {GAPS};
         INSERT INTO drops(taker, reason, count)
             SELECT id, 'damaged', gap FROM gaps WHERE gap > 0
             ON CONFLICT(taker, reason) DO UPDATE SET count = count + excluded.count;
         UPDATE takers SET accepted = accepted - (SELECT gap FROM gaps WHERE gaps.id = takers.id)
             WHERE id IN (SELECT id FROM gaps WHERE gap < 0);
         DROP TABLE gaps;"
    ))?;
    keep_ids_growing(fresh)?;
    Ok((orphans + lost).unsigned_abs())
}

/// Parcels whose bytes are not what was written, or whose index or body is not there.
fn remove_unreadable(fresh: &Connection) -> rusqlite::Result<()> {
    let mut statement = fresh.prepare(
        "SELECT p.taker, p.first, p.live, p.gone, p.ids, b.body
         FROM parcels p LEFT JOIN bodies b ON b.id = p.body",
    )?;
    let mut rows = statement.query([])?;
    let mut unreadable: Vec<[i64; 2]> = Vec::new();
    while let Some(row) = rows.next()? {
        let key: [i64; 2] = [row.get(0)?, row.get(1)?];
        let (live, gone): (i64, i64) = (row.get(2)?, row.get(3)?);
        let index = parcel::index(key[1].unsigned_abs(), row.get_ref(4)?.as_blob()?);
        let there = index.map_or(0, |index| index.len()) as i64 - i64::from(gone.count_ones());
        let body = row.get_ref(5)?.as_blob_or_null()?.unwrap_or_default();
        if live != there || !parcel::is_whole(body) {
            unreadable.push(key);
        }
    }
    for key in unreadable {
        fresh.execute("DELETE FROM parcels WHERE taker = ?1 AND first = ?2", key)?;
    }
    Ok(())
}

/// What each taker's books miss (more than nothing: lost rows) or have too much (a lost counter).
const GAPS: &str = "SELECT id, accepted - delivered - rows
    - (SELECT ifnull(sum(count), 0) FROM drops WHERE taker = takers.id) AS gap FROM takers";

fn keep_ids_growing(fresh: &Connection) -> rusqlite::Result<()> {
    let highest: i64 = fresh.query_row(
        "SELECT max((SELECT ifnull(max(id), 0) FROM messages),
                    (SELECT ifnull(max(id), 0) FROM retained),
                    (SELECT ifnull(max(id), 0) FROM wills),
                    (SELECT ifnull(max(message), 0) FROM queue),
                    (SELECT ifnull(max(first), 0) FROM parcels),
                    (SELECT ifnull(max(message), 0) FROM dead_letters),
                    (SELECT ifnull(max(value), 0) FROM meta WHERE name = 'next_message_id'))",
        [],
        |row| row.get(0),
    )?;
    // Messages that are lost may have had higher ids than any that is left.
    fresh.execute(
        "INSERT OR REPLACE INTO meta(name, value) VALUES ('next_message_id', ?1)",
        [highest.saturating_add(signed(2 * ID_BLOCK))],
    )?;
    Ok(())
}
