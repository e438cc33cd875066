//! The facts of the guides, as `tests/vectors/policy.json` lists them.
#![allow(clippy::unwrap_used)] // a test that panics has failed

use iotedge_model::ArnScope;
use iotedge_policy::{Case, CaseOutcome};
use serde_json::value::RawValue;

fn scope() -> ArnScope {
    ArnScope {
        region: "us-east-1".into(),
        account_id: "123456789012".into(),
    }
}

#[derive(serde::Deserialize)]
struct Expected {
    id: String,
    expect: String,
}

#[test]
fn every_vector_of_the_guides_holds() {
    let vectors: Vec<Box<RawValue>> =
        serde_json::from_str(include_str!("vectors/policy.json")).unwrap();
    let mut failed = Vec::new();
    for raw in &vectors {
        let Expected { id, expect } = serde_json::from_str(raw.get()).unwrap();
        let case = Case::parse(raw.get()).unwrap_or_else(|e| panic!("{id}: {e}"));
        let (got, why) = match case.run(&scope()) {
            Ok(CaseOutcome::Allow(why)) => ("allow", why),
            Ok(CaseOutcome::Deny(why)) => ("deny", why),
            Ok(CaseOutcome::Invalid(_, e)) => ("invalid", e.to_string()),
            Err(e) => ("error", e.to_string()),
        };
        if got != expect {
            failed.push(format!("{id}: expected {expect}, got {got}\n{why}"));
        }
    }
    assert!(vectors.len() > 200);
    assert!(
        failed.is_empty(),
        "{} failed:\n{}",
        failed.len(),
        failed.join("\n")
    );
}
