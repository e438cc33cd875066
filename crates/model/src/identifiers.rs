//! Subscription identifiers (MQTT 5, 3.8.2.1.2).

use std::ops::Deref;
use std::sync::Arc;

/// The identifiers of the subscriptions that a delivery came by, shared between copies. Most
/// deliveries have none, which costs nothing to copy.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SubscriptionIds(Option<Arc<[u32]>>);

impl SubscriptionIds {
    /// No identifier.
    pub const NONE: Self = Self(None);
}

impl Deref for SubscriptionIds {
    type Target = [u32];
    fn deref(&self) -> &[u32] {
        self.0.as_deref().unwrap_or_default()
    }
}

impl From<Vec<u32>> for SubscriptionIds {
    fn from(ids: Vec<u32>) -> Self {
        Self((!ids.is_empty()).then(|| ids.into()))
    }
}

impl FromIterator<u32> for SubscriptionIds {
    fn from_iter<I: IntoIterator<Item = u32>>(ids: I) -> Self {
        ids.into_iter().collect::<Vec<_>>().into()
    }
}
