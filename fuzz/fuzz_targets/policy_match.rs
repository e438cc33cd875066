//! ARN patterns and what is held against them: any pattern in a Resource and in conditions, any
//! resource, client id and value. Nothing panics, the same question has the same answer, an
//! explanation says what was decided, and no decision takes long (libFuzzer's -timeout).
#![no_main]

use iotedge_model::{Action, ArnScope};
use iotedge_policy::{CertificateNames, Context, PolicyDocument, Request, Thing, evaluate, explain};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (&str, &str, &str, &str, bool)| {
    let (pattern, resource, client_id, value, deny) = input;
    let effect = if deny { "Deny" } else { "Allow" };
    let arn = format!("arn:aws:iot:{pattern}");
    let texts = [
        serde_json::json!({"Effect": effect, "Action": "iot:*", "Resource": arn}),
        serde_json::json!({"Effect": effect, "Action": "*", "NotResource": [arn, pattern]}),
        serde_json::json!({"Effect": effect, "Action": "*", "Resource": "*", "Condition": {
            "ArnLike": {"iot:LastWillTopic": arn},
            "StringLikeIfExists": {"iot:Certificate.Subject.CommonName": pattern},
            "ForAnyValue:StringNotLike": {"iot:Certificate.Subject.CommonName.List": pattern}}}),
    ];
    let scope = ArnScope {
        region: "local".into(),
        account_id: "000000000000".into(),
    };
    let mut names = CertificateNames::default();
    names.push("Subject.CommonName", value);
    names.push("Subject.CommonName", client_id);
    let attributes = [("a".to_owned(), value.to_owned())];
    for text in texts {
        let whole = serde_json::json!({"Version": "2012-10-17", "Statement": text}).to_string();
        let Ok(document) = PolicyDocument::parse(&whole) else {
            continue;
        };
        for action in [Action::Connect, Action::Publish, Action::Subscribe] {
            let request = Request {
                action,
                resource,
                context: Context {
                    certificate: Some(&names),
                    thing: Some(Thing {
                        name: client_id,
                        thing_type: Some(value),
                        attributes: &attributes,
                        attached: true,
                    }),
                    ..Context::new(&scope, client_id)
                },
            };
            let verdict = evaluate(&[&document], &request);
            assert_eq!(verdict, evaluate(&[&document], &request));
            let why = explain("p", &[("n", &document)], &request);
            let said = why.lines().last().unwrap_or_default();
            assert_eq!(said.starts_with("verdict    allow"), verdict.is_allow(), "{why}");
        }
        let _ = iotedge_policy::lint_for(&document, Some(&scope));
    }
});
