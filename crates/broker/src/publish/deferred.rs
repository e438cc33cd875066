//! A QoS 2 message with a service among its takers.
//!
//! A service keeps its effects in a file of its own. The packet id is committed behind them: an id
//! on disk without them would let the message, which the client sends again after a crash, pass for
//! one that was taken. So services get it first, and everyone else when their effects are durable.
//! A crash in between gives it to services once more.

use std::sync::{Arc, Mutex, PoisonError};

use iotedge_model::{Message, QoS};
use iotedge_ports::{AckSink, Completion, Failure, PublishOutcome, Target};

use super::{Acceptance, Planned};
use crate::Shared;
use crate::core::{Core, Taker};
use crate::late::Hold;

/// What waits for the services.
pub(super) struct Deferred {
    shared: Arc<Shared>,
    rest: Mutex<Option<Rest>>,
}

struct Rest {
    messages: Vec<(Option<Target>, Message)>,
    hold: Hold,
    /// The publisher's acknowledgement.
    completion: Option<Completion>,
}

impl Acceptance<'_> {
    /// Gives it to services alone, for now.
    pub(super) fn defer(mut self, core: &mut Core, planned: Vec<Planned>) -> PublishOutcome {
        let (Some(shared), Some(mut hold)) = (self.shared.me.upgrade(), self.hold.take()) else {
            // The broker goes away: nothing is acknowledged any more.
            return PublishOutcome::Pending;
        };
        if let Some(part) = self.part() {
            part.finish(Ok(()));
        }
        *self.pressure = hold.begin(&shared.limits);
        let deferred = Arc::new(Deferred {
            shared,
            rest: Mutex::new(None),
        });
        let completion = Completion::new(deferred.clone(), 0);
        let mut messages = Vec::with_capacity(planned.len());
        for plan in planned {
            let mut message = plan.message;
            message.id = core.next_message();
            for entry in plan.matches.iter() {
                let Taker::Service(key) = entry.taker else {
                    continue;
                };
                if let (Some(service), Some(handovers)) =
                    (core.services.get(key), self.handovers.as_deref_mut())
                {
                    let part = (message.qos > QoS::AtMostOnce).then(|| completion.part());
                    let message = Arc::new(message.clone());
                    handovers.all.push((service.clone(), message, part));
                }
            }
            messages.push((plan.target, message));
        }
        *deferred.rest.lock().unwrap_or_else(PoisonError::into_inner) = Some(Rest {
            messages,
            hold,
            completion: self.completion.take(),
        });
        if let Some(handovers) = self.handovers {
            handovers.behind.push(completion);
        }
        PublishOutcome::Pending
    }
}

impl AckSink for Deferred {
    fn acked(&self, _: u64, outcome: Result<(), Failure>) {
        let rest = self
            .rest
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        let Some(rest) = rest else { return };
        match outcome {
            Ok(()) => self.shared.give_rest(rest),
            Err(_) => {
                rest.hold.end(outcome);
                if let Some(completion) = rest.completion {
                    completion.part().finish(outcome);
                }
            }
        }
    }
}

impl Shared {
    /// Services have it: now to everyone else.
    fn give_rest(&self, rest: Rest) {
        let mut core = self.lock();
        let own = rest.hold.session(&core);
        let mut planned = Vec::with_capacity(rest.messages.len());
        for (target, message) in rest.messages {
            planned.push(Planned::new(&mut core, target, message));
        }
        let mut acceptance = Acceptance {
            shared: self,
            connection: None,
            inbound: None,
            hold: Some(rest.hold),
            completion: rest.completion,
            ack: None,
            handovers: None,
            pressure: &mut None,
        };
        acceptance.give(&mut core, planned, own);
    }
}
