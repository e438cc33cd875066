//! What statements ask of the gateway.

use std::sync::Arc;

use iotedge_model::{ShadowName, ThingName};
use iotedge_ports::{ShadowReader, ThingFacts};
use iotedge_sql::Host;
use serde_json::{Value as Json, json};

/// Randomness of the operating system, the shadows and the things of this gateway.
pub(crate) struct GatewayHost {
    pub(crate) shadows: Option<Arc<dyn ShadowReader>>,
    pub(crate) things: Option<Arc<dyn ThingFacts>>,
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

    fn thing(&self, thing: &str) -> Option<Json> {
        let record = self.things.as_ref()?.thing(thing)?;
        let attributes: serde_json::Map<String, Json> = record
            .attributes
            .iter()
            .map(|(name, value)| (name.clone(), Json::String(value.clone())))
            .collect();
        let mut described = json!({
            "defaultClientId": thing,
            "thingName": thing,
            "attributes": attributes,
        });
        if let (Some(thing_type), Some(members)) = (&record.thing_type, described.as_object_mut()) {
            members.insert("thingTypeName".into(), Json::String(thing_type.clone()));
        }
        Some(described)
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
