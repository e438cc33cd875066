use iotedge_model::{Message, Now};

/// Topic rules as the broker calls them: once for each message, at acceptance, in the publisher's
/// order, before anyone gets it.
pub trait RuleEngine: Send + Sync {
    /// Evaluates all enabled rules whose filter matches. What their actions publish is appended to
    /// `out`, with `hops` one more than the message's, its trace, principal and client id, and
    /// [`iotedge_model::Source::Rule`]. A failing rule is logged and counted and stops nothing.
    fn evaluate(&self, message: &Message, now: &Now, out: &mut Vec<Message>);

    /// Whether a message on this topic would reach any rule; what nobody takes need not be made.
    fn concern(&self, topic: &str) -> bool {
        let _ = topic;
        true
    }
}
