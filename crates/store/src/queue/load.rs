//! What is read at start.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::num::NonZeroU32;
use std::sync::Arc;

use iotedge_model::{ClientId, DropReason, UnixMillis};
use iotedge_telemetry::event;
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::mirror::signed;
use super::recount;
use super::rows::{Bad, COLUMNS, Decoder, qos, unsigned};
use crate::{
    Account, Opened, SessionRecord, SubscriptionRecord, TakerId, TakerInfo, TakerKind, WillRecord,
};

/// A taker's drops. A reason that this version does not know counts with the damaged: the sum
/// stays right.
pub(crate) fn drops(
    connection: &Connection,
    taker: i64,
) -> rusqlite::Result<BTreeMap<DropReason, i64>> {
    let mut statement =
        connection.prepare_cached("SELECT reason, count FROM drops WHERE taker = ?1")?;
    let mut rows = statement.query([taker])?;
    let mut drops = BTreeMap::new();
    while let Some(row) = rows.next()? {
        let text: String = row.get(0)?;
        let count: i64 = row.get(1)?;
        let reason = DropReason::parse(&text).unwrap_or(DropReason::Damaged);
        let sum: &mut i64 = drops.entry(reason).or_default();
        *sum = sum.saturating_add(count);
    }
    Ok(drops)
}

pub(crate) fn known(connection: &Connection) -> rusqlite::Result<HashSet<TakerId>> {
    connection
        .prepare_cached("SELECT id FROM takers WHERE id > 0")?
        .query_map([], |row| {
            row.get(0).map(|id: i64| TakerId(id.unsigned_abs()))
        })?
        .collect()
}

pub(crate) fn reserved(connection: &Connection) -> rusqlite::Result<u64> {
    let value: Option<i64> = connection
        .prepare_cached("SELECT value FROM meta WHERE name = 'next_message_id'")?
        .query_row([], |row| row.get(0))
        .optional()?;
    Ok(value.and_then(|v| u64::try_from(v).ok()).unwrap_or(1))
}

/// The first number for a new taker: above all that have rows.
pub(crate) fn next_taker(connection: &Connection) -> rusqlite::Result<u64> {
    let highest: i64 = connection.query_row(
        "SELECT max((SELECT ifnull(max(id), 0) FROM takers), (SELECT ifnull(max(taker), 0) FROM garbage))",
        [],
        |row| row.get(0),
    )?;
    Ok(highest.unsigned_abs() + 1)
}

/// The books of one taker.
fn account(connection: &Connection, row: &Row<'_>) -> Result<Account, Bad> {
    let id: i64 = row.get(0)?;
    Ok(Account {
        accepted: unsigned(row, 3)?,
        delivered: unsigned(row, 4)?,
        queued: unsigned(row, 5)?,
        queued_bytes: unsigned(row, 6)?,
        dropped: drops(connection, id)?
            .into_iter()
            .map(|(reason, n)| (reason, n.unsigned_abs()))
            .collect::<BTreeMap<_, _>>(),
    })
}

/// Keeps what could be decoded; notes what could not and goes on.
fn keep<T>(
    decoded: Result<T, Bad>,
    table: &str,
    opened: &mut Opened,
) -> rusqlite::Result<Option<T>> {
    match decoded {
        Ok(value) => Ok(Some(value)),
        Err(Bad::Sqlite(error)) => Err(error),
        Err(Bad::Content(what)) => {
            tracing::error!(
                event = event::STORE,
                table,
                what,
                "a row is not as it was written"
            );
            opened.unreadable.push(format!("{table}: {what}"));
            Ok(None)
        }
    }
}

/// Fills in all but the next message id; gives the books of removed takers.
pub(crate) fn load(connection: &Connection, opened: &mut Opened) -> rusqlite::Result<Account> {
    recount::mend(connection)?;
    let removed = takers(connection, opened)?;
    let mut subscriptions = subscriptions(connection, opened)?;
    let mut unreleased = unreleased(connection, opened)?;
    let mut decoder = Decoder::default();
    let mut statement = connection.prepare(
        "SELECT client_id, taker, principal, protocol_level, expiry, created_at, ended_at,
         ended_trusted, waited, identifier FROM sessions",
    )?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let session = session(row, &mut decoder, &mut subscriptions, &mut unreleased);
        let session = keep(session, "sessions", opened)?;
        opened.sessions.extend(session);
    }
    drop(rows);
    find_queues(connection, opened)?;
    let mut statement = connection.prepare(&format!("SELECT id, {COLUMNS} FROM retained"))?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let message = keep(decoder.message(row, 0), "retained", opened)?;
        opened.retained.extend(message);
    }
    let sql = format!("SELECT id, {COLUMNS}, delay FROM wills ORDER BY id");
    let mut statement = connection.prepare(&sql)?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let will = keep(will(row, &mut decoder), "wills", opened)?;
        opened.wills.extend(will);
    }
    Ok(removed)
}

/// Takers with their books; gives those of removed ones.
fn takers(connection: &Connection, opened: &mut Opened) -> rusqlite::Result<Account> {
    let mut removed = Account::default();
    let mut statement = connection.prepare(
        "SELECT id, kind, name, accepted, delivered, rows, bytes FROM takers ORDER BY id",
    )?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let id: i64 = row.get(0)?;
        if id == 0 {
            removed = keep(account(connection, row), "takers", opened)?.unwrap_or_default();
            continue;
        }
        let taker = keep(taker(connection, row), "takers", opened)?;
        opened.takers.extend(taker);
    }
    Ok(removed)
}

/// A session whose queue is not the one of its name would lose what comes for it.
fn find_queues(connection: &Connection, opened: &mut Opened) -> rusqlite::Result<()> {
    let of_sessions = opened.takers.iter();
    let of_sessions = of_sessions.filter(|taker| taker.kind == TakerKind::Session);
    let by_name: HashMap<Arc<str>, TakerId> = of_sessions
        .map(|taker| (taker.name.clone(), taker.id))
        .collect();
    let readable: HashSet<TakerId> = opened.takers.iter().map(|taker| taker.id).collect();
    let mut made = false;
    for session in &mut opened.sessions {
        let name = session.client_id.as_str();
        let there = by_name.get(name).copied();
        if there == Some(session.taker) {
            continue;
        }
        let taker = match there {
            Some(taker) => taker,
            None => {
                made = true;
                make_queue(connection, name, session.taker, &readable)?
            }
        };
        tracing::error!(
            event = event::STORE,
            client_id = name,
            named = session.taker.0,
            taker = taker.0,
            "a session's queue was not there"
        );
        connection.execute(
            "UPDATE sessions SET taker = ?2 WHERE client_id = ?1",
            params![name, signed(taker.0)],
        )?;
        session.taker = taker;
    }
    if !made {
        return Ok(());
    }
    recount::mend(connection)?;
    opened.takers.clear();
    takers(connection, opened).map(drop)
}

/// A queue for a session: with the number that its record has, where nobody else has it.
fn make_queue(
    connection: &Connection,
    name: &str,
    wanted: TakerId,
    readable: &HashSet<TakerId>,
) -> rusqlite::Result<TakerId> {
    let is_garbage: bool = connection.query_row(
        "SELECT EXISTS (SELECT 1 FROM garbage WHERE taker = ?1)",
        [signed(wanted.0)],
        |row| row.get(0),
    )?;
    let next = next_taker(connection)?;
    // A number far from all that were given is none that was.
    let free = (1..next.saturating_add(1 << 20)).contains(&wanted.0)
        && !is_garbage
        && !readable.contains(&wanted);
    let id = if free { wanted } else { TakerId(next) };
    connection.execute(
        "INSERT INTO takers(id, kind, name) VALUES (?1, ?2, ?3)
         ON CONFLICT(id) DO UPDATE SET kind = excluded.kind, name = excluded.name",
        params![signed(id.0), TakerKind::Session.as_str(), name],
    )?;
    // Rows wait for it that no books have.
    connection.execute("UPDATE takers SET rows = -1 WHERE id = ?1", [signed(id.0)])?;
    Ok(id)
}

fn taker(connection: &Connection, row: &Row<'_>) -> Result<TakerInfo, Bad> {
    let kind: String = row.get(1)?;
    let name: String = row.get(2)?;
    Ok(TakerInfo {
        id: TakerId(unsigned(row, 0)?),
        kind: TakerKind::parse(&kind).ok_or(Bad::Content("the kind of a taker"))?,
        name: Arc::from(name),
        account: account(connection, row)?,
    })
}

type Subscriptions = HashMap<String, Vec<SubscriptionRecord>>;

fn session(
    row: &Row<'_>,
    decoder: &mut Decoder,
    subscriptions: &mut Subscriptions,
    unreleased: &mut Unreleased,
) -> Result<SessionRecord, Bad> {
    let client_id: String = row.get(0)?;
    let principal: String = row.get(2)?;
    let ended_at: Option<i64> = row.get(6)?;
    Ok(SessionRecord {
        subscriptions: subscriptions.remove(&client_id).unwrap_or_default(),
        unreleased: unreleased.remove(&client_id).unwrap_or_default(),
        client_id: ClientId::new(&client_id).map_err(|_| Bad::Content("a client id"))?,
        taker: TakerId(unsigned(row, 1)?),
        principal: decoder.principal(&principal)?,
        protocol_level: row.get(3)?,
        expiry: row.get(4)?,
        identifier: row
            .get::<_, Option<[u8; 16]>>(9)?
            .map_or(0, u128::from_be_bytes),
        created_at: UnixMillis(unsigned(row, 5)?),
        ended_at: ended_at.map(|at| UnixMillis(at.unsigned_abs())),
        ended_trusted: row.get(7)?,
        waited: unsigned(row, 8)?,
    })
}

fn will(row: &Row<'_>, decoder: &mut Decoder) -> Result<WillRecord, Bad> {
    Ok(WillRecord {
        delay: row.get(14)?,
        message: decoder.message(row, 0)?,
    })
}

fn subscriptions(connection: &Connection, opened: &mut Opened) -> rusqlite::Result<Subscriptions> {
    let mut by_client = Subscriptions::new();
    let mut statement = connection.prepare(
        "SELECT client_id, text, qos, no_local, retain_as_published, retain_handling, identifier
         FROM subscriptions",
    )?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let found = keep(subscription(row), "subscriptions", opened)?;
        if let Some((client_id, record)) = found {
            by_client.entry(client_id).or_default().push(record);
        }
    }
    Ok(by_client)
}

type Unreleased = HashMap<String, Vec<u16>>;

fn unreleased(connection: &Connection, opened: &mut Opened) -> rusqlite::Result<Unreleased> {
    let mut by_client = Unreleased::new();
    let mut statement = connection
        .prepare("SELECT client_id, packet_id FROM unreleased ORDER BY client_id, packet_id")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let pair = (|| Ok((row.get::<_, String>(0)?, row.get::<_, u16>(1)?)))();
        if let Some((client_id, packet_id)) = keep(pair, "unreleased", opened)? {
            by_client.entry(client_id).or_default().push(packet_id);
        }
    }
    Ok(by_client)
}

fn subscription(row: &Row<'_>) -> Result<(String, SubscriptionRecord), Bad> {
    let text: String = row.get(1)?;
    let identifier: Option<u32> = row.get(6)?;
    let record = SubscriptionRecord {
        text: Arc::from(text),
        qos: qos(row, 2)?,
        no_local: row.get(3)?,
        retain_as_published: row.get(4)?,
        retain_handling: row.get(5)?,
        identifier: identifier.and_then(NonZeroU32::new),
    };
    Ok((row.get(0)?, record))
}
