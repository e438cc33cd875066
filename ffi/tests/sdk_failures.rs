//! What the calls of the SDK say when the server goes away in the middle of them, when the state is
//! the wrong one, and when several clients and threads are at work.
#![allow(unsafe_code, clippy::unwrap_used, clippy::expect_used)] // C's side; helpers fail as tests

use std::ffi::c_int;
use std::io::Read;
use std::net::TcpListener;
use std::sync::Barrier;
use std::sync::atomic::{AtomicUsize, Ordering};

use iotedge::compat::*;
use iotedge_mqtt::{Packet, QoS};

#[path = "support/sdk.rs"]
mod sdk;
#[path = "support/server.rs"]
mod server;

use sdk::{Sdk, Seen, note};
use server::{Certificates, Server, channel};

const CONNECTED: c_int = 3;
const DISCONNECTED_ERROR: c_int = 11;

fn state(sdk: &Sdk) -> c_int {
    aws_iot_mqtt_get_client_state(sdk.client())
}

#[test]
fn a_server_that_goes_away_while_a_call_waits_is_a_read_error() {
    let server = Server::start(4, |number, peer| {
        peer.accept();
        match number {
            0 => drop(peer.publish()),
            1 => assert!(matches!(peer.receive(), Some(Packet::Subscribe(_)))),
            2 => {
                peer.grant();
                assert!(matches!(peer.receive(), Some(Packet::Unsubscribe(_))));
            }
            _ => {
                peer.grant();
                assert!(matches!(peer.receive(), Some(Packet::Subscribe(_))));
            }
        }
    });
    let seen = Seen::default();
    let in_the_middle_of = |call: &dyn Fn(&Sdk) -> c_int| {
        let sdk = Sdk::new(server.port, server.certificates.dir());
        sdk.up();
        assert_eq!(call(&sdk), -12);
        assert_eq!(state(&sdk), CONNECTED, "only yield sees to it");
        assert_eq!(sdk.run(50), -13);
        assert_eq!(state(&sdk), DISCONNECTED_ERROR);
        assert_eq!(aws_iot_mqtt_get_network_disconnected_count(sdk.client()), 1);
        // And from then on everything says that there is no connection.
        assert_eq!(sdk.run(50), -13);
        assert_eq!(sdk.publish("t", b"x", 0), -13);
        assert_eq!(sdk.publish("t", b"x", 1), -13);
        assert_eq!(sdk.subscribe("t", note, seen.data()), -13);
        assert_eq!(sdk.unsubscribe("t"), -13);
        assert_eq!(aws_iot_mqtt_resubscribe(sdk.client()), -13);
        assert_eq!(aws_iot_mqtt_disconnect(sdk.client()), -13);
    };
    in_the_middle_of(&|sdk| sdk.publish("t", b"x", 1));
    in_the_middle_of(&|sdk| sdk.subscribe("t", note, seen.data()));
    in_the_middle_of(&|sdk| {
        assert_eq!(sdk.subscribe("t", note, seen.data()), 0);
        sdk.unsubscribe("t")
    });
    in_the_middle_of(&|sdk| {
        assert_eq!(sdk.subscribe("t", note, seen.data()), 0);
        aws_iot_mqtt_resubscribe(sdk.client())
    });
    server.finish();
}

#[test]
fn a_server_that_goes_away_during_connect_leaves_a_client_that_can_connect_again() {
    let server = Server::start(2, |number, peer| match number {
        0 => assert!(matches!(peer.receive(), Some(Packet::Connect(_)))),
        _ => {
            peer.accept();
            peer.until_gone();
        }
    });
    let sdk = Sdk::new(server.port, server.certificates.dir());
    assert_eq!(sdk.init(), 0);
    assert_eq!(sdk.connect(), -12, "no CONNACK, but the end");
    assert_eq!(state(&sdk), DISCONNECTED_ERROR);
    assert_eq!(sdk.run(20), -13);
    assert_eq!(sdk.connect(), 0);
    assert_eq!(sdk.connect(), -15, "it is connected");
    assert_eq!(aws_iot_mqtt_attempt_reconnect(sdk.client()), -15);
    drop(sdk);
    server.finish();

    // In the handshake.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let goes = std::thread::spawn(move || {
        let (mut socket, _) = listener.accept().unwrap();
        assert!(socket.read(&mut [0; 64]).unwrap() > 0);
    });
    let certificates = Certificates::new();
    let sdk = Sdk::new(port, certificates.dir());
    assert_eq!(sdk.init(), 0);
    assert_eq!(sdk.connect(), -4);
    assert_eq!(state(&sdk), DISCONNECTED_ERROR);
    goes.join().unwrap();
}

#[test]
fn a_client_that_was_not_initialised_or_was_freed_does_nothing() {
    let certificates = Certificates::new();
    let sdk = Sdk::new(1, certificates.dir());
    let seen = Seen::default();
    let nothing = |what: &str| {
        assert_eq!(sdk.connect(), -15, "{what}");
        assert_eq!(sdk.publish("t", b"x", 0), -13, "{what}");
        assert_eq!(sdk.subscribe("t", note, seen.data()), -13, "{what}");
        assert_eq!(sdk.unsubscribe("t"), -13, "{what}");
        assert_eq!(sdk.run(10), -13, "{what}");
        assert_eq!(aws_iot_mqtt_disconnect(sdk.client()), -13, "{what}");
        assert_eq!(state(&sdk), 0, "{what}");
        assert!(!aws_iot_is_autoreconnect_enabled(sdk.client()), "{what}");
        assert_eq!(aws_iot_mqtt_get_next_packet_id(sdk.client()), 0, "{what}");
        assert_eq!(
            aws_iot_mqtt_get_network_disconnected_count(sdk.client()),
            0,
            "{what}"
        );
    };
    nothing("not initialised");
    assert_eq!(sdk.init(), 0);
    assert_eq!(state(&sdk), 1);
    assert_eq!(sdk.publish("t", b"x", 0), -13);
    assert_eq!(sdk.run(10), -13);
    assert_eq!(aws_iot_mqtt_resubscribe(sdk.client()), -13);
    assert_eq!(aws_iot_mqtt_free(sdk.client()), 0);
    nothing("freed");
    assert_eq!(aws_iot_mqtt_free(sdk.client()), 0, "twice does no harm");
}

#[test]
fn ids_of_packets_go_from_the_last_to_the_first() {
    let certificates = Certificates::new();
    let sdk = Sdk::new(1, certificates.dir());
    assert_eq!(sdk.init(), 0);
    let ids = (0..70_000).map(|_| aws_iot_mqtt_get_next_packet_id(sdk.client()));
    let ids: Vec<u16> = ids.collect();
    assert!(!ids.contains(&0));
    for pair in ids.windows(2) {
        let next = if pair[0] == u16::MAX { 1 } else { pair[0] + 1 };
        assert_eq!(pair[1], next);
    }
}

#[test]
fn the_connect_parameters_may_be_set_before() {
    let server = Server::start(2, |number, peer| {
        let connect = peer.accept();
        assert_eq!(connect.client_id.as_str(), "device");
        assert_eq!(connect.keep_alive, if number == 0 { 60 } else { 7 });
        peer.until_gone();
    });
    let mut sdk = Sdk::new(server.port, server.certificates.dir());
    assert_eq!(sdk.init(), 0);
    let null = std::ptr::null();
    let client = sdk.client();
    assert_eq!(
        unsafe { aws_iot_mqtt_connect(client, null) },
        -2,
        "none were set"
    );
    assert_eq!(unsafe { aws_iot_mqtt_set_connect_params(client, null) }, -2);
    let set = unsafe { aws_iot_mqtt_set_connect_params(client, &raw const sdk.connect) };
    assert_eq!(set, 0);
    assert_eq!(unsafe { aws_iot_mqtt_connect(client, null) }, 0);
    assert_eq!(aws_iot_mqtt_disconnect(client), 0);
    sdk.connect.keep_alive = 7;
    assert_eq!(sdk.connect(), 0);
    drop(sdk);
    server.finish();
}

#[test]
fn a_message_that_is_too_large_to_receive_is_told_and_the_next_one_comes() {
    let server = Server::start(1, |_, peer| {
        peer.accept();
        peer.grant();
        // A packet of exactly the buffer's size is too large, one byte less is not.
        for payload in [506, 505, 5000] {
            peer.tell("t", &"x".repeat(payload));
        }
        peer.tell("t", "last");
        peer.until_gone();
    });
    let sdk = Sdk::new(server.port, server.certificates.dir());
    sdk.up();
    let seen = Seen::default();
    assert_eq!(sdk.subscribe("t", note, seen.data()), 0);
    assert_eq!(sdk.run_until(&[0], || false), -32, "506");
    assert_eq!(seen.len(), 0);
    assert_eq!(sdk.run_until(&[0], || false), -32, "5000");
    assert_eq!(seen.len(), 1);
    assert_eq!(sdk.run_until(&[0], || seen.len() == 2), 0);
    assert_eq!(seen.all()[1], "t=last");
    drop(sdk);
    server.finish();
}

#[test]
fn two_clients_have_nothing_in_common() {
    let servers: Vec<Server> = ["first", "second"]
        .map(|name| {
            Server::start(1, move |_, peer| {
                peer.accept();
                peer.grant();
                peer.tell("t", name);
                if name == "first" {
                    return;
                }
                assert_eq!(peer.publish().qos, QoS::AtMostOnce);
                peer.until_gone();
            })
        })
        .into();
    let seen = [Seen::default(), Seen::default()];
    let clients: Vec<Sdk> = servers
        .iter()
        .zip(&seen)
        .map(|(server, seen)| {
            let sdk = Sdk::new(server.port, server.certificates.dir());
            sdk.up();
            assert_eq!(sdk.subscribe("t", note, seen.data()), 0);
            sdk
        })
        .collect();
    // The end of the one's connection is nothing to the other.
    assert_eq!(clients[0].run_until(&[0], || false), -13);
    assert_eq!(clients[1].run_until(&[0], || seen[1].len() == 1), 0);
    assert_eq!(clients[1].publish("t", b"x", 0), 0);
    assert_eq!(
        [state(&clients[0]), state(&clients[1])],
        [DISCONNECTED_ERROR, CONNECTED]
    );
    assert_eq!(seen.map(|s| s.all()), [["t=first"], ["t=second"]]);
    drop(clients);
    servers.into_iter().for_each(Server::finish);
}

/// An address that may go to other threads: the client is the library's, not theirs.
#[derive(Clone, Copy)]
struct Shared(*mut AwsIotClient);
unsafe impl Send for Shared {}
unsafe impl Sync for Shared {}

#[test]
fn threads_share_a_client_one_operation_at_a_time_and_lose_nothing() {
    const THREADS: usize = 4;
    const EACH: usize = 50;
    let (all, received) = channel();
    let server = Server::start(1, move |_, peer| {
        peer.accept();
        let mut count = 0;
        while let Some(packet) = peer.receive() {
            if let Packet::Publish(publish) = packet {
                count += 1;
                if let Some(id) = publish.packet_id {
                    peer.send(&Packet::PubAck(id.into()));
                }
            }
        }
        all.send(count).unwrap();
    });
    let sdk = Sdk::new(server.port, server.certificates.dir());
    sdk.up();
    let client = Shared(sdk.client());
    let (start, busy) = (Barrier::new(THREADS), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let (start, busy) = (&start, &busy);
            scope.spawn(move || {
                let Shared(client) = { client };
                start.wait();
                for number in 0..EACH {
                    loop {
                        let qos = c_int::from((thread + number) % 2 == 0);
                        match sdk::publish(client, "t", b"x", qos) {
                            0 => break,
                            -30 => busy.fetch_add(1, Ordering::Relaxed),
                            other => panic!("{other}"),
                        };
                        // As the SDK's programs do: let the other one finish.
                        std::thread::yield_now();
                    }
                    assert!([0, -30].contains(&aws_iot_mqtt_yield(client, 1)));
                }
            });
        }
    });
    drop(sdk);
    assert_eq!(received.recv().unwrap(), THREADS * EACH);
    server.finish();
}
