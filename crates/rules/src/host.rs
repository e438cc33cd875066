//! What statements ask of the gateway.

use std::sync::Arc;

use iotedge_model::{ShadowName, ThingName};
use iotedge_ports::ShadowReader;
use iotedge_sql::Host;
use serde_json::Value as Json;

/// Randomness of the operating system and the shadows of this gateway.
pub(crate) struct GatewayHost {
    pub(crate) shadows: Option<Arc<dyn ShadowReader>>,
}

impl Host for GatewayHost {
    fn random(&self) -> u128 {
        random()
    }

    fn shadow(&self, thing: &str, shadow: Option<&str>) -> Option<Json> {
        let thing = ThingName::new(thing).ok()?;
        let shadow = match shadow {
            Some(name) => Some(ShadowName::new(name).ok()?),
            None => None,
        };
        self.shadows.as_ref()?.shadow(&thing, shadow.as_ref())
    }

    fn thing(&self, _: &str) -> Option<Json> {
        None
    }
}

/// 128 random bits.
pub(crate) fn random() -> u128 {
    let mut bytes = [0; 16];
    // Fails only where the kernel has no random source at all; the hasher's keys are then the best
    // there is.
    if getrandom::fill(&mut bytes).is_err() {
        use std::hash::{BuildHasher, RandomState};
        let part = || u128::from(RandomState::new().hash_one(std::time::Instant::now()));
        return (part() << 64) | part();
    }
    u128::from_ne_bytes(bytes)
}
