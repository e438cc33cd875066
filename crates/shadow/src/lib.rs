//! Device shadows: a pure document core and the service on the broker's port.
//!
//! [`core`] decides: functions of the stored shadow, the request and the time. [`ShadowService`]
//! carries: requests come in by MQTT, by HTTP and from the control socket, and take one way.
//!
//! 1. Answers to requests for one thing leave in the order of the requests.
//! 2. Nothing is answered, published or acknowledged before what it rests on is committed.
//! 3. A deleted shadow leaves its version behind: versions go on for 48 hours.
//! 4. One thread reads, merges and puts; no lock is held while the broker or the store is called.
#![forbid(unsafe_code)]

pub mod core;
mod service;
mod store;
pub mod sync;

pub use service::{
    Answer, Call, Found, Listed, Settings, SettledReply, ShadowHttp, ShadowService, SyncKey,
    SynchronisedReply, Watcher,
};
pub use store::{CommitDone, Put, ShadowStore, StorageFailure};
