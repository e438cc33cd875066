//! Members that come and go at the same time.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use iotedge_broker::Limits;
use iotedge_ports::{EndKind, OutgoingPublish, Wake};

use crate::support::*;
use crate::{FILTER, ONE, house, queue};

/// What has come, and who waits for it to be all.
#[derive(Default)]
struct Together {
    got: Mutex<BTreeSet<String>>,
    waiting: Mutex<Vec<Arc<Ears>>>,
    expected: usize,
}

impl Together {
    fn done(&self) -> bool {
        self.got.lock().unwrap().len() >= self.expected
    }

    fn add(&self, outgoing: &OutgoingPublish) {
        let [payload] = <[String; 1]>::try_from(payloads(std::slice::from_ref(outgoing))).unwrap();
        let new = self.got.lock().unwrap().insert(payload);
        assert!(new, "it was with one member alone");
        if self.done() {
            self.waiting
                .lock()
                .unwrap()
                .iter()
                .for_each(|ears| ears.wake());
        }
    }

    fn join(&self, house: &House, id: &str) -> Client {
        let member = house.client(id).persistent().receive_maximum(5).connect();
        self.waiting.lock().unwrap().push(member.ears.clone());
        member.subscribe(FILTER, ONE);
        member
    }
}

/// A member in a thread of its own: takes, acknowledges, and now and then loses its connection with
/// something unacknowledged, until all is there.
fn work(house: &House, id: &str, all: &Together) {
    let mut member = all.join(house, id);
    let mut rounds = 0;
    while !all.done() {
        let wakes = member.ears.heard().wakes;
        let got = member.drain();
        if got.is_empty() {
            member
                .ears
                .wait("a message", |heard| heard.wakes > wakes || all.done());
            continue;
        }
        rounds += 1;
        if rounds % 7 == 0 {
            member.disconnect(EndKind::Lost);
            member = all.join(house, id);
            continue;
        }
        for outgoing in &got {
            all.add(outgoing);
            member.acknowledge(outgoing);
        }
    }
}

#[test]
fn members_in_many_threads_share_everything() {
    const PUBLISHERS: usize = 2;
    const EACH: usize = 400;
    let (_dir, house) = house(Limits::default());
    let anchor = house.client("anchor").persistent().connect();
    anchor.subscribe(FILTER, ONE);
    anchor.disconnect(EndKind::Lost);
    let all = Together {
        expected: PUBLISHERS * EACH,
        ..Together::default()
    };
    std::thread::scope(|scope| {
        for p in 0..PUBLISHERS {
            let house = &house;
            scope.spawn(move || {
                for n in 0..EACH {
                    house.publish("a/b", &format!("{p}-{n}"), ONE);
                }
            });
        }
        for id in ["a", "b", "c"] {
            let (house, all) = (&house, &all);
            scope.spawn(move || work(house, id, all));
        }
    });
    let account = queue(&house).unwrap().account;
    assert_eq!(
        (account.queued, account.delivered),
        (0, (PUBLISHERS * EACH) as u64)
    );
}
