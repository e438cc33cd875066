//! The way of a message through the broker: rules, takers, admission, fan-out.

mod attach;
mod deferred;
mod route;
mod rules;
mod run;

use std::num::NonZeroU16;
use std::sync::Arc;

use iotedge_model::{ClientId, DropReason, Message, MessageId, QoS, Source, TraceId};
use iotedge_ports::{
    AckSink, CloseReason, Completion, ConnectionId, Delivery, Failure, Part, Pressure, Publication,
    PublishOutcome, Refusal, RuleOutput, Service, Target,
};
use iotedge_store::{Append, Done, RetainedChange, TakerRow};
use iotedge_telemetry::METRICS;

use crate::Shared;
use crate::core::{Core, Grant, Match, Taker};
use crate::events::is_event;
use crate::group::{Group, Offer};
use crate::late::{Hold, Late};
use crate::outbox::{Push, RouteBox, SessionBox};
use crate::received::Known;
use crate::sys::is_counter;
use route::{admit_route, give_to_route, give_to_target, needs_room, takes};
use rules::Evaluation;
use run::give_run;

/// Bytes waiting for the writer above which QoS 0 is not queued any more.
const SHED_BYTES: u64 = 16 << 20;

/// A message and its takers, before it is given an id.
struct Planned {
    message: Message,
    /// Empty where there is a target.
    matches: Arc<[Match]>,
    target: Option<Target>,
}

impl Planned {
    fn new(core: &mut Core, target: Option<Target>, message: Message) -> Self {
        let matches = match target {
            None => core.takers(&message.topic),
            Some(_) => Arc::from([]),
        };
        Self {
            message,
            matches,
            target,
        }
    }

    fn has_service(&self) -> bool {
        let mut takers = self.matches.iter().map(|entry| entry.taker);
        takers.any(|taker| matches!(taker, Taker::Service(_)))
    }
}

/// A message for a service, handed over when the lock is free.
type Handover = (Arc<dyn Service>, Arc<Message>, Option<Part>);

/// What services get when the lock is free.
#[derive(Default)]
struct Handovers {
    all: Vec<Handover>,
    /// What waits for them; dropped when all are handed over.
    behind: Vec<Completion>,
}

/// Queues to tell when rows are with the store, and when they are committed.
#[derive(Clone)]
enum Committed {
    Session(Arc<SessionBox>, MessageId),
    /// A group, and the member that has the message already.
    Group(Arc<Group>, Option<Arc<SessionBox>>, MessageId),
    Route(Arc<RouteBox>, MessageId),
}

impl Committed {
    fn appended(&self) {
        match self {
            Self::Session(session, _) => session.feed.appended(),
            Self::Group(_, Some(member), _) => member.feed.appended(),
            Self::Group(_, None, _) => {}
            Self::Route(route, _) => route.feed.appended(),
        }
    }

    fn tell(&self, kept: bool) {
        match self {
            Self::Session(session, id) => session.committed(*id, kept),
            Self::Group(group, member, id) => group.committed(*id, member.as_deref(), kept),
            Self::Route(route, id) => route.feed.committed(*id, kept),
        }
    }
}

/// What one publication hands to the store, and who hears of it.
#[derive(Default)]
struct Rows {
    appends: Vec<Append>,
    committed: Vec<Committed>,
}

impl Shared {
    pub(crate) fn publish(&self, batch: &mut [Publication]) {
        let now = self.clock.now();
        let mut rules = Evaluation::new(self, &now);
        let mut derived: Vec<RuleOutput> = Vec::with_capacity(batch.len());
        for publication in batch.iter_mut() {
            if self.comes_back(publication) {
                METRICS.dropped(DropReason::Loop, 1);
                publication.message = None;
                publication.outcome = PublishOutcome::Done { matched: true };
            }
            let Some(message) = publication.message.as_mut() else {
                derived.push(RuleOutput::default());
                continue;
            };
            message.accepted_at = now.wall;
            message.trusted = now.trusted;
            if message.trace == TraceId(0) {
                message.trace = TraceId::unique();
            }
            derived.push(match publication.target {
                None => rules.of(message),
                Some(_) => RuleOutput::default(),
            });
        }
        let mut handovers = Handovers::default();
        {
            let mut core = self.lock();
            let (mut batch, mut derived) = (batch, derived.into_iter());
            loop {
                let together = give_run(&mut core, batch, derived.as_slice());
                derived.by_ref().take(together).for_each(drop);
                batch = batch.get_mut(together..).unwrap_or_default();
                let Some((publication, rest)) = batch.split_first_mut() else {
                    break;
                };
                batch = rest;
                let derived = derived.next().unwrap_or_default();
                let Some(message) = publication.message.take() else {
                    continue;
                };
                let acceptance = Acceptance {
                    shared: self,
                    connection: publication.connection,
                    inbound: publication.inbound,
                    hold: None,
                    completion: None,
                    ack: publication.ack.take(),
                    handovers: Some(&mut handovers),
                    pressure: &mut publication.pressure,
                };
                let target = publication.target.take();
                publication.outcome = acceptance.accept(&mut core, (target, message), derived);
            }
        }
        for (service, message, part) in handovers.all {
            service.deliver(&message, part);
        }
    }
}

/// One publication with what rules made of it: accepted or refused as a whole.
struct Acceptance<'a> {
    shared: &'a Shared,
    connection: Option<ConnectionId>,
    /// The packet id of a QoS 2 PUBLISH.
    inbound: Option<NonZeroU16>,
    /// What waits for a commit, where it does (invariant 6).
    hold: Option<Hold>,
    completion: Option<Completion>,
    ack: Option<(Arc<dyn AckSink>, u64)>,
    /// `None` when services have had the message.
    handovers: Option<&'a mut Handovers>,
    pressure: &'a mut Option<Arc<dyn Pressure>>,
}

impl Acceptance<'_> {
    fn accept(
        mut self,
        core: &mut Core,
        (target, message): (Option<Target>, Message),
        derived: RuleOutput,
    ) -> PublishOutcome {
        // A will is the last word of a connection that the stop itself has closed, and so is the
        // event of its end.
        if core.stopping && message.source != Source::Will && !is_event(&message.source) {
            return PublishOutcome::Refused(Refusal::Stopping);
        }
        let own = self.connection.and_then(|c| core.session_of(c));
        if self.connection.is_some() && own.is_none() {
            return PublishOutcome::Refused(Refusal::Detached);
        }
        let publisher = own
            .and_then(|key| core.sessions.get(key))
            .filter(|session| session.mailbox.durable().is_some())
            .map(|session| session.mailbox.clone());
        let inbound = self.inbound.filter(|_| publisher.is_some());
        if let (Some(publisher), Some(id)) = (&publisher, inbound) {
            if let Some(outcome) = self.repeated(publisher, id) {
                return outcome;
            }
        }
        let planned = match self.plan(core, (target, message), derived, own, inbound.is_some()) {
            Ok(planned) => planned,
            Err(refusal) => return PublishOutcome::Refused(refusal),
        };
        self.hold = publisher.and_then(|publisher| Hold::new(publisher, inbound));
        if inbound.is_some() && planned.iter().any(Planned::has_service) {
            return self.defer(core, planned);
        }
        let matched = self.give(core, planned, own);
        match self.completion {
            Some(_) => PublishOutcome::Pending,
            None => PublishOutcome::Done { matched },
        }
    }

    /// Gives all of it to its takers; whether there are any.
    fn give(&mut self, core: &mut Core, planned: Vec<Planned>, own: Option<usize>) -> bool {
        let mut inbound = self.hold.as_ref().and_then(Hold::inbound);
        let mut own = own;
        let mut matched = false;
        let mut rows = Rows::default();
        for plan in planned {
            matched |= self.fan_out(core, plan, own.take(), inbound.take(), &mut rows);
        }
        self.hold.take_if(|hold| hold.is_idle());
        if !rows.appends.is_empty() || self.hold.is_some() {
            self.hand_in(rows);
        }
        matched
    }

    /// What becomes of a QoS 2 message that was taken before; `None` for a new one.
    fn repeated(&mut self, publisher: &SessionBox, id: NonZeroU16) -> Option<PublishOutcome> {
        match publisher.received.known(id) {
            Known::No => None,
            Known::Kept => Some(PublishOutcome::Done { matched: true }),
            Known::Committing => {
                let part = self.part()?;
                publisher.received.join(id, part);
                Some(PublishOutcome::Pending)
            }
        }
    }

    /// The message and all that rules made of it, with their takers, admitted as a whole.
    fn plan(
        &self,
        core: &mut Core,
        whole: (Option<Target>, Message),
        derived: RuleOutput,
        own: Option<usize>,
        inbound: bool,
    ) -> Result<Vec<Planned>, Refusal> {
        if inbound {
            self.healthy()?;
        }
        let RuleOutput { published, handed } = derived;
        let mut planned = Vec::with_capacity(1 + published.len() + handed.len());
        let mut own = own;
        let published = published.into_iter().map(|message| (None, message));
        let handed = handed.into_iter().map(|(to, message)| (Some(to), message));
        for (target, message) in std::iter::once(whole).chain(published).chain(handed) {
            let plan = Planned::new(core, target, message);
            self.admit(core, &plan, own.take())?;
            planned.push(plan);
        }
        Ok(planned)
    }

    /// Hands all rows to the store in one transaction.
    fn hand_in(&mut self, rows: Rows) {
        let Rows { appends, committed } = rows;
        let part = if appends.is_empty() {
            None
        } else {
            self.part()
        };
        let mut hold = self.hold.take();
        if let Some(hold) = &mut hold {
            *self.pressure = hold.begin(&self.shared.limits).or(self.pressure.take());
        }
        let taken = committed.clone();
        let done: Done = Box::new(move |outcome| {
            let outcome = outcome.map_err(|_| Failure::Store);
            for queue in &committed {
                queue.tell(outcome.is_ok());
            }
            if let Some(hold) = hold {
                hold.end(outcome);
            }
            if let Some(part) = part {
                part.finish(outcome);
            }
        });
        self.shared.store.append(appends, Some(done));
        for queue in &taken {
            queue.appended();
        }
    }

    /// Something that the publisher's acknowledgement waits for, where it waits for one.
    fn part(&mut self) -> Option<Part> {
        if self.completion.is_none() {
            let (sink, token) = self.ack.take()?;
            self.completion = Some(Completion::new(sink, token));
        }
        self.completion.as_ref().map(Completion::part)
    }

    /// Invariant 1: decides before anyone gets anything.
    fn admit(&self, core: &Core, plan: &Planned, own: Option<usize>) -> Result<(), Refusal> {
        let message = &plan.message;
        if let Some(target) = &plan.target {
            return match core.target(target) {
                Some(queue) if message.qos > QoS::AtMostOnce => {
                    admit_route(queue, message)?;
                    self.healthy()
                }
                _ => Ok(()),
            };
        }
        // Clearing makes room, so that it is never refused.
        let retains = message.retain && !message.payload.is_empty() && !is_counter(message);
        if retains {
            self.admit_retained(core, message)?;
        }
        let mut asked = retains;
        for entry in plan.matches.iter() {
            let durable = match entry.taker {
                Taker::Session(key) => {
                    let qos = grant(entry, Some(key) == own).map_or(QoS::AtMostOnce, |g| g.qos);
                    qos.min(message.qos) > QoS::AtMostOnce
                        && core.sessions.get(key).is_some_and(|s| s.record.is_some())
                }
                Taker::Group(key) => {
                    message.qos > QoS::AtMostOnce
                        && core.groups.get(key).is_some_and(|group| group.is_durable())
                }
                Taker::Route(key) => match core.routes.get(key) {
                    // QoS 0 was promised nothing: it is shed where a higher one is refused.
                    Some(route) if message.qos > QoS::AtMostOnce && takes(route, message) => {
                        admit_route(route, message)?;
                        needs_room(route)
                    }
                    _ => false,
                },
                Taker::Service(_) => false,
            };
            if durable && !asked {
                asked = true;
                self.healthy()?;
            }
        }
        Ok(())
    }

    fn healthy(&self) -> Result<(), Refusal> {
        self.shared
            .store
            .health()
            .map_err(|_| Refusal::StoreUnavailable)
    }

    fn admit_retained(&self, core: &Core, message: &Message) -> Result<(), Refusal> {
        let limits = &self.shared.limits;
        let (bytes, old) = core.retained.bytes(&message.topic);
        if message.cost() > limits.retained_max_bytes {
            return Err(Refusal::TooLarge);
        }
        let full = old.is_none() && core.retained.len() >= limits.retained_max;
        let after = bytes
            .saturating_sub(old.unwrap_or(0))
            .saturating_add(message.cost());
        if full || after > limits.retained_max_bytes {
            return Err(Refusal::QuotaExceeded);
        }
        if message.qos == QoS::AtMostOnce && self.shared.store.pending_bytes() > SHED_BYTES {
            return Err(Refusal::StoreUnavailable);
        }
        self.healthy()
    }

    fn fan_out(
        &mut self,
        core: &mut Core,
        plan: Planned,
        own: Option<usize>,
        inbound: Option<(ClientId, NonZeroU16)>,
        out: &mut Rows,
    ) -> bool {
        let mut message = plan.message;
        message.id = core.next_message();
        let message = Arc::new(message);
        let committed = &mut out.committed;
        let mut rows = Vec::new();
        let mut matched = false;
        if let Some(target) = &plan.target {
            let hold = self.hold.as_ref().is_some_and(|h| h.holds(false));
            matched = give_to_target(core, target, &message, hold, &mut rows, committed);
        }
        for entry in plan.matches.iter() {
            match entry.taker {
                Taker::Session(key) => {
                    let Some(grant) = grant(entry, Some(key) == own) else {
                        continue;
                    };
                    matched = true;
                    self.give_to_session(core, key, grant, &message, &mut rows, committed);
                }
                Taker::Group(key) => {
                    if let Some(group) = core.groups.get(key) {
                        matched = true;
                        self.give_to_group(group, &message, &mut rows, committed);
                    }
                }
                Taker::Route(key) => {
                    let Some(route) = core.routes.get(key) else {
                        continue;
                    };
                    if takes(route, &message) {
                        matched = true;
                        let hold = self.hold.as_ref().is_some_and(|h| h.holds(false));
                        give_to_route(route, &entry.remote, &message, hold, &mut rows, committed);
                    }
                }
                // A message that was deferred has been there.
                Taker::Service(_) if self.handovers.is_none() => matched = true,
                Taker::Service(key) => {
                    if let Some(service) = core.services.get(key) {
                        matched = true;
                        let part = if message.qos > QoS::AtMostOnce {
                            self.part()
                        } else {
                            None
                        };
                        if let Some(handovers) = &mut self.handovers {
                            let handover = (service.clone(), message.clone(), part);
                            handovers.all.push(handover);
                        }
                    }
                }
            }
        }
        let retained = match plan.target {
            None => retain(core, &message),
            Some(_) => None,
        };
        if !rows.is_empty() || retained.is_some() || inbound.is_some() {
            let mut append = Append::new(message, rows, retained);
            append.inbound = inbound;
            out.appends.push(append);
        }
        matched
    }

    fn give_to_group(
        &mut self,
        group: &Arc<Group>,
        message: &Arc<Message>,
        rows: &mut Vec<TakerRow>,
        committed: &mut Vec<Committed>,
    ) {
        let hold = self.hold.as_ref();
        let holds = |qos| hold.is_some_and(|hold| hold.holds(qos == QoS::ExactlyOnce));
        let is_full = |taker| self.shared.is_queue_full(taker);
        match group.offer(message, is_full, hold.is_some(), holds) {
            Offer::Done => {}
            Offer::Late => {
                if let Some(hold) = &mut self.hold {
                    hold.add(Late::to_group(group, message), &self.shared.limits);
                }
            }
            Offer::Pressed(member) => *self.pressure = Some(member),
            Offer::QueueFull(taker) => {
                METRICS.dropped(DropReason::QueueFull, 1);
                self.shared
                    .store
                    .count_drop(taker, DropReason::QueueFull, 1);
            }
            Offer::Row(row, member) => {
                rows.push(row);
                committed.push(Committed::Group(group.clone(), member, message.id));
            }
        }
    }

    fn give_to_session(
        &mut self,
        core: &Core,
        key: usize,
        grant: &Grant,
        message: &Arc<Message>,
        rows: &mut Vec<TakerRow>,
        committed: &mut Vec<Committed>,
    ) {
        let Some(session) = core.sessions.get(key) else {
            return;
        };
        let qos = grant.qos.min(message.qos);
        let durable = session.taker().filter(|_| qos > QoS::AtMostOnce);
        // MQTT-3.3.1-9: to an established subscription RETAIN is 0, unless version 5 asks for it.
        let retain = grant.retain_as_published && message.retain;
        let delivery = Delivery {
            message: message.clone(),
            qos,
            retain,
            dup: false,
            durable: durable.is_some(),
            share: None,
            identifiers: grant.identifiers.clone(),
        };
        let Some(taker) = durable else {
            if let Some(hold) = &mut self.hold {
                let handle = session.live.as_ref().map(|live| live.handle.clone());
                let late = Late::to_session(session.mailbox.clone(), delivery, handle);
                if hold.add(late, &self.shared.limits) {
                    *self.pressure = Some(session.mailbox.clone());
                }
                return;
            }
            match session.mailbox.feed.push(delivery) {
                Push::Queued | Push::Absent => {}
                Push::Pressed => *self.pressure = Some(session.mailbox.clone()),
                Push::Full => {
                    METRICS.dropped(DropReason::SlowConsumer, 1);
                    // A QoS 1 message without a row cannot be left out silently.
                    if qos > QoS::AtMostOnce {
                        if let Some(live) = &session.live {
                            live.handle.close(CloseReason::SlowConsumer);
                        }
                    }
                }
            }
            return;
        };
        if self.shared.is_queue_full(taker) {
            METRICS.dropped(DropReason::QueueFull, 1);
            self.shared
                .store
                .count_drop(taker, DropReason::QueueFull, 1);
            return;
        }
        let marked = qos == QoS::ExactlyOnce;
        let hold = self.hold.as_ref().is_some_and(|h| h.holds(marked));
        session.mailbox.feed.append(delivery, hold);
        committed.push(Committed::Session(session.mailbox.clone(), message.id));
        rows.push(TakerRow {
            taker,
            qos,
            retain,
            identifiers: grant.identifiers.clone(),
        });
    }
}

/// What a session gets, `None` when it is the publisher and wants none of its own.
fn grant(entry: &Match, own: bool) -> Option<&Grant> {
    if own {
        entry.local.as_ref()
    } else {
        Some(&entry.remote)
    }
}

fn retain(core: &mut Core, message: &Arc<Message>) -> Option<RetainedChange> {
    if !message.retain {
        return None;
    }
    if is_counter(message) {
        let now = core.env.clock.now();
        core.sys.set(message.clone(), &now);
        return None;
    }
    // MQTT-3.3.1-10: no payload removes, and is not retained itself.
    if message.payload.is_empty() {
        core.retained.clear(&message.topic);
        Some(RetainedChange::Clear)
    } else {
        let now = core.env.clock.now();
        core.retained.set(message.clone(), &now);
        Some(RetainedChange::Set)
    }
}
