//! Connecting, losing the connection and making it again, as programs of the SDK depend on it.
#![allow(unsafe_code, clippy::unwrap_used, clippy::expect_used)] // C's side; helpers fail as tests

use std::ffi::{c_char, c_int, c_void};
use std::io::Write;
use std::net::TcpListener;
use std::time::{Duration, Instant};

use iotedge::compat::*;
use iotedge_mqtt::{ConnectReturnCode, Disconnect, Packet, QoS};

#[path = "support/sdk.rs"]
mod sdk;
#[path = "support/server.rs"]
mod server;

use sdk::{Sdk, Seen, note};
use server::{Certificates, Server, channel};

#[test]
fn what_is_wrong_with_the_files_or_the_host_is_told_at_connect() {
    let server = Server::start(0, |_, _| {});
    let dir = server.certificates.dir().to_owned();
    let code = |change: &dyn Fn(&mut Sdk)| {
        let mut sdk = Sdk::new(server.port, &dir);
        change(&mut sdk);
        assert_eq!(sdk.init(), 0);
        let code = sdk.connect();
        assert_eq!(aws_iot_mqtt_get_client_state(sdk.client()), 11);
        code
    };
    let file = |name: &str| dir.join(name).to_str().unwrap().to_owned();
    assert_eq!(code(&|s| s.init.root_ca = s.text(&file("missing"))), -19);
    assert_eq!(
        code(&|s| s.init.root_ca = s.text(&file("nonsense.pem"))),
        -19
    );
    assert_eq!(
        code(&|s| s.init.device_cert = s.text(&file("nonsense.pem"))),
        -20
    );
    assert_eq!(
        code(&|s| s.init.private_key = s.text(&file("nonsense.pem"))),
        -21
    );
    assert_eq!(code(&|s| s.init.host = s.text("no such host")), -23);
    assert_eq!(code(&|s| s.init.host = s.text("nowhere.invalid")), -23);
    assert_eq!(code(&|s| s.init.port = 1), -24);
    assert_eq!(code(&|s| s.config.tx_buf_len = 20), -33);
    server.finish();
}

#[test]
fn a_server_is_believed_only_with_a_certificate_of_the_ca_for_its_name() {
    let server = Server::start(3, |number, peer| {
        let connect = peer.connect_with(ConnectReturnCode::Accepted);
        assert_eq!(connect.is_some(), number == 2);
        peer.until_gone();
    });
    let other = Certificates::new();
    let mut sdk = Sdk::new(server.port, server.certificates.dir());
    sdk.init.host = sdk.text("127.0.0.1");
    assert_eq!(sdk.init(), 0);
    assert_eq!(sdk.connect(), -4, "the certificate is for localhost");
    sdk.init.host = sdk.text("localhost");
    sdk.init.root_ca = sdk.text(other.path("rootCA.crt").to_str().unwrap());
    assert_eq!(sdk.init(), 0);
    assert_eq!(sdk.connect(), -4, "another CA");
    sdk.init.is_ssl_hostname_verify = 0;
    assert_eq!(sdk.init(), 0);
    assert_eq!(sdk.connect(), 0, "not verified");
    drop(sdk);
    server.finish();
}

#[test]
fn a_server_that_says_nothing_is_a_timeout() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let certificates = Certificates::new();
    let port = listener.local_addr().unwrap().port();
    let mut sdk = Sdk::new(port, certificates.dir());
    sdk.init.tls_handshake_timeout_ms = 200;
    assert_eq!(sdk.init(), 0);
    assert_eq!(sdk.connect(), -4, "no handshake");

    let server = Server::start(1, |_, peer| {
        assert!(peer.receive().is_some());
        assert_eq!(peer.until_gone(), None);
    });
    let mut sdk = Sdk::new(server.port, server.certificates.dir());
    sdk.init.command_timeout_ms = 200;
    assert_eq!(sdk.init(), 0);
    assert_eq!(sdk.connect(), -28, "no CONNACK");
    server.finish();
}

#[test]
fn each_refusal_has_its_code() {
    let server = Server::start(6, |number, peer| {
        let code = ConnectReturnCode::try_from(u8::try_from(number).unwrap() + 1);
        match code {
            Ok(code) => drop(peer.connect_with(code)),
            Err(_) => {
                peer.receive();
                peer.send_raw(&[0x20, 2, 0, 9]);
            }
        }
    });
    let sdk = Sdk::new(server.port, server.certificates.dir());
    assert_eq!(sdk.init(), 0);
    for expected in [-37, -38, -39, -40, -41, -36] {
        assert_eq!(sdk.connect(), expected);
        assert!(!aws_iot_mqtt_is_client_connected(sdk.client()));
    }
    server.finish();
}

#[test]
fn will_and_password_go_along_and_the_user_name_without_metrics() {
    let server = Server::start(1, |_, peer| {
        let connect = peer.accept();
        let will = connect.will.unwrap();
        assert_eq!(
            (will.topic.as_str(), &will.payload[..]),
            ("gone", &b"bye"[..])
        );
        assert!(will.retain && will.qos == QoS::AtLeastOnce);
        assert_eq!(connect.username.unwrap(), "user");
        assert_eq!(&connect.password.unwrap()[..], b"secret");
        assert!(!connect.clean);
    });
    let mut sdk = Sdk::new(server.port, server.certificates.dir());
    sdk.config.disable_metrics = 1;
    sdk.connect.is_clean_session = 0;
    sdk.connect.is_will_present = 1;
    sdk.connect.will.topic_name = sdk.text("gone");
    sdk.connect.will.topic_name_len = 4;
    sdk.connect.will.message = sdk.text("bye");
    sdk.connect.will.message_len = 3;
    sdk.connect.will.is_retained = 1;
    sdk.connect.will.qos = 1;
    sdk.connect.username = sdk.text("user");
    sdk.connect.username_len = 4;
    sdk.connect.password = sdk.text("secret");
    sdk.connect.password_len = 6;
    sdk.up();
    server.finish();
}

unsafe extern "C" fn lost(_client: *mut AwsIotClient, data: *mut c_void) {
    Seen::of(data).note("lost");
}

#[test]
fn without_reconnect_yield_says_again_and_again_that_the_connection_is_lost() {
    let server = Server::start(1, |_, peer| {
        peer.accept();
    });
    let seen = Seen::default();
    let mut sdk = Sdk::new(server.port, server.certificates.dir());
    sdk.init.disconnect_handler = Some(lost);
    sdk.init.disconnect_handler_data = seen.data();
    sdk.up();
    assert_eq!(sdk.run_until(&[0], || false), -13);
    assert_eq!(sdk.run(10), -13);
    assert_eq!(seen.all(), ["lost"]);
    assert_eq!(aws_iot_mqtt_get_network_disconnected_count(sdk.client()), 1);
    aws_iot_mqtt_reset_network_disconnected_count(sdk.client());
    assert_eq!(aws_iot_mqtt_get_network_disconnected_count(sdk.client()), 0);
    assert_eq!(aws_iot_mqtt_get_client_state(sdk.client()), 11);
    server.finish();
}

#[test]
fn a_publish_on_a_broken_connection_only_fails_and_the_next_yield_reconnects() {
    let server = Server::start(2, |number, peer| {
        peer.accept();
        peer.grant();
        if number == 0 {
            peer.publish();
        } else {
            peer.tell("t", "again");
            peer.until_gone();
        }
    });
    let seen = Seen::default();
    let mut sdk = Sdk::new(server.port, server.certificates.dir());
    sdk.init.enable_auto_reconnect = 1;
    sdk.config.min_reconnect_wait_ms = 300;
    sdk.up();
    assert_eq!(sdk.subscribe("t", note, seen.data()), 0);
    assert_eq!(sdk.publish("x", b"", 1), -12);
    assert!(aws_iot_mqtt_is_client_connected(sdk.client()));
    let start = Instant::now();
    assert_eq!(sdk.run(50), 4);
    assert_eq!(aws_iot_mqtt_get_client_state(sdk.client()), 13);
    assert_eq!(sdk.publish("x", b"", 0), -13);
    let code = sdk.run_until(&[0, 3, 4], || seen.len() == 1);
    assert!(matches!(code, 0 | 3), "{code}");
    assert!(
        start.elapsed() >= Duration::from_millis(300),
        "first the wait"
    );
    assert_eq!(seen.all(), ["t=again"], "subscribed again");
    drop(sdk);
    server.finish();
}

#[test]
fn reconnecting_ends_when_the_longest_wait_is_reached() {
    let server = Server::start(1, |_, peer| {
        peer.accept();
    });
    let mut sdk = Sdk::new(server.port, server.certificates.dir());
    sdk.init.enable_auto_reconnect = 1;
    sdk.config.min_reconnect_wait_ms = 10;
    sdk.config.max_reconnect_wait_ms = 40;
    sdk.up();
    server.finish();
    assert_eq!(sdk.run_until(&[0, 4], || false), -14);
    assert_eq!(sdk.run(10), -14);
    assert_eq!(aws_iot_mqtt_attempt_reconnect(sdk.client()), 4);
    assert_eq!(sdk.run(10), -14);
}

unsafe extern "C" fn reconnects(client: *mut AwsIotClient, data: *mut c_void) {
    let code = aws_iot_mqtt_attempt_reconnect(client);
    Seen::of(data).note(code.to_string());
}

#[test]
fn the_disconnect_handler_may_reconnect_by_itself() {
    let server = Server::start(2, |number, peer| {
        peer.accept();
        peer.grant();
        if number == 1 {
            peer.tell("t", "again");
            peer.until_gone();
        }
    });
    let seen = Seen::default();
    let sdk = Sdk::new(server.port, server.certificates.dir());
    sdk.up();
    let set =
        unsafe { aws_iot_mqtt_set_disconnect_handler(sdk.client(), Some(reconnects), seen.data()) };
    assert_eq!(set, 0);
    assert_eq!(sdk.subscribe("t", note, seen.data()), 0);
    assert_eq!(sdk.run_until(&[0], || seen.len() == 2), 0);
    assert_eq!(seen.all(), ["3", "t=again"]);
    assert_eq!(aws_iot_mqtt_attempt_reconnect(sdk.client()), -15);
    drop(sdk);
    server.finish();
}

unsafe extern "C" fn disconnects(
    client: *mut AwsIotClient,
    _: *mut c_char,
    _: u16,
    _: *mut PublishParams,
    data: *mut c_void,
) {
    Seen::of(data).note(aws_iot_mqtt_disconnect(client).to_string());
}

#[test]
fn a_handler_may_disconnect_and_yield_says_so() {
    let server = Server::start(1, |_, peer| {
        peer.accept();
        peer.grant();
        peer.tell("t", "");
        peer.tell("t", "not read any more");
        assert_eq!(
            peer.until_gone(),
            Some(Packet::Disconnect(Disconnect::default()))
        );
    });
    let seen = Seen::default();
    let mut sdk = Sdk::new(server.port, server.certificates.dir());
    sdk.init.enable_auto_reconnect = 1;
    sdk.init.disconnect_handler = Some(lost);
    sdk.init.disconnect_handler_data = seen.data();
    sdk.up();
    assert_eq!(sdk.subscribe("t", disconnects, seen.data()), 0);
    assert_eq!(sdk.run_until(&[0], || false), 5);
    assert_eq!(sdk.run(10), 5);
    assert_eq!(seen.all(), ["0"], "the disconnect handler is not called");
    assert_eq!(aws_iot_mqtt_disconnect(sdk.client()), -13);
    assert_eq!(aws_iot_mqtt_get_client_state(sdk.client()), 12);
    server.finish();
}

#[test]
fn a_ping_goes_out_after_the_keep_alive_time_and_no_answer_is_a_loss() {
    let (pinged, pings) = channel();
    let server = Server::start(1, move |_, peer| {
        peer.accept();
        assert_eq!(peer.receive(), Some(Packet::PingReq));
        peer.send(&Packet::PingResp);
        assert_eq!(peer.receive(), Some(Packet::PingReq));
        pinged.send(()).unwrap();
        // No second answer.
        assert_eq!(peer.until_gone(), None);
    });
    let mut sdk = Sdk::new(server.port, server.certificates.dir());
    sdk.connect.keep_alive = 1;
    sdk.up();
    let start = Instant::now();
    assert_eq!(sdk.run_until(&[0], || false), -13);
    let elapsed = start.elapsed();
    assert!(elapsed >= Duration::from_millis(2900), "{elapsed:?}");
    assert!(pings.try_recv().is_ok());
    server.finish();
}

#[test]
fn an_answer_to_the_ping_that_lies_unread_is_no_loss() {
    let (pinged, is_pinged) = channel();
    let (leave, has_left) = channel();
    let (answered, is_answered) = channel();
    let server = Server::start(1, move |_, peer| {
        peer.accept();
        peer.grant();
        assert_eq!(peer.receive(), Some(Packet::PingReq));
        pinged.send(()).unwrap();
        has_left.recv_timeout(server::PATIENCE).unwrap();
        // More than one look at the socket finds at once.
        peer.tell("t", &"x".repeat(40_000));
        peer.send(&Packet::PingResp);
        answered.send(()).unwrap();
        assert_eq!(peer.receive(), Some(Packet::PingReq), "the next ping");
        peer.send(&Packet::PingResp);
        peer.tell("t", "alive");
        peer.until_gone();
    });
    let seen = Seen::default();
    let mut sdk = Sdk::new(server.port, server.certificates.dir());
    sdk.init.disconnect_handler = Some(lost);
    sdk.init.disconnect_handler_data = seen.data();
    sdk.config.rx_buf_len = 100_000;
    sdk.connect.keep_alive = 1;
    sdk.up();
    assert_eq!(sdk.subscribe("t", note, seen.data()), 0);
    assert_eq!(sdk.run_until(&[0], || is_pinged.try_recv().is_ok()), 0);
    leave.send(()).unwrap();
    is_answered.recv_timeout(server::PATIENCE).unwrap();
    // The program is busy until the next ping is due.
    std::thread::sleep(Duration::from_millis(1100));
    assert_eq!(sdk.run_until(&[0], || seen.len() == 2), 0);
    assert_eq!(seen.all()[1], "t=alive");
    drop(sdk);
    server.finish();
}

#[test]
fn a_missing_answer_is_seen_by_the_shortest_yields_too() {
    let server = Server::start(1, |_, peer| {
        peer.accept();
        while peer.receive().is_some() {}
    });
    let mut sdk = Sdk::new(server.port, server.certificates.dir());
    sdk.connect.keep_alive = 1;
    sdk.up();
    let start = Instant::now();
    while sdk.run(1) == 0 {
        assert!(start.elapsed() < server::PATIENCE, "waited too long");
    }
    assert_eq!(sdk.run(1), -13);
    server.finish();
}

/// Calls until `false` comes or for so long that a test has failed, with a moment between.
fn drip(mut next: impl FnMut() -> bool) {
    let start = Instant::now();
    while start.elapsed() < server::PATIENCE && next() {
        std::thread::sleep(Duration::from_micros(400));
    }
}

/// Long after the time-outs of these tests, long before a dripping server ends.
const TOO_LATE: Duration = Duration::from_secs(2);

#[test]
fn a_server_that_drips_bytes_does_not_prolong_the_handshake() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let dripping = std::thread::spawn(move || {
        let (mut socket, _) = listener.accept().unwrap();
        socket.set_nodelay(true).unwrap();
        // A ServerHello of 60,000 bytes in records of 16,384.
        let start = [2, 0, 0xea, 0x60].into_iter();
        let hello = start.chain(std::iter::repeat_n(0, 60_000));
        let record = [22, 3, 3, 0x40, 0].into_iter();
        let mut bytes = record.chain(hello.take(16_384)).cycle();
        drip(|| bytes.next().is_some_and(|b| socket.write_all(&[b]).is_ok()));
    });
    let certificates = Certificates::new();
    let mut sdk = Sdk::new(port, certificates.dir());
    sdk.init.tls_handshake_timeout_ms = 200;
    assert_eq!(sdk.init(), 0);
    let start = Instant::now();
    assert_eq!(sdk.connect(), -4);
    assert!(start.elapsed() < TOO_LATE, "{:?}", start.elapsed());
    drop(sdk);
    dripping.join().unwrap();
}

#[test]
fn a_server_that_drips_bytes_does_not_prolong_a_call() {
    let (done, is_done) = channel();
    let server = Server::start(1, move |_, peer| {
        peer.accept();
        // PUBLISH of 200,000 bytes.
        peer.send_raw(&[0x30, 0xc0, 0x9a, 0x0c, 0, 1, b't']);
        drip(|| {
            peer.send_raw(b"x");
            is_done.try_recv().is_err()
        });
    });
    let mut sdk = Sdk::new(server.port, server.certificates.dir());
    sdk.init.command_timeout_ms = 200;
    sdk.config.rx_buf_len = 300_000;
    sdk.up();
    let start = Instant::now();
    assert_eq!(sdk.run(200), 0);
    assert_eq!(sdk.publish("t", b"", 1), -28);
    assert!(start.elapsed() < TOO_LATE, "{:?}", start.elapsed());
    done.send(()).unwrap();
    server.finish();
}

#[test]
fn bytes_that_are_no_mqtt_end_the_connection() {
    let server = Server::start(1, |_, peer| {
        peer.accept();
        peer.send_raw(&[0xf0, 0]);
        assert_eq!(peer.until_gone(), None);
    });
    let sdk = Sdk::new(server.port, server.certificates.dir());
    sdk.up();
    assert_eq!(sdk.run_until(&[0], || false), -31);
    assert_eq!(sdk.run(10), -13);
    server.finish();
}

#[test]
fn a_client_initialised_again_at_the_same_address_drops_its_connection() {
    let server = Server::start(2, |number, peer| {
        peer.accept();
        if number == 0 {
            assert_eq!(peer.until_gone(), None);
        }
    });
    let sdk = Sdk::new(server.port, server.certificates.dir());
    sdk.up();
    assert_eq!(sdk.init(), 0);
    assert_eq!(aws_iot_mqtt_get_client_state(sdk.client()), 1);
    assert_eq!(sdk.connect(), 0);
    drop(sdk);
    server.finish();
}

#[test]
fn one_operation_at_a_time_and_another_thread_may_disconnect() {
    let (ready, is_ready) = channel();
    let server = Server::start(1, move |_, peer| {
        peer.accept();
        // Not acknowledged: the publish waits.
        peer.publish();
        ready.send(()).unwrap();
        assert_eq!(
            peer.until_gone(),
            Some(Packet::Disconnect(Disconnect::default()))
        );
    });
    let sdk = Sdk::new(server.port, server.certificates.dir());
    sdk.up();
    let address = sdk.client().addr();
    let waiting = std::thread::spawn(move || {
        let client: *mut AwsIotClient = std::ptr::with_exposed_provenance_mut(address);
        sdk::publish(client, "t", b"", 1)
    });
    is_ready.recv_timeout(server::PATIENCE).unwrap();
    let busy: [c_int; 2] = [sdk.publish("t", b"", 0), sdk.run(10)];
    assert_eq!(busy, [-30, -30]);
    assert_eq!(aws_iot_mqtt_get_client_state(sdk.client()), 5);
    assert_eq!(aws_iot_mqtt_disconnect(sdk.client()), 0);
    assert_eq!(waiting.join().unwrap(), -13);
    server.finish();
}
