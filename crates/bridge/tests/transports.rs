//! The ways to an upstream: WebSocket, TLS, proxies; and how each one's failure is told.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::path::PathBuf;

use common::certificates::{certificates, certificates_from};
use common::front::Front;
use common::mosquitto::Mosquitto;
use common::proxy::Proxy;
use common::upstream::Upstream;
use common::{Setup, config, route, until};
use iotedge_bridge::{Config, Direction, Version};
use iotedge_model::QoS;
use iotedge_ports::LinkState;
use rcgen::ExtendedKeyUsagePurpose;

const TLS: &str = "certfile DIR/cert.pem\nkeyfile DIR/key.pem\n";

fn written(dir: &tempfile::TempDir, name: &str, text: &str) -> Option<PathBuf> {
    let path = dir.path().join(name);
    std::fs::write(&path, text).unwrap();
    Some(path)
}

/// Both ways, with packets larger than any buffer on the way.
async fn carries(config: Config) {
    for version in [Version::V3, Version::V5] {
        let mut config = config.clone();
        config.version = version;
        config.client_id = format!("gateway-{}", version.as_str());
        config.routes.push(route(Direction::Out, "up/#"));
        config.routes.push(route(Direction::In, "down/#"));
        let setup = Setup::start(config);
        let mailbox = setup.mailbox();
        mailbox.push("up/large", vec![b'x'; 150_000], QoS::AtLeastOnce);
        for n in 0..50 {
            mailbox.push("up/x", format!("{n}"), QoS::AtLeastOnce);
        }
        until("all acknowledged", || {
            let status = setup.status();
            assert_ne!(status.state, LinkState::BackingOff, "{}", status.reason);
            assert_ne!(status.state, LinkState::Misconfigured, "{}", status.reason);
            mailbox.waiting() == 0
        })
        .await;
        setup.bridge.stop().await;
    }
}

#[tokio::test]
async fn web_sockets_carry_messages() {
    let Some(mosquitto) = Mosquitto::open() else {
        return;
    };
    let front = Front::start(mosquitto.port, None).await;
    carries(config(&format!("ws://127.0.0.1:{}/mqtt", front.port))).await;
}

#[tokio::test]
async fn web_sockets_over_tls_carry_messages_both_ways() {
    let server = certificates("localhost", ExtendedKeyUsagePurpose::ServerAuth);
    let Some(mosquitto) = Mosquitto::open() else {
        return;
    };
    let front = Front::start(mosquitto.port, Some((&server.1, &server.2))).await;
    let dir = tempfile::tempdir().unwrap();
    let mut config = config(&format!("wss://localhost:{}", front.port));
    config.ca = written(&dir, "ca.pem", &server.0);
    carries(config.clone()).await;
    // What we send comes back to us under another session.
    let mut sender = config.clone();
    sender.client_id = "sender".into();
    sender.routes.push(route(Direction::Out, "down/#"));
    config.routes.push(route(Direction::In, "down/#"));
    let (receiver, sender) = (Setup::start(config), Setup::start(sender));
    receiver.state(LinkState::Connected).await;
    until("subscribed", || {
        sender.mailbox().push("down/x", "hello", QoS::AtLeastOnce);
        std::thread::sleep(std::time::Duration::from_millis(20));
        receiver.broker.payloads().contains(&"hello".to_owned())
    })
    .await;
}

#[tokio::test]
async fn no_web_socket_behind_a_port_is_told() {
    let Some(mosquitto) = Mosquitto::open() else {
        return;
    };
    let setup = Setup::start(config(&format!("ws://127.0.0.1:{}", mosquitto.port)));
    setup.state(LinkState::BackingOff).await;
}

#[tokio::test]
async fn proxies_are_passed_and_resolve_the_name() {
    let Some(mosquitto) = Mosquitto::open() else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let target = format!("localhost:{}", mosquitto.port);
    for scheme in ["http", "socks5"] {
        for login in [None, Some(("user", "secret"))] {
            let proxy = Proxy::start(login).await;
            let mut config = config(&format!("mqtt://{target}"));
            config.proxy = Some(iotedge_bridge::Proxy {
                url: format!("{scheme}://127.0.0.1:{}", proxy.port),
                username: login.map(|(user, _)| user.into()),
                password_file: login.and_then(|_| written(&dir, "secret", "secret\n")),
            });
            carries(config).await;
            let asked = proxy.asked.lock().unwrap();
            assert!(asked.iter().all(|t| *t == target), "{scheme}: {asked:?}");
            assert!(asked.len() >= 2, "{scheme}");
        }
    }
}

#[tokio::test]
async fn a_proxy_that_refuses_is_a_matter_of_configuration() {
    let proxy = Proxy::start(Some(("user", "secret"))).await;
    for scheme in ["http", "socks5"] {
        let mut config = config("mqtt://upstream.invalid");
        config.proxy = Some(iotedge_bridge::Proxy {
            url: format!("{scheme}://127.0.0.1:{}", proxy.port),
            username: None,
            password_file: None,
        });
        let setup = Setup::start(config);
        setup.state(LinkState::Misconfigured).await;
        let reason = setup.status().reason;
        assert!(reason.contains("proxy"), "{reason}");
    }
    assert!(proxy.asked.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_name_that_does_not_resolve_and_a_closed_port_are_outages() {
    let setup = Setup::start(config("mqtt://upstream.invalid"));
    setup.state(LinkState::BackingOff).await;
    let reason = setup.status().reason;
    assert!(reason.contains("upstream.invalid"), "{reason}");
    let closed = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap().port()
    };
    let setup = Setup::start(config(&format!("mqtt://127.0.0.1:{closed}")));
    setup.state(LinkState::BackingOff).await;
    let reason = setup.status().reason;
    assert!(reason.contains("refused"), "{reason}");
}

#[tokio::test]
async fn a_changed_password_file_serves_the_next_try() {
    let upstream = Upstream::start().await;
    let dir = tempfile::tempdir().unwrap();
    let mut config = config(&upstream.url);
    config.username = Some("me".into());
    config.password_file = written(&dir, "password", "old\n");
    let setup = Setup::start(config);
    let link = upstream.accept_ok().await;
    assert_eq!(link.connect.login.as_ref().unwrap().password, "old");
    written(&dir, "password", "new");
    drop(link);
    let link = upstream.accept_ok().await;
    assert_eq!(link.connect.login.as_ref().unwrap().password, "new");
    std::fs::remove_file(dir.path().join("password")).unwrap();
    drop(link);
    setup.state(LinkState::Misconfigured).await;
    let reason = setup.status().reason;
    assert!(reason.contains("password"), "{reason}");
}

#[tokio::test]
async fn a_clock_that_is_not_trusted_waits_for_a_better_one() {
    let server = certificates_from("localhost", ExtendedKeyUsagePurpose::ServerAuth, 2100);
    let lines = format!("allow_anonymous true\n{TLS}");
    let files = [("cert.pem", &*server.1), ("key.pem", &*server.2)];
    let Some(mosquitto) = Mosquitto::start(&lines, &files) else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let mut config = config(&format!("mqtts://localhost:{}", mosquitto.port));
    config.ca = written(&dir, "ca.pem", &server.0);
    config.backoff.base = std::time::Duration::from_secs(600);
    config.backoff.max = std::time::Duration::from_secs(600);
    let setup = Setup::untrusted(config);
    setup.state(LinkState::BackingOff).await;
    let reason = setup.status().reason;
    assert!(reason.contains("clock is not trusted"), "{reason}");
    // A hundred years on, and sure of it: no need to wait for the pause's end.
    let century = 100 * 366 * 24 * 3600;
    setup.clock.advance(std::time::Duration::from_secs(century));
    setup.clock.trust(true);
    setup.state(LinkState::Connected).await;
}

#[tokio::test]
async fn a_server_that_refuses_our_certificate_is_told_with_its_alert() {
    let server = certificates("localhost", ExtendedKeyUsagePurpose::ServerAuth);
    let client = certificates("gateway", ExtendedKeyUsagePurpose::ClientAuth);
    let stranger = certificates("stranger", ExtendedKeyUsagePurpose::ClientAuth);
    let lines =
        format!("allow_anonymous true\n{TLS}cafile DIR/clients.pem\nrequire_certificate true");
    let files = [
        ("clients.pem", &*client.0),
        ("cert.pem", &*server.1),
        ("key.pem", &*server.2),
    ];
    let Some(mosquitto) = Mosquitto::start(&lines, &files) else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let mut config = config(&format!("mqtts://localhost:{}", mosquitto.port));
    config.ca = written(&dir, "ca.pem", &server.0);
    config.certificate = written(&dir, "cert.pem", &stranger.1);
    config.key = written(&dir, "key.pem", &stranger.2);
    let setup = Setup::start(config);
    setup.state(LinkState::Misconfigured).await;
    let reason = setup.status().reason;
    assert!(reason.contains("refuses our certificate"), "{reason}");
    // A right one in its place serves the next try.
    written(&dir, "cert.pem", &client.1);
    written(&dir, "key.pem", &client.2);
    setup.state(LinkState::Connected).await;
}

#[tokio::test]
async fn a_day_ends_for_the_link_with_its_bytes() {
    let Some(mosquitto) = Mosquitto::open() else {
        return;
    };
    let mut config = config(&mosquitto.url());
    config.daily_bytes = Some(20_000);
    config.routes.push(route(Direction::Out, "up/#"));
    let setup = Setup::start(config);
    let mailbox = setup.mailbox();
    for n in 0..100 {
        mailbox.push("up/x", format!("{n:1000}"), QoS::AtLeastOnce);
    }
    setup.state(LinkState::Paused).await;
    let status = setup.status();
    assert!(status.reason.contains("20000 bytes"), "{}", status.reason);
    assert!(status.next_retry.is_some());
    let spent = status.bytes_sent + status.bytes_received;
    assert!((18_000..=22_000).contains(&spent), "{spent}");
    assert!((15..=20).contains(&mailbox.acknowledged().len()));
    assert_eq!(mailbox.waiting() + mailbox.acknowledged().len(), 100);
}

/// What an idle link costs a day with a keep-alive of 20 minutes: measured over pings, with TCP's
/// and IP's headers for each of their packets.
#[tokio::test]
async fn an_idle_link_costs_less_than_100_kb_a_day() {
    let server = certificates("localhost", ExtendedKeyUsagePurpose::ServerAuth);
    let lines = format!("allow_anonymous true\n{TLS}");
    let files = [("cert.pem", &*server.1), ("key.pem", &*server.2)];
    let Some(mosquitto) = Mosquitto::start(&lines, &files) else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let mut config = config(&format!("mqtts://localhost:{}", mosquitto.port));
    config.ca = written(&dir, "ca.pem", &server.0);
    config.keep_alive = 1;
    let setup = Setup::start(config);
    setup.state(LinkState::Connected).await;
    let traffic = || {
        let status = setup.status();
        status.bytes_sent + status.bytes_received
    };
    // The first ping: session tickets and the like came before it.
    let mut seen = traffic();
    until("a ping", || traffic() > seen + 40).await;
    seen = traffic();
    const PINGS: u64 = 4;
    let begun = std::time::Instant::now();
    tokio::time::sleep(std::time::Duration::from_millis(PINGS * 1000 + 100)).await;
    let pings = begun.elapsed().as_secs();
    let each = (traffic() - seen).div_ceil(pings) + 4 * 60;
    let day = each * (24 * 60 / 20);
    println!("a ping costs {each} bytes, an idle day {day}");
    assert!((100..100_000).contains(&day), "{day}");
}
