//! Publishes, deliveries and bytes in a second.

use super::*;

#[tokio::test]
async fn publishes_beyond_the_rate_wait_and_at_aws_they_are_discarded() {
    let limits = Limits {
        max_publish_rate: Some(5),
        ..Limits::default()
    };
    let seven: Vec<Packet> = (1..=7).map(|n| publish("a", "x", Some(n))).collect();
    let house = house(limits.clone()).await;
    let mut five = client(&house, "five").await;
    let began = Instant::now();
    five.send_all(&seven).await;
    for n in 1..=7 {
        let Packet::PubAck(ack) = five.receive().await else {
            panic!("no PUBACK")
        };
        assert_eq!(ack.packet_id.get(), n);
        assert_eq!(ack.reason, ReasonCode::NoMatchingSubscribers);
        let took = began.elapsed();
        assert!(
            n <= 5 || took > Duration::from_millis(990),
            "{n} after {took:?}"
        );
    }
    let house = another(aws(limits)).await;
    let mut five = client(&house, "five").await;
    five.send_all(&seven).await;
    for n in 1..=7 {
        let Packet::PubAck(ack) = five.receive().await else {
            panic!("no PUBACK")
        };
        let over = ack.reason == ReasonCode::QuotaExceeded;
        assert_eq!((ack.packet_id.get(), over), (n, n > 5));
        assert_eq!(ack.properties.is_some(), over, "words");
    }
    let mut old = house.client("old").await;
    old.send_all(&seven).await;
    old.send(&Packet::PingReq).await;
    for n in 1..=5 {
        let Packet::PubAck(ack) = old.receive().await else {
            panic!("no PUBACK")
        };
        assert_eq!(ack.packet_id.get(), n);
    }
    assert_eq!(
        old.receive().await,
        Packet::PingResp,
        "nothing more, and it stays"
    );
}

#[tokio::test]
async fn deliveries_beyond_the_rate_wait_and_nothing_else_does() {
    let house = house(Limits {
        max_delivery_rate: Some(5),
        ..Limits::default()
    })
    .await;
    let mut slow = client(&house, "slow").await;
    suback(&mut slow, &[("a", ONE)]).await;
    let mut publisher = client(&house, "publisher").await;
    let began = Instant::now();
    for n in 1..=7 {
        let (code, _) = refused(&mut publisher, publish("a", "x", Some(n))).await;
        assert_eq!(code, ReasonCode::Success);
    }
    for _ in 1..=5 {
        message(&mut slow).await;
    }
    slow.send(&Packet::PingReq).await;
    assert_eq!(slow.receive().await, Packet::PingResp);
    for _ in 6..=7 {
        message(&mut slow).await;
    }
    assert!(began.elapsed() > Duration::from_millis(990));
}

#[tokio::test]
async fn bytes_beyond_the_rate_wait_in_both_directions() {
    let house = house(Limits {
        max_bytes_rate: Some(20_000),
        max_keep_alive: Some(1),
        ..Limits::default()
    })
    .await;
    // Its keep-alive waits while it is not read.
    let mut five = client(&house, "five").await;
    let began = Instant::now();
    let five_thousand = "x".repeat(5_000);
    let packets: Vec<Packet> = (1..=13)
        .map(|n| publish("a", &five_thousand, Some(n)))
        .collect();
    five.send_all(&packets).await;
    for n in 1..=13 {
        assert!(matches!(five.receive().await, Packet::PubAck(_)), "{n}");
    }
    let took = began.elapsed();
    assert!(took > Duration::from_millis(1_900), "65 kB in {took:?}");
    let house = another(Limits {
        max_bytes_rate: Some(20_000),
        ..Limits::default()
    })
    .await;
    let mut slow = client(&house, "slow").await;
    suback(&mut slow, &[("a", ZERO)]).await;
    let message = house.message("a", &five_thousand);
    let began = Instant::now();
    house.publish_all(vec![message; 13]);
    for _ in 1..=13 {
        support::v5::message(&mut slow).await;
    }
    let took = began.elapsed();
    assert!(took > Duration::from_millis(1_900), "65 kB in {took:?}");
    slow.send(&Packet::PingReq).await;
    assert_eq!(slow.receive().await, Packet::PingResp);
}
