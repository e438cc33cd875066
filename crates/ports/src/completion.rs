use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// Why a message that was accepted could not be made durable. Its publisher gets no
/// acknowledgement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// The store could not commit.
    Store,
    /// The part that should have answered went away without an answer.
    Abandoned,
}

/// Gets the outcome of publications it numbered itself. Called from any thread; must not block.
pub trait AckSink: Send + Sync {
    /// All durable takers of publication `token` have it (or one of them failed).
    fn acked(&self, token: u64, outcome: Result<(), Failure>);
}

struct Join {
    left: AtomicUsize,
    failed: AtomicBool,
    sink: Arc<dyn AckSink>,
    token: u64,
}

impl Join {
    fn leave(&self) {
        if self.left.fetch_sub(1, Ordering::AcqRel) == 1 {
            let outcome = if self.failed.load(Ordering::Acquire) {
                Err(Failure::Store)
            } else {
                Ok(())
            };
            self.sink.acked(self.token, outcome);
        }
    }
}

/// Collects the parts that a publication's acknowledgement waits for.
///
/// Made by whoever accepts the publication, which drops it when no more parts will be added; when
/// it and every [`Part`] are gone, the sink is told once.
pub struct Completion(Arc<Join>);

impl Completion {
    /// Begins to wait for nothing yet.
    pub fn new(sink: Arc<dyn AckSink>, token: u64) -> Self {
        Self(Arc::new(Join {
            left: AtomicUsize::new(1),
            failed: AtomicBool::new(false),
            sink,
            token,
        }))
    }

    /// One more thing to wait for.
    pub fn part(&self) -> Part {
        self.0.left.fetch_add(1, Ordering::AcqRel);
        Part {
            join: self.0.clone(),
            answered: false,
        }
    }
}

impl Drop for Completion {
    fn drop(&mut self) {
        self.0.leave();
    }
}

/// One thing that an acknowledgement waits for. Dropped without an answer it counts as failed.
pub struct Part {
    join: Arc<Join>,
    answered: bool,
}

impl Part {
    /// Says how it went.
    pub fn finish(mut self, outcome: Result<(), Failure>) {
        self.answered = true;
        if outcome.is_err() {
            self.join.failed.store(true, Ordering::Release);
        }
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        if !self.answered {
            self.join.failed.store(true, Ordering::Release);
        }
        self.join.leave();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    #[derive(Default)]
    struct Sink(Mutex<Vec<(u64, Result<(), Failure>)>>);
    impl AckSink for Sink {
        fn acked(&self, token: u64, outcome: Result<(), Failure>) {
            self.0.lock().unwrap().push((token, outcome));
        }
    }

    #[test]
    fn the_sink_hears_once_when_all_parts_are_done() {
        let sink = Arc::new(Sink::default());
        let completion = Completion::new(sink.clone(), 7);
        let (a, b) = (completion.part(), completion.part());
        a.finish(Ok(()));
        drop(completion);
        assert!(sink.0.lock().unwrap().is_empty());
        b.finish(Ok(()));
        assert_eq!(*sink.0.lock().unwrap(), [(7, Ok(()))]);
    }

    #[test]
    fn a_part_dropped_without_an_answer_fails_the_whole() {
        let sink = Arc::new(Sink::default());
        let completion = Completion::new(sink.clone(), 1);
        drop(completion.part());
        drop(completion);
        assert_eq!(*sink.0.lock().unwrap(), [(1, Err(Failure::Store))]);
    }
}
