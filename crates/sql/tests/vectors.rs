//! The facts of the guides, one vector each (`tests/vectors/README.md`).
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use iotedge_model::{TraceId, UnixMillis};
use iotedge_sql::decimal::Decimal;
use iotedge_sql::{Host, Input, Payload, SqlVersion, Statement, Template, Variables, Via};
use regex::Regex;
use serde_json::Value as Json;

/// Vectors of what is not there yet. A listed one that passes fails the test, so the list shrinks.
const NOT_YET: &str = include_str!("vectors/not-yet.txt");

/// Rulings whose error can only be seen with the message at hand.
const FAILS_AT_EVALUATION: [&str; 2] = ["amb-sql-052", "amb-sql-069"];

enum Outcome {
    Refused(String),
    Failed(String),
    NoMatch,
    Output(Vec<u8>),
}

struct Surroundings<'v>(&'v Json);

impl Host for Surroundings<'_> {
    fn random(&self) -> u128 {
        0x0123_4567_89ab_cdef_0123_4567_89ab_cdef
    }
    fn shadow(&self, thing: &str, shadow: Option<&str>) -> Option<Json> {
        let all = self.0["context"]["shadows"].as_array()?;
        let found = all
            .iter()
            .find(|s| s["thing"] == thing && s["shadow_name"].as_str() == shadow)?;
        Some(serde_json::json!({ "state": found["state"], "version": 1 }))
    }
    fn thing(&self, _: &str) -> Option<Json> {
        None
    }
}

/// A payload or an expected value as bytes.
fn bytes_of(json: &Json) -> Vec<u8> {
    let special = json.as_object().filter(|o| o.len() == 1);
    if let Some(text) = special.and_then(|o| o.get("base64")?.as_str()) {
        return STANDARD.decode(text).unwrap();
    }
    if let Some(text) = special.and_then(|o| o.get("text")?.as_str()) {
        return text.as_bytes().to_vec();
    }
    json.to_string().into_bytes()
}

fn run(vector: &Json) -> Outcome {
    let text = |key: &str| vector[key].as_str().unwrap_or("");
    let context = &vector["context"];
    let of_context = |key: &str| context[key].as_str();
    let version = match vector["sql_version"].as_str().map(SqlVersion::parse) {
        None => SqlVersion::default(),
        Some(Ok(version)) => version,
        Some(Err(e)) => return Outcome::Refused(e.to_string()),
    };
    let statement = match Statement::parse(text("sql"), version) {
        Ok(statement) => statement,
        Err(e) => return Outcome::Refused(e.to_string()),
    };
    let payload = Payload::new(Bytes::from(bytes_of(&vector["payload"])));
    let host = Surroundings(vector);
    let variables = Variables::default();
    let input = Input {
        topic: text("topic"),
        payload: &payload,
        client_id: text("client_id"),
        principal: of_context("certificate_thumbprint").unwrap_or(""),
        via: match of_context("via") {
            Some("http") => Via::Other,
            _ => Via::Mqtt,
        },
        now: UnixMillis(1_700_000_000_000),
        account_id: of_context("account_id").unwrap_or("123456789012"),
        trace: TraceId(7),
        rule_name: of_context("rule_name").unwrap_or("r"),
        properties: None,
        source_ip: None,
        variables: &variables,
        host: &host,
    };
    if let Some(template) = vector["template"].as_str() {
        return match Template::parse(template, version).map(|t| t.evaluate(&input)) {
            Err(e) => Outcome::Refused(e.to_string()),
            Ok(Err(e)) => Outcome::Failed(e.to_string()),
            Ok(Ok(text)) => Outcome::Output(Json::String(text).to_string().into_bytes()),
        };
    }
    match statement.evaluate(&input) {
        Err(e) => Outcome::Failed(e.to_string()),
        Ok(None) => Outcome::NoMatch,
        Ok(Some(out)) => Outcome::Output(out.to_vec()),
    }
}

fn same_number(expected: &str, actual: &str, compare: &str) -> bool {
    match compare {
        "token" => expected == actual,
        "approx" => {
            let (e, a): (f64, f64) = (expected.parse().unwrap(), actual.parse().unwrap());
            e == a || (e - a).abs() <= 1e-9 * e.abs().max(a.abs()).max(1e-300)
        }
        _ => Decimal::parse_json(expected) == Decimal::parse_json(actual),
    }
}

fn type_of(json: &Json) -> &'static str {
    match json {
        Json::Null => "null",
        Json::Bool(_) => "boolean",
        Json::Number(n) if n.as_str().contains(['.', 'e', 'E']) => "decimal",
        Json::Number(_) => "int",
        Json::String(_) => "string",
        Json::Array(_) => "array",
        Json::Object(_) => "object",
    }
}

fn same(expected: &Json, actual: &Json, compare: &str) -> bool {
    match (expected, actual) {
        (Json::Object(e), Json::Object(a)) => {
            e.len() == a.len()
                && e.iter()
                    .all(|(k, e)| a.get(k).is_some_and(|a| same(e, a, compare)))
        }
        (Json::Array(e), Json::Array(a)) => {
            e.len() == a.len() && e.iter().zip(a).all(|(e, a)| same(e, a, compare))
        }
        (Json::String(pattern), Json::String(a)) if compare == "regex" => {
            Regex::new(pattern).unwrap().is_match(a)
        }
        (Json::String(pattern), Json::Number(a)) if compare == "regex" => {
            Regex::new(pattern).unwrap().is_match(a.as_str())
        }
        (Json::String(name), a) if compare == "type" => {
            name == type_of(a) || (name == "number" && a.is_number())
        }
        (Json::Number(e), Json::Number(a)) => same_number(e.as_str(), a.as_str(), compare),
        _ => expected == actual,
    }
}

/// `None` if the vector passes, else what came instead.
fn check(vector: &Json) -> Option<String> {
    let expect = &vector["expect"];
    let outcome = run(vector);
    let passes = match (expect["kind"].as_str().unwrap(), &outcome) {
        ("no_match", Outcome::NoMatch) => true,
        ("error", Outcome::Refused(_)) => true,
        ("error", Outcome::Failed(_)) => vector["depends_on"]
            .as_str()
            .is_some_and(|id| FAILS_AT_EVALUATION.contains(&id)),
        ("no_output", Outcome::NoMatch | Outcome::Refused(_)) => true,
        ("output" | "undefined_omitted", Outcome::Output(actual)) => {
            let expected = bytes_of(&expect["value"]);
            match (
                serde_json::from_slice(&expected),
                serde_json::from_slice(actual),
            ) {
                (Ok(e), Ok(a)) => same(&e, &a, vector["compare"].as_str().unwrap()),
                _ => expected == *actual,
            }
        }
        _ => false,
    };
    if passes {
        return None;
    }
    Some(match outcome {
        Outcome::Output(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        Outcome::Refused(why) => format!("refused: {why}"),
        Outcome::Failed(why) => format!("failed: {why}"),
        Outcome::NoMatch => "no match".into(),
    })
}

#[test]
fn every_vector_holds_but_those_listed_as_not_yet() {
    let vectors: Vec<Json> = serde_json::from_str(include_str!("vectors/sql.json")).unwrap();
    let mut not_yet: BTreeSet<&str> = NOT_YET
        .lines()
        .map(|l| l.split('#').next().unwrap_or("").trim())
        .filter(|l| !l.is_empty())
        .collect();
    let mut wrong = Vec::new();
    for vector in &vectors {
        let id = vector["id"].as_str().unwrap();
        match (check(vector), not_yet.remove(id)) {
            (None, false) | (Some(_), true) => {}
            (None, true) => wrong.push(format!("{id}: passes, so take it off not-yet.txt")),
            (Some(got), false) => wrong.push(format!(
                "{id}: {}\n    payload  {}\n    expected {}\n    got      {got}",
                vector["sql"], vector["payload"], vector["expect"],
            )),
        }
    }
    wrong.extend(
        not_yet
            .iter()
            .map(|id| format!("{id}: listed, but no vector")),
    );
    assert!(
        wrong.is_empty(),
        "{} of {} vectors:\n{}",
        wrong.len(),
        vectors.len(),
        wrong.join("\n")
    );
}
