//! The bridge against real servers with their presets. Those that are not installed are skipped,
//! and say so.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use common::mosquitto::{Mosquitto, Watcher};
use common::{Setup, config, route, until};
use iotedge_bridge::uplink::scripted::Packet;
use iotedge_bridge::uplink::{Accepted, Ended, Event, Layer};
use iotedge_bridge::{Config, Direction, Kind, Proxy};
use iotedge_model::{QoS, Topic};
use iotedge_ports::LinkState;

/// Killed at the end.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

fn nats(dir: &Path) -> Option<(Server, u16)> {
    let executable = ["/usr/sbin/nats-server", "/usr/bin/nats-server"]
        .into_iter()
        .find(|path| Path::new(path).exists());
    let Some(executable) = executable else {
        eprintln!("SKIPPED: nats-server is not installed (apt install nats-server)");
        return None;
    };
    let (port, mqtt) = (free_port(), free_port());
    let text = format!(
        "server_name: t\nhost: 127.0.0.1\nport: {port}\njetstream {{ store_dir: \"{}\" }}\n\
         mqtt {{ host: 127.0.0.1, port: {mqtt} }}\n",
        dir.display()
    );
    let file = dir.join("nats.conf");
    std::fs::write(&file, text).unwrap();
    let child = Command::new(executable)
        .arg("-c")
        .arg(file)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let server = Server(child);
    let deadline = Instant::now() + Duration::from_secs(20);
    while TcpStream::connect(("127.0.0.1", mqtt)).is_err() {
        assert!(Instant::now() < deadline, "nats-server does not listen");
        std::thread::sleep(Duration::from_millis(20));
    }
    Some((server, mqtt))
}

/// Out and in, in order, through the server.
async fn goes_round(mut config: Config, port: u16) {
    let mut out = route(Direction::Out, "up/#");
    out.remote_prefix = "site/".into();
    config.routes.push(out);
    config.routes.push(route(Direction::In, "down/#"));
    assert_eq!(config.check(), Ok(()));
    let watcher = Watcher::start(port, "watcher", "site/#").await;
    let setup = Setup::start(config);
    setup.state(LinkState::Connected).await;
    let mailbox = setup.mailbox();
    for n in 0..200 {
        mailbox.push("up/x", format!("{n}"), QoS::AtLeastOnce);
    }
    until("all acknowledged", || mailbox.waiting() == 0).await;
    until("all there", || watcher.payloads().len() >= 200).await;
    let expected: Vec<_> = (0..200).map(|n| n.to_string()).collect();
    assert_eq!(watcher.payloads(), expected);
    let qos = rumqttc::QoS::AtLeastOnce;
    watcher
        .client
        .publish("down/x", qos, false, "back")
        .await
        .unwrap();
    until("the way back", || {
        setup.broker.payloads().contains(&"back".to_owned())
    })
    .await;
    let topic = Topic::new("site/test").unwrap();
    let steps = setup.bridge.test("cloud", Some(&topic)).await.unwrap();
    assert_eq!(steps.last().unwrap().layer, "policy");
    assert!(steps.iter().all(|step| step.ok), "{steps:?}");
    setup.state(LinkState::Connected).await;
    setup.bridge.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nats_with_its_preset() {
    let dir = tempfile::tempdir().unwrap();
    let Some((_server, port)) = nats(dir.path()) else {
        return;
    };
    let mut config = config(&format!("mqtt://127.0.0.1:{port}"));
    config.preset(Kind::Nats);
    goes_round(config, port).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mosquitto_with_its_preset() {
    let Some(mosquitto) = Mosquitto::open() else {
        return;
    };
    let mut config = config(&mosquitto.url());
    config.preset(Kind::Mosquitto);
    goes_round(config, mosquitto.port).await;
}

#[tokio::test]
async fn a_test_names_the_layer_that_fails() {
    let fails = async |config: Config| {
        let setup = Setup::start(config);
        let begun = Instant::now();
        let steps = setup.bridge.test("cloud", None).await.unwrap();
        assert!(begun.elapsed() < Duration::from_secs(20));
        let (last, before) = steps.split_last().unwrap();
        assert!(!last.ok && before.iter().all(|s| s.ok), "{steps:?}");
        assert_eq!(setup.bridge.test("nobody", None).await, None);
        setup.bridge.stop().await;
        last.layer
    };
    assert_eq!(fails(config("mqtt://upstream.invalid")).await, "DNS");
    let closed = format!("127.0.0.1:{}", free_port());
    assert_eq!(fails(config(&format!("mqtt://{closed}"))).await, "TCP");
    let mut unreadable = config(&format!("mqtt://{closed}"));
    unreadable.username = Some("gateway".into());
    unreadable.password_file = Some("/no/such/file".into());
    assert_eq!(fails(unreadable).await, "settings");
    let proxy = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mut behind = config(&format!("mqtt://{closed}"));
    behind.proxy = Some(Proxy {
        url: format!("http://{}", proxy.local_addr().unwrap()),
        username: None,
        password_file: None,
    });
    std::thread::spawn(move || {
        for stream in proxy.incoming() {
            let mut stream = stream.unwrap();
            let _ = stream.read(&mut [0; 1024]);
            let _ = stream.write_all(b"HTTP/1.1 403 Forbidden\r\n\r\n");
        }
    });
    assert_eq!(fails(behind).await, "proxy");
    let Some(mosquitto) = Mosquitto::start("allow_anonymous false", &[]) else {
        return;
    };
    let here = format!("localhost:{}", mosquitto.port);
    assert_eq!(fails(config(&format!("mqtts://{here}"))).await, "TLS");
    assert_eq!(fails(config(&format!("ws://{here}"))).await, "WebSocket");
    assert_eq!(fails(config(&format!("mqtt://{here}"))).await, "CONNACK");
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = silent.local_addr().unwrap().port();
    assert_eq!(
        fails(config(&format!("mqtt://127.0.0.1:{port}"))).await,
        "CONNACK"
    );
}

/// A 3.1.1 server ends the connection or says nothing, one of version 5 refuses with a reason, and one
/// that is asked for what it never takes is not asked at all.
#[tokio::test(start_paused = true)]
async fn a_test_that_publishes_names_what_a_policy_forbids() {
    enum Answer {
        Code(u8),
        End(Ended),
        Nothing,
    }
    let topic = Topic::new("site/x").unwrap();
    let v4 = || Ended::lost(Layer::Mqtt, "closed");
    for (answer, layer, ok, says) in [
        (Answer::Code(0), "policy", true, "acknowledged"),
        (Answer::Code(0x87), "policy", false, "not authorized"),
        (Answer::Code(0x99), "publish", false, "payload"),
        (Answer::End(v4()), "policy", false, "at PUBLISH to site/x"),
        (
            Answer::End(Ended::disconnect(0x87, None)),
            "policy",
            false,
            "not authorized",
        ),
        (Answer::Nothing, "publish", false, "no PUBACK"),
    ] {
        let (setup, mut upstream) = Setup::scripted(config("mqtt://nowhere"));
        let first = upstream.accept(Accepted::unlimited(30)).await.unwrap();
        let begun = tokio::time::Instant::now();
        let far = async {
            drop(first);
            let mut peer = upstream.accept(Accepted::unlimited(30)).await.unwrap();
            while let Some(packet) = peer.next().await {
                if let Packet::Publish(id, publish) = packet {
                    assert!(publish.topic == "site/x" && publish.payload.is_empty());
                    match &answer {
                        Answer::Code(code) => peer.ack(id, *code),
                        Answer::End(ended) => return peer.end(ended.clone()),
                        Answer::Nothing => {}
                    }
                }
            }
        };
        let (steps, ()) = tokio::join!(setup.bridge.test("cloud", Some(&topic)), far);
        assert!(begun.elapsed() < Duration::from_secs(20));
        let last = steps.unwrap().pop().unwrap();
        assert_eq!((last.layer, last.ok), (layer, ok), "{last:?}");
        assert!(last.text.contains(says), "{last:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_test_names_the_subscription_that_is_not_taken() {
    for (codes, layer) in [
        (Some(vec![1, 0x8f]), "subscribe"),
        (Some(vec![1, 0x80]), "policy"),
        (None, "subscribe"),
    ] {
        let mut config = config("mqtt://nowhere");
        config.routes.push(route(Direction::In, "down/#"));
        config.routes.push(route(Direction::In, "no/#"));
        let (setup, mut upstream) = Setup::scripted(config);
        let first = upstream.accept(Accepted::unlimited(30)).await.unwrap();
        let begun = tokio::time::Instant::now();
        let far = async {
            drop(first);
            let mut peer = upstream.accept(Accepted::unlimited(30)).await.unwrap();
            while let Some(packet) = peer.next().await {
                if let (Packet::Subscribe(_), Some(codes)) = (packet, &codes) {
                    peer.send(Event::Subscribed(codes.clone()));
                }
            }
        };
        let (steps, ()) = tokio::join!(setup.bridge.test("cloud", None), far);
        assert!(begun.elapsed() < Duration::from_secs(20));
        let last = steps.unwrap().pop().unwrap();
        assert_eq!((last.layer, last.ok), (layer, false), "{last:?}");
        assert!(codes.is_none() || last.text.contains("no/#"), "{last:?}");
    }
}
