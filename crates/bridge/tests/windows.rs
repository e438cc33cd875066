//! Windows and budgets on a link that is never silent.
#![allow(clippy::unwrap_used)]

mod common;

use std::time::Duration;

use common::{Setup, config, route};
use iotedge_bridge::uplink::scripted::{Packet, Peer};
use iotedge_bridge::uplink::{Accepted, Event};
use iotedge_bridge::{Config, Direction};
use iotedge_model::QoS;
use iotedge_ports::LinkState;
use jiff::Zoned;

const SECOND: Duration = Duration::from_secs(1);
const DAY: u64 = 24 * 3600 * 1000;

/// Milliseconds since midnight here.
fn of_day(setup: &Setup) -> u64 {
    let wall = i64::try_from(setup.wall()).unwrap();
    let at = jiff::Timestamp::from_millisecond(wall).unwrap();
    let at: Zoned = at.to_zoned(jiff::tz::TimeZone::system());
    let seconds =
        i64::from(at.hour()) * 3600 + i64::from(at.minute()) * 60 + i64::from(at.second());
    u64::try_from(seconds * 1000 + i64::from(at.millisecond())).unwrap()
}

/// Sets the clock to this time of the next day or this one, before anything has begun.
fn set(setup: &Setup, to: u64) {
    setup
        .clock
        .advance(Duration::from_millis((to + DAY - of_day(setup)) % DAY));
}

async fn second(setup: &Setup) {
    setup.clock.advance(SECOND);
    tokio::time::advance(SECOND).await;
}

/// The next packet that is no ping.
async fn next(peer: &mut Peer) -> Option<Packet> {
    loop {
        match peer.next().await {
            Some(Packet::Ping) => peer.send(Event::Pong),
            packet => return packet,
        }
    }
}

/// One message and its PUBACK; `false`: DISCONNECT came in its place.
async fn exchange(setup: &Setup, peer: &mut Peer, payload: usize) -> bool {
    setup
        .mailbox()
        .push("t/x", vec![b'x'; payload], QoS::AtLeastOnce);
    match next(peer).await {
        Some(Packet::Publish(id, _)) => {
            peer.ack(id, 0);
            true
        }
        Some(Packet::Disconnect) => false,
        other => panic!("{other:?}"),
    }
}

fn busy() -> Config {
    let mut config = config("mqtt://nowhere");
    config.routes.push(route(Direction::Out, "t/#"));
    config
}

#[tokio::test(start_paused = true)]
async fn a_busy_link_goes_down_when_its_window_ends() {
    let mut config = busy();
    config.windows = vec!["12:00-12:02".parse().unwrap()];
    let (setup, mut upstream) = Setup::scripted(config);
    set(&setup, (12 * 3600 + 30) * 1000);
    let mut peer = upstream.accept(Accepted::unlimited(30)).await.unwrap();
    let mut seconds = 0;
    while exchange(&setup, &mut peer, 1).await {
        second(&setup).await;
        seconds += 1;
        assert!(seconds < 120, "still up half a minute after the window");
    }
    assert!((80..=92).contains(&seconds), "{seconds} s of 90 s");
    setup.state(LinkState::Paused).await;
}

#[tokio::test(start_paused = true)]
async fn a_window_opens_and_closes_to_the_second_and_the_status_says_when() {
    let mut config = busy();
    config.windows = vec!["12:01-12:02".parse().unwrap()];
    let (setup, mut upstream) = Setup::scripted(config);
    set(&setup, (12 * 3600 + 17) * 1000);
    setup.state(LinkState::Paused).await;
    while of_day(&setup) < (12 * 3600 + 50) * 1000 {
        second(&setup).await;
    }
    let wait = setup.status().next_retry.unwrap().0 - setup.wall();
    assert!((4_000..11_000).contains(&wait), "opens in {wait} ms");
    while setup.status().state == LinkState::Paused {
        second(&setup).await;
        assert!(of_day(&setup) < (12 * 3600 + 63) * 1000, "opens late");
    }
    assert!(of_day(&setup) >= (12 * 3600 + 60) * 1000, "opens early");
    let mut peer = upstream.accept(Accepted::unlimited(30)).await.unwrap();
    // Silence closes it as punctually.
    while of_day(&setup) < (12 * 3600 + 110) * 1000 {
        second(&setup).await;
    }
    assert_ne!(setup.status().state, LinkState::Paused);
    for _ in 0..12 {
        second(&setup).await;
    }
    assert_eq!(next(&mut peer).await, Some(Packet::Disconnect));
    setup.state(LinkState::Paused).await;
    assert!(
        of_day(&setup) < (12 * 3600 + 130) * 1000,
        "{}",
        of_day(&setup)
    );
}

#[tokio::test(start_paused = true)]
async fn a_busy_link_begins_its_budget_anew_at_midnight_and_only_then() {
    let mut config = busy();
    config.daily_bytes = Some(100_000);
    let (setup, mut upstream) = Setup::scripted(config);
    set(&setup, DAY - 30_000);
    let mut peer = upstream.accept(Accepted::unlimited(30)).await.unwrap();
    for _ in 0..6 {
        assert!(exchange(&setup, &mut peer, 10_000).await);
        second(&setup).await;
    }
    for _ in 0..27 {
        assert!(exchange(&setup, &mut peer, 1).await);
        second(&setup).await;
    }
    assert!(of_day(&setup) < DAY / 2, "it is another day");
    let mut today = 0;
    while exchange(&setup, &mut peer, 10_000).await {
        today += 1;
        assert!(today < 30);
        second(&setup).await;
    }
    assert!(
        (9..=11).contains(&today),
        "{today} tenths of the new day's budget"
    );
    setup.state(LinkState::Paused).await;
    for _ in 0..60 {
        second(&setup).await;
    }
    assert_eq!(setup.status().state, LinkState::Paused);
}
