//! What QoS 2 keeps: packet ids of both directions, written before the answer that rests on them.

use std::num::NonZeroU16;

use rusqlite::params;

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
    pub(super) fn mark_sent(&mut self, taker: TakerId, id: u64, packet_id: NonZeroU16) -> Sql<()> {
        if let Some(staged) = self.staged_row(taker, id) {
            if staged.state < RowState::Received {
                staged.state = RowState::Sent;
                staged.packet_id = Some(packet_id);
            }
            return Ok(());
        }
        self.connection
            .prepare_cached(
                "UPDATE queue SET state = ?3, packet_id = ?4
                 WHERE taker = ?1 AND message = ?2 AND state <= ?3",
            )?
            .execute(params![
                signed(taker.0),
                signed(id),
                RowState::Sent.to_column(),
                packet_id.get()
            ])?;
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

    fn staged_row(&mut self, taker: TakerId, id: u64) -> Option<&mut StagedRow> {
        let staged = self.staged.get_mut(&id)?;
        staged.rows.iter_mut().find(|r| r.row.taker == taker)
    }
}
