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

use super::queue::{Refused, Reply, Request, Work};
use super::worker::Decision;
use super::{ShadowService, internal};
use crate::core::sync::{Base, Change, Seen, Synchronised};
use crate::core::{self, Limits, Rejection, ShadowError, Stored};

/// Which shadow.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SyncKey {
    /// The thing.
    pub thing: ThingName,
    /// The shadow's name; `None` for the classic shadow.
    pub shadow: Option<ShadowName>,
}

/// A shadow, and whether it has something to tell.
pub type Found = (SyncKey, bool);

/// Is called once, on the service's thread, and must not block.
pub type SynchronisedReply = Box<dyn FnOnce(Result<Synchronised, ShadowError>) + Send>;

/// The same, when it is noted.
pub type SettledReply = Box<dyn FnOnce(Result<(), ShadowError>) + Send>;

/// Is told of each change that does not come of a synchronisation, before its answer leaves, and
/// before the answer of a synchronisation that was decided after it. On the service's thread: must
/// not block and must not call the service.
pub type Watcher = Box<dyn Fn(&SyncKey) + Send + Sync>;

impl ShadowService {
    /// Merges the cloud's side into the local one, by the rule of [`crate::core::sync`]. The limits
    /// of documents hold here, too.
    pub fn synchronise(&self, key: &SyncKey, cloud: Seen, reply: SynchronisedReply) {
        self.submit_sync(
            key,
            Work::Synchronise(Box::new(cloud)),
            Reply::Synchronised(Some(reply)),
        );
    }

    /// Notes what both sides have had in common since the cloud has accepted what
    /// [`ShadowService::synchronise`] gave for it; `None` when the shadow is gone there.
    pub fn settle(&self, key: &SyncKey, peer: &str, base: Option<Base>, reply: SettledReply) {
        let work = Work::Settle(peer.to_owned(), base.map(Box::new));
        self.submit_sync(key, work, Reply::Settled(Some(reply)));
    }

    fn submit_sync(&self, key: &SyncKey, work: Work, reply: Reply) {
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
            reply,
            excess: false,
            counted: false,
        };
        if let Err(Refused(request)) = self.queue.submit(request) {
            let max = self.settings.max_open;
            let busy = ShadowError::TooManyRequests { max };
            match request.reply {
                Reply::Synchronised(Some(reply)) => reply(Err(busy)),
                Reply::Settled(Some(reply)) => reply(Err(busy)),
                _ => {}
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
        let (keys, next) = self.shadows(after, most, false)?;
        Ok((keys.into_iter().map(|(key, _)| key).collect(), next))
    }

    /// The same for all shadows, each with whether it has something to tell.
    pub fn synchronisable(
        &self,
        after: Option<&str>,
        most: usize,
    ) -> Result<(Vec<Found>, Option<String>), ShadowError> {
        self.shadows(after, most, true)
    }

    fn shadows(
        &self,
        after: Option<&str>,
        most: usize,
        all: bool,
    ) -> Result<(Vec<Found>, Option<String>), ShadowError> {
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
            let known = stored.known();
            let settled = known.as_ref().filter(|known| known.is_settled());
            let base = settled.and_then(|known| known.base.as_ref());
            let news = match &stored {
                Stored::Live(document) => base.is_none_or(|b| b.local != document.version),
                Stored::Deleted(_) => known.is_some(),
            };
            if let (true, Some(key)) = (news || all, SyncKey::parse(key)) {
                keys.push((key, news));
            }
        }
        Ok((keys, next))
    }

    /// Tells `watcher` of changes from now on.
    pub fn watch(&self, watcher: Watcher) {
        self.queue.watch(watcher);
    }
}

impl SyncKey {
    /// From the key in the store: `thing` or `thing/shadow`.
    pub fn parse(key: &str) -> Option<Self> {
        let (thing, shadow) = match key.split_once('/') {
            Some((thing, shadow)) => (thing, Some(shadow)),
            None => (key, None),
        };
        Some(Self {
            thing: ThingName::new(thing).ok()?,
            shadow: shadow.map(ShadowName::new).transpose().ok()?,
        })
    }
}

impl std::fmt::Display for SyncKey {
    /// As it stands in the store.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&super::key(&self.thing, self.shadow.as_ref()))
    }
}

pub(super) fn synchronise(
    stored: Option<&Stored<'_>>,
    seen: &Seen,
    now: &Now,
    limits: &Limits,
) -> Result<Decision, Rejection> {
    let merged = core::sync::synchronise(stored, seen, now, limits)?;
    let mut decision = match merged.change {
        Change::Nothing => Decision::new(Bytes::new()),
        Change::Updated(updated) => Decision::updated(updated),
        Change::Deleted(deleted) => Decision::deleted(deleted),
    };
    decision.put = merged.put.map(Bytes::from);
    decision.outcome.synchronised = Some(Box::new(merged.answer));
    Ok(decision)
}

pub(super) fn settle(stored: Option<&Stored<'_>>, peer: &str, base: Option<&Base>) -> Decision {
    let mut decision = Decision::new(Bytes::new());
    decision.put = core::sync::settle(stored, peer, base).map(Bytes::from);
    decision
}
