//! MQTT over WebSocket, frame by frame.
#![allow(clippy::unwrap_used, clippy::expect_used)] // a test may panic

mod support;

use std::time::Duration;

use bytes::BytesMut;
use iotedge_gateway::Limits;
use iotedge_model::QoS;
use iotedge_mqtt::{Disconnect, Packet, ReasonCode};
use support::ws::{BINARY, CLOSE, CONTINUATION, FIN, PING, PONG, TEXT, WsClient};
use support::{Client, House, connect, publish};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

async fn connected(house: &House, id: &str) -> WsClient {
    let mut client = WsClient::dial(house.websocket()).await;
    client.send(&Packet::Connect(connect(id))).await;
    let Packet::ConnAck(ack) = client.receive().await else {
        panic!("no CONNACK")
    };
    assert_eq!(ack.reason, ReasonCode::Success);
    client
}

fn bytes_of(packets: &[Packet]) -> Vec<u8> {
    let mut out = BytesMut::new();
    for packet in packets {
        iotedge_mqtt::encode(packet, &mut out).unwrap();
    }
    out.to_vec()
}

/// The answer to raw bytes, to the end of the connection.
async fn answer(house: &House, request: &str) -> String {
    let mut socket = TcpStream::connect(house.websocket()).await.unwrap();
    socket.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_of_every_size_come_and_go() {
    let house = House::open(Limits::default()).await;
    let mut client = connected(&house, "c").await;
    let mut other = house.client("other").await;
    other.subscribe(&[("up", QoS::AtMostOnce)]).await;
    let subscribe = bytes_of(&[support::subscribe("down", QoS::AtMostOnce)]);
    client.send_frame(FIN | BINARY, &subscribe).await;
    assert!(matches!(client.receive().await, Packet::SubAck(_)));
    for size in [0, 1, 100, 125, 126, 1_000, 65_530, 65_536, 500_000] {
        let payload = "x".repeat(size);
        client.send(&publish("up", &payload, None)).await;
        let Packet::Publish(got) = other.receive().await else {
            panic!("no PUBLISH")
        };
        assert!(got.payload == payload, "up, {size} bytes");
        other.send(&publish("down", &payload, None)).await;
        let Packet::Publish(got) = client.receive().await else {
            panic!("no PUBLISH")
        };
        assert!(got.payload == payload, "down, {size} bytes");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn frames_may_come_with_the_handshake() {
    let house = House::open(Limits::default()).await;
    let mut socket = TcpStream::connect(house.websocket()).await.unwrap();
    let mut request =
        b"GET /mqtt HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
        Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
        Sec-WebSocket-Protocol: mqtt\r\n\r\n"
            .to_vec();
    let packets = bytes_of(&[Packet::Connect(connect("early")), Packet::PingReq]);
    request.extend(WsClient::frame(FIN | BINARY, &packets));
    socket.write_all(&request).await.unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(&[0xd0, 0]) {
        answer.push(socket.read_u8().await.unwrap());
    }
    assert!(answer.starts_with(b"HTTP/1.1 101 "));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_ping_is_answered_before_connect_and_within_a_message() {
    let house = House::open(Limits::default()).await;
    let mut client = WsClient::dial(house.websocket()).await;
    client.send_frame(FIN | PING, b"early").await;
    assert_eq!(
        client.next_frame().await,
        Some((FIN | PONG, b"early".to_vec()))
    );
    let packet = bytes_of(&[Packet::Connect(connect("c"))]);
    client.send_frame(BINARY, &packet[..5]).await;
    client.send_frame(FIN | PING, b"between").await;
    assert_eq!(
        client.next_frame().await,
        Some((FIN | PONG, b"between".to_vec()))
    );
    client.send_frame(FIN | PONG, b"unasked").await;
    client.send_frame(FIN | CONTINUATION, &packet[5..]).await;
    assert!(matches!(client.receive().await, Packet::ConnAck(_)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pings_do_not_keep_a_silent_client() {
    let house = House::open(Limits::default()).await;
    let mut client = WsClient::dial(house.websocket()).await;
    let mut connect = connect("c");
    connect.keep_alive = 1;
    client.send(&Packet::Connect(connect)).await;
    client.receive().await;
    let (mut reader, mut writer) = client.socket.into_split();
    let pinging = tokio::spawn(async move {
        let ping = WsClient::frame(FIN | PING, b"");
        while writer.write_all(&ping).await.is_ok() {
            // Many in one keep-alive.
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    });
    let mut said = Vec::new();
    let ended = tokio::time::timeout(support::PATIENCE, reader.read_to_end(&mut said)).await;
    assert!(ended.is_ok(), "the keep-alive is MQTT's");
    pinging.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_wrong_frame_closes_with_its_code() {
    let house = House::open(Limits::default()).await;
    let ping = bytes_of(&[Packet::PingReq]);
    for (frame, code) in [
        (WsClient::frame(FIN | TEXT, &ping), 1003),
        (WsClient::frame(FIN | CONTINUATION, &ping), 1002),
        (WsClient::frame(FIN | 0x40 | BINARY, &ping), 1002),
        (WsClient::frame(PING, b""), 1002),
        (vec![FIN | BINARY, 2, ping[0], ping[1]], 1002),
        (
            [
                &[FIN | BINARY, 0xff],
                &(1_u64 << 62).to_be_bytes()[..],
                &[0; 4],
            ]
            .concat(),
            1009,
        ),
        (WsClient::frame(FIN | CLOSE, &3001_u16.to_be_bytes()), 3001),
        (WsClient::frame(FIN | CLOSE, b""), 1000),
    ] {
        let mut client = connected(&house, "c").await;
        client.socket.write_all(&frame).await.unwrap();
        assert_eq!(client.closed().await, code, "{frame:x?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_said_before_a_wrong_frame_counts() {
    let house = House::open(Limits::default()).await;
    let mut watcher = house.client("w").await;
    watcher.subscribe(&[("a", QoS::AtMostOnce)]).await;
    let mut client = connected(&house, "c").await;
    let mut bytes = WsClient::frame(FIN | BINARY, &bytes_of(&[publish("a", "kept", None)]));
    bytes.extend(WsClient::frame(FIN | TEXT, b"x"));
    client.socket.write_all(&bytes).await.unwrap();
    assert_eq!(client.closed().await, 1003);
    assert!(matches!(watcher.receive().await, Packet::Publish(_)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_end_of_mqtt_is_the_end_of_the_websocket() {
    let house = House::open(Limits::default()).await;
    let mut client = connected(&house, "c").await;
    client
        .send(&Packet::Disconnect(Disconnect::default()))
        .await;
    assert_eq!(client.closed().await, 1000);
    // A protocol error, and a refused CONNECT.
    let mut client = connected(&house, "c").await;
    client.send(&Packet::Connect(connect("c"))).await;
    assert_eq!(client.closed().await, 1000);
    let mut client = WsClient::dial(house.websocket()).await;
    client.send(&Packet::Connect(connect("stranger"))).await;
    assert!(matches!(client.receive().await, Packet::ConnAck(_)));
    assert_eq!(client.closed().await, 1000);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_does_not_say_goodbye_is_not_waited_for_long() {
    let house = House::open(Limits::default()).await;
    let mut client = connected(&house, "c").await;
    client
        .send(&Packet::Disconnect(Disconnect::default()))
        .await;
    assert!(matches!(client.next_frame().await, Some((0x88, _))));
    // It answers nothing; the connection ends all the same.
    assert_eq!(client.next_frame().await, None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_handshake_that_does_not_come_is_closed_in_time() {
    let house = House::open(Limits {
        connect_timeout: Duration::from_millis(200),
        ..Limits::default()
    })
    .await;
    for address in [house.websocket(), house.shared()] {
        let mut mute = TcpStream::connect(address).await.unwrap();
        let mut said = Vec::new();
        let ended = tokio::time::timeout(support::PATIENCE, mute.read_to_end(&mut said)).await;
        assert_eq!((ended.unwrap().unwrap(), said.len()), (0, 0));
    }
    let mut client = WsClient::dial(house.websocket()).await;
    assert_eq!(client.closed().await, 1000, "no CONNECT in time");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn other_requests_are_told_where_mqtt_is() {
    let house = House::open(Limits::default()).await;
    for (request, status, words) in [
        (
            "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
            404,
            "/mqtt",
        ),
        (
            "GET /mqtt HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
            426,
            "Upgrade",
        ),
        (
            "GET /mqtt HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: close, Upgrade\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
            400,
            "subprotocol",
        ),
        (
            "POST /topics/a HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 0\r\n\r\n",
            404,
            "/mqtt",
        ),
    ] {
        let answer = answer(&house, request).await;
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status} ")),
            "{answer}"
        );
        assert!(
            answer.contains(words) && answer.contains("traceId"),
            "{answer}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_port_speaks_all_protocols() {
    let house = House::open(Limits::default()).await;
    let mut watcher = house.client("w").await;
    watcher.subscribe(&[("a/+", QoS::AtMostOnce)]).await;

    let mut mqtt = Client::dial(house.shared()).await;
    mqtt.send(&Packet::Connect(connect("mqtt"))).await;
    mqtt.receive().await;
    mqtt.send(&publish("a/mqtt", "x", None)).await;
    let mut ws = WsClient::dial(house.shared()).await;
    ws.send(&Packet::Connect(connect("ws"))).await;
    ws.receive().await;
    ws.send(&publish("a/ws", "x", None)).await;
    let mut http = TcpStream::connect(house.shared()).await.unwrap();
    // On one connection: a publish, then the WebSocket.
    http.write_all(b"POST /topics/a/http HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\nx")
        .await
        .unwrap();
    let mut topics = Vec::new();
    for _ in 0..3 {
        let Packet::Publish(got) = watcher.receive().await else {
            panic!("no PUBLISH")
        };
        topics.push(got.topic.as_str().to_owned());
    }
    topics.sort();
    assert_eq!(topics, ["a/http", "a/mqtt", "a/ws"]);

    let mut nothing = TcpStream::connect(house.shared()).await.unwrap();
    nothing.write_all(b"\x16\x03\x01").await.unwrap();
    let mut said = Vec::new();
    // Bytes that nobody understands end it, with a reset as they are not read.
    let _ = nothing.read_to_end(&mut said).await;
    assert_eq!(said, b"");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_closes_websockets_too() {
    let house = House::open(Limits::default()).await;
    let mut idle = WsClient::dial(house.websocket()).await;
    let mut client = connected(&house, "c").await;
    house.broker.stop();
    let stopping = tokio::spawn(house.running.stop(support::PATIENCE));
    assert_eq!(client.closed().await, 1000);
    assert_eq!(idle.next_frame().await, None);
    stopping.await.unwrap();
}
