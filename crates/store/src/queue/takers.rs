//! Takers come and go.

use iotedge_model::DropReason;
use rusqlite::{OptionalExtension, params};

use super::batch::{Batch, write_tally};
use super::mirror::{REMOVED, Tally, signed};
use crate::{TakerId, TakerKind};

type Sql<T> = rusqlite::Result<T>;

/// What the entry of `meta` begins with that has a taker's name a second time, far from the first: a
/// queue whose owner is not known any more is lost. A session's name is in its own record too.
pub(crate) const NAMED: &str = "taker ";

impl Batch<'_> {
    pub(super) fn create_taker(&mut self, id: TakerId, kind: TakerKind, name: &str) -> Sql<()> {
        self.known.insert(id);
        self.connection
            // One that could not be read at start is not to stop the writer.
            .prepare_cached(
                "INSERT INTO takers(id, kind, name) VALUES (?1, ?2, ?3)
                 ON CONFLICT(kind, name) DO UPDATE SET id = excluded.id, accepted = 0,
                     delivered = 0, rows = 0, bytes = 0",
            )?
            .execute(params![signed(id.0), kind.as_str(), name])?;
        // Earlier versions left some of removed takers, whose numbers are given again.
        self.connection
            .prepare_cached("DELETE FROM drops WHERE taker = ?1")?
            .execute([signed(id.0)])?;
        if kind != TakerKind::Session {
            self.connection
                .prepare_cached("INSERT OR REPLACE INTO meta(name, value) VALUES (?1, ?2)")?
                .execute(params![named(kind.as_str(), name), signed(id.0)])?;
        }
        Ok(())
    }

    /// Its books go to those of the removed; what still waits counts as dropped. The rows
    /// themselves are cleared away later, in small steps.
    pub(super) fn remove_taker(&mut self, id: TakerId, reason: DropReason) -> Sql<()> {
        if !self.known.remove(&id) {
            return Ok(());
        }
        self.write_staged()?;
        self.last.remove(&id);
        self.crooked.remove(&id);
        let booked = [self.owed.remove(&id), self.tallies.remove(&id)];
        for tally in booked.iter().flatten() {
            write_tally(self.connection, id, tally)?;
        }
        let key = signed(id.0);
        let mut moved = Tally::default();
        let mut queued = 0;
        let mut entry = String::new();
        self.connection
            .prepare_cached(
                "DELETE FROM takers WHERE id = ?1
                 RETURNING accepted, delivered, rows, kind, name",
            )?
            .query_row([key], |row| {
                moved.accepted = row.get(0)?;
                moved.delivered = row.get(1)?;
                queued = row.get(2)?;
                entry = named(&row.get::<_, String>(3)?, &row.get::<_, String>(4)?);
                Ok(())
            })
            .optional()?;
        self.connection
            .prepare_cached("DELETE FROM meta WHERE name = ?1")?
            .execute([entry])?;
        for (known, count) in super::load::drops(self.connection, key)? {
            moved.drop(known, count);
        }
        moved.drop(reason, queued);
        self.connection
            .prepare_cached("DELETE FROM drops WHERE taker = ?1")?
            .execute([key])?;
        self.connection
            .prepare_cached("INSERT INTO garbage(taker) VALUES (?1)")?
            .execute([key])?;
        self.booked_removed.add(&moved, 1);
        write_tally(self.connection, REMOVED, &moved)
    }
}

fn named(kind: &str, name: &str) -> String {
    format!("{NAMED}{kind} {name}")
}
