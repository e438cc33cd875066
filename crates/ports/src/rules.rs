use std::sync::Arc;

use iotedge_model::{Message, Now};

use crate::{OnFull, Wake};

/// An outbox's number, given by the broker; never given twice in a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct OutboxId(pub usize);

/// One queue that a message is for, whatever its topic: no subscriber sees it and no rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// A rule action's outbox.
    Outbox(OutboxId),
    /// An outbound route of a bridge, by its name (`upstream/route`).
    Route(Arc<str>),
}

/// What rules make of one message.
#[derive(Debug, Default)]
pub struct RuleOutput {
    /// Messages to publish: they are accepted or refused together with their source.
    pub published: Vec<Message>,
    /// Messages for one queue each, in the same transaction.
    pub handed: Vec<(Target, Message)>,
}

/// Topic rules as the broker calls them: once for each message, at acceptance, in the publisher's
/// order, before anyone gets it.
pub trait RuleEngine: Send + Sync {
    /// Evaluates all enabled rules whose filter matches. What their actions publish is appended to
    /// `out`, with `hops` one more than the message's, its trace, principal and client id, and
    /// [`iotedge_model::Source::Rule`]; what they hand to one queue has the hops of the message. A
    /// failing rule is logged and counted and stops nothing.
    fn evaluate(&self, message: &Message, now: &Now, out: &mut RuleOutput);

    /// Whether a message on this topic would reach any rule; what nobody takes need not be made.
    fn concern(&self, topic: &str) -> bool {
        let _ = topic;
        true
    }
}

/// A durable queue that a rule's action is carried out from.
pub struct AttachOutbox {
    /// Its name for ever: its rows survive restarts under it.
    pub name: Arc<str>,
    /// Byte limit.
    pub max_bytes: u64,
    /// Message limit.
    pub max_messages: u64,
    /// What happens at the limit.
    pub on_full: OnFull,
    /// Is told of arrivals.
    pub wake: Arc<dyn Wake>,
}
