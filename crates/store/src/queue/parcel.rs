//! Messages of one commit for one taker, in one row: what a row costs beside its bytes is paid once
//! for all, and what they have in common (who published, on which topic) is written once.
//!
//! A parcel is an index, which is all that acknowledgements need, and a body. Both are read with
//! suspicion: a card may have changed them. At its end a body says once more whose it is and which
//! ids it has: where the index is lost, the messages are not.

use std::sync::Arc;

use ::bytes::Bytes as Payload;
use iotedge_model::{
    Message, MessageId, Principal, Properties, QoS, Source, SubscriptionIds, Topic, TraceId,
    UnixMillis,
};

use super::rows::{Decoder, Encoder, json};
use crate::{QueuedRow, RowState, TakerRow};

mod bytes;
#[cfg(test)]
mod tests;

pub(crate) use bytes::checksum;
use bytes::{Bytes, put, put_slice, unzigzag, zigzag};

/// Messages in one parcel: a bit each in the word that says which are gone.
pub(crate) const MOST: usize = 64;
/// Bytes of a body at which no more is added.
pub(super) const ENOUGH: usize = 48 << 10;
/// The form of a body, its first byte: the first one's bodies did not say whose they are.
const FIRST_FORM: u8 = 1;
const FORM: u8 = 2;
/// Bytes of a taker's name up to which bodies have it.
const NAME: usize = 128;

const RETAIN: u8 = 1 << 2;
const TRUSTED: u8 = 1 << 3;
const EXPIRY: u8 = 1 << 4;
const PROPERTIES: u8 = 1 << 5;
const ROW_RETAIN: u8 = 1 << 6;
const IDENTIFIERS: u8 = 1 << 7;

/// Ids of a parcel's messages in their order, each with what it costs in the books.
pub(crate) type Index = Vec<(u64, i64)>;

/// A parcel on its way to the file.
#[derive(Default)]
pub(crate) struct Packer {
    pub(super) first: u64,
    pub(super) count: usize,
    pub(super) bytes: i64,
    pub(super) body: Vec<u8>,
    index: Vec<u8>,
    /// Neighbours that are as far apart and cost the same: how many, how far, how much.
    alike: (u64, u64, u64),
    last: u64,
    accepted_at: u64,
    principals: Vec<Arc<Principal>>,
    sources: Vec<Source>,
    clients: Vec<Arc<str>>,
    topics: Vec<Topic>,
}

/// The place of `value` among those written before, from 1 on; 0, and it is one of them from now
/// on, for a new one.
fn place<T: Clone>(known: &mut Vec<T>, value: &T, same: impl Fn(&T, &T) -> bool) -> u64 {
    match known.iter().rposition(|k| same(k, value)) {
        Some(at) => at as u64 + 1,
        None => {
            known.push(value.clone());
            0
        }
    }
}

impl Packer {
    pub(super) fn is_full(&self) -> bool {
        self.count >= MOST || self.body.len() >= ENOUGH
    }

    /// Begins another parcel with the memory of the last one.
    pub(super) fn clear(&mut self) {
        let (mut body, mut index) = (
            std::mem::take(&mut self.body),
            std::mem::take(&mut self.index),
        );
        body.clear();
        index.clear();
        *self = Self {
            body,
            index,
            ..Self::default()
        };
    }

    /// Adds a message; ids come in ascending order.
    pub(crate) fn push(
        &mut self,
        encoder: &mut Encoder,
        message: &Message,
        row: &TakerRow,
        cost: i64,
    ) -> rusqlite::Result<()> {
        let id = message.id.0;
        if self.count == 0 {
            self.first = id;
            self.last = id;
            self.body.push(FORM);
        }
        let (apart, priced) = (id - self.last, cost.unsigned_abs());
        if self.alike.0 > 0 && (self.alike.1, self.alike.2) == (apart, priced) {
            self.alike.0 += 1;
        } else {
            self.end_alike();
            self.alike = (1, apart, priced);
        }
        self.last = id;
        self.count += 1;
        self.bytes += cost;
        self.put_message(encoder, message, row)
    }

    fn end_alike(&mut self) {
        let (times, apart, priced) = self.alike;
        if times > 0 {
            put(&mut self.index, times);
            put(&mut self.index, apart);
            put(&mut self.index, priced);
        }
    }

    fn put_message(
        &mut self,
        encoder: &mut Encoder,
        message: &Message,
        row: &TakerRow,
    ) -> rusqlite::Result<()> {
        let flag = |set: bool, bit: u8| if set { bit } else { 0 };
        let flags = u8::from(message.qos)
            | flag(message.retain, RETAIN)
            | flag(message.trusted, TRUSTED)
            | flag(message.expiry.is_some(), EXPIRY)
            | flag(message.properties.is_some(), PROPERTIES)
            | flag(row.retain, ROW_RETAIN)
            | flag(!row.identifiers.is_empty(), IDENTIFIERS);
        let body = &mut self.body;
        body.extend([flags, u8::from(row.qos), message.hops]);
        body.extend(message.trace.0.to_be_bytes());
        let same_principal = |a: &Arc<_>, b: &Arc<_>| Arc::ptr_eq(a, b) || a == b;
        let at = place(&mut self.principals, &message.principal, same_principal);
        put(body, at);
        if at == 0 {
            put_slice(body, encoder.principal(&message.principal)?.as_bytes());
        }
        let at = place(&mut self.sources, &message.source, |a, b| a == b);
        put(body, at);
        if at == 0 {
            put_slice(body, message.source.to_column().as_bytes());
        }
        let same_client = |a: &Arc<str>, b: &Arc<str>| Arc::ptr_eq(a, b) || a == b;
        let at = place(&mut self.clients, &message.client_id, same_client);
        put(body, at);
        if at == 0 {
            put_slice(body, message.client_id.as_bytes());
        }
        let at = place(&mut self.topics, &message.topic, |a, b| {
            a.is_same(b) || a == b
        });
        put(body, at);
        if at == 0 {
            put_slice(body, message.topic.as_str().as_bytes());
        }
        let since = message.accepted_at.0.wrapping_sub(self.accepted_at) as i64;
        self.accepted_at = message.accepted_at.0;
        put(body, zigzag(since));
        if let Some(expiry) = message.expiry {
            put(body, u64::from(expiry));
        }
        if let Some(properties) = &message.properties {
            put_slice(body, json(properties.as_ref())?.as_bytes());
        }
        if !row.identifiers.is_empty() {
            put(body, row.identifiers.len() as u64);
            for identifier in row.identifiers.iter() {
                put(body, u64::from(*identifier));
            }
        }
        put_slice(body, &message.payload);
        Ok(())
    }

    /// The index and the body, when the last message is in it, of a taker of this number, kind and
    /// name.
    pub(crate) fn finish(&mut self, (taker, kind, name): (u64, &str, &str)) -> (&[u8], &[u8]) {
        self.end_alike();
        self.alike = (0, 0, 0);
        let messages = self.body.len();
        put(&mut self.body, taker);
        put(&mut self.body, self.first);
        let (kind, name) = if name.len() > NAME {
            ("", "")
        } else {
            (kind, name)
        };
        put_slice(&mut self.body, kind.as_bytes());
        put_slice(&mut self.body, name.as_bytes());
        self.body.extend_from_slice(&self.index);
        let origin = u16::try_from(self.body.len() - messages).unwrap_or_default();
        self.body.extend(origin.to_le_bytes());
        let sum = checksum(&self.body);
        self.body.extend(sum.to_le_bytes());
        (&self.index, &self.body)
    }
}

/// Ids and costs, of a parcel whose first message is `first`.
pub(crate) fn index(first: u64, bytes: &[u8]) -> Option<Index> {
    let mut left = Bytes(bytes);
    let mut index = Index::new();
    let mut id = first;
    while !left.0.is_empty() {
        let (times, apart, cost) = (left.number()?, left.number()?, left.number()?);
        let cost = i64::try_from(cost).ok()?;
        for _ in 0..times {
            if index.len() == MOST || (apart == 0 && !index.is_empty()) {
                return None;
            }
            id = id.checked_add(apart)?;
            index.push((id, cost));
        }
    }
    (!index.is_empty()).then_some(index)
}

/// Whether a body is as it was written.
pub(crate) fn is_whole(body: &[u8]) -> bool {
    content(body).is_some()
}

/// The messages of a body, and what it says of itself.
fn content(body: &[u8]) -> Option<(&[u8], &[u8])> {
    let (content, sum) = body.split_last_chunk::<4>()?;
    if checksum(content) != u32::from_le_bytes(*sum) {
        return None;
    }
    match content.split_first()? {
        (&FIRST_FORM, messages) => Some((messages, &[])),
        (&FORM, rest) => {
            let (rest, origin) = rest.split_last_chunk::<2>()?;
            let origin = usize::from(u16::from_le_bytes(*origin));
            rest.split_at_checked(rest.len().checked_sub(origin)?)
        }
        _ => None,
    }
}

/// What a body says of itself.
pub(crate) struct Origin<'a> {
    pub(crate) taker: u64,
    /// Kind and name of the taker; empty where the name is long.
    pub(crate) kind: &'a str,
    pub(crate) name: &'a str,
    pub(crate) first: u64,
    /// As [`index`] reads it.
    pub(crate) ids: &'a [u8],
}

/// Whose body it is; `None` for one that is not as it was written, or older than these words.
pub(crate) fn origin(body: &[u8]) -> Option<Origin<'_>> {
    let (_, origin) = content(body)?;
    let mut left = Bytes(origin);
    Some(Origin {
        taker: left.number()?,
        first: left.number()?,
        kind: left.text()?,
        name: left.text()?,
        ids: left.0,
    })
}

/// What messages of a parcel have in common, as far as it was read.
#[derive(Default)]
struct Common {
    principals: Vec<Arc<Principal>>,
    sources: Vec<Source>,
    clients: Vec<Arc<str>>,
    topics: Vec<Topic>,
    accepted_at: u64,
}

/// The one that comes next: named by its place, or new.
fn common<T: Clone>(
    left: &mut Bytes<'_>,
    known: &mut Vec<T>,
    parse: impl FnOnce(&str) -> Option<T>,
) -> Option<T> {
    match usize::try_from(left.number()?).ok()?.checked_sub(1) {
        Some(at) => known.get(at).cloned(),
        None => {
            let value = parse(left.text()?)?;
            known.push(value.clone());
            Some(value)
        }
    }
}

/// Goes through the messages of a parcel in their order; `wants` says by the place and the id which
/// are made, and `false` from `take` ends it. `None`: these are not the bytes that were written.
pub(super) fn each(
    decoder: &mut Decoder,
    index: &[(u64, i64)],
    body: &[u8],
    mut wants: impl FnMut(usize, MessageId) -> bool,
    mut take: impl FnMut(QueuedRow) -> bool,
) -> Option<()> {
    let mut left = Bytes(content(body)?.0);
    let mut shared = Common::default();
    for (at, (id, _)) in index.iter().enumerate() {
        let id = MessageId(*id);
        let wanted = wants(at, id);
        if let Some(row) = message(decoder, &mut shared, &mut left, id, wanted)? {
            if !take(row) {
                break;
            }
        }
    }
    Some(())
}

/// All messages of a parcel.
pub(crate) fn rows(index: &[(u64, i64)], body: &[u8]) -> Option<Vec<QueuedRow>> {
    let mut rows = Vec::new();
    let take = |row| {
        rows.push(row);
        true
    };
    each(&mut Decoder::default(), index, body, |_, _| true, take)?;
    Some(rows)
}

/// The next message, or `Some(None)` when it is only passed over.
fn message(
    decoder: &mut Decoder,
    shared: &mut Common,
    left: &mut Bytes<'_>,
    id: MessageId,
    wanted: bool,
) -> Option<Option<QueuedRow>> {
    let (flags, row_qos, hops) = (left.byte()?, left.byte()?, left.byte()?);
    let trace = u128::from_be_bytes(left.take(16)?.try_into().ok()?);
    let principal = common(left, &mut shared.principals, |text| {
        decoder.principal(text).ok()
    })?;
    let source = common(left, &mut shared.sources, Source::from_column)?;
    let client_id = common(left, &mut shared.clients, |text| Some(Arc::from(text)))?;
    let topic = common(left, &mut shared.topics, |text| Topic::new(text).ok())?;
    let since = unzigzag(left.number()?);
    shared.accepted_at = shared.accepted_at.wrapping_add(since as u64);
    let expiry = match flags & EXPIRY {
        0 => None,
        _ => Some(u32::try_from(left.number()?).ok()?),
    };
    let properties = match flags & PROPERTIES {
        0 => None,
        _ => Some(left.text()?),
    };
    let mut identifiers = Vec::new();
    if flags & IDENTIFIERS != 0 {
        for _ in 0..left.number()? {
            identifiers.push(u32::try_from(left.number()?).ok()?);
        }
    }
    let payload = left.slice()?;
    if !wanted {
        return Some(None);
    }
    let properties = match properties {
        Some(text) => Some(serde_json::from_str::<Box<Properties>>(text).ok()?),
        None => None,
    };
    let message = Message {
        id,
        trace: TraceId(trace),
        hops,
        principal,
        client_id,
        source_ip: None,
        source,
        topic,
        payload: Payload::copy_from_slice(payload),
        qos: QoS::try_from(flags & 3).ok()?,
        retain: flags & RETAIN != 0,
        accepted_at: UnixMillis(shared.accepted_at),
        trusted: flags & TRUSTED != 0,
        expiry,
        properties,
    };
    Some(Some(QueuedRow {
        message,
        qos: QoS::try_from(row_qos).ok()?,
        retain: flags & ROW_RETAIN != 0,
        identifiers: identifiers.into_iter().collect::<SubscriptionIds>(),
        state: RowState::Queued,
        packet_id: None,
        claimant: None,
    }))
}
