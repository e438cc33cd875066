//! One operation at a time, and callbacks within.

use std::cell::RefCell;

use iotedge_mqtt::Publish;

use super::{Client, State, lock};
use crate::connection::MAX_DEPTH;
use crate::error::{Error, Result};

thread_local! {
    /// The clients whose callbacks run on this thread, outermost first.
    static CALLBACKS: RefCell<Vec<usize>> = const { RefCell::new(Vec::new()) };
}

/// The right to use the connection. Gives it back when it is dropped, unless the state has been
/// changed by others meanwhile: by a callback that disconnects, for example.
pub(super) struct Operation<'a> {
    client: &'a Client,
    during: State,
    after: State,
}

impl Operation<'_> {
    /// The state while it goes on.
    pub(super) fn during(&self) -> State {
        self.during
    }

    /// Ends it with another state than the one before.
    pub(super) fn end_as(mut self, state: State) {
        self.after = state;
    }
}

impl Drop for Operation<'_> {
    fn drop(&mut self) {
        self.client.swap(self.during, self.after);
    }
}

/// Marks a callback on this thread.
struct InCallback;

impl InCallback {
    fn enter(client: &Client) -> Self {
        CALLBACKS.with_borrow_mut(|clients| clients.push(address(client)));
        Self
    }
}

impl Drop for InCallback {
    fn drop(&mut self) {
        CALLBACKS.with_borrow_mut(|clients| clients.pop());
    }
}

fn address(client: &Client) -> usize {
    std::ptr::from_ref(client).addr()
}

impl Client {
    /// Begins an operation: from idle, or from within a callback of this client, where there is
    /// no second yield.
    pub(super) fn begin(&self, during: State) -> Result<Operation<'_>> {
        let after = self.state();
        if !after.is_connected() {
            return Err(Error::NotConnected);
        }
        let allowed = match after {
            State::ConnectedIdle => true,
            State::WaitForCallback => {
                let depth = CALLBACKS.with_borrow(|clients| {
                    let me = address(self);
                    clients.iter().filter(|client| **client == me).count()
                });
                during != State::YieldInProgress && (1..=MAX_DEPTH).contains(&depth)
            }
            _ => false,
        };
        if !allowed || !self.swap(after, during) {
            return Err(Error::NotIdle);
        }
        Ok(Operation {
            client: self,
            during,
            after,
        })
    }

    /// Calls the handlers that `message` is for. [`Error::NotConnected`] says that a callback has
    /// ended the operation.
    pub(super) fn deliver(&self, operation: &Operation<'_>, message: &Publish) -> Result<()> {
        let slots = lock(&self.table).matching(&message.topic);
        if slots.is_empty() {
            return Ok(());
        }
        self.call_back(operation, || {
            for slot in slots {
                // The callback before may have unsubscribed this one, and its data may be gone.
                let handler = lock(&self.table).handler(slot);
                if let Some(handler) = handler {
                    handler(message);
                }
            }
        })
    }

    /// Lets the application's functions run within an operation.
    pub(super) fn call_back(&self, operation: &Operation<'_>, call: impl FnOnce()) -> Result<()> {
        if !self.swap(operation.during(), State::WaitForCallback) {
            return Err(Error::NotConnected);
        }
        let within = InCallback::enter(self);
        call();
        drop(within);
        if !self.swap(State::WaitForCallback, operation.during()) {
            return Err(Error::NotConnected);
        }
        Ok(())
    }

    /// Whether this thread is in a callback of this client.
    pub(super) fn is_calling_back(&self) -> bool {
        let me = address(self);
        CALLBACKS.with_borrow(|clients| clients.contains(&me))
    }
}
