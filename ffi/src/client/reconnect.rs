//! Losing the connection and making it again.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::{Client, State, lock};
use crate::error::{Error, Result};
use crate::log;

/// When to try again.
#[derive(Debug, Default)]
pub(super) struct Backoff {
    wait: Duration,
    next: Option<Instant>,
    gave_up: bool,
}

impl Backoff {
    fn start(&mut self, wait: Duration) {
        self.wait = wait;
        self.next = Some(Instant::now() + wait);
        self.gave_up = false;
    }

    /// Doubles the wait, up to the longest; who `gives_up` does so beyond it.
    fn failed(&mut self, longest: Duration, gives_up: bool) {
        let mut wait = self.wait.saturating_mul(2);
        if !gives_up {
            wait = wait.min(longest);
        }
        if wait > longest {
            self.gave_up = true;
        } else {
            self.start(wait);
        }
    }
}

impl Client {
    /// When the next attempt is due, if there is to be one.
    pub(super) fn next_attempt(&self) -> Option<Instant> {
        let backoff = lock(&self.backoff);
        let waits = self.state() == State::PendingReconnect && !backoff.gave_up;
        backoff.next.filter(|_| waits)
    }

    /// The connection is lost: closes it, tells the application, and says how it goes on. `Ok`
    /// when the application has connected again.
    pub(super) fn lost(&self, reason: &Error) -> Result<()> {
        if self.state() != State::DisconnectedError {
            // Another thread has disconnected meanwhile.
            return Ok(());
        }
        *lock(&self.connection) = None;
        self.requeue_posted(reason);
        self.losses.fetch_add(1, Ordering::Relaxed);
        log::warning(&format!("the connection is lost: {reason}"));
        let handler = lock(&self.table).on_loss.clone();
        if let Some(handler) = handler {
            handler();
        }
        if self.is_connected() {
            return Ok(());
        }
        if self.auto_reconnect() && self.swap(State::DisconnectedError, State::PendingReconnect) {
            lock(&self.backoff).start(self.settings.reconnect_min);
        }
        match self.state() {
            State::PendingReconnect => Err(Error::AttemptingReconnect),
            State::DisconnectedManually => Err(Error::ManuallyDisconnected),
            _ => Err(Error::Lost(reason.to_string())),
        }
    }

    /// Waits for the next attempt, but not beyond `deadline`, and makes it.
    pub(super) fn reconnect_until(&self, deadline: Instant) -> Result<()> {
        let (next, gave_up) = {
            let backoff = lock(&self.backoff);
            (backoff.next, backoff.gave_up)
        };
        if gave_up {
            return Err(Error::ReconnectTimedOut);
        }
        if let Some(next) = next {
            let now = Instant::now();
            if next > now {
                std::thread::sleep(next.min(deadline).saturating_duration_since(now));
            }
            if Instant::now() < next {
                return Err(Error::AttemptingReconnect);
            }
        }
        let error = match self.connect_and_resubscribe() {
            Ok(()) => return Ok(()),
            Err(error) => error,
        };
        log::warning(&format!("an attempt to connect again failed: {error}"));
        let mut backoff = lock(&self.backoff);
        backoff.failed(self.settings.reconnect_max, self.settings.gives_up);
        if backoff.gave_up {
            return Err(Error::ReconnectTimedOut);
        }
        Err(Error::AttemptingReconnect)
    }

    /// One attempt now, with the last login. After a failure `run` goes on trying.
    pub(crate) fn attempt_reconnect(&self) -> Result<()> {
        if self.is_connected() {
            return Err(Error::AlreadyConnected);
        }
        self.connect_and_resubscribe().map_err(|error| match error {
            Error::Missing(_) => error,
            _ => {
                let mut backoff = lock(&self.backoff);
                if !backoff.gave_up {
                    backoff.start(self.settings.reconnect_min);
                }
                Error::AttemptingReconnect
            }
        })
    }

    fn connect_and_resubscribe(&self) -> Result<()> {
        let connected = self.connect(None).and_then(|()| self.resubscribe());
        if connected.is_ok() {
            *lock(&self.backoff) = Backoff::default();
            let handlers = lock(&self.table).on_return.clone();
            for handler in handlers {
                handler(self);
            }
            return Ok(());
        }
        let state = self.state();
        if matches!(state, State::ConnectedIdle | State::DisconnectedError)
            && self.swap(state, State::PendingReconnect)
        {
            *lock(&self.connection) = None;
        }
        connected
    }
}
