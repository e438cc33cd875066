//! What connections ask: attach, detach, subscribe.

use std::collections::BTreeMap;
use std::sync::Arc;

use iotedge_model::{Now, TraceId};
use iotedge_ports::{
    AckSink, CloseReason, Completion, ConnectRefused, ConnectRequest, Connected, ConnectionId,
    Detached, DisconnectReason, EndKind, Failure, Part, SubscribeResult, Subscription,
};
use iotedge_store::{Done, SessionRecord, TakerId, TakerKind};
use iotedge_telemetry::event;

use crate::Shared;
use crate::core::Core;
use crate::events::{Detail, Kind};
use crate::outbox::{Durable, SessionBox};
use crate::promise::Promise;
use crate::received::Received;
use crate::session::{Live, Session, subscription_record};
use crate::will::{DelayedWill, SessionWill};

type Ack = (Arc<dyn AckSink>, u64);

/// Milliseconds between two notes of how long sessions have waited.
const NOTED: u64 = 10 * 60 * 1000;

/// A store callback that answers a part.
pub(crate) fn finish(part: Part) -> Done {
    Box::new(move |outcome| part.finish(outcome.map_err(|_| Failure::Store)))
}

impl Shared {
    pub(crate) fn connect(&self, request: ConnectRequest) -> Result<Connected, ConnectRefused> {
        let mut will = None;
        let (connected, news) = {
            let mut core = self.lock();
            self.admit(&core, &request)?;
            let mut promise = Promise::new(request.ack.clone());
            let mono = self.clock.now().mono;
            if let Some(pace) = &mut core.pace {
                if !pace.grant(&request.client_id, mono) {
                    return Err(ConnectRefused::TooSoon);
                }
            }
            let existing = core.by_client.get(&request.client_id).copied();
            let mut resumed = None;
            if let Some(key) = existing {
                self.take_over(&mut core, key);
                let level = request.protocol_level;
                let keep = core.sessions.get(key).is_some_and(|session| {
                    session.outlives()
                        && (self.limits.resume_across_versions || session.protocol_level == level)
                });
                if request.clean || !keep {
                    will = self.end_session_told(&mut core, key, || promise.part());
                } else {
                    resumed = Some(key);
                    will = core
                        .sessions
                        .get_mut(key)
                        .and_then(|session| self.recall_will(session, &self.clock.now()));
                }
            }
            let key = match resumed {
                Some(key) => key,
                None => self.new_session(&mut core, &request),
            };
            let connected = self.attach(&mut core, key, request, resumed.is_some(), promise);
            self.note(&mut core, key, Kind::Connected, || Detail::None);
            (connected, !core.events.is_empty())
        };
        if news {
            self.announce();
        }
        if let Some(will) = will {
            self.publish_will(will);
        }
        connected.ok_or(ConnectRefused::Stopping)
    }

    fn admit(&self, core: &Core, request: &ConnectRequest) -> Result<(), ConnectRefused> {
        if core.stopping {
            return Err(ConnectRefused::Stopping);
        }
        let existing = core
            .by_client
            .get(&request.client_id)
            .and_then(|k| core.sessions.get(*k));
        if let Some(session) = existing {
            if !session.is_open_to(&request.principal) {
                return Err(ConnectRefused::NotYours);
            }
        }
        let one_more =
            request.session_expiry > 0 && existing.is_none_or(|session| session.record.is_none());
        if one_more && self.is_full_of_sessions(core) {
            return Err(ConnectRefused::TooMany);
        }
        let replaces = existing.is_some_and(|s| s.live.is_some());
        if !replaces && core.by_connection.len() >= self.limits.max_connections {
            return Err(ConnectRefused::TooMany);
        }
        Ok(())
    }

    /// Whether no further session may outlive its connection.
    fn is_full_of_sessions(&self, core: &Core) -> bool {
        let most = self.limits.max_sessions;
        let lasting = || core.sessions.iter().filter(|s| s.record.is_some()).count();
        // They are counted only where there may be too many.
        core.sessions.len() >= most && lasting() >= most
    }

    /// Ends the live connection of a session, if there is one ([MQTT-3.1.4-2]); its will waits.
    fn take_over(&self, core: &mut Core, key: usize) {
        self.note(core, key, Kind::Disconnected, || {
            Detail::Reason(DisconnectReason::DuplicateClientId)
        });
        let Some(session) = core.sessions.get_mut(key) else {
            return;
        };
        let Some(live) = session.live.take() else {
            return;
        };
        live.handle.close(CloseReason::SessionTakenOver);
        session.mailbox.detach();
        session.delay_will(live.will, &self.clock.now());
        if let Some(successor) = live.successor {
            successor.wake();
        }
        core.by_connection.remove(&live.connection);
    }

    /// Forgets a session and what waits for it; the store counts its rows as `session-ended`. Gives
    /// the will that still waited: it is due (5: 3.1.3.2.2).
    #[must_use = "the will is to be published when the lock is free"]
    pub(crate) fn end_session(&self, core: &mut Core, key: usize) -> Option<DelayedWill> {
        self.end_session_told(core, key, || None)
    }

    /// [`Shared::end_session`] that tells when the session is gone from disk, where it was there.
    #[must_use = "the will is to be published when the lock is free"]
    fn end_session_told(
        &self,
        core: &mut Core,
        key: usize,
        done: impl FnOnce() -> Option<Done>,
    ) -> Option<DelayedWill> {
        let mut session = core.remove_session(key)?;
        session.mailbox.end();
        if let Some(record) = session.record {
            self.store.remove_session(record.client_id.as_str(), done());
        }
        session.delayed_will.take()
    }

    fn new_session(&self, core: &mut Core, request: &ConnectRequest) -> usize {
        let identifier = TraceId::unique().0;
        let record = (request.session_expiry > 0).then(|| {
            Box::new(SessionRecord {
                client_id: request.client_id.clone(),
                taker: self
                    .store
                    .create_taker(TakerKind::Session, request.client_id.as_str()),
                principal: request.principal.clone(),
                protocol_level: request.protocol_level,
                expiry: request.session_expiry,
                identifier,
                created_at: self.clock.now().wall,
                ended_at: None,
                ended_trusted: false,
                waited: 0,
                subscriptions: Vec::new(),
                unreleased: Vec::new(),
            })
        });
        let mailbox = SessionBox::new(
            core.env.clone(),
            record.as_ref().map(|r| Durable {
                taker: r.taker,
                client_id: r.client_id.clone(),
            }),
            self.limits.max_inflight,
            true,
            Received::default(),
        );
        let key = core.sessions.insert(Session {
            client_id: request.client_id.clone(),
            principal: request.principal.clone(),
            protocol_level: request.protocol_level,
            identifier,
            expiry: request.session_expiry,
            record,
            mailbox: Arc::new(mailbox),
            subscriptions: BTreeMap::new(),
            live: None,
            deadline: None,
            delayed_will: None,
        });
        core.by_client.insert(request.client_id.clone(), key);
        key
    }

    fn attach(
        &self,
        core: &mut Core,
        key: usize,
        request: ConnectRequest,
        session_present: bool,
        mut promise: Promise,
    ) -> Option<Connected> {
        let connection = core.next_connection();
        // Message numbers only grow, over restarts too.
        let version = core.next_message().0;
        let has_will = request.will.is_some();
        let address = request.remote.map(|remote| remote.ip());
        let mut will = request.will.map(|will| {
            SessionWill::new(will, request.principal.clone(), &request.client_id, address)
        });
        if request.session_expiry > 0 {
            if let Some(will) = &mut will {
                self.keep_will(core, will);
            }
        }
        let session = core.sessions.get_mut(key)?;
        session.principal = request.principal.clone();
        session.protocol_level = request.protocol_level;
        session.expiry = request.session_expiry;
        session.deadline = None;
        if let Some(record) = &mut session.record {
            // A record is behind its will: with it both are there.
            let news = !session_present || has_will || record.expiry != request.session_expiry;
            record.principal = request.principal;
            record.protocol_level = request.protocol_level;
            record.expiry = request.session_expiry;
            record.ended_at = None;
            record.waited = 0;
            let done = if news { promise.part() } else { None };
            self.store.put_session(record.clone(), done);
        }
        let attached = session
            .mailbox
            .attach(&request.handle, request.receive_maximum);
        session.live = Some(Live {
            connection,
            handle: request.handle,
            will,
            remote: request.remote,
            listener: request.listener,
            keep_alive: request.keep_alive,
            version,
            silent: request.silent,
            successor: None,
        });
        let filters = session.subscriptions.keys().cloned().collect();
        let unreleased = session.mailbox.received.kept();
        core.by_connection.insert(connection, key);
        core.most_connected = core.most_connected.max(core.by_connection.len());
        Some(Connected {
            connection,
            session_present,
            promised: promise.is_kept(),
            mailbox: Arc::new(attached),
            filters,
            unreleased,
        })
    }

    pub(crate) fn detach(&self, detached: Detached) {
        let now = self.clock.now();
        let (will, news, successor) = {
            let mut core = self.lock();
            let Some(key) = core.by_connection.remove(&detached.connection) else {
                return;
            };
            self.note(&mut core, key, Kind::Disconnected, || {
                Detail::Reason(detached.reason)
            });
            let news = !core.events.is_empty();
            let Some(session) = core.sessions.get_mut(key) else {
                return;
            };
            let Some(live) = session.live.take() else {
                return;
            };
            session.mailbox.detach();
            if detached.end != EndKind::ClientInitiated {
                session.delay_will(live.will, &now);
            } else if let Some(will) = &live.will {
                self.discard_will(will);
            }
            // A session without a record cannot begin to outlive its connection at its end.
            if let Some(expiry) = detached.session_expiry {
                session.set_expiry(expiry);
            }
            let will = if session.outlives() {
                self.leave_waiting(session, &now);
                session.due_will(now.mono)
            } else {
                self.end_session(&mut core, key)
            };
            (will, news, live.successor)
        };
        if let Some(successor) = successor {
            successor.wake();
        }
        if news {
            self.announce();
        }
        if let Some(will) = will {
            self.publish_will(will);
        }
    }

    /// The session waits for its client from now on.
    fn leave_waiting(&self, session: &mut Session, now: &Now) {
        session.deadline = (session.expiry != u32::MAX)
            .then(|| now.mono.saturating_add(u64::from(session.expiry) * 1000));
        if let Some(record) = &mut session.record {
            record.ended_at = Some(now.wall);
            record.ended_trusted = now.trusted;
            record.waited = 0;
            self.store.put_session(record.clone(), None);
        }
    }

    pub(crate) fn expire_sessions(&self) {
        let now = self.clock.now();
        let mut core = self.lock();
        if let Some(pace) = &mut core.pace {
            pace.tick(now.mono);
        }
        let over: Vec<usize> = core
            .sessions
            .keyed()
            .filter(|(_, s)| s.live.is_none() && s.deadline.is_some_and(|d| d <= now.mono))
            .map(|(key, _)| key)
            .collect();
        self.note_waiting(&mut core, &now);
        let mut wills = std::mem::take(&mut core.due_wills);
        let due = |session: &mut Session| session.due_will(now.mono);
        wills.extend(core.sessions.iter_mut().filter_map(due));
        for key in over {
            if let Some(session) = core.sessions.get(key) {
                tracing::info!(client_id = %session.client_id, "a session has expired");
                core.expired += 1;
            }
            wills.extend(self.end_session(&mut core, key));
        }
        drop(core);
        for will in wills {
            self.publish_will(will);
        }
    }

    /// Where the clock says nothing, the time that the daemon ran counts: noted now and then, so
    /// that restarts do not give a session its whole time again.
    fn note_waiting(&self, core: &mut Core, now: &Now) {
        if now.mono < core.noted + NOTED {
            return;
        }
        let passed = now.mono - core.noted;
        core.noted = now.mono;
        for session in core.sessions.iter_mut().filter(|s| s.live.is_none()) {
            if let Some(record) = &mut session.record {
                if !(record.ended_trusted && now.trusted) && record.expiry != u32::MAX {
                    record.waited = record.waited.saturating_add(passed);
                    self.store.put_session(record.clone(), None);
                }
            }
        }
    }

    pub(crate) fn subscribe(
        &self,
        connection: ConnectionId,
        subscriptions: &[Subscription],
        ack: Ack,
    ) -> (Vec<SubscribeResult>, bool) {
        let mut core = self.lock();
        let Some(key) = core.session_of(connection) else {
            return (
                vec![SubscribeResult::QuotaExceeded; subscriptions.len()],
                true,
            );
        };
        let mut completion = None;
        let mut results = Vec::with_capacity(subscriptions.len());
        for subscription in subscriptions {
            let Some(session) = core.sessions.get(key) else {
                break;
            };
            let new = !session.subscriptions.contains_key(&subscription.text);
            let full = new && session.subscriptions.len() >= self.limits.max_subscriptions;
            let deep = subscription.filter.filter.levels().count() > self.limits.max_topic_levels;
            if full || deep {
                tracing::warn!(
                    event = event::SUBSCRIBE,
                    client_id = %session.client_id,
                    filter = %subscription.text,
                    "not subscribed: too many filters, or too many levels"
                );
                results.push(SubscribeResult::QuotaExceeded);
                continue;
            }
            if let Some(record) = &session.record {
                let completion =
                    completion.get_or_insert_with(|| Completion::new(ack.0.clone(), ack.1));
                self.store.put_subscription(
                    &record.client_id,
                    subscription_record(subscription),
                    Some(finish(completion.part())),
                );
            }
            core.add_subscription(
                key,
                subscription.text.clone(),
                subscription.filter.clone(),
                subscription.options,
            );
            let qos = subscription.options.qos;
            results.push(if new {
                SubscribeResult::Granted(qos)
            } else {
                SubscribeResult::Replaced(qos)
            });
        }
        self.note(&mut core, key, Kind::Subscribed, || {
            let granted = subscriptions.iter().zip(&results);
            Detail::Topics(
                granted
                    .filter(|(_, result)| **result != SubscribeResult::QuotaExceeded)
                    .map(|(subscription, _)| subscription.text.clone())
                    .collect(),
            )
        });
        self.announce_from(core);
        (results, completion.is_none())
    }

    pub(crate) fn unsubscribe(
        &self,
        connection: ConnectionId,
        filters: &[Arc<str>],
        ack: Ack,
    ) -> (Vec<bool>, bool) {
        let mut core = self.lock();
        let Some(key) = core.session_of(connection) else {
            return (vec![false; filters.len()], true);
        };
        let mut completion = None;
        let mut removed = Vec::with_capacity(filters.len());
        for filter in filters {
            let was_there = core.remove_subscription(key, filter);
            let record = core.sessions.get(key).and_then(|s| s.record.as_ref());
            if let (true, Some(record)) = (was_there, record) {
                let completion =
                    completion.get_or_insert_with(|| Completion::new(ack.0.clone(), ack.1));
                self.store.remove_subscription(
                    record.client_id.as_str(),
                    filter,
                    Some(finish(completion.part())),
                );
            }
            removed.push(was_there);
        }
        self.note(&mut core, key, Kind::Unsubscribed, || {
            let gone = filters.iter().zip(&removed).filter(|(_, gone)| **gone);
            Detail::Topics(gone.map(|(filter, _)| filter.clone()).collect())
        });
        self.announce_from(core);
        (removed, completion.is_none())
    }

    /// Whether a session may have no more rows.
    pub(crate) fn is_queue_full(&self, taker: TakerId) -> bool {
        let depth = self.store.depth(taker);
        depth.rows >= self.limits.max_queued_messages || depth.bytes >= self.limits.max_queued_bytes
    }
}
