//! Publishing, subscribing and handlers, as programs of the SDK depend on them.
#![allow(unsafe_code, clippy::unwrap_used, clippy::expect_used)] // C's side; helpers fail as tests

use std::ffi::{c_char, c_int, c_void};

use iotedge::compat::*;
use iotedge_mqtt::{Packet, PacketId, QoS, SubAckCode};

#[path = "support/sdk.rs"]
mod sdk;
#[path = "support/server.rs"]
mod server;

use sdk::{Sdk, Seen, note, publish, subscribe, text_of};
use server::{Server, message};

#[test]
fn what_is_published_comes_back_in_yield() {
    let server = Server::start(1, |_, peer| {
        let connect = peer.accept();
        assert_eq!(connect.client_id, "device");
        assert_eq!(connect.username.unwrap(), "?SDK=C&Version=3.0.1");
        assert!(connect.clean && connect.keep_alive == 60 && connect.password.is_none());
        peer.echo();
    });
    let seen = Seen::default();
    let sdk = Sdk::new(server.port, server.certificates.dir());
    sdk.up();
    assert_eq!(sdk.subscribe("a/+", note, seen.data()), 0);
    assert_eq!(sdk.publish("a/b", b"one", 0), 0);
    assert_eq!(sdk.publish("a/b", b"two", 1), 0);
    assert_eq!(sdk.publish("a/c", b"", 0), 0);
    assert_eq!(sdk.run_until(&[0], || seen.len() == 3), 0);
    assert_eq!(seen.all(), ["a/b=one", "a/b=two", "a/c="]);
    assert_eq!(aws_iot_mqtt_disconnect(sdk.client()), 0);
    server.finish();
}

#[test]
fn handlers_run_inside_calls_that_wait_and_not_inside_a_publish_with_qos_0() {
    let server = Server::start(1, |_, peer| {
        peer.accept();
        peer.grant();
        // Before the PUBACK: the publish gives it to the handler.
        let first = peer.publish();
        peer.tell("t", "during publish");
        peer.send(&Packet::PubAck(first.packet_id.unwrap().into()));
        let Some(Packet::Subscribe(second)) = peer.receive() else {
            panic!("SUBSCRIBE");
        };
        peer.tell("t", "during subscribe");
        peer.send(&Packet::SubAck(iotedge_mqtt::SubAck {
            packet_id: second.packet_id,
            codes: vec![SubAckCode::Granted(QoS::AtMostOnce)],
            properties: None,
        }));
        peer.tell("t", "waits for yield");
        assert_eq!(peer.publish().qos, QoS::AtMostOnce);
        peer.until_gone();
    });
    let seen = Seen::default();
    let sdk = Sdk::new(server.port, server.certificates.dir());
    sdk.up();
    assert_eq!(sdk.subscribe("t", note, seen.data()), 0);
    assert_eq!(sdk.publish("x", b"", 1), 0);
    assert_eq!(seen.all(), ["t=during publish"]);
    assert_eq!(sdk.subscribe("other", note, seen.data()), 0);
    assert_eq!(seen.len(), 2);
    assert_eq!(sdk.publish("x", b"", 0), 0);
    assert_eq!(seen.len(), 2);
    assert_eq!(sdk.run_until(&[0], || seen.len() == 3), 0);
    drop(sdk);
    server.finish();
}

#[test]
fn all_matching_slots_are_called_in_their_order() {
    let server = Server::start(1, |_, peer| {
        peer.accept();
        peer.echo();
    });
    unsafe extern "C" fn first(
        _: *mut AwsIotClient,
        _: *mut c_char,
        _: u16,
        _: *mut PublishParams,
        data: *mut c_void,
    ) {
        Seen::of(data).note("first");
    }
    unsafe extern "C" fn second(
        _: *mut AwsIotClient,
        _: *mut c_char,
        _: u16,
        _: *mut PublishParams,
        data: *mut c_void,
    ) {
        Seen::of(data).note("second");
    }
    let seen = Seen::default();
    let sdk = Sdk::new(server.port, server.certificates.dir());
    sdk.up();
    for (filter, handler) in [
        ("a/#", first as MessageHandler),
        ("b", second),
        ("a/b", second),
        ("a/b", first),
    ] {
        assert_eq!(sdk.subscribe(filter, handler, seen.data()), 0);
    }
    assert_eq!(sdk.publish("a/b", b"", 0), 0);
    assert_eq!(sdk.run_until(&[0], || seen.len() == 3), 0);
    assert_eq!(seen.all(), ["first", "second", "first"]);
    assert_eq!(sdk.subscribe("c", first, seen.data()), 0);
    let reached = sdk.subscribe("d", first, seen.data());
    assert_eq!(reached, -34, "five slots");
    assert_eq!(sdk.unsubscribe("a/b"), 0, "both slots of the filter go");
    assert_eq!(sdk.unsubscribe("a/b"), -1);
    assert_eq!(sdk.subscribe("d", first, seen.data()), 0);
    drop(sdk);
    server.finish();
}

/// In a handler: publish with QoS 1 and subscribe do, yield does not.
unsafe extern "C" fn busy(
    client: *mut AwsIotClient,
    topic: *mut c_char,
    topic_len: u16,
    params: *mut PublishParams,
    data: *mut c_void,
) {
    let seen = Seen::of(data);
    let text = unsafe { text_of(topic, topic_len, params) };
    seen.note(text.clone());
    if text == "start=" {
        let state = aws_iot_mqtt_get_client_state(client);
        let yielded = aws_iot_mqtt_yield(client, 10);
        let published = publish(client, "nested", b"1", 1);
        let subscribed = subscribe(client, "more", note, data);
        seen.note(format!("{state} {yielded} {published} {subscribed}"));
    }
}

#[test]
fn a_handler_may_publish_and_subscribe_but_not_yield() {
    let server = Server::start(1, |_, peer| {
        peer.accept();
        peer.echo();
    });
    let seen = Seen::default();
    let sdk = Sdk::new(server.port, server.certificates.dir());
    sdk.up();
    assert_eq!(sdk.subscribe("start", busy, seen.data()), 0);
    assert_eq!(sdk.subscribe("nested", note, seen.data()), 0);
    assert_eq!(sdk.publish("start", b"", 0), 0);
    assert_eq!(sdk.run_until(&[0], || seen.len() == 3), 0);
    let all = seen.all();
    assert!(all.contains(&"9 -30 0 0".to_owned()), "{all:?}");
    assert!(all.contains(&"nested=1".to_owned()), "{all:?}");
    assert_eq!(sdk.publish("more", b"2", 1), 0);
    assert_eq!(sdk.run_until(&[0], || seen.len() == 4), 0);
    drop(sdk);
    server.finish();
}

#[test]
fn an_inbound_message_with_qos_1_is_acknowledged() {
    let server = Server::start(1, |_, peer| {
        peer.accept();
        peer.grant();
        peer.send(&message("t", b"1", Some(77)));
        assert_eq!(
            peer.receive(),
            Some(Packet::PubAck(PacketId::new(77).unwrap().into()))
        );
        peer.until_gone();
    });
    let seen = Seen::default();
    let sdk = Sdk::new(server.port, server.certificates.dir());
    sdk.up();
    assert_eq!(sdk.subscribe("t", note, seen.data()), 0);
    assert_eq!(sdk.run_until(&[0], || seen.len() == 1), 0);
    drop(sdk);
    server.finish();
}

#[test]
fn an_answer_that_does_not_come_is_a_timeout_and_the_client_goes_on() {
    let server = Server::start(1, |_, peer| {
        peer.accept();
        let unanswered = peer.publish();
        let answered = peer.publish();
        // Late, and then the right one.
        peer.send(&Packet::PubAck(unanswered.packet_id.unwrap().into()));
        peer.send(&Packet::PubAck(answered.packet_id.unwrap().into()));
        let Some(Packet::Subscribe(_)) = peer.receive() else {
            panic!("SUBSCRIBE");
        };
        peer.until_gone();
    });
    let seen = Seen::default();
    let mut sdk = Sdk::new(server.port, server.certificates.dir());
    sdk.init.command_timeout_ms = 300;
    sdk.up();
    assert_eq!(sdk.publish("t", b"", 1), -28);
    assert_eq!(sdk.publish("t", b"", 1), 0);
    assert_eq!(sdk.subscribe("t", note, seen.data()), -28);
    assert_eq!(sdk.unsubscribe("t"), -1, "its slot was given back");
    drop(sdk);
    server.finish();
}

#[test]
fn a_refused_subscription_is_a_success_to_programs_of_the_sdk() {
    let server = Server::start(1, |_, peer| {
        peer.accept();
        peer.answer_subscribe(SubAckCode::FAILURE);
        peer.until_gone();
    });
    let seen = Seen::default();
    let sdk = Sdk::new(server.port, server.certificates.dir());
    sdk.up();
    assert_eq!(sdk.subscribe("t", note, seen.data()), 0);
    drop(sdk);
    server.finish();
}

#[test]
fn packets_have_to_fit_the_buffers() {
    let server = Server::start(1, |_, peer| {
        peer.accept();
        peer.grant();
        peer.tell("t", &"x".repeat(600));
        peer.tell("t", "fits");
        peer.until_gone();
    });
    let seen = Seen::default();
    let sdk = Sdk::new(server.port, server.certificates.dir());
    sdk.up();
    assert_eq!(sdk.subscribe("t", note, seen.data()), 0);
    assert_eq!(sdk.publish("t", &[0; 506], 0), -33, "512 bytes");
    assert_eq!(sdk.run_until(&[0], || false), -32);
    assert_eq!(sdk.run_until(&[0], || seen.len() == 1), 0);
    assert_eq!(seen.all(), ["t=fits"]);
    drop(sdk);
    server.finish();
}

#[test]
fn wrong_arguments_are_told_before_anything_is_sent() {
    let server = Server::start(1, |_, peer| {
        peer.accept();
        assert_eq!(peer.until_gone(), None);
    });
    let sdk = Sdk::new(server.port, server.certificates.dir());
    let null = std::ptr::null_mut();
    let (client, data) = (sdk.client(), Seen::default());
    assert_eq!(sdk.publish("t", b"", 0), -13, "not initialised");
    assert_eq!(sdk.connect(), -15, "not initialised");
    assert_eq!(sdk.init(), 0);
    assert_eq!(sdk.publish("t", b"", 0), -13);
    assert_eq!(sdk.subscribe("t", note, data.data()), -13);
    assert_eq!(sdk.run(10), -13);
    assert_eq!(sdk.connect(), 0);
    assert_eq!(sdk.connect(), -15);
    let topic = c"t".as_ptr();
    let level = 0 as c_int;
    unsafe {
        assert_eq!(aws_iot_mqtt_init(null, null.cast()), -2);
        assert_eq!(aws_iot_mqtt_publish(client, topic, 1, null.cast()), -2);
        assert_eq!(aws_iot_mqtt_publish(null, topic, 1, null.cast()), -2);
        let none = aws_iot_mqtt_subscribe(client, topic, 1, level, None, null.cast());
        assert_eq!(none, -2);
    }
    assert_eq!(publish(client, "", b"", 0), -2);
    assert_eq!(publish(client, "a/#", b"", 0), -1);
    assert_eq!(publish(client, "a", b"", 2), -1);
    assert_eq!(subscribe(client, "a#", note, data.data()), -1);
    assert_eq!(sdk.run(0), -2);
    assert_eq!(aws_iot_mqtt_yield(null, 1), -2);
    let first = aws_iot_mqtt_get_next_packet_id(client);
    assert_eq!(aws_iot_mqtt_get_next_packet_id(client), first + 1);
    drop(sdk);
    server.finish();
}
