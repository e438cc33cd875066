use bytes::{Buf, Bytes};
use iotedge_model::Properties;

use super::*;

/// A session and the server that it speaks to.
struct Pair {
    session: Session,
    server: Decoder,
    /// For the session.
    answers: BytesMut,
}

impl Pair {
    fn new(version: Version) -> Self {
        let session = Session::new(Hello {
            version,
            client_id: "gateway",
            clean: false,
            keep_alive: 60,
            max_packet_bytes: 5000,
            login: Some(("user".into(), "secret".into())),
        });
        let mut pair = Self {
            session: session.unwrap(),
            server: Decoder::new(Role::Server, 1 << 20),
            answers: BytesMut::new(),
        };
        let Some(Packet::Connect(connect)) = pair.sent().pop() else {
            panic!("no CONNECT");
        };
        assert_eq!((&*connect.client_id, connect.clean), ("gateway", false));
        assert_eq!(connect.version, version);
        let most = connect
            .properties
            .map(|p| p.maximum_packet_size.unwrap().get());
        assert_eq!(most, (version == Version::V5).then_some(5000));
        assert_eq!(connect.password.as_deref(), Some(&b"secret"[..]));
        pair.answer(&Packet::ConnAck(ReasonCode::Success.into()));
        let accepted = pair.session.connack(&mut pair.answers, 60).unwrap();
        assert_eq!(accepted, Some(Accepted::unlimited(60)));
        pair
    }

    /// All that waits leaves.
    fn sent(&mut self) -> Vec<Packet> {
        let mut wire = self.session.out.split();
        self.session.left(wire.len());
        let mut packets = Vec::new();
        while let Some(packet) = self.server.decode(&mut wire).unwrap() {
            packets.push(packet);
        }
        assert!(wire.is_empty());
        packets
    }

    fn answer(&mut self, packet: &Packet) {
        encode_for(self.session.version, packet, &mut self.answers).unwrap();
    }

    fn ack(&mut self, id: u16) -> Result<Option<Event>, Ended> {
        let id = NonZeroU16::new(id).unwrap();
        self.answer(&Packet::PubAck(id.into()));
        self.session.read(&mut self.answers)
    }

    fn publish(&mut self) {
        self.session.publish(&message()).unwrap();
    }
}

fn message() -> Publish {
    Publish {
        topic: "t/x".into(),
        payload: Bytes::from_static(b"payload"),
        qos: QoS::AtLeastOnce,
        retain: false,
        expiry: None,
        properties: None,
    }
}

const BOTH: [Version; 2] = [Version::V311, Version::V5];

#[test]
fn what_has_left_is_told_in_order_and_not_before() {
    for version in BOTH {
        let mut pair = Pair::new(version);
        pair.publish();
        let first = pair.session.out.len();
        pair.session.ping();
        pair.publish();
        assert_eq!(pair.session.told(), None);
        pair.session.out.advance(first - 1);
        pair.session.left(first - 1);
        assert_eq!(pair.session.told(), None, "a byte is missing");
        let rest = pair.session.out.len();
        pair.session.out.clear();
        pair.session.left(rest);
        for event in [Event::Published(1), Event::PingSent, Event::Published(2)] {
            assert_eq!(pair.session.told(), Some(event));
        }
        assert_eq!(pair.session.told(), None);
    }
}

#[test]
fn an_answer_to_nothing_is_an_error() {
    for version in BOTH {
        let mut pair = Pair::new(version);
        assert!(pair.ack(1).is_err(), "nothing was sent");
        let mut pair = Pair::new(version);
        pair.publish();
        assert!(pair.ack(1).is_err(), "it is not on the wire");
        let mut pair = Pair::new(version);
        pair.publish();
        pair.sent();
        assert_eq!(pair.session.told(), Some(Event::Published(1)));
        assert!(matches!(pair.ack(1), Ok(Some(Event::Acknowledged(_)))));
        assert!(pair.ack(1).is_err(), "twice");
        let mut pair = Pair::new(version);
        pair.session.unsubscribe("a").unwrap();
        pair.sent();
        assert!(pair.ack(1).is_err(), "a PUBACK for UNSUBSCRIBE");
    }
}

#[test]
fn an_id_in_use_is_not_given_again() {
    let mut pair = Pair::new(Version::V311);
    for _ in 0..3 {
        pair.publish();
    }
    pair.sent();
    while pair.session.told().is_some() {}
    for id in [1, 3] {
        pair.ack(id).unwrap();
    }
    pair.session.last_id = u16::MAX;
    for id in [1, 3] {
        pair.publish();
        pair.sent();
        assert_eq!(pair.session.told(), Some(Event::Published(id)));
    }
}

#[test]
fn properties_travel_in_version_5_and_stay_behind_in_3_1_1() {
    for version in BOTH {
        let mut pair = Pair::new(version);
        let properties = Properties {
            content_type: Some("text/plain".into()),
            ..Properties::default()
        };
        let publish = Publish {
            expiry: Some(7),
            properties: Some(properties.clone().into()),
            ..message()
        };
        pair.session.publish(&publish).unwrap();
        let Some(Packet::Publish(sent)) = pair.sent().pop() else {
            panic!("no PUBLISH");
        };
        assert_eq!((&*sent.topic, &*sent.payload), ("t/x", &b"payload"[..]));
        match version {
            Version::V311 => assert_eq!(sent.properties, None),
            Version::V5 => {
                let said = sent.properties.clone().unwrap();
                assert_eq!(said.message_expiry, Some(7));
                assert_eq!(said.message.as_deref(), Some(&properties));
            }
        }
        pair.answer(&Packet::Publish(sent));
        let Ok(Some(Event::Incoming(came))) = pair.session.read(&mut pair.answers) else {
            panic!("nothing came");
        };
        assert_eq!((came.topic.as_str(), came.packet_id), ("t/x", 1));
        assert_eq!(came.expiry, (version == Version::V5).then_some(7));
    }
}

#[test]
fn the_second_half_of_a_qos_2_exchange_is_answered() {
    for version in BOTH {
        let mut pair = Pair::new(version);
        let id = NonZeroU16::new(9).unwrap();
        pair.session.acknowledge(9, QoS::ExactlyOnce).unwrap();
        assert_eq!(pair.sent(), [Packet::PubRec(id.into())]);
        pair.answer(&Packet::PubRel(id.into()));
        assert_eq!(pair.session.read(&mut pair.answers), Ok(None));
        assert_eq!(pair.sent(), [Packet::PubComp(id.into())]);
    }
}

#[test]
fn suback_and_pingresp_are_told_and_one_ping_waits_at_a_time() {
    for version in BOTH {
        let mut pair = Pair::new(version);
        let filter = Filter {
            filter: "down/#".into(),
            qos: QoS::AtLeastOnce,
            no_local: true,
            retain_as_published: true,
            retained: false,
        };
        pair.session.subscribe(&[filter]).unwrap();
        pair.session.ping();
        pair.session.ping();
        let sent = pair.sent();
        let [Packet::Subscribe(asked), Packet::PingReq] = &sent[..] else {
            panic!("{sent:?}");
        };
        assert_eq!(asked.filters[0].1.no_local, version == Version::V5);
        pair.answer(&Packet::SubAck(SubAck {
            packet_id: asked.packet_id,
            codes: vec![iotedge_mqtt::SubAckCode::FAILURE],
            properties: None,
        }));
        pair.answer(&Packet::PingResp);
        let read = pair.session.read(&mut pair.answers);
        assert_eq!(read, Ok(Some(Event::Subscribed(vec![0x80]))));
        let read = pair.session.read(&mut pair.answers);
        assert_eq!(read, Ok(Some(Event::Pong)));
        pair.session.ping();
        assert_eq!(pair.sent(), [Packet::PingReq]);
    }
}

#[test]
fn a_server_that_switches_the_keep_alive_off_is_pinged_all_the_same() {
    for (said, used) in [(Some(0), 60), (Some(20), 20), (None, 60)] {
        let mut pair = Pair::new(Version::V5);
        pair.session.decoder = Decoder::new(Role::Client, 1000).with_version(Version::V5);
        let mut ack = iotedge_mqtt::ConnAck::from(ReasonCode::Success);
        ack.properties = Some(Box::new(iotedge_mqtt::ConnAckProperties {
            server_keep_alive: said,
            ..Default::default()
        }));
        pair.answer(&Packet::ConnAck(ack));
        let accepted = pair.session.connack(&mut pair.answers, 60).unwrap();
        assert_eq!(accepted.unwrap().keep_alive, used);
    }
}

#[test]
fn refusals_and_farewells_keep_their_codes() {
    for (version, reason, code) in [
        (Version::V311, ReasonCode::NotAuthorized, 5),
        (Version::V5, ReasonCode::NotAuthorized, 0x87),
        (Version::V311, ReasonCode::ServerUnavailable, 3),
    ] {
        let mut pair = Pair::new(version);
        pair.session.decoder = Decoder::new(Role::Client, 1000).with_version(version);
        pair.answer(&Packet::ConnAck(reason.into()));
        let ended = pair.session.connack(&mut pair.answers, 60).unwrap_err();
        assert_eq!(ended.code, Some(code), "{ended:?}");
        assert_eq!(ended.layer, Layer::Connack);
    }
    let mut pair = Pair::new(Version::V5);
    let end = Disconnect::from(ReasonCode::SessionTakenOver);
    pair.answer(&Packet::Disconnect(end));
    let ended = pair.session.read(&mut pair.answers).unwrap_err();
    assert_eq!((ended.layer, ended.code), (Layer::Mqtt, Some(0x8e)));
}
