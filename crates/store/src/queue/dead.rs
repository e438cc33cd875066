//! Dead letters: messages that a taker will never get as they are, kept for a person to look at.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use iotedge_model::{DropReason, Message, MessageId, QoS, SubscriptionIds, UnixMillis};
use iotedge_telemetry::event;
use rusqlite::{Connection, OptionalExtension, Row, params};
use thiserror::Error;

use super::batch::{Batch, cost};
use super::mirror::signed;
use super::rows::{Bad, COLUMNS, Decoder, identifiers, identifiers_column, qos, unsigned};
use super::{Burial, Ending, Settled};
use crate::{Append, StoreError, TakerId, TakerKind, TakerRow};

type Sql<T> = rusqlite::Result<T>;

impl Burial {
    /// How it is counted.
    pub(super) fn settled(&self) -> Settled {
        Settled::Dropped(match self.kind {
            TakerKind::Outbox => DropReason::ActionFailed,
            _ => DropReason::UpstreamRefused,
        })
    }
}

/// A message taken out of a queue for good, with what it takes to put it back.
#[derive(Debug, Clone, PartialEq)]
pub struct DeadLetter {
    /// Its number; none is given twice. Older ones have lower numbers.
    pub id: u64,
    /// What the taker was.
    pub kind: TakerKind,
    /// The taker's name; it may be gone by now.
    pub taker: Arc<str>,
    /// Why it was buried, in words.
    pub reason: Arc<str>,
    /// When, by the wall clock.
    pub died_at: UnixMillis,
    /// The message with its whole envelope and the id it had.
    pub message: Message,
    /// QoS of the delivery.
    pub qos: QoS,
    /// RETAIN flag of the delivery.
    pub retain: bool,
    /// Subscription identifiers of the delivery.
    pub identifiers: SubscriptionIds,
}

/// Why a dead letter was not revived.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum DeadLetterError {
    /// It was removed, revived, or went for its age.
    #[error("there is no dead letter {id}")]
    Absent {
        /// The number asked for.
        id: u64,
    },
    /// The taker it died for was removed.
    #[error("there is no {kind:?} \"{name}\" any more")]
    NoTaker {
        /// What it was.
        kind: TakerKind,
        /// Its name.
        name: Arc<str>,
    },
    /// The file could not be read.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Bytes of dead letters: what a transaction adds and takes.
pub(super) struct DeadBytes {
    most: u64,
    change: i64,
    grew: bool,
}

impl DeadBytes {
    pub(super) fn new(most: u64) -> Self {
        Self {
            most,
            change: 0,
            grew: false,
        }
    }
}

const KEPT: &str = "kind, taker, reason, died_at, bytes, taker_qos, taker_retain, identifiers";

impl Batch<'_> {
    /// A row becomes a dead letter: out of this very transaction, or out of the file.
    pub(super) fn bury(&mut self, taker: TakerId, id: u64, burial: &Arc<Burial>) -> Sql<()> {
        if !self.known.contains(&taker) {
            // As in `settle`.
            return Ok(());
        }
        if let Some((message, row)) = self.unstage(taker, id) {
            self.write_dead(&message, &row, burial)?;
            self.count_settled(taker, cost(&message), burial.settled());
            return Ok(());
        }
        if self.unpack_row(taker, id)? {
            return self.bury(taker, id, burial);
        }
        self.move_dead(taker, id, burial)?;
        match self.delete_row(taker, id)? {
            Some(bytes) => self.count_settled(taker, bytes, burial.settled()),
            None => self
                .early
                .remember(taker, id, Ending::Buried(burial.clone())),
        }
        Ok(())
    }

    pub(super) fn write_dead(
        &mut self,
        message: &Message,
        row: &TakerRow,
        burial: &Burial,
    ) -> Sql<()> {
        static SQL: OnceLock<String> = OnceLock::new();
        let sql = SQL.get_or_init(|| {
            format!(
                "INSERT INTO dead_letters(message, {COLUMNS}, {KEPT})
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14,
                     ?15, ?16, ?17, ?18, ?19, ?20, ?21, ?22)"
            )
        });
        let kept = params![
            burial.kind.as_str(),
            &*burial.name,
            &*burial.reason,
            signed(burial.died_at.0),
            cost(message),
            u8::from(row.qos),
            row.retain,
            identifiers_column(&row.identifiers),
        ];
        self.encoder.insert(self.connection, sql, message, kept)?;
        self.dead.change = self.dead.change.saturating_add(cost(message));
        self.dead.grew = true;
        Ok(())
    }

    /// Copies a row of the file with its message; nothing when it or its message is not there.
    fn move_dead(&mut self, taker: TakerId, id: u64, burial: &Burial) -> Sql<()> {
        static SQL: OnceLock<String> = OnceLock::new();
        let sql = SQL.get_or_init(|| {
            format!(
                "INSERT INTO dead_letters(message, {COLUMNS}, {KEPT})
                 SELECT id, {COLUMNS}, ?3, ?4, ?5, ?6, bytes, taker_qos, taker_retain, identifiers
                 FROM (SELECT id, {COLUMNS} FROM messages WHERE id = ?2),
                     (SELECT bytes, qos AS taker_qos, retain AS taker_retain, identifiers
                      FROM queue WHERE taker = ?1 AND message = ?2)
                 RETURNING bytes"
            )
        });
        let bytes: Option<i64> = self
            .connection
            .prepare_cached(sql)?
            .query_row(
                params![
                    signed(taker.0),
                    signed(id),
                    burial.kind.as_str(),
                    &*burial.name,
                    &*burial.reason,
                    signed(burial.died_at.0),
                ],
                |row| row.get(0),
            )
            .optional()?;
        if let Some(bytes) = bytes {
            self.dead.change = self.dead.change.saturating_add(bytes);
            self.dead.grew = true;
        }
        Ok(())
    }

    /// Back into its taker's queue, as a new message; nothing when either is gone.
    pub(super) fn revive(&mut self, letter: u64, taker: TakerId, id: MessageId) -> Sql<()> {
        if !self.known.contains(&taker) {
            return Ok(());
        }
        let Some(found) = one(self.connection, letter)? else {
            return Ok(());
        };
        self.remove_dead(letter)?;
        let row = TakerRow {
            taker,
            qos: found.qos,
            retain: found.retain,
            identifiers: found.identifiers,
        };
        let mut message = found.message;
        message.id = id;
        self.stage(&Append::new(Arc::new(message), vec![row], None))
    }

    pub(super) fn remove_dead(&mut self, letter: u64) -> Sql<()> {
        let bytes: Option<i64> = self
            .connection
            .prepare_cached("DELETE FROM dead_letters WHERE id = ?1 RETURNING bytes")?
            .query_row([signed(letter)], |row| row.get(0))
            .optional()?;
        self.dead.change = self.dead.change.saturating_sub(bytes.unwrap_or(0));
        Ok(())
    }

    /// Notes how many bytes there are; above the limit the oldest go.
    pub(super) fn write_dead_bytes(&mut self) -> Sql<()> {
        if self.dead.change == 0 && !self.dead.grew {
            return Ok(());
        }
        let known: Option<i64> = self
            .connection
            .prepare_cached("SELECT value FROM meta WHERE name = 'dead_bytes'")?
            .query_row([], |row| row.get(0))
            .optional()?;
        let mut bytes = known.unwrap_or(0).saturating_add(self.dead.change);
        let mut gone = 0u64;
        while self.dead.grew && bytes > signed(self.dead.most) {
            let oldest: Option<i64> = self
                .connection
                .prepare_cached(
                    "DELETE FROM dead_letters WHERE id = (SELECT min(id) FROM dead_letters)
                     RETURNING bytes",
                )?
                .query_row([], |row| row.get(0))
                .optional()?;
            let Some(oldest) = oldest else { break };
            bytes = bytes.saturating_sub(oldest);
            gone += 1;
        }
        if gone > 0 {
            tracing::warn!(
                event = event::STORE,
                gone,
                limit = self.dead.most,
                "the oldest dead letters made room"
            );
        }
        self.connection
            .prepare_cached("INSERT OR REPLACE INTO meta(name, value) VALUES ('dead_bytes', ?1)")?
            .execute([bytes])?;
        Ok(())
    }
}

fn select() -> &'static str {
    static SQL: OnceLock<String> = OnceLock::new();
    SQL.get_or_init(|| {
        format!("SELECT message, {COLUMNS}, {KEPT}, id FROM dead_letters WHERE id > ?1 ORDER BY id")
    })
}

/// Columns of `select` before those of the letter itself: the message's id and envelope.
const MESSAGE: usize = 14;

fn decode(decoder: &mut Decoder, row: &Row<'_>) -> Result<DeadLetter, Bad> {
    let kind: String = row.get(MESSAGE)?;
    let taker: String = row.get(MESSAGE + 1)?;
    let reason: String = row.get(MESSAGE + 2)?;
    Ok(DeadLetter {
        message: decoder.message(row, 0)?,
        kind: TakerKind::parse(&kind).ok_or(Bad::Content("the kind of a taker"))?,
        taker: Arc::from(taker),
        reason: Arc::from(reason),
        died_at: UnixMillis(unsigned(row, MESSAGE + 3)?),
        qos: qos(row, MESSAGE + 5)?,
        retain: row.get(MESSAGE + 6)?,
        identifiers: identifiers(row, MESSAGE + 7)?,
        id: unsigned(row, MESSAGE + 8)?,
    })
}

/// Dead letters after `after`, oldest first, at most `limit`. One that is not as it was written is
/// passed over.
pub(crate) fn list(connection: &Connection, after: i64, limit: usize) -> Sql<Vec<DeadLetter>> {
    let mut statement = connection.prepare_cached(select())?;
    let mut rows = statement.query([after])?;
    let mut decoder = Decoder::default();
    let mut letters = Vec::new();
    while letters.len() < limit {
        let Some(row) = rows.next()? else { break };
        match decode(&mut decoder, row) {
            Ok(letter) => letters.push(letter),
            Err(Bad::Sqlite(error)) => return Err(error),
            Err(Bad::Content(what)) => {
                tracing::error!(
                    event = event::STORE,
                    what,
                    "a dead letter is not as it was written"
                );
            }
        }
    }
    Ok(letters)
}

/// How many there are of each taker of this kind, by its name.
pub(crate) fn counts(connection: &Connection, kind: TakerKind) -> Sql<BTreeMap<String, u64>> {
    let mut statement = connection.prepare_cached(
        "SELECT taker, count(*) FROM dead_letters WHERE kind = ?1 GROUP BY taker",
    )?;
    let mut rows = statement.query([kind.as_str()])?;
    let mut counts = BTreeMap::new();
    while let Some(row) = rows.next()? {
        let count: i64 = row.get(1)?;
        counts.insert(row.get(0)?, count.unsigned_abs());
    }
    Ok(counts)
}

/// The dead letter of this number.
pub(crate) fn one(connection: &Connection, id: u64) -> Sql<Option<DeadLetter>> {
    let found = list(connection, signed(id).saturating_sub(1), 1)?;
    Ok(found.into_iter().find(|letter| letter.id == id))
}
