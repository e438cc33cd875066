//! Makes one whole of the rows that were brought over: what belongs together is there or goes, and
//! the books balance again.

use std::collections::BTreeSet;

use rusqlite::{Connection, params};

use crate::queue::batch::ID_BLOCK;
use crate::queue::checked::{COLUMNS, Content, Parcel};
use crate::queue::mirror::signed;
use crate::queue::parcel::{self, Index, Origin};
use crate::queue::recount;
use crate::queue::rows::{Bad, COLUMNS as MESSAGE, Decoder, ENVELOPE, sum};
use crate::queue::takers::NAMED;
use crate::{TakerId, TakerKind};

/// Repairs; gives the number of queue rows that are known to be lost. `incomplete`: tables in which
/// something could not be read.
pub(crate) fn repair(
    fresh: &Connection,
    incomplete: &BTreeSet<&'static str>,
) -> rusqlite::Result<u64> {
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
    remove_changed(fresh)?;
    recount::bound(fresh)?;
    // Where all of them are there, a body without one is of messages that are gone.
    if incomplete.contains("parcels") {
        rebuild(fresh)?;
    }
    if incomplete.contains("takers") {
        name_takers(fresh)?;
    }
    let orphans = number(
        "SELECT (SELECT count(*) FROM queue WHERE taker NOT IN (SELECT id FROM takers WHERE id > 0)
                 AND taker NOT IN (SELECT taker FROM garbage))
            + (SELECT ifnull(sum(live), 0) FROM parcels
               WHERE taker NOT IN (SELECT id FROM takers WHERE id > 0)
                 AND taker NOT IN (SELECT taker FROM garbage))",
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
    let takers: Vec<i64> = fresh
        .prepare("SELECT id FROM takers")?
        .query_map([], |row| row.get(0))?
        .collect::<rusqlite::Result<_>>()?;
    for id in takers {
        recount::make_possible(fresh, id)?;
    }
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
    // The second place of names, as the first one is now.
    fresh.execute(
        "DELETE FROM meta WHERE substr(name, 1, length(?1)) = ?1",
        [NAMED],
    )?;
    fresh.execute(
        "INSERT INTO meta(name, value) SELECT ?1 || kind || ' ' || name, id FROM takers
         WHERE id > 0 AND kind <> 'session'",
        [NAMED],
    )?;
    keep_ids_growing(fresh)?;
    Ok(orphans.saturating_add(lost).unsigned_abs())
}

/// Parcels whose bytes are not what was written, or whose index or body is not there.
fn remove_unreadable(fresh: &Connection) -> rusqlite::Result<()> {
    let mut statement = fresh.prepare(&format!(
        "SELECT {COLUMNS}, b.body, p.taker FROM parcels p LEFT JOIN bodies b ON b.id = p.body"
    ))?;
    let mut rows = statement.query([])?;
    let mut unreadable: Vec<[i64; 2]> = Vec::new();
    let mut mended: Vec<([i64; 2], Content)> = Vec::new();
    while let Some(row) = rows.next()? {
        let key: [i64; 2] = [row.get(8)?, row.get(0)?];
        let body = row.get_ref(7)?.as_blob_or_null()?.unwrap_or_default();
        let found = Parcel::of(fresh, TakerId(key[0].unsigned_abs()), row)?;
        match found.content.filter(|_| parcel::is_whole(body)) {
            None => unreadable.push(key),
            Some(content) if content.mended => mended.push((key, content)),
            Some(_) => {}
        }
    }
    for key in unreadable {
        fresh.execute("DELETE FROM parcels WHERE taker = ?1 AND first = ?2", key)?;
    }
    for (key, content) in mended {
        fresh.execute(
            "UPDATE parcels SET live = ?3, bytes = ?4, gone = ?5, ids = ifnull(?6, ids)
             WHERE taker = ?1 AND first = ?2",
            params![
                key[0],
                key[1],
                content.live(),
                content.bytes,
                content.gone as i64,
                content.ids
            ],
        )?;
    }
    Ok(())
}

/// Messages in rows of their own that are not what was written.
fn remove_changed(fresh: &Connection) -> rusqlite::Result<()> {
    let mut statement = fresh.prepare(&format!("SELECT id, {MESSAGE}, sum FROM messages"))?;
    let mut rows = statement.query([])?;
    let mut decoder = Decoder::default();
    let mut changed: Vec<i64> = Vec::new();
    while let Some(row) = rows.next()? {
        let written: Option<i64> = row.get(1 + ENVELOPE)?;
        let is_whole = match decoder.message(row, 0) {
            Ok(message) => written.is_none_or(|written| written == sum(&message)),
            Err(Bad::Content(_)) => false,
            Err(Bad::Sqlite(error)) => return Err(error),
        };
        if !is_whole {
            changed.push(row.get(0)?);
        }
    }
    for id in changed {
        fresh.execute("DELETE FROM messages WHERE id = ?1", [id])?;
    }
    Ok(())
}

/// Parcels of the bodies that are left. Which of their messages were gone is lost with the old
/// ones: those that are nowhere else come again, as after any kill.
fn rebuild(fresh: &Connection) -> rusqlite::Result<()> {
    fresh.execute_batch(
        "CREATE TEMP TABLE buried(message INTEGER, kind TEXT, taker TEXT,
             PRIMARY KEY(message, kind, taker)) WITHOUT ROWID;
         INSERT OR IGNORE INTO buried SELECT message, kind, taker FROM dead_letters;",
    )?;
    let bodies: Vec<i64> = fresh
        .prepare("SELECT id FROM bodies WHERE id NOT IN (SELECT body FROM parcels) ORDER BY id")?
        .query_map([], |row| row.get(0))?
        .collect::<rusqlite::Result<_>>()?;
    let mut statement = fresh.prepare("SELECT body FROM bodies WHERE id = ?1")?;
    for id in bodies {
        let body: Vec<u8> = statement.query_row([id], |row| row.get(0))?;
        let Some(origin) = parcel::origin(&body) else {
            continue;
        };
        let Some(index) = parcel::index(origin.first, origin.ids) else {
            continue;
        };
        let taker = signed(origin.taker);
        if overlaps(fresh, taker, &index)? {
            continue;
        }
        let gone = elsewhere(fresh, &origin, &index)?;
        let left = index.iter().enumerate();
        let left = left.filter(|(at, _)| gone & (1 << at) == 0);
        let costs: Vec<i64> = left.map(|(_, (_, cost))| *cost).collect();
        if costs.is_empty() {
            continue;
        }
        fresh
            .prepare_cached(
                "INSERT OR IGNORE INTO parcels(taker, first, live, bytes, gone, body, ids)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
            )?
            .execute(params![
                taker,
                signed(origin.first),
                signed(costs.len() as u64),
                costs
                    .iter()
                    .fold(0i64, |sum, cost| sum.saturating_add(*cost)),
                gone as i64,
                id,
                origin.ids
            ])?;
    }
    Ok(())
}

/// Takers that are lost, out of the second place of their names and of what is in their parcels. Their
/// books begin with what is left.
fn name_takers(fresh: &Connection) -> rusqlite::Result<()> {
    for kind in TakerKind::ALL {
        let entry = format!("{NAMED}{} ", kind.as_str());
        fresh.execute(
            "INSERT OR IGNORE INTO takers(id, kind, name)
             SELECT value, ?2, substr(name, length(?1) + 1) FROM meta
             WHERE substr(name, 1, length(?1)) = ?1 AND value > 0
                 AND value NOT IN (SELECT taker FROM garbage)",
            [entry.as_str(), kind.as_str()],
        )?;
    }
    let bodies: Vec<i64> = fresh
        .prepare(
            "SELECT min(body) FROM parcels WHERE taker NOT IN (SELECT id FROM takers)
             AND taker NOT IN (SELECT taker FROM garbage) GROUP BY taker",
        )?
        .query_map([], |row| row.get(0))?
        .collect::<rusqlite::Result<_>>()?;
    let mut insert =
        fresh.prepare("INSERT OR IGNORE INTO takers(id, kind, name) VALUES (?1, ?2, ?3)")?;
    let mut statement = fresh.prepare("SELECT body FROM bodies WHERE id = ?1")?;
    for id in bodies {
        let body: Vec<u8> = statement.query_row([id], |row| row.get(0))?;
        let origin = parcel::origin(&body);
        let named = origin.filter(|origin| TakerKind::parse(origin.kind).is_some());
        if let Some(origin) = named {
            insert.execute(params![signed(origin.taker), origin.kind, origin.name])?;
        }
    }
    Ok(())
}

/// Whether the taker has another parcel around these ids: a body that was there before it.
fn overlaps(fresh: &Connection, taker: i64, index: &Index) -> rusqlite::Result<bool> {
    let (Some((first, _)), Some((last, _))) = (index.first(), index.last()) else {
        return Ok(true);
    };
    let mut statement = fresh.prepare_cached(
        "SELECT first, ids FROM parcels WHERE taker = ?1 AND first <= ?2
         ORDER BY first DESC LIMIT 1",
    )?;
    let mut rows = statement.query([taker, signed(*last)])?;
    let Some(row) = rows.next()? else {
        return Ok(false);
    };
    let begin = row.get::<_, i64>(0)?.unsigned_abs();
    let there = parcel::index(begin, row.get_ref(1)?.as_blob()?);
    let end = there.and_then(|there| there.last().map(|(id, _)| *id));
    Ok(end.unwrap_or(begin) >= *first)
}

/// Messages of a parcel, a bit each, that have left it for a row of their own or the dead letters.
fn elsewhere(fresh: &Connection, origin: &Origin<'_>, index: &Index) -> rusqlite::Result<u64> {
    let mut statement = fresh.prepare_cached(
        "SELECT EXISTS (SELECT 1 FROM queue WHERE taker = ?1 AND message = ?2)
             OR EXISTS (SELECT 1 FROM buried WHERE message = ?2 AND kind = ?3 AND taker = ?4)",
    )?;
    let taker = signed(origin.taker);
    let mut gone = 0;
    for (at, (id, _)) in index.iter().enumerate() {
        let key = params![taker, signed(*id), origin.kind, origin.name];
        if statement.query_row(key, |row| row.get::<_, bool>(0))? {
            gone |= 1 << at;
        }
    }
    Ok(gone)
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
