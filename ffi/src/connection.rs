//! MQTT over one [`Wire`]: what belongs to a single connection.

use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use bytes::{Buf, BytesMut};
use iotedge_mqtt::{
    Connect, Decoder, Disconnect, Inbound, Outbound, Packet, PacketId, PubRec, Publish, QoS,
    ReasonCode, Received, Role, Str, SubAckCode, Subscribe, Unsubscribe, encode, encode_publish,
};

use crate::client::{Post, Settings};
use crate::error::{Error, Result};
use crate::tls;
use crate::wire::{Filled, Patience, Wire};

/// Calls within calls that wait for an answer, at most; each callback may make one.
pub(crate) const MAX_DEPTH: usize = 16;

/// Acknowledgements that wait to be sent: they are sent at once, so there is hardly ever one.
const MAX_INBOUND: usize = 16;

/// How a request ended.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// Acknowledged.
    Done,
    /// SUBACK's code.
    Subscribed(SubAckCode),
}

/// What one look at the connection came to.
#[derive(Debug)]
pub(crate) enum Step {
    /// The answer that was waited for.
    Answered(Outcome),
    /// A message for the application.
    Message(Publish),
    /// A packet that was worked on here, or a part of one when the deadline had passed.
    Progress,
    /// Nothing until the deadline.
    Nothing,
}

pub(crate) struct Connection {
    wire: Wire,
    decoder: Decoder,
    buf: BytesMut,
    /// Bytes still to come of a packet that is too large.
    skip: usize,
    /// A packet was too large, and the application does not know yet.
    oversize: Option<usize>,
    outbound: Outbound<()>,
    /// Posted messages that may be on their way.
    max_in_flight: usize,
    /// Posted messages that are.
    posted: usize,
    inbound: Inbound,
    outcomes: Vec<(PacketId, Outcome)>,
    tx_limit: usize,
    rx_limit: usize,
    timeout: Duration,
    keep_alive: Option<Duration>,
    ping_due: Instant,
    ping_outstanding: bool,
    broken: bool,
}

impl Connection {
    /// Connects, shakes hands, sends CONNECT and waits for CONNACK.
    pub(crate) fn open(settings: &Settings, login: &Connect) -> Result<Self> {
        let timeout = settings.command_timeout;
        let mut connect = BytesMut::new();
        encode(&Packet::Connect(login.clone()), &mut connect)?;
        check_size(connect.len(), settings.tx_limit)?;
        let endpoint = &settings.endpoint;
        let wire = match &endpoint.local {
            Some(path) => Wire::connect_local(path, timeout)?,
            None => Wire::connect(
                endpoint,
                tls::config(endpoint)?,
                timeout,
                settings.tls_timeout,
            )?,
        };
        let keep_alive = match login.keep_alive {
            0 => None,
            seconds => Some(Duration::from_secs(seconds.into())),
        };
        let mut connection = Self {
            wire,
            decoder: Decoder::new(Role::Client, settings.rx_limit.saturating_sub(1)),
            buf: BytesMut::new(),
            skip: 0,
            oversize: None,
            outbound: Outbound::new(MAX_DEPTH as u16 + 1 + settings.max_in_flight),
            max_in_flight: settings.max_in_flight.into(),
            posted: 0,
            inbound: Inbound::new(MAX_INBOUND),
            outcomes: Vec::new(),
            tx_limit: settings.tx_limit,
            rx_limit: settings.rx_limit,
            timeout,
            keep_alive,
            ping_due: Instant::now(),
            ping_outstanding: false,
            broken: false,
        };
        let deadline = Instant::now() + timeout;
        connection.wire.write_all(&connect, deadline)?;
        connection.await_connack(deadline)?;
        connection.ping_due = Instant::now() + keep_alive.unwrap_or_default();
        Ok(connection)
    }

    fn await_connack(&mut self, deadline: Instant) -> Result<()> {
        let mut patience = Patience::until(deadline);
        loop {
            if let Some(packet) = self.next_packet()? {
                return match packet {
                    Packet::ConnAck(ack) if ack.reason == ReasonCode::Success => Ok(()),
                    Packet::ConnAck(ack) => Err(Error::Refused(ack.reason.return_code())),
                    // The decoder lets nothing else through first.
                    _ => Err(Error::UnexpectedState),
                };
            }
            if self.wire.fill(&mut self.buf, &mut patience)? != Filled::Data {
                return Err(Error::Timeout);
            }
        }
    }

    /// Sends a PUBLISH; with QoS 1 and 2 its id is to be waited for.
    pub(crate) fn publish(
        &mut self,
        topic: &str,
        payload: &[u8],
        qos: QoS,
        retain: bool,
    ) -> Result<Option<PacketId>> {
        let id = match qos {
            QoS::AtMostOnce => None,
            _ => Some(self.outbound.push(qos, ()).ok_or(Error::NotIdle)?),
        };
        let mut out = BytesMut::new();
        let sent = encode_publish(&mut out, topic, payload, qos, retain, false, id)
            .map_err(Error::from)
            .and_then(|()| self.send_limited(&out));
        self.unless_failed(id, sent)
    }

    /// Begins to send a PUBLISH that nobody waits for: what the socket does not take now goes later.
    /// [`Error::NotIdle`] when too much is on its way already.
    pub(crate) fn post(&mut self, message: &Post, dup: bool) -> Result<Option<PacketId>> {
        if self.broken {
            return Err(Error::Write("the connection is broken".into()));
        }
        if self.wire.has_unsent() || self.posted >= self.max_in_flight {
            return Err(Error::NotIdle);
        }
        let id = match message.qos {
            QoS::AtMostOnce => None,
            qos => Some(self.outbound.push(qos, ()).ok_or(Error::NotIdle)?),
        };
        let mut out = BytesMut::new();
        let Post {
            topic,
            payload,
            qos,
            retain,
            ..
        } = message;
        let dup = dup && id.is_some();
        let encoded = encode_publish(&mut out, topic, payload, *qos, *retain, dup, id);
        let sent = encoded.map_err(Error::from).and_then(|()| {
            check_size(out.len(), self.tx_limit)?;
            let sent = self.wire.write_some(&out);
            self.broken |= sent.is_err();
            sent
        });
        let id = self.unless_failed(id, sent)?;
        self.posted += usize::from(id.is_some());
        Ok(id)
    }

    /// Whether the answer to a posted message has come.
    pub(crate) fn take_posted(&mut self, id: PacketId) -> bool {
        let answered = self.take_outcome(id).is_some();
        self.posted -= usize::from(answered);
        answered
    }

    /// The socket, and whether it is to be looked at for room to write.
    pub(crate) fn interest(&self) -> (BorrowedFd<'_>, bool) {
        (self.wire.descriptor(), self.wire.has_unsent())
    }

    /// Whether something was read that has not been looked at.
    pub(crate) fn has_unread(&self) -> bool {
        !self.buf.is_empty() && !self.broken
    }

    /// When `listen` is to be called again at the latest.
    pub(crate) fn due(&self) -> Option<Instant> {
        self.keep_alive.map(|_| self.ping_due)
    }

    /// Sends a SUBSCRIBE for one filter; its id is to be waited for.
    pub(crate) fn subscribe(&mut self, filter: Str, qos: QoS) -> Result<PacketId> {
        let packet_id = self.outbound.push_request(()).ok_or(Error::NotIdle)?;
        let sent = self.send(&Packet::Subscribe(Subscribe {
            packet_id,
            filters: vec![(filter, qos.into())],
            properties: None,
        }));
        self.unless_failed(packet_id, sent)
    }

    /// Sends an UNSUBSCRIBE for one filter; its id is to be waited for.
    pub(crate) fn unsubscribe(&mut self, filter: Str) -> Result<PacketId> {
        let packet_id = self.outbound.push_request(()).ok_or(Error::NotIdle)?;
        let sent = self.send(&Packet::Unsubscribe(Unsubscribe {
            packet_id,
            filters: vec![filter],
            properties: None,
        }));
        self.unless_failed(packet_id, sent)
    }

    /// Sends DISCONNECT and closes.
    pub(crate) fn disconnect(mut self) -> Result<()> {
        let sent = self.send(&Packet::Disconnect(Disconnect::default()));
        self.wire.close(Instant::now() + self.timeout);
        sent
    }

    /// Nobody waits for this id any more; a late acknowledgement is ignored.
    pub(crate) fn forget(&mut self, id: PacketId) {
        self.outbound.forget(id);
        self.outcomes.retain(|(other, _)| *other != id);
    }

    /// Looks until `deadline` for the answer to `id`, or for any packet.
    /// Ends early when `wake` becomes readable.
    pub(crate) fn step(
        &mut self,
        id: Option<PacketId>,
        deadline: Instant,
        wake: Option<BorrowedFd<'_>>,
    ) -> Result<Step> {
        let mut patience = Patience::until_woken(deadline, wake);
        loop {
            if let Some(outcome) = id.and_then(|id| self.take_outcome(id)) {
                return Ok(Step::Answered(outcome));
            }
            if id.is_none() {
                if let Some(size) = self.oversize.take() {
                    let limit = self.rx_limit;
                    return Err(Error::RxBuffer { size, limit });
                }
            }
            if self.broken && self.buf.is_empty() {
                return Err(Error::Read("the connection is broken".into()));
            }
            if let Some(packet) = self.next_packet()? {
                match self.work_on(packet)? {
                    Some(message) => return Ok(Step::Message(message)),
                    None if id.is_none() => return Ok(Step::Progress),
                    None => continue,
                }
            }
            if self.skip > 0 && !self.buf.is_empty() {
                continue;
            }
            if self.broken {
                return Err(Error::Read("the connection is broken".into()));
            }
            match self.wire.fill(&mut self.buf, &mut patience) {
                Ok(Filled::Data) => {}
                Ok(Filled::Nothing) => return Ok(Step::Nothing),
                Ok(Filled::Late | Filled::Woken) => return Ok(Step::Progress),
                Err(error) => {
                    self.broken = true;
                    return Err(match error {
                        Error::Tls(reason) => Error::Read(reason),
                        other => other,
                    });
                }
            }
        }
    }

    /// Looks until `deadline` for any packet, and sends PINGREQ when it is time. The last one's
    /// answer is missing only when nothing is left to read: a program that was away for long finds
    /// it behind everything else.
    pub(crate) fn listen(
        &mut self,
        deadline: Instant,
        wake: Option<BorrowedFd<'_>>,
    ) -> Result<Step> {
        let Some(interval) = self.keep_alive else {
            return self.step(None, deadline, wake);
        };
        let now = Instant::now();
        let due = now >= self.ping_due;
        if due && self.ping_outstanding {
            let step = self.step(None, now, None)?;
            if matches!(step, Step::Nothing) {
                self.broken = true;
                return Err(Error::KeepAlive);
            }
            return Ok(step);
        }
        if due {
            self.send(&Packet::PingReq)?;
            self.ping_outstanding = true;
            self.ping_due = now + interval;
        }
        self.step(None, deadline.min(self.ping_due), wake)
    }

    fn take_outcome(&mut self, id: PacketId) -> Option<Outcome> {
        let position = self.outcomes.iter().position(|(other, _)| *other == id)?;
        Some(self.outcomes.swap_remove(position).1)
    }

    fn unless_failed<T: Into<Option<PacketId>> + Copy>(
        &mut self,
        id: T,
        sent: Result<()>,
    ) -> Result<T> {
        match sent {
            Ok(()) => Ok(id),
            Err(error) => {
                if let Some(id) = id.into() {
                    self.forget(id);
                }
                Err(error)
            }
        }
    }

    fn send(&mut self, packet: &Packet) -> Result<()> {
        let mut out = BytesMut::new();
        encode(packet, &mut out)?;
        self.send_limited(&out)
    }

    fn send_limited(&mut self, bytes: &[u8]) -> Result<()> {
        check_size(bytes.len(), self.tx_limit)?;
        if self.broken {
            return Err(Error::Write("the connection is broken".into()));
        }
        let sent = self.wire.write_all(bytes, Instant::now() + self.timeout);
        // After a part of a packet nothing else makes sense.
        self.broken |= sent.is_err();
        sent
    }

    /// The next whole packet of the buffer. One that is too large is noted, to be told before what
    /// is behind it, and the next call passes over it.
    fn next_packet(&mut self) -> Result<Option<Packet>> {
        let passed = self.skip.min(self.buf.len());
        self.buf.advance(passed);
        self.skip -= passed;
        if self.skip > 0 {
            return Ok(None);
        }
        if let Some(size) = packet_size(&self.buf).filter(|size| *size >= self.rx_limit) {
            self.skip = size;
            self.oversize = Some(size);
            return Ok(None);
        }
        self.decoder.decode(&mut self.buf).map_err(|error| {
            self.broken = true;
            // Nothing behind it can be understood.
            self.buf.clear();
            Error::Decode(error)
        })
    }

    /// Acknowledges and notes; gives what is for the application.
    fn work_on(&mut self, packet: Packet) -> Result<Option<Publish>> {
        match packet {
            Packet::Publish(publish) => return self.take(publish),
            Packet::PubAck(ack) => {
                let id = ack.packet_id;
                let ended = self.outbound.puback(id);
                self.note(ended, id, Outcome::Done);
            }
            Packet::PubRec(ack) => match self.outbound.pubrec(ack.packet_id) {
                PubRec::Released(()) | PubRec::Again | PubRec::Unknown => {
                    self.send(&Packet::PubRel(ack.packet_id.into()))?;
                }
            },
            Packet::PubComp(ack) => {
                let id = ack.packet_id;
                let ended = self.outbound.pubcomp(id);
                self.note(ended, id, Outcome::Done);
            }
            Packet::SubAck(ack) => {
                let ended = self.outbound.answered(ack.packet_id);
                let code = ack.codes.first().copied().unwrap_or(SubAckCode::FAILURE);
                self.note(ended, ack.packet_id, Outcome::Subscribed(code));
            }
            Packet::UnsubAck(ack) => {
                let id = ack.packet_id;
                let ended = self.outbound.answered(id);
                self.note(ended, id, Outcome::Done);
            }
            Packet::PubRel(ack) => {
                if let Some(token) = self.inbound.pubrel(ack.packet_id) {
                    self.acknowledge(token)?;
                }
            }
            Packet::PingResp => self.ping_outstanding = false,
            // The decoder lets no other packet through to a client.
            _ => {}
        }
        Ok(None)
    }

    /// Keeps the outcome for the call that waits for it; nobody waits for what was not in flight.
    fn note(&mut self, ended: Option<()>, id: PacketId, outcome: Outcome) {
        if ended.is_some() {
            self.outcomes.push((id, outcome));
        }
    }

    /// A message: acknowledged before the application sees it; nothing for a repeated QoS 2.
    fn take(&mut self, publish: Publish) -> Result<Option<Publish>> {
        let Some(id) = publish.packet_id else {
            return Ok(Some(publish));
        };
        match self.inbound.received(id, publish.qos) {
            Received::New(token) => {
                self.acknowledge(token)?;
                Ok(Some(publish))
            }
            Received::Duplicate => {
                self.send_ready()?;
                Ok(None)
            }
            // Cannot be: acknowledgements are sent as soon as they are noted.
            Received::Full => Err(Error::UnexpectedState),
        }
    }

    fn acknowledge(&mut self, token: u64) -> Result<()> {
        self.inbound.ready(token);
        self.send_ready()
    }

    fn send_ready(&mut self) -> Result<()> {
        while let Some(ack) = self.inbound.next_ready() {
            self.send(&ack.into())?;
        }
        Ok(())
    }
}

fn check_size(size: usize, limit: usize) -> Result<()> {
    if size >= limit {
        return Err(Error::TxBuffer { size, limit });
    }
    Ok(())
}

/// The size of the packet at the front, as soon as its fixed header says it.
fn packet_size(bytes: &[u8]) -> Option<usize> {
    let mut size = 0_usize;
    for (index, byte) in bytes.iter().skip(1).take(4).enumerate() {
        size |= usize::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            return Some(size + index + 2);
        }
    }
    None
}
