//! A message for statements, where nothing of its surroundings counts.
#![allow(dead_code)] // each test uses its part

use iotedge_model::{TraceId, UnixMillis};
use iotedge_sql::{Host, Input, Payload, Variables, Via};
use serde_json::Value as Json;

/// A gateway without things and shadows.
pub struct Nothing;

impl Host for Nothing {
    fn random(&self) -> u128 {
        1
    }
    fn shadow(&self, _: &str, _: Option<&str>) -> Option<Json> {
        None
    }
    fn thing(&self, _: &str) -> Option<Json> {
        None
    }
}

/// A message on this topic with this payload. A statement that sets variables needs its own.
pub fn input<'a>(topic: &'a str, payload: &'a Payload, variables: &'a Variables) -> Input<'a> {
    Input {
        topic,
        payload,
        client_id: "c",
        principal: "p",
        via: Via::Mqtt,
        now: UnixMillis(1),
        account_id: "1",
        trace: TraceId(1),
        rule_name: "r",
        properties: None,
        source_ip: None,
        variables,
        host: &Nothing,
    }
}
