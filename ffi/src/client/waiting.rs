//! Waiting for packets.

use std::time::{Duration, Instant};

use iotedge_mqtt::PacketId;

use super::operation::Operation;
use super::{Client, State, Wake, lock};
use crate::connection::{Outcome, Step};
use crate::error::{Error, Result};

/// The longest look at the socket with the connection locked: another thread that disconnects
/// waits no longer.
pub(super) const SLICE: Duration = Duration::from_millis(100);

/// How a call to [`Client::run`] ended well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ran {
    /// The time is over.
    Done,
    /// The time is over and the connection has just been made again.
    Reconnected,
}

impl Client {
    /// Waits for the answer to `id`; messages that come meanwhile are delivered.
    pub(super) fn await_answer(&self, operation: &Operation<'_>, id: PacketId) -> Result<Outcome> {
        let outcome = self.await_until(
            operation,
            id,
            Instant::now() + self.settings.command_timeout,
        );
        if outcome.is_err() {
            if let Some(connection) = lock(&self.connection).as_mut() {
                connection.forget(id);
            }
        }
        outcome
    }

    fn await_until(
        &self,
        operation: &Operation<'_>,
        id: PacketId,
        deadline: Instant,
    ) -> Result<Outcome> {
        loop {
            let until = deadline.min(Instant::now() + SLICE);
            let wake = self.wake.as_ref().map(Wake::descriptor);
            let step = self.with_connection(|c| {
                let step = c.step(Some(id), until, wake);
                self.collect(c);
                step
            });
            self.tell_posted(operation)?;
            match step? {
                Step::Answered(outcome) => return Ok(outcome),
                // The time that callbacks take is not the server's: another look follows.
                Step::Message(message) => self.deliver(operation, &message)?,
                _ if Instant::now() >= deadline => return Err(Error::Timeout),
                Step::Progress | Step::Nothing => {}
            }
            if self.state() != operation.during() {
                return Err(Error::NotConnected);
            }
        }
    }

    /// Receives, delivers, keeps alive and reconnects for `timeout`, and at least once.
    pub(crate) fn run(&self, timeout: Duration) -> Result<Ran> {
        let ran = self.run_until(Instant::now() + timeout, State::YieldInProgress);
        self.rest();
        ran
    }

    pub(super) fn run_until(&self, deadline: Instant, during: State) -> Result<Ran> {
        loop {
            let ran = match self.state() {
                State::DisconnectedManually => return Err(Error::ManuallyDisconnected),
                State::PendingReconnect => {
                    self.reconnect_until(deadline).map(|()| Ran::Reconnected)
                }
                state if !state.is_connected() => return Err(Error::NotConnected),
                _ => self.listen(deadline, during, false).map(|()| Ran::Done),
            };
            if !matches!(ran, Ok(_) | Err(Error::AttemptingReconnect)) || Instant::now() >= deadline
            {
                return ran;
            }
        }
    }

    /// Works on one packet, if one comes, or reconnects.
    pub(super) fn turn(&self, deadline: Instant, during: State) -> Result<()> {
        match self.state() {
            State::DisconnectedManually => Err(Error::ManuallyDisconnected),
            State::PendingReconnect => self.reconnect_until(deadline),
            _ => self.listen(deadline, during, true),
        }
    }

    /// Listens until `deadline`, or until a callback or another thread has ended it; with `once`
    /// until something has come.
    fn listen(&self, deadline: Instant, during: State, once: bool) -> Result<()> {
        let operation = self.begin(during)?;
        loop {
            let until = deadline.min(Instant::now() + SLICE);
            let wake = self.wake.as_ref().map(Wake::descriptor);
            let step = self.with_connection(|connection| {
                if let Some(wake) = &self.wake {
                    wake.clear();
                }
                self.pump_into(connection);
                let step = connection.listen(until, wake);
                self.collect(connection);
                step
            });
            if self.tell_posted(&operation).is_err() {
                return Ok(());
            }
            let came = !matches!(step, Ok(Step::Nothing));
            match step {
                Ok(Step::Message(message)) => {
                    if self.deliver(&operation, &message).is_err() {
                        return Ok(());
                    }
                }
                Ok(_) => {}
                Err(Error::NotConnected) => return Ok(()),
                Err(error) if error.is_loss() => {
                    operation.end_as(State::DisconnectedError);
                    return self.lost(&error);
                }
                Err(error) => return Err(error),
            }
            let ended = self.state() != operation.during();
            if ended || (once && came) || Instant::now() >= deadline {
                return Ok(());
            }
        }
    }
}
