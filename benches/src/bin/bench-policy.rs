//! What a policy decision costs: ten policies of twenty statements, as many as a principal may have,
//! and one document with as many wildcards as fit into it. `make bench-policy` runs it; with
//! `--match` it decides one request over and over, for `valgrind --tool=callgrind`.

#![forbid(unsafe_code)]

use std::hint::black_box;
use std::time::Instant;

use clap::Parser;
use iotedge_model::{Action, ArnScope};
use iotedge_policy::{Context, PolicyDocument, Request, evaluate};

#[derive(Parser)]
struct Options {
    /// Decisions of each kind
    #[arg(long, default_value_t = 1_000_000)]
    rounds: u32,
    /// Instead: a pattern with so many wildcards against a topic of --topic bytes
    #[arg(long, value_name = "WILDCARDS", requires = "topic")]
    r#match: Option<usize>,
    /// Bytes of the topic
    #[arg(long)]
    topic: Option<usize>,
}

type Failure = Box<dyn std::error::Error>;

fn main() -> Result<(), Failure> {
    let options = Options::parse();
    let scope = ArnScope {
        region: "local".into(),
        account_id: "000000000000".into(),
    };
    match (options.r#match, options.topic) {
        (Some(wildcards), Some(topic)) => one_match(&scope, wildcards, topic, options.rounds),
        _ => decisions(&scope, options.rounds),
    }
}

fn document(statements: &[(String, String)]) -> Result<PolicyDocument, Failure> {
    let statements: Vec<_> = statements
        .iter()
        .map(|(action, resource)| {
            serde_json::json!({"Effect": "Allow", "Action": action, "Resource": resource})
        })
        .collect();
    let text = serde_json::json!({"Version": "2012-10-17", "Statement": statements});
    Ok(PolicyDocument::parse(&text.to_string())?)
}

/// Ten documents of twenty statements with such resources.
fn ten(resource: impl Fn(usize, usize) -> String) -> Result<Vec<PolicyDocument>, Failure> {
    (0..10)
        .map(|p| {
            let statements: Vec<_> = (0..20)
                .map(|s| ("iot:*".to_owned(), resource(p, s)))
                .collect();
            document(&statements)
        })
        .collect()
}

fn decisions(scope: &ArnScope, rounds: u32) -> Result<(), Failure> {
    let plain = ten(|p, s| format!("arn:aws:iot:*:*:topic/p{p}/s{s}/*"))?;
    let variables = ten(|p, s| format!("arn:aws:iot:*:*:topic/${{iot:ClientId}}/{p}/{s}/*"))?;
    let wildcards = ten(|p, s| format!("arn:aws:iot:*:*:topic/*p{p}*s{s}?"))?;
    let stars = ten(|p, s| format!("arn:aws:iot:*:*:topic/*a*{p}*{s}*z"))?;
    let open = vec![document(&[("iot:*".into(), "*".into())])?];
    let cases = [
        ("allow all", &open, "p9/s19/temperature", true),
        (
            "the last of 200 statements",
            &plain,
            "p9/s19/temperature",
            true,
        ),
        (
            "none of 200 statements",
            &plain,
            "p9/s20/temperature",
            false,
        ),
        (
            "the last of 200, with a variable",
            &variables,
            "client1/9/19/x",
            true,
        ),
        (
            "none of 200 with two stars and a ?",
            &wildcards,
            "site/of/no/policy/at/all",
            false,
        ),
        (
            "none of 200, of which all look near",
            &stars,
            "a/0/1/2/3/4/5/6/7/8/9/10/11/12/13/14/15/16/17/18/19",
            false,
        ),
    ];
    for (name, documents, topic, allowed) in cases {
        let documents: Vec<&PolicyDocument> = documents.iter().collect();
        let request = Request {
            action: Action::Publish,
            resource: topic,
            context: Context::new(scope, "client1"),
        };
        if evaluate(&documents, &request).is_allow() != allowed {
            return Err(format!("{name}: the wrong answer").into());
        }
        let begin = Instant::now();
        for _ in 0..rounds {
            black_box(evaluate(black_box(&documents), black_box(&request)));
        }
        println!(
            "{name:36} {:>9.3} µs",
            begin.elapsed().as_secs_f64() * 1e6 / f64::from(rounds)
        );
    }
    Ok(())
}

fn one_match(scope: &ArnScope, wildcards: usize, topic: usize, rounds: u32) -> Result<(), Failure> {
    let pattern = "a*".repeat(wildcards);
    let document = document(&[(
        "iot:Publish".into(),
        format!("arn:aws:iot:*:*:topic/{pattern}b"),
    )])?;
    let topic = "a".repeat(topic);
    let request = Request {
        action: Action::Publish,
        resource: &topic,
        context: Context::new(scope, "client1"),
    };
    for _ in 0..rounds {
        if evaluate(black_box(&[&document]), black_box(&request)).is_allow() {
            return Err("it matched".into());
        }
    }
    Ok(())
}
