//! One expression in every place that takes one: what SELECT VALUE gives, a template writes, WHERE
//! decides and an explanation shows must be the same value, twice in a row, as JSON, within bounds.
#![no_main]

use bytes::Bytes;
use iotedge_model::{TraceId, UnixMillis};
use iotedge_sql::{
    EvalError, Host, Input, Payload, SqlVersion, Statement, Template, Variables, Via, explain,
};
use libfuzzer_sys::fuzz_target;
use serde_json::{Value as Json, json};

/// Largest output: the limit of a value, each byte of it escaped.
const MAX_OUTPUT: usize = 8 * 1024 * 1024;

struct Gateway;

impl Host for Gateway {
    fn random(&self) -> u128 {
        0x0123_4567_89ab_cdef_0123_4567_89ab_cdef
    }
    fn shadow(&self, thing: &str, _: Option<&str>) -> Option<Json> {
        (thing == "t").then(|| json!({"state": {"reported": {"a": 1.50}}}))
    }
    fn thing(&self, thing: &str) -> Option<Json> {
        (thing == "t").then(|| json!({"thingName": "t"}))
    }
}

fn with_input<T>(payload: &[u8], f: impl FnOnce(&Input<'_>) -> T) -> T {
    let payload = Payload::new(Bytes::copy_from_slice(payload));
    let variables = Variables::default();
    f(&Input {
        topic: "a/b",
        payload: &payload,
        client_id: "c",
        principal: "p",
        via: Via::Mqtt,
        now: UnixMillis(1_700_000_000_000),
        account_id: "1",
        trace: TraceId(1),
        rule_name: "r",
        properties: None,
        source_ip: None,
        variables: &variables,
        host: &Gateway,
    })
}

fn evaluate(
    sql: &str,
    version: SqlVersion,
    payload: &[u8],
) -> Option<Result<Option<Bytes>, EvalError>> {
    let statement = Statement::parse(sql, version).ok()?;
    Some(with_input(payload, |input| statement.evaluate(input)))
}

/// What a template writes for this value.
fn as_text(out: &[u8]) -> String {
    let text = std::str::from_utf8(out).expect("an output is UTF-8");
    if text.is_empty() {
        return String::new();
    }
    match serde_json::from_str(text).expect("an output is JSON") {
        Json::Null => String::new(),
        Json::String(text) => text,
        _ => text.to_owned(),
    }
}

// The text up to the first NUL is the expression, the rest the payload.
fuzz_target!(|data: &[u8]| {
    let (expr, payload) = match data.iter().position(|b| *b == 0) {
        Some(at) => (&data[..at], &data[at + 1..]),
        None => (data, &br#"{"a":1,"b":"x","e":[{"v":2.50},{"v":"7"}],"o":{"p":null}}"#[..]),
    };
    let Ok(expr) = std::str::from_utf8(expr) else {
        return;
    };
    for version in [SqlVersion::V2015, SqlVersion::V2016] {
        let sql = format!("SELECT VALUE ({expr}) FROM 'a/b'");
        let Some(value) = evaluate(&sql, version, payload) else {
            continue;
        };
        assert_eq!(evaluate(&sql, version, payload), Some(value.clone()), "twice");
        let condition = format!("SELECT * FROM 'a/b' WHERE ({expr})");
        let decided = evaluate(&condition, version, payload).expect("the same expression");
        let template = Template::parse(&format!("${{({expr})}}"), version);
        let clauses = with_input(payload, |input| explain(&sql, version, input));
        let shown = clauses.expect("the same statement");
        match value {
            Ok(Some(out)) => {
                assert!(out.len() <= MAX_OUTPUT, "{} bytes", out.len());
                let text = as_text(&out);
                let decides = text.eq_ignore_ascii_case("true");
                assert_eq!(decided.expect("evaluates").is_some(), decides, "{text}");
                // A template's `}` ends it, so not every expression is one there.
                if let Ok(template) = template {
                    let written = with_input(payload, |input| template.evaluate(input));
                    // Numbers may have their exponent's letter in either case.
                    let written = written.expect("evaluates").to_lowercase();
                    assert_eq!(written, text.to_lowercase());
                }
            }
            Ok(None) => unreachable!("there is no WHERE"),
            // The output of an array is an error of its own in the first version.
            Err(EvalError::ArrayOutput) => {}
            Err(error) => {
                let last = shown.iter().find(|c| c.clause == "SELECT").expect("an item");
                // Limits are of a whole evaluation, and its output is a part of that.
                if !matches!(error, EvalError::TooLarge(_) | EvalError::TooMuchWork(_)) {
                    assert!(last.value.starts_with("error: "), "{error}: {}", last.value);
                }
            }
        }
    }
});
