//! Why a message went without being delivered. Every drop has one of these and is counted by it.

use std::fmt;

macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident = $text:literal),* $(,)?) => {
        /// Why a message went without being delivered.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum DropReason {
            $($(#[$doc])* $name),*
        }
        impl DropReason {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];
            /// The name in metrics, in `iotedgectl` and in the store.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$name => $text),* }
            }
        }
    };
}

reasons! {
    /// `iot:Receive` was denied at delivery.
    Policy = "policy",
    /// The taker's queue was at its count or byte limit.
    QueueFull = "queue-full",
    /// A QoS 0 message for a taker that did not keep up.
    SlowConsumer = "slow-consumer",
    /// A publish beyond the rate that a client has.
    Throttled = "throttled",
    /// Its expiry had passed.
    Expired = "expired",
    /// The session it waited for ended.
    SessionEnded = "session-ended",
    /// The receiver can not take a packet of that size.
    TooLarge = "too-large",
    /// Republished more often than the limit.
    Loop = "loop",
    /// A QoS 0 message that a full store shed.
    StoreFull = "store-full",
    /// The upstream refused it for good.
    UpstreamRefused = "upstream-refused",
    /// The action of a rule failed for good; kept aside as a dead letter.
    ActionFailed = "action-failed",
    /// The route or taker it was queued for was removed.
    TakerRemoved = "taker-removed",
    /// The topic that a route or rule made of it is not valid.
    BadTopic = "bad-topic",
    /// Its row was in a damaged file and could not be read again.
    Damaged = "damaged",
}

impl DropReason {
    /// From its name.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|r| r.as_str() == text)
    }
}

impl fmt::Display for DropReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
