//! An open connection: what it holds, and what it does with what came.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use iotedge_model::{Action, ClientId, Protocol};
use iotedge_mqtt::{AckProperties, Decoder, Inbound, Packet, PacketId, ReasonCode, Receipt, Str};
use iotedge_ports::{
    ConnectionId, DisconnectReason, Failure, Pressure, Publication, SessionMailbox, Subscription,
    Wake,
};
use iotedge_telemetry::{METRICS, Traffic, event};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::time::Instant;

use super::alias::{AliasesIn, AliasesOut};
use super::auth::Asker;
use super::connack::{connack, receive_maximum};
use super::decisions::Decisions;
use super::drive::Course;
use super::end::{Detach, End, reason_string};
use super::handle::Handle;
use super::open::Opened;
use super::output::Output;
use super::rates::Rates;
use super::terms::Terms;
use super::{LAST_WORDS, Peer, hang_up};
use crate::Context;
use crate::authenticate::{Refresher, Stay};

/// Output beyond which nothing more is drained and nothing more is read.
pub(super) const OUTPUT_HIGH: usize = 128 * 1024;
/// How long a publisher waits for a taker that does not keep up.
pub(super) const PATIENCE: Duration = Duration::from_millis(500);

/// A SUBACK or UNSUBACK that waits for its commit.
pub(super) enum Answer {
    Subscribed {
        packet: Packet,
        /// Those whose retained messages follow.
        subscriptions: Vec<Subscription>,
        /// It was the connection's last.
        end: Option<End>,
    },
    Unsubscribed {
        packet: Packet,
    },
}

/// Tokens of answers; those of publishes are counted up from 0 by [`Inbound`].
const ANSWER: u64 = 1 << 63;

thread_local! {
    /// Room for the notices of one wake: used between two waits, so that no connection needs its
    /// own.
    static ACKED: Cell<Vec<(u64, Result<(), Failure>)>> = const { Cell::new(Vec::new()) };
    /// Room for the PUBACKs of one read.
    static PUBACKS: Cell<Vec<PacketId>> = const { Cell::new(Vec::new()) };
}

pub(crate) struct Pump {
    pub(super) context: Arc<Context>,
    pub(super) peer: Peer,
    pub(super) client_id: ClientId,
    pub(super) connection: ConnectionId,
    pub(super) decisions: Decisions,
    pub(super) handle: Arc<Handle>,
    pub(super) inbound: Inbound,
    pub(super) output: Output,
    /// Publications on their way to the broker.
    pub(super) batch: Option<Box<Batch>>,
    pub(super) terms: Terms,
    pub(super) aliases_out: AliasesOut,
    /// Version 5: unacknowledged publishes of the client beyond which it breaks its promise.
    pub(super) receive_maximum: u32,
    /// How it ends when what was said has gone out: an answer was larger than the client takes, or
    /// was its last.
    pub(super) ending: Option<End>,
    pub(super) mailbox: Arc<dyn SessionMailbox>,
    decoder: Decoder,
    pub(super) input: BytesMut,
    /// With its token. There is at most one: no packet is looked at before it is given.
    answer: Option<Box<(u64, Answer)>>,
    last_answer: u32,
    pub(super) more: bool,
    /// A taker that this client's publishes wait for, and until when.
    pub(super) pressed: Option<Box<(Arc<dyn Pressure>, Instant)>>,
    pub(super) course: Course,
    /// How much there may be in a second, where the configuration says so.
    pub(super) rates: Option<Box<Rates>>,
    detach: Option<Detach>,
    seldom: Option<Box<Seldom>>,
}

/// Publications on their way to the broker: there are none while the connection waits.
#[derive(Default)]
pub(super) struct Batch {
    pub(super) publications: Vec<Publication>,
    /// Tokens of the QoS 1 and 2 publishes, and their bytes.
    pub(super) tokens: Vec<Option<(u64, usize)>>,
    /// The sum of their bytes.
    pub(super) bytes: usize,
}

/// What few connections have, or only at their end.
#[derive(Default)]
struct Seldom {
    /// What the end is about, in words.
    explanation: Option<String>,
    /// Words that go with the refusal of a publish, by its token (MQTT 5, 3.4.2.2.2).
    reasons: BTreeMap<u64, Str>,
    /// When it has lasted long enough, and why.
    closes_at: Option<(Instant, DisconnectReason)>,
    /// Asks the authenticator again, as long as this is here.
    _refresher: Option<Refresher>,
    aliases: AliasesIn,
}

/// When the connection has lasted long enough: the first of what is set.
fn closing_time(
    peer: &Peer,
    context: &Context,
    stay: Option<&Stay>,
) -> Option<(Instant, DisconnectReason)> {
    let websocket = match peer.protocol {
        Protocol::WebSocket => context.limits.max_websocket_duration,
        _ => None,
    };
    let websocket = websocket.map(|most| (most, DisconnectReason::WebSocketExpired));
    let granted = stay
        .and_then(|stay| stay.disconnect_after)
        .map(|most| (most, DisconnectReason::CustomAuthExpired));
    let (most, reason) = websocket
        .into_iter()
        .chain(granted)
        .min_by_key(|(most, _)| *most)?;
    Some((Instant::now() + most, reason))
}

impl Pump {
    pub(super) fn new(
        opened: Opened,
        peer: Peer,
        context: Arc<Context>,
        decoder: Decoder,
        input: BytesMut,
    ) -> Self {
        let hello = connack(&opened, &context.limits);
        let detach = Detach::lost(&opened, &context);
        let connected = opened.connected;
        let terms = opened.terms;
        let rates = Rates::of(&context.limits);
        let closes_at = closing_time(&peer, &context, opened.stay.as_ref());
        let refresher = opened
            .stay
            .and_then(|stay| stay.refresher(&peer, &opened.handle));
        let seldom = (closes_at.is_some() || refresher.is_some()).then(|| {
            Box::new(Seldom {
                closes_at,
                _refresher: refresher,
                ..Seldom::default()
            })
        });
        let alias_maximum = terms
            .topic_alias_maximum
            .min(context.limits.max_topic_alias);
        // One more than is allowed, or the one that is too many could not be seen. 3.1.1 has no
        // such promise: its client is read no further.
        let (receive_maximum, limit) = if terms.is_v5() {
            let maximum = receive_maximum(&context.limits).get();
            (u32::from(maximum), usize::from(maximum) + 1)
        } else {
            (u32::MAX, context.limits.max_inflight)
        };
        let decisions = Decisions::new(&*context.authorizer, &peer);
        let mut pump = Self {
            decisions,
            detach: Some(detach),
            inbound: Inbound::new(limit),
            context,
            peer,
            client_id: opened.client_id,
            connection: connected.connection,
            handle: opened.handle,
            output: Output::default(),
            batch: None,
            terms,
            aliases_out: AliasesOut::new(alias_maximum),
            receive_maximum,
            ending: None,
            mailbox: connected.mailbox,
            decoder,
            input,
            answer: None,
            last_answer: 0,
            more: true,
            pressed: None,
            course: Course::new(),
            rates,
            seldom,
        };
        pump.inbound.resume(connected.unreleased);
        pump.send(&hello);
        pump.recheck(&connected.filters);
        pump
    }

    /// Decision 7: a resumed session's subscriptions are asked again under who resumes it.
    fn recheck(&mut self, filters: &[Arc<str>]) {
        let denied: Vec<Arc<str>> = filters
            .iter()
            .filter(|filter| !self.ask(Action::Subscribe, filter))
            .cloned()
            .collect();
        if !denied.is_empty() {
            // Nobody waits for these; the token is one that no answer has.
            let ack = (self.handle.clone() as Arc<_>, u64::MAX);
            self.context
                .broker
                .unsubscribe(self.connection, &denied, ack);
        }
    }

    /// Asks the policies.
    pub(super) fn ask(&self, action: Action, resource: &str) -> bool {
        Asker::new(&self.context, &self.peer, &self.client_id).ask(action, resource)
    }

    /// How long the client may be silent: one and a half times its keep-alive ([MQTT-3.1.2-24]).
    pub(super) fn silence(&self) -> Option<Duration> {
        let keep_alive = u64::from(self.terms.keep_alive);
        (keep_alive > 0).then(|| Duration::from_millis(keep_alive * 1500))
    }

    /// The last words.
    pub(super) async fn finish<S>(&mut self, end: End, stream: &mut S)
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        // Before the last words, which may take a while: a client that is back at once must find
        // that this connection has ended as it did.
        if let Some(mut detach) = self.detach.take() {
            detach.end = end;
        }
        tracing::info!(
            event = event::DISCONNECT,
            remote = %self.peer.remote,
            principal_id = %self.peer.principal,
            trace_id = %self.peer.trace,
            client_id = %self.client_id,
            reason = end.reason.as_str(),
            "disconnected"
        );
        if self.terms.is_v5() {
            if let Some(packet) = end.disconnect(self.explanation()) {
                self.send(&packet);
            }
        }
        self.course.count_sent(self.output.len());
        let words = async {
            while !self.output.is_empty() {
                let output = &mut self.output;
                if poll_fn(|cx| output.poll_write(cx, &mut *stream, usize::MAX)).await? == 0 {
                    return Err(std::io::ErrorKind::WriteZero.into());
                }
            }
            // Who has said goodbye hears nothing more, and a stop waits for nobody.
            match end.reason {
                DisconnectReason::ClientInitiated | DisconnectReason::ShuttingDown => {
                    stream.shutdown().await
                }
                _ => hang_up(stream).await,
            }
        };
        // The peer may be gone, or never read again.
        let _ = tokio::time::timeout(LAST_WORDS, words).await;
    }

    pub(super) fn may_read(&mut self) -> bool {
        self.may_read_now()
            && self.pressed.is_none()
            && self.answer.is_none()
            && !self.more
            && !self.inbound.is_full()
            && self.has_room_for_bytes()
            && self.output.len() < OUTPUT_HIGH
    }

    /// Whether the second has room for one more publish; at AWS IoT Core, which discards what is
    /// too much, always.
    fn may_take_publish(&mut self) -> bool {
        if self.context.limits.is_aws() {
            return true;
        }
        let window = self.rates.as_mut().and_then(|r| r.publishes.as_mut());
        window.is_none_or(|window| window.left(Instant::now()) > 0)
    }

    /// Whether the second has room for what the client says.
    fn may_read_now(&mut self) -> bool {
        let window = self.rates.as_mut().and_then(|r| r.read.as_mut());
        window.is_none_or(|window| window.left(Instant::now()) > 0) && self.may_take_publish()
    }

    /// Whether unacknowledged bytes leave room for more.
    fn has_room_for_bytes(&self) -> bool {
        let batch = self.batch.as_ref().map_or(0, |batch| batch.bytes);
        self.inbound.held() + batch < self.context.limits.max_inflight_bytes
    }

    /// Whether the taker that publishes wait for still needs time.
    pub(super) fn is_pressed(&mut self) -> bool {
        let Some((pressure, until)) = self.pressed.as_deref() else {
            return false;
        };
        let waiter: Arc<dyn Wake> = self.handle.clone();
        if pressure.relieved_or_wake(&waiter) {
            self.pressed = None;
        } else if Instant::now() >= *until {
            pressure.give_up();
            self.pressed = None;
        }
        self.pressed.is_some()
    }

    /// Everything that can be done without waiting.
    pub(super) fn work(&mut self) -> Result<(), End> {
        self.decisions
            .refresh(&*self.context.authorizer, &self.peer);
        loop {
            if self.more {
                self.drain();
            }
            if self.is_pressed() || self.input.is_empty() || !self.read_packets()? {
                return Ok(());
            }
            // What the packets did may have brought something, and may have left some unread.
            self.more = true;
        }
    }

    /// Decodes and handles packets until the buffer or a limit is at its end. `true`: there was one.
    pub(super) fn read_packets(&mut self) -> Result<bool, End> {
        let mut packets = 0;
        let done = self.handle_packets(&mut packets);
        if packets > 0 {
            METRICS.passed(Traffic::PacketsReceived, packets);
        }
        done.map(|()| packets > 0)
    }

    fn handle_packets(&mut self, packets: &mut u64) -> Result<(), End> {
        let mut acked = PUBACKS.take();
        let done = self.handle_each(packets, &mut acked);
        // What came before an end was well said.
        self.pubacks(&mut acked);
        PUBACKS.set(acked);
        self.flush_batch()?;
        done
    }

    /// Leaves a batch to publish, and PUBACKs to be noted.
    fn handle_each(&mut self, packets: &mut u64, acked: &mut Vec<PacketId>) -> Result<(), End> {
        while self.pressed.is_none()
            // A subscription's retained messages go before the next packet is looked at.
            && self.answer.is_none()
            && !self.more
            && !self.inbound.is_full()
            && self.has_room_for_bytes()
            && self.may_take_publish()
        {
            match self.decoder.decode(&mut self.input) {
                Ok(Some(packet)) => {
                    *packets += 1;
                    self.packet(packet, acked)?;
                }
                Ok(None) => break,
                Err(error) => {
                    self.flush_batch()?;
                    return Err(self.protocol_error(&error.to_string(), error.reason_code()));
                }
            }
        }
        Ok(())
    }

    /// `code` is what version 5 says of it.
    pub(super) fn protocol_error(&mut self, what: &str, code: ReasonCode) -> End {
        self.explain_end(what.to_owned());
        tracing::warn!(
            event = event::PROTOCOL_ERROR,
            remote = %self.peer.remote,
            principal_id = %self.peer.principal,
            trace_id = %self.peer.trace,
            client_id = %self.client_id,
            "closed: {what}"
        );
        End::lost(DisconnectReason::ClientError, code)
    }

    /// Writes a small packet behind what is to be sent.
    pub(super) fn send(&mut self, packet: &Packet) {
        self.course.note_answer();
        let (version, most) = (self.terms.version, self.terms.max_packet_bytes);
        if let Err(error) = iotedge_mqtt::encode_within(version, packet, most, self.output.buffer())
        {
            tracing::warn!(
                client_id = %self.client_id,
                %error,
                "{} could not be written", packet.packet_type()
            );
            // No answer goes missing without an end. Before CONNACK there is no DISCONNECT
            // (5: [MQTT-3.14.0-1]).
            let code = match packet {
                Packet::ConnAck(_) => ReasonCode::Success,
                _ => ReasonCode::PacketTooLarge,
            };
            self.end_after(End::lost(DisconnectReason::ClientError, code));
        }
    }

    fn seldom(&mut self) -> &mut Seldom {
        self.seldom.get_or_insert_default()
    }

    /// What the end is about, in words.
    pub(super) fn explain_end(&mut self, what: String) {
        self.seldom().explanation = Some(what);
    }

    /// What the client calls its topics.
    pub(super) fn aliases_in(&mut self) -> &mut AliasesIn {
        &mut self.seldom().aliases
    }

    fn explanation(&self) -> Option<&str> {
        self.seldom.as_ref()?.explanation.as_deref()
    }

    /// When it has lasted long enough, and why.
    pub(super) fn closes_at(&self) -> Option<(Instant, DisconnectReason)> {
        self.seldom.as_ref()?.closes_at
    }

    pub(super) fn send_acks(&mut self) {
        loop {
            let token = self.inbound.next_token();
            let Some(receipt) = self.inbound.next_ready() else {
                return;
            };
            let mut packet = receipt.into();
            let seldom = self.seldom.as_mut();
            if let Some(words) = seldom.and_then(|seldom| seldom.reasons.remove(&token)) {
                explain(&mut packet, words);
            }
            if matches!(receipt, Receipt::PubComp(_, reason) if reason.is_error()) {
                self.explain_unknown_id(&mut packet);
            }
            self.send(&packet);
        }
    }

    /// Says in words that there is no such packet id.
    pub(super) fn explain_unknown_id(&self, packet: &mut Packet) {
        if let Some(words) = self.words("nothing is in flight with this packet id") {
            explain(packet, words);
        }
    }

    /// Refuses the publish behind `token`, with words for people where the client takes them.
    pub(super) fn refuse(&mut self, token: u64, code: ReasonCode, what: &str) {
        if let Some(words) = self.words(what) {
            self.seldom().reasons.insert(token, words);
        }
        self.inbound.ready_with(token, code);
    }

    /// A reason string, where the client takes one in packets other than CONNACK and DISCONNECT
    /// (5: [MQTT-3.1.2-29]).
    pub(super) fn words(&self, what: &str) -> Option<Str> {
        if self.terms.is_v5() && self.terms.problem_information {
            reason_string(what)
        } else {
            None
        }
    }

    /// The connection ends when what is said has gone out.
    pub(super) fn end_after(&mut self, end: End) {
        self.ending.get_or_insert(end);
    }

    pub(super) fn answer_token(&mut self) -> u64 {
        self.last_answer = self.last_answer.wrapping_add(1);
        ANSWER | u64::from(self.last_answer)
    }

    pub(super) fn await_answer(&mut self, token: u64, answer: Answer) {
        self.answer = Some(Box::new((token, answer)));
    }

    pub(super) fn give_answer(&mut self, answer: Answer) {
        match answer {
            Answer::Unsubscribed { packet } => self.send(&packet),
            Answer::Subscribed {
                packet,
                end: Some(end),
                ..
            } => {
                self.send(&packet);
                self.end_after(end);
            }
            Answer::Subscribed {
                packet,
                subscriptions,
                end: None,
            } => {
                self.send(&packet);
                self.context
                    .broker
                    .send_retained(self.connection, &subscriptions);
                self.more = true;
            }
        }
    }

    pub(super) fn take_notices(&mut self) -> Option<End> {
        let mut acked = ACKED.take();
        let close = self.handle.take(&mut acked);
        let mut failed = false;
        for (token, outcome) in acked.drain(..) {
            failed |= outcome.is_err();
            if outcome.is_err() {
                continue;
            }
            if token >= ANSWER {
                if let Some(answer) = self.answer.take_if(|answer| answer.0 == token) {
                    self.give_answer(answer.1);
                }
            } else {
                self.inbound.ready(token);
            }
        }
        ACKED.set(acked);
        self.send_acks();
        self.more = true;
        if let Some(reason) = close {
            return Some(End::closed(reason));
        }
        if failed {
            // No acknowledgement may leave for what is not kept; the client sends it again.
            return Some(End::lost(
                DisconnectReason::ServerError,
                ReasonCode::UnspecifiedError,
            ));
        }
        None
    }
}

/// Puts words into an acknowledgement.
fn explain(packet: &mut Packet, words: Str) {
    if let Packet::PubAck(ack) | Packet::PubRec(ack) | Packet::PubRel(ack) | Packet::PubComp(ack) =
        packet
    {
        ack.properties = Some(Box::new(AckProperties {
            reason_string: Some(words),
            ..AckProperties::default()
        }));
    }
}
