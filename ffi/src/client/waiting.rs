//! Waiting for packets.

use std::time::{Duration, Instant};

use iotedge_mqtt::PacketId;

use super::operation::Operation;
use super::{Client, State, lock};
use crate::connection::{Outcome, Step};
use crate::error::{Error, Result};

/// The longest look at the socket with the connection locked: another thread that disconnects
/// waits no longer.
const SLICE: Duration = Duration::from_millis(100);

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
            match self.with_connection(|connection| connection.step(Some(id), until))? {
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
        let deadline = Instant::now() + timeout;
        loop {
            let ran = match self.state() {
                State::DisconnectedManually => return Err(Error::ManuallyDisconnected),
                State::PendingReconnect => {
                    self.reconnect_until(deadline).map(|()| Ran::Reconnected)
                }
                state if !state.is_connected() => return Err(Error::NotConnected),
                _ => self.listen(deadline).map(|()| Ran::Done),
            };
            if !matches!(ran, Ok(_) | Err(Error::AttemptingReconnect)) || Instant::now() >= deadline
            {
                return ran;
            }
        }
    }

    /// Listens until `deadline`, or until a callback or another thread has ended it.
    fn listen(&self, deadline: Instant) -> Result<()> {
        let operation = self.begin(State::YieldInProgress)?;
        loop {
            let until = deadline.min(Instant::now() + SLICE);
            match self.with_connection(|connection| connection.listen(until)) {
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
            if self.state() != operation.during() || Instant::now() >= deadline {
                return Ok(());
            }
        }
    }
}
