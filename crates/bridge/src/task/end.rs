//! Why a connection ended.

use crate::uplink::{Ended, Layer};

/// What ended a connection against our will.
#[derive(Debug)]
pub(crate) struct Fault {
    /// In an operator's words.
    pub(crate) text: String,
    /// The other side said that it was a PUBLISH.
    pub(crate) names_the_message: bool,
}

impl Fault {
    pub(crate) fn new(ended: &Ended, text: String) -> Self {
        Self {
            text,
            names_the_message: ended.layer == Layer::Mqtt
                && ended.code.is_some_and(names_a_message),
        }
    }
}

impl From<String> for Fault {
    fn from(text: String) -> Self {
        Self {
            text,
            names_the_message: false,
        }
    }
}

/// DISCONNECT codes that a server gives for a PUBLISH that it will never take (MQTT 5, 3.14.2.1): not
/// authorized, topic name invalid, packet too large, payload format invalid, retain or QoS not
/// supported.
fn names_a_message(code: u8) -> bool {
    matches!(code, 0x87 | 0x90 | 0x95 | 0x99 | 0x9A | 0x9B)
}

/// Why a connection ended.
#[derive(Debug)]
pub(crate) enum End {
    /// An operator or the daemon wants something else, or a fresh connection is needed.
    Desired,
    /// It failed.
    Lost(Fault),
    /// It says nothing any more.
    Silent(String),
    /// What the clock says is not certain enough.
    Clock(String),
    /// We ended it: what comes in can not be taken now.
    Held(String),
    /// The upstream or our own files say no.
    Refused(String),
}
