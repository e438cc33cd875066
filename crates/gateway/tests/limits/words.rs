//! The words beside a reason code.

use super::*;

#[tokio::test]
async fn words_are_left_out_where_the_client_wants_none() {
    let house = house(Limits::default()).await;
    let (mut five, _) = open(
        &house,
        hello("five", |p| p.request_problem_information = false),
    )
    .await;
    let (code, words) = refused(&mut five, publish("forbidden", "x", Some(1))).await;
    assert_eq!((code, words.as_str()), (ReasonCode::NotAuthorized, ""));
    let (codes, words) = suback(&mut five, &[("forbidden", ONE), ("a/#/b", ONE)]).await;
    let no = SubAckCode::Refused;
    assert_eq!(
        codes,
        [
            no(ReasonCode::NotAuthorized),
            no(ReasonCode::TopicFilterInvalid)
        ]
    );
    assert_eq!(words, "");
    // DISCONNECT may have them all the same (3.1.2.11.7).
    let (code, words) = ended(&mut five, publish("forbidden", "x", None)).await;
    assert_eq!(code, ReasonCode::NotAuthorized);
    assert!(words.contains("iot:Publish is denied"), "{words}");
}

#[tokio::test]
async fn an_unknown_packet_id_is_told_in_words() {
    let house = house(Limits::default()).await;
    let id = NonZeroU16::MIN;
    for talkative in [true, false] {
        let hello = hello("five", |p| p.request_problem_information = talkative);
        let (mut five, _) = open(&house, hello).await;
        five.send(&Packet::PubRel(id.into())).await;
        let Packet::PubComp(done) = five.receive().await else {
            panic!("no PUBCOMP")
        };
        five.send(&Packet::PubRec(id.into())).await;
        let Packet::PubRel(release) = five.receive().await else {
            panic!("no PUBREL")
        };
        for ack in [done, release] {
            assert_eq!(ack.reason, ReasonCode::PacketIdentifierNotFound);
            let words = ack.properties.and_then(|p| p.reason_string);
            assert_eq!(words.is_some(), talkative);
        }
    }
}

#[tokio::test]
async fn words_of_many_filters_have_an_end_and_fit_into_what_the_client_takes() {
    let house = house(Limits::default()).await;
    let many: Vec<String> = (0..100).map(|n| format!("forbidden/{n}")).collect();
    let filters: Vec<(&str, QoS)> = many.iter().map(|f| (f.as_str(), ONE)).collect();
    let mut five = client(&house, "five").await;
    let (codes, words) = suback(&mut five, &filters).await;
    assert_eq!(codes.len(), 100);
    assert!((512..=1_024).contains(&words.len()), "{}", words.len());
    let small = std::num::NonZeroU32::new(200);
    let (mut five, _) = open(&house, hello("five", |p| p.maximum_packet_size = small)).await;
    let (codes, words) = suback(&mut five, &filters).await;
    assert_eq!((codes.len(), words.as_str()), (100, ""));
}

#[tokio::test]
async fn whoever_is_closed_is_told_why() {
    let house = house(Limits::default()).await;
    let mut first = client(&house, "same").await;
    let _second = client(&house, "same").await;
    let Packet::Disconnect(end) = first.receive().await else {
        panic!("no DISCONNECT")
    };
    let words = end.properties.and_then(|p| p.reason_string).expect("words");
    assert!(
        words.as_str().contains("taken the client id over"),
        "{words}"
    );
    let mut connect = hello("silent", |_| {});
    connect.keep_alive = 1;
    let (mut silent, _) = open(&house, connect).await;
    let Packet::Disconnect(end) = silent.receive().await else {
        panic!("no DISCONNECT")
    };
    let words = end.properties.and_then(|p| p.reason_string).expect("words");
    assert!(words.as_str().contains("keep-alive"), "{words}");
    // Nothing of the sort is said to 3.1.1, which has no DISCONNECT from a server.
    let mut old = house.client("old").await;
    let _again = house.client("old").await;
    assert_eq!(old.next().await, None);
}
