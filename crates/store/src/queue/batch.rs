//! One transaction on `queue.db`.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::num::NonZeroU16;
use std::sync::{Arc, OnceLock};

use iotedge_model::{DropReason, Message, MessageId, Topic};
use rusqlite::{Connection, OptionalExtension, params};

use super::bulk;
use super::dead::DeadBytes;
use super::early::Early;
use super::memory::Memory;
use super::mirror::{REMOVED, Tallies, Tally, signed};
use super::parcels::{Last, Opened, Packing};
use super::recount::COST;
use super::rows::{COLUMNS, Encoder, identifiers_column, sum};
use super::{Ending, Op, Settled};
use crate::types::id_column;
use crate::{Append, RetainedChange, RowState, TakerId, TakerRow};

type Sql<T> = rusqlite::Result<T>;

/// Message ids are reserved in blocks of this size ([`crate::Opened::next_message_id`]).
pub(crate) const ID_BLOCK: u64 = 1 << 32;

/// A message and those of its rows that are not in the file yet.
pub(super) struct Staged {
    pub(super) message: Arc<Message>,
    pub(super) rows: Vec<StagedRow>,
}

pub(super) struct StagedRow {
    pub(super) row: TakerRow,
    pub(super) state: RowState,
    pub(super) packet_id: Option<NonZeroU16>,
    pub(super) claimant: Option<TakerId>,
}

/// What one transaction collects before it writes: rows that come and go within it are never
/// written, counters and reference counts are written once.
pub(crate) struct Batch<'a> {
    pub(super) connection: &'a Connection,
    pub(super) encoder: &'a mut Encoder,
    pub(super) known: &'a mut HashSet<TakerId>,
    reserved: &'a mut u64,
    pub(super) early: &'a mut Early,
    pub(super) dead: DeadBytes,
    pub(super) staged: BTreeMap<u64, Staged>,
    pub(super) retained: HashMap<Topic, Option<Arc<Message>>>,
    released: HashMap<i64, i64>,
    pub(super) last: &'a mut Last,
    pub(super) parcels: Opened,
    /// Takers of which a parcel is not as it was written.
    pub(super) crooked: HashSet<TakerId>,
    pub(super) tallies: Tallies,
    /// What earlier messages came to that were never written: booked, and not in the file.
    pub(super) owed: Tallies,
    pub(super) booked_removed: Tally,
    pub(super) highest: u64,
}

impl<'a> Batch<'a> {
    pub(crate) fn new(
        connection: &'a Connection,
        memory: &'a mut Memory,
        max_dead_bytes: u64,
    ) -> Self {
        let Memory {
            encoder,
            known,
            reserved,
            early,
            last,
            owed,
        } = memory;
        Self {
            connection,
            encoder,
            known,
            reserved,
            early,
            dead: DeadBytes::new(max_dead_bytes),
            staged: BTreeMap::new(),
            retained: HashMap::new(),
            released: HashMap::new(),
            last,
            parcels: Opened::new(),
            crooked: HashSet::new(),
            tallies: Tallies::new(),
            owed: owed.tallies.clone(),
            booked_removed: Tally::default(),
            highest: owed.highest,
        }
    }

    pub(crate) fn apply(&mut self, op: &Op) -> Sql<()> {
        match op {
            Op::CreateTaker { id, kind, name } => self.create_taker(*id, *kind, name),
            Op::RemoveTaker { id, reason } => self.remove_taker(*id, *reason),
            Op::Append(entries) => {
                for entry in entries {
                    self.stage(entry)?;
                    if let Some((client_id, packet_id)) = &entry.inbound {
                        self.put_inbound(client_id.as_str(), *packet_id)?;
                    }
                }
                Ok(())
            }
            Op::Settle {
                taker, ids, how, ..
            } => ids
                .iter()
                .try_for_each(|id| self.settle(*taker, id.0, *how)),
            Op::Bury { taker, ids, burial } => ids
                .iter()
                .try_for_each(|id| self.bury(*taker, id.0, burial)),
            Op::Revive {
                letter,
                taker,
                message,
                ..
            } => self.revive(*letter, *taker, *message),
            Op::RemoveDead { letter } => self.remove_dead(*letter),
            Op::MarkSent {
                taker,
                claimant,
                sent,
            } => sent.iter().try_for_each(|(id, packet_id)| {
                self.mark_sent(*taker, *claimant, id.0, *packet_id)
            }),
            Op::Unmark { taker, ids } => ids.iter().try_for_each(|id| self.unmark(*taker, id.0)),
            Op::MarkReceived { taker, id } => self.mark_received(*taker, id.0),
            Op::ReleaseInbound {
                client_id,
                packet_id,
            } => self.release_inbound(client_id, *packet_id),
            Op::CountDrop { taker, reason, n } => {
                if self.known.contains(taker) {
                    let tally = self.tallies.entry(*taker).or_default();
                    tally.accepted += signed(*n);
                    tally.drop(*reason, signed(*n));
                }
                Ok(())
            }
            Op::PutSession(session) => self.put_session(session),
            Op::RemoveSession { client_id, taker } => self.remove_session(client_id, *taker),
            Op::PutWill(will) => self.put_will(will),
            Op::RemoveWill { id } => self.remove_will(*id),
            Op::RemoveRetained { topic, id } => self.remove_retained(topic, *id),
            Op::PutSubscription { client_id, record } => {
                self.put_subscription(client_id.as_str(), record)
            }
            Op::RemoveSubscription { client_id, text } => self.remove_subscription(client_id, text),
        }
    }

    pub(super) fn stage(&mut self, entry: &Append) -> Sql<()> {
        let message = &entry.message;
        self.highest = self.highest.max(message.id.0);
        match entry.retained {
            Some(RetainedChange::Set) => {
                self.retained
                    .insert(message.topic.clone(), Some(message.clone()));
            }
            Some(RetainedChange::Clear) => {
                self.retained.insert(message.topic.clone(), None);
            }
            None => {}
        }
        for row in &entry.takers {
            if !self.known.contains(&row.taker) {
                continue;
            }
            if let Some(ending) = self.early.take(row.taker, message.id.0) {
                let how = match &ending {
                    Ending::Settled(how) => *how,
                    Ending::Buried(burial) => {
                        self.write_dead(message, row, burial)?;
                        burial.settled()
                    }
                };
                let tally = self.tallies.entry(row.taker).or_default();
                tally.accepted += 1;
                how.count(tally);
                continue;
            }
            let staged = self.staged.entry(message.id.0).or_insert_with(|| Staged {
                message: message.clone(),
                rows: Vec::with_capacity(entry.takers.len()),
            });
            if staged.rows.iter().any(|r| r.row.taker == row.taker) {
                continue;
            }
            staged.rows.push(StagedRow {
                row: row.clone(),
                state: RowState::Queued,
                packet_id: None,
                claimant: None,
            });
            let tally = self.tallies.entry(row.taker).or_default();
            tally.accepted += 1;
            tally.rows += 1;
            tally.bytes += cost(message);
        }
        Ok(())
    }

    /// A row goes: out of this very transaction, or out of the file.
    pub(super) fn settle(&mut self, taker: TakerId, id: u64, how: Settled) -> Sql<()> {
        if !self.known.contains(&taker) {
            // It was removed, and its rows were counted then.
            return Ok(());
        }
        let bytes = match self.unstage(taker, id) {
            Some((message, _)) => Some(cost(&message)),
            None => self.delete_row(taker, id)?,
        };
        match bytes {
            Some(bytes) => self.count_settled(taker, bytes, how),
            None if how == Settled::Dropped(DropReason::Damaged)
                && self.drop_unreadable(taker, id)? => {}
            // It was settled before, or its append failed, or is still to come.
            None => self.early.remember(taker, id, Ending::Settled(how)),
        }
        Ok(())
    }

    /// Its bytes, when it was there.
    pub(super) fn delete_row(&mut self, taker: TakerId, id: u64) -> Sql<Option<i64>> {
        if let Some(bytes) = self.take_parceled(taker, id)? {
            return Ok(Some(bytes));
        }
        let id = signed(id);
        let bytes: Option<i64> = self
            .connection
            .prepare_cached("DELETE FROM queue WHERE taker = ?1 AND message = ?2 RETURNING bytes")?
            .query_row([signed(taker.0), id], |row| row.get(0))
            .optional()?;
        if bytes.is_some() {
            *self.released.entry(id).or_default() += 1;
        }
        Ok(bytes.map(|bytes| bytes.clamp(0, COST)))
    }

    pub(super) fn count_settled(&mut self, taker: TakerId, bytes: i64, how: Settled) {
        let tally = self.tallies.entry(taker).or_default();
        tally.rows -= 1;
        tally.bytes = tally.bytes.saturating_sub(bytes);
        how.count(tally);
    }

    pub(super) fn unstage(&mut self, taker: TakerId, id: u64) -> Option<(Arc<Message>, TakerRow)> {
        let staged = self.staged.get_mut(&id)?;
        let at = staged.rows.iter().position(|r| r.row.taker == taker)?;
        let gone = staged.rows.swap_remove(at);
        Some((staged.message.clone(), gone.row))
    }

    pub(super) fn write_staged(&mut self) -> Sql<()> {
        let staged = std::mem::take(&mut self.staged).into_values();
        let staged: Vec<Staged> = staged.filter(|s| !s.rows.is_empty()).collect();
        self.know_last(&staged)?;
        let mut packing = Packing::default();
        let last = &*self.last;
        let staged: Vec<Staged> = staged
            .into_iter()
            .filter_map(|staged| packing.add(staged, last))
            .collect();
        self.write_parcels(packing)?;
        for chunk in staged.chunks(bulk::ROWS) {
            if self.is_new(chunk) && bulk::write(self.connection, self.encoder, chunk)? {
                for staged in chunk {
                    for row in &staged.rows {
                        self.is_last(row.row.taker, staged.message.id);
                    }
                }
            } else {
                self.write_one_by_one(chunk)?;
            }
        }
        Ok(())
    }

    /// Whether all are behind what their takers have.
    fn is_new(&self, staged: &[Staged]) -> bool {
        staged.iter().all(|staged| {
            let mut takers = staged.rows.iter().map(|row| row.row.taker);
            takers.all(|taker| {
                self.last
                    .get(&taker)
                    .is_some_and(|l| staged.message.id.0 > *l)
            })
        })
    }

    fn write_one_by_one(&mut self, staged: &[Staged]) -> Sql<()> {
        for staged in staged {
            let message = &*staged.message;
            let mut refs = 0;
            for row in &staged.rows {
                refs += self.write_row(message, row)?;
            }
            if refs > 0 {
                write_message(self.connection, self.encoder, message, refs)?;
            }
        }
        Ok(())
    }

    /// 1, or 0 when the taker has this message already.
    fn write_row(&mut self, message: &Message, staged: &StagedRow) -> Sql<i64> {
        let row = &staged.row;
        if self.is_parceled(row.taker, message.id.0)? {
            self.count_twice(row.taker, message);
            return Ok(0);
        }
        let written = self
            .connection
            .prepare_cached(
                "INSERT INTO queue(taker, message, qos, retain, bytes, identifiers, state, packet_id,
                 claimed_by) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9) ON CONFLICT DO NOTHING",
            )?
            .execute(params![
                signed(row.taker.0),
                id_column(message.id),
                u8::from(row.qos),
                row.retain,
                cost(message),
                identifiers_column(&row.identifiers),
                staged.state.to_column(),
                staged.packet_id.map(NonZeroU16::get),
                staged.claimant.map(|c| signed(c.0)),
            ])?;
        if written == 0 {
            self.count_twice(row.taker, message);
            return Ok(0);
        }
        self.is_last(row.taker, message.id);
        Ok(1)
    }

    pub(super) fn is_last(&mut self, taker: TakerId, id: MessageId) {
        let last = self.last.entry(taker).or_default();
        *last = id.0.max(*last);
    }

    /// The taker has it already.
    fn count_twice(&mut self, taker: TakerId, message: &Message) {
        let tally = self.tallies.entry(taker).or_default();
        tally.accepted -= 1;
        tally.rows -= 1;
        tally.bytes -= cost(message);
    }

    /// Writes what was collected; gives the changes of the books.
    pub(crate) fn finish(mut self) -> Sql<Tallies> {
        // First what goes: its pages serve what comes.
        for (id, count) in std::mem::take(&mut self.released) {
            release(self.connection, id, count)?;
        }
        self.write_taken()?;
        self.write_staged()?;
        self.write_retained()?;
        self.write_dead_bytes()?;
        for (id, tally) in &self.tallies {
            if let Some(owed) = self.owed.get_mut(id) {
                owed.add(tally, 1);
            } else {
                write_tally(self.connection, *id, tally)?;
            }
        }
        for (id, tally) in &self.owed {
            write_tally(self.connection, *id, tally)?;
        }
        self.recount()?;
        if self.highest.saturating_add(ID_BLOCK / 2) > *self.reserved {
            let reserved = self.highest.saturating_add(ID_BLOCK);
            write_reserved(self.connection, reserved)?;
            *self.reserved = reserved;
        }
        if self.booked_removed != Tally::default() {
            self.tallies.insert(REMOVED, self.booked_removed);
        }
        Ok(self.tallies)
    }
}

impl Settled {
    pub(super) fn count(self, tally: &mut Tally) {
        match self {
            Self::Delivered => tally.delivered += 1,
            Self::Dropped(reason) => tally.drop(reason, 1),
        }
    }
}

pub(crate) fn cost(message: &Message) -> i64 {
    i64::try_from(message.cost()).unwrap_or(i64::MAX)
}

pub(crate) fn write_reserved(connection: &Connection, reserved: u64) -> Sql<()> {
    connection
        .prepare_cached("INSERT OR REPLACE INTO meta(name, value) VALUES ('next_message_id', ?1)")?
        .execute([signed(reserved)])?;
    Ok(())
}

fn write_message(
    connection: &Connection,
    encoder: &mut Encoder,
    message: &Message,
    refs: i64,
) -> Sql<()> {
    static SQL: OnceLock<String> = OnceLock::new();
    let sql = SQL.get_or_init(|| {
        format!(
            "INSERT INTO messages(id, {COLUMNS}, refs, sum)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16)
             ON CONFLICT(id) DO UPDATE SET refs = refs + excluded.refs"
        )
    });
    encoder.insert(connection, sql, message, &[&refs, &sum(message)])?;
    Ok(())
}

/// `count` rows of a message went; it goes with the last.
pub(crate) fn release(connection: &Connection, id: i64, count: i64) -> Sql<()> {
    let gone = connection
        .prepare_cached("DELETE FROM messages WHERE id = ?1 AND refs <= ?2")?
        .execute([id, count])?;
    if gone == 0 {
        connection
            .prepare_cached("UPDATE messages SET refs = refs - ?2 WHERE id = ?1")?
            .execute([id, count])?;
    }
    Ok(())
}

pub(super) fn write_tally(connection: &Connection, id: TakerId, tally: &Tally) -> Sql<()> {
    let key = signed(id.0);
    connection
        .prepare_cached(
            "UPDATE takers SET accepted = accepted + ?2, delivered = delivered + ?3,
             rows = rows + ?4, bytes = bytes + ?5 WHERE id = ?1",
        )?
        .execute([
            key,
            tally.accepted,
            tally.delivered,
            tally.rows,
            tally.bytes,
        ])?;
    for (reason, count) in &tally.dropped {
        connection
            .prepare_cached(
                "INSERT INTO drops(taker, reason, count) VALUES (?1, ?2, ?3)
                 ON CONFLICT(taker, reason) DO UPDATE SET count = count + excluded.count",
            )?
            .execute(params![key, reason.as_str(), count])?;
    }
    Ok(())
}
