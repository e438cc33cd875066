//! Messages of one read on one topic, for takers that have no row for them: handed to each taker at
//! once, so that what is done for a taker is done for many messages.

use std::sync::Arc;

use iotedge_model::{DropReason, Message, QoS, SubscriptionIds};
use iotedge_ports::{
    CloseReason, Delivery, Pressure, Publication, PublishOutcome, RuleOutput, Run, RunPart,
};
use iotedge_telemetry::METRICS;

use super::grant;
use crate::core::{Core, Match, Taker};
use crate::outbox::Push;
use crate::session::Session;

/// Larger payloads are not written together: each leaves from where it lies.
const SMALL: usize = 2048;

/// Whether all who get it with QoS 0 are written the same.
fn is_alike(message: &Message) -> bool {
    message.expiry.is_none() && message.payload.len() < SMALL
}

/// A publication that may go with others.
fn goes_along(publication: &Publication, derived: &RuleOutput) -> bool {
    let Some(message) = &publication.message else {
        return false;
    };
    let alone =
        publication.target.is_none() && derived.published.is_empty() && derived.handed.is_empty();
    alone && message.qos < QoS::ExactlyOnce && !message.retain
}

/// Whether two that go along go the same way.
fn go_together(first: &Publication, next: &Publication) -> bool {
    let (Some(a), Some(b)) = (&first.message, &next.message) else {
        return false;
    };
    let same_topic = a.topic.is_same(&b.topic) || a.topic == b.topic;
    same_topic
        && a.qos == b.qos
        && is_alike(a) == is_alike(b)
        && first.connection == next.connection
}

/// Gives the first publications of a batch to their takers together; how many. None where the
/// first has to be looked at for itself: its takers are not sessions alone, one of them has a
/// row for it, or it waits for a commit.
pub(super) fn give_run(
    core: &mut Core,
    batch: &mut [Publication],
    derived: &[RuleOutput],
) -> usize {
    let Some((matches, own)) = takers(core, batch, derived) else {
        return 0;
    };
    let Some(first) = batch.first() else {
        return 0;
    };
    let others = batch.iter().zip(derived).skip(1);
    let count = 1 + others
        .take_while(|(next, derived)| goes_along(next, derived) && go_together(first, next))
        .count();
    let mut qos = QoS::AtMostOnce;
    let mut messages = Vec::with_capacity(count);
    for publication in batch.iter_mut().take(count) {
        if let Some(mut message) = publication.message.take() {
            qos = message.qos;
            message.id = core.next_message();
            messages.push(Arc::new(message));
        }
    }
    let mut together = Together {
        messages,
        run: None,
        pressure: None,
    };
    let mut matched = false;
    for entry in matches.iter() {
        let Taker::Session(key) = entry.taker else {
            continue;
        };
        let (Some(grant), Some(session)) = (grant(entry, Some(key) == own), core.sessions.get(key))
        else {
            continue;
        };
        matched = true;
        together.give(session, grant.qos.min(qos), &grant.identifiers);
    }
    for publication in batch.iter_mut().take(count) {
        publication.ack = None;
        publication.outcome = PublishOutcome::Done { matched };
    }
    if let Some(last) = batch.get_mut(count - 1) {
        last.pressure = together.pressure;
    }
    count
}

/// The takers of the first of a batch, and its own session, if others may go along with it.
fn takers(
    core: &mut Core,
    batch: &[Publication],
    derived: &[RuleOutput],
) -> Option<(Arc<[Match]>, Option<usize>)> {
    let first = batch.first().filter(|_| !core.stopping)?;
    let message = first.message.as_ref()?;
    if !goes_along(first, derived.first()?) {
        return None;
    }
    let own = match first.connection {
        Some(connection) => Some(core.session_of(connection)?),
        None => None,
    };
    let publisher = own.and_then(|key| core.sessions.get(key));
    if publisher.is_some_and(|session| session.mailbox.received.is_waiting()) {
        return None;
    }
    let matches = core.takers(&message.topic);
    let is_live = |entry: &Match| match entry.taker {
        Taker::Session(key) => {
            let qos = grant(entry, Some(key) == own).map_or(QoS::AtMostOnce, |g| g.qos);
            let session = core.sessions.get(key);
            qos.min(message.qos) == QoS::AtMostOnce
                || session.is_some_and(|session| session.taker().is_none())
        }
        Taker::Group(_) | Taker::Route(_) | Taker::Service(_) => false,
    };
    let live = matches.iter().all(is_live);
    live.then_some((matches, own))
}

/// Messages that their takers get together.
struct Together {
    messages: Vec<Arc<Message>>,
    /// For those who get them with QoS 0: made when the first does.
    run: Option<Arc<Run>>,
    /// What their publisher should wait for.
    pressure: Option<Arc<dyn Pressure>>,
}

impl Together {
    fn give(&mut self, session: &Session, qos: QoS, identifiers: &SubscriptionIds) {
        let feed = &session.mailbox.feed;
        let (dropped, pressed) = match self.messages.as_slice() {
            [message] => {
                let delivery = Delivery {
                    qos,
                    ..Delivery::live(message.clone(), identifiers.clone())
                };
                let pushed = feed.push(delivery);
                (usize::from(pushed == Push::Full), pushed == Push::Pressed)
            }
            [first, ..] if qos == QoS::AtMostOnce && is_alike(first) => {
                let messages = &self.messages;
                let run = self
                    .run
                    .get_or_insert_with(|| Arc::new(Run::new(messages.to_vec())));
                let part = RunPart::whole(run.clone(), identifiers.clone());
                let pushed = feed.push_run(part);
                (pushed.dropped, pushed.pressed)
            }
            messages => {
                let pushed = feed.push_all(messages, qos, identifiers);
                (pushed.dropped, pushed.pressed)
            }
        };
        if pressed {
            self.pressure = Some(session.mailbox.clone());
        }
        if dropped > 0 {
            METRICS.dropped(DropReason::SlowConsumer, dropped as u64);
            // A QoS 1 message without a row cannot be left out silently.
            if let (true, Some(live)) = (qos > QoS::AtMostOnce, &session.live) {
                live.handle.close(CloseReason::SlowConsumer);
            }
        }
    }
}
