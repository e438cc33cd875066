//! Policy documents: no text panics, and a document that parses can be asked and explained.
#![no_main]

use iotedge_model::{Action, ArnScope};
use iotedge_policy::{Context, PolicyDocument, Request, evaluate, explain, lint};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let Ok(document) = PolicyDocument::parse(text) else {
        return;
    };
    let scope = ArnScope {
        region: "local".into(),
        account_id: "000000000000".into(),
    };
    for action in Action::ALL {
        let request = Request {
            action,
            resource: "a/b",
            context: Context::new(&scope, "client"),
        };
        let _ = evaluate(&[&document], &request);
        let _ = explain("principal", &[("policy", &document)], &request);
    }
    let _ = lint(&document);
});
