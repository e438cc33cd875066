//! What rules cost, in one run: a statement beside a bare serde_json parse of the same payload, a
//! message that matches one of 1,000 rules beside one that matches the only rule, and the memory of
//! an idle rule.
#![forbid(unsafe_code)]

use std::hint::black_box;
use std::time::{Duration, Instant};

use bytes::Bytes;
use iotedge_model::{Message, Now, QoS, Source, Topic, TraceId, UnixMillis};
use iotedge_ports::{RuleEngine, RuleOutput};
use iotedge_rules::{Engine, Rule, parse_rule};
use iotedge_sql::{Host, Input, Payload, SqlVersion, Statement, Variables, Via};
use serde_json::Value as Json;

/// Rounds; both sides take turns, and the medians are compared.
const ROUNDS: usize = 41;
/// Messages a round.
const MESSAGES: usize = 5_000;
/// Rules for the memory of one.
const RULES: usize = 1_000;

const SQL: &str = "SELECT *, topic() AS t FROM 'a/#' WHERE temp > 50";
/// The guide's payload ("WHERE Clause").
const PAYLOAD: &str = r#"{"deviceid":"iot123","temp":54.98,"humidity":32.43,"coords":{"latitude":47.615694,"longitude":-122.3359976}}"#;
const NOW: Now = Now {
    mono: 1,
    wall: UnixMillis(1_700_000_000_000),
    trusted: true,
};

struct Nothing;

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

type Failed = Box<dyn std::error::Error>;

fn main() -> Result<(), Failed> {
    // First, while the process holds nothing else.
    memory(RULES)?;
    for (name, payload) in [("guide", PAYLOAD.to_owned()), ("1 KB", large())] {
        statement(name, &payload)?;
    }
    engine()
}

/// Sixteen sensors' values.
fn large() -> String {
    let more: Vec<String> = (0..16)
        .map(|n| format!(r#""sensor{n}":{{"v":{n}.25,"unit":"celsius","at":17000000000{n:02}}}"#))
        .collect();
    format!(r#"{{"temp":54.98,{}}}"#, more.join(","))
}

/// The median of what both sides take for one message, in nanoseconds.
fn turns(mut a: impl FnMut(), mut b: impl FnMut()) -> (f64, f64) {
    let time = |f: &mut dyn FnMut()| {
        let start = Instant::now();
        for _ in 0..MESSAGES {
            f();
        }
        start.elapsed()
    };
    let mut found: [Vec<Duration>; 2] = Default::default();
    for _ in 0..ROUNDS {
        found[0].push(time(&mut a));
        found[1].push(time(&mut b));
    }
    let [a, b] = found.map(|mut all| {
        all.sort();
        let median = all.get(all.len() / 2).copied().unwrap_or_default();
        median.as_nanos() as f64 / MESSAGES as f64
    });
    (a, b)
}

fn statement(name: &str, payload: &str) -> Result<(), Failed> {
    let statement = Statement::parse(SQL, SqlVersion::V2016)?;
    let bytes = Bytes::from(payload.to_owned());
    let (bare, rule) = turns(
        || {
            let parsed: Result<Json, _> = serde_json::from_slice(black_box(&bytes));
            drop(black_box(parsed));
        },
        || {
            let payload = Payload::new(black_box(&bytes).clone());
            let variables = Variables::default();
            let out = statement.evaluate(&Input {
                topic: "a/b",
                payload: &payload,
                client_id: "c",
                principal: "p",
                via: Via::Mqtt,
                now: NOW.wall,
                account_id: "000000000000",
                trace: TraceId(1),
                rule_name: "r",
                properties: None,
                source_ip: None,
                variables: &variables,
                host: &Nothing,
            });
            drop(black_box(out));
        },
    );
    println!(
        "statement, {name} payload of {} bytes: parse {bare:.0} ns, statement with its parse {rule:.0} ns, ratio {:.2}",
        payload.len(),
        rule / bare
    );
    Ok(())
}

fn rule(n: usize) -> Result<Rule, Failed> {
    let sql = format!("SELECT *, topic() AS t FROM 'plant/{n}/#' WHERE temp > 50");
    let text = format!(
        r#"{{"awsIotSqlVersion": "2016-03-23", "sql": "{sql}", "actions": [{{"republish": {{"topic": "out/${{topic(2)}}", "qos": 1}}}}]}}"#
    );
    parse_rule(&format!("rule_{n}"), "bench", &text).map_err(|e| format!("{e:?}").into())
}

fn engine() -> Result<(), Failed> {
    let few = Engine::new("000000000000", None);
    few.replace(vec![rule(500)?]);
    let many = Engine::new("000000000000", None);
    many.replace((0..1_000).map(rule).collect::<Result<_, _>>()?);
    let payload = Bytes::from_static(PAYLOAD.as_bytes());
    let topic = Topic::new("plant/500/x")?;
    let mut message = Message::internal("bench", topic, payload, QoS::AtMostOnce);
    message.source = Source::Mqtt;
    let evaluate = |engine: &Engine| {
        let mut out = RuleOutput::default();
        engine.evaluate(black_box(&message), &NOW, &mut out);
        assert_eq!(out.published.len(), 1);
        drop(black_box(out));
    };
    let (one, thousand) = turns(|| evaluate(&few), || evaluate(&many));
    println!(
        "a message that matches one rule: of 1 rule {one:.0} ns, of 1,000 rules {thousand:.0} ns, ratio {:.2}",
        thousand / one
    );
    Ok(())
}

/// Bytes that the process holds (proc(5), `/proc/self/statm`).
fn resident() -> Result<u64, Failed> {
    let text = std::fs::read_to_string("/proc/self/statm")?;
    let pages: u64 = text.split(' ').nth(1).ok_or("statm")?.parse()?;
    Ok(pages * 4096)
}

fn memory(rules: usize) -> Result<(), Failed> {
    // What the first of everything costs is not a rule's.
    let engine = Engine::new("000000000000", None);
    engine.replace(vec![rule(0)?]);
    let before = resident()?;
    engine.replace((0..rules).map(rule).collect::<Result<_, _>>()?);
    let after = resident()?;
    println!(
        "an idle rule: {:.1} KB ({rules} rules)",
        after.saturating_sub(before) as f64 / rules as f64 / 1024.0
    );
    drop(black_box(engine));
    Ok(())
}
