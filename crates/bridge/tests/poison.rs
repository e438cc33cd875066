//! Messages that one side can not take.
#![allow(clippy::unwrap_used)]

mod common;

use std::sync::{Arc, Mutex};

use common::upstream::Upstream;
use common::{Setup, config, route, until};
use iotedge_bridge::uplink::scripted::{Packet as Sent, Peer, ScriptedUpstream};
use iotedge_bridge::uplink::{Accepted, Ended, Event, Layer};
use iotedge_bridge::{Direction, Version};
use iotedge_model::{DropReason, QoS};
use rumqttc::mqttbytes::v4::Packet;

#[tokio::test]
async fn an_inbound_message_above_the_limit_is_dropped_and_acknowledged() {
    let upstream = Upstream::start().await;
    let mut config = config(&upstream.url);
    config.max_packet_bytes = 1000;
    config.routes.push(route(Direction::In, "#"));
    let setup = Setup::start(config);
    let mut link = upstream.accept_ok().await;
    link.subscribed(true).await;
    let large = "x".repeat(5000);
    link.deliver("a", &large, rumqttc::QoS::AtLeastOnce, 1)
        .await;
    link.deliver("a", "fits", rumqttc::QoS::AtLeastOnce, 2)
        .await;
    for id in 1..=2 {
        assert_eq!(
            link.next().await,
            Some(Packet::PubAck(rumqttc::PubAck::new(id)))
        );
    }
    assert_eq!(setup.broker.payloads(), ["fits"]);
    let books = &setup.status().routes[0];
    assert_eq!(books.dropped.get("too-large"), Some(&1));
    assert_eq!((books.accepted, books.delivered), (2, 1));
}

/// What the upstream saw.
#[derive(Default)]
struct Seen {
    connections: usize,
    /// Acknowledged.
    taken: Vec<String>,
    /// Connections lost over this payload, each with whether a ping was answered before and
    /// whether anything else was published on it.
    lost: Vec<(String, bool, bool)>,
}

type Shared = Arc<Mutex<Seen>>;
/// How a connection ends at a PUBLISH: by its payload, the bytes so far with it, and how many
/// connections there were.
type Ends = fn(&str, usize, usize) -> Option<Ended>;

fn closed() -> Option<Ended> {
    Some(Ended::lost(Layer::Mqtt, "closed by the other side"))
}

async fn serve(mut peer: Peer, seen: &Shared, ends: Ends) {
    let (mut bytes, mut pinged, mut others) = (0, false, false);
    while let Some(packet) = peer.next().await {
        match packet {
            Sent::Ping => {
                pinged = true;
                peer.send(Event::Pong);
            }
            Sent::Subscribe(filters) => peer.send(Event::Subscribed(vec![1; filters.len()])),
            Sent::Publish(id, publish) => {
                let payload = String::from_utf8(publish.payload.to_vec()).unwrap();
                let payload = payload.trim_end_matches('.').to_owned();
                bytes += publish.payload.len();
                let mut seen = seen.lock().unwrap();
                if let Some(ended) = ends(&payload, bytes, seen.connections) {
                    seen.lost.push((payload, pinged, others));
                    return peer.end(ended);
                }
                peer.ack(id, 0);
                seen.taken.push(payload);
                others = true;
            }
            Sent::Disconnect | Sent::Ack(..) => {}
            other => panic!("{other:?}"),
        }
    }
}

fn upstream(mut upstream: ScriptedUpstream, ends: Ends) -> Shared {
    let seen = Shared::default();
    let shared = seen.clone();
    tokio::spawn(async move {
        while let Some(peer) = upstream.accept(Accepted::unlimited(30)).await {
            shared.lock().unwrap().connections += 1;
            serve(peer, &shared, ends).await;
        }
    });
    seen
}

fn start(version: Version) -> (Setup, ScriptedUpstream) {
    let mut config = config("mqtt://nowhere");
    config.version = version;
    config.routes.push(route(Direction::Out, "#"));
    // A connection that is lost before SUBACK says nothing of a message.
    config.routes.push(route(Direction::In, "down/#"));
    Setup::scripted(config)
}

#[tokio::test(start_paused = true)]
async fn what_an_upstream_closes_on_is_a_dead_letter_and_holds_up_nobody() {
    for version in [Version::V3, Version::V5] {
        let (setup, far) = start(version);
        let mailbox = setup.mailbox();
        let poison = mailbox.push("t/bad", "poison", QoS::AtLeastOnce);
        for n in 0..4 {
            mailbox.push("t/good", format!("{n}"), QoS::AtLeastOnce);
        }
        mailbox.push("t/bad", "behind", QoS::AtLeastOnce);
        let seen = upstream(far, |payload, _, _| match payload {
            "poison" => closed(),
            _ => None,
        });
        let more = async {
            for n in 4..4000 {
                mailbox.push("t/good", format!("{n:.<100}"), QoS::AtLeastOnce);
                tokio::time::sleep(std::time::Duration::from_millis(50)).await;
                if !mailbox.discarded().is_empty() {
                    return;
                }
            }
        };
        more.await;
        until("all done", || mailbox.waiting() == 0).await;
        assert_eq!(mailbox.discarded(), [(poison, DropReason::UpstreamRefused)]);
        let seen = seen.lock().unwrap();
        let (behind, good): (Vec<_>, _) = (seen.taken.iter()).partition(|p| *p == "behind");
        assert_eq!(behind.len(), 1);
        let numbers: Vec<usize> = good.iter().map(|p| p.parse().unwrap()).collect();
        let mut once = numbers.clone();
        once.dedup();
        assert_eq!(once, (0..once.len()).collect::<Vec<_>>(), "in order");
        // Three times among others, then alone behind a round trip.
        let lost: Vec<_> = seen
            .lost
            .iter()
            .map(|(_, ping, used)| (*ping, *used))
            .collect();
        assert_eq!(lost[..3], [(false, false); 3], "{lost:?}");
        assert!(lost[3..].len() >= 4, "{lost:?}");
        assert!(lost[3..].iter().all(|l| *l == (true, false)), "{lost:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_a_server_names_when_it_closes_needs_nobody_behind_it() {
    let (setup, far) = start(Version::V5);
    let mailbox = setup.mailbox();
    let large = mailbox.push("t/x", "too large", QoS::AtLeastOnce);
    let seen = upstream(far, |_, _, _| Some(Ended::disconnect(0x95, None)));
    until("it is given up", || mailbox.waiting() == 0).await;
    assert_eq!(mailbox.discarded(), [(large, DropReason::UpstreamRefused)]);
    assert_eq!(seen.lock().unwrap().lost.len(), 5);
}

#[tokio::test(start_paused = true)]
async fn a_link_that_is_cut_five_times_at_one_message_loses_nothing_and_keeps_the_order() {
    for version in [Version::V3, Version::V5] {
        let (setup, far) = start(version);
        let mailbox = setup.mailbox();
        for n in 0..30 {
            mailbox.push("t/x", format!("{n}"), QoS::AtLeastOnce);
        }
        let seen = upstream(far, |payload, _, connections| match payload {
            "0" if connections <= 5 => closed(),
            _ => None,
        });
        until("all there", || mailbox.waiting() == 0).await;
        assert!(mailbox.discarded().is_empty());
        let expected: Vec<_> = (0..30).map(|n| n.to_string()).collect();
        assert_eq!(seen.lock().unwrap().taken, expected);
    }
}

#[tokio::test(start_paused = true)]
async fn a_network_that_cuts_after_so_many_bytes_makes_no_dead_letters() {
    let (setup, far) = start(Version::V3);
    let mailbox = setup.mailbox();
    mailbox.push("t/large", format!("{:.<1000}", "large"), QoS::AtLeastOnce);
    for n in 0..200 {
        mailbox.push(
            &format!("t/{}", n % 7),
            format!("{n:.<50}"),
            QoS::AtLeastOnce,
        );
    }
    let seen = upstream(far, |_, bytes, connections| match bytes {
        600.. if connections < 100 => closed(),
        _ => None,
    });
    until("all there", || mailbox.waiting() == 0).await;
    assert!(mailbox.discarded().is_empty());
    let seen = seen.lock().unwrap();
    assert!(seen.connections >= 100);
    assert_eq!(seen.taken.iter().filter(|p| *p == "large").count(), 1);
}

#[tokio::test(start_paused = true)]
async fn the_last_message_of_all_is_tried_on_and_goes_when_it_can() {
    let (setup, far) = start(Version::V3);
    let mailbox = setup.mailbox();
    mailbox.push("t/x", "alone", QoS::AtLeastOnce);
    // With nobody to compare it with it is kept.
    let seen = upstream(far, |_, _, connections| match connections {
        ..=50 => closed(),
        _ => None,
    });
    until("it is there", || mailbox.waiting() == 0).await;
    assert!(mailbox.discarded().is_empty());
    assert_eq!(seen.lock().unwrap().taken, ["alone"]);
}
