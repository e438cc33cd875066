use super::*;

fn face(id: u64, topic: &str) -> Face {
    Face {
        key: (0, MessageId(id)),
        topic: topic.into(),
    }
}

fn fault(names_the_message: bool) -> Fault {
    Fault {
        text: "closed".into(),
        names_the_message,
    }
}

/// Suspects of which one was blamed as often as it takes, and the time.
struct Court {
    suspects: Suspects,
    bad: Face,
    now: u64,
}

const BYTES: usize = 100;

impl Court {
    fn new() -> Self {
        let mut court = Self {
            suspects: Suspects::new(&Backoff::default()),
            bad: face(1, "bad"),
            now: 0,
        };
        for _ in 0..BLAMED {
            assert!(court.suspects.is_empty());
            court.connect();
            let oldest = Some((court.bad.clone(), BYTES));
            court.suspects.lost(oldest, &fault(false), court.now);
        }
        court
    }

    fn connect(&mut self) {
        self.now += 1000;
        self.suspects.connected(self.now);
    }

    /// It goes alone, and the connection is lost after so long.
    fn lost_alone(&mut self, lives: u64, fault: &Fault) {
        self.connect();
        self.suspects.examine(self.bad.key);
        self.now += lives;
        self.suspects
            .lost(Some((self.bad.clone(), BYTES)), fault, self.now);
    }

    /// Two others of so many bytes together go through on a connection that lives so long.
    fn others(&mut self, bytes: usize, lives: u64) {
        self.connect();
        self.now += lives;
        for id in [100, 101] {
            let other = (0, MessageId(id));
            self.suspects.delivered(other, bytes / 2, self.now);
        }
    }

    fn is_given_up(&self) -> bool {
        self.suspects.verdict(self.bad.key).is_some()
    }
}

#[test]
fn only_losses_between_which_others_went_through_count() {
    let mut court = Court::new();
    for _ in 0..HOLDS {
        assert_eq!(court.suspects.due(court.now), Some(court.bad.key), "next");
        court.lost_alone(10, &fault(false));
    }
    for _ in 0..20 {
        court.lost_alone(10, &fault(false));
        assert!(!court.is_given_up(), "nobody went through");
    }
    for _ in HOLDS..GUILTY {
        assert!(!court.is_given_up());
        court.others(1000, 10);
        court.lost_alone(10, &fault(false));
    }
    assert!(court.is_given_up());
}

#[test]
fn a_network_that_ends_connections_after_so_many_bytes_or_seconds_convicts_nobody() {
    for (bytes, lives) in [(BYTES + MORE - 2, 10), (1000, 9)] {
        let mut court = Court::new();
        for _ in 0..20 {
            court.others(bytes, lives);
            court.lost_alone(10, &fault(false));
        }
        assert!(!court.is_given_up(), "{bytes} bytes, {lives} ms");
    }
}

#[test]
fn the_others_have_to_go_through_on_one_connection() {
    let mut court = Court::new();
    for _ in 0..20 {
        for id in 0..10 {
            court.connect();
            let now = court.now + 20;
            court
                .suspects
                .delivered((0, MessageId(100 + id)), 1000, now);
        }
        court.lost_alone(10, &fault(false));
    }
    assert!(!court.is_given_up());
}

#[test]
fn a_server_that_names_the_message_is_believed() {
    let mut court = Court::new();
    court.lost_alone(10, &fault(true));
    assert!(!court.is_given_up(), "once may be a slip");
    court.lost_alone(10, &fault(true));
    assert!(court.is_given_up());
}

#[test]
fn pauses_grow_and_end_somewhere() {
    let mut court = Court::new();
    let mut last = 0;
    for _ in 0..10 {
        court.lost_alone(10, &fault(false));
        let pause = court.suspects.next_due(court.now).unwrap();
        assert!(pause.as_millis() >= last, "{pause:?}");
        last = pause.as_millis();
    }
    assert_eq!(last, 600_000);
    court.now += 600_000;
    assert_eq!(court.suspects.due(court.now), Some(court.bad.key));
}

#[test]
fn what_is_acknowledged_or_blamed_now_and_then_is_no_suspect() {
    let mut suspects = Suspects::new(&Backoff::default());
    let (a, b) = (face(1, "a"), face(2, "b"));
    for _ in 0..10 {
        for oldest in [&a, &b] {
            suspects.connected(0);
            suspects.lost(Some((oldest.clone(), 1)), &fault(false), 0);
        }
    }
    suspects.lost(None, &fault(false), 0);
    assert!(suspects.is_empty());
    let mut court = Court::new();
    court.connect();
    court.suspects.examine(court.bad.key);
    assert!(court.suspects.wants_alone(court.now));
    assert!(court.suspects.delivered(court.bad.key, BYTES, court.now));
    assert!(court.suspects.is_empty() && !court.suspects.wants_alone(court.now));
}

#[test]
fn its_topic_waits_behind_it_and_the_next_of_it_is_tried_once() {
    let mut court = Court::new();
    let (next, other) = (face(2, "bad"), face(3, "good"));
    assert!(court.suspects.keeps(&court.bad.clone()) && court.suspects.keeps(&next));
    assert!(!court.suspects.keeps(&other));
    assert!(!court.suspects.keeps(&Face {
        key: (1, MessageId(4)),
        topic: "bad".into()
    }));
    for _ in 0..GUILTY {
        court.others(1000, 10);
        court.lost_alone(10, &fault(false));
    }
    court.suspects.gave_up(court.bad.key, court.now);
    assert_eq!(
        court.suspects.due(court.now + 100_000),
        None,
        "nobody is there"
    );
    court.bad = next;
    assert!(court.suspects.keeps(&court.bad.clone()));
    assert_eq!(court.suspects.due(court.now), None, "after a pause");
    court.now += 4_000;
    assert_eq!(court.suspects.due(court.now), Some(court.bad.key));
    court.lost_alone(10, &fault(false));
    assert!(!court.is_given_up());
    court.others(1000, 10);
    court.lost_alone(10, &fault(false));
    assert!(court.is_given_up());
    court.suspects.gave_up(court.bad.key, court.now);
    court.suspects.connected(court.now + 2 * FORGET);
    assert!(court.suspects.is_empty(), "forgotten");
}

#[test]
fn it_does_not_grow() {
    let mut suspects = Suspects::new(&Backoff::default());
    for id in 0..200 {
        let bad = face(id, &format!("t/{id}"));
        for _ in 0..BLAMED {
            suspects.connected(0);
            suspects.lost(Some((bad.clone(), 1)), &fault(false), 0);
        }
    }
    assert_eq!(suspects.cases.len(), MOST);
}

#[test]
fn however_long_the_link_was_away_the_others_go_first_once() {
    let mut court = Court::new();
    for _ in 0..HOLDS {
        court.lost_alone(10, &fault(false));
    }
    court.now += 600_000;
    court.connect();
    assert_eq!(
        court.suspects.due(court.now),
        None,
        "the others' connection"
    );
    let wait = court.suspects.next_due(court.now).unwrap();
    assert!(!wait.is_zero(), "{wait:?}");
    court.now += millis(wait);
    assert_eq!(court.suspects.due(court.now), Some(court.bad.key));
    court.connect();
    assert_eq!(
        court.suspects.due(court.now),
        Some(court.bad.key),
        "its own"
    );
}
