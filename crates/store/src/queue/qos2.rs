//! What QoS 2 keeps: packet ids of both directions, written before the answer that rests on them.

use std::num::NonZeroU16;

use iotedge_model::DropReason;
use rusqlite::params;

use super::Settled;
use super::batch::{Batch, StagedRow};
use super::mirror::signed;
use crate::{RowState, TakerId};

type Sql<T> = rusqlite::Result<T>;

impl Batch<'_> {
    /// Only beside a session: without one nothing would ever remove it.
    pub(super) fn put_inbound(&self, client_id: &str, packet_id: NonZeroU16) -> Sql<()> {
        self.connection
            .prepare_cached(
                "INSERT OR IGNORE INTO unreleased(client_id, packet_id)
                 SELECT client_id, ?2 FROM sessions WHERE client_id = ?1",
            )?
            .execute(params![client_id, packet_id.get()])?;
        Ok(())
    }

    pub(super) fn release_inbound(&self, client_id: &str, packet_id: NonZeroU16) -> Sql<()> {
        self.connection
            .prepare_cached("DELETE FROM unreleased WHERE client_id = ?1 AND packet_id = ?2")?
            .execute(params![client_id, packet_id.get()])?;
        Ok(())
    }

    /// Never back from `Received`: its message must not be sent again.
    pub(super) fn mark_sent(
        &mut self,
        taker: TakerId,
        claimant: Option<TakerId>,
        id: u64,
        packet_id: NonZeroU16,
    ) -> Sql<()> {
        if let Some(staged) = self.row_in_hand(taker, id)? {
            if staged.state < RowState::Received {
                staged.state = RowState::Sent;
                staged.packet_id = Some(packet_id);
                staged.claimant = claimant;
            }
            return Ok(());
        }
        self.connection
            .prepare_cached(
                "UPDATE queue SET state = ?3, packet_id = ?4, claimed_by = ?5
                 WHERE taker = ?1 AND message = ?2 AND state <= ?3",
            )?
            .execute(params![
                signed(taker.0),
                signed(id),
                RowState::Sent.to_column(),
                packet_id.get(),
                claimant.map(|c| signed(c.0)),
            ])?;
        Ok(())
    }

    /// Only from `Sent`: nothing of it has left.
    pub(super) fn unmark(&mut self, taker: TakerId, id: u64) -> Sql<()> {
        if let Some(staged) = self.staged_row(taker, id) {
            if staged.state == RowState::Sent {
                staged.state = RowState::Queued;
                staged.packet_id = None;
                staged.claimant = None;
            }
            return Ok(());
        }
        self.connection
            .prepare_cached(
                "UPDATE queue SET state = ?3, packet_id = NULL, claimed_by = NULL
                 WHERE taker = ?1 AND message = ?2 AND state = ?4",
            )?
            .execute(params![
                signed(taker.0),
                signed(id),
                RowState::Queued.to_column(),
                RowState::Sent.to_column()
            ])?;
        Ok(())
    }

    /// What a session that ends had received of shared subscriptions, or may have: no other member
    /// gets it (5: [MQTT-4.8.2-5]).
    pub(super) fn drop_claimed(&mut self, session: TakerId) -> Sql<()> {
        self.write_staged()?;
        let rows: Vec<(i64, i64)> = self
            .connection
            .prepare_cached("SELECT taker, message FROM queue WHERE claimed_by = ?1")?
            .query_map([signed(session.0)], |row| Ok((row.get(0)?, row.get(1)?)))?
            .collect::<Sql<_>>()?;
        for (taker, id) in rows {
            let how = Settled::Dropped(DropReason::SessionEnded);
            self.settle(TakerId(taker.unsigned_abs()), id.unsigned_abs(), how)?;
        }
        Ok(())
    }

    /// Only from `Sent`: a PUBREC answers a packet id.
    pub(super) fn mark_received(&mut self, taker: TakerId, id: u64) -> Sql<()> {
        if let Some(staged) = self.staged_row(taker, id) {
            if staged.state == RowState::Sent {
                staged.state = RowState::Received;
            }
            return Ok(());
        }
        self.connection
            .prepare_cached(
                "UPDATE queue SET state = ?3 WHERE taker = ?1 AND message = ?2 AND state = ?4",
            )?
            .execute(params![
                signed(taker.0),
                signed(id),
                RowState::Received.to_column(),
                RowState::Sent.to_column()
            ])?;
        Ok(())
    }

    /// A row that is not in the file: it never was, or it comes out of a parcel.
    fn row_in_hand(&mut self, taker: TakerId, id: u64) -> Sql<Option<&mut StagedRow>> {
        if self.staged_row(taker, id).is_none() && !self.unpack_row(taker, id)? {
            return Ok(None);
        }
        Ok(self.staged_row(taker, id))
    }

    fn staged_row(&mut self, taker: TakerId, id: u64) -> Option<&mut StagedRow> {
        let staged = self.staged.get_mut(&id)?;
        staged.rows.iter_mut().find(|r| r.row.taker == taker)
    }
}
