//! The bridge against rumqttd in this process: an upstream that every machine can build.
#![allow(clippy::unwrap_used)]

mod common;

use std::collections::HashMap;

use common::mosquitto::Watcher;
use common::{Setup, config, route, until};
use iotedge_bridge::Direction;
use iotedge_model::QoS;
use iotedge_ports::LinkState;
use rumqttd::{Broker, Config, ConnectionSettings, RouterConfig, ServerSettings};

/// Starts rumqttd on a free port. It can not be stopped: it ends with the test's process.
async fn rumqttd() -> u16 {
    let port = {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        free.local_addr().unwrap().port()
    };
    let server = ServerSettings {
        name: "v4".to_owned(),
        listen: format!("127.0.0.1:{port}").parse().unwrap(),
        tls: None,
        next_connection_delay_ms: 1,
        connections: ConnectionSettings {
            connection_timeout_ms: 60_000,
            max_payload_size: 20_480,
            max_inflight_count: 100,
            auth: None,
            external_auth: None,
            dynamic_filters: true,
        },
    };
    let config = Config {
        router: RouterConfig {
            max_connections: 100,
            max_outgoing_packet_count: 200,
            max_segment_size: 10_485_760,
            max_segment_count: 10,
            ..RouterConfig::default()
        },
        v4: Some(HashMap::from([("1".to_owned(), server)])),
        ..Config::default()
    };
    std::thread::spawn(move || Broker::new(config).start().unwrap());
    until("rumqttd listens", || {
        std::net::TcpStream::connect(("127.0.0.1", port)).is_ok()
    })
    .await;
    port
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_go_both_ways_in_order_over_a_paused_link() {
    use iotedge_ports::UpstreamPort as _;
    let port = rumqttd().await;
    let watcher = Watcher::start(port, "watcher", "up/#").await;
    let mut config = config(&format!("mqtt://127.0.0.1:{port}"));
    let mut out = route(Direction::Out, "t/#");
    out.remote_prefix = "up/".into();
    config.routes.push(out);
    config.routes.push(route(Direction::In, "down/#"));
    let setup = Setup::start(config);
    let mailbox = setup.mailbox();
    for n in 0..1000 {
        mailbox.push("t/x", format!("{n}"), QoS::AtLeastOnce);
        if n == 500 {
            until("some acknowledged", || mailbox.acknowledged().len() > 100).await;
            setup.bridge.pause("cloud", "a test").unwrap();
            setup.state(LinkState::Paused).await;
            setup.bridge.resume("cloud").unwrap();
        }
    }
    until("all acknowledged", || mailbox.waiting() == 0).await;
    let expected: Vec<_> = (0..1000).map(|n| n.to_string()).collect();
    let first = || {
        let mut seen = watcher.payloads();
        let mut known = std::collections::HashSet::new();
        seen.retain(|p| known.insert(p.clone()));
        seen
    };
    until("all at the watcher", || first().len() == 1000).await;
    assert_eq!(first(), expected);

    for n in 0..50 {
        let (topic, qos) = ("down/x", rumqttc::QoS::AtLeastOnce);
        watcher
            .client
            .publish(topic, qos, false, format!("{n}"))
            .await
            .unwrap();
    }
    until("all here", || setup.broker.payloads().len() == 50).await;
    let expected: Vec<_> = (0..50).map(|n| n.to_string()).collect();
    assert_eq!(setup.broker.payloads(), expected);
}
