//! What who carries shadows to the cloud and back asks of the service.
//!
//! 1. [`ShadowService::unsynchronised`] names the shadows that have something to tell: after a start,
//!    and after an outage. Later changes are heard on `update/documents` and `delete/accepted`.
//! 2. [`ShadowService::synchronise`] is given the cloud's side as it stands. The local side is brought
//!    up to date in one commit, and devices hear of it as of any update; the answer says what the
//!    cloud is to be told.
//! 3. When the cloud has accepted it, [`ShadowService::settle`] notes what both have in common.
//!
//! A step that is lost on the way, or a crash between two, is made good by the next
//! [`ShadowService::synchronise`] (see [`crate::core::sync`]).

use bytes::Bytes;
use iotedge_model::reserved::{ShadowOperation, shadow_prefix};
use iotedge_model::{Now, Protocol, ShadowName, ThingName, TraceId};
use serde_json::{Map, Value, json};

use super::queue::{Refused, Reply, Request, Work};
use super::worker::Decision;
use super::{ShadowService, internal};
use crate::core::sync::{Base, Replica, Step, plan};
use crate::core::{self, Limits, Rejection, ShadowError, Stored};

/// Which shadow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SyncKey {
    /// The thing.
    pub thing: ThingName,
    /// The shadow's name; `None` for the classic shadow.
    pub shadow: Option<ShadowName>,
}

/// What a synchronisation has made of the local side, and what it asks of the cloud's.
#[derive(Debug, Clone, PartialEq)]
pub struct Synchronised {
    /// For the cloud: a request with the version that it was compared with. After
    /// [`Step::Keep`] there is nothing to settle.
    pub cloud: Step,
    /// The local version now, of a deleted shadow the one that it had; 0 for none.
    pub local_version: u64,
    /// Both sections, for the base; `None` when the shadow is gone on both sides.
    pub merged: Option<(Map<String, Value>, Map<String, Value>)>,
    /// The leaves that both sides had changed, as paths such as `desired.lamp.color`.
    pub conflicts: Vec<String>,
}

/// Is called once, on the service's thread, and must not block.
pub type SynchronisedReply = Box<dyn FnOnce(Result<Synchronised, ShadowError>) + Send>;

impl ShadowService {
    /// Merges the cloud's side into the local one, by the rule of [`crate::core::sync`]. The limits
    /// of documents hold here, too.
    pub fn synchronise(&self, key: &SyncKey, cloud: Replica, reply: SynchronisedReply) {
        self.submit_sync(key, Work::Synchronise(Box::new(cloud)), reply);
    }

    /// Notes what both sides have had in common since the cloud has accepted what
    /// [`ShadowService::synchronise`] gave for it; `None` when the shadow is gone there.
    pub fn settle(&self, key: &SyncKey, base: Option<Base>, reply: SynchronisedReply) {
        self.submit_sync(key, Work::Settle(base.map(Box::new)), reply);
    }

    fn submit_sync(&self, key: &SyncKey, work: Work, reply: SynchronisedReply) {
        let shadow = key.shadow.as_ref();
        let request = Request {
            thing: key.thing.shared(),
            key: self.allowed(&key.thing, shadow),
            prefix: shadow_prefix(&key.thing, shadow),
            operation: ShadowOperation::Update,
            work,
            payload: Bytes::new(),
            trace: TraceId::unique(),
            hops: 0,
            protocol: Protocol::Internal,
            reply: Reply::Synchronised(Some(reply)),
            excess: false,
            counted: false,
        };
        if let Err(Refused(request)) = self.queue.submit(request) {
            if let Reply::Synchronised(Some(reply)) = request.reply {
                let max = self.settings.max_open;
                reply(Err(ShadowError::TooManyRequests { max }));
            }
        }
    }

    /// Shadows that have changed since they were last synchronised, deleted ones included, behind
    /// `after` in the order of keys. Looks at no more than `most` shadows: the second value is the
    /// key after which to go on, `None` at the end.
    pub fn unsynchronised(
        &self,
        after: Option<&str>,
        most: usize,
    ) -> Result<(Vec<SyncKey>, Option<String>), ShadowError> {
        let page = self.store.list("", after, most);
        let page = page.map_err(|e| internal("shadows", &e))?;
        let next = page.last().map(|(key, _)| key.clone());
        let next = next.filter(|_| page.len() == most);
        let mut keys = Vec::new();
        for (key, body) in &page {
            let stored = match Stored::parse(body) {
                Ok(stored) => stored,
                // It stays as it is, here and there.
                Err(e) => {
                    internal(key, &e);
                    continue;
                }
            };
            let base = stored.base();
            let news = match &stored {
                Stored::Live(document) => base.is_none_or(|b| b.local != document.version),
                Stored::Deleted(_) => base.is_some(),
            };
            if news {
                keys.extend(sync_key(key));
            }
        }
        Ok((keys, next))
    }
}

fn sync_key(key: &str) -> Option<SyncKey> {
    let (thing, shadow) = match key.split_once('/') {
        Some((thing, shadow)) => (thing, Some(shadow)),
        None => (key, None),
    };
    Some(SyncKey {
        thing: ThingName::new(thing).ok()?,
        shadow: shadow.map(ShadowName::new).transpose().ok()?,
    })
}

fn version(stored: Option<&Stored<'_>>) -> u64 {
    match stored {
        Some(Stored::Live(document)) => document.version,
        Some(Stored::Deleted(tombstone)) => tombstone.version,
        None => 0,
    }
}

/// Notes a base in what stands in the store, or in what is about to.
fn with_base(body: &[u8], base: Option<&Base>) -> Option<Bytes> {
    let mut stored = Stored::parse(body).ok()?;
    if stored.base().as_ref() == base {
        return None;
    }
    stored.set_base(base);
    Some(stored.to_bytes().into())
}

pub(super) fn synchronise(
    stored: Option<&Stored<'_>>,
    cloud: &Replica,
    now: &Now,
    limits: &Limits,
) -> Result<Decision, Rejection> {
    let local = stored.map_or(Replica::Gone, Stored::replica);
    let base = stored.and_then(Stored::base);
    let plan = plan(base.as_ref(), &local, cloud);
    let mut decision = match &plan.local {
        Step::Keep => Decision::new(Bytes::new()),
        Step::Update(state) => {
            let request = json!({"state": state}).to_string();
            Decision::updated(core::update(stored, request.as_bytes(), now, limits)?)
        }
        Step::Delete => Decision::deleted(core::delete(stored, b"", "", now, limits)?),
    };
    let body = decision.put.clone();
    let body = body.or_else(|| stored.map(|stored| stored.to_bytes().into()));
    let local_version = match body.as_deref().map(Stored::parse) {
        Some(Ok(stored)) => version(Some(&stored)),
        _ => 0,
    };
    if let (Step::Keep, Some(body)) = (&plan.cloud, &body) {
        let base = match (&plan.merged, cloud) {
            (Some((desired, reported)), Replica::Live { version, .. }) => Some(Base {
                local: local_version,
                cloud: *version,
                desired: desired.clone(),
                reported: reported.clone(),
            }),
            _ => None,
        };
        if let Some(body) = with_base(body, base.as_ref()) {
            decision.put = Some(body);
        }
    }
    decision.outcome.synchronised = Some(Box::new(Synchronised {
        cloud: plan.cloud,
        local_version,
        merged: plan.merged,
        conflicts: plan.conflicts,
    }));
    Ok(decision)
}

pub(super) fn settle(stored: Option<&Stored<'_>>, base: Option<&Base>) -> Decision {
    let mut decision = Decision::new(Bytes::new());
    let body = stored.map(Stored::to_bytes);
    decision.put = body.and_then(|body| with_base(&body, base));
    decision.outcome.synchronised = Some(Box::new(Synchronised {
        cloud: Step::Keep,
        local_version: version(stored),
        merged: None,
        conflicts: Vec::new(),
    }));
    decision
}
