//! Shared subscriptions (MQTT 5, 4.8.2): each message goes to one member of the group.
//!
//! A group is a share name and a filter. It finds the member for a message when the message is
//! there, not when the topic is matched: who takes a topic is remembered, whose turn it is cannot
//! be.
//!
//! # Invariants
//! 1. A message is with one member at most. A QoS 1 delivery that its member has not acknowledged
//!    comes back when that member's connection ends, and goes to another. One of QoS 2 stays with
//!    its member from its first PUBLISH on, through connections and restarts, and ends with its
//!    session ([MQTT-4.8.2-4], [MQTT-4.8.2-5]); so says its row (`claimed_by`).
//! 2. While a member of QoS ≥ 1 has a session that outlives its connection, every QoS ≥ 1 message
//!    has a row in the group's own queue ([`queue::Queue`]) before it is acknowledged, unless the
//!    member that gets it asked for QoS 0.
//! 3. A queue ends with its last member; what waits in it is counted as dropped.
//!
//! Locks are taken in this order: the broker's, a session's window, a group, a queue in memory.

mod queue;
mod registry;

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use iotedge_model::{DropReason, Message, MessageId, QoS, SubscriptionIds};
use iotedge_ports::{ClientHandle, CloseReason, Delivery, ShareId, SubscribeOptions};
use iotedge_store::{QueuedRow, TakerId, TakerKind, TakerRow};
use iotedge_telemetry::METRICS;

use crate::core::Grant;
use crate::outbox::{Env, Push, SessionBox};
use queue::{Queue, Reading};
pub(crate) use registry::{Groups, Shares, is_shared};

/// A shared subscription with its members.
pub(crate) struct Group {
    pub(crate) id: ShareId,
    /// `$share/NAME/FILTER`, which is also the name of its queue.
    pub(crate) text: Arc<str>,
    env: Arc<Env>,
    state: Mutex<State>,
}

struct State {
    seats: Seats,
    queue: Option<Queue>,
}

/// One member.
struct Seat {
    session: usize,
    mailbox: Arc<SessionBox>,
    /// Its connection, while it has one.
    handle: Option<Arc<dyn ClientHandle>>,
    grant: Grant,
    /// Its session outlives its connection and asks for QoS ≥ 1.
    durable: bool,
}

/// The members, the attached ones first.
#[derive(Default)]
struct Seats {
    all: Vec<Seat>,
    live: usize,
    /// Whose turn it is.
    next: usize,
    /// How many are durable.
    durable: usize,
}

/// What became of a message that was offered to a group.
pub(crate) enum Offer {
    /// A member has it, or nobody will and that is counted: there is no row to write.
    Done,
    /// A member has it, and its publisher should wait before it sends more.
    Pressed(Arc<SessionBox>),
    /// The row to write, and the member that has it already.
    Row(TakerRow, Option<Arc<SessionBox>>),
    /// The group's queue is at its limit.
    QueueFull(TakerId),
    /// There is no row, and no member gets it before [`Group::give`].
    Late,
}

impl Group {
    pub(crate) fn new(env: Arc<Env>, text: Arc<str>) -> Arc<Self> {
        Arc::new_cyclic(|group: &Weak<Self>| Self {
            id: env.shares.add(group.clone()),
            text,
            env,
            state: Mutex::new(State {
                seats: Seats::default(),
                queue: None,
            }),
        })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // No invariant of a group is broken half-way through its short sections.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether QoS ≥ 1 messages have rows.
    pub(crate) fn is_durable(&self) -> bool {
        self.lock().seats.is_durable()
    }

    /// The group's queue, while it has one.
    pub(crate) fn taker(&self) -> Option<TakerId> {
        self.lock().queue.as_ref().map(|q| q.taker)
    }

    /// A session becomes a member, or changes its options. `handle` is that of its connection.
    pub(crate) fn join(
        self: &Arc<Self>,
        session: usize,
        mailbox: &Arc<SessionBox>,
        handle: Option<&Arc<dyn ClientHandle>>,
        options: &SubscribeOptions,
        outlives: bool,
    ) {
        mailbox.join(session, self);
        let mut state = self.lock();
        let seat = Seat {
            session,
            mailbox: mailbox.clone(),
            handle: None,
            grant: Grant::of(options),
            durable: outlives && options.qos > QoS::AtMostOnce,
        };
        state.seats.remove(session);
        state.seats.add(seat);
        if let Some(handle) = handle {
            state.seats.arrive(session, handle);
        }
        if state.seats.is_durable() && state.queue.is_none() {
            state.queue = Some(self.open_queue());
        }
        self.retire(&mut state);
        if state.queue.as_ref().is_some_and(|q| !q.caught_up) {
            mailbox.feed.rouse();
        }
    }

    /// The queue as it is in the store: what of QoS 2 is with a session stays there, and what went
    /// to one that ended with its connection is nobody else's (5: [MQTT-4.8.2-5]).
    fn open_queue(&self) -> Queue {
        let store = &self.env.store;
        let taker = store.create_taker(TakerKind::Shared, &self.text);
        let mut queue = Queue::new(taker, store.depth(taker).rows == 0);
        if queue.caught_up {
            return queue;
        }
        match store.in_flight(taker) {
            Ok(rows) => {
                for row in rows {
                    let id = row.message.id;
                    if row.claimant.is_some() {
                        queue.claim(id, None);
                    } else {
                        METRICS.dropped(DropReason::SessionEnded, 1);
                        self.discard_row(&mut queue, id, DropReason::SessionEnded);
                    }
                }
            }
            Err(error) => tracing::error!(
                event = iotedge_telemetry::event::STORE,
                filter = %self.text,
                %error,
                "what members of a shared subscription had in flight could not be read"
            ),
        }
        queue
    }

    /// A session is a member no more: what it has not been sent goes to the others. `true`: it was
    /// the last one.
    pub(crate) fn leave(&self, session: usize) -> bool {
        let (seat, empty) = {
            let mut state = self.lock();
            let seat = state.seats.remove(session);
            self.retire(&mut state);
            (seat, state.seats.all.is_empty())
        };
        if let Some(seat) = seat {
            seat.mailbox.leave(self);
            let unsent = seat.mailbox.feed.take_share(self.id);
            self.take_back(None, unsent);
        }
        empty
    }

    /// Without durable members nothing new is queued: an empty queue goes.
    fn retire(&self, state: &mut State) {
        let store = &self.env.store;
        if !state.seats.is_durable() {
            let empty = |q: &mut Queue| q.is_idle() && store.depth(q.taker).rows == 0;
            if let Some(queue) = state.queue.take_if(empty) {
                store.remove_taker(queue.taker, DropReason::TakerRemoved, None);
            }
        }
    }

    /// The last member is gone: what waits is dropped.
    pub(crate) fn dissolve(&self, reason: DropReason) {
        self.env.shares.remove(self.id);
        if let Some(queue) = self.lock().queue.take() {
            let store = &self.env.store;
            let lost = store.depth(queue.taker).rows;
            if lost > 0 {
                METRICS.dropped(reason, lost);
                tracing::warn!(
                    event = iotedge_telemetry::event::MESSAGE_DROPPED,
                    filter = %self.text,
                    lost,
                    %reason,
                    "a shared subscription has no member left; its queue is gone"
                );
            }
            store.remove_taker(queue.taker, reason, None);
        }
    }

    /// A member's connection is there.
    pub(crate) fn arrive(&self, session: usize, handle: &Arc<dyn ClientHandle>) {
        self.lock().seats.arrive(session, handle);
    }

    /// A member's connection has ended.
    pub(crate) fn depart(&self, session: usize) {
        self.lock().seats.depart(session);
    }

    /// A message for one of the members, under the broker's lock. `is_full` says whether a queue
    /// is at its limit. A row is to be handed to the store, then [`Group::committed`] called. With
    /// `late` no member gets it before a commit: a row by the commit, where `holds` says so of the
    /// delivery's QoS, and what has no row by [`Group::give`].
    pub(crate) fn offer(
        &self,
        message: &Arc<Message>,
        is_full: impl FnOnce(TakerId) -> bool,
        late: bool,
        holds: impl Fn(QoS) -> bool,
    ) -> Offer {
        let mut state = self.lock();
        let durable = message.qos > QoS::AtMostOnce && state.seats.is_durable();
        let State { seats, queue } = &mut *state;
        match queue {
            Some(queue) if durable => self.offer_row(seats, queue, message, is_full, holds),
            _ if late => Offer::Late,
            _ => self.offer_live(seats, message),
        }
    }

    /// The time has come for a message that was [`Offer::Late`].
    pub(crate) fn give(&self, message: &Arc<Message>) {
        // Its publisher has gone on: there is nobody to wait for a member that is pressed.
        self.offer_live(&mut self.lock().seats, message);
    }

    fn offer_row(
        &self,
        seats: &mut Seats,
        queue: &mut Queue,
        message: &Arc<Message>,
        is_full: impl FnOnce(TakerId) -> bool,
        holds: impl Fn(QoS) -> bool,
    ) -> Offer {
        // Behind what waits already; otherwise to whoever has room.
        let seat = if queue.caught_up {
            seats.turn(|seat| seat.has_room(message.qos))
        } else {
            None
        };
        let seat = seat.filter(|seat| !holds(seat.qos(message.qos)));
        if let Some(seat) = seat {
            if seat.qos(message.qos) == QoS::AtMostOnce {
                seat.mailbox.feed.push(self.delivery(seat, message, false));
                return Offer::Done;
            }
        }
        if is_full(queue.taker) {
            return Offer::QueueFull(queue.taker);
        }
        queue.append(message.id, seat.is_some());
        let mailbox = seat.map(|seat| {
            seat.mailbox.feed.hand(self.delivery(seat, message, true));
            seat.mailbox.clone()
        });
        let row = TakerRow {
            taker: queue.taker,
            qos: message.qos,
            retain: message.retain,
            identifiers: SubscriptionIds::NONE,
        };
        Offer::Row(row, mailbox)
    }

    /// A message without a row: the next member with room, or one that keeps its publisher waiting.
    /// Where nobody has room in memory it is dropped and counted, and the member that was asked last
    /// is closed if it should have got QoS ≥ 1: that cannot be left out silently.
    fn offer_live(&self, seats: &mut Seats, message: &Arc<Message>) -> Offer {
        let mut seat = seats.turn(|seat| seat.has_room(message.qos));
        if seat.is_none() && message.qos > QoS::AtMostOnce {
            seat = seats.turn(|seat| seat.mailbox.feed.takes_more());
        }
        if let Some(seat) = seat {
            seat.mailbox.feed.push(self.delivery(seat, message, false));
            return Offer::Done;
        }
        let (mut full, mut slow) = (false, None);
        for _ in 0..seats.live {
            let Some(seat) = seats.turn(|_| true) else {
                break;
            };
            match seat.mailbox.feed.push(self.delivery(seat, message, false)) {
                Push::Queued => return Offer::Done,
                Push::Pressed => return Offer::Pressed(seat.mailbox.clone()),
                Push::Full => {
                    full = true;
                    if seat.qos(message.qos) > QoS::AtMostOnce {
                        slow.clone_from(&seat.handle);
                    }
                }
                Push::Absent => {}
            }
        }
        if full {
            METRICS.dropped(DropReason::SlowConsumer, 1);
        }
        if let Some(slow) = slow {
            slow.close(CloseReason::SlowConsumer);
        }
        Offer::Done
    }

    /// To a member, by its own subscription ([MQTT-4.8.2-3]).
    fn delivery(&self, seat: &Seat, message: &Arc<Message>, durable: bool) -> Delivery {
        let qos = seat.qos(message.qos);
        Delivery {
            message: message.clone(),
            qos,
            retain: seat.grant.retain_as_published && message.retain,
            dup: false,
            durable,
            share: (qos > QoS::AtMostOnce).then_some(self.id),
            identifiers: seat.grant.identifiers.clone(),
        }
    }

    /// The store is done with the row of `id`, which `member` has already. One that could not be
    /// committed was refused to its publisher.
    pub(crate) fn committed(&self, id: MessageId, member: Option<&SessionBox>, kept: bool) {
        if let (Some(member), false) = (member, kept) {
            member.lost(id);
        }
        let mut state = self.lock();
        let State { seats, queue } = &mut *state;
        if let Some(queue) = queue {
            queue.committed();
            if !kept {
                queue.settled(id);
            }
            if !queue.caught_up {
                seats.rouse();
            }
        }
    }

    /// Rows that wait, for a member with room for `most` of them; none while another member is
    /// served. `true`: there may be more.
    pub(crate) fn pull(
        &self,
        session: usize,
        most: usize,
        bytes: usize,
        out: &mut Vec<Delivery>,
    ) -> bool {
        loop {
            let Some(reading) = self.begin(session, most) else {
                return false;
            };
            let rows = self
                .env
                .store
                .read(reading.taker, reading.after, reading.rows, bytes);
            let mut state = self.lock();
            let State { seats, queue } = &mut *state;
            let Some(queue) = queue.as_mut().filter(|q| q.taker == reading.taker) else {
                return false;
            };
            let Ok(rows) = rows else {
                tracing::error!(
                    event = iotedge_telemetry::event::STORE,
                    filter = %self.text,
                    "a shared subscription's queue could not be read; its messages stay there"
                );
                // The tick has its members look again.
                queue.fail();
                self.env.unread.store(true, Ordering::Relaxed);
                return false;
            };
            let (before, found_nothing) = (out.len(), rows.is_empty());
            if let Some(seat) = seats.get(session) {
                for row in queue.fresh(rows) {
                    out.extend(self.claim(seat, queue, row));
                }
            }
            let (more, missed) = queue.end(&reading, found_nothing);
            if missed {
                seats.rouse();
            }
            if !more || out.len() > before {
                return more;
            }
        }
    }

    /// `None`: there is nothing to read, or somebody else is reading.
    fn begin(&self, session: usize, most: usize) -> Option<Reading> {
        let mut state = self.lock();
        let State { seats, queue } = &mut *state;
        let queue = queue.as_mut()?;
        if queue.caught_up || seats.get(session).is_none() {
            return None;
        }
        // A fair part of what waits, so that the first to come leaves something for the others.
        let waiting = self.env.store.depth(queue.taker).rows;
        let waiting = usize::try_from(waiting).unwrap_or(usize::MAX);
        let part = queue.unclaimed(waiting).div_ceil(seats.live.max(1));
        queue.begin(most.min(part.max(1)))
    }

    /// A row that this member gets. `None`: nobody gets it, or it needs no acknowledgement and is
    /// pushed behind what waits for the member.
    fn claim(&self, seat: &Seat, queue: &mut Queue, row: QueuedRow) -> Option<Delivery> {
        let message = Arc::new(row.message);
        if message.expiry.is_some() && message.is_expired(&self.env.clock.now()) {
            METRICS.dropped(DropReason::Expired, 1);
            self.discard_row(queue, message.id, DropReason::Expired);
            return None;
        }
        let mut delivery = self.delivery(seat, &message, true);
        if delivery.qos == QoS::AtMostOnce {
            delivery.durable = false;
            self.env.store.acknowledge(queue.taker, &[message.id]);
            queue.settled(message.id);
        } else {
            delivery.dup = queue.claim(message.id, seat.mailbox.feed.taker);
        }
        Some(delivery)
    }

    fn discard_row(&self, queue: &mut Queue, id: MessageId, reason: DropReason) {
        self.env.store.discard(queue.taker, &[id], reason);
        queue.settled(id);
    }

    /// A member has this one.
    pub(crate) fn acknowledge(&self, id: MessageId) {
        if let Some(queue) = &mut self.lock().queue {
            self.env.store.acknowledge(queue.taker, &[id]);
            queue.settled(id);
        }
    }

    /// A member cannot be given this one: no other one is tried ([MQTT-4.8.2-6]).
    pub(crate) fn discard(&self, id: MessageId, reason: DropReason) {
        if let Some(queue) = &mut self.lock().queue {
            self.discard_row(queue, id, reason);
        }
    }

    /// Deliveries that a member has not got: they go to others. `sent_to` is the queue of the
    /// session that may have seen them.
    pub(crate) fn take_back(&self, sent_to: Option<TakerId>, deliveries: Vec<Delivery>) {
        if deliveries.is_empty() {
            return;
        }
        let mut state = self.lock();
        let State { seats, queue } = &mut *state;
        for delivery in deliveries {
            match queue {
                Some(queue) if delivery.durable => {
                    let id = delivery.message.id;
                    if delivery.qos == QoS::ExactlyOnce {
                        // It has not left; its packet id may be on the way to the store.
                        self.env.store.unmark(queue.taker, &[id]);
                    }
                    queue.give_back(id, sent_to);
                }
                _ if delivery.durable => {}
                _ => self.pass_on(seats, &delivery.message),
            }
        }
        if queue.as_ref().is_some_and(|q| !q.caught_up) {
            seats.rouse();
        }
    }

    /// A message without a row whose member has gone.
    fn pass_on(&self, seats: &mut Seats, message: &Arc<Message>) {
        for _ in 0..seats.live {
            let Some(seat) = seats.turn(|_| true) else {
                break;
            };
            match seat.mailbox.feed.push(self.delivery(seat, message, false)) {
                Push::Queued | Push::Pressed => return,
                Push::Full | Push::Absent => {}
            }
        }
        METRICS.dropped(DropReason::SessionEnded, 1);
    }
}

impl Seat {
    fn qos(&self, of_message: QoS) -> QoS {
        self.grant.qos.min(of_message)
    }

    /// Whether the member gets to a message of this QoS soon.
    fn has_room(&self, of_message: QoS) -> bool {
        if self.qos(of_message) == QoS::AtMostOnce {
            self.mailbox.feed.takes_more()
        } else {
            self.mailbox.has_window()
        }
    }
}

impl Seats {
    fn position(&self, session: usize) -> Option<usize> {
        self.all.iter().position(|seat| seat.session == session)
    }

    fn get(&self, session: usize) -> Option<&Seat> {
        self.all.iter().find(|seat| seat.session == session)
    }

    fn is_durable(&self) -> bool {
        self.durable > 0
    }

    fn add(&mut self, seat: Seat) {
        self.durable += usize::from(seat.durable);
        self.all.push(seat);
    }

    fn remove(&mut self, session: usize) -> Option<Seat> {
        self.depart(session);
        let at = self.position(session)?;
        let seat = self.all.remove(at);
        self.durable -= usize::from(seat.durable);
        Some(seat)
    }

    fn arrive(&mut self, session: usize, handle: &Arc<dyn ClientHandle>) {
        let Some(at) = self.position(session) else {
            return;
        };
        if let Some(seat) = self.all.get_mut(at) {
            seat.handle = Some(handle.clone());
        }
        if at >= self.live {
            self.all.swap(at, self.live);
            self.live += 1;
        }
    }

    /// The others keep their order, so that each keeps its turn.
    fn depart(&mut self, session: usize) {
        if let Some(at) = self.position(session).filter(|at| *at < self.live) {
            if let Some(seat) = self.all.get_mut(at) {
                seat.handle = None;
            }
            if let Some(range) = self.all.get_mut(at..self.live) {
                range.rotate_left(1);
            }
            self.live -= 1;
            if at < self.next {
                self.next -= 1;
            }
        }
    }

    /// The next attached member in turn that fits.
    fn turn(&mut self, fits: impl Fn(&Seat) -> bool) -> Option<&Seat> {
        for step in 0..self.live {
            let at = (self.next + step) % self.live;
            if self.all.get(at).is_some_and(&fits) {
                self.next = at + 1;
                return self.all.get(at);
            }
        }
        None
    }

    fn rouse(&self) {
        for seat in self.all.iter().take(self.live) {
            seat.mailbox.feed.rouse();
        }
    }
}
