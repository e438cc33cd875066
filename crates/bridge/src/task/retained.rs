//! What an upstream has retained, where an outbound route sets it: it may be older than what is here.

use std::time::Duration;

use iotedge_model::Topic;

use super::Task;
use crate::Version;
use crate::uplink::Incoming;

/// How long after its PUBACK one of our own may still be overtaken by what it has replaced: a 3.1.1
/// server sends what it has retained some time after SUBSCRIBE, and may answer others before.
const LATELY: Duration = Duration::from_secs(60);

impl Task {
    /// Whether the routes know which topics have retained messages on their way. Asked before
    /// SUBSCRIBE, which brings what the upstream has retained.
    pub(super) fn knows_its_states(&self) -> bool {
        let known = self.out.iter().all(|out| out.mailbox.learn_retained());
        if !known {
            // The next part after others have had their turn.
            self.notify.notify_one();
        }
        known
    }

    /// Whether what is retained for this topic here is newer than a retained message that comes: it
    /// is on its way up, and will replace that. Or the same: then nothing changes.
    pub(super) fn is_outdated(&self, publish: &Incoming, topic: &Topic, payload: &[u8]) -> bool {
        if !publish.retain {
            return false;
        }
        // Of a 3.1.1 server the flag says that the message was there before the subscription
        // (3.3.1.3). With "retain as published" of version 5 it may be a new one.
        let was_there = self.shared.config.version == Version::V3;
        let lately = if was_there { LATELY } else { Duration::ZERO };
        let mut covered = false;
        for out in &self.out {
            let route = self.shared.config.routes.get(out.index);
            if route.is_some_and(|route| route.sets_state(topic, &publish.topic)) {
                covered = true;
                if out.mailbox.retained_on_its_way(topic, lately) {
                    return true;
                }
            }
        }
        let same = || {
            let here = self.broker.retained(topic);
            here.is_some_and(|here| here.payload[..] == *payload)
        };
        covered && was_there && same()
    }
}
