//! The client's half of MQTT on one connection: what is handed over becomes bytes, what comes
//! becomes events. Pure: [`super::client`] moves the bytes.

use std::collections::VecDeque;
use std::num::{NonZeroU16, NonZeroU32};

use bytes::BytesMut;
use iotedge_model::QoS;
use iotedge_mqtt::{
    Ack, Connect, ConnectProperties, Decoder, Disconnect, EncodeError, Packet, PublishHead,
    PublishPropertiesRef, ReasonCode, RetainHandling, Role, Str, StrError, SubAck, Subscribe,
    SubscriptionOptions, Unsubscribe, Version, encode_for, encode_publish_for,
};

use super::{Accepted, Acknowledged, Ended, Event, Filter, Incoming, Layer, Publish};

/// The largest packet that there is (MQTT 3.1.1, 2.2.3). Inbound it is the limit: what can not be
/// read can not be acknowledged, and would come again for ever.
const MAX_PACKET_BYTES: usize = iotedge_mqtt::MAX_REMAINING_LENGTH + 5;
/// A session of version 5 that does not expire (MQTT 5, 3.1.2.11.2), as 3.1.1 has it. Servers
/// shorten it.
const FOREVER: u32 = u32::MAX;
/// Where a buffer that has grown above is given back when it is empty, in bytes.
const KEPT: usize = 32 * 1024;

/// What CONNECT says.
pub(super) struct Hello<'a> {
    pub(super) version: Version,
    pub(super) client_id: &'a str,
    pub(super) clean: bool,
    pub(super) keep_alive: u16,
    /// The largest packet that we take, in bytes. A server of version 5 sends none that is larger.
    pub(super) max_packet_bytes: usize,
    /// User name and password.
    pub(super) login: Option<(String, String)>,
}

/// What waits for its answer with a packet id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Waits {
    Publish,
    Subscribe,
    Unsubscribe,
}

/// One connection's protocol.
pub(super) struct Session {
    version: Version,
    decoder: Decoder,
    /// Bytes for the wire.
    pub(super) out: BytesMut,
    /// Bytes that `out` has ever held.
    queued: u64,
    /// Bytes that have left it.
    gone: u64,
    /// What to tell when so many bytes have left.
    marks: VecDeque<(u64, Event)>,
    last_id: u16,
    /// A bit for each packet id whose answer is to come.
    ids: Box<[u64; 1024]>,
    /// Those among them that are no PUBLISH.
    controls: Vec<(u16, Waits)>,
    /// A PINGREQ is handed over and its answer not here.
    pinging: bool,
}

fn bit(id: u16) -> (usize, u64) {
    (usize::from(id) / 64, 1 << (id % 64))
}

fn unwritable(packet: &str, error: &EncodeError) -> Ended {
    Ended::lost(Layer::Mqtt, format!("{packet} can not be written: {error}"))
}

fn unspeakable(error: StrError) -> Ended {
    Ended::refused(Layer::Settings, format!("a text of CONNECT {error}"))
}

fn broken(text: impl Into<String>) -> Ended {
    Ended::lost(Layer::Mqtt, text)
}

impl Session {
    /// CONNECT is the first that is to be written.
    pub(super) fn new(hello: Hello<'_>) -> Result<Self, Ended> {
        let version = hello.version;
        let mut session = Self {
            version,
            decoder: Decoder::new(Role::Client, MAX_PACKET_BYTES).with_version(version),
            out: BytesMut::new(),
            queued: 0,
            gone: 0,
            marks: VecDeque::new(),
            last_id: 0,
            ids: Box::new([0; 1024]),
            controls: Vec::new(),
            pinging: false,
        };
        let (username, password) = hello.login.unzip();
        let text = |text: &str| Str::new(text).map_err(unspeakable);
        let properties = ConnectProperties {
            session_expiry: if hello.clean { 0 } else { FOREVER },
            maximum_packet_size: u32::try_from(hello.max_packet_bytes.min(MAX_PACKET_BYTES))
                .ok()
                .and_then(NonZeroU32::new),
            ..ConnectProperties::default()
        };
        let connect = Connect {
            version,
            clean: hello.clean,
            keep_alive: hello.keep_alive,
            client_id: text(hello.client_id)?,
            will: None,
            username: username.as_deref().map(text).transpose()?,
            password: password.map(|password| password.into_bytes().into()),
            properties: (version == Version::V5).then(|| Box::new(properties)),
        };
        session.put(&Packet::Connect(connect), None)?;
        Ok(session)
    }

    /// Writes behind what waits. `told`: when it has left.
    fn put(&mut self, packet: &Packet, told: Option<Event>) -> Result<(), Ended> {
        let before = self.out.len();
        encode_for(self.version, packet, &mut self.out)
            .map_err(|error| unwritable(packet.packet_type().as_str(), &error))?;
        self.written(before, told);
        Ok(())
    }

    fn written(&mut self, before: usize, told: Option<Event>) {
        let more = self.out.len().saturating_sub(before);
        self.queued += u64::try_from(more).unwrap_or(u64::MAX);
        if let Some(event) = told {
            self.marks.push_back((self.queued, event));
        }
    }

    /// A packet id that nothing waits with.
    fn next_id(&mut self) -> Result<NonZeroU16, Ended> {
        for _ in 0..=u16::MAX {
            let id = self.last_id.checked_add(1).unwrap_or(1);
            self.last_id = id;
            let (word, bit) = bit(id);
            let Some(word) = self.ids.get_mut(word).filter(|word| **word & bit == 0) else {
                continue;
            };
            if let Some(id) = NonZeroU16::new(id) {
                *word |= bit;
                return Ok(id);
            }
        }
        Err(broken("all packet ids wait for an answer"))
    }

    /// Whether a PUBLISH is not on the wire yet. Ids are given in turn, so that all from the first
    /// that is not are not.
    fn is_unwritten(&self, id: u16) -> bool {
        let waiting = self.marks.iter().find_map(|(_, event)| match event {
            Event::Published(id @ 1..) => Some(*id),
            _ => None,
        });
        let Some(first) = waiting else {
            return false;
        };
        let behind = |id: u16| (u32::from(id) + 65_535 - u32::from(first)) % 65_535;
        behind(id) <= behind(self.last_id)
    }

    /// The answer for an id has come. An error: it was not due.
    fn answered(&mut self, id: u16, waits: Waits) -> Result<(), Ended> {
        let nothing = || {
            broken(format!(
                "an answer for packet id {id}, which has none to come"
            ))
        };
        let unwritten = self.is_unwritten(id);
        let (at, bit) = bit(id);
        let word = self.ids.get_mut(at).ok_or_else(nothing)?;
        let control = self.controls.iter().position(|(control, _)| *control == id);
        let due = match control.and_then(|at| self.controls.get(at)) {
            Some((_, kind)) => *kind,
            None => Waits::Publish,
        };
        if *word & bit == 0 || due != waits || unwritten {
            return Err(nothing());
        }
        *word &= !bit;
        if let Some(at) = control {
            self.controls.swap_remove(at);
        }
        Ok(())
    }

    pub(super) fn publish(&mut self, publish: &Publish) -> Result<(), Ended> {
        let packet_id = match publish.qos {
            QoS::AtMostOnce => None,
            _ => Some(self.next_id()?),
        };
        let head = PublishHead {
            topic: &publish.topic,
            qos: publish.qos,
            retain: publish.retain,
            dup: false,
            packet_id,
            properties: PublishPropertiesRef {
                message_expiry: publish.expiry,
                message: publish.properties.as_deref(),
                ..PublishPropertiesRef::default()
            },
        };
        let before = self.out.len();
        encode_publish_for(self.version, &head, &publish.payload, &mut self.out)
            .map_err(|error| unwritable("PUBLISH", &error))?;
        let id = packet_id.map_or(0, NonZeroU16::get);
        self.written(before, Some(Event::Published(id)));
        Ok(())
    }

    fn control(&mut self, waits: Waits) -> Result<NonZeroU16, Ended> {
        let id = self.next_id()?;
        self.controls.push((id.get(), waits));
        Ok(id)
    }

    pub(super) fn subscribe(&mut self, filters: &[Filter]) -> Result<(), Ended> {
        let packet_id = self.control(Waits::Subscribe)?;
        let filters = filters.iter().map(|filter| {
            let options = match self.version {
                Version::V311 => SubscriptionOptions::from(filter.qos),
                Version::V5 => SubscriptionOptions {
                    qos: filter.qos,
                    no_local: filter.no_local,
                    retain_as_published: filter.retain_as_published,
                    retain_handling: match filter.retained {
                        true => RetainHandling::Send,
                        false => RetainHandling::DoNotSend,
                    },
                },
            };
            Ok((filter_text(&filter.filter)?, options))
        });
        let subscribe = Subscribe {
            packet_id,
            filters: filters.collect::<Result<_, Ended>>()?,
            properties: None,
        };
        self.put(&Packet::Subscribe(subscribe), Some(Event::SubscribeSent))
    }

    pub(super) fn unsubscribe(&mut self, filter: &str) -> Result<(), Ended> {
        let filters = vec![filter_text(filter)?];
        let unsubscribe = Unsubscribe {
            packet_id: self.control(Waits::Unsubscribe)?,
            filters,
            properties: None,
        };
        self.put(
            &Packet::Unsubscribe(unsubscribe),
            Some(Event::SubscribeSent),
        )
    }

    pub(super) fn acknowledge(&mut self, packet_id: u16, qos: QoS) -> Result<(), Ended> {
        let id = NonZeroU16::new(packet_id)
            .ok_or_else(|| broken("a message without a packet id has no acknowledgement"))?;
        let packet = match qos {
            QoS::ExactlyOnce => Packet::PubRec(id.into()),
            _ => Packet::PubAck(id.into()),
        };
        self.put(&packet, Some(Event::AckSent))
    }

    /// PINGREQ, unless one waits for its answer.
    pub(super) fn ping(&mut self) {
        if self.pinging {
            return;
        }
        // Two bytes that can always be written.
        self.pinging = self.put(&Packet::PingReq, Some(Event::PingSent)).is_ok();
    }

    pub(super) fn disconnect(&mut self) -> Result<(), Ended> {
        let packet = Packet::Disconnect(Disconnect::default());
        self.put(&packet, Some(Event::Left))
    }

    /// So many bytes of `out` have left.
    pub(super) fn left(&mut self, bytes: usize) {
        self.gone += u64::try_from(bytes).unwrap_or(u64::MAX);
        if self.out.is_empty() && self.out.capacity() > KEPT {
            self.out = BytesMut::new();
        }
    }

    /// The next that has left as a whole.
    pub(super) fn told(&mut self) -> Option<Event> {
        self.marks.front().filter(|(end, _)| *end <= self.gone)?;
        self.marks.pop_front().map(|(_, event)| event)
    }

    /// CONNACK off the front of what was read; `None`: it is not whole.
    pub(super) fn connack(
        &mut self,
        buffer: &mut BytesMut,
        keep_alive: u16,
    ) -> Result<Option<Accepted>, Ended> {
        let decoded = self.decoder.decode(buffer);
        let packet = decoded.map_err(|error| {
            let text = format!("what answers there does not speak MQTT: {error}");
            Ended::lost(Layer::Connack, text)
        })?;
        let ack = match packet {
            None => return Ok(None),
            Some(Packet::ConnAck(ack)) => ack,
            Some(other) => {
                let text = format!("{} came before CONNACK", other.packet_type());
                return Err(Ended::lost(Layer::Connack, text));
            }
        };
        let said = ack.properties.unwrap_or_default();
        if ack.reason != ReasonCode::Success {
            let code = match self.version {
                Version::V311 => ack.reason.return_code() as u8,
                Version::V5 => ack.reason as u8,
            };
            return Err(Ended::connack(code, said.reason_string.as_deref()));
        }
        Ok(Some(Accepted {
            session_present: ack.session_present,
            receive_maximum: said.receive_maximum.get(),
            maximum_packet_size: said.maximum_packet_size.map(NonZeroU32::get),
            maximum_qos: said.maximum_qos,
            retain_available: said.retain_available,
            // 0 switches the server's clock off (3.2.2.3.14); we go on asking.
            keep_alive: said
                .server_keep_alive
                .filter(|seconds| *seconds > 0)
                .unwrap_or(keep_alive),
        }))
    }

    /// The next event off the front of what was read; `None`: there is no whole packet left.
    pub(super) fn read(&mut self, buffer: &mut BytesMut) -> Result<Option<Event>, Ended> {
        loop {
            let decoded = self.decoder.decode(buffer);
            let packet = decoded
                .map_err(|error| broken(format!("the upstream sends what is no MQTT: {error}")))?;
            let Some(packet) = packet else {
                if buffer.is_empty() && buffer.capacity() > KEPT {
                    *buffer = BytesMut::new();
                }
                return Ok(None);
            };
            if let Some(event) = self.event(packet)? {
                return Ok(Some(event));
            }
        }
    }

    fn event(&mut self, packet: Packet) -> Result<Option<Event>, Ended> {
        let event = match packet {
            Packet::PubAck(ack) => {
                self.answered(ack.packet_id.get(), Waits::Publish)?;
                Event::Acknowledged(acknowledged(ack))
            }
            Packet::SubAck(ack) => {
                self.answered(ack.packet_id.get(), Waits::Subscribe)?;
                Event::Subscribed(codes(&ack))
            }
            Packet::UnsubAck(ack) => {
                self.answered(ack.packet_id.get(), Waits::Unsubscribe)?;
                return Ok(None);
            }
            Packet::Publish(publish) => Event::Incoming(Box::new(incoming(publish)?)),
            Packet::PubRel(ack) => {
                // The other half of an exchange whose PUBREC said that we have it.
                self.put(&Packet::PubComp(ack.packet_id.into()), None)?;
                return Ok(None);
            }
            Packet::PingResp => {
                self.pinging = false;
                Event::Pong
            }
            Packet::Disconnect(end) => {
                let said = end.properties.and_then(|p| p.reason_string);
                return Err(Ended::disconnect(end.reason as u8, said.as_deref()));
            }
            other => {
                let text = format!("the upstream sends {}, unasked", other.packet_type());
                return Err(broken(text));
            }
        };
        Ok(Some(event))
    }
}

fn filter_text(filter: &str) -> Result<Str, Ended> {
    Str::new(filter).map_err(|error| broken(format!("the filter {filter:?} {error}")))
}

fn acknowledged(ack: Ack) -> Acknowledged {
    let said = ack.properties.and_then(|p| p.reason_string);
    Acknowledged {
        packet_id: ack.packet_id.get(),
        reason: ack.reason as u8,
        said: said.map(|text| text.to_string()),
    }
}

fn codes(ack: &SubAck) -> Vec<u8> {
    let codes = ack.codes.iter();
    codes.map(|code| ReasonCode::from(*code) as u8).collect()
}

fn incoming(publish: iotedge_mqtt::Publish) -> Result<Incoming, Ended> {
    let said = publish.properties.map(|said| *said).unwrap_or_default();
    if said.topic_alias.is_some() {
        // Our CONNECT allows none (MQTT 5, 3.1.2.11.5).
        return Err(broken("the upstream sends a topic alias, unasked"));
    }
    Ok(Incoming {
        topic: publish.topic.to_string(),
        payload: publish.payload,
        qos: publish.qos,
        retain: publish.retain,
        dup: publish.dup,
        packet_id: publish.packet_id.map_or(0, NonZeroU16::get),
        expiry: said.message_expiry,
        properties: said.message,
    })
}

#[cfg(test)]
mod tests;
