//! Shared by the store's tests.
#![allow(dead_code, clippy::unwrap_used)]

use std::path::Path;
use std::sync::{Arc, mpsc};

use bytes::Bytes;
use iotedge_model::{
    ClientId, Message, MessageId, Principal, QoS, SubscriptionIds, Topic, UnixMillis,
};
use iotedge_store::{
    Append, Done, Opened, Options, SessionRecord, Store, StoreError, TakerId, TakerKind, TakerRow,
};

pub fn open(dir: &Path) -> (Store, Opened) {
    let options = Options {
        min_free_disk: 0,
        ..Options::default()
    };
    Store::open(dir, options).unwrap()
}

pub fn message(id: u64, topic: &str, payload: &str) -> Message {
    let mut message = Message::internal(
        "test",
        Topic::new(topic).unwrap(),
        Bytes::from(payload.to_owned()),
        QoS::AtLeastOnce,
    );
    message.id = MessageId(id);
    message
}

pub fn row(taker: TakerId) -> TakerRow {
    TakerRow {
        taker,
        qos: QoS::AtLeastOnce,
        retain: false,
        identifiers: SubscriptionIds::NONE,
    }
}

/// A session's record, and its taker made.
pub fn session(store: &Store, client: &ClientId) -> SessionRecord {
    SessionRecord {
        client_id: client.clone(),
        taker: store.create_taker(TakerKind::Session, client.as_str()),
        principal: Arc::new(Principal::service("test")),
        protocol_level: 4,
        expiry: u32::MAX,
        identifier: 7 << 100,
        created_at: UnixMillis(5),
        ended_at: None,
        ended_trusted: false,
        waited: 0,
        subscriptions: vec![],
        unreleased: vec![],
    }
}

pub fn wait() -> (Done, mpsc::Receiver<Result<(), StoreError>>) {
    let (tell, told) = mpsc::sync_channel(1);
    // A test that is not interested any more has dropped its end.
    let done: Done = Box::new(move |outcome| drop(tell.send(outcome)));
    (done, told)
}

pub fn append(store: &Store, entries: &[(Message, Vec<TakerRow>)]) -> Result<(), StoreError> {
    let (done, told) = wait();
    let entries = entries
        .iter()
        .map(|(message, takers)| Append::new(Arc::new(message.clone()), takers.clone(), None))
        .collect();
    store.append(entries, Some(done));
    told.recv().unwrap()
}

pub fn commit(store: &Store) {
    let (done, told) = wait();
    store.flush(done);
    told.recv().unwrap().unwrap();
}

/// Asks the file itself.
pub fn count(dir: &Path, sql: &str) -> i64 {
    let connection = rusqlite::Connection::open(dir.join("queue.db")).unwrap();
    connection.query_row(sql, [], |row| row.get(0)).unwrap()
}
