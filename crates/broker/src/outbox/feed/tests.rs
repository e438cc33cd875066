#![allow(clippy::unwrap_used)]

use std::sync::atomic::{AtomicUsize, Ordering};

use iotedge_model::{Message, Now, QoS, SubscriptionIds, Topic, UnixMillis};
use iotedge_store::{Options, TakerKind};

use super::*;
use crate::group::Shares;

struct Still;
impl Clock for Still {
    fn now(&self) -> Now {
        Now {
            mono: 0,
            wall: UnixMillis(0),
            trusted: false,
        }
    }
}

#[derive(Default)]
struct Wakes(AtomicUsize);
impl Wake for Wakes {
    fn wake(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

fn delivery(id: u64, qos: QoS, durable: bool) -> Delivery {
    let topic = Topic::new("t").unwrap();
    let mut message = Message::internal("test", topic, bytes::Bytes::new(), qos);
    message.id = MessageId(id);
    Delivery {
        message: Arc::new(message),
        qos,
        retain: false,
        dup: false,
        durable,
        share: None,
        identifiers: SubscriptionIds::NONE,
    }
}

/// The consumer may be at work when a message comes. Its packet id must not reach the store before
/// the row that it is written to.
#[test]
fn nothing_comes_out_before_the_store_has_its_row() {
    let dir = tempfile::tempdir().unwrap();
    let (store, opened) = Store::open(dir.path(), Options::default()).unwrap();
    let taker = store.create_taker(TakerKind::Session, "s");
    let env = Env {
        store,
        clock: Arc::new(Still),
        max_messages: 100,
        max_bytes: 1 << 20,
        first_id: MessageId(opened.next_message_id),
        shares: Shares::default(),
        unread: Arc::default(),
    };
    let feed = Feed::new(Arc::new(env), Some(taker), true);
    let wakes = Arc::new(Wakes::default());
    let epoch = feed.attach(wakes.clone());
    let take = || {
        let limit = DrainLimit {
            messages: 100,
            bytes: 1 << 20,
        };
        let mut out = Vec::new();
        assert_eq!(
            feed.take(epoch, limit, 100, &mut out),
            Some(DrainState::Empty)
        );
        let mut ids = Vec::new();
        for taken in out {
            taken.each(|delivery| ids.push(delivery.message.id.0));
        }
        ids
    };
    feed.append(delivery(1, QoS::ExactlyOnce, true), false);
    feed.appended();
    feed.append(delivery(2, QoS::ExactlyOnce, true), false);
    // What needs no row is behind it, or goes ahead with QoS 0.
    feed.push(delivery(3, QoS::AtLeastOnce, false));
    feed.push(delivery(4, QoS::AtMostOnce, false));
    assert_eq!(take(), [1, 4]);
    let before = wakes.0.load(Ordering::Relaxed);
    feed.appended();
    assert_eq!(wakes.0.load(Ordering::Relaxed), before + 1);
    assert_eq!(take(), [2, 3]);
}

/// Under a steady stream some rows are always on their way to the disk. What comes after the consumer
/// has read all others is kept in memory for it, and comes out when they were read.
#[test]
fn a_consumer_catches_up_with_a_stream_that_does_not_pause() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options {
        min_free_disk: 0,
        ..Options::default()
    };
    let (store, opened) = Store::open(dir.path(), options).unwrap();
    let taker = store.create_taker(TakerKind::Route, "r");
    let env = Env {
        store: store.clone(),
        clock: Arc::new(Still),
        max_messages: 100,
        max_bytes: 1 << 20,
        first_id: MessageId(opened.next_message_id),
        shares: Shares::default(),
        unread: Arc::default(),
    };
    let feed = Feed::new(Arc::new(env), Some(taker), false);
    let epoch = feed.attach(Arc::new(Wakes::default()));
    let take = || {
        let limit = DrainLimit {
            messages: 100,
            bytes: 1 << 20,
        };
        let mut out = Vec::new();
        feed.take(epoch, limit, 100, &mut out);
        let mut ids = Vec::new();
        for taken in out {
            taken.each(|delivery| ids.push(delivery.message.id.0));
        }
        ids
    };
    let begin = |id| {
        let delivery = delivery(id, QoS::AtLeastOnce, true);
        feed.append(delivery.clone(), false);
        feed.appended();
        delivery
    };
    // What the store does when the commit is due.
    let commit = |delivery: &Delivery| {
        let row = iotedge_store::TakerRow {
            taker,
            qos: delivery.qos,
            retain: false,
            identifiers: SubscriptionIds::NONE,
        };
        let append = iotedge_store::Append::new(delivery.message.clone(), vec![row], None);
        let (tell, told) = std::sync::mpsc::sync_channel(1);
        store.append(
            vec![append],
            Some(Box::new(move |ok| tell.send(ok).unwrap())),
        );
        told.recv().unwrap().unwrap();
        feed.committed(delivery.message.id, true);
    };
    let one = begin(1);
    assert_eq!(take(), [0u64; 0], "it is on its way to the disk");
    let two = begin(2);
    commit(&one);
    let three = begin(3);
    assert_eq!(take(), [1, 2, 3], "one was read, the others were kept");
    let four = begin(4);
    assert_eq!(take(), [4], "before its commit");
    for delivery in [two, three, four] {
        commit(&delivery);
    }
    assert_eq!(take(), [0u64; 0]);

    // A queue that is full while older rows are read lets go of what it kept.
    feed.lock().forget_kept();
    feed.lock().rewind_to(MessageId(1));
    let first = begin(5);
    assert_eq!(take(), [1, 2, 3, 4]);
    let mut rest: Vec<_> = (6..130).map(begin).collect();
    rest.insert(0, first);
    rest.iter().for_each(&commit);
    let mut all = Vec::new();
    while let Some(last) = Some(take()).filter(|ids| !ids.is_empty()) {
        all.extend(last);
    }
    assert_eq!(all, Vec::from_iter(5..130));
}
