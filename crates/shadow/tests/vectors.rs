//! The facts of the guides, as `tests/vectors/shadow.json` lists them, against the whole service.
#![allow(clippy::unwrap_used)] // a test that panics has failed

#[path = "support/house.rs"]
mod support;

use std::sync::{Arc, Mutex};

use iotedge_model::{Principal, PrincipalKind, TraceId};
use iotedge_ports::{HttpMount, HttpRequest, Method};
use iotedge_shadow::ShadowHttp;
use serde_json::{Map, Value, json};
use support::{House, MemoryStore, TestAuthorizer, block_on};

/// What earlier steps have shown.
#[derive(Default)]
struct Seen {
    timestamps: Vec<Option<u64>>,
    tokens: Vec<Option<String>>,
}

/// Replaces `{"$str": n}`, `{"$attrs": …}` and `<index>`.
fn expand(value: &Value, index: usize) -> Value {
    match value {
        Value::Object(object) => {
            if let Some(n) = object.get("$str").and_then(Value::as_u64) {
                return "x".repeat(n as usize).into();
            }
            if let Some(attrs) = object.get("$attrs") {
                let count = attrs["count"].as_u64().unwrap();
                let prefix = attrs["prefix"].as_str().unwrap();
                return (1..=count)
                    .map(|i| (format!("{prefix}{i}"), attrs["value"].clone()))
                    .collect();
            }
            object
                .iter()
                .map(|(k, v)| (k.clone(), expand(v, index)))
                .collect()
        }
        Value::Array(items) => items.iter().map(|v| expand(v, index)).collect(),
        Value::String(text) if text == "<index>" => json!(index),
        other => other.clone(),
    }
}

fn decode_base64(text: &str) -> Vec<u8> {
    const DIGITS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let (mut out, mut bits, mut count) = (Vec::new(), 0u32, 0);
    for byte in text.bytes().filter(|b| *b != b'=') {
        let digit = DIGITS.iter().position(|d| *d == byte).unwrap() as u32;
        bits = bits << 6 | digit;
        count += 6;
        if count >= 8 {
            count -= 8;
            out.push((bits >> count & 0xff) as u8);
        }
    }
    out
}

fn request_bytes(request: &Value, index: usize) -> Vec<u8> {
    if let Some(raw) = request.get("$raw").and_then(Value::as_str) {
        return raw.as_bytes().to_vec();
    }
    if let Some(base64) = request.get("$base64").and_then(Value::as_str) {
        return decode_base64(base64);
    }
    match request {
        Value::String(text) if text.is_empty() => Vec::new(),
        Value::Null => Vec::new(),
        other => expand(other, index).to_string().into_bytes(),
    }
}

fn same_number(a: &Value, b: &Value) -> bool {
    a == b || matches!((a.as_f64(), b.as_f64()), (Some(a), Some(b)) if a == b)
}

fn match_text(expected: &str, actual: &Value, seen: &Seen) -> Option<bool> {
    let inner = expected.strip_prefix('<')?.strip_suffix('>')?;
    Some(match inner.split_once([':', '@']) {
        None => match inner {
            "any" => true,
            "timestamp" => actual.as_u64().is_some_and(|t| t > 1_600_000_000),
            "int" => actual.is_u64() || actual.is_i64(),
            "string" => actual.is_string(),
            _ => return None,
        },
        Some(("ts", step)) => {
            let wanted = seen.timestamps[step.parse::<usize>().unwrap()];
            wanted.is_some() && actual.as_u64() == wanted
        }
        Some(("nextToken", step)) => {
            actual.as_str() == seen.tokens[step.parse::<usize>().unwrap()].as_deref()
        }
        Some(("gt", n)) => actual.as_i64().unwrap() > n.parse().unwrap(),
        Some(("array", n)) => actual.as_array().unwrap().len() == n.parse::<usize>().unwrap(),
        Some(_) => return None,
    })
}

fn matches(expected: &Value, actual: &Value, path: &str, extra: &[&str], seen: &Seen) -> bool {
    match (expected, actual) {
        (Value::String(text), actual) => {
            match_text(text, actual, seen).unwrap_or(expected == actual)
        }
        (Value::Object(object), actual) if object.contains_key("$set") => {
            let mut left: Vec<&Value> = actual.as_array().unwrap().iter().collect();
            object["$set"].as_array().unwrap().iter().all(|wanted| {
                let found = left
                    .iter()
                    .position(|a| matches(wanted, a, path, extra, seen));
                found.map(|i| left.remove(i)).is_some()
            }) && left.is_empty()
        }
        (Value::Object(wanted), Value::Object(is)) => {
            let inside = |key: &str| match path {
                "" => key.to_owned(),
                path => format!("{path}.{key}"),
            };
            wanted.iter().all(|(k, w)| {
                is.get(k)
                    .is_some_and(|a| matches(w, a, &inside(k), extra, seen))
            }) && is.keys().all(|k| {
                wanted.contains_key(k) || extra.contains(&"*") || extra.contains(&&*inside(k))
            })
        }
        (Value::Array(wanted), Value::Array(is)) => {
            wanted.len() == is.len()
                && wanted
                    .iter()
                    .zip(is)
                    .all(|(w, a)| matches(w, a, path, extra, seen))
        }
        (Value::Number(_), Value::Number(_)) => same_number(expected, actual),
        (expected, actual) => expected == actual,
    }
}

fn matches_entry(entry: &Value, actual: &Value, seen: &Seen) -> bool {
    let extra: Vec<&str> = entry
        .get("allow_extra")
        .and_then(Value::as_array)
        .map(|a| a.iter().filter_map(Value::as_str).collect())
        .unwrap_or_default();
    matches(&expand(&entry["payload"], 0), actual, "", &extra, seen)
}

struct Run {
    house: House,
    store: Arc<MemoryStore>,
    http: ShadowHttp,
    seen: Seen,
}

impl Run {
    fn new() -> Self {
        let store = Arc::new(MemoryStore::default());
        let house = House::new(store.clone());
        let authorizer = Arc::new(TestAuthorizer(Mutex::default()));
        let http = ShadowHttp::new(house.service.clone(), authorizer);
        Self {
            house,
            store,
            http,
            seen: Seen::default(),
        }
    }

    fn prefix(step: &Value) -> String {
        let thing = step["thing"].as_str().unwrap();
        match step.get("shadow_name").and_then(Value::as_str) {
            None => format!("$aws/things/{thing}/shadow/"),
            Some(name) => format!("$aws/things/{thing}/shadow/name/{name}/"),
        }
    }

    fn http(&self, step: &Value) -> (u16, Value) {
        let thing = step["thing"].as_str().unwrap();
        let mut query = Vec::new();
        let mut add = |parameter: &str, member: &str| {
            let text = match step.get(member) {
                Some(Value::String(token)) => match token.strip_prefix("<nextToken@") {
                    Some(step) => {
                        let step: usize = step.trim_end_matches('>').parse().unwrap();
                        self.seen.tokens[step].clone().unwrap()
                    }
                    None => token.clone(),
                },
                Some(other) => other.to_string(),
                None => return,
            };
            query.push((parameter.to_owned(), text));
        };
        add("name", "shadow_name");
        add("pageSize", "page_size");
        add("nextToken", "next_token");
        let (method, path) = match step["op"].as_str().unwrap() {
            "get" => (Method::Get, format!("/things/{thing}/shadow")),
            "update" => (Method::Post, format!("/things/{thing}/shadow")),
            "delete" => (Method::Delete, format!("/things/{thing}/shadow")),
            _ => (
                Method::Get,
                format!("/api/things/shadow/ListNamedShadowsForThing/{thing}"),
            ),
        };
        assert!(self.http.takes(method, &path));
        let response = block_on(self.http.handle(HttpRequest {
            method,
            path,
            query,
            body: request_bytes(&step["request"], 0).into(),
            principal: Arc::new(Principal {
                kind: PrincipalKind::LocalUser {
                    uid: 0,
                    listener: None,
                },
            }),
            remote: None,
            trace: TraceId(1),
            link: iotedge_ports::HttpLink::default(),
        }));
        (
            response.status,
            serde_json::from_slice(&response.body).unwrap(),
        )
    }

    fn burst(&self, step: &Value, messages: &mut Vec<(String, Value)>) {
        let count = step["count"].as_u64().unwrap() as usize;
        let topic = format!("{}update", Self::prefix(step));
        self.store.hold();
        for index in 0..count {
            self.house
                .send(&topic, request_bytes(&step["request"], index));
        }
        self.store.release(&Ok(()));
        self.house.acks.wait(count);
        messages.extend(self.house.broker.take());
    }

    /// Runs one step; the complaints come back.
    fn step(&mut self, step: &Value) -> Vec<String> {
        let mut wrong = Vec::new();
        self.house.clock.advance_seconds(2);
        let prefix = Self::prefix(step);
        let op = step["op"].as_str().unwrap();
        let mut messages = Vec::new();
        let mut body = None;
        if op == "burst" {
            self.burst(step, &mut messages);
        } else if step["via"] == "http" {
            let (status, answer) = self.http(step);
            if step.get("http_status").is_some_and(|s| s != status) {
                wrong.push(format!("status {status}"));
            }
            body = Some(answer);
            messages.extend(self.house.broker.take());
        } else {
            let request = request_bytes(&step["request"], 0);
            messages.extend(self.house.ask(&format!("{prefix}{op}"), request));
        }
        let found: Vec<(&str, &Value)> = messages
            .iter()
            .filter_map(|(topic, payload)| Some((topic.strip_prefix(&prefix)?, payload)))
            .collect();
        let answers = found.iter().map(|(_, p)| *p).chain(body.as_ref());
        let timestamp = answers.clone().find_map(|a| a["timestamp"].as_u64());
        self.seen.timestamps.push(timestamp);
        let token = body.as_ref().and_then(|b| b["nextToken"].as_str());
        self.seen.tokens.push(token.map(str::to_owned));
        let none = Vec::new();
        for entry in step["expect"].as_array().unwrap_or(&none) {
            let suffix = entry["topic_suffix"].as_str().unwrap();
            let is = |(s, p): &&(&str, &Value)| *s == suffix && matches_entry(entry, p, &self.seen);
            if !found.iter().any(|f| is(&f)) {
                wrong.push(format!("missing {entry}"));
            }
        }
        for suffix in step["expect_none"].as_array().unwrap_or(&none) {
            if found.iter().any(|(s, _)| suffix == s) {
                wrong.push(format!("unexpected {suffix}"));
            }
        }
        let counts = Map::new();
        for (suffix, count) in step["expect_counts"].as_object().unwrap_or(&counts) {
            let is = found.iter().filter(|(s, _)| s == suffix).count();
            if json!(is) != *count {
                wrong.push(format!("{is} of {suffix}"));
            }
        }
        if let Some(entry) = step.get("rejected_payload") {
            for (_, payload) in found.iter().filter(|(s, _)| s.ends_with("rejected")) {
                if !matches_entry(entry, payload, &self.seen) {
                    wrong.push(format!("rejected with {payload}"));
                }
            }
        }
        if let (Some(entry), Some(body)) = (step.get("http_body"), &body) {
            if !matches_entry(entry, body, &self.seen) {
                wrong.push(format!("body {body} for {entry}"));
            }
        }
        if !wrong.is_empty() {
            wrong.push(format!("published {found:?}"));
        }
        wrong
    }
}

#[test]
fn every_vector_of_the_guides_holds() {
    let vectors: Vec<Value> = serde_json::from_str(include_str!("vectors/shadow.json")).unwrap();
    assert!(vectors.len() >= 80);
    let mut failed = Vec::new();
    for vector in &vectors {
        let mut run = Run::new();
        for (i, step) in vector["steps"].as_array().unwrap().iter().enumerate() {
            let wrong = run.step(step);
            if !wrong.is_empty() {
                failed.push(format!(
                    "{} step {i}: {}",
                    vector["id"],
                    wrong.join("\n    ")
                ));
                break;
            }
        }
    }
    assert!(
        failed.is_empty(),
        "{} failed:\n{}",
        failed.len(),
        failed.join("\n")
    );
}
