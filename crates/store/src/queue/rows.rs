//! The envelope as columns, and back.

use std::sync::Arc;

use bytes::Bytes;
use iotedge_model::{
    Message, MessageId, Principal, Properties, QoS, Source, SubscriptionIds, Topic, TraceId,
    UnixMillis,
};
use rusqlite::{Connection, Row, Statement, ToSql, params};

use crate::types::id_column;

/// The envelope's columns in their order; the `id` comes before them in every statement here.
pub(crate) const COLUMNS: &str = "trace, hops, principal, source, client_id, topic, qos, retain, \
     accepted_at, trusted, expiry, properties, payload";

/// How many they are.
pub(crate) const ENVELOPE: usize = 13;

/// Why a row is no message.
pub(crate) enum Bad {
    /// SQLite could not read it.
    Sqlite(rusqlite::Error),
    /// A column holds what never was written.
    Content(&'static str),
}

impl From<rusqlite::Error> for Bad {
    fn from(error: rusqlite::Error) -> Self {
        match error {
            rusqlite::Error::InvalidColumnType(..)
            | rusqlite::Error::FromSqlConversionFailure(..)
            | rusqlite::Error::IntegralValueOutOfRange(..)
            | rusqlite::Error::Utf8Error(..) => Self::Content("a column of the wrong type"),
            other => Self::Sqlite(other),
        }
    }
}

/// Writes principals as JSON and remembers the last one: neighbours mostly share it.
#[derive(Default)]
pub(crate) struct Encoder {
    last: Option<(Arc<Principal>, String)>,
}

impl Encoder {
    pub(crate) fn principal(&mut self, principal: &Arc<Principal>) -> rusqlite::Result<&str> {
        let known =
            matches!(&self.last, Some((p, _)) if Arc::ptr_eq(p, principal) || p == principal);
        if !known {
            let text = json(principal.as_ref())?;
            self.last = Some((principal.clone(), text));
        }
        Ok(self.last.as_ref().map_or("", |(_, text)| text.as_str()))
    }

    /// Runs `sql`, whose parameters are the id (?1), the envelope (?2 to ?14) and `extra` (from ?15 on).
    pub(crate) fn insert(
        &mut self,
        connection: &Connection,
        sql: &str,
        message: &Message,
        extra: &[&dyn ToSql],
    ) -> rusqlite::Result<usize> {
        let mut statement = connection.prepare_cached(sql)?;
        self.bind(&mut statement, 1, message)?;
        for (at, value) in (ENVELOPE + 2..).zip(extra) {
            statement.raw_bind_parameter(at, value)?;
        }
        statement.raw_execute()
    }

    /// Binds the id and the envelope from parameter `first` on: [`ENVELOPE`] and one more.
    pub(crate) fn bind(
        &mut self,
        statement: &mut Statement<'_>,
        first: usize,
        message: &Message,
    ) -> rusqlite::Result<()> {
        let properties = match &message.properties {
            Some(p) => Some(json(p.as_ref())?),
            None => None,
        };
        let principal = self.principal(&message.principal)?;
        let trace = message.trace.0.to_be_bytes();
        let envelope: &[&dyn ToSql] = params![
            id_column(message.id),
            trace.as_slice(),
            message.hops,
            principal,
            message.source.to_column(),
            &*message.client_id,
            message.topic.as_str(),
            u8::from(message.qos),
            message.retain,
            i64::try_from(message.accepted_at.0).unwrap_or(i64::MAX),
            message.trusted,
            message.expiry,
            properties,
            &*message.payload,
        ];
        for (at, value) in (first..).zip(envelope) {
            statement.raw_bind_parameter(at, value)?;
        }
        Ok(())
    }
}

/// Of what is delivered of a message in a row of its own: SQLite looks at the shape of its pages, not
/// at what a card has changed in them.
pub(crate) fn sum(message: &Message) -> i64 {
    let parts: [&[u8]; 6] = [
        &message.payload,
        message.topic.as_str().as_bytes(),
        message.client_id.as_bytes(),
        &message.trace.0.to_be_bytes(),
        &message.id.0.to_be_bytes(),
        &message.accepted_at.0.to_be_bytes(),
    ];
    let sums = parts.map(|part| super::parcel::checksum(part).to_be_bytes());
    i64::from(super::parcel::checksum(sums.as_flattened()))
}

pub(crate) fn json<T: serde::Serialize>(value: &T) -> rusqlite::Result<String> {
    serde_json::to_string(value).map_err(|e| rusqlite::Error::ToSqlConversionFailure(Box::new(e)))
}

/// Reads principals back and shares the last one.
#[derive(Default)]
pub(crate) struct Decoder {
    last: Option<(String, Arc<Principal>)>,
}

impl Decoder {
    pub(crate) fn principal(&mut self, text: &str) -> Result<Arc<Principal>, Bad> {
        if let Some((known, principal)) = &self.last {
            if known == text {
                return Ok(principal.clone());
            }
        }
        let principal: Principal =
            serde_json::from_str(text).map_err(|_| Bad::Content("the principal"))?;
        let principal = Arc::new(principal);
        self.last = Some((text.to_owned(), principal.clone()));
        Ok(principal)
    }

    /// A message whose id is column `at` and whose envelope follows it.
    pub(crate) fn message(&mut self, row: &Row<'_>, at: usize) -> Result<Message, Bad> {
        let trace: [u8; 16] = row
            .get_ref(at + 1)?
            .as_blob()
            .ok()
            .and_then(|b| b.try_into().ok())
            .ok_or(Bad::Content("the trace id"))?;
        let properties = match row.get_ref(at + 12)?.as_str_or_null() {
            Ok(None) => None,
            Ok(Some(text)) => Some(
                serde_json::from_str::<Box<Properties>>(text)
                    .map_err(|_| Bad::Content("the properties"))?,
            ),
            Err(_) => return Err(Bad::Content("the properties")),
        };
        Ok(Message {
            id: MessageId(unsigned(row, at)?),
            trace: TraceId(u128::from_be_bytes(trace)),
            hops: row.get(at + 2)?,
            principal: self.principal(text(row, at + 3)?)?,
            source: Source::from_column(text(row, at + 4)?).ok_or(Bad::Content("the source"))?,
            client_id: Arc::from(text(row, at + 5)?),
            source_ip: None,
            topic: Topic::new(text(row, at + 6)?).map_err(|_| Bad::Content("the topic"))?,
            qos: qos(row, at + 7)?,
            retain: row.get(at + 8)?,
            accepted_at: UnixMillis(unsigned(row, at + 9)?),
            trusted: row.get(at + 10)?,
            expiry: row.get(at + 11)?,
            properties,
            payload: Bytes::copy_from_slice(
                row.get_ref(at + 13)?
                    .as_blob()
                    .map_err(|_| Bad::Content("the payload"))?,
            ),
        })
    }
}

fn text<'a>(row: &'a Row<'_>, at: usize) -> Result<&'a str, Bad> {
    row.get_ref(at)?
        .as_str()
        .map_err(|_| Bad::Content("a text that is none"))
}

pub(crate) fn unsigned(row: &Row<'_>, at: usize) -> Result<u64, Bad> {
    let value: i64 = row.get(at)?;
    u64::try_from(value).map_err(|_| Bad::Content("a negative number"))
}

pub(crate) fn qos(row: &Row<'_>, at: usize) -> Result<QoS, Bad> {
    let value: u8 = row.get(at)?;
    QoS::try_from(value).map_err(|_| Bad::Content("the QoS"))
}

/// Subscription identifiers as little-endian words; `NULL` for none.
pub(crate) fn identifiers_column(identifiers: &[u32]) -> Option<Vec<u8>> {
    (!identifiers.is_empty()).then(|| identifiers.iter().flat_map(|i| i.to_le_bytes()).collect())
}

pub(crate) fn identifiers(row: &Row<'_>, at: usize) -> Result<SubscriptionIds, Bad> {
    let bytes = row
        .get_ref(at)?
        .as_blob_or_null()
        .map_err(|_| Bad::Content("the subscription identifiers"))?
        .unwrap_or_default();
    Ok(bytes
        .chunks_exact(4)
        .filter_map(|c| c.try_into().ok().map(u32::from_le_bytes))
        .collect())
}
