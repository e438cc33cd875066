//! Topic aliases (MQTT 5, 3.3.2.3.4): numbers that stand for topics, each direction its own, as long
//! as the connection lasts.

use std::collections::BTreeMap;
use std::num::NonZeroU16;

use iotedge_model::Topic;

/// What clients call their topics.
#[derive(Default)]
pub(crate) struct AliasesIn(BTreeMap<NonZeroU16, Topic>);

impl AliasesIn {
    pub(crate) fn set(&mut self, alias: NonZeroU16, topic: Topic) {
        self.0.insert(alias, topic);
    }

    pub(crate) fn get(&self, alias: NonZeroU16) -> Option<&Topic> {
        self.0.get(&alias)
    }
}

/// How a topic is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Naming {
    /// By its name alone.
    Name,
    /// By its name, and with an alias for the next time: to be confirmed by [`AliasesOut::said`].
    New(NonZeroU16),
    /// By its alias alone.
    Known(NonZeroU16),
}

/// The first topics of a connection have aliases, and keep them. Nothing for a client that takes none.
pub(crate) struct AliasesOut(Option<Box<Named>>);

struct Named {
    known: BTreeMap<Topic, NonZeroU16>,
    maximum: u16,
}

impl AliasesOut {
    /// For a client that takes aliases up to `maximum`.
    pub(crate) fn new(maximum: u16) -> Self {
        Self((maximum > 0).then(|| {
            Box::new(Named {
                known: BTreeMap::new(),
                maximum,
            })
        }))
    }

    /// Whether the client takes any.
    pub(crate) fn are_used(&self) -> bool {
        self.0.is_some()
    }

    pub(crate) fn name(&self, topic: &Topic) -> Naming {
        let Some(named) = &self.0 else {
            return Naming::Name;
        };
        if let Some(alias) = named.known.get(topic) {
            return Naming::Known(*alias);
        }
        let next = u16::try_from(named.known.len() + 1).unwrap_or(u16::MAX);
        match NonZeroU16::new(next) {
            Some(alias) if next <= named.maximum => Naming::New(alias),
            _ => Naming::Name,
        }
    }

    /// The client has been told.
    pub(crate) fn said(&mut self, topic: &Topic, alias: NonZeroU16) {
        if let Some(named) = &mut self.0 {
            named.known.insert(topic.clone(), alias);
        }
    }
}
