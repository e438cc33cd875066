//! A cloud with AWS IoT's rules.

use std::collections::BTreeMap;

use iotedge_model::Now;
use iotedge_shadow::core::sync::Replica;
use iotedge_shadow::core::{self, Limits, Stored};
use serde_json::{Value, json};

type Messages = Vec<(String, Vec<u8>)>;

#[derive(Default)]
pub struct Cloud {
    shadows: BTreeMap<String, Stored<'static>>,
}

fn prefix(shadow: &str) -> String {
    match shadow.split_once('/') {
        Some((thing, name)) => format!("$aws/things/{thing}/shadow/name/{name}"),
        None => format!("$aws/things/{shadow}/shadow"),
    }
}

impl Cloud {
    /// Another cloud stands in its place.
    pub fn wipe(&mut self) {
        self.shadows.clear();
    }

    pub fn replica(&self, shadow: &str) -> Replica {
        let stored = self.shadows.get(shadow);
        stored.map_or(Replica::Gone, Stored::replica)
    }

    /// It is too busy.
    pub fn fail(topic: &str, payload: &[u8], code: u16) -> Messages {
        let request: Value = serde_json::from_slice(payload).unwrap();
        let answer = json!({"code": code, "message": "", "clientToken": request["clientToken"]});
        vec![(format!("{topic}/rejected"), answer.to_string().into_bytes())]
    }

    /// A request, and all that is said about it.
    pub fn ask(&mut self, shadow: &str, operation: &str, payload: &[u8], now: &Now) -> Messages {
        let limits = Limits::default();
        let stored = self.shadows.get(shadow).cloned();
        let stored = stored.as_ref();
        let mut said: Vec<(&str, String)> = Vec::new();
        let outcome = match operation {
            "get" => core::get(stored, payload, shadow, now, &limits).map(|document| {
                said.push(("get/accepted", document));
                None
            }),
            "update" => core::update(stored, payload, now, &limits).map(|updated| {
                said.push(("update/accepted", updated.accepted));
                said.extend(updated.delta.map(|delta| ("update/delta", delta)));
                said.push(("update/documents", updated.documents));
                Some(Stored::Live(updated.document).into_owned())
            }),
            _ => core::delete(stored, payload, shadow, now, &limits).map(|deleted| {
                said.push(("delete/accepted", deleted.accepted));
                Some(Stored::Deleted(deleted.tombstone).into_owned())
            }),
        };
        let refused = format!("{operation}/rejected");
        match outcome {
            Ok(None) => {}
            Ok(Some(stored)) => {
                self.shadows.insert(shadow.to_owned(), stored);
            }
            Err(rejection) => said.push((&refused, rejection.to_json(now).to_string())),
        }
        let prefix = prefix(shadow);
        said.into_iter()
            .map(|(suffix, payload)| (format!("{prefix}/{suffix}"), payload.into_bytes()))
            .collect()
    }
}
