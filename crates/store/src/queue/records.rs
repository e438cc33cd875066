//! Sessions, subscriptions, wills and retained messages: records that one transaction writes.

use std::sync::OnceLock;

use iotedge_model::{DropReason, MessageId, Topic};
use rusqlite::params;

use super::batch::Batch;
use super::mirror::signed;
use super::rows::{COLUMNS, json};
use crate::types::id_column;
use crate::{SessionRecord, SubscriptionRecord, TakerId, WillRecord};

type Sql<T> = rusqlite::Result<T>;

impl Batch<'_> {
    pub(super) fn put_session(&mut self, s: &SessionRecord) -> Sql<()> {
        let principal = json(s.principal.as_ref())?;
        self.connection
            .prepare_cached(
                "INSERT OR REPLACE INTO sessions(client_id, taker, principal, protocol_level,
                 expiry, created_at, ended_at, ended_trusted, waited, identifier)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
            )?
            .execute(params![
                s.client_id.as_str(),
                signed(s.taker.0),
                principal,
                s.protocol_level,
                s.expiry,
                signed(s.created_at.0),
                s.ended_at.map(|at| signed(at.0)),
                s.ended_trusted,
                signed(s.waited),
                s.identifier.to_be_bytes().as_slice(),
            ])?;
        Ok(())
    }

    pub(super) fn put_will(&mut self, will: &WillRecord) -> Sql<()> {
        static SQL: OnceLock<String> = OnceLock::new();
        let sql = SQL.get_or_init(|| {
            format!(
                "INSERT OR REPLACE INTO wills(id, {COLUMNS}, delay)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15)"
            )
        });
        self.highest = self.highest.max(will.message.id.0);
        self.encoder
            .insert(self.connection, sql, &will.message, &[&will.delay])?;
        Ok(())
    }

    /// Only this message: another one may have taken its place.
    pub(super) fn remove_retained(&mut self, topic: &Topic, id: MessageId) -> Sql<()> {
        match self.retained.get_mut(topic) {
            Some(Some(message)) if message.id != id => {}
            Some(change) => *change = None,
            None => {
                self.connection
                    .prepare_cached("DELETE FROM retained WHERE topic = ?1 AND id = ?2")?
                    .execute(params![topic.as_str(), id_column(id)])?;
            }
        }
        Ok(())
    }

    pub(super) fn put_subscription(&mut self, client_id: &str, s: &SubscriptionRecord) -> Sql<()> {
        self.connection
            .prepare_cached(
                "INSERT OR REPLACE INTO subscriptions(client_id, text, qos, no_local,
                 retain_as_published, retain_handling, identifier)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
            )?
            .execute(params![
                client_id,
                &*s.text,
                u8::from(s.qos),
                s.no_local,
                s.retain_as_published,
                s.retain_handling,
                s.identifier.map(std::num::NonZeroU32::get),
            ])?;
        Ok(())
    }

    pub(super) fn remove_session(&mut self, client_id: &str, taker: Option<TakerId>) -> Sql<()> {
        for sql in [
            "DELETE FROM sessions WHERE client_id = ?1",
            "DELETE FROM subscriptions WHERE client_id = ?1",
            "DELETE FROM unreleased WHERE client_id = ?1",
        ] {
            self.connection.prepare_cached(sql)?.execute([client_id])?;
        }
        match taker {
            Some(taker) => {
                self.drop_claimed(taker)?;
                self.remove_taker(taker, DropReason::SessionEnded)
            }
            None => Ok(()),
        }
    }

    pub(super) fn remove_will(&mut self, id: MessageId) -> Sql<()> {
        self.connection
            .prepare_cached("DELETE FROM wills WHERE id = ?1")?
            .execute([id_column(id)])?;
        Ok(())
    }

    pub(super) fn remove_subscription(&mut self, client_id: &str, text: &str) -> Sql<()> {
        self.connection
            .prepare_cached("DELETE FROM subscriptions WHERE client_id = ?1 AND text = ?2")?
            .execute([client_id, text])?;
        Ok(())
    }

    /// Writes what became of retained messages.
    pub(super) fn write_retained(&mut self) -> Sql<()> {
        for (topic, message) in std::mem::take(&mut self.retained) {
            match message {
                Some(message) => {
                    let sql = retained_sql();
                    self.encoder.insert(self.connection, sql, &message, &[])?;
                }
                None => {
                    self.connection
                        .prepare_cached("DELETE FROM retained WHERE topic = ?1")?
                        .execute([topic.as_str()])?;
                }
            }
        }
        Ok(())
    }
}

fn retained_sql() -> &'static str {
    static SQL: OnceLock<String> = OnceLock::new();
    SQL.get_or_init(|| {
        format!(
            "INSERT OR REPLACE INTO retained(id, {COLUMNS})
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14)"
        )
    })
}
