//! What a statement is evaluated for.

use std::cell::OnceCell;
use std::net::IpAddr;

use bytes::Bytes;
use iotedge_model::{Properties, TraceId, UnixMillis, json};
use serde_json::Value as Json;

use crate::Variables;

/// A payload, parsed at most once whatever the number of rules that look into it.
#[derive(Debug)]
pub struct Payload {
    bytes: Bytes,
    json: OnceCell<Option<Json>>,
}

impl Payload {
    /// Parses nothing yet.
    pub fn new(bytes: Bytes) -> Self {
        Self {
            bytes,
            json: OnceCell::new(),
        }
    }

    /// As received.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// As JSON; `None` if it is none (or nested more than 127 deep).
    pub fn json(&self) -> Option<&Json> {
        self.json
            .get_or_init(|| read_json(&self.bytes).ok())
            .as_ref()
    }
}

/// A document from outside; see [`iotedge_model::json`].
pub(crate) fn read_json(text: &[u8]) -> serde_json::Result<Json> {
    if json::may_be_reserved(text) {
        serde_json::from_slice::<json::Plain>(text)?;
    }
    serde_json::from_slice(text)
}

/// How a message came, for `clientid()`, `principal()` and `traceid()`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Via {
    /// Over MQTT, with or without WebSocket.
    Mqtt,
    /// Over HTTP or from inside the gateway.
    Other,
}

/// What a statement asks of its surroundings.
pub trait Host {
    /// 128 random bits, for `rand()` and `newuuid()`.
    fn random(&self) -> u128;
    /// A shadow's document, for `get_thing_shadow()`; `None` if there is none.
    fn shadow(&self, thing: &str, shadow: Option<&str>) -> Option<Json>;
    /// What DescribeThing says of a thing, for `get_registry_data()`; `None` if there is none.
    fn thing(&self, thing: &str) -> Option<Json>;
}

/// A message, as a statement sees it.
#[derive(Clone, Copy)]
pub struct Input<'a> {
    /// Its topic, whole.
    pub topic: &'a str,
    /// Its payload.
    pub payload: &'a Payload,
    /// The publisher's client id.
    pub client_id: &'a str,
    /// The publisher's principal: a certificate's id.
    pub principal: &'a str,
    /// How it came.
    pub via: Via,
    /// `timestamp()`.
    pub now: UnixMillis,
    /// `accountid()`: the account that owns the rule.
    pub account_id: &'a str,
    /// `traceid()`.
    pub trace: TraceId,
    /// The rule's name: messages on `$aws/rules/NAME/topic` reach it without the broker.
    pub rule_name: &'a str,
    /// The MQTT 5 properties, for `get_mqtt_property()` and `get_user_properties()`.
    pub properties: Option<&'a Properties>,
    /// The peer's address, for `sourceip()`.
    pub source_ip: Option<IpAddr>,
    /// The values of SET: new for each message and rule, the same for its statement and templates.
    pub variables: &'a Variables,
    /// Randomness, shadows and things.
    pub host: &'a dyn Host,
}

impl<'a> Input<'a> {
    /// What follows `$aws/rules/NAME/` if the message was sent to this rule alone.
    pub(crate) fn basic_ingest(&self) -> Option<&'a str> {
        self.topic
            .strip_prefix("$aws/rules/")?
            .strip_prefix(self.rule_name)?
            .strip_prefix('/')
    }

    /// The topic for FROM and `topic()`: without `$aws/rules/NAME/`.
    pub(crate) fn effective_topic(&self) -> &'a str {
        self.basic_ingest().unwrap_or(self.topic)
    }
}
