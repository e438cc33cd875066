//! The loop of an open connection: bytes in, bytes out, deadlines, and what others tell it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use iotedge_model::{Action, ClientId, DropReason, Protocol};
use iotedge_mqtt::{ConnAck, Decoder, Inbound, Packet, ReasonCode, SubAckCode};
use iotedge_ports::{
    BrokerPort, CloseReason, ConnectionId, Detached, DrainLimit, DrainState, EndKind, Failure,
    Outgoing, Pressure, Publication, SessionMailbox, Subscription, Wake,
};
use iotedge_telemetry::{METRICS, Metric, event};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::Instant;

use super::Peer;
use super::auth::Permissions;
use super::handle::Handle;
use super::open::{FIRST_READ, Opened};
use crate::Context;

/// Output beyond which nothing more is drained and nothing more is read.
const OUTPUT_HIGH: usize = 128 * 1024;
/// The largest single read.
const READ_MAX: usize = 64 * 1024;
/// Deliveries drained at once.
const DRAIN: DrainLimit = DrainLimit {
    messages: 512,
    bytes: 128 * 1024,
};
/// How long a publisher waits for a taker that does not keep up.
pub(super) const PATIENCE: Duration = Duration::from_millis(500);
/// How long a closed connection may take to say its last words.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Why a connection ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct End {
    pub(super) kind: EndKind,
    pub(super) reason: &'static str,
}

impl End {
    pub(super) fn lost(reason: &'static str) -> Self {
        Self {
            kind: EndKind::Lost,
            reason,
        }
    }
}

/// A SUBACK or UNSUBACK that waits for its commit.
pub(super) enum Answer {
    Subscribed {
        packet: Packet,
        subscriptions: Vec<Subscription>,
    },
    Unsubscribed {
        packet: Packet,
    },
}

/// Tokens of answers; those of publishes are counted up from 0 by [`Inbound`].
const ANSWER: u64 = 1 << 63;

pub(crate) struct Pump {
    pub(super) context: Arc<Context>,
    pub(super) peer: Peer,
    pub(super) client_id: ClientId,
    pub(super) connection: ConnectionId,
    pub(super) permissions: Permissions,
    pub(super) handle: Arc<Handle>,
    pub(super) inbound: Inbound,
    pub(super) output: BytesMut,
    pub(super) batch: Vec<Publication>,
    /// Tokens of the batch's QoS 1 publishes, and their bytes.
    pub(super) batch_tokens: Vec<Option<(u64, usize)>>,
    mailbox: Arc<dyn SessionMailbox>,
    decoder: Decoder,
    input: BytesMut,
    read_size: usize,
    answers: HashMap<u64, Answer>,
    next_answer: u64,
    pending_bytes: HashMap<u64, usize>,
    pending_total: usize,
    drained: Vec<Outgoing>,
    acked: Vec<(u64, Result<(), Failure>)>,
    more: bool,
    /// A taker that this client's publishes wait for, and until when.
    pub(super) pressed: Option<(Arc<dyn Pressure>, Instant)>,
    keep_alive: Option<Duration>,
    detach: Option<Detach>,
}

/// Gives the session back however the connection ends, a panic included.
struct Detach {
    broker: Arc<dyn BrokerPort>,
    connection: ConnectionId,
    end: End,
}

impl Drop for Detach {
    fn drop(&mut self) {
        self.broker.detach(Detached {
            connection: self.connection,
            end: self.end.kind,
            reason: self.end.reason,
        });
    }
}

impl Pump {
    pub(super) fn new(
        opened: Opened,
        peer: Peer,
        context: Arc<Context>,
        decoder: Decoder,
        input: BytesMut,
    ) -> Self {
        let connected = opened.connected;
        let mut pump = Self {
            detach: Some(Detach {
                broker: context.broker.clone(),
                connection: connected.connection,
                end: End::lost("INTERNAL_ERROR"),
            }),
            inbound: Inbound::new(context.limits.max_inflight),
            // One and a half times the keep-alive ([MQTT-3.1.2-24]).
            keep_alive: (opened.keep_alive > 0)
                .then(|| Duration::from_millis(u64::from(opened.keep_alive) * 1500)),
            context,
            peer,
            client_id: opened.client_id,
            connection: connected.connection,
            permissions: opened.permissions,
            handle: opened.handle,
            output: BytesMut::new(),
            batch: Vec::new(),
            batch_tokens: Vec::new(),
            mailbox: connected.mailbox,
            decoder,
            input,
            read_size: FIRST_READ,
            answers: HashMap::new(),
            next_answer: ANSWER,
            pending_bytes: HashMap::new(),
            pending_total: 0,
            drained: Vec::new(),
            acked: Vec::new(),
            more: true,
            pressed: None,
        };
        pump.send(&Packet::ConnAck(ConnAck {
            session_present: connected.session_present,
            reason: ReasonCode::Success,
            properties: None,
        }));
        pump.recheck(&connected.filters);
        pump
    }

    /// Decision 7: a resumed session's subscriptions are asked again under who resumes it.
    fn recheck(&mut self, filters: &[Arc<str>]) {
        let denied: Vec<Arc<str>> = filters
            .iter()
            .filter(|filter| !self.permissions.ask(Action::Subscribe, filter))
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

    pub(super) async fn run<R, W>(&mut self, reader: &mut R, writer: &mut W)
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        let end = self.pump(reader, writer).await;
        // Before the last words, which may take a while: a client that is back at once must find
        // that this connection has ended as it did.
        if let Some(mut detach) = self.detach.take() {
            detach.end = end;
        }
        tracing::info!(
            event = event::DISCONNECT,
            remote = %self.peer.remote,
            principal_id = %self.peer.principal,
            client_id = %self.client_id,
            reason = end.reason,
            "disconnected"
        );
        let words = async {
            writer.write_all(&self.output).await?;
            writer.shutdown().await
        };
        // The peer may be gone, or never read again.
        let _ = tokio::time::timeout(LAST_WORDS, words).await;
    }

    async fn pump<R, W>(&mut self, reader: &mut R, writer: &mut W) -> End
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        let mut received = Instant::now();
        let mut written = received;
        let mut flush = false;
        let timer = tokio::time::sleep_until(self.next_deadline(received, written));
        tokio::pin!(timer);
        loop {
            // What is left of an earlier read is worked on before more is read.
            if let Err(end) = self.work() {
                return end;
            }
            if self.pressed.is_some() {
                // Asked again now, so that its relief wakes this connection.
                if !self.is_pressed() {
                    continue;
                }
                timer.as_mut().reset(self.next_deadline(received, written));
            }
            let may_read = self.may_read();
            self.prepare_read(may_read);
            tokio::select! {
                () = self.handle.notified() => {
                    if let Some(end) = self.take_notices() {
                        return end;
                    }
                }
                result = write_some(writer, &mut self.output),
                    if flush || !self.output.is_empty() =>
                {
                    match result {
                        Ok(wrote) => {
                            flush = wrote;
                            written = Instant::now();
                        }
                        Err(_) => return End::lost("CONNECTION_LOST"),
                    }
                }
                result = reader.read_buf(&mut self.input), if may_read => {
                    match result {
                        Ok(0) | Err(_) => return End::lost("CONNECTION_LOST"),
                        Ok(n) => {
                            received = Instant::now();
                            if self.output.is_empty() {
                                written = received;
                            }
                            self.adapt(n);
                        }
                    }
                }
                () = &mut timer => {
                    let now = Instant::now();
                    if !may_read {
                        // While nothing is read, the client cannot show that it is alive.
                        received = now;
                    }
                    if self.output.is_empty() {
                        written = now;
                    }
                    if let Some(end) = self.overdue(now, received, written) {
                        return end;
                    }
                    timer.as_mut().reset(self.next_deadline(received, written));
                }
            }
        }
    }

    fn may_read(&self) -> bool {
        self.pressed.is_none()
            && self.answers.is_empty()
            && !self.more
            && !self.inbound.is_full()
            && self.pending_total < self.context.limits.max_inflight_bytes
            && self.output.len() < OUTPUT_HIGH
    }

    fn prepare_read(&mut self, may_read: bool) {
        if may_read && self.input.capacity() - self.input.len() < self.read_size {
            self.input.reserve(self.read_size);
        }
    }

    /// Reads grow with what comes and shrink again, so that an idle client costs little.
    fn adapt(&mut self, n: usize) {
        if n >= self.read_size {
            self.read_size = (self.read_size * 2).min(READ_MAX);
        } else if n < self.read_size / 8 && self.read_size > FIRST_READ {
            self.read_size /= 2;
        }
    }

    fn next_deadline(&self, received: Instant, written: Instant) -> Instant {
        let write = written + self.context.limits.write_timeout;
        let mut next = match self.keep_alive {
            Some(keep_alive) => write.min(received + keep_alive),
            None => write,
        };
        if let Some((_, until)) = &self.pressed {
            next = next.min(*until);
        }
        next
    }

    fn overdue(&self, now: Instant, received: Instant, written: Instant) -> Option<End> {
        if self
            .keep_alive
            .is_some_and(|keep_alive| now >= received + keep_alive)
        {
            return Some(End::lost("MQTT_KEEP_ALIVE_TIMEOUT"));
        }
        if now >= written + self.context.limits.write_timeout && !self.output.is_empty() {
            return Some(End::lost("SLOW_CONSUMER"));
        }
        None
    }

    /// Whether the taker that publishes wait for still needs time.
    fn is_pressed(&mut self) -> bool {
        let Some((pressure, until)) = &self.pressed else {
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
    fn work(&mut self) -> Result<(), End> {
        self.permissions.refresh();
        let had_input = !self.is_pressed() && !self.input.is_empty();
        if self.more {
            self.drain();
        }
        if had_input && self.read_packets()? {
            self.drain();
        }
        if self.input.is_empty() && self.input.capacity() > 4 * self.read_size {
            self.input = BytesMut::new();
        }
        if self.output.is_empty() && self.output.capacity() > READ_MAX {
            self.output = BytesMut::new();
        }
        Ok(())
    }

    /// Decodes and handles packets until the buffer or a limit is at its end. `true`: there was one.
    fn read_packets(&mut self) -> Result<bool, End> {
        let mut acted = false;
        while self.pressed.is_none()
            // A subscription's retained messages go before the next packet is looked at.
            && self.answers.is_empty()
            && !self.more
            && !self.inbound.is_full()
            && self.pending_total < self.context.limits.max_inflight_bytes
        {
            match self.decoder.decode(&mut self.input) {
                Ok(Some(packet)) => {
                    acted = true;
                    self.packet(packet)?;
                }
                Ok(None) => break,
                Err(error) => {
                    self.flush_batch()?;
                    return Err(self.protocol_error(&error.to_string()));
                }
            }
        }
        self.flush_batch()?;
        Ok(acted)
    }

    pub(super) fn protocol_error(&self, what: &str) -> End {
        tracing::warn!(
            event = event::PROTOCOL_ERROR,
            remote = %self.peer.remote,
            principal_id = %self.peer.principal,
            client_id = %self.client_id,
            "closed: {what}"
        );
        End::lost("CLIENT_ERROR")
    }

    /// Writes a small packet behind what is to be sent.
    pub(super) fn send(&mut self, packet: &Packet) {
        if let Err(error) = iotedge_mqtt::encode(packet, &mut self.output) {
            tracing::error!(%error, "a packet could not be written");
        }
    }

    /// Notes what a pending publish holds.
    pub(super) fn hold(&mut self, token: u64, bytes: usize) {
        self.pending_bytes.insert(token, bytes);
        self.pending_total += bytes;
    }

    pub(super) fn send_acks(&mut self) {
        while let Some(ack) = self.inbound.next_ready() {
            self.send(&ack.into());
        }
    }

    pub(super) fn answer_token(&mut self) -> u64 {
        self.next_answer += 1;
        self.next_answer
    }

    pub(super) fn await_answer(&mut self, token: u64, answer: Answer) {
        self.answers.insert(token, answer);
    }

    pub(super) fn give_answer(&mut self, answer: Answer) {
        match answer {
            Answer::Unsubscribed { packet } => self.send(&packet),
            Answer::Subscribed {
                packet,
                subscriptions,
            } => {
                self.send(&packet);
                self.context
                    .broker
                    .send_retained(self.connection, &subscriptions);
                self.more = true;
            }
        }
    }

    fn take_notices(&mut self) -> Option<End> {
        let mut acked = std::mem::take(&mut self.acked);
        let close = self.handle.take(&mut acked);
        let mut failed = false;
        for (token, outcome) in acked.drain(..) {
            failed |= outcome.is_err();
            if outcome.is_err() {
                continue;
            }
            if token >= ANSWER {
                if let Some(answer) = self.answers.remove(&token) {
                    self.give_answer(answer);
                }
            } else {
                self.pending_total -= self.pending_bytes.remove(&token).unwrap_or(0);
                self.inbound.ready(token);
            }
        }
        self.acked = acked;
        self.send_acks();
        self.more = true;
        if let Some(reason) = close {
            return Some(End::lost(close_text(reason)));
        }
        if failed {
            // No acknowledgement may leave for what is not kept; the client sends it again.
            return Some(End::lost("SERVER_ERROR"));
        }
        None
    }

    /// Moves deliveries from the mailbox to the output, each after its Receive check.
    fn drain(&mut self) {
        loop {
            self.more = true;
            if self.output.len() >= OUTPUT_HIGH {
                return;
            }
            let mut drained = std::mem::take(&mut self.drained);
            let state = self.mailbox.drain(DRAIN, &mut drained);
            let mut discarded = false;
            for outgoing in drained.drain(..) {
                discarded |= !self.deliver(&outgoing);
            }
            self.drained = drained;
            // What was discarded has made room in the window: look again.
            if state == DrainState::Empty && !discarded {
                self.more = false;
                return;
            }
        }
    }

    /// `false`: discarded.
    fn deliver(&mut self, outgoing: &Outgoing) -> bool {
        let delivery = &outgoing.delivery;
        let message = &delivery.message;
        if !self.permissions.may_receive(&message.topic) {
            METRICS.count(Metric::PublishOutAuthError, Protocol::Mqtt);
            self.mailbox.discard(outgoing, DropReason::Policy);
            return false;
        }
        let written = iotedge_mqtt::encode_publish(
            &mut self.output,
            message.topic.as_str(),
            &message.payload,
            delivery.qos,
            delivery.retain,
            // A QoS 0 PUBLISH is never a duplicate ([MQTT-3.3.1-2]).
            delivery.dup && outgoing.packet_id.is_some(),
            outgoing.packet_id,
        );
        match written {
            Ok(()) => METRICS.count(Metric::PublishOutSuccess, Protocol::Mqtt),
            Err(error) => {
                tracing::error!(%error, topic = %message.topic, "a delivery could not be written");
                self.mailbox.discard(outgoing, DropReason::TooLarge);
            }
        }
        written.is_ok()
    }

    pub(super) fn puback(&mut self, packet_id: iotedge_mqtt::PacketId) {
        if !self.mailbox.puback(packet_id) {
            tracing::debug!(client_id = %self.client_id, packet_id, "PUBACK for nothing in flight");
        }
    }
}

/// Writes a part of `output`, or flushes when there is nothing left of it. `true`: it wrote, so that
/// a flush is due. May be given up at any time.
async fn write_some<W: AsyncWrite + Unpin>(
    writer: &mut W,
    output: &mut BytesMut,
) -> std::io::Result<bool> {
    if output.is_empty() {
        writer.flush().await?;
        return Ok(false);
    }
    match writer.write_buf(output).await? {
        0 => Err(std::io::ErrorKind::WriteZero.into()),
        _ => Ok(true),
    }
}

fn close_text(reason: CloseReason) -> &'static str {
    match reason {
        CloseReason::SessionTakenOver => "DUPLICATE_CLIENTID",
        CloseReason::SlowConsumer => "SLOW_CONSUMER",
        CloseReason::NotAuthorized => "FORBIDDEN_ACCESS",
        CloseReason::ServerShuttingDown => "SERVER_SHUTTING_DOWN",
        CloseReason::AdministrativeAction => "ADMINISTRATIVE_ACTION",
    }
}

/// A filter's code in SUBACK.
pub(super) fn suback(result: iotedge_ports::SubscribeResult) -> SubAckCode {
    match result {
        iotedge_ports::SubscribeResult::Granted(qos) => SubAckCode::Granted(qos),
        iotedge_ports::SubscribeResult::QuotaExceeded => SubAckCode::FAILURE,
    }
}
