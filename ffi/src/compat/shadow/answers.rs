//! Requests that wait, and the topics their answers come on.

use std::ffi::{CString, c_int};
use std::sync::Arc;
use std::time::Instant;

use iotedge_mqtt::{Publish, QoS};

use super::super::registry::{self, Entry};
use super::super::types::AwsIotClient;
use super::{Action, ActionCallback, Result, Shadow, Status, document, process, topic};
use crate::boundary::UserData;
use crate::client::Handler;

const ACCEPTED: &str = "/accepted";
const REJECTED: &str = "/rejected";

/// Somebody who waits for an answer.
pub(super) struct Request {
    pub(super) token: Vec<u8>,
    pub(super) thing: CString,
    pub(super) action: Action,
    pub(super) callback: ActionCallback,
    pub(super) context: UserData,
    pub(super) deadline: Instant,
}

impl std::fmt::Debug for Request {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Request")
            .field("thing", &self.thing)
            .field("action", &self.action)
            .finish_non_exhaustive()
    }
}

/// The two topics of a thing's action that are subscribed.
#[derive(Debug)]
pub(super) struct Topics {
    thing: String,
    action: Action,
    /// Requests that wait for an answer on them.
    waiting: usize,
    /// Whether they stay when nobody waits.
    keep: bool,
}

impl Topics {
    fn is_for(&self, thing: &str, action: Action) -> bool {
        self.thing == thing && self.action == action
    }
}

impl Shadow {
    /// Takes the first request that `is_it`.
    pub(super) fn take(&mut self, is_it: impl FnMut(&Request) -> bool) -> Option<Request> {
        let index = self.requests.iter().position(is_it)?;
        Some(self.requests.remove(index))
    }
}

/// Counts one more who waits, and subscribes to the topics if nobody did before.
pub(super) fn listen(
    client: *const AwsIotClient,
    entry: &Entry,
    thing: &str,
    action: Action,
    keep: bool,
) -> Result<()> {
    {
        let mut shadow = entry.shadow();
        let known = shadow.topics.iter_mut().find(|t| t.is_for(thing, action));
        if let Some(topics) = known {
            topics.waiting += 1;
            topics.keep |= keep;
            return Ok(());
        }
    }
    let mut subscribed = Ok(());
    for suffix in [ACCEPTED, REJECTED] {
        let filter = topic(thing, action, suffix)?;
        let handler = handler(client, action, suffix);
        let granted = entry
            .client
            .subscribe(&filter, QoS::AtMostOnce, handler, false);
        if let Err(error) = granted {
            subscribed = Err(error.into());
            break;
        }
    }
    if subscribed.is_err() {
        // The first of the two may be there.
        unsubscribe(entry, thing, action);
        return subscribed;
    }
    entry.shadow().topics.push(Topics {
        thing: thing.to_owned(),
        action,
        waiting: 1,
        keep,
    });
    Ok(())
}

fn unsubscribe(entry: &Entry, thing: &str, action: Action) {
    for suffix in [ACCEPTED, REJECTED] {
        if let Ok(filter) = topic(thing, action, suffix) {
            // Without a connection there is nothing to leave; the next login is a clean one.
            let _ = entry.client.unsubscribe(&filter);
        }
    }
}

/// One who waited does no more; leaves the topics that nobody wants to keep.
pub(super) fn leave(entry: &Entry, thing: &str, action: Action) {
    {
        let mut shadow = entry.shadow();
        let found = shadow.topics.iter().position(|t| t.is_for(thing, action));
        let Some((index, topics)) =
            found.and_then(|index| Some((index, shadow.topics.get_mut(index)?)))
        else {
            return;
        };
        topics.waiting = topics.waiting.saturating_sub(1);
        if topics.waiting > 0 || topics.keep {
            return;
        }
        shadow.topics.remove(index);
    }
    unsubscribe(entry, thing, action);
}

fn handler(client: *const AwsIotClient, action: Action, suffix: &'static str) -> Handler {
    let address = client.addr();
    let status = if suffix == ACCEPTED {
        Status::Accepted
    } else {
        Status::Rejected
    };
    Arc::new(move |message: &Publish| {
        if let Some(entry) = registry::find_address(address) {
            answered(&entry, action, status, message);
        }
    })
}

pub(super) fn answered(entry: &Entry, action: Action, status: Status, message: &Publish) {
    let request = {
        let mut shadow = entry.shadow();
        if message.payload.len() >= shadow.limits.rx_buffer {
            return;
        }
        if action == Action::Get && status == Status::Accepted && shadow.is_own(&message.topic) {
            if let Some(version) = document::version(&message.payload) {
                process::received(version);
            }
        }
        shadow.last_answer = document::c_text(&message.payload);
        let token = document::client_token(&message.payload);
        token.and_then(|token| shadow.take(|r| r.token == token && r.action == action))
    };
    if let Some(request) = request {
        tell(entry, &request, status);
    }
}

impl Shadow {
    /// Whether a topic is one of this client's own thing.
    fn is_own(&self, topic: &str) -> bool {
        let name = topic
            .strip_prefix("$aws/things/")
            .and_then(|rest| rest.split('/').next());
        name.is_some() && name == self.thing.as_deref()
    }
}

/// Calls back, and leaves the topics.
fn tell(entry: &Entry, request: &Request, status: Status) {
    let document = entry.shadow().last_answer.clone();
    // SAFETY: the application's own function with its own pointer, and texts that live until it
    // returns.
    unsafe {
        (request.callback)(
            request.thing.as_ptr(),
            request.action as c_int,
            status as c_int,
            document.as_ptr(),
            request.context.pointer(),
        );
    }
    leave(entry, &request.thing.to_string_lossy(), request.action);
}

/// Tells those whose time is over.
pub(super) fn expire(entry: &Entry) {
    loop {
        let now = Instant::now();
        let late = entry.shadow().take(|request| request.deadline <= now);
        match late {
            Some(request) => tell(entry, &request, Status::Timeout),
            None => return,
        }
    }
}
