//! A statement and a template from any text, evaluated with any payload.
#![no_main]

use bytes::Bytes;
use iotedge_model::{TraceId, UnixMillis};
use iotedge_sql::{Host, Input, Payload, SqlVersion, Statement, Template, Variables, Via};
use libfuzzer_sys::fuzz_target;

struct Nothing;

impl Host for Nothing {
    fn random(&self) -> u128 {
        0
    }
    fn shadow(&self, _: &str, _: Option<&str>) -> Option<serde_json::Value> {
        None
    }
    fn thing(&self, _: &str) -> Option<serde_json::Value> {
        None
    }
}

// The text up to the first NUL is the statement, the rest the payload.
fuzz_target!(|data: &[u8]| {
    let (sql, payload) = match data.iter().position(|b| *b == 0) {
        Some(at) => (&data[..at], &data[at + 1..]),
        None => (data, &b"{\"a\":1}"[..]),
    };
    let Ok(sql) = std::str::from_utf8(sql) else {
        return;
    };
    let payload = Payload::new(Bytes::copy_from_slice(payload));
    let input = Input {
        topic: "a/b",
        payload: &payload,
        client_id: "c",
        principal: "p",
        via: Via::Mqtt,
        now: UnixMillis(1),
        account_id: "1",
        trace: TraceId(1),
        rule_name: "r",
        properties: None,
        source_ip: None,
        variables: &Variables::default(),
        host: &Nothing,
    };
    for version in [SqlVersion::V2015, SqlVersion::V2016] {
        if let Ok(statement) = Statement::parse(sql, version) {
            let _ = statement.evaluate(&input);
        }
        if let Ok(template) = Template::parse(sql, version) {
            let _ = template.evaluate(&input);
        }
    }
});
