//! What an error action gets to see (today's guide, "Error handling (error action)").

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use iotedge_model::Message;
use serde_json::json;

/// One action that failed, or the statement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure {
    /// `RepublishAction`, …, or `SQL`.
    pub(crate) action: &'static str,
    /// What it was about: the topic, the file, the URL.
    pub(crate) resource: String,
    /// Why.
    pub(crate) message: String,
}

/// The error action's payload.
pub(crate) fn document(
    rule: &str,
    message: &Message,
    payload: &Bytes,
    failures: &[Failure],
) -> Bytes {
    let failures: Vec<_> = failures
        .iter()
        .map(|f| {
            json!({
                "failedAction": f.action,
                "failedResource": f.resource,
                "errorMessage": f.message,
            })
        })
        .collect();
    let document = json!({
        "ruleName": rule,
        "topic": message.topic.as_str(),
        "cloudwatchTraceId": message.trace.to_string(),
        "clientId": &*message.client_id,
        "base64OriginalPayload": STANDARD.encode(payload),
        "failures": failures,
    });
    Bytes::from(document.to_string())
}

/// `failedAction` of an action's name in a rule's document, and the events of its success and
/// failure (2016 guide, "Rules Engine Events", for the actions that it has).
pub(crate) fn names(action: &str) -> (&'static str, &'static str, &'static str) {
    match action {
        "republish" => (
            "RepublishAction",
            "RepublishActionSuccess",
            "RepublishActionFailure",
        ),
        "upstream" => (
            "UpstreamAction",
            "UpstreamActionSuccess",
            "UpstreamActionFailure",
        ),
        "sqlite" => ("SqliteAction", "SqliteActionSuccess", "SqliteActionFailure"),
        "file" => ("FileAction", "FileActionSuccess", "FileActionFailure"),
        "http" => ("HttpAction", "HttpActionSuccess", "HttpActionFailure"),
        "exec" => ("ExecAction", "ExecActionSuccess", "ExecActionFailure"),
        "lambda" => ("LambdaAction", "LambdaActionSuccess", "LambdaActionFailure"),
        _ => ("SQL", "RuleSuccess", "RuleExecutionFailure"),
    }
}
