//! By a clock that these tests set.

use super::*;

/// Appends of messages by number, and answers to them.
#[derive(Debug, Clone, PartialEq)]
enum Op {
    Message(u64),
    Answer(u64),
    Other,
}

impl Operation for Op {
    type Key = ();

    fn key(&self) -> Option<()> {
        None
    }

    fn absorb(&mut self, _other: Self) {}

    fn is_sparable(&self) -> bool {
        matches!(self, Self::Message(_))
    }

    fn spares(&self, other: &Self) -> bool {
        matches!((self, other), (Self::Answer(a), Self::Message(m)) if a == m)
    }
}

struct Clock {
    begin: Instant,
    state: State<Op>,
}

impl Clock {
    fn new() -> Self {
        Self {
            begin: Instant::now(),
            state: State::default(),
        }
    }

    fn job(&self, op: Op, micros: u64) -> Job<Op> {
        Job {
            urgent: matches!(op, Op::Message(_)),
            op,
            done: None,
            cost: 1,
            at: self.begin + Duration::from_micros(micros),
        }
    }

    /// Comes at `micros`; whether the writer is woken.
    fn come(&mut self, op: Op, micros: u64) -> bool {
        let job = self.job(op, micros);
        self.state.receive(job, true)
    }

    /// When the writer looks.
    fn look(&self) -> Option<u64> {
        let at = self.state.look_at?;
        u64::try_from((at - self.begin).as_micros()).ok()
    }
}

#[test]
fn an_answer_to_the_only_message_is_looked_at_at_once() {
    let mut clock = Clock::new();
    assert!(
        clock.come(Op::Message(1), 0),
        "the first that needs a commit"
    );
    assert_eq!(clock.look(), None);
    assert!(clock.come(Op::Answer(1), 700));
    assert_eq!(clock.look(), Some(700));
}

#[test]
fn answers_to_several_are_looked_at_together() {
    let mut clock = Clock::new();
    for n in 1..=20 {
        clock.come(Op::Message(n), n);
    }
    clock.come(Op::Other, 50);
    assert_eq!(clock.look(), None, "a removal that answers nothing here");
    assert!(clock.come(Op::Answer(1), 100));
    assert!(!clock.come(Op::Answer(2), 300), "it is planned already");
    assert_eq!(clock.look(), Some(2100));
    let mut many = Clock::new();
    for n in 1..=5000 {
        many.come(Op::Message(n), n);
    }
    many.come(Op::Answer(1), 6000);
    assert!(
        many.look().is_some_and(|at| at > 20_000),
        "not every two milliseconds"
    );
}

#[test]
fn only_an_answer_to_the_message_in_front_is_worth_a_look() {
    let mut clock = Clock::new();
    clock.come(Op::Message(1), 0);
    clock.come(Op::Message(2), 1);
    clock.come(Op::Answer(2), 2);
    clock.come(Op::Answer(77), 3);
    assert_eq!(clock.look(), None);
    clock.come(Op::Answer(1), 4);
    assert!(clock.look().is_some());
}

#[test]
fn behind_the_answer_to_the_last_message_nothing_is_waited_for() {
    let mut clock = Clock::new();
    for number in 1..=10 {
        clock.come(Op::Message(number), number);
    }
    for number in 1..=9 {
        clock.come(Op::Answer(number), 100 + number);
    }
    assert!(clock.look().is_some_and(|at| at > 1000), "others may come");
    assert!(clock.come(Op::Answer(10), 200));
    assert_eq!(clock.look(), Some(200));
}

#[test]
fn an_answer_that_came_before_its_message_counts() {
    let mut clock = Clock::new();
    clock.come(Op::Answer(1), 0);
    clock.come(Op::Other, 1);
    assert!(clock.come(Op::Message(1), 5));
    assert_eq!(clock.look(), Some(5));
}

#[test]
fn what_was_looked_at_and_put_back_waits_for_another_answer() {
    let mut clock = Clock::new();
    clock.come(Op::Message(1), 0);
    clock.come(Op::Answer(1), 10);
    let taken = clock.state.take();
    assert_eq!(clock.look(), None);
    // While it was looked at: one of its takers has answered, not the other.
    clock.come(Op::Message(2), 20);
    clock.state.put_back(taken, true);
    assert_eq!(clock.look(), None);
    let order = clock.state.waiting.iter().map(|job| job.op.clone());
    assert_eq!(
        Vec::from_iter(order),
        [Op::Message(1), Op::Answer(1), Op::Message(2)]
    );
    let taken = clock.state.take();
    clock.come(Op::Answer(1), 30);
    clock.state.put_back(taken, true);
    assert!(clock.look().is_some(), "the other one, in the meantime");
}

#[test]
fn where_nothing_is_spared_there_is_no_look() {
    let mut clock = Clock::new();
    let (message, answer) = (clock.job(Op::Message(1), 0), clock.job(Op::Answer(1), 1));
    clock.state.receive(message, false);
    clock.state.receive(answer, false);
    assert_eq!(clock.look(), None);
}
